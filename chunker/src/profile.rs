//! How large chunks may be: the presets, and checked sizes of one's own.
//!
//! It does not decide which profile fits which input; sources do.

use thiserror::Error;

/// Smallest `min` of a content-defined profile: the rolling hash sees 48 bytes, and `fastcdc`
/// asks for 64.
const MIN_SIZE: usize = fastcdc::v2020::MINIMUM_MIN;
/// Smallest `avg` of a content-defined profile, from `fastcdc`.
const MIN_AVG: usize = fastcdc::v2020::AVERAGE_MIN;
/// Largest `avg` of a content-defined profile: `fastcdc` has no masks for more.
const MAX_AVG: usize = fastcdc::v2020::AVERAGE_MAX;
/// Smallest fixed size: the smallest page of the databases we know (SQLite).
const MIN_FIXED: usize = 512;
/// Largest `max` of any profile. A stream buffers twice as much.
const MAX_SIZE: usize = fastcdc::v2020::MAXIMUM_MAX;

const KIB: usize = 1024;

/// How files begin that hold pages at fixed places.
const PAGED: [&[u8]; 7] = [
    b"SQLite format 3\0",
    // Microsoft Tape Format: a backup of SQL Server.
    b"TAPE\0\0",
    b"QFI\xfb",
    b"KDMV",
    b"vhdxfile",
    b"conectix",
    b"<<< Oracle VM VirtualBox Disk Image >>>",
];

/// Chunk sizes in bytes: either content-defined (`min`, `avg`, `max`) or fixed.
///
/// Part of a repository's format: chunks cut with different profiles seldom match.
///
/// | preset | for | sizes |
/// |---|---|---|
/// | [`DUMP`](Self::DUMP) | SQL dumps, COPY streams, NDJSON | 16 / 64 / 256 KiB |
/// | [`FILES`](Self::FILES) | everything else | 32 / 128 / 512 KiB |
/// | [`PAGES`](Self::PAGES) | SQLite, `.bak`, disk images | 64 KiB, aligned |
///
/// Invariants: `min`, `avg` and `max` are even; `min < avg < max`, or all three are the one fixed
/// size; `avg` is a power of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Profile {
    min: usize,
    avg: usize,
    max: usize,
}

impl Profile {
    /// For text whose rows move: SQL dumps, COPY streams, NDJSON. 16 / 64 / 256 KiB.
    pub const DUMP: Profile = Profile {
        min: 16 * KIB,
        avg: 64 * KIB,
        max: 256 * KIB,
    };

    /// For everything else. 32 / 128 / 512 KiB.
    pub const FILES: Profile = Profile {
        min: 32 * KIB,
        avg: 128 * KIB,
        max: 512 * KIB,
    };

    /// For data that changes in place: database files and disk images. Fixed 64 KiB.
    ///
    /// Cuts fall on multiples of 64 KiB from the start of the input, so a chunk holds whole pages
    /// of any power-of-two page size up to 64 KiB. An insertion shifts everything behind it.
    pub const PAGES: Profile = Profile {
        min: 64 * KIB,
        avg: 64 * KIB,
        max: 64 * KIB,
    };

    /// The profile of an input that says by its first bytes that it changes in place: a database
    /// file or a disk image in one of the common forms.
    pub fn of_beginning(beginning: &[u8]) -> Option<Profile> {
        let known = PAGED.iter().any(|magic| beginning.starts_with(magic));
        known.then_some(Profile::PAGES)
    }

    /// A content-defined profile of one's own.
    ///
    /// # Errors
    ///
    /// - [`ProfileError::Odd`] if `min` or `max` is odd: the cut looks at pairs of bytes.
    /// - [`ProfileError::Average`] if `avg` is no power of two from 256 bytes to 4 MiB: masks
    ///   exist for powers of two only.
    /// - [`ProfileError::Order`] unless 64 ≤ `min` < `avg` < `max` ≤ 16 MiB.
    pub const fn content_defined(
        min: usize,
        avg: usize,
        max: usize,
    ) -> Result<Profile, ProfileError> {
        if !min.is_multiple_of(2) || !max.is_multiple_of(2) {
            return Err(ProfileError::Odd { min, max });
        }
        if !avg.is_power_of_two() || avg < MIN_AVG || avg > MAX_AVG {
            return Err(ProfileError::Average { avg });
        }
        if min < MIN_SIZE || min >= avg || avg >= max || max > MAX_SIZE {
            return Err(ProfileError::Order { min, avg, max });
        }
        Ok(Profile { min, avg, max })
    }

    /// A profile that cuts at every multiple of `size`.
    ///
    /// # Errors
    ///
    /// [`ProfileError::Fixed`] if `size` is no power of two from 512 bytes to 16 MiB: others
    /// would cut pages in two.
    pub const fn fixed(size: usize) -> Result<Profile, ProfileError> {
        if !size.is_power_of_two() || size < MIN_FIXED || size > MAX_SIZE {
            return Err(ProfileError::Fixed { size });
        }
        Ok(Profile {
            min: size,
            avg: size,
            max: size,
        })
    }

    /// No chunk but the last of an input is smaller, in bytes.
    pub const fn min_size(&self) -> usize {
        self.min
    }

    /// The size that chunks gather around, in bytes. The true mean depends on the data; on random
    /// data it is about 1.13 times this for the content-defined presets.
    pub const fn avg_size(&self) -> usize {
        self.avg
    }

    /// No chunk is larger, in bytes.
    pub const fn max_size(&self) -> usize {
        self.max
    }

    /// Whether cuts ignore the content.
    pub const fn is_fixed(&self) -> bool {
        self.min == self.max
    }
}

/// Sizes that make no profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// `min` or `max` is odd.
    #[error("chunk sizes must be even: min {min}, max {max}")]
    Odd {
        /// The smallest size asked for, in bytes.
        min: usize,
        /// The largest size asked for, in bytes.
        max: usize,
    },
    /// `avg` is no power of two, or out of range.
    #[error("average chunk size must be a power of two from {MIN_AVG} to {MAX_AVG}: {avg}")]
    Average {
        /// The average size asked for, in bytes.
        avg: usize,
    },
    /// The sizes do not rise, or leave their range.
    #[error(
        "chunk sizes must satisfy {MIN_SIZE} ≤ min < avg < max ≤ {MAX_SIZE}: {min}/{avg}/{max}"
    )]
    Order {
        /// The smallest size asked for, in bytes.
        min: usize,
        /// The average size asked for, in bytes.
        avg: usize,
        /// The largest size asked for, in bytes.
        max: usize,
    },
    /// A fixed size that is no power of two, or out of range.
    #[error("fixed chunk size must be a power of two from {MIN_FIXED} to {MAX_SIZE}: {size}")]
    Fixed {
        /// The size asked for, in bytes.
        size: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_obey_the_rules_for_custom_sizes() {
        for preset in [Profile::DUMP, Profile::FILES] {
            let Profile { min, avg, max } = preset;
            assert_eq!(Profile::content_defined(min, avg, max), Ok(preset));
            assert!(!preset.is_fixed());
        }
        assert_eq!(Profile::fixed(65_536), Ok(Profile::PAGES));
        assert!(Profile::PAGES.is_fixed());
        let told = |beginning: &[u8]| Profile::of_beginning(beginning);
        assert_eq!(told(b"SQLite format 3\0\x10\0"), Some(Profile::PAGES));
        assert_eq!(told(b"SQLite format 3"), None);
        assert_eq!(told(b""), None);
    }

    #[test]
    fn the_limits_themselves_are_allowed() {
        assert!(Profile::content_defined(64, 256, 258).is_ok());
        assert!(Profile::content_defined(1 << 21, 4 << 20, 16 << 20).is_ok());
        assert!(Profile::fixed(512).is_ok());
        assert!(Profile::fixed(16 << 20).is_ok());
    }

    #[test]
    fn bad_sizes_are_errors() {
        use ProfileError::{Average, Fixed, Odd, Order};
        let custom = Profile::content_defined;
        assert_eq!(custom(65, 256, 1024), Err(Odd { min: 65, max: 1024 }));
        assert_eq!(custom(64, 256, 1025), Err(Odd { min: 64, max: 1025 }));
        for avg in [0, 128, 255, 300, 8 << 20] {
            assert_eq!(custom(64, avg, 16 << 20), Err(Average { avg }));
        }
        let disordered = [
            (62, 256, 1024),
            (256, 256, 1024),
            (64, 256, 256),
            (0, 256, 1024),
        ];
        for (min, avg, max) in [&disordered[..], &[(64, 256, (16 << 20) + 2)]].concat() {
            assert_eq!(custom(min, avg, max), Err(Order { min, avg, max }));
        }
        for size in [0, 1, 256, 513, 65_535, 32 << 20] {
            assert_eq!(Profile::fixed(size), Err(Fixed { size }));
        }
    }
}

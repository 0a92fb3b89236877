//! Where the next chunk ends, for bytes already in memory.
//!
//! It keeps no state between cuts and copies no data; [`ChunkStream`](crate::ChunkStream) holds
//! the buffer for data that arrives in pieces.

use crate::{GearTable, Profile};
use fastcdc::v2020::{Normalization, cut_gear, select_masks};
use std::sync::Arc;

/// How strongly sizes gather around the average. Level 2 is the choice of the FastCDC papers.
/// Part of the format: a change moves every cut.
const NORMALIZATION: Normalization = Normalization::Level2;

/// Finds cut points: a gear table and a profile.
///
/// The same key, profile and bytes give the same cuts, on every machine and in every version.
/// Cheap to clone; threads may share one.
#[derive(Clone, Debug)]
pub struct Cutter {
    table: Arc<GearTable>,
    profile: Profile,
    /// `None` in a fixed profile, whose size may be one that has no masks.
    masks: Option<Masks>,
}

/// A cut needs zeros in the hash under these bits.
#[derive(Clone, Copy, Debug)]
struct Masks {
    /// Before the average size: more bits, rarer cuts.
    strict: u64,
    /// After the average size: fewer bits.
    loose: u64,
}

impl Cutter {
    /// A cutter for one profile. A fixed profile leaves `table` unused.
    pub fn new(table: Arc<GearTable>, profile: Profile) -> Cutter {
        let masks = (!profile.is_fixed()).then(|| {
            let (strict, loose) = select_masks(profile.avg_size(), NORMALIZATION);
            Masks { strict, loose }
        });
        Cutter {
            table,
            profile,
            masks,
        }
    }

    /// The same table under another profile.
    pub fn with_profile(&self, profile: Profile) -> Cutter {
        Cutter::new(Arc::clone(&self.table), profile)
    }

    /// The profile it cuts by.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// The length of the chunk at the start of `data`, in bytes.
    ///
    /// `end` says that the input ends with `data`. `None` means that there are too few bytes to
    /// decide: fewer than [`Profile::max_size`] and not at the end, or none at all. Bytes past
    /// the maximum never matter, so the answer does not depend on how much is buffered.
    ///
    /// `data` must start where the last chunk ended, or at the start of the input; that is what
    /// keeps fixed chunks aligned. A chunk is shorter than [`Profile::min_size`] only if it is the
    /// last.
    pub fn cut(&self, data: &[u8], end: bool) -> Option<usize> {
        let max = self.profile.max_size();
        match data.get(..max) {
            Some(window) => Some(self.cut_window(window)),
            None if end && !data.is_empty() => Some(self.cut_window(data)),
            None => None,
        }
    }

    /// All chunks of `data`, which is a whole input, in order and without a copy.
    pub fn chunks<'a>(&'a self, data: &'a [u8]) -> Chunks<'a> {
        Chunks {
            cutter: self,
            rest: data,
        }
    }

    /// Cuts a window that is not empty and that no chunk can outgrow.
    fn cut_window(&self, window: &[u8]) -> usize {
        let Some(Masks { strict, loose }) = self.masks else {
            return window.len();
        };
        let (_hash, length) = cut_gear(
            window,
            self.profile.min_size(),
            self.profile.avg_size(),
            self.profile.max_size(),
            strict,
            loose,
            strict << 1,
            loose << 1,
            self.table.plain(),
            self.table.shifted(),
        );
        length
    }
}

/// The chunks of a slice, from [`Cutter::chunks`]. Together they are the slice.
#[derive(Clone, Debug)]
pub struct Chunks<'a> {
    cutter: &'a Cutter,
    rest: &'a [u8],
}

impl<'a> Iterator for Chunks<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let length = self.cutter.cut(self.rest, true)?;
        let (chunk, rest) = self.rest.split_at(length);
        self.rest = rest;
        Some(chunk)
    }
}

impl std::iter::FusedIterator for Chunks<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    /// FastCDC as the papers write it, one byte a step: what the two-byte code must equal.
    fn cut_by_the_book(cutter: &Cutter, data: &[u8]) -> usize {
        let Masks { strict, loose } = cutter.masks.unwrap();
        let (min, avg) = (cutter.profile.min_size(), cutter.profile.avg_size());
        let length = data.len().min(cutter.profile.max_size());
        let mut hash = 0_u64;
        // Pairs only: the odd last byte of an input is never tried as a cut.
        for (index, byte) in data.iter().enumerate().take(length / 2 * 2).skip(min) {
            let mask = if index < avg { strict } else { loose };
            hash = (hash << 1).wrapping_add(cutter.table.plain()[usize::from(*byte)]);
            if hash & mask == 0 {
                return index;
            }
        }
        length
    }

    fn random(seed: u8, length: usize) -> Vec<u8> {
        let mut data = vec![0; length];
        blake3::Hasher::new()
            .update(&[seed])
            .finalize_xof()
            .fill(&mut data);
        data
    }

    fn tiny(key: u8) -> Cutter {
        let profile = Profile::content_defined(64, 256, 1024).unwrap();
        Cutter::new(Arc::new(GearTable::derive(&[key; 32])), profile)
    }

    #[test]
    fn two_bytes_a_step_cut_like_one() {
        for seed in 0..8 {
            let (cutter, data) = (tiny(seed), random(seed, 200_000));
            let mut rest = &data[..];
            while !rest.is_empty() {
                let length = cutter.cut(rest, true).unwrap();
                assert_eq!(length, cut_by_the_book(&cutter, rest));
                // Inputs that end anywhere near this cut, odd and even.
                for end in length.saturating_sub(3)..(length + 3).min(rest.len()) {
                    let short = &rest[..end];
                    if !short.is_empty() {
                        let cut = cutter.cut(short, true).unwrap();
                        assert_eq!(cut, cut_by_the_book(&cutter, short), "{end}");
                    }
                }
                rest = &rest[length..];
            }
        }
    }

    #[test]
    fn waits_for_max_bytes_unless_at_the_end() {
        let (cutter, data) = (tiny(1), random(1, 2048));
        let max = cutter.profile().max_size();
        assert_eq!(cutter.cut(&[], false), None);
        assert_eq!(cutter.cut(&[], true), None);
        assert_eq!(cutter.cut(&data[..max - 1], false), None);
        let length = cutter.cut(&data[..max], false);
        assert!(
            length.is_some_and(|length| length < max),
            "choose a seed that cuts earlier"
        );
        assert_eq!(cutter.cut(&data, false), length);
        assert_eq!(cutter.cut(&data, true), length);
        assert_eq!(cutter.cut(&data[..max - 1], true), length);
    }

    /// `fastcdc` has masks for averages up to 4 MiB only and panics beyond 8 MiB.
    #[test]
    fn extreme_profiles_make_a_cutter() {
        let table = Arc::new(GearTable::derive(&[1; 32]));
        let widest = Profile::content_defined(64, 4 << 20, 16 << 20);
        let narrowest = Profile::content_defined(64, 256, 258);
        for profile in [
            widest,
            narrowest,
            Profile::fixed(512),
            Profile::fixed(16 << 20),
        ] {
            let cutter = Cutter::new(table.clone(), profile.unwrap());
            assert_eq!(cutter.cut(&[0; 7], true), Some(7));
        }
    }

    #[test]
    fn fixed_profile_cuts_at_multiples() {
        let table = Arc::new(GearTable::derive(&[1; 32]));
        let cutter = Cutter::new(table, Profile::fixed(512).unwrap());
        assert_eq!(cutter.cut(&[0; 511], false), None);
        assert_eq!(cutter.cut(&[0; 511], true), Some(511));
        assert_eq!(cutter.cut(&[0; 512], false), Some(512));
        assert_eq!(cutter.cut(&[0; 2000], true), Some(512));
    }
}

//! Names of things: random identifiers and content hashes, as `Copy` newtypes from one macro.
//!
//! Does not generate them (see `crypto::random`) and does not resolve what a user typed
//! (see [`crate::snapshots`]).

use std::fmt;

/// A text that is no identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not {1} lower-case hex digits")]
pub struct BadId(pub String, pub usize);

/// Writes bytes as lower-case hex, cut to the formatter's precision where one is given.
pub(crate) fn write_hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let digits = f.precision().unwrap_or(bytes.len() * 2);
    for (i, byte) in bytes.iter().enumerate() {
        match digits.saturating_sub(i * 2) {
            0 => break,
            1 => write!(f, "{:x}", byte >> 4)?,
            _ => write!(f, "{byte:02x}")?,
        }
    }
    Ok(())
}

/// Reads exactly `N` bytes of lower-case hex.
pub(crate) fn parse_hex<const N: usize>(text: &str) -> Result<[u8; N], BadId> {
    let bad = || BadId(text.chars().take(80).collect(), N * 2);
    if text.len() != N * 2 {
        return Err(bad());
    }
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    let mut out = [0u8; N];
    for (byte, pair) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let [high, low] = pair else { return Err(bad()) };
        *byte = digit(*high)
            .zip(digit(*low))
            .map(|(h, l)| h << 4 | l)
            .ok_or_else(bad)?;
    }
    Ok(out)
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident, $len:expr;)*) => {$(
        $(#[$doc])*
        ///
        /// `Display` is lower-case hex in full; `{:.8}` is the short form.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// The raw bytes.
            pub fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:.8})"), self)
            }
        }

        impl std::str::FromStr for $name {
            type Err = BadId;

            fn from_str(text: &str) -> Result<Self, BadId> {
                parse_hex::<$len>(text).map($name)
            }
        }
    )*};
}

ids! {
    /// Keyed BLAKE3 of a chunk's plain bytes; pages use a key of their own.
    ChunkId, 32;
    /// The first half of a chunk's id, by which a delta names its base.
    BaseRef, 16;
    /// BLAKE3 of a pack's stored bytes.
    PackId, 32;
    /// BLAKE3 of a segment's stored bytes.
    SegmentId, 32;
    /// A fresh random name: of a session, the snapshot it commits, a gc list, a note, a pack.
    Uuid, 16;
    /// What people see of a snapshot; a field of its manifest, kept by a fenced writer's second
    /// run under another name.
    SnapshotId, 16;
    /// Identifies a repository; part of what manifests, sessions, lists and notes are sealed with.
    RepositoryId, 16;
    /// Identifies a root secret; repositories that share keys share it.
    KeyDomain, 16;
    /// Names a key slot; derived from the key that opens it.
    SlotId, 16;
    /// Names a data key.
    DataKeyId, 4;
}

impl ChunkId {
    /// The short form by which a delta names this chunk as a base.
    pub fn as_base(&self) -> BaseRef {
        let mut half = [0u8; 16];
        half.copy_from_slice(&self.0[..16]);
        BaseRef(half)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_there_and_back() {
        let id = Uuid([0xab; 16]);
        assert_eq!(id.to_string(), "ab".repeat(16));
        assert_eq!(format!("{id:.5}"), "ababa");
        assert_eq!(id.to_string().parse::<Uuid>().unwrap(), id);
        assert!("AB".repeat(16).parse::<Uuid>().is_err());
        assert!("ab".parse::<Uuid>().is_err());
        assert!("ää".repeat(8).parse::<Uuid>().is_err());
    }
}

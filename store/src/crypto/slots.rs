//! From a password or a key file to the key that opens a slot.

use argon2::{Algorithm, Argon2, Params, Version};
use zeroize::Zeroizing;

use super::{paper, random};
use crate::id::{SlotId, parse_hex};

/// Cost of turning a password into a key: one salt and cost for all passwords of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PasswordCost {
    pub salt: [u8; 16],
    /// Memory in KiB.
    pub memory: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

/// Least memory that a repository may ask for in KiB. With it, [`PASSES`] and [`LANES`] are the
/// second recommended option of RFC 9106, section 4.
const MIN_MEMORY: u32 = 64 * 1024;
const PASSES: u32 = 3;
/// Computed side by side where there are so many cores; each lane has its part of the memory.
const LANES: u32 = 4;
/// Most memory that a repository may ask for in KiB: a forged config must not exhaust the machine.
const MAX_MEMORY: u32 = 4 * 1024 * 1024;
const MAX_PASSES: u32 = 100;
const MAX_LANES: u32 = 64;

impl PasswordCost {
    /// A fresh salt at the standard cost.
    pub fn fresh() -> PasswordCost {
        PasswordCost {
            salt: random(),
            memory: MIN_MEMORY,
            passes: PASSES,
            lanes: LANES,
        }
    }

    /// Whether the numbers are within what this program accepts.
    pub fn is_sound(&self) -> bool {
        (MIN_MEMORY..=MAX_MEMORY).contains(&self.memory)
            && (1..=MAX_PASSES).contains(&self.passes)
            && (1..=MAX_LANES).contains(&self.lanes)
    }
}

/// The key that wraps the root secret in a slot.
#[derive(Clone)]
pub(crate) struct KeyEncryptionKey(pub Zeroizing<[u8; 32]>);

impl KeyEncryptionKey {
    /// The name of the slot that this key opens in a repository with this salt: two repositories
    /// that are made at once, and one that is left half made, have other names for the same key.
    pub fn slot(&self, salt: &[u8; 16]) -> SlotId {
        let key = Zeroizing::new(blake3::derive_key("hucha 1 slot id", &*self.0));
        let full = blake3::keyed_hash(&key, salt);
        let mut id = [0u8; 16];
        id.copy_from_slice(full.as_bytes().split_at(16).0);
        SlotId(id)
    }
}

/// Argon2id over a password (RFC 9106); `None` when the cost is out of bounds.
pub(crate) fn derive_password_key(
    password: &[u8],
    cost: &PasswordCost,
) -> Option<KeyEncryptionKey> {
    if !cost.is_sound() {
        return None;
    }
    let params = Params::new(cost.memory, cost.passes, cost.lanes, Some(32)).ok()?;
    let mut key = Zeroizing::new([0u8; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(password, &cost.salt, &mut *key)
        .ok()?;
    Some(KeyEncryptionKey(key))
}

const KEY_FILE_PREFIX: &str = "hucha-key-1 ";
/// The first line of a key that may be typed from paper.
const PAPER_PREFIX: &str = "hucha-key-2";

/// A file that opens a slot without a password: 32 random bytes as text.
#[derive(Clone)]
pub struct KeyFile(pub(crate) Zeroizing<[u8; 32]>);

impl std::fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyFile(…)")
    }
}

/// The text is no key file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// It does not begin as one.
    #[error("not a hucha key file: it must begin with \"hucha-key-1\" or \"hucha-key-2\"")]
    Other,
    /// A line was mistyped, or is missing or too many.
    #[error("line {0} of the key is mistyped")]
    Mistyped(u8),
}

impl KeyFile {
    /// A new random key.
    pub fn generate() -> KeyFile {
        KeyFile(Zeroizing::new(random()))
    }

    /// Reads a key file's text, in either form; lines that begin with `#` are comment.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn parse(text: &str) -> Result<KeyFile, KeyFileError> {
        let mut kept = Zeroizing::new(String::with_capacity(text.len()));
        for line in text
            .lines()
            .filter(|line| !line.trim_start().starts_with('#'))
        {
            kept.push_str(line);
            kept.push('\n');
        }
        let kept = kept.trim();
        if let Some(groups) = kept.strip_prefix(PAPER_PREFIX) {
            return paper::decode(groups)
                .map(KeyFile)
                .map_err(KeyFileError::Mistyped);
        }
        let digits = kept
            .strip_prefix(KEY_FILE_PREFIX)
            .ok_or(KeyFileError::Other)?;
        parse_hex::<32>(digits.trim())
            .map(|k| KeyFile(Zeroizing::new(k)))
            .map_err(|_| KeyFileError::Other)
    }

    /// The same key as lines that can be typed from paper.
    pub fn to_paper(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(128));
        text.push_str(PAPER_PREFIX);
        text.push('\n');
        text.push_str(&paper::encode(&self.0));
        text
    }

    /// The file's text, with a line end.
    pub fn to_text(&self) -> Zeroizing<String> {
        use std::fmt::Write;
        let mut text = Zeroizing::new(String::with_capacity(96));
        text.push_str(KEY_FILE_PREFIX);
        for byte in self.0.iter() {
            let _ = write!(text, "{byte:02x}");
        }
        text.push('\n');
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_file_there_and_back() {
        let key = KeyFile::generate();
        assert_eq!(KeyFile::parse(&key.to_text()).unwrap().0, key.0);
        let paper = format!("# a comment\n\n  # more\n{}", *key.to_paper());
        assert_eq!(KeyFile::parse(&paper).unwrap().0, key.0);
        let cut = paper.trim_end().get(..paper.len() - 5).unwrap().to_owned();
        let error = KeyFile::parse(&cut).unwrap_err();
        assert_eq!(error, KeyFileError::Mistyped(4));
        assert!(KeyFile::parse("hucha-key-1 12").is_err());
        assert!(KeyFile::parse("").is_err());
    }

    #[test]
    fn cost_has_bounds() {
        let mut cost = PasswordCost::fresh();
        cost.memory = u32::MAX;
        assert!(derive_password_key(b"x", &cost).is_none());
        cost.memory = 8;
        assert!(derive_password_key(b"x", &cost).is_none());
    }

    #[test]
    fn slot_follows_from_password_and_salt() {
        let cost = PasswordCost {
            salt: [1; 16],
            ..PasswordCost::fresh()
        };
        let slot = |password: &[u8], salt| derive_password_key(password, &cost).unwrap().slot(salt);
        assert_eq!(slot(b"one", &cost.salt), slot(b"one", &cost.salt));
        assert_ne!(slot(b"one", &cost.salt), slot(b"two", &cost.salt));
        assert_ne!(slot(b"one", &cost.salt), slot(b"one", &[2; 16]));
    }
}

//! `config` and key slots (docs/format.md, "`config`", "Key slots", "Data keys").

use super::{Decoder, Fields, FieldsBuilder, MAJOR, MINOR, Malformed};
use crate::clock::Timestamp;
use crate::crypto::{Encryption, PasswordCost};
use crate::id::{DataKeyId, KeyDomain, RepositoryId};

const CONFIG_MAGIC: [u8; 8] = *b"huchacfg";
const SLOT_MAGIC: [u8; 8] = *b"huchakey";
const DATA_KEY_MAGIC: [u8; 8] = *b"huchadky";
const MAC: usize = 32;

/// What `config` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    pub repository: RepositoryId,
    pub domain: KeyDomain,
    pub encryption: Encryption,
    pub cost: PasswordCost,
    /// The root of all keys without encryption.
    pub public: Option<[u8; 32]>,
    pub created: Timestamp,
    /// Deepest delta that writers make.
    pub max_depth: u8,
}

/// A version that this program cannot read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConfigError {
    Malformed(Malformed),
    Version(u8),
}

impl From<Malformed> for ConfigError {
    fn from(bad: Malformed) -> Self {
        ConfigError::Malformed(bad)
    }
}

impl Config {
    /// The stored form, its MAC made with `key`.
    pub fn encode(&self, key: &[u8; 32]) -> Vec<u8> {
        let mut out = CONFIG_MAGIC.to_vec();
        out.extend_from_slice(&[MAJOR, MINOR]);
        let mut fields = FieldsBuilder::default();
        fields
            .bytes(1, &self.repository.0)
            .bytes(2, &self.domain.0)
            .u8(3, self.encryption as u8)
            .bytes(4, &self.cost.salt)
            .u64(5, u64::from(self.cost.memory))
            .u64(6, u64::from(self.cost.passes))
            .u64(7, u64::from(self.cost.lanes))
            .optional(8, self.public)
            .time(9, self.created)
            .u64(10, u64::from(self.max_depth));
        out.extend_from_slice(&fields.finish());
        let mac = blake3::keyed_hash(key, &out);
        out.extend_from_slice(mac.as_bytes());
        out
    }

    /// Reads the stored form; the MAC is checked later, by [`Config::is_authentic`].
    pub fn decode(bytes: &[u8]) -> Result<Config, ConfigError> {
        let bad = Malformed("config");
        let (body, _) = bytes.split_last_chunk::<MAC>().ok_or(bad)?;
        let mut d = Decoder::new(body, "config");
        if d.array()? != CONFIG_MAGIC {
            return Err(bad.into());
        }
        let (major, _minor) = (d.u8()?, d.u8()?);
        if major != MAJOR {
            return Err(ConfigError::Version(major));
        }
        let fields = Fields::decode(d.rest(), "config")?;
        let encryption = match fields.u8(3)? {
            0 => Encryption::None,
            1 => Encryption::XChaCha20Poly1305,
            _ => return Err(bad.into()),
        };
        let number = |tag| {
            fields
                .u64(tag)
                .and_then(|n| u32::try_from(n).map_err(|_| bad))
        };
        Ok(Config {
            repository: RepositoryId(fields.array(1)?),
            domain: KeyDomain(fields.array(2)?),
            encryption,
            cost: PasswordCost {
                salt: fields.array(4)?,
                memory: number(5)?,
                passes: number(6)?,
                lanes: number(7)?,
            },
            public: fields.optional_array(8)?,
            created: fields.time(9)?,
            max_depth: u8::try_from(fields.u64_or(10, 8)?).map_err(|_| bad)?,
        })
    }

    /// Whether the MAC over the stored form was made with `key`.
    pub fn is_authentic(bytes: &[u8], key: &[u8; 32]) -> bool {
        let Some((body, mac)) = bytes.split_last_chunk::<MAC>() else {
            return false;
        };
        blake3::keyed_hash(key, body) == blake3::Hash::from(*mac)
    }
}

/// How a slot is opened; the numbers stand on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum SlotKind {
    /// By a password.
    Password = 1,
    /// By a key file.
    KeyFile = 2,
}

/// A key slot as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slot {
    pub kind: SlotKind,
    pub repository: RepositoryId,
    pub sealed_root: Vec<u8>,
    pub sealed_label: Vec<u8>,
    /// A copy of `config`.
    pub config: Vec<u8>,
}

impl Slot {
    /// What the seals of a slot vouch for: its clear start.
    pub fn header(kind: SlotKind, repository: RepositoryId) -> Vec<u8> {
        let mut out = SLOT_MAGIC.to_vec();
        out.extend_from_slice(&[MAJOR, kind as u8]);
        out.extend_from_slice(&repository.0);
        out
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = Slot::header(self.kind, self.repository);
        for part in [&self.sealed_root, &self.sealed_label] {
            out.extend_from_slice(&(part.len() as u16).to_le_bytes());
            out.extend_from_slice(part);
        }
        out.extend_from_slice(&self.config);
        out
    }

    pub fn decode(bytes: &[u8]) -> Result<Slot, Malformed> {
        let mut d = Decoder::new(bytes, "key slot");
        if d.array()? != SLOT_MAGIC || d.u8()? != MAJOR {
            return Err(d.bad());
        }
        let kind = match d.u8()? {
            1 => SlotKind::Password,
            2 => SlotKind::KeyFile,
            _ => return Err(d.bad()),
        };
        let repository = RepositoryId(d.array()?);
        let len = usize::from(d.u16()?);
        let sealed_root = d.take(len)?.to_vec();
        let len = usize::from(d.u16()?);
        let sealed_label = d.take(len)?.to_vec();
        Ok(Slot {
            kind,
            repository,
            sealed_root,
            sealed_label,
            config: d.rest().to_vec(),
        })
    }
}

/// What a slot's second seal holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotLabel {
    /// Given by the user; may be empty.
    pub label: String,
    /// When it was made.
    pub created: Timestamp,
    /// On which host.
    pub host: String,
}

impl SlotLabel {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut fields = FieldsBuilder::default();
        fields
            .bytes(1, self.label.as_bytes())
            .time(2, self.created)
            .bytes(3, self.host.as_bytes());
        fields.finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<SlotLabel, Malformed> {
        let fields = Fields::decode(bytes, "key slot label")?;
        Ok(SlotLabel {
            label: fields.text(1).unwrap_or_default(),
            created: fields.time(2)?,
            host: fields.text(3).unwrap_or_default(),
        })
    }
}

/// The stored form of a wrapped data key.
pub(crate) fn encode_data_key(id: DataKeyId, wrapped: &[u8]) -> Vec<u8> {
    let mut out = DATA_KEY_MAGIC.to_vec();
    out.extend_from_slice(&[MAJOR, super::pack::WRAP_ROOT]);
    out.extend_from_slice(&id.0);
    out.extend_from_slice(wrapped);
    out
}

/// Reads a wrapped data key; `None` for a kind of wrapping that this program does not know.
pub(crate) fn decode_data_key(bytes: &[u8]) -> Result<Option<(DataKeyId, Vec<u8>)>, Malformed> {
    let mut d = Decoder::new(bytes, "data key");
    if d.array()? != DATA_KEY_MAGIC || d.u8()? != MAJOR {
        return Err(d.bad());
    }
    let wrap = d.u8()?;
    let id = DataKeyId(d.array()?);
    Ok((wrap == super::pack::WRAP_ROOT).then(|| (id, d.rest().to_vec())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn config_there_and_back() {
        let config = Config {
            repository: RepositoryId([1; 16]),
            domain: KeyDomain([2; 16]),
            encryption: Encryption::None,
            cost: PasswordCost {
                salt: [3; 16],
                memory: 65_536,
                passes: 3,
                lanes: 1,
            },
            public: Some([4; 32]),
            created: Timestamp {
                seconds: 5,
                nanos: 6,
            },
            max_depth: 8,
        };
        let bytes = config.encode(&[7; 32]);
        assert_eq!(Config::decode(&bytes).unwrap(), config);
        assert!(Config::is_authentic(&bytes, &[7; 32]));
        assert!(!Config::is_authentic(&bytes, &[8; 32]));
        let mut newer = bytes.clone();
        newer[8] = 2;
        assert_eq!(Config::decode(&newer), Err(ConfigError::Version(2)));
        for cut in 0..bytes.len() {
            assert!(!Config::is_authentic(&bytes[..cut], &[7; 32]));
            let _ = Config::decode(&bytes[..cut]);
        }
    }

    #[test]
    fn slot_there_and_back() {
        let slot = Slot {
            kind: SlotKind::KeyFile,
            repository: RepositoryId([1; 16]),
            sealed_root: vec![1; 72],
            sealed_label: vec![2; 50],
            config: vec![3; 20],
        };
        assert_eq!(Slot::decode(&slot.encode()).unwrap(), slot);
        assert!(Slot::decode(&slot.encode()[..100]).is_err());
    }
}

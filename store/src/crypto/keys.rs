//! The root secret and everything derived from it.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use zeroize::Zeroizing;

use super::random;
use super::seal::{Context, Kind, SealKey};
use crate::id::{ChunkId, DataKeyId, KeyDomain, RepositoryId};

/// Data key id of records in repositories without encryption.
pub(crate) const NO_KEY: DataKeyId = DataKeyId([0; 4]);
/// Data key id of records of pages: the page key itself.
pub(crate) const PAGE_KEY: DataKeyId = DataKeyId([1, 0, 0, 0]);

/// How a repository is encrypted; the numbers stand on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Encryption {
    /// Not at all: a BLAKE3 tag finds damage.
    None = 0,
    /// XChaCha20-Poly1305.
    XChaCha20Poly1305 = 1,
}

/// 256 random bits from which every other key comes. Never derived from a password.
#[derive(Clone)]
pub struct RootSecret(pub(crate) Zeroizing<[u8; 32]>);

impl RootSecret {
    pub(crate) fn generate() -> RootSecret {
        RootSecret(Zeroizing::new(random()))
    }
}

impl std::fmt::Debug for RootSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RootSecret(…)")
    }
}

/// A key that seals records of content, with its wrapped form as packs carry it.
#[derive(Debug, Clone)]
pub struct DataKey {
    pub(crate) id: DataKeyId,
    pub(crate) key: SealKey,
    /// `seal(data key)` under the wrap key.
    pub(crate) wrapped: Vec<u8>,
}

/// All keys of an open repository.
pub struct Keys {
    encryption: Encryption,
    domain: KeyDomain,
    repository: RepositoryId,
    root: Zeroizing<[u8; 32]>,
    id: Zeroizing<[u8; 32]>,
    page_id: Zeroizing<[u8; 32]>,
    page_cut: Zeroizing<[u8; 32]>,
    gear: Zeroizing<[u8; 32]>,
    features: Zeroizing<[u8; 32]>,
    local: Zeroizing<[u8; 32]>,
    index: SealKey,
    session: SealKey,
    list: SealKey,
    manifest: SealKey,
    page: SealKey,
    note: SealKey,
    wrap: SealKey,
    data: RwLock<HashMap<DataKeyId, Arc<DataKey>>>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys")
            .field("domain", &self.domain)
            .finish_non_exhaustive()
    }
}

fn derive(context: &str, material: &[u8; 32]) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(blake3::derive_key(context, material))
}

/// The key domain of a root secret (or public value).
pub(crate) fn key_domain(root: &[u8; 32]) -> KeyDomain {
    let full = derive("hucha 1 key domain", root);
    let mut id = [0u8; 16];
    id.copy_from_slice(full.split_at(16).0);
    KeyDomain(id)
}

/// The key of `config`'s MAC.
pub(crate) fn config_key(root: &[u8; 32]) -> Zeroizing<[u8; 32]> {
    derive("hucha 1 config", root)
}

impl Keys {
    /// Derives everything. `root` is the root secret, or the public value without encryption.
    pub(crate) fn derive(
        encryption: Encryption,
        root: &[u8; 32],
        repository: RepositoryId,
    ) -> Keys {
        let protocol = derive("hucha 1 protocol", root);
        let tree = derive("hucha 1 tree", root);
        let seal_key = |context: &str, from: &[u8; 32]| {
            let key = derive(context, from);
            match encryption {
                Encryption::None => SealKey::Public(*key),
                Encryption::XChaCha20Poly1305 => SealKey::Secret(key),
            }
        };
        Keys {
            encryption,
            domain: key_domain(root),
            repository,
            id: derive("hucha 1 id", &protocol),
            page_id: derive("hucha 1 page id", &protocol),
            gear: derive("hucha 1 gear", &protocol),
            features: derive("hucha 1 features", &protocol),
            local: derive("hucha 1 local cache", &protocol),
            index: seal_key("hucha 1 index", &protocol),
            session: seal_key("hucha 1 session", &protocol),
            list: seal_key("hucha 1 list", &protocol),
            page_cut: derive("hucha 1 page cut", &tree),
            manifest: seal_key("hucha 1 manifest", &tree),
            page: seal_key("hucha 1 page", &tree),
            note: seal_key("hucha 1 note", &tree),
            wrap: seal_key("hucha 1 wrap", root),
            root: Zeroizing::new(*root),
            data: RwLock::new(HashMap::new()),
        }
    }

    /// How the repository is encrypted.
    pub fn encryption(&self) -> Encryption {
        self.encryption
    }

    pub(crate) fn root(&self) -> &[u8; 32] {
        &self.root
    }

    /// The repository that these keys were opened for.
    pub fn repository(&self) -> RepositoryId {
        self.repository
    }

    /// The id of a chunk of content.
    pub fn chunk_id(&self, plain: &[u8]) -> ChunkId {
        ChunkId(*blake3::keyed_hash(&self.id, plain).as_bytes())
    }

    /// The id of a page.
    pub fn page_id(&self, plain: &[u8]) -> ChunkId {
        ChunkId(*blake3::keyed_hash(&self.page_id, plain).as_bytes())
    }

    /// The key from which the cutter's table is made.
    pub fn gear_key(&self) -> &[u8; 32] {
        &self.gear
    }

    /// The key from which super-features of chunks are made.
    pub(crate) fn feature_key(&self) -> &[u8; 32] {
        &self.features
    }

    /// The key of the check in local caches.
    pub(crate) fn local_key(&self) -> &[u8; 32] {
        &self.local
    }

    /// Whether a page of this height may begin at this path (docs/format.md, "Cut").
    pub(crate) fn cuts_page(&self, height: u8, path: &[u8]) -> bool {
        let mut hasher = blake3::Hasher::new_keyed(&self.page_cut);
        hasher.update(&[height]);
        hasher.update(path);
        let hash = hasher.finalize();
        let [low, high, ..] = hash.as_bytes();
        let every = if height == 0 { 128 } else { 64 };
        u16::from_le_bytes([*low, *high]) % every == 0
    }

    fn context<'a>(&self, kind: Kind, header: &'a [u8]) -> Context<'a> {
        let bound = !matches!(kind, Kind::Record | Kind::PageRecord | Kind::DataKey);
        Context {
            domain: self.domain,
            kind,
            header,
            repository: bound.then_some(self.repository),
        }
    }

    /// The key and context for everything but records.
    pub(crate) fn of_kind<'a>(&self, kind: Kind, header: &'a [u8]) -> (&SealKey, Context<'a>) {
        let key = match kind {
            Kind::Segment => &self.index,
            Kind::Session => &self.session,
            Kind::List => &self.list,
            Kind::Snapshot => &self.manifest,
            Kind::Note => &self.note,
            Kind::DataKey | Kind::Record | Kind::SlotRoot | Kind::SlotLabel => &self.wrap,
            Kind::PageRecord => &self.page,
        };
        (key, self.context(kind, header))
    }

    /// The key that opens a record, if this process has it.
    pub(crate) fn record_key(&self, id: DataKeyId) -> Option<Arc<DataKey>> {
        self.data.read().ok()?.get(&id).cloned()
    }

    /// All data keys that this process has, in the order of their ids.
    pub(crate) fn data_keys(&self) -> Vec<Arc<DataKey>> {
        let Ok(data) = self.data.read() else {
            return Vec::new();
        };
        let mut keys: Vec<_> = data
            .values()
            .filter(|k| !k.wrapped.is_empty())
            .cloned()
            .collect();
        keys.sort_by_key(|k| k.id.0);
        keys
    }

    /// The context of a record.
    pub(crate) fn record_context<'a>(&self, pages: bool, header: &'a [u8]) -> Context<'a> {
        self.context(
            if pages {
                Kind::PageRecord
            } else {
                Kind::Record
            },
            header,
        )
    }

    /// Makes a data key and wraps it.
    pub(crate) fn generate_data_key(&self) -> DataKey {
        let mut id = DataKeyId(random());
        while id.0.iter().skip(1).all(|b| *b == 0) {
            id = DataKeyId(random());
        }
        let key = Zeroizing::new(random::<32>());
        let (wrap, context) = self.of_kind(Kind::DataKey, &id.0);
        let wrapped = wrap.seal(&context, &*key);
        DataKey {
            id,
            key: SealKey::Secret(key),
            wrapped,
        }
    }

    /// Unwraps a data key and keeps it; `false` when it is not ours.
    pub(crate) fn learn_data_key(&self, id: DataKeyId, wrapped: &[u8]) -> bool {
        let (wrap, context) = self.of_kind(Kind::DataKey, &id.0);
        let Ok(plain) = wrap.open(&context, wrapped).map(Zeroizing::new) else {
            return false;
        };
        let Ok(key) = <[u8; 32]>::try_from(plain.as_slice()) else {
            return false;
        };
        let key = SealKey::Secret(Zeroizing::new(key));
        self.keep(DataKey {
            id,
            key,
            wrapped: wrapped.to_vec(),
        });
        true
    }

    /// Keeps a data key for [`Keys::record_key`].
    pub(crate) fn keep(&self, key: DataKey) {
        if let Ok(mut data) = self.data.write() {
            data.insert(key.id, Arc::new(key));
        }
    }

    /// The keys that are no data keys but seal records: the page key, and the key of repositories
    /// without encryption.
    pub(crate) fn keep_built_in(&self) {
        let id = match self.encryption {
            Encryption::None => NO_KEY,
            Encryption::XChaCha20Poly1305 => PAGE_KEY,
        };
        self.keep(DataKey {
            id,
            key: self.page.clone(),
            wrapped: Vec::new(),
        });
    }

    /// The data key for new records: the smallest id, so that processes agree on one.
    pub(crate) fn writing_key(&self, pages: bool) -> Option<Arc<DataKey>> {
        let built_in = match self.encryption {
            Encryption::None => NO_KEY,
            Encryption::XChaCha20Poly1305 => PAGE_KEY,
        };
        if pages || self.encryption == Encryption::None {
            return self.record_key(built_in);
        }
        let data = self.data.read().ok()?;
        data.iter()
            .filter(|(id, _)| **id != built_in)
            .min_by_key(|(id, _)| id.0)
            .map(|(_, k)| k.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derivation_is_pinned() {
        let keys = Keys::derive(
            Encryption::XChaCha20Poly1305,
            &[9; 32],
            RepositoryId([1; 16]),
        );
        assert_eq!(
            keys.chunk_id(b"hucha").to_string(),
            blake3::keyed_hash(
                &blake3::derive_key(
                    "hucha 1 id",
                    &blake3::derive_key("hucha 1 protocol", &[9; 32])
                ),
                b"hucha"
            )
            .to_hex()
            .as_str()
        );
        assert_ne!(keys.chunk_id(b"hucha"), keys.page_id(b"hucha"));
    }

    #[test]
    fn data_keys_unwrap_only_under_their_own_id_and_root() {
        let keys = Keys::derive(
            Encryption::XChaCha20Poly1305,
            &[9; 32],
            RepositoryId([1; 16]),
        );
        let data = keys.generate_data_key();
        assert!(keys.learn_data_key(data.id, &data.wrapped));
        assert!(!keys.learn_data_key(DataKeyId([9; 4]), &data.wrapped));
        let other = Keys::derive(
            Encryption::XChaCha20Poly1305,
            &[8; 32],
            RepositoryId([1; 16]),
        );
        assert!(!other.learn_data_key(data.id, &data.wrapped));
    }
}

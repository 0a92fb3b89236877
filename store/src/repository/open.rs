//! Making and opening repositories.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use zeroize::Zeroizing;

use super::{Repository, named_key};
use crate::backend::{Area, Backend, BackendError, Key, Put, Reserve};
use crate::crypto::{
    Context, Encryption, KeyEncryptionKey, KeyFile, Keys, Kind, PasswordCost, RootSecret, SealKey,
    derive_password_key, random,
};
use crate::environment::Environment;
use crate::error::AccessError;
use crate::fetch;
use crate::format::config::{
    Config, ConfigError, Slot, SlotKind, decode_data_key, encode_data_key,
};
use crate::id::{KeyDomain, RepositoryId, SlotId};
use crate::index::handle::IndexHandle;
use crate::index::{Index, IndexError, MemoryIndex, Opened, RedbIndex, RedbOptions};
use crate::sealed::Sealed;
use crate::similar::Similar;

/// What opens a repository.
#[derive(Clone)]
pub enum Credential {
    /// Nothing: only for repositories without encryption.
    None,
    /// A password.
    Password(Zeroizing<Vec<u8>>),
    /// A key file.
    KeyFile(KeyFile),
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Credential::None => "None",
            Credential::Password(_) => "Password(…)",
            Credential::KeyFile(_) => "KeyFile(…)",
        })
    }
}

/// Why a repository cannot be opened or made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is none.
    #[error("there is no hucha repository at {0}")]
    NoRepository(String),
    /// There is one already.
    #[error("there is already a hucha repository at {0}")]
    AlreadyExists(String),
    /// No slot opens with what was given.
    #[error("wrong password or key")]
    WrongKey,
    /// Nothing was given, and the repository is encrypted.
    #[error("the repository is encrypted and no password was given")]
    NoKey,
    /// Made by a newer program.
    #[error(
        "the repository has format {0}; this program reads format {ours}",
        ours = crate::format::MAJOR
    )]
    Version(u8),
    /// Anything else.
    #[error(transparent)]
    Access(#[from] AccessError),
}

impl From<BackendError> for OpenError {
    fn from(error: BackendError) -> Self {
        OpenError::Access(error.into())
    }
}

/// How to make a repository.
#[derive(Debug, Clone)]
pub struct InitOptions {
    /// Whether and how it is encrypted.
    pub encryption: Encryption,
    /// Label of the first key slot.
    pub label: String,
}

/// Size of the index's page cache in bytes.
const INDEX_CACHE: usize = 48 << 20;
/// Deltas that writers make are at most this deep.
const DEFAULT_MAX_DEPTH: u8 = 12;

impl Repository {
    /// Makes a repository and opens it. The object `config` is put last: until then there is none,
    /// and of two that are made at once one wins.
    ///
    /// # Errors
    /// [`OpenError::AlreadyExists`] also when another process was faster.
    pub fn init(
        backend: Arc<dyn Backend>,
        credential: &Credential,
        options: &InitOptions,
        environment: Environment,
    ) -> Result<Repository, OpenError> {
        let location = backend.location();
        if read_config(&*backend)?.is_some() {
            return Err(OpenError::AlreadyExists(location));
        }
        let encrypted = options.encryption != Encryption::None;
        let root = RootSecret::generate();
        let repository = RepositoryId(random());
        let cost = PasswordCost::fresh();
        let config = Config {
            repository,
            domain: crate::crypto::key_domain(&root.0),
            encryption: options.encryption,
            cost,
            public: (!encrypted).then_some(*root.0),
            created: environment.clock.now(),
            max_depth: DEFAULT_MAX_DEPTH,
        };
        let keys = Keys::derive(options.encryption, &root.0, repository);
        let stored = config.encode(&crate::crypto::config_key(&root.0));
        let mut opened_by = None;
        if encrypted {
            let (kek, kind) = kek_of(credential, &cost)?;
            let label = super::slots::new_label(&environment, &options.label);
            let slot = super::slots::make_slot(&keys, &config, &stored, &kek, kind, &label);
            let id = kek.slot(&cost.salt);
            put_new(&*backend, &named_key(Area::Keys, id), slot.encode())?;
            opened_by = Some(id);
        }
        if backend.put(&Key::config(), &Sealed::from_stored(stored.clone()))? == Put::Exists {
            // Another process was faster. What was made here opens nothing and has a name of its
            // own; leaving it behind would do no harm.
            if let Some(id) = opened_by {
                let _ = backend.delete(&named_key(Area::Keys, id));
            }
            return Err(OpenError::AlreadyExists(location));
        }
        keys.keep_built_in();
        let repository = Repository::assemble(backend, keys, config, environment, opened_by)?;
        // All three are made later where they are missing. A data key before `config` would stay,
        // and look damaged, when another init made the repository in the end.
        let _ = repository.ensure_data_key();
        let copy = Sealed::from_stored(stored);
        let _ = repository.backend().put(&config_copy(), &copy);
        let _ = repository.backend().reserve(Reserve::Keep(0));
        Ok(repository)
    }

    /// Opens a repository.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(
        backend: Arc<dyn Backend>,
        credential: &Credential,
        environment: Environment,
    ) -> Result<Repository, OpenError> {
        let Some(stored) = read_config(&*backend)? else {
            return Err(OpenError::NoRepository(backend.location()));
        };
        Unlocked::new(backend, &stored, credential)?.open(environment)
    }

    fn assemble(
        backend: Arc<dyn Backend>,
        keys: Keys,
        config: Config,
        environment: Environment,
        opened_by: Option<SlotId>,
    ) -> Result<Repository, OpenError> {
        let index = open_index(&environment, &keys);
        let similar = Similar::new(&keys, environment.cache.as_deref());
        Ok(Repository {
            similar,
            backend,
            keys,
            config,
            environment,
            index,
            opened_by,
        })
    }

    /// Whether a repository is encrypted, without a key; `None` when there is none.
    ///
    /// # Errors
    /// When `config` cannot be read.
    pub fn encryption_of(backend: &dyn Backend) -> Result<Option<Encryption>, OpenError> {
        let Some(stored) = read_config(backend)? else {
            return Ok(None);
        };
        Ok(Some(decode_config(&stored)?.encryption))
    }

    /// The id of the repository at a backend, for the name of its local cache.
    ///
    /// # Errors
    /// When `config` cannot be read.
    pub fn id_of(backend: &dyn Backend) -> Result<Option<RepositoryId>, OpenError> {
        let Some(stored) = read_config(backend)? else {
            return Ok(None);
        };
        Ok(Some(decode_config(&stored)?.repository))
    }

    /// Makes a data key when none is left: what was sealed with others is not readable without
    /// them, but new snapshots are.
    pub(crate) fn ensure_data_key(&self) -> Result<(), AccessError> {
        if self.keys().writing_key(false).is_some() {
            return Ok(());
        }
        let data = self.keys().generate_data_key();
        let key = named_key(Area::Keys, format_args!("data-{}", data.id));
        let stored = encode_data_key(data.id, &data.wrapped);
        crate::writer::put_fresh(self, &key, &Sealed::from_stored(stored))?;
        self.keys().keep(data);
        Ok(())
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn opened_by(&self) -> Option<SlotId> {
        self.opened_by
    }
}

/// A repository whose `config` was read and vouched for: the root secret is known.
pub struct Unlocked {
    backend: Arc<dyn Backend>,
    config: Config,
    keys: Keys,
    opened_by: Option<SlotId>,
}

impl Unlocked {
    /// Finds the root secret behind a stored `config`, wherever that was found.
    pub(crate) fn new(
        backend: Arc<dyn Backend>,
        stored: &[u8],
        credential: &Credential,
    ) -> Result<Unlocked, OpenError> {
        let config = decode_config(stored)?;
        let (root, opened_by) = open_root(&*backend, &config, credential)?;
        if !Config::is_authentic(stored, &crate::crypto::config_key(&root)) {
            return Err(AccessError::damaged("config", "its MAC does not hold").into());
        }
        let keys = Keys::derive(config.encryption, &root, config.repository);
        Ok(Unlocked {
            backend,
            config,
            keys,
            opened_by,
        })
    }

    /// The repository's id, for the name of its local cache.
    pub fn id(&self) -> RepositoryId {
        self.config.repository
    }

    /// Opens it.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(self, environment: Environment) -> Result<Repository, OpenError> {
        refuse_downgrade(&self.config, &environment)?;
        self.keys.keep_built_in();
        learn_data_keys(&*self.backend, &self.keys)?;
        Repository::assemble(
            self.backend,
            self.keys,
            self.config,
            environment,
            self.opened_by,
        )
    }
}

/// The name of the second copy of `config`.
pub(crate) fn config_copy() -> Key {
    named_key(Area::Keys, "config")
}

/// The name of a key slot's copy, which stands while repair replaces the slot.
pub(crate) fn slot_copy(id: SlotId) -> Key {
    named_key(Area::Keys, format_args!("{id}.copy"))
}

/// Where this machine notes that a repository is encrypted.
const ENCRYPTED: &str = "encrypted";

/// Refuses a repository that was encrypted when this machine saw it last: somebody who can write
/// the storage would else have the next snapshot stored readable.
fn refuse_downgrade(config: &Config, environment: &Environment) -> Result<(), OpenError> {
    if config.encryption != Encryption::None {
        if environment.state.load(ENCRYPTED).is_none() {
            environment.state.store(ENCRYPTED, b"1");
        }
        return Ok(());
    }
    match environment.state.load(ENCRYPTED) {
        None => Ok(()),
        Some(_) => {
            let why = "it says that nothing is encrypted, but this repository was encrypted when \
                       this machine used it last";
            Err(AccessError::damaged("config", why).into())
        }
    }
}

fn put_new(backend: &dyn Backend, key: &Key, bytes: Vec<u8>) -> Result<(), OpenError> {
    match backend.put(key, &Sealed::from_stored(bytes))? {
        Put::Created => Ok(()),
        Put::Exists => Err(AccessError::NotFresh(key.to_string()).into()),
    }
}

pub(crate) fn read_config(backend: &dyn Backend) -> Result<Option<Vec<u8>>, OpenError> {
    get(backend, &Key::config())
}

pub(crate) fn decode_config(stored: &[u8]) -> Result<Config, OpenError> {
    Config::decode(stored).map_err(|e| match e {
        ConfigError::Version(major) => OpenError::Version(major),
        ConfigError::Malformed(bad) => AccessError::damaged("config", bad).into(),
    })
}

/// The key-encryption key of a credential.
pub(super) fn kek_of(
    credential: &Credential,
    cost: &PasswordCost,
) -> Result<(KeyEncryptionKey, SlotKind), OpenError> {
    match credential {
        Credential::None => Err(OpenError::NoKey),
        Credential::KeyFile(file) => Ok((KeyEncryptionKey(file.0.clone()), SlotKind::KeyFile)),
        Credential::Password(password) => {
            let kek = derive_password_key(password, cost)
                .ok_or_else(|| AccessError::damaged("config", "its password cost is absurd"))?;
            Ok((kek, SlotKind::Password))
        }
    }
}

/// What the seals of a slot are made with.
pub(super) fn slot_context<'a>(domain: KeyDomain, kind: Kind, header: &'a [u8]) -> Context<'a> {
    Context {
        domain,
        kind,
        header,
        repository: None,
    }
}

fn open_root(
    backend: &dyn Backend,
    config: &Config,
    credential: &Credential,
) -> Result<(Zeroizing<[u8; 32]>, Option<SlotId>), OpenError> {
    if config.encryption == Encryption::None {
        let public = config
            .public
            .ok_or_else(|| AccessError::damaged("config", "no public value"))?;
        return Ok((Zeroizing::new(public), None));
    }
    let (kek, kind) = kek_of(credential, &config.cost)?;
    let id = kek.slot(&config.cost.salt);
    let key = named_key(Area::Keys, id);
    let stored = match get(backend, &key)? {
        Some(stored) => stored,
        // A repair that was interrupted while it replaced the slot leaves its copy.
        None => get(backend, &slot_copy(id))?.ok_or(OpenError::WrongKey)?,
    };
    let damaged = |why: &dyn std::fmt::Display| AccessError::damaged(&key, why);
    let slot = Slot::decode(&stored).map_err(|e| damaged(&e))?;
    let header = Slot::header(kind, config.repository);
    let context = slot_context(config.domain, Kind::SlotRoot, &header);
    let root = SealKey::Secret(kek.0.clone())
        .open(&context, &slot.sealed_root)
        .map(Zeroizing::new)
        .map_err(|e| damaged(&e))?;
    let root: [u8; 32] = root
        .as_slice()
        .try_into()
        .map_err(|_| damaged(&"a root secret of another length"))?;
    Ok((Zeroizing::new(root), Some(kek.slot(&config.cost.salt))))
}

/// An object's bytes; `None` when it is not there, none when the storage cannot give back this one.
pub(crate) fn get(backend: &dyn Backend, key: &Key) -> Result<Option<Vec<u8>>, OpenError> {
    Ok(fetch::bytes(backend, key)?)
}

fn learn_data_keys(backend: &dyn Backend, keys: &Keys) -> Result<(), OpenError> {
    let mut names = Vec::new();
    backend.list(Area::Keys, &mut |listed| {
        if listed.name.starts_with("data-") {
            names.push(listed.name);
        }
    })?;
    names.sort_unstable();
    for name in names {
        let key = named_key(Area::Keys, name);
        let Some(stored) = get(backend, &key)? else {
            continue;
        };
        // One that does not open is another process's failed `init`, or damaged: packs carry
        // their keys too.
        if let Ok(Some((id, wrapped))) = decode_data_key(&stored) {
            keys.learn_data_key(id, &wrapped);
        }
    }
    Ok(())
}

fn open_index(environment: &Environment, keys: &Keys) -> IndexHandle {
    let Some(folder) = environment.cache.clone() else {
        let fresh = |_: bool| Ok(Arc::new(MemoryIndex::default()) as Arc<dyn Index>);
        return IndexHandle::new(Arc::new(MemoryIndex::default()), Box::new(fresh), None);
    };
    let options = RedbOptions {
        cache_bytes: INDEX_CACHE,
        key: *keys.local_key(),
        identity: keys.repository().0,
        ..RedbOptions::default()
    };
    let in_memory = || Arc::new(MemoryIndex::default()) as Arc<dyn Index>;
    // Number of the cache file in use: the one to be left behind when it fails.
    let number = Arc::new(AtomicU64::new(0));
    let keep = |number: &AtomicU64, opened: Opened| -> Arc<dyn Index> {
        number.store(opened.index.file_number(), Ordering::Relaxed);
        Arc::new(opened.index)
    };
    // A cache folder that cannot be used (a full disk, no permission) costs time, nothing else.
    let index = RedbIndex::open_or_new(&folder, options.clone())
        .map_or_else(|_| in_memory(), |opened| keep(&number, opened));
    let caches = folder.clone();
    let fresh = move |private: bool| -> Result<Arc<dyn Index>, IndexError> {
        if private {
            return Ok(in_memory());
        }
        let bad = number.load(Ordering::Relaxed);
        Ok(RedbIndex::open_newer(&caches, options.clone(), bad)
            .map_or_else(|_| in_memory(), |opened| keep(&number, opened)))
    };
    IndexHandle::new(index, Box::new(fresh), Some(folder))
}

//! An open repository: a backend, the keys, the index, and the small sealed objects.
//!
//! Knows how objects are named and sealed, not when they may be put or deleted: that is the matter
//! of `session` and [`crate::gc`].

mod open;
mod slots;

pub use open::{Credential, InitOptions, OpenError, Unlocked};
pub(crate) use open::{config_copy, decode_config, get, slot_copy};
pub(crate) use slots::SlotState;
pub use slots::{SlotDetails, SlotError, SlotKind, SlotLabel, SlotView};

use std::sync::Arc;

use crate::backend::{Area, Backend, BackendError, Key, Put, Reserve, Trouble};
use crate::crypto::{Context, Keys, Kind};
use crate::environment::Environment;
use crate::error::AccessError;
use crate::fetch;
use crate::format::config::Config;
use crate::format::objects::header;
use crate::id::Uuid;
use crate::index::handle::{IndexHandle, Segments};
use crate::sealed::Sealed;
use crate::similar::Similar;

/// Seals the fields of small objects of one kind.
pub(crate) type ObjectSealer = Box<dyn Fn(&[u8]) -> Sealed + Send>;

/// An open repository. Shared by all threads of a process.
pub struct Repository {
    backend: Arc<dyn Backend>,
    keys: Keys,
    config: Config,
    environment: Environment,
    index: IndexHandle,
    similar: Similar,
    /// The slot that opened it, if one did.
    opened_by: Option<crate::id::SlotId>,
}

impl std::fmt::Debug for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Repository")
            .field("id", &self.config.repository)
            .finish_non_exhaustive()
    }
}

impl Repository {
    /// Its id.
    pub fn id(&self) -> crate::id::RepositoryId {
        self.config.repository
    }

    /// The keys.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Where the objects are.
    pub fn backend(&self) -> &dyn Backend {
        &*self.backend
    }

    /// What the core was handed.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Deepest delta that writers make here.
    pub(crate) fn max_depth(&self) -> u8 {
        self.config.max_depth.min(crate::format::MAX_DEPTH - 1)
    }

    /// Another cap, as if `config` had it.
    #[cfg(test)]
    pub(crate) fn with_max_depth(mut self, depth: u8) -> Repository {
        self.config.max_depth = depth;
        self
    }

    /// Which stored chunks resemble a new one.
    pub(crate) fn similar(&self) -> &Similar {
        &self.similar
    }

    pub(crate) fn index(&self) -> &IndexHandle {
        &self.index
    }

    pub(crate) fn segments(&self) -> Segments<'_> {
        Segments {
            backend: &*self.backend,
            keys: &self.keys,
        }
    }

    /// Takes an index that was filled earlier.
    #[cfg(test)]
    pub(crate) fn replace_index(&mut self, index: Arc<dyn crate::index::Index>) {
        let fresh = |_: bool| -> Result<Arc<dyn crate::index::Index>, crate::index::IndexError> {
            Ok(Arc::new(crate::index::MemoryIndex::default()))
        };
        self.index = IndexHandle::new(index, Box::new(fresh), None);
    }

    /// Brings the index up to date with the repository's segments.
    pub(crate) fn update_index(&self) -> Result<(), AccessError> {
        self.index.update(&self.segments())
    }

    /// Every uuid that names an object of an area; other names are passed over.
    pub(crate) fn list_uuids(&self, area: Area) -> Result<Vec<Uuid>, AccessError> {
        Ok(self
            .list_names(area)?
            .iter()
            .filter_map(|n| n.parse().ok())
            .collect())
    }

    /// Every name of an area, sorted.
    pub(crate) fn list_names(&self, area: Area) -> Result<Vec<String>, AccessError> {
        let mut names = Vec::new();
        self.backend
            .list(area, &mut |listed| names.push(listed.name))?;
        names.sort_unstable();
        Ok(names)
    }

    /// An object's stored bytes; `None` when it is not there, none when the storage cannot give
    /// back this one.
    pub(crate) fn get_stored(&self, key: &Key) -> Result<Option<Vec<u8>>, AccessError> {
        Ok(fetch::bytes(&*self.backend, key)?)
    }

    /// Whether the storage still gives answers: what it then cannot read is bad where it lies.
    pub(crate) fn answers(&self) -> bool {
        fetch::answers(&*self.backend)
    }

    /// Seals and puts a small object.
    pub(crate) fn put_object(
        &self,
        key: &Key,
        kind: Kind,
        fields: &[u8],
    ) -> Result<Put, BackendError> {
        self.backend.put(key, &self.seal_object(kind, fields))
    }

    /// The same for what makes room in the end: on a full disk it takes what is held back.
    pub(crate) fn put_at_need(
        &self,
        key: &Key,
        kind: Kind,
        fields: &[u8],
    ) -> Result<Put, BackendError> {
        loop {
            match self.put_object(key, kind, fields) {
                Err(e) if e.trouble == Trouble::Full => {
                    if !self.backend.reserve(Reserve::GiveUp).unwrap_or(false) {
                        return Err(e);
                    }
                }
                answer => return answer,
            }
        }
    }

    pub(crate) fn seal_object(&self, kind: Kind, fields: &[u8]) -> Sealed {
        self.object_sealer(kind)(fields)
    }

    /// What seals small objects of one kind, for a thread of its own.
    pub(crate) fn object_sealer(&self, kind: Kind) -> ObjectSealer {
        let clear = header(kind);
        let (key, _) = self.keys.of_kind(kind, &clear);
        let (key, domain, repository) = (key.clone(), self.config.domain, self.config.repository);
        Box::new(move |fields| {
            let context = Context {
                domain,
                kind,
                header: &clear,
                repository: Some(repository),
            };
            let mut stored = clear.to_vec();
            key.seal_onto(&context, fields, &mut stored);
            Sealed::from_stored(stored)
        })
    }

    /// Where the objects are, for a thread of its own.
    pub(crate) fn shared_backend(&self) -> Arc<dyn Backend> {
        Arc::clone(&self.backend)
    }

    /// Gets and opens a small object; `None` when it does not exist.
    pub(crate) fn get_object(&self, key: &Key, kind: Kind) -> Result<Option<Vec<u8>>, AccessError> {
        let Some(stored) = fetch::stored(&*self.backend, key)? else {
            return Ok(None);
        };
        let clear = header(kind);
        let body = stored
            .strip_prefix(&clear[..])
            .ok_or_else(|| AccessError::damaged(key, "not an object of this kind"))?;
        let (seal, context) = self.keys.of_kind(kind, &clear);
        seal.open(&context, body)
            .map(Some)
            .map_err(|e| AccessError::damaged(key, e))
    }
}

/// The key of an object that is named by a uuid.
pub(crate) fn uuid_key(area: Area, name: Uuid) -> Key {
    named_key(area, name)
}

/// The key of an object whose name follows the rule by construction.
#[expect(
    clippy::expect_used,
    reason = "callers build names from hex digits, dots and letters"
)]
pub(crate) fn named_key(area: Area, name: impl std::fmt::Display) -> Key {
    Key::new(area, name).expect("the name follows the rule for names")
}

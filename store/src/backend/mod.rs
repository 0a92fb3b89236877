//! Where a repository's objects lie: the [`Backend`] trait, and the backends that need nothing but
//! this machine.
//!
//! A backend stores whole, write-once objects under flat names. It knows nothing of what they
//! hold, never sees plain bytes (only [`Sealed`] can be put), and decides nothing about safety:
//! it promises read-after-write for get and list, and put-if-absent for one object
//! (gc-protocol.md asks for no more). Retry, counting, limits and faults are decorators.

pub mod conformance;
mod counting;
mod faulty;
mod local;
mod memory;
mod throttle;

pub use counting::{Counting, Counts, Tally};
pub use faulty::{Fault, Faulty};
pub use local::Local;
pub use memory::Memory;
pub use throttle::{Limits, Pace, Throttled};

use std::fmt;

use crate::sealed::Sealed;

/// The folders of a repository; docs/format.md says what lies in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Area {
    /// The one object `config`.
    Config,
    /// Key slots and wrapped data keys.
    Keys,
    /// Records back to back.
    Packs,
    /// Sorted segments of the index.
    Index,
    /// Manifests and tombstones: the commit points.
    Snapshots,
    /// Open writers and collectors, and their heartbeats.
    Sessions,
    /// Lists of condemned packs.
    Gc,
    /// Markers of forgotten snapshots.
    Trash,
    /// Facts about snapshots and runs.
    Notes,
    /// Copies of manifests and notes.
    Copies,
}

impl Area {
    /// Every area.
    pub const ALL: [Area; 10] = [
        Area::Config,
        Area::Keys,
        Area::Packs,
        Area::Index,
        Area::Snapshots,
        Area::Sessions,
        Area::Gc,
        Area::Trash,
        Area::Notes,
        Area::Copies,
    ];

    /// The folder's name in a repository; `config` is a single object.
    pub fn folder(self) -> &'static str {
        match self {
            Area::Config => "config",
            Area::Keys => "keys",
            Area::Packs => "packs",
            Area::Index => "index",
            Area::Snapshots => "snapshots",
            Area::Sessions => "sessions",
            Area::Gc => "gc",
            Area::Trash => "trash",
            Area::Notes => "notes",
            Area::Copies => "copies",
        }
    }
}

/// Most bytes in a name.
pub const MAX_NAME: usize = 80;

/// One object's name: an area, and `[0-9a-z.-]{1,80}` in it (`config` itself has no second part).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    area: Area,
    name: String,
}

impl Key {
    /// The name of the configuration.
    pub fn config() -> Key {
        Key {
            area: Area::Config,
            name: String::new(),
        }
    }

    /// A name in an area; `None` when it breaks the rule for names.
    pub fn new(area: Area, name: impl fmt::Display) -> Option<Key> {
        let name = name.to_string();
        let fine = |c: u8| c.is_ascii_digit() || c.is_ascii_lowercase() || c == b'.' || c == b'-';
        let whole = !name.is_empty() && name.len() <= MAX_NAME && name.bytes().all(fine);
        // `.`, `..` and a pack's prefix of two dots would lead out of the area.
        let dots = name == "." || name.starts_with("..");
        (area != Area::Config && whole && !dots).then_some(Key { area, name })
    }

    /// The area.
    pub fn area(&self) -> Area {
        self.area
    }

    /// The name inside the area; empty for `config`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The path under the repository, with `/` between parts: `packs/ab/ab12…`.
    pub fn path(&self) -> String {
        let folder = self.area.folder();
        match self.area {
            Area::Config => folder.to_owned(),
            Area::Packs => {
                let prefix: String = self.name.chars().take(2).collect();
                format!("{folder}/{prefix}/{}", self.name)
            }
            _ => format!("{folder}/{}", self.name),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path())
    }
}

/// What a listing shows of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The name inside its area.
    pub name: String,
    /// Stored bytes.
    pub size: u64,
}

/// The answer to a put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// The object is stored, durable and visible to every reader.
    Created,
    /// The name was taken; nothing was changed.
    Exists,
}

/// What a backend was asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Reading an object or a range of it.
    Get,
    /// Storing an object.
    Put,
    /// Listing an area.
    List,
    /// Removing an object.
    Delete,
    /// Preparing the place for a new repository.
    Create,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Operation::Get => "reading",
            Operation::Put => "writing",
            Operation::List => "listing",
            Operation::Delete => "deleting",
            Operation::Create => "creating",
        })
    }
}

/// What kind of trouble a backend met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// No such object.
    Absent,
    /// No room left.
    Full,
    /// The place refuses this identity or this operation.
    Refused,
    /// A range reaches beyond the object's end.
    OutOfRange,
    /// Nobody knows whether it was carried out (the answer was lost).
    Unknown,
    /// Anything else.
    Other,
}

/// What is asked about the room that a place holds back for collectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reserve {
    /// Hold it back, all of it again, or as much as is due when packs take so many bytes.
    Keep(u64),
    /// Give up a part: there is no room left, and something must be written to make some.
    GiveUp,
    /// Give up all but the last part, with which the next collector can still begin: there is no
    /// room left, and something is to be copied to make some.
    Lend,
}

/// A backend's failure: what was asked, of which object, and whether asking again may help.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {key} failed{}", match .trouble {
    Trouble::Absent => ": no such object",
    Trouble::Full => ": no space left",
    Trouble::Refused => ": permission denied",
    Trouble::OutOfRange => ": the object is shorter than expected",
    Trouble::Unknown => ": no answer",
    Trouble::Other => "",
})]
pub struct BackendError {
    /// What was asked.
    pub operation: Operation,
    /// The object's path, or the area's folder.
    pub key: String,
    /// The kind of trouble.
    pub trouble: Trouble,
    /// Whether the same call may succeed later.
    pub retry: bool,
    /// What the system underneath said.
    #[source]
    pub source: Option<std::io::Error>,
}

impl BackendError {
    /// Whether it says only that the object does not exist.
    pub fn is_absent(&self) -> bool {
        self.trouble == Trouble::Absent
    }

    /// Whether the storage cannot give this object, or this part of it, back, and asking again is
    /// of no use: a disk with bad sectors says so. It may say the same when it fails as a whole.
    pub fn is_unreadable(&self) -> bool {
        (self.operation, self.trouble, self.retry) == (Operation::Get, Trouble::Other, false)
    }
}

/// A place for objects. All calls may come from several threads at once.
///
/// Requirements, checked by [`conformance`]: an object is visible whole or not at all; what was
/// acknowledged is seen by every later `get` and `list`; of several `put`s of one name exactly one
/// answers [`Put::Created`]; what lies under unknown names is not listed.
pub trait Backend: Send + Sync {
    /// Calls `each` once for every object of an area, in no particular order. An area that does
    /// not exist is empty.
    ///
    /// # Errors
    /// Any trouble but `Absent`. What was listed before the failure counts for nothing.
    fn list(&self, area: Area, each: &mut dyn FnMut(Listed)) -> Result<(), BackendError>;

    /// The whole object.
    ///
    /// # Errors
    /// `Absent` when there is none.
    fn get(&self, key: &Key) -> Result<Vec<u8>, BackendError>;

    /// `len` bytes from `offset` on.
    ///
    /// # Errors
    /// `Absent` when there is none, `OutOfRange` when the object ends before the range does.
    fn get_range(&self, key: &Key, offset: u64, len: u64) -> Result<Vec<u8>, BackendError>;

    /// Stores an object unless its name is taken.
    ///
    /// # Errors
    /// `Full` and `Refused` leave nothing behind; after `Unknown` the object may appear at any
    /// later time.
    fn put(&self, key: &Key, body: &Sealed) -> Result<Put, BackendError>;

    /// Removes an object; one that is not there is no error.
    ///
    /// # Errors
    /// After `Unknown` the object may vanish at any later time.
    fn delete(&self, key: &Key) -> Result<(), BackendError>;

    /// Where this is, for people and for the name of the local cache; no secrets.
    fn location(&self) -> String;

    /// Removes what interrupted puts of processes that are gone left behind out of sight.
    ///
    /// # Errors
    /// When something that could be removed was not.
    fn tidy(&self) -> Result<(), BackendError> {
        Ok(())
    }

    /// Holds room back for collectors, or gives some of it up. Answers whether there is room now
    /// that was not there before; a place that never fills up holds nothing back.
    ///
    /// # Errors
    /// `Full` when there is no room, and nothing is held back from before either.
    fn reserve(&self, wish: Reserve) -> Result<bool, BackendError> {
        let _ = wish;
        Ok(false)
    }
}

impl<B: Backend + ?Sized> Backend for std::sync::Arc<B> {
    fn list(&self, area: Area, each: &mut dyn FnMut(Listed)) -> Result<(), BackendError> {
        (**self).list(area, each)
    }
    fn get(&self, key: &Key) -> Result<Vec<u8>, BackendError> {
        (**self).get(key)
    }
    fn get_range(&self, key: &Key, offset: u64, len: u64) -> Result<Vec<u8>, BackendError> {
        (**self).get_range(key, offset, len)
    }
    fn put(&self, key: &Key, body: &Sealed) -> Result<Put, BackendError> {
        (**self).put(key, body)
    }
    fn delete(&self, key: &Key) -> Result<(), BackendError> {
        (**self).delete(key)
    }
    fn location(&self) -> String {
        (**self).location()
    }
    fn tidy(&self) -> Result<(), BackendError> {
        (**self).tidy()
    }
    fn reserve(&self, wish: Reserve) -> Result<bool, BackendError> {
        (**self).reserve(wish)
    }
}

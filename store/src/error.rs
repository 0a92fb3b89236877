//! Errors that any operation on a repository may meet.

use crate::backend::BackendError;
use crate::format::Malformed;
use crate::id::{ChunkId, PackId};
use crate::index::IndexError;

/// What can go wrong between an operation and the repository's objects. Operations wrap it in an
/// enum of their own where they add something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    /// The backend failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The local cache failed, and a new one did too.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// An object is not what its name and seal promise.
    #[error("{object} is damaged: {why}")]
    Damaged {
        /// The object's path in the repository.
        object: String,
        /// What is wrong with it.
        why: String,
    },
    /// A record is not what index and seal promise.
    #[error("a record of pack {pack:.8} at byte {offset} is damaged: {why}")]
    DamagedRecord {
        /// The pack.
        pack: PackId,
        /// Where the record starts.
        offset: u32,
        /// What is wrong with it.
        why: String,
    },
    /// No place of a chunk that is needed could be read.
    #[error(
        "chunk {chunk:.8} is missing or damaged{}",
        .why.as_ref().map(|w| format!(": {w}")).unwrap_or_default()
    )]
    LostChunk {
        /// The chunk.
        chunk: ChunkId,
        /// The last thing that was wrong, if it was found at all.
        why: Option<String>,
    },
    /// The storage answers, and cannot give back this object.
    #[error("{object} cannot be read: {why}")]
    CannotRead {
        /// The object.
        object: String,
        /// What the storage said.
        why: String,
    },
    /// A page holds what it must not.
    #[error("page {page:.8} is damaged: {why}")]
    DamagedPage {
        /// The page.
        page: ChunkId,
        /// What is wrong.
        why: &'static str,
    },
    /// So much cannot be read that no single object is to blame.
    #[error("{unreadable} of {all} {what} cannot be read ({why}): the storage itself fails")]
    StorageFails {
        /// What they are.
        what: &'static str,
        /// Those of which something cannot be read.
        unreadable: usize,
        /// All of them.
        all: usize,
        /// What the storage said of one of them.
        why: String,
    },
    /// A data key is needed that this process cannot unwrap.
    #[error("data key {0} is not available")]
    NoDataKey(crate::id::DataKeyId),
    /// A spool or cache file failed.
    #[error("a temporary file failed")]
    Spool(#[source] std::io::Error),
    /// Memory or disk returned other bytes than were written.
    #[error("a record read back differs from what was written: this machine's memory may be bad")]
    VerifyFailed,
    /// More bytes than a chunk may have.
    #[error("{0} bytes are more than a chunk may have")]
    TooLarge(usize),
    /// A name that must be fresh exists already.
    #[error("{0} exists already: names are never used twice")]
    NotFresh(String),
}

impl AccessError {
    /// Whether it says that the repository's own data is damaged or incomplete.
    pub fn is_damage(&self) -> bool {
        matches!(
            self,
            AccessError::Damaged { .. }
                | AccessError::CannotRead { .. }
                | AccessError::DamagedRecord { .. }
                | AccessError::LostChunk { .. }
                | AccessError::DamagedPage { .. }
        )
    }

    pub(crate) fn damaged(object: impl ToString, why: impl ToString) -> AccessError {
        AccessError::Damaged {
            object: object.to_string(),
            why: why.to_string(),
        }
    }
}

impl From<Malformed> for AccessError {
    fn from(bad: Malformed) -> Self {
        AccessError::Damaged {
            object: bad.0.to_owned(),
            why: "malformed".to_owned(),
        }
    }
}

//! Forgetting snapshots and taking that back (gc-protocol.md, "Forget and undelete").

use crate::backend::{Area, Put};
use crate::crypto::Kind;
use crate::error::AccessError;
use crate::format::objects::{Manifest, TrashMarker};
use crate::id::Uuid;
use crate::repository::{Repository, uuid_key};
use crate::snapshot::republish;
use crate::snapshots::SnapshotList;

/// Why a forgotten snapshot stays forgotten.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UndeleteError {
    /// It was taken back already.
    #[error("it is there already: it was taken back before")]
    Exists,
    /// gc has freed some of its data.
    #[error("gc has already freed some of its data")]
    Gone,
    /// The repository failed.
    #[error(transparent)]
    Access(#[from] AccessError),
}

/// Marks a snapshot as forgotten. The manifest stays until gc, the name for ever. Answers whether
/// this call marked it: another may have been first.
///
/// # Errors
/// When there was no answer; the marker may appear later.
pub fn forget(repository: &Repository, name: Uuid) -> Result<bool, AccessError> {
    let environment = repository.environment();
    let marker = TrashMarker {
        name,
        forgotten: environment.clock.now(),
        host: environment.process.host.clone(),
    };
    let put = repository.put_at_need(&uuid_key(Area::Trash, name), Kind::List, &marker.encode())?;
    Ok(put == Put::Created)
}

/// Commits a forgotten snapshot again under a new name, with what is gone stored again where a
/// copy is left. Its id, time and everything else stay; `origin` is the old name.
///
/// # Errors
/// [`UndeleteError::Gone`] when data is missing; nothing is committed then. Two calls at the same
/// moment may both commit: the same snapshot then stands twice, and can be forgotten once more.
pub fn undelete(repository: &Repository, manifest: &Manifest) -> Result<Manifest, UndeleteError> {
    let list = SnapshotList::read(repository)?;
    if list.committed.iter().any(|m| m.id == manifest.id) {
        return Err(UndeleteError::Exists);
    }
    republish::republish(repository, &again(manifest))?.ok_or(UndeleteError::Gone)
}

/// A manifest as it is committed once more.
pub(crate) fn again(manifest: &Manifest) -> Manifest {
    Manifest {
        origin: Some(manifest.name),
        ..manifest.clone()
    }
}

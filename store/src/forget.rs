//! Forgetting snapshots and taking that back (gc-protocol.md, "Forget and undelete").

use crate::backend::{Area, Put};
use crate::crypto::Kind;
use crate::error::AccessError;
use crate::format::objects::{Manifest, TrashMarker};
use crate::id::{SnapshotId, Uuid};
use crate::notes::Notes;
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

/// Why a snapshot was not forgotten.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ForgetError {
    /// Notes say that it stays.
    #[error("snapshot {0:.8} is protected")]
    Protected(SnapshotId),
    /// A note does not open: what it says of the snapshot nobody knows.
    #[error("{0}; it may protect what is to be forgotten")]
    Unknown(String),
    /// There was no answer; the marker may appear later.
    #[error(transparent)]
    Access(#[from] AccessError),
}

/// Forgets a snapshot, unless it is protected. The manifest stays until gc, the name for ever.
/// Answers whether this call marked it: another may have been first.
///
/// `notes` were read by this command; a protection that is said meanwhile comes too late, and
/// [`undelete`] takes the snapshot back.
///
/// # Errors
/// [`ForgetError::Protected`] and [`ForgetError::Unknown`]: then nothing was done.
pub fn forget(
    repository: &Repository,
    manifest: &Manifest,
    notes: &Notes,
) -> Result<bool, ForgetError> {
    if notes.is_protected(manifest.id) {
        return Err(ForgetError::Protected(manifest.id));
    }
    if let Some((name, why)) = notes.unreadable.first() {
        return Err(ForgetError::Unknown(format!("notes/{name} is lost: {why}")));
    }
    Ok(mark(repository, manifest.name)?)
}

/// Marks a name as forgotten, whatever is said of the snapshot: for those that are given up, whose
/// marker vanished, or of which nobody can tell what they were.
///
/// # Errors
/// When there was no answer; the marker may appear later.
pub(crate) fn mark(repository: &Repository, name: Uuid) -> Result<bool, AccessError> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Encryption;
    use crate::notes::{self, Fact};
    use crate::testing::{self, MapSource, new_repository};

    #[test]
    fn what_is_protected_stays_until_that_is_lifted() {
        let (_, repository) = new_repository(Encryption::None, 0);
        let manifest = testing::take(&repository, &mut MapSource::default()).manifest;
        let marked = || repository.list_uuids(Area::Trash).unwrap();
        let read = || Notes::read(&repository).unwrap();
        let say = |protected| {
            let snapshot = manifest.id;
            let fact = Fact::Protected {
                snapshot,
                protected,
            };
            notes::put(&repository, &read(), &[fact]).unwrap();
        };
        say(true);
        let refused = forget(&repository, &manifest, &read()).unwrap_err();
        assert!(matches!(refused, ForgetError::Protected(id) if id == manifest.id));
        assert!(marked().is_empty());
        say(false);
        assert!(forget(&repository, &manifest, &read()).unwrap());
        assert_eq!(marked(), [manifest.name]);
    }
}

//! Second copies of manifests and notes: what no other object could give back.
//!
//! A copy is put when its original is acknowledged. So a copy of a manifest that is missing, and of
//! which no marker speaks after that was seen, tells that the manifest was lost: whoever removes
//! one has put a marker before. Copies decide nothing that their originals would not decide. That
//! one cannot be put is no failure: the next gc makes it.

use std::collections::BTreeSet;

use crate::backend::{Area, Key};
use crate::crypto::Kind;
use crate::error::AccessError;
use crate::format::objects::{Manifest, SnapshotObject};
use crate::id::Uuid;
use crate::repository::{Repository, named_key, uuid_key};

/// Which originals have copies.
#[derive(Debug, Default)]
pub(crate) struct Copies {
    /// Names of manifests.
    pub snapshots: BTreeSet<Uuid>,
    /// Names of notes.
    pub notes: BTreeSet<Uuid>,
}

impl Copies {
    /// Lists all copies.
    pub fn list(repository: &Repository) -> Result<Copies, AccessError> {
        let mut copies = Copies::default();
        for name in repository.list_names(Area::Copies)? {
            match original(&name) {
                Some((Area::Snapshots, name)) => copies.snapshots.insert(name),
                Some((_, name)) => copies.notes.insert(name),
                None => false,
            };
        }
        Ok(copies)
    }
}

/// The name of the copy of `of/name`.
pub(crate) fn copy_key(of: Area, name: Uuid) -> Key {
    named_key(Area::Copies, format_args!("{}.{name}", of.folder()))
}

/// What an object under `copies/` is a copy of; `None` for what is none of ours.
pub(crate) fn original(name: &str) -> Option<(Area, Uuid)> {
    let (folder, name) = name.split_once('.')?;
    let area = [Area::Snapshots, Area::Notes]
        .into_iter()
        .find(|area| area.folder() == folder)?;
    Some((area, name.parse().ok()?))
}

/// Puts the copy of a manifest that is committed.
pub(crate) fn put_manifest(repository: &Repository, manifest: &Manifest) {
    let fields = SnapshotObject::Manifest(Box::new(manifest.clone())).encode();
    let key = copy_key(Area::Snapshots, manifest.name);
    let _ = repository.put_object(&key, Kind::Snapshot, &fields);
}

/// Puts the copy of a note that stands. Answers whether it is there.
pub(crate) fn put_note(repository: &Repository, name: Uuid, fields: &[u8]) -> bool {
    let key = copy_key(Area::Notes, name);
    repository.put_object(&key, Kind::Note, fields).is_ok()
}

/// Puts copies of those manifests and notes that have none.
pub(crate) fn complete(repository: &Repository, committed: &[Manifest]) -> Result<(), AccessError> {
    let copies = Copies::list(repository)?;
    // Forgotten meanwhile, and removed by this gc or another.
    let trash = repository.list_uuids(Area::Trash)?;
    let single = |m: &&Manifest| !copies.snapshots.contains(&m.name) && !trash.contains(&m.name);
    for manifest in committed.iter().filter(single) {
        put_manifest(repository, manifest);
    }
    for name in repository.list_uuids(Area::Notes)? {
        let key = uuid_key(Area::Notes, name);
        if !copies.notes.contains(&name)
            && let Ok(Some(fields)) = repository.get_object(&key, Kind::Note)
        {
            // The next gc tries again.
            let _ = put_note(repository, name, &fields);
        }
    }
    Ok(())
}

/// Deletes an object and its copy, the copy first: what an interruption leaves is no copy alone.
pub(crate) fn delete_both(
    repository: &Repository,
    of: Area,
    name: Uuid,
) -> Result<(), AccessError> {
    let backend = repository.backend();
    backend.delete(&copy_key(of, name))?;
    backend.delete(&named_key(of, name))?;
    Ok(())
}

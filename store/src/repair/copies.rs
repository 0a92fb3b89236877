//! Manifests and notes that are lost are put back from their copies, and copies from them.
//!
//! A manifest's name is never freed, and what it refers to may be condemned by now: it is committed
//! again as a writer would, under a new name (as undelete does), and the old name is marked.

use super::{Action, Lost};
use crate::backend::{Area, Key};
use crate::copies::{copy_key, original};
use crate::crypto::Kind;
use crate::error::AccessError;
use crate::format::note::Note;
use crate::format::objects::{Manifest, SnapshotObject};
use crate::id::Uuid;
use crate::repository::{Repository, uuid_key};
use crate::snapshots::{Flaw, SnapshotList};

/// What to do about copies that do not open.
pub(super) fn plan(
    repository: &Repository,
    lost: Lost,
    actions: &mut Vec<Action>,
) -> Result<(), AccessError> {
    for name in repository.list_names(Area::Copies)? {
        let Some((of, name)) = original(&name) else {
            continue;
        };
        let key = copy_key(of, name);
        let Some(why) = fault(repository, &key, of, name)? else {
            continue;
        };
        let own = uuid_key(of, name);
        let is_whole = fault(repository, &own, of, name)?.is_none();
        let stored = repository.get_stored(&own)?;
        match stored.filter(|body| is_whole && !body.is_empty()) {
            Some(body) => actions.push(put(key, why, body)),
            // What is lost so is told of the original.
            None if of == Area::Notes && lost == Lost::GiveUp => {
                let why = format!("{why}, as the note itself");
                actions.push(Action::Remove { key, why });
            }
            None => {}
        }
    }
    Ok(())
}

/// The note that a copy gives back; `None` when it is gone by now.
pub(super) fn put_back_note(
    repository: &Repository,
    name: Uuid,
    why: String,
) -> Result<Option<Action>, AccessError> {
    let copy = repository.get_stored(&copy_key(Area::Notes, name))?;
    let copy = copy.filter(|body| !body.is_empty());
    Ok(copy.map(|body| put(uuid_key(Area::Notes, name), why, body)))
}

/// How a manifest comes back that was read from its copy.
pub(super) fn put_back(manifest: &Manifest, flaw: &Flaw, list: &SnapshotList) -> Action {
    let (name, why) = (manifest.name, flaw.to_string());
    let is_same = |m: &&Manifest| m.id == manifest.id && m.name != name;
    match list.committed.iter().find(is_same) {
        // An interrupted repair has committed it.
        Some(other) if !list.flawed.contains_key(&other.name) => Action::Forget { name, why },
        _ => Action::Republish {
            manifest: Box::new(manifest.clone()),
            why,
        },
    }
}

fn put(key: Key, why: String, body: Vec<u8>) -> Action {
    Action::Put {
        key,
        why,
        body,
        safe: None,
    }
}

/// Why an object does not open; `None` when it does, or is not there.
fn fault(
    repository: &Repository,
    key: &Key,
    of: Area,
    name: Uuid,
) -> Result<Option<String>, AccessError> {
    let kind = match of {
        Area::Notes => Kind::Note,
        _ => Kind::Snapshot,
    };
    let fields = match repository.get_object(key, kind) {
        Ok(None) => return Ok(None),
        Ok(Some(fields)) => fields,
        Err(e) if e.is_damage() => return Ok(Some(e.to_string())),
        Err(e) => return Err(e),
    };
    let inner = match of {
        Area::Notes => Note::decode(&fields).map(|note| note.name),
        _ => match SnapshotObject::decode(&fields) {
            Ok(SnapshotObject::Manifest(manifest)) => Ok(manifest.name),
            Ok(_) => return Ok(Some("it is a tombstone".into())),
            Err(e) => Err(e),
        },
    };
    Ok(match inner {
        Ok(inner) if inner == name => None,
        Ok(_) => Some("it bears another name".into()),
        Err(e) => Some(e.to_string()),
    })
}

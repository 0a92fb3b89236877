//! Finding snapshots: listing, filtering, and what a user's words for one mean.

use std::collections::{BTreeMap, BTreeSet};

use crate::backend::Area;
use crate::clock::Timestamp;
use crate::crypto::Kind;
use crate::error::AccessError;
use crate::format::objects::{Manifest, SnapshotObject, TrashMarker};
use crate::id::Uuid;
use crate::repository::{Repository, uuid_key};
use crate::session::read_snapshot;

/// Every snapshot of a repository, from one listing.
#[derive(Debug, Clone, Default)]
pub struct SnapshotList {
    /// Committed and not forgotten, oldest first.
    pub committed: Vec<Manifest>,
    /// Forgotten, and still there until gc, oldest first.
    pub forgotten: Vec<Manifest>,
    /// Objects that do not open, with the reason. Their names are settled, never free.
    pub unreadable: Vec<(Uuid, String)>,
    /// Names with a tombstone.
    pub tombstones: BTreeSet<Uuid>,
    /// Names with a marker in `trash/`.
    pub trash: BTreeSet<Uuid>,
}

impl SnapshotList {
    /// Lists snapshots, then markers. A manifest that is removed meanwhile is left out.
    ///
    /// # Errors
    /// When the backend fails; objects that do not open are no error.
    pub fn read(repository: &Repository) -> Result<SnapshotList, AccessError> {
        let names = repository.list_uuids(Area::Snapshots)?;
        let trash: BTreeSet<Uuid> = repository.list_uuids(Area::Trash)?.into_iter().collect();
        let mut list = SnapshotList {
            trash,
            ..SnapshotList::default()
        };
        for name in names {
            match read_snapshot(repository, name) {
                Ok(None) => {}
                Ok(Some(SnapshotObject::Tombstone { .. })) => {
                    list.tombstones.insert(name);
                }
                Ok(Some(SnapshotObject::Manifest(m))) if list.trash.contains(&name) => {
                    list.forgotten.push(*m);
                }
                Ok(Some(SnapshotObject::Manifest(m))) => list.committed.push(*m),
                // One that is marked needs nothing any more.
                Err(e) if e.is_damage() && list.trash.contains(&name) => {}
                Err(e) if e.is_damage() => list.unreadable.push((name, e.to_string())),
                Err(e) => return Err(e),
            }
        }
        list.committed.sort_by_key(|m| (m.time, m.name));
        list.forgotten.sort_by_key(|m| (m.time, m.name));
        Ok(list)
    }

    /// Whether a name is settled: a manifest, a tombstone or a marker stands for it.
    pub fn is_settled(&self, name: Uuid) -> bool {
        self.trash.contains(&name)
            || self.tombstones.contains(&name)
            || self.committed.iter().any(|m| m.name == name)
            || self.forgotten.iter().any(|m| m.name == name)
            || self.unreadable.iter().any(|(n, _)| *n == name)
    }
}

/// When snapshots were forgotten, by name.
///
/// # Errors
/// When the backend fails; markers that do not open are left out.
pub fn read_markers(repository: &Repository) -> Result<BTreeMap<Uuid, TrashMarker>, AccessError> {
    let mut markers = BTreeMap::new();
    for name in repository.list_uuids(Area::Trash)? {
        let key = uuid_key(Area::Trash, name);
        let Ok(Some(fields)) = repository.get_object(&key, Kind::List) else {
            continue;
        };
        if let Ok(marker) = TrashMarker::decode(&fields) {
            markers.insert(name, marker);
        }
    }
    Ok(markers)
}

/// Which snapshots are meant.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only these hosts; empty: all.
    pub hosts: Vec<String>,
    /// Only snapshots that have all tags of one of these sets; empty: all. The empty set stands for
    /// snapshots without tags.
    pub tags: Vec<Vec<String>>,
    /// Only snapshots whose paths include all of these; empty: all.
    pub paths: Vec<Vec<u8>>,
}

impl Filter {
    /// Whether it lets a snapshot pass.
    pub fn matches(&self, manifest: &Manifest) -> bool {
        let all_tags = |set: &Vec<String>| match set.is_empty() {
            true => manifest.tags.is_empty(),
            false => set.iter().all(|t| manifest.tags.contains(t)),
        };
        (self.hosts.is_empty() || self.hosts.contains(&manifest.host))
            && (self.tags.is_empty() || self.tags.iter().any(all_tags))
            && self.paths.iter().all(|p| manifest.paths.contains(p))
    }
}

/// A user's word for one snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// The start of an id.
    Prefix(String),
    /// The newest, or so many before it: `latest~2`.
    Latest(usize),
    /// The newest that is not after this time.
    NotAfter(Timestamp),
}

/// Why a selector names no snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    /// None matches.
    #[error("no snapshot matches \"{0}\"")]
    NotFound(String),
    /// Several begin so.
    #[error("several snapshots begin with \"{0}\": {1}")]
    Ambiguous(String, String),
}

/// Resolves a selector among snapshots sorted by time, partial ones left out of `latest` and dates.
///
/// # Errors
/// When no snapshot, or more than one, is meant.
pub fn select<'m>(
    snapshots: &'m [Manifest],
    selector: &Selector,
    typed: &str,
) -> Result<&'m Manifest, SelectError> {
    let missing = || SelectError::NotFound(typed.to_owned());
    let mut whole = snapshots.iter().rev().filter(|m| !m.partial);
    match selector {
        Selector::Latest(back) => whole.nth(*back).ok_or_else(missing),
        Selector::NotAfter(time) => whole.find(|m| m.time <= *time).ok_or_else(missing),
        Selector::Prefix(prefix) => {
            let begins = |m: &&Manifest| m.id.to_string().starts_with(prefix.as_str());
            let found: Vec<&Manifest> = snapshots.iter().filter(begins).collect();
            match found.as_slice() {
                [] => Err(missing()),
                [one] => Ok(one),
                many => {
                    let ids: Vec<String> = many.iter().map(|m| format!("{:.12}", m.id)).collect();
                    Err(SelectError::Ambiguous(typed.to_owned(), ids.join(", ")))
                }
            }
        }
    }
}

//! Finding snapshots: listing, filtering, and what a user's words for one mean.

use std::collections::{BTreeMap, BTreeSet};

use crate::backend::Area;
use crate::clock::Timestamp;
use crate::copies::Copies;
use crate::crypto::Kind;
use crate::error::AccessError;
use crate::format::objects::{Manifest, SnapshotObject, TrashMarker};
use crate::id::{SnapshotId, Uuid};
use crate::repository::{Repository, uuid_key};
use crate::session::{read_copy, read_snapshot};

/// What is wrong with a manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// It does not open, for this reason.
    #[error("{0}")]
    Damaged(String),
    /// It is not there, and was never removed.
    #[error("it is missing")]
    Missing,
}

/// A name, and which listings have it.
struct Listed {
    name: Uuid,
    /// That of `snapshots/`.
    itself: bool,
    /// That of `copies/`.
    copy: bool,
}

/// Every snapshot of a repository, from one listing.
#[derive(Debug, Clone, Default)]
pub struct SnapshotList {
    /// Committed and not forgotten, oldest first.
    pub committed: Vec<Manifest>,
    /// Forgotten, and still there until gc, oldest first.
    pub forgotten: Vec<Manifest>,
    /// Manifests that are lost, and were read from their copies: they stand among the others,
    /// forgotten ones too.
    pub flawed: BTreeMap<Uuid, Flaw>,
    /// Manifests that stand, and that the listing did not name.
    pub unlisted: BTreeSet<Uuid>,
    /// Objects that do not open and have no copy that does, with the reason. Their names are
    /// settled, never free.
    pub unreadable: Vec<(Uuid, String)>,
    /// How many objects the storage cannot give back, of those above.
    pub unread: usize,
    /// Names with a tombstone.
    pub tombstones: BTreeSet<Uuid>,
    /// Names with a marker in `trash/`.
    pub trash: BTreeSet<Uuid>,
}

impl SnapshotList {
    /// Lists snapshots, their copies, then markers. A manifest that is removed meanwhile is left
    /// out; one that is lost is read from its copy.
    ///
    /// # Errors
    /// When the backend fails; objects that do not open are no error.
    pub fn read(repository: &Repository) -> Result<SnapshotList, AccessError> {
        let names = repository.list_uuids(Area::Snapshots)?;
        let copies = Copies::list(repository)?.snapshots;
        let trash: BTreeSet<Uuid> = repository.list_uuids(Area::Trash)?.into_iter().collect();
        let mut list = SnapshotList {
            trash,
            ..SnapshotList::default()
        };
        let listed: BTreeSet<Uuid> = names.into_iter().collect();
        for name in listed.union(&copies) {
            let seen = Listed {
                name: *name,
                itself: listed.contains(name),
                copy: copies.contains(name),
            };
            list.add(repository, seen)?;
        }
        list.committed.sort_by_key(|m| (m.time, m.name));
        list.forgotten.sort_by_key(|m| (m.time, m.name));
        Ok(list)
    }

    /// What stands at a name.
    fn add(&mut self, repository: &Repository, seen: Listed) -> Result<(), AccessError> {
        let name = seen.name;
        match read_snapshot(repository, name) {
            Ok(Some(SnapshotObject::Manifest(m))) => {
                if !seen.itself {
                    // Committed between the listings, or the first one was short.
                    self.unlisted.insert(name);
                }
                self.add_manifest(*m);
            }
            Ok(Some(SnapshotObject::Tombstone { .. })) if !seen.copy => {
                self.tombstones.insert(name);
            }
            // A copy is of what was committed: whoever removed it has put a marker before. A
            // tombstone came over the lost one while its session still stood.
            Ok(_) if seen.copy => {
                if self.trash.contains(&name) || !is_marked(repository, name)? {
                    match read_copy(repository, name) {
                        Ok(None) => {}
                        copy => self.lost(name, Flaw::Missing, whole(copy)?),
                    }
                }
            }
            Ok(_) => {}
            Err(e) if e.is_damage() => {
                self.unread += usize::from(matches!(e, AccessError::CannotRead { .. }));
                let copy = match seen.copy {
                    true => whole(read_copy(repository, name))?,
                    false => None,
                };
                self.lost(name, Flaw::Damaged(e.to_string()), copy);
            }
            Err(e) => return Err(e),
        }
        Ok(())
    }

    fn add_manifest(&mut self, manifest: Manifest) {
        match self.trash.contains(&manifest.name) {
            true => self.forgotten.push(manifest),
            false => self.committed.push(manifest),
        }
    }

    fn lost(&mut self, name: Uuid, flaw: Flaw, copy: Option<Box<Manifest>>) {
        match copy {
            Some(manifest) => {
                self.flawed.insert(name, flaw);
                self.add_manifest(*manifest);
            }
            // One that is marked needs nothing any more.
            None if self.trash.contains(&name) => {}
            None => self.unreadable.push((name, flaw.to_string())),
        }
    }

    /// Whether a snapshot of this id is there, forgotten or not; or may be, in an object that does
    /// not open.
    pub fn stands(&self, id: SnapshotId) -> bool {
        let mut all = self.committed.iter().chain(&self.forgotten);
        !self.unreadable.is_empty() || all.any(|m| m.id == id)
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

/// Whether a snapshot is marked by now.
pub(crate) fn is_marked(repository: &Repository, name: Uuid) -> Result<bool, AccessError> {
    Ok(repository
        .get_stored(&uuid_key(Area::Trash, name))?
        .is_some())
}

/// What a copy gives, if it opens.
fn whole(
    copy: Result<Option<Box<Manifest>>, AccessError>,
) -> Result<Option<Box<Manifest>>, AccessError> {
    match copy {
        Err(e) if e.is_damage() => Ok(None),
        copy => copy,
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

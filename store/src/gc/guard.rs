//! What stops a collector: names that only grow and do not, and plans that take too much.

use std::collections::BTreeSet;

use super::GcError;
use super::mark::Plan;
use crate::backend::Area;
use crate::error::AccessError;
use crate::id::{PackId, Uuid};
use crate::pack::is_there;
use crate::repository::Repository;
use crate::snapshots::{Flaw, SnapshotList};

/// Where this machine keeps the names that it has seen.
const SEEN: &str = "seen";
const SNAPSHOT: u8 = 1;
const MARKER: u8 = 2;

/// Writes down the snapshot names and markers of a listing, for a later collector on this machine.
pub(crate) fn remember(repository: &Repository, list: &SnapshotList) {
    let mut seen = load(repository);
    let before = seen.len();
    let names = list.committed.iter().chain(&list.forgotten).map(|m| m.name);
    seen.extend(names.map(|name| (SNAPSHOT, name)));
    seen.extend(list.tombstones.iter().map(|name| (SNAPSHOT, *name)));
    seen.extend(list.trash.iter().map(|name| (MARKER, *name)));
    if seen.len() != before {
        let mut bytes = Vec::with_capacity(seen.len() * 17);
        for (kind, name) in &seen {
            bytes.push(*kind);
            bytes.extend_from_slice(&name.0);
        }
        repository.environment().state.store(SEEN, &bytes);
    }
}

fn load(repository: &Repository) -> BTreeSet<(u8, Uuid)> {
    let bytes = repository
        .environment()
        .state
        .load(SEEN)
        .unwrap_or_default();
    bytes
        .as_chunks::<17>()
        .0
        .iter()
        .map(|[kind, name @ ..]| (*kind, Uuid(*name)))
        .collect()
}

/// The names of snapshots and markers that this machine has seen.
pub(crate) struct Seen(BTreeSet<(u8, Uuid)>);

impl Seen {
    /// To be loaded before snapshots are listed: what another process here sees and notes in
    /// between is no loss.
    pub fn load(repository: &Repository) -> Seen {
        Seen(load(repository))
    }

    /// What is not listed any more, and never goes: markers, and snapshots that nobody marked.
    pub fn missing(&self, list: &SnapshotList) -> Vec<(Area, Uuid)> {
        let missing = |(kind, name): &(u8, Uuid)| match *kind {
            MARKER => (!list.trash.contains(name)).then_some((Area::Trash, *name)),
            // gc itself removes manifests that are marked.
            _ => (!list.is_settled(*name) || list.unlisted.contains(name))
                .then_some((Area::Snapshots, *name)),
        };
        self.0.iter().filter_map(missing).collect()
    }
}

/// Lists snapshots. Stops when the storage does not list what this machine had seen before.
pub(super) fn list(repository: &Repository) -> Result<SnapshotList, GcError> {
    let seen = Seen::load(repository);
    let list = SnapshotList::read(repository)?;
    if let Some((area, name)) = seen.missing(&list).first() {
        let what = match area {
            Area::Trash => "marker",
            _ => "snapshot",
        };
        return Err(GcError::ListingShrank(format!("{what} {name}")));
    }
    let mut flawed = list.flawed.iter();
    let missing =
        |(name, flaw): &(&Uuid, &Flaw)| **flaw == Flaw::Missing && !list.trash.contains(name);
    if let Some((name, _)) = flawed.find(missing) {
        return Err(GcError::MissingSnapshot(*name));
    }
    remember(repository, &list);
    Ok(list)
}

/// Stops when a pack stands that the storage does not list.
pub(super) fn absent(repository: &Repository, pack: &PackId) -> Result<(), GcError> {
    match is_there(repository.backend(), pack)? {
        true => Err(GcError::ListingShrank(format!("pack {pack}"))),
        false => Ok(()),
    }
}

/// Makes the index ready for gc. Stops when a segment does not open: what stands in it is unknown.
pub(super) fn settle_index(repository: &Repository) -> Result<(), GcError> {
    repository.index().settle(&repository.segments())?;
    match repository.index().damaged().into_iter().next() {
        None => Ok(()),
        Some((id, why)) => Err(AccessError::damaged(format_args!("index/{id}"), why).into()),
    }
}

/// Stops when over half of the bytes would go. Bytes of writers that were given up or fenced do not
/// count: nobody has ever relied on them.
pub(super) fn half(plan: &Plan, force: bool) -> Result<(), GcError> {
    let counted = plan.would_free.saturating_sub(plan.given_up);
    let total = plan.total.saturating_sub(plan.given_up);
    if force || counted <= total / 2 {
        return Ok(());
    }
    Err(GcError::TooMuch {
        would_free: plan.would_free,
        total: plan.total,
    })
}

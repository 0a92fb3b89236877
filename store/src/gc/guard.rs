//! What stops a collector: names that only grow and do not, and plans that take too much.

use std::collections::BTreeSet;

use super::GcError;
use super::mark::Plan;
use crate::id::Uuid;
use crate::repository::Repository;
use crate::snapshots::SnapshotList;

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

/// Stops when the storage does not list what this machine has seen, or a snapshot does not open and
/// nobody knows what it needs.
pub(super) fn check(repository: &Repository, list: &SnapshotList) -> Result<(), GcError> {
    let seen = load(repository);
    if missing(&seen, list).is_some() {
        // Another process may have put it, and written down that it saw it, after `list` was read:
        // only a listing that begins after `seen` was read can tell.
        let again = SnapshotList::read(repository)?;
        if let Some(what) = missing(&seen, &again) {
            return Err(GcError::ListingShrank(what));
        }
    }
    remember(repository, list);
    Ok(())
}

/// The first name that was seen and is not listed.
fn missing(seen: &BTreeSet<(u8, Uuid)>, list: &SnapshotList) -> Option<String> {
    let listed = |kind, name: Uuid| match kind {
        MARKER => list.trash.contains(&name),
        // gc itself removes manifests that are marked.
        _ => list.is_settled(name),
    };
    let (kind, name) = seen.iter().find(|(kind, name)| !listed(*kind, *name))?;
    let what = if *kind == MARKER {
        "marker"
    } else {
        "snapshot"
    };
    Some(format!("{what} {name}"))
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

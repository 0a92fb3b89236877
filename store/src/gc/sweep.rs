//! Sweeping: verifying that every committed snapshot does without the condemned packs, then
//! deleting them (gc-protocol.md, sweep steps 6 to 13).

use std::collections::BTreeSet;

use super::reach::Reach;
use super::{GcError, copy, guard};
use crate::backend::Area;
use crate::error::AccessError;
use crate::format::objects::Manifest;
use crate::id::{ChunkId, PackId, Uuid};
use crate::monitor::Monitor;
use crate::pack::pack_key;
use crate::reader::Reader;
use crate::record::World;
use crate::repository::{Repository, named_key, uuid_key};
use crate::session::Session;
use crate::snapshots::SnapshotList;
use crate::view::{View, list_packs};

/// Chunks that are looked at in one go.
const SCAN: usize = 4096;
/// Chunks that are copied in one round; the rest follows in the next.
const RESCUE: usize = 65_536;

/// What a sweep did.
#[derive(Debug, Default)]
pub(super) struct Swept {
    pub packs: u64,
    pub bytes: u64,
    pub copied: u64,
    pub manifests: u64,
}

/// Proof that every chunk of every committed snapshot was usable in a view without condemned packs,
/// read after all writers that the lists wait for were settled. Only [`verify`] makes one, and only
/// with one are packs deleted.
struct Verified {
    condemned: BTreeSet<PackId>,
}

/// Sweeps lists whose writers are all settled.
pub(super) fn sweep(
    session: &Session<'_>,
    lists: &[Uuid],
    monitor: &dyn Monitor,
) -> Result<Swept, GcError> {
    let repository = session.repository();
    let mut swept = Swept::default();
    let listed = list_packs(repository)?;
    let standing = crate::view::read_lists(repository)?;
    let mine = || standing.iter().filter(|l| lists.contains(&l.name));
    if mine().any(|l| l.packs.iter().any(|p| listed.contains_key(p))) {
        let verified = verify(session, lists, monitor, &mut swept)?;
        for pack in &verified.condemned {
            if let Some(size) = listed.get(pack) {
                repository
                    .backend()
                    .delete(&pack_key(pack)?)
                    .map_err(AccessError::from)?;
                swept.packs += 1;
                swept.bytes += size;
            }
        }
    }
    // Step 12: a DELETE may have been lost, so a list goes only after a listing.
    let left = list_packs(repository)?;
    for list in mine().filter(|l| !l.packs.iter().any(|p| left.contains_key(p))) {
        retire(repository, list.name)?;
    }
    swept.manifests = remove_manifests(repository)?;
    Ok(swept)
}

fn retire(repository: &Repository, list: Uuid) -> Result<(), AccessError> {
    repository
        .backend()
        .delete(&named_key(Area::Gc, format_args!("{list}.open")))?;
    repository.backend().delete(&uuid_key(Area::Gc, list))?;
    Ok(())
}

/// Steps 6 to 10.
fn verify(
    session: &Session<'_>,
    lists: &[Uuid],
    _monitor: &dyn Monitor,
    swept: &mut Swept,
) -> Result<Verified, GcError> {
    let repository = session.repository();
    let mut lost_before = false;
    loop {
        let snapshots = SnapshotList::read(repository)?;
        guard::check(repository, &snapshots)?;
        let reader = Reader::new(repository);
        repository.index().settle(&repository.segments())?;
        let reach = Reach::of(
            repository,
            &reader,
            &snapshots.committed,
            &snapshots.unreadable,
        )?;
        match save_all(session, &reader, &reach, lists, swept) {
            Ok(verified) => return Ok(verified),
            // Its snapshot may have been forgotten, or another collector has moved it.
            Err(AccessError::LostChunk { chunk, .. }) => {
                let now = SnapshotList::read(repository)?;
                let stands = |m: &Manifest| now.committed.iter().any(|n| n.name == m.name);
                let stand = snapshots.committed.iter().all(stands);
                if stand && lost_before {
                    return Err(GcError::Damaged {
                        chunks: vec![format!("{chunk:.12}")],
                    });
                }
                lost_before = stand;
            }
            Err(e) => return Err(e.into()),
        }
    }
}

/// Steps 7 to 10, until nothing needs to be copied.
fn save_all(
    session: &Session<'_>,
    reader: &Reader<'_>,
    reach: &Reach,
    lists: &[Uuid],
    swept: &mut Swept,
) -> Result<Verified, AccessError> {
    let repository = session.repository();
    loop {
        let view = session.view()?;
        #[cfg(test)]
        if crate::holes::is_open(crate::holes::Hole::NoVerify) {
            return Ok(verified(&view, lists));
        }
        let mut unusable: Vec<(World, ChunkId)> = reach
            .missing
            .iter()
            .map(|(world, id, _)| (*world, *id))
            .collect();
        let mut known = Vec::new();
        for (world, id) in unusable.drain(..) {
            if view.usable(&id)?.is_none() {
                known.push((world, id));
            }
        }
        let stale = repository
            .index()
            .stable_generation(&repository.segments())?
            != reach.generation;
        if stale {
            // The numbers of the reference sets mean nothing any more: begin again.
            return Err(AccessError::LostChunk {
                chunk: ChunkId([0; 32]),
                why: None,
            });
        }
        unusable_of(repository, &view, reach, &mut known)?;
        if known.is_empty() {
            return Ok(verified(&view, lists));
        }
        swept.copied += copy::rescue(session, view, reader, &known)?;
    }
}

fn verified(view: &View<'_>, lists: &[Uuid]) -> Verified {
    let packs = lists
        .iter()
        .filter_map(|name| view.list(*name))
        .flat_map(|l| l.packs.iter());
    Verified {
        condemned: packs.copied().collect(),
    }
}

/// Chunks of R that are not usable in the view.
fn unusable_of(
    repository: &Repository,
    view: &View<'_>,
    reach: &Reach,
    unusable: &mut Vec<(World, ChunkId)>,
) -> Result<(), AccessError> {
    let mut after: Option<ChunkId> = None;
    while unusable.len() < RESCUE {
        let batch = repository
            .index()
            .scan(&repository.segments(), after.as_ref(), SCAN)?;
        let Some(last) = batch.last() else { break };
        after = Some(last.id);
        for found in batch.iter().filter(|f| reach.chunks.contains(f.number)) {
            if view.usable_of(found)?.is_none() {
                unusable.push((copy::world_of(repository, found)?, found.id));
            }
        }
    }
    Ok(())
}

/// Step 13: removes manifests that are marked; the markers stay.
pub(super) fn remove_manifests(repository: &Repository) -> Result<u64, AccessError> {
    let trash: BTreeSet<Uuid> = repository.list_uuids(Area::Trash)?.into_iter().collect();
    let mut removed = 0;
    for name in repository.list_uuids(Area::Snapshots)? {
        if trash.contains(&name) && !is_tombstone(repository, name) {
            repository
                .backend()
                .delete(&uuid_key(Area::Snapshots, name))?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Tombstones are never deleted.
fn is_tombstone(repository: &Repository, name: Uuid) -> bool {
    matches!(
        crate::session::read_snapshot(repository, name),
        Ok(Some(
            crate::format::objects::SnapshotObject::Tombstone { .. }
        ))
    )
}

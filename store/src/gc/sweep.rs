//! Sweeping: verifying that every committed snapshot does without the condemned packs, then
//! deleting them (gc-protocol.md, sweep steps 6 to 13).

use std::collections::BTreeSet;

use super::reach::Reach;
use super::{GcError, copy, guard};
use crate::backend::Area;
use crate::crypto::Kind;
use crate::error::AccessError;
use crate::format::objects::Manifest;
use crate::id::{ChunkId, PackId, Uuid};
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
    /// The snapshots of R.
    committed: BTreeSet<Uuid>,
}

/// How a round of steps 7 to 10 ended.
enum Round {
    /// Everything is usable; these packs may go.
    Verified(BTreeSet<PackId>),
    /// The index was made anew: the numbers of R mean nothing any more.
    Renumbered,
}

/// Sweeps lists whose writers are all settled.
pub(super) fn sweep(session: &Session<'_>, lists: &[Uuid]) -> Result<Swept, GcError> {
    let repository = session.repository();
    let mut swept = Swept::default();
    let mut committed = None;
    let listed = list_packs(repository)?;
    let standing = crate::view::read_lists(repository)?;
    let mine = || standing.iter().filter(|l| lists.contains(&l.name));
    if mine().any(|l| l.packs.iter().any(|p| listed.contains_key(p))) {
        let verified = verify(session, lists, &mut swept)?;
        committed = Some(verified.committed);
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
        // Those that were never listed here were deleted by others, or a listing is short: a list
        // that goes too early would give condemned packs back.
        for pack in list.packs.iter().filter(|p| !listed.contains_key(*p)) {
            guard::absent(repository, pack)?;
        }
        retire(repository, list.name)?;
    }
    if let Some(committed) = committed {
        swept.manifests = remove_manifests(repository, &committed)?;
    }
    Ok(swept)
}

fn retire(repository: &Repository, list: Uuid) -> Result<(), AccessError> {
    repository
        .backend()
        .delete(&named_key(Area::Gc, format_args!("{list}.open")))?;
    repository.backend().delete(&uuid_key(Area::Gc, list))?;
    Ok(())
}

/// Removes what two sweepers of one list can leave: the slower found no `gc/<l>.open`, and put one
/// after the faster had retired the list. A list is put before its `.open` and its name never comes
/// again, so an `.open` whose list is absent belongs to nobody; a sweeper that still holds it finds
/// none of its packs.
pub(super) fn remove_orphans(repository: &Repository) -> Result<(), AccessError> {
    for name in repository.list_names(Area::Gc)? {
        let list = name
            .strip_suffix(".open")
            .and_then(|l| l.parse::<Uuid>().ok());
        let Some(list) = list else {
            continue;
        };
        if repository
            .get_object(&uuid_key(Area::Gc, list), Kind::List)?
            .is_none()
        {
            let key = named_key(Area::Gc, &name);
            repository.backend().delete(&key)?;
        }
    }
    Ok(())
}

/// Steps 6 to 10.
fn verify(session: &Session<'_>, lists: &[Uuid], swept: &mut Swept) -> Result<Verified, GcError> {
    let repository = session.repository();
    let mut lost_before = false;
    loop {
        let snapshots = guard::list(repository)?;
        guard::settle_index(repository)?;
        let reader = Reader::new(repository);
        let Some(reach) = Reach::of(
            repository,
            &reader,
            &snapshots.committed,
            &snapshots.unreadable,
        )?
        else {
            continue;
        };
        reach.stop_if_too_many_missing()?;
        match save_all(session, &reader, &reach, lists, swept) {
            Ok(Round::Verified(condemned)) => {
                let committed = snapshots.committed.iter().map(|m| m.name).collect();
                return Ok(Verified {
                    condemned,
                    committed,
                });
            }
            Ok(Round::Renumbered) => {}
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
) -> Result<Round, AccessError> {
    let repository = session.repository();
    loop {
        let view = session.view()?;
        #[cfg(test)]
        if crate::holes::is_open(crate::holes::Hole::NoVerify) {
            return Ok(Round::Verified(condemned_by(&view, lists)));
        }
        let mut unusable = Vec::new();
        for (world, id, _) in &reach.missing {
            if view.usable(id)?.is_none() {
                unusable.push((*world, *id));
            }
        }
        unusable_of(repository, &view, reach, &mut unusable)?;
        // Asked after the pass: a cache that failed in its middle gave other numbers to the rest.
        let segments = repository.segments();
        if repository.index().stable_generation(&segments)? != reach.generation {
            return Ok(Round::Renumbered);
        }
        if unusable.is_empty() {
            return Ok(Round::Verified(condemned_by(&view, lists)));
        }
        swept.copied += copy::rescue(session, view, reader, &unusable)?;
    }
}

fn condemned_by(view: &View<'_>, lists: &[Uuid]) -> BTreeSet<PackId> {
    let packs = lists
        .iter()
        .filter_map(|name| view.list(*name))
        .flat_map(|l| l.packs.iter());
    packs.copied().collect()
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

/// Step 13: removes manifests that are marked and were not in R; the markers stay.
pub(super) fn remove_manifests(
    repository: &Repository,
    committed: &BTreeSet<Uuid>,
) -> Result<u64, AccessError> {
    let trash: BTreeSet<Uuid> = repository.list_uuids(Area::Trash)?.into_iter().collect();
    let mut removed = 0;
    for name in repository.list_uuids(Area::Snapshots)? {
        if trash.contains(&name) && !committed.contains(&name) && !is_tombstone(repository, name) {
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

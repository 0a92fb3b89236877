//! Sweeping: verifying that every committed snapshot does without the condemned packs, then
//! deleting them (gc-protocol.md, sweep steps 6 to 13).

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::reach::{Reach, is_readable};
use super::{GcError, copy, guard};
use crate::backend::Area;
use crate::copies::{Copies, copy_key, delete_both};
use crate::crypto::Kind;
use crate::error::AccessError;
use crate::format::objects::{GcList, Manifest, SnapshotObject};
use crate::id::{ChunkId, PackId, Uuid};
use crate::pack::pack_key;
use crate::reader::Reader;
use crate::record::World;
use crate::repository::{Repository, named_key, uuid_key};
use crate::session::{Session, read_snapshot};
use crate::snapshots::SnapshotList;
use crate::view::{View, known_lost, list_packs, read_lists};

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
    /// Chunks of R that no pack gives back, as repair has found before.
    pub lost: u64,
    /// Packs that stay because of these, with stored sizes.
    pub held: BTreeMap<PackId, u64>,
}

/// Proof that every chunk of every committed snapshot was usable in a view without condemned packs,
/// read after all writers that the lists wait for were settled, but for chunks that repair found
/// lost and that still no pack gives back. Only [`verify`] makes one, and only with one are packs
/// deleted.
struct Verified {
    cleared: Cleared,
    /// The snapshots of R.
    committed: BTreeSet<Uuid>,
}

/// What a verification clears.
#[derive(Default)]
struct Cleared {
    /// Packs that may go.
    packs: BTreeSet<PackId>,
    /// Lists that stay, for the sake of chunks that are lost.
    held: BTreeSet<Uuid>,
    /// How many are lost.
    lost: u64,
}

/// How a round of steps 7 to 10 ended.
enum Round {
    /// Everything is usable that can be.
    Verified(Cleared),
    /// The index was made anew: the numbers of R mean nothing any more.
    Renumbered,
}

/// Sweeps lists whose writers are all settled.
pub(super) fn sweep(session: &Session<'_>, lists: &[Uuid]) -> Result<Swept, GcError> {
    let repository = session.repository();
    let mut swept = Swept::default();
    let mut committed = None;
    let listed = list_packs(repository)?;
    let standing = read_lists(repository)?;
    let mine = || standing.iter().filter(|l| lists.contains(&l.name));
    let mut held = BTreeSet::new();
    let has_packs = |l: &GcList| l.packs.iter().any(|p| listed.contains_key(p));
    if mine().any(|l| has_packs(l) || !l.lost.is_empty()) {
        let verified = verify(session, lists, &mut swept)?;
        committed = Some(verified.committed);
        let cleared = verified.cleared;
        (held, swept.lost) = (cleared.held, cleared.lost);
        for list in mine().filter(|l| held.contains(&l.name)) {
            let standing = list
                .packs
                .iter()
                .filter_map(|p| Some((*p, *listed.get(p)?)));
            swept.held.extend(standing);
        }
        for pack in &cleared.packs {
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
    let is_done =
        |l: &&GcList| !held.contains(&l.name) && !l.packs.iter().any(|p| left.contains_key(p));
    for list in mine().filter(is_done) {
        // Those that were never listed here were deleted by others, or a listing is short: a list
        // that goes too early would give condemned packs back.
        for pack in list.packs.iter().filter(|p| !listed.contains_key(*p)) {
            guard::absent(repository, pack)?;
        }
        // What a list covers has none but its packs.
        for name in list.covers.iter().chain([&list.name]) {
            retire(repository, *name)?;
        }
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
    let known = known_lost(&read_lists(repository)?);
    loop {
        let snapshots = guard::list(repository)?;
        guard::settle_index(repository)?;
        let reader = Reader::new(repository);
        let Some(reach) = Reach::of(repository, &reader, &snapshots, &known)? else {
            continue;
        };
        reach.stop_if_too_many_missing()?;
        match save_all(session, &reader, &reach, &known, lists, swept) {
            Ok(Round::Verified(cleared)) => {
                let committed = snapshots.committed.iter().map(|m| m.name).collect();
                return Ok(Verified { cleared, committed });
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
    known: &HashSet<ChunkId>,
    lists: &[Uuid],
    swept: &mut Swept,
) -> Result<Round, AccessError> {
    let repository = session.repository();
    let mut lost: BTreeSet<ChunkId> = BTreeSet::new();
    loop {
        let view = session.view()?;
        #[cfg(test)]
        if crate::holes::is_open(crate::holes::Hole::NoVerify) {
            return clear(repository, &view, &lost, lists).map(Round::Verified);
        }
        let mut unusable = Vec::new();
        let nowhere = reach.missing.iter().map(|(world, id, _)| (*world, *id));
        for (world, id) in nowhere.chain(reach.lost.iter().copied()) {
            if !lost.contains(&id) && view.usable(&id)?.is_none() {
                unusable.push((world, id));
            }
        }
        unusable_of(repository, &view, reach, &lost, &mut unusable)?;
        // Asked after the pass: a cache that failed in its middle gave other numbers to the rest.
        let segments = repository.segments();
        if repository.index().stable_generation(&segments)? != reach.generation {
            return Ok(Round::Renumbered);
        }
        if unusable.is_empty() {
            return clear(repository, &view, &lost, lists).map(Round::Verified);
        }
        // One page may be missing in many snapshots.
        unusable.sort_unstable();
        unusable.dedup();
        let mut rescue = Vec::new();
        for (world, id) in unusable {
            if known.contains(&id) && !is_readable(reader, world, &id)? {
                lost.insert(id);
            } else {
                rescue.push((world, id));
            }
        }
        if !rescue.is_empty() {
            swept.copied += copy::rescue(session, view, reader, &rescue)?;
        }
    }
}

/// What may go. A list stays as a whole when it names a chunk of R as lost that still is, or a
/// pack where that chunk, or a base of it, is said to stand: it may yet be brought back, by hand
/// or by a better machine.
fn clear(
    repository: &Repository,
    view: &View<'_>,
    lost: &BTreeSet<ChunkId>,
    lists: &[Uuid],
) -> Result<Cleared, AccessError> {
    let hold = packs_of(repository, lost)?;
    let mut cleared = Cleared {
        lost: lost.len() as u64,
        ..Cleared::default()
    };
    for list in lists.iter().filter_map(|name| view.list(*name)) {
        let names = list.lost.iter().any(|id| lost.contains(id));
        if names || list.packs.iter().any(|p| hold.contains(p)) {
            cleared.held.insert(list.name);
        } else {
            cleared.packs.extend(list.packs.iter().copied());
        }
    }
    Ok(cleared)
}

/// Packs where chunks are said to stand, or anything that their rows are based on.
fn packs_of(
    repository: &Repository,
    chunks: &BTreeSet<ChunkId>,
) -> Result<HashSet<PackId>, AccessError> {
    let (segments, index) = (repository.segments(), repository.index());
    let mut packs = HashSet::new();
    let mut seen = chunks.clone();
    let mut work: Vec<ChunkId> = chunks.iter().copied().collect();
    while let Some(id) = work.pop() {
        for place in index.find(&segments, &id)?.iter().flat_map(|f| &f.places) {
            packs.extend(index.pack(place.pack).map(|p| p.id));
            for base in place.bases.iter() {
                let found = index.find_base(&segments, &base)?;
                work.extend(found.iter().map(|f| f.id).filter(|id| seen.insert(*id)));
            }
        }
    }
    Ok(packs)
}

/// Chunks of R that are not usable in the view, and not lost.
fn unusable_of(
    repository: &Repository,
    view: &View<'_>,
    reach: &Reach,
    lost: &BTreeSet<ChunkId>,
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
            if !lost.contains(&found.id) && view.usable_of(found)?.is_none() {
                unusable.push((copy::world_of(repository, found)?, found.id));
            }
        }
    }
    Ok(())
}

/// Step 13: removes manifests that are marked and were not in R, each after its copy; the markers
/// stay. So does what neither opens nor has a copy: it may be a tombstone, and those are never
/// deleted.
pub(super) fn remove_manifests(
    repository: &Repository,
    committed: &BTreeSet<Uuid>,
) -> Result<u64, AccessError> {
    let trash: BTreeSet<Uuid> = repository.list_uuids(Area::Trash)?.into_iter().collect();
    let copies = Copies::list(repository)?.snapshots;
    let goes = |name: &Uuid| trash.contains(name) && !committed.contains(name);
    let mut removed = BTreeSet::new();
    for name in repository.list_uuids(Area::Snapshots)? {
        let is_manifest = || match read_snapshot(repository, name) {
            Ok(object) => matches!(object, Some(SnapshotObject::Manifest(_))),
            Err(e) => e.is_damage() && copies.contains(&name),
        };
        if goes(&name) && is_manifest() {
            delete_both(repository, Area::Snapshots, name)?;
            removed.insert(name);
        }
    }
    // Copies that were put late, or whose manifest was lost.
    for name in copies.difference(&removed).filter(|name| goes(name)) {
        let key = copy_key(Area::Snapshots, *name);
        repository.backend().delete(&key)?;
    }
    Ok(removed.len() as u64)
}

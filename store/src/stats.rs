//! What a repository holds, in numbers.

mod single;

pub use single::{SnapshotStats, of_snapshots};

use std::collections::{HashMap, HashSet};

use crate::backend::Area;
use crate::error::AccessError;
use crate::id::{ChunkId, PackId};
use crate::index::{ChunkNumber, PackNumber, Place};
use crate::repository::Repository;
use crate::snapshots::SnapshotList;
use crate::view::{list_packs, read_lists};

/// Chunks that are looked at in one go.
const SCAN: usize = 4096;

/// A repository in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Committed snapshots.
    pub snapshots: u64,
    /// Forgotten ones that gc has not removed yet.
    pub forgotten: u64,
    /// Packs.
    pub packs: u64,
    /// Bytes of all objects.
    pub stored_bytes: u64,
    /// Bytes of all packs.
    pub pack_bytes: u64,
    /// Chunks with a place in a pack that exists, pages among them, each counted once.
    pub chunks: u64,
    /// Of these, stored as deltas.
    pub deltas: u64,
    /// Their plain bytes.
    pub plain_bytes: u64,
    /// Plain bytes of all committed snapshots: what restoring every one would write.
    pub restore_bytes: u64,
    /// Bytes of packs that gc has condemned.
    pub condemned_bytes: u64,
}

/// Counts.
///
/// # Errors
/// When the backend fails.
pub fn stats(repository: &Repository) -> Result<Stats, AccessError> {
    let list = SnapshotList::read(repository)?;
    repository.update_index()?;
    let packs = list_packs(repository)?;
    let mut stats = Stats {
        snapshots: list.committed.len() as u64,
        forgotten: list.forgotten.len() as u64,
        packs: packs.len() as u64,
        pack_bytes: packs.values().sum(),
        restore_bytes: list.committed.iter().map(|m| m.bytes).sum(),
        ..Stats::default()
    };
    for area in Area::ALL {
        repository
            .backend()
            .list(area, &mut |listed| stats.stored_bytes += listed.size)?;
    }
    for gc_list in read_lists(repository)? {
        stats.condemned_bytes += gc_list
            .packs
            .iter()
            .filter_map(|p| packs.get(p))
            .sum::<u64>();
    }
    let exists = standing(repository, &packs)?;
    each_chunk(repository, &exists, &mut |_, place| {
        stats.chunks += 1;
        stats.deltas += u64::from(place.depth > 0);
        stats.plain_bytes += u64::from(place.plain);
    })?;
    Ok(stats)
}

/// Numbers of the packs that exist.
fn standing(
    repository: &Repository,
    packs: &HashMap<PackId, u64>,
) -> Result<HashSet<PackNumber>, AccessError> {
    let segments = repository.segments();
    repository.index().settle(&segments)?;
    let known = repository.index().packs(&segments)?;
    let exists = known.iter().filter(|p| packs.contains_key(&p.id));
    Ok(exists.map(|p| p.number).collect())
}

/// Calls `each` for every chunk with a place in a pack that exists, and for one such place.
fn each_chunk(
    repository: &Repository,
    exists: &HashSet<PackNumber>,
    each: &mut dyn FnMut(ChunkNumber, &Place),
) -> Result<(), AccessError> {
    let segments = repository.segments();
    let mut after: Option<ChunkId> = None;
    loop {
        let batch = repository.index().scan(&segments, after.as_ref(), SCAN)?;
        let Some(last) = batch.last() else {
            return Ok(());
        };
        after = Some(last.id);
        for found in &batch {
            if let Some(place) = found.places.iter().find(|p| exists.contains(&p.pack)) {
                each(found.number, place);
            }
        }
    }
}

//! What a repository holds, in numbers.

use crate::backend::Area;
use crate::error::AccessError;
use crate::id::ChunkId;
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
    count_chunks(repository, &packs, &mut stats)?;
    Ok(stats)
}

fn count_chunks(
    repository: &Repository,
    packs: &std::collections::HashMap<crate::id::PackId, u64>,
    stats: &mut Stats,
) -> Result<(), AccessError> {
    let segments = repository.segments();
    repository.index().settle(&segments)?;
    let known = repository.index().packs(&segments)?;
    let exists: std::collections::HashSet<_> = known
        .iter()
        .filter(|p| packs.contains_key(&p.id))
        .map(|p| p.number)
        .collect();
    let mut after: Option<ChunkId> = None;
    loop {
        let batch = repository.index().scan(&segments, after.as_ref(), SCAN)?;
        let Some(last) = batch.last() else { break };
        after = Some(last.id);
        for found in &batch {
            if let Some(place) = found.places.iter().find(|p| exists.contains(&p.pack)) {
                stats.chunks += 1;
                stats.plain_bytes += u64::from(place.plain);
            }
        }
    }
    Ok(())
}

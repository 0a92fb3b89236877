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
    /// The same by encoding, in the order of [`crate::index::Encoding::ALL`]. How many bytes the
    /// chunks of each take in packs is told by no row: those of a record share its length.
    pub encodings: [Encoded; 4],
    /// Depths of all deltas added up.
    pub depths: u64,
    /// The greatest depth.
    pub deepest: u8,
    /// Plain bytes of all committed snapshots: what restoring every one would write.
    pub restore_bytes: u64,
    /// Bytes of packs that gc has condemned.
    pub condemned_bytes: u64,
}

/// Chunks of one encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Encoded {
    /// How many.
    pub chunks: u64,
    /// Their plain bytes.
    pub plain_bytes: u64,
}

impl Stats {
    /// How deep deltas are on average; 0 of none.
    pub fn mean_depth(&self) -> f64 {
        match self.deltas {
            0 => 0.0,
            deltas => self.depths as f64 / deltas as f64,
        }
    }

    fn add(&mut self, place: &Place) {
        let plain = u64::from(place.plain);
        self.chunks += 1;
        self.deltas += u64::from(place.depth > 0);
        self.plain_bytes += plain;
        self.depths += u64::from(place.depth);
        self.deepest = self.deepest.max(place.depth);
        if let Some(encoded) = self.encodings.get_mut(place.encoding as usize) {
            encoded.chunks += 1;
            encoded.plain_bytes += plain;
        }
    }
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
    each_chunk(repository, &exists, &mut |_, place| stats.add(place))?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Encryption;
    use crate::index::Encoding;
    use crate::testing::{chained_nights, new_repository};

    #[test]
    fn chunks_are_counted_by_encoding_and_depth() {
        let (_, repository) = new_repository(Encryption::None, 0);
        chained_nights(&repository, 4, 10);
        let stats = stats(&repository).unwrap();
        let of = |encoding: Encoding| stats.encodings[encoding as usize];
        // Pages may be deltas as well.
        let deltas = of(Encoding::Delta);
        assert!((30..50).contains(&deltas.chunks), "{stats:?}");
        assert!(deltas.plain_bytes >= 600_000, "{stats:?}");
        assert_eq!(deltas.chunks, stats.deltas);
        // Three nights of ten: 1, 2, 3 deep.
        assert!((60..120).contains(&stats.depths), "{stats:?}");
        assert_eq!(stats.deepest, 3);
        let mean = stats.depths as f64 / stats.deltas as f64;
        assert!((stats.mean_depth() - mean).abs() < 1e-9);
        let sum = |part: fn(&Encoded) -> u64| stats.encodings.iter().map(part).sum::<u64>();
        assert_eq!(sum(|e| e.chunks), stats.chunks);
        assert_eq!(sum(|e| e.plain_bytes), stats.plain_bytes);
    }
}

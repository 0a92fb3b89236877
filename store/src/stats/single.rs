//! What single snapshots take: their own chunks once, and those that no other snapshot has.

use super::{each_chunk, standing};
use crate::error::AccessError;
use crate::format::objects::Manifest;
use crate::gc::reach::{Bits, refers_to};
use crate::reader::Reader;
use crate::repository::Repository;
use crate::view::list_packs;

/// How often to begin again when the local cache is replaced meanwhile.
const TRIES: usize = 3;

/// One snapshot in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SnapshotStats {
    /// Chunks that it refers to, pages among them.
    pub chunks: u64,
    /// Of these, stored as deltas.
    pub deltas: u64,
    /// Their bytes before compression, each chunk once.
    pub plain_bytes: u64,
    /// Of these, of chunks that no other snapshot refers to: what forgetting it alone would free.
    pub unique_bytes: u64,
}

/// Counts for each of `chosen`, against `all` committed snapshots.
///
/// # Errors
/// When the backend fails, or pages of a snapshot cannot be read.
pub fn of_snapshots(
    repository: &Repository,
    chosen: &[Manifest],
    all: &[Manifest],
) -> Result<Vec<SnapshotStats>, AccessError> {
    // Numbers of an overlay mean nothing beside those of the cache.
    repository.index().settle(&repository.segments())?;
    let generation = || repository.index().stable_generation(&repository.segments());
    for _ in 0..TRIES {
        let before = generation()?;
        let counted = count(repository, chosen, all, before)?;
        if generation()? == before {
            return Ok(counted);
        }
    }
    let busy = "it was replaced again and again by another process";
    Err(crate::index::IndexError(busy.into()).into())
}

fn count(
    repository: &Repository,
    chosen: &[Manifest],
    all: &[Manifest],
    generation: u64,
) -> Result<Vec<SnapshotStats>, AccessError> {
    let reader = Reader::new(repository);
    let mut once = Bits::default();
    let mut again = Bits::default();
    for manifest in all {
        let own = refers_to(repository, &reader, manifest, generation)?;
        again.join(&once.both(&own));
        once.join(&own);
    }
    let mut sets = Vec::with_capacity(chosen.len());
    for manifest in chosen {
        sets.push(refers_to(repository, &reader, manifest, generation)?);
    }
    let exists = standing(repository, &list_packs(repository)?)?;
    let mut sums = vec![SnapshotStats::default(); chosen.len()];
    each_chunk(repository, &exists, &mut |number, place| {
        for (set, sum) in sets.iter().zip(&mut sums) {
            if !set.contains(number) {
                continue;
            }
            let plain = u64::from(place.plain);
            sum.chunks += 1;
            sum.deltas += u64::from(place.depth > 0);
            sum.plain_bytes += plain;
            if !again.contains(number) {
                sum.unique_bytes += plain;
            }
        }
    })?;
    Ok(sums)
}

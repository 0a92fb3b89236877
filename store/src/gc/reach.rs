//! What snapshots refer to: a bit for every chunk of the local index.
//!
//! The reference set of a snapshot never changes, so it is kept by this machine, and is valid as
//! long as the index's numbers are.

use std::collections::{BTreeSet, HashSet};

use crate::error::AccessError;
use crate::format::objects::Manifest;
use crate::id::{ChunkId, Uuid};
use crate::index::ChunkNumber;
use crate::reader::Reader;
use crate::record::World;
use crate::repository::Repository;
use crate::snapshots::SnapshotList;
use crate::tree::Tree;

/// A set of chunk numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Bits(Vec<u64>);

impl Bits {
    /// Adds a number; answers whether it is new.
    pub fn insert(&mut self, number: ChunkNumber) -> bool {
        let word = number.0 as usize / 64;
        if word >= self.0.len() {
            self.0.resize(word + 1 + word / 4, 0);
        }
        let bit = 1u64 << (number.0 % 64);
        let Some(word) = self.0.get_mut(word) else {
            return false;
        };
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    pub fn contains(&self, number: ChunkNumber) -> bool {
        let word = self.0.get(number.0 as usize / 64).copied().unwrap_or(0);
        word & (1u64 << (number.0 % 64)) != 0
    }

    /// Adds all of another set.
    pub fn join(&mut self, other: &Bits) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine |= theirs;
        }
    }

    /// What stands in both.
    pub fn both(&self, other: &Bits) -> Bits {
        let pairs = self.0.iter().zip(&other.0);
        Bits(pairs.map(|(mine, theirs)| mine & theirs).collect())
    }

    fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|w| w.to_le_bytes()).collect()
    }

    fn from_bytes(bytes: &[u8]) -> Bits {
        Bits(
            bytes
                .as_chunks::<8>()
                .0
                .iter()
                .map(|w| u64::from_le_bytes(*w))
                .collect(),
        )
    }
}

/// What all committed snapshots refer to.
#[derive(Debug, Default)]
pub(super) struct Reach {
    /// Chunks that the index knows.
    pub chunks: Bits,
    /// Chunks that it does not, with the first snapshot that needs each; at most [`MAX_MISSING`].
    pub missing: Vec<(World, ChunkId, Uuid)>,
    /// Chunks that cannot be had and are known to be lost. Nothing is known of what stands below
    /// the pages among them.
    pub lost: Vec<(World, ChunkId)>,
    /// Generation of the index that the numbers belong to.
    pub generation: u64,
}

const MAX_MISSING: usize = 1000;
/// Most bytes of a stored set: one bit for each of 2^32 chunks.
const MAX_SET: usize = 1 << 29;

impl Reach {
    /// Adds up the reference sets of snapshots, computing those that are not kept, and those of
    /// snapshots that do not open, of which only kept ones help. `known` names chunks whose loss
    /// is no news.
    ///
    /// `None` when the local cache was replaced meanwhile and numbers have lost their meaning.
    ///
    /// # Errors
    /// The name of an unreadable snapshot whose set is not kept, or a failing backend.
    pub fn of(
        repository: &Repository,
        reader: &Reader<'_>,
        snapshots: &SnapshotList,
        known: &HashSet<ChunkId>,
    ) -> Result<Option<Reach>, super::GcError> {
        let generation = repository
            .index()
            .stable_generation(&repository.segments())?;
        let mut reach = Reach {
            generation,
            ..Reach::default()
        };
        for (name, why) in &snapshots.unreadable {
            let kept = load(repository, *name, generation);
            let kept =
                kept.ok_or_else(|| super::GcError::UnreadableSnapshot(*name, why.clone()))?;
            reach.chunks.join(&kept);
        }
        for manifest in &snapshots.committed {
            let walked = kept_or_walked(repository, reader, manifest, (generation, known));
            let walked = match walked {
                Ok(walked) => walked,
                // Forgotten since it was listed, and collected by another: it needs nothing.
                Err(e) if e.is_damage() && !is_committed(repository, manifest.name)? => continue,
                Err(e) => return Err(e.into()),
            };
            reach.chunks.join(&walked.own);
            reach.lost.extend(walked.lost);
            let room = MAX_MISSING - reach.missing.len().min(MAX_MISSING);
            let named = walked.missing.into_iter();
            let named = named.map(|(world, id)| (world, id, manifest.name));
            reach.missing.extend(named.take(room));
        }
        Ok(Some(reach))
    }
}

impl Reach {
    /// Stops when more is missing than is kept here: the rest would go unlooked at.
    pub fn stop_if_too_many_missing(&self) -> Result<(), super::GcError> {
        if self.missing.len() < MAX_MISSING {
            return Ok(());
        }
        let name = |(_, id, _): &(World, ChunkId, Uuid)| format!("{id:.12}");
        Err(super::GcError::Damaged {
            chunks: self.missing.iter().take(10).map(name).collect(),
        })
    }
}

fn is_committed(repository: &Repository, name: Uuid) -> Result<bool, AccessError> {
    let list = SnapshotList::read(repository)?;
    Ok(list.committed.iter().any(|m| m.name == name))
}

/// What one snapshot refers to.
#[derive(Default)]
struct Walked {
    own: Bits,
    missing: Vec<(World, ChunkId)>,
    lost: BTreeSet<(World, ChunkId)>,
}

/// What one snapshot refers to, as far as the index knows it. `generation` is that of the index.
///
/// # Errors
/// When a page cannot be read, or the backend fails.
pub(crate) fn refers_to(
    repository: &Repository,
    reader: &Reader<'_>,
    manifest: &Manifest,
    generation: u64,
) -> Result<Bits, AccessError> {
    let none = HashSet::new();
    Ok(kept_or_walked(repository, reader, manifest, (generation, &none))?.own)
}

fn kept_or_walked(
    repository: &Repository,
    reader: &Reader<'_>,
    manifest: &Manifest,
    (generation, known): (u64, &HashSet<ChunkId>),
) -> Result<Walked, AccessError> {
    if let Some(own) = load(repository, manifest.name, generation) {
        return Ok(Walked {
            own,
            ..Walked::default()
        });
    }
    let walked = walk(repository, reader, manifest, known)?;
    if walked.missing.is_empty() && walked.lost.is_empty() {
        store(repository, manifest.name, generation, &walked.own);
    }
    Ok(walked)
}

fn walk(
    repository: &Repository,
    reader: &Reader<'_>,
    manifest: &Manifest,
    known: &HashSet<ChunkId>,
) -> Result<Walked, AccessError> {
    let mut walked = Walked::default();
    let tree = Tree::new(reader, manifest.root);
    let index = repository.index();
    tree.for_each_reference(&mut |world, id| {
        let found = match index.find(&repository.segments(), id)? {
            Some(found) => Some(found),
            None => {
                // It may have been written since the index was read.
                repository.update_index()?;
                index.find(&repository.segments(), id)?
            }
        };
        let is_known = known.contains(id);
        match found {
            Some(found) => {
                let new = walked.own.insert(found.number);
                // Whether a chunk of content can be read is asked when it is not usable.
                if new && is_known && world.is_pages() && !is_readable(reader, world, id)? {
                    walked.lost.insert((world, *id));
                    return Ok(false);
                }
                Ok(new)
            }
            // A page that is nowhere cannot be opened.
            None if is_known => {
                walked.lost.insert((world, *id));
                Ok(false)
            }
            None => {
                if walked.missing.len() < MAX_MISSING {
                    walked.missing.push((world, *id));
                }
                Ok(false)
            }
        }
    })?;
    Ok(walked)
}

/// Whether some pack gives a chunk back.
pub(super) fn is_readable(
    reader: &Reader<'_>,
    world: World,
    id: &ChunkId,
) -> Result<bool, AccessError> {
    match reader.chunk(world, id) {
        Ok(_) => Ok(true),
        Err(e) if e.is_damage() => Ok(false),
        Err(e) => Err(e),
    }
}

fn file(name: Uuid) -> String {
    format!("refs-{name}")
}

fn load(repository: &Repository, name: Uuid, generation: u64) -> Option<Bits> {
    let bytes = repository.environment().state.load(&file(name))?;
    let (known, set) = bytes.split_first_chunk::<8>()?;
    let (check, set) = set.split_first_chunk::<32>()?;
    let right = blake3::keyed_hash(repository.keys().local_key(), set);
    if u64::from_le_bytes(*known) != generation || right != blake3::Hash::from(*check) {
        return None;
    }
    let len = zstd::bulk::Decompressor::<'_>::upper_bound(set)?.min(MAX_SET);
    Some(Bits::from_bytes(&zstd::bulk::decompress(set, len).ok()?))
}

fn store(repository: &Repository, name: Uuid, generation: u64, set: &Bits) {
    let Ok(set) = zstd::bulk::compress(&set.to_bytes(), 1) else {
        return;
    };
    let mut bytes = generation.to_le_bytes().to_vec();
    bytes.extend_from_slice(blake3::keyed_hash(repository.keys().local_key(), &set).as_bytes());
    bytes.extend_from_slice(&set);
    repository.environment().state.store(&file(name), &bytes);
}

/// Drops kept sets of snapshots that are gone.
pub(super) fn prune(repository: &Repository, snapshots: &SnapshotList) {
    let state = &repository.environment().state;
    for name in state.names("refs-") {
        let known = name
            .strip_prefix("refs-")
            .and_then(|n| n.parse::<Uuid>().ok());
        // What does not open any more is needed most of all.
        let needed = |known: Uuid| {
            snapshots.committed.iter().any(|m| m.name == known)
                || snapshots.unreadable.iter().any(|(name, _)| *name == known)
        };
        if !known.is_some_and(needed) {
            state.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits() {
        let mut bits = Bits::default();
        assert!(bits.insert(ChunkNumber(1000)));
        assert!(!bits.insert(ChunkNumber(1000)));
        assert!(bits.contains(ChunkNumber(1000)));
        assert!(!bits.contains(ChunkNumber(999)));
        assert!(!bits.contains(ChunkNumber(u32::MAX)));
        let mut other = Bits::default();
        other.insert(ChunkNumber(3));
        bits.join(&other);
        assert!(bits.contains(ChunkNumber(3)) && bits.contains(ChunkNumber(1000)));
        assert_eq!(bits.both(&other), other);
        assert_eq!(Bits::from_bytes(&bits.to_bytes()), bits);
    }
}

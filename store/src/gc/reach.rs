//! What snapshots refer to: a bit for every chunk of the local index.
//!
//! The reference set of a snapshot never changes, so it is kept by this machine, and is valid as
//! long as the index's numbers are.
//!
//! The set of a snapshot that was taken after another is mostly the other's. So a new snapshot is
//! walked only where it differs from a *base*, one whose whole set is kept: what the base has is
//! left out, and pages that it has are passed over with all that stands below them. The set that is
//! kept is then *relative*, and counts only when that of its base is added to R too. A base's set
//! is always whole: of three in a row, what is missing in the second and stands in the other two
//! would be in no relative set.

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

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|w| u64::from(w.count_ones())).sum()
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
        let (joined, mut base) = reach.join_kept(repository, snapshots);
        let not_joined = |name: &Uuid| !joined.contains(name);
        let unreadable = snapshots.unreadable.iter();
        if let Some((name, why)) = unreadable.into_iter().find(|(name, _)| not_joined(name)) {
            return Err(super::GcError::UnreadableSnapshot(*name, why.clone()));
        }
        let walker = Walker {
            repository,
            reader,
            known,
            generation,
        };
        // The newest is likely to stand the longest, and others are kept relative to it.
        let rest = snapshots.committed.iter().rev();
        for manifest in rest.filter(|m| not_joined(&m.name)) {
            let walked = match walker.walk_and_keep(manifest, &mut base) {
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
    /// Adds the sets that this machine keeps and that count. Answers whose they are, and the newest
    /// that is whole.
    fn join_kept(
        &mut self,
        repository: &Repository,
        snapshots: &SnapshotList,
    ) -> (HashSet<Uuid>, Option<Whole>) {
        let committed = snapshots.committed.iter().rev().map(|m| m.name);
        let unreadable = snapshots.unreadable.iter().map(|(name, _)| *name);
        let mut relative = Vec::new();
        let (mut joined, mut newest) = (HashSet::new(), None);
        for name in committed.chain(unreadable) {
            match load(repository, name, self.generation) {
                Some((None, set)) => {
                    self.chunks.join(&set);
                    joined.insert(name);
                    newest.get_or_insert((name, set));
                }
                Some((Some(base), _)) => relative.push((name, base)),
                None => {}
            }
        }
        // One may be relative to another that was whole when the first was kept.
        loop {
            let before = joined.len();
            relative.retain(|(name, base)| {
                let counts = joined.contains(base);
                let set = counts.then(|| load(repository, *name, self.generation));
                let Some((Some(again), set)) = set.flatten() else {
                    return !counts;
                };
                if again == *base {
                    self.chunks.join(&set);
                    joined.insert(*name);
                }
                false
            });
            if joined.len() == before {
                return (joined, newest);
            }
        }
    }

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
    if let Some((None, set)) = load(repository, manifest.name, generation) {
        return Ok(set);
    }
    let walker = Walker {
        repository,
        reader,
        known: &HashSet::new(),
        generation,
    };
    let walked = walker.walk(manifest, None)?;
    walker.keep(manifest, &walked, None);
    Ok(walked.own)
}

/// A snapshot and its whole set.
type Whole = (Uuid, Bits);

/// A set is kept whole when it has more than this part of what it would be relative to: later ones
/// are then relative to it.
const MUCH_NEW: u64 = 4;

/// Finds what snapshots refer to.
struct Walker<'a, 'r> {
    repository: &'a Repository,
    reader: &'a Reader<'r>,
    known: &'a HashSet<ChunkId>,
    generation: u64,
}

impl Walker<'_, '_> {
    /// Walks a snapshot relative to `base`, or as a whole when there is none or much is new: then
    /// it is the next base.
    fn walk_and_keep(
        &self,
        manifest: &Manifest,
        base: &mut Option<Whole>,
    ) -> Result<Walked, AccessError> {
        if let Some((name, set)) = base.as_ref() {
            let walked = self.walk(manifest, Some(set))?;
            if walked.own.count() <= set.count() / MUCH_NEW {
                self.keep(manifest, &walked, Some(*name));
                return Ok(walked);
            }
        }
        let walked = self.walk(manifest, None)?;
        if self.keep(manifest, &walked, None) {
            *base = Some((manifest.name, walked.own.clone()));
        }
        Ok(walked)
    }

    /// Keeps a set, unless something is missing in it, or its numbers are not those of the cache
    /// whose generation it would be kept under: then a later gc would delete what lives.
    fn keep(&self, manifest: &Manifest, walked: &Walked, base: Option<Uuid>) -> bool {
        let complete = walked.missing.is_empty() && walked.lost.is_empty();
        let keeps = complete && self.repository.index().has_numbers_of(self.generation);
        if keeps {
            store(
                self.repository,
                manifest.name,
                (self.generation, base),
                &walked.own,
            );
        }
        keeps
    }

    /// What a snapshot refers to beside `base`.
    fn walk(&self, manifest: &Manifest, base: Option<&Bits>) -> Result<Walked, AccessError> {
        let mut walked = Walked::default();
        let tree = Tree::new(self.reader, manifest.root);
        tree.for_each_reference(&mut |world, id| {
            let is_known = self.known.contains(id);
            match self.find(id)? {
                Some(number) => {
                    if base.is_some_and(|base| base.contains(number)) {
                        return Ok(false);
                    }
                    let new = walked.own.insert(number);
                    // Whether a chunk of content can be read is asked when it is not usable.
                    let page = new && is_known && world.is_pages();
                    if page && !is_readable(self.reader, world, id)? {
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

    fn find(&self, id: &ChunkId) -> Result<Option<ChunkNumber>, AccessError> {
        let (index, segments) = (self.repository.index(), self.repository.segments());
        let mut found = index.find(&segments, id)?;
        if found.is_none() {
            // It may have been written since the index was read.
            self.repository.update_index()?;
            found = index.find(&segments, id)?;
        }
        Ok(found.map(|found| found.number))
    }
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

/// A kept set, and what it is relative to: generation, name (16 zeros: none), check, set.
fn load(repository: &Repository, name: Uuid, generation: u64) -> Option<(Option<Uuid>, Bits)> {
    let bytes = repository.environment().state.load(&file(name))?;
    let (known, rest) = bytes.split_first_chunk::<8>()?;
    let (check, named) = rest.split_first_chunk::<32>()?;
    let right = blake3::keyed_hash(repository.keys().local_key(), named);
    if u64::from_le_bytes(*known) != generation || right != blake3::Hash::from(*check) {
        return None;
    }
    let (base, set) = named.split_first_chunk::<16>()?;
    let len = zstd::bulk::Decompressor::<'_>::upper_bound(set)?.min(MAX_SET);
    let set = Bits::from_bytes(&zstd::bulk::decompress(set, len).ok()?);
    Some(((*base != [0; 16]).then_some(Uuid(*base)), set))
}

fn store(repository: &Repository, name: Uuid, (generation, base): (u64, Option<Uuid>), set: &Bits) {
    let Ok(set) = zstd::bulk::compress(&set.to_bytes(), 1) else {
        return;
    };
    let mut named = base.map_or([0; 16], |base| base.0).to_vec();
    named.extend_from_slice(&set);
    let mut bytes = generation.to_le_bytes().to_vec();
    bytes.extend_from_slice(blake3::keyed_hash(repository.keys().local_key(), &named).as_bytes());
    bytes.extend_from_slice(&named);
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
    use std::sync::Arc;
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::backend::{Area, Backend, Counting, Memory};
    use crate::crypto::Encryption;
    use crate::forget::forget;
    use crate::gc::{GcOptions, gc};
    use crate::index::Index;
    use crate::monitor::Silent;
    use crate::notes::Notes;
    use crate::repository::InitOptions;
    use crate::testing::{MapSource, Moody, credential, environment, noise, single_chunks, take};

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

    fn repository() -> (Arc<Counting<Memory>>, Repository) {
        let counting = Arc::new(Counting::new(Memory::default()));
        let backend: Arc<dyn Backend> = counting.clone();
        let options = InitOptions {
            encryption: Encryption::None,
            label: String::new(),
        };
        let none = credential(Encryption::None);
        let made = Repository::init(backend, &none, &options, environment(0)).unwrap();
        (counting, made)
    }

    fn put(source: &mut MapSource, file: u32, seed: &str) {
        let bytes = noise(400, &format!("{file} {seed}"));
        source
            .files
            .insert(format!("{file:05}").into_bytes(), bytes);
    }

    fn reach(repository: &Repository) -> Reach {
        repository.update_index().unwrap();
        let list = super::super::guard::list(repository).unwrap();
        let reader = Reader::new(repository);
        let reach = Reach::of(repository, &reader, &list, &HashSet::new());
        reach.unwrap().unwrap()
    }

    /// All that snapshots refer to, each walked from its root.
    fn walked(repository: &Repository) -> Bits {
        let list = super::super::guard::list(repository).unwrap();
        let walker = Walker {
            repository,
            reader: &Reader::new(repository),
            known: &HashSet::new(),
            generation: 0,
        };
        let mut all = Bits::default();
        for manifest in &list.committed {
            all.join(&walker.walk(manifest, None).unwrap().own);
        }
        all
    }

    fn assert_same(one: &Bits, other: &Bits, when: &str) {
        let both = one.both(other).count();
        assert_eq!((both, both), (one.count(), other.count()), "{when}");
    }

    #[test]
    fn only_pages_that_are_new_are_read() {
        single_chunks(true);
        let (counting, repository) = repository();
        let mut source = MapSource::default();
        (0..2000).for_each(|file| put(&mut source, file, "first"));
        for night in ["first", "second", "third"] {
            put(&mut source, 1000, night);
            take(&repository, &mut source);
        }
        let read = || {
            let packs = counting.counts().of(Area::Packs);
            packs.gets + packs.range_gets
        };
        counting.reset();
        let before = reach(&repository);
        let whole = read();
        assert!(whole > 20, "a tree has many pages, not {whole}");
        put(&mut source, 1000, "fourth");
        take(&repository, &mut source);
        counting.reset();
        let after = reach(&repository);
        assert!((1..=8).contains(&read()), "{} of {whole} pages", read());
        assert!(after.chunks.count() > before.chunks.count());
        counting.reset();
        assert_same(&reach(&repository).chunks, &after.chunks, "again");
        assert_eq!(read(), 0, "all sets are kept");
        assert_same(&walked(&repository), &after.chunks, "exact");
        single_chunks(false);
    }

    /// Files come and go and come back; any snapshot may be forgotten, those too that others are
    /// kept relative to.
    #[test]
    fn kept_sets_are_those_of_walks() {
        for seed in 0..6u32 {
            let (_, repository) = repository();
            let mut dice = blake3::Hasher::new().update(&[seed as u8]).finalize_xof();
            let mut below = |limit: u32| {
                let mut bytes = [0; 4];
                dice.fill(&mut bytes);
                u32::from_le_bytes(bytes) % limit
            };
            let mut source = MapSource::default();
            (0..300).for_each(|file| put(&mut source, file, "first"));
            take(&repository, &mut source);
            for step in 0..14 {
                let when = format!("seed {seed}, step {step}");
                for _ in 0..[1, 3, 150][below(3) as usize] {
                    let file = below(300);
                    match below(3) {
                        0 => _ = source.files.remove(format!("{file:05}").as_bytes()),
                        _ => put(&mut source, file, ["first", "other"][below(2) as usize]),
                    }
                }
                take(&repository, &mut source);
                let list = SnapshotList::read(&repository).unwrap();
                if list.committed.len() > 3 {
                    let which = below(list.committed.len() as u32) as usize;
                    forget(&repository, &list.committed[which], &Notes::default()).unwrap();
                }
                assert_same(&reach(&repository).chunks, &walked(&repository), &when);
                if below(4) == 0 {
                    let options = GcOptions {
                        force: true,
                        ..GcOptions::default()
                    };
                    gc(&repository, &options, &Silent::default()).unwrap();
                    assert_same(&reach(&repository).chunks, &walked(&repository), &when);
                }
            }
        }
    }

    /// Three snapshots, the last one written while the cache was `busy`.
    fn moody(busy: bool) -> (Repository, Arc<Moody>) {
        let (_, mut repository) = repository();
        let index = Arc::new(Moody::default());
        repository.replace_index(index.clone());
        let mut source = MapSource::default();
        (0..200).for_each(|file| put(&mut source, file, "first"));
        for night in ["first", "second", "third"] {
            index
                .busy
                .store(busy && night == "third", Ordering::Relaxed);
            (0..60).for_each(|file| put(&mut source, file, night));
            take(&repository, &mut source);
        }
        (repository, index)
    }

    #[test]
    fn numbers_of_an_overlay_are_not_kept() {
        let (mut repository, index) = moody(true);
        let all = SnapshotList::read(&repository).unwrap().committed;
        let generation = index.generation().unwrap();
        repository.update_index().unwrap();
        let reader = Reader::new(&repository);
        refers_to(&repository, &reader, &all[2], generation).unwrap();
        assert_eq!(load(&repository, all[2].name, generation), None);
        let counted = crate::stats::of_snapshots(&repository, &all, &all).unwrap();
        for manifest in &all {
            assert_eq!(load(&repository, manifest.name, generation), None);
        }
        // A later process finds the cache idle.
        index.busy.store(false, Ordering::Relaxed);
        repository.replace_index(index.clone());
        assert_same(&reach(&repository).chunks, &walked(&repository), "later");
        let again = crate::stats::of_snapshots(&repository, &all, &all).unwrap();
        assert_eq!(counted, again);
    }

    #[test]
    fn numbers_of_a_replaced_cache_are_not_kept() {
        let (mut repository, index) = moody(false);
        let forget_all = |repository: &Repository| {
            let state = &repository.environment().state;
            state.names("refs-").iter().for_each(|n| state.remove(n));
        };
        index.found.store(0, Ordering::Relaxed);
        reach(&repository);
        let finds = index.found.load(Ordering::Relaxed);
        assert!(finds > 10, "{finds}");
        for at in 1..=finds {
            forget_all(&repository);
            index.fails_in.store(at, Ordering::Relaxed);
            reach(&repository);
            assert_eq!(index.fails_in.load(Ordering::Relaxed), 0);
            repository.replace_index(index.clone());
            let when = format!("look-up {at} of {finds}");
            assert_same(&reach(&repository).chunks, &walked(&repository), &when);
        }
    }
}

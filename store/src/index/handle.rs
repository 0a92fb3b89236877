//! The index as the rest of the core uses it: kept up to date from the repository's segments,
//! replaced when the local cache fails, completed in memory when the cache is busy.
//!
//! Pack numbers that leave here hold for the whole process, whatever cache they came from: a cache
//! may be replaced between two look-ups. Chunk numbers are those of the cache; only gc uses them,
//! and asks [`IndexHandle::stable_generation`] whether they still mean the same.
//!
//! A segment that does not open is passed over, and told by [`IndexHandle::damaged`].

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::load::{Gathered, Load};
use super::{Apply, Found, Index, KnownPack, MemoryIndex, PackNumber};
use crate::backend::{Area, Backend, Key};
use crate::crypto::{Keys, Kind};
use crate::error::AccessError;
use crate::fetch;
use crate::format::segment::{Segment, SegmentHeader};
use crate::id::{BaseRef, ChunkId, PackId, SegmentId};
use crate::index::IndexError;

/// Makes an empty index to replace one that failed. `private` asks for one that no other process
/// shares.
pub(crate) type NewIndex = dyn Fn(bool) -> Result<Arc<dyn Index>, IndexError> + Send + Sync;

/// A kept-up index.
pub(crate) struct IndexHandle {
    state: RwLock<State>,
    fresh: Box<NewIndex>,
    /// Where rows are laid aside that do not fit in memory.
    folder: Option<PathBuf>,
    packs: RwLock<Packs>,
    /// Segments that did not open when they were last read.
    damaged: Mutex<BTreeMap<SegmentId, String>>,
    /// Rows go into one cache or the run changes to a new one: never into an overlay.
    dense: AtomicBool,
}

/// The cache in use.
struct State {
    index: Cache,
    /// Rows that could not be written because another process holds the cache.
    overlay: Option<Cache>,
    /// Counts the caches that were used.
    turn: u64,
}

/// One cache, and what its pack numbers mean in this process.
struct Cache {
    index: Arc<dyn Index>,
    /// By the cache's own number; those of a cache are dense.
    numbers: RwLock<Vec<PackNumber>>,
}

/// Every pack that was met; its position is the number that leaves here.
#[derive(Default)]
struct Packs {
    all: Vec<KnownPack>,
    by_id: HashMap<PackId, PackNumber>,
}

fn poisoned() -> IndexError {
    IndexError("a thread failed while using it".into())
}

impl Cache {
    fn new(index: Arc<dyn Index>) -> Cache {
        Cache {
            index,
            numbers: RwLock::default(),
        }
    }

    /// Gives the places of chunks the numbers of this process.
    fn renumber(&self, found: &mut [Found], packs: &RwLock<Packs>) -> Result<(), IndexError> {
        let mut numbers = self.numbers.read().map_err(|_| poisoned())?;
        for place in found.iter_mut().flat_map(|f| &mut f.places) {
            let at = place.pack.0 as usize;
            if at >= numbers.len() {
                drop(numbers);
                self.learn(packs)?;
                numbers = self.numbers.read().map_err(|_| poisoned())?;
            }
            let number = numbers.get(at).copied();
            place.pack = number.ok_or_else(|| IndexError("a row names no pack".into()))?;
        }
        Ok(())
    }

    /// Reads which packs this cache knows.
    fn learn(&self, packs: &RwLock<Packs>) -> Result<Vec<KnownPack>, IndexError> {
        let mut known = self.index.packs()?;
        let mut packs = packs.write().map_err(|_| poisoned())?;
        let mut numbers = self.numbers.write().map_err(|_| poisoned())?;
        numbers.clear();
        for pack in &mut known {
            pack.number = packs.number(pack);
            numbers.push(pack.number);
        }
        Ok(known)
    }
}

impl Packs {
    fn number(&mut self, pack: &KnownPack) -> PackNumber {
        let next = PackNumber(self.all.len() as u32);
        let number = *self.by_id.entry(pack.id).or_insert(next);
        if number == next {
            self.all.push(KnownPack {
                number,
                ..pack.clone()
            });
        }
        number
    }
}

/// What an update of the index needs.
pub(crate) struct Segments<'a> {
    pub backend: &'a dyn Backend,
    pub keys: &'a Keys,
}

impl Segments<'_> {
    /// The names of all segments.
    pub fn list(&self) -> Result<Vec<(SegmentId, u64)>, AccessError> {
        let mut names = Vec::new();
        self.backend.list(Area::Index, &mut |listed| {
            if let Ok(id) = listed.name.parse() {
                names.push((id, listed.size));
            }
        })?;
        names.sort_unstable();
        Ok(names)
    }

    /// Reads one segment; `None` when it is gone.
    pub fn get(&self, id: &SegmentId) -> Result<Option<Segment>, AccessError> {
        let Some(key) = Key::new(Area::Index, id) else {
            return Ok(None);
        };
        let Some(stored) = fetch::stored(self.backend, &key)? else {
            return Ok(None);
        };
        if blake3::hash(&stored) != blake3::Hash::from(id.0) {
            return Err(AccessError::damaged(
                &key,
                "its bytes do not match its name",
            ));
        }
        let damaged = |why: &dyn std::fmt::Display| AccessError::damaged(&key, why);
        let (_, body) = SegmentHeader::decode(&stored).map_err(|e| damaged(&e))?;
        let clear = stored.get(..crate::format::segment::HEADER).unwrap_or(&[]);
        let (seal, context) = self.keys.of_kind(Kind::Segment, clear);
        let body = seal.open(&context, body).map_err(|e| damaged(&e))?;
        Segment::decode_body(&body)
            .map(Some)
            .map_err(|e| damaged(&e))
    }
}

impl IndexHandle {
    /// `folder` is where rows are laid aside that do not fit in memory; without one all of them do.
    pub fn new(
        index: Arc<dyn Index>,
        fresh: Box<NewIndex>,
        folder: Option<PathBuf>,
    ) -> IndexHandle {
        let state = State {
            index: Cache::new(index),
            overlay: None,
            turn: 0,
        };
        IndexHandle {
            state: RwLock::new(state),
            fresh,
            folder,
            packs: RwLock::default(),
            damaged: Mutex::default(),
            dense: AtomicBool::new(false),
        }
    }

    fn read(&self) -> Result<RwLockReadGuard<'_, State>, AccessError> {
        self.state.read().map_err(|_| poisoned().into())
    }

    fn write(&self) -> Result<RwLockWriteGuard<'_, State>, AccessError> {
        self.state.write().map_err(|_| poisoned().into())
    }

    /// Tells apart the meanings that chunk numbers have had, also in other processes.
    pub fn stable_generation(&self, segments: &Segments<'_>) -> Result<u64, AccessError> {
        self.ask(segments, |state| state.index.index.generation())
    }

    /// Whether chunk numbers that were given here since this was the generation may be kept under
    /// it: the cache is still the same, and none of them is that of an overlay.
    pub fn has_numbers_of(&self, generation: u64) -> bool {
        let Ok(state) = self.state.read() else {
            return false;
        };
        let now = state.index.index.generation();
        state.overlay.is_none() && now.is_ok_and(|now| now == generation)
    }

    /// Segments that do not open, with the reason: their rows are missing here.
    pub fn damaged(&self) -> Vec<(SegmentId, String)> {
        let Ok(damaged) = self.damaged.lock() else {
            return Vec::new();
        };
        damaged.iter().map(|(id, why)| (*id, why.clone())).collect()
    }

    /// Reads what the repository has and the index has not. Another history, or a cache that fails,
    /// makes a new one; when that fails too (a full disk) it is kept in memory.
    pub fn update(&self, segments: &Segments<'_>) -> Result<(), AccessError> {
        for private in [false, true] {
            let turn = self.read()?.turn;
            match self.try_update(segments) {
                Err(AccessError::Index(_)) => self.replace(turn, private)?,
                other => return other,
            }
        }
        self.try_update(segments)
    }

    fn try_update(&self, segments: &Segments<'_>) -> Result<(), AccessError> {
        loop {
            // Applied before listed: what another process applies in between is only read again.
            let turn = self.read()?.turn;
            let applied = self.applied()?;
            let listed = segments.list()?;
            let known: HashSet<SegmentId> = applied.iter().map(|a| a.id).collect();
            let names: HashSet<SegmentId> = listed.iter().map(|(id, _)| *id).collect();
            let mut replaced: HashSet<SegmentId> = applied
                .iter()
                .flat_map(|a| a.supersedes.iter().copied())
                .collect();
            let mut new = listed;
            new.retain(|(id, _)| !known.contains(id));
            if !self.read_new(segments, &new, &mut replaced)? {
                continue;
            }
            let lost = |a: &super::Applied| !names.contains(&a.id) && !replaced.contains(&a.id);
            if applied.iter().any(lost) {
                self.replace(turn, false)?;
                continue;
            }
            return Ok(());
        }
    }

    /// Applies segments; `false` when one of them is gone meanwhile. What was read before one that
    /// cannot be had is applied, too, and need not be read again.
    fn read_new(
        &self,
        segments: &Segments<'_>,
        new: &[(SegmentId, u64)],
        replaced: &mut HashSet<SegmentId>,
    ) -> Result<bool, AccessError> {
        let mut damaged = BTreeMap::new();
        let stored = new.iter().map(|(_, size)| size).sum();
        let mut gathered = Gathered::new(stored, self.folder.as_deref());
        let mut all = true;
        let mut failed = None;
        for (id, _) in new {
            match segments.get(id) {
                Ok(Some(segment)) => {
                    replaced.extend(segment.supersedes.iter().copied());
                    gathered.add(*id, &segment)?;
                }
                Ok(None) => {
                    all = false;
                    break;
                }
                Err(e) if e.is_damage() => _ = damaged.insert(*id, e.to_string()),
                Err(e) => {
                    failed = Some(e);
                    break;
                }
            }
        }
        self.apply(&mut gathered)?;
        if let Some(e) = failed {
            return Err(e);
        }
        if all && let Ok(mut known) = self.damaged.lock() {
            *known = damaged;
        }
        Ok(all)
    }

    fn applied(&self) -> Result<Vec<super::Applied>, AccessError> {
        let state = self.read()?;
        let mut applied = state.index.index.applied()?;
        if let Some(overlay) = &state.overlay {
            applied.extend(overlay.index.applied()?);
        }
        Ok(applied)
    }

    /// Puts an empty cache in the place of the one that failed, unless another thread has.
    fn replace(&self, failed: u64, private: bool) -> Result<(), AccessError> {
        let mut state = self.write()?;
        if state.turn == failed {
            state.replace((self.fresh)(private)?);
        }
        Ok(())
    }

    fn apply(&self, gathered: &mut Gathered<'_>) -> Result<(), AccessError> {
        if gathered.segments().is_empty() {
            return Ok(());
        }
        let mut state = self.write()?;
        if state.overlay.is_none() && state.index.index.load(gathered)? == Apply::Done {
            return Ok(());
        }
        if self.dense.load(Ordering::Relaxed) {
            // It is well, and others go on with it.
            state.replace((self.fresh)(true)?);
            return Err(IndexError("another process holds it".into()).into());
        }
        state.add_to_overlay(gathered)
    }

    /// Adds the rows of a segment that this process has put. A cache that cannot take them (a full
    /// disk) does not stop the run: they are kept in memory.
    pub fn apply_own(
        &self,
        segments: &Segments<'_>,
        id: SegmentId,
        segment: Segment,
    ) -> Result<(), AccessError> {
        let gather = || -> Result<Gathered<'_>, IndexError> {
            let mut gathered = Gathered::new(0, None);
            gathered.add(id, &segment)?;
            Ok(gathered)
        };
        match self.apply(&mut gather()?) {
            Err(AccessError::Index(_)) if self.dense.load(Ordering::Relaxed) => {
                self.update(segments)
            }
            Err(AccessError::Index(_)) => self.write()?.add_to_overlay(&mut gather()?),
            other => other,
        }
    }

    /// From now on chunk numbers are dense and complete, as gc needs them: a cache that is busy is
    /// replaced by one in memory.
    pub fn settle(&self, segments: &Segments<'_>) -> Result<(), AccessError> {
        self.dense.store(true, Ordering::Relaxed);
        let (turn, whole) = {
            let state = self.read()?;
            (state.turn, state.overlay.is_none())
        };
        if !whole {
            self.replace(turn, true)?;
        }
        self.update(segments)
    }

    /// Runs a look-up; a cache that fails is replaced, filled and asked again.
    fn ask<T>(
        &self,
        segments: &Segments<'_>,
        question: impl Fn(&State) -> Result<T, IndexError>,
    ) -> Result<T, AccessError> {
        let (turn, first) = {
            let state = self.read()?;
            (state.turn, question(&state))
        };
        if let Ok(answer) = first {
            return Ok(answer);
        }
        self.replace(turn, false)?;
        self.update(segments)?;
        Ok(question(&*self.read()?)?)
    }

    /// All places of a chunk.
    pub fn find(
        &self,
        segments: &Segments<'_>,
        id: &ChunkId,
    ) -> Result<Option<Found>, AccessError> {
        self.find_by(segments, |index| index.find(id))
    }

    /// Some places of a chunk: see [`Index::find_some`].
    pub fn find_some(
        &self,
        segments: &Segments<'_>,
        id: &ChunkId,
    ) -> Result<Option<Found>, AccessError> {
        self.find_by(segments, |index| index.find_some(id))
    }

    fn find_by(
        &self,
        segments: &Segments<'_>,
        find: impl Fn(&dyn Index) -> Result<Option<Found>, IndexError>,
    ) -> Result<Option<Found>, AccessError> {
        self.ask(segments, |state| {
            let mut found = find(&*state.index.index)?;
            if let Some(found) = &mut found {
                let found = std::slice::from_mut(found);
                state.index.renumber(found, &self.packs)?;
            }
            let Some(overlay) = &state.overlay else {
                return Ok(found);
            };
            let Some(mut more) = find(&*overlay.index)? else {
                return Ok(found);
            };
            overlay.renumber(std::slice::from_mut(&mut more), &self.packs)?;
            Ok(Some(match found {
                Some(found) => join(found, more),
                None => more,
            }))
        })
    }

    /// All chunks whose ids begin with `base`.
    pub fn find_base(
        &self,
        segments: &Segments<'_>,
        base: &BaseRef,
    ) -> Result<Vec<Found>, AccessError> {
        self.ask(segments, |state| {
            let mut all = state.index.index.find_base(base)?;
            state.index.renumber(&mut all, &self.packs)?;
            let Some(overlay) = &state.overlay else {
                return Ok(all);
            };
            let mut more = overlay.index.find_base(base)?;
            overlay.renumber(&mut more, &self.packs)?;
            for more in more {
                match all.iter_mut().find(|f| f.id == more.id) {
                    Some(known) => known.places.extend(more.places),
                    None => all.push(more),
                }
            }
            Ok(all)
        })
    }

    /// Every pack that rows name.
    pub fn packs(&self, segments: &Segments<'_>) -> Result<Vec<KnownPack>, AccessError> {
        self.ask(segments, |state| {
            let mut packs = state.index.learn(&self.packs)?;
            if let Some(overlay) = &state.overlay {
                packs.extend(overlay.learn(&self.packs)?);
            }
            packs.sort_by_key(|p| p.number);
            packs.dedup_by_key(|p| p.number);
            Ok(packs)
        })
    }

    /// What a pack's number means.
    pub fn pack(&self, number: PackNumber) -> Option<KnownPack> {
        self.packs.read().ok()?.all.get(number.0 as usize).cloned()
    }

    /// Chunks in the order of their ids; only for a settled index.
    pub fn scan(
        &self,
        segments: &Segments<'_>,
        after: Option<&ChunkId>,
        limit: usize,
    ) -> Result<Vec<Found>, AccessError> {
        self.ask(segments, |state| {
            let mut batch = state.index.index.scan(after, limit)?;
            state.index.renumber(&mut batch, &self.packs)?;
            Ok(batch)
        })
    }
}

impl State {
    fn replace(&mut self, index: Arc<dyn Index>) {
        self.index = Cache::new(index);
        self.overlay = None;
        self.turn += 1;
    }

    fn add_to_overlay(&mut self, gathered: &mut Gathered<'_>) -> Result<(), AccessError> {
        let fresh = || Cache::new(Arc::new(MemoryIndex::default()));
        gathered.rewind();
        self.overlay
            .get_or_insert_with(fresh)
            .index
            .load(gathered)?;
        Ok(())
    }
}

fn join(mut one: Found, more: Found) -> Found {
    one.places.extend(more.places);
    one
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Fault, Faulty, Memory};
    use crate::crypto::Encryption;
    use crate::testing::{MapSource, Moody, new_repository, noise, take};

    /// A repository of three segments or more, and its backend.
    fn segments() -> (Memory, crate::repository::Repository) {
        let (memory, repository) = new_repository(Encryption::None, 0);
        let mut source = MapSource::default();
        for night in ["one", "two", "three"] {
            source.files.insert(b"file".to_vec(), noise(400, night));
            take(&repository, &mut source);
        }
        (memory, repository)
    }

    #[test]
    fn what_was_read_before_an_error_is_applied() {
        let (memory, repository) = segments();
        let faulty = Faulty::new(memory);
        let segments = Segments {
            backend: &faulty,
            keys: repository.segments().keys,
        };
        let fresh = |_| Ok(Arc::new(MemoryIndex::default()) as Arc<dyn Index>);
        let index = Arc::new(MemoryIndex::default());
        let handle = IndexHandle::new(index.clone(), Box::new(fresh), None);
        // A listing, a segment, and then one that cannot be had.
        faulty.fail_at(3, Fault::Before);
        handle.update(&segments).unwrap_err();
        assert_eq!(index.applied().unwrap().len(), 1);
        handle.update(&segments).unwrap();
        assert!(index.applied().unwrap().len() >= 3);
    }

    #[test]
    fn a_busy_cache_is_replaced_by_one_in_memory() {
        let (_, repository) = segments();
        let segments = repository.segments();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        let fresh = move |private| {
            log.lock().unwrap().push(private);
            Ok(Arc::new(MemoryIndex::default()) as Arc<dyn Index>)
        };
        let index = Arc::new(Moody::default());
        index.busy.store(true, Ordering::Relaxed);
        let handle = IndexHandle::new(index.clone(), Box::new(fresh), None);
        handle.settle(&segments).unwrap();
        assert_eq!(*asked.lock().unwrap(), [true]);
        let applied = handle.applied().unwrap().len();
        assert!(applied >= 3 && index.applied().unwrap().is_empty());
        assert_eq!(handle.scan(&segments, None, 1).unwrap().len(), 1);
    }
}

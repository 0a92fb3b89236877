//! The index as the rest of the core uses it: kept up to date from the repository's segments,
//! replaced when the local cache fails, completed in memory when the cache is busy.
//!
//! Nothing here is ever reported as damage of the repository except a segment that does not open.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, RwLock};

use super::{Apply, ChunkNumber, Found, Index, KnownPack, MemoryIndex, PackNumber};
use crate::backend::{Area, Backend, Key};
use crate::crypto::{Keys, Kind};
use crate::error::AccessError;
use crate::format::segment::{Segment, SegmentHeader};
use crate::id::{BaseRef, ChunkId, SegmentId};
use crate::index::IndexError;

/// Makes an empty index to replace one that failed. `private` asks for one that no other process
/// shares.
pub(crate) type NewIndex = dyn Fn(bool) -> Result<Arc<dyn Index>, IndexError> + Send + Sync;

/// Numbers of the overlay begin here.
const OVERLAY: u32 = 1 << 31;
/// Rows that are applied in one batch when catching up.
const BATCH_ROWS: usize = 1 << 20;

/// A kept-up index.
pub(crate) struct IndexHandle {
    state: RwLock<State>,
    fresh: Box<NewIndex>,
    /// What numbers of packs mean, as far as somebody asked, and in which generation.
    names: RwLock<(u64, HashMap<PackNumber, KnownPack>)>,
}

struct State {
    index: Arc<dyn Index>,
    /// Rows that could not be written because another process holds the cache.
    overlay: Option<MemoryIndex>,
    /// Changes whenever numbers lose their meaning.
    generation: u64,
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
        let stored = match self.backend.get(&key) {
            Ok(stored) => stored,
            Err(e) if e.is_absent() => return Ok(None),
            Err(e) => return Err(e.into()),
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
    pub fn new(index: Arc<dyn Index>, fresh: Box<NewIndex>) -> IndexHandle {
        let state = State {
            index,
            overlay: None,
            generation: 0,
        };
        IndexHandle {
            state: RwLock::new(state),
            fresh,
            names: RwLock::default(),
        }
    }

    /// Changes whenever pack and chunk numbers seen before lose their meaning.
    pub fn generation(&self) -> u64 {
        self.state.read().map_or(0, |s| s.generation)
    }

    /// Tells apart the meanings that chunk numbers have had, also in other processes.
    pub fn stable_generation(&self, segments: &Segments<'_>) -> Result<u64, AccessError> {
        self.ask(segments, |state| state.index.generation())
    }

    fn read(&self) -> Result<std::sync::RwLockReadGuard<'_, State>, AccessError> {
        self.state
            .read()
            .map_err(|_| IndexError("a thread failed while using it".into()).into())
    }

    /// Reads what the repository has and the index has not. Another history, or a cache that fails,
    /// makes a new one; when that fails too (a full disk) it is kept in memory.
    pub fn update(&self, segments: &Segments<'_>) -> Result<(), AccessError> {
        for private in [false, true] {
            match self.try_update(segments) {
                Err(AccessError::Index(_)) => self.replace(private)?,
                other => return other,
            }
        }
        self.try_update(segments)
    }

    fn try_update(&self, segments: &Segments<'_>) -> Result<(), AccessError> {
        loop {
            let listed = segments.list()?;
            let applied = self.applied()?;
            let known: HashSet<SegmentId> = applied.iter().map(|a| a.id).collect();
            let names: HashSet<SegmentId> = listed.iter().map(|(id, _)| *id).collect();
            let mut replaced: HashSet<SegmentId> = applied
                .iter()
                .flat_map(|a| a.supersedes.iter().copied())
                .collect();
            let mut batch = Vec::new();
            let mut rows = 0;
            let mut gone = false;
            for (id, _) in listed.iter().filter(|(id, _)| !known.contains(id)) {
                let Some(segment) = segments.get(id)? else {
                    gone = true;
                    break;
                };
                rows += segment.rows.len();
                replaced.extend(segment.supersedes.iter().copied());
                batch.push((*id, segment));
                if rows >= BATCH_ROWS {
                    self.apply(&batch)?;
                    (batch, rows) = (Vec::new(), 0);
                }
            }
            self.apply(&batch)?;
            if gone {
                continue;
            }
            let lost = |a: &super::Applied| !names.contains(&a.id) && !replaced.contains(&a.id);
            if applied.iter().any(lost) {
                self.replace(false)?;
                continue;
            }
            return Ok(());
        }
    }

    fn applied(&self) -> Result<Vec<super::Applied>, AccessError> {
        let state = self.read()?;
        let mut applied = state.index.applied()?;
        if let Some(overlay) = &state.overlay {
            applied.extend(overlay.applied()?);
        }
        Ok(applied)
    }

    /// Puts an empty index in the place of one that failed.
    fn replace(&self, private: bool) -> Result<(), AccessError> {
        let fresh = (self.fresh)(private)?;
        let mut state = self.write()?;
        state.index = fresh;
        state.overlay = None;
        state.generation += 1;
        Ok(())
    }

    fn apply(&self, batch: &[(SegmentId, Segment)]) -> Result<(), AccessError> {
        if batch.is_empty() {
            return Ok(());
        }
        let refs: Vec<_> = batch.iter().map(|(id, segment)| (*id, segment)).collect();
        let mut state = self.write()?;
        let busy = state.overlay.is_some() || state.index.apply(&refs)? == Apply::Busy;
        if busy {
            state.overlay.get_or_insert_default().apply(&refs)?;
        }
        Ok(())
    }

    /// Adds the rows of a segment that this process has put. A cache that cannot take them (a full
    /// disk) does not stop the run: they are kept in memory.
    pub fn apply_own(&self, id: SegmentId, segment: Segment) -> Result<(), AccessError> {
        let batch = [(id, segment)];
        if let Err(AccessError::Index(_)) = self.apply(&batch) {
            let [(id, segment)] = &batch;
            self.write()?
                .overlay
                .get_or_insert_default()
                .apply(&[(*id, segment)])?;
        }
        Ok(())
    }

    fn write(&self) -> Result<std::sync::RwLockWriteGuard<'_, State>, AccessError> {
        self.state
            .write()
            .map_err(|_| IndexError("a thread failed while using it".into()).into())
    }

    /// Makes sure that numbers are dense and complete, as gc needs them: without an overlay.
    pub fn settle(&self, segments: &Segments<'_>) -> Result<(), AccessError> {
        if self.read()?.overlay.is_none() {
            return Ok(());
        }
        self.replace(true)?;
        self.update(segments)
    }

    /// Runs a look-up; a cache that fails is replaced, filled and asked again.
    fn ask<T>(
        &self,
        segments: &Segments<'_>,
        question: impl Fn(&State) -> Result<T, IndexError>,
    ) -> Result<T, AccessError> {
        let first = question(&*self.read()?);
        match first {
            Ok(answer) => Ok(answer),
            Err(_) => {
                self.replace(false)?;
                self.update(segments)?;
                Ok(question(&*self.read()?)?)
            }
        }
    }

    /// All places of a chunk.
    pub fn find(
        &self,
        segments: &Segments<'_>,
        id: &ChunkId,
    ) -> Result<Option<Found>, AccessError> {
        self.ask(segments, |state| {
            let found = state.index.find(id)?;
            let Some(overlay) = &state.overlay else {
                return Ok(found);
            };
            Ok(merge(found, overlay.find(id)?))
        })
    }

    /// All chunks whose ids begin with `base`.
    pub fn find_base(
        &self,
        segments: &Segments<'_>,
        base: &BaseRef,
    ) -> Result<Vec<Found>, AccessError> {
        self.ask(segments, |state| {
            let mut found = state.index.find_base(base)?;
            if let Some(overlay) = &state.overlay {
                for more in overlay.find_base(base)? {
                    match found.iter_mut().find(|f| f.id == more.id) {
                        Some(known) => known.places.extend(shift(more).places),
                        None => found.push(shift(more)),
                    }
                }
            }
            Ok(found)
        })
    }

    /// Every pack that rows name.
    pub fn packs(&self, segments: &Segments<'_>) -> Result<Vec<KnownPack>, AccessError> {
        self.ask(segments, |state| {
            let mut packs = state.index.packs()?;
            if let Some(overlay) = &state.overlay {
                let shifted = |mut p: KnownPack| {
                    p.number = PackNumber(p.number.0 | OVERLAY);
                    p
                };
                packs.extend(overlay.packs()?.into_iter().map(shifted));
            }
            Ok(packs)
        })
    }

    /// What a pack's number means; `None` when nothing has this number.
    pub fn pack(
        &self,
        segments: &Segments<'_>,
        number: PackNumber,
    ) -> Result<Option<KnownPack>, AccessError> {
        let generation = self.generation();
        if let Ok(names) = self.names.read()
            && names.0 == generation
            && let Some(pack) = names.1.get(&number)
        {
            return Ok(Some(pack.clone()));
        }
        let packs = self.packs(segments)?;
        let by_number: HashMap<_, _> = packs.into_iter().map(|p| (p.number, p)).collect();
        let found = by_number.get(&number).cloned();
        if let Ok(mut names) = self.names.write() {
            *names = (generation, by_number);
        }
        Ok(found)
    }

    /// Chunks in the order of their ids; only for a settled index.
    pub fn scan(
        &self,
        segments: &Segments<'_>,
        after: Option<&ChunkId>,
        limit: usize,
    ) -> Result<Vec<Found>, AccessError> {
        self.ask(segments, |state| state.index.scan(after, limit))
    }
}

fn shift(mut found: Found) -> Found {
    found.number = ChunkNumber(found.number.0 | OVERLAY);
    for place in &mut found.places {
        place.pack = PackNumber(place.pack.0 | OVERLAY);
    }
    found
}

fn merge(one: Option<Found>, more: Option<Found>) -> Option<Found> {
    match (one, more.map(shift)) {
        (Some(mut one), Some(more)) => {
            one.places.extend(more.places);
            Some(one)
        }
        (one, more) => one.or(more),
    }
}

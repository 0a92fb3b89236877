//! [`MemoryIndex`]: an index in plain maps, the executable specification of [`Index`].
//!
//! Cloning shares everything until one of the clones changes, so that an explorer of
//! interleavings can make very many. It keeps nothing on disk and is not meant for repositories
//! of any size.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock};

use super::{
    Applied, Apply, ChunkNumber, Found, Index, IndexError, KnownPack, Load, PackNumber, Place,
};
use crate::format::segment::{SegmentPack, SegmentRow};
use crate::id::{BaseRef, ChunkId, PackId, SegmentId};

/// An index in memory. A clone is independent of its original.
#[derive(Debug)]
pub struct MemoryIndex(RwLock<Arc<State>>);

#[derive(Debug, Clone, Default)]
struct State {
    chunks: BTreeMap<ChunkId, Chunk>,
    packs: Vec<KnownPack>,
    numbers: BTreeMap<PackId, PackNumber>,
    applied: BTreeMap<SegmentId, Vec<SegmentId>>,
    generation: u64,
}

#[derive(Debug, Clone)]
struct Chunk {
    number: ChunkNumber,
    places: Vec<Place>,
}

/// A load that began: the numbers of its packs, and the generation that they belong to.
struct Begun {
    packs: Vec<PackNumber>,
    generation: u64,
}

/// A generation that no other index, in this process or another, has ever had: what somebody kept
/// under the numbers of one must never be taken for those of another.
fn fresh_generation() -> u64 {
    u64::from_le_bytes(crate::crypto::random())
}

impl Default for MemoryIndex {
    fn default() -> Self {
        let state = State {
            generation: fresh_generation(),
            ..State::default()
        };
        MemoryIndex(RwLock::new(Arc::new(state)))
    }
}

impl Clone for MemoryIndex {
    /// Rows and numbers are shared until one changes; the clone has a generation of its own.
    fn clone(&self) -> Self {
        let mut state = State::clone(&self.state());
        state.generation = fresh_generation();
        MemoryIndex(RwLock::new(Arc::new(state)))
    }
}

impl MemoryIndex {
    fn state(&self) -> Arc<State> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.0.write().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut state))
    }
}

impl State {
    /// Numbers the packs of a load; `None` when all its segments were applied before.
    fn begin(&mut self, load: &dyn Load) -> Result<Option<Begun>, IndexError> {
        let is_new = |s: &Applied| !self.applied.contains_key(&s.id);
        if !load.segments().iter().any(is_new) {
            return Ok(None);
        }
        Ok(Some(Begun {
            packs: self.pack_numbers(load.packs())?,
            generation: self.generation,
        }))
    }

    /// Fails when pack numbers have lost their meaning since a load began.
    fn is_still(&self, begun: &Begun) -> Result<(), IndexError> {
        if self.generation == begun.generation {
            return Ok(());
        }
        Err(IndexError("it was cleared meanwhile".into()))
    }

    fn add_part(&mut self, begun: &Begun, rows: Vec<SegmentRow>) -> Result<(), IndexError> {
        self.is_still(begun)?;
        for row in rows {
            let pack = usize::try_from(row.pack).ok();
            let pack = pack.and_then(|i| begun.packs.get(i));
            let pack = pack.ok_or_else(|| IndexError("a row names no pack".into()))?;
            self.add(place(&row, *pack), row.id)?;
        }
        Ok(())
    }

    fn end(&mut self, begun: &Begun, segments: &[Applied]) -> Result<(), IndexError> {
        self.is_still(begun)?;
        for segment in segments {
            self.applied.insert(segment.id, segment.supersedes.clone());
        }
        Ok(())
    }

    fn pack_numbers(&mut self, new: &[SegmentPack]) -> Result<Vec<PackNumber>, IndexError> {
        let mut numbers = Vec::with_capacity(new.len());
        for pack in new {
            let next = u32::try_from(self.packs.len()).map_err(|_| full())?;
            let number = *self.numbers.entry(pack.id).or_insert(PackNumber(next));
            if number.0 == next {
                self.packs.push(KnownPack {
                    number,
                    id: pack.id,
                    session: pack.session,
                    tree: pack.tree,
                });
            }
            numbers.push(number);
        }
        Ok(numbers)
    }

    /// New chunks of one batch are numbered in the order of their ids, in which they come.
    fn add(&mut self, place: Place, id: ChunkId) -> Result<(), IndexError> {
        let next = u32::try_from(self.chunks.len()).map_err(|_| full())?;
        let chunk = self.chunks.entry(id).or_insert(Chunk {
            number: ChunkNumber(next),
            places: Vec::new(),
        });
        if let Err(at) = chunk.places.binary_search_by_key(&place.pack, |p| p.pack) {
            chunk.places.insert(at, place);
        }
        Ok(())
    }
}

fn full() -> IndexError {
    IndexError("it is full: numbers are used up".into())
}

fn place(row: &SegmentRow, pack: PackNumber) -> Place {
    Place {
        pack,
        offset: row.offset,
        stored: row.stored,
        slot: row.slot,
        plain: row.plain,
        encoding: row.encoding,
        depth: row.depth,
        bases: row.bases,
    }
}

fn found((id, chunk): (&ChunkId, &Chunk)) -> Found {
    Found {
        id: *id,
        number: chunk.number,
        places: chunk.places.clone(),
    }
}

impl Index for MemoryIndex {
    fn applied(&self) -> Result<Vec<Applied>, IndexError> {
        let state = self.state();
        let applied = state.applied.iter().map(|(id, supersedes)| Applied {
            id: *id,
            supersedes: supersedes.clone(),
        });
        Ok(applied.collect())
    }

    fn load(&self, load: &mut dyn Load) -> Result<Apply, IndexError> {
        let Some(begun) = self.change(|state| state.begin(load))? else {
            return Ok(Apply::Done);
        };
        while let Some(part) = load.next()? {
            self.change(|state| state.add_part(&begun, part))?;
        }
        self.change(|state| state.end(&begun, load.segments()))?;
        Ok(Apply::Done)
    }

    fn find(&self, id: &ChunkId) -> Result<Option<Found>, IndexError> {
        Ok(self.state().chunks.get_key_value(id).map(found))
    }

    fn find_base(&self, base: &BaseRef) -> Result<Vec<Found>, IndexError> {
        let state = self.state();
        let mut first = [0; 32];
        first
            .iter_mut()
            .zip(base.0)
            .for_each(|(to, from)| *to = from);
        let rest = state.chunks.range(ChunkId(first)..);
        Ok(rest
            .take_while(|(id, _)| id.as_base() == *base)
            .map(found)
            .collect())
    }

    fn scan(&self, after: Option<&ChunkId>, limit: usize) -> Result<Vec<Found>, IndexError> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let state = self.state();
        let chunks = state.chunks.range::<ChunkId, _>((from, Bound::Unbounded));
        Ok(chunks.take(limit).map(found).collect())
    }

    fn packs(&self) -> Result<Vec<KnownPack>, IndexError> {
        Ok(self.state().packs.clone())
    }

    fn generation(&self) -> Result<u64, IndexError> {
        Ok(self.state().generation)
    }

    fn clear(&self) -> Result<(), IndexError> {
        self.change(|state| {
            *state = State {
                generation: fresh_generation(),
                ..State::default()
            };
        });
        Ok(())
    }
}

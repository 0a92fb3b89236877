//! Reading chunks: every place is tried, every chunk is checked against its id (gc-protocol.md,
//! "Reader").
//!
//! Needs no session. Rows to absent packs are no errors; only a chunk with no whole place is.

mod ahead;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};

use self::ahead::Ahead;
use crate::backend::Trouble;
use crate::error::AccessError;
use crate::format::MAX_DEPTH;
use crate::id::{BaseRef, ChunkId, PackId};
use crate::index::{Bases, Found, Place};
use crate::monitor::Counters;
use crate::pack::{is_record_length, pack_key, read_header};
use crate::record::{OpenRecord, Parts, RecordError, World, join};
pub(crate) use crate::record::{Stand, Verified};
use crate::repository::Repository;

/// Bytes of opened records that a reader keeps.
const RECORD_CACHE: u64 = 16 << 20;
/// Bytes of decoded bases that a reader keeps: of both, enough for chains of neighbours in several
/// places of a file at once.
const BASE_CACHE: u64 = 24 << 20;
/// Below this a cache is one piece: what is larger than a piece is never kept.
const ONE_PIECE: usize = 63;

/// Places looked at for one chunk and its bases before it counts as lost: its chain is absurd.
const MAX_STEPS: u32 = 4096;

/// How much work one chunk may still cause: bases may be many, deep, or form cycles.
#[derive(Debug)]
pub(crate) struct Budget {
    /// Levels of bases that are left.
    depth: u8,
    /// Places that may still be tried.
    steps: u32,
    /// Bases that were decoded for it, so that each is decoded once whatever else is kept.
    done: HashMap<BaseRef, Arc<Verified>>,
    proof: Proof,
}

/// What is compared with its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proof {
    /// Each base, and the chunk.
    Each,
    /// The chunk alone: whatever is wrong with a base makes it another.
    Whole,
}

/// Bases that are remembered for one chunk.
const MAX_DONE: usize = 64;

impl Budget {
    /// For one chunk and everything it is based on.
    pub fn new() -> Budget {
        Budget {
            depth: MAX_DEPTH,
            steps: MAX_STEPS,
            done: HashMap::new(),
            proof: Proof::Each,
        }
    }

    /// Whether a base is left to the proof of what is built on it.
    fn trusts_base(&self) -> bool {
        self.proof == Proof::Whole && self.depth < MAX_DEPTH
    }

    /// Takes a step; `false` when there is none left.
    fn step(&mut self) -> bool {
        let left = self.steps.checked_sub(1);
        self.steps = left.unwrap_or(0);
        left.is_some()
    }
}

/// Reads chunks of one repository. Shared by threads.
pub(crate) struct Reader<'r> {
    repository: &'r Repository,
    records: Cache<(PackId, u32), Arc<OpenRecord>, ByWeight>,
    /// Two chunks with equal references are as good as impossible, and a delta that was decoded
    /// with the wrong one fails its check.
    bases: Cache<BaseRef, Arc<Verified>, ByWeight>,
    ahead: Ahead,
    /// How chunks are proven at first; when that fails, each base is.
    proof: Proof,
    /// Bytes fetched are added here.
    fetched: Option<&'r AtomicU64>,
    /// Plain bytes of all that is decoded are added here.
    decoded: Option<&'r AtomicU64>,
}

#[derive(Debug, Clone)]
struct ByWeight;

impl Weighter<(PackId, u32), Arc<OpenRecord>> for ByWeight {
    fn weight(&self, _: &(PackId, u32), record: &Arc<OpenRecord>) -> u64 {
        record.weight()
    }
}

impl Weighter<BaseRef, Arc<Verified>> for ByWeight {
    fn weight(&self, _: &BaseRef, base: &Arc<Verified>) -> u64 {
        base.plain.len() as u64 + 256
    }
}

/// A cache of so many bytes. Half of it is for what was asked for once: a base is needed again soon
/// or never, and must not give way to what was needed twice long ago.
fn cache<K, V>(bytes: u64) -> Cache<K, V, ByWeight>
where
    K: Eq + std::hash::Hash,
    V: Clone,
    ByWeight: Weighter<K, V>,
{
    let options = OptionsBuilder::new()
        .estimated_items_capacity(ONE_PIECE)
        .weight_capacity(bytes)
        .hot_allocation(0.5)
        .build();
    match options {
        Ok(options) => Cache::with_options(
            options,
            ByWeight,
            DefaultHashBuilder::default(),
            DefaultLifecycle::default(),
        ),
        Err(_) => Cache::with_weighter(ONE_PIECE, bytes, ByWeight),
    }
}

impl<'r> Reader<'r> {
    pub fn new(repository: &'r Repository) -> Reader<'r> {
        Reader {
            repository,
            records: cache(RECORD_CACHE),
            bases: cache(BASE_CACHE),
            ahead: Ahead::default(),
            proof: Proof::Each,
            fetched: None,
            decoded: None,
        }
    }

    /// Compares only the chunks that are asked for with their ids, and bases when that fails: for
    /// restores, which show or write nothing else.
    pub fn proving_the_last(mut self) -> Reader<'r> {
        self.proof = Proof::Whole;
        self
    }

    fn budget(&self) -> Budget {
        Budget {
            proof: self.proof,
            ..Budget::new()
        }
    }

    /// Adds the bytes that are fetched to `counters.stored`, the plain bytes of everything that is
    /// decoded to `counters.decoded`.
    pub fn counting(mut self, counters: &'r Counters) -> Reader<'r> {
        self.fetched = Some(&counters.stored);
        self.counting_decoded(counters)
    }

    /// Adds the plain bytes of everything that is decoded to `counters.decoded`.
    pub fn counting_decoded(mut self, counters: &'r Counters) -> Reader<'r> {
        self.decoded = Some(&counters.decoded);
        self
    }

    /// The repository.
    pub fn repository(&self) -> &'r Repository {
        self.repository
    }

    /// A chunk's plain bytes. When no place is whole the index is read again, and new places are
    /// tried.
    ///
    /// # Errors
    /// [`AccessError::LostChunk`] when every place is missing, damaged, or on a part of the storage
    /// that cannot be read; the storage's error when it kept one of them from being read for
    /// another reason and no other is whole.
    pub fn chunk(&self, world: World, id: &ChunkId) -> Result<Vec<u8>, AccessError> {
        if let Some(known) = self.kept(id) {
            return Ok(known.plain.clone());
        }
        match self.try_chunk(world, id, &mut self.budget()) {
            Err(e) if is_bad(&e) => {}
            other => return other.map(|verified| verified.plain),
        }
        self.repository.update_index()?;
        match self.try_chunk(world, id, &mut Budget::new()) {
            Err(AccessError::Backend(e)) if e.is_unreadable() && self.repository.answers() => {
                let said = e
                    .source
                    .as_ref()
                    .map_or_else(|| e.to_string(), ToString::to_string);
                Err(AccessError::LostChunk {
                    chunk: *id,
                    why: Some(format!("{} cannot be read: {said}", e.key)),
                })
            }
            other => other.map(|verified| verified.plain),
        }
    }

    /// A chunk that is kept as a base, and was compared with its id.
    pub fn kept(&self, id: &ChunkId) -> Option<Arc<Verified>> {
        let kept = self.bases.get(&id.as_base());
        kept.filter(|base| base.id == *id && base.proven)
    }

    /// Keeps a chunk: others that are based on it come soon.
    pub fn keep(&self, chunk: Verified) {
        self.bases.insert(chunk.id.as_base(), Arc::new(chunk));
    }

    /// Lets go of all that is kept: what comes next needs the memory and none of it.
    pub fn clear(&self) {
        self.records.clear();
        self.bases.clear();
        self.ahead.clear();
    }

    fn try_chunk(
        &self,
        world: World,
        id: &ChunkId,
        budget: &mut Budget,
    ) -> Result<Verified, AccessError> {
        let index = self.repository.index();
        match index.find(&self.repository.segments(), id)? {
            Some(found) => self.try_places(world, found, budget),
            None => Err(AccessError::LostChunk {
                chunk: *id,
                why: None,
            }),
        }
    }

    fn try_places(
        &self,
        world: World,
        found: Found,
        budget: &mut Budget,
    ) -> Result<Verified, AccessError> {
        let (id, mut places) = (found.id, found.places);
        places.sort_by_key(|p| p.depth);
        let mut why = None;
        let mut trouble = None;
        for place in &places {
            if !budget.step() {
                why = Some("its chain of bases is absurd".to_owned());
                break;
            }
            match self.read_place(world, &id, place, budget) {
                Ok(verified) => return Ok(verified),
                Err(e) if says_damage(&e) => why = Some(e.to_string()),
                Err(e @ AccessError::Backend(_)) => trouble = trouble.or(Some(e)),
                Err(e) => return Err(e),
            }
        }
        Err(trouble.unwrap_or(AccessError::LostChunk { chunk: id, why }))
    }

    fn read_place(
        &self,
        world: World,
        id: &ChunkId,
        place: &Place,
        budget: &mut Budget,
    ) -> Result<Verified, AccessError> {
        let pack = self.repository.index().pack(place.pack);
        let pack = pack
            .ok_or(AccessError::LostChunk {
                chunk: *id,
                why: None,
            })?
            .id;
        let record = self.record(world, pack, place.offset, place.stored)?;
        let plain = self
            .decode(world, id, &record, place.slot, budget)
            .map_err(|e| match e {
                AccessError::LostChunk { why, .. } => AccessError::DamagedRecord {
                    pack,
                    offset: place.offset,
                    why: why.unwrap_or_else(|| "a base is missing".into()),
                },
                other => other,
            })?;
        Ok(Verified {
            id: *id,
            plain,
            proven: !budget.trusts_base(),
            stand: Stand {
                pack,
                offset: place.offset,
                slot: place.slot,
            },
        })
    }

    /// Decodes one chunk of an opened record and checks it.
    pub fn decode(
        &self,
        world: World,
        id: &ChunkId,
        record: &OpenRecord,
        slot: u8,
        budget: &mut Budget,
    ) -> Result<Vec<u8>, AccessError> {
        let (slot, bases) = self.prepare(world, id, record, slot, budget)?;
        let plain = record.decode(slot, &join(&bases));
        if budget.trusts_base() {
            return self.decoded(id, plain);
        }
        self.checked(world, id, plain)
    }

    /// The same without a copy: the bytes stand in the record or in `buffer`.
    pub fn plain<'a>(
        &self,
        world: World,
        id: &ChunkId,
        record: &'a OpenRecord,
        slot: u8,
        buffer: &'a mut Vec<u8>,
    ) -> Result<&'a [u8], AccessError> {
        let (slot, bases) = self.prepare(world, id, record, slot, &mut self.budget())?;
        let plain = record.plain(slot, &join(&bases), buffer);
        self.checked(world, id, plain)
    }

    /// The bases of a chunk, which must stand in a slot of a record.
    fn prepare(
        &self,
        world: World,
        id: &ChunkId,
        record: &OpenRecord,
        slot: u8,
        budget: &mut Budget,
    ) -> Result<(usize, Parts), AccessError> {
        let slot = usize::from(slot);
        let row = record.rows.get(slot).filter(|r| r.id == *id);
        let row = row.ok_or_else(|| lost(id, "the record holds another chunk"))?;
        Ok((slot, self.parts(world, &row.bases, budget)?))
    }

    /// What was decoded, counted.
    fn decoded<P: AsRef<[u8]>>(&self, id: &ChunkId, plain: Option<P>) -> Result<P, AccessError> {
        let plain = plain.ok_or_else(|| lost(id, "it does not decode"))?;
        if let Some(decoded) = self.decoded {
            Counters::add(decoded, plain.as_ref().len() as u64);
        }
        Ok(plain)
    }

    /// The same, if it is the chunk.
    fn checked<P: AsRef<[u8]>>(
        &self,
        world: World,
        id: &ChunkId,
        plain: Option<P>,
    ) -> Result<P, AccessError> {
        let plain = self.decoded(id, plain)?;
        match world.id(self.repository.keys(), plain.as_ref()) == *id {
            true => Ok(plain),
            false => Err(lost(id, "its bytes do not match its id")),
        }
    }

    /// The bases of a delta, each verified against its own id unless the proof is left to what is
    /// built on it.
    pub fn parts(
        &self,
        world: World,
        bases: &Bases,
        budget: &mut Budget,
    ) -> Result<Parts, AccessError> {
        let base = |base| self.base(world, base, budget);
        bases.iter().map(base).collect()
    }

    /// The bytes of a chunk, read at this place and verified in this process. What it is based on
    /// is left to that proof.
    pub fn verified(
        &self,
        world: World,
        id: &ChunkId,
        place: &Place,
    ) -> Result<Arc<Verified>, AccessError> {
        let pack = self.repository.index().pack(place.pack);
        let here = |known: &Arc<Verified>| {
            let stand = known.stand;
            let same = (stand.offset, stand.slot) == (place.offset, place.slot);
            same && pack.as_ref().is_some_and(|pack| pack.id == stand.pack)
        };
        if let Some(known) = self.kept(id).filter(here) {
            return Ok(known);
        }
        let mut budget = Budget {
            proof: Proof::Whole,
            ..Budget::new()
        };
        let verified = match self.read_place(world, id, place, &mut budget) {
            // A base may have another place that is whole.
            Err(e) if is_bad(&e) => self.read_place(world, id, place, &mut Budget::new()),
            other => other,
        };
        let verified = Arc::new(verified?);
        self.bases.insert(id.as_base(), Arc::clone(&verified));
        Ok(verified)
    }

    fn base(
        &self,
        world: World,
        base: BaseRef,
        budget: &mut Budget,
    ) -> Result<Arc<Verified>, AccessError> {
        if let Some(known) = budget.done.get(&base) {
            return Ok(Arc::clone(known));
        }
        let kept = self.bases.get(&base);
        if let Some(known) = kept.filter(|base| base.proven || budget.proof == Proof::Whole) {
            return Ok(known);
        }
        let segments = self.repository.segments();
        let mut last: Option<AccessError> = None;
        for found in self.repository.index().find_base(&segments, &base)? {
            let depth = budget.depth;
            let Some(below) = depth.checked_sub(1) else {
                break;
            };
            budget.depth = below;
            let read = self.try_places(world, found, budget);
            budget.depth = depth;
            match read {
                Ok(verified) => {
                    let verified = Arc::new(verified);
                    self.bases.insert(base, Arc::clone(&verified));
                    if budget.done.len() < MAX_DONE {
                        budget.done.insert(base, Arc::clone(&verified));
                    }
                    return Ok(verified);
                }
                // Trouble says more than damage.
                Err(e) => last = last.filter(|l| !says_damage(l)).or(Some(e)),
            }
        }
        let mut id = [0u8; 32];
        id.split_at_mut(16).0.copy_from_slice(&base.0);
        Err(last.unwrap_or(AccessError::LostChunk {
            chunk: ChunkId(id),
            why: None,
        }))
    }

    /// An opened record, from the cache or the backend.
    pub fn record(
        &self,
        world: World,
        pack: PackId,
        offset: u32,
        stored: u32,
    ) -> Result<Arc<OpenRecord>, AccessError> {
        if let Some(record) = self.records.get(&(pack, offset)) {
            return Ok(record);
        }
        let damaged = |why: String| AccessError::DamagedRecord { pack, offset, why };
        if !is_record_length(stored) {
            return Err(damaged("its length is absurd".into()));
        }
        let fetch = |from: u64, len: u64| self.fetch(pack, from, len);
        let (from, len) = (u64::from(offset), u64::from(stored));
        let piece = self.ahead.get(pack, from, len, &fetch)?;
        let record = match self.open(world, pack, offset, piece.bytes()) {
            // It may have been read badly, and with it what else was read then.
            Err(e) if e.is_damage() => {
                self.ahead.forget(pack, from);
                self.open(world, pack, offset, &self.fetch(pack, from, len)?)?
            }
            other => other?,
        };
        let record = Arc::new(record);
        self.records.insert((pack, offset), Arc::clone(&record));
        Ok(record)
    }

    /// A range of a pack.
    pub fn fetch(&self, pack: PackId, offset: u64, len: u64) -> Result<Vec<u8>, AccessError> {
        let backend = self.repository.backend();
        let bytes = backend.get_range(&pack_key(&pack)?, offset, len)?;
        if let Some(fetched) = self.fetched {
            Counters::add(fetched, len);
        }
        Ok(bytes)
    }

    /// Opens a record's stored bytes; a data key that is not known yet is taken from the pack.
    pub fn open(
        &self,
        world: World,
        pack: PackId,
        offset: u32,
        bytes: &[u8],
    ) -> Result<OpenRecord, AccessError> {
        let keys = self.repository.keys();
        let damaged = |e: RecordError| AccessError::DamagedRecord {
            pack,
            offset,
            why: e.to_string(),
        };
        match OpenRecord::open(keys, world, bytes) {
            Err(RecordError::NoKey(id)) => {
                let end = u64::from(offset) + bytes.len() as u64;
                let (header, _) = read_header(self.repository.backend(), &pack, end)?;
                let wrapped = header.keys.iter().find(|(k, _)| *k == id);
                if !wrapped.is_some_and(|(_, wrapped)| keys.learn_data_key(id, wrapped)) {
                    return Err(AccessError::NoDataKey(id));
                }
                OpenRecord::open(keys, world, bytes).map_err(damaged)
            }
            other => other.map_err(damaged),
        }
    }
}

fn lost(id: &ChunkId, why: &str) -> AccessError {
    AccessError::LostChunk {
        chunk: *id,
        why: Some(why.to_owned()),
    }
}

/// Whether an error says that something is bad where it lies: missing, damaged, or on a part of the
/// disk that cannot be read. A storage that fails as a whole may say the same of each object:
/// whoever draws conclusions asks [`Repository::answers`] too.
pub(crate) fn is_bad(error: &AccessError) -> bool {
    says_damage(error) || matches!(error, AccessError::Backend(e) if e.is_unreadable())
}

/// Whether an error says that what was read is missing or damaged, and not that the storage, or
/// this machine, failed: another place of a chunk may then be whole.
pub(crate) fn says_damage(error: &AccessError) -> bool {
    match error {
        AccessError::Backend(e) => matches!(e.trouble, Trouble::Absent | Trouble::OutOfRange),
        AccessError::NoDataKey(_) => true,
        other => other.is_damage(),
    }
}

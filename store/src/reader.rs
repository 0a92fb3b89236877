//! Reading chunks: every place is tried, every chunk is checked against its id (gc-protocol.md,
//! "Reader").
//!
//! Needs no session. Rows to absent packs are no errors; only a chunk with no whole place is.

use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::backend::Trouble;
use crate::error::AccessError;
use crate::format::MAX_DEPTH;
use crate::id::{BaseRef, ChunkId, PackId};
use crate::index::{Bases, Place};
use crate::monitor::Counters;
use crate::pack::{is_record_length, pack_key, read_header};
use crate::record::{OpenRecord, Parts, RecordError, World};
use crate::repository::Repository;

/// Bytes of opened records that a reader keeps.
const RECORD_CACHE: u64 = 48 << 20;
/// Bytes of decoded bases that a reader keeps.
const BASE_CACHE: u64 = 16 << 20;

/// Places looked at for one chunk and its bases before it counts as lost: its chain is absurd.
const MAX_STEPS: u32 = 4096;

/// How much work one chunk may still cause: bases may be many, deep, or form cycles.
#[derive(Debug)]
pub(crate) struct Budget {
    /// Levels of bases that are left.
    depth: u8,
    /// Places that may still be tried.
    steps: u32,
}

impl Budget {
    /// For one chunk and everything it is based on.
    pub fn new() -> Budget {
        Budget {
            depth: MAX_DEPTH,
            steps: MAX_STEPS,
        }
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
    bases: Cache<ChunkId, Arc<Vec<u8>>, ByWeight>,
    /// Bytes fetched are added here.
    counters: Option<&'r Counters>,
}

#[derive(Debug, Clone)]
struct ByWeight;

impl Weighter<(PackId, u32), Arc<OpenRecord>> for ByWeight {
    fn weight(&self, _: &(PackId, u32), record: &Arc<OpenRecord>) -> u64 {
        record.weight()
    }
}

impl Weighter<ChunkId, Arc<Vec<u8>>> for ByWeight {
    fn weight(&self, _: &ChunkId, plain: &Arc<Vec<u8>>) -> u64 {
        plain.len() as u64 + 64
    }
}

impl<'r> Reader<'r> {
    pub fn new(repository: &'r Repository) -> Reader<'r> {
        let weight = ByWeight;
        Reader {
            repository,
            records: Cache::with_weighter(512, RECORD_CACHE, weight.clone()),
            bases: Cache::with_weighter(256, BASE_CACHE, weight),
            counters: None,
        }
    }

    /// Adds the bytes that are fetched to `counters.stored`.
    pub fn counting(mut self, counters: &'r Counters) -> Reader<'r> {
        self.counters = Some(counters);
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
        match self.try_chunk(world, id, &mut Budget::new()) {
            Err(e) if is_bad(&e) => {}
            other => return other,
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
            other => other,
        }
    }

    fn try_chunk(
        &self,
        world: World,
        id: &ChunkId,
        budget: &mut Budget,
    ) -> Result<Vec<u8>, AccessError> {
        let index = self.repository.index();
        let found = index.find(&self.repository.segments(), id)?;
        let mut places = found.map(|f| f.places).unwrap_or_default();
        places.sort_by_key(|p| p.depth);
        let mut why = None;
        let mut trouble = None;
        for place in &places {
            if !budget.step() {
                why = Some("its chain of bases is absurd".to_owned());
                break;
            }
            match self.read_place(world, id, place, budget) {
                Ok(plain) => return Ok(plain),
                Err(e) if says_damage(&e) => why = Some(e.to_string()),
                Err(e @ AccessError::Backend(_)) => trouble = trouble.or(Some(e)),
                Err(e) => return Err(e),
            }
        }
        Err(trouble.unwrap_or(AccessError::LostChunk { chunk: *id, why }))
    }

    fn read_place(
        &self,
        world: World,
        id: &ChunkId,
        place: &Place,
        budget: &mut Budget,
    ) -> Result<Vec<u8>, AccessError> {
        let pack = self.repository.index().pack(place.pack);
        let pack = pack
            .ok_or(AccessError::LostChunk {
                chunk: *id,
                why: None,
            })?
            .id;
        let record = self.record(world, pack, place.offset, place.stored)?;
        self.decode(world, id, &record, place.slot, budget)
            .map_err(|e| match e {
                AccessError::LostChunk { why, .. } => AccessError::DamagedRecord {
                    pack,
                    offset: place.offset,
                    why: why.unwrap_or_else(|| "a base is missing".into()),
                },
                other => other,
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
        let lost = |why: &str| AccessError::LostChunk {
            chunk: *id,
            why: Some(why.to_owned()),
        };
        let slot = usize::from(slot);
        let row = record.rows.get(slot).filter(|r| r.id == *id);
        let row = row.ok_or_else(|| lost("the record holds another chunk"))?;
        let prefix = self.prefix(world, &row.bases, budget)?;
        let plain = record
            .decode(slot, &prefix)
            .ok_or_else(|| lost("it does not decode"))?;
        if world.id(self.repository.keys(), &plain) == *id {
            Ok(plain)
        } else {
            Err(lost("its bytes do not match its id"))
        }
    }

    /// The joined bases of a delta, each verified against its own id.
    pub fn prefix(
        &self,
        world: World,
        bases: &Bases,
        budget: &mut Budget,
    ) -> Result<Vec<u8>, AccessError> {
        let parts = self.parts(world, bases, budget)?;
        let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_slice()).collect();
        Ok(parts.concat())
    }

    /// The bases of a delta, each verified against its own id.
    pub fn parts(
        &self,
        world: World,
        bases: &Bases,
        budget: &mut Budget,
    ) -> Result<Parts, AccessError> {
        let base = |base| self.base(world, base, budget);
        bases.iter().map(base).collect()
    }

    /// The bytes of a chunk that stands at a place, verified in this process.
    pub fn verified(
        &self,
        world: World,
        id: &ChunkId,
        place: &Place,
    ) -> Result<Arc<Vec<u8>>, AccessError> {
        if let Some(plain) = self.bases.get(id) {
            return Ok(plain);
        }
        let plain = match self.read_place(world, id, place, &mut Budget::new()) {
            Ok(plain) => plain,
            Err(_) => self.chunk(world, id)?,
        };
        let plain = Arc::new(plain);
        self.bases.insert(*id, Arc::clone(&plain));
        Ok(plain)
    }

    fn base(
        &self,
        world: World,
        base: BaseRef,
        budget: &mut Budget,
    ) -> Result<Arc<Vec<u8>>, AccessError> {
        let segments = self.repository.segments();
        let mut last: Option<AccessError> = None;
        for found in self.repository.index().find_base(&segments, &base)? {
            if let Some(plain) = self.bases.get(&found.id) {
                return Ok(plain);
            }
            let depth = budget.depth;
            let Some(below) = depth.checked_sub(1) else {
                break;
            };
            budget.depth = below;
            let read = self.try_chunk(world, &found.id, budget);
            budget.depth = depth;
            match read {
                Ok(plain) => {
                    let plain = Arc::new(plain);
                    self.bases.insert(found.id, Arc::clone(&plain));
                    return Ok(plain);
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
        let bytes = self.fetch(pack, offset, u64::from(stored))?;
        let record = Arc::new(self.open(world, pack, offset, &bytes)?);
        self.records.insert((pack, offset), Arc::clone(&record));
        Ok(record)
    }

    /// A range of a pack.
    pub fn fetch(&self, pack: PackId, offset: u32, len: u64) -> Result<Vec<u8>, AccessError> {
        let bytes =
            self.repository
                .backend()
                .get_range(&pack_key(&pack)?, u64::from(offset), len)?;
        if let Some(counters) = self.counters {
            Counters::add(&counters.stored, len);
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

//! Reading chunks: every place is tried, every chunk is checked against its id (gc-protocol.md,
//! "Reader").
//!
//! Needs no session. Rows to absent packs are no errors; only a chunk with no whole place is.

use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::error::AccessError;
use crate::format::MAX_DEPTH;
use crate::id::{BaseRef, ChunkId, PackId};
use crate::index::{Bases, Place};
use crate::monitor::Counters;
use crate::pack::{is_record_length, pack_key, read_header};
use crate::record::{OpenRecord, RecordError, World};
use crate::repository::Repository;

/// Bytes of opened records that a reader keeps.
const RECORD_CACHE: u64 = 48 << 20;
/// Bytes of decoded bases that a reader keeps.
const BASE_CACHE: u64 = 16 << 20;

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
        // A shared frame is decoded later and then doubles the weight.
        record.weight() * 2
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
    /// [`AccessError::LostChunk`] when every place fails.
    pub fn chunk(&self, world: World, id: &ChunkId) -> Result<Vec<u8>, AccessError> {
        match self.try_chunk(world, id, MAX_DEPTH) {
            Err(e) if e.is_damage() => {}
            other => return other,
        }
        self.repository.update_index()?;
        self.try_chunk(world, id, MAX_DEPTH)
    }

    fn try_chunk(&self, world: World, id: &ChunkId, depth: u8) -> Result<Vec<u8>, AccessError> {
        let index = self.repository.index();
        let found = index.find(&self.repository.segments(), id)?;
        let mut places = found.map(|f| f.places).unwrap_or_default();
        places.sort_by_key(|p| p.depth);
        let mut why = None;
        for place in &places {
            match self.read_place(world, id, place, depth) {
                Ok(plain) => return Ok(plain),
                Err(e) if may_be_elsewhere(&e) => why = Some(e.to_string()),
                Err(e) => return Err(e),
            }
        }
        Err(AccessError::LostChunk { chunk: *id, why })
    }

    fn read_place(
        &self,
        world: World,
        id: &ChunkId,
        place: &Place,
        depth: u8,
    ) -> Result<Vec<u8>, AccessError> {
        let segments = self.repository.segments();
        let pack = self.repository.index().pack(&segments, place.pack)?;
        let pack = pack
            .ok_or(AccessError::LostChunk {
                chunk: *id,
                why: None,
            })?
            .id;
        let record = self.record(world, pack, place.offset, place.stored)?;
        self.decode(world, id, &record, place.slot, depth)
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
        depth: u8,
    ) -> Result<Vec<u8>, AccessError> {
        let lost = |why: &str| AccessError::LostChunk {
            chunk: *id,
            why: Some(why.to_owned()),
        };
        let slot = usize::from(slot);
        let row = record.rows.get(slot).filter(|r| r.id == *id);
        let row = row.ok_or_else(|| lost("the record holds another chunk"))?;
        let prefix = self.prefix(world, &row.bases, depth)?;
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
    pub fn prefix(&self, world: World, bases: &Bases, depth: u8) -> Result<Vec<u8>, AccessError> {
        let mut joined = Vec::new();
        for base in bases.iter() {
            joined.extend_from_slice(&self.base(world, base, depth)?);
        }
        Ok(joined)
    }

    fn base(&self, world: World, base: BaseRef, depth: u8) -> Result<Arc<Vec<u8>>, AccessError> {
        let segments = self.repository.segments();
        let mut last = None;
        for found in self.repository.index().find_base(&segments, &base)? {
            if let Some(plain) = self.bases.get(&found.id) {
                return Ok(plain);
            }
            let Some(depth) = depth.checked_sub(1) else {
                break;
            };
            match self.try_chunk(world, &found.id, depth) {
                Ok(plain) => {
                    let plain = Arc::new(plain);
                    self.bases.insert(found.id, Arc::clone(&plain));
                    return Ok(plain);
                }
                Err(e) => last = Some(e),
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

/// Whether another place of the chunk may still be whole.
fn may_be_elsewhere(error: &AccessError) -> bool {
    use crate::backend::Trouble;
    match error {
        AccessError::Backend(e) => {
            matches!(
                e.trouble,
                Trouble::Absent | Trouble::OutOfRange | Trouble::Other
            )
        }
        other => other.is_damage() || matches!(other, AccessError::NoDataKey(_)),
    }
}

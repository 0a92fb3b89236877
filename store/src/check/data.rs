//! The data level: reads every byte of packs; their names, seals, and every chunk against its id.
//!
//! A pack whose directory cannot be trusted is read again where the index says that its records
//! are. What is found is a value; which snapshots need it is told by [`super::walk`].

use std::collections::{BTreeMap, BTreeSet};

use super::bad::{BadPacks, BadSlot, Fault};
use crate::backend::{BackendError, Key, Trouble};
use crate::error::AccessError;
use crate::id::PackId;
use crate::index::KnownPack;
use crate::monitor::{Counters, Monitor};
use crate::pack::{is_record_length, pack_key, read_directory, read_header};
use crate::reader::{Budget, Reader, is_bad};
use crate::record::{OpenRecord, World};
use crate::repository::Repository;

/// Bytes of a pack that are fetched in one go.
const PART: u64 = 4 << 20;

/// Packs that were read.
#[derive(Debug, Default)]
pub(crate) struct ReadPacks {
    /// What is bad in them.
    pub bad: BadPacks,
    /// Those that were read to their end, whole or not; those that are gone are left out.
    pub read: Vec<(PackId, u64)>,
    /// Those of which the storage cannot read something, with what it said first.
    pub unreadable: Unreadable,
}

/// Packs of which the storage cannot read something, with what it said of each first.
#[derive(Debug, Default)]
pub(crate) struct Unreadable(BTreeMap<PackId, String>);

impl Unreadable {
    /// Adds a pack if that is what an error says.
    pub fn add(&mut self, pack: PackId, error: &AccessError) {
        let AccessError::Backend(error) = error else {
            return;
        };
        if error.is_unreadable() {
            let said = error.source.as_ref();
            let why = said.map_or_else(|| error.to_string(), ToString::to_string);
            self.0.entry(pack).or_insert(why);
        }
    }

    /// Stops when the storage gives no answers at all any more.
    fn stop_if_silent(&self, repository: &Repository) -> Result<(), AccessError> {
        if !self.0.is_empty() {
            repository.backend().get(&Key::config())?;
        }
        Ok(())
    }

    /// Stops when it is not single packs that are bad but the storage that fails: it answers
    /// nothing any more, or of more than half of all packs something cannot be read.
    ///
    /// # Errors
    /// [`AccessError::StorageFails`], or what the storage says now.
    pub fn stop_if_storage_fails(
        &self,
        repository: &Repository,
        packs: usize,
    ) -> Result<(), AccessError> {
        self.stop_if_silent(repository)?;
        match self.0.values().next() {
            Some(why) if self.0.len() > packs / 2 => Err(AccessError::StorageFails {
                what: "packs",
                unreadable: self.0.len(),
                all: packs,
                why: why.clone(),
            }),
            _ => Ok(()),
        }
    }
}

/// Reads packs in the order given, as long as `go_on` agrees before each of them.
///
/// # Errors
/// When the backend fails; what is bad stands in the answer.
pub(crate) fn read_packs(
    repository: &Repository,
    packs: &[(PackId, u64)],
    monitor: &dyn Monitor,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<ReadPacks, AccessError> {
    let known = repository.index().packs(&repository.segments())?;
    let mut pass = Pass {
        repository,
        reader: Reader::new(repository),
        known: known.into_iter().map(|k| (k.id, k)).collect(),
        done: ReadPacks::default(),
        astray: BTreeMap::new(),
    };
    for (id, size) in packs {
        if !go_on() {
            break;
        }
        if pass.read(id, *size)? {
            pass.done.read.push((*id, *size));
            Counters::add(&monitor.counters().bytes, *size);
            Counters::add(&monitor.counters().entries, 1);
        }
    }
    pass.read_astray()?;
    pass.read_again()?;
    pass.done.unreadable.stop_if_silent(repository)?;
    Ok(pass.done)
}

/// What an error says of an object that is named beside it.
pub(super) fn reason(error: AccessError) -> String {
    match error {
        AccessError::Damaged { why, .. } | AccessError::DamagedRecord { why, .. } => why,
        AccessError::CannotRead { why, .. } => format!("it cannot be read: {why}"),
        AccessError::Backend(BackendError {
            trouble: Trouble::OutOfRange,
            ..
        }) => "it is shorter than listed".into(),
        AccessError::Backend(BackendError {
            source: Some(source),
            ..
        }) => format!("it cannot be read: {source}"),
        AccessError::LostChunk { chunk, why } => {
            let why = why.unwrap_or_else(|| "missing".into());
            format!("chunk {chunk:.8}: {why}")
        }
        other => other.to_string(),
    }
}

struct Pass<'a> {
    repository: &'a Repository,
    reader: Reader<'a>,
    known: BTreeMap<PackId, KnownPack>,
    done: ReadPacks,
    /// Packs whose directories cannot be trusted, with what stands in them.
    astray: BTreeMap<PackId, World>,
}

impl Pass<'_> {
    /// Reads one pack; answers whether it was there.
    fn read(&mut self, id: &PackId, size: u64) -> Result<bool, AccessError> {
        match self.pack(id, size) {
            Ok(()) => Ok(true),
            // gc deleted it meanwhile.
            Err(AccessError::Backend(e)) if e.is_absent() => Ok(false),
            Err(e) if is_bad(&e) => {
                self.bad_object(id, e);
                let world = self.world(id);
                self.astray.insert(*id, world);
                Ok(true)
            }
            Err(e) => Err(e),
        }
    }

    fn bad_object(&mut self, id: &PackId, error: AccessError) {
        self.done.unreadable.add(*id, &error);
        self.done.bad.object(*id, reason(error));
    }

    fn bad_record(&mut self, id: &PackId, offset: u32, error: AccessError) {
        self.done.unreadable.add(*id, &error);
        self.done.bad.record(*id, offset, reason(error));
    }

    /// What the index says that a pack holds.
    fn world(&self, id: &PackId) -> World {
        world(self.known.get(id).is_some_and(|k| k.tree))
    }

    /// Errors that are bad are those of the pack as a whole.
    fn pack(&mut self, id: &PackId, size: u64) -> Result<(), AccessError> {
        let backend = self.repository.backend();
        let mut stream = Stream::new(self.repository, pack_key(id)?, size);
        let world = match read_header(backend, id, size) {
            Ok((header, _)) => world(header.tree),
            Err(e) if is_bad_object(&e) => {
                self.bad_object(id, e);
                self.world(id)
            }
            Err(e) => return Err(e),
        };
        match read_directory(backend, id, size) {
            Ok(directory) => self.records(id, world, &directory, &mut stream)?,
            Err(e) if is_bad_object(&e) => {
                self.bad_object(id, e);
                self.astray.insert(*id, world);
            }
            Err(e) => return Err(e),
        }
        if stream.finish()? != *id {
            let why = "its bytes do not match its name";
            self.done.bad.object(*id, why.to_owned());
            // Its directory may lie.
            self.astray.insert(*id, world);
        }
        Ok(())
    }

    fn records(
        &mut self,
        id: &PackId,
        world: World,
        directory: &[(u32, u32)],
        stream: &mut Stream<'_>,
    ) -> Result<(), AccessError> {
        for (offset, stored) in directory {
            if !is_record_length(*stored) {
                let why = "its length is absurd".to_owned();
                self.done.bad.record(*id, *offset, why);
                continue;
            }
            let bytes = stream.range(u64::from(*offset), u64::from(*stored))?;
            self.record(id, world, *offset, bytes)?;
        }
        Ok(())
    }

    fn record(
        &mut self,
        id: &PackId,
        world: World,
        offset: u32,
        bytes: &[u8],
    ) -> Result<(), AccessError> {
        match self.reader.open(world, *id, offset, bytes) {
            Ok(record) => self.slots(id, world, offset, &record),
            Err(e) if is_bad(&e) => {
                self.bad_record(id, offset, e);
                Ok(())
            }
            Err(e) => Err(e),
        }
    }

    /// Decodes every chunk of a record.
    fn slots(
        &mut self,
        id: &PackId,
        world: World,
        offset: u32,
        record: &OpenRecord,
    ) -> Result<(), AccessError> {
        for (slot, row) in (0u8..=u8::MAX).zip(&record.rows) {
            let decoded = self
                .reader
                .decode(world, &row.id, record, slot, &mut Budget::new());
            let why = match decoded {
                Ok(_) => continue,
                Err(e) if is_bad(&e) => reason(e),
                Err(e) => return Err(e),
            };
            let bases = self.reader.prefix(world, &row.bases, &mut Budget::new());
            let fault = match bases {
                Ok(_) => Fault::Own,
                Err(_) => Fault::Base,
            };
            let bad = BadSlot { why, fault };
            self.done.bad.slot(*id, offset, slot, bad);
        }
        Ok(())
    }

    /// Reads packs again whose deltas lack bases: gc may have moved these while packs were read.
    fn read_again(&mut self) -> Result<(), AccessError> {
        let lacks = |(id, _): &&(PackId, u64)| self.done.bad.lacks_bases(id);
        let again: Vec<(PackId, u64)> = self.done.read.iter().filter(lacks).copied().collect();
        if again.is_empty() {
            return Ok(());
        }
        self.repository.update_index()?;
        for (id, size) in again {
            self.done.bad.packs.remove(&id);
            self.done.unreadable.0.remove(&id);
            if !self.read(&id, size)? {
                self.done.read.retain(|(read, _)| *read != id);
            }
        }
        self.read_astray()
    }

    /// Reads the records of packs whose directories cannot be trusted where the index says that
    /// they are.
    fn read_astray(&mut self) -> Result<(), AccessError> {
        let astray = std::mem::take(&mut self.astray);
        if astray.is_empty() {
            return Ok(());
        }
        let packs: BTreeSet<PackId> = astray.keys().copied().collect();
        for (id, records) in indexed_records(self.repository, &packs)? {
            let Some(world) = astray.get(&id) else {
                continue;
            };
            self.done.bad.packs.entry(id).or_default().records.clear();
            for (offset, stored) in records {
                let read = match is_record_length(stored) {
                    true => self.reader.fetch(id, offset, u64::from(stored)),
                    false => Err(AccessError::damaged("", "its length is absurd")),
                };
                match read {
                    Ok(bytes) => self.record(&id, *world, offset, &bytes)?,
                    Err(AccessError::Backend(e)) if e.is_absent() => break,
                    Err(e) if is_bad(&e) => self.bad_record(&id, offset, e),
                    Err(e) => return Err(e),
                }
            }
        }
        Ok(())
    }
}

fn world(tree: bool) -> World {
    match tree {
        true => World::Pages,
        false => World::Content,
    }
}

/// Whether a pack is there, and does not hold what it must.
pub(super) fn is_bad_object(error: &AccessError) -> bool {
    let gone = matches!(error, AccessError::Backend(e) if e.is_absent());
    is_bad(error) && !gone
}

/// Where the index says that the records of packs are: offset and stored length. Segments that do
/// not open are passed over.
///
/// # Errors
/// When the backend fails.
pub(crate) fn indexed_records(
    repository: &Repository,
    packs: &BTreeSet<PackId>,
) -> Result<BTreeMap<PackId, BTreeSet<(u32, u32)>>, AccessError> {
    let segments = repository.segments();
    let mut found: BTreeMap<PackId, BTreeSet<(u32, u32)>> = BTreeMap::new();
    for (id, _) in segments.list()? {
        let segment = match segments.get(&id) {
            Ok(Some(segment)) => segment,
            Ok(None) => continue,
            Err(e) if e.is_damage() => continue,
            Err(e) => return Err(e),
        };
        for row in &segment.rows {
            let pack = segment.packs.get(row.pack as usize);
            if let Some(pack) = pack.filter(|p| packs.contains(&p.id)) {
                let records = found.entry(pack.id).or_default();
                records.insert((row.offset, row.stored));
            }
        }
    }
    Ok(found)
}

/// One pass over a pack: hashes every byte in order and shows ranges on the way.
struct Stream<'a> {
    repository: &'a Repository,
    key: Key,
    size: u64,
    hasher: blake3::Hasher,
    /// Bytes that were hashed, from `start` on.
    buffer: Vec<u8>,
    start: u64,
}

impl<'a> Stream<'a> {
    fn new(repository: &'a Repository, key: Key, size: u64) -> Stream<'a> {
        Stream {
            repository,
            key,
            size,
            hasher: blake3::Hasher::new(),
            buffer: Vec::new(),
            start: 0,
        }
    }

    /// Reads on until `end`; what lies before `from` is dropped.
    fn advance(&mut self, from: u64, end: u64) -> Result<(), AccessError> {
        loop {
            let read = self.start + self.buffer.len() as u64;
            let drop = from.clamp(self.start, read) - self.start;
            self.buffer.drain(..drop as usize);
            self.start += drop;
            if read >= end {
                return Ok(());
            }
            let n = (self.size - read).min(PART);
            let part = self.repository.backend().get_range(&self.key, read, n)?;
            if part.is_empty() {
                return Err(AccessError::damaged(&self.key, "it is shorter than listed"));
            }
            self.hasher.update(&part);
            self.buffer.extend_from_slice(&part);
        }
    }

    /// A range that begins at or behind the last one's begin.
    fn range(&mut self, offset: u64, len: u64) -> Result<&[u8], AccessError> {
        let short = || AccessError::damaged(&self.key, "it is shorter than its directory says");
        let end = offset.checked_add(len).filter(|end| *end <= self.size);
        let end = end.ok_or_else(short)?;
        self.advance(offset, end)?;
        let at = offset.checked_sub(self.start).map(|at| at as usize);
        let range = at.and_then(|at| self.buffer.get(at..at + len as usize));
        range.ok_or_else(|| AccessError::damaged(&self.key, "its records are out of order"))
    }

    /// The name that the bytes ask for.
    fn finish(mut self) -> Result<PackId, AccessError> {
        self.advance(self.size, self.size)?;
        Ok(PackId(*self.hasher.finalize().as_bytes()))
    }
}

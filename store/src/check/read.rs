//! Reading one pack: its bytes against its name, its records against their seals, every chunk that
//! needs no other against its id. Deltas are handed on: [`super::chains`] decodes them in an order
//! in which their bases are at hand.

use std::ops::Range;

use super::bad::{BadPacks, BadSlot, Fault};
use super::data::{Unreadable, is_bad_object, reason};
use crate::backend::Key;
use crate::error::AccessError;
use crate::id::{BaseRef, ChunkId, PackId};
use crate::pack::{is_record_length, pack_key, read_directory, read_header};
use crate::reader::{Reader, Stand, Verified, is_bad};
use crate::record::{OpenRecord, World};

/// Bytes of a pack that are fetched in one go.
const PART: u64 = 1 << 20;

/// A chunk that is based on others, and stands in a record that opens.
#[derive(Debug, Clone, Copy)]
pub(super) struct Delta {
    pub id: ChunkId,
    /// The first of its bases.
    pub first: BaseRef,
    /// Which of the packs that are read together.
    pub pack: u32,
    pub offset: u32,
    pub stored: u32,
    pub slot: u8,
}

/// What reading one pack gave.
#[derive(Default)]
pub(super) struct PackRead {
    pub bad: BadPacks,
    pub unreadable: Unreadable,
    /// What stands in it, when its directory cannot be trusted.
    pub astray: Option<World>,
    pub deltas: Vec<Delta>,
}

impl PackRead {
    /// Something is wrong with the pack as a whole.
    fn object(&mut self, id: &PackId, error: AccessError) {
        self.unreadable.add(*id, &error);
        self.bad.object(*id, reason(error));
    }

    /// A record cannot be read, or does not open.
    pub fn record(&mut self, id: &PackId, offset: u32, error: AccessError) {
        self.unreadable.add(*id, &error);
        self.bad.record(*id, offset, reason(error));
    }

    /// A slot gives no chunk, for what lies in its own bytes or in those of a base.
    fn slot(&mut self, stand: Stand, fault: Fault, error: AccessError) {
        let why = reason(error);
        let Stand { pack, offset, slot } = stand;
        self.bad.slot(pack, offset, slot, BadSlot { why, fault });
    }
}

/// One pack on its way.
pub(super) struct Reading<'a, 'r> {
    pub reader: &'a Reader<'r>,
    pub id: PackId,
    /// Which of the packs that are read together.
    pub number: u32,
    /// What the index says that it holds.
    pub world: World,
    pub found: PackRead,
    buffer: Vec<u8>,
}

impl<'a, 'r> Reading<'a, 'r> {
    pub fn of(reader: &'a Reader<'r>, id: PackId, number: u32, world: World) -> Self {
        Reading {
            reader,
            id,
            number,
            world,
            found: PackRead::default(),
            buffer: Vec::new(),
        }
    }

    /// Reads all of it; answers whether it was there.
    pub fn all(&mut self, size: u64) -> Result<bool, AccessError> {
        match self.pack(size) {
            Ok(()) => Ok(true),
            // gc deleted it meanwhile.
            Err(AccessError::Backend(e)) if e.is_absent() => Ok(false),
            Err(e) if is_bad(&e) => {
                self.found.object(&self.id, e);
                self.found.astray.get_or_insert(self.world);
                Ok(true)
            }
            Err(e) => Err(e),
        }
    }

    /// Errors that are bad are those of the pack as a whole.
    fn pack(&mut self, size: u64) -> Result<(), AccessError> {
        let backend = self.reader.repository().backend();
        let key = pack_key(&self.id)?;
        match read_header(backend, &self.id, size) {
            Ok((header, _)) => self.world = world(header.tree),
            Err(e) if is_bad_object(&e) => self.found.object(&self.id, e),
            Err(e) => return Err(e),
        }
        let directory = match read_directory(backend, &self.id, size) {
            Ok(directory) => directory,
            Err(e) if is_bad_object(&e) => {
                self.found.object(&self.id, e);
                self.found.astray = Some(self.world);
                Vec::new()
            }
            Err(e) => return Err(e),
        };
        let mut hasher = blake3::Hasher::new();
        for part in parts(&directory, size) {
            let bytes = self.fetch(&key, &part.bytes)?;
            hasher.update(&bytes);
            for (offset, stored) in directory.get(part.records).unwrap_or_default() {
                let start = (u64::from(*offset) - part.bytes.start) as usize;
                let record = bytes.get(start..start + *stored as usize);
                self.record(*offset, *stored, record.unwrap_or_default())?;
            }
        }
        if hasher.finalize().as_bytes() != &self.id.0 {
            let why = "its bytes do not match its name";
            self.found.bad.object(self.id, why.to_owned());
            // Its directory may lie.
            self.found.astray = Some(self.world);
        }
        Ok(())
    }

    fn fetch(&self, key: &Key, range: &Range<u64>) -> Result<Vec<u8>, AccessError> {
        let backend = self.reader.repository().backend();
        let len = range.end - range.start;
        let bytes = backend.get_range(key, range.start, len)?;
        match bytes.len() as u64 == len {
            true => Ok(bytes),
            false => Err(AccessError::damaged(key, "it is shorter than listed")),
        }
    }

    /// Looks at one record.
    pub fn record(&mut self, offset: u32, stored: u32, bytes: &[u8]) -> Result<(), AccessError> {
        if !is_record_length(stored) {
            let why = "its length is absurd".to_owned();
            self.found.bad.record(self.id, offset, why);
            return Ok(());
        }
        match self.reader.open(self.world, self.id, offset, bytes) {
            Ok(record) => self.slots(offset, stored, &record),
            Err(e) if is_bad(&e) => {
                self.found.record(&self.id, offset, e);
                Ok(())
            }
            Err(e) => Err(e),
        }
    }

    /// Decodes every chunk of a record that needs no other.
    fn slots(&mut self, offset: u32, stored: u32, record: &OpenRecord) -> Result<(), AccessError> {
        for (slot, row) in (0u8..=u8::MAX).zip(&record.rows) {
            if let Some(first) = row.bases.iter().next() {
                self.found.deltas.push(Delta {
                    id: row.id,
                    first,
                    pack: self.number,
                    offset,
                    stored,
                    slot,
                });
                continue;
            }
            let plain = self
                .reader
                .plain(self.world, &row.id, record, slot, &mut self.buffer);
            match plain {
                Ok(_) => {}
                Err(e) if is_bad(&e) => {
                    let pack = self.id;
                    let stand = Stand { pack, offset, slot };
                    self.found.slot(stand, Fault::Own, e);
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

/// Decodes a delta and checks it. It is kept: others may be based on it.
pub(super) fn verify(
    reader: &Reader<'_>,
    world: World,
    pack: PackId,
    delta: &Delta,
    found: &mut PackRead,
) -> Result<(), AccessError> {
    let (offset, slot) = (delta.offset, delta.slot);
    let stand = Stand { pack, offset, slot };
    if reader.kept(&delta.id).is_some_and(|k| k.stand == stand) {
        return Ok(());
    }
    let record = match reader.record(world, pack, offset, delta.stored) {
        Ok(record) => record,
        Err(e) if is_bad(&e) => {
            found.record(&pack, offset, e);
            return Ok(());
        }
        Err(e) => return Err(e),
    };
    let mut budget = crate::reader::Budget::new();
    let error = match reader.decode(world, &delta.id, &record, slot, &mut budget) {
        Ok(plain) => {
            reader.keep(Verified {
                id: delta.id,
                plain,
                proven: true,
                stand,
            });
            return Ok(());
        }
        Err(e) if is_bad(&e) => e,
        Err(e) => return Err(e),
    };
    let row = record.rows.get(usize::from(slot));
    let bases = row.map(|row| row.bases).unwrap_or_default();
    let mut budget = crate::reader::Budget::new();
    let fault = match reader.parts(world, &bases, &mut budget) {
        Ok(_) => Fault::Own,
        Err(_) => Fault::Base,
    };
    found.slot(stand, fault, error);
    Ok(())
}

/// What a pack holds.
pub(super) fn world(tree: bool) -> World {
    match tree {
        true => World::Pages,
        false => World::Content,
    }
}

/// A part of a pack that is fetched in one go, with the records that lie in it.
#[derive(Debug, PartialEq, Eq)]
struct Part {
    bytes: Range<u64>,
    records: Range<usize>,
}

/// Cuts a pack into parts, from its first byte to its last. A record lies within one part, but for
/// one that is none by its length.
fn parts(directory: &[(u32, u32)], size: u64) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    let mut add = |bytes: Range<u64>, records: Range<usize>| {
        let joins = |last: &&mut Part| bytes.end - last.bytes.start <= PART;
        match parts.last_mut().filter(joins) {
            Some(last) => {
                last.bytes.end = bytes.end;
                last.records.end = records.end;
            }
            None => parts.push(Part { bytes, records }),
        }
    };
    let mut at = 0;
    for (i, (offset, stored)) in directory.iter().enumerate() {
        let (start, end) = (u64::from(*offset), u64::from(*offset) + u64::from(*stored));
        pieces(at..start, &mut |piece| add(piece, i..i));
        match is_record_length(*stored) {
            true => add(start..end, i..i + 1),
            // It is named as what it is, with the first of its bytes.
            false => {
                let first = start..end.min(start + PART);
                at = first.end;
                add(first, i..i + 1);
                pieces(at..end, &mut |piece| add(piece, i + 1..i + 1));
            }
        }
        at = end;
    }
    let count = directory.len();
    pieces(at..size, &mut |piece| add(piece, count..count));
    parts
}

/// Hands on a range in pieces.
fn pieces(range: Range<u64>, each: &mut dyn FnMut(Range<u64>)) {
    let mut at = range.start;
    while at < range.end {
        let end = range.end.min(at + PART);
        each(at..end);
        at = end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_every_byte_once_and_cut_no_record() {
        let sound = |i: u32| (100 + i * 300_000, 300_000);
        let mut directory: Vec<(u32, u32)> = (0..20).map(sound).collect();
        let absurd = 40_000_000;
        directory.push((6_000_100, absurd));
        directory.push((46_000_100, 5));
        directory.push((46_000_105, 3_000_000));
        let size = 49_000_105 + 2_500_000;
        let parts = parts(&directory, size);
        let (mut at, mut record) = (0, 0);
        for part in &parts {
            assert_eq!((part.bytes.start, part.records.start), (at, record));
            (at, record) = (part.bytes.end, part.records.end);
            assert!(at - part.bytes.start <= PART.max(3_000_000), "{part:?}");
            for (offset, stored) in &directory[part.records.clone()] {
                let end = u64::from(offset + stored);
                assert!(u64::from(*offset) >= part.bytes.start);
                assert!(end <= part.bytes.end || *stored == absurd, "{part:?}");
            }
        }
        assert_eq!((at, record), (size, directory.len()));
    }
}

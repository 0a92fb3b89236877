//! The tables of the index file, their keys and values as bytes, and the keyed checks in them.
//!
//! No I/O and no transactions here. Every value ends in four bytes of keyed BLAKE3 over table, key
//! and value; besides, [`SUMS`] holds for every bucket of chunk ids how many rows it has and the
//! sum of their hashes, so that a row that is *missing* is noticed too: redb does not verify its
//! own page checksums on ordinary reads, and a damaged inner page can hide rows.

use ::redb::TableDefinition;

use super::Fail;
use crate::id::{BaseRef, ChunkId, PackId, Uuid};
use crate::index::{Bases, Encoding, KnownPack, MAX_BASES, PackNumber};

/// Version of everything in this file.
pub(super) const SCHEMA: u32 = 2;
/// Length of a row's key: chunk id, pack number in big endian.
pub(super) const ROW_KEY: usize = 36;
/// Length of [`State`] with its check.
const STATE: usize = 44;
/// Most bytes of a row's value with its check.
const ROW_VALUE: usize = 19 + 16 * MAX_BASES + 4;
/// The upper bits of a chunk id that name its bucket. 2^20 buckets hold 95 rows each at a hundred
/// million rows: verifying one costs about as much as looking into two pages. A bucket with rows
/// takes 16 bytes.
pub(super) const BUCKET_BITS: u32 = 20;

pub(super) type RowKey = &'static [u8; ROW_KEY];
pub(super) type RowValue = &'static [u8];

/// Row key → [`Row`].
pub(super) const ROWS: TableDefinition<RowKey, RowValue> = TableDefinition::new("rows");
/// Bucket → [`Sum`].
pub(super) const SUMS: TableDefinition<u32, &[u8; 12]> = TableDefinition::new("sums");
/// Pack number → id, session, tree flag, check.
pub(super) const PACKS: TableDefinition<u32, &[u8; 53]> = TableDefinition::new("packs");
/// Pack id → pack number, check.
pub(super) const PACK_NUMBERS: TableDefinition<&[u8; 32], &[u8; 8]> =
    TableDefinition::new("pack numbers");
/// Segment id → ids of the segments that it supersedes, check.
pub(super) const APPLIED: TableDefinition<&[u8; 32], &[u8]> = TableDefinition::new("applied");
/// 0 → [`State`].
pub(super) const STATES: TableDefinition<u32, &[u8; STATE]> = TableDefinition::new("state");

/// Which table a value is in, hashed with it.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
pub(super) enum Table {
    Rows = 1,
    Packs = 2,
    PackNumbers = 3,
    Applied = 4,
    State = 5,
}

/// Makes and verifies keyed checks.
#[derive(Clone)]
pub(super) struct Checker(pub(super) [u8; 32]);

/// A hash, of which values store the first four bytes and sums the next eight.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tag {
    pub(super) check: [u8; 4],
    pub(super) mix: u64,
}

impl Checker {
    /// The hash of one entry.
    pub(super) fn tag(&self, table: Table, key: &[u8], value: &[u8]) -> Tag {
        let mut buffer = [0u8; 128];
        let parts = [&[table as u8], key, value];
        let hash = match join(&mut buffer, parts) {
            Some(joined) => blake3::keyed_hash(&self.0, joined),
            None => blake3::keyed_hash(&self.0, &parts.concat()),
        };
        let (mut check, mut mix) = ([0; 4], [0; 8]);
        let mut bytes = hash.as_bytes().iter();
        check
            .iter_mut()
            .zip(&mut bytes)
            .for_each(|(to, b)| *to = *b);
        mix.iter_mut().zip(&mut bytes).for_each(|(to, b)| *to = *b);
        Tag {
            check,
            mix: u64::from_le_bytes(mix),
        }
    }

    /// `value` and its check.
    pub(super) fn seal(&self, table: Table, key: &[u8], mut value: Vec<u8>) -> (Vec<u8>, Tag) {
        let tag = self.tag(table, key, &value);
        value.extend_from_slice(&tag.check);
        (value, tag)
    }

    /// `value` and its check, as an array whose length the table fixes.
    pub(super) fn seal_fixed<const N: usize>(
        &self,
        table: Table,
        key: &[u8],
        value: Vec<u8>,
    ) -> Result<[u8; N], Fail> {
        let (sealed, _) = self.seal(table, key, value);
        sealed
            .try_into()
            .map_err(|_| Fail::broken("a value has another length than its table"))
    }

    /// The value in front of a check that holds.
    pub(super) fn open<'v>(
        &self,
        table: Table,
        key: &[u8],
        sealed: &'v [u8],
    ) -> Result<(&'v [u8], Tag), Fail> {
        let (value, check) = sealed.split_last_chunk::<4>().ok_or_else(Fail::check)?;
        let tag = self.tag(table, key, value);
        if tag.check == *check {
            Ok((value, tag))
        } else {
            Err(Fail::check())
        }
    }
}

fn join<'b>(buffer: &'b mut [u8; 128], parts: [&[u8]; 3]) -> Option<&'b [u8]> {
    let mut end = 0;
    for part in parts {
        buffer.get_mut(end..end + part.len())?.copy_from_slice(part);
        end += part.len();
    }
    buffer.get(..end)
}

/// Takes values off the front of a slice.
struct Fields<'v>(&'v [u8]);

impl<'v> Fields<'v> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Fail> {
        let (first, rest) = self.0.split_first_chunk::<N>().ok_or_else(Fail::check)?;
        self.0 = rest;
        Ok(*first)
    }

    fn u8(&mut self) -> Result<u8, Fail> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Result<u32, Fail> {
        self.take().map(u32::from_le_bytes)
    }

    fn end(&self) -> Result<(), Fail> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Fail::check())
        }
    }
}

/// The value of a row: 23 bytes with its check, and 16 for each base. Bases stand here as they are:
/// numbers for them would take two tables of scattered entries, of which each is larger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) offset: u32,
    pub(super) stored: u32,
    pub(super) plain: u32,
    pub(super) chunk: u32,
    pub(super) slot: u8,
    pub(super) depth: u8,
    pub(super) encoding: Encoding,
    pub(super) bases: Bases,
}

/// A row's value with its check.
pub(super) struct Sealed {
    bytes: [u8; ROW_VALUE],
    len: usize,
}

impl Sealed {
    fn put(&mut self, part: &[u8]) {
        let place = self.bytes.iter_mut().skip(self.len);
        place.zip(part).for_each(|(to, from)| *to = *from);
        self.len += part.len();
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&self.bytes)
    }
}

impl Row {
    /// The value with its check.
    pub(super) fn encode(&self, checker: &Checker, key: &[u8; ROW_KEY]) -> (Sealed, Tag) {
        let mut value = Sealed {
            bytes: [0; ROW_VALUE],
            len: 0,
        };
        for number in [self.offset, self.stored, self.plain, self.chunk] {
            value.put(&number.to_le_bytes());
        }
        let kind = (self.encoding as u8) << 4 | self.bases.len() as u8;
        value.put(&[self.slot, self.depth, kind]);
        for base in self.bases.iter() {
            value.put(&base.0);
        }
        let tag = checker.tag(Table::Rows, key, value.bytes());
        value.put(&tag.check);
        (value, tag)
    }

    /// A row whose check holds, with its hash.
    pub(super) fn decode(
        checker: &Checker,
        key: &[u8; ROW_KEY],
        sealed: &[u8],
    ) -> Result<(Row, Tag), Fail> {
        let (value, tag) = checker.open(Table::Rows, key, sealed)?;
        let mut fields = Fields(value);
        let [offset, stored, plain, chunk] =
            [fields.u32()?, fields.u32()?, fields.u32()?, fields.u32()?];
        let [slot, depth, kind] = fields.take()?;
        let mut bases = Bases::NONE;
        for _ in 0..kind & 0x0f {
            if !bases.push(BaseRef(fields.take()?)) {
                return Err(Fail::check());
            }
        }
        fields.end()?;
        let row = Row {
            offset,
            stored,
            plain,
            chunk,
            slot,
            depth,
            encoding: Encoding::from_number(kind >> 4).ok_or_else(Fail::check)?,
            bases,
        };
        Ok((row, tag))
    }
}

/// The key of a row.
pub(super) fn row_key(id: &ChunkId, pack: u32) -> [u8; ROW_KEY] {
    let mut key = [0; ROW_KEY];
    let bytes = id.0.into_iter().chain(pack.to_be_bytes());
    key.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    key
}

/// Chunk id and pack number of a row's key.
pub(super) fn split_key(key: &[u8; ROW_KEY]) -> (ChunkId, u32) {
    let (mut id, mut pack) = ([0; 32], [0; 4]);
    let mut bytes = key.iter();
    id.iter_mut().zip(&mut bytes).for_each(|(to, b)| *to = *b);
    pack.iter_mut().zip(&mut bytes).for_each(|(to, b)| *to = *b);
    (ChunkId(id), u32::from_be_bytes(pack))
}

/// The bucket of a chunk id or of a row's key.
pub(super) fn bucket(id: &[u8]) -> u32 {
    let upper = id.first_chunk::<4>().map_or(0, |b| u32::from_be_bytes(*b));
    upper >> (32 - BUCKET_BITS)
}

/// The first and last key that buckets can hold.
pub(super) fn bucket_keys(first: u32, last: u32) -> ([u8; ROW_KEY], [u8; ROW_KEY]) {
    let shift = 32 - BUCKET_BITS;
    let fill = |upper: u32, rest: u8| {
        let mut key = [rest; ROW_KEY];
        key.iter_mut()
            .zip(upper.to_be_bytes())
            .for_each(|(to, b)| *to = b);
        key
    };
    let end = last << shift | ((1 << shift) - 1);
    (fill(first << shift, 0), fill(end, 0xff))
}

/// How many rows a bucket has, and the sum of their hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Sum {
    pub(super) rows: u32,
    pub(super) mix: u64,
}

impl Sum {
    pub(super) fn add(&mut self, tag: Tag) {
        self.rows = self.rows.wrapping_add(1);
        self.mix = self.mix.wrapping_add(tag.mix);
    }

    pub(super) fn join(self, other: Sum) -> Sum {
        Sum {
            rows: self.rows.wrapping_add(other.rows),
            mix: self.mix.wrapping_add(other.mix),
        }
    }

    pub(super) fn encode(self) -> [u8; 12] {
        let mut value = [0; 12];
        let bytes = self
            .rows
            .to_le_bytes()
            .into_iter()
            .chain(self.mix.to_le_bytes());
        value.iter_mut().zip(bytes).for_each(|(to, b)| *to = b);
        value
    }

    pub(super) fn decode(value: &[u8; 12]) -> Result<Sum, Fail> {
        let mut fields = Fields(value);
        Ok(Sum {
            rows: fields.u32()?,
            mix: u64::from_le_bytes(fields.take()?),
        })
    }
}

/// What the file is, and its counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State {
    pub(super) identity: [u8; 16],
    pub(super) generation: u64,
    pub(super) next_chunk: u32,
    pub(super) next_pack: u32,
    pub(super) applied: u32,
}

impl State {
    pub(super) fn encode(&self, checker: &Checker) -> Result<[u8; STATE], Fail> {
        let mut value = Vec::with_capacity(STATE);
        value.extend_from_slice(&SCHEMA.to_le_bytes());
        value.extend_from_slice(&self.identity);
        value.extend_from_slice(&self.generation.to_le_bytes());
        for count in [self.next_chunk, self.next_pack, self.applied] {
            value.extend_from_slice(&count.to_le_bytes());
        }
        checker.seal_fixed(Table::State, &[], value)
    }

    pub(super) fn decode(checker: &Checker, sealed: &[u8; STATE]) -> Result<State, Fail> {
        let mut fields = Fields(sealed);
        if fields.u32()? != SCHEMA {
            return Err(Fail::broken("it has another schema"));
        }
        let identity = fields.take()?;
        checker.open(Table::State, &[], sealed)?;
        Ok(State {
            identity,
            generation: u64::from_le_bytes(fields.take()?),
            next_chunk: fields.u32()?,
            next_pack: fields.u32()?,
            applied: fields.u32()?,
        })
    }
}

/// A pack with its check.
pub(super) fn encode_pack(checker: &Checker, pack: &KnownPack) -> Result<[u8; 53], Fail> {
    let mut value = Vec::with_capacity(53);
    value.extend_from_slice(&pack.id.0);
    value.extend_from_slice(&pack.session.0);
    value.push(u8::from(pack.tree));
    checker.seal_fixed(Table::Packs, &pack.number.0.to_le_bytes(), value)
}

/// A pack whose check holds.
pub(super) fn decode_pack(
    checker: &Checker,
    number: u32,
    sealed: &[u8; 53],
) -> Result<KnownPack, Fail> {
    let (value, _) = checker.open(Table::Packs, &number.to_le_bytes(), sealed)?;
    let mut fields = Fields(value);
    Ok(KnownPack {
        number: PackNumber(number),
        id: PackId(fields.take()?),
        session: Uuid(fields.take()?),
        tree: fields.u8()? != 0,
    })
}

/// A number with its check.
pub(super) fn encode_number(
    checker: &Checker,
    table: Table,
    key: &[u8],
    number: u32,
) -> Result<[u8; 8], Fail> {
    checker.seal_fixed(table, key, number.to_le_bytes().to_vec())
}

/// A number whose check holds.
pub(super) fn decode_number(
    checker: &Checker,
    table: Table,
    key: &[u8],
    sealed: &[u8; 8],
) -> Result<u32, Fail> {
    let (value, _) = checker.open(table, key, sealed)?;
    Fields(value).u32()
}

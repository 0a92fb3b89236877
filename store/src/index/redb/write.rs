//! Writing: applying segments and clearing, inside a write transaction that the caller commits.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use ::redb::{ReadableTable, Table as Open, WriteTransaction};

use super::Fail;
use super::read::each_pack;
use super::rows::{self, BaseNumbers, Checker, ROW_KEY, Row, RowKey, RowValue, State, Sum, Table};
use super::verify::Verified;
use crate::format::segment::{Segment, SegmentPack, SegmentRow};
use crate::id::{ChunkId, PackId, SegmentId};
use crate::index::{KnownPack, PackNumber, check_segment};

/// Most entries of the memory of base numbers that one batch keeps.
const BASES_REMEMBERED: usize = 1 << 16;

/// Reads the state of the file.
pub(super) fn state(txn: &WriteTransaction, checker: &Checker) -> Result<State, Fail> {
    let states = txn.open_table(rows::STATES)?;
    let state = states.get(0)?.ok_or_else(|| Fail::broken("it is empty"))?;
    State::decode(checker, state.value())
}

/// Writes the state of the file.
pub(super) fn set_state(
    txn: &WriteTransaction,
    checker: &Checker,
    state: &State,
) -> Result<(), Fail> {
    txn.open_table(rows::STATES)?
        .insert(0, &state.encode(checker)?)?;
    Ok(())
}

/// Makes all tables, and those that are there empty.
pub(super) fn reset(
    txn: &WriteTransaction,
    checker: &Checker,
    identity: [u8; 16],
    generation: u64,
) -> Result<(), Fail> {
    txn.delete_table(rows::ROWS)?;
    txn.delete_table(rows::SUMS)?;
    txn.delete_table(rows::BASES)?;
    txn.delete_table(rows::BASE_NUMBERS)?;
    txn.delete_table(rows::PACKS)?;
    txn.delete_table(rows::PACK_NUMBERS)?;
    txn.delete_table(rows::APPLIED)?;
    drop(Tables::open(txn)?);
    let state = State {
        identity,
        generation,
        next_chunk: 0,
        next_pack: 0,
        next_base: 0,
        applied: 0,
    };
    set_state(txn, checker, &state)
}

struct Tables<'t> {
    rows: Open<'t, RowKey, RowValue>,
    sums: Open<'t, u32, &'static [u8; 12]>,
    bases: Open<'t, u32, &'static [u8; 20]>,
    base_numbers: Open<'t, &'static [u8; 16], &'static [u8; 8]>,
    packs: Open<'t, u32, &'static [u8; 53]>,
    pack_numbers: Open<'t, &'static [u8; 32], &'static [u8; 8]>,
    applied: Open<'t, &'static [u8; 32], &'static [u8]>,
}

impl<'t> Tables<'t> {
    fn open(txn: &'t WriteTransaction) -> Result<Tables<'t>, Fail> {
        Ok(Tables {
            rows: txn.open_table(rows::ROWS)?,
            sums: txn.open_table(rows::SUMS)?,
            bases: txn.open_table(rows::BASES)?,
            base_numbers: txn.open_table(rows::BASE_NUMBERS)?,
            packs: txn.open_table(rows::PACKS)?,
            pack_numbers: txn.open_table(rows::PACK_NUMBERS)?,
            applied: txn.open_table(rows::APPLIED)?,
        })
    }
}

/// Adds what segments hold; `false` when all of them were applied before.
pub(super) fn apply(
    txn: &WriteTransaction,
    checker: &Checker,
    verified: &Verified,
    segments: &[(SegmentId, &Segment)],
) -> Result<bool, Fail> {
    let mut writer = Writer {
        state: state(txn, checker)?,
        tables: Tables::open(txn)?,
        checker,
        verified,
        bases: HashMap::new(),
        sum: None,
    };
    let new = writer.note_applied(segments)?;
    if new.is_empty() {
        return Ok(false);
    }
    let packs = writer.number_packs(&new)?;
    writer.add_rows(&new, &packs)?;
    let state = writer.state;
    drop(writer);
    set_state(txn, checker, &state)?;
    Ok(true)
}

struct Writer<'a, 't> {
    state: State,
    tables: Tables<'t>,
    checker: &'a Checker,
    verified: &'a Verified,
    bases: HashMap<[u8; 16], u32>,
    /// What the bucket at hand gains; buckets come in order.
    sum: Option<(u32, Sum)>,
}

impl Writer<'_, '_> {
    /// Lists segments as applied and returns those that were not, each once.
    fn note_applied<'s>(
        &mut self,
        segments: &[(SegmentId, &'s Segment)],
    ) -> Result<Vec<&'s Segment>, Fail> {
        let mut new = Vec::new();
        for (id, segment) in segments {
            check_segment(segment).map_err(|error| Fail::Refused(error.0))?;
            if let Some(old) = self.tables.applied.get(&id.0)? {
                self.checker.open(Table::Applied, &id.0, old.value())?;
                continue;
            }
            let list = segment.supersedes.iter().flat_map(|id| id.0).collect();
            let (value, _) = self.checker.seal(Table::Applied, &id.0, list);
            self.tables.applied.insert(&id.0, value.as_slice())?;
            take_number(&mut self.state.applied)?;
            new.push(*segment);
        }
        Ok(new)
    }

    /// The numbers of each segment's packs, by position.
    fn number_packs(&mut self, segments: &[&Segment]) -> Result<Vec<Vec<u32>>, Fail> {
        let mut known: HashMap<PackId, u32> = HashMap::new();
        let mut missing: HashSet<PackId> = HashSet::new();
        for pack in segments.iter().flat_map(|segment| &segment.packs) {
            match self.tables.pack_numbers.get(&pack.id.0)? {
                Some(sealed) => {
                    let key = &pack.id.0;
                    let table = Table::PackNumbers;
                    let number = rows::decode_number(self.checker, table, key, sealed.value())?;
                    known.insert(pack.id, number);
                }
                None => _ = missing.insert(pack.id),
            }
        }
        self.confirm_missing(&missing)?;
        let mut all = Vec::with_capacity(segments.len());
        for segment in segments {
            let mut numbers = Vec::with_capacity(segment.packs.len());
            for pack in &segment.packs {
                let number = match known.get(&pack.id) {
                    Some(number) => *number,
                    None => self.new_pack(pack)?,
                };
                known.insert(pack.id, number);
                numbers.push(number);
            }
            all.push(numbers);
        }
        Ok(all)
    }

    /// A pack must never get a second number because its first is hidden in a damaged page.
    fn confirm_missing(&self, missing: &HashSet<PackId>) -> Result<(), Fail> {
        let mut hidden = false;
        if !missing.is_empty() {
            each_pack(
                &self.tables.packs,
                self.checker,
                self.state.next_pack,
                |pack| {
                    hidden |= missing.contains(&pack.id);
                },
            )?;
        }
        if hidden {
            return Err(Fail::broken("the list of packs is damaged"));
        }
        Ok(())
    }

    fn new_pack(&mut self, pack: &SegmentPack) -> Result<u32, Fail> {
        let number = take_number(&mut self.state.next_pack)?;
        let known = KnownPack {
            number: PackNumber(number),
            id: pack.id,
            session: pack.session,
            tree: pack.tree,
        };
        let value = rows::encode_pack(self.checker, &known)?;
        self.tables.packs.insert(number, &value)?;
        let key = &pack.id.0;
        let value = rows::encode_number(self.checker, Table::PackNumbers, key, number)?;
        self.tables.pack_numbers.insert(key, &value)?;
        Ok(number)
    }

    fn add_rows(&mut self, segments: &[&Segment], packs: &[Vec<u32>]) -> Result<(), Fail> {
        let empty = self.tables.rows.first()?.is_none();
        let mut merge = Merge::new(segments);
        let mut places: Vec<(u32, &SegmentRow)> = Vec::new();
        while let Some(id) = merge.next_id() {
            places.clear();
            while let Some((segment, row)) = merge.pop(&id) {
                let numbers = packs.get(segment);
                let at = usize::try_from(row.pack).ok();
                let pack = numbers.zip(at).and_then(|(numbers, at)| numbers.get(at));
                let pack = pack.ok_or_else(|| Fail::Refused("a row names no pack".into()))?;
                places.push((*pack, row));
            }
            places.sort_by_key(|(pack, _)| *pack);
            places.dedup_by_key(|(pack, _)| *pack);
            self.enter_bucket(&id)?;
            let chunk = self.known_chunk(&id, empty, &mut places)?;
            self.add_chunk(&id, chunk, &places)?;
        }
        self.leave_bucket()
    }

    /// The number of a chunk that is there; takes off `places` those that are there too.
    fn known_chunk(
        &self,
        id: &ChunkId,
        empty: bool,
        places: &mut Vec<(u32, &SegmentRow)>,
    ) -> Result<Option<u32>, Fail> {
        let mut number = None;
        if empty {
            return Ok(number);
        }
        let (low, high) = (rows::row_key(id, 0), rows::row_key(id, u32::MAX));
        for entry in self.tables.rows.range::<&[u8; ROW_KEY]>(&low..=&high)? {
            let (key, value) = entry?;
            let row = Row::decode(self.checker, key.value(), value.value())?;
            if number.is_some_and(|number| number != row.chunk) {
                return Err(Fail::rows());
            }
            number = Some(row.chunk);
            let (_, pack) = rows::split_key(key.value());
            places.retain(|(new, _)| *new != pack);
        }
        Ok(number)
    }

    fn add_chunk(
        &mut self,
        id: &ChunkId,
        chunk: Option<u32>,
        places: &[(u32, &SegmentRow)],
    ) -> Result<(), Fail> {
        let chunk = match chunk {
            Some(number) => number,
            None => take_number(&mut self.state.next_chunk)?,
        };
        for (pack, row) in places {
            let mut bases = BaseNumbers::default();
            for base in row.bases.iter() {
                bases.push(self.base_number(base.0)?)?;
            }
            let key = rows::row_key(id, *pack);
            let value = Row {
                offset: row.offset,
                stored: row.stored,
                plain: row.plain,
                chunk,
                slot: row.slot,
                depth: row.depth,
                encoding: row.encoding,
                bases,
            };
            let (value, tag) = value.encode(self.checker, &key);
            self.tables.rows.insert(&key, value.as_slice())?;
            if let Some((_, sum)) = &mut self.sum {
                sum.add(tag);
            }
        }
        Ok(())
    }

    fn base_number(&mut self, base: [u8; 16]) -> Result<u32, Fail> {
        if let Some(number) = self.bases.get(&base) {
            return Ok(*number);
        }
        let known = match self.tables.base_numbers.get(&base)? {
            Some(sealed) => {
                let table = Table::BaseNumbers;
                Some(rows::decode_number(
                    self.checker,
                    table,
                    &base,
                    sealed.value(),
                )?)
            }
            None => None,
        };
        let number = match known {
            Some(number) => number,
            None => self.new_base(base)?,
        };
        if self.bases.len() >= BASES_REMEMBERED {
            self.bases.clear();
        }
        self.bases.insert(base, number);
        Ok(number)
    }

    fn new_base(&mut self, base: [u8; 16]) -> Result<u32, Fail> {
        let number = take_number(&mut self.state.next_base)?;
        let key = number.to_le_bytes();
        let value = self.checker.seal_fixed(Table::Bases, &key, base.to_vec())?;
        self.tables.bases.insert(number, &value)?;
        let value = rows::encode_number(self.checker, Table::BaseNumbers, &base, number)?;
        self.tables.base_numbers.insert(&base, &value)?;
        Ok(number)
    }

    fn enter_bucket(&mut self, id: &ChunkId) -> Result<(), Fail> {
        let bucket = rows::bucket(&id.0);
        if self.sum.is_some_and(|(current, _)| current == bucket) {
            return Ok(());
        }
        self.leave_bucket()?;
        let tables = (&self.tables.rows, &self.tables.sums);
        self.verified
            .ensure(self.checker, tables, (bucket, bucket))?;
        self.sum = Some((bucket, Sum::default()));
        Ok(())
    }

    fn leave_bucket(&mut self) -> Result<(), Fail> {
        let Some((bucket, gained)) = self.sum.take() else {
            return Ok(());
        };
        if gained == Sum::default() {
            return Ok(());
        }
        let before = match self.tables.sums.get(bucket)? {
            Some(value) => Sum::decode(value.value())?,
            None => Sum::default(),
        };
        self.tables
            .sums
            .insert(bucket, &before.join(gained).encode())?;
        Ok(())
    }
}

/// Counts one up and returns the count before. The last number is not given: see `View::scan`.
fn take_number(next: &mut u32) -> Result<u32, Fail> {
    let number = *next;
    let after = number.checked_add(1).filter(|after| *after < u32::MAX);
    *next = after.ok_or_else(|| Fail::Refused("it is full: numbers are used up".into()))?;
    Ok(number)
}

/// Rows of several sorted segments in the order of chunk ids.
struct Merge<'s> {
    rows: Vec<std::slice::Iter<'s, SegmentRow>>,
    heads: BinaryHeap<Reverse<(ChunkId, usize)>>,
}

impl<'s> Merge<'s> {
    fn new(segments: &[&'s Segment]) -> Merge<'s> {
        let rows: Vec<_> = segments.iter().map(|segment| segment.rows.iter()).collect();
        let heads = rows
            .iter()
            .enumerate()
            .filter_map(|(i, rows)| head(rows, i))
            .collect();
        Merge { rows, heads }
    }

    /// The smallest id that has rows left.
    fn next_id(&self) -> Option<ChunkId> {
        self.heads.peek().map(|Reverse((id, _))| *id)
    }

    /// The next row if it is `id`'s, and which segment it is from.
    fn pop(&mut self, id: &ChunkId) -> Option<(usize, &'s SegmentRow)> {
        if self.next_id() != Some(*id) {
            return None;
        }
        let Reverse((_, segment)) = self.heads.pop()?;
        let rows = self.rows.get_mut(segment)?;
        let row = rows.next()?;
        self.heads.extend(head(rows, segment));
        Some((segment, row))
    }
}

fn head(
    rows: &std::slice::Iter<'_, SegmentRow>,
    segment: usize,
) -> Option<Reverse<(ChunkId, usize)>> {
    rows.as_slice()
        .first()
        .map(|row| Reverse((row.id, segment)))
}

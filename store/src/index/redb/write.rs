//! Writing: loading segments and clearing, inside write transactions that the caller commits.

use std::collections::{HashMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;

use ::redb::{CursorError, ReadableTable, Table as Open, WriteTransaction};

use super::Fail;
use super::filter::Filter;
use super::read::each_pack;
use super::rows::{self, Checker, ROW_KEY, Row, RowKey, RowValue, State, Sum, Table, Tag};
use super::verify::Verified;
use crate::format::segment::{SegmentPack, SegmentRow};
use crate::id::{ChunkId, PackId};
use crate::index::{Applied, KnownPack, Load, PackNumber};

/// Rows after which a transaction ends: others may write in between, and redb remembers every page
/// that a transaction allocates.
const TRANSACTION_ROWS: usize = if cfg!(test) { 1 << 11 } else { 1 << 20 };

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
    txn.delete_table(rows::PACKS)?;
    txn.delete_table(rows::PACK_NUMBERS)?;
    txn.delete_table(rows::APPLIED)?;
    drop(Tables::open(txn)?);
    let state = State {
        identity,
        generation,
        next_chunk: 0,
        next_pack: 0,
        applied: 0,
    };
    set_state(txn, checker, &state)
}

struct Tables<'t> {
    rows: Open<'t, RowKey, RowValue>,
    sums: Open<'t, u32, &'static [u8; 12]>,
    packs: Open<'t, u32, &'static [u8; 53]>,
    pack_numbers: Open<'t, &'static [u8; 32], &'static [u8; 8]>,
    applied: Open<'t, &'static [u8; 32], &'static [u8]>,
}

impl<'t> Tables<'t> {
    fn open(txn: &'t WriteTransaction) -> Result<Tables<'t>, Fail> {
        Ok(Tables {
            rows: txn.open_table(rows::ROWS)?,
            sums: txn.open_table(rows::SUMS)?,
            packs: txn.open_table(rows::PACKS)?,
            pack_numbers: txn.open_table(rows::PACK_NUMBERS)?,
            applied: txn.open_table(rows::APPLIED)?,
        })
    }
}

/// A load on its way, in one transaction or several.
pub(super) struct Run<'l> {
    load: &'l mut dyn Load,
    /// Generation of the file and numbers of the load's packs, once they are known.
    begun: Option<(u64, Vec<u32>)>,
    /// The state after the last step, when the filter was of the state before and so has all of it.
    pub(super) filtered: Option<State>,
    /// Rows so far.
    pub(super) rows: usize,
    pub(super) done: bool,
}

impl<'l> Run<'l> {
    pub(super) fn new(load: &'l mut dyn Load) -> Run<'l> {
        Run {
            load,
            begun: None,
            filtered: None,
            rows: 0,
            done: false,
        }
    }

    /// Adds some rows, or the last ones and that their segments are applied; `false` when all of
    /// them were before.
    pub(super) fn step(
        &mut self,
        txn: &WriteTransaction,
        (checker, verified): (&Checker, &Verified),
        filter: Option<&Arc<Filter>>,
    ) -> Result<bool, Fail> {
        let state = state(txn, checker)?;
        let mut writer = Writer {
            state,
            tables: Tables::open(txn)?,
            checker,
            verified,
            filter: filter.filter(|f| f.is_of(&state)).map(Arc::as_ref),
            gains: Vec::new(),
        };
        let generation = state.generation;
        let packs = match &self.begun {
            Some((before, packs)) if *before == generation => packs,
            Some(_) => return Err(Fail::Refused("it was cleared meanwhile".into())),
            None if !writer.is_new(self.load.segments())? => {
                self.done = true;
                return Ok(false);
            }
            None => {
                let packs = writer.number_packs(self.load.packs())?;
                &self.begun.insert((generation, packs)).1
            }
        };
        let mut rows = 0;
        while rows < TRANSACTION_ROWS && !self.done {
            match self.load.next().map_err(|e| Fail::Refused(e.0))? {
                Some(part) => {
                    rows += part.len();
                    writer.add_rows(&part, packs)?;
                }
                None => {
                    writer.note_applied(self.load.segments())?;
                    self.done = true;
                }
            }
        }
        self.rows += rows;
        let state = writer.state;
        self.filtered = writer.filter.map(|_| state);
        drop(writer);
        set_state(txn, checker, &state)?;
        Ok(true)
    }
}

struct Writer<'a, 't> {
    state: State,
    tables: Tables<'t>,
    checker: &'a Checker,
    verified: &'a Verified,
    /// One of the chunks that are there.
    filter: Option<&'a Filter>,
    /// What buckets gain, in their order.
    gains: Vec<(u32, Sum)>,
}

impl Writer<'_, '_> {
    /// Whether one of the segments was not applied.
    fn is_new(&self, segments: &[Applied]) -> Result<bool, Fail> {
        for segment in segments {
            let Some(old) = self.tables.applied.get(&segment.id.0)? else {
                return Ok(true);
            };
            self.checker
                .open(Table::Applied, &segment.id.0, old.value())?;
        }
        Ok(false)
    }

    /// Lists segments as applied.
    fn note_applied(&mut self, segments: &[Applied]) -> Result<(), Fail> {
        for Applied { id, supersedes } in segments {
            if self.tables.applied.get(&id.0)?.is_some() {
                continue;
            }
            let list = supersedes.iter().flat_map(|id| id.0).collect();
            let (value, _) = self.checker.seal(Table::Applied, &id.0, list);
            self.tables.applied.insert(&id.0, value.as_slice())?;
            take_number(&mut self.state.applied)?;
        }
        Ok(())
    }

    /// The numbers of packs, by position.
    fn number_packs(&mut self, packs: &[SegmentPack]) -> Result<Vec<u32>, Fail> {
        let mut known: HashMap<PackId, u32> = HashMap::new();
        let mut missing: HashSet<PackId> = HashSet::new();
        for pack in packs {
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
        let mut numbers = Vec::with_capacity(packs.len());
        for pack in packs {
            let number = match known.get(&pack.id) {
                Some(number) => *number,
                None => self.new_pack(pack)?,
            };
            known.insert(pack.id, number);
            numbers.push(number);
        }
        Ok(numbers)
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

    /// Adds rows that are sorted by id.
    fn add_rows(&mut self, part: &[SegmentRow], packs: &[u32]) -> Result<(), Fail> {
        let (Some(first), Some(last)) = (part.first(), part.last()) else {
            return Ok(());
        };
        let (low, high) = (
            rows::row_key(&first.id, 0),
            rows::row_key(&last.id, u32::MAX),
        );
        if self.is_empty(&low, &high)? {
            let (first, last) = (rows::bucket(&first.id.0), rows::bucket(&last.id.0));
            for buckets in [(first, first), (last, last), (first, last)] {
                self.ensure(buckets)?;
            }
            self.add_between(&low, part, packs)?;
        } else {
            self.add_among(part, packs)?;
        }
        self.add_gains((rows::bucket(&first.id.0), rows::bucket(&last.id.0)))
    }

    /// Whether no row stands between two keys, sought from where buckets are verified.
    fn is_empty(&self, low: &[u8; ROW_KEY], high: &[u8; ROW_KEY]) -> Result<bool, Fail> {
        let from = self.verified.start(low);
        for entry in self.tables.rows.range::<&[u8; ROW_KEY]>(&from..=high)? {
            if entry?.0.value() >= low {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Adds what buckets between the first and the last have gained to their sums.
    fn add_gains(&mut self, (first, last): (u32, u32)) -> Result<(), Fail> {
        let gains = std::mem::take(&mut self.gains);
        if self.tables.sums.range(first..=last)?.next().is_none() {
            let mut cursor = self.tables.sums.upper_bound_mut(Bound::Excluded(first))?;
            for (bucket, gained) in gains {
                cursor
                    .insert_before(bucket, &gained.encode())
                    .map_err(unordered)?;
            }
            return Ok(cursor.close()?);
        }
        for (bucket, gained) in gains {
            let before = match self.tables.sums.get(bucket)? {
                Some(value) => Sum::decode(value.value())?,
                None => Sum::default(),
            };
            let sum = before.join(gained).encode();
            self.tables.sums.insert(bucket, &sum)?;
        }
        Ok(())
    }

    /// Adds rows where there are none between the first and the last: pages are filled in order.
    fn add_between(
        &mut self,
        low: &[u8; ROW_KEY],
        part: &[SegmentRow],
        packs: &[u32],
    ) -> Result<(), Fail> {
        let mut places = Vec::new();
        let mut cursor = self.tables.rows.upper_bound_mut(Bound::Excluded(low))?;
        for same in part.chunk_by(|a, b| a.id == b.id) {
            number_places(same, packs, &mut places)?;
            let Some(id) = same.first().map(|row| row.id) else {
                continue;
            };
            let chunk = take_number(&mut self.state.next_chunk)?;
            if let Some(filter) = self.filter {
                filter.add(&id);
            }
            for (pack, row) in &places {
                let key = rows::row_key(&id, *pack);
                let (value, tag) = value_of(row, chunk).encode(self.checker, &key);
                let inserted = cursor.insert_before(&key, value.bytes());
                inserted.map_err(unordered)?;
                gain(&mut self.gains, rows::bucket(&id.0), tag);
            }
        }
        Ok(cursor.close()?)
    }

    fn add_among(&mut self, part: &[SegmentRow], packs: &[u32]) -> Result<(), Fail> {
        let mut places = Vec::new();
        for same in part.chunk_by(|a, b| a.id == b.id) {
            number_places(same, packs, &mut places)?;
            let Some(id) = same.first().map(|row| row.id) else {
                continue;
            };
            let bucket = rows::bucket(&id.0);
            if self.gains.last().is_none_or(|(last, _)| *last != bucket) {
                self.ensure((bucket, bucket))?;
            }
            let known = match self.filter {
                Some(filter) if !filter.may_have(&id) => None,
                _ => self.known_chunk(&id, &mut places)?,
            };
            let chunk = match known {
                Some(number) => number,
                None => {
                    if let Some(filter) = self.filter {
                        filter.add(&id);
                    }
                    take_number(&mut self.state.next_chunk)?
                }
            };
            for (pack, row) in &places {
                let key = rows::row_key(&id, *pack);
                let (value, tag) = value_of(row, chunk).encode(self.checker, &key);
                self.tables.rows.insert(&key, value.bytes())?;
                gain(&mut self.gains, bucket, tag);
            }
        }
        Ok(())
    }

    fn ensure(&self, buckets: (u32, u32)) -> Result<(), Fail> {
        let tables = (&self.tables.rows, &self.tables.sums);
        self.verified.ensure(self.checker, tables, buckets)
    }

    /// The number of a chunk that is there; takes off `places` those that are there too.
    fn known_chunk(
        &self,
        id: &ChunkId,
        places: &mut Vec<(u32, &SegmentRow)>,
    ) -> Result<Option<u32>, Fail> {
        let mut number = None;
        let (low, high) = (rows::row_key(id, 0), rows::row_key(id, u32::MAX));
        // From where the bucket was verified: see there.
        let from = self.verified.start(&low);
        for entry in self.tables.rows.range::<&[u8; ROW_KEY]>(&from..=&high)? {
            let (key, value) = entry?;
            if *key.value() < low {
                continue;
            }
            let (row, _) = Row::decode(self.checker, key.value(), value.value())?;
            if number.is_some_and(|number| number != row.chunk) {
                return Err(Fail::rows());
            }
            number = Some(row.chunk);
            let (_, pack) = rows::split_key(key.value());
            places.retain(|(new, _)| *new != pack);
        }
        Ok(number)
    }
}

/// Where nothing was found a moment ago, something stands.
fn unordered(error: CursorError) -> Fail {
    match error {
        CursorError::Storage(error) => Fail::from(error),
        _ => Fail::rows(),
    }
}

fn value_of(row: &SegmentRow, chunk: u32) -> Row {
    Row {
        offset: row.offset,
        stored: row.stored,
        plain: row.plain,
        chunk,
        slot: row.slot,
        depth: row.depth,
        encoding: row.encoding,
        bases: row.bases,
    }
}

/// The rows of one chunk with the numbers of their packs, in their order.
fn number_places<'s>(
    same: &'s [SegmentRow],
    packs: &[u32],
    places: &mut Vec<(u32, &'s SegmentRow)>,
) -> Result<(), Fail> {
    places.clear();
    for row in same {
        let pack = packs.get(row.pack as usize).copied();
        let pack = pack.ok_or_else(|| Fail::Refused("a row names no pack".into()))?;
        places.push((pack, row));
    }
    places.sort_by_key(|(pack, _)| *pack);
    places.dedup_by_key(|(pack, _)| *pack);
    Ok(())
}

fn gain(gains: &mut Vec<(u32, Sum)>, bucket: u32, tag: Tag) {
    match gains.last_mut().filter(|(last, _)| *last == bucket) {
        Some((_, sum)) => sum.add(tag),
        None => {
            let mut sum = Sum::default();
            sum.add(tag);
            gains.push((bucket, sum));
        }
    }
}

/// Counts one up and returns the count before. The last number is not given: see `View::scan`.
fn take_number(next: &mut u32) -> Result<u32, Fail> {
    let number = *next;
    let after = number.checked_add(1).filter(|after| *after < u32::MAX);
    *next = after.ok_or_else(|| Fail::Refused("it is full: numbers are used up".into()))?;
    Ok(number)
}

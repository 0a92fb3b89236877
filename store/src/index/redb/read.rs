//! Reading: a [`View`] is one read transaction with its tables open.
//!
//! Beginning a transaction takes file locks and reads the header, so a view is kept and used for
//! many calls; who keeps it also keeps the pages that it sees from being used again.

use std::sync::Arc;
use std::time::Instant;

use ::redb::{ReadOnlyTable, ReadTransaction, ReadableTable};

use super::Fail;
use super::filter::Filter;
use super::rows::{self, Checker, ROW_KEY, Row, RowKey, RowValue, State, Table};
use super::verify::Verified;
use crate::id::{ChunkId, SegmentId};
use crate::index::{Applied, ChunkNumber, Found, KnownPack, PackNumber, Place};

/// See the module.
pub(super) struct View {
    pub(super) state: State,
    pub(super) since: Instant,
    /// What its index has verified.
    pub(super) verified: Arc<Verified>,
    rows: ReadOnlyTable<RowKey, RowValue>,
    sums: ReadOnlyTable<u32, &'static [u8; 12]>,
    packs: ReadOnlyTable<u32, &'static [u8; 53]>,
    applied: ReadOnlyTable<&'static [u8; 32], &'static [u8]>,
}

/// What reading needs besides a view.
pub(super) struct Checks<'a> {
    pub(super) checker: &'a Checker,
    pub(super) verified: &'a Verified,
}

impl View {
    /// `verified` gives what was verified of an index of so many chunks.
    pub(super) fn new(
        txn: &ReadTransaction,
        checker: &Checker,
        verified: impl FnOnce(u32) -> Arc<Verified>,
    ) -> Result<View, Fail> {
        let states = txn.open_table(rows::STATES)?;
        let state = ReadableTable::get(&states, 0)?.ok_or_else(|| Fail::broken("it is empty"))?;
        let state = State::decode(checker, state.value())?;
        Ok(View {
            verified: verified(state.next_chunk),
            state,
            since: Instant::now(),
            rows: txn.open_table(rows::ROWS)?,
            sums: txn.open_table(rows::SUMS)?,
            packs: txn.open_table(rows::PACKS)?,
            applied: txn.open_table(rows::APPLIED)?,
        })
    }

    fn ensure(&self, checks: &Checks<'_>, first: u32, last: u32) -> Result<(), Fail> {
        checks
            .verified
            .ensure(checks.checker, (&self.rows, &self.sums), (first, last))
    }

    /// All chunks whose ids begin with `prefix`, of at least four bytes.
    pub(super) fn find(&self, checks: &Checks<'_>, prefix: &[u8]) -> Result<Vec<Found>, Fail> {
        let bucket = rows::bucket(prefix);
        self.ensure(checks, bucket, bucket)?;
        let (low, high) = keys_of(prefix);
        // From where it was verified: see there.
        let from = checks.verified.start(&low);
        self.collect(checks, &from, (&low, &high), usize::MAX)
    }

    /// The same, but whether rows are missing is not verified: each row that is answered bears its
    /// own check, and that is all that a place needs to be true.
    pub(super) fn find_some(&self, checks: &Checks<'_>, prefix: &[u8]) -> Result<Vec<Found>, Fail> {
        let (low, high) = keys_of(prefix);
        self.collect(checks, &low, (&low, &high), usize::MAX)
    }

    /// A filter of all chunks. Every row is verified first: one that a damaged page hides must not
    /// be told absent.
    pub(super) fn filter(&self, checks: &Checks<'_>) -> Result<Filter, Fail> {
        // By a pass over all, which is no proof that each is found when it is sought: see `verify`.
        let tables = (&self.rows, &self.sums);
        let all = (0, (1 << rows::BUCKET_BITS) - 1);
        Verified::new(0).ensure(checks.checker, tables, all)?;
        let filter = Filter::new(&self.state);
        for entry in ReadableTable::iter(&self.rows)? {
            let (key, _) = entry?;
            filter.add(&rows::split_key(key.value()).0);
        }
        Ok(filter)
    }

    /// See [`crate::index::Index::scan`].
    pub(super) fn scan(
        &self,
        checks: &Checks<'_>,
        after: Option<&ChunkId>,
        limit: usize,
    ) -> Result<Vec<Found>, Fail> {
        // A row's pack number is below 2^32 - 1, so this key is behind all rows of `after`.
        let low = after.map_or([0; ROW_KEY], |id| rows::row_key(id, u32::MAX));
        let from = checks.verified.start(&low);
        let found = self.collect(checks, &from, (&low, &[0xff; ROW_KEY]), limit)?;
        let complete = found.len() < limit;
        let last = found
            .last()
            .filter(|_| !complete)
            .map(|found| rows::bucket(&found.id.0));
        let last = last.unwrap_or((1 << rows::BUCKET_BITS) - 1);
        if limit > 0 {
            self.ensure(checks, rows::bucket(&low), last)?;
        }
        Ok(found)
    }

    /// The chunks of the rows `low ..= high`, sought from a key that is not above them.
    fn collect(
        &self,
        checks: &Checks<'_>,
        from: &[u8; ROW_KEY],
        (low, high): (&[u8; ROW_KEY], &[u8; ROW_KEY]),
        limit: usize,
    ) -> Result<Vec<Found>, Fail> {
        let mut out: Vec<Found> = Vec::new();
        for entry in self.rows.range::<&[u8; ROW_KEY]>(from..=high)? {
            let (key, value) = entry?;
            if key.value() < low {
                continue;
            }
            let (id, pack) = rows::split_key(key.value());
            let same = out.last().is_some_and(|found| found.id == id);
            if !same && out.len() >= limit {
                break;
            }
            if out.last().is_some_and(|found| found.id > id) {
                return Err(Fail::rows());
            }
            let (row, _) = Row::decode(checks.checker, key.value(), value.value())?;
            if row.chunk >= self.state.next_chunk || pack >= self.state.next_pack {
                return Err(Fail::rows());
            }
            let place = place(&row, pack);
            match out.last_mut().filter(|_| same) {
                Some(found) => add_place(found, &row, place)?,
                None => out.push(Found {
                    id,
                    number: ChunkNumber(row.chunk),
                    places: vec![place],
                }),
            }
        }
        Ok(out)
    }

    pub(super) fn applied(&self, checker: &Checker) -> Result<Vec<Applied>, Fail> {
        let mut out = Vec::new();
        for entry in ReadableTable::iter(&self.applied)? {
            let (key, value) = entry?;
            let (list, _) = checker.open(Table::Applied, key.value(), value.value())?;
            let (ids, rest) = list.as_chunks::<32>();
            if !rest.is_empty() {
                return Err(Fail::check());
            }
            out.push(Applied {
                id: SegmentId(*key.value()),
                supersedes: ids.iter().map(|id| SegmentId(*id)).collect(),
            });
        }
        let sorted = out.is_sorted_by(|a, b| a.id < b.id);
        if sorted && u32::try_from(out.len()).is_ok_and(|n| n == self.state.applied) {
            Ok(out)
        } else {
            Err(Fail::broken("the list of applied segments is damaged"))
        }
    }

    pub(super) fn packs(&self, checker: &Checker) -> Result<Vec<KnownPack>, Fail> {
        let mut out = Vec::new();
        each_pack(&self.packs, checker, self.state.next_pack, |pack| {
            out.push(pack)
        })?;
        Ok(out)
    }
}

/// The first and the last key that rows of such ids may have.
fn keys_of(prefix: &[u8]) -> ([u8; ROW_KEY], [u8; ROW_KEY]) {
    let (mut low, mut high) = ([0; ROW_KEY], [0xff; ROW_KEY]);
    low.iter_mut().zip(prefix).for_each(|(to, b)| *to = *b);
    high.iter_mut().zip(prefix).for_each(|(to, b)| *to = *b);
    (low, high)
}

fn place(row: &Row, pack: u32) -> Place {
    Place {
        pack: PackNumber(pack),
        offset: row.offset,
        stored: row.stored,
        slot: row.slot,
        plain: row.plain,
        encoding: row.encoding,
        depth: row.depth,
        bases: row.bases,
    }
}

fn add_place(found: &mut Found, row: &Row, place: Place) -> Result<(), Fail> {
    let behind = found
        .places
        .last()
        .is_some_and(|last| last.pack < place.pack);
    if !behind || found.number.0 != row.chunk {
        return Err(Fail::rows());
    }
    found.places.push(place);
    Ok(())
}

/// Hands over every pack in the order of numbers; fails when one is missing.
pub(super) fn each_pack(
    packs: &impl ReadableTable<u32, &'static [u8; 53]>,
    checker: &Checker,
    count: u32,
    mut each: impl FnMut(KnownPack),
) -> Result<(), Fail> {
    let mut expected = 0;
    for entry in packs.iter()? {
        let (key, value) = entry?;
        if key.value() != expected || expected >= count {
            return Err(Fail::broken("the list of packs is damaged"));
        }
        each(rows::decode_pack(checker, expected, value.value())?);
        expected += 1;
    }
    if expected == count {
        Ok(())
    } else {
        Err(Fail::broken("the list of packs is damaged"))
    }
}

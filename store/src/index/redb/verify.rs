//! Which buckets of rows were verified by this handle, and how: every row's check holds, the rows
//! are in order, and their number and sum are those of [`SUMS`](super::rows::SUMS).
//!
//! A bucket is verified when it is first touched and not again: this notices a file that was
//! altered before, not one that is being altered.
//!
//! A damaged inner page may lead a search astray, while a pass that begins before that place comes
//! by what the search misses, and finds everything in order. So it matters where a search began:
//! a bucket that was *sought* is whole for whoever seeks it from the same key; one that was only
//! *passed* on the way from another is whole for those who come the same way.
//!
//! A search costs more than some rows that are passed, so few rows are sought together: as many
//! neighbouring buckets as hold about [`ROWS`] are a *group*, and everyone seeks what stands in it
//! from its first key.

use std::sync::atomic::{AtomicU64, Ordering};

use ::redb::ReadableTable;

use super::Fail;
use super::rows::{self, BUCKET_BITS, Checker, RowKey, RowValue, Sum, Table};

/// Rows that are sought together, about.
const ROWS: u32 = 8;
/// With so many times [`ROWS`] in a group it is too large.
const TOO_MANY: u32 = 8;
/// Most buckets in a group, as a power of two.
const MAX_GRAIN: u32 = 6;

/// Buckets that were verified.
pub(super) struct Verified {
    /// Buckets in a group, as a power of two.
    grain: u32,
    /// Of each group its first bucket.
    sought: Buckets,
    passed: Buckets,
}

/// One bit for each bucket.
struct Buckets(Vec<AtomicU64>);

impl Buckets {
    fn new() -> Buckets {
        let words = 1usize << (BUCKET_BITS - 6);
        Buckets((0..words).map(|_| AtomicU64::new(0)).collect())
    }

    fn word(&self, bucket: u32) -> Option<(&AtomicU64, u64)> {
        let word = self.0.get(usize::try_from(bucket >> 6).ok()?)?;
        Some((word, 1 << (bucket & 63)))
    }

    fn has(&self, bucket: u32) -> bool {
        self.word(bucket)
            .is_some_and(|(word, bit)| word.load(Ordering::Relaxed) & bit != 0)
    }

    fn add(&self, bucket: u32) {
        if let Some((word, bit)) = self.word(bucket) {
            word.fetch_or(bit, Ordering::Relaxed);
        }
    }
}

impl Verified {
    /// For an index of about so many rows; nothing is verified yet.
    pub(super) fn new(rows: u32) -> Verified {
        let groups = (rows / ROWS).max(1).ilog2();
        let grain = match rows {
            0 => 0,
            _ => BUCKET_BITS.saturating_sub(groups).min(MAX_GRAIN),
        };
        Verified {
            grain,
            sought: Buckets::new(),
            passed: Buckets::new(),
        }
    }

    /// Whether groups are not too large for so many rows.
    pub(super) fn suits(&self, rows: u32) -> bool {
        rows >> (BUCKET_BITS - self.grain) < ROWS * TOO_MANY
    }

    /// The buckets of a group.
    fn group(&self, bucket: u32) -> (u32, u32) {
        let rest = (1 << self.grain) - 1;
        (bucket & !rest, bucket | rest)
    }

    /// From where a key, and what follows it, has to be sought for what was verified to hold.
    pub(super) fn start(&self, key: &[u8; rows::ROW_KEY]) -> [u8; rows::ROW_KEY] {
        let (first, last) = self.group(rows::bucket(key));
        rows::bucket_keys(first, last).0
    }

    /// Verifies those of the buckets `first ..= last` that were not yet: the group of the first one
    /// by itself, as whoever reads on from there seeks it, the others on the way.
    pub(super) fn ensure<R, S>(
        &self,
        checker: &Checker,
        tables: (&R, &S),
        (first, last): (u32, u32),
    ) -> Result<(), Fail>
    where
        R: ReadableTable<RowKey, RowValue>,
        S: ReadableTable<u32, &'static [u8; 12]>,
    {
        let (begin, end) = self.group(first);
        if !self.sought.has(begin) {
            verify(checker, tables, (begin, end))?;
            self.sought.add(begin);
            (begin..=end).for_each(|bucket| self.passed.add(bucket));
        }
        let mut next = end + 1;
        while next <= last {
            let start = next;
            while next <= last && !self.passed.has(next) {
                next += 1;
            }
            if let Some(end) = next.checked_sub(1).filter(|end| *end >= start) {
                verify(checker, tables, (start, end))?;
                (start..=end).for_each(|bucket| self.passed.add(bucket));
            }
            next += 1;
        }
        Ok(())
    }
}

fn verify<R, S>(
    checker: &Checker,
    (rows, sums): (&R, &S),
    (first, last): (u32, u32),
) -> Result<(), Fail>
where
    R: ReadableTable<RowKey, RowValue>,
    S: ReadableTable<u32, &'static [u8; 12]>,
{
    let (low, high) = rows::bucket_keys(first, last);
    let mut sums = sums.range(first..=last)?;
    let mut compare = |bucket: u32, sum: Sum| match sums.next() {
        Some(entry) => {
            let (key, value) = entry?;
            let same = key.value() == bucket && Sum::decode(value.value())? == sum;
            if same { Ok(()) } else { Err(Fail::rows()) }
        }
        None => Err(Fail::rows()),
    };
    let mut open: Option<(u32, Sum)> = None;
    let mut before: Option<[u8; rows::ROW_KEY]> = None;
    for entry in rows.range::<&[u8; rows::ROW_KEY]>(&low..=&high)? {
        let (key, value) = entry?;
        let key = key.value();
        if before.is_some_and(|before| before >= *key) {
            return Err(Fail::rows());
        }
        before = Some(*key);
        let (_, tag) = checker.open(Table::Rows, key, value.value())?;
        let bucket = rows::bucket(key);
        let mut sum = match open {
            Some((current, sum)) if current == bucket => sum,
            Some((current, sum)) => {
                compare(current, sum)?;
                Sum::default()
            }
            None => Sum::default(),
        };
        sum.add(tag);
        open = Some((bucket, sum));
    }
    if let Some((bucket, sum)) = open {
        compare(bucket, sum)?;
    }
    match sums.next() {
        None => Ok(()),
        Some(_) => Err(Fail::rows()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_holds_some_rows_and_begins_where_its_buckets_are_sought() {
        for rows in [1, 1000, 60_000, 1 << 20, 1 << 23, 100_000_000] {
            let verified = Verified::new(rows);
            let in_group = (u64::from(rows) << verified.grain) >> BUCKET_BITS;
            let single = u64::from(rows >> BUCKET_BITS).max(1);
            assert!(
                in_group <= single.max(2 * u64::from(ROWS)),
                "{rows}: {in_group}"
            );
            assert!(verified.suits(rows) || verified.grain == 0, "{rows}");
        }
        let verified = Verified::new(60_000);
        assert_eq!(
            (verified.grain, verified.group(130)),
            (MAX_GRAIN, (128, 191))
        );
        let (key, _) = rows::bucket_keys(130, 130);
        assert_eq!(verified.start(&key), rows::bucket_keys(128, 191).0);
        assert!(!verified.suits(2_000_000));
        assert_eq!(Verified::new(0).grain, 0);
    }
}

//! Which buckets of rows were verified by this handle, and how: every row's check holds, the rows
//! are in order, and their number and sum are those of [`SUMS`](super::rows::SUMS).
//!
//! A bucket is verified when it is first touched and not again: this notices a file that was
//! altered before, not one that is being altered.
//!
//! A damaged inner page may lead a search astray, while a pass that begins before that place comes
//! by what the search misses, and finds everything in order. So it matters where a search began:
//! a bucket that was *sought* by itself is whole for whoever seeks it from its first key; one that
//! was only *passed* on the way from another is whole for those who come the same way.

use std::sync::atomic::{AtomicU64, Ordering};

use ::redb::ReadableTable;

use super::Fail;
use super::rows::{self, BUCKET_BITS, Checker, RowKey, RowValue, Sum, Table};

/// Buckets that were verified.
pub(super) struct Verified {
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
    pub(super) fn new() -> Verified {
        Verified {
            sought: Buckets::new(),
            passed: Buckets::new(),
        }
    }

    /// Verifies those of the buckets `first ..= last` that were not yet: the first one by itself,
    /// as whoever reads on from there seeks it, the others on the way.
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
        if !self.sought.has(first) {
            verify(checker, tables, (first, first))?;
            self.sought.add(first);
            self.passed.add(first);
        }
        let mut next = first + 1;
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

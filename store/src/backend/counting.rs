//! Counts what a backend is asked: calls and bytes, per operation and area.
//!
//! For tests that assert operation counts ("an unchanged tree writes one object") and for reports.
//! It changes no call and no answer; `location`, `tidy` and
//! `reserve` are not counted.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Area, Backend, BackendError, Key, Listed, Put, Reserve};
use crate::sealed::Sealed;

/// Calls and bytes of one area. A call that failed counts as a call and in `failed`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Whole objects asked for.
    pub gets: u64,
    /// Ranges asked for.
    pub range_gets: u64,
    /// Puts that stored an object.
    pub puts_created: u64,
    /// Puts that found the name taken.
    pub puts_refused: u64,
    /// Listings asked for.
    pub lists: u64,
    /// Objects that listings showed.
    pub listed: u64,
    /// Deletions asked for.
    pub deletes: u64,
    /// Calls of any kind that answered an error; failed puts count only here.
    pub failed: u64,
    /// Bytes that went into the backend: of puts that stored an object.
    pub bytes_in: u64,
    /// Bytes that came out of the backend, by gets and range gets.
    pub bytes_out: u64,
}

impl Tally {
    fn add(&mut self, other: &Tally) {
        self.gets += other.gets;
        self.range_gets += other.range_gets;
        self.puts_created += other.puts_created;
        self.puts_refused += other.puts_refused;
        self.lists += other.lists;
        self.listed += other.listed;
        self.deletes += other.deletes;
        self.failed += other.failed;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
    }
}

/// What was counted up to one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// By area; an area that was never touched is missing.
    pub areas: BTreeMap<Area, Tally>,
}

impl Counts {
    /// One area's counts.
    pub fn of(&self, area: Area) -> Tally {
        self.areas.get(&area).copied().unwrap_or_default()
    }

    /// All areas together.
    pub fn total(&self) -> Tally {
        let mut total = Tally::default();
        self.areas.values().for_each(|tally| total.add(tally));
        total
    }
}

#[derive(Debug, Default)]
struct State {
    counts: Counts,
    /// Keys that were stored, in order; `None` when nobody asked for a log.
    log: Option<Vec<Key>>,
}

/// A backend that counts what another one is asked.
#[derive(Debug)]
pub struct Counting<B> {
    inner: B,
    state: Mutex<State>,
}

impl<B> Counting<B> {
    /// Counts from zero.
    pub fn new(inner: B) -> Counting<B> {
        Counting {
            inner,
            state: Mutex::default(),
        }
    }

    /// Counts from zero, and keeps the key of every object that was stored.
    pub fn with_log(inner: B) -> Counting<B> {
        let counting = Counting::new(inner);
        counting.state().log = Some(Vec::new());
        counting
    }

    /// The backend that is counted.
    pub fn inner(&self) -> &B {
        &self.inner
    }

    /// What was counted since the start or the last reset.
    pub fn counts(&self) -> Counts {
        self.state().counts.clone()
    }

    /// The keys stored since the start or the last reset, in the order of their answers; empty
    /// without a log.
    pub fn stored(&self) -> Vec<Key> {
        self.state().log.clone().unwrap_or_default()
    }

    /// Counts from zero again, and empties the log.
    pub fn reset(&self) {
        let mut state = self.state();
        state.counts = Counts::default();
        if let Some(log) = &mut state.log {
            log.clear();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count<T>(&self, area: Area, answer: &Result<T, BackendError>, how: impl FnOnce(&mut Tally)) {
        let mut state = self.state();
        let tally = state.counts.areas.entry(area).or_default();
        how(tally);
        tally.failed += u64::from(answer.is_err());
    }
}

/// Bytes in an answer; none in a failure.
fn size(answer: &Result<Vec<u8>, BackendError>) -> u64 {
    answer.as_ref().map_or(0, |bytes| bytes.len() as u64)
}

impl<B: Backend> Backend for Counting<B> {
    fn list(&self, area: Area, each: &mut dyn FnMut(Listed)) -> Result<(), BackendError> {
        let mut seen = 0;
        let answer = self.inner.list(area, &mut |listed| {
            seen += 1;
            each(listed);
        });
        self.count(area, &answer, |tally| {
            tally.lists += 1;
            tally.listed += seen;
        });
        answer
    }

    fn get(&self, key: &Key) -> Result<Vec<u8>, BackendError> {
        let answer = self.inner.get(key);
        self.count(key.area(), &answer, |tally| {
            tally.gets += 1;
            tally.bytes_out += size(&answer);
        });
        answer
    }

    fn get_range(&self, key: &Key, offset: u64, len: u64) -> Result<Vec<u8>, BackendError> {
        let answer = self.inner.get_range(key, offset, len);
        self.count(key.area(), &answer, |tally| {
            tally.range_gets += 1;
            tally.bytes_out += size(&answer);
        });
        answer
    }

    fn put(&self, key: &Key, body: &Sealed) -> Result<Put, BackendError> {
        let answer = self.inner.put(key, body);
        self.count(key.area(), &answer, |tally| match answer {
            Ok(Put::Created) => {
                tally.puts_created += 1;
                tally.bytes_in += body.len();
            }
            Ok(Put::Exists) => tally.puts_refused += 1,
            Err(_) => {}
        });
        if let (Ok(Put::Created), Some(log)) = (&answer, &mut self.state().log) {
            log.push(key.clone());
        }
        answer
    }

    fn delete(&self, key: &Key) -> Result<(), BackendError> {
        let answer = self.inner.delete(key);
        self.count(key.area(), &answer, |tally| tally.deletes += 1);
        answer
    }

    fn location(&self) -> String {
        self.inner.location()
    }

    fn tidy(&self) -> Result<(), BackendError> {
        self.inner.tidy()
    }

    fn reserve(&self, wish: Reserve) -> Result<bool, BackendError> {
        self.inner.reserve(wish)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Memory, conformance};

    #[test]
    fn conforms() {
        conformance::check(&Counting::new(Memory::new())).unwrap();
    }

    #[test]
    fn counts_calls_and_bytes_by_area() {
        let backend = Counting::with_log(Memory::new());
        let note = Key::new(Area::Notes, "a").unwrap();
        let pack = Key::new(Area::Packs, "b").unwrap();
        let body = Sealed::from_stored(vec![7; 10]);
        backend.put(&note, &body).unwrap();
        backend.put(&note, &body).unwrap();
        backend.get(&note).unwrap();
        backend.get_range(&note, 2, 3).unwrap();
        backend.get(&pack).unwrap_err();
        backend.list(Area::Notes, &mut |_| {}).unwrap();
        backend.delete(&pack).unwrap();
        let notes = Tally {
            gets: 1,
            range_gets: 1,
            puts_created: 1,
            puts_refused: 1,
            lists: 1,
            listed: 1,
            bytes_in: 10,
            bytes_out: 13,
            ..Tally::default()
        };
        let packs = Tally {
            gets: 1,
            deletes: 1,
            failed: 1,
            ..Tally::default()
        };
        let counts = backend.counts();
        assert_eq!(
            (counts.of(Area::Notes), counts.of(Area::Packs)),
            (notes, packs)
        );
        assert_eq!(counts.of(Area::Keys), Tally::default());
        assert_eq!((counts.total().gets, counts.total().bytes_in), (2, 10));
        assert_eq!(backend.stored(), std::slice::from_ref(&note));

        backend.reset();
        assert_eq!(backend.counts(), Counts::default());
        assert!(backend.stored().is_empty());
        backend.put(&pack, &body).unwrap();
        assert_eq!(backend.stored(), [pack], "the log goes on");
        assert_eq!(backend.inner().object_count(), 2);
    }
}

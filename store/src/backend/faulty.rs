//! Troubles chosen calls of another backend: for tests that fail, shorten or delay the n-th call,
//! n = 1, 2, 3 … until all goes well, and then look at what is stored.
//!
//! It tears no object (a backend shows one whole or not at all). Late calls are carried out when so
//! many others have followed, not when time has passed. `location` is no call; `tidy` and `reserve`
//! are.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Area, Backend, BackendError, Key, Listed, Operation, Put, Reserve, Trouble};
use crate::sealed::Sealed;

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It fails before anything is done: `Trouble::Other`, and asking again may help.
    Before,
    /// It is carried out, but the answer is lost: `Trouble::Unknown`. A listing shows everything
    /// and then fails.
    LostAnswer,
    /// No space left, nothing done: `Trouble::Full`. For calls other than put the same as `Before`.
    Full,
    /// It answers less than there is and says nothing of that: a get the first half of the bytes, a
    /// listing of packs, segments, snapshots or markers the first half of the names. Other calls
    /// are left alone: nobody promises anything where sessions or gc lists are missing.
    Short,
    /// The answer is lost, and what was asked is carried out after so many further calls: for puts
    /// and deletions. Other calls fail as with `Before`.
    Late(u64),
}

/// Something that is carried out later.
#[derive(Debug)]
enum Work {
    Put(Key, Vec<u8>),
    Delete(Key),
}

#[derive(Debug, Default)]
struct State {
    calls: u64,
    armed: BTreeMap<u64, Fault>,
    hits: Vec<String>,
    hidden: BTreeSet<Key>,
    bad: BTreeMap<Key, Spoiled>,
    late: Vec<(u64, Work)>,
}

/// Bytes that cannot be read, for so many reads.
#[derive(Debug)]
struct Spoiled {
    bytes: Range<u64>,
    reads: u64,
}

/// A backend whose chosen calls meet trouble.
#[derive(Debug)]
pub struct Faulty<B> {
    inner: B,
    state: Mutex<State>,
}

impl<B> Faulty<B> {
    /// Troubles nothing yet.
    pub fn new(inner: B) -> Faulty<B> {
        Faulty {
            inner,
            state: Mutex::default(),
        }
    }

    /// Troubles the `n`-th call since `new`, counted from 1, once. Several may be armed; one that
    /// was passed already never happens. The next call is `calls() + 1`.
    pub fn fail_at(&self, n: u64, fault: Fault) {
        self.state().armed.insert(n, fault);
    }

    /// From now on no listing shows this object, until `show_all`; it can still be got.
    pub fn hide(&self, key: Key) {
        self.state().hidden.insert(key);
    }

    /// Listings show everything again.
    pub fn show_all(&self) {
        self.state().hidden.clear();
    }

    /// From now on these bytes of an object cannot be read, as on a disk with bad sectors: whoever
    /// asks for one of them is told `Trouble::Other`, and that asking again is of no use. An empty
    /// range heals it.
    pub fn spoil(&self, key: Key, bytes: Range<u64>) {
        self.spoil_for(key, bytes, u64::MAX);
    }

    /// The same, until so many reads have failed.
    pub fn spoil_for(&self, key: Key, bytes: Range<u64>, reads: u64) {
        self.state().bad.insert(key, Spoiled { bytes, reads });
    }

    /// Calls since `new`, troubled ones too.
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// The calls whose armed fault had an effect, for people.
    pub fn hits(&self) -> Vec<String> {
        self.state().hits.clone()
    }

    /// The backend underneath, which has no trouble.
    pub fn inner(&self) -> &B {
        &self.inner
    }

    /// The error of a disk when any of these bytes cannot be read.
    fn bad_sector(&self, key: &Key, asked: Range<u64>) -> Result<(), BackendError> {
        let mut state = self.state();
        let Some(bad) = state.bad.get_mut(key).filter(|bad| bad.reads > 0) else {
            return Ok(());
        };
        let from = asked.start.max(bad.bytes.start);
        if from >= asked.end.min(bad.bytes.end) {
            return Ok(());
        }
        bad.reads -= 1;
        Err(BackendError {
            operation: Operation::Get,
            key: key.path(),
            trouble: Trouble::Other,
            retry: false,
            source: Some(std::io::Error::other("input/output error")),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call that failed.
fn failure(operation: Operation, key: String, trouble: Trouble) -> BackendError {
    BackendError {
        operation,
        key,
        trouble,
        retry: trouble != Trouble::Full,
        source: Some(std::io::Error::other("a fault made for a test")),
    }
}

impl<B: Backend> Faulty<B> {
    /// Carries out everything that is late.
    pub fn land(&self) {
        let late = std::mem::take(&mut self.state().late);
        late.into_iter().for_each(|(_, work)| self.carry_out(work));
    }

    fn carry_out(&self, work: Work) {
        // Nobody waits for the answer any more.
        match work {
            Work::Put(key, bytes) => drop(self.inner.put(&key, &Sealed::from_stored(bytes))),
            Work::Delete(key) => drop(self.inner.delete(&key)),
        }
    }

    /// Counts a call, carries out what is due before it, and says what is to become of it.
    fn begin(&self) -> Option<Fault> {
        let (fault, due) = {
            let mut state = self.state();
            state.calls += 1;
            let n = state.calls;
            let late = std::mem::take(&mut state.late);
            let (due, late) = late.into_iter().partition::<Vec<_>, _>(|(at, _)| *at <= n);
            state.late = late;
            (state.armed.remove(&n), due)
        };
        due.into_iter().for_each(|(_, work)| self.carry_out(work));
        fault
    }

    fn hit(&self, operation: Operation, what: &dyn std::fmt::Display) {
        self.state().hits.push(format!("{operation} {what}"));
    }

    /// Keeps something for later.
    fn delay(&self, calls: u64, work: Work) {
        let mut state = self.state();
        let at = state.calls.saturating_add(calls).saturating_add(1);
        state.late.push((at, work));
    }

    /// One call. `late` is what a late one carries out, `shorten` what a short one loses.
    fn call<T>(
        &self,
        operation: Operation,
        key: impl Fn() -> String,
        work: impl FnOnce() -> Result<T, BackendError>,
        late: impl FnOnce() -> Option<Work>,
        shorten: impl FnOnce(T) -> T,
    ) -> Result<T, BackendError> {
        let Some(fault) = self.begin() else {
            return work();
        };
        if fault != Fault::Short {
            self.hit(operation, &key());
        }
        let trouble = match fault {
            Fault::LostAnswer => {
                // Whatever the answer was, it is the one that gets lost.
                let _lost = work();
                Trouble::Unknown
            }
            Fault::Short => return work().map(shorten),
            Fault::Late(calls) => match late() {
                Some(work) => {
                    self.delay(calls, work);
                    Trouble::Unknown
                }
                None => Trouble::Other,
            },
            Fault::Full if operation == Operation::Put => Trouble::Full,
            Fault::Full | Fault::Before => Trouble::Other,
        };
        Err(failure(operation, key(), trouble))
    }

    /// The first half of what a get would answer.
    fn halve(&self, key: &Key, mut bytes: Vec<u8>) -> Vec<u8> {
        if !bytes.is_empty() {
            self.hit(Operation::Get, key);
        }
        bytes.truncate(bytes.len() / 2);
        bytes
    }

    /// Passes on the first half of a listing, if it is one of those that may be short.
    fn halve_list(&self, area: Area, all: Vec<Listed>) -> Vec<Listed> {
        let may = matches!(
            area,
            Area::Packs | Area::Index | Area::Snapshots | Area::Trash | Area::Copies
        );
        if !may || all.is_empty() {
            return all;
        }
        self.hit(Operation::List, &area.folder());
        let half = all.len() / 2;
        all.into_iter().take(half).collect()
    }

    fn visible(&self, area: Area, listed: &Listed) -> bool {
        let state = self.state();
        state.hidden.is_empty()
            || Key::new(area, &listed.name).is_none_or(|key| !state.hidden.contains(&key))
    }
}

/// Nothing that a late call could carry out.
fn nothing() -> Option<Work> {
    None
}

impl<B: Backend> Backend for Faulty<B> {
    fn list(&self, area: Area, each: &mut dyn FnMut(Listed)) -> Result<(), BackendError> {
        let folder = || area.folder().to_owned();
        let mut seen = Vec::new();
        let work = || {
            let mut all = Vec::new();
            self.inner.list(area, &mut |listed| {
                if self.visible(area, &listed) {
                    all.push(listed);
                }
            })?;
            seen.clone_from(&all);
            Ok(all)
        };
        let short = |all| self.halve_list(area, all);
        let answer = self.call(Operation::List, folder, work, nothing, short);
        // Also those of an answer that got lost: what was listed before a failure.
        let shown = answer.as_ref().map_or(seen, Vec::clone);
        shown.into_iter().for_each(each);
        answer.map(drop)
    }

    fn get(&self, key: &Key) -> Result<Vec<u8>, BackendError> {
        let work = || {
            let bytes = self.inner.get(key)?;
            self.bad_sector(key, 0..bytes.len() as u64)?;
            Ok(bytes)
        };
        let short = |bytes| self.halve(key, bytes);
        self.call(Operation::Get, || key.path(), work, nothing, short)
    }

    fn get_range(&self, key: &Key, offset: u64, len: u64) -> Result<Vec<u8>, BackendError> {
        let work = || {
            let bytes = self.inner.get_range(key, offset, len)?;
            self.bad_sector(key, offset..offset.saturating_add(len))?;
            Ok(bytes)
        };
        let short = |bytes| self.halve(key, bytes);
        self.call(Operation::Get, || key.path(), work, nothing, short)
    }

    fn put(&self, key: &Key, body: &Sealed) -> Result<Put, BackendError> {
        let work = || self.inner.put(key, body);
        let late = || Some(Work::Put(key.clone(), body.to_vec().ok()?));
        let same = |put| put;
        self.call(Operation::Put, || key.path(), work, late, same)
    }

    fn delete(&self, key: &Key) -> Result<(), BackendError> {
        let work = || {
            self.inner.delete(key)?;
            // What is put there next lies elsewhere.
            self.state().bad.remove(key);
            Ok(())
        };
        let late = || Some(Work::Delete(key.clone()));
        self.call(Operation::Delete, || key.path(), work, late, |()| ())
    }

    fn location(&self) -> String {
        self.inner.location()
    }

    fn tidy(&self) -> Result<(), BackendError> {
        let path = || "tmp".to_owned();
        let work = || self.inner.tidy();
        self.call(Operation::Delete, path, work, nothing, |()| ())
    }

    fn reserve(&self, wish: Reserve) -> Result<bool, BackendError> {
        let path = || "reserve".to_owned();
        let work = || self.inner.reserve(wish);
        self.call(Operation::Put, path, work, nothing, |answer| answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Memory, conformance};

    fn note(name: &str) -> Key {
        Key::new(Area::Notes, name).unwrap()
    }

    fn names(backend: &impl Backend, area: Area) -> Vec<String> {
        let mut names = Vec::new();
        backend
            .list(area, &mut |listed| names.push(listed.name))
            .unwrap();
        names
    }

    #[test]
    fn conforms_while_nothing_is_armed() {
        conformance::check(&Faulty::new(Memory::new())).unwrap();
    }

    #[test]
    fn each_fault_fails_its_call_only() {
        let body = Sealed::from_stored(b"x".to_vec());
        for (fault, trouble, done) in [
            (Fault::Before, Trouble::Other, false),
            (Fault::LostAnswer, Trouble::Unknown, true),
            (Fault::Full, Trouble::Full, false),
            (Fault::Late(5), Trouble::Unknown, false),
        ] {
            let backend = Faulty::new(Memory::new());
            backend.fail_at(2, fault);
            assert_eq!(backend.put(&note("a"), &body).unwrap(), Put::Created);
            let error = backend.put(&note("b"), &body).unwrap_err();
            assert_eq!(error.trouble, trouble);
            assert_eq!(backend.inner().get(&note("b")).is_ok(), done);
            assert_eq!(backend.put(&note("c"), &body).unwrap(), Put::Created);
            assert_eq!((backend.calls(), backend.hits().len()), (3, 1));
        }
    }

    #[test]
    fn a_lost_listing_and_a_lost_delete_were_carried_out() {
        let backend = Faulty::new(Memory::new());
        let body = Sealed::from_stored(b"x".to_vec());
        backend.put(&note("a"), &body).unwrap();
        backend.fail_at(2, Fault::LostAnswer);
        backend.fail_at(3, Fault::LostAnswer);
        let mut seen = 0;
        backend.list(Area::Notes, &mut |_| seen += 1).unwrap_err();
        assert_eq!(seen, 1);
        backend.delete(&note("a")).unwrap_err();
        assert_eq!(backend.inner().object_count(), 0);
    }

    #[test]
    fn late_calls_land_after_others_or_when_told() {
        let backend = Faulty::new(Memory::new());
        let body = Sealed::from_stored(b"x".to_vec());
        backend.put(&note("a"), &body).unwrap();
        backend.fail_at(2, Fault::Late(2));
        backend.fail_at(3, Fault::Late(100));
        backend.put(&note("b"), &body).unwrap_err();
        backend.delete(&note("a")).unwrap_err();
        assert_eq!(names(&backend, Area::Notes), ["a"]);
        assert_eq!(names(&backend, Area::Notes), ["a", "b"]);
        backend.land();
        assert_eq!(names(&backend, Area::Notes), ["b"]);
    }

    #[test]
    fn short_answers_say_nothing_of_it() {
        let backend = Faulty::new(Memory::new());
        let body = Sealed::from_stored(b"1234".to_vec());
        for name in ["a", "b"] {
            backend
                .put(&Key::new(Area::Index, name).unwrap(), &body)
                .unwrap();
        }
        let next = || backend.fail_at(backend.calls() + 1, Fault::Short);
        next();
        assert_eq!(names(&backend, Area::Index), ["a"]);
        let key = Key::new(Area::Index, "b").unwrap();
        next();
        assert_eq!(backend.get(&key).unwrap(), b"12");
        next();
        assert_eq!(backend.get_range(&key, 2, 2).unwrap(), b"3");
        assert_eq!(backend.hits().len(), 3);
        next();
        assert!(names(&backend, Area::Gc).is_empty());
        next();
        backend.put(&note("c"), &body).unwrap();
        assert_eq!(backend.hits().len(), 3, "these are left alone");
    }

    #[test]
    fn what_is_hidden_is_not_listed_and_can_be_got() {
        let backend = Faulty::new(Memory::new());
        let body = Sealed::from_stored(b"x".to_vec());
        for name in ["a", "b"] {
            backend.put(&note(name), &body).unwrap();
        }
        backend.hide(note("a"));
        assert_eq!(names(&backend, Area::Notes), ["b"]);
        assert_eq!(backend.get(&note("a")).unwrap(), b"x");
        backend.show_all();
        assert_eq!(names(&backend, Area::Notes), ["a", "b"]);
    }

    #[test]
    fn spoiled_bytes_cannot_be_read_and_the_others_can() {
        let backend = Faulty::new(Memory::new());
        let body = Sealed::from_stored(b"12345678".to_vec());
        backend.put(&note("a"), &body).unwrap();
        backend.put(&note("b"), &body).unwrap();
        backend.spoil(note("a"), 2..4);
        assert!(backend.get(&note("a")).unwrap_err().is_unreadable());
        for (offset, len, bad) in [(0, 2, false), (0, 3, true), (3, 1, true), (4, 4, false)] {
            let read = backend.get_range(&note("a"), offset, len);
            assert_eq!(
                read.is_err_and(|e| e.is_unreadable()),
                bad,
                "{offset} {len}"
            );
        }
        backend.get(&note("b")).unwrap();
        backend.spoil(note("a"), 0..0);
        backend.get(&note("a")).unwrap();
    }

    /// What the fault tests of other modules look like.
    #[test]
    fn the_suite_survives_a_fault_at_any_call_without_a_panic() {
        for fault in [Fault::Before, Fault::LostAnswer, Fault::Full] {
            for n in (1..200).step_by(7) {
                let backend = Faulty::new(Memory::new());
                backend.fail_at(n, fault);
                conformance::check(&backend).expect_err("a failed call is noticed");
                assert!(backend.calls() >= n);
            }
        }
    }
}

//! Fails chosen calls of another backend: for tests that fail the n-th call, n = 1, 2, 3 … until
//! all goes well, and then look at what is stored.
//!
//! It tears no object (a backend shows one whole or not at all) and delays nothing. `location` is
//! no call; `tidy` is one.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Area, Backend, BackendError, Key, Listed, Operation, Put, Trouble};
use crate::sealed::Sealed;

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Before anything is done: `Trouble::Other`, and asking again may help.
    Before,
    /// It is carried out, but the answer is lost: `Trouble::Unknown`. A listing shows everything
    /// and then fails.
    LostAnswer,
    /// No space left, nothing done: `Trouble::Full`. For calls other than put the same as `Before`.
    Full,
}

#[derive(Debug, Default)]
struct State {
    calls: u64,
    armed: BTreeMap<u64, Fault>,
}

/// A backend whose chosen calls fail.
#[derive(Debug)]
pub struct Faulty<B> {
    inner: B,
    state: Mutex<State>,
}

impl<B> Faulty<B> {
    /// Fails nothing yet.
    pub fn new(inner: B) -> Faulty<B> {
        Faulty {
            inner,
            state: Mutex::default(),
        }
    }

    /// Fails the `n`-th call since `new`, counted from 1, once. Several may be armed; one that was
    /// passed already never happens. The next call is `calls() + 1`.
    pub fn fail_at(&self, n: u64, fault: Fault) {
        self.state().armed.insert(n, fault);
    }

    /// Calls since `new`, failed ones too.
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// The backend underneath, which fails nothing.
    pub fn inner(&self) -> &B {
        &self.inner
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn call<T>(
        &self,
        operation: Operation,
        key: impl FnOnce() -> String,
        work: impl FnOnce() -> Result<T, BackendError>,
    ) -> Result<T, BackendError> {
        let fault = {
            let mut state = self.state();
            state.calls += 1;
            let n = state.calls;
            state.armed.remove(&n)
        };
        let Some(fault) = fault else { return work() };
        let trouble = match fault {
            Fault::LostAnswer => {
                // Whatever the answer was, it is the one that gets lost.
                let _lost = work();
                Trouble::Unknown
            }
            Fault::Full if operation == Operation::Put => Trouble::Full,
            Fault::Full | Fault::Before => Trouble::Other,
        };
        Err(BackendError {
            operation,
            key: key(),
            trouble,
            retry: trouble != Trouble::Full,
            source: Some(std::io::Error::other("a fault made for a test")),
        })
    }
}

impl<B: Backend> Backend for Faulty<B> {
    fn list(&self, area: Area, each: &mut dyn FnMut(Listed)) -> Result<(), BackendError> {
        let folder = || area.folder().to_owned();
        self.call(Operation::List, folder, || self.inner.list(area, each))
    }

    fn get(&self, key: &Key) -> Result<Vec<u8>, BackendError> {
        self.call(Operation::Get, || key.path(), || self.inner.get(key))
    }

    fn get_range(&self, key: &Key, offset: u64, len: u64) -> Result<Vec<u8>, BackendError> {
        let work = || self.inner.get_range(key, offset, len);
        self.call(Operation::Get, || key.path(), work)
    }

    fn put(&self, key: &Key, body: &Sealed) -> Result<Put, BackendError> {
        self.call(Operation::Put, || key.path(), || self.inner.put(key, body))
    }

    fn delete(&self, key: &Key) -> Result<(), BackendError> {
        self.call(Operation::Delete, || key.path(), || self.inner.delete(key))
    }

    fn location(&self) -> String {
        self.inner.location()
    }

    fn tidy(&self) -> Result<(), BackendError> {
        self.call(Operation::Delete, || "tmp".to_owned(), || self.inner.tidy())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Memory, conformance};

    fn note(name: &str) -> Key {
        Key::new(Area::Notes, name).unwrap()
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
        ] {
            let backend = Faulty::new(Memory::new());
            backend.fail_at(2, fault);
            assert_eq!(backend.put(&note("a"), &body).unwrap(), Put::Created);
            let error = backend.put(&note("b"), &body).unwrap_err();
            assert_eq!(error.trouble, trouble);
            assert_eq!(backend.inner().get(&note("b")).is_ok(), done);
            assert_eq!(backend.put(&note("c"), &body).unwrap(), Put::Created);
            assert_eq!(backend.calls(), 3);
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

//! A repository in memory: for tests, and for an explorer that forks it hundreds of thousands of
//! times.
//!
//! Forks share everything until one of them writes, and bodies even then. Nothing is durable, and
//! nothing limits the size.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Area, Backend, BackendError, Key, Listed, Operation, Put, Trouble};
use crate::sealed::Sealed;

type Objects = BTreeMap<Arc<Key>, Arc<[u8]>>;

/// A backend in memory. A clone is another handle to the same objects; [`Memory::fork`] copies.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// The inner `Arc` is shared between forks and copied on the first write after one.
    objects: Arc<Mutex<Arc<Objects>>>,
}

impl Memory {
    /// An empty one.
    pub fn new() -> Memory {
        Memory::default()
    }

    /// An independent copy of what is stored now. Constant time; the first write to either side
    /// afterwards copies the names' references, never the bodies.
    pub fn fork(&self) -> Memory {
        Memory {
            objects: Arc::new(Mutex::new(self.now())),
        }
    }

    /// How many objects are stored, over all areas.
    pub fn object_count(&self) -> usize {
        self.lock().len()
    }

    /// The bytes of all objects together.
    pub fn total_bytes(&self) -> u64 {
        self.lock().values().map(|body| body.len() as u64).sum()
    }

    /// For tests of damage: stores these bytes whether or not the name was taken, which no
    /// backend otherwise does.
    pub fn replace(&self, key: &Key, bytes: impl Into<Arc<[u8]>>) {
        Arc::make_mut(&mut self.lock()).insert(Arc::new(key.clone()), bytes.into());
    }

    /// For tests of damage: removes an object and says whether there was one.
    pub fn remove(&self, key: &Key) -> bool {
        let mut objects = self.lock();
        // A fork's map is copied only when there is something to remove.
        objects.contains_key(key) && Arc::make_mut(&mut objects).remove(key).is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Objects>> {
        // Whoever panicked with the lock held left a whole map: a change is one call.
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Arc<Objects> {
        Arc::clone(&self.lock())
    }

    fn body(&self, key: &Key) -> Result<Arc<[u8]>, BackendError> {
        let found = self.lock().get(key).map(Arc::clone);
        found.ok_or_else(|| failure(key, Trouble::Absent, None))
    }
}

impl Backend for Memory {
    fn list(&self, area: Area, each: &mut dyn FnMut(Listed)) -> Result<(), BackendError> {
        // From a view of this moment, so that `each` may call this backend.
        let view = self.now();
        let first = Key {
            area,
            name: String::new(),
        };
        for (key, body) in view.range(first..).take_while(|(key, _)| key.area == area) {
            each(Listed {
                name: key.name.clone(),
                size: body.len() as u64,
            });
        }
        Ok(())
    }

    fn get(&self, key: &Key) -> Result<Vec<u8>, BackendError> {
        Ok(self.body(key)?.to_vec())
    }

    fn get_range(&self, key: &Key, offset: u64, len: u64) -> Result<Vec<u8>, BackendError> {
        let body = self.body(key)?;
        let range = || {
            let start = usize::try_from(offset).ok()?;
            let end = start.checked_add(usize::try_from(len).ok()?)?;
            body.get(start..end)
        };
        let bytes = range().ok_or_else(|| failure(key, Trouble::OutOfRange, None))?;
        Ok(bytes.to_vec())
    }

    fn put(&self, key: &Key, body: &Sealed) -> Result<Put, BackendError> {
        if self.lock().contains_key(key) {
            return Ok(Put::Exists);
        }
        let bytes = body.to_vec().map_err(|source| BackendError {
            operation: Operation::Put,
            ..failure(key, Trouble::Other, Some(source))
        })?;
        let mut objects = self.lock();
        if objects.contains_key(key) {
            return Ok(Put::Exists);
        }
        Arc::make_mut(&mut objects).insert(Arc::new(key.clone()), bytes.into());
        Ok(Put::Created)
    }

    fn delete(&self, key: &Key) -> Result<(), BackendError> {
        self.remove(key);
        Ok(())
    }

    fn location(&self) -> String {
        "memory".to_owned()
    }
}

/// A failed get.
fn failure(key: &Key, trouble: Trouble, source: Option<std::io::Error>) -> BackendError {
    BackendError {
        operation: Operation::Get,
        key: key.path(),
        trouble,
        retry: false,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::conformance;

    fn note(name: &str) -> Key {
        Key::new(Area::Notes, name).unwrap()
    }

    fn put(memory: &Memory, name: &str, bytes: &[u8]) -> Put {
        let body = Sealed::from_stored(bytes.to_vec());
        memory.put(&note(name), &body).unwrap()
    }

    #[test]
    fn conforms() {
        let memory = Memory::new();
        conformance::check(&memory).unwrap();
        assert_eq!(memory.object_count(), 0, "it cleaned up");
    }

    #[test]
    fn a_fork_is_independent_and_a_clone_is_not() {
        let one = Memory::new();
        put(&one, "a", b"first");
        let (clone, fork) = (one.clone(), one.fork());
        put(&one, "b", b"second");
        put(&fork, "c", b"3");
        assert!(fork.remove(&note("a")));
        assert!(!fork.remove(&note("a")));
        assert_eq!((clone.object_count(), clone.total_bytes()), (2, 11));
        assert_eq!((fork.object_count(), fork.total_bytes()), (1, 1));
        assert_eq!(one.get(&note("a")).unwrap(), b"first");
    }

    #[test]
    fn damage_replaces_and_removes() {
        let memory = Memory::new();
        put(&memory, "a", b"whole");
        memory.replace(&note("a"), *b"who");
        assert_eq!(memory.get(&note("a")).unwrap(), b"who");
        assert!(memory.remove(&note("a")));
        assert!(memory.get(&note("a")).unwrap_err().is_absent());
    }

    #[test]
    fn the_configuration_is_listed_under_its_empty_name() {
        let memory = Memory::new();
        let body = Sealed::from_stored(b"config".to_vec());
        memory.put(&Key::config(), &body).unwrap();
        let mut names = Vec::new();
        memory
            .list(Area::Config, &mut |listed| {
                names.push((listed.name, listed.size))
            })
            .unwrap();
        assert_eq!(names, [(String::new(), 6)]);
    }

    #[test]
    fn a_listing_may_call_the_backend() {
        let memory = Memory::new();
        put(&memory, "a", b"1");
        put(&memory, "b", b"2");
        memory
            .list(Area::Notes, &mut |listed| {
                memory.delete(&note(&listed.name)).unwrap()
            })
            .unwrap();
        assert_eq!(memory.object_count(), 0);
    }
}

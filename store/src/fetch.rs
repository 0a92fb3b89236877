//! Getting small objects whole.
//!
//! A disk with bad sectors fails to give single objects back. Such an object is as good as damaged;
//! a storage that fails as a whole is not. The line between them is drawn by asking for another
//! object; that one may come from the system's memory, so whoever gives something up looks at how
//! much cannot be read, too.

use crate::backend::{Backend, BackendError, Key};
use crate::error::AccessError;
use crate::repository::config_copy;

/// Whether the storage still gives answers: what it then cannot read is bad where it lies.
pub(crate) fn answers(backend: &dyn Backend) -> bool {
    answers_beside(backend, &config_copy())
}

/// The same, when `key` is what it did not give back.
fn answers_beside(backend: &dyn Backend, key: &Key) -> bool {
    let other = match *key == Key::config() {
        true => config_copy(),
        false => Key::config(),
    };
    backend.get(&other).map_or_else(|e| e.is_absent(), |_| true)
}

/// Gets an object, and once more when it cannot be read.
fn twice(backend: &dyn Backend, key: &Key) -> Result<Vec<u8>, BackendError> {
    match backend.get(key) {
        Err(e) if e.is_unreadable() => backend.get(key),
        first => first,
    }
}

/// The stored bytes of an object; `None` when it is not there.
///
/// # Errors
/// [`AccessError::CannotRead`] when the storage has failed twice to give back this object, and
/// answers otherwise; any other error of the storage.
pub(crate) fn stored(backend: &dyn Backend, key: &Key) -> Result<Option<Vec<u8>>, AccessError> {
    match twice(backend, key) {
        Ok(stored) => Ok(Some(stored)),
        Err(e) if e.is_absent() => Ok(None),
        Err(e) if e.is_unreadable() && answers_beside(backend, key) => {
            let said = e.source.as_ref().map(ToString::to_string);
            Err(AccessError::CannotRead {
                object: key.to_string(),
                why: said.unwrap_or_else(|| e.to_string()),
            })
        }
        Err(e) => Err(e.into()),
    }
}

/// The same for those who judge bytes: what cannot be read has none.
///
/// # Errors
/// When the storage fails as a whole.
pub(crate) fn bytes(backend: &dyn Backend, key: &Key) -> Result<Option<Vec<u8>>, BackendError> {
    match twice(backend, key) {
        Ok(stored) => Ok(Some(stored)),
        Err(e) if e.is_absent() => Ok(None),
        Err(e) if e.is_unreadable() && answers_beside(backend, key) => Ok(Some(Vec::new())),
        Err(e) => Err(e),
    }
}

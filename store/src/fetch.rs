//! Getting small objects whole.
//!
//! A disk with bad sectors fails to give single objects back. Such an object is as good as damaged;
//! a storage that fails as a whole is not.

use crate::backend::{Backend, Key};
use crate::error::AccessError;

/// Whether the storage still gives answers: what it then cannot read is bad where it lies.
pub(crate) fn answers(backend: &dyn Backend) -> bool {
    backend
        .get(&Key::config())
        .map_or_else(|e| e.is_absent(), |_| true)
}

/// The stored bytes of an object; `None` when it is not there.
///
/// # Errors
/// [`AccessError::Damaged`] when the storage has failed twice to give back this object, and answers
/// otherwise; any other error of the storage.
pub(crate) fn stored(backend: &dyn Backend, key: &Key) -> Result<Option<Vec<u8>>, AccessError> {
    let again = match backend.get(key) {
        Err(e) if e.is_unreadable() => backend.get(key),
        first => first,
    };
    match again {
        Ok(stored) => Ok(Some(stored)),
        Err(e) if e.is_absent() => Ok(None),
        Err(e) if e.is_unreadable() && answers(backend) => {
            let said = e
                .source
                .as_ref()
                .map_or_else(|| e.to_string(), ToString::to_string);
            Err(AccessError::damaged(
                key,
                format_args!("it cannot be read: {said}"),
            ))
        }
        Err(e) => Err(e.into()),
    }
}

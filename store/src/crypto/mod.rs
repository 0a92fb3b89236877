//! Secrets and seals (docs/format.md, "Keys"): derivation, sealing, random names.
//!
//! Does not know what it seals, and does no I/O but asking the system for random bytes.

mod keys;
mod paper;
mod seal;
mod slots;

pub use keys::{DataKey, Encryption, Keys, RootSecret};
pub(crate) use keys::{config_key, key_domain};
pub(crate) use seal::{Context, Kind, SealKey};
pub(crate) use slots::{KeyEncryptionKey, PasswordCost, derive_password_key};
pub use slots::{KeyFile, KeyFileError};

use crate::id::Uuid;

/// Fills a buffer with random bytes from the operating system.
///
/// # Panics
/// When the system has none to give: nothing safe can be done then.
#[expect(
    clippy::expect_used,
    reason = "without random bytes every name and nonce would be unsafe"
)]
pub(crate) fn fill_random(bytes: &mut [u8]) {
    #[cfg(test)]
    if seeded::fill(bytes) {
        return;
    }
    getrandom::fill(bytes).expect("the operating system gives random bytes");
}

/// Random bytes in an array.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0u8; N];
    fill_random(&mut bytes);
    bytes
}

/// A fresh name that was never used and never will be.
pub(crate) fn fresh_uuid() -> Uuid {
    Uuid(random())
}

/// Random bytes that a test can repeat: a thread may be given a seed.
#[cfg(test)]
pub(crate) mod seeded {
    use std::cell::RefCell;

    thread_local! {
        static STREAM: RefCell<Option<blake3::OutputReader>> = const { RefCell::new(None) };
    }

    /// Everything random in this thread follows from `seed` from now on.
    pub(crate) fn seed(seed: &[u8]) {
        let stream = blake3::Hasher::new().update(seed).finalize_xof();
        STREAM.with(|s| *s.borrow_mut() = Some(stream));
    }

    pub(super) fn fill(bytes: &mut [u8]) -> bool {
        STREAM.with(|s| {
            s.borrow_mut()
                .as_mut()
                .map(|stream| stream.fill(bytes))
                .is_some()
        })
    }
}

//! The repository: its format, and all that happens to it.

pub mod backend;
pub mod clock;
pub mod crypto;
pub mod entry;
pub mod format;
pub mod id;
pub mod index;
pub mod monitor;
mod sealed;
pub mod source;
pub mod target;

pub use sealed::Sealed;

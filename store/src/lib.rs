//! The repository: its format, and all that happens to it.

pub mod backend;
pub mod browse;
pub mod check;
pub mod clock;
mod codec;
mod copies;
pub mod crypto;
pub mod diff;
pub mod entry;
pub mod environment;
pub mod error;
#[cfg(test)]
mod explore;
#[cfg(test)]
mod faults;
mod fetch;
pub mod find;
pub mod forget;
pub mod format;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod gc;
#[cfg(test)]
mod holes;
pub mod id;
pub mod index;
pub mod member;
pub mod monitor;
pub mod notes;
mod pack;
mod parallel;
mod reader;
mod record;
pub mod repair;
pub mod repository;
pub mod restore;
pub mod retention;
mod sealed;
mod session;
mod similar;
pub mod snapshot;
pub mod snapshots;
pub mod source;
pub mod stages;
pub mod stats;
pub mod target;
#[cfg(test)]
mod testing;
mod tree;
mod view;
mod writer;

pub use sealed::Sealed;

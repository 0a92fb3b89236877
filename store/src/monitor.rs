//! What the core tells while it works: typed events and counters, printed by nobody here.

use std::sync::atomic::{AtomicU64, Ordering};

/// Takes events; called from several threads.
pub trait Monitor: Sync {
    /// Something happened.
    fn event(&self, event: Event<'_>);

    /// The counters that the running operation adds to.
    fn counters(&self) -> &Counters;
}

/// One thing that happened.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A phase of the operation begins: "reading the index".
    Phase(&'a str),
    /// So many bytes and entries are expected in all, where that is known.
    Expect {
        /// Plain bytes.
        bytes: u64,
        /// Entries.
        entries: u64,
    },
    /// An entry was dealt with.
    Entry {
        /// Its path.
        path: &'a [u8],
        /// What was done.
        action: Action,
    },
    /// Something went wrong with one thing; the rest goes on.
    Problem {
        /// What.
        path: &'a [u8],
        /// What happened.
        message: &'a str,
    },
    /// Something worth a line that is no problem.
    Note(&'a str),
}

/// What was done with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Read and stored.
    Stored,
    /// Taken over from the parent unread.
    Unchanged,
    /// Written to the target.
    Restored,
    /// Found in the target as it should be.
    Kept,
    /// Found in the target, and to be left as it is.
    Skipped,
    /// Removed from the target.
    Removed,
    /// Left out of the snapshot, as was asked.
    Excluded,
}

/// Counters of a running operation.
#[derive(Debug, Default)]
pub struct Counters {
    /// Entries dealt with.
    pub entries: AtomicU64,
    /// Plain bytes dealt with.
    pub bytes: AtomicU64,
    /// Bytes put into the repository, or read from it by a restore or check.
    pub stored: AtomicU64,
    /// Plain bytes that a restore or check has decoded, bases of deltas among them.
    pub decoded: AtomicU64,
    /// Files opened for reading at the source.
    pub opened: AtomicU64,
    /// What the source left out; a folder counts once.
    pub excluded: AtomicU64,
    /// Bytes read from the source, holes left out.
    pub read: AtomicU64,
}

impl Counters {
    /// Adds to one of the counters.
    pub fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }
}

/// Listens to nothing.
#[derive(Debug, Default)]
pub struct Silent {
    counters: Counters,
}

impl Monitor for Silent {
    fn event(&self, _: Event<'_>) {}

    fn counters(&self) -> &Counters {
        &self.counters
    }
}

//! Fixes of the protocol that a test may switch off, so that the explorer can be seen to find what
//! they close. Exists in test builds only.

use std::cell::Cell;

/// A hole of gc-protocol.md's table, opened again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hole {
    /// Rows of absent packs count (closed by: writer 3 lists packs).
    StaleIndex,
    /// Giving up leaves the name free (closed by: writer 7).
    FreeName,
    /// Bases are not asked for (closed by: `usable`).
    BaseChain,
    /// A sweep does not wait for open writers (closed by: steps 4 and 5).
    NoWaiting,
    /// A sweep checks nothing of what other snapshots need (closed by: sweep 6–10).
    NoVerify,
    /// A pack whose put was not answered is put again under its name.
    SameName,
    /// After a checkpoint nothing goes through the new view (closed by: "Checkpoint").
    BlindCheckpoint,
}

thread_local! {
    static OPEN: Cell<Option<Hole>> = const { Cell::new(None) };
}

/// Opens a hole for this thread, or closes all.
pub(crate) fn open(hole: Option<Hole>) {
    OPEN.with(|o| o.set(hole));
}

/// Whether the hole is open in this thread.
pub(crate) fn is_open(hole: Hole) -> bool {
    OPEN.with(|o| o.get() == Some(hole))
}

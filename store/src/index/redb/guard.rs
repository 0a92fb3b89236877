//! Turns panics into errors: redb trusts its file and may panic on one that was altered.
//!
//! The message of a caught panic goes into the error instead of to stderr. A hook, installed
//! once and kept, asks a flag of the panicking thread whether to be silent and else calls the
//! hook that was there before; other threads' panics are reported as ever, and no hook is
//! swapped back and forth, which would race. Who installs a hook later replaces or wraps ours:
//! then messages may be printed, nothing else changes.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

static HOOK: Once = Once::new();

fn install_hook() {
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !QUIET.try_with(Cell::get).unwrap_or(false) {
                before(info);
            }
        }));
    });
}

/// Runs `call`; a panic becomes its message.
pub(super) fn catch<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    install_hook();
    let outer = QUIET.replace(true);
    let result = catch_unwind(AssertUnwindSafe(call));
    QUIET.set(outer);
    result.map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        let text = format!("panic: {}", text.unwrap_or("without a message"));
        // The payload may be anything; its drop must not take us down.
        std::mem::forget(panic);
        text
    })
}

//! Trouble, found by trying all of it: every call of every operation fails in every way, listings
//! lack each name in turn, and small repositories are damaged at random.
//!
//! `scene` makes histories, runs operations and judges what is stored afterwards; what other
//! processes do at the same moment is the matter of `explore`.

mod damage;
#[cfg(target_os = "linux")]
mod disk;
mod nth;
mod scene;
mod sector;
mod short;
mod trouble;

/// Whether the sizes of the issue are asked for, not those of CI.
fn is_full() -> bool {
    std::env::var("HUCHA_TESTS").is_ok_and(|v| v == "full")
}

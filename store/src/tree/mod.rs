//! Trees: building pages from a sequence of entries, and walking them (docs/format.md, "Tree").
//!
//! Where pages are stored and read is handed in; nothing here knows of files or backends.

mod build;
mod content;
mod cursor;
mod read;

pub(crate) use build::{PageStore, Totals, TreeBuilder};
pub(crate) use content::{ContentBuilder, inline};
pub(crate) use cursor::{Closed, Cursor, Head, Opened};
pub(crate) use read::{Item, Tree, Walk};

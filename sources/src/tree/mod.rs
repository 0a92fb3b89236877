//! File trees: what is on disk as entries, and entries as files on disk. Follows no link that
//! nobody typed, and keeps no list of the files it has seen.

#[cfg(unix)]
mod attributes;
#[cfg(unix)]
mod contents;
#[cfg(unix)]
mod names;
#[cfg(unix)]
mod old;
#[cfg(unix)]
mod owners;
#[cfg(not(unix))]
mod portable;
#[cfg(unix)]
mod put;
#[cfg(unix)]
mod target;
#[cfg(unix)]
mod temporary;
#[cfg(unix)]
mod typed;
#[cfg(unix)]
mod walk;

#[cfg(test)]
#[cfg(unix)]
mod tests;

use std::io;
use std::path::PathBuf;

#[cfg(not(unix))]
pub use portable::{FileTree, FolderTarget};
#[cfg(unix)]
pub use target::FolderTarget;
#[cfg(unix)]
pub use walk::FileTree;

use crate::pattern::PatternError;

/// How a file tree is read.
#[derive(Debug, Clone, Default)]
pub struct TreeOptions {
    /// Patterns of what is left out, matched against absolute paths; see [`crate::pattern`]. An
    /// excluded folder is not entered.
    pub exclude: Vec<String>,
}

/// How a target is written.
#[derive(Debug, Clone, Default)]
pub struct TargetOptions {
    /// Whether owners are restored.
    pub ownership: Ownership,
    /// Which numbers owners get.
    pub owners: Owners,
}

/// Which numbers the owners of what is restored get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Owners {
    /// Those that their names have on this machine; the snapshot's where there is no such name.
    #[default]
    ByName,
    /// The snapshot's.
    ByNumber,
}

/// Whether owners are restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ownership {
    /// When we are root.
    #[default]
    Auto,
    /// Always tried.
    Restore,
    /// Never tried.
    Skip,
}

/// A typed path that is not there.
#[derive(Debug)]
pub struct Missing {
    /// As typed.
    pub path: PathBuf,
    /// What the system said.
    pub error: io::Error,
}

/// Why a file tree cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// No path was typed.
    #[error("no path given")]
    NothingTyped,
    /// None of the typed paths is there.
    #[error("none of the given paths can be found: {}", list(.0))]
    AllMissing(Vec<Missing>),
    /// Two different places would stand under one name.
    #[error("{first:?} and {second:?} would be stored under the same name")]
    Clash {
        /// The one typed first.
        first: PathBuf,
        /// The other one.
        second: PathBuf,
    },
    /// A pattern of what is left out.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// The folder that typed paths start from cannot be resolved.
    #[error("the working folder cannot be resolved")]
    Base(#[source] io::Error),
}

fn list(missing: &[Missing]) -> String {
    let each = missing
        .iter()
        .map(|one| format!("{:?} ({})", one.path, one.error));
    each.collect::<Vec<_>>().join(", ")
}

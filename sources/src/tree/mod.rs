//! File trees: what is on disk as entries, and entries as files on disk. Follows no link that
//! nobody typed, and keeps no list of the files it has seen.

#[cfg(unix)]
mod ahead;
#[cfg(unix)]
mod attributes;
#[cfg(unix)]
mod contents;
#[cfg(unix)]
mod excludes;
#[cfg(unix)]
mod hand;
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

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

#[cfg(not(unix))]
pub use portable::{FileTree, FolderTarget};
#[cfg(unix)]
pub use target::FolderTarget;
#[cfg(unix)]
pub use walk::FileTree;

use hucha_store::snapshot::Compare;

use crate::pattern::Matcher;

/// How a file tree is read.
#[derive(Debug, Clone, Default)]
pub struct TreeOptions {
    /// What is left out, matched against absolute paths. An excluded folder is not entered.
    pub exclude: Matcher,
    /// Files of more bytes are left out.
    pub larger_than: Option<u64>,
    /// Folders on which another file system than that of the typed path is mounted stay empty.
    pub one_file_system: bool,
    /// Folders that hold one of these keep it alone.
    pub if_present: Vec<Presence>,
    /// Names of files whose rules, those of gitignore(5), leave things out from their folder on.
    /// Those of deeper folders count first, within one folder the later named.
    pub ignore_files: Vec<OsString>,
    /// What tells that a file changed while it was read, beside its size and mtime.
    pub compare: Compare,
    /// Folders are listed by a thread that is some hundred files ahead of what is read. Otherwise
    /// all happens in the calling thread. Only where there is Unix.
    pub ahead: bool,
}

/// A file whose presence leaves out all else in its folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    /// Its name.
    pub name: OsString,
    /// How it begins; one that begins otherwise, or is no regular file, means nothing. When this is
    /// empty, anything of that name will do.
    pub header: Vec<u8>,
}

impl Presence {
    /// What marks folders of things that can be made again: the Cache Directory Tagging
    /// Specification, <https://bford.info/cachedir/>.
    pub fn cachedir() -> Presence {
        Presence {
            name: "CACHEDIR.TAG".into(),
            header: b"Signature: 8a477f597d28d172789f06886806bc55".to_vec(),
        }
    }
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
    /// A name was asked for that no file in a folder can have.
    #[error("{0:?} is not the name of a file")]
    NoFileName(OsString),
    /// An option that there is for Unix only.
    #[error("{0} is not possible on this system")]
    NotHere(&'static str),
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

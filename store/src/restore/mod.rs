//! Restoring: a snapshot, or a part of it, into a target.
//!
//! `walk` goes through the tree and decides what becomes of each entry; `window` compares files
//! with what stands in the target, fetches the chunks that differ and writes; `file` is one file
//! on its way; `surplus` finds what the snapshot does not hold; `verify` reads everything again.
//! A dry run takes the same way and asks the target, but changes nothing. `stream` is another way:
//! everything in order into one output.

mod file;
mod jobs;
mod stream;
mod surplus;
#[cfg(test)]
mod tests;
mod verify;
mod walk;
mod window;

pub(crate) use stream::pour;
pub use stream::{StreamError, StreamOptions, StreamReport, stream};

use std::sync::atomic::Ordering;

use crate::entry::Kind;
use crate::error::AccessError;
use crate::format::objects::Manifest;
use crate::monitor::{Event, Monitor};
use crate::reader::{Reader, says_damage};
use crate::repository::Repository;
use crate::source::Problem;
use crate::target::{Kept, Target, TargetError};
use crate::tree::Tree;

/// Whether an entry is restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Select {
    /// It is.
    Take,
    /// It is not, nor anything below it.
    Skip,
    /// It is not, unless something below it is.
    Descend,
}

/// What becomes of a file, link or device that stands in the target already. Folders always get
/// the snapshot's metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overwrite {
    /// It is compared, and what differs is replaced.
    #[default]
    Always,
    /// A file of the same size and time is taken for right unread; all else as with `Always`.
    Changed,
    /// It stays as it is unless the snapshot's was changed later.
    Newer,
    /// It stays as it is.
    Never,
}

/// What to restore.
pub struct RestoreOptions<'a> {
    /// A folder whose contents go into the target, or a file that goes there under its own name;
    /// `""` is everything.
    pub path: Vec<u8>,
    /// Asked for every entry, with its path in the snapshot and whether it is a folder; and, with
    /// `delete`, for everything in the target that the snapshot does not hold.
    pub select: &'a dyn Fn(&[u8], bool) -> Select,
    /// What becomes of what is there.
    pub overwrite: Overwrite,
    /// Remove what the snapshot does not hold and `select` takes, in folders that are restored or
    /// looked through.
    pub delete: bool,
    /// Leave out runs of zeros: they become holes.
    pub sparse: bool,
    /// Change nothing.
    pub dry_run: bool,
    /// Read every file again afterwards and compare.
    pub verify: bool,
}

impl Default for RestoreOptions<'_> {
    fn default() -> Self {
        RestoreOptions {
            path: Vec::new(),
            select: &|_, _| Select::Take,
            overwrite: Overwrite::default(),
            delete: false,
            sparse: false,
            dry_run: false,
            verify: false,
        }
    }
}

/// What a restore did, or a dry run would do.
#[derive(Debug, Default)]
pub struct RestoreReport {
    /// Entries that were dealt with.
    pub entries: u64,
    /// Files among them.
    pub files: u64,
    /// Plain bytes of these files.
    pub bytes: u64,
    /// Files that were written.
    pub written: u64,
    /// Files that held the right bytes already.
    pub kept: u64,
    /// Files, links and devices that [`Overwrite`] spared.
    pub skipped: u64,
    /// Plain bytes of chunks that the target did not hold: they came out of the repository.
    pub fetched: u64,
    /// Plain bytes of all that was decoded for it, bases of deltas and pages among them.
    pub decoded: u64,
    /// Plain bytes of chunks that the target held at their place.
    pub reused: u64,
    /// Files, folders and all else that was removed.
    pub removed: u64,
    /// What was removed, without what lay below a folder that was.
    pub surplus: Vec<Vec<u8>>,
    /// What could not be written.
    pub problems: Vec<Problem>,
    /// What the repository cannot give back whole: files, which were not written, folders without
    /// some of their metadata, and pages of the tree, under the last path before them.
    pub damaged: Vec<Problem>,
    /// Metadata that the target refused, with the path.
    pub refused: Vec<String>,
    /// Files that were read again and are right.
    pub verified: u64,
    /// Files that were restored, read again, and are not what the snapshot holds.
    pub differing: Vec<Problem>,
}

/// Why nothing, or not all, was restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The snapshot holds no such path.
    #[error("the snapshot holds no \"{0}\"")]
    NotFound(String),
    /// The repository failed as a whole.
    #[error(transparent)]
    Access(#[from] AccessError),
}

/// Restores.
///
/// # Errors
/// When index or root page cannot be read. Whatever else is damaged or cannot be written stands in
/// the report.
pub fn restore(
    repository: &Repository,
    manifest: &Manifest,
    target: &dyn Target,
    options: &RestoreOptions<'_>,
    monitor: &dyn Monitor,
) -> Result<RestoreReport, RestoreError> {
    monitor.event(Event::Phase("reading the index"));
    repository.update_index()?;
    let decoded = || monitor.counters().decoded.load(Ordering::Relaxed);
    let before = decoded();
    let reader = Reader::new(repository)
        .counting(monitor.counters())
        .proving_the_last();
    let tree = Tree::new(&reader, manifest.root);
    let verify = options.verify && !options.dry_run;
    // What is verified is dealt with twice.
    expect(&tree, &options.path, 1 + u64::from(verify), monitor);
    monitor.event(Event::Phase("restoring"));
    let (mut report, spared) = walk::run(&tree, target, options, monitor)?;
    if verify {
        monitor.event(Event::Phase("verifying"));
        verify::run(&tree, target, options, monitor, &spared, &mut report)?;
    }
    report.decoded = decoded() - before;
    Ok(report)
}

/// Tells how much there is to do. A page that cannot be read is met again later.
fn expect(tree: &Tree<'_, '_>, path: &[u8], times: u64, monitor: &dyn Monitor) {
    if let Ok((entries, bytes)) = tree.sums(path) {
        let bytes = bytes.saturating_mul(times);
        monitor.event(Event::Expect { bytes, entries });
    }
}

/// After so many pages that the storage does not give back, the walk ends.
const MAX_TROUBLE: u32 = 8;

/// What part of the tree is walked, and how its paths are shortened.
struct Scope {
    /// Where the walk begins, and what every path lies within.
    from: Vec<u8>,
    /// Leading bytes that paths lose.
    cut: usize,
    /// Whether a folder's contents are restored, not one file.
    is_folder: bool,
}

impl Scope {
    fn of(tree: &Tree<'_, '_>, path: &[u8]) -> Result<Scope, RestoreError> {
        let from = path.to_vec();
        if path.is_empty() {
            return Ok(Scope {
                from,
                cut: 0,
                is_folder: true,
            });
        }
        let missing = || RestoreError::NotFound(String::from_utf8_lossy(path).into_owned());
        let kind = match tree.find(path) {
            Ok(entry) => entry.ok_or_else(missing)?.kind,
            // What lies below it may be elsewhere and whole.
            Err(e) if says_damage(&e) => Kind::Folder,
            Err(e) => return Err(e.into()),
        };
        let is_folder = kind == Kind::Folder;
        let cut = match is_folder {
            true => path.len() + 1,
            false => path.iter().rposition(|c| *c == b'/').map_or(0, |i| i + 1),
        };
        Ok(Scope {
            from,
            cut,
            is_folder,
        })
    }

    /// The path in the target of one in the snapshot.
    fn shorten(&self, path: &[u8]) -> Vec<u8> {
        path.get(self.cut..).unwrap_or(&[]).to_vec()
    }

    /// The path in the snapshot of one in the target; a folder's contents are restored.
    fn lengthen(&self, path: &[u8]) -> Vec<u8> {
        join(&self.from, path)
    }
}

/// A path below a folder; either may be `""`.
fn join(folder: &[u8], below: &[u8]) -> Vec<u8> {
    match (folder, below) {
        (b"", path) | (path, b"") => path.to_vec(),
        _ => [folder, below].join(&b'/'),
    }
}

fn add_refused(report: &mut RestoreReport, path: &[u8], kept: Kept) {
    let path = String::from_utf8_lossy(path);
    report
        .refused
        .extend(kept.refused.iter().map(|what| format!("{path}: {what}")));
}

fn target_problem(path: &[u8], error: &TargetError) -> Problem {
    let cause = error
        .source
        .as_ref()
        .map(|e| format!(": {e}"))
        .unwrap_or_default();
    Problem {
        path: path.to_vec(),
        message: format!("{error}{cause}"),
    }
}

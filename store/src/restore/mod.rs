//! Restoring: a snapshot, or a part of it, into a target.
//!
//! This file walks the tree and decides what becomes of each entry; [`window`] fetches chunks and
//! writes files. Reads no more than a window of chunks at a time, each record once a window.

mod window;

use std::collections::HashMap;
use std::io::Read;

use crate::entry::{Content, Entry, Extent, Kind, is_within};
use crate::error::AccessError;
use crate::format::objects::Manifest;
use crate::monitor::{Action, Counters, Event, Monitor};
use crate::reader::Reader;
use crate::repository::Repository;
use crate::source::Problem;
use crate::target::{Kept, Target, TargetError};
use crate::tree::{Tree, Walk};
use window::Window;

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

/// What to restore.
pub struct RestoreOptions<'a> {
    /// A folder whose contents go into the target, or a file that goes there under its own name;
    /// `""` is everything.
    pub path: Vec<u8>,
    /// Asked for every entry, with its path in the snapshot and whether it is a folder.
    pub select: &'a dyn Fn(&[u8], bool) -> Select,
    /// Change nothing.
    pub dry_run: bool,
    /// Read every file again afterwards and compare.
    pub verify: bool,
}

/// What a restore did.
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
    /// What could not be written.
    pub problems: Vec<Problem>,
    /// Files that the repository cannot give back whole; they are not in the target.
    pub damaged: Vec<Problem>,
    /// Metadata that the target refused, with the path.
    pub refused: Vec<String>,
    /// Files that were read again and are right.
    pub verified: u64,
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
/// When the repository fails as a whole, or a page of the tree is damaged; single files that are
/// damaged, or cannot be written, stand in the report.
pub fn restore(
    repository: &Repository,
    manifest: &Manifest,
    target: &dyn Target,
    options: &RestoreOptions<'_>,
    monitor: &dyn Monitor,
) -> Result<RestoreReport, RestoreError> {
    monitor.event(Event::Phase("reading the index"));
    repository.update_index()?;
    let reader = Reader::new(repository).counting(monitor.counters());
    let tree = Tree::new(&reader, manifest.root);
    if options.path.is_empty() {
        monitor.event(Event::Expect {
            bytes: manifest.bytes,
            entries: manifest.entries,
        });
    }
    monitor.event(Event::Phase("restoring"));
    let mut run = Run {
        tree: &tree,
        target,
        options,
        monitor,
        window: Window::new(&reader, target, monitor),
        report: RestoreReport::default(),
        open: Vec::new(),
        left: Vec::new(),
        lazy: Vec::new(),
        groups: HashMap::new(),
    };
    run.walk()?;
    let mut report = run.report;
    if options.verify && !options.dry_run {
        monitor.event(Event::Phase("verifying"));
        verify(&tree, target, options, &mut report)?;
    }
    Ok(report)
}

/// Folders that were left and wait for their files are finished at latest when there are so many.
const MAX_LEFT: usize = 4096;

struct Run<'a, 'r> {
    tree: &'a Tree<'a, 'r>,
    target: &'a dyn Target,
    options: &'a RestoreOptions<'a>,
    monitor: &'a dyn Monitor,
    window: Window<'a, 'r>,
    report: RestoreReport,
    /// Folders that the walk is in.
    open: Vec<Entry>,
    /// Folders that it has left, whose files may still be written.
    left: Vec<Entry>,
    /// Folders that are made only when something in them is.
    lazy: Vec<Entry>,
    /// First restored name of files with several, by group.
    groups: HashMap<Vec<u8>, Vec<u8>>,
}

/// What part of the tree is walked, and how its paths are shortened.
struct Scope {
    /// Where the walk begins, and what every path lies within.
    from: Vec<u8>,
    /// Leading bytes that paths lose.
    cut: usize,
}

impl Scope {
    fn of(tree: &Tree<'_, '_>, path: &[u8]) -> Result<Scope, RestoreError> {
        let from = path.to_vec();
        if path.is_empty() {
            return Ok(Scope { from, cut: 0 });
        }
        let missing = || RestoreError::NotFound(String::from_utf8_lossy(path).into_owned());
        let entry = tree.find(path)?.ok_or_else(missing)?;
        let cut = match entry.kind {
            Kind::Folder => path.len() + 1,
            _ => path.iter().rposition(|c| *c == b'/').map_or(0, |i| i + 1),
        };
        Ok(Scope { from, cut })
    }

    fn shorten(&self, path: &[u8]) -> Vec<u8> {
        path.get(self.cut..).unwrap_or(&[]).to_vec()
    }
}

impl Run<'_, '_> {
    fn walk(&mut self) -> Result<(), RestoreError> {
        let scope = Scope::of(self.tree, &self.options.path)?;
        let mut walk = self.tree.walk(&scope.from)?;
        while let Some(item) = walk.next_item()? {
            if !is_within(&item.0.path, &scope.from) {
                break;
            }
            let entry = self.tree.complete(item)?;
            self.take(entry, &scope, &mut walk)?;
        }
        self.leave(None);
        self.flush()?;
        Ok(())
    }

    fn take(
        &mut self,
        mut entry: Entry,
        scope: &Scope,
        walk: &mut Walk<'_, '_, '_>,
    ) -> Result<(), RestoreError> {
        let folder = entry.kind == Kind::Folder;
        let select = (self.options.select)(&entry.path, folder);
        if select == Select::Skip {
            if folder {
                walk.skip_below(&entry.path)?;
            }
            return Ok(());
        }
        entry.path = scope.shorten(&entry.path);
        self.leave(Some(&entry.path));
        if select == Select::Descend {
            if folder {
                self.lazy.push(entry);
            }
            return Ok(());
        }
        for folder in std::mem::take(&mut self.lazy) {
            self.folder(folder);
        }
        self.report.entries += 1;
        Counters::add(&self.monitor.counters().entries, 1);
        match entry.kind {
            Kind::Folder => self.folder(entry),
            Kind::File => self.file(entry)?,
            _ => self.special(&entry),
        }
        if self.window.is_full() || self.left.len() > MAX_LEFT {
            self.flush()?;
        }
        Ok(())
    }

    fn folder(&mut self, entry: Entry) {
        if !self.options.dry_run {
            match self.target.make(&entry) {
                Ok(_) => {}
                Err(e) => return self.problem(&entry.path, &e),
            }
        }
        self.open.push(entry);
    }

    /// A link, pipe or device.
    fn special(&mut self, entry: &Entry) {
        if self.options.dry_run || self.linked(entry) {
            return;
        }
        let made = self.target.make(entry);
        self.note(&entry.path, made);
        self.first_of_group(entry);
    }

    /// Moves on to `path`: folders that do not hold it are left.
    fn leave(&mut self, path: Option<&[u8]>) {
        let holds = |e: &Entry| path.is_some_and(|p| is_within(p, &e.path));
        while let Some(folder) = self.open.pop_if(|e| !holds(e)) {
            self.left.push(folder);
        }
        self.lazy.retain(|e| holds(e));
    }

    /// Writes what waits, then gives the folders that were left their metadata.
    fn flush(&mut self) -> Result<(), AccessError> {
        self.window.run(&mut self.report)?;
        for folder in std::mem::take(&mut self.left) {
            if !self.options.dry_run {
                let done = self.target.finish_folder(&folder);
                self.note(&folder.path, done);
            }
        }
        Ok(())
    }

    fn file(&mut self, entry: Entry) -> Result<(), AccessError> {
        self.report.files += 1;
        self.report.bytes += entry.meta.size;
        if self.options.dry_run {
            Counters::add(&self.monitor.counters().bytes, entry.meta.size);
            return Ok(());
        }
        if entry.group.is_some() {
            // The first name must be in place before another can be made of it.
            if entry
                .group
                .as_ref()
                .is_some_and(|g| self.groups.contains_key(g))
            {
                self.window.run(&mut self.report)?;
            }
            if self.linked(&entry) {
                return Ok(());
            }
            self.first_of_group(&entry);
        }
        if holds_already(self.tree, self.target, &entry)? {
            let settled = self.target.settle(&entry);
            self.note(&entry.path, settled);
            self.report.kept += 1;
            Counters::add(&self.monitor.counters().bytes, entry.meta.size);
            self.monitor.event(Event::Entry {
                path: &entry.path,
                action: Action::Kept,
            });
            return Ok(());
        }
        self.window.begin(entry.clone());
        let mut offset = 0u64;
        for extent in self.tree.extents(&entry.content)? {
            let extent = extent?;
            if let Extent::Chunk { id, len } = extent {
                self.window.chunk(id, len, offset);
            }
            offset += extent.len();
            if self.window.is_full() {
                self.window.run(&mut self.report)?;
            }
        }
        self.window.end();
        Ok(())
    }

    /// Makes an entry another name of one that was restored; `false` when there is none.
    fn linked(&mut self, entry: &Entry) -> bool {
        let first = entry
            .group
            .as_ref()
            .and_then(|g| self.groups.get(g))
            .cloned();
        let Some(first) = first.filter(|f| *f != entry.path) else {
            return false;
        };
        match self.target.link(entry, &first) {
            Ok(()) => true,
            // The first may be missing because it is damaged: then this is one file more.
            Err(_) => false,
        }
    }

    fn first_of_group(&mut self, entry: &Entry) {
        if let Some(group) = &entry.group {
            self.groups.insert(group.clone(), entry.path.clone());
        }
    }

    fn note(&mut self, path: &[u8], result: Result<Kept, TargetError>) {
        match result {
            Ok(kept) => add_refused(&mut self.report, path, kept),
            Err(e) => self.problem(path, &e),
        }
    }

    fn problem(&mut self, path: &[u8], error: &TargetError) {
        let problem = target_problem(path, error);
        self.monitor.event(Event::Problem {
            path,
            message: &problem.message,
        });
        self.report.problems.push(problem);
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

/// Whether the target has the file with exactly these bytes.
fn holds_already(
    tree: &Tree<'_, '_>,
    target: &dyn Target,
    entry: &Entry,
) -> Result<bool, AccessError> {
    let Some(mut existing) = target.existing(entry) else {
        return Ok(false);
    };
    if let Content::Inline(bytes) = &entry.content {
        return Ok(reads(
            &mut *existing,
            |part| part == bytes.as_slice(),
            bytes.len(),
        ));
    }
    let keys = tree.reader().repository().keys();
    for extent in tree.extents(&entry.content)? {
        let same = match extent? {
            Extent::Chunk { id, len } => reads(
                &mut *existing,
                |part| keys.chunk_id(part) == id,
                len as usize,
            ),
            Extent::Hole(len) => reads_zeros(&mut *existing, len),
        };
        if !same {
            return Ok(false);
        }
    }
    Ok(existing.read(&mut [0]).is_ok_and(|n| n == 0))
}

fn reads(from: &mut dyn Read, is: impl Fn(&[u8]) -> bool, len: usize) -> bool {
    let mut part = vec![0; len];
    from.read_exact(&mut part).is_ok() && is(&part)
}

fn reads_zeros(from: &mut dyn Read, mut len: u64) -> bool {
    let mut part = vec![0; 64 << 10];
    while len > 0 {
        let n = len.min(part.len() as u64) as usize;
        let Some(part) = part.get_mut(..n) else {
            return false;
        };
        if from.read_exact(part).is_err() || part.iter().any(|b| *b != 0) {
            return false;
        }
        len -= n as u64;
    }
    true
}

/// Reads every restored file again.
fn verify(
    tree: &Tree<'_, '_>,
    target: &dyn Target,
    options: &RestoreOptions<'_>,
    report: &mut RestoreReport,
) -> Result<(), RestoreError> {
    let scope = Scope::of(tree, &options.path)?;
    let mut walk = tree.walk(&scope.from)?;
    while let Some((mut entry, _)) = walk.next_item()? {
        if !is_within(&entry.path, &scope.from) {
            break;
        }
        let folder = entry.kind == Kind::Folder;
        let select = (options.select)(&entry.path, folder);
        if select == Select::Skip && folder {
            walk.skip_below(&entry.path)?;
        }
        if select != Select::Take || entry.kind != Kind::File {
            continue;
        }
        entry.path = scope.shorten(&entry.path);
        if holds_already(tree, target, &entry)? {
            report.verified += 1;
        } else if !report.damaged.iter().any(|d| d.path == entry.path) {
            let message = "the restored file differs from the snapshot".to_owned();
            report.damaged.push(Problem {
                path: entry.path,
                message,
            });
        }
    }
    Ok(())
}

//! Restoring: a snapshot, or a part of it, into a target.
//!
//! This file walks the tree and decides what becomes of each entry; `window` fetches chunks and
//! writes files. Reads no more than a window of chunks at a time, each record once a window.

#[cfg(test)]
mod tests;
mod verify;
mod window;

use std::collections::{HashMap, HashSet};

use crate::entry::{Content, Entry, Extent, Kind, is_within};
use crate::error::AccessError;
use crate::format::objects::Manifest;
use crate::monitor::{Action, Counters, Event, Monitor};
use crate::reader::{Reader, says_damage};
use crate::repository::Repository;
use crate::source::Problem;
use crate::target::{Kept, Target, TargetError};
use crate::tree::{Item, Tree, Walk};
use verify::{holds_already, verify};
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
    /// What the repository cannot give back whole: files, which were not written, folders without
    /// some of their metadata, and pages of the tree, under the last path before them.
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
        waiting: HashSet::new(),
        last: Vec::new(),
        trouble: 0,
    };
    run.walk()?;
    let mut report = run.report;
    if options.verify && !options.dry_run {
        monitor.event(Event::Phase("verifying"));
        verify(&tree, target, options, &mut report)?;
    }
    Ok(report)
}

/// After so many pages that the storage does not give back, the walk ends.
const MAX_TROUBLE: u32 = 8;
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
    /// A name, written or kept by this run, of each file that has several, by group.
    groups: HashMap<Vec<u8>, Vec<u8>>,
    /// Groups of which a name waits in the window.
    waiting: HashSet<Vec<u8>>,
    /// The path that the walk met last, shortened.
    last: Vec<u8>,
    /// Pages that the storage did not give back.
    trouble: u32,
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
        let kind = match tree.find(path) {
            Ok(entry) => entry.ok_or_else(missing)?.kind,
            // What lies below it may be elsewhere and whole.
            Err(e) if says_damage(&e) => Kind::Folder,
            Err(e) => return Err(e.into()),
        };
        let cut = match kind {
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
        while self.trouble < MAX_TROUBLE {
            let item = match walk.next_item() {
                Ok(Some(item)) => item,
                Ok(None) => break,
                Err(e) => {
                    self.lost_page(&e);
                    continue;
                }
            };
            if !is_within(&item.0.path, &scope.from) {
                break;
            }
            self.take(item, &scope, &mut walk);
        }
        if self.trouble >= MAX_TROUBLE {
            let message = "the storage keeps failing: what follows is not restored".to_owned();
            let path = self.last.clone();
            self.report.problems.push(Problem { path, message });
        }
        self.leave(None);
        self.flush();
        Ok(())
    }

    /// A page of the tree that cannot be read: what it lists is missing.
    fn lost_page(&mut self, error: &AccessError) {
        let message = format!("a page of the tree, and all that it lists, is lost here: {error}");
        self.trouble += u32::from(!says_damage(error));
        self.unreadable(&self.last.clone(), error, message);
    }

    /// Something that the repository does not give back.
    fn unreadable(&mut self, path: &[u8], error: &AccessError, message: String) {
        self.monitor.event(Event::Problem {
            path,
            message: &message,
        });
        let path = path.to_vec();
        let problem = Problem { path, message };
        if says_damage(error) {
            self.report.damaged.push(problem);
        } else {
            self.report.problems.push(problem);
        }
    }

    fn take(&mut self, item: Item, scope: &Scope, walk: &mut Walk<'_, '_, '_>) {
        let folder = item.0.kind == Kind::Folder;
        let select = (self.options.select)(&item.0.path, folder);
        self.last = scope.shorten(&item.0.path);
        if select == Select::Skip {
            while folder
                && self.trouble < MAX_TROUBLE
                && let Err(e) = walk.skip_below(&item.0.path)
            {
                self.lost_page(&e);
            }
            return;
        }
        self.leave(Some(&self.last.clone()));
        if select == Select::Descend && !folder {
            return;
        }
        let Some(entry) = self.complete(item) else {
            return;
        };
        if select == Select::Descend {
            self.lazy.push(entry);
            return;
        }
        for folder in std::mem::take(&mut self.lazy) {
            self.folder(folder);
        }
        self.report.entries += 1;
        Counters::add(&self.monitor.counters().entries, 1);
        match entry.kind {
            Kind::Folder => self.folder(entry),
            Kind::File => self.file(entry),
            _ => self.special(&entry),
        }
        if self.window.is_full() || self.left.len() > MAX_LEFT {
            self.flush();
        }
    }

    /// The entry under its shortened path, with all of its attributes. When they cannot be read
    /// the entry is reported; a folder is made without them, for the sake of what it holds.
    fn complete(&mut self, item: Item) -> Option<Entry> {
        let path = self.last.clone();
        let folder = (item.0.kind == Kind::Folder).then(|| item.0.clone());
        match self.tree.complete(item) {
            Ok(entry) => Some(Entry { path, ..entry }),
            Err(e) => {
                let message = format!("its attributes are lost: {e}");
                self.unreadable(&path, &e, message);
                folder.map(|entry| Entry { path, ..entry })
            }
        }
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
        if made.is_ok() {
            self.in_place(entry);
        }
        self.note(&entry.path, made);
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
    fn flush(&mut self) {
        self.run_window();
        for folder in std::mem::take(&mut self.left) {
            if !self.options.dry_run {
                let done = self.target.finish_folder(&folder);
                self.note(&folder.path, done);
            }
        }
    }

    /// Writes what waits.
    fn run_window(&mut self) {
        self.groups.extend(self.window.run(&mut self.report));
        self.waiting.clear();
    }

    fn file(&mut self, entry: Entry) {
        self.report.files += 1;
        self.report.bytes += entry.meta.size;
        if self.options.dry_run {
            Counters::add(&self.monitor.counters().bytes, entry.meta.size);
            return;
        }
        // Another name must be in place before this one can be made of it.
        if entry
            .group
            .as_ref()
            .is_some_and(|g| self.waiting.contains(g))
        {
            self.run_window();
        }
        if self.linked(&entry) {
            return;
        }
        // What cannot be read here is met again below.
        if holds_already(self.tree, self.target, &entry).unwrap_or(false) {
            return self.keep(&entry);
        }
        let group = entry.group.clone();
        self.window.begin(entry.clone());
        match self.plan(&entry) {
            Ok(()) => {
                self.window.end();
                self.waiting.extend(group);
            }
            Err(e) => self.window.give_up(&e),
        }
    }

    /// The target holds the file's bytes already.
    fn keep(&mut self, entry: &Entry) {
        let settled = self.target.settle(entry);
        self.note(&entry.path, settled);
        self.in_place(entry);
        self.report.kept += 1;
        Counters::add(&self.monitor.counters().bytes, entry.meta.size);
        self.monitor.event(Event::Entry {
            path: &entry.path,
            action: Action::Kept,
        });
    }

    /// Plans the chunks of the file that was begun. They must add up to its size.
    fn plan(&mut self, entry: &Entry) -> Result<(), AccessError> {
        let size = entry.meta.size;
        let unequal = || {
            let path = String::from_utf8_lossy(&entry.path).into_owned();
            AccessError::damaged(path, "its parts do not add up to its size")
        };
        let mut offset = match &entry.content {
            Content::Inline(bytes) => bytes.len() as u64,
            _ => 0,
        };
        for extent in self.tree.extents(&entry.content)? {
            let extent = extent?;
            let end = offset.checked_add(extent.len()).filter(|end| *end <= size);
            let end = end.ok_or_else(unequal)?;
            if let Extent::Chunk { id, len } = extent {
                self.window.chunk(id, len, offset);
            }
            offset = end;
            if self.window.is_full() {
                self.run_window();
            }
        }
        if offset == size {
            Ok(())
        } else {
            Err(unequal())
        }
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
            // The target cannot: then this is a file of its own.
            Err(_) => false,
        }
    }

    /// This name was written or kept: others may be made of it.
    fn in_place(&mut self, entry: &Entry) {
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

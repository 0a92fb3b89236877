//! The walk of a restore: what becomes of each entry, in the order of the tree. Folders get their
//! metadata when everything in them was written and removed.

use std::collections::{HashMap, HashSet};

use super::file::unequal;
use super::surplus::{Removal, Surplus};
use super::window::{Purpose, Window};
use super::{
    MAX_TROUBLE, Overwrite, RestoreError, RestoreOptions, RestoreReport, Scope, Select,
    add_refused, target_problem,
};
use crate::entry::{Content, Entry, Extent, Kind, is_within};
use crate::error::AccessError;
use crate::monitor::{Action, Counters, Event, Monitor};
use crate::reader::says_damage;
use crate::source::Problem;
use crate::target::{Found, FoundKind, Kept, Target, TargetError};
use crate::tree::{Item, Tree, Walk};

/// Folders that were left and wait for their files are finished at latest when there are so many.
const MAX_LEFT: usize = 4096;

/// Paths of files that the options spared: verifying passes them over.
pub(super) type Spared = HashSet<Vec<u8>>;

/// Restores all that the options choose.
pub(super) fn run(
    tree: &Tree<'_, '_>,
    target: &dyn Target,
    options: &RestoreOptions<'_>,
    monitor: &dyn Monitor,
) -> Result<(RestoreReport, Spared), RestoreError> {
    let scope = Scope::of(tree, &options.path)?;
    let purpose = match options.dry_run {
        true => Purpose::Rehearse,
        false => Purpose::Write,
    };
    let surplus = options.delete && scope.is_folder;
    let mut run = Run {
        tree,
        target,
        options,
        monitor,
        scope: &scope,
        surplus: surplus.then(|| Surplus::new(target, &scope, options.select)),
        window: Window::new(tree.reader(), target, options, purpose, monitor),
        report: RestoreReport::default(),
        open: Vec::new(),
        left: Vec::new(),
        removals: Vec::new(),
        lazy: Vec::new(),
        groups: HashMap::new(),
        waiting: HashSet::new(),
        spared: HashSet::new(),
        last: Vec::new(),
        trouble: 0,
    };
    run.walk()?;
    Ok((run.report, run.spared))
}

/// What becomes of an entry, as the options say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    /// What stands there stays as it is.
    Spare,
    /// What stands there is taken for right.
    Trust,
    /// What stands there is compared.
    Compare,
}

struct Run<'a, 'r> {
    tree: &'a Tree<'a, 'r>,
    target: &'a dyn Target,
    options: &'a RestoreOptions<'a>,
    monitor: &'a dyn Monitor,
    scope: &'a Scope,
    /// Looks for what the snapshot does not hold, if that is asked for.
    surplus: Option<Surplus<'a>>,
    window: Window<'a, 'r>,
    report: RestoreReport,
    /// Folders that the walk is in.
    open: Vec<Entry>,
    /// Folders that it has left, whose files may still be written.
    left: Vec<Entry>,
    /// What is to be removed in folders that were left.
    removals: Vec<Removal>,
    /// Folders that are made only when something in them is.
    lazy: Vec<Entry>,
    /// A name, written or kept by this run, of each file that has several, by group.
    groups: HashMap<Vec<u8>, Vec<u8>>,
    /// Groups of which a name waits in the window.
    waiting: HashSet<Vec<u8>>,
    spared: Spared,
    /// The path that the walk met last, shortened.
    last: Vec<u8>,
    /// Pages that the storage did not give back.
    trouble: u32,
}

impl Run<'_, '_> {
    fn walk(&mut self) -> Result<(), RestoreError> {
        let mut walk = self.tree.walk(&self.scope.from)?;
        // The root need not be an entry of its own.
        self.enter(b"");
        while self.trouble < MAX_TROUBLE {
            let item = match walk.next_item() {
                Ok(Some(item)) => item,
                Ok(None) => break,
                Err(e) => {
                    self.lost_page(&e);
                    continue;
                }
            };
            if !is_within(&item.0.path, &self.scope.from) {
                break;
            }
            self.take(item, &mut walk);
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
        if let Some(surplus) = &mut self.surplus {
            surplus.lose();
        }
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

    fn take(&mut self, item: Item, walk: &mut Walk<'_, '_, '_>) {
        let folder = item.0.kind == Kind::Folder;
        let select = (self.options.select)(&item.0.path, folder);
        self.last = self.scope.shorten(&item.0.path);
        self.leave(Some(&self.last.clone()));
        let path = &self.last;
        let in_the_way = self.surplus.as_mut().is_some_and(|s| s.meet(path)) && !folder;
        if select == Select::Skip {
            while folder
                && self.trouble < MAX_TROUBLE
                && let Err(e) = walk.skip_below(&item.0.path)
            {
                self.lost_page(&e);
            }
            return;
        }
        if select == Select::Descend && !folder {
            return;
        }
        let Some(entry) = self.complete(item) else {
            return;
        };
        if select == Select::Descend {
            self.enter(&entry.path);
            self.lazy.push(entry);
            return;
        }
        for folder in std::mem::take(&mut self.lazy) {
            self.folder(folder);
        }
        self.report.entries += 1;
        Counters::add(&self.monitor.counters().entries, 1);
        match entry.kind {
            Kind::Folder => {
                let path = entry.path.clone();
                if self.folder(entry) {
                    self.enter(&path);
                }
            }
            Kind::File => self.file(entry, in_the_way),
            _ => self.special(&entry, in_the_way),
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

    /// Makes a folder; `false` when that failed.
    fn folder(&mut self, entry: Entry) -> bool {
        if !self.options.dry_run
            && let Err(e) = self.target.make(&entry)
        {
            self.problem(&entry.path, &e);
            return false;
        }
        self.open.push(entry);
        true
    }

    /// From here on what the target holds in a folder may be surplus.
    fn enter(&mut self, path: &[u8]) {
        let entered = self.surplus.as_mut().map(|s| s.enter(path));
        if let Some(Err(e)) = entered {
            self.problem(path, &e);
        }
    }

    /// A link, pipe or device.
    fn special(&mut self, entry: &Entry, in_the_way: bool) {
        match self.decide(entry) {
            Some(Decision::Spare) => return self.spare(entry),
            Some(_) if !self.options.dry_run => {}
            _ => return,
        }
        if in_the_way {
            self.clear_way(entry);
        }
        if self.linked(entry) {
            return;
        }
        let made = self.target.make(entry);
        if made.is_ok() {
            self.in_place(entry);
        }
        self.note(&entry.path, made);
    }

    /// What the options say of an entry; `None` when the target does not answer.
    fn decide(&mut self, entry: &Entry) -> Option<Decision> {
        let overwrite = self.options.overwrite;
        if overwrite == Overwrite::Always {
            return Some(Decision::Compare);
        }
        let found = match self.target.look(&entry.path) {
            Ok(Some(found)) => found,
            Ok(None) => return Some(Decision::Compare),
            Err(e) => {
                self.problem(&entry.path, &e);
                return None;
            }
        };
        let like = |f: &Found| f.size == entry.meta.size && f.mtime == entry.meta.mtime;
        Some(match overwrite {
            Overwrite::Never => Decision::Spare,
            Overwrite::Newer if entry.meta.mtime <= found.mtime => Decision::Spare,
            Overwrite::Changed if found.kind == FoundKind::File && like(&found) => Decision::Trust,
            _ => Decision::Compare,
        })
    }

    fn spare(&mut self, entry: &Entry) {
        self.report.skipped += 1;
        Counters::add(&self.monitor.counters().bytes, entry.meta.size);
        self.tell(&entry.path, Action::Skipped);
        if self.options.verify {
            self.spared.insert(entry.path.clone());
        }
    }

    /// Removes a folder that stands where something else belongs.
    fn clear_way(&mut self, entry: &Entry) {
        let plan = self
            .surplus
            .as_ref()
            .map(|s| s.plan(entry.path.clone(), true));
        match plan {
            Some(Ok(plan)) => self.remove(plan),
            Some(Err(e)) => self.problem(&entry.path, &e),
            None => {}
        }
    }

    /// Carries out a plan, or tells of it.
    fn remove(&mut self, plan: Vec<Removal>) {
        for Removal { path, is_top } in plan {
            if !self.options.dry_run
                && let Err(e) = self.target.remove(&path)
            {
                self.problem(&path, &e);
                continue;
            }
            self.tell(&path, Action::Removed);
            self.report.removed += 1;
            if is_top {
                self.report.surplus.push(path);
            }
        }
    }

    /// Moves on to `path`: folders that do not hold it are left.
    fn leave(&mut self, path: Option<&[u8]>) {
        let holds = |e: &Entry| path.is_some_and(|p| is_within(p, &e.path));
        while let Some(folder) = self.open.pop_if(|e| !holds(e)) {
            self.left.push(folder);
        }
        self.lazy.retain(|e| holds(e));
        match self.surplus.as_mut().map(|s| s.leave(path)) {
            Some(Ok(plan)) => self.removals.extend(plan),
            Some(Err(e)) => self.problem(&self.last.clone(), &e),
            None => {}
        }
    }

    /// Writes what waits, removes surplus, then gives the folders that were left their metadata.
    fn flush(&mut self) {
        self.run_window();
        let plan = std::mem::take(&mut self.removals);
        self.remove(plan);
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

    fn file(&mut self, entry: Entry, in_the_way: bool) {
        self.report.files += 1;
        self.report.bytes += entry.meta.size;
        let decision = match self.decide(&entry) {
            Some(Decision::Spare) => return self.spare(&entry),
            Some(decision) => decision,
            None => return,
        };
        if in_the_way {
            self.clear_way(&entry);
        }
        // Another name must be in place before this one can be made of it.
        if entry
            .group
            .as_ref()
            .is_some_and(|g| self.waiting.contains(g))
        {
            self.run_window();
        }
        if self.linked(&entry) || (decision == Decision::Trust && self.trust(&entry)) {
            return;
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

    /// Takes what stands there for right; `false` when it must be written all the same.
    fn trust(&mut self, entry: &Entry) -> bool {
        if !self.options.dry_run {
            match self.target.existing(entry).map(|e| e.settle(entry)) {
                None | Some(Ok(None)) => return false,
                Some(Ok(Some(kept))) => self.note(&entry.path, Ok(kept)),
                Some(Err(e)) => {
                    self.problem(&entry.path, &e);
                    return true;
                }
            }
        }
        self.in_place(entry);
        self.report.kept += 1;
        Counters::add(&self.monitor.counters().bytes, entry.meta.size);
        self.tell(&entry.path, Action::Kept);
        true
    }

    /// Plans the parts of the file that was begun. They must add up to its size.
    fn plan(&mut self, entry: &Entry) -> Result<(), AccessError> {
        let tree = self.tree;
        let mut flush = |window: &mut Window<'_, '_>| {
            if window.is_full() {
                self.groups.extend(window.run(&mut self.report));
                self.waiting.clear();
            }
        };
        plan(tree, &mut self.window, entry, &mut flush)
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
        if self.options.dry_run {
            return true;
        }
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

    fn tell(&self, path: &[u8], action: Action) {
        self.monitor.event(Event::Entry { path, action });
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

/// Plans the parts of the file that a window began; `flush` is called after each. They must add up
/// to the file's size.
pub(super) fn plan(
    tree: &Tree<'_, '_>,
    window: &mut Window<'_, '_>,
    entry: &Entry,
    flush: &mut dyn FnMut(&mut Window<'_, '_>),
) -> Result<(), AccessError> {
    let size = entry.meta.size;
    let mut offset = match &entry.content {
        Content::Inline(bytes) => bytes.len() as u64,
        _ => 0,
    };
    for extent in tree.extents(&entry.content)? {
        let extent = extent?;
        let len = extent.len();
        let end = offset.checked_add(len).filter(|end| *end <= size);
        let end = end.ok_or_else(|| unequal(entry))?;
        match extent {
            Extent::Chunk { id, .. } => window.part(Some(id), offset, len),
            Extent::Hole(_) => window.part(None, offset, len),
        }
        offset = end;
        flush(window);
    }
    match offset == size {
        true => Ok(()),
        false => Err(unequal(entry)),
    }
}

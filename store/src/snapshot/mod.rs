//! Taking a snapshot: from a source to a committed manifest (gc-protocol.md,
//! "Writer").
//!
//! This file is the order of steps; `parents` says what to compare with, `intake` reads and cuts,
//! `streams` does so with several files side by side, `held` keeps those until their places come,
//! `guide` knows what of the parent a changed file resembles, `assemble` builds the tree, `pool`
//! runs them on threads, `checkpoint` commits what a long run has so far, `republish` is a fenced
//! writer's second run, `rewrite` a snapshot without some of
//! its entries; both `carry` over what is stored.

mod assemble;
mod carry;
mod checkpoint;
mod guide;
mod held;
mod intake;
mod parents;
mod pool;
pub(crate) mod republish;
pub mod rewrite;
mod streams;
#[cfg(test)]
mod tests;

pub(crate) use assemble::Assembler;
pub(crate) use intake::Step;

use hucha_chunker::{Cutter, GearTable};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::backend::Reserve;
use crate::clock::Timestamp;
use crate::error::AccessError;
use crate::forget::forget;
use crate::format::objects::{MAX_PROBLEMS, Manifest, SessionKind};
use crate::gc::merge;
use crate::id::{SnapshotId, Uuid};
use crate::member::{MAY_BE_EMPTY, Member};
use crate::monitor::{Event, Monitor};
use crate::notes::Notes;
use crate::repository::Repository;
use crate::session::{Commit, Session};
use crate::snapshot::assemble::SoFar;
use crate::snapshot::checkpoint::{Checkpoints, Passed};
use crate::snapshot::intake::{Problems, Setting};
use crate::snapshot::parents::Parents;
use crate::source::{Problem, Source, SourceError};
use crate::tree::Tree;
use crate::view::View;
use crate::writer::Writer;
pub use crate::writer::{Deltas, Stored};

/// How a snapshot is described, and how it is taken.
#[derive(Debug, Clone, Default)]
pub struct SnapshotOptions {
    /// Its time.
    pub time: Timestamp,
    /// Offset of the local zone from UTC in seconds.
    pub zone_offset: i64,
    /// Host name.
    pub host: String,
    /// User name.
    pub user: String,
    /// Tags, in any order.
    pub tags: Vec<String>,
    /// Label.
    pub label: Option<String>,
    /// Name and version of the program.
    pub program: String,
    /// Read and count everything, store nothing.
    pub dry_run: bool,
    /// Which snapshot unchanged files are taken from.
    pub parent: ParentChoice,
    /// What tells an unchanged file.
    pub compare: Compare,
    /// When what was read so far is committed.
    pub checkpoint: Every,
    /// What is done when everything is as in the parent.
    pub unchanged: Unchanged,
}

/// Which snapshot unchanged files are taken from.
#[derive(Debug, Clone, Default)]
pub enum ParentChoice {
    /// The newest of the same host and paths, and the newest checkpoint after it.
    #[default]
    Newest,
    /// This one.
    Given(Box<Manifest>),
    /// None: every file is read.
    None,
}

/// What tells an unchanged file beside its size and mtime. A file system of the network may give
/// new ones to files that are as they were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compare {
    /// The inode's number.
    pub inode: bool,
    /// The inode's last change.
    pub ctime: bool,
}

impl Default for Compare {
    fn default() -> Compare {
        Compare {
            inode: true,
            ctime: true,
        }
    }
}

/// How much a run reads before it commits what it has: whichever comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Every {
    /// Bytes read from the source.
    pub bytes: u64,
    /// Seconds, by the clock of the environment.
    pub seconds: u64,
}

impl Default for Every {
    fn default() -> Every {
        Every {
            bytes: 16 << 30,
            seconds: 600,
        }
    }
}

/// What is done when the tree is that of the parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unchanged {
    /// It is committed like any other.
    #[default]
    Commit,
    /// Nothing is committed, unless something could not be read.
    Skip,
}

/// What became of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The snapshot is committed.
    Committed,
    /// Everything is as in the parent, and nothing was committed.
    Skipped,
    /// It was a dry run.
    DryRun,
}

/// What a snapshot run did.
#[derive(Debug)]
pub struct SnapshotReport {
    /// What became of it.
    pub outcome: Outcome,
    /// The manifest, committed or as it would have been.
    pub manifest: Manifest,
    /// What could not be read, the first of them; the manifest has their number.
    pub problems: Vec<Problem>,
    /// The parent's id, for people.
    pub parent: Option<SnapshotId>,
    /// Id of the checkpoint that it went on from.
    pub resumed: Option<SnapshotId>,
    /// Bytes read from the source.
    pub read_bytes: u64,
    /// What was stored.
    pub stored: Stored,
}

/// Why no snapshot was committed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The source failed as a whole.
    #[error("{0}: no snapshot was made")]
    Source(String),
    /// The source failed as a whole, and said what to do about it.
    #[error("{what}: no snapshot was made")]
    Advised {
        /// What happened.
        what: String,
        /// What to do next.
        hint: String,
    },
    /// A collector took this run for dead while it was reading something that cannot be read again.
    #[error(
        "another machine's gc took this run for dead, and its input cannot be read again: \
         no snapshot was made; start it again"
    )]
    Fenced,
    /// The repository failed.
    #[error(transparent)]
    Access(#[from] AccessError),
}

/// How often a fenced run begins anew.
const MAX_FENCED: usize = 3;

/// Takes one snapshot of a source.
///
/// # Errors
/// When nothing was committed but checkpoints; the session is given up then.
pub fn snapshot(
    repository: &Repository,
    source: &mut dyn Source,
    options: &SnapshotOptions,
    monitor: &dyn Monitor,
) -> Result<SnapshotReport, SnapshotError> {
    if options.dry_run {
        return dry_run(repository, source, options, monitor);
    }
    for _ in 0..MAX_FENCED {
        let mut session = Session::open(repository, SessionKind::Writer)?;
        match run(&mut session, source, options, monitor) {
            Ok((report, superseded, Ended::Committed(Commit::Done))) => {
                session.close();
                forget_all(repository, &superseded, monitor);
                fold_segments(repository, monitor);
                return Ok(report);
            }
            Ok((report, superseded, Ended::Skipped)) => {
                session.give_up();
                forget_all(repository, &superseded, monitor);
                return Ok(report);
            }
            Ok((report, superseded, Ended::Committed(Commit::Fenced))) => {
                session.close();
                match republish::republish(repository, &report.manifest) {
                    Ok(Some(manifest)) => {
                        forget_all(repository, &superseded, monitor);
                        return Ok(SnapshotReport { manifest, ..report });
                    }
                    Ok(None) if source.is_repeatable() => {}
                    Ok(None) => return Err(SnapshotError::Fenced),
                    Err(e) => return Err(e.into()),
                }
            }
            Err(SnapshotError::Fenced) if source.is_repeatable() => session.give_up(),
            Err(e) => {
                session.give_up();
                return Err(e);
            }
        }
    }
    Err(SnapshotError::Fenced)
}

/// How an attempt ended.
enum Ended {
    Committed(Commit),
    Skipped,
}

/// Forgets checkpoints that a snapshot has taken the place of, but for those that somebody
/// protects. It stands whether or not that works, and so does the next one, which tries again.
fn forget_all(repository: &Repository, checkpoints: &[Manifest], monitor: &dyn Monitor) {
    let failed = |e: &dyn std::error::Error| {
        let note = format!("a partial snapshot could not be forgotten: {e}");
        monitor.event(Event::Note(&note));
    };
    if checkpoints.is_empty() {
        return;
    }
    let notes = match Notes::read(repository) {
        Ok(notes) => notes,
        Err(e) => return failed(&e),
    };
    for checkpoint in checkpoints {
        if let Err(e) = forget(repository, checkpoint, &notes) {
            failed(&e);
        }
    }
}

/// Folds segments when there are many small ones. The snapshot stands whether or not that works.
fn fold_segments(repository: &Repository, monitor: &dyn Monitor) {
    if let Err(e) = merge::merge(repository, merge::When::AfterSnapshot) {
        monitor.event(Event::Note(&format!(
            "segments of the index could not be folded: {e}"
        )));
    }
}

/// One attempt, under one session after the other. Answers which checkpoints it takes the place of.
fn run(
    session: &mut Session<'_>,
    source: &mut dyn Source,
    options: &SnapshotOptions,
    monitor: &dyn Monitor,
) -> Result<(SnapshotReport, Vec<Manifest>, Ended), SnapshotError> {
    monitor.event(Event::Phase("reading the index"));
    let repository = session.repository();
    repository.ensure_data_key()?;
    let writer = Writer::new(session, session.view()?);
    let plan = Plan::new(&writer, source, options, monitor)?;
    let describe = |name: Uuid, so_far: &SoFar, problems: &Problems| {
        plan.describe(name, so_far, problems, &[])
    };
    let partial = |name: Uuid, so_far: &SoFar, problems: &Problems| Manifest {
        partial: true,
        unfinished: so_far.unfinished,
        ..describe(name, so_far, problems)
    };
    let mut passed = Passed::default();
    let checkpoints = Checkpoints {
        since: plan.begun,
        session: &mut *session,
        writer: &writer,
        describe: &partial,
        every: options.checkpoint,
        monitor,
        read: 0,
        passed: &mut passed,
    };
    // What cannot be read again gains nothing by them.
    let wanted = source.is_repeatable().then_some(checkpoints);
    let taken = plan.read(source, wanted);
    let taken = match taken {
        Err(_) if passed.lost => return Err(SnapshotError::Fenced),
        other => other?,
    };
    plan.refuse_emptied(&taken)?;
    let superseded = [plan.parents.superseded.clone(), passed.committed].concat();
    if plan.may_skip(&taken) {
        let report = plan.report(session.name(), taken, Outcome::Skipped);
        return Ok((report, superseded, Ended::Skipped));
    }
    writer.finish()?;
    let report = plan.report(session.name(), taken, Outcome::Committed);
    let commit = session.commit(&report.manifest)?;
    // Where there is no room for more, what was held back before is enough to begin with.
    let _ = repository.backend().reserve(Reserve::Keep(writer.bytes()));
    Ok((report, superseded, Ended::Committed(commit)))
}

fn dry_run(
    repository: &Repository,
    source: &mut dyn Source,
    options: &SnapshotOptions,
    monitor: &dyn Monitor,
) -> Result<SnapshotReport, SnapshotError> {
    let view = View::for_dry_run(repository)?;
    let writer = Writer::dry(repository, view);
    let plan = Plan::new(&writer, source, options, monitor)?;
    let taken = plan.read(source, None)?;
    writer.finish()?;
    Ok(plan.report(Uuid([0; 16]), taken, Outcome::DryRun))
}

/// One attempt: what is read, by what, and how it is described.
struct Plan<'a, 'r> {
    writer: &'a Writer<'r>,
    options: &'a SnapshotOptions,
    monitor: &'a dyn Monitor,
    cutter: Cutter,
    paths: Vec<Vec<u8>>,
    parents: Parents,
    begun: Timestamp,
    read_before: u64,
}

impl<'a, 'r> Plan<'a, 'r> {
    fn new(
        writer: &'a Writer<'r>,
        source: &dyn Source,
        options: &'a SnapshotOptions,
        monitor: &'a dyn Monitor,
    ) -> Result<Plan<'a, 'r>, AccessError> {
        let repository = writer.reader().repository();
        let begun = repository.environment().clock.now();
        let paths = source.paths();
        let parents = Parents::choose(repository, options, &paths)?;
        let table = Arc::new(GearTable::derive(repository.keys().gear_key()));
        Ok(Plan {
            writer,
            options,
            monitor,
            cutter: Cutter::new(table, source.profile()),
            paths,
            parents,
            begun,
            read_before: monitor.counters().read.load(Ordering::Relaxed),
        })
    }

    /// Reads the source and stores what is new.
    fn read<'c>(
        &'c self,
        source: &mut dyn Source,
        checkpoints: Option<Checkpoints<'c, 'r>>,
    ) -> Result<pool::Taken, SnapshotError> {
        // A checkpoint does not say how much there is.
        if let Some(parent) = &self.parents.whole {
            self.monitor.event(Event::Expect {
                bytes: parent.bytes,
                entries: parent.entries,
            });
        }
        self.monitor.event(Event::Phase("reading"));
        let setting = Setting {
            writer: self.writer,
            cutter: &self.cutter,
            compare: self.options.compare,
            user: &self.options.user,
            monitor: self.monitor,
        };
        let tree = |m: &'c Manifest| (m, Tree::new(self.writer.reader(), m.root));
        let trees: Vec<_> = self.parents.each().map(tree).collect();
        pool::run(source, setting, &trees, checkpoints).map_err(|e| match e {
            pool::RunError::Source(SourceError::Failed(why)) => SnapshotError::Source(why),
            pool::RunError::Source(SourceError::Advised { what, hint }) => {
                SnapshotError::Advised { what, hint }
            }
            pool::RunError::Source(SourceError::Stopped) => SnapshotError::Source("stopped".into()),
            pool::RunError::Access(e) => SnapshotError::Access(e),
        })
    }

    /// A member that has nothing where the parent has something is taken for one that could not be
    /// read, unless its source says that it may be empty.
    fn refuse_emptied(&self, taken: &pool::Taken) -> Result<(), SnapshotError> {
        let parent = self.parents.whole.iter().flat_map(|parent| &parent.members);
        for before in parent {
            let same = |m: &&Member| m.name == before.name && m.failed.is_none();
            let Some(now) = taken.members.iter().find(same) else {
                continue;
            };
            let emptied = match (before.rows, now.rows) {
                (Some(1..), Some(0)) => "has no rows",
                // No table was left that could be counted.
                (Some(1..), None) if before.kind == now.kind => "has no rows",
                _ if before.bytes > 0 && now.bytes == 0 => "is empty",
                _ => continue,
            };
            if now.property(MAY_BE_EMPTY).is_none() {
                return Err(SnapshotError::Advised {
                    what: format!("\"{}\" {emptied}, and had some before", now.name),
                    hint: "if that is right, give the source the option allow_empty".to_owned(),
                });
            }
        }
        Ok(())
    }

    /// Whether nothing need to be committed.
    fn may_skip(&self, taken: &pool::Taken) -> bool {
        let same = |parent: &Manifest| parent.root == taken.tree.root && parent.paths == self.paths;
        self.options.unchanged == Unchanged::Skip
            && taken.problems.count == 0
            && self.parents.whole.as_ref().is_some_and(same)
    }

    fn report(&self, name: Uuid, taken: pool::Taken, outcome: Outcome) -> SnapshotReport {
        let manifest = self.describe(name, &taken.tree, &taken.problems, &taken.members);
        let id = |parent: &Option<Manifest>| parent.as_ref().map(|p| p.id);
        let read = self.monitor.counters().read.load(Ordering::Relaxed);
        SnapshotReport {
            outcome,
            manifest,
            problems: taken.problems.first,
            parent: id(&self.parents.whole),
            resumed: id(&self.parents.partial),
            read_bytes: read.saturating_sub(self.read_before),
            stored: self.writer.stored(),
        }
    }

    fn describe(
        &self,
        name: Uuid,
        tree: &SoFar,
        problems: &Problems,
        members: &[Member],
    ) -> Manifest {
        let options = self.options;
        let mut tags = options.tags.clone();
        tags.sort();
        tags.dedup();
        // Short lines: a manifest is small but for what a user typed.
        let line = |p: &Problem| {
            let line = format!("{}: {}", String::from_utf8_lossy(&p.path), p.message);
            line.chars().take(200).collect()
        };
        let first = problems.first.iter().take(MAX_PROBLEMS);
        let now = self.writer.reader().repository().environment().clock.now();
        let stored = self.writer.stored();
        Manifest {
            name,
            id: SnapshotId(crate::crypto::random()),
            time: options.time,
            zone_offset: options.zone_offset,
            host: options.host.clone(),
            user: options.user.clone(),
            paths: self.paths.clone(),
            tags,
            label: options.label.clone(),
            root: tree.root,
            entries: tree.totals.entries,
            files: tree.totals.files,
            bytes: tree.totals.bytes,
            new_bytes: stored.new_bytes,
            new_stored: stored.new_stored,
            incomplete: problems.count > 0,
            partial: members.iter().any(|member| member.failed.is_some()),
            unfinished: None,
            parent: self.parents.whole.as_ref().map(|p| p.name),
            origin: None,
            program: options.program.clone(),
            problems: first.map(line).collect(),
            problem_count: problems.count,
            duration_ms: milliseconds(self.begun, now),
            members: members.to_vec(),
            unknown: Vec::new(),
        }
    }
}

fn milliseconds(begun: Timestamp, ended: Timestamp) -> u64 {
    let took = (ended.seconds - begun.seconds) * 1000
        + (i64::from(ended.nanos) - i64::from(begun.nanos)) / 1_000_000;
    u64::try_from(took).unwrap_or(0)
}

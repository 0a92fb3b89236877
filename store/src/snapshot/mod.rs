//! Taking a snapshot: from a source to a committed manifest (gc-protocol.md,
//! "Writer").
//!
//! This file is the order of steps; `intake` reads and cuts, `assemble` builds the tree,
//! `pool` runs them on threads, `republish` is a fenced writer's second run.

mod assemble;
mod intake;
mod pool;
pub(crate) mod republish;

use hucha_chunker::{Cutter, GearTable};
use std::sync::Arc;

use crate::clock::Timestamp;
use crate::error::AccessError;
use crate::format::objects::{MAX_PROBLEMS, Manifest, SessionKind, TreeRoot};
use crate::gc::merge;
use crate::id::{SnapshotId, Uuid};
use crate::monitor::{Event, Monitor};
use crate::repository::Repository;
use crate::session::{Commit, Session};
use crate::snapshots::SnapshotList;
use crate::source::{Problem, Source, SourceError};
use crate::tree::Totals;
use crate::view::View;
use crate::writer::Writer;

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
    /// Read every file, whatever the parent says.
    pub force: bool,
}

/// What a snapshot run did.
#[derive(Debug)]
pub struct SnapshotReport {
    /// The manifest, committed unless it was a dry run.
    pub manifest: Manifest,
    /// What could not be read.
    pub problems: Vec<Problem>,
    /// The parent's id, for people.
    pub parent: Option<SnapshotId>,
}

/// Why no snapshot was committed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The source failed as a whole.
    #[error("{0}: no snapshot was made")]
    Source(String),
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
/// When nothing was committed; the session is given up then.
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
        let session = Session::open(repository, SessionKind::Writer)?;
        match run(&session, source, options, monitor) {
            Ok((report, Commit::Done)) => {
                session.close();
                fold_segments(repository, monitor);
                return Ok(report);
            }
            Ok((report, Commit::Fenced)) => {
                session.close();
                match republish::republish(repository, &report.manifest) {
                    Ok(Some(manifest)) => return Ok(SnapshotReport { manifest, ..report }),
                    Ok(None) if source.is_repeatable() => {}
                    Ok(None) => return Err(SnapshotError::Fenced),
                    Err(e) => return Err(e.into()),
                }
            }
            Err(e) => {
                session.give_up();
                return Err(e);
            }
        }
    }
    Err(SnapshotError::Fenced)
}

/// Folds segments when there are many small ones. The snapshot stands whether or not that works.
fn fold_segments(repository: &Repository, monitor: &dyn Monitor) {
    if let Err(e) = merge::merge(repository, merge::When::AfterSnapshot) {
        monitor.event(Event::Note(&format!(
            "segments of the index could not be folded: {e}"
        )));
    }
}

/// One attempt under one session.
fn run(
    session: &Session<'_>,
    source: &mut dyn Source,
    options: &SnapshotOptions,
    monitor: &dyn Monitor,
) -> Result<(SnapshotReport, Commit), SnapshotError> {
    monitor.event(Event::Phase("reading the index"));
    session.repository().ensure_data_key()?;
    let view = session.view()?;
    let writer = Writer::new(session, view);
    let mut report = take(&writer, session.name(), source, options, monitor)?;
    writer.finish()?;
    report.manifest.new_stored = writer.stored().new_stored;
    let commit = session.commit(&report.manifest)?;
    Ok((report, commit))
}

fn dry_run(
    repository: &Repository,
    source: &mut dyn Source,
    options: &SnapshotOptions,
    monitor: &dyn Monitor,
) -> Result<SnapshotReport, SnapshotError> {
    let view = View::for_dry_run(repository)?;
    let writer = Writer::dry(repository, view);
    let mut report = take(&writer, Uuid([0; 16]), source, options, monitor)?;
    writer.finish()?;
    report.manifest.new_stored = writer.stored().new_stored;
    Ok(report)
}

/// Reads the source, stores what is new, and describes it in a manifest.
fn take(
    writer: &Writer<'_>,
    name: Uuid,
    source: &mut dyn Source,
    options: &SnapshotOptions,
    monitor: &dyn Monitor,
) -> Result<SnapshotReport, SnapshotError> {
    let repository = writer.reader().repository();
    let clock = &repository.environment().clock;
    let begun = clock.now();
    let paths = source.paths();
    let parent = if options.force {
        None
    } else {
        choose_parent(repository, options, &paths)?
    };
    let table = Arc::new(GearTable::derive(repository.keys().gear_key()));
    let cutter = Cutter::new(table, source.profile());
    if let Some(parent) = &parent {
        monitor.event(Event::Expect {
            bytes: parent.bytes,
            entries: parent.entries,
        });
    }
    monitor.event(Event::Phase("reading"));
    let taken = pool::run(
        writer,
        source,
        &cutter,
        parent.as_ref().and_then(|p| p.root),
        monitor,
    );
    let taken = taken.map_err(|e| match e {
        pool::RunError::Source(SourceError::Failed(why)) => SnapshotError::Source(why),
        pool::RunError::Source(SourceError::Stopped) => SnapshotError::Source("stopped".into()),
        pool::RunError::Access(e) => SnapshotError::Access(e),
    })?;
    let ended = clock.now();
    let took = (ended.seconds - begun.seconds) * 1000
        + (i64::from(ended.nanos) - i64::from(begun.nanos)) / 1_000_000;
    let mut manifest = describe(
        name,
        options,
        paths,
        &taken.problems,
        taken.root,
        taken.totals,
    );
    manifest.new_bytes = writer.stored().new_bytes;
    manifest.parent = parent.as_ref().map(|p| p.name);
    manifest.duration_ms = u64::try_from(took).unwrap_or(0);
    Ok(SnapshotReport {
        manifest,
        problems: taken.problems,
        parent: parent.map(|p| p.id),
    })
}

fn describe(
    name: Uuid,
    options: &SnapshotOptions,
    paths: Vec<Vec<u8>>,
    problems: &[Problem],
    root: Option<TreeRoot>,
    totals: Totals,
) -> Manifest {
    let mut tags = options.tags.clone();
    tags.sort();
    tags.dedup();
    // Short lines: a manifest is small but for what a user typed.
    let line = |p: &Problem| {
        let line = format!("{}: {}", String::from_utf8_lossy(&p.path), p.message);
        line.chars().take(200).collect()
    };
    Manifest {
        name,
        id: SnapshotId(crate::crypto::random()),
        time: options.time,
        zone_offset: options.zone_offset,
        host: options.host.clone(),
        user: options.user.clone(),
        paths,
        tags,
        label: options.label.clone(),
        root,
        entries: totals.entries,
        files: totals.files,
        bytes: totals.bytes,
        new_bytes: 0,
        new_stored: 0,
        incomplete: !problems.is_empty(),
        partial: false,
        parent: None,
        origin: None,
        program: options.program.clone(),
        problems: problems.iter().take(MAX_PROBLEMS).map(line).collect(),
        problem_count: problems.len() as u64,
        duration_ms: 0,
        unknown: Vec::new(),
    }
}

/// The newest snapshot of the same host and paths.
fn choose_parent(
    repository: &Repository,
    options: &SnapshotOptions,
    paths: &[Vec<u8>],
) -> Result<Option<Manifest>, AccessError> {
    let list = SnapshotList::read(repository)?;
    crate::gc::remember(repository, &list);
    let same = |m: &Manifest| m.host == options.host && m.paths == paths;
    Ok(list.committed.into_iter().rev().find(same))
}

//! Checkpoints (gc-protocol.md, "Checkpoint"): from time to time a run commits what it has so far
//! as a partial snapshot, and goes on under a new session with a new view.
//!
//! Decides when, and keeps the order of steps. That nothing is on its way to the repository
//! meanwhile is the matter of [`super::pool`].

use crate::clock::Timestamp;
use crate::error::AccessError;
use crate::format::objects::{Manifest, SessionKind};
use crate::id::Uuid;
use crate::monitor::{Event, Monitor};
use crate::session::{Commit, Session};
use crate::snapshot::Every;
use crate::snapshot::assemble::SoFar;
use crate::snapshot::intake::Problems;
use crate::snapshot::republish::store_missing;
use crate::writer::Writer;

/// Puts a partial snapshot into words.
pub(super) type Describe<'a> = &'a dyn Fn(Uuid, &SoFar, &Problems) -> Manifest;

/// Where a run stands between its checkpoints.
pub(super) struct Checkpoints<'a, 'r> {
    pub session: &'a mut Session<'r>,
    pub writer: &'a Writer<'r>,
    pub describe: Describe<'a>,
    pub every: Every,
    pub monitor: &'a dyn Monitor,
    /// When the last one was, or the run began.
    pub since: Timestamp,
    /// Bytes that were read since.
    pub read: u64,
    pub passed: &'a mut Passed,
}

/// What became of checkpoints.
#[derive(Debug, Default)]
pub(super) struct Passed {
    /// The partial snapshots that were committed.
    pub committed: Vec<Manifest>,
    /// What was read before is gone: only a new run can help.
    pub lost: bool,
}

impl Checkpoints<'_, '_> {
    /// Counts bytes that were read from the source.
    pub fn count(&mut self, bytes: u64) {
        self.read += bytes;
    }

    /// Whether enough was read, or is old enough, that it should not have to be read again.
    pub fn is_due(&self) -> bool {
        self.read > 0
            && (self.read >= self.every.bytes
                || self.now().seconds_since(self.since) >= self.every.seconds)
    }

    fn now(&self) -> Timestamp {
        self.session.repository().environment().clock.now()
    }

    /// Commits the tree so far, whose pages and chunks have been handed to the writer, and goes on
    /// under a new session.
    ///
    /// The run goes on to refer to all of that tree. Whoever condemned a pack of it did so before
    /// the new view read the lists, and then the view does not have the pack; or after the new
    /// session was there, and then waits for it. So if the new view has every pack of the last,
    /// nothing is to be done; else each id goes through the new view like those of a fenced
    /// writer. That also holds when the last session was fenced, and its snapshot is not there.
    pub fn take(&mut self, so_far: &SoFar, problems: &Problems) -> Result<(), AccessError> {
        self.writer.finish()?;
        let manifest = (self.describe)(self.session.name(), so_far, problems);
        let next = Session::open(self.session.repository(), SessionKind::Writer)?;
        let last = std::mem::replace(self.session, next);
        match last.commit(&manifest) {
            Ok(commit) => {
                last.close();
                self.note(&manifest, commit);
            }
            Err(e) => {
                last.give_up();
                return Err(e);
            }
        }
        let view = self.session.view()?;
        let covered = self.writer.go_on(self.session, view);
        #[cfg(test)]
        let covered = covered || crate::holes::is_open(crate::holes::Hole::BlindCheckpoint);
        if !covered {
            store_missing(self.writer, so_far.root).inspect_err(|e| {
                self.passed.lost = matches!(e, AccessError::LostChunk { .. });
            })?;
        }
        (self.since, self.read) = (self.now(), 0);
        Ok(())
    }

    fn note(&mut self, manifest: &Manifest, commit: Commit) {
        let note = match commit {
            Commit::Done => {
                self.passed.committed.push(manifest.clone());
                format!("checkpoint: partial snapshot {:.8}", manifest.id)
            }
            Commit::Fenced => "checkpoint: a gc took this run for dead; it goes on".to_owned(),
        };
        self.monitor.event(Event::Note(&note));
    }
}

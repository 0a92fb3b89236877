//! A member of a snapshot in a repository, as databases are handed it.

use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use hucha_store::browse::{self, BrowseError};
use hucha_store::entry::{Entry, Kind};
use hucha_store::format::objects::Manifest;
use hucha_store::member::{Member, StreamFacts};
use hucha_store::repository::Repository;

use super::error::{Cause, DatabaseError};
use super::{ReadStream, Stored, StoredStream, hand_out};
use crate::child::Stopper;

/// Pieces of a stream that wait for their reader, each of a chunk at most.
const AHEAD: usize = 8;

/// A member of a snapshot.
pub struct StoredMember<'r> {
    repository: &'r Repository,
    manifest: &'r Manifest,
    member: Member,
    streams: Vec<StoredStream>,
    stopper: Stopper,
}

impl<'r> StoredMember<'r> {
    /// Reads no further once this is stopped.
    #[must_use]
    pub fn until(mut self, stopper: &Stopper) -> StoredMember<'r> {
        self.stopper = stopper.clone();
        self
    }

    /// The member of a name; any file of a snapshot may be taken for a member of a kind, without
    /// what a member knows of itself.
    ///
    /// # Errors
    /// When the snapshot has no such member, or does not hold all of it.
    pub fn find(
        repository: &'r Repository,
        manifest: &'r Manifest,
        name: &str,
        kind: &str,
    ) -> Result<StoredMember<'r>, DatabaseError> {
        let known = manifest.members.iter().find(|member| member.name == name);
        if let Some(why) = known.and_then(|member| member.failed.as_ref()) {
            let what = format!("\"{name}\" failed when this snapshot was taken: {why}");
            return Err(DatabaseError::new(Cause::Absent, what).hint("take an older snapshot"));
        }
        let mut streams = Vec::new();
        let mut each = |entry: &Entry| {
            if entry.kind == Kind::File {
                streams.push(stream(entry, name));
            }
            ControlFlow::Continue(())
        };
        let listed = browse::list(repository, manifest, name.as_bytes(), true, &mut each);
        listed.map_err(|e| unreadable(e, name, manifest))?;
        let member = match known {
            Some(member) => member.clone(),
            None if streams.iter().map(|s| s.name.as_str()).eq([""]) => Member {
                name: name.to_owned(),
                kind: kind.to_owned(),
                ..Member::default()
            },
            None => return Err(no_member(name, manifest)),
        };
        if known.is_some_and(|member| member.streams != streams.len() as u64) {
            let what = format!("the snapshot holds only a part of \"{name}\"");
            let error = DatabaseError::new(Cause::Incomplete, what);
            return Err(error.hint("it was rewritten without some of its files: take another one"));
        }
        Ok(StoredMember {
            repository,
            manifest,
            member,
            streams,
            stopper: Stopper::default(),
        })
    }
}

fn stream(entry: &Entry, member: &str) -> StoredStream {
    let path = String::from_utf8_lossy(&entry.path);
    let below = path.strip_prefix(member).unwrap_or(&path);
    StoredStream {
        name: below.trim_start_matches('/').to_owned(),
        size: entry.meta.size,
        facts: StreamFacts::of_attributes(&entry.xattrs).unwrap_or_default(),
    }
}

fn no_member(name: &str, manifest: &Manifest) -> DatabaseError {
    let what = match name.is_empty() {
        true => "which member of the snapshot?".to_owned(),
        false => format!("the snapshot has no member \"{name}\""),
    };
    let names: Vec<&str> = manifest.members.iter().map(|m| m.name.as_str()).collect();
    let hint = match names.is_empty() {
        true => "it has none: databases become members with `hucha snapshot --source`".to_owned(),
        false => format!("it has: {}", names.join(", ")),
    };
    DatabaseError::new(Cause::Absent, what).hint(hint)
}

fn unreadable(error: BrowseError, name: &str, manifest: &Manifest) -> DatabaseError {
    match error {
        BrowseError::NotFound(_) => no_member(name, manifest),
        BrowseError::Access(e) if e.is_damage() => {
            let what = format!("\"{name}\" is damaged in the repository: {e}");
            DatabaseError::new(Cause::Damaged, what)
                .hint("try an older snapshot; `hucha check --read-data` tells what is affected")
        }
        other => DatabaseError::new(Cause::Failed, format!("\"{name}\" cannot be read: {other}")),
    }
}

impl Stored for StoredMember<'_> {
    fn member(&self) -> &Member {
        &self.member
    }

    fn streams(&self) -> &[StoredStream] {
        &self.streams
    }

    fn read(&self, name: &str, read: ReadStream<'_>) -> Result<(), DatabaseError> {
        let path = match name.is_empty() {
            true => self.member.name.clone(),
            false => format!("{}/{name}", self.member.name),
        };
        std::thread::scope(|scope| {
            let (sender, receiver) = sync_channel(AHEAD);
            let path = &path;
            let pour = scope.spawn(move || {
                let mut out = Sending(sender);
                let all = browse::cat(self.repository, self.manifest, path.as_bytes(), &mut out);
                // Only now may the reader take the end for the end.
                let end = all.as_ref().map(|_| Vec::new()).map_err(|_| ());
                let _ = out.0.send(end);
                all
            });
            let mut receiving = Receiving {
                receiver,
                piece: Vec::new(),
                given: 0,
                ended: false,
                stopper: &self.stopper,
            };
            let taken = read(&mut receiving);
            // A reader that wanted no more lets the other side end.
            drop(receiving);
            match pour.join() {
                Ok(_) if self.stopper.is_stopped() => Err(DatabaseError::stopped()),
                Ok(Err(BrowseError::Output(_)) | Ok(_)) => taken,
                // What the repository says tells more than what became of it.
                Ok(Err(error)) => Err(unreadable(error, path, self.manifest)),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }
}

/// A piece, an empty one at the end, or that it failed.
type Sent = Result<Vec<u8>, ()>;

struct Sending(SyncSender<Sent>);

impl Write for Sending {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let sent = self.0.send(Ok(bytes.to_vec()));
        sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Receiving<'s> {
    receiver: Receiver<Sent>,
    stopper: &'s Stopper,
    piece: Vec<u8>,
    given: usize,
    ended: bool,
}

impl Read for Receiving<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.given == self.piece.len() && !self.ended {
            let broken = || io::Error::other("the snapshot cannot be read");
            if self.stopper.is_stopped() {
                return Err(io::Error::other("stopped"));
            }
            match self.receiver.recv() {
                Ok(Ok(piece)) => (self.ended, self.piece) = (piece.is_empty(), piece),
                Ok(Err(())) | Err(_) => return Err(broken()),
            }
            self.given = 0;
        }
        Ok(hand_out(&self.piece, &mut self.given, buffer))
    }
}

//! Sessions: what protects a writer's packs and reuses until its snapshot is committed
//! (gc-protocol.md, "Writer").
//!
//! Decides when a session's object may be put and deleted; what is written under its protection is
//! the matter of [`crate::writer`].

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::backend::{Area, Backend, BackendError, Key, Put, Trouble};
use crate::copies;
use crate::crypto::{Kind, fresh_uuid};
use crate::error::AccessError;
use crate::format::objects::{
    Manifest, SessionInfo, SessionKind, SnapshotObject, encode_heartbeat,
};
use crate::id::Uuid;
use crate::repository::{Repository, named_key, uuid_key};
use crate::sealed::Sealed;
use crate::view::{Acknowledged, Condemned, View};

/// How often an open session shows that it is alive.
const HEARTBEAT: Duration = Duration::from_secs(60);
/// How often a commit whose answer was lost is tried again.
const COMMIT_TRIES: usize = 5;

/// An open session.
pub(crate) struct Session<'r> {
    repository: &'r Repository,
    name: Uuid,
    kind: SessionKind,
    proof: Acknowledged,
    pulse: Option<Pulse>,
}

/// How a commit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Commit {
    /// The manifest stands under the session's name.
    Done,
    /// A tombstone stands there: a collector took this writer for dead.
    Fenced,
}

impl<'r> Session<'r> {
    /// Puts the session's object and goes on only when that is acknowledged: nothing that was read
    /// before may decide a reuse (writer step 1, collector step 1).
    pub fn open(repository: &'r Repository, kind: SessionKind) -> Result<Session<'r>, AccessError> {
        let environment = repository.environment();
        let name = fresh_uuid();
        let info = SessionInfo {
            name,
            kind,
            process: environment.process.clone(),
            started: environment.clock.now(),
        };
        let key = uuid_key(Area::Sessions, name);
        match repository.put_object(&key, Kind::Session, &info.encode())? {
            Put::Created => {}
            Put::Exists => return Err(AccessError::NotFresh(key.to_string())),
        }
        let pulse = (environment.threads > 0).then(|| Pulse::start(repository, name));
        Ok(Session {
            repository,
            name,
            kind,
            proof: Acknowledged::of_session(),
            pulse,
        })
    }

    /// Its name, and that of the snapshot that it may commit.
    pub fn name(&self) -> Uuid {
        self.name
    }

    /// The repository.
    pub fn repository(&self) -> &'r Repository {
        self.repository
    }

    /// Steps 2 and 3: the lists in force, then index and packs.
    pub fn view(&self) -> Result<View<'r>, AccessError> {
        let condemned = Condemned::read(self.repository, &self.proof)?;
        View::read(self.repository, condemned)
    }

    /// Step 6: puts the manifest if the name is free. A refusal, or no answer, is cleared up by
    /// looking.
    ///
    /// # Errors
    /// When it cannot be known whether the snapshot is committed; the session stays then.
    pub fn commit(&self, manifest: &Manifest) -> Result<Commit, AccessError> {
        debug_assert!(self.kind == SessionKind::Writer && manifest.name == self.name);
        let key = uuid_key(Area::Snapshots, self.name);
        let object = SnapshotObject::Manifest(Box::new(manifest.clone()));
        let mut trouble = None;
        for tries in 1..=COMMIT_TRIES {
            match self
                .repository
                .put_object(&key, Kind::Snapshot, &object.encode())
            {
                Ok(Put::Created) => return Ok(self.done(manifest)),
                Ok(Put::Exists) => {}
                // Asked again until a put is answered: only that says that the manifest is durable.
                Err(e) if is_uncertain(&e) && tries < COMMIT_TRIES => {
                    trouble = Some(e);
                    continue;
                }
                Err(e) if is_uncertain(&e) => trouble = Some(e),
                Err(e) => return Err(e.into()),
            }
            match read_snapshot(self.repository, self.name) {
                Ok(Some(found)) if found == object => return Ok(self.done(manifest)),
                Ok(Some(SnapshotObject::Tombstone { .. })) => return Ok(Commit::Fenced),
                Ok(Some(_)) => return Err(AccessError::NotFresh(key.to_string())),
                Ok(None) => {}
                Err(AccessError::Backend(e)) => trouble = Some(e),
                Err(e) => return Err(e),
            }
        }
        let unknown = || BackendError {
            operation: crate::backend::Operation::Put,
            key: key.to_string(),
            trouble: Trouble::Unknown,
            retry: true,
            source: None,
        };
        Err(trouble.unwrap_or_else(unknown).into())
    }

    /// The manifest stands: its copy may follow.
    fn done(&self, manifest: &Manifest) -> Commit {
        copies::put_manifest(self.repository, manifest);
        Commit::Done
    }

    /// Step 7: settles the own name with a tombstone, then removes the session. When the tombstone
    /// is not acknowledged the session stays, for gc to fence.
    pub fn give_up(mut self) {
        self.pulse.take();
        #[cfg(test)]
        if crate::holes::is_open(crate::holes::Hole::FreeName) {
            self.remove();
            return;
        }
        if settle(self.repository, self.name).is_ok() {
            self.remove();
        }
    }

    /// Step 8 for a writer whose name is known to be settled; the end of a collector.
    pub fn close(mut self) {
        self.pulse.take();
        self.remove();
    }

    /// Whoever may not delete leaves the session to gc.
    fn remove(&self) {
        let _ = self
            .repository
            .backend()
            .delete(&uuid_key(Area::Sessions, self.name));
    }
}

/// Whether a put may have been carried out in spite of its error.
fn is_uncertain(error: &BackendError) -> bool {
    matches!(error.trouble, Trouble::Unknown | Trouble::Other)
}

/// Puts a tombstone at a name, if it is free: whatever the answer, the name is settled afterwards.
///
/// # Errors
/// When there was no answer.
pub(crate) fn settle(repository: &Repository, name: Uuid) -> Result<(), AccessError> {
    let key = uuid_key(Area::Snapshots, name);
    let tombstone = SnapshotObject::Tombstone { name };
    repository.put_object(&key, Kind::Snapshot, &tombstone.encode())?;
    Ok(())
}

/// What stands at `snapshots/<name>`; `None` when nothing does.
pub(crate) fn read_snapshot(
    repository: &Repository,
    name: Uuid,
) -> Result<Option<SnapshotObject>, AccessError> {
    read_object(repository, &uuid_key(Area::Snapshots, name), name)
}

/// What the copy of `snapshots/<name>` holds; `None` when there is none.
pub(crate) fn read_copy(
    repository: &Repository,
    name: Uuid,
) -> Result<Option<Box<Manifest>>, AccessError> {
    let key = copies::copy_key(Area::Snapshots, name);
    match read_object(repository, &key, name)? {
        Some(SnapshotObject::Manifest(manifest)) => Ok(Some(manifest)),
        Some(_) => Err(AccessError::damaged(&key, "it is no manifest")),
        None => Ok(None),
    }
}

fn read_object(
    repository: &Repository,
    key: &Key,
    name: Uuid,
) -> Result<Option<SnapshotObject>, AccessError> {
    let Some(fields) = repository.get_object(key, Kind::Snapshot)? else {
        return Ok(None);
    };
    let object = SnapshotObject::decode(&fields).map_err(|e| AccessError::damaged(key, e))?;
    if object.name() == name {
        Ok(Some(object))
    } else {
        Err(AccessError::damaged(key, "it bears another name"))
    }
}

/// The thread that puts `sessions/<s>.<k>` once a minute.
struct Pulse {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Pulse {
    fn start(repository: &Repository, name: Uuid) -> Pulse {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let backend = repository.shared_backend();
        let seal = repository.object_sealer(Kind::Session);
        let waiting = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("heartbeat".into())
            .spawn(move || {
                beat(&*backend, &seal, name, &waiting);
            });
        Pulse {
            stop,
            thread: thread.ok(),
        }
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        if let Ok(mut stopped) = self.stop.0.lock() {
            *stopped = true;
        }
        self.stop.1.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn beat(
    backend: &dyn Backend,
    seal: &dyn Fn(&[u8]) -> Sealed,
    name: Uuid,
    stop: &(Mutex<bool>, Condvar),
) {
    let key = |k: u64| named_key(Area::Sessions, format_args!("{name}.{k}"));
    let mut put = 0;
    loop {
        let Ok(stopped) = stop.0.lock() else { break };
        let waited = stop
            .1
            .wait_timeout_while(stopped, HEARTBEAT, |stopped| !*stopped);
        match waited {
            Ok((stopped, _)) if !*stopped => {}
            _ => break,
        }
        if backend
            .put(&key(put + 1), &seal(&encode_heartbeat(name, put + 1)))
            .is_ok()
        {
            if put > 0 {
                let _ = backend.delete(&key(put));
            }
            put += 1;
        }
    }
    if put > 0 {
        let _ = backend.delete(&key(put));
    }
}

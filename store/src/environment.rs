//! What the core is handed by its caller: it reads no environment, home folder or wall clock of
//! its own.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use crate::clock::Clock;
use crate::format::objects::HostIdentity;

/// Everything from outside that an open repository needs.
#[derive(Clone)]
pub struct Environment {
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// This process.
    pub process: HostIdentity,
    /// Judges other processes.
    pub liveness: Arc<dyn Liveness>,
    /// What this machine remembers between runs.
    pub state: Arc<dyn LocalState>,
    /// Folder of this repository's local cache: the index and spool files. Without it both are in
    /// memory.
    pub cache: Option<PathBuf>,
    /// Threads that encode and decode. 0 does everything in the calling thread, in an order that
    /// depends on nothing but the input; sessions then have no heartbeat.
    pub threads: usize,
}

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Environment")
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}

/// What became of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It runs on this host.
    Alive,
    /// It ran on this host and is gone.
    Gone,
    /// It runs, or ran, where this process cannot see.
    Elsewhere,
}

/// Tells whether the process behind a session is gone. A hint for liveness: no safety depends on
/// it.
pub trait Liveness: Send + Sync {
    /// Judges one process.
    fn judge(&self, process: &HostIdentity) -> Fate;
}

/// Judges nobody: every process is elsewhere.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoLiveness;

impl Liveness for NoLiveness {
    fn judge(&self, _: &HostIdentity) -> Fate {
        Fate::Elsewhere
    }
}

/// Small blobs that this machine keeps for one repository between runs. Losing them is harmless.
pub trait LocalState: Send + Sync {
    /// What was stored under a name (`[a-z0-9.-]`).
    fn load(&self, name: &str) -> Option<Vec<u8>>;

    /// Stores a blob, replacing what was there; failures are ignored.
    fn store(&self, name: &str, bytes: &[u8]);

    /// Removes a blob.
    fn remove(&self, name: &str);

    /// The names of all blobs that begin with `prefix`.
    fn names(&self, prefix: &str) -> Vec<String>;
}

/// State that lasts as long as the process; clones share it.
#[derive(Debug, Clone, Default)]
pub struct MemoryState(Arc<Mutex<std::collections::BTreeMap<String, Vec<u8>>>>);

impl LocalState for MemoryState {
    fn load(&self, name: &str) -> Option<Vec<u8>> {
        self.0.lock().ok()?.get(name).cloned()
    }

    fn store(&self, name: &str, bytes: &[u8]) {
        if let Ok(mut map) = self.0.lock() {
            map.insert(name.to_owned(), bytes.to_vec());
        }
    }

    fn remove(&self, name: &str) {
        if let Ok(mut map) = self.0.lock() {
            map.remove(name);
        }
    }

    fn names(&self, prefix: &str) -> Vec<String> {
        let Ok(map) = self.0.lock() else {
            return Vec::new();
        };
        map.keys()
            .filter(|n| n.starts_with(prefix))
            .cloned()
            .collect()
    }
}

/// State in files of one folder, 0600. A full disk loses state, nothing else.
#[derive(Debug, Clone)]
pub struct FolderState(pub PathBuf);

impl LocalState for FolderState {
    fn load(&self, name: &str) -> Option<Vec<u8>> {
        std::fs::read(self.0.join(name)).ok()
    }

    fn store(&self, name: &str, bytes: &[u8]) {
        let temporary = self
            .0
            .join(format!("{name}.{}.new", crate::crypto::fresh_uuid()));
        let mut options = std::fs::File::options();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let write = || {
            let mut file = options.open(&temporary)?;
            std::io::Write::write_all(&mut file, bytes)?;
            std::fs::rename(&temporary, self.0.join(name))
        };
        if write().is_err() {
            let _ = std::fs::remove_file(&temporary);
        }
    }

    fn remove(&self, name: &str) {
        let _ = std::fs::remove_file(self.0.join(name));
    }

    fn names(&self, prefix: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(&self.0) else {
            return Vec::new();
        };
        let names = entries
            .flatten()
            .filter_map(|e| e.file_name().into_string().ok());
        let mut names: Vec<_> = names
            .filter(|n| n.starts_with(prefix) && !n.ends_with(".new"))
            .collect();
        names.sort();
        names
    }
}

//! What tests of this crate share: sources in memory, repositories in memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::backend::{Backend, Memory};
use crate::clock::{FixedClock, Timestamp};
use crate::crypto::Encryption;
use crate::entry::{Entry, Kind, Meta, parent_of};
use crate::environment::{Environment, MemoryState, NoLiveness};
use crate::format::objects::{HostIdentity, Manifest, SessionKind};
use crate::id::{BaseRef, ChunkId};
use crate::index::{Applied, Apply, Found, Index, IndexError, KnownPack, Load, MemoryIndex};
use crate::monitor::Silent;
use crate::record::World;
use crate::repository::{Credential, InitOptions, Repository};
use crate::session::Session;
use crate::snapshot::{SnapshotOptions, SnapshotReport, snapshot};
use crate::source::{ContentError, Contents, Piece, Sink, Source, SourceError};
use crate::writer::Writer;

/// A file tree in memory.
#[derive(Debug, Clone, Default)]
pub(crate) struct MapSource {
    pub files: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Number of files opened so far.
    pub opened: u64,
}

struct Bytes<'a>(&'a [u8]);

impl Contents for Bytes<'_> {
    fn next(&mut self, buffer: &mut [u8]) -> Result<Piece, ContentError> {
        let n = self.0.len().min(buffer.len());
        if n == 0 {
            return Ok(Piece::End);
        }
        let (head, rest) = self.0.split_at(n);
        buffer[..n].copy_from_slice(head);
        self.0 = rest;
        Ok(Piece::Data(n))
    }

    fn skip(&mut self, bytes: u64) -> Result<bool, ContentError> {
        self.0 = self.0.get(bytes as usize..).unwrap_or_default();
        Ok(true)
    }
}

impl Source for MapSource {
    fn paths(&self) -> Vec<Vec<u8>> {
        vec![b"/map".to_vec()]
    }

    fn push(&mut self, sink: &mut dyn Sink) -> Result<(), SourceError> {
        let mut entries: Vec<(Vec<u8>, Option<&Vec<u8>>)> = Vec::new();
        for (path, bytes) in &self.files {
            entries.push((path.clone(), Some(bytes)));
            let mut at = parent_of(path);
            while let Some(folder) = at.filter(|f| !f.is_empty()) {
                entries.push((folder.to_vec(), None));
                at = parent_of(folder);
            }
        }
        entries.sort_by(|a, b| crate::entry::path_order(&a.0, &b.0));
        entries.dedup_by(|a, b| a.0 == b.0);
        for (path, bytes) in entries {
            let Some(bytes) = bytes else {
                sink.entry(folder_entry(path), None)?;
                continue;
            };
            let opened = &mut self.opened;
            let mut open = || {
                *opened += 1;
                Ok(Box::new(Bytes(bytes)) as Box<dyn Contents>)
            };
            sink.entry(file_entry(path, bytes), Some(&mut open))?;
        }
        Ok(())
    }
}

/// The inode and times tell the content, so that equal files count as unchanged.
fn file_entry(path: Vec<u8>, bytes: &[u8]) -> Entry {
    let hash = blake3::hash(bytes);
    let inode = u64::from_le_bytes(hash.as_bytes()[..8].try_into().unwrap()) | 1;
    let meta = Meta {
        mode: 0o644,
        inode,
        size: bytes.len() as u64,
        ..Meta::default()
    };
    Entry {
        path,
        kind: Kind::File,
        meta,
        content: Default::default(),
        xattrs: vec![],
        group: None,
    }
}

fn folder_entry(path: Vec<u8>) -> Entry {
    let meta = Meta {
        mode: 0o755,
        ..Meta::default()
    };
    Entry {
        path,
        kind: Kind::Folder,
        meta,
        content: Default::default(),
        xattrs: vec![],
        group: None,
    }
}

/// A cache that another process may hold, and that may fail at some look-up.
#[derive(Default)]
pub(crate) struct Moody {
    pub inner: MemoryIndex,
    pub busy: AtomicBool,
    /// Look-ups until the one that fails; 0: none does.
    pub fails_in: AtomicUsize,
    /// Look-ups so far.
    pub found: AtomicUsize,
}

impl Index for Moody {
    fn applied(&self) -> Result<Vec<Applied>, IndexError> {
        self.inner.applied()
    }

    fn load(&self, load: &mut dyn Load) -> Result<Apply, IndexError> {
        if self.busy.load(Ordering::Relaxed) {
            return Ok(Apply::Busy);
        }
        self.inner.load(load)
    }

    fn find(&self, id: &ChunkId) -> Result<Option<Found>, IndexError> {
        self.found.fetch_add(1, Ordering::Relaxed);
        let left = self.fails_in.load(Ordering::Relaxed);
        self.fails_in
            .store(left.saturating_sub(1), Ordering::Relaxed);
        if left == 1 {
            return Err(IndexError("it fails".into()));
        }
        self.inner.find(id)
    }

    fn find_base(&self, base: &BaseRef) -> Result<Vec<Found>, IndexError> {
        self.inner.find_base(base)
    }

    fn scan(&self, after: Option<&ChunkId>, limit: usize) -> Result<Vec<Found>, IndexError> {
        self.inner.scan(after, limit)
    }

    fn packs(&self) -> Result<Vec<KnownPack>, IndexError> {
        self.inner.packs()
    }

    fn generation(&self) -> Result<u64, IndexError> {
        self.inner.generation()
    }

    fn clear(&self) -> Result<(), IndexError> {
        self.inner.clear()
    }
}

/// Everything from outside, for a test.
pub(crate) fn environment(threads: usize) -> Environment {
    Environment {
        clock: Arc::new(FixedClock(Timestamp {
            seconds: 1_000_000,
            nanos: 0,
        })),
        process: HostIdentity {
            host: "test".into(),
            ..HostIdentity::default()
        },
        liveness: Arc::new(NoLiveness),
        state: Arc::new(MemoryState::default()),
        cache: None,
        threads,
    }
}

/// The password of encrypted test repositories. Deriving a key takes a moment: few tests do.
pub(crate) fn credential(encryption: Encryption) -> Credential {
    match encryption {
        Encryption::None => Credential::None,
        Encryption::XChaCha20Poly1305 => {
            Credential::KeyFile(crate::crypto::KeyFile(zeroize::Zeroizing::new([7; 32])))
        }
    }
}

/// A new repository in memory.
pub(crate) fn new_repository(encryption: Encryption, threads: usize) -> (Memory, Repository) {
    let memory = Memory::default();
    let options = InitOptions {
        encryption,
        label: String::new(),
    };
    let backend: Arc<dyn Backend> = Arc::new(memory.clone());
    let repository = Repository::init(
        backend,
        &credential(encryption),
        &options,
        environment(threads),
    )
    .unwrap();
    (memory, repository)
}

/// Opens one that exists, with nothing remembered.
pub(crate) fn open(memory: &Memory, encryption: Encryption, threads: usize) -> Repository {
    let backend: Arc<dyn Backend> = Arc::new(memory.clone());
    Repository::open(backend, &credential(encryption), environment(threads)).unwrap()
}

/// Takes a snapshot of a source.
pub(crate) fn take(repository: &Repository, source: &mut MapSource) -> SnapshotReport {
    let options = SnapshotOptions {
        host: "test".into(),
        ..SnapshotOptions::default()
    };
    snapshot(repository, source, &options, &Silent::default()).unwrap()
}

/// Takes a snapshot a night of so many files of one chunk each, which are stored as deltas of the
/// same file and of its neighbour a night before. Answers what each night held.
pub(crate) fn chained_nights(
    repository: &Repository,
    nights: usize,
    files: usize,
) -> Vec<(Manifest, MapSource)> {
    let mut source = MapSource::default();
    for i in 0..files {
        let path = format!("f{i}").into_bytes();
        source.files.insert(path, noise(20_000, &i.to_string()));
    }
    let mut last: Vec<ChunkId> = Vec::new();
    let mut taken = Vec::new();
    for night in 0..nights {
        let session = Session::open(repository, SessionKind::Writer).unwrap();
        let writer = Writer::new(&session, session.view().unwrap());
        let mut lane = writer.lane(World::Content);
        let mut now = Vec::new();
        for (i, plain) in source.files.values_mut().enumerate() {
            plain[200 * night + i] ^= 1;
            let bases = [i, i + 1].map(|n| last.get(n % files).copied());
            let bases: Vec<ChunkId> = bases.into_iter().flatten().collect();
            now.push(lane.store(plain, &bases).unwrap().id);
        }
        lane.flush().unwrap();
        writer.finish().unwrap();
        session.give_up();
        last = now;
        let mut all = source.clone();
        taken.push((take(repository, &mut all).manifest, all));
    }
    taken
}

thread_local! {
    static SINGLE: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// From now on every record of this thread holds one chunk, and every pack one record.
pub(crate) fn single_chunks(single: bool) {
    SINGLE.with(|s| s.set(single));
}

/// Whether it is so.
pub(crate) fn is_single() -> bool {
    SINGLE.with(std::cell::Cell::get)
}

/// Bytes that do not compress and follow from a seed.
pub(crate) fn noise(n: usize, seed: &str) -> Vec<u8> {
    let mut out = vec![0; n];
    blake3::Hasher::new()
        .update(seed.as_bytes())
        .finalize_xof()
        .fill(&mut out);
    out
}

/// A file system of its own in memory, unmounted when this goes. There is one at a time: a process
/// that another test starts, to mount its own, holds for a moment copies of the files that this one
/// has open, and so the room of those that it deletes.
#[cfg(target_os = "linux")]
pub(crate) struct SmallDisk {
    folder: tempfile::TempDir,
    _only: std::sync::MutexGuard<'static, ()>,
}

#[cfg(target_os = "linux")]
impl SmallDisk {
    /// Mounts one of so many bytes (`1m`). Where that is refused it says so, past the harness,
    /// which shows nothing of a test that passes.
    pub fn mount(size: &str) -> Option<SmallDisk> {
        static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
        let only = ONE.lock();
        let _only = only.unwrap_or_else(std::sync::PoisonError::into_inner);
        let folder = tempfile::tempdir().unwrap();
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]);
        let mounted = mount.arg(folder.path()).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(SmallDisk { folder, _only });
        }
        let line = b"!!! SKIPPED: mounting a small disk needs root\n";
        let _ = std::io::Write::write_all(&mut std::io::stderr(), line);
        None
    }

    /// Where it is.
    pub fn path(&self) -> &std::path::Path {
        self.folder.path()
    }
}

#[cfg(target_os = "linux")]
impl Drop for SmallDisk {
    fn drop(&mut self) {
        let mut umount = std::process::Command::new("umount");
        drop(umount.arg("-l").arg(self.path()).status());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Area;
    use crate::browse;
    use crate::forget::{forget, undelete};
    use crate::gc::{GcOptions, gc};
    use crate::notes::Notes;
    use crate::snapshots::SnapshotList;

    fn read(repository: &Repository, report: &SnapshotReport, path: &str) -> Vec<u8> {
        let mut out = Vec::new();
        browse::cat(repository, &report.manifest, path.as_bytes(), &mut out).unwrap();
        out
    }

    fn sample() -> MapSource {
        let mut source = MapSource::default();
        for i in 0..500u32 {
            let bytes = noise((i * 37 % 9000) as usize, &i.to_string());
            source
                .files
                .insert(format!("d{}/f{i}", i % 7).into_bytes(), bytes);
        }
        source
            .files
            .insert(b"large".to_vec(), noise(5_000_000, "large"));
        source
    }

    #[test]
    fn what_goes_in_comes_out() {
        for encryption in [Encryption::None, Encryption::XChaCha20Poly1305] {
            for threads in [0, 3] {
                let (memory, repository) = new_repository(encryption, threads);
                let mut source = sample();
                let report = take(&repository, &mut source);
                assert_eq!(report.manifest.files, 501);
                let other = open(&memory, encryption, threads);
                for (path, bytes) in &source.files {
                    let path = String::from_utf8(path.clone()).unwrap();
                    assert!(read(&other, &report, &path) == *bytes, "{path}");
                }
            }
        }
    }

    #[test]
    fn an_unchanged_second_snapshot_opens_nothing_and_puts_session_manifest_and_copy() {
        let (memory, _) = new_repository(Encryption::XChaCha20Poly1305, 0);
        let mut source = sample();
        take(
            &open(&memory, Encryption::XChaCha20Poly1305, 2),
            &mut source,
        );
        let counting = Arc::new(crate::backend::Counting::with_log(memory.clone()));
        let backend: Arc<dyn Backend> = counting.clone();
        let credential = credential(Encryption::XChaCha20Poly1305);
        let repository = Repository::open(backend, &credential, environment(2)).unwrap();
        source.opened = 0;
        let report = take(&repository, &mut source);
        assert_eq!(source.opened, 0);
        assert_eq!(report.manifest.new_bytes, 0);
        let areas: Vec<Area> = counting
            .stored()
            .iter()
            .map(crate::backend::Key::area)
            .collect();
        assert_eq!(areas, vec![Area::Sessions, Area::Snapshots, Area::Copies]);
    }

    #[test]
    fn forget_gc_and_undelete() {
        let (memory, repository) = new_repository(Encryption::XChaCha20Poly1305, 0);
        let mut source = sample();
        let first = take(&repository, &mut source);
        source
            .files
            .insert(b"large".to_vec(), noise(4_000_000, "other"));
        let second = take(&repository, &mut source);
        let full = memory.total_bytes();
        let nothing = Notes::default();
        assert!(forget(&repository, &first.manifest, &nothing).unwrap());
        assert!(!forget(&repository, &first.manifest, &nothing).unwrap());
        let again = undelete(&repository, &first.manifest).unwrap();
        assert_eq!(again.origin, Some(first.manifest.name));
        assert!(
            undelete(&repository, &first.manifest).is_err(),
            "it is there already"
        );
        assert!(forget(&repository, &again, &nothing).unwrap());
        let report = gc(&repository, &GcOptions::default(), &Silent::default()).unwrap();
        assert!(report.bytes_freed > 4_000_000, "{report:?}");
        assert!(memory.total_bytes() < full - 4_000_000);
        for (path, bytes) in &source.files {
            let path = String::from_utf8(path.clone()).unwrap();
            assert!(read(&repository, &second, &path) == *bytes);
        }
        assert!(undelete(&repository, &first.manifest).is_err());
        let list = SnapshotList::read(&repository).unwrap();
        assert_eq!(list.committed.len(), 1);
        let report = gc(&repository, &GcOptions::default(), &Silent::default()).unwrap();
        assert_eq!(
            (report.packs_deleted, report.planned_packs),
            (0, 0),
            "{report:?}"
        );
    }
}

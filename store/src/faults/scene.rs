//! Histories of small repositories, and the judgement of what stands after an operation.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex};

use crate::backend::{Area, Backend, Key, Memory};
use crate::browse;
use crate::check::{CheckOptions, Level, check};
use crate::crypto::{Encryption, KeyFile};
use crate::entry::Entry;
use crate::environment::{Environment, LocalState, MemoryState};
use crate::forget::mark;
use crate::format::objects::{Manifest, SessionKind};
use crate::gc::{Fence, GcOptions, GcReport, MaxUnused, gc};
use crate::id::Uuid;
use crate::monitor::Silent;
use crate::record::World;
use crate::repair::config::find;
use crate::repair::{ConfigState, Lost, RepairOptions, RepairReport, repair};
use crate::repository::{Credential, InitOptions, OpenError, Repository};
use crate::restore::{RestoreError, RestoreOptions, RestoreReport, restore};
use crate::session::Session;
use crate::snapshots::SnapshotList;
use crate::target::{Existing, Found, Kept, Listed, Target, TargetError, TargetFile};
use crate::testing::{MapSource, credential, environment, noise, take};
use crate::writer::Writer;

/// A snapshot, and what it must give back.
#[derive(Clone)]
pub(super) struct Known {
    pub manifest: Manifest,
    pub source: MapSource,
}

/// A repository with a history, and the machine that made it.
#[derive(Clone)]
pub(super) struct Scene {
    pub memory: Memory,
    encryption: Encryption,
    state: MemoryState,
    /// Snapshots that stand, oldest first.
    pub kept: Vec<Known>,
    /// Snapshots that are forgotten.
    pub forgotten: Vec<Known>,
    /// Something is damaged that a repair has not met yet: the snapshots that still give back
    /// everything.
    damaged: Option<BTreeSet<Uuid>>,
}

/// Files of some sizes: inline, one chunk, several chunks in one record. `version` changes some.
pub(super) fn source(version: u32) -> MapSource {
    let mut source = MapSource::default();
    let mut file = |path: &str, len: usize, seed: String| {
        source
            .files
            .insert(path.as_bytes().to_vec(), noise(len, &seed));
    };
    file("inline", 40, format!("inline {version}"));
    file("same", 5_000, "same".into());
    file("a/changed", 3_000, format!("changed {version}"));
    file("a/b/large", 40_000, format!("large {}", version / 2));
    file("a/b/other", 2_000, format!("other {version}"));
    source
}

/// A key file beside the one that repositories are made with.
pub(super) fn second_key() -> Credential {
    Credential::KeyFile(KeyFile(zeroize::Zeroizing::new([8; 32])))
}

/// How everything that can go goes.
pub(super) fn thorough() -> GcOptions {
    GcOptions {
        max_unused: MaxUnused::Bytes(0),
        force: true,
        fence: Fence::Now,
        ..GcOptions::default()
    }
}

impl Scene {
    /// An empty place.
    pub fn nothing() -> Scene {
        Scene {
            memory: Memory::new(),
            encryption: Encryption::XChaCha20Poly1305,
            state: MemoryState::default(),
            kept: Vec::new(),
            forgotten: Vec::new(),
            damaged: None,
        }
    }

    /// A new repository that a key file opens.
    pub fn locked() -> Scene {
        Scene::nothing().made()
    }

    /// A new repository without encryption: most of the time goes by sealing else.
    pub fn empty() -> Scene {
        let encryption = Encryption::None;
        let scene = Scene {
            encryption,
            ..Scene::nothing()
        };
        scene.made()
    }

    fn made(self) -> Scene {
        self.init(Arc::new(self.memory.clone()))
            .expect("an init without faults succeeds");
        self
    }

    /// An independent copy; its machine remembers the same.
    pub fn fork(&self) -> Scene {
        let state = MemoryState::default();
        for name in self.state.names("") {
            let bytes = self.state.load(&name).unwrap_or_default();
            state.store(&name, &bytes);
        }
        Scene {
            memory: self.memory.fork(),
            state,
            ..self.clone()
        }
    }

    /// The same, with these objects.
    pub fn with(&self, memory: Memory) -> Scene {
        Scene {
            memory,
            ..self.clone()
        }
    }

    /// The same repository for a machine that never saw it.
    pub fn stranger(&self) -> Scene {
        Scene {
            state: MemoryState::default(),
            ..self.clone()
        }
    }

    fn environment(&self) -> Environment {
        Environment {
            state: Arc::new(self.state.clone()),
            ..environment(0)
        }
    }

    pub fn init(&self, backend: Arc<dyn Backend>) -> Result<Repository, OpenError> {
        let options = InitOptions {
            encryption: self.encryption,
            label: String::new(),
        };
        Repository::init(
            backend,
            &credential(self.encryption),
            &options,
            self.environment(),
        )
    }

    pub fn open_at(&self, backend: Arc<dyn Backend>) -> Result<Repository, OpenError> {
        Repository::open(backend, &credential(self.encryption), self.environment())
    }

    /// Opens it with the second key.
    pub fn open_second(&self, backend: Arc<dyn Backend>) -> Result<Repository, OpenError> {
        Repository::open(backend, &second_key(), self.environment())
    }

    /// Whether the first key opens it.
    pub fn has_first_key(&self) -> bool {
        !matches!(
            self.open_at(Arc::new(self.memory.clone())),
            Err(OpenError::WrongKey)
        )
    }

    /// Opens it without trouble, with any key.
    pub fn open(&self) -> Repository {
        let backend = || Arc::new(self.memory.clone());
        let opened = match self.has_first_key() {
            true => self.open_at(backend()),
            false => self.open_second(backend()),
        };
        opened.expect("a repository without faults opens")
    }

    /// Takes a snapshot of a version.
    pub fn snapshot(mut self, version: u32) -> Scene {
        let mut source = source(version);
        let manifest = take(&self.open(), &mut source).manifest;
        self.kept.push(Known { manifest, source });
        self
    }

    /// Forgets the oldest snapshot that stands.
    pub fn forget(mut self) -> Scene {
        let known = self.kept.remove(0);
        mark(&self.open(), known.manifest.name).unwrap();
        self.forgotten.push(known);
        self
    }

    /// A writer that died: packs with a segment, packs without, and its session are left.
    pub fn dead_writer(self) -> Scene {
        let repository = self.open();
        let session = Session::open(&repository, SessionKind::Writer).unwrap();
        let writer = Writer::new(&session, session.view().unwrap()).with_pack_size(1);
        let mut lane = writer.lane(World::Content);
        lane.store(&noise(4_000, "left behind"), &[]).unwrap();
        lane.flush().unwrap();
        writer.finish().unwrap();
        let mut lane = writer.lane(World::Content);
        lane.store(&noise(4_000, "never indexed"), &[]).unwrap();
        lane.flush().unwrap();
        drop(writer);
        self
    }

    /// Stores what `version` has at `same` as a delta, two deep, so that snapshots reuse it.
    pub fn deltas(self) -> Scene {
        let last = &source(0).files[&b"same"[..]];
        let changed = [1, 2, 0].map(|step| {
            let mut plain = last.clone();
            plain[100] ^= step;
            plain
        });
        self.chain(&changed)
    }

    /// The same, three deep, and each delta takes a fifth of a plain chunk: gc stores it anew.
    pub fn drift(self) -> Scene {
        let last = &source(0).files[&b"same"[..]];
        let changed = [3, 2, 1, 0].map(|left: usize| {
            let mut plain = last.clone();
            plain[..1000 * left].copy_from_slice(&noise(3000, "drift")[..1000 * left]);
            plain
        });
        self.chain(&changed)
    }

    /// Stores chunks, each but the first as a delta of the one before, in packs of their own.
    fn chain(self, plains: &[Vec<u8>]) -> Scene {
        let repository = self.open();
        let session = Session::open(&repository, SessionKind::Writer).unwrap();
        let writer = Writer::new(&session, session.view().unwrap()).with_pack_size(1);
        let mut bases = Vec::new();
        for plain in plains {
            let id = repository.keys().chunk_id(plain);
            let mut lane = writer.lane(World::Content);
            lane.put(id, plain, &bases).unwrap();
            lane.flush().unwrap();
            bases = vec![id];
        }
        writer.finish().unwrap();
        session.give_up();
        self
    }

    /// Damages an object; `None`: it is gone.
    pub fn damage(mut self, key: &Key, how: Option<fn(&mut Vec<u8>)>) -> Scene {
        match how {
            None => assert!(self.memory.remove(key), "it was there"),
            Some(how) => {
                let mut bytes = self.memory.get(key).unwrap();
                how(&mut bytes);
                self.memory.replace(key, bytes);
            }
        }
        let readable = |known: &&Known| {
            let opened = self.stranger().open_at(Arc::new(self.memory.clone()));
            opened.is_ok_and(|r| holds(&r, &known.manifest, &known.source).is_ok())
        };
        let readable = self.kept.iter().filter(readable);
        self.damaged = Some(readable.map(|known| known.manifest.name).collect());
        self
    }

    /// The same, for someone who takes all for whole.
    pub fn mended(&self) -> Scene {
        Scene {
            damaged: None,
            ..self.clone()
        }
    }

    /// The names of an area's objects.
    pub fn names(&self, area: Area) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        let mut add = |listed: crate::backend::Listed| {
            names.insert(listed.name);
        };
        self.memory.list(area, &mut add).unwrap();
        names
    }

    /// The newest snapshot that stands counts as lost from now on.
    pub fn lose(mut self) -> Scene {
        self.forgotten.extend(self.kept.pop());
        self
    }

    /// Gives up what is lost, as `repair --give-up-lost`.
    pub fn repair(&self, backend: Arc<dyn Backend>, dry_run: bool) -> Result<RepairReport, String> {
        let found = find(&backend, &credential(self.encryption)).map_err(|e| e.to_string())?;
        let opened = ConfigState::open(found, self.environment());
        let (repository, config) = opened.map_err(|e| e.to_string())?;
        let options = RepairOptions {
            lost: Lost::GiveUp,
            dry_run,
            ..RepairOptions::default()
        };
        let report = repair(&repository, &config, &options, &Silent::default());
        report.map_err(|e| e.to_string())
    }

    /// Fails unless everything that is committed is whole, what must stand stands with the right
    /// bytes, and nothing stands that does not open. Looks with the eyes of another machine. While
    /// something is damaged, only what must stand is looked at.
    pub fn judge(&self) -> Result<(), String> {
        let repository = self.stranger().open();
        self.judge_kept(&repository)?;
        if self.damaged.is_some() {
            return Ok(());
        }
        let report = check(&repository, &every_byte(), &Silent::default());
        let damage = report.map_err(|e| format!("check: {e}"))?.damage;
        if !damage.is_empty() {
            return Err(format!("check finds {damage:?}"));
        }
        let list = SnapshotList::read(&repository).map_err(|e| e.to_string())?;
        if !list.unreadable.is_empty() {
            return Err(format!("snapshots do not open: {:?}", list.unreadable));
        }
        Ok(())
    }

    /// Fails unless what must stand stands with the right bytes.
    fn judge_kept(&self, repository: &Repository) -> Result<(), String> {
        let list = SnapshotList::read(repository).map_err(|e| e.to_string())?;
        for known in &self.kept {
            if !list.committed.contains(&known.manifest) {
                return Err(format!("snapshot {} is gone", known.manifest.name));
            }
            let readable = self.damaged.as_ref();
            if readable.is_none_or(|names| names.contains(&known.manifest.name)) {
                holds(repository, &known.manifest, &known.source)?;
            }
        }
        Ok(())
    }

    /// One gc, and fails when it leaves anything that nobody needs. Answers the bytes of all packs.
    pub fn tidy(&self) -> Result<u64, String> {
        let repository = self.open();
        let said = |e: &dyn std::fmt::Display| format!("gc afterwards: {e}");
        gc(&repository, &thorough(), &Silent::default()).map_err(|e| said(&e))?;
        for area in [Area::Sessions, Area::Gc] {
            let names = repository.list_names(area).map_err(|e| said(&e))?;
            if !names.is_empty() {
                return Err(format!("gc leaves {names:?} in {area:?}"));
            }
        }
        let report = self.plan().map_err(|e| said(&e))?;
        if report.planned_packs > 0 || report.bytes_unused > 0 {
            return Err(format!("a second gc would find more: {report:?}"));
        }
        Ok(report.bytes_total)
    }

    /// What a gc would do.
    pub fn plan(&self) -> Result<GcReport, crate::gc::GcError> {
        let options = GcOptions {
            dry_run: true,
            ..thorough()
        };
        gc(&self.open(), &options, &Silent::default())
    }
}

/// A check of everything that leaves no note.
pub(super) fn every_byte() -> CheckOptions {
    CheckOptions {
        level: Level::Data,
        dry_run: true,
        ..CheckOptions::default()
    }
}

/// Fails unless a snapshot gives back exactly these files.
pub(super) fn holds(
    repository: &Repository,
    manifest: &Manifest,
    source: &MapSource,
) -> Result<(), String> {
    for (path, bytes) in &source.files {
        let shown = String::from_utf8_lossy(path);
        let mut out = Vec::new();
        browse::cat(repository, manifest, path, &mut out).map_err(|e| format!("{shown}: {e}"))?;
        if out != *bytes {
            return Err(format!("{shown} has other bytes"));
        }
    }
    if manifest.files != source.files.len() as u64 {
        return Err(format!("it counts {} files", manifest.files));
    }
    Ok(())
}

/// Restores a snapshot into memory; answers what was said and what was written.
pub(super) fn restored(
    repository: &Repository,
    manifest: &Manifest,
) -> Result<(RestoreReport, Shelved), RestoreError> {
    let target = Shelf::default();
    let options = RestoreOptions::default();
    let report = restore(repository, manifest, &target, &options, &Silent::default())?;
    let files = std::mem::take(&mut *target.0.lock().unwrap());
    Ok((report, files))
}

type Shelved = BTreeMap<Vec<u8>, Vec<u8>>;
type Files = Arc<Mutex<Shelved>>;

/// A target that keeps files only.
#[derive(Default)]
struct Shelf(Files);

struct Slip(Files, Mutex<Vec<u8>>);

impl Target for Shelf {
    fn look(&self, _: &[u8]) -> Result<Option<Found>, TargetError> {
        Ok(None)
    }
    fn list(&self, _: &[u8]) -> Result<Vec<Listed>, TargetError> {
        Ok(Vec::new())
    }
    fn remove(&self, _: &[u8]) -> Result<(), TargetError> {
        Ok(())
    }
    fn make(&self, _: &Entry) -> Result<Kept, TargetError> {
        Ok(Kept::default())
    }
    fn finish_folder(&self, _: &Entry) -> Result<Kept, TargetError> {
        Ok(Kept::default())
    }
    fn link(&self, entry: &Entry, first: &[u8]) -> Result<(), TargetError> {
        let mut files = self.0.lock().unwrap();
        let bytes = files.get(first).cloned().ok_or_else(|| TargetError {
            what: "its first name was not restored".into(),
            source: None,
        })?;
        files.insert(entry.path.clone(), bytes);
        Ok(())
    }
    fn existing(&self, _: &Entry) -> Option<Box<dyn Existing>> {
        None
    }
    fn create(&self, _: &Entry) -> Result<Box<dyn TargetFile>, TargetError> {
        Ok(Box::new(Slip(Arc::clone(&self.0), Mutex::default())))
    }
}

impl TargetFile for Slip {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut file = self.1.lock().unwrap();
        let (start, end) = (offset as usize, offset as usize + bytes.len());
        // What damage may claim must not eat this machine's memory.
        if end > 64 << 20 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let len = file.len().max(end);
        file.resize(len, 0);
        file[start..end].copy_from_slice(bytes);
        Ok(())
    }
    fn clear(&self, _: u64, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn finish(self: Box<Self>, entry: &Entry) -> Result<Kept, TargetError> {
        let mut bytes = self.1.into_inner().unwrap();
        bytes.resize((entry.meta.size as usize).min(64 << 20), 0);
        self.0.lock().unwrap().insert(entry.path.clone(), bytes);
        Ok(Kept::default())
    }
}

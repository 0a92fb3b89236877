//! Restores that meet damage, stale files and several names; a target in memory.

mod chains;
mod over;
mod removal;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use super::*;
use crate::backend::Memory;
use crate::clock::Timestamp;
use crate::crypto::Encryption;
use crate::entry::{Content, Entry, Extent, is_within, parent_of};
use crate::format::entry::{Attributes, encode_entry};
use crate::format::objects::{SessionKind, TreeRoot};
use crate::format::page::{PageKind, encode_page};
use crate::id::ChunkId;
use crate::monitor::Silent;
use crate::pack::pack_key;
use crate::record::World;
use crate::session::Session;
use crate::source::Problem;
use crate::target::{Existing, Found, FoundKind, Listed, TargetFile};
use crate::testing::{MapSource, new_repository, noise, open, single_chunks, take};
use crate::writer::Writer;

type Files = Arc<Mutex<BTreeMap<Vec<u8>, Vec<u8>>>>;

/// A target in memory: files with their bytes, folders under names that end with `/`.
#[derive(Default)]
struct MapTarget {
    files: Files,
    /// Times of files; others have none.
    times: Mutex<BTreeMap<Vec<u8>, Timestamp>>,
    finished: Mutex<Vec<Vec<u8>>>,
    links: Mutex<u32>,
    /// A file that cannot be created.
    refused: Option<Vec<u8>>,
    /// Files share their room.
    shares: bool,
    /// Files are written by somebody else while they are restored.
    unsteady: bool,
    log: Log,
}

/// Writes and clears of all files: offset and length.
type Log = Arc<Mutex<Vec<(u64, u64)>>>;

impl MapTarget {
    fn holding(files: &BTreeMap<Vec<u8>, Vec<u8>>) -> MapTarget {
        MapTarget {
            files: Arc::new(Mutex::new(files.clone())),
            ..MapTarget::default()
        }
    }

    fn names(&self) -> Vec<String> {
        let files = self.files.lock().unwrap();
        files
            .keys()
            .map(|k| String::from_utf8(k.clone()).unwrap())
            .collect()
    }
}

struct MapExisting {
    bytes: Vec<u8>,
    files: Files,
    shares: bool,
    unsteady: bool,
    log: Log,
}

impl Existing for MapExisting {
    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let offset = offset as usize;
        let part = self.bytes.get(offset..offset + into.len());
        into.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn is_hole(&self, _: u64, _: u64) -> bool {
        false
    }

    fn is_unchanged(&self) -> bool {
        !self.unsteady
    }

    fn share(&self) -> Option<Box<dyn TargetFile>> {
        let bytes = Mutex::new(self.bytes.clone());
        let file = MapFile(Arc::clone(&self.files), bytes, Arc::clone(&self.log));
        self.shares.then(|| Box::new(file) as Box<dyn TargetFile>)
    }

    fn settle(&self, _: &Entry) -> Result<Option<Kept>, TargetError> {
        Ok(Some(Kept::default()))
    }
}

struct MapFile(Files, Mutex<Vec<u8>>, Log);

fn refuse() -> TargetError {
    TargetError {
        what: "refused".into(),
        source: None,
    }
}

impl Target for MapTarget {
    fn look(&self, path: &[u8]) -> Result<Option<Found>, TargetError> {
        let files = self.files.lock().unwrap();
        let mtime = self.times.lock().unwrap().get(path).copied();
        Ok(files.get(path).map(|bytes| Found {
            kind: FoundKind::File,
            size: bytes.len() as u64,
            mtime: mtime.unwrap_or_default(),
        }))
    }

    fn list(&self, path: &[u8]) -> Result<Vec<Listed>, TargetError> {
        let files = self.files.lock().unwrap();
        let mut listed = std::collections::BTreeMap::new();
        for name in files.keys().filter(|n| is_within(n, path) && *n != path) {
            let below = match path.len() {
                0 => &name[..],
                len => &name[len + 1..],
            };
            let first = below.split(|c| *c == b'/').next().unwrap();
            let is_folder = first.len() < below.len();
            *listed.entry(first.to_vec()).or_insert(is_folder) |= is_folder;
        }
        let listed = listed.into_iter();
        Ok(listed
            .map(|(name, is_folder)| Listed { name, is_folder })
            .collect())
    }

    fn remove(&self, path: &[u8]) -> Result<(), TargetError> {
        let mut files = self.files.lock().unwrap();
        let below = |n: &Vec<u8>| is_within(n, path) && n != path;
        if files.keys().any(below) {
            return Err(refuse());
        }
        files.remove(path);
        Ok(())
    }

    fn make(&self, _: &Entry) -> Result<Kept, TargetError> {
        Ok(Kept::default())
    }

    fn finish_folder(&self, entry: &Entry) -> Result<Kept, TargetError> {
        self.finished.lock().unwrap().push(entry.path.clone());
        Ok(Kept::default())
    }

    fn link(&self, entry: &Entry, first: &[u8]) -> Result<(), TargetError> {
        let mut files = self.files.lock().unwrap();
        let bytes = files.get(first).cloned().ok_or_else(refuse)?;
        files.insert(entry.path.clone(), bytes);
        *self.links.lock().unwrap() += 1;
        Ok(())
    }

    fn existing(&self, entry: &Entry) -> Option<Box<dyn Existing>> {
        let bytes = self.files.lock().unwrap().get(&entry.path)?.clone();
        Some(Box::new(MapExisting {
            bytes,
            files: Arc::clone(&self.files),
            shares: self.shares,
            unsteady: self.unsteady,
            log: Arc::clone(&self.log),
        }))
    }

    fn create(&self, entry: &Entry) -> Result<Box<dyn TargetFile>, TargetError> {
        if self.refused.as_ref() == Some(&entry.path) {
            return Err(refuse());
        }
        let empty = Mutex::default();
        let log = Arc::clone(&self.log);
        Ok(Box::new(MapFile(Arc::clone(&self.files), empty, log)))
    }
}

impl TargetFile for MapFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.2.lock().unwrap().push((offset, bytes.len() as u64));
        let mut file = self.1.lock().unwrap();
        let (start, end) = (offset as usize, offset as usize + bytes.len());
        let len = file.len().max(end);
        file.resize(len, 0);
        file[start..end].copy_from_slice(bytes);
        Ok(())
    }

    fn clear(&self, offset: u64, len: u64) -> io::Result<()> {
        self.2.lock().unwrap().push((offset, len));
        let mut file = self.1.lock().unwrap();
        let end = file.len().min((offset + len) as usize);
        file[(offset as usize).min(end)..end].fill(0);
        Ok(())
    }

    fn finish(self: Box<Self>, entry: &Entry) -> Result<Kept, TargetError> {
        let mut bytes = self.1.into_inner().unwrap();
        bytes.resize(entry.meta.size as usize, 0);
        self.0.lock().unwrap().insert(entry.path.clone(), bytes);
        Ok(Kept::default())
    }
}

fn run(repository: &Repository, manifest: &Manifest, target: &MapTarget) -> RestoreReport {
    let options = RestoreOptions {
        verify: true,
        ..RestoreOptions::default()
    };
    with(repository, manifest, target, &options)
}

fn with(
    repository: &Repository,
    manifest: &Manifest,
    target: &MapTarget,
    options: &RestoreOptions<'_>,
) -> RestoreReport {
    restore(repository, manifest, target, options, &Silent::default()).unwrap()
}

fn file(path: &str, content: Content, size: u64, group: Option<&str>) -> Entry {
    let meta = crate::entry::Meta {
        size,
        ..Default::default()
    };
    Entry {
        path: path.into(),
        kind: Kind::File,
        meta,
        content,
        xattrs: vec![],
        group: group.map(Into::into),
    }
}

/// Stores chunks, and a tree of one leaf with entries made of their extents.
fn plant(
    repository: &Repository,
    chunks: &[&[u8]],
    entries: impl Fn(&[Extent]) -> Vec<Entry>,
) -> Manifest {
    let mut manifest = take(repository, &mut MapSource::default()).manifest;
    let session = Session::open(repository, SessionKind::Writer).unwrap();
    let writer = Writer::new(&session, session.view().unwrap());
    let mut lane = writer.lane(World::Content);
    let store = |bytes: &&[u8]| Extent::Chunk {
        id: lane.store(bytes, &[]).unwrap().id,
        len: bytes.len() as u32,
    };
    let extents: Vec<Extent> = chunks.iter().map(store).collect();
    lane.flush().unwrap();
    let (mut items, mut before) = (Vec::new(), Vec::new());
    let entries = entries(&extents);
    for entry in &entries {
        encode_entry(entry, &Attributes::Here, &before, &mut items);
        before.clone_from(&entry.path);
    }
    let page = encode_page(PageKind::Leaf, 0, entries.len(), &items);
    let mut lane = writer.lane(World::Pages);
    let page = lane.store(&page, &[]).unwrap().id;
    lane.flush().unwrap();
    writer.finish().unwrap();
    manifest.root = Some(TreeRoot { page, height: 0 });
    manifest
}

/// Removes every pack that holds a chunk.
fn lose(memory: &Memory, repository: &Repository, id: &ChunkId) {
    let segments = repository.segments();
    let found = repository.index().find(&segments, id).unwrap().unwrap();
    for place in found.places {
        let pack = repository.index().pack(place.pack);
        memory.remove(&pack_key(&pack.unwrap().id).unwrap());
    }
}

/// A source of small files.
fn files(names: &[&str]) -> MapSource {
    let mut source = MapSource::default();
    for name in names {
        let bytes = noise(600, name);
        source.files.insert(name.as_bytes().to_vec(), bytes);
    }
    source
}

#[test]
fn a_lost_leaf_ends_no_restore() {
    single_chunks(true);
    let (memory, repository) = new_repository(Encryption::None, 0);
    let mut source = MapSource::default();
    for i in 0..3000u32 {
        let path = format!("d{}/file-with-a-name-{i:05}", i / 300);
        let bytes = noise(600, &path);
        source.files.insert(path.into_bytes(), bytes);
    }
    let manifest = take(&repository, &mut source).manifest;
    let reader = Reader::new(&repository);
    let tree = Tree::new(&reader, manifest.root);
    let mut walk = tree.walk(b"").unwrap();
    let mut pages: Vec<(ChunkId, u64)> = Vec::new();
    while walk.next_item().unwrap().is_some() {
        let page = walk.page().unwrap();
        match pages.last_mut().filter(|(id, _)| *id == page) {
            Some((_, n)) => *n += 1,
            None => pages.push((page, 1)),
        }
    }
    single_chunks(false);
    assert!(pages.len() > 4, "{}", pages.len());
    for at in [0, 2, pages.len() - 1] {
        let memory = memory.fork();
        let repository = open(&memory, Encryption::None, 0);
        repository.update_index().unwrap();
        let (page, listed) = pages[at];
        lose(&memory, &repository, &page);
        let target = MapTarget::default();
        let report = run(&repository, &manifest, &target);
        assert_eq!(report.damaged.len(), 1, "{:?}", report.damaged);
        assert_eq!(report.entries, manifest.entries - listed);
        assert_eq!(report.verified, report.files);
        let files = target.files.lock().unwrap();
        assert_eq!(files.len() as u64, report.files);
        assert!(files.iter().all(|(path, b)| source.files[path] == *b));
        assert!(target.finished.lock().unwrap().len() > 5);
        let check = crate::check::check(
            &repository,
            &crate::check::CheckOptions::default(),
            &Silent::default(),
        )
        .unwrap();
        assert_eq!(check.damage.len(), 1, "{:?}", check.damage);
        assert_eq!(check.damage[0].snapshots, vec![manifest.id]);
        assert_eq!(check.chunks, report.files);
    }
    let id = manifest.root.unwrap().page;
    lose(&memory, &repository, &id);
    let repository = open(&memory, Encryption::None, 0);
    let options = RestoreOptions::default();
    let target = MapTarget::default();
    assert!(
        restore(
            &repository,
            &manifest,
            &target,
            &options,
            &Silent::default()
        )
        .is_err()
    );
}

#[test]
fn no_link_is_made_from_what_this_run_did_not_place() {
    let (_, repository) = new_repository(Encryption::None, 0);
    let (right, stale) = (noise(50_000, "right"), noise(50_000, "stale"));
    let manifest = plant(&repository, &[&right], |extents| {
        let name = |path| {
            let content = Content::Extents(extents.to_vec());
            file(path, content, 50_000, Some("a"))
        };
        vec![name("a"), name("b"), name("c")]
    });
    let target = MapTarget {
        refused: Some(b"a".to_vec()),
        ..MapTarget::default()
    };
    let before = BTreeMap::from([(b"a".to_vec(), stale.clone())]);
    *target.files.lock().unwrap() = before;
    let report = run(&repository, &manifest, &target);
    assert_eq!((report.written, report.problems.len()), (1, 1));
    assert_eq!(*target.links.lock().unwrap(), 1);
    let files = target.files.lock().unwrap();
    assert!(files[&b"a"[..]] == stale);
    assert!(files[&b"b"[..]] == right && files[&b"c"[..]] == right);
}

#[test]
fn a_lost_chunk_damages_every_name_of_its_file() {
    let (memory, repository) = new_repository(Encryption::None, 0);
    let bytes = noise(50_000, "bytes");
    let manifest = plant(&repository, &[&bytes], |extents| {
        let name = |path| {
            let content = Content::Extents(extents.to_vec());
            file(path, content, 50_000, Some("a"))
        };
        vec![name("a"), name("b")]
    });
    lose(&memory, &repository, &repository.keys().chunk_id(&bytes));
    let target = MapTarget::default();
    let report = run(&repository, &manifest, &target);
    let damaged: Vec<&[u8]> = report.damaged.iter().map(|d| d.path.as_slice()).collect();
    assert_eq!(damaged, vec![&b"a"[..], b"b"]);
    assert!(target.files.lock().unwrap().is_empty());
}

#[test]
fn a_file_of_another_size_than_its_parts_is_damaged() {
    let (_, repository) = new_repository(Encryption::None, 0);
    let bytes = noise(50_000, "bytes");
    let manifest = plant(&repository, &[&bytes], |extents| {
        let one = |path, size| file(path, Content::Extents(extents.to_vec()), size, None);
        let inline = |path, size| file(path, Content::Inline(b"12345".to_vec()), size, None);
        vec![
            one("exact", 50_000),
            one("less", 49_999),
            one("more", 50_001),
            file("none", Content::None, 7, None),
            inline("w", 5),
            inline("x", 4),
            inline("y", 6),
        ]
    });
    let target = MapTarget::default();
    let report = run(&repository, &manifest, &target);
    let damaged: Vec<&[u8]> = report.damaged.iter().map(|d| d.path.as_slice()).collect();
    assert_eq!(damaged, vec![&b"less"[..], b"more", b"none", b"x", b"y"]);
    assert!(report.problems.is_empty() && report.verified == 2);
    assert_eq!(target.files.lock().unwrap().len(), 2);
    for (path, fine) in [("exact", true), ("less", false), ("more", false)] {
        let mut out = Vec::new();
        let read = crate::browse::cat(&repository, &manifest, path.as_bytes(), &mut out);
        assert_eq!(read.is_ok(), fine, "{path}");
    }
}

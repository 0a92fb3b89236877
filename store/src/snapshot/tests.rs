//! Checkpoints, and going on from them; which parent is taken, and when nothing is committed.

mod attributes;
mod pages;
mod streams;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use super::{Compare, Every, Outcome, ParentChoice, SnapshotError, SnapshotOptions};
use super::{SnapshotReport, Unchanged, snapshot};
use crate::backend::{Area, Backend, Memory};
use crate::clock::{Clock, Timestamp};
use crate::crypto::Encryption;
use crate::environment::Environment;
use crate::format::objects::Manifest;
use crate::monitor::{Counters, Event, Monitor, Silent};
use crate::notes::{self, Fact, Notes};
use crate::repository::Repository;
use crate::snapshots::SnapshotList;
use crate::source::{
    ContentError, Contents, Open, Piece, Problem, Sink, Source, SourceError, Stop,
};
use crate::testing::{self, MapSource, new_repository, noise};

const MIB: u64 = 1 << 20;

fn every(bytes: u64) -> SnapshotOptions {
    SnapshotOptions {
        host: "test".into(),
        checkpoint: Every {
            bytes,
            seconds: u64::MAX,
        },
        ..SnapshotOptions::default()
    }
}

/// A tree whose reading fails for good after so many bytes.
struct Cut {
    tree: MapSource,
    left: Rc<Cell<u64>>,
    inode: Option<u64>,
}

impl Cut {
    fn after(tree: &MapSource, bytes: u64) -> Cut {
        Cut {
            tree: tree.clone(),
            left: Rc::new(Cell::new(bytes)),
            inode: None,
        }
    }
}

impl Source for Cut {
    fn paths(&self) -> Vec<Vec<u8>> {
        self.tree.paths()
    }

    fn push(&mut self, sink: &mut dyn Sink) -> Result<(), SourceError> {
        let (left, inode) = (&self.left, self.inode);
        self.tree.push(&mut CutSink { sink, left, inode })
    }
}

struct CutSink<'a> {
    sink: &'a mut dyn Sink,
    left: &'a Rc<Cell<u64>>,
    inode: Option<u64>,
}

impl Sink for CutSink<'_> {
    fn entry(
        &mut self,
        mut entry: crate::entry::Entry,
        contents: Option<Open<'_>>,
    ) -> Result<(), Stop> {
        if let Some(inode) = self.inode {
            entry.meta.inode = inode;
        }
        let Some(contents) = contents else {
            return self.sink.entry(entry, None);
        };
        let mut open = || {
            let (inner, left) = (contents()?, Rc::clone(self.left));
            Ok(Box::new(CutContents { inner, left }) as Box<dyn Contents>)
        };
        self.sink.entry(entry, Some(&mut open))
    }

    fn problem(&mut self, problem: Problem) {
        self.sink.problem(problem);
    }

    fn excluded(&mut self, path: &[u8]) {
        self.sink.excluded(path);
    }
}

struct CutContents<'a> {
    inner: Box<dyn Contents + 'a>,
    left: Rc<Cell<u64>>,
}

impl Contents for CutContents<'_> {
    fn next(&mut self, buffer: &mut [u8]) -> Result<Piece, ContentError> {
        let room = buffer.len().min(self.left.get() as usize);
        if room == 0 {
            return Err(ContentError::Fatal("pulled out".into()));
        }
        let piece = self.inner.next(&mut buffer[..room])?;
        if let Piece::Data(n) = piece {
            self.left.set(self.left.get() - n as u64);
        }
        Ok(piece)
    }

    fn skip(&mut self, bytes: u64) -> Result<bool, ContentError> {
        self.inner.skip(bytes)
    }
}

fn run(
    repository: &Repository,
    source: &mut dyn Source,
    options: &SnapshotOptions,
) -> Result<SnapshotReport, SnapshotError> {
    snapshot(repository, source, options, &Silent::default())
}

/// Partial and whole snapshots that stand.
fn standing(repository: &Repository) -> (Vec<Manifest>, Vec<Manifest>) {
    let list = SnapshotList::read(repository).unwrap();
    list.committed.into_iter().partition(|m| m.partial)
}

fn many() -> MapSource {
    let mut source = MapSource::default();
    for i in 0..80u32 {
        let path = format!("d{}/f{i:02}", i / 10).into_bytes();
        source.files.insert(path, noise(100_000, &i.to_string()));
    }
    source
}

fn one() -> MapSource {
    let mut source = MapSource::default();
    source.files.insert(b"a".to_vec(), noise(300, "a"));
    source
        .files
        .insert(b"large".to_vec(), noise(12_000_000, "large"));
    source.files.insert(b"z".to_vec(), noise(3000, "z"));
    source
}

fn total(source: &MapSource) -> u64 {
    source.files.values().map(|f| f.len() as u64).sum()
}

#[test]
fn checkpoints_change_nothing_about_the_snapshot_and_are_forgotten() {
    for (threads, mut source) in [(0, many()), (3, many()), (0, one()), (3, one())] {
        let (_, repository) = new_repository(Encryption::None, threads);
        let report = run(&repository, &mut source, &every(MIB)).unwrap();
        assert_eq!(report.outcome, Outcome::Committed);
        assert_eq!(report.read_bytes, total(&source));
        let (partial, whole) = standing(&repository);
        assert_eq!((partial.len(), whole.len()), (0, 1));
        let list = SnapshotList::read(&repository).unwrap();
        assert!(list.forgotten.iter().all(|m| m.partial));
        assert!(list.forgotten.len() >= 7, "{}", list.forgotten.len());
        // Every one has what those before it have, and nothing that was not read.
        let mut bytes = 0;
        for partial in &list.forgotten {
            assert!(partial.bytes <= total(&source));
            bytes = bytes.max(partial.bytes);
        }
        assert!(bytes >= total(&source) - 2 * MIB, "{bytes}");
        let again = run(&repository, &mut source, &every(u64::MAX)).unwrap();
        assert_eq!((again.manifest.root, again.read_bytes), (whole[0].root, 0));
        let options = SnapshotOptions {
            parent: ParentChoice::None,
            ..every(u64::MAX)
        };
        let forced = run(&repository, &mut source, &options).unwrap();
        assert_eq!(forced.manifest.root, whole[0].root, "as if read in one go");
        assert_eq!(forced.manifest.new_bytes, 0);
    }
}

#[test]
fn an_interrupted_run_goes_on_behind_its_last_checkpoint() {
    for (threads, source) in [(0, many()), (3, many()), (0, one()), (3, one())] {
        let (memory, repository) = new_repository(Encryption::None, threads);
        let mut cut = Cut::after(&source, 6 * MIB + 12_345);
        assert!(run(&repository, &mut cut, &every(2 * MIB)).is_err());
        let (partial, whole) = standing(&repository);
        assert!(partial.len() >= 2 && whole.is_empty(), "{}", partial.len());
        let last = partial.iter().map(|m| m.bytes).max().unwrap();
        assert!(last >= 4 * MIB, "{last}");
        let other = testing::open(&memory, Encryption::None, threads);
        let report = run(&other, &mut source.clone(), &every(u64::MAX)).unwrap();
        let again = report.read_bytes;
        assert_eq!(again, total(&source) - last, "not a byte is read twice");
        assert!(report.resumed.is_some());
        assert_eq!(report.manifest.bytes, total(&source));
        let (partial, whole) = standing(&other);
        assert_eq!((partial.len(), whole.len()), (0, 1));
        for (path, bytes) in &source.files {
            let mut out = Vec::new();
            crate::browse::cat(&other, &whole[0], path, &mut out).unwrap();
            assert!(out == *bytes, "{}", String::from_utf8_lossy(path));
        }
        let (_, calm) = new_repository(Encryption::None, threads);
        let calm = run(&calm, &mut source.clone(), &every(u64::MAX)).unwrap();
        assert_eq!(calm.manifest.entries, report.manifest.entries);
    }
}

/// Keeps what is said of how much there is to do.
#[derive(Default)]
struct Expecting {
    bytes: Mutex<Vec<u64>>,
    counters: Counters,
}

impl Monitor for Expecting {
    fn event(&self, event: Event<'_>) {
        if let Event::Expect { bytes, .. } = event {
            self.bytes.lock().unwrap().push(bytes);
        }
    }

    fn counters(&self) -> &Counters {
        &self.counters
    }
}

#[test]
fn only_a_whole_snapshot_says_how_much_there_is() {
    let source = many();
    let (_, repository) = new_repository(Encryption::None, 0);
    let expected = |source: &mut dyn Source| {
        let monitor = Expecting::default();
        let _ = snapshot(&repository, source, &every(2 * MIB), &monitor);
        monitor.bytes.into_inner().unwrap()
    };
    assert_eq!(expected(&mut Cut::after(&source, 6 * MIB)), []);
    assert!(!standing(&repository).0.is_empty(), "checkpoints are left");
    assert_eq!(expected(&mut source.clone()), []);
    assert_eq!(expected(&mut source.clone()), [total(&source)]);
}

#[test]
fn a_checkpoint_that_is_protected_stays() {
    let source = many();
    let (_, repository) = new_repository(Encryption::None, 0);
    let mut cut = Cut::after(&source, 6 * MIB + 12_345);
    assert!(run(&repository, &mut cut, &every(2 * MIB)).is_err());
    let (partial, _) = standing(&repository);
    assert!(partial.len() >= 2, "{}", partial.len());
    let dear = partial[0].id;
    let fact = Fact::Protected {
        snapshot: dear,
        protected: true,
    };
    notes::put(&repository, &Notes::default(), &[fact]).unwrap();
    for _ in 0..2 {
        run(&repository, &mut source.clone(), &every(MIB)).unwrap();
        let (partial, _) = standing(&repository);
        let left: Vec<_> = partial.iter().map(|m| m.id).collect();
        assert_eq!(left, [dear]);
    }
}

#[test]
fn a_file_that_changed_since_the_checkpoint_is_read_from_its_start() {
    let source = one();
    let (_, repository) = new_repository(Encryption::None, 0);
    let mut cut = Cut::after(&source, 7 * MIB);
    assert!(run(&repository, &mut cut, &every(2 * MIB)).is_err());
    let mut changed = source.clone();
    let large = noise(12_000_000, "another");
    changed.files.insert(b"large".to_vec(), large);
    let report = run(&repository, &mut changed, &every(u64::MAX)).unwrap();
    assert_eq!(report.read_bytes, total(&changed) - 300);
}

/// A second whole snapshot after a cut one: what the checkpoint lacks comes from the whole one.
#[test]
fn both_parents_are_asked() {
    let (_, repository) = new_repository(Encryption::None, 0);
    let mut source = many();
    run(&repository, &mut source, &every(u64::MAX)).unwrap();
    for i in 0..40u32 {
        let path = format!("d{}/f{i:02}", i / 10).into_bytes();
        source
            .files
            .insert(path, noise(90_000, &format!("new {i}")));
    }
    let mut cut = Cut::after(&source, 2 * MIB);
    assert!(run(&repository, &mut cut, &every(MIB)).is_err());
    let (partial, whole) = standing(&repository);
    assert_eq!((partial.len(), whole.len()), (1, 1));
    let held = partial[0].bytes;
    let report = run(&repository, &mut source, &every(u64::MAX)).unwrap();
    assert_eq!(report.read_bytes, 40 * 90_000 - held);
    assert_eq!(report.parent, Some(whole[0].id));
    assert_eq!(report.resumed, Some(partial[0].id));
}

/// A minute later with every look.
struct Ticking(AtomicI64);

impl Clock for Ticking {
    fn now(&self) -> Timestamp {
        Timestamp {
            seconds: self.0.fetch_add(60, Ordering::Relaxed),
            nanos: 0,
        }
    }
}

#[test]
fn time_makes_checkpoints_too() {
    let (memory, _) = new_repository(Encryption::None, 0);
    let environment = Environment {
        clock: Arc::new(Ticking(AtomicI64::new(1_000_000))),
        ..testing::environment(0)
    };
    let backend: Arc<dyn Backend> = Arc::new(memory);
    let repository =
        Repository::open(backend, &testing::credential(Encryption::None), environment).unwrap();
    let options = SnapshotOptions {
        host: "test".into(),
        ..SnapshotOptions::default()
    };
    run(&repository, &mut many(), &options).unwrap();
    let list = SnapshotList::read(&repository).unwrap();
    assert!(!list.forgotten.is_empty());
    let before = list.forgotten.len();
    run(&repository, &mut many(), &options).unwrap();
    let list = SnapshotList::read(&repository).unwrap();
    assert_eq!(list.forgotten.len(), before, "nothing was read: none");
}

#[test]
fn the_parent_may_be_chosen_and_what_tells_a_change() {
    let (_, repository) = new_repository(Encryption::None, 0);
    let source = many();
    let first = run(&repository, &mut source.clone(), &every(u64::MAX)).unwrap();
    let mut other = Cut::after(&source, u64::MAX);
    other.inode = Some(5);
    let moved = run(&repository, &mut other, &every(u64::MAX)).unwrap();
    assert_eq!(moved.read_bytes, total(&source));
    let given = SnapshotOptions {
        parent: ParentChoice::Given(Box::new(first.manifest)),
        ..every(u64::MAX)
    };
    let report = run(&repository, &mut source.clone(), &given).unwrap();
    assert_eq!(
        (report.read_bytes, report.parent),
        (0, Some(first_id(&given)))
    );
    let compare = SnapshotOptions {
        compare: Compare {
            inode: false,
            ctime: true,
        },
        ..every(u64::MAX)
    };
    other.inode = Some(6);
    let report = run(&repository, &mut other, &compare).unwrap();
    assert_eq!(report.read_bytes, 0);
}

fn first_id(options: &SnapshotOptions) -> crate::id::SnapshotId {
    match &options.parent {
        ParentChoice::Given(manifest) => manifest.id,
        _ => unreachable!(),
    }
}

fn count(memory: &Memory, area: Area) -> usize {
    let mut count = 0;
    memory.list(area, &mut |_| count += 1).unwrap();
    count
}

#[test]
fn nothing_is_committed_when_nothing_changed() {
    let (memory, repository) = new_repository(Encryption::None, 0);
    let skip = SnapshotOptions {
        unchanged: Unchanged::Skip,
        ..every(u64::MAX)
    };
    let mut source = many();
    let first = run(&repository, &mut source, &skip).unwrap();
    assert_eq!(first.outcome, Outcome::Committed);
    let second = run(&repository, &mut source, &skip).unwrap();
    assert_eq!(second.outcome, Outcome::Skipped);
    assert_eq!(standing(&repository).1.len(), 1);
    assert_eq!(count(&memory, Area::Sessions), 0);
    source.files.insert(b"new".to_vec(), noise(5000, "new"));
    let third = run(&repository, &mut source, &skip).unwrap();
    assert_eq!(third.outcome, Outcome::Committed);
    assert_eq!(standing(&repository).1.len(), 2);
}

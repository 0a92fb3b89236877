//! What a check finds, how often it reads a page, and how it goes on where it stopped. Nothing
//! depends on time or chance: clocks are stubs, damage is made by hand or seeded.

mod chains;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use super::*;
use crate::backend::{Backend, Faulty, Key, Memory};
use crate::crypto::Encryption;
use crate::format::objects::SessionKind;
use crate::format::segment::{Segment, SegmentPack, SegmentRow};
use crate::id::{ChunkId, SegmentId, Uuid};
use crate::index::{Bases, Encoding, Index, MemoryIndex};
use crate::monitor::Silent;
use crate::record::World;
use crate::session::Session;
use crate::testing::{MapSource, new_repository, noise, open, take};
use crate::writer::Writer;

fn row(id: u8, pack: u32, bases: &[u8]) -> SegmentRow {
    let mut refs = Bases::NONE;
    for base in bases {
        assert!(refs.push(ChunkId([*base; 32]).as_base()));
    }
    SegmentRow {
        id: ChunkId([id; 32]),
        pack,
        offset: 100,
        stored: 100,
        slot: id,
        plain: 10,
        encoding: Encoding::Raw,
        depth: bases.len() as u8,
        bases: refs,
    }
}

#[test]
fn cycles_of_bases_end() {
    let pack = |n: u8| SegmentPack {
        id: PackId([n; 32]),
        session: Uuid([1; 16]),
        tree: false,
    };
    // 1 and 2 need each other; 3 and 4 too, but 4 is also plain; 5 to 40 need four each of
    // the next ones, and all of them 1.
    let mut rows = vec![row(1, 0, &[2]), row(2, 0, &[1]), row(3, 0, &[4])];
    rows.extend([row(4, 0, &[3]), row(4, 1, &[])]);
    rows.extend((5..40).map(|n| row(n, 0, &[n + 1, n + 1, n, 1])));
    let segment = Segment {
        supersedes: vec![],
        packs: vec![pack(1), pack(2)],
        rows,
    };
    let index = MemoryIndex::default();
    index.apply(&[(SegmentId([1; 32]), &segment)]).unwrap();
    let (_, mut repository) = new_repository(Encryption::None, 0);
    repository.replace_index(Arc::new(index));
    let packs = HashMap::from([(PackId([1; 32]), 1000), (PackId([2; 32]), 1000)]);
    let bad = BadPacks::default();
    let places = Places::of(&repository, &bad, packs);
    for (id, good) in [(3, true), (4, true), (1, false), (2, false), (5, false)] {
        let causes = places.lost(&ChunkId([id; 32])).unwrap();
        assert_eq!(causes.is_empty(), good, "{id}: {causes:?}");
    }
    let reader = Reader::new(&repository);
    assert!(reader.chunk(World::Content, &ChunkId([5; 32])).is_err());
}

#[test]
fn a_short_pack_names_snapshots_and_files() {
    let (memory, repository) = new_repository(Encryption::None, 0);
    let mut source = MapSource::default();
    source.files.insert(b"f".to_vec(), noise(2000, "f"));
    let manifest = take(&repository, &mut source).manifest;
    let options = data();
    let report = check(&repository, &options, &Silent::default()).unwrap();
    assert!(report.damage.is_empty(), "{:?}", report.damage);
    let id = repository.keys().chunk_id(&source.files[&b"f"[..]]);
    let segments = repository.segments();
    let found = repository.index().find(&segments, &id).unwrap();
    let Some(found) = found else {
        panic!("one chunk")
    };
    let pack = repository.index().pack(found.places[0].pack);
    let key = pack_key(&pack.unwrap().id).unwrap();
    let mut bytes = repository.backend().get(&key).unwrap();
    bytes.truncate(bytes.len() - 1000);
    memory.replace(&key, bytes);
    let repository = open(&memory, Encryption::None, 0);
    let report = check(&repository, &options, &Silent::default()).unwrap();
    let named = |d: &&Damage| d.snapshots == [manifest.id] && d.files == [b"f".to_vec()];
    assert_eq!(report.damage.iter().filter(named).count(), 1);
    assert_eq!(report.damage.len(), 1, "{:?}", report.damage);
}

fn data() -> CheckOptions {
    CheckOptions {
        level: Level::Data,
        ..CheckOptions::default()
    }
}

fn run(repository: &Repository, options: &CheckOptions) -> CheckReport {
    check(repository, options, &Silent::default()).unwrap()
}

/// Many small files in several pages.
fn files(n: u32) -> MapSource {
    let mut source = MapSource::default();
    for i in 0..n {
        let path = format!("folder{}/file{i}", i % 40).into_bytes();
        source.files.insert(path, noise(600, &i.to_string()));
    }
    source
}

/// The pack of a chunk that stands once.
fn pack_of(repository: &Repository, id: &ChunkId) -> PackId {
    let found = repository.index().find(&repository.segments(), id);
    let place = found.unwrap().unwrap().places[0];
    repository.index().pack(place.pack).unwrap().id
}

fn flip(memory: &Memory, key: &Key, at: usize) {
    let mut bytes = memory.get(key).unwrap();
    let at = at % bytes.len();
    bytes[at] ^= 1 << (at % 8);
    memory.replace(key, bytes);
}

#[test]
fn thirty_snapshots_of_one_tree_are_read_like_one() {
    let (_, repository) = new_repository(Encryption::None, 0);
    let mut source = files(2000);
    take(&repository, &mut source);
    let one = run(&repository, &CheckOptions::default());
    assert!(one.pages > 5 && one.chunks == 2000, "{one:?}");
    for _ in 1..30 {
        take(&repository, &mut source);
    }
    let thirty = run(&repository, &CheckOptions::default());
    assert_eq!(thirty.snapshots, 30);
    assert_eq!((thirty.pages, thirty.chunks), (one.pages, one.chunks));
    // One more file costs the pages that lead to it.
    let path = b"folder7/file7".to_vec();
    source.files.insert(path, noise(700, "other"));
    take(&repository, &mut source);
    let more = run(&repository, &CheckOptions::default()).pages - thirty.pages;
    assert!((1..=4).contains(&more), "{more} of {}", one.pages);
}

#[test]
fn a_lost_page_names_all_snapshots_and_what_stood_in_it() {
    let (memory, repository) = new_repository(Encryption::None, 0);
    crate::testing::single_chunks(true);
    let mut source = files(2000);
    let mut ids: Vec<SnapshotId> = Vec::new();
    for _ in 0..5 {
        ids.push(take(&repository, &mut source).manifest.id);
    }
    crate::testing::single_chunks(false);
    let manifest = SnapshotList::read(&repository).unwrap().committed.remove(0);
    let root = manifest.root.unwrap();
    let reader = Reader::new(&repository);
    let tree = crate::tree::Tree::new(&reader, Some(root));
    let page = tree.page(&root.page, root.height).unwrap();
    let crate::format::page::Page::Inner(children) = page else {
        panic!("a tree of several pages");
    };
    let lost = &children[1];
    let pack = pack_of(&repository, &lost.page);
    assert!(memory.remove(&pack_key(&pack).unwrap()));
    let repository = open(&memory, Encryption::None, 0);
    let report = run(&repository, &CheckOptions::default());
    let [damage] = report.damage.as_slice() else {
        panic!("{:?}", report.damage);
    };
    assert_eq!(damage.kind, DamageKind::Pack);
    let mut named = damage.snapshots.clone();
    named.sort_unstable();
    ids.sort_unstable();
    assert_eq!(named, ids);
    let range = LostPaths {
        first: lost.first.clone(),
        until: Some(children[2].first.clone()),
        entries: lost.entries,
    };
    assert_eq!(damage.lost, [range]);
    assert!(damage.files.is_empty(), "{damage:?}");
}

#[test]
fn what_is_based_on_a_lost_chunk_is_lost_and_named() {
    let (memory, repository) = new_repository(Encryption::None, 0);
    crate::testing::single_chunks(true);
    let base = noise(4000, "base");
    let mut delta = base.clone();
    delta[77] ^= 1;
    {
        let session = Session::open(&repository, SessionKind::Writer).unwrap();
        let writer = Writer::new(&session, session.view().unwrap());
        let mut lane = writer.lane(World::Content);
        let first = lane.store(&base, &[]).unwrap().id;
        lane.flush().unwrap();
        writer.finish().unwrap();
        let writer = Writer::new(&session, session.view().unwrap());
        let mut lane = writer.lane(World::Content);
        lane.store(&delta, &[first]).unwrap();
        lane.flush().unwrap();
        writer.finish().unwrap();
        session.give_up();
    }
    let mut source = MapSource::default();
    source.files.insert(b"dependent".to_vec(), delta.clone());
    source.files.insert(b"other".to_vec(), noise(3000, "o"));
    let manifest = take(&repository, &mut source).manifest;
    crate::testing::single_chunks(false);
    let (base, delta) = (
        repository.keys().chunk_id(&base),
        repository.keys().chunk_id(&delta),
    );
    let found = repository.index().find(&repository.segments(), &delta);
    assert_eq!(
        found.unwrap().unwrap().places[0].bases.len(),
        1,
        "it is a delta"
    );
    let key = pack_key(&pack_of(&repository, &base)).unwrap();
    let whole = memory.get(&key).unwrap();
    for (options, harm) in [
        (CheckOptions::default(), true),
        (data(), false),
        (data(), true),
    ] {
        match harm {
            true => assert!(memory.remove(&key)),
            false => flip(&memory, &key, whole.len() / 2),
        }
        let report = run(&open(&memory, Encryption::None, 0), &options);
        let [damage] = report.damage.as_slice() else {
            panic!("{:?}", report.damage);
        };
        assert_eq!(damage.object, key.path());
        assert_eq!(damage.snapshots, [manifest.id]);
        assert_eq!(damage.files, [b"dependent".to_vec()]);
        memory.replace(&key, whole.clone());
    }
}

#[test]
fn the_index_level_finds_rows_that_a_pack_denies() {
    let (memory, repository) = new_repository(Encryption::None, 0);
    let mut source = files(50);
    take(&repository, &mut source);
    let segments = repository.segments();
    let at_level = |level| {
        let options = CheckOptions {
            level,
            ..CheckOptions::default()
        };
        run(&open(&memory, Encryption::None, 0), &options)
    };
    assert!(at_level(Level::Index).damage.is_empty());
    let (id, _) = segments.list().unwrap().remove(0);
    let mut segment = segments.get(&id).unwrap().unwrap();
    // A row of content: the walk reads pages at every level.
    let content = |r: &&SegmentRow| !segment.packs[r.pack as usize].tree;
    let at = segment.rows.iter().find(content).unwrap();
    let (number, offset) = (at.pack, at.offset);
    let pack = segment.packs[number as usize].id;
    for row in &mut segment.rows {
        if (row.pack, row.offset) == (number, offset) {
            row.offset += 1;
            row.stored -= 1;
        }
    }
    let (forged, sealed) =
        crate::writer::seal_segment(&repository, &segment, Uuid([1; 16])).unwrap();
    memory
        .put(&Key::new(Area::Index, forged).unwrap(), &sealed)
        .unwrap();
    memory.remove(&Key::new(Area::Index, id).unwrap());
    assert!(at_level(Level::Structure).damage.is_empty());
    for level in [Level::Index, Level::Data] {
        let report = at_level(level);
        let named = |d: &&Damage| d.object == pack_key(&pack).unwrap().path();
        let damage = report.damage.iter().find(named).unwrap();
        assert!(damage.what.contains("directory"), "{damage:?}");
        assert!(!damage.files.is_empty() || !damage.lost.is_empty());
    }
}

/// Every look at it takes a second.
struct Ticking(AtomicI64);

impl crate::clock::Clock for Ticking {
    fn now(&self) -> crate::clock::Timestamp {
        crate::clock::Timestamp {
            seconds: self.0.fetch_add(1, Ordering::Relaxed),
            nanos: 0,
        }
    }
}

fn ticking(memory: &Memory, from: i64) -> Repository {
    let backend: Arc<dyn Backend> = Arc::new(memory.clone());
    let environment = crate::environment::Environment {
        clock: Arc::new(Ticking(AtomicI64::new(from))),
        ..crate::testing::environment(0)
    };
    let credential = crate::testing::credential(Encryption::None);
    Repository::open(backend, &credential, environment).unwrap()
}

#[test]
fn a_budgeted_check_goes_on_where_the_last_one_stopped() {
    let (memory, repository) = new_repository(Encryption::None, 0);
    crate::testing::single_chunks(true);
    let mut source = files(100);
    take(&repository, &mut source);
    let options = CheckOptions {
        budget: Some(Duration::from_secs(20)),
        ..data()
    };
    let mut sum = 0;
    let mut rounds = 0;
    let total = run(&repository, &CheckOptions::default()).packs;
    while sum < total {
        let report = run(&ticking(&memory, 1000 * (rounds + 1)), &options);
        assert!(
            report.damage.is_empty() && report.notes.is_empty(),
            "{report:?}"
        );
        assert!((1..total).contains(&report.packs_read), "{report:?}");
        sum += report.packs_read;
        rounds += 1;
        let notes = Notes::read(&repository).unwrap();
        let checked = Checked::of(&notes);
        let packs = list_packs(&repository).unwrap();
        let seen = packs.keys().filter(|id| checked.when(id).is_some()).count() as u64;
        assert_eq!(seen, sum.min(total), "none is read twice before all are");
    }
    assert!(rounds > 3);
    // A new pack comes first; one that is bad comes again and again.
    source.files.insert(b"new".to_vec(), noise(5000, "new"));
    take(&repository, &mut source);
    crate::testing::single_chunks(false);
    let id = repository.keys().chunk_id(&source.files[&b"new"[..]]);
    let key = pack_key(&pack_of(&repository, &id)).unwrap();
    flip(&memory, &key, 300);
    for round in 0..3 {
        let report = run(&ticking(&memory, 100_000 + 1000 * round), &options);
        assert_eq!(report.damage.len(), 1);
        assert_eq!(report.damage[0].object, key.path());
        assert_eq!(report.damage[0].files, [b"new".to_vec()]);
    }
    let before = memory.object_count();
    let dry = CheckOptions {
        dry_run: true,
        ..options
    };
    run(&ticking(&memory, 500_000), &dry);
    assert_eq!(memory.object_count(), before, "nothing is noted");
}

#[test]
fn a_full_check_notes_which_snapshots_are_whole() {
    let (memory, repository) = new_repository(Encryption::None, 0);
    crate::testing::single_chunks(true);
    let mut source = files(30);
    let first = take(&repository, &mut source).manifest.id;
    source
        .files
        .insert(b"second".to_vec(), noise(5000, "second"));
    let second = take(&repository, &mut source).manifest.id;
    crate::testing::single_chunks(false);
    let id = repository.keys().chunk_id(&source.files[&b"second"[..]]);
    flip(&memory, &pack_key(&pack_of(&repository, &id)).unwrap(), 300);
    let part = CheckOptions {
        subset: Some(Subset::Percent(50.0)),
        ..data()
    };
    let verified = |options: &CheckOptions| {
        run(&open(&memory, Encryption::None, 0), options);
        let notes = Notes::read(&repository).unwrap();
        [first, second].map(|id| notes.verified(id).is_some())
    };
    assert_eq!(verified(&CheckOptions::default()), [false, false]);
    assert_eq!(verified(&part), [false, false]);
    assert_eq!(verified(&data()), [true, false]);
}

#[test]
fn a_slot_that_holds_another_config_is_told() {
    let encryption = Encryption::XChaCha20Poly1305;
    let (memory, repository) = new_repository(encryption, 0);
    let slot = repository.list_names(Area::Keys).unwrap();
    let slot = slot.iter().find(|n| n.len() == 32).unwrap();
    let key = Key::new(Area::Keys, slot).unwrap();
    let mut bytes = memory.get(&key).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    memory.replace(&key, bytes);
    let report = run(&open(&memory, encryption, 0), &CheckOptions::default());
    let [damage] = report.damage.as_slice() else {
        panic!("{:?}", report.damage);
    };
    assert_eq!(
        (damage.kind, &damage.object),
        (DamageKind::KeySlot, &key.path())
    );
    assert!(damage.what.contains("copy of config"), "{damage:?}");
}

#[test]
fn lists_are_bounded_and_count_the_rest() {
    let mut ledger = Ledger::default();
    let line = ledger
        .add(DamageKind::Pack, "a".into(), "x".into())
        .unwrap();
    for i in 0..150u32 {
        for _ in 0..2 {
            ledger.file(line, &i.to_le_bytes());
            ledger.lost(
                line,
                &LostPaths {
                    first: i.to_le_bytes().to_vec(),
                    until: None,
                    entries: 1,
                },
            );
        }
    }
    for i in 0..MAX_DAMAGE + 500 {
        ledger.add(DamageKind::Pack, i.to_string(), "x".into());
    }
    for i in 0..300 {
        ledger.note(i.to_string());
    }
    let mut report = CheckReport::default();
    ledger.finish(&mut report);
    assert_eq!((report.damage.len(), report.more_damage), (MAX_DAMAGE, 501));
    assert_eq!(
        (report.notes.len(), &*report.notes[100]),
        (101, "200 more notes")
    );
    let first = report.damage.iter().find(|d| d.object == "a").unwrap();
    assert_eq!((first.files.len(), first.more_files), (MAX_FILES, 50));
    assert_eq!((first.lost.len(), first.more_lost), (MAX_FILES, 50));
}

#[test]
fn a_repository_damaged_at_random_never_makes_a_check_panic() {
    for encryption in [Encryption::None, Encryption::XChaCha20Poly1305] {
        let (whole, repository) = new_repository(encryption, 0);
        let mut source = files(60);
        take(&repository, &mut source);
        source.files.insert(b"more".to_vec(), noise(70_000, "more"));
        take(&repository, &mut source);
        run(&repository, &data());
        let mut keys = vec![Key::config()];
        for area in Area::ALL.into_iter().filter(|a| *a != Area::Config) {
            let names = repository.list_names(area).unwrap();
            keys.extend(names.iter().map(|n| Key::new(area, n).unwrap()));
        }
        for seed in 0..150u64 {
            let memory = whole.fork();
            let random = noise(64, &seed.to_string());
            let number = |at: usize| u64::from_le_bytes(random[at..at + 8].try_into().unwrap());
            for harm in 0..1 + seed as usize % 3 {
                let key = &keys[number(harm * 16) as usize % keys.len()];
                let at = number(harm * 16 + 8) as usize;
                let Ok(mut bytes) = memory.get(key) else {
                    continue;
                };
                match number(48 + harm) % 3 {
                    0 => flip(&memory, key, at),
                    1 => {
                        bytes.truncate(at % bytes.len());
                        memory.replace(key, bytes);
                    }
                    _ => assert!(memory.remove(key)),
                }
            }
            let backend: Arc<dyn Backend> = Arc::new(memory);
            let credential = crate::testing::credential(encryption);
            let environment = crate::testing::environment(0);
            let Ok(repository) = Repository::open(backend, &credential, environment) else {
                continue;
            };
            let _ = check(&repository, &data(), &Silent::default());
        }
    }
}

#[test]
fn a_pack_that_the_disk_does_not_give_back_is_damage_and_the_rest_is_checked() {
    // Cuts follow from the keys: with these no record holds chunks of two files.
    crate::crypto::seeded::seed(b"bad sector");
    let (memory, repository) = new_repository(Encryption::None, 0);
    let mut source = MapSource::default();
    for name in ["a", "b", "c"] {
        source.files.insert(name.into(), noise(400_000, name));
    }
    let manifest = take(&repository, &mut source).manifest;
    let reader = Reader::new(&repository);
    let tree = crate::tree::Tree::new(&reader, manifest.root);
    let entry = tree.find(b"b").unwrap().unwrap();
    let first = tree
        .extents(&entry.content)
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    let crate::entry::Extent::Chunk { id, .. } = first else {
        panic!("a chunk");
    };
    let found = repository.index().find(&repository.segments(), &id);
    let at = u64::from(found.unwrap().unwrap().places[0].offset) + 20;
    let key = pack_key(&pack_of(&repository, &id)).unwrap();
    let faulty = Faulty::new(memory);
    faulty.spoil(key.clone(), at..at + 1);
    let bad: Arc<dyn Backend> = Arc::new(faulty);
    let credential = crate::testing::credential(Encryption::None);
    let environment = crate::testing::environment(0);
    let repository = Repository::open(bad, &credential, environment).unwrap();
    assert!(run(&repository, &CheckOptions::default()).damage.is_empty());
    let report = run(&repository, &data());
    let [damage] = report.damage.as_slice() else {
        panic!("{:?}", report.damage);
    };
    assert_eq!(damage.object, key.path());
    assert!(damage.what.contains("input/output error"), "{damage:?}");
    assert_eq!(damage.files, [b"b".to_vec()], "{damage:?}");
    assert_eq!(report.packs_read, report.packs);
}

//! Repair on the memory backend: whatever is damaged in whatever way, what is left is made whole,
//! the rest is named, gc goes on, and nothing that could be read before is lost.

mod copies;

use std::sync::Arc;

use super::*;
use crate::backend::{Area, Backend, Memory};
use crate::browse;
use crate::check::{CheckOptions, Level, check};
use crate::crypto::{Encryption, Kind};
use crate::gc::{Fence, GcError, GcOptions, GcReport, MaxUnused, gc};
use crate::monitor::Silent;
use crate::pack::pack_key;
use crate::record::World;
use crate::repository::{OpenError, config_copy, named_key, uuid_key};
use crate::snapshots::SnapshotList;
use crate::source::Source;
use crate::testing::{MapSource, credential, environment, new_repository, noise, open, take};
use crate::view::{list_packs, read_lists};

const PLAIN: Encryption = Encryption::None;
const SEALED: Encryption = Encryption::XChaCha20Poly1305;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Harm {
    Flip,
    Cut,
    Remove,
}

const HARMS: [Harm; 3] = [Harm::Flip, Harm::Cut, Harm::Remove];

/// In the middle.
fn harm(memory: &Memory, key: &Key, how: Harm) {
    let middle = memory.get(key).unwrap().len() / 2;
    harm_at(memory, key, how, middle);
}

fn harm_at(memory: &Memory, key: &Key, how: Harm, at: usize) {
    let mut bytes = memory.get(key).unwrap();
    match how {
        Harm::Flip => bytes[at] ^= 0x10,
        Harm::Cut => bytes.truncate(at),
        Harm::Remove => {
            assert!(memory.remove(key));
            return;
        }
    }
    memory.replace(key, bytes);
}

fn keys(memory: &Memory, area: Area) -> Vec<Key> {
    let mut keys = Vec::new();
    memory
        .list(area, &mut |l| keys.push(Key::new(area, l.name).unwrap()))
        .unwrap();
    keys
}

fn files(names: &[(&str, usize)]) -> MapSource {
    let mut source = MapSource::default();
    for (name, len) in names {
        source
            .files
            .insert(name.as_bytes().to_vec(), noise(*len, name));
    }
    source
}

/// Two snapshots of a few files, the second with one more.
fn two(encryption: Encryption) -> (Memory, MapSource) {
    let (memory, repository) = new_repository(encryption, 0);
    let mut source = files(&[("a/one", 200_000), ("a/two", 1_500_000), ("small", 3_000)]);
    take(&repository, &mut source);
    source
        .files
        .insert(b"new".to_vec(), noise(700_000, "the new file"));
    take(&open(&memory, encryption, 0), &mut source);
    (memory, source)
}

fn fix_with(memory: &Memory, encryption: Encryption, options: &RepairOptions) -> RepairReport {
    let backend: Arc<dyn Backend> = Arc::new(memory.clone());
    let found = config::find(&backend, &credential(encryption)).unwrap();
    let (repository, state) = ConfigState::open(found, environment(0)).unwrap();
    repair(&repository, &state, options, &Silent::default()).unwrap()
}

fn fix(memory: &Memory, encryption: Encryption) -> RepairReport {
    fix_with(memory, encryption, &RepairOptions::default())
}

fn give_up(memory: &Memory) -> RepairReport {
    let options = RepairOptions {
        lost: Lost::GiveUp,
        ..RepairOptions::default()
    };
    fix_with(memory, PLAIN, &options)
}

fn damage(memory: &Memory, encryption: Encryption) -> Vec<String> {
    let repository = open(memory, encryption, 0);
    let options = CheckOptions {
        level: Level::Data,
        ..CheckOptions::default()
    };
    let report = check(&repository, &options, &Silent::default()).unwrap();
    let line = |d: &crate::check::Damage| format!("{}: {}", d.object, d.what);
    report.damage.iter().map(line).collect()
}

#[track_caller]
fn assert_whole(memory: &Memory, encryption: Encryption) {
    assert_eq!(damage(memory, encryption), Vec::<String>::new());
}

fn collect(memory: &Memory, encryption: Encryption) -> Result<GcReport, GcError> {
    let options = GcOptions {
        max_unused: MaxUnused::Bytes(0),
        force: true,
        fence: Fence::Now,
        ..GcOptions::default()
    };
    gc(&open(memory, encryption, 0), &options, &Silent::default())
}

/// Every file of every snapshot reads back as it was, as far as its name is in the source.
#[track_caller]
fn assert_restores(memory: &Memory, encryption: Encryption, source: &MapSource) {
    let repository = open(memory, encryption, 0);
    for manifest in SnapshotList::read(&repository).unwrap().committed {
        for (path, bytes) in &source.files {
            let mut out = Vec::new();
            match browse::cat(&repository, &manifest, path, &mut out) {
                Err(browse::BrowseError::NotFound(_)) => {}
                other => {
                    other.unwrap();
                    assert!(out == *bytes, "{}", String::from_utf8_lossy(path));
                }
            }
        }
    }
}

/// The pack where a file's first chunk stands.
fn pack_of(memory: &Memory, plain: &[u8]) -> Key {
    record_of(memory, plain, 0).0
}

/// The pack where a chunk of a file stands, and the middle of its record. In which order a snapshot
/// writes its records is not known.
fn record_of(memory: &Memory, plain: &[u8], at: usize) -> (Key, usize) {
    let repository = open(memory, PLAIN, 0);
    repository.update_index().unwrap();
    let table = Arc::new(hucha_chunker::GearTable::derive(
        repository.keys().gear_key(),
    ));
    let cutter = hucha_chunker::Cutter::new(table, MapSource::default().profile());
    let mut end = 0;
    let holds = |chunk: &&[u8]| {
        end += chunk.len();
        end > at
    };
    let chunk = cutter.chunks(plain).find(holds).unwrap();
    let id = World::Content.id(repository.keys(), chunk);
    let segments = repository.segments();
    let found = repository.index().find(&segments, &id).unwrap().unwrap();
    let place = &found.places[0];
    let pack = repository.index().pack(place.pack).unwrap();
    let middle = place.offset as usize + place.stored as usize / 2;
    (pack_key(&pack.id).unwrap(), middle)
}

#[test]
fn a_whole_repository_needs_nothing() {
    for encryption in [PLAIN, SEALED] {
        let (memory, _) = two(encryption);
        let before = memory.object_count();
        let report = fix(&memory, encryption);
        assert!(report.done.is_empty(), "{:?}", report.done);
        assert!(report.losses.is_empty(), "{:?}", report.losses);
        assert_eq!(memory.object_count(), before);
    }
}

#[test]
fn segments_are_made_anew_from_packs() {
    let (memory, source) = two(SEALED);
    for key in keys(&memory, Area::Index) {
        for how in HARMS {
            let memory = memory.fork();
            harm(&memory, &key, how);
            assert!(!damage(&memory, SEALED).is_empty());
            let dry = RepairOptions {
                dry_run: true,
                ..RepairOptions::default()
            };
            let before = memory.object_count();
            let planned = fix_with(&memory, SEALED, &dry);
            assert!(!planned.done.is_empty() && memory.object_count() == before);
            let report = fix(&memory, SEALED);
            assert!(report.losses.is_empty(), "{how:?}: {:?}", report.losses);
            assert!(memory.get(&key).is_err(), "the bad segment is superseded");
            assert_whole(&memory, SEALED);
            assert_restores(&memory, SEALED, &source);
            collect(&memory, SEALED).unwrap();
            assert_whole(&memory, SEALED);
            assert!(
                fix(&memory, SEALED).done.is_empty(),
                "{how:?}: once is enough"
            );
        }
    }
}

#[test]
fn packs_of_a_running_writer_are_indexed_only_for_a_bad_segment() {
    let (memory, _) = two(PLAIN);
    let repository = open(&memory, PLAIN, 0);
    let session = Session::open(&repository, SessionKind::Writer).unwrap();
    let writer = crate::writer::Writer::new(&session, session.view().unwrap());
    let writer = writer.with_pack_size(1);
    let mut lane = writer.lane(World::Content);
    lane.store(&noise(100_000, "running"), &[]).unwrap();
    lane.flush().unwrap();
    assert!(fix(&memory, PLAIN).done.is_empty());
    harm(&memory, &keys(&memory, Area::Index)[0], Harm::Flip);
    assert_eq!(
        fix(&memory, PLAIN).packs_indexed,
        3,
        "{:?}",
        list_packs(&repository)
    );
}

#[test]
fn a_bad_pack_is_condemned_and_the_next_snapshot_heals() {
    let (memory, mut source) = two(PLAIN);
    for how in HARMS {
        let memory = memory.fork();
        let (key, middle) = record_of(&memory, &source.files[&b"a/two"[..]], 750_000);
        harm_at(&memory, &key, how, middle);
        if how == Harm::Remove {
            assert!(matches!(
                collect(&memory, PLAIN),
                Err(GcError::Damaged { .. })
            ));
        }
        let report = fix(&memory, PLAIN);
        assert_eq!(
            report.losses.len(),
            2,
            "{how:?}: both snapshots: {report:?}"
        );
        let named = report.losses[0].parts.iter().map(|p| p.path().to_vec());
        assert!(named.clone().any(|p| p == b"a/two"), "{report:?}");
        // What could be read before can be read now, and gc frees other things.
        let other = take(&open(&memory, PLAIN, 0), &mut files(&[("x", 900_000)]));
        mark(&open(&memory, PLAIN, 0), other.manifest.name).unwrap();
        let freed = collect(&memory, PLAIN).unwrap();
        assert!(freed.bytes_freed > 800_000, "{how:?}: {freed:?}");
        assert!(freed.chunks_lost > 0);
        assert_eq!(
            freed.packs_held,
            u64::from(how != Harm::Remove),
            "{freed:?}"
        );
        assert_eq!(memory.get(&key).is_ok(), how != Harm::Remove);
        let again = fix(&memory, PLAIN);
        assert!(again.done.is_empty(), "it is known: {again:?}");
        assert_eq!(again.losses.len(), 2);
        // The data is still there: a snapshot of it makes the older ones whole.
        take(&open(&memory, PLAIN, 0), &mut source);
        assert!(fix(&memory, PLAIN).losses.is_empty());
        assert_restores(&memory, PLAIN, &source);
        let freed = collect(&memory, PLAIN).unwrap();
        assert_eq!((freed.chunks_lost, freed.packs_held), (0, 0));
        assert!(memory.get(&key).is_err(), "the bad pack is swept");
        assert!(read_lists(&open(&memory, PLAIN, 0)).unwrap().is_empty());
        assert_whole(&memory, PLAIN);
    }
}

#[test]
fn what_a_bad_pack_still_gives_is_copied() {
    let (memory, source) = two(PLAIN);
    let key = pack_of(&memory, &source.files[&b"a/two"[..]]);
    let whole = memory.get(&key).unwrap();
    // A flipped bit costs one record; one in the directory or the header costs nothing.
    let middle = whole.len() / 2;
    for (at, loses) in [
        (whole.len() - 1, false),
        (9, false),
        (30, false),
        (middle, true),
    ] {
        let memory = memory.fork();
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        memory.replace(&key, bytes);
        let report = fix(&memory, PLAIN);
        assert_eq!(report.packs_condemned, 1);
        assert!(report.chunks_copied > 0, "{report:?}");
        // A record holds one chunk or several.
        assert_eq!(report.chunks_lost > 0, loses, "byte {at}: {report:?}");
        assert_eq!(!report.losses.is_empty(), loses);
        if !loses {
            assert!(collect(&memory, PLAIN).is_ok());
            assert!(memory.get(&key).is_err());
            assert_whole(&memory, PLAIN);
            assert_restores(&memory, PLAIN, &source);
        }
    }
}

#[test]
fn giving_up_saves_the_rest() {
    // With other cut points the record that is hit may hold a chunk of a/one, too.
    crate::crypto::seeded::seed(b"give up");
    let (memory, source) = two(PLAIN);
    let lost = &source.files[&b"a/two"[..]];
    let (key, middle) = record_of(&memory, lost, 750_000);
    harm_at(&memory, &key, Harm::Flip, middle);
    let report = give_up(&memory);
    assert_eq!(report.snapshots_rewritten, 2, "{report:?}");
    assert!(report.losses.is_empty());
    let repository = open(&memory, PLAIN, 0);
    let list = SnapshotList::read(&repository).unwrap();
    assert_eq!((list.committed.len(), list.forgotten.len()), (2, 2));
    for manifest in &list.committed {
        assert!(manifest.incomplete && manifest.origin.is_some());
        assert!(
            manifest.problems[0].starts_with("a/two: "),
            "{:?}",
            manifest.problems
        );
        let mut out = Vec::new();
        browse::cat(&repository, manifest, b"a/two", &mut out).unwrap();
        assert_eq!(out.len(), lost.len());
        // A record holds several chunks, and they need not be neighbours.
        let mut left = lost.clone();
        for part in &report.done.last().unwrap().parts {
            let LostPart::Bytes { offset, len, .. } = part else {
                panic!("{report:?}");
            };
            left[*offset as usize..(*offset + *len) as usize].fill(0);
        }
        assert!(out == left && left != *lost);
        let mut out = Vec::new();
        browse::cat(&repository, manifest, b"a/one", &mut out).unwrap();
        assert!(out == source.files[&b"a/one"[..]]);
    }
    assert!(give_up(&memory).done.is_empty());
    // Its files look unchanged, and are read again all the same: zeros are not handed on.
    let mut again = source.clone();
    let report = take(&repository, &mut again);
    assert!(report.manifest.new_bytes > 0);
    let mut out = Vec::new();
    browse::cat(&repository, &report.manifest, b"a/two", &mut out).unwrap();
    assert!(out == *lost);
    let freed = collect(&memory, PLAIN).unwrap();
    assert_eq!((freed.chunks_lost, freed.packs_held), (0, 0));
    assert!(memory.get(&key).is_err());
    assert_whole(&memory, PLAIN);
}

#[test]
fn lost_pages_are_named_by_the_paths_around_them() {
    let (memory, repository) = new_repository(PLAIN, 0);
    let mut source = MapSource::default();
    for i in 0..4000 {
        let name = format!("folder/file {i:05}").into_bytes();
        source.files.insert(name, noise(200, &i.to_string()));
    }
    let manifest = take(&repository, &mut source).manifest;
    let tree = crate::reader::Reader::new(&repository);
    let tree = crate::tree::Tree::new(&tree, manifest.root);
    let mut walk = tree.walk(b"folder/file 02000").unwrap();
    walk.next_item().unwrap();
    let page = walk.page().unwrap();
    let segments = repository.segments();
    let found = repository.index().find(&segments, &page).unwrap().unwrap();
    let place = found.places[0];
    let pack = repository.index().pack(place.pack).unwrap();
    let key = pack_key(&pack.id).unwrap();
    let mut bytes = memory.get(&key).unwrap();
    bytes[place.offset as usize + 40] ^= 1;
    memory.replace(&key, bytes);
    let report = fix(&memory, PLAIN);
    let sought = b"folder/file 02000".as_slice();
    let (mut count, mut around) = (0, 0);
    // A record holds several pages.
    for part in &report.losses[0].parts {
        let LostPart::Entries {
            first,
            until,
            count: more,
        } = part
        else {
            panic!("{report:?}");
        };
        let before_end = until.as_deref().is_none_or(|until| sought < until);
        around += u64::from(first.as_slice() <= sought && before_end);
        count += more;
    }
    assert_eq!(around, 1);
    assert!(collect(&memory, PLAIN).unwrap().chunks_lost >= 1);
    let report = give_up(&memory);
    assert!(report.losses.is_empty());
    let rest = SnapshotList::read(&open(&memory, PLAIN, 0))
        .unwrap()
        .committed;
    assert_eq!(rest[0].entries + count, manifest.entries);
    collect(&memory, PLAIN).unwrap();
    assert_whole(&memory, PLAIN);
    assert_restores(&memory, PLAIN, &source);
}

#[test]
fn config_and_keys_come_back_from_their_copies() {
    for encryption in [PLAIN, SEALED] {
        let (memory, source) = two(encryption);
        let mut fixed = vec![Key::config(), config_copy()];
        let is_data = |k: &Key| k.name().starts_with("data-");
        fixed.extend(keys(&memory, Area::Keys).into_iter().filter(is_data));
        for key in fixed {
            for how in HARMS {
                let memory = memory.fork();
                let before = memory.get(&key).unwrap();
                harm(&memory, &key, how);
                let report = fix(&memory, encryption);
                assert_eq!(report.done.len(), 1, "{key} {how:?}: {report:?}");
                assert!(report.losses.is_empty());
                assert!(memory.get(&key).unwrap() == before, "{key} {how:?}");
                assert_whole(&memory, encryption);
                assert_restores(&memory, encryption, &source);
            }
        }
    }
}

#[test]
fn a_key_slot_comes_back_only_from_itself() {
    let (memory, _) = two(SEALED);
    let repository = open(&memory, SEALED, 0);
    let slot = repository.slots().unwrap()[0].id;
    let key = named_key(Area::Keys, slot);
    let whole = memory.get(&key).unwrap();
    // Its copy of config is behind both seals.
    let mut bytes = whole.clone();
    let last = bytes.len() - 5;
    bytes[last] ^= 1;
    memory.replace(&key, bytes);
    assert_eq!(fix(&memory, SEALED).done.len(), 1);
    assert!(memory.get(&key).unwrap() == whole);
    // Interrupted while it was replaced.
    memory.remove(&key);
    memory.replace(&crate::repository::slot_copy(slot), whole.clone());
    assert_eq!(fix(&memory, SEALED).done.len(), 2);
    assert!(memory.get(&key).unwrap() == whole);
    assert!(memory.get(&crate::repository::slot_copy(slot)).is_err());
    assert_whole(&memory, SEALED);
    // The last slot is the one thing that nothing brings back.
    memory.remove(&key);
    let backend: Arc<dyn Backend> = Arc::new(memory.clone());
    let error = config::find(&backend, &credential(SEALED)).err().unwrap();
    assert!(matches!(error, OpenError::WrongKey));
}

/// Removes the copy of a manifest.
fn lose_copy(memory: &Memory, manifest: &Key) {
    let name = manifest.name().parse().unwrap();
    assert!(memory.remove(&crate::copies::copy_key(Area::Snapshots, name)));
}

#[test]
fn manifests_that_do_not_open_stop_gc_until_they_are_given_up() {
    let (memory, source) = two(PLAIN);
    for how in [Harm::Flip, Harm::Cut] {
        let memory = memory.fork();
        let key = keys(&memory, Area::Snapshots).remove(0);
        harm(&memory, &key, how);
        lose_copy(&memory, &key);
        let report = fix(&memory, PLAIN);
        assert_eq!((report.done.len(), report.losses.len()), (0, 1));
        assert!(collect(&memory, PLAIN).is_err());
        assert!(give_up(&memory).losses.is_empty());
        collect(&memory, PLAIN).unwrap();
        assert_whole(&memory, PLAIN);
        assert_restores(&memory, PLAIN, &source);
    }
}

#[test]
fn a_damaged_tombstone_is_marked_and_stays() {
    let (memory, source) = two(PLAIN);
    let repository = open(&memory, PLAIN, 0);
    let name = crate::crypto::fresh_uuid();
    settle(&repository, name).unwrap();
    let key = uuid_key(Area::Snapshots, name);
    harm(&memory, &key, Harm::Flip);
    assert!(collect(&memory, PLAIN).is_err());
    let report = fix(&memory, PLAIN);
    assert_eq!((report.done.len(), report.losses.len()), (1, 0));
    collect(&memory, PLAIN).unwrap();
    assert!(memory.get(&key).is_ok(), "the name stays taken");
    assert_whole(&memory, PLAIN);
    assert_restores(&memory, PLAIN, &source);
}

#[test]
fn names_that_vanished_are_settled_again() {
    let (memory, _) = two(PLAIN);
    let repository = open(&memory, PLAIN, 0);
    let list = SnapshotList::read(&repository).unwrap();
    let names: Vec<Uuid> = list.committed.iter().map(|m| m.name).collect();
    mark(&repository, names[0]).unwrap();
    crate::gc::remember(&repository, &SnapshotList::read(&repository).unwrap());
    memory.remove(&uuid_key(Area::Trash, names[0]));
    let lost = uuid_key(Area::Snapshots, names[1]);
    memory.remove(&lost);
    lose_copy(&memory, &lost);
    let state = ConfigState {
        stored: memory.get(&Key::config()).unwrap(),
        fault: None,
    };
    let run = |lost| {
        let options = RepairOptions {
            lost,
            ..RepairOptions::default()
        };
        repair(&repository, &state, &options, &Silent::default()).unwrap()
    };
    let report = run(Lost::Keep);
    assert_eq!(
        (report.done.len(), report.losses.len()),
        (1, 1),
        "{report:?}"
    );
    assert!(gc(&repository, &GcOptions::default(), &Silent::default()).is_err());
    let report = run(Lost::GiveUp);
    assert_eq!(
        (report.done.len(), report.losses.len()),
        (1, 0),
        "{report:?}"
    );
    let force = GcOptions {
        force: true,
        ..GcOptions::default()
    };
    gc(&repository, &force, &Silent::default()).unwrap();
}

/// A list, and what its sweep waits for.
fn with_list(memory: &Memory) -> Uuid {
    let repository = open(memory, PLAIN, 0);
    let session = Session::open(&repository, SessionKind::Collector).unwrap();
    let packs = list_packs(&repository).unwrap().into_keys().take(1);
    let what = Condemnation {
        packs: packs.collect(),
        ..Condemnation::default()
    };
    let list = crate::gc::put_list(&session, what).unwrap();
    session.close();
    list
}

#[test]
fn a_damaged_list_is_covered_by_one_of_all_packs() {
    for how in [Harm::Flip, Harm::Cut] {
        let (memory, mut source) = two(PLAIN);
        let key = uuid_key(Area::Gc, with_list(&memory));
        harm(&memory, &key, how);
        let repository = open(&memory, PLAIN, 0);
        assert!(
            read_lists(&repository).is_err(),
            "no writer knows what is condemned"
        );
        let before = list_packs(&repository).unwrap();
        let report = fix(&memory, PLAIN);
        assert_eq!(report.packs_condemned, before.len() as u64);
        assert!(report.losses.is_empty() && fix(&memory, PLAIN).done.is_empty());
        take(&open(&memory, PLAIN, 0), &mut source);
        collect(&memory, PLAIN).unwrap();
        let after = list_packs(&repository).unwrap();
        assert!(after.keys().all(|p| !before.contains_key(p)));
        assert!(
            keys(&memory, Area::Gc).is_empty(),
            "the damaged list goes last"
        );
        assert_whole(&memory, PLAIN);
        assert_restores(&memory, PLAIN, &source);
    }
}

#[test]
fn a_damaged_open_list_is_put_again() {
    for how in [Harm::Flip, Harm::Cut] {
        let (memory, source) = two(PLAIN);
        let list = with_list(&memory);
        harm(
            &memory,
            &named_key(Area::Gc, format_args!("{list}.open")),
            how,
        );
        assert!(collect(&memory, PLAIN).unwrap().packs_deleted >= 1);
        assert!(keys(&memory, Area::Gc).is_empty());
        assert_whole(&memory, PLAIN);
        assert_restores(&memory, PLAIN, &source);
    }
}

/// A pack that is bad, and a list that names it: whoever sweeps, nothing that can be read goes.
#[test]
fn new_damage_stops_gc_though_older_is_known() {
    let (memory, source) = two(PLAIN);
    harm(
        &memory,
        &pack_of(&memory, &source.files[&b"new"[..]]),
        Harm::Flip,
    );
    fix(&memory, PLAIN);
    assert!(collect(&memory, PLAIN).is_ok());
    let key = pack_of(&memory, &source.files[&b"a/one"[..]]);
    memory.remove(&key);
    assert!(matches!(
        collect(&memory, PLAIN),
        Err(GcError::Damaged { .. })
    ));
    fix(&memory, PLAIN);
    assert!(collect(&memory, PLAIN).is_ok());
}

#[test]
fn damaged_markers_and_sessions_need_no_repair() {
    let (memory, _) = two(PLAIN);
    let repository = open(&memory, PLAIN, 0);
    let name = SnapshotList::read(&repository).unwrap().committed[0].name;
    mark(&repository, name).unwrap();
    harm(&memory, &uuid_key(Area::Trash, name), Harm::Flip);
    let session = Session::open(&repository, SessionKind::Writer).unwrap();
    let key = uuid_key(Area::Sessions, session.name());
    harm(&memory, &key, Harm::Cut);
    assert!(fix(&memory, PLAIN).losses.is_empty());
    assert!(repository.get_object(&key, Kind::Session).is_err());
    collect(&memory, PLAIN).unwrap();
    assert!(memory.get(&key).is_err());
    assert_eq!(SnapshotList::read(&repository).unwrap().committed.len(), 1);
    assert_whole(&memory, PLAIN);
}

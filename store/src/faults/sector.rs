//! Disks with bad sectors: what cannot be read for good is damage of the pack where it lies, and
//! everything else goes on. A storage of which most cannot be read fails, and nothing is given up.

use std::sync::Arc;

use super::scene::{Known, Scene, every_byte, holds, restored, thorough};
use crate::backend::{Area, Backend, Faulty, Key, Memory};
use crate::check::{CheckOptions, check};
use crate::crypto::Encryption;
use crate::error::AccessError;
use crate::gc::gc;
use crate::id::PackId;
use crate::monitor::Silent;
use crate::pack::{pack_key, read_directory};
use crate::repair::config::find;
use crate::repair::{ConfigState, Part, RepairOptions, RepairReport, repair};
use crate::repository::Repository;
use crate::restore::RestoreError;
use crate::testing::{MapSource, credential, environment, new_repository, noise, take};
use crate::view::list_packs;

type Disk = Arc<Faulty<Memory>>;

fn history() -> Scene {
    Scene::empty().snapshot(0).snapshot(1).snapshot(2)
}

fn disk(scene: &Scene) -> (Disk, Repository) {
    let disk = Arc::new(Faulty::new(scene.memory.clone()));
    let repository = scene.open_at(Arc::<Faulty<Memory>>::clone(&disk)).unwrap();
    (disk, repository)
}

fn keys(memory: &Memory, area: Area) -> Vec<Key> {
    let mut keys = Vec::new();
    let mut add = |name| keys.push(Key::new(area, name).unwrap());
    memory.list(area, &mut |listed| add(listed.name)).unwrap();
    keys
}

fn packs(memory: &Memory) -> Vec<Key> {
    keys(memory, Area::Packs)
}

fn mend(disk: &Disk, part: Option<Part>) -> Result<RepairReport, AccessError> {
    let backend: Arc<dyn Backend> = Arc::<Faulty<Memory>>::clone(disk);
    let found = find(&backend, &credential(Encryption::None)).unwrap();
    let (repository, state) = ConfigState::open(found, environment(0)).unwrap();
    let options = RepairOptions {
        part,
        ..RepairOptions::default()
    };
    repair(&repository, &state, &options, &Silent::default())
}

/// Restores, and fails unless what is told is damage, and what is not told is right. Answers how
/// many things are damaged.
fn restores(repository: &Repository, known: &Known) -> usize {
    let (report, files) = match restored(repository, &known.manifest) {
        Ok(restored) => restored,
        // The root of the tree.
        Err(RestoreError::Access(e)) if e.is_damage() => return 1,
        Err(other) => panic!("{other}"),
    };
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    for (path, bytes) in &known.source.files {
        match files.get(path) {
            Some(found) => assert!(found == bytes, "{}", String::from_utf8_lossy(path)),
            None => assert!(!report.damaged.is_empty()),
        }
    }
    report.damaged.len()
}

#[test]
fn a_pack_that_cannot_be_read_is_damage_and_all_else_goes_on() {
    let before = history();
    let mut lossy = 0;
    for key in packs(&before.memory) {
        let scene = before.fork();
        let (disk, repository) = disk(&scene);
        disk.spoil(key.clone(), 0..u64::MAX);
        let report = check(&repository, &every_byte(), &Silent::default()).unwrap();
        let told = report.damage.iter().find(|d| d.object == key.path());
        let told = told.unwrap_or_else(|| panic!("{:?}", report.damage));
        assert!(told.what.contains("input/output error"), "{}", told.what);
        let damaged: usize = scene.kept.iter().map(|k| restores(&repository, k)).sum();

        let report = mend(&disk, None).unwrap();
        assert_eq!(report.packs_condemned, 1, "{key}: {:?}", report.done);
        assert_eq!(report.done[0].object, key.path());
        assert_eq!(report.losses.is_empty(), damaged == 0, "{key}");
        assert!(!report.losses.is_empty(), "each pack is needed");
        let again = mend(&disk, None).unwrap();
        assert_eq!((again.packs_condemned, again.chunks_lost), (0, 0), "{key}");
        assert_eq!(again.losses, report.losses);
        let freed = gc(&repository, &thorough(), &Silent::default()).unwrap();
        assert_eq!(freed.packs_held, 1, "{key}: what is lost may come back");

        // The same data again heals what is of it.
        let mut newest = scene.kept[2].source.clone();
        let manifest = take(&scene.open_at(disk.clone()).unwrap(), &mut newest).manifest;
        let repository = scene.stranger().open_at(disk.clone()).unwrap();
        holds(&repository, &manifest, &newest).unwrap();
        lossy += usize::from(restores(&repository, &scene.kept[0]) > 0);
        gc(&repository, &thorough(), &Silent::default()).unwrap();
        holds(&repository, &manifest, &newest).unwrap();
    }
    assert!(lossy > 0, "what only older snapshots have stays lost");
}

/// Manifests, notes and segments come back, and all goes on meanwhile.
#[test]
fn a_small_object_that_cannot_be_read_is_read_from_its_copy_or_made_again() {
    let before = history();
    let noting = CheckOptions {
        dry_run: false,
        ..every_byte()
    };
    check(&before.open(), &noting, &Silent::default()).unwrap();
    for area in [Area::Snapshots, Area::Notes, Area::Copies, Area::Index] {
        let keys = keys(&before.memory, area);
        assert!(!keys.is_empty(), "{area:?}");
        for key in keys {
            let scene = before.fork();
            let (disk, _) = disk(&scene);
            disk.spoil(key.clone(), 0..u64::MAX);
            let stranger = scene.stranger().open_at(disk.clone()).unwrap();
            let report = check(&stranger, &every_byte(), &Silent::default()).unwrap();
            let told = report.damage.iter().find(|d| d.object == key.path());
            let told = told.unwrap_or_else(|| panic!("{key}: {:?}", report.damage));
            assert!(told.what.contains("input/output error"), "{}", told.what);
            if area != Area::Index {
                let damaged = scene.kept.iter().map(|k| restores(&stranger, k));
                assert_eq!(damaged.sum::<usize>(), 0, "{key}");
            }
            let report = mend(&disk, None).unwrap();
            assert_eq!((report.done.len(), report.losses.len()), (1, 0), "{key}");
            let stranger = scene.stranger().open_at(disk.clone()).unwrap();
            gc(&stranger, &thorough(), &Silent::default()).unwrap();
            let report = check(&stranger, &every_byte(), &Silent::default()).unwrap();
            assert!(report.damage.is_empty(), "{key}: {:?}", report.damage);
            for known in &scene.kept {
                assert_eq!(restores(&stranger, known), 0, "{key}");
            }
        }
    }
}

/// Objects whose copies lie in bad sectors too, or that have none.
#[test]
fn what_cannot_be_read_twice_is_told_and_the_rest_is_repaired() {
    let scene = history().dead_writer();
    gc(&scene.open(), &thorough(), &Silent::default()).unwrap();
    let manifests: Vec<_> = scene.kept.iter().map(|k| k.manifest.name).collect();
    let manifest = |n: usize| Key::new(Area::Snapshots, manifests[n]).unwrap();
    let all = keys(&scene.memory, Area::Snapshots);
    let tombstone = all
        .iter()
        .find(|key| (0..3).all(|n| manifest(n) != **key))
        .unwrap();
    let (first, _) = disk(&scene.fork());
    first.spoil(tombstone.clone(), 0..u64::MAX);
    first.spoil(manifest(0), 0..u64::MAX);
    let report = mend(&first, None).unwrap();
    assert!(report.done.iter().any(|d| d.object == manifest(0).path()));
    assert_eq!(report.losses.len(), 1, "{:?}", report.losses);
    assert_eq!(report.losses[0].object, tombstone.path());
    let (disk, _) = disk(&scene);
    disk.spoil(manifest(1), 0..u64::MAX);
    disk.spoil(
        crate::copies::copy_key(Area::Snapshots, manifests[1]),
        0..u64::MAX,
    );
    let report = mend(&disk, None).unwrap();
    let lost: Vec<&String> = report.losses.iter().map(|l| &l.object).collect();
    assert!(lost.contains(&&manifest(1).path()), "{lost:?}");
    let stranger = scene.stranger().open_at(disk.clone()).unwrap();
    assert!(gc(&stranger, &thorough(), &Silent::default()).is_err());
    let backend: Arc<dyn Backend> = disk.clone();
    let found = find(&backend, &credential(Encryption::None)).unwrap();
    let (repository, state) = ConfigState::open(found, environment(0)).unwrap();
    let options = RepairOptions {
        lost: crate::repair::Lost::GiveUp,
        ..RepairOptions::default()
    };
    let report = repair(&repository, &state, &options, &Silent::default()).unwrap();
    assert!(report.losses.is_empty(), "{:?}", report.losses);
    gc(&stranger, &thorough(), &Silent::default()).unwrap();
    let report = check(&stranger, &every_byte(), &Silent::default()).unwrap();
    assert!(report.damage.is_empty(), "{:?}", report.damage);
    for n in [0, 2] {
        assert_eq!(restores(&stranger, &scene.kept[n]), 0);
    }
}

/// Nothing is given up where most of what is small cannot be read.
#[test]
fn a_storage_that_gives_back_hardly_a_manifest_fails() {
    let scene = history();
    let (disk, repository) = disk(&scene);
    let names = keys(&scene.memory, Area::Snapshots);
    for key in &names[..2] {
        disk.spoil(key.clone(), 0..u64::MAX);
    }
    let count = scene.memory.object_count();
    assert!(matches!(
        mend(&disk, Some(Part::Snapshots)),
        Err(AccessError::StorageFails { .. })
    ));
    assert_eq!(scene.memory.object_count(), count);
    for known in &scene.kept {
        assert_eq!(restores(&repository, known), 0);
    }
}

#[test]
fn keys_and_config_that_cannot_be_read_come_back_from_their_copies() {
    let scene = Scene::locked().snapshot(0);
    let mut objects = keys(&scene.memory, Area::Keys);
    objects.retain(|key| key.name().starts_with("data-") || key.name() == "config");
    assert_eq!(objects.len(), 2);
    objects.push(Key::config());
    for key in objects {
        let scene = scene.fork();
        let disk = Arc::new(Faulty::new(scene.memory.clone()));
        disk.spoil(key.clone(), 0..u64::MAX);
        let report = scene.repair(disk.clone(), false).unwrap();
        assert_eq!((report.done.len(), report.losses.len()), (1, 0), "{key}");
        let repository = scene.stranger().open_at(disk.clone()).unwrap();
        let report = check(&repository, &every_byte(), &Silent::default()).unwrap();
        assert!(report.damage.is_empty(), "{key}: {:?}", report.damage);
        assert_eq!(restores(&repository, &scene.kept[0]), 0, "{key}");
    }
}

/// Three files, some chunks each, of which many stand in one pack.
fn large() -> (Memory, MapSource) {
    crate::crypto::seeded::seed(b"bad sectors");
    let (memory, repository) = new_repository(Encryption::None, 0);
    let mut source = MapSource::default();
    for name in ["a", "b", "c"] {
        source.files.insert(name.into(), noise(400_000, name));
    }
    take(&repository, &mut source);
    (memory, source)
}

/// The pack of contents.
fn largest(repository: &Repository) -> (PackId, u64) {
    let packs = list_packs(repository).unwrap();
    packs.into_iter().max_by_key(|(_, size)| *size).unwrap()
}

#[test]
fn of_a_pack_with_one_bad_sector_every_other_record_is_saved() {
    let (before, source) = large();
    let repository = crate::testing::open(&before, Encryption::None, 0);
    let (id, size) = largest(&repository);
    let records = read_directory(repository.backend(), &id, size).unwrap();
    assert!(records.len() > 5, "{records:?}");
    let key = pack_key(&id).unwrap();
    for (offset, len) in &records {
        let disk = Arc::new(Faulty::new(before.fork()));
        let middle = u64::from(offset + len / 2);
        disk.spoil(key.clone(), middle..middle + 1);
        let report = mend(&disk, None).unwrap();
        assert_eq!(report.packs_condemned, 1);
        assert!(report.chunks_lost > 0 && report.chunks_copied > 0);
        let [loss] = report.losses.as_slice() else {
            panic!("{:?}", report.losses);
        };
        let lost: Vec<&[u8]> = loss.parts.iter().map(|part| part.path()).collect();
        assert!(!lost.is_empty() && lost.len() < 3, "{lost:?}");
        // What is saved no more stands there only.
        disk.spoil(key.clone(), 0..size);
        let backend: Arc<dyn Backend> = disk.clone();
        let repository =
            Repository::open(backend, &credential(Encryption::None), environment(0)).unwrap();
        let manifest = crate::snapshots::SnapshotList::read(&repository)
            .unwrap()
            .committed
            .remove(0);
        let (restored, files) = restored(&repository, &manifest).unwrap();
        let damaged: Vec<&[u8]> = restored.damaged.iter().map(|p| &p.path[..]).collect();
        assert_eq!(damaged, lost);
        for (path, bytes) in &files {
            assert!(source.files[path] == *bytes);
        }
        assert_eq!(files.len() + damaged.len(), 3);
    }
}

#[test]
fn where_only_the_directory_cannot_be_read_nothing_is_lost() {
    let (memory, _) = large();
    let (id, size) = largest(&crate::testing::open(&memory, Encryption::None, 0));
    let disk = Arc::new(Faulty::new(memory.clone()));
    for bad in [size - 1..size, 0..1] {
        disk.spoil(pack_key(&id).unwrap(), bad);
        let report = mend(&disk, None).unwrap();
        assert!(report.losses.is_empty(), "{:?}", report.losses);
        if report.packs_condemned == 0 {
            continue;
        }
        assert!(report.chunks_copied > 5, "{report:?}");
        let backend: Arc<dyn Backend> = disk.clone();
        let repository =
            Repository::open(backend, &credential(Encryption::None), environment(0)).unwrap();
        let freed = gc(&repository, &thorough(), &Silent::default()).unwrap();
        assert!(freed.packs_deleted > 0, "{freed:?}");
        let report = check(&repository, &every_byte(), &Silent::default()).unwrap();
        assert!(report.damage.is_empty(), "{:?}", report.damage);
    }
    assert!(memory.get(&pack_key(&id).unwrap()).is_err());
}

/// What comes when it is asked for again is not bad.
#[test]
fn a_pack_counts_as_bad_only_when_reading_it_again_fails_too() {
    let before = history();
    let key = packs(&before.memory).remove(0);
    let mut spared = 0;
    loop {
        let (disk, _) = disk(&before.fork());
        disk.spoil_for(key.clone(), 0..u64::MAX, spared + 1);
        let report = mend(&disk, Some(Part::Packs)).unwrap();
        if report.packs_condemned > 0 {
            break;
        }
        assert!(report.losses.is_empty() && report.done.is_empty());
        spared += 1;
    }
    assert!(spared > 0);
}

#[test]
fn a_storage_of_which_most_cannot_be_read_fails_and_nothing_is_condemned() {
    let before = history();
    let all = packs(&before.memory);
    for part in [None, Some(Part::Index), Some(Part::Packs)] {
        for bad in all.len() / 2..=all.len() {
            let scene = before.fork();
            let (disk, _) = disk(&scene);
            for key in &all[..bad] {
                disk.spoil(key.clone(), 0..u64::MAX);
            }
            let count = scene.memory.object_count();
            match mend(&disk, part) {
                Ok(report) => {
                    assert_eq!(bad, all.len() / 2, "not more than half");
                    assert!(part == Some(Part::Index) || report.packs_condemned > 0);
                    continue;
                }
                Err(AccessError::StorageFails {
                    unreadable,
                    all: packs,
                    ..
                }) => assert_eq!((unreadable, packs), (bad, all.len())),
                Err(other) => panic!("{other}"),
            }
            assert!(bad > all.len() / 2, "half is not more than half");
            assert_eq!(scene.memory.object_count(), count, "nothing is changed");
        }
    }
}

/// One pack that cannot be read is no damage when nothing else comes either.
#[test]
fn a_storage_that_answers_nothing_is_not_damaged() {
    let scene = history();
    let (disk, repository) = disk(&scene);
    let backend: Arc<dyn Backend> = disk.clone();
    let found = find(&backend, &credential(Encryption::None)).unwrap();
    let (opened, state) = ConfigState::open(found, environment(0)).unwrap();
    disk.spoil(packs(&scene.memory).remove(0), 0..u64::MAX);
    disk.spoil(Key::config(), 0..u64::MAX);
    let count = scene.memory.object_count();
    let options = RepairOptions {
        part: Some(Part::Packs),
        ..RepairOptions::default()
    };
    let repaired = repair(&opened, &state, &options, &Silent::default());
    assert!(matches!(repaired, Err(AccessError::Backend(_))));
    let checked = check(&repository, &every_byte(), &Silent::default());
    assert!(matches!(checked, Err(AccessError::Backend(_))));
    assert_eq!(scene.memory.object_count(), count);
    let mut told = 0;
    for known in &scene.kept {
        match restored(&repository, &known.manifest) {
            Ok((report, _)) => {
                assert!(report.damaged.is_empty(), "{:?}", report.damaged);
                told += report.problems.len();
            }
            Err(RestoreError::Access(AccessError::Backend(_))) => told += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(told > 0);
}

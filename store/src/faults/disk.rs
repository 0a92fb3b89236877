//! A real disk that fills up at every page in turn: a snapshot fails or is whole, `forget` and `gc`
//! work without room, and nothing is lost.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use super::nth::{is_taken, take};
use super::scene::{Known, Scene, thorough};
use crate::backend::{Area, Backend, Key, Local, Memory, Reserve};
use crate::forget::mark;
use crate::format::objects::SessionKind;
use crate::gc::{Fence, GcOptions, MaxUnused, gc};
use crate::monitor::Silent;
use crate::sealed::Sealed;
use crate::session::Session;
use crate::testing::{self, MapSource, SmallDisk, noise};

/// Bytes that a file system gives out at a time.
const PAGE: u64 = 4096;

/// All objects of a backend in another.
fn copy(from: &dyn Backend, to: &dyn Backend) {
    for area in Area::ALL {
        let mut names = Vec::new();
        from.list(area, &mut |listed| names.push(listed.name))
            .unwrap();
        for name in names {
            let key = match area {
                Area::Config => Key::config(),
                _ => Key::new(area, name).unwrap(),
            };
            let body = Sealed::from_stored(from.get(&key).unwrap());
            to.put(&key, &body).unwrap();
        }
    }
}

/// What stands on the disk, for judgement.
fn seen(scene: &Scene, local: &Local) -> Scene {
    let memory = Memory::new();
    copy(local, &memory);
    scene.with(memory)
}

/// Takes all room but so many pages.
fn fill(filler: &Path, pages: u64) {
    let mut file = File::create(filler).unwrap();
    for len in [1 << 16, PAGE as usize, 1] {
        while file.write_all(&vec![7; len]).is_ok() {}
    }
    let len = file.metadata().unwrap().len();
    file.set_len((len / PAGE).saturating_sub(pages) * PAGE)
        .unwrap();
}

#[test]
fn a_disk_that_is_full_at_any_page_loses_nothing() {
    let Some(disk) = SmallDisk::mount("6m") else {
        return;
    };
    // What a dead writer left needs no copy to be freed.
    let before = Scene::empty().snapshot(0).snapshot(1).snapshot(2);
    let before = before.dead_writer().forget();
    // Forgotten in memory; on the disk that is done again.
    let name = before.forgotten[0].manifest.name;
    before
        .memory
        .remove(&crate::repository::uuid_key(Area::Trash, name));
    let (filler, root) = (disk.path().join("filler"), disk.path().join("repository"));
    let mut failed = 0;
    for pages in 0.. {
        let local = Arc::new(Local::create(&root).unwrap());
        copy(&before.memory, &*local);
        local.reserve(Reserve::Keep(0)).unwrap();
        fill(&filler, pages);
        let scene = before.fork();
        let backend: Arc<dyn Backend> = Arc::<Local>::clone(&local);
        let outcome = take(&scene, Arc::clone(&backend), 4);
        let context = |e| panic!("{pages} pages are free, {outcome:?}: {e}");
        seen(&scene, &local).judge().unwrap_or_else(context);
        if outcome.is_ok() {
            is_taken(&seen(&scene, &local), 4).unwrap_or_else(context);
        }
        let repository = scene.open_at(backend).unwrap();
        mark(&repository, name).unwrap();
        let freed = gc(&repository, &thorough(), &Silent::default()).unwrap();
        assert!(freed.packs_deleted > 0, "{pages} pages are free: {freed:?}");
        seen(&scene, &local).judge().unwrap_or_else(context);
        fs::remove_file(&filler).unwrap();
        gc(&repository, &thorough(), &Silent::default()).unwrap();
        take(&scene, Arc::<Local>::clone(&local), 4).unwrap();
        is_taken(&seen(&scene, &local), 4).unwrap_or_else(context);
        drop((repository, local));
        fs::remove_dir_all(&root).unwrap();
        match outcome {
            Ok(()) => break,
            Err(_) => failed += 1,
        }
    }
    println!("a snapshot failed with 0 to {} free pages", failed - 1);
    assert!(failed > 8);
}

/// The bytes that the files of a folder take.
fn below(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let size = |e: fs::DirEntry| match e.file_type().unwrap().is_dir() {
        true => below(&e.path()),
        false => e.metadata().unwrap().len(),
    };
    entries.map(size).sum()
}

/// A repository on a small disk whose packs are all used in part, and nothing of it is in any other
/// pack: `parts` of so many bytes that live and so many that are forgotten. The disk is full, and
/// as much is held back as if its packs had had `packs` bytes once.
fn mixed(disk: &SmallDisk, parts: &[(usize, usize)], packs: u64) -> (Scene, Arc<Local>) {
    let mut scene = Scene::empty();
    let (mut source, mut forgotten) = (MapSource::default(), Vec::new());
    for (n, (live, dead)) in parts.iter().enumerate() {
        let dying = format!("dead {n}");
        let mut add = |name: &str, len| {
            let name = name.as_bytes().to_vec();
            source.files.insert(name, noise(len, &format!("{n} {len}")));
        };
        add(&format!("live {n}"), *live);
        add(&dying, *dead);
        forgotten.push(testing::take(&scene.open(), &mut source).manifest.name);
        source.files.remove(dying.as_bytes());
    }
    let manifest = testing::take(&scene.open(), &mut source).manifest;
    scene.kept.push(Known { manifest, source });
    for name in forgotten {
        mark(&scene.open(), name).unwrap();
    }
    // What only the forgotten trees were made of goes before.
    let local = Arc::new(Local::create(&disk.path().join("repository")).unwrap());
    let tidied = scene.fork();
    let options = GcOptions {
        max_unused: MaxUnused::Unlimited,
        ..thorough()
    };
    gc(&tidied.open(), &options, &Silent::default()).unwrap();
    copy(&tidied.memory, &*local);
    local.reserve(Reserve::Keep(packs)).unwrap();
    fill(&disk.path().join("filler"), 0);
    (tidied, local)
}

/// Bytes that the repository on a disk holds back.
fn reserved(disk: &SmallDisk) -> u64 {
    let reserve = disk.path().join("repository/reserve");
    fs::metadata(reserve).unwrap().len()
}

/// All that is forgotten shares packs with what lives, and there is no room but the reserve.
#[test]
fn packs_that_are_used_in_part_are_freed_on_a_disk_without_room() {
    for (parts, size, reserve) in [
        // One part is enough.
        (vec![(200_000, 300_000); 5], "9m", 4 << 20),
        // Some parts, the later ones with the room that the first made.
        (vec![(900_000, 1_000_000); 5], "16m", 4 << 20),
        // The largest waits for the others.
        (
            vec![
                (4_000_000, 3_000_000),
                (700_000, 900_000),
                (900_000, 2_900_000),
            ],
            "20m",
            4 << 20,
        ),
        // The same with less that is held back.
        (vec![(60_000, 90_000); 5], "4m", 512 << 10),
        (vec![(300_000, 350_000); 5], "8m", 512 << 10),
        (vec![(500_000, 600_000); 5], "10m", 1 << 20),
        (
            vec![(1_000_000, 700_000), (300_000, 400_000), (200_000, 900_000)],
            "8m",
            512 << 10,
        ),
    ] {
        let Some(disk) = SmallDisk::mount(size) else {
            return;
        };
        let (scene, local) = mixed(&disk, &parts, reserve * 256);
        assert_eq!(reserved(&disk), reserve);
        let repository = scene.open_at(Arc::<Local>::clone(&local)).unwrap();
        let packs = disk.path().join("repository/packs");
        let before = below(&packs);
        let report = gc(&repository, &thorough(), &Silent::default()).unwrap();
        assert!(!report.out_of_room, "{parts:?}: {report:?}");
        let dead: usize = parts.iter().map(|(_, dead)| dead).sum();
        let freed = before - below(&packs);
        assert!(freed + 10_000 > dead as u64, "{parts:?}: {freed} of {dead}");
        assert_eq!((report.bytes_unused, report.bytes_waiting), (0, 0));
        assert_eq!(reserved(&disk), reserve);
        seen(&scene, &local).judge().unwrap();
        let mut more = scene.kept[0].source.clone();
        more.files.insert(b"more".to_vec(), noise(dead / 2, "more"));
        testing::take(
            &scene.open_at(Arc::<Local>::clone(&local)).unwrap(),
            &mut more,
        );
        seen(&scene, &local).judge().unwrap();
    }
}

/// Where it cannot be done all stays as it was, and the reserve is not spent on it.
#[test]
fn what_cannot_be_copied_without_room_stays_as_it_was() {
    for (parts, writer, reserve) in [
        (vec![(4_000_000, 3_000_000)], false, 4 << 20),
        (vec![(1_300_000, 1_400_000)], true, 4 << 20),
        (vec![(600_000, 500_000)], false, 512 << 10),
        (vec![(150_000, 200_000)], true, 512 << 10),
    ] {
        let Some(disk) = SmallDisk::mount("14m") else {
            return;
        };
        let (scene, local) = mixed(&disk, &parts, reserve * 256);
        // A list waits for a writer at work: what was lent would not come back.
        let other = scene.open_at(Arc::<Local>::clone(&local)).unwrap();
        if writer {
            local.reserve(Reserve::GiveUp).unwrap();
        }
        let session = writer.then(|| Session::open(&other, SessionKind::Writer).unwrap());
        if writer {
            fill(&disk.path().join("second"), 0);
        }
        let options = GcOptions {
            fence: Fence::Never,
            ..thorough()
        };
        let names = scene.names(Area::Packs);
        for _ in 0..3 {
            let repository = scene.open_at(Arc::<Local>::clone(&local)).unwrap();
            let report = gc(&repository, &options, &Silent::default()).unwrap();
            assert!(report.out_of_room, "{report:?}");
            assert_eq!(
                (report.packs_deleted, report.bytes_copied),
                (0, 0),
                "{report:?}"
            );
            let now = seen(&scene, &local);
            assert_eq!(now.names(Area::Packs), names);
            now.judge().unwrap();
            assert!(reserved(&disk) >= reserve / 2, "{}", reserved(&disk));
        }
        drop(session);
    }
}

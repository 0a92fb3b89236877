//! A real disk that fills up at every page in turn: a snapshot fails or is whole, `forget` and `gc`
//! work without room, and nothing is lost.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use super::nth::{is_taken, take};
use super::scene::{Scene, thorough};
use crate::backend::{Area, Backend, Key, Local, Memory, Reserve};
use crate::forget::mark;
use crate::gc::gc;
use crate::monitor::Silent;
use crate::sealed::Sealed;
use crate::testing::SmallDisk;

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
        local.reserve(Reserve::Keep).unwrap();
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

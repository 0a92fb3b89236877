//! Files that change while they are read: said, exit 3, and what is stored is what was there.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::data::Random;
use crate::support::{World, is_root};

/// Takes a snapshot of `src` while something is done again and again until it has ended.
fn snapshot_while(world: &World, mut again: impl FnMut() + Send) -> crate::support::Ran {
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                again();
            }
        });
        let mut running = world.call(["snapshot", "src"]).start();
        running.ends_within(Duration::from_secs(300));
        ended.store(true, Ordering::Relaxed);
        running.wait()
    })
}

#[test]
fn a_file_that_is_appended_to_all_the_time_is_stored_as_a_beginning() {
    let world = World::new();
    fs::create_dir(world.path("src")).unwrap();
    fs::write(world.path("src/a"), "before").unwrap();
    fs::write(world.path("src/z"), "after").unwrap();
    let log = world.path("src/log");
    let begun = Random(61).bytes(6 << 20);
    fs::write(&log, &begun).unwrap();
    let mut appended = fs::OpenOptions::new().append(true).open(&log).unwrap();
    snapshot_while(&world, || appended.write_all(b"one more line\n").unwrap())
        .expect(3)
        .says("changed while it was read")
        .says("the snapshot is incomplete: 1 problem");
    let taken = &world.snapshots()[0];
    assert_eq!(taken["incomplete"], true, "{taken}");
    let stored = world.ok(["cat", "latest:src/log"]).stdout;
    let now = fs::read(&log).unwrap();
    assert!(stored.len() >= begun.len() && now.starts_with(&stored));
    assert_eq!(world.listed("latest"), ["src", "src/a", "src/log", "src/z"]);
    // It is read again as soon as it is quiet.
    let quiet = world.object(["snapshot", "src"]);
    assert_eq!(quiet["incomplete"], false, "{quiet}");
    assert!(world.ok(["cat", "latest:src/log"]).stdout == now);
    world.assert_whole();
}

#[test]
fn a_file_that_is_cut_and_grows_again_ends_and_is_said() {
    let world = World::new();
    fs::create_dir(world.path("src")).unwrap();
    let file = world.path("src/f");
    fs::write(&file, Random(62).bytes(6 << 20)).unwrap();
    let open = fs::OpenOptions::new().write(true).open(&file).unwrap();
    // Who changes it may get no time while it is read: then it was quiet, and all of it is stored.
    let mut quiet = 0;
    loop {
        let ran = snapshot_while(&world, || {
            open.set_len(1000).unwrap();
            open.set_len(6 << 20).unwrap();
        });
        if ran.code() != 0 || quiet == 20 {
            ran.expect(3).says("changed while it was read");
            break;
        }
        quiet += 1;
    }
    world.assert_whole();
}

#[test]
fn a_file_whose_time_is_put_back_is_still_said() {
    let world = World::new();
    fs::create_dir(world.path("src")).unwrap();
    let path = world.path("src/f");
    fs::write(&path, Random(63).bytes(6 << 20)).unwrap();
    let time = fs::metadata(&path).unwrap().modified().unwrap();
    let mut file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    snapshot_while(&world, || {
        std::io::Seek::rewind(&mut file).unwrap();
        file.write_all(b"other").unwrap();
        file.set_modified(time).unwrap();
    })
    .expect(3)
    .says("changed while it was read");
}

#[test]
fn each_thing_that_cannot_be_read_is_named() {
    if !is_root("what an ordinary user cannot read") {
        return;
    }
    let world = World::new();
    fs::create_dir_all(world.path("src/folder/in")).unwrap();
    for file in ["src/file", "src/folder/in/x", "src/fine"] {
        fs::write(world.path(file), file).unwrap();
    }
    let world = world.into_nobodys();
    for (path, mode) in [("src/file", 0o000), ("src/folder", 0o300)] {
        fs::set_permissions(world.path(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    let taken = world.call(["snapshot", "src", "--json"]).run().expect(3);
    let taken = taken.object();
    let problems = taken["problems"].as_array().unwrap();
    let paths = problems.iter().map(|p| p["path"].as_str().unwrap());
    let names: Vec<&str> = paths.map(|p| p.rsplit('/').next().unwrap()).collect();
    assert_eq!(names, ["file", "folder"], "{taken}");
    assert_eq!(world.listed("latest"), ["src", "src/fine", "src/folder"]);
}

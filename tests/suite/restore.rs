//! Restoring over what is there: what is overwritten, what is removed, what is fetched, how a
//! restore that is killed or not alone leaves the target.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::time::{Duration, SystemTime};

use rustix::process::Signal;

use crate::support::data::{Random, small_tree};
use crate::support::{World, assert_same, is_root, size};

/// A world with a snapshot of `src`, restored to `back`.
fn restored_world(seed: u64) -> World {
    let world = World::new();
    small_tree(&world.path("src"), seed);
    world.snapshot("src");
    world.ok(["restore", "latest:src", "back"]);
    world
}

fn set_time(world: &World, path: &str, time: SystemTime) {
    let file = fs::File::open(world.path(path)).unwrap();
    file.set_modified(time).unwrap();
}

fn time_of(world: &World, path: &str) -> SystemTime {
    fs::metadata(world.path(path)).unwrap().modified().unwrap()
}

#[test]
fn what_is_there_is_overwritten_as_asked() {
    let hour = Duration::from_secs(3600);
    // Whether it is overwritten: other bytes of the same time, a newer and an older file.
    for (overwrite, code, expected) in [
        ("always", 0, [true, true, true]),
        ("changed", 0, [false, true, true]),
        ("if-changed", 0, [false, true, true]),
        ("newer", 0, [false, false, true]),
        ("if-newer", 0, [false, false, true]),
        ("never", 0, [false, false, false]),
    ] {
        let world = restored_world(40);
        let time = time_of(&world, "src/inline");
        let paths = ["back/inline", "back/one", "back/a/small"];
        for (path, time) in paths.iter().zip([
            time,
            time_of(&world, "src/one") + hour,
            time_of(&world, "src/a/small") - hour,
        ]) {
            let len = fs::metadata(world.path(path)).unwrap().len();
            fs::write(world.path(path), vec![b'x'; len as usize]).unwrap();
            set_time(&world, path, time);
        }
        fs::remove_file(world.path("back/c/lines")).unwrap();
        let before = |path: &&str| fs::read(world.path(path)).unwrap();
        let old: Vec<Vec<u8>> = paths.iter().map(before).collect();
        let call = ["restore", "latest:src", "back", "--overwrite", overwrite];
        let told = world
            .call(call)
            .arg("--json")
            .arg("-n")
            .run()
            .expect(0)
            .object();
        assert_eq!(old, paths.iter().map(before).collect::<Vec<_>>());
        let did = world.call(call).arg("--json").run().expect(code).object();
        for (path, (old, new)) in paths.iter().zip(old.iter().zip(expected)) {
            let now = fs::read(world.path(path)).unwrap();
            assert_eq!(now != *old, new, "{overwrite} {path}");
        }
        assert!(world.path("back/c/lines").exists());
        for field in ["written", "kept", "skipped", "fetched_bytes", "files"] {
            assert_eq!(
                told[field], did[field],
                "{overwrite}: {field} of the dry run"
            );
        }
        if overwrite == "always" {
            assert_same(&world.path("src"), &world.path("back"));
        }
    }
    let world = restored_world(40);
    let call = ["restore", "latest:src", "back", "--overwrite", "sometimes"];
    world.run(call).expect(2).says("always");
}

#[test]
fn what_differs_unseen_is_found_by_verify() {
    let world = restored_world(41);
    let time = time_of(&world, "back/a/small");
    let len = fs::metadata(world.path("back/a/small")).unwrap().len();
    fs::write(world.path("back/a/small"), vec![b'x'; len as usize]).unwrap();
    set_time(&world, "back/a/small", time);
    let call = [
        "restore",
        "latest:src",
        "back",
        "--verify",
        "--overwrite",
        "changed",
    ];
    let ran = world.run(call).expect(1);
    ran.says("a/small").says("differ");
    let call = ["restore", "latest:src", "back", "--verify"];
    let report = world.object(call);
    assert_eq!(report["verified"], report["files"]);
    assert_eq!(report["differing"].as_array().unwrap().len(), 0);
    assert_eq!(report["written"], 1);
}

#[test]
fn surplus_goes_with_delete_and_never_through_a_link() {
    let world = restored_world(42);
    for path in [
        "back/more/deep/x",
        "back/a/more",
        "back/a/b/keep.log",
        "back/junk/k.log",
    ] {
        fs::create_dir_all(world.path(path).parent().unwrap()).unwrap();
        fs::write(world.path(path), "x").unwrap();
    }
    fs::create_dir_all(world.path("outside/in")).unwrap();
    fs::write(world.path("outside/in/mine"), "mine").unwrap();
    symlink(world.path("outside"), world.path("back/a/elsewhere")).unwrap();
    symlink(world.path("outside"), world.path("back/more/elsewhere")).unwrap();
    // A folder of the snapshot became a link to one that holds the same names and more.
    fs::rename(world.path("back/c"), world.path("outside/c")).unwrap();
    fs::write(world.path("outside/c/mine"), "mine").unwrap();
    symlink(world.path("outside/c"), world.path("back/c")).unwrap();
    // A file of it became a folder that is not empty.
    fs::remove_file(world.path("back/one")).unwrap();
    fs::create_dir(world.path("back/one")).unwrap();
    fs::write(world.path("back/one/in the way"), "x").unwrap();

    let call = [
        "restore",
        "latest:src",
        "back",
        "--delete",
        "--exclude",
        "*.log",
    ];
    let listed = world.call(call).arg("-n").run().expect(0);
    listed
        .says("would remove: more")
        .says("would remove: a/more");
    assert!(world.path("back/more/deep/x").exists());
    let ran = world.call(call).arg("--json").run().expect(0);
    let report = ran.object();
    let mut surplus: Vec<&str> = report["surplus"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p.as_str().unwrap())
        .collect();
    surplus.sort_unstable();
    assert_eq!(surplus, ["a/elsewhere", "a/more", "more", "one"]);
    assert_eq!(report["removed"], 8, "{report}");
    for path in ["outside/in/mine", "outside/c/mine", "outside/c/lines"] {
        assert!(world.path(path).exists(), "{path}");
    }
    for path in ["back/a/b/keep.log", "back/junk/k.log"] {
        assert!(world.path(path).exists(), "{path} is left out");
    }
    world.ok(["restore", "latest:src", "back", "--delete"]);
    assert_same(&world.path("src"), &world.path("back"));
}

#[test]
fn nothing_goes_outside_of_what_is_restored() {
    let world = restored_world(42);
    fs::write(world.path("back/top"), "x").unwrap();
    fs::write(world.path("back/a/b/low"), "x").unwrap();
    let call = [
        "restore",
        "latest:src",
        "back",
        "--delete",
        "--include",
        "/a/b",
    ];
    let report = world.call(call).arg("--json").run().expect(0).object();
    assert_eq!(report["surplus"], serde_json::json!(["a/b/low"]));
    assert!(world.path("back/top").exists() && world.path("back/one").exists());
    world
        .run(["restore", "latest:src", "/", "--delete", "-n"])
        .expect(2)
        .says("--include");
}

#[test]
fn a_large_file_is_made_right_with_what_it_has() {
    let world = World::new();
    fs::create_dir(world.path("src")).unwrap();
    let len = size(20 << 20, 2 << 30);
    let large = fs::File::create(world.path("src/large")).unwrap();
    for piece in 0..len >> 20 {
        let bytes = Random(50 + piece).bytes(1 << 20);
        large.write_all_at(&bytes, piece << 20).unwrap();
    }
    drop(large);
    world.snapshot("src");
    world.ok(["restore", "latest:src", "back"]);
    let report = world.object(["restore", "latest:src", "back"]);
    assert_eq!(
        (&report["kept"], &report["fetched_bytes"]),
        (&1.into(), &0.into())
    );
    let back = fs::File::options()
        .write(true)
        .open(world.path("back/large"));
    back.unwrap().write_all_at(b"changed", len / 2).unwrap();
    let report = world.object(["restore", "latest:src", "back", "--verify"]);
    assert_eq!(report["written"], 1);
    let fetched = report["fetched_bytes"].as_u64().unwrap();
    assert!((1..=1 << 20).contains(&fetched), "{fetched} of {len} bytes");
    assert_same(&world.path("src"), &world.path("back"));
}

#[test]
fn a_killed_restore_leaves_whole_files_and_the_next_one_cleans_up() {
    let world = World::new();
    fs::create_dir(world.path("src")).unwrap();
    for number in 0..size(8, 60) {
        let bytes = Random(70 + number).bytes(1 << 20);
        fs::write(world.path(format!("src/{number}")), bytes).unwrap();
    }
    world.snapshot("src");
    let names = || {
        let found = fs::read_dir(world.path("back")).into_iter().flatten();
        let names = found.map(|one| one.unwrap().file_name().into_string().unwrap());
        names.collect::<Vec<String>>()
    };
    let (mut killed, mut left) = (0, 0);
    for round in 0..size(6, 100) {
        let _ = fs::remove_dir_all(world.path("back"));
        if round % 2 == 1 {
            fs::create_dir(world.path("back")).unwrap();
            fs::write(world.path("back/3"), Random(1).bytes(2 << 20)).unwrap();
        }
        let mut running = world.call(["restore", "latest:src", "back"]).start();
        let mut ended = false;
        while !ended && names().len() < 1 + round {
            ended = running.ends_within(Duration::from_micros(200));
        }
        running.signal(Signal::KILL);
        running.wait();
        killed += u32::from(!ended);
        for name in names() {
            if name.starts_with(".hucha-") {
                left += 1;
                continue;
            }
            let now = fs::read(world.path(format!("back/{name}"))).unwrap();
            let whole = now == fs::read(world.path(format!("src/{name}"))).unwrap();
            let old = name == "3" && now == Random(1).bytes(2 << 20);
            assert!(whole || old, "half of {name} under its own name");
        }
        world.ok(["restore", "latest:src", "back"]);
        assert_same(&world.path("src"), &world.path("back"));
    }
    eprintln!("{killed} killed, {left} temporary files cleaned up");
    assert!(killed > 0 && left > 0);
}

#[test]
fn two_restores_into_one_folder_leave_each_others_files_alone() {
    let world = World::new();
    for name in ["one", "two"] {
        for number in 0..40 {
            let folder = world.path(format!("{name}/d{}", number % 4));
            fs::create_dir_all(&folder).unwrap();
            let bytes = Random(number + 200 * u64::from(name == "two")).bytes(150_000);
            fs::write(folder.join(format!("{name}-{number}")), bytes).unwrap();
        }
    }
    let ids = ["one", "two"].map(|name| world.snapshot(name));
    for _ in 0..size(3, 20) {
        let start = |id: &String, name: &str| {
            let from = format!("{id}:{name}");
            world.call(["restore", &from, "back"]).start()
        };
        let running = [start(&ids[0], "one"), start(&ids[1], "two")];
        for one in running {
            one.wait().expect(0);
        }
        for name in ["one", "two"] {
            for number in 0..40 {
                let file = format!("d{}/{name}-{number}", number % 4);
                let there = fs::read(world.path("back").join(&file)).unwrap();
                assert!(
                    there == fs::read(world.path(name).join(&file)).unwrap(),
                    "{file}"
                );
            }
        }
        fs::remove_dir_all(world.path("back")).unwrap();
    }
}

#[test]
fn zeros_become_holes_when_asked() {
    let world = World::new();
    fs::create_dir(world.path("src")).unwrap();
    let mut bytes = vec![0; 8 << 20];
    bytes[4 << 20..5 << 20].copy_from_slice(&Random(60).bytes(1 << 20));
    fs::write(world.path("src/f"), &bytes).unwrap();
    world.snapshot("src");
    world.ok(["restore", "latest:src", "sparse", "--sparse"]);
    assert_same(&world.path("src"), &world.path("sparse"));
    let blocks = fs::metadata(world.path("sparse/f")).unwrap().blocks();
    assert!(blocks < 3 << 11, "{blocks}");
}

#[test]
fn a_file_with_names_elsewhere_is_not_changed_there() {
    let world = restored_world(43);
    // The restored file gets a name outside the target, then other metadata is restored.
    fs::hard_link(world.path("back/a/small"), world.path("outside")).unwrap();
    let mode = fs::metadata(world.path("outside")).unwrap().mode() & 0o7777;
    fs::set_permissions(
        world.path("src/a/small"),
        fs::Permissions::from_mode(mode ^ 0o111),
    )
    .unwrap();
    world.snapshot("src");
    let report = world.object(["restore", "latest:src", "back"]);
    assert_eq!(
        (&report["written"], &report["fetched_bytes"]),
        (&1.into(), &0.into())
    );
    let after = fs::metadata(world.path("outside")).unwrap();
    assert_eq!((after.mode() & 0o7777, after.nlink()), (mode, 1));
    assert_same(&world.path("src"), &world.path("back"));
}

#[test]
fn owners_are_numbers_when_asked() {
    if !is_root("owners by name and by number") {
        return;
    }
    let world = World::new();
    fs::create_dir(world.path("src")).unwrap();
    fs::write(world.path("src/f"), "x").unwrap();
    std::os::unix::fs::chown(world.path("src/f"), Some(1), Some(54_321)).unwrap();
    world.snapshot("src");
    for numbers in [&["--numeric-ids"][..], &[]] {
        world.ok([&["restore", "latest:src", "back"], numbers].concat());
        assert_same(&world.path("src"), &world.path("back"));
    }
}

//! `kill -9` at random moments of snapshot and gc: nothing that was there is lost, nothing has to
//! be broken or repaired, and one gc on the quiet repository frees what was left behind.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::data::{self, Random, seed};
use crate::support::{World, assert_same, size};

/// A tree that changes with each night.
fn night(world: &World, folder: &str, number: u64) {
    let mut random = Random(number + 1);
    let root = world.path(folder);
    for sub in 0..8 {
        fs::create_dir_all(root.join(sub.to_string())).unwrap();
        for file in 0..20 {
            let path = root.join(format!("{sub}/{file}"));
            if !path.exists() || random.below(10) == 0 {
                let len = random.below(30_000) as usize;
                fs::write(path, random.bytes(len)).unwrap();
            }
        }
    }
    fs::write(root.join("dump.sql"), random.lines(2_000_000)).unwrap();
}

/// What survives all kills: three nights with a copy of each.
struct Kept {
    ids: Vec<String>,
}

impl Kept {
    fn take(world: &World) -> Kept {
        let take = |number| {
            night(world, "src", number);
            data::copy_folder(&world.path("src"), &world.path(format!("copy-{number}")));
            world.snapshot("src")
        };
        Kept {
            ids: (0..3).map(take).collect(),
        }
    }

    fn assert_intact(&self, world: &World) {
        for (number, id) in self.ids.iter().enumerate() {
            let back = world.path("back");
            let _ = fs::remove_dir_all(&back);
            world.ok(["restore", &format!("{id}:src"), "back"]);
            assert_same(&world.path(format!("copy-{number}")), &back);
        }
    }
}

/// How long an undisturbed run takes.
fn duration_of(world: &World, args: &[&str]) -> Duration {
    let started = Instant::now();
    world.ok(args);
    started.elapsed()
}

/// Starts a command and kills it at a moment of its usual duration, and a little after; `true` when
/// it was killed before its end.
fn kill_one(world: &World, args: &[&str], usual: Duration, random: &mut Random) -> bool {
    let moment = usual.as_micros() as u64 * 11 / 10;
    let moment = Duration::from_micros(random.below(moment));
    let mut running = world.call(args).start();
    if !running.ends_within(moment) {
        running.signal(Signal::KILL);
    }
    let ran = running.wait();
    assert!(
        [0, -9].contains(&ran.code()),
        "{args:?}: {}: {}",
        ran.code(),
        ran.stderr
    );
    ran.code() != 0
}

/// Snapshots that the kills let pass are forgotten: their number is chance.
fn forget_others(world: &World, kept: &Kept) {
    for snapshot in world.snapshots() {
        let id = snapshot["id"].as_str().unwrap().to_owned();
        if !kept.ids.contains(&id) {
            world.ok(["forget", &id]);
        }
    }
}

/// No session, gc list, or temporary file is left, and no more bytes than a repository that nobody
/// disturbed has for the same snapshots.
fn assert_tidy(world: &World) {
    for area in ["sessions", "gc", "tmp"] {
        let left = world.objects(area);
        assert!(left.is_empty(), "{area} holds {left:?}");
    }
    let calm = World::new();
    Kept::take(&calm);
    calm.ok(["gc", "--max-unused", "0"]);
    let bytes = |w: &World| {
        let areas = ["packs", "index", "keys"].iter();
        areas
            .map(|area| data::bytes_below(&w.repository().join(area)))
            .sum::<u64>()
    };
    let (here, there) = (bytes(world), bytes(&calm));
    assert!(
        here <= there * 103 / 100,
        "{here} bytes, {there} in a repository without kills"
    );
    let left = data::files(&world.path("tmp")).len();
    assert_eq!(left, 0, "temporary files outside of the repository");
    eprintln!("after one gc: {here} bytes; never killed: {there} bytes");
}

#[test]
fn kills_of_snapshot_and_gc_lose_nothing_and_leave_nothing() {
    let world = World::new();
    let mut random = Random(seed("kills"));
    let kept = Kept::take(&world);
    night(&world, "src", 3);
    let snapshot = ["snapshot", "src"];
    let gc = ["gc", "--max-unused", "0", "--force"];
    let of_snapshot = duration_of(&world, &snapshot);
    forget_others(&world, &kept);
    let of_gc = duration_of(&world, &gc);
    let (mut kills, mut tries) = ([0, 0], 0);
    let wanted = size(12, 150);
    while kills.iter().any(|k| *k < wanted) {
        tries += 1;
        assert!(
            tries < wanted * 10,
            "they end before they are killed: {kills:?}"
        );
        if kills[0] < wanted {
            night(&world, "src", 10 + tries);
            kills[0] += u64::from(kill_one(&world, &snapshot, of_snapshot, &mut random));
            world.ok(["check"]);
        }
        if kills[1] < wanted {
            forget_others(&world, &kept);
            kills[1] += u64::from(kill_one(&world, &gc, of_gc, &mut random));
            world.ok(["check"]);
        }
        if tries % 25 == 0 {
            kept.assert_intact(&world);
        }
    }
    eprintln!(
        "killed {} snapshots and {} gcs in {tries} rounds",
        kills[0], kills[1]
    );
    world.ok(["check", "--read-data"]);
    kept.assert_intact(&world);
    // A repeat succeeds.
    let id = world.snapshot("src");
    world.ok(["restore", &format!("{id}:src"), "again"]);
    assert_same(&world.path("src"), &world.path("again"));
    forget_others(&world, &kept);
    world.ok(gc);
    assert_tidy(&world);
    kept.assert_intact(&world);
    world.assert_whole();
}

#[test]
fn a_killed_restore_is_repeated_and_leaves_no_half_files() {
    let world = World::new();
    let mut random = Random(seed("killed restores"));
    night(&world, "src", 0);
    world.snapshot("src");
    let usual = duration_of(&world, &["restore", "latest:src", "undisturbed"]);
    for _ in 0..size(5, 50) {
        let _ = fs::remove_dir_all(world.path("back"));
        kill_one(
            &world,
            &["restore", "latest:src", "back"],
            usual,
            &mut random,
        );
        world.ok(["restore", "latest:src", "back"]);
        assert_same(&world.path("src"), &world.path("back"));
    }
}

#[test]
fn a_killed_init_can_be_repeated() {
    let mut random = Random(seed("killed inits"));
    let usual = duration_of(&World::empty(), &["init", "--new-key-file", "key"]);
    for _ in 0..size(10, 100) {
        let world = World::empty();
        let args = ["init", "--encryption", "none"];
        kill_one(&world, &args, usual, &mut random);
        fs::write(world.path("f"), "x").unwrap();
        world.ok(["snapshot", "--init", "--encryption", "none", "f"]);
        world.assert_whole();
    }
}

//! `kill -9` at random moments of every command: nothing that was there is lost, nothing has to
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

/// How often a command may end before it is killed, for each kill that is asked for.
const MISSES: u64 = 10;

/// How long an undisturbed run takes.
fn duration_of(world: &World, args: &[&str]) -> Duration {
    let started = Instant::now();
    world.ok(args);
    started.elapsed()
}

/// Starts a command and kills it at a moment of its usual duration, and a little after; `true` when
/// it was killed before its end. One that ends by itself says how long it takes by now: the machine
/// may have less to do than when it was measured.
fn kill_one(world: &World, args: &[&str], usual: &mut Duration, random: &mut Random) -> bool {
    let moment = usual.as_micros() as u64 * 11 / 10;
    let moment = Duration::from_micros(random.below(moment));
    let started = Instant::now();
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
    let killed = ran.code() != 0;
    if !killed {
        *usual = started.elapsed();
    }
    killed
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
    let mut of_snapshot = duration_of(&world, &snapshot);
    forget_others(&world, &kept);
    let mut of_gc = duration_of(&world, &gc);
    let (mut kills, mut tries) = ([0, 0], 0);
    let wanted = size(12, 150);
    while kills.iter().any(|k| *k < wanted) {
        tries += 1;
        assert!(
            tries < wanted * MISSES,
            "they end before they are killed: {kills:?}"
        );
        if kills[0] < wanted {
            night(&world, "src", 10 + tries);
            kills[0] += u64::from(kill_one(&world, &snapshot, &mut of_snapshot, &mut random));
            world.ok(["check"]);
        }
        if kills[1] < wanted {
            forget_others(&world, &kept);
            kills[1] += u64::from(kill_one(&world, &gc, &mut of_gc, &mut random));
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
    let mut usual = duration_of(&world, &["restore", "latest:src", "undisturbed"]);
    for _ in 0..size(5, 50) {
        let _ = fs::remove_dir_all(world.path("back"));
        kill_one(
            &world,
            &["restore", "latest:src", "back"],
            &mut usual,
            &mut random,
        );
        world.ok(["restore", "latest:src", "back"]);
        assert_same(&world.path("src"), &world.path("back"));
    }
}

#[test]
fn a_killed_init_can_be_repeated() {
    let mut random = Random(seed("killed inits"));
    let mut usual = duration_of(&World::empty(), &["init", "--new-key-file", "key"]);
    for _ in 0..size(10, 100) {
        let world = World::empty();
        let args = ["init", "--encryption", "none"];
        kill_one(&world, &args, &mut usual, &mut random);
        fs::write(world.path("f"), "x").unwrap();
        world.ok(["snapshot", "--init", "--encryption", "none", "f"]);
        world.assert_whole();
    }
}

/// A command that is killed, and then repeated.
struct Victim {
    name: &'static str,
    /// Sets the stage and answers what is typed.
    typed: fn(&World) -> Vec<String>,
    /// Exit codes of a repeat: 1 where it may say that it is done already.
    repeat: &'static [i32],
    /// Exit codes of a check between the kill and the repeat: 12 where the stage is damage.
    between: &'static [i32],
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// A snapshot that is there only to be forgotten.
fn extra(world: &World) -> String {
    fs::create_dir_all(world.path("extra")).unwrap();
    let noise = Random(data::bytes_below(&world.repository())).bytes(200_000);
    fs::write(world.path("extra/file"), noise).unwrap();
    world.snapshot("extra")
}

/// Every command that writes to a repository and has no test of its own here, and those that read
/// all of it. One line puts another one to the test.
const VICTIMS: &[Victim] = &[
    Victim {
        name: "forget",
        typed: |world| words(&["forget", &extra(world)]),
        repeat: &[0, 1],
        between: &[0],
    },
    Victim {
        name: "forget --gc",
        typed: |world| {
            words(&[
                "forget",
                &extra(world),
                "--gc",
                "--max-unused",
                "0",
                "--force",
            ])
        },
        repeat: &[0, 1],
        between: &[0],
    },
    Victim {
        name: "undelete",
        typed: |world| {
            let id = extra(world);
            world.ok(["forget", &id]);
            words(&["undelete", &id])
        },
        repeat: &[0, 1],
        between: &[0],
    },
    Victim {
        name: "rewrite",
        typed: |world| words(&["rewrite", "--exclude", "file", &extra(world)]),
        repeat: &[0],
        between: &[0],
    },
    Victim {
        name: "tag",
        typed: |world| words(&["tag", "--add", "killed", &extra(world)]),
        repeat: &[0],
        between: &[0],
    },
    Victim {
        name: "protect and unprotect",
        typed: |world| {
            let id = extra(world);
            world.ok(["protect", &id]);
            words(&["unprotect", &id])
        },
        repeat: &[0],
        between: &[0],
    },
    Victim {
        name: "key add",
        typed: |world| {
            // A key file that exists is not written over.
            let _ = fs::remove_file(world.path("another"));
            words(&[
                "key",
                "add",
                "--label",
                "other",
                "--new-key-file",
                "another",
            ])
        },
        repeat: &[0, 1],
        between: &[0],
    },
    Victim {
        name: "key remove",
        typed: |world| {
            let _ = fs::remove_file(world.path("another"));
            let added = world.object(["key", "add", "--new-key-file", "another"]);
            words(&["key", "remove", added["id"].as_str().unwrap()])
        },
        repeat: &[0, 1],
        between: &[0],
    },
    Victim {
        name: "check",
        typed: |_| words(&["check", "--read-data"]),
        repeat: &[0],
        between: &[0],
    },
    Victim {
        name: "repair",
        typed: |world| {
            extra(world);
            // All of it can be made again: segments from packs, the copy from config.
            let index = data::files(&world.repository().join("index"));
            index.iter().for_each(|file| fs::remove_file(file).unwrap());
            fs::write(world.repository().join("keys/config"), "damaged").unwrap();
            words(&["repair"])
        },
        repeat: &[0],
        between: &[0, 12],
    },
];

/// Kills a command so many times, and repeats it each time. Answers how many tries it took.
fn kill_often(
    world: &World,
    victim: &Victim,
    wanted: u64,
    kept: &Kept,
    random: &mut Random,
) -> u64 {
    let typed = (victim.typed)(world);
    let call: Vec<&str> = typed.iter().map(String::as_str).collect();
    let mut usual = duration_of(world, &call);
    let (mut killed, mut tries) = (0, 0);
    while killed < wanted {
        assert!(
            tries < wanted * MISSES,
            "{} ends before it is killed: {killed}",
            victim.name
        );
        tries += 1;
        let typed = (victim.typed)(world);
        let call: Vec<&str> = typed.iter().map(String::as_str).collect();
        killed += u64::from(kill_one(world, &call, &mut usual, random));
        let between = world.run(["check"]);
        assert!(
            victim.between.contains(&between.code()),
            "{call:?}, then check: {}",
            between.stderr
        );
        let again = world.run(&call);
        assert!(
            victim.repeat.contains(&again.code()),
            "{call:?}: {}",
            again.stderr
        );
        world.ok(["check"]);
        // What is only there to be forgotten.
        forget_others(world, kept);
    }
    tries
}

#[test]
fn kills_of_every_other_command_lose_nothing() {
    let world = World::new();
    let mut random = Random(seed("kills of all"));
    let kept = Kept::take(&world);
    // With those of snapshot and gc: 550.
    let wanted = size(2, 25);
    for victim in VICTIMS {
        let tries = kill_often(&world, victim, wanted, &kept, &mut random);
        kept.assert_intact(&world);
        eprintln!("{}: killed {wanted} times in {tries} tries", victim.name);
    }
    world.ok(["gc", "--max-unused", "0", "--force"]);
    assert!(world.objects("sessions").is_empty() && world.objects("gc").is_empty());
    kept.assert_intact(&world);
    world.assert_whole();
}

/// Whichever key opens the repository after a kill, it can be changed again, and one is left.
#[test]
fn a_killed_change_of_the_key_locks_nobody_out() {
    let world = World::new();
    let mut random = Random(seed("killed changes of the key"));
    fs::write(world.path("f"), "x").unwrap();
    world.snapshot("f");
    let change = ["key", "change", "--new-key-file", "next"];
    let mut usual = duration_of(&world, &change);
    fs::rename(world.path("next"), world.path("key")).unwrap();
    for _ in 0..size(4, 40) {
        kill_one(&world, &change, &mut usual, &mut random);
        if world.run(["snapshots"]).code() != 0 {
            fs::rename(world.path("next"), world.path("key")).unwrap();
        }
        let _ = fs::remove_file(world.path("next"));
        world.ok(change);
        fs::rename(world.path("next"), world.path("key")).unwrap();
        world.assert_whole();
        // A slot whose key file was never finished, or is lost now, is removed by its id.
        let keys = world.ok(["key", "list", "--json"]).json();
        for key in keys.iter().filter(|key| key["in_use"] == false) {
            world.ok(["key", "remove", key["id"].as_str().unwrap()]);
        }
    }
    assert_eq!(world.ok(["key", "list", "--json"]).json().len(), 1);
    assert_eq!(world.ok(["cat", "latest:f"]).stdout, b"x");
}

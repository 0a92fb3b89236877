//! Checkpoints of the real binary: a first snapshot that is killed goes on where it stopped, in
//! the middle of a file too, and reads nothing again that a checkpoint holds. What else decides
//! whether a file is read: `--parent`, `--ignore-inode`, `--skip-if-unchanged`.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::data::Random;
use crate::support::{World, assert_same, has_tool, size};

const MIB: u64 = 1 << 20;

/// Files of one size under `src`, in a few folders.
fn many(world: &World, files: u64, bytes: u64) {
    let mut random = Random(11);
    for number in 0..files {
        let folder = world.path(format!("src/{}", number / 100));
        fs::create_dir_all(&folder).unwrap();
        let bytes = random.bytes(bytes as usize);
        fs::write(folder.join(format!("{:02}", number % 100)), bytes).unwrap();
    }
}

/// One file under `src`.
fn one(path: &Path, bytes: u64) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut random = Random(12);
    let mut file = fs::File::create(path).unwrap();
    for _ in 0..bytes / MIB {
        file.write_all(&random.bytes(MIB as usize)).unwrap();
    }
}

fn number(object: &serde_json::Value, field: &str) -> u64 {
    object[field].as_u64().unwrap()
}

/// Takes a first snapshot of `src` and kills it as soon as so many checkpoints stand. Answers how
/// many there are in the end.
fn kill_after(world: &World, checkpoints: usize, every: &str) -> u64 {
    let mut running = world
        .call(["snapshot", "src", "--checkpoint-every", every])
        .start();
    while world.objects("snapshots").len() < checkpoints {
        let ended = running.ends_within(Duration::from_millis(1));
        assert!(!ended, "it ended before checkpoint {checkpoints}");
    }
    running.signal(Signal::KILL);
    running.wait().expect(-9);
    world.objects("snapshots").len() as u64
}

/// What a second run reads after a first one was killed, and what came after its last checkpoint.
fn goes_on(world: &World, total: u64, every: u64) {
    let limit = every.to_string();
    let checkpoints = kill_after(world, 3, &limit);
    world.ok(["check"]);
    assert!(world.snapshots().is_empty(), "partial ones are hidden");
    let shown = world.ok(["snapshots", "--all", "--json"]).json();
    assert!(!shown.is_empty() && shown.iter().all(|s| s["partial"] == true));
    let forgotten = world.ok(["forget", "--keep-last", "1", "--json"]).json();
    assert!(
        forgotten.is_empty(),
        "rules leave them alone: {forgotten:?}"
    );
    world.run(["restore", "latest", "no"]).expect(1);
    let taken = world.object(["snapshot", "src"]);
    let read = number(&taken, "read_bytes");
    let after = total - checkpoints * every;
    eprintln!("{total} bytes, killed after checkpoint {checkpoints}: {read} read again");
    assert!(read <= after, "{read} of at most {after} bytes: {taken}");
    assert!(
        taken["resumed"].is_string() && taken["parent"].is_null(),
        "{taken}"
    );
    assert_eq!(number(&taken, "bytes"), total);
    let all = world.snapshots();
    assert_eq!(all.len(), 1, "the partial ones are forgotten: {all:?}");
    world.ok(["restore", "latest:src", "back"]);
    assert_same(&world.path("src"), &world.path("back"));
    world.ok(["gc", "--max-unused", "0", "--force"]);
    // The whole one, and the name of the run that was killed.
    assert_eq!(world.objects("snapshots").len(), 2);
    assert!(world.objects("sessions").is_empty());
    world.assert_whole();
}

/// In full: 10 GB.
#[test]
fn a_killed_first_snapshot_goes_on_behind_its_last_checkpoint() {
    let world = World::empty();
    let (files, bytes) = size((100, 400_000), (2500, 4_000_000));
    many(&world, files, bytes);
    world.ok(["init", "--new-key-file", "key"]);
    goes_on(&world, files * bytes, size(5 * MIB, 1 << 30));
}

/// In full: 4 GiB.
#[test]
fn a_killed_snapshot_of_one_large_file_goes_on_inside_of_it() {
    let world = World::empty();
    let bytes = size(48 * MIB, 4 << 30);
    one(&world.path("src/large"), bytes);
    world.ok(["init", "--new-key-file", "key"]);
    goes_on(&world, bytes, size(5 * MIB, 512 * MIB));
}

/// The report counts what the system counts.
#[test]
fn the_bytes_read_are_those_of_the_calls() {
    let what = "the bytes that are read, by system call";
    if !has_tool("strace", what) {
        return;
    }
    let world = World::empty();
    one(&world.path("src/large"), 24 * MIB);
    world.ok(["init", "--new-key-file", "key"]);
    kill_after(&world, 2, "5M");
    // A file for each thread: in one for all, calls that overlap stand in two halves.
    fs::create_dir(world.path("trace")).unwrap();
    let line = "strace -ff -y -qq -e trace=pread64,read -o trace/of $hucha snapshot src --json";
    let taken = world.bash(line).run().expect(0).object();
    let traces = crate::support::data::files(&world.path("trace"));
    let texts = traces.iter().map(|t| fs::read_to_string(t).unwrap());
    let trace: String = texts.collect();
    let of_source = trace.lines().filter(|l| l.contains("/src/large>"));
    let read: u64 = of_source
        .filter_map(|l| l.rsplit(" = ").next()?.parse::<u64>().ok())
        .sum();
    assert_eq!(read, number(&taken, "read_bytes"), "{taken}");
    assert!(read <= 14 * MIB, "{read}");
}

#[test]
fn parents_and_what_tells_a_change() {
    let world = World::empty();
    many(&world, 20, 20_000);
    let first = world.path("src");
    world.ok(["init", "--new-key-file", "key"]);
    let id = world.snapshot("src");
    // The same files in other inodes.
    crate::support::tool(
        std::process::Command::new("cp")
            .arg("-a")
            .arg(&first)
            .arg(world.path("copy")),
    );
    fs::remove_dir_all(&first).unwrap();
    fs::rename(world.path("copy"), &first).unwrap();
    let dry = |more: &[&str]| {
        let args = [&["snapshot", "src", "--dry-run"], more].concat();
        let taken = world.object(args);
        (number(&taken, "read_bytes"), taken["parent"].clone())
    };
    assert_eq!(dry(&[]).0, 400_000);
    assert_eq!(dry(&["--ignore-inode"]).0, 400_000);
    assert_eq!(dry(&["--ignore-inode", "--ignore-ctime"]).0, 0);
    assert_eq!(dry(&["--force"]), (400_000, serde_json::Value::Null));
    let taken = world.object(["snapshot", "src"]);
    assert_eq!(number(&taken, "read_bytes"), 400_000);
    assert_eq!(dry(&[]).0, 0);
    let old = dry(&["--parent", &id]);
    assert_eq!(old, (400_000, serde_json::Value::String(id.clone())));
    world.run(["snapshot", "src", "--parent", "ffff"]).expect(1);
    world
        .run(["snapshot", "src", "--force", "--parent", &id])
        .expect(2);
    world
        .run(["snapshot", "src", "--checkpoint-every", "soon"])
        .expect(2);
}

#[test]
fn nothing_is_saved_when_nothing_changed() {
    let world = World::new();
    many(&world, 5, 20_000);
    let args = ["snapshot", "src", "--skip-if-unchanged"];
    assert_eq!(world.object(args)["skipped"], false);
    // Changed so shortly before that it had to be read again.
    world.ok(["snapshot", "src"]);
    let told = world.ok(args).text();
    assert!(told.contains("nothing was saved"), "{told}");
    assert_eq!(world.object(args)["skipped"], true);
    assert_eq!(world.snapshots().len(), 2);
    assert!(world.objects("sessions").is_empty());
    fs::write(world.path("src/0/new"), "new").unwrap();
    assert_eq!(world.object(args)["skipped"], false);
    assert_eq!(world.snapshots().len(), 3);
    world.assert_whole();
}

/// A signal while a large file is read, and while standard input gives nothing.
#[test]
fn a_signal_ends_a_long_read_in_order() {
    let world = World::empty();
    one(&world.path("src/large"), size(48 * MIB, 1 << 30));
    world.ok(["init", "--new-key-file", "key"]);
    let reading = world
        .call(["snapshot", "src", "--checkpoint-every", "5M"])
        .start();
    while world.objects("snapshots").is_empty() {}
    reading.signal(Signal::INT);
    reading.wait().expect(130);
    assert!(world.objects("sessions").is_empty(), "it was given up");
    let taken = world.object(["snapshot", "src"]);
    assert!(taken["resumed"].is_string(), "{taken}");
    let waiting = world.call(["snapshot", "-"]).open_stdin().start();
    while world.objects("sessions").is_empty() {}
    waiting.signal(Signal::INT);
    let mut waiting = waiting;
    assert!(waiting.ends_within(Duration::from_secs(60)));
    waiting.wait().expect(130);
    assert!(world.objects("sessions").is_empty(), "it was given up");
}

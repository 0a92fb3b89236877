//! SQLite through the binary: snapshots while four processes commit, in both journal modes; what is
//! restored is sound and holds whole transactions only; writers are blocked no longer than is
//! promised; nothing is left behind by failures and kills.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::disk::Disk;
use crate::support::private::{self, assert_nothing_left, assert_private};
use crate::support::process::{Call, Running};
use crate::support::{World, has_tool, size};

/// Processes that commit all the time.
const WRITERS: u64 = 4;

/// Longest wait for somebody to commit: a look at 500 MB takes a while.
const PATIENCE: Duration = Duration::from_secs(120);

/// A journal mode, and what is promised of it.
#[derive(Clone, Copy)]
struct Mode {
    journal: &'static str,
    /// What the manifest calls it.
    called: &'static str,
    /// Longest that a transaction takes, in seconds: a writer with such a `busy_timeout` is never
    /// refused. In WAL mode it waits for no snapshot, only for other writers and the machine. With
    /// a rollback journal it waits while the file is copied once at most.
    bound: u64,
}

const WAL: Mode = Mode {
    journal: "wal",
    called: "wal",
    bound: 5,
};
const ROLLBACK: Mode = Mode {
    journal: "delete",
    called: "rollback",
    bound: 10,
};

/// Whether the script of the shop can run.
fn can_run() -> bool {
    has_tool("python3", "snapshots of SQLite while others write")
}

/// A call of the script; see there.
fn shop(arguments: &[&str]) -> Call {
    let mut python = Command::new("python3");
    python.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/suite/sqlite/shop.py"));
    Call::new(python).args(arguments)
}

/// Makes a shop, `shop.db`, and answers its address.
fn make(world: &World, mode: Mode, megabytes: u64) -> String {
    let path = world.typed("shop.db");
    let megabytes = megabytes.to_string();
    shop(&["make", &path, mode.journal, &megabytes])
        .run()
        .expect(0);
    format!("sqlite://{path}")
}

/// What the script sees in a file, which must be sound and hold whole transactions.
#[track_caller]
fn look(path: &Path) -> Value {
    let found = shop(&["look", path.to_str().unwrap()])
        .run()
        .expect(0)
        .object();
    assert_eq!(found["integrity"], "ok", "{path:?}: {found}");
    assert_eq!(
        found["balances"], found["amounts"],
        "half a transaction: {found}"
    );
    found
}

fn number(object: &Value, field: &str) -> u64 {
    object[field]
        .as_u64()
        .unwrap_or_else(|| panic!("{field} of {object}"))
}

/// Four writers, each a process; each of them has committed.
fn start_writers(world: &World, mode: Mode) -> Vec<Running> {
    let (path, bound) = (world.typed("shop.db"), mode.bound.to_string());
    let start = |n: u64| {
        let call = shop(&["write", &path, &n.to_string(), &bound]);
        call.open_stdin().start()
    };
    let writers = (0..WRITERS).map(start).collect();
    await_commits(world, |shop| number(shop, "least") > 0);
    writers
}

/// Looks at the live shop until it has what is waited for.
#[track_caller]
fn await_commits(world: &World, enough: impl Fn(&Value) -> bool) {
    let since = Instant::now();
    while !enough(&look(&world.path("shop.db"))) {
        assert!(since.elapsed() < PATIENCE, "nobody commits");
    }
}

/// Ends the writers. None of them was refused or blocked longer than is promised. Answers what they
/// committed.
#[track_caller]
fn end_writers(writers: Vec<Running>, mode: Mode) -> u64 {
    let mut commits = 0;
    for writer in writers {
        let told = writer.wait().expect(0).object();
        let longest = told["longest"].as_f64().unwrap();
        eprintln!("{}: a writer: {told}", mode.journal);
        assert!(
            longest < mode.bound as f64,
            "journal {}: a transaction took {longest} s; promised are at most {} s, however slow \
             the machine is (raise the bound only if a run without snapshots takes as long)",
            mode.journal,
            mode.bound
        );
        assert_eq!(
            number(&told, "refused"),
            0,
            "journal {}: {told}",
            mode.journal
        );
        assert!(number(&told, "commits") > 0, "it never wrote");
        commits += number(&told, "commits");
    }
    commits
}

/// Restores the member in both ways and looks at what came back; answers how much had been
/// committed.
#[track_caller]
fn restored(world: &World, id: &str, rows: u64) -> u64 {
    let member = format!("{id}:shop.db");
    let made = world.object([
        "restore",
        &member,
        "--to",
        &format!("sqlite://{}", world.typed("made.db")),
    ]);
    assert_eq!(made["database"], world.typed("made.db"), "{made}");
    assert_eq!(number(&made, "rows"), rows, "{made}");
    let found = look(&world.path("made.db"));
    world.ok(["restore", &member, "back"]);
    assert_eq!(
        found,
        look(&world.path("back/shop.db")),
        "two ways to restore"
    );
    for name in ["made.db", "made.db-wal", "made.db-shm"] {
        let _ = fs::remove_file(world.path(name));
    }
    fs::remove_dir_all(world.path("back")).unwrap();
    number(&found, "commits")
}

fn snapshots_while_four_write(mode: Mode) {
    if !can_run() {
        return;
    }
    let world = World::new();
    let source = make(&world, mode, size(20, 500));
    let writers = start_writers(&world, mode);
    let (mut before, mut ids) = (0, Vec::new());
    for night in 0..size(5, 50) {
        let taken = world.object(["snapshot", "--source", &source]);
        let member = &taken["members"][0];
        assert_eq!(member["kind"], "sqlite", "{taken}");
        assert_eq!(member["properties"]["journal"], mode.called, "{taken}");
        let id = taken["id"].as_str().unwrap().to_owned();
        let commits = restored(&world, &id, number(member, "rows"));
        assert!(
            night == 0 || commits > before,
            "nobody wrote between two snapshots"
        );
        before = commits;
        ids.push(id);
        assert_nothing_left(&world);
    }
    let commits = end_writers(writers, mode);
    let live = look(&world.path("shop.db"));
    assert_eq!(
        number(&live, "commits"),
        commits,
        "what was committed is there"
    );
    assert_eq!(world.snapshots().len(), ids.len());
    // The last state of all, and an old one once more.
    let last = world.object(["snapshot", "--source", &source]);
    let (id, rows) = (
        last["id"].as_str().unwrap(),
        number(&last["members"][0], "rows"),
    );
    assert_eq!(restored(&world, id, rows), commits);
    assert!(restored(&world, &ids[0], rows) < commits);
    world.assert_whole();
}

/// In full: 50 snapshots of 500 MB.
#[test]
fn snapshots_while_four_processes_commit_in_wal_mode() {
    snapshots_while_four_write(WAL);
}

/// In full: 50 snapshots of 500 MB.
#[test]
fn snapshots_while_four_processes_commit_with_a_rollback_journal() {
    snapshots_while_four_write(ROLLBACK);
}

/// Whether a process is within the pages of a database in WAL mode: bytes 123 to 127 of the `-shm`
/// file are the locks of readers (sqlite.org/walformat.html), and it has read more than whoever
/// only looks what is there.
fn holds_a_moment(process: &Running) -> bool {
    let read = fs::read_to_string(format!("/proc/{}/io", process.id())).unwrap_or_default();
    let read = read.lines().find_map(|line| line.strip_prefix("rchar: "));
    if read
        .and_then(|bytes| bytes.parse::<u64>().ok())
        .unwrap_or(0)
        < 2_000_000
    {
        return false;
    }
    let Ok(all) = fs::read_dir(format!("/proc/{}/fdinfo", process.id())) else {
        return false;
    };
    let is_reader = |line: &str| {
        let at = line.rsplit(char::is_whitespace).next();
        let at = at.and_then(|byte| byte.parse::<u64>().ok());
        line.starts_with("lock:") && at.is_some_and(|byte| (123..=127).contains(&byte))
    };
    let texts = all
        .flatten()
        .filter_map(|fd| fs::read_to_string(fd.path()).ok());
    texts.into_iter().any(|text| text.lines().any(is_reader))
}

/// However long a snapshot takes: in WAL mode others go on meanwhile, and it does not see what they
/// do.
#[test]
fn in_wal_mode_others_commit_while_a_snapshot_stands_still() {
    if !can_run() {
        return;
    }
    let world = World::new();
    let source = make(&world, WAL, 20);
    let writers = start_writers(&world, WAL);
    let mut running = world.call(["snapshot", "--source", &source]).start();
    loop {
        if holds_a_moment(&running) {
            running.signal(Signal::STOP);
            // It may have gone on before it stood still.
            if holds_a_moment(&running) {
                break;
            }
            running.signal(Signal::CONT);
        }
        let ended = running.ends_within(Duration::from_millis(1));
        assert!(!ended, "it ended before it could be stopped");
    }
    let then = number(&look(&world.path("shop.db")), "commits");
    await_commits(&world, |shop| number(shop, "commits") >= then + 100);
    running.signal(Signal::CONT);
    running.wait().expect(0);
    let rows = number(&world.snapshots()[0]["members"][0], "rows");
    assert!(restored(&world, "latest", rows) <= then, "one moment");
    end_writers(writers, WAL);
}

/// A restore into a place that is taken goes beside it, and is exchanged when that is asked for.
#[test]
fn a_restore_goes_beside_the_live_file_and_is_exchanged_on_request() {
    if !can_run() {
        return;
    }
    for mode in [WAL, ROLLBACK] {
        let world = World::new();
        let source = make(&world, mode, 2);
        let old = look(&world.path("shop.db"));
        let id = world.object(["snapshot", "--source", &source])["id"].clone();
        let member = format!("{}:shop.db", id.as_str().unwrap());
        let writers = start_writers(&world, mode);
        let beside = world.object(["restore", &member, "--to", &source]);
        let path = beside["database"].as_str().unwrap();
        assert_ne!(path, world.typed("shop.db"), "{beside}");
        assert_eq!(
            (look(Path::new(path)), &beside["kept"]),
            (old.clone(), &Value::Null)
        );
        fs::remove_file(path).unwrap();
        let commits = end_writers(writers, mode);
        assert!(commits > 0 && number(&look(&world.path("shop.db")), "commits") == commits);

        let swapped = world.object(["restore", &member, "--to", &source, "--swap"]);
        assert_eq!(swapped["database"], world.typed("shop.db"), "{swapped}");
        assert_eq!(look(&world.path("shop.db")), old);
        let kept = swapped["kept"].as_str().unwrap();
        assert_eq!(number(&look(Path::new(kept)), "commits"), commits);
        assert_private(&[kept.into()]);

        let names = fs::read_dir(world.path("")).unwrap();
        let names = names.map(|e| e.unwrap().file_name().into_string().unwrap());
        let odd: Vec<String> = names
            .filter(|n| n.contains("hucha-") || n.contains("restored"))
            .collect();
        assert!(odd.is_empty(), "{odd:?}");
    }
}

/// One table, structure, rows.
#[test]
fn parts_of_a_shop_are_restored() {
    if !can_run() {
        return;
    }
    let world = World::new();
    let source = make(&world, WAL, 2);
    let taken = world.object(["snapshot", "--source", &source]);
    let rows = number(&taken["members"][0], "rows");
    let to = |name: &str| format!("sqlite://{}", world.typed(name));
    let one = world.object([
        "restore",
        "latest:shop.db",
        "--to",
        &to("one.db"),
        "--table",
        "account",
    ]);
    assert_eq!(
        (&one["tables"], &one["rows"]),
        (&1.into(), &100.into()),
        "{one}"
    );
    let empty = world.object([
        "restore",
        "latest:shop.db",
        "--to",
        &to("parts.db"),
        "--schema-only",
    ]);
    assert_eq!(empty["rows"], 0, "{empty}");
    let filled = world.object([
        "restore",
        "latest:shop.db",
        "--to",
        &to("parts.db"),
        "--data-only",
    ]);
    assert_eq!(number(&filled, "rows"), rows, "{filled}");
    assert_eq!(look(&world.path("parts.db")), look(&world.path("shop.db")));
    world
        .run([
            "restore",
            "latest:shop.db",
            "--to",
            &to("none.db"),
            "--table",
            "accounts",
        ])
        .expect(1)
        .says("account");
    assert!(!world.path("none.db").exists());
}

#[test]
fn what_is_not_there_is_an_error_and_not_made() {
    let world = World::new();
    let source = format!("sqlite://{}", world.typed("none.db"));
    let ran = world.run(["snapshot", "--source", &source]).expect(1);
    let ran = ran.says("none.db is not there");
    assert_eq!(
        ran.stderr.lines().count(),
        2,
        "a sentence and a hint: {}",
        ran.stderr
    );
    fs::write(
        world.path("text.db"),
        "no database, but long enough for its header\n".repeat(99),
    )
    .unwrap();
    let text = format!("sqlite://{}", world.typed("text.db"));
    world
        .run(["snapshot", "--source", &text])
        .expect(1)
        .says("no SQLite database");
    let there: Vec<_> = fs::read_dir(world.path(""))
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    let made = there
        .iter()
        .filter(|name| name.to_str().unwrap().starts_with("none"));
    assert_eq!(made.count(), 0, "{there:?}");
    assert!(world.snapshots().is_empty());
    assert_nothing_left(&world);
}

/// Starts a snapshot and waits until its private copy of the database is there.
fn start_until_copied(world: &World, source: &str) -> Running {
    let mut running = world.call(["snapshot", "--source", source]).start();
    let is_copy = |path: &std::path::PathBuf| path.ends_with("copy.db");
    while !private::left(world).iter().any(is_copy) {
        assert!(
            !running.ends_within(Duration::from_millis(1)),
            "it ended without a copy"
        );
    }
    running
}

#[test]
fn the_copy_of_a_killed_snapshot_is_private_and_goes_with_the_next_one() {
    if !can_run() {
        return;
    }
    let world = World::new();
    let source = make(&world, ROLLBACK, size(20, 500));
    let running = start_until_copied(&world, &source);
    assert_private(&private::left(&world));
    running.signal(Signal::KILL);
    running.wait().expect(-9);
    let left = private::left(&world);
    assert!(
        left.iter().any(|path| path.ends_with("copy.db")),
        "{left:?}"
    );
    assert_private(&left);
    assert_private(&[private::folder(&world)]);
    assert!(world.snapshots().is_empty());
    // The lock that the copy needed went with the process.
    let live = look(&world.path("shop.db"));
    let taken = world.object(["snapshot", "--source", &source]);
    assert_nothing_left(&world);
    let rows = number(&taken["members"][0], "rows");
    assert_eq!(restored(&world, "latest", rows), number(&live, "commits"));

    // Asked to end, it takes its copy along.
    let running = start_until_copied(&world, &source);
    running.signal(Signal::INT);
    running.wait().expect(130);
    assert_nothing_left(&world);
    assert_eq!(world.snapshots().len(), 1);
}

/// The copy goes into the cache folder.
#[test]
fn a_full_disk_for_the_copy_is_said_and_leaves_no_snapshot() {
    if !can_run() {
        return;
    }
    let world = World::new();
    let source = make(&world, ROLLBACK, 20);
    let what = "a copy of a SQLite database on a full disk";
    let Some(_disk) = Disk::mount(&world.path("small"), "8m", what) else {
        return;
    };
    let ran = world
        .run(["snapshot", "--source", &source, "--cache-dir", "small"])
        .expect(1);
    let lines: Vec<&str> = ran.stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{}", ran.stderr);
    assert!(lines[0].contains("no room to copy"), "{}", ran.stderr);
    assert!(lines[1].contains("--cache-dir"), "{}", ran.stderr);
    assert!(world.snapshots().is_empty());
    let left = fs::read_dir(world.path("small/tmp")).unwrap().count();
    assert_eq!(left, 0, "the copy is left");
    assert_eq!(look(&world.path("shop.db"))["commits"], 0);
}

//! Every command with `--json`: each object it prints has exactly the fields that docs/json.md
//! tells of its type, and every type and field of that page is met.
//!
//! A new command, type or field needs a line in [`all_that_is_printed`], and its row in the page.

mod page;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde_json::Value;

use crate::support::damage::{Harm, harm};
use crate::support::data::{Random, small_tree};
use crate::support::{Ran, World, is_root, tool};
use page::Page;

/// Fields that only root can make appear.
const NEEDS_ROOT: [&str; 1] = ["entry.device"];

/// Commands that print no objects on stdout: bytes, and what other programs read.
const PRINT_BYTES: [&str; 3] = ["cat", "completions", "man"];

/// Runs commands and compares what they print with the page.
struct Judge {
    page: Page,
    /// Types, and `type.field`, that were printed.
    seen: BTreeSet<String>,
    /// Commands that were run.
    commands: BTreeSet<String>,
}

impl Judge {
    fn new() -> Judge {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/json.md");
        Judge {
            page: Page::parse(&fs::read_to_string(page).unwrap()),
            seen: BTreeSet::new(),
            commands: BTreeSet::new(),
        }
    }

    /// Runs the binary with `--json` and judges all that it prints.
    #[track_caller]
    fn run<A: AsRef<OsStr>>(&mut self, world: &World, code: i32, args: &[A]) -> Ran {
        let first = args[0].as_ref().to_string_lossy().into_owned();
        let ran = world.call(args).arg("--json").run().expect(code);
        if !PRINT_BYTES.contains(&&*first) {
            self.judge(&ran.text());
        }
        self.judge(&ran.stderr);
        self.commands.insert(first);
        ran
    }

    #[track_caller]
    fn judge(&mut self, printed: &str) {
        for line in printed.lines() {
            let object: Value = serde_json::from_str(line)
                .unwrap_or_else(|e| panic!("this is no object ({e}): {line}"));
            let faults = self.page.faults(&object, &mut self.seen);
            assert!(faults.is_empty(), "{faults:#?} in {line}");
        }
    }
}

/// A source with every kind of thing and odd names.
fn odd_source(world: &World) {
    let root = world.path("src");
    small_tree(&root, 1);
    let odd = |name: &[u8]| root.join(OsStr::from_bytes(name));
    fs::write(odd(b"odd-\xff"), b"x").unwrap();
    std::os::unix::fs::symlink(OsStr::from_bytes(b"to-\xfe"), odd(b"odd-link")).unwrap();
    let value = b"red";
    rustix::fs::setxattr(
        root.join("one"),
        "user.colour",
        value,
        rustix::fs::XattrFlags::empty(),
    )
    .unwrap();
    let mut mkfifo = std::process::Command::new("mkfifo");
    tool(mkfifo.arg(root.join("pipe")).arg(odd(b"pipe-\xff")));
    if is_root("a device in `ls --json`") {
        let mut mknod = std::process::Command::new("mknod");
        tool(mknod.arg(root.join("null")).args(["c", "1", "3"]));
    }
}

/// Everything on a repository that is whole.
fn on_a_whole_repository(judge: &mut Judge, world: &World) {
    judge.run(world, 0, &["version"]);
    judge.run(world, 0, &["completions", "bash"]);
    judge.run(world, 0, &["man"]);
    judge.run(world, 2, &["man", "nonsense"]);
    judge.run(world, 10, &["snapshots"]);
    judge.run(world, 2, &["snapshots", "--no-such-option"]);
    judge.run(world, 0, &["init", "-n", "--new-key-file", "key"]);
    judge.run(world, 0, &["init", "--new-key-file", "key"]);
    odd_source(world);
    judge.run(world, 0, &["snapshot", "src", "-n"]);
    judge.run(world, 0, &["snapshot", "src", "--tag", "a", "--label", "b"]);
    let missing = OsStr::from_bytes(b"missing-\xff");
    let args = [OsStr::new("snapshot"), OsStr::new("src"), missing];
    judge.run(world, 3, &args);
    judge.run(world, 0, &["tag", "--add", "keep", "latest"]);
    judge.run(world, 0, &["protect", "latest"]);
    judge.run(world, 0, &["unprotect", "latest"]);
    judge.run(world, 0, &["snapshots"]);
    judge.run(world, 0, &["ls", "latest", "--recursive"]);
    judge.run(world, 0, &["find", "on*", "--snapshot", "latest"]);
    fs::remove_file(world.path("src/odd-link")).unwrap();
    fs::write(world.path("src").join(OsStr::from_bytes(b"new-\xff")), b"x").unwrap();
    world.snapshot("src");
    judge.run(world, 0, &["diff", "latest~1", "latest", "--metadata"]);
    judge.run(world, 0, &["rewrite", "--exclude", "small", "latest", "-n"]);
    judge.run(world, 0, &["rewrite", "--exclude", "small", "latest"]);
    judge.run(world, 0, &["cat", "latest:src/one"]);
    judge.run(world, 1, &["cat", "latest:src/gone"]);
    judge.run(world, 0, &["restore", "latest", "back", "-n"]);
    judge.run(world, 0, &["restore", "latest", "back", "--verify"]);
    let surplus = world.path("back").join(OsStr::from_bytes(b"more-\xff"));
    fs::write(surplus, "x").unwrap();
    judge.run(world, 0, &["restore", "latest", "back", "--delete"]);
    judge.run(world, 0, &["archive", "latest", "-o", "all.tar"]);
    judge.run(world, 3, &["archive", "latest", "-o", "all.zip"]);
    judge.run(world, 0, &["snapshots", "--group-by", "host"]);
    judge.run(world, 0, &["stats"]);
    judge.run(world, 0, &["stats", "latest"]);
    judge.run(world, 0, &["check", "--read-data"]);
    judge.run(world, 0, &["forget", "--keep-last", "1", "-n"]);
    judge.run(world, 0, &["forget", "latest"]);
    judge.run(world, 0, &["snapshots", "--forgotten"]);
    let forgotten = world.ok(["snapshots", "--forgotten", "--json"]).object();
    let id = forgotten["id"].as_str().unwrap();
    judge.run(world, 0, &["undelete", id, "-n"]);
    judge.run(world, 0, &["undelete", id]);
    judge.run(world, 0, &["cache", "list"]);
    judge.run(world, 0, &["cache", "clear", "--all", "-n"]);
    judge.run(world, 0, &["gc", "-n"]);
    judge.run(world, 0, &["gc"]);
}

/// A database as a member.
fn databases(judge: &mut Judge, world: &World) {
    let sql = |sql: &str| {
        let line = "import sqlite3, sys; c = sqlite3.connect('app.db'); \
                    c.executescript(sys.argv[1])";
        tool(world.command("python3").args(["-c", line, sql]));
    };
    sql("CREATE TABLE t (id INTEGER PRIMARY KEY, x); INSERT INTO t VALUES (1, 'a'), (2, 'b')");
    let address = format!("sqlite://{}", world.typed("app.db"));
    let missing = format!("sqlite://{}?on_error=partial", world.typed("missing.db"));
    judge.run(world, 0, &["snapshot", "--source", &address]);
    sql("INSERT INTO t VALUES (3, 'c'); UPDATE t SET x = 'd' WHERE id = 1");
    judge.run(world, 0, &["snapshot", "--source", &address]);
    let to = format!("sqlite://{}", world.typed("new.db"));
    judge.run(world, 0, &["restore", "latest:app.db", "--to", &to]);
    judge.run(
        world,
        0,
        &["restore", "latest:app.db", "--to", &address, "--swap"],
    );
    judge.run(world, 0, &["export", "latest:app.db", "exported.db"]);
    judge.run(world, 1, &["export", "latest:app.db", "exported.db"]);
    let sides = ["latest~1:app.db", "latest:app.db"];
    judge.run(world, 0, &["diff", "--rows", sides[0], sides[1]]);
    judge.run(
        world,
        0,
        &["diff", "--rows", "--table", "t", sides[0], sides[1]],
    );
    judge.run(world, 0, &["rehearse", "latest"]);
    let wrong = "app.db: SELECT count(*) = 99 FROM t";
    judge.run(world, 1, &["rehearse", "latest", "--expect", wrong]);
    judge.run(world, 0, &["manifest", "latest"]);
    judge.run(
        world,
        3,
        &["snapshot", "--source", &address, "--source", &missing],
    );
    judge.run(world, 0, &["snapshots", "--all"]);
}

fn keys(judge: &mut Judge, world: &World) {
    for key in ["key2", "key3"] {
        for dry_run in [true, false] {
            let add = ["key", "add", "--label", key, "--new-key-file", key];
            let n = if dry_run { &["-n"][..] } else { &[] };
            judge.run(world, 0, &[&add[..], n].concat());
        }
    }
    judge.run(world, 0, &["key", "export"]);
    judge.run(world, 0, &["key", "list"]);
    judge.run(world, 0, &["key", "remove", "key2", "-n"]);
    judge.run(world, 0, &["key", "remove", "key2"]);
    judge.run(world, 1, &["key", "remove", "key2"]);
    let change = ["key", "change", "--new-key-file", "key4"];
    judge.run(world, 0, &[&change[..], &["-n"]].concat());
}

/// What `--progress` prints beside the result.
#[track_caller]
fn progress(judge: &mut Judge, world: &World, args: &[&str]) -> (Vec<Value>, Value) {
    let ran = judge.run(world, 0, &[args, &["--progress"]].concat());
    let lines = ran.stderr.lines().map(serde_json::from_str);
    let told: Vec<Value> = lines.collect::<Result<_, _>>().unwrap();
    assert!(told.iter().all(|object| object["type"] == "progress"));
    for field in ["elapsed_ms", "entries", "bytes"] {
        let grows = told.is_sorted_by_key(|object| object[field].as_u64());
        assert!(grows, "{field}: {told:?}");
    }
    // At least when a phase begins, and at the end.
    assert!(told.len() >= 2, "{args:?}: {told:?}");
    (told, ran.object())
}

fn how_far_it_is(judge: &mut Judge, world: &World) {
    fs::create_dir(world.path("far")).unwrap();
    fs::write(world.path("far/one"), Random(6).bytes(500_000)).unwrap();
    let (told, taken) = progress(judge, world, &["snapshot", "far"]);
    assert!(
        told.iter().all(|o| o["bytes_expected"].is_null()),
        "{told:?}"
    );
    let end = told.last().unwrap();
    assert_eq!(
        (&end["bytes"], &end["entries"]),
        (&taken["bytes"], &taken["entries"])
    );
    assert_eq!(end["bytes"], 500_000);
    assert_ne!(end["bytes_per_second"], 0);
    let (told, _) = progress(judge, world, &["snapshot", "far"]);
    assert_eq!(told.last().unwrap()["bytes_expected"], 500_000);
    fs::write(world.path("far/two"), "more").unwrap();
    let (told, _) = progress(judge, world, &["snapshot", "far"]);
    let last = told.last().unwrap();
    assert_eq!(
        (&last["bytes"], &last["bytes_expected"]),
        (&500_004.into(), &Value::Null)
    );
    let (told, _) = progress(judge, world, &["restore", "latest:far", "far-back"]);
    let last = told.last().unwrap();
    assert_eq!(
        (&last["bytes"], &last["bytes_expected"]),
        (&500_004.into(), &500_004.into())
    );
    let (told, check) = progress(judge, world, &["check", "--read-data"]);
    let last = told.last().unwrap();
    assert_eq!(last["bytes"], check["bytes_read"]);
    progress(judge, world, &["archive", "latest", "-o", "far.tar"]);
    progress(judge, world, &["repair"]);
    progress(judge, world, &["gc"]);
    for args in [&["snapshot", "far"][..], &["check"], &["gc"]] {
        world.call(args).arg("--json").run().expect(0).quiet();
        world.call(args).run().expect(0);
    }
    let plain = world.ok(["snapshot", "far", "--progress"]);
    assert!(plain.stderr.starts_with("reading"), "{}", plain.stderr);
    judge.run(world, 2, &["gc", "--progress", "--quiet"]);
}

/// A gc that waits for a snapshot that is being taken.
fn while_another_runs(judge: &mut Judge, world: &World) {
    let mut other = world.call(["snapshot", "-"]).open_stdin().start();
    other.feed(b"x");
    while world.objects("sessions").is_empty() {
        assert!(!other.ends_within(std::time::Duration::from_millis(5)));
    }
    fs::write(world.path("big"), Random(5).bytes(3_000_000)).unwrap();
    let id = world.snapshot("big");
    world.ok(["forget", &id]);
    let report = judge.run(world, 0, &["gc", "--force"]).object();
    assert_ne!(report["waiting_for"], serde_json::json!([]));
    other.wait().expect(0);
    world.ok(["gc", "--force"]);
}

/// One byte of each pack, and of a snapshot, is flipped.
fn on_a_damaged_repository(judge: &mut Judge, world: &World) {
    let flip = |path: &Path| harm(path, Harm::FlipMiddle);
    let largest = |area: &str| {
        let size = |path: &std::path::PathBuf| fs::metadata(path).unwrap().len();
        world.objects(area).into_iter().max_by_key(size).unwrap()
    };
    flip(&largest("packs"));
    judge.run(
        world,
        12,
        &["restore", "latest", "damaged", "--path", "src"],
    );
    judge.run(world, 12, &["check", "--read-data"]);
    world.objects("packs").iter().for_each(|pack| flip(pack));
    judge.run(world, 12, &["check", "--budget", "1h"]);
    flip(&largest("snapshots"));
    judge.run(world, 0, &["snapshots"]);
    let copies = world.objects("copies");
    copies.iter().for_each(|copy| flip(copy));
    judge.run(world, 12, &["snapshots"]);
    judge.run(world, 12, &["repair", "-n"]);
    judge.run(world, 12, &["repair"]);
    judge.run(world, 0, &["repair", "--give-up-lost"]);
}

/// The commands that `hucha --help` lists.
fn commands(world: &World) -> BTreeSet<String> {
    let help = world.ok(["--help"]).text();
    let lines = help.lines().skip_while(|l| *l != "Commands:").skip(1);
    let list = lines.take_while(|l| !l.is_empty());
    let words = list.filter_map(|l| l.strip_prefix("  ")?.split(' ').next());
    words
        .filter(|w| !w.is_empty() && *w != "help")
        .map(str::to_owned)
        .collect()
}

#[test]
fn all_that_is_printed() {
    let mut judge = Judge::new();
    let world = World::empty();
    on_a_whole_repository(&mut judge, &world);
    keys(&mut judge, &world);
    databases(&mut judge, &world);
    how_far_it_is(&mut judge, &world);
    while_another_runs(&mut judge, &world);
    on_a_damaged_repository(&mut judge, &world);

    let forgotten: Vec<String> = commands(&world)
        .difference(&judge.commands)
        .cloned()
        .collect();
    assert!(forgotten.is_empty(), "never run with --json: {forgotten:?}");
    let root = rustix::process::geteuid().is_root();
    let mut unseen = judge.page.all();
    unseen.retain(|what| !judge.seen.contains(what));
    unseen.retain(|what| root || !NEEDS_ROOT.contains(&&**what));
    assert!(unseen.is_empty(), "in docs/json.md, never met: {unseen:?}");
}

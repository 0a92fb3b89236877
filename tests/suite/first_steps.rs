//! Every command from `init` to `gc`, as the README shows them; streams byte for byte; keys; what
//! others on the machine can see.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::support::data::{self, Random, small_tree};
use crate::support::{World, assert_same, is_root, size};

#[test]
fn limits_of_bandwidth_let_everything_through() {
    let world = World::new();
    data::small_tree(&world.path("src"), 77);
    let limits = ["--limit-upload", "1G", "--limit-download", "500M/s"];
    world.ok([&["snapshot", "src"], &limits[..]].concat());
    world.ok([&["restore", "latest:src", "back"], &limits[..]].concat());
    assert_same(&world.path("src"), &world.path("back"));
    for bad in ["0", "fast", "-1"] {
        world
            .run(["snapshots", &format!("--limit-upload={bad}")])
            .expect(2);
    }
}

#[test]
fn the_first_night_and_its_way_back() {
    let world = World::empty();
    small_tree(&world.path("docs"), 1);
    let call = |args: &[&str]| world.call(args).env("HUCHA_PASSWORD", "try-me");
    call(&["snapshot", "--init", "docs"]).run().expect(0);
    let shown = call(&["snapshots"]).run().expect(0).text();
    assert!(shown.contains(&world.typed("docs")), "{shown}");
    call(&["restore", "latest", "back"]).run().expect(0);
    assert_same(&world.path("docs"), &world.path("back/docs"));
}

#[test]
fn a_life_of_a_repository() {
    let world = World::new();
    small_tree(&world.path("src"), 2);
    let first = world.snapshot("src");
    fs::write(world.path("src/a/small"), "changed").unwrap();
    fs::write(world.path("src/more"), Random(3).bytes(400_000)).unwrap();
    let second = world.snapshot("src");
    let ids: Vec<_> = world.snapshots().iter().map(|s| s["id"].clone()).collect();
    assert_eq!(ids, [first.as_str(), second.as_str()]);
    assert_eq!(world.ok(["cat", "latest:src/a/small"]).stdout, b"changed");
    let stats = world.object(["stats"]);
    assert_eq!(stats["snapshots"], 2);
    assert!(
        stats["stored_bytes"].as_u64().unwrap() > 1_000_000,
        "{stats}"
    );

    world.ok(["forget", &second]);
    assert_eq!(world.snapshots().len(), 1);
    assert_eq!(
        world.ok(["snapshots", "--forgotten", "--json"]).object()["id"],
        second.as_str()
    );
    world.ok(["undelete", &second[..8]]);
    assert_eq!(world.snapshots().len(), 2);
    assert_eq!(world.ok(["cat", "latest:src/a/small"]).stdout, b"changed");

    world.ok(["forget", "--keep-last", "1"]);
    let before = data::bytes_below(&world.repository());
    world.ok(["forget", "latest"]);
    world.ok(["gc", "--max-unused", "0", "--force"]);
    assert!(world.snapshots().is_empty());
    let after = data::bytes_below(&world.repository());
    let reserve = fs::metadata(world.repository().join("reserve")).unwrap();
    assert!(
        after < 20_000 + reserve.len(),
        "{after} of {before} bytes stay in an empty repository"
    );
    world.assert_whole();
}

#[test]
fn gc_frees_what_is_forgotten_and_keeps_the_rest() {
    let world = World::new();
    small_tree(&world.path("src"), 4);
    let kept = world.snapshot("src");
    data::copy_folder(&world.path("src"), &world.path("copy"));
    fs::write(world.path("src/night"), Random(5).bytes(1_000_000)).unwrap();
    let gone = world.snapshot("src");
    let dry = world.object(["forget", "--dry-run", &gone]);
    assert_eq!(
        (dry["id"].as_str(), dry["keep"].as_bool()),
        (Some(gone.as_str()), Some(false))
    );
    assert_eq!(world.snapshots().len(), 2, "a dry run forgets nothing");
    world.ok(["forget", &gone]);
    let before = data::bytes_below(&world.repository());
    world.ok(["gc", "--dry-run", "--max-unused", "0"]);
    assert_eq!(
        before,
        data::bytes_below(&world.repository()),
        "a dry run deletes nothing"
    );
    let report = world.object(["gc", "--max-unused", "0"]);
    assert!(
        report["bytes_freed"].as_u64().unwrap() >= 1_000_000,
        "{report}"
    );
    assert!(data::bytes_below(&world.repository()) < before - 900_000);
    world.ok(["restore", &kept, "back"]);
    assert_same(&world.path("copy"), &world.path("back/src"));
    world.assert_whole();
}

#[test]
fn keep_last_counts_for_each_set_of_paths() {
    let world = World::new();
    for name in ["a", "b"] {
        fs::create_dir(world.path(name)).unwrap();
        for _ in 0..3 {
            world.snapshot(name);
        }
    }
    let plan = world
        .ok(["forget", "--dry-run", "--json", "--keep-last", "2"])
        .json();
    let kept: Vec<bool> = plan.iter().map(|v| v["keep"].as_bool().unwrap()).collect();
    assert_eq!(kept.iter().filter(|k| **k).count(), 4, "{plan:?}");
    assert!(
        plan.iter()
            .all(|v| v["keep"] == (v["reasons"] != serde_json::json!([])))
    );
    world.ok(["forget", "--keep-last", "2", "--path", "a"]);
    assert_eq!(world.snapshots().len(), 5);
}

#[test]
fn filters_choose_by_host_tag_and_path() {
    let world = World::new();
    fs::create_dir(world.path("a")).unwrap();
    world.ok([
        "snapshot",
        "a",
        "--host",
        "till",
        "--tag",
        "nightly,shop",
        "--label",
        "first",
    ]);
    world.ok([
        "snapshot",
        "a",
        "--host",
        "desk",
        "--time",
        "2020-02-03 04:05:06",
    ]);
    let ids = |args: &[&str]| {
        let all = world.ok([&["snapshots", "--json"], args].concat()).json();
        all.iter()
            .map(|s| s["host"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(&["--host", "till"]), ["till"]);
    assert_eq!(ids(&["--tag", "nightly,shop"]), ["till"]);
    assert_eq!(ids(&["--tag", "nightly,other"]), [""; 0]);
    assert_eq!(ids(&["--path", "a"]).len(), 2);
    assert_eq!(ids(&["--path", "b"]), [""; 0]);
    let desk = world.ok(["snapshots", "--json", "--host", "desk"]).object();
    assert!(
        desk["time"]
            .as_str()
            .unwrap()
            .starts_with("2020-02-03T04:05:06"),
        "{desk}"
    );
    for field in ["id", "time", "host", "tags", "paths", "bytes", "new_bytes"] {
        assert!(!desk[field].is_null(), "{field} is missing: {desk}");
    }
    let id = desk["id"].as_str().unwrap();
    assert!(
        id.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f')),
        "{id}"
    );
}

#[test]
fn excluded_paths_are_left_out_on_both_ways() {
    let world = World::new();
    small_tree(&world.path("src"), 6);
    world.ok(["snapshot", "src", "--exclude", "a/b", "--exclude", "*lines"]);
    let listed = world.listed("latest");
    assert!(listed.contains(&"src/a/small".to_owned()), "{listed:?}");
    assert!(
        !listed
            .iter()
            .any(|p| p.contains("a/b") || p.contains("lines")),
        "{listed:?}"
    );
    world.ok(["restore", "latest:src", "part", "--include", "small"]);
    let names = data::files(&world.path("part"));
    assert_eq!(names, [world.path("part/a/small")]);
    world.ok(["restore", "latest:src", "rest", "--exclude", "a"]);
    assert!(!world.path("rest/a").exists() && world.path("rest/c/other").exists());
    world.ok(["restore", "latest", "nowhere", "--dry-run"]);
    assert!(!world.path("nowhere").exists());
    let report = world.object(["restore", "latest:src", "rest", "--verify"]);
    assert_eq!(report["verified"], report["files"], "{report}");
}

#[test]
fn a_dry_run_stores_nothing() {
    let world = World::new();
    small_tree(&world.path("src"), 7);
    let before = data::files(&world.repository());
    let told = world.object(["snapshot", "src", "--dry-run"]);
    assert_eq!(
        (told["dry_run"].as_bool(), told["files"].as_u64()),
        (Some(true), Some(8))
    );
    assert_eq!(before, data::files(&world.repository()));
}

#[test]
fn standard_input_comes_back_byte_for_byte() {
    let world = World::new();
    let len = size(6_000_000, 200_000_000);
    let mut bytes = Random(8).lines(len / 2);
    bytes.extend(Random(9).bytes(len / 2));
    let started = std::time::Instant::now();
    world
        .call(["snapshot", "-", "--stdin-name", "shop.sql"])
        .stdin(bytes.clone())
        .run()
        .expect(0);
    let back = world.ok(["cat", "latest:shop.sql"]).stdout;
    assert!(
        bytes == back,
        "{} bytes went in, {} others came out",
        bytes.len(),
        back.len()
    );
    eprintln!(
        "{len} bytes through stdin and cat in {:.1?}",
        started.elapsed()
    );
    world
        .call(["snapshot", "-", "--stdin-name", "empty"])
        .stdin("")
        .run()
        .expect(0);
    assert_eq!(world.ok(["cat", "latest:empty"]).stdout, b"");
}

#[test]
fn the_output_of_a_command_is_stored() {
    let world = World::new();
    let args = [
        "snapshot",
        "--command-name",
        "dump/a.sql",
        "--",
        "sh",
        "-c",
        "echo x; echo y >&2",
    ];
    world.ok(args).says("y");
    assert_eq!(world.ok(["cat", "latest:dump/a.sql"]).stdout, b"x\n");
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let world = World::new();
    for folder in 0..20 {
        fs::create_dir_all(world.path(format!("src/{folder}"))).unwrap();
        for file in 0..300 {
            fs::write(world.path(format!("src/{folder}/{file:0100}")), "").unwrap();
        }
    }
    fs::write(world.path("src/large"), Random(10).bytes(3_000_000)).unwrap();
    world.snapshot("src");
    for line in [
        "set -o pipefail; $hucha ls --recursive latest | head -n 1",
        "set -o pipefail; $hucha ls --recursive --json latest | head -n 1",
        "set -o pipefail; $hucha cat latest:src/large | head -c 1",
    ] {
        world.bash(line).run().expect(0).quiet();
    }
}

#[test]
fn keys_are_added_changed_and_removed() {
    let world = World::empty();
    let with = |password: &str, args: &[&str]| {
        world
            .call(args)
            .env("HUCHA_PASSWORD", password)
            .env("HUCHA_NEW_PASSWORD", "second")
            .run()
    };
    with("first", &["init", "--label", "ana"]).expect(0);
    with("first", &["key", "remove", "ana"]).expect(1);
    with("first", &["key", "add", "--label", "eva"]).expect(0);
    with("second", &["key", "list"]).expect(0);
    with(
        "second",
        &[
            "key",
            "add",
            "--label",
            "night",
            "--new-key-file",
            "night.key",
        ],
    )
    .expect(0);
    let mode = fs::metadata(world.path("night.key"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o600);
    with("first", &["key", "add", "--new-key-file", "night.key"]).expect(1);
    let listed = with("first", &["key", "list", "--json"]).expect(0).json();
    let labels: Vec<_> = listed
        .iter()
        .map(|k| k["label"].as_str().unwrap())
        .collect();
    assert_eq!(labels.len(), 3, "{labels:?}");
    for label in ["ana", "eva", "night"] {
        assert!(labels.contains(&label), "{labels:?}");
    }
    with("first", &["key", "remove", "eva"]).expect(0);
    with("second", &["snapshots"]).expect(11);
    with("first", &["key", "change"]).expect(0);
    with("first", &["snapshots"]).expect(11);
    with("second", &["snapshots"]).expect(0);
    with("second", &["key", "remove", "nobody"]).expect(1);
    let key = ["--key-file", "night.key"];
    world.ok([&key[..], &["key", "remove", "ana"]].concat());
    world
        .run([&key[..], &["key", "remove", "night"]].concat())
        .expect(1);
    world.ok([&key[..], &["snapshots"]].concat());
}

#[test]
fn passwords_come_from_files_commands_and_variables() {
    let world = World::empty();
    fs::write(world.path("p"), "geheim\n").unwrap();
    world
        .call(["init"])
        .env("HUCHA_PASSWORD", "geheim")
        .run()
        .expect(0);
    world.ok(["snapshots", "--password-file", "p"]);
    world.ok(["--password-command", "cat p", "snapshots"]);
    world
        .call(["snapshots"])
        .env("HUCHA_PASSWORD_FILE", world.path("p"))
        .run()
        .expect(0);
    world
        .call(["snapshots"])
        .env("HUCHA_PASSWORD_COMMAND", "cat p")
        .run()
        .expect(0);
    world.run(["snapshots", "--password", "geheim"]).expect(2);
}

#[test]
fn without_encryption_no_password_is_asked_for() {
    let world = World::empty();
    world.ok(["init", "--encryption", "none"]);
    fs::write(world.path("f"), "x").unwrap();
    world.snapshot("f");
    assert_eq!(world.ok(["cat", "latest:f"]).stdout, b"x");
    world.run(["key", "list"]).expect(1);
    world.assert_whole();
}

const SECRET: &str = "Pfirsich-4711-Kuchen";

/// Everything that other processes can read of the running ones.
fn command_lines() -> Vec<Vec<u8>> {
    let pids = fs::read_dir("/proc").unwrap().flatten();
    pids.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
        .collect()
}

#[test]
fn the_password_is_on_no_command_line() {
    let world = World::empty();
    fs::write(world.path("p"), SECRET).unwrap();
    let holds = |bytes: &Vec<u8>| bytes.windows(SECRET.len()).any(|w| w == SECRET.as_bytes());
    world.ok(["init", "--password-file", "p"]);
    let mkfifo = world.command("mkfifo").arg("gate").status().unwrap();
    assert!(mkfifo.success());
    let command = [
        "--command-name",
        "x",
        "--",
        "sh",
        "-c",
        "echo ready >gate; cat gate",
    ];
    let call = world.call([&["--password-command", "cat p", "snapshot"], &command[..]].concat());
    let running = call.env("HUCHA_NEW_PASSWORD", SECRET).start();
    // Opening a fifo waits for the other side.
    assert_eq!(fs::read(world.path("gate")).unwrap(), b"ready\n");
    let all = command_lines();
    assert!(all.len() > 2 && !all.iter().any(holds));
    fs::write(world.path("gate"), "go").unwrap();
    running.wait().expect(0);
    let written = data::files(&world.repository())
        .into_iter()
        .chain(data::files(&world.path("cache")));
    assert!(!written.into_iter().any(|f| holds(&fs::read(f).unwrap())));
}

/// Files and folders that others may read.
fn open_to_others(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for path in data::walk(root) {
        let meta = fs::symlink_metadata(&path).unwrap();
        let mode = meta.permissions().mode() & 0o7777;
        if mode != if meta.is_dir() { 0o700 } else { 0o600 } {
            found.push(format!("{mode:o} {}", path.display()));
        }
    }
    found
}

#[test]
fn all_that_is_written_is_private_whatever_the_umask() {
    let world = World::empty();
    small_tree(&world.path("src"), 11);
    let line = "umask 000 && $hucha init --new-key-file key && export HUCHA_KEY_FILE=key &&
        $hucha snapshot src && $hucha snapshot src && $hucha key add --new-key-file other &&
        cat src/a/b/large | $hucha snapshot - && $hucha forget latest && $hucha gc";
    world.bash(line).run().expect(0);
    for root in ["repo", "cache/hucha", "tmp", "key", "other"] {
        let mut found = open_to_others(&world.path(root));
        // The test made this folder itself.
        found.retain(|line| !line.ends_with("/tmp"));
        assert!(found.is_empty(), "{found:#?}");
    }
    // While a snapshot runs: spool files and sessions.
    let call = world
        .bash("umask 000 && exec $hucha snapshot - --stdin-name big")
        .open_stdin();
    let mut running = call.start();
    running.feed(&Random(12).bytes(40 << 20));
    let found = open_to_others(&world.repository());
    assert!(found.is_empty(), "{found:#?}");
    assert!(open_to_others(&world.path("cache/hucha")).is_empty());
    running.wait().expect(0);
}

#[test]
fn an_ordinary_user_restores_without_owners_and_is_told_once() {
    if !is_root("restore by an ordinary user") {
        return;
    }
    let world = World::new();
    small_tree(&world.path("src"), 13);
    world.snapshot("src");
    let world = world.into_nobodys();
    let told = world.ok(["restore", "latest", "back"]);
    assert_eq!(told.stderr.matches("owner").count(), 1, "{}", told.stderr);
    let bytes = |path: &str| fs::read(world.path(path)).unwrap();
    assert_eq!(bytes("src/a/b/large"), bytes("back/src/a/b/large"));
}

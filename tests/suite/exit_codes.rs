//! Each exit code of docs/exit-codes.md by the run that ends with it, and that a run that failed
//! left no snapshot.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rustix::process::Signal;

use crate::support::data::{self, small_tree};
use crate::support::{World, is_root};

#[test]
fn usage_is_2() {
    let world = World::new();
    for args in [
        &["snapshot"][..],
        &["snapshots", "--no-such-option"],
        &["no-such-command"],
        &["snapshot", "--command-name", "x"],
        &["snapshot", "-", "key"],
        &["gc", "--fence", "maybe"],
        &["gc", "--max-unused", "much"],
        &["forget"],
        &["forget", "--keep-last", "0"],
        &["cat", "latest"],
        &["restore", "latest"],
        &["-r", "s3:bucket", "snapshots"],
        &["-q", "-v", "snapshots"],
    ] {
        world.run(args).expect(2);
    }
    world
        .call(["snapshots"])
        .without("HUCHA_REPOSITORY")
        .run()
        .expect(2);
    world.ok(["--help"]);
    world.ok(["--version"]);
    world.ok(["snapshot", "--help"]);
}

#[test]
fn no_repository_is_10() {
    let world = World::empty();
    fs::create_dir(world.path("empty")).unwrap();
    for repository in ["repo", "empty", "no/such/folder"] {
        let told = world.run(["-r", repository, "snapshots"]).expect(10);
        assert!(told.stderr.contains("hint:"), "{}", told.stderr);
        world.run(["-r", repository, "check"]).expect(10);
        world
            .run(["-r", repository, "restore", "latest", "x"])
            .expect(10);
    }
    assert!(!world.path("repo").exists() && !world.path("x").exists());
}

#[test]
fn no_password_and_a_wrong_one_are_11() {
    let world = World::empty();
    world.run(["init"]).expect(11);
    assert!(!world.repository().join("config").exists());
    world
        .call(["init"])
        .env("HUCHA_PASSWORD", "right")
        .run()
        .expect(0);
    for args in [
        &["snapshots"][..],
        &["check"],
        &["gc"],
        &["restore", "latest", "x"],
    ] {
        world.run(args).expect(11);
        world
            .call(args)
            .env("HUCHA_PASSWORD", "wrong")
            .run()
            .expect(11);
        world.call(args).env("HUCHA_PASSWORD", "").run().expect(11);
        world
            .call(args)
            .env("HUCHA_KEY_FILE", "no-such-file")
            .run()
            .expect(11);
        world
            .call(args)
            .env("HUCHA_PASSWORD_COMMAND", "exit 1")
            .run()
            .expect(11);
    }
    world.ok(["-r", "other", "init", "--new-key-file", "stranger"]);
    world
        .run(["snapshots", "--key-file", "stranger"])
        .expect(11);
}

#[test]
fn init_of_a_repository_is_1() {
    let world = World::new();
    let config = fs::read(world.repository().join("config")).unwrap();
    world.run(["init"]).expect(1);
    world.run(["init", "--encryption", "none"]).expect(1);
    world.run(["init", "--new-key-file", "another"]).expect(1);
    assert!(!world.path("another").exists());
    assert_eq!(config, fs::read(world.repository().join("config")).unwrap());
    fs::create_dir(world.path("full")).unwrap();
    fs::write(world.path("full/letter"), "x").unwrap();
    world
        .run(["-r", "full", "init", "--encryption", "none"])
        .expect(1);
}

#[test]
fn two_snapshots_with_init_at_once_both_succeed() {
    for round in 0..5 {
        let world = World::empty();
        fs::write(world.path("f"), "x").unwrap();
        let call = || {
            world
                .call(["snapshot", "--init", "f"])
                .env("HUCHA_PASSWORD", "p")
                .start()
        };
        let (one, two) = (call(), call());
        one.wait().expect(0);
        two.wait().expect(0);
        let listed = world
            .call(["snapshots", "--json"])
            .env("HUCHA_PASSWORD", "p")
            .run()
            .expect(0);
        assert_eq!(listed.json().len(), 2, "round {round}");
        world
            .call(["check", "--read-data"])
            .env("HUCHA_PASSWORD", "p")
            .run()
            .expect(0);
    }
}

#[test]
fn two_inits_at_once_make_one_repository() {
    for round in 0..5 {
        let world = World::empty();
        let call = |file| world.call(["init", "--new-key-file", file]).start();
        let (one, two) = (call("one"), call("two"));
        let mut codes = [one.wait().code(), two.wait().code()];
        codes.sort();
        assert_eq!(codes, [0, 1], "round {round}");
        let keys = ["one", "two"]
            .map(|k| world.path(k))
            .into_iter()
            .filter(|k| k.exists());
        let keys: Vec<_> = keys.collect();
        assert_eq!(keys.len(), 1, "the key file of the other opens nothing");
        world
            .call(["snapshots"])
            .env("HUCHA_KEY_FILE", &keys[0])
            .run()
            .expect(0);
    }
}

#[test]
fn nothing_matched_is_0_and_nothing_named_is_1() {
    let world = World::new();
    world.ok(["snapshots"]);
    world.run(["restore", "latest", "back"]).expect(1);
    fs::write(world.path("f"), "x").unwrap();
    world.snapshot("f");
    let listed = world.ok(["snapshots", "--host", "nowhere", "--json"]);
    assert_eq!(listed.text(), "");
    world.ok(["snapshots", "--tag", "none", "--path", "/none"]);
    world.ok(["forget", "--keep-last", "1", "--host", "nowhere"]);
    for args in [
        &["restore", "abcdef", "back"][..],
        &["restore", "latest~5", "back"],
        &["restore", "1999-01-01", "back"],
        &["restore", "latest:no/such", "back"],
        &["restore", "latest", "back", "--host", "nowhere"],
        &["ls", "abcdef"],
        &["ls", "latest:no"],
        &["cat", "latest:no"],
        &["forget", "abcdef"],
        &["undelete", "abcdef"],
        &["key", "remove", "no-such-label"],
    ] {
        world.run(args).expect(1);
    }
    assert!(!world.path("back").exists());
    assert_eq!(world.snapshots().len(), 1);
}

#[test]
fn a_child_that_fails_leaves_no_snapshot() {
    let world = World::new();
    for script in [
        "echo x; exit 3",
        "echo x; kill -9 $$",
        "kill -TERM $$",
        "exec no-such-program",
    ] {
        world
            .run(["snapshot", "--command-name", "x", "--", "sh", "-c", script])
            .expect(1);
    }
    world
        .run(["snapshot", "--command-name", "x", "--", "/no/such/program"])
        .expect(1);
    let large = "head -c 3000000 /dev/urandom; exit 1";
    world
        .run(["snapshot", "--command-name", "x", "--", "sh", "-c", large])
        .expect(1);
    assert!(world.snapshots().is_empty());
    assert!(world.objects("sessions").is_empty(), "a session is left");
    // The pipe of a shell hides the child's end: that is why --command-name exists.
    world.ok(["gc"]);
    world.assert_whole();
}

/// A snapshot of a command that waits; returns when the command runs.
fn waiting(world: &World) -> crate::support::process::Running {
    assert!(
        world
            .command("mkfifo")
            .arg("gate")
            .status()
            .unwrap()
            .success()
    );
    let script = "echo $$ >gate; exec sleep 1000";
    let args = ["snapshot", "--command-name", "x", "--", "sh", "-c", script];
    let running = world.call(args).start();
    let pid = fs::read_to_string(world.path("gate")).unwrap();
    fs::write(world.path("pid"), pid.trim()).unwrap();
    running
}

#[test]
fn a_child_that_is_killed_with_us_leaves_no_snapshot() {
    for (signal, code) in [(Signal::TERM, 130), (Signal::INT, 130)] {
        let world = World::new();
        let running = waiting(&world);
        running.signal(signal);
        running.wait().expect(code);
        let pid = fs::read_to_string(world.path("pid")).unwrap();
        let stat = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        assert!(!stat.contains("sleep"), "the command runs on");
        assert!(world.snapshots().is_empty());
        assert!(world.objects("sessions").is_empty(), "a session is left");
    }
}

#[test]
fn killed_while_a_child_runs_there_is_no_snapshot() {
    let world = World::new();
    let running = waiting(&world);
    let pid = fs::read_to_string(world.path("pid")).unwrap();
    running.signal(Signal::KILL);
    // The command holds our pipe for errors; it has to go before the test can read its end.
    assert!(world.command("kill").arg("-9").arg(pid).status().is_ok());
    assert_eq!(running.wait().code(), -9);
    assert!(world.snapshots().is_empty());
    world.ok(["gc"]);
    assert!(
        world.objects("sessions").is_empty(),
        "one gc on a quiet repository tidies"
    );
    world.assert_whole();
}

#[test]
fn an_unreadable_file_is_3_and_published() {
    if !is_root("reading as an ordinary user") {
        return;
    }
    let world = World::new();
    small_tree(&world.path("src"), 1);
    let locked = world.path("src/c/other");
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).unwrap();
    fs::set_permissions(world.path("src/empty"), fs::Permissions::from_mode(0o000)).unwrap();
    let world = world.into_nobodys();
    let ran = world.run(["snapshot", "src", "--json"]).expect(3);
    let taken = ran.object();
    assert_eq!(taken["incomplete"], true, "{taken}");
    assert!(
        ran.stderr.contains("src/c/other") || taken["problems"].to_string().contains("c/other")
    );
    let listed = world.snapshots();
    assert_eq!(
        (listed.len(), listed[0]["incomplete"].as_bool()),
        (1, Some(true))
    );
    assert_eq!(world.ok(["cat", "latest:src/one"]).stdout.len(), 1);
    let again = world.run(["snapshot", "src"]).expect(3);
    assert!(again.stderr.contains("src/c/other"), "{}", again.stderr);
    world.assert_whole();
}

#[test]
fn one_missing_path_is_3_and_all_missing_1() {
    let world = World::new();
    fs::write(world.path("f"), "x").unwrap();
    world
        .run(["snapshot", "f", "missing"])
        .expect(3)
        .says("missing");
    assert_eq!(world.snapshots().len(), 1);
    assert_eq!(world.snapshots()[0]["incomplete"], true);
    assert_eq!(world.ok(["cat", "latest:f"]).stdout, b"x");
    world.run(["snapshot", "missing"]).expect(1);
    world.run(["snapshot", "missing", "gone/too"]).expect(1);
    assert_eq!(world.snapshots().len(), 1);
    assert!(world.objects("sessions").is_empty(), "a session is left");
}

#[test]
fn an_interrupted_snapshot_is_130_and_leaves_nothing_open() {
    let world = World::new();
    let mut running = world.call(["snapshot", "-"]).open_stdin().start();
    running.feed(&[1; 100_000]);
    running.signal(Signal::INT);
    // Its input ends now.
    running.wait().expect(130);
    assert!(world.snapshots().is_empty());
    assert!(world.objects("sessions").is_empty(), "a session is left");
}

#[test]
fn a_repository_that_refuses_is_13() {
    if !is_root("working as an ordinary user") {
        return;
    }
    let world = World::new();
    fs::write(world.path("f"), "x").unwrap();
    let world = world.into_nobodys();
    world.snapshot("f");
    fs::set_permissions(
        world.repository().join("packs"),
        fs::Permissions::from_mode(0o000),
    )
    .unwrap();
    world.run(["check"]).expect(13);
    world.run(["snapshot", "f"]).expect(13);
}

#[test]
fn errors_are_json_when_asked_for() {
    let world = World::empty();
    let told = world.run(["snapshots", "--json"]).expect(10);
    let error: serde_json::Value = serde_json::from_str(told.stderr.trim()).unwrap();
    assert_eq!(error["code"], 10);
    assert!(error["error"].is_string() && told.stdout.is_empty());
}

/// One clear sentence, and one that says what to do.
#[track_caller]
fn says_one_sentence(ran: &crate::support::Ran, error: &[&str], hint: &[&str]) {
    let lines: Vec<&str> = ran.stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{}", ran.stderr);
    let (said, advised) = (
        lines[0].strip_prefix("error: "),
        lines[1].strip_prefix("hint: "),
    );
    let (said, advised) = (said.unwrap(), advised.unwrap());
    for (line, parts) in [(said, error), (advised, hint)] {
        for part in parts {
            assert!(line.contains(part), "{part:?} is not in {line:?}");
        }
    }
}

#[test]
fn what_cannot_be_opened_is_told_in_one_sentence() {
    let world = World::new();
    fs::create_dir(world.path("photos")).unwrap();
    fs::write(world.path("photos/one.jpg"), "x").unwrap();
    fs::create_dir(world.path("empty")).unwrap();
    fs::write(world.path("letter"), "x").unwrap();
    world.ok(["-r", "other", "init", "--new-key-file", "stranger"]);
    data::copy_folder(&world.repository(), &world.path("newer"));
    let config = world.path("newer/config");
    let mut bytes = fs::read(&config).unwrap();
    bytes[8] = 2;
    fs::write(&config, bytes).unwrap();
    for (repository, code, error, hint) in [
        (
            "gone",
            10,
            "no hucha repository at gone: there is nothing",
            "hucha init",
        ),
        ("empty", 10, "empty: the folder is empty", "hucha init"),
        (
            "photos",
            10,
            "photos: it holds other things",
            "is the path right",
        ),
        ("letter", 10, "letter: it is a file", "is the path right"),
        (
            "letter/repo",
            10,
            "letter/repo: a part of the path is a file",
            "is the path right",
        ),
        (
            "newer",
            1,
            "format 2; this program reads format 1",
            "newer version of hucha",
        ),
        (
            "other",
            11,
            "wrong key file",
            "key: is it the one of this repository",
        ),
    ] {
        for args in [
            &["snapshots"][..],
            &["check"],
            &["gc"],
            &["snapshot", "letter"],
        ] {
            let ran = world.call(["-r", repository]).args(args).run().expect(code);
            says_one_sentence(&ran, &[error], &[hint]);
        }
    }
    let password = world
        .call(["-r", "other", "snapshots"])
        .without("HUCHA_KEY_FILE");
    let ran = password.env("HUCHA_PASSWORD", "guess").run().expect(11);
    says_one_sentence(&ran, &["wrong password"], &["HUCHA_PASSWORD"]);
    let ran = world.run(["-r", "letter", "init"]).expect(1);
    says_one_sentence(&ran, &["letter is a file"], &["new or empty"]);
    let ran = world.run(["-r", "photos", "init"]).expect(1);
    says_one_sentence(&ran, &["photos is not empty", "one.jpg"], &["new or empty"]);
}

#[test]
fn what_is_refused_is_told_in_one_sentence() {
    if !is_root("working as an ordinary user") {
        return;
    }
    let world = World::new();
    fs::write(world.path("f"), "x").unwrap();
    let id = world.snapshot("f");
    for copy in ["closed", "shut"] {
        data::copy_folder(&world.repository(), &world.path(copy));
    }
    let world = world.into_nobodys();
    for folder in data::walk(&world.repository())
        .iter()
        .filter(|path| path.is_dir())
    {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o500)).unwrap();
    }
    for args in [
        &["snapshot", "f"][..],
        &["forget", &id],
        &["gc"],
        &["tag", "--add", "x", &id],
    ] {
        let ran = world.run(args).expect(13);
        says_one_sentence(
            &ran,
            &["permission denied"],
            &["may not write", "owner and mode"],
        );
    }
    // Reading goes on.
    world.ok(["check", "--read-data", "--dry-run"]);
    world.ok(["restore", "latest", "back"]);
    let set = |name: &str, mode| {
        fs::set_permissions(world.path(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    set("closed/config", 0o000);
    set("shut", 0o000);
    for repository in ["closed", "shut"] {
        for command in ["snapshots", "check", "gc"] {
            let ran = world.run(["-r", repository, command]).expect(13);
            says_one_sentence(
                &ran,
                &["permission denied"],
                &["may not read", "owner and mode"],
            );
        }
    }
    let ran = world
        .run(["-r", "shut/new", "init", "--encryption", "none"])
        .expect(13);
    says_one_sentence(&ran, &["permission denied"], &["owner and mode"]);
}

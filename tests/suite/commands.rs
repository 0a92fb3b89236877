//! Commands that look into several snapshots, change what they hold, or help around them.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::support::data::Random;
use crate::support::{World, has_tool};

/// Two nights of a small shop, and what `diff` must say of them.
fn two_nights() -> World {
    let world = World::new();
    let src = world.path("src");
    fs::create_dir_all(src.join("shop/old")).unwrap();
    for (path, bytes) in [
        ("shop/app.db", "one"),
        ("shop/App.log", "kept"),
        ("shop/old/a.txt", "a"),
        ("shop/mode.txt", "mode"),
        ("readme", "kind"),
    ] {
        fs::write(src.join(path), bytes).unwrap();
    }
    world.snapshot("src");
    fs::write(src.join("shop/app.db"), "longer").unwrap();
    fs::remove_dir_all(src.join("shop/old")).unwrap();
    fs::create_dir(src.join("shop/new")).unwrap();
    fs::write(src.join("shop/new/b.txt"), "bb").unwrap();
    fs::remove_file(src.join("readme")).unwrap();
    std::os::unix::fs::symlink("shop", src.join("readme")).unwrap();
    let mode = fs::Permissions::from_mode(0o600);
    fs::set_permissions(src.join("shop/mode.txt"), mode).unwrap();
    world.snapshot("src");
    world
}

#[test]
fn diff_tells_what_changed() {
    let world = two_nights();
    let told = world.ok(["diff", "latest~1", "latest"]).text();
    let expected = "\
T    src/readme
M    src/shop/app.db
+    src/shop/new/
+    src/shop/new/b.txt
-    src/shop/old/
-    src/shop/old/a.txt
added:   1 file, 1 folder, 0 others; 2 B
removed: 1 file, 1 folder, 0 others; 1 B
changed: 2 entries; 7 B before, 6 B after
";
    assert_eq!(told, expected);
    let more = world.ok(["diff", "--metadata", "latest~1", "latest"]);
    let more = more.text();
    assert!(more.contains("U    src/shop/mode.txt\n"), "{more}");
    let part = world.ok(["diff", "-q", "latest~1:src/shop/old", "latest:src/shop/new"]);
    assert_eq!(
        part.text(),
        "-    src/shop/old/a.txt\n+    src/shop/new/b.txt\n"
    );
    world.ok(["diff", "-q", "latest", "latest"]).quiet();
    world
        .run(["diff", "latest~1:src/none", "latest"])
        .expect(1)
        .says("src/none");
    world.run(["diff", "latest"]).expect(2);
}

#[test]
fn find_tells_every_version_and_where_it_is() {
    let world = two_nights();
    let lines = |args: &[&str]| -> Vec<String> {
        let told = world.ok([&["find"], args].concat()).quiet();
        told.text().lines().map(str::to_owned).collect()
    };
    let all = lines(&["app.*"]);
    assert_eq!(all.len(), 2, "{all:?}");
    assert!(all.iter().all(|l| l.ends_with(": src/shop/app.db")));
    assert!(all[0].starts_with("1 snapshot, "), "{all:?}");
    let log = lines(&["*.log"]);
    assert!(log[0].starts_with("2 snapshots, "), "{log:?}");
    assert!(log[0].contains(" to ") && log[0].ends_with(": src/shop/App.log"));
    assert_eq!(lines(&["app.*", "--ignore-case"]).len(), 3);
    assert_eq!(
        lines(&["shop/old"]).len(),
        1,
        "the folder, not what is in it"
    );
    assert_eq!(lines(&["/shop/app.db"]).len(), 0);
    assert_eq!(lines(&["/src/**/*.txt"]).len(), 4);
    assert_eq!(lines(&["readme", "--type", "link"]).len(), 1);
    assert_eq!(lines(&["readme", "--snapshot", "latest"]).len(), 1);
    assert_eq!(lines(&["app.db", "--newest", "2001-01-01"]).len(), 0);
    assert_eq!(lines(&["app.db", "--oldest", "2001-01-01"]).len(), 2);
    assert_eq!(lines(&["app.db", "--host", "nowhere"]).len(), 0);
    let long = lines(&["--long", "app.db", "--snapshot", "latest"]);
    assert!(long[0].contains("-rw-"), "{long:?}");
    world.run(["find", "x", "--newest", "soon"]).expect(2);
}

#[test]
fn an_exported_key_opens_the_repository_also_when_typed() {
    let world = two_nights();
    let printed = world.ok(["key", "export", "--label", "paper"]);
    let text = printed.text();
    fs::write(world.path("saved"), &text).unwrap();
    let open = |file: &str| {
        let call = world.call(["snapshots", "--key-file", file]);
        call.without("HUCHA_KEY_FILE").run()
    };
    open("saved").expect(0);
    // Typed from paper: without comments, in small letters, other spaces.
    let kept = text.lines().filter(|l| !l.starts_with('#'));
    let typed: Vec<String> = kept.map(|l| l.to_lowercase().replace(' ', "")).collect();
    fs::write(world.path("typed"), typed.join("\r\n")).unwrap();
    open("typed").expect(0);
    let (last, slip) = (
        typed.last().unwrap(),
        |c: char| if c == 'a' { 'b' } else { 'a' },
    );
    let slipped: String = last.chars().map(slip).collect();
    let wrong = typed.join("\n").replace(last, &slipped);
    fs::write(world.path("wrong"), wrong).unwrap();
    open("wrong").expect(11).says("line 4 of the key");
    let listed = world.ok(["key", "list"]).text();
    assert!(listed.contains("paper"), "{listed}");
    world.ok(["key", "remove", "paper"]);
    open("saved").expect(11);
    // A key that cannot be handed over does not stay.
    world.bash("$hucha key export > /dev/full").run().expect(1);
    assert_eq!(world.ok(["key", "list", "--json"]).json().len(), 1);
    world.ok(["key", "export", "-n"]);
    assert_eq!(world.ok(["key", "list", "--json"]).json().len(), 1);
}

#[test]
fn caches_are_listed_and_cleared_but_not_under_a_process() {
    let world = two_nights();
    let list = || world.ok(["cache", "list", "--json"]).json();
    let repository = world.typed("repo");
    assert_eq!(list()[0]["location"], repository.as_str());
    assert_eq!(list()[0]["in_use"], false);
    world.ok(["cache", "clear"]);
    assert_eq!(list().len(), 1, "used just now");
    let mut running = world.call(["snapshot", "-"]).open_stdin().start();
    running.feed(b"x");
    while world.objects("sessions").is_empty() {
        assert!(!running.ends_within(std::time::Duration::from_millis(5)));
    }
    assert_eq!(list()[0]["in_use"], true);
    world.ok(["cache", "clear", "--all"]);
    assert_eq!(list().len(), 1, "in use");
    running.wait().expect(0);
    let place = fs::read_dir(world.path("cache/hucha")).unwrap();
    let folders = place.filter(|e| e.as_ref().unwrap().path().is_dir());
    for folder in folders {
        let place = fs::File::open(folder.unwrap().path().join("place")).unwrap();
        let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(31 * 86_400);
        place.set_modified(long_ago).unwrap();
    }
    let told = world.ok(["cache", "clear", "-n"]).text();
    assert!(told.starts_with("would remove 1 cache"), "{told}");
    assert_eq!(list().len(), 1);
    world.ok(["cache", "clear"]);
    assert!(list().is_empty());
    world.ok(["snapshots"]).quiet();
    world.assert_whole();
    world.run(["cache", "list", "--no-cache"]).expect(2);
}

#[test]
fn a_rewritten_history_has_lost_what_was_excluded() {
    let world = two_nights();
    world.ok([
        "snapshot",
        "src/readme",
        "--tag",
        "other",
        "--label",
        "kept",
    ]);
    let before = world.snapshots();
    let told = world.ok(["rewrite", "--exclude", "app.db", "-n"]).text();
    assert_eq!(told.matches("would be taken again").count(), 2, "{told}");
    assert_eq!(told.matches("stays as it is").count(), 1, "{told}");
    assert_eq!(world.snapshots(), before);
    // Beside the old ones.
    world.ok(["rewrite", "--exclude", "/src/shop/new", "latest~1"]);
    let both = world.snapshots();
    assert_eq!(both.len(), 4);
    assert_eq!(both[1]["time"], both[2]["time"], "time and all else stay");
    // In their place.
    fs::write(world.path("patterns"), "# comment\nshop/mode.txt\n").unwrap();
    let patterns = ["--iexclude", "APP.*", "--exclude-file", "patterns"];
    world.ok([&["rewrite", "--forget"], &patterns[..]].concat());
    assert_eq!(world.snapshots().len(), 4);
    world.ok(["gc", "--max-unused", "0", "--force"]);
    world.assert_whole();
    for gone in ["app.*", "App.*", "mode.txt"] {
        assert_eq!(world.ok(["find", gone]).text(), "", "{gone}");
    }
    let left = world.listed("latest~3");
    assert!(left.contains(&"src/shop/old/a.txt".to_owned()), "{left:?}");
    world.ok(["restore", "latest~1", "back"]);
    world.ok(["protect", "latest"]);
    let refused = world.run(["rewrite", "--forget", "--exclude", "readme", "latest"]);
    refused
        .expect(1)
        .says("is protected: nothing was rewritten");
    let renamed = world.object(["rewrite", "--new-host", "till", "latest"]);
    assert_eq!(renamed["removed_entries"], 0);
    let till = world.ok(["snapshots", "--host", "till", "--json"]).object();
    assert_eq!(
        (&till["id"], &till["label"]),
        (&renamed["new_id"], &"kept".into())
    );
    world.run(["rewrite", "latest"]).expect(2);
    world.run(["rewrite", "--exclude", "[", "latest"]).expect(2);
}

#[test]
fn completions_and_manual_follow_the_definition() {
    let world = World::empty();
    for shell in ["bash", "zsh", "fish"] {
        let script = world.ok(["completions", shell]).quiet().text();
        assert!(
            script.contains("key-file") && script.contains("rewrite"),
            "{shell}"
        );
    }
    world.run(["completions", "dos"]).expect(2);
    if has_tool("bash", "that bash reads its completions") {
        let asked = "source <($hucha completions bash); COMP_WORDS=(hucha snapsh); COMP_CWORD=1; \
                     _hucha hucha snapsh hucha; echo ${COMPREPLY[@]}";
        let told = world.bash(asked).run().expect(0).text();
        assert_eq!(told.trim(), "snapshot snapshots");
    }
    let page = world.ok(["man"]).quiet().text();
    assert!(page.contains(".TH hucha 1"), "{page}");
    let page = world.ok(["man", "key", "add"]).text();
    assert!(page.contains("new\\-key\\-file"), "{page}");
    world.ok(["man", "--output", "pages"]).quiet();
    for page in ["hucha.1", "hucha-snapshot.1", "hucha-key-export.1"] {
        assert!(world.path("pages").join(page).exists(), "{page}");
    }
    let help = world.ok(["help", "restore"]).text();
    assert!(help.contains("Examples:"), "{help}");
    world
        .bash("set -o pipefail; $hucha man | head -n 1")
        .run()
        .expect(0);
    world
        .bash("set -o pipefail; $hucha completions bash | head -n 1")
        .run()
        .expect(0);
}

#[test]
fn stats_of_single_snapshots() {
    let world = World::new();
    fs::create_dir(world.path("src")).unwrap();
    fs::write(world.path("src/both"), Random(1).bytes(300_000)).unwrap();
    fs::write(world.path("src/twin"), Random(1).bytes(300_000)).unwrap();
    world.snapshot("src");
    fs::write(world.path("src/new"), Random(2).bytes(100_000)).unwrap();
    world.snapshot("src");
    let both = world.ok(["stats", "latest~1", "latest", "--json"]).json();
    let number = |n: usize, field: &str| both[n][field].as_u64().unwrap();
    assert_eq!(
        (number(0, "restore_bytes"), number(1, "restore_bytes")),
        (600_000, 700_000)
    );
    let page = 5_000;
    for (n, plain, unique) in [(0, 300_000, 0), (1, 400_000, 100_000)] {
        let about = |field: &str, bytes: u64| {
            let counted = number(n, field);
            assert!(
                (bytes..bytes + page).contains(&counted),
                "{n} {field} {counted}"
            );
        };
        about("plain_bytes", plain);
        about("unique_bytes", unique);
    }
    let all = world.object(["stats"]);
    let (dedup, restored) = (
        all["deduplication"].as_f64().unwrap(),
        &all["restore_bytes"],
    );
    assert!(
        (3.1..=3.25).contains(&dedup) && *restored == 1_300_000,
        "{all}"
    );
    assert_eq!(world.ok(["stats", "--host", "nowhere"]).text(), "");
    let told = world.ok(["stats", "latest"]).text();
    assert!(
        told.contains("683.6 KiB") && told.contains("Only here"),
        "{told}"
    );
}

#[test]
fn sizes_in_lists_are_bytes_or_for_people() {
    let world = World::new();
    fs::create_dir(world.path("src")).unwrap();
    fs::write(world.path("src/a"), Random(3).bytes(1536)).unwrap();
    world.snapshot("src");
    for (option, size) in [("--long", " 1536 "), ("--human", " 1.5 KiB ")] {
        let listed = world.ok(["ls", option, "latest:src"]).text();
        assert!(listed.contains(size), "{listed}");
    }
}

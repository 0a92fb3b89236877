//! What `snapshot` reads and leaves out, by every option that says so.

use std::fs;

use crate::support::{World, can_mount};

const SIGNATURE: &str = "Signature: 8a477f597d28d172789f06886806bc55";

fn write(world: &World, path: &str, bytes: impl AsRef<[u8]>) {
    let path = world.path(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn make(world: &World, paths: &[&str]) {
    for path in paths {
        write(world, path, path);
    }
}

/// What a snapshot with these options holds, and how much it left out.
fn stored(world: &World, options: &[&str]) -> (Vec<String>, u64) {
    let taken = world.object([&["snapshot"], options].concat());
    assert_eq!(taken["problem_count"], 0, "{taken}");
    (world.listed("latest"), taken["excluded"].as_u64().unwrap())
}

#[test]
fn each_option_leaves_out_what_it_says_and_counts_it() {
    let world = World::new();
    make(
        &world,
        &["s/a.o", "s/B.O", "s/keep.o", "s/t/x.tmp", "s/t/y"],
    );
    make(&world, &["s/cache/data", "s/skip/.nobackup", "s/skip/data"]);
    write(&world, "s/cache/CACHEDIR.TAG", SIGNATURE);
    write(&world, "s/large", vec![1; 5000]);
    write(&world, "s/t/.gitignore", "*.tmp\n");
    write(&world, "list", "# objects\n\n*.o\n!keep.o\n$TREE/large\n");
    let all: Vec<String> = stored(&world, &["s"]).0;
    let left = |options: &[&str]| {
        let (listed, count) = stored(&world, &[options, &["s"]].concat());
        let gone = all.iter().filter(|p| !listed.contains(p)).cloned();
        let gone: Vec<String> = gone.collect();
        assert_eq!(gone.len() as u64, count, "{options:?}");
        gone
    };
    assert_eq!(left(&["--exclude", "*.o"]), ["s/a.o", "s/keep.o"]);
    assert_eq!(left(&["--iexclude", "*.o"]).len(), 3);
    assert_eq!(left(&["-e", "*.o", "-e", "!keep.*"]), ["s/a.o"]);
    assert_eq!(left(&["--exclude-larger-than", "4K"]), ["s/large"]);
    assert_eq!(left(&["--ignore-file", ".gitignore"]), ["s/t/x.tmp"]);
    assert_eq!(left(&["--exclude-caches"]), ["s/cache/data"]);
    assert_eq!(
        left(&["--exclude-if-present", ".nobackup"]),
        ["s/skip/data"]
    );
    assert_eq!(
        left(&["--exclude-if-present", ".nobackup:s/skip"]),
        ["s/skip/data"]
    );
    assert!(left(&["--exclude-if-present", ".nobackup:other"]).is_empty());

    let run = |options: &[&str]| {
        let call = world.call([&["snapshot", "s"], options].concat());
        call.env("TREE", world.path("s")).run().expect(0)
    };
    run(&["--exclude-file", "list"]);
    let listed = world.listed("latest");
    assert!(listed.contains(&"s/keep.o".into()) && listed.contains(&"s/B.O".into()));
    assert!(!listed.contains(&"s/a.o".into()) && !listed.contains(&"s/large".into()));
    run(&["--iexclude-file", "list"]);
    assert!(!world.listed("latest").contains(&"s/B.O".into()));
    let told = run(&["-vv", "--exclude-file", "list"]).says("excluded   s/a.o");
    assert!(
        told.text().contains("2 left out as asked"),
        "{}",
        told.text()
    );
}

#[test]
fn what_is_wrong_with_an_option_is_said_and_nothing_is_stored() {
    let world = World::new();
    make(&world, &["s/a"]);
    write(&world, "bad", "a\n\n  [b\n");
    write(&world, "unset", "$NOT_SET_ANYWHERE/*\n");
    write(&world, "cut", "s\0s/a");
    for (options, said) in [
        (&["--exclude", "["][..], "\"[\" is malformed"),
        (&["--iexclude", "a["], "\"a[\" is malformed"),
        (
            &["--exclude-file", "bad"],
            "bad:3: pattern \"[b\" is malformed",
        ),
        (&["--iexclude-file", "bad"], "bad:3: "),
        (
            &["--exclude-file", "unset"],
            "unset:1: the variable NOT_SET_ANYWHERE is not set",
        ),
        (&["--files-from", "bad"], "bad:3: "),
        (&["--files-from-raw", "cut"], "cut short"),
        (
            &["--ignore-file", "a/b"],
            "\"a/b\" is not the name of a file",
        ),
        (
            &["--exclude-if-present", ":x"],
            "\"\" is not the name of a file",
        ),
        (&["--exclude-larger-than", "much"], "\"much\" is no size"),
        (&["-", "--files-from", "-"], "only once"),
        (&["--files-from", "-", "--files-from-raw", "-"], "only once"),
    ] {
        let typed = [&["snapshot", "s"], options].concat();
        world.run(typed).expect(2).says(said);
    }
    let missing = ["snapshot", "s", "--exclude-file", "gone"];
    world.run(missing).expect(1).says("gone cannot be read");
    assert!(world.snapshots().is_empty());
}

#[test]
fn nothing_of_a_stream_can_be_left_out() {
    let world = World::new();
    write(&world, "list", "*.o\n");
    for option in [
        &["--exclude", "*.o"][..],
        &["--iexclude", "*.o"],
        &["--exclude-file", "list"],
        &["--iexclude-file", "list"],
        &["--ignore-file", ".gitignore"],
        &["--exclude-caches"],
        &["--exclude-if-present", ".nobackup"],
        &["--exclude-larger-than", "4K"],
        &["--one-file-system"],
    ] {
        let refused = |args: Vec<&str>, source: &str| {
            let ran = world.run(args).expect(2);
            let said = format!("{} leaves out files, and {source}", option[0]);
            assert!(ran.stderr.contains(&said), "{}", ran.stderr);
            assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
        };
        let piped = [&["snapshot", "-"], option].concat();
        refused(piped, "standard input is stored whole");
        let command = ["--command-name", "x", "--", "touch", "begun"];
        let printed = [&["snapshot"], option, &command].concat();
        refused(printed, "what a command prints is stored whole");
    }
    let lists = ["snapshot", "--command-name", "x", "--files-from", "list"];
    let lists = [&lists[..], &["--", "touch", "begun"]].concat();
    world.run(lists).expect(2).says("are two snapshots");
    assert!(!world.path("begun").exists(), "no command was run");
    assert!(world.snapshots().is_empty());
}

#[test]
fn an_excluded_path_that_was_typed_is_3() {
    let world = World::new();
    make(&world, &["s/a", "s/b"]);
    let typed = ["snapshot", "s/a", "s/b", "--exclude", "b"];
    world.run(typed).expect(3).says("is excluded");
    assert_eq!(world.listed("latest"), ["s", "s/a"]);
}

#[test]
fn paths_come_from_lists() {
    let world = World::new();
    make(
        &world,
        &[
            "s/a.c",
            "s/b.c",
            "s/d/e.c",
            "s/# odd ",
            "s/new\nline",
            "t/x",
        ],
    );
    write(&world, "wild", "# sources\ns/*.c\n  s/d  \n");
    write(&world, "lines", "s/# odd \n\n");
    write(&world, "zeros", "s/new\nline\0t\0");
    let (listed, _) = stored(&world, &["--files-from", "wild"]);
    assert_eq!(listed, ["s", "s/a.c", "s/b.c", "s/d", "s/d/e.c"]);
    let (listed, _) = stored(&world, &["--files-from-verbatim", "lines"]);
    assert_eq!(listed, ["s", "s/# odd "]);
    let (listed, _) = stored(&world, &["--files-from-raw", "zeros", "s/a.c"]);
    assert_eq!(listed, ["s", "s/a.c", "s/new\nline", "t", "t/x"]);
    let list = world.bash("find s -name '*.c' -print0 | $hucha snapshot --files-from-raw -");
    list.run().expect(0);
    assert_eq!(
        world.listed("latest"),
        ["s", "s/a.c", "s/b.c", "s/d", "s/d/e.c"]
    );

    write(&world, "wild", "s/*.c\ns/*.none\n");
    let gone = ["snapshot", "--files-from", "wild"];
    world.run(gone).expect(3).says("s/*.none");
    write(&world, "wild", "# nothing\n");
    let nothing = ["snapshot", "--files-from", "wild"];
    world.run(nothing).expect(2).says("nothing to take");
}

/// Runs a line of bash where `s/a/mnt` and `s/b` are file systems of their own.
fn mounted(world: &World, line: &str) {
    let mounts = "mount -t tmpfs one s/a/mnt && mount -t tmpfs two s/b && echo x >s/a/mnt/x && \
                  mkdir s/b/d && echo y >s/b/d/y";
    world.mounting(&format!("set -e; {mounts}; {line}"));
}

#[test]
fn one_file_system_keeps_the_folders_of_others_empty() {
    if !can_mount("one file system") {
        return;
    }
    let world = World::new();
    make(&world, &["s/a/f", "s/b/hidden", "s/z"]);
    fs::create_dir(world.path("s/a/mnt")).unwrap();
    mounted(&world, "$hucha snapshot --one-file-system s");
    let expected = ["s", "s/a", "s/a/f", "s/a/mnt", "s/b", "s/z"];
    assert_eq!(world.listed("latest"), expected);
    // Each typed path has a file system of its own, also on the way through another one.
    mounted(&world, "$hucha snapshot -x s/a s/b");
    let expected = ["s", "s/a", "s/a/f", "s/a/mnt", "s/b", "s/b/d", "s/b/d/y"];
    assert_eq!(world.listed("latest"), expected);
    mounted(&world, "$hucha snapshot -x s s/b/d");
    let expected = [
        "s", "s/a", "s/a/f", "s/a/mnt", "s/b", "s/b/d", "s/b/d/y", "s/z",
    ];
    assert_eq!(world.listed("latest"), expected);
    mounted(&world, "$hucha snapshot s");
    let expected = [
        "s",
        "s/a",
        "s/a/f",
        "s/a/mnt",
        "s/a/mnt/x",
        "s/b",
        "s/b/d",
        "s/b/d/y",
        "s/z",
    ];
    assert_eq!(world.listed("latest"), expected);
}

//! Archives, read back by the programs of others: GNU tar, unzip, Python.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use crate::support::damage::{Harm, harm};
use crate::support::data::{Random, small_tree};
use crate::support::{World, assert_same, differences, has_tool, is_root, tool};

fn untar(world: &World, file: &str, to: &str) {
    fs::create_dir(world.path(to)).unwrap();
    let mut tar = Command::new("tar");
    tar.args([
        "-x",
        "-p",
        "--same-owner",
        "--numeric-owner",
        "--acls",
        "--xattrs",
    ]);
    tar.args(["--xattrs-include=*", "-C"]).arg(world.path(to));
    tool(tar.arg("-f").arg(world.path(file)));
}

/// Everything that a tar file can hold and a file system of this machine has.
fn odd_tree(root: &Path) {
    small_tree(root, 80);
    let at = |name: &str| root.join(name);
    fs::create_dir_all(at(&format!("long/{}", "n".repeat(200)))).unwrap();
    let name = format!("long/{}/{}", "n".repeat(200), "m".repeat(250));
    fs::write(at(&name), "deep").unwrap();
    symlink("t".repeat(300), at("long/link")).unwrap();
    fs::hard_link(at(&name), at("long/a name before")).unwrap();
    let odd = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"odd \xff\n\x1b ");
    fs::write(root.join(odd), "odd").unwrap();
    fs::write(at("ñandú"), "text").unwrap();
    for (name, seconds, nanos) in [("ancient", -3_000_000i64, 999_999_999u32), ("nanos", 7, 1)] {
        let file = fs::File::create(at(name)).unwrap();
        let time = rustix::fs::Timespec {
            tv_sec: seconds,
            tv_nsec: i64::from(nanos),
        };
        let times = rustix::fs::Timestamps {
            last_access: time,
            last_modification: time,
        };
        rustix::fs::futimens(&file, &times).unwrap();
    }
    let sparse = fs::File::create(at("sparse")).unwrap();
    for (seed, offset) in [(1, 0), (2, 3 << 20), (3, 9 << 20)] {
        let bytes = Random(seed).bytes(70_000);
        std::os::unix::fs::FileExt::write_all_at(&sparse, &bytes, offset).unwrap();
    }
    sparse.set_len(30 << 20).unwrap();
    fs::File::create(at("hole"))
        .unwrap()
        .set_len(5 << 20)
        .unwrap();
}

/// What only root can make.
fn odd_metadata(root: &Path) {
    let at = |name: &str| root.join(name);
    tool(Command::new("mkfifo").arg(at("pipe")));
    tool(Command::new("mknod").arg(at("null")).args(["c", "1", "3"]));
    tool(
        Command::new("mknod")
            .arg(at("disk"))
            .args(["b", "259", "70000"]),
    );
    std::os::unix::fs::chown(at("one"), Some(1234), Some(3_000_000)).unwrap();
    fs::set_permissions(at("one"), fs::Permissions::from_mode(0o6755)).unwrap();
    let acl = |rule: &str, name: &str| {
        tool(Command::new("setfacl").args(["-m", rule]).arg(at(name)));
    };
    acl("u:1234:rw,g:55:r", "inline");
    acl("d:u:1234:rwx,u:7:r", "a");
    let set = |name: &str, value: &str, file: &str| {
        let mut set = Command::new("setfattr");
        tool(set.args(["-n", name, "-v", value]).arg(at(file)));
    };
    set("user.tag", "0x00ff3d0a", "a/small");
    set("user.more", &"v".repeat(1000), "a/small");
    set("trusted.t", "x", "one");
    set("user.of a folder", "x", "c");
}

#[test]
fn a_tar_file_holds_what_a_restore_gives_back() {
    let what = "a tar file read by GNU tar as root";
    if !is_root(what)
        || !["tar", "setfacl", "setfattr"]
            .iter()
            .all(|t| has_tool(t, what))
    {
        return;
    }
    let world = World::new();
    fs::create_dir(world.path("src")).unwrap();
    odd_tree(&world.path("src"));
    odd_metadata(&world.path("src"));
    world.snapshot("src");
    world.ok(["archive", "latest:src", "--output", "all.tar"]);
    untar(&world, "all.tar", "back");
    assert_same(&world.path("src"), &world.path("back"));
    let blocks = fs::metadata(world.path("back/sparse")).unwrap().blocks();
    assert!(blocks < 3 << 11, "holes are holes: {blocks}");
    let mode = fs::metadata(world.path("all.tar")).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o600);
    let size = fs::metadata(world.path("all.tar")).unwrap().len();
    assert!(size < 20 << 20, "{size}: holes take no room");
    // The same bytes again, on standard output.
    let again = world.ok(["archive", "latest:src"]).stdout;
    assert!(again == fs::read(world.path("all.tar")).unwrap());
}

#[test]
fn a_tar_file_takes_what_patterns_take() {
    let world = World::new();
    small_tree(&world.path("src"), 81);
    world.snapshot("src");
    let listed = |args: &[&str]| {
        let call = world.call([&["archive", "latest:src", "-o", "part.tar"], args].concat());
        call.run().expect(0);
        let text = tool(Command::new("tar").arg("-tf").arg(world.path("part.tar")));
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let small = listed(&["--include", "SMALL"]);
    assert!(small.is_empty(), "{small:?}");
    let small = listed(&["--iinclude", "SMALL"]);
    assert_eq!(small, ["./", "a/", "a/small"]);
    fs::write(world.path("patterns"), "# all but\n/a\n/c\n").unwrap();
    let rest = listed(&["--exclude-file", "patterns"]);
    assert!(
        !rest
            .iter()
            .any(|n| n.starts_with("a/") || n.starts_with("c/")),
        "{rest:?}"
    );
    assert!(rest.contains(&"inline".to_owned()));
    world.ok(["archive", "latest:src/a/small", "-o", "one.tar"]);
    let one = tool(Command::new("tar").arg("-tf").arg(world.path("one.tar")));
    assert_eq!(one, "small\n");
    world
        .run(["archive", "latest:gone", "-o", "x.tar"])
        .expect(1);
    assert!(!world.path("x.tar").exists());
}

#[test]
fn a_zip_file_is_read_by_others() {
    let what = "a zip file read by Python";
    if !has_tool("python3", what) {
        return;
    }
    let world = World::new();
    small_tree(&world.path("src"), 82);
    fs::write(world.path("src/ñandú"), "text").unwrap();
    fs::hard_link(world.path("src/inline"), world.path("src/inline again")).unwrap();
    world.snapshot("src");
    world.ok(["archive", "latest:src", "--output", "all.zip"]);
    let again = world
        .ok(["archive", "latest:src", "--format", "zip"])
        .stdout;
    assert!(again == fs::read(world.path("all.zip")).unwrap());
    let script = "import sys, zipfile\n\
        z = zipfile.ZipFile(sys.argv[1])\n\
        assert z.testzip() is None\n\
        z.extractall(sys.argv[2])\n";
    let mut python = Command::new("python3");
    python.args(["-c", script]).arg(world.path("all.zip"));
    tool(python.arg(world.path("python")));
    // It knows neither modes, times nor links.
    let same = |name: &str, of: &str| {
        let there = fs::read(world.path(of).join(name)).unwrap();
        assert!(
            there == fs::read(world.path("src").join(name)).unwrap(),
            "{of}/{name}"
        );
    };
    for name in [
        "inline",
        "inline again",
        "one",
        "a/small",
        "a/b/large",
        "ñandú",
    ] {
        same(name, "python");
    }
    if !has_tool("unzip", "a zip file read by unzip") {
        return;
    }
    let mut unzip = Command::new("unzip");
    unzip
        .env("LC_ALL", "C.UTF-8")
        .args(["-q", "-X"])
        .arg(world.path("all.zip"));
    tool(unzip.arg("-d").arg(world.path("back")));
    let differing: Vec<String> = differences(&world.path("src"), &world.path("back"))
        .into_iter()
        // Times are cut to seconds; names of one file become files.
        .filter(|line| !line.starts_with(".f..t") && !line.starts_with(".d..t"))
        .filter(|line| !line.starts_with(".L..t") && !line.starts_with("hf"))
        .collect();
    assert!(differing.is_empty(), "{differing:#?}");
    let seconds = |tree: &str| fs::metadata(world.path(tree).join("one")).unwrap().mtime();
    assert_eq!(seconds("src"), seconds("back"));
}

#[test]
fn a_damaged_snapshot_gives_no_archive_that_looks_complete() {
    let world = World::new();
    small_tree(&world.path("src"), 83);
    fs::write(world.path("src/a/large one"), Random(84).bytes(6 << 20)).unwrap();
    world.snapshot("src");
    // In the middle of the largest pack.
    let size = |path: &std::path::PathBuf| fs::metadata(path).unwrap().len();
    let pack = world.objects("packs").into_iter().max_by_key(size).unwrap();
    harm(&pack, Harm::FlipMiddle);
    for format in ["tar", "zip"] {
        let ran = world.run(["archive", "latest:src", "--format", format]);
        let ran = ran.expect(12).says("ends before \"src/");
        fs::write(world.path("part"), &ran.stdout).unwrap();
        assert!(!ran.stdout.is_empty());
        let read = match format {
            "tar" => Command::new("tar")
                .arg("-tf")
                .arg(world.path("part"))
                .output(),
            _ => Command::new("python3")
                .args(["-m", "zipfile", "-t"])
                .arg(world.path("part"))
                .output(),
        };
        assert!(!read.unwrap().status.success(), "{format} looks complete");
        let args = ["archive", "latest:src", "--format", format, "-o", "file"];
        world.run(args).expect(12);
        let left = fs::read_dir(world.path("")).unwrap().flatten();
        let left = left.filter(|f| f.file_name().to_string_lossy().starts_with("file"));
        assert_eq!(
            left.count(),
            0,
            "nothing under the name of the file, or beside it"
        );
    }
}

#[test]
fn an_archive_is_not_shown_on_a_terminal() {
    if !has_tool("script", "an archive to a terminal") {
        return;
    }
    let world = World::new();
    small_tree(&world.path("src"), 85);
    world.snapshot("src");
    let line = "script -qec \"$hucha archive latest\" /dev/null < /dev/null";
    let ran = world.bash(line).run();
    assert_eq!(ran.code(), 2, "{}", ran.text());
    assert!(ran.text().contains("terminal"));
    // A dry run writes nothing, and tells how much it would be.
    let ran = world
        .run(["archive", "latest", "-n", "-o", "x.tar"])
        .expect(0);
    assert!(!world.path("x.tar").exists());
    ran.says("files");
}

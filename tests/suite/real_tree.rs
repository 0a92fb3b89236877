//! A real tree, with everything that a file system can hold, comes back equal by `rsync`; an
//! unchanged one opens no file and costs two objects.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::support::data::{self, Random};
use crate::support::{World, assert_same, can_mount, differences, has_tool, is_root, size, tool};

/// Copies programs and packages of this machine: at least 50,000 files when full.
fn copy_packages(root: &Path) {
    fs::create_dir_all(root).unwrap();
    let wanted = size(2_500, 55_000);
    let mut count = 0;
    for folder in size(
        &["/usr/share/doc", "/usr/share/perl"][..],
        &["/usr/share", "/usr/lib"],
    ) {
        if count < wanted && Path::new(folder).exists() {
            let name = folder.replace('/', "_");
            data::copy_folder(Path::new(folder), &root.join(name));
            count = data::files(root).len();
        }
    }
    let mut random = Random(20);
    for number in count..wanted {
        let folder = root.join(format!("generated/{}", number % 97));
        fs::create_dir_all(&folder).unwrap();
        let len = random.below(8_000) as usize;
        fs::write(folder.join(format!("{number}.txt")), random.lines(len)).unwrap();
    }
}

fn at(seconds: i64, nanos: u32) -> SystemTime {
    let distance = Duration::new(seconds.unsigned_abs(), 0);
    let whole = match seconds < 0 {
        true => SystemTime::UNIX_EPOCH - distance,
        false => SystemTime::UNIX_EPOCH + distance,
    };
    whole + Duration::from_nanos(u64::from(nanos))
}

/// Names that are no words.
fn odd_names(root: &Path) {
    let long = [b'n'; 255];
    for name in [
        &b"with\nnewline"[..],
        b"with \t tab",
        b"\xff\xfe not utf-8 \x80",
        b" ",
        b"-n",
        b"\\",
        b"*",
        b"\x1b[31mred",
        b"a:b",
        b"'\"",
        b"...",
        b".hucha-0123456789abcdef.tmp",
        &long,
        "ñandú 貨 🐖".as_bytes(),
    ] {
        let path = root.join(OsStr::from_bytes(name));
        fs::write(&path, name).unwrap();
        let folder = root.join("folders").join(OsStr::from_bytes(name));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("inside"), name).unwrap();
    }
    // Names around '/' in the order of bytes: a folder's contents follow it all the same.
    for name in [
        "order/a/b",
        "order/a.b",
        "order/a-b",
        "order/a!",
        "order/a0",
    ] {
        fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
        fs::write(root.join(name), name).unwrap();
    }
}

fn odd_contents(root: &Path) {
    let mut random = Random(21);
    fs::write(root.join("empty"), "").unwrap();
    for len in [1, 511, 512, 513, 4095, 65_536, 262_144, 262_145, 3_000_000] {
        fs::write(root.join(format!("random-{len}")), random.bytes(len)).unwrap();
    }
    fs::write(root.join("zeros"), vec![0; 1 << 20]).unwrap();
    let sparse = fs::File::create(root.join("sparse")).unwrap();
    for offset in [0, 5 << 20, 17 << 20] {
        sparse.write_all_at(&random.bytes(10_000), offset).unwrap();
    }
    sparse.set_len(40 << 20).unwrap();
    fs::File::create(root.join("hole"))
        .unwrap()
        .set_len(100 << 20)
        .unwrap();
}

fn attribute(path: PathBuf, name: &str, value: &str) {
    let mut set = Command::new("setfattr");
    tool(set.args(["-n", name, "-v", value]).arg(path));
}

fn odd_metadata(root: &Path) {
    for (name, time) in [
        ("past", at(-3_000_000, 1)),
        ("ancient", at(-2_000_000_000, 999_999_999)),
        ("epoch", at(0, 0)),
        ("nanos", at(1_700_000_000, 123_456_789)),
        ("far", at(9_000_000_000, 7)),
    ] {
        let file = fs::File::create(root.join(name)).unwrap();
        file.set_modified(time).unwrap();
    }
    for (name, mode) in [
        ("none", 0o000),
        ("setuid", 0o4755),
        ("setgid", 0o2755),
        ("sticky", 0o1644),
        ("all", 0o777),
    ] {
        fs::write(root.join(name), mode.to_string()).unwrap();
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    for (number, name) in ["foreign", "setuid"].iter().enumerate() {
        let number = Some(1234 + number as u32);
        fs::write(root.join(name), "x").unwrap();
        std::os::unix::fs::chown(root.join(name), number, number).unwrap();
    }
    fs::set_permissions(root.join("setuid"), fs::Permissions::from_mode(0o6755)).unwrap();
    attribute(root.join("nanos"), "user.tag", "one");
    for name in ["user.large", "user.other"] {
        attribute(root.join("far"), name, &"v".repeat(1_800));
    }
    attribute(root.join("all"), "trusted.t", "x");
    // The second version: cap_net_bind_service, permitted and effective.
    let capability = "0x0100000200040000000000000000000000000000";
    attribute(root.join("epoch"), "security.capability", capability);
    tool(
        Command::new("setfacl")
            .args(["-m", "u:1234:rw,g:55:r"])
            .arg(root.join("past")),
    );
    // A capability of the second version: cap_net_bind_service, permitted and effective.
    let mut capability = Command::new("setfattr");
    tool(
        capability
            .args(["-n", "security.capability"])
            .args(["-v", "0x0100000200040000000000000000000000000000"])
            .arg(root.join("epoch")),
    );
    fs::create_dir(root.join("acl")).unwrap();
    attribute(root.join("acl"), "trusted.folder", "y");
    tool(
        Command::new("setfacl")
            .args(["-m", "d:u:1234:rwx,u:7:r"])
            .arg(root.join("acl")),
    );
    fs::write(root.join("acl/inherits"), "x").unwrap();
}

fn odd_kinds(root: &Path) {
    symlink("../contents/empty", root.join("link")).unwrap();
    symlink("nowhere/at all", root.join("dangling")).unwrap();
    symlink("x".repeat(2000), root.join("long")).unwrap();
    symlink(OsStr::from_bytes(b"\xff"), root.join("bytes")).unwrap();
    std::os::unix::fs::lchown(root.join("link"), Some(77), Some(88)).unwrap();
    tool(
        Command::new("touch")
            .args(["-h", "-d", "2001-02-03 04:05:06.7"])
            .arg(root.join("long")),
    );
    tool(
        Command::new("mkfifo")
            .arg("-m")
            .arg("620")
            .arg(root.join("fifo")),
    );
    for device in [["null", "c", "1", "3"], ["disk", "b", "7", "200"]] {
        tool(
            Command::new("mknod")
                .arg(root.join(device[0]))
                .args(&device[1..]),
        );
    }
    fs::write(root.join("one"), Random(22).bytes(50_000)).unwrap();
    fs::create_dir(root.join("elsewhere")).unwrap();
    for name in ["another", "elsewhere/third", "elsewhere/a fourth"] {
        fs::hard_link(root.join("one"), root.join(name)).unwrap();
    }
    fs::hard_link(root.join("fifo"), root.join("fifo again")).unwrap();
    fs::hard_link(root.join("long"), root.join("long again")).unwrap();
    fs::hard_link(root.join("null"), root.join("null again")).unwrap();
}

fn locked_folders(root: &Path) {
    fs::create_dir_all(root.join("locked/in/deep")).unwrap();
    fs::write(root.join("locked/in/file"), "x").unwrap();
    fs::create_dir(root.join("empty")).unwrap();
    for (name, mode) in [
        ("locked/in/deep", 0o000),
        ("locked/in", 0o555),
        ("locked", 0o500),
    ] {
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(mode)).unwrap();
        let file = fs::File::open(root.join(name)).unwrap();
        file.set_modified(at(1_000_000_000, 5)).unwrap();
    }
}

/// Makes one part of the tree.
type Part = fn(&Path);

/// One of everything.
fn odd(root: &Path) {
    let parts: [(&str, Part); 5] = [
        ("names", odd_names),
        ("contents", odd_contents),
        ("metadata", odd_metadata),
        ("kinds", odd_kinds),
        ("folders", locked_folders),
    ];
    for (name, make) in parts {
        fs::create_dir(root.join(name)).unwrap();
        make(&root.join(name));
    }
}

fn generate(root: &Path) {
    copy_packages(&root.join("packages"));
    odd(root);
}

/// Whether all that these tests need is there.
fn can_run(what: &str) -> bool {
    is_root(what)
        && ["rsync", "setfacl", "setfattr"]
            .iter()
            .all(|t| has_tool(t, what))
}

/// Files of the repository, by their names.
fn objects(world: &World) -> BTreeSet<PathBuf> {
    let root = world.repository();
    let all = data::files(&root).into_iter();
    all.map(|f| f.strip_prefix(&root).unwrap().to_owned())
        .collect()
}

#[test]
fn a_real_tree_comes_back_equal() {
    if !can_run("a real tree comes back equal") {
        return;
    }
    let world = World::new();
    generate(&world.path("src"));
    let taken = world.object(["snapshot", "src"]);
    assert_eq!(taken["incomplete"], false, "{taken}");
    let restored = world
        .call(["restore", "latest:src", "back"])
        .run()
        .expect(0);
    assert_same(&world.path("src"), &world.path("back"));
    eprintln!(
        "{} entries, {} files, {} bytes: snapshot {} ms, stored {} bytes, restore {:.1?}",
        taken["entries"],
        taken["files"],
        taken["bytes"],
        taken["duration_ms"],
        taken["stored_bytes"],
        restored.took,
    );

    let before = objects(&world);
    let again = world.object(["snapshot", "src"]);
    assert_eq!(again["new_bytes"], 0, "{again}");
    let after = objects(&world);
    assert!(before.is_subset(&after));
    let new: Vec<_> = after.difference(&before).collect();
    assert_eq!(new.len(), 2, "{new:?}");
    assert!(new[0].starts_with("copies"), "{new:?}");
    assert!(new[1].starts_with("snapshots"), "{new:?}");
    eprintln!("unchanged: snapshot {} ms", again["duration_ms"]);

    // Everything is right already.
    let report = world.object(["restore", "latest:src", "back"]);
    assert_eq!(report["written"], 0, "{report}");
    assert_same(&world.path("src"), &world.path("back"));
    world.assert_whole();
}

/// What an ordinary user's restore of [`odd`] lacks, as `rsync` tells it; docs/files.md says so.
fn is_documented(line: &str) -> bool {
    let (what, path) = line.split_once(' ').unwrap();
    if what.starts_with("cD+") || what.starts_with("hD+") {
        // Devices.
        return ["kinds/null", "kinds/disk"]
            .iter()
            .any(|d| path.starts_with(d));
    }
    // Owner and group; set-id bits of what belongs to others; attributes that only root may set.
    let marks: String = what.chars().skip(2).filter(|c| *c != '.').collect();
    match path {
        "metadata/setuid" | "metadata/setgid" => ["pog", "og"].contains(&marks.as_str()),
        "metadata/all" | "metadata/epoch" | "metadata/acl/" => marks == "ogx",
        _ => marks == "og",
    }
}

#[test]
fn an_ordinary_user_restores_all_but_what_is_documented() {
    let what = "an ordinary user restores a tree of root's";
    if !can_run(what) {
        return;
    }
    let (world, other) = (World::new(), World::empty());
    let original = other.path("src");
    fs::create_dir(&original).unwrap();
    odd(&original);
    world.ok(["snapshot", other.typed("src").as_str()]);
    let world = world.into_nobodys();
    let name = format!("latest:{}", other.typed("src").trim_start_matches('/'));
    world
        .run(["restore", &name, "back"])
        .expect(3)
        .says("owners and groups were not restored")
        .says("device")
        .says("trusted.t")
        .says("security.capability");
    let found = differences(&original, &world.path("back"));
    let unknown: Vec<&String> = found.iter().filter(|line| !is_documented(line)).collect();
    assert!(unknown.is_empty(), "{unknown:#?}");
    for lacking in ["kinds/null", "metadata/all", "metadata/setuid"] {
        assert!(
            found.iter().any(|line| line.ends_with(lacking)),
            "{lacking}: {found:#?}"
        );
    }
}

#[test]
fn an_ordinary_users_own_tree_comes_back_equal() {
    let what = "an ordinary user's own tree comes back equal";
    if !can_run(what) {
        return;
    }
    let world = World::new();
    fs::create_dir(world.path("src")).unwrap();
    for (name, make) in [
        ("names", odd_names as Part),
        ("contents", odd_contents),
        ("folders", locked_folders),
    ] {
        fs::create_dir(world.path("src").join(name)).unwrap();
        make(&world.path("src").join(name));
    }
    let set = "set -e; cd src; mkfifo -m 620 fifo; ln fifo 'fifo again'; ln -s nowhere link; \
        setfattr -n user.tag -v one names; mkdir acl; setfacl -m d:u:1234:rwx,u:7:r acl; \
        echo x >acl/inherits; echo s >setuid; chmod 6755 setuid; \
        touch -d 1938-04-24T22:13:20.999999999 contents/empty; touch -d 2255-03-11T16:00 setuid";
    let world = world.into_nobodys();
    world.bash(set).run().expect(0);
    // What its owner cannot read is root's business.
    let unreadable = world.path("src/folders/locked/in/deep");
    fs::set_permissions(unreadable, fs::Permissions::from_mode(0o700)).unwrap();
    world.ok(["snapshot", "src"]);
    world.ok(["restore", "latest:src", "back"]).quiet();
    assert_same(&world.path("src"), &world.path("back"));
}

#[test]
fn a_socket_is_noted_and_not_restored() {
    let world = World::new();
    fs::create_dir(world.path("src")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(world.path("src/s")).unwrap();
    world.snapshot("src");
    let listed = world.ok(["ls", "--json", "latest:src"]).object();
    assert_eq!(
        (listed["path"].as_str(), listed["kind"].as_str()),
        (Some("src/s"), Some("socket"))
    );
    let restored = world.ok(["restore", "latest:src", "back"]);
    restored.says("1 socket was not restored");
    assert_eq!(fs::read_dir(world.path("back")).unwrap().count(), 0);
}

/// Everything below a folder as `tar` sees it, which goes where paths are longer than the system
/// takes.
fn archived(world: &World, folder: &str) -> String {
    let tar = "tar --sort=name --format=posix --pax-option=delete=atime,delete=ctime --xattrs \
        --acls --numeric-owner -C $1 -cf - . | sha256sum; find $1 | wc -l";
    let line = format!("set -e -o pipefail; set -- {folder}; {tar}");
    world.bash(&line).run().expect(0).text()
}

#[test]
fn paths_longer_than_the_system_takes_come_back_equal() {
    let world = World::new();
    // 60 levels of 201 bytes: three times PATH_MAX.
    let make = "set -e; mkdir src; cd src; for n in {1..60}; do \
        d=$(printf 'folder %0193d' $n); mkdir $d; echo $n >file; \
        ln file again; setfattr -n user.level -v $n file; cd $d; done; echo deepest >file";
    let make = make
        .replace("mkdir $d", "mkdir \"$d\"")
        .replace("cd $d", "cd -P \"$d\"");
    world.bash(&make).run().expect(0);
    world.ok(["snapshot", "src"]);
    world.ok(["restore", "latest:src", "back"]).quiet();
    let (src, back) = (archived(&world, "src"), archived(&world, "back"));
    assert_eq!(src, back);
    assert!(src.ends_with("\n182\n"), "{src}");
    let again = world.object(["snapshot", "src"]);
    assert_eq!(
        (again["new_bytes"].as_u64(), again["incomplete"].as_bool()),
        (Some(0), Some(false))
    );
}

#[test]
fn attributes_are_read_where_there_is_no_proc() {
    let what = "attributes without /proc";
    if !can_mount(what) || !has_tool("setfattr", what) {
        return;
    }
    let world = World::new();
    data::small_tree(&world.path("src"), 40);
    attribute(world.path("src/a/small"), "user.tag", "one");
    world.mounting("set -e; mount -t tmpfs none /proc; $hucha snapshot src");
    let found = world.ok(["ls", "--json", "latest:src/a/small"]).object();
    assert_eq!(found["xattrs"][0], "user.tag", "{found}");
}

#[test]
fn holes_are_kept_on_every_file_system() {
    if !can_mount("holes on tmpfs, overlay, and where there are none") {
        return;
    }
    let world = World::new();
    // ramfs tells of no holes; what comes back is the same. An overlay on an overlay is refused.
    let script = "set -e; mkdir mem ram over low up work; mount -t tmpfs none mem; \
        mount -t ramfs none ram; all='mem ram'; \
        if mount -t overlay -o lowerdir=low,upperdir=up,workdir=work none over; \
        then all+=' over'; fi; files='all trailing leading middle'; \
        for fs in $all; do mkdir $fs/src; cd $fs/src; truncate -s 5M all; \
        printf x >trailing; truncate -s 5M trailing; truncate -s 5M leading; printf x >>leading; \
        printf x >middle; truncate -s 9M middle; printf x >>middle; cd ../..; \
        $hucha snapshot --json $fs/src >$fs.json; $hucha restore latest:$fs/src $fs/back; \
        for f in $files; do cmp $fs/src/$f $fs/back/$f; \
        [ $fs = ram ] || [ $(stat -c %b $fs/back/$f) -lt 200 ]; done; done";
    world.mounting(script);
    for name in ["mem", "over"] {
        let Ok(text) = fs::read_to_string(world.path(format!("{name}.json"))) else {
            eprintln!("!!! SKIPPED, cannot be mounted here: holes on {name}");
            continue;
        };
        let taken: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert!(taken["new_bytes"].as_u64().unwrap() < 100_000, "{taken}");
        assert!(taken["bytes"].as_u64().unwrap() > 20_000_000, "{taken}");
    }
}

#[test]
fn an_unchanged_snapshot_opens_no_file_and_puts_three_objects() {
    let what = "an unchanged snapshot opens no file";
    if !can_run(what) || !has_tool("strace", what) {
        return;
    }
    let world = World::new();
    let root = world.path("src");
    fs::create_dir(&root).unwrap();
    odd_contents(&root);
    for number in 0..500 {
        fs::write(root.join(format!("f{number}")), number.to_string()).unwrap();
    }
    // Changes in the second of the snapshot cannot be told by their time: those files are read.
    world.snapshot("src");
    world.snapshot("src");
    let line = "strace -f -y -qq \
        -e trace=open,openat,openat2,link,linkat,rename,renameat,renameat2 \
        -o trace $hucha snapshot src";
    world.bash(line).run().expect(0);
    let trace = fs::read_to_string(world.path("trace")).unwrap();
    let files: BTreeSet<String> = data::files(&root)
        .iter()
        .map(|f| format!("\"{}\"", f.file_name().unwrap().to_str().unwrap()))
        .collect();
    let opened: Vec<&str> = trace
        .lines()
        .filter(|l| l.contains("open") && files.iter().any(|f| l.contains(f.as_str())))
        .collect();
    assert!(opened.is_empty(), "{opened:#?}");
    // Objects get their names by a link or rename.
    let placed = |area: &str| {
        let named = format!("/repo/{area}");
        let put = |l: &&str| (l.contains("link") || l.contains("rename")) && l.contains(&named);
        trace
            .lines()
            .filter(put)
            .filter(|l| l.ends_with("= 0"))
            .count()
    };
    let puts = ["sessions", "snapshots", "copies", "packs", "index"].map(placed);
    assert_eq!(puts, [1, 1, 1, 0, 0], "{trace}");
}

#[test]
fn what_changed_is_stored_and_nothing_else() {
    let world = World::new();
    data::small_tree(&world.path("src"), 30);
    world.snapshot("src");
    fs::write(world.path("src/a/new"), Random(31).bytes(50_000)).unwrap();
    fs::remove_file(world.path("src/c/lines")).unwrap();
    fs::rename(world.path("src/a/b"), world.path("src/moved")).unwrap();
    let taken = world.object(["snapshot", "src"]);
    let new = taken["new_bytes"].as_u64().unwrap();
    assert!(
        (50_000..60_000).contains(&new),
        "a moved file is not stored again: {taken}"
    );
    world.ok(["restore", "latest:src", "back"]);
    assert_same(&world.path("src"), &world.path("back"));
}

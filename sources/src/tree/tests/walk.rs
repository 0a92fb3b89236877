//! Walking folders: order, kinds, holes, excludes, what cannot be read.

use std::ffi::OsStr;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};

use hucha_store::snapshot::Compare;
use rustix::fs::{CWD, Mode, OFlags};

use super::*;

#[test]
fn order_is_that_of_paths() {
    let (_keep, base) = folder();
    for path in [
        "a/z", "a/b/c", "a-b", "a b", "a.d/x", "b", "A", "é/\u{1}", "a\u{1}",
    ] {
        write(base.join(path), b"");
    }
    let kept = walk_clean(&base, &["."]);
    let expected = [
        "", "A", "a", "a/b", "a/b/c", "a/z", "a\u{1}", "a b", "a-b", "a.d", "a.d/x", "b", "é",
        "é/\u{1}",
    ];
    assert_eq!(kept.paths(), expected);
}

#[test]
fn odd_names() {
    let (_keep, base) = folder();
    let long = [b'x'; 255];
    let names: [&[u8]; 6] = [b"new\nline", b"\xff\xfe", b" ", b"*?[", b"-rf", &long];
    for name in names {
        fs::write(base.join(OsStr::from_bytes(name)), name).unwrap();
    }
    let kept = walk_clean(&base, &["."]);
    let mut sorted = names.to_vec();
    sorted.sort();
    let found: Vec<&[u8]> = kept.entries[1..]
        .iter()
        .map(|entry| &entry.path[..])
        .collect();
    assert_eq!(found, sorted);
    for name in names {
        assert_eq!(kept.runs[name], vec![Run::Data(name.to_vec())]);
    }
}

#[test]
fn kinds_and_metadata() {
    let (_keep, base) = folder();
    write(base.join("file"), b"12345");
    symlink("to/nowhere", base.join("link")).unwrap();
    rustix::fs::mkfifoat(CWD, base.join("pipe"), Mode::from_raw_mode(0o640)).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(base.join("socket")).unwrap();
    let file = fs::File::open(base.join("file")).unwrap();
    fs::set_permissions(base.join("file"), fs::Permissions::from_mode(0o4751)).unwrap();
    let time = std::time::UNIX_EPOCH + std::time::Duration::new(1_234_567_890, 123_456_789);
    file.set_modified(time).unwrap();
    set_xattr(&base.join("file"), "user.b", b"2");
    set_xattr(&base.join("file"), "user.a", b"");
    let kept = walk_clean(&base, &["."]);
    let entry = kept.entry("file");
    assert_eq!((entry.meta.mode, entry.meta.size), (0o4751, 5));
    assert_eq!(
        (entry.meta.mtime.seconds, entry.meta.mtime.nanos),
        (1_234_567_890, 123_456_789)
    );
    assert!(entry.meta.inode != 0 && entry.meta.ctime.seconds > 1_700_000_000);
    let xattrs: Vec<_> = entry
        .xattrs
        .iter()
        .map(|x| (&x.name[..], &x.value[..]))
        .collect();
    assert_eq!(xattrs, [(&b"user.a"[..], &b""[..]), (b"user.b", b"2")]);
    assert_eq!(kept.entry("link").kind, Kind::Link(b"to/nowhere".to_vec()));
    assert_eq!(kept.entry("pipe").kind, Kind::Fifo);
    assert_eq!(kept.entry("socket").kind, Kind::Socket);
    assert_eq!(
        (kept.entry("pipe").meta.size, kept.entry("pipe").meta.inode),
        (0, 0)
    );
    if entry.meta.uid == 0 {
        assert_eq!(entry.meta.user.as_deref(), Some(&b"root"[..]));
    }
}

#[test]
fn hard_links_name_the_first_path() {
    let (_keep, base) = folder();
    write(base.join("m/one"), b"1");
    write(base.join("single"), b"s");
    fs::create_dir(base.join("a")).unwrap();
    fs::hard_link(base.join("m/one"), base.join("a/two")).unwrap();
    fs::hard_link(base.join("m/one"), base.join("z")).unwrap();
    let kept = walk_clean(&base, &["."]);
    for path in ["a/two", "m/one", "z"] {
        assert_eq!(
            kept.entry(path).group.as_deref(),
            Some(&b"a/two"[..]),
            "{path}"
        );
        assert_eq!(kept.bytes(path), b"1", "every link carries the contents");
    }
    assert_eq!(kept.entry("single").group, None);
    assert_eq!(kept.ended, [b"a/two".to_vec()], "all of its names were met");
    // A link elsewhere counts as one.
    let one = walk_clean(&base, &["z"]);
    assert_eq!(one.entry("z").group.as_deref(), Some(&b"z"[..]));
    assert!(one.ended.is_empty(), "others may follow");
}

/// A file of `size` bytes with data at the given places.
fn sparse(path: &Path, size: u64, data: &[(u64, &[u8])]) {
    let file = fs::File::create(path).unwrap();
    for (at, bytes) in data {
        file.write_all_at(bytes, *at).unwrap();
    }
    file.set_len(size).unwrap();
    file.sync_all().unwrap();
}

#[test]
fn holes_are_told_apart() {
    const M: u64 = 1 << 20;
    let (_keep, base) = folder();
    let block = vec![7; 4096];
    sparse(&base.join("all"), 3 * M, &[]);
    sparse(&base.join("trailing"), 2 * M, &[(0, &block)]);
    sparse(&base.join("leading"), M + 4096, &[(M, &block)]);
    sparse(
        &base.join("middle"),
        2 * M + 4096,
        &[(0, &block), (2 * M, &block)],
    );
    sparse(&base.join("none"), 4096, &[(0, &block)]);
    sparse(&base.join("empty"), 0, &[]);
    let kept = walk_clean(&base, &["."]);
    let data = || Run::Data(block.clone());
    let runs = |name: &str| kept.runs[name.as_bytes()].clone();
    assert_eq!(runs("all"), vec![Run::Hole(3 * M)]);
    assert_eq!(runs("trailing"), vec![data(), Run::Hole(2 * M - 4096)]);
    assert_eq!(runs("leading"), vec![Run::Hole(M), data()]);
    assert_eq!(
        runs("middle"),
        vec![data(), Run::Hole(2 * M - 4096), data()]
    );
    assert_eq!(runs("none"), vec![data()]);
    assert_eq!(runs("empty"), vec![]);
}

/// Makes folders within each other, far beyond what a path may hold.
fn make_deep(base: &Path, levels: usize) {
    let open = |fd: &fs::File, name: &str| {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        fs::File::from(rustix::fs::openat(fd, name, flags, Mode::empty()).unwrap())
    };
    let mut folder = fs::File::open(base).unwrap();
    for _ in 0..levels {
        for name in ["n-between", "a-before", "z-after"] {
            rustix::fs::mkdirat(&folder, name, Mode::RWXU).unwrap();
        }
        folder = open(&folder, "n-between");
    }
}

#[test]
fn deep_folders_are_walked_and_restored() {
    const LEVELS: usize = 1_500;
    let (_keep, base) = folder();
    fs::create_dir(base.join("from")).unwrap();
    make_deep(&base.join("from"), LEVELS);
    let kept = walk_clean(&base.join("from"), &["."]);
    assert_eq!(kept.entries.len(), 1 + 3 * LEVELS);
    let deepest = kept
        .entries
        .iter()
        .map(|entry| entry.path.len())
        .max()
        .unwrap();
    assert_eq!(deepest, LEVELS * "n-between/".len() - 1);
    let (_, refused) = restore(&kept, &base.join("to"), TargetOptions::default());
    assert!(refused.is_empty());
    assert_eq!(
        comparable(&walk_clean(&base.join("to"), &["."])),
        comparable(&kept)
    );
}

#[test]
fn a_folder_moved_away_while_it_is_read_is_said() {
    let (_keep, base) = folder();
    fs::create_dir(base.join("from")).unwrap();
    make_deep(&base.join("from"), 60);
    // Below the folders that are held open.
    let moved = "n-between/".repeat(50);
    let (from, to) = (base.join("from").join(&moved), base.join("elsewhere"));
    let at = format!("{moved}n-between/n-between");
    let meddle = move |path: &[u8], _: bool| {
        if path == at.as_bytes() {
            fs::rename(&from, &to).unwrap();
        }
    };
    let mut kept = Kept {
        meddle: Some(Box::new(meddle)),
        ..Kept::default()
    };
    tree(&base.join("from"), &["."], &[])
        .push(&mut kept)
        .unwrap();
    assert!(!kept.problems.is_empty());
    assert!(
        kept.problems
            .iter()
            .all(|(_, message)| message.contains("moved"))
    );
    // What is above the folders that are held open is there nonetheless.
    assert!(kept.paths().contains(&"z-after".to_owned()));
    assert!(
        kept.paths()
            .contains(&format!("{}z-after", "n-between/".repeat(30)))
    );
}

#[test]
fn excluded_is_not_entered() {
    let (_keep, base) = folder();
    for path in [
        "src/a.o",
        "src/a.c",
        "target/x/y",
        "sub/target/z",
        "keep/target.txt",
    ] {
        write(base.join(path), b"");
    }
    let anchored = format!("{}/target", base.display());
    let paths = walk(&base, &["."], &["*.o", &anchored]).paths();
    let expected = [
        "",
        "keep",
        "keep/target.txt",
        "src",
        "src/a.c",
        "sub",
        "sub/target",
        "sub/target/z",
    ];
    assert_eq!(paths, expected);
    let paths = walk(&base, &["src", "sub"], &["sub/**/z"]).paths();
    assert_eq!(paths, ["src", "src/a.c", "src/a.o", "sub", "sub/target"]);
    // Typed and excluded: said, not silently nothing.
    let kept = walk(&base, &["src", "keep"], &["src"]);
    assert_eq!(kept.paths(), ["keep", "keep/target.txt"]);
    assert_eq!(kept.problems.len(), 1);
}

#[test]
fn a_sink_that_opens_nothing_costs_no_open_file() {
    let (_keep, base) = folder();
    write(base.join("a"), b"x");
    // Nobody may read it: an open would be reported.
    fs::set_permissions(base.join("a"), fs::Permissions::from_mode(0o000)).unwrap();
    fs::set_permissions(&base, fs::Permissions::from_mode(0o755)).unwrap();
    as_nobody(|| {
        let mut kept = Kept {
            lazy: true,
            ..Kept::default()
        };
        tree(&base, &["."], &[]).push(&mut kept).unwrap();
        assert_eq!((kept.paths().len(), kept.problems.len()), (2, 0));
    });
}

#[test]
fn unreadable_files_and_folders_are_said_and_the_rest_goes_on() {
    let (_keep, base) = folder();
    write(base.join("a/secret"), b"x");
    write(base.join("b/hidden/x"), b"x");
    write(base.join("c"), b"x");
    fs::set_permissions(&base, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(base.join("a/secret"), fs::Permissions::from_mode(0o000)).unwrap();
    fs::set_permissions(base.join("b/hidden"), fs::Permissions::from_mode(0o000)).unwrap();
    as_nobody(|| {
        let kept = walk(&base, &["."], &[]);
        assert_eq!(kept.paths(), ["", "a", "b", "b/hidden", "c"]);
        assert_eq!(kept.problems.len(), 2, "{:?}", kept.problems);
        assert_eq!(kept.problems[0].0, "a/secret");
        assert!(kept.problems[1].0.ends_with("b/hidden"));
    });
}

/// Walks one file `a` of 20,000 bytes while something happens to it.
fn walk_meddled(meddle: impl FnMut(&Path, bool) + 'static) -> Kept {
    let (_keep, base) = folder();
    write(base.join("a"), vec![1; 20_000]);
    write(base.join("b"), b"b");
    let (file, mut meddle) = (base.join("a"), meddle);
    let meddle = move |path: &[u8], reading: bool| {
        if path == b"a" {
            meddle(&file, reading);
        }
    };
    let mut kept = Kept {
        meddle: Some(Box::new(meddle)),
        ..Kept::default()
    };
    tree(&base, &["."], &[]).push(&mut kept).unwrap();
    assert_eq!(kept.bytes("b"), b"b");
    kept
}

#[test]
fn a_file_that_grows_is_stored_as_it_was_and_said() {
    let kept = walk_meddled(|file, reading| {
        if reading {
            let mut file = fs::OpenOptions::new().append(true).open(file).unwrap();
            file.write_all(&[2; 5000]).unwrap();
        }
    });
    assert_eq!(kept.bytes("a"), vec![1; 20_000]);
    assert_eq!(kept.problems.len(), 1);
    assert_eq!(kept.problems[0].1, "changed while it was read");
}

#[test]
fn a_change_of_the_inode_is_one_unless_it_is_to_be_ignored() {
    for ctime in [true, false] {
        let (_keep, base) = folder();
        write(base.join("a"), vec![1; 20_000]);
        let file = base.join("a");
        let meddle = move |_: &[u8], reading: bool| {
            if reading {
                // Another tick than that of its making: the same bits change its ctime.
                let now = fs::metadata(&file).unwrap().ctime_nsec();
                while fs::metadata(&file).unwrap().ctime_nsec() == now {
                    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
                }
            }
        };
        let mut kept = Kept {
            meddle: Some(Box::new(meddle)),
            ..Kept::default()
        };
        let compare = Compare { inode: true, ctime };
        let options = TreeOptions {
            compare,
            ..TreeOptions::default()
        };
        tree_with(&base, &["a"], options).push(&mut kept).unwrap();
        assert_eq!(kept.bytes("a"), vec![1; 20_000]);
        assert_eq!(kept.problems.len(), usize::from(ctime));
    }
}

#[test]
fn a_file_that_shrinks_is_said() {
    let kept = walk_meddled(|file, reading| {
        if reading {
            fs::OpenOptions::new()
                .write(true)
                .open(file)
                .unwrap()
                .set_len(6000)
                .unwrap();
        }
    });
    assert!(kept.bytes("a").len() < 20_000);
    assert_eq!(kept.problems.len(), 1);
}

#[test]
fn a_sparse_file_that_shrinks_gets_no_bytes_that_are_gone() {
    let kept = walk_meddled(|file, reading| {
        let file = fs::OpenOptions::new().write(true).open(file).unwrap();
        match reading {
            false => {
                file.set_len(4096).unwrap();
                file.set_len(1 << 20).unwrap();
            }
            true => file.set_len(5000).unwrap(),
        }
    });
    assert!(kept.bytes("a").len() <= 5000);
    assert_eq!(kept.problems.len(), 1);
}

#[test]
fn a_file_replaced_or_gone_before_it_is_opened_is_said() {
    let kept = walk_meddled(|file, reading| {
        if !reading {
            fs::remove_file(file).unwrap();
            fs::create_dir(file).unwrap();
        }
    });
    assert_eq!(
        kept.problems,
        vec![("a".to_owned(), "cannot be read".to_owned())]
    );
    let kept = walk_meddled(|file, reading| {
        if !reading {
            fs::remove_file(file).unwrap();
            symlink("b", file).unwrap();
        }
    });
    assert_eq!(
        kept.problems,
        vec![("a".to_owned(), "cannot be read".to_owned())]
    );
}

#[test]
fn a_file_that_vanishes_after_the_listing_is_said() {
    let (_keep, base) = folder();
    write(base.join("a"), b"a");
    write(base.join("b"), b"b");
    let gone = base.join("b");
    let meddle = move |path: &[u8], reading: bool| {
        if path == b"a" && !reading {
            fs::remove_file(&gone).unwrap();
        }
    };
    let mut kept = Kept {
        meddle: Some(Box::new(meddle)),
        ..Kept::default()
    };
    tree(&base, &["."], &[]).push(&mut kept).unwrap();
    assert_eq!(kept.paths(), ["", "a"]);
    assert_eq!(kept.problems[0].1, "vanished while its folder was read");
}

#[test]
fn the_next_link_is_the_first_when_the_first_cannot_be_read() {
    let (_keep, base) = folder();
    write(base.join("a"), b"x");
    fs::hard_link(base.join("a"), base.join("b")).unwrap();
    fs::hard_link(base.join("a"), base.join("c")).unwrap();
    let (name, aside) = (base.join("a"), base.join("aside"));
    let meddle = move |path: &[u8], reading: bool| {
        if path == b"a" && !reading {
            fs::rename(&name, &aside).unwrap();
        }
    };
    let mut kept = Kept {
        meddle: Some(Box::new(meddle)),
        ..Kept::default()
    };
    tree(&base, &["a", "b", "c"], &[]).push(&mut kept).unwrap();
    assert_eq!(kept.paths(), ["b", "c"]);
    assert_eq!(kept.entry("b").group.as_deref(), Some(&b"b"[..]));
    assert_eq!(kept.entry("c").group.as_deref(), Some(&b"b"[..]));
}

#[test]
fn access_times_stay() {
    let (_keep, base) = folder();
    write(base.join("a"), b"x");
    let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    let mut file = fs::File::options()
        .read(true)
        .write(true)
        .open(base.join("a"))
        .unwrap();
    file.set_times(fs::FileTimes::new().set_accessed(old).set_modified(old))
        .unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    walk_clean(&base, &["."]);
    let now = fs::metadata(base.join("a")).unwrap().accessed().unwrap();
    assert_eq!(now, old);
}

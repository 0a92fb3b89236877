//! Restoring into folders: what is written, and that nothing outside is touched.

use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};

use hucha_store::entry::{Content, Meta, Xattr};
use rustix::fs::{CWD, FileType, Mode};

use super::super::Ownership;
use super::*;

fn entry(path: &str, kind: Kind, mode: u32) -> Entry {
    let meta = rustix::process::geteuid().as_raw();
    let meta = Meta {
        mode,
        uid: meta,
        gid: meta,
        ..Meta::default()
    };
    let path = path.as_bytes().to_vec();
    Entry {
        path,
        kind,
        meta,
        content: Content::None,
        xattrs: Vec::new(),
        group: None,
    }
}

fn target(root: &Path) -> FolderTarget {
    FolderTarget::new(root, TargetOptions::default()).unwrap()
}

/// Writes a whole file.
fn put(target: &FolderTarget, entry: &Entry, bytes: &[u8]) -> Vec<String> {
    let mut entry = entry.clone();
    entry.meta.size = bytes.len() as u64;
    let file = target.create(&entry).unwrap();
    file.write_at(0, bytes).unwrap();
    file.finish(&entry).unwrap().refused
}

fn names(folder: &Path) -> Vec<String> {
    let all = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = all
        .map(|one| one.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// One of each kind of thing.
fn make_all_kinds(from: &Path) {
    write(from.join("a/file"), b"some bytes");
    write(from.join("a/empty"), b"");
    write(from.join("ro/inside"), b"x");
    write(from.join("new\nline/\u{e9}"), b"odd");
    fs::hard_link(from.join("a/file"), from.join("ro/linked")).unwrap();
    symlink("../a/file", from.join("ro/link")).unwrap();
    symlink("nowhere", from.join("a/dangling")).unwrap();
    rustix::fs::mkfifoat(CWD, from.join("pipe"), Mode::from_raw_mode(0o640)).unwrap();
    if rustix::process::geteuid().is_root() {
        let kind = FileType::CharacterDevice;
        let number = rustix::fs::makedev(1, 3);
        rustix::fs::mknodat(
            CWD,
            from.join("null"),
            kind,
            Mode::from_raw_mode(0o666),
            number,
        )
        .unwrap();
        std::os::unix::fs::chown(from.join("a/empty"), Some(1234), Some(5678)).unwrap();
        std::os::unix::fs::lchown(from.join("ro/link"), Some(12), Some(34)).unwrap();
        set_xattr(&from.join("ro/link"), "trusted.on", b"a link");
        // Version 2 of an ACL: owner, user 7, group, mask, others.
        let mut acl = 2u32.to_le_bytes().to_vec();
        let rows = [
            (1, 6, u32::MAX),
            (2, 4, 7),
            (4, 4, u32::MAX),
            (16, 4, u32::MAX),
            (32, 0, !0),
        ];
        for (tag, perm, id) in rows {
            acl.extend(u16::to_le_bytes(tag));
            acl.extend(u16::to_le_bytes(perm));
            acl.extend(u32::to_le_bytes(id));
        }
        set_xattr(&from.join("a/file"), "system.posix_acl_access", &acl);
        set_xattr(&from.join("a"), "system.posix_acl_default", &acl);
    }
    set_xattr(&from.join("a/file"), "user.name", b"value\0with zero");
    set_xattr(&from.join("ro"), "user.empty", b"");
    let sparse = fs::File::create(from.join("sparse")).unwrap();
    sparse.set_len(5 << 20).unwrap();
    for (path, mode) in [
        ("a/empty", 0o6755),
        ("ro/inside", 0o400),
        ("ro", 0o2500),
        ("a", 0o1777),
    ] {
        fs::set_permissions(from.join(path), fs::Permissions::from_mode(mode)).unwrap();
    }
}

#[test]
fn what_is_restored_is_what_was_walked() {
    let (_keep, base) = folder();
    let from = base.join("from");
    make_all_kinds(&from);
    let kept = walk_clean(&from, &["."]);
    let acls = kept
        .entry("a/file")
        .xattrs
        .iter()
        .filter(|x| x.name.starts_with(b"system."));
    assert_eq!(
        acls.count(),
        usize::from(rustix::process::geteuid().is_root())
    );

    for round in 0..2 {
        // The second time all of it is already there, and another file in the way of a folder's
        // default ACL.
        let (target, refused) = restore(&kept, &base.join("to"), TargetOptions::default());
        assert_eq!(refused, Vec::<String>::new(), "{round}");
        assert!(!target.owners_skipped());
        let back = walk_clean(&base.join("to"), &["."]);
        assert_eq!(comparable(&back), comparable(&kept), "{round}");
        assert_eq!(back.runs, kept.runs, "{round}");
    }
    let linked = fs::metadata(base.join("to/ro/linked")).unwrap();
    assert_eq!(
        linked.ino(),
        fs::metadata(base.join("to/a/file")).unwrap().ino()
    );
}

#[test]
fn a_sound_folder_is_made_private_and_finished_last() {
    let (_keep, base) = folder();
    let target = target(&base.join("x/y"));
    assert_eq!(
        fs::metadata(base.join("x/y")).unwrap().mode() & 0o7777,
        0o700
    );
    let folder = entry("d", Kind::Folder, 0o755);
    target.make(&folder).unwrap();
    assert_eq!(
        fs::metadata(base.join("x/y/d")).unwrap().mode() & 0o7777,
        0o700
    );
    target.finish_folder(&folder).unwrap();
    assert_eq!(
        fs::metadata(base.join("x/y/d")).unwrap().mode() & 0o7777,
        0o755
    );
    target
        .finish_folder(&entry("", Kind::Folder, 0o751))
        .unwrap();
    assert_eq!(
        fs::metadata(base.join("x/y")).unwrap().mode() & 0o7777,
        0o751
    );
}

#[test]
fn unsound_paths_are_refused() {
    let (_keep, base) = folder();
    let target = target(&base.join("to"));
    for path in ["../out", "/out", "a/../../out", "a//b", ".", "a\0b", "a/"] {
        let file = entry(path, Kind::File, 0o600);
        assert!(target.create(&file).is_err(), "{path:?}");
        assert!(
            target.make(&entry(path, Kind::Folder, 0o700)).is_err(),
            "{path:?}"
        );
        assert!(
            target
                .make(&entry(path, Kind::Link(b"x".to_vec()), 0))
                .is_err(),
            "{path:?}"
        );
        assert!(
            target
                .finish_folder(&entry(path, Kind::Folder, 0o700))
                .is_err(),
            "{path:?}"
        );
        assert!(
            target.existing(&file).is_none() && target.settle(&file).is_err(),
            "{path:?}"
        );
        let good = entry("good", Kind::File, 0o600);
        put(&target, &good, b"");
        assert!(target.link(&file, b"good").is_err(), "{path:?}");
        assert!(target.link(&good, path.as_bytes()).is_err(), "{path:?}");
    }
    assert!(target.create(&entry("", Kind::File, 0o600)).is_err());
    assert_eq!(names(&base), ["to"]);
    assert_eq!(names(&base.join("to")), ["good"]);
}

#[test]
fn a_link_that_was_there_is_not_followed() {
    let (_keep, base) = folder();
    let to = base.join("to");
    write(base.join("outside/victim"), b"mine");
    fs::create_dir(&to).unwrap();
    symlink("../outside", to.join("d")).unwrap();
    symlink("../outside/victim", to.join("f")).unwrap();
    symlink("../outside", to.join("e")).unwrap();
    let target = target(&to);
    // Without `make` the link on the way is an error.
    assert!(target.create(&entry("d/x", Kind::File, 0o600)).is_err());
    assert!(target.make(&entry("d/x", Kind::Folder, 0o777)).is_err());
    assert!(
        target
            .finish_folder(&entry("d", Kind::Folder, 0o777))
            .is_err()
    );
    assert!(target.link(&entry("d/x", Kind::File, 0), b"f").is_err());
    assert!(
        target
            .existing(&entry("d/victim", Kind::File, 0o600))
            .is_none()
    );
    let mut same_size = entry("f", Kind::File, 0o600);
    same_size.meta.size = 4;
    assert!(target.existing(&same_size).is_none(), "through a link");
    // With it the link is replaced.
    target.make(&entry("d", Kind::Folder, 0o755)).unwrap();
    put(&target, &entry("d/x", Kind::File, 0o600), b"x");
    put(&target, &entry("f", Kind::File, 0o600), b"f");
    target
        .make(&entry("e", Kind::Link(b"elsewhere".to_vec()), 0o777))
        .unwrap();
    assert_eq!(names(&base.join("outside")), ["victim"]);
    assert_eq!(fs::read(base.join("outside/victim")).unwrap(), b"mine");
    assert_eq!(fs::read(to.join("d/x")).unwrap(), b"x");
    assert!(fs::symlink_metadata(to.join("f")).unwrap().is_file());
    assert_eq!(fs::read_link(to.join("e")).unwrap(), Path::new("elsewhere"));
}

#[test]
fn a_folder_swapped_for_a_link_leads_nowhere() {
    let (_keep, base) = folder();
    let to = base.join("to");
    fs::create_dir(base.join("outside")).unwrap();
    fs::create_dir(base.join("outside/deeper")).unwrap();
    let before = fs::metadata(base.join("outside/deeper")).unwrap();
    for is_open in [false, true] {
        let _ = fs::remove_dir_all(&to);
        let mut target = self::target(&to);
        for path in ["a", "a/deeper"] {
            target.make(&entry(path, Kind::Folder, 0o755)).unwrap();
        }
        if !is_open {
            target = self::target(&to);
        } else {
            // The folders are held open by the target now.
            put(&target, &entry("a/deeper/first", Kind::File, 0o600), b"1");
        }
        fs::rename(to.join("a"), to.join("aside")).unwrap();
        symlink("../outside", to.join("a")).unwrap();
        // Whether these fail or write to the folder that was moved: nothing goes outside.
        let file = target.create(&entry("a/deeper/x", Kind::File, 0o600));
        assert_eq!(file.is_ok(), is_open);
        if let Ok(file) = file {
            file.finish(&entry("a/deeper/x", Kind::File, 0o600))
                .unwrap();
        }
        let _ = target.make(&entry("a/deeper/y", Kind::Folder, 0o777));
        let _ = target.make(&entry("a/deeper/z", Kind::Link(b"x".to_vec()), 0o777));
        let _ = target.link(&entry("a/deeper/l", Kind::File, 0), b"a/deeper/x");
        let _ = target.finish_folder(&entry("a/deeper", Kind::Folder, 0o777));
        let _ = target.finish_folder(&entry("a", Kind::Folder, 0o777));
        assert_eq!(names(&base.join("outside")), ["deeper"]);
        assert_eq!(names(&base.join("outside/deeper")), Vec::<String>::new());
        let after = fs::metadata(base.join("outside/deeper")).unwrap();
        assert_eq!(
            (after.mode(), after.mtime_nsec()),
            (before.mode(), before.mtime_nsec())
        );
    }
}

#[test]
fn a_temporary_name_swapped_for_a_link_leads_nowhere() {
    let (_keep, base) = folder();
    let to = base.join("to");
    write(base.join("victim"), b"mine");
    fs::set_permissions(base.join("victim"), fs::Permissions::from_mode(0o600)).unwrap();
    let target = target(&to);
    let mut file = entry("f", Kind::File, 0o777);
    file.meta.size = 3;
    let new = target.create(&file).unwrap();
    let temporary = to.join(&names(&to)[0]);
    fs::remove_file(&temporary).unwrap();
    symlink("../victim", &temporary).unwrap();
    new.write_at(0, b"bad").unwrap();
    let _ = new.finish(&file);
    let victim = fs::metadata(base.join("victim")).unwrap();
    assert_eq!((victim.mode() & 0o7777, victim.len()), (0o600, 4));
    assert_eq!(fs::read(base.join("victim")).unwrap(), b"mine");
}

#[test]
fn what_stands_in_the_way() {
    let (_keep, base) = folder();
    let to = base.join("to");
    write(to.join("full/x"), b"x");
    fs::create_dir_all(to.join("empty")).unwrap();
    fs::create_dir_all(to.join("empty2")).unwrap();
    write(to.join("file"), b"old");
    let target = target(&to);
    // A folder that holds something stays.
    assert!(
        target
            .make(&entry("full", Kind::Link(b"a".to_vec()), 0))
            .is_err()
    );
    assert!(target.make(&entry("full", Kind::Fifo, 0)).is_err());
    let file = target.create(&entry("full", Kind::File, 0o600)).unwrap();
    assert!(file.finish(&entry("full", Kind::File, 0o600)).is_err());
    assert_eq!(fs::read(to.join("full/x")).unwrap(), b"x");
    // All else gives way, and an existing folder keeps what it holds.
    target.make(&entry("full", Kind::Folder, 0o700)).unwrap();
    put(&target, &entry("empty", Kind::File, 0o600), b"now a file");
    target
        .make(&entry("empty2", Kind::Link(b"a".to_vec()), 0))
        .unwrap();
    target.make(&entry("file", Kind::Folder, 0o700)).unwrap();
    assert!(to.join("full/x").is_file() && to.join("file").is_dir());
    assert_eq!(
        names(&to),
        ["empty", "empty2", "file", "full"],
        "no temporary name is left"
    );
}

#[test]
fn an_unfinished_file_leaves_nothing() {
    let (_keep, base) = folder();
    write(base.join("f"), b"old");
    let target = target(&base);
    let file = target.create(&entry("f", Kind::File, 0o600)).unwrap();
    file.write_at(0, b"half").unwrap();
    let temporary = names(&base).remove(0);
    assert_eq!(temporary.len(), ".hucha-0123456789abcdef.tmp".len());
    assert_eq!(
        fs::metadata(base.join(temporary)).unwrap().mode() & 0o7777,
        0o600
    );
    drop(file);
    assert_eq!(
        (names(&base), fs::read(base.join("f")).unwrap()),
        (vec!["f".into()], b"old".into())
    );
}

#[test]
fn leftovers_are_removed_but_nothing_that_looks_like_them() {
    let (_keep, base) = folder();
    let kept = [
        ".hucha-0123456789abcdeg.tmp",
        ".hucha-0123.tmp",
        "x.tmp",
        ".hucha-folder",
    ];
    for name in kept {
        write(base.join("d").join(name), b"");
    }
    write(base.join("d/.hucha-0123456789abcdef.tmp"), b"left");
    fs::create_dir(base.join("d/.hucha-1111111111111111.tmp")).unwrap();
    let target = target(&base);
    // A name of the snapshot itself.
    put(
        &target,
        &entry("d/.hucha-2222222222222222.tmp", Kind::File, 0o600),
        b"",
    );
    target
        .finish_folder(&entry("d", Kind::Folder, 0o700))
        .unwrap();
    let mut expected: Vec<&str> = kept.to_vec();
    expected.extend([".hucha-1111111111111111.tmp", ".hucha-2222222222222222.tmp"]);
    expected.sort_unstable();
    assert_eq!(names(&base.join("d")), expected);
}

#[test]
fn existing_files_are_offered_when_a_change_stays_inside() {
    let (_keep, base) = folder();
    write(base.join("f"), b"12345");
    write(base.join("linked"), b"12345");
    fs::hard_link(base.join("linked"), base.join("other")).unwrap();
    rustix::fs::mkfifoat(CWD, base.join("pipe"), Mode::RUSR).unwrap();
    let target = target(&base);
    let with_size = |path: &str, size: u64| {
        let mut entry = entry(path, Kind::File, 0o640);
        entry.meta.size = size;
        entry
    };
    let mut bytes = Vec::new();
    target
        .existing(&with_size("f", 5))
        .unwrap()
        .read_to_end(&mut bytes)
        .unwrap();
    assert_eq!(bytes, b"12345");
    assert!(target.existing(&with_size("f", 4)).is_none());
    assert!(target.existing(&with_size("gone", 5)).is_none());
    assert!(target.existing(&with_size("no/folder", 5)).is_none());
    assert!(target.existing(&with_size("pipe", 0)).is_none());
    assert!(target.existing(&with_size("linked", 5)).is_none());
    let mut grouped = with_size("linked", 5);
    grouped.group = Some(b"linked".to_vec());
    assert!(target.existing(&grouped).is_some());
    assert_eq!(
        names(&base),
        ["f", "linked", "other", "pipe"],
        "looking makes nothing"
    );

    let mut settled = with_size("f", 5);
    settled.meta.mtime.seconds = 1_000;
    target.settle(&settled).unwrap();
    let meta = fs::metadata(base.join("f")).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.mtime()), (0o640, 1_000));
}

#[test]
fn links_replace_what_is_there_and_are_made_once() {
    let (_keep, base) = folder();
    let target = target(&base);
    put(&target, &entry("first", Kind::File, 0o600), b"1");
    write(base.join("second"), b"old");
    let second = entry("second", Kind::File, 0o600);
    for _ in 0..2 {
        target.link(&second, b"first").unwrap();
        assert_eq!(names(&base), ["first", "second"]);
        assert_eq!(fs::metadata(base.join("first")).unwrap().nlink(), 2);
    }
    assert!(target.link(&second, b"gone").is_err());
}

#[test]
fn attributes_that_are_too_much_are_removed_and_refused_ones_said() {
    let (_keep, base) = folder();
    write(base.join("f"), b"");
    set_xattr(&base.join("f"), "user.old", b"1");
    set_xattr(&base.join("f"), "user.same", b"1");
    let mut file = entry("f", Kind::File, 0o600);
    let xattr = |name: &str, value: &[u8]| Xattr {
        name: name.into(),
        value: value.to_vec(),
    };
    file.xattrs = vec![
        xattr("nonsense.x", b"1"),
        xattr("user.new", b"2"),
        xattr("user.same", b"1"),
    ];
    let kept = target(&base).settle(&file).unwrap();
    assert_eq!(kept.refused.len(), 1, "{:?}", kept.refused);
    assert!(kept.refused[0].contains("nonsense.x"));
    let back = walk_clean(&base, &["f"]);
    let names: Vec<_> = back.entries[0]
        .xattrs
        .iter()
        .map(|x| x.name.clone())
        .collect();
    assert_eq!(names, [b"user.new".to_vec(), b"user.same".to_vec()]);
}

#[test]
fn skipped_owners_are_told_and_lend_no_rights() {
    let (_keep, base) = folder();
    let options = TargetOptions {
        ownership: Ownership::Skip,
    };
    let target = FolderTarget::new(&base, options).unwrap();
    assert!(put(&target, &entry("mine", Kind::File, 0o6755), b"").is_empty());
    assert!(!target.owners_skipped());
    let mut other = entry("other", Kind::File, 0o6755);
    other.meta.uid = 4321;
    assert!(put(&target, &other, b"").is_empty());
    assert!(target.owners_skipped());
    let mode = |name: &str| fs::metadata(base.join(name)).unwrap().mode() & 0o7777;
    assert_eq!((mode("mine"), mode("other")), (0o6755, 0o2755));
}

#[test]
fn sockets_are_counted() {
    let (_keep, base) = folder();
    let target = target(&base);
    assert_eq!(
        target
            .make(&entry("s", Kind::Socket, 0o600))
            .unwrap()
            .refused
            .len(),
        0
    );
    assert_eq!((target.sockets_skipped(), names(&base).len()), (1, 0));
}

#[test]
fn without_root() {
    let (_keep, base) = folder();
    fs::set_permissions(&base, fs::Permissions::from_mode(0o777)).unwrap();
    as_nobody(|| {
        let to = base.join("to");
        let target = target(&to);
        let device = entry("null", Kind::CharDevice { major: 1, minor: 3 }, 0o666);
        let kept = target.make(&device).unwrap();
        assert_eq!(kept.refused, ["a device, which only root can make"]);
        assert_eq!(names(&to), Vec::<String>::new());

        target.make(&entry("pipe", Kind::Fifo, 0o640)).unwrap();
        assert!(
            fs::symlink_metadata(to.join("pipe"))
                .unwrap()
                .file_type()
                .is_fifo()
        );
        let root_owned = Entry {
            meta: Meta::default(),
            ..entry("f", Kind::File, 0o600)
        };
        assert!(put(&target, &root_owned, b"x").is_empty());
        assert!(target.owners_skipped());

        // A folder that was read-only is written into, and read-only again.
        for mode in [0o500, 0o000] {
            fs::create_dir_all(to.join("ro/deeper")).unwrap();
            fs::set_permissions(to.join("ro/deeper"), fs::Permissions::from_mode(mode)).unwrap();
            fs::set_permissions(to.join("ro"), fs::Permissions::from_mode(mode)).unwrap();
            for path in ["ro", "ro/deeper"] {
                target.make(&entry(path, Kind::Folder, 0o555)).unwrap();
            }
            put(&target, &entry("ro/deeper/x", Kind::File, 0o400), b"x");
            for path in ["ro/deeper", "ro"] {
                target
                    .finish_folder(&entry(path, Kind::Folder, 0o555))
                    .unwrap();
                assert_eq!(fs::metadata(to.join(path)).unwrap().mode() & 0o7777, 0o555);
            }
            for path in ["ro", "ro/deeper"] {
                fs::set_permissions(to.join(path), fs::Permissions::from_mode(0o755)).unwrap();
            }
        }
        fs::remove_dir_all(to.join("ro")).unwrap();
    });
}

#[test]
fn many_threads_restore_into_one_target() {
    const FOLDERS: usize = 200;
    let (_keep, base) = folder();
    let target = target(&base);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let target = &target;
            scope.spawn(move || {
                for n in 0..FOLDERS {
                    // Folders on the way are made by whoever comes first.
                    let path = format!("d{n}/e/f{thread}");
                    put(target, &entry(&path, Kind::File, 0o600), path.as_bytes());
                }
            });
        }
    });
    let kept = walk_clean(&base, &["."]);
    assert_eq!(kept.entries.len(), 1 + FOLDERS * (2 + 4));
    assert!(
        kept.runs
            .iter()
            .all(|(path, runs)| *runs == [Run::Data(path.clone())])
    );
}

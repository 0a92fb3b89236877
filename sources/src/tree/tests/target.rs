//! Restoring into folders: what is written, and that nothing outside is touched.

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};

use hucha_store::entry::{Content, Meta, Xattr};
use rustix::fs::{CWD, FileType, Mode};

use super::super::{Owners, Ownership};
use super::*;
use crate::owner::{is_temporary, leftover_name};
use hucha_store::target::{FoundKind, Listed};

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
        assert!(target.existing(&file).is_none(), "{path:?}");
        let path = path.as_bytes();
        assert!(target.look(path).is_err() && target.list(path).is_err());
        assert!(target.remove(path).is_err());
        let path = String::from_utf8_lossy(path);
        let good = entry("good", Kind::File, 0o600);
        put(&target, &good, b"");
        assert!(target.link(&file, b"good").is_err(), "{path:?}");
        assert!(target.link(&good, path.as_bytes()).is_err(), "{path:?}");
    }
    assert!(target.create(&entry("", Kind::File, 0o600)).is_err());
    assert!(target.remove(b"").is_err());
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
    let through = entry("f", Kind::File, 0o600);
    assert!(target.existing(&through).is_none(), "through a link");
    for path in [&b"d/victim"[..], b"e/victim", b"f/x"] {
        assert_eq!(target.look(path).unwrap(), None);
        target.remove(path).unwrap();
    }
    assert_eq!(target.list(b"d").unwrap(), [], "through a link");
    assert_eq!(target.look(b"d").unwrap().unwrap().kind, FoundKind::Other);
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
    assert!(is_temporary(temporary.as_bytes()), "{temporary}");
    assert!(target.list(b"").unwrap().iter().all(|l| l.name == b"f"));
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
    let living = {
        let other = target(&base);
        other.make(&entry("d", Kind::Folder, 0o700)).unwrap();
        let file = other.create(&entry("d/f", Kind::File, 0o600)).unwrap();
        let name = names(&base.join("d")).remove(0);
        (file, name)
    };
    let kept = [".hucha-0123456789abcdef.tmp", "x.tmp", ".hucha-folder"];
    for name in kept {
        write(base.join("d").join(name), b"");
    }
    let (left, folder, ours) = (leftover_name(1), leftover_name(2), leftover_name(3));
    write(base.join("d").join(left), b"left");
    fs::create_dir(base.join("d").join(&folder)).unwrap();
    let target = target(&base);
    // A name of the snapshot itself.
    let path = format!("d/{ours}");
    put(&target, &entry(&path, Kind::File, 0o600), b"");
    target
        .finish_folder(&entry("d", Kind::Folder, 0o700))
        .unwrap();
    let mut expected: Vec<String> = kept.map(str::to_owned).to_vec();
    expected.extend([folder, ours, living.1.clone()]);
    expected.sort_unstable();
    assert_eq!(names(&base.join("d")), expected);
    drop(living.0);
    assert!(!base.join("d").join(living.1).exists());
}

#[test]
fn what_a_folder_holds_is_told_and_removed_by_name() {
    let (_keep, base) = folder();
    write(base.join("d/f"), b"12345");
    write(base.join("d/sub/x"), b"");
    symlink("sub", base.join("d/link")).unwrap();
    let target = target(&base);
    let listed = |name: &str, is_folder| Listed {
        name: name.into(),
        is_folder,
    };
    let all = [
        listed("f", false),
        listed("link", false),
        listed("sub", true),
    ];
    assert_eq!(target.list(b"d").unwrap(), all);
    assert_eq!(target.list(b"d/f").unwrap(), []);
    assert_eq!(target.list(b"none").unwrap(), []);
    let found = target.look(b"d/f").unwrap().unwrap();
    let meta = fs::metadata(base.join("d/f")).unwrap();
    assert_eq!((found.kind, found.size), (FoundKind::File, 5));
    assert_eq!(found.mtime.seconds, meta.mtime());
    assert_eq!(i64::from(found.mtime.nanos), meta.mtime_nsec());
    assert_eq!(target.look(b"").unwrap().unwrap().kind, FoundKind::Folder);
    assert_eq!(target.look(b"d/none").unwrap(), None);
    assert!(target.remove(b"d").is_err(), "it is not empty");
    for path in [&b"d/link"[..], b"d/sub/x", b"d/sub", b"d/f", b"d", b"d/f"] {
        target.remove(path).unwrap();
    }
    assert_eq!(names(&base), Vec::<String>::new());
}

#[test]
fn a_dry_run_makes_no_target() {
    let (_keep, base) = folder();
    let absent = FolderTarget::existing(&base.join("x/y"), TargetOptions::default());
    assert!(absent.unwrap().is_none());
    assert_eq!(names(&base).len(), 0);
    write(base.join("f"), b"");
    assert!(FolderTarget::existing(&base.join("f"), TargetOptions::default()).is_err());
    assert!(
        FolderTarget::existing(&base, TargetOptions::default())
            .unwrap()
            .is_some()
    );
}

#[test]
fn owners_go_by_name_or_by_number() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let (_keep, base) = folder();
    let mut file = entry("f", Kind::File, 0o600);
    file.meta.uid = 4321;
    file.meta.gid = 4322;
    file.meta.user = Some(b"daemon".to_vec());
    file.meta.group = Some(b"no such group".to_vec());
    for (owners, uid) in [(Owners::ByName, 1), (Owners::ByNumber, 4321)] {
        let options = TargetOptions {
            owners,
            ..TargetOptions::default()
        };
        let target = FolderTarget::new(&base, options).unwrap();
        assert!(put(&target, &file, b"").is_empty());
        let meta = fs::metadata(base.join("f")).unwrap();
        assert_eq!((meta.uid(), meta.gid()), (uid, 4322));
    }
}

#[test]
fn a_new_file_gives_room_back_and_may_begin_with_old_bytes() {
    let (_keep, base) = folder();
    let target = target(&base);
    let mut file = entry("f", Kind::File, 0o600);
    file.meta.size = 3 << 20;
    let bytes: Vec<u8> = (0..3 << 20).map(|i| (i % 251) as u8).collect();
    let new = target.create(&file).unwrap();
    new.write_at(0, &bytes).unwrap();
    new.clear(1 << 20, 1 << 20).unwrap();
    new.clear((3 << 20) - 1, 100).unwrap();
    new.finish(&file).unwrap();
    let mut expected = bytes;
    expected[1 << 20..2 << 20].fill(0);
    expected[(3 << 20) - 1] = 0;
    assert!(fs::read(base.join("f")).unwrap() == expected);
    let old = target.existing(&file).unwrap();
    assert_eq!(old.size(), 3 << 20);
    // Not every file system can tell, and share.
    if old.is_hole(1 << 20, 1 << 20) {
        assert!(fs::metadata(base.join("f")).unwrap().blocks() < 2 * 2048 + 100);
    }
    assert!(!old.is_hole(0, 1 << 20) && !old.is_hole(1 << 20, (1 << 20) + 1));
    if let Some(new) = old.share() {
        new.write_at(5, b"new").unwrap();
        new.finish(&file).unwrap();
        expected[5..8].copy_from_slice(b"new");
        assert!(fs::read(base.join("f")).unwrap() == expected);
    }
    assert!(old.is_unchanged());
    fs::hard_link(base.join("f"), base.join("g")).unwrap();
    assert!(old.is_unchanged());
    assert!(old.read_at((3 << 20) - 1, &mut [0; 2]).is_err());
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
    let mut bytes = [0; 5];
    let f = target.existing(&with_size("f", 5)).unwrap();
    f.read_at(0, &mut bytes).unwrap();
    assert_eq!((&bytes, f.size()), (b"12345", 5));
    assert!(target.existing(&with_size("gone", 5)).is_none());
    assert!(target.existing(&with_size("no/folder", 5)).is_none());
    assert!(target.existing(&with_size("pipe", 0)).is_none());
    assert!(target.existing(&with_size("", 0)).is_none());
    assert_eq!(
        names(&base),
        ["f", "linked", "other", "pipe"],
        "looking makes nothing"
    );

    let mut settled = with_size("f", 5);
    settled.meta.mtime.seconds = 1_000;
    assert!(f.settle(&settled).unwrap().is_some());
    let meta = fs::metadata(base.join("f")).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.mtime()), (0o640, 1_000));

    // A file with another name, perhaps outside the target, is kept only as it is.
    let mut linked = with_size("linked", 5);
    linked.group = Some(b"linked".to_vec());
    let meta = fs::metadata(base.join("linked")).unwrap();
    linked.meta.mode = meta.mode() & 0o7777;
    linked.meta.mtime.seconds = meta.mtime();
    linked.meta.mtime.nanos = u32::try_from(meta.mtime_nsec()).unwrap();
    let old = target.existing(&linked).unwrap();
    assert!(old.settle(&linked).unwrap().is_some());
    let xattr = Xattr {
        name: b"user.new".to_vec(),
        value: b"1".to_vec(),
    };
    let changes: [fn(&mut Entry, &Xattr); 3] = [
        |e, _| e.meta.mode = 0o600,
        |e, _| e.meta.mtime.nanos ^= 1,
        |e, xattr| e.xattrs = vec![xattr.clone()],
    ];
    for change in changes {
        let mut other = linked.clone();
        change(&mut other, &xattr);
        assert!(old.settle(&other).unwrap().is_none());
    }
    let after = fs::metadata(base.join("other")).unwrap();
    assert_eq!(
        (after.mode(), after.ctime_nsec()),
        (meta.mode(), meta.ctime_nsec())
    );
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
    let there = target(&base).existing(&file).unwrap();
    let kept = there.settle(&file).unwrap().unwrap();
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
        ..TargetOptions::default()
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

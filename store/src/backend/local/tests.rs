//! What a folder promises beyond the rules of every backend.

use std::collections::BTreeSet;
use std::io::Write;

use tempfile::TempDir;

use super::*;
use crate::backend::conformance;

/// Both ways of writing, each in a folder of its own.
fn both() -> [(TempDir, Local); 2] {
    let make = || {
        let folder = tempfile::tempdir().unwrap();
        let local = Local::create(&folder.path().join("deep/repository")).unwrap();
        (folder, local)
    };
    let (unnamed, (folder, drafts)) = (make(), make());
    [unnamed, (folder, drafts.without_unnamed())]
}

fn body(bytes: &[u8]) -> Sealed {
    Sealed::from_stored(bytes.to_vec())
}

fn key(area: Area, name: &str) -> Key {
    Key::new(area, name).unwrap()
}

fn names(local: &Local, area: Area) -> Vec<String> {
    let mut names = Vec::new();
    local
        .list(area, &mut |listed| names.push(listed.name))
        .unwrap();
    names.sort();
    names
}

/// Says so past the test harness, which shows nothing of a test that passes.
fn skipped(why: &str) {
    writeln!(io::stderr(), "SKIPPED: {why}").unwrap();
}

/// Every path below a folder.
fn tree(root: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut todo = vec![root.to_owned()];
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                todo.push(path.clone());
            }
            found.insert(path);
        }
    }
    found
}

#[test]
fn conforms_both_ways_and_leaves_no_file() {
    for (_folder, local) in both() {
        conformance::check(&local).unwrap();
        assert!(tree(&local.root).iter().all(|path| path.is_dir()));
    }
}

/// Repositories copied by tools that skip empty folders.
#[test]
fn conforms_when_every_area_folder_is_missing() {
    for (_folder, local) in both() {
        for area in Area::ALL.into_iter().filter(|area| *area != Area::Config) {
            fs::remove_dir(local.root.join(area.folder())).unwrap();
        }
        conformance::check(&local).unwrap();
    }
}

#[test]
fn renaming_refuses_a_taken_name_where_links_do_not_exist() {
    let [(_folder, local), _] = both();
    let tmp = local.root.join(TMP);
    folder::make(&tmp, 0).unwrap();
    let draft = |bytes: &[u8]| {
        let draft = Draft::new(&tmp).unwrap();
        draft.fill(&body(bytes)).unwrap();
        draft
    };
    let name = local.root.join("notes/a");
    let rename = |bytes: &[u8]| draft(bytes).rename(&name).map(Result::unwrap);
    if cfg!(target_os = "linux") {
        assert_eq!(rename(b"first"), Some(Put::Created));
        assert_eq!(rename(b"second"), Some(Put::Exists));
        assert_eq!(local.get(&key(Area::Notes, "a")).unwrap(), b"first");
    }
    assert_eq!(fs::read_dir(tmp).unwrap().count(), 0);
}

#[test]
fn open_and_create_answer_for_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("repository");
    assert!(Local::open(&path).unwrap_err().is_absent());
    let created = Local::create(&path).unwrap();
    created.put(&Key::config(), &body(b"config")).unwrap();
    let again = Local::create(&path).unwrap();
    assert_eq!(again.get(&Key::config()).unwrap(), b"config");
    assert_eq!(names(&again, Area::Config), [""]);
    assert!(Path::new(&again.location()).is_absolute());
    assert_eq!(Local::open(&path).unwrap().location(), again.location());

    let file = folder.path().join("file");
    fs::write(&file, b"").unwrap();
    assert_eq!(Local::open(&file).unwrap_err().trouble, Trouble::Other);
    assert_eq!(Local::create(&file).unwrap_err().trouble, Trouble::Other);
}

#[test]
fn a_repository_that_is_gone_is_not_an_empty_one() {
    for (_folder, local) in both() {
        fs::remove_dir_all(&local.root).unwrap();
        let note = key(Area::Notes, "a");
        let errors = [
            local.list(Area::Notes, &mut |_| {}).unwrap_err(),
            local.list(Area::Packs, &mut |_| {}).unwrap_err(),
            local.list(Area::Config, &mut |_| {}).unwrap_err(),
            local.get(&note).unwrap_err(),
            local.put(&note, &body(b"x")).unwrap_err(),
            local
                .put(&key(Area::Packs, "abc"), &body(b"x"))
                .unwrap_err(),
            local.delete(&note).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(
                (error.trouble, error.retry),
                (Trouble::Other, true),
                "{error}"
            );
        }
        assert!(!local.root.exists(), "and nothing makes it again");
    }
}

#[test]
fn what_is_not_ours_is_ignored_and_left_alone() {
    let [(_folder, local), _] = both();
    local.put(&key(Area::Packs, "abc"), &body(b"ours")).unwrap();
    local
        .put(&key(Area::Notes, "note"), &body(b"ours"))
        .unwrap();
    let root = &local.root;
    for folder in [
        "packs/abc",
        "packs/ab/abd",
        "packs/zz",
        "notes/folder",
        "lost+found",
    ] {
        fs::create_dir(root.join(folder)).unwrap();
    }
    let foreign = [
        "README",
        "packs/README",
        "packs/abe",
        "packs/ab/Abc",
        "packs/ab/xyz",
        "packs/zz/abf",
        "packs/ab/ab_",
        "packs/abc/abcd",
        "notes/.DS_Store",
        "notes/a b",
        "notes/folder/x",
    ];
    for file in foreign {
        fs::write(root.join(file), b"foreign").unwrap();
    }
    fs::write(root.join("notes").join("n".repeat(81)), b"foreign").unwrap();
    assert_eq!(names(&local, Area::Packs), ["abc"]);
    assert_eq!(names(&local, Area::Notes), ["note"]);
    let before = tree(root);
    local.tidy().unwrap();
    assert_eq!(tree(root), before);
}

#[cfg(unix)]
#[test]
fn odd_files_under_valid_names_are_no_objects() {
    use std::os::unix::ffi::OsStrExt;
    let [(_folder, local), _] = both();
    let notes = local.root.join("notes");
    let pipe = std::process::Command::new("mkfifo")
        .arg(notes.join("pipe"))
        .status()
        .unwrap();
    assert!(pipe.success());
    fs::write(notes.join(std::ffi::OsStr::from_bytes(b"\xff\xfe")), b"").unwrap();
    std::os::unix::fs::symlink("nowhere", notes.join("dangling")).unwrap();
    fs::write(local.root.join("elsewhere"), b"moved").unwrap();
    std::os::unix::fs::symlink("../elsewhere", notes.join("link")).unwrap();
    assert_eq!(names(&local, Area::Notes), ["link"]);
    assert_eq!(local.get(&key(Area::Notes, "link")).unwrap(), b"moved");
    let error = local.get(&key(Area::Notes, "pipe")).unwrap_err();
    assert_eq!(error.trouble, Trouble::Other);
    assert!(
        local
            .get(&key(Area::Notes, "dangling"))
            .unwrap_err()
            .is_absent()
    );
}

#[test]
fn a_pack_cannot_be_named_out_of_its_area() {
    let [(_folder, local), _] = both();
    let Some(key) = Key::new(Area::Packs, "..config") else {
        return;
    };
    local.put(&key, &body(b"x")).unwrap_err();
    local.get(&key).unwrap_err();
    local.delete(&key).unwrap_err();
    assert!(!local.root.join("..config").exists());
}

#[test]
fn a_size_that_memory_does_not_hold_is_an_error() {
    let [(_folder, local), _] = both();
    let huge = File::create(local.root.join("notes/huge")).unwrap();
    if huge.set_len(1 << 43).is_err() {
        skipped("no sparse file of 8 TiB here");
        return;
    }
    let note = key(Area::Notes, "huge");
    assert_eq!(local.get_range(&note, 1 << 42, 3).unwrap(), [0; 3]);
    let beyond = local.get_range(&note, 1, 1 << 43).unwrap_err();
    assert_eq!(beyond.trouble, Trouble::OutOfRange);
}

#[test]
fn a_spool_is_stored_whole_or_not_at_all() {
    for (_folder, local) in both() {
        let mut spool = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..3 << 20).map(|i: u32| (i % 251) as u8).collect();
        spool.write_all(&bytes).unwrap();
        let len = bytes.len() as u64;
        let whole = Sealed::from_spool(spool.try_clone().unwrap(), len);
        let pack = key(Area::Packs, "ab01");
        assert_eq!(local.put(&pack, &whole).unwrap(), Put::Created);
        assert_eq!(local.get(&pack).unwrap(), bytes);

        let before = tree(&local.root);
        let short = Sealed::from_spool(spool, len + 1);
        let error = local.put(&key(Area::Packs, "ab02"), &short).unwrap_err();
        assert_eq!(error.trouble, Trouble::Other);
        assert_eq!(names(&local, Area::Packs), ["ab01"]);
        let files = |tree: BTreeSet<PathBuf>| tree.into_iter().filter(|p| p.is_file()).count();
        assert_eq!(files(tree(&local.root)), files(before));
    }
}

/// For tests that need another process: runs one test of this file again, with a variable set.
#[cfg(unix)]
fn again(prelude: &str, test: &str, variable: &str, value: &Path) -> std::process::Command {
    let mut command = std::process::Command::new("sh");
    let script = format!("{prelude} exec \"$0\" --exact --nocapture --test-threads=1 \"$1\"");
    let test = format!("backend::local::tests::{test}");
    command
        .arg("-c")
        .arg(script)
        .arg(std::env::current_exe().unwrap())
        .arg(test);
    command
        .env(variable, value)
        .stdin(std::process::Stdio::null());
    command
}

#[cfg(unix)]
#[test]
fn modes_are_private_whatever_the_umask() {
    use std::os::unix::fs::PermissionsExt;
    const VARIABLE: &str = "HUCHA_TEST_MODES";
    if let Some(path) = std::env::var_os(VARIABLE) {
        let local = Local::create(Path::new(&path)).unwrap();
        local.put(&key(Area::Packs, "ab01"), &body(b"x")).unwrap();
        let local = local.without_unnamed();
        local.put(&key(Area::Packs, "cd02"), &body(b"x")).unwrap();
        local.put(&Key::config(), &body(b"x")).unwrap();
        return;
    }
    for umask in ["000", "022", "077", "0277", "0777"] {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("above/repository");
        let prelude = format!("umask {umask};");
        let test = "modes_are_private_whatever_the_umask";
        let status = again(&prelude, test, VARIABLE, &root).status().unwrap();
        assert!(status.success(), "umask {umask}");
        let found = tree(folder.path());
        assert_eq!(found.iter().filter(|path| path.is_file()).count(), 3);
        assert!(found.contains(&root.join(TMP)));
        for path in found {
            let want = if path.is_dir() { 0o700 } else { 0o600 };
            let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
            assert_eq!(mode, want, "{mode:o}, umask {umask}: {}", path.display());
        }
    }
}

#[cfg(unix)]
#[test]
fn tidy_removes_the_drafts_of_the_dead_only() {
    use std::io::{BufRead, BufReader};
    const VARIABLE: &str = "HUCHA_TEST_DRAFT";
    if let Some(tmp) = std::env::var_os(VARIABLE) {
        let _draft = Draft::new(Path::new(&tmp)).unwrap();
        println!("\ndrafted");
        loop {
            std::thread::park(); // until it is killed
        }
    }
    let [(_folder, local), _] = both();
    local.tidy().unwrap();
    let tmp = local.root.join(TMP);
    folder::make(&tmp, 0).unwrap();
    let count = || fs::read_dir(&tmp).unwrap().count();

    let test = "tidy_removes_the_drafts_of_the_dead_only";
    let mut command = again("", test, VARIABLE, &tmp);
    let mut writer = command
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "drafted"));
    local.tidy().unwrap();
    assert_eq!(count(), 1, "its writer lives");
    writer.kill().unwrap();
    writer.wait().unwrap();
    assert_eq!(count(), 1, "a killed writer removes nothing");
    local.tidy().unwrap();
    assert_eq!(count(), 0);

    let mine = Draft::new(&tmp).unwrap();
    fs::write(tmp.join("somebody's"), b"").unwrap();
    local.tidy().unwrap();
    assert_eq!(
        count(),
        2,
        "a draft of this process, and a file that is no draft"
    );
    drop(mine);
    assert_eq!(count(), 1);
}

#[test]
fn the_reserve_is_held_back_given_up_in_parts_and_made_whole_again() {
    let sizes = [
        (0, 512 << 10),
        (191 << 20, 512 << 10),
        (200 << 20, 768 << 10),
        (1000 << 20, 3840 << 10),
        (1 << 40, 4 << 20),
    ];
    for (packs, size) in sizes {
        assert_eq!(reserve::due(packs), size);
        for (folder, local) in both() {
            let path = folder.path().join("deep/repository").join(reserve::NAME);
            check_reserve(&local, &path, packs);
            let part = size / reserve::PARTS;
            assert_eq!(fs::metadata(&path).unwrap().len(), size);
            // What is given up is no longer there, whoever asks for less than there was.
            assert!(local.reserve(Reserve::GiveUp).unwrap());
            local.reserve(Reserve::Keep(0)).unwrap();
            assert_eq!(
                fs::metadata(&path).unwrap().len(),
                size,
                "it does not shrink"
            );
            assert!(local.reserve(Reserve::GiveUp).unwrap());
            assert_eq!(fs::metadata(&path).unwrap().len(), size - part);
        }
    }
}

/// What is kept, given up and lent for so many bytes of packs.
fn check_reserve(local: &Local, path: &Path, packs: u64) {
    let (size, part) = (reserve::due(packs), reserve::due(packs) / reserve::PARTS);
    let keep = || local.reserve(Reserve::Keep(packs)).unwrap();
    let len = || fs::metadata(path).map_or(0, |found| found.len());
    assert!(!local.reserve(Reserve::GiveUp).unwrap(), "there is none");
    for _ in 0..2 {
        keep();
        assert_eq!(len(), size);
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let found = fs::metadata(path).unwrap();
        assert_eq!(found.mode() & 0o7777, 0o600);
        assert!(found.blocks() * 512 >= size, "it is not allocated");
    }
    for left in (0..reserve::PARTS).rev() {
        assert!(local.reserve(Reserve::GiveUp).unwrap());
        assert_eq!(len(), left * part);
    }
    assert!(!local.reserve(Reserve::GiveUp).unwrap(), "nothing is left");
    assert!(!local.reserve(Reserve::Lend).unwrap(), "nothing is left");
    keep();
    assert_eq!(len(), size);
    for more in [true, false] {
        assert_eq!(local.reserve(Reserve::Lend).unwrap(), more);
        assert_eq!(len(), part, "the next gc can begin");
    }
    keep();
    assert_eq!(len(), size);
    for area in Area::ALL {
        assert!(names(local, area).is_empty());
    }
}

#[test]
fn a_reserve_grows_and_an_old_one_stays_as_it_was() {
    for (folder, local) in both() {
        let path = folder.path().join("deep/repository").join(reserve::NAME);
        let len = || fs::metadata(&path).unwrap().len();
        for size in [2u64, 3, 8, 13, 16].map(|n| n << 18) {
            local.reserve(Reserve::Keep(size * 256 + 5)).unwrap();
            assert_eq!(len(), size);
        }
        // It had random bytes only, and the most there is now.
        fs::write(&path, vec![0xA7; 4 << 20]).unwrap();
        assert!(local.reserve(Reserve::GiveUp).unwrap());
        assert_eq!(len(), 3 << 20);
        local.reserve(Reserve::Keep(0)).unwrap();
        assert_eq!(len(), 4 << 20);
        assert!(local.reserve(Reserve::Lend).unwrap());
        assert_eq!(len(), 1 << 20);
    }
}

#[cfg(unix)]
#[test]
fn a_link_in_the_place_of_the_reserve_is_left_alone() {
    for (folder, local) in both() {
        let letter = folder.path().join("letter");
        fs::write(&letter, b"mine").unwrap();
        std::os::unix::fs::symlink(
            &letter,
            folder.path().join("deep/repository").join(reserve::NAME),
        )
        .unwrap();
        local.reserve(Reserve::Keep(0)).unwrap();
        assert!(!local.reserve(Reserve::GiveUp).unwrap());
        assert_eq!(fs::read(&letter).unwrap(), b"mine");
    }
}

#[cfg(target_os = "linux")]
mod small_disk {
    use std::process::Command;

    use super::*;
    use crate::testing::SmallDisk;

    fn local(disk: &SmallDisk, unnamed: bool) -> Local {
        let local = Local::create(&disk.path().join("repository")).unwrap();
        if unnamed {
            local
        } else {
            local.without_unnamed()
        }
    }

    /// Bytes of packs for which 4 MiB are held back.
    const LARGE: u64 = 1 << 30;

    fn read_only(disk: &SmallDisk) {
        let mut mount = Command::new("mount");
        mount.args(["-o", "remount,ro"]).arg(disk.path());
        assert!(mount.status().unwrap().success());
    }

    /// Tries again for a while: a process that another test starts holds, for a moment, copies of
    /// the files and folders this one has open.
    fn patient<T>(attempt: impl Fn() -> Option<T>) -> Option<T> {
        (0..100).find_map(|_| {
            let done = attempt();
            if done.is_none() {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            done
        })
    }

    #[test]
    fn a_full_disk_is_full_and_keeps_no_torn_object() {
        for unnamed in [true, false] {
            let Some(disk) = SmallDisk::mount("1m") else {
                return;
            };
            let local = local(&disk, unnamed);
            let note = |name| key(Area::Notes, name);
            for _ in 0..3 {
                let error = local.put(&note("big"), &body(&[7; 2 << 20])).unwrap_err();
                assert_eq!(error.trouble, Trouble::Full, "{error}");
                assert!(names(&local, Area::Notes).is_empty());
                assert!(tree(&local.root).iter().all(|path| path.is_dir()));
            }
            let small = || local.put(&note("small"), &body(&[7; 500_000])).ok();
            assert_eq!(patient(small), Some(Put::Created), "the room is free again");
            assert_eq!(local.unnamed.load(Ordering::Relaxed), unnamed);
        }
    }

    #[test]
    fn a_reserve_without_room_stays_as_it_was() {
        let Some(disk) = SmallDisk::mount("1m") else {
            return;
        };
        let local = local(&disk, true);
        let path = local.root.join(reserve::NAME);
        for _ in 0..2 {
            let error = local.reserve(Reserve::Keep(LARGE)).unwrap_err();
            assert_eq!(error.trouble, Trouble::Full, "{error}");
            assert_eq!(fs::metadata(&path).unwrap().len(), 0);
        }
        let note = key(Area::Notes, "small");
        let small = || local.put(&note, &body(&[7; 500_000])).ok();
        assert_eq!(patient(small), Some(Put::Created), "it took the last room");
        local.delete(&note).unwrap();
        let keep = || local.reserve(Reserve::Keep(0)).ok();
        assert_eq!(patient(keep), Some(false), "less has room");
        assert_eq!(fs::metadata(&path).unwrap().len(), reserve::LEAST);
        local.reserve(Reserve::Keep(LARGE)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), reserve::LEAST);
    }

    #[test]
    fn a_reserve_is_made_whole_as_far_as_there_is_room() {
        let Some(disk) = SmallDisk::mount("3m") else {
            return;
        };
        let local = local(&disk, true);
        let path = local.root.join(reserve::NAME);
        let len = || fs::metadata(&path).unwrap().len();
        for _ in 0..2 {
            local.reserve(Reserve::Keep(LARGE)).unwrap();
            assert_eq!(len(), 2 << 20, "whole parts of it");
        }
        assert!(local.reserve(Reserve::Lend).unwrap());
        local
            .put(&key(Area::Notes, "big"), &body(&[7; 1_200_000]))
            .unwrap();
        local.reserve(Reserve::Keep(LARGE)).unwrap();
        assert_eq!(len(), 1 << 20, "there is no room for more");
    }

    #[test]
    fn a_read_only_disk_refuses_writing_and_goes_on_reading() {
        for unnamed in [true, false] {
            let Some(disk) = SmallDisk::mount("1m") else {
                return;
            };
            let local = local(&disk, unnamed);
            let (old, new) = (key(Area::Notes, "old"), key(Area::Packs, "new"));
            local.put(&old, &body(b"x")).unwrap();
            read_only(&disk);
            assert_eq!(
                local.put(&new, &body(b"x")).unwrap_err().trouble,
                Trouble::Refused
            );
            assert_eq!(local.delete(&old).unwrap_err().trouble, Trouble::Refused);
            assert_eq!(local.get(&old).unwrap(), b"x");
            assert_eq!(names(&local, Area::Notes), ["old"]);
            local.tidy().unwrap();
        }
    }

    #[test]
    fn a_repository_in_use_cannot_be_unmounted() {
        let Some(disk) = SmallDisk::mount("1m") else {
            return;
        };
        let local = local(&disk, true);
        let unmount = || {
            Command::new("umount")
                .arg(disk.path())
                .output()
                .unwrap()
                .status
        };
        assert!(!unmount().success());
        drop(local);
        assert_eq!(patient(|| unmount().success().then_some(())), Some(()));
        drop(
            Command::new("mount")
                .args(["-t", "tmpfs", "tmpfs"])
                .arg(disk.path())
                .status(),
        );
    }
}

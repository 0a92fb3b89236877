//! What a restore removes from the target, and what it must not.

use super::*;

const HELD: [&str; 4] = ["a/x", "a/y.log", "b/c/d/z", "m"];
const THERE: [&str; 7] = [
    "A",
    "a/old",
    "a/old.log",
    "b/c/d/more/deep",
    "b/c/d/more/k.log",
    "new/x",
    "z",
];

/// What stays in a target that held [`THERE`], what is reported, and how many things went.
fn removed(select: &dyn Fn(&[u8], bool) -> Select, stays: &[&str], surplus: &[&str], count: u64) {
    let (_, repository) = new_repository(Encryption::None, 0);
    let manifest = take(&repository, &mut files(&HELD)).manifest;
    for dry_run in [true, false] {
        let target = MapTarget::holding(&files(&THERE).files);
        let options = RestoreOptions {
            select,
            delete: true,
            dry_run,
            ..RestoreOptions::default()
        };
        let report = with(&repository, &manifest, &target, &options);
        assert!(report.problems.is_empty(), "{:?}", report.problems);
        let text = |path: &Vec<u8>| String::from_utf8(path.clone()).unwrap();
        let mut found: Vec<String> = report.surplus.iter().map(text).collect();
        found.sort();
        assert_eq!(found, surplus);
        assert_eq!(report.removed, count);
        match dry_run {
            true => assert_eq!(target.names(), THERE, "a dry run removes nothing"),
            false => assert_eq!(target.names(), stays),
        }
    }
}

#[test]
fn surplus_is_removed() {
    let tops = ["A", "a/old", "a/old.log", "b/c/d/more", "new", "z"];
    removed(&|_, _| Select::Take, &HELD, &tops, 9);
    let (_, repository) = new_repository(Encryption::None, 0);
    let manifest = take(&repository, &mut files(&HELD)).manifest;
    let target = MapTarget::holding(&files(&THERE).files);
    let report = with(&repository, &manifest, &target, &RestoreOptions::default());
    assert_eq!(report.removed, 0, "nothing goes that was not asked for");
    let names = target.names();
    assert!(THERE.iter().all(|name| names.iter().any(|n| n == name)));
}

#[test]
fn what_is_left_out_stays_and_so_do_folders_that_hold_it() {
    let no_logs = |path: &[u8], _: bool| match path.ends_with(b".log") {
        true => Select::Skip,
        false => Select::Take,
    };
    removed(
        &no_logs,
        &["a/old.log", "a/x", "b/c/d/more/k.log", "b/c/d/z", "m"],
        &["A", "a/old", "b/c/d/more/deep", "new", "z"],
        6,
    );
}

#[test]
fn what_is_not_taken_stays_in_folders_that_are_only_passed() {
    let only_below = |path: &[u8], is_folder: bool| {
        if is_within(path, b"b/c/d") {
            Select::Take
        } else if is_folder && (path.is_empty() || is_within(b"b/c/d", path)) {
            Select::Descend
        } else {
            Select::Skip
        }
    };
    removed(
        &only_below,
        &["A", "a/old", "a/old.log", "b/c/d/z", "new/x", "z"],
        &["b/c/d/more"],
        3,
    );
}

#[test]
fn a_part_of_a_snapshot_removes_within_itself_only() {
    let (_, repository) = new_repository(Encryption::None, 0);
    let mut source = files(&["a/x", "b/c/z"]);
    let manifest = take(&repository, &mut source).manifest;
    for (path, stays) in [("b", &["c/z"][..]), ("b/c/z", &["a", "c/y", "z"])] {
        let target = MapTarget::holding(&files(&["a", "c/y"]).files);
        let asked = Mutex::new(Vec::new());
        let options = RestoreOptions {
            path: path.into(),
            select: &|path, _| {
                asked.lock().unwrap().push(path.to_vec());
                Select::Take
            },
            delete: true,
            ..RestoreOptions::default()
        };
        with(&repository, &manifest, &target, &options);
        assert_eq!(target.names(), stays);
        let asked = asked.into_inner().unwrap();
        assert!(
            asked.iter().all(|p| is_within(p, b"b")),
            "paths of the snapshot"
        );
    }
}

#[test]
fn a_folder_in_the_way_goes_only_with_delete() {
    let (_, repository) = new_repository(Encryption::None, 0);
    let mut source = files(&["f"]);
    let manifest = take(&repository, &mut source).manifest;
    let target = MapTarget::holding(&files(&["f/in", "f/the/way"]).files);
    let options = RestoreOptions {
        delete: true,
        ..RestoreOptions::default()
    };
    let report = with(&repository, &manifest, &target, &options);
    assert_eq!((report.removed, report.written), (4, 1));
    assert_eq!(target.names(), ["f"]);
}

#[test]
fn nothing_is_removed_where_a_page_is_lost() {
    single_chunks(true);
    let (memory, repository) = new_repository(Encryption::None, 0);
    let mut source = MapSource::default();
    for i in 0..2000u32 {
        let path = format!("d{}/file-with-a-name-{i:05}", i / 500);
        source
            .files
            .insert(path.clone().into_bytes(), noise(600, &path));
    }
    let manifest = take(&repository, &mut source).manifest;
    single_chunks(false);
    let reader = Reader::new(&repository);
    let tree = Tree::new(&reader, manifest.root);
    let mut walk = tree.walk(b"d1/file-with-a-name-00700").unwrap();
    let (lost, _) = walk.next_item().unwrap().unwrap();
    lose(&memory, &repository, &walk.page().unwrap());
    let repository = open(&memory, Encryption::None, 0);
    // The target holds everything, and one file too much in each folder.
    let target = MapTarget::holding(&source.files);
    for folder in 0..4 {
        let more = format!("d{folder}/x").into_bytes();
        target.files.lock().unwrap().insert(more, vec![]);
    }
    let options = RestoreOptions {
        delete: true,
        ..RestoreOptions::default()
    };
    let report = with(&repository, &manifest, &target, &options);
    assert_eq!(report.damaged.len(), 1);
    let files = target.files.lock().unwrap();
    assert!(files.contains_key(&lost.path), "it is only unknown");
    assert!(source.files.keys().all(|path| files.contains_key(path)));
    let stays = parent_of(&lost.path).unwrap();
    assert!(files.contains_key(&[stays, b"/x"].concat()));
    assert!(!files.contains_key(&b"d3/x"[..]) || stays == b"d3");
}

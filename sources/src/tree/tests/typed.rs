//! Paths as people type them.

use std::os::unix::fs::{PermissionsExt, symlink};

use super::super::TreeError;
use super::*;

/// `w` is the working folder in each of these.
fn sample() -> (tempfile::TempDir, std::path::PathBuf) {
    let (keep, base) = folder();
    write(base.join("w/a/b/c"), b"c");
    write(base.join("w/a/b/d"), b"d");
    write(base.join("w/e"), b"e");
    write(base.join("other/x/y"), b"y");
    symlink("../other/x", base.join("w/link")).unwrap();
    (keep, base)
}

/// The folders above a stored path, then the path itself.
fn with_parents(path: &str) -> Vec<String> {
    let cuts = path
        .match_indices('/')
        .map(|(cut, _)| path[..cut].to_owned());
    cuts.chain([path.to_owned()]).collect()
}

#[test]
fn table_of_path_rules() {
    let (_keep, base) = sample();
    let w = base.join("w");
    let all = ["", "a", "a/b", "a/b/c", "a/b/d", "e", "link"];
    let table: &[(&[&str], &[&str])] = &[
        // The contents of `.` stand at the root, which then has an entry.
        (&["."], &all),
        (&["./"], &all),
        (&[".//."], &all),
        // As typed, `./` and `//` dropped, parents as folders, no root entry.
        (&["a"], &["a", "a/b", "a/b/c", "a/b/d"]),
        (&["./a//b/"], &["a", "a/b", "a/b/c", "a/b/d"]),
        (&["a/b/./c"], &["a", "a/b", "a/b/c"]),
        (&["e"], &["e"]),
        // Overlapping paths are read once.
        (&["a", "a/b"], &["a", "a/b", "a/b/c", "a/b/d"]),
        (&["a/b/c", "a/b", "a/b/c"], &["a", "a/b", "a/b/c", "a/b/d"]),
        (
            &["a/b/d", "e", "a/b/c"],
            &["a", "a/b", "a/b/c", "a/b/d", "e"],
        ),
        (&[".", "a/b/c", "e"], &all),
        // A link is a link; with a `/` the folder that it leads to; a link on the way a folder.
        (&["link"], &["link"]),
        (&["link/"], &["link", "link/y"]),
        (&["link/."], &["link", "link/y"]),
        (&["link/y"], &["link", "link/y"]),
    ];
    for (typed, expected) in table {
        assert_eq!(walk_clean(&w, typed).paths(), *expected, "{typed:?}");
    }
}

#[test]
fn absolute_paths_and_paths_with_dots() {
    let (_keep, base) = sample();
    let (w, b) = (base.join("w"), stored(&base));
    let absolute = base.join("w/a/b/c").into_os_string().into_string().unwrap();
    let expected = with_parents(&format!("{b}/w/a/b/c"));
    for typed in [
        &absolute,
        &format!("//{absolute}"),
        "../w/a/b/c",
        "a/../a/./b/c",
        "a/b/../b/c",
    ] {
        assert_eq!(walk_clean(&w, &[typed]).paths(), expected, "{typed}");
    }
    // `..` behind a link leads where the system says, not where the letters say.
    let expected = with_parents(&format!("{b}/other/x/y"));
    assert_eq!(walk_clean(&w, &["link/../x/y"]).paths(), expected);
    let mut expected = with_parents(&format!("{b}/other/x"));
    expected.push(format!("{b}/other/x/y"));
    assert_eq!(walk_clean(&w, &["link/../x"]).paths(), expected);
}

#[test]
fn the_root_folder_stands_at_the_root() {
    let (_keep, base) = sample();
    let kept = walk(&base, &["/"], &["/*"]);
    assert_eq!(kept.paths(), [""]);
    assert_eq!(kept.problems, vec![]);
    // Only the way to the folder is let in.
    let tree = tree(&base, &["/"], &[]);
    assert_eq!(tree.paths(), vec![b"/".to_vec()]);
}

#[test]
fn parents_carry_their_own_metadata() {
    let (_keep, base) = sample();
    fs::set_permissions(base.join("w/a"), fs::Permissions::from_mode(0o2751)).unwrap();
    set_xattr(&base.join("w/a"), "user.of", b"a");
    let kept = walk_clean(&base.join("w"), &["a/b/c"]);
    let entry = kept.entry("a");
    assert_eq!((&entry.kind, entry.meta.mode), (&Kind::Folder, 0o2751));
    assert_eq!(entry.xattrs.len(), 1);
    // The root's as well when it was typed.
    set_xattr(&base.join("w"), "user.of", b"w");
    assert_eq!(
        walk_clean(&base.join("w"), &["."]).entry("").xattrs[0].value,
        b"w"
    );
}

#[test]
fn paths_are_absolute_and_sorted() {
    let (_keep, base) = sample();
    let paths = tree(&base.join("w"), &["e", "a/b", "gone", "../other", "e"], &[]).paths();
    let expected = ["other", "w/a/b", "w/e", "w/gone"];
    let expected: Vec<_> = expected
        .iter()
        .map(|p| base.join(p).into_os_string())
        .collect();
    assert_eq!(
        paths,
        expected
            .iter()
            .map(|p| p.as_bytes().to_vec())
            .collect::<Vec<_>>()
    );
    let dot = tree(&base.join("w"), &["."], &[]).paths();
    assert_eq!(dot, vec![base.join("w").as_os_str().as_bytes().to_vec()]);
}

#[test]
fn some_missing_is_a_problem_and_all_missing_an_error() {
    let (_keep, base) = sample();
    let w = base.join("w");
    let typed = ["gone", "e", "e/", "../no/../e", ""];
    assert_eq!(tree(&w, &typed, &[]).missing().len(), 4);
    let kept = walk(&w, &typed, &[]);
    assert_eq!(kept.paths(), ["e"]);
    let names: Vec<&str> = kept
        .problems
        .iter()
        .map(|(path, _)| path.as_str())
        .collect();
    assert_eq!(names, ["gone", "e/", "../no/../e", ""]);

    let new = |typed: &[&str]| {
        let typed: Vec<OsString> = typed.iter().map(OsString::from).collect();
        FileTree::new(&typed, w.clone(), TreeOptions::default()).map(drop)
    };
    assert!(matches!(new(&["gone", "e/"]), Err(TreeError::AllMissing(all)) if all.len() == 2));
    assert!(matches!(new(&[]), Err(TreeError::NothingTyped)));
}

#[test]
fn two_places_under_one_name() {
    let (_keep, base) = sample();
    let w = base.join("w");
    let b = stored(&base);
    // Below the working folder stands a copy of the way to the other folder.
    write(w.join(&b).join("other/z"), b"z");
    let other = base.join("other").into_os_string().into_string().unwrap();
    let both = [OsString::from(&other), OsString::from(format!("{b}/other"))];
    let result = FileTree::new(&both, w.clone(), TreeOptions::default());
    assert!(matches!(result, Err(TreeError::Clash { .. })));

    // Met while walking: the typed one is stored, the other one reported.
    let kept = walk(&w, &[".", &other], &[]);
    assert!(kept.paths().contains(&format!("{b}/other/x/y")));
    assert!(!kept.paths().contains(&format!("{b}/other/z")));
    assert_eq!(kept.problems.len(), 1, "{:?}", kept.problems);

    // The same place by two names is no clash.
    let root = Path::new("/");
    assert!(FileTree::new(&both[..1], root.into(), TreeOptions::default()).is_ok());
    let same = [both[0].clone(), OsString::from(stored(&base.join("other")))];
    assert!(FileTree::new(&same, root.into(), TreeOptions::default()).is_ok());
}

#[test]
fn a_link_that_was_to_be_stored_and_is_walked_through_is_said() {
    let (_keep, base) = sample();
    for typed in [&["link", "link/y"], &[".", "link/y"]] {
        let kept = walk(&base.join("w"), typed, &[]);
        assert!(kept.paths().contains(&"link/y".to_owned()));
        assert_eq!(kept.problems.len(), 1, "{typed:?}: {:?}", kept.problems);
    }
}

//! What is left out by options, and that it is counted and nothing else is.

use std::os::unix::fs::{PermissionsExt, symlink};

use super::super::{Presence, TreeError};
use super::*;

fn make(base: &Path, paths: &[&str]) {
    for path in paths {
        write(base.join(path), path.as_bytes());
    }
}

fn if_present(all: &[Presence]) -> TreeOptions {
    TreeOptions {
        if_present: all.to_vec(),
        ..TreeOptions::default()
    }
}

fn presence(name: &str, header: &str) -> Presence {
    Presence {
        name: name.into(),
        header: header.into(),
    }
}

fn ignore_files(names: &[&str]) -> TreeOptions {
    TreeOptions {
        ignore_files: names.iter().map(OsString::from).collect(),
        ..TreeOptions::default()
    }
}

#[test]
fn case_differs_in_one_list_and_not_in_the_other() {
    let (_keep, base) = folder();
    make(&base, &["a.jpg", "b.JPG", "c.tmp", "d.TMP", "e"]);
    let options = TreeOptions {
        exclude: Matcher::new(&["*.tmp"], &["*.Jpg"]).unwrap(),
        ..TreeOptions::default()
    };
    let kept = walk_with(&base, &["."], options);
    assert_eq!(kept.paths(), ["", "d.TMP", "e"]);
    assert_eq!(kept.excluded, ["a.jpg", "b.JPG", "c.tmp"]);
    assert_eq!(kept.problems, vec![]);
}

#[test]
fn larger_files_are_left_out_and_folders_are_not() {
    let (_keep, base) = folder();
    write(base.join("d/equal"), vec![0; 1000]);
    write(base.join("d/larger"), vec![0; 1001]);
    symlink("x".repeat(1500), base.join("d/link")).unwrap();
    let options = TreeOptions {
        larger_than: Some(1000),
        ..TreeOptions::default()
    };
    let kept = walk_with(&base, &["."], options);
    assert_eq!(kept.paths(), ["", "d", "d/equal", "d/link"]);
    assert_eq!(kept.excluded, ["d/larger"]);
}

#[test]
fn tagged_caches_keep_their_tag_alone() {
    let (_keep, base) = folder();
    let signature = "Signature: 8a477f597d28d172789f06886806bc55";
    for (folder, tag) in [
        ("exact", signature.to_owned()),
        ("longer", format!("{signature}\n# made by a test")),
        ("cut", signature[..42].to_owned()),
        ("late", format!(" {signature}")),
        ("empty", String::new()),
    ] {
        write(base.join(folder).join("CACHEDIR.TAG"), tag);
        make(&base.join(folder), &["data", "sub/data"]);
    }
    // The specification wants a regular file.
    make(
        &base,
        &["linked/data", "folder/CACHEDIR.TAG/data", "plain/x"],
    );
    symlink("../exact/CACHEDIR.TAG", base.join("linked/CACHEDIR.TAG")).unwrap();
    let kept = walk_with(&base, &["."], if_present(&[Presence::cachedir()]));
    let left_out = ["exact/data", "exact/sub", "longer/data", "longer/sub"];
    assert_eq!(kept.excluded, left_out);
    assert_eq!(kept.problems, vec![]);
    let paths = kept.paths();
    for there in ["exact", "exact/CACHEDIR.TAG", "cut/sub/data", "late/data"] {
        assert!(paths.contains(&there.to_owned()), "{there}");
    }
    for there in ["empty/data", "linked/data", "folder/CACHEDIR.TAG/data"] {
        assert!(paths.contains(&there.to_owned()), "{there}");
    }
}

#[test]
fn a_presence_needs_no_header_and_several_are_kept() {
    let (_keep, base) = folder();
    make(
        &base,
        &[
            "a/.nobackup/x",
            "a/data",
            "b/skip",
            "b/data",
            "c/skip",
            "c/data",
        ],
    );
    make(&base, &["c/.nobackup"]);
    write(base.join("b/skip"), "no");
    write(base.join("c/skip"), "yes, please");
    let options = if_present(&[presence(".nobackup", ""), presence("skip", "yes")]);
    let kept = walk_with(&base, &["."], options.clone());
    let expected = [
        "",
        "a",
        "a/.nobackup",
        "a/.nobackup/x",
        "b",
        "b/data",
        "b/skip",
        "c",
        "c/.nobackup",
        "c/skip",
    ];
    assert_eq!(kept.paths(), expected);
    assert_eq!(kept.excluded, ["a/data", "c/data"]);
    // What was typed itself is stored, and the folder that holds the file may be typed.
    let kept = walk_with(&base.join("a"), &[".", "data"], options.clone());
    assert_eq!(kept.paths(), ["", ".nobackup", ".nobackup/x", "data"]);
    let kept = walk_with(&base, &["a/data"], options);
    assert_eq!(kept.paths(), ["a", "a/data"]);
}

#[test]
fn a_header_that_cannot_be_read_is_said_and_leaves_nothing_out() {
    let (_keep, base) = folder();
    make(&base, &["skip", "data"]);
    fs::set_permissions(base.join("skip"), fs::Permissions::from_mode(0o000)).unwrap();
    fs::set_permissions(&base, fs::Permissions::from_mode(0o755)).unwrap();
    as_nobody(|| {
        let kept = walk_with(&base, &["."], if_present(&[presence("skip", "yes")]));
        assert_eq!(kept.paths(), ["", "data"]);
        assert_eq!(kept.problems.len(), 2, "{:?}", kept.problems);
        assert!(kept.problems[0].1.starts_with("skip in it"));
    });
}

#[test]
fn rules_of_ignore_files_hold_from_their_folder_on() {
    let (_keep, base) = folder();
    make(
        &base,
        &[
            "a.o",
            "x/a.o",
            "x/keep.o",
            "x/y/b.o",
            "x/y/c",
            "build/out",
            "x/build",
            "top",
            "x/top",
        ],
    );
    write(base.join(".gitignore"), "*.o\nbuild/\n/top\n");
    write(base.join("x/.gitignore"), "!keep.o\ny/c\n");
    let kept = walk_with(&base, &["."], ignore_files(&[".gitignore"]));
    let expected = [
        "",
        ".gitignore",
        "x",
        "x/.gitignore",
        "x/build",
        "x/keep.o",
        "x/top",
        "x/y",
    ];
    assert_eq!(kept.paths(), expected);
    let left_out = ["a.o", "build", "top", "x/a.o", "x/y/b.o", "x/y/c"];
    assert_eq!(kept.excluded, left_out);
    // Rules of folders above what was typed are not looked for.
    let kept = walk_with(&base, &["x"], ignore_files(&[".gitignore"]));
    assert!(kept.paths().contains(&"x/a.o".to_owned()));
    // Not asked for, not read.
    assert_eq!(walk_clean(&base, &["."]).excluded, Vec::<String>::new());
}

#[test]
fn several_ignore_files_and_what_is_none() {
    let (_keep, base) = folder();
    make(&base, &["a", "b", "c/.ignore/x", "c/a", "d/a"]);
    write(base.join(".gitignore"), "a\nb");
    write(base.join(".ignore"), "!a");
    symlink("../.gitignore", base.join("d/.ignore")).unwrap();
    let both = ignore_files(&[".gitignore", ".ignore"]);
    let kept = walk_with(&base, &["."], both);
    assert_eq!(kept.excluded, ["b"], "the later named counts first");
    let other = ignore_files(&[".ignore", ".gitignore"]);
    let kept = walk_with(&base, &["."], other);
    assert_eq!(kept.excluded, ["a", "b", "c/a", "d/a"]);
    assert_eq!(
        kept.problems,
        vec![],
        "a folder and a link are no ignore files"
    );
    // Typed and ignored: said, not silently nothing.
    let kept = walk_with(&base, &[".", "b"], ignore_files(&[".gitignore"]));
    assert_eq!(kept.problems.len(), 1);
}

#[test]
fn names_that_no_file_can_have_are_refused() {
    let (_keep, base) = folder();
    for name in ["", ".", "..", "a/b", "/a", "a\0"] {
        for options in [ignore_files(&[name]), if_present(&[presence(name, "")])] {
            let made = FileTree::new(&[".".into()], base.clone(), options);
            assert!(matches!(made, Err(TreeError::NoFileName(_))), "{name:?}");
        }
    }
}

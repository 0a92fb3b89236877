//! Names of users and groups.

use std::ffi::CString;

use super::super::names::Names;
use super::*;

#[test]
fn names_of_a_large_folder_take_little_memory() {
    const COUNT: usize = 50_000;
    let (_keep, base) = folder();
    for n in 0..COUNT {
        // Made in an order that is not that of the names.
        fs::write(base.join(format!("file-{:08}", (n * 7919) % COUNT)), b"").unwrap();
    }
    let (names, error) = Names::read(fs::File::open(&base).unwrap());
    assert_eq!((names.len(), error), (COUNT, None));
    // 13 bytes and a NUL, 4 for the place: 18 MB for a million.
    assert_eq!(names.memory(), COUNT * (14 + 4));
    for n in 0..COUNT {
        assert_eq!(
            names.get(n).unwrap().to_bytes(),
            format!("file-{n:08}").as_bytes()
        );
    }
    assert!(names.get(COUNT).is_none());
    let kept = walk_clean(&base, &["."]);
    assert_eq!(kept.entries.len(), COUNT + 1);
}

#[test]
fn names_are_added_once_and_in_order() {
    let (_keep, base) = folder();
    for name in ["b", "d", "a"] {
        write(base.join(name), b"");
    }
    let (mut names, _) = Names::read(fs::File::open(&base).unwrap());
    let more: Vec<CString> = ["c", "b", "e"]
        .iter()
        .map(|n| CString::new(*n).unwrap())
        .collect();
    names.add(more.iter().map(CString::as_c_str)).unwrap();
    let all: Vec<_> = (0..names.len())
        .map(|n| names.get(n).unwrap().to_str().unwrap())
        .collect();
    assert_eq!(all, ["a", "b", "c", "d", "e"]);
    assert!(names.contains(c"c") && !names.contains(c"f"));
}

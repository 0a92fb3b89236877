//! Every kind of difference, and how few pages are read for them.

use super::*;
use crate::crypto::Encryption;
use crate::testing::{MapSource, new_repository, take};

/// `+`, `-`, `T`, `M`, `?` or `U` and the path of each difference, and the pages read.
fn differences(repository: &Repository, before: Side<'_>, after: Side<'_>) -> (Vec<String>, u64) {
    let mut lines = Vec::new();
    let pages = diff(repository, before, after, &mut |difference| {
        let mark = match difference {
            Difference::Added(_) => '+',
            Difference::Removed(_) => '-',
            Difference::Changed { how, .. } => match how {
                How::Kind => 'T',
                How::Content => 'M',
                How::ContentOnly => '?',
                How::Metadata => 'U',
            },
        };
        let path = String::from_utf8_lossy(&difference.entry().path);
        lines.push(format!("{mark}{path}"));
        Ok::<(), AccessError>(())
    });
    (lines, pages.unwrap())
}

fn all(manifest: &Manifest) -> Side<'_> {
    Side {
        manifest,
        path: b"",
    }
}

fn source(files: &[(&str, &str)]) -> MapSource {
    MapSource {
        files: (files.iter())
            .map(|(path, bytes)| (path.as_bytes().to_vec(), bytes.as_bytes().to_vec()))
            .collect(),
        opened: 0,
    }
}

#[test]
fn every_kind_of_difference() {
    let (_, repository) = new_repository(Encryption::None, 2);
    let mut before = source(&[
        ("a/gone", "1"),
        ("a/kept", "2"),
        ("a/longer", "3"),
        ("a/other", "4"),
        ("was-file", "5"),
        ("was-folder/x", "6"),
    ]);
    let mut after = source(&[
        ("a/kept", "2"),
        ("a/longer", "33"),
        ("a/new", "7"),
        ("a/other", "x"),
        ("was-file/y", "5"),
        ("was-folder", "6"),
    ]);
    let one = take(&repository, &mut before).manifest;
    let two = take(&repository, &mut after).manifest;
    let (lines, _) = differences(&repository, all(&one), all(&two));
    let expected = [
        "-a/gone",
        "Ma/longer",
        "+a/new",
        "?a/other",
        "Twas-file",
        "+was-file/y",
        "Twas-folder",
        "-was-folder/x",
    ];
    assert_eq!(lines, expected);
    assert_eq!(differences(&repository, all(&one), all(&one)).1, 0);
    let empty = take(&repository, &mut MapSource::default()).manifest;
    assert_eq!(differences(&repository, all(&empty), all(&two)).0.len(), 8);
    assert_eq!(differences(&repository, all(&one), all(&empty)).0.len(), 8);
}

#[test]
fn folders_of_one_snapshot_and_files() {
    let (_, repository) = new_repository(Encryption::None, 2);
    let mut both = source(&[
        ("a", "0"),
        ("one/x", "1"),
        ("one/y/z", "2"),
        ("one-more", "0"),
        ("two/x", "1"),
        ("two/y/z", "3"),
        ("two/y/zz", "4"),
    ]);
    let taken = take(&repository, &mut both).manifest;
    let side = |path: &'static str| Side {
        manifest: &taken,
        path: path.as_bytes(),
    };
    let (lines, _) = differences(&repository, side("one"), side("two"));
    assert_eq!(lines, ["?two/y/z", "+two/y/zz"]);
    let (lines, _) = differences(&repository, side("one/y/z"), side("two/y/z"));
    assert_eq!(lines, ["?two/y/z"]);
    let (lines, _) = differences(&repository, side("one/x"), side("two/x"));
    assert!(lines.is_empty());
}

/// A tree of many pages.
fn large() -> MapSource {
    let files = (0..60_000u32).map(|n| {
        let path = format!("folder-{:03}/file-{n:05}", n % 200);
        (path.into_bytes(), n.to_le_bytes().to_vec())
    });
    MapSource {
        files: files.collect(),
        opened: 0,
    }
}

#[test]
fn one_change_among_many_reads_the_way_to_it() {
    let (_, repository) = new_repository(Encryption::None, 2);
    let mut source = large();
    let one = take(&repository, &mut source).manifest;
    source.files.insert(b"folder-100/new".to_vec(), vec![1]);
    let two = take(&repository, &mut source).manifest;
    let (lines, pages) = differences(&repository, all(&one), all(&two));
    assert_eq!(lines, ["+folder-100/new"]);
    // A way down on each side; the change may have moved one cut, which touches two pages more.
    let height = u64::from(one.root.unwrap().height);
    assert!(height >= 1 && one.entries > 60_000);
    assert!(
        pages <= 2 * (height + 1) + 2,
        "{pages} pages, height {height}"
    );

    // The same without what would be found: a folder is looked for, not read from the start.
    let side = |manifest| Side {
        manifest,
        path: b"folder-150",
    };
    let (lines, pages) = differences(&repository, side(&one), side(&two));
    assert!(lines.is_empty());
    assert!(pages <= 2 * (height + 1), "{pages} pages for a folder");
}

#[test]
fn moved_cuts_and_random_changes_are_found() {
    let (_, repository) = new_repository(Encryption::None, 2);
    let mut source = large();
    source.files.retain(|path, _| path.starts_with(b"folder-0"));
    let one = take(&repository, &mut source).manifest;
    let before = source.files.clone();
    let mut seed = 1u64;
    for _ in 0..400 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let n = seed >> 40;
        let path = format!("folder-{:03}/file-{:05}", n % 100, n % 60_000);
        match n % 3 {
            0 => drop(source.files.remove(path.as_bytes())),
            _ => drop(
                source
                    .files
                    .insert(path.into_bytes(), vec![0; n as usize % 9]),
            ),
        }
    }
    let two = take(&repository, &mut source).manifest;
    let (lines, _) = differences(&repository, all(&one), all(&two));
    let mut expected: Vec<String> = Vec::new();
    let paths: std::collections::BTreeSet<_> = before.keys().chain(source.files.keys()).collect();
    for path in paths {
        let mark = match (before.get(path), source.files.get(path)) {
            (Some(_), None) => '-',
            (None, Some(_)) => '+',
            (Some(a), Some(b)) if a.len() != b.len() => 'M',
            (Some(a), Some(b)) if a != b => '?',
            _ => continue,
        };
        expected.push(format!("{mark}{}", String::from_utf8_lossy(path)));
    }
    assert_eq!(lines, expected);
}

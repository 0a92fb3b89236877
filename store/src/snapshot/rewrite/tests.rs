//! What a rewrite leaves, and that nothing but pages is stored for it.

use super::*;
use crate::browse;
use crate::crypto::Encryption;
use crate::entry::{Content, Meta};
use crate::forget::mark;
use crate::gc::{GcOptions, gc};
use crate::monitor::Silent;
use crate::testing::{MapSource, new_repository, noise, take};

fn options(exclude: &dyn Fn(&Entry) -> bool) -> RewriteOptions<'_> {
    RewriteOptions {
        exclude,
        host: None,
        time: None,
        dry_run: false,
    }
}

fn paths(repository: &Repository, manifest: &Manifest) -> Vec<String> {
    let mut paths = Vec::new();
    browse::list(repository, manifest, b"", true, &mut |entry| {
        paths.push(String::from_utf8_lossy(&entry.path).into_owned());
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    paths
}

fn source() -> MapSource {
    let mut source = MapSource::default();
    for path in [
        "a/secret/x",
        "a/secret/y/z",
        "a/public",
        "b/secret.txt",
        "b/w",
    ] {
        let bytes = noise(20_000, path);
        source.files.insert(path.into(), bytes);
    }
    source
}

fn is_secret(entry: &Entry) -> bool {
    entry.path.ends_with(b"/secret")
}

#[test]
fn what_is_excluded_goes_with_all_below_and_the_rest_survives_gc() {
    let (_, repository) = new_repository(Encryption::XChaCha20Poly1305, 2);
    let taken = take(&repository, &mut source()).manifest;
    let report = rewrite(&repository, &taken, &options(&is_secret)).unwrap();
    let removed = Removed {
        entries: 4,
        files: 2,
        bytes: 40_000,
    };
    assert_eq!(report.removed, removed);
    let new = report.manifest.unwrap();
    assert_eq!(new.origin, Some(taken.name));
    assert_ne!((new.id, new.name), (taken.id, taken.name));
    let same = (&new.time, &new.host, &new.paths, &new.tags);
    assert_eq!(same, (&taken.time, &taken.host, &taken.paths, &taken.tags));
    assert_eq!((new.files, new.bytes), (3, 60_000));
    assert!(
        new.new_bytes < 20_000,
        "{} new bytes: only pages",
        new.new_bytes
    );
    let left = ["a", "a/public", "b", "b/secret.txt", "b/w"];
    assert_eq!(paths(&repository, &new), left);
    assert_eq!(paths(&repository, &taken).len(), 9);

    mark(&repository, taken.name).unwrap();
    let all = GcOptions {
        force: true,
        ..GcOptions::default()
    };
    gc(&repository, &all, &Silent::default()).unwrap();
    let mut bytes = Vec::new();
    browse::cat(&repository, &new, b"a/public", &mut bytes).unwrap();
    assert_eq!(bytes, noise(20_000, "a/public"));
}

#[test]
fn the_tree_is_that_of_a_snapshot_without_the_entries() {
    let (_, repository) = new_repository(Encryption::None, 2);
    let mut source = source();
    for n in 0..2_000 {
        let path = format!("c/{n:05}-{}", "name".repeat(10));
        source.files.insert(path.into_bytes(), vec![n as u8]);
    }
    let whole = take(&repository, &mut source).manifest;
    source
        .files
        .retain(|path, _| !path.starts_with(b"c/007") && !path.starts_with(b"a/secret"));
    let without = take(&repository, &mut source).manifest;
    let exclude = |entry: &Entry| entry.path.starts_with(b"c/007") || is_secret(entry);
    let report = rewrite(&repository, &whole, &options(&exclude)).unwrap();
    let new = report.manifest.unwrap();
    assert_eq!(new.root, without.root);
    assert_eq!((new.new_bytes, new.entries), (0, without.entries));
}

#[test]
fn nothing_to_do_and_dry_runs_commit_nothing() {
    let (memory, repository) = new_repository(Encryption::None, 2);
    let taken = take(&repository, &mut source()).manifest;
    let before = memory.object_count();
    let none = |_: &Entry| false;
    let report = rewrite(&repository, &taken, &options(&none)).unwrap();
    assert!(report.manifest.is_none() && report.removed == Removed::default());
    let dry = RewriteOptions {
        dry_run: true,
        ..options(&is_secret)
    };
    let report = rewrite(&repository, &taken, &dry).unwrap();
    assert!(report.manifest.is_none() && report.removed.files == 2);
    assert_eq!(memory.object_count(), before);
    let host = RewriteOptions {
        host: Some("till".into()),
        ..options(&none)
    };
    let new = rewrite(&repository, &taken, &host)
        .unwrap()
        .manifest
        .unwrap();
    assert_eq!((new.host.as_str(), new.root), ("till", taken.root));
}

#[test]
fn the_first_name_that_stays_names_the_group() {
    let entry = |path: &str| Entry {
        path: path.into(),
        kind: Kind::File,
        meta: Meta::default(),
        content: Content::None,
        xattrs: vec![],
        group: Some(b"a".to_vec()),
    };
    let mut names = Names::default();
    let (mut a, mut b, mut c) = (entry("a"), entry("b"), entry("c"));
    names.meet(&mut a, true);
    names.meet(&mut b, false);
    names.meet(&mut c, false);
    assert_eq!(
        (b.group, c.group),
        (Some(b"b".to_vec()), Some(b"b".to_vec()))
    );
}

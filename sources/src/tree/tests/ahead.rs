//! A walk that is ahead of what is read gives the same, ends when nobody listens, and what it saw
//! long ago is looked at once more.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Duration;

use hucha_store::source::SourceError;

use super::*;

/// More than ever waits between walk and hand.
const FILES: usize = 3000;

fn ahead(base: &Path, is_ahead: bool) -> FileTree {
    let options = TreeOptions {
        exclude: Matcher::new(&["*.o"], &[]).unwrap(),
        ahead: is_ahead,
        ..TreeOptions::default()
    };
    tree_with(base, &["."], options)
}

fn large_tree(base: &Path) {
    for n in 0..FILES {
        let path = base.join(format!("d{}/e{}/f{n}", n % 7, n % 90));
        write(path, n.to_string().as_bytes());
    }
    write(base.join("d3/left-out.o"), b"o");
    fs::hard_link(base.join("d0/e0/f0"), base.join("d5/link")).unwrap();
    symlink("nowhere", base.join("d6/symlink")).unwrap();
    write(base.join("d2/closed"), b"closed");
    fs::set_permissions(base.join("d2/closed"), fs::Permissions::from_mode(0o000)).unwrap();
    set_xattr(&base.join("d1/e1/f1"), "user.a", b"1");
    set_xattr(&base.join("d1"), "user.b", b"2");
}

#[test]
fn a_walk_ahead_gives_the_same_as_one_in_step() {
    let (_keep, base) = folder();
    large_tree(&base);
    let walk = |is_ahead| {
        let mut kept = Kept::default();
        ahead(&base, is_ahead).push(&mut kept).unwrap();
        kept
    };
    let (step, ahead) = (walk(false), walk(true));
    assert!(step.entries.len() > FILES);
    assert_eq!(step.entries, ahead.entries);
    assert_eq!(step.runs, ahead.runs);
    assert_eq!(step.problems, ahead.problems);
    assert_eq!(step.excluded, ahead.excluded);
    assert_eq!((step.ended.len(), step.ended), (1, ahead.ended));
}

/// Stops at an entry.
struct Stopping(usize);

impl Sink for Stopping {
    fn entry(&mut self, _: Entry, _: Option<Open<'_>>) -> Result<(), Stop> {
        self.0 = self.0.checked_sub(1).ok_or(Stop)?;
        Ok(())
    }

    fn problem(&mut self, _: Problem) {}

    fn excluded(&mut self, _: &[u8]) {}
}

#[test]
fn a_sink_that_stops_ends_the_walk() {
    let (_keep, base) = folder();
    large_tree(&base);
    for at in [0, 1, 255, 256, 257, 1500, FILES] {
        let stopped = ahead(&base, true).push(&mut Stopping(at));
        assert!(matches!(stopped, Err(SourceError::Stopped)), "at {at}");
    }
    assert!(ahead(&base, true).push(&mut Stopping(2 * FILES)).is_ok());
}

#[test]
fn a_sink_that_panics_ends_the_walk() {
    struct Panicking;
    impl Sink for Panicking {
        fn entry(&mut self, _: Entry, _: Option<Open<'_>>) -> Result<(), Stop> {
            panic!("as wanted")
        }
        fn problem(&mut self, _: Problem) {}
        fn excluded(&mut self, _: &[u8]) {}
    }
    let (_keep, base) = folder();
    large_tree(&base);
    let mut tree = ahead(&base, true);
    let push = || tree.push(&mut Panicking);
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(push)).is_err());
}

#[test]
fn what_was_seen_long_ago_is_looked_at_again_before_it_is_read() {
    let (_keep, base) = folder();
    write(base.join("a"), b"a");
    write(base.join("b"), b"short");
    let file = base.join("b");
    let meddle = move |path: &[u8], reading: bool| {
        if path == b"a" && !reading {
            // The walk may have been here already.
            fs::write(&file, b"somewhat longer").unwrap();
        }
    };
    let mut kept = Kept {
        meddle: Some(Box::new(meddle)),
        ..Kept::default()
    };
    let mut tree = ahead(&base, true);
    tree.late = Some(Duration::ZERO);
    tree.push(&mut kept).unwrap();
    assert_eq!(kept.problems, []);
    assert_eq!(kept.bytes("b"), b"somewhat longer");
    assert_eq!(kept.entry("b").meta.size, 15);
}

/// Has the attributes of everything, and notes what it was asked for.
#[derive(Default)]
struct Knowing {
    asked: Vec<Vec<u8>>,
    kept: Kept,
}

impl Sink for Knowing {
    fn has_attributes(&mut self, entry: &Entry) -> Result<bool, Stop> {
        self.asked.push(entry.path.clone());
        Ok(true)
    }

    fn entry(&mut self, entry: Entry, contents: Option<Open<'_>>) -> Result<(), Stop> {
        Sink::entry(&mut self.kept, entry, contents)
    }

    fn problem(&mut self, problem: Problem) {
        self.kept.problem(problem);
    }

    fn excluded(&mut self, path: &[u8]) {
        self.kept.excluded(path);
    }
}

#[test]
fn attributes_that_the_sink_has_are_not_read() {
    let (_keep, base) = folder();
    for name in ["a", "b", "folder/c"] {
        write(base.join(name), name.as_bytes());
        set_xattr(&base.join(name), "user.a", b"1");
    }
    set_xattr(&base.join("folder"), "user.a", b"1");
    fs::hard_link(base.join("b"), base.join("link")).unwrap();
    symlink("a", base.join("symlink")).unwrap();
    let mut knowing = Knowing::default();
    ahead(&base, false).push(&mut knowing).unwrap();
    // Files with one name; all else is read.
    assert_eq!(knowing.asked, [&b"a"[..], b"folder/c"]);
    let count = |path| knowing.kept.entry(path).xattrs.len();
    let counts = ["a", "b", "folder", "folder/c", "link"].map(count);
    assert_eq!(counts, [0, 1, 1, 0, 1]);
}

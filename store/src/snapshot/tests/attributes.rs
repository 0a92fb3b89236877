//! Attributes of unchanged files come from the parent, where it has all of them.

use super::*;
use crate::entry::{Entry, Kind, Xattr};

/// A tree whose files have an attribute, which is read when the sink has it not.
struct Labelled {
    tree: MapSource,
    value: Vec<u8>,
    /// Something is told to be unreadable.
    is_troubled: bool,
    /// Files change after the sink was asked.
    changes: bool,
    /// Files whose attributes were not read.
    spared: usize,
}

fn labelled() -> Labelled {
    let mut tree = MapSource::default();
    for n in 0..10 {
        tree.files
            .insert(format!("d/f{n}").into_bytes(), noise(2000, &n.to_string()));
    }
    Labelled {
        tree,
        value: b"value".to_vec(),
        is_troubled: false,
        changes: false,
        spared: 0,
    }
}

impl Source for Labelled {
    fn paths(&self) -> Vec<Vec<u8>> {
        self.tree.paths()
    }

    fn push(&mut self, sink: &mut dyn Sink) -> Result<(), SourceError> {
        self.spared = 0;
        if self.is_troubled {
            sink.problem(Problem {
                path: b"d".to_vec(),
                message: "as wanted".into(),
            });
        }
        self.tree.push(&mut LabellingSink {
            sink,
            value: &self.value,
            changes: self.changes,
            spared: &mut self.spared,
        })
    }
}

struct LabellingSink<'a> {
    sink: &'a mut dyn Sink,
    value: &'a [u8],
    changes: bool,
    spared: &'a mut usize,
}

impl Sink for LabellingSink<'_> {
    fn entry(&mut self, mut entry: Entry, contents: Option<Open<'_>>) -> Result<(), Stop> {
        if entry.kind == Kind::File {
            if self.sink.has_attributes(&entry)? {
                *self.spared += 1;
            } else {
                entry.xattrs = vec![Xattr {
                    name: b"user.label".to_vec(),
                    value: self.value.to_vec(),
                }];
                entry.meta.mtime.seconds += i64::from(self.changes);
            }
        }
        self.sink.entry(entry, contents)
    }

    fn problem(&mut self, problem: Problem) {
        self.sink.problem(problem);
    }

    fn excluded(&mut self, path: &[u8]) {
        self.sink.excluded(path);
    }
}

fn every_user(user: &str) -> SnapshotOptions {
    SnapshotOptions {
        user: user.into(),
        ..every(u64::MAX)
    }
}

#[test]
fn attributes_of_unchanged_files_are_those_of_the_parent() {
    for threads in [0, 3] {
        let (_, repository) = new_repository(Encryption::None, threads);
        let mut source = labelled();
        let options = every_user("ana");
        let first = run(&repository, &mut source, &options).unwrap();
        assert_eq!((source.spared, source.tree.opened), (0, 10));
        let second = run(&repository, &mut source, &options).unwrap();
        assert_eq!((source.spared, source.tree.opened), (10, 10));
        assert_eq!(first.manifest.root, second.manifest.root);
        source
            .tree
            .files
            .insert(b"d/f3".to_vec(), noise(2000, "new"));
        let third = run(&repository, &mut source, &options).unwrap();
        assert_eq!((source.spared, source.tree.opened), (9, 11));
        let anew = SnapshotOptions {
            parent: ParentChoice::None,
            ..options
        };
        let whole = run(&repository, &mut source, &anew).unwrap();
        assert_eq!(source.spared, 0);
        assert_eq!(
            whole.manifest.root, third.manifest.root,
            "as if all were read"
        );
    }
}

#[test]
fn attributes_are_read_where_the_parent_may_lack_some() {
    let no_ctime = SnapshotOptions {
        compare: Compare {
            ctime: false,
            ..Compare::default()
        },
        ..every_user("ana")
    };
    let cases = [
        ("another user", every_user("bob"), false, 5),
        ("ctime counts for nothing", no_ctime, false, 5),
        ("something was left out", every_user("ana"), true, 5),
        ("they stand elsewhere", every_user("ana"), false, 5000),
    ];
    for (why, options, is_troubled, bytes) in cases {
        let (_, repository) = new_repository(Encryption::None, 0);
        let mut source = labelled();
        source.value = vec![b'v'; bytes];
        source.is_troubled = is_troubled;
        run(&repository, &mut source, &every_user("ana")).unwrap();
        source.is_troubled = false;
        run(&repository, &mut source, &options).unwrap();
        assert_eq!((source.spared, source.tree.opened), (0, 10), "{why}");
    }
}

#[test]
fn a_file_that_changed_after_the_question_is_read() {
    let (_, repository) = new_repository(Encryption::None, 0);
    let mut source = labelled();
    run(&repository, &mut source, &every_user("ana")).unwrap();
    source.changes = true;
    run(&repository, &mut source, &every_user("bob")).unwrap();
    assert_eq!((source.spared, source.tree.opened), (0, 20));
}

//! Files that are read side by side: held back, kept by groups, put at their places.

use std::sync::{Arc, Mutex};

use super::*;
use crate::entry::{Entry, Kind, Meta, Xattr};
use crate::member::{Member, StreamFacts};
use crate::source::{Group, OpenOnce, Streamed, Streams};
use hucha_chunker::Profile;

/// A stream of so many numbered lines, which fails behind them when told to.
#[derive(Clone)]
struct Lines {
    path: &'static str,
    group: usize,
    count: u32,
    fails: bool,
}

struct Reading {
    left: std::io::Cursor<Vec<u8>>,
    fails: bool,
    facts: StreamFacts,
    _open: Open,
}

/// How many files of a group are open, and how many were at most.
type Count = Arc<Mutex<(usize, usize)>>;

/// An open file of a group.
struct Open(Count);

impl Open {
    fn count(count: &Count) -> Open {
        let mut now = count.lock().unwrap();
        now.0 += 1;
        now.1 = now.1.max(now.0);
        drop(now);
        Open(Arc::clone(count))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.lock().unwrap().0 -= 1;
    }
}

fn numbered(count: u32) -> Vec<u8> {
    (0..count)
        .flat_map(|n| format!("{n:07}\n").into_bytes())
        .collect()
}

impl Contents for Reading {
    fn next(&mut self, buffer: &mut [u8]) -> Result<Piece, ContentError> {
        match std::io::Read::read(&mut self.left, buffer) {
            Ok(0) if self.fails => Err(ContentError::Fatal("the connection broke".into())),
            Ok(0) => Ok(Piece::End),
            Ok(n) => Ok(Piece::Data(n)),
            Err(e) => Err(e.into()),
        }
    }

    fn attributes(&mut self) -> Vec<Xattr> {
        vec![self.facts.to_attribute()]
    }
}

/// Streams of some groups, with a tree of small files around them.
struct Several {
    groups: Vec<&'static str>,
    lines: Vec<Lines>,
    kept: Vec<usize>,
    tree: Vec<&'static str>,
    time: i64,
    failed: Vec<(usize, String)>,
    /// The path of a file whose thread ends by a panic.
    panics: &'static str,
    /// What is said of the members.
    rows: Option<u64>,
    at_once: usize,
    open: Vec<Count>,
}

fn entry(path: &str, kind: Kind, time: i64) -> Entry {
    Entry {
        path: path.into(),
        kind,
        meta: Meta {
            mtime: Timestamp {
                seconds: time,
                nanos: 0,
            },
            ..Meta::default()
        },
        content: crate::entry::Content::None,
        xattrs: vec![],
        group: None,
    }
}

impl Source for Several {
    fn paths(&self) -> Vec<Vec<u8>> {
        vec![b"several:".to_vec()]
    }

    fn push(&mut self, sink: &mut dyn Sink) -> Result<(), SourceError> {
        let time = self.time;
        let file = |lines: Lines| {
            let read = lines.clone();
            let count = Arc::clone(&self.open[lines.group]);
            let panics = self.panics == lines.path;
            let open: OpenOnce<'static> = Box::new(move || {
                assert!(!panics, "a bug of a source");
                let facts = StreamFacts {
                    rows: vec![("t".into(), u64::from(read.count))],
                    ..StreamFacts::default()
                };
                Ok(Box::new(Reading {
                    left: std::io::Cursor::new(numbered(read.count)),
                    fails: read.fails,
                    facts,
                    _open: Open::count(&count),
                }) as Box<dyn Contents>)
            });
            Streamed {
                entry: entry(lines.path, Kind::File, time),
                group: lines.group,
                profile: Profile::DUMP,
                open: Some(open),
            }
        };
        let folder = |path: &str| Streamed {
            entry: entry(path, Kind::Folder, time),
            group: 1,
            profile: Profile::DUMP,
            open: None,
        };
        let mut files: Vec<Streamed<'_>> = self.lines.iter().cloned().map(file).collect();
        files.splice(1..1, ["s", "s/m"].map(folder));
        self.failed = sink.streams(Streams {
            groups: (self.groups.iter())
                .map(|path| Group {
                    path: path.as_bytes().to_vec(),
                    at_once: self.at_once,
                })
                .collect(),
            files,
            at_once: 3,
        })?;
        for group in &self.kept {
            let name = self.groups[*group].to_owned();
            sink.keep(
                *group,
                Member {
                    name,
                    rows: self.rows,
                    ..Member::default()
                },
            )?;
        }
        for path in &self.tree {
            sink.entry(entry(path, Kind::Folder, 5), None)?;
        }
        Ok(())
    }
}

fn several() -> Several {
    let lines = |path, group, count| Lines {
        path,
        group,
        count,
        fails: false,
    };
    Several {
        groups: vec!["a.db", "s/m"],
        lines: vec![
            lines("a.db", 0, 60_000),
            lines("s/m/empty", 1, 0),
            lines("s/m/large", 1, 100_000),
            lines("s/m/small", 1, 20),
        ],
        kept: vec![0, 1],
        tree: vec!["", "a", "b", "s", "z"],
        time: 1,
        failed: vec![],
        panics: "",
        rows: None,
        at_once: 2,
        open: vec![Count::default(), Count::default()],
    }
}

fn listed(repository: &Repository, report: &SnapshotReport) -> Vec<(String, u64, i64)> {
    let mut all = Vec::new();
    crate::browse::list(repository, &report.manifest, b"", true, &mut |e| {
        let path = String::from_utf8_lossy(&e.path).into_owned();
        all.push((path, e.meta.size, e.meta.mtime.seconds));
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    all
}

fn both(check: &dyn Fn(&Repository)) {
    for threads in [0, 2] {
        let (_memory, repository) = new_repository(Encryption::None, threads);
        check(&repository);
    }
}

#[test]
fn streams_stand_at_their_places_with_what_is_known_of_them() {
    both(&|repository| {
        let report = run(repository, &mut several(), &options(1)).unwrap();
        assert_eq!(
            listed(repository, &report),
            [
                ("a".to_owned(), 0, 5),
                ("a.db".to_owned(), 480_000, 1),
                ("b".to_owned(), 0, 5),
                ("s".to_owned(), 0, 5),
                ("s/m".to_owned(), 0, 1),
                ("s/m/empty".to_owned(), 0, 1),
                ("s/m/large".to_owned(), 800_000, 1),
                ("s/m/small".to_owned(), 160, 1),
                ("z".to_owned(), 0, 5),
            ]
        );
        let names: Vec<_> = report.manifest.members.iter().map(|m| &m.name).collect();
        assert_eq!(names, ["a.db", "s/m"]);
        let large = crate::browse::entry(repository, &report.manifest, b"s/m/large").unwrap();
        let facts = StreamFacts::of_attributes(&large.xattrs).unwrap();
        assert_eq!(facts.total(), Some(100_000));
        let mut bytes = Vec::new();
        crate::browse::cat(repository, &report.manifest, b"s/m/large", &mut bytes).unwrap();
        assert!(bytes.ends_with(b"0099999\n") && bytes.len() == 800_000);
    });
}

#[test]
fn what_is_as_it_was_keeps_its_time_and_costs_nothing() {
    both(&|repository| {
        let first = run(repository, &mut several(), &options(1)).unwrap();
        let mut later = several();
        later.time = 2;
        later.lines[3].count = 21;
        let second = run(repository, &mut later, &options(2)).unwrap();
        assert_eq!(second.parent, Some(first.manifest.id));
        let times: Vec<_> = listed(repository, &second)
            .into_iter()
            .filter(|(path, ..)| path.contains('.') || path.contains("m/"))
            .map(|(path, _, time)| (path, time))
            .collect();
        let at = |path: &str, time| (path.to_owned(), time);
        assert_eq!(
            times,
            [
                at("a.db", 1),
                at("s/m/empty", 1),
                at("s/m/large", 1),
                at("s/m/small", 2)
            ]
        );
        assert_eq!(second.stored.new_chunks, 1, "the page");
    });
}

#[test]
fn a_group_that_failed_or_is_not_kept_leaves_nothing() {
    both(&|repository| {
        let mut source = several();
        source.lines[2].fails = true;
        source.kept = vec![0];
        let report = run(repository, &mut source, &options(1)).unwrap();
        assert_eq!(source.failed, [(1, "the connection broke".to_owned())]);
        let paths: Vec<_> = listed(repository, &report)
            .into_iter()
            .map(|e| e.0)
            .collect();
        assert_eq!(paths, ["a", "a.db", "b", "s", "z"]);

        let mut source = several();
        source.kept = vec![];
        let report = run(repository, &mut source, &options(2)).unwrap();
        let paths: Vec<_> = listed(repository, &report)
            .into_iter()
            .map(|e| e.0)
            .collect();
        assert_eq!(paths, ["a", "b", "s", "z"]);
    });
}

#[test]
fn an_entry_in_a_members_place_is_said_and_left_out() {
    both(&|repository| {
        let mut source = several();
        source.tree = vec!["", "a.db", "s/m", "s/m/other", "z"];
        let report = run(repository, &mut source, &options(1)).unwrap();
        assert!(report.manifest.incomplete);
        let said: Vec<_> = report.problems.iter().map(|p| p.path.as_slice()).collect();
        assert_eq!(said, [&b"a.db"[..], b"s/m", b"s/m/other"]);
        let files = listed(repository, &report);
        assert_eq!(files[0], ("a.db".to_owned(), 480_000, 1));
    });
}

#[test]
fn no_group_has_more_files_open_than_it_says() {
    for at_once in [1, 2] {
        let (_memory, repository) = new_repository(Encryption::None, 2);
        let mut source = several();
        source.at_once = at_once;
        let many = ["s/m/a", "s/m/b", "s/m/c", "s/m/d", "s/m/e", "s/m/f"];
        source.lines.truncate(1);
        source.lines.extend(many.map(|path| Lines {
            path,
            group: 1,
            count: 30_000,
            fails: false,
        }));
        let report = run(&repository, &mut source, &options(1)).unwrap();
        assert_eq!(listed(&repository, &report).len(), 12);
        for (group, count) in source.open.iter().enumerate() {
            let (now, most) = *count.lock().unwrap();
            assert_eq!(now, 0);
            assert!((1..=at_once).contains(&most), "group {group}: {most}");
        }
    }
}

#[test]
fn nobody_waits_for_a_thread_that_panicked() {
    let (_memory, repository) = new_repository(Encryption::None, 2);
    let mut source = several();
    (source.at_once, source.panics) = (1, "s/m/empty");
    let took = std::panic::AssertUnwindSafe(|| run(&repository, &mut source, &options(1)));
    assert!(std::panic::catch_unwind(took).is_err());
}

#[test]
fn a_member_whose_tables_are_all_gone_is_refused() {
    let counted = |rows| {
        let mut source = several();
        source.rows = rows;
        source
    };
    both(&|repository| {
        run(repository, &mut counted(Some(5)), &options(1)).unwrap();
        for rows in [Some(0), None] {
            let error = run(repository, &mut counted(rows), &options(2)).unwrap_err();
            assert!(error.to_string().contains("has no rows"), "{error}");
        }
        run(repository, &mut counted(Some(1)), &options(3)).unwrap();
        assert_eq!(SnapshotList::read(repository).unwrap().committed.len(), 2);
    });
}

fn options(time: i64) -> SnapshotOptions {
    SnapshotOptions {
        time: Timestamp {
            seconds: time,
            nanos: 0,
        },
        ..every(u64::MAX)
    }
}

//! Notes: who wins, what folding keeps, what readers see meanwhile.

use super::*;
use crate::backend::{Backend, Fault, Faulty, Memory};
use crate::check::{CheckOptions, check};
use crate::crypto::Encryption;
use crate::gc::{GcOptions, gc};
use crate::monitor::Silent;
use crate::testing::{MapSource, new_repository, open, take};

const ID: SnapshotId = SnapshotId([7; 16]);

fn tag(tag: &str, present: bool) -> Fact {
    Fact::Tag {
        snapshot: ID,
        tag: tag.into(),
        present,
    }
}

fn say(repository: &Repository, facts: &[Fact]) {
    put(repository, &Notes::read(repository).unwrap(), facts).unwrap();
}

fn names(repository: &Repository) -> Vec<Uuid> {
    repository.list_uuids(Area::Notes).unwrap()
}

fn manifest(repository: &Repository) -> Manifest {
    let mut source = MapSource::default();
    source.files.insert(b"a".to_vec(), b"text".to_vec());
    let mut manifest = take(repository, &mut source).manifest;
    manifest.id = ID;
    manifest.tags = vec!["old".into()];
    manifest
}

#[test]
fn the_newest_counts_for_each_field_and_tag_also_when_the_clock_stands_still() {
    for encryption in [Encryption::None, Encryption::XChaCha20Poly1305] {
        let (memory, repository) = new_repository(encryption, 0);
        let mut manifest = manifest(&repository);
        say(&repository, &[tag("a", true), tag("b", true)]);
        say(&repository, &[tag("b", false), tag("old", false)]);
        let protect = |protected| Fact::Protected {
            snapshot: ID,
            protected,
        };
        for turn in 0..5 {
            say(&repository, &[protect(turn % 2 == 0)]);
        }
        let label = "before the move".to_owned();
        say(
            &repository,
            &[Fact::Label {
                snapshot: ID,
                label,
            }],
        );
        let notes = Notes::read(&open(&memory, encryption, 0)).unwrap();
        notes.annotate(&mut manifest);
        assert_eq!(manifest.tags, ["a"]);
        assert_eq!(manifest.label.as_deref(), Some("before the move"));
        assert!(notes.is_protected(ID) && !notes.is_protected(SnapshotId([8; 16])));
        assert_eq!(notes.verified(ID), None);
    }
}

#[test]
fn parts_of_a_checks_state_stand_side_by_side() {
    let (_, repository) = new_repository(Encryption::None, 0);
    let state = |key: &[u8], value: &[u8]| Fact::CheckState {
        key: key.to_vec(),
        value: value.to_vec(),
    };
    let known = Notes::read(&repository).unwrap();
    put(
        &repository,
        &known,
        &[state(b"1", b"old"), state(b"2", b"x")],
    )
    .unwrap();
    let known = Notes::read(&repository).unwrap();
    // Two machines that both saw the same, and did different parts.
    put(&repository, &known, &[state(b"1", b"new")]).unwrap();
    put(&repository, &known, &[state(b"3", b"y")]).unwrap();
    let notes = Notes::read(&repository).unwrap();
    let parts: Vec<(&[u8], &[u8])> = notes.check_state().collect();
    assert_eq!(
        parts,
        [(&b"1"[..], &b"new"[..]), (b"2", b"x"), (b"3", b"y")]
    );
}

#[test]
fn verified_by_the_latest_proof() {
    let (_, repository) = new_repository(Encryption::None, 0);
    verified(&repository, [ID], Proof::Check).unwrap();
    let early = Fact::Verified {
        snapshot: ID,
        by: Proof::Restore,
        time: Timestamp::default(),
    };
    say(&repository, &[early]);
    let notes = Notes::read(&repository).unwrap();
    let now = repository.environment().clock.now();
    assert_eq!(notes.verified(ID), Some((now, Proof::Check)));
}

#[test]
fn many_notes_are_folded_into_one_that_says_the_same() {
    let (_, repository) = new_repository(Encryption::None, 0);
    let later = Note {
        name: fresh_uuid(),
        made: Timestamp::default(),
        supersedes: vec![],
        facts: vec![(
            FactKey {
                subject: Subject {
                    about: 9,
                    id: [1; 16],
                },
                field: 77,
                key: b"k".to_vec(),
            },
            Said {
                time: Timestamp::default(),
                note: Uuid([3; 16]),
                value: b"later".to_vec(),
            },
        )],
        strange: false,
    };
    put_note(&repository, &later).unwrap();
    let mut most = 0;
    for turn in 0..200u32 {
        say(
            &repository,
            &[tag(&format!("t{}", turn % 5), turn % 3 == 0)],
        );
        most = most.max(names(&repository).len());
    }
    assert_eq!(most, MANY);
    let before = Notes::read(&repository).unwrap();
    assert!(before.facts.values().any(|said| said.value == b"later"));
    let folded = fold(&repository, before.clone(), &|_| true).unwrap();
    assert!(folded > 1);
    assert_eq!(names(&repository).len(), 1);
    assert_eq!(Notes::read(&repository).unwrap().facts, before.facts);
}

#[test]
fn a_reader_finds_what_is_folded_while_it_reads() {
    /// Folds all notes before the first one is read.
    struct Folding {
        inner: Memory,
        done: std::sync::atomic::AtomicBool,
    }
    impl Backend for Folding {
        fn list(
            &self,
            area: Area,
            each: &mut dyn FnMut(crate::backend::Listed),
        ) -> Result<(), crate::backend::BackendError> {
            self.inner.list(area, each)
        }
        fn get(&self, key: &crate::backend::Key) -> Result<Vec<u8>, crate::backend::BackendError> {
            let first = !self.done.swap(true, std::sync::atomic::Ordering::SeqCst);
            if key.area() == Area::Notes && first {
                let other = open(&self.inner, Encryption::None, 0);
                let notes = Notes::read(&other).unwrap();
                assert_eq!(fold(&other, notes, &|_| true).unwrap(), 3);
            } else if first {
                self.done.store(false, std::sync::atomic::Ordering::SeqCst);
            }
            self.inner.get(key)
        }
        fn get_range(
            &self,
            key: &crate::backend::Key,
            offset: u64,
            len: u64,
        ) -> Result<Vec<u8>, crate::backend::BackendError> {
            self.inner.get_range(key, offset, len)
        }
        fn put(
            &self,
            key: &crate::backend::Key,
            body: &crate::Sealed,
        ) -> Result<Put, crate::backend::BackendError> {
            self.inner.put(key, body)
        }
        fn delete(&self, key: &crate::backend::Key) -> Result<(), crate::backend::BackendError> {
            self.inner.delete(key)
        }
        fn location(&self) -> String {
            self.inner.location()
        }
    }
    let (memory, repository) = new_repository(Encryption::None, 0);
    for name in ["a", "b", "c"] {
        say(&repository, &[tag(name, true)]);
    }
    let reader = over(Folding {
        inner: memory,
        done: false.into(),
    });
    assert_eq!(Notes::read(&reader).unwrap().facts.len(), 3);
    assert_eq!(names(&reader).len(), 1);
}

#[test]
fn damaged_notes_are_passed_over_and_stay_and_gc_drops_what_is_gone() {
    let (memory, repository) = new_repository(Encryption::None, 0);
    let snapshot = manifest(&repository);
    let list = crate::snapshots::SnapshotList::read(&repository).unwrap();
    let id = list.committed[0].id;
    verified(&repository, [id], Proof::Check).unwrap();
    for turn in 0..SOME {
        // Said of a snapshot that is in nobody's list.
        say(&repository, &[tag(&turn.to_string(), true)]);
    }
    let bad = fresh_uuid();
    let garbage = crate::Sealed::from_stored(b"garbage".to_vec());
    memory.put(&uuid_key(Area::Notes, bad), &garbage).unwrap();
    assert_eq!(Notes::read(&repository).unwrap().unreadable.len(), 1);
    let report = check(&repository, &CheckOptions::default(), &Silent::default()).unwrap();
    let objects: Vec<String> = report.damage.into_iter().map(|d| d.object).collect();
    assert_eq!(objects, [format!("notes/{bad}")]);
    gc(&repository, &GcOptions::default(), &Silent::default()).unwrap();
    assert_eq!(names(&repository).len(), 2);
    let notes = Notes::read(&repository).unwrap();
    assert_eq!(notes.facts.len(), 1);
    assert!(notes.verified(id).is_some());
    assert!(notes.unreadable.iter().any(|(name, _)| *name == bad));
    assert_eq!(snapshot.id, ID);
}

#[test]
fn where_nothing_may_be_deleted_folding_does_not_pile_up() {
    /// Takes puts, refuses deletes.
    struct Keeping(Memory);
    impl Backend for Keeping {
        fn list(
            &self,
            area: Area,
            each: &mut dyn FnMut(crate::backend::Listed),
        ) -> Result<(), crate::backend::BackendError> {
            self.0.list(area, each)
        }
        fn get(&self, key: &crate::backend::Key) -> Result<Vec<u8>, crate::backend::BackendError> {
            self.0.get(key)
        }
        fn get_range(
            &self,
            key: &crate::backend::Key,
            offset: u64,
            len: u64,
        ) -> Result<Vec<u8>, crate::backend::BackendError> {
            self.0.get_range(key, offset, len)
        }
        fn put(
            &self,
            key: &crate::backend::Key,
            body: &crate::Sealed,
        ) -> Result<Put, crate::backend::BackendError> {
            self.0.put(key, body)
        }
        fn delete(&self, key: &crate::backend::Key) -> Result<(), crate::backend::BackendError> {
            Err(crate::backend::BackendError {
                operation: crate::backend::Operation::Delete,
                key: key.path(),
                trouble: crate::backend::Trouble::Refused,
                retry: false,
                source: None,
            })
        }
        fn location(&self) -> String {
            self.0.location()
        }
    }
    let (memory, _) = new_repository(Encryption::None, 0);
    let repository = over(Keeping(memory));
    for turn in 0..200u32 {
        say(&repository, &[tag("a", turn % 2 == 0)]);
    }
    assert_eq!(names(&repository).len(), 200 + 3, "one fold for every 64");
}

/// Opens what a backend holds.
fn over(backend: impl Backend + 'static) -> Repository {
    let credential = crate::testing::credential(Encryption::None);
    let environment = crate::testing::environment(0);
    Repository::open(std::sync::Arc::new(backend), &credential, environment).unwrap()
}

#[test]
fn whichever_call_of_a_fold_fails_nothing_that_was_said_is_lost() {
    for fault in [Fault::Before, Fault::LostAnswer, Fault::Full] {
        for n in 1.. {
            let (memory, repository) = new_repository(Encryption::None, 0);
            for name in ["a", "b", "c"] {
                say(&repository, &[tag(name, true)]);
            }
            let before = Notes::read(&repository).unwrap().facts;
            let faulty = std::sync::Arc::new(Faulty::new(memory));
            let other = over(faulty.clone());
            let at = faulty.calls() + n;
            faulty.fail_at(at, fault);
            let folded = Notes::read(&other).and_then(|notes| fold(&other, notes, &|_| true));
            assert_eq!(
                Notes::read(&repository).unwrap().facts,
                before,
                "{fault:?} {n}"
            );
            // And the next one tidies up.
            let again = Notes::read(&repository).unwrap();
            fold(&repository, again, &|_| true).unwrap();
            assert_eq!(Notes::read(&repository).unwrap().facts, before);
            assert_eq!(names(&repository).len(), 1);
            if faulty.calls() < at {
                folded.unwrap();
                assert_eq!(n, 14, "two lists, three gets, two puts, six deletes");
                break;
            }
        }
    }
}

#[test]
fn many_at_once_say_fold_and_read() {
    let (memory, repository) = new_repository(Encryption::None, 0);
    let (memory, repository) = (&memory, &repository);
    std::thread::scope(|scope| {
        for writer in 0..3 {
            scope.spawn(move || {
                let mine = open(memory, Encryption::None, 0);
                for turn in 0..60 {
                    say(&mine, &[tag(&format!("{writer}-{turn}"), true)]);
                    // What this one said is there from now on, whoever folds.
                    let seen = Notes::read(&mine).unwrap();
                    let own = |n: &i32| format!("{writer}-{n}").into_bytes();
                    let is_there = |n| seen.of(ID, field::TAG).any(|(tag, _)| tag == own(&n));
                    assert!((0..=turn).all(is_there), "{writer}-{turn}");
                }
            });
        }
        scope.spawn(move || {
            for _ in 0..40 {
                fold(repository, Notes::read(repository).unwrap(), &|_| true).unwrap();
            }
        });
    });
    let notes = Notes::read(repository).unwrap();
    assert_eq!(notes.of(ID, field::TAG).count(), 180);
}

#[test]
fn a_rewritten_snapshot_inherits_what_was_said() {
    let (_, repository) = new_repository(Encryption::None, 0);
    let other = SnapshotId([9; 16]);
    let label = "x".to_owned();
    let protected = Fact::Protected {
        snapshot: ID,
        protected: true,
    };
    say(&repository, &[tag("a", true), tag("b", false), protected]);
    say(
        &repository,
        &[Fact::Label {
            snapshot: ID,
            label,
        }],
    );
    verified(&repository, [ID], Proof::Check).unwrap();
    let known = Notes::read(&repository).unwrap();
    put(&repository, &known, &known.inherited(ID, other)).unwrap();
    let notes = Notes::read(&repository).unwrap();
    let mut heir = manifest(&repository);
    (heir.id, heir.tags) = (other, vec!["b".into()]);
    notes.annotate(&mut heir);
    assert_eq!(
        (heir.tags, heir.label),
        (vec!["a".into()], Some("x".into()))
    );
    assert!(notes.is_protected(other) && notes.verified(other).is_none());
}

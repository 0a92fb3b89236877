//! Manifests and notes that are lost come back from their copies, and copies from them.

use super::*;
use crate::copies::copy_key;
use crate::forget::undelete;
use crate::id::Uuid;
use crate::notes::{Fact, Notes};

fn committed(memory: &Memory) -> Vec<Manifest> {
    let repository = open(memory, PLAIN, 0);
    SnapshotList::read(&repository).unwrap().committed
}

/// What a manifest says, but for its name and where it came from.
fn said(manifest: &Manifest) -> Manifest {
    Manifest {
        name: Uuid([0; 16]),
        origin: None,
        ..manifest.clone()
    }
}

#[test]
fn a_lost_manifest_comes_back_from_its_copy() {
    let (memory, source) = two(SEALED);
    let repository = open(&memory, SEALED, 0);
    let whole = SnapshotList::read(&repository).unwrap().committed;
    for (at, how) in [0, 1].into_iter().flat_map(|at| HARMS.map(|h| (at, h))) {
        let memory = memory.fork();
        let lost = &whole[at];
        harm(&memory, &uuid_key(Area::Snapshots, lost.name), how);
        // Everything goes on as before, and the damage is told.
        assert_restores(&memory, SEALED, &source);
        let stranger = open(&memory, SEALED, 0);
        let list = SnapshotList::read(&stranger).unwrap();
        assert_eq!(list.committed, whole);
        assert!(list.flawed.contains_key(&lost.name) && list.unreadable.is_empty());
        assert_eq!(damage(&memory, SEALED).len(), 1);
        // What else is hidden nobody knows when one is missing: gc stops.
        assert_eq!(collect(&memory, SEALED).is_err(), how == Harm::Remove);
        let report = fix(&memory, SEALED);
        assert_eq!((report.done.len(), report.losses.len()), (1, 0), "{how:?}");
        let after = SnapshotList::read(&stranger).unwrap();
        assert!(after.committed.iter().all(|m| m.name != lost.name));
        assert!(after.committed.iter().any(|m| said(m) == said(lost)));
        assert_eq!(after.committed.len(), 2);
        assert_whole(&memory, SEALED);
        assert!(fix(&memory, SEALED).done.is_empty(), "once is enough");
        collect(&memory, SEALED).unwrap();
        assert!(memory.get(&uuid_key(Area::Snapshots, lost.name)).is_err());
        assert!(memory.get(&copy_key(Area::Snapshots, lost.name)).is_err());
        assert_whole(&memory, SEALED);
        assert_restores(&memory, SEALED, &source);
    }
}

/// Between commit and marker.
#[test]
fn an_interrupted_repair_of_a_manifest_only_marks() {
    let (memory, source) = two(PLAIN);
    let lost = committed(&memory).remove(0);
    harm(&memory, &uuid_key(Area::Snapshots, lost.name), Harm::Remove);
    let repository = open(&memory, PLAIN, 0);
    republish(&repository, &again(&lost)).unwrap().unwrap();
    assert_eq!(committed(&memory).len(), 3);
    let report = fix(&memory, PLAIN);
    assert_eq!((report.done.len(), report.losses.len()), (1, 0));
    assert_eq!(committed(&memory).len(), 2);
    collect(&memory, PLAIN).unwrap();
    assert_whole(&memory, PLAIN);
    assert_restores(&memory, PLAIN, &source);
}

#[test]
fn a_lost_copy_is_made_again() {
    let (memory, source) = two(PLAIN);
    for key in keys(&memory, Area::Copies) {
        for how in HARMS {
            let memory = memory.fork();
            harm(&memory, &key, how);
            let told = damage(&memory, PLAIN).len();
            assert_eq!(told, usize::from(how != Harm::Remove), "{key} {how:?}");
            match how {
                // That there was one is written nowhere: gc makes it, without a word.
                Harm::Remove => drop(collect(&memory, PLAIN).unwrap()),
                _ => assert_eq!(fix(&memory, PLAIN).done.len(), 1),
            }
            assert!(memory.get(&key).is_ok());
            assert_whole(&memory, PLAIN);
            assert_eq!(committed(&memory).len(), 2);
            assert_restores(&memory, PLAIN, &source);
        }
    }
}

#[test]
fn a_manifest_and_data_lost_at_once_are_told_and_given_up() {
    let (memory, source) = two(PLAIN);
    let lost = committed(&memory).remove(0);
    harm(&memory, &uuid_key(Area::Snapshots, lost.name), Harm::Flip);
    harm(
        &memory,
        &pack_of(&memory, &source.files[&b"a/one"[..]]),
        Harm::Remove,
    );
    assert_eq!(fix(&memory, PLAIN).losses.len(), 2, "both snapshots");
    give_up(&memory);
    collect(&memory, PLAIN).unwrap();
    assert_whole(&memory, PLAIN);
    let names: Vec<Uuid> = committed(&memory).iter().map(|m| m.name).collect();
    assert!(names.len() == 2 && !names.contains(&lost.name));
}

#[test]
fn a_forgotten_snapshot_is_taken_back_from_its_copy() {
    for how in HARMS {
        let (memory, source) = two(PLAIN);
        let repository = open(&memory, PLAIN, 0);
        let lost = committed(&memory).remove(0);
        mark(&repository, lost.name).unwrap();
        harm(&memory, &uuid_key(Area::Snapshots, lost.name), how);
        assert_whole(&memory, PLAIN);
        assert!(fix(&memory, PLAIN).losses.is_empty());
        let forgotten = SnapshotList::read(&repository).unwrap().forgotten;
        undelete(&repository, &forgotten[0]).unwrap();
        assert_eq!(committed(&memory).len(), 2);
        collect(&memory, PLAIN).unwrap();
        let copies = keys(&memory, Area::Copies);
        let of_snapshots = copies.iter().filter(|k| k.name().starts_with("snapshots."));
        assert_eq!(of_snapshots.count(), 2);
        assert_whole(&memory, PLAIN);
        assert_restores(&memory, PLAIN, &source);
    }
}

#[test]
fn a_lost_note_comes_back_from_its_copy() {
    for how in HARMS {
        let (memory, _) = two(PLAIN);
        let repository = open(&memory, PLAIN, 0);
        let snapshot = committed(&memory)[0].id;
        let protected = Fact::Protected {
            snapshot,
            protected: true,
        };
        let notes = || Notes::read(&repository).unwrap();
        crate::notes::put(&repository, &notes(), &[protected]).unwrap();
        let key = keys(&memory, Area::Notes).remove(0);
        harm(&memory, &key, how);
        assert!(notes().is_protected(snapshot), "{how:?}");
        assert_eq!(damage(&memory, PLAIN).len(), 1);
        let report = fix(&memory, PLAIN);
        assert_eq!((report.done.len(), report.losses.len()), (1, 0));
        assert!(memory.get(&key).is_ok());
        assert_whole(&memory, PLAIN);
        // Both lost: told, and removed when it is given up.
        for name in keys(&memory, Area::Copies) {
            if name.name().starts_with("notes.") {
                harm(&memory, &name, Harm::Flip);
            }
        }
        let bad = keys(&memory, Area::Notes);
        bad.iter().for_each(|key| harm(&memory, key, Harm::Flip));
        assert!(!fix(&memory, PLAIN).losses.is_empty());
        give_up(&memory);
        assert_whole(&memory, PLAIN);
        assert!(bad.iter().all(|key| memory.get(key).is_err()));
    }
}

/// A copy that is put after its note was folded tells of no loss.
#[test]
fn a_late_copy_of_a_note_is_no_damage() {
    let (memory, _) = two(PLAIN);
    let repository = open(&memory, PLAIN, 0);
    let snapshot = committed(&memory)[0].id;
    for present in [true, false] {
        let tag = Fact::Tag {
            snapshot,
            tag: "a".into(),
            present,
        };
        let notes = Notes::read(&repository).unwrap();
        crate::notes::put(&repository, &notes, &[tag]).unwrap();
    }
    let late = keys(&memory, Area::Copies);
    let late = late
        .iter()
        .find(|k| k.name().starts_with("notes."))
        .unwrap();
    let bytes = memory.get(late).unwrap();
    let notes = Notes::read(&repository).unwrap();
    crate::notes::fold(&repository, notes, &|_| true).unwrap();
    assert!(memory.get(late).is_err());
    memory.replace(late, bytes);
    assert_whole(&memory, PLAIN);
    let mut manifest = committed(&memory).remove(0);
    Notes::read(&repository).unwrap().annotate(&mut manifest);
    assert!(manifest.tags.is_empty());
}

/// A writer whose session still stands, be it that it was killed or that it may not delete.
#[test]
fn gc_puts_no_tombstone_over_a_lost_manifest() {
    for settled in [false, true] {
        let (memory, source) = two(PLAIN);
        let repository = open(&memory, PLAIN, 0);
        let session = Session::open(&repository, SessionKind::Writer).unwrap();
        let name = session.name();
        let mut manifest = committed(&memory).remove(1);
        (manifest.name, manifest.id) = (name, crate::id::SnapshotId([7; 16]));
        session.commit(&manifest).unwrap();
        let key = uuid_key(Area::Snapshots, name);
        harm(&memory, &key, Harm::Remove);
        if settled {
            settle(&repository, name).unwrap();
        }
        assert!(matches!(
            collect(&memory, PLAIN),
            Err(GcError::MissingSnapshot(lost)) if lost == name
        ));
        assert_eq!(memory.get(&key).is_ok(), settled);
        assert!(!damage(&memory, PLAIN).is_empty());
        let report = fix(&memory, PLAIN);
        assert_eq!((report.done.len(), report.losses.len()), (1, 0));
        collect(&memory, PLAIN).unwrap();
        assert!(committed(&memory).iter().any(|m| m.id == manifest.id));
        assert_whole(&memory, PLAIN);
        assert_restores(&memory, PLAIN, &source);
    }
}

#[test]
fn a_note_that_is_lost_for_good_is_told_and_keeps_all_from_being_forgotten() {
    let (memory, _) = two(PLAIN);
    let repository = open(&memory, PLAIN, 0);
    let manifest = committed(&memory).remove(0);
    let protected = Fact::Protected {
        snapshot: manifest.id,
        protected: true,
    };
    let notes = || Notes::read(&repository).unwrap();
    crate::notes::put(&repository, &notes(), &[protected]).unwrap();
    harm(&memory, &keys(&memory, Area::Notes)[0], Harm::Remove);
    let copies = keys(&memory, Area::Copies);
    let copy = copies.iter().find(|k| k.name().starts_with("notes."));
    harm(&memory, copy.unwrap(), Harm::Flip);
    let forget = || crate::forget::forget(&repository, &manifest, &notes());
    assert!(matches!(
        forget(),
        Err(crate::forget::ForgetError::Unknown(_))
    ));
    assert_eq!(fix(&memory, PLAIN).losses.len(), 1);
    assert!(memory.get(copy.unwrap()).is_ok(), "nothing is removed");
    give_up(&memory);
    assert_whole(&memory, PLAIN);
    assert!(forget().unwrap());
}

/// A snapshot that was forgotten while a repair looked at everything stays forgotten.
#[test]
fn what_was_forgotten_is_not_put_back() {
    let (memory, _) = two(PLAIN);
    let lost = committed(&memory).remove(0);
    harm(&memory, &uuid_key(Area::Snapshots, lost.name), Harm::Flip);
    let repository = open(&memory, PLAIN, 0);
    mark(&repository, lost.name).unwrap();
    assert!(fix(&memory, PLAIN).done.is_empty());
    assert_eq!(committed(&memory).len(), 1);
}

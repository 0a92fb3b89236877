//! Listings that lack a name, each in turn: one without a pack or a segment gives growth or a stop,
//! never loss; one without a snapshot or marker that this machine has seen stops gc.

use std::sync::Arc;

use super::scene::{Scene, holds, source, thorough};
use crate::backend::{Area, Backend, Faulty, Key, Memory};
use crate::gc::{GcError, gc};
use crate::monitor::Silent;
use crate::testing::take;

/// What is done while a name is missing.
#[derive(Debug, Clone, Copy)]
enum Act {
    /// A snapshot of what stands already, of new files, and of both.
    Snapshot(u32),
    /// A gc by a machine that knows the repository, or by one that sees it for the first time.
    Gc { known: bool },
}

/// What may come of it, beside that all that stands is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// It succeeds. More may be stored than was needed.
    Growth,
    /// It succeeds or stops.
    GrowthOrStop,
    /// It stops, because it knows better.
    Stop,
}

const TABLE: &[(Area, Act, Outcome)] = &[
    (Area::Packs, Act::Snapshot(0), Outcome::Growth),
    (Area::Packs, Act::Snapshot(1), Outcome::Growth),
    (Area::Packs, Act::Snapshot(7), Outcome::Growth),
    (Area::Index, Act::Snapshot(0), Outcome::Growth),
    (Area::Index, Act::Snapshot(1), Outcome::Growth),
    (Area::Index, Act::Snapshot(7), Outcome::Growth),
    (Area::Packs, Act::Gc { known: true }, Outcome::GrowthOrStop),
    (Area::Packs, Act::Gc { known: false }, Outcome::GrowthOrStop),
    (Area::Index, Act::Gc { known: true }, Outcome::GrowthOrStop),
    (Area::Index, Act::Gc { known: false }, Outcome::GrowthOrStop),
    (Area::Snapshots, Act::Gc { known: true }, Outcome::Stop),
    (
        Area::Snapshots,
        Act::Gc { known: false },
        Outcome::GrowthOrStop,
    ),
    (Area::Trash, Act::Gc { known: true }, Outcome::Stop),
    (Area::Copies, Act::Gc { known: true }, Outcome::Growth),
    (Area::Copies, Act::Snapshot(7), Outcome::Growth),
];

/// Living packs, dead ones, partly dead ones, deltas; forgotten snapshots; what a writer left.
fn history() -> Scene {
    let scene = Scene::empty().deltas().snapshot(0).snapshot(1).snapshot(2);
    let scene = scene.dead_writer().forget().snapshot(3);
    // This machine has seen it all.
    scene.plan().unwrap();
    scene
}

fn names(memory: &Memory, area: Area) -> Vec<String> {
    let mut names = Vec::new();
    memory
        .list(area, &mut |listed| names.push(listed.name))
        .unwrap();
    names
}

/// Does it on a copy whose listings lack one name, and judges. Answers whether it succeeded.
fn act(before: &Scene, act: Act, missing: Key) -> bool {
    let mut scene = before.fork();
    if let Act::Gc { known: false } = act {
        scene = scene.stranger().fork();
    }
    let faulty = Arc::new(Faulty::new(scene.memory.clone()));
    faulty.hide(missing.clone());
    let repository = scene
        .open_at(Arc::<Faulty<Memory>>::clone(&faulty))
        .unwrap();
    let succeeded = match act {
        Act::Snapshot(version) => {
            let manifest = take(&repository, &mut source(version)).manifest;
            holds(&scene.stranger().open(), &manifest, &source(version)).unwrap();
            true
        }
        Act::Gc { .. } => gc(&repository, &thorough(), &Silent::default()).is_ok(),
    };
    let context = |e| panic!("{act:?} without {missing}: {e}");
    scene.judge().unwrap_or_else(context);
    // When listings are whole again the next gc works, and all is still there.
    faulty.show_all();
    before.stranger().judge().unwrap_or_else(context);
    scene.tidy().map(drop).unwrap_or_else(context);
    scene.judge().unwrap_or_else(context);
    succeeded
}

#[test]
fn a_listing_that_lacks_any_one_name_loses_nothing() {
    let before = history();
    for (area, what, outcome) in TABLE {
        let names = names(&before.memory, *area);
        assert!(!names.is_empty(), "{area:?}: nothing to hide");
        // A manifest that is marked goes with the next gc: nobody misses it.
        let marked = self::names(&before.memory, Area::Trash);
        let spared = |name: &&String| *area != Area::Snapshots || !marked.contains(name);
        let mut done = 0;
        for name in names.iter().filter(spared) {
            let succeeded = act(&before, *what, Key::new(*area, name).unwrap());
            match outcome {
                Outcome::Growth => assert!(succeeded, "{what:?} without {name}"),
                Outcome::GrowthOrStop => {}
                Outcome::Stop => assert!(!succeeded, "{what:?} goes on without {area:?} {name}"),
            }
            done += u32::from(succeeded);
        }
        let all = names.len();
        println!("{what:?}, {area:?} without each of {all} names: {done} succeeded, {outcome:?}");
    }
}

/// It says what is missing; and a machine that has never seen the name cannot know.
#[test]
fn gc_names_what_is_not_listed_any_more() {
    let before = history();
    for (area, word) in [(Area::Snapshots, "snapshot"), (Area::Trash, "marker")] {
        let marked = names(&before.memory, Area::Trash);
        let mut seen = names(&before.memory, area).into_iter();
        let name = seen.rfind(|name| area == Area::Trash || !marked.contains(name));
        let name = name.unwrap();
        let scene = before.fork();
        let faulty = Arc::new(Faulty::new(scene.memory.clone()));
        faulty.hide(Key::new(area, &name).unwrap());
        let repository = scene.open_at(faulty).unwrap();
        let count = scene.memory.object_count();
        match gc(&repository, &thorough(), &Silent::default()) {
            Err(GcError::ListingShrank(what)) => assert_eq!(what, format!("{word} {name}")),
            other => panic!("{other:?}"),
        }
        // What a dead writer left may be fenced before that; no pack or segment goes.
        assert!(scene.memory.object_count() + 1 >= count);
        for area in [Area::Packs, Area::Index, Area::Snapshots, Area::Trash] {
            let gone = |name| !names(&scene.memory, area).contains(name);
            assert!(!names(&before.memory, area).iter().any(gone));
        }
    }
}

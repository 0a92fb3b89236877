//! The explorer finds what it is meant to find: with a fix switched off it sees a snapshot lose
//! data, within the bounds that it keeps everywhere else.

use super::cast::{Role, Scene, Troupe};
use super::search::{Bound, Found, Way, explore, explore_by};
use super::start::Start;
use super::tests::{forgotten, half_swept, is_full, plain, retired, stranded};
use crate::gc::Fence;
use crate::holes::Hole;

const BOUND: Bound = Bound {
    decisions: 2,
    faults: true,
};

fn search(decisions: usize, start: &Start, roles: [Role; 2], hole: Option<Hole>) -> Found {
    let mut scene = Scene::of(start, &roles);
    scene.hole = hole;
    scene.start.oracle.lenient = hole.is_some();
    let bound = Bound { decisions, ..BOUND };
    explore(&Troupe::new(2), &scene, bound)
}

/// With the hole open a snapshot loses a chunk; with all holes closed nothing does.
fn finds(start: &Start, roles: [Role; 2], hole: Hole) {
    finds_within(BOUND.decisions, start, roles, hole);
}

/// The same with so many decisions at most.
fn finds_within(decisions: usize, start: &Start, roles: [Role; 2], hole: Hole) {
    let found = search(decisions, start, roles, Some(hole));
    let (schedule, why) = found.violation.expect("the hole is found");
    println!(
        "{hole:?} after {} schedules: {why} by {schedule:?}",
        found.schedules
    );
    // What is lost before the commit is met by the commit itself.
    let told = ["has lost chunk", "is put before what it refers to"];
    assert!(told.iter().any(|t| why.contains(t)), "{why}");
    let closed = search(decisions, start, roles, None);
    assert!(closed.violation.is_none(), "{:?}", closed.violation);
}

#[test]
fn finds_hole_stale_index() {
    let roles = [Role::Snapshot("ad"), Role::Forget(1)];
    finds(&retired(), roles, Hole::StaleIndex);
}

#[test]
fn finds_hole_stale_index_while_gc_runs() {
    let roles = [Role::Snapshot("ad"), Role::Gc(Fence::Auto)];
    finds(&forgotten(), roles, Hole::StaleIndex);
}

#[test]
fn finds_hole_free_name() {
    let roles = [Role::Snapshot("ad"), Role::Gc(Fence::Auto)];
    finds(&plain(), roles, Hole::FreeName);
}

#[test]
fn finds_hole_base_chain() {
    let roles = [Role::Snapshot("B"), Role::Forget(0)];
    finds(&stranded(), roles, Hole::BaseChain);
}

#[test]
fn finds_hole_no_waiting() {
    let roles = [Role::Snapshot("ad"), Role::Gc(Fence::Auto)];
    finds(&forgotten(), roles, Hole::NoWaiting);
}

#[test]
fn finds_hole_same_name() {
    let roles = [Role::Snapshot("ad"), Role::Gc(Fence::Now)];
    finds(&forgotten(), roles, Hole::SameName);
}

#[test]
fn finds_hole_blind_checkpoint() {
    let roles = [Role::Checkpoints("ad"), Role::Gc(Fence::Now)];
    finds_within(1, &forgotten(), roles, Hole::BlindCheckpoint);
}

#[test]
fn finds_hole_no_verify() {
    let roles = [Role::Gc(Fence::Auto), Role::Snapshot("ad")];
    finds(&forgotten(), roles, Hole::NoVerify);
}

/// Scenes for both searches, small ones unless everything is to be run.
fn compared() -> Vec<Scene> {
    let of = |start: &Start, roles: [Role; 2]| Scene::of(start, &roles);
    let open = |start: &Start, roles: [Role; 2], hole: Hole| {
        let mut scene = of(start, roles).with_hole(hole);
        scene.start.oracle.lenient = true;
        scene
    };
    let (take, auto, now) = (
        Role::Snapshot("ad"),
        Role::Gc(Fence::Auto),
        Role::Gc(Fence::Now),
    );
    let mut scenes = vec![
        of(&plain(), [take, Role::Merge]),
        of(&forgotten(), [Role::Undelete(0), Role::Fail("ad")]),
        of(&half_swept(), [Role::Merge, auto]),
        open(&retired(), [take, Role::Forget(1)], Hole::StaleIndex),
    ];
    if is_full() {
        scenes.push(of(&forgotten(), [now, take]));
        scenes.push(of(&half_swept(), [auto, now]));
        scenes.push(open(&forgotten(), [take, auto], Hole::StaleIndex));
        scenes.push(open(&forgotten(), [take, now], Hole::SameName));
        scenes.push(open(&plain(), [take, auto], Hole::FreeName));
        scenes.push(open(&forgotten(), [auto, take], Hole::NoVerify));
    }
    scenes
}

/// The reduced search comes to every end and every violation that the whole one comes to, and to
/// no other.
#[test]
fn a_reduced_search_misses_no_end() {
    let troupe = Troupe::new(2);
    for scene in compared() {
        let [whole, reduced] = [Way::Whole, Way::Through].map(|way| {
            let begun = std::time::Instant::now();
            let found = explore_by(&troupe, &scene, BOUND, way);
            let (ends, violations) = (found.ends.len(), found.violations.len());
            println!(
                "{} {:?} {way:?}: {} schedules, {} steps, {ends} ends, {violations} bad, {:?}",
                scene.describe(),
                scene.hole,
                found.schedules,
                found.steps,
                begun.elapsed()
            );
            found
        });
        assert_eq!(whole.violations, reduced.violations);
        assert_eq!(whole.ends, reduced.ends, "ends");
        assert!(scene.hole.is_some() || whole.violations.is_empty());
    }
}

//! The explorer finds what it is meant to find: with a fix switched off it sees a snapshot lose
//! data, within the bounds that it keeps everywhere else.

use super::cast::{Role, Scene, Troupe};
use super::search::{Bound, Found, explore};
use super::start::Start;
use super::tests::{forgotten, plain, retired, stranded};
use crate::gc::Fence;
use crate::holes::Hole;

const BOUND: Bound = Bound {
    decisions: 2,
    faults: true,
    deep: 1000,
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

//! Exhaustive and random runs.

use std::sync::Mutex;
use std::time::Instant;

use super::cast::{Role, Scene, Troupe};
use super::search::{Bound, explore, show};
use super::start::{Past, Start, thorough};
use crate::gc::{Fence, GcOptions, MaxUnused};
use crate::repair::Lost;

/// Whether everything is to be run.
pub(super) fn is_full() -> bool {
    std::env::var("HUCHA_TESTS").is_ok_and(|v| v == "full")
}

/// Two snapshots, the first forgotten; caches are older.
pub(super) fn forgotten() -> Start {
    let past = Past::new("forgotten").snapshot("ab").snapshot("bc");
    past.early().forget(0).done("forgotten")
}

/// Nothing forgotten.
pub(super) fn plain() -> Start {
    let past = Past::new("plain").snapshot("ab").early();
    past.snapshot("bc").done("plain")
}

/// What a dead writer left: a session, a pack without a segment; chunks that nothing refers to.
pub(super) fn ruins() -> Start {
    let past = Past::new("ruins").snapshot("ab").early();
    past.chunks(&[('d', ""), ('e', "")], true)
        .dead_writer("f")
        .done("ruins")
}

/// A list stands whose sweep was cut short, with nobody's sessions written down.
pub(super) fn half_swept() -> Start {
    let past = Past::new("half swept").snapshot("ab");
    past.chunks(&[('d', ""), ('e', "")], true)
        .early()
        .list("de", 1)
        .done("half swept")
}

/// A list condemns what a snapshot has come to need: only rescue keeps it.
pub(super) fn needed() -> Start {
    let past = Past::new("needed").snapshot("ab").early();
    past.list("a", 0).done("needed")
}

/// The only list was swept and retired, after the caches were filled.
pub(super) fn retired() -> Start {
    let past = Past::new("retired").snapshot("ad").snapshot("bc").early();
    past.forget(0)
        .gc(thorough(Fence::Now))
        .merge()
        .done("retired")
}

/// Chunks that are deltas of each other, in both directions.
pub(super) fn circle() -> Start {
    let past = Past::new("circle").chunks(&[('A', ""), ('B', "A"), ('B', ""), ('A', "B")], true);
    past.snapshot("A")
        .snapshot("Bc")
        .early()
        .forget(0)
        .done("circle")
}

/// As before; the plain ones are condemned.
pub(super) fn broken_circle() -> Start {
    let past = Past::new("broken circle").chunks(&[('A', ""), ('B', "A")], true);
    past.snapshot("c")
        .early()
        .list("A", 0)
        .done("broken circle")
}

/// A delta stays in a pack with a chunk that lives; its base was collected, its plain copy too.
pub(super) fn stranded() -> Start {
    let past = Past::new("stranded").chunks(&[('A', "")], true);
    let past = past.chunks(&[('B', "A"), ('c', "")], false);
    let lazy = GcOptions {
        max_unused: MaxUnused::Unlimited,
        ..thorough(Fence::Now)
    };
    past.snapshot("c").early().gc(lazy).merge().done("stranded")
}

/// All starts of the exhaustive part.
pub(super) fn starts() -> Vec<Start> {
    vec![
        forgotten(),
        plain(),
        ruins(),
        half_swept(),
        needed(),
        retired(),
        circle(),
        broken_circle(),
        stranded(),
    ]
}

/// Every role, with the letters that matter at a start.
fn roles(start: &Start) -> Vec<Role> {
    let letters = match start.name {
        "circle" | "broken circle" => "AB",
        "half swept" | "ruins" => "ade",
        "retired" => "bd",
        _ => "ad",
    };
    vec![
        Role::Snapshot(letters),
        Role::Gc(Fence::Auto),
        Role::Gc(Fence::Now),
        Role::Merge,
        Role::Forget(0),
        Role::Undelete(0),
        Role::Fail(letters),
    ]
}

/// A writer with checkpoints and each other role, in both orders.
fn checkpoint_scenes(start: &Start) -> Vec<Scene> {
    let all = roles(start);
    let Some(Role::Snapshot(letters)) = all.first() else {
        return Vec::new();
    };
    let mut scenes = Vec::new();
    let own = Role::Checkpoints(letters);
    for other in [own, Role::ForgetNew].iter().chain(&all) {
        for first in [0, 1] {
            let mut scene = Scene::of(start, &[own, *other]);
            scene.first = first;
            scenes.push(scene);
        }
    }
    scenes
}

/// Every ordered pair of roles at a start.
fn scenes(start: &Start) -> Vec<Scene> {
    let roles = roles(start);
    let mut scenes = Vec::new();
    for (n, one) in roles.iter().enumerate() {
        for other in roles.iter().skip(n) {
            for first in [0, 1] {
                if first == 1 && one == other {
                    continue;
                }
                let mut scene = Scene::of(start, &[*one, *other]);
                scene.first = first;
                scenes.push(scene);
            }
        }
    }
    scenes
}

/// Explores scenes on all processors; panics with the first violation.
fn explore_all(scenes: Vec<(Scene, Bound)>) {
    let begun = Instant::now();
    let queue = Mutex::new(scenes);
    let total = Mutex::new((0u64, 0u64));
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let troupe = Troupe::new(2);
                loop {
                    let next = queue.lock().unwrap().pop();
                    let Some((scene, bound)) = next else { break };
                    let begun = Instant::now();
                    let found = explore(&troupe, &scene, bound);
                    println!(
                        "{:<60} {:>8} schedules {:>9} steps {:>5} ends {:>8.1?}",
                        scene.describe(),
                        found.schedules,
                        found.steps,
                        found.ends.len(),
                        begun.elapsed()
                    );
                    let mut total = total.lock().unwrap();
                    total.0 += found.schedules;
                    total.1 += found.steps;
                    if let Some((schedule, why)) = found.violation {
                        let shown = show(&troupe, &scene, &schedule);
                        failures.lock().unwrap().push(format!(
                            "{}: {why}\n{schedule:?}\n{shown}",
                            scene.describe()
                        ));
                    }
                }
            });
        }
    });
    let (schedules, steps) = *total.lock().unwrap();
    println!(
        "{schedules} schedules, {steps} steps in {:?}",
        begun.elapsed()
    );
    let failures = failures.into_inner().unwrap();
    for failure in failures.iter().take(12) {
        println!("{failure}\n");
    }
    assert!(failures.is_empty(), "{} scenes failed", failures.len());
}

/// Repair beside every role, in both orders, where a pack is bad that one snapshot needs: nothing
/// else is lost, whoever deletes what, and gc goes on afterwards.
#[test]
fn exhaustive_repair() {
    let bound = Bound {
        decisions: 1,
        faults: true,
    };
    let mut all = vec![plain().damaged('a')];
    let mut repairs = vec![Role::Repair(Lost::Keep)];
    if is_full() {
        all.push(forgotten().damaged('c'));
        all.push(needed().damaged('a'));
        repairs.push(Role::Repair(Lost::GiveUp));
    }
    let mut chosen = Vec::new();
    for start in &all {
        for repair in &repairs {
            let mut others = roles(start);
            others.push(*repair);
            for other in others {
                for first in [0, 1] {
                    let mut scene = Scene::of(start, &[*repair, other]);
                    scene.first = first;
                    chosen.push((scene, bound));
                }
            }
        }
    }
    explore_all(chosen);
}

/// Every pair of roles in both orders, from every start, with at most one decision.
#[test]
fn exhaustive_one_decision() {
    let bound = Bound {
        decisions: 1,
        faults: true,
    };
    let scenes = starts()
        .iter()
        .flat_map(scenes)
        .map(|s| (s, bound))
        .collect();
    explore_all(scenes);
}

/// Checkpoints beside every role, from every start (the quick part: from three), with one decision.
#[test]
fn exhaustive_checkpoints_one_decision() {
    let bound = Bound {
        decisions: 1,
        faults: true,
    };
    let quick = ["forgotten", "retired", "stranded"];
    let starts = starts();
    let chosen = |start: &&Start| is_full() || quick.contains(&start.name);
    let scenes = starts.iter().filter(chosen).flat_map(checkpoint_scenes);
    explore_all(scenes.map(|s| (s, bound)).collect());
}

/// The same with two decisions: the quick part from one start, beside those who forget and
/// collect, the second decision a switch.
#[test]
fn exhaustive_checkpoints_two_decisions() {
    let bound = Bound {
        decisions: 2,
        faults: is_full(),
    };
    let only = std::env::var("HUCHA_START").ok();
    let mut starts = match is_full() {
        true => starts(),
        false => vec![forgotten()],
    };
    starts.retain(|s| only.as_ref().is_none_or(|only| s.name == only));
    let quick = [Role::ForgetNew, Role::Gc(Fence::Now)];
    let chosen = |s: &Scene| is_full() || s.actors.iter().any(|a| quick.contains(&a.role));
    let scenes = starts.iter().flat_map(checkpoint_scenes).filter(chosen);
    explore_all(scenes.map(|s| (s, bound)).collect());
}

/// The same with two decisions. The quick part leaves out starts that resemble others.
#[test]
fn exhaustive_two_decisions() {
    let quick = ["forgotten", "plain", "retired", "stranded"];
    let only = std::env::var("HUCHA_START").ok();
    let chosen = |start: &&Start| match &only {
        Some(name) => start.name == name,
        None => is_full() || quick.contains(&start.name),
    };
    let bound = Bound {
        decisions: 2,
        faults: true,
    };
    let starts = starts();
    let scenes = starts.iter().filter(chosen).flat_map(scenes);
    explore_all(scenes.map(|s| (s, bound)).collect());
}

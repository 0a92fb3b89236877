//! The traces that lost data in the draft (gc-protocol.md, the table): each is played by hand, and
//! loses nothing. Where its fix can be switched off, the same trace then does.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::cast::{Actor, Outcome, Role, Scene, Troupe};
use super::judge::judge;
use super::stage::{Choice, Director, End, Step};
use super::start::{Cache, Past, Start, content, open};
use super::tests::{forgotten, needed, plain, stranded};
use crate::backend::{Area, Backend, Operation};
use crate::format::objects::SessionKind;
use crate::gc::Fence;
use crate::holes::Hole;
use crate::id::Uuid;
use crate::index::{Index, MemoryIndex};
use crate::session::Session;
use crate::view::list_packs;

/// Until when an actor goes on.
#[derive(Debug, Clone, Copy)]
enum Until {
    /// Before its n-th operation of a kind, counted from 1.
    Before(Operation, Area, usize),
    /// Until that one, which fails so.
    Fault(Operation, Area, usize, Choice),
    /// Until it is through.
    End,
}

type Cue = (usize, Until);

/// Lets actors go on by cues.
struct Script {
    cues: Vec<Cue>,
    now: Arc<AtomicUsize>,
    counts: Vec<Vec<(Operation, Area)>>,
    /// The step that was counted last: it is asked for again after a switch.
    counted: Option<(usize, usize)>,
}

impl Script {
    fn cue(&self) -> Option<Cue> {
        self.cues.get(self.now.load(Ordering::Relaxed)).copied()
    }

    fn advance(&self) {
        self.now.fetch_add(1, Ordering::Relaxed);
    }

    /// How often an actor has come to such an operation, this time included.
    fn count(&mut self, number: usize, step: &Step, what: (Operation, Area)) -> usize {
        if self.counted != Some((step.actor, number)) {
            self.counted = Some((step.actor, number));
            self.counts[step.actor].push((step.operation, step.area));
        }
        let same = |o: &&(Operation, Area)| **o == what;
        self.counts[step.actor].iter().filter(same).count()
    }
}

impl Director for Script {
    fn decide(&mut self, number: usize, step: &Step, free: &[usize]) -> Option<Choice> {
        loop {
            let (actor, until) = self.cue()?;
            if step.actor != actor {
                return free.contains(&actor).then_some(Choice::Switch(actor));
            }
            let (what, n, fault) = match until {
                Until::End => ((step.operation, step.area), usize::MAX, None),
                Until::Before(operation, area, n) => ((operation, area), n, None),
                Until::Fault(operation, area, n, choice) => ((operation, area), n, Some(choice)),
            };
            let here = what == (step.operation, step.area);
            if self.count(number, step, what) < n || !here {
                return None;
            }
            self.advance();
            if fault.is_some() {
                return fault;
            }
        }
    }

    fn next(&mut self, _: &[usize]) -> Option<usize> {
        if let Some((_, Until::End)) = self.cue() {
            self.advance();
        }
        self.cue().map(|(actor, _)| actor)
    }
}

fn scene(start: &Start, roles: &[Role]) -> Scene {
    Scene::of(start, roles)
}

/// Plays a trace to its end; every cue must come.
fn play(scene: &Scene, cues: &[Cue]) -> Outcome {
    let now = Arc::new(AtomicUsize::new(0));
    let script = Script {
        cues: cues.to_vec(),
        now: Arc::clone(&now),
        counts: vec![Vec::new(); scene.actors.len()],
        counted: None,
    };
    let mut scene = scene.clone();
    scene.first = cues[0].0;
    let outcome = Troupe::new(scene.actors.len()).play(&scene, Box::new(script));
    if scene.hole.is_none() {
        let done = now.load(Ordering::Relaxed);
        assert_eq!(done, cues.len(), "cues: {:?}", outcome.ended.trace);
    }
    outcome
}

/// Nothing is lost, everything restores, and one gc cleans up.
fn is_safe(scene: &Scene, cues: &[Cue]) -> Outcome {
    let outcome = play(scene, cues);
    judge(&outcome, true).unwrap();
    outcome
}

/// With its fix switched off the trace loses data.
fn loses_with(scene: &Scene, cues: &[Cue], hole: Hole) {
    let mut scene = scene.clone().with_hole(hole);
    scene.start.oracle.lenient = true;
    let why = play(&scene, cues).ended.violation.expect("a loss");
    assert!(why.contains("has lost chunk"), "{why}");
}

use Operation::{Delete, Put};
use Until::{Before, End as Through, Fault};

#[test]
fn trace_stale_cached_index() {
    let scene = scene(&forgotten(), &[Role::Gc(Fence::Auto), Role::Snapshot("ad")]);
    let cues = [(0, Through), (1, Through)];
    is_safe(&scene, &cues);
    loses_with(&scene, &cues, Hole::StaleIndex);
}

#[test]
fn trace_merger_revives_rows() {
    // Nobody's cache knows anything: the rows come from the merged segment alone.
    let past = Past::new("merger").snapshot("ab").snapshot("bc").forget(0);
    let roles = [Role::Merge, Role::Gc(Fence::Auto), Role::Snapshot("ad")];
    let scene = scene(&past.done("merger"), &roles);
    let cues = [
        (0, Before(Put, Area::Index, 1)),
        (1, Through),
        (0, Through),
        (2, Through),
    ];
    is_safe(&scene, &cues);
    loses_with(&scene, &cues, Hole::StaleIndex);
}

#[test]
fn trace_fenced_writers_late_segment() {
    let roles = [
        Role::Snapshot("de"),
        Role::Gc(Fence::Now),
        Role::Snapshot("de"),
    ];
    let scene = scene(&plain(), &roles);
    let cues = [
        (0, Before(Put, Area::Index, 1)),
        (1, Through),
        (0, Before(Put, Area::Snapshots, 1)),
        (2, Through),
        (0, Through),
    ];
    is_safe(&scene, &cues);
    loses_with(&scene, &cues, Hole::StaleIndex);
}

#[test]
fn trace_commit_in_flight() {
    let scene = scene(&plain(), &[Role::Snapshot("ad"), Role::Gc(Fence::Auto)]);
    let late = Choice::Late {
        land: None,
        sticky: true,
    };
    let cues = [
        (0, Fault(Put, Area::Snapshots, 1, late)),
        (0, Through),
        (1, Through),
    ];
    let outcome = is_safe(&scene, &cues);
    // The writer settled its name before it removed its session: the commit came too late.
    let name = outcome.ended.trace[0].key.as_ref().unwrap().name();
    assert!(outcome.ended.oracle.names()[&name.parse().unwrap()].is_none());
    loses_with(&scene, &cues, Hole::FreeName);
}

#[test]
fn trace_forget_frees_the_name() {
    let roles = [
        Role::Snapshot("ad"),
        Role::Gc(Fence::Auto),
        Role::ForgetNew,
        Role::Gc(Fence::Auto),
    ];
    let scene = scene(&plain(), &roles);
    let cues = |land: Option<usize>| {
        let late = Choice::Late {
            land,
            sticky: false,
        };
        [
            (0, Fault(Put, Area::Snapshots, 1, late)),
            (0, Before(Put, Area::Snapshots, 2)),
            (1, Through),
            (2, Through),
            (3, Through),
            (0, Through),
        ]
    };
    // The first put lands when the collector begins, after the writer has looked in vain.
    let trace = play(&scene, &cues(None)).ended.trace;
    let land = trace.iter().position(|s| s.actor == 1);
    let ended = is_safe(&scene, &cues(land)).ended;
    let name = ended.trace[0].key.as_ref().unwrap().name();
    let name = name.parse().unwrap();
    // The second try put the manifest back; what it refers to is gone; the marker still counts.
    let (_, references) = ended.oracle.names()[&name].clone().expect("a manifest");
    let usable = ended.oracle.usable();
    assert!(!references.iter().all(|id| usable.contains(id)));
    assert!(ended.oracle.committed().all(|(n, _, _)| n != name));
    let backend: Arc<dyn Backend> = Arc::new(ended.memory.clone());
    let (repository, _) = open(backend, &Cache::default(), crate::testing::environment(0));
    let list = crate::snapshots::SnapshotList::read(&repository).unwrap();
    assert!(list.committed.iter().all(|m| m.name != name));
}

/// A chunk stands in two packs, and two machines number the packs differently: each keeps another.
fn two_copies() -> Start {
    let past = Past::new("two copies").chunks(&[('a', "")], true).early();
    let past = past.chunks(&[('a', "")], true).snapshot("a");
    let mut start = past.done("two copies");
    let backend: Arc<dyn Backend> = Arc::new(start.memory.clone());
    let (repository, _) = open(backend, &Cache::default(), crate::testing::environment(0));
    let segments = repository.segments();
    let known = start.early.index.applied().unwrap()[0].id;
    let names = segments.list().unwrap();
    let of_copy = names
        .iter()
        .filter(|(id, _)| *id != known)
        .find_map(|(id, _)| {
            let segment = segments.get(id).unwrap().unwrap();
            let a = repository.keys().chunk_id(&content('a'));
            segment
                .rows
                .iter()
                .any(|r| r.id == a)
                .then_some((*id, segment))
        });
    let (id, segment) = of_copy.unwrap();
    let index = MemoryIndex::default();
    index.apply(&[(id, &segment)]).unwrap();
    start.late.index = index;
    start
}

#[test]
fn trace_two_collectors() {
    let mut scene = scene(
        &two_copies(),
        &[Role::Gc(Fence::Auto), Role::Gc(Fence::Auto)],
    );
    scene.actors[1] = Actor {
        role: Role::Gc(Fence::Auto),
        stale: false,
    };
    let cues = [
        (0, Before(Put, Area::Gc, 1)),
        (1, Before(Put, Area::Gc, 1)),
        (0, Before(Delete, Area::Packs, 1)),
        (1, Through),
        (0, Through),
    ];
    let outcome = is_safe(&scene, &cues);
    let deleted = outcome.ended.trace.iter();
    let deleted = deleted.filter(|s| s.operation == Delete && s.area == Area::Packs);
    assert_eq!(deleted.count(), 2, "both copies went");
    loses_with(&scene, &cues, Hole::NoVerify);
}

#[test]
fn trace_undelete_is_a_move() {
    let scene = scene(&forgotten(), &[Role::Gc(Fence::Auto), Role::Undelete(0)]);
    let cues = [
        (0, Before(Delete, Area::Packs, 1)),
        (1, Through),
        (0, Through),
    ];
    let outcome = is_safe(&scene, &cues);
    assert_eq!(outcome.ended.oracle.committed().count(), 2);
    loses_with(&scene, &cues, Hole::StaleIndex);
}

#[test]
fn trace_base_chain() {
    let scene = scene(&stranded(), &[Role::Snapshot("B")]);
    is_safe(&scene, &[(0, Through)]);
    loses_with(&scene, &[(0, Through)], Hole::BaseChain);
}

#[test]
fn trace_taking_back() {
    let roles = [
        Role::Gc(Fence::Auto),
        Role::Gc(Fence::Auto),
        Role::Snapshot("a"),
    ];
    let start = needed();
    let scene = scene(&start, &roles);
    let cues = [
        (0, Before(Delete, Area::Packs, 1)),
        (1, Through),
        (2, Through),
        (0, Through),
    ];
    let outcome = is_safe(&scene, &cues);
    // The condemned pack is gone for good; a copy under another name serves both snapshots.
    let condemned = start.oracle.lists().values().next().unwrap()[0];
    assert!(start.oracle.packs().contains_key(&condemned));
    assert!(!outcome.ended.oracle.packs().contains_key(&condemned));
    assert_eq!(outcome.ended.oracle.committed().count(), 2);
    loses_with(&scene, &cues, Hole::NoVerify);
}

#[test]
fn trace_numbered_lists() {
    let roles = [
        Role::Gc(Fence::Auto),
        Role::Gc(Fence::Auto),
        Role::Snapshot("bd"),
        Role::Forget(1),
        Role::Gc(Fence::Auto),
    ];
    let scene = scene(&forgotten(), &roles);
    let cues = [
        (0, Before(Delete, Area::Gc, 2)),
        (1, Through),
        (2, Before(Put, Area::Packs, 1)),
        (3, Through),
        (4, Through),
        (0, Through),
        (2, Through),
    ];
    let outcome = is_safe(&scene, &cues);
    // The list that waits for the writer outlives the delete of the list before it, which comes
    // late. (The first collector then goes on with copies that it planned before, puts another.)
    let lists = |actor: usize| -> BTreeSet<Uuid> {
        let trace = outcome.ended.trace.iter();
        let own = trace.filter(|step| step.actor == actor);
        let puts = own.filter(|step| step.operation == Put && step.area == Area::Gc);
        let names = puts.filter_map(|s| s.key.as_ref()?.name().parse().ok());
        names.collect()
    };
    let standing = outcome.ended.oracle.lists();
    assert_eq!(lists(4).len(), 1);
    assert!(lists(4).iter().all(|name| standing.contains_key(name)));
    let late = lists(0);
    assert_eq!(late.iter().filter(|l| !standing.contains_key(l)).count(), 1);
    for (one, other) in [(0, 1), (0, 4), (1, 4)] {
        assert!(lists(one).is_disjoint(&lists(other)));
    }
}

#[test]
fn trace_segments_named_by_content_only() {
    let scene = scene(&plain(), &[Role::Merge, Role::Merge]);
    let cues = [
        (0, Before(Delete, Area::Index, 1)),
        (1, Through),
        (0, Through),
    ];
    let outcome = is_safe(&scene, &cues);
    // Both merge the same rows; the names differ, so no delete meets another's segment.
    let puts = outcome.ended.trace.iter().filter(|s| s.operation == Put);
    let names: Vec<_> = puts.filter_map(|s| s.key.clone()).collect();
    assert_eq!(names.len(), 2);
    assert_ne!(names[0], names[1]);
    let usable = outcome.ended.oracle.usable();
    assert_eq!(usable, scene.start.oracle.usable());
}

/// "X empty, every row is usable" does not hold: the base's rows may be merged away.
#[test]
fn a_row_whose_base_is_nowhere_is_not_usable_though_every_pack_stands() {
    let start = stranded();
    let backend: Arc<dyn Backend> = Arc::new(start.memory.clone());
    let (repository, _) = open(backend, &Cache::default(), crate::testing::environment(0));
    let session = Session::open(&repository, SessionKind::Writer).unwrap();
    let view = session.view().unwrap();
    let standing = list_packs(&repository).unwrap();
    let packs = repository.index().packs(&repository.segments()).unwrap();
    assert!(
        packs.iter().all(|p| standing.contains_key(&p.id)),
        "X is empty"
    );
    assert!(view.lists().is_empty());
    let id = repository.keys().chunk_id(&content('B'));
    let found = repository
        .index()
        .find(&repository.segments(), &id)
        .unwrap();
    assert_eq!(found.unwrap().places.len(), 1);
    assert_eq!(view.usable(&id).unwrap(), None);
}

/// A collector's mark lists packs before snapshots: what is committed in between is no damage.
#[test]
fn a_snapshot_committed_during_a_mark_is_no_damage() {
    let scene = scene(&forgotten(), &[Role::Gc(Fence::Auto), Role::Snapshot("ad")]);
    let cues = [
        (0, Before(Operation::List, Area::Sessions, 2)),
        (1, Through),
        (0, Through),
    ];
    let outcome = is_safe(&scene, &cues);
    let done = matches!(outcome.ends[0], End::Done(_));
    assert!(done, "{:?}", outcome.ends);
}

/// A snapshot that was listed, then forgotten and collected by another, is no damage either.
#[test]
fn a_snapshot_collected_during_a_mark_is_no_damage() {
    let past = Past::new("mark").snapshot("ab").early().snapshot("cd");
    let roles = [
        Role::Gc(Fence::Auto),
        Role::Forget(1),
        Role::Gc(Fence::Auto),
    ];
    let mut scene = scene(&past.done("mark"), &roles);
    // Its rows are known to the machine, though merged away meanwhile.
    scene.actors[0].stale = false;
    // Snapshots are listed for the guard, then for the mark; the markers, then the index follow.
    let index = (0, Before(Operation::List, Area::Index, 1));
    let cues = [index, (1, Through), (2, Through), (0, Through)];
    let outcome = is_safe(&scene, &cues);
    let done = matches!(outcome.ends[0], End::Done(_));
    assert!(done, "{:?}", outcome.ends);
}

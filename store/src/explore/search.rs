//! All schedules within a bound, by running each from its start: a schedule is a list of decisions
//! at numbered steps, and what a run shows tells which decisions can follow.
//!
//! Most schedules differ from others only in the order of steps that do not touch. Two reductions
//! leave them out; both lose no end, no state after a write, and so no violation:
//!
//! - **Equal states.** An actor's code and random bytes are the same in each schedule, so where it
//!   stands follows from the answers that it was given. When a schedule, after its last decision,
//!   comes to a state (what is stored, what is in flight, each actor's answers, who is gone, who
//!   has the token) that another has come to with as many decisions left, then whatever follows
//!   was looked at there, or will be: it ends here. States are compared by 128 bits of BLAKE3.
//! - **Independent steps** ([`super::reduce`]). A switch before a listing and one after it give the
//!   same when nothing that the other actor does meanwhile changes what was read.
//!
//! How an actor ends is judged in each schedule. What is stored at an end is looked at closely
//! once: whether that restores, and what a collector makes of it, depends on nothing else.
//!
//! Schedules with fewer decisions come first, so that "another with as many left" is met early.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use super::cast::{Outcome, Scene, Troupe};
use super::footprint::{Print, print};
use super::judge::judge;
use super::reduce;
use super::stage::{Choice, Director, Step};
use crate::backend::Operation;

/// Decisions, by the number of the step before which they are taken.
pub(super) type Schedule = Vec<(usize, Choice)>;

/// How far a search goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bound {
    /// Most decisions; two, when reduced.
    pub decisions: usize,
    /// Whether faults may follow the first decision; else only switches.
    pub faults: bool,
}

/// How a search goes there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// It leaves out what cannot differ, and ends with the first violation.
    Reduced,
    /// The same, past violations.
    Through,
    /// It runs everything, past violations.
    Whole,
}

/// What a search saw.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub schedules: u64,
    pub steps: u64,
    pub violation: Option<(Schedule, String)>,
    /// What is stored at the ends.
    pub ends: BTreeSet<Print>,
    /// All violations, in words.
    pub violations: BTreeSet<String>,
}

/// States that were met, with the decisions that were left then.
type States = Arc<Mutex<HashMap<Print, usize>>>;

/// Follows a schedule.
pub(super) struct Plan {
    schedule: Schedule,
    next: usize,
    /// States that were met before, and how many decisions more than these there may be.
    states: Option<(States, usize)>,
}

impl Plan {
    pub fn of(schedule: &Schedule) -> Box<Plan> {
        Box::new(Plan {
            schedule: schedule.clone(),
            next: 0,
            states: None,
        })
    }
}

impl Director for Plan {
    fn decide(&mut self, number: usize, _: &Step, _: &[usize]) -> Option<Choice> {
        let (at, choice) = self.schedule.get(self.next)?;
        if *at != number {
            return None;
        }
        self.next += 1;
        Some(*choice)
    }

    fn asks(&self, number: usize) -> bool {
        self.states.is_some()
            && self.next == self.schedule.len()
            && number >= first_free(&self.schedule)
    }

    fn knows(&mut self, state: Print, flying: bool) -> bool {
        let Some((states, left)) = &self.states else {
            return false;
        };
        // Only the last decision is tried as one that does not stick, too.
        let late = flying && matches!(self.schedule.last(), Some((_, Choice::Late { .. })));
        let state = print(&(state, late));
        let mut states = states.lock().unwrap();
        match states.get(&state) {
            Some(before) if before >= left => true,
            _ => {
                states.insert(state, *left);
                false
            }
        }
    }
}

/// From which step on a decision may follow.
fn first_free(schedule: &[(usize, Choice)]) -> usize {
    schedule.last().map_or(0, |(at, choice)| match *choice {
        Choice::Switch(_) | Choice::Stall | Choice::Crash => *at,
        Choice::Lost | Choice::Refused => at + 1,
        Choice::Late { land, .. } => land.unwrap_or(at + 1),
    })
}

/// A schedule that is to be run.
#[derive(Clone)]
pub(super) struct Item {
    pub schedule: Schedule,
    /// The run without the last decision, of which it begins as this one does.
    pub parent: Option<Rc<Vec<Step>>>,
    /// By how many steps it goes on later than its parent.
    pub shift: usize,
    /// Its last switch is a later one, and what can be decided in the other's part follows from the
    /// schedules with the earlier one.
    pub delayed: bool,
}

struct Search<'a> {
    scene: &'a Scene,
    bound: Bound,
    way: Way,
    /// By the number of decisions.
    work: Vec<VecDeque<Item>>,
    queued: HashSet<Schedule>,
    states: States,
    found: Found,
    /// The run without decisions.
    plain: Option<Rc<Vec<Step>>>,
}

/// Explores all schedules of a scene within a bound, and stops at the first violation.
pub(super) fn explore(troupe: &Troupe, scene: &Scene, bound: Bound) -> Found {
    explore_by(troupe, scene, bound, Way::Reduced)
}

/// The same in another way.
pub(super) fn explore_by(troupe: &Troupe, scene: &Scene, bound: Bound, way: Way) -> Found {
    assert!(bound.decisions <= 2 || way == Way::Whole);
    let mut search = Search {
        scene,
        bound,
        way,
        work: vec![VecDeque::new(); bound.decisions + 1],
        queued: HashSet::new(),
        states: States::default(),
        found: Found::default(),
        plain: None,
    };
    search.add(Item {
        schedule: Vec::new(),
        parent: None,
        shift: 0,
        delayed: false,
    });
    while let Some(item) = search.next() {
        if search.run(troupe, &item).is_err() {
            break;
        }
    }
    search.found
}

impl Search<'_> {
    /// Queues a schedule, once: those with fewer decisions first.
    fn add(&mut self, item: Item) {
        if self.queued.insert(item.schedule.clone()) {
            self.work[item.schedule.len()].push_back(item);
        }
    }

    fn next(&mut self) -> Option<Item> {
        self.work.iter_mut().find_map(VecDeque::pop_front)
    }

    /// Runs a schedule, judges it and queues what follows from it; an error ends the search.
    fn run(&mut self, troupe: &Troupe, item: &Item) -> Result<(), ()> {
        let reduced = self.way != Way::Whole;
        let left = self.bound.decisions - item.schedule.len();
        let plan = Plan {
            states: reduced.then(|| (Arc::clone(&self.states), left)),
            ..*Plan::of(&item.schedule)
        };
        let mut outcome = troupe.play(self.scene, Box::new(plan));
        self.found.schedules += 1;
        self.found.steps += outcome.ended.trace.len() as u64;
        let over = outcome.ended.known.is_some() || outcome.ended.violation.is_some();
        let new = !over && self.found.ends.insert(outcome.ended.stored);
        if let Err(why) = judge(&outcome, new) {
            self.found.violations.insert(why.clone());
            let first = (item.schedule.clone(), why);
            self.found.violation.get_or_insert(first);
            if self.way == Way::Reduced {
                return Err(());
            }
        }
        let trace = Rc::new(std::mem::take(&mut outcome.ended.trace));
        self.lands(item, &trace);
        self.follow(item, &trace);
        if reduced {
            let plain = self.plain.get_or_insert_with(|| Rc::clone(&trace));
            for item in reduce::delays(item, plain, &trace, outcome.ended.known) {
                self.add(item);
            }
        }
        Ok(())
    }

    /// The schedules with one decision more.
    fn follow(&mut self, item: &Item, trace: &Rc<Vec<Step>>) {
        let schedule = &item.schedule;
        if schedule.len() >= self.bound.decisions {
            return;
        }
        let reduced = self.way != Way::Whole;
        let from = match item.delayed {
            true => reduce::part(schedule, trace).1,
            false => first_free(schedule),
        };
        let last = schedule.last().copied();
        let can_switch = |at: usize| {
            let switched = last.is_some_and(|(l, c)| l == at && matches!(c, Choice::Switch(_)));
            trace[at].others && !switched
        };
        let mut choices = Vec::new();
        for (at, step) in trace.iter().enumerate().skip(from) {
            // The same actor only listed before, where this could be decided as well.
            let listed = reduced && at > from && reduce::goes_on(trace, at);
            if can_switch(at) && !(listed && can_switch(at - 1)) {
                choices.push((at, Choice::Switch(1 - step.actor)));
            }
            if !self.bound.faults && !schedule.is_empty() {
                continue;
            }
            if !listed {
                choices.push((at, Choice::Crash));
            }
            choices.push((at, Choice::Lost));
            if step.operation != Operation::List {
                let (land, sticky) = (None, true);
                choices.push((at, Choice::Late { land, sticky }));
            }
        }
        for choice in choices {
            let mut longer = schedule.clone();
            longer.push(choice);
            self.add(Item {
                schedule: longer,
                parent: Some(Rc::clone(trace)),
                shift: 0,
                delayed: false,
            });
        }
    }

    /// The last operation in flight lands before each later step that may see it.
    fn lands(&mut self, item: &Item, trace: &[Step]) {
        let schedule = &item.schedule;
        let flying = schedule
            .iter()
            .position(|(_, c)| matches!(c, Choice::Late { land: None, .. }));
        let Some(n) = flying else { return };
        let (at, Choice::Late { sticky, .. }) = schedule[n] else {
            return;
        };
        let (key, area) = (trace[at].key.clone(), trace[at].area);
        let mut repeated = false;
        for (number, step) in trace.iter().enumerate().skip(first_free(schedule)) {
            repeated |= step.key == key && step.repeated;
            let sees = (step.operation == Operation::List && step.area == area) || step.key == key;
            if sees {
                let mut sooner = item.clone();
                let land = Some(number);
                sooner.schedule[n].1 = Choice::Late { land, sticky };
                // It lands before what the parent did there.
                let before = schedule.last().is_some_and(|(last, _)| *last == number);
                sooner.parent = item.parent.clone().filter(|_| !before);
                self.add(sooner);
            }
        }
        if repeated && sticky && n + 1 == schedule.len() {
            let mut once = item.clone();
            let (land, sticky) = (None, false);
            once.schedule[n].1 = Choice::Late { land, sticky };
            self.add(once);
        }
    }
}

/// A schedule step by step, for people.
pub(super) fn show(troupe: &Troupe, scene: &Scene, schedule: &Schedule) -> String {
    let outcome = troupe.play(scene, Plan::of(schedule));
    describe(scene, &outcome, schedule)
}

/// A run step by step, for people.
pub(super) fn describe(scene: &Scene, outcome: &Outcome, schedule: &[(usize, Choice)]) -> String {
    let mut lines = vec![scene.describe()];
    for (number, step) in outcome.ended.trace.iter().enumerate() {
        let name = match &step.key {
            Some(key) => format!("{}/{:.8}", step.area.folder(), key.name()),
            None => step.area.folder().to_owned(),
        };
        let mut taken: Vec<_> = schedule.iter().filter(|(at, _)| *at == number).collect();
        let own = step.choice.map(|choice| (number, choice));
        taken.extend(own.iter().filter(|_| schedule.is_empty()));
        let choice = if taken.is_empty() {
            String::new()
        } else {
            format!("   <- {taken:?}")
        };
        lines.push(format!(
            "{number:>4} {}{} {} {name}{choice}",
            "        ".repeat(step.actor),
            step.actor,
            step.operation
        ));
    }
    lines.push(format!("{:?}", outcome.ends));
    lines.join("\n")
}

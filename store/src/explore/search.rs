//! All schedules within a bound, by running each from its start: a schedule is a list of decisions
//! at numbered steps, and what a run shows tells which decisions can follow.

use super::cast::{Outcome, Scene, Troupe};
use super::judge::judge;
use super::stage::{Choice, Director, Step};
use crate::backend::Operation;

/// Decisions, by the number of the step before which they are taken.
pub(super) type Schedule = Vec<(usize, Choice)>;

/// How far a search goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bound {
    /// Most decisions.
    pub decisions: usize,
    /// Whether faults may follow the first decision; else only switches.
    pub faults: bool,
    /// One schedule in so many is looked at to the end.
    pub deep: usize,
}

/// What a search saw.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub schedules: u64,
    pub steps: u64,
    pub violation: Option<(Schedule, String)>,
}

/// Follows a schedule.
pub(super) struct Plan {
    schedule: Schedule,
    next: usize,
}

impl Plan {
    pub fn of(schedule: &Schedule) -> Box<Plan> {
        Box::new(Plan {
            schedule: schedule.clone(),
            next: 0,
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
}

/// Explores all schedules of a scene within a bound, and stops at the first violation.
pub(super) fn explore(troupe: &Troupe, scene: &Scene, bound: Bound) -> Found {
    let mut found = Found::default();
    let mut work: Vec<Schedule> = vec![Vec::new()];
    while let Some(schedule) = work.pop() {
        let outcome = troupe.play(scene, Plan::of(&schedule));
        found.schedules += 1;
        found.steps += outcome.ended.trace.len() as u64;
        let deep = schedule.len() < 2 || (found.schedules as usize).is_multiple_of(bound.deep);
        if let Err(why) = judge(&outcome, deep) {
            found.violation = Some((schedule, why));
            return found;
        }
        follow(&schedule, &outcome, bound, &mut work);
    }
    found
}

/// The schedules with one decision more, and those where an operation lands earlier.
fn follow(schedule: &Schedule, outcome: &Outcome, bound: Bound, work: &mut Vec<Schedule>) {
    let trace = &outcome.ended.trace;
    let last = schedule.last().copied();
    lands(schedule, trace, work);
    if schedule.len() >= bound.decisions {
        return;
    }
    let from = last.map_or(0, |(at, choice)| match choice {
        Choice::Switch(_) | Choice::Stall | Choice::Crash => at,
        Choice::Lost | Choice::Refused => at + 1,
        Choice::Late { land, .. } => land.unwrap_or(at + 1),
    });
    for (at, step) in trace.iter().enumerate().skip(from) {
        let switched = last.is_some_and(|(l, c)| l == at && matches!(c, Choice::Switch(_)));
        if step.others && !switched {
            add(schedule, at, Choice::Switch(1 - step.actor), work);
        }
        if !bound.faults && !schedule.is_empty() {
            continue;
        }
        add(schedule, at, Choice::Crash, work);
        add(schedule, at, Choice::Lost, work);
        if step.operation != Operation::List {
            let late = Choice::Late {
                land: None,
                sticky: true,
            };
            add(schedule, at, late, work);
        }
    }
}

/// The last operation in flight lands before each later step that may see it.
fn lands(schedule: &Schedule, trace: &[Step], work: &mut Vec<Schedule>) {
    let flying = schedule.iter().position(|(_, c)| {
        let late = |land: &Option<usize>| land.is_none();
        matches!(c, Choice::Late { land, .. } if late(land))
    });
    let Some(n) = flying else { return };
    let (at, Choice::Late { sticky, .. }) = schedule[n] else {
        return;
    };
    let key = trace[at].key.clone();
    let area = trace[at].area;
    let after = schedule.last().map_or(at, |(last, _)| *last);
    let mut repeated = false;
    for (number, step) in trace.iter().enumerate().skip(after + 1) {
        repeated |= step.key == key && step.repeated;
        let sees = (step.operation == Operation::List && step.area == area) || step.key == key;
        if sees {
            let mut sooner = schedule.clone();
            let land = Some(number);
            sooner[n].1 = Choice::Late { land, sticky };
            work.push(sooner);
        }
    }
    if repeated && sticky && n + 1 == schedule.len() {
        let mut once = schedule.clone();
        let land = None;
        once[n].1 = Choice::Late {
            land,
            sticky: false,
        };
        work.push(once);
    }
}

fn add(schedule: &Schedule, at: usize, choice: Choice, work: &mut Vec<Schedule>) {
    let mut longer = schedule.clone();
    longer.push((at, choice));
    work.push(longer);
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

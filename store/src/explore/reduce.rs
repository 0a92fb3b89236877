//! Switches that need not be tried: partial orders of two actors' steps.
//!
//! A listing, with the gets after it, changes nothing: memory, and what the oracle sees, are the
//! same with it or without. What it answers depends on the objects of its area, on those that were
//! got and on the actors whose life was asked for. So it commutes with each step of the other actor
//! that changes none of these; the two orders have the same states after each write, the same ends,
//! and give the other the same answers. Puts and deletes are never moved: a put answers by what
//! stands, and the oracle looks after each.
//!
//! - A **crash** after a listing is the crash before it.
//! - A **switch** is tried before the first of some listings in a row. The schedule shows what the
//!   other actor changes until the token comes back, with whatever is decided there: that is the
//!   same wherever in the row the switch is, as the other does not see listings. The switch is
//!   *delayed* past so many of them as end with one that reads something which is changed; all
//!   others give what the one before gives.
//! - What is **decided in the other's part** after a switch that was delayed follows likewise from
//!   the decision after the one that was not: its part may change other things then.
//!
//! What is in flight lands at the same place among the steps of those who see it: in the other's
//! part it is one of its changes and is shifted with it; after that the switch is delayed no
//! further than to where it lands, and what landed deeper in the part is a schedule of its own.

use super::footprint::{Touch, conflict};
use super::search::{Item, Schedule};
use super::stage::{Choice, Step};
use crate::backend::Operation;

/// Whether an actor only listed something before this step of its.
pub(super) fn goes_on(trace: &[Step], at: usize) -> bool {
    let before = at.checked_sub(1).and_then(|n| trace.get(n));
    let here = trace.get(at).map(|step| step.actor);
    before.is_some_and(|step| {
        step.operation == Operation::List && step.choice.is_none() && Some(step.actor) == here
    })
}

/// The steps of the other actor after the last switch.
pub(super) fn part(schedule: &[(usize, Choice)], trace: &[Step]) -> (usize, usize) {
    match schedule.last() {
        Some((at, Choice::Switch(to))) => (*at, end_of(trace, *at, *to)),
        Some((at, _)) => (*at, *at),
        None => (0, 0),
    }
}

fn end_of(trace: &[Step], from: usize, actor: usize) -> usize {
    let part = trace.iter().skip(from).take_while(|s| s.actor == actor);
    from + part.count()
}

/// A switch that may be delayed: which decision it is, and what is known of the run after it.
struct Delay<'a> {
    item: &'a Item,
    /// Number of the decision.
    switch: usize,
    /// The run without it, and how much later this one is.
    base: &'a [Step],
    shift: usize,
    /// The other's part ends here.
    end: usize,
    /// What the other changes there; `None` when the run was cut short before its end.
    changes: Option<Vec<Touch>>,
}

/// The schedules in which a switch of this one comes later, and which may differ from it.
/// `cut` is the actor before whose next step the run was cut short.
pub(super) fn delays(item: &Item, plain: &[Step], trace: &[Step], cut: Option<usize>) -> Vec<Item> {
    let mut found = Vec::new();
    if item.delayed {
        return found;
    }
    if let Some(delay) = last_switch(item, trace, cut) {
        found.extend(delay.items());
    }
    if let Some(delay) = switch_before_last(item, plain, trace, cut) {
        found.extend(delay.items());
    }
    found
}

/// The last decision is a switch.
fn last_switch<'a>(item: &'a Item, trace: &[Step], cut: Option<usize>) -> Option<Delay<'a>> {
    let (at, Choice::Switch(to)) = *item.schedule.last()? else {
        return None;
    };
    let end = end_of(trace, at, to);
    let cut = cut == Some(to);
    Some(Delay {
        item,
        switch: item.schedule.len() - 1,
        base: item.parent.as_deref()?,
        shift: item.shift,
        end,
        changes: (!cut).then(|| changes(&item.schedule, trace, (at, end), Some(to))),
    })
}

/// The first of two decisions is one, and the second is taken in the other's part.
fn switch_before_last<'a>(
    item: &'a Item,
    plain: &'a [Step],
    trace: &[Step],
    cut: Option<usize>,
) -> Option<Delay<'a>> {
    let [(at, Choice::Switch(to)), (second, choice)] = *item.schedule.as_slice() else {
        return None;
    };
    let here = item.parent.as_deref()?.get(second - item.shift)?;
    if here.actor != to || end_of(trace, at, to) < second {
        return None;
    }
    let (end, gone, cut) = match choice {
        Choice::Switch(_) => (second, None, false),
        Choice::Crash => (second, Some(to), false),
        _ => (end_of(trace, at, to), Some(to), cut == Some(to)),
    };
    Some(Delay {
        item,
        switch: 0,
        base: plain,
        shift: 0,
        end,
        changes: (!cut).then(|| changes(&item.schedule, trace, (at, end), gone)),
    })
}

/// What changes in a part: by its steps, by what lands before them but the first, and who goes.
fn changes(
    schedule: &Schedule,
    trace: &[Step],
    (from, end): (usize, usize),
    gone: Option<usize>,
) -> Vec<Touch> {
    let mut changes: Vec<Touch> = gone.map(Touch::Life).into_iter().collect();
    for (at, step) in trace.iter().enumerate().take(end).skip(from) {
        changes.extend(step.changes.iter().cloned());
        // What lands as the part begins has landed wherever it begins.
        if at > from || lands_at(schedule) != Some(from) {
            changes.extend(step.landed.iter().cloned());
        }
    }
    changes
}

fn lands_at(schedule: &[(usize, Choice)]) -> Option<usize> {
    schedule.iter().find_map(|(_, choice)| match choice {
        Choice::Late { land, .. } => *land,
        _ => None,
    })
}

impl Delay<'_> {
    fn items(&self) -> Vec<Item> {
        let at = self.item.schedule[self.switch].0;
        let lands = lands_at(&self.item.schedule).filter(|land| *land >= self.end && *land > at);
        let most = lands.map_or(usize::MAX, |land| land - self.end);
        let first = at - self.shift;
        let mut found = Vec::new();
        for by in 1.. {
            let here = first + by;
            let switches = self.base.get(here).is_some_and(|step| step.others);
            if by > most || !switches || !goes_on(self.base, here) {
                break;
            }
            let reads = &self.base[here - 1].reads;
            let differs = |changes: &Vec<Touch>| conflict(reads, changes.iter());
            if self.changes.as_ref().is_none_or(differs) {
                found.push(self.later(by));
            }
        }
        found
    }

    /// This schedule, with the switch so many steps later.
    fn later(&self, by: usize) -> Item {
        let at = self.item.schedule[self.switch].0;
        let is_last = self.switch + 1 == self.item.schedule.len();
        let mut item = self.item.clone();
        for (number, decision) in item.schedule.iter_mut().enumerate() {
            if number >= self.switch {
                decision.0 += by;
            }
            if let Choice::Late {
                land: Some(land), ..
            } = &mut decision.1
                && *land > at
                && *land < self.end
            {
                *land += by;
            }
        }
        item.delayed = is_last && self.changes.is_some();
        if !is_last {
            item.shift += by;
        }
        item
    }
}

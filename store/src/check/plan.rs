//! Which packs are read, in which order, and for how long.

use std::collections::HashMap;
use std::time::Duration;

use super::checked::Checked;
use crate::clock::{Clock, Timestamp};
use crate::id::PackId;

/// A part of the packs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Subset {
    /// The packs of one of several parts, by their names: always the same ones.
    Part {
        /// Counted from 1.
        number: u64,
        /// How many parts there are.
        of: u64,
    },
    /// So many percent of all stored bytes, chosen at random among those checked longest ago.
    Percent(f64),
    /// So many stored bytes, chosen alike.
    Bytes(u64),
}

/// The order in which packs are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// By name.
    Name,
    /// Never checked, then checked longest ago, then by name: what a budgeted check goes on with.
    Age,
}

/// The packs to read, in their order. `salt` decides what chance decides.
pub(super) fn choose(
    packs: &HashMap<PackId, u64>,
    subset: Option<Subset>,
    order: Order,
    checked: &Checked,
    salt: &[u8; 32],
) -> Vec<(PackId, u64)> {
    let mut all: Vec<(PackId, u64)> = packs.iter().map(|(id, n)| (*id, *n)).collect();
    all.sort_unstable();
    let total: u64 = all.iter().map(|(_, n)| n).sum();
    match subset {
        None => {}
        Some(Subset::Part { number, of }) => {
            all.retain(|(id, _)| part_of(id, of) + 1 == number);
        }
        Some(Subset::Percent(percent)) => {
            let bytes = total as f64 * percent.clamp(0.0, 100.0) / 100.0;
            all = at_random(all, bytes.ceil() as u64, checked, salt);
        }
        Some(Subset::Bytes(bytes)) => all = at_random(all, bytes, checked, salt),
    }
    match order {
        Order::Name => all.sort_unstable(),
        Order::Age => all.sort_by_cached_key(|(id, _)| (checked.when(id), *id)),
    }
    all
}

/// The part that a pack falls into, counted from 0.
fn part_of(id: &PackId, of: u64) -> u64 {
    let start = id.0.first_chunk::<8>().copied().unwrap_or_default();
    u64::from_be_bytes(start) % of.max(1)
}

/// Packs until they hold so many bytes, at least one: those checked longest ago first, and among
/// equals by chance.
fn at_random(
    mut packs: Vec<(PackId, u64)>,
    bytes: u64,
    checked: &Checked,
    salt: &[u8; 32],
) -> Vec<(PackId, u64)> {
    let chance = |id: &PackId| *blake3::keyed_hash(salt, &id.0).as_bytes();
    packs.sort_by_cached_key(|(id, _)| (checked.when(id), chance(id)));
    let mut sum = 0u64;
    let taken = |(_, n): &(PackId, u64)| {
        let more = sum == 0 || sum < bytes;
        sum = sum.saturating_add((*n).max(1));
        more
    };
    packs.into_iter().take_while(taken).collect()
}

/// Time that may be spent, by the clock that the core was handed. A clock that jumps back takes
/// nothing away.
pub(super) struct TimeLeft<'a> {
    clock: &'a dyn Clock,
    last: Timestamp,
    left: Duration,
    begun: bool,
}

impl TimeLeft<'_> {
    pub fn new(clock: &dyn Clock, budget: Duration) -> TimeLeft<'_> {
        TimeLeft {
            clock,
            last: clock.now(),
            left: budget,
            begun: false,
        }
    }

    /// Whether there is time for one more pack; for the first there always is.
    pub fn go_on(&mut self) -> bool {
        let now = self.clock.now();
        self.left = self.left.saturating_sub(between(self.last, now));
        self.last = now;
        !std::mem::replace(&mut self.begun, true) || !self.left.is_zero()
    }
}

fn between(from: Timestamp, to: Timestamp) -> Duration {
    let nanos = |t: Timestamp| i128::from(t.seconds) * 1_000_000_000 + i128::from(t.nanos);
    let passed = u64::try_from(nanos(to) - nanos(from)).unwrap_or(0);
    Duration::from_nanos(passed)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    fn packs(n: u64) -> HashMap<PackId, u64> {
        let id = |i: u64| PackId(*blake3::hash(&i.to_le_bytes()).as_bytes());
        (0..n).map(|i| (id(i), 100)).collect()
    }

    fn names(chosen: &[(PackId, u64)]) -> BTreeSet<PackId> {
        chosen.iter().map(|(id, _)| *id).collect()
    }

    #[test]
    fn parts_are_disjoint_and_make_up_the_whole() {
        let (all, none) = (packs(500), Checked::default());
        let mut seen = BTreeSet::new();
        for number in 1..=7 {
            let part = Some(Subset::Part { number, of: 7 });
            let one = choose(&all, part, Order::Name, &none, &[1; 32]);
            assert_eq!(one, choose(&all, part, Order::Name, &none, &[2; 32]));
            assert!((40..110).contains(&one.len()), "{}", one.len());
            assert!(names(&one).is_disjoint(&seen));
            seen.extend(names(&one));
        }
        assert_eq!(seen.len(), all.len());
    }

    #[test]
    fn shares_are_random_and_begin_with_what_was_checked_longest_ago() {
        let all = packs(100);
        let mut checked = Checked::default();
        let pick = |checked: &Checked, subset, salt| {
            names(&choose(
                &all,
                Some(subset),
                Order::Name,
                checked,
                &[salt; 32],
            ))
        };
        let first = pick(&checked, Subset::Percent(20.0), 1);
        assert_eq!(first.len(), 20);
        assert_ne!(first, pick(&checked, Subset::Percent(20.0), 2));
        assert_eq!(pick(&checked, Subset::Bytes(1950), 3).len(), 20);
        assert_eq!(pick(&checked, Subset::Percent(0.0), 3).len(), 1);
        assert_eq!(pick(&checked, Subset::Bytes(u64::MAX), 3).len(), 100);
        let mut seen = first.clone();
        for round in 0..4u8 {
            let before = seen.clone();
            checked.add(seen.iter().copied(), i64::from(round));
            seen.extend(pick(&checked, Subset::Percent(20.0), round + 3));
            assert_eq!(seen.len(), before.len() + 20, "none twice");
        }
        checked.add(seen.iter().copied().filter(|id| !first.contains(id)), 99);
        assert_eq!(pick(&checked, Subset::Percent(20.0), 9), first);
    }

    struct Ticking(AtomicI64, i64);

    impl Clock for Ticking {
        fn now(&self) -> Timestamp {
            Timestamp {
                seconds: self.0.fetch_add(self.1, Ordering::Relaxed),
                nanos: 0,
            }
        }
    }

    #[test]
    fn time_runs_out_and_the_first_pack_is_always_read() {
        let count = |step: i64, budget: u64| {
            let clock = Ticking(AtomicI64::new(0), step);
            let mut left = TimeLeft::new(&clock, Duration::from_secs(budget));
            (0..1000).take_while(|_| left.go_on()).count()
        };
        assert_eq!(count(1, 10), 9);
        assert_eq!(count(100, 10), 1);
        assert_eq!(count(1, 0), 1);
        assert_eq!(
            count(-5, 10),
            1000,
            "a clock that runs backwards ends nothing"
        );
    }
}

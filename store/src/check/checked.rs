//! Which packs were verified when: what a check with a budget or a subset goes on from, kept as a
//! note (docs/format.md, "State of a check").
//!
//! A hint: whoever loses it reads some packs sooner than needed. Packs are told apart by four bytes
//! of their names: beside a hundred thousand others, one new pack in forty thousand is taken for
//! one that was verified, for one round.

use std::collections::{BTreeMap, BTreeSet};

use crate::format::check_state::{Group, decode, encode};
use crate::id::PackId;
use crate::notes::{Fact, Notes};

/// Times that are told apart in one part; beyond them the oldest are joined.
const MAX_GROUPS: usize = 64;

/// When packs were verified.
#[derive(Debug, Clone, Default)]
pub(super) struct Checked {
    /// Seconds since 1970 by the first four bytes of a pack's name.
    when: BTreeMap<u32, i64>,
    /// Parts that differ from what is stored.
    changed: BTreeSet<u8>,
}

impl Checked {
    /// What notes say.
    pub fn of(notes: &Notes) -> Checked {
        let mut checked = Checked::default();
        for (_, value) in notes.check_state() {
            checked.read(value);
        }
        checked
    }

    /// What is to be noted, `standing` being the packs that are there.
    pub fn facts(self, standing: impl IntoIterator<Item = PackId>) -> Vec<Fact> {
        let parts = self.parts(standing).into_iter();
        parts
            .map(|(number, value)| Fact::CheckState {
                key: vec![number],
                value,
            })
            .collect()
    }

    /// Takes in a part as it is stored; one that cannot be read says nothing.
    fn read(&mut self, value: &[u8]) {
        for group in decode(value).unwrap_or_default() {
            for pack in group.packs {
                let when = self.when.entry(pack).or_insert(group.time);
                *when = (*when).max(group.time);
            }
        }
    }

    /// When a pack was verified last; `None` sorts before every time.
    pub fn when(&self, id: &PackId) -> Option<i64> {
        self.when.get(&start(id)).copied()
    }

    /// Packs were verified now.
    pub fn add(&mut self, packs: impl IntoIterator<Item = PackId>, now: i64) {
        for id in packs {
            self.when.insert(start(&id), now);
            self.changed.insert(part(start(&id)));
        }
    }

    /// The parts that changed, with their names and without packs that are gone.
    fn parts(mut self, standing: impl IntoIterator<Item = PackId>) -> Vec<(u8, Vec<u8>)> {
        let standing: BTreeSet<u32> = standing.into_iter().map(|id| start(&id)).collect();
        self.when.retain(|pack, _| standing.contains(pack));
        let encoded = |number: &u8| (*number, self.part(*number));
        self.changed.iter().map(encoded).collect()
    }

    fn part(&self, number: u8) -> Vec<u8> {
        let mut groups: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
        for (pack, time) in self.when.iter().filter(|(p, _)| part(**p) == number) {
            groups.entry(*time).or_default().push(*pack);
        }
        let mut groups: Vec<Group> = groups
            .into_iter()
            .map(|(time, packs)| Group { time, packs })
            .collect();
        let many = groups.len().saturating_sub(MAX_GROUPS);
        let oldest: Vec<Group> = groups.drain(..many).collect();
        if let Some(first) = groups.first_mut() {
            for group in oldest.into_iter().rev() {
                first.time = group.time;
                first.packs.extend(group.packs);
            }
            first.packs.sort_unstable();
        }
        encode(&groups)
    }
}

fn start(id: &PackId) -> u32 {
    u32::from_be_bytes(id.0.first_chunk().copied().unwrap_or_default())
}

/// Packs fall into sixteen parts by the first digit of their names, so that a short check writes
/// little.
fn part(start: u32) -> u8 {
    (start >> 28) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(i: u64) -> PackId {
        PackId(*blake3::hash(&i.to_le_bytes()).as_bytes())
    }

    fn stored(checked: Checked, packs: u64) -> Checked {
        let mut again = Checked::default();
        for (_, value) in checked.parts((0..packs).map(id)) {
            again.read(&value);
        }
        again
    }

    #[test]
    fn a_hundred_thousand_packs_take_little() {
        let mut checked = Checked::default();
        for i in 0..100_000u64 {
            checked.add([id(i)], (i / 5000) as i64);
        }
        let size: usize = checked
            .clone()
            .parts((0..100_000).map(id))
            .iter()
            .map(|p| p.1.len())
            .sum();
        assert!(size < 320_000, "{size}");
        let again = stored(checked, 100_000);
        let same = (0..100_000u64).filter(|i| again.when(&id(*i)) == Some((i / 5000) as i64));
        assert!(same.count() > 99_990);
    }

    #[test]
    fn what_is_gone_is_dropped_and_old_times_are_joined() {
        let mut checked = Checked::default();
        for i in 0..2000u64 {
            checked.add([id(i)], i as i64);
        }
        let again = stored(checked, 1990);
        assert_eq!(again.when(&id(1995)), None);
        assert_eq!(again.when(&id(1989)), Some(1989));
        assert!(again.when(&id(3)).is_some_and(|t| t <= 3));
        let times: BTreeSet<i64> = again.when.values().copied().collect();
        assert!(times.len() <= 16 * MAX_GROUPS);
    }

    #[test]
    fn only_parts_that_changed_are_written() {
        let mut checked = Checked::default();
        checked.add((0..1000).map(id), 5);
        let mut again = stored(checked, 1000);
        assert!(again.clone().parts((0..1000).map(id)).is_empty());
        again.add([id(7)], 6);
        let parts = again.parts((0..1000).map(id));
        assert_eq!(parts.len(), 1);
        assert_eq!(parts[0].0, id(7).0[0] >> 4);
    }
}

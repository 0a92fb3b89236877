//! What is bad in packs, as values: which pack, which of its records, which of their slots, and
//! why. Found by [`super::data`] and [`super::index`]; judged by [`super::places`]; built upon by
//! repair.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::id::PackId;

/// Everything that is bad in the packs that were looked at.
#[derive(Debug, Clone, Default)]
pub(crate) struct BadPacks {
    /// Packs with anything in them that is bad.
    pub packs: BTreeMap<PackId, BadPack>,
}

/// What is bad in one pack.
#[derive(Debug, Clone, Default)]
pub(crate) struct BadPack {
    /// What is wrong with the object itself: its name, header, or directory, or with what the
    /// index says of it. Its records may be whole all the same.
    pub object: Option<String>,
    /// Records that do not give back all their chunks, by offset.
    pub records: BTreeMap<u32, BadRecord>,
}

/// A record that does not give back all its chunks.
#[derive(Debug, Clone)]
pub(crate) enum BadRecord {
    /// It does not open: all its chunks are lost here.
    Whole(String),
    /// It opens, and these slots give no chunk.
    Slots(BTreeMap<u8, BadSlot>),
}

/// A chunk that its record does not give back.
#[derive(Debug, Clone)]
pub(crate) struct BadSlot {
    /// What is wrong.
    pub why: String,
    /// Where the fault lies.
    pub fault: Fault,
}

/// Where the fault for a chunk lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// In its own bytes.
    Own,
    /// In a base of it: with that base back, it is whole again.
    Base,
}

impl BadPacks {
    /// Adds what is wrong with a pack's object; the first reason stays.
    pub fn object(&mut self, pack: PackId, why: String) {
        self.packs
            .entry(pack)
            .or_default()
            .object
            .get_or_insert(why);
    }

    /// Adds a record that does not open.
    pub fn record(&mut self, pack: PackId, offset: u32, why: String) {
        let records = &mut self.packs.entry(pack).or_default().records;
        records.insert(offset, BadRecord::Whole(why));
    }

    /// Adds a slot of a record that opens; a fault of its own says more than one of a base.
    pub fn slot(&mut self, pack: PackId, offset: u32, slot: u8, bad: BadSlot) {
        let records = &mut self.packs.entry(pack).or_default().records;
        let record = records.entry(offset);
        if let BadRecord::Slots(slots) = record.or_insert_with(|| BadRecord::Slots(BTreeMap::new()))
        {
            add_slot(slots, slot, bad);
        }
    }

    /// Adds what was found elsewhere.
    pub fn join(&mut self, other: BadPacks) {
        for (id, pack) in other.packs {
            let known = self.packs.entry(id).or_default();
            known.object = known.object.take().or(pack.object);
            for (offset, record) in pack.records {
                match known.records.entry(offset) {
                    Entry::Vacant(vacant) => drop(vacant.insert(record)),
                    Entry::Occupied(mut occupied) => occupied.get_mut().join(record),
                }
            }
        }
    }

    /// Whether a pack holds deltas that lack a base, and seem whole else.
    pub fn lacks_bases(&self, pack: &PackId) -> bool {
        let lacks = |record: &BadRecord| match record {
            BadRecord::Whole(_) => false,
            BadRecord::Slots(slots) => slots.values().any(|s| s.fault == Fault::Base),
        };
        let pack = self.packs.get(pack);
        pack.is_some_and(|pack| pack.records.values().any(lacks))
    }

    /// What is wrong with a chunk's bytes at a place, as far as its pack was looked at.
    pub fn at(&self, pack: &PackId, offset: u32, slot: u8) -> Option<BadSlot> {
        match self.packs.get(pack)?.records.get(&offset)? {
            BadRecord::Slots(slots) => slots.get(&slot).cloned(),
            BadRecord::Whole(why) => Some(BadSlot {
                why: why.clone(),
                fault: Fault::Own,
            }),
        }
    }
}

impl BadRecord {
    /// Adds what was found of the same record elsewhere.
    fn join(&mut self, other: BadRecord) {
        match (self, other) {
            (BadRecord::Slots(known), BadRecord::Slots(slots)) => {
                for (slot, bad) in slots {
                    add_slot(known, slot, bad);
                }
            }
            (known @ BadRecord::Slots(_), whole) => *known = whole,
            (BadRecord::Whole(_), _) => {}
        }
    }
}

fn add_slot(slots: &mut BTreeMap<u8, BadSlot>, slot: u8, bad: BadSlot) {
    let known = slots.get(&slot).map(|known| known.fault);
    if known != Some(Fault::Own) {
        slots.insert(slot, bad);
    }
}

impl BadPack {
    /// What is wrong with the pack, in one line; `None` when only bases that stand elsewhere fail.
    pub fn what(&self) -> Option<String> {
        let own = |record: &BadRecord| match record {
            BadRecord::Whole(why) => Some(why.clone()),
            BadRecord::Slots(slots) => {
                let own = |s: &&BadSlot| s.fault == Fault::Own;
                slots.values().find(own).map(|s| s.why.clone())
            }
        };
        let mut bad = self
            .records
            .iter()
            .filter_map(|(at, r)| Some((at, own(r)?)));
        let first = bad.next();
        let more = bad.count();
        let records = first.map(|(at, why)| match more {
            0 => format!("the record at byte {at}: {why}"),
            _ => format!("the record at byte {at}: {why}, and {more} records more"),
        });
        match (&self.object, records) {
            (Some(object), Some(records)) => Some(format!("{object}; {records}")),
            (Some(object), None) => Some(object.clone()),
            (None, records) => records,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_was_found_is_lost_when_findings_are_joined() {
        let pack = PackId([1; 32]);
        let slot = |slot: u8, fault: Fault| {
            let mut bad = BadPacks::default();
            let why = format!("{fault:?}");
            bad.slot(pack, 7, slot, BadSlot { why, fault });
            bad
        };
        let fault = |bad: &BadPacks, slot| bad.at(&pack, 7, slot).map(|s| s.fault);
        let mut all = BadPacks::default();
        all.join(slot(1, Fault::Own));
        all.join(slot(2, Fault::Base));
        all.join(slot(1, Fault::Base));
        assert_eq!(fault(&all, 1), Some(Fault::Own));
        assert_eq!(fault(&all, 2), Some(Fault::Base));
        assert_eq!(fault(&all, 3), None);
        assert!(all.lacks_bases(&pack));
        all.join(slot(2, Fault::Own));
        assert_eq!(fault(&all, 2), Some(Fault::Own));
        let mut whole = BadPacks::default();
        whole.record(pack, 7, "it does not open".into());
        all.join(whole);
        all.join(slot(4, Fault::Base));
        assert_eq!(
            fault(&all, 3),
            Some(Fault::Own),
            "none of its chunks is whole"
        );
    }
}

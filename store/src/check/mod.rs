//! Checking a repository: its structure, its index, and every stored byte or a part of them
//! (gc-protocol.md, "Reader").
//!
//! Needs no session. A row to an absent pack, a pack without rows and a condemned pack are no
//! errors: other processes may be at work.
//!
//! This file is the order of one check. `objects` looks at small objects, `plan` chooses packs and
//! `checked` knows when each was verified, `data` reads them (`read` one of them, `chains` finds an
//! order for deltas), `index` compares them with segments, `places` judges which chunks have a
//! whole place, `walk` goes through the trees, `damage` tells what was found. What repair builds
//! on: `bad_segments`, `data::read_packs` with `bad::BadPacks`, and `places::Places`.

pub(crate) mod bad;
mod chains;
mod checked;
mod damage;
pub(crate) mod data;
mod index;
mod objects;
pub(crate) mod places;
mod plan;
mod read;
mod walk;

pub use damage::{Damage, DamageKind, LostPaths, MAX_DAMAGE, MAX_FILES};
pub use plan::Subset;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use self::bad::BadPacks;
use self::checked::Checked;
use self::damage::Ledger;
use self::data::read_packs;
use self::places::Places;
use self::plan::{Order, TimeLeft, choose};
use self::walk::Walker;
use crate::backend::Area;
use crate::copies::Copies;
use crate::error::AccessError;
use crate::format::objects::Manifest;
use crate::gc::Seen;
use crate::id::{PackId, SegmentId, SnapshotId, Uuid};
use crate::monitor::{Event, Monitor};
use crate::notes::{self, Fact, Notes, Proof};
use crate::pack::pack_key;
use crate::reader::Reader;
use crate::repository::{Repository, named_key};
use crate::snapshots::SnapshotList;
use crate::view::{Lists, list_packs};

/// How much is checked. Each level holds those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Level {
    /// Every small object and segment opens, every tree can be walked, and every chunk that a
    /// snapshot needs has a place in a pack that exists.
    #[default]
    Structure,
    /// Every pack's header and directory agree with the index.
    Index,
    /// Every byte of packs is read: each pack against its name, each chunk against its id.
    Data,
}

/// What is checked.
#[derive(Debug, Clone, Default)]
pub struct CheckOptions {
    /// How much.
    pub level: Level,
    /// The packs that are read at [`Level::Data`]; all without it.
    pub subset: Option<Subset>,
    /// How long packs are read at [`Level::Data`], those first that were checked longest ago.
    pub budget: Option<Duration>,
    /// Notes nothing in the repository.
    pub dry_run: bool,
}

/// What a check found.
#[derive(Debug, Clone, Default)]
pub struct CheckReport {
    /// Snapshots whose trees were walked.
    pub snapshots: u64,
    /// Packs.
    pub packs: u64,
    /// Their stored bytes.
    pub bytes: u64,
    /// Packs that were read.
    pub packs_read: u64,
    /// Their stored bytes.
    pub bytes_read: u64,
    /// References of pages to chunks that were looked at.
    pub chunks: u64,
    /// Pages of trees that were read.
    pub pages: u64,
    /// What is damaged, at most [`MAX_DAMAGE`]; empty when all is well.
    pub damage: Vec<Damage>,
    /// Damages that are not listed.
    pub more_damage: u64,
    /// What is worth a line and no damage.
    pub notes: Vec<String>,
}

/// Most names in one note.
const MAX_NAMED: usize = 5;
/// Walks that are made before what is lost counts as lost: snapshots may be forgotten, and chunks
/// moved, while a walk is made.
const MAX_WALKS: usize = 3;

/// Checks.
///
/// # Errors
/// When the backend fails; damage stands in the report.
pub fn check(
    repository: &Repository,
    options: &CheckOptions,
    monitor: &dyn Monitor,
) -> Result<CheckReport, AccessError> {
    let mut run = Run {
        repository,
        monitor,
        report: CheckReport::default(),
        ledger: Ledger::default(),
        everything: false,
        facts: Vec::new(),
        verified: Vec::new(),
    };
    monitor.event(Event::Phase("reading snapshots and index"));
    let seen = Seen::load(repository);
    let snapshots = SnapshotList::read(repository)?;
    run.unlisted(&seen.missing(&snapshots));
    run.small_objects(&snapshots)?;
    run.segments()?;
    let packs = list_packs(repository)?;
    run.report.packs = packs.len() as u64;
    run.report.bytes = packs.values().sum();
    run.count_unindexed(&packs)?;
    let bad = match options.level {
        Level::Data => run.data(options, &packs)?,
        Level::Index => run.compare(&packs)?,
        Level::Structure => BadPacks::default(),
    };
    run.trees(snapshots, packs, &bad)?;
    if !options.dry_run {
        run.note();
    }
    Ok(run.finish())
}

/// Segments that do not open, with the reason. One that is gone meanwhile is left out.
///
/// # Errors
/// When the backend fails.
pub(crate) fn bad_segments(
    repository: &Repository,
) -> Result<Vec<(SegmentId, String)>, AccessError> {
    let segments = repository.segments();
    let mut bad = Vec::new();
    for (id, _) in segments.list()? {
        match segments.get(&id) {
            Ok(_) => {}
            Err(e) if e.is_damage() => bad.push((id, data::reason(e))),
            Err(e) => return Err(e),
        }
    }
    Ok(bad)
}

/// Packs in gc lists. A list that does not open is told elsewhere.
fn condemned(repository: &Repository) -> Result<HashSet<PackId>, AccessError> {
    let lists = Lists::read(repository)?.whole;
    Ok(lists.into_iter().flat_map(|l| l.packs).collect())
}

struct Run<'a> {
    repository: &'a Repository,
    monitor: &'a dyn Monitor,
    report: CheckReport,
    ledger: Ledger,
    /// Every byte of every pack was read.
    everything: bool,
    /// What is to be noted of packs.
    facts: Vec<Fact>,
    /// Snapshots that were found whole, down to their last byte.
    verified: Vec<SnapshotId>,
}

impl Run<'_> {
    /// Names that never vanish and that this machine has seen. No damage: a repository may have
    /// been set back to an older copy.
    fn unlisted(&mut self, missing: &[(Area, Uuid)]) {
        let named = |(area, name): &(Area, Uuid)| named_key(*area, name).path();
        let names: Vec<String> = missing.iter().take(MAX_NAMED).map(named).collect();
        if !names.is_empty() {
            let note = format!(
                "this machine has seen {} that are not listed any more ({}{}): the storage hides \
                 or lost them, or the repository was set back",
                missing.len(),
                names.join(", "),
                if names.len() < missing.len() {
                    ", …"
                } else {
                    ""
                },
            );
            self.ledger.note(note);
        }
    }

    fn small_objects(&mut self, snapshots: &SnapshotList) -> Result<(), AccessError> {
        for (name, why) in &snapshots.unreadable {
            let object = format!("snapshots/{name}");
            self.ledger.add(DamageKind::Snapshot, object, why.clone());
        }
        self.copied(snapshots)?;
        let mut objects = objects::Objects {
            repository: self.repository,
            ledger: &mut self.ledger,
        };
        objects.check(&snapshots.flawed)
    }

    /// Manifests and notes that are lost and were read from their copies, and manifests without
    /// one.
    fn copied(&mut self, snapshots: &SnapshotList) -> Result<(), AccessError> {
        const REST: &str = "a copy of it opens: `hucha repair` puts it back";
        for (name, flaw) in &snapshots.flawed {
            let object = format!("snapshots/{name}");
            let Some(manifest) = snapshots.committed.iter().find(|m| m.name == *name) else {
                self.ledger
                    .note(format!("{object}: {flaw}; forgotten, and its copy opens"));
                continue;
            };
            let what = format!("{flaw}; {REST}");
            if let Some(line) = self.ledger.add(DamageKind::Snapshot, object, what) {
                self.ledger.snapshot(line, manifest.id);
            }
        }
        let notes = Notes::read(self.repository)?;
        for (name, flaw) in notes.flawed(&|id| snapshots.stands(id)) {
            let (object, what) = (format!("notes/{name}"), format!("{flaw}; {REST}"));
            self.ledger.add(DamageKind::Note, object, what);
        }
        let copies = Copies::list(self.repository)?.snapshots;
        let single = |m: &&Manifest| !copies.contains(&m.name);
        let count = snapshots.committed.iter().filter(single).count();
        if count > 0 {
            self.ledger.note(format!(
                "manifests without a copy: {count}; the next gc makes them"
            ));
        }
        Ok(())
    }

    /// Every segment opens and matches its name. Those that do not are passed over by everybody.
    fn segments(&mut self) -> Result<(), AccessError> {
        let bad = bad_segments(self.repository)?;
        self.repository.update_index()?;
        if !bad.is_empty() {
            let note = "chunks that only a damaged segment knows count as missing";
            self.ledger.note(note.into());
        }
        for (id, why) in bad {
            let object = format!("index/{id}");
            self.ledger.add(DamageKind::Segment, object, why);
        }
        Ok(())
    }

    /// Packs of runs that are at work or were interrupted: no damage.
    fn count_unindexed(&mut self, packs: &HashMap<PackId, u64>) -> Result<(), AccessError> {
        let known = self.repository.index().packs(&self.repository.segments())?;
        let known: BTreeSet<PackId> = known.into_iter().map(|k| k.id).collect();
        let count = packs.keys().filter(|id| !known.contains(id)).count();
        if count > 0 {
            let note = format!(
                "packs that no segment knows: {count}; a run is at work or was interrupted, and gc \
                 frees them"
            );
            self.ledger.note(note);
        }
        Ok(())
    }

    fn compare(&mut self, packs: &HashMap<PackId, u64>) -> Result<BadPacks, AccessError> {
        self.monitor.event(Event::Phase("comparing the index"));
        index::compare(self.repository, packs, self.monitor)
    }

    fn data(
        &mut self,
        options: &CheckOptions,
        packs: &HashMap<PackId, u64>,
    ) -> Result<BadPacks, AccessError> {
        let clock = &*self.repository.environment().clock;
        let mut left = options.budget.map(|budget| TimeLeft::new(clock, budget));
        let order = options.budget.map_or(Order::Name, |_| Order::Age);
        let notes = Notes::read(self.repository)?;
        let mut checked = Checked::of(&notes);
        let salt = crate::crypto::random();
        let plan = choose(packs, options.subset, order, &checked, &salt);
        self.monitor.event(Event::Phase("reading data"));
        self.monitor.event(Event::Expect {
            bytes: plan.iter().map(|(_, n)| n).sum(),
            entries: plan.len() as u64,
        });
        let mut go_on = || left.as_mut().is_none_or(TimeLeft::go_on);
        let read = read_packs(self.repository, &plan, self.monitor, &mut go_on)?;
        self.report.packs_read = read.read.len() as u64;
        self.report.bytes_read = read.read.iter().map(|(_, n)| n).sum();
        let mut bad = read.bad;
        let read: HashMap<PackId, u64> = read.read.into_iter().collect();
        bad.join(self.compare(&read)?);
        // One that is bad is read again by the next check, until it is repaired.
        let whole = read.keys().filter(|id| !bad.packs.contains_key(id));
        checked.add(whole.copied(), clock.now().seconds);
        self.everything = read.len() == packs.len();
        self.facts = checked.facts(packs.keys().copied());
        Ok(bad)
    }

    /// Notes what was verified. It serves the next check only: that it cannot be noted is told and
    /// fails nothing.
    fn note(&mut self) {
        let verified = std::mem::take(&mut self.verified);
        let time = self.repository.environment().clock.now();
        let by = Proof::Check;
        let verified = verified
            .into_iter()
            .map(|snapshot| Fact::Verified { snapshot, by, time });
        let facts: Vec<Fact> = self.facts.drain(..).chain(verified).collect();
        let known = Notes::read(self.repository);
        if let Err(e) = known.and_then(|known| notes::put(self.repository, &known, &facts)) {
            let note = format!("what was verified could not be noted for the next check: {e}");
            self.ledger.note(note);
        }
    }

    /// Walks all snapshots. What seems damaged is looked at again when anything changed meanwhile.
    fn trees(
        &mut self,
        mut snapshots: SnapshotList,
        mut packs: HashMap<PackId, u64>,
        bad: &BadPacks,
    ) -> Result<(), AccessError> {
        self.monitor.event(Event::Phase("walking snapshots"));
        // Repair has seen to these; what a snapshot has lost with them is told all the same.
        let condemned = condemned(self.repository)?;
        for walk in 1..=MAX_WALKS {
            let mut ledger = self.ledger.clone();
            for (id, what) in bad.packs.iter().filter_map(|(id, b)| Some((id, b.what()?))) {
                if packs.contains_key(id) && !condemned.contains(id) {
                    ledger.add(DamageKind::Pack, pack_key(id)?.path(), what);
                }
            }
            let reader = Reader::new(self.repository);
            let places = Places::of(self.repository, bad, packs.clone());
            let mut walker = Walker::new(&reader, places, ledger, self.monitor);
            self.verified.clear();
            for manifest in &snapshots.committed {
                if walker.walk(manifest)? && self.everything {
                    self.verified.push(manifest.id);
                }
            }
            self.report.snapshots = snapshots.committed.len() as u64;
            self.report.chunks = walker.chunks;
            self.report.pages = walker.pages;
            let found = walker.finish();
            if found.is_empty() || walk == MAX_WALKS {
                self.ledger = found;
                return Ok(());
            }
            self.repository.update_index()?;
            let again = SnapshotList::read(self.repository)?;
            let listed = list_packs(self.repository)?;
            if again.committed == snapshots.committed && listed == packs {
                self.ledger = found;
                return Ok(());
            }
            (snapshots, packs) = (again, listed);
        }
        Ok(())
    }

    fn finish(self) -> CheckReport {
        let mut report = self.report;
        self.ledger.finish(&mut report);
        for damage in &report.damage {
            let message = format!("{}: {}", damage.object, damage.what);
            self.monitor.event(Event::Problem {
                path: damage.object.as_bytes(),
                message: &message,
            });
        }
        report
    }
}

#[cfg(test)]
mod tests;

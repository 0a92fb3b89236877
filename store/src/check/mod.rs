//! Checking a repository: its structure, its index, and every stored byte or a part of them
//! (gc-protocol.md, "Reader").
//!
//! Needs no session. A row to an absent pack, a pack without rows and a condemned pack are no
//! errors: other processes may be at work.
//!
//! This file is the order of one check. [`objects`] looks at small objects, [`data`] reads packs,
//! [`places`] judges which chunks have a whole place, [`walk`] goes through the trees, [`damage`]
//! tells what was found. What repair builds on: [`bad_segments`], [`data::read_packs`] with
//! [`bad::BadPacks`], and [`places::Places`].

pub(crate) mod bad;
mod damage;
pub(crate) mod data;
mod objects;
pub(crate) mod places;
mod walk;

pub use damage::{Damage, DamageKind, LostPaths, MAX_DAMAGE, MAX_FILES};

use std::collections::HashMap;

use self::bad::BadPacks;
use self::damage::Ledger;
use self::data::read_packs;
use self::places::Places;
use self::walk::Walker;
use crate::error::AccessError;
use crate::id::{PackId, SegmentId};
use crate::monitor::{Event, Monitor};
use crate::pack::pack_key;
use crate::reader::Reader;
use crate::repository::Repository;
use crate::snapshots::SnapshotList;
use crate::view::list_packs;

/// How much is checked. Each level holds those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Level {
    /// Every small object and segment opens, every tree can be walked, and every chunk that a
    /// snapshot needs has a place in a pack that exists.
    #[default]
    Structure,
    /// Every byte of packs is read: each pack against its name, each chunk against its id.
    Data,
}

/// What is checked.
#[derive(Debug, Clone, Default)]
pub struct CheckOptions {
    /// How much.
    pub level: Level,
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
    };
    monitor.event(Event::Phase("reading snapshots and index"));
    let snapshots = SnapshotList::read(repository)?;
    run.small_objects(&snapshots)?;
    run.segments()?;
    let packs = list_packs(repository)?;
    run.report.packs = packs.len() as u64;
    run.report.bytes = packs.values().sum();
    let bad = match options.level {
        Level::Data => run.data(&packs)?,
        Level::Structure => BadPacks::default(),
    };
    run.trees(snapshots, packs, &bad)?;
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

struct Run<'a> {
    repository: &'a Repository,
    monitor: &'a dyn Monitor,
    report: CheckReport,
    ledger: Ledger,
}

impl Run<'_> {
    fn small_objects(&mut self, snapshots: &SnapshotList) -> Result<(), AccessError> {
        for (name, why) in &snapshots.unreadable {
            let object = format!("snapshots/{name}");
            self.ledger.add(DamageKind::Snapshot, object, why.clone());
        }
        let mut objects = objects::Objects {
            repository: self.repository,
            ledger: &mut self.ledger,
            notes: &mut self.report.notes,
        };
        objects.check()
    }

    /// Every segment opens and matches its name. Those that do not are passed over by everybody.
    fn segments(&mut self) -> Result<(), AccessError> {
        let bad = bad_segments(self.repository)?;
        self.repository.update_index()?;
        if !bad.is_empty() {
            let note = "chunks that only a damaged segment knows count as missing";
            self.report.notes.push(note.into());
        }
        for (id, why) in bad {
            let object = format!("index/{id}");
            self.ledger.add(DamageKind::Segment, object, why);
        }
        Ok(())
    }

    fn data(&mut self, packs: &HashMap<PackId, u64>) -> Result<BadPacks, AccessError> {
        self.monitor.event(Event::Phase("reading data"));
        let mut plan: Vec<(PackId, u64)> = packs.iter().map(|(id, n)| (*id, *n)).collect();
        plan.sort_unstable();
        self.monitor.event(Event::Expect {
            bytes: plan.iter().map(|(_, n)| n).sum(),
            entries: plan.len() as u64,
        });
        let read = read_packs(self.repository, &plan, self.monitor, &mut || true)?;
        self.report.packs_read = read.read.len() as u64;
        self.report.bytes_read = read.read.iter().map(|(_, n)| n).sum();
        Ok(read.bad)
    }

    /// Walks all snapshots. What seems damaged is looked at again when anything changed meanwhile.
    fn trees(
        &mut self,
        mut snapshots: SnapshotList,
        mut packs: HashMap<PackId, u64>,
        bad: &BadPacks,
    ) -> Result<(), AccessError> {
        self.monitor.event(Event::Phase("walking snapshots"));
        for walk in 1..=MAX_WALKS {
            let mut ledger = self.ledger.clone();
            for (id, what) in bad.packs.iter().filter_map(|(id, b)| Some((id, b.what()?))) {
                if packs.contains_key(id) {
                    ledger.add(DamageKind::Pack, pack_key(id)?.path(), what);
                }
            }
            let reader = Reader::new(self.repository);
            let places = Places::of(self.repository, bad, packs.clone());
            let mut walker = Walker::new(&reader, places, ledger, self.monitor);
            for manifest in &snapshots.committed {
                walker.walk(manifest)?;
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
        (report.damage, report.more_damage) = self.ledger.finish();
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
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::crypto::Encryption;
    use crate::format::segment::{Segment, SegmentPack, SegmentRow};
    use crate::id::{ChunkId, SegmentId, Uuid};
    use crate::index::{Bases, Encoding, Index, MemoryIndex};
    use crate::monitor::Silent;
    use crate::record::World;
    use crate::testing::{MapSource, new_repository, noise, open, take};

    fn row(id: u8, pack: u32, bases: &[u8]) -> SegmentRow {
        let mut refs = Bases::NONE;
        for base in bases {
            assert!(refs.push(ChunkId([*base; 32]).as_base()));
        }
        SegmentRow {
            id: ChunkId([id; 32]),
            pack,
            offset: 100,
            stored: 100,
            slot: id,
            plain: 10,
            encoding: Encoding::Raw,
            depth: bases.len() as u8,
            bases: refs,
        }
    }

    #[test]
    fn cycles_of_bases_end() {
        let pack = |n: u8| SegmentPack {
            id: PackId([n; 32]),
            session: Uuid([1; 16]),
            tree: false,
        };
        // 1 and 2 need each other; 3 and 4 too, but 4 is also plain; 5 to 40 need four each of
        // the next ones, and all of them 1.
        let mut rows = vec![row(1, 0, &[2]), row(2, 0, &[1]), row(3, 0, &[4])];
        rows.extend([row(4, 0, &[3]), row(4, 1, &[])]);
        rows.extend((5..40).map(|n| row(n, 0, &[n + 1, n + 1, n, 1])));
        let segment = Segment {
            supersedes: vec![],
            packs: vec![pack(1), pack(2)],
            rows,
        };
        let index = MemoryIndex::default();
        index.apply(&[(SegmentId([1; 32]), &segment)]).unwrap();
        let (_, mut repository) = new_repository(Encryption::None, 0);
        repository.replace_index(Arc::new(index));
        let packs = HashMap::from([(PackId([1; 32]), 1000), (PackId([2; 32]), 1000)]);
        let bad = BadPacks::default();
        let mut places = Places::of(&repository, &bad, packs);
        for (id, good) in [(3, true), (4, true), (1, false), (2, false), (5, false)] {
            let causes = places.lost(&ChunkId([id; 32])).unwrap();
            assert_eq!(causes.is_empty(), good, "{id}: {causes:?}");
        }
        let reader = Reader::new(&repository);
        assert!(reader.chunk(World::Content, &ChunkId([5; 32])).is_err());
    }

    #[test]
    fn a_short_pack_names_snapshots_and_files() {
        let (memory, repository) = new_repository(Encryption::None, 0);
        let mut source = MapSource::default();
        source.files.insert(b"f".to_vec(), noise(2000, "f"));
        let manifest = take(&repository, &mut source).manifest;
        let options = CheckOptions { level: Level::Data };
        let report = check(&repository, &options, &Silent::default()).unwrap();
        assert!(report.damage.is_empty(), "{:?}", report.damage);
        let id = repository.keys().chunk_id(&source.files[&b"f"[..]]);
        let segments = repository.segments();
        let found = repository.index().find(&segments, &id).unwrap();
        let Some(found) = found else {
            panic!("one chunk")
        };
        let pack = repository.index().pack(found.places[0].pack);
        let key = pack_key(&pack.unwrap().id).unwrap();
        let mut bytes = repository.backend().get(&key).unwrap();
        bytes.truncate(bytes.len() - 1000);
        memory.replace(&key, bytes);
        let repository = open(&memory, Encryption::None, 0);
        let report = check(&repository, &options, &Silent::default()).unwrap();
        let named = |d: &&Damage| d.snapshots == [manifest.id] && d.files == [b"f".to_vec()];
        assert_eq!(report.damage.iter().filter(named).count(), 1);
        assert_eq!(report.damage.len(), 1, "{:?}", report.damage);
    }
}

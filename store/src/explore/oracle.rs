//! The oracle: a model of what is stored, kept up to date operation by operation, and what must
//! hold after each (gc-protocol.md, "Assert").

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::library::{Library, References};
use crate::backend::{Area, Key};
use crate::crypto::Kind;
use crate::format::objects::{
    GcList, Manifest, OpenList, SessionInfo, SessionKind, SnapshotObject,
};
use crate::format::segment::Segment;
use crate::id::{ChunkId, PackId, SegmentId, Uuid};

/// What must not happen, in words.
pub(super) type Verdict = Result<(), String>;

#[derive(Clone)]
pub(super) struct Oracle {
    library: Library,
    packs: BTreeMap<PackId, Arc<Vec<ChunkId>>>,
    ever: BTreeSet<PackId>,
    /// Packs whose first put landed after a second had been acknowledged.
    revived: BTreeSet<PackId>,
    segments: BTreeMap<SegmentId, Arc<Segment>>,
    snapshots: BTreeMap<Uuid, Option<(Arc<Manifest>, References)>>,
    trash: BTreeSet<Uuid>,
    sessions: BTreeMap<Uuid, SessionKind>,
    lists: BTreeMap<Uuid, Arc<Vec<PackId>>>,
    open: BTreeMap<Uuid, Vec<Uuid>>,
    /// Packs that were damaged before the schedules begin: nothing comes out of them.
    bad: BTreeSet<PackId>,
    /// Chunks that no pack gave back then, with what only lost pages lead to. Nobody is to blame
    /// for them.
    lost: BTreeSet<ChunkId>,
    /// Judges only what is lost, not how.
    pub lenient: bool,
}

impl Oracle {
    pub fn new(library: Library) -> Oracle {
        Oracle {
            library,
            packs: BTreeMap::new(),
            ever: BTreeSet::new(),
            revived: BTreeSet::new(),
            segments: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            trash: BTreeSet::new(),
            sessions: BTreeMap::new(),
            lists: BTreeMap::new(),
            open: BTreeMap::new(),
            bad: BTreeSet::new(),
            lost: BTreeSet::new(),
            lenient: false,
        }
    }

    /// An object was created. `late` when nobody waited for it any more.
    pub fn created(&mut self, key: &Key, stored: &[u8], late: bool) -> Verdict {
        let bad = || format!("{key} is not readable");
        match key.area() {
            Area::Packs => {
                let id: PackId = key.name().parse().map_err(|_| bad())?;
                let chunks = self.library.pack(id, stored).ok_or_else(bad)?;
                self.packs.insert(id, chunks);
                let again = !self.ever.insert(id);
                if again && late {
                    self.revived.insert(id);
                }
                Ok(())
            }
            Area::Index => {
                let id: SegmentId = key.name().parse().map_err(|_| bad())?;
                let segment = self.library.segment(id, stored).ok_or_else(bad)?;
                if !late && let Some(p) = segment.packs.iter().find(|p| !self.ever.contains(&p.id))
                {
                    return Err(format!("{key} names pack {:.8} that never was", p.id));
                }
                self.segments.insert(id, segment);
                Ok(())
            }
            Area::Snapshots => self.settled_by(key, stored),
            Area::Trash => {
                self.trash.insert(key.name().parse().map_err(|_| bad())?);
                Ok(())
            }
            Area::Sessions => {
                if let Ok(name) = key.name().parse::<Uuid>() {
                    let fields = self.library.open(Kind::Session, stored).ok_or_else(bad)?;
                    let info = SessionInfo::decode(&fields).map_err(|_| bad())?;
                    self.sessions.insert(name, info.kind);
                }
                Ok(())
            }
            Area::Gc => {
                let fields = self.library.open(Kind::List, stored).ok_or_else(bad)?;
                if let Ok(name) = key.name().parse::<Uuid>() {
                    let list = GcList::decode(&fields).map_err(|_| bad())?;
                    self.lists.insert(name, Arc::new(list.packs));
                } else {
                    let open = OpenList::decode(&fields).map_err(|_| bad())?;
                    self.open.insert(open.name, open.sessions);
                }
                Ok(())
            }
            Area::Copies => self.copied(key),
            Area::Config | Area::Keys | Area::Notes => Ok(()),
        }
    }

    fn copied(&mut self, key: &Key) -> Verdict {
        let Some((Area::Snapshots, name)) = crate::copies::original(key.name()) else {
            return Ok(());
        };
        let committed = self.snapshots.get(&name).is_some_and(Option::is_some);
        self.rule(committed || self.trash.contains(&name), || {
            format!("{key} is a copy of what was never committed")
        })
    }

    fn settled_by(&mut self, key: &Key, stored: &[u8]) -> Verdict {
        let bad = || format!("{key} is not readable");
        let name: Uuid = key.name().parse().map_err(|_| bad())?;
        let fields = self.library.open(Kind::Snapshot, stored).ok_or_else(bad)?;
        match SnapshotObject::decode(&fields).map_err(|_| bad())? {
            SnapshotObject::Tombstone { .. } => {
                self.snapshots.insert(name, None);
                Ok(())
            }
            SnapshotObject::Manifest(manifest) => {
                let forgotten = self.trash.contains(&name);
                let references = self.library.references(&manifest);
                let references = references.or(forgotten.then(References::default));
                let references = references
                    .ok_or_else(|| format!("{key} refers to a page that was never stored"))?;
                let entry = Some((Arc::new(*manifest), references));
                self.snapshots.insert(name, entry);
                self.check()
            }
        }
    }

    /// An object is about to be deleted. `late` when nobody waits for it any more.
    pub fn deleted(&mut self, key: &Key, late: bool) -> Verdict {
        match key.area() {
            Area::Packs => {
                let Ok(id) = key.name().parse() else {
                    return Ok(());
                };
                let Some(chunks) = self.packs.remove(&id) else {
                    return Ok(());
                };
                drop(chunks);
                self.check()?;
                let exempt = late || self.revived.contains(&id);
                self.rule(exempt || self.may_delete_pack(&id), || {
                    format!("{key} is in no list whose writers are all settled")
                })
            }
            Area::Index => {
                let Ok(id) = key.name().parse() else {
                    return Ok(());
                };
                if self.segments.remove(&id).is_none() {
                    return Ok(());
                }
                self.check()?;
                let superseded = self.segments.values().any(|s| s.supersedes.contains(&id));
                self.rule(superseded, || format!("nothing supersedes {key}"))
            }
            Area::Snapshots => self.unsettled_by(key),
            Area::Trash => Err(format!("the marker {key} is deleted")),
            Area::Sessions => self.session_deleted(key),
            Area::Gc => self.list_deleted(key),
            Area::Config | Area::Keys | Area::Notes | Area::Copies => Ok(()),
        }
    }

    fn unsettled_by(&mut self, key: &Key) -> Verdict {
        let Ok(name) = key.name().parse::<Uuid>() else {
            return Ok(());
        };
        let stood = self.snapshots.remove(&name).is_some();
        self.rule(!stood || self.trash.contains(&name), || {
            format!("{key} is freed unmarked")
        })
    }

    fn session_deleted(&mut self, key: &Key) -> Verdict {
        let Ok(name) = key.name().parse::<Uuid>() else {
            return Ok(());
        };
        let writer = self.sessions.remove(&name) == Some(SessionKind::Writer);
        self.rule(!writer || self.is_settled(&name), || {
            format!("{key} is deleted before its name is settled")
        })
    }

    fn list_deleted(&mut self, key: &Key) -> Verdict {
        let (name, open) = match key.name().strip_suffix(".open") {
            Some(name) => (name, true),
            None => (key.name(), false),
        };
        let Ok(name) = name.parse::<Uuid>() else {
            return Ok(());
        };
        let packs = self.lists.get(&name).cloned();
        let left = packs.and_then(|packs| {
            let standing = |p: &&PackId| self.packs.contains_key(*p) && !self.revived.contains(*p);
            packs.iter().find(standing).copied()
        });
        if open {
            self.open.remove(&name);
        } else {
            self.lists.remove(&name);
        }
        self.rule(left.is_none(), || {
            format!("{key} goes while packs of it stand")
        })
    }

    /// A rule of the protocol, whether or not anything is lost by breaking it.
    fn rule(&self, kept: bool, why: impl FnOnce() -> String) -> Verdict {
        if kept || self.lenient {
            Ok(())
        } else {
            Err(why())
        }
    }

    fn is_settled(&self, name: &Uuid) -> bool {
        self.snapshots.contains_key(name) || self.trash.contains(name)
    }

    fn may_delete_pack(&self, pack: &PackId) -> bool {
        let settled = |list: &Uuid| {
            let open = self.open.get(list);
            open.is_some_and(|open| open.iter().all(|s| self.is_settled(s)))
        };
        let mut lists = self.lists.iter().filter(|(_, packs)| packs.contains(pack));
        lists.any(|(list, _)| settled(list))
    }

    /// Every chunk of each committed snapshot is usable over packs that exist and rows of segments
    /// that exist.
    pub fn check(&self) -> Verdict {
        let usable = self.usable();
        for (name, manifest, references) in self.committed() {
            let is_lost = |id: &&ChunkId| !usable.contains(*id) && !self.lost.contains(*id);
            if let Some(lost) = references.iter().find(is_lost) {
                let paths = manifest.files;
                return Err(format!(
                    "snapshot {name:.8} ({paths} files) has lost chunk {lost:.8}"
                ));
            }
        }
        Ok(())
    }

    /// Committed snapshots: no marker stands for them.
    pub fn committed(&self) -> impl Iterator<Item = (Uuid, &Arc<Manifest>, &References)> {
        let whole = self.snapshots.iter().filter_map(|(name, what)| {
            let (manifest, references) = what.as_ref()?;
            Some((*name, manifest, references))
        });
        whole.filter(|(name, _, _)| !self.trash.contains(name))
    }

    /// The least fixed point of "a row is plain, or all its bases are usable".
    pub fn usable(&self) -> BTreeSet<ChunkId> {
        let mut usable = BTreeSet::new();
        let mut halves: BTreeSet<[u8; 16]> = BTreeSet::new();
        let mut deltas = Vec::new();
        for segment in self.segments.values() {
            for row in &segment.rows {
                let pack = &segment.packs[row.pack as usize].id;
                if !self.packs.contains_key(pack) || self.bad.contains(pack) {
                    continue;
                }
                if row.bases.is_empty() {
                    usable.insert(row.id);
                    halves.insert(row.id.as_base().0);
                } else {
                    deltas.push((row.id, row.bases));
                }
            }
        }
        loop {
            let before = deltas.len();
            deltas.retain(|(id, bases)| {
                let whole = bases.iter().all(|b| halves.contains(&b.0));
                if whole {
                    usable.insert(*id);
                    halves.insert(id.as_base().0);
                }
                !whole
            });
            if deltas.len() == before {
                return usable;
            }
        }
    }

    /// A pack was damaged so that nothing comes out of it any more. What is unusable from now on
    /// counts as lost; `all` of every snapshot does, when a page was in it.
    pub fn damage(&mut self, pack: PackId, all: bool) {
        self.bad.insert(pack);
        let usable = self.usable();
        let references: Vec<References> = self.committed().map(|(_, _, r)| r.clone()).collect();
        let gone = references.iter().flat_map(|r| r.iter());
        self.lost
            .extend(gone.filter(|id| all || !usable.contains(*id)));
    }

    /// Whether anything was.
    pub fn is_damaged(&self) -> bool {
        !self.bad.is_empty()
    }

    /// Whether a chunk was lost before the schedules began.
    pub fn may_miss(&self, id: &ChunkId) -> bool {
        self.lost.contains(id)
    }

    /// Whether a committed snapshot needs what is lost and nobody has brought back.
    pub fn misses(&self) -> bool {
        let usable = self.usable();
        let missing = |id: &ChunkId| self.lost.contains(id) && !usable.contains(id);
        self.committed().any(|(_, _, r)| r.iter().any(missing))
    }

    /// What is left that a quiet repository need not hold: after one gc there is nothing.
    pub fn garbage(&self) -> Verdict {
        let mut live: BTreeSet<ChunkId> = BTreeSet::new();
        for (_, _, references) in self.committed() {
            live.extend(references.iter());
        }
        // A base lives as long as a row that needs it does; any row may be the one in use.
        loop {
            let before = live.len();
            let halves: BTreeSet<[u8; 16]> = self
                .rows()
                .filter(|row| live.contains(&row.id))
                .flat_map(|row| row.bases.iter().map(|b| b.0))
                .collect();
            let bases: Vec<ChunkId> = self
                .rows()
                .filter(|row| halves.contains(&row.id.as_base().0))
                .map(|row| row.id)
                .collect();
            live.extend(bases);
            if live.len() == before {
                break;
            }
        }
        for (pack, chunks) in &self.packs {
            if !chunks.iter().any(|c| live.contains(c)) {
                return Err(format!("pack {pack:.8} holds nothing that lives and stays"));
            }
        }
        // One of repair's stays for the sake of what is lost.
        if !self.misses()
            && let Some((list, _)) = self.lists.first_key_value()
        {
            return Err(format!("list {list:.8} stays"));
        }
        if let Some((session, _)) = self.sessions.first_key_value() {
            return Err(format!("session {session:.8} stays"));
        }
        let marked = |(name, _): &(&Uuid, _)| self.trash.contains(*name);
        match self.snapshots.iter().find(marked) {
            Some((name, Some(_))) => Err(format!("the manifest of forgotten {name:.8} stays")),
            _ => Ok(()),
        }
    }

    fn rows(&self) -> impl Iterator<Item = &crate::format::segment::SegmentRow> {
        let standing =
            |s: &&Arc<Segment>, pack: u32| self.packs.contains_key(&s.packs[pack as usize].id);
        self.segments
            .values()
            .flat_map(move |s| s.rows.iter().filter(move |r| standing(&s, r.pack)))
    }

    /// Whether every chunk of a manifest stands in some segment: it may be committed.
    pub fn is_committable(&self, stored: &[u8]) -> bool {
        let Some(fields) = self.library.open(Kind::Snapshot, stored) else {
            return false;
        };
        match SnapshotObject::decode(&fields) {
            Ok(SnapshotObject::Manifest(m)) => self.library.references(&m).is_some(),
            Ok(SnapshotObject::Tombstone { .. }) => true,
            Err(_) => false,
        }
    }

    /// Packs that stand, for tests.
    pub fn packs(&self) -> &BTreeMap<PackId, Arc<Vec<ChunkId>>> {
        &self.packs
    }

    /// Lists in force, for tests.
    pub fn lists(&self) -> &BTreeMap<Uuid, Arc<Vec<PackId>>> {
        &self.lists
    }

    /// Everything at `snapshots/`, for tests.
    pub fn names(&self) -> &BTreeMap<Uuid, Option<(Arc<Manifest>, References)>> {
        &self.snapshots
    }
}

impl Oracle {
    /// Packs that segments of the past name may be gone.
    pub fn allow_gone(&mut self, segments: &[String], memory: &crate::backend::Memory) {
        use crate::backend::Backend;
        for name in segments {
            let id: SegmentId = name.parse().unwrap();
            let stored = memory.get(&Key::new(Area::Index, id).unwrap()).unwrap();
            let segment = self.library.segment(id, &stored).unwrap();
            self.ever.extend(segment.packs.iter().map(|p| p.id));
        }
    }
}

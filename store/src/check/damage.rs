//! What is damaged, as it is told: which object, what is wrong, which snapshots and files it takes
//! along. Every list is bounded and counts what it leaves out.

use std::collections::{HashMap, HashSet};

use super::CheckReport;
use crate::id::SnapshotId;

/// Most damages that are told with their snapshots and files; the others are counted.
pub const MAX_DAMAGE: usize = 1000;
/// Most files, and most ranges of paths, that are named for one damage.
pub const MAX_FILES: usize = 100;
/// Most notes.
const MAX_NOTES: usize = 100;
/// Files that are told apart when those beyond [`MAX_FILES`] are counted.
const MAX_COUNTED: usize = 1 << 20;

/// What kind of thing is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DamageKind {
    /// `config`, or a copy of it.
    Config,
    /// A key slot.
    KeySlot,
    /// A wrapped data key.
    DataKey,
    /// A pack: missing, or anything in it.
    Pack,
    /// A segment of the index.
    Segment,
    /// A manifest or a tombstone: nobody can tell which.
    Snapshot,
    /// A session or its heartbeat.
    Session,
    /// A gc list, or the list of sessions that its sweep waits for.
    GcList,
    /// A note.
    Note,
    /// Chunks that no segment knows.
    Chunk,
    /// A page that opens and holds what it must not.
    Page,
    /// A file whose parts do not add up.
    File,
}

impl DamageKind {
    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            DamageKind::Config => "config",
            DamageKind::KeySlot => "key-slot",
            DamageKind::DataKey => "data-key",
            DamageKind::Pack => "pack",
            DamageKind::Segment => "segment",
            DamageKind::Snapshot => "snapshot",
            DamageKind::Session => "session",
            DamageKind::GcList => "gc-list",
            DamageKind::Note => "note",
            DamageKind::Chunk => "chunk",
            DamageKind::Page => "page",
            DamageKind::File => "file",
        }
    }
}

/// Something that is damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// What kind of thing.
    pub kind: DamageKind,
    /// The object's path in the repository, or what else it is.
    pub object: String,
    /// What is wrong with it.
    pub what: String,
    /// Snapshots that need it, in the order in which they were taken.
    pub snapshots: Vec<SnapshotId>,
    /// Files that need it, the first [`MAX_FILES`].
    pub files: Vec<Vec<u8>>,
    /// Files that need it and are not named.
    pub more_files: u64,
    /// Ranges of paths that nobody can list any more, the first [`MAX_FILES`].
    pub lost: Vec<LostPaths>,
    /// Ranges that are not named.
    pub more_lost: u64,
}

/// Entries whose page is lost: they cannot be named, but stand between two paths.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LostPaths {
    /// Path of the first entry that is lost; empty for the whole snapshot.
    pub first: Vec<u8>,
    /// Path of the first entry behind them; `None` when they reach to the end.
    pub until: Option<Vec<u8>>,
    /// How many there are, as far as it is known.
    pub entries: u64,
}

/// Collects damages.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger {
    found: Vec<Damage>,
    by_object: HashMap<String, usize>,
    /// Damages beyond [`MAX_DAMAGE`]; one that is met twice counts twice.
    more: u64,
    named: HashSet<(usize, u64)>,
    notes: Vec<String>,
    more_notes: u64,
}

/// One damage in a ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Line(usize);

impl Ledger {
    /// Adds a damage; of one object the first reason stays. `None` when it is only counted.
    pub fn add(&mut self, kind: DamageKind, object: String, what: String) -> Option<Line> {
        if let Some(at) = self.by_object.get(&object) {
            return Some(Line(*at));
        }
        if self.found.len() >= MAX_DAMAGE {
            self.more += 1;
            return None;
        }
        let at = self.found.len();
        self.by_object.insert(object.clone(), at);
        self.found.push(Damage {
            kind,
            object,
            what,
            snapshots: Vec::new(),
            files: Vec::new(),
            more_files: 0,
            lost: Vec::new(),
            more_lost: 0,
        });
        Some(Line(at))
    }

    /// Adds what is worth a line and no damage.
    pub fn note(&mut self, note: String) {
        match self.notes.len() < MAX_NOTES {
            true => self.notes.push(note),
            false => self.more_notes += 1,
        }
    }

    /// Whether nothing is damaged.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// A snapshot needs it.
    pub fn snapshot(&mut self, line: Line, id: SnapshotId) {
        if let Some(damage) = self.found.get_mut(line.0)
            && damage.snapshots.last() != Some(&id)
            && !damage.snapshots.contains(&id)
        {
            damage.snapshots.push(id);
        }
    }

    /// A file needs it.
    pub fn file(&mut self, line: Line, path: &[u8]) {
        let fresh = self.is_fresh(line, &[path]);
        if let Some(damage) = self.found.get_mut(line.0)
            && fresh
        {
            match damage.files.len() < MAX_FILES {
                true => damage.files.push(path.to_vec()),
                false => damage.more_files += 1,
            }
        }
    }

    /// Entries cannot be listed without it.
    pub fn lost(&mut self, line: Line, lost: &LostPaths) {
        let until = lost.until.as_deref().unwrap_or(b"/");
        let fresh = self.is_fresh(line, &[&lost.first, b"/", until]);
        if let Some(damage) = self.found.get_mut(line.0)
            && fresh
        {
            match damage.lost.len() < MAX_FILES {
                true => damage.lost.push(lost.clone()),
                false => damage.more_lost += 1,
            }
        }
    }

    /// Whether this was not named for this damage before.
    fn is_fresh(&mut self, line: Line, parts: &[&[u8]]) -> bool {
        let mut hasher = blake3::Hasher::new();
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        let hash = hasher.finalize();
        let short = hash.as_bytes().first_chunk::<8>();
        let short = u64::from_le_bytes(short.copied().unwrap_or_default());
        match self.named.len() < MAX_COUNTED {
            true => self.named.insert((line.0, short)),
            false => !self.named.contains(&(line.0, short)),
        }
    }

    /// Fills in what a report tells: all damages, those that snapshots need first, and notes.
    pub fn finish(self, report: &mut CheckReport) {
        report.damage = self.found;
        report.damage.sort_by_key(|d| d.snapshots.is_empty());
        report.more_damage = self.more;
        report.notes = self.notes;
        if self.more_notes > 0 {
            report.notes.push(format!("{} more notes", self.more_notes));
        }
    }
}

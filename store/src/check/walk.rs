//! Walking trees: every page opens, every chunk has a whole place, every file's parts add up; and
//! which snapshots, files and paths a damage takes along.
//!
//! A page that was found whole, with all that is below it, is not opened again for another
//! snapshot. One that was not is: so every snapshot that needs what is damaged is named, and only
//! the pages that lead there are read more than once.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Mutex;

use super::damage::{DamageKind, Ledger, Line, LostPaths};
use super::data::reason;
use super::places::{Cause, Places};
use crate::entry::{Content, Entry, Extent, Kind};
use crate::error::AccessError;
use crate::format::entry::Attributes;
use crate::format::objects::Manifest;
use crate::format::page::{Child, Page};
use crate::id::{ChunkId, SnapshotId};
use crate::monitor::{Counters, Monitor};
use crate::pack::pack_key;
use crate::parallel::{self, locked};
use crate::reader::{Reader, is_bad};
use crate::tree::Tree;

/// Leaves that are read together, on several threads.
const TOGETHER: usize = 16;
/// Pages that are remembered (some 64 bytes each); those beyond are read once a snapshot.
const MAX_SEEN: usize = 1 << 20;

/// What was found under a page.
#[derive(Debug, Clone, Copy)]
struct Seen {
    /// Plain bytes of what a content page lists.
    bytes: u64,
    /// Whether all of it is whole.
    whole: bool,
}

impl Seen {
    const LOST: Seen = Seen {
        bytes: 0,
        whole: false,
    };
}

/// A leaf that was read before it is asked for.
struct Ahead {
    page: Result<Page, AccessError>,
    /// Whether each chunk that it lists itself has a whole place.
    is_sound: bool,
}

impl Ahead {
    /// Reads a leaf and looks for the places of what it lists.
    fn of(reader: &Reader<'_>, places: &Places<'_>, id: &ChunkId) -> Result<Ahead, AccessError> {
        let tree = Tree::new(reader, None);
        let page = tree.page(id, 0);
        let mut is_sound = true;
        if let Ok(Page::Leaf(items)) = &page {
            for (entry, _) in items {
                if let Content::Extents(extents) = &entry.content {
                    for id in extents.iter().filter_map(Extent::chunk) {
                        is_sound = is_sound && places.lost(id)?.is_empty();
                    }
                }
            }
        }
        Ok(Ahead { page, is_sound })
    }
}

/// Walks snapshots, one after the other.
pub(super) struct Walker<'a, 'r> {
    reader: &'a Reader<'r>,
    places: Places<'a>,
    ledger: Ledger,
    monitor: &'a dyn Monitor,
    /// By the first half of a page's id.
    seen: HashMap<[u8; 16], Seen>,
    /// Damaged tree pages that this snapshot has led to already.
    met: HashSet<[u8; 16]>,
    snapshot: SnapshotId,
    /// Pages that were read before they are asked for.
    ahead: HashMap<ChunkId, Ahead>,
    /// References to chunks that were looked at.
    pub chunks: u64,
    /// Pages that were read.
    pub pages: u64,
}

impl<'a, 'r> Walker<'a, 'r> {
    pub fn new(
        reader: &'a Reader<'r>,
        places: Places<'a>,
        ledger: Ledger,
        monitor: &'a dyn Monitor,
    ) -> Walker<'a, 'r> {
        Walker {
            reader,
            places,
            ledger,
            monitor,
            seen: HashMap::new(),
            met: HashSet::new(),
            snapshot: SnapshotId([0; 16]),
            ahead: HashMap::new(),
            chunks: 0,
            pages: 0,
        }
    }

    /// What was found, with what stood in the ledger before.
    pub fn finish(self) -> Ledger {
        self.ledger
    }

    /// Walks one snapshot; answers whether all of it is whole.
    pub fn walk(&mut self, manifest: &Manifest) -> Result<bool, AccessError> {
        self.snapshot = manifest.id;
        self.met.clear();
        let Some(root) = manifest.root else {
            return Ok(true);
        };
        let all = LostPaths {
            first: Vec::new(),
            until: None,
            entries: manifest.entries,
        };
        let seen = self.tree_page(&root.page, root.height, &all)?;
        Ok(seen.whole)
    }

    /// What is known of a page, unless it is to be read (again).
    fn known(&self, id: &ChunkId) -> Option<Seen> {
        self.seen.get(&id.as_base().0).filter(|s| s.whole).copied()
    }

    fn note(&mut self, id: &ChunkId, seen: Seen) -> Seen {
        if self.seen.len() < MAX_SEEN {
            self.seen.insert(id.as_base().0, seen);
        }
        seen
    }

    /// Reads a page; the causes when it has no whole place.
    fn read(&mut self, id: &ChunkId, height: u8) -> Result<Result<Page, Causes>, AccessError> {
        let causes = self.places.lost(id)?;
        if !causes.is_empty() {
            return Ok(Err(Causes::Lost(causes)));
        }
        self.pages += 1;
        let ahead = self.ahead.remove(id).map(|ahead| ahead.page);
        match ahead.unwrap_or_else(|| Tree::new(self.reader, None).page(id, height)) {
            Ok(page) => Ok(Ok(page)),
            Err(AccessError::DamagedPage { why, .. }) => Ok(Err(Causes::Page(*id, why))),
            Err(e) if is_bad(&e) => {
                let why = reason(e);
                let packs = self.places.stands_in(id)?.into_iter();
                let mut causes: BTreeSet<Cause> =
                    packs.map(|p| Cause::Pack(p, why.clone())).collect();
                if causes.is_empty() {
                    causes.insert(Cause::NotIndexed);
                }
                Ok(Err(Causes::Lost(causes)))
            }
            Err(e) => Err(e),
        }
    }

    /// Reads leaves that are asked for next, each once, as far as they have a whole place, and
    /// looks at what they list.
    fn read_ahead(&mut self, leaves: &[(&Child, Option<Vec<u8>>)]) -> Result<(), AccessError> {
        let mut wanted: BTreeSet<ChunkId> = BTreeSet::new();
        for id in leaves.iter().map(|(child, _)| child.page) {
            let is_asked_for = self.known(&id).is_none() && !self.met.contains(&id.as_base().0);
            if is_asked_for && self.places.lost(&id)?.is_empty() {
                wanted.insert(id);
            }
        }
        let (reader, places) = (self.reader, &self.places);
        let read: Mutex<Vec<Result<(ChunkId, Ahead), AccessError>>> = Mutex::default();
        let threads = reader.repository().environment().threads;
        parallel::each(threads, wanted.into_iter(), &|id| {
            let ahead = Ahead::of(reader, places, &id);
            locked(&read).push(ahead.map(|ahead| (id, ahead)));
        });
        let read = std::mem::take(&mut *locked(&read));
        self.ahead = read.into_iter().collect::<Result<_, _>>()?;
        Ok(())
    }

    /// Puts the causes into the ledger, for this snapshot.
    fn blame(&mut self, causes: Causes) -> Result<BTreeSet<Line>, AccessError> {
        let mut lines = BTreeSet::new();
        let causes = match causes {
            Causes::Lost(causes) => causes,
            Causes::Page(id, why) => {
                let line = self
                    .ledger
                    .add(DamageKind::Page, format!("page {id}"), why.into());
                lines.extend(line);
                BTreeSet::new()
            }
        };
        for cause in causes {
            let line = match cause {
                Cause::Pack(pack, why) => {
                    let object = pack_key(&pack)?.path();
                    self.ledger.add(DamageKind::Pack, object, why)
                }
                Cause::NotIndexed => {
                    let what = "chunks that snapshots need are in no segment";
                    self.ledger
                        .add(DamageKind::Chunk, "index".into(), what.into())
                }
                Cause::Absurd => {
                    let what = "chunks that snapshots need are based on themselves, or too deep";
                    self.ledger
                        .add(DamageKind::Chunk, "bases".into(), what.into())
                }
            };
            lines.extend(line);
        }
        for line in &lines {
            self.ledger.snapshot(*line, self.snapshot);
        }
        Ok(lines)
    }

    /// A page that lists entries cannot be read: they are lost.
    fn lose(&mut self, causes: Causes, lost: &LostPaths) -> Result<Seen, AccessError> {
        for line in self.blame(causes)? {
            self.ledger.lost(line, lost);
        }
        Ok(Seen::LOST)
    }

    /// Something that a file needs cannot be read.
    fn lose_file(&mut self, causes: Causes, path: &[u8]) -> Result<Seen, AccessError> {
        for line in self.blame(causes)? {
            self.ledger.file(line, path);
        }
        Ok(Seen::LOST)
    }

    fn tree_page(
        &mut self,
        id: &ChunkId,
        height: u8,
        range: &LostPaths,
    ) -> Result<Seen, AccessError> {
        if let Some(seen) = self.known(id) {
            return Ok(seen);
        }
        if !self.met.insert(id.as_base().0) {
            return Ok(Seen::LOST);
        }
        let is_sound = self.ahead.get(id).is_some_and(|ahead| ahead.is_sound);
        let seen = match self.read(id, height)? {
            Ok(Page::Inner(children)) => self.children(&children, height, range)?,
            Ok(Page::Leaf(items)) => self.leaf(&items, is_sound)?,
            Ok(_) => self.lose(Causes::unexpected(id), range)?,
            Err(causes) => self.lose(causes, range)?,
        };
        if seen.whole {
            self.met.remove(&id.as_base().0);
        }
        Ok(self.note(id, seen))
    }

    fn children(
        &mut self,
        children: &[Child],
        height: u8,
        range: &LostPaths,
    ) -> Result<Seen, AccessError> {
        let mut whole = true;
        let ends = children.iter().skip(1).map(|c| Some(c.first.clone()));
        let ends = ends.chain([range.until.clone()]);
        let children: Vec<(&Child, Option<Vec<u8>>)> = children.iter().zip(ends).collect();
        for some in children.chunks(TOGETHER) {
            if height == 1 {
                self.read_ahead(some)?;
            }
            for (child, until) in some {
                let below = LostPaths {
                    first: child.first.clone(),
                    until: until.clone(),
                    entries: child.entries,
                };
                let seen = self.tree_page(&child.page, height.saturating_sub(1), &below)?;
                whole &= seen.whole;
            }
        }
        Ok(Seen { bytes: 0, whole })
    }

    /// `is_sound`: each chunk that the leaf lists itself has a whole place.
    fn leaf(&mut self, items: &[(Entry, Attributes)], is_sound: bool) -> Result<Seen, AccessError> {
        let mut whole = true;
        for (entry, attributes) in items {
            if let Attributes::Chunk(id) = attributes {
                whole &= self.attributes(id, &entry.path)?.whole;
            }
            whole &= self.content(entry, is_sound)?;
            Counters::add(&self.monitor.counters().entries, 1);
        }
        Ok(Seen { bytes: 0, whole })
    }

    fn attributes(&mut self, id: &ChunkId, path: &[u8]) -> Result<Seen, AccessError> {
        if let Some(seen) = self.known(id) {
            return Ok(seen);
        }
        let seen = match self.read(id, 0)? {
            Ok(Page::Attributes(_)) => Seen {
                bytes: 0,
                whole: true,
            },
            Ok(_) => self.lose_file(Causes::unexpected(id), path)?,
            Err(causes) => self.lose_file(causes, path)?,
        };
        Ok(self.note(id, seen))
    }

    /// Whether a file's content is whole.
    fn content(&mut self, entry: &Entry, is_sound: bool) -> Result<bool, AccessError> {
        let seen = match &entry.content {
            Content::None => Seen {
                bytes: 0,
                whole: true,
            },
            Content::Inline(bytes) => Seen {
                bytes: bytes.len() as u64,
                whole: true,
            },
            Content::Extents(extents) if is_sound => self.sound_extents(extents),
            Content::Extents(extents) => self.extents(extents, &entry.path)?,
            Content::Paged { root, height } => self.content_page(root, *height, &entry.path)?,
        };
        if entry.kind == Kind::File && seen.whole && seen.bytes != entry.meta.size {
            let object = format!("file {}", String::from_utf8_lossy(&entry.path));
            let what = "its parts do not add up to its size";
            let line = self.ledger.add(DamageKind::File, object, what.into());
            if let Some(line) = line {
                self.ledger.snapshot(line, self.snapshot);
                self.ledger.file(line, &entry.path);
            }
            return Ok(false);
        }
        Ok(seen.whole)
    }

    fn content_page(&mut self, id: &ChunkId, height: u8, path: &[u8]) -> Result<Seen, AccessError> {
        if let Some(seen) = self.known(id) {
            return Ok(seen);
        }
        let seen = match self.read(id, height)? {
            Ok(Page::ContentLeaf(extents)) => self.extents(&extents, path)?,
            Ok(Page::ContentInner(children)) => {
                let mut sum = Seen {
                    bytes: 0,
                    whole: true,
                };
                for child in children {
                    let below = height.saturating_sub(1);
                    let seen = self.content_page(&child.page, below, path)?;
                    sum.bytes = sum.bytes.saturating_add(seen.bytes);
                    sum.whole &= seen.whole;
                }
                sum
            }
            Ok(_) => self.lose_file(Causes::unexpected(id), path)?,
            Err(causes) => self.lose_file(causes, path)?,
        };
        Ok(self.note(id, seen))
    }

    /// Extents whose chunks have a whole place.
    fn sound_extents(&mut self, extents: &[Extent]) -> Seen {
        self.chunks += extents.iter().filter_map(Extent::chunk).count() as u64;
        Seen {
            bytes: extents.iter().fold(0, |sum, e| e.len().saturating_add(sum)),
            whole: true,
        }
    }

    fn extents(&mut self, extents: &[Extent], path: &[u8]) -> Result<Seen, AccessError> {
        let mut sum = Seen {
            bytes: 0,
            whole: true,
        };
        for extent in extents {
            sum.bytes = sum.bytes.saturating_add(extent.len());
            let Extent::Chunk { id, .. } = extent else {
                continue;
            };
            self.chunks += 1;
            let causes = self.places.lost(id)?;
            if !causes.is_empty() {
                sum.whole = false;
                self.lose_file(Causes::Lost(causes), path)?;
            }
        }
        Ok(sum)
    }
}

/// Why a page cannot be used.
enum Causes {
    /// It has no whole place.
    Lost(BTreeSet<Cause>),
    /// It opens, and holds what it must not.
    Page(ChunkId, &'static str),
}

impl Causes {
    fn unexpected(id: &ChunkId) -> Causes {
        Causes::Page(*id, "it is of another kind than its place")
    }
}

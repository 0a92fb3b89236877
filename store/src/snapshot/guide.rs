//! Where the chunks of a changed file stand in the parent: what a new chunk probably resembles.
//!
//! A place in the new file is one in the parent plus a shift, which is corrected whenever a chunk
//! turns out to be one of the parent's, or to resemble one. Only a part of a very large file's
//! extents is in memory. All of it is a hint.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::entry::{Content, Extent};
use crate::id::ChunkId;
use crate::index::MAX_BASES;
use crate::tree::Tree;
use crate::writer::{ContentKind, Like};

/// Extents of the parent's file that are in memory at once: about 8 GiB of it, in 8 MiB.
const PART: usize = 1 << 16;
/// A stored chunk that covers less than one in so many bytes of a new one is no base of it.
const LITTLE: u64 = 8;

/// A file's chunks in the parent.
pub(super) struct Guide {
    content: Content,
    part: Option<Arc<Part>>,
    /// The parent's offset is that of the new file plus this; workers correct it.
    shift: Arc<AtomicI64>,
    /// The parent's pages cannot be read: it is done without.
    unreadable: bool,
}

/// Neighbouring chunks of the parent's file.
struct Part {
    chunks: Vec<Placed>,
    /// Where each chunk is among them; `None` for those that occur more than once.
    by_id: HashMap<ChunkId, Option<u32>>,
    /// The bytes that it is good for.
    from: u64,
    to: u64,
}

struct Placed {
    offset: u64,
    len: u32,
    id: ChunkId,
}

/// What is known for some neighbouring chunks of the new file.
pub(super) struct Near {
    part: Arc<Part>,
    shift: Arc<AtomicI64>,
}

impl Guide {
    /// For a file that the parent has with this content.
    pub fn new(content: Content) -> Guide {
        Guide {
            content,
            part: None,
            shift: Arc::default(),
            unreadable: false,
        }
    }

    /// What the parent has near an offset of the new file.
    pub fn near(&mut self, tree: &Tree<'_, '_>, offset: u64) -> Option<Near> {
        if self.unreadable {
            return None;
        }
        let at = offset.saturating_add_signed(self.shift.load(Ordering::Relaxed));
        let fits = |part: &&Arc<Part>| (part.from..part.to).contains(&at);
        let part = match self.part.as_ref().filter(fits) {
            Some(part) => Arc::clone(part),
            None => {
                let Some(part) = self.load(tree, at) else {
                    self.unreadable = true;
                    return None;
                };
                Arc::clone(self.part.insert(Arc::new(part)))
            }
        };
        Some(Near {
            part,
            shift: Arc::clone(&self.shift),
        })
    }

    /// Reads the extents around an offset of the parent.
    fn load(&self, tree: &Tree<'_, '_>, at: u64) -> Option<Part> {
        let mut chunks: VecDeque<Placed> = VecDeque::new();
        let mut offset = 0;
        let mut from = 0;
        let mut to = u64::MAX;
        for extent in tree.extents(&self.content).ok()? {
            let extent = extent.ok()?;
            if let Extent::Chunk { id, len } = extent {
                chunks.push_back(Placed { offset, len, id });
            }
            offset += extent.len();
            if chunks.len() <= PART {
                continue;
            }
            // A quarter of them stays behind the place that was asked for.
            let behind = chunks.get(PART / 4).map_or(0, |placed| placed.offset);
            if behind >= at {
                to = chunks.get(PART * 3 / 4).map_or(offset, |p| p.offset);
                break;
            }
            chunks.pop_front();
            from = chunks.front().map_or(0, |placed| placed.offset);
        }
        let mut by_id = HashMap::with_capacity(chunks.len());
        for (n, placed) in chunks.iter().enumerate() {
            let known = by_id.entry(placed.id).and_modify(|other| *other = None);
            known.or_insert(Some(n as u32));
        }
        Some(Part {
            chunks: chunks.into(),
            by_id,
            from,
            to,
        })
    }
}

/// A place in the new file, and what it is in the parent.
pub(super) struct InParent<'n> {
    near: Option<&'n Near>,
    offset: u64,
    shift: i64,
    kind: ContentKind,
}

impl<'n> InParent<'n> {
    /// At an offset of the new file, which is of this kind.
    pub fn new(near: Option<&'n Near>, offset: u64, kind: ContentKind) -> InParent<'n> {
        InParent {
            near,
            offset,
            kind,
            shift: near.map_or(0, |near| near.shift.load(Ordering::Relaxed)),
        }
    }

    /// Goes on behind a chunk of so many bytes.
    pub fn pass(&mut self, len: usize) {
        self.offset += len as u64;
    }
}

impl Like for InParent<'_> {
    fn kind(&self) -> ContentKind {
        self.kind
    }

    fn bases(&self, len: usize) -> Vec<ChunkId> {
        let Some(near) = self.near else {
            return Vec::new();
        };
        let chunks = &near.part.chunks;
        let len = len as u64;
        let from = self.offset.saturating_add_signed(self.shift);
        let to = from.saturating_add(len);
        let first = chunks.partition_point(|c| c.offset + u64::from(c.len) <= from);
        let mut covered: Vec<(u64, ChunkId)> = Vec::new();
        for chunk in chunks.iter().skip(first) {
            let end = chunk.offset + u64::from(chunk.len);
            let bytes = end.min(to).saturating_sub(chunk.offset.max(from));
            if bytes == 0 {
                break;
            }
            if bytes >= len / LITTLE {
                covered.push((bytes, chunk.id));
            }
        }
        covered.sort_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
        covered.truncate(MAX_BASES);
        covered.into_iter().map(|(_, id)| id).collect()
    }

    fn met(&mut self, id: &ChunkId) -> bool {
        let Some(near) = self.near else {
            return false;
        };
        let known = near.part.by_id.get(id).copied().flatten();
        let Some(placed) = known.and_then(|n| near.part.chunks.get(n as usize)) else {
            return false;
        };
        // One that lies at the edge of what is in memory would ask for another part each time.
        if !(near.part.from..near.part.to).contains(&placed.offset) {
            return false;
        }
        let shift = placed.offset as i64 - self.offset as i64;
        if shift == self.shift {
            return false;
        }
        self.shift = shift;
        near.shift.store(shift, Ordering::Relaxed);
        true
    }
}

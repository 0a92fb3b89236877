//! What stored bytes mean, decoded once for all schedules: names and ids never lie about content.
//!
//! Written apart from `view.rs` and `tree/`, on `format::` alone, so that one mistake does not hide
//! another.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use crate::codec;
use crate::crypto::{Keys, Kind};
use crate::entry::{Content, Extent};
use crate::format::entry::Attributes;
use crate::format::objects::{Manifest, TreeRoot, header};
use crate::format::pack::{PackHeader, TRAILER, decode_directory, decode_trailer};
use crate::format::page::{Page, decode_page};
use crate::format::segment::{Segment, SegmentHeader};
use crate::id::{ChunkId, PackId, SegmentId};
use crate::index::Encoding;
use crate::record::{OpenRecord, World};

/// Decoded objects are dropped when there are so many.
const MANY: usize = 200_000;

/// Every id that a snapshot refers to, pages too.
pub(super) type References = Arc<BTreeSet<ChunkId>>;

/// Shared by all runs of one history.
#[derive(Clone)]
pub(super) struct Library(Arc<Shared>);

struct Shared {
    keys: Keys,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    packs: HashMap<PackId, Arc<Vec<ChunkId>>>,
    segments: HashMap<SegmentId, Arc<Segment>>,
    /// Plain bytes of every page that was ever put.
    pages: HashMap<ChunkId, Arc<Vec<u8>>>,
    closures: HashMap<ChunkId, References>,
}

impl Library {
    pub fn new(keys: Keys) -> Library {
        Library(Arc::new(Shared {
            keys,
            known: Mutex::default(),
        }))
    }

    /// Opens a small object.
    pub fn open(&self, kind: Kind, stored: &[u8]) -> Option<Vec<u8>> {
        let clear = header(kind);
        let body = stored.strip_prefix(&clear[..])?;
        let (seal, context) = self.0.keys.of_kind(kind, &clear);
        seal.open(&context, body).ok()
    }

    pub fn segment(&self, id: SegmentId, stored: &[u8]) -> Option<Arc<Segment>> {
        let mut known = self.known();
        if let Some(segment) = known.segments.get(&id) {
            return Some(Arc::clone(segment));
        }
        let (_, body) = SegmentHeader::decode(stored).ok()?;
        let clear = &stored[..stored.len() - body.len()];
        let (seal, context) = self.0.keys.of_kind(Kind::Segment, clear);
        let body = seal.open(&context, body).ok()?;
        let segment = Arc::new(Segment::decode_body(&body).ok()?);
        if known.segments.len() > MANY {
            known.segments.clear();
        }
        known.segments.insert(id, Arc::clone(&segment));
        Some(segment)
    }

    /// The chunks that a pack holds; pages are learnt by heart.
    pub fn pack(&self, id: PackId, stored: &[u8]) -> Option<Arc<Vec<ChunkId>>> {
        let mut known = self.known();
        if let Some(chunks) = known.packs.get(&id) {
            return Some(Arc::clone(chunks));
        }
        let (header, _) = PackHeader::decode(stored).ok()?;
        let world = if header.tree {
            World::Pages
        } else {
            World::Content
        };
        let start = stored.len().checked_sub(TRAILER)?;
        let (_, directory) = decode_trailer(&stored[start..], stored.len() as u64).ok()?;
        let offsets = decode_directory(&stored[directory as usize..start], directory).ok()?;
        let ends = offsets.iter().skip(1).copied().chain([directory]);
        let mut chunks = Vec::new();
        let mut complete = true;
        for (start, end) in offsets.iter().zip(ends) {
            let bytes = &stored[*start as usize..end as usize];
            let record = OpenRecord::open(&self.0.keys, world, bytes).ok()?;
            chunks.extend(record.rows.iter().map(|r| r.id));
            complete &= !header.tree || learn(&mut known, &record).is_some();
        }
        if known.packs.len() > MANY {
            known.packs.clear();
        }
        let chunks = Arc::new(chunks);
        // A page whose base is not known yet is learnt when the pack is shown again.
        if complete {
            known.packs.insert(id, Arc::clone(&chunks));
        }
        Some(chunks)
    }

    /// Everything that a manifest refers to; `None` when a page was never stored.
    pub fn references(&self, manifest: &Manifest) -> Option<References> {
        let Some(root) = manifest.root else {
            return Some(References::default());
        };
        let mut known = self.known();
        if let Some(closure) = known.closures.get(&root.page) {
            return Some(Arc::clone(closure));
        }
        let mut found = BTreeSet::new();
        walk(&known, root, &mut found)?;
        let found = Arc::new(found);
        known.closures.insert(root.page, Arc::clone(&found));
        Some(found)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn learn(known: &mut Known, record: &OpenRecord) -> Option<()> {
    for (slot, row) in record.rows.iter().enumerate() {
        let mut prefix = Vec::new();
        for base in row.bases.iter() {
            let page = known.pages.iter().find(|(id, _)| id.as_base() == base)?;
            prefix.extend_from_slice(page.1);
        }
        let plain = if row.encoding == Encoding::Shared {
            record.decode(slot, &[])?
        } else {
            let (row, bytes) = record.encoded(slot)?;
            codec::decode(row.encoding, bytes, row.plain as usize, &prefix).ok()?
        };
        known.pages.insert(row.id, Arc::new(plain));
    }
    Some(())
}

fn walk(known: &Known, at: TreeRoot, found: &mut BTreeSet<ChunkId>) -> Option<()> {
    found.insert(at.page);
    let page = known.pages.get(&at.page)?;
    let below = |page| TreeRoot {
        page,
        height: at.height.wrapping_sub(1),
    };
    match decode_page(page, at.height).ok()? {
        Page::Inner(children) => children
            .iter()
            .try_for_each(|c| walk(known, below(c.page), found)),
        Page::ContentInner(children) => children
            .iter()
            .try_for_each(|c| walk(known, below(c.page), found)),
        Page::ContentLeaf(extents) => {
            add(&extents, found);
            Some(())
        }
        Page::Attributes(_) => Some(()),
        Page::Leaf(items) => {
            for (entry, attributes) in &items {
                if let Attributes::Chunk(id) = attributes {
                    found.insert(*id);
                }
                match &entry.content {
                    Content::None | Content::Inline(_) => {}
                    Content::Extents(extents) => add(extents, found),
                    Content::Paged { root, height } => {
                        let root = TreeRoot {
                            page: *root,
                            height: *height,
                        };
                        walk(known, root, found)?;
                    }
                }
            }
            Some(())
        }
    }
}

fn add(extents: &[Extent], found: &mut BTreeSet<ChunkId>) {
    found.extend(extents.iter().filter_map(|e| match e {
        Extent::Chunk { id, .. } => Some(*id),
        Extent::Hole(_) => None,
    }));
}

//! From a file's extents to what its entry says of them.

use crate::entry::{Content, Extent, MAX_INLINE};
use crate::error::AccessError;
use crate::format::entry::encode_extent;
use crate::format::page::{
    ContentChild, HEADER, MAX_PAGE, MIN_PAGE, PageKind, encode_content_child, encode_page,
};
use crate::id::ChunkId;
use crate::tree::PageStore;

/// More extents than these go into a list of their own.
const MAX_EXTENTS: usize = 32;
/// One in so many chunks may end a page.
const CUT_EVERY: u16 = 512;

/// Collects the extents of one file. A copy can be finished while the original goes on.
#[derive(Debug, Clone, Default)]
pub(crate) struct ContentBuilder {
    few: Vec<Extent>,
    hole: u64,
    levels: Vec<Level>,
    bytes: u64,
}

#[derive(Debug, Clone, Default)]
struct Level {
    items: Vec<u8>,
    count: usize,
    bytes: u64,
}

impl ContentBuilder {
    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Adds the next extent; neighbouring holes become one.
    pub fn push(&mut self, store: &mut dyn PageStore, extent: Extent) -> Result<(), AccessError> {
        self.bytes += extent.len();
        match extent {
            Extent::Hole(len) => {
                self.hole += len;
                Ok(())
            }
            chunk => {
                self.flush_hole(store)?;
                self.add(store, chunk)
            }
        }
    }

    fn flush_hole(&mut self, store: &mut dyn PageStore) -> Result<(), AccessError> {
        match std::mem::take(&mut self.hole) {
            0 => Ok(()),
            hole => self.add(store, Extent::Hole(hole)),
        }
    }

    fn add(&mut self, store: &mut dyn PageStore, extent: Extent) -> Result<(), AccessError> {
        if self.levels.is_empty() && self.few.len() < MAX_EXTENTS {
            self.few.push(extent);
            return Ok(());
        }
        for earlier in std::mem::take(&mut self.few) {
            self.add_leaf(store, earlier)?;
        }
        self.add_leaf(store, extent)
    }

    fn add_leaf(&mut self, store: &mut dyn PageStore, extent: Extent) -> Result<(), AccessError> {
        let mut item = Vec::with_capacity(37);
        encode_extent(&extent, &mut item);
        let cut = matches!(extent, Extent::Chunk { id, .. } if may_cut(&id));
        self.add_item(store, 0, &item, extent.len(), cut)
    }

    /// Adds an item to a level; a page that is full, or may end here, goes to the level above.
    fn add_item(
        &mut self,
        store: &mut dyn PageStore,
        height: usize,
        item: &[u8],
        bytes: u64,
        cut: bool,
    ) -> Result<(), AccessError> {
        if self.levels.len() == height {
            self.levels.push(Level::default());
        }
        let Some(level) = self.levels.get_mut(height) else {
            return Ok(());
        };
        level.items.extend_from_slice(item);
        level.count += 1;
        level.bytes += bytes;
        let size = HEADER + level.items.len();
        if size + item.len() > MAX_PAGE || (size >= MIN_PAGE && cut) {
            let child = self.close(store, height)?;
            self.add_child(store, height + 1, child)?;
        }
        Ok(())
    }

    fn add_child(
        &mut self,
        store: &mut dyn PageStore,
        height: usize,
        child: ContentChild,
    ) -> Result<(), AccessError> {
        let mut item = Vec::with_capacity(40);
        encode_content_child(&child, &mut item);
        self.add_item(store, height, &item, child.bytes, may_cut(&child.page))
    }

    fn close(
        &mut self,
        store: &mut dyn PageStore,
        height: usize,
    ) -> Result<ContentChild, AccessError> {
        let level = self
            .levels
            .get_mut(height)
            .map(std::mem::take)
            .unwrap_or_default();
        let kind = if height == 0 {
            PageKind::ContentLeaf
        } else {
            PageKind::ContentInner
        };
        let page = encode_page(kind, height as u8, level.count, &level.items);
        Ok(ContentChild {
            page: store.store_page(kind, &page)?,
            bytes: level.bytes,
        })
    }

    /// What the entry says, and the file's length.
    pub fn finish(mut self, store: &mut dyn PageStore) -> Result<(Content, u64), AccessError> {
        self.flush_hole(store)?;
        let bytes = self.bytes;
        if self.levels.is_empty() {
            let none = self.few.is_empty();
            return Ok((
                if none {
                    Content::None
                } else {
                    Content::Extents(self.few)
                },
                bytes,
            ));
        }
        let mut height = 0;
        loop {
            let open = self.levels.get(height).is_some_and(|l| l.count > 0);
            let top = height + 1 == self.levels.len();
            if open {
                let child = self.close(store, height)?;
                if top {
                    let root = child.page;
                    return Ok((
                        Content::Paged {
                            root,
                            height: height as u8,
                        },
                        bytes,
                    ));
                }
                self.add_child(store, height + 1, child)?;
            }
            height += 1;
        }
    }
}

/// Whether a page may end after this id: it is keyed already.
fn may_cut(id: &ChunkId) -> bool {
    let [.., low, high] = id.0;
    u16::from_le_bytes([low, high]) % CUT_EVERY == 0
}

/// Content that fits into the entry itself.
pub(crate) fn inline(bytes: &[u8]) -> Option<Content> {
    match bytes.len() {
        0 => Some(Content::None),
        1..=MAX_INLINE => Some(Content::Inline(bytes.to_vec())),
        _ => None,
    }
}

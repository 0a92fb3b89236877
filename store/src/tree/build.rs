//! From entries in order to a root page.

use crate::crypto::Keys;
use crate::entry::{Entry, Kind, path_order};
use crate::error::AccessError;
use crate::format::entry::{Attributes, MAX_ITEM, encode_entry};
use crate::format::objects::TreeRoot;
use crate::format::page::{
    Child, HEADER, MAX_PAGE, MIN_PAGE, PageKind, encode_attributes, encode_child, encode_page,
};
use crate::id::ChunkId;

/// Takes finished pages.
pub(crate) trait PageStore {
    /// Stores a page and answers its id.
    fn store_page(&mut self, kind: PageKind, page: &[u8]) -> Result<ChunkId, AccessError>;
}

/// What a tree holds in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Totals {
    pub entries: u64,
    pub files: u64,
    pub bytes: u64,
}

/// Builds a tree. A copy can be finished while the original goes on.
#[derive(Clone)]
pub(crate) struct TreeBuilder {
    leaf: Open,
    upper: Vec<Open>,
    totals: Totals,
    last: Option<Vec<u8>>,
}

/// The open page of one level.
#[derive(Debug, Clone, Default)]
struct Open {
    items: Vec<u8>,
    count: usize,
    first: Vec<u8>,
    last: Vec<u8>,
    entries: u64,
    bytes: u64,
}

impl Open {
    /// Whether the page ends before an item of so many bytes at this path.
    fn ends_before(&self, keys: &Keys, height: u8, item: usize, path: &[u8]) -> bool {
        let size = HEADER + self.items.len();
        self.count > 0
            && (size + item > MAX_PAGE || (size >= MIN_PAGE && keys.cuts_page(height, path)))
    }

    fn close(
        &mut self,
        store: &mut dyn PageStore,
        kind: PageKind,
        height: u8,
    ) -> Result<Child, AccessError> {
        let page = encode_page(kind, height, self.count, &self.items);
        let id = store.store_page(kind, &page)?;
        let done = std::mem::take(self);
        Ok(Child {
            page: id,
            entries: done.entries,
            bytes: done.bytes,
            first: done.first,
        })
    }
}

impl TreeBuilder {
    pub fn new() -> TreeBuilder {
        TreeBuilder {
            leaf: Open::default(),
            upper: Vec::new(),
            totals: Totals::default(),
            last: None,
        }
    }

    /// Adds the next entry.
    ///
    /// # Panics
    /// In debug builds when entries come out of order.
    pub fn push(
        &mut self,
        keys: &Keys,
        store: &mut dyn PageStore,
        entry: &Entry,
    ) -> Result<(), AccessError> {
        let in_order = |last: &Vec<u8>| path_order(last, &entry.path) == std::cmp::Ordering::Less;
        if !self.last.as_ref().is_none_or(in_order) {
            return Err(AccessError::damaged(
                String::from_utf8_lossy(&entry.path),
                "the source gave it out of order",
            ));
        }
        let (item, attributes) = encode(store, entry, &self.leaf.last)?;
        if self.leaf.ends_before(keys, 0, item.len(), &entry.path) {
            let child = self.leaf.close(store, PageKind::Leaf, 0)?;
            self.push_child(keys, store, 0, child)?;
            self.leaf.first.clone_from(&entry.path);
            encode_entry(entry, &attributes, &[], &mut self.leaf.items);
        } else {
            if self.leaf.count == 0 {
                self.leaf.first.clone_from(&entry.path);
            }
            self.leaf.items.extend_from_slice(&item);
        }
        self.leaf.last.clone_from(&entry.path);
        self.leaf.count += 1;
        self.leaf.entries += 1;
        self.leaf.bytes = self.leaf.bytes.saturating_add(entry.meta.size);
        self.totals.entries += 1;
        self.totals.files += u64::from(entry.kind == Kind::File);
        self.totals.bytes = self.totals.bytes.saturating_add(entry.meta.size);
        self.last.get_or_insert_default().clone_from(&entry.path);
        Ok(())
    }

    /// Adds a page of level `below` to the level above it.
    fn push_child(
        &mut self,
        keys: &Keys,
        store: &mut dyn PageStore,
        below: usize,
        child: Child,
    ) -> Result<(), AccessError> {
        if self.upper.len() == below {
            self.upper.push(Open::default());
        }
        let height = below as u8 + 1;
        let Some(open) = self.upper.get_mut(below) else {
            return Ok(());
        };
        let mut item = Vec::new();
        encode_child(&child, &mut item);
        let closed = if open.ends_before(keys, height, item.len(), &child.first) {
            Some(open.close(store, PageKind::Inner, height)?)
        } else {
            None
        };
        if open.count == 0 {
            open.first.clone_from(&child.first);
        }
        open.items.extend_from_slice(&item);
        open.count += 1;
        open.entries += child.entries;
        open.bytes = open.bytes.saturating_add(child.bytes);
        match closed {
            Some(closed) => self.push_child(keys, store, below + 1, closed),
            None => Ok(()),
        }
    }

    /// Closes all levels; no root without entries.
    pub fn finish(
        mut self,
        keys: &Keys,
        store: &mut dyn PageStore,
    ) -> Result<(Option<TreeRoot>, Totals), AccessError> {
        if self.leaf.count == 0 {
            return Ok((None, self.totals));
        }
        let mut child = self.leaf.close(store, PageKind::Leaf, 0)?;
        let mut height = 0;
        while height < self.upper.len() {
            self.push_child(keys, store, height, child)?;
            // Pushing a child opens the page above it: there is always one to close.
            let mut open = self
                .upper
                .get_mut(height)
                .map(std::mem::take)
                .unwrap_or_default();
            child = open.close(store, PageKind::Inner, height as u8 + 1)?;
            height += 1;
        }
        Ok((
            Some(TreeRoot {
                page: child.page,
                height: height as u8,
            }),
            self.totals,
        ))
    }
}

/// One encoded item; large attributes go into a page of their own first.
fn encode(
    store: &mut dyn PageStore,
    entry: &Entry,
    before: &[u8],
) -> Result<(Vec<u8>, Attributes), AccessError> {
    let mut item = Vec::new();
    encode_entry(entry, &Attributes::Here, before, &mut item);
    if item.len() <= MAX_ITEM || entry.xattrs.is_empty() {
        return Ok((item, Attributes::Here));
    }
    let page = encode_attributes(&entry.xattrs);
    let attributes = Attributes::Chunk(store.store_page(PageKind::Attributes, &page)?);
    item.clear();
    encode_entry(entry, &attributes, before, &mut item);
    Ok((item, attributes))
}

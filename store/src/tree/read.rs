//! Walking trees, from any path on, one page of each level in memory.

use std::cmp::Ordering;
use std::sync::atomic::{AtomicU64, Ordering as Atomic};

use crate::entry::{Content, Entry, Extent, is_within, path_order};
use crate::error::AccessError;
use crate::format::entry::Attributes;
use crate::format::objects::TreeRoot;
use crate::format::page::{Child, ContentChild, Page, decode_page};
use crate::id::ChunkId;
use crate::reader::Reader;
use crate::record::World;

/// Reads pages of trees.
pub(crate) struct Tree<'a, 'r> {
    reader: &'a Reader<'r>,
    root: Option<TreeRoot>,
    pages_read: AtomicU64,
}

/// What a walk meets.
pub(crate) type Item = (Entry, Attributes);

impl<'a, 'r> Tree<'a, 'r> {
    pub fn new(reader: &'a Reader<'r>, root: Option<TreeRoot>) -> Tree<'a, 'r> {
        Tree {
            reader,
            root,
            pages_read: AtomicU64::new(0),
        }
    }

    /// What reads the pages.
    pub fn reader(&self) -> &'a Reader<'r> {
        self.reader
    }

    /// Pages that were read so far.
    pub fn pages_read(&self) -> u64 {
        self.pages_read.load(Atomic::Relaxed)
    }

    /// One page.
    pub fn page(&self, id: &ChunkId, height: u8) -> Result<Page, AccessError> {
        self.pages_read.fetch_add(1, Atomic::Relaxed);
        let plain = self.reader.chunk(World::Pages, id)?;
        decode_page(&plain, height).map_err(|e| AccessError::DamagedPage {
            page: *id,
            why: e.0,
        })
    }

    /// Every entry from `from` on, in order.
    ///
    /// # Errors
    /// When the root page cannot be read; what is wrong below it, the walk itself answers.
    pub fn walk<'t>(&'t self, from: &[u8]) -> Result<Walk<'t, 'a, 'r>, AccessError> {
        let mut walk = Walk {
            tree: self,
            stack: Vec::new(),
            leaf: Vec::new().into_iter(),
            page: None,
            pending: None,
        };
        if let Some(root) = self.root
            && let Err(e) = walk.descend(root.page, root.height, from)
        {
            if walk.stack.is_empty() {
                return Err(e);
            }
            walk.pending = Some(e);
        }
        Ok(walk)
    }

    /// The entry at a path.
    pub fn find(&self, path: &[u8]) -> Result<Option<Entry>, AccessError> {
        match self.walk(path)?.next().transpose()? {
            Some(entry) if entry.path == path => Ok(Some(entry)),
            _ => Ok(None),
        }
    }

    /// Entries at and below a path and the bytes of their files, by the sums that pages carry: at
    /// most two pages of each level are read.
    pub fn sums(&self, path: &[u8]) -> Result<(u64, u64), AccessError> {
        let mut sums = (0u64, 0u64);
        let mut open: Vec<(ChunkId, u8)> = Vec::new();
        open.extend(self.root.map(|root| (root.page, root.height)));
        let mut add = |entries: u64, bytes: u64| {
            sums = (sums.0.saturating_add(entries), sums.1.saturating_add(bytes));
        };
        while let Some((id, height)) = open.pop() {
            match self.page(&id, height)? {
                Page::Inner(children) => {
                    for (n, child) in children.iter().enumerate() {
                        let begins = is_within(&child.first, path);
                        match children.get(n + 1) {
                            Some(next) if begins && is_within(&next.first, path) => {
                                add(child.entries, child.bytes);
                            }
                            Some(next) if path_order(&next.first, path) != Ordering::Greater => {}
                            _ if begins || path_order(&child.first, path) == Ordering::Less => {
                                open.push((child.page, height - 1));
                            }
                            _ => {}
                        }
                    }
                }
                Page::Leaf(items) => items
                    .iter()
                    .filter(|(entry, _)| is_within(&entry.path, path))
                    .for_each(|(entry, _)| add(1, entry.meta.size)),
                _ => return Err(unexpected(id)),
            }
        }
        Ok(sums)
    }

    /// Fills in attributes that stand in a chunk of their own.
    pub fn complete(&self, (mut entry, attributes): Item) -> Result<Entry, AccessError> {
        if let Attributes::Chunk(id) = attributes {
            match self.page(&id, 0)? {
                Page::Attributes(xattrs) => entry.xattrs = xattrs,
                _ => return Err(unexpected(id)),
            }
        }
        Ok(entry)
    }

    /// The extents of a file's content, in order.
    pub fn extents<'t>(&'t self, content: &Content) -> Result<Extents<'t, 'a, 'r>, AccessError> {
        let mut extents = Extents {
            tree: self,
            stack: Vec::new(),
            leaf: Vec::new().into_iter(),
        };
        match content {
            Content::None | Content::Inline(_) => {}
            Content::Extents(few) => extents.leaf = few.clone().into_iter(),
            Content::Paged { root, height } => extents.descend(*root, *height)?,
        }
        Ok(extents)
    }
}

/// Takes the ids that a tree refers to; `false` ends the visit.
pub(crate) type Visit<'v> = &'v mut dyn FnMut(World, &ChunkId) -> Result<bool, AccessError>;

impl Tree<'_, '_> {
    /// Every id that a file's content refers to: pages of its list, then chunks. Answers `false`
    /// as soon as `visit` does.
    pub fn for_each_id(&self, content: &Content, visit: Visit<'_>) -> Result<bool, AccessError> {
        match content {
            Content::None | Content::Inline(_) => Ok(true),
            Content::Extents(extents) => visit_extents(extents, visit),
            Content::Paged { root, height } => self.visit_list(root, *height, visit),
        }
    }

    fn visit_list(&self, id: &ChunkId, height: u8, visit: Visit<'_>) -> Result<bool, AccessError> {
        if !visit(World::Pages, id)? {
            return Ok(false);
        }
        match self.page(id, height)? {
            Page::ContentLeaf(extents) => visit_extents(&extents, visit),
            Page::ContentInner(children) => {
                for child in children {
                    if !self.visit_list(&child.page, height - 1, visit)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            _ => Err(unexpected(*id)),
        }
    }

    /// Every id that the tree refers to: each page before what is below it. A page that `visit`
    /// answers with `false` is not opened: whoever knows it knows what is below it.
    pub fn for_each_reference(&self, visit: Visit<'_>) -> Result<(), AccessError> {
        self.root.map_or(Ok(()), |root| {
            self.visit_page(&root.page, root.height, visit)
        })
    }

    fn visit_page(&self, id: &ChunkId, height: u8, visit: Visit<'_>) -> Result<(), AccessError> {
        if !visit(World::Pages, id)? {
            return Ok(());
        }
        match self.page(id, height)? {
            Page::Inner(children) => children
                .iter()
                .try_for_each(|c| self.visit_page(&c.page, height - 1, visit)),
            Page::Leaf(items) => items.iter().try_for_each(|(entry, attributes)| {
                if let Attributes::Chunk(id) = attributes {
                    visit(World::Pages, id)?;
                }
                self.visit_content(&entry.content, visit)
            }),
            _ => Err(unexpected(*id)),
        }
    }

    fn visit_content(&self, content: &Content, visit: Visit<'_>) -> Result<(), AccessError> {
        match content {
            Content::None | Content::Inline(_) => Ok(()),
            Content::Extents(extents) => visit_all(extents, visit),
            Content::Paged { root, height } => self.visit_content_page(root, *height, visit),
        }
    }

    fn visit_content_page(
        &self,
        id: &ChunkId,
        height: u8,
        visit: Visit<'_>,
    ) -> Result<(), AccessError> {
        if !visit(World::Pages, id)? {
            return Ok(());
        }
        match self.page(id, height)? {
            Page::ContentLeaf(extents) => visit_all(&extents, visit),
            Page::ContentInner(children) => children
                .iter()
                .try_for_each(|c| self.visit_content_page(&c.page, height - 1, visit)),
            _ => Err(unexpected(*id)),
        }
    }
}

fn visit_extents(extents: &[Extent], visit: Visit<'_>) -> Result<bool, AccessError> {
    for extent in extents {
        if let Extent::Chunk { id, .. } = extent
            && !visit(World::Content, id)?
        {
            return Ok(false);
        }
    }
    Ok(true)
}

fn visit_all(extents: &[Extent], visit: Visit<'_>) -> Result<(), AccessError> {
    for extent in extents {
        if let Extent::Chunk { id, .. } = extent {
            visit(World::Content, id)?;
        }
    }
    Ok(())
}

pub(super) fn unexpected(page: ChunkId) -> AccessError {
    AccessError::DamagedPage {
        page,
        why: "it is of another kind than its place",
    }
}

/// A walk over entries.
pub(crate) struct Walk<'t, 'a, 'r> {
    tree: &'t Tree<'a, 'r>,
    /// Inner pages from the root down: height of the children, and those that are left.
    stack: Vec<(u8, std::vec::IntoIter<Child>)>,
    leaf: std::vec::IntoIter<Item>,
    /// The leaf that the last entry came from.
    page: Option<ChunkId>,
    /// An error met when the walk began.
    pending: Option<AccessError>,
}

impl Walk<'_, '_, '_> {
    /// Goes down to the leaf that holds the first entry not before `from`.
    fn descend(&mut self, mut id: ChunkId, mut height: u8, from: &[u8]) -> Result<(), AccessError> {
        while height > 0 {
            let Page::Inner(children) = self.tree.page(&id, height)? else {
                return Err(unexpected(id));
            };
            // The last child that begins at or before `from`; else the first.
            let after =
                children.partition_point(|c| path_order(&c.first, from) != Ordering::Greater);
            let mut children = children.into_iter();
            for _ in 1..after {
                children.next();
            }
            let child = children.next().ok_or_else(|| unexpected(id))?;
            height -= 1;
            id = child.page;
            self.stack.push((height, children));
        }
        let Page::Leaf(items) = self.tree.page(&id, 0)? else {
            return Err(unexpected(id));
        };
        self.page = Some(id);
        let skip = items.partition_point(|(e, _)| path_order(&e.path, from) == Ordering::Less);
        self.leaf = items.into_iter();
        for _ in 0..skip {
            self.leaf.next();
        }
        Ok(())
    }

    /// The leaf that the last entry came from.
    pub fn page(&self) -> Option<ChunkId> {
        self.page
    }

    /// The next entry as it stands in its page.
    ///
    /// # Errors
    /// When a page cannot be read. It may be called again then, and goes on behind that page and
    /// all that is below it; every error passes over at least one child, so the walk ends.
    pub fn next_item(&mut self) -> Result<Option<Item>, AccessError> {
        if let Some(e) = self.pending.take() {
            return Err(e);
        }
        loop {
            if let Some(item) = self.leaf.next() {
                return Ok(Some(item));
            }
            loop {
                let Some((height, children)) = self.stack.last_mut() else {
                    return Ok(None);
                };
                let height = *height;
                match children.next() {
                    Some(child) => {
                        self.descend(child.page, height, b"")?;
                        break;
                    }
                    None => {
                        self.stack.pop();
                    }
                }
            }
        }
    }

    /// Goes on behind everything below `folder`, reading no page that holds nothing else.
    ///
    /// # Errors
    /// Like [`Walk::next_item`]; called again, it goes on skipping behind the page that failed.
    pub fn skip_below(&mut self, folder: &[u8]) -> Result<(), AccessError> {
        loop {
            while let Some((entry, _)) = self.leaf.as_slice().first() {
                if !is_within(&entry.path, folder) {
                    return Ok(());
                }
                self.leaf.next();
            }
            self.pass_children(folder);
            let Some(item) = self.next_item()? else {
                return Ok(());
            };
            if !is_within(&item.0.path, folder) {
                // Put it back in front.
                let mut items = vec![item];
                items.extend(std::mem::take(&mut self.leaf));
                self.leaf = items.into_iter();
                return Ok(());
            }
        }
    }

    /// Passes over a child when the one after it still begins below the folder.
    fn pass_children(&mut self, folder: &[u8]) {
        for (_, children) in self.stack.iter_mut().rev() {
            while children
                .as_slice()
                .get(1)
                .is_some_and(|c| is_within(&c.first, folder))
            {
                children.next();
            }
            if children.len() > 0 {
                break;
            }
        }
    }
}

impl Iterator for Walk<'_, '_, '_> {
    type Item = Result<Entry, AccessError>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.next_item().transpose()?;
        Some(item.and_then(|item| self.tree.complete(item)))
    }
}

/// The extents of one file.
pub(crate) struct Extents<'t, 'a, 'r> {
    tree: &'t Tree<'a, 'r>,
    stack: Vec<(u8, std::vec::IntoIter<ContentChild>)>,
    leaf: std::vec::IntoIter<Extent>,
}

impl Extents<'_, '_, '_> {
    fn descend(&mut self, mut id: ChunkId, mut height: u8) -> Result<(), AccessError> {
        while height > 0 {
            let Page::ContentInner(children) = self.tree.page(&id, height)? else {
                return Err(unexpected(id));
            };
            let mut children = children.into_iter();
            let child = children.next().ok_or_else(|| unexpected(id))?;
            height -= 1;
            id = child.page;
            self.stack.push((height, children));
        }
        let Page::ContentLeaf(extents) = self.tree.page(&id, 0)? else {
            return Err(unexpected(id));
        };
        self.leaf = extents.into_iter();
        Ok(())
    }
}

impl Iterator for Extents<'_, '_, '_> {
    type Item = Result<Extent, AccessError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(extent) = self.leaf.next() {
                return Some(Ok(extent));
            }
            let (height, children) = self.stack.last_mut()?;
            let height = *height;
            match children.next() {
                Some(child) => {
                    if let Err(e) = self.descend(child.page, height) {
                        return Some(Err(e));
                    }
                }
                None => {
                    self.stack.pop();
                }
            }
        }
    }
}

//! Places in several trees that are walked side by side: a cursor stands before a page that was
//! not opened yet, or before an entry, and whoever leads it decides whether a page is opened or
//! passed. Opened pages may be shared by several cursors.

use std::cmp::Ordering;
use std::rc::Rc;

use super::Item;
use super::read::{Tree, unexpected};
use crate::entry::{is_within, path_order};
use crate::error::AccessError;
use crate::format::objects::TreeRoot;
use crate::format::page::{Child, Page};
use crate::id::ChunkId;

/// A page of a tree's own entries that was read.
#[derive(Debug, Clone)]
pub(crate) enum Opened {
    Inner(Rc<[Child]>),
    Leaf(Rc<[Item]>),
}

impl Tree<'_, '_> {
    /// Reads a page of entries.
    pub fn open(&self, closed: Closed) -> Result<Opened, AccessError> {
        match self.page(&closed.page, closed.height)? {
            Page::Inner(children) => Ok(Opened::Inner(children.into())),
            Page::Leaf(items) => Ok(Opened::Leaf(items.into())),
            _ => Err(unexpected(closed.page)),
        }
    }
}

/// A page that was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Closed {
    pub page: ChunkId,
    pub height: u8,
}

/// What a cursor stands before.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Head<'c> {
    Page(Closed),
    Entry(&'c Item),
}

/// A place in a tree, or in a folder of it: what lies beside the folder is passed over.
pub(crate) struct Cursor {
    folder: Vec<u8>,
    levels: Vec<Level>,
    leaf: Rc<[Item]>,
    at: usize,
    end: usize,
}

/// Children of an open page that are left.
struct Level {
    height: u8,
    children: Rc<[Child]>,
    at: usize,
    end: usize,
}

impl Cursor {
    /// Before everything in `folder`; `""` is the root.
    pub fn new(root: Option<TreeRoot>, folder: &[u8]) -> Cursor {
        let level = root.map(|root| Level {
            height: root.height,
            children: Rc::new([Child {
                page: root.page,
                entries: 0,
                bytes: 0,
                first: Vec::new(),
            }]),
            at: 0,
            end: 1,
        });
        Cursor {
            folder: folder.to_vec(),
            levels: level.into_iter().collect(),
            leaf: Rc::new([]),
            at: 0,
            end: 0,
        }
    }

    /// What it stands before.
    pub fn head(&self) -> Option<Head<'_>> {
        if let Some(item) = self.item() {
            return Some(Head::Entry(item));
        }
        self.child().map(|(child, height)| {
            let page = child.page;
            Head::Page(Closed { page, height })
        })
    }

    /// The path below the folder at which that begins; a page may begin later.
    pub fn first(&self) -> &[u8] {
        let path = match (self.item(), self.child()) {
            (Some((entry, _)), _) => &entry.path,
            (None, Some((child, _))) => &child.first,
            (None, None) => return b"",
        };
        below(path, &self.folder).unwrap_or_default()
    }

    fn item(&self) -> Option<&Item> {
        self.leaf.get(self.at..self.end)?.first()
    }

    fn child(&self) -> Option<(&Child, u8)> {
        let level = self.levels.last()?;
        let child = level.children.get(level.at..level.end)?.first()?;
        Some((child, level.height))
    }

    /// Passes over the page or entry that it stands before.
    pub fn pass(&mut self) {
        if self.at < self.end {
            self.at += 1;
        } else if let Some(level) = self.levels.last_mut() {
            level.at += 1;
        }
        self.settle();
    }

    /// Goes into the page that it stands before, which was opened.
    pub fn enter(&mut self, opened: &Opened) {
        let Some((_, height)) = self.child() else {
            return;
        };
        if let Some(level) = self.levels.last_mut() {
            level.at += 1;
        }
        let folder = &self.folder;
        let before = |path: &[u8]| path_order(path, folder) == Ordering::Less;
        let until = |path: &[u8]| before(path) || is_within(path, folder);
        match opened {
            Opened::Leaf(items) => {
                self.at = items.partition_point(|(e, _)| before(&e.path));
                self.end = items.partition_point(|(e, _)| until(&e.path));
                self.leaf = Rc::clone(items);
            }
            Opened::Inner(children) => {
                // The last child that begins at or before the folder may hold its beginning.
                let after =
                    children.partition_point(|c| path_order(&c.first, folder) != Ordering::Greater);
                self.levels.push(Level {
                    height: height.saturating_sub(1),
                    at: after.saturating_sub(1),
                    end: children.partition_point(|c| until(&c.first)),
                    children: Rc::clone(children),
                });
            }
        }
        self.settle();
    }

    /// Leaves what holds nothing more.
    fn settle(&mut self) {
        if self.at < self.end {
            return;
        }
        self.leaf = Rc::new([]);
        (self.at, self.end) = (0, 0);
        while self.levels.last().is_some_and(|l| l.at >= l.end) {
            self.levels.pop();
        }
    }
}

/// A path below a folder, without the folder; `""` for the folder itself.
fn below<'p>(path: &'p [u8], folder: &[u8]) -> Option<&'p [u8]> {
    if !is_within(path, folder) {
        return None;
    }
    let rest = path.get(folder.len()..).unwrap_or_default();
    Some(rest.strip_prefix(b"/").unwrap_or(rest))
}

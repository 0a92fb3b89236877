//! Looking for entries in many snapshots at once: all their trees are walked side by side, and a
//! page that stands in several of them is read once. Memory grows with the snapshots and the
//! height of their trees, not with what they hold.
//!
//! What is looked for is the caller's: a predicate over entries.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::diff::compare;
use crate::entry::{Entry, path_order};
use crate::error::AccessError;
use crate::format::objects::Manifest;
use crate::id::ChunkId;
use crate::reader::Reader;
use crate::repository::Repository;
use crate::tree::{Closed, Cursor, Head, Item, Opened, Tree};

/// What a search met.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FindReport {
    /// Pages that were read.
    pub pages_read: u64,
    /// Pages that cannot be read: what is below them was not looked at.
    pub damaged: Vec<String>,
}

/// What is looked for.
pub struct Query<'q> {
    /// Whether an entry is wanted.
    pub wanted: &'q dyn Fn(&Entry) -> bool,
    /// Only files whose bytes, or list of chunks, include this chunk.
    pub chunk: Option<ChunkId>,
}

/// One version of an entry: in all of these snapshots it is the same but for inode and `ctime`.
#[derive(Debug)]
pub struct Found<'f> {
    /// The entry as the first of them holds it; large attributes left out.
    pub entry: &'f Entry,
    /// Which of the snapshots, by their place in what was searched, ascending.
    pub snapshots: &'f [usize],
}

/// Looks into all snapshots and calls `each` for every version of every wanted entry, in the order
/// of paths.
///
/// # Errors
/// When the repository fails, or `each` does; damaged pages stand in the report.
pub fn find<E: From<AccessError>>(
    repository: &Repository,
    snapshots: &[Manifest],
    query: &Query<'_>,
    each: &mut dyn FnMut(&Found<'_>) -> Result<(), E>,
) -> Result<FindReport, E> {
    repository.update_index()?;
    let reader = Reader::new(repository);
    let mut search = Search {
        tree: Tree::new(&reader, None),
        query,
        walks: walks(snapshots),
        damaged: Vec::new(),
    };
    while let Some(at) = search.next() {
        match at {
            At::Page(closed) => search.open(closed)?,
            At::Entry(path) => search.tell(&path, each)?,
        }
    }
    Ok(FindReport {
        pages_read: search.tree.pages_read(),
        damaged: search.damaged,
    })
}

/// A place in the tree of some snapshots, which all have the same root.
struct Walk {
    cursor: Cursor,
    snapshots: Vec<usize>,
}

fn walks(snapshots: &[Manifest]) -> Vec<Walk> {
    let mut roots: BTreeMap<(ChunkId, u8), Vec<usize>> = BTreeMap::new();
    for (number, manifest) in snapshots.iter().enumerate() {
        if let Some(root) = manifest.root {
            let same = roots.entry((root.page, root.height)).or_default();
            same.push(number);
        }
    }
    let walk = |((page, height), snapshots)| Walk {
        cursor: Cursor::new(Some(crate::format::objects::TreeRoot { page, height }), b""),
        snapshots,
    };
    roots.into_iter().map(walk).collect()
}

struct Search<'s, 'a, 'r> {
    tree: Tree<'a, 'r>,
    query: &'s Query<'s>,
    walks: Vec<Walk>,
    damaged: Vec<String>,
}

/// What comes next in the order of paths.
enum At {
    Page(Closed),
    Entry(Vec<u8>),
}

impl Search<'_, '_, '_> {
    /// What begins first; of several pages the highest, and pages before entries: when a page is
    /// opened, every walk that holds it stands before it.
    fn next(&self) -> Option<At> {
        let ahead = self.walks.iter().filter_map(|walk| {
            let head = walk.cursor.head()?;
            Some((walk.cursor.first(), head))
        });
        let height = |head: &Head<'_>| match head {
            Head::Page(closed) => u16::from(closed.height) + 1,
            Head::Entry(_) => 0,
        };
        let first = ahead.min_by(|(a, one), (b, two)| {
            path_order(a, b).then_with(|| height(two).cmp(&height(one)))
        });
        first.map(|(path, head)| match head {
            Head::Page(closed) => At::Page(closed),
            Head::Entry(_) => At::Entry(path.to_vec()),
        })
    }

    /// Reads a page once for all walks that stand before it.
    fn open(&mut self, closed: Closed) -> Result<(), AccessError> {
        let opened = match self.tree.open(closed) {
            Ok(Opened::Leaf(items)) => Some(Opened::Leaf(self.wanted(&items)?)),
            Ok(inner) => Some(inner),
            Err(e) if e.is_damage() => {
                self.damaged.push(e.to_string());
                None
            }
            Err(e) => return Err(e),
        };
        for walk in &mut self.walks {
            let here = matches!(walk.cursor.head(), Some(Head::Page(page)) if page == closed);
            match (&opened, here) {
                (_, false) => {}
                (Some(opened), true) => walk.cursor.enter(opened),
                (None, true) => walk.cursor.pass(),
            }
        }
        Ok(())
    }

    fn wanted(&mut self, items: &[Item]) -> Result<Rc<[Item]>, AccessError> {
        let mut wanted = Vec::new();
        for item in items {
            if (self.query.wanted)(&item.0) && self.has_chunk(&item.0)? {
                wanted.push(item.clone());
            }
        }
        Ok(wanted.into())
    }

    fn has_chunk(&mut self, entry: &Entry) -> Result<bool, AccessError> {
        let Some(chunk) = self.query.chunk else {
            return Ok(true);
        };
        let others = self
            .tree
            .for_each_id(&entry.content, &mut |_, id| Ok(*id != chunk));
        match others {
            Ok(others) => Ok(!others),
            Err(e) if e.is_damage() => {
                self.damaged.push(e.to_string());
                Ok(false)
            }
            Err(e) => Err(e),
        }
    }

    /// Tells every version of the entry at a path, and passes over it.
    fn tell<E>(
        &mut self,
        path: &[u8],
        each: &mut dyn FnMut(&Found<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut versions: Vec<(Item, Vec<usize>)> = Vec::new();
        for walk in &mut self.walks {
            let item = match walk.cursor.head() {
                Some(Head::Entry(item)) if item.0.path == path => item,
                _ => continue,
            };
            let known = versions
                .iter_mut()
                .find(|(known, _)| compare(known, item).is_none());
            match known {
                Some((_, snapshots)) => snapshots.extend_from_slice(&walk.snapshots),
                None => versions.push((item.clone(), walk.snapshots.clone())),
            }
            walk.cursor.pass();
        }
        for (_, snapshots) in &mut versions {
            snapshots.sort_unstable();
        }
        versions.sort_by(|(_, a), (_, b)| a.cmp(b));
        versions
            .iter()
            .try_for_each(|((entry, _), snapshots)| each(&Found { entry, snapshots }))
    }
}

#[cfg(test)]
mod tests;

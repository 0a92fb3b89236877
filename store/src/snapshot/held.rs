//! Files that were read side by side, held back until it is known whether they belong into the
//! snapshot, and then until the tree comes to their places.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::entry::{Content, Entry, Extent, Kind, Xattr, path_order};
use crate::error::AccessError;
use crate::id::ChunkId;
use crate::tree::{ContentBuilder, PageStore};

/// A step of one of the files. Their numbers are in the order of their paths.
#[derive(Debug)]
pub(crate) enum StreamStep {
    /// Its chunks follow, or nothing does of a folder.
    Begin(Box<Begun>),
    /// All of it came; what was learnt of it.
    End(Vec<Xattr>),
    /// All of it, kept in the entry; what was learnt of it.
    Small(Content, u64, Vec<Xattr>),
    /// It could not be read to its end.
    Abort,
}

/// A file that is begun.
#[derive(Debug)]
pub(crate) struct Begun {
    /// Without content.
    pub entry: Entry,
    /// What it belongs to.
    pub group: usize,
    /// What the parent has at its path.
    pub earlier: Option<Entry>,
    /// The page where the parent has its like.
    pub like: Option<ChunkId>,
}

/// The files.
#[derive(Default)]
pub(super) struct Held {
    open: BTreeMap<usize, (Begun, ContentBuilder)>,
    /// Whole ones that nobody decided on.
    whole: BTreeMap<usize, Begun>,
    /// Those that belong into the snapshot.
    kept: BTreeMap<usize, Begun>,
}

impl Held {
    pub fn step(
        &mut self,
        pages: &mut dyn PageStore,
        number: usize,
        step: StreamStep,
    ) -> Result<(), AccessError> {
        match step {
            StreamStep::Begin(mut begun) if begun.entry.kind != Kind::File => {
                let same = |e: &&Entry| e.kind == begun.entry.kind;
                if let Some(earlier) = begun.earlier.as_ref().filter(same) {
                    begun.entry.meta.mtime = earlier.meta.mtime;
                }
                self.whole.insert(number, *begun);
            }
            StreamStep::Begin(begun) => {
                let content = ContentBuilder::default();
                self.open.insert(number, (*begun, content));
            }
            StreamStep::End(attributes) => {
                if let Some((begun, content)) = self.open.remove(&number) {
                    let (content, size) = content.finish(pages)?;
                    self.end(number, begun, (content, size), attributes);
                }
            }
            StreamStep::Small(content, size, attributes) => {
                if let Some((begun, _)) = self.open.remove(&number) {
                    self.end(number, begun, (content, size), attributes);
                }
            }
            StreamStep::Abort => {
                self.open.remove(&number);
            }
        }
        Ok(())
    }

    pub fn extents(
        &mut self,
        pages: &mut dyn PageStore,
        number: usize,
        extents: Vec<Extent>,
    ) -> Result<(), AccessError> {
        let Some((_, content)) = self.open.get_mut(&number) else {
            return Ok(());
        };
        extents.into_iter().try_for_each(|e| content.push(pages, e))
    }

    fn end(
        &mut self,
        number: usize,
        mut begun: Begun,
        (content, size): (Content, u64),
        attributes: Vec<Xattr>,
    ) {
        let entry = &mut begun.entry;
        (entry.content, entry.meta.size) = (content, size);
        entry.xattrs = attributes;
        let same = |e: &&Entry| (&e.content, &e.xattrs) == (&entry.content, &entry.xattrs);
        if let Some(earlier) = begun.earlier.as_ref().filter(same) {
            entry.meta.mtime = earlier.meta.mtime;
        }
        self.whole.insert(number, begun);
    }

    /// A group belongs into the snapshot.
    pub fn keep(&mut self, group: usize) {
        let of_group = |_: &usize, begun: &mut Begun| begun.group == group;
        self.kept.extend(self.whole.extract_if(.., of_group));
    }

    /// The next one, when the tree is about to come to `path`. A folder that the tree has itself
    /// is none.
    pub fn before(&mut self, path: &[u8]) -> Option<(Entry, Option<ChunkId>)> {
        loop {
            let first = self.kept.first_entry()?;
            match path_order(&first.get().entry.path, path) {
                Ordering::Less => return Some(taken(first.remove())),
                Ordering::Equal => drop(first.remove()),
                Ordering::Greater => return None,
            }
        }
    }

    /// The next one.
    pub fn next(&mut self) -> Option<(Entry, Option<ChunkId>)> {
        self.kept.pop_first().map(|(_, begun)| taken(begun))
    }
}

fn taken(begun: Begun) -> (Entry, Option<ChunkId>) {
    (begun.entry, begun.like)
}

//! Putting entries and the extents of their chunks together, in order, into a tree.

use std::collections::HashMap;

use crate::entry::{Content, Entry, Extent};
use crate::error::AccessError;
use crate::format::objects::TreeRoot;
use crate::format::page::PageKind;
use crate::id::ChunkId;
use crate::index::MAX_BASES;
use crate::record::World;
use crate::snapshot::held::Held;
use crate::snapshot::intake::{Problems, Step};
use crate::source::Problem;
use crate::tree::{ContentBuilder, PageStore, Totals, TreeBuilder};
use crate::writer::{Lane, Like, Writer};

/// What an assembly gives: root, totals, and later names of files that could not be read.
pub(crate) type Assembled = (Option<TreeRoot>, Totals, Problems);

/// The tree of what came so far.
#[derive(Debug, Default)]
pub(super) struct SoFar {
    pub root: Option<TreeRoot>,
    pub totals: Totals,
    /// The last entry is a file of so many bytes, of which only the beginning came.
    pub unfinished: Option<u64>,
}

/// Builds the tree of one snapshot.
pub(crate) struct Assembler<'w, 'r> {
    pages: Pages<'w, 'r>,
    keys: &'w crate::crypto::Keys,
    tree: TreeBuilder,
    open: Option<(Entry, ContentBuilder)>,
    /// Content of files with several names, by the path of the first.
    groups: HashMap<Vec<u8>, (Content, u64)>,
    /// Files that were read side by side.
    held: Held,
    /// Later names of files that could not be read under their first.
    pub orphans: Problems,
}

/// Stores pages, as deltas of pages of the parent that hold the same paths, or of others that they
/// resemble.
pub(super) struct Pages<'w, 'r> {
    lane: Lane<'w, 'r>,
    like: SamePaths,
}

/// Pages of the parent that hold what the leaf at hand holds, the last one first.
#[derive(Default)]
struct SamePaths(Vec<ChunkId>);

impl SamePaths {
    fn add(&mut self, page: Option<ChunkId>) {
        if let Some(page) = page.filter(|page| self.0.first() != Some(page)) {
            self.0.insert(0, page);
            self.0.truncate(MAX_BASES);
        }
    }
}

/// What a page may be based on.
struct Bases<'a>(&'a [ChunkId]);

impl Like for Bases<'_> {
    fn bases(&self, _: usize) -> Vec<ChunkId> {
        self.0.to_vec()
    }

    fn met(&mut self, _: &ChunkId) -> bool {
        false
    }
}

impl<'w, 'r> Pages<'w, 'r> {
    pub fn new(writer: &'w Writer<'r>) -> Pages<'w, 'r> {
        Pages {
            lane: writer.lane(World::Pages),
            like: SamePaths::default(),
        }
    }

    /// A page that the next ones resemble.
    pub fn like(&mut self, page: Option<ChunkId>) {
        self.like.add(page);
    }

    /// Seals what was stored.
    pub fn finish(mut self) -> Result<(), AccessError> {
        self.lane.flush()
    }
}

impl PageStore for Pages<'_, '_> {
    fn store_page(&mut self, kind: PageKind, page: &[u8]) -> Result<ChunkId, AccessError> {
        if kind != PageKind::Leaf {
            return Ok(self.lane.store_like(page, &mut Bases(&[]))?.id);
        }
        let stored = self.lane.store_like(page, &mut Bases(&self.like.0))?;
        self.like.0.truncate(1);
        Ok(stored.id)
    }
}

impl<'w, 'r> Assembler<'w, 'r> {
    pub fn new(writer: &'w Writer<'r>) -> Assembler<'w, 'r> {
        Assembler {
            pages: Pages::new(writer),
            keys: writer.reader().repository().keys(),
            tree: TreeBuilder::new(),
            open: None,
            groups: HashMap::new(),
            held: Held::default(),
            orphans: Problems::default(),
        }
    }

    /// Takes the next step.
    pub fn step(&mut self, step: Step) -> Result<(), AccessError> {
        match step {
            Step::Whole(entry, like) => {
                self.remember(&entry);
                self.push(&entry, like)
            }
            Step::Link(mut entry) => {
                let first = entry.group.as_ref().and_then(|g| self.groups.get(g));
                let Some((content, size)) = first else {
                    self.orphans.add(Problem {
                        path: entry.path,
                        message: "another name of a file that could not be read".into(),
                    });
                    return Ok(());
                };
                entry.content = content.clone();
                entry.meta.size = *size;
                self.push(&entry, None)
            }
            Step::Begin(entry, like) => {
                self.pages.like(like);
                self.open = Some((entry, ContentBuilder::default()));
                Ok(())
            }
            Step::Extents(extents) => self.extents(extents),
            Step::End => {
                let Some((mut entry, content)) = self.open.take() else {
                    return Ok(());
                };
                (entry.content, entry.meta.size) = content.finish(&mut self.pages)?;
                self.remember(&entry);
                self.push(&entry, None)
            }
            Step::Abort => {
                self.open = None;
                Ok(())
            }
            Step::GroupEnds(first) => {
                self.groups.remove(&first);
                Ok(())
            }
            Step::Stream(number, step) => self.held.step(&mut self.pages, number, step),
            Step::Keep(group) => {
                self.held.keep(group);
                Ok(())
            }
        }
    }

    /// Adds extents to the stream of a number, or to the file that was begun last.
    pub fn add(&mut self, stream: Option<usize>, extents: Vec<Extent>) -> Result<(), AccessError> {
        match stream {
            Some(number) => self.held.extents(&mut self.pages, number, extents),
            None => self.extents(extents),
        }
    }

    /// Adds extents to the file that was begun last.
    pub fn extents(&mut self, extents: Vec<Extent>) -> Result<(), AccessError> {
        let Some((_, content)) = &mut self.open else {
            return Ok(());
        };
        extents
            .into_iter()
            .try_for_each(|e| content.push(&mut self.pages, e))
    }

    /// The file that was begun last is not what it was: a snapshot that takes this one as its
    /// parent is to read it again, whatever its times say.
    pub fn distrust(&mut self) {
        if let Some((entry, _)) = &mut self.open {
            entry.meta.inode = 0;
        }
    }

    fn remember(&mut self, entry: &Entry) {
        if entry.group.as_ref() == Some(&entry.path) {
            let content = (entry.content.clone(), entry.meta.size);
            self.groups.insert(entry.path.clone(), content);
        }
    }

    fn push(&mut self, entry: &Entry, like: Option<ChunkId>) -> Result<(), AccessError> {
        while let Some((held, like)) = self.held.before(&entry.path) {
            self.put(&held, like)?;
        }
        self.put(entry, like)
    }

    fn put(&mut self, entry: &Entry, like: Option<ChunkId>) -> Result<(), AccessError> {
        self.tree.push(self.keys, &mut self.pages, entry)?;
        // A page that this entry closed was still like the page before.
        self.pages.like(like);
        Ok(())
    }

    /// The tree as if nothing more came, all of its pages sealed. Goes on as if it had not been
    /// asked.
    pub(super) fn so_far(&mut self) -> Result<SoFar, AccessError> {
        let mut tree = self.tree.clone();
        let mut unfinished = None;
        if let Some((entry, content)) = &self.open
            && !content.is_empty()
        {
            let mut entry = entry.clone();
            unfinished = Some(entry.meta.size);
            (entry.content, entry.meta.size) = content.clone().finish(&mut self.pages)?;
            tree.push(self.keys, &mut self.pages, &entry)?;
        }
        let (root, totals) = tree.finish(self.keys, &mut self.pages)?;
        self.pages.lane.flush()?;
        Ok(SoFar {
            root,
            totals,
            unfinished,
        })
    }

    /// Closes the tree and seals its pages.
    pub fn finish(mut self) -> Result<Assembled, AccessError> {
        while let Some((held, like)) = self.held.next() {
            self.put(&held, like)?;
        }
        let (root, totals) = self.tree.finish(self.keys, &mut self.pages)?;
        self.pages.lane.flush()?;
        Ok((root, totals, self.orphans))
    }
}

//! What a damaged snapshot still holds: a walk that goes on behind everything that is lost, names
//! it, and on demand commits the rest as a new snapshot (gc-protocol.md, "Repair").
//!
//! A file keeps its name, its length and every byte that is left at its place; what is lost becomes
//! holes, and the next snapshot reads it again. Entries whose page is lost are gone; nobody knows
//! their names.

use std::collections::{HashMap, HashSet};

use crate::check::places::Places;
use crate::entry::{Content, Entry, Extent};
use crate::error::AccessError;
use crate::format::entry::Attributes;
use crate::format::objects::{MAX_PROBLEMS, Manifest, SessionKind};
use crate::format::page::Page;
use crate::id::{ChunkId, SnapshotId};
use crate::reader::{Reader, says_damage};
use crate::record::World;
use crate::repository::Repository;
use crate::session::{Commit, Session};
use crate::snapshot::{Assembler, Step};
use crate::tree::Tree;
use crate::writer::{Lane, Writer};

/// A field of the manifest: what a snapshot was triggered by.
const TRIGGER: u8 = 23;
/// Its value for a snapshot that repair has made of a damaged one.
const BY_REPAIR: &[u8] = b"repair";
/// Most parts that are named for one snapshot; the others are counted.
const MAX_PARTS: usize = 1000;

/// Something of a snapshot that cannot be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LostPart {
    /// Bytes of a file.
    Bytes {
        /// Its path.
        path: Vec<u8>,
        /// Where they begin.
        offset: u64,
        /// How many.
        len: u64,
    },
    /// Extended attributes of an entry, ACLs among them.
    Attributes {
        /// Its path.
        path: Vec<u8>,
    },
    /// Entries that nobody can name.
    Entries {
        /// Path of the first of them; empty when they begin with the tree.
        first: Vec<u8>,
        /// Path of the first entry behind them; `None` when they reach to the end.
        until: Option<Vec<u8>>,
        /// How many.
        count: u64,
    },
}

impl LostPart {
    /// The path that it is told under: of the file, or of the first entry.
    pub fn path(&self) -> &[u8] {
        match self {
            LostPart::Bytes { path, .. } | LostPart::Attributes { path } => path,
            LostPart::Entries { first, .. } => first,
        }
    }
}

/// What is lost there.
impl std::fmt::Display for LostPart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LostPart::Bytes { offset, len, .. } => {
                write!(f, "{len} bytes from byte {offset} on are lost")
            }
            LostPart::Attributes { .. } => f.write_str("its extended attributes are lost"),
            LostPart::Entries {
                until: Some(until),
                count,
                ..
            } => {
                let until = String::from_utf8_lossy(until);
                write!(f, "{count} entries from here to before {until} are lost")
            }
            LostPart::Entries { count, .. } => {
                write!(f, "{count} entries from here on are lost")
            }
        }
    }
}

/// What a walk has found to be lost.
#[derive(Debug, Clone, Default)]
pub(super) struct Parts {
    /// The first [`MAX_PARTS`].
    pub named: Vec<LostPart>,
    pub count: u64,
}

impl Parts {
    fn add(&mut self, part: LostPart) {
        self.count += 1;
        if let (
            Some(LostPart::Bytes { path, offset, len }),
            LostPart::Bytes {
                path: p,
                offset: o,
                len: l,
            },
        ) = (self.named.last_mut(), &part)
            && path == p
            && *offset + *len == *o
        {
            *len += l;
            self.count -= 1;
            return;
        }
        if self.named.len() < MAX_PARTS {
            self.named.push(part);
        }
    }
}

/// What of a snapshot is lost, without changing anything.
pub(super) fn survey(
    repository: &Repository,
    manifest: &Manifest,
    places: &Places<'_>,
) -> Result<Parts, AccessError> {
    let reader = Reader::new(repository);
    let mut walk = Walk::new(&reader, places, None);
    walk.tree(manifest)?;
    Ok(walk.parts)
}

/// Whether repair has committed what is left of a snapshot already: then it only remains to be
/// forgotten.
pub(super) fn is_rewritten(manifest: &Manifest, committed: &[Manifest]) -> bool {
    let by_repair = |m: &&Manifest| m.unknown.contains(&(TRIGGER, BY_REPAIR.to_vec()));
    let origin = Some(manifest.name);
    committed
        .iter()
        .filter(by_repair)
        .any(|m| m.origin == origin)
}

/// Commits what is left of a snapshot under a new name. `None` when a collector took this run for
/// dead: then nothing was committed.
pub(super) fn rewrite(
    repository: &Repository,
    manifest: &Manifest,
    places: &Places<'_>,
) -> Result<Option<(Manifest, Parts)>, AccessError> {
    let session = Session::open(repository, SessionKind::Writer)?;
    match write(&session, manifest, places) {
        Ok((done, Commit::Done)) => {
            session.close();
            Ok(Some(done))
        }
        Ok((_, Commit::Fenced)) => {
            session.close();
            Ok(None)
        }
        Err(e) => {
            session.give_up();
            Err(e)
        }
    }
}

fn write(
    session: &Session<'_>,
    manifest: &Manifest,
    places: &Places<'_>,
) -> Result<((Manifest, Parts), Commit), AccessError> {
    session.repository().ensure_data_key()?;
    let writer = Writer::new(session, session.view()?);
    let out = Out {
        assembler: Assembler::new(&writer),
        content: writer.lane(World::Content),
        writer: &writer,
    };
    let mut walk = Walk::new(writer.reader(), places, Some(out));
    walk.tree(manifest)?;
    let parts = std::mem::take(&mut walk.parts);
    let Some(mut out) = walk.out.take() else {
        return Err(AccessError::VerifyFailed);
    };
    out.content.flush()?;
    let (root, totals, _) = out.assembler.finish()?;
    writer.finish()?;
    let line = |part: &LostPart| {
        let line = format!("{}: {part}", String::from_utf8_lossy(part.path()));
        line.chars().take(200).collect()
    };
    let mut problems: Vec<String> = parts.named.iter().map(line).collect();
    problems.extend(manifest.problems.iter().cloned());
    problems.truncate(MAX_PROBLEMS);
    let mut unknown = manifest.unknown.clone();
    unknown.retain(|(tag, _)| *tag != TRIGGER);
    unknown.push((TRIGGER, BY_REPAIR.to_vec()));
    let rest = Manifest {
        name: session.name(),
        id: SnapshotId(crate::crypto::random()),
        root,
        entries: totals.entries,
        files: totals.files,
        bytes: totals.bytes,
        new_bytes: writer.stored().new_bytes,
        new_stored: writer.stored().new_stored,
        incomplete: true,
        origin: Some(manifest.name),
        problems,
        problem_count: manifest.problem_count + parts.count,
        unknown,
        ..manifest.clone()
    };
    let commit = session.commit(&rest)?;
    Ok(((rest, parts), commit))
}

/// Where what is left goes.
struct Out<'w, 'r> {
    assembler: Assembler<'w, 'r>,
    content: Lane<'w, 'r>,
    writer: &'w Writer<'r>,
}

/// One walk over a tree.
struct Walk<'a, 'w, 'r, 'p, 'q> {
    reader: &'a Reader<'r>,
    places: &'p Places<'q>,
    out: Option<Out<'w, 'r>>,
    parts: Parts,
    /// First names of files with several that were met.
    firsts: HashSet<Vec<u8>>,
    /// What the first name is called when the one that was is lost.
    renamed: HashMap<Vec<u8>, Vec<u8>>,
}

/// What stands under a page, as its parent says.
struct Span<'s> {
    first: &'s [u8],
    until: Option<&'s [u8]>,
    count: u64,
}

impl<'a, 'w, 'r, 'p, 'q> Walk<'a, 'w, 'r, 'p, 'q> {
    fn new(
        reader: &'a Reader<'r>,
        places: &'p Places<'q>,
        out: Option<Out<'w, 'r>>,
    ) -> Walk<'a, 'w, 'r, 'p, 'q> {
        Walk {
            reader,
            places,
            out,
            parts: Parts::default(),
            firsts: HashSet::new(),
            renamed: HashMap::new(),
        }
    }

    fn tree(&mut self, manifest: &Manifest) -> Result<(), AccessError> {
        let Some(root) = manifest.root else {
            return Ok(());
        };
        let all = Span {
            first: b"",
            until: None,
            count: manifest.entries,
        };
        self.page(&root.page, root.height, &all)
    }

    /// A page, unless it is lost.
    fn read(&mut self, id: &ChunkId, height: u8) -> Result<Option<Page>, AccessError> {
        if !self.places.lost(id)?.is_empty() {
            return Ok(None);
        }
        match Tree::new(self.reader, None).page(id, height) {
            Ok(page) => Ok(Some(page)),
            Err(e) if says_damage(&e) => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn page(&mut self, id: &ChunkId, height: u8, span: &Span<'_>) -> Result<(), AccessError> {
        match self.read(id, height)? {
            Some(Page::Leaf(items)) => items.into_iter().try_for_each(|item| self.entry(item)),
            Some(Page::Inner(children)) if height > 0 => {
                for (n, child) in children.iter().enumerate() {
                    let next = children.get(n + 1).map(|next| next.first.as_slice());
                    let span = Span {
                        first: &child.first,
                        until: next.or(span.until),
                        count: child.entries,
                    };
                    self.page(&child.page, height - 1, &span)?;
                }
                Ok(())
            }
            _ => {
                self.parts.add(LostPart::Entries {
                    first: span.first.to_vec(),
                    until: span.until.map(<[u8]>::to_vec),
                    count: span.count,
                });
                Ok(())
            }
        }
    }

    fn entry(&mut self, (mut entry, attributes): (Entry, Attributes)) -> Result<(), AccessError> {
        if let Attributes::Chunk(id) = attributes {
            match self.read(&id, 0)? {
                Some(Page::Attributes(xattrs)) => entry.xattrs = xattrs,
                _ => self.parts.add(LostPart::Attributes {
                    path: entry.path.clone(),
                }),
            }
        }
        self.settle_group(&mut entry);
        let content = std::mem::take(&mut entry.content);
        let (path, size) = (entry.path.clone(), entry.meta.size);
        match content {
            Content::None | Content::Inline(_) => {
                entry.content = content;
                self.step(Step::Whole(entry, None))
            }
            Content::Extents(extents) => {
                self.step(Step::Begin(entry, None))?;
                let mut at = 0;
                for extent in extents {
                    at = self.extent(&path, at, extent)?;
                }
                self.step(Step::End)
            }
            Content::Paged { root, height } => {
                self.step(Step::Begin(entry, None))?;
                self.list(&path, 0, &root, height, size)?;
                self.step(Step::End)
            }
        }
    }

    /// Files with several names bear that of the first that is left.
    fn settle_group(&mut self, entry: &mut Entry) {
        let Some(first) = entry.group.take() else {
            return;
        };
        let first = match self.renamed.get(&first) {
            Some(other) => other.clone(),
            None if first == entry.path || self.firsts.contains(&first) => first,
            None => {
                self.renamed.insert(first, entry.path.clone());
                entry.path.clone()
            }
        };
        if first == entry.path {
            self.firsts.insert(first.clone());
        }
        entry.group = Some(first);
    }

    fn step(&mut self, step: Step) -> Result<(), AccessError> {
        match &mut self.out {
            Some(out) => out.assembler.step(step),
            None => Ok(()),
        }
    }

    /// A page of a file's content list, `bytes` long from `at` on. Answers where it ends.
    fn list(
        &mut self,
        path: &[u8],
        mut at: u64,
        id: &ChunkId,
        height: u8,
        bytes: u64,
    ) -> Result<u64, AccessError> {
        match self.read(id, height)? {
            Some(Page::ContentLeaf(extents)) => {
                for extent in extents {
                    at = self.extent(path, at, extent)?;
                }
                Ok(at)
            }
            Some(Page::ContentInner(children)) if height > 0 => {
                for child in children {
                    at = self.list(path, at, &child.page, height - 1, child.bytes)?;
                }
                Ok(at)
            }
            _ => self.hole(path, at, bytes),
        }
    }

    fn hole(&mut self, path: &[u8], at: u64, len: u64) -> Result<u64, AccessError> {
        self.parts.add(LostPart::Bytes {
            path: path.to_vec(),
            offset: at,
            len,
        });
        if let Some(out) = &mut self.out {
            out.assembler.distrust();
        }
        self.step(Step::Extents(vec![Extent::Hole(len)]))?;
        Ok(at.saturating_add(len))
    }

    /// A run of a file's bytes. Answers where it ends.
    fn extent(&mut self, path: &[u8], at: u64, extent: Extent) -> Result<u64, AccessError> {
        let end = at.saturating_add(extent.len());
        match extent {
            Extent::Hole(_) => self.step(Step::Extents(vec![extent]))?,
            Extent::Chunk { id, len } => {
                if !self.keep(&id)? {
                    return self.hole(path, at, u64::from(len));
                }
                self.step(Step::Extents(vec![extent]))?;
            }
        }
        Ok(end)
    }

    /// Whether a chunk of content is left; stored again when it may not be reused.
    fn keep(&mut self, id: &ChunkId) -> Result<bool, AccessError> {
        let whole = self.places.lost(id)?.is_empty();
        let Some(out) = &mut self.out else {
            return Ok(whole);
        };
        if whole && out.writer.may_reuse(id)? {
            return Ok(true);
        }
        match self.reader.chunk(World::Content, id) {
            Ok(plain) => {
                match whole {
                    true => drop(out.content.store(&plain, &[])?),
                    // Not where the index says: nobody is to rely on that place.
                    false => out.content.put(*id, &plain, &[])?,
                }
                Ok(true)
            }
            Err(e) if says_damage(&e) => Ok(false),
            Err(e) => Err(e),
        }
    }
}

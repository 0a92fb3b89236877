//! Where chunks are: the [`Index`] trait, a local cache of the repository's segments.
//!
//! Segments are the truth; an index is derived from them, kept by this machine alone, and may be
//! thrown away at any time. It says nothing about validity: which packs exist or are condemned is
//! judged by a `view::View` in each process anew.

pub(crate) mod handle;
mod load;
mod memory;
mod redb;
#[cfg(test)]
mod suite;

pub use self::redb::{Opened, RedbIndex, RedbOptions};
pub use load::Load;
pub use memory::MemoryIndex;

use crate::format::segment::Segment;
use crate::id::{BaseRef, ChunkId, PackId, SegmentId, Uuid};

/// Most bases of one chunk.
pub const MAX_BASES: usize = 4;

/// How a chunk's bytes are encoded in its record; the numbers stand on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Encoding {
    /// As they are.
    Raw = 0,
    /// A zstd frame of its own.
    Zstd = 1,
    /// A zstd frame with 1–4 bases, joined, as prefix.
    Delta = 2,
    /// Part of the record's one shared zstd frame.
    Shared = 3,
}

impl Encoding {
    /// All of them, in the order of their numbers.
    pub const ALL: [Encoding; 4] = [
        Encoding::Raw,
        Encoding::Zstd,
        Encoding::Delta,
        Encoding::Shared,
    ];

    /// The encoding behind a number on disk.
    pub fn from_number(number: u8) -> Option<Encoding> {
        Encoding::ALL.into_iter().find(|e| *e as u8 == number)
    }

    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Encoding::Raw => "raw",
            Encoding::Zstd => "zstd",
            Encoding::Delta => "delta",
            Encoding::Shared => "shared",
        }
    }
}

/// The bases of a chunk, in the order in which they are joined: at most [`MAX_BASES`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Bases {
    len: u8,
    refs: [[u8; 16]; MAX_BASES],
}

impl Bases {
    /// No base: the chunk is plain.
    pub const NONE: Bases = Bases {
        len: 0,
        refs: [[0; 16]; MAX_BASES],
    };

    /// Adds a base; `false` when there are [`MAX_BASES`] already.
    #[must_use]
    pub fn push(&mut self, base: BaseRef) -> bool {
        let Some(place) = self.refs.get_mut(usize::from(self.len)) else {
            return false;
        };
        *place = base.0;
        self.len += 1;
        true
    }

    /// The bases in order.
    pub fn iter(&self) -> impl Iterator<Item = BaseRef> + '_ {
        self.refs
            .iter()
            .take(usize::from(self.len))
            .map(|r| BaseRef(*r))
    }

    /// How many.
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Whether the chunk is plain.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl std::fmt::Debug for Bases {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// The number that this index gives to a pack; means nothing elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackNumber(pub u32);

/// The dense number that this index gives to a chunk, counted from 0; means nothing elsewhere.
/// All places of a chunk share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkNumber(pub u32);

/// One place where a chunk stands: a row of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The pack.
    pub pack: PackNumber,
    /// Where its record starts in the pack.
    pub offset: u32,
    /// The record's stored length, header included.
    pub stored: u32,
    /// The chunk's position in the record's table.
    pub slot: u8,
    /// The chunk's plain length.
    pub plain: u32,
    /// Its encoding.
    pub encoding: Encoding,
    /// 0 for a plain chunk, else 1 + the deepest base's when it was written.
    pub depth: u8,
    /// Its bases.
    pub bases: Bases,
}

/// What the index knows of one chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its id.
    pub id: ChunkId,
    /// Its number.
    pub number: ChunkNumber,
    /// Every place, at least one, in the order of pack numbers.
    pub places: Vec<Place>,
}

/// What the index knows of one pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownPack {
    /// Its number.
    pub number: PackNumber,
    /// Its name.
    pub id: PackId,
    /// The session that wrote it.
    pub session: Uuid,
    /// Whether it holds pages instead of chunks of content.
    pub tree: bool,
}

/// A segment that was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Its name.
    pub id: SegmentId,
    /// The segments whose place it took.
    pub supersedes: Vec<SegmentId>,
}

/// What became of [`Index::apply`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Apply {
    /// All rows are in.
    Done,
    /// Another process holds the index for writing; nothing was changed.
    Busy,
}

/// What an index cannot do. Never damage of the repository: the cache is at fault, and a new one
/// can be made.
#[derive(Debug, thiserror::Error)]
#[error("the local index cache failed: {0}")]
pub struct IndexError(pub String);

/// A local cache of segments. Calls come from several threads.
pub trait Index: Send + Sync {
    /// Which segments were applied, in no particular order.
    ///
    /// # Errors
    /// When the cache is unusable.
    fn applied(&self) -> Result<Vec<Applied>, IndexError>;

    /// Adds the rows of whole segments. A row that is there already (same chunk, same pack) stays
    /// one row. When it fails or is busy none of the segments counts as applied, but rows of them
    /// may be there: they are as true as ever, and are there once when it is tried again.
    ///
    /// # Errors
    /// When the cache is unusable, or what is loaded cannot be read.
    fn load(&self, load: &mut dyn Load) -> Result<Apply, IndexError>;

    /// The same for a few segments in memory.
    ///
    /// # Errors
    /// When the cache is unusable.
    fn apply(&self, segments: &[(SegmentId, &Segment)]) -> Result<Apply, IndexError> {
        let mut gathered = load::Gathered::new(0, None);
        for (id, segment) in segments {
            gathered.add(*id, segment)?;
        }
        self.load(&mut gathered)
    }

    /// All places of a chunk.
    ///
    /// # Errors
    /// When the cache is unusable.
    fn find(&self, id: &ChunkId) -> Result<Option<Found>, IndexError>;

    /// Some places of a chunk, for whom one may do: each is verified, but not that there are no
    /// others. `None` only for a chunk that has none.
    ///
    /// # Errors
    /// When the cache is unusable.
    fn find_some(&self, id: &ChunkId) -> Result<Option<Found>, IndexError> {
        self.find(id)
    }

    /// All chunks whose ids begin with `base` (one, but for a collision of 128 bits).
    ///
    /// # Errors
    /// When the cache is unusable.
    fn find_base(&self, base: &BaseRef) -> Result<Vec<Found>, IndexError>;

    /// Up to `limit` chunks in the order of their ids, from the first after `after` on.
    ///
    /// # Errors
    /// When the cache is unusable.
    fn scan(&self, after: Option<&ChunkId>, limit: usize) -> Result<Vec<Found>, IndexError>;

    /// Every pack that rows name, in the order of numbers.
    ///
    /// # Errors
    /// When the cache is unusable.
    fn packs(&self) -> Result<Vec<KnownPack>, IndexError>;

    /// Tells apart the meanings that numbers had: two answers that are equal, also in different
    /// processes, mean that all numbers seen in between are still those of the same chunks.
    ///
    /// # Errors
    /// When the cache is unusable.
    fn generation(&self) -> Result<u64, IndexError>;

    /// Forgets everything, as if newly made.
    ///
    /// # Errors
    /// When the cache is unusable, or in use by another process.
    fn clear(&self) -> Result<(), IndexError>;
}

/// Whether a segment is what its type promises: rows in order, every row's pack among its packs.
fn check_segment(segment: &Segment) -> Result<(), IndexError> {
    let packs = u32::try_from(segment.packs.len()).unwrap_or(u32::MAX);
    if segment.rows.iter().any(|row| row.pack >= packs) {
        return Err(IndexError("a segment's row names no pack of it".into()));
    }
    if !segment.rows.is_sorted_by_key(|row| (row.id, row.pack)) {
        return Err(IndexError("a segment's rows are out of order".into()));
    }
    Ok(())
}

//! Segments of the index (docs/format.md, "Segment").

use crate::id::{ChunkId, PackId, SegmentId, Uuid};
use crate::index::{Bases, Encoding};

/// One segment: rows sorted by chunk id, then pack.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Segment {
    /// The segments whose place this one takes.
    pub supersedes: Vec<SegmentId>,
    /// The packs that rows name, by position.
    pub packs: Vec<SegmentPack>,
    /// The rows, sorted by `id`, then `pack`.
    pub rows: Vec<SegmentRow>,
}

/// A pack that rows of a segment name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentPack {
    /// Its name.
    pub id: PackId,
    /// The session that wrote it.
    pub session: Uuid,
    /// Whether it holds pages instead of chunks of content.
    pub tree: bool,
}

/// One row: a chunk and a place of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentRow {
    /// The chunk.
    pub id: ChunkId,
    /// Position of the pack in [`Segment::packs`].
    pub pack: u32,
    /// Where the record starts in the pack.
    pub offset: u32,
    /// The record's stored length, header included.
    pub stored: u32,
    /// Position in the record's table.
    pub slot: u8,
    /// Plain length of the chunk.
    pub plain: u32,
    /// Encoding.
    pub encoding: Encoding,
    /// 0 for a plain chunk, else 1 + the depth of the deepest base.
    pub depth: u8,
    /// Bases.
    pub bases: Bases,
}

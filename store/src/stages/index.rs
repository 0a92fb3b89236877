//! The index by itself: segments of packs that nobody wrote, to measure repositories of sizes that
//! no disk here holds.

use std::collections::HashMap;

use crate::backend::Area;
use crate::crypto::fresh_uuid;
use crate::error::AccessError;
use crate::format::segment::Segment;
use crate::gc::weigh_numbers;
use crate::id::{ChunkId, PackId};
use crate::repository::{Repository, named_key};
use crate::view::{Condemned, View};
use crate::writer::{put_fresh, seal_segment};

/// A repository of which there is nothing but an index.
pub struct IndexStage(Repository);

impl IndexStage {
    /// Takes a repository, best one that was just made.
    pub fn new(repository: Repository) -> IndexStage {
        IndexStage(repository)
    }

    /// Seals and puts a segment, as a writer does. Answers its stored bytes.
    ///
    /// # Errors
    /// When the backend fails.
    pub fn put(&self, segment: &mut Segment) -> Result<u64, AccessError> {
        segment.sort();
        let (id, body) = seal_segment(&self.0, segment, fresh_uuid())?;
        put_fresh(&self.0, &named_key(Area::Index, id), &body)?;
        Ok(body.len())
    }

    /// Brings the local index up to date.
    ///
    /// # Errors
    /// When the backend or the cache fails.
    pub fn update(&self) -> Result<(), AccessError> {
        self.0.update_index()
    }

    /// What may be reused when these packs stand, with stored sizes.
    ///
    /// # Errors
    /// When the backend fails.
    pub fn view(&self, packs: HashMap<PackId, u64>) -> Result<IndexView<'_>, AccessError> {
        let condemned = Condemned::for_planning(&self.0)?;
        Ok(IndexView(
            View::for_mark(&self.0, condemned, packs),
            &self.0,
        ))
    }
}

/// A view of packs that nobody wrote.
pub struct IndexView<'r>(View<'r>, &'r Repository);

impl IndexView<'_> {
    /// Whether a writer may refer to a chunk.
    ///
    /// # Errors
    /// When the cache fails.
    pub fn is_usable(&self, id: &ChunkId) -> Result<bool, AccessError> {
        Ok(self.0.usable(id)?.is_some())
    }

    /// What a collector does with the index: weighs all packs, when of the first `chunks` numbers
    /// those live of which `lives` says so. Answers packs, chunks that live for others, and lost
    /// ones.
    ///
    /// # Errors
    /// When the cache fails.
    pub fn weigh(&self, chunks: u32, lives: impl Fn(u32) -> bool) -> Result<[u64; 3], AccessError> {
        weigh_numbers(self.1, &self.0, (0..chunks).filter(|n| lives(*n)))
    }
}

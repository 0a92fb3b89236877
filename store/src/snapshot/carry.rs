//! Taking what is stored already over into a session: every id through the view, and what may not
//! be reused is stored again from any pack that still holds it (gc-protocol.md, writer step 4).

use crate::error::AccessError;
use crate::id::ChunkId;
use crate::reader::Reader;
use crate::record::World;
use crate::writer::{Lane, Writer};

/// Carries chunks and pages over.
pub(super) struct Carrier<'w, 'r> {
    writer: &'w Writer<'r>,
    reader: &'w Reader<'r>,
    pages: Lane<'w, 'r>,
    content: Lane<'w, 'r>,
}

impl<'w, 'r> Carrier<'w, 'r> {
    /// `reader` reads what is carried over.
    pub fn new(writer: &'w Writer<'r>, reader: &'w Reader<'r>) -> Carrier<'w, 'r> {
        Carrier {
            writer,
            reader,
            pages: writer.lane(World::Pages),
            content: writer.lane(World::Content),
        }
    }

    /// Sees to it that the session may refer to an id.
    ///
    /// # Errors
    /// [`AccessError::LostChunk`] when it may not be reused and is whole nowhere.
    pub fn carry(&mut self, world: World, id: &ChunkId) -> Result<(), AccessError> {
        if self.writer.may_reuse(id)? {
            return Ok(());
        }
        let plain = self.reader.chunk(world, id)?;
        let lane = if world.is_pages() {
            &mut self.pages
        } else {
            &mut self.content
        };
        lane.store(&plain, &[])?;
        Ok(())
    }

    /// Seals what was stored.
    pub fn finish(mut self) -> Result<(), AccessError> {
        self.pages.flush()?;
        self.content.flush()
    }
}

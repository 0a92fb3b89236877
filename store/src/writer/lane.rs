//! A lane: one thread's way into the packs. It names chunks, encodes those that are new, and fills
//! and seals records of its own.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::{Outcome, Writer, count};
use crate::codec::{Encoder, looks_random};
use crate::error::AccessError;
use crate::format::MAX_CHUNK;
use crate::id::{ChunkId, DataKeyId};
use crate::record::{EncodedChunk, RecordBuilder, SHARED_UP_TO, World, seal_record, verify_record};

/// Knows which stored chunks the next ones of a stream probably resemble.
pub(crate) trait Like {
    /// Stored chunks that stand where the next chunk, of so many bytes, stands, those that cover
    /// the most of it first.
    fn bases(&self, len: usize) -> Vec<ChunkId>;

    /// The next chunk is this stored one, or resembles it. Answers whether another place in what
    /// is stored follows from that.
    fn met(&mut self, id: &ChunkId) -> bool;

    /// Chunks of one kind compress well together.
    fn kind(&self) -> ContentKind {
        ContentKind::default()
    }
}

/// What a chunk is like, as far as somebody knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct ContentKind(u64);

impl ContentKind {
    /// Files whose names end alike are of one kind.
    pub fn of_file(path: &[u8]) -> ContentKind {
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let end = name.iter().rposition(|byte| *byte == b'.');
        let mut hasher = DefaultHasher::new();
        let end = end.and_then(|dot| name.get(dot..)).unwrap_or_default();
        end.to_ascii_lowercase().hash(&mut hasher);
        ContentKind(hasher.finish())
    }
}

/// Stores chunks for one thread: it fills records of its own.
pub(crate) struct Lane<'w, 'r> {
    pub(super) writer: &'w Writer<'r>,
    pub(super) world: World,
    pub(super) encoder: Encoder,
    /// Records of shared frames, by what their chunks are like.
    shared: Vec<(ContentKind, RecordBuilder)>,
    large: Vec<RecordBuilder>,
}

/// Records that a lane fills at once, so that a chunk finds one with room: full records carry the
/// cost of their seal best.
const OPEN_RECORDS: usize = 4;
/// Kinds of chunks for which a lane fills a frame each at once.
const OPEN_KINDS: usize = 8;

impl<'w, 'r> Lane<'w, 'r> {
    pub(super) fn new(writer: &'w Writer<'r>, world: World) -> Lane<'w, 'r> {
        Lane {
            writer,
            world,
            encoder: Encoder::default(),
            shared: Vec::new(),
            large: Vec::new(),
        }
    }

    /// The world of its chunks.
    pub fn world(&self) -> World {
        self.world
    }

    /// Stores a chunk unless it may be reused, as a delta against `bases` when that is clearly
    /// smaller. Bases that are not usable, or too deep, are not used.
    pub fn store(&mut self, plain: &[u8], bases: &[ChunkId]) -> Result<Outcome, AccessError> {
        let (id, new) = self.claim(plain)?;
        if new {
            self.put(id, plain, bases)?;
        }
        Ok(Outcome { id, new })
    }

    /// Stores the next chunk of a stream, of which an earlier state may be stored.
    pub fn store_like(
        &mut self,
        plain: &[u8],
        like: &mut dyn Like,
    ) -> Result<Outcome, AccessError> {
        let (id, new) = self.claim(plain)?;
        if !new {
            like.met(&id);
        } else if let Some(chunk) = self.delta_like(id, plain, like)? {
            self.push_delta(chunk)?;
        } else {
            self.put_plain(id, plain, like.kind())?;
        }
        Ok(Outcome { id, new })
    }

    /// Names a chunk, and takes the duty of storing it when nobody did.
    fn claim(&self, plain: &[u8]) -> Result<(ChunkId, bool), AccessError> {
        if plain.len() > MAX_CHUNK {
            return Err(AccessError::TooLarge(plain.len()));
        }
        let id = self.world.id(self.writer.repository.keys(), plain);
        let new = self.writer.claim(&id)?;
        if new {
            let counted = &self.writer.counted;
            count(&counted.new_chunks, 1);
            if self.world == World::Content {
                count(&counted.new_bytes, plain.len() as u64);
            }
        }
        Ok((id, new))
    }

    /// Stores a chunk whether or not it is there already: gc makes copies so.
    pub fn put(&mut self, id: ChunkId, plain: &[u8], bases: &[ChunkId]) -> Result<(), AccessError> {
        match self.delta(id, plain, bases)? {
            Some(chunk) => self.push_delta(chunk),
            None => self.put_plain(id, plain, ContentKind::default()),
        }
    }

    fn put_plain(
        &mut self,
        id: ChunkId,
        plain: &[u8],
        kind: ContentKind,
    ) -> Result<(), AccessError> {
        let small = self.world == World::Content && plain.len() <= SHARED_UP_TO;
        if small && !looks_random(plain) {
            return self.push_shared(id, plain, kind);
        }
        let chunk = EncodedChunk::plain(id, plain, &mut self.encoder);
        self.push(chunk.map_err(AccessError::Spool)?)
    }

    /// Adds a chunk to the open frame of its kind; of too many kinds the fullest frame is sealed.
    fn push_shared(
        &mut self,
        id: ChunkId,
        plain: &[u8],
        kind: ContentKind,
    ) -> Result<(), AccessError> {
        let known = self.shared.iter().position(|(other, _)| *other == kind);
        let fullest = || {
            let all = self.shared.iter().enumerate();
            let fullest = all.max_by_key(|(_, (_, record))| record.plain());
            fullest.map(|(at, _)| at)
        };
        let at = match known {
            None if self.shared.len() >= OPEN_KINDS => fullest(),
            known => known,
        };
        let Some((open, record)) = at.and_then(|at| self.shared.get_mut(at)) else {
            let mut record = RecordBuilder::default();
            record.push_shared(id, plain);
            self.shared.push((kind, record));
            return Ok(());
        };
        if *open != kind || !record.fits(plain.len()) {
            seal(self.writer, self.world, record, &mut self.encoder)?;
            *open = kind;
        }
        record.push_shared(id, plain);
        Ok(())
    }

    fn push_delta(&mut self, chunk: EncodedChunk) -> Result<(), AccessError> {
        if self.world == World::Content {
            let counted = &self.writer.counted;
            count(&counted.deltas, 1);
            count(&counted.delta_bytes, u64::from(chunk.row.plain));
            count(&counted.delta_encoded, u64::from(chunk.row.stored));
        }
        self.push(chunk)
    }

    /// Adds a chunk that is encoded already.
    pub fn push(&mut self, chunk: EncodedChunk) -> Result<(), AccessError> {
        let plain = chunk.row.plain as usize;
        let roomy = self.large.iter_mut().filter(|record| record.fits(plain));
        if let Some(record) = roomy.max_by_key(|record| record.plain()) {
            record.push(chunk);
            return Ok(());
        }
        if self.large.len() >= OPEN_RECORDS
            && let Some(fullest) = self.large.iter_mut().max_by_key(|record| record.plain())
        {
            seal(self.writer, self.world, fullest, &mut self.encoder)?;
            fullest.push(chunk);
            return Ok(());
        }
        let mut record = RecordBuilder::default();
        record.push(chunk);
        self.large.push(record);
        Ok(())
    }

    /// Seals what waits in this lane.
    pub fn flush(&mut self) -> Result<(), AccessError> {
        let shared = std::mem::take(&mut self.shared).into_iter();
        let shared = shared.map(|(_, record)| record);
        for mut record in shared.chain(std::mem::take(&mut self.large)) {
            seal(self.writer, self.world, &mut record, &mut self.encoder)?;
        }
        Ok(())
    }
}

/// Seals one record, opens it again and compares, and adds it to the pack.
fn seal(
    writer: &Writer<'_>,
    world: World,
    builder: &mut RecordBuilder,
    encoder: &mut Encoder,
) -> Result<(), AccessError> {
    if builder.is_empty() {
        return Ok(());
    }
    let keys = writer.repository.keys();
    let parts = builder.finish(encoder).map_err(AccessError::Spool)?;
    let key = keys
        .writing_key(world.is_pages())
        .ok_or(AccessError::NoDataKey(DataKeyId([0; 4])))?;
    let stored = seal_record(keys, &key, world, &parts.plain);
    verify_record(keys, world, &stored, &parts.proofs)?;
    writer.append(world, &stored, &parts.rows)
}

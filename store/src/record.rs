//! Building, sealing and opening records.

use std::sync::{Arc, OnceLock};

use crate::codec::{self, Encoder};
use crate::crypto::{DataKey, Keys};
use crate::error::AccessError;
use crate::format::record::{HEADER, RecordHeader, TableRow, decode_record, encode_table};
use crate::format::{MAX_RECORD_CHUNKS, MAX_RECORD_PLAIN};
use crate::id::ChunkId;
use crate::index::{Bases, Encoding};

/// Chunks below this share one frame with their neighbours.
pub(crate) const SHARED_BELOW: usize = 32 << 10;

/// Which of the two worlds a chunk belongs to: they differ in id key, seal, and pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum World {
    /// Bytes of files and streams.
    Content,
    /// Pages of trees.
    Pages,
}

impl World {
    /// Both.
    pub const ALL: [World; 2] = [World::Content, World::Pages];

    pub(crate) fn id(self, keys: &Keys, plain: &[u8]) -> ChunkId {
        match self {
            World::Content => keys.chunk_id(plain),
            World::Pages => keys.page_id(plain),
        }
    }

    pub(crate) fn is_pages(self) -> bool {
        self == World::Pages
    }
}

/// A chunk on its way into a record, encoded.
#[derive(Debug, Clone)]
pub(crate) struct EncodedChunk {
    pub row: TableRow,
    pub bytes: Vec<u8>,
    pub depth: u8,
    /// The bases that it was encoded against, as far as they are at hand.
    pub bases: Parts,
}

/// Plain bytes of bases, to be joined in order.
pub(crate) type Parts = Vec<Arc<Vec<u8>>>;

impl EncodedChunk {
    /// Bytes that are encoded already, bases elsewhere.
    pub fn new(row: TableRow, bytes: Vec<u8>, depth: u8) -> EncodedChunk {
        EncodedChunk {
            row,
            bytes,
            depth,
            bases: Parts::new(),
        }
    }

    /// Encodes a chunk without a base.
    pub fn plain(
        id: ChunkId,
        plain: &[u8],
        encoder: &mut Encoder,
    ) -> std::io::Result<EncodedChunk> {
        let (encoding, bytes) = encoder.plain(plain)?;
        let row = table_row(id, encoding, plain.len(), bytes.len());
        Ok(EncodedChunk::new(row, bytes, 0))
    }
}

/// What a record is made of.
pub(crate) struct RecordParts {
    /// The table and the encoded bytes.
    pub plain: Vec<u8>,
    /// Its rows, with the depth of each chunk.
    pub rows: Vec<(TableRow, u8)>,
    /// Bases that are at hand, by slot.
    pub bases: Vec<Parts>,
}

/// Collects encoded chunks until a record is full.
#[derive(Debug, Default)]
pub(crate) struct RecordBuilder {
    chunks: Vec<EncodedChunk>,
    /// Small chunks, plain: they become one shared frame.
    shared: Vec<(ChunkId, Vec<u8>)>,
    plain: usize,
}

impl RecordBuilder {
    /// Whether one more chunk of `plain` bytes has room.
    pub fn fits(&self, plain: usize) -> bool {
        let count = self.chunks.len() + self.shared.len();
        #[cfg(test)]
        if crate::testing::is_single() {
            return count == 0;
        }
        count == 0 || (count < MAX_RECORD_CHUNKS && self.plain + plain <= MAX_RECORD_PLAIN)
    }

    /// Adds a chunk with an encoding of its own.
    pub fn push(&mut self, chunk: EncodedChunk) {
        self.plain += chunk.row.plain as usize;
        self.chunks.push(chunk);
    }

    /// Adds a small chunk to the shared frame.
    pub fn push_shared(&mut self, id: ChunkId, plain: Vec<u8>) {
        self.plain += plain.len();
        self.shared.push((id, plain));
    }

    /// Plain bytes so far.
    pub fn plain(&self) -> usize {
        self.plain
    }

    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.shared.is_empty()
    }

    /// What was collected, leaving the builder empty.
    pub fn finish(&mut self, encoder: &mut Encoder) -> std::io::Result<RecordParts> {
        let mut chunks = std::mem::take(&mut self.chunks);
        let shared = std::mem::take(&mut self.shared);
        chunks.extend(join_shared(shared, encoder)?);
        self.plain = 0;
        let rows: Vec<TableRow> = chunks.iter().map(|c| c.row).collect();
        let size: usize = chunks.iter().map(|c| c.bytes.len()).sum();
        let table: usize = rows.iter().map(|r| 39 + 16 * r.bases.len()).sum();
        let mut plain = Vec::with_capacity(2 + table + size);
        encode_table(&rows, &mut plain);
        chunks
            .iter()
            .for_each(|c| plain.extend_from_slice(&c.bytes));
        Ok(RecordParts {
            plain,
            rows: chunks.iter().map(|c| (c.row, c.depth)).collect(),
            bases: chunks.into_iter().map(|c| c.bases).collect(),
        })
    }
}

/// Makes one frame of small chunks; a single one, or those that do not compress, stay alone.
fn join_shared(
    shared: Vec<(ChunkId, Vec<u8>)>,
    encoder: &mut Encoder,
) -> std::io::Result<Vec<EncodedChunk>> {
    let parts: Vec<&[u8]> = shared.iter().map(|(_, plain)| &**plain).collect();
    let frame = match parts.as_slice() {
        [] => return Ok(Vec::new()),
        [_] => None,
        several => {
            let joined = several.concat();
            let frame = encoder.shared(&joined)?;
            (frame.len() < joined.len()).then_some(frame)
        }
    };
    let Some(frame) = frame else {
        let alone = |(id, plain): &(ChunkId, Vec<u8>)| EncodedChunk::plain(*id, plain, encoder);
        return shared.iter().map(alone).collect();
    };
    let mut frame = Some(frame);
    let chunk = |(id, plain): (ChunkId, Vec<u8>)| {
        let bytes = frame.take().unwrap_or_default();
        let row = table_row(id, Encoding::Shared, plain.len(), bytes.len());
        EncodedChunk::new(row, bytes, 0)
    };
    Ok(shared.into_iter().map(chunk).collect())
}

/// A table row without bases.
pub(crate) fn table_row(id: ChunkId, encoding: Encoding, plain: usize, stored: usize) -> TableRow {
    TableRow {
        id,
        encoding,
        plain: plain as u32,
        stored: stored as u32,
        bases: Bases::NONE,
    }
}

/// Seals a record's plain form.
pub(crate) fn seal_record(keys: &Keys, key: &DataKey, world: World, plain: &[u8]) -> Vec<u8> {
    let header = RecordHeader {
        key: key.id,
        sealed: (plain.len() + key.key.overhead()) as u32,
    };
    let mut out = header.encode().to_vec();
    let clear = RecordHeader::context(key.id);
    key.key.seal_onto(
        &keys.record_context(world.is_pages(), &clear),
        plain,
        &mut out,
    );
    out
}

/// A record that was opened: its table, and the encoded bytes of its chunks.
#[derive(Debug)]
pub(crate) struct OpenRecord {
    pub rows: Vec<TableRow>,
    plain: Vec<u8>,
    body: usize,
    shared: OnceLock<Option<Vec<u8>>>,
}

impl OpenRecord {
    /// Opens the stored form.
    pub fn open(keys: &Keys, world: World, stored: &[u8]) -> Result<OpenRecord, RecordError> {
        let header = RecordHeader::decode(stored).map_err(|_| RecordError::Malformed)?;
        let sealed = stored.get(HEADER..).unwrap_or(&[]);
        if sealed.len() != header.sealed as usize {
            return Err(RecordError::Malformed);
        }
        let key = keys
            .record_key(header.key)
            .ok_or(RecordError::NoKey(header.key))?;
        let clear = RecordHeader::context(header.key);
        let context = keys.record_context(world.is_pages(), &clear);
        let plain = key
            .key
            .open(&context, sealed)
            .map_err(|_| RecordError::Seal)?;
        let (rows, body) = decode_record(&plain).map_err(|_| RecordError::Malformed)?;
        let body = plain.len() - body.len();
        Ok(OpenRecord {
            rows,
            plain,
            body,
            shared: OnceLock::new(),
        })
    }

    /// Bytes of memory it takes once a shared frame of it is decoded; always the same.
    pub fn weight(&self) -> u64 {
        let decoded: u64 = self.rows.iter().map(|r| u64::from(r.plain)).sum();
        decoded + (self.plain.len() + self.rows.len() * 128) as u64
    }

    /// The encoded bytes of a chunk that is in no shared frame.
    pub fn encoded(&self, slot: usize) -> Option<(&TableRow, &[u8])> {
        let row = self.rows.get(slot)?;
        let before: usize = self.rows.iter().take(slot).map(|r| r.stored as usize).sum();
        let start = self.body + before;
        Some((row, self.plain.get(start..start + row.stored as usize)?))
    }

    /// The plain bytes of a chunk, given those of its bases joined. The id is not checked here.
    pub fn decode(&self, slot: usize, prefix: &[u8]) -> Option<Vec<u8>> {
        let (row, bytes) = self.encoded(slot)?;
        if row.encoding != Encoding::Shared {
            return codec::decode(row.encoding, bytes, row.plain as usize, prefix).ok();
        }
        let frame = self.shared.get_or_init(|| self.decode_shared()).as_ref()?;
        let in_frame = |r: &&TableRow| r.encoding == Encoding::Shared;
        let start: usize = self
            .rows
            .iter()
            .take(slot)
            .filter(in_frame)
            .map(|r| r.plain as usize)
            .sum();
        frame
            .get(start..start + row.plain as usize)
            .map(<[u8]>::to_vec)
    }

    fn decode_shared(&self) -> Option<Vec<u8>> {
        let members = || {
            self.rows
                .iter()
                .enumerate()
                .filter(|(_, r)| r.encoding == Encoding::Shared)
        };
        let len: usize = members().map(|(_, r)| r.plain as usize).sum();
        let (first, _) = members().next()?;
        if members().skip(1).any(|(_, r)| r.stored != 0) || len > MAX_RECORD_PLAIN {
            return None;
        }
        let (_, bytes) = self.encoded(first)?;
        codec::decode(Encoding::Shared, bytes, len, &[]).ok()
    }
}

/// Why a record does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RecordError {
    #[error("it is malformed")]
    Malformed,
    #[error("its seal does not hold")]
    Seal,
    #[error("data key {0} is not known")]
    NoKey(crate::id::DataKeyId),
}

/// Opens a record that was just sealed and compares: a client with bad memory must not publish
/// bad packs. `bases` gives those of each delta, by slot; they are compared with their names once
/// more, for the delta was made of the same bytes.
pub(crate) fn verify_record(
    keys: &Keys,
    world: World,
    stored: &[u8],
    mut bases: impl FnMut(usize, &TableRow) -> Result<Parts, AccessError>,
) -> Result<(), AccessError> {
    let failed = || AccessError::VerifyFailed;
    let record = OpenRecord::open(keys, world, stored).map_err(|_| failed())?;
    for (slot, row) in record.rows.iter().enumerate() {
        let mut joined = Vec::new();
        if !row.bases.is_empty() {
            let parts = bases(slot, row)?;
            let names = parts.iter().map(|part| world.id(keys, part).as_base());
            if !names.eq(row.bases.iter()) {
                return Err(failed());
            }
            let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_slice()).collect();
            joined = parts.concat();
        }
        let plain = record.decode(slot, &joined).ok_or_else(failed)?;
        if world.id(keys, &plain) != row.id {
            return Err(failed());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Encryption;
    use crate::id::RepositoryId;

    fn keys() -> Keys {
        let keys = Keys::derive(
            Encryption::XChaCha20Poly1305,
            &[9; 32],
            RepositoryId([1; 16]),
        );
        keys.keep_built_in();
        keys.keep(keys.generate_data_key());
        keys
    }

    fn build(keys: &Keys, world: World) -> (Vec<u8>, Vec<Vec<u8>>) {
        let mut builder = RecordBuilder::default();
        let large = b"large ".repeat(9000);
        let mut encoder = Encoder::default();
        let id = world.id(keys, &large);
        builder.push(EncodedChunk::plain(id, &large, &mut encoder).unwrap());
        let mut plains = vec![large];
        for i in 0..20u8 {
            let small = vec![i; 100 + usize::from(i)];
            builder.push_shared(world.id(keys, &small), small.clone());
            plains.push(small);
        }
        let plain = builder.finish(&mut encoder).unwrap().plain;
        let key = keys.writing_key(world.is_pages()).unwrap();
        (seal_record(keys, &key, world, &plain), plains)
    }

    #[test]
    fn chunks_come_back_from_their_slots() {
        let keys = keys();
        for world in World::ALL {
            let (stored, plains) = build(&keys, world);
            let record = OpenRecord::open(&keys, world, &stored).unwrap();
            for (slot, plain) in plains.iter().enumerate() {
                assert_eq!(&record.decode(slot, &[]).unwrap(), plain);
            }
            assert!(record.decode(plains.len(), &[]).is_none());
            verify_record(&keys, world, &stored, |_, _| Ok(Parts::new())).unwrap();
        }
    }

    #[test]
    fn a_page_record_is_no_content_record() {
        let keys = keys();
        let (stored, _) = build(&keys, World::Pages);
        assert_eq!(
            OpenRecord::open(&keys, World::Content, &stored).unwrap_err(),
            RecordError::Seal
        );
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let keys = keys();
        let (stored, _) = build(&keys, World::Content);
        for i in 0..stored.len() {
            let mut bad = stored.clone();
            bad[i] ^= 4;
            assert!(
                OpenRecord::open(&keys, World::Content, &bad).is_err(),
                "byte {i}"
            );
        }
    }
}

//! Building, sealing and opening records.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use crate::codec::{self, Encoder};
use crate::crypto::{DataKey, Keys};
use crate::error::AccessError;
use crate::format::record::{HEADER, RecordHeader, TableRow, decode_record, encode_table};
use crate::format::{MAX_RECORD_CHUNKS, MAX_RECORD_PLAIN};
use crate::id::{ChunkId, PackId};
use crate::index::{Bases, Encoding};

/// Chunks up to this share one frame with their neighbours: two at least have room in a record.
pub(crate) const SHARED_UP_TO: usize = MAX_RECORD_PLAIN / 8 * 3;

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
    pub proof: Proof,
}

/// By what a chunk is proven once its record is sealed.
#[derive(Debug, Clone)]
pub(crate) enum Proof {
    /// It decodes to what its id says, given the bases that it was encoded against.
    Decoded(Parts),
    /// It is, byte for byte, what another record held under its seal: the checksum was taken there.
    Moved(blake3::Hash),
}

impl Proof {
    /// Bytes of bases that are kept for it.
    fn held(&self) -> usize {
        match self {
            Proof::Decoded(bases) => bases.iter().map(|b| b.plain.len()).sum(),
            Proof::Moved(_) => 0,
        }
    }
}

/// Where a chunk stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stand {
    pub pack: PackId,
    /// Of its record.
    pub offset: u32,
    pub slot: u8,
}

/// A chunk that was read and decoded.
#[derive(Debug)]
pub(crate) struct Verified {
    pub id: ChunkId,
    pub plain: Vec<u8>,
    /// Whether its bytes were compared with its id: a restore leaves that of bases to what is built
    /// on them.
    pub proven: bool,
    /// Where it was read.
    pub stand: Stand,
}

/// Bases of a delta, to be joined in order.
pub(crate) type Parts = Vec<Arc<Verified>>;

/// Bases joined: a single one stays where it is.
pub(crate) fn join(parts: &[Arc<Verified>]) -> Cow<'_, [u8]> {
    match parts {
        [only] => Cow::Borrowed(&only.plain),
        several => {
            let several: Vec<&[u8]> = several.iter().map(|part| &*part.plain).collect();
            Cow::Owned(several.concat())
        }
    }
}

impl EncodedChunk {
    /// A chunk that was encoded against these bases.
    pub fn new(row: TableRow, bytes: Vec<u8>, depth: u8, bases: Parts) -> EncodedChunk {
        EncodedChunk {
            row,
            bytes,
            depth,
            proof: Proof::Decoded(bases),
        }
    }

    /// A chunk of another record that is in no shared frame, as it stands there.
    pub fn moved(record: &OpenRecord, slot: usize, depth: u8) -> Option<EncodedChunk> {
        let (row, bytes) = record.encoded(slot)?;
        Some(EncodedChunk {
            row: *row,
            bytes: bytes.to_vec(),
            depth,
            proof: Proof::Moved(checksum(row, bytes)),
        })
    }

    /// Encodes a chunk without a base.
    pub fn plain(
        id: ChunkId,
        plain: &[u8],
        encoder: &mut Encoder,
    ) -> std::io::Result<EncodedChunk> {
        let (encoding, bytes) = encoder.plain(plain)?;
        let row = table_row(id, encoding, plain.len(), bytes.len());
        Ok(EncodedChunk::new(row, bytes, 0, Parts::new()))
    }
}

/// Of a chunk as it stands in a record.
fn checksum(row: &TableRow, bytes: &[u8]) -> blake3::Hash {
    let mut table = Vec::new();
    encode_table(std::slice::from_ref(row), &mut table);
    blake3::Hasher::new()
        .update(&table)
        .update(bytes)
        .finalize()
}

/// What a record is made of.
pub(crate) struct RecordParts {
    /// The table and the encoded bytes.
    pub plain: Vec<u8>,
    /// Its rows, with the depth of each chunk.
    pub rows: Vec<(TableRow, u8)>,
    /// By what each is proven, by slot.
    pub proofs: Vec<Proof>,
}

/// Collects encoded chunks until a record is full.
#[derive(Debug, Default)]
pub(crate) struct RecordBuilder {
    chunks: Vec<EncodedChunk>,
    /// Chunks that become one shared frame, with their lengths.
    shared: Vec<(ChunkId, usize)>,
    /// Their plain bytes.
    joined: Vec<u8>,
    plain: usize,
    /// Bytes of bases that are kept until it is sealed.
    held: usize,
}

/// A record with so many bytes of bases takes no further chunk.
const MAX_HELD: usize = 1 << 20;

impl RecordBuilder {
    /// Whether one more chunk of `plain` bytes has room.
    pub fn fits(&self, plain: usize) -> bool {
        let count = self.chunks.len() + self.shared.len();
        #[cfg(test)]
        if crate::testing::is_single() {
            return count == 0;
        }
        let room = count < MAX_RECORD_CHUNKS && self.plain + plain <= MAX_RECORD_PLAIN;
        count == 0 || (room && self.held < MAX_HELD)
    }

    /// Adds a chunk with an encoding of its own.
    pub fn push(&mut self, chunk: EncodedChunk) {
        self.plain += chunk.row.plain as usize;
        self.held += chunk.proof.held();
        self.chunks.push(chunk);
    }

    /// Adds a chunk to the shared frame.
    pub fn push_shared(&mut self, id: ChunkId, plain: &[u8]) {
        self.plain += plain.len();
        self.shared.push((id, plain.len()));
        self.joined.extend_from_slice(plain);
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
        chunks.extend(encode_shared(&shared, &self.joined, encoder)?);
        self.joined.clear();
        (self.plain, self.held) = (0, 0);
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
            proofs: chunks.into_iter().map(|c| c.proof).collect(),
        })
    }
}

/// Makes one frame of joined chunks; a single one, or those that do not compress, stay alone.
fn encode_shared(
    shared: &[(ChunkId, usize)],
    joined: &[u8],
    encoder: &mut Encoder,
) -> std::io::Result<Vec<EncodedChunk>> {
    let frame = match shared {
        [] | [_] => None,
        _ => Some(encoder.shared(joined)?).filter(|frame| frame.len() < joined.len()),
    };
    let Some(frame) = frame else {
        let mut rest = joined;
        let alone = |(id, len): &(ChunkId, usize)| {
            let (plain, behind) = rest.split_at(*len);
            rest = behind;
            EncodedChunk::plain(*id, plain, encoder)
        };
        return shared.iter().map(alone).collect();
    };
    let mut frame = Some(frame);
    let chunk = |(id, len): &(ChunkId, usize)| {
        let bytes = frame.take().unwrap_or_default();
        let row = table_row(*id, Encoding::Shared, *len, bytes.len());
        EncodedChunk::new(row, bytes, 0, Parts::new())
    };
    Ok(shared.iter().map(chunk).collect())
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
    /// Where the encoded bytes of each chunk begin; for one in the shared frame, where it begins in
    /// what that decodes to.
    starts: Vec<usize>,
    frame: Option<Frame>,
    shared: OnceLock<Option<Vec<u8>>>,
}

/// A shared frame: where it stands, and how much it decodes to.
#[derive(Debug, Clone, Copy)]
struct Frame {
    start: usize,
    stored: usize,
    plain: usize,
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
        let (starts, frame) = lay_out(&rows, plain.len() - body.len());
        Ok(OpenRecord {
            rows,
            plain,
            starts,
            frame,
            shared: OnceLock::new(),
        })
    }

    /// Bytes of memory it takes once a shared frame of it is decoded; always the same.
    pub fn weight(&self) -> u64 {
        let decoded = self.frame.map_or(0, |frame| frame.plain);
        (decoded + self.plain.len() + self.rows.len() * 136) as u64
    }

    /// The encoded bytes of a chunk that is in no shared frame.
    pub fn encoded(&self, slot: usize) -> Option<(&TableRow, &[u8])> {
        let row = self.rows.get(slot)?;
        if row.encoding == Encoding::Shared {
            return None;
        }
        let start = *self.starts.get(slot)?;
        Some((row, self.plain.get(start..start + row.stored as usize)?))
    }

    /// The bytes that a chunk takes in its record; of one in the shared frame its part of that.
    pub fn share(&self, slot: usize) -> Option<u64> {
        let row = self.rows.get(slot)?;
        let frame = self.frame.filter(|_| row.encoding == Encoding::Shared);
        Some(match frame {
            Some(frame) if frame.plain > 0 => {
                frame.stored as u64 * u64::from(row.plain) / frame.plain as u64
            }
            _ => u64::from(row.stored),
        })
    }

    /// The plain bytes of a chunk, given those of its bases joined. The id is not checked here.
    pub fn decode(&self, slot: usize, prefix: &[u8]) -> Option<Vec<u8>> {
        let mut buffer = Vec::new();
        let plain = self.plain(slot, prefix, &mut buffer)?;
        match self.rows.get(slot)?.encoding {
            Encoding::Raw | Encoding::Shared => Some(plain.to_vec()),
            Encoding::Zstd | Encoding::Delta => Some(buffer),
        }
    }

    /// The same without a copy: from where they stand in the record, or decoded into `buffer`.
    pub fn plain<'a>(
        &'a self,
        slot: usize,
        prefix: &[u8],
        buffer: &'a mut Vec<u8>,
    ) -> Option<&'a [u8]> {
        let row = self.rows.get(slot)?;
        let len = row.plain as usize;
        if row.encoding == Encoding::Shared {
            let frame = self.shared.get_or_init(|| self.decode_shared()).as_ref()?;
            let start = *self.starts.get(slot)?;
            return frame.get(start..start + len);
        }
        let (_, bytes) = self.encoded(slot)?;
        if row.encoding == Encoding::Raw {
            return (bytes.len() == len).then_some(bytes);
        }
        codec::decode_into(row.encoding, bytes, len, prefix, buffer).ok()?;
        Some(buffer)
    }

    fn decode_shared(&self) -> Option<Vec<u8>> {
        let frame = self.frame?;
        let bytes = self.plain.get(frame.start..frame.start + frame.stored)?;
        codec::decode(Encoding::Shared, bytes, frame.plain, &[]).ok()
    }
}

/// Where each chunk begins, and the shared frame, if there is one that makes sense.
fn lay_out(rows: &[TableRow], body: usize) -> (Vec<usize>, Option<Frame>) {
    let mut starts = Vec::with_capacity(rows.len());
    let mut frame: Option<Frame> = None;
    let mut sound = true;
    let mut at = body;
    for row in rows {
        let (stored, plain) = (row.stored as usize, row.plain as usize);
        match &mut frame {
            _ if row.encoding != Encoding::Shared => starts.push(at),
            Some(frame) => {
                sound &= stored == 0;
                starts.push(frame.plain);
                frame.plain += plain;
            }
            None => {
                starts.push(0);
                let start = at;
                frame = Some(Frame {
                    start,
                    stored,
                    plain,
                });
            }
        }
        at += stored;
    }
    let frame = frame.filter(|frame| sound && frame.plain <= MAX_RECORD_PLAIN);
    (starts, frame)
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
/// bad packs. Bases are compared with their names once more, for the delta was made of the same
/// bytes.
pub(crate) fn verify_record(
    keys: &Keys,
    world: World,
    stored: &[u8],
    proofs: &[Proof],
) -> Result<(), AccessError> {
    let failed = || AccessError::VerifyFailed;
    let record = OpenRecord::open(keys, world, stored).map_err(|_| failed())?;
    if record.rows.len() != proofs.len() {
        return Err(failed());
    }
    let mut buffer = Vec::new();
    for (slot, (row, proof)) in record.rows.iter().zip(proofs).enumerate() {
        let holds = match proof {
            Proof::Moved(sum) => record
                .encoded(slot)
                .is_some_and(|(row, bytes)| checksum(row, bytes) == *sum),
            Proof::Decoded(parts) => {
                let name = |part: &Arc<Verified>| world.id(keys, &part.plain).as_base();
                let plain = record.plain(slot, &join(parts), &mut buffer);
                let is_named = plain.is_some_and(|plain| world.id(keys, plain) == row.id);
                is_named && parts.iter().map(name).eq(row.bases.iter())
            }
        };
        if !holds {
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
        let (stored, plains, _) = build_proven(keys, world);
        (stored, plains)
    }

    fn build_proven(keys: &Keys, world: World) -> (Vec<u8>, Vec<Vec<u8>>, Vec<Proof>) {
        let mut builder = RecordBuilder::default();
        let large = b"large ".repeat(9000);
        let mut encoder = Encoder::default();
        let id = world.id(keys, &large);
        builder.push(EncodedChunk::plain(id, &large, &mut encoder).unwrap());
        let mut plains = vec![large];
        for i in 0..20u8 {
            let small = vec![i; 100 + usize::from(i)];
            builder.push_shared(world.id(keys, &small), &small);
            plains.push(small);
        }
        let parts = builder.finish(&mut encoder).unwrap();
        let key = keys.writing_key(world.is_pages()).unwrap();
        let stored = seal_record(keys, &key, world, &parts.plain);
        (stored, plains, parts.proofs)
    }

    #[test]
    fn chunks_come_back_from_their_slots() {
        let keys = keys();
        for world in World::ALL {
            let (stored, plains, proofs) = build_proven(&keys, world);
            let record = OpenRecord::open(&keys, world, &stored).unwrap();
            for (slot, plain) in plains.iter().enumerate() {
                assert_eq!(&record.decode(slot, &[]).unwrap(), plain);
            }
            assert!(record.decode(plains.len(), &[]).is_none());
            verify_record(&keys, world, &stored, &proofs).unwrap();
            let fewer = proofs.get(1..).unwrap();
            assert!(verify_record(&keys, world, &stored, fewer).is_err());
        }
    }

    /// Moves the first chunk of a record into one of its own, changed on the way.
    fn move_one(change: impl FnOnce(&mut EncodedChunk)) -> Result<(), AccessError> {
        let keys = keys();
        let (stored, _) = build(&keys, World::Content);
        let record = OpenRecord::open(&keys, World::Content, &stored).unwrap();
        let mut chunk = EncodedChunk::moved(&record, 0, 0).unwrap();
        assert!(EncodedChunk::moved(&record, 1, 0).is_none());
        change(&mut chunk);
        let mut builder = RecordBuilder::default();
        builder.push(chunk);
        let parts = builder.finish(&mut Encoder::default()).unwrap();
        let key = keys.writing_key(false).unwrap();
        let stored = seal_record(&keys, &key, World::Content, &parts.plain);
        verify_record(&keys, World::Content, &stored, &parts.proofs)
    }

    #[test]
    fn what_is_moved_is_compared_with_what_was_read() {
        move_one(|_| ()).unwrap();
        assert!(move_one(|chunk| chunk.bytes[5] ^= 1).is_err());
        assert!(move_one(|chunk| chunk.row.id.0[5] ^= 1).is_err());
        assert!(move_one(|chunk| chunk.row.plain ^= 1).is_err());
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

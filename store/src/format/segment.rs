//! Segments of the index (docs/format.md, "Segment").

use super::record::{encoding_byte, split_encoding};
use super::{Decoder, MAJOR, Malformed, len32};
use crate::id::{BaseRef, ChunkId, PackId, SegmentId, Uuid};
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

const MAGIC: [u8; 8] = *b"huchaidx";
/// Bytes in clear before the sealed body.
pub(crate) const HEADER: usize = 44;
/// Most rows of a segment.
pub const MAX_ROWS: usize = 262_144;
/// Most superseded segments that a segment lists.
pub(crate) const MAX_SUPERSEDES: usize = 1024;
/// Most bytes of a body: rows with all their bases, and packs; a forged length allocates no more.
const MAX_BODY: usize = MAX_ROWS * (32 + 4 + 4 + 3 + 64 + 8 + 53) + MAX_SUPERSEDES * 32 + 20;

/// The clear start of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// The session that wrote it; 0 for a merger.
    pub session: Uuid,
    /// Makes its name unique.
    pub uuid: Uuid,
}

impl SegmentHeader {
    pub fn encode(&self) -> [u8; HEADER] {
        let mut out = [0u8; HEADER];
        let (magic, rest) = out.split_at_mut(8);
        let (version, ids) = rest.split_at_mut(4);
        let (session, uuid) = ids.split_at_mut(16);
        magic.copy_from_slice(&MAGIC);
        version.copy_from_slice(&[MAJOR, 0, 0, 0]);
        session.copy_from_slice(&self.session.0);
        uuid.copy_from_slice(&self.uuid.0);
        out
    }

    /// Reads the header; the sealed body follows.
    pub fn decode(bytes: &[u8]) -> Result<(SegmentHeader, &[u8]), Malformed> {
        let mut d = Decoder::new(bytes, "segment header");
        if d.array()? != MAGIC || d.array::<4>()? != [MAJOR, 0, 0, 0] {
            return Err(d.bad());
        }
        Ok((
            SegmentHeader {
                session: Uuid(d.array()?),
                uuid: Uuid(d.array()?),
            },
            d.rest(),
        ))
    }
}

/// A record as rows refer to it.
type RecordKey = (u32, u32, u32);

impl Segment {
    /// Brings the rows into their order.
    pub fn sort(&mut self) {
        let place = |row: &SegmentRow| (row.id, row.pack, row.offset, row.slot);
        self.rows.sort_unstable_by_key(place);
        self.rows.dedup_by(|a, b| (a.id, a.pack) == (b.id, b.pack));
    }

    /// The body: columns, squeezed by zstd. Rows must be sorted and name packs that exist.
    pub(crate) fn encode_body(&self) -> std::io::Result<Vec<u8>> {
        let mut records: Vec<RecordKey> = self
            .rows
            .iter()
            .map(|r| (r.pack, r.offset, r.stored))
            .collect();
        records.sort_unstable();
        records.dedup();
        let mut out = Vec::with_capacity(self.rows.len() * 48 + 64);
        let bases: usize = self.rows.iter().map(|r| r.bases.len()).sum();
        for n in [
            self.supersedes.len(),
            self.packs.len(),
            records.len(),
            self.rows.len(),
            bases,
        ] {
            out.extend_from_slice(&len32(n).to_le_bytes());
        }
        for id in &self.supersedes {
            out.extend_from_slice(&id.0);
        }
        for (number, pack) in (0u32..).zip(&self.packs) {
            let before = |n: u32| records.partition_point(|r| r.0 < n);
            let count = before(number + 1) - before(number);
            out.extend_from_slice(&pack.id.0);
            out.extend_from_slice(&pack.session.0);
            out.push(u8::from(pack.tree));
            out.extend_from_slice(&len32(count).to_le_bytes());
        }
        encode_records(&records, &mut out);
        self.encode_rows(&records, &mut out);
        zstd::bulk::compress(&out, 1)
    }

    fn encode_rows(&self, records: &[RecordKey], out: &mut Vec<u8>) {
        for row in &self.rows {
            out.extend_from_slice(&row.id.0);
        }
        let number = |row: &SegmentRow| {
            let key = (row.pack, row.offset, row.stored);
            len32(records.partition_point(|r| *r < key))
        };
        put_column(out, self.rows.iter().map(number));
        put_column(out, self.rows.iter().map(|r| r.plain));
        out.extend(self.rows.iter().map(|r| r.slot));
        out.extend(
            self.rows
                .iter()
                .map(|r| encoding_byte(r.encoding, &r.bases)),
        );
        out.extend(self.rows.iter().map(|r| r.depth));
        for base in self.rows.iter().flat_map(|r| r.bases.iter()) {
            out.extend_from_slice(&base.0);
        }
    }

    /// Reads what [`Segment::encode_body`] wrote.
    pub(crate) fn decode_body(body: &[u8]) -> Result<Segment, Malformed> {
        let bad = Malformed("segment");
        let len = zstd::bulk::Decompressor::<'_>::upper_bound(body).ok_or(bad)?;
        let body = zstd::bulk::decompress(body, len.min(MAX_BODY)).map_err(|_| bad)?;
        let mut d = Decoder::new(&body, "segment");
        let mut counts = [0usize; 5];
        for count in &mut counts {
            *count = d.u32()? as usize;
        }
        let [supersedes, packs, records, rows, bases] = counts;
        let sizes = [
            (supersedes, 32),
            (packs, 53),
            (records, 8),
            (rows, 43),
            (bases, 16),
        ];
        let need = sizes.iter().fold(0usize, |sum, (n, each)| {
            sum.saturating_add(n.saturating_mul(*each))
        });
        if need != d.remaining() || rows > MAX_ROWS {
            return Err(bad);
        }
        let mut segment = Segment::default();
        for _ in 0..supersedes {
            segment.supersedes.push(SegmentId(d.array()?));
        }
        let mut per_pack = Vec::with_capacity(packs);
        for _ in 0..packs {
            let (id, session, kind) = (PackId(d.array()?), Uuid(d.array()?), d.u8()?);
            segment.packs.push(SegmentPack {
                id,
                session,
                tree: kind == 1,
            });
            per_pack.push(d.u32()?);
        }
        let records = decode_records(&mut d, records, &per_pack)?;
        segment.rows = decode_rows(&mut d, rows, &records)?;
        d.end()?;
        Ok(segment)
    }
}

/// Gaps and lengths of records in their order.
fn encode_records(records: &[RecordKey], out: &mut Vec<u8>) {
    let mut gaps = Vec::with_capacity(records.len());
    let mut end = (0u32, 0u32);
    for (pack, offset, stored) in records {
        if end.0 != *pack {
            end = (*pack, 0);
        }
        gaps.push(offset.wrapping_sub(end.1));
        end.1 = offset.wrapping_add(*stored);
    }
    put_column(out, gaps.into_iter());
    put_column(out, records.iter().map(|r| r.2));
}

fn decode_records(
    d: &mut Decoder<'_>,
    count: usize,
    per_pack: &[u32],
) -> Result<Vec<RecordKey>, Malformed> {
    let gaps = take_column(d, count)?;
    let stored = take_column(d, count)?;
    let mut each = gaps.into_iter().zip(stored);
    let mut records = Vec::with_capacity(count);
    for (pack, n) in (0u32..).zip(per_pack) {
        let mut end = 0u32;
        for _ in 0..*n {
            let (gap, stored) = each.next().ok_or(d.bad())?;
            let offset = end.checked_add(gap).ok_or(d.bad())?;
            end = offset.checked_add(stored).ok_or(d.bad())?;
            records.push((pack, offset, stored));
        }
    }
    if each.next().is_some() {
        Err(d.bad())
    } else {
        Ok(records)
    }
}

fn decode_rows(
    d: &mut Decoder<'_>,
    count: usize,
    records: &[RecordKey],
) -> Result<Vec<SegmentRow>, Malformed> {
    let ids = d.take(count * 32)?;
    let numbers = take_column(d, count)?;
    let plain = take_column(d, count)?;
    let (slots, encodings, depths) = (d.take(count)?, d.take(count)?, d.take(count)?);
    let mut rows: Vec<SegmentRow> = Vec::with_capacity(count);
    let bytes = slots.iter().zip(encodings).zip(depths);
    let words = ids.as_chunks::<32>().0.iter().zip(numbers).zip(plain);
    for (((id, number), plain), ((slot, encoding), depth)) in words.zip(bytes) {
        let &(pack, offset, stored) = records.get(number as usize).ok_or(d.bad())?;
        let (encoding, n) = split_encoding(*encoding).ok_or(d.bad())?;
        let mut bases = Bases::NONE;
        for _ in 0..n {
            if !bases.push(BaseRef(d.array()?)) {
                return Err(d.bad());
            }
        }
        let id = ChunkId(*id);
        if rows
            .last()
            .is_some_and(|last| (last.id, last.pack) >= (id, pack))
        {
            return Err(d.bad());
        }
        rows.push(SegmentRow {
            id,
            pack,
            offset,
            stored,
            slot: *slot,
            plain,
            encoding,
            depth: *depth,
            bases,
        });
    }
    Ok(rows)
}

/// A column of `u32` as four byte planes, lowest first.
fn put_column(out: &mut Vec<u8>, values: impl Iterator<Item = u32> + Clone) {
    for plane in 0..4 {
        out.extend(values.clone().map(|v| (v >> (plane * 8)) as u8));
    }
}

fn take_column(d: &mut Decoder<'_>, count: usize) -> Result<Vec<u32>, Malformed> {
    let (a, b, c, e) = (
        d.take(count)?,
        d.take(count)?,
        d.take(count)?,
        d.take(count)?,
    );
    let planes = a.iter().zip(b).zip(c.iter().zip(e));
    Ok(planes
        .map(|((a, b), (c, e))| u32::from_le_bytes([*a, *b, *c, *e]))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Segment {
        let pack = |n: u8| SegmentPack {
            id: PackId([n; 32]),
            session: Uuid([n; 16]),
            tree: n == 2,
        };
        let mut bases = Bases::NONE;
        assert!(bases.push(BaseRef([8; 16])));
        let row = |n: u8, pack, offset, encoding, bases| SegmentRow {
            id: ChunkId([n; 32]),
            pack,
            offset,
            stored: 100,
            slot: n,
            plain: 70_000,
            encoding,
            depth: u8::from(encoding == Encoding::Delta),
            bases,
        };
        Segment {
            supersedes: vec![SegmentId([4; 32])],
            packs: vec![pack(1), pack(2)],
            rows: vec![
                row(1, 0, 123, Encoding::Raw, Bases::NONE),
                row(2, 0, 223, Encoding::Delta, bases),
                row(2, 1, 44, Encoding::Zstd, Bases::NONE),
                row(3, 0, 223, Encoding::Shared, Bases::NONE),
            ],
        }
    }

    #[test]
    fn body_there_and_back() {
        let segment = sample();
        let body = segment.encode_body().unwrap();
        assert_eq!(Segment::decode_body(&body).unwrap(), segment);
        assert!(Segment::decode_body(&body[..body.len() - 1]).is_err());
        let empty = Segment::default();
        assert_eq!(
            Segment::decode_body(&empty.encode_body().unwrap()).unwrap(),
            empty
        );
    }

    #[test]
    fn flipped_bytes_never_panic() {
        let plain = zstd::bulk::decompress(&sample().encode_body().unwrap(), 10_000).unwrap();
        for i in 0..plain.len() {
            for bit in [1, 0x80] {
                let mut bad = plain.clone();
                bad[i] ^= bit;
                let _ = Segment::decode_body(&zstd::bulk::compress(&bad, 1).unwrap());
            }
        }
    }

    #[test]
    fn rows_out_of_order_are_refused() {
        let mut segment = sample();
        segment.rows.swap(0, 3);
        assert!(Segment::decode_body(&segment.encode_body().unwrap()).is_err());
        segment.sort();
        assert_eq!(segment, sample());
    }
}

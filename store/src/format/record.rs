//! Records: the table and the bytes that are sealed together (docs/format.md, "Chunk, record,
//! pack").

use super::{Decoder, MAX_CHUNK, MAX_RECORD_CHUNKS, Malformed};
use crate::id::{BaseRef, ChunkId, DataKeyId};
use crate::index::{Bases, Encoding};

/// First bytes of every record.
pub(crate) const MAGIC: [u8; 4] = *b"hREC";
/// Bytes of a record in clear.
pub(crate) const HEADER: usize = 12;
/// Largest sealed part; a reader asks for no more whatever a header says.
pub(crate) const MAX_SEALED: usize = MAX_CHUNK + MAX_CHUNK / 8 + (64 << 10);

/// The clear part of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub key: DataKeyId,
    /// Bytes after the header.
    pub sealed: u32,
}

impl RecordHeader {
    /// The part that the seal vouches for: everything but the length, which the seal's own length
    /// proves.
    pub fn context(key: DataKeyId) -> [u8; 8] {
        let [a, b, c, d] = MAGIC;
        let [e, f, g, h] = key.0;
        [a, b, c, d, e, f, g, h]
    }

    pub fn encode(&self) -> [u8; HEADER] {
        let mut out = [0u8; HEADER];
        let (magic, rest) = out.split_at_mut(4);
        let (key, sealed) = rest.split_at_mut(4);
        magic.copy_from_slice(&MAGIC);
        key.copy_from_slice(&self.key.0);
        sealed.copy_from_slice(&self.sealed.to_le_bytes());
        out
    }

    pub fn decode(bytes: &[u8]) -> Result<RecordHeader, Malformed> {
        let mut d = Decoder::new(bytes, "record header");
        if d.array::<4>()? != MAGIC {
            return Err(d.bad());
        }
        let header = RecordHeader {
            key: DataKeyId(d.array()?),
            sealed: d.u32()?,
        };
        if header.sealed as usize > MAX_SEALED {
            Err(d.bad())
        } else {
            Ok(header)
        }
    }
}

/// One line of a record's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TableRow {
    pub id: ChunkId,
    pub encoding: Encoding,
    /// Plain length.
    pub plain: u32,
    /// Encoded length; for a shared frame that of the frame at its first chunk, else 0.
    pub stored: u32,
    pub bases: Bases,
}

/// Joins encoding and number of bases in one byte.
pub(crate) fn encoding_byte(encoding: Encoding, bases: &Bases) -> u8 {
    encoding as u8 | (bases.len() as u8) << 4
}

/// Takes them apart again.
pub(crate) fn split_encoding(byte: u8) -> Option<(Encoding, usize)> {
    let encoding = Encoding::from_number(byte & 0x0f)?;
    let bases = usize::from(byte >> 4);
    let fits = if encoding == Encoding::Delta {
        (1..=4).contains(&bases)
    } else {
        bases == 0
    };
    fits.then_some((encoding, bases))
}

/// Writes a record's table; the encoded bytes follow it.
pub(crate) fn encode_table(rows: &[TableRow], out: &mut Vec<u8>) {
    debug_assert!((1..=MAX_RECORD_CHUNKS).contains(&rows.len()));
    out.extend_from_slice(&(rows.len() as u16).to_le_bytes());
    for row in rows {
        out.extend_from_slice(&row.id.0);
        out.push(encoding_byte(row.encoding, &row.bases));
        let [a, b, c, _] = row.plain.to_le_bytes();
        out.extend_from_slice(&[a, b, c]);
        let [a, b, c, _] = row.stored.to_le_bytes();
        out.extend_from_slice(&[a, b, c]);
        for base in row.bases.iter() {
            out.extend_from_slice(&base.0);
        }
    }
}

/// Reads a record's plain bytes: the table and what follows it. Lengths are checked against each
/// other and against the limits.
pub(crate) fn decode_record(plain: &[u8]) -> Result<(Vec<TableRow>, &[u8]), Malformed> {
    let mut d = Decoder::new(plain, "record");
    let count = usize::from(d.u16()?);
    if count == 0 || count > MAX_RECORD_CHUNKS {
        return Err(d.bad());
    }
    let mut rows = Vec::with_capacity(count);
    let mut stored = 0usize;
    for _ in 0..count {
        let id = ChunkId(d.array()?);
        let (encoding, bases) = split_encoding(d.u8()?).ok_or(d.bad())?;
        let mut row = TableRow {
            id,
            encoding,
            plain: d.u24()?,
            stored: d.u24()?,
            bases: Bases::NONE,
        };
        for _ in 0..bases {
            if !row.bases.push(BaseRef(d.array()?)) {
                return Err(d.bad());
            }
        }
        if row.plain as usize > MAX_CHUNK {
            return Err(d.bad());
        }
        stored += row.stored as usize;
        rows.push(row);
    }
    let body = d.rest();
    if stored == body.len() {
        Ok((rows, body))
    } else {
        Err(Malformed("record"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_there_and_back() {
        let mut bases = Bases::NONE;
        assert!(bases.push(BaseRef([3; 16])));
        let rows = vec![
            TableRow {
                id: ChunkId([1; 32]),
                encoding: Encoding::Raw,
                plain: 3,
                stored: 3,
                bases: Bases::NONE,
            },
            TableRow {
                id: ChunkId([2; 32]),
                encoding: Encoding::Delta,
                plain: 70_000,
                stored: 4,
                bases,
            },
        ];
        let mut out = Vec::new();
        encode_table(&rows, &mut out);
        assert_eq!(out.len(), 2 + 39 + 39 + 16);
        out.extend_from_slice(b"abcdefg");
        assert_eq!(decode_record(&out).unwrap(), (rows, &b"abcdefg"[..]));
        for cut in 0..out.len() {
            assert!(decode_record(&out[..cut]).is_err(), "cut at {cut}");
        }
        out.push(0);
        assert!(decode_record(&out).is_err());
    }

    #[test]
    fn header_refuses_absurd_lengths() {
        let header = RecordHeader {
            key: DataKeyId([5; 4]),
            sealed: 77,
        };
        assert_eq!(RecordHeader::decode(&header.encode()).unwrap(), header);
        let absurd = RecordHeader {
            key: DataKeyId([5; 4]),
            sealed: u32::MAX,
        };
        assert!(RecordHeader::decode(&absurd.encode()).is_err());
        assert!(RecordHeader::decode(b"hRECx").is_err());
    }

    #[test]
    fn encodings_and_bases_fit_each_other() {
        assert!(split_encoding(0x10).is_none());
        assert!(split_encoding(0x02).is_none());
        assert!(split_encoding(0x52).is_none());
        assert!(split_encoding(0x04).is_none());
        assert_eq!(split_encoding(0x42), Some((Encoding::Delta, 4)));
    }
}

//! Packs: header, wrapped data keys, records, directory, trailer (docs/format.md, "Pack").

use super::{Decoder, MAJOR, Malformed};
use crate::id::{DataKeyId, Uuid};

const MAGIC: [u8; 8] = *b"huchapck";
const END: [u8; 8] = *b"huchaend";
/// Bytes of the fixed part of a header.
pub(crate) const HEADER: usize = 44;
/// Where the uuid stands in the fixed part.
pub(crate) const UUID_OFFSET: usize = 28;
/// Bytes of the trailer.
pub(crate) const TRAILER: usize = 16;
/// `wrap` of a data key that is sealed under the wrap key.
pub(crate) const WRAP_ROOT: u8 = 1;
/// Most bytes that a header may need: a reader fetches no more to find it.
pub(crate) const MAX_HEADER: usize = 64 << 10;

/// The start of a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PackHeader {
    /// Whether it holds pages.
    pub tree: bool,
    /// The session that wrote it.
    pub session: Uuid,
    /// Makes its name unique.
    pub uuid: Uuid,
    /// Data keys in use: id and wrapped key (wrap kind 1).
    pub keys: Vec<(DataKeyId, Vec<u8>)>,
}

impl PackHeader {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER + 128);
        out.extend_from_slice(&MAGIC);
        out.push(MAJOR);
        out.push(u8::from(self.tree));
        out.extend_from_slice(&(self.keys.len() as u16).to_le_bytes());
        out.extend_from_slice(&self.session.0);
        out.extend_from_slice(&self.uuid.0);
        for (id, wrapped) in &self.keys {
            out.push(WRAP_ROOT);
            out.extend_from_slice(&id.0);
            out.extend_from_slice(&(wrapped.len() as u16).to_le_bytes());
            out.extend_from_slice(wrapped);
        }
        out
    }

    /// Reads a header and its length; unknown kinds of wrapping are passed over.
    pub fn decode(bytes: &[u8]) -> Result<(PackHeader, usize), Malformed> {
        let mut d = Decoder::new(bytes, "pack header");
        if d.array()? != MAGIC || d.u8()? != MAJOR {
            return Err(d.bad());
        }
        let tree = match d.u8()? {
            0 => false,
            1 => true,
            _ => return Err(d.bad()),
        };
        let count = d.u16()?;
        let mut header = PackHeader {
            tree,
            session: Uuid(d.array()?),
            uuid: Uuid(d.array()?),
            keys: Vec::new(),
        };
        for _ in 0..count {
            let wrap = d.u8()?;
            let id = DataKeyId(d.array()?);
            let len = usize::from(d.u16()?);
            let wrapped = d.take(len)?;
            if wrap == WRAP_ROOT {
                header.keys.push((id, wrapped.to_vec()));
            }
        }
        Ok((header, bytes.len() - d.remaining()))
    }
}

/// Writes the directory and the trailer behind `offset` bytes of header and records.
pub(crate) fn encode_directory(records: &[u32], offset: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(records.len() * 4 + TRAILER);
    for record in records {
        out.extend_from_slice(&record.to_le_bytes());
    }
    out.extend_from_slice(&(records.len() as u32).to_le_bytes());
    out.extend_from_slice(&offset.to_le_bytes());
    out.extend_from_slice(&END);
    out
}

/// Where the directory is, from the last [`TRAILER`] bytes of a pack of `size` bytes: number of
/// records and offset.
pub(crate) fn decode_trailer(bytes: &[u8], size: u64) -> Result<(u32, u32), Malformed> {
    let mut d = Decoder::new(bytes, "pack trailer");
    let (count, offset) = (d.u32()?, d.u32()?);
    if d.array()? != END {
        return Err(d.bad());
    }
    d.end()?;
    let fits = u64::from(offset) + u64::from(count) * 4 + TRAILER as u64 == size;
    if fits {
        Ok((count, offset))
    } else {
        Err(d.bad())
    }
}

/// The records' offsets, ascending, all below the directory.
pub(crate) fn decode_directory(bytes: &[u8], directory: u32) -> Result<Vec<u32>, Malformed> {
    let mut d = Decoder::new(bytes, "pack directory");
    let mut offsets = Vec::with_capacity(bytes.len() / 4);
    while !d.is_empty() {
        offsets.push(d.u32()?);
    }
    let ascending = offsets.is_sorted_by(|a, b| a < b);
    let below = offsets.last().is_none_or(|last| *last < directory);
    if ascending && below {
        Ok(offsets)
    } else {
        Err(d.bad())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_there_and_back() {
        let header = PackHeader {
            tree: true,
            session: Uuid([1; 16]),
            uuid: Uuid([2; 16]),
            keys: vec![(DataKeyId([9; 4]), vec![7; 72])],
        };
        let bytes = header.encode();
        assert_eq!(bytes.len(), HEADER + 7 + 72);
        let mut longer = bytes.clone();
        longer.extend_from_slice(b"records");
        assert_eq!(PackHeader::decode(&longer).unwrap(), (header, bytes.len()));
        for cut in 0..bytes.len() {
            assert!(PackHeader::decode(&bytes[..cut]).is_err());
        }
    }

    #[test]
    fn directory_there_and_back() {
        let bytes = encode_directory(&[44, 100], 200);
        let size = 200 + bytes.len() as u64;
        let (body, trailer) = bytes.split_at(8);
        assert_eq!(decode_trailer(trailer, size).unwrap(), (2, 200));
        assert!(decode_trailer(trailer, size + 1).is_err());
        assert_eq!(decode_directory(body, 200).unwrap(), vec![44, 100]);
        assert!(decode_directory(body, 100).is_err());
        assert!(decode_directory(&[1, 2, 3], 100).is_err());
    }
}

//! Bytes on disk: encoding and decoding without I/O. docs/format.md is the specification.
//!
//! Whatever is decoded here may be garbage: every decoder answers [`Malformed`] instead of
//! panicking, and allocates no more than a small multiple of what it was given.

pub(crate) mod check_state;
pub(crate) mod config;
pub(crate) mod entry;
mod fields;
pub(crate) mod member;
pub(crate) mod note;
pub mod objects;
pub(crate) mod pack;
pub(crate) mod page;
pub(crate) mod record;
pub mod segment;

#[cfg(test)]
pub(crate) mod examples;

pub(crate) use fields::{Fields, FieldsBuilder, decode_time, encode_time};

/// Format version: an unknown major is refused.
pub const MAJOR: u8 = 1;
/// Minor format version: a higher one is read, what it adds is ignored and kept.
pub const MINOR: u8 = 0;

/// Largest plain chunk in bytes; the record table has 24 bits for it.
pub const MAX_CHUNK: usize = 8 << 20;
/// Plain bytes of a record that holds several chunks.
pub const MAX_RECORD_PLAIN: usize = 256 << 10;
/// Most chunks of a record: its slots are one byte.
pub const MAX_RECORD_CHUNKS: usize = 255;
/// Deepest chain of bases that readers follow.
pub const MAX_DEPTH: u8 = 64;

/// Bytes that do not follow docs/format.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed {0}")]
pub struct Malformed(pub &'static str);

/// Reads fixed-width little-endian values off the front of a slice.
pub(crate) struct Decoder<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Decoder<'a> {
    pub fn new(bytes: &'a [u8], what: &'static str) -> Decoder<'a> {
        Decoder { rest: bytes, what }
    }

    pub fn bad(&self) -> Malformed {
        Malformed(self.what)
    }

    pub fn take(&mut self, n: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.rest.split_at_checked(n).ok_or(Malformed(self.what))?;
        self.rest = rest;
        Ok(head)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(Malformed(self.what))?;
        self.rest = rest;
        Ok(*head)
    }

    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[b]| b)
    }

    pub fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_le_bytes)
    }

    pub fn u24(&mut self) -> Result<u32, Malformed> {
        self.array()
            .map(|[a, b, c]| u32::from_le_bytes([a, b, c, 0]))
    }

    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    pub fn i64(&mut self) -> Result<i64, Malformed> {
        self.array().map(i64::from_le_bytes)
    }

    /// A LEB128 number of at most 32 bits.
    pub fn varint(&mut self) -> Result<u32, Malformed> {
        let mut value = 0u64;
        for shift in (0..35).step_by(7) {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| self.bad());
            }
        }
        Err(self.bad())
    }

    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Asserts that nothing is left.
    pub fn end(&self) -> Result<(), Malformed> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.bad())
        }
    }
}

/// Appends a LEB128 number.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A length as `u32`; buffers here never come near 4 GiB.
pub(crate) fn len32(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints() {
        for value in [0, 1, 127, 128, 16_383, 16_384, 1 << 21, 1 << 28, u32::MAX] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert!(out.len() <= 5);
            let mut d = Decoder::new(&out, "number");
            assert_eq!(d.varint().unwrap(), value);
            assert!(d.is_empty());
        }
        assert!(Decoder::new(&[0xff; 5], "number").varint().is_err());
        assert!(Decoder::new(&[0x80], "number").varint().is_err());
    }
}

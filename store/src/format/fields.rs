//! Tag-length-value fields (docs/format.md, "Fields").

use super::{Decoder, Malformed, len32, put_varint};
use crate::clock::Timestamp;

/// Decoded fields in the order of the bytes.
#[derive(Debug, Clone)]
pub(crate) struct Fields<'a> {
    fields: Vec<(u8, &'a [u8])>,
    what: &'static str,
}

impl<'a> Fields<'a> {
    pub fn decode(bytes: &'a [u8], what: &'static str) -> Result<Fields<'a>, Malformed> {
        let mut decoder = Decoder::new(bytes, what);
        let mut fields = Vec::new();
        while !decoder.is_empty() {
            let tag = decoder.u8()?;
            let len = decoder.varint()? as usize;
            fields.push((tag, decoder.take(len)?));
        }
        if fields.iter().any(|(tag, _)| *tag == 0) {
            return Err(Malformed(what));
        }
        Ok(Fields { fields, what })
    }

    pub fn bad(&self) -> Malformed {
        Malformed(self.what)
    }

    /// The first field of a tag.
    pub fn get(&self, tag: u8) -> Option<&'a [u8]> {
        self.all(tag).next()
    }

    /// Every field of a tag in order.
    pub fn all(&self, tag: u8) -> impl Iterator<Item = &'a [u8]> + '_ {
        self.fields
            .iter()
            .filter(move |(t, _)| *t == tag)
            .map(|(_, v)| *v)
    }

    pub fn iter(&self) -> impl Iterator<Item = (u8, &'a [u8])> + '_ {
        self.fields.iter().copied()
    }

    pub fn need(&self, tag: u8) -> Result<&'a [u8], Malformed> {
        self.get(tag).ok_or(self.bad())
    }

    pub fn array<const N: usize>(&self, tag: u8) -> Result<[u8; N], Malformed> {
        self.need(tag)?.try_into().map_err(|_| self.bad())
    }

    pub fn optional_array<const N: usize>(&self, tag: u8) -> Result<Option<[u8; N]>, Malformed> {
        self.get(tag)
            .map(|v| v.try_into().map_err(|_| self.bad()))
            .transpose()
    }

    pub fn u64(&self, tag: u8) -> Result<u64, Malformed> {
        self.array(tag).map(u64::from_le_bytes)
    }

    pub fn u64_or(&self, tag: u8, default: u64) -> Result<u64, Malformed> {
        if self.get(tag).is_some() {
            self.u64(tag)
        } else {
            Ok(default)
        }
    }

    pub fn u8(&self, tag: u8) -> Result<u8, Malformed> {
        self.array::<1>(tag).map(|[b]| b)
    }

    pub fn time(&self, tag: u8) -> Result<Timestamp, Malformed> {
        decode_time(&mut Decoder::new(self.need(tag)?, self.what))
    }

    /// Text; bytes that are no UTF-8 become replacement characters.
    pub fn text(&self, tag: u8) -> Option<String> {
        self.get(tag)
            .map(|v| String::from_utf8_lossy(v).into_owned())
    }
}

/// Reads a time.
pub(crate) fn decode_time(decoder: &mut Decoder<'_>) -> Result<Timestamp, Malformed> {
    let time = Timestamp {
        seconds: decoder.i64()?,
        nanos: decoder.u32()?,
    };
    if time.nanos > 999_999_999 {
        Err(decoder.bad())
    } else {
        Ok(time)
    }
}

/// Writes a time.
pub(crate) fn encode_time(out: &mut Vec<u8>, time: Timestamp) {
    out.extend_from_slice(&time.seconds.to_le_bytes());
    out.extend_from_slice(&time.nanos.to_le_bytes());
}

/// Writes fields one after the other.
#[derive(Debug, Default)]
pub(crate) struct FieldsBuilder {
    out: Vec<u8>,
}

impl FieldsBuilder {
    pub fn bytes(&mut self, tag: u8, value: &[u8]) -> &mut Self {
        self.out.push(tag);
        put_varint(&mut self.out, len32(value.len()));
        self.out.extend_from_slice(value);
        self
    }

    pub fn u64(&mut self, tag: u8, value: u64) -> &mut Self {
        self.bytes(tag, &value.to_le_bytes())
    }

    pub fn u8(&mut self, tag: u8, value: u8) -> &mut Self {
        self.bytes(tag, &[value])
    }

    pub fn time(&mut self, tag: u8, time: Timestamp) -> &mut Self {
        let mut value = Vec::with_capacity(12);
        encode_time(&mut value, time);
        self.bytes(tag, &value)
    }

    /// Only when there is something.
    pub fn optional(&mut self, tag: u8, value: Option<impl AsRef<[u8]>>) -> &mut Self {
        if let Some(value) = value {
            self.bytes(tag, value.as_ref());
        }
        self
    }

    pub fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_there_and_back() {
        let mut builder = FieldsBuilder::default();
        builder
            .u64(1, 7)
            .bytes(9, b"a")
            .bytes(9, b"")
            .bytes(200, &[1; 300]);
        builder.time(
            2,
            Timestamp {
                seconds: -5,
                nanos: 999_999_999,
            },
        );
        let bytes = builder.finish();
        let fields = Fields::decode(&bytes, "test").unwrap();
        assert_eq!(fields.u64(1).unwrap(), 7);
        assert_eq!(fields.all(9).collect::<Vec<_>>(), vec![&b"a"[..], b""]);
        assert_eq!(fields.get(200).unwrap().len(), 300);
        assert_eq!(
            fields.time(2).unwrap(),
            Timestamp {
                seconds: -5,
                nanos: 999_999_999
            }
        );
        assert!(fields.u8(1).is_err());
        assert!(fields.need(3).is_err());
        for cut in 1..bytes.len() {
            if let Ok(fields) = Fields::decode(&bytes[..cut], "test") {
                assert!(fields.iter().count() < 5);
            }
        }
    }
}

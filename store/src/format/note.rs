//! Notes: what was said about a snapshot, a run or the repository after it was written
//! (docs/format.md, "Session, list, marker, note, manifest"). The fields only; which fact counts is
//! the matter of [`crate::notes`].

use super::{Decoder, Fields, FieldsBuilder, Malformed, decode_time, encode_time};
use crate::clock::Timestamp;
use crate::id::{SnapshotId, Uuid};

/// Numbers of fields that facts have; others are kept and mean nothing to this program.
pub(crate) mod field {
    pub const LABEL: u8 = 16;
    pub const TAG: u8 = 17;
    pub const PROTECTED: u8 = 18;
    pub const VERIFIED: u8 = 19;
    pub const REHEARSED: u8 = 20;
    pub const CHECK_STATE: u8 = 22;
}

/// What a fact is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Subject {
    /// 1 the repository, 2 a snapshot, 3 a run; others come later.
    pub about: u8,
    /// Zeros for the repository.
    pub id: [u8; 16],
}

impl Subject {
    pub const REPOSITORY: Subject = Subject {
        about: 1,
        id: [0; 16],
    };

    pub fn snapshot(id: SnapshotId) -> Subject {
        Subject { about: 2, id: id.0 }
    }

    /// The snapshot, if it is about one.
    pub fn as_snapshot(self) -> Option<SnapshotId> {
        (self.about == 2).then_some(SnapshotId(self.id))
    }
}

/// What makes two facts speak of the same thing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FactKey {
    pub subject: Subject,
    pub field: u8,
    pub key: Vec<u8>,
}

/// What is said. The greater counts: newest first, then the note's name, then the value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Said {
    pub time: Timestamp,
    /// The note that said it first.
    pub note: Uuid,
    pub value: Vec<u8>,
}

/// `notes/<uuid>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Note {
    pub name: Uuid,
    pub made: Timestamp,
    pub supersedes: Vec<Uuid>,
    pub facts: Vec<(FactKey, Said)>,
    /// It has fields that this program does not know: it must not be folded.
    pub strange: bool,
}

impl Note {
    pub fn encode(&self) -> Vec<u8> {
        let mut fields = FieldsBuilder::default();
        fields.bytes(1, &self.name.0).time(2, self.made);
        if !self.supersedes.is_empty() {
            let names: Vec<u8> = self.supersedes.iter().flat_map(|n| n.0).collect();
            fields.bytes(3, &names);
        }
        for (key, said) in &self.facts {
            fields.bytes(4, &encode_fact(key, said));
        }
        fields.finish()
    }

    pub fn decode(bytes: &[u8]) -> Result<Note, Malformed> {
        let fields = Fields::decode(bytes, "note")?;
        let (supersedes, rest) = fields.get(3).unwrap_or_default().as_chunks::<16>();
        if !rest.is_empty() {
            return Err(fields.bad());
        }
        Ok(Note {
            name: Uuid(fields.array(1)?),
            made: fields.time(2)?,
            supersedes: supersedes.iter().map(|n| Uuid(*n)).collect(),
            facts: fields.all(4).map(decode_fact).collect::<Result<_, _>>()?,
            strange: fields.iter().any(|(tag, _)| !(1..=4).contains(&tag)),
        })
    }
}

fn encode_fact(key: &FactKey, said: &Said) -> Vec<u8> {
    let length = u16::try_from(key.key.len()).unwrap_or(u16::MAX);
    let mut out = vec![key.field, key.subject.about];
    out.extend_from_slice(&key.subject.id);
    encode_time(&mut out, said.time);
    out.extend_from_slice(&said.note.0);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend(key.key.iter().take(length.into()));
    out.extend_from_slice(&said.value);
    out
}

fn decode_fact(bytes: &[u8]) -> Result<(FactKey, Said), Malformed> {
    let mut decoder = Decoder::new(bytes, "fact");
    let field = decoder.u8()?;
    let subject = Subject {
        about: decoder.u8()?,
        id: decoder.array()?,
    };
    let time = decode_time(&mut decoder)?;
    let note = Uuid(decoder.array()?);
    let length = decoder.u16()?;
    let key = decoder.take(length.into())?.to_vec();
    let value = decoder.rest().to_vec();
    let key = FactKey {
        subject,
        field,
        key,
    };
    Ok((key, Said { time, note, value }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note() -> Note {
        let key = |field, key: &[u8]| FactKey {
            subject: Subject::snapshot(SnapshotId([7; 16])),
            field,
            key: key.to_vec(),
        };
        let said = |value: &[u8]| Said {
            time: Timestamp {
                seconds: 5,
                nanos: 6,
            },
            note: Uuid([3; 16]),
            value: value.to_vec(),
        };
        Note {
            name: Uuid([1; 16]),
            made: Timestamp::default(),
            supersedes: vec![Uuid([3; 16]), Uuid([4; 16])],
            facts: vec![
                (key(field::TAG, b"nightly"), said(&[1])),
                (key(200, b""), said(b"what a later version says")),
            ],
            strange: false,
        }
    }

    #[test]
    fn notes_there_and_back() {
        assert_eq!(Note::decode(&note().encode()).unwrap(), note());
        for cut in 0..note().encode().len() {
            let _ = Note::decode(&note().encode()[..cut]);
        }
        let mut later = note().encode();
        later.extend([99, 1, 0]);
        let later = Note::decode(&later).unwrap();
        assert!(later.strange && later.facts == note().facts);
    }
}

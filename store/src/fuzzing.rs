//! Every decoder of stored bytes behind one door, for fuzz/ and for a test that runs a few seeds.
//! What has an encoder must come back from it unchanged. Seals are left out: behind them stands
//! what an attacker with keys, or a broken machine, may have written.

use crate::format::check_state;
use crate::format::config::{Config, Slot, decode_data_key};
use crate::format::note::Note;
use crate::format::objects::{GcList, OpenList, SessionInfo, SnapshotObject, TrashMarker};
use crate::format::pack::{PackHeader, TRAILER, decode_directory, decode_trailer};
use crate::format::page::decode_page;
use crate::format::record::{RecordHeader, decode_record};
use crate::format::segment::{Segment, SegmentHeader};

/// What is decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoder {
    /// `config`.
    Config,
    /// A key slot.
    Slot,
    /// The text of a key file.
    KeyFile,
    /// A wrapped data key.
    DataKey,
    /// Header, directory and trailer of a pack.
    Pack,
    /// A record's header.
    RecordHeader,
    /// A record's plain form.
    Record,
    /// A segment's header.
    SegmentHeader,
    /// A segment's body.
    Segment,
    /// A page, of the height that the first byte says.
    Page,
    /// A manifest or tombstone.
    Snapshot,
    /// A session.
    Session,
    /// A gc list, its open list, a marker.
    List,
    /// A note.
    Note,
    /// The state of a check.
    CheckState,
}

impl Decoder {
    /// All of them, with their names.
    pub const ALL: [(&str, Decoder); 15] = [
        ("config", Decoder::Config),
        ("slot", Decoder::Slot),
        ("key_file", Decoder::KeyFile),
        ("data_key", Decoder::DataKey),
        ("pack", Decoder::Pack),
        ("record_header", Decoder::RecordHeader),
        ("record", Decoder::Record),
        ("segment_header", Decoder::SegmentHeader),
        ("segment", Decoder::Segment),
        ("page", Decoder::Page),
        ("snapshot", Decoder::Snapshot),
        ("session", Decoder::Session),
        ("list", Decoder::List),
        ("note", Decoder::Note),
        ("check_state", Decoder::CheckState),
    ];

    /// The decoder of a name.
    ///
    /// # Panics
    /// When there is none.
    pub fn named(name: &str) -> Decoder {
        let found = Decoder::ALL.iter().find(|(n, _)| *n == name);
        match found {
            Some((_, decoder)) => *decoder,
            None => panic!("no decoder is called {name}"),
        }
    }
}

/// Decodes. Answers whether the bytes were taken.
///
/// # Panics
/// When something that was taken does not come back from its encoder: a fault of the program.
pub fn decode(decoder: Decoder, bytes: &[u8]) -> bool {
    match decoder {
        Decoder::Config => Config::decode(bytes).is_ok(),
        Decoder::Slot => Slot::decode(bytes).is_ok(),
        Decoder::KeyFile => {
            std::str::from_utf8(bytes).is_ok_and(|t| crate::crypto::KeyFile::parse(t).is_ok())
        }
        Decoder::DataKey => decode_data_key(bytes).is_ok(),
        Decoder::Pack => pack(bytes),
        Decoder::RecordHeader => RecordHeader::decode(bytes).is_ok(),
        Decoder::Record => decode_record(bytes).is_ok(),
        Decoder::SegmentHeader => SegmentHeader::decode(bytes).is_ok(),
        Decoder::Segment => segment(bytes),
        Decoder::Page => page(bytes),
        Decoder::Snapshot => again(
            SnapshotObject::decode(bytes).ok(),
            SnapshotObject::encode,
            |b| SnapshotObject::decode(b).ok(),
        ),
        Decoder::Session => again(SessionInfo::decode(bytes).ok(), SessionInfo::encode, |b| {
            SessionInfo::decode(b).ok()
        }),
        Decoder::List => list(bytes),
        Decoder::Note => note(bytes),
        Decoder::CheckState => again(
            check_state::decode(bytes).ok(),
            |groups| check_state::encode(groups),
            |b| check_state::decode(b).ok(),
        ),
    }
}

/// Whether there is something; if so it must come back.
fn again<T: PartialEq + std::fmt::Debug>(
    found: Option<T>,
    encode: impl Fn(&T) -> Vec<u8>,
    decode: impl Fn(&[u8]) -> Option<T>,
) -> bool {
    let Some(found) = found else { return false };
    let back = decode(&encode(&found));
    assert_eq!(back.as_ref(), Some(&found), "it does not come back");
    true
}

fn pack(bytes: &[u8]) -> bool {
    let header = PackHeader::decode(bytes).is_ok();
    let (body, trailer) = bytes.split_at(bytes.len().saturating_sub(TRAILER));
    let Ok((_, directory)) = decode_trailer(trailer, bytes.len() as u64) else {
        return header;
    };
    let offsets = body.get(directory as usize..).unwrap_or_default();
    decode_directory(offsets, directory).is_ok() && header
}

fn segment(bytes: &[u8]) -> bool {
    again(
        Segment::decode_body(bytes).ok(),
        |s| s.encode_body().unwrap_or_default(),
        |b| Segment::decode_body(b).ok(),
    )
}

fn page(bytes: &[u8]) -> bool {
    let Some((height, page)) = bytes.split_first() else {
        return false;
    };
    decode_page(page, *height).is_ok()
}

fn list(bytes: &[u8]) -> bool {
    let list = again(GcList::decode(bytes).ok(), GcList::encode, |b| {
        GcList::decode(b).ok()
    });
    let open = again(OpenList::decode(bytes).ok(), OpenList::encode, |b| {
        OpenList::decode(b).ok()
    });
    let marker = again(TrashMarker::decode(bytes).ok(), TrashMarker::encode, |b| {
        TrashMarker::decode(b).ok()
    });
    assert!(
        u8::from(list) + u8::from(open) + u8::from(marker) <= 1,
        "two types"
    );
    list || open || marker
}

/// Fields of later versions are not written again: a note that has some is never folded.
fn note(bytes: &[u8]) -> bool {
    let known = Note::decode(bytes).ok().map(|note| Note {
        strange: false,
        ..note
    });
    again(known, Note::encode, |b| Note::decode(b).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::examples::examples;

    use crate::clock::Timestamp;
    use crate::format::objects::HostIdentity;
    use crate::format::objects::SessionKind::Writer;
    use crate::format::segment::SegmentPack;
    use crate::id::{PackId, Uuid};

    /// What stands in docs/format.md only under a seal.
    fn more() -> Vec<Vec<u8>> {
        let name = Uuid([1; 16]);
        let session = SessionInfo {
            name,
            kind: Writer,
            process: HostIdentity::default(),
            started: Timestamp::default(),
        };
        let pack = SegmentPack {
            id: PackId([2; 32]),
            session: name,
            tree: true,
        };
        let segment = Segment {
            packs: vec![pack],
            ..Segment::default()
        };
        let sessions = vec![name];
        vec![
            session.encode(),
            OpenList { name, sessions }.encode(),
            segment.encode_body().unwrap(),
        ]
    }

    /// Stored forms, and each with one bit flipped or cut short: nothing panics, and what a decoder
    /// takes comes back.
    #[test]
    fn examples_and_their_neighbours() {
        let mut taken = Vec::new();
        for example in examples().into_values().chain(more()) {
            for (name, decoder) in Decoder::ALL {
                if decode(decoder, &example) && !taken.contains(&name) {
                    taken.push(name);
                }
                for at in 0..example.len() {
                    let mut flipped = example.clone();
                    flipped[at] ^= 1 << (at % 8);
                    decode(decoder, &flipped);
                    decode(decoder, &example[..at]);
                }
            }
        }
        taken.sort_unstable();
        let expected = [
            "check_state",
            "config",
            "list",
            "note",
            "pack",
            "record_header",
            "segment",
            "session",
            "snapshot",
        ];
        assert_eq!(taken, expected);
    }
}

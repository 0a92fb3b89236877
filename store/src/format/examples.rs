//! Executes the hex examples of docs/format.md: each must be what this code writes, and must be
//! read back.

use std::collections::BTreeMap;

use super::check_state;
use super::config::Config;
use super::fields::{Fields, FieldsBuilder};
use super::note::{FactKey, Note, Said, Subject, field};
use super::objects::SnapshotObject;
use super::pack::{PackHeader, encode_directory};
use super::page::{PageKind, decode_page, encode_page};
use super::segment::{Segment, SegmentPack, SegmentRow};
use crate::clock::Timestamp;
use crate::crypto::{Encryption, Keys, PasswordCost};
use crate::entry::{Content, Entry, Kind, Meta};
use crate::id::{ChunkId, DataKeyId, KeyDomain, PackId, RepositoryId, SegmentId, SnapshotId, Uuid};
use crate::index::{Bases, Encoding};
use crate::record::{OpenRecord, World, seal_record, table_row};

const PAGE: &str = include_str!("../../../docs/format.md");

/// The examples by name: blocks that begin with "```hex name".
pub(crate) fn examples() -> BTreeMap<String, Vec<u8>> {
    let mut examples = BTreeMap::new();
    let mut blocks = PAGE.split("```hex ").skip(1);
    for block in &mut blocks {
        let (name, rest) = block.split_once('\n').unwrap();
        let (body, _) = rest.split_once("```").unwrap();
        let digits: String = body
            .lines()
            .map(|line| line.split('#').next().unwrap_or(""))
            .flat_map(str::chars)
            .filter(|c| !c.is_whitespace())
            .collect();
        let bytes = digits.as_bytes().chunks(2);
        let bytes = bytes.map(|d| u8::from_str_radix(std::str::from_utf8(d).unwrap(), 16).unwrap());
        assert!(
            examples
                .insert(name.trim().to_owned(), bytes.collect())
                .is_none(),
            "{name} twice"
        );
    }
    examples
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn fields() -> Vec<u8> {
    let mut fields = FieldsBuilder::default();
    fields.u64(2, 7).bytes(9, b"hi").time(
        4,
        Timestamp {
            seconds: -1,
            nanos: 5,
        },
    );
    fields.finish()
}

fn config() -> Vec<u8> {
    let public = [0x11; 32];
    let config = Config {
        repository: RepositoryId([0xaa; 16]),
        domain: crate::crypto::key_domain(&public),
        encryption: Encryption::None,
        cost: PasswordCost {
            salt: [0xbb; 16],
            memory: 65_536,
            passes: 3,
            lanes: 1,
        },
        public: Some(public),
        created: Timestamp {
            seconds: 1_800_000_000,
            nanos: 0,
        },
        max_depth: 8,
    };
    config.encode(&crate::crypto::config_key(&public))
}

fn keys() -> Keys {
    let keys = Keys::derive(Encryption::None, &[0x11; 32], RepositoryId([0xaa; 16]));
    keys.keep_built_in();
    keys
}

fn record() -> Vec<u8> {
    let keys = keys();
    let id = keys.chunk_id(b"hola");
    let mut plain = Vec::new();
    super::record::encode_table(&[table_row(id, Encoding::Raw, 4, 4)], &mut plain);
    plain.extend_from_slice(b"hola");
    seal_record(
        &keys,
        &keys.writing_key(false).unwrap(),
        World::Content,
        &plain,
    )
}

fn pack_header() -> Vec<u8> {
    let header = PackHeader {
        tree: false,
        session: Uuid([1; 16]),
        uuid: Uuid([2; 16]),
        keys: vec![(DataKeyId([3, 4, 5, 6]), vec![0xcc; 3])],
    };
    header.encode()
}

fn leaf_page() -> Vec<u8> {
    let entry = Entry {
        path: b"a.txt".to_vec(),
        kind: Kind::File,
        meta: Meta {
            mode: 0o644,
            uid: 1000,
            gid: 100,
            mtime: Timestamp {
                seconds: 1,
                nanos: 2,
            },
            ctime: Timestamp {
                seconds: 3,
                nanos: 4,
            },
            inode: 5,
            size: 4,
            ..Meta::default()
        },
        content: Content::Inline(b"hola".to_vec()),
        xattrs: vec![],
        group: None,
    };
    let mut items = Vec::new();
    super::entry::encode_entry(&entry, &super::entry::Attributes::Here, &[], &mut items);
    encode_page(PageKind::Leaf, 0, 1, &items)
}

fn segment() -> Segment {
    Segment {
        supersedes: vec![SegmentId([9; 32])],
        packs: vec![SegmentPack {
            id: PackId([8; 32]),
            session: Uuid([1; 16]),
            tree: false,
        }],
        rows: vec![SegmentRow {
            id: ChunkId([7; 32]),
            pack: 0,
            offset: 54,
            stored: 89,
            slot: 0,
            plain: 4,
            encoding: Encoding::Raw,
            depth: 0,
            bases: Bases::NONE,
        }],
    }
}

fn segment_body() -> Vec<u8> {
    zstd::bulk::decompress(&segment().encode_body().unwrap(), 10_000).unwrap()
}

fn note() -> Note {
    let name = Uuid([6; 16]);
    let made = Timestamp {
        seconds: 1_800_000_000,
        nanos: 0,
    };
    let fact = |field, key: &[u8]| {
        let key = FactKey {
            subject: Subject::snapshot(SnapshotId([7; 16])),
            field,
            key: key.to_vec(),
        };
        let said = Said {
            time: made,
            note: name,
            value: vec![1],
        };
        (key, said)
    };
    Note {
        name,
        made,
        supersedes: Vec::new(),
        facts: vec![fact(field::PROTECTED, b""), fact(field::TAG, b"a")],
        strange: false,
    }
}

fn check_state() -> Vec<check_state::Group> {
    vec![check_state::Group {
        time: 1_800_000_000,
        packs: vec![0x1000_0001, 0x1000_0101],
    }]
}

fn tombstone() -> Vec<u8> {
    SnapshotObject::Tombstone {
        name: Uuid([5; 16]),
    }
    .encode()
}

#[test]
fn the_page_says_what_the_code_writes() {
    let written: BTreeMap<&str, Vec<u8>> = [
        ("fields", fields()),
        ("config", config()),
        ("record", record()),
        ("pack-header", pack_header()),
        ("pack-end", encode_directory(&[54], 143)),
        ("segment-body", segment_body()),
        ("leaf-page", leaf_page()),
        ("note", note().encode()),
        ("check-state", check_state::encode(&check_state())),
        ("tombstone", tombstone()),
    ]
    .into();
    let examples = examples();
    let names: Vec<&str> = examples.keys().map(String::as_str).collect();
    assert_eq!(names, written.keys().copied().collect::<Vec<_>>());
    for (name, bytes) in &written {
        assert_eq!(hex(&examples[*name]), hex(bytes), "{name}");
    }
}

#[test]
fn the_examples_are_read_back() {
    let examples = examples();
    assert_eq!(
        Fields::decode(&examples["fields"], "example")
            .unwrap()
            .u64(2)
            .unwrap(),
        7
    );
    let config = Config::decode(&examples["config"]).unwrap();
    assert_eq!(config.domain, crate::crypto::key_domain(&[0x11; 32]));
    assert_ne!(config.domain, KeyDomain([0; 16]));
    let record = OpenRecord::open(&keys(), World::Content, &examples["record"]).unwrap();
    assert_eq!(record.decode(0, &[]).unwrap(), b"hola");
    assert!(decode_page(&examples["leaf-page"], 0).is_ok());
    let (header, len) = PackHeader::decode(&examples["pack-header"]).unwrap();
    assert_eq!((header.keys.len(), len), (1, examples["pack-header"].len()));
    assert_eq!(Note::decode(&examples["note"]).unwrap(), note());
    let state = check_state::decode(&examples["check-state"]);
    assert_eq!(state.unwrap(), check_state());
    let body = zstd::bulk::compress(&examples["segment-body"], 1).unwrap();
    assert_eq!(Segment::decode_body(&body).unwrap(), segment());
}

//! A base that is another chunk under a false name.

use super::*;
use crate::codec::Encoder;
use crate::crypto::Encryption;
use crate::format::objects::SessionKind;
use crate::index::Encoding;
use crate::record::{EncodedChunk, RecordBuilder, seal_record, table_row};
use crate::session::Session;
use crate::testing::{new_repository, noise};
use crate::writer::Writer;

/// Stores chunks as they are, in a pack of their own, without looking whether they are right.
fn store(repository: &Repository, chunks: Vec<EncodedChunk>) {
    let session = Session::open(repository, SessionKind::Writer).unwrap();
    let writer = Writer::new(&session, session.view().unwrap());
    let keys = repository.keys();
    let mut builder = RecordBuilder::default();
    chunks.into_iter().for_each(|chunk| builder.push(chunk));
    let parts = builder.finish(&mut Encoder::default()).unwrap();
    let key = keys.writing_key(false).unwrap();
    let stored = seal_record(keys, &key, World::Content, &parts.plain);
    writer.append(World::Content, &stored, &parts.rows).unwrap();
    writer.finish().unwrap();
    session.give_up();
}

/// A chunk under an id, which may be that of another.
fn named(id: ChunkId, plain: &[u8]) -> EncodedChunk {
    EncodedChunk::plain(id, plain, &mut Encoder::default()).unwrap()
}

/// A chunk, and one that is a delta of it.
struct Chain {
    base: Vec<u8>,
    base_id: ChunkId,
    changed: Vec<u8>,
    id: ChunkId,
    delta: EncodedChunk,
}

fn chain(repository: &Repository) -> Chain {
    let base = noise(50_000, "base");
    let mut changed = base.clone();
    changed[777] ^= 1;
    let [base_id, id] = [&base, &changed].map(|plain| repository.keys().chunk_id(plain));
    let bytes = Encoder::default().delta(&changed, &base).unwrap();
    let mut row = table_row(id, Encoding::Delta, changed.len(), bytes.len());
    assert!(row.bases.push(base_id.as_base()));
    Chain {
        base,
        base_id,
        changed,
        id,
        delta: EncodedChunk::new(row, bytes, 1, Vec::new()),
    }
}

#[test]
fn a_false_base_is_found_out_by_what_is_built_on_it() {
    let (_, repository) = new_repository(Encryption::XChaCha20Poly1305, 0);
    let Chain {
        base,
        base_id,
        changed,
        id,
        delta,
    } = chain(&repository);
    store(&repository, vec![named(base_id, &noise(50_000, "false"))]);
    store(&repository, vec![delta]);
    let read = |reader: &Reader<'_>, id: &ChunkId| reader.chunk(World::Content, id);
    let restoring = || Reader::new(&repository).proving_the_last();
    for reader in [Reader::new(&repository), restoring()] {
        for id in [&id, &base_id] {
            let lost = read(&reader, id).unwrap_err();
            assert!(matches!(lost, AccessError::LostChunk { .. }), "{lost:?}");
        }
    }
    // It stands at another place too, and a reader that trusted the false one has kept that.
    let reader = restoring();
    assert!(read(&reader, &id).is_err());
    store(&repository, vec![named(base_id, &base)]);
    for reader in [reader, restoring(), Reader::new(&repository)] {
        assert!(read(&reader, &id).unwrap() == changed);
        assert!(read(&reader, &base_id).unwrap() == base);
        assert!(read(&reader, &id).unwrap() == changed);
    }
}

#[test]
fn a_restore_compares_what_it_gives_and_a_check_all() {
    let (_, repository) = new_repository(Encryption::None, 0);
    let Chain {
        base,
        base_id,
        changed,
        id,
        delta,
    } = chain(&repository);
    store(&repository, vec![named(base_id, &base), delta]);
    for (reader, proven) in [
        (Reader::new(&repository).proving_the_last(), false),
        (Reader::new(&repository), true),
    ] {
        assert!(reader.chunk(World::Content, &id).unwrap() == changed);
        assert_eq!(reader.kept(&base_id).is_some(), proven);
    }
}

//! Single stages of the pipeline, for benchmarks: what one core does with one chunk, without a
//! repository around it. Nothing else calls this.

mod index;

use std::io;

use crate::codec::{self, Encoder};
use crate::crypto::{Encryption, Keys};
use crate::id::{ChunkId, RepositoryId};
use crate::index::Encoding;
use crate::record::{EncodedChunk, OpenRecord, RecordBuilder, World, seal_record};
use crate::similar::Features;

pub use index::{IndexStage, IndexView};

/// Keys of a repository that exists nowhere.
pub struct Stages {
    keys: Keys,
    features: Features,
}

/// What encoding deltas keeps from one to the next.
#[derive(Default)]
pub struct DeltaEncoder(Encoder);

impl Default for Stages {
    fn default() -> Self {
        Stages::new()
    }
}

impl Stages {
    /// With encryption, under fixed keys.
    pub fn new() -> Stages {
        let encryption = Encryption::XChaCha20Poly1305;
        let keys = Keys::derive(encryption, &[7; 32], RepositoryId([7; 16]));
        keys.keep(keys.generate_data_key());
        let features = Features::derive(keys.feature_key());
        Stages { keys, features }
    }

    /// Names a chunk by its keyed hash.
    pub fn name(&self, plain: &[u8]) -> ChunkId {
        self.keys.chunk_id(plain)
    }

    /// Encodes a chunk against bases, joined in order.
    ///
    /// # Errors
    /// When zstd fails.
    pub fn delta(
        &self,
        encoder: &mut DeltaEncoder,
        plain: &[u8],
        bases: &[u8],
    ) -> io::Result<Vec<u8>> {
        encoder.0.delta(plain, bases)
    }

    /// Decodes what [`Stages::delta`] made of `len` bytes, against the same bases.
    ///
    /// # Errors
    /// When it does not decode.
    pub fn undelta(&self, delta: &[u8], len: usize, bases: &[u8]) -> io::Result<Vec<u8>> {
        codec::decode(Encoding::Delta, delta, len, bases)
    }

    /// Super-features of a chunk; `None` when there is too little of it.
    pub fn features(&self, plain: &[u8]) -> Option<[u64; 3]> {
        self.features.of(plain)
    }

    /// Compresses a chunk, if that helps, and seals it as a record of its own.
    ///
    /// # Errors
    /// When zstd fails.
    pub fn seal(&self, id: ChunkId, plain: &[u8]) -> io::Result<Vec<u8>> {
        let mut encoder = Encoder::default();
        let mut builder = RecordBuilder::default();
        builder.push(EncodedChunk::plain(id, plain, &mut encoder)?);
        let record = builder.finish(&mut encoder)?.plain;
        let key = self.keys.writing_key(false);
        let key = key.ok_or_else(|| io::Error::other("there is no data key"))?;
        Ok(seal_record(&self.keys, &key, World::Content, &record))
    }

    /// Opens a record of one chunk and decodes it; `None` when it is not what [`Stages::seal`]
    /// made.
    pub fn open(&self, stored: &[u8]) -> Option<Vec<u8>> {
        let record = OpenRecord::open(&self.keys, World::Content, stored).ok()?;
        record.decode(0, &[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_is_opened() {
        let stages = Stages::new();
        let plain = b"a night of a shop ".repeat(1000);
        let stored = stages.seal(stages.name(&plain), &plain).unwrap();
        assert!(stored.len() < plain.len() / 10);
        assert_eq!(stages.open(&stored).as_deref(), Some(&*plain));
        assert_eq!(stages.open(&stored[1..]), None);
    }
}

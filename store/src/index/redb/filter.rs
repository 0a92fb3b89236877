//! Tells most of what the index has not, without a look into the file: a first night asks about
//! millions of chunks, and each answer is no.
//!
//! A blocked Bloom filter (Putze, Sanders, Singler 2007): each id sets six bits of one cache line.
//! It takes a byte a chunk, lets 3 of 100 absent ids through to the file, and unlike filters of
//! fingerprints it grows with what is applied. It is in memory alone, made by a pass over the file
//! when so many look-ups were in vain that they cost as much as the pass, and speaks only for the
//! very set of chunks that it was made of: state and filter say how many were numbered. What
//! another process adds makes it silent, never wrong.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::rows::{BUCKET_BITS, State};
use crate::id::ChunkId;

/// Words of a block: a cache line.
const BLOCK: usize = 8;
/// Bits that an id sets.
const BITS: u32 = 6;
/// Most bytes of a filter: beyond 107 million chunks it grows coarser instead.
const MAX_BYTES: usize = 128 << 20;
/// Fewest bytes.
const MIN_BYTES: usize = 64 << 10;
/// So many rows of a pass over the file cost as much as a look-up in vain.
const ROWS_PER_MISS: u32 = 32;
/// Below so many look-ups in vain none is made: a small run has other costs.
const MIN_MISSES: u32 = 1024;

/// See the module.
pub(super) struct Filter {
    words: Vec<AtomicU64>,
    generation: u64,
    /// All chunks with numbers below this are in it.
    chunks: AtomicU32,
}

impl Filter {
    /// An empty one for the chunks of a state, and a quarter more.
    pub(super) fn new(state: &State) -> Filter {
        let chunks = state.next_chunk as usize;
        let bytes = (chunks + chunks / 4).clamp(MIN_BYTES, MAX_BYTES);
        Filter {
            words: (0..bytes / 8).map(|_| AtomicU64::new(0)).collect(),
            generation: state.generation,
            chunks: AtomicU32::new(state.next_chunk),
        }
    }

    /// Whether it holds the chunks of a state.
    pub(super) fn is_of(&self, state: &State) -> bool {
        let chunks = self.chunks.load(Ordering::Acquire);
        self.generation == state.generation && chunks == state.next_chunk
    }

    /// Whether there are so many chunks in it that a larger one is worth it.
    pub(super) fn is_full(&self) -> bool {
        let bytes = self.words.len() * 8;
        bytes < MAX_BYTES - 64 && self.chunks.load(Ordering::Relaxed) as usize > bytes * 2
    }

    /// The chunks that were added are those of this state, which is committed.
    pub(super) fn reaches(&self, state: &State) {
        self.chunks.store(state.next_chunk, Ordering::Release);
    }

    /// Adds a chunk.
    pub(super) fn add(&self, id: &ChunkId) {
        for (word, bit) in self.bits(id) {
            if let Some(word) = self.words.get(word) {
                word.fetch_or(bit, Ordering::Relaxed);
            }
        }
    }

    /// `false`: the chunk is not among those that it holds.
    pub(super) fn may_have(&self, id: &ChunkId) -> bool {
        self.bits(id).all(|(word, bit)| {
            let word = self.words.get(word).map(|w| w.load(Ordering::Relaxed));
            word.is_none_or(|word| word & bit != 0)
        })
    }

    /// Words and bits of a chunk. Its id is a keyed hash: nobody who has not the key chooses them.
    /// The upper bits name the block, so that a pass in the order of ids stays in one place.
    fn bits(&self, id: &ChunkId) -> impl Iterator<Item = (usize, u64)> + use<> {
        let (upper, rest) = id.0.split_first_chunk().unwrap_or((&[0; 8], &[]));
        let which = rest.first_chunk().map_or(0, |b| u64::from_be_bytes(*b));
        let blocks = (self.words.len() / BLOCK) as u128;
        let block = ((u128::from(u64::from_be_bytes(*upper)) * blocks) >> 64) as usize;
        (0..BITS).map(move |n| {
            let nine = which >> (n * 9);
            (block * BLOCK + (nine >> 6 & 7) as usize, 1 << (nine & 63))
        })
    }
}

/// So many look-ups in vain cost as much as making a filter. Each may have a bucket verified.
pub(super) fn worth(state: &State) -> u32 {
    let rows = ROWS_PER_MISS + (state.next_chunk >> BUCKET_BITS);
    (state.next_chunk / rows).max(MIN_MISSES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(next_chunk: u32) -> State {
        State {
            identity: [0; 16],
            generation: 5,
            next_chunk,
            next_pack: 0,
            applied: 0,
        }
    }

    fn id(n: u32) -> ChunkId {
        ChunkId(*blake3::hash(&n.to_le_bytes()).as_bytes())
    }

    #[test]
    fn it_has_all_that_was_added_and_little_else() {
        let filter = Filter::new(&state(100_000));
        (0..100_000).for_each(|n| filter.add(&id(n)));
        assert!((0..100_000).all(|n| filter.may_have(&id(n))));
        let through = (100_000..200_000)
            .filter(|n| filter.may_have(&id(*n)))
            .count();
        assert!(through < 3_000, "{through} of 100,000 come through");
    }

    #[test]
    fn it_speaks_for_one_set_of_chunks() {
        let filter = Filter::new(&state(7));
        assert!(filter.is_of(&state(7)) && !filter.is_of(&state(8)));
        filter.reaches(&state(8));
        assert!(filter.is_of(&state(8)) && !filter.is_of(&state(7)));
        let other = State {
            generation: 6,
            ..state(8)
        };
        assert!(!filter.is_of(&other));
    }

    #[test]
    fn its_size_is_bounded() {
        let filter = Filter::new(&state(u32::MAX - 1));
        assert_eq!(filter.words.len() * 8, MAX_BYTES);
        assert!(!filter.is_full(), "a larger one is never made");
        assert!(Filter::new(&state(0)).words.len() * 8 == MIN_BYTES);
    }
}

//! Super-features: numbers that chunks share when they differ in few places.
//!
//! Odess (Zou et al., "The Dilemma between Deduplication and Locality", FAST 2021): a gear hash
//! rolls over the chunk, one position in 128 is sampled (more of a small chunk), each of twelve
//! linear transforms of the samples keeps its greatest value, and four of these at a time make one
//! super-feature. Table and transforms come from a key, so what is shared tells nothing to those
//! who lack it.

/// Super-features of a chunk.
const SUPER_FEATURES: usize = 3;
/// Features that are joined in each.
const JOINED: usize = 4;
const FEATURES: usize = SUPER_FEATURES * JOINED;
/// Positions are sampled where so many of the highest bits of the hash are 0: of a small chunk more
/// of them, so that enough are left where it did not change.
fn sample_bits(plain: usize) -> u32 {
    match plain {
        0..0x2000 => 3,
        0x2000..0x8000 => 5,
        _ => 7,
    }
}

/// Bytes of a chunk that are looked at: its beginning. Cuts follow contents, so chunks that
/// resemble each other mostly begin alike.
const LOOKED_AT: usize = 32 << 10;
/// Bytes that a hash of 64 bits remembers.
const WINDOW: usize = 64;
/// Parts of a chunk that are hashed side by side: each hash waits for its own last step only.
const PARTS: usize = 4;

/// What separates this use of the key from any other.
const CONTEXT: &[u8] = b"hucha super-features v1";

/// The super-features of one chunk.
pub(crate) type SuperFeatures = [u64; SUPER_FEATURES];

/// Computes super-features under one key.
pub(crate) struct Features {
    gear: Box<[u64; 256]>,
    /// Factor, which is odd, and summand of each transform.
    transforms: [(u64, u64); FEATURES],
}

/// Greatest values so far.
struct Greatest<'f> {
    transforms: &'f [(u64, u64); FEATURES],
    values: [u64; FEATURES],
    samples: usize,
    /// Hashes from here on are no samples.
    limit: u64,
}

impl<'f> Greatest<'f> {
    /// Of nothing, for a chunk of so many bytes.
    fn new(transforms: &'f [(u64, u64); FEATURES], plain: usize) -> Greatest<'f> {
        Greatest {
            transforms,
            values: [0; FEATURES],
            samples: 0,
            limit: 1 << (u64::BITS - sample_bits(plain)),
        }
    }

    #[inline]
    fn look_at(&mut self, hash: u64) {
        if hash < self.limit {
            self.sample(hash);
        }
    }

    fn sample(&mut self, hash: u64) {
        self.samples += 1;
        for (value, (factor, summand)) in self.values.iter_mut().zip(self.transforms) {
            *value = (*value).max(hash.wrapping_mul(*factor).wrapping_add(*summand));
        }
    }
}

impl Features {
    /// Derives table and transforms from a key.
    pub fn derive(key: &[u8; 32]) -> Features {
        let mut reader = blake3::Hasher::new_keyed(key)
            .update(CONTEXT)
            .finalize_xof();
        let mut next = || {
            let mut bytes = [0; 8];
            reader.fill(&mut bytes);
            u64::from_le_bytes(bytes)
        };
        let mut gear = Box::new([0; 256]);
        gear.iter_mut().for_each(|entry| *entry = next());
        let transforms = std::array::from_fn(|_| (next() | 1, next()));
        Features { gear, transforms }
    }

    /// The super-features; `None` when too few positions were sampled.
    pub fn of(&self, plain: &[u8]) -> Option<SuperFeatures> {
        let plain = plain.get(..LOOKED_AT).unwrap_or(plain);
        let mut greatest = Greatest::new(&self.transforms, plain.len());
        if plain.len() < PARTS * 4 * WINDOW {
            self.roll(0, plain, &mut greatest);
        } else {
            self.roll_in_parts(plain, &mut greatest);
        }
        if greatest.samples < 2 {
            return None;
        }
        let mut joined = greatest.values.chunks_exact(JOINED).map(|values| {
            let mix = |sum: u64, value: &u64| {
                (sum.rotate_left(23) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15)
            };
            values.iter().fold(0, mix)
        });
        Some(std::array::from_fn(|_| joined.next().unwrap_or_default()))
    }

    #[inline]
    fn step(&self, hash: u64, byte: u8) -> u64 {
        let entry = self.gear.get(usize::from(byte)).copied();
        (hash << 1).wrapping_add(entry.unwrap_or_default())
    }

    fn roll(&self, mut hash: u64, bytes: &[u8], greatest: &mut Greatest<'_>) {
        for byte in bytes {
            hash = self.step(hash, *byte);
            greatest.look_at(hash);
        }
    }

    /// The same as [`Features::roll`] over everything: greatest values know no order.
    fn roll_in_parts(&self, plain: &[u8], greatest: &mut Greatest<'_>) {
        let part = plain.len() / PARTS;
        let (a, rest) = plain.split_at(part);
        let (b, rest) = rest.split_at(part);
        let (c, rest) = rest.split_at(part);
        let (d, rest) = rest.split_at(part);
        let ahead = |before: &[u8]| {
            let window = before.get(before.len() - WINDOW..).unwrap_or_default();
            window.iter().fold(0, |hash, byte| self.step(hash, *byte))
        };
        let mut hashes = [0, ahead(a), ahead(b), ahead(c)];
        for (((a, b), c), d) in a.iter().zip(b).zip(c).zip(d) {
            let [ha, hb, hc, hd] = hashes;
            hashes = [
                self.step(ha, *a),
                self.step(hb, *b),
                self.step(hc, *c),
                self.step(hd, *d),
            ];
            hashes.iter().for_each(|hash| greatest.look_at(*hash));
        }
        let [.., last] = hashes;
        self.roll(last, rest, greatest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::noise;

    #[test]
    fn parts_side_by_side_give_what_one_pass_gives() {
        let features = Features::derive(&[7; 32]);
        for len in [1023, 1024, 1025, 5000, 65_537] {
            let plain = noise(len, "parts");
            let mut one = Greatest::new(&features.transforms, len);
            let mut parts = Greatest::new(&features.transforms, len);
            features.roll(0, &plain, &mut one);
            features.roll_in_parts(&plain, &mut parts);
            assert_eq!((one.values, one.samples), (parts.values, parts.samples));
        }
    }

    #[test]
    fn one_position_in_128_of_a_large_chunk_is_sampled() {
        let features = Features::derive(&[7; 32]);
        let mut greatest = Greatest::new(&features.transforms, 1 << 20);
        features.roll(0, &noise(1 << 20, "samples"), &mut greatest);
        assert!(
            (7000..9500).contains(&greatest.samples),
            "{}",
            greatest.samples
        );
    }
}

//! The secret table of the rolling hash, derived in full from a key.
//!
//! It does not choose, store or erase keys: the caller hands over one made for this purpose.

use std::fmt;

/// One entry for each value of a byte.
const ENTRIES: usize = 256;

/// Separates this use of a key from any other. Part of the format: a change moves every cut.
const CONTEXT: &[u8] = b"hucha chunker gear table v1";

/// A secret gear table: the number each byte value adds to the rolling hash.
///
/// The 256 entries are the first 2,048 bytes of BLAKE3's extendable output (keyed mode, over a
/// fixed context string), read as little-endian words. A second table, the first shifted left by
/// one bit, lets FastCDC (2020) hash two bytes a step.
///
/// Whoever knows the table can predict cut points: [`Debug`](fmt::Debug) does not print it.
/// It takes 4 KiB; share it in an [`Arc`](std::sync::Arc).
pub struct GearTable {
    plain: [u64; ENTRIES],
    shifted: [u64; ENTRIES],
}

impl GearTable {
    /// Derives both tables from `key`, which must be secret and uniformly random.
    pub fn derive(key: &[u8; 32]) -> GearTable {
        let mut output = blake3::Hasher::new_keyed(key)
            .update(CONTEXT)
            .finalize_xof();
        let plain = std::array::from_fn(|_| {
            let mut word = [0; size_of::<u64>()];
            output.fill(&mut word);
            u64::from_le_bytes(word)
        });
        GearTable {
            plain,
            shifted: plain.map(|word| word << 1),
        }
    }

    /// The number each byte value adds.
    pub(crate) fn plain(&self) -> &[u64; ENTRIES] {
        &self.plain
    }

    /// [`plain`](Self::plain), shifted left by one bit.
    pub(crate) fn shifted(&self) -> &[u64; ENTRIES] {
        &self.shifted
    }
}

impl fmt::Debug for GearTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GearTable(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn entries_are_the_words_of_the_keyed_output() {
        let table = GearTable::derive(&[3; 32]);
        let mut bytes = vec![0; 2048];
        blake3::Hasher::new_keyed(&[3; 32])
            .update(CONTEXT)
            .finalize_xof()
            .fill(&mut bytes);
        for (index, word) in bytes.chunks_exact(8).enumerate() {
            assert_eq!(table.plain()[index].to_le_bytes(), word);
            assert_eq!(table.shifted()[index], table.plain()[index] << 1);
        }
    }

    /// A table that is a public one XORed with (or plus) a keyed word would fail here.
    #[test]
    fn two_keys_share_no_structure() {
        let (one, two) = (GearTable::derive(&[1; 32]), GearTable::derive(&[2; 32]));
        let pairs = || one.plain().iter().zip(two.plain());
        let xors: HashSet<u64> = pairs().map(|(a, b)| a ^ b).collect();
        let differences: HashSet<u64> = pairs().map(|(a, b)| a.wrapping_sub(*b)).collect();
        assert_eq!((xors.len(), differences.len()), (ENTRIES, ENTRIES));
    }

    #[test]
    fn debug_keeps_the_secret() {
        assert_eq!(
            format!("{:?}", GearTable::derive(&[1; 32])),
            "GearTable(secret)"
        );
    }
}

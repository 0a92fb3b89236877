//! Inputs and helpers that the test binaries share.
#![allow(dead_code, reason = "each test binary uses its own part")]

use hucha_chunker::{Cutter, GearTable, Profile};
use std::sync::Arc;

/// A cutter whose key is 32 times `key`.
pub fn cutter(key: u8, profile: Profile) -> Cutter {
    Cutter::new(Arc::new(GearTable::derive(&[key; 32])), profile)
}

/// Pseudo-random bytes: BLAKE3's extendable output.
pub fn random(seed: u64, length: usize) -> Vec<u8> {
    let mut data = vec![0; length];
    blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut data);
    data
}

/// What a dump of one table looks like: rows of text, much alike.
pub fn dump(length: usize) -> Vec<u8> {
    let mut data = b"CREATE TABLE orders (id INT, customer TEXT, cents BIGINT);\n".to_vec();
    let mut state = 1_u64;
    for id in 1_u64.. {
        if data.len() >= length {
            break;
        }
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(id);
        let (customer, cents) = ((state >> 33) % 5_000, (state >> 40) % 100_000);
        let row = format!("INSERT INTO orders VALUES ({id}, 'customer-{customer:05}', {cents});\n");
        data.extend_from_slice(row.as_bytes());
    }
    data.truncate(length);
    data
}

/// The lengths of all chunks of `data`.
pub fn lengths(cutter: &Cutter, data: &[u8]) -> Vec<usize> {
    cutter.chunks(data).map(<[u8]>::len).collect()
}

/// Where the chunks of `data` end.
pub fn ends(cutter: &Cutter, data: &[u8]) -> Vec<usize> {
    let add = |sum: &mut usize, length| {
        *sum += length;
        Some(*sum)
    };
    lengths(cutter, data).into_iter().scan(0, add).collect()
}

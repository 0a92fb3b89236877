//! Cut points pinned as numbers.
//!
//! Do not update them to make a test pass: other cuts mean that every repository stores all of its
//! data once more. Whatever moves them (a new `fastcdc`, other masks) needs a new format version.

mod common;

use common::{cutter, dump, lengths, random};
use hucha_chunker::Profile;

const MIB: usize = 1 << 20;

/// What is pinned of one input cut in one way.
#[derive(Debug, PartialEq)]
struct Golden {
    count: usize,
    first: [usize; 10],
    /// BLAKE3 of all lengths, each as a little-endian `u64`.
    all: &'static str,
}

fn check(key: u8, profile: Profile, data: &[u8], golden: &Golden) {
    let lengths = lengths(&cutter(key, profile), data);
    let mut hasher = blake3::Hasher::new();
    for length in &lengths {
        hasher.update(&(*length as u64).to_le_bytes());
    }
    let all = hasher.finalize().to_hex();
    let first = std::array::from_fn(|index| lengths[index]);
    let actual = Golden {
        count: lengths.len(),
        first,
        all: all.as_str().to_owned().leak(),
    };
    assert_eq!(
        actual, *golden,
        "key {key}, {profile:?}: cut points have moved"
    );
}

/// The inputs themselves, so that a failure below is about the cuts.
#[test]
fn inputs_are_what_they_were() {
    assert_eq!(
        blake3::hash(&random(0, 4 * MIB)).to_hex().as_str(),
        "f2ee841c678b2fb44d32fdfe3a91d1424ee83a9989680ad7b51458e083e75646"
    );
    assert_eq!(
        blake3::hash(&dump(4 * MIB)).to_hex().as_str(),
        "66f515a62e52a3ac4b60677385b6bfbdbe14b535d7ad71eaf773b5d9a65442bf"
    );
}

#[test]
fn random_dump() {
    let data = random(0, 4 * MIB);
    let golden = Golden {
        count: 56,
        first: [
            43_252, 76_899, 80_316, 102_938, 41_809, 73_276, 67_819, 69_265, 67_765, 95_483,
        ],
        all: "eb07671fdc5dfedc23f0043ff3515ae1a80b1c29f81284f4ae44f99aba16b6b6",
    };
    check(1, Profile::DUMP, &data, &golden);
    let golden = Golden {
        count: 58,
        first: [
            86_494, 77_713, 78_176, 40_972, 92_268, 37_469, 70_076, 70_887, 26_522, 83_526,
        ],
        all: "a14f06ab162f7f53ebc9133df24cb968c42d2a077232b7fd535612b7cccac482",
    };
    check(2, Profile::DUMP, &data, &golden);
}

#[test]
fn random_files() {
    let data = random(0, 4 * MIB);
    let golden = Golden {
        count: 31,
        first: [
            43_252, 148_143, 140_156, 156_638, 67_385, 185_244, 41_794, 200_106, 154_328, 222_186,
        ],
        all: "764009c0006dcda68d3a0df5a64f39b27df3bafe303f3c161d52bcdcbcb32aa6",
    };
    check(1, Profile::FILES, &data, &golden);
    let golden = Golden {
        count: 32,
        first: [
            190_874, 64_511, 144_030, 140_573, 40_589, 151_426, 173_799, 142_189, 137_906, 175_220,
        ],
        all: "9fb3a30af7e5898d8f2265c1d36777b7c595ab1f528c83d8ce2dd6793bbd9500",
    };
    check(2, Profile::FILES, &data, &golden);
}

#[test]
fn random_pages() {
    let data = random(0, 4 * MIB);
    let golden = Golden {
        count: 64,
        first: [65_536; 10],
        all: "b79e6044bf86d454643fb2f8818e92bcc49a7b5cbc26c5be4650351fd3462485",
    };
    for key in [1, 2] {
        check(key, Profile::PAGES, &data, &golden);
    }
}

#[test]
fn dump_dump() {
    let data = dump(4 * MIB);
    let golden = Golden {
        count: 53,
        first: [
            94_490, 106_078, 18_521, 77_053, 91_766, 77_445, 74_317, 67_997, 119_364, 96_401,
        ],
        all: "f90d71d9b8b0857751397264ecc47dec3ed5dfe0395eab3e2e77893bb0222c50",
    };
    check(1, Profile::DUMP, &data, &golden);
    let golden = Golden {
        count: 54,
        first: [
            65_712, 69_582, 83_795, 86_455, 22_641, 60_603, 75_384, 65_734, 77_337, 82_727,
        ],
        all: "a9af89767b9dbf5521b9d59e32089d15ee00875576150319af2a1e6cdbee44ed",
    };
    check(2, Profile::DUMP, &data, &golden);
}

#[test]
fn dump_files() {
    let data = dump(4 * MIB);
    let golden = Golden {
        count: 25,
        first: [
            94_490, 171_753, 160_068, 193_401, 194_131, 212_913, 169_684, 151_741, 222_769, 158_110,
        ],
        all: "b9902ac014a3fdabb3b4ed5af6f505fca61cc8b8bae41f475ef75d0cf6713897",
    };
    check(1, Profile::FILES, &data, &golden);
    let golden = Golden {
        count: 28,
        first: [
            185_905, 142_280, 60_603, 156_014, 65_962, 250_770, 141_153, 252_129, 134_894, 216_274,
        ],
        all: "bf87c2119198f217f8ef29e87c8507916a68dd9ada820191305160de3ffa3d0f",
    };
    check(2, Profile::FILES, &data, &golden);
}

#[test]
fn dump_pages() {
    let data = dump(4 * MIB);
    let golden = Golden {
        count: 64,
        first: [65_536; 10],
        all: "b79e6044bf86d454643fb2f8818e92bcc49a7b5cbc26c5be4650351fd3462485",
    };
    for key in [1, 2] {
        check(key, Profile::PAGES, &data, &golden);
    }
}

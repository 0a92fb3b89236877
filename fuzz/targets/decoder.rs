//! Feeds one decoder of stored bytes. Which one is the name of the binary.

#![no_main]

use hucha_store::fuzzing::{Decoder, decode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    decode(Decoder::named(env!("CARGO_BIN_NAME")), bytes);
});

//! Encodings of single chunks: raw, zstd, zstd against bases.
//!
//! Chooses between them by size only; which bases are tried is the caller's matter.

use std::cell::RefCell;
use std::io;

use zstd::zstd_safe::{CCtx, CParameter, DCtx, Strategy, compress_bound, get_error_name};

use crate::index::Encoding;

/// Level for chunks without a base: a dump compresses at level 1 like at 3, and a quarter faster.
const PLAIN_LEVEL: i32 = 1;
/// Level for deltas: level 1 doubles growth, 9 gains 3 %.
const DELTA_LEVEL: i32 = 3;
/// How frames that chunks share are made: two hash tables of 2^16 entries each, matches from five
/// bytes on. Pages of a database and small files become 4 to 7 % smaller than at level 1, at four
/// fifths of its speed, and are as small as at level 3, which is slower.
fn shared_parameters() -> [CParameter; 6] {
    [
        CParameter::WindowLog(18),
        CParameter::HashLog(16),
        CParameter::ChainLog(16),
        CParameter::SearchLog(1),
        CParameter::MinMatch(5),
        CParameter::Strategy(Strategy::ZSTD_dfast),
    ]
}
/// A prefix from this size on needs a larger hash table to be searched in full.
const LARGE_PREFIX: usize = 1 << 20;
/// Bytes looked at to recognise what does not compress.
const SAMPLE: usize = 4 << 10;

fn failure(code: usize) -> io::Error {
    io::Error::other(get_error_name(code))
}

/// Encodes chunks, one after the other: the tables of zstd and the room for its output are used
/// again.
pub(crate) struct Encoder {
    context: CCtx<'static>,
    /// For frames that chunks share.
    shared: CCtx<'static>,
    out: Vec<u8>,
}

impl Default for Encoder {
    fn default() -> Encoder {
        let mut shared = CCtx::create();
        for parameter in shared_parameters() {
            // One that this zstd refuses leaves its default, and frames that every reader knows.
            let _ = shared.set_parameter(parameter);
        }
        Encoder {
            context: CCtx::create(),
            shared,
            out: Vec::new(),
        }
    }
}

impl Encoder {
    /// Encodes without a base: raw when zstd gains less than 3 %.
    pub fn plain(&mut self, plain: &[u8]) -> io::Result<(Encoding, Vec<u8>)> {
        if looks_random(plain) {
            return Ok((Encoding::Raw, plain.to_vec()));
        }
        let frame = self.frame(plain)?;
        if frame.len() + plain.len() / 32 >= plain.len() {
            return Ok((Encoding::Raw, plain.to_vec()));
        }
        Ok((Encoding::Zstd, frame.to_vec()))
    }

    /// One frame of several chunks, joined.
    pub fn shared(&mut self, joined: &[u8]) -> io::Result<Vec<u8>> {
        self.make_room(joined.len());
        let done = self.shared.compress2(&mut self.out, joined);
        done.map_err(failure)?;
        Ok(self.out.clone())
    }

    /// One zstd frame without a prefix, until the next call.
    fn frame(&mut self, plain: &[u8]) -> io::Result<&[u8]> {
        self.make_room(plain.len());
        let done = self.context.compress(&mut self.out, plain, PLAIN_LEVEL);
        done.map_err(failure)?;
        Ok(&self.out)
    }

    /// Encodes against the joined bases.
    pub fn delta(&mut self, plain: &[u8], prefix: &[u8]) -> io::Result<Vec<u8>> {
        if prefix.len() >= LARGE_PREFIX || prefix.starts_with(&DICTIONARY) {
            return encode_delta(plain, prefix);
        }
        self.make_room(plain.len());
        // A dictionary without the magic number of one is a prefix.
        (self.context)
            .compress_using_dict(&mut self.out, plain, prefix, DELTA_LEVEL)
            .map_err(failure)?;
        Ok(self.out.clone())
    }

    fn make_room(&mut self, plain: usize) {
        self.out.clear();
        self.out.reserve(compress_bound(plain));
    }
}

/// Whether a sample from the middle does not compress.
pub(crate) fn looks_random(plain: &[u8]) -> bool {
    if plain.len() < 4 * SAMPLE {
        return false;
    }
    let start = plain.len() / 2 - SAMPLE / 2;
    let sample = plain.get(start..start + SAMPLE).unwrap_or(&[]);
    let mut seen = [0u32; 256];
    for byte in sample {
        if let Some(n) = seen.get_mut(usize::from(*byte)) {
            *n += 1;
        }
    }
    // Shannon entropy in bits a byte; random bytes of this many reach 7.95.
    let total = sample.len() as f64;
    let bits = |n: &u32| f64::from(*n) / total * (total / f64::from(*n)).log2();
    let entropy: f64 = seen.iter().filter(|n| **n > 0).map(bits).sum();
    entropy > 7.9
}

/// Encodes against joined bases of any size and content.
fn encode_delta(plain: &[u8], prefix: &[u8]) -> io::Result<Vec<u8>> {
    let mut context = CCtx::create();
    let set = |c: &mut CCtx<'_>, p| c.set_parameter(p).map(|_| ()).map_err(failure);
    set(&mut context, CParameter::CompressionLevel(DELTA_LEVEL))?;
    let window = (prefix.len() + plain.len())
        .next_power_of_two()
        .ilog2()
        .clamp(17, 27);
    set(&mut context, CParameter::WindowLog(window))?;
    if prefix.len() >= LARGE_PREFIX {
        set(&mut context, CParameter::HashLog(window.min(24)))?;
    }
    context.ref_prefix(prefix).map_err(failure)?;
    let mut out = Vec::with_capacity(compress_bound(plain.len()));
    context.compress2(&mut out, plain).map_err(failure)?;
    Ok(out)
}

/// First bytes of a dictionary in zstd's own form. A prefix that happens to begin so is none.
const DICTIONARY: [u8; 4] = 0xEC30_A437_u32.to_le_bytes();

thread_local! {
    /// Making a context takes as long as decoding some kilobytes.
    static CONTEXT: RefCell<DCtx<'static>> = RefCell::new(DCtx::create());
}

/// Decodes one chunk of `len` plain bytes. `prefix` is the joined bases for a delta, else empty.
pub(crate) fn decode(
    encoding: Encoding,
    stored: &[u8],
    len: usize,
    prefix: &[u8],
) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    decode_into(encoding, stored, len, prefix, &mut out)?;
    Ok(out)
}

/// The same into a buffer, which holds nothing else afterwards.
pub(crate) fn decode_into(
    encoding: Encoding,
    stored: &[u8],
    len: usize,
    prefix: &[u8],
    out: &mut Vec<u8>,
) -> io::Result<()> {
    out.clear();
    out.reserve(len);
    match encoding {
        Encoding::Raw => out.extend_from_slice(stored),
        Encoding::Zstd | Encoding::Shared => with_context(|c| c.decompress(out, stored))?,
        // Nothing of the prefix stays in the context, and none is made for it, as would be for a
        // prefix that is set beforehand.
        Encoding::Delta if !prefix.starts_with(&DICTIONARY) => {
            with_context(|c| c.decompress_using_dict(out, stored, prefix))?;
        }
        Encoding::Delta => {
            let mut context = DCtx::create();
            context.ref_prefix(prefix).map_err(failure)?;
            context.decompress(out, stored).map_err(failure)?;
        }
    }
    if out.len() == len {
        Ok(())
    } else {
        Err(io::ErrorKind::InvalidData.into())
    }
}

/// Calls `decode` with the context of this thread.
fn with_context(decode: impl FnOnce(&mut DCtx<'static>) -> Result<usize, usize>) -> io::Result<()> {
    let decoded = CONTEXT.with_borrow_mut(decode);
    decoded.map(|_| ()).map_err(failure)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(n: usize, seed: &str) -> Vec<u8> {
        let mut out = vec![0; n];
        blake3::Hasher::new()
            .update(seed.as_bytes())
            .finalize_xof()
            .fill(&mut out);
        out
    }

    #[test]
    fn every_encoding_comes_back() {
        let text = b"insert into sales values (1, 'x');\n".repeat(3000);
        let (encoding, stored) = Encoder::default().plain(&text).unwrap();
        assert_eq!(encoding, Encoding::Zstd);
        assert_eq!(decode(encoding, &stored, text.len(), &[]).unwrap(), text);
        let random = noise(100_000, "a");
        let (encoding, stored) = Encoder::default().plain(&random).unwrap();
        assert_eq!(encoding, Encoding::Raw);
        assert_eq!(
            decode(encoding, &stored, random.len(), &[]).unwrap(),
            random
        );
        assert_eq!(
            Encoder::default().plain(b"").unwrap(),
            (Encoding::Raw, vec![])
        );
    }

    #[test]
    fn shared_frames_are_made_as_asked() {
        let mut context = CCtx::create();
        for parameter in shared_parameters() {
            assert!(context.set_parameter(parameter).is_ok());
        }
        let line = |n: u32| format!("insert into sales values ({n}, {});\n", n * n % 977);
        let joined = (0..5000).map(line).collect::<String>().into_bytes();
        let mut encoder = Encoder::default();
        for _ in 0..2 {
            let frame = encoder.shared(&joined).unwrap();
            assert!(frame.len() * 4 < joined.len(), "{}", frame.len());
            let back = decode(Encoding::Shared, &frame, joined.len(), &[]);
            assert!(back.unwrap() == joined);
        }
    }

    #[test]
    fn a_delta_costs_what_changed() {
        let base = noise(200_000, "a");
        let mut changed = base.clone();
        changed[1000] ^= 1;
        changed.splice(50_000..50_000, noise(100, "b"));
        let stored = Encoder::default().delta(&changed, &base).unwrap();
        assert!(stored.len() < 600, "{}", stored.len());
        assert_eq!(
            decode(Encoding::Delta, &stored, changed.len(), &base).unwrap(),
            changed
        );
        let mut wrong = base.clone();
        wrong[1] ^= 1;
        assert_ne!(
            decode(Encoding::Delta, &stored, changed.len(), &wrong).ok(),
            Some(changed)
        );
    }

    #[test]
    fn a_large_prefix_is_searched_in_full() {
        let base = noise(6 << 20, "a");
        // A copy: zstd forgets the part of a prefix that overlaps its input in memory.
        let part = base[100..(1 << 20) + 100].to_vec();
        let stored = Encoder::default().delta(&part, &base).unwrap();
        assert!(stored.len() < 3000, "{}", stored.len());
    }

    #[test]
    fn a_false_length_is_an_error() {
        let (encoding, stored) = Encoder::default().plain(&b"abc".repeat(1000)).unwrap();
        assert!(decode(encoding, &stored, 2999, &[]).is_err());
        assert!(decode(encoding, &stored, 3001, &[]).is_err());
    }

    #[test]
    fn an_encoder_keeps_nothing_of_what_it_did_before() {
        let mut encoder = Encoder::default();
        let base = noise(60_000, "a");
        // A copy: zstd forgets the part of a prefix that overlaps its input in memory.
        let same = base.clone();
        let text = b"insert into sales values (1, 'x');\n".repeat(1000);
        for _ in 0..3 {
            let stored = encoder.delta(&same, &base).unwrap();
            assert!(stored.len() < 100, "{}", stored.len());
            let back = decode(Encoding::Delta, &stored, base.len(), &base);
            assert_eq!(back.unwrap(), base);
            let (encoding, stored) = encoder.plain(&text).unwrap();
            let back = decode(encoding, &stored, text.len(), &[]);
            assert_eq!(back.unwrap(), text);
            // The bases of one chunk are none of the next.
            assert!(encoder.delta(&base, &text).unwrap().len() > base.len());
        }
    }

    #[test]
    fn a_context_keeps_nothing_of_a_chunk() {
        let bases = [noise(50_000, "a"), noise(50_000, "b")];
        let changed = bases.clone().map(|mut bytes| {
            bytes[77] ^= 1;
            bytes
        });
        let mut encoder = Encoder::default();
        let deltas = [0, 1].map(|i| encoder.delta(&changed[i], &bases[i]).unwrap());
        let text = b"insert into sales values (1, 'x');\n".repeat(300);
        let (_, plain) = encoder.plain(&text).unwrap();
        let mut out = Vec::new();
        for round in 0..6 {
            let i = round % 2;
            let len = changed[i].len();
            decode_into(Encoding::Delta, &deltas[i], len, &bases[i], &mut out).unwrap();
            assert!(out == changed[i]);
            // Without its prefix it does not come back from what the context had before.
            let bare = decode_into(Encoding::Delta, &deltas[i], len, &[], &mut out);
            assert!(bare.is_err() || out != changed[i]);
            decode_into(Encoding::Zstd, &plain, text.len(), &[], &mut out).unwrap();
            assert!(out == text);
            assert!(decode_into(Encoding::Zstd, b"no frame", 9, &[], &mut out).is_err());
        }
    }

    #[test]
    fn a_base_may_look_like_a_dictionary() {
        let base = [&DICTIONARY[..], &noise(60_000, "a")].concat();
        let part = base[10..].to_vec();
        let stored = Encoder::default().delta(&part, &base).unwrap();
        assert!(stored.len() < 100, "{}", stored.len());
        let back = decode(Encoding::Delta, &stored, part.len(), &base);
        assert_eq!(back.unwrap(), part);
    }
}

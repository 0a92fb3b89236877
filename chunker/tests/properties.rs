//! What holds for every input: coverage, sizes, independence of reads, resynchronisation, keys.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{cutter, dump, ends, lengths, random};
use hucha_chunker::{ChunkStream, Cutter, Profile};
use proptest::prelude::*;
use std::collections::HashSet;
use std::io::{self, ErrorKind, Read};

const KIB: usize = 1024;

/// Small sizes, so that short inputs have many chunks.
fn small() -> Profile {
    Profile::content_defined(256, 1024, 4096).unwrap()
}

/// How far behind an edit the cuts may take to fall in the old places, in `small` chunks of the
/// average size. Measured over 20,000 edits: over half need less than one, the farthest 23, and
/// each further one is 1.5 times rarer.
const RESYNC_CHUNKS: usize = 48;

/// Returns as few bytes as `sizes` say, in turn, and is interrupted where they say 0.
struct ShortReads<'a> {
    data: &'a [u8],
    sizes: std::iter::Cycle<std::slice::Iter<'a, usize>>,
}

impl Read for ShortReads<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match self.sizes.next() {
            Some(0) => Err(ErrorKind::Interrupted.into()),
            Some(size) => {
                let size = room.len().min(*size);
                self.data.read(&mut room[..size])
            }
            None => self.data.read(room),
        }
    }
}

fn streamed(stream: &mut ChunkStream, reader: &mut dyn Read) -> Vec<Vec<u8>> {
    let mut chunks = Vec::new();
    while let Some(chunk) = stream.next(reader).unwrap() {
        chunks.push(chunk.to_vec());
    }
    chunks
}

/// An input made of parts of different kinds.
fn input() -> impl Strategy<Value = Vec<u8>> {
    let part = (0..3, any::<u64>(), 0..20 * KIB).prop_map(|(kind, seed, length)| match kind {
        0 => random(seed, length),
        1 => dump(length),
        _ => vec![seed.to_le_bytes()[0]; length],
    });
    prop::collection::vec(part, 0..6).prop_map(|parts| parts.concat())
}

fn profile() -> impl Strategy<Value = Profile> {
    prop::sample::select(vec![
        small(),
        Profile::content_defined(64, 256, 258).unwrap(),
        Profile::content_defined(1000, 2048, 20_000).unwrap(),
        Profile::fixed(512).unwrap(),
        Profile::PAGES,
        Profile::DUMP,
    ])
}

proptest! {
    #[test]
    fn chunks_are_the_input_and_keep_to_the_sizes(
        data in input(), profile in profile(), key: u8,
    ) {
        let cutter = cutter(key, profile);
        let chunks: Vec<&[u8]> = cutter.chunks(&data).collect();
        prop_assert_eq!(&chunks.concat(), &data);
        if let Some((last, others)) = chunks.split_last() {
            prop_assert!(!last.is_empty() && last.len() <= profile.max_size());
            for chunk in others {
                prop_assert!(chunk.len() >= profile.min_size());
                prop_assert!(chunk.len() <= profile.max_size());
            }
        }
    }

    #[test]
    fn a_stream_cuts_like_a_slice_however_it_reads(
        data in input(),
        profile in profile(),
        sizes in prop::collection::vec(prop_oneof![0..4_usize, 0..9000_usize], 0..20),
    ) {
        prop_assume!(sizes.is_empty() || sizes.iter().any(|size| *size > 0));
        let cutter = cutter(1, profile);
        let mut stream = ChunkStream::new(&cutter);
        let whole: Vec<Vec<u8>> = cutter.chunks(&data).map(<[u8]>::to_vec).collect();
        for _ in 0..2 {
            let mut reader = ShortReads { data: &data, sizes: sizes.iter().cycle() };
            prop_assert_eq!(&streamed(&mut stream, &mut reader), &whole);
            stream.reset();
        }
    }

    #[test]
    fn a_cut_is_final_once_it_is_made(data in input(), buffered in 0..30 * KIB) {
        let cutter = cutter(1, small());
        let buffered = &data[..buffered.min(data.len())];
        match cutter.cut(buffered, false) {
            Some(length) => prop_assert_eq!(cutter.cut(&data, true), Some(length)),
            None => prop_assert!(buffered.len() < small().max_size()),
        }
    }

    #[test]
    fn cuts_resynchronise_after_an_edit(
        seed: u64,
        at in 0..100 * KIB,
        removed in 0..200_usize,
        inserted in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let cutter = cutter(1, small());
        let old = random(seed, 200 * KIB);
        let new = [&old[..at], &inserted, &old[at + removed..]].concat();
        let (old_ends, new_ends) = (ends(&cutter, &old), ends(&cutter, &new));

        // Ahead of the edit nothing changes at all.
        let ahead = |ends: &[usize]| -> Vec<usize> {
            ends.iter().copied().take_while(|end| *end < at).collect()
        };
        prop_assert_eq!(ahead(&old_ends), ahead(&new_ends));

        // Behind it, counted from the end of the input, the cuts soon meet and never part.
        let behind = |ends: &[usize], length: usize, edited: usize| -> Vec<usize> {
            let ends = ends.iter().filter(|end| **end >= edited);
            ends.map(|end| length - end).collect()
        };
        let old_behind = behind(&old_ends, old.len(), at + removed);
        let new_behind = behind(&new_ends, new.len(), at + inserted.len());
        let known: HashSet<usize> = old_behind.iter().copied().collect();
        let met = *new_behind.iter().find(|end| known.contains(end)).unwrap();
        let distance = (new.len() - at - inserted.len()) - met;
        prop_assert!(distance <= RESYNC_CHUNKS * small().avg_size(), "{}", distance);
        let from = |ends: &[usize]| -> Vec<usize> {
            ends.iter().copied().filter(|end| *end <= met).collect()
        };
        prop_assert_eq!(from(&old_behind), from(&new_behind));
    }
}

/// The same at true size: an edit costs about two chunks of new data, not the rest of the file.
#[test]
fn most_chunks_of_an_edited_dump_are_known() {
    let old = dump(8 << 20);
    let row = b"INSERT INTO orders VALUES (0, 'customer-00000', 1);\n";
    let inserted = [&old[..1 << 20], row, &old[1 << 20..]].concat();
    let deleted = [&old[..1 << 20], &old[(1 << 20) + 777..]].concat();
    for key in 0..8 {
        let cutter = cutter(key, Profile::DUMP);
        let known: HashSet<&[u8]> = cutter.chunks(&old).collect();
        for new in [&inserted, &deleted] {
            let unknown = cutter
                .chunks(new)
                .filter(|chunk| !known.contains(chunk))
                .count();
            assert!((1..=8).contains(&unknown), "{unknown} of {}", known.len());
        }
    }
}

/// What content-defined cuts are for: fixed ones find nothing behind an insertion.
#[test]
fn fixed_chunks_do_not_resynchronise() {
    let (cutter, old) = (cutter(1, Profile::PAGES), random(1, 1 << 20));
    let new = [b"!", &old[..]].concat();
    let known: HashSet<&[u8]> = cutter.chunks(&old).collect();
    assert!(cutter.chunks(&new).all(|chunk| !known.contains(chunk)));
}

#[test]
fn keys_cut_differently() {
    let data = random(1, 8 << 20);
    let all: Vec<usize> = (0..10)
        .flat_map(|key| ends(&cutter(key, Profile::DUMP), &data[..]))
        .collect();
    let distinct: HashSet<usize> = all.iter().copied().collect();
    // All ten share the end of the input. Of some 1,100 cuts in 8 MiB, few others may coincide.
    assert!(
        distinct.len() + 9 + 5 >= all.len(),
        "{} of {}",
        distinct.len(),
        all.len()
    );
}

#[test]
fn one_bit_of_the_key_is_enough() {
    let data = random(1, 4 << 20);
    let mut key = [9; 32];
    let one = hucha_chunker::GearTable::derive(&key);
    key[31] ^= 0x80;
    let two = hucha_chunker::GearTable::derive(&key);
    let [one, two] = [one, two].map(|table| Cutter::new(table.into(), Profile::FILES));
    assert_ne!(lengths(&one, &data)[0], lengths(&two, &data)[0]);
}

#[test]
fn mean_size_on_random_data_is_near_the_average() {
    let data = random(2, 32 << 20);
    for profile in [Profile::DUMP, Profile::FILES] {
        let mut lengths = lengths(&cutter(1, profile), &data);
        lengths.pop();
        let mean = lengths.iter().sum::<usize>() / lengths.len();
        let percent = mean * 100 / profile.avg_size();
        assert!((104..=122).contains(&percent), "{profile:?}: mean {mean}");
        let largest = lengths
            .iter()
            .filter(|length| **length == profile.max_size())
            .count();
        assert!(
            largest * 100 < lengths.len(),
            "{largest} chunks were cut by force"
        );
    }
}

#[test]
fn inputs_around_the_limits() {
    for profile in [Profile::DUMP, Profile::FILES, Profile::PAGES, small()] {
        let (cutter, min, max) = (cutter(1, profile), profile.min_size(), profile.max_size());
        assert_eq!(lengths(&cutter, b""), []);
        assert_eq!(lengths(&cutter, b"x"), [1]);
        assert_eq!(lengths(&cutter, &random(3, min - 1)), [min - 1]);
        assert_eq!(lengths(&cutter, &random(3, min)), [min]);
        let exactly_max = random(3, max);
        let cuts = lengths(&cutter, &exactly_max);
        assert_eq!(cuts.iter().sum::<usize>(), max);
        assert_eq!(cutter.cut(&exactly_max, false), Some(cuts[0]));
        let mut stream = ChunkStream::new(&cutter);
        assert!(stream.next(&mut io::empty()).unwrap().is_none());
        stream.reset();
        let chunks = streamed(&mut stream, &mut &exactly_max[..]);
        assert_eq!(chunks.concat(), exactly_max);
        assert_eq!(chunks.iter().map(Vec::len).collect::<Vec<_>>(), cuts);
    }
}

/// Nothing in a run of zeros looks like a cut, with these keys: the maximum cuts.
#[test]
fn zeros_are_cut_at_the_maximum() {
    for (key, profile) in [(1, Profile::DUMP), (2, Profile::FILES), (3, Profile::PAGES)] {
        let (cutter, max) = (cutter(key, profile), profile.max_size());
        let zeros = vec![0; 3 * max + 5];
        assert_eq!(lengths(&cutter, &zeros), [max, max, max, 5]);
        assert_eq!(lengths(&cutter, &zeros[..max]), [max]);
    }
}

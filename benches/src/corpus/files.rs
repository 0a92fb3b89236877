//! Files as byte strings, and what a night changes in them.

use super::{Random, WORDS};

/// Files of many sizes, two thirds text, a third bytes that do not compress.
pub fn files(count: usize) -> Vec<Vec<u8>> {
    let mut random = Random::seeded("hucha tree");
    (0..count)
        .map(|_| {
            // Sizes from 1 KiB to 4 MiB, each power of two as likely.
            let size = (1024 << random.below(12)) + random.below(1024);
            if random.below(3) == 0 {
                random.bytes(size)
            } else {
                text(&mut random, size)
            }
        })
        .collect()
}

/// Words and numbers, at least `size` bytes of them.
pub fn text(random: &mut Random, size: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(size + 16);
    while out.len() < size {
        out.extend_from_slice(random.pick(&WORDS).as_bytes());
        out.extend_from_slice(format!(" {} ", random.below(100_000)).as_bytes());
    }
    out
}

/// The next night: a tenth of the files get a few edits, one in fifty is new.
pub fn next_night(files: &mut [Vec<u8>], night: usize) {
    let mut random = Random::seeded(&format!("night {night}"));
    for file in files.iter_mut() {
        match random.below(50) {
            0 => {
                let size = file.len();
                *file = text(&mut random, size);
            }
            1..=5 => edit(&mut random, file),
            _ => {}
        }
    }
}

/// One to four small edits at random places.
pub fn edit(random: &mut Random, file: &mut Vec<u8>) {
    for _ in 0..1 + random.below(4) {
        let at = random.below(file.len());
        let len = random.below(200);
        let new = text(random, len);
        let end = (at + random.below(200)).min(file.len());
        file.splice(at..end, new);
    }
}

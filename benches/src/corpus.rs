//! Seeded corpora: the same bytes on every machine.

/// A small generator of pseudo-random numbers (BLAKE3 in counter mode).
pub struct Random {
    stream: blake3::OutputReader,
}

impl Random {
    /// Begins a sequence that follows from its name alone.
    pub fn seeded(name: &str) -> Random {
        Random {
            stream: blake3::Hasher::new().update(name.as_bytes()).finalize_xof(),
        }
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        let mut bytes = [0; 8];
        self.stream.fill(&mut bytes);
        usize::try_from(u64::from_le_bytes(bytes) % limit.max(1) as u64).unwrap_or(0)
    }

    fn bytes(&mut self, n: usize) -> Vec<u8> {
        let mut out = vec![0; n];
        self.stream.fill(&mut out);
        out
    }
}

const WORDS: [&str; 16] = [
    "insert",
    "value",
    "return",
    "customer",
    "0.00",
    "price",
    "invoice",
    "2026-11-20",
    "until",
    "struct",
    "null",
    "stock",
    "public",
    "name",
    "description",
    "total",
];

/// Files of many sizes, two thirds text, a third bytes that do not compress.
pub fn tree(files: usize) -> Vec<Vec<u8>> {
    let mut random = Random::seeded("hucha tree");
    (0..files)
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

fn text(random: &mut Random, size: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(size + 16);
    while out.len() < size {
        out.extend_from_slice(
            WORDS
                .get(random.below(WORDS.len()))
                .unwrap_or(&"")
                .as_bytes(),
        );
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
            1..=5 => {
                for _ in 0..1 + random.below(4) {
                    let at = random.below(file.len());
                    let n = random.below(200);
                    let new = random.bytes(n);
                    let end = (at + random.below(200)).min(file.len());
                    file.splice(at..end, new);
                }
            }
            _ => {}
        }
    }
}

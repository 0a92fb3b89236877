//! Seeded corpora: the same bytes on every machine.
//!
//! `files` holds plain byte strings for measurements without a repository; `tree` and `dump` write
//! folders and files to disk, night after night, for whole programs.

pub mod dump;
pub mod files;
pub mod tree;

/// A small generator of pseudo-random numbers (BLAKE3 in counter mode).
pub struct Random {
    stream: blake3::OutputReader,
    block: [u8; 64],
    used: usize,
}

impl Random {
    /// Begins a sequence that follows from its name alone.
    pub fn seeded(name: &str) -> Random {
        Random {
            stream: blake3::Hasher::new().update(name.as_bytes()).finalize_xof(),
            block: [0; 64],
            used: 64,
        }
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        if self.used == self.block.len() {
            self.stream.fill(&mut self.block);
            self.used = 0;
        }
        let next = self.block.iter().skip(self.used).take(8);
        let number = next.fold(0_u64, |n, byte| n << 8 | u64::from(*byte));
        self.used += 8;
        usize::try_from(number % limit.max(1) as u64).unwrap_or(0)
    }

    /// One of several.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        let at = self.below(from.len());
        from.get(at)
            .unwrap_or_else(|| unreachable!("it is below the length"))
    }

    /// So many bytes that do not compress.
    pub fn bytes(&mut self, n: usize) -> Vec<u8> {
        let mut out = vec![0; n];
        self.stream.fill(&mut out);
        out
    }
}

/// Words of the kind that tables and sources are full of.
pub const WORDS: [&str; 32] = [
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
    "export",
    "default",
    "module",
    "require",
    "function",
    "result",
    "length",
    "string",
    "number",
    "object",
    "promise",
    "await",
    "error",
    "config",
    "version",
    "license",
];

//! Seeded corpora: the same bytes on every machine.
//!
//! `files` holds plain byte strings for measurements without a repository. `shop` (as SQL dump or
//! as SQLite file), `tree` and `noise` write files and folders to disk, night after night, for
//! whole programs; `nights` is the door to them.

pub mod files;
pub mod nights;
mod noise;
pub mod shop;
mod tree;
mod vocabulary;

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

/// A quicker generator (splitmix64), for one row or one line: there are millions of them.
pub struct Quick(u64);

impl Quick {
    /// Begins a sequence that follows from these numbers alone.
    pub fn of(parts: [u64; 3]) -> Quick {
        let [a, b, c] = parts;
        let mut seed = Quick(a.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ b);
        let mixed = seed.number();
        Quick(mixed ^ c.wrapping_mul(0xd1b5_4a32_d192_ed03))
    }

    fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let a = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let b = (a ^ a >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        b ^ b >> 31
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.number() % limit.max(1) as u64).unwrap_or(0)
    }

    /// Below `limit`, the small ones much more often: as popular things are.
    pub fn skewed(&mut self, limit: usize) -> usize {
        let reach = 1 + self.below(limit);
        self.below(reach)
    }

    /// One of several.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        let at = self.below(from.len());
        from.get(at)
            .copied()
            .unwrap_or_else(|| unreachable!("it is below the length"))
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

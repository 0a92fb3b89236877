//! One large file that does not compress. A night overwrites some ranges and inserts a few bytes
//! near the front, so that all that follows moves.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Random;

/// Ranges that a night overwrites; the longest is this part of the file.
const RANGES: usize = 24;
const LONGEST: usize = 1000;
/// Where bytes are inserted at the latest, and how many at most.
const FRONT: usize = 4 << 20;
const INSERTED: usize = 50;

/// The file.
pub struct Noise {
    path: PathBuf,
    night: usize,
}

impl Noise {
    /// Writes `bytes` bytes.
    pub fn write(path: &Path, bytes: usize) -> io::Result<Noise> {
        fs::write(path, Random::seeded("noise").bytes(bytes))?;
        Ok(Noise {
            path: path.to_owned(),
            night: 0,
        })
    }

    /// Changes the file; answers how many bytes are new.
    pub fn next_night(&mut self) -> io::Result<usize> {
        self.night += 1;
        let mut random = Random::seeded(&format!("noise night {}", self.night));
        let mut bytes = fs::read(&self.path)?;
        let mut touched = 0;
        for _ in 0..RANGES {
            let length = 1 + random.below(bytes.len() / LONGEST);
            let at = random.below(bytes.len() - length);
            let new = random.bytes(length);
            if let Some(range) = bytes.get_mut(at..at + length) {
                range.copy_from_slice(&new);
            }
            touched += length;
        }
        let at = random.below(FRONT.min(bytes.len()));
        let inserted = 1 + random.below(INSERTED);
        let new = random.bytes(inserted);
        bytes.splice(at..at, new);
        fs::write(&self.path, bytes)?;
        Ok(touched + inserted)
    }
}

//! What chunk sizes cost, without a repository around them: cut, hash, compress.

use std::collections::HashSet;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Instant;

use hucha_chunker::{Cutter, GearTable, Profile};

use crate::corpus::files;

/// Average sizes in KiB; the smallest chunk is a quarter, the largest four times as large.
const AVERAGES: [usize; 5] = [32, 64, 128, 256, 1024];
const FILES: usize = 600;

struct Line {
    average: usize,
    chunks: usize,
    first: u64,
    growth: u64,
    seconds: f64,
}

/// The table, one line a size.
pub fn table(nights: usize) -> String {
    let lines: Vec<Line> = AVERAGES.iter().map(|kib| measure(*kib, nights)).collect();
    let base = lines.first().map_or(1.0, |l| l.seconds);
    let mut out = String::from("average   chunks   first MB   MB a night   time ratio\n");
    for line in lines {
        let _ = writeln!(
            out,
            "{:4} KiB {:8} {:10.1} {:12.1} {:12.2}",
            line.average,
            line.chunks,
            line.first as f64 / 1e6,
            line.growth as f64 / 1e6 / nights.max(1) as f64,
            line.seconds / base,
        );
    }
    out
}

fn measure(kib: usize, nights: usize) -> Line {
    let average = kib << 10;
    let profile = Profile::content_defined(average / 4, average, average * 4);
    let table = Arc::new(GearTable::derive(&[7; 32]));
    let Ok(profile) = profile else {
        unreachable!("the sizes are fixed above")
    };
    let cutter = Cutter::new(table, profile);
    let mut known = HashSet::new();
    let mut files = files::files(FILES);
    let begun = Instant::now();
    let first = store(&cutter, &files, &mut known);
    let mut growth = 0;
    for night in 0..nights {
        files::next_night(&mut files, night);
        growth += store(&cutter, &files, &mut known);
    }
    let seconds = begun.elapsed().as_secs_f64();
    Line {
        average: kib,
        chunks: known.len(),
        first,
        growth,
        seconds,
    }
}

/// Stored bytes of the chunks that are new, with about 95 bytes beside each.
fn store(cutter: &Cutter, files: &[Vec<u8>], known: &mut HashSet<[u8; 32]>) -> u64 {
    let mut bytes = 0;
    for chunk in files.iter().flat_map(|file| cutter.chunks(file)) {
        if known.insert(*blake3::hash(chunk).as_bytes()) {
            let squeezed = zstd::bulk::compress(chunk, 1).map_or(chunk.len(), |z| z.len());
            bytes += squeezed.min(chunk.len()) as u64 + 95;
        }
    }
    bytes
}

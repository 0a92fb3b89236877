//! What one core does in each stage: cut, name, compress, record, index. Medians of several passes
//! over the same seeded bytes, in MB or rows a second.

use std::error::Error;
use std::fmt::Write;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use hucha_chunker::{ChunkStream, Cutter, GearTable, Profile};
use hucha_store::format::segment::{MAX_ROWS, Segment, SegmentPack, SegmentRow};
use hucha_store::id::{ChunkId, PackId, SegmentId, Uuid};
use hucha_store::index::{Bases, Encoding, Index, RedbIndex, RedbOptions};
use hucha_store::stages::{DeltaEncoder, Stages};

use crate::corpus::Random;
use crate::corpus::nights::Corpus;

const MB: usize = 64;
const PASSES: usize = 5;
const ROWS: usize = 1_000_000;
const LOOKUPS: usize = 200_000;
/// Of a shop of this many percent, the dump has more than [`MB`].
const PERCENT: usize = 20;

/// A stage and its rate.
struct Line {
    stage: &'static str,
    rate: f64,
    unit: &'static str,
}

/// What the stages work on, and what was measured so far.
struct Bench {
    /// A dump of a shop.
    dump: Vec<u8>,
    /// Bytes that do not compress.
    noise: Vec<u8>,
    stages: Stages,
    lines: Vec<Line>,
}

/// The table. The index is made in `folder`.
///
/// # Errors
/// When the index cannot be written.
pub fn table(folder: &Path) -> Result<String, Box<dyn Error>> {
    let mut bench = Bench::new(folder)?;
    bench.cut();
    bench.compress()?;
    bench.deltas()?;
    bench.records();
    bench.lines.extend(index(folder)?);
    let mut out = String::from("| stage | rate a core | |\n|---|---|---|\n");
    for line in bench.lines {
        let _ = writeln!(out, "| {} | {:.0} | {} |", line.stage, line.rate, line.unit);
    }
    Ok(out)
}

impl Bench {
    fn new(folder: &Path) -> io::Result<Bench> {
        Corpus::first("dump-key", folder, PERCENT)?;
        let mut dump = fs::read(folder.join("shop.sql"))?;
        dump.truncate(MB * 1_000_000);
        assert_eq!(dump.len(), MB * 1_000_000, "the dump is too short");
        Ok(Bench {
            dump,
            noise: Random::seeded("micro").bytes(MB * 1_000_000),
            stages: Stages::new(),
            lines: Vec::new(),
        })
    }

    /// Adds a stage that goes through all of one corpus. To add another, call this.
    fn push<T>(&mut self, stage: &'static str, work: impl Fn(&Bench) -> T) {
        let rate = rate(|| work(self));
        self.lines.push(Line {
            stage,
            rate,
            unit: "MB/s",
        });
    }

    /// Chunks of one corpus with their names.
    fn chunks(&self, bytes: &[u8]) -> Vec<(ChunkId, Vec<u8>)> {
        let cutter = cutter(Profile::DUMP);
        let chunks = cutter.chunks(bytes);
        chunks.map(|c| (self.stages.name(c), c.to_vec())).collect()
    }

    fn cut(&mut self) {
        for (stage, profile) in [
            ("cut, profile dump", Profile::DUMP),
            ("cut, profile files", Profile::FILES),
        ] {
            let cutter = cutter(profile);
            self.push(stage, |b| cutter.chunks(&b.noise).count());
        }
        // Such a cut is a division. What it costs is to read the bytes into the buffer.
        let cutter = cutter(Profile::PAGES);
        self.push("cut, fixed size, with its copy", |b| {
            let (mut stream, mut reader) = (ChunkStream::new(&cutter), b.noise.as_slice());
            let mut chunks = 0;
            while let Ok(Some(_)) = stream.next(&mut reader) {
                chunks += 1;
            }
            chunks
        });
        let noise = self.chunks(&self.noise);
        self.push("name: keyed BLAKE3", |b| {
            noise
                .iter()
                .filter(|(id, c)| b.stages.name(c) == *id)
                .count()
        });
    }

    /// zstd as it is, each chunk for itself: the limit of all that compresses.
    fn compress(&mut self) -> io::Result<()> {
        let chunks = self.chunks(&self.dump);
        for (stage, level) in [
            ("zstd level 1, dump, 64 KiB", 1),
            ("zstd level 3, dump, 64 KiB", 3),
        ] {
            let squeezed = |chunk: &[u8]| zstd::bulk::compress(chunk, level);
            self.push(stage, |_| {
                let sizes = chunks
                    .iter()
                    .map(|(_, c)| squeezed(c).map_or(0, |z| z.len()));
                sizes.sum::<usize>()
            });
        }
        let squeezed = chunks.iter().map(|(_, c)| zstd::bulk::compress(c, 3));
        let squeezed: Vec<Vec<u8>> = squeezed.collect::<io::Result<_>>()?;
        self.push("zstd: decode plain, dump", |_| {
            let plain = squeezed.iter().map(|z| zstd::bulk::decompress(z, 1 << 20));
            plain.map(|p| p.map_or(0, |p| p.len())).sum::<usize>()
        });
        Ok(())
    }

    /// Chunks in which a row in a hundred changed, against what they were; further bases are
    /// neighbours.
    fn deltas(&mut self) -> io::Result<()> {
        let chunks: Vec<Vec<u8>> = self
            .chunks(&self.dump)
            .into_iter()
            .map(|(_, c)| c)
            .collect();
        self.push("super-features, dump", |b| {
            chunks.iter().filter_map(|c| b.stages.features(c)).count()
        });
        let changed: Vec<Vec<u8>> = chunks.iter().map(|chunk| change_rows(chunk)).collect();
        for (encoding, decoding, count) in [
            ("delta, 1 base", "decode delta, 1 base", 1),
            ("delta, 2 bases", "decode delta, 2 bases", 2),
            ("delta, 4 bases", "decode delta, 4 bases", 4),
        ] {
            let bases = |n: usize| -> Vec<&[u8]> {
                let others = (0..count).map(|k| (n + k) % chunks.len());
                others.filter_map(|k| chunks.get(k)).map(|c| &**c).collect()
            };
            let joined: Vec<Vec<u8>> = (0..chunks.len()).map(|n| bases(n).concat()).collect();
            let pairs = || changed.iter().zip(&joined);
            let encode = |b: &Bench| -> io::Result<Vec<Vec<u8>>> {
                let mut encoder = DeltaEncoder::default();
                let delta = |(c, base): (&Vec<u8>, &Vec<u8>)| b.stages.delta(&mut encoder, c, base);
                pairs().map(delta).collect()
            };
            let deltas = encode(self)?;
            self.push(encoding, |b| encode(b).map_or(0, |deltas| deltas.len()));
            self.push(decoding, |b| {
                let back = deltas.iter().zip(pairs()).filter(|(delta, (plain, base))| {
                    let back = b.stages.undelta(delta, plain.len(), base);
                    back.is_ok_and(|back| back.len() == plain.len())
                });
                back.count()
            });
        }
        Ok(())
    }

    /// Records as they stand in packs. Of noise: sealing and opening alone.
    fn records(&mut self) {
        let (dump, noise) = (self.chunks(&self.dump), self.chunks(&self.noise));
        for (sealing, opening, chunks) in [
            (
                "record of dump: compress, seal",
                "record of dump: open, decode",
                dump,
            ),
            ("record of noise: seal", "record of noise: open", noise),
        ] {
            let seal = |b: &Bench| -> Vec<Vec<u8>> {
                let sealed = chunks.iter().map(|(id, c)| b.stages.seal(*id, c));
                sealed.flatten().collect()
            };
            self.push(sealing, seal);
            let records = seal(self);
            self.push(opening, |b| {
                records.iter().filter_map(|r| b.stages.open(r)).count()
            });
        }
    }
}

/// Digits in one line of a hundred become others.
fn change_rows(chunk: &[u8]) -> Vec<u8> {
    let mut changed = chunk.to_vec();
    for line in changed.split_mut(|b| *b == b'\n').step_by(100) {
        let digits = line.iter_mut().filter(|b| b.is_ascii_digit());
        digits.for_each(|b| *b = b'0' + (*b - b'0' + 3) % 10);
    }
    changed
}

fn cutter(profile: Profile) -> Cutter {
    Cutter::new(Arc::new(GearTable::derive(&[7; 32])), profile)
}

/// MB a second, the median.
fn rate<T>(work: impl Fn() -> T) -> f64 {
    let mut seconds: Vec<f64> = (0..PASSES)
        .map(|_| {
            let begun = Instant::now();
            std::hint::black_box(work());
            begun.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    MB as f64 / seconds.get(PASSES / 2).copied().unwrap_or(f64::NAN)
}

/// Loads a million rows in segments of scattered ids, then looks some up, there and not there.
fn index(folder: &Path) -> Result<Vec<Line>, Box<dyn Error>> {
    let path = folder.join("index.redb");
    let index = RedbIndex::create(&path, RedbOptions::default())?;
    let id = |n: usize| ChunkId(*blake3::hash(&n.to_le_bytes()).as_bytes());
    let begun = Instant::now();
    for (number, from) in (0_u8..).zip((0..ROWS).step_by(MAX_ROWS)) {
        let rows = (from..ROWS.min(from + MAX_ROWS)).map(|n| row(id(n), n - from));
        let mut segment = Segment {
            supersedes: Vec::new(),
            packs: vec![SegmentPack {
                id: PackId([number; 32]),
                session: Uuid([1; 16]),
                tree: false,
            }],
            rows: rows.collect(),
        };
        segment.sort();
        index.apply(&[(SegmentId([number; 32]), &segment)])?;
    }
    let load = ROWS as f64 / begun.elapsed().as_secs_f64();
    let bytes = fs::metadata(&path)?.len() as f64 / ROWS as f64;
    let look_up = |from: usize| -> Result<f64, Box<dyn Error>> {
        let begun = Instant::now();
        let mut found = 0;
        for n in 0..LOOKUPS {
            found += usize::from(index.find(&id(from + n * 4))?.is_some());
        }
        assert!(found == 0 || found == LOOKUPS, "{found} of {LOOKUPS} found");
        Ok(LOOKUPS as f64 / begun.elapsed().as_secs_f64())
    };
    let (hits, misses) = (look_up(0)?, look_up(ROWS)?);
    let line = |stage, rate, unit| Line { stage, rate, unit };
    Ok(vec![
        line("index: load a million rows", load, "rows/s"),
        line("index: look up what is there", hits, "rows/s"),
        line("index: look up what is not", misses, "rows/s"),
        line("index: bytes a row", bytes, "bytes"),
    ])
}

fn row(id: ChunkId, n: usize) -> SegmentRow {
    SegmentRow {
        id,
        pack: 0,
        offset: (n as u32) * 60_000,
        stored: 60_000,
        slot: 0,
        plain: 128 << 10,
        encoding: Encoding::Zstd,
        depth: 0,
        bases: Bases::NONE,
    }
}

//! What one core does in each stage: cut, hash, record, index. Medians of several passes over the
//! same seeded bytes, in MB or rows a second, each beside the stage's share of the slowest.

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use hucha_chunker::{Cutter, GearTable, Profile};
use hucha_store::format::segment::{MAX_ROWS, Segment, SegmentPack, SegmentRow};
use hucha_store::id::{ChunkId, PackId, SegmentId, Uuid};
use hucha_store::index::{Bases, Encoding, Index, RedbIndex, RedbOptions};
use hucha_store::stages::Stages;

use crate::corpus::{Random, files};

const MB: usize = 64;
const PASSES: usize = 5;
const ROWS: usize = 1_000_000;
const LOOKUPS: usize = 200_000;

/// A stage and its rate.
struct Line {
    stage: &'static str,
    rate: f64,
    unit: &'static str,
}

/// The table. The index is made in `folder`.
///
/// # Errors
/// When the index cannot be written.
pub fn table(folder: &Path) -> Result<String, Box<dyn std::error::Error>> {
    let mut lines = bytes()?;
    lines.extend(index(folder)?);
    let mut out = String::from("| stage | rate a core | |\n|---|---|---|\n");
    for line in lines {
        let _ = writeln!(out, "| {} | {:.0} | {} |", line.stage, line.rate, line.unit);
    }
    Ok(out)
}

fn bytes() -> std::io::Result<Vec<Line>> {
    let mut random = Random::seeded("micro");
    let text = files::text(&mut random, MB * 1_000_000);
    let noise = random.bytes(MB * 1_000_000);
    let stages = Stages::new();
    let mut lines = Vec::new();
    let mut push = |stage, rate| {
        lines.push(Line {
            stage,
            rate,
            unit: "MB/s",
        });
    };
    let table = Arc::new(GearTable::derive(&[7; 32]));
    let cutter = |profile| Cutter::new(Arc::clone(&table), profile);
    for (stage, profile) in [
        ("cut, profile dump", Profile::DUMP),
        ("cut, profile files", Profile::FILES),
    ] {
        let cutter = cutter(profile);
        push(stage, rate(|| cutter.chunks(&noise).count()));
    }
    let cutter = cutter(Profile::FILES);
    let of = |bytes: &[u8]| -> Vec<(ChunkId, Vec<u8>)> {
        let chunks = cutter.chunks(bytes);
        chunks.map(|c| (stages.name(c), c.to_vec())).collect()
    };
    let (text, noise) = (of(&text), of(&noise));
    let name = || noise.iter().filter(|(id, c)| stages.name(c) == *id).count();
    push("hash: name chunks", rate(name));
    for (sealing, opening, chunks) in [
        (
            "record of text: compress, seal",
            "record of text: open, decode",
            &text,
        ),
        ("record of noise: seal", "record of noise: open", &noise),
    ] {
        let seal = || -> Vec<Vec<u8>> {
            let sealed = chunks.iter().map(|(id, c)| stages.seal(*id, c));
            sealed.flatten().collect()
        };
        push(sealing, rate(seal));
        let records = seal();
        push(
            opening,
            rate(|| records.iter().filter_map(|r| stages.open(r)).count()),
        );
    }
    Ok(lines)
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
fn index(folder: &Path) -> Result<Vec<Line>, Box<dyn std::error::Error>> {
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
    let bytes = std::fs::metadata(&path)?.len() as f64 / ROWS as f64;
    let look_up = |from: usize| -> Result<f64, Box<dyn std::error::Error>> {
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

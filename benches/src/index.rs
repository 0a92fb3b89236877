//! The index of a repository of any size: what loading it, asking it and a collector's mark over it
//! take. Segments come in the order of time, with scattered ids; each night after the first third
//! of the chunks are deltas upon the same chunk a night before and its neighbour.
//!
//! `index [CHUNKS] FOLDER` runs each step in a process of its own, so that each has its own peak of
//! memory: `index CHUNKS FOLDER STEP`. FOLDER must be empty, and stays as it is.

use std::collections::HashMap;
use std::error::Error;
use std::ffi::OsString;
use std::fmt::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use hucha_store::backend::Local;
use hucha_store::clock::{FixedClock, Timestamp};
use hucha_store::crypto::Encryption;
use hucha_store::environment::{Environment, FolderState, NoLiveness};
use hucha_store::format::objects::HostIdentity;
use hucha_store::format::segment::{Segment, SegmentPack, SegmentRow};
use hucha_store::id::{ChunkId, PackId, Uuid};
use hucha_store::index::{Bases, Encoding};
use hucha_store::repository::{Credential, InitOptions, Repository};
use hucha_store::stages::IndexStage;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Rows of a segment that a writer puts.
const SEGMENT: u32 = 65_536;
/// Chunks of a pack: 128 MiB of them.
const PACK: u32 = 5_000;
/// Stored bytes of a chunk with its share of a record.
const STORED: u32 = 26_000;
/// Chunks of a night's new data; a night changes a third of them a little.
const NIGHT: u32 = 300_000;
/// Nights until a chunk is stored whole again.
const CHAIN: u32 = 8;
/// Random look-ups of a step.
const LOOK_UPS: u32 = 200_000;
/// Look-ups of the part of a later night that is measured, in the order of the parent.
const PARENT: u32 = 1_000_000;
/// Most look-ups of a first night.
const FIRST: u32 = 30_000_000;
/// The steps in their order.
const STEPS: [&str; 7] = ["make", "load", "hits", "misses", "night", "mark", "first"];

/// Runs all steps and prints a table, or one step.
///
/// # Errors
/// When a step fails.
pub fn run(arguments: &[OsString]) -> Outcome<()> {
    let (chunks, folder, step) = match arguments {
        [folder] => (1_000_000, folder, None),
        [chunks, folder] => (parse(chunks)?, folder, None),
        [chunks, folder, step] => (parse(chunks)?, folder, step.to_str()),
        _ => return Err("usage: hucha-benches index [CHUNKS] FOLDER".into()),
    };
    let folder = std::path::absolute(folder)?;
    match step {
        Some(step) => print!("{}", run_step(step, chunks, &folder)?),
        None => {
            println!("| step, {chunks} chunks | | peak memory, MiB |\n|---|---|---|");
            for step in STEPS {
                print!("{}", in_process(step, chunks, &folder)?);
            }
        }
    }
    Ok(())
}

fn parse(chunks: &OsString) -> Outcome<u32> {
    Ok(chunks.to_str().unwrap_or_default().parse()?)
}

fn in_process(step: &str, chunks: u32, folder: &Path) -> Outcome<String> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["index", &chunks.to_string()]).arg(folder);
    let output = command.arg(step).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("{step}: {}", output.status).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn run_step(step: &str, chunks: u32, folder: &Path) -> Outcome<String> {
    let begun = Instant::now();
    let stage = open(folder)?;
    let said = match step {
        "make" => make(&stage, chunks)?,
        "load" => load(&stage, chunks, folder)?,
        "hits" => look_up(&stage, chunks, LOOK_UPS, |n| scattered(n) % chunks)?,
        "misses" => look_up(&stage, chunks, LOOK_UPS, |n| u32::MAX - n)?,
        "first" => look_up(&stage, chunks, chunks.min(FIRST), |n| u32::MAX - n)?,
        "night" => look_up(&stage, chunks, PARENT.min(chunks), |n| n)?,
        "mark" => mark(&stage, chunks)?,
        _ => return Err(format!("{step} is no step").into()),
    };
    let seconds = begun.elapsed().as_secs_f64();
    Ok(format!(
        "| {step} | {said}, {seconds:.1} s | {} |\n",
        peak()
    ))
}

/// The most memory that this process has had, in MiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let kib = line.and_then(|l| l.split_whitespace().next()?.parse().ok());
    kib.unwrap_or(0u64).div_ceil(1024)
}

fn open(folder: &Path) -> Outcome<IndexStage> {
    let (place, cache) = (folder.join("repository"), folder.join("cache"));
    std::fs::create_dir_all(&cache)?;
    let environment = Environment {
        clock: Arc::new(FixedClock(Timestamp::default())),
        process: HostIdentity::default(),
        liveness: Arc::new(NoLiveness),
        state: Arc::new(FolderState(cache.clone())),
        cache: Some(cache),
        threads: 2,
    };
    let none = Credential::None;
    let repository = if place.exists() {
        Repository::open(Arc::new(Local::open(&place)?), &none, environment)?
    } else {
        let options = InitOptions {
            encryption: Encryption::None,
            label: String::new(),
        };
        let backend = Arc::new(Local::create(&place)?);
        Repository::init(backend, &none, &options, environment)?
    };
    Ok(IndexStage::new(repository))
}

/// A bijection that looks random (the finaliser of SplitMix64).
fn mix(n: u64) -> u64 {
    let n = (n ^ n >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ n >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ n >> 31
}

fn scattered(n: u32) -> u32 {
    (mix(u64::from(n) + 0x9e37_79b9_7f4a_7c15) >> 32) as u32
}

fn id(n: u32) -> ChunkId {
    let mut id = [0; 32];
    for (part, to) in (0u64..).zip(id.chunks_exact_mut(8)) {
        to.copy_from_slice(&mix(u64::from(n) << 2 | part).to_le_bytes());
    }
    ChunkId(id)
}

fn pack(n: u32) -> PackId {
    PackId(*blake3::hash(&n.to_le_bytes()).as_bytes())
}

fn packs(chunks: u32) -> HashMap<PackId, u64> {
    let bytes = u64::from(PACK) * u64::from(STORED);
    (0..chunks.div_ceil(PACK))
        .map(|n| (pack(n), bytes))
        .collect()
}

/// The row of the chunk that was stored as number `n`, in a segment whose first pack is `first`.
fn row(n: u32, first: u32) -> SegmentRow {
    let level = n / NIGHT % CHAIN;
    let mut bases = Bases::NONE;
    if n.is_multiple_of(3) && level > 0 {
        let before = n - NIGHT;
        let fits = bases.push(id(before).as_base()) && bases.push(id(before + 1).as_base());
        assert!(fits, "two bases fit");
    }
    let delta = !bases.is_empty();
    SegmentRow {
        id: id(n),
        pack: n / PACK - first,
        offset: n % PACK * STORED,
        stored: STORED,
        slot: 0,
        plain: 60_000 + scattered(n) % 10_000,
        encoding: if delta {
            Encoding::Delta
        } else {
            Encoding::Zstd
        },
        depth: if delta { level as u8 } else { 0 },
        bases,
    }
}

fn make(stage: &IndexStage, chunks: u32) -> Outcome<String> {
    let mut bytes = 0;
    for from in (0..chunks).step_by(SEGMENT as usize) {
        let to = chunks.min(from + SEGMENT);
        let (first, last) = (from / PACK, (to - 1) / PACK);
        let named = |n| SegmentPack {
            id: pack(n),
            session: Uuid([1; 16]),
            tree: false,
        };
        let mut segment = Segment {
            supersedes: Vec::new(),
            packs: (first..=last).map(named).collect(),
            rows: (from..to).map(|n| row(n, first)).collect(),
        };
        bytes += stage.put(&mut segment)?;
    }
    let each = bytes as f64 / f64::from(chunks);
    Ok(format!("{each:.1} bytes a chunk in segments"))
}

fn load(stage: &IndexStage, chunks: u32, folder: &Path) -> Outcome<String> {
    let begun = Instant::now();
    stage.update()?;
    let rate = f64::from(chunks) / begun.elapsed().as_secs_f64();
    let mut files = std::fs::read_dir(folder.join("cache"))?;
    let is_index = |name: &Path| name.extension().is_some_and(|e| e == "redb");
    let file = files.find_map(|e| e.ok().map(|e| e.path()).filter(|p| is_index(p)));
    let file: PathBuf = file.ok_or("there is no index")?;
    // redb makes the file longer than it fills it: only what is filled takes room.
    let filled = std::fs::metadata(file)?.blocks() * 512;
    let each = filled as f64 / f64::from(chunks);
    Ok(format!("{rate:.0} rows/s, {each:.1} bytes a row on disk"))
}

/// Asks for the chunks that `which` names: all of them are there, or none is.
fn look_up(
    stage: &IndexStage,
    chunks: u32,
    count: u32,
    which: impl Fn(u32) -> u32,
) -> Outcome<String> {
    stage.update()?;
    let view = stage.view(packs(chunks))?;
    let begun = Instant::now();
    let mut found = 0;
    for n in 0..count {
        found += u32::from(view.is_usable(&id(which(n)))?);
    }
    let rate = f64::from(count) / begun.elapsed().as_secs_f64();
    if found != 0 && found != count {
        return Err(format!("{found} of {count} found").into());
    }
    Ok(format!("{rate:.0} look-ups/s"))
}

/// A tenth of the chunks is referred to by no snapshot any more.
fn mark(stage: &IndexStage, chunks: u32) -> Outcome<String> {
    let mut said = String::new();
    stage.update()?;
    let view = stage.view(packs(chunks))?;
    let begun = Instant::now();
    let [packs, bases, lost] = view.weigh(chunks, |n| !scattered(n).is_multiple_of(10))?;
    let rate = f64::from(chunks) / begun.elapsed().as_secs_f64();
    write!(
        said,
        "{rate:.0} rows/s, {packs} packs, {bases} bases live for others"
    )?;
    if lost > 0 {
        return Err(format!("{lost} chunks are lost").into());
    }
    Ok(said)
}

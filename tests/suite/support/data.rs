//! Generated data: the same seed gives the same bytes, so that a failure can be repeated.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// SplitMix64 (Steele, Lea, Flood 2014): small, seeded, good enough for test data.
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    /// Bytes that do not compress.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }

    /// Lines that compress as a dump does.
    pub fn lines(&mut self, len: usize) -> Vec<u8> {
        let mut text = Vec::with_capacity(len + 80);
        while text.len() < len {
            let (id, price) = (self.below(1 << 24), self.below(10_000));
            let line = format!("INSERT INTO sales VALUES ({id}, 'article {price}', {price});\n");
            text.extend_from_slice(line.as_bytes());
        }
        text.truncate(len);
        text
    }
}

/// A seed from the environment (`HUCHA_SEED`), or the clock; it is printed, so that a failure can
/// be repeated.
pub fn seed(what: &str) -> u64 {
    let given = std::env::var("HUCHA_SEED")
        .ok()
        .and_then(|s| s.parse().ok());
    let seed = given.unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        now.unwrap_or(Duration::ZERO).as_micros() as u64 % 1_000_000_007
    });
    eprintln!("{what}: HUCHA_SEED={seed}");
    seed
}

/// A small tree with folders, files of several sizes, and links.
pub fn small_tree(root: &Path, seed: u64) {
    let mut random = Random(seed);
    for folder in ["", "a", "a/b", "c", "empty"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    for (name, len) in [
        ("none", 0),
        ("one", 1),
        ("inline", 400),
        ("a/small", 5_000),
        ("a/b/large", 900_000),
        ("c/other", 70_000),
    ] {
        fs::write(root.join(name), random.bytes(len)).unwrap();
    }
    fs::write(root.join("c/lines"), random.lines(300_000)).unwrap();
    std::os::unix::fs::symlink("a/small", root.join("link")).unwrap();
    fs::hard_link(root.join("c/other"), root.join("c/another")).unwrap();
}

/// Every file and folder below a folder, itself included, in order of their paths.
pub fn walk(root: &Path) -> Vec<std::path::PathBuf> {
    let mut found = vec![root.to_owned()];
    let mut folders = vec![root.to_owned()];
    folders.retain(|folder| folder.is_dir());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            }
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

/// Waits until nothing below a folder is so young that a snapshot distrusts its times: what it
/// writes of such files is not what the next one writes of them.
pub fn age(root: &Path) {
    let times = walk(root).into_iter().map(|path| {
        let meta = fs::symlink_metadata(path).unwrap();
        let (seconds, nanos) = (meta.ctime(), meta.ctime_nsec());
        Duration::new(seconds.try_into().unwrap(), nanos.try_into().unwrap())
    });
    let newest = SystemTime::UNIX_EPOCH + times.max().unwrap();
    let old = |by: Duration| by > Duration::from_millis(30);
    while !newest.elapsed().is_ok_and(old) {
        std::thread::yield_now();
    }
}

/// Files below a folder, without the folders.
pub fn files(root: &Path) -> Vec<std::path::PathBuf> {
    let mut found = if root.exists() {
        walk(root)
    } else {
        Vec::new()
    };
    found.retain(|path| !path.is_dir());
    found
}

/// Bytes of all files below a folder.
pub fn bytes_below(root: &Path) -> u64 {
    files(root)
        .iter()
        .map(|f| fs::symlink_metadata(f).unwrap().len())
        .sum()
}

/// Copies a folder with everything in it.
pub fn copy_folder(from: &Path, to: &Path) {
    let mut cp = std::process::Command::new("cp");
    super::tool(cp.arg("-a").arg("-T").arg(from).arg(to));
}

//! Seeded nights of data that changes a little: a table as a dump in heap order or in key order,
//! the same in pages that are changed in place, and a tree of packages in versions.

use std::fs;
use std::path::Path;

use super::data::Random;

const WORDS: [&str; 24] = [
    "anchor", "basket", "candle", "drawer", "engine", "feather", "garden", "hammer", "island",
    "jacket", "kettle", "ladder", "magnet", "needle", "orange", "pocket", "quiver", "ribbon",
    "saddle", "tunnel", "urchin", "velvet", "window", "yellow",
];

/// One row: its key, and how often it was updated.
#[derive(Clone, Copy)]
struct Row {
    key: u64,
    version: u64,
}

impl Row {
    fn line(self) -> String {
        let mut fixed = Random(self.key);
        let mut state = Random(self.key << 20 | self.version);
        let mut line = format!(
            "{}\t{}\t2026-{:02}-{:02} {:02}:{:02}\t{}.{:02}\t",
            self.key,
            fixed.below(90_000),
            1 + self.key / 40_000 % 12,
            1 + self.key / 1500 % 28,
            self.key / 60 % 24,
            self.key % 60,
            state.below(900),
            state.below(100),
        );
        for _ in 0..3 + fixed.below(5) {
            line.push_str(WORDS[fixed.below(24) as usize]);
            line.push(' ');
        }
        line.push_str(&format!("{:x}\n", fixed.below(1 << 32)));
        line
    }
}

/// A table of orders. A night updates one row in a hundred, two thirds of them among the newest
/// tenth, adds one in three hundred, and deletes one in a thousand.
pub struct Table {
    /// Places of the heap; freed ones are `None`.
    places: Vec<Option<Row>>,
    free: Vec<usize>,
    next: u64,
    random: Random,
}

impl Table {
    /// So many rows, of some 80 bytes each.
    pub fn new(rows: u64, seed: u64) -> Table {
        let row = |key| Some(Row { key, version: 0 });
        Table {
            places: (0..rows).map(row).collect(),
            free: Vec::new(),
            next: rows,
            random: Random(seed),
        }
    }

    /// One night's work.
    pub fn work(&mut self) {
        let rows = self.places.len() as u64;
        let mut put = Vec::new();
        let mut freed = Vec::new();
        for n in 0..rows / 100 {
            let from = if n % 3 > 0 { rows - rows / 10 } else { 0 };
            let at = (from + self.random.below(rows - from)) as usize;
            if let Some(row) = self.places[at].take() {
                freed.push(at);
                let version = row.version + 1;
                put.push(Row { version, ..row });
            }
        }
        for _ in 0..rows / 1000 {
            let at = self.random.below(rows) as usize;
            freed.extend(self.places[at].take().map(|_| at));
        }
        for key in self.next..self.next + rows / 300 {
            put.push(Row { key, version: 0 });
        }
        self.next += rows / 300;
        for row in put {
            match self.free.pop() {
                Some(at) => self.places[at] = Some(row),
                None => self.places.push(Some(row)),
            }
        }
        self.free.extend(freed);
        self.free.sort_unstable_by(|a, b| b.cmp(a));
    }

    /// As a dump writes it: rows where the heap has them.
    pub fn in_heap_order(&self) -> Vec<u8> {
        let lines = self.places.iter().flatten().map(|row| row.line());
        lines.collect::<String>().into_bytes()
    }

    /// Rows by their keys.
    pub fn in_key_order(&self) -> Vec<u8> {
        let mut rows: Vec<Row> = self.places.iter().flatten().copied().collect();
        rows.sort_unstable_by_key(|row| row.key);
        let lines = rows.iter().map(|row| row.line());
        lines.collect::<String>().into_bytes()
    }

    /// As a database keeps it: 4 KiB pages of 32 places each, filled from their ends, behind one
    /// that tells what the file is.
    pub fn in_pages(&self) -> Vec<u8> {
        let mut file = b"SQLite format 3\0".to_vec();
        file.resize(4096, 0);
        for places in self.places.chunks(32) {
            let mut page = vec![0u8; 4096];
            let mut end = 4096;
            for (slot, row) in places.iter().enumerate() {
                let line = row.map(Row::line).unwrap_or_default();
                if line.is_empty() || end < line.len() + 64 {
                    continue;
                }
                end -= line.len();
                page[end..end + line.len()].copy_from_slice(line.as_bytes());
                page[slot * 2..slot * 2 + 2].copy_from_slice(&(end as u16).to_be_bytes());
            }
            file.extend_from_slice(&page);
        }
        file
    }
}

/// Packages of thirty files each, below a folder that names their version.
pub struct Packages {
    versions: Vec<u64>,
    random: Random,
}

const FILES: u64 = 30;

impl Packages {
    /// Writes so many packages.
    pub fn write(root: &Path, packages: usize, seed: u64) -> Packages {
        let all = Packages {
            versions: vec![1; packages],
            random: Random(seed),
        };
        (0..packages).for_each(|package| all.write_one(root, package));
        all
    }

    /// New versions of one package in ten: in every third file some lines change.
    pub fn work(&mut self, root: &Path) {
        for _ in 0..self.versions.len() / 10 {
            let package = self.random.below(self.versions.len() as u64) as usize;
            fs::remove_dir_all(root.join(self.name(package))).unwrap();
            self.versions[package] += 1;
            self.write_one(root, package);
        }
    }

    fn name(&self, package: usize) -> String {
        format!("package{package}-1.{}", self.versions[package])
    }

    fn write_one(&self, root: &Path, package: usize) {
        let folder = root.join(self.name(package));
        fs::create_dir_all(&folder).unwrap();
        for file in 0..FILES {
            let text = self.text(package as u64, file);
            fs::write(folder.join(format!("module{file}.txt")), text).unwrap();
        }
    }

    fn text(&self, package: u64, file: u64) -> String {
        let mut words = Random(package << 10 | file);
        let lines = 40 + words.below(200);
        let mut lines: Vec<String> = (0..lines)
            .map(|_| {
                let line: Vec<&str> = (0..8).map(|_| WORDS[words.below(24) as usize]).collect();
                format!("{} = {:x};\n", line.join("_"), words.below(1 << 28))
            })
            .collect();
        // Changes of all versions so far.
        for version in 2..=self.versions[package as usize] {
            let mut change = Random(package << 30 | version << 10 | file);
            for _ in 0..if change.below(3) == 0 { 3 } else { 0 } {
                let at = change.below(lines.len() as u64) as usize;
                lines[at] = format!("changed = {:x};\n", change.below(1 << 28));
            }
        }
        lines.concat()
    }
}

//! A bounded table from super-features to chunks, in a file of the cache folder or in memory.
//!
//! A file of fixed size holds buckets of eight entries, the newest first; the ninth pushes the
//! oldest out. Processes share the file without a lock: half an entry is a chunk that nobody finds.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::id::BaseRef;

/// The file's name; the number changes with its form, or with that of features.
pub(super) const NAME: &str = "similar-1";
/// Buckets of the file: with all of them full it takes 20 MiB, for 350,000 chunks.
const BUCKETS: u64 = 1 << 17;
const ENTRIES: usize = 8;
/// Bytes of an entry: tag(4), chunk(16).
const ENTRY: usize = 20;
const BUCKET: usize = ENTRIES * ENTRY;
/// Buckets of a table in memory.
const MEMORY_BUCKETS: u64 = 1 << 12;

/// The table.
pub(super) struct Table {
    path: Option<PathBuf>,
    open: Mutex<Option<Buckets>>,
}

enum Buckets {
    File(File),
    Memory(Vec<u8>),
    /// It cannot be opened: nothing is found.
    None,
}

/// One entry.
type Entry = ([u8; 4], [u8; 16]);

impl Table {
    /// In a folder, or in memory.
    pub fn new(folder: Option<&Path>) -> Table {
        Table {
            path: folder.map(|folder| folder.join(NAME)),
            open: Mutex::new(None),
        }
    }

    /// The chunks under a super-feature, the newest first.
    pub fn find(&self, feature: u64) -> Vec<BaseRef> {
        let tag = tag(feature);
        let entries = self.with(|buckets| buckets.read(feature));
        let same = entries.into_iter().filter(|(other, _)| *other == tag);
        same.map(|(_, base)| BaseRef(base)).collect()
    }

    /// Puts a chunk under a super-feature.
    pub fn insert(&self, feature: u64, base: BaseRef) {
        let entry = (tag(feature), base.0);
        self.with(|buckets| {
            let mut entries = buckets.read(feature)?;
            if entries.first() == Some(&entry) {
                return Ok(Vec::new());
            }
            entries.retain(|other| *other != entry);
            entries.insert(0, entry);
            entries.truncate(ENTRIES);
            buckets.write(feature, &entries)?;
            Ok(Vec::new())
        });
    }

    /// Does something with the buckets, which are opened when nobody did before. What fails ends
    /// the use of the table.
    fn with(&self, act: impl FnOnce(&mut Buckets) -> io::Result<Vec<Entry>>) -> Vec<Entry> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let buckets = open.get_or_insert_with(|| match &self.path {
            Some(path) => open_file(path).map_or(Buckets::None, Buckets::File),
            None => Buckets::Memory(Vec::new()),
        });
        act(buckets).unwrap_or_else(|_| {
            *open = Some(Buckets::None);
            Vec::new()
        })
    }
}

impl Buckets {
    fn read(&mut self, feature: u64) -> io::Result<Vec<Entry>> {
        let mut bytes = [0; BUCKET];
        match self {
            Buckets::File(file) => {
                file.seek(SeekFrom::Start(feature % BUCKETS * BUCKET as u64))?;
                let mut part = file.take(BUCKET as u64);
                let mut room = &mut bytes[..];
                // Behind the end of the file there is nothing yet.
                while !room.is_empty() {
                    match part.read(room)? {
                        0 => break,
                        n => room = room.get_mut(n..).unwrap_or_default(),
                    }
                }
            }
            Buckets::Memory(all) => {
                let at = (feature % MEMORY_BUCKETS) as usize * BUCKET;
                if let Some(stored) = all.get(at..at + BUCKET) {
                    bytes.copy_from_slice(stored);
                }
            }
            Buckets::None => {}
        }
        let entry = |bytes: &[u8]| {
            let (tag, base) = bytes.split_first_chunk()?;
            Some((*tag, base.try_into().ok()?))
        };
        let entries = bytes.chunks_exact(ENTRY).filter_map(entry);
        Ok(entries.filter(|(_, base)| *base != [0; 16]).collect())
    }

    fn write(&mut self, feature: u64, entries: &[Entry]) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(BUCKET);
        for (tag, base) in entries {
            bytes.extend_from_slice(tag);
            bytes.extend_from_slice(base);
        }
        bytes.resize(BUCKET, 0);
        match self {
            Buckets::File(file) => {
                file.seek(SeekFrom::Start(feature % BUCKETS * BUCKET as u64))?;
                file.write_all(&bytes)?;
            }
            Buckets::Memory(all) => {
                all.resize(MEMORY_BUCKETS as usize * BUCKET, 0);
                let at = (feature % MEMORY_BUCKETS) as usize * BUCKET;
                if let Some(stored) = all.get_mut(at..at + BUCKET) {
                    stored.copy_from_slice(&bytes);
                }
            }
            Buckets::None => {}
        }
        Ok(())
    }
}

fn tag(feature: u64) -> [u8; 4] {
    let [.., a, b, c, d] = feature.to_le_bytes();
    [a, b, c, d]
}

fn open_file(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_eight_of_a_bucket_stay() {
        let folder = tempfile::tempdir().unwrap();
        for table in [Table::new(Some(folder.path())), Table::new(None)] {
            for n in 1..=10 {
                table.insert(42, BaseRef([n; 16]));
            }
            table.insert(42, BaseRef([5; 16]));
            // Another tag in the same bucket pushes the oldest out.
            table.insert(42 | 1 << 40, BaseRef([11; 16]));
            let found: Vec<u8> = table.find(42).iter().map(|b| b.0[0]).collect();
            assert_eq!(found, [5, 10, 9, 8, 7, 6, 4]);
            assert_eq!(table.find(42 | 1 << 40), [BaseRef([11; 16])]);
            assert_eq!(table.find(43), []);
        }
    }

    #[cfg(unix)]
    #[test]
    fn the_file_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let table = Table::new(Some(folder.path()));
        table.insert(1, BaseRef([1; 16]));
        let mode = std::fs::metadata(folder.path().join(NAME)).unwrap();
        assert_eq!(mode.permissions().mode() & 0o777, 0o600);
    }
}

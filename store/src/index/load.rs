//! What is loaded into an index: rows of many segments in one order of ids, in parts that fit in
//! memory. An index of scattered ids is filled in order, or it reads and writes all of itself for
//! every few segments.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::{Applied, Bases, Encoding, IndexError, check_segment};
use crate::format::segment::{Segment, SegmentPack, SegmentRow};
use crate::id::{BaseRef, ChunkId, PackId, SegmentId};

/// Segments that are applied together. Read once, from its beginning to its end.
pub trait Load {
    /// The segments.
    fn segments(&self) -> &[Applied];

    /// The packs that rows name, by position, each once.
    fn packs(&self) -> &[SegmentPack];

    /// The rows of some ids, those of all segments and above those of all calls before, sorted by
    /// id, then pack. `None`: that was all.
    ///
    /// # Errors
    /// When what was laid aside cannot be read.
    fn next(&mut self) -> Result<Option<Vec<SegmentRow>>, IndexError>;
}

/// Packs, each once.
#[derive(Default)]
struct Packs {
    all: Vec<SegmentPack>,
    numbers: HashMap<PackId, u32>,
}

impl Packs {
    /// The numbers of a segment's packs, by position.
    fn add(&mut self, segment: &Segment) -> Vec<u32> {
        let mut numbers = Vec::with_capacity(segment.packs.len());
        for pack in &segment.packs {
            let next = self.all.len() as u32;
            let number = *self.numbers.entry(pack.id).or_insert(next);
            if number == next {
                self.all.push(pack.clone());
            }
            numbers.push(number);
        }
        numbers
    }
}

/// Rows of a part, about: 120 bytes each in memory.
pub(super) const PART_ROWS: u64 = 1 << 18;
/// Most parts; beyond a hundred million rows they grow.
const MAX_BITS: u32 = 9;
/// Bytes of a part that are laid aside at once.
const EXTENT: usize = 32 << 10;
/// Bytes of a segment for a row; a row takes more, so there are rather too many parts.
pub(super) const ROW_BYTES: u64 = 40;

/// Segments that were read, cut into parts by the upper bits of ids. What does not fit in memory
/// is laid aside in an unnamed file.
pub(super) struct Gathered<'f> {
    folder: Option<&'f Path>,
    segments: Vec<Applied>,
    packs: Packs,
    bits: u32,
    parts: Vec<Part>,
    file: Option<File>,
    end: u64,
    next: usize,
}

#[derive(Default)]
struct Part {
    /// Rows that are not laid aside, encoded.
    bytes: Vec<u8>,
    /// Where the others are.
    aside: Vec<(u64, u32)>,
}

impl<'f> Gathered<'f> {
    /// For segments of about so many stored bytes. Without a folder all stays in memory.
    pub fn new(stored: u64, folder: Option<&'f Path>) -> Gathered<'f> {
        let parts = (stored / ROW_BYTES).div_ceil(PART_ROWS).max(1);
        let bits = parts.next_power_of_two().ilog2().min(MAX_BITS);
        Gathered {
            folder: folder.filter(|_| bits > 0),
            segments: Vec::new(),
            packs: Packs::default(),
            bits,
            parts: (0..1 << bits).map(|_| Part::default()).collect(),
            file: None,
            end: 0,
            next: 0,
        }
    }

    /// Adds a segment. One whose rows are not what they must be is refused.
    pub fn add(&mut self, id: SegmentId, segment: &Segment) -> Result<(), IndexError> {
        check_segment(segment)?;
        if self.segments.iter().any(|s| s.id == id) {
            return Ok(());
        }
        self.segments.push(Applied {
            id,
            supersedes: segment.supersedes.clone(),
        });
        let numbers = self.packs.add(segment);
        for row in &segment.rows {
            let number = numbers.get(row.pack as usize).copied();
            let number = number.ok_or_else(|| IndexError("a row names no pack".into()))?;
            let upper = row.id.0.first_chunk().map_or(0, |b| u32::from_be_bytes(*b));
            let at = u64::from(upper) >> (32 - self.bits);
            let part = self.parts.get_mut(at as usize);
            let part = part.ok_or_else(|| IndexError("an id belongs to no part".into()))?;
            encode(row, number, &mut part.bytes);
            if let Some(folder) = self.folder.filter(|_| part.bytes.len() >= EXTENT) {
                match lay_aside(&mut self.file, folder, &part.bytes) {
                    Ok(()) => {
                        part.aside.push((self.end, part.bytes.len() as u32));
                        self.end += part.bytes.len() as u64;
                        part.bytes.clear();
                    }
                    // A full disk, or no permission: the rest stays in memory.
                    Err(_) => self.folder = None,
                }
            }
        }
        Ok(())
    }

    /// Begins anew.
    pub fn rewind(&mut self) {
        self.next = 0;
    }
}

/// Appends to the unnamed file. After an error it is read, but never written again.
fn lay_aside(file: &mut Option<File>, folder: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let file = match file {
        Some(file) => file,
        none => none.insert(crate::pack::spool_file(folder)?),
    };
    file.write_all(bytes)
}

impl Part {
    fn read(&self, file: Option<&mut File>) -> Result<Vec<SegmentRow>, IndexError> {
        let mut rows = Vec::new();
        if let Some(file) = file {
            let mut buffer = Vec::new();
            for (from, len) in &self.aside {
                buffer.resize(*len as usize, 0);
                file.seek(SeekFrom::Start(*from)).map_err(failed)?;
                file.read_exact(&mut buffer).map_err(failed)?;
                decode(&buffer, &mut rows)?;
            }
        }
        decode(&self.bytes, &mut rows)?;
        // Several sorted runs: a stable sort merges them.
        rows.sort_by(|a, b| (&a.id, a.pack).cmp(&(&b.id, b.pack)));
        rows.dedup_by(|b, a| (&a.id, a.pack) == (&b.id, b.pack));
        Ok(rows)
    }
}

fn failed(error: std::io::Error) -> IndexError {
    IndexError(format!("rows that were laid aside cannot be read: {error}"))
}

impl Load for Gathered<'_> {
    fn segments(&self) -> &[Applied] {
        &self.segments
    }

    fn packs(&self) -> &[SegmentPack] {
        &self.packs.all
    }

    fn next(&mut self) -> Result<Option<Vec<SegmentRow>>, IndexError> {
        let part = self.parts.get(self.next);
        self.next += 1;
        part.map(|part| part.read(self.file.as_mut())).transpose()
    }
}

/// Bytes of a row that is laid aside, without its bases.
const FIXED: usize = 32 + 4 * 4 + 4;

fn encode(row: &SegmentRow, pack: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(&row.id.0);
    for number in [pack, row.offset, row.stored, row.plain] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(&[
        row.slot,
        row.depth,
        row.encoding as u8,
        row.bases.len() as u8,
    ]);
    for base in row.bases.iter() {
        out.extend_from_slice(&base.0);
    }
}

fn decode(mut bytes: &[u8], rows: &mut Vec<SegmentRow>) -> Result<(), IndexError> {
    let bad = || IndexError("rows that were laid aside are damaged".into());
    while let Some((fixed, rest)) = bytes.split_first_chunk::<FIXED>() {
        let (id, numbers) = fixed.split_first_chunk::<32>().ok_or_else(bad)?;
        let (numbers, small) = numbers.split_first_chunk::<16>().ok_or_else(bad)?;
        let ([pack, offset, stored, plain], &[slot, depth, encoding, count]) =
            (numbers.as_chunks::<4>().0, small)
        else {
            return Err(bad());
        };
        bytes = rest;
        let mut bases = Bases::NONE;
        for _ in 0..count {
            let (base, rest) = bytes.split_first_chunk::<16>().ok_or_else(bad)?;
            bytes = rest;
            if !bases.push(BaseRef(*base)) {
                return Err(bad());
            }
        }
        rows.push(SegmentRow {
            id: ChunkId(*id),
            pack: u32::from_le_bytes(*pack),
            offset: u32::from_le_bytes(*offset),
            stored: u32::from_le_bytes(*stored),
            slot,
            plain: u32::from_le_bytes(*plain),
            encoding: Encoding::from_number(encoding).ok_or_else(bad)?,
            depth,
            bases,
        });
    }
    if bytes.is_empty() { Ok(()) } else { Err(bad()) }
}

#[cfg(test)]
mod tests {
    use super::super::suite::{run_of, segment_id};
    use super::*;

    fn rows(gathered: &mut Gathered<'_>) -> Vec<SegmentRow> {
        let mut rows = Vec::new();
        while let Some(part) = gathered.next().unwrap() {
            rows.extend(part);
        }
        rows
    }

    fn in_parts(folder: Option<&Path>) -> Gathered<'_> {
        Gathered::new(PART_ROWS * ROW_BYTES * 4, folder)
    }

    #[test]
    fn rows_that_cannot_be_laid_aside_stay_in_memory() {
        let (one, two) = (run_of(0, 6000, 1), run_of(6000, 6000, 2));
        let mut model = in_parts(None);
        model.add(segment_id(1), &one).unwrap();
        model.add(segment_id(2), &two).unwrap();
        let rows_of_all = rows(&mut model);
        assert_eq!(rows_of_all.len(), 12_000);
        // The folder is not there.
        let dir = tempfile::tempdir().unwrap();
        let nowhere = dir.path().join("nowhere");
        let mut gathered = in_parts(Some(&nowhere));
        gathered.add(segment_id(1), &one).unwrap();
        gathered.add(segment_id(2), &two).unwrap();
        assert!(gathered.file.is_none());
        assert!(rows(&mut gathered) == rows_of_all);
        // What was laid aside before the first error counts.
        let name = dir.path().join("spool");
        let mut gathered = in_parts(Some(dir.path()));
        gathered.file = Some(File::create_new(&name).unwrap());
        gathered.add(segment_id(1), &one).unwrap();
        let aside = gathered.end;
        assert!(aside > 0);
        gathered.file = Some(File::open(&name).unwrap());
        gathered.add(segment_id(2), &two).unwrap();
        assert_eq!((gathered.end, gathered.folder), (aside, None));
        assert!(rows(&mut gathered) == rows_of_all);
        gathered.rewind();
        assert!(rows(&mut gathered) == rows_of_all);
    }
}

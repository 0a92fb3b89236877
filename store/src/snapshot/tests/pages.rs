//! Files that change in place are cut at multiples of 64 KiB, whatever happens on the way.

use super::*;
use crate::entry::{Entry, Extent};
use crate::reader::Reader;
use crate::tree::Tree;

const PAGE: u64 = 64 << 10;

/// So many bytes of a file that says that it is a database.
fn database(len: usize) -> Vec<u8> {
    let mut bytes = noise(len, "database");
    bytes[..16].copy_from_slice(b"SQLite format 3\0");
    bytes
}

/// Where the pieces of a file end: chunks, and holes.
fn ends(repository: &Repository, manifest: &Manifest, path: &[u8]) -> Vec<(u64, bool)> {
    let reader = Reader::new(repository);
    let tree = Tree::new(&reader, manifest.root);
    let entry = tree.find(path).unwrap().unwrap();
    let mut end = 0;
    let extents = tree.extents(&entry.content).unwrap();
    let end = extents.map(|extent| {
        let extent = extent.unwrap();
        end += extent.len();
        (end, matches!(extent, Extent::Chunk { .. }))
    });
    end.collect()
}

/// Whether every piece but the last ends at a page.
fn is_paged(ends: &[(u64, bool)]) -> bool {
    let all_but_last = ends.iter().rev().skip(1);
    ends.len() > 20 && all_but_last.clone().all(|(end, _)| end % PAGE == 0)
}

fn with_database(len: usize) -> MapSource {
    let mut source = MapSource::default();
    source.files.insert(b"base.db".to_vec(), database(len));
    let other = noise(3_000_000, "other");
    source.files.insert(b"other".to_vec(), other);
    source
}

#[test]
fn a_database_is_cut_at_its_pages_and_what_comes_after_it_is_not() {
    for threads in [0, 3] {
        let (_, repository) = new_repository(Encryption::None, threads);
        let mut source = with_database(3_000_001);
        let taken = run(&repository, &mut source, &every(u64::MAX)).unwrap();
        let of = |path: &[u8]| ends(&repository, &taken.manifest, path);
        assert!(is_paged(&of(b"base.db")), "{:?}", of(b"base.db"));
        assert!(of(b"other").iter().any(|(end, _)| end % PAGE != 0));
        // A page more in front of the last one leaves all others where they are.
        let changed = source.files.get_mut(&b"base.db"[..]).unwrap();
        changed.splice(2_949_120..2_949_120, noise(PAGE as usize, "more"));
        let night = run(&repository, &mut source, &every(u64::MAX)).unwrap();
        assert_eq!(night.manifest.new_bytes, PAGE);
    }
}

#[test]
fn a_database_that_is_read_on_is_cut_as_it_was() {
    for threads in [0, 3] {
        let (memory, repository) = new_repository(Encryption::None, threads);
        let source = with_database(9_000_000);
        let mut cut = Cut::after(&source, 6 * MIB + 12_345);
        assert!(run(&repository, &mut cut, &every(2 * MIB)).is_err());
        let other = testing::open(&memory, Encryption::None, threads);
        let taken = run(&other, &mut source.clone(), &every(u64::MAX)).unwrap();
        assert!(taken.resumed.is_some() && taken.read_bytes < total(&source) - 3 * MIB);
        assert!(is_paged(&ends(&other, &taken.manifest, b"base.db")));
        let mut out = Vec::new();
        crate::browse::cat(&other, &taken.manifest, b"base.db", &mut out).unwrap();
        assert!(out == source.files[&b"base.db"[..]]);
    }
}

/// One file with holes.
struct Holed(Vec<Part>);

#[derive(Clone)]
enum Part {
    Data(Vec<u8>),
    Hole(u64),
}

impl Source for Holed {
    fn paths(&self) -> Vec<Vec<u8>> {
        vec![b"/holed".to_vec()]
    }

    fn push(&mut self, sink: &mut dyn Sink) -> Result<(), SourceError> {
        let entry = Entry {
            path: b"image".to_vec(),
            kind: crate::entry::Kind::File,
            meta: crate::entry::Meta::default(),
            content: crate::entry::Content::None,
            xattrs: Vec::new(),
            group: None,
        };
        let mut open = || Ok(Box::new(Parts(self.0.clone())) as Box<dyn Contents>);
        Ok(sink.entry(entry, Some(&mut open))?)
    }
}

struct Parts(Vec<Part>);

impl Contents for Parts {
    fn next(&mut self, buffer: &mut [u8]) -> Result<Piece, ContentError> {
        match self.0.first_mut() {
            None => Ok(Piece::End),
            Some(Part::Data(bytes)) if bytes.is_empty() => {
                self.0.remove(0);
                self.next(buffer)
            }
            Some(Part::Data(bytes)) => {
                let n = bytes.len().min(buffer.len());
                buffer[..n].copy_from_slice(&bytes[..n]);
                bytes.drain(..n);
                Ok(Piece::Data(n))
            }
            Some(Part::Hole(len)) => {
                let len = *len;
                self.0.remove(0);
                Ok(Piece::Hole(len))
            }
        }
    }
}

#[test]
fn behind_a_hole_cuts_fall_on_pages_again() {
    let (_, repository) = new_repository(Encryption::None, 0);
    let mut source = Holed(vec![
        Part::Data(database(102_400)),
        Part::Hole(8_192),
        Part::Data(noise(300_000, "behind")),
    ]);
    let taken = run(&repository, &mut source, &every(u64::MAX)).unwrap();
    let ends = ends(&repository, &taken.manifest, b"image");
    let chunk = |end: u64| (end, true);
    let pages = (2..=6).map(|n| chunk(n * PAGE));
    let before = [chunk(PAGE), chunk(102_400), (110_592, false)];
    let expected: Vec<_> = before
        .into_iter()
        .chain(pages)
        .chain([chunk(410_592)])
        .collect();
    assert_eq!(ends, expected);
}

//! What is written is read again by programs of others: `tests/suite/archive.rs`. Here: it is
//! always the same, and has no end before it is finished.

use std::io::{self, Write};

use hucha_store::entry::{Content, Entry, Kind, Meta};
use hucha_store::target::{EntryWriter, FileBytes, Holes, Written};

use super::{TarWriter, ZipFile};

/// A file of some data, a hole and more data; it may fail.
struct Given {
    fails: bool,
}

impl FileBytes for Given {
    fn data(&self) -> io::Result<Vec<(u64, u64)>> {
        Ok(vec![(0, 600), (5000, 400)])
    }

    fn pour(&self, holes: Holes, into: &mut dyn Write) -> io::Result<()> {
        into.write_all(&[b'a'; 600])?;
        if self.fails {
            return Err(io::Error::other("damaged"));
        }
        if holes == Holes::Zeros {
            into.write_all(&[0; 4400])?;
        }
        into.write_all(&[b'b'; 400])
    }
}

fn entry(path: &[u8], kind: Kind) -> Entry {
    let size = if kind == Kind::File { 5400 } else { 0 };
    let meta = Meta {
        mode: 0o640,
        uid: 3_000_000,
        size,
        ..Meta::default()
    };
    Entry {
        path: path.to_vec(),
        kind,
        meta,
        content: Content::None,
        xattrs: Vec::new(),
        group: None,
    }
}

type Make = for<'a> fn(&'a mut dyn Write) -> Box<dyn EntryWriter + 'a>;
const BOTH: [Make; 2] = [
    |out| Box::new(TarWriter::new(out)),
    |out| Box::new(ZipFile::new(out)),
];

fn whole(make: Make) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = make(&mut out);
    for entry in [
        entry(b"", Kind::Folder),
        entry(b"d", Kind::Folder),
        entry(b"d/f", Kind::File),
        entry(b"l", Kind::Link(b"d/f".to_vec())),
    ] {
        let written = writer.entry(&entry, None, &Given { fails: false });
        assert_eq!(written.unwrap(), Written::Whole);
    }
    writer.finish().unwrap();
    out
}

#[test]
fn the_same_entries_give_the_same_bytes() {
    for make in BOTH {
        assert_eq!(whole(make), whole(make));
    }
}

#[test]
fn a_tar_file_says_what_headers_cannot() {
    let bytes = whole(BOTH[0]);
    let text = String::from_utf8_lossy(&bytes);
    assert_eq!(bytes.len() % 512, 0);
    assert!(bytes.ends_with(&[0; 1024]));
    for record in [
        "uid=3000000\n",
        "GNU.sparse.realsize=5400\n",
        "2\n0\n600\n5000\n400\n",
    ] {
        assert!(text.contains(record), "{record}");
    }
}

#[test]
fn what_is_not_finished_has_no_end() {
    for (make, end) in BOTH.into_iter().zip([&[0; 1024][..], b"PK\x05\x06"]) {
        let complete = whole(make);
        assert!(complete.windows(end.len()).any(|part| part == end));
        let mut out = Vec::new();
        let mut writer = make(&mut out);
        let file = entry(b"f", Kind::File);
        writer.entry(&file, None, &Given { fails: false }).unwrap();
        let failed = writer.entry(&entry(b"g", Kind::File), None, &Given { fails: true });
        assert!(failed.is_err());
        drop(writer);
        assert!(!out.is_empty());
        assert!(!out.windows(end.len()).any(|part| part == end));
    }
}

#[test]
fn what_a_format_has_not_is_told() {
    let bytes = Given { fails: false };
    let written = |make: Make, entry: &Entry| {
        let mut out = Vec::new();
        make(&mut out).entry(entry, None, &bytes).unwrap()
    };
    let odd = entry(b"\xff", Kind::File);
    assert_eq!(
        BOTH.map(|make| written(make, &odd)),
        [Written::Whole, Written::Renamed]
    );
    let pipe = entry(b"p", Kind::Fifo);
    assert_eq!(
        BOTH.map(|make| written(make, &pipe)),
        [Written::Whole, Written::LeftOut]
    );
    let socket = entry(b"s", Kind::Socket);
    assert_eq!(
        BOTH.map(|make| written(make, &socket)),
        [Written::LeftOut; 2]
    );
}

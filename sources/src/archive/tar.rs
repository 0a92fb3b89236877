//! tar as POSIX.1-2001 has it (pax), with what GNU tar, bsdtar and star add: attributes as
//! `SCHILY.xattr.*`, ACLs as `SCHILY.acl.*`, holes as `GNU.sparse` 1.0. Writes only; a header says
//! in a record beside it whatever its own fields cannot hold.

use std::io::{self, Write};

use hucha_store::clock::Timestamp;
use hucha_store::entry::{Entry, Kind};
use hucha_store::member::is_ours;
use hucha_store::target::{EntryWriter, FileBytes, Holes, Written};

use super::acl;

/// What everything in a tar file is a multiple of.
const UNIT: usize = 512;
/// The largest numbers of 7 and 11 octal digits.
const MAX_SMALL: u64 = 0o777_7777;
const MAX_LARGE: u64 = 0o777_7777_7777;

/// Writes a tar file.
pub struct TarWriter<'a> {
    out: &'a mut dyn Write,
}

impl<'a> TarWriter<'a> {
    /// Writes into `out`.
    pub fn new(out: &'a mut dyn Write) -> TarWriter<'a> {
        TarWriter { out }
    }

    fn pad(&mut self, written: u64) -> io::Result<()> {
        let rest = (written % UNIT as u64) as usize;
        let zeros = [0; UNIT];
        match rest {
            0 => Ok(()),
            rest => self.out.write_all(zeros.get(rest..).unwrap_or_default()),
        }
    }

    /// A header, and a record of its own before it for what does not fit.
    fn header(&mut self, header: &Header<'_>, mut records: Records) -> io::Result<()> {
        let plain = header.encode(&mut records);
        if !records.0.is_empty() {
            if !records.is_text() {
                records.add_first("hdrcharset", b"BINARY");
            }
            let beside = Header {
                name: b"PaxHeaders/record",
                kind: b'x',
                size: records.0.len() as u64,
                mode: 0o600,
                ..Header::default()
            };
            let beside = beside.encode(&mut Records::default());
            self.out.write_all(&beside)?;
            self.out.write_all(&records.0)?;
            self.pad(records.0.len() as u64)?;
        }
        self.out.write_all(&plain)
    }

    fn file(&mut self, header: Header<'_>, entry: &Entry, bytes: &dyn FileBytes) -> io::Result<()> {
        let mut records = records(entry);
        let data = bytes.data()?;
        let stored: u64 = data.iter().map(|(_, len)| len).sum();
        if stored == entry.meta.size {
            let size = stored;
            self.header(&Header { size, ..header }, records)?;
            bytes.pour(Holes::Zeros, self.out)?;
            return self.pad(stored);
        }
        let map = sparse_map(&data, entry.meta.size);
        records.add("GNU.sparse.major", b"1");
        records.add("GNU.sparse.minor", b"0");
        records.add("GNU.sparse.name", header.name);
        records.add(
            "GNU.sparse.realsize",
            entry.meta.size.to_string().as_bytes(),
        );
        let name = [b"GNUSparseFile.0/", header.name].concat();
        let sparse = Header {
            name: &name,
            size: map.len() as u64 + stored,
            ..header
        };
        self.header(&sparse, records)?;
        self.out.write_all(&map)?;
        bytes.pour(Holes::Nothing, self.out)?;
        self.pad(stored)
    }
}

impl EntryWriter for TarWriter<'_> {
    fn entry(
        &mut self,
        entry: &Entry,
        first: Option<&[u8]>,
        bytes: &dyn FileBytes,
    ) -> io::Result<Written> {
        let name = match (&entry.kind, entry.path.as_slice()) {
            (Kind::Folder, b"") => b"./".to_vec(),
            (Kind::Folder, path) => [path, b"/"].concat(),
            (_, path) => path.to_vec(),
        };
        let mut header = Header {
            name: &name,
            mode: entry.meta.mode & 0o7777,
            uid: entry.meta.uid,
            gid: entry.meta.gid,
            user: entry.meta.user.as_deref().unwrap_or_default(),
            group: entry.meta.group.as_deref().unwrap_or_default(),
            mtime: entry.meta.mtime,
            ..Header::default()
        };
        if let Some(first) = first {
            header.kind = b'1';
            header.link = first;
            self.header(&header, records(entry))?;
            return Ok(Written::Whole);
        }
        header.kind = match &entry.kind {
            Kind::File => {
                header.kind = b'0';
                self.file(header, entry, bytes)?;
                return Ok(Written::Whole);
            }
            Kind::Link(to) => {
                header.link = to;
                b'2'
            }
            Kind::CharDevice { major, minor } => {
                header.device = (*major, *minor);
                b'3'
            }
            Kind::BlockDevice { major, minor } => {
                header.device = (*major, *minor);
                b'4'
            }
            Kind::Folder => b'5',
            Kind::Fifo => b'6',
            Kind::Socket => return Ok(Written::LeftOut),
        };
        self.header(&header, records(entry))?;
        Ok(Written::Whole)
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        self.out.write_all(&[0; 2 * UNIT])?;
        self.out.flush()
    }
}

/// The records of what no header holds: attributes and ACLs.
fn records(entry: &Entry) -> Records {
    let mut records = Records::default();
    for xattr in entry.xattrs.iter().filter(|xattr| !is_ours(xattr)) {
        let acl = match xattr.name.as_slice() {
            b"system.posix_acl_access" => Some("SCHILY.acl.access"),
            b"system.posix_acl_default" => Some("SCHILY.acl.default"),
            _ => None,
        };
        match acl.and_then(|key| Some((key, acl::text(&xattr.value)?))) {
            Some((key, text)) => records.add(key, text.as_bytes()),
            // A name with `=` cannot be told from its value.
            None if xattr.name.contains(&b'=') => {}
            None => {
                let key = [b"SCHILY.xattr.", xattr.name.as_slice()].concat();
                records.add_bytes(&key, &xattr.value);
            }
        }
    }
    records
}

/// Where data is, in decimal lines, in whole units: GNU tar's manual, "PAX Format, Version 1.0".
fn sparse_map(data: &[(u64, u64)], size: u64) -> Vec<u8> {
    let mut ranges = data.to_vec();
    let end = ranges.last().map_or(0, |(at, len)| at + len);
    if end < size {
        ranges.push((size, 0));
    }
    let mut map = format!("{}\n", ranges.len());
    for (at, len) in ranges {
        map += &format!("{at}\n{len}\n");
    }
    let mut map = map.into_bytes();
    map.resize(map.len().next_multiple_of(UNIT), 0);
    map
}

/// Records beside a header: `length key=value`, the length that of the whole record.
#[derive(Default)]
struct Records(Vec<u8>);

impl Records {
    fn add(&mut self, key: &str, value: &[u8]) {
        self.add_bytes(key.as_bytes(), value);
    }

    fn add_bytes(&mut self, key: &[u8], value: &[u8]) {
        // Blank, `=` and the end of the line.
        let rest = key.len() + value.len() + 3;
        let mut len = rest + 1;
        while len != rest + len.to_string().len() {
            len = rest + len.to_string().len();
        }
        self.0.extend_from_slice(len.to_string().as_bytes());
        self.0.push(b' ');
        self.0.extend_from_slice(key);
        self.0.push(b'=');
        self.0.extend_from_slice(value);
        self.0.push(b'\n');
    }

    fn add_first(&mut self, key: &str, value: &[u8]) {
        let rest = std::mem::take(self);
        self.add(key, value);
        self.0.extend(rest.0);
    }

    /// Whether names and values are UTF-8, as the standard wants them without further notice.
    fn is_text(&self) -> bool {
        std::str::from_utf8(&self.0).is_ok()
    }
}

/// What a header holds.
#[derive(Default, Clone, Copy)]
struct Header<'a> {
    name: &'a [u8],
    kind: u8,
    link: &'a [u8],
    size: u64,
    mode: u32,
    uid: u32,
    gid: u32,
    user: &'a [u8],
    group: &'a [u8],
    mtime: Timestamp,
    device: (u32, u32),
}

impl Header<'_> {
    /// The header's bytes; what does not fit goes to the records.
    fn encode(&self, records: &mut Records) -> [u8; UNIT] {
        let mut fields = Vec::with_capacity(UNIT);
        let mut beside = Records::default();
        let mut text = |fields: &mut Vec<u8>, key: &str, value: &[u8], room: usize| {
            let short = value.get(..value.len().min(room)).unwrap_or_default();
            if short.len() < value.len() || !value.is_ascii() {
                beside.add(key, value);
            }
            fields.extend_from_slice(short);
            fields.resize(fields.len() + room - short.len(), 0);
        };
        let is_sparse = self.name.starts_with(b"GNUSparseFile.0/");
        // The real name of such a file stands in a record of its own.
        text(
            &mut fields,
            if is_sparse { "" } else { "path" },
            self.name,
            100,
        );
        let mut number = |fields: &mut Vec<u8>, key: &str, value: u64, digits: usize| {
            let most = if digits == 7 { MAX_SMALL } else { MAX_LARGE };
            if value > most {
                beside_number(records, key, value);
            }
            let value = if value > most { 0 } else { value };
            fields.extend_from_slice(format!("{value:0digits$o}\0").as_bytes());
        };
        number(&mut fields, "", u64::from(self.mode), 7);
        number(&mut fields, "uid", u64::from(self.uid), 7);
        number(&mut fields, "gid", u64::from(self.gid), 7);
        number(&mut fields, "size", self.size, 11);
        let seconds = u64::try_from(self.mtime.seconds).unwrap_or(0);
        number(&mut fields, "", seconds.min(MAX_LARGE), 11);
        fields.extend_from_slice(b"        ");
        fields.push(self.kind);
        text(&mut fields, "linkpath", self.link, 100);
        fields.extend_from_slice(b"ustar\x0000");
        text(&mut fields, "uname", self.user, 32);
        text(&mut fields, "gname", self.group, 32);
        number(&mut fields, "SCHILY.devmajor", u64::from(self.device.0), 7);
        number(&mut fields, "SCHILY.devminor", u64::from(self.device.1), 7);
        fields.resize(UNIT, 0);
        if self.mtime.nanos != 0 || seconds > MAX_LARGE || self.mtime.seconds < 0 {
            records.add("mtime", decimal(self.mtime).as_bytes());
        }
        records.0.extend(beside.0);
        let sum: u32 = fields.iter().map(|b| u32::from(*b)).sum();
        let mut header = [0; UNIT];
        header.copy_from_slice(&fields);
        if let Some(place) = header.get_mut(148..156) {
            place.copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        header
    }
}

fn beside_number(records: &mut Records, key: &str, value: u64) {
    if !key.is_empty() {
        records.add(key, value.to_string().as_bytes());
    }
}

/// Seconds with their fraction.
fn decimal(time: Timestamp) -> String {
    let nanos = time.nanos.min(999_999_999);
    let (sign, seconds, nanos) = match (time.seconds < 0, nanos) {
        (false, nanos) => ("", time.seconds.unsigned_abs(), nanos),
        (true, 0) => ("-", time.seconds.unsigned_abs(), 0),
        // The fraction counts upwards from a second before 1970.
        (true, nanos) => ("-", time.seconds.unsigned_abs() - 1, 1_000_000_000 - nanos),
    };
    match nanos {
        0 => format!("{sign}{seconds}"),
        nanos => format!("{sign}{seconds}.{nanos:09}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_count_themselves() {
        let record = |key: &str, value: &[u8]| {
            let mut records = Records::default();
            records.add(key, value);
            records.0
        };
        assert_eq!(record("a", b"b"), b"6 a=b\n");
        assert_eq!(record("abc", b"d"), b"8 abc=d\n");
        assert_eq!(record("abcd", b"e"), b"9 abcd=e\n");
        assert_eq!(record("abcde", b"f"), b"11 abcde=f\n");
        for len in 80..120 {
            let bytes = record("k", &vec![b'x'; len]);
            let told: usize = String::from_utf8_lossy(&bytes)
                .split(' ')
                .next()
                .unwrap()
                .parse()
                .unwrap();
            assert_eq!(told, bytes.len());
        }
    }

    #[test]
    fn times_before_1970_and_their_fractions() {
        let at = |seconds, nanos| decimal(Timestamp { seconds, nanos });
        assert_eq!(at(5, 0), "5");
        assert_eq!(at(5, 7), "5.000000007");
        assert_eq!(at(-5, 0), "-5");
        assert_eq!(at(-1, 250_000_000), "-0.750000000");
        assert_eq!(at(-5, 999_999_999), "-4.000000001");
    }
}

//! Backup files of the fake: a head that says what is inside, pages with a checksum each, an end
//! with a checksum over all. Only the first four bytes are those of a real one.

use super::engine::{Database, File, PAGE, Page};
use super::packets::Said;

const HEAD: usize = 4096;
const MAGIC: &[u8] = b"TAPE";
const END: &[u8] = b"ESET";
/// Bytes of the end: mark, pages, checksum.
const TAIL: usize = 512;

/// What a backup file says of itself.
#[derive(Debug, Clone, Default)]
pub struct Head {
    pub database: String,
    pub collation: String,
    pub first_lsn: u128,
    pub checkpoint_lsn: u128,
    pub tables: Vec<String>,
    pub files: Vec<File>,
}

/// FNV-1a.
pub fn checksum(bytes: &[u8]) -> u32 {
    let step = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    bytes.iter().fold(0x811c_9dc5, step)
}

/// The bytes of a backup. Fields of the head stand one a line; the fake's names hold no line ends.
pub fn encode(name: &str, database: &Database) -> Vec<u8> {
    let checkpoint = 31_000_000_020_600_037;
    let first = checkpoint - u128::from(database.has_open_transaction);
    let mut head = format!("{name}\n{}\n{first}\n{checkpoint}\n", database.collation);
    for table in &database.tables {
        head.push_str(&format!("T {table}\n"));
    }
    for file in &database.files {
        let File {
            logical,
            physical,
            kind,
        } = file;
        head.push_str(&format!("F {kind}\t{logical}\t{physical}\n"));
    }
    let mut bytes = MAGIC.to_vec();
    bytes.extend(u32::try_from(head.len()).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend(head.as_bytes());
    bytes.resize(HEAD, 0);
    for page in &database.pages {
        bytes.extend(page.encode());
    }
    let sum = checksum(&bytes);
    let mut tail = END.to_vec();
    tail.extend(
        u32::try_from(database.pages.len())
            .unwrap_or(u32::MAX)
            .to_le_bytes(),
    );
    tail.extend(sum.to_le_bytes());
    tail.resize(TAIL, 0);
    bytes.extend(tail);
    bytes
}

/// Reads the head.
pub fn head(bytes: &[u8], path: &str) -> Result<Head, Said> {
    let bad = || {
        let words = format!("The media family on device '{path}' is incorrectly formed.");
        Said::new(3241, 16, words)
    };
    if bytes.is_empty() {
        let words = format!("The volume on device '{path}' is empty.");
        return Err(Said::new(3254, 16, words));
    }
    let rest = bytes.strip_prefix(MAGIC).ok_or_else(bad)?;
    let length = rest
        .first_chunk()
        .map(|b| u32::from_le_bytes(*b))
        .ok_or_else(bad)?;
    let length = usize::try_from(length).map_err(|_| bad())?;
    let text = rest.get(4..4 + length).ok_or_else(bad)?;
    let text = std::str::from_utf8(text).map_err(|_| bad())?;
    let mut lines = text.lines();
    let mut next = || lines.next().ok_or_else(bad);
    let mut head = Head {
        database: next()?.to_owned(),
        collation: next()?.to_owned(),
        first_lsn: next()?.parse().map_err(|_| bad())?,
        checkpoint_lsn: next()?.parse().map_err(|_| bad())?,
        ..Head::default()
    };
    for line in lines {
        match line.split_at_checked(2) {
            Some(("T ", table)) => head.tables.push(table.to_owned()),
            Some(("F ", file)) => {
                let mut parts = file.split('\t').map(str::to_owned);
                let mut part = || parts.next().ok_or_else(bad);
                head.files.push(File {
                    kind: part()?,
                    logical: part()?,
                    physical: part()?,
                });
            }
            _ => return Err(bad()),
        }
    }
    Ok(head)
}

/// Reads all pages and compares all checksums.
pub fn pages(bytes: &[u8]) -> Result<Vec<Page>, Said> {
    let damaged = || Said::new(3189, 16, "Damage to the backup set was detected.");
    let (body, tail) = bytes
        .split_at_checked(bytes.len().wrapping_sub(TAIL))
        .ok_or_else(damaged)?;
    let numbers = tail.strip_prefix(END).ok_or_else(damaged)?;
    let number = |at: usize| {
        let four = numbers.get(at..at + 4).and_then(|four| four.first_chunk());
        four.map(|four| u32::from_le_bytes(*four))
            .ok_or_else(damaged)
    };
    let pages = body.get(HEAD..).ok_or_else(damaged)?.chunks(PAGE);
    let pages: Option<Vec<Page>> = pages.map(Page::decode).collect();
    let pages = pages.ok_or_else(damaged)?;
    let count = usize::try_from(number(0)?).map_err(|_| damaged())?;
    match pages.len() == count && number(4)? == checksum(body) {
        true => Ok(pages),
        false => Err(damaged()),
    }
}

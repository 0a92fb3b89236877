//! The file `reserve` of a repository: bytes that are held back on the disk, so that a collector
//! can still write its few small objects when there is no room left.
//!
//! It is no object: no listing shows it, and nothing depends on it. Its first eight bytes say how
//! large it is when it is whole; the others are random, so that a file system that squeezes or
//! joins equal bytes holds back as much as one that does not.
//!
//! It grows with the packs, and never shrinks but by what is given up on a full disk.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// Its name, at the repository's root.
pub(super) const NAME: &str = "reserve";
/// Least and most bytes that it holds back: what a collector begins with is small, and what a large
/// repository has to copy comes in packs that are larger.
pub(super) const LEAST: u64 = 512 << 10;
pub(super) const MOST: u64 = 4 << 20;
/// One in so many bytes of packs.
const SHARE: u64 = 256;
/// Parts in which it is given up: a `forget` on a full disk leaves something for `gc`.
pub(super) const PARTS: u64 = 4;
/// Bytes that are written at once.
const BLOCK: usize = 64 << 10;
/// It grows by so many bytes at a time.
const UNIT: u64 = PARTS * BLOCK as u64;

/// How many bytes are to be held back for so many bytes of packs.
pub(super) fn due(packs: u64) -> u64 {
    (packs / SHARE / UNIT * UNIT).clamp(LEAST, MOST)
}

/// Makes the file, makes it whole again, or as large as is due for so many bytes of packs; without
/// room for that only whole parts of it, and it leaves one to those who write objects. That is an
/// error only when nothing is held back at all.
pub(super) fn keep(path: &Path, packs: u64) -> io::Result<()> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    let Some((mut file, len)) = open(&mut options, path)? else {
        return Ok(());
    };
    let told = told(&mut file)?;
    let size = told.unwrap_or(0).max(due(packs));
    if len >= size {
        return Ok(());
    }
    let mut held = len;
    match fill(&mut file, &mut held, size) {
        Err(error) if error.kind() == io::ErrorKind::StorageFull => {
            let part = size / PARTS;
            let parts = (held / part).saturating_sub(1);
            let mut whole = len.max(parts * part);
            file.set_len(whole)?;
            if whole > len && file.sync_all().is_err() {
                whole = len;
                file.set_len(whole)?;
            }
            if whole > 0 { Ok(()) } else { Err(error) }
        }
        Err(error) => {
            file.set_len(len)?;
            Err(error)
        }
        Ok(()) => Ok(()),
    }
}

/// Writes from `at` on, and moves it as far as it came.
fn fill(file: &mut File, at: &mut u64, size: u64) -> io::Result<()> {
    let mut block = [0; BLOCK];
    if *at > 0 {
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&size.to_le_bytes())?;
    }
    file.seek(SeekFrom::Start(*at))?;
    while *at < size {
        getrandom::fill(&mut block).map_err(io::Error::other)?;
        if let (0, Some(first)) = (*at, block.first_chunk_mut()) {
            *first = size.to_le_bytes();
        }
        file.write_all(&block)?;
        *at += BLOCK as u64;
    }
    file.sync_all()
}

/// How large it is when it is whole: its first bytes tell. Those that do not were made when all had
/// the most. `None` of one that has no bytes left.
fn told(file: &mut File) -> io::Result<Option<u64>> {
    let mut first = [0; 8];
    file.seek(SeekFrom::Start(0))?;
    match file.read_exact(&mut first) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let told = u64::from_le_bytes(first);
    let sound = (LEAST..=MOST).contains(&told) && told.is_multiple_of(UNIT);
    Ok(Some(if sound { told } else { MOST }))
}

/// Gives up a part. Answers whether there was one.
pub(super) fn give_up(path: &Path) -> io::Result<bool> {
    cut(path, |len, size| len.min(size).saturating_sub(size / PARTS))
}

/// Gives up all but one part. Answers whether there was more.
pub(super) fn lend(path: &Path) -> io::Result<bool> {
    cut(path, |len, size| len.min(size / PARTS))
}

/// Makes the file shorter, given its length and what it is when it is whole. Answers whether it is
/// now.
fn cut(path: &Path, to: impl Fn(u64, u64) -> u64) -> io::Result<bool> {
    match open(File::options().read(true).write(true), path) {
        Ok(Some((mut file, len))) => {
            let to = to(len, told(&mut file)?.unwrap_or(MOST));
            if to < len {
                file.set_len(to)?;
                file.sync_all()?;
            }
            Ok(to < len)
        }
        Ok(None) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// The file and its length. `None` for what is none: a link would lead to somebody else's bytes.
fn open(options: &mut std::fs::OpenOptions, path: &Path) -> io::Result<Option<(File, u64)>> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.is_file() => return Ok(None),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options
            .mode(0o600)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed());
    }
    let file = options.open(path)?;
    let found = file.metadata()?;
    Ok(found.is_file().then_some((file, found.len())))
}

//! The file `reserve` of a repository: bytes that are held back on the disk, so that a collector
//! can still write its few small objects when there is no room left.
//!
//! It is no object: no listing shows it, and nothing depends on it. Its bytes are random, so that a
//! file system that squeezes or joins equal bytes holds back as much as one that does not.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

/// Its name, at the repository's root.
pub(super) const NAME: &str = "reserve";
/// Bytes that it holds back.
pub(super) const SIZE: u64 = 4 << 20;
/// Bytes that are given up at a time: a `forget` on a full disk leaves something for `gc`.
pub(super) const STEP: u64 = 1 << 20;
/// Bytes that are written at once.
const BLOCK: usize = 64 << 10;

/// Makes the file, or makes it whole again; without room for that only whole parts of it, and it
/// leaves one to those who write objects. That is an error only when nothing is held back at all.
pub(super) fn keep(path: &Path) -> io::Result<()> {
    let mut options = File::options();
    options.write(true).create(true).truncate(false);
    let Some((mut file, len)) = open(&mut options, path)? else {
        return Ok(());
    };
    let mut held = len;
    match fill(&mut file, &mut held) {
        Err(error) if error.kind() == io::ErrorKind::StorageFull => {
            let parts = (held / STEP).saturating_sub(1);
            let mut whole = len.max(parts * STEP);
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
fn fill(file: &mut File, at: &mut u64) -> io::Result<()> {
    if *at >= SIZE {
        return Ok(());
    }
    let mut block = [0; BLOCK];
    file.seek(SeekFrom::Start(*at))?;
    while *at < SIZE {
        getrandom::fill(&mut block).map_err(io::Error::other)?;
        file.write_all(&block)?;
        *at += BLOCK as u64;
    }
    file.sync_all()
}

/// Gives up a part. Answers whether there was one.
pub(super) fn give_up(path: &Path) -> io::Result<bool> {
    cut(path, |len| len.min(SIZE).saturating_sub(STEP))
}

/// Gives up all but one part. Answers whether there was more.
pub(super) fn lend(path: &Path) -> io::Result<bool> {
    cut(path, |len| len.min(STEP))
}

/// Makes the file shorter. Answers whether it is now.
fn cut(path: &Path, to: impl Fn(u64) -> u64) -> io::Result<bool> {
    match open(File::options().write(true), path) {
        Ok(Some((file, len))) if to(len) < len => {
            file.set_len(to(len))?;
            file.sync_all()?;
            Ok(true)
        }
        Ok(_) => Ok(false),
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

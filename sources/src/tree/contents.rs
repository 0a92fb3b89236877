//! The bytes of a file on disk, holes told apart. It reads no further than the length that the
//! file had when it was opened: a log that grows is stored as the beginning that it then had. Files
//! that claim to be empty (those of `/proc`) are empty.

use std::cell::Cell;
use std::ffi::CStr;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::rc::Rc;

use hucha_store::snapshot::Compare;
use hucha_store::source::{ContentError, Contents, Piece};
use rustix::fs::{self, FileType, Mode, OFlags, SeekFrom, Stat};
use rustix::io::Errno;

/// A file of so few bytes is read without hints, and holes are looked for only where bytes have no
/// room.
const SMALL: u64 = 64 << 10;

/// What became of a file while it was read, for its walker.
#[derive(Debug, Default)]
pub(super) struct Fate {
    /// It is no longer what its entry says.
    pub(super) changed: Cell<bool>,
    /// It could not be opened, or not read to its end.
    pub(super) failed: Cell<bool>,
}

/// What a file was when its entry was made, and what tells that it is no more.
#[derive(Clone, Copy)]
pub(super) struct Known {
    pub(super) stat: Stat,
    pub(super) compare: Compare,
}

impl Known {
    fn is_still(&self, stat: &Stat) -> bool {
        let content = |s: &Stat| (s.st_size, s.st_mtime, s.st_mtime_nsec);
        let change = |s: &Stat| (s.st_ctime, s.st_ctime_nsec);
        let inode = |s: &Stat| (s.st_dev, s.st_ino);
        content(stat) == content(&self.stat)
            && (!self.compare.ctime || change(stat) == change(&self.stat))
            && (!self.compare.inode || inode(stat) == inode(&self.stat))
    }
}

pub(super) struct FileContents {
    file: OwnedFd,
    /// As the entry says.
    known: Known,
    position: u64,
    size: u64,
    /// Where the run of data ends that `position` is in; not beyond it: ask.
    data_end: u64,
    fate: Rc<Fate>,
}

impl FileContents {
    /// Opens `name` in `folder`, the file that `known` describes.
    pub(super) fn open(
        folder: BorrowedFd<'_>,
        name: &CStr,
        known: Known,
        fate: &Rc<Fate>,
    ) -> Result<FileContents, ContentError> {
        fate.failed.set(true);
        let file = open_quietly(folder, name).map_err(io::Error::from)?;
        let stat = fs::fstat(&file).map_err(io::Error::from)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(io::Error::other("it was replaced by something that is no file").into());
        }
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let is_small = size <= SMALL;
        #[cfg(not(any(target_vendor = "apple", target_os = "openbsd")))]
        if !is_small {
            // Only a hint.
            let _ = fs::fadvise(&file, 0, None, fs::Advice::Sequential);
        }
        let fate = Rc::clone(fate);
        // All of it has room on the disk: there is no hole worth two calls.
        let is_dense = is_small && size <= u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
        Ok(FileContents {
            file,
            known,
            position: 0,
            size,
            data_end: if is_dense { size } else { 0 },
            fate,
        })
    }

    fn next_piece(&mut self, buffer: &mut [u8]) -> Result<Piece, Errno> {
        while self.position < self.size {
            if self.position < self.data_end {
                let left = usize::try_from(self.data_end - self.position).unwrap_or(usize::MAX);
                let room = left.min(buffer.len());
                let room = buffer.get_mut(..room).unwrap_or_default();
                let read = rustix::io::retry_on_intr(|| {
                    rustix::io::pread(&self.file, &mut *room, self.position)
                })?;
                if read == 0 {
                    break;
                }
                self.position += read as u64;
                return Ok(Piece::Data(read));
            }
            let data = self.next_data()?.min(self.size);
            if data > self.position {
                let hole = data - self.position;
                self.position = data;
                return Ok(Piece::Hole(hole));
            }
            self.data_end = match fs::seek(&self.file, SeekFrom::Hole(self.position)) {
                Ok(end) => end.min(self.size),
                Err(_) => self.size,
            };
        }
        let now = fs::fstat(&self.file)?;
        self.fate.changed.set(!self.known.is_still(&now));
        Ok(Piece::End)
    }

    /// Where data begins, from the position on; the file's end when there is none.
    fn next_data(&mut self) -> Result<u64, Errno> {
        match fs::seek(&self.file, SeekFrom::Data(self.position)) {
            Ok(data) => Ok(data),
            Err(Errno::NXIO) => {
                // A hole up to the end, which may have moved towards us.
                let now = u64::try_from(fs::fstat(&self.file)?.st_size).unwrap_or(0);
                self.size = self.size.min(now.max(self.position));
                Ok(self.size)
            }
            // A file system that knows no holes.
            Err(_) => Ok(self.position),
        }
    }
}

impl Contents for FileContents {
    fn skip(&mut self, bytes: u64) -> Result<bool, ContentError> {
        // Not behind its end: then it is another file than was meant.
        let reachable = bytes <= self.size;
        if reachable {
            self.position = bytes;
        }
        Ok(reachable)
    }

    fn next(&mut self, buffer: &mut [u8]) -> Result<Piece, ContentError> {
        let piece = self
            .next_piece(buffer)
            .map_err(|error| io::Error::from(error).into());
        self.fate.failed.set(!matches!(piece, Ok(Piece::End)));
        piece
    }
}

/// Opens for reading: no link, no waiting for a pipe's writer, and where we may without a trace in
/// the access time.
pub(super) fn open_quietly(folder: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    #[cfg(target_os = "linux")]
    match fs::openat(folder, name, flags | OFlags::NOATIME, Mode::empty()) {
        // Not ours.
        Err(Errno::PERM) => {}
        other => return other,
    }
    fs::openat(folder, name, flags, Mode::empty())
}

//! A file that stands in a target already: read, compared, its room shared with a new one, its
//! metadata set. Its bytes are never changed.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use hucha_store::entry::Entry;
use hucha_store::target::{Existing, Kept, TargetError, TargetFile};
use rustix::fs::{self, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::put::{NewFile, Shared, failed};

/// An open file, and where it stands.
pub(super) struct OldFile {
    file: File,
    /// When it was opened.
    stat: Stat,
    folder: Arc<OwnedFd>,
    shared: Arc<Shared>,
}

impl OldFile {
    /// Opens a regular file; `None` when it is something else, or cannot be read.
    pub(super) fn open(folder: Arc<OwnedFd>, name: &CStr, shared: &Arc<Shared>) -> Option<OldFile> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = fs::openat(&folder, name, flags, Mode::empty()).ok()?;
        let stat = fs::fstat(&file).ok()?;
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        is_file.then(|| OldFile {
            file: File::from(file),
            stat,
            folder,
            shared: Arc::clone(shared),
        })
    }
}

impl Existing for OldFile {
    fn size(&self) -> u64 {
        u64::try_from(self.stat.st_size).unwrap_or(0)
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(into, offset)
    }

    fn is_hole(&self, offset: u64, len: u64) -> bool {
        match fs::seek(&self.file, fs::SeekFrom::Data(offset)) {
            Ok(data) => data >= offset.saturating_add(len),
            Err(error) => error == Errno::NXIO,
        }
    }

    /// By size and time: the time of change of the inode would tell of new names as well.
    fn is_unchanged(&self) -> bool {
        let state = |s: &Stat| (s.st_size, s.st_mtime, s.st_mtime_nsec);
        fs::fstat(&self.file).is_ok_and(|now| state(&now) == state(&self.stat))
    }

    #[cfg(target_os = "linux")]
    fn share(&self) -> Option<Box<dyn TargetFile>> {
        let new = NewFile::make(&self.folder, &self.shared, 0o600).ok()?;
        fs::ioctl_ficlone(&new.file, &self.file).ok()?;
        Some(Box::new(new))
    }

    #[cfg(not(target_os = "linux"))]
    fn share(&self) -> Option<Box<dyn TargetFile>> {
        None
    }

    fn settle(&self, entry: &Entry) -> Result<Option<Kept>, TargetError> {
        if self.stat.st_nlink > 1 && self.shared.would_change(self.file.as_fd(), entry) {
            return Ok(None);
        }
        let kept = self.shared.apply(self.file.as_fd(), entry);
        self.shared.placed(&entry.path);
        let kept =
            kept.map_err(|error| failed(&entry.path, "setting its metadata")(error.into()))?;
        Ok(Some(kept))
    }
}

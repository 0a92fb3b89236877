//! Objects on their way to a name.
//!
//! Where the file system allows it a new object is a file without a name: a crash leaves nothing.
//! Elsewhere it is a draft under `tmp/` that its writer holds locked, so that [`tidy`] can tell the
//! drafts of the dead. Either way the name appears at once, whole, and only if it was free. Files
//! under `tmp/` that do not look like drafts are left alone.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

#[cfg(any(target_os = "linux", target_os = "android"))]
use super::folder::Folder;
use crate::backend::Put;
use crate::id::Uuid;
use crate::sealed::Sealed;

/// The end of a draft's name, after a uuid.
const SUFFIX: &str = ".draft";

/// Bytes copied at once: big enough for disks, small beside everything else.
const BLOCK: usize = 1 << 20;

/// Draws of a name before giving up; each fails only when another process tidied at that moment.
const TRIES: usize = 16;

/// A file under `tmp/`, locked, and removed when this goes.
pub(super) struct Draft {
    path: PathBuf,
    file: File,
}

impl Draft {
    /// An empty draft under a fresh name.
    pub(super) fn new(tmp: &Path) -> io::Result<Draft> {
        for _ in 0..TRIES {
            let mut random = [0; Uuid::LEN];
            getrandom::fill(&mut random).map_err(io::Error::other)?;
            let path = tmp.join(format!("{}{SUFFIX}", Uuid(random)));
            let mut options = File::options();
            options.write(true).create_new(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            let file = options.open(&path)?;
            match file.try_lock() {
                Ok(()) => {}
                // Somebody tidies it away. A name of its own comes next.
                Err(TryLockError::WouldBlock) => continue,
                // Without locks nobody tidies either.
                Err(TryLockError::Error(_)) => return Ok(Draft { path, file }),
            }
            if fs::symlink_metadata(&path).is_ok() {
                return Ok(Draft { path, file });
            }
        }
        Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            "drafts vanish as soon as they are made",
        ))
    }

    /// Writes and syncs the whole body.
    pub(super) fn fill(&self, body: &Sealed) -> io::Result<()> {
        fill(&self.file, body)
    }

    /// Gives the draft its name, unless that is taken.
    pub(super) fn publish(&self, name: &Path) -> io::Result<Put> {
        let error = match fs::hard_link(&self.path, name) {
            Ok(()) => return Ok(Put::Created),
            Err(error) => error,
        };
        match error.kind() {
            // NFS may carry a request out twice and answer the second time.
            io::ErrorKind::AlreadyExists if self.is(name) => Ok(Put::Created),
            io::ErrorKind::AlreadyExists => Ok(Put::Exists),
            // File systems without links answer one of these.
            io::ErrorKind::Unsupported
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::TooManyLinks => self.rename(name).unwrap_or(Err(error)),
            _ => Err(error),
        }
    }

    /// Renames the draft, unless the name is taken; `None` where that cannot be done.
    pub(super) fn rename(&self, name: &Path) -> Option<io::Result<Put>> {
        #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
        {
            use rustix::fs::{CWD, RenameFlags, renameat_with};
            use rustix::io::Errno;
            match renameat_with(CWD, &self.path, CWD, name, RenameFlags::NOREPLACE) {
                Ok(()) => Some(Ok(Put::Created)),
                Err(Errno::EXIST) => Some(Ok(Put::Exists)),
                Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => None,
                Err(error) => Some(Err(error.into())),
            }
        }
        #[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
        {
            let _ = name;
            None
        }
    }

    /// Whether the name is one of this draft's.
    fn is(&self, name: &Path) -> bool {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            let same = |a: fs::Metadata, b: fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
            let found = self
                .file
                .metadata()
                .and_then(|a| Ok((a, fs::symlink_metadata(name)?)));
            found.is_ok_and(|(a, b)| same(a, b))
        }
        #[cfg(not(unix))]
        {
            let _ = name;
            false
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // What cannot be removed now, `tidy` removes later; after a rename there is nothing.
        drop(fs::remove_file(&self.path));
    }
}

/// Writes and syncs the whole body into an empty file, and makes it private.
fn fill(mut file: &File, body: &Sealed) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // The umask may have taken even the owner's rights; file systems without modes refuse.
        drop(file.set_permissions(fs::Permissions::from_mode(0o600)));
    }
    let mut reader = body.reader().map_err(unreadable)?;
    let len = usize::try_from(body.len()).unwrap_or(usize::MAX);
    let mut block = vec![0; len.clamp(1, BLOCK)];
    let mut written = 0;
    loop {
        let read = match reader.read(&mut block) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(unreadable(error)),
        };
        file.write_all(block.get(..read).unwrap_or_default())?;
        written += read as u64;
    }
    if written != body.len() {
        return Err(unreadable(io::ErrorKind::UnexpectedEof.into()));
    }
    file.sync_all()
}

/// A spool that cannot be read says nothing about the repository's file system.
fn unreadable(error: io::Error) -> io::Error {
    io::Error::other(error)
}

/// Stores an object that has no name until it is whole; `None` where the system cannot do that.
///
/// Specification: open(2), `O_TMPFILE`, and linkat(2) by way of `/proc/self/fd`.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn put_unnamed(folder: &Folder, path: &Path, body: &Sealed) -> io::Result<Option<Put>> {
    use std::os::fd::AsRawFd;

    use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, openat};
    use rustix::io::Errno;

    let Some(name) = path.file_name() else {
        return Ok(None);
    };
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = match openat(&folder.handle, ".", flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => File::from(file),
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL | Errno::NOSYS) => {
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    fill(&file, body)?;
    let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
    match linkat(CWD, unnamed, &folder.handle, name, AtFlags::SYMLINK_FOLLOW) {
        Ok(()) => Ok(Some(Put::Created)),
        Err(Errno::EXIST) => Ok(Some(Put::Exists)),
        // No /proc, or one that is not ours.
        Err(Errno::NOENT | Errno::XDEV | Errno::OPNOTSUPP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Removes, of the entries of `tmp/`, the drafts that no living process holds.
///
/// # Errors
/// The first draft that could not be removed; the others were tried all the same.
pub(super) fn tidy(entries: impl Iterator<Item = super::Entry>) -> io::Result<()> {
    let mut tidied = Ok(());
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let uuid = name.to_str().and_then(|name| name.strip_suffix(SUFFIX));
        let draft = uuid.is_some_and(|uuid| uuid.parse::<Uuid>().is_ok());
        if draft && entry.file_type().is_ok_and(|found| found.is_file()) {
            tidied = tidied.and(remove_if_dead(&entry.path()));
        }
    }
    tidied
}

fn remove_if_dead(draft: &Path) -> io::Result<()> {
    // Its lock is held until it is removed: a writer that made it a moment ago notices.
    let removed = File::options()
        .write(true)
        .open(draft)
        .and_then(|file| match file.try_lock() {
            Ok(()) => fs::remove_file(draft),
            Err(_) => Ok(()),
        });
    removed.or_else(super::absent_is_fine)
}

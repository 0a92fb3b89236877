//! Folders that are private and survive a crash.
//!
//! Whoever makes a folder syncs it and its parent. It never changes the mode of a folder that was
//! there before, and never removes one.

use std::fs;
use std::io;
use std::path::Path;

/// A folder, held open.
#[derive(Debug)]
pub(super) struct Folder {
    /// Other systems neither open nor sync folders as files.
    #[cfg(unix)]
    pub(super) handle: fs::File,
}

impl Folder {
    /// Opens a folder that exists.
    pub(super) fn open(path: &Path) -> io::Result<Folder> {
        #[cfg(unix)]
        {
            use rustix::fs::{Mode, OFlags};
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let handle = rustix::fs::open(path, flags, Mode::empty())?;
            Ok(Folder {
                handle: handle.into(),
            })
        }
        #[cfg(not(unix))]
        match fs::metadata(path)?.is_dir() {
            true => Ok(Folder {}),
            false => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    /// Opens a folder, and makes it, and the last folders above it, where they lack: `levels` in
    /// all.
    pub(super) fn open_or_make(path: &Path, levels: usize) -> io::Result<Folder> {
        match (Folder::open(path), levels.checked_sub(1)) {
            (Err(error), Some(above)) if error.kind() == io::ErrorKind::NotFound => {
                make(path, above)?;
                Folder::open(path)
            }
            (opened, _) => opened,
        }
    }

    /// Makes names that were added to the folder survive a crash.
    pub(super) fn sync(&self) -> io::Result<()> {
        #[cfg(unix)]
        {
            use io::ErrorKind as Kind;
            // Some network file systems have no such operation; they order names by themselves.
            match self.handle.sync_all() {
                Err(e) if matches!(e.kind(), Kind::InvalidInput | Kind::Unsupported) => Ok(()),
                synced => synced,
            }
        }
        #[cfg(not(unix))]
        Ok(())
    }

    /// Whether a file without a name keeps what was synced before it got one. Known of these file
    /// systems only: btrfs, for one, logs nothing of a synced file as long as it has no name, and
    /// a synced folder brings back but an empty file.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(super) fn keeps_unnamed(&self) -> bool {
        const EXT: u64 = 0xef53;
        const XFS: u64 = 0x5846_5342;
        const TMPFS: u64 = 0x0102_1994;
        let found = rustix::fs::fstatfs(&self.handle).map(|found| found.f_type);
        // Width and sign of the type differ between machines; the magic numbers fit 32 bits.
        found.is_ok_and(|magic| [EXT, XFS, TMPFS].contains(&(magic as u64 & 0xffff_ffff)))
    }
}

/// Makes a folder with mode 0700, and up to `above` missing folders above it. One that exists is
/// synced all the same: another process may have made it a moment ago.
pub(super) fn make(path: &Path, above: usize) -> io::Result<()> {
    let made = match (make_one(path), path.parent(), above.checked_sub(1)) {
        (Err(error), Some(parent), Some(above)) if error.kind() == io::ErrorKind::NotFound => {
            make(parent, above)?;
            make_one(path)
        }
        (made, _, _) => made,
    };
    match made {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        made => made?,
    }
    Folder::open(path)?.sync()?;
    match path.parent().map(Folder::open) {
        // A parent that may be entered but not read cannot be synced.
        Some(Err(error)) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        Some(parent) => parent?.sync(),
        None => Ok(()),
    }
}

fn make_one(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
        builder.mode(0o700).create(path)?;
        // The umask may have taken even the owner's rights; file systems without modes refuse.
        drop(fs::set_permissions(path, fs::Permissions::from_mode(0o700)));
        Ok(())
    }
    #[cfg(not(unix))]
    builder.create(path)
}

//! A folder that entries are restored into. Every path is walked from a descriptor of that folder,
//! component by component and through no link, so nothing outside is ever touched; whatever is
//! swapped while we work. What stands in the way is replaced, but never a folder that holds
//! something. Nothing that the snapshot does not hold is removed, except our own leftovers.

use std::ffi::CStr;
use std::fs::{DirBuilder, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hucha_store::entry::{Entry, Kind, is_sound_path, is_within, parent_of};
use hucha_store::target::{Kept, Target, TargetError, TargetFile};
use rustix::fs::{self, AtFlags, CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::put::{NewFile, Shared, Temporary, c_name, failed, is_folder, is_temporary, open_up};
use super::{Ownership, TargetOptions};

/// Folders kept open: enough for the places that a few threads work at.
const OPEN_FOLDERS: usize = 64;

/// A folder as the target of a restore.
pub struct FolderTarget {
    root: Arc<OwnedFd>,
    shared: Arc<Shared>,
    /// Used last stands last.
    open: Mutex<Vec<(Vec<u8>, Arc<OwnedFd>)>>,
}

/// What to do about a folder on the way that is not there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Absent {
    Fails,
    IsMade,
}

impl FolderTarget {
    /// Opens `root`, following links in it; made with mode 0700 when absent, folders above too.
    ///
    /// # Errors
    /// When it is no folder and cannot become one.
    pub fn new(root: &Path, options: TargetOptions) -> Result<FolderTarget, TargetError> {
        let error = |source| TargetError {
            what: format!("target folder {root:?} cannot be used"),
            source: Some(source),
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(root)
            .map_err(error)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = fs::openat(CWD, root, flags, Mode::empty());
        let root = opened.map_err(|errno| error(errno.into()))?;
        let ownership = match options.ownership {
            Ownership::Auto => rustix::process::geteuid().is_root(),
            Ownership::Restore => true,
            Ownership::Skip => false,
        };
        let shared = Arc::new(Shared {
            ownership,
            owners_skipped: AtomicBool::new(false),
            sockets_skipped: AtomicU64::new(0),
            lookalikes: Mutex::default(),
        });
        Ok(FolderTarget {
            root: Arc::new(root),
            shared,
            open: Mutex::default(),
        })
    }

    /// Whether something has another owner or group than its entry says because ownership is not
    /// restored.
    pub fn owners_skipped(&self) -> bool {
        self.shared.owners_skipped.load(Ordering::Relaxed)
    }

    /// How many sockets were asked for; they are never made.
    pub fn sockets_skipped(&self) -> u64 {
        self.shared.sockets_skipped.load(Ordering::Relaxed)
    }

    /// The folder at `path`, through no link.
    fn folder(&self, path: &[u8], absent: Absent) -> Result<Arc<OwnedFd>, Errno> {
        let (mut at, mut folder) = self.nearest(path);
        while at.len() < path.len() {
            let rest = path.get(at.len()..).unwrap_or_default();
            let rest = rest.strip_prefix(b"/").unwrap_or(rest);
            let name = rest.split(|c| *c == b'/').next().unwrap_or_default();
            let c_name = std::ffi::CString::new(name).map_err(|_| Errno::INVAL)?;
            if absent == Absent::IsMade {
                match fs::mkdirat(&folder, &c_name, Mode::RWXU) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error),
                }
            }
            folder = Arc::new(open_folder(&folder, &c_name)?);
            if !at.is_empty() {
                at.push(b'/');
            }
            at.extend_from_slice(name);
            // The ones on the way too: the next path is likely to need them.
            self.remember(&at, &folder);
        }
        Ok(folder)
    }

    /// The deepest open folder at or above `path`.
    fn nearest(&self, path: &[u8]) -> (Vec<u8>, Arc<OwnedFd>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let found = open
            .iter()
            .enumerate()
            .filter(|(_, (at, _))| is_within(path, at));
        match found.max_by_key(|(_, (at, _))| at.len()).map(|(n, _)| n) {
            Some(n) => {
                let used = open.remove(n);
                open.push(used.clone());
                used
            }
            None => (Vec::new(), Arc::clone(&self.root)),
        }
    }

    fn remember(&self, path: &[u8], folder: &Arc<OwnedFd>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if path.is_empty() || open.iter().any(|(at, _)| at == path) {
            return;
        }
        if open.len() == OPEN_FOLDERS {
            open.remove(0);
        }
        open.push((path.to_vec(), Arc::clone(folder)));
    }

    fn forget(&self, path: &[u8]) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|(at, _)| !is_within(at, path));
    }

    /// The folder that holds the entry; refuses unsound paths and the root, which has none.
    fn parent(&self, entry: &Entry, absent: Absent) -> Result<Arc<OwnedFd>, TargetError> {
        let sound = is_sound_path(&entry.path);
        let Some(parent) = parent_of(&entry.path).filter(|_| sound) else {
            let what = format!("unsound path {:?}", String::from_utf8_lossy(&entry.path));
            return Err(TargetError { what, source: None });
        };
        let folder = self.folder(parent, absent);
        folder.map_err(|error| failed(entry, "opening the folder above it")(error.into()))
    }

    fn make_folder(&self, entry: &Entry) -> Result<(), TargetError> {
        if entry.path.is_empty() {
            return Ok(());
        }
        let parent = self.parent(entry, Absent::IsMade)?;
        let name = c_name(&entry.path)?;
        let made = match fs::mkdirat(&parent, &name, Mode::RWXU) {
            Err(Errno::EXIST) => self.take_over(entry, &parent, &name),
            other => other,
        };
        made.map_err(|error| failed(entry, "making the folder")(error.into()))
    }

    /// Makes what is already there the entry's folder.
    fn take_over(&self, entry: &Entry, parent: &OwnedFd, name: &CStr) -> Result<(), Errno> {
        let stat = fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if !is_folder(&stat) {
            self.forget(&entry.path);
            fs::unlinkat(parent, name, AtFlags::empty())?;
            return fs::mkdirat(parent, name, Mode::RWXU);
        }
        if stat.st_mode & 0o700 != 0o700 && !rustix::process::geteuid().is_root() {
            open_up(parent.as_fd(), name)?;
        }
        Ok(())
    }

    /// Makes a link, pipe or device under a temporary name, completes it, puts it in place.
    fn make_special(&self, entry: &Entry) -> Result<Kept, TargetError> {
        let parent = self.parent(entry, Absent::IsMade)?;
        let name = c_name(&entry.path)?;
        let made = Temporary::make(&parent, |folder, name| make_node(folder, name, &entry.kind));
        let temporary = match made {
            Ok((temporary, ())) => temporary,
            Err(Errno::PERM) if is_device(&entry.kind) => {
                let message = "a device, which only root can make".to_owned();
                return Ok(Kept {
                    refused: vec![message],
                });
            }
            Err(error) => return Err(failed(entry, "making it")(error.into())),
        };
        let kept = self
            .shared
            .apply_by_name(parent.as_fd(), temporary.name(), entry);
        let kept = kept.map_err(|e| failed(entry, "setting its metadata")(e.into()))?;
        self.place(entry, temporary, &name)?;
        Ok(kept)
    }

    fn place(&self, entry: &Entry, new: Temporary, name: &CStr) -> Result<(), TargetError> {
        let placed = new.place(name);
        placed.map_err(|error| failed(entry, "putting it in place")(error.into()))?;
        self.forget(&entry.path);
        self.shared.placed(&entry.path);
        Ok(())
    }

    fn open_existing(&self, entry: &Entry) -> Option<File> {
        let parent = self.parent(entry, Absent::Fails).ok()?;
        let name = c_name(&entry.path).ok()?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = fs::openat(&parent, &name, flags, Mode::empty()).ok()?;
        let stat = fs::fstat(&file).ok()?;
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        (is_file && (stat.st_nlink == 1 || entry.group.is_some())).then(|| File::from(file))
    }

    /// Removes what a killed restore left in a folder.
    fn clean(&self, path: &[u8], folder: &OwnedFd) -> Result<(), Errno> {
        for found in Dir::read_from(folder)? {
            let found = found?;
            let name = found.file_name();
            if !is_temporary(name.to_bytes()) {
                continue;
            }
            let mut full = path.to_vec();
            if !full.is_empty() {
                full.push(b'/');
            }
            full.extend_from_slice(name.to_bytes());
            if !self.shared.is_placed(&full) {
                match fs::unlinkat(folder, name, AtFlags::empty()) {
                    // A folder is none of ours.
                    Ok(()) | Err(Errno::NOENT | Errno::ISDIR | Errno::PERM) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }
}

fn open_folder(parent: &OwnedFd, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    fs::openat(parent, name, flags, Mode::empty())
}

fn is_device(kind: &Kind) -> bool {
    matches!(kind, Kind::CharDevice { .. } | Kind::BlockDevice { .. })
}

fn make_node(folder: std::os::fd::BorrowedFd<'_>, name: &CStr, kind: &Kind) -> Result<(), Errno> {
    let (node, number) = match kind {
        Kind::Link(target) => return fs::symlinkat(target.as_slice(), folder, name),
        Kind::Fifo => (FileType::Fifo, 0),
        Kind::CharDevice { major, minor } => {
            (FileType::CharacterDevice, fs::makedev(*major, *minor))
        }
        Kind::BlockDevice { major, minor } => (FileType::BlockDevice, fs::makedev(*major, *minor)),
        Kind::File | Kind::Folder | Kind::Socket => return Err(Errno::INVAL),
    };
    fs::mknodat(folder, name, node, Mode::RUSR | Mode::WUSR, number)
}

impl Target for FolderTarget {
    fn make(&self, entry: &Entry) -> Result<Kept, TargetError> {
        match entry.kind {
            Kind::Folder => self.make_folder(entry).map(|()| Kept::default()),
            Kind::Socket => {
                self.shared.sockets_skipped.fetch_add(1, Ordering::Relaxed);
                Ok(Kept::default())
            }
            _ => self.make_special(entry),
        }
    }

    fn finish_folder(&self, entry: &Entry) -> Result<Kept, TargetError> {
        if !is_sound_path(&entry.path) {
            self.parent(entry, Absent::Fails)?;
        }
        let folder = self.folder(&entry.path, Absent::Fails);
        let done = folder.and_then(|folder| {
            let cleaned = self.clean(&entry.path, &folder);
            let mut kept = self.shared.apply(folder.as_fd(), entry)?;
            if let Err(error) = cleaned {
                kept.refused
                    .push(format!("leftovers cannot be removed: {error}"));
            }
            Ok(kept)
        });
        self.forget(&entry.path);
        self.shared.placed(&entry.path);
        done.map_err(|error| failed(entry, "setting the folder's metadata")(error.into()))
    }

    fn link(&self, entry: &Entry, first: &[u8]) -> Result<(), TargetError> {
        let parent = self.parent(entry, Absent::IsMade)?;
        let name = c_name(&entry.path)?;
        let first = Entry {
            path: first.to_vec(),
            ..entry.clone()
        };
        let from = self.parent(&first, Absent::Fails)?;
        let from_name = c_name(&first.path)?;
        let stat = |folder: &OwnedFd, name| fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW);
        if let (Ok(a), Ok(b)) = (stat(&from, &from_name), stat(&parent, &name))
            && (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
        {
            // A rename onto another name of the same file would do nothing and leave both.
            self.shared.placed(&entry.path);
            return Ok(());
        }
        let made = Temporary::make(&parent, |folder, name| {
            fs::linkat(&from, &from_name, folder, name, AtFlags::empty())
        });
        let (temporary, ()) = made.map_err(|error| failed(entry, "linking")(error.into()))?;
        self.place(entry, temporary, &name)
    }

    fn existing(&self, entry: &Entry) -> Option<Box<dyn Read>> {
        let file = self.open_existing(entry)?;
        let len = file.metadata().ok()?.len();
        (len == entry.meta.size).then(|| Box::new(file) as Box<dyn Read>)
    }

    fn settle(&self, entry: &Entry) -> Result<Kept, TargetError> {
        let file = self.open_existing(entry).ok_or_else(|| {
            let gone = io::Error::from(io::ErrorKind::NotFound);
            failed(entry, "opening the file that was there")(gone)
        })?;
        let kept = self.shared.apply(file.as_fd(), entry);
        self.shared.placed(&entry.path);
        kept.map_err(|error| failed(entry, "setting its metadata")(error.into()))
    }

    fn create(&self, entry: &Entry) -> Result<Box<dyn TargetFile>, TargetError> {
        let parent = self.parent(entry, Absent::IsMade)?;
        let mode = Mode::RUSR | Mode::WUSR;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let flags = flags | OFlags::NOFOLLOW;
        let made = Temporary::make(&parent, |folder, name| {
            fs::openat(folder, name, flags, mode)
        });
        let (temporary, file) = made.map_err(|e| failed(entry, "making the file")(e.into()))?;
        let shared = Arc::clone(&self.shared);
        Ok(Box::new(NewFile {
            file: File::from(file),
            temporary,
            shared,
        }))
    }
}

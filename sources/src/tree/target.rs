//! A folder that entries are restored into. Every path is walked from a descriptor of that folder,
//! component by component and through no link, so nothing outside is ever touched; whatever is
//! swapped while we work. What stands in the way is replaced, but never a folder that holds
//! something. Nothing is removed that was not named, but for what a restore that is gone left.

use std::collections::HashSet;
use std::ffi::CStr;
use std::fs::DirBuilder;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hucha_store::clock::Timestamp;
use hucha_store::entry::{Entry, Kind, is_sound_path, is_within, parent_of};
use hucha_store::target::{
    Existing, Found, FoundKind, Kept, Listed, Target, TargetError, TargetFile,
};
use rustix::fs::{self, AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::old::OldFile;
use super::owners::Numbers;
use super::put::{NewFile, Shared, c_name, failed, is_folder, name_of, open_up};
use super::temporary::Temporary;
use super::{Owners, Ownership, TargetOptions};
use crate::owner::{is_leftover, is_temporary};

/// Folders kept open: enough for the places that a few threads work at.
const OPEN_FOLDERS: usize = 64;

/// A folder as the target of a restore.
pub struct FolderTarget {
    root: Arc<OwnedFd>,
    shared: Arc<Shared>,
    /// Used last stands last.
    open: Mutex<Vec<(Vec<u8>, Arc<OwnedFd>)>>,
    /// Folders that this run has made and not finished: nothing stood in them, and nobody but the
    /// owner may enter.
    made: Mutex<HashSet<Vec<u8>>>,
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
        let made = DirBuilder::new().recursive(true).mode(0o700).create(root);
        made.map_err(|source| unusable(root, source))?;
        FolderTarget::open(root, options).map_err(|errno| unusable(root, errno.into()))
    }

    /// Opens `root` if it is there; makes nothing.
    ///
    /// # Errors
    /// When it is no folder, or cannot be opened.
    pub fn existing(
        root: &Path,
        options: TargetOptions,
    ) -> Result<Option<FolderTarget>, TargetError> {
        match FolderTarget::open(root, options) {
            Ok(target) => Ok(Some(target)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(unusable(root, errno.into())),
        }
    }

    fn open(root: &Path, options: TargetOptions) -> Result<FolderTarget, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = fs::openat(CWD, root, flags, Mode::empty())?;
        let ownership = match options.ownership {
            Ownership::Auto => rustix::process::geteuid().is_root(),
            Ownership::Restore => true,
            Ownership::Skip => false,
        };
        let shared = Arc::new(Shared {
            ownership,
            by_name: (options.owners == Owners::ByName).then(Numbers::default),
            owners_skipped: AtomicBool::new(false),
            sockets_skipped: AtomicU64::new(0),
            lookalikes: Mutex::default(),
        });
        Ok(FolderTarget {
            root: Arc::new(root),
            shared,
            open: Mutex::default(),
            made: Mutex::default(),
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
            let opened = match open_folder(&folder, &c_name) {
                Err(Errno::NOENT) if absent == Absent::IsMade => {
                    match fs::mkdirat(&folder, &c_name, Mode::RWXU) {
                        Ok(()) | Err(Errno::EXIST) => open_folder(&folder, &c_name),
                        Err(error) => Err(error),
                    }
                }
                other => other,
            };
            folder = Arc::new(opened?);
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

    fn made(&self) -> MutexGuard<'_, HashSet<Vec<u8>>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this run has made the folder that holds a path, and not finished it.
    fn is_in_new_folder(&self, path: &[u8]) -> bool {
        parent_of(path).is_some_and(|folder| self.made().contains(folder))
    }

    /// The folder that holds a path; refuses unsound paths and the root, which has none.
    fn parent(&self, path: &[u8], absent: Absent) -> Result<Arc<OwnedFd>, TargetError> {
        let sound = is_sound_path(path);
        let Some(parent) = parent_of(path).filter(|_| sound) else {
            let what = format!("unsound path {:?}", String::from_utf8_lossy(path));
            return Err(TargetError { what, source: None });
        };
        let folder = self.folder(parent, absent);
        folder.map_err(|error| failed(path, "opening the folder above it")(error.into()))
    }

    /// What stands at a path; `None` when nothing does.
    fn stat(&self, path: &[u8]) -> Result<Option<Stat>, TargetError> {
        // Refuses what is unsound.
        if !is_sound_path(path) {
            self.parent(path, Absent::Fails)?;
        }
        let stat = |folder: Arc<OwnedFd>| match path {
            b"" => fs::fstat(&folder),
            _ => fs::statat(&folder, name_of(path), AtFlags::SYMLINK_NOFOLLOW),
        };
        let folder = self.folder(parent_of(path).unwrap_or_default(), Absent::Fails);
        match folder.and_then(stat) {
            Ok(found) => Ok(Some(found)),
            Err(error) if is_absent(error) => Ok(None),
            Err(error) => Err(failed(path, "looking at it")(error.into())),
        }
    }

    fn make_folder(&self, entry: &Entry) -> Result<(), TargetError> {
        if entry.path.is_empty() {
            return Ok(());
        }
        let parent = self.parent(&entry.path, Absent::IsMade)?;
        let name = c_name(&entry.path)?;
        let made = match fs::mkdirat(&parent, &name, Mode::RWXU) {
            Err(Errno::EXIST) => self.take_over(entry, &parent, &name),
            other => other.map(|()| {
                self.made().insert(entry.path.clone());
            }),
        };
        made.map_err(|error| failed(&entry.path, "making the folder")(error.into()))
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
        let parent = self.parent(&entry.path, Absent::IsMade)?;
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
            Err(error) => return Err(failed(&entry.path, "making it")(error.into())),
        };
        let kept = self
            .shared
            .apply_by_name(parent.as_fd(), temporary.name(), entry);
        let kept = kept.map_err(|e| failed(&entry.path, "setting its metadata")(e.into()))?;
        self.place(entry, temporary, &name)?;
        Ok(kept)
    }

    fn place(&self, entry: &Entry, new: Temporary, name: &CStr) -> Result<(), TargetError> {
        let placed = new.place(name);
        placed.map_err(|error| failed(&entry.path, "putting it in place")(error.into()))?;
        self.forget(&entry.path);
        self.shared.placed(&entry.path);
        Ok(())
    }

    /// Removes what a killed restore left in a folder.
    fn clean(&self, path: &[u8], folder: &OwnedFd) -> Result<(), Errno> {
        for found in Dir::read_from(folder)? {
            let found = found?;
            let name = found.file_name();
            if !is_leftover(name.to_bytes()) {
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
    fn look(&self, path: &[u8]) -> Result<Option<Found>, TargetError> {
        Ok(self.stat(path)?.as_ref().map(found))
    }

    fn list(&self, path: &[u8]) -> Result<Vec<Listed>, TargetError> {
        if !is_sound_path(path) {
            self.parent(path, Absent::Fails)?;
        }
        match self.folder(path, Absent::Fails).and_then(|f| list(&f)) {
            Ok(listed) => Ok(listed),
            Err(error) if is_absent(error) => Ok(Vec::new()),
            Err(error) => Err(failed(path, "reading the folder")(error.into())),
        }
    }

    fn remove(&self, path: &[u8]) -> Result<(), TargetError> {
        let name = c_name(path)?;
        let Some(stat) = self.stat(path)? else {
            return Ok(());
        };
        let parent = self.parent(path, Absent::Fails)?;
        let flags = match is_folder(&stat) {
            true => AtFlags::REMOVEDIR,
            false => AtFlags::empty(),
        };
        self.forget(path);
        match fs::unlinkat(&parent, &name, flags) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(failed(path, "removing it")(error.into())),
        }
    }

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
            self.parent(&entry.path, Absent::Fails)?;
        }
        let folder = self.folder(&entry.path, Absent::Fails);
        let is_new = self.made().remove(&entry.path);
        let done = folder.and_then(|folder| {
            let cleaned = match is_new {
                true => Ok(()),
                false => self.clean(&entry.path, &folder),
            };
            let mut kept = self.shared.apply(folder.as_fd(), entry)?;
            if let Err(error) = cleaned {
                kept.refused
                    .push(format!("leftovers cannot be removed: {error}"));
            }
            Ok(kept)
        });
        self.forget(&entry.path);
        self.shared.placed(&entry.path);
        done.map_err(|error| failed(&entry.path, "setting the folder's metadata")(error.into()))
    }

    fn link(&self, entry: &Entry, first: &[u8]) -> Result<(), TargetError> {
        let parent = self.parent(&entry.path, Absent::IsMade)?;
        let name = c_name(&entry.path)?;
        let first = Entry {
            path: first.to_vec(),
            ..entry.clone()
        };
        let from = self.parent(&first.path, Absent::Fails)?;
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
        let (temporary, ()) = made.map_err(|error| failed(&entry.path, "linking")(error.into()))?;
        self.place(entry, temporary, &name)
    }

    fn existing(&self, entry: &Entry) -> Option<Box<dyn Existing>> {
        if self.is_in_new_folder(&entry.path) {
            return None;
        }
        let parent = self.parent(&entry.path, Absent::Fails).ok()?;
        let name = c_name(&entry.path).ok()?;
        let old = OldFile::open(parent, &name, &self.shared)?;
        Some(Box::new(old))
    }

    fn create(&self, entry: &Entry) -> Result<Box<dyn TargetFile>, TargetError> {
        let parent = self.parent(&entry.path, Absent::IsMade)?;
        // Where nobody may enter yet, a file may have its mode from the start.
        let mode = match self.is_in_new_folder(&entry.path) {
            true => entry.meta.mode & 0o777 | 0o600,
            false => 0o600,
        };
        let made = NewFile::make(&parent, &self.shared, mode);
        let made = made.map_err(|e| failed(&entry.path, "making the file")(e.into()))?;
        Ok(Box::new(made))
    }
}

fn unusable(root: &Path, source: std::io::Error) -> TargetError {
    TargetError {
        what: format!("target folder {root:?} cannot be used"),
        source: Some(source),
    }
}

/// Whether an error says that nothing stands at a path, or a link, file or nothing above it.
fn is_absent(error: Errno) -> bool {
    matches!(error, Errno::NOENT | Errno::NOTDIR | Errno::LOOP)
}

fn found(stat: &Stat) -> Found {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => FoundKind::File,
        FileType::Directory => FoundKind::Folder,
        _ => FoundKind::Other,
    };
    let size = match kind {
        FoundKind::File => u64::try_from(stat.st_size).unwrap_or(0),
        _ => 0,
    };
    let mtime = Timestamp {
        seconds: stat.st_mtime,
        nanos: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
    };
    Found { kind, size, mtime }
}

/// What a folder holds, sorted, but for names that a restore gave for now.
fn list(folder: &OwnedFd) -> Result<Vec<Listed>, Errno> {
    let mut all = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." || is_temporary(name.to_bytes()) {
            continue;
        }
        let is_folder = match entry.file_type() {
            FileType::Directory => true,
            // Some file systems do not tell.
            FileType::Unknown => fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)
                .is_ok_and(|stat| is_folder(&stat)),
            _ => false,
        };
        let name = name.to_bytes().to_vec();
        all.push(Listed { name, is_folder });
    }
    all.sort_unstable();
    Ok(all)
}

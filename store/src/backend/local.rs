//! A repository in a folder of this machine, a mounted disk, or a network file system.
//!
//! An object is written where no name shows it, synced, and then linked to its name, which refuses
//! a name that is taken; then the folder is synced. Nothing here locks, and nothing rewrites or
//! renames what is stored. It trusts the file system underneath to keep what it synced, and does
//! not check what the objects hold.

mod draft;
mod folder;
mod reserve;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use self::draft::Draft;
use self::folder::Folder;
use super::{Area, Backend, BackendError, Key, Listed, Operation, Put, Reserve, Trouble};
use crate::sealed::Sealed;

type Entry = io::Result<fs::DirEntry>;

/// The folder of drafts: never listed.
const TMP: &str = "tmp";

/// A backend in a folder.
///
/// Folders it makes have mode 0700 and objects 0600, whatever the umask. What lies there under
/// other names, in deeper folders or as anything but a file is ignored and left alone.
#[derive(Debug)]
pub struct Local {
    /// Absolute.
    root: PathBuf,
    /// Held open so that the file system cannot be unmounted during a run: it would go on under
    /// the mount point, in a folder that looks like an empty repository.
    _pin: Folder,
    /// Whether new objects may start as files without a name; turned off for good where the file
    /// system, or the lack of `/proc`, does not let them.
    unnamed: AtomicBool,
}

impl Local {
    /// Makes the folder, its parents and its area folders, as far as they lack, and opens it.
    /// Whether a folder that is there already should become a repository is for the caller to say.
    ///
    /// # Errors
    /// `Refused`, `Full`, or `Other` when something lies there that is no folder.
    pub fn create(path: &Path) -> Result<Local, BackendError> {
        let fail = |error| failure(Operation::Create, path.display().to_string(), error);
        let root = std::path::absolute(path).map_err(fail)?;
        folder::make(&root, usize::MAX).map_err(fail)?;
        for area in Area::ALL.into_iter().filter(|area| *area != Area::Config) {
            folder::make(&root.join(area.folder()), 0).map_err(fail)?;
        }
        Local::open(&root)
    }

    /// Opens a folder that exists; whether it holds a repository is not looked at.
    ///
    /// # Errors
    /// `Absent` when there is no such folder.
    pub fn open(path: &Path) -> Result<Local, BackendError> {
        let fail = |error| failure(Operation::Get, path.display().to_string(), error);
        let root = resolve(path).map_err(fail)?;
        let pin = Folder::open(&root).map_err(fail)?;
        Ok(Local {
            root,
            _pin: pin,
            unnamed: AtomicBool::new(true),
        })
    }

    /// For tests: writes as where files without a name are not to be had.
    #[cfg(test)]
    fn without_unnamed(self) -> Local {
        self.unnamed.store(false, Ordering::Relaxed);
        self
    }

    /// Where an object lies.
    fn path(&self, key: &Key, operation: Operation) -> Result<PathBuf, BackendError> {
        // A pack named "..x" would lie outside of its area.
        if key.area() == Area::Packs && key.name().starts_with("..") {
            let error =
                io::Error::new(io::ErrorKind::InvalidInput, "a name that leaves its folder");
            return Err(failure(operation, key.path(), error));
        }
        Ok(self.root.join(key.path()))
    }

    /// Tells an absent object or area from a repository that is gone altogether.
    fn rooted(&self, error: io::Error) -> io::Error {
        if error.kind() == io::ErrorKind::NotFound && !self.root.is_dir() {
            let gone = format!("the folder {} is gone", self.root.display());
            return io::Error::new(io::ErrorKind::NotConnected, gone);
        }
        error
    }

    fn read<T>(
        &self,
        key: &Key,
        how: impl Fn(File, u64) -> io::Result<T>,
    ) -> Result<T, BackendError> {
        let path = self.path(key, Operation::Get)?;
        let (file, len) = open_object(&path)
            .map_err(|error| failure(Operation::Get, key.path(), self.rooted(error)))?;
        how(file, len).map_err(|error| failure(Operation::Get, key.path(), error))
    }

    /// A folder's entries; one that does not exist has none.
    fn entries(&self, folder: &Path) -> io::Result<impl Iterator<Item = Entry> + use<>> {
        let found = match fs::read_dir(folder) {
            Ok(found) => Some(found),
            Err(error) => absent_is_fine(self.rooted(error)).map(|()| None)?,
        };
        Ok(found.into_iter().flatten())
    }

    /// Shows the objects of one folder, of those names that `valid` accepts.
    fn list_folder(
        &self,
        folder: &Path,
        valid: &dyn Fn(&str) -> bool,
        each: &mut dyn FnMut(Listed),
    ) -> io::Result<()> {
        for entry in self.entries(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| valid(name)) else {
                continue;
            };
            if let Some(size) = object_size(&entry)? {
                let name = name.to_owned();
                each(Listed { name, size });
            }
        }
        Ok(())
    }

    fn list_packs(&self, each: &mut dyn FnMut(Listed)) -> io::Result<()> {
        let packs = self.root.join(Area::Packs.folder());
        for entry in self.entries(&packs)? {
            let entry = entry?;
            let prefix = entry.file_name();
            let Some(prefix) = prefix.to_str().filter(|name| name.len() <= 2) else {
                continue;
            };
            // A key lies in the folder that its name begins with, and nowhere else.
            let valid = |name: &str| {
                Key::new(Area::Packs, name)
                    .is_some_and(|key| key.path() == format!("packs/{prefix}/{name}"))
            };
            // Trouble here must not pass for an empty folder: a shorter listing would.
            let is_folder = match fs::metadata(entry.path()) {
                Ok(found) => found.is_dir(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => false,
                Err(error) => return Err(error),
            };
            if is_folder {
                self.list_folder(&entry.path(), &valid, each)?;
            }
        }
        Ok(())
    }

    fn list_config(&self, each: &mut dyn FnMut(Listed)) -> io::Result<()> {
        match fs::metadata(self.root.join(Area::Config.folder())) {
            Ok(found) if found.is_file() => {
                let name = String::new();
                each(Listed {
                    name,
                    size: found.len(),
                });
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(error) => absent_is_fine(self.rooted(error)),
        }
    }

    /// Writes and links an object whose name was free a moment ago.
    fn store(&self, folder: &Folder, path: &Path, body: &Sealed) -> io::Result<Put> {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if self.unnamed.load(Ordering::Relaxed) && folder.keeps_unnamed() {
            if let Some(put) = draft::put_unnamed(folder, path, body)? {
                return Ok(put);
            }
            self.unnamed.store(false, Ordering::Relaxed);
        }
        let tmp = self.root.join(TMP);
        Folder::open_or_make(&tmp, 1)?;
        let draft = Draft::new(&tmp)?;
        draft.fill(body)?;
        draft.publish(path)
    }

    fn put_at(&self, path: &Path, body: &Sealed) -> io::Result<(Put, Folder)> {
        let parent = path.parent().unwrap_or(&self.root);
        // Area and prefix may be made; the repository itself never is.
        let levels = parent
            .strip_prefix(&self.root)
            .map_or(0, |below| below.components().count());
        let folder = Folder::open_or_make(parent, levels)?;
        if fs::symlink_metadata(path).is_ok() {
            return Ok((Put::Exists, folder));
        }
        let put = self.store(&folder, path, body)?;
        Ok((put, folder))
    }
}

impl Backend for Local {
    fn list(&self, area: Area, each: &mut dyn FnMut(Listed)) -> Result<(), BackendError> {
        let listed = match area {
            Area::Config => self.list_config(each),
            Area::Packs => self.list_packs(each),
            _ => {
                let valid = |name: &str| Key::new(area, name).is_some();
                self.list_folder(&self.root.join(area.folder()), &valid, each)
            }
        };
        listed.map_err(|error| failure(Operation::List, area.folder().to_owned(), error))
    }

    fn get(&self, key: &Key) -> Result<Vec<u8>, BackendError> {
        self.read(key, read_exactly)
    }

    fn get_range(&self, key: &Key, offset: u64, len: u64) -> Result<Vec<u8>, BackendError> {
        self.read(key, |mut file, size| {
            if offset.checked_add(len).is_none_or(|end| end > size) {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            file.seek(SeekFrom::Start(offset))?;
            read_exactly(file, len)
        })
    }

    fn put(&self, key: &Key, body: &Sealed) -> Result<Put, BackendError> {
        let path = self.path(key, Operation::Put)?;
        let (put, folder) = self
            .put_at(&path, body)
            .map_err(|error| failure(Operation::Put, key.path(), self.rooted(error)))?;
        // Also for a name that was taken: whoever took it may have died before this.
        folder.sync().map_err(|error| BackendError {
            operation: Operation::Put,
            key: key.path(),
            trouble: Trouble::Unknown,
            retry: true,
            source: Some(error),
        })?;
        Ok(put)
    }

    fn delete(&self, key: &Key) -> Result<(), BackendError> {
        let path = self.path(key, Operation::Delete)?;
        fs::remove_file(path)
            .or_else(|error| absent_is_fine(self.rooted(error)))
            .map_err(|error| failure(Operation::Delete, key.path(), error))
    }

    fn location(&self) -> String {
        self.root.display().to_string()
    }

    fn tidy(&self) -> Result<(), BackendError> {
        self.entries(&self.root.join(TMP))
            .and_then(draft::tidy)
            .map_err(|error| failure(Operation::Delete, TMP.to_owned(), error))
    }

    fn reserve(&self, wish: Reserve) -> Result<bool, BackendError> {
        let path = self.root.join(reserve::NAME);
        let done = match wish {
            Reserve::Keep(packs) => reserve::keep(&path, packs).map(|()| false),
            Reserve::GiveUp => reserve::give_up(&path),
            Reserve::Lend => reserve::lend(&path),
        };
        done.map_err(|error| failure(Operation::Put, reserve::NAME.to_owned(), error))
    }
}

/// One path for one folder, whichever links lead to it; the folder must exist.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    if cfg!(windows) {
        // There `canonicalize` answers paths that few other programs understand.
        return std::path::absolute(path);
    }
    fs::canonicalize(path)
}

/// Opens an object for reading, with its size.
fn open_object(path: &Path) -> io::Result<(File, u64)> {
    let mut options = fs::OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        // Opening a named pipe must not wait for somebody to write into it.
        options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
    }
    let file = options.open(path)?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "it is not a file",
        ));
    }
    Ok((file, found.len()))
}

/// The next `len` bytes. A length that memory does not hold is an error, not an abort.
fn read_exactly(file: File, len: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let capacity = usize::try_from(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
    bytes
        .try_reserve_exact(capacity)
        .map_err(|_| io::ErrorKind::OutOfMemory)?;
    file.take(len).read_to_end(&mut bytes)?;
    if bytes.len() != capacity {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
}

/// The size of a file; `None` when it vanished meanwhile, or is none. A link counts as what it
/// points to, as it does for reading.
fn object_size(entry: &fs::DirEntry) -> io::Result<Option<u64>> {
    let found = entry.metadata().and_then(|found| match found.is_symlink() {
        true => fs::metadata(entry.path()),
        false => Ok(found),
    });
    match found {
        Ok(found) => Ok(found.is_file().then_some(found.len())),
        Err(error) => absent_is_fine(error).map(|()| None),
    }
}

fn absent_is_fine(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    }
}

/// Says what kind of trouble the system's error is.
fn failure(operation: Operation, key: String, error: io::Error) -> BackendError {
    use io::ErrorKind as Kind;
    let reading = operation == Operation::Get;
    let (trouble, retry) = match error.kind() {
        Kind::NotFound if reading => (Trouble::Absent, false),
        Kind::UnexpectedEof if reading => (Trouble::OutOfRange, false),
        Kind::StorageFull | Kind::QuotaExceeded => (Trouble::Full, false),
        Kind::PermissionDenied | Kind::ReadOnlyFilesystem => (Trouble::Refused, false),
        // A put's folder or draft vanished under it, or the disk may come back.
        Kind::NotFound | Kind::NotConnected => (Trouble::Other, true),
        Kind::Interrupted | Kind::WouldBlock | Kind::TimedOut | Kind::ResourceBusy => {
            (Trouble::Other, true)
        }
        Kind::StaleNetworkFileHandle | Kind::OutOfMemory => (Trouble::Other, true),
        _ => (Trouble::Other, too_many_files(&error)),
    };
    BackendError {
        operation,
        key,
        trouble,
        retry,
        source: Some(error),
    }
}

/// Whether this process or system has too many files open, which passes.
fn too_many_files(error: &io::Error) -> bool {
    #[cfg(unix)]
    {
        use rustix::io::Errno;
        let found = Errno::from_io_error(error);
        found == Some(Errno::MFILE) || found == Some(Errno::NFILE)
    }
    #[cfg(not(unix))]
    {
        let _ = error;
        false
    }
}

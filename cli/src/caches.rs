//! The folders of local caches: which repository each belongs to, when it was last used and whether
//! a process uses it now. What is in them is the store's matter.
//!
//! A process that uses a cache holds a shared lock on the file `place` in it, which the system
//! takes back however the process ends. Only a folder that nobody holds is removed.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// Holds the repository's place as text. Its time is that of the last use.
const PLACE: &str = "place";
/// Longest place that is read.
const MAX_PLACE: u64 = 64 << 10;

/// The locks of this process, until it ends.
static HELD: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// Marks a cache folder as used by this process, now.
///
/// # Errors
/// When that cannot be written down. The cache can be used all the same.
pub fn hold(folder: &Path, location: &str) -> io::Result<()> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(folder.join(PLACE))?;
    file.try_lock_shared()?;
    if file.metadata()?.len() != location.len() as u64 {
        file.set_len(0)?;
        file.write_all(location.as_bytes())?;
    }
    file.set_modified(SystemTime::now())?;
    HELD.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(file);
    Ok(())
}

/// One cache folder.
#[derive(Debug)]
pub struct Cache {
    /// Where it is.
    pub folder: PathBuf,
    /// Id of the repository.
    pub repository: String,
    /// Its place, where known.
    pub location: Option<String>,
    /// Bytes of all files in it.
    pub bytes: u64,
    /// When a process opened it last; the newest file's time where that is unknown.
    pub last_used: Option<SystemTime>,
    /// Whether a process uses it now.
    pub in_use: bool,
}

/// All cache folders, ordered by name; what does not look like one is passed over.
///
/// # Errors
/// When the folder of all caches cannot be read. That it is not there is no error.
pub fn list(caches: &Path) -> io::Result<Vec<Cache>> {
    let entries = match fs::read_dir(caches) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        // A link is never followed: `file_type` does not.
        if let (Some(id), true) = (
            repository_of(&name.to_string_lossy()),
            entry.file_type()?.is_dir(),
        ) {
            found.push(look(entry.path(), id));
        }
    }
    found.sort_by(|a, b| a.folder.cmp(&b.folder));
    Ok(found)
}

/// `<id>-<hash of the place>`, as [`crate::outside::cache_folder`] makes them.
fn repository_of(name: &str) -> Option<String> {
    let (id, hash) = name.split_once('-')?;
    let is_hex = |text: &str| text.bytes().all(|b| b.is_ascii_hexdigit());
    (id.len() == 32 && hash.len() == 16 && is_hex(id) && is_hex(hash)).then(|| id.to_owned())
}

fn look(folder: PathBuf, repository: String) -> Cache {
    let (bytes, newest) = size(&folder);
    let place = File::open(folder.join(PLACE)).ok();
    let used = place
        .as_ref()
        .and_then(|f| f.metadata().ok()?.modified().ok());
    let location = place.as_ref().and_then(|file| {
        let mut text = String::new();
        file.take(MAX_PLACE).read_to_string(&mut text).ok()?;
        (!text.is_empty()).then_some(text)
    });
    Cache {
        repository,
        location,
        bytes,
        last_used: used.or(newest),
        in_use: place.is_some_and(|file| is_held(&file)),
        folder,
    }
}

fn is_held(place: &File) -> bool {
    // What is taken here is given back when `place` is closed.
    matches!(place.try_lock(), Err(TryLockError::WouldBlock))
}

/// Bytes of all files below a folder, and the newest of their times; what cannot be read counts
/// nothing.
fn size(folder: &Path) -> (u64, Option<SystemTime>) {
    let mut sum = (0, None);
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(meta) = entry.metadata() else {
            continue;
        };
        let (bytes, time) = match meta.is_dir() {
            true => size(&entry.path()),
            false => (meta.len(), meta.modified().ok()),
        };
        sum = (sum.0 + bytes, sum.1.max(time));
    }
    sum
}

impl Cache {
    /// Removes the folder, unless a process uses it; answers whether it is gone.
    ///
    /// # Errors
    /// When something in it cannot be removed.
    pub fn remove(&self) -> io::Result<bool> {
        // Held while it is removed: a process that comes now finds the lock taken, does without
        // its mark, and makes anew what it misses.
        let place = File::open(self.folder.join(PLACE)).ok();
        if place.as_ref().is_some_and(is_held) {
            return Ok(false);
        }
        fs::remove_dir_all(&self.folder)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "0123456789abcdef0123456789abcdef-0123456789abcdef";

    #[test]
    fn only_what_nobody_uses_is_removed() {
        let caches = tempfile::tempdir().unwrap();
        for name in [NAME, "documents", "0123-0123"] {
            fs::create_dir(caches.path().join(name)).unwrap();
        }
        std::os::unix::fs::symlink("/", caches.path().join(NAME.replace('0', "f"))).unwrap();
        let all = || list(caches.path()).unwrap();
        assert_eq!((all().len(), all()[0].in_use), (1, false));
        hold(&caches.path().join(NAME), "/srv/repository").unwrap();
        let used = &all()[0];
        assert_eq!(used.location.as_deref(), Some("/srv/repository"));
        assert!(used.in_use && used.bytes == 15 && !used.remove().unwrap());
        HELD.lock().unwrap().clear();
        let free = &all()[0];
        assert!(!free.in_use && free.remove().unwrap());
        assert!(all().is_empty() && caches.path().join("documents").exists());
        assert!(list(&caches.path().join("none")).unwrap().is_empty());
    }
}

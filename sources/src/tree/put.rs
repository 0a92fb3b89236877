//! Putting metadata onto what was restored, and files under temporary names. The order counts:
//! owner first (it clears set-id bits and capabilities), then attributes (an ACL changes the mode),
//! then mode, then times.
//!
//! Files and folders are changed through their open descriptors. Links, pipes and devices have
//! none: they are changed by name without following, under a temporary name that nobody can guess.

use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hucha_store::entry::{Entry, Kind, Meta};
use hucha_store::target::{Kept, TargetError, TargetFile};
use rustix::fs::{self, AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use super::attributes::{self, Subject};

const TEMPORARY: (&[u8], &[u8]) = (b".hucha-", b".tmp");
const TEMPORARY_DIGITS: usize = 16;

/// Tries for a free temporary name: with 64 random bits a second one is never needed.
const TRIES: usize = 8;

/// What all files of a target share.
#[derive(Debug)]
pub(super) struct Shared {
    /// Whether owners are restored.
    pub(super) ownership: bool,
    pub(super) owners_skipped: AtomicBool,
    pub(super) sockets_skipped: AtomicU64,
    /// Restored paths that look like temporary names: not to be cleaned away.
    pub(super) lookalikes: Mutex<HashSet<Vec<u8>>>,
}

impl Shared {
    /// Remembers a restored path when its name looks like a temporary one.
    pub(super) fn placed(&self, path: &[u8]) {
        if is_temporary(name_of(path)) {
            let mut known = self
                .lookalikes
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            known.insert(path.to_vec());
        }
    }

    pub(super) fn is_placed(&self, path: &[u8]) -> bool {
        self.lookalikes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(path)
    }

    /// Sets all metadata of an open file or folder.
    pub(super) fn apply(&self, file: BorrowedFd<'_>, entry: &Entry) -> Result<Kept, Errno> {
        let mut refused = Vec::new();
        let stat = fs::fstat(file)?;
        let (owner, group) = numbers(&entry.meta);
        let owned = self.own(&stat, &entry.meta, &mut refused, || {
            fs::fchown(file, owner, group)
        });
        refused.extend(attributes::replace(Subject::Open(file), &entry.xattrs));
        let mode = safe_mode(entry, owned);
        // What is right already is left alone: setting it would change the time of change, and the
        // next snapshot would read the file again.
        let stat = fs::fstat(file)?;
        if stat.st_mode & 0o7777 != mode {
            let set = fs::fchmod(file, Mode::from_raw_mode(mode));
            note(&mut refused, "mode", set);
        }
        if !has_time(&stat, &entry.meta) {
            let set = fs::futimens(file, &times(&entry.meta));
            note(&mut refused, "times", set);
        }
        Ok(Kept { refused })
    }

    /// Sets all metadata of a link, pipe or device.
    pub(super) fn apply_by_name(
        &self,
        folder: BorrowedFd<'_>,
        name: &CStr,
        entry: &Entry,
    ) -> Result<Kept, Errno> {
        let mut refused = Vec::new();
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let stat = fs::statat(folder, name, flags)?;
        let (owner, group) = numbers(&entry.meta);
        let chown = || fs::chownat(folder, name, owner, group, flags);
        let owned = self.own(&stat, &entry.meta, &mut refused, chown);
        let subject = Subject::Named {
            folder,
            name,
            path: b"",
        };
        refused.extend(attributes::replace(subject, &entry.xattrs));
        if !matches!(entry.kind, Kind::Link(_)) {
            let mode = safe_mode(entry, owned);
            note(&mut refused, "mode", chmod_by_name(folder, name, mode));
        }
        note(
            &mut refused,
            "times",
            fs::utimensat(folder, name, &times(&entry.meta), flags),
        );
        Ok(Kept { refused })
    }

    /// Sets owner and group unless they are right already; tells which of the two are right then.
    fn own(
        &self,
        stat: &Stat,
        meta: &Meta,
        refused: &mut Vec<String>,
        chown: impl FnOnce() -> Result<(), Errno>,
    ) -> (bool, bool) {
        let there = (stat.st_uid == meta.uid, stat.st_gid == meta.gid);
        if there == (true, true) {
            return there;
        }
        if !self.ownership {
            self.owners_skipped.store(true, Ordering::Relaxed);
            return there;
        }
        match chown() {
            Ok(()) => (true, true),
            Err(error) => {
                refused.push(format!("owner cannot be set: {error}"));
                there
            }
        }
    }
}

fn note(refused: &mut Vec<String>, what: &str, result: Result<(), Errno>) {
    if let Err(error) = result {
        refused.push(format!("{what} cannot be set: {error}"));
    }
}

fn numbers(meta: &Meta) -> (Option<Uid>, Option<Gid>) {
    // All ones means "as it is" to the system; no file has that number.
    let given = |number: u32| (number != u32::MAX).then_some(number);
    (
        given(meta.uid).map(Uid::from_raw),
        given(meta.gid).map(Gid::from_raw),
    )
}

/// A set-id bit would lend the rights of whoever restores when the owner is another one than it
/// was: it is dropped then. Folders keep theirs, which lend nothing.
fn safe_mode(entry: &Entry, (user, group): (bool, bool)) -> u32 {
    let mut mode = entry.meta.mode & 0o7777;
    if entry.kind != Kind::Folder {
        mode &= if user { !0 } else { !0o4000 };
        mode &= if group { !0 } else { !0o2000 };
    }
    mode
}

fn times(meta: &Meta) -> Timestamps {
    let (tv_sec, tv_nsec) = (
        meta.mtime.seconds,
        i64::from(meta.mtime.nanos.min(999_999_999)),
    );
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: fs::UTIME_OMIT,
        },
        last_modification: Timespec { tv_sec, tv_nsec },
    }
}

/// Whether a file was last modified when its entry says.
fn has_time(stat: &Stat, meta: &Meta) -> bool {
    let nanos = Some(stat.st_mtime_nsec);
    stat.st_mtime == meta.mtime.seconds && nanos == Some(u64::from(meta.mtime.nanos))
}

/// Changes a mode by name, of neither a link nor a file that has other names.
fn chmod_by_name(folder: BorrowedFd<'_>, name: &CStr, mode: u32) -> Result<(), Errno> {
    let mode = Mode::from_raw_mode(mode);
    #[cfg(target_os = "linux")]
    {
        use std::os::fd::AsRawFd;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = fs::openat(folder, name, flags, Mode::empty())?;
        let stat = fs::fstat(&file)?;
        let is_link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
        if is_link || (stat.st_nlink > 1 && !is_folder(&stat)) {
            return Err(Errno::LOOP);
        }
        fs::chmod(format!("/proc/self/fd/{}", file.as_raw_fd()), mode)
    }
    #[cfg(not(target_os = "linux"))]
    fs::chmodat(folder, name, mode, AtFlags::SYMLINK_NOFOLLOW)
}

/// Lets us read, write and enter a folder that stands in the way of itself.
pub(super) fn open_up(folder: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    let stat = fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
    match is_folder(&stat) {
        true => chmod_by_name(folder, name, stat.st_mode & 0o7777 | 0o700),
        false => Err(Errno::NOTDIR),
    }
}

pub(super) fn is_folder(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// A path's last component.
pub(super) fn name_of(path: &[u8]) -> &[u8] {
    path.rsplit(|c| *c == b'/').next().unwrap_or_default()
}

/// Whether a name is one that only we give.
pub(super) fn is_temporary(name: &[u8]) -> bool {
    let digits = name
        .strip_prefix(TEMPORARY.0)
        .and_then(|rest| rest.strip_suffix(TEMPORARY.1));
    digits.is_some_and(|digits| {
        digits.len() == TEMPORARY_DIGITS
            && digits
                .iter()
                .all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// Something under a temporary name; removed when dropped unplaced.
#[derive(Debug)]
pub(super) struct Temporary {
    folder: Arc<OwnedFd>,
    name: CString,
    is_placed: bool,
}

impl Temporary {
    /// Makes something under a free name; `make` must refuse a name that is there.
    pub(super) fn make<T>(
        folder: &Arc<OwnedFd>,
        mut make: impl FnMut(BorrowedFd<'_>, &CStr) -> Result<T, Errno>,
    ) -> Result<(Temporary, T), Errno> {
        let mut result = Err(Errno::EXIST);
        for _ in 0..TRIES {
            // Seeded by the system once a thread, and different at every call.
            let random = RandomState::new().hash_one(0u8);
            let name = CString::new(format!(".hucha-{random:016x}.tmp")).unwrap_or_default();
            result = make(folder.as_fd(), &name).map(|made| {
                let folder = Arc::clone(folder);
                (
                    Temporary {
                        folder,
                        name,
                        is_placed: false,
                    },
                    made,
                )
            });
            if !matches!(result, Err(Errno::EXIST)) {
                break;
            }
        }
        result
    }

    pub(super) fn name(&self) -> &CStr {
        &self.name
    }

    /// Gives it its name, in place of whatever is there but a folder that is not empty.
    pub(super) fn place(mut self, name: &CStr) -> Result<(), Errno> {
        let folder = &self.folder;
        let rename = || fs::renameat(folder, &self.name, folder, name);
        let mut result = rename();
        if matches!(result, Err(Errno::ISDIR | Errno::EXIST | Errno::NOTEMPTY)) {
            fs::unlinkat(folder, name, AtFlags::REMOVEDIR)?;
            result = rename();
        }
        self.is_placed = result.is_ok();
        result
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.is_placed {
            // If it stays, the next restore into this folder removes it.
            let _ = fs::unlinkat(&self.folder, &self.name, AtFlags::empty());
        }
    }
}

/// A regular file being written.
pub(super) struct NewFile {
    pub(super) file: File,
    pub(super) temporary: Temporary,
    pub(super) shared: Arc<Shared>,
}

impl TargetFile for NewFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn finish(self: Box<Self>, entry: &Entry) -> Result<Kept, TargetError> {
        let name = c_name(&entry.path)?;
        self.file
            .set_len(entry.meta.size)
            .map_err(failed(entry, "giving it its length"))?;
        let kept = self.shared.apply(self.file.as_fd(), entry);
        let kept = kept.map_err(|e| failed(entry, "setting its metadata")(e.into()))?;
        let placed = self.temporary.place(&name);
        placed.map_err(|e| failed(entry, "giving it its name")(e.into()))?;
        self.shared.placed(&entry.path);
        Ok(kept)
    }
}

/// The last component of an entry's path for the system.
pub(super) fn c_name(path: &[u8]) -> Result<CString, TargetError> {
    CString::new(name_of(path)).map_err(|_| TargetError {
        what: "its name contains a NUL".into(),
        source: None,
    })
}

/// An error about an entry.
pub(super) fn failed(entry: &Entry, doing: &'static str) -> impl FnOnce(io::Error) -> TargetError {
    let path = String::from_utf8_lossy(&entry.path).into_owned();
    move |error| TargetError {
        what: format!("{path}: {doing} failed"),
        source: Some(error),
    }
}

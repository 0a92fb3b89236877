//! Putting metadata onto what was restored, and writing new files. The order counts:
//! owner first (it clears set-id bits and capabilities), then attributes (an ACL changes the mode),
//! then mode, then times.
//!
//! Files and folders are changed through their open descriptors. Links, pipes and devices have
//! none: they are changed by name without following, under a temporary name that nobody can guess.

use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::fs::File;
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
use super::owners::Numbers;
use super::temporary::Temporary;
use crate::owner::is_temporary;

/// What all files of a target share.
#[derive(Debug)]
pub(super) struct Shared {
    /// Whether owners are restored.
    pub(super) ownership: bool,
    /// Numbers of owners by name; `None` when the snapshot's numbers count.
    pub(super) by_name: Option<Numbers>,
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
        let owners = self.owners(&entry.meta);
        let (owner, group) = given(owners);
        let owned = self.own(&stat, owners, &mut refused, || {
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
        let owners = self.owners(&entry.meta);
        let (owner, group) = given(owners);
        let chown = || fs::chownat(folder, name, owner, group, flags);
        let owned = self.own(&stat, owners, &mut refused, chown);
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

    /// Whether setting an open file's metadata would change any of it.
    pub(super) fn would_change(&self, file: BorrowedFd<'_>, entry: &Entry) -> bool {
        let Ok(stat) = fs::fstat(file) else {
            return true;
        };
        let (uid, gid) = self.owners(&entry.meta);
        let owned = (stat.st_uid == uid, stat.st_gid == gid);
        (self.ownership && owned != (true, true))
            || stat.st_mode & 0o7777 != safe_mode(entry, owned)
            || !has_time(&stat, &entry.meta)
            || !attributes::are(Subject::Open(file), &entry.xattrs)
    }

    /// Owner and group in numbers of this machine.
    fn owners(&self, meta: &Meta) -> (u32, u32) {
        let Some(numbers) = &self.by_name else {
            return (meta.uid, meta.gid);
        };
        let user = meta.user.as_ref().and_then(|name| numbers.user(name));
        let group = meta.group.as_ref().and_then(|name| numbers.group(name));
        (user.unwrap_or(meta.uid), group.unwrap_or(meta.gid))
    }

    /// Sets owner and group unless they are right already; tells which of the two are right then.
    fn own(
        &self,
        stat: &Stat,
        owners: (u32, u32),
        refused: &mut Vec<String>,
        chown: impl FnOnce() -> Result<(), Errno>,
    ) -> (bool, bool) {
        let there = (stat.st_uid == owners.0, stat.st_gid == owners.1);
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

fn given((user, group): (u32, u32)) -> (Option<Uid>, Option<Gid>) {
    // All ones means "as it is" to the system; no file has that number.
    let given = |number: u32| (number != u32::MAX).then_some(number);
    (
        given(user).map(Uid::from_raw),
        given(group).map(Gid::from_raw),
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

/// A regular file being written.
pub(super) struct NewFile {
    pub(super) file: File,
    temporary: Temporary,
    shared: Arc<Shared>,
}

impl NewFile {
    /// Makes an empty file under a temporary name.
    pub(super) fn make(
        folder: &Arc<OwnedFd>,
        shared: &Arc<Shared>,
        mode: u32,
    ) -> Result<NewFile, Errno> {
        let mode = Mode::from_raw_mode(mode);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let flags = flags | OFlags::NOFOLLOW;
        let (temporary, file) =
            Temporary::make(folder, |folder, name| fs::openat(folder, name, flags, mode))?;
        Ok(NewFile {
            file: File::from(file),
            temporary,
            shared: Arc::clone(shared),
        })
    }
}

impl TargetFile for NewFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn clear(&self, offset: u64, len: u64) -> io::Result<()> {
        let len = len.min(self.file.metadata()?.len().saturating_sub(offset));
        if len == 0 || punch(&self.file, offset, len) {
            return Ok(());
        }
        let zeros = [0; 64 << 10];
        let (mut at, end) = (offset, offset + len);
        while at < end {
            let part = (end - at).min(zeros.len() as u64);
            self.write_at(at, zeros.get(..part as usize).unwrap_or_default())?;
            at += part;
        }
        Ok(())
    }

    fn finish(self: Box<Self>, entry: &Entry) -> Result<Kept, TargetError> {
        let name = c_name(&entry.path)?;
        let len = self.file.metadata().map_or(u64::MAX, |m| m.len());
        if len != entry.meta.size {
            self.file
                .set_len(entry.meta.size)
                .map_err(failed(&entry.path, "giving it its length"))?;
        }
        let kept = self.shared.apply(self.file.as_fd(), entry);
        let kept = kept.map_err(|e| failed(&entry.path, "setting its metadata")(e.into()))?;
        let placed = self.temporary.place(&name);
        placed.map_err(|e| failed(&entry.path, "giving it its name")(e.into()))?;
        self.shared.placed(&entry.path);
        Ok(kept)
    }
}

/// Makes a range a hole; `false` where that cannot be done.
#[cfg(target_os = "linux")]
fn punch(file: &File, offset: u64, len: u64) -> bool {
    let flags = fs::FallocateFlags::PUNCH_HOLE | fs::FallocateFlags::KEEP_SIZE;
    fs::fallocate(file, flags, offset, len).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn punch(_: &File, _: u64, _: u64) -> bool {
    false
}

/// The last component of an entry's path for the system.
pub(super) fn c_name(path: &[u8]) -> Result<CString, TargetError> {
    CString::new(name_of(path)).map_err(|_| TargetError {
        what: "its name contains a NUL".into(),
        source: None,
    })
}

/// An error about a path.
pub(super) fn failed(path: &[u8], doing: &'static str) -> impl FnOnce(io::Error) -> TargetError {
    let path = String::from_utf8_lossy(path).into_owned();
    move |error| TargetError {
        what: format!("{path}: {doing} failed"),
        source: Some(error),
    }
}

//! Files beside a database that is not there: a `-wal` or `-journal` which another one left would
//! be replayed over whatever gets that name. They are moved aside, and told; while a program has
//! them open nothing is restored.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::restore::free;
use crate::database::error::{Cause, DatabaseError};

/// What SQLite adds to the name of a database for files of its own.
pub(super) const ENDS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// The name of a file that SQLite keeps beside a database.
pub(super) fn companion(path: &Path, end: &str) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(end);
    name.into()
}

/// Those of them that are there: nobody follows a link there.
pub(super) fn companions(path: &Path) -> Vec<&'static str> {
    let is_there = |end: &&str| companion(path, end).symlink_metadata().is_ok();
    ENDS.into_iter().filter(is_there).collect()
}

/// Fails when a program uses the database of a name that is free, or files beside it.
pub(super) fn refuse_used(path: &Path) -> Result<(), DatabaseError> {
    let Some(user) = user(path) else {
        return Ok(());
    };
    let what = format!(
        "{} is not there, but {user} still uses it or the files beside it",
        path.display()
    );
    Err(DatabaseError::new(Cause::Locked, what)
        .hint("stop that program, then restore again; or restore to another name"))
}

/// Gives what stands beside a free name other names; answers a warning for each.
pub(super) fn move_aside(path: &Path, stamp: &str) -> Result<Vec<String>, DatabaseError> {
    let found = companions(path);
    if found.is_empty() {
        return Ok(Vec::new());
    }
    refuse_used(path)?;
    let aside = free(path, &format!("before-restore-{stamp}"));
    let one = |end: &&str| {
        let (from, to) = (companion(path, end), companion(&aside, end));
        let (shown, to_shown) = (from.display(), to.display());
        fs::rename(&from, &to).map_err(|e| {
            let what = format!(
                "{shown} belongs to a database that is gone, and cannot be moved aside: {e}"
            );
            DatabaseError::new(Cause::Failed, what)
                .hint("move it elsewhere yourself, then restore again")
        })?;
        Ok(format!(
            "{shown} was left by a database that is gone; it is {to_shown} now"
        ))
    };
    found.iter().map(one).collect()
}

/// Fails when somebody has put files beside a name meanwhile.
pub(super) fn refuse_new(path: &Path) -> Result<(), DatabaseError> {
    match companions(path).first() {
        None => Ok(()),
        Some(end) => {
            let what = format!(
                "another program has made {} meanwhile",
                companion(path, end).display()
            );
            Err(DatabaseError::new(Cause::Exists, what)
                .hint("stop that program, then restore again; or restore to another name"))
        }
    }
}

/// Makes the names in the folder of a file last, come what may.
pub(super) fn sync_folder(of: &Path) -> io::Result<()> {
    match cfg!(unix) {
        true => File::open(of.parent().unwrap_or(Path::new("/")))?.sync_all(),
        false => Ok(()),
    }
}

/// Who has the index of the log locked, or any of the files open, as far as can be seen.
#[cfg(target_os = "linux")]
fn user(path: &Path) -> Option<String> {
    locker(&companion(path, "-shm")).or_else(|| holder(path))
}

#[cfg(not(target_os = "linux"))]
fn user(_: &Path) -> Option<String> {
    None
}

/// Every program that has a database in WAL mode open holds a lock of the index of its log.
#[cfg(target_os = "linux")]
fn locker(index: &Path) -> Option<String> {
    use rustix::fs::{Mode, OFlags};
    use rustix::process::{Flock, FlockType, Pid, fcntl_getlk};
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::open(index, flags, Mode::empty()).ok()?;
    let found = fcntl_getlk(&file, &Flock::from(FlockType::WriteLock)).ok()??;
    Some(called(found.pid.map(Pid::as_raw_pid)))
}

/// A program that has a file beside the database open, or the database itself, which was removed.
#[cfg(target_os = "linux")]
fn holder(path: &Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let found = companions(path);
    let files: Vec<(u64, u64)> = (found.iter())
        .filter_map(|end| fs::metadata(companion(path, end)).ok())
        .map(|meta| (meta.dev(), meta.ino()))
        .collect();
    let folder = path.parent()?.canonicalize().ok()?;
    let mut removed = folder.join(path.file_name()?).into_os_string();
    removed.push(" (deleted)");
    let is_one = |open: PathBuf| {
        let link = fs::read_link(&open).unwrap_or_default();
        // Files of other names are not looked at: they may lie where nobody answers.
        let has_name = |end: &&str| link.file_name() == companion(path, end).file_name();
        let is_beside = |meta: fs::Metadata| files.contains(&(meta.dev(), meta.ino()));
        link.as_os_str() == removed
            || (found.iter().any(has_name) && fs::metadata(&open).is_ok_and(is_beside))
    };
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut numbered = processes.filter_map(|process| {
        let number = process.file_name().to_str()?.parse::<i32>().ok()?;
        Some((number, process.path().join("fd")))
    });
    // Those of other users cannot be seen by everybody.
    let opens = |fds: &Path| {
        let all = fs::read_dir(fds).into_iter().flatten().flatten();
        all.map(|fd| fd.path()).any(is_one)
    };
    numbered.find_map(|(number, fds)| opens(&fds).then(|| called(Some(number))))
}

#[cfg(target_os = "linux")]
fn called(process: Option<i32>) -> String {
    let Some(number) = process.filter(|number| *number > 0) else {
        return "a program".to_owned();
    };
    match fs::read_to_string(format!("/proc/{number}/comm")) {
        Ok(name) => format!("{} (process {number})", name.trim_end()),
        Err(_) => format!("process {number}"),
    }
}

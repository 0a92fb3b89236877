//! Private folders for temporary files: 0700, the files in them 0600. They go when they are
//! dropped; what a killed process left, the next one removes.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::{Cause, DatabaseError};
use crate::owner::{is_leftover, temporary_name};

/// How folders are called. Short: the path of a socket has little room.
const PREFIX: &str = "hucha-";
/// A file in each that says by its name whose the folder is.
const OWNERS: &str = "owner";
/// More bytes than such a name has.
const OWNER: u64 = 256;
/// A folder of ours that says nothing of its owner was about to be made, or is a day old.
const UNOWNED: Duration = Duration::from_secs(86_400);

/// Where private folders are made.
#[derive(Debug, Clone)]
pub struct Scratch {
    base: PathBuf,
}

/// A private folder.
#[derive(Debug)]
pub struct PrivateFolder {
    path: PathBuf,
}

impl Scratch {
    /// Folders are made in `base`, which is made when it is not there.
    pub fn new(base: PathBuf) -> Scratch {
        Scratch { base }
    }

    /// Makes a private folder, after removing those of processes that are gone.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn folder(&self) -> Result<PrivateFolder, DatabaseError> {
        let failed = |e: io::Error| {
            let what = format!(
                "no temporary folder can be made in {}: {e}",
                self.base.display()
            );
            DatabaseError::new(Cause::Failed, what)
        };
        make(&self.base, true).map_err(failed)?;
        self.clear();
        loop {
            let random: [u8; 4] = random();
            let name: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
            let path = self.base.join(format!("{PREFIX}{name}"));
            match make(&path, false) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(e) => return Err(failed(e)),
            }
            let folder = PrivateFolder { path };
            folder.file(OWNERS, temporary_name().as_bytes())?;
            return Ok(folder);
        }
    }

    /// Removes what processes of this machine left that are gone.
    pub fn clear(&self) {
        let Ok(entries) = fs::read_dir(&self.base) else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let digits = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
            let is_ours = digits.is_some_and(|d| d.len() == 8 && d.bytes().all(is_hex));
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_ours && is_folder && is_left(&entry.path()) {
                // What stays is for the next one.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}

fn is_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

fn random() -> [u8; 4] {
    use std::hash::{BuildHasher, RandomState};
    let number = RandomState::new().hash_one(std::process::id());
    let [a, b, c, d, ..] = number.to_le_bytes();
    [a, b, c, d]
}

/// Whether nobody needs a folder any more.
fn is_left(path: &Path) -> bool {
    match owner(&path.join(OWNERS)) {
        Ok(owner) => is_leftover(&owner),
        Err(_) => {
            let changed = fs::metadata(path).and_then(|meta| meta.modified());
            let age = changed.map(|at| at.elapsed().unwrap_or_default());
            age.is_ok_and(|age| age > UNOWNED)
        }
    }
}

/// Who owns a folder, as a file says that we have written: anything else that has its name might
/// never end.
#[cfg(unix)]
fn owner(path: &Path) -> io::Result<Vec<u8>> {
    use rustix::fs::{FileType, Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&file)?;
    let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    if !is_file || stat.st_uid != rustix::process::geteuid().as_raw() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    first_of(&File::from(file))
}

#[cfg(not(unix))]
fn owner(path: &Path) -> io::Result<Vec<u8>> {
    first_of(&File::open(path)?)
}

fn first_of(file: &File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(OWNER).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn make(path: &Path, with_parents: bool) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(with_parents);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

impl PrivateFolder {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a file in it, 0600.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn file(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, DatabaseError> {
        let path = self.path.join(name);
        let write = || private_file(&path)?.write_all(bytes);
        write().map_err(|e: io::Error| {
            let what = format!("the temporary file {} cannot be made: {e}", path.display());
            DatabaseError::new(Cause::Failed, what)
        })?;
        Ok(path)
    }
}

impl Drop for PrivateFolder {
    fn drop(&mut self) {
        // What stays is for the next one.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// A new file for this user alone.
pub(crate) fn private_file(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(base: &Path) -> Vec<String> {
        let names = fs::read_dir(base).unwrap();
        let mut names: Vec<_> = names
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_folder_is_private_and_goes() {
        let keep = tempfile::tempdir().unwrap();
        let base = keep.path().join("a/b");
        let scratch = Scratch::new(base.clone());
        let (one, two) = (scratch.folder().unwrap(), scratch.folder().unwrap());
        let file = one.file("x", b"secret").unwrap();
        #[cfg(unix)]
        for (path, mode) in [(&file, 0o600), (&one.path().into(), 0o700), (&base, 0o700)] {
            use std::os::unix::fs::PermissionsExt;
            let found = fs::metadata(path).unwrap().permissions().mode();
            assert_eq!(found & 0o777, mode, "{}", path.display());
        }
        assert_eq!(names(&base).len(), 2);
        drop(one);
        assert!(!file.exists() && two.path().exists());
        drop(two);
        assert!(names(&base).is_empty());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_a_dead_process_left_is_removed_and_nothing_else() {
        let keep = tempfile::tempdir().unwrap();
        let base = keep.path();
        let owner = crate::owner::leftover_name(1);
        let make = |name: &str, owner: Option<&str>| {
            fs::create_dir(base.join(name)).unwrap();
            if let Some(owner) = owner {
                fs::write(base.join(name).join(OWNERS), owner).unwrap();
            }
        };
        make("hucha-0000000a", Some(&owner));
        make("hucha-0000000b", Some(&temporary_name()));
        make("hucha-0000000c", None);
        make("hucha-mine", Some(&owner));
        fs::write(base.join("hucha-0000000d"), &owner).unwrap();
        Scratch::new(base.into()).clear();
        let left = [
            "hucha-0000000b",
            "hucha-0000000c",
            "hucha-0000000d",
            "hucha-mine",
        ];
        assert_eq!(names(base), left);
    }

    /// Others may be able to write where we make folders.
    #[cfg(target_os = "linux")]
    #[test]
    fn what_is_no_file_of_ours_says_nothing_and_holds_nobody_up() {
        let keep = tempfile::tempdir().unwrap();
        let base = keep.path();
        let folder = |name: &str| {
            fs::create_dir(base.join(name)).unwrap();
            base.join(name).join(OWNERS)
        };
        let fifo = folder("hucha-0000000a");
        let (mode, kind) = (rustix::fs::Mode::RUSR, rustix::fs::FileType::Fifo);
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, kind, mode, 0).unwrap();
        let gone = base.join("gone");
        fs::write(&gone, crate::owner::leftover_name(1)).unwrap();
        std::os::unix::fs::symlink(&gone, folder("hucha-0000000b")).unwrap();
        Scratch::new(base.into()).clear();
        assert_eq!(names(base), ["gone", "hucha-0000000a", "hucha-0000000b"]);
    }
}

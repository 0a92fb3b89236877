//! What a walk leaves out because that was asked for: by pattern, by size, by what stands in a
//! folder. Looks at no entry that the walk does not bring; which file system counts, and which
//! folder's ignore files, is the walk's matter.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{self, FileType};
use rustix::io::Errno;

use super::contents::open_quietly;
use super::names::Names;
use super::{Presence, TreeError, TreeOptions};
use crate::ignore::IgnoreFile;
use crate::pattern::Matcher;

/// Longest file of ignore rules that is used.
const MAX_IGNORE_FILE: u64 = 16 << 20;

/// The options of a tree, ready for use.
#[derive(Debug)]
pub(super) struct Excludes {
    patterns: Matcher,
    larger_than: Option<u64>,
    pub(super) one_file_system: bool,
    if_present: Vec<(CString, Vec<u8>)>,
    ignore_files: Vec<CString>,
}

/// What was found in a folder, and what of it could not be read.
#[derive(Debug, Default)]
pub(super) struct Found<T> {
    pub(super) found: Vec<T>,
    pub(super) problems: Vec<String>,
}

impl Excludes {
    pub(super) fn new(options: &TreeOptions) -> Result<Excludes, TreeError> {
        let presence = |one: &Presence| Ok((file_name(&one.name)?, one.header.clone()));
        let if_present = options.if_present.iter().map(presence);
        let ignore_files = options.ignore_files.iter().map(|name| file_name(name));
        Ok(Excludes {
            patterns: options.exclude.clone(),
            larger_than: options.larger_than,
            one_file_system: options.one_file_system,
            if_present: if_present.collect::<Result<_, TreeError>>()?,
            ignore_files: ignore_files.collect::<Result<_, TreeError>>()?,
        })
    }

    /// Whether ignore files are looked for.
    pub(super) fn has_rules(&self) -> bool {
        !self.ignore_files.is_empty()
    }

    /// By a pattern, for an absolute path.
    pub(super) fn by_path(&self, path: &[u8]) -> bool {
        self.patterns.matches(path)
    }

    /// By the size of a file.
    pub(super) fn by_size(&self, size: u64) -> bool {
        self.larger_than.is_some_and(|most| size > most)
    }

    /// The files in a folder whose presence leaves out all else in it.
    pub(super) fn presences(&self, folder: BorrowedFd<'_>, names: &Names) -> Found<CString> {
        let mut found = Found::default();
        for (name, header) in &self.if_present {
            if !names.contains(name) {
                continue;
            }
            if header.is_empty() || found.take(name, begins_with(folder, name, header)) {
                found.found.push(name.clone());
            }
        }
        found
    }

    /// The rules of ignore files in a folder; later ones come first.
    pub(super) fn rules(&self, folder: BorrowedFd<'_>, names: &Names) -> Found<IgnoreFile> {
        let mut found = Found::default();
        let there = self.ignore_files.iter().rev();
        for name in there.filter(|name| names.contains(name)) {
            if let Some(text) = found.take(name, read_rules(folder, name)) {
                found.found.push(IgnoreFile::read(&text));
            }
        }
        found
    }
}

impl<T> Found<T> {
    fn take<U: Default>(&mut self, name: &CStr, read: io::Result<U>) -> U {
        read.unwrap_or_else(|error| {
            let name = name.to_string_lossy();
            self.problems.push(format!(
                "{name} in it, asked for by an option, cannot be read: {error}"
            ));
            U::default()
        })
    }
}

/// One component, as a name in a folder.
fn file_name(name: &OsStr) -> Result<CString, TreeError> {
    let bytes = name.as_bytes();
    let is_one = !matches!(bytes, b"" | b"." | b"..") && !bytes.contains(&b'/');
    let name = CString::new(bytes).ok().filter(|_| is_one);
    name.ok_or_else(|| TreeError::NoFileName(OsString::from(OsStr::from_bytes(bytes))))
}

/// Opens a regular file; `None` when it is anything else, a link for one.
fn open_regular(folder: BorrowedFd<'_>, name: &CStr) -> io::Result<Option<File>> {
    let file = match open_quietly(folder, name) {
        Ok(file) => file,
        // A link; a socket; gone.
        Err(Errno::LOOP | Errno::NXIO | Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let kind = FileType::from_raw_mode(fs::fstat(&file)?.st_mode);
    Ok((kind == FileType::RegularFile).then(|| File::from(file)))
}

fn begins_with(folder: BorrowedFd<'_>, name: &CStr, header: &[u8]) -> io::Result<bool> {
    let Some(file) = open_regular(folder, name)? else {
        return Ok(false);
    };
    let mut start = Vec::new();
    file.take(header.len() as u64).read_to_end(&mut start)?;
    Ok(start == header)
}

fn read_rules(folder: BorrowedFd<'_>, name: &CStr) -> io::Result<Option<Vec<u8>>> {
    let Some(file) = open_regular(folder, name)? else {
        return Ok(None);
    };
    let mut text = Vec::new();
    file.take(MAX_IGNORE_FILE + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_IGNORE_FILE {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(Some(text))
}

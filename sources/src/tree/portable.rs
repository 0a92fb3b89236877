//! File trees where there is no Unix: folders and regular files with their times. Links, owners,
//! attributes and holes are not kept, and a target is not guarded against links swapped in.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hucha_store::clock::Timestamp;
use hucha_store::entry::{Content, Entry, Kind, Meta, is_sound_path};
use hucha_store::source::{ContentError, Contents, Piece, Problem, Sink, Source, SourceError};
use hucha_store::target::{
    Existing, Found, FoundKind, Kept, Listed, Target, TargetError, TargetFile,
};

use super::{Missing, TargetOptions, TreeError, TreeOptions};
use crate::pattern::Matcher;

/// Files and folders below typed paths.
pub struct FileTree {
    /// Stored name and place, sorted by name, none within another.
    typed: Vec<(Vec<u8>, PathBuf)>,
    missing: Vec<Missing>,
    excluded: Matcher,
    larger_than: Option<u64>,
}

impl FileTree {
    /// Under which names typed paths are stored.
    pub fn stored_names(&self) -> Vec<Vec<u8>> {
        self.typed.iter().map(|(name, _)| name.clone()).collect()
    }

    /// Looks at what was typed, relative to the folder `base`.
    ///
    /// # Errors
    /// When nothing typed is there, or an option is for Unix only.
    pub fn new(
        typed: &[OsString],
        base: PathBuf,
        options: TreeOptions,
    ) -> Result<FileTree, TreeError> {
        if typed.is_empty() {
            return Err(TreeError::NothingTyped);
        }
        for (wanted, what) in [
            (options.one_file_system, "staying on one file system"),
            (!options.if_present.is_empty(), "leaving out by presence"),
            (!options.ignore_files.is_empty(), "reading ignore files"),
        ] {
            if wanted {
                return Err(TreeError::NotHere(what));
            }
        }
        let (mut found, mut missing) = (Vec::new(), Vec::new());
        for path in typed {
            match fs::canonicalize(base.join(path)) {
                Ok(place) => found.push((stored_name(&place), place)),
                Err(error) => missing.push(Missing {
                    path: path.into(),
                    error,
                }),
            }
        }
        if found.is_empty() {
            return Err(TreeError::AllMissing(missing));
        }
        found.sort_by(|a, b| hucha_store::entry::path_order(&a.0, &b.0));
        found.dedup_by(|b, a| hucha_store::entry::is_within(&b.0, &a.0));
        Ok(FileTree {
            typed: found,
            missing,
            excluded: options.exclude,
            larger_than: options.larger_than,
        })
    }

    /// Typed paths that are not there, while others are.
    pub fn missing(&self) -> &[Missing] {
        &self.missing
    }

    fn visit(&self, sink: &mut dyn Sink, name: &[u8], place: &Path) -> Result<(), SourceError> {
        if self.excluded.matches(name) {
            sink.excluded(name);
            return Ok(());
        }
        let meta = match fs::symlink_metadata(place) {
            Ok(meta) => meta,
            Err(error) => {
                sink.problem(problem(place, &error));
                return Ok(());
            }
        };
        if meta.is_file() && self.larger_than.is_some_and(|most| meta.len() > most) {
            sink.excluded(name);
        } else if meta.is_file() {
            let mut open = || {
                let file = File::open(place)?;
                Ok(Box::new(Plain { file }) as Box<dyn Contents>)
            };
            sink.entry(entry(name, Kind::File, &meta), Some(&mut open))?;
        } else if meta.is_dir() {
            sink.entry(entry(name, Kind::Folder, &meta), None)?;
            let mut names: Vec<OsString> = match fs::read_dir(place) {
                Ok(all) => all
                    .filter_map(|one| one.ok().map(|one| one.file_name()))
                    .collect(),
                Err(error) => {
                    sink.problem(problem(place, &error));
                    return Ok(());
                }
            };
            names.sort_by(|a, b| a.as_encoded_bytes().cmp(b.as_encoded_bytes()));
            for below in names {
                let full = [name, below.as_encoded_bytes()].join(&b'/');
                self.visit(sink, &full, &place.join(&below))?;
            }
        } else {
            sink.problem(problem(
                place,
                &io::Error::other("is neither file nor folder"),
            ));
        }
        Ok(())
    }
}

impl Source for FileTree {
    fn paths(&self) -> Vec<Vec<u8>> {
        let places = self.typed.iter();
        places
            .map(|(_, place)| place.as_os_str().as_encoded_bytes().to_vec())
            .collect()
    }

    fn push(&mut self, sink: &mut dyn Sink) -> Result<(), SourceError> {
        for missing in &self.missing {
            sink.problem(problem(&missing.path, &missing.error));
        }
        let mut pushed: Vec<Vec<u8>> = Vec::new();
        for (name, place) in &self.typed {
            for (cut, _) in name.iter().enumerate().filter(|(_, c)| **c == b'/') {
                let above = name.get(..cut).unwrap_or_default();
                if !pushed.iter().any(|done| done == above) {
                    let meta = Meta {
                        mode: 0o700,
                        ..Meta::default()
                    };
                    sink.entry(bare(above, Kind::Folder, meta), None)?;
                    pushed.push(above.to_vec());
                }
            }
            self.visit(sink, name, place)?;
        }
        Ok(())
    }
}

/// The names of a path, `C:` and the like without their colon.
fn stored_name(place: &Path) -> Vec<u8> {
    let bytes = place.as_os_str().as_encoded_bytes();
    let parts = bytes.split(|c| matches!(c, b'/' | b'\\' | b':' | b'?'));
    parts
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(&b'/')
}

fn problem(place: &Path, error: &io::Error) -> Problem {
    let path = place.as_os_str().as_encoded_bytes().to_vec();
    Problem {
        path,
        message: error.to_string(),
    }
}

fn entry(name: &[u8], kind: Kind, meta: &fs::Metadata) -> Entry {
    let since = meta
        .modified()
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let since = since.unwrap_or_default();
    let seconds = i64::try_from(since.as_secs()).unwrap_or(0);
    let mtime = Timestamp {
        seconds,
        nanos: since.subsec_nanos(),
    };
    let (mode, size) = match kind {
        Kind::File => (0o600, meta.len()),
        _ => (0o700, 0),
    };
    bare(
        name,
        kind,
        Meta {
            mode,
            mtime,
            size,
            ..Meta::default()
        },
    )
}

fn bare(name: &[u8], kind: Kind, meta: Meta) -> Entry {
    let path = name.to_vec();
    Entry {
        path,
        kind,
        meta,
        content: Content::None,
        xattrs: Vec::new(),
        group: None,
    }
}

struct Plain {
    file: File,
}

impl Contents for Plain {
    fn next(&mut self, buffer: &mut [u8]) -> Result<Piece, ContentError> {
        match crate::stream::read_some(&mut self.file, buffer)? {
            0 => Ok(Piece::End),
            n => Ok(Piece::Data(n)),
        }
    }
}

/// A folder as the target of a restore.
pub struct FolderTarget {
    root: PathBuf,
}

impl FolderTarget {
    /// Opens `root`; made when absent.
    ///
    /// # Errors
    /// When it is no folder and cannot become one.
    pub fn new(root: &Path, _: TargetOptions) -> Result<FolderTarget, TargetError> {
        let made = fs::create_dir_all(root);
        made.map_err(failed("target folder cannot be used"))?;
        Ok(FolderTarget {
            root: root.to_path_buf(),
        })
    }

    /// Opens `root` if it is there.
    ///
    /// # Errors
    /// When it is no folder.
    pub fn existing(
        root: &Path,
        options: TargetOptions,
    ) -> Result<Option<FolderTarget>, TargetError> {
        match root.exists() {
            true => FolderTarget::new(root, options).map(Some),
            false => Ok(None),
        }
    }

    /// Whether owners were not restored: always.
    pub fn owners_skipped(&self) -> bool {
        true
    }

    /// How many sockets were asked for: not counted here.
    pub fn sockets_skipped(&self) -> u64 {
        0
    }

    fn place(&self, path: &[u8]) -> Result<PathBuf, TargetError> {
        let text = std::str::from_utf8(path).ok();
        let text = text.filter(|text| is_sound_path(path) && !text.contains(['\\', ':']));
        let unsound = || TargetError {
            what: "unsound path".into(),
            source: None,
        };
        Ok(self.root.join(text.ok_or_else(unsound)?))
    }
}

fn failed(what: &'static str) -> impl FnOnce(io::Error) -> TargetError {
    move |error| TargetError {
        what: what.into(),
        source: Some(error),
    }
}

impl Target for FolderTarget {
    fn look(&self, path: &[u8]) -> Result<Option<Found>, TargetError> {
        let Ok(meta) = fs::symlink_metadata(self.place(path)?) else {
            return Ok(None);
        };
        let kind = match meta.file_type() {
            kind if kind.is_file() => FoundKind::File,
            kind if kind.is_dir() => FoundKind::Folder,
            _ => FoundKind::Other,
        };
        let seen = entry(path, Kind::File, &meta);
        Ok(Some(Found {
            kind,
            size: seen.meta.size,
            mtime: seen.meta.mtime,
        }))
    }

    fn list(&self, path: &[u8]) -> Result<Vec<Listed>, TargetError> {
        let Ok(found) = fs::read_dir(self.place(path)?) else {
            return Ok(Vec::new());
        };
        let listed = found.flatten().map(|one| Listed {
            name: one.file_name().as_encoded_bytes().to_vec(),
            is_folder: one.file_type().is_ok_and(|kind| kind.is_dir()),
        });
        let mut listed: Vec<Listed> = listed.collect();
        listed.sort_unstable();
        Ok(listed)
    }

    fn remove(&self, path: &[u8]) -> Result<(), TargetError> {
        let place = self.place(path)?;
        let removed = match place.is_dir() {
            true => fs::remove_dir(place),
            false => fs::remove_file(place),
        };
        removed.map_err(failed("removing it failed"))
    }

    fn make(&self, entry: &Entry) -> Result<Kept, TargetError> {
        if entry.kind != Kind::Folder {
            return Ok(Kept {
                refused: vec!["cannot be made on this system".into()],
            });
        }
        fs::create_dir_all(self.place(&entry.path)?).map_err(failed("making the folder failed"))?;
        Ok(Kept::default())
    }

    fn finish_folder(&self, _: &Entry) -> Result<Kept, TargetError> {
        Ok(Kept::default())
    }

    fn link(&self, entry: &Entry, first: &[u8]) -> Result<(), TargetError> {
        let from = self.place(first)?;
        let copied = fs::copy(from, self.place(&entry.path)?);
        copied.map(drop).map_err(failed("copying failed"))
    }

    fn existing(&self, entry: &Entry) -> Option<Box<dyn Existing>> {
        let place = self.place(&entry.path).ok()?;
        let file = File::open(&place).ok()?;
        let meta = file.metadata().ok()?;
        let modified = meta.modified().ok();
        meta.is_file().then(|| {
            Box::new(OldFile {
                size: meta.len(),
                modified,
                file: Mutex::new(file),
                place,
            }) as Box<dyn Existing>
        })
    }

    fn create(&self, entry: &Entry) -> Result<Box<dyn TargetFile>, TargetError> {
        let place = self.place(&entry.path)?;
        if let Some(parent) = place.parent() {
            fs::create_dir_all(parent).map_err(failed("making the folder above failed"))?;
        }
        let temporary = place.with_extension("hucha.tmp");
        let file = File::create(&temporary).map_err(failed("making the file failed"))?;
        Ok(Box::new(NewFile {
            file: Mutex::new(file),
            temporary,
            place,
            is_placed: false,
        }))
    }
}

struct OldFile {
    file: Mutex<File>,
    size: u64,
    modified: Option<SystemTime>,
    place: PathBuf,
}

impl Existing for OldFile {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let mut file = self
            .file
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(into)
    }

    fn is_hole(&self, _: u64, _: u64) -> bool {
        false
    }

    fn is_unchanged(&self) -> bool {
        let meta = fs::metadata(&self.place);
        meta.is_ok_and(|now| now.len() == self.size && now.modified().ok() == self.modified)
    }

    fn share(&self) -> Option<Box<dyn TargetFile>> {
        None
    }

    fn settle(&self, entry: &Entry) -> Result<Option<Kept>, TargetError> {
        let opened = OpenOptions::new().write(true).open(&self.place);
        let timed = opened.and_then(|file| file.set_modified(time_of(entry)));
        timed.map_err(failed("setting its time failed"))?;
        Ok(Some(Kept::default()))
    }
}

fn time_of(entry: &Entry) -> SystemTime {
    let seconds = u64::try_from(entry.meta.mtime.seconds).unwrap_or(0);
    UNIX_EPOCH + Duration::new(seconds, entry.meta.mtime.nanos)
}

struct NewFile {
    file: Mutex<File>,
    temporary: PathBuf,
    place: PathBuf,
    is_placed: bool,
}

impl TargetFile for NewFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut file = self
            .file
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        file.seek(SeekFrom::Start(offset))?;
        file.write_all(bytes)
    }

    fn clear(&self, offset: u64, len: u64) -> io::Result<()> {
        let zeros = [0; 64 << 10];
        let (mut at, end) = (offset, offset.saturating_add(len));
        while at < end {
            let part = (end - at).min(zeros.len() as u64);
            self.write_at(at, zeros.get(..part as usize).unwrap_or_default())?;
            at += part;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>, entry: &Entry) -> Result<Kept, TargetError> {
        let file = self
            .file
            .get_mut()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let sized = file.set_len(entry.meta.size);
        let timed = sized.and_then(|()| file.set_modified(time_of(entry)));
        let placed = timed.and_then(|()| fs::rename(&self.temporary, &self.place));
        placed.map_err(failed("putting the file in place failed"))?;
        self.is_placed = true;
        Ok(Kept::default())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.is_placed {
            // Nothing else can be done about it.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

//! Opening, and the folder of files `index-<n>.redb` of which the one with the largest number is
//! in use.
//!
//! A file is never repaired: when the newest cannot be used, the next number is begun beside it,
//! because other processes may still have it open. Files with smaller numbers than the one in use
//! are removed; on Unix whoever has one open keeps it until it is closed, on Windows removing it
//! fails and is tried again another time.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::sync::{Mutex, RwLock};
use std::time::Duration;

use ::redb::backends::FileBackend;
use ::redb::{Builder, ConcurrencyMode, Database, DatabaseError, StorageError};

use super::lock::PatientFile;
use super::rows::Checker;
use super::{Fail, Handle, RedbIndex, guard, write};
use crate::index::IndexError;

/// How often to look again when another process makes the file that we are about to make.
const TRIES: u32 = 8;

/// How to open an index.
#[derive(Clone)]
pub struct RedbOptions {
    /// Memory for pages, in bytes.
    pub cache_bytes: usize,
    /// Key of the checks.
    pub key: [u8; 32],
    /// How long to wait for another process to end writing.
    pub wait: Duration,
    /// The repository's id.
    pub identity: [u8; 16],
}

impl Default for RedbOptions {
    /// 48 MiB, 2 s; key and identity of zeros are to be replaced.
    fn default() -> Self {
        RedbOptions {
            cache_bytes: 48 << 20,
            key: [0; 32],
            wait: Duration::from_secs(2),
            identity: [0; 16],
        }
    }
}

/// An index, and how it was come by.
pub struct Opened {
    /// The index.
    pub index: RedbIndex,
    /// Whether it is new and empty.
    pub fresh: bool,
    /// Why the file before it could not be used; `None` when there was none, or it could.
    pub reason: Option<String>,
}

impl RedbIndex {
    /// Opens a file that is there. When another process is writing for longer than
    /// [`RedbOptions::wait`], the index is opened for reading only: [`super::Index::apply`] then
    /// answers [`super::Apply::Busy`] until it is opened again.
    ///
    /// # Errors
    /// When it is no index, that of another repository, made under another key, or unusable.
    pub fn open(path: &Path, options: RedbOptions) -> Result<RedbIndex, IndexError> {
        let handle = guarded(|| open_file(path, &options))?;
        let index = RedbIndex::with(handle, path, &options);
        let identity = index.read(|view, _| Ok(view.state.identity))?;
        if identity != options.identity {
            return Err(IndexError("it belongs to another repository".into()));
        }
        Ok(index)
    }

    /// Makes a file, and refuses a name that is taken.
    ///
    /// # Errors
    /// When the name is taken or the file cannot be made.
    pub fn create(path: &Path, options: RedbOptions) -> Result<RedbIndex, IndexError> {
        match create(path, &options)? {
            Some(index) => Ok(index),
            None => Err(IndexError(format!("{} is there already", path.display()))),
        }
    }

    /// Opens the newest file of a folder, or begins another when there is none or it is unusable.
    ///
    /// # Errors
    /// When no file can be made either, as in a folder that cannot be written to.
    pub fn open_or_new(dir: &Path, options: RedbOptions) -> Result<Opened, IndexError> {
        RedbIndex::open_newer(dir, options, 0)
    }

    /// Like [`RedbIndex::open_or_new`], but takes files up to number `bad` as unusable: for a
    /// caller to whom [`RedbIndex::file_number`] `bad` answered an error. Another process that
    /// did the same before is joined.
    ///
    /// # Errors
    /// As [`RedbIndex::open_or_new`].
    pub fn open_newer(dir: &Path, options: RedbOptions, bad: u64) -> Result<Opened, IndexError> {
        make_folder(dir).map_err(IndexError::from)?;
        let mut reason = None;
        for _ in 0..TRIES {
            let newest = numbers(dir)?.into_iter().max();
            let next = newest.unwrap_or(0).max(bad) + 1;
            match newest {
                Some(number) if number <= bad => {
                    reason.get_or_insert_with(|| "it failed in use".to_owned());
                }
                Some(number) => match RedbIndex::open(&file(dir, number), options.clone()) {
                    Ok(index) => return Ok(opened(dir, index, None)),
                    Err(error) => reason = Some(error.0),
                },
                None => {}
            }
            if let Some(index) = create(&file(dir, next), &options)? {
                let mut opened = opened(dir, index, reason);
                opened.fresh = true;
                return Ok(opened);
            }
        }
        Err(IndexError(
            "other processes begin new files again and again".into(),
        ))
    }

    fn with(handle: Handle, path: &Path, options: &RedbOptions) -> RedbIndex {
        let name = path.file_name().and_then(|name| name.to_str());
        RedbIndex {
            database: Some(handle),
            view: RwLock::new(None),
            checker: Checker(options.key),
            verified: Mutex::default(),
            filter: RwLock::new(None),
            misses: AtomicU32::new(0),
            wait: options.wait,
            broken: AtomicBool::new(false),
            path: path.to_owned(),
            number: name.and_then(number).unwrap_or(0),
        }
    }
}

/// A random number.
pub(super) fn random() -> Result<u64, IndexError> {
    getrandom::u64().map_err(|error| IndexError(format!("no random numbers: {error}")))
}

fn opened(dir: &Path, index: RedbIndex, reason: Option<String>) -> Opened {
    for old in numbers(dir).unwrap_or_default() {
        if old < index.number {
            // Left to the next to open the folder.
            let _ = fs::remove_file(file(dir, old));
        }
    }
    Opened {
        index,
        fresh: false,
        reason,
    }
}

fn guarded<T>(call: impl FnOnce() -> Result<T, Fail>) -> Result<T, IndexError> {
    let result = guard::catch(call).unwrap_or_else(|panic| Err(Fail::Broken(panic)));
    result.map_err(IndexError::from)
}

fn builder(options: &RedbOptions) -> Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(options.cache_bytes);
    builder.set_concurrency_mode(ConcurrencyMode::MultiWriter);
    builder
}

fn patient(file: fs::File, options: &RedbOptions) -> Result<PatientFile, Fail> {
    Ok(PatientFile {
        file: FileBackend::new(file)?,
        wait: options.wait,
    })
}

fn open_file(path: &Path, options: &RedbOptions) -> Result<Handle, Fail> {
    let open = || fs::OpenOptions::new().read(true).write(true).open(path);
    let file = open()?;
    let kind = file.metadata()?;
    // redb makes a new database of an empty file; an index is never made by opening.
    if !kind.is_file() || kind.len() == 0 {
        return Err(Fail::broken("it is empty or no file"));
    }
    let builder = builder(options);
    match builder.create_with_backend(patient(file, options)?) {
        Ok(database) => Ok(Handle::Writer(database)),
        Err(DatabaseError::Storage(StorageError::Io(error)))
            if error.kind() == io::ErrorKind::WouldBlock =>
        {
            let reader = builder.open_read_only_with_backend(patient(open()?, options)?)?;
            Ok(Handle::Reader(reader))
        }
        Err(error) => Err(error.into()),
    }
}

/// Makes an index under a name of its own and gives it the wanted name when it is complete, so
/// that nobody opens half of one. `None` when the name is taken.
fn create(path: &Path, options: &RedbOptions) -> Result<Option<RedbIndex>, IndexError> {
    let unique = format!("tmp-{:016x}", random()?);
    let temporary = path.with_file_name(unique);
    let made = guarded(|| create_file(&temporary, options));
    let named = made.and_then(|handle| {
        let index = RedbIndex::with(handle, path, options);
        let named = give_name(&temporary, path).map_err(Fail::from)?;
        Ok(named.then_some(index))
    });
    let _ = fs::remove_file(&temporary);
    named
}

fn create_file(path: &Path, options: &RedbOptions) -> Result<Handle, Fail> {
    let mut open = fs::OpenOptions::new();
    open.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut open, 0o600);
    let file = open.open(path)?;
    let database = builder(options).create_with_backend(patient(file, options)?)?;
    let generation = random().map_err(|error| Fail::Broken(error.0))?;
    let txn = database.begin_write()?;
    write::reset(&txn, &Checker(options.key), options.identity, generation)?;
    txn.commit()?;
    Ok(Handle::Writer(database))
}

/// `false` when the name is taken. Where there are no hard links, two processes may both take it:
/// then one of them goes on in a file without a name, which costs it its cache and nothing else.
fn give_name(from: &Path, to: &Path) -> io::Result<bool> {
    match fs::hard_link(from, to) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(_) if to.try_exists()? => Ok(false),
        Err(_) => fs::rename(from, to).map(|()| true),
    }
}

fn make_folder(dir: &Path) -> Result<(), Fail> {
    let mut make = fs::DirBuilder::new();
    make.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut make, 0o700);
    Ok(make.create(dir)?)
}

fn file(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("index-{number}.redb"))
}

fn number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("index-")?.strip_suffix(".redb")?;
    // Fewer digits than 2^63 has: one more never overflows.
    let plain = digits.len() <= 18 && digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|_| plain)
}

fn numbers(dir: &Path) -> Result<Vec<u64>, IndexError> {
    let failed = |error: io::Error| IndexError(format!("{}: {error}", dir.display()));
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        numbers.extend(entry.map_err(failed)?.file_name().to_str().and_then(number));
    }
    Ok(numbers)
}

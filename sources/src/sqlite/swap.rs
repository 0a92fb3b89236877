//! The restored database in place of the live one. The contents are exchanged, not the files:
//! programs that have the file open go on, and see the other contents in their next transaction.
//! The exchange is one transaction of SQLite, so a crash in the middle leaves the live one as it
//! was.
//!
//! What is kept of the live one is all that was committed before the exchange. Nobody else writes
//! while it is copied; between the copy and the exchange the lock changes hands, and when somebody
//! came in there, both begin anew.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, ErrorCode};

use super::check::{Depth, sound};
use super::restore::{Temporary, free, open_quiet};
use super::{Sqlite, reading, told};
use crate::database::error::{Cause, DatabaseError};
use crate::database::{Context, Restored};

/// How often others may come in between before the exchange is given up.
const TRIES: usize = 10;

/// How often it is looked whether nobody writes: somebody who does it all the time leaves little
/// room in between, which SQLite's own pauses of 100 ms would miss.
const LOOK: Duration = Duration::from_micros(500);

/// Where the counter of changes is in a file that keeps no log (sqlite.org/fileformat2.html).
const COUNTER: u64 = 24;

/// Copies the live database beside itself, then the restored one over it, and removes that.
pub(super) fn swap(
    live: &Sqlite,
    restored: Restored,
    context: &Context,
) -> Result<Restored, DatabaseError> {
    let new = Path::new(&restored.name);
    if new == live.path {
        // There was none: the restored one is the live one already.
        return Ok(restored);
    }
    let stamp = restored
        .name
        .rsplit_once(".restored-")
        .map(|(_, stamp)| stamp);
    let kept = free(
        &live.path,
        &format!("before-restore-{}", stamp.unwrap_or("once")),
    );
    let mut opened = Opened::open(live)?;
    let source = open_quiet(new, live.busy)?;
    same_pages(live, &opened.target, new, &source)?;
    exchange(&mut opened, &source, &kept, context)?;
    sound(&opened.target, &live.path, Depth::Quick).map_err(|e| also_in(e, &kept))?;
    drop(source);
    drop(Temporary(new.to_owned()));
    Ok(Restored {
        name: live.shown(),
        kept: Some(kept.display().to_string()),
        ..restored
    })
}

/// Exchanges; anew when others have written in between.
fn exchange(
    opened: &mut Opened<'_>,
    source: &Connection,
    kept: &Path,
    context: &Context,
) -> Result<(), DatabaseError> {
    for _ in 0..TRIES {
        opened.keep_others_out(context)?;
        if opened.exchange(source, kept)? {
            return Ok(());
        }
    }
    let what = format!(
        "{} is written so often that it could not be exchanged in {TRIES} tries",
        opened.live.shown()
    );
    Err(DatabaseError::new(Cause::Locked, what)
        .hint("stop the programs that write it, then restore again with --swap"))
}

fn same_pages(
    live: &Sqlite,
    target: &Connection,
    new: &Path,
    source: &Connection,
) -> Result<(), DatabaseError> {
    let size = |connection: &Connection| -> rusqlite::Result<u64> {
        connection.pragma_query_value(None, "page_size", |row| row.get(0))
    };
    let failed = |e| told(&live.path, "exchange", &e);
    if size(source).map_err(failed)? == size(target).map_err(failed)? {
        return Ok(());
    }
    let what = format!(
        "{} has pages of another size than {}, so their contents cannot be exchanged",
        live.shown(),
        new.display()
    );
    Err(DatabaseError::new(Cause::Failed, what)
        .hint("stop the programs that use it, and exchange the two files"))
}

/// The live database, opened as often as one connection cannot do the work of another.
struct Opened<'a> {
    live: &'a Sqlite,
    /// Is written over.
    target: Connection,
    /// Keeps others from writing meanwhile.
    lock: Connection,
    /// Is copied from.
    reader: Connection,
    has_log: bool,
    /// Goes last: where the file is closed, SQLite's locks of it in this process go.
    file: File,
}

impl Opened<'_> {
    fn open(live: &Sqlite) -> Result<Opened<'_>, DatabaseError> {
        let target = live.open()?;
        let failed = |e| told(&live.path, "read", &e);
        let has_log = reading::journal(&target).map_err(failed)? == "wal";
        let lock = live.open()?;
        lock.busy_timeout(Duration::ZERO).map_err(failed)?;
        Ok(Opened {
            live,
            lock,
            reader: live.open()?,
            has_log,
            file: File::open(&live.path).map_err(|e| unreadable(live, &e))?,
            target,
        })
    }

    /// From here on nobody else writes.
    fn keep_others_out(&self, context: &Context) -> Result<(), DatabaseError> {
        let since = Instant::now();
        loop {
            context.go_on()?;
            let done = self.lock.execute_batch("BEGIN IMMEDIATE");
            let code = done.as_ref().err().and_then(|e| e.sqlite_error_code());
            if code != Some(ErrorCode::DatabaseBusy) || since.elapsed() >= self.live.busy {
                return done.map_err(|e| told(&self.live.path, "exchange", &e));
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Keeps the live one, which nobody writes, and writes the other over it. `false`: somebody
    /// came in between.
    fn exchange(&mut self, source: &Connection, kept: &Path) -> Result<bool, DatabaseError> {
        let copied = self.state().and_then(|state| {
            self.keep(kept)?;
            Ok(state)
        });
        if copied.is_err() {
            // What counts is what failed before.
            let _ = self.lock.execute_batch("ROLLBACK");
        }
        match self.overwrite(source, &copied?) {
            Ok(false) => fs::remove_file(kept).map(|()| false).map_err(|e| {
                let what = format!("{} cannot be removed: {e}", kept.display());
                DatabaseError::new(Cause::Failed, what)
            }),
            done => done.map_err(|e| also_in(e, kept)),
        }
    }

    /// Hands the lock over and writes, unless the live one is not as it was copied: `false`.
    fn overwrite(&mut self, source: &Connection, copied: &State) -> Result<bool, DatabaseError> {
        let failed = |e| told(&self.live.path, "exchange", &e);
        let backup = Backup::new(source, &mut self.target).map_err(failed)?;
        self.lock.execute_batch("ROLLBACK").map_err(failed)?;
        // Takes the lock, and copies nothing yet.
        step(&backup, 0).map_err(failed)?;
        if state(&self.reader, &self.file, self.has_log, self.live)? != *copied {
            return Ok(false);
        }
        while step(&backup, -1).map_err(failed)? != StepResult::Done {}
        Ok(true)
    }

    fn state(&self) -> Result<State, DatabaseError> {
        state(&self.reader, &self.file, self.has_log, self.live)
    }

    /// Copies the live one, which nobody writes meanwhile.
    fn keep(&self, kept: &Path) -> Result<(), DatabaseError> {
        let failed = |e| told(&self.live.path, "copy", &e);
        let temporary = Temporary::beside(kept)?;
        {
            let mut copy = open_quiet(&temporary.0, self.live.busy)?;
            let backup = Backup::new(&self.reader, &mut copy).map_err(failed)?;
            while step(&backup, -1).map_err(failed)? != StepResult::Done {}
            drop(backup);
            sound(&copy, kept, Depth::Quick)?;
        }
        temporary.place(kept, "once").map(|_| ())
    }
}

/// What is another one after every commit of others.
#[derive(Debug, PartialEq, Eq)]
enum State {
    /// As the connection sees it.
    Seen(i64),
    /// As it is in the file, which no connection can read while it is exchanged.
    InFile([u8; 4]),
}

fn state(
    reader: &Connection,
    file: &File,
    has_log: bool,
    live: &Sqlite,
) -> Result<State, DatabaseError> {
    match has_log {
        true => reader
            .pragma_query_value(None, "data_version", |row| row.get(0))
            .map(State::Seen)
            .map_err(|e| told(&live.path, "read", &e)),
        false => counter(file)
            .map(State::InFile)
            .map_err(|e| unreadable(live, &e)),
    }
}

#[cfg(unix)]
fn counter(file: &File) -> io::Result<[u8; 4]> {
    let mut bytes = [0; 4];
    std::os::unix::fs::FileExt::read_exact_at(file, &mut bytes, COUNTER)?;
    Ok(bytes)
}

#[cfg(not(unix))]
fn counter(mut file: &File) -> io::Result<[u8; 4]> {
    use std::io::{Read, Seek, SeekFrom};
    let mut bytes = [0; 4];
    file.seek(SeekFrom::Start(COUNTER))?;
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn unreadable(live: &Sqlite, error: &io::Error) -> DatabaseError {
    let what = format!("{} cannot be read: {error}", live.shown());
    DatabaseError::new(Cause::Failed, what)
}

/// An exchange that failed leaves a copy, which is told.
fn also_in(error: DatabaseError, kept: &Path) -> DatabaseError {
    let kept = format!("what was there before is in {}", kept.display());
    let hint = match &error.hint {
        Some(hint) => format!("{hint}; {kept}"),
        None => kept,
    };
    error.hint(hint)
}

/// Copies pages; waits for others as the connections say.
fn step(backup: &Backup<'_, '_>, pages: i32) -> rusqlite::Result<StepResult> {
    match backup.step(pages)? {
        // The connection has waited as long as it was told.
        StepResult::Busy | StepResult::Locked => {
            let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
            Err(rusqlite::Error::SqliteFailure(code, None))
        }
        done => Ok(done),
    }
}

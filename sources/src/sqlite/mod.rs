//! SQLite: a database file that others may be writing.
//!
//! In WAL mode the pages are read within one read transaction, which blocks no writer
//! ([`reading`]). Otherwise a writer waits for readers, so the file is copied as fast as the disk
//! allows, by the online backup interface, into a private file, and that is read ([`copy`]). What
//! was read is checked and counted before it counts as whole ([`check`]). A database that is not
//! there is an error and never made; the file is not opened but through SQLite, which would lose
//! its locks (the exchange, [`swap`], closes it last).

mod check;
mod copy;
mod parts;
mod reading;
mod restore;
pub(crate) mod rows;
#[cfg(unix)]
mod share;
mod stale;
mod swap;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hucha_store::source::Profile;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::child::lock;
use crate::database::error::{Cause, DatabaseError};
use crate::database::settings::Settings;
use crate::database::{
    Capture, Captured, Context, Database, Preflight, RestoreOptions, Restored, Stored, Stream,
    Verified,
};
use check::{Checked, Depth, Found};
use reading::{Pages, Reading};

/// How long a lock of others is waited for, unless `busy_timeout` says otherwise.
const BUSY: Duration = Duration::from_secs(30);

/// A SQLite database file.
pub struct Sqlite {
    path: PathBuf,
    depth: Depth,
    busy: Duration,
}

impl Sqlite {
    /// From `sqlite:///path/to/file`. Options: `check` (`quick`, `full`, `none`) says how what was
    /// read is checked, `busy_timeout` how many seconds locks are waited for.
    ///
    /// # Errors
    /// When there is no path, or an option is wrong.
    pub fn new(mut settings: Settings) -> Result<Sqlite, DatabaseError> {
        let address = settings.address.clone();
        if let Some(host) = &address.host {
            let what = format!("sqlite://{host}{} names a host", address.path);
            return Err(DatabaseError::setting(what)
                .hint("a path begins with a third slash: sqlite:///var/lib/shop/app.db"));
        }
        if address.path.is_empty() || address.path == "/" {
            let what = "sqlite: needs the path of a file";
            return Err(DatabaseError::setting(what).hint("like sqlite:///var/lib/shop/app.db"));
        }
        let path = std::path::absolute(on_this_system(&address.path));
        let path = path.map_err(|e| DatabaseError::setting(format!("{}: {e}", address.path)))?;
        let depth = settings.word(
            "check",
            &[
                ("quick", Depth::Quick),
                ("full", Depth::Full),
                ("none", Depth::None),
            ],
        )?;
        let busy = settings.number("busy_timeout")?;
        if settings.password()?.is_some() {
            return Err(DatabaseError::setting("a SQLite database has no password"));
        }
        settings.finish()?;
        Ok(Sqlite {
            path,
            depth,
            busy: busy.map_or(BUSY, Duration::from_secs),
        })
    }

    /// The file, for messages.
    fn shown(&self) -> String {
        self.path.display().to_string()
    }

    /// Opens the live file: for writing, so that SQLite may bring its own bookkeeping in order, but
    /// without making it.
    fn open(&self) -> Result<Connection, DatabaseError> {
        open(&self.path, self.busy)
    }
}

/// `/C:/a` is a path on Windows with a slash too many.
fn on_this_system(path: &str) -> &str {
    let after = path.strip_prefix('/').unwrap_or(path);
    match after.as_bytes() {
        [drive, b':', b'/' | b'\\', ..] if cfg!(windows) && drive.is_ascii_alphabetic() => after,
        _ => path,
    }
}

/// Opens a file that is there.
fn open(path: &Path, busy: Duration) -> Result<Connection, DatabaseError> {
    let failed = |e| told(path, "open", &e);
    if !path.try_exists().unwrap_or(true) {
        let what = format!("{} is not there", path.display());
        return Err(DatabaseError::new(Cause::Absent, what).hint("is the path right?"));
    }
    let log = std::fs::metadata(stale::companion(path, "-wal"));
    let has_log = log.is_ok_and(|log| log.len() > 0);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection.busy_timeout(busy).map_err(failed)?;
    // A program that only looks does not move the log into the file when it closes it last. Where
    // there is none, the files that were made for us go with us.
    let keep_log = |keep| {
        let keeps = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, keep);
        keeps.map_err(failed)
    };
    keep_log(has_log)?;
    // The first real look at the file.
    connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
        .map_err(failed)?;
    #[cfg(unix)]
    if let Err(error) = share::share(path) {
        // What was made for us must not stay, whatever it costs.
        keep_log(false)?;
        return Err(error);
    }
    Ok(connection)
}

/// What SQLite said, in a sentence.
fn told(path: &Path, doing: &str, error: &rusqlite::Error) -> DatabaseError {
    let path = path.display();
    let code = error.sqlite_error_code();
    let (cause, what, hint) = match code {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => (
            Cause::Unreachable,
            format!("{path} stayed locked by another program"),
            Some("raise busy_timeout, or find the program that holds the lock"),
        ),
        Some(ErrorCode::NotADatabase) => (
            Cause::Failed,
            format!("{path} is no SQLite database, or it is encrypted"),
            None,
        ),
        Some(ErrorCode::DatabaseCorrupt) => (
            Cause::Incomplete,
            format!("{path} is damaged: {error}"),
            Some("restore an older snapshot beside it, or see https://sqlite.org/recovery.html"),
        ),
        Some(ErrorCode::PermissionDenied | ErrorCode::CannotOpen | ErrorCode::ReadOnly) => (
            Cause::Denied,
            format!("{path} cannot be opened: {error}"),
            Some("the user who runs hucha needs to read and write the file and its folder"),
        ),
        Some(ErrorCode::DiskFull) => (
            Cause::Failed,
            format!("there is no room to {doing} {path}: {error}"),
            (doing == "copy")
                .then_some("the copy is in the cache folder: --cache-dir puts it on another disk"),
        ),
        _ => (
            Cause::Failed,
            format!("cannot {doing} {path}: {error}"),
            None,
        ),
    };
    let error = DatabaseError::new(cause, what);
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

impl Database for Sqlite {
    fn kind(&self) -> &'static str {
        "sqlite"
    }

    fn location(&self) -> String {
        format!("sqlite://{}", self.shown())
    }

    fn default_name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    fn preflight(&self, _: &Context) -> Result<Preflight, DatabaseError> {
        self.open()?;
        Ok(Preflight {
            server: "SQLite 3".to_owned(),
            tool: format!("SQLite {}", rusqlite::version()),
        })
    }

    fn capture<'a>(&'a self, context: &'a Context) -> Result<Capture<'a>, DatabaseError> {
        let source = self.open()?;
        let journal = reading::journal(&source).map_err(|e| told(&self.path, "read", &e))?;
        let (pages, checked) = match reading::begin(&source, &journal) {
            Ok(true) => (Pages::Live { next: 1 }, source),
            Ok(false) => {
                let copied = copy::copy(source, &self.path, context)?;
                let connection = open(&copied.path(), self.busy)?;
                (Pages::Copied(copied), connection)
            }
            Err(e) => return Err(told(&self.path, "read", &e)),
        };
        let checked = Checked::new(checked, &self.path, self.depth);
        let found = Arc::new(Mutex::new(None));
        let noted = Arc::clone(&found);
        Ok(Capture {
            streams: vec![Stream {
                name: String::new(),
                profile: Profile::PAGES,
                open: Box::new(move || Ok(Box::new(Reading::new(pages, checked, noted)?))),
            }],
            at_once: 1,
            end: Box::new(move || {
                let found: Found = lock(&found).take().unwrap_or_default();
                let mut properties = found.properties;
                let journal = match journal.as_str() {
                    "wal" => "wal",
                    // Which kind of rollback is the matter of each connection.
                    _ => "rollback",
                };
                properties.push(("journal".to_owned(), journal.to_owned()));
                Ok(Captured {
                    form: "pages".to_owned(),
                    warnings: found.warnings,
                    properties,
                })
            }),
        })
    }

    fn restore(
        &self,
        stored: &dyn Stored,
        options: &RestoreOptions,
        context: &Context,
    ) -> Result<Restored, DatabaseError> {
        restore::restore(self, stored, options, context)
    }

    fn swap(&self, restored: Restored, context: &Context) -> Result<Restored, DatabaseError> {
        swap::swap(self, restored, context)
    }

    fn verify(&self, stored: &dyn Stored, _: &Context) -> Result<Verified, DatabaseError> {
        restore::verify(&self.path, self.busy, stored)
    }

    fn remove(&self, name: &str, _: &Context) -> Result<(), DatabaseError> {
        drop(restore::Temporary(PathBuf::from(name)));
        Ok(())
    }

    fn query(&self, sql: &str, _: &Context) -> Result<Option<String>, DatabaseError> {
        use rusqlite::types::ValueRef;
        let text = |row: &rusqlite::Row<'_>| {
            Ok(match row.get_ref(0)? {
                ValueRef::Null => None,
                ValueRef::Integer(number) => Some(number.to_string()),
                ValueRef::Real(number) => Some(number.to_string()),
                ValueRef::Text(text) | ValueRef::Blob(text) => {
                    Some(String::from_utf8_lossy(text).into_owned())
                }
            })
        };
        let found = self.open()?.query_row(sql, [], text);
        match found {
            Err(rusqlite::Error::QueryReturnedNoRows) => Ok(None),
            found => found.map_err(|e| told(&self.path, "ask", &e)),
        }
    }
}

//! A stored database as a file again: written beside its place under a temporary name, checked,
//! its rows compared, then given its name.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::check::{Depth, rows, sound, tables};
use super::{Sqlite, parts, stale, told};
use crate::database::error::{Cause, DatabaseError};
use crate::database::scratch::private_file;
use crate::database::{Context, Part, RestoreOptions, Restored, Stored, Verified, compare_rows};
use crate::owner::temporary_name;

/// Makes a database file of what is stored.
pub(super) fn restore(
    to: &Sqlite,
    stored: &dyn Stored,
    options: &RestoreOptions,
    context: &Context,
) -> Result<Restored, DatabaseError> {
    if stored.member().kind != "sqlite" {
        let what = format!(
            "\"{}\" is a {} database, which cannot become a SQLite file",
            stored.member().name,
            stored.member().kind
        );
        return Err(DatabaseError::setting(what));
    }
    if options.part == Part::Data {
        return parts::fill(to, stored, options, context);
    }
    let path = match to.path.try_exists() {
        Ok(false) => {
            stale::refuse_used(&to.path)?;
            to.path.clone()
        }
        _ => free(&to.path, &format!("restored-{}", context.stamp)),
    };
    let all = Temporary::beside(&path)?;
    write(stored, &all.0, context)?;
    let (made, verified) = match options.part == Part::All && options.tables.is_empty() {
        true => {
            let verified = verify(&all.0, to.busy, stored)?;
            (all, verified)
        }
        false => {
            let part = Temporary::beside(&path)?;
            let verified = parts::extract(&all.0, &part.0, options, stored)?;
            (part, verified)
        }
    };
    let warnings = made.place(&path, &context.stamp)?;
    Ok(Restored {
        warnings,
        ..restored(&path, &verified)
    })
}

pub(super) fn restored(path: &Path, verified: &Verified) -> Restored {
    Restored {
        name: path.display().to_string(),
        tables: verified.tables,
        rows: verified.rows,
        ..Restored::default()
    }
}

/// The same file with something behind its name.
pub(super) fn beside(path: &Path, what: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{what}"));
    path.with_file_name(name)
}

/// The same, with a number behind it when there is such a file: two in a second.
pub(super) fn free(path: &Path, what: &str) -> PathBuf {
    let numbered = |n: u32| match n {
        1 => beside(path, what),
        n => beside(path, &format!("{what}-{n}")),
    };
    let is_free = |path: &PathBuf| {
        path.try_exists().is_ok_and(|there| !there) && stale::companions(path).is_empty()
    };
    let mut names = (1..1000).map(numbered);
    names.find(is_free).unwrap_or_else(|| beside(path, what))
}

/// A file that goes unless it is given its name.
pub(super) struct Temporary(pub PathBuf);

impl Temporary {
    /// A name beside another.
    pub fn beside(path: &Path) -> Result<Temporary, DatabaseError> {
        let temporary = path.with_file_name(temporary_name());
        private_file(&temporary).map_err(|e| {
            let folder = path.parent().unwrap_or(Path::new("")).display().to_string();
            DatabaseError::new(Cause::Failed, format!("cannot write into {folder}: {e}"))
        })?;
        Ok(Temporary(temporary))
    }

    /// Gives it its name, unless something stands there. Answers what was moved aside for that.
    pub fn place(self, path: &Path, stamp: &str) -> Result<Vec<String>, DatabaseError> {
        let moved = stale::move_aside(path, stamp)?;
        let placed = fs::File::open(&self.0)
            .and_then(|file| file.sync_all())
            .and_then(|()| fs::hard_link(&self.0, path));
        placed.map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists => DatabaseError::new(
                Cause::Exists,
                format!("{} is there already", path.display()),
            ),
            _ => {
                let what = format!("{} cannot be put in place: {e}", path.display());
                DatabaseError::new(Cause::Failed, what)
            }
        })?;
        let whole = stale::refuse_new(path).and_then(|()| {
            stale::sync_folder(path).map_err(|e| {
                let what = format!("{} cannot be put in place: {e}", path.display());
                DatabaseError::new(Cause::Failed, what)
            })
        });
        if whole.is_err() {
            // Nothing of a restore that failed stays.
            let _ = fs::remove_file(path);
        }
        whole.map(|()| moved)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Of a file that was given its name this is the other name.
        let _ = fs::remove_file(&self.0);
        for end in stale::ENDS {
            let _ = fs::remove_file(stale::companion(&self.0, end));
        }
    }
}

/// Writes the stored bytes into a file.
pub(super) fn write(
    stored: &dyn Stored,
    path: &Path,
    context: &Context,
) -> Result<(), DatabaseError> {
    let failed = |e: io::Error| {
        let what = format!("{} cannot be written: {e}", path.display());
        DatabaseError::new(Cause::Failed, what)
    };
    let mut file = fs::File::options().write(true).open(path).map_err(failed)?;
    stored.read("", &mut |bytes| {
        let mut buffer = vec![0; 1 << 16];
        loop {
            context.go_on()?;
            let n = bytes.read(&mut buffer).map_err(|e| {
                DatabaseError::new(
                    Cause::Incomplete,
                    format!("the snapshot cannot be read: {e}"),
                )
            })?;
            if n == 0 {
                return Ok(());
            }
            file.write_all(buffer.get(..n).unwrap_or_default())
                .map_err(failed)?;
        }
    })
}

/// Opens a file that nobody writes.
pub(super) fn open_quiet(path: &Path, busy: Duration) -> Result<Connection, DatabaseError> {
    let failed = |e| told(path, "open", &e);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection.busy_timeout(busy).map_err(failed)?;
    Ok(connection)
}

/// Whether a file is sound and has the rows that are stored.
pub(super) fn verify(
    path: &Path,
    busy: Duration,
    stored: &dyn Stored,
) -> Result<Verified, DatabaseError> {
    let connection = open_quiet(path, busy)?;
    sound(&connection, path, Depth::Full).map_err(|e| DatabaseError {
        cause: Cause::Differs,
        ..e
    })?;
    let failed = |e| told(path, "count the rows of", &e);
    let expected: Vec<(String, u64)> = (stored.streams().iter())
        .flat_map(|stream| stream.facts.rows.clone())
        .collect();
    let there: Vec<String> = (tables(&connection).map_err(failed)?.into_iter())
        .map(|(name, _)| name)
        .collect();
    let verified = compare_rows(&expected, &|table| {
        let is_there = there.iter().any(|name| name == table);
        is_there.then(|| rows(&connection, table).ok()).flatten()
    })?;
    Ok(Verified {
        checks: vec!["integrity_check".to_owned()],
        ..verified
    })
}

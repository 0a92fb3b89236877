//! What must hold of a database that was read: SQLite's own check of it, and the rows of every
//! table.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode};

use super::told;
use crate::database::error::{Cause, DatabaseError};

/// Lines of a failed check that a message has.
const LINES: usize = 5;

/// How a database is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// `PRAGMA quick_check`: all but whether indexes agree with tables.
    Quick,
    /// `PRAGMA integrity_check`.
    Full,
    /// Not at all.
    None,
}

/// A connection to what is read, and what is to be made sure of it.
pub(super) struct Checked {
    pub connection: Connection,
    path: PathBuf,
    depth: Depth,
}

/// What was found out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub rows: Vec<(String, u64)>,
    pub warnings: Vec<String>,
    pub properties: Vec<(String, String)>,
}

impl Checked {
    pub fn new(connection: Connection, path: &Path, depth: Depth) -> Checked {
        Checked {
            connection,
            path: path.to_owned(),
            depth,
        }
    }

    /// Checks and counts, in the connection's transaction if it has one.
    pub fn find(&self) -> Result<Found, DatabaseError> {
        sound(&self.connection, &self.path, self.depth)?;
        let failed = |e| told(&self.path, "count the rows of", &e);
        let mut found = Found::default();
        count(&self.connection, &mut found).map_err(failed)?;
        found.properties = properties(&self.connection).map_err(failed)?;
        let broken = foreign_keys(&self.connection).map_err(failed)?;
        found.warnings.extend(broken);
        Ok(found)
    }

    /// What SQLite said, in a sentence.
    pub fn told(&self, error: &rusqlite::Error) -> DatabaseError {
        told(&self.path, "read", error)
    }
}

/// Lets SQLite check a database.
pub(super) fn sound(
    connection: &Connection,
    path: &Path,
    depth: Depth,
) -> Result<(), DatabaseError> {
    let pragma = match depth {
        Depth::None => return Ok(()),
        Depth::Quick => "quick_check",
        Depth::Full => "integrity_check",
    };
    let sql = format!("PRAGMA {pragma}({LINES})");
    let lines: Result<Vec<String>, _> = connection
        .prepare(&sql)
        .and_then(|mut statement| statement.query_map([], |row| row.get(0))?.collect());
    let lines = lines.map_err(|e| told(path, "check", &e))?;
    if lines == ["ok"] {
        return Ok(());
    }
    let what = format!(
        "{} is damaged, {pragma} says:\n  {}",
        path.display(),
        lines.join("\n  ")
    );
    Err(DatabaseError::new(Cause::Incomplete, what)
        .hint("restore an older snapshot beside it; `check=none` stores it as it is"))
}

/// Names of the tables that hold rows of their own, and whether each is virtual.
pub(super) fn tables(connection: &Connection) -> rusqlite::Result<Vec<(String, bool)>> {
    let sql = "SELECT name, type = 'virtual' FROM pragma_table_list \
               WHERE schema = 'main' AND type IN ('table', 'shadow', 'virtual') \
               AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name";
    let mut statement = connection.prepare(sql)?;
    statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

/// A name in SQL.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn count(connection: &Connection, found: &mut Found) -> rusqlite::Result<()> {
    for (table, is_virtual) in tables(connection)? {
        match rows(connection, &table) {
            Ok(rows) => found.rows.push((table, rows)),
            // Its module belongs to the program that made it.
            Err(_) if is_virtual => found.warnings.push(format!(
                "the rows of virtual table {table} were not counted"
            )),
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// The rows of a table.
pub(super) fn rows(connection: &Connection, table: &str) -> rusqlite::Result<u64> {
    let sql = format!("SELECT count(*) FROM main.{}", quoted(table));
    connection.query_row(&sql, [], |row| row.get(0))
}

/// What a restore in another form must keep.
fn properties(connection: &Connection) -> rusqlite::Result<Vec<(String, String)>> {
    let names = ["application_id", "encoding", "page_size", "user_version"];
    let value = |name: &&str| {
        let value = connection
            .pragma_query_value(None, name, |row| row.get::<_, rusqlite::types::Value>(0))?;
        let value = match value {
            rusqlite::types::Value::Text(text) => text,
            rusqlite::types::Value::Integer(number) => number.to_string(),
            _ => String::new(),
        };
        Ok(((*name).to_owned(), value))
    };
    names.iter().map(value).collect()
}

/// A warning when rows refer to rows that are not there, or SQLite cannot say whether they do: it
/// runs databases whose foreign keys fit nothing.
fn foreign_keys(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let sql = "SELECT count(*), min(\"table\") FROM pragma_foreign_key_check";
    let found = connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)));
    let found: (u64, Option<String>) = match found {
        // SQL that does not fit, and no damage.
        Err(e) if e.sqlite_error_code() == Some(ErrorCode::Unknown) => {
            return Ok(Some(format!("foreign keys could not be checked: {e}")));
        }
        found => found?,
    };
    Ok(match found {
        (0, _) => None,
        (rows, table) => Some(format!(
            "{rows} rows refer to rows that are not there, the first in table {}",
            table.unwrap_or_default()
        )),
    })
}

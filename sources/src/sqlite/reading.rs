//! The pages of a database one after the other: out of the live one, within a read transaction of a
//! database in WAL mode, or out of a copy. At their end what was read is checked and counted.

use std::fs::File;
use std::io::Read;
use std::sync::{Arc, Mutex};

use hucha_store::member::StreamFacts;
use rusqlite::Connection;

use super::check::{Checked, Found};
use super::copy::Copied;
use crate::child::lock;
use crate::database::error::{Cause, DatabaseError};
use crate::database::{Bytes, hand_out};

/// Where pages come from.
pub(super) enum Pages {
    /// The live database, in a transaction that has begun.
    Live {
        /// The number of the next page.
        next: u64,
    },
    /// A copy of it.
    Copied(Copied),
}

/// The name of the journal mode: `wal`, `delete`.
pub(super) fn journal(connection: &Connection) -> rusqlite::Result<String> {
    connection.pragma_query_value(None, "journal_mode", |row| row.get(0))
}

/// Begins a read transaction that blocks no writer. `false`: there is no such thing in this
/// journal mode, or this SQLite was built without the table of pages.
pub(super) fn begin(connection: &Connection, journal: &str) -> rusqlite::Result<bool> {
    let sql = "SELECT count(*) FROM pragma_module_list WHERE name = 'sqlite_dbpage'";
    let has_pages: bool = connection.query_row(sql, [], |row| row.get(0))?;
    if journal != "wal" || !has_pages {
        return Ok(false);
    }
    connection.execute_batch("BEGIN")?;
    // The moment is that of the first reading.
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    Ok(true)
}

/// The bytes of a database.
pub(super) struct Reading {
    from: From,
    checked: Checked,
    found: Option<Found>,
    noted: Arc<Mutex<Option<Found>>>,
}

enum From {
    Live {
        next: u64,
        count: u64,
        page: Vec<u8>,
        /// How much of the page was handed out.
        given: usize,
    },
    Copied {
        file: File,
        /// Removed with this.
        _copied: Copied,
    },
}

impl Reading {
    /// What is found out at the end is put into `noted`.
    pub fn new(
        pages: Pages,
        checked: Checked,
        noted: Arc<Mutex<Option<Found>>>,
    ) -> Result<Reading, DatabaseError> {
        let from = match pages {
            Pages::Live { next } => From::Live {
                next,
                count: checked
                    .connection
                    .pragma_query_value(None, "page_count", |row| row.get(0))
                    .map_err(|e| checked.told(&e))?,
                page: Vec::new(),
                given: 0,
            },
            Pages::Copied(copied) => From::Copied {
                file: copied.file()?,
                _copied: copied,
            },
        };
        Ok(Reading {
            from,
            checked,
            found: None,
            noted,
        })
    }

    fn more(&mut self, buffer: &mut [u8]) -> Result<usize, DatabaseError> {
        match &mut self.from {
            From::Copied { file, .. } => file.read(buffer).map_err(|e| {
                DatabaseError::new(Cause::Failed, format!("the copy cannot be read: {e}"))
            }),
            From::Live {
                next,
                count,
                page,
                given,
            } => {
                let mut filled = 0;
                while filled < buffer.len() {
                    if *given == page.len() {
                        if *next > *count {
                            break;
                        }
                        read_page(&self.checked, *next, page)?;
                        (*next, *given) = (*next + 1, 0);
                    }
                    let room = buffer.get_mut(filled..).unwrap_or_default();
                    filled += hand_out(page, given, room);
                }
                Ok(filled)
            }
        }
    }
}

fn read_page(checked: &Checked, number: u64, page: &mut Vec<u8>) -> Result<(), DatabaseError> {
    let sql = "SELECT data FROM sqlite_dbpage('main') WHERE pgno = ?1";
    let mut statement = (checked.connection)
        .prepare_cached(sql)
        .map_err(|e| checked.told(&e))?;
    page.clear();
    let read = statement.query_row([number], |row| {
        page.extend_from_slice(row.get_ref(0)?.as_blob()?);
        Ok(())
    });
    read.map_err(|e| checked.told(&e))?;
    match page.is_empty() {
        true => Err(DatabaseError::new(
            Cause::Incomplete,
            format!("page {number} cannot be read"),
        )),
        false => Ok(()),
    }
}

impl Bytes for Reading {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, DatabaseError> {
        let n = self.more(buffer)?;
        if n == 0 {
            let found = self.checked.find()?;
            *lock(&self.noted) = Some(found.clone());
            self.found = Some(found);
        }
        Ok(n)
    }

    fn facts(&mut self) -> StreamFacts {
        let rows = self.found.take().unwrap_or_default().rows;
        StreamFacts {
            rows,
            ..StreamFacts::default()
        }
    }
}

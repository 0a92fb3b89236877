//! A copy of a live database in a private file, by SQLite's online backup interface.
//!
//! Without WAL a writer waits for whoever reads. The copy is made in slices, between which writers
//! come in; but when one of them has written, SQLite begins anew. After a few times it is made in
//! one piece: writers then wait as long as the file takes to be copied once.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use super::told;
use crate::database::Context;
use crate::database::error::{Cause, DatabaseError};
use crate::database::scratch::{PrivateFolder, private_file};

/// Pages of a slice, some 16 MiB of 4 KiB pages: a writer waits for one of them at most.
const SLICE: i32 = 4096;
/// How often the copy may begin anew before it is made in one piece.
const RESTARTS: usize = 3;
/// How long a lock of others is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A copy, removed with its folder.
pub(super) struct Copied {
    folder: PrivateFolder,
}

impl Copied {
    /// Where it is.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("copy.db")
    }

    /// The file, to be read.
    pub fn file(&self) -> Result<File, DatabaseError> {
        File::open(self.path())
            .map_err(|e| DatabaseError::new(Cause::Failed, format!("the copy cannot be read: {e}")))
    }
}

/// Makes a copy.
pub(super) fn copy(
    source: Connection,
    path: &Path,
    context: &Context,
) -> Result<Copied, DatabaseError> {
    let copied = Copied {
        folder: context.scratch.folder()?,
    };
    private_file(&copied.path()).map_err(|e| {
        DatabaseError::new(Cause::Failed, format!("no temporary file can be made: {e}"))
    })?;
    let failed = |e| told(path, "copy", &e);
    let mut target = Connection::open(copied.path()).map_err(failed)?;
    // Nobody else sees it, and a crash leaves nothing that counts.
    target
        .execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF")
        .map_err(failed)?;
    pour(&source, &mut target, path, context)?;
    Ok(copied)
}

/// Copies all pages of one database into another.
pub(super) fn pour(
    source: &Connection,
    target: &mut Connection,
    path: &Path,
    context: &Context,
) -> Result<(), DatabaseError> {
    pour_between(source, target, path, context, &mut || {})
}

/// The same; `between` is called before each slice.
fn pour_between(
    source: &Connection,
    target: &mut Connection,
    path: &Path,
    context: &Context,
    between: &mut dyn FnMut(),
) -> Result<(), DatabaseError> {
    let failed = |e| told(path, "copy", &e);
    let backup = Backup::new(source, target).map_err(failed)?;
    let (mut restarts, mut left) = (0, i32::MAX);
    let mut waited: Option<Instant> = None;
    loop {
        context.go_on()?;
        between();
        let pages = if restarts < RESTARTS { SLICE } else { -1 };
        match backup.step(pages).map_err(failed)? {
            StepResult::Done => return Ok(()),
            StepResult::More => {
                waited = None;
                // A slice that began anew at the first page leaves as much as it did before.
                let remaining = backup.progress().remaining;
                restarts += usize::from(remaining >= left);
                left = remaining;
            }
            StepResult::Busy | StepResult::Locked => {
                let since = *waited.get_or_insert_with(Instant::now);
                if since.elapsed() > PATIENCE {
                    let what = format!("{} stayed locked by another program", path.display());
                    return Err(DatabaseError::new(Cause::Unreachable, what));
                }
                // The lock of another program: nothing tells when it goes.
                std::thread::sleep(Duration::from_millis(2));
            }
            // What SQLite may answer in a later version.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::testing::context;

    #[test]
    fn writers_before_each_slice_do_not_keep_a_copy_from_its_end() {
        let keep = tempfile::tempdir().unwrap();
        let path = keep.path().join("shop.db");
        let writer = Connection::open(&path).unwrap();
        writer
            .execute_batch(
                "PRAGMA journal_mode = DELETE; PRAGMA synchronous = OFF;
                 CREATE TABLE shop (id INTEGER PRIMARY KEY, goods BLOB);
                 WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9000)
                 INSERT INTO shop SELECT i, zeroblob(4000) FROM n",
            )
            .unwrap();
        let context = context(keep.path());
        for from in [1, 3] {
            let source = Connection::open(&path).unwrap();
            let mut target = Connection::open_in_memory().unwrap();
            let mut slices = 0;
            let mut write = || {
                slices += 1;
                assert!(slices < 100, "it begins anew for ever");
                if slices >= from {
                    let sql = "INSERT INTO shop (goods) VALUES ('late')";
                    writer.execute_batch(sql).unwrap();
                }
            };
            pour_between(&source, &mut target, &path, &context, &mut write).unwrap();
            assert!(slices <= from + 1 + RESTARTS, "{slices} slices");
            let count = |connection: &Connection| -> u64 {
                let count = "SELECT count(*) FROM shop";
                connection.query_row(count, [], |row| row.get(0)).unwrap()
            };
            assert_eq!(count(&target), count(&writer));
        }
    }
}

//! The restored database in place of the live one. The contents are exchanged, not the files:
//! programs that have the file open go on, and see the other contents in their next transaction.
//! The exchange is one transaction of SQLite, so a crash in the middle leaves the live one as it
//! was.

use std::path::Path;

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use super::check::{Depth, sound};
use super::restore::{Temporary, free, open_quiet};
use super::{Sqlite, told};
use crate::database::Restored;
use crate::database::error::{Cause, DatabaseError};

/// Copies the live database beside itself, then the restored one over it, and removes that.
pub(super) fn swap(live: &Sqlite, restored: Restored) -> Result<Restored, DatabaseError> {
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
    let mut target = live.open()?;
    let source = open_quiet(new, live.busy)?;
    let size = |connection: &Connection| -> rusqlite::Result<u64> {
        connection.pragma_query_value(None, "page_size", |row| row.get(0))
    };
    let failed = |e| told(&live.path, "exchange", &e);
    if size(&source).map_err(failed)? != size(&target).map_err(failed)? {
        let what = format!(
            "{} has pages of another size than {}, so their contents cannot be exchanged",
            live.shown(),
            new.display()
        );
        return Err(DatabaseError::new(Cause::Failed, what)
            .hint("stop the programs that use it, and exchange the two files"));
    }
    let temporary = Temporary::beside(&kept)?;
    {
        let mut copy = open_quiet(&temporary.0, live.busy)?;
        pour(&target, &mut copy).map_err(failed)?;
        sound(&copy, &kept, Depth::Quick)?;
    }
    temporary.place(&kept, "once")?;
    pour(&source, &mut target).map_err(failed)?;
    sound(&target, &live.path, Depth::Quick)?;
    drop(source);
    drop(Temporary(new.to_owned()));
    Ok(Restored {
        name: live.shown(),
        kept: Some(kept.display().to_string()),
        ..restored
    })
}

/// Copies all pages in one transaction; waits for others as the connections say.
fn pour(from: &Connection, to: &mut Connection) -> rusqlite::Result<()> {
    let backup = Backup::new(from, to)?;
    loop {
        match backup.step(-1)? {
            StepResult::Done => return Ok(()),
            StepResult::More => {}
            // The connection has waited as long as it was told.
            _ => return Err(busy()),
        }
    }
}

fn busy() -> rusqlite::Error {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
    rusqlite::Error::SqliteFailure(code, None)
}

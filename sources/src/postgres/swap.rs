//! The restored database in place of the live one: both are renamed in one transaction.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::Postgres;
use super::made::free;
use super::names::{literal, quoted};
use super::restore::{exists, maintenance};
use super::session::Session;
use crate::database::error::{Cause, DatabaseError};
use crate::database::{Context, Restored};

/// How often it is tried, each time for the five seconds that a server waits.
const TRIES: usize = 5;
/// Pause between two looks for sessions of others.
const PAUSE: Duration = Duration::from_millis(20);

/// Exchanges names. Whoever is connected to either is disconnected.
pub(super) fn swap(
    live: &Postgres,
    restored: Restored,
    context: &Context,
) -> Result<Restored, DatabaseError> {
    let name = live.place.database().unwrap_or_default().to_owned();
    if restored.name == name {
        // There was none: the restored one is the live one already.
        return Ok(restored);
    }
    let server = maintenance(&live.place, context)?;
    if !exists(&server, &name)? {
        let what = format!("there is no database \"{name}\" any more");
        return Err(DatabaseError::new(Cause::Absent, what));
    }
    let kept = free(
        &server,
        &name,
        &format!("_before_restore_{}", context.stamp),
    )?;
    exchange(&server, live, [&name, &restored.name, &kept], context)?;
    Ok(Restored {
        name,
        kept: Some(kept),
        ..restored
    })
}

/// Renames live and new databases in one transaction. A renaming keeps out whoever would connect,
/// and waits some seconds for those who are; meanwhile another session ends theirs. So nothing is
/// committed but the exchange: whatever ends us leaves it done or not begun.
fn exchange(
    server: &Session,
    place: &Postgres,
    [live, new, kept]: [&str; 3],
    context: &Context,
) -> Result<(), DatabaseError> {
    let ender = maintenance(&place.place, context)?;
    let end = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname IN ({}, {})",
        literal(live),
        literal(new)
    );
    let rename = format!(
        "BEGIN; ALTER DATABASE {live} RENAME TO {kept}; ALTER DATABASE {new} RENAME TO {live}; \
         COMMIT",
        live = quoted(live),
        kept = quoted(kept),
        new = quoted(new)
    );
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let ending = scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                ender.rows(&end)?;
                // Those who come back meanwhile are ended again.
                std::thread::sleep(PAUSE);
            }
            Ok(())
        });
        let result = try_to(server, &rename);
        is_over.store(true, Ordering::Relaxed);
        let ended: Result<(), DatabaseError> = match ending.join() {
            Ok(ended) => ended,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        // Why a session of others could not be ended tells more than that it is there.
        match (result, ended) {
            (Err(_), Err(e)) | (Err(e), Ok(())) => Err(e),
            (Ok(()), _) => Ok(()),
        }
    })
}

fn try_to(server: &Session, rename: &str) -> Result<(), DatabaseError> {
    for _ in 1..TRIES {
        match server.run(rename) {
            Err(e) if e.what.contains("being accessed by other users") => {
                server.run("ROLLBACK")?;
            }
            done => return done,
        }
    }
    server.run(rename)
}

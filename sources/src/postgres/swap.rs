//! The restored database in place of the live one: both are renamed in one transaction.

use super::Postgres;
use super::names::{literal, quoted};
use super::restore::{exists, free, maintenance};
use super::session::Session;
use crate::database::error::{Cause, DatabaseError};
use crate::database::{Context, Restored};

/// How often sessions of others are ended that came back meanwhile.
const TRIES: usize = 20;

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
    let allow = |database: &str, allowed: bool| {
        let sql = format!(
            "ALTER DATABASE {} ALLOW_CONNECTIONS {allowed}",
            quoted(database)
        );
        server.run(&sql)
    };
    allow(&name, false)?;
    let exchanged = exchange(&server, &name, &restored.name, &kept);
    // Whatever came of it, both may be connected to again.
    let (old, new) = match &exchanged {
        Ok(()) => (kept.as_str(), name.as_str()),
        Err(_) => (name.as_str(), restored.name.as_str()),
    };
    let (one, two) = (allow(old, true), allow(new, true));
    exchanged?;
    one.and(two)?;
    Ok(Restored {
        name,
        kept: Some(kept),
        ..restored
    })
}

fn exchange(server: &Session, live: &str, new: &str, kept: &str) -> Result<(), DatabaseError> {
    let mut result = Ok(());
    for _ in 0..TRIES {
        let end = format!(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity \
             WHERE datname IN ({}, {})",
            literal(live),
            literal(new)
        );
        // Before version 14 it takes no time to wait.
        let end = match server.version {
            140_000.. => end,
            _ => end.replace(", 5000", ""),
        };
        server.rows(&end)?;
        result = server.run(&format!(
            "BEGIN; ALTER DATABASE {live} RENAME TO {kept}; ALTER DATABASE {new} RENAME TO {live}; \
             COMMIT",
            live = quoted(live),
            kept = quoted(kept),
            new = quoted(new)
        ));
        match &result {
            Ok(()) => return Ok(()),
            Err(e) => {
                server.run("ROLLBACK")?;
                if !e.what.contains("being accessed by other users") {
                    break;
                }
            }
        }
    }
    result
}

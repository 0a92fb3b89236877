//! Stored rows into tables that are there and empty, in one transaction.

use super::Postgres;
use super::restore::{Parts, copy_one};
use super::session::Session;
use crate::database::error::{Cause, DatabaseError};
use crate::database::{Context, Restored};

/// Fills tables. Without all rights of a superuser foreign keys decide about the order, which
/// nobody knows; so triggers are put to sleep as `pg_restore --disable-triggers` does.
pub(super) fn fill(
    to: &Postgres,
    parts: &Parts<'_>,
    context: &Context,
) -> Result<Restored, DatabaseError> {
    if parts.tables.is_empty() {
        let what = "only the default form can be restored into tables that are there";
        return Err(DatabaseError::setting(what)
            .hint("restore all of it under another name, and copy from there"));
    }
    let session = Session::open(&to.place.login(context)?, context)?;
    session.run("BEGIN")?;
    session
        .run("SET LOCAL session_replication_role = replica")
        .map_err(|e| {
            e.hint("rows alone are restored by a superuser: triggers must not see them")
        })?;
    let mut restored = Restored {
        name: to.place.database().unwrap_or_default().to_owned(),
        ..Restored::default()
    };
    for stream in &parts.tables {
        let table = stream.facts.property("table").unwrap_or_default();
        let there = session.number(&format!(
            "SELECT count(*) FROM (SELECT FROM {table} LIMIT 1) t"
        ));
        let there = there.map_err(|e| match e.cause {
            Cause::Incomplete => DatabaseError::new(Cause::Absent, format!("no table {table}"))
                .hint("restore the structure first: --schema-only"),
            _ => e,
        })?;
        if there > 0 {
            let what = format!("table {table} has rows already");
            return Err(DatabaseError::new(Cause::Exists, what)
                .hint("rows are restored into empty tables only; nothing was changed"));
        }
        copy_one(&session, parts.stored, stream)?;
        restored.tables += 1;
        restored.rows += stream.facts.total().unwrap_or(0);
    }
    sequences(&session, parts)?;
    session.run("COMMIT")?;
    Ok(restored)
}

/// Puts those sequences that are there to where they stood.
fn sequences(session: &Session, parts: &Parts<'_>) -> Result<(), DatabaseError> {
    let mut script = Vec::new();
    if parts
        .stored
        .streams()
        .iter()
        .any(|s| s.name == "sequences.sql")
    {
        parts.stored.read("sequences.sql", &mut |bytes| {
            let read = bytes.read_to_end(&mut script);
            read.map(|_| ()).map_err(|e| {
                DatabaseError::new(Cause::Incomplete, format!("sequences cannot be read: {e}"))
            })
        })?;
    }
    let script = String::from_utf8_lossy(&script);
    for line in script.lines() {
        let Some((_, rest)) = line.split_once("setval(") else {
            continue;
        };
        let name = rest.rsplitn(3, ", ").last().unwrap_or_default();
        let there = format!("SELECT to_regclass({name}) IS NOT NULL");
        if session.value(&there)?.as_deref() == Some("t") {
            session.run(line)?;
        }
    }
    Ok(())
}

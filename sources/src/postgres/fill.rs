//! Stored rows into tables that are there and empty, in one transaction. Without all rights of a
//! superuser foreign keys decide about the order, which nobody knows; so triggers are put to sleep
//! as `pg_restore --disable-triggers` does.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::Postgres;
use super::catalog::{self, Table};
use super::feed::{Feeding, Programs, feed};
use super::names::literal;
use super::restore::{Parts, copy_one};
use super::script::{Choice, Kinds, Sequences};
use super::session::Session;
use super::tools::Tools;
use crate::database::error::{Cause, DatabaseError};
use crate::database::{Context, Restored};

/// Puts triggers and foreign keys to sleep until a transaction ends.
const ASLEEP: &str = "SET LOCAL session_replication_role = replica";

/// Fills tables.
pub(super) fn fill(
    to: &Postgres,
    parts: &Parts<'_>,
    context: &Context,
) -> Result<Restored, DatabaseError> {
    let session = Session::open(&to.place.login(context)?, context)?;
    session.run("BEGIN")?;
    session.run(ASLEEP).map_err(|e| {
        e.hint("rows alone are restored by a superuser: triggers must not see them")
    })?;
    let tables = empty_tables(&session, parts)?;
    let sequences = Sequences {
        of: parts
            .is_some
            .then(|| tables.values().map(|t| t.name.quoted()).collect()),
    };
    let lost_large_objects = match parts.whole() {
        None => {
            for stream in &parts.streams {
                copy_one(&session, parts.stored, stream)?;
            }
            set_sequences(&session, parts, &sequences)?;
            session.run("COMMIT")?;
            parts.has("large-objects.sql")
        }
        Some(stream) => {
            session.run("ROLLBACK")?;
            let scripted = Scripted {
                stream,
                tables: &tables,
                sequences: &sequences,
            };
            scripted.run(to, parts, session.version, context)?
        }
    };
    Ok(Restored {
        name: to.place.database().unwrap_or_default().to_owned(),
        tables: parts.rows.len() as u64,
        rows: parts.rows.iter().map(|(_, rows)| rows).sum(),
        warnings: large_objects(lost_large_objects && !parts.is_some),
        ..Restored::default()
    })
}

/// Large objects belong to no table, and stay as they are.
fn large_objects(lost: bool) -> Vec<String> {
    let warning = "large objects are not rows of a table: what is in them was not restored; \
                   restore all under another name to get them";
    lost.then(|| warning.to_owned()).into_iter().collect()
}

/// The tables that are filled, as the database has them: all are there, and have no rows.
fn empty_tables(
    session: &Session,
    parts: &Parts<'_>,
) -> Result<BTreeMap<String, Table>, DatabaseError> {
    let mut there: BTreeMap<String, Table> = (catalog::tables(session)?.into_iter())
        .map(|table| (table.name.shown(), table))
        .collect();
    let mut found = BTreeMap::new();
    for (shown, _) in &parts.rows {
        let Some(table) = there.remove(shown) else {
            return Err(
                DatabaseError::new(Cause::Absent, format!("no table {shown}"))
                    .hint("restore the structure first: --schema-only"),
            );
        };
        let name = table.name.quoted();
        let sql = format!("SELECT count(*) FROM (SELECT FROM ONLY {name} LIMIT 1) t");
        if session.number(&sql)? > 0 {
            let what = format!("table {shown} has rows already");
            return Err(DatabaseError::new(Cause::Exists, what)
                .hint("rows are restored into empty tables only; nothing was changed"));
        }
        found.insert(shown.clone(), table);
    }
    Ok(found)
}

/// Puts sequences to where they stood.
fn set_sequences(
    session: &Session,
    parts: &Parts<'_>,
    sequences: &Sequences,
) -> Result<(), DatabaseError> {
    if !parts.has("sequences.sql") {
        return Ok(());
    }
    let script = parts.text("sequences.sql")?;
    for statement in script.lines().filter_map(|line| sequences.statement(line)) {
        session.run(&statement)?;
    }
    Ok(())
}

/// Rows out of a script or archive of `pg_dump`.
struct Scripted<'a> {
    stream: &'a str,
    tables: &'a BTreeMap<String, Table>,
    sequences: &'a Sequences,
}

impl Scripted<'_> {
    fn run(
        &self,
        to: &Postgres,
        parts: &Parts<'_>,
        version: u32,
        context: &Context,
    ) -> Result<bool, DatabaseError> {
        let (tools, login) = (Tools::find(version, context)?, to.place.login(context)?);
        let programs = Programs::new(&tools, &login, version, context)?;
        let chosen = parts.tables();
        let feeding = Feeding {
            stream: self.stream,
            choice: Choice {
                kinds: Kinds::Only(&["TABLE DATA", "SEQUENCE SET"]),
                tables: Some(&chosen),
                sequences: Some(self.sequences),
                ..Choice::default()
            },
            before: format!("BEGIN;\n{ASLEEP};\n"),
            behind: self.compared(parts) + "COMMIT;\n",
        };
        feed(&programs, parts.stored, feeding)
    }

    /// Statements that fail unless there are as many rows as are stored.
    fn compared(&self, parts: &Parts<'_>) -> String {
        let mut script = String::new();
        let quote = format!("$k{}$", super::random_key());
        for (shown, rows) in &parts.rows {
            let Some(table) = self.tables.get(shown) else {
                continue;
            };
            let (name, condition) = (table.name.quoted(), &table.condition);
            let what = format!("{shown}: {rows} rows are stored, and the server has ");
            // Writing to a text does not fail.
            let _ = writeln!(
                script,
                "DO {quote} DECLARE n bigint; BEGIN \
                 SELECT count(*) INTO n FROM ONLY {name} {condition}; \
                 IF n <> {rows} THEN RAISE EXCEPTION '%', {} || n; END IF; END {quote};",
                literal(&what)
            );
        }
        script
    }
}

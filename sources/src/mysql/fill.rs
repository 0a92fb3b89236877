//! Stored rows into tables that are there and empty, all or none.
//!
//! Triggers must not see rows that are restored, and the server has no way to switch them off: they
//! are dropped, and made again whatever happens to the rows. Who kills this program in between
//! loses them, so it is refused while a table has rows.

use super::access::{Access, quoted};
use super::dump::listed;
use super::filter::Events;
use super::inventory::{self, Inventory};
use super::restore::{Around, check_kind, expected, feed};
use super::sections::Tally;
use super::{Mysql, tools, verify};
use crate::database::error::{Cause, DatabaseError};
use crate::database::{Context, RestoreOptions, Restored, Stored, Verified};

/// Puts rows into tables.
pub(super) fn fill(
    to: &Mysql,
    stored: &dyn Stored,
    options: &RestoreOptions,
    context: &Context,
) -> Result<Restored, DatabaseError> {
    check_kind(stored)?;
    let expected = expected(stored, options)?;
    let access = to.access(context)?;
    let there = inventory::take(&access, &to.database)?;
    are_empty(&access, to, &there, &expected)?;
    let tables: Vec<&str> = expected.iter().map(|(table, _)| table.as_str()).collect();
    let triggers = Triggers::drop_those_of(to, &tables, &there, &access)?;
    let loose = there.loose_tables();
    let loose: Vec<&str> = tables
        .iter()
        .copied()
        .filter(|t| loose.contains(t))
        .collect();
    let filled = pour(to, stored, options, &access, &there, &expected);
    let filled = filled.inspect_err(|_| empty(to, &loose, context));
    triggers.make()?;
    let verified = filled?;
    Ok(Restored {
        name: to.database.clone(),
        tables: verified.tables,
        rows: verified.rows,
        ..Restored::default()
    })
}

fn are_empty(
    access: &Access<'_>,
    to: &Mysql,
    there: &Inventory,
    expected: &[(String, u64)],
) -> Result<(), DatabaseError> {
    let counts = verify::counted(access, &to.database, there, expected)?;
    for (table, _) in expected {
        match counts.get(table) {
            Some(0) => {}
            Some(rows) => {
                let what = format!("table {table} of {} has {rows} rows already", to.database);
                return Err(DatabaseError::new(Cause::Exists, what)
                    .hint("rows are restored into empty tables only; nothing was changed"));
            }
            None => {
                let what = format!("{} has no table {table}", to.database);
                return Err(
                    DatabaseError::new(Cause::Absent, what).hint("restore the structure first")
                );
            }
        }
    }
    Ok(())
}

/// Feeds the rows in one transaction, which ends once they are all there.
fn pour(
    to: &Mysql,
    stored: &dyn Stored,
    options: &RestoreOptions,
    access: &Access<'_>,
    there: &Inventory,
    expected: &[(String, u64)],
) -> Result<Verified, DatabaseError> {
    let mut last = String::new();
    for (table, rows) in expected {
        // A number that does not fit ends the client, and with it the transaction.
        last.push_str(&format!(
            "SELECT IF(COUNT(*) = {rows}, 0, (SELECT 1 UNION SELECT 2)) FROM {};\n",
            verify::with_history(there, table)
        ));
    }
    last.push_str("COMMIT;\n");
    let around = Around {
        first: "SET autocommit = 0;\nSTART TRANSACTION;\n",
        last: &last,
    };
    feed(
        stored,
        options,
        access,
        &to.database,
        around,
        Events::AsStored,
    )?;
    verify::compare(access, &to.database, there, expected)
}

/// Empties tables that no transaction covers; they were empty before.
fn empty(to: &Mysql, tables: &[&str], context: &Context) {
    let context = context.calm();
    let mut sql = "SET FOREIGN_KEY_CHECKS = 0;\n".to_owned();
    for table in tables {
        sql.push_str(&format!("DELETE FROM {};\n", quoted(table)));
    }
    if !tables.is_empty() {
        // What went wrong first is what is told.
        let access = to.access(&context);
        let _ = access.and_then(|access| access.ask(Some(&to.database), &sql));
    }
}

/// Triggers that were dropped, and must be made again.
struct Triggers<'a> {
    to: &'a Mysql,
    context: Context,
    names: Vec<String>,
    sql: String,
}

impl<'a> Triggers<'a> {
    fn drop_those_of(
        to: &'a Mysql,
        tables: &[&str],
        there: &Inventory,
        access: &Access<'_>,
    ) -> Result<Triggers<'a>, DatabaseError> {
        let of_them = there
            .triggers
            .iter()
            .filter(|(_, of)| tables.contains(&of.as_str()));
        let names: Vec<String> = of_them.map(|(name, _)| name.clone()).collect();
        let mut triggers = Triggers {
            to,
            context: access.context.calm(),
            names,
            sql: String::new(),
        };
        if triggers.names.is_empty() {
            return Ok(triggers);
        }
        let tool = tools::dump(access.server, &to.tool_dir, access.context)?;
        let options = ["--no-create-info", "--triggers"];
        triggers.sql = access.dumped(&tool, &options, &to.database, tables)?;
        if Tally::of(&triggers.sql).others.triggers < triggers.names.len() as u64 {
            let what = format!("the triggers of {} cannot be read", listed(tables));
            return Err(DatabaseError::new(Cause::Denied, what));
        }
        let mut sql = String::new();
        for name in &triggers.names {
            sql.push_str(&format!("DROP TRIGGER {};\n", quoted(name)));
        }
        if let Err(error) = access.ask(Some(&to.database), &sql) {
            triggers.make()?;
            return Err(error);
        }
        Ok(triggers)
    }

    /// Makes those again that are not there.
    fn make(&self) -> Result<(), DatabaseError> {
        if self.names.is_empty() {
            return Ok(());
        }
        let access = self.to.access(&self.context)?;
        let database = &self.to.database;
        let there = inventory::take(&access, database)?;
        let left = self
            .names
            .iter()
            .filter(|name| there.triggers.contains_key(*name));
        let left: Vec<String> = left
            .map(|n| format!("DROP TRIGGER {};\n", quoted(n)))
            .collect();
        let made = access.ask(Some(database), &left.concat());
        let made = made.and_then(|_| access.load(database, &self.sql));
        made.map_err(|error| {
            let what = format!(
                "triggers of {database} could not be made again: {}",
                error.what
            );
            DatabaseError { what, ..error }
        })
    }
}

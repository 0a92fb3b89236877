//! Whether a database is sound, and holds the rows that are stored.

use std::collections::BTreeMap;

use super::Mysql;
use super::access::{Access, quoted};
use super::inventory::{self, Inventory};
use super::restore::{check_kind, expected};
use crate::database::error::{Cause, DatabaseError};
use crate::database::{Context, RestoreOptions, Stored, Verified, compare_rows};

/// Lines of a failed check that a message has.
const LINES: usize = 5;

/// Counts the rows of tables and compares them.
pub(super) fn compare(
    access: &Access<'_>,
    database: &str,
    there: &Inventory,
    expected: &[(String, u64)],
) -> Result<Verified, DatabaseError> {
    let found = counted(access, database, there, expected)?;
    compare_rows(expected, &|table| found.get(table).copied()).map_err(|error| error.of(database))
}

/// A table with the rows that it had in former times, which are dumped as well.
pub(super) fn with_history(there: &Inventory, table: &str) -> String {
    match there.things.get(table).is_some_and(|t| t.is_versioned()) {
        true => format!("{} FOR SYSTEM_TIME ALL", quoted(table)),
        false => quoted(table),
    }
}

/// Rows of those tables that are there.
pub(super) fn counted(
    access: &Access<'_>,
    database: &str,
    there: &Inventory,
    tables: &[(String, u64)],
) -> Result<BTreeMap<String, u64>, DatabaseError> {
    let is_there = |table: &str| there.things.get(table).is_some_and(|t| t.is_table());
    let tables: Vec<&str> = (tables.iter())
        .map(|(table, _)| table.as_str())
        .filter(|table| is_there(table))
        .collect();
    let mut sql = String::new();
    for table in &tables {
        sql.push_str(&format!(
            "SELECT COUNT(*) FROM {};\n",
            with_history(there, table)
        ));
    }
    let rows = access.ask(Some(database), &sql)?;
    let counts = rows.iter().filter_map(|row| row.first()?.parse().ok());
    let counts: Vec<u64> = counts.collect();
    if counts.len() != tables.len() {
        let what = format!("the rows of {database} could not be counted");
        return Err(DatabaseError::new(Cause::Failed, what));
    }
    let names = tables.into_iter().map(str::to_owned);
    Ok(names.zip(counts).collect())
}

/// Lets the server check all tables that are stored, and compares their rows.
pub(super) fn verify(
    at: &Mysql,
    stored: &dyn Stored,
    context: &Context,
) -> Result<Verified, DatabaseError> {
    check_kind(stored)?;
    let expected = expected(stored, &RestoreOptions::default())?;
    let access = at.access(context)?;
    let there = inventory::take(&access, &at.database)?;
    let mut sql = String::new();
    for (table, _) in expected
        .iter()
        .filter(|(table, _)| there.things.contains_key(table))
    {
        sql.push_str(&format!("CHECK TABLE {};\n", quoted(table)));
    }
    let mut bad = Vec::new();
    for row in access.ask(Some(&at.database), &sql)? {
        if let [table, _, kind, text, ..] = row.as_slice()
            && matches!(kind.to_ascii_lowercase().as_str(), "error" | "warning")
        {
            bad.push(format!("{table}: {text}"));
        }
    }
    if !bad.is_empty() {
        bad.truncate(LINES);
        let what = format!(
            "{} is damaged, CHECK TABLE says:\n  {}",
            at.database,
            bad.join("\n  ")
        );
        return Err(DatabaseError::new(Cause::Differs, what));
    }
    let verified = compare(&access, &at.database, &there, &expected)?;
    Ok(Verified {
        checks: vec!["CHECK TABLE".to_owned()],
        ..verified
    })
}

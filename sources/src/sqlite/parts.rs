//! A part of a stored database: its structure without rows, some of its tables, or only rows, into
//! tables that are there.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::Connection;

use super::check::{quoted, rows, tables};
use super::restore::{Temporary, open_quiet, restored, write};
use super::{Sqlite, told};
use crate::database::error::{Cause, DatabaseError};
use crate::database::{Context, Part, RestoreOptions, Restored, Stored, Verified, compare_rows};

/// Something that SQL made.
struct Made {
    kind: String,
    table: String,
    sql: String,
}

/// What a database was made of, in the order in which it can be made again.
fn structure(connection: &Connection) -> rusqlite::Result<Vec<Made>> {
    // Statements of what SQLite makes itself are NULL.
    let sql = "SELECT type, tbl_name, sql FROM sqlite_schema WHERE sql IS NOT NULL \
               AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' \
               AND name NOT IN (SELECT name FROM pragma_table_list WHERE type = 'shadow') \
               ORDER BY CASE type WHEN 'table' THEN 1 WHEN 'index' THEN 2 WHEN 'view' THEN 3 \
               ELSE 4 END, rowid";
    let mut statement = connection.prepare(sql)?;
    statement
        .query_map([], |row| {
            Ok(Made {
                kind: row.get(0)?,
                table: row.get(1)?,
                sql: row.get(2)?,
            })
        })?
        .collect()
}

/// Makes `to` of a part of the file `from`, and compares its rows.
pub(super) fn extract(
    from: &Path,
    to: &Path,
    options: &RestoreOptions,
    stored: &dyn Stored,
) -> Result<Verified, DatabaseError> {
    let failed = |e| told(to, "write", &e);
    let source = open_quiet(from, std::time::Duration::ZERO)?;
    let wanted = chosen(&source, from, options)?;
    let all = structure(&source).map_err(|e| told(from, "read", &e))?;
    let target = open_quiet(to, std::time::Duration::ZERO)?;
    for name in ["encoding", "page_size", "user_version", "application_id"] {
        if let Some(value) = stored.member().property(name) {
            let value = value.replace('\'', "''");
            let sql = format!("PRAGMA {name} = '{value}'");
            target.execute_batch(&sql).map_err(failed)?;
        }
    }
    drop(source);
    attach(&target, from).map_err(failed)?;
    let build = || -> rusqlite::Result<()> {
        target.execute_batch("PRAGMA foreign_keys = OFF; BEGIN")?;
        let is_wanted = |made: &&Made| {
            let related = matches!(made.kind.as_str(), "table" | "index" | "trigger");
            options.tables.is_empty() || (related && wanted.contains_key(&made.table))
        };
        let (first, last): (Vec<_>, Vec<_>) = all
            .iter()
            .filter(is_wanted)
            .partition(|made| made.kind == "table");
        for made in &first {
            target.execute_batch(&made.sql)?;
        }
        if options.part == Part::All {
            for table in wanted.keys() {
                pour(&target, table)?;
            }
            sequences(&target, &wanted)?;
        }
        // Triggers must not see rows that are restored.
        for made in &last {
            target.execute_batch(&made.sql)?;
        }
        target.execute_batch("COMMIT; DETACH stored")
    };
    build().map_err(failed)?;
    match options.part {
        Part::Schema => Ok(Verified::default()),
        _ => counted(&target, &wanted),
    }
}

fn attach(target: &Connection, from: &Path) -> rusqlite::Result<()> {
    let from = from.to_string_lossy();
    target
        .execute("ATTACH ?1 AS stored", [from.as_ref()])
        .map(|_| ())
}

/// The tables that were asked for, with their rows.
fn chosen(
    source: &Connection,
    path: &Path,
    options: &RestoreOptions,
) -> Result<BTreeMap<String, u64>, DatabaseError> {
    let failed = |e| told(path, "read", &e);
    let all = tables(source).map_err(failed)?;
    let mut wanted = BTreeMap::new();
    for (table, is_virtual) in &all {
        let asked = options
            .tables
            .iter()
            .any(|name| name.eq_ignore_ascii_case(table));
        if options.tables.is_empty() || asked {
            if *is_virtual && (asked || options.part != Part::Schema) {
                let what = format!("{table} is a virtual table, which is restored with all others");
                return Err(DatabaseError::setting(what)
                    .hint("restore the whole database, and copy from there"));
            }
            wanted.insert(table.clone(), rows(source, table).map_err(failed)?);
        }
    }
    let known = |name: &&String| {
        all.iter()
            .any(|(table, _)| table.eq_ignore_ascii_case(name))
    };
    match options.tables.iter().find(|name| !known(name)) {
        None => Ok(wanted),
        Some(name) => {
            let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).take(20).collect();
            let what = format!("the stored database has no table {name:?}");
            Err(DatabaseError::new(Cause::Absent, what)
                .hint(format!("it has: {}", names.join(", "))))
        }
    }
}

/// Copies the rows of one table out of the attached file, generated columns left to SQLite.
fn pour(target: &Connection, table: &str) -> rusqlite::Result<()> {
    let sql = "SELECT name FROM pragma_table_xinfo(?1, 'stored') WHERE hidden = 0 ORDER BY cid";
    let mut statement = target.prepare(sql)?;
    let columns: Vec<String> = statement
        .query_map([table], |row| row.get::<_, String>(0))?
        .collect::<Result<_, _>>()?;
    let columns: Vec<String> = columns.iter().map(|name| quoted(name)).collect();
    let (table, mut columns) = (quoted(table), columns.join(", "));
    // A row's number counts although no column holds it, where there is one.
    let numbered = format!("SELECT rowid FROM stored.{table} LIMIT 0");
    if target.prepare(&numbered).is_ok() && !columns.contains("\"rowid\"") {
        columns = format!("rowid, {columns}");
    }
    let sql = format!("INSERT INTO main.{table} ({columns}) SELECT {columns} FROM stored.{table}");
    target.execute(&sql, []).map(|_| ())
}

/// Where automatic numbers go on.
fn sequences(target: &Connection, wanted: &BTreeMap<String, u64>) -> rusqlite::Result<()> {
    let sql = "SELECT count(*) FROM stored.sqlite_schema WHERE name = 'sqlite_sequence'";
    let any: bool = target.query_row(sql, [], |row| row.get(0))?;
    if !any {
        return Ok(());
    }
    for table in wanted.keys() {
        let sql = "UPDATE main.sqlite_sequence SET seq = \
                   (SELECT seq FROM stored.sqlite_sequence WHERE name = ?1) \
                   WHERE name = ?1 AND EXISTS \
                   (SELECT 1 FROM stored.sqlite_sequence WHERE name = ?1)";
        // Without a table that counts there is no such list in the target.
        let counts = target
            .prepare("SELECT seq FROM main.sqlite_sequence")
            .is_ok();
        if counts {
            target.execute(sql, [table])?;
        }
    }
    Ok(())
}

/// Takes away the triggers, which must not see rows that are restored; answers how they are made
/// again.
fn without_triggers(target: &Connection) -> rusqlite::Result<Vec<String>> {
    let sql = "SELECT name, sql FROM main.sqlite_schema WHERE type = 'trigger'";
    let mut statement = target.prepare(sql)?;
    let all: Vec<(String, String)> = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    for (name, _) in &all {
        target.execute_batch(&format!("DROP TRIGGER main.{}", quoted(name)))?;
    }
    Ok(all.into_iter().map(|(_, sql)| sql).collect())
}

fn counted(target: &Connection, wanted: &BTreeMap<String, u64>) -> Result<Verified, DatabaseError> {
    let expected: Vec<(String, u64)> = wanted.iter().map(|(t, n)| (t.clone(), *n)).collect();
    compare_rows(&expected, &|table| rows(target, table).ok())
}

/// Puts stored rows into tables that are there and empty, all or none.
pub(super) fn fill(
    to: &Sqlite,
    stored: &dyn Stored,
    options: &RestoreOptions,
    context: &Context,
) -> Result<Restored, DatabaseError> {
    let target = to.open()?;
    let temporary = Temporary::beside(&to.path)?;
    write(stored, &temporary.0, context)?;
    let source = open_quiet(&temporary.0, to.busy)?;
    let wanted = chosen(&source, &temporary.0, options)?;
    drop(source);
    let failed = |e| told(&to.path, "write", &e);
    attach(&target, &temporary.0).map_err(failed)?;
    target
        .execute_batch("PRAGMA foreign_keys = OFF; BEGIN IMMEDIATE")
        .map_err(failed)?;
    let triggers = without_triggers(&target).map_err(failed)?;
    for table in wanted.keys() {
        let there = rows(&target, table).map_err(|_| {
            let what = format!("{} has no table {table}", to.shown());
            DatabaseError::new(Cause::Absent, what).hint("restore the structure first")
        })?;
        if there > 0 {
            let what = format!("table {table} of {} has {there} rows already", to.shown());
            return Err(DatabaseError::new(Cause::Exists, what)
                .hint("rows are restored into empty tables only; nothing was changed"));
        }
        pour(&target, table).map_err(failed)?;
    }
    sequences(&target, &wanted).map_err(failed)?;
    let verified = counted(&target, &wanted)?;
    for sql in triggers {
        target.execute_batch(&sql).map_err(failed)?;
    }
    target
        .execute_batch("COMMIT; DETACH stored")
        .map_err(failed)?;
    Ok(restored(&to.path, &verified))
}

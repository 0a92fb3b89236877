//! Which rows differ between two stored states of a database: added, removed, changed.
//!
//! Both are read side by side. A row that one has and the other has not met yet waits; most meet at
//! once, as both come in nearly the same order, so what waits is about what differs, whatever the
//! size of the tables. Rows with the same key are one row that changed; without a key there are
//! only added and removed ones.

use std::collections::{BTreeMap, HashMap};

use super::error::{Cause, DatabaseError};
use super::{Context, Stored};

/// Most bytes of rows that wait: more differ than fit into memory.
const MOST: usize = 1 << 30;

/// Which of two states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The first.
    Before,
    /// The second.
    After,
}

/// A row: its columns in their order, as JSON.
pub type Row = Vec<serde_json::Value>;

/// What became of a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Only the second state has it.
    Added(Row),
    /// Only the first state has it.
    Removed(Row),
    /// Both have one of its key.
    Changed {
        /// As it was.
        before: Row,
        /// As it is.
        after: Row,
    },
}

/// What became of a table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TableDiff {
    /// Its name.
    pub table: String,
    /// Rows that only the second state has.
    pub added: u64,
    /// Rows that only the first state has.
    pub removed: u64,
    /// Rows of one key that differ.
    pub changed: u64,
    /// Its columns differ: rows were not compared.
    pub reshaped: bool,
    /// Names of columns, of the second state where there is one.
    pub columns: Vec<String>,
}

/// Takes the changes of tables, one after the other; the name and columns of the table stand
/// beside each.
pub type Each<'a> = &'a mut dyn FnMut(&str, &[String], Change) -> Result<(), DatabaseError>;

/// Compares two stored states. `tables` limits it; empty: all. Tables without a difference are not
/// told.
///
/// # Errors
/// When there is nothing to be compared, it cannot be read, or `each` fails.
pub fn diff(
    before: &dyn Stored,
    after: &dyn Stored,
    tables: &[String],
    context: &Context,
    each: Each<'_>,
) -> Result<Vec<TableDiff>, DatabaseError> {
    let (one, two) = (before.member(), after.member());
    match (one.kind.as_str(), two.kind.as_str()) {
        ("sqlite", "sqlite") => crate::sqlite::rows::diff(before, after, tables, context, each),
        ("postgres", "postgres") if [&one.form, &two.form].iter().all(|f| **f == "tables") => {
            crate::postgres::rows::diff(before, after, tables, each)
        }
        _ => {
            let what = format!("rows of \"{}\" cannot be compared", one.name);
            Err(DatabaseError::setting(what)
                .hint("that is possible for SQLite, and for PostgreSQL in its default form"))
        }
    }
}

/// Rows of one table that wait for their like.
#[derive(Debug, Default)]
pub(crate) struct Pairing {
    waiting: [HashMap<Vec<u8>, Vec<Vec<u8>>>; 2],
    bytes: usize,
    /// Whether the table has a key.
    has_key: bool,
}

/// What is left when all rows came: pairs of rows, by key.
type Left = BTreeMap<Vec<u8>, [Vec<Vec<u8>>; 2]>;

impl Pairing {
    pub fn new(has_key: bool) -> Pairing {
        Pairing {
            has_key,
            ..Pairing::default()
        }
    }

    /// Takes a row, by its key (any bytes without one) and all of its bytes.
    pub fn push(&mut self, side: Side, key: &[u8], row: &[u8]) -> Result<(), DatabaseError> {
        let key = if self.has_key { key } else { row };
        let [before, after] = &mut self.waiting;
        let (mine, others) = match side {
            Side::Before => (before, after),
            Side::After => (after, before),
        };
        if let Some(rows) = others.get_mut(key)
            && let Some(at) = rows.iter().position(|other| other == row)
        {
            rows.swap_remove(at);
            self.bytes -= row.len() + key.len();
            if rows.is_empty() {
                others.remove(key);
            }
            return Ok(());
        }
        self.bytes += row.len() + key.len();
        if self.bytes > MOST {
            let what = "more rows differ than can be told";
            return Err(DatabaseError::new(Cause::Failed, what)
                .hint("compare one table at a time, with --table"));
        }
        mine.entry(key.to_vec()).or_default().push(row.to_vec());
        Ok(())
    }

    /// What differs, in the order of keys.
    pub fn finish(self) -> Left {
        let [before, after] = self.waiting;
        let mut left = Left::new();
        for (key, rows) in before {
            left.entry(key).or_default()[0] = rows;
        }
        for (key, rows) in after {
            left.entry(key).or_default()[1] = rows;
        }
        left
    }
}

/// Tells what differs in a table, and counts it.
pub(crate) fn tell(
    left: Left,
    diff: &mut TableDiff,
    read: &dyn Fn(&[u8]) -> Row,
    each: Each<'_>,
) -> Result<(), DatabaseError> {
    let (table, columns) = (diff.table.clone(), diff.columns.clone());
    for [before, after] in left.into_values() {
        let (mut before, mut after) = (before.into_iter(), after.into_iter());
        loop {
            let change = match (before.next(), after.next()) {
                (None, None) => break,
                (Some(row), None) => {
                    diff.removed += 1;
                    Change::Removed(read(&row))
                }
                (None, Some(row)) => {
                    diff.added += 1;
                    Change::Added(read(&row))
                }
                (Some(one), Some(two)) => {
                    diff.changed += 1;
                    Change::Changed {
                        before: read(&one),
                        after: read(&two),
                    }
                }
            };
            each(&table, &columns, change)?;
        }
    }
    Ok(())
}

/// Whether a table is asked for; names may stand without `public.`.
pub(crate) fn is_asked(table: &str, tables: &[String]) -> bool {
    let short = table.strip_prefix("public.");
    tables.is_empty()
        || tables
            .iter()
            .any(|t| t == table || Some(t.as_str()) == short)
}

/// Fails when a table that was asked for is in neither state.
pub(crate) fn all_known<'n>(
    tables: &[String],
    known: impl Iterator<Item = &'n str> + Clone,
) -> Result<(), DatabaseError> {
    let is_known = |asked: &&String| {
        let one = std::slice::from_ref(*asked);
        known.clone().any(|table| is_asked(table, one))
    };
    match tables.iter().find(|asked| !is_known(asked)) {
        None => Ok(()),
        Some(asked) => {
            let names: Vec<&str> = known.clone().take(20).collect();
            let what = format!("no table {asked:?} is stored");
            Err(DatabaseError::new(Cause::Absent, what)
                .hint(format!("stored are: {}", names.join(", "))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(has_key: bool, before: &[(&str, &str)], after: &[(&str, &str)]) -> Vec<String> {
        let mut pairing = Pairing::new(has_key);
        let longest = before.len().max(after.len());
        for at in 0..longest {
            for (side, rows) in [(Side::Before, before), (Side::After, after)] {
                if let Some((key, row)) = rows.get(at) {
                    pairing.push(side, key.as_bytes(), row.as_bytes()).unwrap();
                }
            }
        }
        assert!(pairing.bytes <= 4 * 8, "only what differs waits");
        let mut told = Vec::new();
        let mut diff = TableDiff::default();
        let read = |row: &[u8]| vec![String::from_utf8_lossy(row).into_owned().into()];
        let mut each = |_: &str, _: &[String], change: Change| {
            let text = |row: &Row| row[0].as_str().unwrap().to_owned();
            told.push(match &change {
                Change::Added(row) => format!("+{}", text(row)),
                Change::Removed(row) => format!("-{}", text(row)),
                Change::Changed { before, after } => {
                    format!("{}>{}", text(before), text(after))
                }
            });
            Ok(())
        };
        tell(pairing.finish(), &mut diff, &read, &mut each).unwrap();
        assert_eq!(told.len() as u64, diff.added + diff.removed + diff.changed);
        told
    }

    #[test]
    fn rows_are_paired_by_key_whatever_their_order() {
        let before = [("1", "1a"), ("2", "2a"), ("3", "3a"), ("4", "4a")];
        let after = [("0", "0a"), ("1", "1a"), ("4", "4b"), ("3", "3a")];
        assert_eq!(run(true, &before, &after), ["+0a", "-2a", "4a>4b"]);
        assert!(run(true, &before, &before).is_empty());
    }

    #[test]
    fn without_a_key_rows_are_counted() {
        let before = [("", "x"), ("", "x"), ("", "y")];
        let after = [("", "x"), ("", "z"), ("", "y")];
        assert_eq!(run(false, &before, &after), ["-x", "+z"]);
    }
}

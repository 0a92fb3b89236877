//! Rows of two stored states of a database: both are files for a while, and read in the order of
//! their keys.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Rows};

use super::check::{quoted, tables};
use super::restore::{open_quiet, write};
use super::told;
use crate::database::error::DatabaseError;
use crate::database::rows::{Each, Pairing, Row, Side, TableDiff, all_known, is_asked, tell};
use crate::database::scratch::{PrivateFolder, private_file};
use crate::database::{Context, Stored};

/// A state as a file.
struct State {
    connection: Connection,
    path: PathBuf,
    tables: BTreeMap<String, Shape>,
}

/// What a table is like.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Shape {
    columns: Vec<String>,
    /// Columns of the key; a row's own number without one, where there is such a thing.
    key: Vec<String>,
}

impl State {
    fn new(
        stored: &dyn Stored,
        folder: &PrivateFolder,
        name: &str,
        context: &Context,
    ) -> Result<State, DatabaseError> {
        let path = folder.path().join(name);
        private_file(&path).map_err(|e| {
            let what = format!("no temporary file can be made: {e}");
            DatabaseError::new(crate::database::Cause::Failed, what)
        })?;
        write(stored, &path, context)?;
        let connection = open_quiet(&path, Duration::ZERO)?;
        let shapes = shapes(&connection).map_err(|e| told(&path, "read", &e))?;
        Ok(State {
            connection,
            path,
            tables: shapes,
        })
    }

    fn told(&self, error: &rusqlite::Error) -> DatabaseError {
        told(&self.path, "read", error)
    }

    fn sql(table: &str, shape: &Shape) -> String {
        let names = |names: &[String]| -> String {
            let quoted: Vec<String> = names.iter().map(|name| quoted(name)).collect();
            quoted.join(", ")
        };
        let key = match shape.key.is_empty() {
            true => "1".to_owned(),
            false => names(&shape.key),
        };
        let columns = names(&shape.columns);
        format!("SELECT {columns} FROM {} ORDER BY {key}", quoted(table))
    }
}

fn shapes(connection: &Connection) -> rusqlite::Result<BTreeMap<String, Shape>> {
    let mut all = BTreeMap::new();
    for (table, is_virtual) in tables(connection)? {
        if is_virtual {
            continue;
        }
        let sql = "SELECT name, pk FROM pragma_table_xinfo(?1) WHERE hidden = 0 ORDER BY cid";
        let mut statement = connection.prepare(sql)?;
        let columns: Vec<(String, i64)> = statement
            .query_map([&table], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        let mut key: Vec<_> = columns.iter().filter(|(_, pk)| *pk > 0).cloned().collect();
        key.sort_by_key(|(_, pk)| *pk);
        all.insert(
            table,
            Shape {
                columns: columns.into_iter().map(|(name, _)| name).collect(),
                key: key.into_iter().map(|(name, _)| name).collect(),
            },
        );
    }
    Ok(all)
}

/// Compares all tables that both, or one of them, have.
pub(crate) fn diff(
    before: &dyn Stored,
    after: &dyn Stored,
    asked: &[String],
    context: &Context,
    each: Each<'_>,
) -> Result<Vec<TableDiff>, DatabaseError> {
    let folder = context.scratch.folder()?;
    let one = State::new(before, &folder, "before.db", context)?;
    let two = State::new(after, &folder, "after.db", context)?;
    let mut names: Vec<&str> = one
        .tables
        .keys()
        .chain(two.tables.keys())
        .map(String::as_str)
        .collect();
    names.sort_unstable();
    names.dedup();
    all_known(asked, names.iter().copied())?;
    let mut found = Vec::new();
    for name in names.into_iter().filter(|name| is_asked(name, asked)) {
        context.go_on()?;
        if let Some(table) = table(&one, &two, name, each)? {
            found.push(table);
        }
    }
    Ok(found)
}

fn table(
    one: &State,
    two: &State,
    name: &str,
    each: Each<'_>,
) -> Result<Option<TableDiff>, DatabaseError> {
    let shapes = (one.tables.get(name), two.tables.get(name));
    let Some(shape) = shapes.1.or(shapes.0) else {
        return Ok(None);
    };
    let mut diff = TableDiff {
        table: name.to_owned(),
        columns: shape.columns.clone(),
        ..TableDiff::default()
    };
    if let (Some(one), Some(two)) = shapes
        && one != two
    {
        diff.reshaped = true;
        return Ok(Some(diff));
    }
    let mut pairing = Pairing::new(!shape.key.is_empty());
    let key: Vec<usize> = (shape.key.iter())
        .filter_map(|name| shape.columns.iter().position(|c| c == name))
        .collect();
    let sql = State::sql(name, shape);
    let mut left = shapes
        .0
        .map(|_| one.connection.prepare(&sql))
        .transpose()
        .map_err(|e| one.told(&e))?;
    let mut right = shapes
        .1
        .map(|_| two.connection.prepare(&sql))
        .transpose()
        .map_err(|e| two.told(&e))?;
    let mut left = left
        .as_mut()
        .map(|s| s.query([]))
        .transpose()
        .map_err(|e| one.told(&e))?;
    let mut right = right
        .as_mut()
        .map(|s| s.query([]))
        .transpose()
        .map_err(|e| two.told(&e))?;
    let (mut more_left, mut more_right) = (left.is_some(), right.is_some());
    while more_left || more_right {
        if let Some(rows) = left.as_mut().filter(|_| more_left) {
            let taken = take(rows, Side::Before, &key, &mut pairing);
            more_left = taken.map_err(|e| one.told(&e))??;
        }
        if let Some(rows) = right.as_mut().filter(|_| more_right) {
            let taken = take(rows, Side::After, &key, &mut pairing);
            more_right = taken.map_err(|e| two.told(&e))??;
        }
    }
    tell(pairing.finish(), &mut diff, &values, each)?;
    let differs = diff.added + diff.removed + diff.changed > 0;
    Ok(differs.then_some(diff))
}

/// Takes a row of a side; `false` at its end.
fn take(
    rows: &mut Rows<'_>,
    side: Side,
    key: &[usize],
    pairing: &mut Pairing,
) -> rusqlite::Result<Result<bool, DatabaseError>> {
    let Some(row) = rows.next()? else {
        return Ok(Ok(false));
    };
    let count = row.as_ref().column_count();
    let (mut bytes, mut of_key) = (Vec::new(), Vec::new());
    for at in 0..count {
        let value = encode(row.get_ref(at)?);
        if key.contains(&at) {
            of_key.extend_from_slice(&value);
        }
        bytes.extend_from_slice(&value);
    }
    Ok(pairing.push(side, &of_key, &bytes).map(|()| true))
}

/// A value with its type and length.
fn encode(value: ValueRef<'_>) -> Vec<u8> {
    let (kind, bytes): (u8, Vec<u8>) = match value {
        ValueRef::Null => (0, Vec::new()),
        ValueRef::Integer(number) => (1, number.to_be_bytes().to_vec()),
        ValueRef::Real(number) => (2, number.to_bits().to_be_bytes().to_vec()),
        ValueRef::Text(text) => (3, text.to_vec()),
        ValueRef::Blob(blob) => (4, blob.to_vec()),
    };
    let mut all = vec![kind];
    all.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
    all.extend_from_slice(&bytes);
    all
}

/// The values of an encoded row.
fn values(mut row: &[u8]) -> Row {
    let mut all = Row::new();
    while let Some((kind, rest)) = row.split_first() {
        let (length, rest) = rest.split_at_checked(8).unwrap_or_default();
        let length = length.try_into().map_or(0, u64::from_be_bytes);
        let length = usize::try_from(length)
            .unwrap_or(usize::MAX)
            .min(rest.len());
        let (bytes, after) = rest.split_at(length);
        let eight = || bytes.try_into().unwrap_or([0; 8]);
        all.push(match kind {
            1 => i64::from_be_bytes(eight()).into(),
            2 => f64::from_bits(u64::from_be_bytes(eight())).into(),
            3 => String::from_utf8_lossy(bytes).into_owned().into(),
            4 => {
                let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                serde_json::json!({ "hex": hex })
            }
            _ => serde_json::Value::Null,
        });
        row = after;
    }
    all
}

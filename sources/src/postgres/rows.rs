//! Rows of two stored states of a database: lines of `COPY`, by the columns of the key.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};

use crate::database::error::{Cause, DatabaseError};
use crate::database::rows::{Each, Pairing, Row, Side, TableDiff, all_known, is_asked, tell};
use crate::database::{Stored, StoredStream};

/// Lines that are read of one side before the other has its turn.
const TURN: usize = 256;

/// Compares all tables that both, or one of them, have.
pub(crate) fn diff(
    before: &dyn Stored,
    after: &dyn Stored,
    tables: &[String],
    each: Each<'_>,
) -> Result<Vec<TableDiff>, DatabaseError> {
    let (one, two) = (by_name(before), by_name(after));
    let mut names: Vec<&str> = one.keys().chain(two.keys()).copied().collect();
    names.sort_unstable();
    names.dedup();
    all_known(tables, names.iter().copied())?;
    let mut found = Vec::new();
    for name in names.into_iter().filter(|name| is_asked(name, tables)) {
        let sides = (one.get(name).copied(), two.get(name).copied());
        if let Some(table) = table(before, after, name, sides, each)? {
            found.push(table);
        }
    }
    Ok(found)
}

fn by_name(stored: &dyn Stored) -> BTreeMap<&str, &StoredStream> {
    let tables = stored
        .streams()
        .iter()
        .filter(|s| s.name.starts_with("data/"));
    tables
        .filter_map(|s| Some((s.facts.rows.first()?.0.as_str(), s)))
        .collect()
}

fn table(
    before: &dyn Stored,
    after: &dyn Stored,
    name: &str,
    sides: (Option<&StoredStream>, Option<&StoredStream>),
    each: Each<'_>,
) -> Result<Option<TableDiff>, DatabaseError> {
    let columns = |stream: &StoredStream| names(stream.facts.property("columns"));
    let (one, two) = (sides.0.map(columns), sides.1.map(columns));
    let mut diff = TableDiff {
        table: name.to_owned(),
        columns: two.clone().or(one.clone()).unwrap_or_default(),
        ..TableDiff::default()
    };
    if let (Some(one), Some(two)) = (sides.0, sides.1)
        && (one.facts.digest, one.size) == (two.facts.digest, two.size)
    {
        return Ok(None);
    }
    if let (Some(one), Some(two)) = (&one, &two)
        && one != two
    {
        diff.reshaped = true;
        return Ok(Some(diff));
    }
    let key = key(sides, &diff.columns);
    let mut pairing = Pairing::new(!key.is_empty());
    let none: &mut (dyn Read + Send) = &mut std::io::empty();
    let mut read = |one: &mut (dyn Read + Send), two: &mut (dyn Read + Send)| {
        let (mut one, mut two) = (BufReader::new(one), BufReader::new(two));
        let (mut more_one, mut more_two) = (true, true);
        while more_one || more_two {
            more_one = more_one && take(&mut one, Side::Before, &key, &mut pairing)?;
            more_two = more_two && take(&mut two, Side::After, &key, &mut pairing)?;
        }
        Ok(())
    };
    match sides {
        (Some(one), Some(two)) => before.read(&one.name, &mut |one| {
            after.read(&two.name, &mut |two| read(one, two))
        })?,
        (Some(one), None) => before.read(&one.name, &mut |one| read(one, none))?,
        (None, Some(two)) => after.read(&two.name, &mut |two| read(none, two))?,
        (None, None) => {}
    }
    tell(pairing.finish(), &mut diff, &values, each)?;
    // Rows in another order are the same rows.
    let differs = diff.added + diff.removed + diff.changed > 0;
    Ok(differs.then_some(diff))
}

/// Plain names of quoted ones.
fn names(list: Option<&str>) -> Vec<String> {
    let plain = |name: String| match name.strip_prefix('"').and_then(|n| n.strip_suffix('"')) {
        Some(inside) => inside.replace("\"\"", "\""),
        None => name,
    };
    let all = super::catalog::split(list.unwrap_or_default());
    all.into_iter().map(plain).collect()
}

/// Where the columns of the key stand; none when the two states have other keys.
fn key(
    (one, two): (Option<&StoredStream>, Option<&StoredStream>),
    columns: &[String],
) -> Vec<usize> {
    let key = |stream: &StoredStream| names(stream.facts.property("key"));
    let keys = (one.map(key), two.map(key));
    let key = match keys {
        (Some(one), Some(two)) if one == two => one,
        (Some(key), None) | (None, Some(key)) => key,
        _ => Vec::new(),
    };
    let places = key
        .iter()
        .map(|name| columns.iter().position(|c| c == name));
    places.collect::<Option<_>>().unwrap_or_default()
}

/// Takes some lines of a side; `false` at its end.
fn take(
    lines: &mut impl BufRead,
    side: Side,
    key: &[usize],
    pairing: &mut Pairing,
) -> Result<bool, DatabaseError> {
    let (mut line, mut of_key) = (Vec::new(), Vec::new());
    for _ in 0..TURN {
        line.clear();
        let n = lines.read_until(b'\n', &mut line).map_err(|e| {
            DatabaseError::new(Cause::Incomplete, format!("rows cannot be read: {e}"))
        })?;
        if n == 0 {
            return Ok(false);
        }
        let row = line.strip_suffix(b"\n").unwrap_or(&line);
        of_key.clear();
        let fields: Vec<&[u8]> = row.split(|byte| *byte == b'\t').collect();
        for at in key {
            of_key.extend_from_slice(fields.get(*at).copied().unwrap_or_default());
            of_key.push(b'\t');
        }
        pairing.push(side, &of_key, row)?;
    }
    Ok(true)
}

/// The values of a line: text, or null.
fn values(row: &[u8]) -> Row {
    let fields = row.split(|byte| *byte == b'\t');
    fields.map(value).collect()
}

fn value(field: &[u8]) -> serde_json::Value {
    if field == b"\\N" {
        return serde_json::Value::Null;
    }
    let mut plain = Vec::with_capacity(field.len());
    let mut bytes = field.iter();
    while let Some(byte) = bytes.next() {
        plain.push(match (byte, byte == &b'\\') {
            (_, true) => match bytes.next() {
                Some(b'n') => b'\n',
                Some(b't') => b'\t',
                Some(b'r') => b'\r',
                Some(b'b') => 8,
                Some(b'f') => 12,
                Some(b'v') => 11,
                Some(other) => *other,
                None => b'\\',
            },
            (byte, false) => *byte,
        });
    }
    String::from_utf8_lossy(&plain).into_owned().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_lines() {
        let row = values(b"1\t\\N\ta\\tb\\\\c\\n\t");
        let expected: Row = vec!["1".into(), ().into(), "a\tb\\c\n".into(), "".into()];
        assert_eq!(row, expected);
    }
}

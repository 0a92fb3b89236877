//! A member as a plain file that its database's own programs read, or as a folder of JSON files.

use std::io::{self, Write};
use std::path::Path;

use super::error::{Cause, DatabaseError};
use super::{Stored, StoredStream};

/// What a member is exported as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    /// One file with this extension.
    File {
        /// Without a dot: `db`, `sql`.
        extension: String,
    },
    /// A folder.
    Folder,
}

/// What a member is exported as.
///
/// # Errors
/// When there is no such form.
pub fn form(stored: &dyn Stored) -> Result<Form, DatabaseError> {
    let member = stored.member();
    let file = |extension: &str| {
        Ok(Form::File {
            extension: extension.to_owned(),
        })
    };
    match (member.kind.as_str(), member.form.as_str()) {
        ("sqlite", _) => file("db"),
        ("postgres", "custom") => file("pgdump"),
        ("postgres" | "mysql", _) => file("sql"),
        ("mssql", _) => file("bak"),
        ("firestore", _) => Ok(Form::Folder),
        _ => match member.name.rsplit_once('.') {
            Some((_, extension)) if !extension.contains('/') => file(extension),
            _ => file("out"),
        },
    }
}

/// Writes a member as one file.
///
/// # Errors
/// When it cannot be read, or the file cannot be written.
pub fn write(stored: &dyn Stored, out: &mut dyn Write) -> Result<(), DatabaseError> {
    let member = stored.member();
    match (member.kind.as_str(), member.form.as_str()) {
        ("postgres", "tables") => script(stored, out),
        ("postgres", "custom") => pour(stored, "dump.pgdump", out),
        ("postgres", "plain") => pour(stored, "dump.sql", out),
        _ => match stored.streams() {
            [only] => pour(stored, &only.name, out),
            _ => {
                let what = format!("\"{}\" is more than one file", member.name);
                Err(DatabaseError::setting(what)
                    .hint("`hucha restore SNAPSHOT:MEMBER FOLDER` writes all of them"))
            }
        },
    }
}

/// Writes a member into a new folder; answers how many bytes, and what plain files cannot hold.
///
/// # Errors
/// When it cannot be read, or the folder cannot be written.
pub fn folder(stored: &dyn Stored, path: &Path) -> Result<(u64, Vec<String>), DatabaseError> {
    let exported = crate::firestore::export::export(stored, path)?;
    Ok((exported.bytes, exported.lost))
}

/// A PostgreSQL database as a script for `psql`: the structure, rows by COPY, and what follows.
fn script(stored: &dyn Stored, out: &mut dyn Write) -> Result<(), DatabaseError> {
    let has = |name: &str| stored.streams().iter().any(|stream| stream.name == name);
    if has("schema.pre.sql") {
        pour(stored, "schema.pre.sql", out)?;
    }
    let tables: Vec<&StoredStream> = (stored.streams().iter())
        .filter(|stream| stream.name.starts_with("data/"))
        .collect();
    for table in tables {
        let property = |name: &str| table.facts.property(name).unwrap_or_default();
        let columns = match property("columns") {
            "" => String::new(),
            columns => format!(" ({columns})"),
        };
        let head = format!("\nCOPY {}{columns} FROM stdin;\n", property("table"));
        out.write_all(head.as_bytes()).map_err(failed)?;
        pour(stored, &table.name, out)?;
        out.write_all(b"\\.\n\n").map_err(failed)?;
    }
    for name in ["sequences.sql", "large-objects.sql", "schema.post.sql"] {
        if has(name) {
            out.write_all(b"\n").map_err(failed)?;
            pour(stored, name, out)?;
        }
    }
    Ok(())
}

fn failed(error: io::Error) -> DatabaseError {
    DatabaseError::new(
        Cause::Failed,
        format!("the file cannot be written: {error}"),
    )
}

fn pour(stored: &dyn Stored, name: &str, out: &mut dyn Write) -> Result<(), DatabaseError> {
    let mut buffer = vec![0; 128 << 10];
    stored.read(name, &mut |bytes| {
        loop {
            let n = bytes.read(&mut buffer).map_err(|e| {
                DatabaseError::new(Cause::Incomplete, format!("{name} cannot be read: {e}"))
            })?;
            if n == 0 {
                return Ok(());
            }
            out.write_all(buffer.get(..n).unwrap_or_default())
                .map_err(failed)?;
        }
    })
}

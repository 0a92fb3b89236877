//! A stored database as a new one: structure, rows of several tables at once, then all that checks
//! and speeds up (keys, indexes, triggers), then rows compared. The new database goes when anything
//! fails.

use std::collections::{BTreeSet, VecDeque};
use std::io::Read;
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::Postgres;
use super::left_out::LeftOut;
use super::made::{Made, create};
use super::names::literal;
use super::place::{Login, Place};
use super::script::{Choice, Kinds};
use super::session::Session;
use crate::child::lock;
use crate::database::error::{Cause, DatabaseError};
use crate::database::{
    Context, Part, RestoreOptions, Restored, Stored, StoredStream, Verified, compare_rows,
};

/// Bytes that are sent to the server together.
const PIECE: usize = 256 << 10;

/// Kinds of things that are left out when only some tables have rows: they would not hold, or make
/// rows of their own.
const ONLY_WITH_ALL_ROWS: [&str; 5] = [
    "FK CONSTRAINT",
    "TRIGGER",
    "EVENT TRIGGER",
    "RULE",
    "MATERIALIZED VIEW DATA",
];

/// Kinds of things that are or make rows.
const ROWS: [&str; 4] = [
    "TABLE DATA",
    "SEQUENCE SET",
    "BLOBS",
    "MATERIALIZED VIEW DATA",
];

/// What is stored, and what of it is restored.
pub(super) struct Parts<'s> {
    pub stored: &'s dyn Stored,
    /// Rows that must be there afterwards, by table.
    pub rows: Vec<(String, u64)>,
    /// The streams of these tables, in the default form.
    pub streams: Vec<&'s StoredStream>,
    /// Whether only some tables were asked for.
    pub is_some: bool,
}

impl<'s> Parts<'s> {
    /// Looks through a member; `options` chooses among its tables.
    pub fn of(
        stored: &'s dyn Stored,
        options: &RestoreOptions,
    ) -> Result<Parts<'s>, DatabaseError> {
        let member = stored.member();
        if member.kind != "postgres" {
            let what = format!(
                "\"{}\" is a {} database, which cannot become one of PostgreSQL",
                member.name, member.kind
            );
            return Err(DatabaseError::setting(what));
        }
        let all: Vec<(&String, &StoredStream)> = (stored.streams().iter())
            .flat_map(|stream| {
                stream
                    .facts
                    .rows
                    .iter()
                    .map(move |(name, _)| (name, stream))
            })
            .collect();
        let is =
            |table: &str, name: &str| table == name || table.strip_prefix("public.") == Some(name);
        for name in &options.tables {
            if !all.iter().any(|(table, _)| is(table, name)) {
                let tables: Vec<&str> = all.iter().map(|(t, _)| t.as_str()).take(20).collect();
                let what = format!("no table {name:?} is stored");
                return Err(DatabaseError::new(Cause::Absent, what)
                    .hint(format!("stored are: {}", tables.join(", "))));
            }
        }
        let is_some = !options.tables.is_empty();
        let chosen = |table: &str| {
            options.part != Part::Schema
                && (!is_some || options.tables.iter().any(|name| is(table, name)))
        };
        let rows = stored.streams().iter().flat_map(|s| &s.facts.rows);
        Ok(Parts {
            stored,
            rows: rows.filter(|(table, _)| chosen(table)).cloned().collect(),
            streams: (all.into_iter())
                .filter(|(table, stream)| stream.name.starts_with("data/") && chosen(table))
                .map(|(_, stream)| stream)
                .collect(),
            is_some,
        })
    }

    pub fn has(&self, name: &str) -> bool {
        (self.stored.streams().iter()).any(|stream| stream.name == name)
    }

    /// A stream that is a short text.
    pub fn text(&self, name: &str) -> Result<String, DatabaseError> {
        let mut text = String::new();
        self.stored.read(name, &mut |bytes| {
            let read = bytes.read_to_string(&mut text);
            read.map(|_| ()).map_err(|e| {
                DatabaseError::new(Cause::Incomplete, format!("{name} cannot be read: {e}"))
            })
        })?;
        Ok(text)
    }

    /// The one script or archive that holds all, in the forms of `pg_dump`.
    pub fn whole(&self) -> Option<&'static str> {
        match self.stored.member().form.as_str() {
            "plain" => Some("dump.sql"),
            "custom" => Some("dump.pgdump"),
            _ => None,
        }
    }

    /// Names of the tables whose rows are restored.
    pub fn tables(&self) -> BTreeSet<String> {
        self.rows.iter().map(|(table, _)| table.clone()).collect()
    }
}

/// Connects to a database that every server has.
pub(super) fn maintenance(place: &Place, context: &Context) -> Result<Session, DatabaseError> {
    let mut result = Err(DatabaseError::stopped());
    for database in ["postgres", "template1"] {
        let login = place.with_database(database).login(context)?;
        result = Session::open(&login, context);
        match &result {
            Err(e) if e.cause == Cause::Absent => {}
            _ => break,
        }
    }
    result
}

/// Whether a server has a database of a name.
pub(super) fn exists(server: &Session, name: &str) -> Result<bool, DatabaseError> {
    let sql = format!(
        "SELECT count(*) FROM pg_database WHERE datname = {}",
        literal(name)
    );
    Ok(server.number(&sql)? > 0)
}

/// Makes a database of what is stored.
pub(super) fn restore(
    to: &Postgres,
    stored: &dyn Stored,
    options: &RestoreOptions,
    context: &Context,
) -> Result<Restored, DatabaseError> {
    let parts = Parts::of(stored, options)?;
    if options.part == Part::Data {
        return super::fill::fill(to, &parts, context);
    }
    let mut made = create(to, stored, context)?;
    match fill(to, &mut made, &parts, options, context) {
        Ok(restored) => Ok(restored),
        Err(error) => Err(made.undo(error)),
    }
}

/// Fills an empty database, compares it, and gives it its name.
fn fill(
    to: &Postgres,
    made: &mut Made<'_>,
    parts: &Parts<'_>,
    options: &RestoreOptions,
    context: &Context,
) -> Result<Restored, DatabaseError> {
    let mut warnings = Vec::new();
    match parts.whole() {
        None => by_table(to, made, parts, options, &mut warnings)?,
        Some(stream) => whole(made, parts, options, stream, &mut warnings)?,
    }
    if parts.is_some {
        warnings.push(
            "only some tables have rows, so foreign keys, triggers and rules were not made".into(),
        );
    }
    let verified = compare(&made.login, context, &parts.rows)?;
    let name = made.finish(to, parts, &mut warnings)?;
    Ok(Restored {
        name,
        tables: verified.tables,
        rows: verified.rows,
        kept: None,
        warnings,
    })
}

/// The default form.
fn by_table(
    to: &Postgres,
    made: &Made<'_>,
    parts: &Parts<'_>,
    options: &RestoreOptions,
    warnings: &mut Vec<String>,
) -> Result<(), DatabaseError> {
    let needed = ["schema.pre.sql", "schema.post.sql"];
    if let Some(name) = needed.iter().find(|name| !parts.has(name)) {
        let what = format!("\"{}\" has no {name}", parts.stored.member().name);
        return Err(DatabaseError::new(Cause::Absent, what)
            .hint("it was stored without its structure: restore its rows with --data-only"));
    }
    made.feed(parts, "schema.pre.sql", Choice::default())?;
    if options.part != Part::Schema {
        copy_all(to, made, parts)?;
        for name in ["sequences.sql", "large-objects.sql"] {
            if parts.has(name) {
                made.feed(parts, name, Choice::default())?;
            }
        }
    }
    let kinds = match (options.part, parts.is_some) {
        (Part::Schema, _) => Kinds::Without(&ROWS),
        (_, false) => Kinds::All,
        (_, true) => Kinds::Without(&ONLY_WITH_ALL_ROWS),
    };
    let choice = Choice {
        kinds,
        ..Choice::default()
    };
    made.feed(parts, "schema.post.sql", choice)?;
    made.analyze(warnings)
}

/// The forms of `pg_dump`.
fn whole(
    made: &Made<'_>,
    parts: &Parts<'_>,
    options: &RestoreOptions,
    stream: &str,
    warnings: &mut Vec<String>,
) -> Result<(), DatabaseError> {
    let tables = parts.tables();
    let left_out = parts.stored.member().property(LeftOut::PROPERTY);
    let left_out = left_out.map(LeftOut::of_text).transpose()?;
    let all = Choice {
        left_out: left_out.map(Arc::new),
        ..Choice::default()
    };
    let choice = match (options.part, parts.is_some) {
        (Part::Schema, _) => Choice {
            kinds: Kinds::Without(&ROWS),
            ..all
        },
        (_, false) => all,
        (_, true) => Choice {
            kinds: Kinds::Without(&ONLY_WITH_ALL_ROWS),
            tables: Some(&tables),
            ..all
        },
    };
    made.feed(parts, stream, choice)?;
    made.analyze(warnings)
}

/// Fills all tables, several at once, the largest first.
fn copy_all(to: &Postgres, made: &Made<'_>, parts: &Parts<'_>) -> Result<(), DatabaseError> {
    let mut tables = parts.streams.clone();
    tables.sort_by_key(|stream| std::cmp::Reverse(stream.size));
    let waiting = Mutex::new(VecDeque::from(tables));
    let failed = Mutex::new(None);
    let connections = to.connections.min(parts.streams.len());
    let login = &made.login;
    let work = || -> Result<(), DatabaseError> {
        let session = Session::open(login, made.context)?;
        loop {
            if lock(&failed).is_some() {
                return Ok(());
            }
            let Some(stream) = lock(&waiting).pop_front() else {
                return Ok(());
            };
            copy_one(&session, parts.stored, stream)?;
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..connections {
            scope.spawn(|| {
                if let Err(error) = work() {
                    lock(&failed).get_or_insert(error);
                }
            });
        }
    });
    match lock(&failed).take() {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// Fills one table; the server must have taken as many rows as are stored.
pub(super) fn copy_one(
    session: &Session,
    stored: &dyn Stored,
    stream: &StoredStream,
) -> Result<(), DatabaseError> {
    let property = |name: &str| stream.facts.property(name).unwrap_or_default();
    let (table, columns) = (property("table"), property("columns"));
    let columns = match columns.is_empty() {
        true => String::new(),
        false => format!(" ({columns})"),
    };
    let (shown, rows) = stream.facts.rows.first().cloned().unwrap_or_default();
    if stored.member().property("encoding") == Some("SQL_ASCII") {
        session.run("SET client_encoding = 'SQL_ASCII'")?;
    }
    let mut copy = Some(session.copy_in(&format!("COPY {table}{columns} FROM STDIN"))?);
    let mut taken = 0;
    stored.read(&stream.name, &mut |bytes| {
        let Some(mut copy) = copy.take() else {
            return Ok(());
        };
        loop {
            let piece = piece(bytes)?;
            if piece.is_empty() {
                break;
            }
            session.send(&mut copy, piece).map_err(|e| e.of(&shown))?;
        }
        taken = session.finish(copy).map_err(|e| e.of(&shown))?;
        Ok(())
    })?;
    match taken == rows {
        true => Ok(()),
        false => {
            let what = format!("{shown}: {rows} rows are stored, and the server took {taken}");
            Err(DatabaseError::new(Cause::Differs, what))
        }
    }
}

/// The next bytes of a stream; none at its end.
fn piece(bytes: &mut dyn Read) -> Result<Bytes, DatabaseError> {
    let mut piece = vec![0; PIECE];
    let mut filled = 0;
    while let Some(room) = piece.get_mut(filled..).filter(|room| !room.is_empty()) {
        let n = bytes.read(room).map_err(|e| {
            DatabaseError::new(
                Cause::Incomplete,
                format!("the snapshot cannot be read: {e}"),
            )
        })?;
        if n == 0 {
            break;
        }
        filled += n;
    }
    piece.truncate(filled);
    Ok(Bytes::from(piece))
}

/// Whether tables have as many rows as are stored.
pub(super) fn compare(
    login: &Login,
    context: &Context,
    rows: &[(String, u64)],
) -> Result<Verified, DatabaseError> {
    let session = Session::open(login, context)?;
    let all = super::catalog::tables(&session)?;
    let mut found = std::collections::BTreeMap::new();
    for table in &all {
        let shown = table.name.shown();
        if rows.iter().any(|(name, _)| *name == shown) {
            let rows = session.count(&table.name.quoted(), &table.condition)?;
            found.insert(shown, rows);
        }
    }
    compare_rows(rows, &|table| found.get(table).copied())
}

/// Whether a database has what is stored.
pub(super) fn verify(
    database: &Postgres,
    stored: &dyn Stored,
    context: &Context,
) -> Result<Verified, DatabaseError> {
    let parts = Parts::of(stored, &RestoreOptions::default())?;
    let login = database.place.login(context)?;
    let verified = compare(&login, context, &parts.rows)?;
    let session = Session::open(&login, context)?;
    let invalid = session.number("SELECT count(*) FROM pg_index WHERE NOT indisvalid")?;
    if invalid > 0 {
        let what = format!("{invalid} indexes are not valid");
        return Err(DatabaseError::new(Cause::Differs, what));
    }
    Ok(Verified {
        checks: vec!["indexes".to_owned()],
        ..verified
    })
}

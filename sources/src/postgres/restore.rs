//! A stored database as a new one: structure, rows of several tables at once, then all that checks
//! and speeds up (keys, indexes, triggers), then rows compared. The new database goes when anything
//! fails.

use std::collections::{BTreeSet, VecDeque};
use std::io::Read;
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::Postgres;
use super::capture::LEFT_OUT;
use super::feed::{Feeding, Programs, feed};
use super::left_out::LeftOut;
use super::names::{literal, quoted};
use super::place::{Login, Place};
use super::script::{Choice, Kinds};
use super::session::Session;
use super::tools::Tools;
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

/// A new database under a name of its own, dropped again unless it gets its own name.
struct Made<'a> {
    server: Session,
    /// `shop_restoring_0123abcd`.
    name: String,
    login: Login,
    /// A database that is there for all.
    server_login: Login,
    tools: Tools,
    context: &'a Context,
    kept: bool,
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        // The session may have been ended while it had nothing to do, or by what stops us. A server
        // that does not answer keeps the database; its name says what it is.
        let again = Session::open(&self.server_login, &self.context.calm());
        if let Ok(server) = again {
            let _ = drop_database(&server, &self.name);
        }
    }
}

fn drop_database(server: &Session, name: &str) -> Result<(), DatabaseError> {
    let force = match server.version {
        130_000.. => " WITH (FORCE)",
        _ => "",
    };
    server.run_long(&format!("DROP DATABASE IF EXISTS {}{force}", quoted(name)))
}

/// What stands behind the name of a database that is being restored, before eight letters.
const RESTORING: &str = "_restoring_";

/// Drops what killed restores of this role left: databases of which no session says that it makes
/// them.
fn drop_leftovers(server: &Session) -> Result<(), DatabaseError> {
    let sql = format!(
        "SELECT datname FROM pg_database d \
         WHERE datname ~ '{RESTORING}[0-9a-f]{{8}}$' AND datdba = current_user::regrole \
         AND NOT EXISTS (SELECT 1 FROM pg_stat_activity a \
                         WHERE a.application_name = 'hucha restoring ' || right(d.datname, 8)
                         OR a.datname = d.datname)"
    );
    for name in server.rows(&sql)?.into_iter().flatten().flatten() {
        // Somebody may be faster.
        let _ = server.run_long(&format!("DROP DATABASE IF EXISTS {}", quoted(&name)));
    }
    Ok(())
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
    let mut warnings = Vec::new();
    match parts.whole() {
        None => by_table(to, &made, &parts, options, &mut warnings)?,
        Some(stream) => whole(&made, &parts, options, stream, &mut warnings)?,
    }
    if parts.is_some {
        warnings.push(
            "only some tables have rows, so foreign keys, triggers and rules were not made".into(),
        );
    }
    let verified = compare(&made.login, context, &parts.rows)?;
    let name = made.finish(to, &parts, &mut warnings)?;
    Ok(Restored {
        name,
        tables: verified.tables,
        rows: verified.rows,
        kept: None,
        warnings,
    })
}

/// Makes the empty database, as the stored one was made. Its own name comes last: nobody takes for
/// a database what a killed restore left.
fn create<'a>(
    to: &Postgres,
    stored: &dyn Stored,
    context: &'a Context,
) -> Result<Made<'a>, DatabaseError> {
    let server = maintenance(&to.place, context)?;
    let tools = Tools::find(server.version, context)?;
    let random = super::random_key().get(..8).unwrap_or_default().to_owned();
    // Before the database is there, so that nobody takes it for left.
    server.run(&format!(
        "SET application_name = 'hucha restoring {random}'"
    ))?;
    drop_leftovers(&server)?;
    let wanted = to.place.database().unwrap_or_default();
    let name = shortened(wanted, &format!("{RESTORING}{random}"));
    let sql = create_statement(&name, stored, server.version, to.collate.as_deref());
    server.run_long(&sql).map_err(|e| no_locale(e, stored))?;
    let login = to.place.with_database(&name).login(context)?;
    let server_login = to.place.with_database(&server.database).login(context)?;
    Ok(Made {
        login,
        server_login,
        server,
        name,
        tools,
        context,
        kept: false,
    })
}

/// A name with an end that no database has: with a number when there are two in a second.
pub(super) fn free(server: &Session, name: &str, end: &str) -> Result<String, DatabaseError> {
    for number in 1..1000 {
        let end = match number {
            1 => end.to_owned(),
            n => format!("{end}_{n}"),
        };
        let name = shortened(name, &end);
        if !exists(server, &name)? {
            return Ok(name);
        }
    }
    Ok(shortened(name, end))
}

/// A name with an end, within the 63 bytes that a name may have.
fn shortened(name: &str, end: &str) -> String {
    let mut room = 63_usize.saturating_sub(end.len()).min(name.len());
    while !name.is_char_boundary(room) {
        room -= 1;
    }
    format!("{}{end}", name.get(..room).unwrap_or_default())
}

fn create_statement(
    name: &str,
    stored: &dyn Stored,
    version: u32,
    collate: Option<&str>,
) -> String {
    let property = |name: &str| stored.member().property(name);
    let mut sql = format!("CREATE DATABASE {} TEMPLATE template0", quoted(name));
    let mut add = |what: &str, value: Option<&str>| {
        if let Some(value) = value {
            sql.push_str(&format!(" {what} {}", literal(value)));
        }
    };
    add("ENCODING", property("encoding"));
    if let Some(collate) = collate {
        add("LC_COLLATE", Some(collate));
        add("LC_CTYPE", Some(collate));
        if version >= 150_000 {
            sql.push_str(" LOCALE_PROVIDER libc");
        }
        return sql;
    }
    add("LC_COLLATE", property("collate"));
    add("LC_CTYPE", property("ctype"));
    match property("locale_provider") {
        Some("i") if version >= 150_000 => {
            sql.push_str(" LOCALE_PROVIDER icu");
            if let Some(locale) = property("locale") {
                sql.push_str(&format!(" ICU_LOCALE {}", literal(locale)));
            }
        }
        Some("b") if version >= 170_000 => {
            sql.push_str(" LOCALE_PROVIDER builtin");
            if let Some(locale) = property("locale") {
                sql.push_str(&format!(" BUILTIN_LOCALE {}", literal(locale)));
            }
        }
        _ if version >= 150_000 => sql.push_str(" LOCALE_PROVIDER libc"),
        _ => {}
    }
    sql
}

fn no_locale(error: DatabaseError, stored: &dyn Stored) -> DatabaseError {
    if !error.what.contains("locale") {
        return error;
    }
    let collate = stored.member().property("collate").unwrap_or_default();
    DatabaseError {
        hint: Some(format!(
            "the server does not know the collation {collate} of the stored database: install \
             that locale, or choose another with ?collate=C.UTF-8"
        )),
        ..error
    }
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
    let left_out = parts.stored.member().property(LEFT_OUT);
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

impl Made<'_> {
    /// Feeds a stored script or archive to it.
    fn feed(
        &self,
        parts: &Parts<'_>,
        stream: &str,
        choice: Choice<'_>,
    ) -> Result<(), DatabaseError> {
        let version = self.server.version;
        let programs = Programs::new(&self.tools, &self.login, version, self.context)?;
        let feeding = Feeding {
            stream,
            choice,
            ..Feeding::default()
        };
        feed(&programs, parts.stored, feeding).map(drop)
    }

    /// What plans go by; without it a database is slow, and whole.
    fn analyze(&self, warnings: &mut Vec<String>) -> Result<(), DatabaseError> {
        let analyzed = Session::open(&self.login, self.context)?.run_long("ANALYZE");
        match analyzed {
            Err(e) if e.cause != Cause::Stopped => {
                warnings.push(format!("ANALYZE failed, run it yourself: {}", e.what));
                Ok(())
            }
            other => other,
        }
    }

    /// Gives it what belongs to the database itself, its name, and its owner.
    fn finish(
        &mut self,
        to: &Postgres,
        parts: &Parts<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<String, DatabaseError> {
        // A session that was idle all the while may be gone.
        let server = Session::open(&self.server_login, self.context)?;
        if parts.has("database.sql") {
            let script = parts.text("database.sql")?;
            for statement in super::catalog::for_database(&script, &self.name)? {
                server.run_one(&statement)?;
            }
        }
        let wanted = to.place.database().unwrap_or_default();
        let name = match exists(&server, wanted)? {
            false => wanted.to_owned(),
            true => free(
                &server,
                wanted,
                &format!("_restored_{}", self.context.stamp),
            )?,
        };
        server.run(&format!(
            "ALTER DATABASE {} RENAME TO {}",
            quoted(&self.name),
            quoted(&name)
        ))?;
        self.kept = true;
        if let Some(owner) = parts.stored.member().property("owner") {
            let sql = format!(
                "ALTER DATABASE {} OWNER TO {}",
                quoted(&name),
                quoted(owner)
            );
            if let Err(e) = server.run(&sql) {
                warnings.push(format!("its owner was {owner}, and is not now: {}", e.what));
            }
        }
        Ok(name)
    }
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

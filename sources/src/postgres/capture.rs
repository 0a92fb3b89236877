//! One moment of a database: an exported snapshot that every connection and program reads, and
//! locks that keep tables from being rewritten meanwhile.
//!
//! A snapshot shows rows, not files: a table that is truncated or rewritten after it looks empty
//! in it. So all tables are locked (as `pg_dump` does; only changes of structure wait), and then it
//! is made sure that each still has the file that the snapshot knows. If not, all begins anew.
//!
//! Every connection and program takes its locks now, not when it reads: whoever wants to truncate a
//! table meanwhile waits for the locks that are there, and a lock that came later would wait behind
//! him, each for the other without end.

use std::sync::{Arc, Mutex};

use hucha_store::source::Profile;

use super::catalog::{self, Table};
use super::copy::{Copying, Order};
use super::dump::{Dumping, Script, Section};
use super::left_out::LeftOut;
use super::place::Login;
use super::selection::Selection;
use super::session::Session;
use super::tools::Tools;
use super::{Form, Postgres};
use crate::child::lock;
use crate::database::error::{Cause, DatabaseError};
use crate::database::scratch::PrivateFolder;
use crate::database::{Bytes, Capture, Captured, Context, Part, Stream};

/// How often a moment is fixed anew because tables were rewritten just then.
const TRIES: usize = 5;
/// Tables that are locked by one statement.
const LOCKED: usize = 500;

/// What all streams of a capture share.
pub(super) struct Moment {
    pub login: Login,
    pub context: Context,
    pub tools: Tools,
    pub folder: PrivateFolder,
    /// The name of the exported snapshot.
    pub snapshot: String,
    /// Holds the snapshot and the locks.
    master: Mutex<Session>,
    /// Connections that are free.
    free: Mutex<Vec<Session>>,
    /// What `pg_dump` said although it did its work.
    pub warnings: Mutex<Vec<String>>,
    /// Data in no known encoding is passed through as bytes.
    raw: bool,
    has_large_objects: bool,
    pub selection: Selection,
}

impl Moment {
    /// A connection that shows the moment.
    pub fn session(&self) -> Result<Session, DatabaseError> {
        match lock(&self.free).pop() {
            Some(session) => Ok(session),
            None => self.open(),
        }
    }

    /// Makes so many connections, each with locks of its own on tables.
    ///
    /// # Errors
    /// [`Cause::Locked`] when somebody waits for such a lock already.
    fn prepare(&self, connections: usize, tables: &[Table]) -> Result<(), DatabaseError> {
        for _ in 0..connections {
            let session = self.open()?;
            lock_all(&session, tables, " NOWAIT")?;
            self.give_back(session);
        }
        Ok(())
    }

    fn open(&self) -> Result<Session, DatabaseError> {
        let session = Session::open(&self.login, &self.context)?;
        session.run(&format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; \
             SET TRANSACTION SNAPSHOT '{}'; SET LOCAL work_mem = '64MB'",
            self.snapshot
        ))?;
        if self.raw {
            session.run("SET client_encoding = 'SQL_ASCII'")?;
        }
        Ok(session)
    }

    /// Gives a connection back.
    pub fn give_back(&self, session: Session) {
        lock(&self.free).push(session);
    }

    /// Ends the moment. That it could be held until here is part of the proof.
    fn end(&self) -> Result<(), DatabaseError> {
        for session in lock(&self.free).drain(..) {
            session.run("COMMIT")?;
        }
        lock(&self.master).run("COMMIT")
    }
}

/// Fixes a moment of a database. When somebody came between its locks, all begins anew once he is
/// done.
pub(super) fn capture<'a>(
    source: &'a Postgres,
    context: &'a Context,
) -> Result<Capture<'a>, DatabaseError> {
    let mut tries = 1;
    loop {
        match attempt(source, context) {
            Err(Attempt::Between(_)) if tries < TRIES => tries += 1,
            Err(Attempt::Between(error) | Attempt::Failed(error)) => return Err(error),
            Ok(capture) => return Ok(capture),
        }
    }
}

/// Why there is no moment.
enum Attempt {
    /// Somebody came between the locks.
    Between(DatabaseError),
    /// Another try would fail as well.
    Failed(DatabaseError),
}

impl From<DatabaseError> for Attempt {
    fn from(error: DatabaseError) -> Attempt {
        Attempt::Failed(error)
    }
}

/// Fixes a moment of a database, once.
fn attempt<'a>(source: &'a Postgres, context: &'a Context) -> Result<Capture<'a>, Attempt> {
    let login = source.place.login(context)?;
    let master = Session::open(&login, context)?;
    let tools = Tools::find(master.version, context)?;
    let (snapshot, mut selection, tables) = fix(source, &master)?;
    let mut properties = catalog::properties(&master)?;
    let raw = properties
        .iter()
        .any(|(name, value)| name == "encoding" && value == "SQL_ASCII");
    // Scripts are rid of it on their way in, an archive when it is read.
    if !selection.left_out.is_empty() {
        properties.push((LeftOut::PROPERTY.to_owned(), selection.left_out.text()?));
    }
    let scripts = scripts(source, &master, &selection)?;
    let any = "SELECT EXISTS (SELECT 1 FROM pg_largeobject_metadata)";
    let has_large_objects =
        source.wanted.has_large_objects() && master.value(any)?.as_deref() == Some("t");
    let orders: Vec<Order> = (tables.iter())
        .map(|table| Order::choose(source, table, &master))
        .collect::<Result<_, _>>()?;
    let moment = Arc::new(Moment {
        login,
        context: context.clone(),
        tools,
        folder: context.scratch.folder()?,
        snapshot,
        master: Mutex::new(master),
        free: Mutex::default(),
        warnings: Mutex::new(std::mem::take(&mut selection.warnings)),
        raw,
        has_large_objects,
        selection,
    });
    let streams = match source.form {
        Form::Tables => by_table(source, &moment, tables, orders, scripts),
        Form::Plain | Form::Custom => whole(source, &moment, tables, scripts),
    };
    let streams = streams.map_err(|error| match error.cause {
        Cause::Locked => Attempt::Between(error),
        _ => Attempt::Failed(error),
    })?;
    Ok(Capture {
        streams,
        at_once: source.connections,
        end: Box::new(move || {
            moment.end()?;
            let mut warnings = std::mem::take(&mut *lock(&moment.warnings));
            warnings.sort();
            warnings.dedup();
            Ok(Captured {
                form: source.form.word().to_owned(),
                warnings,
                properties,
            })
        }),
    })
}

/// Exports a snapshot and locks the tables that are chosen of those that it shows.
fn fix(
    source: &Postgres,
    master: &Session,
) -> Result<(String, Selection, Vec<Table>), DatabaseError> {
    let mut rewritten = Vec::new();
    for _ in 0..TRIES {
        master.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")?;
        let snapshot = master
            .value("SELECT pg_export_snapshot()")?
            .unwrap_or_default();
        let mut tables = catalog::tables(master)?;
        let selection = Selection::of(source, master)?;
        tables.retain(|table| selection.has(table));
        let timeout = source.lock_timeout.as_millis();
        master.run(&format!(
            "SET LOCAL lock_timeout = {timeout}; SET LOCAL work_mem = '64MB'"
        ))?;
        match lock_all(master, &tables, "") {
            // Dropped since the snapshot: the next one does not show it.
            Err(e) if e.cause == Cause::Incomplete => rewritten = vec![e.what],
            Err(e) => return Err(e),
            Ok(()) => {
                rewritten = catalog::changed(master, &tables)?;
                if rewritten.is_empty() {
                    return Ok((snapshot, selection, tables));
                }
            }
        }
        master.run("ROLLBACK")?;
    }
    let what = format!(
        "tables were rewritten or truncated each time that a moment was fixed, {} of them: {}",
        rewritten.len(),
        rewritten.join(", ")
    );
    Err(DatabaseError::new(Cause::Incomplete, what).hint("try again when that is over"))
}

fn lock_all(session: &Session, tables: &[Table], wait: &str) -> Result<(), DatabaseError> {
    for some in tables.chunks(LOCKED) {
        let names: Vec<String> = some
            .iter()
            .map(|table| format!("ONLY {}", table.name.quoted()))
            .collect();
        let names = names.join(", ");
        session.run(&format!("LOCK TABLE {names} IN ACCESS SHARE MODE{wait}"))?;
    }
    Ok(())
}

/// Small scripts beside the tables, each with its stream's name.
fn scripts(
    source: &Postgres,
    master: &Session,
    selection: &Selection,
) -> Result<Vec<(&'static str, String)>, DatabaseError> {
    let mut scripts = Vec::new();
    if source.part != Part::Data {
        scripts.push(("database.sql", catalog::of_database(master)?));
    }
    if source.part != Part::Schema && source.form == Form::Tables {
        let sequences = catalog::sequences(master, &|name| selection.has_sequence(name))?;
        scripts.push(("sequences.sql", sequences.concat()));
    }
    scripts.retain(|(_, script)| !script.is_empty());
    Ok(scripts)
}

fn script<'a>((name, text): (&'static str, String)) -> Stream<'a> {
    Stream {
        name: name.to_owned(),
        profile: Profile::DUMP,
        open: Box::new(move || Ok(Box::new(Script::new(text)))),
    }
}

/// Streams of `pg_dump`, each of which has its locks.
fn dumped<'a>(
    moment: &Arc<Moment>,
    sections: Vec<(&str, Section)>,
) -> Result<Vec<Stream<'a>>, DatabaseError> {
    let start = |(name, section)| Ok((name, Dumping::start(moment, section)?));
    let started: Result<Vec<_>, DatabaseError> = sections.into_iter().map(start).collect();
    let stream = |(name, mut dumping): (&str, Dumping)| {
        dumping.await_first()?;
        Ok(Stream {
            name: name.to_owned(),
            profile: Profile::DUMP,
            open: Box::new(move || Ok(Box::new(dumping) as Box<dyn Bytes>)),
        })
    };
    started?.into_iter().map(stream).collect()
}

/// The default form: the structure in two scripts, and a stream for each table.
fn by_table<'a>(
    source: &'a Postgres,
    moment: &Arc<Moment>,
    tables: Vec<Table>,
    orders: Vec<Order>,
    scripts: Vec<(&'static str, String)>,
) -> Result<Vec<Stream<'a>>, DatabaseError> {
    let mut streams: Vec<Stream<'a>> = scripts.into_iter().map(script).collect();
    let mut sections = Vec::new();
    if source.part != Part::Data {
        let section = |part| Section::new(part, moment.selection.options());
        sections.push(("schema.pre.sql", section("--section=pre-data")));
        sections.push(("schema.post.sql", section("--section=post-data")));
    }
    if source.part != Part::Schema {
        moment.prepare(source.connections.min(tables.len()), &tables)?;
        if moment.has_large_objects {
            sections.push(("large-objects.sql", Section::large_objects()));
        }
    }
    streams.extend(dumped(moment, sections)?);
    if source.part != Part::Data {
        streams.extend(globals(source, moment));
    }
    if source.part == Part::Schema {
        return Ok(streams);
    }
    for (table, order) in tables.into_iter().zip(orders) {
        if !moment.selection.has_rows_of(&table) {
            continue;
        }
        let moment = Arc::clone(moment);
        streams.push(Stream {
            name: format!("data/{}", table.name.file()),
            profile: Profile::DUMP,
            open: Box::new(move || {
                let copying = Copying::start(moment, &table, order)?;
                Ok(Box::new(copying) as Box<dyn Bytes>)
            }),
        });
    }
    Ok(streams)
}

/// Everything in one stream of `pg_dump`'s own.
fn whole<'a>(
    source: &'a Postgres,
    moment: &Arc<Moment>,
    tables: Vec<Table>,
    scripts: Vec<(&'static str, String)>,
) -> Result<Vec<Stream<'a>>, DatabaseError> {
    let mut streams: Vec<Stream<'a>> = scripts.into_iter().map(script).collect();
    if source.part != Part::Data {
        streams.extend(globals(source, moment));
    }
    let mut arguments = moment.selection.options();
    match source.part {
        Part::All => {}
        Part::Schema => arguments.push("--schema-only".to_owned()),
        Part::Data => arguments.push("--data-only".to_owned()),
    }
    let mut counted: Vec<Table> = tables;
    counted.retain(|t| source.part != Part::Schema && moment.selection.has_rows_of(t));
    let (name, section) = match source.form {
        Form::Custom => ("dump.pgdump", Section::custom(arguments, counted.clone())),
        _ => ("dump.sql", Section::plain(arguments, counted.clone())),
    };
    if !counted.is_empty() {
        moment.prepare(1, &counted)?;
    }
    streams.extend(dumped(moment, vec![(name, section)])?);
    Ok(streams)
}

/// Roles and tablespaces of the server. Not having them is no failure: they belong to no database.
fn globals<'a>(source: &Postgres, moment: &Arc<Moment>) -> Option<Stream<'a>> {
    if source.without_globals {
        return None;
    }
    match super::dump::globals(moment, source.role_passwords) {
        Ok(text) => Some(script(("globals.sql", text))),
        Err(error) => {
            let what = error.what.lines().next().unwrap_or_default().to_owned();
            let warning = format!("roles and tablespaces of the server are not stored: {what}");
            lock(&moment.warnings).push(warning);
            None
        }
    }
}

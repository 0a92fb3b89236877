//! PostgreSQL: a live database by one exported snapshot.
//!
//! The default form is one stream for each table, in the order of its key, beside scripts of the
//! structure: it grows least, and a table or the structure can be had alone (`capture`, `copy`,
//! `dump`). The other forms are `pg_dump`'s own. Restored is into a new database (`restore`),
//! which is exchanged with the live one on request (`swap`). [`throwaway`] is a private server
//! for rehearsals and tests.

mod capture;
mod catalog;
mod copy;
mod dump;
mod feed;
mod fill;
mod left_out;
mod made;
mod names;
mod place;
mod restore;
pub(crate) mod rows;
mod script;
mod selection;
mod session;
mod swap;
#[cfg(test)]
mod tests;
pub mod throwaway;
mod tools;
mod words;

use std::time::Duration;

use crate::database::error::{Cause, DatabaseError};
use crate::database::settings::Settings;
use crate::database::{
    Capture, Context, Database, Part, Preflight, RestoreOptions, Restored, Stored, Verified,
};
use names::Pattern;
use place::Place;
use selection::Wanted;
use session::Session;
use tools::{KNOWN, Tools};

/// Connections that read tables side by side, unless `connections` says otherwise.
const CONNECTIONS: u64 = 4;
/// Tables of more bytes are read as they lie, unless `key_order_limit` says otherwise.
const KEY_ORDER_LIMIT: u64 = 8 << 30;
/// How long a lock is waited for, unless `lock_timeout` says otherwise.
const LOCK_TIMEOUT: Duration = Duration::from_secs(60);

/// In which form a database is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// A stream for each table, scripts of the structure.
    Tables,
    /// `pg_dump`'s archive.
    Custom,
    /// `pg_dump`'s script.
    Plain,
}

impl Form {
    const WORDS: [(&'static str, Form); 3] = [
        ("tables", Form::Tables),
        ("custom", Form::Custom),
        ("plain", Form::Plain),
    ];

    fn word(self) -> &'static str {
        let found = Form::WORDS.iter().find(|(_, form)| *form == self);
        found.map_or("tables", |(word, _)| word)
    }
}

/// Whether rows are read in the order of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ordering {
    /// Where that is cheap.
    Auto,
    /// Wherever there is a key.
    Key,
    /// Never.
    Heap,
}

/// A PostgreSQL database.
pub struct Postgres {
    place: Place,
    form: Form,
    part: Part,
    ordering: Ordering,
    key_order_limit: u64,
    connections: usize,
    lock_timeout: Duration,
    wanted: Wanted,
    without_globals: bool,
    role_passwords: bool,
    /// Of a restore: in place of the stored collation.
    collate: Option<String>,
}

impl Postgres {
    /// From `postgres://user@host:port/database`; docs/guide/postgres.md lists the options.
    ///
    /// # Errors
    /// When there is no name of a database, or an option is wrong.
    pub fn new(mut settings: Settings) -> Result<Postgres, DatabaseError> {
        let place = Place::take(&mut settings)?;
        let named = place.database().is_some_and(|name| !name.contains('/'));
        if !named {
            let what = "a PostgreSQL source needs the name of a database";
            return Err(DatabaseError::setting(what).hint("like postgres://user@host/inventory"));
        }
        let source = Postgres {
            place,
            form: settings.word("format", &Form::WORDS)?,
            part: settings.word(
                "part",
                &[
                    ("all", Part::All),
                    ("schema", Part::Schema),
                    ("data", Part::Data),
                ],
            )?,
            ordering: settings.word(
                "order",
                &[
                    ("auto", Ordering::Auto),
                    ("key", Ordering::Key),
                    ("heap", Ordering::Heap),
                ],
            )?,
            key_order_limit: settings
                .number("key_order_limit")?
                .unwrap_or(KEY_ORDER_LIMIT),
            connections: settings
                .number("connections")?
                .unwrap_or(CONNECTIONS)
                .clamp(1, 64) as usize,
            lock_timeout: settings
                .number("lock_timeout")?
                .map_or(LOCK_TIMEOUT, Duration::from_secs),
            wanted: Wanted {
                tables: Pattern::all(&settings.list("tables")?)?,
                exclude_tables: Pattern::all(&settings.list("exclude_tables")?)?,
                exclude_data: Pattern::all(&settings.list("exclude_data")?)?,
                schemas: settings.list("schemas")?,
                exclude_schemas: settings.list("exclude_schemas")?,
            },
            without_globals: settings.flag("no_globals")?,
            role_passwords: settings.flag("role_passwords")?,
            collate: settings.text("collate")?,
        };
        settings.finish()?;
        Ok(source)
    }
}

impl Database for Postgres {
    fn kind(&self) -> &'static str {
        "postgres"
    }

    fn location(&self) -> String {
        self.place.location()
    }

    fn default_name(&self) -> String {
        self.place.database().unwrap_or_default().replace('/', "_")
    }

    fn preflight(&self, context: &Context) -> Result<Preflight, DatabaseError> {
        let session = Session::open(&self.place.login(context)?, context)?;
        let major = session.version / 10_000;
        if major < *KNOWN.start() {
            let what = format!(
                "PostgreSQL {major} is too old: {} is the oldest",
                KNOWN.start()
            );
            return Err(DatabaseError::new(Cause::Failed, what));
        }
        let tools = Tools::find(session.version, context)?;
        let server = session.value("SHOW server_version")?.unwrap_or_default();
        let server = server
            .split_whitespace()
            .next()
            .unwrap_or_default()
            .to_owned();
        Ok(Preflight {
            server: format!("PostgreSQL {server}"),
            tool: format!("pg_dump {}", tools.version),
        })
    }

    fn capture<'a>(&'a self, context: &'a Context) -> Result<Capture<'a>, DatabaseError> {
        capture::capture(self, context)
    }

    fn restore(
        &self,
        stored: &dyn Stored,
        options: &RestoreOptions,
        context: &Context,
    ) -> Result<Restored, DatabaseError> {
        restore::restore(self, stored, options, context)
    }

    fn swap(&self, restored: Restored, context: &Context) -> Result<Restored, DatabaseError> {
        swap::swap(self, restored, context)
    }

    fn verify(&self, stored: &dyn Stored, context: &Context) -> Result<Verified, DatabaseError> {
        restore::verify(self, stored, context)
    }

    fn remove(&self, name: &str, context: &Context) -> Result<(), DatabaseError> {
        let server = restore::maintenance(&self.place, context)?;
        let login = self.place.with_database(name).login(context)?;
        made::drop_emptied(&server, &login, name, context, true)
    }

    fn query(&self, sql: &str, context: &Context) -> Result<Option<String>, DatabaseError> {
        let session = Session::open(&self.place.login(context)?, context)?;
        // Names are found as the programs of the database find them.
        session.run("RESET search_path")?;
        session.value(sql)
    }
}

/// A key that nobody can guess who wrote a name into a database.
fn random_key() -> String {
    use std::hash::{BuildHasher, RandomState};
    // Seeded by the system once a thread, and different at every call.
    let number = || RandomState::new().hash_one(0u8);
    format!("{:016x}{:016x}", number(), number())
}

//! Databases: what each of them can do, whatever it is. A database is a source of one member: it
//! fixes a moment ([`Database::capture`]), gives streams that all show that moment, and proves that
//! they are whole. A member becomes a database again, under a new name
//! ([`Database::restore`]), and is exchanged with the live one when that is asked for.
//!
//! Nothing here knows of repositories. [`several`] makes one source of databases and files.

pub mod context;
pub mod error;
pub mod export;
pub(crate) mod private_server;
pub mod program;
pub mod rehearsal;
pub mod rows;
pub mod scratch;
pub mod secret;
pub mod settings;
pub mod several;
mod stored;
#[cfg(test)]
pub(crate) mod testing;

use std::io::Read;

use hucha_store::member::{Member, StreamFacts};
use hucha_store::source::Profile;

pub use context::Context;
pub use error::{Cause, DatabaseError};
pub use settings::{Address, Settings, Value};
pub use stored::StoredMember;

/// A database, or another thing that is read and restored like one.
pub trait Database: Send + Sync {
    /// What it is: `sqlite`, `postgres`.
    fn kind(&self) -> &'static str;

    /// Its address without options and secrets. Groups snapshots, and stands in their lists of
    /// paths.
    fn location(&self) -> String;

    /// What a member is called when nobody says otherwise: a sound path.
    fn default_name(&self) -> String;

    /// Connects, finds programs and versions, and whatever stands in the way. Changes nothing.
    ///
    /// # Errors
    /// When no capture could succeed.
    fn preflight(&self, context: &Context) -> Result<Preflight, DatabaseError>;

    /// Fixes the moment. From here on every stream shows this moment, whenever it is read.
    ///
    /// # Errors
    /// When that cannot be done.
    fn capture<'a>(&'a self, context: &'a Context) -> Result<Capture<'a>, DatabaseError>;

    /// Makes a new database of what is stored: the one that this address names when there is none
    /// such yet, else one beside it. Stops at the first error, and removes what it made. Compares
    /// rows afterwards.
    ///
    /// # Errors
    /// When it is not there as it was stored; nothing of it is left then.
    fn restore(
        &self,
        stored: &dyn Stored,
        options: &RestoreOptions,
        context: &Context,
    ) -> Result<Restored, DatabaseError>;

    /// Exchanges the database that this address names with one that was restored; the live one is
    /// kept under a name that [`Restored::kept`] tells.
    ///
    /// # Errors
    /// When that cannot be done; then the live one is where it was.
    fn swap(&self, restored: Restored, context: &Context) -> Result<Restored, DatabaseError>;

    /// Looks through the database that this address names: whether it is sound, and holds what is
    /// stored.
    ///
    /// # Errors
    /// [`Cause::Differs`] when it does not.
    fn verify(&self, stored: &dyn Stored, context: &Context) -> Result<Verified, DatabaseError>;

    /// Removes a database of this server (or a file) that a rehearsal made.
    ///
    /// # Errors
    /// When it stays.
    fn remove(&self, name: &str, context: &Context) -> Result<(), DatabaseError>;

    /// Runs a query in the database that this address names, and answers its first value as text.
    ///
    /// # Errors
    /// When it fails.
    fn query(&self, sql: &str, context: &Context) -> Result<Option<String>, DatabaseError>;
}

/// What a look before the capture found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Preflight {
    /// Product and version of the server: `PostgreSQL 15.18`.
    pub server: String,
    /// Program and version that will read it; empty: hucha itself.
    pub tool: String,
}

/// A moment of a database.
pub struct Capture<'a> {
    /// Its streams. One with an empty name is the member itself; others lie below it.
    pub streams: Vec<Stream<'a>>,
    /// How many of them may be read at once.
    pub at_once: usize,
    /// Called once every stream was read to its end: lets the moment go and gives the proof that
    /// all is whole.
    pub end: Box<dyn FnOnce() -> Result<Captured, DatabaseError> + Send + 'a>,
}

/// One stream of a capture.
pub struct Stream<'a> {
    /// Its path below the member's; sound.
    pub name: String,
    /// How it is cut.
    pub profile: Profile,
    /// Opens it, in another thread. A stream that is never opened costs nothing.
    pub open: OpenStream<'a>,
}

/// Opens a stream.
pub type OpenStream<'a> =
    Box<dyn FnOnce() -> Result<Box<dyn Bytes + 'a>, DatabaseError> + Send + 'a>;

/// The bytes of a stream.
pub trait Bytes {
    /// Puts some at the start of `buffer` (never empty). Answers 0 only when all came and that is
    /// certain; not called after that.
    ///
    /// # Errors
    /// When not all of them can be had.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, DatabaseError>;

    /// Rows and properties, asked once all was read. The digest is not its matter.
    fn facts(&mut self) -> StreamFacts {
        StreamFacts::default()
    }
}

/// What is known of a member once it was read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Captured {
    /// In which form its streams are.
    pub form: String,
    /// What a person should know although it is whole.
    pub warnings: Vec<String>,
    /// What a restore goes by.
    pub properties: Vec<(String, String)>,
}

/// A member of a snapshot.
pub trait Stored: Sync {
    /// What the manifest says of it.
    fn member(&self) -> &Member;

    /// Its streams, in the order of their names.
    fn streams(&self) -> &[StoredStream];

    /// Hands the bytes of a stream to `read`.
    ///
    /// # Errors
    /// When there is none of that name, it cannot be had, or `read` fails.
    fn read(&self, name: &str, read: ReadStream<'_>) -> Result<(), DatabaseError>;
}

/// Takes the bytes of a stream. Need not read all of them.
pub type ReadStream<'a> = &'a mut dyn FnMut(&mut (dyn Read + Send)) -> Result<(), DatabaseError>;

/// One stream of a member of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredStream {
    /// Its path below the member's; empty: the member itself.
    pub name: String,
    /// Its bytes.
    pub size: u64,
    /// What was learnt when it was read.
    pub facts: StreamFacts,
}

/// What of a member is restored.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RestoreOptions {
    /// Structure, contents or both.
    pub part: Part,
    /// Only these tables (or collections); empty: all.
    pub tables: Vec<String>,
    /// What becomes of documents that are there already: Firestore alone.
    pub merge: Merge,
}

/// Structure, contents or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Part {
    /// Both.
    #[default]
    All,
    /// Tables without rows.
    Schema,
    /// Rows, into tables that are there.
    Data,
}

/// What becomes of documents that are there already; for databases that are no unit that could be
/// restored beside itself (Firestore).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Merge {
    /// Only documents that are not there are written.
    #[default]
    NewOnly,
    /// All stored documents are written, others stay.
    Overwrite,
    /// Afterwards there is what is stored, and nothing else.
    Mirror,
}

/// What a restore made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Restored {
    /// The name (or path) under which it is there now.
    pub name: String,
    /// Tables whose rows were compared.
    pub tables: u64,
    /// Their rows.
    pub rows: u64,
    /// Where the database is that stood at the address before a swap.
    pub kept: Option<String>,
    /// What a person should know.
    pub warnings: Vec<String>,
}

/// What a look through a restored database found: all is well.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verified {
    /// Tables whose rows were compared.
    pub tables: u64,
    /// Their rows.
    pub rows: u64,
    /// What was looked at besides: `integrity_check`, `indexes`.
    pub checks: Vec<String>,
}

/// Compares rows of tables with what is stored; `found` is asked for each.
///
/// # Errors
/// [`Cause::Differs`] with the first tables that differ.
pub fn compare_rows(
    stored: &[(String, u64)],
    found: &dyn Fn(&str) -> Option<u64>,
) -> Result<Verified, DatabaseError> {
    let mut verified = Verified::default();
    let mut differing = Vec::new();
    for (table, rows) in stored {
        verified.tables += 1;
        match found(table) {
            Some(there) if there == *rows => verified.rows += rows,
            Some(there) => differing.push(format!("{table} has {there} rows instead of {rows}")),
            None => differing.push(format!("{table} is not there")),
        }
    }
    if differing.is_empty() {
        return Ok(verified);
    }
    let more = differing.len().saturating_sub(3);
    differing.truncate(3);
    let mut what = differing.join(", ");
    if more > 0 {
        what = format!("{what}, and {more} more tables differ");
    }
    Err(DatabaseError::new(Cause::Differs, what))
}

/// Copies what was not handed out yet into a buffer; answers how much.
pub(crate) fn hand_out(from: &[u8], given: &mut usize, buffer: &mut [u8]) -> usize {
    let rest = from.get(*given..).unwrap_or_default();
    let n = rest.len().min(buffer.len());
    if let (Some(to), Some(from)) = (buffer.get_mut(..n), rest.get(..n)) {
        to.copy_from_slice(from);
    }
    *given += n;
    n
}

/// The database of an address with options.
///
/// # Errors
/// When the address, or an option, cannot be understood.
pub fn open(settings: Settings) -> Result<Box<dyn Database>, DatabaseError> {
    match settings.address.scheme.as_str() {
        "firestore" => Ok(Box::new(crate::firestore::Firestore::new(settings)?)),
        "sqlite" => Ok(Box::new(crate::sqlite::Sqlite::new(settings)?)),
        "mysql" | "mariadb" => Ok(Box::new(crate::mysql::Mysql::new(settings)?)),
        "postgres" | "postgresql" => Ok(Box::new(crate::postgres::Postgres::new(settings)?)),
        "mssql" | "sqlserver" => Ok(Box::new(crate::mssql::SqlServer::new(settings)?)),
        other => {
            let what = format!("there are no sources at \"{other}:\"");
            Err(DatabaseError::setting(what)
                .hint("known: sqlite, postgres, mysql, mssql, firestore, file"))
        }
    }
}

//! Restoring a member only to see that it works: into a file or a server that is there for nothing
//! else, looked through, and removed again.

use std::collections::BTreeMap;
use std::time::Instant;

use super::error::{Cause, DatabaseError};
use super::scratch::PrivateFolder;
use super::{Context, Database, RestoreOptions, Settings, Stored, Verified};
use crate::mysql::throwaway::Throwaway as MysqlServer;
use crate::postgres::throwaway::Throwaway as PostgresServer;

/// Servers that are started for rehearsals, and those that were named.
pub struct Stage<'a> {
    context: &'a Context,
    /// Addresses of servers, by their kind.
    named: BTreeMap<String, String>,
    postgres: Option<PostgresServer>,
    mysql: Option<MysqlServer>,
    folder: Option<PrivateFolder>,
    /// Names of databases are numbered.
    used: usize,
}

/// What a rehearsal of one member gave.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rehearsed {
    /// What was compared and looked at.
    pub verified: Verified,
    /// How long the restore alone took, in milliseconds: what a person would wait.
    pub restore_ms: u64,
    /// What a person should know.
    pub warnings: Vec<String>,
}

impl<'a> Stage<'a> {
    /// With servers that are used instead of private ones.
    ///
    /// # Errors
    /// When an address cannot be understood.
    pub fn new(context: &'a Context, servers: &[String]) -> Result<Stage<'a>, DatabaseError> {
        let mut named = BTreeMap::new();
        for address in servers {
            let database = super::open(Settings::of_address(address)?)?;
            named.insert(database.kind().to_owned(), address.clone());
        }
        Ok(Stage {
            context,
            named,
            postgres: None,
            mysql: None,
            folder: None,
            used: 0,
        })
    }

    /// What holds for everything in it.
    pub fn context(&self) -> &'a Context {
        self.context
    }

    /// Restores a member, looks through it, asks it queries whose first value must be true, and
    /// removes it.
    ///
    /// # Errors
    /// When it is not as it was stored, or cannot be restored here.
    pub fn rehearse(
        &mut self,
        stored: &dyn Stored,
        expectations: &[String],
    ) -> Result<Rehearsed, DatabaseError> {
        if stored.member().kind == "command" && expectations.is_empty() {
            return read(stored);
        }
        self.used += 1;
        let database = self.place(stored)?;
        let begun = Instant::now();
        let restored = database.restore(stored, &RestoreOptions::default(), self.context)?;
        let restore_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let looked = self.look(&*database, stored, expectations);
        let removed = database.remove(&restored.name, &self.context.calm());
        let verified = looked?;
        removed?;
        Ok(Rehearsed {
            verified,
            restore_ms,
            warnings: restored.warnings,
        })
    }

    fn look(
        &self,
        database: &dyn Database,
        stored: &dyn Stored,
        expectations: &[String],
    ) -> Result<Verified, DatabaseError> {
        let mut verified = database.verify(stored, self.context)?;
        for sql in expectations {
            let value = database.query(sql, self.context)?.unwrap_or_default();
            if !matches!(value.to_ascii_lowercase().as_str(), "t" | "true" | "1") {
                let what = format!("{sql:?} is not true: it answers {value:?}");
                return Err(DatabaseError::new(Cause::Differs, what));
            }
            verified.checks.push(sql.clone());
        }
        Ok(verified)
    }

    /// A database that is not there yet.
    fn place(&mut self, stored: &dyn Stored) -> Result<Box<dyn Database>, DatabaseError> {
        let member = stored.member();
        let name = format!("hucha_rehearsal_{}_{}", std::process::id(), self.used);
        if let Some(address) = self.named.get(&member.kind) {
            return super::open(Settings::of_address(&with_database(address, &name))?);
        }
        match member.kind.as_str() {
            "sqlite" => {
                if self.folder.is_none() {
                    self.folder = Some(self.context.scratch.folder()?);
                }
                let folder = self
                    .folder
                    .as_ref()
                    .map(PrivateFolder::path)
                    .unwrap_or("".as_ref());
                let path = folder.join(&name);
                super::open(Settings::of_address(&format!(
                    "sqlite://{}",
                    path.display()
                ))?)
            }
            "postgres" => {
                let context = self.context;
                let server = self.postgres(stored)?;
                server.prepare(stored, context)?;
                Ok(Box::new(server.database_for(&name, stored, context)?))
            }
            "mysql" => {
                let server = match self.mysql.take() {
                    Some(server) => server,
                    None => MysqlServer::start(self.context)?,
                };
                // Views and triggers may name the database that they belong to.
                let name = member.property("database").unwrap_or(&name);
                let address = self.mysql.insert(server).address(name);
                super::open(Settings::of_address(&address)?)
            }
            kind => {
                let what = format!(
                    "no {kind} server is named to restore \"{}\" to",
                    member.name
                );
                Err(DatabaseError::new(Cause::Absent, what)
                    .hint(format!("name one: --server {kind}://user@host/…")))
            }
        }
    }

    fn postgres(&mut self, stored: &dyn Stored) -> Result<&PostgresServer, DatabaseError> {
        let server = &stored.member().server;
        let digits = server.strip_prefix("PostgreSQL ").unwrap_or_default();
        let digits: String = digits.chars().take_while(char::is_ascii_digit).collect();
        let major = digits.parse().unwrap_or(0);
        if self
            .postgres
            .as_ref()
            .is_none_or(|there| there.major < major)
        {
            self.postgres = None;
            self.postgres = Some(PostgresServer::start(major, self.context)?);
        }
        let none = || DatabaseError::new(Cause::Tool, "no server");
        self.postgres.as_ref().ok_or_else(none)
    }
}

/// What a command printed becomes no database: it is read from first to last, and each chunk
/// compared.
fn read(stored: &dyn Stored) -> Result<Rehearsed, DatabaseError> {
    let begun = Instant::now();
    super::export::write(stored, &mut std::io::sink())?;
    Ok(Rehearsed {
        verified: Verified {
            checks: vec!["read".to_owned()],
            ..Verified::default()
        },
        restore_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        warnings: Vec::new(),
    })
}

/// The same server, another database.
fn with_database(address: &str, name: &str) -> String {
    let (place, options) = match address.split_once('?') {
        Some((place, options)) => (place, format!("?{options}")),
        None => (address, String::new()),
    };
    let place = match place.split_once("://") {
        Some((scheme, rest)) => {
            let host = rest.split('/').next().unwrap_or_default();
            format!("{scheme}://{host}")
        }
        None => place.to_owned(),
    };
    format!("{place}/{name}{options}")
}

#[cfg(test)]
mod tests {
    use super::with_database;

    #[test]
    fn another_database_of_a_server() {
        for (address, expected) in [
            ("postgres://a@h:1/x?y=z", "postgres://a@h:1/n?y=z"),
            ("postgres://a@h", "postgres://a@h/n"),
            ("mysql://h/x", "mysql://h/n"),
        ] {
            assert_eq!(with_database(address, "n"), expected);
        }
    }
}

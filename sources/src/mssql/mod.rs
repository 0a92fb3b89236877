//! SQL Server: its own backup, made by the server into a folder that both sides see, checked by the
//! server, streamed from there and removed; and the way back.
//!
//! A backup holds the state at the moment when it ends ([`capture`]); the server's check of it is
//! the proof that it is whole. Rows are not in it in a form that we could count: they are counted
//! before and after, and compared only where nothing came between ([`catalog`]). Parts of a
//! database (tables, structure without rows) cannot be had from a backup, and are refused.
//! Windows accounts, named instances by their names (`host\instance`) and backups to addresses or
//! tapes are not for this module.

mod capture;
mod catalog;
mod certificates;
mod exchange;
mod restore;
mod session;
mod sql;
mod swap;
#[cfg(test)]
mod tests;
mod tls;
mod told;
mod value;
mod wire;

use std::path::PathBuf;

use crate::database::error::DatabaseError;
use crate::database::secret::SecretFrom;
use crate::database::settings::Settings;
use crate::database::{
    Capture, Context, Database, Preflight, RestoreOptions, Restored, Stored, Verified,
};
use certificates::Trust;
use exchange::Exchange;
use session::{Patience, Session};

/// Where a server listens unless the address says otherwise.
const PORT: u16 = 1433;
/// The variable that holds the password unless an option says otherwise; what Microsoft's own
/// programs take.
const VARIABLE: &str = "SQLCMDPASSWORD";
/// Permissions of files that the server is to read: the group may, which is the server's.
const FILE_MODE: u32 = 0o640;
/// Most characters of a database's name.
const MAX_NAME: usize = 128;

/// A database of a SQL Server.
pub struct SqlServer {
    host: String,
    port: u16,
    user: String,
    database: String,
    password: SecretFrom,
    /// `None`: the line is not sealed.
    trust: Option<Trust>,
    exchange: Option<Exchange>,
}

impl SqlServer {
    /// From `mssql://user@host:port/database`. Options: `server_dir` is a folder as the server
    /// sees it, `local_dir` the same one as hucha sees it (the same path when it is not given),
    /// `file_mode` the mode of what hucha puts there for the server (`640`); `password_file`,
    /// `password_command`, `password_env` (`SQLCMDPASSWORD`); `encrypt` (`yes`, `no`),
    /// `trust_certificate` (a PEM file, or `any`).
    ///
    /// # Errors
    /// When a part of the address is missing, or an option is wrong.
    pub fn new(mut settings: Settings) -> Result<SqlServer, DatabaseError> {
        let address = settings.address.clone();
        let missing = |what: &str| {
            DatabaseError::setting(format!("the address {address} names no {what}"))
                .hint("like mssql://user@host:1433/database")
        };
        let host = address.host.as_deref().ok_or_else(|| missing("host"))?;
        let user = address.user.clone().ok_or_else(|| missing("user"))?;
        let database = address.database().ok_or_else(|| missing("database"))?;
        if database.chars().count() > MAX_NAME {
            let what = format!("the name of a database has at most {MAX_NAME} characters");
            return Err(DatabaseError::setting(what));
        }
        let encrypt = settings.word("encrypt", &[("yes", true), ("no", false)])?;
        let trust = match settings.text("trust_certificate")?.as_deref() {
            None => Trust::System,
            Some("any") => Trust::Any,
            Some(path) => Trust::File(path.into()),
        };
        if !encrypt && trust != Trust::System {
            let what = "trust_certificate means nothing with encrypt=no";
            return Err(DatabaseError::setting(what));
        }
        let mode = match settings.text("file_mode")? {
            None => FILE_MODE,
            Some(text) => octal(&text)?,
        };
        let server_dir = settings.text("server_dir")?;
        let local_dir = settings.text("local_dir")?.map(PathBuf::from);
        let exchange = match (server_dir, local_dir) {
            (Some(server), local) => {
                let local = local.unwrap_or_else(|| PathBuf::from(&server));
                Some(Exchange::new(local, server, mode))
            }
            (None, None) => None,
            (None, Some(_)) => {
                let what = "local_dir is given without server_dir";
                return Err(DatabaseError::setting(what)
                    .hint("server_dir is the same folder as the server sees it"));
            }
        };
        let variable = || SecretFrom::Variable(VARIABLE.to_owned());
        let password = settings.password()?.unwrap_or_else(variable);
        settings.finish()?;
        Ok(SqlServer {
            host: host.trim_matches(['[', ']']).to_owned(),
            port: address.port.unwrap_or(PORT),
            user,
            database: database.to_owned(),
            password,
            trust: encrypt.then_some(trust),
            exchange,
        })
    }

    /// Host and port, for messages.
    fn server(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    /// The folder that both sides see.
    fn exchange(&self) -> Result<&Exchange, DatabaseError> {
        self.exchange.as_ref().ok_or_else(|| {
            let what = "a SQL Server source needs server_dir: a folder that both the server and \
                        hucha see";
            DatabaseError::setting(what).hint(
                "add ?server_dir=/var/opt/mssql/hucha, and local_dir when hucha sees it under \
                 another path",
            )
        })
    }
}

/// Permissions as they are written: `640`.
fn octal(text: &str) -> Result<u32, DatabaseError> {
    let mode = u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode & !0o666 == 0);
    mode.filter(|mode| mode & 0o600 == 0o600).ok_or_else(|| {
        let what = format!("file_mode must be like 640 or 600, not {text:?}");
        DatabaseError::setting(what)
    })
}

impl Database for SqlServer {
    fn kind(&self) -> &'static str {
        "mssql"
    }

    fn location(&self) -> String {
        format!("mssql://{}/{}", self.server(), self.database)
    }

    fn default_name(&self) -> String {
        let odd = |c: char| matches!(c, '/' | '\\' | ':') || c.is_control();
        format!("{}.bak", self.database.replace(odd, "_"))
    }

    fn preflight(&self, context: &Context) -> Result<Preflight, DatabaseError> {
        let exchange = self.exchange()?;
        exchange.check()?;
        let mut session = Session::open(self, context)?;
        let server = catalog::server(&mut session)?;
        catalog::database(&mut session, &self.database)?.online(&self.database)?;
        exchange.probe(&mut session)?;
        Ok(Preflight {
            server: server.shown(),
            tool: String::new(),
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
        let mut session = Session::open(self, context)?;
        match catalog::find(&mut session, name)? {
            None => Ok(()),
            Some(_) => session.tell(&sql::drop(name), &format!("drop {name}"), Patience::Short),
        }
    }

    fn query(&self, sql: &str, context: &Context) -> Result<Option<String>, DatabaseError> {
        let mut session = Session::open(self, context)?;
        let doing = format!("open {}", self.database);
        let enter = format!("USE {}", sql::name(&self.database));
        session.tell(&enter, &doing, Patience::Short)?;
        let rows = session.ask(sql, &format!("ask {}", self.database))?;
        Ok(rows.into_iter().next().and_then(session::Row::first))
    }
}

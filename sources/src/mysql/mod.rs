//! MySQL and MariaDB, through the vendor's dump client: one stream of SQL, the member itself.
//!
//! The client reads all InnoDB tables in one transaction, so they show one moment; other tables,
//! and definitions (views, triggers, routines, events), are as they are when their turn comes,
//! which is told as a warning. While the dump streams by its statements are cut and its rows
//! counted (`scan`, `sections`); it counts as whole when the client ended well, the last line
//! is there, and so is everything that was there when it began (`dump`).
//!
//! Rows come in the order of the primary key. Measured with 200,000 rows of 130 bytes, of which
//! 1 % were changed, 0.25 % deleted and 0.35 % added a night (MariaDB 10.11; a night's growth as
//! `zstd -3 --patch-from` of the dumps, three nights, kB):
//!
//! | table | as it lies | by key | tab-separated, by key |
//! |---|---|---|---|
//! | InnoDB, with an automatic key | 113 | 113 | 110 |
//! | MyISAM, the same rows | 117 | 113 | 110 |
//! | InnoDB, a key of two columns | 22.3 | 22.1 | 22.9 |
//!
//! InnoDB lies in the order of its key anyway, so this costs nothing there; a stream a table would
//! save 3 % of growth, and cost the form that every client of the vendor can read. It is not done.
//!
//! Nothing here speaks the protocol of the server, reads its files, or its binary log.

mod access;
mod chosen;
mod dump;
mod fill;
mod filter;
mod grants;
mod inventory;
mod option_file;
mod restore;
mod routine_grants;
mod scan;
mod sections;
mod swap;
#[cfg(test)]
mod tests;
mod told;
mod tools;
mod verify;

pub mod throwaway;

use std::path::PathBuf;

use crate::database::error::DatabaseError;
use crate::database::secret::SecretFrom;
use crate::database::settings::{Address, Settings};
use crate::database::{
    Capture, Context, Database, Part, Preflight, RestoreOptions, Restored, Stored, Verified,
};
use access::SslMode;

/// Longest name of a database, in characters.
const LONGEST_NAME: usize = 64;

/// A database of a MySQL or MariaDB server.
pub struct Mysql {
    address: Address,
    database: String,
    socket: Option<String>,
    password: Option<SecretFrom>,
    defaults_file: Option<PathBuf>,
    tool_dir: Vec<PathBuf>,
    ssl_mode: SslMode,
    ssl_files: Vec<(&'static str, String)>,
    part: Part,
    order: Order,
    /// Patterns of tables and views that are captured; empty: all, and all else.
    tables: Vec<String>,
    /// Patterns of those that are not.
    excluded: Vec<String>,
}

/// In which order rows are dumped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// By primary key, or by the first unique one.
    Key,
    /// As they lie.
    Storage,
}

impl Mysql {
    /// From `mysql://user@host:port/database` (or `mariadb:`). Options: `socket`; `password_file`,
    /// `password_command`, `password_env` (else the variable `MYSQL_PWD`); `defaults_file`, an
    /// option file of the vendor's; `tool_dir`, where its programs are; `ssl_mode`, `ssl_ca`,
    /// `ssl_cert`, `ssl_key`; and for captures `part`, `tables`, `exclude_tables`, `order`.
    ///
    /// # Errors
    /// When no database is named, or an option is wrong.
    pub fn new(mut settings: Settings) -> Result<Mysql, DatabaseError> {
        let address = settings.address.clone();
        let Some(database) = address.database().map(str::to_owned) else {
            let what = format!("{address} names no database");
            return Err(DatabaseError::setting(what).hint("like mysql://user@host/shop"));
        };
        if database.chars().count() > LONGEST_NAME || database.contains(['/', '\n']) {
            let what = format!("{database:?} is no name of a database");
            return Err(DatabaseError::setting(what).hint("like mysql://user@host/shop"));
        }
        let modes = [
            ("default", SslMode::Default),
            ("disabled", SslMode::Disabled),
            ("required", SslMode::Required),
            ("verify_identity", SslMode::Verified),
        ];
        let parts = [
            ("all", Part::All),
            ("schema", Part::Schema),
            ("data", Part::Data),
        ];
        let orders = [("key", Order::Key), ("storage", Order::Storage)];
        let mut ssl_files = Vec::new();
        for (option, name) in [
            ("ssl_ca", "ssl-ca"),
            ("ssl_cert", "ssl-cert"),
            ("ssl_key", "ssl-key"),
        ] {
            if let Some(path) = settings.text(option)? {
                ssl_files.push((name, path));
            }
        }
        let defaults_file = settings.text("defaults_file")?.map(PathBuf::from);
        let mysql = Mysql {
            database,
            socket: settings.text("socket")?,
            password: settings.password()?,
            defaults_file,
            tool_dir: settings
                .list("tool_dir")?
                .into_iter()
                .map(PathBuf::from)
                .collect(),
            ssl_mode: settings.word("ssl_mode", &modes)?,
            ssl_files,
            part: settings.word("part", &parts)?,
            order: settings.word("order", &orders)?,
            tables: settings.list("tables")?,
            excluded: settings.list("exclude_tables")?,
            address,
        };
        settings.finish()?;
        if mysql
            .defaults_file
            .as_ref()
            .is_some_and(|path| !path.is_absolute() || path.to_string_lossy().contains('\n'))
        {
            return Err(DatabaseError::setting(
                "defaults_file must be an absolute path",
            ));
        }
        Ok(mysql)
    }

    /// Whether a table or view is captured.
    fn wants(&self, table: &str) -> bool {
        let any = |patterns: &[String]| patterns.iter().any(|p| is_like(p, table));
        (self.tables.is_empty() || any(&self.tables)) && !any(&self.excluded)
    }
}

/// Whether a name is like a pattern in which `*` stands for any letters.
fn is_like(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(mut name) = name.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        match name.find(part) {
            Some(at) => name = name.get(at + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    name.ends_with(last)
}

/// A name with something behind it, no longer than names may be.
fn beside(name: &str, what: &str) -> String {
    let room = LONGEST_NAME.saturating_sub(what.chars().count());
    let short: String = name.chars().take(room).collect();
    format!("{short}{what}")
}

/// The same, with a number behind it when there is such a database: two in a second.
fn free(access: &access::Access<'_>, name: &str, what: &str) -> Result<String, DatabaseError> {
    for number in 1..1000 {
        let name = match number {
            1 => beside(name, what),
            n => beside(name, &format!("{what}_{n}")),
        };
        if !inventory::exists(access, &name)? {
            return Ok(name);
        }
    }
    Ok(beside(name, what))
}

impl Database for Mysql {
    fn kind(&self) -> &'static str {
        "mysql"
    }

    fn location(&self) -> String {
        self.address.to_string()
    }

    fn default_name(&self) -> String {
        format!("{}.sql", self.database)
    }

    fn preflight(&self, context: &Context) -> Result<Preflight, DatabaseError> {
        dump::preflight(self, context)
    }

    fn capture<'a>(&'a self, context: &'a Context) -> Result<Capture<'a>, DatabaseError> {
        dump::capture(self, context)
    }

    fn restore(
        &self,
        stored: &dyn Stored,
        options: &RestoreOptions,
        context: &Context,
    ) -> Result<Restored, DatabaseError> {
        match options.part {
            Part::Data => fill::fill(self, stored, options, context),
            _ => restore::restore(self, stored, options, context),
        }
    }

    fn swap(&self, restored: Restored, context: &Context) -> Result<Restored, DatabaseError> {
        swap::swap(self, restored, context)
    }

    fn verify(&self, stored: &dyn Stored, context: &Context) -> Result<Verified, DatabaseError> {
        verify::verify(self, stored, context)
    }

    fn remove(&self, name: &str, context: &Context) -> Result<(), DatabaseError> {
        let sql = format!("DROP DATABASE IF EXISTS {}", access::quoted(name));
        self.access(context)?.ask(None, &sql).map(drop)
    }

    fn query(&self, sql: &str, context: &Context) -> Result<Option<String>, DatabaseError> {
        self.access(context)?.value(Some(&self.database), sql)
    }
}

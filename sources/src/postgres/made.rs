//! A new database while it is made: under a name that nobody takes for a database, taken away again
//! unless it gets its own.

use std::time::Duration;

use super::Postgres;
use super::feed::{Feeding, Programs, feed};
use super::names::{literal, quoted};
use super::place::{Login, Place};
use super::restore::{Parts, exists, maintenance};
use super::script::Choice;
use super::session::Session;
use super::tools::Tools;
use crate::database::error::{Cause, DatabaseError};
use crate::database::{Context, Stored};

/// How often a server that does not answer is asked to drop what was made, and how long it has in
/// between: one that went down with the restore is mostly back at once.
const TRIES: usize = 10;
const PAUSE: Duration = Duration::from_secs(1);
/// Tables that are dropped before their database is.
const LARGEST: usize = 100;

/// A new database under a name of its own, dropped again unless it gets its own name.
pub(super) struct Made<'a> {
    pub server: Session,
    /// `shop_restoring_0123abcd`.
    name: String,
    pub login: Login,
    /// A database that is there for all.
    server_login: Login,
    pub tools: Tools,
    pub context: &'a Context,
    /// It has its name, or is gone.
    kept: bool,
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        // Its name says what it is, and the next restore tries again.
        let _ = self.remove();
    }
}

impl Made<'_> {
    /// Takes it away after something failed; says so where that fails as well.
    pub fn undo(mut self, error: DatabaseError) -> DatabaseError {
        let Err(left) = self.remove() else {
            return error;
        };
        let what = format!(
            "{}; {} could not be dropped, the next restore into this server does it: {}",
            error.what, self.name, left.what
        );
        DatabaseError { what, ..error }
    }

    /// Takes it away, once.
    fn remove(&mut self) -> Result<(), DatabaseError> {
        if std::mem::replace(&mut self.kept, true) {
            return Ok(());
        }
        // What stops us does not stop this, and an older session may have been ended.
        let context = self.context.calm();
        let mut tries = 1;
        let server = loop {
            match Session::open(&self.server_login, &context) {
                Err(e) if e.cause == Cause::Unreachable && tries < TRIES => {
                    std::thread::sleep(PAUSE);
                    tries += 1;
                }
                other => break other?,
            }
        };
        drop_emptied(&server, &self.login, &self.name, &context, true)
    }
}

/// Drops a database, and on request ends the sessions of others in it, where the server knows that
/// (13 and later). `DROP DATABASE` begins with a checkpoint, which on a full disk brings the whole
/// server down; so the largest tables go first, each of which frees its room at once.
pub(super) fn drop_emptied(
    server: &Session,
    login: &Login,
    name: &str,
    context: &Context,
    ends_sessions: bool,
) -> Result<(), DatabaseError> {
    let tables = format!(
        "SELECT c.oid::regclass, c.relkind FROM pg_class c \
         WHERE c.relkind IN ('r', 'm') AND c.oid >= 16384 \
         ORDER BY pg_relation_size(c.oid) DESC LIMIT {LARGEST}"
    );
    // Whatever cannot be dropped in there goes with the database.
    if let Ok(within) = Session::open(login, context) {
        let _ = within.run("SET lock_timeout = '1s'");
        for row in within.rows(&tables).unwrap_or_default() {
            let mut fields = row.into_iter().map(Option::unwrap_or_default);
            let table = fields.next().unwrap_or_default();
            let kind = match fields.next().as_deref() {
                Some("m") => "MATERIALIZED VIEW",
                _ => "TABLE",
            };
            let _ = within.run(&format!("DROP {kind} IF EXISTS {table} CASCADE"));
        }
    }
    let force = match ends_sessions && server.version >= 130_000 {
        true => " WITH (FORCE)",
        false => "",
    };
    let name = quoted(name);
    server.run_long(&format!("DROP DATABASE IF EXISTS {name}{force}"))
}

/// What stands behind the name of a database that is being restored, before eight letters.
const RESTORING: &str = "_restoring_";

/// Drops what killed restores of this role left: databases of which no session says that it makes
/// them.
fn drop_leftovers(server: &Session, place: &Place, context: &Context) -> Result<(), DatabaseError> {
    let sql = format!(
        "SELECT datname FROM pg_database d \
         WHERE datname ~ '{RESTORING}[0-9a-f]{{8}}$' AND datdba = current_user::regrole \
         AND NOT EXISTS (SELECT 1 FROM pg_stat_activity a \
                         WHERE a.application_name = 'hucha restoring ' || right(d.datname, 8)
                         OR a.datname = d.datname)"
    );
    for name in server.rows(&sql)?.into_iter().flatten().flatten() {
        let login = place.with_database(&name).login(context)?;
        // Somebody may be faster.
        let _ = drop_emptied(server, &login, &name, context, false);
    }
    Ok(())
}

/// Makes the empty database, as the stored one was made. Its own name comes last: nobody takes for
/// a database what a killed restore left.
pub(super) fn create<'a>(
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
    drop_leftovers(&server, &to.place, context)?;
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

impl Made<'_> {
    /// Feeds a stored script or archive to it.
    pub fn feed(
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
    pub fn analyze(&self, warnings: &mut Vec<String>) -> Result<(), DatabaseError> {
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
    pub fn finish(
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

//! What PostgreSQL said, in a sentence with a remedy.

use tokio_postgres::error::{DbError, SqlState};

use super::place::Login;
use super::session::NoConnection;
use crate::database::error::{Cause, DatabaseError};

/// Why a statement failed.
pub(super) fn told(database: &str, error: &tokio_postgres::Error) -> DatabaseError {
    match error.as_db_error() {
        Some(said) => of_server(database, said),
        None if error.is_closed() => broken(database),
        None => {
            let cause = std::error::Error::source(error);
            let why = cause.map_or_else(|| error.to_string(), ToString::to_string);
            match why.contains("closed") || why.contains("reset") || why.contains("EOF") {
                true => broken(database),
                false => DatabaseError::new(Cause::Failed, format!("{database}: {why}")),
            }
        }
    }
}

fn broken(database: &str) -> DatabaseError {
    let what = format!("the connection to {database} broke");
    DatabaseError::new(Cause::Unreachable, what)
        .hint("the log of the server tells why: a restart, an administrator, a lost network")
}

fn of_server(database: &str, said: &DbError) -> DatabaseError {
    let (message, code) = (said.message(), said.code());
    if message.contains("row-level security") {
        let what = format!("{message}: not all of its rows can be read");
        return DatabaseError::new(Cause::Denied, what)
            .hint("read as the owner of the table, or as a role with BYPASSRLS");
    }
    let (cause, what, hint): (_, _, Option<&str>) = if *code == SqlState::INSUFFICIENT_PRIVILEGE {
        let hint = "GRANT pg_read_all_data TO that role (14 and later), or SELECT on each table \
                    and sequence and USAGE on each schema";
        (Cause::Denied, message.to_owned(), Some(hint))
    } else if [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN].contains(code) {
        let what = format!("the server ended the connection to {database}: {message}");
        (
            Cause::Unreachable,
            what,
            Some("an administrator did that, or the server went down"),
        )
    } else if *code == SqlState::LOCK_NOT_AVAILABLE {
        let what = format!("a table of {database} stayed locked: {message}");
        let hint = "a migration or VACUUM FULL was running: try again, or raise lock_timeout";
        (Cause::Locked, what, Some(hint))
    } else if *code == SqlState::DISK_FULL {
        (
            Cause::Failed,
            format!("the disk of the server is full: {message}"),
            None,
        )
    } else if *code == SqlState::UNDEFINED_TABLE || *code == SqlState::UNDEFINED_COLUMN {
        let what = format!("{database} was changed meanwhile: {message}");
        (
            Cause::Incomplete,
            what,
            Some("was a migration running? Try again"),
        )
    } else {
        let detail = said.detail().map(|d| format!(" ({d})")).unwrap_or_default();
        (
            Cause::Failed,
            format!("{database}: {message}{detail}"),
            said.hint(),
        )
    };
    let error = DatabaseError::new(cause, what);
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// Why there is no connection.
pub(super) fn unreachable(login: &Login, error: &NoConnection) -> DatabaseError {
    let Login {
        host,
        port,
        user,
        database,
        ..
    } = login;
    let said = match error {
        NoConnection::Postgres(error) => error.as_db_error(),
        NoConnection::Certificates(_) => None,
    };
    let (cause, what, hint) = match said {
        Some(said) if *said.code() == SqlState::INVALID_PASSWORD => (
            Cause::Denied,
            format!("the password of {user} at {host}:{port} is wrong, or none was given"),
            "password_file, password_command, PGPASSFILE or PGPASSWORD say where it is",
        ),
        Some(said) if *said.code() == SqlState::INVALID_CATALOG_NAME => (
            Cause::Absent,
            format!("there is no database \"{database}\" at {host}:{port}"),
            "is its name right? `psql -l` lists them",
        ),
        Some(said) if *said.code() == SqlState::CANNOT_CONNECT_NOW => (
            Cause::Unreachable,
            format!("{host}:{port} is not ready: {}", said.message()),
            "it is starting up or going down: try again, and see its log",
        ),
        Some(said) if *said.code() == SqlState::TOO_MANY_CONNECTIONS => (
            Cause::Unreachable,
            format!(
                "{host}:{port} takes no more connections: {}",
                said.message()
            ),
            "lower `connections` of the source, or raise max_connections",
        ),
        Some(said) => (
            Cause::Denied,
            format!("{host}:{port} refuses the connection: {}", said.message()),
            "see pg_hba.conf of the server",
        ),
        None => {
            let why = match error {
                NoConnection::Postgres(error) => std::error::Error::source(error)
                    .map_or_else(|| error.to_string(), ToString::to_string),
                NoConnection::Certificates(why) => why.clone(),
            };
            (
                Cause::Unreachable,
                format!("{host}:{port} cannot be reached: {why}"),
                "is the server running, and are host and port right?",
            )
        }
    };
    let without_password = matches!(error, NoConnection::Postgres(e)
        if std::error::Error::source(e).is_some_and(|e| e.to_string() == "password missing"));
    match without_password {
        true => DatabaseError::new(
            Cause::Denied,
            format!("{host}:{port} wants a password of {user}, and none was given"),
        )
        .hint("password_file, password_command, PGPASSFILE or PGPASSWORD say where it is"),
        false => DatabaseError::new(cause, what).hint(hint),
    }
}

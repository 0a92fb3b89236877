//! What a server says, in sentences: what happened, to what, and what to do next. The server's own
//! words follow where they tell more.

use std::time::Duration;

use crate::database::error::{Cause, DatabaseError};

/// Why a statement did not do what it was for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// The server cannot be reached.
    Unreachable(String),
    /// It does not encrypt.
    NotEncrypted,
    /// The line could not be sealed.
    Unsealed(String),
    /// The line broke.
    Broken(String),
    /// It said so.
    Server {
        /// Number of the message.
        code: u32,
        /// Its words.
        message: String,
    },
    /// It said nothing for so long.
    Silent(Duration),
    /// All is to stop.
    Stopped,
}

impl From<tiberius::error::Error> for Failure {
    fn from(error: tiberius::error::Error) -> Failure {
        use tiberius::error::Error;
        match error {
            Error::Server(said) => Failure::Server {
                code: said.code(),
                message: said.message().trim().to_owned(),
            },
            Error::Io { message, .. } => Failure::Broken(message),
            Error::Routing { host, port } => {
                Failure::Unreachable(format!("the server refers to {host}:{port}"))
            }
            other => Failure::Broken(other.to_string()),
        }
    }
}

/// In sentences. `doing` says what was to be done: `back up users`.
pub(super) fn told(failure: &Failure, server: &str, doing: &str) -> DatabaseError {
    match failure {
        Failure::Stopped => DatabaseError::stopped(),
        Failure::Unreachable(why) => {
            let what = format!("the SQL Server at {server} cannot be reached: {why}");
            DatabaseError::new(Cause::Unreachable, what)
                .hint("is it running, does it listen on TCP, is the port right?")
        }
        Failure::NotEncrypted => {
            let what = format!("the SQL Server at {server} does not encrypt");
            DatabaseError::new(Cause::Unreachable, what)
                .hint("encrypt=no sends the password as good as readable: only on this machine")
        }
        Failure::Unsealed(why) => {
            let what = format!("no sealed connection to the SQL Server at {server}: {why}");
            DatabaseError::new(Cause::Unreachable, what).hint(
                "trust_certificate=FILE names a PEM file with the server's certificate; \
                 trust_certificate=any takes any, so nobody knows who answers",
            )
        }
        Failure::Broken(why) => {
            let what = format!("could not {doing}: the connection to {server} broke: {why}");
            DatabaseError::new(Cause::Unreachable, what)
                .hint("the server's own log says why, if it was the server")
        }
        Failure::Silent(stall) => {
            let what = format!(
                "could not {doing}: {server} said nothing for {} s",
                stall.as_secs()
            );
            DatabaseError::new(Cause::Unreachable, what)
        }
        Failure::Server { code, message } => said(*code, message, doing),
    }
}

/// What the server said.
fn said(code: u32, message: &str, doing: &str) -> DatabaseError {
    let (cause, why, hint) = match code {
        3201 | 3202 | 3203 | 3271 | 5133 | 1834 if os_error(message).is_some() => {
            by_system(os_error(message).unwrap_or_default())
        }
        _ => by_code(code),
    };
    let what = match why {
        "" => format!("could not {doing}: {message} (error {code})"),
        why => format!("could not {doing}: {why}; the server says: {message} (error {code})"),
    };
    let error = DatabaseError::new(cause, what);
    match hint {
        "" => error,
        hint => error.hint(hint),
    }
}

type Known = (Cause, &'static str, &'static str);

/// By the error of the system below the server.
fn by_system(number: u32) -> Known {
    match number {
        2 | 3 => (
            Cause::Setting,
            "the server does not find the file or folder",
            "server_dir is the folder as the server sees it, local_dir the same as hucha sees it",
        ),
        5 => (
            Cause::Denied,
            "the account that the server runs under may not use the file or folder",
            "give that account the right to read and write the folder server_dir; files that \
             hucha puts there are readable as file_mode says",
        ),
        32 => (
            Cause::Failed,
            "another program uses the file",
            "leave the folder server_dir to hucha, a virus scanner may need to be told so",
        ),
        112 | 28 => (
            Cause::Failed,
            "the server's disk is full",
            "server_dir needs room for the whole database, uncompressed",
        ),
        _ => (Cause::Failed, "", ""),
    }
}

/// By the number of the message.
fn by_code(code: u32) -> Known {
    match code {
        18456 | 18452 | 18470 | 18487 | 18488 => (
            Cause::Denied,
            "the server refuses user or password",
            "give the password by SQLCMDPASSWORD, password_file, password_command or password_env",
        ),
        4060 | 911 | 916 => (
            Cause::Absent,
            "there is no such database, or the login has no user in it",
            "is its name right?",
        ),
        262 | 229 | 300 | 297 | 3110 | 2571 | 5011 | 15247 | 15151 | 8104 => (
            Cause::Denied,
            "the login may not do that",
            "a backup needs the role db_backupoperator and the right CREATE ANY DATABASE (its \
             check reads the file), a restore the role dbcreator; there is no right to restore \
             that could be granted",
        ),
        927 | 942 | 945 | 926 | 946 | 955 | 3135 => (
            Cause::Failed,
            "the database is not online",
            "sys.databases tells its state; nothing can be read from it as it is",
        ),
        3023 | 3041 => (
            Cause::Failed,
            "another backup or file operation of this database is running",
            "run it again when that has ended",
        ),
        9002 | 1105 | 1101 => (Cause::Failed, "a disk of the server is full", ""),
        3183 | 3189 | 3203 | 3241 | 3242 | 3243 | 3254 | 3256 | 3270 | 3446 | 824 | 823 => (
            Cause::Incomplete,
            "the backup is damaged, or not whole",
            "look through the live database with DBCC CHECKDB, then take another snapshot",
        ),
        3169 | 3168 => (
            Cause::Setting,
            "the backup is from a newer version of SQL Server than this one",
            "restore it to a server of that version or a newer one",
        ),
        33111 | 33104 | 15507 => (
            Cause::Denied,
            "the database is encrypted, and its certificate is not on this server",
            "restore the certificate first (CREATE CERTIFICATE … FROM FILE)",
        ),
        1801 | 3154 | 3159 => (
            Cause::Exists,
            "a database of that name is there already",
            "choose another name",
        ),
        5030 | 5061 | 5064 | 5070 | 3101 | 3702 => (
            Cause::Failed,
            "others use the database",
            "stop the programs that use it, or run it again",
        ),
        _ => (Cause::Failed, "", ""),
    }
}

/// The number in `Operating system error 5(Access is denied.)`, or in `… : 112(There is not …)`.
pub(super) fn os_error(message: &str) -> Option<u32> {
    let number = |text: &str| {
        let end = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        let (digits, rest) = text.split_at(end);
        rest.starts_with('(').then(|| digits.parse().ok()).flatten()
    };
    let behind = |mark: &str| {
        let mut all = message.match_indices(mark);
        all.find_map(|(at, _)| number(message.get(at + mark.len()..)?))
    };
    behind("error ")
        .or_else(|| behind(": "))
        .or_else(|| behind(":"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: u32, message: &str) -> DatabaseError {
        let message = message.to_owned();
        told(
            &Failure::Server { code, message },
            "db:1433",
            "back up users",
        )
    }

    #[test]
    fn errors_of_the_system_below() {
        let device = |number: &str| {
            let words = r"Cannot open backup device 'C:\hucha\a.tmp'. Operating system error ";
            error(3201, &format!("{words}{number}."))
        };
        let denied = device("5(Access is denied.)");
        assert_eq!(denied.cause, Cause::Denied);
        assert!(
            denied
                .what
                .starts_with("could not back up users: the account that"),
            "{denied}"
        );
        assert!(denied.hint.unwrap().contains("server_dir"));
        assert_eq!(
            device("3(The system cannot find the path specified.)").cause,
            Cause::Setting
        );
        let full = error(
            3202,
            r#"Write on "C:\hucha\a.tmp" failed: 112(There is not enough space on the disk.)"#,
        );
        assert!(full.what.contains("the server's disk is full"), "{full}");
        let odd = device("995(The I/O operation has been aborted.)");
        assert!(odd.what.contains("995(") && odd.hint.is_none(), "{odd}");
    }

    #[test]
    fn numbers_that_are_known_and_others() {
        for (code, cause) in [
            (18456, Cause::Denied),
            (262, Cause::Denied),
            (911, Cause::Absent),
            (942, Cause::Failed),
            (3189, Cause::Incomplete),
            (1801, Cause::Exists),
        ] {
            let error = error(code, "words");
            assert_eq!(error.cause, cause, "{code}");
            assert!(
                error.what.contains("words") && error.hint.is_some(),
                "{code}"
            );
        }
        let other = error(50000, "words");
        assert_eq!(other.what, "could not back up users: words (error 50000)");
    }

    #[test]
    fn a_line_that_is_not_there() {
        let broken = told(&Failure::Broken("reset".into()), "db:1433", "back up users");
        assert_eq!(broken.cause, Cause::Unreachable);
        assert!(broken.what.contains("broke"), "{broken}");
        let silent = told(&Failure::Silent(Duration::from_secs(7)), "db", "count rows");
        assert_eq!(silent.what, "could not count rows: db said nothing for 7 s");
    }
}

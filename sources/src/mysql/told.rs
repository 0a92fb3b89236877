//! What the vendor's programs and the server said, in a sentence.

use crate::child::ChildError;
use crate::database::error::{Cause, DatabaseError};

/// What was being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doing {
    /// Asking or telling the server something.
    Asking,
    /// Dumping a database.
    Dumping,
    /// Feeding a dump.
    Restoring,
}

/// A known message: what it means, what to do next.
type Known = (&'static [u16], Cause, &'static str, &'static str);

const KNOWN: &[Known] = &[
    (
        &[1045, 1698],
        Cause::Denied,
        "the server refused user or password",
        "is the user right? give password_file, password_command, password_env or defaults_file",
    ),
    (
        &[1044, 1130],
        Cause::Denied,
        "the server does not let this user in",
        "GRANT SELECT, SHOW VIEW, TRIGGER, EVENT, EXECUTE ON the database TO the user",
    ),
    (
        &[1142, 1143, 1227, 1370, 1419, 1873],
        Cause::Denied,
        "this user lacks a privilege",
        "the last line below says which; docs/guide/mysql.md lists what is needed",
    ),
    (
        &[1049],
        Cause::Absent,
        "there is no such database",
        "is the name right?",
    ),
    (
        &[1412],
        Cause::Incomplete,
        "a table was altered, truncated or made anew while it was dumped",
        "nothing was stored; run it again when no table is being altered",
    ),
    (
        &[1051, 1146],
        Cause::Incomplete,
        "a table is not there (any more)",
        "when it was dropped meanwhile, run it again",
    ),
    (
        &[1356],
        Cause::Incomplete,
        "a view refers to something that is not there, or that its definer may not read",
        "repair or drop the view, or leave it out: exclude_tables=NAME",
    ),
    (
        &[1449],
        Cause::Incomplete,
        "a definer is not a user of the server",
        "make the user, or change the definer of what the last line below names",
    ),
    (
        &[2002, 2003, 2005],
        Cause::Unreachable,
        "the server cannot be reached",
        "is it running, and are host, port or socket right?",
    ),
    (
        &[2006, 2013, 2055, 1053, 1317, 1927, 3169],
        Cause::Unreachable,
        "the connection to the server broke",
        "somebody ended it, or the server stopped; its error log says more",
    ),
    (
        &[1205, 1213],
        Cause::Unreachable,
        "a lock of another program was waited for in vain",
        "see SHOW PROCESSLIST, and run it again",
    ),
    (
        &[1969, 3024],
        Cause::Unreachable,
        "the server ended a statement that ran too long for it",
        "raise max_statement_time (max_execution_time) for this user",
    ),
    (
        &[1021, 1114, 1030, 3],
        Cause::Failed,
        "the server could not read or write a table",
        "is its disk full? its error log says more",
    ),
    (
        &[1153],
        Cause::Failed,
        "the server does not take packets that are so large",
        "raise max_allowed_packet of the server",
    ),
    (
        &[1115, 1273],
        Cause::Failed,
        "the server does not know a character set or collation of the dump",
        "restore to a server of the same product, as new as the one that was dumped",
    ),
    (
        &[2026],
        Cause::Unreachable,
        "no encrypted connection could be made",
        "see ssl_mode and ssl_ca",
    ),
    (
        &[1040, 1203, 1226],
        Cause::Unreachable,
        "the server has too many connections",
        "run it again later",
    ),
    (
        &[1524, 2059, 2061],
        Cause::Denied,
        "this client does not know the way in which the user must log in",
        "install the client of the server's own version, or give tool_dir",
    ),
];

/// The server's number of an error in a message: `ERROR 1064 (42000)`, `Got error: 1045:`,
/// `… (1142)`.
fn code(line: &str) -> Option<u16> {
    let number = |text: &str| {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        text.get(..digits)?.parse::<u16>().ok()
    };
    for (at, _) in line.match_indices("rror") {
        let after = line.get(at + 4..)?.trim_start_matches([':', ' ']);
        if let Some(found) = number(after) {
            return Some(found);
        }
    }
    let upper = line
        .find("ERROR ")
        .and_then(|at| number(line.get(at + 6..)?));
    let last = line.trim_end().strip_suffix(')');
    let last = last.and_then(|text| text.rsplit_once('('));
    upper.or_else(|| last.and_then(|(_, text)| number(text).filter(|_| is_number(text))))
}

fn is_number(text: &str) -> bool {
    (3..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Turns the failure of a program into a sentence.
pub(super) fn told(error: ChildError, doing: Doing, database: &str) -> DatabaseError {
    let words = error.words().join("\n");
    if matches!(error, ChildError::Start { .. } | ChildError::Stopped { .. }) {
        return error.into();
    }
    let known = error.words().iter().filter_map(|line| code(line));
    let known = known
        .filter_map(|code| KNOWN.iter().find(|(codes, ..)| codes.contains(&code)))
        .next();
    let said = error.with_words();
    let name = match doing {
        Doing::Asking => format!("{database}: "),
        Doing::Dumping => format!("{database} cannot be dumped: "),
        Doing::Restoring => format!("{database} cannot be restored: "),
    };
    if words.contains("insufficient privileges") {
        return DatabaseError::new(
            Cause::Denied,
            format!("{name}this user may not see a procedure or function in full\n  {said}"),
        )
        .hint(
            "GRANT SELECT ON mysql.proc (MariaDB before 11.3), SHOW CREATE ROUTINE (MariaDB), \
             SHOW_ROUTINE ON *.* (MySQL) TO the user",
        );
    }
    match known {
        Some((_, cause, what, hint)) => {
            let cause = match (doing, cause) {
                (Doing::Asking | Doing::Restoring, Cause::Incomplete) => Cause::Failed,
                _ => *cause,
            };
            DatabaseError::new(cause, format!("{name}{what}\n  {said}")).hint(*hint)
        }
        None => {
            let meaning = match (doing, exit_code(&error)) {
                (Doing::Dumping, Some(2)) => "the server answered with an error\n  ",
                (Doing::Dumping, Some(3)) => "it is not consistent\n  ",
                (Doing::Dumping, Some(5)) => "the dump could not be written\n  ",
                _ => "",
            };
            let cause = match doing {
                Doing::Dumping => Cause::Incomplete,
                _ => Cause::Failed,
            };
            DatabaseError::new(cause, format!("{name}{meaning}{said}"))
        }
    }
}

fn exit_code(error: &ChildError) -> Option<u16> {
    match error {
        ChildError::Failed { how, .. } => how.strip_prefix("exited with code ")?.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(how: &str, words: &[&str]) -> ChildError {
        ChildError::Failed {
            name: "mariadb-dump".into(),
            how: how.into(),
            words: words.iter().map(|w| (*w).to_owned()).collect(),
        }
    }

    #[test]
    fn numbers_of_errors() {
        let all = [
            ("ERROR 1064 (42000) at line 3: You have", Some(1064)),
            (
                "mysqldump: Got error: 1045: \"Access denied for user\" when trying to connect",
                Some(1045),
            ),
            (
                "mariadb-dump: Error 1412: Table definition has changed when dumping `a`",
                Some(1412),
            ),
            (
                "mariadb-dump: Couldn't execute 'SHOW FIELDS FROM `v`': View invalid (1356)",
                Some(1356),
            ),
            (
                "mysqldump: Error: 'Access denied; you need PROCESS' (x)",
                None,
            ),
            ("", None),
        ];
        for (line, wanted) in all {
            assert_eq!(code(line), wanted, "{line}");
        }
    }

    #[test]
    fn sentences() {
        let error = told(
            failed("exited with code 2", &["x: Error 1412: changed"]),
            Doing::Dumping,
            "shop",
        );
        assert_eq!(error.cause, Cause::Incomplete);
        assert!(
            error
                .what
                .starts_with("shop cannot be dumped: a table was altered")
        );
        let error = told(failed("exited with code 5", &[]), Doing::Dumping, "shop");
        assert!(error.what.contains("could not be written"), "{error}");
        let error = told(
            failed(
                "exited with code 1",
                &["ERROR 1049 (42000): Unknown database"],
            ),
            Doing::Asking,
            "shop",
        );
        assert_eq!(error.cause, Cause::Absent);
        assert!(error.what.contains("Unknown database") && error.hint.is_some());
    }
}

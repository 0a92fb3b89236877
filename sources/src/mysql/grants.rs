//! What the user may see. What a user may not see the server does not list, and a dump lacks it
//! without a word; so privileges are looked at before.

use std::collections::{BTreeMap, BTreeSet};

use super::Mysql;
use super::access::Access;
use crate::database::error::{Cause, DatabaseError};

/// Privileges that hold for a whole database.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Granted {
    names: BTreeSet<String>,
    /// Roles, of which nothing is known.
    has_roles: bool,
    /// Something of the database was taken away again (partial revokes of MySQL).
    has_revokes: bool,
}

/// What must be granted on the whole database, and what would be missing else.
const NEEDED: [(&str, &str); 4] = [
    ("SELECT", "tables"),
    ("SHOW VIEW", "views"),
    ("TRIGGER", "triggers"),
    ("EVENT", "events"),
];

/// By each of these all routines are listed.
const ROUTINES: [&str; 6] = [
    "EXECUTE",
    "SHOW_ROUTINE",
    "SHOW CREATE ROUTINE",
    "ALTER ROUTINE",
    "CREATE ROUTINE",
    ALL_PROCS,
];

/// Stands for reading the table in which routines are.
const ALL_PROCS: &str = "SELECT ON mysql.proc";

/// What is given with `ALL PRIVILEGES`, as far as it matters.
const ALL: [&str; 5] = ["SELECT", "SHOW VIEW", "TRIGGER", "EVENT", "EXECUTE"];

/// Fails when the user may not see all of a database. Answers a warning when that is unknown.
pub(super) fn check(access: &Access<'_>, from: &Mysql) -> Result<Option<String>, DatabaseError> {
    let database = &from.database;
    if !from.is_whole() {
        // Single tables may be granted each by itself, and are then asked for by name.
        return Ok(None);
    }
    let rows = access.ask(None, "SHOW GRANTS")?;
    let lines = rows.iter().filter_map(|row| row.first());
    let granted = granted(lines.map(String::as_str), database);
    let mut lacking: Vec<(&str, &str)> = NEEDED.to_vec();
    lacking.retain(|(name, _)| !granted.names.contains(*name));
    if from.has_others() && !ROUTINES.iter().any(|name| granted.names.contains(*name)) {
        lacking.push(("EXECUTE", "procedures and functions"));
    }
    if granted.has_revokes {
        return Ok(Some(format!(
            "whether this user sees all of {database} is not known: some of its privileges were \
             revoked there"
        )));
    }
    if lacking.is_empty() {
        return Ok(None);
    }
    let names: Vec<&str> = lacking.iter().map(|(name, _)| *name).collect();
    let things: Vec<&str> = lacking.iter().map(|(_, thing)| *thing).collect();
    let (names, things) = (names.join(", "), things.join(", "));
    if granted.has_roles {
        return Ok(Some(format!(
            "whether this user sees all {things} of {database} is not known: its roles may grant \
             {names}"
        )));
    }
    let what = format!(
        "this user may not see all {things} of {database}, which would be missing from the dump"
    );
    Err(DatabaseError::new(Cause::Denied, what).hint(format!(
        "GRANT {names} ON `{database}`.* TO the user; or choose tables by name: tables=a,b"
    )))
}

/// Privileges by patterns of database names, with how exact each pattern is.
type ByPattern<'a> = Vec<(usize, BTreeSet<&'a str>)>;

fn granted<'a>(lines: impl Iterator<Item = &'a str>, database: &str) -> Granted {
    let mut granted = Granted::default();
    let mut of_database: BTreeMap<&str, ByPattern<'_>> = BTreeMap::new();
    for line in lines {
        if let Some(rest) = line.strip_prefix("REVOKE ") {
            let place = rest
                .split_once(" ON ")
                .and_then(|(_, rest)| rest.split_once(" FROM "));
            let pattern = place.map(|(place, _)| pattern(place));
            granted.has_revokes |= pattern.is_none_or(|p| p.is_none_or(|p| holds(&p, database)));
            continue;
        }
        let Some(rest) = line.strip_prefix("GRANT ") else {
            continue;
        };
        let Some((names, rest)) = rest.split_once(" ON ") else {
            granted.has_roles = true;
            continue;
        };
        let Some((place, rest)) = rest.split_once(" TO ") else {
            continue;
        };
        let mut names: BTreeSet<&str> = names.split(", ").collect();
        if names.contains("ALL PRIVILEGES") {
            names.extend(ALL);
        }
        let of_procs = place == "`mysql`.`proc`" || place == "*.*" || place == "`mysql`.*";
        if of_procs && names.contains("SELECT") {
            granted.names.insert(ALL_PROCS.to_owned());
        }
        let Some(pattern) = pattern(place) else {
            continue;
        };
        if pattern == "*" {
            granted.names.extend(names.into_iter().map(str::to_owned));
        } else if holds(&pattern, database) {
            let grantee = rest.split(' ').next().unwrap_or_default();
            let patterns = of_database.entry(grantee).or_default();
            patterns.push((exactness(pattern.as_bytes()), names));
        }
    }
    for patterns in of_database.into_values() {
        granted
            .names
            .extend(most_exact(patterns).into_iter().map(str::to_owned));
    }
    granted
}

/// Of all patterns the server takes the most exact one only. Which one of two that are equally
/// exact is not known: what both give counts.
fn most_exact(mut patterns: ByPattern<'_>) -> BTreeSet<&str> {
    let most = patterns.iter().map(|(exactness, _)| *exactness).max();
    patterns.retain(|(exactness, _)| Some(*exactness) == most);
    let all = patterns.into_iter().map(|(_, names)| names);
    all.reduce(|a, b| a.intersection(&b).copied().collect())
        .unwrap_or_default()
}

/// The pattern of databases in `` `shop%`.* ``; `*` is all of them. `None`: it is about one thing.
fn pattern(place: &str) -> Option<String> {
    let pattern = place.strip_suffix(".*")?;
    Some(pattern.trim_matches('`').replace("``", "`"))
}

fn holds(pattern: &str, database: &str) -> bool {
    pattern == "*" || is_like(pattern.as_bytes(), database.as_bytes())
}

/// How the server sorts its patterns: without any `%` or `_` is most, else where the first one is.
fn exactness(pattern: &[u8]) -> usize {
    let mut at = 0;
    while let Some(letter) = pattern.get(at) {
        match letter {
            b'%' | b'_' => return (at + 1).min(127),
            b'\\' if at + 1 < pattern.len() => at += 2,
            _ => at += 1,
        }
    }
    128
}

/// Whether a name is like the pattern of a grant: `%` any letters, `_` one, `\` before either.
fn is_like(pattern: &[u8], name: &[u8]) -> bool {
    match pattern {
        [] => name.is_empty(),
        [b'%', rest @ ..] => {
            (0..=name.len()).any(|at| is_like(rest, name.get(at..).unwrap_or_default()))
        }
        [b'_', rest @ ..] => !name.is_empty() && is_like(rest, name.get(1..).unwrap_or_default()),
        [b'\\', letter, rest @ ..] | [letter, rest @ ..] => {
            name.first() == Some(letter) && is_like(rest, name.get(1..).unwrap_or_default())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_that_hold() {
        let of = |lines: &[&str], database| {
            let granted = granted(lines.iter().copied(), database);
            let names: Vec<String> = granted.names.into_iter().collect();
            (names.join(","), granted.has_roles || granted.has_revokes)
        };
        let root = ["GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost` WITH GRANT OPTION"];
        let all = of(&root, "shop").0;
        assert!(all.contains("TRIGGER") && all.contains("EXECUTE"), "{all}");
        let some = [
            "GRANT USAGE ON *.* TO `u`@`%` IDENTIFIED BY PASSWORD '*B6'",
            "GRANT SELECT, SHOW VIEW ON `sh\\_p%`.* TO `u`@`%`",
            "GRANT SELECT ON `other`.`t` TO `u`@`%`",
            "GRANT TRIGGER ON `s__`.* TO `u`@`%`",
        ];
        assert_eq!(of(&some, "sh_p").0, "SELECT,SHOW VIEW,USAGE");
        assert_eq!(of(&some, "sh_p2").0, "SELECT,SHOW VIEW,USAGE");
        assert_eq!(of(&some, "shop").0, "USAGE");
        assert_eq!(of(&some, "sxy").0, "TRIGGER,USAGE");
        assert_eq!(of(&some, "other").0, "USAGE");
        assert!(of(&["GRANT `r` TO `u`@`%`"], "x").1);
        let two = [
            "GRANT TRIGGER ON `sh%`.* TO `u`@`%`",
            "GRANT SELECT ON `shop`.* TO `u`@`%`",
            "GRANT EVENT ON `s%`.* TO PUBLIC",
        ];
        assert_eq!(
            of(&two, "shop").0,
            "EVENT,SELECT",
            "only the most exact of a user's"
        );
        assert_eq!(of(&two, "shed").0, "EVENT,TRIGGER");
        let even = [
            "GRANT TRIGGER, SELECT ON `s%p`.* TO `u`@`%`",
            "GRANT EVENT, SELECT ON `s%`.* TO `u`@`%`",
        ];
        assert_eq!(of(&even, "shop").0, "SELECT");
        assert!(of(&["REVOKE SELECT ON `shop`.* FROM `u`@`%`"], "shop").1);
        assert!(!of(&["REVOKE SELECT ON `mysql`.* FROM `u`@`%`"], "shop").1);
        let procs = ["GRANT SELECT ON `mysql`.`proc` TO `u`@`%`"];
        assert_eq!(of(&procs, "shop").0, ALL_PROCS);
    }
}

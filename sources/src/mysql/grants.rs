//! What the user may see. What a user may not see the server does not list, and a dump lacks it
//! without a word; so privileges are looked at before.

use super::access::Access;
use crate::database::error::{Cause, DatabaseError};

/// Privileges on a database, by which everything in it is seen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Granted {
    names: Vec<String>,
    /// Roles, of which nothing is known.
    has_roles: bool,
}

/// What must be granted on the whole database, and what would be missing else.
const NEEDED: [(&str, &str); 4] = [
    ("SELECT", "tables"),
    ("SHOW VIEW", "views"),
    ("TRIGGER", "triggers"),
    ("EVENT", "events"),
];

/// Fails when the user may not see all of a database. Answers a warning when that is unknown.
pub(super) fn check(
    access: &Access<'_>,
    database: &str,
    whole: bool,
) -> Result<Option<String>, DatabaseError> {
    let rows = access.ask(None, "SHOW GRANTS")?;
    let lines = rows.iter().filter_map(|row| row.first());
    let granted = granted(lines.map(String::as_str), database);
    let lacks = |(name, _): &&(&str, &str)| !granted.names.iter().any(|g| g == name);
    // Single tables may be granted each by itself, and are then asked for by name.
    let needed = NEEDED.iter().filter(|_| whole);
    let lacking: Vec<&(&str, &str)> = needed.filter(lacks).collect();
    if lacking.is_empty() {
        return Ok(None);
    }
    let join = |part: fn(&(&'static str, &'static str)) -> &'static str| {
        let parts: Vec<&str> = lacking.iter().map(|one| part(one)).collect();
        parts.join(", ")
    };
    let (names, things) = (join(|one| one.0), join(|one| one.1));
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

fn granted<'a>(lines: impl Iterator<Item = &'a str>, database: &str) -> Granted {
    let mut granted = Granted::default();
    for line in lines {
        let Some(rest) = line.strip_prefix("GRANT ") else {
            continue;
        };
        let Some((names, rest)) = rest.split_once(" ON ") else {
            granted.has_roles = true;
            continue;
        };
        let Some((place, _)) = rest.split_once(" TO ") else {
            continue;
        };
        let pattern = place
            .strip_suffix(".*")
            .map(|p| p.trim_matches('`').replace("``", "`"));
        let holds = pattern.is_some_and(|p| p == "*" || is_like(p.as_bytes(), database.as_bytes()));
        if !holds {
            continue;
        }
        for name in names.split(", ") {
            if name == "ALL PRIVILEGES" {
                let all = NEEDED.iter().map(|(name, _)| (*name).to_owned());
                granted.names.extend(all);
            }
            granted.names.push(name.to_owned());
        }
    }
    granted
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
            (granted.names.join(","), granted.has_roles)
        };
        let all = "ALL PRIVILEGES";
        let root = ["GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost` WITH GRANT OPTION"];
        assert!(of(&root, "shop").0.ends_with(all));
        let some = [
            "GRANT USAGE ON *.* TO `u`@`%` IDENTIFIED BY PASSWORD '*B6'",
            "GRANT SELECT, SHOW VIEW ON `sh\\_p%`.* TO `u`@`%`",
            "GRANT SELECT ON `other`.`t` TO `u`@`%`",
            "GRANT TRIGGER ON `s__`.* TO `u`@`%`",
        ];
        assert_eq!(of(&some, "sh_p").0, "USAGE,SELECT,SHOW VIEW");
        assert_eq!(of(&some, "sh_p2").0, "USAGE,SELECT,SHOW VIEW");
        assert_eq!(of(&some, "shop").0, "USAGE");
        assert_eq!(of(&some, "sxy").0, "USAGE,TRIGGER");
        assert_eq!(of(&some, "other").0, "USAGE");
        assert!(of(&["GRANT `r` TO `u`@`%`"], "x").1);
    }
}

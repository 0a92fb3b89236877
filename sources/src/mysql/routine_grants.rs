//! Grants on single procedures and functions. The server takes them away with what they are of, so
//! a swap reads them before and grants them again.

use super::access::{Access, literal, quoted};
use super::dump::listed;
use super::inventory::Inventory;

/// A grant on a routine, as it can be granted again.
#[derive(Debug, Clone, PartialEq, Eq)]
struct RoutineGrant {
    name: String,
    kind: String,
    /// What is granted, and to whom: `EXECUTE`, `` `ana`@`%` ``, ` WITH GRANT OPTION`.
    privileges: String,
    grantee: String,
    option: &'static str,
}

/// Grants on the routines of a database.
#[derive(Debug, Default)]
pub(super) struct RoutineGrants {
    all: Vec<RoutineGrant>,
    /// They could not be read.
    unread: Option<String>,
}

impl RoutineGrants {
    /// Reads them, if this user may.
    pub fn read(access: &Access<'_>, database: &str, had: &Inventory) -> RoutineGrants {
        let mut grants = RoutineGrants::default();
        if had.routines.is_empty() {
            return grants;
        }
        let sql = format!(
            "SELECT user, host, routine_name, routine_type, proc_priv FROM mysql.procs_priv \
             WHERE db = {}",
            literal(database)
        );
        match access.ask(None, &sql) {
            Ok(rows) => grants.all = rows.iter().filter_map(|row| granted(row)).collect(),
            Err(_) => {
                let names: Vec<&str> = had.routines.iter().map(|(name, _)| name.as_str()).collect();
                grants.unread = Some(format!(
                    "grants on single procedures and functions of {database} could not be read, \
                     and are gone if there were any: look at {}. Give this user SELECT on \
                     mysql.procs_priv next time",
                    listed(&names)
                ));
            }
        }
        grants
    }

    /// Grants them on the routines that are there now. Answers warnings.
    pub fn grant(&self, access: &Access<'_>, database: &str, there: &Inventory) -> Vec<String> {
        let mut warnings: Vec<String> = self.unread.iter().cloned().collect();
        let is_there = |grant: &RoutineGrant| {
            let is_it = |(name, kind): &(String, String)| {
                *kind == grant.kind && name.to_lowercase() == grant.name.to_lowercase()
            };
            there.routines.iter().any(is_it)
        };
        for grant in &self.all {
            let sql = grant.sql(database);
            if !is_there(grant) {
                warnings.push(format!(
                    "{} had {} on {} {}, which the restored database does not have",
                    grant.grantee, grant.privileges, grant.kind, grant.name
                ));
            } else if let Err(error) = access.ask(None, &sql) {
                let why = error.in_one();
                warnings.push(format!("a grant was lost, grant it again: {sql}; ({why})"));
            }
        }
        warnings
    }
}

impl RoutineGrant {
    fn sql(&self, database: &str) -> String {
        format!(
            "GRANT {} ON {} {}.{} TO {}{}",
            self.privileges,
            self.kind,
            quoted(database),
            quoted(&self.name),
            self.grantee,
            self.option
        )
    }
}

fn granted(row: &[String]) -> Option<RoutineGrant> {
    let [user, host, name, kind, privileges] = row else {
        return None;
    };
    // Of MariaDB's roles, and of all users, there is no host.
    let grantee = match (user.as_str(), host.as_str()) {
        ("PUBLIC", "") => user.clone(),
        (_, "") => quoted(user),
        _ => format!("{}@{}", quoted(user), quoted(host)),
    };
    let all = privileges.split(',').filter(|one| !one.is_empty());
    let (option, names): (Vec<&str>, Vec<&str>) = all.partition(|one| *one == "Grant");
    Some(RoutineGrant {
        name: name.clone(),
        kind: kind.clone(),
        privileges: match names.is_empty() {
            true => "USAGE".to_owned(),
            false => names.join(", ").to_uppercase(),
        },
        grantee,
        option: match option.is_empty() {
            true => "",
            false => " WITH GRANT OPTION",
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_as_statements() {
        let sql = |row: [&str; 5]| {
            let row = row.map(str::to_owned);
            granted(&row).unwrap().sql("d")
        };
        assert_eq!(
            sql(["ana", "%", "p", "PROCEDURE", "Execute,Alter Routine,Grant"]),
            "GRANT EXECUTE, ALTER ROUTINE ON PROCEDURE `d`.`p` TO `ana`@`%` WITH GRANT OPTION"
        );
        assert_eq!(
            sql(["r", "", "f", "FUNCTION", "Execute"]),
            "GRANT EXECUTE ON FUNCTION `d`.`f` TO `r`"
        );
        assert_eq!(
            sql(["PUBLIC", "", "f", "FUNCTION", "Grant"]),
            "GRANT USAGE ON FUNCTION `d`.`f` TO PUBLIC WITH GRANT OPTION"
        );
    }
}

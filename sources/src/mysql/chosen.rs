//! What of a database is captured: what was asked for, without views that could not be made again
//! because they use something that was not.

use std::collections::BTreeSet;

use super::Mysql;
use super::access::{Access, is_database, quoted};
use super::inventory::Inventory;
use crate::database::Part;
use crate::database::error::{Cause, DatabaseError};

/// Tables, views and sequences that are captured.
#[derive(Debug, Clone, Default)]
pub(super) struct Chosen {
    names: BTreeSet<String>,
    /// A warning about each view that is left out.
    pub left_out: Vec<String>,
}

impl Chosen {
    /// Looks at what views use, if something is not asked for.
    pub fn of(from: &Mysql, access: &Access<'_>, had: &Inventory) -> Result<Chosen, DatabaseError> {
        // Without a `*` it is a name, which must be there.
        let absent = |name: &&String| !name.contains('*') && !had.things.contains_key(*name);
        if let Some(name) = from.tables.iter().find(absent) {
            let what = format!("{} has no table {name}", from.database);
            return Err(DatabaseError::new(Cause::Absent, what)
                .hint("is its name right, and may the user see it? It stands in tables"));
        }
        let names = had.things.keys().filter(|name| from.wants(name));
        let mut chosen = Chosen {
            names: names.cloned().collect(),
            left_out: Vec::new(),
        };
        if chosen.names.len() < had.things.len() && from.part != Part::Data {
            chosen.leave_out(from, access, had)?;
        }
        if !chosen.names.is_empty() || had.things.is_empty() {
            return Ok(chosen);
        }
        let what = match chosen.left_out.first() {
            Some(why) => format!("nothing of {} can be captured: {why}", from.database),
            None => format!("{} has no table that is asked for", from.database),
        };
        Err(DatabaseError::new(Cause::Absent, what).hint("see tables, exclude_tables"))
    }

    /// Whether a table, view or sequence is captured.
    pub fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    fn leave_out(
        &mut self,
        from: &Mysql,
        access: &Access<'_>,
        had: &Inventory,
    ) -> Result<(), DatabaseError> {
        let sql = format!(
            "SELECT table_name, view_definition FROM information_schema.views WHERE {}",
            is_database("table_schema", &from.database)
        );
        let views = access.ask(None, &sql)?;
        let views: Vec<(&str, String)> = views
            .iter()
            .filter_map(|row| Some((row.first()?.as_str(), without_strings(row.get(1)?))))
            .collect();
        let mut absent: Vec<&str> = had.things.keys().map(String::as_str).collect();
        absent.retain(|name| !self.has(name));
        // Who uses what is left out is left out as well.
        while let Some(name) = absent.pop() {
            let used = format!("{}.{}", quoted(&from.database), quoted(name));
            for (view, definition) in &views {
                if self.has(view) && names(definition, &used) {
                    self.names.remove(*view);
                    self.left_out.push(format!(
                        "view {view} was left out: it uses {name}, which is not captured"
                    ));
                    absent.push(view);
                }
            }
        }
        Ok(())
    }
}

/// Whether a definition has a quoted name in it, which may not go on behind its end.
fn names(definition: &str, name: &str) -> bool {
    let mut found = definition.match_indices(name);
    found.any(|(at, _)| {
        let rest = definition.get(at + name.len()..).unwrap_or_default();
        let before = definition.get(..at).unwrap_or_default();
        !rest.starts_with('`') && !before.ends_with('`')
    })
}

/// A definition without what is in its strings.
fn without_strings(definition: &str) -> String {
    let mut plain = String::with_capacity(definition.len());
    let (mut quote, mut is_escaped) = (None, false);
    for letter in definition.chars() {
        match quote {
            None if matches!(letter, '\'' | '"' | '`') => quote = Some(letter),
            Some(_) if is_escaped => is_escaped = false,
            Some(open) if letter == '\\' && open != '`' => is_escaped = true,
            Some(open) if letter == open => quote = None,
            _ => {}
        }
        if quote.is_none_or(|open| open == '`') {
            plain.push(letter);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_definitions() {
        let text = "select `d`.`a`.`x` AS `a``b`,'`d`.`s` \\'`d`.`s`' from `d`.`a` join `dd`.`z`";
        let plain = without_strings(text);
        assert!(names(&plain, "`d`.`a`") && names(&plain, "`dd`.`z`"));
        for other in ["`d`.`s`", "`d`.`z`", "`d`.`x`"] {
            assert!(!names(&plain, other), "{other} {plain}");
        }
    }
}

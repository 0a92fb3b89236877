//! What a database consists of, as `information_schema` tells it: what a dump must hold, and what
//! a swap must move.

use std::collections::{BTreeMap, BTreeSet};

use super::access::{Access, is_database, quoted};
use super::sections::Others;
use crate::database::error::{Cause, DatabaseError};

/// A table, view or sequence.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Thing {
    /// `BASE TABLE`, `VIEW`, `SEQUENCE`, `SYSTEM VERSIONED`.
    pub kind: String,
    pub engine: String,
    /// Changes when it is altered: when it was made, its columns.
    pub print: String,
}

impl Thing {
    pub fn is_view(&self) -> bool {
        self.kind.ends_with("VIEW")
    }

    pub fn is_sequence(&self) -> bool {
        self.kind == "SEQUENCE"
    }

    /// Neither view nor sequence.
    pub fn is_table(&self) -> bool {
        !self.is_view() && !self.is_sequence()
    }

    /// It keeps rows that were changed or deleted.
    pub fn is_versioned(&self) -> bool {
        self.kind == "SYSTEM VERSIONED"
    }

    /// Its rows are its own, and dumped.
    pub fn has_rows(&self) -> bool {
        let elsewhere = [
            "MRG_MYISAM",
            "CONNECT",
            "OQGRAPH",
            "SPIDER",
            "VP",
            "FEDERATED",
        ];
        let engine = self.engine.to_ascii_uppercase();
        self.is_table() && !elsewhere.contains(&engine.as_str())
    }
}

/// An event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Event {
    /// `ENABLED`, `DISABLED`, `SLAVESIDE_DISABLED`.
    pub status: String,
    pub definer: String,
}

impl Event {
    /// Begins a statement that alters it and leaves it its definer.
    pub fn alter(&self, database: &str, name: &str) -> String {
        let (user, host) = self
            .definer
            .rsplit_once('@')
            .unwrap_or((&self.definer, "%"));
        let names = [user, host, database, name].map(quoted);
        let [user, host, database, name] = names;
        format!("ALTER DEFINER = {user}@{host} EVENT {database}.{name}")
    }

    /// It runs.
    pub fn is_on(&self) -> bool {
        self.status == "ENABLED"
    }

    /// It runs on another server, or was restored beside a live database.
    pub fn is_on_elsewhere(&self) -> bool {
        self.status.ends_with("SIDE_DISABLED")
    }
}

/// What a database consists of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Inventory {
    pub character_set: String,
    pub collation: String,
    /// 0: names of tables are told apart by case.
    pub lower_case: String,
    pub things: BTreeMap<String, Thing>,
    /// Names of triggers, with their tables.
    pub triggers: BTreeMap<String, String>,
    pub events: BTreeMap<String, Event>,
    /// Names of routines, with their kinds (`PROCEDURE`).
    pub routines: Vec<(String, String)>,
    /// Tables and views that have columns of type `FLOAT`.
    pub floats: BTreeSet<String>,
    /// Tables whose history goes by transactions instead of times.
    pub by_transaction: BTreeSet<String>,
}

/// Whether there is a database of that name.
pub(super) fn exists(access: &Access<'_>, database: &str) -> Result<bool, DatabaseError> {
    let sql = format!(
        "SELECT COUNT(*) FROM information_schema.schemata WHERE {}",
        is_database("schema_name", database)
    );
    let found = access.ask(None, &sql)?;
    Ok(found
        .first()
        .and_then(|row| row.first())
        .is_some_and(|n| n != "0"))
}

/// What is asked about a database.
fn questions(database: &str) -> String {
    let is = |column: &str| is_database(column, database);
    // MySQL has names in capitals, so columns are named as little as can be.
    format!(
        "SELECT 'schema', default_character_set_name, default_collation_name, \
         @@lower_case_table_names FROM information_schema.schemata WHERE {};\n\
         SELECT 'thing', table_name, table_type, IFNULL(engine, ''), IFNULL(create_time, '') \
         FROM information_schema.tables WHERE {};\n\
         SELECT 'column', table_name, column_name, ordinal_position, column_type, is_nullable, \
         IFNULL(column_default, ''), extra, IFNULL(generation_expression, '') \
         FROM information_schema.columns WHERE {} ORDER BY table_name, ordinal_position;\n\
         SELECT 'trigger', trigger_name, event_object_table FROM information_schema.triggers \
         WHERE {};\n\
         SELECT 'event', event_name, status, definer FROM information_schema.events \
         WHERE {};\n\
         SELECT 'routine', routine_name, routine_type FROM information_schema.routines \
         WHERE {} ORDER BY routine_type, routine_name;\n",
        is("schema_name"),
        is("table_schema"),
        is("table_schema"),
        is("trigger_schema"),
        is("event_schema"),
        is("routine_schema"),
    )
}

/// Looks at a database.
pub(super) fn take(access: &Access<'_>, database: &str) -> Result<Inventory, DatabaseError> {
    let mut found = Inventory::default();
    let mut prints: BTreeMap<String, blake3::Hasher> = BTreeMap::new();
    for row in access.ask(None, &questions(database))? {
        let field = |n: usize| row.get(n).cloned().unwrap_or_default();
        match row.first().map(String::as_str) {
            Some("schema") => {
                (found.character_set, found.collation) = (field(1), field(2));
                found.lower_case = field(3);
            }
            Some("thing") => {
                let thing = Thing {
                    kind: field(2),
                    engine: field(3),
                    print: field(4),
                };
                found.things.insert(field(1), thing);
            }
            Some("column") => {
                let hasher = prints.entry(field(1)).or_default();
                hasher.update(row.join("\t").as_bytes());
                if field(4).starts_with("float") {
                    found.floats.insert(field(1));
                }
                if field(4).starts_with("bigint") && field(8) == "ROW START" {
                    found.by_transaction.insert(field(1));
                }
            }
            Some("trigger") => drop(found.triggers.insert(field(1), field(2))),
            Some("event") => {
                let event = Event {
                    status: field(2),
                    definer: field(3),
                };
                found.events.insert(field(1), event);
            }
            Some("routine") => found.routines.push((field(1), field(2))),
            _ => {}
        }
    }
    if found.character_set.is_empty() {
        let what = format!("there is no database {database} on the server");
        return Err(DatabaseError::new(Cause::Absent, what)
            .hint("is the name right, and may this user see it?"));
    }
    for (table, hasher) in prints {
        if let Some(thing) = found.things.get_mut(&table) {
            thing.print.push_str(&hasher.finalize().to_hex());
        }
    }
    Ok(found)
}

impl Inventory {
    /// How much there is of what has no rows, as far as it belongs to what is chosen.
    pub fn others(&self, is_chosen: impl Fn(&str) -> bool) -> Others {
        let sequences = self.things.iter().filter(|(_, thing)| thing.is_sequence());
        let triggers = self.triggers.values();
        Others {
            sequences: sequences.filter(|(name, _)| is_chosen(name)).count() as u64,
            triggers: triggers.filter(|table| is_chosen(table)).count() as u64,
            events: self.events.len() as u64,
            routines: self.routines.len() as u64,
        }
    }

    /// Tables that no transaction covers.
    pub fn loose_tables(&self) -> Vec<&str> {
        let loose = |thing: &Thing| {
            let engines = ["InnoDB", "RocksDB", "ROCKSDB", "TokuDB"];
            thing.is_table() && !engines.contains(&thing.engine.as_str())
        };
        let all = self.things.iter().filter(|(_, thing)| loose(thing));
        all.map(|(name, _)| name.as_str()).collect()
    }

    /// Names of what was altered, made or dropped between two looks.
    pub fn changed(&self, later: &Inventory) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for (name, thing) in &self.things {
            if later.things.get(name) != Some(thing) {
                names.push(name.clone());
            }
        }
        let made = later
            .things
            .keys()
            .filter(|name| !self.things.contains_key(*name));
        names.extend(made.cloned());
        if (&self.triggers, &self.routines) != (&later.triggers, &later.routines) {
            names.push("triggers or routines".to_owned());
        }
        names
    }
}

//! A capture: the vendor's dump client, its output counted and proven while it streams by.

use std::process::Command;
use std::sync::{Arc, Mutex};

use hucha_store::member::StreamFacts;
use hucha_store::source::Profile;

use super::access::{Access, ONE_DATABASE, name_of};
use super::chosen::Chosen;
use super::filter::Unboxed;
use super::inventory::{self, Inventory};
use super::scan::Scanner;
use super::sections::{Others, Tally};
use super::told::{Doing, told};
use super::tools::{self, Product, Tool};
use super::{Mysql, Order, grants};
use crate::child::{Child, lock};
use crate::database::error::{Cause, DatabaseError};
use crate::database::{Bytes, Capture, Captured, Context, Part, Preflight, Stream, hand_out};

/// Names that a message lists.
const NAMES: usize = 5;

/// Options of every dump. The comments stay: the last of them is the proof.
const OPTIONS: [&str; 8] = [
    "--single-transaction",
    "--quick",
    "--hex-blob",
    "--skip-dump-date",
    "--comments",
    "--quote-names",
    "--extended-insert",
    "--add-locks",
];

pub(super) fn preflight(from: &Mysql, context: &Context) -> Result<Preflight, DatabaseError> {
    let access = from.access(context)?;
    let tool = tools::dump(access.server, &from.tool_dir, context)?;
    inventory::take(&access, &from.database)?;
    grants::check(&access, from)?;
    Ok(Preflight {
        server: format!("{} {}", access.server.product.name(), access.server),
        tool: tool.shown(),
    })
}

impl Mysql {
    /// Whether all tables are asked for, so that none may be out of sight.
    pub(super) fn is_whole(&self) -> bool {
        self.tables.is_empty()
    }

    /// Whether events and routines are dumped.
    pub(super) fn has_others(&self) -> bool {
        self.is_whole() && self.part != Part::Data
    }

    /// All but the name of the database.
    fn dump_command(
        &self,
        access: &Access<'_>,
        tool: &Tool,
        before: &Inventory,
        chosen: &Chosen,
    ) -> Command {
        let mut command = access.command(&tool.path);
        command.args(OPTIONS).args(ONE_DATABASE);
        match self.part {
            Part::All => {}
            Part::Schema => drop(command.arg("--no-data")),
            Part::Data => drop(command.args(["--no-create-info", "--skip-triggers"])),
        }
        if self.part != Part::Data {
            command.arg("--triggers");
        }
        if self.has_others() {
            command.args(["--routines", "--events"]);
        }
        if self.order == Order::Key {
            command.arg("--order-by-primary");
        }
        if tool.version.product == Product::MySql {
            command.args(["--set-gtid-purged=OFF", "--no-tablespaces"]);
            if tool.version.numbers >= [8, 0, 0] {
                command.arg("--column-statistics=0");
            }
        }
        for name in before.things.keys().filter(|name| !chosen.has(name)) {
            command.arg(format!("--ignore-table={}.{name}", self.database));
        }
        command
    }

    /// Tables that are chosen, keep their history, and whose rows are dumped.
    fn versioned<'b>(&self, before: &'b Inventory, chosen: &Chosen) -> Vec<&'b str> {
        let all = before.things.iter().filter(|(name, thing)| {
            self.part != Part::Schema && thing.is_versioned() && chosen.has(name)
        });
        all.map(|(name, _)| name.as_str()).collect()
    }

    /// Whether the client dumps histories.
    fn with_history(
        &self,
        access: &Access<'_>,
        tool: &Tool,
        before: &Inventory,
        chosen: &Chosen,
    ) -> bool {
        let versioned = self.versioned(before, chosen);
        // With a history that goes by transactions the client would give up.
        !versioned.is_empty()
            && !versioned
                .iter()
                .any(|name| before.by_transaction.contains(*name))
            && tools::about(&tool.path, "--help", access.context)
                .is_ok_and(|help| help.contains("--dump-history"))
    }

    /// What a dump does not keep.
    fn losses(&self, before: &Inventory, chosen: &Chosen, with_history: bool) -> Vec<String> {
        let mut warnings = Vec::new();
        let versioned = self.versioned(before, chosen);
        if !with_history && !versioned.is_empty() {
            warnings.push(format!(
                "the history of {} is not in the dump, only rows that count now: the client \
                 cannot dump it",
                listed(&versioned)
            ));
        }
        let floats = before.floats.iter().map(String::as_str).filter(|name| {
            let is_table = before
                .things
                .get(*name)
                .is_some_and(|thing| thing.has_rows());
            is_table && chosen.has(name)
        });
        let floats: Vec<&str> = floats.collect();
        if self.part != Part::Schema && !floats.is_empty() {
            warnings.push(format!(
                "columns of type FLOAT have only six digits in a dump, and may lose the last \
                 ones: {}; DOUBLE and DECIMAL do not",
                listed(&floats)
            ));
        }
        warnings
    }
}

/// Starts the client, and waits until it has read something: by then its transaction has begun.
pub(super) fn capture<'a>(
    from: &'a Mysql,
    context: &'a Context,
) -> Result<Capture<'a>, DatabaseError> {
    let access = from.access(context)?;
    let tool = tools::dump(access.server, &from.tool_dir, context)?;
    let before = inventory::take(&access, &from.database)?;
    let unknown = grants::check(&access, from)?;
    let chosen = Chosen::of(from, &access, &before)?;
    let with_history = from.with_history(&access, &tool, &before, &chosen);
    let mut warnings: Vec<String> = unknown.into_iter().collect();
    warnings.extend(chosen.left_out.clone());
    warnings.extend(from.losses(&before, &chosen, with_history));
    let mut command = from.dump_command(&access, &tool, &before, &chosen);
    if with_history {
        command.arg("--dump-history");
    }
    command.arg("--").arg(&from.database);
    let name = name_of(&command);
    let child = Child::start(context.spec(&name, command))?;
    let ended = Arc::new(Mutex::new(None));
    let mut dumping = Dumping {
        from,
        child,
        unboxed: Unboxed::default(),
        scanner: Scanner::new(),
        tally: Tally::default(),
        before: before.clone(),
        chosen: chosen.clone(),
        ready: Vec::new(),
        taken: 0,
        buffer: vec![0; 1 << 16],
        is_over: false,
        ended: Arc::clone(&ended),
    };
    // A pipe gets nothing before the client's own buffer is full, which its first lines do not
    // do: what follows them is read in the transaction.
    dumping.fetch()?;
    Ok(Capture {
        streams: vec![Stream {
            name: String::new(),
            profile: Profile::DUMP,
            open: Box::new(move || Ok(Box::new(dumping))),
        }],
        at_once: 1,
        end: Box::new(move || {
            let said = lock(&ended).take().unwrap_or_default();
            warnings.extend(said);
            let after = inventory::take(&access, &from.database)?;
            warnings.extend(from.compare(&before, &after, &chosen)?);
            Ok(Captured {
                form: "plain".to_owned(),
                warnings,
                properties: from.properties(&before),
            })
        }),
    })
}

impl Mysql {
    fn properties(&self, before: &Inventory) -> Vec<(String, String)> {
        let mut properties = vec![
            ("character_set".to_owned(), before.character_set.clone()),
            ("collation".to_owned(), before.collation.clone()),
            ("database".to_owned(), self.database.clone()),
            (
                "lower_case_table_names".to_owned(),
                before.lower_case.clone(),
            ),
        ];
        let part = match self.part {
            Part::All => return properties,
            Part::Schema => "schema",
            Part::Data => "data",
        };
        properties.push(("part".to_owned(), part.to_owned()));
        properties
    }

    /// What changed while the dump was made.
    fn compare(
        &self,
        before: &Inventory,
        after: &Inventory,
        chosen: &Chosen,
    ) -> Result<Vec<String>, DatabaseError> {
        let mut warnings = Vec::new();
        let loose = before.loose_tables();
        let loose: Vec<&str> = loose.into_iter().filter(|name| chosen.has(name)).collect();
        if !loose.is_empty() && self.part != Part::Schema {
            warnings.push(format!(
                "no transaction covers {}: rows that were written meanwhile may be in it or not",
                listed(&loose)
            ));
        }
        for (name, thing) in before.things.iter().filter(|(name, _)| chosen.has(name)) {
            let engine = after.things.get(name).map(|thing| &thing.engine);
            if thing.is_table() && engine.is_some_and(|engine| *engine != thing.engine) {
                let what = format!(
                    "table {name} was made anew while {} was dumped",
                    self.database
                );
                return Err(DatabaseError::new(Cause::Incomplete, what)
                    .hint("nothing was stored; run it again"));
            }
        }
        let changed = before.changed(after);
        let changed: Vec<&str> = changed.iter().map(String::as_str).collect();
        if !changed.is_empty() {
            warnings.push(format!(
                "definitions changed while the dump was made: {}",
                listed(&changed)
            ));
        }
        Ok(warnings)
    }
}

/// Some names of many.
pub(super) fn listed(names: &[&str]) -> String {
    let mut text = names
        .iter()
        .take(NAMES)
        .copied()
        .collect::<Vec<_>>()
        .join(", ");
    if names.len() > NAMES {
        text.push_str(&format!(" and {} more", names.len() - NAMES));
    }
    text
}

/// A dump on its way.
struct Dumping<'a> {
    from: &'a Mysql,
    child: Child,
    unboxed: Unboxed,
    scanner: Scanner,
    tally: Tally,
    before: Inventory,
    chosen: Chosen,
    /// Bytes that were read, to be handed on.
    ready: Vec<u8>,
    /// How many of them were.
    taken: usize,
    buffer: Vec<u8>,
    is_over: bool,
    /// What the client said although all went well.
    ended: Arc<Mutex<Option<Vec<String>>>>,
}

impl Dumping<'_> {
    /// Reads until there is something, or the end, which is proven.
    fn fetch(&mut self) -> Result<(), DatabaseError> {
        while self.taken == self.ready.len() && !self.is_over {
            self.ready.clear();
            self.taken = 0;
            let read = self.child.read(&mut self.buffer);
            let n = read.map_err(|e| told(e, Doing::Dumping, &self.from.database))?;
            match n {
                0 => self.unboxed.finish(&mut self.ready),
                _ => {
                    let bytes = self.buffer.get(..n).unwrap_or_default();
                    self.unboxed.feed(bytes, &mut self.ready);
                }
            }
            self.scanner.feed(&self.ready, &mut self.tally);
            if n == 0 {
                self.scanner.finish(&mut self.tally);
                self.is_over = true;
            }
            if let Some(what) = &self.tally.away {
                let name = &self.from.database;
                let what = format!("the dump of {name} has {what} in it, and is not of it alone");
                return Err(DatabaseError::new(Cause::Tool, what)
                    .hint("a dump must be of one database; look at the dump client"));
            }
            if self.is_over {
                self.prove()?;
            }
        }
        Ok(())
    }

    /// The client ended well. Whether all is there.
    fn prove(&mut self) -> Result<(), DatabaseError> {
        let name = &self.from.database;
        let incomplete = |what: String| DatabaseError::new(Cause::Incomplete, what);
        if !self.tally.completed {
            let what = format!(
                "the dump of {name} does not end with \"-- Dump completed\", so it is not whole"
            );
            return Err(incomplete(what));
        }
        let missing = |(table, thing): &(&String, &inventory::Thing)| {
            let rows = self.tally.rows.contains_key(*table);
            let made = self.tally.tables.contains(*table);
            self.chosen.has(table)
                && match (thing.is_view(), self.from.part) {
                    (true, Part::Data) => false,
                    (true, _) => !self.tally.views.contains(*table),
                    (false, _) if thing.is_sequence() => false,
                    (false, Part::Schema) => !made,
                    (false, Part::Data) => !rows && thing.has_rows(),
                    (false, Part::All) => !made || (!rows && thing.has_rows()),
                }
        };
        let missing = self.before.things.iter().filter(missing);
        let missing: Vec<&str> = missing.map(|(table, _)| table.as_str()).collect();
        if !missing.is_empty() {
            let what = format!("{} of {name} is missing from the dump", listed(&missing));
            return Err(incomplete(what)
                .hint("it was dropped or renamed meanwhile, or the user may not read it"));
        }
        self.prove_others()?;
        let words = self.child.words();
        let words = words.into_iter().filter(|word| !word.is_empty());
        *lock(&self.ended) = Some(words.collect());
        Ok(())
    }

    fn prove_others(&self) -> Result<(), DatabaseError> {
        let mut had = self.before.others(|name| self.chosen.has(name));
        let has = self.tally.others;
        if self.from.part == Part::Data {
            had = Others::default();
        } else if !self.from.has_others() {
            (had.events, had.routines) = (0, 0);
        }
        let pairs = |others: Others| {
            [
                ("sequences", others.sequences),
                ("triggers", others.triggers),
                ("events", others.events),
                ("routines", others.routines),
            ]
        };
        for ((what, had), (_, has)) in pairs(had).into_iter().zip(pairs(has)) {
            if has < had {
                let name = &self.from.database;
                let what = format!("{name} had {had} {what}, and the dump has {has}");
                return Err(DatabaseError::new(Cause::Incomplete, what)
                    .hint("they were dropped meanwhile, or the user may not see them"));
            }
        }
        Ok(())
    }
}

impl Bytes for Dumping<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, DatabaseError> {
        self.fetch()?;
        Ok(hand_out(&self.ready, &mut self.taken, buffer))
    }

    fn facts(&mut self) -> StreamFacts {
        let rows = self.tally.rows.iter();
        let order = match self.from.order {
            Order::Key => "key",
            Order::Storage => "storage",
        };
        StreamFacts {
            rows: rows.map(|(table, rows)| (table.clone(), *rows)).collect(),
            properties: vec![("order".to_owned(), order.to_owned())],
            ..StreamFacts::default()
        }
    }
}

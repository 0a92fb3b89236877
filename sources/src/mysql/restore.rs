//! A stored dump as a new database: made, fed through the vendor's client, counted; and dropped
//! again when anything fails.

use std::io::Write;
use std::process::Command;

use super::access::{Access, is_database, name_of, quoted};
use super::filter::{Events, Filter};
use super::inventory::{self, Inventory};
use super::told::{Doing, told};
use super::{Mysql, free, verify};
use crate::child::{Child, Stopper};
use crate::database::error::{Cause, DatabaseError};
use crate::database::{Context, Part, RestoreOptions, Restored, Stored, Verified};

/// Fails when a member is none of ours.
pub(super) fn check_kind(stored: &dyn Stored) -> Result<(), DatabaseError> {
    let member = stored.member();
    if member.kind == "mysql" {
        return Ok(());
    }
    let what = format!(
        "\"{}\" is a {} database, which cannot become one of MySQL or MariaDB",
        member.name, member.kind
    );
    Err(DatabaseError::setting(what))
}

/// Tables whose rows are to be there, with how many.
pub(super) fn expected(
    stored: &dyn Stored,
    options: &RestoreOptions,
) -> Result<Vec<(String, u64)>, DatabaseError> {
    let all = stored.streams().iter().flat_map(|s| s.facts.rows.clone());
    let all: Vec<(String, u64)> = all.collect();
    let is_asked = |table: &str| {
        options.tables.is_empty() || options.tables.iter().any(|asked| asked == table)
    };
    let chosen: Vec<_> = all
        .iter()
        .filter(|(table, _)| is_asked(table))
        .cloned()
        .collect();
    if options.part == Part::Data && chosen.is_empty() {
        let what = match options.tables.first() {
            Some(table) => format!("no rows of a table {table:?} are stored"),
            None => "no rows are stored".to_owned(),
        };
        let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).take(20).collect();
        return Err(DatabaseError::new(Cause::Absent, what)
            .hint(format!("rows are stored of: {}", names.join(", "))));
    }
    Ok(chosen)
}

/// Makes a database of what is stored.
pub(super) fn restore(
    to: &Mysql,
    stored: &dyn Stored,
    options: &RestoreOptions,
    context: &Context,
) -> Result<Restored, DatabaseError> {
    check_kind(stored)?;
    if stored.member().property("part") == Some("data") {
        let what = format!("only rows of \"{}\" are stored", stored.member().name);
        return Err(
            DatabaseError::setting(what).hint("restore them into tables that are there: data only")
        );
    }
    let expected = expected(stored, options)?;
    let access = to.access(context)?;
    let is_beside = inventory::exists(&access, &to.database)?;
    let name = match is_beside {
        false => to.database.clone(),
        true => free(
            &access,
            &to.database,
            &format!("_restored_{}", context.stamp),
        )?,
    };
    let made = Made::new(to, &name, stored, &access)?;
    let mut warnings = Vec::new();
    let resting = match is_beside {
        true => Events::Resting,
        false => Events::AsStored,
    };
    let events = feed(stored, options, &access, &name, Around::default(), resting)?;
    let there = inventory::take(&access, &name)?;
    let verified = match options.part {
        Part::Schema => Verified::default(),
        _ => verify::compare(&access, &name, &there, &expected)?,
    };
    if options.part != Part::Schema && expected.is_empty() {
        warnings.extend(uncounted(&name, &there));
    }
    // Nothing of them may run before all rows are counted.
    make_events(&access, &name, events)?;
    if is_beside {
        warnings.extend(quiet(&access, &name)?);
    }
    warnings.extend(definers(&access, &name));
    made.keep();
    Ok(Restored {
        name,
        tables: verified.tables,
        rows: verified.rows,
        kept: None,
        warnings,
    })
}

/// A database that goes unless it is kept.
pub(super) struct Made<'a> {
    to: &'a Mysql,
    name: String,
    context: Context,
    is_kept: bool,
}

impl<'a> Made<'a> {
    /// Makes one, as the stored one was.
    fn new(
        to: &'a Mysql,
        name: &str,
        stored: &dyn Stored,
        access: &Access<'_>,
    ) -> Result<Made<'a>, DatabaseError> {
        let property = |name| stored.member().property(name).unwrap_or_default();
        Made::with(
            to,
            name,
            property("character_set"),
            property("collation"),
            access,
        )
    }

    /// Makes one.
    pub fn with(
        to: &'a Mysql,
        name: &str,
        character_set: &str,
        collation: &str,
        access: &Access<'_>,
    ) -> Result<Made<'a>, DatabaseError> {
        if inventory::exists(access, name)? {
            let what = format!("a database {name} is there already");
            return Err(DatabaseError::new(Cause::Exists, what));
        }
        let mut sql = format!("CREATE DATABASE {}", quoted(name));
        sql.push_str(&charset(character_set, collation));
        access.ask(None, &sql)?;
        Ok(Made {
            to,
            name: name.to_owned(),
            // What was stopped is cleaned up all the same.
            context: Context {
                stopper: Stopper::default(),
                ..access.context.clone()
            },
            is_kept: false,
        })
    }

    /// It stays.
    pub fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        if !self.is_kept {
            let sql = format!("DROP DATABASE IF EXISTS {}", quoted(&self.name));
            // Why it goes was told already; a server that is gone keeps it.
            let _ = self
                .to
                .access(&self.context)
                .and_then(|access| access.ask(None, &sql));
        }
    }
}

/// Character set and collation, as a database has them.
pub(super) fn charset(character_set: &str, collation: &str) -> String {
    let is_word = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    match is_word(character_set) && is_word(collation) {
        true => format!(" CHARACTER SET {character_set} COLLATE {collation}"),
        false => String::new(),
    }
}

/// A client that takes a stored dump.
fn feeder(access: &Access<'_>, database: &str) -> Command {
    let mut command = access.client_command(Some(database));
    // Line ends within routines stay as they are.
    command.args(["--binary-mode", "--comments"]);
    if access.has_sandbox() {
        command.arg("--sandbox");
    }
    command
}

/// Makes events, when there are any.
fn make_events(access: &Access<'_>, name: &str, events: Vec<u8>) -> Result<(), DatabaseError> {
    if events.is_empty() {
        return Ok(());
    }
    access.run(feeder(access, name), events).map(drop)
}

/// SQL in front of a dump and behind it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Around<'a> {
    pub first: &'a str,
    pub last: &'a str,
}

/// Feeds the client a part of a stored dump. Answers what makes its events, which comes last.
pub(super) fn feed(
    stored: &dyn Stored,
    options: &RestoreOptions,
    access: &Access<'_>,
    database: &str,
    around: Around<'_>,
    events: Events,
) -> Result<Vec<u8>, DatabaseError> {
    let mut child = start(access, feeder(access, database), database)?;
    let input = child.input();
    let Some(mut input) = input else {
        return Err(DatabaseError::new(Cause::Tool, "the client takes no input"));
    };
    let mut filter = Filter::new(options, events);
    let mut broken = false;
    let (fed, ended) = std::thread::scope(|scope| {
        let ended = scope.spawn(move || drain(child, database));
        let fed = stored.read("", &mut |bytes| {
            broken = !pour(bytes, &mut filter, &mut input, access.context, around)?;
            Ok(())
        });
        drop(input);
        let ended = ended.join();
        let ended = ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (fed, ended)
    });
    fed?;
    if !broken && !filter.completed() {
        // What the client made of its last statement does not matter.
        let name = &stored.member().name;
        let what = format!("the stored dump of \"{name}\" is not whole");
        return Err(DatabaseError::new(Cause::Incomplete, what));
    }
    ended?;
    if broken {
        let what = format!("the client did not take all of the dump of {database}");
        return Err(DatabaseError::new(Cause::Tool, what));
    }
    match filter.missing() {
        None => Ok(filter.events()),
        Some(table) => {
            let what = format!("the stored database has no table {table:?}");
            let rows = stored.streams().iter().flat_map(|s| &s.facts.rows);
            let names: Vec<&str> = rows.map(|(name, _)| name.as_str()).take(20).collect();
            Err(DatabaseError::new(Cause::Absent, what)
                .hint(format!("it has: {}", names.join(", "))))
        }
    }
}

fn start(access: &Access<'_>, command: Command, database: &str) -> Result<Child, DatabaseError> {
    let name = name_of(&command);
    let mut spec = access.context.spec(&name, command);
    spec.is_fed = true;
    // It prints nothing as long as all goes well.
    spec.stall = None;
    Child::start(spec).map_err(|e| told(e, Doing::Restoring, database))
}

/// Waits for the client's end.
fn drain(mut child: Child, database: &str) -> Result<(), DatabaseError> {
    let mut buffer = [0; 8192];
    loop {
        match child.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(e) => return Err(told(e, Doing::Restoring, database)),
        }
    }
}

/// Feeds all; `false` when the client takes no more, and says itself why.
fn pour(
    bytes: &mut (dyn std::io::Read + Send),
    filter: &mut Filter,
    input: &mut impl Write,
    context: &Context,
    Around { first, last }: Around<'_>,
) -> Result<bool, DatabaseError> {
    let mut buffer = vec![0; 1 << 16];
    let mut is_taken = input.write_all(first.as_bytes()).is_ok();
    loop {
        context.go_on()?;
        let n = bytes.read(&mut buffer).map_err(|e| {
            let what = format!("the snapshot cannot be read: {e}");
            DatabaseError::new(Cause::Incomplete, what)
        })?;
        let part = match n {
            0 => filter.finish(),
            _ => filter.feed(buffer.get(..n).unwrap_or_default()),
        };
        is_taken = is_taken && input.write_all(part).is_ok();
        if let Some(what) = filter.away() {
            let what = format!("the stored dump has {what} in it, which leads to another database");
            return Err(DatabaseError::new(Cause::Failed, what).hint(
                "the new database was dropped again; restore the file itself, read it, and load it \
                 by hand",
            ));
        }
        if n == 0 && filter.completed() {
            is_taken = is_taken && input.write_all(last.as_bytes()).is_ok();
        }
        if n == 0 || !is_taken {
            return Ok(is_taken);
        }
    }
}

/// A warning when tables were made and none of their rows could be compared.
fn uncounted(name: &str, there: &Inventory) -> Option<String> {
    let tables = there.things.values().filter(|thing| thing.has_rows());
    let tables = tables.count();
    (tables > 0).then(|| {
        format!(
            "how many rows were stored is not known: the rows of {tables} tables of {name} were \
             not compared"
        )
    })
}

/// Events of a database beside the live one do not run: both would do the same things. A swap
/// knows them by this state. They were made so, if they are written as servers do it.
fn quiet(access: &Access<'_>, name: &str) -> Result<Option<String>, DatabaseError> {
    let there = inventory::take(access, name)?;
    let mut sql = String::new();
    for (event, is) in there.events.iter().filter(|(_, event)| event.is_on()) {
        sql.push_str(&format!("{} DISABLE ON SLAVE;\n", is.alter(name, event)));
    }
    access.ask(None, &sql)?;
    let rests = |event: &&inventory::Event| event.is_on() || event.is_on_elsewhere();
    let events = there.events.values().filter(rests).count();
    if events == 0 {
        return Ok(None);
    }
    Ok(Some(format!(
        "{events} events of {name} do not run as long as it stands beside the live database; a \
         swap switches them on"
    )))
}

/// A warning when something runs as a user who is not there. Nothing when that cannot be seen.
fn definers(access: &Access<'_>, name: &str) -> Option<String> {
    let mut sql = String::new();
    for (table, column) in [
        ("views", "table_schema"),
        ("triggers", "trigger_schema"),
        ("routines", "routine_schema"),
        ("events", "event_schema"),
    ] {
        sql.push_str(&format!(
            "SELECT DISTINCT 'definer', definer FROM information_schema.{table} \
             WHERE {};\n",
            is_database(column, name)
        ));
    }
    sql.push_str("SELECT 'user', CONCAT(user, '@', host) FROM mysql.user;\n");
    let rows = access.ask(None, &sql).ok()?;
    let of = |what: &str| {
        let rows = rows
            .iter()
            .filter(|row| row.first().is_some_and(|first| first == what));
        let names: std::collections::BTreeSet<String> =
            rows.filter_map(|row| row.get(1).cloned()).collect();
        names
    };
    let users = of("user");
    let roles = |definer: &String| users.contains(&format!("{}@", definer.trim_end_matches('@')));
    let absent: Vec<String> = (of("definer").into_iter())
        .filter(|definer| !users.contains(definer) && !roles(definer))
        .collect();
    (!absent.is_empty()).then(|| {
        format!(
            "views, triggers, routines or events run as {}, who is no user of this server: they \
             fail until that user is made",
            absent.join(", ")
        )
    })
}

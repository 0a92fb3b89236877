//! The restored database in place of the live one. All tables change places in one statement,
//! which the server does whole or not at all. What it cannot move (triggers, views, routines) is
//! read before, dropped, and made again where it belongs; events are moved by themselves.
//!
//! Between the dropping of triggers and views and their making again, well under a second, writers
//! of the live database do without them. What fails is taken back.

use super::access::{Access, is_database, quoted};
use super::dump::listed;
use super::inventory::{self, Inventory};
use super::restore::{Made, charset};
use super::routine_grants::RoutineGrants;
use super::tools::{self, Tool};
use super::{Mysql, free};
use crate::database::error::{Cause, DatabaseError};
use crate::database::{Context, Restored};

/// Seconds that other programs' locks are waited for. Whoever comes after us waits as long for his
/// table, and without triggers and views.
const LOCKED: u32 = if cfg!(test) { 2 } else { 10 };

/// The same when all is put back: then waiting is the lesser evil.
const LOCKED_BACK: u32 = 60;

/// A database and all that its tables do not take along.
struct Side {
    name: String,
    had: Inventory,
    routines: String,
    triggers: String,
    views: String,
}

pub(super) fn swap(
    at: &Mysql,
    restored: Restored,
    context: &Context,
) -> Result<Restored, DatabaseError> {
    if restored.name == at.database {
        // There was none: the restored one is the live one already.
        return Ok(restored);
    }
    // What has begun is finished or taken back, whatever else is stopped.
    context.go_on()?;
    let calm = context.calm();
    let mut access = at.access(&calm)?;
    access.patience = Some(LOCKED);
    let tool = tools::dump(access.server, &at.tool_dir, &calm)?;
    let live = Side::read(&at.database, &tool, &access)?;
    let new = Side::read(&restored.name, &tool, &access)?;
    for side in [&live, &new] {
        side.can_move(&access)?;
    }
    are_free(&access, [&live, &new])?;
    let grants = RoutineGrants::read(&access, &live.name, &live.had);
    let kept = free(
        &access,
        &live.name,
        &format!("_before_restore_{}", context.stamp),
    )?;
    let made = Made::with(
        at,
        &kept,
        &live.had.character_set,
        &live.had.collation,
        &access,
    )?;
    // Fails here when this user may not make what belongs to others.
    access.load(&kept, &live.routines)?;
    // From here on it may hold the live tables, and must not go by itself.
    made.keep();
    let moved = exchange(&access, &live, &new, &kept);
    if let Err(error) = moved {
        let back = at.access(&calm).and_then(|mut access| {
            access.patience = Some(LOCKED_BACK);
            let back = take_back(&access, &live, &new, &kept);
            // Also when something else could not be put back.
            let lost = grants.grant(&access, &live.name, &live.had);
            back.map(|()| lost)
        });
        let places = format!("look at {}, {kept} and {}", live.name, new.name);
        return Err(failed(error, back, places));
    }
    let mut warnings = restored.warnings;
    warnings.extend(grants.grant(&access, &live.name, &new.had));
    drop_empty(&access, &new.name)?;
    Ok(Restored {
        name: live.name,
        kept: Some(kept),
        warnings,
        ..restored
    })
}

/// Why a swap failed, and what became of its taking back.
fn failed(
    error: DatabaseError,
    back: Result<Vec<String>, DatabaseError>,
    places: String,
) -> DatabaseError {
    match back {
        Ok(lost) if lost.is_empty() => error.hint("nothing was changed"),
        Ok(lost) => error.hint(format!("all was taken back, but {}", lost.join("; "))),
        Err(worse) => DatabaseError {
            what: format!(
                "{}; and it could not all be taken back: {}",
                error.what, worse.what
            ),
            ..error
        }
        .hint(places),
    }
}

/// Fails when another program uses a table for longer than is waited: before anything is dropped.
fn are_free(access: &Access<'_>, sides: [&Side; 2]) -> Result<(), DatabaseError> {
    let mut tables = Vec::new();
    for side in sides {
        for (table, _) in side.had.things.iter().filter(|(_, thing)| thing.is_table()) {
            tables.push(format!("{}.{} WRITE", quoted(&side.name), quoted(table)));
        }
    }
    if tables.is_empty() {
        return Ok(());
    }
    let sql = format!("LOCK TABLES {};\nUNLOCK TABLES;\n", tables.join(", "));
    match access.ask(None, &sql) {
        Err(error) if error.cause == Cause::Unreachable => Err(error.hint(
            "nothing was changed; swap again when no long transaction and no LOCK TABLES is on \
             these tables",
        )),
        // A trigger that names what is not there cannot be locked; it can be moved.
        _ => Ok(()),
    }
}

impl Side {
    fn read(name: &str, tool: &Tool, access: &Access<'_>) -> Result<Side, DatabaseError> {
        let had = inventory::take(access, name)?;
        let dumped = |is_any: bool, options: &[&str], tables: &[&str]| match is_any {
            true => access.dumped(tool, options, name, tables),
            false => Ok(String::new()),
        };
        let views: Vec<&str> = (had.things.iter())
            .filter(|(_, thing)| thing.is_view())
            .map(|(name, _)| name.as_str())
            .collect();
        let routines = ["--no-create-info", "--skip-triggers", "--routines"];
        Ok(Side {
            routines: dumped(!had.routines.is_empty(), &routines, &[])?,
            triggers: dumped(
                !had.triggers.is_empty(),
                &["--no-create-info", "--triggers", "--add-drop-trigger"],
                &[],
            )?,
            views: dumped(!views.is_empty(), &["--skip-triggers"], &views)?,
            name: name.to_owned(),
            had,
        })
    }

    /// Fails when something of it cannot change places.
    fn can_move(&self, access: &Access<'_>) -> Result<(), DatabaseError> {
        let sql = format!(
            "SELECT DISTINCT CONCAT(table_schema, '.', table_name) \
             FROM information_schema.key_column_usage \
             WHERE {} AND NOT ({}) LIMIT 3",
            is_database("referenced_table_schema", &self.name),
            is_database("table_schema", &self.name)
        );
        let outside = access.ask(None, &sql)?;
        let refused = |what: String| {
            DatabaseError::new(Cause::Failed, what)
                .hint("nothing was changed; exchange the databases by hand")
        };
        if let Some(table) = outside.first().and_then(|row| row.first()) {
            let what = format!(
                "a foreign key of {table} refers to a table of {}",
                self.name
            );
            return Err(refused(what));
        }
        let merged = |thing: &inventory::Thing| thing.is_table() && !thing.has_rows();
        match self.had.things.iter().find(|(_, thing)| merged(thing)) {
            None => Ok(()),
            Some((table, thing)) => Err(refused(format!(
                "table {table} of {} has its rows elsewhere ({}), and cannot change places",
                self.name, thing.engine
            ))),
        }
    }

    /// Names of what `RENAME TABLE` moves.
    fn movable(&self) -> impl Iterator<Item = &str> {
        let all = self.had.things.iter().filter(|(_, thing)| !thing.is_view());
        all.map(|(name, _)| name.as_str())
    }

    /// `a.t TO b.t` for all of them.
    fn moves<'a>(&'a self, from: &'a str, to: &'a str) -> impl Iterator<Item = String> + 'a {
        let (from, to) = (quoted(from), quoted(to));
        self.movable().map(move |table| {
            let table = quoted(table);
            format!("{from}.{table} TO {to}.{table}")
        })
    }

    /// Makes what its tables did not take along.
    fn dress(&self, database: &str, access: &Access<'_>) -> Result<(), DatabaseError> {
        for sql in [&self.triggers, &self.views] {
            if !sql.is_empty() {
                access.load(database, sql)?;
            }
        }
        Ok(())
    }
}

/// Drops triggers and views, and routines when `routines`.
fn undress(access: &Access<'_>, database: &str, routines: Undress) -> Result<(), DatabaseError> {
    let had = inventory::take(access, database)?;
    let mut sql = String::new();
    for name in had.triggers.keys() {
        sql.push_str(&format!("DROP TRIGGER {};\n", quoted(name)));
    }
    for (name, _) in had.things.iter().filter(|(_, thing)| thing.is_view()) {
        sql.push_str(&format!("DROP VIEW {};\n", quoted(name)));
    }
    if routines == Undress::Routines {
        // A package takes its body along.
        for (name, kind) in &had.routines {
            sql.push_str(&format!("DROP {kind} IF EXISTS {};\n", quoted(name)));
        }
    }
    access.ask(Some(database), &sql).map(drop)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Undress {
    /// Triggers and views.
    Tables,
    /// And routines.
    Routines,
}

fn rename(access: &Access<'_>, moves: Vec<String>) -> Result<(), DatabaseError> {
    if moves.is_empty() {
        return Ok(());
    }
    let sql = format!("RENAME TABLE {};\n", moves.join(", "));
    access.ask(None, &sql).map(drop)
}

/// Moves all events, which then run or not as `is_on` says of each.
fn move_events(
    access: &Access<'_>,
    from: &str,
    to: &str,
    is_on: impl Fn(&str, &inventory::Event) -> &'static str,
) -> Result<(), DatabaseError> {
    let mut sql = String::new();
    for (name, event) in &inventory::take(access, from)?.events {
        sql.push_str(&format!(
            "{} RENAME TO {}.{} {};\n",
            event.alter(from, name),
            quoted(to),
            quoted(name),
            is_on(name, event)
        ));
    }
    access.ask(None, &sql).map(drop)
}

fn exchange(access: &Access<'_>, live: &Side, new: &Side, kept: &str) -> Result<(), DatabaseError> {
    undress(access, &live.name, Undress::Tables)?;
    undress(access, &new.name, Undress::Tables)?;
    let out = live.moves(&live.name, kept);
    rename(
        access,
        out.chain(new.moves(&new.name, &live.name)).collect(),
    )?;
    // What is made there from here on takes the collation over.
    alter(access, &live.name, &new.had)?;
    // What is kept must not do what the new one does as well.
    move_events(access, &live.name, kept, |_, _| "DISABLE")?;
    move_events(access, &new.name, &live.name, |_, event| {
        match event.is_on_elsewhere() {
            true => "ENABLE",
            false => "DISABLE",
        }
    })?;
    undress(access, &live.name, Undress::Routines)?;
    access.load(&live.name, &new.routines)?;
    new.dress(&live.name, access)?;
    live.dress(kept, access)
}

fn alter(access: &Access<'_>, database: &str, like: &Inventory) -> Result<(), DatabaseError> {
    let charset = charset(&like.character_set, &like.collation);
    if charset.is_empty() {
        return Ok(());
    }
    let sql = format!("ALTER DATABASE {}{charset}", quoted(database));
    access.ask(None, &sql).map(drop)
}

/// The first of some failures; what comes behind it is tried all the same.
#[derive(Default)]
struct Failures(Option<DatabaseError>);

impl Failures {
    fn note<T>(&mut self, result: Result<T, DatabaseError>) -> Option<T> {
        let (value, error) = match result {
            Ok(value) => (Some(value), None),
            Err(error) => (None, Some(error)),
        };
        self.0 = self.0.take().or(error);
        value
    }
}

/// Puts all back where it was, however far it came: the live one first, and whatever goes although
/// something else did not.
fn take_back(
    access: &Access<'_>,
    live: &Side,
    new: &Side,
    kept: &str,
) -> Result<(), DatabaseError> {
    let mut failures = Failures::default();
    for database in [live.name.as_str(), new.name.as_str(), kept] {
        failures.note(undress(access, database, Undress::Tables));
    }
    if failures.note(is_moved(access, live, new, kept)) == Some(true) {
        let back = new.moves(&live.name, &new.name);
        let back = back.chain(live.moves(kept, &live.name)).collect();
        failures.note(rename(access, back));
    }
    failures.note(alter(access, &live.name, &live.had));
    failures.note(undress(access, &live.name, Undress::Routines));
    for sql in [&live.routines, &live.triggers, &live.views] {
        failures.note(access.load_what_goes(&live.name, sql));
    }
    failures.note(events_back(access, live, new, kept));
    failures.note(alter(access, &live.name, &live.had));
    failures.note(is_whole(access, live));
    failures.note(new.dress(&new.name, access));
    failures.note(drop_empty(access, kept));
    failures.0.map_or(Ok(()), Err)
}

/// Whether the tables changed places: all of them did, or none. Either side may have none.
fn is_moved(
    access: &Access<'_>,
    live: &Side,
    new: &Side,
    kept: &str,
) -> Result<bool, DatabaseError> {
    if let Some(table) = new.movable().next() {
        let now = inventory::take(access, &new.name)?;
        return Ok(!now.things.contains_key(table));
    }
    let now = inventory::take(access, kept)?;
    Ok(live.movable().any(|table| now.things.contains_key(table)))
}

fn events_back(
    access: &Access<'_>,
    live: &Side,
    new: &Side,
    kept: &str,
) -> Result<(), DatabaseError> {
    let was = |side: &Side, name: &str| match side.had.events.get(name) {
        Some(event) if event.is_on() => "ENABLE",
        Some(event) if event.is_on_elsewhere() => "DISABLE ON SLAVE",
        _ => "DISABLE",
    };
    let moved_in = inventory::take(access, kept)?.events;
    if moved_in.len() == live.had.events.len() {
        // Those that are there now came from the new one, and take the collation of where they
        // are along.
        alter(access, &live.name, &new.had)?;
        move_events(access, &live.name, &new.name, |name, _| was(new, name))?;
    }
    move_events(access, kept, &live.name, |name, _| was(live, name))
}

/// Fails when something of a database is not there again.
fn is_whole(access: &Access<'_>, side: &Side) -> Result<(), DatabaseError> {
    let now = inventory::take(access, &side.name)?;
    let had = &side.had;
    let things = had.things.keys().filter(|n| !now.things.contains_key(*n));
    let triggers = (had.triggers.keys()).filter(|n| !now.triggers.contains_key(*n));
    let events = had.events.keys().filter(|n| !now.events.contains_key(*n));
    let routines = had.routines.iter().filter(|r| !now.routines.contains(r));
    let routines = routines.map(|(name, _)| name);
    let missing = things.chain(triggers).chain(events).chain(routines);
    let missing: Vec<&str> = missing.map(String::as_str).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let what = format!("{} lacks {}", side.name, listed(&missing));
    Err(DatabaseError::new(Cause::Failed, what))
}

/// Drops a database that has no tables any more.
fn drop_empty(access: &Access<'_>, database: &str) -> Result<(), DatabaseError> {
    let left = inventory::take(access, database)?;
    if left.things.values().any(|thing| !thing.is_view()) {
        let what = format!("{database} still has tables, and was left as it is");
        return Err(DatabaseError::new(Cause::Failed, what));
    }
    let sql = format!("DROP DATABASE {}", quoted(database));
    access.ask(None, &sql).map(drop)
}

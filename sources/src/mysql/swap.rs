//! The restored database in place of the live one. All tables change places in one statement,
//! which the server does whole or not at all. What it cannot move (triggers, views, routines) is
//! read before, dropped, and made again where it belongs; events are moved by themselves.
//!
//! Between the dropping of triggers and views and their making again, well under a second, writers
//! of the live database do without them. What fails is taken back.

use super::access::{Access, literal, quoted};
use super::inventory::{self, Inventory};
use super::restore::{Made, charset};
use super::tools::{self, Tool};
use super::{Mysql, free};
use crate::child::Stopper;
use crate::database::error::{Cause, DatabaseError};
use crate::database::{Context, Restored};

/// Seconds that other programs' locks on tables are waited for.
const LOCKED: u32 = 60;

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
    let calm = Context {
        stopper: Stopper::default(),
        ..context.clone()
    };
    let access = at.access(&calm)?;
    let tool = tools::dump(access.server, &at.tool_dir, &calm)?;
    let live = Side::read(&at.database, &tool, &access)?;
    let new = Side::read(&restored.name, &tool, &access)?;
    for side in [&live, &new] {
        side.can_move(&access)?;
    }
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
        return Err(match take_back(&access, &live, &new, &kept) {
            Ok(()) => error.hint("nothing was changed"),
            Err(worse) => DatabaseError {
                what: format!(
                    "{}; and it could not all be taken back: {}",
                    error.what, worse.what
                ),
                ..error
            }
            .hint(format!("look at {}, {kept} and {}", live.name, new.name)),
        });
    }
    drop_empty(&access, &new.name)?;
    Ok(Restored {
        name: live.name,
        kept: Some(kept),
        ..restored
    })
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
                &["--no-create-info", "--triggers"],
                &[],
            )?,
            views: dumped(!views.is_empty(), &["--skip-triggers"], &views)?,
            name: name.to_owned(),
            had,
        })
    }

    /// Fails when something of it cannot change places.
    fn can_move(&self, access: &Access<'_>) -> Result<(), DatabaseError> {
        let name = literal(&self.name);
        let sql = format!(
            "SELECT DISTINCT CONCAT(table_schema, '.', table_name) \
             FROM information_schema.key_column_usage \
             WHERE referenced_table_schema = {name} AND table_schema <> {name} LIMIT 3"
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
    let sql = format!(
        "SET SESSION lock_wait_timeout = {LOCKED};\nRENAME TABLE {};\n",
        moves.join(", ")
    );
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
    live.dress(kept, access)?;
    alter(access, &live.name, &new.had)
}

fn alter(access: &Access<'_>, database: &str, like: &Inventory) -> Result<(), DatabaseError> {
    let charset = charset(&like.character_set, &like.collation);
    if charset.is_empty() {
        return Ok(());
    }
    let sql = format!("ALTER DATABASE {}{charset}", quoted(database));
    access.ask(None, &sql).map(drop)
}

/// Puts all back where it was, however far it came.
fn take_back(
    access: &Access<'_>,
    live: &Side,
    new: &Side,
    kept: &str,
) -> Result<(), DatabaseError> {
    for database in [live.name.as_str(), new.name.as_str(), kept] {
        undress(access, database, Undress::Tables)?;
    }
    let is_moved = {
        let now = inventory::take(access, kept)?;
        let first = live.movable().next();
        first.is_some_and(|table| now.things.contains_key(table))
            || (first.is_none() && new.movable().any(|_| true))
    };
    if is_moved {
        let back = new.moves(&live.name, &new.name);
        rename(access, back.chain(live.moves(kept, &live.name)).collect())?;
    }
    let was = |side: &Side, name: &str| match side.had.events.get(name) {
        Some(event) if event.is_on() => "ENABLE",
        Some(event) if event.is_on_elsewhere() => "DISABLE ON SLAVE",
        _ => "DISABLE",
    };
    let moved_in = inventory::take(access, kept)?.events;
    if moved_in.len() == live.had.events.len() {
        // Those that are there now came from the new one.
        move_events(access, &live.name, &new.name, |name, _| was(new, name))?;
    }
    move_events(access, kept, &live.name, |name, _| was(live, name))?;
    undress(access, &live.name, Undress::Routines)?;
    access.load(&live.name, &live.routines)?;
    live.dress(&live.name, access)?;
    new.dress(&new.name, access)?;
    alter(access, &live.name, &live.had)?;
    drop_empty(access, kept)
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

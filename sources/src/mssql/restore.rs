//! A stored backup as a database again: put where the server sees it, checked by the server,
//! restored under a new name into new files, its rows compared.

use std::io::Write;

use super::capture::UNSURE;
use super::catalog::{self, Header, Inside, Server};
use super::exchange::{Passing, joined};
use super::session::{Patience, Session};
use super::{MAX_NAME, SqlServer, sql};
use crate::database::error::{Cause, DatabaseError};
use crate::database::{Context, Part, RestoreOptions, Restored, Stored, Verified, compare_rows};

/// Databases that are made beside one other within a second, at most.
const MOST_IN_A_SECOND: u32 = 9;

/// Makes a database of a stored backup.
pub(super) fn restore(
    to: &SqlServer,
    stored: &dyn Stored,
    options: &RestoreOptions,
    context: &Context,
) -> Result<Restored, DatabaseError> {
    check_wanted(stored, options)?;
    let exchange = to.exchange()?;
    exchange.check()?;
    let mut session = Session::open(to, context)?;
    let server = catalog::server(&mut session)?;
    let name = free_name(&mut session, &to.database, &context.stamp)?;
    exchange.probe(&mut session)?;
    let passing = exchange.passing();
    session.remove_first(&passing.local);
    write(stored, &passing, context)?;
    let header = catalog::header(&mut session, &passing.server)?;
    header.whole()?;
    catalog::verify(&mut session, &passing.server, header.has_checksums())?;
    let files = catalog::files(&mut session, &passing.server)?;
    let folders = folders(&mut session, server)?;
    let moves = moves(&files, &folders, &name, &context.stamp);
    let sql = sql::restore(&name, &passing.server, &moves, header.has_checksums());
    let doing = format!("restore {name}");
    let made = session
        .tell(&sql, &doing, Patience::Endless)
        .and_then(|()| compare(&mut session, &name, stored));
    drop(passing);
    match made {
        Ok(verified) => Ok(Restored {
            tables: verified.tables,
            rows: verified.rows,
            warnings: warnings(stored, &header),
            name,
            ..Restored::default()
        }),
        Err(error) => Err(undo(to, error, &name, &moves, context)),
    }
}

/// Refuses what cannot be had from a backup.
fn check_wanted(stored: &dyn Stored, options: &RestoreOptions) -> Result<(), DatabaseError> {
    let member = stored.member();
    if member.kind != "mssql" {
        let what = format!(
            "\"{}\" is a {} database, which cannot become one of SQL Server",
            member.name, member.kind
        );
        return Err(DatabaseError::setting(what));
    }
    if options.part != Part::All || !options.tables.is_empty() {
        let what = "a backup of SQL Server can only be restored as a whole";
        return Err(DatabaseError::setting(what).hint(
            "restore it under another name, then copy what you need: INSERT INTO live.dbo.t \
             SELECT * FROM restored.dbo.t",
        ));
    }
    Ok(())
}

/// The name that was asked for, or one beside it.
fn free_name(
    session: &mut Session<'_>,
    wanted: &str,
    stamp: &str,
) -> Result<String, DatabaseError> {
    match catalog::find(session, wanted)? {
        None => Ok(wanted.to_owned()),
        Some(_) => free_beside(session, wanted, &format!("restored_{stamp}")),
    }
}

/// A name beside another that no database has.
pub(super) fn free_beside(
    session: &mut Session<'_>,
    name: &str,
    what: &str,
) -> Result<String, DatabaseError> {
    for number in 1..=MOST_IN_A_SECOND {
        let end = match number {
            1 => format!("_{what}"),
            _ => format!("_{what}_{number}"),
        };
        let room = MAX_NAME.saturating_sub(end.chars().count());
        let kept: String = name.chars().take(room).collect();
        let beside = format!("{kept}{end}");
        if catalog::find(session, &beside)?.is_none() {
            return Ok(beside);
        }
    }
    let what = format!("{name}_{what} and others like it are there already");
    Err(DatabaseError::new(Cause::Exists, what).hint("name another database, or drop some"))
}

/// Puts the stored bytes where the server sees them.
fn write(stored: &dyn Stored, passing: &Passing, context: &Context) -> Result<(), DatabaseError> {
    let mut file = passing.make()?;
    stored.read("", &mut |bytes| {
        let mut buffer = vec![0; 1 << 18];
        loop {
            context.go_on()?;
            let n = bytes.read(&mut buffer).map_err(|e| {
                let what = format!("the snapshot cannot be read: {e}");
                DatabaseError::new(Cause::Incomplete, what)
            })?;
            if n == 0 {
                return Ok(());
            }
            let part = buffer.get(..n).unwrap_or_default();
            file.write_all(part).map_err(|e| passing.not_written(&e))?;
        }
    })?;
    drop(file);
    passing.show()
}

/// Where data and log of new databases lie. Old servers do not say; there it is where their own
/// lie.
fn folders(session: &mut Session<'_>, server: Server) -> Result<(String, String), DatabaseError> {
    let Server {
        data_path,
        log_path,
        ..
    } = server;
    if !data_path.is_empty() && !log_path.is_empty() {
        return Ok((data_path, log_path));
    }
    let sql = "SELECT physical_name FROM sys.master_files WHERE database_id = 1 ORDER BY file_id";
    let rows = session.ask(sql, "ask where data files lie")?;
    let folder = |number: usize| {
        let path = rows
            .get(number)
            .map(|row| row.text("physical_name"))
            .unwrap_or_default();
        path.rfind(['/', '\\'])
            .and_then(|end| path.get(..end))
            .map(str::to_owned)
    };
    folder(0).zip(folder(1)).ok_or_else(|| {
        DatabaseError::new(
            Cause::Failed,
            "the server does not say where its data files lie",
        )
    })
}

/// A new place for each file of the backup.
fn moves(
    files: &[Inside],
    (data, log): &(String, String),
    name: &str,
    stamp: &str,
) -> Vec<(String, String)> {
    let sound: String = (name.chars().take(80))
        .map(|c| {
            if c.is_alphanumeric() || c == '-' {
                c
            } else {
                '_'
            }
        })
        .collect();
    let stem = match sound.ends_with(stamp) {
        true => sound,
        false => format!("{sound}_{stamp}"),
    };
    let place = |(number, file): (usize, &Inside)| {
        let (folder, end) = match file.kind.as_str() {
            "L" => (log, ".ldf"),
            "D" if number == 1 => (data, ".mdf"),
            "D" => (data, ".ndf"),
            // A folder.
            _ => (data, ""),
        };
        (
            file.logical.clone(),
            joined(folder, &format!("{stem}_{number}{end}")),
        )
    };
    (1..).zip(files).map(place).collect()
}

/// Removes what a restore made, if it is there and is ours: its first file tells that.
fn undo(
    to: &SqlServer,
    error: DatabaseError,
    name: &str,
    moves: &[(String, String)],
    context: &Context,
) -> DatabaseError {
    let Some((_, ours)) = moves.first() else {
        return error;
    };
    // What is to stop has stopped; this must be done all the same.
    let calm = context.calm();
    let sql = format!(
        "IF EXISTS (SELECT 1 FROM sys.master_files WHERE database_id = DB_ID({}) \
         AND physical_name = {}) DROP DATABASE {}",
        sql::text(name),
        sql::text(ours),
        sql::name(name)
    );
    let dropped = Session::open(to, &calm)
        .and_then(|mut session| session.tell(&sql, &format!("drop {name}"), Patience::Short));
    match dropped {
        Ok(()) => error,
        Err(why) => {
            let hint = format!(
                "{name} may be left half restored, and could not be dropped ({}): DROP DATABASE {}",
                why.what,
                sql::name(name)
            );
            error.hint(hint)
        }
    }
}

/// Tables of a member: with rows that are certain, and the others.
fn tables(stored: &dyn Stored) -> (Vec<(String, u64)>, Vec<String>) {
    let (mut sure, mut unsure) = (Vec::new(), Vec::new());
    for stream in stored.streams() {
        for (table, rows) in &stream.facts.rows {
            match stream.facts.property(&format!("{UNSURE}{table}")) {
                None => sure.push((table.clone(), *rows)),
                Some(_) => unsure.push(table.clone()),
            }
        }
    }
    (sure, unsure)
}

fn warnings(stored: &dyn Stored, header: &Header) -> Vec<String> {
    let (_, unsure) = tables(stored);
    let mut warnings = Vec::new();
    if let Some(first) = unsure.first() {
        warnings.push(format!(
            "the rows of {} tables were not compared, because they changed while the backup was \
             made ({first}, …)",
            unsure.len()
        ));
    }
    if !header.has_checksums() {
        warnings.push("the backup has no checksums, so the server could not compare any".into());
    }
    warnings
}

/// Compares rows with those that are stored, where these are certain. The others must be there.
fn compare(
    session: &mut Session<'_>,
    name: &str,
    stored: &dyn Stored,
) -> Result<Verified, DatabaseError> {
    let listed = catalog::database(session, name)?;
    listed.online(name)?;
    let counts = catalog::counts(session, name, &listed)?;
    let (sure, unsure) = tables(stored);
    let found = |table: &str| counts.get(table).map(|count| count.rows);
    let verified = compare_rows(&sure, &found)?;
    match unsure.iter().find(|table| !counts.contains_key(*table)) {
        // One that came while the backup was made may be missing.
        Some(table) if !is_new(stored, table) => Err(DatabaseError::new(
            Cause::Differs,
            format!("{table} is not there"),
        )),
        _ => Ok(verified),
    }
}

fn is_new(stored: &dyn Stored, table: &str) -> bool {
    let property = format!("{UNSURE}{table}");
    let mut streams = stored.streams().iter();
    streams.any(|stream| stream.facts.property(&property) == Some("new"))
}

/// Looks through a database, and compares its rows.
pub(super) fn verify(
    of: &SqlServer,
    stored: &dyn Stored,
    context: &Context,
) -> Result<Verified, DatabaseError> {
    let name = &of.database;
    let mut session = Session::open(of, context)?;
    catalog::database(&mut session, name)?.online(name)?;
    let sql = format!("DBCC CHECKDB ({}) WITH NO_INFOMSGS", sql::text(name));
    session.check(&sql, name)?;
    let verified = compare(&mut session, name, stored)?;
    Ok(Verified {
        checks: vec!["checkdb".to_owned()],
        ..verified
    })
}

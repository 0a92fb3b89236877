//! What the server answers to each statement that hucha sends. Anything else is a syntax error.

use std::fs;
use std::io;
use std::path::PathBuf;

use super::bak::{self, Head};
use super::engine::{Database, Engine, File};
use super::packets::{Cell, Reply, Said};
use super::sql::{Piece, cut, matched, options};
use super::{Outcome, Session};

/// Where new databases lie.
const DATA: &str = r"C:\Data\";
const LOG: &str = r"D:\Log";

type Answer = Result<(), Vec<Said>>;

impl Session {
    /// Answers one batch.
    pub(super) fn batch(&mut self, sql: &str, reply: &mut Reply<'_>) -> io::Result<Outcome> {
        self.shared.engine().log.push(sql.to_owned());
        let pieces = cut(sql).unwrap_or_default();
        if let Some((found, rest)) = matched(&pieces, "BACKUP DATABASE [] TO DISK = '' WITH") {
            return self.backup(found[0], found[1], rest, reply);
        }
        if let Some((found, rest)) = matched(&pieces, "RESTORE DATABASE [] FROM DISK = '' WITH") {
            return self.restore(found[0], found[1], rest, reply);
        }
        let mut statements = pieces.split(|piece| *piece == Piece::Sign(';'));
        let each = |statement| self.other(sql, statement, reply);
        // After an error of a statement a batch would go on; nobody relies on that here.
        let answers: Option<Result<(), Vec<Said>>> = statements.by_ref().map(each).collect();
        let answer = match answers {
            Some(answer) => answer,
            None => Err(vec![Said::new(
                102,
                15,
                format!("Incorrect syntax near '{sql}'."),
            )]),
        };
        if let Err(all) = answer {
            reply.failed(&all);
        }
        Ok(Outcome::Answered)
    }

    fn other(&mut self, sql: &str, pieces: &[Piece], reply: &mut Reply<'_>) -> Option<Answer> {
        if let Some((found, [])) = matched(pieces, "USE []") {
            return Some(self.enter(found[0], reply));
        }
        let shared = std::sync::Arc::clone(&self.shared);
        let mut engine = shared.engine();
        let engine = &mut *engine;
        for what in ["VERIFYONLY", "HEADERONLY", "FILELISTONLY", "LABELONLY"] {
            let pattern = format!("RESTORE {what} FROM DISK = ''");
            if let Some((found, rest)) = matched(pieces, &pattern) {
                return Some(self.look(engine, what, found[0], rest, reply));
            }
        }
        if let Some((found, [])) = matched(pieces, "ALTER DATABASE [] MODIFY NAME = []") {
            let renamed = rename(engine, found[0], found[1], reply);
            if renamed.is_ok() && self.database == found[0] {
                self.database = found[1].to_owned();
            }
            return Some(renamed);
        }
        if let Some((found, [])) = matched(pieces, "DROP DATABASE []") {
            let dropped = engine.databases.remove(found[0]);
            reply.done(0, 0);
            return Some(dropped.map(|_| ()).ok_or_else(|| no_permission(found[0])));
        }
        if let Some((found, [Piece::Word(access), rest @ ..])) =
            matched(pieces, "ALTER DATABASE [] SET")
            && matched(rest, "WITH ROLLBACK IMMEDIATE").is_some()
        {
            let is_in = self.database == found[0];
            return Some(set_access(engine, found[0], access, is_in, reply));
        }
        if let Some((found, [])) = matched(pieces, "ALTER DATABASE [] SET TRUSTWORTHY ON") {
            return Some(set(engine, found[0], reply, |d| d.is_trustworthy = true));
        }
        let give = "ALTER AUTHORIZATION ON DATABASE : : [] TO []";
        if let Some((found, [])) = matched(pieces, give) {
            return Some(set(engine, found[0], reply, |d| {
                d.owner = found[1].to_owned();
            }));
        }
        if let Some((found, [])) = matched(pieces, "DBCC CHECKDB ( '' ) WITH NO_INFOMSGS") {
            return Some(check(engine, found[0], reply));
        }
        let drop = "IF EXISTS ( SELECT 1 FROM SYS.MASTER_FILES WHERE DATABASE_ID = DB_ID ( '' ) \
                    AND PHYSICAL_NAME = '' ) DROP DATABASE []";
        if let Some((found, [])) = matched(pieces, drop) {
            let is_its =
                |database: &Database| database.files.iter().any(|file| file.physical == found[1]);
            if engine.databases.get(found[0]).is_some_and(is_its) {
                engine.databases.remove(found[2]);
            }
            reply.done(0, 0);
            return Some(Ok(()));
        }
        select(engine, &self.database, sql, pieces, reply)
    }

    fn enter(&mut self, name: &str, reply: &mut Reply<'_>) -> Answer {
        let is_there = {
            let mut engine = self.shared.engine();
            if engine.databases.get(name).is_some_and(|d| d.is_taken) {
                let words = format!(
                    "Database '{name}' is already open and can only have one user at a time."
                );
                return Err(vec![Said::new(924, 14, words)]);
            }
            let intruder = engine.switches.intruder;
            let is_other = name != self.database;
            if let Some(left) = engine.databases.get_mut(&self.database) {
                left.is_taken |= intruder && is_other && left.access == "SINGLE_USER";
            }
            engine.databases.contains_key(name)
        };
        if name != "master" && !is_there {
            let words = format!(
                "Database '{name}' does not exist. Make sure that the name is \
                                 entered correctly."
            );
            return Err(vec![Said::new(911, 16, words)]);
        }
        reply.changed(1, name, &self.database);
        reply.done(0, 0);
        self.database = name.to_owned();
        Ok(())
    }

    /// The file as we see it.
    fn local(&self, path: &str) -> Option<PathBuf> {
        let folders = self.shared.setup.folders.iter();
        let mut found = folders.filter_map(|(server, local)| {
            let name = path.strip_prefix(server.as_str())?;
            Some(local.join(name.trim_start_matches(['/', '\\'])))
        });
        found.next()
    }

    /// The bytes of a backup file.
    fn read(&self, path: &str, doing: &str) -> Result<Vec<u8>, Vec<Said>> {
        let end = Said::new(3013, 16, format!("{doing} is terminating abnormally."));
        let device = |system: &str| {
            let words =
                format!("Cannot open backup device '{path}'. Operating system error {system}.");
            vec![Said::new(3201, 16, words), end.clone()]
        };
        let Some(local) = self.local(path) else {
            return Err(device("3(The system cannot find the path specified.)"));
        };
        fs::read(local).map_err(|_| device("2(The system cannot find the file specified.)"))
    }

    fn look(
        &self,
        engine: &Engine,
        what: &str,
        path: &str,
        rest: &[Piece],
        reply: &mut Reply<'_>,
    ) -> Answer {
        if engine.switches.deny_create {
            return Err(denied(what));
        }
        let bytes = self.read(path, &format!("RESTORE {what}"))?;
        let end = Said::new(
            3013,
            16,
            format!("RESTORE {what} is terminating abnormally."),
        );
        let head = bak::head(&bytes, path).map_err(|said| vec![said, end.clone()])?;
        match what {
            "VERIFYONLY" => {
                if options(rest)
                    .iter()
                    .any(|(option, _)| option.contains("CHECKSUM"))
                {
                    bak::pages(&bytes).map_err(|said| vec![said, end])?;
                }
                reply.info(&Said::new(3262, 0, "The backup set on file 1 is valid."));
                reply.done(0, 0);
            }
            "HEADERONLY" => header(&head, bytes.len(), reply),
            "FILELISTONLY" => file_list(&head, reply),
            _ => reply.rows(
                &["MediaName"],
                &[vec![Cell::Text(None)]],
                &[Cell::Text(None)],
            ),
        }
        Ok(())
    }

    fn backup(
        &mut self,
        name: &str,
        path: &str,
        rest: &[Piece],
        reply: &mut Reply<'_>,
    ) -> io::Result<Outcome> {
        let end = Said::new(3013, 16, "BACKUP DATABASE is terminating abnormally.");
        let mut fail = |all: Vec<Said>| {
            reply.failed(&all);
            Ok(Outcome::Answered)
        };
        let (switches, name, first) = {
            let engine = self.shared.engine();
            let switches = engine.switches.clone();
            match begin(&engine, name, path, rest) {
                Ok((name, database)) => (switches, name.clone(), bak::encode(name, database)),
                Err(said) => return fail(vec![said, end]),
            }
        };
        let Some(local) = self.local(path) else {
            let words = format!(
                "Cannot open backup device '{path}'. Operating system error 3(The \
                                 system cannot find the path specified.)."
            );
            return fail(vec![Said::new(3201, 16, words), end]);
        };
        let half = &first[..first.len() / 2];
        fs::write(&local, half)?;
        if switches.full_disk {
            let words = format!(
                "Write on \"{path}\" failed: 112(There is not enough space on the \
                                 disk.)"
            );
            return fail(vec![Said::new(3202, 16, words), end]);
        }
        reply.info(&Said::new(3211, 0, "50 percent processed."));
        reply.flush()?;
        if switches.break_backup {
            return Ok(Outcome::Broken);
        }
        if self.hold() {
            return Ok(Outcome::Cancelled);
        }
        let mut engine = self.shared.engine();
        let Some(database) = engine.databases.get_mut(&name) else {
            return Ok(Outcome::Broken);
        };
        if switches.busy
            && let Some(table) = database.tables.first().cloned()
        {
            *database.changes.entry(table).or_default() += 2;
        }
        let mut bytes = bak::encode(&name, database);
        if switches.flip {
            let at = bytes.len() - 5000;
            bytes[at] ^= 1;
        }
        if switches.cut {
            bytes.truncate(bytes.len() - 9000);
        }
        fs::write(&local, bytes)?;
        reply.info(&Said::new(
            3014,
            0,
            "BACKUP DATABASE successfully processed some pages.",
        ));
        reply.done(0, 0);
        Ok(Outcome::Answered)
    }

    fn restore(
        &mut self,
        name: &str,
        path: &str,
        rest: &[Piece],
        reply: &mut Reply<'_>,
    ) -> io::Result<Outcome> {
        let end = Said::new(3013, 16, "RESTORE DATABASE is terminating abnormally.");
        let shared = std::sync::Arc::clone(&self.shared);
        let mut engine = shared.engine();
        let made = self.read(path, "RESTORE DATABASE").and_then(|bytes| {
            restored(&engine, name, path, &bytes, rest).map_err(|said| vec![said, end])
        });
        let mut database = match made {
            Ok(database) => database,
            Err(all) => {
                reply.failed(&all);
                return Ok(Outcome::Answered);
            }
        };
        if engine.switches.break_restore {
            database.state = "RESTORING".to_owned();
            engine.databases.insert(name.to_owned(), database);
            return Ok(Outcome::Broken);
        }
        if engine.switches.lose_page {
            database.pages.pop();
        }
        engine.databases.insert(name.to_owned(), database);
        reply.info(&Said::new(3211, 0, "100 percent processed."));
        reply.done(0, 0);
        Ok(Outcome::Answered)
    }
}

fn denied(doing: &str) -> Vec<Said> {
    let words = "CREATE DATABASE permission denied in database 'master'.";
    let end = format!("{doing} is terminating abnormally.");
    vec![Said::new(262, 14, words), Said::new(3013, 16, end)]
}

/// Whether a backup may begin; of what.
fn begin<'a>(
    engine: &'a Engine,
    name: &str,
    path: &str,
    rest: &[Piece],
) -> Result<(&'a String, &'a Database), Said> {
    let mut databases = engine.databases.iter();
    let found = databases.find(|(known, _)| is_same(known, name));
    let Some((name, database)) = found else {
        let words = format!("Database '{name}' does not exist.");
        return Err(Said::new(911, 16, words));
    };
    if engine.switches.deny_backup {
        let words = format!("BACKUP DATABASE permission denied in database '{name}'.");
        return Err(Said::new(262, 14, words));
    }
    if engine.switches.deny_folder {
        let words = format!(
            "Cannot open backup device '{path}'. Operating system error 5(Access is denied.)."
        );
        return Err(Said::new(3201, 16, words));
    }
    let given: Vec<String> = options(rest)
        .into_iter()
        .map(|(option, _)| option)
        .collect();
    // Without these it would touch the server's own chain of backups, or be of no use to us.
    for wanted in ["COPY_ONLY", "CHECKSUM", "NO_COMPRESSION", "FORMAT", "INIT"] {
        if !given.iter().any(|option| option == wanted) {
            return Err(Said::new(50000, 16, format!("the fake wants {wanted}")));
        }
    }
    Ok((name, database))
}

/// What a restore makes.
fn restored(
    engine: &Engine,
    name: &str,
    path: &str,
    bytes: &[u8],
    rest: &[Piece],
) -> Result<Database, Said> {
    if engine.switches.deny_create {
        let words = "CREATE DATABASE permission denied in database 'master'.";
        return Err(Said::new(262, 14, words));
    }
    if engine.databases.contains_key(name) {
        let words = format!("The database '{name}' is there, and REPLACE was not given.");
        return Err(Said::new(3154, 16, words));
    }
    let head = bak::head(bytes, path)?;
    let pages = bak::pages(bytes)?;
    let options = options(rest);
    let mut files = Vec::new();
    for file in head.files {
        let moved = options
            .iter()
            .find_map(|(option, texts)| match texts.as_slice() {
                [logical, to] if option == "MOVE TO" && *logical == file.logical => {
                    Some(to.clone())
                }
                _ => None,
            });
        let physical = moved.unwrap_or(file.physical);
        let mut others = engine.databases.iter();
        let user = others.find(|(_, other)| other.files.iter().any(|f| f.physical == physical));
        if let Some((other, _)) = user {
            let words = format!(
                "The file '{physical}' cannot be overwritten. It is being used by \
                                 database '{other}'."
            );
            return Err(Said::new(1834, 16, words));
        }
        files.push(File {
            physical,
            logical: file.logical,
            kind: file.kind,
        });
    }
    Ok(Database {
        tables: head.tables,
        pages,
        files,
        state: "ONLINE".to_owned(),
        access: "MULTI_USER".to_owned(),
        collation: head.collation,
        owner: "hucha".to_owned(),
        ..Database::default()
    })
}

fn header(head: &Head, size: usize, reply: &mut Reply<'_>) {
    let text = |text: &str| Cell::Text(Some(text.to_owned()));
    let size = i64::try_from(size).ok();
    let columns: [(&str, Cell); 15] = [
        ("BackupName", Cell::Text(None)),
        ("BackupType", Cell::Int(Some(1))),
        ("Position", Cell::Int(Some(1))),
        ("DatabaseName", text(&head.database)),
        ("DatabaseVersion", Cell::Int(Some(957))),
        ("BackupSize", Cell::Int(size)),
        ("FirstLSN", Cell::Numeric(head.first_lsn)),
        ("CheckpointLSN", Cell::Numeric(head.checkpoint_lsn)),
        ("BackupFinishDate", Cell::Moment(46_351, 300 * 3600)),
        ("CompatibilityLevel", Cell::Int(Some(160))),
        ("Collation", text(&head.collation)),
        ("IsDamaged", Cell::Bit(false)),
        ("HasIncompleteMetaData", Cell::Bit(false)),
        ("HasBackupChecksums", Cell::Bit(true)),
        ("RecoveryModel", text("FULL")),
    ];
    let (names, cells): (Vec<&str>, Vec<Cell>) = columns.into_iter().unzip();
    reply.rows(&names, std::slice::from_ref(&cells), &cells);
}

fn file_list(head: &Head, reply: &mut Reply<'_>) {
    let text = |text: &str| Cell::Text(Some(text.to_owned()));
    let row = |file: &File| {
        let kind = text(&file.kind);
        let size = Cell::Numeric(8_388_608);
        vec![text(&file.logical), text(&file.physical), kind, size]
    };
    let rows: Vec<Vec<Cell>> = head.files.iter().map(row).collect();
    let like = row(&File::default());
    reply.rows(
        &["LogicalName", "PhysicalName", "Type", "Size"],
        &rows,
        &like,
    );
}

fn rename(engine: &mut Engine, from: &str, to: &str, reply: &mut Reply<'_>) -> Answer {
    let refused = &mut engine.switches.refused_names;
    if let Some(at) = refused.iter().position(|name| name == to) {
        refused.remove(at);
        let words = "The database could not be exclusively locked to perform the operation.";
        return Err(vec![Said::new(5030, 16, words)]);
    }
    if engine.databases.contains_key(to) {
        let words = format!("Database '{to}' already exists. Choose a different database name.");
        return Err(vec![Said::new(1801, 16, words)]);
    }
    if engine.databases.get(from).is_some_and(|d| d.is_taken) {
        let words = "The database could not be exclusively locked to perform the operation.";
        return Err(vec![Said::new(5030, 16, words)]);
    }
    let Some(database) = engine.databases.remove(from) else {
        return Err(no_permission(from));
    };
    engine.databases.insert(to.to_owned(), database);
    reply.info(&Said::new(
        5021,
        0,
        format!("The database name '{to}' has been set."),
    ));
    reply.done(0, 0);
    Ok(())
}

fn no_permission(name: &str) -> Vec<Said> {
    let words = format!(
        "User does not have permission to alter database '{name}', the database \
                         does not exist, or the database is not in a state that allows access \
                         checks."
    );
    vec![Said::new(5011, 14, words)]
}

/// `is_in`: whether who asks is in that database.
fn set_access(
    engine: &mut Engine,
    name: &str,
    access: &str,
    is_in: bool,
    reply: &mut Reply<'_>,
) -> Answer {
    let intruder = engine.switches.intruder;
    let database = engine
        .databases
        .get_mut(name)
        .ok_or_else(|| no_permission(name))?;
    if database.is_taken {
        let words = format!(
            "Changes to the state or options of database '{name}' cannot be made at this time. \
             The database is in single-user mode, and a user is currently connected to it."
        );
        return Err(vec![Said::new(5064, 16, words)]);
    }
    database.access = access.to_owned();
    database.is_taken = intruder && !is_in && access == "SINGLE_USER";
    reply.done(0, 0);
    Ok(())
}

/// Sets something that not everybody may set.
fn set(
    engine: &mut Engine,
    name: &str,
    reply: &mut Reply<'_>,
    change: impl FnOnce(&mut Database),
) -> Answer {
    let denied = engine.switches.deny_settings;
    let found = engine.databases.get_mut(name).filter(|_| !denied);
    change(found.ok_or_else(|| no_permission(name))?);
    reply.done(0, 0);
    Ok(())
}

fn check(engine: &Engine, name: &str, reply: &mut Reply<'_>) -> Answer {
    if engine.switches.damaged {
        let words = "Table error: Object ID 5, page (1:79). Test (m_headerVersion == HEADER_7_0) \
                     failed.";
        let sum = format!(
            "CHECKDB found 0 allocation errors and 1 consistency errors in database \
                           '{name}'."
        );
        return Err(vec![Said::new(8939, 16, words), Said::new(8990, 10, sum)]);
    }
    reply.done(0, 0);
    Ok(())
}

/// Questions to the catalog, by what each of them alone asks for.
fn select(
    engine: &Engine,
    current: &str,
    sql: &str,
    pieces: &[Piece],
    reply: &mut Reply<'_>,
) -> Option<Answer> {
    let text = |text: &str| Cell::Text(Some(text.to_owned()));
    if sql.contains("SERVERPROPERTY('ProductVersion')") {
        let path = |path: &str| match engine.switches.is_old {
            true => Cell::Text(None),
            false => text(path),
        };
        let edition = text("Developer Edition (64-bit)");
        let row = vec![text("16.0.4105.2"), edition, path(DATA), path(LOG)];
        let columns = ["version", "edition", "data_path", "log_path"];
        reply.rows(&columns, std::slice::from_ref(&row), &row);
    } else if sql.contains("FROM sys.databases WHERE name = ") {
        databases(engine, pieces, reply);
    } else if sql.contains("AS row_count") {
        return Some(counts(engine, sql, pieces, reply));
    } else if sql.starts_with("SELECT physical_name FROM sys.master_files WHERE database_id = 1") {
        let rows = [r"E:\Master\master.mdf", r"E:\Master\mastlog.ldf"].map(|path| vec![text(path)]);
        reply.rows(&["physical_name"], &rows, &[Cell::Text(None)]);
    } else {
        let table = sql.strip_prefix("SELECT count(*) FROM ")?;
        let database = engine.databases.get(current)?;
        let rows = *database.rows().get(table)?;
        let row = vec![Cell::Int(i64::try_from(rows).ok())];
        reply.rows(&[""], std::slice::from_ref(&row), &row);
    }
    Some(Ok(()))
}

fn databases(engine: &Engine, pieces: &[Piece], reply: &mut Reply<'_>) {
    let text = |text: &str| Cell::Text(Some(text.to_owned()));
    let row = |(name, database): (&String, &Database)| {
        vec![
            text(name),
            text(&database.state),
            text(&database.access),
            text("FULL"),
            text(&database.collation),
            Cell::Bit(database.is_encrypted),
            text(&database.owner),
            Cell::Bit(database.is_trustworthy),
            Cell::Bit(database.has_broker),
            Cell::Int(Some(1)),
            Cell::Int(Some(i64::from(!engine.switches.hide_changes))),
        ]
    };
    let columns = [
        "name",
        "state",
        "access",
        "recovery",
        "collation",
        "encrypted",
        "owner",
        "trustworthy",
        "broker",
        "sees_tables",
        "sees_changes",
    ];
    let found = match pieces.last() {
        Some(Piece::Text(name)) => engine
            .databases
            .iter()
            .find(|(known, _)| is_same(known, name))
            .map(row),
        _ => None,
    };
    let like = row((&String::new(), &Database::default()));
    reply.rows(&columns, &found.into_iter().collect::<Vec<_>>(), &like);
}

/// Whether two names are one to the server: its collation does not tell capitals from others.
fn is_same(one: &str, other: &str) -> bool {
    one.to_lowercase() == other.to_lowercase()
}

fn counts(engine: &Engine, sql: &str, pieces: &[Piece], reply: &mut Reply<'_>) -> Answer {
    let mut names = pieces.iter().filter_map(|piece| match piece {
        Piece::Name(name) => Some(name.as_str()),
        _ => None,
    });
    let name = names.next_back().unwrap_or_default();
    let mut databases = engine.databases.iter();
    let found = databases.find(|(known, _)| is_same(known, name));
    let found = found.map(|(_, database)| database);
    let database = found.filter(|database| database.state == "ONLINE");
    let Some(database) = database else {
        let words = format!("Database '{name}' cannot be opened because it is offline.");
        return Err(vec![Said::new(942, 14, words)]);
    };
    let with_changes = sql.contains("dm_db_index_operational_stats");
    if with_changes && engine.switches.hide_changes {
        let words = "VIEW DATABASE STATE permission denied in database.";
        return Err(vec![Said::new(262, 14, words)]);
    }
    let row = |(table, rows): (&String, &u64)| {
        let (schema, table_name) = table.split_once('.').unwrap_or(("dbo", table));
        let changes = database.changes.get(table).copied().unwrap_or_default();
        vec![
            Cell::Text(Some(schema.to_owned())),
            Cell::Text(Some(table_name.to_owned())),
            Cell::Int(i64::try_from(*rows).ok()),
            Cell::Int(with_changes.then(|| i64::try_from(changes).ok()).flatten()),
        ]
    };
    let rows: Vec<Vec<Cell>> = database.rows().iter().map(row).collect();
    let columns = ["schema_name", "table_name", "row_count", "changes"];
    let like = [
        Cell::Text(None),
        Cell::Text(None),
        Cell::Int(None),
        Cell::Int(None),
    ];
    reply.rows(&columns, &rows, &like);
    Ok(())
}

//! What a server says of itself, of a database, of the rows in it, and of a backup file.

use std::collections::BTreeMap;

use super::session::{Patience, Row, Session};
use super::sql;
use crate::database::error::{Cause, DatabaseError};

/// What a server is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Server {
    version: String,
    edition: String,
    /// Where files of new databases lie.
    pub data_path: String,
    pub log_path: String,
}

impl Server {
    /// For people.
    pub fn shown(&self) -> String {
        format!("SQL Server {} ({})", self.version, self.edition)
    }
}

/// Asks a server what it is.
pub(super) fn server(session: &mut Session<'_>) -> Result<Server, DatabaseError> {
    let property = |name: &str, column: &str| {
        format!("CAST(SERVERPROPERTY('{name}') AS nvarchar(4000)) AS {column}")
    };
    let sql = [
        property("ProductVersion", "version"),
        property("Edition", "edition"),
        property("InstanceDefaultDataPath", "data_path"),
        property("InstanceDefaultLogPath", "log_path"),
    ];
    let rows = session.ask(&format!("SELECT {}", sql.join(", ")), "ask for the version")?;
    let row = rows.into_iter().next().unwrap_or_default();
    Ok(Server {
        version: row.text("version").to_owned(),
        edition: row.text("edition").to_owned(),
        data_path: row.text("data_path").to_owned(),
        log_path: row.text("log_path").to_owned(),
    })
}

/// A database, as the list of all has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Listed {
    /// As the server writes it, which may tell capitals from others less strictly than we do.
    pub name: String,
    state: String,
    pub access: String,
    pub recovery: String,
    pub collation: String,
    pub is_encrypted: bool,
    /// What no backup holds: the login that owns it, whether the server trusts it, and whether its
    /// Service Broker is on.
    pub owner: String,
    pub is_trustworthy: bool,
    pub has_broker: bool,
    /// Whether the login sees all tables, and what comes and goes in them.
    pub sees_tables: bool,
    pub sees_changes: bool,
}

impl Listed {
    /// Fails when the database cannot be read.
    pub fn online(&self, name: &str) -> Result<(), DatabaseError> {
        if self.state == "ONLINE" {
            return Ok(());
        }
        let what = format!(
            "the database {name} is not online: its state is {}",
            self.state
        );
        Err(DatabaseError::new(Cause::Failed, what)
            .hint("bring it online, or leave it out: nothing can be read from it as it is"))
    }
}

/// Looks a database up; `None` when there is none of that name.
pub(super) fn find(session: &mut Session<'_>, name: &str) -> Result<Option<Listed>, DatabaseError> {
    let may = |right: &str, column: &str| {
        format!("HAS_PERMS_BY_NAME(QUOTENAME(name), 'DATABASE', '{right}') AS {column}")
    };
    let sql = format!(
        "SELECT name, state_desc AS state, user_access_desc AS access, \
         recovery_model_desc AS recovery, collation_name AS collation, \
         is_encrypted AS encrypted, SUSER_SNAME(owner_sid) AS owner, \
         is_trustworthy_on AS trustworthy, is_broker_enabled AS broker, {}, {} \
         FROM sys.databases WHERE name = {}",
        may("VIEW DEFINITION", "sees_tables"),
        may("VIEW DATABASE STATE", "sees_changes"),
        sql::text(name)
    );
    let rows = session.ask(&sql, &format!("look up {name}"))?;
    Ok(rows.first().map(|row| Listed {
        name: row.text("name").to_owned(),
        state: row.text("state").to_owned(),
        access: row.text("access").to_owned(),
        recovery: row.text("recovery").to_owned(),
        collation: row.text("collation").to_owned(),
        is_encrypted: row.is("encrypted"),
        owner: row.text("owner").to_owned(),
        is_trustworthy: row.is("trustworthy"),
        has_broker: row.is("broker"),
        sees_tables: row.is("sees_tables"),
        sees_changes: row.is("sees_changes"),
    }))
}

/// Looks up a database that must be there.
pub(super) fn database(session: &mut Session<'_>, name: &str) -> Result<Listed, DatabaseError> {
    find(session, name)?.ok_or_else(|| {
        let what = format!("there is no database {name}, or this login does not see it");
        DatabaseError::new(Cause::Absent, what).hint("is its name right?")
    })
}

/// Rows of a table, and a number that grows with each that came or went, where it can be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Count {
    pub rows: u64,
    changes: Option<u64>,
}

/// Rows of all tables at one moment, as the server keeps count of them: no table is read.
pub(super) type Counts = BTreeMap<String, Count>;

/// Counts. The numbers include what transactions have done that are not committed.
pub(super) fn counts(
    session: &mut Session<'_>,
    name: &str,
    listed: &Listed,
) -> Result<Counts, DatabaseError> {
    let doing = format!("count the rows of {name}");
    let mut ask = |with_changes| session.ask(&sql::counts(name, with_changes), &doing);
    let rows = match ask(listed.sees_changes) {
        // Other rights than it said: the numbers alone will do.
        Err(e) if listed.sees_changes && e.cause == Cause::Denied => ask(false)?,
        rows => rows?,
    };
    let count = |row: &Row| {
        let table = format!("{}.{}", row.text("schema_name"), row.text("table_name"));
        let count = Count {
            rows: row.number("row_count").unwrap_or_default(),
            changes: row.number("changes"),
        };
        (table, count)
    };
    Ok(rows.iter().map(count).collect())
}

/// What a backup file says of the first backup in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Header(Row);

/// Reads what a backup file says of itself.
pub(super) fn header(session: &mut Session<'_>, file: &str) -> Result<Header, DatabaseError> {
    let rows = session.ask(&sql::header_only(file), "read the head of the backup")?;
    match rows.len() {
        1 => Ok(Header(rows.into_iter().next().unwrap_or_default())),
        n => {
            let what = format!("the backup file holds {n} backups instead of one");
            Err(DatabaseError::new(Cause::Incomplete, what))
        }
    }
}

impl Header {
    /// The database's name when the backup was made.
    pub fn database(&self) -> &str {
        self.0.text("DatabaseName")
    }

    /// Fails unless this is a backup of a whole database without known damage.
    pub fn whole(&self) -> Result<(), DatabaseError> {
        let what = match () {
            () if self.0.text("BackupType") != "1" => "it is no backup of a whole database",
            () if self.0.is("IsDamaged") => "the server found damage while it wrote it",
            () if self.0.is("HasIncompleteMetaData") => "the end of the log is not in it",
            () => return Ok(()),
        };
        Err(DatabaseError::new(
            Cause::Incomplete,
            format!("the backup does not count: {what}"),
        )
        .hint("look through the database with DBCC CHECKDB"))
    }

    /// Whether every page in it has a checksum.
    pub fn has_checksums(&self) -> bool {
        self.0.is("HasBackupChecksums")
    }

    /// Whether a transaction was open when the backup began, by where its log begins. Nothing
    /// says so when the numbers are missing.
    pub fn was_open(&self) -> bool {
        let (first, checkpoint) = (self.0.text("FirstLSN"), self.0.text("CheckpointLSN"));
        // Decimal numbers without leading zeros.
        (first.len(), first) < (checkpoint.len(), checkpoint)
    }

    /// What a person may want to know of it later.
    pub fn properties(&self) -> Vec<(String, String)> {
        let names = [
            ("collation", "Collation"),
            ("compatibility_level", "CompatibilityLevel"),
            ("database", "DatabaseName"),
            ("database_version", "DatabaseVersion"),
            ("finished", "BackupFinishDate"),
            ("recovery_model", "RecoveryModel"),
        ];
        let found = names.map(|(name, column)| (name.to_owned(), self.0.text(column).to_owned()));
        found
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .collect()
    }
}

/// One file of a database in a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Inside {
    pub logical: String,
    pub physical: String,
    /// `D` data, `L` log, `S` a folder of FILESTREAM or of tables in memory, `F` full text.
    pub kind: String,
    pub size: u64,
}

/// Reads which files a backup is of.
pub(super) fn files(session: &mut Session<'_>, file: &str) -> Result<Vec<Inside>, DatabaseError> {
    let rows = session.ask(
        &sql::file_list_only(file),
        "read the file list of the backup",
    )?;
    let inside = |row: &Row| Inside {
        logical: row.text("LogicalName").to_owned(),
        physical: row.text("PhysicalName").to_owned(),
        kind: row.text("Type").to_owned(),
        size: row.number("Size").unwrap_or_default(),
    };
    let files: Vec<Inside> = rows.iter().map(inside).collect();
    match files.iter().any(|file| file.kind == "D") {
        true => Ok(files),
        false => {
            let what = "the backup names no data file";
            Err(DatabaseError::new(Cause::Incomplete, what))
        }
    }
}

/// Lets the server read a backup from end to end.
pub(super) fn verify(
    session: &mut Session<'_>,
    file: &str,
    has_checksums: bool,
) -> Result<(), DatabaseError> {
    let sql = sql::verify_only(file, has_checksums);
    session.tell(&sql, "verify the backup", Patience::Endless)
}

/// Which tables' rows are not certainly those of the backup, and why: what was counted before it
/// began and after it ended is not the same, or rows came or went in between.
pub(super) fn unsure(before: &Counts, after: &Counts, was_open: bool) -> BTreeMap<String, String> {
    let mut unsure = BTreeMap::new();
    for (table, last) in after {
        let why = match before.get(table) {
            None => "new".to_owned(),
            Some(first) if first.rows != last.rows => format!("{} before", first.rows),
            Some(first) if first.changes != last.changes => "changed".to_owned(),
            Some(_) if was_open => "open transaction".to_owned(),
            Some(_) => continue,
        };
        unsure.insert(table.clone(), why);
    }
    unsure
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(all: &[(&str, u64, Option<u64>)]) -> Counts {
        let count = |(table, rows, changes): &(&str, u64, Option<u64>)| {
            let count = Count {
                rows: *rows,
                changes: *changes,
            };
            ((*table).to_owned(), count)
        };
        all.iter().map(count).collect()
    }

    #[test]
    fn only_what_nothing_touched_is_sure() {
        let before = counts(&[
            ("a", 1, Some(5)),
            ("b", 2, Some(5)),
            ("c", 3, None),
            ("d", 4, None),
        ]);
        let after = counts(&[
            ("a", 1, Some(5)),
            ("b", 2, Some(9)),
            ("c", 4, None),
            ("e", 4, None),
        ]);
        let found = unsure(&before, &after, false);
        let found: Vec<_> = found
            .iter()
            .map(|(t, why)| (t.as_str(), why.as_str()))
            .collect();
        assert_eq!(found, [("b", "changed"), ("c", "3 before"), ("e", "new")]);
        assert_eq!(unsure(&before, &before, false).len(), 0);
        assert_eq!(unsure(&before, &before, true).len(), 4);
    }
}

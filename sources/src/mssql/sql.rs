//! Names and texts in Transact-SQL. Nothing that anybody typed goes into a statement but through
//! here; passwords go into none.

use std::fmt::Write;

/// A name: `[a]]b]`.
pub(super) fn name(text: &str) -> String {
    format!("[{}]", text.replace(']', "]]"))
}

/// A text: `N'it''s'`.
pub(super) fn text(text: &str) -> String {
    format!("N'{}'", text.replace('\'', "''"))
}

/// Writes a backup of a database into a file of the server. One percent after the other is told,
/// so a server that is silent for long hangs.
pub(super) fn backup(database: &str, file: &str) -> String {
    format!(
        "BACKUP DATABASE {} TO DISK = {} \
         WITH COPY_ONLY, CHECKSUM, NO_COMPRESSION, FORMAT, INIT, STATS = 1",
        name(database),
        text(file)
    )
}

/// Reads a whole backup file and compares its checksums, if it has any.
pub(super) fn verify_only(file: &str, has_checksums: bool) -> String {
    let checksum = if has_checksums { "CHECKSUM, " } else { "" };
    let file = text(file);
    format!("RESTORE VERIFYONLY FROM DISK = {file} WITH {checksum}STATS = 1")
}

/// What a backup file says of itself.
pub(super) fn header_only(file: &str) -> String {
    format!("RESTORE HEADERONLY FROM DISK = {}", text(file))
}

/// Which files a backup is of.
pub(super) fn file_list_only(file: &str) -> String {
    format!("RESTORE FILELISTONLY FROM DISK = {}", text(file))
}

/// Whether the server finds a file at all.
pub(super) fn label_only(file: &str) -> String {
    format!("RESTORE LABELONLY FROM DISK = {}", text(file))
}

/// Makes a database of a backup file, with its files at other places: logical name, path.
pub(super) fn restore(
    database: &str,
    file: &str,
    moves: &[(String, String)],
    has_checksums: bool,
) -> String {
    let mut sql = format!(
        "RESTORE DATABASE {} FROM DISK = {} WITH ",
        name(database),
        text(file)
    );
    for (logical, path) in moves {
        // Writing into a text cannot fail.
        let _ = write!(sql, "MOVE {} TO {}, ", text(logical), text(path));
    }
    if has_checksums {
        sql.push_str("CHECKSUM, ");
    }
    sql.push_str("RECOVERY, STATS = 1");
    sql
}

/// Gives a database another name.
pub(super) fn rename(from: &str, to: &str) -> String {
    format!("ALTER DATABASE {} MODIFY NAME = {}", name(from), name(to))
}

/// Enters a database.
pub(super) fn enter(database: &str) -> String {
    format!("USE {}", name(database))
}

/// Gives a database to a login.
pub(super) fn give_to(database: &str, owner: &str) -> String {
    let (database, owner) = (name(database), name(owner));
    format!("ALTER AUTHORIZATION ON DATABASE::{database} TO {owner}")
}

/// Lets the server trust what is in a database.
pub(super) fn trust(database: &str) -> String {
    format!("ALTER DATABASE {} SET TRUSTWORTHY ON", name(database))
}

/// Removes a database, whoever uses it.
pub(super) fn drop(database: &str) -> String {
    let closed = access(database, Access::Single);
    format!("{closed}; DROP DATABASE {}", name(database))
}

/// Who may use a database: `SINGLE_USER`, `MULTI_USER`, `RESTRICTED_USER`; others are thrown out.
pub(super) fn access(database: &str, who: Access) -> String {
    let who = match who {
        Access::Single => "SINGLE_USER",
        Access::Multi => "MULTI_USER",
        Access::Restricted => "RESTRICTED_USER",
    };
    let database = name(database);
    format!("ALTER DATABASE {database} SET {who} WITH ROLLBACK IMMEDIATE")
}

/// Who may use a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Single,
    Multi,
    Restricted,
}

/// Rows of every table of the users, and a number that grows with each row that came or went,
/// where the login may see it.
pub(super) fn counts(database: &str, with_changes: bool) -> String {
    let db = name(database);
    let (changes, join) = match with_changes {
        true => (
            "SUM(o.changes)",
            // A columnstore has several lines for one partition.
            format!(
                " LEFT JOIN (SELECT object_id, index_id, partition_number, \
                 SUM(leaf_insert_count + leaf_delete_count + leaf_ghost_count) AS changes \
                 FROM sys.dm_db_index_operational_stats(DB_ID({}), NULL, NULL, NULL) \
                 GROUP BY object_id, index_id, partition_number) o \
                 ON o.object_id = p.object_id AND o.index_id = p.index_id \
                 AND o.partition_number = p.partition_number",
                text(database)
            ),
        ),
        false => ("CAST(NULL AS bigint)", String::new()),
    };
    format!(
        "SELECT s.name AS schema_name, t.name AS table_name, SUM(p.rows) AS row_count, \
         {changes} AS changes FROM {db}.sys.tables t \
         JOIN {db}.sys.schemas s ON s.schema_id = t.schema_id \
         JOIN {db}.sys.partitions p ON p.object_id = t.object_id AND p.index_id IN (0, 1){join} \
         WHERE t.is_ms_shipped = 0 GROUP BY s.name, t.name"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_typed_ends_its_name_or_text() {
        assert_eq!(name("a]; DROP TABLE b --"), "[a]]; DROP TABLE b --]");
        assert_eq!(text("it's"), "N'it''s'");
        let sql = backup("x]y", r"C:\o'brien\a.tmp");
        let to = r"BACKUP DATABASE [x]]y] TO DISK = N'C:\o''brien\a.tmp' WITH COPY_ONLY, ";
        assert!(sql.starts_with(to), "{sql}");
        let moves = [("d'a".to_owned(), "/d/a'.mdf".to_owned())];
        let sql = restore("n]", "/f", &moves, false);
        let whole = "RESTORE DATABASE [n]]] FROM DISK = N'/f' WITH \
                     MOVE N'd''a' TO N'/d/a''.mdf', RECOVERY, STATS = 1";
        assert_eq!(sql, whole);
    }
}

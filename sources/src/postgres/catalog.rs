//! What a database holds, as its catalogs have it in one snapshot.

use super::names::{TableName, quoted};
use super::session::{Field, Session};
use crate::database::error::{Cause, DatabaseError};

/// A table whose rows are read.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub oid: u32,
    pub name: TableName,
    /// Columns whose values are stored, in SQL; generated ones are made again.
    pub columns: Vec<String>,
    /// Columns that tell rows apart, in SQL and in their order; empty: nothing does.
    pub key: Vec<String>,
    /// Which rows belong to the user, of a table that an extension made: `WHERE …`.
    pub condition: String,
    /// Bytes on the server's disk.
    pub bytes: u64,
}

/// Tables of users: no partitioned ones (their partitions hold the rows), no foreign or temporary
/// ones. Those of extensions only where the extension says that their rows are the user's.
const TABLES: &str = "
SELECT c.oid, n.nspname, c.relname, pg_relation_size(c.oid),
       coalesce(e.condition, ''),
       coalesce((SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum)
                 FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0
                 AND NOT a.attisdropped AND a.attgenerated = ''), ''),
       coalesce((SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY k.n)
                 FROM unnest(key.indkey) WITH ORDINALITY AS k(attnum, n)
                 JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
                 WHERE k.n <= key.indnkeyatts), '')
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN LATERAL (
    SELECT i.indkey, i.indnkeyatts FROM pg_index i
    WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indimmediate
    AND i.indpred IS NULL AND i.indexprs IS NULL
    AND NOT EXISTS (SELECT 1 FROM pg_attribute a
                    WHERE a.attrelid = c.oid AND a.attnum = ANY (i.indkey) AND NOT a.attnotnull)
    ORDER BY i.indisprimary DESC, i.indnkeyatts, i.indexrelid LIMIT 1) key ON true
LEFT JOIN LATERAL (
    SELECT x.extcondition[array_position(x.extconfig, c.oid)] AS condition
    FROM pg_extension x WHERE c.oid = ANY (x.extconfig) LIMIT 1) e ON true
WHERE c.relkind = 'r' AND c.relpersistence <> 't'
AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
AND (e.condition IS NOT NULL OR NOT EXISTS (
    SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
    AND d.deptype = 'e'))
ORDER BY n.nspname, c.relname";

/// All tables.
pub(super) fn tables(session: &Session) -> Result<Vec<Table>, DatabaseError> {
    let rows = session.rows(TABLES)?;
    rows.into_iter().map(table).collect()
}

fn table(row: Vec<Field>) -> Result<Table, DatabaseError> {
    let mut fields = row.into_iter().map(Option::unwrap_or_default);
    let mut next = || fields.next().unwrap_or_default();
    let bad = || DatabaseError::new(Cause::Failed, "the catalogs cannot be read");
    Ok(Table {
        oid: next().parse().map_err(|_| bad())?,
        name: TableName {
            schema: next(),
            name: next(),
        },
        bytes: next().parse().unwrap_or(0),
        condition: next(),
        columns: split(&next()),
        key: split(&next()),
    })
}

/// Splits a list of quoted names.
pub(super) fn split(list: &str) -> Vec<String> {
    let (mut all, mut one, mut inside) = (Vec::new(), String::new(), false);
    for c in list.chars() {
        match c {
            ',' if !inside => all.push(std::mem::take(&mut one)),
            ' ' if !inside && one.is_empty() => {}
            c => {
                inside ^= c == '"';
                one.push(c);
            }
        }
    }
    if !one.is_empty() {
        all.push(one);
    }
    all
}

/// Tables that were rewritten, truncated or dropped since the snapshot: what the server would read
/// now is not what the snapshot shows. Both sides are asked at once: the catalogs show the
/// snapshot, the function what is there now.
pub(super) fn changed(session: &Session, tables: &[Table]) -> Result<Vec<String>, DatabaseError> {
    if tables.is_empty() {
        return Ok(Vec::new());
    }
    let oids: Vec<String> = tables.iter().map(|table| table.oid.to_string()).collect();
    let sql = format!(
        "SELECT n.nspname || '.' || c.relname FROM pg_class c
         JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.oid = ANY ('{{{}}}'::oid[])
         AND pg_relation_filenode(c.oid) IS DISTINCT FROM
             CASE WHEN c.relfilenode = 0 THEN pg_relation_filenode(c.oid)
             ELSE c.relfilenode END",
        oids.join(",")
    );
    let rows = session.rows(&sql)?;
    Ok(rows.into_iter().flatten().flatten().collect())
}

/// Sequences of users that are wanted, and where they stand, as statements that put them there.
pub(super) fn sequences(
    session: &Session,
    is_wanted: &dyn Fn(&TableName) -> bool,
) -> Result<Vec<String>, DatabaseError> {
    let sql = "SELECT n.nspname, c.relname FROM pg_class c
        JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind = 'S' AND c.relpersistence <> 't'
        AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
        AND (EXISTS (SELECT 1 FROM pg_extension e WHERE c.oid = ANY (e.extconfig))
             OR NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                            AND d.objid = c.oid AND d.deptype = 'e'))
        ORDER BY n.nspname, c.relname";
    let mut statements = Vec::new();
    for row in session.rows(sql)? {
        let mut names = row.into_iter().map(Option::unwrap_or_default);
        let name = TableName {
            schema: names.next().unwrap_or_default(),
            name: names.next().unwrap_or_default(),
        };
        if !is_wanted(&name) {
            continue;
        }
        let name = name.quoted();
        let sql = format!("SELECT last_value, is_called FROM {name}");
        let Some(row) = session.rows(&sql)?.into_iter().next() else {
            continue;
        };
        let mut values = row.into_iter().map(Option::unwrap_or_default);
        let last = values.next().unwrap_or_default();
        let called = values.next().unwrap_or_default() == "t";
        let name = super::names::literal(&name);
        statements.push(format!(
            "SELECT pg_catalog.setval({name}, {last}, {called});\n"
        ));
    }
    Ok(statements)
}

/// What is known of the database itself, by names of properties.
pub(super) fn properties(session: &Session) -> Result<Vec<(String, String)>, DatabaseError> {
    let provider = match session.version {
        150_000.. => "datlocprovider",
        _ => "'c'",
    };
    let locale = match session.version {
        170_000.. => "datlocale",
        150_000.. => "daticulocale",
        _ => "NULL::text",
    };
    let sql = format!(
        "SELECT pg_encoding_to_char(encoding), datcollate, datctype, {provider}, {locale},
                (SELECT string_agg(extname || ' ' || extversion, ', ' ORDER BY extname)
                 FROM pg_extension WHERE extname <> 'plpgsql'),
                pg_get_userbyid(datdba)
         FROM pg_database WHERE datname = current_database()"
    );
    let rows = session.rows(&sql)?;
    let names = [
        "encoding",
        "collate",
        "ctype",
        "locale_provider",
        "locale",
        "extensions",
        "owner",
    ];
    let values = rows.into_iter().next().unwrap_or_default();
    let pairs = names.iter().zip(values);
    let mut all: Vec<(String, String)> = pairs
        .filter_map(|(name, value)| Some(((*name).to_owned(), value?)))
        .collect();
    all.sort();
    Ok(all)
}

/// Names of settings that are lists of names.
const LISTS: [&str; 6] = [
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
];

/// A list of names as the server keeps it, each as a text in SQL. What is between commas is taken
/// as it is: it may come from somebody who would like to end the statement here.
fn listed(value: &str) -> String {
    let name = |one: String| {
        let one = one.trim();
        let quoted = one
            .strip_prefix('"')
            .map(|o| o.strip_suffix('"').unwrap_or(o));
        super::names::literal(&quoted.map_or(one.to_owned(), |o| o.replace("\"\"", "\"")))
    };
    let names: Vec<String> = split(value).into_iter().map(name).collect();
    match names.is_empty() {
        true => "''".to_owned(),
        false => names.join(", "),
    }
}

/// How statements about a database itself begin, whose name stands as `:"DBNAME"`.
const OF_DATABASE: [&str; 5] = [
    "ALTER DATABASE :\"DBNAME\" ",
    "ALTER ROLE ",
    "COMMENT ON DATABASE :\"DBNAME\" ",
    "GRANT ",
    "REVOKE ALL ON DATABASE :\"DBNAME\" ",
];

/// The statements of a stored script about a database, one by one, for a database of this name.
///
/// # Errors
/// When one of them is about anything else.
pub(super) fn for_database(script: &str, name: &str) -> Result<Vec<String>, DatabaseError> {
    let statements = super::script::statements(script);
    let own = |statement: &String| {
        let begins = OF_DATABASE.iter().any(|word| statement.starts_with(word));
        begins && statement.contains(" DATABASE :\"DBNAME\" ")
    };
    if let Some(other) = statements.iter().find(|statement| !own(statement)) {
        let what = format!("database.sql says something that is not about the database: {other}");
        return Err(DatabaseError::new(Cause::Damaged, what));
    }
    let name = quoted(name);
    let named = |statement: String| statement.replacen(":\"DBNAME\"", &name, 1);
    Ok(statements.into_iter().map(named).collect())
}

/// What belongs to the database itself and to nothing in it, as a script: settings, comment,
/// privileges. `:"DBNAME"` stands for its name, as in `psql`.
pub(super) fn of_database(session: &Session) -> Result<String, DatabaseError> {
    let mut script = String::new();
    let settings = "SELECT coalesce(r.rolname, ''), s.setting FROM pg_db_role_setting d
        JOIN pg_database b ON b.oid = d.setdatabase AND b.datname = current_database()
        LEFT JOIN pg_roles r ON r.oid = d.setrole
        CROSS JOIN LATERAL unnest(d.setconfig) AS s(setting)
        WHERE d.setrole = 0 OR r.rolname IS NOT NULL
        ORDER BY 1, 2";
    for row in session.rows(settings)? {
        let mut fields = row.into_iter().map(Option::unwrap_or_default);
        let (role, setting) = (
            fields.next().unwrap_or_default(),
            fields.next().unwrap_or_default(),
        );
        let Some((name, value)) = setting.split_once('=') else {
            continue;
        };
        let value = match LISTS.contains(&name) {
            true => listed(value),
            false => super::names::literal(value),
        };
        let whose = match role.is_empty() {
            true => "ALTER DATABASE :\"DBNAME\"".to_owned(),
            false => format!("ALTER ROLE {} IN DATABASE :\"DBNAME\"", quoted(&role)),
        };
        script.push_str(&format!("{whose} SET {} TO {value};\n", quoted(name)));
    }
    let limit = "SELECT nullif(datconnlimit, -1) FROM pg_database
        WHERE datname = current_database()";
    if let Some(limit) = session.value(limit)? {
        script.push_str(&format!(
            "ALTER DATABASE :\"DBNAME\" CONNECTION LIMIT {limit};\n"
        ));
    }
    let comment = "SELECT shobj_description(oid, 'pg_database') FROM pg_database
        WHERE datname = current_database()";
    if let Some(comment) = session.value(comment)? {
        let comment = super::names::literal(&comment);
        script.push_str(&format!("COMMENT ON DATABASE :\"DBNAME\" IS {comment};\n"));
    }
    let grants = "SELECT coalesce(quote_ident(r.rolname), 'PUBLIC'), a.privilege_type,
            a.is_grantable
        FROM pg_database d CROSS JOIN LATERAL aclexplode(d.datacl) a
        LEFT JOIN pg_roles r ON r.oid = a.grantee
        WHERE d.datname = current_database() AND a.grantee <> d.datdba
        AND (a.grantee = 0 OR r.rolname IS NOT NULL) ORDER BY 1, 2";
    let has_list = "SELECT datacl IS NOT NULL FROM pg_database WHERE datname = current_database()";
    if session.value(has_list)?.as_deref() == Some("t") {
        script.push_str("REVOKE ALL ON DATABASE :\"DBNAME\" FROM PUBLIC;\n");
        for row in session.rows(grants)? {
            let fields: Vec<String> = row.into_iter().map(Option::unwrap_or_default).collect();
            let [role, privilege, grantable] = fields.as_slice() else {
                continue;
            };
            let further = if grantable == "t" {
                " WITH GRANT OPTION"
            } else {
                ""
            };
            script.push_str(&format!(
                "GRANT {privilege} ON DATABASE :\"DBNAME\" TO {role}{further};\n"
            ));
        }
    }
    Ok(script)
}

#[cfg(test)]
mod tests {
    use super::{for_database, listed, split};

    #[test]
    fn lists_that_would_say_more_are_only_lists() {
        for (kept, written) in [
            ("", "''"),
            ("a, \"B c\"", "'a', 'B c'"),
            ("\"$user\", public", "'$user', 'public'"),
            ("a;drop database x", "'a;drop database x'"),
            ("a;\\! id,'b", "E'a;\\\\! id', '''b'"),
            ("\"it\"\"s, one\"", "'it\"s, one'"),
        ] {
            assert_eq!(listed(kept), written);
        }
    }

    #[test]
    fn a_script_about_a_database_is_about_nothing_else() {
        let comment = "COMMENT ON DATABASE :\"DBNAME\" IS 'a;\n:\"DBNAME\"; b'";
        let grant = "GRANT CONNECT ON DATABASE :\"DBNAME\" TO ana";
        let found = for_database(&format!("{comment};\n{grant};\n"), "sh\"op").unwrap();
        let named = |statement: &str| statement.replacen(":\"DBNAME\"", "\"sh\"\"op\"", 1);
        assert_eq!(found, [named(comment), named(grant)]);
        for evil in [
            "DROP DATABASE x;\n",
            "\\! id\n",
            "GRANT a TO b;\n",
            "ALTER DATABASE :\"DBNAME\" SET search_path TO a;\ndrop database x;\n",
        ] {
            for_database(evil, "shop").unwrap_err();
        }
    }

    #[test]
    fn lists_of_names() {
        assert_eq!(split("a, \"b, \"\"c\", d"), ["a", "\"b, \"\"c\"", "d"]);
        assert!(split("").is_empty());
    }
}

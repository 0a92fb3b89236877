//! Which tables of a database are stored, and what cannot stand without the others.
//!
//! A snapshot of some tables holds all else that a database is made of: schemas, types, functions,
//! extensions. So it can be restored into an empty database. What needs a table that is left out is
//! left out with it, and told: views, foreign keys, functions, policies. What cannot be taken out
//! of the thing that it belongs to, such as a column of a table's type, is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Postgres;
use super::catalog::Table;
use super::left_out::{LeftOut, Thing};
use super::names::{Pattern, TableName, like, quoted};
use super::session::{Field, Session};
use crate::database::Part;
use crate::database::error::{Cause, DatabaseError};

/// Most things that one warning names.
const NAMED: usize = 12;

/// What a choice of tables comes to.
#[derive(Debug, Default)]
pub(super) struct Selection {
    /// Relations that are not stored.
    out: BTreeSet<u32>,
    /// The same and sequences, by name, for `pg_dump`.
    excluded: BTreeSet<TableName>,
    /// Schemas of which something is stored.
    schemas: BTreeSet<String>,
    /// Relations that are stored without their rows, and those of extensions that are not chosen:
    /// they come with their extension.
    empty: BTreeSet<u32>,
    /// The same, by name.
    emptied: Vec<TableName>,
    /// Large objects are not stored.
    no_large_objects: bool,
    /// What is left out of scripts, for it needs a relation that is not there.
    pub left_out: Arc<LeftOut>,
    /// What to say of that.
    pub warnings: Vec<String>,
}

impl Selection {
    /// Finds out what is stored.
    ///
    /// # Errors
    /// [`Cause::Absent`] when a pattern means nothing, [`Cause::Failed`] when something that is
    /// stored cannot stand without what is not.
    pub fn of(source: &Postgres, session: &Session) -> Result<Selection, DatabaseError> {
        let wanted = &source.wanted;
        if wanted.is_all() {
            return Ok(Selection::default());
        }
        let relations = relations(session)?;
        for pattern in &wanted.tables {
            if !relations.iter().any(|r| pattern.matches(&r.name)) {
                let what = format!("no table is like {:?}", pattern.typed());
                return Err(DatabaseError::new(Cause::Absent, what)
                    .hint("write SCHEMA.TABLE, with `*` for any letters"));
            }
        }
        let mut selection = wanted.choose(&relations);
        if source.part != Part::Data {
            selection.follow(session, source.part)?;
        }
        let out = |r: &Relation| selection.out.contains(&r.oid);
        for pattern in &wanted.tables {
            let is_stored = |r: &Relation| pattern.matches(&r.name) && !out(r);
            if !relations.iter().any(is_stored) {
                let what = format!("nothing like {:?} can be stored", pattern.typed());
                return Err(DatabaseError::new(Cause::Absent, what)
                    .hint("a view needs the tables that it reads: name them as well"));
            }
        }
        let named = |some: &dyn Fn(&Relation) -> bool| -> Vec<TableName> {
            let some = relations.iter().filter(|r| some(r));
            some.map(|r| r.name.clone()).collect()
        };
        let stored = named(&|r| !selection.out.contains(&r.oid));
        let (left, kept) = sequences(session, wanted, &selection)?;
        let kept = stored.into_iter().chain(kept);
        selection.schemas = kept.map(|name| name.schema).collect();
        selection.excluded = named(&out).into_iter().chain(left).collect();
        selection.emptied = named(&|r| selection.empty.contains(&r.oid));
        Ok(selection)
    }

    /// Whether a table is stored, with its rows or without.
    pub fn has(&self, table: &Table) -> bool {
        !self.out.contains(&table.oid)
    }

    /// Whether the rows of a table are stored.
    pub fn has_rows_of(&self, table: &Table) -> bool {
        self.has(table) && !self.empty.contains(&table.oid)
    }

    /// Whether a sequence is stored.
    pub fn has_sequence(&self, name: &TableName) -> bool {
        !self.excluded.contains(name)
    }

    /// The same for `pg_dump`, by exact names.
    pub fn options(&self) -> Vec<String> {
        let named = |option: &'static str, name: &TableName| format!("{option}={}", name.quoted());
        // It looks up each name by itself, so that thousands would take their time.
        let whole = |name: &&TableName| !self.schemas.contains(&name.schema);
        let schemas: BTreeSet<&str> = (self.excluded.iter().filter(whole))
            .map(|name| name.schema.as_str())
            .collect();
        let schemas = schemas.into_iter();
        let schemas = schemas.map(|schema| format!("--exclude-table={}.*", quoted(schema)));
        let out = self.excluded.iter().filter(|name| !whole(name));
        let out = out.map(|name| named("--exclude-table", name));
        let empty = self.emptied.iter();
        let empty = empty.map(|name| named("--exclude-table-data", name));
        let blobs = self.no_large_objects.then(|| "--no-blobs".to_owned());
        schemas.chain(out).chain(empty).chain(blobs).collect()
    }

    /// Adds what depends on relations that are left out.
    fn follow(&mut self, session: &Session, part: Part) -> Result<(), DatabaseError> {
        let (mut named, mut refused) = (Vec::new(), Vec::new());
        let mut left_out = LeftOut::default();
        let sql = [GONE, DEPENDENTS].concat();
        for row in session.rows(&sql.replace("{out}", &array(&self.out)))? {
            let found = dependent(row)?;
            match found.thing.kind.as_str() {
                "" => refused.push(found.described),
                kind => {
                    named.extend(Some(found.described).filter(|d| !d.is_empty()));
                    match kind {
                        "VIEW" => drop(self.out.insert(found.oid)),
                        _ => left_out.add(found.thing),
                    }
                }
            }
        }
        if let Some(first) = refused.first() {
            let what = format!(
                "{first} needs something that is not to be stored, and cannot be left out by itself"
            );
            return Err(DatabaseError::new(Cause::Failed, what)
                .hint("store what it needs as well, or leave out its table, too"));
        }
        self.warn("left out, for what they need is not stored", &named);
        if part == Part::All {
            let mut named = Vec::new();
            for row in session.rows(&keys_to_empty(&self.out, &self.empty))? {
                let found = dependent(row)?;
                named.push(found.described);
                left_out.add(found.thing);
            }
            self.warn(
                "left out, for the rows that they refer to are not stored",
                &named,
            );
        }
        self.left_out = Arc::new(left_out);
        Ok(())
    }

    fn warn(&mut self, what: &str, named: &[String]) {
        if named.is_empty() {
            return;
        }
        let some = named.iter().take(NAMED).cloned().collect::<Vec<_>>();
        let more = match named.len() - some.len() {
            0 => String::new(),
            n => format!(" and {n} more"),
        };
        self.warnings
            .push(format!("{what}: {}{more}", some.join(", ")));
    }
}

/// What was asked for.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    pub tables: Vec<Pattern>,
    pub exclude_tables: Vec<Pattern>,
    pub exclude_data: Vec<Pattern>,
    pub schemas: Vec<String>,
    pub exclude_schemas: Vec<String>,
}

impl Wanted {
    fn is_all(&self) -> bool {
        self.tables.is_empty()
            && self.exclude_tables.is_empty()
            && self.exclude_data.is_empty()
            && self.schemas.is_empty()
            && self.exclude_schemas.is_empty()
    }

    /// Large objects belong to no table or schema.
    pub fn has_large_objects(&self) -> bool {
        self.tables.is_empty() && self.schemas.is_empty()
    }

    fn is_within(&self, name: &TableName) -> bool {
        self.schemas.is_empty() || self.schemas.iter().any(|s| like(s, &name.schema))
    }

    fn means(&self, name: &TableName) -> bool {
        let tables = &self.tables;
        (tables.is_empty() || tables.iter().any(|p| p.matches(name))) && self.is_within(name)
    }

    fn excludes(&self, name: &TableName) -> bool {
        self.exclude_tables.iter().any(|p| p.matches(name))
            || self.exclude_schemas.iter().any(|s| like(s, &name.schema))
    }

    /// A choice goes for the partitions of a table, and for those that inherit from it. What a
    /// stored table inherits from is stored as well.
    fn choose(&self, relations: &[Relation]) -> Selection {
        let named: BTreeMap<u32, &TableName> = relations.iter().map(|r| (r.oid, &r.name)).collect();
        let is = |r: &Relation, like: &dyn Fn(&TableName) -> bool| {
            let mut above = r.above.iter().filter_map(|oid| named.get(oid));
            like(&r.name) || above.any(|name| like(name))
        };
        let chosen =
            |r: &&Relation| is(r, &|name| self.means(name)) && !is(r, &|name| self.excludes(name));
        let mut stored: BTreeSet<u32> = BTreeSet::new();
        for relation in relations.iter().filter(chosen) {
            stored.insert(relation.oid);
            stored.extend(&relation.above);
        }
        let oids = |some: &dyn Fn(&Relation) -> bool| {
            relations
                .iter()
                .filter(|r| some(r))
                .map(|r| r.oid)
                .collect()
        };
        let is_empty = |name: &TableName| self.exclude_data.iter().any(|p| p.matches(name));
        Selection {
            out: oids(&|r| !stored.contains(&r.oid) && !r.is_of_extension),
            empty: oids(&|r| match stored.contains(&r.oid) {
                true => is(r, &is_empty),
                false => r.is_of_extension,
            }),
            no_large_objects: !self.has_large_objects(),
            ..Selection::default()
        }
    }
}

/// A table, view or foreign table.
#[derive(Debug, Clone)]
struct Relation {
    oid: u32,
    name: TableName,
    /// It comes with its extension, whatever is chosen; its rows may be the user's.
    is_of_extension: bool,
    /// What it inherits from, and what those inherit from.
    above: Vec<u32>,
}

fn relations(session: &Session) -> Result<Vec<Relation>, DatabaseError> {
    let sql = "
WITH RECURSIVE above(oid, parent) AS (
    SELECT inhrelid, inhparent FROM pg_inherits
    UNION SELECT a.oid, i.inhparent FROM above a JOIN pg_inherits i ON i.inhrelid = a.parent)
SELECT c.oid, n.nspname, c.relname, e.objid IS NOT NULL, i.parents
FROM pg_class c
LEFT JOIN (SELECT oid, string_agg(parent::text, ',') AS parents FROM above GROUP BY oid) i
     ON i.oid = c.oid
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_depend e ON e.classid = 'pg_class'::regclass AND e.objid = c.oid AND e.objsubid = 0
     AND e.deptype = 'e'
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relpersistence <> 't'
AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
AND (e.objid IS NULL OR EXISTS (SELECT 1 FROM pg_extension x WHERE c.oid = ANY (x.extconfig)))
ORDER BY n.nspname, c.relname";
    let relation = |row: Vec<Field>| {
        let mut fields = row.into_iter().map(Option::unwrap_or_default);
        let mut next = || fields.next().unwrap_or_default();
        Ok(Relation {
            oid: number(&next())?,
            name: TableName {
                schema: next(),
                name: next(),
            },
            is_of_extension: next() == "t",
            above: (next().split(',').filter(|oid| !oid.is_empty()))
                .map(number)
                .collect::<Result<_, _>>()?,
        })
    };
    session.rows(sql)?.into_iter().map(relation).collect()
}

fn number(text: &str) -> Result<u32, DatabaseError> {
    let bad = |_| DatabaseError::new(Cause::Failed, "the catalogs cannot be read");
    text.parse().map_err(bad)
}

/// Oids in SQL.
fn array(oids: &BTreeSet<u32>) -> String {
    let oids: Vec<String> = oids.iter().map(u32::to_string).collect();
    format!("'{{{}}}'::oid[]", oids.join(","))
}

/// Sequences that are not stored, and those that are. Not stored are those of tables that are not,
/// and those that were not chosen, unless something else needs them. An identity is a part of its
/// table.
fn sequences(
    session: &Session,
    wanted: &Wanted,
    selection: &Selection,
) -> Result<(Vec<TableName>, Vec<TableName>), DatabaseError> {
    let sql = format!(
        "{GONE}
SELECT n.nspname, c.relname, coalesce(o.deptype, ''), coalesce(o.refobjid = ANY ({{out}}), false),
       EXISTS (SELECT 1 FROM pg_depend d
               WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid
               AND d.deptype = 'n' AND (d.classid, d.objid) NOT IN (SELECT * FROM gone))
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_depend o ON o.classid = 'pg_class'::regclass AND o.objid = c.oid
     AND o.refclassid = o.classid AND o.deptype IN ('a', 'i')
WHERE c.relkind = 'S' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
ORDER BY 1, 2"
    );
    let (mut left, mut kept) = (Vec::new(), Vec::new());
    for row in session.rows(&sql.replace("{out}", &array(&selection.out)))? {
        let mut fields = row.into_iter().map(Option::unwrap_or_default);
        let mut next = || fields.next().unwrap_or_default();
        let name = TableName {
            schema: next(),
            name: next(),
        };
        let (owned, is_of_left, is_needed) = (next(), next() == "t", next() == "t");
        let is_left = match owned.as_str() {
            "i" => is_of_left,
            "a" => is_of_left && !is_needed,
            _ => !is_needed && (wanted.excludes(&name) || !wanted.means(&name)),
        };
        match is_left {
            true => left.push(name),
            false => kept.push(name),
        }
    }
    Ok((left, kept))
}

/// Something that needs what is left out.
struct Dependent {
    oid: u32,
    /// Without a kind: it is a part of something.
    thing: Thing,
    described: String,
}

fn dependent(row: Vec<Field>) -> Result<Dependent, DatabaseError> {
    let mut fields = row.into_iter();
    let mut next = || fields.next().flatten();
    Ok(Dependent {
        oid: number(&next().unwrap_or_default())?,
        thing: Thing {
            kind: next().unwrap_or_default(),
            schema: next().unwrap_or_default(),
            name: next().unwrap_or_default(),
            about: next().unwrap_or_default(),
        },
        described: next().unwrap_or_default(),
    })
}

/// What is a part of relations that are left out, and what depends on that, and so on. Sequences
/// end a chain, for they are kept where somebody needs them, but for identities, which are parts of
/// tables. What an extension makes comes with it. Of a foreign key of or to partitions the first
/// one is meant, which alone a script makes.
const GONE: &str = "
WITH RECURSIVE gone(classid, objid) AS (
    SELECT 'pg_class'::regclass::oid, c.oid FROM pg_class c WHERE c.oid = ANY ({out})
    UNION
    SELECT f.classid, f.objid FROM gone g CROSS JOIN LATERAL (
        SELECT d.classid, d.objid FROM pg_depend d
        WHERE d.refclassid = g.classid AND d.refobjid = g.objid AND d.deptype <> 'e'
        AND NOT EXISTS (SELECT 1 FROM pg_class s WHERE d.classid = 'pg_class'::regclass
                        AND s.oid = d.objid
                        AND (s.relkind = 't' OR s.relkind = 'S' AND d.deptype <> 'i'))
        AND NOT EXISTS (SELECT 1 FROM pg_depend e WHERE e.classid = d.classid
                        AND e.objid = d.objid AND e.deptype = 'e')
        UNION ALL
        SELECT 'pg_class'::regclass::oid, r.ev_class FROM pg_rewrite r
        WHERE g.classid = 'pg_rewrite'::regclass AND r.oid = g.objid
        AND r.rulename = '_RETURN'
        UNION ALL
        SELECT 'pg_type'::regclass::oid, c.reltype FROM pg_class c
        WHERE g.classid = 'pg_class'::regclass AND c.oid = g.objid AND c.relkind = 'c'
        UNION ALL
        SELECT 'pg_constraint'::regclass::oid, k.conparentid FROM pg_constraint k
        WHERE g.classid = 'pg_constraint'::regclass AND k.oid = g.objid AND k.contype = 'f'
        AND k.conparentid <> 0 AND k.conrelid <> ALL ({out})) f)";

/// What depends on relations that are left out beside what is a part of them: `oid, kind, schema,
/// name, about, description`, of which `name` and `about` as `pg_dump` has them.
const DEPENDENTS: &str = ",
relation(oid) AS (
    SELECT c.oid FROM gone g JOIN pg_class c ON g.classid = 'pg_class'::regclass AND c.oid = g.objid
    WHERE c.relkind IN ('v', 'm') OR c.oid = ANY ({out})),
thing(oid, kind, schema, relation, name, called, classid) AS (
    SELECT c.oid, CASE WHEN c.relkind IN ('v', 'm') THEN 'VIEW'
                       WHEN c.relkind IN ('i', 'I') AND k.oid IS NULL THEN 'INDEX' ELSE '' END,
           c.relnamespace, NULL, c.relname, c.relname, g.classid
    FROM gone g JOIN pg_class c ON g.classid = 'pg_class'::regclass AND c.oid = g.objid
    LEFT JOIN pg_index i ON i.indexrelid = c.oid
    LEFT JOIN pg_constraint k ON k.conindid = c.oid AND k.contype IN ('p', 'u', 'x')
    WHERE c.oid <> ALL ({out}) AND c.relkind NOT IN ('S', 't', 'c')
    AND coalesce(i.indrelid NOT IN (SELECT oid FROM relation), true)
    UNION ALL
    SELECT k.oid, CASE k.contype WHEN 'f' THEN 'FK CONSTRAINT' ELSE '' END,
           k.connamespace, k.conrelid, k.conname, k.conname, g.classid
    FROM gone g JOIN pg_constraint k ON g.classid = 'pg_constraint'::regclass AND k.oid = g.objid
    WHERE k.contype <> 't' AND k.conrelid NOT IN (SELECT oid FROM relation)
    AND NOT (k.contype = 'f' AND k.conparentid <> 0)
    AND NOT (k.contypid <> 0 AND EXISTS (SELECT 1 FROM gone t
             WHERE t.classid = 'pg_type'::regclass AND t.objid = k.contypid))
    UNION ALL
    SELECT r.oid, 'RULE', c.relnamespace, c.oid, r.rulename, r.rulename, g.classid
    FROM gone g JOIN pg_rewrite r ON g.classid = 'pg_rewrite'::regclass AND r.oid = g.objid
    JOIN pg_class c ON c.oid = r.ev_class WHERE c.oid NOT IN (SELECT oid FROM relation)
    UNION ALL
    SELECT t.oid, 'TRIGGER', c.relnamespace, c.oid, t.tgname, t.tgname, g.classid
    FROM gone g JOIN pg_trigger t ON g.classid = 'pg_trigger'::regclass AND t.oid = g.objid
    JOIN pg_class c ON c.oid = t.tgrelid
    WHERE NOT t.tgisinternal AND c.oid NOT IN (SELECT oid FROM relation)
    UNION ALL
    SELECT p.oid, 'POLICY', c.relnamespace, c.oid, p.polname, p.polname, g.classid
    FROM gone g JOIN pg_policy p ON g.classid = 'pg_policy'::regclass AND p.oid = g.objid
    JOIN pg_class c ON c.oid = p.polrelid WHERE c.oid NOT IN (SELECT oid FROM relation)
    UNION ALL
    SELECT s.oid, 'STATISTICS', s.stxnamespace, NULL, s.stxname, s.stxname,
           CASE WHEN s.stxrelid NOT IN (SELECT oid FROM relation) THEN g.classid END
    FROM gone g JOIN pg_statistic_ext s
    ON g.classid = 'pg_statistic_ext'::regclass AND s.oid = g.objid
    UNION ALL
    SELECT p.oid, CASE p.prokind WHEN 'f' THEN 'FUNCTION' WHEN 'w' THEN 'FUNCTION'
                                 WHEN 'p' THEN 'PROCEDURE' ELSE 'AGGREGATE' END,
           p.pronamespace, NULL, p.proname || '(' || oidvectortypes(p.proargtypes) || ')',
           p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')', g.classid
    FROM gone g JOIN pg_proc p ON g.classid = 'pg_proc'::regclass AND p.oid = g.objid
    UNION ALL
    SELECT t.oid, 'EVENT TRIGGER', NULL, NULL, t.evtname, t.evtname, g.classid
    FROM gone g JOIN pg_event_trigger t
    ON g.classid = 'pg_event_trigger'::regclass AND t.oid = g.objid
    UNION ALL
    SELECT a.oid, '', NULL, NULL, '', '', g.classid
    FROM gone g JOIN pg_attrdef a ON g.classid = 'pg_attrdef'::regclass AND a.oid = g.objid
    WHERE a.adrelid NOT IN (SELECT oid FROM relation)
    UNION ALL
    SELECT t.oid, CASE t.typtype WHEN 'c' THEN 'TYPE' WHEN 'd' THEN 'DOMAIN' ELSE '' END,
           t.typnamespace, NULL, t.typname, t.typname, g.classid
    FROM gone g JOIN pg_type t ON g.classid = 'pg_type'::regclass AND t.oid = g.objid
    WHERE t.typrelid NOT IN (SELECT oid FROM relation)
    AND NOT EXISTS (SELECT 1 FROM pg_type e WHERE e.typarray = t.oid)
    UNION ALL
    SELECT c.oid, 'CAST', NULL, NULL, t.shown, substr(t.shown, 6), g.classid
    FROM gone g JOIN pg_cast c ON g.classid = 'pg_cast'::regclass AND c.oid = g.objid
    CROSS JOIN LATERAL (SELECT format('CAST (%s AS %s)', format_type(c.castsource, NULL),
                                      format_type(c.casttarget, NULL)) AS shown) t
    UNION ALL
    SELECT g.objid, '', NULL, NULL, '', '', g.classid FROM gone g
    WHERE g.classid NOT IN (
        'pg_class'::regclass, 'pg_constraint'::regclass, 'pg_rewrite'::regclass,
        'pg_trigger'::regclass, 'pg_policy'::regclass, 'pg_statistic_ext'::regclass,
        'pg_proc'::regclass, 'pg_event_trigger'::regclass, 'pg_attrdef'::regclass,
        'pg_type'::regclass, 'pg_cast'::regclass, 'pg_publication_rel'::regclass))
SELECT t.oid, t.kind, coalesce(n.nspname, '-'),
       concat(c.relname || ' ', t.name),
       concat(replace(t.kind, 'FK ', ''), ' ', t.called, ' ON ' || c.relname),
       pg_describe_object(t.classid, t.oid, 0)
FROM thing t
LEFT JOIN pg_namespace n ON n.oid = t.schema
LEFT JOIN pg_class c ON c.oid = t.relation
ORDER BY 2, 3, 4, 5";

/// Foreign keys of tables with rows to tables without, in the same form.
fn keys_to_empty(out: &BTreeSet<u32>, empty: &BTreeSet<u32>) -> String {
    let (out, empty) = (array(out), array(empty));
    format!(
        "
WITH RECURSIVE key(oid, parent) AS (
    SELECT k.oid, k.conparentid FROM pg_constraint k
    WHERE k.contype = 'f' AND k.confrelid = ANY ({empty}) AND k.conrelid <> ALL ({empty})
    AND k.conrelid <> ALL ({out})
    UNION SELECT k.oid, k.conparentid FROM key JOIN pg_constraint k ON k.oid = key.parent)
SELECT k.oid, 'FK CONSTRAINT', n.nspname, concat(c.relname, ' ', k.conname),
       concat('CONSTRAINT ', k.conname, ' ON ', c.relname),
       pg_describe_object('pg_constraint'::regclass, k.oid, 0)
FROM key
JOIN pg_constraint k USING (oid)
JOIN pg_class c ON c.oid = k.conrelid
JOIN pg_namespace n ON n.oid = k.connamespace
WHERE key.parent = 0
ORDER BY 3, 4, 5"
    )
}

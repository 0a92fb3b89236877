//! Snapshots of some tables: they are restored into an empty database, in every form, with all that
//! can stand without the others.

use super::*;

const FORMS: [&str; 3] = ["tables", "plain", "custom"];

/// Things of all kinds that need other tables.
const MORE: &str = "
    CREATE TABLE audit.entry (id int PRIMARY KEY, sale bigint REFERENCES sale, at date);
    CREATE TABLE audit.old (note text) INHERITS (audit.entry);
    CREATE SEQUENCE audit.counter; CREATE SEQUENCE audit.unused;
    CREATE TABLE likes (id bigint DEFAULT nextval('sale_id_seq'),
                        n bigint DEFAULT nextval('audit.counter'),
                        customer int CONSTRAINT \"who likes\" REFERENCES customer);
    COMMENT ON CONSTRAINT \"who likes\" ON likes IS 'a customer';
    INSERT INTO audit.entry VALUES (1, 1, '2026-01-01');
    INSERT INTO audit.old VALUES (2, 2, '2026-01-02', 'x');
    INSERT INTO likes (customer) SELECT g FROM generate_series(1, 20) g;
    CREATE VIEW dearest AS SELECT * FROM dear WHERE amount > 90;
    CREATE VIEW likers AS SELECT customer FROM likes;
    CREATE FUNCTION first_sale(of sale, n int) RETURNS int LANGUAGE sql AS 'SELECT 1';
    COMMENT ON FUNCTION first_sale IS 'of a sale';
    REVOKE ALL ON FUNCTION first_sale FROM PUBLIC;
    CREATE FUNCTION dear_count() RETURNS bigint LANGUAGE sql
        BEGIN ATOMIC SELECT count(*) FROM dear; END;
    CREATE VIEW counted AS SELECT dear_count() AS n;
    CREATE STATISTICS likes_stat (dependencies) ON id, customer FROM likes;
    CREATE STATISTICS sale_stat (dependencies) ON customer, state FROM sale;
    CREATE POLICY friends ON likes USING (customer IN (SELECT customer FROM sale));
    CREATE RULE told AS ON INSERT TO likes DO ALSO INSERT INTO audit.entry VALUES (NEW.id,
        NULL, now());
    CREATE FUNCTION of_counter() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
    CREATE TRIGGER likes_counted BEFORE INSERT ON likes FOR EACH ROW EXECUTE FUNCTION of_counter();
";

impl World {
    /// Restores a snapshot of some tables in every form; the last one stays as `NAME_some`.
    fn assert_restores(&self, options: &str, rows: &[(&str, u64)]) -> Vec<String> {
        let mut warnings = Vec::new();
        for form in FORMS {
            let taken = self.take(&format!("{options}&format={form}"));
            let expected = rows.iter().map(|(table, n)| ((*table).to_owned(), *n));
            assert_eq!(taken.rows(), expected.collect(), "{form} {options}");
            let some = format!("{}_some", self.name);
            self.session("postgres")
                .run(&format!("DROP DATABASE IF EXISTS {some}"))
                .unwrap();
            self.database(&some, "")
                .restore(&taken, &RestoreOptions::default(), &self.context)
                .unwrap_or_else(|e| panic!("{form} {options}: {e:?}"));
            warnings.push(taken.member.warnings.join("\n"));
        }
        assert!(warnings.iter().all(|w| *w == warnings[0]), "{warnings:?}");
        warnings.remove(0).lines().map(str::to_owned).collect()
    }

    /// What is there of things of a kind, by a query for names, in the restored database.
    fn some(&self, sql: &str) -> Vec<String> {
        let rows = self.session(&format!("{}_some", self.name)).rows(sql);
        rows.unwrap().into_iter().flatten().flatten().collect()
    }
}

const RELATIONS: &str = "SELECT c.oid::regclass FROM pg_class c
    WHERE relkind IN ('r', 'p', 'v', 'm', 'S') AND relnamespace::regnamespace::text !~ '^(pg_|info)'
    AND NOT EXISTS (SELECT 1 FROM pg_depend e WHERE e.objid = c.oid AND e.deptype = 'e')
    ORDER BY relname";
const FUNCTIONS: &str = "SELECT proname FROM pg_proc p
    WHERE pronamespace IN ('public'::regnamespace, 'audit'::regnamespace)
    AND NOT EXISTS (SELECT 1 FROM pg_depend e WHERE e.objid = p.oid AND e.deptype = 'e')
    ORDER BY 1";

#[test]
fn some_tables_stand_alone() {
    let world = World::shop("chosen");
    world
        .session("chosen")
        .run(&format!("SET search_path = public; {MORE}"))
        .unwrap();
    let warnings = world.assert_restores("&tables=likes", &[("public.likes", 20)]);
    assert_eq!(
        world.some(RELATIONS),
        ["audit.counter", "public.likes", "public.sale_id_seq"]
    );
    assert_eq!(world.some(FUNCTIONS), ["noted", "of_counter"]);
    let of_likes = "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal
        UNION ALL SELECT polname FROM pg_policy UNION ALL SELECT conname FROM pg_constraint
            WHERE conrelid >= 16384
        UNION ALL SELECT stxname FROM pg_statistic_ext
        UNION ALL SELECT rulename FROM pg_rewrite WHERE ev_class >= 16384";
    assert_eq!(world.some(of_likes), ["likes_counted", "likes_stat"]);
    // Values go on where they stood.
    let next = "INSERT INTO public.likes DEFAULT VALUES RETURNING n > 20 AND id > 5020";
    assert_eq!(world.some(next), ["t"]);
    let [warning] = warnings.as_slice() else {
        panic!("{warnings:?}");
    };
    assert_eq!(
        warning,
        "left out, for what they need is not stored: constraint who likes on table public.likes, \
         function public.dear_count(), function public.first_sale(public.sale,integer), \
         policy friends on table public.likes, rule told on table public.likes"
    );

    // A choice goes for partitions, and brings along what a table inherits from.
    world.assert_restores(
        "&tables=part,audit.old",
        &[
            ("audit.entry", 1),
            ("audit.old", 1),
            ("public.part_north", 150),
            ("public.part_rest", 150),
        ],
    );
    assert_eq!(world.some("SELECT count(*) FROM public.part"), ["300"]);
    assert_eq!(world.some("SELECT count(*) FROM audit.entry"), ["2"]);
    world.assert_restores("&tables=part_north", &[("public.part_north", 150)]);
    assert_eq!(world.some("SELECT count(*) FROM public.part"), ["150"]);

    world.assert_restores(
        "&schemas=audit",
        &[("audit.entry", 1), ("audit.log", 0), ("audit.old", 1)],
    );
    assert_eq!(
        world.some(RELATIONS),
        [
            "audit.counter",
            "audit.entry",
            "audit.log",
            "audit.old",
            "audit.unused"
        ]
    );
}

#[test]
fn all_but_some_tables_stand_alone() {
    let world = World::shop("rest");
    world
        .session("rest")
        .run(&format!("SET search_path = public; {MORE}"))
        .unwrap();
    let rest = [
        ("Odd.Schema.t\"b/l e", 2),
        ("public.bare", 4),
        ("public.empty", 0),
        ("public.likes", 20),
        ("public.nothing", 2),
        ("public.quick", 1),
    ];
    let warnings = world.assert_restores(
        "&exclude_tables=sale,part,customer&exclude_schemas=audit",
        &rest,
    );
    let views = "view public.counted, view public.dear, view public.dearest, \
                 materialized view public.totals";
    assert!(warnings[0].contains(views), "{warnings:?}");
    // Who likes whom is not stored, so a key to it cannot hold.
    let keys = "SELECT conname FROM pg_constraint WHERE contype = 'f' ORDER BY 1";
    assert_eq!(world.some(keys), Vec::<String>::new());
    assert_eq!(
        world.some(RELATIONS),
        [
            "public.bare",
            "audit.counter",
            "public.empty",
            "public.likers",
            "public.likes",
            "public.nothing",
            "public.numbers",
            "public.quick",
            "public.sale_id_seq",
            "\"Odd.Schema\".\"t\"\"b/l e\"",
        ]
    );

    // Tables without rows: partitions too, and keys that would not hold are told.
    let mut rows = rest.to_vec();
    rows.extend([("audit.log", 0), ("public.sale", 5000)]);
    rows.sort();
    let empty = "&exclude_data=part,customer,audit.entry";
    let warnings = world.assert_restores(empty, &rows);
    assert_eq!(world.some(keys), ["entry_sale_fkey"]);
    assert_eq!(world.some("SELECT count(*) FROM public.part"), ["0"]);
    let told = "left out, for the rows that they refer to are not stored: \
                constraint who likes on table public.likes, \
                constraint sale_customer_fkey on table public.sale";
    assert_eq!(warnings, [told]);
    assert!(
        world
            .take(&format!("{empty}&part=schema"))
            .member
            .warnings
            .is_empty()
    );
}

/// Partitions, identities, and types of tables.
const PIECES: &str = "
    SET search_path = public;
    CREATE TABLE numbered (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY);
    CREATE FUNCTION shifted(i int) RETURNS int IMMUTABLE LANGUAGE sql BEGIN ATOMIC
        SELECT i + coalesce((SELECT max(id) FROM numbered), 0); END;
    CREATE FUNCTION next_number(numbered) RETURNS bigint LANGUAGE sql
        BEGIN ATOMIC SELECT nextval('numbered_id_seq'); END;
    CREATE TABLE year (id int PRIMARY KEY, up int REFERENCES year)
        PARTITION BY RANGE (id);
    CREATE TABLE year_old PARTITION OF year FOR VALUES FROM (0) TO (10);
    CREATE TABLE year_new PARTITION OF year FOR VALUES FROM (10) TO (20);
    CREATE INDEX late ON year (shifted(id));
    CREATE TABLE of_year (y int REFERENCES year);
    INSERT INTO year VALUES (1, 1), (11, 1); INSERT INTO of_year VALUES (1), (11);
    CREATE VIEW years AS SELECT id FROM year;
    CREATE MATERIALIZED VIEW last AS SELECT max(y) FROM of_year;
    CREATE TYPE pair AS (a numbered, b int); CREATE DOMAIN few AS numbered
        CHECK (VALUE IS NOT NULL);
    CREATE FUNCTION added(int, numbered) RETURNS int LANGUAGE sql AS 'SELECT 1';
    CREATE AGGREGATE counted(numbered) (SFUNC = added, STYPE = int);
    CREATE FUNCTION shown(numbered) RETURNS text LANGUAGE sql AS 'SELECT 1';
    CREATE CAST (numbered AS text) WITH FUNCTION shown(numbered);
    CREATE SEQUENCE unused; SELECT lo_from_bytea(77, '\\x0102')";

#[test]
fn partitions_identities_and_views_that_are_left_out() {
    let world = World::new("pieces");
    world.session("pieces").run(PIECES).unwrap();
    let keys = "SELECT count(*) FROM pg_constraint WHERE contype = 'f'";
    let told = |table: &str, key: &str| format!("constraint {key} on table public.{table}");
    let both = [
        told("of_year", "of_year_y_fkey"),
        told("year", "year_up_fkey"),
    ];

    let new = [("public.of_year", 2), ("public.year_new", 1)];
    let rest = "&exclude_tables=year_old,numbered";
    let warnings = world.assert_restores(rest, &new);
    assert!(
        both.iter().all(|key| warnings[0].contains(key)),
        "{warnings:?}"
    );
    assert!(warnings[0].contains("index public.late"), "{warnings:?}");
    assert_eq!(world.some(keys), ["0"]);
    assert_eq!(
        world.some("SELECT count(*) FROM pg_largeobject_metadata"),
        ["1"]
    );

    let rows = [
        ("public.numbered", 0),
        ("public.of_year", 2),
        ("public.year_new", 1),
    ];
    let warnings = world.assert_restores("&exclude_data=year_old,last", &rows);
    let what = "left out, for the rows that they refer to are not stored: ";
    assert_eq!(warnings, [format!("{what}{}", both.join(", "))]);
    assert_eq!(
        world.some("SELECT relispopulated FROM pg_class WHERE relname = 'last'"),
        ["f"]
    );

    world.assert_restores("&tables=of_year", &[("public.of_year", 2)]);
    assert_eq!(world.some(RELATIONS), ["public.of_year"]);
    assert_eq!(
        world.some("SELECT count(*) FROM pg_largeobject_metadata"),
        ["0"]
    );

    let error = take(&world.database("pieces", "&tables=years"), &world.context).unwrap_err();
    assert_eq!(error.cause, Cause::Absent, "{error:?}");
    assert!(error.what.contains("can be stored"), "{error:?}");
    let session = world.session("pieces");
    session
        .run(
            "CREATE TABLE public.borrowing (id bigint DEFAULT \
             nextval('public.numbered_id_seq'))",
        )
        .unwrap();
    let error = take(
        &world.database("pieces", "&tables=borrowing"),
        &world.context,
    )
    .unwrap_err();
    assert!(
        error.what.starts_with("default value for column id"),
        "{error:?}"
    );
}

#[test]
fn what_is_a_part_of_something_is_refused() {
    let world = World::shop("parted");
    let session = world.session("parted");
    session
        .run("CREATE TABLE public.kept (one public.sale)")
        .unwrap();
    let error = take(
        &world.database("parted", "&exclude_tables=sale"),
        &world.context,
    )
    .unwrap_err();
    assert!(
        error.what.starts_with("table public.kept needs something"),
        "{error:?}"
    );
    assert!(error.hint.is_some());
    world.take("&exclude_tables=sale,kept");
    session
        .run(
            "DROP TABLE public.kept; CREATE DOMAIN public.of_sale AS public.sale; \
             CREATE TABLE public.kept (one public.of_sale)",
        )
        .unwrap();
    let error = take(
        &world.database("parted", "&tables=customer,kept"),
        &world.context,
    )
    .unwrap_err();
    assert!(
        error.what.starts_with("table public.kept needs"),
        "{error:?}"
    );
    // Rows alone need nothing.
    world.take("&tables=customer&part=data");
}

//! A real server with all that a database can hold: captures while others write, restores that are
//! equal by `pg_dump`, and everything that must leave no snapshot.

mod hostile;
mod selections;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use hucha_store::member::Member;

use super::Postgres;
use super::session::Session;
use super::throwaway::Throwaway;
use crate::child::Child;
use crate::database::testing::{Taken, context, take};
use crate::database::{Cause, Context, Database, DatabaseError, Part, ReadStream, RestoreOptions};
use crate::database::{Settings, Stored, StoredStream};

/// Everything that a schema may hold.
const SHOP: &str = include_str!("tests/shop.sql");

/// One server for tests that run at the same time; each makes databases of its own. It ends with
/// the last of them.
struct Server {
    throwaway: Throwaway,
    _keep: tempfile::TempDir,
    /// Roles belong to the server, so those of the shop are made once.
    has_roles: Mutex<bool>,
}

fn server() -> Arc<Server> {
    static SERVER: Mutex<Weak<Server>> = Mutex::new(Weak::new());
    let mut shared = SERVER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(server) = shared.upgrade() {
        return server;
    }
    let keep = tempfile::tempdir().unwrap();
    let server = Arc::new(Server {
        throwaway: Throwaway::start(15, &context(keep.path())).unwrap(),
        _keep: keep,
        has_roles: Mutex::default(),
    });
    *shared = Arc::downgrade(&server);
    server
}

struct World {
    server: Arc<Server>,
    _keep: tempfile::TempDir,
    folder: PathBuf,
    context: Context,
    name: String,
}

impl World {
    fn new(name: &str) -> World {
        let keep = tempfile::tempdir().unwrap();
        let world = World {
            server: server(),
            context: context(keep.path()),
            folder: keep.path().to_owned(),
            _keep: keep,
            name: name.to_owned(),
        };
        let sql = format!("CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'");
        world.session("postgres").run(&sql).unwrap();
        world
    }

    fn shop(name: &str) -> World {
        let world = World::new(name);
        let mut made = world
            .server
            .has_roles
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let script = match *made {
            true => SHOP.replace("CREATE ROLE shop_reader; CREATE ROLE \"Odd Role\";", ""),
            false => SHOP.to_owned(),
        };
        let script = format!("SET search_path = public; {script}");
        world.session(name).run(&script).unwrap();
        *made = true;
        drop(made);
        world
    }

    fn session(&self, database: &str) -> Session {
        let login = self
            .database(database, "")
            .place
            .login(&self.context)
            .unwrap();
        Session::open(&login, &self.context).unwrap()
    }

    fn database(&self, name: &str, options: &str) -> Postgres {
        let address = format!("{}{options}", self.server.throwaway.address(name));
        Postgres::new(Settings::of_address(&address).unwrap()).unwrap()
    }

    fn take(&self, options: &str) -> Taken {
        take(&self.database(&self.name, options), &self.context).unwrap()
    }

    fn number(&self, database: &str, sql: &str) -> u64 {
        self.session(database).number(sql).unwrap()
    }

    /// What `pg_dump` says of a database, sorted.
    fn dump(&self, database: &str, arguments: &[&str]) -> Vec<String> {
        let mut command = Command::new("pg_dump");
        let folder = self.server.throwaway.folder().display();
        command
            .args([
                "-h",
                &folder.to_string(),
                "-U",
                "hucha_throwaway",
                "-d",
                database,
            ])
            .args(arguments);
        let child = Child::start(self.context.spec("pg_dump", command)).unwrap();
        let text = String::from_utf8(child.read_all(1 << 30).unwrap()).unwrap();
        let keyed =
            |line: &&str| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict");
        let mut lines: Vec<String> = text.lines().filter(keyed).map(str::to_owned).collect();
        lines.sort();
        lines
    }
}

fn equal(one: &[String], two: &[String]) {
    let only = |a: &[String], b: &[String]| -> Vec<String> {
        a.iter()
            .filter(|line| !b.contains(line))
            .take(9)
            .cloned()
            .collect()
    };
    assert!(
        one == two,
        "- {:#?}\n+ {:#?}",
        only(one, two),
        only(two, one)
    );
}

fn options(part: Part, tables: &[&str]) -> RestoreOptions {
    RestoreOptions {
        part,
        tables: tables.iter().map(|t| (*t).to_owned()).collect(),
        ..RestoreOptions::default()
    }
}

#[test]
fn every_form_comes_back_equal() {
    let world = World::shop("forms");
    let comment = "COMMENT ON DATABASE forms IS 'shop'; ALTER DATABASE forms SET search_path = \
                   audit, public; ALTER DATABASE forms SET work_mem = '7MB'; \
                   GRANT CREATE ON DATABASE forms TO shop_reader";
    world.session("forms").run(comment).unwrap();
    let original = world.dump("forms", &[]);
    let counts = BTreeMap::from([
        ("Odd.Schema.t\"b/l e".to_owned(), 2),
        ("audit.log".to_owned(), 0),
        ("public.bare".to_owned(), 4),
        ("public.customer".to_owned(), 500),
        ("public.empty".to_owned(), 0),
        ("public.nothing".to_owned(), 2),
        ("public.part_north".to_owned(), 150),
        ("public.part_rest".to_owned(), 150),
        ("public.quick".to_owned(), 1),
        ("public.sale".to_owned(), 5000),
    ]);
    for form in ["tables", "plain", "custom"] {
        let taken = world.take(&format!("&format={form}"));
        assert_eq!(taken.rows(), counts, "{form}");
        assert!(
            taken.member.server.starts_with("PostgreSQL 15."),
            "{:?}",
            taken.member.server
        );
        let copy = format!("forms_{form}");
        let target = world.database(&copy, "");
        let made = target
            .restore(&taken, &RestoreOptions::default(), &world.context)
            .unwrap();
        assert_eq!((made.name.as_str(), made.rows), (copy.as_str(), 5809));
        equal(&original, &world.dump(&copy, &[]));
        let settings = "SELECT array_to_string(setconfig, ';') FROM pg_db_role_setting \
                        JOIN pg_database d ON d.oid = setdatabase WHERE datname = ";
        let of = |name: &str| {
            world
                .session("postgres")
                .value(&format!("{settings}'{name}'"))
                .unwrap()
        };
        assert_eq!(of(&copy), of("forms"));
        let privileges =
            "SELECT has_database_privilege('shop_reader', current_database(), 'CREATE')::int";
        assert_eq!(world.number(&copy, privileges), 1);
        target.verify(&taken, &world.context).unwrap();
    }
}

#[test]
fn the_same_database_gives_the_same_bytes() {
    let world = World::shop("same");
    let (one, two) = (world.take(""), world.take(""));
    assert_eq!(
        one.bytes.keys().collect::<Vec<_>>(),
        two.bytes.keys().collect::<Vec<_>>()
    );
    // Roles belong to the server, where other tests make some.
    for (name, bytes) in one.bytes.iter().filter(|(name, _)| *name != "globals.sql") {
        assert!(*bytes == two.bytes[name], "{name} differs");
    }
    // In the order of keys, wherever rows lie.
    let sale = one.text("data/public.sale.copy");
    let ids: Vec<u64> = sale
        .lines()
        .map(|l| l.split('\t').next().unwrap().parse().unwrap())
        .collect();
    assert!(ids.is_sorted() && ids.len() == 5000);
    let facts = |name: &str| {
        let stream = one.streams.iter().find(|s| s.name == name).unwrap();
        stream.facts.property("order").unwrap().to_owned()
    };
    assert_eq!(facts("data/public.sale.copy"), "key");
    assert_eq!(facts("data/public.bare.copy"), "heap");
    assert!(one.text("globals.sql").contains("CREATE ROLE shop_reader"));
    assert!(!one.text("globals.sql").contains("PASSWORD"));
}

impl World {
    /// The structure, the rows into it, and one table, out of a form of the database `parts`.
    fn assert_parts_of(&self, form: &str) {
        let taken = self.take(&format!("&format={form}"));
        let name = format!("parts_{form}");
        let restore = |end: &str, part, tables: &[&str]| {
            let target = self.database(&format!("{name}{end}"), "");
            target.restore(&taken, &options(part, tables), &self.context)
        };
        let count = |end: &str, table: &str| {
            let database = format!("{name}{end}");
            self.number(&database, &format!("SELECT count(*) FROM public.{table}"))
        };
        // The structure alone.
        restore("", Part::Schema, &[]).unwrap();
        let structure = ["--schema-only"];
        equal(
            &self.dump("parts", &structure),
            &self.dump(&name, &structure),
        );
        assert_eq!(count("", "sale"), 0);
        // The rows of a table and its sequence, into that; nothing else moves.
        let last = "SELECT last_value FROM public.";
        let made = restore("", Part::Data, &["public.customer"]).unwrap();
        assert_eq!((made.tables, made.rows), (1, 500));
        assert_eq!((count("", "customer"), count("", "sale")), (500, 0));
        for (sequence, value) in [("customer_id_seq", 500), ("sale_id_seq", 1), ("numbers", 5)] {
            assert_eq!(self.number(&name, &format!("{last}{sequence}")), value);
        }
        let error = restore("", Part::Data, &[]).unwrap_err();
        assert_eq!(error.cause, Cause::Exists, "{error}");
        assert_eq!(count("", "sale"), 0);
        self.session(&name)
            .run("TRUNCATE public.customer CASCADE")
            .unwrap();
        // Rows alone.
        let made = restore("", Part::Data, &[]).unwrap();
        assert_eq!(made.rows, 5809);
        assert!(made.warnings.concat().contains("large objects"), "{made:?}");
        let refresh = "REFRESH MATERIALIZED VIEW public.totals";
        self.session(&name).run(refresh).unwrap();
        let rows = ["--no-blobs"];
        equal(&self.dump("parts", &rows), &self.dump(&name, &rows));
        self.assert_table_of(&taken, &name);
    }

    /// One table, with its policies, without what needs the others; and rows that do not fit.
    fn assert_table_of(&self, taken: &Taken, name: &str) {
        let restore = |end: &str, part, tables: &[&str]| {
            let target = self.database(&format!("{name}{end}"), "");
            target.restore(taken, &options(part, tables), &self.context)
        };
        let count = |end: &str, table: &str| {
            let database = format!("{name}{end}");
            self.number(&database, &format!("SELECT count(*) FROM public.{table}"))
        };
        let made = restore("_one", Part::All, &["sale"]).unwrap();
        assert_eq!((made.tables, made.rows), (1, 5000));
        assert_eq!(
            (count("_one", "customer"), count("_one", "sale")),
            (0, 5000)
        );
        let one = format!("{name}_one");
        let same = "SELECT count(*) FROM public.dear";
        assert_eq!(self.number(&one, same), self.number("parts", same));
        let of_kind = |kind| format!("SELECT count(*) FROM pg_constraint WHERE contype = '{kind}'");
        assert_eq!(self.number(&one, &of_kind('f')), 0);
        assert_eq!(
            self.number(&one, &of_kind('p')),
            self.number("parts", &of_kind('p'))
        );
        let policies = "SELECT count(*) FROM pg_policy";
        assert_eq!(self.number(&one, policies), 1);
        let error = restore("_none", Part::All, &["sales"]).unwrap_err();
        assert_eq!(error.cause, Cause::Absent);
        assert!(error.hint.unwrap().contains("public.sale"));
        // Rows that cannot all be taken leave none.
        restore("_short", Part::Schema, &[]).unwrap();
        let short = format!("{name}_short");
        self.session(&short)
            .run("ALTER TABLE public.sale ADD CONSTRAINT few CHECK (id < 4990)")
            .unwrap();
        restore("_short", Part::Data, &[]).unwrap_err();
        assert_eq!(
            (count("_short", "customer"), count("_short", "sale")),
            (0, 0)
        );
    }
}

#[test]
fn parts_are_taken_and_restored() {
    let world = World::shop("parts");
    for form in ["tables", "plain", "custom"] {
        world.assert_parts_of(form);
    }
    // Chosen when the snapshot is taken.
    let some = world.take("&tables=public.s*,audit.*&exclude_data=audit.log");
    assert_eq!(
        some.rows(),
        BTreeMap::from([("public.sale".to_owned(), 5000)])
    );
    let schema = world.take("&part=schema&exclude_schemas=Odd.Schema&no_globals=true");
    assert!(schema.rows().is_empty() && !schema.text("schema.pre.sql").contains("b/l e"));
    let data = world.take("&part=data");
    assert!(!data.bytes.contains_key("schema.pre.sql") && data.rows().len() == 10);
    let error = take(&world.database("parts", "&tables=nope"), &world.context).unwrap_err();
    assert_eq!(error.cause, Cause::Absent);
}

#[test]
fn a_restore_beside_the_live_one_and_an_exchange() {
    let world = World::shop("live");
    let taken = world.take("");
    world
        .session("live")
        .run("DELETE FROM public.sale; INSERT INTO public.empty VALUES (9)")
        .unwrap();
    let target = world.database("live", "");
    let made = target
        .restore(&taken, &RestoreOptions::default(), &world.context)
        .unwrap();
    assert_eq!(made.name, "live_restored_20261127_163000");
    assert_eq!(world.number("live", "SELECT count(*) FROM public.sale"), 0);
    // Somebody is connected.
    let other = world.session("live");
    let made = target.swap(made, &world.context).unwrap();
    assert_eq!(
        made.kept.as_deref(),
        Some("live_before_restore_20261127_163000")
    );
    assert!(other.value("SELECT 1").is_err(), "disconnected");
    assert_eq!(
        world.number("live", "SELECT count(*) FROM public.sale"),
        5000
    );
    let kept = made.kept.unwrap();
    assert_eq!(world.number(&kept, "SELECT count(*) FROM public.empty"), 1);
    target.verify(&taken, &world.context).unwrap();
    world
        .session("live")
        .run("DELETE FROM public.bare WHERE x = 2")
        .unwrap();
    let error = target.verify(&taken, &world.context).unwrap_err();
    assert_eq!(error.cause, Cause::Differs);
    assert!(
        error.what.contains("public.bare has 3 rows instead of 4"),
        "{error}"
    );
}

#[test]
fn a_moment_is_one_moment_while_others_write() {
    let world = World::new("busy");
    world
        .session("busy")
        .run(
            "CREATE TABLE public.a (id int PRIMARY KEY, n bigint);
             CREATE TABLE public.b (LIKE public.a INCLUDING ALL);
             INSERT INTO public.a SELECT g, 1000 FROM generate_series(1, 2000) g;
             INSERT INTO public.b SELECT * FROM public.a",
        )
        .unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for n in 0..3 {
            let (world, stop) = (&world, &stop);
            scope.spawn(move || {
                let session = world.session("busy");
                let mut k = n;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    k = (k * 7 + 3) % 2000;
                    session
                        .run(&format!(
                            "BEGIN; UPDATE public.a SET n = n - 1 WHERE id = {0}; \
                             UPDATE public.b SET n = n + 1 WHERE id = {0}; COMMIT",
                            k + 1
                        ))
                        .or_else(|_| session.run("ROLLBACK"))
                        .unwrap();
                }
            });
        }
        for _ in 0..5 {
            let taken = world.take("");
            let sum = |name: &str| -> i64 {
                let text = taken.text(name);
                let value = |line: &str| line.split('\t').nth(1).unwrap().parse::<i64>().unwrap();
                text.lines().map(value).sum()
            };
            assert_eq!(
                sum("data/public.a.copy") + sum("data/public.b.copy"),
                4_000_000
            );
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn a_table_truncated_just_then_is_noticed() {
    let world = World::new("rewritten");
    let session = world.session("rewritten");
    session
        .run(
            "CREATE TABLE public.t (id int PRIMARY KEY);
             INSERT INTO public.t SELECT generate_series(1, 100)",
        )
        .unwrap();
    let master = world.session("rewritten");
    master
        .run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .unwrap();
    let tables = super::catalog::tables(&master).unwrap();
    assert!(
        super::catalog::changed(&master, &tables)
            .unwrap()
            .is_empty()
    );
    session.run("TRUNCATE public.t").unwrap();
    // To the snapshot the table looks empty, though it had rows then.
    assert_eq!(master.number("SELECT count(*) FROM public.t").unwrap(), 0);
    let changed = super::catalog::changed(&master, &tables).unwrap();
    assert_eq!(changed, ["public.t"]);
}

#[test]
fn a_truncate_in_the_middle_waits() {
    let world = World::new("waiting");
    world
        .session("waiting")
        .run(
            "CREATE TABLE public.t (id int PRIMARY KEY, x text); INSERT INTO public.t
             SELECT g, repeat('x', 500) FROM generate_series(1, 20000) g",
        )
        .unwrap();
    let database = world.database("waiting", "");
    let mut capture = database.capture(&world.context).unwrap();
    let blocked = world.session("waiting");
    blocked.run("SET lock_timeout = '200ms'").unwrap();
    let error = blocked.run("TRUNCATE public.t").unwrap_err();
    assert!(error.what.contains("locked"), "{error}");
    let at = capture
        .streams
        .iter()
        .position(|s| s.name.ends_with("t.copy"))
        .unwrap();
    let mut bytes = (capture.streams.remove(at).open)().unwrap();
    let mut buffer = vec![0; 100_000];
    let mut read = 0;
    while let n @ 1.. = bytes.read(&mut buffer).unwrap() {
        read += n;
    }
    assert_eq!(bytes.facts().total(), Some(20_000));
    assert!(read > 10_000_000);
    drop(bytes);
    (capture.end)().unwrap();
    blocked.run("TRUNCATE public.t").unwrap();
}

#[test]
fn what_cannot_be_read_whole_is_an_error_with_a_sentence() {
    let world = World::shop("denied");
    world
        .session("denied")
        .run(
            "CREATE ROLE weak LOGIN; CREATE ROLE filtered LOGIN;
             GRANT pg_read_all_data TO filtered; GRANT USAGE ON SCHEMA public, audit TO weak;
             CREATE TABLE public.own (id int, who text); INSERT INTO public.own VALUES (1, 'a');
             ALTER TABLE public.own ENABLE ROW LEVEL SECURITY;
             CREATE POLICY mine ON public.own USING (who = current_user)",
        )
        .unwrap();
    let as_user = |user: &str, options: &str| {
        let address = format!("{}{options}", world.server.throwaway.address("denied"));
        let address = address.replace("hucha_throwaway", user);
        let database = Postgres::new(Settings::of_address(&address).unwrap()).unwrap();
        take(&database, &world.context).unwrap_err()
    };
    let error = as_user("weak", "");
    assert_eq!(error.cause, Cause::Denied, "{error}");
    assert!(error.what.contains("permission denied"), "{error}");
    assert!(error.hint.unwrap().contains("pg_read_all_data"));
    // Before version 18 that role reads no large objects.
    let error = as_user("filtered", "&exclude_tables=own");
    assert!(
        error.in_one().contains("LARGE OBJECT 424242"),
        "{}",
        error.in_one()
    );
    world
        .session("denied")
        .run("SELECT lo_unlink(424242), lo_unlink(424243)")
        .unwrap();
    let error = as_user("filtered", "");
    assert_eq!(error.cause, Cause::Denied, "{error}");
    assert!(error.what.contains("row-level security"), "{error}");
    assert!(error.hint.unwrap().contains("BYPASSRLS"));
    for form in ["&format=plain", "&format=custom"] {
        let error = as_user("filtered", form);
        assert_eq!(error.cause, Cause::Denied, "{error}");
    }
    let error = as_user("nobody_knows", "");
    assert_eq!(error.cause, Cause::Denied, "{error}");
    let missing = take(&world.database("nowhere", ""), &world.context).unwrap_err();
    assert_eq!(missing.cause, Cause::Absent);
    let address = "postgres://ana@127.0.0.1:1/x";
    let far = Postgres::new(Settings::of_address(address).unwrap()).unwrap();
    let error = take(&far, &world.context).unwrap_err();
    assert_eq!(error.cause, Cause::Unreachable, "{error}");
}

#[test]
fn a_backend_that_is_ended_ends_the_capture() {
    let world = World::new("ended");
    world
        .session("ended")
        .run(
            "CREATE TABLE public.t (id int PRIMARY KEY, x text); INSERT INTO public.t
             SELECT g, repeat('x', 500) FROM generate_series(1, 50000) g",
        )
        .unwrap();
    let database = world.database("ended", "");
    let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                WHERE datname = 'ended' AND pid <> pg_backend_pid()";
    // In the middle of a table.
    let mut capture = database.capture(&world.context).unwrap();
    let at = capture
        .streams
        .iter()
        .position(|s| s.name.ends_with("t.copy"))
        .unwrap();
    let mut bytes = (capture.streams.remove(at).open)().unwrap();
    let mut buffer = vec![0; 1000];
    assert!(bytes.read(&mut buffer).unwrap() > 0);
    assert!(world.number("ended", kill) > 0);
    let error = loop {
        match bytes.read(&mut buffer) {
            Ok(0) => panic!("a table without its end"),
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.cause, Cause::Unreachable, "{error}");
    drop((bytes, capture));
    // While nothing is read: the moment is gone, so there is no proof.
    let capture = database.capture(&world.context).unwrap();
    assert!(world.number("ended", kill) > 0);
    let error = (capture.end)().unwrap_err();
    assert_eq!(error.cause, Cause::Unreachable, "{error}");
}

#[test]
fn a_restore_that_fails_leaves_no_database() {
    let world = World::shop("broken");
    let taken = world.take("");
    let try_it = |taken: &Taken, says: &str| {
        let target = world.database("broken_copy", "");
        let error = target
            .restore(taken, &RestoreOptions::default(), &world.context)
            .unwrap_err();
        assert!(error.in_one().contains(says), "{}", error.in_one());
        let there = "SELECT count(*) FROM pg_database WHERE datname LIKE 'broken_copy%'";
        assert_eq!(world.number("postgres", there), 0);
        error
    };
    let mut fewer = taken.clone();
    let stream = fewer
        .streams
        .iter_mut()
        .find(|s| s.name.ends_with("bare.copy"))
        .unwrap();
    stream.facts.rows[0].1 = 5;
    assert_eq!(try_it(&fewer, "5 rows are stored").cause, Cause::Differs);
    let mut wrong = taken.clone();
    wrong
        .bytes
        .insert("data/public.bare.copy".into(), b"x\ty\n".to_vec());
    try_it(&wrong, "invalid input syntax");
    let mut script = taken.clone();
    script.bytes.insert(
        "schema.post.sql".into(),
        b"CREATE INDEX ON nowhere (x);\n".to_vec(),
    );
    try_it(&script, "schema.post.sql");
    let mut role = taken.clone();
    let text = role
        .text("schema.pre.sql")
        .replace("\"Odd Role\"", "nobody_here");
    role.bytes
        .insert("schema.pre.sql".into(), text.into_bytes());
    try_it(&role, "CREATE ROLE \"nobody_here\"");
    assert!(
        std::fs::read_dir(world.folder.join("scratch"))
            .unwrap()
            .next()
            .is_none()
    );
}

//! PostgreSQL through the binary, on a private real server: snapshots while pgbench runs, restores
//! that `pg_dump` finds equal, parts, an exchange; and what must leave no snapshot: a killed
//! backend, missing privileges, row-level security, a full disk, a wrong password.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::postgres::{ADMIN, Server, server};
use crate::support::private::assert_nothing_left;
use crate::support::process::Call;
use crate::support::{Ran, World, size};

/// What holds between any two of pgbench's transactions, and not within one.
const BALANCED: &str = "SELECT a = t AND t = b AND b = h FROM
    (SELECT sum(abalance) AS a FROM pgbench_accounts) AS accounts,
    (SELECT sum(tbalance) AS t FROM pgbench_tellers) AS tellers,
    (SELECT sum(bbalance) AS b FROM pgbench_branches) AS branches,
    (SELECT coalesce(sum(delta), 0) AS h FROM pgbench_history) AS history";

/// Rows of pgbench's history: how often it committed.
const COMMITS: &str = "SELECT count(*) FROM pgbench_history";

/// A repository, and a server with a database.
struct Stage {
    // Goes before the folder of a test.
    server: Arc<Server>,
    world: World,
    database: &'static str,
}

impl Stage {
    /// With an empty database; `None` where there is no PostgreSQL.
    fn new(database: &'static str) -> Option<Stage> {
        let server = server("databases of PostgreSQL")?;
        server.create(database);
        let world = World::new();
        Some(Stage {
            server,
            world,
            database,
        })
    }

    /// With a database of pgbench, of 100,000 accounts for each step of its scale.
    fn bench(database: &'static str, scale: u64) -> Option<Stage> {
        let stage = Stage::new(database)?;
        let mut pgbench = stage.server.program("pgbench");
        let scale = scale.to_string();
        pgbench.args([
            "--initialize",
            "--quiet",
            "--scale",
            &scale,
            "--foreign-keys",
            database,
        ]);
        crate::support::tool(&mut pgbench);
        Some(stage)
    }

    /// With a table that takes a while to be read, of so many rows of 1000 bytes that halve
    /// when compressed, and a small one.
    fn large(database: &'static str, rows: u64) -> Option<Stage> {
        let stage = Stage::new(database)?;
        stage.sql(&format!(
            "CREATE TABLE large (id int PRIMARY KEY, noise text);
             CREATE TABLE small (id int PRIMARY KEY); INSERT INTO small VALUES (1);
             INSERT INTO large SELECT g, (SELECT string_agg(md5(g || '-' || n), '')
                 FROM generate_series(1, 31) n) FROM generate_series(1, {rows}) g"
        ));
        Some(stage)
    }

    #[track_caller]
    fn sql(&self, statements: &str) -> String {
        self.server.sql(self.database, statements)
    }

    fn source(&self) -> String {
        self.server.address(self.database)
    }

    fn call(&self, source: &str) -> Call {
        self.world.call(["snapshot", "--json", "--source", source])
    }

    /// Takes a snapshot, and answers what is told of it.
    #[track_caller]
    fn snapshot(&self) -> Value {
        self.call(&self.source()).run().expect(0).object()
    }

    /// Restores a member to a database that is not there yet.
    #[track_caller]
    fn restore(&self, snapshot: &str, to: &str, options: &[&str]) -> Value {
        let member = format!("{snapshot}:{}", self.database);
        let to = self.server.address(to);
        let call = self.world.call(["restore", &member, "--to", &to, "--json"]);
        call.args(options).run().expect(0).object()
    }

    /// A snapshot was refused: code 1, one sentence with these words and a hint with those, no
    /// snapshot, nothing left.
    #[track_caller]
    fn assert_refused(&self, ran: Ran, sentence: &str, hint: &str) {
        let ran = ran.expect(1);
        let told: Value = serde_json::from_str(ran.stderr.trim())
            .unwrap_or_else(|e| panic!("more than one thing is said: {e}: {}", ran.stderr));
        let (said, advised) = (told["error"].as_str().unwrap(), told["hint"].as_str());
        assert!(said.contains(sentence), "{told}");
        assert!(advised.unwrap_or_default().contains(hint), "{told}");
        assert!(!said.contains('\n'), "more than a sentence: {said}");
        assert_eq!(ran.text(), "");
        assert!(self.world.snapshots().is_empty());
        assert_nothing_left(&self.world);
        self.assert_no_sessions();
    }

    /// The server has let go of everything.
    #[track_caller]
    fn assert_no_sessions(&self) {
        let of_ours = format!(
            "SELECT 1 FROM pg_stat_activity WHERE application_name IN ('hucha', 'pg_dump')
             AND datname = '{}'",
            self.database
        );
        self.server
            .until(&format!("SELECT 1 WHERE NOT EXISTS ({of_ours})"));
    }

    /// What is asked of the server's backends that read for hucha, as a query.
    fn reading(&self, what: &str, condition: &str) -> String {
        format!(
            "SELECT {what} FROM pg_stat_activity WHERE datname = '{}' \
             AND application_name = 'hucha' AND {condition}",
            self.database
        )
    }
}

fn id(taken: &Value) -> &str {
    taken["id"].as_str().unwrap()
}

fn rows(taken: &Value) -> u64 {
    taken["members"][0]["rows"].as_u64().unwrap()
}

#[test]
fn snapshots_while_pgbench_runs_hold_whole_transactions() {
    let Some(stage) = Stage::bench("bench", size(1, 10)) else {
        return;
    };
    let mut pgbench = stage.server.program("pgbench");
    pgbench.args([
        "--client=4",
        "--jobs=2",
        "--no-vacuum",
        "--time=36000",
        "bench",
    ]);
    let running = Call::new(pgbench).start();
    stage.server.until(
        "SELECT 1 FROM pg_stat_activity WHERE datname = 'bench' AND application_name = 'pgbench'",
    );
    let mut commits = 0;
    for night in 0..size(3, 10) {
        let taken = stage.snapshot();
        let name = format!("bench_{night}");
        let made = stage.restore(id(&taken), &name, &[]);
        assert_eq!(made["rows"].as_u64().unwrap(), rows(&taken), "{made}");
        assert_eq!(made["warnings"], Value::Array(Vec::new()));
        assert_eq!(stage.server.sql(&name, BALANCED), "t", "half a transaction");
        let now: u64 = stage.server.sql(&name, COMMITS).parse().unwrap();
        assert!(
            night == 0 || now > commits,
            "nobody wrote between two snapshots"
        );
        commits = now;
        stage.server.sql(ADMIN, &format!("DROP DATABASE {name}"));
    }
    running.signal(Signal::KILL);
    running.wait().expect(-9);
    stage.server.until(
        "SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM pg_stat_activity WHERE datname = 'bench')",
    );
    // Frozen at the snapshot, so it can be compared with what is restored, row by row.
    let taken = stage.snapshot();
    stage.restore(id(&taken), "bench_quiet", &[]);
    stage.server.assert_equal("bench", "bench_quiet", &[]);
    assert_eq!(stage.server.sql("bench_quiet", BALANCED), "t");
    stage.world.assert_whole();
    assert_nothing_left(&stage.world);
}

#[test]
fn a_table_the_structure_or_rows_alone() {
    let Some(stage) = Stage::bench("parts", 1) else {
        return;
    };
    let taken = stage.snapshot();
    let one = stage.restore("latest", "parts_one", &["--table", "pgbench_tellers"]);
    assert_eq!(
        (&one["tables"], &one["rows"]),
        (&1.into(), &10.into()),
        "{one}"
    );
    let only = ["--data-only", "--table=pgbench_tellers"];
    stage.server.assert_equal("parts", "parts_one", &only);
    let others = stage
        .server
        .sql("parts_one", "SELECT count(*) FROM pgbench_accounts");
    assert_eq!(others, "0");

    let empty = stage.restore("latest", "parts_structure", &["--schema-only"]);
    assert_eq!(empty["rows"], 0);
    stage
        .server
        .assert_equal("parts", "parts_structure", &["--schema-only"]);
    let accounts = "SELECT count(*) FROM pgbench_accounts";
    assert_eq!(stage.server.sql("parts_structure", accounts), "0");

    let filled = stage.restore("latest", "parts_structure", &["--data-only"]);
    assert_eq!(filled["rows"].as_u64().unwrap(), rows(&taken));
    stage.server.assert_equal("parts", "parts_structure", &[]);
    // Not twice, and not a half.
    let to = stage.server.address("parts_structure");
    let again = stage
        .world
        .run(["restore", "latest:parts", "--to", &to, "--data-only"]);
    again.expect(1);
    stage.server.assert_equal("parts", "parts_structure", &[]);
    let to = stage.server.address("parts_none");
    let none = ["restore", "latest:parts", "--to", &to, "--table", "tellers"];
    stage.world.run(none).expect(1).says("pgbench_tellers");
    let made = "SELECT count(*) FROM pg_database WHERE datname = 'parts_none'";
    assert_eq!(stage.server.sql(ADMIN, made), "0");
}

#[test]
fn a_restore_goes_beside_the_live_database_and_is_exchanged_on_request() {
    let Some(stage) = Stage::bench("live", 1) else {
        return;
    };
    stage.snapshot();
    stage.sql("DELETE FROM pgbench_tellers; CREATE TABLE later (id int)");
    let beside = stage.restore("latest", "live", &[]);
    let name = beside["database"].as_str().unwrap();
    assert!(name.starts_with("live_restored_"), "{beside}");
    assert_eq!(
        stage
            .server
            .sql(name, "SELECT count(*) FROM pgbench_tellers"),
        "10"
    );
    assert_eq!(stage.sql("SELECT count(*) FROM pgbench_tellers"), "0");
    stage
        .server
        .sql(ADMIN, &format!("ALTER DATABASE {name} RENAME TO live_old"));

    // Somebody is connected, and loses that.
    let psql = Call::new(stage.server.psql("live"));
    let mut connected = psql.args(["-c", "SELECT pg_sleep(3600)"]).start();
    stage.server.until(
        "SELECT 1 FROM pg_stat_activity WHERE datname = 'live' AND query LIKE '%pg_sleep(3600)%'",
    );
    let swapped = stage.restore("latest", "live", &["--swap"]);
    assert_eq!(swapped["database"], "live", "{swapped}");
    assert!(connected.ends_within(std::time::Duration::from_secs(30)));
    assert_ne!(connected.wait().code(), 0);
    stage.server.assert_equal("live", "live_old", &[]);
    let kept = swapped["kept"].as_str().unwrap();
    assert!(kept.starts_with("live_before_restore_"), "{swapped}");
    assert_eq!(stage.server.sql(kept, "SELECT count(*) FROM later"), "0");
    let names = "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database
                 WHERE datname LIKE 'live%'";
    assert_eq!(
        stage.server.sql(ADMIN, names),
        format!("live {kept} live_old")
    );
}

#[test]
fn a_killed_backend_leaves_no_snapshot() {
    let Some(stage) = Stage::large("killed", size(30_000, 500_000)) else {
        return;
    };
    let running = stage.call(&stage.source()).start();
    // It waits until hucha takes more: in the middle of the table.
    let in_the_middle = "query LIKE 'COPY%large%' AND wait_event = 'ClientWrite'";
    stage.server.until(&stage.reading("1", in_the_middle));
    let end = stage.reading("pg_terminate_backend(pid)", in_the_middle);
    // It may have gone on just then.
    let ended = format!(
        "DO $$ BEGIN FOR n IN 1..6000 LOOP PERFORM * FROM ({end}) AS ended; \
         IF FOUND THEN RETURN; END IF; PERFORM pg_stat_clear_snapshot(); END LOOP; \
         RAISE EXCEPTION 'nobody to end'; END $$"
    );
    stage.server.sql(ADMIN, &ended);
    let ran = running.wait();
    stage.assert_refused(ran, "the connection to killed", "");
    // Whoever holds the moment is as good as the moment.
    let running = stage.call(&stage.source()).start();
    stage.server.until(&stage.reading("1", in_the_middle));
    let holder = "state = 'idle in transaction' AND pid IN (SELECT pid FROM pg_locks
                  WHERE mode = 'AccessShareLock' AND locktype = 'relation')";
    let ended = stage
        .server
        .sql(ADMIN, &stage.reading("pg_terminate_backend(pid)", holder));
    assert!(ended.contains('t'), "nobody held the moment");
    stage.assert_refused(running.wait(), "the connection to killed", "");
    // The next one is whole.
    assert_eq!(rows(&stage.snapshot()), size(30_000, 500_000) + 1);
}

#[test]
fn a_truncate_in_the_middle_waits_and_the_snapshot_is_whole() {
    let count = size(30_000, 500_000);
    let Some(stage) = Stage::large("truncated", count) else {
        return;
    };
    let running = stage.call(&stage.source()).start();
    let in_the_middle = "query LIKE 'COPY%large%' AND wait_event = 'ClientWrite'";
    stage.server.until(&stage.reading("1", in_the_middle));
    let psql = Call::new(stage.server.psql("truncated"));
    let truncate = psql.args(["-c", "TRUNCATE large, small"]).start();
    stage.server.until(
        "SELECT 1 FROM pg_stat_activity WHERE datname = 'truncated'
         AND query = 'TRUNCATE large, small' AND wait_event_type = 'Lock'",
    );
    let taken = running.wait().expect(0).object();
    truncate.wait().expect(0);
    let left = stage.sql("SELECT count(*) FROM large, small");
    assert_eq!(left, "0", "it came through in the end");
    assert_eq!(rows(&taken), count + 1);
    let made = stage.restore(id(&taken), "truncated_back", &[]);
    assert_eq!(made["rows"].as_u64().unwrap(), count + 1);
    let back = stage
        .server
        .sql("truncated_back", "SELECT count(*), max(id) FROM large");
    assert_eq!(back, format!("{count}|{count}"));
}

#[test]
fn what_a_role_cannot_read_whole_leaves_no_snapshot() {
    let Some(stage) = Stage::new("denied") else {
        return;
    };
    stage.sql(
        "CREATE ROLE denied_weak LOGIN; CREATE ROLE denied_filtered LOGIN;
         CREATE TABLE open (id int); CREATE TABLE secret (id int, who text);
         INSERT INTO secret VALUES (1, 'denied_filtered'), (2, 'other');
         GRANT SELECT ON open, secret TO denied_weak; GRANT SELECT ON ALL TABLES IN SCHEMA public
         TO denied_filtered",
    );
    let weak = stage.server.address_of("denied_weak", "denied");
    stage.call(&weak).run().expect(0);
    stage.world.ok(["forget", "latest"]);
    stage.sql("REVOKE SELECT ON secret FROM denied_weak");
    let ran = stage.call(&weak).run();
    stage.assert_refused(
        ran,
        "permission denied for table secret",
        "GRANT pg_read_all_data",
    );

    let filtered = stage.server.address_of("denied_filtered", "denied");
    stage.sql(
        "ALTER TABLE secret ENABLE ROW LEVEL SECURITY;
         CREATE POLICY own ON secret USING (who = current_user)",
    );
    let ran = stage.call(&filtered).run();
    stage.assert_refused(ran, "not all of its rows can be read", "BYPASSRLS");
    stage.sql("ALTER ROLE denied_filtered BYPASSRLS");
    let taken = stage.call(&filtered).run().expect(0).object();
    assert_eq!(rows(&taken), 2, "both, not its own alone");
    stage
        .server
        .sql(ADMIN, "ALTER ROLE denied_filtered NOLOGIN");
    stage.world.ok(["forget", "latest"]);
    let ran = stage.call(&filtered).run();
    stage.assert_refused(ran, "refuses the connection", "");
    let nobody = stage.server.address("denied_nowhere");
    stage.assert_refused(stage.call(&nobody).run(), "there is no database", "psql -l");
}

#[test]
fn a_full_disk_of_the_repository_leaves_no_snapshot() {
    let Some(stage) = Stage::large("full_disk", 70_000) else {
        return;
    };
    let what = "a database of PostgreSQL into a full repository";
    let world = &stage.world;
    let Some(_disk) = world.onto_small_disk("16m", what) else {
        return;
    };
    let ran = stage.call(&stage.source()).run();
    stage.assert_refused(ran, "the disk of the repository is full", "hucha gc");
    stage.sql("DELETE FROM large WHERE id > 1000");
    world.ok(["gc"]);
    assert_eq!(rows(&stage.snapshot()), 1001);
    world.assert_whole();
}

/// `DROP DATABASE` writes a checkpoint, and a server that cannot goes down with all its databases.
#[test]
fn a_full_disk_of_the_server_is_said_and_given_back() {
    let what = "a database of PostgreSQL into a server whose disk is full";
    let Some(server) = Server::on_small_disk("64m", what) else {
        return;
    };
    let Some(stage) = Stage::large("too_large", 70_000) else {
        return;
    };
    server.sql(
        ADMIN,
        "CREATE TABLE live (id int); INSERT INTO live VALUES (1)",
    );
    let to = server.address("too_large");
    let world = &stage.world;
    for form in ["tables", "plain"] {
        let source = format!("{}&format={form}", stage.source());
        stage.call(&source).run().expect(0);
        let restore = ["restore", "latest:too_large", "--to", &to];
        let ran = world.call(restore).run().expect(1);
        let said = &ran.stderr;
        assert!(said.contains("could not extend file"), "{said}");
        let databases = "SELECT datname FROM pg_database WHERE datname NOT LIKE 'template%'";
        assert_eq!(server.sql(ADMIN, databases), ADMIN, "{form}");
        assert!(!server.log().contains("PANIC"), "{}", server.log());
    }
    assert_eq!(server.sql(ADMIN, "SELECT id FROM live"), "1");
    // With less in it there is room for it.
    stage.sql("DELETE FROM large WHERE id > 10000");
    stage.call(&stage.source()).run().expect(0);
    world.ok(["restore", "latest:too_large", "--to", &to]);
    let count = "SELECT count(*) FROM public.large";
    assert_eq!(server.sql("too_large", count), "10000");
}

/// Writes a file that nobody else reads.
fn secret_file(world: &World, name: &str, text: &str) -> String {
    fs::write(world.path(name), text).unwrap();
    fs::set_permissions(world.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    world.typed(name)
}

#[test]
fn passwords_come_from_files_commands_and_variables() {
    const PASSWORD: &str = r"hunter2:b\c é";
    let Some(stage) = Stage::new("locked") else {
        return;
    };
    stage.sql(&format!(
        "CREATE ROLE locked LOGIN SUPERUSER PASSWORD '{PASSWORD}'; CREATE TABLE t (id int);
         INSERT INTO t VALUES (1)"
    ));
    let world = &stage.world;
    let source = stage.server.address_of("locked", "locked");
    let file = secret_file(world, "password", &format!("{PASSWORD}\n"));
    let wrong = secret_file(world, "wrong", "hunter3\n");
    let escaped = PASSWORD.replace('\\', r"\\").replace(':', r"\:");
    let passfile = secret_file(
        world,
        "passfile",
        &format!("# all\n*:*:locked:locked:{escaped}\n"),
    );
    let command = format!("password_command=cat%20{file}");
    let right = [
        stage.call(&source).env("PGPASSFILE", &passfile),
        stage.call(&source).env("PGPASSWORD", PASSWORD),
        stage.call(&format!("{source}&password_file={file}")),
        stage.call(&format!("{source}&{command}")),
        stage
            .call(&format!("{source}&password_env=SHOP"))
            .env("SHOP", PASSWORD),
        // What the source says counts more than what the environment says.
        stage
            .call(&format!("{source}&password_file={file}"))
            .env("PGPASSWORD", "hunter3"),
    ];
    for call in right {
        let ran = call.run().expect(0);
        assert_eq!(rows(&ran.object()), 1);
        assert!(!ran.text().contains("hunter2") && !ran.stderr.contains("hunter2"));
    }
    fs::write(world.path("home/.pgpass"), format!("*:*:*:*:{escaped}")).unwrap();
    fs::set_permissions(
        world.path("home/.pgpass"),
        fs::Permissions::from_mode(0o600),
    )
    .unwrap();
    stage.call(&source).run().expect(0);
    let to = stage.server.address_of("locked", "locked_back");
    let made = world.object([
        "restore",
        "latest:locked",
        "--to",
        &format!("{to}&password_file={file}"),
    ]);
    assert_eq!(made["rows"], 1);
    stage.server.assert_equal("locked", "locked_back", &[]);
    let ids: Vec<String> = world.snapshots().iter().map(|s| id(s).to_owned()).collect();
    world.ok(["forget"].into_iter().chain(ids.iter().map(String::as_str)));

    no_password_is_told(&stage, &wrong);
}

/// What is said when the password is none, or wrong; there is a password file in the home folder.
fn no_password_is_told(stage: &Stage, wrong: &str) {
    let world = &stage.world;
    let source = stage.server.address_of("locked", "locked");
    // One that others may read is not believed, as libpq does not.
    fs::set_permissions(
        world.path("home/.pgpass"),
        fs::Permissions::from_mode(0o644),
    )
    .unwrap();
    let remedy = "password_file";
    stage.assert_refused(
        stage.call(&source).run(),
        "wants a password of locked",
        remedy,
    );
    let ran = stage.call(&source).env("PGPASSWORD", "hunter3").run();
    stage.assert_refused(ran, "the password of locked", remedy);
    let ran = stage.call(&format!("{source}&password_file={wrong}")).run();
    stage.assert_refused(ran, "the password of locked", remedy);
    let ran = stage
        .call(&format!("{source}&password_file={wrong}2"))
        .run();
    stage.assert_refused(ran, "cannot be read", "");
    let ran = stage.call(&format!("{source}&password_env=NOWHERE")).run();
    stage.assert_refused(ran, "the variable NOWHERE", "");
}

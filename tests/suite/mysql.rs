//! MySQL and MariaDB through the binary, on a private real MariaDB server: snapshots while sessions
//! move amounts, restores that `mariadb-dump` finds equal, parts, an exchange, a rehearsal and
//! exports; and what must leave no snapshot: a killed connection, tables that change in the middle,
//! missing privileges, a full disk, a wrong password, a program that is not there.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::Arc;

use serde_json::Value;

use crate::support::mysql::{EVERYTHING, SYSTEM, Server, find, noting, server};
use crate::support::private::assert_nothing_left;
use crate::support::process::{Call, Running};
use crate::support::{Ran, World, data, size};

/// What holds between any two transactions of `move_amounts`, and not within one.
const BALANCED: &str = "SELECT a + t = 1000 * n AND t = h FROM
    (SELECT SUM(balance) AS a, COUNT(*) AS n FROM account) AS accounts,
    (SELECT SUM(balance) AS t FROM till) AS tills,
    (SELECT COALESCE(SUM(amount), 0) AS h FROM history) AS histories";

/// How often it committed.
const COMMITS: &str = "SELECT COUNT(*) FROM history";

/// Accounts, read first, tills, read last, and a history of all that went from the ones to the
/// others. One transaction locks an account, then a till, so no two wait for each other.
const BENCH: &str = "
CREATE TABLE account (id INT PRIMARY KEY, balance INT NOT NULL, filler CHAR(84) NOT NULL);
CREATE TABLE till (id INT PRIMARY KEY, balance INT NOT NULL);
CREATE TABLE history (id INT AUTO_INCREMENT PRIMARY KEY, account INT NOT NULL, till INT NOT NULL,
  amount INT NOT NULL, FOREIGN KEY (account) REFERENCES account (id),
  FOREIGN KEY (till) REFERENCES till (id));
CREATE TABLE going (yes INT); INSERT INTO going VALUES (1);
INSERT INTO account SELECT seq, 1000, MD5(seq) FROM seq_1_to_ACCOUNTS;
INSERT INTO till SELECT seq, 0 FROM seq_1_to_10;
DELIMITER //
CREATE PROCEDURE move_amount(IN a INT, IN t INT, IN n INT) BEGIN
  START TRANSACTION;
  UPDATE account SET balance = balance - n WHERE id = a;
  UPDATE till SET balance = balance + n WHERE id = t;
  INSERT INTO history (account, till, amount) VALUES (a, t, n);
  COMMIT;
END//
CREATE PROCEDURE move_amounts() BEGIN
  WHILE (SELECT yes FROM going) DO
    CALL move_amount(1 + FLOOR(RAND() * ACCOUNTS), 1 + FLOOR(RAND() * 10), RAND() * 100 - 40);
  END WHILE;
END//
";

/// A repository, and a server with a database.
struct Stage {
    // Goes before the folder of a test.
    server: Arc<Server>,
    world: World,
    database: &'static str,
}

impl Stage {
    /// With an empty database and a user who may read all of it as the guide says; `None` where
    /// there is no MariaDB.
    fn new(database: &'static str) -> Option<Stage> {
        let server = server("databases of MySQL and MariaDB")?;
        server.create(database);
        let stage = Stage {
            server,
            world: World::new(),
            database,
        };
        let reader = stage.reader();
        stage.sql(&format!(
            "CREATE USER {reader}@localhost;
             GRANT SELECT, SHOW VIEW, TRIGGER, EVENT, EXECUTE ON {database}.* TO {reader}@localhost;
             GRANT SELECT ON mysql.proc TO {reader}@localhost"
        ));
        Some(stage)
    }

    /// With accounts between which amounts can be moved.
    fn bench(database: &'static str, accounts: u32) -> Option<Stage> {
        let stage = Stage::new(database)?;
        stage.sql(&BENCH.replace("ACCOUNTS", &accounts.to_string()));
        Some(stage)
    }

    /// With a table that takes a while to be read, of so many rows of 1000 bytes that halve
    /// when compressed, and two small ones that are read after it.
    fn large(database: &'static str, rows: u32) -> Option<Stage> {
        let stage = Stage::new(database)?;
        stage.sql(&format!(
            "CREATE TABLE large (id INT PRIMARY KEY, noise TEXT);
             CREATE TABLE middle (id INT PRIMARY KEY); INSERT INTO middle VALUES (1), (2);
             CREATE TABLE small (id INT PRIMARY KEY); INSERT INTO small VALUES (1);
             INSERT INTO large SELECT seq DIV 31, GROUP_CONCAT(MD5(seq) SEPARATOR '')
                 FROM seq_31_to_{} GROUP BY seq DIV 31",
            rows * 31 + 30
        ));
        Some(stage)
    }

    #[track_caller]
    fn sql(&self, statements: &str) -> String {
        self.server.sql(self.database, statements)
    }

    /// Who takes the snapshots.
    fn reader(&self) -> String {
        format!("{}_reader", self.database)
    }

    fn member(&self, snapshot: &str) -> String {
        format!("{snapshot}:{}.sql", self.database)
    }

    fn source(&self) -> String {
        self.server.address_of(&self.reader(), self.database)
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
        let to = self.server.address(to);
        let member = self.member(snapshot);
        let call = self.world.call(["restore", &member, "--to", &to, "--json"]);
        call.args(options).run().expect(0).object()
    }

    /// The databases whose names begin with that of this one.
    #[track_caller]
    fn databases(&self) -> Vec<String> {
        let named = self.database.replace('_', "\\_");
        let all = self.sql(&format!("SHOW DATABASES LIKE '{named}%'"));
        all.lines().map(str::to_owned).collect()
    }

    /// A snapshot was refused: code 1, one sentence with these words (what a program of the
    /// vendor's said may stand below it) and a hint with those, no snapshot, nothing left.
    #[track_caller]
    fn assert_refused(&self, ran: Ran, sentence: &str, hint: &str) {
        let ran = ran.expect(1);
        let told: Value = serde_json::from_str(ran.stderr.trim())
            .unwrap_or_else(|e| panic!("more than one thing is said: {e}: {}", ran.stderr));
        let (said, advised) = (told["error"].as_str().unwrap(), told["hint"].as_str());
        let (first, below) = said.split_once('\n').unwrap_or((said, "  "));
        assert!(first.contains(sentence), "{told}");
        assert!(below.lines().all(|line| line.starts_with("  ")), "{told}");
        assert!(advised.unwrap_or_default().contains(hint), "{told}");
        assert_eq!(ran.text(), "");
        assert!(self.world.snapshots().is_empty());
        assert_nothing_left(&self.world);
        self.assert_no_sessions();
    }

    /// The server has let go of everything.
    #[track_caller]
    fn assert_no_sessions(&self) {
        let ours = self.reading("1", "TRUE");
        let gone = format!("SELECT 1 FROM DUAL WHERE NOT EXISTS ({ours})");
        self.server.until(&gone);
    }

    /// What is asked of the sessions that read for hucha, as a query.
    fn reading(&self, what: &str, condition: &str) -> String {
        format!(
            "SELECT {what} FROM information_schema.processlist WHERE id <> CONNECTION_ID() \
             AND (user = '{}' OR db = '{}') AND {condition}",
            self.reader(),
            self.database
        )
    }

    /// Takes a snapshot with options that does not get beyond the table `middle` before something
    /// has happened there: SQL of the session that holds it, which then lets it go.
    #[track_caller]
    fn meanwhile(&self, options: &str, happens: &str) -> Ran {
        let (running, mut holder) = self.held("middle", options);
        holder.feed(format!("{happens};\nUNLOCK TABLES;\n").as_bytes());
        holder.wait().expect(0);
        running.wait()
    }

    /// A snapshot with options that waits for a table, and the session that holds that.
    #[track_caller]
    fn held(&self, table: &str, options: &str) -> (Running, Running) {
        let holder = self.server.hold(&format!("{}.{table}", self.database));
        let running = self.call(&format!("{}{options}", self.source())).start();
        let waits = format!("{IS_HELD} AND info LIKE '%FROM `{table}`%'");
        self.server.until(&self.reading("1", &waits));
        (running, holder)
    }
}

/// A session waits for a table that another one holds.
const IS_HELD: &str = "state = 'Waiting for table metadata lock'";

fn id(taken: &Value) -> &str {
    taken["id"].as_str().unwrap()
}

fn rows(taken: &Value) -> u64 {
    taken["members"][0]["rows"].as_u64().unwrap()
}

/// How many rows the manifest says that each table has.
fn counts(world: &World, snapshot: &str) -> BTreeMap<String, u64> {
    let manifest = world.object(["manifest", snapshot]);
    let rows = manifest["members"][0]["stream_list"][0]["rows"].clone();
    serde_json::from_value(rows).unwrap()
}

/// Fails unless each table of a restored database has the rows that the manifest says.
#[track_caller]
fn assert_counted(stage: &Stage, snapshot: &str, database: &str, tables: usize) {
    let counts = counts(&stage.world, snapshot);
    assert_eq!(counts.len(), tables, "{counts:?}");
    for (table, rows) in counts {
        let table = table.replace('`', "``");
        let found = format!("SELECT COUNT(*) FROM `{table}`");
        let found = stage.server.sql(database, &found);
        assert_eq!(found, rows.to_string(), "{table} of {database}");
    }
}

#[test]
fn snapshots_while_amounts_are_moved_hold_whole_transactions() {
    let Some(stage) = Stage::bench("moving", size(20_000, 1_000_000)) else {
        return;
    };
    let move_amounts = || {
        let client = Call::new(stage.server.client(stage.database));
        client.args(["--execute", "CALL move_amounts()"]).start()
    };
    let sessions: Vec<Running> = (0..4).map(|_| move_amounts()).collect();
    let mut commits = 0;
    for night in 0..size(3, 10) {
        // All of them are at it, and have done something since the last one.
        let at_it = "SELECT 1 FROM DUAL WHERE 4 <= (SELECT COUNT(*) FROM \
                     information_schema.processlist WHERE db = 'moving')";
        stage.server.until(at_it);
        let more = format!("SELECT id FROM moving.history WHERE id > {commits} + 100");
        stage.server.until(&more);
        let taken = stage.snapshot();
        let name = format!("moving_{night}");
        let made = stage.restore(id(&taken), &name, &[]);
        assert_eq!(made["rows"].as_u64().unwrap(), rows(&taken), "{made}");
        assert_eq!(made["warnings"], Value::Array(Vec::new()));
        assert_eq!(stage.server.sql(&name, BALANCED), "1", "half a transaction");
        assert_counted(&stage, id(&taken), &name, 4);
        let now: u64 = stage.server.sql(&name, COMMITS).parse().unwrap();
        assert!(now > commits, "nobody wrote between two snapshots");
        commits = now;
        stage.server.sql(SYSTEM, &format!("DROP DATABASE {name}"));
    }
    stage.sql("UPDATE going SET yes = 0");
    for session in sessions {
        session.wait().expect(0);
    }
    // Frozen at the snapshot, so it can be compared with what is restored, row by row.
    let taken = stage.snapshot();
    stage.restore(id(&taken), "moving_quiet", &[]);
    stage.server.assert_equal("moving", "moving_quiet", &[]);
    assert_eq!(stage.server.sql("moving_quiet", BALANCED), "1");
    stage.world.assert_whole();
    assert_nothing_left(&stage.world);
}

#[test]
fn what_is_committed_in_the_middle_of_a_dump_is_in_no_part_of_it() {
    let Some(stage) = Stage::bench("meanwhile", 1000) else {
        return;
    };
    stage.sql("CREATE TABLE middle (id INT PRIMARY KEY); CALL move_amount(1, 1, 5)");
    // Accounts and history were read, tills were not.
    let (running, holder) = stage.held("middle", "");
    stage.sql("CALL move_amount(1, 1, 7); CALL move_amount(2, 3, -9)");
    assert_eq!(stage.sql(COMMITS), "3");
    holder.wait().expect(0);
    let taken = running.wait().expect(0).object();
    stage.restore(id(&taken), "meanwhile_back", &[]);
    let ask = |sql: &str| stage.server.sql("meanwhile_back", sql);
    assert_eq!((ask(COMMITS).as_str(), ask(BALANCED).as_str()), ("1", "1"));
    assert_eq!(ask("SELECT SUM(balance) FROM till"), "5");
}

#[test]
fn a_database_with_everything_in_it_comes_back_equal() {
    let Some(stage) = Stage::new("everything") else {
        return;
    };
    stage.sql(EVERYTHING);
    let taken = stage.snapshot();
    let warnings = taken["members"][0]["warnings"].as_array().unwrap();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    for (warning, words) in warnings.iter().zip(["FLOAT", "covers loose"]) {
        assert!(warning.as_str().unwrap().contains(words), "{warnings:?}");
    }
    let made = stage.restore(id(&taken), "everything_back", &[]);
    assert_eq!(made["database"], "everything_back");
    assert_eq!(made["warnings"], Value::Array(Vec::new()));
    let server = &stage.server;
    server.assert_equal("everything", "everything_back", &[]);
    assert_counted(&stage, "latest", "everything_back", 9);
    let ask = |sql: &str| server.sql("everything_back", sql);
    let collation = "SELECT default_collation_name FROM information_schema.schemata
                     WHERE schema_name = 'everything_back'";
    assert_eq!(ask(collation), "utf8mb4_spanish_ci");
    assert_eq!(ask("SELECT COUNT(*) FROM a_view_of_views"), "2");
    assert_eq!(ask("SELECT slash()"), "\\");
    assert_eq!(
        ask("SELECT LENGTH(raw) FROM picture WHERE id = 3"),
        "2000000"
    );
    // Its triggers are its own, and what grows goes on where it was.
    ask("INSERT INTO orders (customer) VALUES (2)");
    assert_eq!(ask("SELECT MAX(id) FROM orders"), "1003");
    assert_eq!(ask("SELECT COUNT(*) FROM keyless WHERE n = 1003"), "2");
    assert_eq!(stage.sql("SELECT COUNT(*) FROM keyless"), "4");
    stage.world.assert_whole();
    assert_nothing_left(&stage.world);
}

#[test]
fn comments_within_definitions_come_back() {
    let Some(stage) = Stage::new("commented") else {
        return;
    };
    stage.sql(
        "CREATE TABLE t (id INT);
         DELIMITER //
         CREATE TRIGGER why BEFORE INSERT ON t FOR EACH ROW BEGIN
           -- because
           SET NEW.id = 1; /* and\nso */
         END//
         CREATE PROCEDURE how() BEGIN
           # like this
           SELECT 1;
         END//",
    );
    assert!(
        stage
            .sql("SHOW CREATE PROCEDURE how")
            .contains("# like this")
    );
    stage.snapshot();
    stage.restore("latest", "commented_back", &[]);
    stage
        .server
        .assert_equal("commented", "commented_back", &[]);
}

#[test]
fn triggers_are_found_however_they_were_typed() {
    let Some(stage) = Stage::new("typed") else {
        return;
    };
    // The server keeps the words as they are.
    stage.sql(
        "CREATE TABLE t (id INT PRIMARY KEY, n INT);
         create trigger small before insert on t for each row set new.n = 1;
         CREATE\nOR REPLACE\nTrigger broken\nBEFORE UPDATE ON t FOR EACH ROW SET NEW.n = 2;
         INSERT INTO t (id) VALUES (1)",
    );
    stage.snapshot();
    stage.restore("latest", "typed_back", &[]);
    stage.server.assert_equal("typed", "typed_back", &[]);
    stage.restore("latest", "typed_rows", &["--schema-only"]);
    stage.restore("latest", "typed_rows", &["--data-only"]);
    stage.server.assert_equal("typed", "typed_rows", &[]);
}

#[test]
fn a_table_the_structure_or_rows_alone() {
    let Some(stage) = Stage::new("parts") else {
        return;
    };
    stage.sql(EVERYTHING);
    let taken = stage.snapshot();
    let server = &stage.server;
    let one = stage.restore("latest", "parts_one", &["--table", "orders"]);
    assert_eq!(
        (&one["tables"], &one["rows"]),
        (&1.into(), &3.into()),
        "{one}"
    );
    assert_eq!(server.sql("parts_one", "SHOW TABLES"), "orders");
    let only = ["orders", "--skip-routines", "--skip-events"];
    server.assert_equal("parts", "parts_one", &only);

    let empty = stage.restore("latest", "parts_structure", &["--schema-only"]);
    assert_eq!(empty["rows"], 0);
    server.assert_equal("parts", "parts_structure", &["--no-data"]);
    let left = "SELECT (SELECT COUNT(*) FROM customer) + (SELECT COUNT(*) FROM loose)";
    assert_eq!(server.sql("parts_structure", left), "0");

    let filled = stage.restore("latest", "parts_structure", &["--data-only"]);
    assert_eq!(filled["rows"].as_u64().unwrap(), rows(&taken));
    server.assert_equal("parts", "parts_structure", &[]);
    // Not twice, and not a half.
    let to = server.address("parts_structure");
    let member = stage.member("latest");
    let again = ["restore", &member, "--to", &to, "--data-only"];
    stage.world.run(again).expect(1).says("rows already");
    server.assert_equal("parts", "parts_structure", &[]);
    let to = server.address("parts_none");
    let none = ["restore", &member, "--to", &to, "--table", "ordres"];
    stage.world.run(none).expect(1).says("orders");
    assert_eq!(stage.databases(), ["parts", "parts_one", "parts_structure"]);
    assert_nothing_left(&stage.world);
}

#[test]
fn a_restore_goes_beside_the_live_database_and_is_exchanged_on_request() {
    let Some(stage) = Stage::new("live") else {
        return;
    };
    stage.sql(EVERYTHING);
    stage.snapshot();
    let server = &stage.server;
    stage.restore("latest", "live_old", &[]);
    stage.sql(
        "DELETE FROM orders; CREATE TABLE later (x INT); INSERT INTO later VALUES (1);
         DROP VIEW checked; DROP TRIGGER also; DROP EVENT never",
    );
    let beside = stage.restore("latest", "live", &[]);
    let name = beside["database"].as_str().unwrap();
    assert!(name.starts_with("live_restored_"), "{beside}");
    assert_eq!(server.sql(name, "SELECT COUNT(*) FROM orders"), "3");
    assert_eq!(stage.sql("SELECT COUNT(*) FROM orders"), "0");
    // Both would do the same things.
    let runs = "SELECT event_name FROM information_schema.events
                WHERE event_schema = DATABASE() AND status = 'ENABLED'";
    assert_eq!(
        (stage.sql(runs).as_str(), server.sql(name, runs).as_str()),
        ("daily", "")
    );
    server.sql(SYSTEM, &format!("DROP DATABASE {name}"));

    let was = server.dump("live", &[]);
    let swapped = stage.restore("latest", "live", &["--swap"]);
    assert_eq!(swapped["database"], "live", "{swapped}");
    server.assert_equal("live", "live_old", &[]);
    let kept = swapped["kept"].as_str().unwrap();
    assert!(kept.starts_with("live_before_restore_"), "{swapped}");
    assert_eq!(server.sql(kept, "SELECT COUNT(*) FROM later"), "1");
    let is = server.dump(kept, &[]);
    let quiet = |line: &String| line.replace("PRESERVE ENABLE", "PRESERVE DISABLE");
    let was: Vec<String> = was.iter().map(quiet).collect();
    let differing = was.iter().zip(&is).find(|(was, is)| was != is);
    assert!(
        was == is,
        "what is kept is not what was live: {differing:?}"
    );
    assert_eq!(stage.databases(), ["live", kept, "live_old"]);
    assert_nothing_left(&stage.world);
}

#[test]
fn a_killed_connection_leaves_no_snapshot() {
    let Some(stage) = Stage::large("killed", size(30_000, 500_000)) else {
        return;
    };
    // The server waits until the client takes more: in the middle of the table.
    let in_the_middle = "info LIKE '%FROM `large`%' AND state = 'Writing to net'";
    let running = stage.call(&stage.source()).start();
    let reading = stage.reading("id", in_the_middle);
    stage.server.find_then(&reading, "KILL CONNECTION @found");
    let sentence = "the connection to the server broke";
    stage.assert_refused(running.wait(), sentence, "somebody ended it");
    // Between two tables, after most was stored.
    let (running, holder) = stage.held("middle", "");
    let reading = stage.reading("id", IS_HELD);
    stage.server.find_then(&reading, "KILL CONNECTION @found");
    stage.assert_refused(running.wait(), sentence, "");
    holder.wait().expect(0);
    let taken = stage.snapshot();
    assert_eq!(rows(&taken), 3 + size(30_000, 500_000));
}

#[test]
fn a_table_that_changes_in_the_middle_leaves_no_snapshot() {
    let Some(stage) = Stage::large("changing", 2000) else {
        return;
    };
    let sentence = "changing cannot be dumped: a table was altered, truncated or made anew";
    let altered = "ALTER TABLE changing.middle ADD x INT, ALGORITHM=COPY";
    for happens in ["TRUNCATE changing.middle", altered] {
        stage.assert_refused(stage.meanwhile("", happens), sentence, "run it again");
    }
    let dropped = stage.meanwhile("", "DROP TABLE changing.middle");
    stage.assert_refused(dropped, "a table is not there (any more)", "run it again");
    // What is new is no part of the moment, and told.
    stage.sql("CREATE TABLE middle (id INT PRIMARY KEY)");
    let (running, holder) = stage.held("middle", "");
    stage.sql("CREATE TABLE new (id INT)");
    holder.wait().expect(0);
    let taken = running.wait().expect(0).object();
    let told = "definitions changed while the dump was made: new";
    assert_eq!(taken["members"][0]["warnings"][0], told);
    assert_eq!(counts(&stage.world, "latest").len(), 3);
}

#[test]
fn what_a_user_cannot_read_whole_leaves_no_snapshot() {
    let Some(stage) = Stage::large("denied", 500) else {
        return;
    };
    stage.sql("CREATE PROCEDURE nothing() SELECT 1");
    let (reader, source) = (stage.reader(), stage.source());
    stage.snapshot();
    stage.world.ok(["forget", "latest"]);
    stage.sql(&format!(
        "REVOKE SELECT ON mysql.proc FROM {reader}@localhost"
    ));
    let ran = stage.call(&source).run();
    let sentence = "may not see a procedure or function in full";
    stage.assert_refused(ran, sentence, "GRANT SELECT ON mysql.proc");
    stage.sql(&format!(
        "REVOKE TRIGGER ON denied.* FROM {reader}@localhost"
    ));
    let ran = stage.call(&source).run();
    stage.assert_refused(
        ran,
        "may not see all triggers",
        "GRANT TRIGGER ON `denied`.*",
    );

    // Table by table, and one of them not any more.
    stage.sql(&format!("REVOKE ALL ON denied.* FROM {reader}@localhost"));
    let ran = stage.call(&source).run();
    stage.assert_refused(ran, "there is no database denied", "may this user see it");
    for table in ["large", "middle", "small"] {
        let grant = format!("GRANT SELECT ON denied.{table} TO {reader}@localhost");
        stage.sql(&grant);
    }
    let tables = "&tables=large,middle,small";
    stage.call(&format!("{source}{tables}")).run().expect(0);
    stage.world.ok(["forget", "latest"]);
    let (running, holder) = stage.held("middle", tables);
    stage.sql(&format!(
        "REVOKE SELECT ON denied.small FROM {reader}@localhost"
    ));
    holder.wait().expect(0);
    stage.assert_refused(running.wait(), "this user lacks a privilege", "");

    let stranger = stage.server.address_of("denied_nobody", "denied");
    let ran = stage.call(&stranger).run();
    stage.assert_refused(ran, "refused user or password", "password_file");
    let nowhere = stage.server.address("denied_nowhere");
    stage.assert_refused(stage.call(&nowhere).run(), "there is no database", "");
}

#[test]
fn a_table_that_was_asked_for_by_name_is_not_left_out_silently() {
    let Some(stage) = Stage::new("named") else {
        return;
    };
    stage.sql(
        "CREATE TABLE open (id INT); CREATE TABLE secret (id INT);
         INSERT INTO open VALUES (1); INSERT INTO secret VALUES (1);
         CREATE USER named_weak@localhost; GRANT SELECT ON named.open TO named_weak@localhost",
    );
    let weak = stage.server.address_of("named_weak", "named");
    let ran = stage.call(&format!("{weak}&tables=open,secret")).run();
    stage.assert_refused(ran, "secret", "");
    let typo = format!("{}&tables=open,secrte", stage.source());
    stage.assert_refused(stage.call(&typo).run(), "secrte", "");
}

#[test]
fn a_full_disk_of_the_repository_leaves_no_snapshot() {
    let Some(stage) = Stage::large("full_disk", 70_000) else {
        return;
    };
    let what = "a database of MariaDB into a full repository";
    let world = &stage.world;
    let Some(_disk) = world.onto_small_disk("16m", what) else {
        return;
    };
    let ran = stage.call(&stage.source()).run();
    stage.assert_refused(ran, "the disk of the repository is full", "hucha gc");
    stage.sql("DELETE FROM large WHERE id > 1000");
    world.ok(["gc"]);
    assert_eq!(rows(&stage.snapshot()), 1003);
    world.assert_whole();
}

/// Writes a file that nobody else reads.
fn secret_file(world: &World, name: &str, text: &str) -> String {
    fs::write(world.path(name), text).unwrap();
    fs::set_permissions(world.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    world.typed(name)
}

/// A password with all that must be escaped somewhere.
const PASSWORD: &str = r#"hunter2"b\c'#; é"#;

/// Makes a row, and a user of this database's who needs the password; answers the source.
fn keeper(stage: &Stage) -> String {
    let sql = PASSWORD.replace('\\', r"\\").replace('\'', "''");
    let user = format!("{}_keeper", stage.database);
    stage.sql(&format!(
        "CREATE USER {user}@localhost IDENTIFIED BY '{sql}'; GRANT ALL ON *.* TO {user}@localhost;
         CREATE TABLE t (id INT); INSERT INTO t VALUES (1)"
    ));
    stage.server.address_of(&user, stage.database)
}

#[test]
fn no_password_is_in_arguments_or_environment_of_a_program() {
    let Some(stage) = Stage::new("noted") else {
        return;
    };
    let world = &stage.world;
    let source = keeper(&stage) + &noting(world);
    let call = || stage.call(&source).env("MYSQL_PWD", PASSWORD);
    call().run().expect(0);
    let noted = data::files(&world.path("noted"));
    let dumps = noted.iter().map(|path| path.to_string_lossy());
    assert!(dumps.filter(|path| path.contains("/mariadb-dump.")).count() > 1);
    for path in &noted {
        let text = String::from_utf8_lossy(&fs::read(path).unwrap()).replace('\0', " ");
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn passwords_come_from_files_commands_and_variables_and_are_told_to_nobody() {
    let Some(stage) = Stage::new("locked") else {
        return;
    };
    let source = keeper(&stage);
    let world = &stage.world;
    let file = secret_file(world, "password", &format!("{PASSWORD}\n"));
    let by_file = format!("{source}&password_file={file}");
    let right = [
        stage.call(&by_file),
        stage.call(&format!("{source}&password_command=cat%20{file}")),
        stage.call(&source).env("MYSQL_PWD", PASSWORD),
        stage
            .call(&format!("{source}&password_env=SHOP"))
            .env("SHOP", PASSWORD),
        // What the source says counts more than what the environment says.
        stage.call(&by_file).env("MYSQL_PWD", "hunter3"),
    ];
    for call in right {
        let ran = call.run().expect(0);
        assert_eq!(rows(&ran.object()), 1);
        assert!(!ran.text().contains("hunter") && !ran.stderr.contains("hunter"));
        world.ok(["forget", "latest"]);
    }
    assert_nothing_left(world);
    stage.call(&by_file).run().expect(0);
    let to = stage.server.address_of("locked_keeper", "locked_back");
    let to = format!("{to}&password_file={file}");
    let made = world.object(["restore", &stage.member("latest"), "--to", &to]);
    assert_eq!(made["rows"], 1);
    stage.server.assert_equal("locked", "locked_back", &[]);
    world.ok(["forget", "latest"]);
    no_password_is_told(&stage, &source);
}

/// What is said when the password is none, or wrong.
#[track_caller]
fn no_password_is_told(stage: &Stage, source: &str) {
    let wrong = secret_file(&stage.world, "wrong", "hunter3\n");
    let refused = |call: Call, sentence: &str, hint: &str| {
        let ran = call.run();
        let said = format!("{}{}", ran.text(), ran.stderr);
        assert!(!said.contains("hunter"), "a password is told: {said}");
        stage.assert_refused(ran, sentence, hint);
    };
    let (sentence, hint) = ("the server refused user or password", "password_file");
    refused(stage.call(source), sentence, hint);
    refused(
        stage.call(source).env("MYSQL_PWD", "hunter3"),
        sentence,
        hint,
    );
    let by = |option: &str| stage.call(&format!("{source}&{option}"));
    refused(by(&format!("password_file={wrong}")), sentence, hint);
    refused(
        by(&format!("password_command=cat%20{wrong}")),
        sentence,
        hint,
    );
    refused(by(&format!("password_file={wrong}2")), "cannot be read", "");
    refused(by("password_env=NOWHERE"), "the variable NOWHERE", "");
}

#[test]
fn a_program_that_is_not_there_leaves_no_snapshot() {
    let Some(stage) = Stage::new("toolless") else {
        return;
    };
    stage.sql("CREATE TABLE t (id INT); INSERT INTO t VALUES (1)");
    let world = &stage.world;
    fs::create_dir(world.path("few")).unwrap();
    let add = |name: &str| symlink(find(name).unwrap(), world.path("few").join(name)).unwrap();
    let call = || stage.call(&stage.source()).env("PATH", world.path("few"));
    let hint = "apt-get install mariadb-client";
    add("env");
    stage.assert_refused(call().run(), "the program mariadb is not installed", hint);
    add("mariadb");
    let ran = call().run();
    stage.assert_refused(ran, "the program mariadb-dump is not installed", hint);
    add("mariadb-dump");
    call().run().expect(0);
}

#[test]
fn a_rehearsal_on_a_server_of_its_own_passes() {
    let Some(stage) = Stage::new("rehearsed") else {
        return;
    };
    stage.sql(EVERYTHING);
    let taken = stage.snapshot();
    let world = &stage.world;
    let expect = "rehearsed.sql: SELECT COUNT(*) = 3 AND @@skip_networking FROM orders";
    let ran = world.ok(["rehearse", "latest", "--json", "--expect", expect]);
    let told = ran.object();
    assert_eq!(told["passed"], true, "{told}");
    let member = &told["members"][0];
    assert_eq!(member["name"], "rehearsed.sql", "{told}");
    assert_eq!(member["rows"].as_u64().unwrap(), rows(&taken));
    assert_eq!(member["tables"], 9);
    assert_eq!(world.snapshots()[0]["rehearsal"]["passed"], true);
    // One that expects too much does not.
    let expect = "rehearsed.sql: SELECT COUNT(*) = 4 FROM orders";
    let ran = world.run(["rehearse", "latest", "--json", "--expect", expect]);
    assert_eq!(ran.expect(1).object()["passed"], false);
    assert_eq!(world.snapshots()[0]["rehearsal"]["passed"], false);
    assert_eq!(
        stage.databases(),
        ["rehearsed"],
        "it was on the live server"
    );
    assert_nothing_left(world);
}

#[test]
fn exports_are_files_that_the_client_loads() {
    let Some(stage) = Stage::new("exported") else {
        return;
    };
    stage.sql(EVERYTHING);
    stage.snapshot();
    let (world, member) = (&stage.world, stage.member("latest"));
    fs::create_dir(world.path("out")).unwrap();
    let plain = world.object(["export", &member, "out"]);
    let zipped = world.object(["export", &member, "out", "--gzip"]);
    let path = |told: &Value| world.path(told["path"].as_str().unwrap());
    let (plain, zipped) = (path(&plain), path(&zipped));
    let named = |path: &std::path::Path| path.file_name().unwrap().to_string_lossy().into_owned();
    assert!(named(&plain).starts_with("exported_backup_"), "{plain:?}");
    assert!(named(&plain).ends_with(".sql"), "{plain:?}");
    assert_eq!(named(&zipped), named(&plain) + ".gz");
    let text = fs::read(&plain).unwrap();
    let mut gunzip = world.command("gzip");
    let unzipped = gunzip.args(["--decompress", "--stdout"]).arg(&zipped);
    let unzipped = unzipped.output().unwrap();
    assert!(unzipped.status.success(), "{:?}", unzipped.stderr);
    assert!(unzipped.stdout == text, "both are the same");
    for (name, text) in [("exported_one", text), ("exported_two", unzipped.stdout)] {
        stage.server.create(name);
        stage.server.load(name, &text);
        stage.server.assert_equal("exported", name, &[]);
    }
    // What is there is not replaced.
    world.run(["export", &member, "out"]).expect(1);
    assert_eq!(data::files(&world.path("out")).len(), 2);
    assert_nothing_left(world);
}

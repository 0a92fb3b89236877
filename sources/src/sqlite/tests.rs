//! Live databases in both journal modes, parts of them, restores and exchanges.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::Sqlite;
use crate::database::testing::{context, take};
use crate::database::{Cause, Context, Database, Part, RestoreOptions, Settings};

struct World {
    _keep: tempfile::TempDir,
    folder: PathBuf,
    context: Context,
}

fn world() -> World {
    let keep = tempfile::tempdir().unwrap();
    let folder = keep.path().to_owned();
    World {
        context: context(&folder),
        folder,
        _keep: keep,
    }
}

fn sqlite(path: &Path) -> Sqlite {
    let address = format!("sqlite://{}", path.display());
    Sqlite::new(Settings::of_address(&address).unwrap()).unwrap()
}

/// A shop of two tables, with all that a restore in parts has to keep.
fn shop(path: &Path, journal: &str) -> Connection {
    let shop = Connection::open(path).unwrap();
    let _: String = shop
        .query_row(&format!("PRAGMA journal_mode = {journal}"), [], |r| {
            r.get(0)
        })
        .unwrap();
    shop.execute_batch(
        "PRAGMA user_version = 7; PRAGMA application_id = 99;
         CREATE TABLE item (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, price REAL,
                            label TEXT GENERATED ALWAYS AS (name || '!') STORED);
         CREATE TABLE \"odd \"\"name\" (a, b, PRIMARY KEY (a, b)) WITHOUT ROWID;
         CREATE TABLE bare (x);
         CREATE INDEX by_name ON item (name);
         CREATE TABLE log (what TEXT);
         CREATE TRIGGER noted AFTER INSERT ON item BEGIN INSERT INTO log VALUES (new.name); END;
         CREATE VIEW dear AS SELECT * FROM item WHERE price > 5;
         INSERT INTO item (name, price) VALUES ('ax', 9.5), ('bow', 3), (x'00ff', NULL);
         DELETE FROM item WHERE name = 'bow';
         INSERT INTO \"odd \"\"name\" VALUES (1, 'x'), (2, x'00');
         INSERT INTO bare VALUES (1), (2), (3); DELETE FROM bare WHERE x = 2;",
    )
    .unwrap();
    shop
}

fn value(path: &Path, sql: &str) -> String {
    let connection = Connection::open(path).unwrap();
    connection
        .query_row(sql, [], |row| row.get::<_, rusqlite::types::Value>(0))
        .map(|value| format!("{value:?}"))
        .unwrap()
}

#[test]
fn a_live_database_in_every_journal_mode_is_the_same_afterwards() {
    for journal in ["wal", "delete", "truncate"] {
        let world = world();
        let path = world.folder.join("app.db");
        let live = shop(&path, journal);
        // Uncommitted: no part of any snapshot.
        live.execute_batch("BEGIN; INSERT INTO bare VALUES (77)")
            .unwrap();
        let source = sqlite(&path);
        let taken = take(&source, &world.context).unwrap();
        assert_eq!(taken.member.kind, "sqlite");
        let rows: Vec<_> = taken.rows().into_iter().collect();
        let row = |name: &str, n| (name.to_owned(), n);
        assert_eq!(
            rows,
            [
                row("bare", 2),
                row("item", 2),
                row("log", 3),
                row("odd \"name", 2)
            ]
        );
        assert_eq!(taken.member.property("user_version"), Some("7"));
        let mode = if journal == "wal" { "wal" } else { "rollback" };
        assert_eq!(taken.member.property("journal"), Some(mode));
        live.execute_batch("COMMIT").unwrap();

        let copy = world.folder.join("copy.db");
        let target = sqlite(&copy);
        let made = target
            .restore(&taken, &RestoreOptions::default(), &world.context)
            .unwrap();
        assert_eq!(made.name, copy.display().to_string());
        assert_eq!((made.tables, made.rows), (4, 9));
        assert_eq!(value(&copy, "PRAGMA application_id"), "Integer(99)");
        let verified = target.verify(&taken, &world.context).unwrap();
        assert_eq!(verified.rows, 9);
        Connection::open(&copy)
            .unwrap()
            .execute_batch("DELETE FROM bare")
            .unwrap();
        let error = target.verify(&taken, &world.context).unwrap_err();
        assert_eq!(error.cause, Cause::Differs);
        assert_eq!(error.what, "bare has 0 rows instead of 2");
        assert_eq!(
            std::fs::read_dir(world.folder.join("scratch")).map_or(0, Iterator::count),
            0
        );
    }
}

#[test]
fn what_is_not_there_or_no_database_is_refused_and_not_made() {
    let world = world();
    let path = world.folder.join("none.db");
    let error = sqlite(&path).preflight(&world.context).unwrap_err();
    assert_eq!(error.cause, Cause::Absent);
    assert!(!path.exists());
    std::fs::write(&path, "x".repeat(5000)).unwrap();
    let error = sqlite(&path).preflight(&world.context).unwrap_err();
    assert!(error.what.contains("is no SQLite database"), "{error}");
    for bad in [
        "sqlite://app.db",
        "sqlite:///",
        "sqlite:///a?check=perhaps",
        "sqlite:///a?x=1",
    ] {
        assert!(
            Sqlite::new(Settings::of_address(bad).unwrap()).is_err(),
            "{bad}"
        );
    }
}

#[test]
fn a_damaged_database_is_no_snapshot() {
    for journal in ["wal", "delete"] {
        let world = world();
        let path = world.folder.join("app.db");
        let live = shop(&path, journal);
        live.execute_batch(
            "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 5000)
             INSERT INTO bare SELECT x FROM n; PRAGMA wal_checkpoint(TRUNCATE)",
        )
        .unwrap();
        drop(live);
        let mut bytes = std::fs::read(&path).unwrap();
        let at = bytes.len() - 3 * 4096;
        bytes[at..at + 4096].fill(0x5a);
        std::fs::write(&path, bytes).unwrap();
        let error = take(&sqlite(&path), &world.context).unwrap_err();
        assert_eq!(error.cause, Cause::Incomplete, "{error}");
    }
}

#[test]
fn parts_of_a_database() {
    let world = world();
    let path = world.folder.join("app.db");
    drop(shop(&path, "wal"));
    let taken = take(&sqlite(&path), &world.context).unwrap();
    let restore = |name: &str, part, tables: &[&str]| {
        let options = RestoreOptions {
            part,
            tables: tables.iter().map(|t| (*t).to_owned()).collect(),
            ..RestoreOptions::default()
        };
        let target = world.folder.join(name);
        let made = sqlite(&target).restore(&taken, &options, &world.context);
        made.map(|made| (target, made))
    };
    let (schema, _) = restore("schema.db", Part::Schema, &[]).unwrap();
    assert_eq!(value(&schema, "SELECT count(*) FROM item"), "Integer(0)");
    assert_eq!(value(&schema, "PRAGMA user_version"), "Integer(7)");
    let objects = "SELECT count(*) FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'";
    assert_eq!(value(&schema, objects), value(&path, objects));

    let (one, made) = restore("one.db", Part::All, &["item"]).unwrap();
    assert_eq!((made.tables, made.rows), (1, 2));
    assert_eq!(
        value(&one, "SELECT label FROM item WHERE id = 1"),
        "Text(\"ax!\")"
    );
    assert_eq!(value(&one, "SELECT seq FROM sqlite_sequence"), "Integer(3)");
    let error = restore("two.db", Part::All, &["itm"]).unwrap_err();
    assert_eq!(error.cause, Cause::Absent);
    assert!(error.hint.unwrap().contains("item"));
    assert!(!world.folder.join("two.db").exists());

    let (schema, made) = restore("schema.db", Part::Data, &[]).unwrap();
    assert_eq!(made.rows, 7 + 2);
    assert_eq!(
        value(&schema, "SELECT group_concat(rowid) FROM bare"),
        "Text(\"1,3\")"
    );
    assert_eq!(value(&schema, "SELECT count(*) FROM log"), "Integer(3)");
    let error = restore("schema.db", Part::Data, &[]).unwrap_err();
    assert_eq!(error.cause, Cause::Exists);
    assert_eq!(value(&schema, "SELECT count(*) FROM bare"), "Integer(2)");
}

#[test]
fn a_restore_over_a_live_one_is_beside_it_and_exchanged_on_request() {
    for journal in ["wal", "delete"] {
        let world = world();
        let path = world.folder.join("app.db");
        let live = shop(&path, journal);
        let taken = take(&sqlite(&path), &world.context).unwrap();
        live.execute_batch("DELETE FROM bare; INSERT INTO log VALUES ('late')")
            .unwrap();
        let target = sqlite(&path);
        let made = target
            .restore(&taken, &RestoreOptions::default(), &world.context)
            .unwrap();
        assert!(
            made.name.ends_with("app.db.restored-20261127_163000"),
            "{}",
            made.name
        );
        assert_eq!(value(&path, "SELECT count(*) FROM log"), "Integer(4)");
        let made = target.swap(made, &world.context).unwrap();
        // The program that had it open all the time sees what was restored.
        let count = |sql: &str| live.query_row(sql, [], |r| r.get::<_, i64>(0)).unwrap();
        assert_eq!(count("SELECT count(*) FROM bare"), 2);
        assert_eq!(count("SELECT count(*) FROM log"), 3);
        let kept = PathBuf::from(made.kept.unwrap());
        assert_eq!(value(&kept, "SELECT count(*) FROM log"), "Integer(4)");
        target.verify(&taken, &world.context).unwrap();
        let names: Vec<String> = std::fs::read_dir(&world.folder)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.contains("restored") || name.contains(".tmp"))
            .collect();
        assert!(names.is_empty(), "{names:?}");
    }
}

/// A database whose commits are in its log, copied as a crash would leave them; nothing else.
fn left_behind(path: &Path) {
    let live = shop(path, "wal");
    live.execute_batch("PRAGMA wal_checkpoint(TRUNCATE); DELETE FROM bare; DELETE FROM item")
        .unwrap();
    let log = super::stale::companion(path, "-wal");
    let bytes = std::fs::read(&log).unwrap();
    drop(live);
    std::fs::remove_file(path).unwrap();
    assert!(!bytes.is_empty() && !log.exists());
    std::fs::write(&log, bytes).unwrap();
}

#[test]
fn what_another_database_left_beside_the_name_does_not_get_into_a_restore() {
    let world = world();
    let path = world.folder.join("app.db");
    drop(shop(&path, "wal"));
    let taken = take(&sqlite(&path), &world.context).unwrap();
    std::fs::remove_file(&path).unwrap();
    left_behind(&path);
    let journal = super::stale::companion(&path, "-journal");
    std::fs::write(&journal, "anything").unwrap();
    let made = sqlite(&path)
        .restore(&taken, &RestoreOptions::default(), &world.context)
        .unwrap();
    assert_eq!(value(&path, "SELECT count(*) FROM bare"), "Integer(2)");
    assert_eq!(value(&path, "SELECT count(*) FROM item"), "Integer(2)");
    sqlite(&path).verify(&taken, &world.context).unwrap();
    assert_eq!(made.warnings.len(), 2, "{:?}", made.warnings);
    for end in ["-wal", "-journal"] {
        let aside = format!("app.db.before-restore-20261127_163000{end}");
        assert!(world.folder.join(&aside).exists(), "{aside}");
        assert!(made.warnings.iter().any(|w| w.contains(&aside)), "{made:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_program_that_still_uses_a_removed_database_is_a_reason_to_refuse() {
    for journal in ["wal", "delete"] {
        let world = world();
        let path = world.folder.join("app.db");
        let live = shop(&path, journal);
        let taken = take(&sqlite(&path), &world.context).unwrap();
        std::fs::remove_file(&path).unwrap();
        let error = sqlite(&path)
            .restore(&taken, &RestoreOptions::default(), &world.context)
            .unwrap_err();
        assert_eq!(error.cause, Cause::Locked, "{error}");
        let process = format!("process {}", std::process::id());
        assert!(error.what.contains(&process), "{error}");
        assert!(!path.exists());
        drop(live);
        sqlite(&path)
            .restore(&taken, &RestoreOptions::default(), &world.context)
            .unwrap();
        assert_eq!(value(&path, "SELECT count(*) FROM bare"), "Integer(2)");
    }
}

/// Somebody who commits a number after the other.
#[derive(Default)]
struct Writer {
    last: AtomicU64,
    end: AtomicBool,
}

impl Writer {
    fn write(&self, path: &Path) {
        let connection = Connection::open(path).unwrap();
        connection.busy_timeout(Duration::from_secs(60)).unwrap();
        // The harder for others to come in between.
        connection
            .execute_batch("PRAGMA synchronous = OFF")
            .unwrap();
        while !self.end.load(Relaxed) {
            let number = format!("n{:09}", self.last.load(Relaxed) + 1);
            connection
                .execute("INSERT INTO log VALUES (?1)", [number])
                .unwrap();
            self.last.fetch_add(1, Relaxed);
        }
    }

    /// Waits until it has committed a few more.
    fn await_more(&self) {
        let (then, since) = (self.last.load(Relaxed), Instant::now());
        while self.last.load(Relaxed) < then + 5 {
            let is_late = since.elapsed() > Duration::from_secs(60);
            self.end.fetch_or(is_late, Relaxed);
            assert!(!is_late, "nobody writes");
            std::thread::yield_now();
        }
    }
}

#[test]
fn whatever_was_committed_before_an_exchange_is_kept() {
    for journal in ["wal", "delete"] {
        let world = world();
        let path = world.folder.join("app.db");
        let live = shop(&path, journal);
        let taken = take(&sqlite(&path), &world.context).unwrap();
        let more = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 2000)
                    INSERT INTO bare SELECT randomblob(2000) FROM n";
        live.execute_batch(more).unwrap();
        drop(live);
        let target = sqlite(&path);
        for round in 1..=2 {
            let made = target
                .restore(&taken, &RestoreOptions::default(), &world.context)
                .unwrap();
            let writer = Writer::default();
            let made = std::thread::scope(|scope| {
                scope.spawn(|| writer.write(&path));
                writer.await_more();
                let made = target.swap(made, &world.context);
                writer.await_more();
                writer.end.store(true, Relaxed);
                made.unwrap()
            });
            let last = writer.last.load(Relaxed);
            let kept = PathBuf::from(made.kept.unwrap());
            let numbers = "SELECT group_concat(what, ' ') FROM \
                           (SELECT what FROM log WHERE what LIKE 'n0%' ORDER BY what)";
            let text = |path: &Path| {
                let connection = Connection::open(path).unwrap();
                let text: Option<String> = connection.query_row(numbers, [], |r| r.get(0)).unwrap();
                text.unwrap_or_default()
            };
            let all = format!("{} {}", text(&kept), text(&path));
            let all: Vec<&str> = all.split_whitespace().collect();
            let expected: Vec<String> = (1..=last).map(|n| format!("n{n:09}")).collect();
            assert_eq!(all, expected, "{journal}, round {round}");
            let live = Connection::open(&path).unwrap();
            live.execute("DELETE FROM log WHERE what LIKE 'n0%'", [])
                .unwrap();
        }
    }
}

#[test]
fn an_exchange_that_fails_leaves_the_live_one_and_tells_what_it_leaves() {
    let world = world();
    let path = world.folder.join("app.db");
    let live = shop(&path, "delete");
    let taken = take(&sqlite(&path), &world.context).unwrap();
    live.execute_batch("DELETE FROM bare").unwrap();
    let address = format!("sqlite://{}?busy_timeout=1", path.display());
    let target = Sqlite::new(Settings::of_address(&address).unwrap()).unwrap();
    let made = target
        .restore(&taken, &RestoreOptions::default(), &world.context)
        .unwrap();
    // A reader lets nobody write in this mode.
    live.execute_batch("BEGIN; SELECT count(*) FROM item")
        .unwrap();
    live.query_row("SELECT count(*) FROM item", [], |_| Ok(()))
        .unwrap();
    let error = target.swap(made, &world.context).unwrap_err();
    live.execute_batch("COMMIT").unwrap();
    let kept = format!("{}.before-restore-20261127_163000", path.display());
    assert!(error.in_one().contains(&kept), "{error:?}");
    assert_eq!(
        value(Path::new(&kept), "SELECT count(*) FROM item"),
        "Integer(2)"
    );
    assert_eq!(value(&path, "SELECT count(*) FROM bare"), "Integer(0)");
}

#[test]
fn a_foreign_key_that_fits_nothing_is_a_warning() {
    let world = world();
    let path = world.folder.join("app.db");
    let live = shop(&path, "wal");
    live.execute_batch(
        "PRAGMA foreign_keys = OFF;
         CREATE TABLE parent (name TEXT); CREATE TABLE child (p TEXT REFERENCES parent (name));
         INSERT INTO child VALUES ('x')",
    )
    .unwrap();
    let taken = take(&sqlite(&path), &world.context).unwrap();
    let warnings = &taken.member.warnings;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("foreign key mismatch"), "{warnings:?}");
    assert_eq!(taken.rows()["child"], 1);
}

#[test]
fn the_last_who_looks_takes_its_log_along_and_leaves_that_of_others() {
    let world = world();
    let path = world.folder.join("app.db");
    drop(shop(&path, "wal"));
    take(&sqlite(&path), &world.context).unwrap();
    assert!(super::stale::companions(&path).is_empty());
    // A log that a crash left is not ours to bring in.
    let copy = world.folder.join("copy.db");
    let live = shop(&copy, "wal");
    let log = super::stale::companion(&copy, "-wal");
    let (file, bytes) = (std::fs::read(&copy).unwrap(), std::fs::read(&log).unwrap());
    drop(live);
    std::fs::write(&copy, &file).unwrap();
    std::fs::write(&log, &bytes).unwrap();
    let taken = take(&sqlite(&copy), &world.context).unwrap();
    assert_eq!(taken.rows()["bare"], 2);
    assert_eq!(std::fs::read(&log).unwrap(), bytes);
    assert_eq!(std::fs::read(&copy).unwrap(), file);
}

/// Runs something as another user in some groups, in a thread of its own; needs root.
#[cfg(target_os = "linux")]
fn as_user(uid: u32, gid: u32, groups: &[u32], run: impl FnOnce() + Send) {
    use rustix::fs::{Gid, Uid};
    let groups: Vec<Gid> = groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            rustix::thread::set_thread_groups(&groups).unwrap();
            rustix::thread::set_thread_res_gid(gid, gid, gid).unwrap();
            rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
            run();
        });
        thread.join().unwrap();
    });
}

/// `daemon` has a database; somebody without a name is in a group that may write it.
#[cfg(target_os = "linux")]
#[test]
fn what_sqlite_makes_for_another_user_is_open_to_the_owner_or_nothing_is_read() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    if !rustix::process::geteuid().is_root() {
        eprintln!("!!! SKIPPED, needs root: SQLite databases of other users");
        return;
    }
    let world = world();
    let path = world.folder.join("app.db");
    drop(shop(&path, "wal"));
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(&path, 0o660);
    mode(&world.folder, 0o777);
    let (daemon, other) = (1, 54_321);
    for (group, works) in [(daemon, true), (other, false)] {
        chown(&path, Some(daemon), Some(group)).unwrap();
        as_user(other, 65_534, &[group], || {
            let opened = sqlite(&path).open();
            if works {
                let made = std::fs::metadata(super::stale::companion(&path, "-wal")).unwrap();
                assert_eq!((made.uid(), made.gid()), (other, group));
                assert_eq!(made.mode() & 0o777, 0o660);
            } else {
                let error = opened.as_ref().map(|_| ()).unwrap_err();
                assert_eq!(error.cause, Cause::Denied);
                assert!(error.what.contains("user daemon"), "{error}");
            }
        });
        let left = super::stale::companions(&path);
        assert!(left.is_empty(), "{left:?}");
    }
}

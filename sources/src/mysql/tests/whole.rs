//! Whole databases: there and back.

use super::*;
use crate::database::{Cause, RestoreOptions};

#[test]
fn a_database_with_everything_in_it_comes_back_as_it_was() {
    let world = world();
    world.shop("whole");
    let source = world.at("whole");
    let taken = world.take(&source);
    let rows: Vec<_> = taken.rows().into_iter().collect();
    let row = |name: &str, n| (name.to_owned(), n);
    let wanted = [
        row("customer", 2),
        row("log", 3),
        row("nothing", 0),
        row("odd `name; --", 1),
        row("old", 2),
        row("orders", 3),
        row("part", 2),
    ];
    assert_eq!(rows, wanted);
    assert_eq!(taken.member.form, "plain");
    assert!(
        taken.member.server.starts_with("MariaDB "),
        "{}",
        taken.member.server
    );
    assert!(taken.member.tool.contains("dump"), "{}", taken.member.tool);
    let collation = taken.member.property("collation");
    assert_eq!(collation, Some("utf8mb4_spanish_ci"));
    let warnings = &taken.member.warnings;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].starts_with("no transaction covers old:"));
    assert!(!taken.text("").contains("sandbox"));
    assert_eq!(
        world.take(&source).bytes,
        taken.bytes,
        "equal bytes while nothing changes"
    );

    let copy = world.at("whole_copy");
    let options = RestoreOptions::default();
    let made = copy.restore(&taken, &options, &world.context).unwrap();
    assert_eq!(
        (made.name.as_str(), made.tables, made.rows),
        ("whole_copy", 7, 13)
    );
    assert_eq!(made.warnings, [""; 0]);
    assert_eq!(plain(&world.take(&copy)), plain(&taken));
    assert_eq!(
        world.one(
            "SELECT default_collation_name FROM information_schema.schemata \
                   WHERE schema_name = 'whole_copy'"
        ),
        "utf8mb4_spanish_ci"
    );
    let verified = copy.verify(&taken, &world.context).unwrap();
    assert_eq!((verified.tables, verified.rows), (7, 13));
    let ask = |sql: &str| copy.query(sql, &world.context).unwrap();
    assert_eq!(ask("SELECT COUNT(*) FROM v1").as_deref(), Some("2"));
    assert_eq!(ask("SELECT slash()").as_deref(), Some("\\"));
    assert_eq!(ask("SELECT NULL"), None);
    assert_eq!(ask("SELECT 'NULL<>&'").as_deref(), Some("NULL<>&"));
    assert_eq!(ask("SELECT id FROM nothing"), None);
    world.run("DELETE FROM whole_copy.part WHERE id = 1");
    let error = copy.verify(&taken, &world.context).unwrap_err();
    assert_eq!(error.cause, Cause::Differs);
    assert_eq!(error.what, "whole_copy: part has 1 rows instead of 2");
    assert!(world.is_clean());
}

#[test]
fn a_rehearsal_needs_no_server_of_the_users() {
    use crate::database::rehearsal::Stage;
    let world = world();
    world.shop("rehearsed");
    // On another server this view works only under the database's own name.
    world.run("CREATE VIEW rehearsed.sliced AS SELECT rehearsed.slash() AS s");
    let mut taken = world.take(&world.at("rehearsed"));
    let mut stage = Stage::new(&world.context, &[]).unwrap();
    let sql = ["SELECT COUNT(*) = 1 FROM sliced".to_owned()];
    let rehearsed = stage.rehearse(&taken, &sql).unwrap();
    assert_eq!(
        (rehearsed.verified.tables, rehearsed.verified.rows),
        (7, 13)
    );
    taken.streams[0].facts.rows[0].1 += 1;
    let error = stage.rehearse(&taken, &sql).unwrap_err();
    assert_eq!(error.cause, Cause::Differs);
}

#[test]
fn beside_a_live_one_events_rest_and_absent_definers_are_told() {
    let world = world();
    world.shop("beside");
    world.run(
        "CREATE USER gone@localhost; \
         CREATE DEFINER = gone@localhost VIEW beside.w AS SELECT 1 AS one;",
    );
    let source = world.at("beside");
    // The client cannot dump a view whose definer is gone.
    let taken = world.take(&source);
    world.run("DROP USER gone@localhost");
    let options = RestoreOptions::default();
    let made = source.restore(&taken, &options, &world.context).unwrap();
    assert_eq!(made.name, "beside_restored_20261127_163000");
    assert_eq!(made.warnings.len(), 2, "{:?}", made.warnings);
    assert!(made.warnings[0].starts_with("1 events of beside_restored"));
    assert!(made.warnings[1].contains("run as gone@localhost"));
    let states = world.run(
        "SELECT event_name, status FROM information_schema.events \
         WHERE event_schema LIKE 'beside\\_r%' ORDER BY 1",
    );
    assert_eq!(
        states,
        [["daily", "SLAVESIDE_DISABLED"], ["never", "DISABLED"]]
    );
    // Where one stands already nothing is touched.
    let other = source.restore(&taken, &options, &world.context).unwrap();
    assert_eq!(other.name, "beside_restored_20261127_163000_2");
    assert_eq!(world.databases("beside%").len(), 3);
}

#[test]
fn each_copy_shows_one_moment_while_amounts_are_moved() {
    let world = world();
    world.run(
        "CREATE DATABASE moving; USE moving;
         CREATE TABLE a (id INT PRIMARY KEY, n INT, pad CHAR(200) DEFAULT 'x');
         CREATE TABLE z LIKE a;
         INSERT INTO a SELECT seq, 100, REPEAT('a', 200) FROM seq_1_to_20000;
         INSERT INTO z SELECT seq, 100, REPEAT('z', 200) FROM seq_1_to_20000;
         CREATE TABLE going (yes INT); INSERT INTO going VALUES (1);
         CREATE TABLE moved (n INT); INSERT INTO moved VALUES (0);
         DELIMITER ;;
         CREATE PROCEDURE move_amounts() BEGIN
           DECLARE i INT DEFAULT 0;
           WHILE (SELECT yes FROM going) DO
             SET i = i + 1;
             START TRANSACTION;
             UPDATE a SET n = n - 7 WHERE id = 1 + (i * 7919) % 20000;
             UPDATE moved SET n = n + 1;
             UPDATE z SET n = n + 7 WHERE id = 1 + (i * 104729) % 20000;
             COMMIT;
           END WHILE;
         END;;
         DELIMITER ;",
    );
    let source = world.at("moving");
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| world.run("CALL moving.move_amounts()"));
        }
        let mut before = 0;
        let mut turn = |turn: u32| {
            // The writers have done something since the last copy.
            while world
                .one("SELECT n FROM moving.moved")
                .parse::<u64>()
                .unwrap()
                <= before
            {}
            let taken = world.take(&source);
            let copy = world.at(&format!("moving_copy_{turn}"));
            copy.restore(&taken, &RestoreOptions::default(), &world.context)
                .unwrap();
            let ask = |sql: &str| copy.query(sql, &world.context).unwrap().unwrap();
            let sum = ask("SELECT (SELECT SUM(n) FROM a) + (SELECT SUM(n) FROM z)");
            assert_eq!(sum, "4000000");
            let moved = ask("SELECT n FROM moved");
            assert_eq!(ask("SELECT (2000000 - SUM(n)) DIV 7 FROM a"), moved);
            let moved = moved.parse::<u64>().unwrap();
            assert!(moved > before, "{moved} {before}");
            before = moved;
        };
        // The writers end also when it fails.
        let all = std::panic::AssertUnwindSafe(|| (0..4).for_each(&mut turn));
        let all = std::panic::catch_unwind(all);
        world.run("UPDATE moving.going SET yes = 0");
        all.unwrap();
    });
}

fn gone(pid: &str) -> bool {
    !std::path::Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn a_private_server_is_nobodys_and_goes() {
    let world = world();
    // Temporary tables of another server that runs as the same user.
    let others = std::env::temp_dir().join(format!("#sql-hucha-{}.MAI", std::process::id()));
    std::fs::write(&others, "x").unwrap();
    let user = nix::unistd::User::from_name("mysql").unwrap();
    if let Some(user) = user.filter(|_| nix::unistd::Uid::effective().is_root()) {
        std::os::unix::fs::chown(&others, Some(user.uid.as_raw()), None).unwrap();
    }
    let server = Throwaway::start(&world.context).unwrap();
    assert!(others.exists());
    std::fs::remove_file(&others).unwrap();
    let folder = server.socket().parent().unwrap().to_owned();
    let address = server.address("x y");
    let there = Mysql::new(Settings::of_address(&address).unwrap()).unwrap();
    let access = there.access(&world.context).unwrap();
    access.ask(None, "CREATE DATABASE `x y`").unwrap();
    let ask = |sql: &str| there.query(sql, &world.context).unwrap().unwrap();
    assert_eq!(ask("SELECT @@skip_networking"), "1");
    there.remove("x y", &world.context).unwrap();
    let left = access.ask(None, "SHOW DATABASES LIKE 'x y'").unwrap();
    assert!(left.is_empty());
    use std::os::unix::fs::MetadataExt;
    let meta = std::fs::metadata(&folder).unwrap();
    assert_eq!(meta.mode() & 0o777, 0o700);
    let pid = std::fs::read_to_string(folder.join("data/pid")).unwrap();
    let owner = std::fs::metadata(format!("/proc/{}", pid.trim()))
        .unwrap()
        .uid();
    assert_eq!(owner, meta.uid());
    assert_ne!(owner, 0);
    drop(server);
    assert!(!folder.exists());
    // Whoever has to reap it may not have done so; it runs no more.
    let command = std::fs::read(format!("/proc/{}/cmdline", pid.trim()));
    assert!(command.is_ok_and(|line| line.is_empty()) || gone(pid.trim()));
}

//! Nothing but what was asked for is touched, and all of it is there.

use super::failing::fake;
use super::*;
use crate::database::{Cause, RestoreOptions};

/// What is said about the state of a database.
fn state(world: &World, name: &str) -> Vec<String> {
    plain(&world.take(&world.at(name)))
}

#[test]
fn a_dump_of_several_databases_never_reaches_the_live_one() {
    let world = world();
    world.shop("aimed");
    let source = world.at("aimed");
    let taken = world.take(&source);
    world.run("INSERT INTO aimed.nothing VALUES (7)");
    let before = state(&world, "aimed");
    for (away, known) in [
        ("USE `aimed`;\n", "USE"),
        ("/*!50001 use `aimed` */;\n", "USE"),
        (
            "CREATE DATABASE IF NOT EXISTS `aimed_x`;\n",
            "CREATE DATABASE",
        ),
        (
            "/*!40000 DROP DATABASE IF EXISTS `aimed`*/;\n",
            "DROP DATABASE",
        ),
        ("ALTER DATABASE `aimed` COMMENT 'x';\n", "ALTER DATABASE"),
    ] {
        let mut several = taken.clone();
        let bytes = several.bytes.get_mut("").unwrap();
        let at = taken.text("").find("--\n-- Table structure").unwrap();
        bytes.splice(at..at, away.bytes());
        let options = RestoreOptions::default();
        let restored = source.restore(&several, &options, &world.context);
        let error = restored.unwrap_err();
        assert!(error.what.contains(known), "{error}");
        assert_eq!(world.databases("aimed%"), ["aimed"]);
    }
    assert_eq!(state(&world, "aimed"), before);
    // Rows of which nothing is known are not said to be all there.
    let mut unknown = taken.clone();
    unknown.streams[0].facts.rows.clear();
    let options = RestoreOptions::default();
    let made = source.restore(&unknown, &options, &world.context).unwrap();
    assert!(
        made.warnings[0].contains("7 tables of aimed_restored"),
        "{:?}",
        made.warnings
    );
    // A client that dumps several databases is found out.
    let script = "[ \"$2\" = --version ] && echo 'mariadb-dump from 99.1.1-MariaDB' && exit 0\n\
                  for last; do :; done\n\
                  exec /usr/bin/mariadb-dump \"$1\" --triggers --routines --databases \"$last\"";
    let options = fake(&world, "mariadb-dump", script);
    let error = take(&world.with("aimed", &options), &world.context).unwrap_err();
    assert!(error.what.contains("has CREATE DATABASE in it"), "{error}");
}

#[test]
fn what_was_made_under_another_collation_keeps_it_and_the_live_one_its_own() {
    let world = world();
    world.shop("collated");
    world.run("ALTER DATABASE collated CHARACTER SET latin1 COLLATE latin1_bin");
    let source = world.at("collated");
    let taken = world.take(&source);
    assert!(
        taken
            .text("")
            .contains("ALTER DATABASE `collated` CHARACTER SET")
    );
    world.run("ALTER DATABASE collated CHARACTER SET utf8mb4 COLLATE utf8mb4_bin");
    let options = RestoreOptions::default();
    let made = source.restore(&taken, &options, &world.context).unwrap();
    let of = |name: &str| {
        world.run(&format!(
            "SELECT default_collation_name FROM information_schema.schemata \
             WHERE schema_name = '{name}'; \
             SELECT database_collation FROM information_schema.triggers \
             WHERE trigger_schema = '{name}'; \
             SELECT DISTINCT database_collation FROM information_schema.routines \
             WHERE routine_schema = '{name}'; \
             SELECT DISTINCT database_collation FROM information_schema.events \
             WHERE event_schema = '{name}'"
        ))
    };
    let made_with = [["utf8mb4_spanish_ci"]; 3];
    assert_eq!(of("collated")[0], ["utf8mb4_bin"]);
    assert_eq!(of(&made.name)[0], ["latin1_bin"]);
    assert_eq!(of(&made.name)[1..], made_with);
}

#[test]
fn words_may_be_typed_small() {
    let world = world();
    world.run(
        "create database small; use small; create table t (x int); create table u (x int);
         create trigger tr before insert on t for each row set @a = 1;
         create view v as select 1; create event e on schedule every 1 day do select 1;
         create procedure p() select 1; insert into u values (1), (2)",
    );
    let source = world.at("small");
    let taken = world.take(&source);
    world.run("DELETE FROM small.u");
    let options = RestoreOptions {
        part: crate::database::Part::Data,
        ..RestoreOptions::default()
    };
    source.restore(&taken, &options, &world.context).unwrap();
    assert_eq!(state(&world, "small"), plain(&taken));
}

#[test]
fn events_run_neither_before_the_rows_are_counted_nor_beside() {
    let world = world();
    world.run(
        "CREATE DATABASE timed; USE timed; CREATE TABLE t (x INT); INSERT INTO t VALUES (1);
         CREATE EVENT e ON SCHEDULE EVERY 1 SECOND COMMENT 'PRESERVE ENABLE'
           DO INSERT INTO timed.t VALUES (2)",
    );
    let source = world.at("timed");
    let mut taken = world.take(&source);
    // A client that notes what it is fed.
    let note = world.folder.join("fed");
    let script = format!(
        "case \" $* \" in *--binary-mode*) exec tee -a {} | /usr/bin/mariadb \"$@\";; esac\n\
         exec /usr/bin/mariadb \"$@\"",
        note.display()
    );
    let options = fake(&world, "mariadb", &script);
    let with = world.with("timed", &options);
    let made = with
        .restore(&taken, &RestoreOptions::default(), &world.context)
        .unwrap();
    let fed = std::fs::read_to_string(&note).unwrap();
    assert!(fed.contains("EVENT `e` ON SCHEDULE") && !fed.contains("NOT PRESERVE ENABLE"));
    let status = |name: &str| {
        world.one(&format!(
            "SELECT status FROM information_schema.events WHERE event_schema = '{name}'"
        ))
    };
    assert_eq!(status(&made.name), "SLAVESIDE_DISABLED");
    assert!(made.warnings[0].starts_with("1 events of timed_restored"));
    let swapped = source.swap(made, &world.context).unwrap();
    assert_eq!(status("timed"), "ENABLED");
    assert_eq!(status(swapped.kept.as_deref().unwrap()), "DISABLED");
    // Rows that differ: no event was made by then.
    std::fs::remove_file(&note).unwrap();
    taken.streams[0].facts.rows[0].1 += 1;
    let options = RestoreOptions::default();
    let other = world.with("timed_new", &options_of(&world));
    let error = other.restore(&taken, &options, &world.context).unwrap_err();
    assert_eq!(error.cause, Cause::Differs);
    assert!(
        !std::fs::read_to_string(&note)
            .unwrap()
            .contains("EVENT `e`")
    );
}

/// The programs of ours.
fn options_of(world: &World) -> String {
    format!("&tool_dir={}", world.folder.join("tools").display())
}

//! What a capture sees and keeps: privileges, option files, what a dump form loses.

use super::failing::fake;
use super::*;
use crate::database::{Cause, Part, RestoreOptions};

#[test]
fn routines_that_a_user_may_not_see_are_missed() {
    let world = world();
    world.shop("hidden");
    world.run(
        "CREATE USER h1@localhost; CREATE USER h2@localhost; CREATE USER h3@localhost;
         GRANT SELECT, SHOW VIEW, TRIGGER, EVENT ON hidden.* TO h1@localhost, h2@localhost;
         GRANT SELECT ON mysql.proc TO h2@localhost;
         GRANT SHOW VIEW, TRIGGER, EVENT, EXECUTE ON `hid%`.* TO h3@localhost;
         GRANT SELECT ON hidden.* TO h3@localhost",
    );
    let denied = |user: &str, options: &str| {
        let from = world.user(user, "hidden", options);
        let error = take(&from, &world.context).unwrap_err();
        assert_eq!(error.cause, Cause::Denied, "{error}");
        error.what
    };
    for options in ["", "&exclude_tables=log"] {
        let what = denied("h1", options);
        assert!(
            what.contains("may not see all procedures and functions of hidden"),
            "{what}"
        );
    }
    // Only the most exact of a user's patterns counts.
    let what = denied("h3", "");
    assert!(
        what.contains("all views, triggers, events, procedures and functions"),
        "{what}"
    );
    let taken = world.take(&world.user("h2", "hidden", ""));
    assert!(taken.text("").contains("PROCEDURE `twice`"));
    world
        .user("h1", "hidden", "&part=data")
        .preflight(&world.context)
        .unwrap();
    // A dump without them is found out although a table is left out.
    let script = "[ \"$2\" = --version ] && echo 'mariadb-dump from 99.1.1-MariaDB' && exit 0\n\
                  for one; do shift; [ \"$one\" = --routines ] || set -- \"$@\" \"$one\"; done\n\
                  exec /usr/bin/mariadb-dump \"$@\"";
    let options = fake(&world, "mariadb-dump", script);
    let from = world.with("hidden", &format!("{options}&exclude_tables=log"));
    let error = take(&from, &world.context).unwrap_err();
    assert_eq!(error.what, "hidden had 2 routines, and the dump has 0");
}

#[test]
fn an_option_file_says_only_how_the_server_is_reached() {
    let world = world();
    world.shop("optional");
    let home = world.folder.join("own.cnf");
    let text = "[client]\nprotocol=socket\n[mysqldump]\nwhere=1=0\ndatabases\nreplace\n\
                [mariadb-dump]\nno-data\nignore-table=optional.part\n[mysql]\ndatabase=mysql\n";
    std::fs::write(&home, text).unwrap();
    let note = world.folder.join("login");
    let script = format!(
        "echo \"login $MYSQL_TEST_LOGIN_FILE\" >>{}\nexec /usr/bin/mariadb-dump \"$@\"",
        note.display()
    );
    let options = fake(&world, "mariadb-dump", &script);
    let options = format!("{options}&defaults_file={}", home.display());
    let taken = world.take(&world.with("optional", &options));
    assert_eq!(plain(&taken), plain(&world.take(&world.at("optional"))));
    let noted = std::fs::read_to_string(&note).unwrap();
    let last = noted.lines().last().unwrap();
    let file = last.strip_prefix("login ").unwrap();
    assert!(file.starts_with(&*world.folder.to_string_lossy()), "{file}");
    assert!(!std::path::Path::new(file).exists());
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    std::fs::set_permissions(&home, mode).unwrap();
    let error = take(&world.with("optional", &options), &world.context).unwrap_err();
    assert!(
        error.what.ends_with("may be written by everybody"),
        "{error}"
    );
}

#[test]
fn histories_are_kept_and_losses_told() {
    let world = world();
    world.run(
        "CREATE DATABASE aged; USE aged; CREATE TABLE f (x FLOAT); CREATE TABLE d (x DOUBLE);
         INSERT INTO f VALUES (16777215); CREATE VIEW fv AS SELECT x FROM f;
         CREATE TABLE v (id INT PRIMARY KEY, t TEXT) WITH SYSTEM VERSIONING;
         CREATE TABLE w (x INT, a TIMESTAMP(6) GENERATED ALWAYS AS ROW START,
           b TIMESTAMP(6) GENERATED ALWAYS AS ROW END, PERIOD FOR SYSTEM_TIME (a, b))
           WITH SYSTEM VERSIONING;
         INSERT INTO v VALUES (1, 'a'), (2, 'b'); UPDATE v SET t = 'c'; DELETE FROM v WHERE id = 2;
         INSERT INTO w (x) VALUES (1); DELETE FROM w",
    );
    let source = world.at("aged");
    let taken = world.take(&source);
    assert_eq!(
        taken.member.warnings.len(),
        1,
        "{:?}",
        taken.member.warnings
    );
    assert!(taken.member.warnings[0].contains("lose the last ones: f;"));
    assert_eq!((taken.rows()["v"], taken.rows()["w"]), (4, 1));
    let all = "SELECT id, t, row_start, row_end FROM @.v FOR SYSTEM_TIME ALL ORDER BY 3, 1; \
               SELECT x, a, b FROM @.w FOR SYSTEM_TIME ALL";
    let history = |name: &str| world.run(&all.replace('@', name));
    let part = |part| RestoreOptions {
        part,
        ..RestoreOptions::default()
    };
    let made = source
        .restore(&taken, &part(Part::All), &world.context)
        .unwrap();
    assert_eq!(made.rows, 6);
    assert_eq!(history(&made.name), history("aged"));
    let copy = world.at("aged_copy");
    copy.restore(&taken, &part(Part::Schema), &world.context)
        .unwrap();
    copy.restore(&taken, &part(Part::Data), &world.context)
        .unwrap();
    assert_eq!(history("aged_copy"), history("aged"));
    // A history that goes by transactions cannot be dumped.
    world.run(
        "USE aged; CREATE TABLE x (n INT, a BIGINT UNSIGNED GENERATED ALWAYS AS ROW START, \
         b BIGINT UNSIGNED GENERATED ALWAYS AS ROW END, PERIOD FOR SYSTEM_TIME (a, b)) \
         WITH SYSTEM VERSIONING; INSERT INTO x (n) VALUES (1), (2); UPDATE x SET n = 3",
    );
    let taken = world.take(&source);
    assert!(
        taken.member.warnings[0].starts_with("the history of v, w, x is not in the dump"),
        "{:?}",
        taken.member.warnings
    );
    let made = source
        .restore(&taken, &part(Part::All), &world.context)
        .unwrap();
    assert_eq!(
        world.one(&format!("SELECT COUNT(*) FROM {}.x", made.name)),
        "2"
    );
    let schema = world.take(&world.with("aged", "&part=schema"));
    assert_eq!(schema.member.warnings, [""; 0]);
}

#[test]
fn views_of_what_is_left_out_are_left_out() {
    let world = world();
    world.shop("partial");
    world.run(
        "CREATE VIEW partial.v3 AS SELECT id, '`partial`.`orders`' FROM partial.customer;
         CREATE TABLE partial.orders2 (x INT);
         CREATE VIEW partial.v4 AS SELECT x FROM partial.orders2",
    );
    let taken = world.take(&world.with("partial", "&exclude_tables=orders"));
    let wanted = [
        "view v2 was left out: it uses orders, which is not captured",
        "view v1 was left out: it uses v2, which is not captured",
    ];
    assert_eq!(taken.member.warnings[..2], wanted);
    let options = RestoreOptions::default();
    let copy = world.at("partial_copy");
    copy.restore(&taken, &options, &world.context).unwrap();
    let views = "SELECT table_name FROM information_schema.views \
                 WHERE table_schema = 'partial_copy' ORDER BY 1";
    assert_eq!(world.run(views), [["v3"], ["v4"]]);
    let error = take(&world.with("partial", "&tables=v1"), &world.context).unwrap_err();
    assert_eq!(
        error.what,
        "nothing of partial can be captured: view v1 was left out: it uses v2, which is not \
         captured"
    );
}

#[test]
fn names_that_differ_by_case_are_two_databases() {
    let world = world();
    world.run(
        "CREATE DATABASE cased; CREATE DATABASE Cased; USE cased; CREATE TABLE a (x INT); \
         USE Cased; CREATE TABLE b (x INT); CREATE TABLE a (x INT, y FLOAT); \
         CREATE PROCEDURE p() SELECT 1; CREATE EVENT e ON SCHEDULE EVERY 1 DAY DO SELECT 1; \
         CREATE TRIGGER t BEFORE INSERT ON b FOR EACH ROW SET @a = 1",
    );
    let lower = world.take(&world.at("cased"));
    let names: Vec<String> = lower.rows().into_keys().collect();
    assert_eq!(names, ["a"]);
    assert_eq!(lower.member.warnings, [""; 0]);
    let upper = world.take(&world.at("Cased"));
    assert_eq!(upper.rows().len(), 2);
    // There is none of just that name.
    let made = world
        .at("CASED")
        .restore(&upper, &RestoreOptions::default(), &world.context)
        .unwrap();
    assert_eq!(made.name, "CASED");
}

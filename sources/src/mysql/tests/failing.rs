//! What goes wrong: nothing half is left, and a sentence says what it was.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::database::{Bytes, Cause, DatabaseError, RestoreOptions};

/// Two tables, of which the first is larger than all buffers between server and reader.
fn large(world: &World, name: &str) {
    world.run(&format!(
        "CREATE DATABASE {name}; USE {name};
         CREATE TABLE a (id INT PRIMARY KEY, pad CHAR(250));
         INSERT INTO a SELECT seq, REPEAT('a', 250) FROM seq_1_to_60000;
         CREATE TABLE z (id INT PRIMARY KEY); INSERT INTO z VALUES (1), (2)"
    ));
}

/// What a capture fails with when something happens in its middle.
fn meanwhile(from: &Mysql, context: &Context, happens: impl FnOnce()) -> DatabaseError {
    let mut capture = from.capture(context).unwrap();
    let stream = capture.streams.remove(0);
    let mut bytes: Box<dyn Bytes> = (stream.open)().unwrap();
    let mut buffer = vec![0; 1000];
    bytes.read(&mut buffer).unwrap();
    happens();
    loop {
        match bytes.read(&mut buffer) {
            Ok(0) => panic!("it ended well"),
            Ok(_) => {}
            Err(error) => return error,
        }
    }
}

#[test]
fn in_the_middle_of_a_dump() {
    let world = world();
    large(&world, "middle");
    world.run(
        "CREATE USER only@localhost; GRANT SELECT ON middle.a TO only@localhost; \
         GRANT SELECT ON middle.z TO only@localhost",
    );
    let source = world.at("middle");
    let fails = |sql: &str| meanwhile(&source, &world.context, || drop(world.run(sql)));
    let error = fails("TRUNCATE middle.z");
    assert_eq!(error.cause, Cause::Incomplete);
    assert!(
        error.what.contains("altered, truncated or made anew"),
        "{error}"
    );
    let error = fails("ALTER TABLE middle.z ADD x INT, ALGORITHM=COPY");
    assert!(
        error.what.contains("altered, truncated or made anew"),
        "{error}"
    );

    let error = fails(
        "SET @id = (SELECT id FROM information_schema.processlist WHERE info LIKE '%FROM `a`%' \
         AND db = 'middle' AND id <> CONNECTION_ID()); KILL @id",
    );
    assert_eq!(error.cause, Cause::Unreachable);
    assert!(
        error.what.contains("the connection to the server broke"),
        "{error}"
    );

    let only = world.user("only", "middle", "&tables=a,z");
    let error = meanwhile(&only, &world.context, || {
        world.run("REVOKE SELECT ON middle.z FROM only@localhost");
    });
    assert_eq!(error.cause, Cause::Denied, "{error}");
    let error = fails("DROP TABLE middle.z");
    assert_eq!(error.cause, Cause::Incomplete);
    assert!(error.what.contains("a table is not there"), "{error}");

    // What is new is no part of the moment, and told.
    let mut capture = source.capture(&world.context).unwrap();
    let mut bytes = (capture.streams.remove(0).open)().unwrap();
    world.run("CREATE TABLE middle.b (x INT)");
    let mut buffer = vec![0; 100_000];
    while bytes.read(&mut buffer).unwrap() > 0 {}
    let captured = (capture.end)().unwrap();
    assert_eq!(
        captured.warnings,
        ["definitions changed while the dump was made: b"]
    );

    let error = meanwhile(&source, &world.context, || world.context.stopper.stop());
    assert_eq!(error.cause, Cause::Stopped);
}

#[test]
fn before_a_dump() {
    let world = world();
    world.shop("before");
    world.run(
        "CREATE USER w@localhost IDENTIFIED BY 'x'; CREATE USER s@localhost; \
         GRANT SELECT, SHOW VIEW ON before.* TO s@localhost; CREATE USER t@localhost; \
         GRANT SELECT, SHOW VIEW, TRIGGER, EVENT, EXECUTE ON `before`.* TO t@localhost;"
            .replace("before.*", "`before`.*")
            .as_str(),
    );
    let error = |from: &Mysql| from.preflight(&world.context).unwrap_err();
    assert_eq!(error(&world.at("nowhere")).cause, Cause::Absent);
    let denied = error(&world.user("w", "before", ""));
    assert_eq!(denied.cause, Cause::Denied);
    assert!(denied.what.contains("refused user or password"), "{denied}");
    let denied = error(&world.user("s", "before", ""));
    assert_eq!(denied.cause, Cause::Denied);
    assert!(
        denied
            .what
            .contains("triggers, events, procedures and functions of before"),
        "{denied}"
    );
    assert!(
        denied
            .hint
            .unwrap()
            .starts_with("GRANT TRIGGER, EVENT, EXECUTE ON `before`.*")
    );
    // It may run routines, and not see what they are made of.
    let denied = take(&world.user("t", "before", ""), &world.context).unwrap_err();
    assert_eq!(denied.cause, Cause::Denied, "{denied}");
    assert!(
        denied.what.contains("may not see a procedure or function"),
        "{denied}"
    );
    let nobody = Settings::of_address("mysql://root@localhost/x?socket=/nowhere/socket").unwrap();
    let gone = error(&Mysql::new(nobody).unwrap());
    assert_eq!(gone.cause, Cause::Unreachable, "{gone}");
    world.run("CREATE VIEW `before`.broken AS SELECT * FROM `before`.log; DROP TABLE `before`.log");
    let broken = take(&world.at("before"), &world.context).unwrap_err();
    assert_eq!(broken.cause, Cause::Incomplete);
    assert!(
        broken.what.contains("a view refers to something"),
        "{broken}"
    );
    assert!(world.is_clean());
}

/// A program of ours in front of the vendor's.
pub(super) fn fake(world: &World, name: &str, script: &str) -> String {
    let folder = world.folder.join("tools");
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    format!("&tool_dir={}", folder.display())
}

#[test]
fn a_client_that_does_not_fit_or_lies() {
    let world = world();
    large(&world, "lying");
    let version = |text: &str, then: &str| {
        let script = format!("[ \"$2\" = --version ] && echo '{text}' && exit 0\n{then}");
        fake(&world, "mariadb-dump", &script) + &fake(&world, "mysqldump", &script)
    };
    let fails = |options: &str| {
        let from = world.with("lying", options);
        take(&from, &world.context).unwrap_err()
    };
    let old = fails(&version(
        "mariadb-dump  Ver 10.19 Distrib 10.3.39-MariaDB, for x",
        "",
    ));
    assert_eq!(old.cause, Cause::Tool);
    assert!(old.what.contains("does not fit the server"), "{old}");
    let other = fails(&version("mysqldump  Ver 8.4.0 for Linux on x86_64", ""));
    assert!(other.what.contains("another product"), "{other}");
    let real = "mariadb-dump from 99.1.1-MariaDB, client 10.19";
    // The last line counts, and what is there.
    let cut = fails(&version(real, "mariadb-dump \"$@\" | head -c 300000"));
    assert_eq!(cut.cause, Cause::Incomplete);
    assert!(cut.what.contains("does not end with"), "{cut}");
    let less = fails(&version(real, "exec /usr/bin/mariadb-dump \"$@\" a"));
    assert_eq!(less.what, "z of lying is missing from the dump");
    let full = fails(&version(real, "mariadb-dump \"$@\" >/dev/full"));
    assert!(full.what.contains("could not be written"), "{full}");
    assert!(world.is_clean());
}

#[test]
fn a_password_is_seen_by_nobody() {
    let world = world();
    world.shop("secret");
    let password = "p\"w'#\\s é; x";
    let sql = password.replace('\\', "\\\\").replace('\'', "''");
    world.run(&format!(
        "CREATE USER keeper@localhost IDENTIFIED BY '{sql}'; \
         GRANT ALL ON *.* TO keeper@localhost"
    ));
    let file = world.folder.join("password");
    std::fs::write(&file, format!("{password}\n")).unwrap();
    let note = world.folder.join("noted");
    let noting = |name: &str| {
        format!(
            "{{ cat /proc/$$/cmdline | tr '\\0' '\\n'; env; \
             case $1 in --defaults-file=*) stat -c 'mode %a' \"${{1#*=}}\";; esac; }} >>{}\n\
             exec /usr/bin/{name} \"$@\"",
            note.display()
        )
    };
    fake(&world, "mariadb-dump", &noting("mariadb-dump"));
    let options = fake(&world, "mariadb", &noting("mariadb"));
    let options = format!("{options}&password_file={}", file.display());
    let source = world.user("keeper", "secret", &options);
    let taken = world.take(&source);
    let made = source
        .restore(&taken, &RestoreOptions::default(), &world.context)
        .unwrap();
    source.swap(made, &world.context).unwrap();
    let noted = std::fs::read_to_string(&note).unwrap();
    assert!(
        noted.contains("mariadb-dump") && noted.contains("--binary-mode"),
        "{noted}"
    );
    assert!(!noted.contains("p\"w"), "{noted}");
    let modes: Vec<&str> = noted
        .lines()
        .filter(|line| line.starts_with("mode "))
        .collect();
    assert!(
        modes.len() > 5 && modes.iter().all(|mode| *mode == "mode 600"),
        "{modes:?}"
    );
    assert!(world.is_clean());
    // From the environment, and from an option file of the user's.
    let mut context = world.context.clone();
    context.variables = Arc::new(move |name| match name {
        "MYSQL_PWD" => Some(password.into()),
        _ => std::env::var_os(name),
    });
    world
        .user("keeper", "secret", "")
        .preflight(&context)
        .unwrap();
    let own = world.folder.join("own.cnf");
    std::fs::write(&own, "[client]\npassword=\"p\\\"w'#\\\\s é; x\"\n").unwrap();
    let options = format!("&defaults_file={}", own.display());
    world
        .user("keeper", "secret", &options)
        .preflight(&world.context)
        .unwrap();
    world
        .user("keeper", "secret", "")
        .preflight(&world.context)
        .unwrap_err();
}

#[test]
fn a_restore_that_fails_leaves_nothing() {
    let world = world();
    world.shop("undone");
    let source = world.at("undone");
    let taken = world.take(&source);
    let fails = |taken: &Taken| {
        let options = RestoreOptions::default();
        let error = source.restore(taken, &options, &world.context).unwrap_err();
        assert_eq!(world.databases("undone%"), ["undone"], "{error}");
        assert!(world.is_clean());
        error
    };
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut other = taken.clone();
        change(other.bytes.get_mut("").unwrap());
        other
    };
    let cut = fails(&with(&|bytes| bytes.truncate(bytes.len() / 2)));
    assert_eq!(cut.cause, Cause::Incomplete, "{cut}");
    let wrong = fails(&with(&|bytes| {
        let text = String::from_utf8(bytes.clone()).unwrap();
        *bytes = text
            .replace("INSERT INTO `part`", "INSERT INTO `prat`")
            .into_bytes();
    }));
    assert!(
        wrong.what.contains("undone_restored_20261127_163000"),
        "{wrong}"
    );
    let mut more = taken.clone();
    more.streams[0].facts.rows[0].1 += 1;
    let differs = fails(&more);
    assert_eq!(differs.cause, Cause::Differs);
    assert!(
        differs.what.ends_with("customer has 2 rows instead of 3"),
        "{differs}"
    );
    let mut other = taken.clone();
    other.member.kind = "sqlite".into();
    assert_eq!(fails(&other).cause, Cause::Setting);
    world.context.stopper.stop();
    let options = RestoreOptions::default();
    let error = source
        .restore(&taken, &options, &world.context)
        .unwrap_err();
    assert_eq!(error.cause, Cause::Stopped);
}

//! There and back: what a capture holds, restores beside and instead of the live database.

use hucha_sources::database::{Cause, RestoreOptions};
use hucha_tests::fakes::tds::{Database, Switches};

use super::{Stage, assert_told};

#[test]
fn a_database_comes_back_under_a_new_name() {
    let stage = Stage::new();
    let taken = stage.take("users").unwrap();
    assert_eq!(taken.rows(), [("dbo.account", 120), ("sales.order", 0)]);
    assert_eq!(taken.unsure("dbo.account"), None);
    assert_eq!(taken.member.name, "users.bak");
    assert_eq!(
        (taken.member.kind.as_str(), taken.member.form.as_str()),
        ("mssql", "bak")
    );
    assert_eq!(
        taken.member.server,
        "SQL Server 16.0.4105.2 (Developer Edition (64-bit))"
    );
    assert!(taken.bytes.starts_with(b"TAPE"));
    assert!(
        taken.member.warnings.is_empty(),
        "{:?}",
        taken.member.warnings
    );
    for (name, value) in [
        ("collation", "Modern_Spanish_CI_AS"),
        ("recovery_model", "FULL"),
        ("finished", "2026-11-27 01:00:00.000"),
        ("file_1", r"D 8388608 users C:\Data\users.mdf"),
        ("file_2", r"L 8388608 users_log C:\Data\users_log.ldf"),
        ("encrypted", "false"),
    ] {
        assert_eq!(taken.member.property(name), Some(value), "{name}");
    }
    stage.assert_clean();

    let target = stage.plain("users");
    let made = target
        .restore(&taken, &RestoreOptions::default(), &stage.context)
        .unwrap();
    assert_eq!(made.name, "users_restored_20261127_163000");
    assert_eq!((made.tables, made.rows, made.warnings.len()), (2, 120, 0));
    stage.assert_clean();
    {
        let engine = stage.fake.engine();
        let (old, new) = (&engine.databases["users"], &engine.databases[&made.name]);
        assert_eq!((&old.pages, &old.tables), (&new.pages, &new.tables));
        let places: Vec<&str> = new.files.iter().map(|f| f.physical.as_str()).collect();
        let places_wanted = [
            r"C:\Data\users_restored_20261127_163000_1.mdf",
            r"D:\Log\users_restored_20261127_163000_2.ldf",
        ];
        assert_eq!(places, places_wanted);
    }
    let new = stage.plain(&made.name);
    let verified = new.verify(&taken, &stage.context).unwrap();
    assert_eq!(
        (verified.rows, verified.checks),
        (120, vec!["checkdb".to_owned()])
    );
    let counted = new
        .query("SELECT count(*) FROM dbo.account", &stage.context)
        .unwrap();
    assert_eq!(counted.as_deref(), Some("120"));

    several_in_a_second(&stage, &taken);
}

/// Names get numbers, up to a limit.
fn several_in_a_second(stage: &Stage, taken: &super::Taken) {
    let target = stage.plain("users");
    let again = target.restore(taken, &RestoreOptions::default(), &stage.context);
    assert_eq!(again.unwrap().name, "users_restored_20261127_163000_2");
    for number in 3..=9 {
        let database = Database::new("x", &[]);
        let name = format!("users_restored_20261127_163000_{number}");
        stage.fake.engine().databases.insert(name, database);
    }
    let error = target.restore(taken, &RestoreOptions::default(), &stage.context);
    assert_told(&error.unwrap_err(), Cause::Exists, "are there already");
    stage.assert_clean();
}

#[test]
fn names_that_need_quoting_and_an_old_server() {
    let stage = Stage::new();
    let odd = "it's [a] base";
    let database = Database::new(odd, &[("dbo.o'd]d", 7)]);
    stage
        .fake
        .engine()
        .databases
        .insert(odd.to_owned(), database);
    stage.fake.engine().switches.is_old = true;
    let taken = stage.take(odd).unwrap();
    assert_eq!(taken.rows(), [("dbo.o'd]d", 7)]);
    stage.fake.engine().databases.remove(odd);
    let target = stage.plain(odd);
    let made = target
        .restore(&taken, &RestoreOptions::default(), &stage.context)
        .unwrap();
    assert_eq!((made.name.as_str(), made.rows), (odd, 7));
    let place = stage.fake.engine().databases[odd].files[0].physical.clone();
    assert_eq!(place, r"E:\Master\it_s__a__base_20261127_163000_1.mdf");
    stage.assert_clean();
}

#[test]
fn rows_that_moved_while_the_backup_was_made_are_not_compared() {
    // One came and went: the numbers before and after are the same.
    let stage = Stage::new();
    stage.fake.engine().switches.busy = true;
    let taken = stage.take("users").unwrap();
    assert_eq!(taken.unsure("dbo.account"), Some("changed"));
    assert_eq!(taken.unsure("sales.order"), None);
    let mut other = taken.clone();
    other.streams[0].facts.rows[0].1 = 121;
    let target = stage.plain("copy");
    let made = target
        .restore(&other, &RestoreOptions::default(), &stage.context)
        .unwrap();
    assert_eq!((made.tables, made.rows), (1, 0));
    assert!(
        made.warnings[0].contains("dbo.account"),
        "{:?}",
        made.warnings
    );

    // Who does not see what comes and goes sees numbers only.
    stage.fake.engine().switches.hide_changes = true;
    assert_eq!(stage.take("users").unwrap().unsure("dbo.account"), None);
    stage.fake.engine().switches = Switches::default();

    // A transaction that was open when the backup began.
    let open = |is: bool| {
        let mut engine = stage.fake.engine();
        engine
            .databases
            .get_mut("users")
            .unwrap()
            .has_open_transaction = is;
    };
    open(true);
    let taken = stage.take("users").unwrap();
    assert_eq!(taken.unsure("sales.order"), Some("open transaction"));
    open(false);
    stage.assert_clean();
}

#[test]
fn rows_that_come_in_the_middle_are_in_the_backup() {
    let stage = Stage::new();
    stage.fake.engine().switches.hold_backup = true;
    let taken = std::thread::scope(|scope| {
        let taking = scope.spawn(|| stage.take("users"));
        stage.fake.await_held();
        let mut engine = stage.fake.engine();
        engine
            .databases
            .get_mut("users")
            .unwrap()
            .insert("dbo.account", 5);
        drop(engine);
        stage.fake.release();
        taking.join().unwrap().unwrap()
    });
    assert_eq!(taken.rows()[0], ("dbo.account", 125));
    assert_eq!(taken.unsure("dbo.account"), Some("120 before"));
    let target = stage.plain("copy");
    target
        .restore(&taken, &RestoreOptions::default(), &stage.context)
        .unwrap();
    assert_eq!(
        stage.fake.engine().databases["copy"].rows()["dbo.account"],
        125
    );
}

#[test]
fn capitals_are_of_no_matter_where_the_server_says_so() {
    let stage = Stage::new();
    let taken = stage.take("USERS").unwrap();
    assert_eq!(taken.rows()[0], ("dbo.account", 120));
    assert_eq!(taken.member.property("database"), Some("users"));
    let target = stage.plain("Users");
    let made = target
        .restore(&taken, &RestoreOptions::default(), &stage.context)
        .unwrap();
    assert_eq!(made.name, "Users_restored_20261127_163000");
}

#[test]
fn an_encrypted_database_is_said() {
    let stage = Stage::new();
    let mut engine = stage.fake.engine();
    engine.databases.get_mut("users").unwrap().is_encrypted = true;
    drop(engine);
    let taken = stage.take("users").unwrap();
    assert!(
        taken.member.warnings[0].contains("certificate"),
        "{:?}",
        taken.member.warnings
    );
    assert_eq!(taken.member.property("encrypted"), Some("true"));
}

#[test]
fn the_restored_one_in_place_of_the_live_one() {
    let stage = Stage::new();
    let taken = stage.take("users").unwrap();
    let mut engine = stage.fake.engine();
    let live = engine.databases.get_mut("users").unwrap();
    live.insert("dbo.account", 1);
    live.access = "RESTRICTED_USER".to_owned();
    drop(engine);
    let target = stage.plain("users");
    let restore = || {
        target
            .restore(&taken, &RestoreOptions::default(), &stage.context)
            .unwrap()
    };
    let (made, rows) = (restore(), |name: &str| {
        let engine = stage.fake.engine();
        let database = &engine.databases[name];
        (database.rows()["dbo.account"], database.access.clone())
    });

    // One of both names cannot be given: nothing has changed.
    let kept = "users_before_restore_20261127_163000";
    let before = stage.names();
    for refused in ["users", kept] {
        stage.fake.engine().switches.refused_names = vec![refused.to_owned()];
        let error = target.swap(made.clone(), &stage.context).unwrap_err();
        assert_told(
            &error,
            Cause::Failed,
            "could not exchange users with users_restored_",
        );
        let hint = "stop the programs that use it, or run it again";
        assert_eq!(error.hint.as_deref(), Some(hint));
        assert_eq!(stage.names(), before);
        assert_eq!(rows("users"), (121, "RESTRICTED_USER".to_owned()));
        assert_eq!(rows(&made.name), (120, "MULTI_USER".to_owned()));
    }

    // It cannot be undone either: that is said, and the live one can be used under its other name.
    stage.fake.engine().switches.refused_names = vec!["users".to_owned(); 2];
    let error = target.swap(made.clone(), &stage.context).unwrap_err();
    assert_told(
        &error,
        Cause::Failed,
        &format!("users may stand under the name {kept} now"),
    );
    assert_eq!(rows(kept), (121, "RESTRICTED_USER".to_owned()));
    let mut engine = stage.fake.engine();
    let live = engine.databases.remove(kept).unwrap();
    engine.databases.insert("users".to_owned(), live);
    drop(engine);

    let made = target.swap(made, &stage.context).unwrap();
    assert_eq!(
        (made.name.as_str(), made.kept.as_deref()),
        ("users", Some(kept))
    );
    assert_eq!(stage.names(), ["users", kept]);
    assert_eq!(rows("users"), (120, "RESTRICTED_USER".to_owned()));
    assert_eq!(rows(kept), (121, "RESTRICTED_USER".to_owned()));
    stage.assert_clean();
}

/// A database that is closed has one place, and whoever comes first has it.
#[test]
fn nobody_takes_the_only_place_in_a_database_that_is_exchanged() {
    let stage = Stage::new();
    let taken = stage.take("users").unwrap();
    let target = stage.plain("users");
    let made = target
        .restore(&taken, &RestoreOptions::default(), &stage.context)
        .unwrap();
    stage.fake.engine().switches.intruder = true;
    let kept = "users_before_restore_20261127_163000";
    stage.fake.engine().switches.refused_names = vec!["users".to_owned()];
    let error = target.swap(made.clone(), &stage.context).unwrap_err();
    assert_told(&error, Cause::Failed, "could not exchange users");
    assert_eq!(stage.names(), ["users", made.name.as_str()]);
    target.swap(made, &stage.context).unwrap();
    assert_eq!(stage.names(), ["users", kept]);
    let engine = stage.fake.engine();
    for database in engine.databases.values() {
        assert_eq!(database.access, "MULTI_USER");
        assert!(!database.is_taken);
    }
}

#[test]
fn what_no_backup_holds_is_carried_over_or_told() {
    for denied in [false, true] {
        let stage = Stage::new();
        let taken = stage.take("users").unwrap();
        let mut engine = stage.fake.engine();
        let live = engine.databases.get_mut("users").unwrap();
        live.owner = "o]brien".to_owned();
        (live.is_trustworthy, live.has_broker) = (true, true);
        engine.switches.deny_settings = denied;
        drop(engine);
        let target = stage.plain("users");
        let made = target
            .restore(&taken, &RestoreOptions::default(), &stage.context)
            .unwrap();
        let made = target.swap(made, &stage.context).unwrap();
        let told = made.warnings.join("\n");
        let engine = stage.fake.engine();
        let live = &engine.databases["users"];
        let (owner, trusted) = (live.owner.as_str(), live.is_trustworthy);
        match denied {
            false => assert_eq!((owner, trusted), ("o]brien", true)),
            true => {
                assert_eq!((owner, trusted), ("hucha", false));
                for sql in [
                    "DATABASE::[users] TO [o]]brien]",
                    "[users] SET TRUSTWORTHY ON",
                ] {
                    assert!(told.contains(sql), "{told}");
                }
            }
        }
        assert!(told.contains("[users] SET ENABLE_BROKER"), "{told}");
        assert_eq!(made.warnings.len(), if denied { 3 } else { 1 }, "{told}");
    }
}

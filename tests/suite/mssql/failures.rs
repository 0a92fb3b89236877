//! Whatever fails leaves nothing: no capture, no file, no database, and says what to do.

use std::time::Duration;

use hucha_sources::child::Stopper;
use hucha_sources::database::{Cause, Context, Part, RestoreOptions};
use hucha_tests::fakes::tds::{Engine, Switches};

use super::{Stage, assert_told};

type Change = fn(&mut Engine);

#[test]
fn a_backup_that_is_not_whole_is_no_capture() {
    let offline: Change = |engine| {
        engine.databases.get_mut("users").unwrap().state = "OFFLINE".to_owned();
    };
    let cases: [(Change, Cause, &str); 9] = [
        (
            |e| e.switches.deny_backup = true,
            Cause::Denied,
            "db_backupoperator",
        ),
        (
            |e| e.switches.deny_create = true,
            Cause::Denied,
            "CREATE ANY DATABASE",
        ),
        (
            |e| e.switches.deny_folder = true,
            Cause::Denied,
            "the account that the server runs",
        ),
        (
            |e| e.switches.full_disk = true,
            Cause::Failed,
            "the server's disk is full",
        ),
        (
            |e| e.switches.break_backup = true,
            Cause::Unreachable,
            "broke",
        ),
        (
            |e| e.switches.flip = true,
            Cause::Incomplete,
            "could not verify the backup",
        ),
        (
            |e| e.switches.cut = true,
            Cause::Incomplete,
            "could not verify the backup",
        ),
        (offline, Cause::Failed, "its state is OFFLINE"),
        (
            |e| drop(e.databases.remove("users")),
            Cause::Absent,
            "no database users",
        ),
    ];
    for (change, cause, words) in cases {
        let stage = Stage::new();
        change(&mut stage.fake.engine());
        assert_told(&stage.take("users").unwrap_err(), cause, words);
        stage.assert_clean();
    }
}

#[test]
fn a_folder_that_only_one_side_sees() {
    let stage = Stage::new();
    let other = stage.keep.path().join("other");
    let address = |local: &std::path::Path| {
        let address = stage.address("users", "encrypt=no");
        let both = stage.folder().display().to_string();
        let address = address.replace(&both, &local.display().to_string());
        hucha_sources::database::Settings::of_address(&address).unwrap()
    };
    let open = || hucha_sources::database::open(address(&other)).unwrap();
    let error = open().preflight(&stage.context).unwrap_err();
    assert_told(&error, Cause::Setting, "other cannot be read");
    std::fs::create_dir(&other).unwrap();
    let error = open().preflight(&stage.context).unwrap_err();
    assert_told(&error, Cause::Setting, "the server does not find in");
    assert_eq!(super::names(&other), [""; 0]);
}

#[test]
fn a_server_that_hangs_is_given_up() {
    let stage = Stage::new();
    stage.fake.engine().switches.hold_backup = true;
    let hurried = Context {
        stall: Duration::from_millis(300),
        ..stage.context.clone()
    };
    let error = super::take(stage.plain("users").as_ref(), &hurried).unwrap_err();
    assert_told(
        &error,
        Cause::Unreachable,
        "could not back up users: 127.0.0.1",
    );
    assert!(error.what.contains("said nothing"), "{error}");
    assert!(!stage.fake.engine().is_held, "it was not cancelled");
    stage.assert_clean();
}

#[test]
fn whoever_stops_a_backup_cancels_it() {
    let stage = Stage::new();
    stage.fake.engine().switches.hold_backup = true;
    let stopper = stage.context.stopper.clone();
    let error = std::thread::scope(|scope| {
        let taking = scope.spawn(|| stage.take("users"));
        stage.fake.await_held();
        stopper.stop();
        taking.join().unwrap().unwrap_err()
    });
    assert_eq!(error.cause, Cause::Stopped);
    assert!(!stage.fake.engine().is_held, "it was not cancelled");
    stage.assert_clean();
}

/// The server may take longer to end a backup than a stopped program has.
#[test]
fn the_file_of_a_stopped_backup_goes_before_the_server_has_ended() {
    let stage = Stage::new();
    let mut engine = stage.fake.engine();
    (engine.switches.hold_backup, engine.switches.is_deaf) = (true, true);
    drop(engine);
    let stopper = stage.context.stopper.clone();
    std::thread::scope(|scope| {
        let taking = scope.spawn(|| stage.take("users"));
        stage.fake.await_held();
        assert_eq!(super::names(&stage.folder()).len(), 1);
        stopper.stop();
        let since = std::time::Instant::now();
        while !super::names(&stage.folder()).is_empty() {
            // The command line lets a run that is stopped go on for two seconds.
            assert!(since.elapsed().as_secs() < 2, "the file is there");
            std::thread::yield_now();
        }
        assert!(stage.fake.engine().is_held, "it has ended");
        stage.fake.release();
        let error = taking.join().unwrap().unwrap_err();
        assert_eq!(error.cause, Cause::Stopped);
    });
    stage.assert_clean();
}

#[test]
fn a_restore_that_fails_leaves_no_database() {
    let stage = Stage::new();
    let taken = stage.take("users").unwrap();
    let target = stage.plain("copy");
    let cases: [(Change, Cause, &str); 4] = [
        (
            |e| e.switches.deny_create = true,
            Cause::Denied,
            "dbcreator",
        ),
        (
            |e| e.switches.break_restore = true,
            Cause::Unreachable,
            "restore copy",
        ),
        (
            |e| e.switches.lose_page = true,
            Cause::Differs,
            "dbo.account has 100 rows instead of 120",
        ),
        (|e| e.switches.hide_changes = true, Cause::Differs, "none"),
    ];
    for (change, cause, words) in cases {
        change(&mut stage.fake.engine());
        let restored = target.restore(&taken, &RestoreOptions::default(), &stage.context);
        match words {
            // It is no failure, so the others are the switches' doing.
            "none" => drop(restored.unwrap()),
            _ => {
                assert_told(&restored.unwrap_err(), cause, words);
                assert_eq!(stage.names(), ["users"], "{words}");
            }
        }
        stage.fake.engine().switches = Switches::default();
        stage.assert_clean();
    }
}

#[test]
fn a_stored_byte_that_is_wrong_becomes_no_database() {
    let stage = Stage::new();
    let mut taken = stage.take("users").unwrap();
    let middle = taken.bytes.len() / 2;
    taken.bytes[middle] ^= 1;
    let target = stage.plain("copy");
    let error = target.restore(&taken, &RestoreOptions::default(), &stage.context);
    assert_told(
        &error.unwrap_err(),
        Cause::Incomplete,
        "could not verify the backup",
    );
    taken.bytes = b"no backup at all".to_vec();
    let error = target.restore(&taken, &RestoreOptions::default(), &stage.context);
    assert_told(&error.unwrap_err(), Cause::Incomplete, "incorrectly formed");
    assert_eq!(stage.names(), ["users"]);
    stage.assert_clean();
}

#[test]
fn what_a_backup_cannot_give() {
    let stage = Stage::new();
    let taken = stage.take("users").unwrap();
    let target = stage.plain("copy");
    for options in [
        RestoreOptions {
            part: Part::Schema,
            ..RestoreOptions::default()
        },
        RestoreOptions {
            tables: vec!["dbo.account".to_owned()],
            ..RestoreOptions::default()
        },
    ] {
        let error = target
            .restore(&taken, &options, &stage.context)
            .unwrap_err();
        assert_told(&error, Cause::Setting, "INSERT INTO");
    }
    let mut other = taken;
    other.member.kind = "sqlite".to_owned();
    let error = target.restore(&other, &RestoreOptions::default(), &stage.context);
    assert_told(&error.unwrap_err(), Cause::Setting, "is a sqlite database");
    assert_eq!(stage.names(), ["users"]);
}

#[test]
fn damage_and_other_rows_are_found() {
    let stage = Stage::new();
    let taken = stage.take("users").unwrap();
    let live = stage.plain("users");
    live.verify(&taken, &stage.context).unwrap();
    stage.fake.engine().switches.damaged = true;
    let error = live.verify(&taken, &stage.context).unwrap_err();
    assert_told(&error, Cause::Differs, "users is damaged");
    stage.fake.engine().switches.damaged = false;
    let mut engine = stage.fake.engine();
    engine
        .databases
        .get_mut("users")
        .unwrap()
        .insert("sales.order", 3);
    drop(engine);
    let error = live.verify(&taken, &stage.context).unwrap_err();
    assert_told(
        &error,
        Cause::Differs,
        "sales.order has 3 rows instead of 0",
    );
    let error = live.query("SELECT nonsense", &stage.context).unwrap_err();
    assert_told(&error, Cause::Failed, "could not ask users");
}

#[test]
fn what_is_stopped_in_the_middle_of_a_restore_is_undone() {
    let stage = Stage::new();
    let taken = stage.take("users").unwrap();
    let stopped = Context {
        stopper: Stopper::default(),
        ..stage.context.clone()
    };
    stopped.stopper.stop();
    let target = stage.plain("copy");
    let error = target.restore(&taken, &RestoreOptions::default(), &stopped);
    assert_eq!(error.unwrap_err().cause, Cause::Stopped);
    assert_eq!(stage.names(), ["users"]);
    stage.assert_clean();
}

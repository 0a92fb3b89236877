//! The same by the binary: snapshots of several databases, restores, kills.

use std::fs;

use hucha_tests::fakes::tds::{Database, Switches, certificate};
use rustix::process::Signal;
use serde_json::Value;

use super::{PASSWORD, Stage, names};
use crate::support::World;
use crate::support::process::{Call, Ran};

fn call(world: &World, args: &[&str]) -> Call {
    world.call(args).env("SQLCMDPASSWORD", PASSWORD)
}

/// Fails when the password stands anywhere that the binary wrote.
#[track_caller]
fn assert_secret(world: &World, ran: &Ran) {
    assert!(!ran.text().contains(PASSWORD) && !ran.stderr.contains(PASSWORD));
    for folder in ["cache", "home", "tmp"] {
        for file in crate::support::data::files(&world.path(folder)) {
            let bytes = fs::read(&file).unwrap();
            let found = bytes
                .windows(PASSWORD.len())
                .any(|w| w == PASSWORD.as_bytes());
            assert!(!found, "the password stands in {}", file.display());
        }
    }
}

#[test]
fn three_databases_and_a_file_in_one_snapshot() {
    let (world, stage) = (World::new(), Stage::new());
    for (name, rows) in [("inventario", 70), ("auditoria", 3000)] {
        let database = Database::new(name, &[("dbo.entry", rows)]);
        stage
            .fake
            .engine()
            .databases
            .insert(name.to_owned(), database);
    }
    fs::write(world.path(".env"), "MODE=live\n").unwrap();
    let file = format!("file://{}", world.typed(".env"));
    let all = ["users", "inventario", "auditoria"].map(|n| stage.address(n, "encrypt=no"));
    let args = [
        "snapshot", "--json", "--source", &all[0], "--source", &all[1], "--source",
    ];
    let ran = call(&world, &args)
        .args([&all[2], "--source", &file])
        .run()
        .expect(0);
    assert_secret(&world, &ran);
    stage.assert_clean();
    let manifest: Value = serde_json::from_str(&world.ok(["manifest", "latest"]).text()).unwrap();
    let members = manifest["members"].as_array().unwrap();
    let rows: Vec<_> = members.iter().map(|m| (&m["name"], &m["rows"])).collect();
    let wanted = [
        ("auditoria.bak", 3000),
        ("inventario.bak", 70),
        ("users.bak", 120),
    ];
    let wanted = wanted.map(|(name, rows)| (Value::from(name), Value::from(rows)));
    assert_eq!(
        rows,
        wanted
            .iter()
            .map(|(name, rows)| (name, rows))
            .collect::<Vec<_>>()
    );

    let to = stage.address("inventario", "encrypt=no");
    let ran = call(&world, &["restore", "latest:inventario.bak", "--to", &to])
        .run()
        .expect(0);
    assert!(
        ran.text().contains("inventario_restored_"),
        "{}",
        ran.text()
    );
    assert_secret(&world, &ran);
    assert_eq!(stage.names().len(), 4);
    let args = [
        "restore",
        "latest:users.bak",
        "--to",
        &all[0],
        "--swap",
        "--json",
    ];
    let swapped = call(&world, &args).run().expect(0).object();
    assert_eq!(swapped["database"], "users");
    let kept = swapped["kept"].as_str().unwrap();
    assert!(kept.starts_with("users_before_restore_"), "{kept}");
    assert!(stage.names().iter().any(|name| name == kept));
    stage.assert_clean();
    world.assert_whole();
}

/// What goes wrong, and what is said then.
type Case = (fn(&mut Switches), &'static str);

#[test]
fn what_fails_is_no_snapshot() {
    let (world, stage) = (World::new(), Stage::new());
    let address = stage.address("users", "encrypt=no");
    let snapshot = || call(&world, &["snapshot", "--source", &address]);
    let cases: [Case; 3] = [
        (
            |s| s.break_backup = true,
            "could not back up users: the connection to",
        ),
        (|s| s.flip = true, "could not verify the backup"),
        (|s| s.deny_backup = true, "db_backupoperator"),
    ];
    for (switch, words) in cases {
        stage.fake.engine().switches = Default::default();
        switch(&mut stage.fake.engine().switches);
        let ran = snapshot().run().expect(1).says(words);
        assert_secret(&world, &ran);
        stage.assert_clean();
    }
    let wrong = snapshot().env("SQLCMDPASSWORD", "wrong").run().expect(1);
    wrong.says("the server refuses user or password");
    assert!(world.snapshots().is_empty());
}

#[test]
fn what_a_killed_run_left_the_next_one_removes() {
    let (world, stage) = (World::new(), Stage::new());
    let address = stage.address("users", "encrypt=no");
    stage.fake.engine().switches.hold_backup = true;
    let running = call(&world, &["snapshot", "--source", &address]).start();
    stage.fake.await_held();
    running.signal(Signal::KILL);
    assert_eq!(running.wait().code(), -9);
    assert_eq!(names(&stage.folder()).len(), 1);
    stage.fake.release();
    call(&world, &["snapshot", "--source", &address])
        .run()
        .expect(0);
    stage.assert_clean();
    assert_eq!(world.snapshots().len(), 1);
}

#[test]
fn whoever_is_interrupted_cancels() {
    let (world, stage) = (World::new(), Stage::new());
    let address = stage.address("users", "encrypt=no");
    stage.fake.engine().switches.hold_backup = true;
    let running = call(&world, &["snapshot", "--source", &address]).start();
    stage.fake.await_held();
    running.signal(Signal::INT);
    assert_eq!(running.wait().code(), 130);
    stage.assert_clean();
    assert!(world.snapshots().is_empty());
}

#[test]
fn the_page_holds_what_it_says() {
    let (world, stage) = (World::empty(), Stage::with(true));
    for name in ["inventario", "auditoria"] {
        let database = Database::new(name, &[("dbo.entry", 1)]);
        stage
            .fake
            .engine()
            .databases
            .insert(name.to_owned(), database);
    }
    let page = format!("{}/../docs/guide/mssql.md", env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(page).unwrap();
    let blocks: Vec<&str> = page.split("```sh\n").skip(1).collect();
    assert_eq!(blocks.len(), 5, "a page that lost its commands");
    let script = blocks
        .iter()
        .map(|block| block.split("```").next().unwrap())
        .collect::<String>();
    fs::write(world.path("server.pem"), certificate()).unwrap();
    fs::write(world.path("home/.hucha-password"), "a password for paper\n").unwrap();
    fs::create_dir(world.path("erp")).unwrap();
    fs::write(world.path("erp/.env"), "MODE=live\n").unwrap();
    // What is at other places here: the server, its password and certificate, folders.
    let options = format!(
        "server_dir=C:%5CBack%20up%27s&local_dir={}&trust_certificate={}",
        stage.folder().display(),
        world.typed("server.pem")
    );
    let script = script
        .replace("db.example", &format!("127.0.0.1:{}", stage.fake.port()))
        .replace("server_dir=/var/opt/mssql/hucha", &options)
        .replace("'the password of the login'", "\"$PASSWORD_OF_THIS_TEST\"")
        .replace("/mnt/backup/erp", &world.typed("repo"))
        .replace("/srv/erp", &world.typed("erp"));
    fs::write(world.path("script"), script).unwrap();
    let line = "ln -s $hucha home/hucha; PATH=$PWD/home:$PATH bash -euxo pipefail script";
    let ran = world
        .bash(line)
        .env("PASSWORD_OF_THIS_TEST", PASSWORD)
        .run()
        .expect(0);
    assert!(
        ran.text().contains("inventario_before_restore_"),
        "{}",
        ran.text()
    );
    let names = stage.names().join(" ");
    assert!(names.contains("inventario_restored_"), "{names}");
    assert!(!names.contains("rehearsal"), "{names}");
    assert!(
        fs::read(world.path("inventario.bak"))
            .unwrap()
            .starts_with(b"TAPE")
    );
    stage.assert_clean();
}

#[test]
fn a_rehearsal_leaves_no_database_and_finds_what_is_wrong() {
    let (world, stage) = (World::new(), Stage::new());
    let address = stage.address("users", "encrypt=no");
    call(&world, &["snapshot", "--source", &address])
        .run()
        .expect(0);
    let rehearse = || call(&world, &["rehearse", "latest", "--server", &address]);
    rehearse().run().expect(0);
    for (switch, words) in [
        ((|s| s.damaged = true) as fn(&mut Switches), "is damaged"),
        (|s| s.lose_page = true, "has 100 rows instead of 120"),
    ] {
        switch(&mut stage.fake.engine().switches);
        let ran = rehearse().run();
        assert_ne!(ran.code(), 0);
        let all = format!("{}{}", ran.text(), ran.stderr);
        assert!(all.contains(words), "{all}");
        stage.fake.engine().switches = Switches::default();
        assert_eq!(stage.names(), ["users"]);
        stage.assert_clean();
    }
}

//! `rehearse`: a snapshot is restored where nothing else is, looked through, and the result kept.
//! It passes for what is whole; it fails when a stored chunk is damaged, when rows are missing, and
//! when an expectation is not true. Whatever it is, nothing runs on and nothing is left.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::damage::{Harm, harm};
use crate::support::postgres::{Server, programs, server};
use crate::support::private::{self, assert_nothing_left, assert_private};
use crate::support::sqlite::sqlite;
use crate::support::{Ran, World, data, has_tool};

/// A SQLite database, one of PostgreSQL in each form, a command and a folder, in one snapshot.
struct Stage {
    // Goes before the folder of a test.
    _server: Arc<Server>,
    world: World,
}

const MEMBERS: [&str; 4] = ["dump", "plain", "shop.db", "tables"];

impl Stage {
    fn new(database: &str) -> Option<Stage> {
        let what = "rehearsals";
        let server = server(what)?;
        if !has_tool("python3", what) {
            return None;
        }
        server.create(database);
        server.sql(
            database,
            "CREATE TABLE sale (id int PRIMARY KEY, what text);
             INSERT INTO sale SELECT g, md5(g::text) FROM generate_series(1, 3000) g;
             CREATE VIEW dear AS SELECT * FROM sale WHERE id > 100",
        );
        let world = World::new();
        let stock = "CREATE TABLE item (id INTEGER PRIMARY KEY, what BLOB);
                     WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1000)
                     INSERT INTO item SELECT i, randomblob(5000) FROM n";
        sqlite(&world.path("shop.db"), stock, "SELECT 1");
        data::small_tree(&world.path("config"), 5);
        let address = server.address(database);
        let sources = format!(
            "[[source]]\nurl = \"sqlite://{}\"\n\
             [[source]]\nurl = \"{address}\"\nname = \"tables\"\n\
             [[source]]\nurl = \"{address}\"\nname = \"plain\"\nformat = \"plain\"\n\
             [[source]]\nname = \"dump\"\ncommand = [\"seq\", \"1000\"]\n\
             [[source]]\nurl = \"file:config\"\n",
            world.typed("shop.db")
        );
        fs::write(world.path("sources.toml"), sources).unwrap();
        world.ok(["snapshot", "--source-file", "sources.toml"]);
        Some(Stage {
            _server: server,
            world,
        })
    }

    /// A rehearsal of the latest snapshot; nothing of it is left.
    #[track_caller]
    fn rehearse(&self, options: &[&str]) -> Ran {
        let ran = self
            .world
            .call(["rehearse", "latest", "--json"])
            .args(options)
            .run();
        self.assert_gone();
        ran
    }

    /// Neither a file nor a server.
    #[track_caller]
    fn assert_gone(&self) {
        assert_nothing_left(&self.world);
        let left = self.servers();
        assert!(left.is_empty(), "servers run on: {left:?}");
    }

    /// Servers that were started by programs of this world: they have its environment.
    fn servers(&self) -> Vec<String> {
        let home = format!("HOME={}", self.world.typed("home"));
        let of = |process: &Path, what: &str| {
            let text = fs::read(process.join(what)).unwrap_or_default();
            String::from_utf8_lossy(&text).replace('\0', " ")
        };
        let all = fs::read_dir("/proc")
            .unwrap()
            .map(|entry| entry.unwrap().path());
        all.filter(|process| of(process, "environ").contains(&home))
            .map(|process| of(&process, "cmdline"))
            .filter(|line| line.contains("listen_addresses="))
            .collect()
    }

    /// What the only snapshot is said to be.
    fn told(&self) -> Value {
        self.world.snapshots().remove(0)
    }

    /// It failed with this code; the member that did is told, and that it failed is kept.
    #[track_caller]
    fn assert_found(&self, ran: Ran, code: i32, member: &str, words: &str) {
        let rehearsed = ran.expect(code).object();
        assert_eq!(rehearsed["passed"], false);
        for told in rehearsed["members"].as_array().unwrap() {
            let bad = told["name"] == member;
            assert_eq!(told["passed"], !bad, "{told}");
            let error = told["error"].as_str().unwrap_or_default();
            assert!(!bad || error.contains(words), "{told}");
        }
        let kept = self.told();
        assert_eq!(kept["rehearsal"]["passed"], false, "{kept}");
        let lines = kept["rehearsal"]["lines"].as_array().unwrap();
        assert!(
            lines
                .iter()
                .any(|line| line.as_str().unwrap().starts_with(member)),
            "{kept}"
        );
        let people = self.world.ok(["snapshots"]);
        assert!(people.text().contains("FAILED"), "{}", people.text());
    }
}

#[test]
fn what_is_whole_passes_and_that_is_kept() {
    let Some(stage) = Stage::new("rehearsed") else {
        return;
    };
    assert_eq!(stage.told()["verified"], Value::Null);
    let expectations = [
        "--expect",
        "shop.db: SELECT count(*) = 1000 FROM item",
        "--expect",
        "tables: SELECT count(*) = 2900 FROM dear",
    ];
    let rehearsed = stage.rehearse(&expectations).expect(0).object();
    assert_eq!(rehearsed["passed"], true);
    let members = rehearsed["members"].as_array().unwrap();
    let names: Vec<&str> = members
        .iter()
        .map(|m| m["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, MEMBERS);
    for (member, rows) in [("shop.db", 1000), ("tables", 3000), ("plain", 3000)] {
        let told = members.iter().find(|m| m["name"] == member).unwrap();
        assert_eq!((&told["rows"], &told["tables"]), (&rows.into(), &1.into()));
        assert!(!told["checks"].as_array().unwrap().is_empty(), "{told}");
    }
    let config: u64 = data::files(&stage.world.path("config"))
        .iter()
        .map(|file| fs::symlink_metadata(file).unwrap())
        .filter(|meta| meta.is_file())
        .map(|meta| meta.len())
        .sum();
    assert_eq!(rehearsed["file_bytes"], config);
    let kept = stage.told();
    assert_eq!(kept["verified"]["by"], "rehearsal", "{kept}");
    assert_eq!(kept["rehearsal"]["passed"], true);

    // One that is not true, of one member.
    let wrong = "tables: SELECT count(*) = 2901 FROM dear";
    let ran = stage.rehearse(&["--expect", wrong]);
    stage.assert_found(ran, 1, "tables", "is not true");
    // A dry run says it and keeps nothing.
    let before = stage.told();
    stage.rehearse(&["--dry-run"]).expect(0);
    assert_eq!(stage.told(), before);
}

#[test]
fn a_damaged_chunk_is_found() {
    let Some(stage) = Stage::new("rehearsed_damaged") else {
        return;
    };
    let world = &stage.world;
    // The database of random bytes is most of what is stored.
    let packs = world.objects("packs");
    let largest = packs
        .iter()
        .max_by_key(|pack| fs::metadata(pack).unwrap().len());
    let (largest, whole) = (largest.unwrap(), fs::read(largest.unwrap()).unwrap());
    harm(largest, Harm::FlipMiddle);
    fs::remove_dir_all(world.path("cache")).unwrap();
    let ran = stage.rehearse(&[]);
    stage.assert_found(ran, 12, "shop.db", "damaged");
    fs::write(largest, whole).unwrap();
    stage.rehearse(&[]).expect(0);
    assert_eq!(stage.told()["rehearsal"]["passed"], true);
}

/// Stands in front of `psql`, and loses a row on its way.
const LOSES_A_ROW: &str = "#!/bin/bash\nset -o pipefail\n\
    if [ -p /dev/stdin ]; then sed '/^77\\t/d' | PROGRAM \"$@\"; else PROGRAM \"$@\"; fi\n";

#[test]
fn a_count_that_differs_is_found() {
    let Some(stage) = Stage::new("rehearsed_fewer") else {
        return;
    };
    let world = &stage.world;
    let programs = programs().unwrap();
    fs::create_dir(world.path("fake")).unwrap();
    for name in ["pg_dump", "pg_restore"] {
        symlink(programs.join(name), world.path("fake").join(name)).unwrap();
    }
    let program = programs.join("psql");
    let fake = world.path("fake/psql");
    let script = LOSES_A_ROW.replace("PROGRAM", program.to_str().unwrap());
    fs::write(&fake, script).unwrap();
    fs::set_permissions(&fake, fs::Permissions::from_mode(0o755)).unwrap();
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{path}", world.typed("fake"));
    let call = world.call(["rehearse", "latest", "--json"]);
    let ran = call.env("PATH", path).run();
    stage.assert_gone();
    stage.assert_found(ran, 1, "plain", "2999 rows instead of 3000");
    stage.rehearse(&[]).expect(0);
}

#[test]
fn whoever_is_killed_leaves_no_server_and_the_next_one_removes_the_files() {
    let Some(stage) = Stage::new("rehearsed_killed") else {
        return;
    };
    for signal in [Signal::KILL, Signal::INT] {
        let mut running = stage.world.call(["rehearse", "latest:tables"]).start();
        while stage.servers().is_empty() {
            let ended = running.ends_within(std::time::Duration::from_millis(1));
            assert!(!ended, "no server was started");
        }
        running.signal(signal);
        let ran = running.wait();
        assert_private(&private::left(&stage.world));
        if signal == Signal::KILL {
            ran.expect(-9);
            // Its guard sees the pipe end.
            while !stage.servers().is_empty() {
                std::thread::yield_now();
            }
        } else {
            ran.expect(130);
            stage.assert_gone();
        }
    }
    stage.rehearse(&[]).expect(0);
}

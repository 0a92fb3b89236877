//! The programs that hucha runs for a database: fakes in front of the real ones write down what
//! they are given. No secret is in an argument or in the environment, every temporary file is
//! private while they run, and what a killed run leaves goes with the next one.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::postgres::{Server, programs, server};
use crate::support::private::{self, assert_nothing_left, assert_private};
use crate::support::process::{Call, Running};
use crate::support::{World, data};

/// Password of the database.
const SECRET: &str = "hunter2-of-the-database";
/// Password of the repository.
const PASSWORD: &str = "tr0ub4dor-of-the-repository";

const FAKED: [&str; 3] = ["pg_dump", "pg_dumpall", "psql"];

/// What stands in front of a program of PostgreSQL's: it writes down arguments, environment and
/// what is in hucha's folder for temporary files, waits as long as there is a file `hold`, then
/// is the real one.
const FAKE: &str = r#"#!/bin/bash
log=LOG/$(basename "$0").$$
cat /proc/$$/cmdline > "$log.arguments"
cat /proc/$$/environ > "$log.environment"
find SCRATCH -printf '%m %y %p\n' > "$log.files"
if [ "$1" != --version ] && turn=$(cat LOG/hold 2>/dev/null) && [ -n "$turn" ]; then
    touch "LOG/holding.$turn"
    flock --shared "LOG/lock.$turn" true
fi
exec PROGRAMS/$(basename "$0") "$@"
"#;

struct Stage {
    // Goes before the folder of a test.
    server: Arc<Server>,
    world: World,
}

impl Stage {
    fn new(database: &str) -> Option<Stage> {
        let server = server("what PostgreSQL's programs are given")?;
        server.create(database);
        server.sql(
            database,
            &format!(
                "CREATE ROLE locked_{database} LOGIN SUPERUSER PASSWORD '{SECRET}';
                 CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1), (2)"
            ),
        );
        let world = World::empty();
        for name in ["log", "fake"] {
            fs::create_dir(world.path(name)).unwrap();
        }
        for name in FAKED {
            let script = FAKE
                .replace("LOG", &world.typed("log"))
                .replace("SCRATCH", private::folder(&world).to_str().unwrap())
                .replace("PROGRAMS", programs()?.to_str().unwrap());
            fs::write(world.path("fake").join(name), script).unwrap();
            let mode = fs::Permissions::from_mode(0o755);
            fs::set_permissions(world.path("fake").join(name), mode).unwrap();
        }
        let stage = Stage { server, world };
        stage.call(&["init"]).run().expect(0);
        Some(stage)
    }

    fn source(&self, database: &str) -> String {
        self.server
            .address_of(&format!("locked_{database}"), database)
    }

    /// A call with the fakes in front and both passwords in the environment.
    fn call(&self, arguments: &[&str]) -> Call {
        let path = std::env::var("PATH").unwrap_or_default();
        let call = self.world.call(arguments).env("HUCHA_PASSWORD", PASSWORD);
        let call = call.env("PATH", format!("{}:{path}", self.world.typed("fake")));
        call.env("HUCHA_NEW_PASSWORD", PASSWORD)
            .env("PGPASSWORD", SECRET)
    }

    /// What the fakes wrote down so far, and forgets it.
    fn recorded(&self) -> Vec<PathBuf> {
        data::files(&self.world.path("log"))
    }

    /// Starts a snapshot, and lets it wait as soon as a program was run, until what is answered
    /// beside it is dropped. Each turn has files of its own, for a program of a killed run may come
    /// late.
    fn start_held(&self, source: &str, turn: &str) -> (Running, Held) {
        let lock = fs::File::create(self.world.path(format!("log/lock.{turn}"))).unwrap();
        lock.lock().unwrap();
        let held = Held {
            hold: self.world.path("log/hold"),
            _lock: lock,
        };
        fs::write(&held.hold, turn).unwrap();
        let mut running = self.call(&["snapshot", "--source", source]).start();
        let holding = self.world.path(format!("log/holding.{turn}"));
        while !holding.exists() {
            assert!(
                !running.ends_within(Duration::from_millis(1)),
                "no program was run"
            );
        }
        (running, held)
    }
}

/// Programs wait while it is there. Those that wait for its lock go on when it is dropped, also
/// the ones that nobody reads any more.
struct Held {
    hold: PathBuf,
    _lock: fs::File,
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.hold);
    }
}

fn ends_with(path: &Path, end: &str) -> bool {
    path.to_str().unwrap().ends_with(end)
}

/// Words with NUL between them, as the system has them.
fn words(path: &Path) -> Vec<String> {
    let bytes = fs::read(path).unwrap();
    let words = bytes
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty());
    words
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect()
}

/// Every file of a run of a fake is private; answers how many files there were.
#[track_caller]
fn assert_listed_private(path: &Path) -> usize {
    let listed = fs::read_to_string(path).unwrap();
    let mut files = 0;
    for line in listed.lines() {
        let (mode, rest) = line.split_once(' ').unwrap();
        let wanted = if rest.starts_with('d') { "700" } else { "600" };
        assert_eq!(mode, wanted, "{listed}");
        files += usize::from(rest.starts_with('f'));
    }
    files
}

/// No file of these has a secret in it.
#[track_caller]
fn assert_no_secret(paths: &[PathBuf]) {
    for path in paths.iter().filter(|path| path.is_file()) {
        let bytes = fs::read(path).unwrap();
        for secret in [SECRET, PASSWORD] {
            let found = bytes.windows(secret.len()).any(|w| w == secret.as_bytes());
            assert!(!found, "{secret} is in {path:?}");
        }
    }
}

#[test]
fn no_program_is_given_a_secret() {
    let Some(stage) = Stage::new("children") else {
        return;
    };
    let source = stage.source("children");
    let taken = stage
        .call(&["snapshot", "--source", &source])
        .run()
        .expect(0);
    let to = stage
        .source("children")
        .replace("/children?", "/children_back?");
    let made = stage
        .call(&["restore", "latest:children", "--to", &to])
        .run()
        .expect(0);
    let manifest = stage.call(&["manifest", "latest"]).run().expect(0);
    for ran in [&taken, &made, &manifest] {
        for secret in [SECRET, PASSWORD] {
            assert!(!ran.stderr.contains(secret) && !ran.text().contains(secret));
        }
    }
    stage.server.assert_equal("children", "children_back", &[]);

    let recorded = stage.recorded();
    for program in FAKED {
        let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        assert!(
            recorded
                .iter()
                .any(|path| name(path).starts_with(&format!("{program}."))),
            "no {program}: {recorded:?}"
        );
    }
    assert_no_secret(&recorded);
    let (mut with_file, mut files) = (0, 0);
    for path in recorded
        .iter()
        .filter(|path| ends_with(path, ".environment"))
    {
        for variable in words(path) {
            let (name, value) = variable.split_once('=').unwrap();
            assert!(
                !name.starts_with("HUCHA_") || !name.ends_with("PASSWORD"),
                "{variable}"
            );
            assert_ne!(name, "PGPASSWORD");
            if name == "PGPASSFILE" {
                assert!(
                    Path::new(value).starts_with(private::folder(&stage.world)),
                    "{value}"
                );
                with_file += 1;
            }
        }
    }
    for path in recorded.iter().filter(|path| ends_with(path, ".files")) {
        files += assert_listed_private(path);
    }
    // pg_dump twice, pg_dumpall, psql for each script.
    assert!(
        with_file >= 4 && files >= 2 * with_file,
        "{with_file} {files}"
    );
    assert_nothing_left(&stage.world);
    assert_no_secret(&data::files(&stage.world.path("cache")));
    assert_no_secret(&data::files(&stage.world.repository()));
}

#[test]
fn what_a_killed_snapshot_leaves_is_private_and_goes_with_the_next_one() {
    let Some(stage) = Stage::new("killed_children") else {
        return;
    };
    let source = stage.source("killed_children");
    let (running, held) = stage.start_held(&source, "kill");
    assert_private(&private::left(&stage.world));
    running.signal(Signal::KILL);
    running.wait().expect(-9);
    let left = private::left(&stage.world);
    assert!(
        left.iter().any(|path| ends_with(path, "/password")),
        "{left:?}"
    );
    assert_private(&left);
    assert_private(&[private::folder(&stage.world)]);
    drop(held);
    let snapshots = || stage.call(&["snapshots", "--json"]).run().expect(0).json();
    assert!(snapshots().is_empty());
    stage
        .call(&["snapshot", "--source", &source])
        .run()
        .expect(0);
    assert_nothing_left(&stage.world);
    assert_eq!(snapshots().len(), 1);
    // The server has let go, too.
    stage.server.until(
        "SELECT 1 WHERE NOT EXISTS (SELECT 1 FROM pg_stat_activity
         WHERE datname = 'killed_children')",
    );

    // Asked to end, it takes its programs and files along.
    for (signal, turn) in [(Signal::INT, "int"), (Signal::TERM, "term")] {
        let (running, held) = stage.start_held(&source, turn);
        running.signal(signal);
        running.wait().expect(130);
        assert_nothing_left(&stage.world);
        drop(held);
    }
    assert_eq!(snapshots().len(), 1);
}

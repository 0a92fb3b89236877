//! A folder with a home, a cache, a place for temporary files and a repository: all that the binary
//! sees of the machine. Relative paths of a call are in this folder.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::TempDir;

use super::disk::Disk;
use super::process::{Call, Ran};
use super::{data, full};

/// The binary under test: `HUCHA_BIN`, or the one that cargo builds beside this test.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os("HUCHA_BIN") {
        Some(path) => path.into(),
        None => build(),
    })
}

fn build() -> PathBuf {
    // <target>/<profile>/deps/suite-…
    let this = std::env::current_exe().unwrap();
    let target = this.ancestors().nth(3).unwrap();
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.args(["build", "--quiet", "--package", "hucha-cli"]);
    cargo
        .arg("--target-dir")
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    let profile = match full() {
        true => {
            cargo.arg("--release");
            "release"
        }
        false => "debug",
    };
    super::tool(&mut cargo);
    target.join(profile).join("hucha")
}

/// The world of one test.
pub struct World {
    folder: TempDir,
    program: PathBuf,
    /// What is put before the program: `setpriv …`.
    prefix: Vec<String>,
}

impl World {
    /// A world without a repository; none of its calls knows a password.
    pub fn empty() -> World {
        let folder = tempfile::Builder::new()
            .prefix("hucha-e2e-")
            .tempdir()
            .unwrap();
        for name in ["home", "cache", "tmp"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        World {
            folder,
            program: binary().to_owned(),
            prefix: Vec::new(),
        }
    }

    /// A world with an encrypted repository that a key file opens (no Argon2: quick).
    pub fn new() -> World {
        let world = World::empty();
        world.ok(["init", "--new-key-file", "key"]);
        world
    }

    /// Puts a new repository onto a small disk in place of the one that is there. `None` where
    /// mounting is refused; says loudly what is not tested then.
    pub fn onto_small_disk(&self, size: &str, what: &str) -> Option<Disk> {
        let disk = Disk::mount(&self.path("disk"), size, what)?;
        fs::remove_dir_all(self.repository()).unwrap();
        fs::create_dir(self.path("disk/repo")).unwrap();
        std::os::unix::fs::symlink("disk/repo", self.repository()).unwrap();
        fs::remove_file(self.path("key")).unwrap();
        self.ok(["init", "--new-key-file", "key"]);
        Some(disk)
    }

    /// From now on calls are made by an ordinary user, who owns all that is in this world.
    pub fn into_nobodys(mut self) -> World {
        let program = self.path("hucha");
        fs::copy(binary(), &program).unwrap();
        self.program = program;
        super::tool(
            Command::new("chown")
                .args(["-R", "65534:65534"])
                .arg(self.folder.path()),
        );
        let prefix = [
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "--",
        ];
        self.prefix = prefix.map(str::to_owned).to_vec();
        self
    }

    /// A path in this world.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A path in this world, as text.
    pub fn typed(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// The repository's folder.
    pub fn repository(&self) -> PathBuf {
        self.path("repo")
    }

    /// A program in this world's environment.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = match self.prefix.split_first() {
            None => Command::new(program),
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
        };
        command.env_clear().current_dir(self.folder.path());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command
            .env("HOME", self.path("home"))
            .env("XDG_CACHE_HOME", self.path("cache"));
        command
            .env("TMPDIR", self.path("tmp"))
            .env("TZ", "UTC")
            .env("LC_ALL", "C.UTF-8");
        command
            .env("USER", "ana")
            .env("HUCHA_REPOSITORY", self.repository());
        if self.path("key").exists() {
            command.env("HUCHA_KEY_FILE", self.path("key"));
        }
        command
    }

    /// A call of the binary.
    pub fn call<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Call {
        // Whoever runs the tests in the background of a script has Ctrl-C ignored, and so would the
        // binary: it keeps what it finds ignored.
        let mut command = self.command("env");
        command
            .arg("--default-signal=INT,TERM")
            .arg(&self.program)
            .args(args);
        Call::new(command)
    }

    /// A line of bash in this world; `$hucha` is the binary.
    pub fn bash(&self, line: &str) -> Call {
        let mut command = self.command("bash");
        command.args(["-c", line]).env("hucha", &self.program);
        Call::new(command)
    }

    /// Runs a script of bash where it may mount and nobody else sees it; it must succeed.
    #[track_caller]
    pub fn mounting(&self, script: &str) {
        fs::write(self.path("script"), script).unwrap();
        let line = "unshare --mount --propagation private bash script";
        self.bash(line).run().expect(0);
    }

    /// Runs the binary.
    #[track_caller]
    pub fn run<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Ran {
        self.call(args).run()
    }

    /// Runs the binary; it must succeed.
    #[track_caller]
    pub fn ok<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Ran {
        self.run(args).expect(0)
    }

    /// Runs the binary with `--json`; it must succeed with one object.
    #[track_caller]
    pub fn object<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Value {
        self.call(args).arg("--json").run().expect(0).object()
    }

    /// The snapshots that are there.
    #[track_caller]
    pub fn snapshots(&self) -> Vec<Value> {
        self.ok(["snapshots", "--json"]).json()
    }

    /// Takes a snapshot of a path and answers its id.
    #[track_caller]
    pub fn snapshot(&self, path: &str) -> String {
        let taken = self.object(["snapshot", path]);
        taken["id"].as_str().unwrap().to_owned()
    }

    /// Paths of everything in a snapshot or a folder of it.
    #[track_caller]
    pub fn listed(&self, name: &str) -> Vec<String> {
        let all = self.ok(["ls", "--json", "--recursive", name]).json();
        all.iter()
            .map(|e| e["path"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Names of the objects in an area of the repository.
    pub fn objects(&self, area: &str) -> Vec<PathBuf> {
        data::files(&self.repository().join(area))
    }

    /// Fails unless the repository is whole, down to its last byte.
    #[track_caller]
    pub fn assert_whole(&self) {
        self.ok(["check", "--read-data"]);
    }
}

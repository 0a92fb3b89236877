//! A private PostgreSQL server, made and asked by the vendor's programs alone: what is tested does
//! not set its own stage.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tempfile::TempDir;

use super::disk::Disk;
use super::process::Call;
use super::tool;

/// The superuser.
pub const ADMIN: &str = "postgres";

/// Roles whose names begin so need a password; all others are believed.
const LOCAL: &str = "local all \"locked\" scram-sha-256\nlocal all all trust\n";

/// A server on a socket, without network; it ends with this.
pub struct Server {
    /// Its files, but for the log of what it writes, on a small disk; goes before the folder.
    disk: Option<Disk>,
    folder: TempDir,
    programs: PathBuf,
    /// Where `psql` and `pg_dump` are; some packages have them apart.
    clients: PathBuf,
}

/// The server of all tests that run at the same time; each makes databases of its own. `None` where
/// PostgreSQL is not installed; says loudly what is not tested then.
pub fn server(what: &str) -> Option<Arc<Server>> {
    static SERVER: Mutex<Weak<Server>> = Mutex::new(Weak::new());
    let mut shared = SERVER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(server) = shared.upgrade() {
        return Some(server);
    }
    let Some(programs) = programs() else {
        eprintln!("!!! SKIPPED, needs a PostgreSQL server: {what}");
        return None;
    };
    let server = Arc::new(Server::start(programs.clone(), programs));
    *shared = Arc::downgrade(&server);
    Some(server)
}

/// Where the programs of the newest installed server are.
pub fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let number = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = versions
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("bin/initdb").exists())
        .max_by_key(|path| number(path))?;
    Some(newest.join("bin"))
}

impl Server {
    /// Starts a server of these programs, asked by those clients.
    pub fn start(programs: PathBuf, clients: PathBuf) -> Server {
        let folder = tempfile::Builder::new().prefix("hucha-pg-").tempdir();
        let server = Server {
            disk: None,
            folder: folder.unwrap(),
            programs,
            clients,
        };
        server.started()
    }

    /// The same of a server with little room for its databases. `None` where that cannot be had.
    pub fn on_small_disk(size: &str, what: &str) -> Option<Server> {
        let Some(programs) = programs() else {
            eprintln!("!!! SKIPPED, needs a PostgreSQL server: {what}");
            return None;
        };
        let folder = tempfile::Builder::new().prefix("hucha-pg-").tempdir();
        let folder = folder.unwrap();
        let disk = Disk::mount(&folder.path().join("data"), size, what)?;
        tool(
            Command::new("chown")
                .arg(ADMIN)
                .arg(folder.path().join("data")),
        );
        let server = Server {
            disk: Some(disk),
            folder,
            clients: programs.clone(),
            programs,
        };
        Some(server.started())
    }

    fn started(self) -> Server {
        let server = self;
        if rustix::process::geteuid().is_root() {
            // Sockets are in it, which everybody may use.
            tool(Command::new("chmod").arg("711").arg(server.folder()));
            tool(Command::new("chown").arg(ADMIN).arg(server.folder()));
        }
        let data = server.folder().join("data");
        let mut initdb = server.owners("initdb");
        initdb.args(["--no-sync", "--auth=trust", "--encoding=UTF8"]);
        initdb.arg("--locale=C.UTF-8").arg("--username").arg(ADMIN);
        if server.disk.is_some() {
            initdb.arg("--waldir").arg(server.folder().join("wal"));
        }
        tool(initdb.arg("--pgdata").arg(&data));
        fs::write(data.join("pg_hba.conf"), LOCAL).unwrap();
        let settings = format!(
            "listen_addresses = ''\nunix_socket_directories = '{}'\nfsync = off\n\
             full_page_writes = off\nmax_connections = 100\n",
            server.folder().display()
        );
        fs::write(data.join("postgresql.auto.conf"), settings).unwrap();
        let mut start = server.owners("pg_ctl");
        start.args(["start", "--wait", "--timeout=60", "--silent"]);
        start.arg("--log").arg(server.folder().join("log"));
        start.arg("--pgdata").arg(&data);
        // It goes on, and would keep our pipes open.
        start.stdout(Stdio::null()).stderr(Stdio::null());
        let started = start.status().unwrap();
        assert!(started.success(), "no server: {}", server.log());
        server
    }

    /// What it told of itself.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder().join("log")).unwrap_or_default()
    }

    fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A program as the user whose server it is.
    fn owners(&self, name: &str) -> Command {
        let program = self.programs.join(name);
        let mut command = match rustix::process::geteuid().is_root() {
            false => Command::new(program),
            true => {
                let mut command = Command::new("setpriv");
                command.args(["--reuid", ADMIN, "--regid", ADMIN, "--clear-groups", "--"]);
                command.arg(program);
                command
            }
        };
        command.current_dir("/").env("LC_ALL", "C");
        command
    }

    /// A program of PostgreSQL's that finds this server as its superuser.
    pub fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.clients.join(name));
        command.env_clear().env("LC_ALL", "C.UTF-8");
        command.env("PGHOST", self.folder()).env("PGUSER", ADMIN);
        command
    }

    /// A database of this server, as an address for a role.
    pub fn address_of(&self, role: &str, database: &str) -> String {
        format!(
            "postgres://{role}@/{database}?host={}",
            self.folder().display()
        )
    }

    /// A database of this server, as an address for the superuser.
    pub fn address(&self, database: &str) -> String {
        self.address_of(ADMIN, database)
    }

    /// Runs statements; answers what they print, one value a line. They must succeed.
    #[track_caller]
    pub fn sql(&self, database: &str, statements: &str) -> String {
        let psql = Call::new(self.psql(database)).stdin(statements.as_bytes());
        psql.run().expect(0).text().trim_end().to_owned()
    }

    /// `psql`, which prints values alone and stops at the first error.
    pub fn psql(&self, database: &str) -> Command {
        let mut psql = self.program("psql");
        psql.args([
            "-X",
            "-A",
            "-t",
            "-q",
            "-v",
            "ON_ERROR_STOP=1",
            "-d",
            database,
        ]);
        psql
    }

    /// Makes an empty database.
    #[track_caller]
    pub fn create(&self, database: &str) {
        self.sql(
            ADMIN,
            &format!("CREATE DATABASE {database} TEMPLATE template0"),
        );
    }

    /// Waits, within the server, until a query has a row.
    #[track_caller]
    pub fn until(&self, query: &str) {
        let wait = format!(
            "DO $$ BEGIN FOR n IN 1..6000 LOOP IF EXISTS ({query}) THEN RETURN; END IF; \
             PERFORM pg_stat_clear_snapshot(); PERFORM pg_sleep(0.01); END LOOP; \
             RAISE EXCEPTION 'waited in vain'; END $$"
        );
        self.sql(ADMIN, &wait);
    }

    /// What `pg_dump` says of a database, in the order of lines, without what differs every time.
    #[track_caller]
    pub fn dump(&self, database: &str, arguments: &[&str]) -> Vec<String> {
        let text = tool(self.program("pg_dump").args(arguments).arg(database));
        let keyed =
            |line: &&str| line.starts_with("\\restrict") || line.starts_with("\\unrestrict");
        let lines = text.lines().filter(|line| !keyed(line));
        let mut lines: Vec<String> = lines.map(str::to_owned).collect();
        lines.sort();
        lines
    }

    /// Fails unless `pg_dump` says the same of two databases.
    #[track_caller]
    pub fn assert_equal(&self, one: &str, two: &str, arguments: &[&str]) {
        let (left, right) = (self.dump(one, arguments), self.dump(two, arguments));
        let differing = left.iter().zip(&right).find(|(left, right)| left != right);
        assert!(left == right, "{one} and {two} differ: {differing:?}");
        assert!(left.len() > 10, "{one} has nothing");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let mut stop = self.owners("pg_ctl");
        stop.args(["stop", "--mode=immediate", "--silent", "--wait", "--pgdata"]);
        drop(stop.arg(self.folder().join("data")).status());
    }
}

//! A private MariaDB server, made and asked by the vendor's programs alone: what is tested does
//! not set its own stage.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tempfile::TempDir;

use super::process::{Call, Running};
use super::{World, tool};

/// The user who may do everything.
pub const ADMIN: &str = "root";

/// A database that is always there, to be connected to when it does not matter which.
pub const SYSTEM: &str = "mysql";

/// Whom the server runs as when we are root.
const OWNER: &str = "mysql";

/// The programs that are needed.
const PROGRAMS: [&str; 4] = ["mariadbd", "mariadb-install-db", "mariadb", "mariadb-dump"];

/// What the server says when it answers.
const READY: &str = "ready for connections";

/// All that a dump may hold.
pub const EVERYTHING: &str = r#"
CREATE TABLE customer (
  id INT AUTO_INCREMENT PRIMARY KEY COMMENT 'grows; isn''t `reused`',
  name VARCHAR(50) NOT NULL, kind ENUM('a','b;''c'), tags SET('x','y'), flags BIT(5),
  doc JSON, at TIMESTAMP(3) NOT NULL DEFAULT '2026-01-01 10:00:00.125',
  up VARCHAR(60) AS (UPPER(name)) STORED, lo VARCHAR(60) AS (LOWER(name)) VIRTUAL,
  UNIQUE KEY by_name (name), CHECK (CHAR_LENGTH(name) > 0)
) COMMENT='it''s; -- a `table`';
CREATE TABLE orders (
  id INT AUTO_INCREMENT PRIMARY KEY, customer INT, total DECIMAL(20,4), rate DOUBLE,
  CONSTRAINT whose FOREIGN KEY (customer) REFERENCES customer (id) ON DELETE CASCADE
) AUTO_INCREMENT=1000;
CREATE TABLE measured (id INT, y INT, v FLOAT, PRIMARY KEY (id, y)) PARTITION BY RANGE (y)
  (PARTITION old VALUES LESS THAN (2000), PARTITION young VALUES LESS THAN MAXVALUE);
CREATE TABLE hashed (id INT PRIMARY KEY) PARTITION BY HASH (id) PARTITIONS 3;
CREATE TABLE keyless (what TEXT CHARACTER SET latin1, n INT);
CREATE TABLE picture (id INT PRIMARY KEY, raw LONGBLOB, small VARBINARY(9), fixed BINARY(4));
CREATE TABLE nothing (id INT PRIMARY KEY);
CREATE TABLE loose (id INT, t TEXT) ENGINE=MyISAM;
CREATE TABLE `odd ``name; --` (a INT, `b ``c` TEXT);
CREATE SEQUENCE numbers START 5 INCREMENT 3;
DO NEXTVAL(numbers);
INSERT INTO customer (name, kind, tags, flags, doc) VALUES
  ('Ñandú ''x'' \\ ; \n -- 🐦', 'b;''c', 'x,y', b'10101', '{"a": [1, "(),("]}'),
  ('b', 'a', '', NULL, NULL), ('gone', NULL, NULL, b'0', '[]');
DELETE FROM customer WHERE name = 'gone';
INSERT INTO orders (customer, total, rate) VALUES
  (1, 9.5, 1e100), (2, 1234567890123456.7891, -0.1), (1, 7, NULL);
INSERT INTO measured VALUES (1, 1999, 0.1), (2, 2010, 1e-30), (1, 2010, NULL);
INSERT INTO hashed SELECT seq FROM seq_1_to_50;
INSERT INTO keyless VALUES ('o;', 2), ('é', 1), (NULL, NULL), ('o;', 2);
INSERT INTO picture VALUES (1, x'00ff275c0a000d1a', x'00', x'00410000'), (2, '', '', ''),
  (3, REPEAT(x'00275c220a', 400000), NULL, NULL), (4, NULL, x'0000', x'ff');
INSERT INTO loose VALUES (1, 'x'), (1, 'x');
INSERT INTO `odd ``name; --` VALUES (1, 'INSERT INTO `x` VALUES (1),(2);\n-- Dump completed\n');
CREATE VIEW named AS SELECT c.name, o.total FROM customer c JOIN orders o ON o.customer = c.id;
CREATE VIEW a_view_of_views AS SELECT * FROM named WHERE total > 8;
CREATE SQL SECURITY INVOKER VIEW checked AS SELECT * FROM keyless WHERE n < 9 WITH CHECK OPTION;
DELIMITER //
CREATE TRIGGER noted AFTER INSERT ON orders FOR EACH ROW BEGIN
  INSERT INTO keyless VALUES ('
-- Table structure for table `customer`
', NEW.id);
END//
CREATE TRIGGER also AFTER INSERT ON orders FOR EACH ROW FOLLOWS noted
  INSERT INTO keyless VALUES ('also', NEW.id)//
CREATE PROCEDURE twice(IN a INT, OUT b INT) COMMENT 'it''s' BEGIN SET b = 2 * a; END//
SET sql_mode = 'NO_BACKSLASH_ESCAPES'//
CREATE FUNCTION slash() RETURNS VARCHAR(5) DETERMINISTIC BEGIN RETURN '\'; END//
SET sql_mode = DEFAULT//
CREATE EVENT daily ON SCHEDULE EVERY 1 DAY STARTS '2026-01-01 00:00:00' COMMENT 'every; day'
  DO BEGIN INSERT INTO keyless VALUES ('e', 0); END//
CREATE EVENT never ON SCHEDULE EVERY 2 DAY STARTS '2026-01-01 00:00:00' DISABLE DO SELECT 1//
DELIMITER ;
"#;

/// A server on a socket, without network; it ends with this.
pub struct Server {
    folder: TempDir,
    running: Child,
}

/// The server of all tests that run at the same time; each makes databases of its own. `None` where
/// MariaDB is not installed; says loudly what is not tested then.
pub fn server(what: &str) -> Option<Arc<Server>> {
    static SERVER: Mutex<Weak<Server>> = Mutex::new(Weak::new());
    let mut shared = SERVER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(server) = shared.upgrade() {
        return Some(server);
    }
    if !PROGRAMS.iter().all(|name| find(name).is_some()) {
        eprintln!("!!! SKIPPED, needs a MariaDB server: {what}");
        return None;
    }
    let server = Arc::new(Server::start());
    *shared = Arc::downgrade(&server);
    Some(server)
}

/// Where a program is; servers are not in everybody's PATH.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let others = ["/usr/sbin", "/usr/libexec", "/usr/local/sbin"].map(PathBuf::from);
    let folders = std::env::split_paths(&path).chain(others);
    let mut places = folders.map(|folder| folder.join(name));
    places.find(|program| program.exists())
}

/// A program as the user whose server it is.
fn owners(name: &str) -> Command {
    let program = find(name).unwrap();
    let mut command = match rustix::process::geteuid().is_root() {
        false => Command::new(program),
        true => {
            let mut command = Command::new("setpriv");
            command.args(["--reuid", OWNER, "--regid", OWNER, "--clear-groups", "--"]);
            command.arg(program);
            command
        }
    };
    command.current_dir("/").env("LC_ALL", "C");
    // Option files of this machine are of no matter.
    command.arg("--no-defaults").stdin(Stdio::null());
    command
}

impl Server {
    fn start() -> Server {
        let folder = tempfile::Builder::new().prefix("hucha-my-").tempdir();
        let folder = folder.unwrap();
        let within = |name: &str| folder.path().join(name);
        // Of its own: a server removes what looks like its temporary tables.
        for name in ["data", "tmp"] {
            fs::create_dir(within(name)).unwrap();
        }
        if rustix::process::geteuid().is_root() {
            // Its socket is in it, which everybody may use.
            tool(Command::new("chmod").arg("711").arg(folder.path()));
            let mut chown = Command::new("chown");
            tool(chown.args(["-R", OWNER]).arg(folder.path()));
        }
        let option = |name: &str, file: &str| format!("--{name}={}", within(file).display());
        let folders = [option("datadir", "data"), option("tmpdir", "tmp")];
        let mut install = owners("mariadb-install-db");
        install.args(&folders).args([
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            "--skip-name-resolve",
        ]);
        tool(&mut install);
        let mut start = owners("mariadbd");
        start.args(&folders).arg(option("socket", "socket"));
        start.arg(option("pid-file", "data/pid")).args([
            "--skip-networking",
            "--skip-log-bin",
            "--event-scheduler=OFF",
            "--innodb-flush-log-at-trx-commit=0",
            "--innodb-doublewrite=0",
            "--max-connections=100",
        ]);
        start.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut running = start.spawn().unwrap();
        let mut log = BufReader::new(running.stderr.take().unwrap());
        let mut said = String::new();
        while !said.contains(READY) {
            let read = log.read_line(&mut said).unwrap();
            assert!(read > 0, "no server: {said}");
        }
        // It would wait for somebody who reads on.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Server { folder, running }
    }

    fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A program of MariaDB's that finds this server as its administrator.
    pub fn program(&self, name: &str) -> Command {
        let mut command = Command::new(find(name).unwrap());
        command.env_clear().env("LC_ALL", "C.UTF-8");
        command.args(["--no-defaults", "--default-character-set=utf8mb4"]);
        let socket = self.folder().join("socket");
        command.arg(format!("--socket={}", socket.display()));
        command.args(["--user", ADMIN]);
        command
    }

    /// A database of this server, as an address for a user.
    pub fn address_of(&self, user: &str, database: &str) -> String {
        format!(
            "mysql://{user}@localhost/{database}?socket={}/socket",
            self.folder().display()
        )
    }

    /// A database of this server, as an address for the administrator.
    pub fn address(&self, database: &str) -> String {
        self.address_of(ADMIN, database)
    }

    /// Runs statements; answers what they print, one row a line. They must succeed.
    #[track_caller]
    pub fn sql(&self, database: &str, statements: &str) -> String {
        self.load(database, statements.as_bytes())
    }

    /// The same with whatever a file of statements holds.
    #[track_caller]
    pub fn load(&self, database: &str, statements: &[u8]) -> String {
        let client = Call::new(self.client(database)).stdin(statements);
        client.run().expect(0).text().trim_end().to_owned()
    }

    /// `mariadb`, which prints values alone and stops at the first error.
    pub fn client(&self, database: &str) -> Command {
        let mut client = self.program("mariadb");
        client.args(["--batch", "--skip-column-names", "--raw", "--comments"]);
        client.arg(format!("--database={database}"));
        client
    }

    /// Makes an empty database.
    #[track_caller]
    pub fn create(&self, database: &str) {
        let charset = "CHARACTER SET utf8mb4 COLLATE utf8mb4_spanish_ci";
        self.sql(SYSTEM, &format!("CREATE DATABASE {database} {charset}"));
    }

    /// Waits, within the server, until a query has a row.
    #[track_caller]
    pub fn until(&self, query: &str) {
        self.find_then(query, "DO 0");
    }

    /// The same; then runs a statement in which `@found` is the first value of that row.
    #[track_caller]
    pub fn find_then(&self, query: &str, then: &str) {
        let wait = format!(
            "DELIMITER //\nSET @found = NULL//\nBEGIN NOT ATOMIC DECLARE n INT DEFAULT 0; \
             SET @found = ({query} LIMIT 1); WHILE @found IS NULL DO \
             IF n = 30000 THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'waited in vain'; \
             END IF; SET n = n + 1; DO SLEEP(0.002); SET @found = ({query} LIMIT 1); \
             END WHILE; {then}; END//"
        );
        self.sql(SYSTEM, &wait);
    }

    /// A session that keeps all others from a table until it is fed `UNLOCK TABLES`, or ends. It
    /// may change the table meanwhile.
    #[track_caller]
    pub fn hold(&self, table: &str) -> Running {
        let mut holder = Call::new(self.client(SYSTEM)).open_stdin().start();
        let lock = format!("LOCK TABLES {table} WRITE;\nDO GET_LOCK('{table}', 0);\n");
        holder.feed(lock.as_bytes());
        self.until(&format!("SELECT IS_USED_LOCK('{table}') FROM DUAL"));
        holder
    }

    /// What `mariadb-dump` says of a database, line by line, without the lines that name it.
    #[track_caller]
    pub fn dump(&self, database: &str, arguments: &[&str]) -> Vec<String> {
        let mut dump = self.program("mariadb-dump");
        dump.args([
            "--single-transaction",
            "--routines",
            "--events",
            "--triggers",
            "--skip-dump-date",
            "--hex-blob",
            "--order-by-primary",
            database,
        ]);
        let text = tool(dump.args(arguments));
        let names = [
            "-- Host: ",
            "-- Dumping events for ",
            "-- Dumping routines for ",
        ];
        let names_it = |line: &&str| names.iter().any(|words| line.starts_with(words));
        let lines = text.lines().filter(|line| !names_it(line));
        lines.map(str::to_owned).collect()
    }

    /// Fails unless `mariadb-dump` says the same of two databases.
    #[track_caller]
    pub fn assert_equal(&self, one: &str, two: &str, arguments: &[&str]) {
        let (left, right) = (self.dump(one, arguments), self.dump(two, arguments));
        let differing = left.iter().zip(&right).find(|(left, right)| left != right);
        let sizes = (left.len(), right.len());
        assert!(
            left == right,
            "{one} and {two} differ, {sizes:?}: {differing:?}"
        );
        let makes = |line: &String| line.starts_with("CREATE TABLE") || line.starts_with("INSERT");
        assert!(left.iter().any(makes), "{one} has nothing");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // What it holds is thrown away.
        drop(self.running.kill());
        drop(self.running.wait());
    }
}

/// Stands in front of a program of MariaDB's, and writes down arguments and environment.
const NOTES: &str = "#!/bin/bash\n\
    cat /proc/$$/cmdline /proc/$$/environ > LOG/NAME.$$\nexec PROGRAM \"$@\"\n";

/// A folder of programs that note what they are given, as an option.
pub fn noting(world: &World) -> String {
    for folder in ["noting", "noted"] {
        fs::create_dir(world.path(folder)).unwrap();
    }
    for name in ["mariadb", "mariadb-dump"] {
        let program = find(name).unwrap();
        let script = NOTES
            .replace("LOG", &world.typed("noted"))
            .replace("NAME", name)
            .replace("PROGRAM", program.to_str().unwrap());
        let path = world.path("noting").join(name);
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    format!("&tool_dir={}", world.typed("noting"))
}

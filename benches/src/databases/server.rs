//! A private PostgreSQL server with a shop in it. Scripts go through `psql`, as people run them.

use std::ffi::OsStr;
use std::io::{self, BufWriter, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use hucha_sources::child::Stopper;
use hucha_sources::database::scratch::Scratch;
use hucha_sources::database::{Context, DatabaseError};
use hucha_sources::postgres::throwaway::Throwaway;

/// The live database.
pub const SHOP: &str = "shop";

/// Where rows stand follows from what happened alone: nothing cleans up behind our back, and each
/// night ends with what autovacuum would have done.
const SETTINGS: &str = "ALTER SYSTEM SET autovacuum = off; SELECT pg_reload_conf();";
const END_OF_NIGHT: &str = "VACUUM ANALYZE;";

/// What tells whether two databases hold the same rows: counts, and sums that no order changes.
const CONTENTS: &str = "SELECT format('SELECT %L, count(*), sum(hashtextextended(t::text, 0)) \
     FROM %s t', oid::regclass, oid::regclass) FROM pg_class \
     WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY relname \\gexec\n";

/// A server that ends with its value.
pub struct Server {
    throwaway: Throwaway,
}

impl Server {
    /// Starts one with an empty database [`SHOP`].
    ///
    /// # Errors
    /// When PostgreSQL is not installed, or does not start.
    pub fn start() -> io::Result<Server> {
        let context = Context {
            stopper: Stopper::default(),
            variables: Arc::new(|name| std::env::var_os(name)),
            scratch: Scratch::new(std::env::temp_dir().join("hucha")),
            stall: Duration::from_secs(600),
            stamp: String::new(),
        };
        let failed = |e: DatabaseError| io::Error::other(e.to_string());
        let throwaway = Throwaway::start(0, &context).map_err(failed)?;
        let server = Server { throwaway };
        server.run("postgres", SETTINGS)?;
        server.create(SHOP)?;
        Ok(server)
    }

    /// The address of a database, which PostgreSQL's programs understand too.
    pub fn address(&self, database: &str) -> String {
        self.throwaway.address(database)
    }

    /// Makes an empty database.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn create(&self, database: &str) -> io::Result<()> {
        let sql = format!("CREATE DATABASE {database} TEMPLATE template0");
        self.run("postgres", &sql).map(drop)
    }

    /// Removes a database.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn remove(&self, database: &str) -> io::Result<()> {
        self.run("postgres", &format!("DROP DATABASE {database}"))
            .map(drop)
    }

    /// Ends a night: room of old versions of rows becomes free.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn end_night(&self) -> io::Result<()> {
        self.run(SHOP, END_OF_NIGHT).map(drop)
    }

    /// What a database holds: each table with its rows and a sum of them.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn contents(&self, database: &str) -> io::Result<String> {
        self.run(database, CONTENTS)
    }

    /// Product and version.
    ///
    /// # Errors
    /// When it does not tell.
    pub fn version(&self) -> io::Result<String> {
        let number = self.run(SHOP, "SHOW server_version")?;
        let number = number.split_whitespace().next().unwrap_or_default();
        Ok(format!("PostgreSQL {number}"))
    }

    /// Runs a script; answers what it printed, values apart by `|`.
    ///
    /// # Errors
    /// At the first statement that fails.
    pub fn run(&self, database: &str, script: &str) -> io::Result<String> {
        self.feed(database, |out| out.write_all(script.as_bytes()))
    }

    /// Runs a script while it is written.
    ///
    /// # Errors
    /// At the first statement that fails, or when the script cannot be written.
    pub fn feed(
        &self,
        database: &str,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<String> {
        let mut command = Command::new("psql");
        command.args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-d"]);
        command.arg(OsStr::new(&self.address(database)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut psql = command.spawn()?;
        let written = match psql.stdin.take() {
            Some(stdin) => {
                let mut out = BufWriter::with_capacity(1 << 20, stdin);
                write(&mut out).and_then(|()| out.flush())
            }
            None => Ok(()),
        };
        // What `psql` says of itself tells more than that it does not listen any more.
        let output = psql.wait_with_output()?;
        if !output.status.success() {
            let what = format!("psql in {database}: {}", output.status);
            return Err(io::Error::other(what));
        }
        written?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::shop::postgres::Script;

    #[test]
    fn a_live_shop_holds_the_rows_of_the_corpus_after_each_night() {
        let server = Server::start().unwrap();
        let mut script = Script::new(1);
        server.feed(SHOP, |out| script.make(out)).unwrap();
        let rows = |contents: &str| -> usize {
            let counts = contents.lines().filter_map(|line| line.split('|').nth(1));
            counts.map(|n| n.parse::<usize>().unwrap()).sum()
        };
        let mut last = server.contents(SHOP).unwrap();
        assert_eq!((last.lines().count(), rows(&last)), (5, script.rows()));
        for _ in 0..2 {
            server
                .feed(SHOP, |out| script.next_night(out).map(drop))
                .unwrap();
            server.end_night().unwrap();
            let now = server.contents(SHOP).unwrap();
            assert_eq!(rows(&now), script.rows());
            let same = now.lines().filter(|line| last.contains(line));
            assert_eq!(same.count(), 0, "a night touches each table");
            last = now;
        }
        assert!(server.run(SHOP, "SELECT 1/0").is_err());
    }
}

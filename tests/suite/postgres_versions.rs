//! PostgreSQL of other versions than Debian's. `tests/postgres-versions` fetches their programs and
//! runs this; elsewhere they are not there, and nothing is shown.

use std::path::{Path, PathBuf};

use crate::support::World;
use crate::support::postgres::{ADMIN, Server};

/// Everything that a schema may hold.
const SHOP: &str = include_str!("../../sources/src/postgres/tests/shop.sql");

/// Folders in a variable, like those in PATH.
fn folders(variable: &str) -> Vec<PathBuf> {
    let value = std::env::var_os(variable).unwrap_or_default();
    std::env::split_paths(&value)
        .filter(|folder| !folder.as_os_str().is_empty())
        .collect()
}

/// A snapshot of a server in each form, by clients of the newest version, comes back equal.
fn every_form(programs: &Path, clients: &Path) {
    let server = Server::start(programs.to_owned(), clients.to_owned());
    let version = server.sql(ADMIN, "SHOW server_version");
    server.create("shop");
    server.sql("shop", SHOP);
    let world = World::new();
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{path}", clients.display());
    let run = |arguments: &[&str]| {
        let call = world.call(arguments).env("PATH", &path);
        call.run().expect(0);
    };
    for form in ["tables", "plain", "custom"] {
        let source = format!("{}&format={form}", server.address("shop"));
        run(&["snapshot", "--source", &source]);
        let back = format!("back_{form}");
        run(&["restore", "latest:shop", "--to", &server.address(&back)]);
        server.assert_equal("shop", &back, &[]);
        eprintln!("PostgreSQL {version}, {form}: equal");
        // Some tables, with all that they need and without what needs others.
        let some = format!("{source}&tables=sale,part");
        run(&["snapshot", "--source", &some]);
        let back = format!("some_{form}");
        run(&["restore", "latest:shop", "--to", &server.address(&back)]);
        let counts = "SELECT (SELECT count(*) FROM sale), (SELECT count(*) FROM part),
            (SELECT count(*) FROM pg_constraint WHERE contype = 'f'),
            (SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal)";
        assert_eq!(server.sql(&back, counts), "5000|300|0|2");
        eprintln!("PostgreSQL {version}, {form}: two tables stand alone");
    }
}

#[test]
fn every_form_comes_back_equal_on_every_version() {
    let (servers, clients) = (
        folders("HUCHA_POSTGRES_SERVERS"),
        folders("HUCHA_POSTGRES_CLIENTS"),
    );
    let Some(clients) = clients.first() else {
        eprintln!("!!! SKIPPED, needs tests/postgres-versions: other versions of PostgreSQL");
        return;
    };
    assert!(!servers.is_empty());
    for programs in servers {
        every_form(&programs, clients);
    }
}

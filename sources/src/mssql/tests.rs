//! Addresses and options; places of files. What needs a server is in the end-to-end suite.

use super::SqlServer;
use crate::database::{Cause, Database, Settings};

fn server(address: &str) -> Result<SqlServer, crate::database::DatabaseError> {
    SqlServer::new(Settings::of_address(address)?)
}

#[test]
fn addresses_and_what_they_are_called() {
    let full = server("sqlserver://sa@db.local/in%2Fv?server_dir=C:%5Ch&local_dir=/mnt/h").unwrap();
    assert_eq!(full.location(), "mssql://db.local:1433/in/v");
    assert_eq!(full.default_name(), "in_v.bak");
    let passing = full.exchange().unwrap().passing();
    assert!(
        passing.server.starts_with(r"C:\h\.hucha-"),
        "{}",
        passing.server
    );
    assert!(passing.local.starts_with("/mnt/h"));
    let six = server("mssql://sa@[::1]:99/a?encrypt=no").unwrap();
    assert_eq!(six.location(), "mssql://[::1]:99/a");
    let error = six.exchange().err().unwrap();
    assert!(error.what.contains("server_dir"), "{error}");
}

#[test]
fn what_is_missing_or_wrong() {
    for (address, part) in [
        ("mssql://sa@/users", "host"),
        ("mssql://db/users", "user"),
        ("mssql://sa@db", "database"),
        ("mssql://sa@db/a?local_dir=/x", "server_dir"),
        ("mssql://sa@db/a?encrypt=perhaps", "encrypt"),
        (
            "mssql://sa@db/a?encrypt=no&trust_certificate=any",
            "trust_certificate",
        ),
        ("mssql://sa@db/a?file_mode=777", "file_mode"),
        ("mssql://sa@db/a?file_mode=066", "file_mode"),
        ("mssql://sa@db/a?drives=1", "drives"),
    ] {
        let error = server(address).err().unwrap();
        assert_eq!(error.cause, Cause::Setting, "{address}");
        assert!(error.what.contains(part), "{address}: {error}");
    }
}

//! The vendor's programs: where they are, which version they are, and whether they fit a server.
//! MariaDB and MySQL each need their own: the dump client of the one loses what only the other
//! has (sequences, generated columns).

use std::path::PathBuf;
use std::process::Command;

use crate::child::Child;
use crate::database::Context;
use crate::database::context::no_program;
use crate::database::error::{Cause, DatabaseError};

/// Most bytes that a program prints about itself.
const MOST: usize = 1 << 20;

/// Who made a server or program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Product {
    MariaDb,
    MySql,
}

/// A version: product, numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version {
    pub product: Product,
    pub numbers: [u16; 3],
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [major, minor, patch] = self.numbers;
        write!(f, "{major}.{minor}.{patch}")
    }
}

impl Product {
    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Product::MariaDb => "MariaDB",
            Product::MySql => "MySQL",
        }
    }

    /// What its clients are called: dump, interactive.
    fn programs(self) -> [&'static [&'static str]; 2] {
        match self {
            Product::MariaDb => [&["mariadb-dump", "mysqldump"], &["mariadb", "mysql"]],
            Product::MySql => [&["mysqldump"], &["mysql"]],
        }
    }
}

impl Version {
    /// From what a server says: `10.11.19-MariaDB-0+deb12u1`, `8.0.36`.
    pub fn of_server(text: &str) -> Option<Version> {
        // MariaDB pretends to be 5.5.5 to replicas that know no better.
        let text = text.strip_prefix("5.5.5-").unwrap_or(text);
        Some(Version {
            product: product(text),
            numbers: numbers(text)?,
        })
    }

    /// From what a client prints for `--version`.
    pub fn of_client(text: &str) -> Option<Version> {
        let behind = |word: &str| text.split_once(word).map(|(_, rest)| rest);
        // Newer, then older ways.
        let rest = behind(" from ")
            .or_else(|| behind("Distrib "))
            .or_else(|| behind("Ver "))?;
        Some(Version {
            product: product(text),
            numbers: numbers(rest)?,
        })
    }

    fn is_older(self, than: Version) -> bool {
        self.numbers.get(..2) < than.numbers.get(..2)
    }
}

fn product(text: &str) -> Product {
    match text.to_ascii_lowercase().contains("mariadb") {
        true => Product::MariaDb,
        false => Product::MySql,
    }
}

fn numbers(text: &str) -> Option<[u16; 3]> {
    let text = text.trim_start();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.');
    let mut parts = text.get(..end.unwrap_or(text.len()))?.split('.');
    let mut next = || parts.next().and_then(|part| part.parse().ok());
    Some([next()?, next()?, next().unwrap_or(0)])
}

/// A program.
#[derive(Debug, Clone)]
pub(super) struct Tool {
    pub path: PathBuf,
    pub version: Version,
}

impl Tool {
    /// What it is called, with its version.
    pub fn shown(&self) -> String {
        let name = self.path.file_stem().unwrap_or_default().to_string_lossy();
        format!("{name} {} ({})", self.version, self.version.product.name())
    }
}

/// The interactive client, of whichever product; that of `wanted` first.
pub(super) fn client(
    wanted: Option<Product>,
    folders: &[PathBuf],
    context: &Context,
) -> Result<Tool, DatabaseError> {
    let first = wanted.unwrap_or(Product::MariaDb);
    let names = first.programs()[1].iter().chain(&["mysql", "mariadb"]);
    for name in names {
        if let Some(path) = context.find_program(name, folders) {
            return tool(path, context);
        }
    }
    Err(no_program("mariadb", "mariadb-client"))
}

/// The dump client that fits a server.
pub(super) fn dump(
    server: Version,
    folders: &[PathBuf],
    context: &Context,
) -> Result<Tool, DatabaseError> {
    let [names, _] = server.product.programs();
    let package = match server.product {
        Product::MariaDb => "mariadb-client",
        Product::MySql => "mysql-client",
    };
    let mut unfit = None;
    for name in names {
        let Some(path) = context.find_program(name, folders) else {
            continue;
        };
        let tool = tool(path, context)?;
        match fits(tool.version, server) {
            Ok(()) => return Ok(tool),
            Err(why) => unfit = unfit.or(Some((tool, why))),
        }
    }
    let Some((tool, why)) = unfit else {
        return Err(no_program(names[0], package));
    };
    let what = format!(
        "{} does not fit the server, {} {server}: {why}",
        tool.shown(),
        server.product.name()
    );
    Err(DatabaseError::new(Cause::Tool, what).hint(format!(
        "install the client of {} {}.{} or newer, or say where it is: tool_dir=/path",
        server.product.name(),
        server.numbers[0],
        server.numbers[1]
    )))
}

/// Why a client cannot dump a server.
fn fits(client: Version, server: Version) -> Result<(), &'static str> {
    if client.product != server.product {
        return Err("it is another product's, and would lose what only this one has");
    }
    match client.is_older(server) {
        true => Err("it is older"),
        false => Ok(()),
    }
}

fn tool(path: PathBuf, context: &Context) -> Result<Tool, DatabaseError> {
    let text = about(&path, "--version", context)?;
    let version = Version::of_client(&text).ok_or_else(|| {
        let what = format!("{} does not say which version it is", path.display());
        DatabaseError::new(Cause::Tool, what)
    })?;
    Ok(Tool { path, version })
}

/// What a program prints about itself.
pub(super) fn about(
    path: &PathBuf,
    argument: &str,
    context: &Context,
) -> Result<String, DatabaseError> {
    let mut command = Command::new(path);
    // The first: option files of this machine are not our matter.
    command.arg("--no-defaults").arg(argument);
    // It needs none to say that.
    command.env_remove("MYSQL_PWD");
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let printed = Child::start(context.spec(&name, command)).and_then(|c| c.read_all(MOST))?;
    Ok(String::from_utf8_lossy(&printed).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        let shown = |version: Option<Version>| version.map(|v| format!("{} {v}", v.product.name()));
        let clients = [
            (
                "mariadb-dump  Ver 10.19 Distrib 10.11.19-MariaDB, for debian-linux-gnu (x86_64)",
                "MariaDB 10.11.19",
            ),
            (
                "mariadb from 11.4.2-MariaDB, client 15.2 for debian-linux-gnu (x86_64)",
                "MariaDB 11.4.2",
            ),
            ("mysqldump  Ver 8.0.36 for Linux on x86_64", "MySQL 8.0.36"),
            (
                "mysqldump  Ver 10.13 Distrib 5.7.44, for Linux (x86_64)",
                "MySQL 5.7.44",
            ),
        ];
        for (text, wanted) in clients {
            assert_eq!(shown(Version::of_client(text)).as_deref(), Some(wanted));
        }
        let servers = [
            ("10.11.19-MariaDB-0+deb12u1", "MariaDB 10.11.19"),
            ("5.5.5-10.5.2-MariaDB", "MariaDB 10.5.2"),
            ("8.4.0", "MySQL 8.4.0"),
        ];
        for (text, wanted) in servers {
            assert_eq!(shown(Version::of_server(text)).as_deref(), Some(wanted));
        }
        assert_eq!(Version::of_server("x"), None);
    }

    #[test]
    fn what_fits() {
        let version = |text| Version::of_server(text).unwrap();
        let server = version("10.11.2-MariaDB");
        assert!(fits(version("10.11.1-MariaDB"), server).is_ok());
        assert!(fits(version("11.4.1-MariaDB"), server).is_ok());
        assert!(fits(version("10.6.1-MariaDB"), server).is_err());
        assert!(fits(version("12.0.1"), server).is_err());
        assert!(fits(version("8.4.1"), version("8.0.36")).is_ok());
        assert!(fits(version("5.7.1"), version("8.0.36")).is_err());
    }
}

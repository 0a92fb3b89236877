//! PostgreSQL's own programs: those of the server's version, wherever Debian or others put them.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::child::Child;
use crate::database::Context;
use crate::database::context::no_program;
use crate::database::error::{Cause, DatabaseError};

/// Oldest and newest version of which the output is known.
pub(super) const KNOWN: std::ops::RangeInclusive<u32> = 13..=18;
/// Most bytes that a program prints about its version.
const MOST: usize = 4096;

/// Folders with programs, each for one version of the server.
#[derive(Debug, Clone)]
pub(super) struct Tools {
    folder: PathBuf,
    /// `15.18`.
    pub version: String,
}

impl Tools {
    /// The programs that fit a server's version (`150018`): of the same major version, else the
    /// next newer one. An older one does not know what the server has.
    pub fn find(server: u32, context: &Context) -> Result<Tools, DatabaseError> {
        let major = server / 10_000;
        let mut found: Vec<(u32, Tools)> = Vec::new();
        for folder in folders(context) {
            if let Some((its, version)) = version_of(&folder, context)? {
                let tools = Tools { folder, version };
                found.push((its, tools));
            }
        }
        found.sort_by_key(|(its, _)| *its);
        let fits = found.iter().find(|(its, _)| *its >= major);
        if let Some((_, tools)) = fits {
            return Ok(tools.clone());
        }
        match found.last() {
            None => Err(no_program("pg_dump", &format!("postgresql-client-{major}"))),
            Some((_, newest)) => {
                let what = format!(
                    "the server is PostgreSQL {major}, and the newest pg_dump here is {}, which \
                     does not know all that it has",
                    newest.version
                );
                let hint = format!("install postgresql-client-{major} or newer");
                Err(DatabaseError::new(Cause::Tool, what).hint(hint))
            }
        }
    }

    /// Whether `psql` knows `\\restrict`: since 13.22, 14.19, 15.14, 16.10 and 17.6.
    pub fn can_restrict(&self) -> bool {
        let mut numbers = self
            .version
            .split('.')
            .map(|n| n.parse::<u32>().unwrap_or(0));
        let (major, minor) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        match major {
            13 => minor >= 22,
            14 => minor >= 19,
            15 => minor >= 14,
            16 => minor >= 10,
            17 => minor >= 6,
            major => major >= 18,
        }
    }

    /// One of them, to be run.
    pub fn command(&self, name: &str) -> Command {
        Command::new(program(&self.folder, name))
    }
}

fn program(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
}

/// Where `pg_dump` is: where packages put it, and where PATH leads.
fn folders(context: &Context) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for base in [
        "/usr/lib/postgresql",
        "/usr/local/pgsql",
        "/opt/homebrew/opt",
    ] {
        let entries = std::fs::read_dir(base).into_iter().flatten().flatten();
        all.extend(entries.map(|entry| entry.path().join("bin")));
        all.push(Path::new(base).join("bin"));
    }
    let entries = std::fs::read_dir("/usr").into_iter().flatten().flatten();
    let of_pgdg = |e: &std::fs::DirEntry| {
        let name = e.file_name();
        name.to_str().is_some_and(|name| name.starts_with("pgsql-"))
    };
    let found = entries.filter(of_pgdg);
    all.extend(found.map(|entry| entry.path().join("bin")));
    let path = (context.variables)("PATH").unwrap_or_default();
    // What the user put in front comes first among equals.
    let mut both: Vec<PathBuf> = std::env::split_paths(&path).collect();
    both.extend(all);
    let mut seen = std::collections::BTreeSet::new();
    both.retain(|folder| program(folder, "pg_dump").is_file() && seen.insert(folder.clone()));
    both
}

/// The major version of the programs in a folder, and the whole of it.
fn version_of(folder: &Path, context: &Context) -> Result<Option<(u32, String)>, DatabaseError> {
    let mut command = Command::new(program(folder, "pg_dump"));
    command.arg("--version").env("LC_ALL", "C");
    // It needs none to say that.
    command.env_remove("PGPASSWORD");
    let printed =
        Child::start(context.spec("pg_dump", command)).and_then(|child| child.read_all(MOST));
    context.go_on()?;
    // One that cannot even tell its version is none.
    let Ok(printed) = printed else {
        return Ok(None);
    };
    Ok(parse_version(&String::from_utf8_lossy(&printed)))
}

/// From `pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
fn parse_version(printed: &str) -> Option<(u32, String)> {
    let rest = printed.split_once("(PostgreSQL) ")?.1;
    let version: String = rest.split_whitespace().next()?.to_owned();
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    Some((digits.parse().ok()?, version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_as_they_are_printed() {
        // As printed by the programs of each version, Debian's and others'.
        for (printed, major, version) in [
            ("pg_dump (PostgreSQL) 13.22\n", 13, "13.22"),
            (
                "pg_dump (PostgreSQL) 14.19 (Ubuntu 14.19-0ubuntu0.22.04.1)\n",
                14,
                "14.19",
            ),
            (
                "pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n",
                15,
                "15.18",
            ),
            ("pg_dump (PostgreSQL) 16.10 (Homebrew)\n", 16, "16.10"),
            ("pg_dump (PostgreSQL) 17.6\n", 17, "17.6"),
            ("pg_dump (PostgreSQL) 18beta2\n", 18, "18beta2"),
        ] {
            assert_eq!(parse_version(printed), Some((major, version.to_owned())));
        }
        assert_eq!(parse_version("pg_dump: command not found"), None);
    }
}

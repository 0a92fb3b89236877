//! A private server of PostgreSQL: `database::private_server` says what that is.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::Postgres;
use super::session::Session;
use crate::database::context::no_program;
use crate::database::error::{Cause, DatabaseError};
use crate::database::private_server::{Place, PrivateServer};
use crate::database::settings::Settings;
use crate::database::{Context, Stored};

/// Name of the superuser: no role of a stored database is likely to have it.
const SUPERUSER: &str = "hucha_throwaway";
/// Its data, in its folder.
const DATA: &str = "data";

/// A private server.
pub struct Throwaway {
    server: PrivateServer,
    /// `15`.
    pub major: u32,
}

impl Throwaway {
    /// Makes and starts one, of a major version (any one when 0) whose programs are installed.
    ///
    /// # Errors
    /// When there are no programs, or it does not start.
    pub fn start(major: u32, context: &Context) -> Result<Throwaway, DatabaseError> {
        let (major, programs) = programs(major, context)
            .ok_or_else(|| no_program("initdb", &format!("postgresql-{}", major.max(15))))?;
        let place = Place::new(context)?;
        let data = place.make(DATA)?;
        let mut command = place.command(&programs.join("initdb"));
        command
            .args([
                "--no-sync",
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
            ])
            .arg(format!("--username={SUPERUSER}"))
            .arg("--pgdata")
            .arg(&data)
            .env("LC_ALL", "C");
        place.run(command, context)?;
        let mut arguments: Vec<OsString> = vec!["-D".into(), data.into(), "-k".into()];
        arguments.push(place.path().into());
        for setting in [
            "listen_addresses=",
            "max_connections=50",
            // Shared memory in the folder, so that it goes with it.
            "dynamic_shared_memory_type=mmap",
            // What it holds is thrown away with it.
            "fsync=off",
            "full_page_writes=off",
            "synchronous_commit=off",
        ] {
            arguments.extend(["-c".into(), setting.into()]);
        }
        let program = programs.join("postgres");
        let answers = |place: &Place| {
            let session = address(place.path(), "postgres").and_then(|database| {
                let login = database.place.login(context)?;
                Session::open(&login, context)
            });
            session.is_ok()
        };
        let server = PrivateServer::start(place, &program, &arguments, &answers, context)?;
        Ok(Throwaway { server, major })
    }

    /// Where its socket is.
    pub fn folder(&self) -> &Path {
        self.server.path()
    }

    /// A database of this server, as an address.
    pub fn address(&self, database: &str) -> String {
        text(self.folder(), database)
    }

    /// A database of this server.
    ///
    /// # Errors
    /// When the name cannot stand in an address.
    pub fn database(&self, name: &str) -> Result<Postgres, DatabaseError> {
        address(self.folder(), name)
    }

    /// Makes the roles and tablespaces that a stored database refers to.
    ///
    /// # Errors
    /// When the server does not make them.
    pub fn prepare(&self, stored: &dyn Stored, context: &Context) -> Result<(), DatabaseError> {
        if !stored.streams().iter().any(|s| s.name == "globals.sql") {
            return Ok(());
        }
        let mut script = String::new();
        stored.read("globals.sql", &mut |bytes| {
            let read = bytes.read_to_string(&mut script);
            read.map(|_| ()).map_err(|e| {
                DatabaseError::new(
                    Cause::Incomplete,
                    format!("globals.sql cannot be read: {e}"),
                )
            })
        })?;
        let server = self.session("postgres", context)?;
        for line in script.lines() {
            let made = match line {
                _ if line.starts_with("CREATE ROLE ") => server.run(line),
                _ if line.starts_with("CREATE TABLESPACE ") => {
                    let place = line.rfind(" LOCATION ").unwrap_or(line.len());
                    let line = line.get(..place).unwrap_or_default();
                    let within = "SET allow_in_place_tablespaces = on";
                    server
                        .run(within)
                        .and_then(|()| server.run(&format!("{line} LOCATION ''")))
                }
                _ => continue,
            };
            match made {
                Err(e) if !e.what.contains("already exists") => return Err(e),
                _ => {}
            }
        }
        Ok(())
    }

    /// A database of this server that will take a stored one: with its collation when this machine
    /// knows it.
    ///
    /// # Errors
    /// When the name cannot stand in an address, or the server does not answer.
    pub fn database_for(
        &self,
        name: &str,
        stored: &dyn Stored,
        context: &Context,
    ) -> Result<Postgres, DatabaseError> {
        let mut database = self.database(name)?;
        let collate = stored.member().property("collate").unwrap_or("C");
        let plain = |name: &str| name.to_lowercase().replace("utf-8", "utf8");
        let known = self
            .session("postgres", context)?
            .rows("SELECT collcollate FROM pg_collation")?;
        let mut known = known.into_iter().flatten().flatten();
        if !known.any(|name| plain(&name) == plain(collate)) {
            database.collate = Some("C.UTF-8".to_owned());
        }
        Ok(database)
    }

    fn session(&self, database: &str, context: &Context) -> Result<Session, DatabaseError> {
        Session::open(&self.database(database)?.place.login(context)?, context)
    }
}

impl Drop for Throwaway {
    fn drop(&mut self) {
        // In order, so that it leaves nothing in the kernel.
        let pid = self.folder().join(DATA).join("postmaster.pid");
        self.server.interrupt(&pid);
    }
}

fn text(folder: &Path, database: &str) -> String {
    format!(
        "postgres://{SUPERUSER}@/{database}?host={}",
        folder.display()
    )
}

fn address(folder: &Path, database: &str) -> Result<Postgres, DatabaseError> {
    Postgres::new(Settings::of_address(&text(folder, database))?)
}

/// Programs of a server: of a major version, or the newest.
fn programs(major: u32, context: &Context) -> Option<(u32, PathBuf)> {
    let mut found = Vec::new();
    let entries = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    for entry in entries {
        let version = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok());
        let folder = entry.path().join("bin");
        if let Some(version) = version.filter(|_| folder.join("postgres").is_file()) {
            found.push((version, folder));
        }
    }
    found.sort();
    let newer = found
        .iter()
        .find(|(version, _)| major > 0 && *version >= major);
    if let Some(found) = newer.or(found.last()) {
        return Some(found.clone());
    }
    let server = context.find_program("postgres", &[])?;
    // Where a link leads, for the programs beside it.
    let server = std::fs::canonicalize(server).ok()?;
    Some((major, server.parent()?.to_owned()))
}

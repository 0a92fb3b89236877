//! A private PostgreSQL server that lives as long as it is needed: on a socket in a private folder,
//! without network, run by a user who is not root.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::Postgres;
use super::place::Place;
use super::session::Session;
use crate::child::Child;
use crate::database::context::no_program;
use crate::database::error::{Cause, DatabaseError};
use crate::database::scratch::{PrivateFolder, Scratch};
use crate::database::settings::Settings;
use crate::database::{Context, Stored};

/// Name of the superuser: no role of a stored database is likely to have it.
const SUPERUSER: &str = "hucha_throwaway";
/// Longest wait for a server to answer.
const START: Duration = Duration::from_secs(60);
/// How often it is asked.
const ASK: Duration = Duration::from_millis(50);
/// Most bytes of what `initdb` prints.
const MOST: usize = 1 << 20;

/// A server.
pub struct Throwaway {
    server: std::process::Child,
    folder: PrivateFolder,
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
        // A folder that another user may enter, and short: sockets have little room.
        let folder = Scratch::new(std::env::temp_dir().join("hucha")).folder()?;
        let user = other_user();
        open_for(&folder, user)?;
        let data = folder.path().join("data");
        let mut command = as_user(Command::new(programs.join("initdb")), user);
        command
            .args([
                "--no-sync",
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
            ])
            .arg(format!("--username={SUPERUSER}"))
            .arg("--pgdata")
            .arg(&data);
        Child::start(context.spec("initdb", command))?.read_all(MOST)?;
        let log = std::fs::File::create(folder.path().join("log"));
        let log = log.map_err(|e| DatabaseError::new(Cause::Failed, e.to_string()))?;
        let mut command = as_user(Command::new(programs.join("postgres")), user);
        command
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(folder.path())
            .args([
                "-c",
                "listen_addresses=",
                "-c",
                "fsync=off",
                "-c",
                "full_page_writes=off",
            ])
            .args(["-c", "synchronous_commit=off", "-c", "max_connections=50"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let server = command.spawn().map_err(|e| {
            DatabaseError::new(Cause::Tool, format!("postgres cannot be started: {e}"))
        })?;
        let mut throwaway = Throwaway {
            server,
            folder,
            major,
        };
        throwaway.await_answer(context)?;
        Ok(throwaway)
    }

    /// Where its socket is.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A database of this server, as an address.
    pub fn address(&self, database: &str) -> String {
        let folder = self.folder.path().display();
        format!("postgres://{SUPERUSER}@/{database}?host={folder}")
    }

    /// A database of this server.
    ///
    /// # Errors
    /// When the name cannot stand in an address.
    pub fn database(&self, name: &str) -> Result<Postgres, DatabaseError> {
        Postgres::new(Settings::of_address(&self.address(name))?)
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

    fn await_answer(&mut self, context: &Context) -> Result<(), DatabaseError> {
        let place: Place = self.database("postgres")?.place;
        let login = place.login(context)?;
        let since = Instant::now();
        loop {
            context.go_on()?;
            let error = match Session::open(&login, context) {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            let ended = self.server.try_wait().ok().flatten();
            if ended.is_some() || since.elapsed() > START {
                let log = std::fs::read_to_string(self.folder.path().join("log"));
                let log = log.unwrap_or_default();
                let last: Vec<&str> = log.lines().rev().take(5).collect();
                let last: Vec<&str> = last.into_iter().rev().collect();
                let what = format!(
                    "a private PostgreSQL server does not start: {error}\n  {}",
                    last.join("\n  ")
                );
                return Err(DatabaseError::new(Cause::Tool, what));
            }
            std::thread::sleep(ASK);
        }
    }
}

impl Drop for Throwaway {
    fn drop(&mut self) {
        // SIGINT: sessions are ended; what it holds is not needed any more.
        signal(&self.server, true);
        let since = Instant::now();
        while since.elapsed() < Duration::from_secs(5) {
            if let Ok(Some(_)) = self.server.try_wait() {
                return;
            }
            std::thread::sleep(ASK);
        }
        signal(&self.server, false);
        let _ = self.server.wait();
    }
}

#[cfg(unix)]
fn signal(server: &std::process::Child, gently: bool) {
    use rustix::process::{Pid, Signal, kill_process, kill_process_group};
    let pid = Pid::from_child(server);
    let _ = match gently {
        true => kill_process(pid, Signal::INT),
        false => kill_process_group(pid, Signal::KILL),
    };
}

#[cfg(not(unix))]
fn signal(_: &std::process::Child, _: bool) {}

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

/// A user who is not root, when we are: the server wants one.
#[cfg(unix)]
fn other_user() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let named = |name: &str| nix::unistd::User::from_name(name).ok().flatten();
    let user = named("postgres").or_else(|| named("nobody"));
    Some(user.map_or((65_534, 65_534), |u| (u.uid.as_raw(), u.gid.as_raw())))
}

#[cfg(not(unix))]
fn other_user() -> Option<(u32, u32)> {
    None
}

/// Gives a private folder to a user; those above it may be passed through.
fn open_for(folder: &PrivateFolder, user: Option<(u32, u32)>) -> Result<(), DatabaseError> {
    #[cfg(unix)]
    if let Some((uid, gid)) = user {
        use std::os::unix::fs::PermissionsExt;
        let given = std::os::unix::fs::chown(folder.path(), Some(uid), Some(gid)).and_then(|()| {
            let base = folder.path().parent().unwrap_or(Path::new("/"));
            std::fs::set_permissions(base, std::fs::Permissions::from_mode(0o711))
        });
        given.map_err(|e| {
            let what = format!("{}: {e}", folder.path().display());
            DatabaseError::new(Cause::Failed, what)
        })?;
    }
    let _ = (folder, user);
    Ok(())
}

fn as_user(mut command: Command, user: Option<(u32, u32)>) -> Command {
    #[cfg(unix)]
    if let Some((uid, gid)) = user {
        use std::os::unix::process::CommandExt;
        command.uid(uid).gid(gid);
    }
    let _ = user;
    command.current_dir("/").env("LC_ALL", "C");
    command
}

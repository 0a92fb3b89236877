//! A server that is there for nothing else: made in a private folder, reached by a socket in it,
//! gone with all that it held. For rehearsals and tests.
//!
//! It touches no server of the machine, nor its configuration or data. Where this process is root
//! the server runs as somebody else, for what is restored into it may do what the server may. It
//! ends with this process however that ends: it is started by a shell that waits for the end of a
//! pipe that only this process holds.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Context;
use super::error::{Cause, DatabaseError};
use super::scratch::{PrivateFolder, Scratch};
use crate::child::{Child, ChildError, Stopper};

/// Longest wait until a server answers.
const STARTS: Duration = Duration::from_secs(120);
/// Longest wait until one has ended that was asked to.
const ENDS: Duration = Duration::from_secs(5);
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(20);
/// Most bytes of a socket's path, without the NUL behind it.
const SOCKET: usize = 107;
/// Longest name of a socket in its folder.
const SOCKET_NAME: usize = "/.s.PGSQL.5432".len();
/// Where everybody may make folders: short, and on a disk.
const SHARED: &str = "/var/tmp";
/// Most bytes of what a program prints that prepares a server.
const MOST: usize = 1 << 20;

/// Starts a server that ends when standard input does.
const WATCHED: &str = "exec 3<&0; \"$@\" </dev/null 3<&- & server=$!; \
    (cat <&3 >/dev/null; kill -9 $server) & exec 3<&-; wait $server";

/// Where a server will be, and whom it runs as.
pub(crate) struct Place {
    folder: PrivateFolder,
    /// Numbers of user and group, when we are root.
    owner: Option<(u32, u32)>,
}

impl Place {
    /// A private folder in which a socket has room. When we are root it belongs to `nobody`: what
    /// is restored may run programs, and must not be the user of another server here.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(context: &Context) -> Result<Place, DatabaseError> {
        let owner = owner()?;
        let folder = match owner {
            // Others cannot enter the folders of root.
            Some(_) => Scratch::new(PathBuf::from(SHARED)).folder()?,
            None => {
                let folder = context.scratch.folder()?;
                match folder.path().as_os_str().len() + SOCKET_NAME <= SOCKET {
                    true => folder,
                    false => Scratch::new(PathBuf::from(SHARED)).folder()?,
                }
            }
        };
        let place = Place { folder, owner };
        place.give(place.folder.path())?;
        Ok(place)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Makes a folder in it.
    ///
    /// # Errors
    /// When that cannot be done.
    pub fn make(&self, name: &str) -> Result<PathBuf, DatabaseError> {
        let path = self.folder.path().join(name);
        std::fs::create_dir(&path).map_err(|e| unmade(&path, &e))?;
        self.give(&path)?;
        Ok(path)
    }

    #[cfg(unix)]
    fn give(&self, path: &Path) -> Result<(), DatabaseError> {
        let Some((uid, gid)) = self.owner else {
            return Ok(());
        };
        std::os::unix::fs::chown(path, Some(uid), Some(gid)).map_err(|e| unmade(path, &e))
    }

    #[cfg(not(unix))]
    fn give(&self, _: &Path) -> Result<(), DatabaseError> {
        let _ = self.owner;
        Ok(())
    }

    /// A program that runs as the server will.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        #[cfg(unix)]
        if let Some((uid, gid)) = self.owner {
            use std::os::unix::process::CommandExt;
            command.uid(uid).gid(gid);
        }
        command.current_dir("/");
        command
    }

    /// Runs a program that prepares the server to its end.
    ///
    /// # Errors
    /// When it fails.
    pub fn run(&self, command: Command, context: &Context) -> Result<(), DatabaseError> {
        let name = command.get_program().to_string_lossy().into_owned();
        Child::start(context.spec(&name, command))?.read_all(MOST)?;
        Ok(())
    }
}

fn unmade(path: &Path, error: &io::Error) -> DatabaseError {
    let what = format!("{} cannot be made: {error}", path.display());
    DatabaseError::new(Cause::Failed, what)
}

/// Whom a server runs as when we are root.
#[cfg(unix)]
fn owner() -> Result<Option<(u32, u32)>, DatabaseError> {
    use nix::unistd::{Uid, User};
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    let found = User::from_name("nobody").ok().flatten().ok_or_else(|| {
        let what = "there is no user nobody, whom a private server runs as";
        DatabaseError::new(Cause::Tool, what).hint("name a server: --server ADDRESS")
    })?;
    Ok(Some((found.uid.as_raw(), found.gid.as_raw())))
}

#[cfg(not(unix))]
fn owner() -> Result<Option<(u32, u32)>, DatabaseError> {
    let what = "a private server is started on Unix only";
    Err(DatabaseError::new(Cause::Tool, what).hint("name a server: --server ADDRESS"))
}

/// A server that runs.
pub(crate) struct PrivateServer {
    stopper: Stopper,
    running: Option<JoinHandle<()>>,
    // Goes after the server.
    place: Place,
}

impl PrivateServer {
    /// Starts a server, and waits until it answers.
    ///
    /// # Errors
    /// When it does not start, with its last words.
    pub fn start(
        place: Place,
        program: &Path,
        arguments: &[OsString],
        answers: &dyn Fn(&Place) -> bool,
        context: &Context,
    ) -> Result<PrivateServer, DatabaseError> {
        let mut command = place.command(Path::new("/bin/sh"));
        command
            .args(["-c", WATCHED, "sh"])
            .arg(program)
            .args(arguments);
        // Of its own: one that a rehearsal is stopped by may come while others go on.
        let stopper = Stopper::default();
        let mut spec = context.spec("the private server", command);
        spec.stopper = &stopper;
        spec.is_fed = true;
        spec.stall = None;
        let mut child = Child::start(spec)?;
        let (sender, ended) = channel();
        let running = std::thread::spawn(move || {
            // Held as long as the server is to run.
            let _input = child.input();
            let mut buffer = [0; 4096];
            loop {
                match child.read(&mut buffer) {
                    Ok(0) => return,
                    Ok(_) => {}
                    Err(error) => {
                        // Nobody listens once it has started.
                        let _ = sender.send(error);
                        return;
                    }
                }
            }
        });
        let server = PrivateServer {
            stopper,
            running: Some(running),
            place,
        };
        server.wait(&ended, answers, context)?;
        Ok(server)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.place.path()
    }

    fn wait(
        &self,
        ended: &Receiver<ChildError>,
        answers: &dyn Fn(&Place) -> bool,
        context: &Context,
    ) -> Result<(), DatabaseError> {
        let since = Instant::now();
        loop {
            context.go_on()?;
            if answers(&self.place) {
                return Ok(());
            }
            match ended.recv_timeout(PAUSE) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(error) => return Err(error.into()),
                Err(RecvTimeoutError::Disconnected) => {
                    let what = "the private server ended at once";
                    return Err(DatabaseError::new(Cause::Tool, what));
                }
            }
            if since.elapsed() > STARTS {
                let seconds = STARTS.as_secs();
                let what = format!("the private server did not answer within {seconds} s");
                return Err(DatabaseError::new(Cause::Tool, what));
            }
        }
    }

    /// Asks the server whose number stands in a file of its folder to end in order, and waits for a
    /// moment. What then still runs is killed when this is dropped.
    #[cfg(unix)]
    pub fn interrupt(&self, pid_file: &Path) {
        use rustix::process::{Pid, Signal, kill_process};
        let text = std::fs::read_to_string(pid_file).unwrap_or_default();
        let pid = text
            .lines()
            .next()
            .and_then(|line| line.trim().parse().ok());
        let Some(pid) = pid.and_then(Pid::from_raw) else {
            return;
        };
        // It fails only when it has ended.
        let _ = kill_process(pid, Signal::INT);
        let since = Instant::now();
        let runs = |running: &JoinHandle<()>| !running.is_finished();
        while self.running.as_ref().is_some_and(runs) && since.elapsed() < ENDS {
            std::thread::sleep(PAUSE);
        }
    }

    /// There is none on this system.
    #[cfg(not(unix))]
    pub fn interrupt(&self, _: &Path) {
        let _ = ENDS;
    }
}

impl Drop for PrivateServer {
    fn drop(&mut self) {
        self.stopper.stop();
        if let Some(running) = self.running.take() {
            // A panic there is nobody's matter any more.
            let _ = running.join();
        }
    }
}

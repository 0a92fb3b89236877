//! A private server that is thrown away: made in a temporary folder, reached by a socket only, gone
//! with all it held when it is dropped. For rehearsals and tests.
//!
//! It never touches a server of the machine, its configuration or its data. Where this process is
//! root the server runs as `mysql` or `nobody`, for what is restored into it may do what the server
//! may. It ends with this process however that ends: it is started by a shell that waits for the
//! end of a pipe that only this process holds.

use crate::database::Context;
use crate::database::error::DatabaseError;

#[cfg(unix)]
pub use unix::Throwaway;

/// There is none on this system.
#[cfg(not(unix))]
#[derive(Debug)]
pub struct Throwaway(std::convert::Infallible);

#[cfg(not(unix))]
impl Throwaway {
    /// Fails.
    ///
    /// # Errors
    /// Always.
    pub fn start(_: &Context) -> Result<Throwaway, DatabaseError> {
        let what = "a private server of MariaDB is started on Unix only";
        Err(DatabaseError::new(crate::database::Cause::Tool, what)
            .hint("name a server to restore to"))
    }

    /// The address of a database on it.
    pub fn address(&self, _: &str) -> String {
        match self.0 {}
    }
}

#[cfg(unix)]
mod unix {
    use std::os::unix::fs::chown;
    use std::os::unix::net::UnixStream;
    use std::os::unix::process::CommandExt;
    use std::path::{Path, PathBuf};
    use std::process::Command;
    use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
    use std::thread::JoinHandle;
    use std::time::{Duration, Instant};

    use nix::unistd::{Uid, User};
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

    use super::{Context, DatabaseError};
    use crate::child::{Child, ChildError, Stopper};
    use crate::database::context::no_program;
    use crate::database::error::Cause;
    use crate::database::scratch::{PrivateFolder, Scratch};

    /// Longest wait until a server answers.
    const STARTS: Duration = Duration::from_secs(120);
    /// Pause between two looks whether it does.
    const PAUSE: Duration = Duration::from_millis(20);
    /// Most bytes of a socket's path, without the NUL behind it.
    const SOCKET: usize = 107;
    /// Where everybody may make folders: short, and on a disk.
    const SHARED: &str = "/var/tmp";

    /// Starts a server that ends when standard input does.
    const WATCHED: &str = "exec 3<&0; \"$@\" </dev/null 3<&- & server=$!; \
        (cat <&3 >/dev/null; kill -9 $server) & exec 3<&-; wait $server";

    /// A private server. See the module.
    pub struct Throwaway {
        stopper: Stopper,
        running: Option<JoinHandle<()>>,
        socket: PathBuf,
        // Goes after the server.
        _folder: PrivateFolder,
    }

    /// Who the server runs as.
    struct Owner {
        uid: u32,
        gid: u32,
    }

    impl Throwaway {
        /// Makes a data folder, starts a server and waits until it answers.
        ///
        /// # Errors
        /// When its programs are not installed, or it does not start.
        pub fn start(context: &Context) -> Result<Throwaway, DatabaseError> {
            let owner = owner()?;
            let folder = match &owner {
                // Others cannot enter the folders of root.
                Some(_) => Scratch::new(PathBuf::from(SHARED)).folder()?,
                None => short_folder(context)?,
            };
            let [data, temporary] = ["data", "tmp"].map(|name| folder.path().join(name));
            let failed = |e: std::io::Error| {
                let what = format!("{} cannot be made: {e}", data.display());
                DatabaseError::new(Cause::Failed, what)
            };
            std::fs::create_dir(&data).map_err(failed)?;
            std::fs::create_dir(&temporary).map_err(failed)?;
            if let Some(Owner { uid, gid }) = &owner {
                for path in [folder.path(), &data, &temporary] {
                    chown(path, Some(*uid), Some(*gid)).map_err(failed)?;
                }
            }
            let socket = folder.path().join("socket");
            let command = prepare(&data, owner.as_ref(), context)?;
            let (stopper, ended, running) = run(command, &data, &socket, owner.as_ref(), context)?;
            let server = Throwaway {
                stopper,
                running: Some(running),
                socket,
                _folder: folder,
            };
            server.wait(&ended, context)?;
            Ok(server)
        }

        /// The address of a database on it, of a user who may do everything.
        pub fn address(&self, database: &str) -> String {
            let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
            let socket = encoded(&self.socket.to_string_lossy());
            format!(
                "mysql://root@localhost/{}?socket={socket}",
                encoded(database)
            )
        }

        /// Its socket.
        pub fn socket(&self) -> &Path {
            &self.socket
        }

        fn wait(
            &self,
            ended: &Receiver<ChildError>,
            context: &Context,
        ) -> Result<(), DatabaseError> {
            let since = Instant::now();
            loop {
                context.go_on()?;
                if UnixStream::connect(&self.socket).is_ok() {
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
    }

    impl Drop for Throwaway {
        fn drop(&mut self) {
            self.stopper.stop();
            if let Some(running) = self.running.take() {
                // A panic there is nobody's matter any more.
                let _ = running.join();
            }
        }
    }

    /// Whom a server runs as when we are root.
    fn owner() -> Result<Option<Owner>, DatabaseError> {
        if !Uid::effective().is_root() {
            return Ok(None);
        }
        let find = |name: &&str| User::from_name(name).ok().flatten();
        let user = ["mysql", "nobody"].iter().find_map(find).ok_or_else(|| {
            let what = "there is neither a user mysql nor nobody for a private server to run as";
            DatabaseError::new(Cause::Tool, what)
        })?;
        Ok(Some(Owner {
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
        }))
    }

    /// A folder in which a socket has room.
    fn short_folder(context: &Context) -> Result<PrivateFolder, DatabaseError> {
        let folder = context.scratch.folder()?;
        match folder.path().as_os_str().len() + "/socket".len() <= SOCKET {
            true => Ok(folder),
            false => Scratch::new(PathBuf::from(SHARED)).folder(),
        }
    }

    fn find(names: &[&str], context: &Context) -> Option<PathBuf> {
        let folders = ["/usr/sbin", "/usr/libexec", "/usr/local/sbin"].map(PathBuf::from);
        names
            .iter()
            .find_map(|name| context.find_program(name, &folders))
    }

    /// A command that runs as the server's user, with temporary files beside the data. A server
    /// that starts removes what looks like a temporary table from its folder of temporary files:
    /// in a shared one those of another server, which may crash then.
    fn owned(mut command: Command, data: &Path, owner: Option<&Owner>) -> Command {
        let temporary = data.with_file_name("tmp");
        command.env("TMPDIR", &temporary);
        command.arg(format!("--tmpdir={}", temporary.display()));
        if let Some(Owner { uid, gid }) = owner {
            command.uid(*uid).gid(*gid);
        }
        command.current_dir("/");
        command
    }

    /// Makes the data folder; answers the server's program.
    fn prepare(
        data: &Path,
        owner: Option<&Owner>,
        context: &Context,
    ) -> Result<PathBuf, DatabaseError> {
        let server = find(&["mariadbd", "mysqld"], context)
            .ok_or_else(|| no_program("mariadbd", "mariadb-server"))?;
        let install = find(&["mariadb-install-db", "mysql_install_db"], context);
        let mut command = match &install {
            Some(install) => {
                let mut command = Command::new(install);
                command.arg("--no-defaults").args([
                    "--auth-root-authentication-method=normal",
                    "--skip-test-db",
                    "--skip-name-resolve",
                ]);
                command
            }
            None => {
                let mut command = Command::new(&server);
                command.args(["--no-defaults", "--initialize-insecure"]);
                command
            }
        };
        command.arg(format!("--datadir={}", data.display()));
        let name = install.as_ref().unwrap_or(&server).display().to_string();
        let spec = context.spec(&name, owned(command, data, owner));
        Child::start(spec).and_then(|child| child.read_all(1 << 20))?;
        Ok(server)
    }

    type Running = (Stopper, Receiver<ChildError>, JoinHandle<()>);

    fn run(
        server: PathBuf,
        data: &Path,
        socket: &Path,
        owner: Option<&Owner>,
        context: &Context,
    ) -> Result<Running, DatabaseError> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", WATCHED, "sh"]).arg(&server);
        let pid_file = data.join("pid");
        let path = |option: &str, path: &Path| format!("--{option}={}", path.display());
        command.arg("--no-defaults").args([
            path("datadir", data),
            path("socket", socket),
            path("pid-file", &pid_file),
            // Where statements may read and write files: where there are none.
            path("secure-file-priv", data),
        ]);
        command.args([
            "--skip-networking",
            "--skip-log-bin",
            "--event-scheduler=OFF",
            "--local-infile=0",
            "--max-allowed-packet=1G",
            // What it holds is thrown away with it.
            "--innodb-flush-log-at-trx-commit=0",
            "--innodb-doublewrite=0",
        ]);
        let stopper = Stopper::default();
        let mut spec = context.spec("the private server", owned(command, data, owner));
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
        Ok((stopper, ended, running))
    }
}

//! A private server of MariaDB or MySQL: `database::private_server` says what that is.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::database::Context;
use crate::database::context::no_program;
use crate::database::error::DatabaseError;
use crate::database::private_server::{Place, PrivateServer};

/// Its socket, in its folder.
const SOCKET: &str = "socket";

/// A private server.
pub struct Throwaway {
    server: PrivateServer,
    socket: PathBuf,
}

impl Throwaway {
    /// Makes a data folder, starts a server and waits until it answers.
    ///
    /// # Errors
    /// When its programs are not installed, or it does not start.
    pub fn start(context: &Context) -> Result<Throwaway, DatabaseError> {
        let program = find(&["mariadbd", "mysqld"], context)
            .ok_or_else(|| no_program("mariadbd", "mariadb-server"))?;
        let place = Place::new(context)?;
        let data = place.make("data")?;
        // A server that starts removes what looks like a temporary table from its folder of
        // temporary files: in a shared one those of another server, which may crash then.
        let temporary = place.make("tmp")?;
        prepare(&place, &program, [&data, &temporary], context)?;
        let arguments = arguments(place.path(), &data, &temporary);
        let answers = |place: &Place| is_answering(&place.path().join(SOCKET));
        let server = PrivateServer::start(place, &program, &arguments, &answers, context)?;
        Ok(Throwaway {
            socket: server.path().join(SOCKET),
            server,
        })
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

    /// Where all of it is.
    pub fn folder(&self) -> &Path {
        self.server.path()
    }
}

#[cfg(unix)]
fn is_answering(socket: &Path) -> bool {
    std::os::unix::net::UnixStream::connect(socket).is_ok()
}

#[cfg(not(unix))]
fn is_answering(_: &Path) -> bool {
    false
}

fn find(names: &[&str], context: &Context) -> Option<PathBuf> {
    let folders = ["/usr/sbin", "/usr/libexec", "/usr/local/sbin"].map(PathBuf::from);
    names
        .iter()
        .find_map(|name| context.find_program(name, &folders))
}

/// Makes the data folder.
fn prepare(
    place: &Place,
    server: &Path,
    [data, temporary]: [&Path; 2],
    context: &Context,
) -> Result<(), DatabaseError> {
    let mut command = match find(&["mariadb-install-db", "mysql_install_db"], context) {
        Some(install) => {
            let mut command = place.command(&install);
            command.arg("--no-defaults").args([
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                "--skip-name-resolve",
            ]);
            command
        }
        None => {
            let mut command = place.command(server);
            command.args(["--no-defaults", "--initialize-insecure"]);
            command
        }
    };
    command
        .args([option("datadir", data), option("tmpdir", temporary)])
        .env("TMPDIR", temporary);
    place.run(command, context)
}

fn option(name: &str, path: &Path) -> OsString {
    format!("--{name}={}", path.display()).into()
}

fn arguments(folder: &Path, data: &Path, temporary: &Path) -> Vec<OsString> {
    let mut arguments = vec![
        "--no-defaults".into(),
        option("datadir", data),
        option("tmpdir", temporary),
        option("socket", &folder.join(SOCKET)),
        option("pid-file", &data.join("pid")),
        // Where statements may read and write files: where there are none.
        option("secure-file-priv", data),
    ];
    let plain = [
        "--skip-networking",
        "--skip-log-bin",
        "--event-scheduler=OFF",
        "--local-infile=0",
        "--max-allowed-packet=1G",
        // What it holds is thrown away with it.
        "--innodb-flush-log-at-trx-commit=0",
        "--innodb-doublewrite=0",
    ];
    arguments.extend(plain.map(OsString::from));
    arguments
}

//! Where a PostgreSQL server is, who asks, and how the connection is protected: from the address,
//! its options, and the environment variables of PostgreSQL's own programs, in that order.

use std::path::PathBuf;
use std::process::Command;

use zeroize::Zeroizing;

use crate::database::Context;
use crate::database::error::DatabaseError;
use crate::database::scratch::PrivateFolder;
use crate::database::secret::SecretFrom;
use crate::database::settings::{Address, Settings};

/// How a connection is protected, as libpq has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SslMode {
    /// Encrypted when the server can.
    Prefer,
    /// Never encrypted.
    Disable,
    /// Encrypted; whoever answers is believed.
    Require,
    /// Encrypted, and the certificate must be that of the host.
    VerifyFull,
}

impl SslMode {
    pub const WORDS: [(&'static str, SslMode); 4] = [
        ("prefer", SslMode::Prefer),
        ("disable", SslMode::Disable),
        ("require", SslMode::Require),
        ("verify-full", SslMode::VerifyFull),
    ];

    fn word(self) -> &'static str {
        let found = SslMode::WORDS.iter().find(|(_, mode)| *mode == self);
        found.map_or("prefer", |(word, _)| word)
    }
}

/// Options about the connection.
#[derive(Debug, Clone)]
pub(super) struct Place {
    address: Address,
    /// A host name, or the folder of a socket.
    host: Option<String>,
    pub ssl: SslMode,
    /// Certificates that are believed, instead of the system's.
    pub root_certificates: Option<PathBuf>,
    password: Option<SecretFrom>,
    /// The database that is connected to in place of that of the address.
    database: Option<String>,
}

/// A place with all that the environment says.
#[derive(Clone)]
pub(super) struct Login {
    /// A host name, or the folder of a socket.
    pub host: String,
    pub port: u16,
    pub user: String,
    pub database: String,
    pub password: Option<Zeroizing<String>>,
    pub ssl: SslMode,
    pub root_certificates: Option<PathBuf>,
}

impl Place {
    pub fn take(settings: &mut Settings) -> Result<Place, DatabaseError> {
        let ssl = settings.word("sslmode", &SslMode::WORDS)?;
        Ok(Place {
            address: settings.address.clone(),
            host: settings.text("host")?.or(settings.address.host.clone()),
            ssl,
            root_certificates: settings.text("sslrootcert")?.map(PathBuf::from),
            password: settings.password()?,
            database: None,
        })
    }

    /// The database that the address names.
    pub fn database(&self) -> Option<&str> {
        self.database.as_deref().or(self.address.database())
    }

    /// The same server, another database.
    pub fn with_database(&self, database: &str) -> Place {
        Place {
            database: Some(database.to_owned()),
            ..self.clone()
        }
    }

    /// As an address without secrets.
    pub fn location(&self) -> String {
        let address = Address {
            scheme: "postgres".to_owned(),
            ..self.address.clone()
        };
        match (&self.address.host, &self.host) {
            (None, Some(folder)) => format!("{address}?host={folder}"),
            _ => address.to_string(),
        }
    }

    /// Looks up what the address does not say.
    pub fn login(&self, context: &Context) -> Result<Login, DatabaseError> {
        let variable = |name: &str| context.variable(name);
        let host = self.host.clone().or_else(|| variable("PGHOST"));
        let port = self
            .address
            .port
            .or_else(|| variable("PGPORT")?.parse().ok());
        let user = (self.address.user.clone())
            .or_else(|| variable("PGUSER"))
            .or_else(|| variable("USER"))
            .or_else(|| variable("LOGNAME"));
        let mut login = Login {
            host: host.unwrap_or_else(|| "/var/run/postgresql".to_owned()),
            port: port.unwrap_or(5432),
            user: user.unwrap_or_else(|| "postgres".to_owned()),
            database: self.database().unwrap_or("postgres").to_owned(),
            password: None,
            ssl: self.ssl,
            root_certificates: self.root_certificates.clone(),
        };
        login.password = match &self.password {
            Some(from) => Some(from.fetch(context)?),
            None => variable("PGPASSWORD")
                .map(Zeroizing::new)
                .or_else(|| of_password_file(&login, context)),
        };
        Ok(login)
    }
}

impl Login {
    /// The folder of a socket.
    pub fn socket(&self) -> Option<&str> {
        self.host.starts_with('/').then_some(self.host.as_str())
    }

    /// For messages.
    pub fn shown(&self) -> String {
        format!("{} at {}:{}", self.database, self.host, self.port)
    }

    /// Tells a program of PostgreSQL's where to connect; the password goes through a file in
    /// `folder`.
    pub fn tell(&self, command: &mut Command, folder: &PrivateFolder) -> Result<(), DatabaseError> {
        command
            .env("PGHOST", &self.host)
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", &self.user)
            .env("PGDATABASE", &self.database)
            .env("PGSSLMODE", self.ssl.word())
            .env("PGAPPNAME", "hucha")
            .env("PGCLIENTENCODING", "UTF8")
            .env("PGCONNECT_TIMEOUT", "30")
            .env("LC_ALL", "C")
            .env_remove("PGPASSWORD")
            .env_remove("PGSERVICE")
            .env_remove("PGOPTIONS");
        if let Some(path) = &self.root_certificates {
            command.env("PGSSLROOTCERT", path);
        } else if self.ssl == SslMode::VerifyFull {
            command.env("PGSSLROOTCERT", "system");
        }
        let Some(password) = &self.password else {
            command.env("PGPASSFILE", folder.path().join("none"));
            return Ok(());
        };
        let escaped = password.replace('\\', "\\\\").replace(':', "\\:");
        let line = Zeroizing::new(format!("*:*:*:*:{escaped}\n"));
        let file = folder.path().join("password");
        if !file.exists() {
            folder.file("password", line.as_bytes())?;
        }
        command.env("PGPASSFILE", file);
        Ok(())
    }
}

/// The password that the user's password file has for a login, by libpq's rules.
fn of_password_file(login: &Login, context: &Context) -> Option<Zeroizing<String>> {
    let path = match context.variable("PGPASSFILE") {
        Some(path) => PathBuf::from(path),
        None => PathBuf::from(context.variable("HOME")?).join(".pgpass"),
    };
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // libpq does not read one that others may read either.
        let mode = std::fs::metadata(&path).ok()?.permissions().mode();
        if mode & 0o077 != 0 {
            return None;
        }
    }
    let text = Zeroizing::new(std::fs::read_to_string(path).ok()?);
    text.lines().find_map(|line| password_of(line, login))
}

/// The password of a line `host:port:database:user:password` when it is for a login.
fn password_of(line: &str, login: &Login) -> Option<Zeroizing<String>> {
    if line.starts_with('#') {
        return None;
    }
    let host = match login.socket() {
        Some("/var/run/postgresql" | "/tmp") => "localhost",
        _ => &login.host,
    };
    let port = login.port.to_string();
    let mut rest = line;
    for wanted in [host, &port, &login.database, &login.user] {
        let (field, after) = field(rest)?;
        if *field != "*" && *field != *wanted {
            return None;
        }
        rest = after;
    }
    let password = unescaped(rest);
    (!password.is_empty()).then_some(password)
}

/// One field up to its colon, unescaped, and what follows.
fn field(text: &str) -> Option<(Zeroizing<String>, &str)> {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ':' => return Some((unescaped(text.get(..at)?), text.get(at + 1..)?)),
            _ => {}
        }
    }
    None
}

fn unescaped(text: &str) -> Zeroizing<String> {
    let mut plain = Zeroizing::new(String::with_capacity(text.len()));
    let mut escaped = false;
    for c in text.chars() {
        if c == '\\' && !escaped {
            escaped = true;
            continue;
        }
        escaped = false;
        plain.push(c);
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login() -> Login {
        Login {
            host: "db.local".into(),
            port: 5432,
            user: "ana:b".into(),
            database: "shop".into(),
            password: None,
            ssl: SslMode::Prefer,
            root_certificates: None,
        }
    }

    #[test]
    fn lines_of_a_password_file() {
        for (line, password) in [
            (r"db.local:5432:shop:ana\:b:se\:cr\\et", Some(r"se:cr\et")),
            (r"*:*:*:*:x", Some("x")),
            (r"db.local:5433:shop:ana\:b:x", None),
            (r"other:*:*:*:x", None),
            (r"# *:*:*:*:x", None),
            (r"*:*:*:x", None),
            ("", None),
        ] {
            let found = password_of(line, &login());
            assert_eq!(found.as_ref().map(|p| p.as_str()), password, "{line}");
        }
        let local = Login {
            host: "/var/run/postgresql".into(),
            ..login()
        };
        assert!(password_of("localhost:*:*:*:x", &local).is_some());
    }
}

//! What counts of an option file of the user's: how the server is reached. Whatever else may stand
//! there (`where`, `databases`, `insert-ignore`, `init-command` …) would change what a dump is.
//!
//! Lines are taken over as they are, so nothing is known here about quotes and escapes in values.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::database::error::{Cause, DatabaseError};

/// Options that are taken over.
const CONNECTION: [&str; 23] = [
    "bind-address",
    "compress",
    "compression-algorithms",
    "default-auth",
    "enable-cleartext-plugin",
    "get-server-public-key",
    "host",
    "loose-ssl",
    "oci-config-file",
    "password",
    "pipe",
    "plugin-dir",
    "port",
    "protocol",
    "secure-auth",
    "server-public-key-path",
    "shared-memory-base-name",
    "skip-ssl",
    "socket",
    "ssl",
    "tls-ciphersuites",
    "tls-version",
    "user",
];

/// How deep files include others.
const DEEPEST: u32 = 10;

/// Appends the groups of an option file and of those that it includes, as far as they say how the
/// server is reached.
///
/// # Errors
/// When a file cannot be read, or everybody may write to it.
pub(super) fn connection(path: &Path, text: &mut Zeroizing<String>) -> Result<(), DatabaseError> {
    include(path, text, 0)
}

fn include(path: &Path, text: &mut Zeroizing<String>, depth: u32) -> Result<(), DatabaseError> {
    if depth > DEEPEST {
        return Err(wrong(path, "includes option files too deeply"));
    }
    if is_anybodys(path) {
        return Err(wrong(path, "may be written by everybody").hint("chmod o-w the file"));
    }
    let bytes = std::fs::read(path).map(Zeroizing::new);
    let bytes = bytes.map_err(|e| wrong(path, &format!("cannot be read: {e}")))?;
    let lines = std::str::from_utf8(&bytes).map_err(|_| wrong(path, "is no UTF-8 text"))?;
    // Grown once: what is left behind of growing text is not wiped.
    let mut wiped = Zeroizing::new(String::with_capacity(text.len() + 2 * lines.len() + 4096));
    wiped.push_str(text);
    *text = wiped;
    let mut group = "";
    for line in lines.lines().map(str::trim) {
        if let Some(folder) = line.strip_prefix("!includedir") {
            for file in files(Path::new(folder.trim()))? {
                include(&file, text, depth + 1)?;
            }
        } else if let Some(file) = line.strip_prefix("!include") {
            include(Path::new(file.trim()), text, depth + 1)?;
        } else if line.starts_with('[') {
            group = line;
        } else if is_connection(line) {
            if group.is_empty() {
                return Err(wrong(path, "has an option in front of the first [group]"));
            }
            for part in [group, "\n", line, "\n"] {
                text.push_str(part);
            }
        }
    }
    Ok(())
}

/// Whether a line sets something about the connection. Both ways to write a name count.
fn is_connection(line: &str) -> bool {
    let name = line.split('=').next().unwrap_or_default().trim();
    let name = name.replace('_', "-");
    let bare = name.strip_prefix("loose-").unwrap_or(&name);
    CONNECTION.contains(&bare)
        || bare.starts_with("ssl-")
        || bare.starts_with("skip-ssl-")
        || bare.starts_with("disable-ssl")
        || bare.starts_with("authentication-")
}

/// The option files of a folder, in the order of their names.
fn files(folder: &Path) -> Result<Vec<PathBuf>, DatabaseError> {
    let failed = |e: std::io::Error| wrong(folder, &format!("cannot be read: {e}"));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|end| end == "cnf") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(unix)]
fn is_anybodys(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o002 != 0)
}

#[cfg(not(unix))]
fn is_anybodys(_: &Path) -> bool {
    false
}

fn wrong(path: &Path, what: &str) -> DatabaseError {
    let what = format!("the option file {} {what}", path.display());
    DatabaseError::new(Cause::Setting, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_connection_counts() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        file("more.cnf", "[mysqldump]\nreplace\nssl-ca = /x\n");
        std::fs::create_dir(folder.path().join("d")).unwrap();
        file("d/b.cnf", "[client]\nport=2\n");
        file("d/a.cnf", "[client]\nport=1\n");
        file("d/c.txt", "[client]\nport=3\n");
        let path = folder.path().display().to_string();
        let main = file(
            "main.cnf",
            &format!(
                "# x\n[client]\nuser=ana\n; y\npassword = \"a b\" # z\n!include {path}/more.cnf\n\
                 default_auth=x\ninit-command=DROP\nhost_x=y\n!includedir {path}/d\n\
                 [mysqldump]\nwhere=id<2\ndatabases\nskip_ssl\n"
            ),
        );
        let mut text = Zeroizing::new("[x]\n".to_owned());
        connection(&main, &mut text).unwrap();
        let wanted = "[x]\n[client]\nuser=ana\n[client]\npassword = \"a b\" # z\n\
            [mysqldump]\nssl-ca = /x\n[client]\ndefault_auth=x\n[client]\nport=1\n\
            [client]\nport=2\n[mysqldump]\nskip_ssl\n";
        assert_eq!(text.as_str(), wanted);
        let round = file("round.cnf", &format!("!include {path}/round.cnf\n"));
        let error = connection(&round, &mut text).unwrap_err();
        assert!(error.what.ends_with("too deeply"), "{error}");
        connection(&file("no.cnf", "user=x\n"), &mut text).unwrap_err();
    }
}

//! Passwords and key files: reading them, asking for them, making them. Nothing of them is ever
//! printed or put on a command line.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{IsTerminal, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use hucha_store::crypto::KeyFile;
use hucha_store::repository::Credential;
use zeroize::Zeroizing;

use crate::errors::{Code, Failure, no_key};
use crate::settings::Secret;

/// Most bytes of a password or key file that are read.
const MAX_SECRET: u64 = 1 << 20;

/// Whether a password is asked for once, or twice because it is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// It must fit something.
    Once,
    /// It is new: a slip of a finger would lock everybody out.
    Twice,
}

/// The credential that was given, or is typed now.
///
/// # Errors
/// When there is none and nobody to ask, or it cannot be read.
pub fn credential(
    secret: Option<&Secret>,
    asked: Asked,
    prompt: &str,
) -> Result<Credential, Failure> {
    let password = match secret {
        Some(Secret::KeyFile(path)) => return read_key_file(path),
        Some(Secret::Plain(password)) => password.clone(),
        Some(Secret::File(path)) => read_password_file(path)?,
        Some(Secret::Command(command)) => run_password_command(command)?,
        None => ask(asked, prompt)?,
    };
    if password.is_empty() {
        return Err(Failure::new(Code::WrongKey, "the password is empty"));
    }
    Ok(Credential::Password(password))
}

/// A password from the first bytes of a file, without line ends behind it.
///
/// # Errors
/// When the file cannot be read.
pub fn read_password_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let bytes = read_secret(path, "password file")?;
    Ok(stripped(bytes))
}

fn read_secret(path: &Path, what: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(4096));
    let read = File::open(path).and_then(|f| f.take(MAX_SECRET).read_to_end(&mut bytes));
    match read {
        Ok(_) => Ok(bytes),
        Err(error) => Err(Failure::new(
            Code::WrongKey,
            format_args!("{what} {} cannot be read: {error}", path.display()),
        )),
    }
}

fn stripped(mut bytes: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
    while matches!(bytes.last(), Some(b'\n' | b'\r')) {
        bytes.pop();
    }
    bytes
}

fn read_key_file(path: &Path) -> Result<Credential, Failure> {
    let bytes = read_secret(path, "key file")?;
    let text = Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned());
    KeyFile::parse(&text)
        .map(Credential::KeyFile)
        .map_err(|error| {
            Failure::new(
                Code::WrongKey,
                format_args!("key file {}: {error}", path.display()),
            )
        })
}

/// Runs a command through the shell; its first output is the password.
fn run_password_command(command: &OsStr) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let failed = |why: &dyn std::fmt::Display| {
        Failure::new(
            Code::WrongKey,
            format_args!("the password command failed: {why}"),
        )
    };
    let (shell, flag) = if cfg!(windows) {
        ("cmd", "/C")
    } else {
        ("/bin/sh", "-c")
    };
    let mut run = Command::new(shell);
    run.arg(flag)
        .arg(command)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    let output = run.output().map_err(|e| failed(&e))?;
    let password = Zeroizing::new(output.stdout);
    if !output.status.success() {
        return Err(failed(&output.status));
    }
    Ok(stripped(password))
}

/// Asks on the terminal.
fn ask(asked: Asked, prompt: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    if !std::io::stdin().is_terminal() && !std::io::stderr().is_terminal() {
        return Err(no_key());
    }
    let read = |prompt: &str| {
        crate::signals::terminal::remember();
        let typed = rpassword::prompt_password(prompt);
        crate::signals::terminal::forget();
        typed
            .map(|p| Zeroizing::new(p.into_bytes()))
            .map_err(|_| no_key())
    };
    let password = read(&format!("{prompt}: "))?;
    if asked == Asked::Twice
        && !password.is_empty()
        && read(&format!("{prompt} again: "))? != password
    {
        return Err(Failure::failed("the two passwords differ"));
    }
    Ok(password)
}

/// Asks a question on the terminal, and answers what was typed.
///
/// # Errors
/// When nothing can be read.
pub fn ask_line(question: &str) -> Result<String, Failure> {
    let failed = |e: std::io::Error| Failure::failed(format_args!("nobody answers: {e}"));
    let mut stderr = std::io::stderr();
    stderr.write_all(question.as_bytes()).map_err(failed)?;
    stderr.flush().map_err(failed)?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).map_err(failed)?;
    Ok(line)
}

/// Makes a key file, 0600, where there is none.
///
/// # Errors
/// When it exists already or cannot be written.
pub fn make_key_file(path: &Path) -> Result<Credential, Failure> {
    let key = KeyFile::generate();
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let failed = |e: std::io::Error| {
        Failure::failed(format_args!(
            "key file {} cannot be made: {e}",
            path.display()
        ))
    };
    let mut file = options.open(path).map_err(failed)?;
    let written = private(&file)
        .and_then(|()| file.write_all(key.to_text().as_bytes()))
        .and_then(|()| file.sync_all());
    if let Err(error) = written {
        // Only what was made just now.
        let _ = std::fs::remove_file(path);
        return Err(failed(error));
    }
    Ok(Credential::KeyFile(key))
}

#[cfg(unix)]
fn private(file: &File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(0o600))
}

#[cfg(not(unix))]
fn private(_: &File) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(secret: Secret) -> Result<Vec<u8>, Code> {
        match credential(Some(&secret), Asked::Once, "") {
            Ok(Credential::Password(p)) => Ok(p.to_vec()),
            Ok(_) => panic!("no password"),
            Err(failure) => Err(failure.code),
        }
    }

    #[test]
    fn line_ends_are_stripped_and_spaces_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p");
        std::fs::write(&path, " se cret \r\n\n").unwrap();
        assert_eq!(password(Secret::File(path)), Ok(b" se cret ".to_vec()));
        let command = "printf 'a b\\n' | cat";
        assert_eq!(
            password(Secret::Command(command.into())),
            Ok(b"a b".to_vec())
        );
    }

    #[test]
    fn what_gives_no_password() {
        for command in ["exit 3", "true", "no-such-command-here 2>/dev/null"] {
            assert_eq!(
                password(Secret::Command(command.into())),
                Err(Code::WrongKey)
            );
        }
        assert_eq!(
            password(Secret::File("/no/such".into())),
            Err(Code::WrongKey)
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_key_file_is_private_and_never_replaced() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("k");
        make_key_file(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        assert!(make_key_file(&path).is_err());
        let read = credential(Some(&Secret::KeyFile(path)), Asked::Once, "");
        assert!(matches!(read, Ok(Credential::KeyFile(_))));
    }
}

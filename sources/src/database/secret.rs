//! Where passwords of databases come from: never from a command line.

use std::fs;
use std::io::Read;
use std::path::PathBuf;

use zeroize::Zeroizing;

use super::context::Context;
use super::error::{Cause, DatabaseError};
use crate::child::Child;

/// Most bytes of a secret.
const MOST: usize = 64 << 10;

/// A secret that is fetched when it is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretFrom {
    /// The value of a variable of the environment.
    Variable(String),
    /// The contents of a file, without line ends behind them.
    File(PathBuf),
    /// What a command prints, without line ends behind it. It is run by the shell.
    Command(String),
}

impl SecretFrom {
    /// Fetches it.
    ///
    /// # Errors
    /// When it is not there; the message holds nothing of it.
    pub fn fetch(&self, context: &Context) -> Result<Zeroizing<String>, DatabaseError> {
        let denied = |what: String| DatabaseError::new(Cause::Denied, what);
        let bytes = match self {
            SecretFrom::Variable(name) => {
                let value = (context.variables)(name).filter(|value| !value.is_empty());
                let value = value.ok_or_else(|| {
                    denied(format!(
                        "the variable {name}, which holds the password, is not set"
                    ))
                })?;
                Zeroizing::new(value.into_encoded_bytes())
            }
            SecretFrom::File(path) => {
                let mut bytes = Zeroizing::new(Vec::with_capacity(4096));
                let file = fs::File::open(path);
                let read = file.and_then(|f| f.take(MOST as u64).read_to_end(&mut bytes));
                read.map_err(|e| {
                    denied(format!(
                        "the password file {} cannot be read: {e}",
                        path.display()
                    ))
                })?;
                bytes
            }
            SecretFrom::Command(line) => run(line, context)?,
        };
        let text = std::str::from_utf8(&bytes);
        let text = text.map_err(|_| denied("the password is not UTF-8 text".into()))?;
        let text = text.trim_end_matches(['\n', '\r']);
        match text.is_empty() {
            true => Err(denied("the password is empty".into())),
            false => Ok(Zeroizing::new(text.to_owned())),
        }
    }
}

fn run(line: &str, context: &Context) -> Result<Zeroizing<Vec<u8>>, DatabaseError> {
    let (shell, flag) = match cfg!(windows) {
        true => ("cmd", "/C"),
        false => ("/bin/sh", "-c"),
    };
    let mut command = std::process::Command::new(shell);
    command.arg(flag).arg(line);
    let spec = context.spec("the password command", command);
    let printed = Child::start(spec).and_then(|child| child.read_all(MOST));
    Ok(Zeroizing::new(printed?))
}

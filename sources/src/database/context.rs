//! What databases are handed from outside: who may stop them, where they may put temporary files,
//! what the environment says.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::error::{Cause, DatabaseError};
use super::scratch::Scratch;
use crate::child::{ErrorOutput, Spec, Stopper};

/// Looks up a variable of the environment.
pub type Variables = Arc<dyn Fn(&str) -> Option<OsString> + Send + Sync>;

/// What holds for everything that is done with databases in one run.
#[derive(Clone)]
pub struct Context {
    /// Stops all programs and connections.
    pub stopper: Stopper,
    /// The environment.
    pub variables: Variables,
    /// Private folders for temporary files.
    pub scratch: Scratch,
    /// A program or connection that sends nothing for so long hangs.
    pub stall: Duration,
    /// This moment in the user's zone, for names: `20261127_163000`.
    pub stamp: String,
}

impl Context {
    /// The value of a variable, when it is set, not empty and text.
    pub fn variable(&self, name: &str) -> Option<String> {
        let value = (self.variables)(name)?.into_string().ok()?;
        (!value.is_empty()).then_some(value)
    }

    /// Fails once everything is to stop.
    ///
    /// # Errors
    /// [`Cause::Stopped`].
    pub fn go_on(&self) -> Result<(), DatabaseError> {
        match self.stopper.is_stopped() {
            true => Err(DatabaseError::stopped()),
            false => Ok(()),
        }
    }

    /// The same for taking back what was begun, which goes on when all else is to stop.
    #[must_use]
    pub fn calm(&self) -> Context {
        Context {
            stopper: self.stopper.calm(),
            ..self.clone()
        }
    }

    /// Where a program is: in `folders`, or where `PATH` leads.
    pub fn find_program(&self, name: &str, folders: &[PathBuf]) -> Option<PathBuf> {
        let path = (self.variables)("PATH").unwrap_or_default();
        let all = folders.iter().cloned().chain(std::env::split_paths(&path));
        let file = |folder: PathBuf| folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
        all.map(file).find(|path| is_program(path))
    }

    /// How a program is run for a database: messages kept, killed when it hangs.
    pub fn spec(&self, name: &str, command: std::process::Command) -> Spec<'_> {
        Spec {
            name: name.to_owned(),
            command,
            is_fed: false,
            errors: ErrorOutput::Keep,
            stall: Some(self.stall),
            stopper: &self.stopper,
        }
    }
}

#[cfg(unix)]
fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let meta = std::fs::metadata(path);
    meta.is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_program(path: &Path) -> bool {
    path.is_file()
}

/// A program that is needed and not there.
pub(crate) fn no_program(name: &str, package: &str) -> DatabaseError {
    DatabaseError::new(Cause::Tool, format!("the program {name} is not installed"))
        .hint(format!("install it; on Debian: apt-get install {package}"))
}

//! The folder through which backups go: the server writes and reads there under its own account,
//! we under ours. Files have names that tell whose they are; they go on every way out, and what a
//! killed run left the next one removes.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::session::{Patience, Session};
use super::sql;
use super::told::{Failure, os_error};
use crate::database::error::{Cause, DatabaseError};
use crate::database::scratch::private_file;
use crate::owner::{is_leftover, temporary_name};

/// A folder that both sides see.
#[derive(Debug, Clone)]
pub(super) struct Exchange {
    local: PathBuf,
    server: String,
    mode: u32,
}

/// A file in it; goes with this.
#[derive(Debug)]
pub(super) struct Passing {
    /// Where we see it.
    pub local: PathBuf,
    /// Where the server sees it.
    pub server: String,
    mode: u32,
}

impl Exchange {
    /// `local` as we see it, `server` as the server does; `mode` are the permissions of files that
    /// the server is to read.
    pub fn new(local: PathBuf, server: String, mode: u32) -> Exchange {
        Exchange {
            local,
            server,
            mode,
        }
    }

    /// Whether the folder is there; removes what killed runs left in it.
    pub fn check(&self) -> Result<(), DatabaseError> {
        let shown = self.local.display();
        let entries = fs::read_dir(&self.local).map_err(|e| {
            DatabaseError::setting(format!("the folder {shown} cannot be read: {e}")).hint(
                "local_dir must be there, and be the folder that the server sees as server_dir",
            )
        })?;
        for entry in entries.flatten() {
            if is_leftover(entry.file_name().as_encoded_bytes()) {
                // What stays is for the next one.
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(())
    }

    /// A name for a file that is not there yet.
    pub fn passing(&self) -> Passing {
        let name = temporary_name();
        Passing {
            local: self.local.join(&name),
            server: joined(&self.server, &name),
            mode: self.mode,
        }
    }

    /// Makes sure that both sides mean the same folder, and that the server lets this login look
    /// into backups: an empty file is no backup, but the server must find it. What else the server
    /// says of it tells nothing.
    pub fn probe(&self, session: &mut Session<'_>) -> Result<(), DatabaseError> {
        let marker = self.passing();
        marker.make()?;
        marker.show()?;
        let asked = session.run(&sql::label_only(&marker.server), Patience::Short);
        let Err(failure) = asked else { return Ok(()) };
        match &failure {
            Failure::Server {
                code: 3201,
                message,
            } if matches!(os_error(message), Some(2 | 3)) => {
                let what = format!(
                    "what hucha puts into {} the server does not find in {}",
                    self.local.display(),
                    self.server
                );
                Err(DatabaseError::setting(what).hint(
                    "local_dir and server_dir must be the same folder, as each of the two sees it",
                ))
            }
            Failure::Server { code, .. } if *code != 262 => Ok(()),
            _ => Err(session.told(&failure, "look into backups")),
        }
    }
}

/// A file of a folder of the server, on whatever system that runs.
pub(super) fn joined(folder: &str, name: &str) -> String {
    let backslashes = folder.contains('\\') || folder.as_bytes().get(1) == Some(&b':');
    let separator = if backslashes { '\\' } else { '/' };
    let folder = folder.trim_end_matches(['/', '\\']);
    format!("{folder}{separator}{name}")
}

impl Passing {
    /// Makes the file, for us alone.
    pub fn make(&self) -> Result<File, DatabaseError> {
        private_file(&self.local).map_err(|e| self.not_written(&e))
    }

    /// Lets the server read it.
    pub fn show(&self) -> Result<(), DatabaseError> {
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::Permissions::from_mode(self.mode);
            fs::set_permissions(&self.local, mode).map_err(|e| self.not_written(&e))?;
        }
        #[cfg(not(unix))]
        let _ = self.mode;
        Ok(())
    }

    /// Why something could not be written.
    pub fn not_written(&self, error: &io::Error) -> DatabaseError {
        let folder = self.local.parent().unwrap_or(Path::new("")).display();
        let what = format!("hucha cannot write into {folder}: {error}");
        let cause = match error.kind() {
            ErrorKind::PermissionDenied => Cause::Denied,
            _ => Cause::Failed,
        };
        let hint = match error.kind() {
            ErrorKind::StorageFull => "it needs room for the whole database, uncompressed",
            _ => "the user who runs hucha must be able to make and remove files there",
        };
        DatabaseError::new(cause, what).hint(hint)
    }

    /// How long the file is by now.
    pub fn length(&self) -> u64 {
        fs::metadata(&self.local).map_or(0, |meta| meta.len())
    }

    /// Opens what the server wrote.
    pub fn open(&self) -> Result<File, DatabaseError> {
        File::open(&self.local).map_err(|e| match e.kind() {
            ErrorKind::NotFound => {
                let what = format!(
                    "the server wrote {}, and {} is not there",
                    self.server,
                    self.local.display()
                );
                DatabaseError::setting(what).hint(
                    "local_dir and server_dir must be the same folder; remove that file by hand",
                )
            }
            ErrorKind::PermissionDenied => {
                let what = format!("hucha may not read {}: {e}", self.local.display());
                DatabaseError::new(Cause::Denied, what).hint(
                    "what the server writes belongs to its account: put the user who runs hucha \
                     into that account's group (on Linux: usermod -aG mssql USER)",
                )
            }
            _ => {
                let what = format!("{} cannot be read: {e}", self.local.display());
                DatabaseError::new(Cause::Failed, what)
            }
        })
    }

    /// Removes the file; a sentence when that cannot be done.
    pub fn remove(&self) -> Result<(), String> {
        match fs::remove_file(&self.local) {
            Ok(()) => Ok(()),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            Err(e) => Err(format!(
                "{} could not be removed: {e}",
                self.local.display()
            )),
        }
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        // What stays is for the next run.
        let _ = self.remove();
    }
}

//! A command as a member beside databases: what it prints is stored, and another command may look
//! at it meanwhile (`verify`): the member counts as whole only when both end well.

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use hucha_store::source::Profile;

use super::error::{Cause, DatabaseError};
use super::{
    Bytes, Capture, Captured, Context, Database, Preflight, RestoreOptions, Restored, Stored,
    Stream, Verified,
};
use crate::child::{Child, ChildError, Spec};

/// Pieces that wait for the command that looks at them.
const AHEAD: usize = 16;
/// Most bytes of what such a command prints; nobody reads it.
const MOST: usize = 1 << 20;

/// A command.
pub struct Program {
    argv: Vec<OsString>,
    verify: Vec<OsString>,
}

impl Program {
    /// Stores what `argv` prints. `verify` (may be empty) is fed the same bytes.
    ///
    /// # Errors
    /// When there is no command.
    pub fn new(argv: Vec<OsString>, verify: Vec<OsString>) -> Result<Program, DatabaseError> {
        match argv.is_empty() {
            true => Err(DatabaseError::setting("no command given")),
            false => Ok(Program { argv, verify }),
        }
    }
}

/// A command as a process, by the name of its file in messages.
fn spec<'c>(argv: &[OsString], context: &'c Context) -> Result<Spec<'c>, DatabaseError> {
    let none = || DatabaseError::setting("no command given");
    let (program, arguments) = argv.split_first().ok_or_else(none)?;
    let mut command = std::process::Command::new(program);
    command.args(arguments);
    Ok(context.spec(&crate::child::called(program), command))
}

/// Takes away what a user gave by mistake: arguments may hold a secret, a name does not.
fn name(argv: &[OsString]) -> String {
    let program = argv.first().map(Path::new);
    let name = program.and_then(Path::file_name).unwrap_or_default();
    name.to_string_lossy().into_owned()
}

impl Database for Program {
    fn kind(&self) -> &'static str {
        "command"
    }

    fn location(&self) -> String {
        format!("command:{}", name(&self.argv))
    }

    fn default_name(&self) -> String {
        name(&self.argv)
    }

    fn preflight(&self, _: &Context) -> Result<Preflight, DatabaseError> {
        Ok(Preflight {
            tool: name(&self.argv),
            ..Preflight::default()
        })
    }

    fn capture<'a>(&'a self, context: &'a Context) -> Result<Capture<'a>, DatabaseError> {
        let open = move || {
            let child = Child::start(spec(&self.argv, context)?)?;
            let looking = match self.verify.is_empty() {
                true => None,
                false => Some(Looking::start(spec(&self.verify, context)?)?),
            };
            Ok(Box::new(Printing { child, looking }) as Box<dyn Bytes + 'a>)
        };
        Ok(Capture {
            streams: vec![Stream {
                name: String::new(),
                profile: Profile::DUMP,
                open: Box::new(open),
            }],
            at_once: 1,
            end: Box::new(|| {
                Ok(Captured {
                    form: "stream".to_owned(),
                    ..Captured::default()
                })
            }),
        })
    }

    fn restore(
        &self,
        stored: &dyn Stored,
        _: &RestoreOptions,
        _: &Context,
    ) -> Result<Restored, DatabaseError> {
        Err(file_only(&stored.member().name))
    }

    fn swap(&self, restored: Restored, _: &Context) -> Result<Restored, DatabaseError> {
        Err(file_only(&restored.name))
    }

    fn verify(&self, stored: &dyn Stored, context: &Context) -> Result<Verified, DatabaseError> {
        if self.verify.is_empty() {
            return Ok(Verified::default());
        }
        let mut looking = Some(Looking::start(spec(&self.verify, context)?)?);
        stored.read("", &mut |bytes| {
            let mut buffer = vec![0; 1 << 16];
            loop {
                let failed = |e: std::io::Error| {
                    DatabaseError::new(Cause::Incomplete, format!("cannot be read: {e}"))
                };
                let n = bytes.read(&mut buffer).map_err(failed)?;
                let Some(looking) = looking.as_mut().filter(|_| n > 0) else {
                    return Ok(());
                };
                looking.see(buffer.get(..n).unwrap_or_default());
            }
        })?;
        looking.take().map_or(Ok(()), Looking::end)?;
        Ok(Verified {
            checks: vec![name(&self.verify)],
            ..Verified::default()
        })
    }

    fn remove(&self, _: &str, _: &Context) -> Result<(), DatabaseError> {
        Ok(())
    }

    fn query(&self, _: &str, _: &Context) -> Result<Option<String>, DatabaseError> {
        Err(DatabaseError::setting(
            "a command's output answers no queries",
        ))
    }
}

fn file_only(name: &str) -> DatabaseError {
    let what = format!("\"{name}\" is what a command printed, and no database");
    DatabaseError::setting(what).hint("`hucha cat SNAPSHOT:NAME | …` gives it to a program")
}

/// What a command prints.
struct Printing {
    child: Child,
    looking: Option<Looking>,
}

impl Bytes for Printing {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, DatabaseError> {
        let n = self.child.read(buffer)?;
        match (n, &mut self.looking) {
            (0, looking) => looking.take().map_or(Ok(()), Looking::end)?,
            (n, Some(looking)) => looking.see(buffer.get(..n).unwrap_or_default()),
            _ => {}
        }
        Ok(n)
    }
}

/// A command that is fed what another printed.
struct Looking {
    pieces: SyncSender<Vec<u8>>,
    fed: JoinHandle<()>,
    judged: JoinHandle<Result<Vec<u8>, ChildError>>,
}

impl Looking {
    fn start(mut spec: Spec<'_>) -> Result<Looking, DatabaseError> {
        spec.is_fed = true;
        // It may take its time once all was fed: how long the other one prints is not its matter.
        spec.stall = None;
        let mut child = Child::start(spec)?;
        let input = child.input();
        let (pieces, waiting) = sync_channel::<Vec<u8>>(AHEAD);
        let fed = std::thread::spawn(move || {
            let Some(mut input) = input else { return };
            // One that has seen enough may close its input; the rest is taken and dropped.
            let mut open = true;
            for piece in waiting {
                open = open && input.write_all(&piece).is_ok();
            }
        });
        let judged = std::thread::spawn(move || child.read_all(MOST));
        Ok(Looking {
            pieces,
            fed,
            judged,
        })
    }

    fn see(&mut self, bytes: &[u8]) {
        // Nobody takes it: the end tells why.
        let _ = self.pieces.send(bytes.to_vec());
    }

    fn end(self) -> Result<(), DatabaseError> {
        drop(self.pieces);
        let panicked = || DatabaseError::new(Cause::Failed, "the verify command was lost");
        self.fed.join().map_err(|_| panicked())?;
        match self.judged.join().map_err(|_| panicked())? {
            Ok(_) => Ok(()),
            Err(ChildError::Stopped { .. }) => Err(DatabaseError::stopped()),
            Err(error) => {
                let what = format!("the verify command refused it: {}", error.with_words());
                Err(DatabaseError::new(Cause::Incomplete, what))
            }
        }
    }
}

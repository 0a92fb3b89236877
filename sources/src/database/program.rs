//! A command as a member beside databases: what it prints is stored, and another command may look
//! at it meanwhile (`verify`): the member counts as whole only when both end well.

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::sync::mpsc::{
    Receiver, RecvTimeoutError, SyncSender, TrySendError, channel, sync_channel,
};
use std::time::{Duration, Instant};

use hucha_store::source::Profile;

use super::error::{Cause, DatabaseError};
use super::{
    Bytes, Capture, Captured, Context, Database, Preflight, RestoreOptions, Restored, Stored,
    Stream, Verified,
};
use crate::child::{Child, ChildError, Killer, Spec};

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

/// Pause before it is looked again whether such a command takes something.
const PAUSE: Duration = Duration::from_millis(1);
/// Longest wait for one that was killed.
const KILLED: Duration = Duration::from_secs(1);

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
    judged: Receiver<Result<Vec<u8>, ChildError>>,
    killer: Killer,
    /// How long it may take nothing, and how long it may go on when all was fed.
    stall: Duration,
    is_stuck: bool,
}

impl Looking {
    fn start(mut spec: Spec<'_>) -> Result<Looking, DatabaseError> {
        spec.is_fed = true;
        // It need not print anything while it is fed: how long that takes is not its matter.
        let stall = spec.stall.take().unwrap_or(Duration::MAX);
        let mut child = Child::start(spec)?;
        let (input, killer) = (child.input(), child.killer());
        let (pieces, waiting) = sync_channel::<Vec<u8>>(AHEAD);
        std::thread::spawn(move || {
            let Some(mut input) = input else { return };
            // One that has seen enough may close its input; the rest is taken and dropped.
            let mut open = true;
            for piece in waiting {
                open = open && input.write_all(&piece).is_ok();
            }
        });
        let (judge, judged) = channel();
        std::thread::spawn(move || {
            // Nobody waits for it any more: it was given up.
            let _ = judge.send(child.read_all(MOST));
        });
        Ok(Looking {
            pieces,
            judged,
            killer,
            stall,
            is_stuck: false,
        })
    }

    fn see(&mut self, bytes: &[u8]) {
        let (since, mut piece) = (Instant::now(), bytes.to_vec());
        while !self.is_stuck {
            match self.pieces.try_send(piece) {
                // Nobody takes it: the end tells why.
                Ok(()) | Err(TrySendError::Disconnected(_)) => return,
                Err(TrySendError::Full(back)) => piece = back,
            }
            self.is_stuck = since.elapsed() >= self.stall;
            std::thread::sleep(PAUSE);
        }
        self.killer.kill();
    }

    fn end(self) -> Result<(), DatabaseError> {
        drop(self.pieces);
        let seconds = self.stall.as_secs();
        if self.is_stuck {
            let how = format!("took nothing of what it was fed for {seconds} s and was killed");
            return Err(hangs(&how));
        }
        let judged = self.judged.recv_timeout(self.stall).map_err(|e| match e {
            RecvTimeoutError::Timeout => {
                self.killer.kill();
                // What it says now is our doing.
                let _ = self.judged.recv_timeout(KILLED);
                let how = format!("did not end within {seconds} s of its input and was killed");
                hangs(&how)
            }
            RecvTimeoutError::Disconnected => hangs("was lost"),
        });
        match judged? {
            Ok(_) => Ok(()),
            Err(ChildError::Stopped { .. }) => Err(DatabaseError::stopped()),
            Err(error) => {
                let what = format!("the verify command refused it: {}", error.with_words());
                Err(DatabaseError::new(Cause::Incomplete, what))
            }
        }
    }
}

/// Such a command does not come to an end.
fn hangs(how: &str) -> DatabaseError {
    let what = format!("the verify command {how}");
    DatabaseError::new(Cause::Incomplete, what)
        .hint("does it end with its input? --stall-timeout says how long it may take")
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::testing::{context, take};

    fn shell(script: &str) -> Vec<OsString> {
        ["sh", "-c", script].map(OsString::from).to_vec()
    }

    /// Takes a snapshot of a command that is looked at by another; answers what went wrong.
    fn taken(script: &str, verify: &str) -> Result<(), DatabaseError> {
        let keep = tempfile::tempdir().unwrap();
        let mut context = context(keep.path());
        context.stall = Duration::from_secs(1);
        let verify = match verify {
            "" => Vec::new(),
            verify => shell(verify),
        };
        let begun = Instant::now();
        let done = take(&Program::new(shell(script), verify).unwrap(), &context);
        assert!(begun.elapsed() < Duration::from_secs(30), "{script}");
        done.map(|_| ())
    }

    #[test]
    fn a_command_that_does_not_end_is_given_up() {
        let error = taken("echo hi; exec >&-; sleep 300", "").unwrap_err();
        assert!(error.what.contains("closed its output"), "{error}");
        assert!(error.what.contains("within 1 s"), "{error}");
        taken("echo hi; exec >&-; sleep 0.3", "").unwrap();
    }

    #[test]
    fn a_verify_command_that_does_not_end_is_given_up() {
        for (script, verify, told) in [
            (
                "echo hi",
                "cat >/dev/null; sleep 300",
                "did not end within 1 s",
            ),
            ("echo hi", "exec >&-; sleep 300", "did not end within 1 s"),
            ("head -c 9000000 /dev/zero", "sleep 300", "took nothing"),
        ] {
            let error = taken(script, verify).unwrap_err();
            assert!(error.what.contains(told), "{verify}: {error}");
            assert_eq!(error.cause, Cause::Incomplete);
        }
        taken("head -c 9000000 /dev/zero", "cat >/dev/null").unwrap();
        taken("head -c 9000000 /dev/zero", "exec <&-").unwrap();
        let error = taken("echo hi", "cat; exit 3").unwrap_err();
        assert!(error.what.contains("refused it"), "{error}");
    }
}

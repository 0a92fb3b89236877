//! A command as a source: one file under a given name, with what the command prints. A command
//! that fails, dies of a signal or is stopped leaves no snapshot: its last read is fatal. No shell
//! is involved; the command reads nothing from our standard input.
//!
//! On Unix the command leads a process group of its own, and the whole group is killed when the
//! reading ends early or a [`Stopper`] says so. A signal that ends *this* process without
//! unwinding reaches it only through whoever catches that signal and calls [`Stopper::stop`].

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, ChildStdout, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hucha_store::clock::Timestamp;
use hucha_store::source::{ContentError, Contents, Piece, Profile, Sink, Source, SourceError};

use crate::stream::{StreamError, StreamFile, read_some};

/// Lines of the command's standard error that are kept for the message.
const KEPT_LINES: usize = 25;

/// Bytes kept of one such line.
const KEPT_LINE: usize = 1000;

/// Longest wait for the rest of standard error after the command has failed and its group was
/// killed: a process that left the group may hold it open.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What happens to the command's standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ErrorOutput {
    /// It goes where ours goes.
    #[default]
    Inherit,
    /// Its last 25 lines stand in the message when the command fails; else it is dropped.
    Keep,
}

/// One file whose bytes a command prints.
pub struct Command {
    file: StreamFile,
    argv: Vec<OsString>,
    errors: ErrorOutput,
    stopper: Stopper,
}

/// Why a command cannot be a source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// There is no command.
    #[error("no command given")]
    Empty,
    /// The name cannot stand in a snapshot.
    #[error(transparent)]
    Name(#[from] StreamError),
}

impl Command {
    /// A file `name` (see [`crate::stream::Stream::new`]) with what `argv` prints. The command
    /// starts when the sink opens the contents.
    ///
    /// # Errors
    /// When there is no command or no usable name.
    pub fn new(
        name: &OsStr,
        argv: &[OsString],
        time: Timestamp,
        errors: ErrorOutput,
    ) -> Result<Command, CommandError> {
        if argv.is_empty() {
            return Err(CommandError::Empty);
        }
        let file = StreamFile::new(name, time)?;
        Ok(Command {
            file,
            argv: argv.to_vec(),
            errors,
            stopper: Stopper::default(),
        })
    }

    /// A handle that kills the command from elsewhere.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }
}

impl Source for Command {
    fn paths(&self) -> Vec<Vec<u8>> {
        vec![self.file.name.clone()]
    }

    fn profile(&self) -> Profile {
        Profile::DUMP
    }

    fn push(&mut self, sink: &mut dyn Sink) -> Result<(), SourceError> {
        // Kept here too, so that a sink that forgets the error commits nothing either.
        let outcome = Arc::new(Mutex::new(None));
        let result = self.file.push(sink, &mut || {
            *lock(&outcome) = Some(Err("the command's output was not read to its end".into()));
            let running = Running::start(&self.argv, self.errors, &self.stopper, &outcome);
            running
                .map(|running| Box::new(running) as Box<dyn Contents>)
                .map_err(|message| {
                    *lock(&outcome) = Some(Err(message.clone()));
                    ContentError::Fatal(message)
                })
        });
        result?;
        match lock(&outcome).take() {
            Some(Err(message)) => Err(SourceError::Failed(message)),
            Some(Ok(())) | None => Ok(()),
        }
    }

    fn is_repeatable(&self) -> bool {
        false
    }
}

/// `None` while the command was never started.
type Outcome = Arc<Mutex<Option<Result<(), String>>>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Kills a command and everything in its process group; the reader then fails.
#[derive(Debug, Clone, Default)]
pub struct Stopper {
    state: Arc<Mutex<StopState>>,
}

#[derive(Debug, Default)]
struct StopState {
    stopped: bool,
    /// The child as long as its id cannot belong to another process.
    child: Option<u32>,
}

impl Stopper {
    /// Kills the command if it runs; if not, it will not start.
    pub fn stop(&self) {
        let mut state = lock(&self.state);
        state.stopped = true;
        kill_group(&state);
    }

    fn is_stopped(&self) -> bool {
        lock(&self.state).stopped
    }
}

#[cfg(unix)]
fn kill_group(state: &StopState) {
    use rustix::process::{Pid, Signal, kill_process_group};
    let pid = state
        .child
        .and_then(|pid| i32::try_from(pid).ok())
        .and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // It fails only when nothing is left to be killed.
        let _ = kill_process_group(pid, Signal::KILL);
    }
}

#[cfg(not(unix))]
fn kill_group(_: &StopState) {}

struct Running {
    name: String,
    child: Child,
    output: ChildStdout,
    last_words: Option<LastWords>,
    stopper: Stopper,
    outcome: Outcome,
    reaped: bool,
}

impl Running {
    fn start(
        argv: &[OsString],
        errors: ErrorOutput,
        stopper: &Stopper,
        outcome: &Outcome,
    ) -> Result<Running, String> {
        let (program, arguments) = argv.split_first().ok_or("no command given")?;
        let name = program.to_string_lossy().into_owned();
        let mut command = std::process::Command::new(program);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        command.stderr(match errors {
            ErrorOutput::Inherit => Stdio::inherit(),
            ErrorOutput::Keep => Stdio::piped(),
        });
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);

        // Held while it starts: a stop comes before or after, not in between.
        let mut state = lock(&stopper.state);
        if state.stopped {
            return Err(format!("command {name:?} was stopped"));
        }
        let spawned = command.spawn();
        let mut child = spawned.map_err(|e| format!("command {name:?} cannot be started: {e}"))?;
        state.child = Some(child.id());
        drop(state);

        let output = child.stdout.take();
        let last_words = child.stderr.take().map(LastWords::listen);
        let (stopper, outcome) = (stopper.clone(), Arc::clone(outcome));
        match output {
            Some(output) => Ok(Running {
                name,
                child,
                output,
                last_words,
                stopper,
                outcome,
                reaped: false,
            }),
            None => Err(format!("command {name:?} has no output")),
        }
    }

    /// Waits, then tells whether the command succeeded.
    fn end(&mut self) -> Result<(), String> {
        let status = self.reap(false);
        let stopped = self.stopper.is_stopped();
        let how = match status {
            Ok(status) if status.success() && !stopped => return Ok(()),
            Ok(_) if stopped => "was stopped".into(),
            Ok(status) => describe(status),
            Err(error) => format!("cannot be waited for: {error}"),
        };
        let words = self
            .last_words
            .take()
            .map(LastWords::hear)
            .unwrap_or_default();
        let mut message = format!("command {:?} {how}", self.name);
        for line in words {
            message.push_str("\n  ");
            message.push_str(&line);
        }
        Err(message)
    }

    /// Waits for the child, after killing it when `kill`. A failed command takes its group along.
    fn reap(&mut self, kill: bool) -> std::io::Result<ExitStatus> {
        if kill {
            kill_group(&lock(&self.stopper.state));
            #[cfg(not(unix))]
            self.child.kill()?;
        }
        let failed = await_end(&self.child);
        let mut state = lock(&self.stopper.state);
        if failed {
            kill_group(&state);
        }
        state.child = None;
        self.reaped = true;
        self.child.wait()
    }
}

/// Waits until the child has ended, leaving it to be reaped so that its id stays its own; tells
/// whether it failed.
#[cfg(unix)]
fn await_end(child: &Child) -> bool {
    use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
    let pid = Pid::from_child(child);
    loop {
        match waitid(
            WaitId::Pid(pid),
            WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
        ) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(Some(status)) => return status.exit_status() != Some(0),
            Ok(None) | Err(_) => return true,
        }
    }
}

#[cfg(not(unix))]
fn await_end(_: &Child) -> bool {
    false
}

fn describe(status: ExitStatus) -> String {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return format!("was killed by signal {signal}");
    }
    match status.code() {
        Some(code) => format!("exited with code {code}"),
        None => format!("ended with {status}"),
    }
}

impl Contents for Running {
    fn next(&mut self, buffer: &mut [u8]) -> Result<Piece, ContentError> {
        let read = match read_some(&mut self.output, buffer) {
            Ok(0) => self.end().map(|()| Piece::End),
            Ok(n) => return Ok(Piece::Data(n)),
            Err(error) => Err(format!("reading from command {:?}: {error}", self.name)),
        };
        *lock(&self.outcome) = Some(read.as_ref().map(|_| ()).map_err(String::clone));
        read.map_err(ContentError::Fatal)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.reaped {
            // Nobody is left to be told.
            let _ = self.reap(true);
        }
    }
}

/// The last lines of standard error, gathered by a thread so that the command never blocks.
struct LastWords {
    lines: Arc<Mutex<VecDeque<String>>>,
    ended: Receiver<()>,
}

impl LastWords {
    fn listen(errors: ChildStderr) -> LastWords {
        let lines = Arc::new(Mutex::new(VecDeque::new()));
        let (sender, ended) = channel();
        let kept = Arc::clone(&lines);
        std::thread::spawn(move || {
            gather(BufReader::new(errors), &kept);
            // The receiver may be gone already.
            let _ = sender.send(());
        });
        LastWords { lines, ended }
    }

    fn hear(self) -> Vec<String> {
        // Whether all of it came or the time is up: what is there is told.
        let _ = self.ended.recv_timeout(LAST_WORDS);
        lock(&self.lines).drain(..).collect()
    }
}

fn gather(mut errors: impl BufRead, kept: &Mutex<VecDeque<String>>) {
    let mut line = Vec::new();
    loop {
        line.clear();
        let room = u64::try_from(KEPT_LINE).unwrap_or(u64::MAX);
        match errors.by_ref().take(room).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let mut lines = lock(kept);
        if lines.len() == KEPT_LINES {
            lines.pop_front();
        }
        lines.push_back(String::from_utf8_lossy(&line).trim_end().to_owned());
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests;

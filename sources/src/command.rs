//! A command as a source: one file under a given name, with what the command prints. A command
//! that fails, dies of a signal or is stopped leaves no snapshot: its last read is fatal. No shell
//! is involved; the command reads nothing from our standard input. [`crate::child`] says what
//! becomes of it when the reading ends early.

use std::ffi::{OsStr, OsString};
use std::sync::{Arc, Mutex};

use hucha_store::clock::Timestamp;
use hucha_store::source::{ContentError, Contents, Piece, Profile, Sink, Source, SourceError};

use crate::child::{Child, Spec, called, lock};
use crate::stream::{StreamError, StreamFile};

pub use crate::child::{ErrorOutput, Stopper};

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

struct Running {
    child: Child,
    outcome: Outcome,
}

impl Running {
    fn start(
        argv: &[OsString],
        errors: ErrorOutput,
        stopper: &Stopper,
        outcome: &Outcome,
    ) -> Result<Running, String> {
        let (program, arguments) = argv.split_first().ok_or("no command given")?;
        let mut command = std::process::Command::new(program);
        command.args(arguments);
        let child = Child::start(Spec {
            name: called(program),
            command,
            is_fed: false,
            errors,
            stall: None,
            stopper,
        });
        Ok(Running {
            child: child.map_err(|e| e.with_words())?,
            outcome: Arc::clone(outcome),
        })
    }
}

impl Contents for Running {
    fn next(&mut self, buffer: &mut [u8]) -> Result<Piece, ContentError> {
        let read = match self.child.read(buffer) {
            Ok(0) => Ok(Piece::End),
            Ok(n) => return Ok(Piece::Data(n)),
            Err(error) => Err(error.with_words()),
        };
        *lock(&self.outcome) = Some(read.as_ref().map(|_| ()).map_err(String::clone));
        read.map_err(ContentError::Fatal)
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests;

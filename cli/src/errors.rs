//! Every error as message, hint and exit code. The codes stand here once, and in
//! docs/exit-codes.md for people.

use std::error::Error;
use std::fmt::Display;

use hucha_sources::command::CommandError;
use hucha_sources::database::{Cause, DatabaseError};
use hucha_sources::pattern::PatternError;
use hucha_sources::stream::StreamError;
use hucha_sources::tree::TreeError;
use hucha_store::backend::{BackendError, Operation, Trouble};
use hucha_store::browse::BrowseError;
use hucha_store::error::AccessError;
use hucha_store::forget::{ForgetError, UndeleteError};
use hucha_store::gc::GcError;
use hucha_store::repository::{OpenError, SlotError};
use hucha_store::restore::RestoreError;
use hucha_store::snapshot::SnapshotError;
use hucha_store::snapshot::rewrite::RewriteError;
use hucha_store::snapshots::SelectError;

use crate::render::text;

/// How a run of the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// Everything was done.
    Done = 0,
    /// It failed.
    Failed = 1,
    /// The command line cannot be understood.
    Usage = 2,
    /// Done, but not everything.
    Incomplete = 3,
    /// There is no repository.
    NoRepository = 10,
    /// Wrong password or key, or none.
    WrongKey = 11,
    /// Something in the repository is damaged.
    Damaged = 12,
    /// The server, or the file system, refused.
    Refused = 13,
    /// Ctrl-C or SIGTERM.
    Interrupted = 130,
}

/// Why a command did not do all that was asked.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub code: Code,
    /// What happened; the causes follow after colons.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The reader of our output has gone: nothing to be said.
    pub quiet: bool,
}

/// What commands answer: the exit code of a run that came to its end.
pub type Outcome = Result<Code, Failure>;

impl Failure {
    /// A failure with a message of its own.
    pub fn new(code: Code, message: impl Display) -> Failure {
        Failure {
            code,
            message: message.to_string(),
            hint: None,
            quiet: false,
        }
    }

    /// A command line that cannot be carried out.
    pub fn usage(message: impl Display) -> Failure {
        Failure::new(Code::Usage, message)
    }

    /// A failure of code 1.
    pub fn failed(message: impl Display) -> Failure {
        Failure::new(Code::Failed, message)
    }

    /// With a hint.
    #[must_use]
    pub fn hint(self, hint: impl Display) -> Failure {
        Failure {
            hint: Some(hint.to_string()),
            ..self
        }
    }

    /// A failure after which nothing is said.
    pub fn silent(code: Code) -> Failure {
        Failure {
            quiet: true,
            ..Failure::new(code, "")
        }
    }

    /// An error with its causes.
    fn of(code: Code, error: &dyn Error) -> Failure {
        Failure::new(code, chain(error))
    }
}

/// An error's message and those of its causes, without repetitions.
fn chain(error: &dyn Error) -> String {
    let mut text = text::lines(&error.to_string());
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = text::lines(&error.to_string());
        if !text.to_lowercase().ends_with(&message.to_lowercase()) {
            text.push_str(": ");
            text.push_str(&message);
        }
        cause = error.source();
    }
    text
}

/// What writing to stdout met: a reader that has gone away is no failure.
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Failure::silent(Code::Done);
        }
        Failure::failed(format_args!("cannot write the output: {error}"))
    }
}

impl From<BackendError> for Failure {
    fn from(error: BackendError) -> Failure {
        let (code, hint) = backend(&error);
        let failure = match error.trouble {
            Trouble::Full => Failure::new(
                code,
                format_args!("the disk of the repository is full: {}", chain(&error)),
            ),
            _ => Failure::of(code, &error),
        };
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

fn backend(error: &BackendError) -> (Code, Option<&'static str>) {
    let kind = error.source.as_ref().map(std::io::Error::kind);
    let reads = matches!(error.operation, Operation::Get | Operation::List);
    match error.trouble {
        Trouble::Refused if kind == Some(std::io::ErrorKind::ReadOnlyFilesystem) => (
            Code::Refused,
            Some("the file system of the repository is mounted for reading only"),
        ),
        Trouble::Refused if reads => (
            Code::Refused,
            Some("this user may not read there: check owner and mode of the repository"),
        ),
        Trouble::Refused => (
            Code::Refused,
            Some("this user may not write there: check owner and mode of the repository"),
        ),
        Trouble::Full => (
            Code::Failed,
            Some(
                "nothing that was stored is lost; `hucha forget` what you can do without, then \
                 `hucha gc`: both work on a full disk. Or remove other files",
            ),
        ),
        _ => (Code::Failed, None),
    }
}

impl From<AccessError> for Failure {
    fn from(error: AccessError) -> Failure {
        match error {
            AccessError::Backend(error) => error.into(),
            error if error.is_damage() => {
                Failure::of(Code::Damaged, &error).hint("`hucha check` tells what else is affected")
            }
            AccessError::StorageFails { .. } => Failure::of(Code::Failed, &error).hint(
                "no pack was given up for that. Copy what can be read to another disk, with \
                 `ddrescue`, and work there",
            ),
            AccessError::Spool(_) => Failure::of(Code::Failed, &error)
                .hint("is the disk of the cache folder full? See --cache-dir"),
            error => Failure::of(Code::Failed, &error),
        }
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Failure {
        match error {
            OpenError::NoRepository(_) => Failure::of(Code::NoRepository, &error)
                .hint("`hucha init` makes one, or `hucha snapshot --init`"),
            OpenError::AlreadyExists(_) => {
                Failure::of(Code::Failed, &error).hint("it can be used as it is")
            }
            OpenError::WrongKey => Failure::of(Code::WrongKey, &error),
            OpenError::NoKey => no_key(),
            OpenError::Version(_) => {
                Failure::of(Code::Failed, &error).hint("use a newer version of hucha")
            }
            OpenError::Access(error) => error.into(),
            error => Failure::of(Code::Failed, &error),
        }
    }
}

/// No password was given, and nobody can be asked.
pub fn no_key() -> Failure {
    Failure::of(Code::WrongKey, &OpenError::NoKey)
        .hint("use --password-file, --password-command, --key-file, or the variable HUCHA_PASSWORD")
}

impl From<SlotError> for Failure {
    fn from(error: SlotError) -> Failure {
        match error {
            SlotError::Open(error) => error.into(),
            SlotError::Last => {
                Failure::of(Code::Failed, &error).hint("add another one first: `hucha key add`")
            }
            SlotError::Unknown(_) | SlotError::Ambiguous(_) => {
                Failure::of(Code::Failed, &error).hint("`hucha key list` shows them")
            }
            error => Failure::of(Code::Failed, &error),
        }
    }
}

impl From<SnapshotError> for Failure {
    fn from(error: SnapshotError) -> Failure {
        match error {
            SnapshotError::Access(error) => error.into(),
            SnapshotError::Advised { ref hint, .. } => Failure::of(Code::Failed, &error).hint(hint),
            error => Failure::of(Code::Failed, &error),
        }
    }
}

impl From<DatabaseError> for Failure {
    fn from(error: DatabaseError) -> Failure {
        let code = match error.cause {
            Cause::Setting => Code::Usage,
            Cause::Damaged => Code::Damaged,
            Cause::Stopped => Code::Interrupted,
            _ => Code::Failed,
        };
        let failure = Failure::new(code, text::lines(&error.what));
        match error.hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

impl From<SelectError> for Failure {
    fn from(error: SelectError) -> Failure {
        Failure::of(Code::Failed, &error).hint("`hucha snapshots` shows them")
    }
}

impl From<BrowseError> for Failure {
    fn from(error: BrowseError) -> Failure {
        match error {
            BrowseError::Access(error) => error.into(),
            BrowseError::Output(error) => error.into(),
            BrowseError::NotFound(_) => {
                Failure::of(Code::Failed, &error).hint("`hucha ls SNAPSHOT` shows what is there")
            }
            error => Failure::of(Code::Failed, &error),
        }
    }
}

impl From<ForgetError> for Failure {
    fn from(error: ForgetError) -> Failure {
        match error {
            ForgetError::Access(error) => error.into(),
            ForgetError::Protected(id) => Failure::of(Code::Failed, &error)
                .hint(format_args!("`hucha unprotect {id:.8}` first")),
            ForgetError::Unknown(_) => Failure::of(Code::Damaged, &error)
                .hint("`hucha repair` puts it back or says what is lost"),
            error => Failure::of(Code::Failed, &error),
        }
    }
}

impl From<UndeleteError> for Failure {
    fn from(error: UndeleteError) -> Failure {
        match error {
            UndeleteError::Access(error) => error.into(),
            error => Failure::of(Code::Failed, &error),
        }
    }
}

impl From<RewriteError> for Failure {
    fn from(error: RewriteError) -> Failure {
        match error {
            RewriteError::Access(error) => error.into(),
            error => Failure::of(Code::Damaged, &error)
                .hint("`hucha check` tells what else is affected; leave out what is lost"),
        }
    }
}

impl From<RestoreError> for Failure {
    fn from(error: RestoreError) -> Failure {
        match error {
            RestoreError::Access(error) => error.into(),
            error => Failure::of(Code::Failed, &error),
        }
    }
}

impl From<GcError> for Failure {
    fn from(error: GcError) -> Failure {
        match error {
            GcError::Access(error) => error.into(),
            GcError::TooMuch { would_free, total } => Failure::failed(format_args!(
                "gc would free {} of {}, more than half of the repository",
                text::size(would_free),
                text::size(total),
            ))
            .hint("if that is right (many snapshots were forgotten), use --force"),
            GcError::Damaged { .. }
            | GcError::UnreadableSnapshot(..)
            | GcError::MissingSnapshot(_) => Failure::of(Code::Damaged, &error)
                .hint("`hucha check` tells what is affected, `hucha repair` repairs it"),
            error => Failure::of(Code::Failed, &error),
        }
    }
}

impl From<TreeError> for Failure {
    fn from(error: TreeError) -> Failure {
        let code = match &error {
            TreeError::NothingTyped | TreeError::NoFileName(_) => Code::Usage,
            _ => Code::Failed,
        };
        Failure::of(code, &error)
    }
}

impl From<PatternError> for Failure {
    fn from(error: PatternError) -> Failure {
        Failure::of(Code::Usage, &error)
    }
}

impl From<StreamError> for Failure {
    fn from(error: StreamError) -> Failure {
        Failure::of(Code::Usage, &error)
    }
}

impl From<CommandError> for Failure {
    fn from(error: CommandError) -> Failure {
        Failure::of(Code::Usage, &error)
    }
}

impl From<hucha_store::target::TargetError> for Failure {
    fn from(error: hucha_store::target::TargetError) -> Failure {
        Failure::of(Code::Failed, &error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_exit_codes_is_complete() {
        let page = include_str!("../../docs/exit-codes.md");
        for code in [0u8, 1, 2, 3, 10, 11, 12, 13, 130] {
            assert!(
                page.contains(&format!("| {code} |")),
                "{code} is not described"
            );
        }
    }

    #[test]
    fn causes_follow_once() {
        let io = std::io::Error::from_raw_os_error(13);
        let failure = Failure::from(BackendError {
            operation: hucha_store::backend::Operation::Put,
            key: "keys/1".into(),
            trouble: Trouble::Refused,
            retry: false,
            source: Some(io),
        });
        assert_eq!(failure.code, Code::Refused);
        let message = "writing keys/1 failed: permission denied";
        assert_eq!(failure.message, message);
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        let failure = Failure::from(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
        assert!(failure.quiet && failure.code == Code::Done);
    }
}

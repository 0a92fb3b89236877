//! What goes wrong with a database: what happened to what, and what to do next.

use crate::child::ChildError;

/// Why something about a database was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct DatabaseError {
    /// Of what kind it is.
    pub cause: Cause,
    /// What happened, to what: a sentence without its full stop. Never holds a secret.
    pub what: String,
    /// What to do next.
    pub hint: Option<String>,
}

/// Of what kind it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// What was asked for cannot be understood: an address, an option.
    Setting,
    /// The database, or something in it, is not there.
    Absent,
    /// It cannot be reached, or the connection broke.
    Unreachable,
    /// It refused: password, privilege, policy.
    Denied,
    /// Somebody else holds a lock, or waits for one.
    Locked,
    /// A program that is needed is not there, or failed.
    Tool,
    /// It is not whole, or not proven to be: nothing may be published.
    Incomplete,
    /// What is stored is damaged.
    Damaged,
    /// Something stands where a restore would write.
    Exists,
    /// What was restored is not what was stored.
    Differs,
    /// It was stopped, because that was asked for or because something else failed.
    Stopped,
    /// Anything else.
    Failed,
}

impl DatabaseError {
    /// Of a kind, with what happened.
    pub fn new(cause: Cause, what: impl Into<String>) -> DatabaseError {
        DatabaseError {
            cause,
            what: what.into(),
            hint: None,
        }
    }

    /// What was asked for cannot be understood.
    pub fn setting(what: impl Into<String>) -> DatabaseError {
        DatabaseError::new(Cause::Setting, what)
    }

    /// It was stopped.
    pub fn stopped() -> DatabaseError {
        DatabaseError::new(Cause::Stopped, "stopped")
    }

    /// With what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> DatabaseError {
        self.hint = Some(hint.into());
        self
    }

    /// With the name of the database in front.
    #[must_use]
    pub fn of(mut self, name: &str) -> DatabaseError {
        self.what = format!("{name}: {}", self.what);
        self
    }

    /// In one text, for places that have no other: a line, and the hint in a line below.
    pub fn in_one(&self) -> String {
        match &self.hint {
            Some(hint) => format!("{}\n  {hint}", self.what),
            None => self.what.clone(),
        }
    }
}

impl From<ChildError> for DatabaseError {
    fn from(error: ChildError) -> DatabaseError {
        let cause = match &error {
            ChildError::Stopped { .. } => Cause::Stopped,
            ChildError::Start { .. } | ChildError::Failed { .. } => Cause::Tool,
        };
        DatabaseError::new(cause, error.with_words())
    }
}

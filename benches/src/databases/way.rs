//! The ways in which one database is stored: three forms of hucha, and what others do.

use std::ffi::OsString;

use crate::compare::measure::Call;
use crate::compare::tools::Tool;

/// A way to store a PostgreSQL database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// hucha's default form: a stream for each table.
    Tables,
    /// hucha with what `pg_dump` prints as a script.
    Plain,
    /// hucha with `pg_dump`'s archive.
    Custom,
    /// restic with what `pg_dump` prints as a script.
    Restic,
}

/// Those of hucha.
pub const FORMS: [Way; 3] = [Way::Tables, Way::Plain, Way::Custom];

/// A pipe of which every part must succeed.
const BACKUP: &str = r#"pg_dump -d "$1" | "${@:2}""#;
const RESTORE: &str = r#""${@:2}" | psql -Xq -v ON_ERROR_STOP=1 -d "$1" >/dev/null"#;
/// How the dump is called in restic.
const FILE: &str = "shop.sql";

impl Way {
    /// What stands in tables.
    pub fn title(self) -> &'static str {
        match self {
            Way::Tables => "hucha, default form",
            Way::Plain => "hucha, `format=plain`",
            Way::Custom => "hucha, `format=custom`",
            Way::Restic => "restic, `pg_dump` in a pipe",
        }
    }

    /// A name for folders, databases and hosts.
    pub fn name(self) -> &'static str {
        match self {
            Way::Tables => "tables",
            Way::Plain => "plain",
            Way::Custom => "custom",
            Way::Restic => "restic",
        }
    }

    /// Stores the database at an address as it is now. The host is that of the way: so each finds
    /// its own last night in a repository that several use.
    pub fn snapshot(self, tool: &Tool, address: &str) -> Vec<Call> {
        let of_format = match self {
            Way::Tables => String::new(),
            Way::Plain | Way::Custom => format!("&format={}", self.name()),
            Way::Restic => {
                let words = ["backup", "--stdin", "--stdin-filename", FILE];
                return vec![pipe(BACKUP, address, tool.call(words))];
            }
        };
        let source = format!("{address}{of_format}");
        vec![tool.call(["snapshot", "--host", self.name(), "--source", &source])]
    }

    /// Makes a database of the last night; an empty one is there for restic only.
    pub fn restore(self, tool: &Tool, member: &str, address: &str) -> Vec<Call> {
        if self == Way::Restic {
            let words = ["dump", "latest", FILE];
            return vec![pipe(RESTORE, address, tool.call(words))];
        }
        let member = format!("latest:{member}");
        vec![tool.call(["restore", "--host", self.name(), &member, "--to", address])]
    }
}

/// A script of bash that gets an address and another call as its arguments.
fn pipe(script: &str, address: &str, inner: Call) -> Call {
    let script = format!("set -o pipefail; {script}");
    let begin = ["bash", "-c", &script, "bash", address].map(OsString::from);
    Call {
        argv: begin.into_iter().chain(inner.argv).collect(),
        folder: inner.folder,
    }
}

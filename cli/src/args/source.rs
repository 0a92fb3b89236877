//! Options of `snapshot` about databases.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

/// Which databases are members of the snapshot.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Databases")]
pub struct SourceArgs {
    /// A database (`sqlite:///srv/app.db`, `postgres://ana@host/shop`) or a path (`file:///etc`);
    /// several times
    #[arg(long, value_name = "ADDRESS")]
    pub source: Vec<OsString>,
    /// Take the sources in FILE too, as `[[source]]` tables in TOML; several times
    #[arg(long, value_name = "FILE")]
    pub source_file: Vec<PathBuf>,
    /// A database, or a command, that sends nothing for so many seconds hangs, and is given up
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub stall_timeout: u64,
}

impl SourceArgs {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.source.is_empty() && self.source_file.is_empty()
    }
}

//! What is left out by pattern: the options that `snapshot`, `restore`, `archive` and `rewrite`
//! share. [`crate::lists::excluded`] makes of them what the sources match paths with.

use std::path::PathBuf;

use clap::Args;

/// What is left out by pattern.
#[derive(Debug, Args, Default)]
pub struct ExcludeArgs {
    /// Leave out what matches: `*.o`, `cache/tmp`, `/home/*/.cache`; several times
    #[arg(short, long, value_name = "PATTERN")]
    pub exclude: Vec<String>,
    /// The same, whatever the case of letters
    #[arg(long, value_name = "PATTERN")]
    pub iexclude: Vec<String>,
    /// Leave out what matches a line of FILE: `#` begins a comment, `!` takes back, `$NAME` is a
    /// variable, `$$` a dollar sign; several times
    #[arg(long, value_name = "FILE")]
    pub exclude_file: Vec<PathBuf>,
    /// The same, whatever the case of letters
    #[arg(long, value_name = "FILE")]
    pub iexclude_file: Vec<PathBuf>,
}

impl ExcludeArgs {
    /// Whether nothing is left out.
    pub fn is_empty(&self) -> bool {
        self.first().is_none()
    }

    /// The first of the options that was given.
    pub fn first(&self) -> Option<&'static str> {
        let given = [
            ("--exclude", !self.exclude.is_empty()),
            ("--iexclude", !self.iexclude.is_empty()),
            ("--exclude-file", !self.exclude_file.is_empty()),
            ("--iexclude-file", !self.iexclude_file.is_empty()),
        ];
        given.into_iter().find_map(|(name, is)| is.then_some(name))
    }
}

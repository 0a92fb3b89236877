//! Options of `snapshot` about file trees: what is read besides typed paths, and what is left out.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use crate::sizes::parse_size;

/// What of file trees is read.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "What is read")]
pub struct TreeArgs {
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
    /// Obey files of this name in the folders that are read, by git's rules: `.gitignore`; several
    /// times
    #[arg(long, value_name = "NAME")]
    pub ignore_file: Vec<OsString>,
    /// Of folders with a CACHEDIR.TAG keep that file alone
    #[arg(long)]
    pub exclude_caches: bool,
    /// Of folders with a file NAME (that begins with HEADER) keep that file alone; several times
    #[arg(long, value_name = "NAME[:HEADER]")]
    pub exclude_if_present: Vec<OsString>,
    /// Leave out files of more bytes: `200M`, `1.5GiB`
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub exclude_larger_than: Option<u64>,
    /// Leave out what is mounted below a path; the folder is kept, empty
    #[arg(short = 'x', long)]
    pub one_file_system: bool,
    /// Take the paths in FILE too, one a line, with wildcards and `#` comments; `-`: standard input
    #[arg(long, value_name = "FILE")]
    pub files_from: Vec<PathBuf>,
    /// The same, each line as it is
    #[arg(long, value_name = "FILE")]
    pub files_from_verbatim: Vec<PathBuf>,
    /// The same, a zero byte after each path: `find … -print0`
    #[arg(long, value_name = "FILE")]
    pub files_from_raw: Vec<PathBuf>,
}

impl TreeArgs {
    /// Whether paths come from lists.
    pub fn has_lists(&self) -> bool {
        let lists = [
            &self.files_from,
            &self.files_from_verbatim,
            &self.files_from_raw,
        ];
        lists.iter().any(|list| !list.is_empty())
    }
}

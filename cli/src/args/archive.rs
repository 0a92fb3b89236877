//! Options of `archive`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{ChoiceArgs, FilterArgs};

/// `archive`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hucha archive latest | zstd > all.tar.zst
  hucha archive latest:srv/shop --exclude '*.log' | ssh web tar -x -C /srv/shop
  hucha archive latest:home/ana/letters --output letters.zip

tar holds everything that restore gives back (GNU tar: `tar -x --xattrs --xattrs-include='*'
--acls`), but sockets. zip holds folders, files and links with modes and times to the second; no
owners, attributes, devices or pipes, and each name of a file with several is a file of its own.
The same snapshot gives the same bytes. At the first damage it stops and ends with 12; what was
written then has no end, and `tar` and `unzip` say so: `hucha restore` gives back the rest.")]
pub struct ArchiveArgs {
    /// Id, `latest`, `latest~2`, a date or time; then `:PATH` for a part of it
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    pub snapshot: OsString,
    /// Which snapshots `latest` and dates choose from
    #[command(flatten)]
    pub filter: FilterArgs,
    /// What is taken
    #[command(flatten)]
    pub choice: ChoiceArgs,
    /// The format [default: zip if FILE ends with `.zip`, else tar]
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub format: Option<FormatArg>,
    /// Write into a file instead of standard output; it is there when it is complete
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// The format of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FormatArg {
    /// POSIX tar, not compressed
    Tar,
    /// zip, each file compressed
    Zip,
}

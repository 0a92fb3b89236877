//! Options of `find`.

use std::ffi::OsString;

use clap::{Args, ValueEnum};

use super::FilterArgs;

/// `find`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hucha find app.db
  hucha find --long --ignore-case '*.JPG' --host till
  hucha find '/srv/shop/**/*.conf' --oldest 2026-11-01 --type file
  hucha find --snapshot latest --type link

Every version of a file is one line: in how many snapshots it is, the first and the last of them,
and its path. A pattern names the last components of a path; with a leading `/` the whole path.")]
pub struct FindArgs {
    /// Names or paths: `*.conf`, `etc/passwd`, `/srv/**/a.txt`; none: everything
    #[arg(value_name = "PATTERN")]
    pub patterns: Vec<String>,
    /// Large and small letters are the same
    #[arg(short, long)]
    pub ignore_case: bool,
    /// Look only into this snapshot; several times
    #[arg(short, long, value_name = "SNAPSHOT")]
    pub snapshot: Vec<OsString>,
    /// Which snapshots are looked into
    #[command(flatten)]
    pub filter: FilterArgs,
    /// Only what was last changed at this time or later
    #[arg(short = 'O', long, value_name = "TIME")]
    pub oldest: Option<String>,
    /// Only what was last changed at this time or earlier
    #[arg(short = 'N', long, value_name = "TIME")]
    pub newest: Option<String>,
    /// Only this: `file`, `folder`, `link`, `fifo`, `socket`, `char-device`, `block-device`
    #[arg(
        long = "type",
        value_name = "TYPE",
        value_enum,
        hide_possible_values = true
    )]
    pub kinds: Vec<KindArg>,
    /// Only files that hold this chunk (64 hex digits, as `check` names them)
    #[arg(long, value_name = "ID")]
    pub chunk: Option<String>,
    /// Show type, mode, owner, size and time
    #[arg(short, long)]
    pub long: bool,
}

/// Kinds of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KindArg {
    /// A regular file.
    #[value(alias = "f")]
    File,
    /// A folder.
    #[value(alias = "d")]
    Folder,
    /// A symbolic link.
    #[value(alias = "l")]
    Link,
    /// A named pipe.
    #[value(alias = "p")]
    Fifo,
    /// A socket.
    #[value(alias = "s")]
    Socket,
    /// A character device.
    #[value(alias = "c")]
    CharDevice,
    /// A block device.
    #[value(alias = "b")]
    BlockDevice,
}

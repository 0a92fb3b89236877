//! Options of `snapshot`.

use std::ffi::OsString;

use clap::Args;

use super::{EncryptionArg, TreeArgs};

/// `snapshot`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hucha snapshot --init ~/documents
  hucha snapshot --tag nightly --exclude '*.tmp' --exclude node_modules /srv/shop
  hucha snapshot -x --exclude-caches --exclude-file /etc/hucha/excludes /
  hucha snapshot --ignore-file .gitignore --exclude-larger-than 2G ~/src
  find /srv -newer stamp -type f -print0 | hucha snapshot --files-from-raw -
  pg_dump shop | hucha snapshot - --stdin-name shop.sql
  hucha snapshot --command-name shop.sql -- pg_dump shop

With `--command-name` a command that fails leaves no snapshot; with a pipe hucha cannot know
whether the other side failed.
A path is stored as typed without a leading `/`; `.` stores the contents of this folder.")]
pub struct SnapshotArgs {
    /// Files and folders; `-` is standard input
    #[arg(value_name = "PATH")]
    pub paths: Vec<OsString>,
    /// Make the repository if there is none
    #[arg(long)]
    pub init: bool,
    /// With --init: `chacha20-poly1305` or `none`
    #[arg(
        long,
        value_enum,
        hide_possible_values = true,
        default_value_t,
        value_name = "METHOD",
        requires = "init"
    )]
    pub encryption: EncryptionArg,
    /// Name of the file that holds standard input
    #[arg(long, value_name = "NAME", default_value = "stdin")]
    pub stdin_name: OsString,
    /// Store what a command prints, under this name; the command follows after `--`
    #[arg(long, value_name = "NAME", requires = "command")]
    pub command_name: Option<OsString>,
    /// Tag the snapshot; several times, or several tags with commas
    #[arg(long = "tag", value_name = "TAG")]
    pub tags: Vec<String>,
    /// A line about the snapshot
    #[arg(long, value_name = "TEXT")]
    pub label: Option<String>,
    /// Host name that the snapshot carries [default: this host's]
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,
    /// Time that the snapshot carries: `2026-11-20 03:00:00`, RFC 3339, or `now`
    #[arg(long, value_name = "TIME")]
    pub time: Option<String>,
    /// Read every file, also those that have not changed since the last snapshot
    #[arg(short, long)]
    pub force: bool,
    /// The command of --command-name and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
    /// What of file trees is read.
    #[command(flatten)]
    pub tree: TreeArgs,
}

//! Options of the commands that write snapshots and files.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use super::{EncryptionArg, FilterArgs};

/// `init`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hucha -r /mnt/backup/shop init
  hucha -r /mnt/backup/shop init --new-key-file ~/shop.key
  hucha -r /mnt/backup/shop init --encryption none

Without its password or key file nobody can read an encrypted repository again: keep a copy.")]
pub struct InitArgs {
    /// `chacha20-poly1305`, or `none`: then everybody who can read it can read everything
    #[arg(
        long,
        value_enum,
        hide_possible_values = true,
        default_value_t,
        value_name = "METHOD"
    )]
    pub encryption: EncryptionArg,
    /// Make a key file (random, for you alone to read) and use it instead of a password
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["key_file", "password_file", "password_command"]
    )]
    pub new_key_file: Option<PathBuf>,
    /// Label of the first key
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub label: String,
}

/// `snapshot`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hucha snapshot --init ~/documents
  hucha snapshot --tag nightly --exclude '*.tmp' --exclude node_modules /srv/shop
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
    /// Leave out what matches: `*.o`, `cache/tmp`, `/home/*/.cache`; several times
    #[arg(short, long, value_name = "PATTERN")]
    pub exclude: Vec<String>,
    /// Read every file, also those that have not changed since the last snapshot
    #[arg(short, long)]
    pub force: bool,
    /// The command of --command-name and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// `restore`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hucha restore latest /tmp/all
  hucha restore latest:srv/shop/app.db /tmp
  hucha restore 2026-11-20:srv/shop /tmp/shop --exclude '*.log'
  hucha restore --host till --verify latest~2 /

Files that are right already are not written again; nothing else in TARGET is removed.
Afterwards TARGET equals the snapshot (or the folder PATH of it), times and modes included.")]
pub struct RestoreArgs {
    /// Id, `latest`, `latest~2`, a date or time; then `:PATH` for a part of it
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    pub snapshot: OsString,
    /// The folder to write into, made if absent
    #[arg(value_name = "TARGET")]
    pub target: PathBuf,
    /// Which snapshots `latest` and dates choose from
    #[command(flatten)]
    pub filter: FilterArgs,
    /// Restore only what matches; several times
    #[arg(short, long, value_name = "PATTERN")]
    pub include: Vec<String>,
    /// Leave out what matches; several times
    #[arg(short, long, value_name = "PATTERN")]
    pub exclude: Vec<String>,
    /// Read everything again afterwards and compare
    #[arg(long)]
    pub verify: bool,
}

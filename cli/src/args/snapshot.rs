//! Options of `snapshot`.

use std::ffi::OsString;

use clap::Args;

use super::{EncryptionArg, SourceArgs, TreeArgs};

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
  hucha snapshot --source sqlite:///var/lib/shop/app.db --source file:///etc/shop
  hucha snapshot --source 'postgres://backup@db/shop?password_file=/etc/hucha/db' /srv/photos

With `--command-name` a command that fails leaves no snapshot; with a pipe hucha cannot know
whether the other side failed.
A path is stored as typed without a leading `/`; `.` stores the contents of this folder.

Databases are copied while programs go on writing, all or nothing, each as it was at one moment;
docs/guide has a page for each kind.

A run that is interrupted leaves what it read up to its last checkpoint as a partial snapshot. The
next one of the same host and paths goes on from there, in the middle of a large file too; when it
is complete, the partial ones are forgotten. A stream cannot be read again and makes none.")]
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
    #[arg(short, long, conflicts_with = "parent")]
    pub force: bool,
    /// Compare with this snapshot [default: the newest of the same host and paths]
    #[arg(long, value_name = "SNAPSHOT")]
    pub parent: Option<OsString>,
    /// Save nothing when everything is as in the snapshot that it is compared with
    #[arg(long)]
    pub skip_if_unchanged: bool,
    /// Take a file for unchanged also when its inode number is another (network file systems)
    #[arg(long)]
    pub ignore_inode: bool,
    /// Take a file for unchanged also when only its inode was changed (owner, mode, restored)
    #[arg(long)]
    pub ignore_ctime: bool,
    /// How much is read, or how much time passes, before what is stored so far is made safe
    /// against an interruption: `10m`, `16G`, both, or `never`
    #[arg(long, value_name = "LIMIT", default_value = "10m,16G")]
    pub checkpoint_every: String,
    /// The command of --command-name and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
    /// Which databases are read.
    #[command(flatten)]
    pub sources: SourceArgs,
    /// What of file trees is read.
    #[command(flatten)]
    pub tree: TreeArgs,
}

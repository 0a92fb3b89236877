//! Options of the commands that look after a repository.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::FilterArgs;

/// `forget`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hucha forget --dry-run --keep-last 30
  hucha forget --keep-last 7 --tag hourly
  hucha forget 3f2a91c0

`--keep-last` counts for each host and set of paths apart. Forgotten snapshots can be taken back
with `hucha undelete` until `hucha gc` has freed their data.")]
pub struct ForgetArgs {
    /// The snapshots to forget: ids, `latest~3`, dates or times
    #[arg(
        value_name = "SNAPSHOT",
        required_unless_present = "keep_last",
        conflicts_with = "keep_last"
    )]
    pub snapshots: Vec<OsString>,
    /// Forget all but the newest N of each host and set of paths
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub keep_last: Option<u64>,
    /// Which snapshots are looked at
    #[command(flatten)]
    pub filter: FilterArgs,
}

/// `undelete`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hucha snapshots --forgotten
  hucha undelete 3f2a91c0")]
pub struct UndeleteArgs {
    /// Ids of forgotten snapshots, or how they begin
    #[arg(value_name = "ID", required = true)]
    pub snapshots: Vec<OsString>,
}

/// `gc`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hucha gc
  hucha gc --dry-run
  hucha gc --max-unused 0

It may run while snapshots are taken. What a running snapshot may still need is freed by the next
gc after it has ended.")]
pub struct GcArgs {
    /// How much unused data may stay: `5%`, `200M`, `unlimited`
    #[arg(long, value_name = "LIMIT", default_value = "5%")]
    pub max_unused: String,
    /// Go on although far more would be freed than usual
    #[arg(long)]
    pub force: bool,
    /// When a writer counts as dead: `auto`, `now`, `idle=15m`, `never`
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub fence: String,
}

/// `check`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hucha check
  hucha check --read-data

Exit code 12 tells that something is damaged.")]
pub struct CheckArgs {
    /// Read and verify every stored byte, not only the structure
    #[arg(long)]
    pub read_data: bool,
}

/// `key`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hucha key list
  hucha key add --label ana
  hucha key add --label nightly --new-key-file /root/shop.key
  hucha key change
  hucha key remove ana")]
pub struct KeyArgs {
    /// What to do
    #[command(subcommand)]
    pub command: KeyCommand,
}

/// The commands of `key`.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// List the passwords and key files that open the repository
    List,
    /// Add one more password or key file
    Add(NewKeyArgs),
    /// Remove a password or key file, never the last one
    Remove {
        /// Its label, or how its id begins
        #[arg(value_name = "KEY")]
        key: String,
    },
    /// Put a new password or key file in the place of the one in use
    Change(NewKeyArgs),
}

/// Where a new key comes from.
#[derive(Debug, Args)]
#[command(after_help = "\
Without these options the new password is asked for twice, or read from HUCHA_NEW_PASSWORD.")]
pub struct NewKeyArgs {
    /// Label of the new key
    #[arg(long, value_name = "TEXT")]
    pub label: Option<String>,
    /// Read the new password from a file
    #[arg(long, value_name = "FILE", conflicts_with = "new_key_file")]
    pub new_password_file: Option<PathBuf>,
    /// Make a key file (random, for you alone to read) instead of a password
    #[arg(long, value_name = "FILE")]
    pub new_key_file: Option<PathBuf>,
}

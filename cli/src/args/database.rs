//! Options of `restore` about databases, and of the commands that are about members.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::FilterArgs;

/// Where a member goes as a database.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Into a database")]
pub struct ToArgs {
    /// Make a new database of the member: `sqlite:///tmp/app.db`, `postgres://ana@host/shop2`. When
    /// there is one of that name, the new one gets another name
    #[arg(long, value_name = "ADDRESS", conflicts_with = "target")]
    pub to: Option<String>,
    /// Exchange the new database with the one at ADDRESS, which is kept under another name
    #[arg(long, requires = "to", conflicts_with_all = ["tables", "schema_only", "data_only"])]
    pub swap: bool,
    /// Only this table (or collection); several times
    #[arg(long = "table", value_name = "NAME", requires = "to")]
    pub tables: Vec<String>,
    /// Structure without rows
    #[arg(long, requires = "to")]
    pub schema_only: bool,
    /// Rows only, into empty tables that are there
    #[arg(long, requires = "to", conflicts_with = "schema_only")]
    pub data_only: bool,
    /// Firestore: what becomes of documents that are there already
    #[arg(long, value_name = "HOW", value_enum, default_value_t, requires = "to")]
    pub merge: MergeArg,
    /// Do not ask before documents are overwritten or removed
    #[arg(long, requires = "to")]
    pub yes: bool,
    /// A database that sends nothing for so many seconds hangs, and is given up
    #[arg(long, value_name = "SECONDS", default_value_t = 600, requires = "to")]
    pub stall_timeout: u64,
}

/// What becomes of documents that are there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Default)]
pub enum MergeArg {
    /// They stay as they are
    #[default]
    New,
    /// They become what is stored
    Overwrite,
    /// The same, and those that are not stored are removed
    Mirror,
}

/// `manifest`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hucha manifest latest
  hucha manifest latest~1 | jq '.members[] | {name, rows}'")]
pub struct ManifestArgs {
    /// Id, `latest`, `latest~2`, a date or time
    #[arg(value_name = "SNAPSHOT")]
    pub snapshot: OsString,
    /// Which snapshots `latest` and dates choose from
    #[command(flatten)]
    pub filter: FilterArgs,
}

/// `export`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hucha export latest:app.db /srv/backups
  hucha export latest:inventory /srv/backups --gzip
  hucha export 2026-11-20:inventory /tmp/inventory.sql

A folder gets a file named after the member and the time of the snapshot:
`app_backup_20261120_030000.db`, `inventory_backup_20261120_030000.sql` or `.sql.gz`; Firestore
becomes a folder of JSON files. Nothing that is there is replaced.")]
pub struct MemberExportArgs {
    /// Id, `latest`, `latest~2`, a date or time; then `:` and the member
    #[arg(value_name = "SNAPSHOT:MEMBER")]
    pub snapshot: OsString,
    /// A folder, or the name of the new file
    #[arg(value_name = "TARGET")]
    pub target: PathBuf,
    /// Which snapshots `latest` and dates choose from
    #[command(flatten)]
    pub filter: FilterArgs,
    /// Compress the file with gzip
    #[arg(long)]
    pub gzip: bool,
}

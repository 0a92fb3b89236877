//! Options of `restore`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use super::FilterArgs;

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

//! Options of `tag`, `protect` and `unprotect`.

use std::ffi::OsString;

use clap::Args;

use super::FilterArgs;

/// `tag`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hucha tag --add keep 3f2a91c0
  hucha tag --remove nightly --add monthly --host till
  hucha tag --set '' latest
  hucha tag --label 'before the move' latest

Without SNAPSHOT all that the filters let pass are changed. A snapshot's data is not touched.")]
pub struct TagArgs {
    /// The snapshots: ids, `latest~3`, dates or times
    #[arg(value_name = "SNAPSHOT")]
    pub snapshots: Vec<OsString>,
    /// Give these tags instead of all others (`a,b`; '' for none)
    #[arg(long, value_name = "TAGS", conflicts_with_all = ["add", "remove"])]
    pub set: Vec<String>,
    /// Add these tags
    #[arg(long, value_name = "TAGS")]
    pub add: Vec<String>,
    /// Take these tags away
    #[arg(long, value_name = "TAGS")]
    pub remove: Vec<String>,
    /// Give this label ('' for none)
    #[arg(long, value_name = "TEXT")]
    pub label: Option<String>,
    /// Which snapshots
    #[command(flatten)]
    pub filter: FilterArgs,
}

/// `protect`, `unprotect`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hucha protect 3f2a91c0
  hucha unprotect 3f2a91c0

`forget` leaves protected snapshots alone, by rule and by name.")]
pub struct ProtectArgs {
    /// The snapshots: ids, `latest~3`, dates or times
    #[arg(value_name = "SNAPSHOT", required = true)]
    pub snapshots: Vec<OsString>,
    /// Which snapshots `latest` and dates choose from
    #[command(flatten)]
    pub filter: FilterArgs,
}

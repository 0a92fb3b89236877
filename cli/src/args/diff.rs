//! Options of `diff`.

use std::ffi::OsString;

use clap::Args;

use super::FilterArgs;

/// `diff`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hucha diff latest~1 latest
  hucha diff --metadata 2026-11-19:srv/shop latest:srv/shop
  hucha diff --json latest~7 latest

  +  only the second has it       -  only the first has it
  M  the contents differ          T  it is of another kind
  U  only mode, owner, time, attributes or names of links differ (with --metadata)
  M? the contents differ although size and time are the same

Exit code 0 also when there are differences. A folder ends with `/`.")]
pub struct DiffArgs {
    /// The first: id, `latest~1`, a date or time; then `:PATH` for a part of it
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    pub before: OsString,
    /// The second
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    pub after: OsString,
    /// Tell also of what differs in mode, owner, time or attributes only
    #[arg(long)]
    pub metadata: bool,
    /// Which snapshots `latest` and dates choose from
    #[command(flatten)]
    pub filter: FilterArgs,
}

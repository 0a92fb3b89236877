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
  hucha diff --rows latest~1:app.db latest:app.db
  hucha diff --rows --table public.sale latest~1:inventory latest:inventory

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
    /// Compare the rows of a database (SQLite, or PostgreSQL in its default form): how many were
    /// added, removed and changed in each table
    #[arg(long, conflicts_with = "metadata")]
    pub rows: bool,
    /// With --rows: only this table, and its rows themselves as JSON lines; several times
    #[arg(long = "table", value_name = "NAME", requires = "rows")]
    pub tables: Vec<String>,
    /// Which snapshots `latest` and dates choose from
    #[command(flatten)]
    pub filter: FilterArgs,
}

//! Options of the commands that only look.

use std::ffi::OsString;

use clap::Args;
use hucha_store::retention::GroupBy;

use crate::policy::parse_groups;

/// Filters of snapshots.
#[derive(Debug, Args, Default, Clone)]
pub struct FilterArgs {
    /// Only snapshots of this host; several times: any of them
    #[arg(long = "host", value_name = "NAME")]
    pub hosts: Vec<String>,
    /// Only snapshots with all of these tags (`a,b`; '' for none); several times: any of the sets
    #[arg(long = "tag", value_name = "TAGS")]
    pub tags: Vec<String>,
    /// Only snapshots of this path; several times: all of them
    #[arg(long = "path", value_name = "PATH")]
    pub paths: Vec<OsString>,
}

impl FilterArgs {
    /// Whether it lets every snapshot pass.
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty() && self.tags.is_empty() && self.paths.is_empty()
    }
}

/// `snapshots`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hucha snapshots
  hucha snapshots --host till --tag nightly
  hucha snapshots --latest 3 --group-by host
  hucha snapshots --forgotten
  hucha snapshots --json")]
pub struct SnapshotsArgs {
    /// Which snapshots
    #[command(flatten)]
    pub filter: FilterArgs,
    /// Show the forgotten snapshots that gc has not removed yet
    #[arg(long)]
    pub forgotten: bool,
    /// Show partial snapshots too: checkpoints of runs that did not end
    #[arg(long)]
    pub all: bool,
    /// Only the newest N of each group (by default: host and paths)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub latest: Option<u64>,
    /// Show a table for each `host`, `paths`, `tags` (commas between)
    #[arg(short, long, value_name = "GROUPS", value_parser = parse_groups)]
    pub group_by: Option<GroupBy>,
    /// Show a short table
    #[arg(short, long)]
    pub compact: bool,
}

/// `ls`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hucha ls latest
  hucha ls -l latest:srv/shop
  hucha ls --human latest:srv/shop
  hucha ls --recursive 2026-11-20:srv

Control characters and invalid bytes of names are shown as \\n, \\x1b, \\xff, and `\\` as `\\\\`.")]
pub struct LsArgs {
    /// Id, `latest`, `latest~2`, a date or time; then `:PATH` for a part of it
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    pub snapshot: OsString,
    /// Which snapshots `latest` and dates choose from
    #[command(flatten)]
    pub filter: FilterArgs,
    /// Show type, mode, owner, size and time
    #[arg(short, long)]
    pub long: bool,
    /// The same, with sizes as 1.5 KiB
    #[arg(long)]
    pub human: bool,
    /// Show everything below, not only what the folder holds itself
    #[arg(long)]
    pub recursive: bool,
}

/// `cat`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hucha cat latest:srv/shop/config.toml
  hucha cat latest:shop.sql | psql shop_copy")]
pub struct CatArgs {
    /// Id, `latest`, `latest~2`, a date or time; then `:` and the file's path
    #[arg(value_name = "SNAPSHOT:PATH")]
    pub snapshot: OsString,
    /// Which snapshots `latest` and dates choose from
    #[command(flatten)]
    pub filter: FilterArgs,
}

/// `stats`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hucha stats
  hucha stats latest latest~7
  hucha stats --host till --tag nightly

With SNAPSHOT or a filter each snapshot is shown by itself: what a restore writes, its data with
each chunk once, and what no other snapshot has: forgetting it alone frees no more than that. All
before compression.")]
pub struct StatsArgs {
    /// Ids, `latest`, `latest~2`, dates or times; none: the repository as a whole
    #[arg(value_name = "SNAPSHOT")]
    pub snapshots: Vec<OsString>,
    /// Which snapshots
    #[command(flatten)]
    pub filter: FilterArgs,
}

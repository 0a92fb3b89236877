//! Options of `forget` and `undelete`.

use std::ffi::OsString;

use clap::Args;
use hucha_store::retention::{GroupBy, Reach, Span};

use super::{FilterArgs, GcArgs};
use crate::policy::{parse_groups, parse_reach, parse_span};

/// `forget`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hucha forget --dry-run --keep-daily 7 --keep-weekly 5 --keep-monthly 12
  hucha forget --keep-within-daily 30d --keep-within-monthly 2y --gc
  hucha forget --keep-last 7 --tag hourly
  hucha forget 3f2a91c0

Rules apply to each host and set of paths apart. A snapshot stays when one rule keeps it; the newest
complete one of a group, and what is protected, stays whatever they say. Counts are numbers,
`unlimited` or -1; times are `1y5m7d2h`. Forgotten snapshots can be taken back with
`hucha undelete` until `hucha gc` has freed their data.")]
pub struct ForgetArgs {
    /// The snapshots to forget: ids, `latest~3`, dates or times
    #[arg(value_name = "SNAPSHOT")]
    pub snapshots: Vec<OsString>,
    /// What stays
    #[command(flatten)]
    pub keep: KeepArgs,
    /// Apply the rules to each `host`, `paths`, `tags` apart (commas between; '' for none)
    #[arg(
        short,
        long,
        value_name = "GROUPS",
        default_value = "host,paths",
        value_parser = parse_groups
    )]
    pub group_by: GroupBy,
    /// Let a group vanish whole; needs --host, --tag or --path
    #[arg(long)]
    pub unsafe_allow_remove_all: bool,
    /// Which snapshots are looked at
    #[command(flatten)]
    pub filter: FilterArgs,
    /// Show a short table
    #[arg(short, long)]
    pub compact: bool,
    /// Free the space afterwards, as `hucha gc` does
    #[arg(long = "gc", alias = "prune")]
    pub collect: bool,
    /// How
    #[command(flatten, next_help_heading = "With --gc")]
    pub gc: GcArgs,
}

/// What a policy keeps.
#[derive(Debug, Args, Default)]
#[command(next_help_heading = "What stays")]
pub struct KeepArgs {
    /// The newest N snapshots
    #[arg(
        short = 'l',
        long,
        value_name = "N",
        value_parser = parse_reach,
        allow_negative_numbers = true
    )]
    pub keep_last: Option<Reach>,
    /// The newest of each of the last N hours that have any
    #[arg(
        short = 'H',
        long,
        value_name = "N",
        value_parser = parse_reach,
        allow_negative_numbers = true
    )]
    pub keep_hourly: Option<Reach>,
    /// The newest of each of the last N days that have any
    #[arg(
        short = 'd',
        long,
        value_name = "N",
        value_parser = parse_reach,
        allow_negative_numbers = true
    )]
    pub keep_daily: Option<Reach>,
    /// The newest of each of the last N weeks (Monday to Sunday) that have any
    #[arg(
        short = 'w',
        long,
        value_name = "N",
        value_parser = parse_reach,
        allow_negative_numbers = true
    )]
    pub keep_weekly: Option<Reach>,
    /// The newest of each of the last N months that have any
    #[arg(
        short = 'm',
        long,
        value_name = "N",
        value_parser = parse_reach,
        allow_negative_numbers = true
    )]
    pub keep_monthly: Option<Reach>,
    /// The newest of each of the last N years that have any
    #[arg(
        short = 'y',
        long,
        value_name = "N",
        value_parser = parse_reach,
        allow_negative_numbers = true
    )]
    pub keep_yearly: Option<Reach>,
    /// All that are less than this older than the newest: `1y5m7d2h`
    #[arg(long, value_name = "TIME", value_parser = parse_span)]
    pub keep_within: Option<Span>,
    /// The newest of each hour within that time
    #[arg(long, value_name = "TIME", value_parser = parse_span)]
    pub keep_within_hourly: Option<Span>,
    /// The newest of each day within that time
    #[arg(long, value_name = "TIME", value_parser = parse_span)]
    pub keep_within_daily: Option<Span>,
    /// The newest of each week within that time
    #[arg(long, value_name = "TIME", value_parser = parse_span)]
    pub keep_within_weekly: Option<Span>,
    /// The newest of each month within that time
    #[arg(long, value_name = "TIME", value_parser = parse_span)]
    pub keep_within_monthly: Option<Span>,
    /// The newest of each year within that time
    #[arg(long, value_name = "TIME", value_parser = parse_span)]
    pub keep_within_yearly: Option<Span>,
    /// All with all of these tags (`a,b`; '' for those without any); several times: any of the sets
    #[arg(long = "keep-tag", value_name = "TAGS")]
    pub keep_tags: Vec<String>,
    /// All whose id begins so; several times: any of them
    #[arg(long = "keep-id", value_name = "ID")]
    pub keep_ids: Vec<String>,
    /// Measure times from the newest snapshot that is not after this [default: now]
    #[arg(long, value_name = "TIME")]
    pub time: Option<String>,
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

//! Options of `forget` and `undelete`.

use std::ffi::OsString;

use clap::Args;

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

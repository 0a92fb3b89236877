//! Options of `rewrite`.

use std::ffi::OsString;

use clap::Args;

use super::{ExcludeArgs, FilterArgs};

/// `rewrite`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hucha rewrite --exclude '*.key' --dry-run
  hucha rewrite --exclude /srv/shop/cache --forget --host till
  hucha rewrite --iexclude '*.MP4' latest~2 3f2a91c0
  hucha rewrite --new-host till latest

A new snapshot is taken beside each one that holds what is left out; its tags, label, time
and host stay.
Without SNAPSHOT all that the filters let pass are rewritten. Patterns see paths as `ls` shows them.
Only `--forget`, and then `hucha gc`, frees the space and removes the data.")]
pub struct RewriteArgs {
    /// Ids, `latest`, `latest~2`, dates or times; none: all
    #[arg(value_name = "SNAPSHOT")]
    pub snapshots: Vec<OsString>,
    /// Which snapshots are rewritten
    #[command(flatten)]
    pub filter: FilterArgs,
    /// What is left out
    #[command(flatten)]
    pub exclude: ExcludeArgs,
    /// Forget each snapshot that was rewritten
    #[arg(long)]
    pub forget: bool,
    /// Another host name
    #[arg(long, value_name = "NAME")]
    pub new_host: Option<String>,
    /// Another time: `2026-11-20 03:00:00`, RFC 3339, or `now`
    #[arg(long, value_name = "TIME")]
    pub new_time: Option<String>,
}

//! Options of `cache`.

use clap::{Args, Subcommand};

/// `cache`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hucha cache list
  hucha cache clear
  hucha cache clear --all --dry-run

A cache makes commands quick. It can always be removed: the next command makes it again, and only
does not remember which snapshots this machine saw before (`gc` stops when one is missing).")]
pub struct CacheArgs {
    /// What to do
    #[command(subcommand)]
    pub command: CacheCommand,
}

/// The commands of `cache`.
#[derive(Debug, Subcommand)]
pub enum CacheCommand {
    /// List the caches on this machine: repository, size, last use
    List,
    /// Remove the caches that were not used for a while, and are not in use
    Clear {
        /// Remove those that were not used for so long: `30d`, `12h`
        #[arg(long, value_name = "TIME", default_value = "30d")]
        unused_for: String,
        /// Remove all that are not in use
        #[arg(long, conflicts_with = "unused_for")]
        all: bool,
    },
}

//! Options of `repair`.

use clap::{Args, ValueEnum};

/// `repair`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hucha repair --dry-run
  hucha repair
  hucha repair --give-up-lost

What is damaged is made whole from what is left. What is lost is named, and stays: a snapshot that
still has the data heals the older ones. `--give-up-lost` saves the rest of each damaged snapshot as
a new one, lost bytes of files as zeros, and forgets the damaged one.

Nothing is deleted; `hucha gc` frees damaged packs when no snapshot needs what is lost. Exit code 12
tells that something stays lost.")]
pub struct RepairArgs {
    /// Only this; without it everything that is needed, in this order
    #[arg(value_enum, value_name = "PART")]
    pub part: Option<PartArg>,
    /// Save what is left of damaged snapshots as new ones, and forget them
    #[arg(long)]
    pub give_up_lost: bool,
}

/// A part of the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PartArg {
    /// `config`, key slots and data keys, from their copies.
    Config,
    /// Segments of the index, from packs.
    Index,
    /// Damaged packs: what is left in them is copied.
    Packs,
    /// Snapshots that refer to what is lost.
    Snapshots,
}

//! Options of `check`.

use clap::Args;

/// `check`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hucha check
  hucha check --read-data

Exit code 12 tells that something is damaged.")]
pub struct CheckArgs {
    /// Read and verify every stored byte, not only the structure
    #[arg(long)]
    pub read_data: bool,
}

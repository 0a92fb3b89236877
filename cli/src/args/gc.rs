//! Options of `gc`.

use clap::Args;

/// `gc`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hucha gc
  hucha gc --dry-run
  hucha gc --max-unused 0

It may run while snapshots are taken. What a running snapshot may still need is freed by the next
gc after it has ended.")]
pub struct GcArgs {
    /// How much unused data may stay: `5%`, `200M`, `unlimited`
    #[arg(long, value_name = "LIMIT", default_value = "5%")]
    pub max_unused: String,
    /// Go on although far more would be freed than usual
    #[arg(long)]
    pub force: bool,
    /// When a writer counts as dead: `auto`, `now`, `idle=15m`, `never`
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub fence: String,
}

//! Options of `init`.

use std::path::PathBuf;

use clap::Args;

use super::EncryptionArg;

/// `init`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hucha -r /mnt/backup/shop init
  hucha -r /mnt/backup/shop init --new-key-file ~/shop.key
  hucha -r /mnt/backup/shop init --encryption none

Without its password or key file nobody can read an encrypted repository again: keep a copy.")]
pub struct InitArgs {
    /// `chacha20-poly1305`, or `none`: then everybody who can read it can read everything
    #[arg(
        long,
        value_enum,
        hide_possible_values = true,
        default_value_t,
        value_name = "METHOD"
    )]
    pub encryption: EncryptionArg,
    /// Make a key file (random, for you alone to read) and use it instead of a password
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["key_file", "password_file", "password_command"]
    )]
    pub new_key_file: Option<PathBuf>,
    /// Label of the first key
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub label: String,
}

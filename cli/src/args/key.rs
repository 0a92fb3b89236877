//! Options of `key`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `key`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hucha key list
  hucha key add --label ana
  hucha key add --label nightly --new-key-file /root/shop.key
  hucha key change
  hucha key remove ana")]
pub struct KeyArgs {
    /// What to do
    #[command(subcommand)]
    pub command: KeyCommand,
}

/// The commands of `key`.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// List the passwords and key files that open the repository
    List,
    /// Add one more password or key file
    Add(NewKeyArgs),
    /// Remove a password or key file, never the last one
    Remove {
        /// Its label, or how its id begins
        #[arg(value_name = "KEY")]
        key: String,
    },
    /// Put a new password or key file in the place of the one in use
    Change(NewKeyArgs),
}

/// Where a new key comes from.
#[derive(Debug, Args)]
#[command(after_help = "\
Without these options the new password is asked for twice, or read from HUCHA_NEW_PASSWORD.")]
pub struct NewKeyArgs {
    /// Label of the new key
    #[arg(long, value_name = "TEXT")]
    pub label: Option<String>,
    /// Read the new password from a file
    #[arg(long, value_name = "FILE", conflicts_with = "new_key_file")]
    pub new_password_file: Option<PathBuf>,
    /// Make a key file (random, for you alone to read) instead of a password
    #[arg(long, value_name = "FILE")]
    pub new_key_file: Option<PathBuf>,
}

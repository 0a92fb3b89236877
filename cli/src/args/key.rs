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
  hucha key remove ana
  hucha key export --label paper > shop.key
  hucha key export --label paper | lp")]
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
    /// Make one more key, and print it as a text to lock away or to save as a key file
    Export(ExportArgs),
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

/// How a key is printed.
#[derive(Debug, Args)]
#[command(after_help = "\
The text works as it is with --key-file; comments may stay. Typed from paper only the line
`hucha-key-2` and the four lines below it matter: small letters and other spaces do no harm, and a
line that was mistyped is named. `hucha key remove` takes the key back.")]
pub struct ExportArgs {
    /// Label of the new key
    #[arg(long, value_name = "TEXT", default_value = "paper")]
    pub label: String,
    /// Print it also on a terminal
    #[arg(long)]
    pub print: bool,
}

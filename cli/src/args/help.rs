//! Options of `completions` and `man`.

use std::path::PathBuf;

use clap::Args;
use clap_complete::Shell;

/// `completions`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hucha completions bash > ~/.local/share/bash-completion/completions/hucha
  hucha completions zsh > /usr/local/share/zsh/site-functions/_hucha
  hucha completions fish > ~/.config/fish/completions/hucha.fish")]
pub struct CompletionsArgs {
    /// `bash`, `elvish`, `fish`, `powershell`, `zsh`
    #[arg(value_name = "SHELL", value_enum, hide_possible_values = true)]
    pub shell: Shell,
}

/// `man`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hucha man | man -l -
  hucha man snapshot | man -l -
  hucha man --output /usr/local/share/man/man1")]
pub struct ManArgs {
    /// The command whose page is printed; none: the page of hucha itself
    #[arg(value_name = "COMMAND")]
    pub command: Vec<String>,
    /// Write the pages of all commands into this folder instead
    #[arg(short, long, value_name = "FOLDER", conflicts_with = "command")]
    pub output: Option<PathBuf>,
}

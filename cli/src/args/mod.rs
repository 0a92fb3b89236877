//! What was typed, by clap. What it means is the matter of [`crate::settings`] and of each command.

mod archive;
mod cache;
mod check;
mod database;
mod diff;
mod exclude;
mod find;
mod forget;
mod gc;
mod help;
mod init;
mod key;
mod rehearse;
mod repair;
mod restore;
mod rewrite;
mod show;
mod snapshot;
mod source;
mod tag;
mod tree;

pub use archive::{ArchiveArgs, FormatArg};
pub use cache::{CacheArgs, CacheCommand};
pub use check::{CheckArgs, LevelArg};
pub use database::{ManifestArgs, MemberExportArgs, MergeArg, ToArgs};
pub use diff::DiffArgs;
pub use exclude::ExcludeArgs;
pub use find::{FindArgs, KindArg};
pub use forget::{ForgetArgs, KeepArgs, UndeleteArgs};
pub use gc::GcArgs;
pub use help::{CompletionsArgs, ManArgs};
pub use init::InitArgs;
pub use key::{ExportArgs, KeyArgs, KeyCommand, NewKeyArgs};
pub use rehearse::RehearseArgs;
pub use repair::{PartArg, RepairArgs};
pub use restore::{ChoiceArgs, OverwriteArg, RestoreArgs};
pub use rewrite::RewriteArgs;
pub use show::{CatArgs, FilterArgs, LsArgs, SnapshotsArgs, StatsArgs};
pub use snapshot::SnapshotArgs;
pub use source::SourceArgs;
pub use tag::{ProtectArgs, TagArgs};
pub use tree::TreeArgs;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

/// Put folders, streams and databases into a deduplicating, encrypted repository, every night.
#[derive(Debug, Parser)]
#[command(
    name = "hucha",
    version,
    propagate_version = false,
    arg_required_else_help = true,
    after_help = EXAMPLES
)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  hucha -r /mnt/backup/shop init
  hucha -r /mnt/backup/shop snapshot /srv/shop
  hucha -r /mnt/backup/shop snapshots
  hucha -r /mnt/backup/shop restore latest:srv/shop /tmp/shop

The repository may also stand in HUCHA_REPOSITORY and the password in HUCHA_PASSWORD_FILE.
`hucha COMMAND --help` tells more about each command.";

/// Options that every command takes, before or after its name.
#[derive(Debug, Args, Default)]
#[command(next_help_heading = "Global options")]
pub struct GlobalArgs {
    /// The repository: a folder [env: HUCHA_REPOSITORY]
    #[arg(short, long, global = true, value_name = "FOLDER")]
    pub repository: Option<OsString>,

    /// Read the password from a file [env: HUCHA_PASSWORD_FILE]
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        conflicts_with_all = ["password_command", "key_file"]
    )]
    pub password_file: Option<PathBuf>,

    /// Run a command that prints the password [env: HUCHA_PASSWORD_COMMAND]
    #[arg(
        long,
        global = true,
        value_name = "COMMAND",
        conflicts_with = "key_file"
    )]
    pub password_command: Option<OsString>,

    /// Open the repository with a key file instead of a password [env: HUCHA_KEY_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    pub key_file: Option<PathBuf>,

    /// Refused: see `refuse_password`.
    #[arg(long, global = true, hide = true, value_name = "PASSWORD", num_args = 0..=1)]
    pub password: Option<Option<OsString>>,

    /// Where the local cache lies [default: ~/.cache/hucha]
    #[arg(
        long,
        global = true,
        value_name = "FOLDER",
        conflicts_with = "no_cache"
    )]
    pub cache_dir: Option<PathBuf>,

    /// Keep no local cache: slower, and in memory
    #[arg(long, global = true)]
    pub no_cache: bool,

    /// Put no more than so many bytes a second into the repository: `500K`, `10M`
    #[arg(long, global = true, value_name = "RATE")]
    pub limit_upload: Option<String>,

    /// Get no more than so many bytes a second out of the repository
    #[arg(long, global = true, value_name = "RATE")]
    pub limit_download: Option<String>,

    /// Print results as JSON
    #[arg(long, global = true)]
    pub json: bool,

    /// Show progress also where it is not shown: in lines on a stderr that is no terminal, with
    /// --json as objects there
    #[arg(long, global = true, conflicts_with = "quiet")]
    pub progress: bool,

    /// Print results and errors only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,

    /// Tell more; twice: every file
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,

    /// Change nothing, only tell what would be done
    #[arg(short = 'n', long, global = true)]
    pub dry_run: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a new repository
    Init(InitArgs),
    /// Take a snapshot of files, folders, standard input or a command's output
    Snapshot(Box<SnapshotArgs>),
    /// Write a snapshot, or a part of it, into a folder, or a member into a database
    Restore(Box<RestoreArgs>),
    /// Write a snapshot, or a part of it, as a tar or zip file
    Archive(ArchiveArgs),
    /// List the snapshots
    Snapshots(SnapshotsArgs),
    /// List what a snapshot holds
    Ls(LsArgs),
    /// Print a file of a snapshot
    Cat(CatArgs),
    /// Write a database of a snapshot into a plain file: `.db`, `.sql`, `.sql.gz`, JSON
    Export(MemberExportArgs),
    /// Restore a snapshot only to see that it works, and keep the result
    Rehearse(RehearseArgs),
    /// Print what a snapshot says of itself and its members, as JSON
    Manifest(ManifestArgs),
    /// Find files in all snapshots, and tell which versions are where
    Find(FindArgs),
    /// Show what differs between two snapshots
    Diff(DiffArgs),
    /// Show how much the repository holds
    Stats(StatsArgs),
    /// Forget snapshots; `gc` frees their space later
    Forget(ForgetArgs),
    /// Take snapshots again without some of their files, beside or in place of the old ones
    Rewrite(RewriteArgs),
    /// Take forgotten snapshots back, as long as gc has not freed their data
    Undelete(UndeleteArgs),
    /// Change tags and labels of snapshots
    Tag(TagArgs),
    /// Keep snapshots from being forgotten
    Protect(ProtectArgs),
    /// Let protected snapshots be forgotten again
    Unprotect(ProtectArgs),
    /// Free the space of what no snapshot needs
    Gc(GcArgs),
    /// Check that the repository is whole
    Check(CheckArgs),
    /// Make whole what is damaged, as far as anything is left of it
    Repair(RepairArgs),
    /// List, add, remove, change and export passwords and key files
    Key(KeyArgs),
    /// List and remove the caches of repositories on this machine
    Cache(CacheArgs),
    /// Print a script that completes command lines in a shell
    Completions(CompletionsArgs),
    /// Print a page of the manual, or write all pages into a folder
    Man(ManArgs),
    /// Show the version
    Version,
}

/// Whether and how a new repository is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Default)]
pub enum EncryptionArg {
    /// Encrypted and authenticated; needs a password or a key file.
    #[default]
    #[value(name = "chacha20-poly1305")]
    ChaCha20Poly1305,
    /// Neither password nor protection.
    None,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound_and_every_option_is_described() {
        let mut command = Cli::command();
        command.build();
        command.clone().debug_assert();
        for sub in command.get_subcommands() {
            for argument in sub.get_arguments().filter(|a| !a.is_hide_set()) {
                let name = argument.get_id();
                assert!(argument.get_help().is_some(), "{} {name}", sub.get_name());
            }
            let plain = ["version", "help"].contains(&sub.get_name());
            let shown = plain || sub.get_after_help().is_some();
            assert!(shown, "{} has no examples", sub.get_name());
        }
    }

    #[test]
    fn global_options_before_and_after() {
        let before = Cli::parse_from(["hucha", "-r", "a", "--json", "-n", "snapshots"]);
        let after = Cli::parse_from(["hucha", "snapshots", "-n", "--json", "-r", "a"]);
        for cli in [before, after] {
            assert_eq!(cli.global.repository.as_deref(), Some("a".as_ref()));
            assert!(cli.global.json && cli.global.dry_run);
        }
    }

    #[test]
    fn a_command_after_two_dashes() {
        let typed = [
            "hucha",
            "snapshot",
            "--command-name",
            "a.sql",
            "--",
            "pg_dump",
            "-n",
            "x",
        ];
        let cli = Cli::parse_from(typed);
        let Command::Snapshot(args) = cli.command else {
            panic!("not a snapshot");
        };
        assert_eq!(args.command, ["pg_dump", "-n", "x"]);
        assert!(!cli.global.dry_run);
    }
}

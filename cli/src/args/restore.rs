//! Options of `restore`, and the patterns that it shares with `archive`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{ExcludeArgs, FilterArgs, ToArgs};

/// `restore`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hucha restore latest /tmp/all
  hucha restore latest:srv/shop/app.db /tmp
  hucha restore 2026-11-20:srv/shop /tmp/shop --exclude '*.log'
  hucha restore --host till --verify latest~2 /
  hucha restore latest:srv/shop /srv/shop --delete --dry-run -vv
  hucha restore latest:app.db --to sqlite:///tmp/app.db
  hucha restore 2026-11-20:inventory --to postgres://ana@db/inventory --swap

Only what differs is fetched and written; a file that is right stays as it is. A file gets its
new content whole or not at all. Without --delete nothing else in TARGET is removed.
Afterwards TARGET equals the snapshot (or the folder PATH of it), times and modes included.
Patterns see paths as they stand in TARGET. As root owners are restored, by name where this
machine knows the name; ACLs and attributes always by number.")]
pub struct RestoreArgs {
    /// Id, `latest`, `latest~2`, a date or time; then `:PATH` for a part of it
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    pub snapshot: OsString,
    /// The folder to write into, made if absent
    #[arg(value_name = "TARGET", required_unless_present = "to")]
    pub target: Option<PathBuf>,
    /// Which snapshots `latest` and dates choose from
    #[command(flatten)]
    pub filter: FilterArgs,
    /// What is restored
    #[command(flatten)]
    pub choice: ChoiceArgs,
    /// What becomes of files that are there already
    #[arg(long, value_name = "WHEN", value_enum, default_value_t)]
    pub overwrite: OverwriteArg,
    /// Remove from TARGET what the snapshot does not hold, as far as the patterns take it
    #[arg(long)]
    pub delete: bool,
    /// Make holes of runs of zeros; what was a hole is one again without this
    #[arg(long)]
    pub sparse: bool,
    /// Give files the numbers of their owners, whatever the names mean on this machine
    #[arg(long)]
    pub numeric_ids: bool,
    /// Read everything again afterwards and compare
    #[arg(long)]
    pub verify: bool,
    /// Into a database instead of a folder
    #[command(flatten)]
    pub to: ToArgs,
}

/// What becomes of files that are there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Default)]
pub enum OverwriteArg {
    /// Compare their content, replace what differs
    #[default]
    Always,
    /// Take those of the same size and time for right
    #[value(alias = "if-changed")]
    Changed,
    /// Replace those that are older than the snapshot's
    #[value(alias = "if-newer")]
    Newer,
    /// Leave them as they are
    Never,
}

/// Which entries of a snapshot are taken.
#[derive(Debug, Args, Default)]
#[command(next_help_heading = "What is taken")]
pub struct ChoiceArgs {
    /// Take only what matches; several times
    #[arg(short, long, value_name = "PATTERN")]
    pub include: Vec<String>,
    /// The same, whatever the case of letters
    #[arg(long, value_name = "PATTERN")]
    pub iinclude: Vec<String>,
    /// Take only what matches a line of FILE; several times
    #[arg(long, value_name = "FILE")]
    pub include_file: Vec<PathBuf>,
    /// The same, whatever the case of letters
    #[arg(long, value_name = "FILE")]
    pub iinclude_file: Vec<PathBuf>,
    /// What is left out
    #[command(flatten)]
    pub exclude: ExcludeArgs,
}

impl ChoiceArgs {
    /// Whether nothing is left out.
    pub fn takes_all(&self) -> bool {
        self.includes_all() && self.exclude.is_empty()
    }

    /// Whether nothing says that only some of it is taken.
    pub fn includes_all(&self) -> bool {
        self.include.is_empty()
            && self.iinclude.is_empty()
            && self.include_file.is_empty()
            && self.iinclude_file.is_empty()
    }
}

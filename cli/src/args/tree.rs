//! Options of `snapshot` about file trees: what is read besides typed paths, and what is left out.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use super::ExcludeArgs;
use crate::sizes::parse_size;

/// What of file trees is read.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "What is read")]
pub struct TreeArgs {
    /// What is left out by pattern
    #[command(flatten)]
    pub exclude: ExcludeArgs,
    /// Obey files of this name in the folders that are read, by git's rules: `.gitignore`; several
    /// times
    #[arg(long, value_name = "NAME")]
    pub ignore_file: Vec<OsString>,
    /// Of folders with a CACHEDIR.TAG keep that file alone
    #[arg(long)]
    pub exclude_caches: bool,
    /// Of folders with a file NAME (that begins with HEADER) keep that file alone; several times
    #[arg(long, value_name = "NAME[:HEADER]")]
    pub exclude_if_present: Vec<OsString>,
    /// Leave out files of more bytes: `200M`, `1.5GiB`
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub exclude_larger_than: Option<u64>,
    /// Leave out what is mounted below a path; the folder is kept, empty
    #[arg(short = 'x', long)]
    pub one_file_system: bool,
    /// Take the paths in FILE too, one a line, with wildcards and `#` comments; `-`: standard input
    #[arg(long, value_name = "FILE")]
    pub files_from: Vec<PathBuf>,
    /// The same, each line as it is
    #[arg(long, value_name = "FILE")]
    pub files_from_verbatim: Vec<PathBuf>,
    /// The same, a zero byte after each path: `find … -print0`
    #[arg(long, value_name = "FILE")]
    pub files_from_raw: Vec<PathBuf>,
}

impl TreeArgs {
    /// Whether paths come from lists.
    pub fn has_lists(&self) -> bool {
        let lists = [
            &self.files_from,
            &self.files_from_verbatim,
            &self.files_from_raw,
        ];
        lists.iter().any(|list| !list.is_empty())
    }

    /// The first option that was given of those that mean nothing where no files are read.
    pub fn leaves_out(&self) -> Option<&'static str> {
        let given = [
            ("--ignore-file", !self.ignore_file.is_empty()),
            ("--exclude-caches", self.exclude_caches),
            ("--exclude-if-present", !self.exclude_if_present.is_empty()),
            ("--exclude-larger-than", self.exclude_larger_than.is_some()),
            ("--one-file-system", self.one_file_system),
        ];
        let others = given.into_iter().find_map(|(name, is)| is.then_some(name));
        self.exclude.first().or(others)
    }
}

#[cfg(test)]
mod tests {
    use clap::{ArgAction, Command, FromArgMatches};

    use super::*;

    #[test]
    fn no_option_is_forgotten() {
        let command = TreeArgs::augment_args(Command::new("x"));
        for option in command.get_arguments() {
            let name = format!("--{}", option.get_long().unwrap());
            let mut typed = vec!["x", &name];
            if !matches!(option.get_action(), ArgAction::SetTrue) {
                typed.push("1");
            }
            let matches = command.clone().try_get_matches_from(typed).unwrap();
            let args = TreeArgs::from_arg_matches(&matches).unwrap();
            match args.has_lists() {
                true => assert_eq!(args.leaves_out(), None, "{name}"),
                false => assert_eq!(args.leaves_out(), Some(&*name)),
            }
        }
    }
}

//! Benchmarks of hucha. Timings decide nothing; what can be counted is asserted in tests. What each
//! command does, and how its tables are read, stands in `benches/README.md`.
//!
//! Run with `cargo run --release -p hucha-benches -- micro`, or for all peers `benches/compare`.

mod arguments;
mod compare;
mod corpus;
mod creep;
mod databases;
mod index;
mod micro;
mod profile;
mod profiles;

use std::error::Error;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "usage: hucha-benches COMMAND
  compare HUCHA SCRATCH [--nights N] [--percent P] [--only CORPORA] [--tools TOOLS]
                        [--repeats N] [--out FILE]
  creep HUCHA SCRATCH   [--nights N] [--percent P] [--only CORPORA] [--out FILE]
  databases HUCHA SCRATCH [--nights N] [--percent P] [--out FILE]
  profile HUCHA SCRATCH [--nights N] [--percent P] [--only CORPORA] [--out FILE]
  corpus NAME FOLDER    [--nights N] [--percent P]
  index [CHUNKS] FOLDER
  micro [FOLDER]
  profiles [NIGHTS]
Lists are split at commas.";

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let Some((command, rest)) = arguments.split_first() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let done = match command.to_str() {
        Some("measured") => return compare::measure::measured(rest),
        Some("profiles") => {
            let nights = rest.first().and_then(|n| n.to_str()?.parse().ok());
            print!("{}", profiles::table(nights.unwrap_or(4)));
            Ok(())
        }
        Some("micro") => micro(rest.first()),
        Some("compare") => compare::compare(rest),
        Some("creep") => creep::creep(rest),
        Some("databases") => databases::databases(rest),
        Some("profile") => profile::profile(rest),
        Some("corpus") => corpus::nights::on_disk(rest),
        Some("index") => index::run(rest),
        _ => Err(USAGE.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn micro(folder: Option<&OsString>) -> Result<(), Box<dyn Error>> {
    let folder = folder.map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = folder.join(format!("hucha-micro-{}", std::process::id()));
    std::fs::create_dir(&folder)?;
    let table = micro::table(&folder);
    std::fs::remove_dir_all(&folder)?;
    print!("{}", table?);
    Ok(())
}

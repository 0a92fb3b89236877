//! Benchmarks of hucha. Timings decide nothing; what can be counted is asserted in tests.
//!
//! - `profiles [NIGHTS]`: what chunk sizes cost: growth over nights of a seeded corpus, number of
//!   chunks (rows of the index), time as a ratio to the first line.
//! - `micro [FOLDER]`: what one core does in each stage; the index is made in FOLDER.
//! - `index [CHUNKS] FOLDER`: the index of so many chunks, see [`mod@index`].
//! - `compare`: hucha beside every peer on PATH, see [`mod@compare`]:
//!   `compare HUCHA SCRATCH [--nights N] [--percent P] [--only CORPUS] [--out FILE]`.
//!
//! Run with `cargo run --release -p hucha-benches -- micro`, or for all peers `benches/compare`.

mod compare;
mod corpus;
mod index;
mod micro;
mod profiles;

use std::error::Error;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "usage: hucha-benches profiles [NIGHTS] | micro [FOLDER] | \
    index [CHUNKS] FOLDER | \
    compare HUCHA SCRATCH [--nights N] [--percent P] [--only CORPUS] [--out FILE]";

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
        Some("compare") => compare(rest),
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

fn compare(arguments: &[OsString]) -> Result<(), Box<dyn Error>> {
    let [hucha, scratch, rest @ ..] = arguments else {
        return Err(USAGE.into());
    };
    let mut options = compare::Options {
        hucha: std::fs::canonicalize(hucha)?,
        scratch: std::path::absolute(scratch)?.join("hucha-compare"),
        nights: 7,
        percent: 100,
        only: String::new(),
    };
    let mut out = None;
    for pair in rest.chunks(2) {
        let [name, value] = pair else {
            return Err(USAGE.into());
        };
        let text = value.to_str().unwrap_or_default();
        match name.to_str() {
            Some("--nights") => options.nights = text.parse()?,
            Some("--percent") => options.percent = text.parse()?,
            Some("--only") => text.clone_into(&mut options.only),
            Some("--out") => out = Some(value),
            _ => return Err(USAGE.into()),
        }
    }
    let table = compare::compare(&options)?;
    match out {
        Some(file) => std::fs::write(Path::new(file), table)?,
        None => print!("{table}"),
    }
    Ok(())
}

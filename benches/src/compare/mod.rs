//! hucha beside every peer on PATH: the same nights of the same corpora, in the same run, restored
//! bytes compared, tables for each corpus and one of targets. Nothing is decided by it.

mod figures;
mod fresh;
pub mod machine;
pub mod measure;
mod outcome;
mod table;
mod targets;
pub mod tools;
pub mod trial;

use std::error::Error;
use std::ffi::OsString;
use std::path::PathBuf;

use crate::arguments::Typed;
use crate::corpus::nights::NAMES;

/// What is compared, and where.
pub struct Options {
    /// The binary of hucha.
    pub hucha: PathBuf,
    /// A folder for sources, repositories and restores; it is emptied.
    pub scratch: PathBuf,
    /// Sizes in percent of the full ones.
    pub percent: usize,
    /// Only these tools, if any are named.
    pub tools: Vec<String>,
    /// How often everything but later nights is done; 0: only nights, for their growth.
    pub repeats: usize,
}

/// Options that may be typed.
const KNOWN: [&str; 6] = [
    "--nights",
    "--percent",
    "--only",
    "--tools",
    "--repeats",
    "--out",
];
/// Nights of each corpus, the first among them.
const NIGHTS: usize = 14;
/// Nights of the large random file at most: one is like the other, and each takes long.
const RANDOM_NIGHTS: usize = 7;
const REPEATS: usize = 3;

/// Runs everything and writes the tables in Markdown.
///
/// # Errors
/// When a tool fails, or gives back other bytes than it was given.
pub fn compare(arguments: &[OsString]) -> Result<(), Box<dyn Error>> {
    let typed = Typed::read(arguments, &KNOWN)?;
    let nights = typed.options.number("--nights", NIGHTS)?;
    let only = typed.options.words("--only");
    let options = Options {
        hucha: typed.hucha,
        scratch: typed.scratch.join("hucha-compare"),
        percent: typed.options.number("--percent", 100)?,
        tools: typed.options.words("--tools"),
        repeats: typed.options.number("--repeats", REPEATS)?,
    };
    let mut out = machine::header("hucha beside its peers", &options.scratch);
    out.push_str(machine::ABOUT);
    let mut outcomes = Vec::new();
    for name in NAMES {
        if only.is_empty() || only.iter().any(|part| name.contains(part.as_str())) {
            let nights = match name {
                "random" => nights.min(RANDOM_NIGHTS),
                _ => nights,
            };
            let outcome = trial::one_corpus(name, nights, &options)?;
            let part = table::tables(&outcome);
            eprintln!("{part}");
            out.push_str(&part);
            outcomes.push(outcome);
        }
    }
    if options.repeats > 0 {
        out.push_str(&targets::table(&outcomes));
    }
    Ok(typed.options.write(&out)?)
}

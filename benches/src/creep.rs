//! Whether growth and the work of a restore creep up: hucha alone, many nights of each database.
//! The first third of the nights is set against the last.

use std::error::Error;
use std::ffi::OsString;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::arguments::Typed;
use crate::compare::machine;
use crate::compare::measure::run;
use crate::compare::tools::{self, Tool};
use crate::compare::trial::{remove, size_of};
use crate::corpus::nights::Corpus;

const KNOWN: [&str; 4] = ["--nights", "--percent", "--only", "--out"];
const CORPORA: [&str; 3] = ["dump-heap", "dump-key", "sqlite"];
const NIGHTS: usize = 60;
const PERCENT: usize = 25;

/// What many nights of one corpus gave.
struct Creep {
    /// Bytes of the repository after each night.
    sizes: Vec<u64>,
    /// Bytes decoded to restore the last night of the first third, and the last of all.
    decoded: [Option<f64>; 2],
}

/// Runs everything and writes the table in Markdown.
///
/// # Errors
/// When hucha fails, or a corpus cannot be written.
pub fn creep(arguments: &[OsString]) -> Result<(), Box<dyn Error>> {
    let typed = Typed::read(arguments, &KNOWN)?;
    let nights = typed.options.number("--nights", NIGHTS)?.max(3);
    let percent = typed.options.number("--percent", PERCENT)?;
    let only = typed.options.words("--only");
    let scratch = typed.scratch.join("hucha-creep");
    let third = nights / 3;
    let mut out = machine::header("Whether growth creeps up", &scratch);
    let _ = write!(
        out,
        "\n| corpus | first MB | MB a night, 2–{third} | MB a night, {}–{nights} | ratio, at most \
         1.2 | decoded MB, night {third} | decoded MB, night {nights} | ratio, at most 1.2 |\n\
         |---|---|---|---|---|---|---|---|\n",
        nights - third + 1
    );
    let mut each = String::new();
    for name in CORPORA {
        if only.is_empty() || only.iter().any(|part| name.contains(part.as_str())) {
            let creep = one_corpus(name, nights, percent, &typed.hucha, &scratch)?;
            let line = creep.line(name, third);
            eprint!("{line}");
            out.push_str(&line);
            let _ = writeln!(each, "- {name}: {}", creep.nights());
        }
    }
    let _ = write!(out, "\nMB of each night from the second on:\n\n{each}");
    Ok(typed.options.write(&out)?)
}

fn one_corpus(
    name: &str,
    nights: usize,
    percent: usize,
    hucha: &Path,
    scratch: &Path,
) -> Result<Creep, Box<dyn Error>> {
    let scratch = scratch.join(name);
    remove(&scratch)?;
    let source = scratch.join("source");
    fs::create_dir_all(&source)?;
    let tool = tools::own(hucha, &scratch).ok_or("hucha does not tell its version")?;
    fs::create_dir_all(tool.home())?;
    let log = scratch.join("log");
    run(&tool.init(), &tool.variables(), &log)?;
    let mut corpus = Corpus::first(name, &source, percent)?;
    let mut sizes = Vec::new();
    let mut decoded = [None; 2];
    for night in 1..=nights {
        if night > 1 {
            corpus.next_night()?;
        }
        let calls = tool.snapshot(&format!("night{night}"), &source);
        run(&calls, &tool.variables(), &log)?;
        sizes.push(size_of(&tool.repository())?);
        if night == nights / 3 || night == nights {
            let bytes = decoded_bytes(&tool, &format!("night{night}"), &source, &scratch)?;
            decoded[usize::from(night == nights)] = bytes;
        }
    }
    drop(corpus);
    fs::remove_dir_all(&scratch)?;
    Ok(Creep { sizes, decoded })
}

/// What a restore says it decoded, if it says so.
fn decoded_bytes(
    tool: &Tool,
    night: &str,
    source: &Path,
    scratch: &Path,
) -> Result<Option<f64>, Box<dyn Error>> {
    let target: PathBuf = scratch.join("target");
    fs::create_dir(&target)?;
    let mut summary = String::new();
    for call in tool.restore(night, source, &target) {
        let (program, words) = call.argv.split_first().ok_or("there is no command")?;
        let mut command = Command::new(program);
        command.args(words).arg("--json").envs(tool.variables());
        let output = command.output()?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            return Err(format!("{:?}: {text}", call.argv).into());
        }
        summary.push_str(&String::from_utf8_lossy(&output.stdout));
    }
    fs::remove_dir_all(&target)?;
    Ok(number(&summary, "decoded_bytes"))
}

/// The number that stands behind a name in JSON.
fn number(json: &str, name: &str) -> Option<f64> {
    let (_, behind) = json.split_once(&format!("\"{name}\""))?;
    let behind = behind.trim_start().strip_prefix(':')?.trim_start();
    let end = behind.find(|c: char| !c.is_ascii_digit())?;
    behind.get(..end)?.parse().ok()
}

impl Creep {
    /// MB that each night added, from the second on.
    fn growth(&self) -> Vec<f64> {
        let pairs = self.sizes.iter().zip(self.sizes.iter().skip(1));
        pairs
            .map(|(old, new)| (*new as f64 - *old as f64) / 1e6)
            .collect()
    }

    fn line(&self, name: &str, third: usize) -> String {
        let growth = self.growth();
        let mean = |from: usize, count: usize| {
            let nights = growth.iter().skip(from).take(count);
            (count > 0).then(|| nights.sum::<f64>() / count as f64)
        };
        let early = mean(0, third.saturating_sub(1));
        let late = mean(growth.len() - third, third);
        let [before, after] = self.decoded.map(|bytes| bytes.map(|n| n / 1e6));
        let ratio = |old: Option<f64>, new: Option<f64>| Some(new? / old?);
        let first = self.sizes.first().map(|bytes| *bytes as f64 / 1e6);
        let mut out = format!("| {name} |");
        for figure in [
            first,
            early,
            late,
            ratio(early, late),
            before,
            after,
            ratio(before, after),
        ] {
            let _ = match figure {
                Some(figure) => write!(out, " {figure:.2} |"),
                None => write!(out, " – |"),
            };
        }
        out + "\n"
    }

    fn nights(&self) -> String {
        let nights = self.growth();
        let nights: Vec<String> = nights.iter().map(|mb| format!("{mb:.2}")).collect();
        nights.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_found_in_json() {
        let json = "{\"files\": 1, \"decoded_bytes\": 4096, \"x\": 2}";
        assert_eq!(number(json, "decoded_bytes"), Some(4096.0));
        assert_eq!(number("{\"decoded_bytes\":7}", "decoded_bytes"), Some(7.0));
        assert_eq!(number(json, "decoded"), None);
    }

    #[test]
    fn the_first_third_is_set_against_the_last() {
        // Six nights: the second adds 1 MB, the fifth and sixth 2 MB each.
        let sizes = vec![9, 10, 10, 10, 12, 14].into_iter();
        let creep = Creep {
            sizes: sizes.map(|mb| mb * 1_000_000).collect(),
            decoded: [Some(1e6), None],
        };
        let line = creep.line("x", 2);
        assert_eq!(line, "| x | 9.00 | 1.00 | 2.00 | 2.00 | 1.00 | – | – |\n");
    }
}

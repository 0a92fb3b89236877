//! What bounds hucha: each operation is run once while its threads are watched, and once more under
//! `perf`, if that is there, to see which functions the time goes to. The rates of the stages stand
//! below, to tell how far away a limit is.

mod symbols;
mod threads;

use std::error::Error;
use std::ffi::OsString;
use std::fmt::Write;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::arguments::Typed;
use crate::compare::machine;
use crate::compare::measure::{Call, run};
use crate::compare::tools::{self, Tool};
use crate::compare::trial::{copy, remove, sync};
use crate::corpus::nights::{Corpus, NAMES};
use crate::micro;

const KNOWN: [&str; 4] = ["--nights", "--percent", "--only", "--out"];
/// The last night is the one that is watched.
const NIGHTS: usize = 3;

/// hucha with one corpus.
struct Subject {
    tool: Tool,
    scratch: PathBuf,
    source: PathBuf,
}

/// Runs everything and writes it in Markdown.
///
/// # Errors
/// When hucha fails, or a corpus cannot be written.
pub fn profile(arguments: &[OsString]) -> Result<(), Box<dyn Error>> {
    let typed = Typed::read(arguments, &KNOWN)?;
    let nights = typed.options.number("--nights", NIGHTS)?.max(2);
    let percent = typed.options.number("--percent", 100)?;
    let only = typed.options.words("--only");
    let scratch = typed.scratch.join("hucha-profile");
    let mut out = machine::header("What bounds hucha", &scratch);
    out.push_str(threads::ABOUT);
    for name in NAMES {
        if only.is_empty() || only.iter().any(|part| name.contains(part.as_str())) {
            let part = one_corpus(name, nights, percent, &typed.hucha, &scratch)?;
            eprintln!("{part}");
            out.push_str(&part);
        }
    }
    fs::create_dir_all(&scratch)?;
    let rates = micro::table(&scratch)?;
    let _ = write!(out, "\n## Stages\n\n{rates}");
    fs::remove_dir_all(&scratch)?;
    Ok(typed.options.write(&out)?)
}

fn one_corpus(
    name: &str,
    nights: usize,
    percent: usize,
    hucha: &Path,
    scratch: &Path,
) -> Result<String, Box<dyn Error>> {
    let scratch = scratch.join(name);
    remove(&scratch)?;
    let source = scratch.join("source");
    fs::create_dir_all(&source)?;
    let tool = tools::own(hucha, &scratch).ok_or("hucha does not tell its version")?;
    fs::create_dir_all(tool.home())?;
    let subject = Subject {
        tool,
        scratch,
        source,
    };
    subject.run(&subject.tool.init())?;
    let mut out = format!("\n## {name}\n");
    let mut corpus = Corpus::first(name, &subject.source, percent)?;
    let night = |n: usize| subject.tool.snapshot(&format!("night{n}"), &subject.source);
    out.push_str(&subject.watch("first night", &night(1))?);
    for n in 2..nights {
        corpus.next_night()?;
        subject.run(&night(n))?;
    }
    corpus.next_night()?;
    out.push_str(&subject.watch("later night", &night(nights))?);
    out.push_str(&subject.watch("unchanged night", &night(nights + 1))?);
    let target = subject.target();
    let restore = subject
        .tool
        .restore(&format!("night{nights}"), &subject.source, &target);
    out.push_str(&subject.watch("restore of the last night", &restore)?);
    if let Some(calls) = subject.tool.check() {
        out.push_str(&subject.watch("check of all data", &calls)?);
    }
    let calls = subject.tool.collect(&[]);
    out.push_str(&subject.watch("forget and gc", &calls)?);
    drop(corpus);
    fs::remove_dir_all(&subject.scratch)?;
    Ok(out)
}

impl Subject {
    fn log(&self) -> PathBuf {
        self.scratch.join("log")
    }

    fn target(&self) -> PathBuf {
        self.scratch.join("target")
    }

    fn run(&self, calls: &[Call]) -> io::Result<()> {
        run(calls, &self.tool.variables(), &self.log())?;
        Ok(())
    }

    /// Watches an operation, then puts the repository back as it was and does it under `perf`.
    fn watch(&self, what: &str, calls: &[Call]) -> Result<String, Box<dyn Error>> {
        eprintln!("{what}");
        let kept = self.tool.home().with_extension("kept");
        copy(self.tool.home(), &kept)?;
        let mut out = format!("\n### {what}\n");
        let prepare = || -> io::Result<()> {
            remove(&self.target())?;
            fs::create_dir(self.target())?;
            sync()
        };
        for call in calls {
            prepare()?;
            out.push_str(&threads::watch(call, &self.tool.variables(), &self.log())?);
        }
        fs::remove_dir_all(self.tool.home())?;
        fs::rename(&kept, self.tool.home())?;
        for call in calls {
            prepare()?;
            let data = self.scratch.join("perf.data");
            let variables = self.tool.variables();
            out.push_str(&symbols::record(call, &variables, &self.log(), &data)?);
        }
        Ok(out)
    }
}

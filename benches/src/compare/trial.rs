//! One corpus: every tool stores the same nights, gives them back, checks and collects.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Options;
use super::figures::{Deed, Figures};
use super::fresh::Fresh;
use super::measure::{Call, Taken, run};
use super::outcome::{Line, Outcome};
use super::tools::{self, Kind, Tool};
use crate::corpus::nights::Corpus;

/// Digests of files by path.
type Digests = BTreeMap<PathBuf, blake3::Hash>;

struct Trial {
    scratch: PathBuf,
    source: PathBuf,
    repeats: usize,
}

/// Does everything with one corpus, in a folder of its own below the scratch folder.
///
/// # Errors
/// When a tool fails, or gives back other bytes than it was given.
pub fn one_corpus(name: &str, nights: usize, options: &Options) -> Result<Outcome, Box<dyn Error>> {
    let scratch = options.scratch.join(name);
    remove(&scratch)?;
    let source = scratch.join("source");
    fs::create_dir_all(&source)?;
    let wanted = |tool: &Tool| {
        options.tools.is_empty() || options.tools.iter().any(|t| tool.kind.name() == t)
    };
    let tools = tools::present(&options.hucha, &scratch);
    let tools = tools.into_iter().filter(wanted);
    let mut lines: Vec<Line> = tools.map(|tool| (tool, Figures::default())).collect();
    let trial = Trial {
        scratch,
        source,
        repeats: options.repeats,
    };
    for (tool, _) in &lines {
        trial.init(tool)?;
    }
    let mut corpus = Corpus::first(name, &trial.source, options.percent)?;
    let first_bytes = size_of(&trial.source)?;
    let first = digests(&trial.source)?;
    let names: Vec<String> = (1..=nights).map(|n| format!("night{n}")).collect();
    for (n, night) in names.iter().enumerate() {
        if n > 0 {
            corpus.next_night()?;
        }
        trial.night(n, night, &mut lines)?;
    }
    let bytes = [first_bytes, size_of(&trial.source)?];
    if options.repeats > 0 {
        let last = digests(&trial.source)?;
        trial.rest(&names, [&first, &last], &mut lines)?;
    }
    let touched = corpus.touched();
    drop(corpus);
    fs::remove_dir_all(&trial.scratch)?;
    Ok(Outcome {
        corpus: name.to_owned(),
        bytes,
        nights,
        touched,
        lines,
    })
}

impl Trial {
    fn init(&self, tool: &Tool) -> io::Result<()> {
        fs::create_dir_all(tool.home())?;
        run(&tool.init(), &tool.variables(), &self.log(tool))?;
        Ok(())
    }

    fn log(&self, tool: &Tool) -> PathBuf {
        self.scratch.join(format!("{}.log", tool.kind.name()))
    }

    /// Runs something for a tool, after all that is dirty was written, so that nobody pays for what
    /// another left in memory.
    fn measure(&self, tool: &Tool, calls: &[Call]) -> io::Result<Taken> {
        sync()?;
        run(calls, &tool.variables(), &self.log(tool))
    }

    /// A night of every tool. Each night another begins, so that none always meets a warm cache.
    fn night(&self, n: usize, night: &str, lines: &mut [Line]) -> io::Result<()> {
        let turn = n % lines.len().max(1);
        let (end, begin) = lines.split_at_mut(turn);
        for (tool, figures) in begin.iter_mut().chain(end) {
            eprintln!("{night}: {}", tool.version);
            let deed = if n == 0 { Deed::First } else { Deed::Later };
            let calls = tool.snapshot(night, &self.source);
            figures.push(deed, self.measure(tool, &calls)?);
            figures.sizes.push(size_of(&tool.repository())?);
        }
        if n == 0 {
            for _ in 1..self.repeats {
                self.first_again(night, lines)?;
            }
        }
        Ok(())
    }

    /// The first night once more, into repositories that are thrown away.
    fn first_again(&self, night: &str, lines: &mut [Line]) -> io::Result<()> {
        for (tool, figures) in lines {
            let again = tool.at(self.scratch.join("again"));
            self.init(&again)?;
            let calls = again.snapshot(night, &self.source);
            figures.push(Deed::First, self.measure(&again, &calls)?);
            fs::remove_dir_all(again.home())?;
        }
        Ok(())
    }

    /// Everything after the last night.
    fn rest(
        &self,
        nights: &[String],
        [first, last]: [&Digests; 2],
        lines: &mut Vec<Line>,
    ) -> Result<(), Box<dyn Error>> {
        let (Some(oldest), Some(newest)) = (nights.first(), nights.last()) else {
            return Ok(());
        };
        let mut names = nights.to_vec();
        self.with_key_file(lines)?;
        for n in 0..self.repeats {
            let name = format!("unchanged{n}");
            for (tool, figures) in lines.iter_mut() {
                figures.push(Deed::Open, self.measure(tool, &tool.open())?);
                let calls = tool.snapshot(&name, &self.source);
                figures.push(Deed::Unchanged, self.measure(tool, &calls)?);
            }
            names.push(name);
        }
        let own = lines.iter_mut().filter(|(tool, _)| !tool.by_key_file);
        for (tool, figures) in own {
            eprintln!("restore, check, forget: {}", tool.version);
            let stored = files(&tool.repository())?;
            figures.files = Some(stored.len());
            for _ in 0..self.repeats {
                let restored = self.restore(tool, newest, last)?;
                figures.push(Deed::RestoreLast, restored);
                let restored = self.restore(tool, oldest, first)?;
                figures.push(Deed::RestoreFirst, restored);
                if let Some(calls) = tool.check() {
                    figures.push(Deed::Check, self.measure(tool, &calls)?);
                }
            }
            self.collect(tool, &names, figures)?;
        }
        Ok(())
    }

    /// A line more for hucha: the same repository, opened with a key file.
    fn with_key_file(&self, lines: &mut Vec<Line>) -> io::Result<()> {
        let own = lines.iter().position(|(tool, _)| tool.kind == Kind::Hucha);
        let Some((at, (tool, _))) = own.and_then(|at| Some((at, lines.get(at)?))) else {
            return Ok(());
        };
        run(&tool.add_key_file(), &tool.variables(), &self.log(tool))?;
        let line = (tool.with_key_file(), Figures::default());
        lines.insert(at + 1, line);
        Ok(())
    }

    fn restore(&self, tool: &Tool, night: &str, held: &Digests) -> Result<Taken, Box<dyn Error>> {
        let fresh = Fresh::new(&self.scratch, size_of(&self.source)?)?;
        let target = &fresh.folder;
        let taken = self.measure(tool, &tool.restore(night, &self.source, target))?;
        if digests(&tool.restored(&self.source, target))? != *held {
            return Err(format!("{} gave back other bytes of {night}", tool.version).into());
        }
        fresh.give_back()?;
        Ok(taken)
    }

    /// Each time on a copy of the repository and its cache, in the place of the original: some
    /// tools know a repository by where it stands.
    fn collect(&self, tool: &Tool, nights: &[String], figures: &mut Figures) -> io::Result<()> {
        let kept = tool.home().with_extension("kept");
        fs::rename(tool.home(), &kept)?;
        for _ in 0..self.repeats {
            copy(&kept, tool.home())?;
            figures.push(Deed::Collect, self.measure(tool, &tool.collect(nights))?);
            figures.collected = Some(size_of(&tool.repository())?);
            fs::remove_dir_all(tool.home())?;
        }
        fs::remove_dir_all(&kept)
    }
}

/// Waits until nothing dirty is left in memory.
///
/// # Errors
/// When `sync` is not there or fails.
pub fn sync() -> io::Result<()> {
    succeed(&mut Command::new("sync"))
}

/// Runs a command that must succeed.
///
/// # Errors
/// When it does not, or is not there.
pub fn succeed(command: &mut Command) -> io::Result<()> {
    match command.status()? {
        status if status.success() => Ok(()),
        status => Err(io::Error::other(format!("{command:?}: {status}"))),
    }
}

/// Copies a folder with all that is in it to where nothing stands yet.
///
/// # Errors
/// When it cannot be copied.
pub fn copy(from: &Path, to: &Path) -> io::Result<()> {
    succeed(Command::new("cp").arg("-a").arg(from).arg(to))
}

/// Removes a folder that may not be there.
///
/// # Errors
/// When it is there and cannot be removed.
pub fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Every regular file below a folder, with its size.
///
/// # Errors
/// When it cannot be read.
pub fn files(folder: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                found.push((entry.path(), entry.metadata()?.len()));
            }
        }
    }
    Ok(found)
}

/// Bytes of all files below a folder.
///
/// # Errors
/// When it cannot be read.
pub fn size_of(folder: &Path) -> io::Result<u64> {
    Ok(files(folder)?.iter().map(|(_, size)| size).sum())
}

fn digests(folder: &Path) -> io::Result<Digests> {
    let digest = |(path, _): (PathBuf, u64)| {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(fs::File::open(&path)?)?;
        let inside = path.strip_prefix(folder).unwrap_or(&path).to_owned();
        Ok((inside, hasher.finalize()))
    };
    files(folder)?.into_iter().map(digest).collect()
}

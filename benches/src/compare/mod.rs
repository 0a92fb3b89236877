//! hucha beside every peer on PATH: the same nights of the same corpora, in the same run, restored
//! bytes compared, one table a corpus. Nothing is decided by it.

mod machine;
pub mod measure;
mod table;
mod tools;

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use crate::corpus::dump::{Dump, Order};
use crate::corpus::tree::Tree;
use measure::{Taken, run};
use tools::Tool;

/// What is compared, and where.
pub struct Options {
    /// The binary of hucha.
    pub hucha: PathBuf,
    /// A folder for sources, repositories and restores; it is emptied.
    pub scratch: PathBuf,
    /// Nights of each corpus, the first among them.
    pub nights: usize,
    /// Sizes in percent of the full ones.
    pub percent: usize,
    /// Only corpora whose name holds this.
    pub only: String,
}

/// Rows of the dump and packages of the tree at full size: about 400 MB and 290 MB.
const ROWS: usize = 3_400_000;
const PACKAGES: usize = 600;
/// How often an unchanged run and a restore are repeated.
const REPEATS: usize = 3;

/// Figures of one tool with one corpus.
#[derive(Default)]
struct Figures {
    nights: Vec<Taken>,
    /// Bytes of the repository after each night.
    sizes: Vec<u64>,
    unchanged: Vec<Taken>,
    restore_last: Vec<Taken>,
    restore_first: Vec<Taken>,
    check: Option<Taken>,
    collect: Taken,
    /// Bytes of the repository after the last night and all but two snapshots were forgotten.
    collected: u64,
}

enum Corpus {
    Tree(Tree),
    Dump(Dump, Order),
}

impl Corpus {
    /// Writes the first night.
    fn first(name: &str, source: &Path, percent: usize) -> std::io::Result<Corpus> {
        let order = match name {
            "dump-heap" => Order::Heap,
            "dump-key" => Order::Key,
            _ => return Ok(Corpus::Tree(Tree::write(source, PACKAGES * percent / 100)?)),
        };
        let dump = Dump::new((ROWS * percent / 100) as u32);
        dump.write(&source.join("shop.sql"), order)?;
        Ok(Corpus::Dump(dump, order))
    }

    fn next(&mut self, source: &Path, night: usize) -> std::io::Result<()> {
        match self {
            Corpus::Tree(tree) => tree.next_night(night),
            Corpus::Dump(dump, order) => {
                dump.next_night(night);
                dump.write(&source.join("shop.sql"), *order)
            }
        }
    }
}

/// Runs everything and answers the tables in Markdown.
///
/// # Errors
/// When a tool fails, or gives back other bytes than it was given.
pub fn compare(options: &Options) -> Result<String, Box<dyn Error>> {
    let mut out = machine::header(&options.scratch);
    for name in ["dump-heap", "dump-key", "tree"] {
        if name.contains(&options.only) {
            let part = one_corpus(name, options)?;
            eprintln!("{part}");
            out.push_str(&part);
        }
    }
    Ok(out)
}

fn one_corpus(name: &str, options: &Options) -> Result<String, Box<dyn Error>> {
    let scratch = options.scratch.join(name);
    match fs::remove_dir_all(&scratch) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e.into()),
        _ => fs::create_dir_all(&scratch)?,
    }
    let source = scratch.join("source");
    fs::create_dir(&source)?;
    let tools = tools::present(&options.hucha, &scratch);
    let mut figures: Vec<Figures> = tools.iter().map(|_| Figures::default()).collect();
    let mut bench = Bench { scratch, source };
    for tool in &tools {
        fs::create_dir_all(tool.home())?;
        run(&tool.init(), &tool.variables(), &bench.log(tool))?;
    }
    let mut corpus = Corpus::first(name, &bench.source, options.percent)?;
    let bytes = size_of(&bench.source)?;
    let first = digests(&bench.source)?;
    let nights: Vec<String> = (1..=options.nights).map(|n| format!("night{n}")).collect();
    for (n, night) in nights.iter().enumerate() {
        if n > 0 {
            corpus.next(&bench.source, n)?;
        }
        // Each night another tool begins, so that none always meets a warm page cache.
        for turn in 0..tools.len() {
            let at = (turn + n) % tools.len();
            if let (Some(tool), Some(figures)) = (tools.get(at), figures.get_mut(at)) {
                bench.night(tool, night, figures)?;
            }
        }
    }
    let last = digests(&bench.source)?;
    for (tool, figures) in tools.iter().zip(&mut figures) {
        bench.rest(tool, &nights, [&first, &last], figures)?;
    }
    fs::remove_dir_all(&bench.scratch)?;
    Ok(table::table(name, bytes, options.nights, &tools, &figures))
}

struct Bench {
    scratch: PathBuf,
    source: PathBuf,
}

/// Digests of files by path.
type Digests = BTreeMap<PathBuf, blake3::Hash>;

impl Bench {
    fn log(&self, tool: &Tool) -> PathBuf {
        self.scratch.join(format!("{:?}.log", tool.kind))
    }

    fn night(&self, tool: &Tool, night: &str, figures: &mut Figures) -> Result<(), Box<dyn Error>> {
        eprintln!("{night}: {}", tool.version);
        let calls = tool.snapshot(night, &self.source);
        figures
            .nights
            .push(run(&calls, &tool.variables(), &self.log(tool))?);
        figures.sizes.push(size_of(&tool.repository())?);
        Ok(())
    }

    /// Everything after the last night.
    fn rest(
        &mut self,
        tool: &Tool,
        nights: &[String],
        [first, last]: [&Digests; 2],
        figures: &mut Figures,
    ) -> Result<(), Box<dyn Error>> {
        eprintln!("unchanged, restore, check, forget: {}", tool.version);
        let (variables, log) = (tool.variables(), self.log(tool));
        let mut names = nights.to_vec();
        for n in 0..REPEATS {
            let name = format!("unchanged{n}");
            let calls = tool.snapshot(&name, &self.source);
            figures.unchanged.push(run(&calls, &variables, &log)?);
            names.push(name);
        }
        for _ in 0..REPEATS {
            let (newest, oldest) = (nights.last(), nights.first());
            let (Some(newest), Some(oldest)) = (newest, oldest) else {
                break;
            };
            figures.restore_last.push(self.restore(tool, newest, last)?);
            figures
                .restore_first
                .push(self.restore(tool, oldest, first)?);
        }
        if let Some(calls) = tool.check() {
            figures.check = Some(run(&calls, &variables, &log)?);
        }
        figures.collect = run(&tool.collect(&names), &variables, &log)?;
        figures.collected = size_of(&tool.repository())?;
        Ok(())
    }

    fn restore(&self, tool: &Tool, night: &str, held: &Digests) -> Result<Taken, Box<dyn Error>> {
        let target = self.scratch.join("target");
        fs::create_dir(&target)?;
        let calls = tool.restore(night, &self.source, &target);
        let taken = run(&calls, &tool.variables(), &self.log(tool))?;
        if digests(&tool.restored(&self.source, &target))? != *held {
            return Err(format!("{} gave back other bytes of {night}", tool.version).into());
        }
        fs::remove_dir_all(&target)?;
        Ok(taken)
    }
}

/// Every regular file below a folder, with its size.
fn files(folder: &Path) -> std::io::Result<Vec<(PathBuf, u64)>> {
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

fn size_of(folder: &Path) -> std::io::Result<u64> {
    Ok(files(folder)?.iter().map(|(_, size)| size).sum())
}

fn digests(folder: &Path) -> std::io::Result<Digests> {
    let digest = |(path, _): (PathBuf, u64)| {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(fs::File::open(&path)?)?;
        let inside = path.strip_prefix(folder).unwrap_or(&path).to_owned();
        Ok((inside, hasher.finalize()))
    };
    files(folder)?.into_iter().map(digest).collect()
}

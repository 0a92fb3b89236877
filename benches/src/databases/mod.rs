//! What a night of a live PostgreSQL database costs: the same nights in hucha's three forms and in
//! restic, each restored at the end and compared with the live database. Bytes are what is
//! compared; seconds are told, and decide nothing.

mod server;
mod table;
mod way;

use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::arguments::Typed;
use crate::compare::machine;
use crate::compare::measure::run;
use crate::compare::tools::{self, Kind, Tool};
use crate::compare::trial::{remove, size_of, sync};
use crate::corpus::shop::postgres::Script;
use server::{SHOP, Server};
use table::{Line, Nights};
use way::{FORMS, Way};

const KNOWN: [&str; 3] = ["--nights", "--percent", "--out"];
/// As of a comparison: chains of deltas are full for the first time.
const NIGHTS: usize = 14;
/// Nights that have passed when the first snapshot is taken, so that tables have free places.
const AGE: usize = 5;

/// Everything that is needed for a night.
struct Trial {
    server: Server,
    script: Script,
    lines: Vec<Line>,
    scratch: PathBuf,
}

/// Runs everything and writes the tables in Markdown.
///
/// # Errors
/// When a program fails, or a restored database is not the live one.
pub fn databases(arguments: &[OsString]) -> Result<(), Box<dyn Error>> {
    let typed = Typed::read(arguments, &KNOWN)?;
    let nights = typed.options.number("--nights", NIGHTS)?.max(2);
    let percent = typed.options.number("--percent", 100)?;
    let scratch = typed.scratch.join("hucha-databases");
    remove(&scratch)?;
    let mut trial = Trial {
        server: Server::start()?,
        script: Script::new(percent),
        lines: lines(&typed.hucha, &scratch)?,
        scratch: scratch.clone(),
    };
    let told = trial.run(nights)?;
    let mut out = machine::header("A PostgreSQL database, night after night", &scratch);
    out.push_str(&table::tables(&told, &trial.lines));
    drop(trial);
    fs::remove_dir_all(&scratch)?;
    Ok(typed.options.write(&out)?)
}

/// Each way with a repository of its own, then all forms of hucha in one.
fn lines(hucha: &Path, scratch: &Path) -> Result<Vec<Line>, Box<dyn Error>> {
    let tools = tools::present(hucha, scratch);
    let tool = |kind: Kind| tools.iter().find(|tool| tool.kind == kind);
    let own = tool(Kind::Hucha).ok_or("hucha does not tell its version")?;
    let peer = tool(Kind::Restic).ok_or("restic is not on PATH")?;
    let line = |way: Way, tool: &Tool, home: &str| {
        let is_shared = home == table::SHARED;
        Line::new(way, tool.at(scratch.join(home)), is_shared)
    };
    let apart = FORMS.map(|way| line(way, own, way.name()));
    let restic = line(Way::Restic, peer, Way::Restic.name());
    let shared = FORMS.map(|way| line(way, own, table::SHARED));
    Ok(apart.into_iter().chain([restic]).chain(shared).collect())
}

impl Trial {
    fn run(&mut self, nights: usize) -> Result<Nights, Box<dyn Error>> {
        for line in &self.lines {
            if !line.tool.home().exists() {
                fs::create_dir_all(line.tool.home())?;
                run(&line.tool.init(), &line.tool.variables(), &self.log(line))?;
            }
        }
        eprintln!("a shop of {} rows", self.script.rows());
        self.server.feed(SHOP, |out| self.script.make(out))?;
        for _ in 0..AGE {
            self.next_night()?;
        }
        let mut told = Nights {
            server: self.server.version()?,
            dumped: [self.dumped()?, 0],
            ..Nights::default()
        };
        for night in 1..=nights {
            if night > 1 {
                let rows = self.script.rows();
                let touched = self.next_night()?;
                told.touched.push(touched as f64 / rows as f64);
            }
            self.store(night)?;
        }
        told.dumped[1] = self.dumped()?;
        told.rows = self.script.rows();
        self.restore()?;
        Ok(told)
    }

    /// Lets a night pass in the live database; answers how many rows it touched.
    fn next_night(&mut self) -> Result<usize, Box<dyn Error>> {
        let mut touched = 0;
        let script = &mut self.script;
        self.server.feed(SHOP, |out| {
            touched = script.next_night(out)?;
            Ok(())
        })?;
        self.server.end_night()?;
        Ok(touched)
    }

    /// Stores the same state in every way.
    fn store(&mut self, night: usize) -> Result<(), Box<dyn Error>> {
        let address = self.server.address(SHOP);
        for n in 0..self.lines.len() {
            let Some(line) = self.lines.get(n) else { break };
            let (tool, log) = (line.tool.clone(), self.log(line));
            let before = size_of(&tool.repository())?.cast_signed();
            sync()?;
            let calls = line.way.snapshot(&tool, &address);
            let taken = run(&calls, &tool.variables(), &log)?;
            let grown = size_of(&tool.repository())?.cast_signed() - before;
            let mb = grown as f64 / 1e6;
            let seconds = taken.seconds;
            eprintln!(
                "night {night}: {}: {mb:.2} MB, {seconds:.1} s",
                line.title()
            );
            if let Some(line) = self.lines.get_mut(n) {
                line.push(grown, seconds);
            }
        }
        Ok(())
    }

    /// Makes a database of the last night of each way, and compares it with the live one.
    fn restore(&mut self) -> Result<(), Box<dyn Error>> {
        let live = self.server.contents(SHOP)?;
        for n in 0..self.lines.len() {
            let Some(line) = self.lines.get(n) else { break };
            let name = format!("restored_{n}");
            if line.way == Way::Restic {
                self.server.create(&name)?;
            }
            let calls = line
                .way
                .restore(&line.tool, SHOP, &self.server.address(&name));
            let log = self.log(line);
            let taken = run(&calls, &line.tool.variables(), &log)?;
            if self.server.contents(&name)? != live {
                return Err(format!("{}: the restored rows are others", line.title()).into());
            }
            self.server.remove(&name)?;
            eprintln!("restored: {}: {:.1} s", line.title(), taken.seconds);
            if let Some(line) = self.lines.get_mut(n) {
                line.restored = Some(taken.seconds);
            }
        }
        Ok(())
    }

    /// Bytes of a script of `pg_dump`.
    fn dumped(&self) -> Result<u64, Box<dyn Error>> {
        let mut command = Command::new("pg_dump");
        command.args(["-d", &self.server.address(SHOP)]);
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let bytes = match child.stdout.take() {
            Some(mut out) => std::io::copy(&mut out, &mut std::io::sink())?,
            None => 0,
        };
        match child.wait()?.success() {
            true => Ok(bytes),
            false => Err("pg_dump failed".into()),
        }
    }

    fn log(&self, line: &Line) -> PathBuf {
        self.scratch.join(format!("{}.log", line.way.name()))
    }
}

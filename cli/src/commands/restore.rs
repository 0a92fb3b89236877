//! `restore`.

use std::io::{Error, ErrorKind, Read};

use hucha_sources::pattern::Patterns;
use hucha_sources::tree::{FolderTarget, TargetOptions};
use hucha_store::entry::Entry;
use hucha_store::restore::{RestoreOptions, RestoreReport, Select, restore as write};
use hucha_store::target::{Kept, Target, TargetError, TargetFile};

use super::{Run, find};
use crate::args::RestoreArgs;
use crate::errors::{Code, Failure, Outcome};
use crate::names;
use crate::open::open;
use crate::render::json::Trouble;
use crate::render::progress::Progress;
use crate::render::text;

/// Most lines about metadata that was refused.
const MAX_REFUSED: usize = 20;

/// Writes a snapshot, or a part of it, into a folder.
pub fn restore(run: &mut Run, args: &RestoreArgs) -> Outcome {
    let name = names::parse(&args.snapshot, &run.zone)?;
    let choice = Choice::new(args, &name.path)?;
    let repository = open(&run.settings)?;
    let manifest = find(&repository, &name, &args.filter)?;
    if !name.path.is_empty() {
        // Before the target is made.
        hucha_store::browse::entry(&repository, &manifest, &name.path)?;
    }
    let options = RestoreOptions {
        path: name.path.clone(),
        select: &|path, is_folder| choice.select(path, is_folder),
        dry_run: run.settings.dry_run,
        verify: args.verify,
    };
    let folder = match run.settings.dry_run {
        true => None,
        false => Some(FolderTarget::new(&args.target, TargetOptions::default())?),
    };
    let target: &dyn Target = folder.as_ref().map_or(&Nowhere, |f| f);
    let progress = Progress::start(&run.settings);
    let report = write(&repository, &manifest, target, &options, &progress);
    drop(progress);
    let report = report?;
    if let Some(folder) = &folder {
        remarks(run, folder);
    }
    let id = manifest.id.to_string();
    tell(run, &report, &id)
}

/// Which entries are restored. Patterns see paths as they will stand in the target, as restic's do.
struct Choice {
    include: Patterns,
    exclude: Patterns,
    /// Of the folder that is restored.
    prefix: Vec<u8>,
}

impl Choice {
    fn new(args: &RestoreArgs, path: &[u8]) -> Result<Choice, Failure> {
        Ok(Choice {
            include: Patterns::new(&args.include)?,
            exclude: Patterns::new(&args.exclude)?,
            prefix: path.to_vec(),
        })
    }

    fn select(&self, path: &[u8], is_folder: bool) -> Select {
        let inside = path.strip_prefix(&*self.prefix).unwrap_or(path);
        if inside.is_empty() && !is_folder {
            // A file that was named itself.
            return Select::Take;
        }
        if self.exclude.matches(inside) {
            return Select::Skip;
        }
        if self.include.is_empty() || self.include.matches(inside) {
            return Select::Take;
        }
        match is_folder && (inside.is_empty() || self.include.may_match_below(inside)) {
            true => Select::Descend,
            false => Select::Skip,
        }
    }
}

fn remarks(run: &mut Run, folder: &FolderTarget) {
    if folder.owners_skipped() {
        run.out
            .remark("owners and groups were not restored: that takes root");
    }
    match folder.sockets_skipped() {
        0 => {}
        1 => run
            .out
            .remark("1 socket was not restored: the program that uses it makes it anew"),
        n => run.out.remark(&format!(
            "{} sockets were not restored: the programs that use them make them anew",
            text::count(n)
        )),
    }
}

fn tell(run: &mut Run, report: &RestoreReport, id: &str) -> Outcome {
    if run.out.json {
        let troubles = |all: &[hucha_store::source::Problem]| -> Vec<Trouble> {
            all.iter().map(Into::into).collect()
        };
        run.out.object(
            "restored",
            &serde_json::json!({
                "id": id,
                "entries": report.entries,
                "files": report.files,
                "bytes": report.bytes,
                "written": report.written,
                "kept": report.kept,
                "verified": report.verified,
                "dry_run": run.settings.dry_run,
                "problems": troubles(&report.problems),
                "damaged": troubles(&report.damaged),
                "refused": report.refused,
            }),
        )?;
    } else {
        for line in report.refused.iter().take(MAX_REFUSED) {
            run.out.remark(&format!("refused: {}", text::lines(line)));
        }
        if report.refused.len() > MAX_REFUSED {
            let more = (report.refused.len() - MAX_REFUSED) as u64;
            run.out
                .remark(&format!("refused: {} more", text::count(more)));
        }
        run.out.summary(&sum(report, run.settings.dry_run))?;
    }
    if !report.damaged.is_empty() {
        let count = text::counted(report.damaged.len() as u64, "file is", "files are");
        return Err(Failure::new(
            Code::Damaged,
            format_args!("{count} damaged in the repository and not restored"),
        )
        .hint("try an older snapshot; `hucha check --read-data` tells what is affected"));
    }
    if report.problems.is_empty() && report.refused.is_empty() {
        return Ok(Code::Done);
    }
    run.out
        .remark("not everything could be restored, see above");
    Ok(Code::Incomplete)
}

fn sum(report: &RestoreReport, dry_run: bool) -> String {
    let files = text::counted(report.files, "file", "files");
    let mut line = match dry_run {
        true => format!("would restore {files}, {}", text::size(report.bytes)),
        false => format!("restored {files}, {}", text::size(report.bytes)),
    };
    if report.kept > 0 {
        line += &format!("; {} were right already", text::count(report.kept));
    }
    if report.verified > 0 {
        line += &format!("; {} verified", text::count(report.verified));
    }
    line
}

/// The target of a dry run: nothing is there, and nothing can be made.
struct Nowhere;

fn never() -> TargetError {
    TargetError {
        what: "a dry run writes nothing".to_owned(),
        source: Some(Error::from(ErrorKind::Unsupported)),
    }
}

impl Target for Nowhere {
    fn make(&self, _: &Entry) -> Result<Kept, TargetError> {
        Err(never())
    }

    fn finish_folder(&self, _: &Entry) -> Result<Kept, TargetError> {
        Err(never())
    }

    fn link(&self, _: &Entry, _: &[u8]) -> Result<(), TargetError> {
        Err(never())
    }

    fn existing(&self, _: &Entry) -> Option<Box<dyn Read>> {
        None
    }

    fn settle(&self, _: &Entry) -> Result<Kept, TargetError> {
        Err(never())
    }

    fn create(&self, _: &Entry) -> Result<Box<dyn TargetFile>, TargetError> {
        Err(never())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(include: &[&str], exclude: &[&str], prefix: &[u8]) -> Choice {
        Choice {
            include: Patterns::new(include).unwrap(),
            exclude: Patterns::new(exclude).unwrap(),
            prefix: prefix.to_vec(),
        }
    }

    #[test]
    fn everything_but() {
        let choice = choice(&[], &["*.log"], b"");
        assert_eq!(choice.select(b"", true), Select::Take);
        assert_eq!(choice.select(b"a", true), Select::Take);
        assert_eq!(choice.select(b"a/x.log", false), Select::Skip);
    }

    #[test]
    fn only_and_below_a_folder() {
        let choice = choice(&["/b/*.txt"], &["c.txt"], b"srv/shop");
        assert_eq!(choice.select(b"srv/shop", true), Select::Descend);
        assert_eq!(choice.select(b"srv/shop/b", true), Select::Descend);
        assert_eq!(choice.select(b"srv/shop/z", true), Select::Skip);
        assert_eq!(choice.select(b"srv/shop/b/a.txt", false), Select::Take);
        assert_eq!(choice.select(b"srv/shop/b/c.txt", false), Select::Skip);
        assert_eq!(choice.select(b"srv/shop/b/a.bin", false), Select::Skip);
    }

    #[test]
    fn a_file_named_itself() {
        assert_eq!(
            choice(&["x"], &["b"], b"a/b").select(b"a/b", false),
            Select::Take
        );
    }
}

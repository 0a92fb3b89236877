//! `restore`.

use std::path::{Component, Path};

use hucha_sources::tree::{FolderTarget, Owners, TargetOptions};
use hucha_store::notes::{self, Proof};
use hucha_store::restore::{Overwrite, RestoreOptions, RestoreReport, restore as write};
use hucha_store::source::Problem;
use hucha_store::target::{Nowhere, Target};

use super::choice::Choice;
use super::{Run, find};
use crate::args::{OverwriteArg, RestoreArgs};
use crate::errors::{Code, Failure, Outcome};
use crate::names;
use crate::open::open;
use crate::render::json::{Trouble, texts_and_hex};
use crate::render::progress::Progress;
use crate::render::text;

/// Writes a snapshot, or a part of it, into a folder.
pub fn restore(run: &mut Run, args: &RestoreArgs) -> Outcome {
    if let Some(address) = &args.to.to {
        return super::database::restore_to(run, args, address);
    }
    let Some(folder) = &args.target else {
        return Err(Failure::usage("no folder given to restore into"));
    };
    let name = names::parse(&args.snapshot, &run.zone)?;
    let choice = Choice::new(&args.choice, &name.path)?;
    refuse_to_empty_the_machine(args, folder)?;
    let repository = open(&run.settings)?;
    let manifest = find(&repository, &name, &args.filter)?;
    if !name.path.is_empty() {
        // Before the target is made.
        hucha_store::browse::entry(&repository, &manifest, &name.path)?;
    }
    let options = RestoreOptions {
        path: name.path.clone(),
        select: &|path, is_folder| choice.select(path, is_folder),
        overwrite: overwrite(args.overwrite),
        delete: args.delete,
        sparse: args.sparse,
        dry_run: run.settings.dry_run,
        verify: args.verify,
    };
    let folder = target(args, folder, run.settings.dry_run)?;
    let target: &dyn Target = folder.as_ref().map_or(&Nowhere, |f| f);
    let progress = Progress::start(&run.settings);
    let report = write(&repository, &manifest, target, &options, &progress);
    drop(progress);
    let report = report?;
    if let Some(folder) = &folder {
        remarks(run, folder);
    }
    let all = name.path.is_empty() && args.choice.takes_all() && !run.settings.dry_run;
    if args.verify && all && proves(&report) {
        // A repository that may only be read is no reason to fail.
        let _ = notes::verified(&repository, [manifest.id], Proof::Restore);
    }
    let id = manifest.id.to_string();
    tell(run, &report, &id)?;
    judge(run, &report)
}

/// Whether all of a snapshot was written, nothing was taken for right as it was there, and what was
/// written is what the snapshot holds.
fn proves(report: &RestoreReport) -> bool {
    let anew = report.kept == 0 && report.skipped == 0 && report.reused == 0;
    let wrong = [&report.problems, &report.damaged, &report.differing];
    anew && wrong.iter().all(|list| list.is_empty())
}

fn overwrite(typed: OverwriteArg) -> Overwrite {
    match typed {
        OverwriteArg::Always => Overwrite::Always,
        OverwriteArg::Changed => Overwrite::Changed,
        OverwriteArg::Newer => Overwrite::Newer,
        OverwriteArg::Never => Overwrite::Never,
    }
}

/// `--delete` into the root of the machine would remove what no snapshot was asked about.
fn refuse_to_empty_the_machine(args: &RestoreArgs, folder: &Path) -> Result<(), Failure> {
    let is_root = |path: &Path| path.components().eq([Component::RootDir]);
    let target = std::fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    if args.delete && args.choice.includes_all() && is_root(&target) {
        let failure = Failure::usage("--delete with the target \"/\" would remove all other files");
        return Err(failure.hint("say with --include which part is to be like the snapshot"));
    }
    Ok(())
}

/// The target; a dry run makes none.
fn target(
    args: &RestoreArgs,
    folder: &Path,
    dry_run: bool,
) -> Result<Option<FolderTarget>, Failure> {
    let options = TargetOptions {
        owners: match args.numeric_ids {
            true => Owners::ByNumber,
            false => Owners::ByName,
        },
        ..TargetOptions::default()
    };
    Ok(match dry_run {
        true => FolderTarget::existing(folder, options)?,
        false => Some(FolderTarget::new(folder, options)?),
    })
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

/// Prints what was done, or would be.
fn tell(run: &mut Run, report: &RestoreReport, id: &str) -> Result<(), Failure> {
    let dry_run = run.settings.dry_run;
    if run.out.json {
        let troubles = |all: &[Problem]| -> Vec<Trouble> { all.iter().map(Into::into).collect() };
        let (surplus, surplus_bytes) = texts_and_hex(&report.surplus);
        let mut object = serde_json::json!({
                "id": id,
                "entries": report.entries,
                "files": report.files,
                "bytes": report.bytes,
                "written": report.written,
                "kept": report.kept,
                "skipped": report.skipped,
                "fetched_bytes": report.fetched,
                "decoded_bytes": report.decoded,
            "reused_bytes": report.reused,
                "removed": report.removed,
                "surplus": surplus,
                "verified": report.verified,
                "dry_run": dry_run,
                "problems": troubles(&report.problems),
                "damaged": troubles(&report.damaged),
                "differing": troubles(&report.differing),
                "refused": report.refused,
        });
        if let Some(bytes) = surplus_bytes {
            object["surplus_bytes"] = bytes.into();
        }
        return run.out.object("restored", &object);
    }
    run.out
        .remarks("refused", report.refused.iter().map(|l| text::lines(l)));
    if dry_run {
        let names = report.surplus.iter().map(|path| text::name(path));
        run.out.remarks("would remove", names);
    }
    run.out.summary(&sum(report, dry_run))
}

/// How it ends: damage counts most, then a target that is not what was written, then what the
/// target refused.
fn judge(run: &mut Run, report: &RestoreReport) -> Outcome {
    if !report.differing.is_empty() && !run.out.json {
        let paths = report.differing.iter().map(|p| text::name(&p.path));
        run.out.remarks("differs", paths);
    }
    if !report.damaged.is_empty() {
        let count = text::counted(report.damaged.len() as u64, "file is", "files are");
        return Err(Failure::new(
            Code::Damaged,
            format_args!("{count} damaged in the repository and not restored"),
        )
        .hint("try an older snapshot; `hucha check --read-data` tells what is affected"));
    }
    if !report.differing.is_empty() {
        let count = text::counted(report.differing.len() as u64, "file", "files");
        let failure = Failure::failed(format_args!(
            "{count} in the target differ from what was written there"
        ));
        return Err(failure.hint(
            "did another program change them meanwhile? If not, check the disk of the target",
        ));
    }
    if report.problems.is_empty() && report.refused.is_empty() {
        return Ok(Code::Done);
    }
    run.out
        .remark("not everything could be restored, see above");
    Ok(Code::Incomplete)
}

fn sum(report: &RestoreReport, dry_run: bool) -> String {
    let (done, removed) = match dry_run {
        true => ("would restore", "would be removed"),
        false => ("restored", "removed"),
    };
    let files = text::counted(report.files, "file", "files");
    let mut line = format!("{done} {files}, {}", text::size(report.bytes));
    if dry_run {
        let fetched = text::size(report.fetched);
        let files = text::counted(report.written, "file", "files");
        line += &format!("; {files} would be written with {fetched} from the repository");
    }
    if report.kept > 0 {
        line += &format!("; {} were right already", text::count(report.kept));
    }
    if report.skipped > 0 {
        line += &format!("; {} left as they were", text::count(report.skipped));
    }
    if report.removed > 0 {
        line += &format!("; {} {removed}", text::count(report.removed));
    }
    if report.verified > 0 {
        line += &format!("; {} verified", text::count(report.verified));
    }
    line
}

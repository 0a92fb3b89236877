//! `rewrite`.

use hucha_store::forget::forget;
use hucha_store::format::objects::Manifest;
use hucha_store::snapshot::rewrite::{RewriteOptions, RewriteReport, rewrite as write};

use super::protect::refuse_protected;
use super::{Run, named_or_filtered, now};
use crate::args::RewriteArgs;
use crate::errors::{Code, Failure, Outcome};
use crate::open::open;
use crate::render::json::Rewritten;
use crate::render::text;
use crate::{lists, times};

/// Commits snapshots again without what is excluded.
pub fn rewrite(run: &mut Run, args: &RewriteArgs) -> Outcome {
    let excluded = lists::excluded(&args.exclude)?;
    if excluded.is_empty() && args.new_host.is_none() && args.new_time.is_none() {
        let failure = Failure::usage("nothing to leave out or to change");
        return Err(failure.hint("use --exclude PATTERN, --new-host or --new-time"));
    }
    let time = match &args.new_time {
        Some(typed) => {
            let time = times::parse(typed, now(), &run.zone).map_err(Failure::usage)?;
            Some((time, times::offset_at(&run.zone, time)))
        }
        None => None,
    };
    let options = RewriteOptions {
        exclude: &|entry| excluded.matches(&entry.path),
        host: args.new_host.clone(),
        time,
        dry_run: run.settings.dry_run,
    };
    let repository = open(&run.settings)?;
    // With tags and labels as notes have them: the new snapshot bears them itself. All are found
    // before the first is rewritten: `latest` stays what it was.
    let picked = named_or_filtered(run, &repository, &args.snapshots, &args.filter)?;
    if args.forget {
        refuse_protected(&picked.notes, &picked.manifests, "rewritten")?;
    }
    for manifest in picked.manifests {
        let report = write(&repository, &manifest, &options)?;
        let forgotten = args.forget && report.manifest.is_some();
        if forgotten {
            let objects = picked.committed.iter().filter(|m| m.id == manifest.id);
            for object in objects {
                forget(&repository, object, &picked.notes)?;
            }
        }
        tell(run, &manifest, &report, forgotten)?;
    }
    if args.forget && !run.settings.dry_run {
        run.out.remark(
            "`hucha gc` removes what was left out; until then `hucha undelete` takes it back",
        );
    }
    Ok(Code::Done)
}

fn tell(
    run: &mut Run,
    manifest: &Manifest,
    report: &RewriteReport,
    forgotten: bool,
) -> Result<(), Failure> {
    let dry_run = run.settings.dry_run;
    if run.out.json {
        let removed = report.removed;
        let rewritten = Rewritten {
            id: manifest.id.to_string(),
            new_id: report.manifest.as_ref().map(|m| m.id.to_string()),
            removed_entries: removed.entries,
            removed_files: removed.files,
            removed_bytes: removed.bytes,
            forgotten,
            dry_run,
        };
        return run.out.object("rewritten", &rewritten);
    }
    let removed = format!(
        "{}, {}",
        text::counted(report.removed.entries, "entry", "entries"),
        text::size(report.removed.bytes)
    );
    let id = format!("{:.8}", manifest.id);
    run.out.summary(&match &report.manifest {
        Some(new) => {
            let end = if forgotten { ", and is forgotten" } else { "" };
            format!("snapshot {id} is now {:.8}, without {removed}{end}", new.id)
        }
        None if report.changes => format!("snapshot {id} would be taken again without {removed}"),
        None => format!("snapshot {id} stays as it is: it holds nothing of that"),
    })
}

//! `repair`.

use hucha_store::repair::{self, Done, Loss, Lost, LostPart, Part, RepairOptions, RepairReport};

use super::Run;
use crate::args::{PartArg, RepairArgs};
use crate::errors::{Code, Failure, Outcome};
use crate::open::open_for_repair;
use crate::render::json::Trouble;
use crate::render::progress::Progress;
use crate::render::text;

/// Most lost parts that are named for one snapshot.
const MAX_PARTS: usize = 20;

/// Makes whole what can be made whole, and names what is lost.
pub fn repair(run: &mut Run, args: &RepairArgs) -> Outcome {
    let options = RepairOptions {
        part: args.part.map(part),
        lost: match args.give_up_lost {
            true => Lost::GiveUp,
            false => Lost::Keep,
        },
        dry_run: run.settings.dry_run,
    };
    let (repository, config) = open_for_repair(&run.settings)?;
    let progress = Progress::start_quietly(&run.settings);
    let report = repair::repair(&repository, &config, &options, &progress);
    drop(progress);
    let report = report?;
    match run.out.json {
        true => {
            let object = repaired(&report, run.settings.dry_run);
            run.out.object("repair", &object)?;
        }
        false => findings(run, &report)?,
    }
    if report.losses.is_empty() {
        return Ok(Code::Done);
    }
    let count = text::counted(report.losses.len() as u64, "thing stays", "things stay");
    Err(Failure::new(Code::Damaged, format_args!("{count} damaged"))
        .hint("what can be done stands beside each"))
}

fn part(typed: PartArg) -> Part {
    match typed {
        PartArg::Config => Part::Config,
        PartArg::Index => Part::Index,
        PartArg::Packs => Part::Packs,
        PartArg::Snapshots => Part::Snapshots,
    }
}

fn name(part: Part) -> &'static str {
    match part {
        Part::Config => "config",
        Part::Index => "index",
        Part::Packs => "packs",
        Part::Snapshots => "snapshots",
    }
}

fn findings(run: &mut Run, report: &RepairReport) -> Result<(), Failure> {
    let verb = match run.settings.dry_run {
        true => "would repair",
        false => "repaired",
    };
    for done in &report.done {
        let what = text::lines(&done.what);
        run.out.line(&format!("{verb}: {}: {what}", done.object))?;
        parts(run, &done.parts, done.parts.len() as u64)?;
    }
    for loss in &report.losses {
        let what = text::lines(&loss.what);
        run.out.line(&format!("lost: {}: {what}", loss.object))?;
        parts(run, &loss.parts, loss.count)?;
        run.out.line(&format!("  {}", text::lines(&loss.hint)))?;
    }
    if report.chunks_copied > 0 {
        let chunks = text::counted(report.chunks_copied, "chunk", "chunks");
        let bytes = text::size(report.bytes_copied);
        run.out.summary(&format!(
            "copied {chunks} out of damaged packs, {bytes} written"
        ))?;
    }
    if !report.unknown.is_empty() {
        run.out
            .remark("what packs and snapshots need is known when the index is repaired");
    }
    if report.done.is_empty() && report.losses.is_empty() && report.chunks_copied == 0 {
        run.out.summary("there is nothing to repair")?;
    }
    Ok(())
}

fn parts(run: &mut Run, parts: &[LostPart], count: u64) -> Result<(), Failure> {
    for part in parts.iter().take(MAX_PARTS) {
        let path = text::name(part.path());
        run.out.line(&format!("  {path}: {part}"))?;
    }
    let more = count.saturating_sub(parts.len().min(MAX_PARTS) as u64);
    if more > 0 {
        run.out.line(&format!("  and {more} more"))?;
    }
    Ok(())
}

fn repaired(report: &RepairReport, dry_run: bool) -> serde_json::Value {
    let lost = |parts: &[LostPart]| -> Vec<Trouble> { parts.iter().map(trouble).collect() };
    let done = |done: &Done| {
        serde_json::json!({
            "object": done.object,
            "what": done.what,
            "snapshot": done.snapshot.map(|id| id.to_string()),
            "lost": lost(&done.parts),
        })
    };
    let loss = |loss: &Loss| {
        serde_json::json!({
            "object": loss.object,
            "what": loss.what,
            "snapshot": loss.snapshot.map(|id| id.to_string()),
            "lost": lost(&loss.parts),
            "lost_count": loss.count,
            "hint": loss.hint,
        })
    };
    serde_json::json!({
        "dry_run": dry_run,
        "done": report.done.iter().map(done).collect::<Vec<_>>(),
        "losses": report.losses.iter().map(loss).collect::<Vec<_>>(),
        "unknown": report.unknown.iter().map(|p| name(*p)).collect::<Vec<_>>(),
        "packs_condemned": report.packs_condemned,
        "packs_indexed": report.packs_indexed,
        "segments_superseded": report.segments_superseded,
        "chunks_copied": report.chunks_copied,
        "bytes_copied": report.bytes_copied,
        "chunks_lost": report.chunks_lost,
        "snapshots_rewritten": report.snapshots_rewritten,
    })
}

fn trouble(part: &LostPart) -> Trouble {
    Trouble::new(part.path(), part.to_string())
}

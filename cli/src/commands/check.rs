//! `check`.

use hucha_store::check::{self, CheckOptions, CheckReport, Damage, Level};

use super::Run;
use crate::args::CheckArgs;
use crate::errors::{Code, Failure, Outcome};
use crate::open::open;
use crate::render::json::text_and_hex;
use crate::render::progress::Progress;
use crate::render::text;

/// Most files that are named for one damage.
const MAX_FILES: usize = 10;

/// Checks the repository.
pub fn check(run: &mut Run, args: &CheckArgs) -> Outcome {
    let repository = open(&run.settings)?;
    let progress = Progress::start_quietly(&run.settings);
    let options = CheckOptions {
        level: match args.read_data {
            true => Level::Data,
            false => Level::Structure,
        },
    };
    let report = check::check(&repository, &options, &progress);
    drop(progress);
    let report = report?;
    match run.out.json {
        true => run.out.object("check", &checked(&report))?,
        false => findings(run, &report)?,
    }
    if report.damage.is_empty() {
        return Ok(Code::Done);
    }
    let count = text::counted(report.damage.len() as u64, "thing is", "things are");
    Err(Failure::new(Code::Damaged, format_args!("{count} damaged")))
}

fn findings(run: &mut Run, report: &CheckReport) -> Result<(), Failure> {
    for note in &report.notes {
        run.out.remark(&text::lines(note));
    }
    for damage in &report.damage {
        run.out.line(&format!(
            "damaged: {}: {}",
            damage.object,
            text::lines(&damage.what)
        ))?;
        if !damage.snapshots.is_empty() {
            let ids: Vec<String> = damage
                .snapshots
                .iter()
                .map(|id| format!("{id:.8}"))
                .collect();
            run.out.line(&format!("  needed by: {}", ids.join(", ")))?;
        }
        for file in damage.files.iter().take(MAX_FILES) {
            run.out.line(&format!("  file: {}", text::name(file)))?;
        }
        let more = damage.files.len().saturating_sub(MAX_FILES) as u64 + damage.more_files;
        if more > 0 {
            run.out.line(&format!("  and {more} files more"))?;
        }
        lost_paths(run, damage)?;
    }
    let looked = format!(
        "checked {}, {}, {} read",
        text::counted(report.snapshots, "snapshot", "snapshots"),
        text::counted(report.packs, "pack", "packs"),
        text::size(report.bytes_read),
    );
    let verdict = if report.damage.is_empty() {
        "; all is well"
    } else {
        ""
    };
    run.out.summary(&format!("{looked}{verdict}"))
}

/// Entries whose names nobody can tell any more.
fn lost_paths(run: &mut Run, damage: &Damage) -> Result<(), Failure> {
    for lost in damage.lost.iter().take(MAX_FILES) {
        let count = text::counted(lost.entries, "entry", "entries");
        let from = match lost.first.is_empty() {
            true => "from the beginning".to_owned(),
            false => format!("from {}", text::name(&lost.first)),
        };
        let until = match &lost.until {
            None => "to the end".to_owned(),
            Some(path) => format!("to before {}", text::name(path)),
        };
        run.out.line(&format!("  lost: {count} {from} {until}"))?;
    }
    let more = damage.lost.len().saturating_sub(MAX_FILES) as u64 + damage.more_lost;
    if more > 0 {
        run.out.line(&format!("  and {more} more such ranges"))?;
    }
    Ok(())
}

fn checked(report: &CheckReport) -> serde_json::Value {
    let damage = |damage: &Damage| {
        let files: Vec<String> = damage.files.iter().map(|f| text_and_hex(f).0).collect();
        let ids: Vec<String> = damage.snapshots.iter().map(ToString::to_string).collect();
        serde_json::json!({
            "kind": damage.kind.name(), "object": damage.object, "what": damage.what,
            "snapshots": ids, "files": files,
        })
    };
    serde_json::json!({
        "snapshots": report.snapshots,
        "packs": report.packs,
        "chunks": report.chunks,
        "bytes_read": report.bytes_read,
        "damage": report.damage.iter().map(damage).collect::<Vec<_>>(),
        "notes": report.notes,
    })
}

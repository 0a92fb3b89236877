//! `check`.

use std::time::Duration;

use hucha_store::check::{self, CheckOptions, CheckReport, Damage, Level, Subset};

use super::Run;
use crate::args::{CheckArgs, LevelArg};
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
    let options = options(args, run.settings.dry_run);
    let report = check::check(&repository, &options, &progress);
    drop(progress);
    let report = report?;
    match run.out.json {
        true => run.out.object("check", &checked(&options, &report))?,
        false => findings(run, &options, &report)?,
    }
    if report.damage.is_empty() {
        return Ok(Code::Done);
    }
    let all = report.damage.len() as u64 + report.more_damage;
    let count = text::counted(all, "thing is", "things are");
    Err(Failure::new(Code::Damaged, format_args!("{count} damaged")))
}

fn options(args: &CheckArgs, dry_run: bool) -> CheckOptions {
    let reads = args.read_data || args.read_data_subset.is_some() || args.budget.is_some();
    let level = match args.level {
        Some(LevelArg::Index) => Level::Index,
        Some(LevelArg::Data) => Level::Data,
        _ if reads => Level::Data,
        _ => Level::Structure,
    };
    CheckOptions {
        level,
        subset: args.read_data_subset,
        budget: args.budget.map(Duration::from_secs),
        dry_run,
    }
}

fn findings(run: &mut Run, options: &CheckOptions, report: &CheckReport) -> Result<(), Failure> {
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
    if report.more_damage > 0 {
        let more = text::counted(report.more_damage, "thing", "things");
        run.out.line(&format!("damaged: {more} more"))?;
    }
    let looked = format!(
        "checked {}, {}{}",
        text::counted(report.snapshots, "snapshot", "snapshots"),
        text::counted(report.packs, "pack", "packs"),
        read(options, report),
    );
    let verdict = match (report.damage.is_empty(), is_all(options, report)) {
        (false, _) => "",
        (true, true) => "; all is well",
        (true, false) => "; what was read is well",
    };
    run.out.summary(&format!("{looked}{verdict}"))
}

/// Whether everything that the level asks for was looked at.
fn is_all(options: &CheckOptions, report: &CheckReport) -> bool {
    options.level != Level::Data || report.packs_read >= report.packs
}

/// How much of the data was read.
fn read(options: &CheckOptions, report: &CheckReport) -> String {
    let share = match report.bytes {
        0 => 100.0,
        bytes => report.bytes_read as f64 / bytes as f64 * 100.0,
    };
    match options.level {
        Level::Structure => String::new(),
        Level::Index => ", their directories compared with the index".to_owned(),
        Level::Data => format!(
            ", {} of them read: {} of {} ({share:.1} %)",
            report.packs_read,
            text::size(report.bytes_read),
            text::size(report.bytes),
        ),
    }
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

fn checked(options: &CheckOptions, report: &CheckReport) -> serde_json::Value {
    let level = match options.level {
        Level::Structure => "structure",
        Level::Index => "index",
        Level::Data => "data",
    };
    let subset = options.subset.map(|subset| match subset {
        Subset::Part { number, of } => format!("{number}/{of}"),
        Subset::Percent(percent) => format!("{percent}%"),
        Subset::Bytes(bytes) => bytes.to_string(),
    });
    serde_json::json!({
        "level": level,
        "subset": subset,
        "budget_seconds": options.budget.map(|b| b.as_secs()),
        "snapshots": report.snapshots,
        "chunks": report.chunks,
        "pages": report.pages,
        "packs": report.packs,
        "packs_read": report.packs_read,
        "bytes_total": report.bytes,
        "bytes_read": report.bytes_read,
        "damage": report.damage.iter().map(damaged).collect::<Vec<_>>(),
        "more": report.more_damage,
        "notes": report.notes,
    })
}

fn damaged(damage: &Damage) -> serde_json::Value {
    let files: Vec<String> = damage.files.iter().map(|f| text_and_hex(f).0).collect();
    let ids: Vec<String> = damage.snapshots.iter().map(ToString::to_string).collect();
    let path = |path: &Vec<u8>| text_and_hex(path).0;
    let lost = damage.lost.iter().map(|lost| {
        serde_json::json!({
            "from": path(&lost.first),
            "until": lost.until.as_ref().map(path),
            "entries": lost.entries,
        })
    });
    serde_json::json!({
        "kind": damage.kind.name(),
        "object": damage.object,
        "what": damage.what,
        "snapshots": ids,
        "files": files,
        "more": damage.more_files,
        "lost": lost.collect::<Vec<_>>(),
        "more_lost": damage.more_lost,
    })
}

//! `gc`, `check` and `stats`.

use hucha_store::check::{self, CheckOptions, CheckReport, Damage};
use hucha_store::format::objects::SessionInfo;
use hucha_store::gc::{self, Fence, GcOptions, GcReport, MaxUnused};
use hucha_store::stats;

use super::Run;
use crate::args::{CheckArgs, GcArgs};
use crate::errors::{Code, Failure, Outcome};
use crate::open::open;
use crate::render::json::text_and_hex;
use crate::render::progress::Progress;
use crate::render::table::{Heading, Table};
use crate::render::text;
use crate::sizes::{parse_positive, parse_seconds, parse_size};
use crate::times;

/// Most files that are named for one damage.
const MAX_FILES: usize = 10;

/// Frees what nobody needs.
pub fn gc(run: &mut Run, args: &GcArgs) -> Outcome {
    let options = GcOptions {
        dry_run: run.settings.dry_run,
        max_unused: max_unused(&args.max_unused)?,
        force: args.force,
        fence: fence(&args.fence)?,
    };
    let repository = open(&run.settings)?;
    let progress = Progress::start(&run.settings);
    let report = gc::gc(&repository, &options, &progress);
    drop(progress);
    let report = report?;
    if run.out.json {
        let object = collected(&report, run);
        run.out.object(&object)?;
        return Ok(Code::Done);
    }
    for line in freed(&report, run.settings.dry_run) {
        run.out.summary(&line)?;
    }
    if report.bytes_waiting > 0 {
        waiting(run, &report);
    }
    Ok(Code::Done)
}

fn max_unused(typed: &str) -> Result<MaxUnused, Failure> {
    if typed == "unlimited" {
        return Ok(MaxUnused::Unlimited);
    }
    if let Some(percent) = typed.strip_suffix('%') {
        let percent = parse_positive(percent).filter(|p| *p <= 100.0);
        return percent.map(MaxUnused::Percent).ok_or_else(|| {
            Failure::usage(format_args!("--max-unused {typed:?}: write 0% to 100%"))
        });
    }
    parse_size(typed).map(MaxUnused::Bytes).map_err(|error| {
        Failure::usage(format_args!("--max-unused: {error}")).hint("or a share as 5%, or unlimited")
    })
}

fn fence(typed: &str) -> Result<Fence, Failure> {
    match typed {
        "auto" => Ok(Fence::Auto),
        "now" => Ok(Fence::Now),
        "never" => Ok(Fence::Never),
        other => match other.strip_prefix("idle=") {
            Some(time) => parse_seconds(time)
                .map(Fence::Idle)
                .map_err(|error| Failure::usage(format_args!("--fence: {error}"))),
            None => Err(Failure::usage(format_args!(
                "--fence {other:?}: write auto, now, never, or idle=15m"
            ))),
        },
    }
}

fn freed(report: &GcReport, dry_run: bool) -> Vec<String> {
    let packs = |n| text::counted(n, "pack", "packs");
    let unused = text::size(report.bytes_unused);
    if dry_run {
        let planned = text::size(report.planned_bytes);
        let of = text::size(report.bytes_total);
        let from = packs(report.planned_packs);
        return vec![format!(
            "would free {planned} of {of}, from {from}; {unused} would stay unused"
        )];
    }
    let bytes = text::size(report.bytes_freed);
    let mut lines = vec![match report.packs_deleted {
        0 => "nothing was freed".to_owned(),
        deleted => format!("freed {bytes}, {}", packs(deleted)),
    }];
    if report.bytes_copied > 0 {
        lines.push(format!(
            "copied {} that is still needed",
            text::size(report.bytes_copied)
        ));
    }
    if report.manifests_removed > 0 {
        let count = text::counted(report.manifests_removed, "snapshot", "snapshots");
        lines.push(format!("removed {count} for good"));
    }
    if report.fenced > 0 {
        let count = text::counted(report.fenced, "interrupted run", "interrupted runs");
        lines.push(format!("cleared away {count}"));
    }
    lines.push(format!("{unused} stay unused"));
    lines
}

fn who(session: &SessionInfo) -> String {
    let host = text::name(session.process.host.as_bytes());
    format!("process {} on {host}", session.process.pid)
}

fn waiting(run: &mut Run, report: &GcReport) {
    let bytes = text::size(report.bytes_waiting);
    run.out.remark(&format!(
        "{bytes} more will be freed by a later gc; it waits for"
    ));
    for session in &report.waiting_for {
        let since = times::local(session.started, &run.zone);
        run.out
            .remark(&format!("  {}, since {since}", who(session)));
    }
}

fn collected(report: &GcReport, run: &Run) -> serde_json::Value {
    let waiting = report.waiting_for.iter().map(|session| {
        serde_json::json!({
            "host": session.process.host,
            "pid": session.process.pid,
            "started": times::rfc3339(session.started, 0),
        })
    });
    serde_json::json!({
        "dry_run": run.settings.dry_run,
        "packs_deleted": report.packs_deleted,
        "bytes_freed": report.bytes_freed,
        "bytes_copied": report.bytes_copied,
        "bytes_waiting": report.bytes_waiting,
        "waiting_for": waiting.collect::<Vec<_>>(),
        "fenced": report.fenced,
        "snapshots_removed": report.manifests_removed,
        "bytes_unused": report.bytes_unused,
        "bytes_total": report.bytes_total,
        "planned_packs": report.planned_packs,
        "planned_bytes": report.planned_bytes,
        "segments_merged": report.segments_merged,
    })
}

/// Checks the repository.
pub fn check(run: &mut Run, args: &CheckArgs) -> Outcome {
    let repository = open(&run.settings)?;
    let progress = Progress::start_quietly(&run.settings);
    let options = CheckOptions {
        read_data: args.read_data,
    };
    let report = check::check(&repository, &options, &progress);
    drop(progress);
    let report = report?;
    match run.out.json {
        true => run.out.object(&checked(&report))?,
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
        if damage.files.len() > MAX_FILES {
            run.out.line(&format!(
                "  and {} files more",
                damage.files.len() - MAX_FILES
            ))?;
        }
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

fn checked(report: &CheckReport) -> serde_json::Value {
    let damage = |damage: &Damage| {
        let files: Vec<String> = damage.files.iter().map(|f| text_and_hex(f).0).collect();
        let ids: Vec<String> = damage.snapshots.iter().map(ToString::to_string).collect();
        serde_json::json!({
            "object": damage.object, "what": damage.what, "snapshots": ids, "files": files,
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

/// Shows a repository in numbers.
pub fn stats(run: &mut Run) -> Outcome {
    let repository = open(&run.settings)?;
    let stats = stats::stats(&repository)?;
    if run.out.json {
        run.out.object(&serde_json::json!({
            "snapshots": stats.snapshots,
            "forgotten": stats.forgotten,
            "packs": stats.packs,
            "chunks": stats.chunks,
            "stored_bytes": stats.stored_bytes,
            "pack_bytes": stats.pack_bytes,
            "plain_bytes": stats.plain_bytes,
            "restore_bytes": stats.restore_bytes,
            "condemned_bytes": stats.condemned_bytes,
        }))?;
        return Ok(Code::Done);
    }
    let mut table = Table::new(&[Heading::Left(""), Heading::Right(""), Heading::Left("")]);
    let mut row = |what: &str, value: String, note: &str| {
        table.row(vec![what.to_owned(), value, note.to_owned()]);
    };
    row("Snapshots", text::count(stats.snapshots), "");
    if stats.forgotten > 0 {
        row(
            "Forgotten",
            text::count(stats.forgotten),
            "until gc removes them",
        );
    }
    row(
        "All snapshots together",
        text::size(stats.restore_bytes),
        "what restoring each would write",
    );
    row(
        "Different data",
        text::size(stats.plain_bytes),
        "each chunk once",
    );
    row(
        "Stored",
        text::size(stats.stored_bytes),
        "what the repository takes up",
    );
    if stats.condemned_bytes > 0 {
        row(
            "To be freed",
            text::size(stats.condemned_bytes),
            "by the next gc",
        );
    }
    row("Packs", text::count(stats.packs), "");
    row("Chunks", text::count(stats.chunks), "");
    let lines = table.lines();
    lines
        .iter()
        .skip(1)
        .try_for_each(|line| run.out.line(line))?;
    Ok(Code::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_unused_data() {
        assert_eq!(max_unused("5%").unwrap(), MaxUnused::Percent(5.0));
        assert_eq!(max_unused("0").unwrap(), MaxUnused::Bytes(0));
        assert_eq!(max_unused("200M").unwrap(), MaxUnused::Bytes(200 << 20));
        assert_eq!(max_unused("unlimited").unwrap(), MaxUnused::Unlimited);
        for bad in ["", "%", "101%", "-1%", "x", "5 %", "nan%"] {
            assert!(max_unused(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn when_writers_count_as_dead() {
        assert!(matches!(fence("auto"), Ok(Fence::Auto)));
        assert!(matches!(fence("idle=15m"), Ok(Fence::Idle(900))));
        assert!(matches!(fence("never"), Ok(Fence::Never)));
        for bad in ["", "idle", "idle=", "15m", "always"] {
            assert!(fence(bad).is_err(), "{bad}");
        }
    }
}

//! `gc`.

use hucha_store::format::objects::SessionInfo;
use hucha_store::gc::{self, Fence, GcOptions, GcReport, MaxUnused};
use hucha_store::repository::Repository;

use super::Run;
use crate::args::GcArgs;
use crate::errors::{Code, Failure, Outcome};
use crate::open::open;
use crate::render::progress::Progress;
use crate::render::text;
use crate::sizes::{parse_positive, parse_seconds, parse_size};
use crate::times;

/// Frees what nobody needs.
pub fn gc(run: &mut Run, args: &GcArgs) -> Outcome {
    let options = options(run, args)?;
    let repository = open(&run.settings)?;
    collect(run, &repository, &options)
}

/// What was typed.
pub fn options(run: &Run, args: &GcArgs) -> Result<GcOptions, Failure> {
    Ok(GcOptions {
        dry_run: run.settings.dry_run,
        max_unused: max_unused(&args.max_unused)?,
        force: args.force,
        fence: fence(&args.fence)?,
    })
}

/// Frees what nobody needs in an open repository.
pub fn collect(run: &mut Run, repository: &Repository, options: &GcOptions) -> Outcome {
    let progress = Progress::start(&run.settings);
    let report = gc::gc(repository, options, &progress);
    drop(progress);
    let report = report?;
    if run.out.json {
        let object = collected(&report, run);
        run.out.object("gc", &object)?;
        return Ok(code(&report));
    }
    for line in freed(&report, run.settings.dry_run) {
        run.out.summary(&line)?;
    }
    if report.bytes_waiting > 0 {
        waiting(run, &report);
    }
    held(run, &report);
    if report.out_of_room {
        run.out.remark(
            "no room to rewrite packs that are mostly unused: they stay. Forget more snapshots or \
             make room, then `hucha gc` again",
        );
    }
    Ok(code(&report))
}

fn code(report: &GcReport) -> Code {
    match report.out_of_room {
        true => Code::Incomplete,
        false => Code::Done,
    }
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

/// Damage that repair has found does not stop gc; it is told each time.
fn held(run: &mut Run, report: &GcReport) {
    if report.packs_held > 0 {
        let packs = text::counted(report.packs_held, "pack stays", "packs stay");
        let bytes = text::size(report.bytes_held);
        run.out.remark(&format!(
            "{packs} ({bytes}) that held damaged data which snapshots need: see `hucha repair`"
        ));
    } else if report.chunks_lost > 0 {
        run.out
            .remark("snapshots need data that is lost: see `hucha repair`");
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
        "chunks_lost": report.chunks_lost,
        "packs_held": report.packs_held,
        "bytes_held": report.bytes_held,
        "out_of_room": report.out_of_room,
    })
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

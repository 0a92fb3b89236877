//! `rehearse`: restores a snapshot only to see that it works, and keeps the result.

use std::io;
use std::time::Instant;

use hucha_sources::database::rehearsal::{Rehearsed, Stage};
use hucha_sources::database::{Cause, DatabaseError, StoredMember};
use hucha_store::clock::Clock;
use hucha_store::entry::{Entry, is_within};
use hucha_store::format::objects::Manifest;
use hucha_store::member::Rehearsal;
use hucha_store::notes::{self, Fact, Notes, Proof};
use hucha_store::repository::Repository;
use hucha_store::restore::{Select, StreamError, StreamOptions, stream};
use hucha_store::target::{EntryWriter, FileBytes, Holes, Written};

use super::{Run, find, now};
use crate::args::RehearseArgs;
use crate::errors::{Code, Failure, Outcome};
use crate::names;
use crate::open::open;
use crate::outside::SystemClock;
use crate::render::progress::Progress;
use crate::render::text;
use crate::{signals, sources};

/// What became of one member.
struct Told {
    name: String,
    result: Result<Rehearsed, DatabaseError>,
    took_ms: u64,
}

/// Rehearses a snapshot, or one member of it.
pub fn rehearse(run: &mut Run, args: &RehearseArgs) -> Outcome {
    let name = names::parse(&args.snapshot, &run.zone)?;
    let expectations = expectations(&args.expect)?;
    let repository = open(&run.settings)?;
    let manifest = find(&repository, &name, &args.filter)?;
    let only = String::from_utf8_lossy(&name.path).into_owned();
    let chosen: Vec<&str> = (manifest.members.iter())
        .map(|member| member.name.as_str())
        .filter(|member| only.is_empty() || *member == only)
        .collect();
    if chosen.is_empty() && !only.is_empty() {
        // Says which members there are.
        StoredMember::find(&repository, &manifest, &only, "")?;
    }
    let asked = expectations
        .iter()
        .find(|(member, _)| !chosen.contains(&member.as_str()));
    if let Some((member, _)) = asked {
        let message = format!("--expect is about \"{member}\", which is not rehearsed");
        return Err(Failure::usage(message));
    }
    let context = sources::context(&run.settings, &run.zone, now(), args.stall_timeout);
    signals::watch(signals::TO_UNDO);
    let mut stage = Stage::new(&context, &args.server)?;
    let begun = Instant::now();
    let mut told = Vec::new();
    for member in chosen {
        let begun = Instant::now();
        let result = one(&repository, &manifest, member, &expectations, &mut stage);
        if matches!(&result, Err(e) if e.cause == Cause::Stopped) {
            return Err(Failure::new(Code::Interrupted, "interrupted"));
        }
        told.push(Told {
            name: member.to_owned(),
            result,
            took_ms: milliseconds(begun),
        });
    }
    drop(stage);
    let files = match only.is_empty() {
        true => files(run, &repository, &manifest),
        false => Ok(0),
    };
    let record = record(&told, files.as_ref().err(), milliseconds(begun));
    if !run.settings.dry_run {
        keep(&repository, &manifest, record, only.is_empty())?;
    }
    tell(run, &manifest, &told, files, milliseconds(begun))
}

fn milliseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// `MEMBER: SQL`.
fn expectations(typed: &[String]) -> Result<Vec<(String, String)>, Failure> {
    let split = |typed: &String| {
        let (member, sql) = typed.split_once(": ").ok_or_else(|| {
            Failure::usage(format_args!("{typed:?} is no expectation"))
                .hint("write 'MEMBER: SELECT …', a query whose first value is true")
        })?;
        Ok((member.to_owned(), sql.trim().to_owned()))
    };
    typed.iter().map(split).collect()
}

fn one(
    repository: &Repository,
    manifest: &Manifest,
    member: &str,
    expectations: &[(String, String)],
    stage: &mut Stage<'_>,
) -> Result<Rehearsed, DatabaseError> {
    let stored = StoredMember::find(repository, manifest, member, "")?;
    let stored = stored.until(&stage.context().stopper);
    let mine = expectations.iter().filter(|(name, _)| name == member);
    let mine: Vec<String> = mine.map(|(_, sql)| sql.clone()).collect();
    stage.rehearse(&stored, &mine)
}

/// Reads all files that belong to no member, each chunk against its id; answers how many bytes.
fn files(run: &Run, repository: &Repository, manifest: &Manifest) -> Result<u64, Failure> {
    let members = &manifest.members;
    let select = |path: &[u8], is_folder: bool| {
        let of_member = members.iter().any(|m| is_within(path, m.name.as_bytes()));
        match (of_member, is_folder) {
            (true, _) => Select::Skip,
            (false, true) => Select::Descend,
            (false, false) => Select::Take,
        }
    };
    let options = StreamOptions {
        path: Vec::new(),
        select: &select,
    };
    let progress = Progress::start(&run.settings);
    let report = stream(repository, manifest, &options, Box::new(Nothing), &progress);
    drop(progress);
    match report {
        Ok(report) => Ok(report.bytes),
        Err(StreamError::Access { path, source }) => {
            let why = Failure::from(source);
            let message = format!("\"{path}\" cannot be restored: {}", why.message);
            Err(Failure {
                hint: why.hint,
                ..Failure::new(why.code, message)
            })
        }
        Err(StreamError::Restore(error)) => Err(error.into()),
        Err(error) => Err(Failure::failed(error)),
    }
}

/// Takes everything and keeps nothing.
struct Nothing;

impl EntryWriter for Nothing {
    fn entry(
        &mut self,
        _: &Entry,
        first: Option<&[u8]>,
        bytes: &dyn FileBytes,
    ) -> io::Result<Written> {
        if first.is_none() {
            bytes.pour(Holes::Nothing, &mut io::sink())?;
        }
        Ok(Written::Whole)
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        Ok(())
    }
}

/// What is kept of it.
fn record(told: &[Told], files: Option<&Failure>, duration_ms: u64) -> Rehearsal {
    let line = |told: &Told| match &told.result {
        Ok(rehearsed) => format!("{}: {} rows", told.name, rehearsed.verified.rows),
        Err(error) => format!("{}: {}", told.name, error.what),
    };
    let mut lines: Vec<String> = told.iter().map(line).collect();
    lines.extend(files.map(|failure| format!("files: {}", failure.message)));
    Rehearsal {
        time: SystemClock.now(),
        passed: files.is_none() && told.iter().all(|told| told.result.is_ok()),
        duration_ms,
        lines,
    }
}

/// Keeps the result in the repository.
fn keep(
    repository: &Repository,
    manifest: &Manifest,
    rehearsal: Rehearsal,
    whole: bool,
) -> Result<(), Failure> {
    let (snapshot, time) = (manifest.id, rehearsal.time);
    let verified = rehearsal.passed && whole;
    let mut facts = vec![Fact::Rehearsed {
        snapshot,
        rehearsal,
    }];
    if verified {
        facts.push(Fact::Verified {
            snapshot,
            by: Proof::Rehearsal,
            time,
        });
    }
    Ok(notes::put(repository, &Notes::read(repository)?, &facts)?)
}

fn tell(
    run: &mut Run,
    manifest: &Manifest,
    told: &[Told],
    files: Result<u64, Failure>,
    duration_ms: u64,
) -> Outcome {
    let failed = told.iter().filter(|told| told.result.is_err()).count();
    if run.out.json {
        let member = |told: &Told| {
            let done = told.result.as_ref().ok();
            serde_json::json!({
                "name": told.name,
                "passed": told.result.is_ok(),
                "rows": done.map(|r| r.verified.rows),
                "tables": done.map(|r| r.verified.tables),
                "checks": done.map(|r| r.verified.checks.clone()),
                "warnings": done.map(|r| r.warnings.clone()),
                "restore_ms": done.map(|r| r.restore_ms),
                "duration_ms": told.took_ms,
                "error": told.result.as_ref().err().map(|e| e.what.clone()),
            })
        };
        let object = serde_json::json!({
            "id": manifest.id.to_string(),
            "passed": failed == 0 && files.is_ok(),
            "duration_ms": duration_ms,
            "file_bytes": files.as_ref().ok(),
            "file_error": files.as_ref().err().map(|failure| &failure.message),
            "members": told.iter().map(member).collect::<Vec<_>>(),
        });
        run.out.object("rehearsed", &object)?;
    } else {
        for told in told {
            line(run, told)?;
        }
        match &files {
            Ok(0) => {}
            Ok(bytes) => run
                .out
                .summary(&format!("files: {} read and compared", text::size(*bytes)))?,
            // Alone it is what the run ends with.
            Err(failure) if failed > 0 => run.out.remark(&format!("files: {}", failure.message)),
            Err(_) => {}
        }
    }
    if failed == 0 {
        files?;
        run.out.summary(&format!(
            "snapshot {:.8} can be restored; rehearsed in {}",
            manifest.id,
            text::duration(duration_ms)
        ))?;
        return Ok(Code::Done);
    }
    Err(failed_as(told, files.err().as_ref(), failed))
}

/// What the run ends with when so many members failed.
fn failed_as(told: &[Told], files: Option<&Failure>, failed: usize) -> Failure {
    let damaged = |told: &Told| matches!(&told.result, Err(e) if e.cause == Cause::Damaged);
    let files_are = files.is_some_and(|failure| failure.code == Code::Damaged);
    let code = match files_are || told.iter().any(damaged) {
        true => Code::Damaged,
        false => Code::Failed,
    };
    let members = text::counted(failed as u64, "member", "members");
    let hint = told
        .iter()
        .find_map(|t| t.result.as_ref().err()?.hint.clone());
    let failure = Failure::new(code, format_args!("the rehearsal of {members} failed"));
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

fn line(run: &mut Run, told: &Told) -> Result<(), Failure> {
    let name = text::name(told.name.as_bytes());
    match &told.result {
        Ok(rehearsed) => {
            for warning in &rehearsed.warnings {
                run.out.remark(&format!("warning: {name}: {warning}"));
            }
            run.out.summary(&format!(
                "{name}: restored in {}; {}; {}",
                text::duration(rehearsed.restore_ms),
                text::compared(rehearsed.verified.rows, rehearsed.verified.tables),
                rehearsed.verified.checks.join(", "),
            ))
        }
        Err(error) => {
            run.out
                .remark(&format!("{name}: {}", text::lines(&error.what)));
            Ok(())
        }
    }
}

//! `forget` and `undelete`.

use std::collections::BTreeSet;

use hucha_store::forget;
use hucha_store::format::objects::Manifest;
use hucha_store::repository::Repository;
use hucha_store::retention::{Policy, Verdict, apply};
use hucha_store::snapshots::{Selector, SnapshotList, select};

use super::{Chosen, Run, find, list};
use crate::args::{ForgetArgs, UndeleteArgs};
use crate::errors::{Code, Failure, Outcome};
use crate::open::open;
use crate::render::json::{self, Snapshot};
use crate::render::table::{Heading, Table};
use crate::render::text;
use crate::{names, times};

/// What is to be forgotten, and why the rest stays: a value before anything is done.
struct Plan {
    snapshots: Vec<Manifest>,
    verdicts: Vec<Verdict>,
}

/// Forgets snapshots by name or by rule.
pub fn forget(run: &mut Run, args: &ForgetArgs) -> Outcome {
    let repository = open(&run.settings)?;
    let plan = match args.keep_last {
        Some(keep_last) => by_rule(&repository, args, Policy { keep_last })?,
        None => by_name(run, &repository, args)?,
    };
    let gone: Vec<&Verdict> = plan.verdicts.iter().filter(|v| !v.keep).collect();
    if !run.settings.dry_run {
        for verdict in &gone {
            forget::forget(&repository, verdict.name)?;
        }
    }
    let count = text::counted(gone.len() as u64, "snapshot", "snapshots");
    show(run, &plan)?;
    if !run.out.json {
        match run.settings.dry_run {
            true => run.out.summary(&format!("would forget {count}"))?,
            false => run.out.summary(&format!("forgot {count}"))?,
        }
    }
    if !gone.is_empty() && !run.settings.dry_run {
        run.out
            .remark("`hucha gc` frees their space; until then `hucha undelete` takes them back");
    }
    Ok(Code::Done)
}

fn by_rule(repository: &Repository, args: &ForgetArgs, policy: Policy) -> Result<Plan, Failure> {
    let mut snapshots = list(repository)?.committed;
    Chosen::new(&args.filter).keep(&mut snapshots);
    let verdicts = apply(&policy, &snapshots);
    Ok(Plan {
        snapshots,
        verdicts,
    })
}

/// All names are resolved before the first snapshot is forgotten: `latest latest~1` are two.
fn by_name(run: &Run, repository: &Repository, args: &ForgetArgs) -> Result<Plan, Failure> {
    let mut snapshots: Vec<Manifest> = Vec::new();
    let mut seen = BTreeSet::new();
    let all = SnapshotList::read(repository)?.committed;
    for typed in &args.snapshots {
        let name = names::parse_whole(typed, &run.zone)?;
        let found = find(repository, &name, &args.filter)?.id;
        if seen.insert(found) {
            snapshots.extend(all.iter().filter(|m| m.id == found).cloned());
        }
    }
    let verdict = |m: &Manifest| Verdict {
        name: m.name,
        keep: false,
        reasons: Vec::new(),
    };
    let verdicts = snapshots.iter().map(verdict).collect();
    Ok(Plan {
        snapshots,
        verdicts,
    })
}

fn show(run: &mut Run, plan: &Plan) -> Result<(), Failure> {
    let mut table = Table::new(&[
        Heading::Left(""),
        Heading::Left("ID"),
        Heading::Left("Time"),
        Heading::Left("Host"),
        Heading::Left("Tags"),
        Heading::Left("Reasons"),
        Heading::Left("Paths"),
    ]);
    for (manifest, verdict) in plan.snapshots.iter().zip(&plan.verdicts) {
        if run.out.json {
            run.out.object(
                "verdict",
                &json::Verdict {
                    id: manifest.id.to_string(),
                    time: times::rfc3339(manifest.time, manifest.zone_offset),
                    keep: verdict.keep,
                    reasons: verdict.reasons.clone(),
                },
            )?;
            continue;
        }
        let paths: Vec<String> = manifest.paths.iter().map(|p| text::name(p)).collect();
        table.row(vec![
            (if verdict.keep { "keep" } else { "forget" }).to_owned(),
            format!("{:.8}", manifest.id),
            times::local(manifest.time, &run.zone),
            text::name(manifest.host.as_bytes()),
            text::name(manifest.tags.join(",").as_bytes()),
            verdict.reasons.join(", "),
            paths.join(", "),
        ]);
    }
    if !table.is_empty() {
        table
            .lines()
            .iter()
            .try_for_each(|line| run.out.summary(line))?;
    }
    Ok(())
}

/// Takes forgotten snapshots back.
pub fn undelete(run: &mut Run, args: &UndeleteArgs) -> Outcome {
    let repository = open(&run.settings)?;
    let list = list(&repository)?;
    let forgotten = super::forgotten(list.forgotten, &list.committed);
    let mut chosen: Vec<&Manifest> = Vec::new();
    for typed in &args.snapshots {
        let name = names::parse_whole(typed, &run.zone)?;
        let found = select(&forgotten, &name.selector, &name.typed).map_err(|error| {
            let there = matches!(name.selector, Selector::Prefix(_))
                && select(&list.committed, &name.selector, &name.typed).is_ok();
            match there {
                true => Failure::failed(format_args!("{} is not forgotten", name.typed)),
                false => Failure::from(error).hint("`hucha snapshots --forgotten` shows them"),
            }
        })?;
        if !chosen.contains(&found) {
            chosen.push(found);
        }
    }
    for manifest in chosen {
        let (again, did) = match run.settings.dry_run {
            true => (manifest.clone(), "would take back"),
            false => (forget::undelete(&repository, manifest)?, "took back"),
        };
        match run.out.json {
            true => run.out.object("snapshot", &Snapshot::new(&again))?,
            false => run
                .out
                .summary(&format!("{did} snapshot {:.8}", again.id))?,
        }
    }
    Ok(Code::Done)
}

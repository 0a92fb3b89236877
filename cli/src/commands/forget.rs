//! `forget`.

use std::collections::BTreeSet;

use hucha_store::forget;
use hucha_store::format::objects::Manifest;
use hucha_store::gc::GcOptions;
use hucha_store::id::SnapshotId;
use hucha_store::notes::Notes;
use hucha_store::repository::Repository;
use hucha_store::retention::{Given, LastOne, Policy, apply, group};

use super::protect::{named, refuse_protected};
use super::snapshots::common;
use super::{Chosen, Run, list_noted, now, once};
use crate::args::ForgetArgs;
use crate::calendar::Zone;
use crate::errors::{Code, Failure, Outcome};
use crate::open::open;
use crate::policy::policy;
use crate::render::json;
use crate::render::table::{Heading, Table};
use crate::render::text;
use crate::times;

/// What is to be forgotten, and why the rest stays: a value before anything is done.
struct Plan {
    groups: Vec<Group>,
    /// Every object of the snapshots that go: two `undelete` at once may leave two.
    gone: Vec<Manifest>,
    /// What is said of them.
    notes: Notes,
}

/// What was decided of snapshots that belong together.
struct Group {
    /// What they have in common, for people; empty when nothing was asked for.
    title: String,
    decided: Vec<Decided>,
}

/// A snapshot, and why it stays.
struct Decided {
    manifest: Manifest,
    keep: bool,
    reasons: Vec<String>,
}

/// What was asked for.
enum Asked {
    ByName,
    ByRule(Policy),
}

/// Forgets snapshots by name or by rule.
pub fn forget(run: &mut Run, args: &ForgetArgs) -> Outcome {
    let asked = asked(args)?;
    let options: Option<GcOptions> = match args.collect {
        true => Some(super::gc::options(run, &args.gc)?),
        false => None,
    };
    let repository = open(&run.settings)?;
    let plan = match asked {
        Asked::ByRule(policy) => by_rule(run, &repository, args, &policy)?,
        Asked::ByName => by_name(run, &repository, args)?,
    };
    if !run.settings.dry_run {
        for manifest in &plan.gone {
            forget::forget(&repository, manifest, &plan.notes)?;
        }
    }
    show(run, &plan, args.compact)?;
    let decided = plan.groups.iter().flat_map(|g| &g.decided);
    let gone = decided.filter(|d| !d.keep).count();
    if !run.out.json {
        let count = text::counted(gone as u64, "snapshot", "snapshots");
        match run.settings.dry_run {
            true => run.out.summary(&format!("would forget {count}"))?,
            false => run.out.summary(&format!("forgot {count}"))?,
        }
    }
    if let Some(options) = options {
        if run.settings.dry_run && gone > 0 {
            run.out
                .remark("what only these snapshots need is not counted in what gc would free");
        }
        return super::gc::collect(run, &repository, &options);
    }
    if gone > 0 && !run.settings.dry_run {
        run.out
            .remark("`hucha gc` frees their space; until then `hucha undelete` takes them back");
    }
    Ok(Code::Done)
}

/// What was typed, if it is clear what is to be forgotten.
fn asked(args: &ForgetArgs) -> Result<Asked, Failure> {
    let last = match args.unsafe_allow_remove_all {
        true => LastOne::MayGo,
        false => LastOne::Stays,
    };
    if args.unsafe_allow_remove_all && args.filter.is_empty() {
        let why = "--unsafe-allow-remove-all needs --host, --tag or --path";
        return Err(Failure::usage(why));
    }
    let policy = policy(&args.keep, last);
    let may_take_all = last == LastOne::MayGo;
    match (args.snapshots.is_empty(), policy.is_empty()) {
        (false, true) if !may_take_all => Ok(Asked::ByName),
        (false, _) => Err(Failure::usage("name snapshots or give rules, not both")),
        (true, true) if !may_take_all => Err(Failure::usage(
            "nothing says which snapshots to forget, or which to keep",
        )
        .hint("name some, or give rules as --keep-daily 7; see `hucha forget --help`")),
        (true, _) => Ok(Asked::ByRule(policy)),
    }
}

fn by_rule(
    run: &Run,
    repository: &Repository,
    args: &ForgetArgs,
    policy: &Policy,
) -> Result<Plan, Failure> {
    let time = match &args.keep.time {
        Some(typed) => times::parse(typed, now(), &run.zone)
            .map_err(|e| Failure::usage(format_args!("--time: {e}")))?,
        None => now(),
    };
    let (list, notes) = list_noted(repository)?;
    let all = list.committed;
    let mut snapshots = all.clone();
    once(&mut snapshots);
    // Checkpoints are the matter of the runs that made them.
    snapshots.retain(|m| !m.partial);
    Chosen::new(&args.filter).keep(&mut snapshots);
    let protected = protected(&notes, &snapshots);
    let given = Given {
        calendar: &Zone(run.zone.clone()),
        now: time,
        protected: &protected,
    };
    let mut groups = Vec::new();
    for (key, members) in group(args.group_by, snapshots) {
        let verdicts = apply(policy, &members, &given);
        let decided = members.into_iter().zip(verdicts);
        groups.push(Group {
            title: common(&key),
            decided: decided
                .map(|(manifest, verdict)| Decided {
                    manifest,
                    keep: verdict.keeps(),
                    reasons: verdict.reasons.iter().map(ToString::to_string).collect(),
                })
                .collect(),
        });
    }
    Ok(Plan::new(groups, all, notes))
}

fn protected(notes: &Notes, snapshots: &[Manifest]) -> BTreeSet<SnapshotId> {
    let ids = snapshots.iter().map(|m| m.id);
    ids.filter(|id| notes.is_protected(*id)).collect()
}

fn by_name(run: &Run, repository: &Repository, args: &ForgetArgs) -> Result<Plan, Failure> {
    let (list, notes) = list_noted(repository)?;
    let chosen = named(run, &list, &args.snapshots, &args.filter)?;
    refuse_protected(&notes, &chosen, "forgotten")?;
    let decided = |manifest: Manifest| Decided {
        manifest,
        keep: false,
        reasons: Vec::new(),
    };
    let group = Group {
        title: String::new(),
        decided: chosen.into_iter().map(decided).collect(),
    };
    Ok(Plan::new(vec![group], list.committed, notes))
}

impl Plan {
    fn new(groups: Vec<Group>, mut all: Vec<Manifest>, notes: Notes) -> Plan {
        let decided = groups.iter().flat_map(|g| &g.decided);
        let gone: BTreeSet<SnapshotId> =
            decided.filter(|d| !d.keep).map(|d| d.manifest.id).collect();
        all.retain(|m| gone.contains(&m.id));
        Plan {
            groups,
            gone: all,
            notes,
        }
    }
}

fn show(run: &mut Run, plan: &Plan, compact: bool) -> Result<(), Failure> {
    for group in plan.groups.iter().filter(|g| !g.decided.is_empty()) {
        if run.out.json {
            for decided in &group.decided {
                run.out.object("verdict", &verdict(decided))?;
            }
            continue;
        }
        if plan.groups.len() > 1 {
            let kept = group.decided.iter().filter(|d| d.keep).count();
            let gone = group.decided.len() - kept;
            let title = format!("{}: {kept} stay, {gone} go", group.title);
            run.out.summary(&title)?;
        }
        for line in table(run, &group.decided, compact).lines() {
            run.out.summary(&line)?;
        }
    }
    Ok(())
}

fn verdict(decided: &Decided) -> json::Verdict {
    let manifest = &decided.manifest;
    json::Verdict {
        id: manifest.id.to_string(),
        time: times::rfc3339(manifest.time, manifest.zone_offset),
        host: manifest.host.clone(),
        tags: manifest.tags.clone(),
        paths: manifest
            .paths
            .iter()
            .map(|p| json::text_and_hex(p).0)
            .collect(),
        keep: decided.keep,
        reasons: decided.reasons.clone(),
    }
}

fn table(run: &Run, decided: &[Decided], compact: bool) -> Table {
    let mut table = Table::new(&[
        Heading::Left(""),
        Heading::Left("ID"),
        Heading::Left("Time"),
        Heading::Left("Host"),
        Heading::Left("Tags"),
        Heading::Left("Reasons"),
        Heading::Left("Paths"),
    ]);
    for Decided {
        manifest,
        keep,
        reasons,
    } in decided
    {
        let paths: Vec<String> = match compact {
            true => Vec::new(),
            false => manifest.paths.iter().map(|p| text::name(p)).collect(),
        };
        table.row(vec![
            (if *keep { "keep" } else { "forget" }).to_owned(),
            format!("{:.8}", manifest.id),
            times::local(manifest.time, &run.zone),
            text::name(manifest.host.as_bytes()),
            text::name(manifest.tags.join(",").as_bytes()),
            text::name(reasons.join(", ").as_bytes()),
            paths.join(", "),
        ]);
    }
    table
}

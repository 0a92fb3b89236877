//! `snapshots`.

use std::collections::{BTreeMap, BTreeSet};

use hucha_store::clock::Timestamp;
use hucha_store::format::objects::{Manifest, TrashMarker};
use hucha_store::id::{SnapshotId, Uuid};
use hucha_store::notes::Notes;
use hucha_store::retention::{GroupBy, GroupKey, group};
use hucha_store::snapshots::read_markers;

use super::{Chosen, Run, forgotten, list_noted, once};
use crate::args::SnapshotsArgs;
use crate::errors::{Code, Failure, Outcome};
use crate::open::open;
use crate::render::json::{Snapshot, proof};
use crate::render::table::{Heading, Table};
use crate::render::text;
use crate::times;

/// What is told of snapshots beside their manifests.
struct Beside {
    notes: Notes,
    markers: BTreeMap<Uuid, TrashMarker>,
}

/// Lists snapshots, oldest first.
pub fn snapshots(run: &mut Run, args: &SnapshotsArgs) -> Outcome {
    let repository = open(&run.settings)?;
    let (list, notes) = list_noted(&repository)?;
    let mut shown = if args.forgotten {
        forgotten(list.forgotten, &list.committed)
    } else {
        list.committed
    };
    let twins = twins(&shown);
    once(&mut shown);
    if !args.all {
        shown.retain(|m| !m.partial);
    }
    Chosen::new(&args.filter).keep(&mut shown);
    if let Some(latest) = args.latest {
        keep_latest(&mut shown, args.group_by.unwrap_or_default(), latest);
    }
    let markers = match args.forgotten {
        true => read_markers(&repository)?,
        false => Default::default(),
    };
    let beside = Beside { notes, markers };
    let groups = match args.group_by {
        Some(by) => group(by, shown).into_iter().collect(),
        None => vec![(GroupKey::default(), shown)],
    };
    show(run, &groups, &beside, args.compact)?;
    for id in twins {
        run.out.remark(&format!(
            "snapshot {id:.8} stands twice, since it was taken back twice at once: that does no \
             harm, and it is forgotten as one"
        ));
    }
    match list.unreadable.is_empty() {
        true => Ok(Code::Done),
        false => Err(unreadable(list.unreadable.len())),
    }
}

/// Those that stand more than once.
fn twins(manifests: &[Manifest]) -> BTreeSet<SnapshotId> {
    let mut seen = BTreeSet::new();
    let again = manifests.iter().filter(|m| !seen.insert(m.id));
    again.map(|m| m.id).collect()
}

/// Leaves the newest few of each group.
fn keep_latest(manifests: &mut Vec<Manifest>, by: GroupBy, latest: u64) {
    let groups = group(by, manifests.clone()).into_values();
    let newest = groups.flat_map(|members| {
        let count = usize::try_from(latest).unwrap_or(usize::MAX);
        let newest = members.into_iter().rev().take(count);
        newest.map(|m| m.name).collect::<Vec<_>>()
    });
    let newest: BTreeSet<Uuid> = newest.collect();
    manifests.retain(|m| newest.contains(&m.name));
}

fn unreadable(count: usize) -> Failure {
    let count = text::counted(count as u64, "snapshot", "snapshots");
    Failure::new(Code::Damaged, format_args!("{count} cannot be read"))
        .hint("`hucha check` tells what else is affected")
}

fn show(
    run: &mut Run,
    groups: &[(GroupKey, Vec<Manifest>)],
    beside: &Beside,
    compact: bool,
) -> Result<(), Failure> {
    let when = |m: &Manifest| beside.markers.get(&m.name).map(|marker| marker.forgotten);
    let mut any = run.out.json;
    for (key, members) in groups.iter().filter(|(_, members)| !members.is_empty()) {
        if run.out.json {
            for manifest in members {
                let snapshot = Snapshot::new(manifest).noted(manifest, &beside.notes);
                let snapshot = match when(manifest) {
                    Some(time) => snapshot.forgotten(times::rfc3339(time, 0)),
                    None => snapshot,
                };
                run.out.object("snapshot", &snapshot)?;
            }
            continue;
        }
        let title = common(key);
        if !title.is_empty() {
            let before = if any { "\n" } else { "" };
            run.out.line(&format!("{before}{title}:"))?;
        }
        any = true;
        let mut table = table();
        for manifest in members {
            add(&mut table, manifest, when(manifest), beside, run, compact);
        }
        let lines = table.lines();
        lines.iter().try_for_each(|line| run.out.line(line))?;
    }
    if !any {
        run.out.remark("no snapshots");
    }
    Ok(())
}

/// What a group has in common, for people.
pub(super) fn common(key: &GroupKey) -> String {
    let host = key.host.iter().map(|h| text::name(h.as_bytes()));
    let host = host.map(|h| format!("host {h}"));
    let paths = key.paths.iter().map(|paths| {
        let paths: Vec<String> = paths.iter().map(|p| text::name(p)).collect();
        format!("paths {}", paths.join(", "))
    });
    let tags = key.tags.iter().map(|tags| match tags.is_empty() {
        true => "no tags".to_owned(),
        false => format!("tags {}", text::name(tags.join(",").as_bytes())),
    });
    let parts: Vec<String> = host.chain(paths).chain(tags).collect();
    parts.join(", ")
}

fn table() -> Table {
    Table::new(&[
        Heading::Left("ID"),
        Heading::Left("Time"),
        Heading::Left("Host"),
        Heading::Right("Size"),
        Heading::Right("New"),
        Heading::Left("Tags"),
        Heading::Left("Label"),
        Heading::Left("Forgotten"),
        Heading::Left("State"),
        Heading::Left("Verified"),
        Heading::Left("Paths"),
    ])
}

fn add(
    table: &mut Table,
    manifest: &Manifest,
    forgotten: Option<Timestamp>,
    beside: &Beside,
    run: &Run,
    compact: bool,
) {
    let state = [
        (manifest.partial, "partial"),
        (manifest.incomplete, "incomplete"),
        (beside.notes.is_protected(manifest.id), "protected"),
    ];
    let state: Vec<&str> = state
        .iter()
        .filter(|(is, _)| *is)
        .map(|(_, word)| *word)
        .collect();
    let verified = beside.notes.verified(manifest.id);
    let day = |time| format!("{:.10}", times::local(time, &run.zone));
    let failed = beside.notes.rehearsal(manifest.id).filter(|r| !r.passed);
    let verified = match (verified, failed) {
        // What was proven before, a later failure takes back.
        (proven, Some(failed)) if proven.is_none_or(|(time, _)| time <= failed.time) => {
            Some(format!("{} rehearsal FAILED", day(failed.time)))
        }
        (proven, _) => proven.map(|(time, by)| format!("{} {}", day(time), proof(by))),
    };
    let mut paths = manifest.paths.iter().map(|p| text::name(p));
    let plain = |words: &str| text::name(words.as_bytes());
    let unless_compact = |cell: String| if compact { String::new() } else { cell };
    table.row(vec![
        format!("{:.8}", manifest.id),
        times::local(manifest.time, &run.zone),
        plain(&manifest.host),
        text::size(manifest.bytes),
        unless_compact(text::size(manifest.new_bytes)),
        plain(&manifest.tags.join(",")),
        unless_compact(plain(manifest.label.as_deref().unwrap_or_default())),
        forgotten
            .map(|time| times::local(time, &run.zone))
            .unwrap_or_default(),
        state.join(", "),
        unless_compact(verified.unwrap_or_default()),
        unless_compact(paths.next().unwrap_or_default()),
    ]);
    for path in paths.filter(|_| !compact) {
        let mut row = vec![String::new(); 10];
        row.push(path);
        table.row(row);
    }
}

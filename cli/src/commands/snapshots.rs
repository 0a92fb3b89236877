//! `snapshots`.

use hucha_store::format::objects::Manifest;
use hucha_store::snapshots::read_markers;

use super::{Chosen, Run, forgotten, list};
use crate::args::SnapshotsArgs;
use crate::errors::{Code, Failure, Outcome};
use crate::open::open;
use crate::render::json::Snapshot;
use crate::render::table::{Heading, Table};
use crate::render::text;
use crate::times;

/// Lists snapshots, oldest first.
pub fn snapshots(run: &mut Run, args: &SnapshotsArgs) -> Outcome {
    let repository = open(&run.settings)?;
    let list = list(&repository)?;
    let mut shown = if args.forgotten {
        forgotten(list.forgotten, &list.committed)
    } else {
        list.committed
    };
    Chosen::new(&args.filter).keep(&mut shown);
    let markers = match args.forgotten {
        true => read_markers(&repository)?,
        false => Default::default(),
    };
    let when = |m: &Manifest| markers.get(&m.name).map(|marker| marker.forgotten);
    if run.out.json {
        for manifest in &shown {
            let snapshot = Snapshot::new(manifest);
            run.out.object(
                "snapshot",
                &match when(manifest) {
                    Some(time) => snapshot.forgotten(times::rfc3339(time, 0)),
                    None => snapshot,
                },
            )?;
        }
    } else {
        let mut table = table();
        for manifest in &shown {
            let time = when(manifest).map(|time| times::local(time, &run.zone));
            add(&mut table, manifest, time, run);
        }
        print(run, &table)?;
    }
    match list.unreadable.is_empty() {
        true => Ok(Code::Done),
        false => Err(unreadable(list.unreadable.len())),
    }
}

fn unreadable(count: usize) -> Failure {
    let count = text::counted(count as u64, "snapshot", "snapshots");
    Failure::new(Code::Damaged, format_args!("{count} cannot be read"))
        .hint("`hucha check` tells what else is affected")
}

fn print(run: &mut Run, table: &Table) -> Result<(), Failure> {
    if table.is_empty() {
        run.out.remark("no snapshots");
        return Ok(());
    }
    table.lines().iter().try_for_each(|line| run.out.line(line))
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
        Heading::Left("Paths"),
    ])
}

fn add(table: &mut Table, manifest: &Manifest, forgotten: Option<String>, run: &Run) {
    let state = match (manifest.partial, manifest.incomplete) {
        (true, _) => "partial",
        (false, true) => "incomplete",
        (false, false) => "",
    };
    let mut paths = manifest.paths.iter().map(|p| text::name(p));
    let plain = |words: &str| text::name(words.as_bytes());
    table.row(vec![
        format!("{:.8}", manifest.id),
        times::local(manifest.time, &run.zone),
        plain(&manifest.host),
        text::size(manifest.bytes),
        text::size(manifest.new_bytes),
        plain(&manifest.tags.join(",")),
        plain(manifest.label.as_deref().unwrap_or_default()),
        forgotten.unwrap_or_default(),
        state.to_owned(),
        paths.next().unwrap_or_default(),
    ]);
    for path in paths {
        let mut row = vec![String::new(); 9];
        row.push(path);
        table.row(row);
    }
}

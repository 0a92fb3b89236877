//! `diff`.

use hucha_sources::database::rows::{Change, Row, TableDiff, diff as diff_rows};
use hucha_sources::database::{DatabaseError, StoredMember};
use hucha_store::browse;
use hucha_store::diff::{Difference, How, Side, diff as compare};
use hucha_store::entry::{Entry, Kind};
use hucha_store::format::objects::Manifest;
use hucha_store::repository::Repository;

use super::{Run, find};
use crate::args::DiffArgs;
use crate::errors::{Code, Failure, Outcome};
use crate::names::{self, Name};
use crate::open::open;
use crate::render::json::{Compared, Count, Differing};
use crate::render::{Output, text};
use crate::{signals, sources};

/// Tells what differs between two snapshots, or parts of them.
pub fn diff(run: &mut Run, args: &DiffArgs) -> Outcome {
    let before = names::parse(&args.before, &run.zone)?;
    let after = names::parse(&args.after, &run.zone)?;
    let repository = open(&run.settings)?;
    if args.rows {
        return rows(run, &repository, (&before, &after), args);
    }
    let one = manifest(&repository, &before, args)?;
    let two = manifest(&repository, &after, args)?;
    let mut sums = Compared::new(&one, &two);
    let out = &mut run.out;
    let mut each = |difference: &Difference<'_>| {
        let told = args.metadata || !is_metadata(difference);
        if !told {
            return Ok(());
        }
        count(&mut sums, difference);
        line(out, difference)
    };
    let sides = (side(&one, &before), side(&two, &after));
    compare::<Failure>(&repository, sides.0, sides.1, &mut each)?;
    if run.out.json {
        run.out.object("diff", &sums)?;
    } else {
        summary(run, &sums)?;
    }
    Ok(Code::Done)
}

/// Tells which rows of a database differ.
fn rows(
    run: &mut Run,
    repository: &Repository,
    (before, after): (&Name, &Name),
    args: &DiffArgs,
) -> Outcome {
    let one = find(repository, before, &args.filter)?;
    let two = find(repository, after, &args.filter)?;
    let names = (
        super::database::member_name(before, &one)?,
        super::database::member_name(after, &two)?,
    );
    // A file that is no member may be a SQLite database all the same.
    let context = sources::context(&run.settings, &run.zone, super::now(), 600);
    signals::watch(signals::TO_STOP);
    let stored = |manifest, name| {
        let found = StoredMember::find(repository, manifest, name, "sqlite")?;
        Ok::<_, Failure>(found.until(&context.stopper))
    };
    let (one, two) = (stored(&one, &names.0)?, stored(&two, &names.1)?);
    let tables = super::commas(&args.tables);
    let mut failed = None;
    let out = &mut run.out;
    let mut each = |table: &str, columns: &[String], change: Change| {
        if tables.is_empty() {
            return Ok(());
        }
        let object = row_object(table, columns, &change);
        let printed = match out.json {
            true => out.object("row", &object),
            false => out.line(&object.to_string()),
        };
        printed.map_err(|failure| {
            failed = Some(failure);
            DatabaseError::stopped()
        })
    };
    let found = diff_rows(&one, &two, &tables, &context, &mut each);
    if let Some(failure) = failed {
        return Err(failure);
    }
    let found = found?;
    for table in &found {
        table_line(run, table, !tables.is_empty())?;
    }
    if found.is_empty() && !run.out.json {
        run.out.summary("all rows are the same")?;
    }
    Ok(Code::Done)
}

fn row_object(table: &str, columns: &[String], change: &Change) -> serde_json::Value {
    let row = |row: &Row| -> serde_json::Value {
        let pairs = columns.iter().cloned().zip(row.iter().cloned());
        serde_json::Value::Object(pairs.collect())
    };
    match change {
        Change::Added(after) => {
            serde_json::json!({"table": table, "change": "added", "after": row(after)})
        }
        Change::Removed(before) => {
            serde_json::json!({"table": table, "change": "removed", "before": row(before)})
        }
        Change::Changed { before, after } => serde_json::json!({
            "table": table, "change": "changed", "before": row(before), "after": row(after),
        }),
    }
}

fn table_line(run: &mut Run, table: &TableDiff, beside: bool) -> Result<(), Failure> {
    if run.out.json {
        let object = serde_json::json!({
            "table": table.table,
            "added": table.added,
            "removed": table.removed,
            "changed": table.changed,
            "reshaped": table.reshaped,
        });
        return run.out.object("table", &object);
    }
    let name = text::name(table.table.as_bytes());
    let line = match table.reshaped {
        true => format!("{name}: its columns differ"),
        false => format!(
            "{name}: {} added, {} removed, {} changed",
            text::count(table.added),
            text::count(table.removed),
            text::count(table.changed)
        ),
    };
    if beside {
        // Standard output has the rows.
        run.out.remark(&line);
        return Ok(());
    }
    run.out.summary(&line)
}

fn manifest(repository: &Repository, name: &Name, args: &DiffArgs) -> Result<Manifest, Failure> {
    let manifest = find(repository, name, &args.filter)?;
    if !name.path.is_empty() {
        browse::entry(repository, &manifest, &name.path)?;
    }
    Ok(manifest)
}

fn side<'a>(manifest: &'a Manifest, name: &'a Name) -> Side<'a> {
    Side {
        manifest,
        path: &name.path,
    }
}

fn is_metadata(difference: &Difference<'_>) -> bool {
    let how = match difference {
        Difference::Changed { how, .. } => Some(*how),
        _ => None,
    };
    how == Some(How::Metadata)
}

fn line(out: &mut Output, difference: &Difference<'_>) -> Result<(), Failure> {
    if out.json {
        return out.object("difference", &Differing::from(difference));
    }
    let entry = difference.entry();
    let folder = match entry.kind {
        Kind::Folder => "/",
        _ => "",
    };
    let mark = mark(difference);
    out.line(&format!("{mark:<4} {}{folder}", text::shown(entry)))
}

/// The marks that users of other tools know.
fn mark(difference: &Difference<'_>) -> &'static str {
    match difference {
        Difference::Added(_) => "+",
        Difference::Removed(_) => "-",
        Difference::Changed { how, .. } => match how {
            How::Kind => "T",
            How::Content => "M",
            How::ContentOnly => "M?",
            How::Metadata => "U",
        },
    }
}

fn count(sums: &mut Compared, difference: &Difference<'_>) {
    match difference {
        Difference::Added(entry) => add(&mut sums.added, entry),
        Difference::Removed(entry) => add(&mut sums.removed, entry),
        Difference::Changed {
            how: How::Metadata, ..
        } => sums.metadata += 1,
        Difference::Changed { before, after, .. } => {
            sums.changed += 1;
            sums.changed_bytes_before += before.meta.size;
            sums.changed_bytes_after += after.meta.size;
        }
    }
}

fn add(sum: &mut Count, entry: &Entry) {
    match entry.kind {
        Kind::File => sum.files += 1,
        Kind::Folder => sum.folders += 1,
        _ => sum.others += 1,
    }
    sum.bytes += entry.meta.size;
}

fn summary(run: &mut Run, sums: &Compared) -> Result<(), Failure> {
    let counted = |sum: &Count| {
        format!(
            "{}, {}, {}; {}",
            text::counted(sum.files, "file", "files"),
            text::counted(sum.folders, "folder", "folders"),
            text::counted(sum.others, "other", "others"),
            text::size(sum.bytes),
        )
    };
    run.out
        .summary(&format!("added:   {}", counted(&sums.added)))?;
    run.out
        .summary(&format!("removed: {}", counted(&sums.removed)))?;
    let mut changed = format!(
        "changed: {}; {} before, {} after",
        text::counted(sums.changed, "entry", "entries"),
        text::size(sums.changed_bytes_before),
        text::size(sums.changed_bytes_after),
    );
    if sums.metadata > 0 {
        changed += &format!("; only metadata of {}", text::count(sums.metadata));
    }
    run.out.summary(&changed)
}

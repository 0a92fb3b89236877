//! `stats`.

use hucha_store::format::objects::Manifest;
use hucha_store::index::Encoding;
use hucha_store::repository::Repository;
use hucha_store::stats::{self, SnapshotStats, Stats};

use super::{Run, named_or_filtered, once};
use crate::args::StatsArgs;
use crate::errors::{Code, Failure, Outcome};
use crate::open::open;
use crate::render::table::{Heading, Table};
use crate::render::text;
use crate::times;

/// Shows a repository, or some of its snapshots, in numbers.
pub fn stats(run: &mut Run, args: &StatsArgs) -> Outcome {
    let repository = open(&run.settings)?;
    match args.snapshots.is_empty() && args.filter.is_empty() {
        true => whole(run, &repository),
        false => single(run, &repository, args),
    }
}

fn whole(run: &mut Run, repository: &Repository) -> Outcome {
    let stats = stats::stats(repository)?;
    if run.out.json {
        let named = Encoding::ALL.iter().zip(&stats.encodings);
        let encodings: Vec<serde_json::Value> = named
            .map(|(encoding, encoded)| {
                serde_json::json!({
                    "encoding": encoding.name(),
                    "chunks": encoded.chunks,
                    "plain_bytes": encoded.plain_bytes,
                })
            })
            .collect();
        run.out.object(
            "stats",
            &serde_json::json!({
                "snapshots": stats.snapshots,
                "forgotten": stats.forgotten,
                "packs": stats.packs,
                "chunks": stats.chunks,
                "deltas": stats.deltas,
                "encodings": encodings,
                "mean_depth": two_digits(stats.mean_depth()),
                "greatest_depth": stats.deepest,
                "stored_bytes": stats.stored_bytes,
                "pack_bytes": stats.pack_bytes,
                "plain_bytes": stats.plain_bytes,
                "restore_bytes": stats.restore_bytes,
                "condemned_bytes": stats.condemned_bytes,
                "deduplication": ratio(stats.restore_bytes, stats.plain_bytes),
                "compression": ratio(stats.plain_bytes, stats.pack_bytes),
            }),
        )?;
        return Ok(Code::Done);
    }
    let table = table(&stats);
    let lines = table.lines();
    lines
        .iter()
        .skip(1)
        .try_for_each(|line| run.out.line(line))?;
    Ok(Code::Done)
}

/// How many times as large the first is, to two digits; 1 of nothing.
fn ratio(large: u64, small: u64) -> f64 {
    match small {
        0 => 1.0,
        small => two_digits(large as f64 / small as f64),
    }
}

fn two_digits(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

fn table(stats: &Stats) -> Table {
    let mut table = Table::new(&[Heading::Left(""), Heading::Right(""), Heading::Left("")]);
    let mut row = |what: &str, value: String, note: String| {
        table.row(vec![what.to_owned(), value, note]);
    };
    let none = String::new;
    row("Snapshots", text::count(stats.snapshots), none());
    if stats.forgotten > 0 {
        let note = "until gc removes them".to_owned();
        row("Forgotten", text::count(stats.forgotten), note);
    }
    row(
        "All snapshots together",
        text::size(stats.restore_bytes),
        "what restoring each would write".to_owned(),
    );
    let times = ratio(stats.restore_bytes, stats.plain_bytes);
    row(
        "Different data",
        text::size(stats.plain_bytes),
        format!("each chunk once: {times:.2} times less"),
    );
    let times = ratio(stats.plain_bytes, stats.pack_bytes);
    row(
        "Packs",
        text::size(stats.pack_bytes),
        format!(
            "compressed: {times:.2} times less; {}",
            text::counted(stats.packs, "pack", "packs")
        ),
    );
    row(
        "Stored",
        text::size(stats.stored_bytes),
        "what the repository takes up".to_owned(),
    );
    if stats.condemned_bytes > 0 {
        let note = "by the next gc".to_owned();
        row("To be freed", text::size(stats.condemned_bytes), note);
    }
    let deltas = format!("{} of them deltas", text::count(stats.deltas));
    row("Chunks", text::count(stats.chunks), deltas);
    for (encoding, encoded) in Encoding::ALL.iter().zip(&stats.encodings) {
        if encoded.chunks == 0 {
            continue;
        }
        let plain = text::size(encoded.plain_bytes);
        let note = match encoding {
            Encoding::Raw => format!("{plain} that do not compress"),
            Encoding::Zstd => format!("{plain}, each by itself"),
            Encoding::Shared => format!("{plain}, compressed with their neighbours"),
            Encoding::Delta => format!(
                "{plain}, {:.2} deep on average, {} at most",
                stats.mean_depth(),
                stats.deepest
            ),
        };
        row(
            &format!("  {}", encoding.name()),
            text::count(encoded.chunks),
            note,
        );
    }
    table
}

fn single(run: &mut Run, repository: &Repository, args: &StatsArgs) -> Outcome {
    let mut picked = named_or_filtered(run, repository, &args.snapshots, &args.filter)?;
    let chosen = picked.manifests;
    once(&mut picked.committed);
    let counted = stats::of_snapshots(repository, &chosen, &picked.committed)?;
    let mut table = Table::new(&[
        Heading::Left("ID"),
        Heading::Left("Time"),
        Heading::Right("Files"),
        Heading::Right("Restored"),
        Heading::Right("Each chunk once"),
        Heading::Right("Only here"),
        Heading::Right("Chunks"),
        Heading::Right("Deltas"),
    ]);
    for (manifest, counted) in chosen.iter().zip(&counted) {
        match run.out.json {
            true => object(run, manifest, counted)?,
            false => table.row(vec![
                format!("{:.8}", manifest.id),
                times::local(manifest.time, &run.zone),
                text::count(manifest.files),
                text::size(manifest.bytes),
                text::size(counted.plain_bytes),
                text::size(counted.unique_bytes),
                text::count(counted.chunks),
                text::count(counted.deltas),
            ]),
        }
    }
    if !run.out.json && table.is_empty() {
        run.out.remark("no snapshots");
    } else if !run.out.json {
        table
            .lines()
            .iter()
            .try_for_each(|line| run.out.line(line))?;
    }
    Ok(Code::Done)
}

fn object(run: &mut Run, manifest: &Manifest, counted: &SnapshotStats) -> Result<(), Failure> {
    run.out.object(
        "snapshot-stats",
        &serde_json::json!({
            "id": manifest.id.to_string(),
            "entries": manifest.entries,
            "files": manifest.files,
            "restore_bytes": manifest.bytes,
            "plain_bytes": counted.plain_bytes,
            "unique_bytes": counted.unique_bytes,
            "chunks": counted.chunks,
            "deltas": counted.deltas,
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios() {
        assert_eq!((ratio(10, 4), ratio(1, 3), ratio(0, 0)), (2.5, 0.33, 1.0));
    }
}

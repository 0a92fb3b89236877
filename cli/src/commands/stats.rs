//! `stats`.

use hucha_store::stats;

use super::Run;
use crate::errors::{Code, Outcome};
use crate::open::open;
use crate::render::table::{Heading, Table};
use crate::render::text;

/// Shows a repository in numbers.
pub fn stats(run: &mut Run) -> Outcome {
    let repository = open(&run.settings)?;
    let stats = stats::stats(&repository)?;
    if run.out.json {
        run.out.object(
            "stats",
            &serde_json::json!({
                "snapshots": stats.snapshots,
                "forgotten": stats.forgotten,
                "packs": stats.packs,
                "chunks": stats.chunks,
                "stored_bytes": stats.stored_bytes,
                "pack_bytes": stats.pack_bytes,
                "plain_bytes": stats.plain_bytes,
                "restore_bytes": stats.restore_bytes,
                "condemned_bytes": stats.condemned_bytes,
            }),
        )?;
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

//! The table of one corpus: a line a tool, and one that sets hucha against the best of the peers.

use std::fmt::Write;

use super::Figures;
use super::measure::Taken;
use super::tools::{Kind, Tool};

/// A column: its heading and a tool's figure.
type Column = (&'static str, fn(&Figures) -> Option<f64>);

const COLUMNS: [Column; 13] = [
    ("first s", |f| f.nights.first().map(|t| t.seconds)),
    ("later night s", |f| {
        median(f.nights.iter().skip(1).map(|t| t.seconds))
    }),
    ("unchanged s", |f| seconds(&f.unchanged)),
    ("restore last s", |f| seconds(&f.restore_last)),
    ("restore first s", |f| seconds(&f.restore_first)),
    ("check s", |f| f.check.map(|t| t.seconds)),
    ("forget+gc s", |f| Some(f.collect.seconds)),
    ("first CPU s", |f| f.nights.first().map(|t| t.cpu)),
    ("later CPU s", |f| {
        median(f.nights.iter().skip(1).map(|t| t.cpu))
    }),
    ("peak MiB", |f| {
        all(f)
            .map(|t| t.peak as f64 / (1 << 20) as f64)
            .reduce(f64::max)
    }),
    ("first MB", |f| f.sizes.first().map(|s| *s as f64 / 1e6)),
    ("MB a night", |f| {
        let (first, last) = (f.sizes.first()?, f.sizes.last()?);
        let nights = f.sizes.len().saturating_sub(1).max(1);
        Some((*last as f64 - *first as f64) / 1e6 / nights as f64)
    }),
    ("MB after gc", |f| Some(f.collected as f64 / 1e6)),
];

/// The table in Markdown.
pub fn table(
    corpus: &str,
    bytes: u64,
    nights: usize,
    tools: &[Tool],
    figures: &[Figures],
) -> String {
    let mut out = format!(
        "\n## {corpus}: {} MB, {nights} nights\n\n| tool |",
        bytes / 1_000_000
    );
    for (heading, _) in COLUMNS {
        let _ = write!(out, " {heading} |");
    }
    let _ = writeln!(out, "\n|---|{}", "---|".repeat(COLUMNS.len()));
    for (tool, figures) in tools.iter().zip(figures) {
        let _ = write!(out, "| {} |", tool.version);
        for (_, figure) in COLUMNS {
            out.push_str(&cell(figure(figures), ""));
        }
        out.push('\n');
    }
    let own = tools
        .iter()
        .zip(figures)
        .find(|(t, _)| t.kind == Kind::Hucha);
    if let (Some((_, own)), true) = (own, tools.len() > 1) {
        out.push_str("| hucha ÷ best peer |");
        for (_, figure) in COLUMNS {
            let peers = tools
                .iter()
                .zip(figures)
                .filter(|(t, _)| t.kind != Kind::Hucha);
            let best = peers.filter_map(|(_, f)| figure(f)).reduce(f64::min);
            let ratio = figure(own).zip(best).map(|(own, best)| own / best);
            out.push_str(&cell(ratio, "×"));
        }
        out.push('\n');
    }
    out
}

fn cell(figure: Option<f64>, unit: &str) -> String {
    match figure {
        None => " – |".into(),
        Some(n) if n >= 100.0 => format!(" {n:.0}{unit} |"),
        Some(n) => format!(" {n:.2}{unit} |"),
    }
}

/// Every command that was measured.
fn all(figures: &Figures) -> impl Iterator<Item = &Taken> {
    let runs = figures.nights.iter().chain(&figures.unchanged);
    let restores = figures.restore_last.iter().chain(&figures.restore_first);
    runs.chain(restores)
        .chain(&figures.check)
        .chain([&figures.collect])
}

fn seconds(taken: &[Taken]) -> Option<f64> {
    median(taken.iter().map(|t| t.seconds))
}

fn median(figures: impl Iterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = figures.collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

//! The tables of one corpus: a line a tool, and one that sets hucha against the best of the peers.

use std::fmt::Write;

use super::figures::{DEEDS, Deed, Figures};
use super::outcome::{Outcome, PEERS, peers};
use super::tools::Kind;

/// A figure of a tool.
type Figure = Box<dyn Fn(&Figures) -> Option<f64>>;

/// A column: its heading, whom hucha is set against in it, and a tool's figure.
struct Column {
    heading: &'static str,
    peers: &'static [Kind],
    figure: Figure,
}

/// All tables in Markdown.
pub fn tables(outcome: &Outcome) -> String {
    let [first, last] = outcome.bytes.map(|bytes| bytes / 1_000_000);
    let mut out = format!(
        "\n## {}: {first} MB in the first night, {last} MB in the last of {}\n\nCounted: {}.\n",
        outcome.corpus, outcome.nights, outcome.touched
    );
    let wall = deeds(Figures::seconds);
    let cpu = deeds(Figures::cpu);
    let peak = deeds(Figures::peak);
    for (title, columns) in [
        ("seconds", wall),
        ("CPU seconds", cpu),
        ("peak MiB", peak),
        ("repository", repository()),
    ] {
        table(&mut out, title, &columns, outcome);
    }
    out
}

fn deeds(figure: fn(&Figures, Deed) -> Option<f64>) -> Vec<Column> {
    let column = |(deed, heading): &(Deed, &'static str)| {
        let deed = *deed;
        Column {
            heading,
            peers: peers(deed),
            figure: Box::new(move |f: &Figures| figure(f, deed)),
        }
    };
    DEEDS.iter().map(column).collect()
}

fn repository() -> Vec<Column> {
    let column = |heading, figure: fn(&Figures) -> Option<f64>| Column {
        heading,
        peers: PEERS,
        figure: Box::new(figure),
    };
    vec![
        column("first MB", Figures::first),
        column("MB a night", Figures::growth),
        column("MB after gc", |f| f.collected.map(|n| n as f64 / 1e6)),
        column("files", |f| f.files.map(|n| n as f64)),
    ]
}

fn table(out: &mut String, title: &str, columns: &[Column], outcome: &Outcome) {
    let _ = write!(out, "\n| {title} |");
    for column in columns {
        let _ = write!(out, " {} |", column.heading);
    }
    let _ = writeln!(out, "\n|---|{}", "---|".repeat(columns.len()));
    for (tool, figures) in &outcome.lines {
        let _ = write!(out, "| {} |", tool.version);
        for column in columns {
            out.push_str(&cell((column.figure)(figures), ""));
        }
        out.push('\n');
    }
    if outcome.lines.iter().any(|(t, _)| t.kind != Kind::Hucha) {
        out.push_str("| hucha ÷ best peer |");
        for column in columns {
            let ratio = outcome.ratio(column.peers, &column.figure);
            out.push_str(&cell(ratio, "×"));
        }
        out.push('\n');
    }
}

fn cell(figure: Option<f64>, unit: &str) -> String {
    match figure {
        None => " – |".into(),
        Some(n) if n >= 100.0 => format!(" {n:.0}{unit} |"),
        Some(n) => format!(" {n:.2}{unit} |"),
    }
}

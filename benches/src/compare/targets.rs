//! What hucha is to reach, and whether it did: ratios to the best peer of the same run, or absolute
//! figures.

use std::fmt::Write;

use super::figures::{Deed, Figures};
use super::outcome::{Outcome, PEERS, peers};
use super::tools::Kind;

/// A corpus by name, and the most that a figure may be there.
type Limit = fn(&str) -> Option<f64>;

/// A line of the table.
struct Target {
    what: &'static str,
    limit: Limit,
    figure: fn(&Outcome) -> Option<f64>,
}

fn time(outcome: &Outcome, deed: Deed) -> Option<f64> {
    outcome.ratio(peers(deed), |f| f.seconds(deed))
}

const TARGETS: [Target; 11] = [
    Target {
        what: "growth a night ÷ best peer",
        limit: |corpus| match corpus {
            "dump-heap" => Some(1.0 / 15.0),
            "dump-key" => Some(1.0 / 20.0),
            "sqlite" => Some(1.0 / 18.0),
            "tree" => Some(1.0 / 4.0),
            _ => None,
        },
        figure: |o| o.ratio(PEERS, Figures::growth),
    },
    Target {
        what: "repository after the first night ÷ smallest",
        limit: |corpus| match corpus {
            "tree" => Some(1.0),
            "random" => None,
            _ => Some(1.03),
        },
        figure: |o| o.ratio(PEERS, Figures::first),
    },
    Target {
        what: "time of the first night ÷ best peer",
        limit: |_| Some(0.6),
        figure: |o| time(o, Deed::First),
    },
    Target {
        what: "time of a later night ÷ best peer",
        limit: |_| Some(0.6),
        figure: |o| time(o, Deed::Later),
    },
    Target {
        what: "time of a check of all data ÷ best peer",
        limit: |_| Some(0.6),
        figure: |o| time(o, Deed::Check),
    },
    Target {
        what: "time of forget and gc ÷ best of restic and rustic",
        limit: |_| Some(0.6),
        figure: |o| time(o, Deed::Collect),
    },
    Target {
        what: "time of an unchanged night ÷ best of restic and rustic",
        limit: |_| Some(0.5),
        figure: |o| time(o, Deed::Unchanged),
    },
    Target {
        what: "time of an unchanged night with a key file ÷ bupstash",
        limit: |corpus| (corpus == "tree").then_some(1.0),
        figure: |o| {
            let unchanged = |f: &Figures| f.seconds(Deed::Unchanged);
            let own = o.by_key_file().and_then(unchanged)?;
            Some(own / o.best(&[Kind::Bupstash], unchanged)?)
        },
    },
    Target {
        what: "time to restore the last night ÷ best peer",
        limit: |_| Some(0.8),
        figure: |o| time(o, Deed::RestoreLast),
    },
    Target {
        what: "time to restore the first night ÷ best peer",
        limit: |_| Some(0.8),
        figure: |o| time(o, Deed::RestoreFirst),
    },
    Target {
        what: "peak memory of each, MiB",
        limit: |_| Some(128.0),
        figure: |o| o.own().and_then(Figures::highest),
    },
];

/// The table in Markdown: a line a target, a column a corpus.
pub fn table(outcomes: &[Outcome]) -> String {
    let mut out = String::from("\n## Targets\n\n| what |");
    for outcome in outcomes {
        let _ = write!(out, " {} |", outcome.corpus);
    }
    let _ = writeln!(out, "\n|---|{}", "---|".repeat(outcomes.len()));
    for target in &TARGETS {
        let _ = write!(out, "| {} |", target.what);
        for outcome in outcomes {
            let limit = (target.limit)(&outcome.corpus);
            out.push_str(&cell((target.figure)(outcome), limit));
        }
        out.push('\n');
    }
    out
}

/// A figure, what it may be at most, and whether it is.
fn cell(figure: Option<f64>, limit: Option<f64>) -> String {
    let number = |n: f64| match n {
        n if n >= 100.0 => format!("{n:.0}"),
        n if n >= 0.2 => format!("{n:.2}"),
        n => format!("{n:.3}"),
    };
    match (figure, limit) {
        (None, _) => " – |".to_owned(),
        (Some(figure), None) => format!(" {} |", number(figure)),
        (Some(figure), Some(limit)) => {
            let met = if figure <= limit { "met" } else { "**missed**" };
            format!(" {} of {}: {met} |", number(figure), number(limit))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_meets_its_target_up_to_the_limit() {
        assert_eq!(cell(Some(0.6), Some(0.6)), " 0.60 of 0.60: met |");
        assert_eq!(cell(Some(0.61), Some(0.6)), " 0.61 of 0.60: **missed** |");
        assert_eq!(cell(Some(0.04), None), " 0.040 |");
        assert_eq!(cell(None, Some(0.6)), " – |");
    }
}

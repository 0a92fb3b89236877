//! The tables: a line a way, with what each night added.

use std::fmt::Write;

use super::way::Way;
use crate::compare::tools::Tool;

/// Folder of the repository that all forms of hucha share.
pub const SHARED: &str = "shared";

/// How the tables are to be read.
const ABOUT: &str = "
Every night ends with VACUUM ANALYZE; then the same state is stored in each way, with the defaults
of each tool, encrypted with a password. MB are those of the whole repository folder, after a
snapshot less before it. At the end the last night of each way is made a database again, and its
rows are compared with the live ones, by counts and by sums over all rows. Seconds are wall clock
on this machine, for restic with `pg_dump` and `psql` in the pipe; they decide nothing.
";

/// Each form has a host of its own, so that its parent is its own last night.
const IN_ONE: &str = "All forms of hucha in one repository, in this order, as of three hosts";

/// What a run was about.
#[derive(Debug, Default)]
pub struct Nights {
    /// Product and version of the server.
    pub server: String,
    /// Rows of the database in the last night.
    pub rows: usize,
    /// Share of the rows that each night touched, but the first.
    pub touched: Vec<f64>,
    /// Bytes of a script of `pg_dump` in the first night and in the last.
    pub dumped: [u64; 2],
}

/// One way to store it, and what came of it.
pub struct Line {
    /// How.
    pub way: Way,
    /// By what, with its repository.
    pub tool: Tool,
    /// Whether other ways use the repository too.
    is_shared: bool,
    /// Bytes that each night added.
    grown: Vec<i64>,
    /// Seconds that each night took.
    seconds: Vec<f64>,
    /// Seconds that a database was made in.
    pub restored: Option<f64>,
}

impl Line {
    /// A way with nothing stored yet.
    pub fn new(way: Way, tool: Tool, is_shared: bool) -> Line {
        Line {
            way,
            tool,
            is_shared,
            grown: Vec::new(),
            seconds: Vec::new(),
            restored: None,
        }
    }

    /// What one more night added, and how long it took.
    pub fn push(&mut self, grown: i64, seconds: f64) {
        self.grown.push(grown);
        self.seconds.push(seconds);
    }

    /// What stands in messages.
    pub fn title(&self) -> String {
        let shared = if self.is_shared { " (shared)" } else { "" };
        format!("{}{shared}", self.way.title())
    }

    /// MB of each night but the first.
    fn nights(&self) -> Vec<f64> {
        let nights = self.grown.iter().skip(1);
        nights.map(|bytes| *bytes as f64 / 1e6).collect()
    }

    fn first(&self) -> f64 {
        self.grown
            .first()
            .map_or(f64::NAN, |bytes| *bytes as f64 / 1e6)
    }

    fn mean(&self) -> f64 {
        let nights = self.nights();
        nights.iter().sum::<f64>() / nights.len() as f64
    }

    fn write(&self, out: &mut String, base: f64) {
        let nights = self.nights();
        let lowest = nights.iter().copied().reduce(f64::min);
        let highest = nights.iter().copied().reduce(f64::max);
        let mut later: Vec<f64> = self.seconds.iter().skip(1).copied().collect();
        later.sort_by(f64::total_cmp);
        let _ = write!(out, "| {} |", self.way.title());
        for (figure, unit) in [
            (Some(self.first()), ""),
            (Some(self.mean()), ""),
            (Some(self.mean() / base), "×"),
            (lowest, ""),
            (highest, ""),
            (self.seconds.first().copied(), ""),
            (later.get(later.len() / 2).copied(), ""),
            (self.restored, ""),
        ] {
            let _ = match figure {
                Some(n) if n >= 100.0 => write!(out, " {n:.0}{unit} |"),
                Some(n) => write!(out, " {n:.2}{unit} |"),
                None => write!(out, " – |"),
            };
        }
        out.push('\n');
    }
}

/// All tables in Markdown.
pub fn tables(told: &Nights, lines: &[Line]) -> String {
    let mut out = String::new();
    let versions: Vec<&str> = [Way::Tables, Way::Restic]
        .into_iter()
        .filter_map(|way| lines.iter().find(|line| line.way == way))
        .map(|line| line.tool.version.as_str())
        .collect();
    let nights = told.touched.len() + 1;
    let share = told.touched.iter().sum::<f64>() * 100.0 / told.touched.len() as f64;
    let [first, last] = told.dumped.map(|bytes| bytes / 1_000_000);
    let _ = writeln!(
        out,
        "- {}, {}\n- {nights} nights of {:.2} million rows in five tables, one of them without a \
         key; a night touches {share:.2} % of the rows\n- `pg_dump` prints {first} MB in the first \
         night, {last} MB in the last",
        told.server,
        versions.join(", "),
        told.rows as f64 / 1e6,
    );
    out.push_str(ABOUT);
    let apart: Vec<&Line> = lines.iter().filter(|line| !line.is_shared).collect();
    let shared: Vec<&Line> = lines.iter().filter(|line| line.is_shared).collect();
    for (title, lines) in [("Each in a repository of its own", apart), (IN_ONE, shared)] {
        let _ = writeln!(out, "\n## {title}\n");
        one_table(&mut out, &lines);
    }
    out
}

fn one_table(out: &mut String, lines: &[&Line]) {
    let base = lines.iter().find(|line| line.way == Way::Tables);
    let base = base.map_or(f64::NAN, |line| line.mean());
    out.push_str(
        "| way | first MB | MB a night | ÷ default | least MB | most MB | first s | a night s \
         | restore s |\n|---|---|---|---|---|---|---|---|---|\n",
    );
    for line in lines {
        line.write(out, base);
    }
    out.push_str("\nMB of each night from the second on:\n\n");
    for line in lines {
        let nights: Vec<String> = line.nights().iter().map(|mb| format!("{mb:.2}")).collect();
        let _ = writeln!(out, "- {}: {}", line.way.title(), nights.join(" "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A way with the MB of its nights.
    fn line(way: Way, nights: &[i64], is_shared: bool) -> Line {
        let tool = Tool::of_test();
        let mut line = Line::new(way, tool, is_shared);
        for mb in nights {
            line.push(mb * 1_000_000, 2.0);
        }
        line
    }

    #[test]
    fn ways_are_set_against_the_default_form_of_the_same_table() {
        let lines = [
            line(Way::Tables, &[100, 1, 3], false),
            line(Way::Restic, &[90, 60, 80], false),
            line(Way::Tables, &[100, 4, 4], true),
            line(Way::Plain, &[10, 8, 8], true),
        ];
        let told = Nights {
            touched: vec![0.01, 0.02],
            ..Nights::default()
        };
        let text = tables(&told, &lines);
        for wanted in [
            "3 nights",
            "touches 1.50 %",
            "| hucha, default form | 100 | 2.00 | 1.00× | 1.00 | 3.00 | 2.00 | 2.00 | – |",
            "| restic, `pg_dump` in a pipe | 90.00 | 70.00 | 35.00× | 60.00 | 80.00 |",
            "| hucha, `format=plain` | 10.00 | 8.00 | 2.00× |",
            "- hucha, default form: 1.00 3.00\n",
        ] {
            assert!(text.contains(wanted), "{wanted} is not in\n{text}");
        }
    }
}

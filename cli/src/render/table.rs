//! Tables of text.

/// Columns under headings, as wide as they must be; columns without any content are left out.
#[derive(Debug)]
pub struct Table {
    headings: Vec<Heading>,
    rows: Vec<Vec<String>>,
}

/// A column's name and on which side its cells stand.
#[derive(Debug, Clone, Copy)]
pub enum Heading {
    /// Words.
    Left(&'static str),
    /// Numbers.
    Right(&'static str),
}

impl Heading {
    fn text(self) -> &'static str {
        match self {
            Heading::Left(text) | Heading::Right(text) => text,
        }
    }
}

impl Table {
    /// An empty table.
    pub fn new(headings: &[Heading]) -> Table {
        Table {
            headings: headings.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The lines, headings first.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![String::new(); self.rows.len() + 1];
        for (column, heading) in self.headings.iter().enumerate() {
            let cell = |row: &Vec<String>| row.get(column).cloned().unwrap_or_default();
            let cells: Vec<String> = self.rows.iter().map(cell).collect();
            if !cells.is_empty() && cells.iter().all(String::is_empty) {
                continue;
            }
            let width = |text: &str| text.chars().count();
            let widest = cells.iter().map(|c| width(c)).max().unwrap_or(0);
            let wide = widest.max(width(heading.text()));
            let all = std::iter::once(heading.text()).chain(cells.iter().map(String::as_str));
            for (line, text) in lines.iter_mut().zip(all) {
                if !line.is_empty() || column > 0 {
                    line.push_str("  ");
                }
                let pad = " ".repeat(wide - width(text));
                match heading {
                    Heading::Left(_) => line.extend([text, &pad]),
                    Heading::Right(_) => line.extend([&pad, text]),
                }
            }
        }
        lines.iter().map(|l| l.trim_end().to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_fit_and_empty_ones_vanish() {
        let mut table = Table::new(&[
            Heading::Left("ID"),
            Heading::Left("Tags"),
            Heading::Right("Size"),
            Heading::Left("Path"),
        ]);
        table.row(vec!["añ".into(), "".into(), "5".into(), "/x".into()]);
        table.row(vec!["b".into(), "".into(), "12345".into(), "".into()]);
        assert_eq!(
            table.lines(),
            ["ID   Size  Path", "añ      5  /x", "b   12345"]
        );
    }
}

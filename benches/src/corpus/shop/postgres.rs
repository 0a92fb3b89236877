//! The shop as a live PostgreSQL database: a script that makes it, and one of single statements for
//! each night, as the programs of a shop send them, so that rows move as PostgreSQL moves them.
//!
//! Scripts only; whoever runs them has the server.

use std::fmt::Write as _;
use std::io::{self, Write};

use super::dump::write_row;
use super::rows::{Field, Row, TABLES, Table};
use super::{Change, Quick, Shop, Touched};

/// Only a plain index finds the rows of this table: it has no key, as logs often have none.
const WITHOUT_KEY: Table = Table::StockMoves;

/// What a shop asks for often.
const INDEXES: [&str; 5] = [
    "CREATE INDEX customers_email ON customers (email)",
    "CREATE INDEX orders_customer ON orders (customer)",
    "CREATE INDEX lines_order ON order_lines (order_id)",
    "CREATE INDEX moves_product ON stock_moves (product)",
    "CREATE INDEX moves_id ON stock_moves (id)",
];

/// A shop whose nights are scripts.
pub struct Script {
    shop: Shop,
    night: u64,
}

impl Script {
    /// Of a shop in `percent` of its full size.
    pub fn new(percent: usize) -> Script {
        let shop = Shop::new(percent);
        Script { shop, night: 0 }
    }

    /// Rows of all tables.
    pub fn rows(&self) -> usize {
        self.shop.rows()
    }

    /// Writes what makes the tables, fills them and adds keys and indexes.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn make(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut row = Row::default();
        for table in TABLES {
            let name = table.name();
            let columns = table.columns().iter();
            let columns: Vec<String> = columns.map(|c| format!("{} {}", c.0, kind(c))).collect();
            writeln!(out, "CREATE TABLE {name} ({});", columns.join(", "))?;
            writeln!(out, "COPY {name} FROM stdin;")?;
            for (key, version) in self.shop.table(table) {
                row.fill(table, key, version);
                write_row(out, &row)?;
            }
            writeln!(out, "\\.")?;
            if table != WITHOUT_KEY {
                writeln!(out, "ALTER TABLE {name} ADD PRIMARY KEY (id);")?;
            }
        }
        for index in INDEXES {
            writeln!(out, "{index};")?;
        }
        Ok(())
    }

    /// Lets a night pass and writes what happened, a statement each; answers how many rows it
    /// touched.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn next_night(&mut self, out: &mut dyn Write) -> io::Result<usize> {
        self.night += 1;
        let touched = in_order_of_time(self.night, self.shop.next_night());
        for table in TABLES {
            writeln!(out, "{}", prepare(table))?;
        }
        let mut row = Row::default();
        for Touched { table, key, change } in &touched {
            row.fill(*table, *key, self.shop.version(*table, *key));
            let changes = |n: usize| table.columns().get(n).is_some_and(|c| c.2);
            let (verb, values) = match change {
                Change::Insert => ("insert", values(&row, |_| true)),
                Change::Update => ("update", values(&row, |n| n == 0 || changes(n))),
                Change::Delete => ("delete", values(&row, |n| n == 0)),
            };
            writeln!(out, "EXECUTE {verb}_{}({values});", table.name())?;
        }
        Ok(touched.len())
    }
}

/// The type of a column: what a shop on PostgreSQL would choose.
fn kind(column: &(&str, &str, bool)) -> &'static str {
    match column.0 {
        "price" | "total" => "numeric(12,2) NOT NULL",
        "created" | "last_seen" | "placed" | "updated" | "handled" | "moved" => {
            "timestamp NOT NULL"
        }
        "newsletter" => "boolean NOT NULL",
        _ if column.1.starts_with("INTEGER") => "integer NOT NULL",
        _ => "text NOT NULL",
    }
}

/// A night is a day before it: what happens to rows that exist happens in no order of their keys,
/// new ones come in the order of theirs.
fn in_order_of_time(night: u64, touched: Vec<Touched>) -> Vec<Touched> {
    let new = |table: Table| {
        let of = |t: &&Touched| t.table == table && t.change == Change::Insert;
        touched.iter().filter(of).count()
    };
    let counts = TABLES.map(new);
    let mut seen = [0; TABLES.len()];
    /// Moments of a day.
    const DAY: usize = 1 << 40;
    let when = |t: Touched| {
        let table = t.table as usize;
        let moment = match t.change {
            Change::Insert => {
                seen[table] += 1;
                DAY / (counts[table] + 1) * seen[table]
            }
            Change::Update | Change::Delete => {
                Quick::of([6 + night, table as u64, u64::from(t.key)]).below(DAY)
            }
        };
        (moment, t)
    };
    let mut timed: Vec<(usize, Touched)> = touched.iter().copied().map(when).collect();
    timed.sort_by_key(|(moment, _)| *moment);
    timed.into_iter().map(|(_, t)| t).collect()
}

/// Statements that are prepared once a night.
fn prepare(table: Table) -> String {
    let (name, columns) = (table.name(), table.columns());
    let places: Vec<String> = (1..=columns.len()).map(|n| format!("${n}")).collect();
    let places = places.join(", ");
    let changing = (2..).zip(columns.iter().filter(|c| c.2));
    let set: Vec<String> = changing.map(|(n, c)| format!("{} = ${n}", c.0)).collect();
    let set = set.join(", ");
    format!(
        "PREPARE insert_{name} AS INSERT INTO {name} VALUES ({places});\n\
         PREPARE update_{name} AS UPDATE {name} SET {set} WHERE id = $1;\n\
         PREPARE delete_{name} AS DELETE FROM {name} WHERE id = $1;"
    )
}

/// The columns that a statement wants, as SQL.
fn values(row: &Row, wanted: impl Fn(usize) -> bool) -> String {
    let mut out = String::new();
    for (n, field) in row.fields.iter().enumerate().filter(|(n, _)| wanted(*n)) {
        let comma = if n > 0 { ", " } else { "" };
        let _ = match field {
            Field::Number(number) => write!(out, "{comma}{number}"),
            Field::Cents(cents) => write!(out, "{comma}{}.{:02}", cents / 100, cents % 100),
            Field::Text(range) => {
                let text = row.text(range).replace('\'', "''");
                write!(out, "{comma}'{text}'")
            }
        };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn night(script: &mut Script) -> (usize, String) {
        let mut out = Vec::new();
        let touched = script.next_night(&mut out).unwrap();
        (touched, String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_night_has_a_statement_for_each_row_and_follows_from_its_number() {
        let (mut one, mut other) = (Script::new(1), Script::new(1));
        let before = one.rows();
        let (touched, first) = night(&mut one);
        assert_eq!(first.matches("\nEXECUTE ").count(), touched);
        let share = touched as f64 / before as f64;
        assert!((0.01..0.02).contains(&share), "{share}");
        assert_eq!(night(&mut other), (touched, first.clone()));
        assert_ne!(night(&mut one).1, first);
    }

    #[test]
    fn new_rows_come_in_the_order_of_keys_and_others_in_none() {
        let (_, sql) = night(&mut Script::new(1));
        let keys = |verb: &str| -> Vec<u32> {
            let lines = sql.lines().filter_map(|line| line.strip_prefix(verb));
            let key = |rest: &str| rest.split([',', ')']).next()?.parse().ok();
            lines.filter_map(key).collect()
        };
        let new = keys("EXECUTE insert_orders(");
        assert!(new.len() > 10 && new.is_sorted());
        let old = keys("EXECUTE update_orders(");
        assert!(old.len() > 100 && !old.is_sorted());
    }

    #[test]
    fn rows_become_sql() {
        let mut row = Row::default();
        row.fill(Table::Orders, 7, 0);
        let sql = values(&row, |n| n == 0 || n == 4);
        assert!(sql.starts_with("7, ") && sql.ends_with(".99"), "{sql}");
        assert_eq!(
            prepare(Table::StockMoves).lines().nth(1),
            Some(
                "PREPARE update_stock_moves AS UPDATE stock_moves SET checked = $2 WHERE id = $1;"
            )
        );
    }
}

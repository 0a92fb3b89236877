//! The shop as a live SQLite file: made once, then changed by SQL in one transaction a night, so
//! that pages split, fill and empty as SQLite does it.

use std::io;
use std::path::Path;

use rusqlite::{Connection, Statement, ToSql, params_from_iter};

use super::rows::{Field, Row, TABLES, Table};
use super::{Change, Shop};

/// What a shop asks for often.
const INDEXES: [&str; 4] = [
    "CREATE INDEX customers_email ON customers (email)",
    "CREATE INDEX orders_customer ON orders (customer)",
    "CREATE INDEX lines_order ON order_lines (order_id)",
    "CREATE INDEX moves_product ON stock_moves (product)",
];

/// An open database.
pub struct Database {
    shop: Shop,
    connection: Connection,
}

impl Database {
    /// Makes the file, of a shop in `percent` of its full size.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn create(path: &Path, percent: usize) -> io::Result<Database> {
        let database = Database {
            shop: Shop::new(percent),
            connection: Connection::open(path).map_err(io::Error::other)?,
        };
        database.fill().map_err(io::Error::other)?;
        Ok(database)
    }

    /// Rows of all tables.
    pub fn rows(&self) -> usize {
        self.shop.rows()
    }

    /// Lets a night pass; answers how many rows it touched.
    ///
    /// # Errors
    /// When SQLite fails.
    pub fn next_night(&mut self) -> io::Result<usize> {
        self.change().map_err(io::Error::other)
    }

    fn fill(&self) -> rusqlite::Result<()> {
        // Nothing here survives a power cut, and need not: the file is made anew each time.
        self.connection.execute_batch(
            "PRAGMA page_size = 4096; PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;
             PRAGMA locking_mode = EXCLUSIVE; PRAGMA cache_size = -100000; BEGIN",
        )?;
        let mut row = Row::default();
        for table in TABLES {
            let columns = table.columns().iter();
            let columns: Vec<String> = columns.map(|c| format!("{} {}", c.0, c.1)).collect();
            let (name, columns) = (table.name(), columns.join(", "));
            self.connection
                .execute_batch(&format!("CREATE TABLE {name} ({columns})"))?;
            let mut insert = self.connection.prepare(&insert(table))?;
            for (key, version) in self.shop.table(table) {
                row.fill(table, key, version);
                execute(&mut insert, &row, |_| true)?;
            }
        }
        self.connection.execute_batch(&INDEXES.join(";"))?;
        self.connection.execute_batch("COMMIT")
    }

    fn change(&mut self) -> rusqlite::Result<usize> {
        let touched = self.shop.next_night();
        self.connection.execute_batch("BEGIN")?;
        let mut row = Row::default();
        for table in TABLES {
            let prepare = |sql: String| self.connection.prepare(&sql);
            let mut insert = prepare(insert(table))?;
            let mut update = prepare(update(table))?;
            let mut delete = prepare(format!("DELETE FROM {} WHERE id = ?1", table.name()))?;
            let changes = |n: usize| table.columns().get(n).is_some_and(|c| c.2);
            for t in touched.iter().filter(|t| t.table == table) {
                row.fill(table, t.key, self.shop.version(table, t.key));
                match t.change {
                    Change::Insert => execute(&mut insert, &row, |_| true)?,
                    Change::Update => execute(&mut update, &row, |n| n == 0 || changes(n))?,
                    Change::Delete => execute(&mut delete, &row, |n| n == 0)?,
                };
            }
        }
        self.connection.execute_batch("COMMIT")?;
        Ok(touched.len())
    }
}

fn insert(table: Table) -> String {
    let places = vec!["?"; table.columns().len()].join(", ");
    format!("INSERT INTO {} VALUES ({places})", table.name())
}

fn update(table: Table) -> String {
    let changing = table.columns().iter().filter(|c| c.2);
    let set: Vec<String> = (2..)
        .zip(changing)
        .map(|(n, c)| format!("{} = ?{n}", c.0))
        .collect();
    format!(
        "UPDATE {} SET {} WHERE id = ?1",
        table.name(),
        set.join(", ")
    )
}

/// Runs a statement with the columns that it wants.
fn execute(
    statement: &mut Statement<'_>,
    row: &Row,
    wanted: impl Fn(usize) -> bool,
) -> rusqlite::Result<usize> {
    let fields = row.fields.iter().enumerate();
    let values = fields
        .filter(|(n, _)| wanted(*n))
        .map(|(_, field)| match field {
            Field::Number(n) | Field::Cents(n) => Value::Number(*n),
            Field::Text(range) => Value::Text(row.text(range)),
        });
    statement.execute(params_from_iter(values))
}

/// What is bound, without a copy.
enum Value<'a> {
    Number(i64),
    Text(&'a str),
}

impl ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
        match self {
            Value::Number(n) => n.to_sql(),
            Value::Text(text) => text.to_sql(),
        }
    }
}

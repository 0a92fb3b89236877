//! What stands in a row: columns that never change follow from its key, the others from key and
//! version.

use std::fmt::Write;
use std::ops::Range;

use super::super::{Quick, vocabulary};

/// A table of the shop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// Who buys.
    Customers,
    /// What is sold.
    Products,
    /// Who bought when.
    Orders,
    /// Which products an order holds.
    OrderLines,
    /// What came into a warehouse and went out of it.
    StockMoves,
}

/// All of them, in the order of a dump.
pub const TABLES: [Table; 5] = [
    Table::Customers,
    Table::Products,
    Table::Orders,
    Table::OrderLines,
    Table::StockMoves,
];

/// A column: its name, its type in SQLite, and whether updates change it.
pub type Column = (&'static str, &'static str, bool);

/// Ten orders have so many lines.
pub const LINES_OF_TEN: usize = 27;
/// Rows at full size: 400 MB as a dump.
const CUSTOMERS: usize = 420_000;
const PRODUCTS: usize = 65_000;
const ORDERS: usize = 1_060_000;
const MOVES: usize = 1_060_000;
/// Orders a day; the oldest ones are of 2024.
const A_DAY: usize = 1400;

impl Table {
    /// Rows at full size.
    pub fn rows(self) -> usize {
        match self {
            Table::Customers => CUSTOMERS,
            Table::Products => PRODUCTS,
            Table::Orders => ORDERS,
            Table::OrderLines => ORDERS * LINES_OF_TEN / 10,
            Table::StockMoves => MOVES,
        }
    }

    /// Its name in SQL.
    pub fn name(self) -> &'static str {
        match self {
            Table::Customers => "customers",
            Table::Products => "products",
            Table::Orders => "orders",
            Table::OrderLines => "order_lines",
            Table::StockMoves => "stock_moves",
        }
    }

    /// Its columns; the first is the primary key.
    pub fn columns(self) -> &'static [Column] {
        match self {
            Table::Customers => &[
                ("id", "INTEGER PRIMARY KEY", false),
                ("name", "TEXT", false),
                ("email", "TEXT", false),
                ("street", "TEXT", false),
                ("postcode", "TEXT", false),
                ("city", "TEXT", false),
                ("phone", "TEXT", false),
                ("created", "TEXT", false),
                ("last_seen", "TEXT", true),
                ("points", "INTEGER", true),
                ("newsletter", "TEXT", true),
            ],
            Table::Products => &[
                ("id", "INTEGER PRIMARY KEY", false),
                ("sku", "TEXT", false),
                ("name", "TEXT", false),
                ("description", "TEXT", false),
                ("price", "INTEGER", true),
                ("stock", "INTEGER", true),
                ("updated", "TEXT", true),
            ],
            Table::Orders => &[
                ("id", "INTEGER PRIMARY KEY", false),
                ("customer", "INTEGER", false),
                ("placed", "TEXT", false),
                ("state", "TEXT", true),
                ("total", "INTEGER", false),
                ("payment", "TEXT", false),
                ("updated", "TEXT", true),
                ("note", "TEXT", false),
            ],
            Table::OrderLines => &[
                ("id", "INTEGER PRIMARY KEY", false),
                ("order_id", "INTEGER", false),
                ("product", "INTEGER", false),
                ("quantity", "INTEGER", false),
                ("price", "INTEGER", false),
                ("discount", "INTEGER", false),
                ("state", "TEXT", true),
                ("handled", "TEXT", true),
            ],
            Table::StockMoves => &[
                ("id", "INTEGER PRIMARY KEY", false),
                ("product", "INTEGER", false),
                ("warehouse", "TEXT", false),
                ("moved", "TEXT", false),
                ("pieces", "INTEGER", false),
                ("reason", "TEXT", false),
                ("checked", "TEXT", true),
            ],
        }
    }
}

/// Keys of the lines of an order.
pub fn lines_of(order: usize) -> Range<usize> {
    let from = |order: usize| (order * LINES_OF_TEN).div_ceil(10);
    from(order)..from(order + 1)
}

/// The value of one column.
#[derive(Debug, Clone)]
pub enum Field {
    /// A number.
    Number(i64),
    /// Money, in cents.
    Cents(i64),
    /// A part of the row's text.
    Text(Range<usize>),
}

/// One row; filled again and again, since there are millions.
#[derive(Debug, Default)]
pub struct Row {
    /// In the order of the table's columns.
    pub fields: Vec<Field>,
    text: String,
}

impl Row {
    /// The text of [`Field::Text`].
    pub fn text(&self, range: &Range<usize>) -> &str {
        self.text.get(range.clone()).unwrap_or_default()
    }

    /// Becomes this version of a row.
    pub fn fill(&mut self, table: Table, key: u32, version: u16) {
        self.fields.clear();
        self.text.clear();
        self.number(key as usize);
        let kind = 16 + table as u64;
        let mut fixed = Quick::of([kind, u64::from(key), 0]);
        let mut state = Quick::of([kind, u64::from(key), 1 + u64::from(version)]);
        let key = key as usize;
        match table {
            Table::Customers => self.customer(key, &mut fixed, &mut state),
            Table::Products => self.product(key, &mut fixed, &mut state),
            Table::Orders => self.order(key, &mut fixed, &mut state),
            Table::OrderLines => self.line(key, &mut fixed, &mut state),
            Table::StockMoves => self.stock_move(key, &mut fixed, &mut state),
        }
    }

    fn number(&mut self, number: usize) {
        self.fields.push(Field::Number(number as i64));
    }

    fn cents(&mut self, cents: usize) {
        self.fields.push(Field::Cents(cents as i64));
    }

    fn put(&mut self, write: impl FnOnce(&mut String)) {
        let from = self.text.len();
        write(&mut self.text);
        self.fields.push(Field::Text(from..self.text.len()));
    }

    fn word(&mut self, word: &str) {
        self.put(|text| text.push_str(word));
    }

    fn one_of(&mut self, random: &mut Quick, words: &[&str]) {
        let word = random.pick(words);
        self.word(word);
    }

    /// A point in time, `second` seconds after a day began.
    fn time(&mut self, day: usize, second: usize) {
        self.put(|text| {
            let (year, day) = (2024 + day / 336, day % 336);
            let _ = write!(
                text,
                "{year}-{:02}-{:02} {:02}:{:02}:{:02}",
                1 + day / 28,
                1 + day % 28,
                second / 3600 % 24,
                second / 60 % 60,
                second % 60,
            );
        });
    }

    fn customer(&mut self, key: usize, fixed: &mut Quick, state: &mut Quick) {
        let (first, last) = (vocabulary::word(fixed), vocabulary::word(fixed));
        let day = key / 580;
        self.put(|text| {
            let _ = write!(text, "{first} {last}");
        });
        let host = fixed.pick(&["example.org", "mail.example", "post.example.net"]);
        self.put(|text| {
            let _ = write!(text, "{first}.{last}@{host}");
        });
        let street = vocabulary::word(fixed);
        self.put(|text| {
            let _ = write!(text, "{street} street {}", 1 + fixed.below(120));
        });
        let town = fixed.skewed(2500);
        self.put(|text| {
            let _ = write!(text, "{:05}", 10_000 + town * 31);
        });
        self.word(vocabulary::word(&mut Quick::of([3, town as u64, 0])));
        self.put(|text| {
            let _ = write!(text, "+49 {} {:04}00", 30 + town, fixed.below(10_000));
        });
        self.time(day, fixed.below(1440) * 60);
        self.time(
            day + state.below(720 - day.min(700)),
            state.below(288) * 300,
        );
        self.number(state.skewed(4000));
        self.one_of(state, &["t", "f"]);
    }

    fn product(&mut self, key: usize, fixed: &mut Quick, state: &mut Quick) {
        self.put(|text| {
            let _ = write!(text, "SKU-{:03}-{key:06}", key / 250);
        });
        let kind = vocabulary::word(&mut Quick::of([4, key as u64 / 250, 0]));
        self.put(|text| {
            let (a, b) = (vocabulary::word(fixed), vocabulary::word(fixed));
            let _ = write!(text, "{kind} {a} {b}");
        });
        self.put(|text| {
            let _ = write!(text, "This {kind} is made of");
            for _ in 0..20 + fixed.below(50) {
                let _ = write!(text, " {}", vocabulary::word(fixed));
            }
        });
        self.cents(fixed.below(500) * 100 + 99 + state.below(4) * 50);
        self.number(state.skewed(900));
        self.time(600 + state.below(120), state.below(288) * 300);
    }

    fn order(&mut self, key: usize, fixed: &mut Quick, state: &mut Quick) {
        let (day, second) = (key / A_DAY, key % A_DAY * (86_400 / A_DAY));
        self.number(fixed.skewed(CUSTOMERS));
        self.time(day, second + fixed.below(6) * 10);
        self.one_of(state, &["open", "paid", "sent", "sent", "returned"]);
        self.cents(fixed.skewed(400) * 100 + 99);
        self.one_of(fixed, &["card", "invoice", "transfer", "card", "voucher"]);
        self.time(day + state.skewed(20), state.below(288) * 300);
        self.put(|text| {
            for _ in 0..fixed.skewed(12) {
                let _ = write!(text, "{} ", vocabulary::word(fixed));
            }
        });
    }

    fn line(&mut self, key: usize, fixed: &mut Quick, state: &mut Quick) {
        let order = key * 10 / LINES_OF_TEN;
        let product = fixed.skewed(PRODUCTS);
        self.number(order);
        self.number(product);
        self.number(1 + fixed.skewed(4));
        self.cents(Quick::of([5, product as u64, 0]).below(60) * 100 + 99);
        self.number(fixed.pick(&[0, 0, 0, 5, 10]));
        self.one_of(state, &["packed", "packed", "waiting", "back"]);
        self.time(order / A_DAY + state.skewed(10), state.below(48) * 1800);
    }

    fn stock_move(&mut self, key: usize, fixed: &mut Quick, state: &mut Quick) {
        self.number(fixed.skewed(PRODUCTS));
        self.one_of(fixed, &["north", "south", "harbour"]);
        self.time(key / A_DAY, key % A_DAY * (86_400 / A_DAY));
        self.number(fixed.skewed(60));
        self.one_of(fixed, &["sale", "sale", "sale", "delivery", "stock-taking"]);
        self.one_of(state, &["yes", "yes", "no"]);
    }
}

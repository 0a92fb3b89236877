//! The database of a shop: its tables, and what a night changes in them.
//!
//! Who changes what is that of a real shop. Orders of the last weeks are paid, sent, returned; a
//! few old ones are touched too, anywhere. Customers log in and products are sold here and there.
//! What was ordered or moved long ago stays as it is: that is the colder half of the database.

pub mod dump;
pub mod postgres;
pub mod rows;
pub mod sqlite;

use super::Quick;
use rows::{LINES_OF_TEN, TABLES, Table};

/// What became of a row in a night.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It has another version now.
    Update,
    /// It is new.
    Insert,
    /// It is gone.
    Delete,
}

/// A row that a night touched.
#[derive(Debug, Clone, Copy)]
pub struct Touched {
    /// In which table.
    pub table: Table,
    /// Its primary key.
    pub key: u32,
    /// What became of it.
    pub change: Change,
}

/// Versions of the rows of one table, by key; `None` when deleted.
type Versions = Vec<Option<u16>>;

/// The tables as they stand after some nights.
pub struct Shop {
    versions: [Versions; TABLES.len()],
    night: u64,
}

/// Share of a table, in thousandths, that is recent.
const RECENT_ORDERS: usize = 40;
const RECENT_MOVES: usize = 60;
/// Share of the order lines, in thousandths, that a return or a complaint may still touch.
const OPEN_LINES: usize = 450;

impl Shop {
    /// Tables in `percent` of their full sizes.
    pub fn new(percent: usize) -> Shop {
        let rows = |table: &Table| vec![Some(0); (table.rows() * percent / 100).max(1000)];
        let mut versions = TABLES.each_ref().map(rows);
        // The lines are those of the orders.
        let lines = versions[Table::Orders as usize].len() * LINES_OF_TEN / 10;
        versions[Table::OrderLines as usize].resize(lines, Some(0));
        Shop { versions, night: 0 }
    }

    /// Rows that exist.
    pub fn rows(&self) -> usize {
        let all = self.versions.iter();
        all.map(|rows| rows.iter().flatten().count()).sum()
    }

    /// Keys and versions of the rows of a table, in the order of keys.
    pub fn table(&self, table: Table) -> impl Iterator<Item = (u32, u16)> {
        let rows = (0_u32..).zip(&self.versions[table as usize]);
        rows.filter_map(|(key, version)| Some((key, (*version)?)))
    }

    /// The version of a row; 0 when it is gone.
    pub fn version(&self, table: Table, key: u32) -> u16 {
        let rows = &self.versions[table as usize];
        rows.get(key as usize).copied().flatten().unwrap_or(0)
    }

    /// Lets a night pass; each row is touched once at most.
    pub fn next_night(&mut self) -> Vec<Touched> {
        self.night += 1;
        let mut night = Night {
            random: Quick::of([2, self.night, 0]),
            shop: self,
            touched: Vec::new(),
        };
        night.customers();
        night.products();
        night.orders();
        night.lines();
        night.moves();
        let mut touched = night.touched;
        // The sort is stable, so what happened to a row first counts: deletions come first, and
        // what is updated again, or after it was inserted, has its last version anyway.
        touched.sort_by_key(|t| (t.table as usize, t.key));
        touched.dedup_by_key(|t| (t.table, t.key));
        touched
    }
}

/// A night at work.
struct Night<'a> {
    shop: &'a mut Shop,
    random: Quick,
    touched: Vec<Touched>,
}

impl Night<'_> {
    fn count(&self, table: Table) -> usize {
        self.shop.versions[table as usize].len()
    }

    fn update(&mut self, table: Table, key: usize) {
        self.change(table, key, Change::Update);
    }

    fn change(&mut self, table: Table, key: usize, change: Change) {
        let rows = &mut self.shop.versions[table as usize];
        let Some(row) = rows.get_mut(key) else { return };
        let Some(version) = *row else { return };
        *row = match change {
            Change::Delete => None,
            Change::Update | Change::Insert => Some(version.wrapping_add(1)),
        };
        let key = key as u32;
        self.touched.push(Touched { table, key, change });
    }

    fn insert(&mut self, table: Table, count: usize) {
        for _ in 0..count {
            let rows = &mut self.shop.versions[table as usize];
            let key = rows.len() as u32;
            rows.push(Some(0));
            let change = Change::Insert;
            self.touched.push(Touched { table, key, change });
        }
    }

    /// Updates one row in so many, anywhere.
    fn spread(&mut self, table: Table, one_in: usize) {
        let count = self.count(table);
        for _ in 0..count / one_in {
            let key = self.random.below(count);
            self.update(table, key);
        }
    }

    /// Updates `times` of the newest rows, the very newest most often.
    fn newest(&mut self, table: Table, thousandths: usize, times: usize) {
        let count = self.count(table);
        for _ in 0..times {
            let back = self.random.skewed(count * thousandths / 1000);
            self.update(table, count - 1 - back);
        }
    }

    fn customers(&mut self) {
        let count = self.count(Table::Customers);
        for _ in 0..count / 8000 {
            let key = self.random.below(count);
            self.change(Table::Customers, key, Change::Delete);
        }
        self.spread(Table::Customers, 80);
        self.insert(Table::Customers, count / 1500);
    }

    /// What was sold has less in stock; one category has new prices.
    fn products(&mut self) {
        let count = self.count(Table::Products);
        self.spread(Table::Products, 18);
        let from = self.random.below(count);
        for key in from..from + count / 250 {
            self.update(Table::Products, key);
        }
        self.insert(Table::Products, count / 4000);
    }

    fn orders(&mut self) {
        let count = self.count(Table::Orders);
        for _ in 0..count / 10_000 {
            let back = self.random.below(count * RECENT_ORDERS / 1000);
            let order = count - 1 - back;
            self.change(Table::Orders, order, Change::Delete);
            for line in rows::lines_of(order) {
                self.change(Table::OrderLines, line, Change::Delete);
            }
        }
        self.newest(Table::Orders, RECENT_ORDERS, count / 70);
        self.spread(Table::Orders, 140);
        self.insert(Table::Orders, count / 700);
    }

    /// Lines of new orders, of orders that are packed, and of some that come back.
    fn lines(&mut self) {
        let count = self.count(Table::OrderLines);
        self.newest(Table::OrderLines, RECENT_ORDERS, count / 180);
        for _ in 0..count / 500 {
            let back = self.random.below(count * OPEN_LINES / 1000);
            self.update(Table::OrderLines, count - 1 - back);
        }
        let wanted = self.count(Table::Orders) * LINES_OF_TEN / 10;
        self.insert(Table::OrderLines, wanted.saturating_sub(count));
    }

    fn moves(&mut self) {
        let count = self.count(Table::StockMoves);
        self.newest(Table::StockMoves, RECENT_MOVES, count / 400);
        self.insert(Table::StockMoves, count / 180);
    }
}

//! A plain SQL dump of a shop's database, on disk, as `pg_dump` writes it: one COPY block a table.
//! A night updates some rows, adds and deletes a few.
//!
//! In heap order an updated row leaves its place and goes into one that an earlier night freed, or
//! to the end, as PostgreSQL does; in key order it stays where its key is.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::{Random, WORDS};

/// The order of rows in the dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// As the pages of the table hold them.
    Heap,
    /// By primary key.
    Key,
}

/// One row: its key, and how often it was updated.
#[derive(Debug, Clone, Copy)]
struct Row {
    key: u32,
    version: u32,
}

/// The tables, as they stand after some nights.
pub struct Dump {
    /// Places of the heap; freed ones are `None`.
    orders: Vec<Option<Row>>,
    /// Places that an earlier night freed.
    free: Vec<usize>,
    next_key: u32,
}

/// Rows that a night updates, adds, deletes: one in so many.
const UPDATED: usize = 66;
const ADDED: usize = 300;
const DELETED: usize = 1000;

impl Dump {
    /// So many rows, of about 110 bytes each.
    pub fn new(rows: u32) -> Dump {
        let orders = (0..rows).map(|key| Some(Row { key, version: 0 }));
        Dump {
            orders: orders.collect(),
            free: Vec::new(),
            next_key: rows,
        }
    }

    /// Updates, adds and deletes. Two thirds of the updates go to the newest tenth.
    pub fn next_night(&mut self, night: usize) {
        let mut random = Random::seeded(&format!("dump night {night}"));
        let rows = self.orders.len();
        let mut freed = Vec::new();
        let mut put = Vec::new();
        for _ in 0..rows / UPDATED {
            let recent = random.below(3) > 0;
            let from = if recent { rows - rows / 10 } else { 0 };
            let at = from + random.below(rows - from);
            if let Some(row) = self.orders.get_mut(at).and_then(Option::take) {
                freed.push(at);
                let version = row.version + 1;
                put.push(Row { version, ..row });
            }
        }
        for _ in 0..rows / DELETED {
            let at = random.below(rows);
            if self.orders.get_mut(at).and_then(Option::take).is_some() {
                freed.push(at);
            }
        }
        for _ in 0..rows / ADDED {
            let key = self.next_key;
            self.next_key += 1;
            put.push(Row { key, version: 0 });
        }
        for row in put {
            match self.free.pop() {
                Some(at) => {
                    if let Some(place) = self.orders.get_mut(at) {
                        *place = Some(row);
                    }
                }
                None => self.orders.push(Some(row)),
            }
        }
        // Vacuum: what this night freed can be used from the next one on, lowest place first.
        self.free.extend(freed);
        self.free.sort_unstable_by(|a, b| b.cmp(a));
    }

    /// Writes the dump.
    pub fn write(&self, path: &Path, order: Order) -> io::Result<()> {
        let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
        writeln!(
            out,
            "--\n-- PostgreSQL database dump\n--\n\nSET client_encoding = 'UTF8';\n"
        )?;
        writeln!(
            out,
            "COPY public.orders (id, customer, placed, state, total, note) FROM stdin;"
        )?;
        let mut rows: Vec<Row> = self.orders.iter().flatten().copied().collect();
        if order == Order::Key {
            rows.sort_unstable_by_key(|row| row.key);
        }
        let mut line = Vec::new();
        for row in rows {
            line.clear();
            write_row(&mut line, row)?;
            out.write_all(&line)?;
        }
        writeln!(
            out,
            "\\.\n\nALTER TABLE ONLY public.orders ADD PRIMARY KEY (id);"
        )?;
        out.flush()
    }
}

/// Columns that never change follow from the key, the others from key and version.
fn write_row(out: &mut Vec<u8>, row: Row) -> io::Result<()> {
    let mut fixed = Random::seeded(&format!("row {}", row.key));
    let mut state = Random::seeded(&format!("row {} version {}", row.key, row.version));
    let minute = row.key as usize / 8;
    write!(
        out,
        "{}\t{}\t2026-{:02}-{:02} {:02}:{:02}:{:02}.{:06}+00\t{}\t{}.{:02}\t",
        row.key,
        fixed.below(200_000),
        1 + minute / 43_200 % 12,
        1 + minute / 1440 % 28,
        minute / 60 % 24,
        minute % 60,
        fixed.below(60),
        fixed.below(1_000_000),
        state.pick(&["open", "paid", "sent", "returned"]),
        state.below(900),
        state.below(100),
    )?;
    for _ in 0..4 + fixed.below(5) {
        write!(out, "{} ", fixed.pick(&WORDS))?;
    }
    writeln!(out, "{:x}", fixed.below(1 << 32))
}

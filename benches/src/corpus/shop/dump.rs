//! The shop as `pg_dump` writes it in plain form: one COPY of each table.
//!
//! In heap order an updated row leaves its place and goes into one that an earlier night freed, or
//! to the end, as PostgreSQL does; in key order it stays where its key is.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::rows::{Field, Row, TABLES, Table};
use super::{Change, Shop};

/// The order of rows in the dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// As the pages of the table hold them.
    Heap,
    /// By primary key.
    Key,
}

/// The rows of a table as its pages hold them.
struct Heap {
    /// The key that stands in each place.
    places: Vec<Option<u32>>,
    /// The place of each key.
    place_of: Vec<usize>,
    /// Places that an earlier night freed, the lowest last.
    free: Vec<usize>,
    /// Places that this night freed.
    freed: Vec<usize>,
}

impl Heap {
    fn new(keys: usize) -> Heap {
        Heap {
            places: (0..keys as u32).map(Some).collect(),
            place_of: (0..keys).collect(),
            free: Vec::new(),
            freed: Vec::new(),
        }
    }

    fn take(&mut self, key: u32) {
        let at = self.place_of.get(key as usize).copied();
        let place = at.and_then(|at| self.places.get_mut(at));
        if let (Some(at), Some(place)) = (at, place) {
            *place = None;
            self.freed.push(at);
        }
    }

    fn put(&mut self, key: u32) {
        let at = self.free.pop().unwrap_or(self.places.len());
        self.places.resize(self.places.len().max(at + 1), None);
        let keys = self.place_of.len().max(key as usize + 1);
        self.place_of.resize(keys, 0);
        if let (Some(place), Some(of)) =
            (self.places.get_mut(at), self.place_of.get_mut(key as usize))
        {
            *place = Some(key);
            *of = at;
        }
    }

    /// Vacuum: what this night freed can be used from the next one on.
    fn vacuum(&mut self) {
        self.free.append(&mut self.freed);
        self.free.sort_unstable_by(|a, b| b.cmp(a));
    }
}

/// A dump that is written anew each night.
pub struct Dump {
    shop: Shop,
    heaps: [Heap; TABLES.len()],
    order: Order,
}

/// Nights that have passed when the first dump is written, so that there are free places.
const AGE: usize = 5;

impl Dump {
    /// Of a shop in `percent` of its full size.
    pub fn new(percent: usize, order: Order) -> Dump {
        let shop = Shop::new(percent);
        let heap = |table: &Table| Heap::new(shop.table(*table).count());
        let heaps = TABLES.each_ref().map(heap);
        let mut dump = Dump { shop, heaps, order };
        for _ in 0..AGE {
            dump.next_night();
        }
        dump
    }

    /// Rows of all tables.
    pub fn rows(&self) -> usize {
        self.shop.rows()
    }

    /// Lets a night pass; answers how many rows it touched.
    pub fn next_night(&mut self) -> usize {
        let touched = self.shop.next_night();
        for t in &touched {
            let heap = &mut self.heaps[t.table as usize];
            if t.change != Change::Insert {
                heap.take(t.key);
            }
            if t.change != Change::Delete {
                heap.put(t.key);
            }
        }
        self.heaps.iter_mut().for_each(Heap::vacuum);
        touched.len()
    }

    /// Writes the dump.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
        out.write_all(b"--\n-- PostgreSQL database dump\n--\n\nSET client_encoding = 'UTF8';\n")?;
        let mut row = Row::default();
        for table in TABLES {
            let columns: Vec<&str> = table.columns().iter().map(|c| c.0).collect();
            let (name, columns) = (table.name(), columns.join(", "));
            writeln!(out, "\nCOPY public.{name} ({columns}) FROM stdin;")?;
            let keys: Box<dyn Iterator<Item = u32>> = match self.order {
                Order::Heap => {
                    let places = self.heaps[table as usize].places.iter();
                    Box::new(places.copied().flatten())
                }
                Order::Key => Box::new(self.shop.table(table).map(|(key, _)| key)),
            };
            for key in keys {
                row.fill(table, key, self.shop.version(table, key));
                write_row(&mut out, &row)?;
            }
            out.write_all(b"\\.\n")?;
        }
        for table in TABLES {
            let name = table.name();
            writeln!(
                out,
                "\nALTER TABLE ONLY public.{name} ADD PRIMARY KEY (id);"
            )?;
        }
        out.flush()
    }
}

/// A row as COPY has it: texts of this corpus hold nothing that would have to be escaped.
pub(super) fn write_row(out: &mut (impl Write + ?Sized), row: &Row) -> io::Result<()> {
    for (n, field) in row.fields.iter().enumerate() {
        if n > 0 {
            out.write_all(b"\t")?;
        }
        match field {
            Field::Number(number) => write!(out, "{number}")?,
            Field::Cents(cents) => write!(out, "{}.{:02}", cents / 100, cents % 100)?,
            Field::Text(range) => out.write_all(row.text(range).as_bytes())?,
        }
    }
    out.write_all(b"\n")
}

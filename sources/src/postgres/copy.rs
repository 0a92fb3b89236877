//! The rows of one table, in the order of its key where that is cheap enough.
//!
//! Rows in the order of a key hardly move from night to night, whatever the server does with its
//! pages: measured on a shop of 450 MB, what is left after delta compression halves. But a sort
//! that does not fit the server's memory goes to its disk; then rows are taken as they lie.

use std::sync::Arc;

use hucha_store::member::StreamFacts;

use super::capture::Moment;
use super::catalog::Table;
use super::session::{CopyOut, Session};
use super::{Ordering, Postgres};
use crate::database::error::{Cause, DatabaseError};
use crate::database::{Bytes, hand_out};

/// Tables up to this size are sorted without asking what it costs.
const SMALL: u64 = 32 << 20;
/// What a sort may take of the server's memory: `work_mem` of our sessions.
const MEMORY: u64 = 64 << 20;
/// Bytes that are gathered before they are handed on.
const ENOUGH: usize = 128 << 10;

/// In which order rows are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// That of the key.
    Key,
    /// As they lie.
    Heap,
}

impl Order {
    /// Chooses for a table.
    pub fn choose(
        source: &Postgres,
        table: &Table,
        session: &Session,
    ) -> Result<Order, DatabaseError> {
        if table.key.is_empty() || source.ordering == Ordering::Heap {
            return Ok(Order::Heap);
        }
        if source.ordering == Ordering::Key || table.bytes <= SMALL {
            return Ok(Order::Key);
        }
        if table.bytes > source.key_order_limit {
            return Ok(Order::Heap);
        }
        let plan = session.rows(&format!("EXPLAIN {}", select(table)))?;
        let top = plan
            .into_iter()
            .flatten()
            .flatten()
            .next()
            .unwrap_or_default();
        Ok(match spills(&top) {
            true => Order::Heap,
            false => Order::Key,
        })
    }

    fn word(self) -> &'static str {
        match self {
            Order::Key => "key",
            Order::Heap => "heap",
        }
    }
}

/// Whether the top of a plan is a sort of more than fits: `Sort  (cost=… rows=9 width=8)`.
fn spills(top: &str) -> bool {
    let number = |name: &str| -> Option<u64> {
        let rest = top.split_once(name)?.1;
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    };
    let sorts = top.starts_with("Sort") || top.starts_with("Gather Merge");
    let (rows, width) = (number("rows=").unwrap_or(0), number("width=").unwrap_or(0));
    // A row in memory has some 48 bytes beside its values.
    sorts && rows.saturating_mul(width + 48) > MEMORY
}

/// The rows of a table in the order of its key.
fn select(table: &Table) -> String {
    format!(
        "SELECT {} FROM ONLY {} {} ORDER BY {}",
        table.columns.join(", "),
        table.name.quoted(),
        table.condition,
        table.key.join(", ")
    )
}

/// How the rows of a table are asked for.
fn statement(table: &Table, order: Order) -> String {
    let (name, columns) = (table.name.quoted(), table.columns.join(", "));
    match order {
        Order::Key => format!("COPY ({}) TO STDOUT", select(table)),
        Order::Heap if table.condition.is_empty() && !columns.is_empty() => {
            format!("COPY {name} ({columns}) TO STDOUT")
        }
        Order::Heap => {
            let condition = &table.condition;
            format!("COPY (SELECT {columns} FROM ONLY {name} {condition}) TO STDOUT")
        }
    }
}

/// Rows on their way.
pub(super) struct Copying {
    moment: Arc<Moment>,
    session: Option<Session>,
    copy: CopyOut,
    buffer: Vec<u8>,
    /// How much of the buffer was handed out.
    given: usize,
    /// Messages of the server, one a row.
    sent: u64,
    /// Lines, one a row.
    lines: u64,
    ended: bool,
    table: String,
    columns: String,
    key: String,
    quoted: String,
    order: Order,
}

impl Copying {
    pub fn start(
        moment: Arc<Moment>,
        table: &Table,
        order: Order,
    ) -> Result<Copying, DatabaseError> {
        let session = moment.session()?;
        let copy = session.copy_out(&statement(table, order))?;
        Ok(Copying {
            moment,
            session: Some(session),
            copy,
            buffer: Vec::with_capacity(2 * ENOUGH),
            given: 0,
            sent: 0,
            lines: 0,
            ended: false,
            table: table.name.shown(),
            columns: table.columns.join(", "),
            key: table.key.join(", "),
            quoted: table.name.quoted(),
            order,
        })
    }

    fn fill(&mut self) -> Result<(), DatabaseError> {
        self.buffer.clear();
        self.given = 0;
        let Some(session) = &self.session else {
            return Ok(());
        };
        let next = session.next_rows(&mut self.copy, &mut self.buffer, ENOUGH);
        let (rows, ended) = next.map_err(|e| e.of(&self.table))?;
        self.sent += rows;
        self.lines += self.buffer.iter().filter(|byte| **byte == b'\n').count() as u64;
        self.ended = ended;
        Ok(())
    }

    /// All rows came. Each is one message and one line; the server is asked once more, for what it
    /// may have had to say behind the last row.
    fn end(&mut self) -> Result<(), DatabaseError> {
        let Some(session) = self.session.take() else {
            return Ok(());
        };
        session.value("SELECT 1").map_err(|e| e.of(&self.table))?;
        if self.sent != self.lines {
            let what = format!(
                "{}: the server sent {} rows in {} lines",
                self.table, self.sent, self.lines
            );
            return Err(DatabaseError::new(Cause::Incomplete, what));
        }
        self.moment.give_back(session);
        Ok(())
    }
}

impl Bytes for Copying {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, DatabaseError> {
        while self.given == self.buffer.len() {
            if self.ended {
                self.end()?;
                return Ok(0);
            }
            self.fill()?;
        }
        Ok(hand_out(&self.buffer, &mut self.given, buffer))
    }

    fn facts(&mut self) -> StreamFacts {
        let property = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        StreamFacts {
            rows: vec![(self.table.clone(), self.lines)],
            properties: vec![
                property("columns", &self.columns),
                property("key", &self.key),
                property("order", self.order.word()),
                property("table", &self.quoted),
            ],
            ..StreamFacts::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::spills;

    #[test]
    fn plans_that_would_go_to_disk() {
        // As EXPLAIN prints them.
        let index = "Index Scan using sale_pkey on sale  (cost=0.43..9.00 rows=9000000 width=99)";
        let small = "Sort  (cost=1.0..2.0 rows=100000 width=100)";
        let large = "Sort  (cost=1.0..2.0 rows=1000000 width=100)";
        let several = "Gather Merge  (cost=1.0..2.0 rows=1000000 width=100)";
        assert!(!spills(index) && !spills(small) && spills(large) && spills(several));
    }
}

//! The bytes of a stream: a line for each document of a collection and what is below it, counted,
//! and at the end compared with what the service itself counts at that moment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use hucha_store::member::StreamFacts;

use super::client::Client;
use super::names::pattern;
use super::pages::{Sorted, What, count};
use crate::child::lock;
use crate::database::Bytes;
use crate::database::error::{Cause, DatabaseError};

/// What streams tell of themselves.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// What a person should know.
    pub warnings: BTreeSet<String>,
    /// Streams that were read to their end.
    pub ended: usize,
}

/// A stream.
pub(super) struct Lines {
    pub client: Arc<Client>,
    pub what: What,
    pub documents: Sorted,
    pub notes: Arc<Mutex<Notes>>,
    pub rows: BTreeMap<String, u64>,
    pub buffer: Vec<u8>,
    pub at: usize,
}

impl Bytes for Lines {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, DatabaseError> {
        if self.at == self.buffer.len() {
            self.buffer.clear();
            self.at = 0;
            while self.buffer.len() < buffer.len() {
                let Some(document) = self.documents.next()? else {
                    break;
                };
                self.buffer.extend_from_slice(document.line()?.as_bytes());
                *self.rows.entry(pattern(&document.name)).or_default() += 1;
            }
        }
        let left = self.buffer.get(self.at..).unwrap_or_default();
        let n = left.len().min(buffer.len());
        if n == 0 {
            self.prove()?;
        }
        for (to, from) in buffer.iter_mut().zip(left) {
            *to = *from;
        }
        self.at += n;
        Ok(n)
    }

    fn facts(&mut self) -> StreamFacts {
        let mut rows = std::mem::take(&mut self.rows);
        rows.entry(self.what.collection.clone()).or_default();
        StreamFacts {
            rows: rows.into_iter().collect(),
            properties: vec![
                ("collection".to_owned(), self.what.collection.clone()),
                ("order".to_owned(), "name".to_owned()),
            ],
            ..StreamFacts::default()
        }
    }
}

impl Lines {
    /// Compares with the service's count.
    fn prove(&self) -> Result<(), DatabaseError> {
        let read: u64 = self.rows.values().sum();
        let collection = &self.what.collection;
        match count(&self.client, collection, &self.what.time) {
            Ok(counted) if counted == read => {}
            Ok(counted) => {
                let what = format!(
                    "{read} documents were read of {collection} and what is below it, but the \
                     service counts {counted}"
                );
                return Err(DatabaseError::new(Cause::Incomplete, what));
            }
            // Not every service counts: all pages came, and that has to do.
            Err(e) if is_no_counter(&e.status) => {
                let what = format!(
                    "the documents of {collection} were not counted: {}",
                    e.error
                );
                lock(&self.notes).warnings.insert(what);
            }
            Err(e) => return Err(e.error),
        }
        lock(&self.notes).ended += 1;
        Ok(())
    }
}

/// Whether a service cannot count, or not so many.
fn is_no_counter(status: &str) -> bool {
    matches!(
        status,
        "UNIMPLEMENTED" | "INVALID_ARGUMENT" | "DEADLINE_EXCEEDED"
    )
}

//! All documents of a collection and what is below it, asked collection by collection: each page
//! of a list, also of documents that do not exist and have something below them, then each
//! document for the collections below it. One call a document more than by queries; for databases
//! that answer those differently (`read=list`).

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::client::Client;
use super::pages::{Limit, Pages, What, collections, repeated};
use super::value::Document;
use crate::database::error::DatabaseError;

/// A walk through a collection, in the order of names.
pub(super) struct Walk {
    client: Arc<Client>,
    what: What,
    /// Calls at the same time.
    at_once: usize,
    limit: Limit,
    /// Collections that are open, each below a document of the one before.
    open: Vec<Open>,
}

/// A collection of which not all was handed on.
struct Open {
    /// Its name: `companies/a/items`.
    name: String,
    queue: VecDeque<Found>,
    /// Where the next page begins; none when there is none.
    next: Option<String>,
    tokens: BTreeSet<String>,
}

/// A document, with the ids of the collections below it.
struct Found {
    document: Document,
    exists: bool,
    below: Vec<String>,
}

impl Walk {
    /// Begins.
    pub fn new(client: Arc<Client>, what: What, at_once: usize) -> Walk {
        let open = vec![Open::new(what.collection.clone())];
        Walk {
            limit: Limit::new(what.page),
            client,
            what,
            at_once: at_once.max(1),
            open,
        }
    }

    /// The next page of a collection.
    fn page(&mut self, open: &mut Open, token: &str) -> Result<(), DatabaseError> {
        let query = self.query(token);
        let mut answer = self.client.get(&open.name, &query)?;
        let mut found = Vec::new();
        let documents = answer.get_mut("documents").map(Value::take);
        for document in documents
            .as_ref()
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            // Only what exists was ever made.
            let exists = document.get("createTime").is_some();
            let place = &self.client.place;
            found.push(Found {
                document: Document::of_answer(document.clone(), place, self.what.with_times)?,
                exists,
                below: Vec::new(),
            });
        }
        self.limit.learn(found.iter().map(|one| &one.document));
        self.look_below(&mut found)?;
        open.queue.extend(found);
        open.next = match answer["nextPageToken"].as_str() {
            None | Some("") => None,
            Some(next) if !open.tokens.insert(next.to_owned()) => return Err(repeated(&open.name)),
            Some(next) => Some(next.to_owned()),
        };
        Ok(())
    }

    fn query(&self, token: &str) -> String {
        let coded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let time = match self.client.is_emulator() {
            _ if self.what.time.is_empty() => String::new(),
            false => format!("readTime={}", coded(&self.what.time)),
            // Google's emulator reads a time in an address by its parts only.
            true => parts_of(&self.what.time)
                .map(|(s, n)| format!("readTime.seconds={s}&readTime.nanos={n}"))
                .unwrap_or_default(),
        };
        let mut query = format!("showMissing=true&pageSize={}&{time}", self.limit.now);
        if !token.is_empty() {
            query.push_str(&format!("&pageToken={}", coded(token)));
        }
        query
    }

    /// Asks what is below each document, several at a time.
    fn look_below(&self, found: &mut [Found]) -> Result<(), DatabaseError> {
        let share = found.len().div_ceil(self.at_once).max(1);
        std::thread::scope(|scope| {
            let look = |part: &mut [Found]| {
                for one in part {
                    one.below = collections(&self.client, &one.document.name, &self.what.time)?;
                }
                Ok(())
            };
            let threads: Vec<_> = found
                .chunks_mut(share)
                .map(|part| scope.spawn(move || look(part)))
                .collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, _>| match thread.join() {
                Ok(done) => done,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            // All are joined before the first error is told.
            let done: Vec<Result<(), DatabaseError>> = threads.into_iter().map(join).collect();
            done.into_iter().collect()
        })
    }
}

impl Open {
    fn new(name: String) -> Open {
        Open {
            name,
            queue: VecDeque::new(),
            next: Some(String::new()),
            tokens: BTreeSet::new(),
        }
    }
}

impl Pages for Walk {
    fn next(&mut self) -> Result<Vec<Document>, DatabaseError> {
        let mut page = Vec::new();
        while let Some(mut open) = self.open.pop() {
            if let Some(found) = open.queue.pop_front() {
                let below = found.below.iter().rev();
                let names = below.map(|id| format!("{}/{id}", found.document.name));
                self.open.push(open);
                self.open.extend(names.map(Open::new));
                if found.exists {
                    page.push(found.document);
                }
            } else if let Some(token) = open.next.take() {
                self.page(&mut open, &token)?;
                self.open.push(open);
                if !page.is_empty() {
                    return Ok(page);
                }
            }
        }
        Ok(page)
    }
}

/// A time as seconds since 1970 and nanoseconds.
fn parts_of(time: &str) -> Option<(i64, u32)> {
    let number = |from: usize, to: usize| time.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    // Days since 1970 in the Gregorian calendar; years begin in March.
    let (y, m) = match month > 2 {
        true => (year, month - 3),
        false => (year - 1, month + 9),
    };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468;
    let fraction = time
        .get(19..)?
        .trim_end_matches('Z')
        .trim_start_matches('.');
    let nanos = format!("{fraction:0<9}").parse().ok()?;
    Some((days * 86_400 + hour * 3600 + minute * 60 + second, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_parts() {
        assert_eq!(parts_of("1970-01-01T00:00:00Z"), Some((0, 0)));
        assert_eq!(
            parts_of("2026-11-27T21:45:11.482423Z"),
            Some((1_795_815_911, 482_423_000))
        );
        assert_eq!(
            parts_of("2024-02-29T23:59:59.5Z"),
            Some((1_709_251_199, 500_000_000))
        );
        assert_eq!(parts_of("soon"), None);
    }
}

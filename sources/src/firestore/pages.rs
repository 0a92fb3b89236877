//! All documents of a collection and what is below it, as they were at one moment, a page at a
//! time in the order of their names. Asked by queries over ranges of names ([`Range`]); the other
//! way, collection by collection, is in [`super::list`].
//!
//! A query without a collection's id answers with documents of all collections in its range, also
//! below documents that do not exist; so nobody has to ask each document what is below it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use serde_json::{Value, json};

use super::client::{CallError, Client};
use super::names::{self, order};
use super::value::Document;
use crate::database::error::{Cause, DatabaseError};

/// The first id there can be.
const FIRST: &str = "__id-9223372036854775808__";
/// Pages that a range may be ahead of who reads it.
const AHEAD: usize = 4;

/// About how many bytes an answer should have.
const ANSWER: usize = 8 << 20;
/// Documents in the first answer, when nobody knows yet how large they are.
const FIRST_PAGE: u64 = 20;

/// How many documents are asked for at a time: fewer when they are large, so that memory has a
/// bound.
pub(super) struct Limit {
    most: u64,
    /// The next time.
    pub now: u64,
}

impl Limit {
    /// At most so many.
    pub fn new(most: u64) -> Limit {
        Limit {
            most,
            now: most.min(FIRST_PAGE),
        }
    }

    /// Learns from what came.
    pub fn learn<'d>(&mut self, documents: impl Iterator<Item = &'d Document>) {
        let (mut count, mut weight) = (0_usize, 0_usize);
        for document in documents {
            count += 1;
            weight += document.weight();
        }
        if let Some(each) = weight.checked_div(count) {
            let fit = ANSWER / each.max(1);
            self.now = u64::try_from(fit).unwrap_or(u64::MAX).clamp(1, self.most);
        }
    }
}

/// Documents, some at a time.
pub(super) trait Pages: Send {
    /// The next ones; none when all came and that is certain.
    fn next(&mut self) -> Result<Vec<Document>, DatabaseError>;
}

/// What is read, and how.
#[derive(Debug, Clone)]
pub(super) struct What {
    /// A collection at the root.
    pub collection: String,
    /// The moment; empty: whenever the service is asked.
    pub time: String,
    /// Documents in one answer.
    pub page: u64,
    /// Whether times are wanted.
    pub with_times: bool,
}

/// The moment of the service: just now, in whole microseconds. With `whole_minute` the last minute
/// that began: what a database with point-in-time recovery knows for seven days.
pub(super) fn moment(client: &Client, whole_minute: bool) -> Result<String, DatabaseError> {
    // Any name does: what is answered is when it was looked for.
    let name = client.place.full("hucha/moment");
    let answer = client.post("", "batchGet", &json!({"documents": [name]}))?;
    let time = answer[0]["readTime"]
        .as_str()
        .and_then(|time| match whole_minute {
            true => Some(format!("{}:00Z", time.get(..16)?)),
            false => Some(whole_microseconds(time)),
        });
    time.ok_or_else(|| {
        let what = format!("{} does not say what time it is", client.place);
        DatabaseError::new(Cause::Failed, what)
    })
}

/// The moment of the service: just now, and not before the last write, which its microseconds cut
/// short may be.
pub(super) fn moment_after(client: &Client, write: Option<&str>) -> Result<String, DatabaseError> {
    let now = moment(client, false)?;
    let digits = |time: &str| {
        let (seconds, fraction) = time.split_once('.').unwrap_or((time, ""));
        let seconds = seconds.trim_end_matches('Z').to_owned();
        (seconds, format!("{:0<9}", fraction.trim_end_matches('Z')))
    };
    Ok(match write {
        Some(write) if digits(write) > digits(&now) => write.to_owned(),
        _ => now,
    })
}

fn whole_microseconds(time: &str) -> String {
    match time.trim_end_matches('Z').split_once('.') {
        Some((seconds, fraction)) => {
            let fraction: String = fraction.chars().take(6).collect();
            format!("{seconds}.{fraction}Z")
        }
        None => time.to_owned(),
    }
}

/// The ids of collections below a document, or at the root, in order.
pub(super) fn collections(
    client: &Client,
    name: &str,
    time: &str,
) -> Result<Vec<String>, DatabaseError> {
    let (mut all, mut token) = (Vec::new(), String::new());
    loop {
        let mut body = json!({"pageSize": 300, "pageToken": token});
        if !time.is_empty() {
            body["readTime"] = Value::from(time);
        }
        let mut answer = client.post(name, "listCollectionIds", &body)?;
        if let Some(Value::Array(ids)) = answer.get_mut("collectionIds").map(Value::take) {
            let texts = ids.into_iter().filter_map(|id| match id {
                Value::String(id) => Some(id),
                _ => None,
            });
            all.extend(texts);
        }
        match answer["nextPageToken"].as_str() {
            None | Some("") => break,
            Some(next) if next == token => return Err(repeated(name)),
            Some(next) => token = next.to_owned(),
        }
    }
    all.sort_by(|a, b| order(a, b));
    all.dedup();
    Ok(all)
}

/// The service gives the same page again and again.
pub(super) fn repeated(name: &str) -> DatabaseError {
    let what = format!("the service repeats a page of {name:?}, so that not all of it can be read");
    DatabaseError::new(Cause::Incomplete, what)
}

/// The filter for all names in a collection and below.
fn within(client: &Client, collection: &str, from: Option<&str>, to: Option<&str>) -> Value {
    let bound = |op: &str, name: String| {
        json!({"fieldFilter": {"field": {"fieldPath": "__name__"}, "op": op,
            "value": {"referenceValue": client.place.full(&name)}}})
    };
    let from = from.map_or_else(|| format!("{collection}/{FIRST}"), str::to_owned);
    // Nothing sorts between a name and the same with a NUL behind it.
    let to = to.map_or_else(|| format!("{collection}\0/{FIRST}"), str::to_owned);
    json!({"compositeFilter": {"op": "AND", "filters": [
        bound("GREATER_THAN_OR_EQUAL", from), bound("LESS_THAN", to)]}})
}

/// How many documents the service counts in a collection and below.
pub(super) fn count(client: &Client, collection: &str, time: &str) -> Result<u64, CallError> {
    let query = json!({"from": [{"allDescendants": true}],
        "where": within(client, collection, None, None)});
    counted(client, "", query, Some(time))
}

/// How many documents a query finds.
pub(super) fn counted(
    client: &Client,
    name: &str,
    query: Value,
    time: Option<&str>,
) -> Result<u64, CallError> {
    let mut body = json!({"structuredAggregationQuery": {
        "structuredQuery": query, "aggregations": [{"alias": "n", "count": {}}]}});
    if let Some(time) = time {
        body["readTime"] = Value::from(time);
    }
    let answer = client.post(name, "runAggregationQuery", &body)?;
    let found = answer[0]["result"]["aggregateFields"]["n"]["integerValue"].as_str();
    found.and_then(|n| n.parse().ok()).ok_or_else(|| {
        let what = format!("{} counts, but says no number", client.place);
        DatabaseError::new(Cause::Failed, what).into()
    })
}

/// Documents whose names are in a range.
pub(super) struct Range {
    pub client: Arc<Client>,
    pub what: What,
    /// The first name, and that behind the last.
    pub bounds: (Option<String>, Option<String>),
    /// The last that came.
    pub last: Option<String>,
    /// How many are asked for.
    pub limit: Limit,
}

impl Pages for Range {
    fn next(&mut self) -> Result<Vec<Document>, DatabaseError> {
        let (from, to) = (self.bounds.0.as_deref(), self.bounds.1.as_deref());
        let mut query = json!({
            "from": [{"allDescendants": true}],
            "where": within(&self.client, &self.what.collection, from, to),
            "orderBy": [{"field": {"fieldPath": "__name__"}, "direction": "ASCENDING"}],
            "limit": self.limit.now,
        });
        if let Some(last) = &self.last {
            let name = self.client.place.full(last);
            query["startAt"] = json!({"before": false, "values": [{"referenceValue": name}]});
        }
        let mut body = json!({"structuredQuery": query});
        if !self.what.time.is_empty() {
            body["readTime"] = Value::from(self.what.time.as_str());
        }
        let Value::Array(answers) = self.client.post("", "runQuery", &body)? else {
            let what = format!("{} answers a query with something else", self.client.place);
            return Err(DatabaseError::new(Cause::Incomplete, what));
        };
        let mut page = Vec::new();
        for mut answer in answers {
            if let Some(document) = answer.get_mut("document") {
                let (place, times) = (&self.client.place, self.what.with_times);
                page.push(Document::of_answer(document.take(), place, times)?);
            }
        }
        self.limit.learn(page.iter());
        if let Some(document) = page.last() {
            self.last = Some(document.name.clone());
        }
        Ok(page)
    }
}

/// Names that cut a collection into about equal parts, as the service sees it. None when it cannot
/// say.
pub(super) fn cuts(
    client: &Client,
    what: &What,
    parts: u64,
) -> Result<Option<Vec<String>>, DatabaseError> {
    let (mut all, mut token) = (Vec::new(), String::new());
    loop {
        let mut body = json!({
            "structuredQuery": {
                "from": [{"collectionId": what.collection, "allDescendants": true}],
                "orderBy": [{"field": {"fieldPath": "__name__"}, "direction": "ASCENDING"}]},
            "partitionCount": (parts - 1).to_string(), "pageToken": token,
        });
        if !what.time.is_empty() {
            body["readTime"] = Value::from(what.time.as_str());
        }
        let answer = match client.post("", "partitionQuery", &body) {
            Err(e) if e.status == "UNIMPLEMENTED" => return Ok(None),
            answer => answer?,
        };
        for cut in answer["partitions"].as_array().into_iter().flatten() {
            let full = cut["values"][0]["referenceValue"].as_str();
            let name = full.and_then(|full| client.place.short(full));
            // The service also cuts collections of this id that are elsewhere.
            let here = name.filter(|name| {
                names::is_document(name) && names::collection(name) == what.collection
            });
            all.extend(here.map(str::to_owned));
        }
        match answer["nextPageToken"].as_str() {
            None | Some("") => break,
            Some(next) if next == token => return Err(repeated(&what.collection)),
            Some(next) => token = next.to_owned(),
        }
    }
    all.sort_by(|a, b| order(a, b));
    all.dedup();
    Ok(Some(all))
}

/// The next page, or why there is none.
type Sent = Result<Vec<Document>, DatabaseError>;

/// Several that follow each other, some of them read at the same time in threads, each at most
/// some pages ahead.
pub(super) struct Ahead {
    waiting: VecDeque<Box<dyn Pages>>,
    running: VecDeque<Receiver<Sent>>,
    at_once: usize,
}

impl Ahead {
    /// Reads `parts` in their order.
    pub fn new(parts: Vec<Box<dyn Pages>>, at_once: usize) -> Ahead {
        Ahead {
            waiting: parts.into(),
            running: VecDeque::new(),
            at_once: at_once.max(1),
        }
    }

    fn start(&mut self) -> Result<(), DatabaseError> {
        while self.running.len() < self.at_once
            && let Some(mut pages) = self.waiting.pop_front()
        {
            let (sender, receiver) = sync_channel::<Sent>(AHEAD);
            let read = move || {
                loop {
                    let page = pages.next();
                    let is_last = page.as_ref().map_or(true, Vec::is_empty);
                    // Nobody listens any more: it was stopped.
                    if sender.send(page).is_err() || is_last {
                        return;
                    }
                }
            };
            let started = std::thread::Builder::new().spawn(read);
            started.map_err(|e| {
                DatabaseError::new(Cause::Failed, format!("no thread can be started: {e}"))
            })?;
            self.running.push_back(receiver);
        }
        Ok(())
    }
}

impl Pages for Ahead {
    fn next(&mut self) -> Sent {
        loop {
            self.start()?;
            let Some(first) = self.running.front() else {
                return Ok(Vec::new());
            };
            let page = first.recv().unwrap_or_else(|_| {
                let what = "a thread that reads documents ended before its time";
                Err(DatabaseError::new(Cause::Incomplete, what))
            })?;
            if !page.is_empty() {
                return Ok(page);
            }
            self.running.pop_front();
        }
    }
}

/// Documents one by one, each behind the one before.
pub(super) struct Sorted {
    pages: Box<dyn Pages>,
    queue: VecDeque<Document>,
    last: Option<String>,
}

impl Sorted {
    /// Of pages.
    pub fn new(pages: Box<dyn Pages>) -> Sorted {
        Sorted {
            pages,
            queue: VecDeque::new(),
            last: None,
        }
    }

    /// The next; none when all came.
    pub fn next(&mut self) -> Result<Option<Document>, DatabaseError> {
        if self.queue.is_empty() {
            self.queue = self.pages.next()?.into();
        }
        let Some(document) = self.queue.pop_front() else {
            return Ok(None);
        };
        if let Some(last) = &self.last
            && order(last, &document.name).is_ge()
        {
            let what = format!(
                "the service gave {} after {last}: a page came twice, or out of order",
                document.name
            );
            return Err(DatabaseError::new(Cause::Incomplete, what));
        }
        self.last = Some(document.name.clone());
        Ok(Some(document))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_documents_come_in_small_pages() {
        let of = |bytes: usize| Document {
            name: "a/b".into(),
            fields: json!({"t": {"stringValue": "x".repeat(bytes)}})
                .as_object()
                .unwrap()
                .clone(),
            times: None,
        };
        let mut limit = Limit::new(300);
        assert_eq!(limit.now, 20);
        limit.learn([of(100), of(200)].iter());
        assert_eq!(limit.now, 300);
        limit.learn([of(1 << 20), of(1 << 20)].iter());
        assert_eq!(limit.now, 7);
        limit.learn([].iter());
        assert_eq!(limit.now, 7);
        assert_eq!(Limit::new(3).now, 3);
    }

    #[test]
    fn moments_are_whole_microseconds() {
        let cut = whole_microseconds("2026-11-27T21:45:11.482423999Z");
        assert_eq!(cut, "2026-11-27T21:45:11.482423Z");
        assert_eq!(
            whole_microseconds("2026-11-27T21:45:11Z"),
            "2026-11-27T21:45:11Z"
        );
    }
}

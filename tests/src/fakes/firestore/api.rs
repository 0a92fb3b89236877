//! The methods of the interface.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::store::{Document, Name, Store, of_text, to_text};
use super::{Call, Shared};

/// What came.
pub(crate) struct Request {
    pub verb: String,
    pub target: String,
    pub bearer: Option<String>,
    pub body: String,
}

/// What goes back.
pub(crate) struct Reply {
    pub code: u16,
    pub body: Value,
    pub retry_after: Option<u64>,
    /// The connection breaks instead.
    pub is_lost: bool,
}

/// A call that was taken apart.
struct Asked<'a> {
    /// The full name of the root.
    root: String,
    /// What is named below it.
    name: String,
    body: Value,
    query: BTreeMap<String, String>,
    /// The moment, in microseconds.
    time: u64,
    shared: &'a Shared,
}

type Answer = Result<Value, Reply>;

fn bad(message: &str) -> Reply {
    Reply::refuse(400, "INVALID_ARGUMENT", message)
}

/// Answers a call.
pub(crate) fn answer(request: &Request, shared: &Shared, call: &mut Call) -> Reply {
    let done = take_apart(request, shared, call).and_then(|asked| match call.method.as_str() {
        "list" => list(&asked),
        "listCollectionIds" => collection_ids(&asked),
        "runQuery" => run_query(&asked),
        "runAggregationQuery" => count(&asked),
        "partitionQuery" => partition(&asked),
        "batchGet" => batch_get(&asked),
        "commit" => commit(&asked, call),
        other => Err(Reply::refuse(501, "UNIMPLEMENTED", &format!("{other}?"))),
    });
    done.map_or_else(|reply| reply, |body| Reply::new(200, body))
}

fn decoded(text: &str) -> Result<String, Reply> {
    let text = percent_decode_str(text).decode_utf8();
    text.map(|t| t.into_owned()).map_err(|_| bad("not UTF-8"))
}

fn take_apart<'a>(
    request: &Request,
    shared: &'a Shared,
    call: &mut Call,
) -> Result<Asked<'a>, Reply> {
    let (path, query) = request
        .target
        .split_once('?')
        .unwrap_or((&request.target, ""));
    let (path, method) = match request.verb.as_str() {
        "POST" => path.rsplit_once(':').ok_or_else(|| bad("no method"))?,
        _ => (path, "list"),
    };
    call.method = method.to_owned();
    let path = path.strip_prefix("/v1/").ok_or_else(|| bad("no version"))?;
    let mut parts = path.splitn(6, '/').map(decoded);
    let mut root = Vec::new();
    for _ in 0..5 {
        root.push(parts.next().ok_or_else(|| bad("no root"))??);
    }
    let mut pairs = BTreeMap::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        pairs.insert(decoded(key)?, decoded(value)?);
    }
    let body = match request.body.is_empty() {
        true => Value::Null,
        false => serde_json::from_str(&request.body).map_err(|_| bad("no JSON"))?,
    };
    let read_time = body["readTime"].as_str().map(str::to_owned);
    call.read_time = read_time.or_else(|| pairs.get("readTime").cloned());
    if let Some(time) = emulated_time(&pairs) {
        call.read_time = Some(to_text(time));
    }
    Ok(Asked {
        root: root.join("/"),
        name: parts.next().unwrap_or(Ok(String::new()))?,
        body,
        query: pairs,
        time: moment(call.read_time.as_deref(), shared)?,
        shared,
    })
}

/// The way in which Google's emulator takes a time in an address.
fn emulated_time(query: &BTreeMap<String, String>) -> Option<u64> {
    let seconds: u64 = query.get("readTime.seconds")?.parse().ok()?;
    let nanos: u64 = query.get("readTime.nanos")?.parse().ok()?;
    Some(seconds * 1_000_000 + nanos / 1000)
}

fn moment(asked: Option<&str>, shared: &Shared) -> Result<u64, Reply> {
    let now = shared.store.lock().unwrap().tick();
    let Some(asked) = asked else {
        return Ok(now);
    };
    let time = of_text(asked).ok_or_else(|| bad("read_time must be in whole microseconds"))?;
    if time > now {
        return Err(bad("The requested 'read_time' cannot be in the future."));
    }
    let is_old = now - time > 3_600_000_000 && !time.is_multiple_of(60_000_000);
    if is_old || shared.faults.lock().unwrap().too_old {
        let said = "The requested 'read_time' is too old.";
        return Err(Reply::refuse(400, "FAILED_PRECONDITION", said));
    }
    Ok(time)
}

impl Asked<'_> {
    fn full(&self, name: &str) -> String {
        format!("{}/{name}", self.root)
    }

    fn document(&self, name: &str, document: &Document) -> Value {
        let mut fields = document.fields.clone();
        let wrong = self.shared.faults.lock().unwrap().wrong_type;
        if wrong && let Some(map) = fields.as_object_mut() {
            map.insert("amount".into(), json!({"integerValue": 12}));
        }
        json!({"name": self.full(name), "fields": fields,
            "createTime": to_text(document.made), "updateTime": to_text(document.changed)})
    }

    fn short<'v>(&self, full: &'v Value) -> Result<&'v str, Reply> {
        let name = full.as_str().and_then(|full| full.strip_prefix(&self.root));
        name.and_then(|name| name.strip_prefix('/'))
            .ok_or_else(|| bad("another database"))
    }

    fn number(&self, key: &str, usual: usize) -> usize {
        let query = self.query.get(key).and_then(|n| n.parse().ok());
        let body = || usize::try_from(self.body[key].as_u64()?).ok();
        query.or_else(body).filter(|n| *n > 0).unwrap_or(usual)
    }
}

/// Where a page begins, and where the next.
fn page<T: Clone>(all: &[T], asked: &Asked<'_>, token: &str, size: usize) -> (Vec<T>, Value) {
    let from: usize = token
        .strip_prefix("page-")
        .and_then(|n| n.parse().ok())
        .unwrap_or(0);
    let from = from.min(all.len());
    let to = (from + size).min(all.len());
    let next = match asked.shared.faults.lock().unwrap().repeat_pages {
        true => Value::from(format!("page-{}", size.min(all.len() / 2))),
        false if to < all.len() => Value::from(format!("page-{to}")),
        false => Value::Null,
    };
    (all[from..to].to_vec(), next)
}

fn list(asked: &Asked<'_>) -> Answer {
    let store = asked.shared.store.lock().unwrap();
    let prefix = format!("{}/", asked.name);
    let show_missing = asked.query.get("showMissing").is_some_and(|v| v == "true");
    let mut found: BTreeMap<Name, Option<Document>> = BTreeMap::new();
    for (name, document) in store.existing(&asked.root, asked.time) {
        let Some(rest) = name.0.strip_prefix(&prefix) else {
            continue;
        };
        match rest.split_once('/') {
            None => drop(found.insert(name.clone(), Some(document.clone()))),
            Some((id, _)) if show_missing => {
                found.entry(Name(format!("{prefix}{id}"))).or_default();
            }
            Some(_) => {}
        }
    }
    let all: Vec<_> = found.into_iter().collect();
    let token = asked.query.get("pageToken").map_or("", String::as_str);
    let (some, next) = page(&all, asked, token, asked.number("pageSize", 20));
    let documents = some.iter().map(|(name, document)| match document {
        Some(document) => asked.document(&name.0, document),
        None => json!({"name": asked.full(&name.0)}),
    });
    Ok(json!({"documents": documents.collect::<Vec<_>>(), "nextPageToken": next}))
}

fn collection_ids(asked: &Asked<'_>) -> Answer {
    let store = asked.shared.store.lock().unwrap();
    let prefix = match asked.name.is_empty() {
        true => String::new(),
        false => format!("{}/", asked.name),
    };
    let mut ids: Vec<Name> = Vec::new();
    for (name, _) in store.existing(&asked.root, asked.time) {
        if let Some(rest) = name.0.strip_prefix(&prefix) {
            ids.push(Name(rest.split('/').next().unwrap_or_default().to_owned()));
        }
    }
    ids.sort();
    ids.dedup();
    let token = asked.body["pageToken"].as_str().unwrap_or_default();
    // Small pages, so that they are seen.
    let (some, next) = page(&ids, asked, token, asked.number("pageSize", 2).min(2));
    let ids: Vec<String> = some.into_iter().map(|name| name.0).collect();
    Ok(json!({"collectionIds": ids, "nextPageToken": next}))
}

/// Names that a query finds.
fn find(asked: &Asked<'_>, query: &Value) -> Result<Vec<(Name, Document)>, Reply> {
    let from = &query["from"][0];
    let descends = from["allDescendants"] == true;
    let id = from["collectionId"].as_str();
    if asked.shared.faults.lock().unwrap().no_count && query.get("limit").is_none() {
        return Err(Reply::refuse(501, "UNIMPLEMENTED", "no counts"));
    }
    let (mut low, mut high) = (None, None);
    for filter in query["where"]["compositeFilter"]["filters"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let filter = &filter["fieldFilter"];
        if filter["field"]["fieldPath"] != "__name__" {
            return Err(bad("only names can be filtered here"));
        }
        let name = Name(asked.short(&filter["value"]["referenceValue"])?.to_owned());
        match filter["op"].as_str() {
            Some("GREATER_THAN_OR_EQUAL") => low = Some(name),
            Some("LESS_THAN") => high = Some(name),
            _ => return Err(bad("this operator is not played")),
        }
    }
    let after = match query.get("startAt") {
        None => None,
        Some(start) if start["before"] == true => return Err(bad("not played")),
        Some(start) => Some(Name(
            asked
                .short(&start["values"][0]["referenceValue"])?
                .to_owned(),
        )),
    };
    let again = asked.shared.faults.lock().unwrap().repeat_queries;
    let prefix = if asked.name.is_empty() {
        String::new()
    } else {
        format!("{}/", asked.name)
    };
    let fits = |name: &Name| {
        let Some(rest) = name.0.strip_prefix(&prefix) else {
            return false;
        };
        let parts: Vec<&str> = rest.split('/').collect();
        let last = parts.get(parts.len().wrapping_sub(2)).copied();
        (descends || parts.len() == 2)
            && (id.is_none() || id == last)
            && low.as_ref().is_none_or(|low| name >= low)
            && high.as_ref().is_none_or(|high| name < high)
            && (again || after.as_ref().is_none_or(|after| name > after))
    };
    let store = asked.shared.store.lock().unwrap();
    let all = store
        .existing(&asked.root, asked.time)
        .filter(|(name, _)| fits(name));
    Ok(all
        .map(|(name, document)| (name.clone(), document.clone()))
        .collect())
}

fn run_query(asked: &Asked<'_>) -> Answer {
    let query = &asked.body["structuredQuery"];
    let mut all = find(asked, query)?;
    let limit = usize::try_from(query["limit"].as_u64().unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
    all.truncate(limit);
    if asked.shared.faults.lock().unwrap().lose_document && all.len() > 1 {
        all.remove(0);
    }
    let read = to_text(asked.time);
    let answer = |(name, document): &(Name, Document)| {
        let document = asked.document(&name.0, document);
        json!({"document": document, "readTime": read})
    };
    let mut answers: Vec<Value> = all.iter().map(answer).collect();
    if answers.is_empty() {
        answers.push(json!({"readTime": read}));
    }
    Ok(Value::from(answers))
}

fn count(asked: &Asked<'_>) -> Answer {
    let query = &asked.body["structuredAggregationQuery"];
    let found = find(asked, &query["structuredQuery"])?.len();
    let alias = query["aggregations"][0]["alias"]
        .as_str()
        .unwrap_or_default();
    let fields = json!({alias: {"integerValue": found.to_string()}});
    Ok(json!([{"result": {"aggregateFields": fields}, "readTime": to_text(asked.time)}]))
}

fn partition(asked: &Asked<'_>) -> Answer {
    let query = &asked.body["structuredQuery"];
    if query["from"][0]["allDescendants"] != true || query["orderBy"].is_null() {
        return Err(bad("must select all descendants, in the order of names"));
    }
    let wanted = asked.body["partitionCount"]
        .as_str()
        .and_then(|n| n.parse().ok());
    let wanted: usize = wanted.ok_or_else(|| bad("partitionCount"))?;
    let all = find(asked, query)?;
    let step = (all.len() / (wanted + 1)).max(1);
    let cuts: Vec<String> = (1..=wanted)
        .filter_map(|i| Some(asked.full(&all.get(i * step)?.0.0)))
        .collect();
    let token = asked.body["pageToken"].as_str().unwrap_or_default();
    let (some, next) = page(&cuts, asked, token, 2);
    let cut = |name: &String| json!({"values": [{"referenceValue": name}], "before": true});
    let some: Vec<Value> = some.iter().rev().map(cut).collect();
    Ok(json!({"partitions": some, "nextPageToken": next}))
}

fn batch_get(asked: &Asked<'_>) -> Answer {
    let store = asked.shared.store.lock().unwrap();
    let mut answers = Vec::new();
    for full in asked.body["documents"].as_array().into_iter().flatten() {
        let name = asked.short(full)?;
        let read = to_text(asked.time);
        answers.push(match store.get(&asked.root, name, asked.time) {
            Some(document) => json!({"found": asked.document(name, &document), "readTime": read}),
            None => json!({"missing": full, "readTime": read}),
        });
    }
    Ok(Value::from(answers))
}

/// All or nothing.
fn commit(asked: &Asked<'_>, call: &mut Call) -> Answer {
    let writes = asked.body["writes"].as_array().cloned().unwrap_or_default();
    call.writes = writes.len();
    if writes.len() > 500 {
        return Err(bad("maximum 500 writes allowed per request"));
    }
    let is_lost = {
        let mut faults = asked.shared.faults.lock().unwrap();
        if faults.most_writes.is_some_and(|most| writes.len() > most) {
            return Err(bad("Transaction too big. Decrease transaction size."));
        }
        if let Some(left) = &mut faults.deny_commits_after {
            if *left == 0 && writes.iter().any(|write| write.get("update").is_some()) {
                let said = "Missing or insufficient permissions.";
                return Err(Reply::refuse(403, "PERMISSION_DENIED", said));
            }
            *left = left.saturating_sub(1);
        }
        let is_lost = faults.lose_answers > 0;
        faults.lose_answers = faults.lose_answers.saturating_sub(1);
        is_lost
    };
    let mut store = asked.shared.store.lock().unwrap();
    for write in &writes {
        check(asked, &store, write)?;
    }
    let time = store.tick();
    for write in &writes {
        let fields = write.get("update").map(|u| match &u["fields"] {
            Value::Null => json!({}),
            fields => fields.clone(),
        });
        store.put(&asked.root, asked.short(target(write))?, fields, time);
    }
    meddle(asked, &mut store);
    let results = vec![json!({"updateTime": to_text(time)}); writes.len()];
    let body = json!({"writeResults": results, "commitTime": to_text(time)});
    match is_lost {
        false => Ok(body),
        true => Err(Reply {
            code: 0,
            body: Value::Null,
            retry_after: None,
            is_lost: true,
        }),
    }
}

/// What somebody else writes meanwhile.
fn meddle(asked: &Asked<'_>, store: &mut Store) {
    let mut faults = asked.shared.faults.lock().unwrap();
    match &mut faults.meddle_after {
        Some((0, name)) => {
            let (name, time) = (*name, store.tick());
            faults.meddle_after = None;
            let fields = json!({"by": {"stringValue": "somebody else"}});
            store.put(&asked.root, name, Some(fields), time);
        }
        Some((left, _)) => *left -= 1,
        None => {}
    }
}

fn target(write: &Value) -> &Value {
    write.get("delete").unwrap_or(&write["update"]["name"])
}

fn check(asked: &Asked<'_>, store: &Store, write: &Value) -> Result<(), Reply> {
    let name = asked.short(target(write))?;
    if name.split('/').count() % 2 == 1 {
        return Err(bad("not the name of a document"));
    }
    let there = store.get(&asked.root, name, u64::MAX);
    let wanted = &write["currentDocument"];
    if wanted["exists"] == false && there.is_some() {
        let said = format!("entity already exists: {name}");
        return Err(Reply::refuse(409, "ALREADY_EXISTS", &said));
    }
    if let Some(time) = wanted["updateTime"].as_str() {
        match there {
            None => return Err(Reply::refuse(404, "NOT_FOUND", "no entity to update")),
            Some(d) if to_text(d.changed) != time => {
                let said = "the stored version does not match the required base version";
                return Err(Reply::refuse(400, "FAILED_PRECONDITION", said));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

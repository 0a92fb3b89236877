//! Writes in batches, not faster than a database takes them. Which documents a restore made is
//! noted in a private file, so that one that fails can take them away again.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Seek, Write as _};
use std::sync::Arc;

use serde_json::{Value, json};

use super::client::{CallError, Client};
use super::compare::Remembered;
use super::pace::Ramp;
use super::value::Document;
use crate::database::Context;
use crate::database::error::{Cause, DatabaseError};
use crate::database::scratch::{PrivateFolder, private_file};

/// Most writes in a request; the service's own limit.
const MOST_WRITES: usize = 500;
/// Most bytes in a request. The service allows 10 MiB.
const MOST_BYTES: usize = 9 << 20;
/// How often a batch is cut down to what is not there yet.
const ROUNDS: u32 = 5;

/// One write.
enum Write {
    Put(Document),
    Delete(String),
}

/// Writes into a database.
pub(super) struct Writer {
    client: Arc<Client>,
    ramp: Ramp,
    /// Documents must not be there.
    new_only: bool,
    batch: Vec<Write>,
    bytes: usize,
    /// Most writes in a request: fewer once the service has found one too big, whose indexes count
    /// as well.
    most: usize,
    made: Made,
    /// Those that were there and are others.
    pub kept: Remembered,
    /// How many were there already.
    pub there: u64,
    /// How many were written, and how many deleted.
    pub written: u64,
    pub deleted: u64,
    /// When the last batch was written.
    pub time: Option<String>,
}

/// What was made, in a file: a time and a name in each line.
struct Made {
    file: BufWriter<File>,
    // Goes with the file in it.
    _folder: PrivateFolder,
}

fn no_file(e: std::io::Error) -> DatabaseError {
    let what = format!("a temporary file cannot be written: {e}");
    DatabaseError::new(Cause::Failed, what)
}

impl Writer {
    /// Writes through a client.
    pub fn new(client: Arc<Client>, new_only: bool) -> Result<Writer, DatabaseError> {
        let folder = client.context.scratch.folder()?;
        let file = private_file(&folder.path().join("made")).map_err(no_file)?;
        Ok(Writer {
            ramp: Ramp::new(client.clock.as_ref()),
            client,
            new_only,
            batch: Vec::new(),
            bytes: 0,
            most: MOST_WRITES,
            made: Made {
                file: BufWriter::new(file),
                _folder: folder,
            },
            kept: Remembered::default(),
            there: 0,
            written: 0,
            deleted: 0,
            time: None,
        })
    }

    /// Writes a document, soon.
    pub fn put(&mut self, document: Document) -> Result<(), DatabaseError> {
        let size = document.line()?.len() + self.client.place.root().len() + 100;
        self.add(Write::Put(document), size)
    }

    /// Deletes a document, soon.
    pub fn delete(&mut self, name: String) -> Result<(), DatabaseError> {
        let size = name.len() + self.client.place.root().len() + 100;
        self.add(Write::Delete(name), size)
    }

    /// A document that was there stays as it is.
    pub fn keep(&mut self, stored: &Document, found: &Document) -> Result<(), DatabaseError> {
        self.there += 1;
        if stored.line()? != found.line()? {
            self.kept.add(&stored.name);
        }
        Ok(())
    }

    fn add(&mut self, write: Write, size: usize) -> Result<(), DatabaseError> {
        if self.batch.len() >= self.most || self.bytes + size > MOST_BYTES {
            self.flush()?;
        }
        self.batch.push(write);
        self.bytes += size;
        Ok(())
    }

    /// Writes what waits.
    pub fn flush(&mut self) -> Result<(), DatabaseError> {
        self.bytes = 0;
        let mut waiting = vec![std::mem::take(&mut self.batch)];
        while let Some(batch) = waiting.pop() {
            waiting.extend(self.write(batch)?);
        }
        Ok(())
    }

    /// Writes a batch. Where it is too big for the service, answers its halves, the first one last.
    fn write(&mut self, mut batch: Vec<Write>) -> Result<Vec<Vec<Write>>, DatabaseError> {
        for _ in 0..ROUNDS {
            if batch.is_empty() {
                return Ok(Vec::new());
            }
            let clock = Arc::clone(&self.client.clock);
            self.ramp
                .take(batch.len(), clock.as_ref(), &self.client.context)?;
            match self.commit(&batch) {
                Ok(time) => return self.note(&batch, &time).map(|()| Vec::new()),
                Err(e) if self.new_only && e.status == "ALREADY_EXISTS" => {
                    batch = self.without_those_there(batch)?;
                }
                Err(e) if batch.len() > 1 && is_too_big(&e) => {
                    self.most = self.most.min(batch.len().div_ceil(2));
                    let rest = batch.split_off(batch.len().div_ceil(2));
                    return Ok(vec![rest, batch]);
                }
                Err(e) => return Err(e.error),
            }
        }
        let what = "documents appear while they are written";
        Err(DatabaseError::new(Cause::Exists, what).hint("is another restore running?"))
    }

    /// Writes all or none of a batch; answers when that was.
    fn commit(&self, batch: &[Write]) -> Result<String, CallError> {
        let place = &self.client.place;
        let writes = batch.iter().map(|write| match write {
            Write::Put(document) => {
                let name = place.full(&document.name);
                let mut write = json!({"update": {"name": name, "fields": document.fields}});
                if self.new_only {
                    write["currentDocument"] = json!({"exists": false});
                }
                write
            }
            Write::Delete(name) => json!({"delete": place.full(name)}),
        });
        let writes: Vec<Value> = writes.collect();
        let answer = self.client.post("", "commit", &json!({"writes": writes}))?;
        let time = answer["commitTime"].as_str().map(str::to_owned);
        time.ok_or_else(|| {
            DatabaseError::new(Cause::Incomplete, "a commit was answered without its time").into()
        })
    }

    fn note(&mut self, batch: &[Write], time: &str) -> Result<(), DatabaseError> {
        for write in batch {
            match write {
                Write::Put(document) => {
                    self.written += 1;
                    self.made(time, &document.name)?;
                }
                Write::Delete(_) => self.deleted += 1,
            }
        }
        self.time = Some(time.to_owned());
        Ok(())
    }

    fn made(&mut self, time: &str, name: &str) -> Result<(), DatabaseError> {
        // A name may hold the end of a line.
        let line = json!([time, name]);
        writeln!(self.made.file, "{line}").map_err(no_file)
    }

    /// Some of a batch are there already: what was written before an answer got lost, or what
    /// somebody else wrote meanwhile. Answers the rest.
    fn without_those_there(&mut self, batch: Vec<Write>) -> Result<Vec<Write>, DatabaseError> {
        let place = self.client.place.clone();
        let names = batch.iter().filter_map(|write| match write {
            Write::Put(document) => Some(place.full(&document.name)),
            Write::Delete(_) => None,
        });
        let names: Vec<String> = names.collect();
        let answer = self
            .client
            .post("", "batchGet", &json!({"documents": names}))?;
        let mut found = BTreeMap::new();
        for one in answer.as_array().into_iter().flatten() {
            if let Some(document) = one.get("found") {
                let changed = document["updateTime"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned();
                let document = Document::of_answer(document.clone(), &place, false)?;
                found.insert(document.name.clone(), (document, changed));
            }
        }
        let mut rest = Vec::new();
        for write in batch {
            let Write::Put(document) = &write else {
                rest.push(write);
                continue;
            };
            match found.get(&document.name) {
                None => rest.push(write),
                Some((there, time)) if there.line()? == document.line()? => {
                    self.written += 1;
                    self.made(time, &document.name)?;
                    self.time = Some(time.clone());
                }
                Some((there, _)) => self.keep(document, there)?,
            }
        }
        Ok(rest)
    }

    /// Takes away what was made and nobody changed since, through a client that is not stopped.
    /// Answers how many documents stay.
    pub fn undo(self, client: &Client) -> u64 {
        let read = || -> std::io::Result<Vec<(String, String)>> {
            let mut file = self.made.file.into_inner().map_err(|e| e.into_error())?;
            file.rewind()?;
            let lines = BufReader::new(file).lines();
            let parse = |line: std::io::Result<String>| {
                let line: (String, String) = serde_json::from_str(&line?)?;
                Ok(line)
            };
            lines.map(parse).collect()
        };
        let Ok(all) = read() else {
            return self.written;
        };
        let mut stay = 0;
        for part in all.chunks(MOST_WRITES) {
            if delete_unchanged(client, part).is_err() {
                // One of them was changed or deleted by others: each by itself.
                for one in part {
                    let gone = delete_unchanged(client, std::slice::from_ref(one));
                    let is_there = gone.is_err_and(|e| e.status != "NOT_FOUND");
                    stay += u64::from(is_there);
                }
            }
        }
        stay
    }
}

/// `Transaction too big. Decrease transaction size.`
fn is_too_big(error: &CallError) -> bool {
    error.status == "INVALID_ARGUMENT" && error.error.what.contains("too big")
}

fn delete_unchanged(client: &Client, all: &[(String, String)]) -> Result<Value, CallError> {
    let delete = |(time, name): &(String, String)| {
        let full = client.place.full(name);
        json!({"delete": full, "currentDocument": {"updateTime": time}})
    };
    let writes: Vec<Value> = all.iter().map(delete).collect();
    client.post("", "commit", &json!({"writes": writes}))
}

/// A context that was not stopped, to take away what a stopped restore made.
pub(super) fn unstopped(context: &Context) -> Context {
    Context {
        stopper: crate::child::Stopper::default(),
        ..context.clone()
    }
}

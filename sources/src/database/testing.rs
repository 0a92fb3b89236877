//! What tests of databases share: a capture into memory, and out of it again.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hucha_store::member::{Member, StreamFacts};

use super::scratch::Scratch;
use super::{Context, Database, DatabaseError, ReadStream, Stored, StoredStream};
use crate::child::Stopper;

/// A context whose temporary files are in `folder`, with this process's environment.
pub(crate) fn context(folder: &Path) -> Context {
    Context {
        stopper: Stopper::default(),
        variables: Arc::new(|name| std::env::var_os(name)),
        scratch: Scratch::new(folder.join("scratch")),
        stall: Duration::from_secs(60),
        stamp: "20261127_163000".to_owned(),
    }
}

/// A member in memory.
#[derive(Debug, Clone, Default)]
pub(crate) struct Taken {
    pub member: Member,
    pub streams: Vec<StoredStream>,
    pub bytes: BTreeMap<String, Vec<u8>>,
}

impl Taken {
    /// All rows that were counted, by table.
    pub fn rows(&self) -> BTreeMap<String, u64> {
        let rows = self.streams.iter().flat_map(|s| s.facts.rows.clone());
        rows.collect()
    }

    /// A stream as text.
    pub fn text(&self, name: &str) -> String {
        String::from_utf8(self.bytes[name].clone()).unwrap()
    }
}

impl Stored for Taken {
    fn member(&self) -> &Member {
        &self.member
    }

    fn streams(&self) -> &[StoredStream] {
        &self.streams
    }

    fn read(&self, name: &str, read: ReadStream<'_>) -> Result<(), DatabaseError> {
        let mut bytes = self.bytes[name].as_slice();
        read(&mut bytes)
    }
}

/// Captures a database as a snapshot would, its streams in threads, as many at once as it says.
pub(crate) fn take(database: &dyn Database, context: &Context) -> Result<Taken, DatabaseError> {
    let preflight = database.preflight(context)?;
    let capture = database.capture(context)?;
    let mut taken = Taken::default();
    let mut waiting = capture.streams;
    waiting.reverse();
    while !waiting.is_empty() {
        let batch = waiting.split_off(waiting.len().saturating_sub(capture.at_once));
        let read: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = batch
                .into_iter()
                .rev()
                .map(|stream| scope.spawn(move || read_all(stream)))
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        for read in read {
            let (stream, bytes) = read?;
            taken.bytes.insert(stream.name.clone(), bytes);
            taken.streams.push(stream);
        }
    }
    taken.streams.sort_by(|a, b| a.name.cmp(&b.name));
    let captured = (capture.end)()?;
    taken.member = Member {
        name: database.default_name(),
        kind: database.kind().to_owned(),
        form: captured.form,
        server: preflight.server,
        tool: preflight.tool,
        bytes: taken.streams.iter().map(|s| s.size).sum(),
        streams: taken.streams.len() as u64,
        tables: taken.rows().len() as u64,
        rows: Some(taken.rows().values().sum()),
        warning_count: captured.warnings.len() as u64,
        warnings: captured.warnings,
        properties: captured.properties,
        ..Member::default()
    };
    Ok(taken)
}

fn read_all(stream: super::Stream<'_>) -> Result<(StoredStream, Vec<u8>), DatabaseError> {
    let mut bytes = (stream.open)()?;
    let (mut all, mut buffer) = (Vec::new(), vec![0; 100_000]);
    loop {
        match bytes.read(&mut buffer)? {
            0 => break,
            n => all.extend_from_slice(&buffer[..n]),
        }
    }
    let facts = StreamFacts {
        digest: *blake3::hash(&all).as_bytes(),
        ..bytes.facts()
    };
    let stored = StoredStream {
        name: stream.name,
        size: all.len() as u64,
        facts,
    };
    Ok((stored, all))
}

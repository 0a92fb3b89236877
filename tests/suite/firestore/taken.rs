//! A member in memory: captured as a snapshot would, and restored from.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hucha_sources::child::Stopper;
use hucha_sources::database::scratch::Scratch;
use hucha_sources::database::{
    Context, Database, DatabaseError, ReadStream, Settings, Stored, StoredStream, Stream, open,
};
use hucha_store::member::{Member, StreamFacts};

/// A member in memory.
#[derive(Debug, Clone, Default)]
pub struct Taken {
    pub member: Member,
    pub streams: Vec<StoredStream>,
    pub bytes: BTreeMap<String, Vec<u8>>,
}

impl Taken {
    /// A stream as text.
    pub fn text(&self, name: &str) -> String {
        String::from_utf8(self.bytes[name].clone()).unwrap()
    }

    /// All counts, by collection.
    pub fn rows(&self) -> BTreeMap<String, u64> {
        self.streams
            .iter()
            .flat_map(|s| s.facts.rows.clone())
            .collect()
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
        read(&mut self.bytes[name].as_slice())
    }
}

/// A context with these variables and no others.
pub fn context(folder: &Path, variables: &[(&str, &str)]) -> Context {
    let variables: BTreeMap<String, String> = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Context {
        stopper: Stopper::default(),
        variables: Arc::new(move |name| variables.get(name).map(Into::into)),
        scratch: Scratch::new(folder.join("scratch")),
        stall: Duration::from_secs(60),
        stamp: "20261127_163000".to_owned(),
    }
}

/// The database of an address.
pub fn database(address: &str) -> Box<dyn Database> {
    open(Settings::of_address(address).unwrap()).unwrap()
}

/// Captures, all streams at the same time.
pub fn take(address: &str, context: &Context) -> Result<Taken, DatabaseError> {
    let database = database(address);
    let preflight = database.preflight(context)?;
    let capture = database.capture(context)?;
    let mut taken = Taken::default();
    let read: Vec<_> = std::thread::scope(|scope| {
        let streams = capture.streams.into_iter();
        let threads: Vec<_> = streams.map(|s| scope.spawn(move || read_all(s))).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    for read in read {
        let (stream, bytes) = read?;
        taken.bytes.insert(stream.name.clone(), bytes);
        taken.streams.push(stream);
    }
    let captured = (capture.end)()?;
    taken.member = Member {
        name: database.default_name(),
        kind: database.kind().to_owned(),
        form: captured.form,
        server: preflight.server,
        warnings: captured.warnings,
        properties: captured.properties,
        ..Member::default()
    };
    Ok(taken)
}

fn read_all(stream: Stream<'_>) -> Result<(StoredStream, Vec<u8>), DatabaseError> {
    let mut bytes = (stream.open)()?;
    let (mut all, mut buffer) = (Vec::new(), vec![0; 1000]);
    loop {
        match bytes.read(&mut buffer)? {
            0 => break,
            n => all.extend_from_slice(&buffer[..n]),
        }
    }
    let facts: StreamFacts = bytes.facts();
    let stored = StoredStream {
        name: stream.name,
        size: all.len() as u64,
        facts,
    };
    Ok((stored, all))
}

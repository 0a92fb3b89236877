//! A member in memory, as a snapshot would have it.

use hucha_sources::database::{Context, Database, DatabaseError, ReadStream, Stored, StoredStream};
use hucha_store::member::Member;

/// What was captured.
#[derive(Debug, Clone, Default)]
pub struct Taken {
    pub member: Member,
    pub streams: Vec<StoredStream>,
    pub bytes: Vec<u8>,
}

impl Taken {
    /// The rows of each table.
    pub fn rows(&self) -> Vec<(&str, u64)> {
        let rows = self.streams[0].facts.rows.iter();
        rows.map(|(table, rows)| (table.as_str(), *rows)).collect()
    }

    /// Why the rows of a table are not certain.
    pub fn unsure(&self, table: &str) -> Option<&str> {
        self.streams[0].facts.property(&format!("unsure:{table}"))
    }
}

impl Stored for Taken {
    fn member(&self) -> &Member {
        &self.member
    }

    fn streams(&self) -> &[StoredStream] {
        &self.streams
    }

    fn read(&self, _: &str, read: ReadStream<'_>) -> Result<(), DatabaseError> {
        read(&mut self.bytes.as_slice())
    }
}

/// Captures a database whose only stream is the member itself.
pub fn take(database: &dyn Database, context: &Context) -> Result<Taken, DatabaseError> {
    let preflight = database.preflight(context)?;
    let capture = database.capture(context)?;
    let mut taken = Taken::default();
    for stream in capture.streams {
        let mut bytes = (stream.open)()?;
        let mut buffer = vec![0; 10_000];
        loop {
            match bytes.read(&mut buffer)? {
                0 => break,
                n => taken.bytes.extend_from_slice(&buffer[..n]),
            }
        }
        taken.streams.push(StoredStream {
            name: stream.name,
            size: taken.bytes.len() as u64,
            facts: bytes.facts(),
        });
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

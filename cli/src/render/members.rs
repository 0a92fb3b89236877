//! Members of snapshots: as JSON, and as lines for people.

use std::collections::BTreeMap;

use hucha_sources::database::StoredStream;
use hucha_store::member::Member;
use serde::Serialize;

use super::text;

/// A database, stream or command of a snapshot.
#[derive(Debug, Serialize)]
pub struct MemberObject {
    name: String,
    kind: String,
    form: String,
    server: String,
    tool: String,
    bytes: u64,
    streams: u64,
    tables: u64,
    rows: Option<u64>,
    duration_ms: u64,
    warnings: Vec<String>,
    warning_count: u64,
    properties: BTreeMap<String, String>,
    failed: Option<String>,
}

impl From<&Member> for MemberObject {
    fn from(member: &Member) -> MemberObject {
        MemberObject {
            name: member.name.clone(),
            kind: member.kind.clone(),
            form: member.form.clone(),
            server: member.server.clone(),
            tool: member.tool.clone(),
            bytes: member.bytes,
            streams: member.streams,
            tables: member.tables,
            rows: member.rows,
            duration_ms: member.duration_ms,
            warnings: member.warnings.clone(),
            warning_count: member.warning_count,
            properties: member.properties.iter().cloned().collect(),
            failed: member.failed.clone(),
        }
    }
}

/// A member with its streams, for `manifest`.
#[derive(Debug, Serialize)]
pub struct WholeMember {
    #[serde(flatten)]
    member: MemberObject,
    #[serde(rename = "stream_list")]
    streams: Vec<StreamObject>,
}

impl WholeMember {
    /// From what the manifest and the tree say of it.
    pub fn new(member: &Member, streams: &[StoredStream]) -> WholeMember {
        WholeMember {
            member: member.into(),
            streams: (streams.iter())
                .map(|stream| StreamObject::new(&member.name, stream))
                .collect(),
        }
    }
}

/// A stream of a member.
#[derive(Debug, Serialize)]
struct StreamObject {
    path: String,
    bytes: u64,
    /// BLAKE3 of its bytes: what `b3sum` prints.
    blake3: String,
    rows: BTreeMap<String, u64>,
    properties: BTreeMap<String, String>,
}

impl StreamObject {
    fn new(member: &str, stream: &StoredStream) -> StreamObject {
        let path = match stream.name.is_empty() {
            true => member.to_owned(),
            false => format!("{member}/{}", stream.name),
        };
        StreamObject {
            path,
            bytes: stream.size,
            blake3: (stream.facts.digest.iter())
                .map(|byte| format!("{byte:02x}"))
                .collect(),
            rows: stream.facts.rows.iter().cloned().collect(),
            properties: stream.facts.properties.iter().cloned().collect(),
        }
    }
}

/// `shop.db: SQLite 3, 4 tables, 1,234 rows, 1.5 MiB`.
pub fn line(member: &Member) -> String {
    let mut parts = Vec::new();
    if !member.server.is_empty() {
        parts.push(text::name(member.server.as_bytes()));
    }
    if let Some(rows) = member.rows {
        parts.push(text::counted(member.tables, "table", "tables"));
        parts.push(text::counted(rows, "row", "rows"));
    }
    parts.push(text::size(member.bytes));
    parts.push(text::duration(member.duration_ms));
    format!(
        "{}: {}",
        text::name(member.name.as_bytes()),
        parts.join(", ")
    )
}

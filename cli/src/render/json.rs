//! Results as JSON; docs/json.md describes every object.

use hucha_store::diff::{Difference, How};
use hucha_store::entry::{Entry, Kind};
use hucha_store::format::objects::Manifest;
use hucha_store::notes::{Notes, Proof};
use hucha_store::restore::StreamReport;
use hucha_store::source::Problem;
use serde::Serialize;

use super::members::MemberObject;
use crate::errors::Failure;
use crate::times::rfc3339;

/// Version of what docs/json.md describes. It changes when a field goes or means something else.
pub const SCHEMA: u32 = 1;

/// Any object that is printed: its type and the schema's version before its own fields.
#[derive(Debug, Serialize)]
pub struct Line<'a, T> {
    schema: u32,
    r#type: &'static str,
    #[serde(flatten)]
    object: &'a T,
}

impl<'a, T> Line<'a, T> {
    /// An object of a type.
    pub fn new(kind: &'static str, object: &'a T) -> Line<'a, T> {
        Line {
            schema: SCHEMA,
            r#type: kind,
            object,
        }
    }
}

/// Bytes as text, and as hex when the text had to replace some of them.
pub fn text_and_hex(bytes: &[u8]) -> (String, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (text.to_owned(), None),
        Err(_) => (
            String::from_utf8_lossy(bytes).into_owned(),
            Some(hex(bytes)),
        ),
    }
}

/// Many names as text, and all of them as hex when the text had to replace some bytes.
pub fn texts_and_hex(names: &[Vec<u8>]) -> (Vec<String>, Option<Vec<String>>) {
    let odd = names.iter().any(|name| std::str::from_utf8(name).is_err());
    let texts = names.iter().map(|name| text_and_hex(name).0).collect();
    (
        texts,
        odd.then(|| names.iter().map(|name| hex(name)).collect()),
    )
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// An error on stderr.
pub fn failure(failure: &Failure) -> String {
    let object = serde_json::json!({
        "schema": SCHEMA,
        "type": "error",
        "error": failure.message,
        "code": failure.code as u8,
        "hint": failure.hint,
    });
    object.to_string()
}

/// A warning on stderr.
pub fn warning(message: &str) -> String {
    serde_json::json!({ "schema": SCHEMA, "type": "warning", "message": message }).to_string()
}

/// How far a command is.
#[derive(Debug, Serialize)]
pub struct Progress {
    /// What it does now.
    pub phase: String,
    /// Milliseconds since it began.
    pub elapsed_ms: u64,
    /// Entries dealt with.
    pub entries: u64,
    /// Bytes dealt with.
    pub bytes: u64,
    /// How many there are, where that is known.
    pub bytes_expected: Option<u64>,
    /// Over the last seconds.
    pub bytes_per_second: u64,
    /// At this rate.
    pub seconds_left: Option<u64>,
}

/// How far a command is, on stderr.
pub fn progress(progress: &Progress) -> String {
    // Numbers and one text: nothing that has no JSON.
    serde_json::to_string(&Line::new("progress", progress)).unwrap_or_default()
}

/// A snapshot.
#[derive(Debug, Serialize)]
pub struct Snapshot {
    id: String,
    time: String,
    host: String,
    user: String,
    tags: Vec<String>,
    paths: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    paths_bytes: Option<Vec<String>>,
    label: Option<String>,
    entries: u64,
    files: u64,
    bytes: u64,
    new_bytes: u64,
    stored_bytes: u64,
    incomplete: bool,
    partial: bool,
    protected: bool,
    verified: Option<Verified>,
    rehearsal: Option<Rehearsed>,
    problem_count: u64,
    duration_ms: u64,
    program: String,
    members: Vec<MemberObject>,
    #[serde(skip_serializing_if = "Option::is_none")]
    forgotten: Option<String>,
}

impl Snapshot {
    /// From its manifest.
    pub fn new(manifest: &Manifest) -> Snapshot {
        let odd = manifest
            .paths
            .iter()
            .any(|p| std::str::from_utf8(p).is_err());
        Snapshot {
            id: manifest.id.to_string(),
            time: rfc3339(manifest.time, manifest.zone_offset),
            host: manifest.host.clone(),
            user: manifest.user.clone(),
            tags: manifest.tags.clone(),
            paths: manifest.paths.iter().map(|p| text_and_hex(p).0).collect(),
            paths_bytes: odd.then(|| manifest.paths.iter().map(|p| hex(p)).collect()),
            label: manifest.label.clone(),
            entries: manifest.entries,
            files: manifest.files,
            bytes: manifest.bytes,
            new_bytes: manifest.new_bytes,
            stored_bytes: manifest.new_stored,
            incomplete: manifest.incomplete,
            partial: manifest.partial,
            protected: false,
            verified: None,
            rehearsal: None,
            problem_count: manifest.problem_count,
            duration_ms: manifest.duration_ms,
            program: manifest.program.clone(),
            members: manifest.members.iter().map(Into::into).collect(),
            forgotten: None,
        }
    }

    /// With what notes say of it.
    #[must_use]
    pub fn noted(self, manifest: &Manifest, notes: &Notes) -> Snapshot {
        let verified = |(time, by)| Verified {
            time: rfc3339(time, 0),
            by: proof(by),
        };
        Snapshot {
            protected: notes.is_protected(manifest.id),
            verified: notes.verified(manifest.id).map(verified),
            rehearsal: notes.rehearsal(manifest.id).map(|r| Rehearsed {
                time: rfc3339(r.time, 0),
                passed: r.passed,
                duration_ms: r.duration_ms,
                lines: r.lines,
            }),
            ..self
        }
    }

    /// With the time when it was forgotten.
    #[must_use]
    pub fn forgotten(self, time: String) -> Snapshot {
        Snapshot {
            forgotten: Some(time),
            ..self
        }
    }
}

/// When a snapshot was last found to be whole, and by what.
#[derive(Debug, Serialize)]
struct Verified {
    time: String,
    by: &'static str,
}

/// How the last rehearsal of a snapshot ended.
#[derive(Debug, Serialize)]
struct Rehearsed {
    time: String,
    passed: bool,
    duration_ms: u64,
    lines: Vec<String>,
}

/// What proved a snapshot to be whole, in a word.
pub fn proof(by: Proof) -> &'static str {
    match by {
        Proof::Check => "check",
        Proof::Restore => "restore",
        Proof::Rehearsal => "rehearsal",
    }
}

/// What `snapshot` did.
#[derive(Debug, Serialize)]
pub struct Taken {
    /// The snapshot; its id names nothing after a dry run.
    #[serde(flatten)]
    pub snapshot: Snapshot,
    /// The snapshot that unchanged files were taken from.
    pub parent: Option<String>,
    /// The partial snapshot that it went on from.
    pub resumed: Option<String>,
    /// Bytes read from the source.
    pub read_bytes: u64,
    /// Chunks that were not in the repository before, pages of the tree among them.
    pub new_chunks: u64,
    /// Those that became deltas of stored ones.
    pub delta_chunks: u64,
    /// Their bytes.
    pub delta_bytes: u64,
    /// Bytes of the deltas themselves.
    pub delta_stored_bytes: u64,
    /// Nothing was stored.
    pub dry_run: bool,
    /// What was left out as asked; a folder counts once.
    pub excluded: u64,
    /// Everything is as in the parent, and nothing was committed.
    pub skipped: bool,
    /// What could not be read.
    pub problems: Vec<Trouble>,
}

/// Something that could not be read or written.
#[derive(Debug, Serialize)]
pub struct Trouble {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_bytes: Option<String>,
    message: String,
}

impl Trouble {
    /// Of a path.
    pub fn new(path: &[u8], message: String) -> Trouble {
        let (path, path_bytes) = text_and_hex(path);
        Trouble {
            path,
            path_bytes,
            message,
        }
    }
}

impl From<&Problem> for Trouble {
    fn from(problem: &Problem) -> Trouble {
        Trouble::new(&problem.path, problem.message.clone())
    }
}

/// An entry of a tree.
#[derive(Debug, Serialize)]
pub struct Listed {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_bytes: Option<String>,
    kind: &'static str,
    size: u64,
    mode: u32,
    uid: u32,
    gid: u32,
    user: Option<String>,
    group: Option<String>,
    mtime: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_bytes: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<[u32; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    same_file: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    xattrs: Vec<String>,
}

impl From<&Entry> for Listed {
    fn from(entry: &Entry) -> Listed {
        let (path, path_bytes) = text_and_hex(&entry.path);
        let lossy = |bytes: &Vec<u8>| text_and_hex(bytes).0;
        let (target, target_bytes) = match &entry.kind {
            Kind::Link(target) => {
                let (text, bytes) = text_and_hex(target);
                (Some(text), bytes)
            }
            _ => (None, None),
        };
        let device = match entry.kind {
            Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => {
                Some([major, minor])
            }
            _ => None,
        };
        Listed {
            path,
            path_bytes,
            kind: kind(&entry.kind),
            size: entry.meta.size,
            mode: entry.meta.mode,
            uid: entry.meta.uid,
            gid: entry.meta.gid,
            user: entry.meta.user.as_ref().map(lossy),
            group: entry.meta.group.as_ref().map(lossy),
            mtime: rfc3339(entry.meta.mtime, 0),
            target,
            target_bytes,
            device,
            same_file: entry.group.as_ref().map(lossy),
            xattrs: entry.xattrs.iter().map(|x| lossy(&x.name)).collect(),
        }
    }
}

/// A version of an entry that `find` found.
#[derive(Debug, Serialize)]
pub struct FoundVersion {
    #[serde(flatten)]
    entry: Listed,
    snapshots: Vec<String>,
}

impl FoundVersion {
    /// With the snapshots that hold it.
    pub fn new(entry: &Entry, snapshots: &[&Manifest]) -> FoundVersion {
        FoundVersion {
            entry: Listed::from(entry),
            snapshots: snapshots.iter().map(|m| m.id.to_string()).collect(),
        }
    }
}

/// A difference between two snapshots.
#[derive(Debug, Serialize)]
pub struct Differing {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_bytes: Option<String>,
    change: &'static str,
    before: Option<Version>,
    after: Option<Version>,
}

/// One side of a difference.
#[derive(Debug, Serialize)]
struct Version {
    kind: &'static str,
    size: u64,
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: String,
}

impl From<&Entry> for Version {
    fn from(entry: &Entry) -> Version {
        Version {
            kind: kind(&entry.kind),
            size: entry.meta.size,
            mode: entry.meta.mode,
            uid: entry.meta.uid,
            gid: entry.meta.gid,
            mtime: rfc3339(entry.meta.mtime, 0),
        }
    }
}

impl From<&Difference<'_>> for Differing {
    fn from(difference: &Difference<'_>) -> Differing {
        let (change, before, after) = match difference {
            Difference::Added(entry) => ("added", None, Some(*entry)),
            Difference::Removed(entry) => ("removed", Some(*entry), None),
            Difference::Changed { before, after, how } => {
                let change = match how {
                    How::Kind => "kind",
                    How::Content => "content",
                    How::ContentOnly => "content-only",
                    How::Metadata => "metadata",
                };
                (change, Some(*before), Some(*after))
            }
        };
        let (path, path_bytes) = text_and_hex(&difference.entry().path);
        Differing {
            path,
            path_bytes,
            change,
            before: before.map(Version::from),
            after: after.map(Version::from),
        }
    }
}

/// What differs between two snapshots, in numbers.
#[derive(Debug, Serialize)]
pub struct Compared {
    before: String,
    after: String,
    /// Only in the second.
    pub added: Count,
    /// Only in the first.
    pub removed: Count,
    /// Of another kind, or with other contents.
    pub changed: u64,
    /// Bytes of these in the first.
    pub changed_bytes_before: u64,
    /// Bytes of these in the second.
    pub changed_bytes_after: u64,
    /// Different in nothing but metadata; counted when asked for.
    pub metadata: u64,
}

/// Entries of one side.
#[derive(Debug, Default, Serialize)]
pub struct Count {
    /// Regular files.
    pub files: u64,
    /// Folders.
    pub folders: u64,
    /// Everything else.
    pub others: u64,
    /// Of the files.
    pub bytes: u64,
}

impl Compared {
    /// Of two snapshots, nothing counted yet.
    pub fn new(before: &Manifest, after: &Manifest) -> Compared {
        Compared {
            before: before.id.to_string(),
            after: after.id.to_string(),
            added: Count::default(),
            removed: Count::default(),
            changed: 0,
            changed_bytes_before: 0,
            changed_bytes_after: 0,
            metadata: 0,
        }
    }
}

fn kind(kind: &Kind) -> &'static str {
    match kind {
        Kind::File => "file",
        Kind::Folder => "folder",
        Kind::Link(_) => "link",
        Kind::Fifo => "fifo",
        Kind::Socket => "socket",
        Kind::CharDevice { .. } => "char-device",
        Kind::BlockDevice { .. } => "block-device",
    }
}

/// What `archive` wrote into a file.
#[derive(Debug, Serialize)]
pub struct Archived {
    id: String,
    entries: u64,
    files: u64,
    bytes: u64,
    dry_run: bool,
    left_out: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    left_out_bytes: Option<Vec<String>>,
    renamed: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    renamed_bytes: Option<Vec<String>>,
}

impl Archived {
    /// From a report.
    pub fn new(manifest: &Manifest, report: &StreamReport, dry_run: bool) -> Archived {
        let (left_out, left_out_bytes) = texts_and_hex(&report.left_out);
        let (renamed, renamed_bytes) = texts_and_hex(&report.renamed);
        Archived {
            id: manifest.id.to_string(),
            entries: report.entries,
            files: report.files,
            bytes: report.bytes,
            dry_run,
            left_out,
            left_out_bytes,
            renamed,
            renamed_bytes,
        }
    }
}

/// A local cache.
#[derive(Debug, Serialize)]
pub struct Cache {
    /// Id of its repository.
    pub repository: String,
    /// The repository's place, where known.
    pub location: Option<String>,
    /// Bytes of its files.
    pub bytes: u64,
    /// When it was used last.
    pub last_used: Option<String>,
    /// Whether a process uses it now.
    pub in_use: bool,
}

/// What `rewrite` made of a snapshot.
#[derive(Debug, Serialize)]
pub struct Rewritten {
    /// The snapshot.
    pub id: String,
    /// The new one, if one was committed.
    pub new_id: Option<String>,
    /// Entries that went, or would go.
    pub removed_entries: u64,
    /// Files among them.
    pub removed_files: u64,
    /// Their bytes.
    pub removed_bytes: u64,
    /// The old snapshot was forgotten.
    pub forgotten: bool,
    /// Nothing was done.
    pub dry_run: bool,
}

/// What retention, or the user, says of a snapshot.
#[derive(Debug, Serialize)]
pub struct Verdict {
    /// The snapshot.
    pub id: String,
    /// Its time.
    pub time: String,
    /// Its host.
    pub host: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// Its paths.
    pub paths: Vec<String>,
    /// Whether it stays.
    pub keep: bool,
    /// Why it stays.
    pub reasons: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::errors::Code;

    #[test]
    fn bytes_that_are_no_text_are_kept_as_hex() {
        assert_eq!(text_and_hex("ñ".as_bytes()), ("ñ".into(), None));
        assert_eq!(
            text_and_hex(b"a\xff"),
            ("a\u{fffd}".into(), Some("61ff".into()))
        );
    }

    #[test]
    fn an_error() {
        let error = Failure::new(Code::NoRepository, "none \"here\"");
        let text = failure(&error);
        assert_eq!(
            text,
            r#"{"code":10,"error":"none \"here\"","hint":null,"schema":1,"type":"error"}"#
        );
    }
}

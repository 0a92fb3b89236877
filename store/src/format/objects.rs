//! Small sealed objects: sessions, gc lists, markers, notes, manifests and tombstones
//! (docs/format.md, "Session, list, marker, note, manifest"). The fields only; sealing is done in
//! [`crate::repository`].

use super::member::{decode_member, encode_member};
use super::{Decoder, Fields, FieldsBuilder, Malformed};
use crate::clock::Timestamp;
use crate::crypto::Kind;
use crate::id::{ChunkId, PackId, SnapshotId, Uuid};
use crate::member::Member;

/// The clear start of a small object.
pub(crate) fn header(kind: Kind) -> [u8; 8] {
    [b'h', b'u', b'c', b'h', b'a', 0, kind as u8, super::MAJOR]
}

/// What a session is for; the numbers stand on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum SessionKind {
    /// Writes packs and commits at most one snapshot.
    Writer = 1,
    /// Protects a collector's fresh packs; commits nothing.
    Collector = 2,
}

/// The process behind a session: enough to tell on the same host whether it is gone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostIdentity {
    /// Identifies the machine over reboots; empty where there is no such thing.
    pub machine: String,
    /// Identifies this boot.
    pub boot: String,
    /// Inode of the pid namespace.
    pub pid_namespace: u64,
    /// Process id.
    pub pid: u32,
    /// When the process started, in the system's own ticks.
    pub start_time: u64,
    /// The host's name, for people.
    pub host: String,
}

/// `sessions/<s>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionInfo {
    /// Its name.
    pub name: Uuid,
    /// What it is for.
    pub kind: SessionKind,
    /// Who holds it.
    pub process: HostIdentity,
    /// When it was opened, by the holder's clock.
    pub started: Timestamp,
}

impl SessionInfo {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut fields = FieldsBuilder::default();
        fields
            .bytes(1, &self.name.0)
            .u8(2, self.kind as u8)
            .bytes(3, self.process.machine.as_bytes())
            .bytes(4, self.process.boot.as_bytes())
            .u64(5, self.process.pid_namespace)
            .u64(6, u64::from(self.process.pid))
            .u64(7, self.process.start_time)
            .bytes(8, self.process.host.as_bytes())
            .time(9, self.started);
        fields.finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<SessionInfo, Malformed> {
        let fields = Fields::decode(bytes, "session")?;
        let text = |tag| fields.text(tag).unwrap_or_default();
        Ok(SessionInfo {
            name: Uuid(fields.array(1)?),
            kind: match fields.u8(2)? {
                1 => SessionKind::Writer,
                2 => SessionKind::Collector,
                _ => return Err(fields.bad()),
            },
            process: HostIdentity {
                machine: text(3),
                boot: text(4),
                pid_namespace: fields.u64(5)?,
                pid: u32::try_from(fields.u64(6)?).map_err(|_| fields.bad())?,
                start_time: fields.u64(7)?,
                host: text(8),
            },
            started: fields.time(9)?,
        })
    }
}

/// Types of objects that share a kind; the numbers stand on disk.
const LIST: u8 = 1;
const OPEN: u8 = 2;
const MARKER: u8 = 3;

/// Decodes fields that must say what they are: one list must not pass for another.
fn of_type<'a>(bytes: &'a [u8], what: &'static str, number: u8) -> Result<Fields<'a>, Malformed> {
    let fields = Fields::decode(bytes, what)?;
    if fields.u8(9)? == number {
        Ok(fields)
    } else {
        Err(fields.bad())
    }
}

/// `gc/<l>`: packs condemned for good, by a collector or by repair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GcList {
    pub name: Uuid,
    pub packs: Vec<PackId>,
    pub session: Uuid,
    pub made: Timestamp,
    /// Chunks that snapshots needed and no pack gave back when repair put the list.
    pub lost: Vec<ChunkId>,
    /// Lists that did not open any more; `packs` holds all that stood then, so theirs too.
    pub covers: Vec<Uuid>,
}

impl GcList {
    pub fn encode(&self) -> Vec<u8> {
        let mut fields = FieldsBuilder::default();
        let packs: Vec<u8> = self.packs.iter().flat_map(|p| p.0).collect();
        fields
            .bytes(1, &self.name.0)
            .u8(9, LIST)
            .bytes(2, &packs)
            .bytes(3, &self.session.0)
            .time(4, self.made);
        if !self.lost.is_empty() {
            let lost: Vec<u8> = self.lost.iter().flat_map(|c| c.0).collect();
            fields.bytes(5, &lost);
        }
        if !self.covers.is_empty() {
            let covers: Vec<u8> = self.covers.iter().flat_map(|l| l.0).collect();
            fields.bytes(6, &covers);
        }
        fields.finish()
    }

    pub fn decode(bytes: &[u8]) -> Result<GcList, Malformed> {
        let fields = of_type(bytes, "gc list", LIST)?;
        let (lost, covers) = (fields.get(5), fields.get(6));
        Ok(GcList {
            name: Uuid(fields.array(1)?),
            packs: ids(fields.need(2)?)?.into_iter().map(PackId).collect(),
            session: Uuid(fields.array(3)?),
            made: fields.time(4)?,
            lost: ids(lost.unwrap_or(&[]))?.into_iter().map(ChunkId).collect(),
            covers: ids(covers.unwrap_or(&[]))?.into_iter().map(Uuid).collect(),
        })
    }
}

fn ids<const N: usize>(bytes: &[u8]) -> Result<Vec<[u8; N]>, Malformed> {
    let (ids, rest) = bytes.as_chunks::<N>();
    if rest.is_empty() {
        Ok(ids.to_vec())
    } else {
        Err(Malformed("list of ids"))
    }
}

/// `gc/<l>.open`: the writers that a sweep waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OpenList {
    pub name: Uuid,
    pub sessions: Vec<Uuid>,
}

impl OpenList {
    pub fn encode(&self) -> Vec<u8> {
        let mut fields = FieldsBuilder::default();
        let sessions: Vec<u8> = self.sessions.iter().flat_map(|s| s.0).collect();
        fields
            .bytes(1, &self.name.0)
            .u8(9, OPEN)
            .bytes(2, &sessions);
        fields.finish()
    }

    pub fn decode(bytes: &[u8]) -> Result<OpenList, Malformed> {
        let fields = of_type(bytes, "open list", OPEN)?;
        let sessions = ids(fields.need(2)?)?.into_iter().map(Uuid).collect();
        Ok(OpenList {
            name: Uuid(fields.array(1)?),
            sessions,
        })
    }
}

/// `trash/<s>`: a forgotten snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrashMarker {
    /// The snapshot's name.
    pub name: Uuid,
    /// When it was forgotten, by that host's clock.
    pub forgotten: Timestamp,
    /// By which host.
    pub host: String,
}

impl TrashMarker {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut fields = FieldsBuilder::default();
        fields
            .bytes(1, &self.name.0)
            .u8(9, MARKER)
            .time(2, self.forgotten)
            .bytes(3, self.host.as_bytes());
        fields.finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<TrashMarker, Malformed> {
        let fields = of_type(bytes, "trash marker", MARKER)?;
        Ok(TrashMarker {
            name: Uuid(fields.array(1)?),
            forgotten: fields.time(2)?,
            host: fields.text(3).unwrap_or_default(),
        })
    }
}

/// Fields of a heartbeat.
pub(crate) fn encode_heartbeat(session: Uuid, number: u64) -> Vec<u8> {
    let mut fields = FieldsBuilder::default();
    fields.bytes(1, &session.0).u64(2, number);
    fields.finish()
}

/// The session that a heartbeat belongs to.
pub(crate) fn decode_heartbeat(bytes: &[u8]) -> Result<Uuid, Malformed> {
    let fields = Fields::decode(bytes, "heartbeat")?;
    fields.u64(2)?;
    Ok(Uuid(fields.array(1)?))
}

/// What stands at `snapshots/<s>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotObject {
    /// A snapshot.
    Manifest(Box<Manifest>),
    /// The name is settled for good and no snapshot.
    Tombstone {
        /// The name.
        name: Uuid,
    },
}

/// The root page of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeRoot {
    /// The page.
    pub page: ChunkId,
    /// Levels below it; 0 when it holds the entries.
    pub height: u8,
}

/// A snapshot's manifest: the commit point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Its name: that of the session that committed it.
    pub name: Uuid,
    /// What people see and type.
    pub id: SnapshotId,
    /// When it was begun, or as told by `--time`.
    pub time: Timestamp,
    /// Offset of the writer's zone from UTC in seconds, for display.
    pub zone_offset: i64,
    /// Host name.
    pub host: String,
    /// User name.
    pub user: String,
    /// Absolute paths, sorted.
    pub paths: Vec<Vec<u8>>,
    /// Tags, sorted.
    pub tags: Vec<String>,
    /// Label.
    pub label: Option<String>,
    /// The tree; `None` when there is nothing in it.
    pub root: Option<TreeRoot>,
    /// Entries in the tree.
    pub entries: u64,
    /// Files among them.
    pub files: u64,
    /// Plain bytes of all files, holes included.
    pub bytes: u64,
    /// Plain bytes of chunks that were not there before.
    pub new_bytes: u64,
    /// Bytes that were added to the repository.
    pub new_stored: u64,
    /// Something could not be read.
    pub incomplete: bool,
    /// A checkpoint, not a whole snapshot.
    pub partial: bool,
    /// The checkpoint fell into its last entry: a file of so many bytes, of which it holds the
    /// beginning.
    pub unfinished: Option<u64>,
    /// The snapshot that unchanged files were taken from.
    pub parent: Option<Uuid>,
    /// The snapshot that this one repeats (undelete, rewrite, repair).
    pub origin: Option<Uuid>,
    /// Version of the program.
    pub program: String,
    /// What could not be read, the first [`MAX_PROBLEMS`].
    pub problems: Vec<String>,
    /// How many problems there were.
    pub problem_count: u64,
    /// How long it took in milliseconds.
    pub duration_ms: u64,
    /// Its members that are no file trees, in the order of their names.
    pub members: Vec<Member>,
    /// Fields that this program does not know, kept as they are.
    pub unknown: Vec<(u8, Vec<u8>)>,
}

/// Most problems that a manifest lists.
pub const MAX_PROBLEMS: usize = 20;

const FLAG_INCOMPLETE: u64 = 1;
const FLAG_PARTIAL: u64 = 2;
const KNOWN: std::ops::RangeInclusive<u8> = 1..=26;
const UNFINISHED: u8 = 28;
/// Known numbers that this version does not use itself and passes on: job, trigger.
const PASSED_ON: std::ops::RangeInclusive<u8> = 22..=23;

impl Manifest {
    fn encode(&self) -> Vec<u8> {
        let mut fields = FieldsBuilder::default();
        fields
            .bytes(1, &self.name.0)
            .u8(2, 1)
            .bytes(3, &self.id.0)
            .time(4, self.time)
            .bytes(5, &self.zone_offset.to_le_bytes())
            .bytes(6, self.host.as_bytes())
            .bytes(7, self.user.as_bytes());
        for path in &self.paths {
            fields.bytes(8, path);
        }
        for tag in &self.tags {
            fields.bytes(9, tag.as_bytes());
        }
        fields.optional(10, self.label.as_ref());
        if let Some(root) = self.root {
            let mut value = root.page.0.to_vec();
            value.push(root.height);
            fields.bytes(11, &value);
        }
        let flags =
            u64::from(self.incomplete) * FLAG_INCOMPLETE + u64::from(self.partial) * FLAG_PARTIAL;
        fields
            .u64(12, self.entries)
            .u64(13, self.bytes)
            .u64(14, self.new_bytes)
            .u64(15, self.new_stored)
            .u64(16, flags)
            .optional(17, self.parent.map(|p| p.0))
            .optional(18, self.origin.map(|p| p.0))
            .bytes(19, self.program.as_bytes());
        for problem in self.problems.iter().take(MAX_PROBLEMS) {
            fields.bytes(20, problem.as_bytes());
        }
        fields
            .u64(21, self.problem_count)
            .u64(25, self.duration_ms)
            .u64(26, self.files);
        if let Some(length) = self.unfinished {
            fields.u64(UNFINISHED, length);
        }
        for member in &self.members {
            fields.bytes(24, &encode_member(member));
        }
        for (tag, value) in &self.unknown {
            fields.bytes(*tag, value);
        }
        fields.finish()
    }

    fn decode(fields: &Fields<'_>) -> Result<Manifest, Malformed> {
        let text = |tag| fields.text(tag).unwrap_or_default();
        let texts = |tag| {
            fields
                .all(tag)
                .map(|v| String::from_utf8_lossy(v).into_owned())
                .collect()
        };
        let flags = fields.u64_or(16, 0)?;
        let known = |tag: &u8| KNOWN.contains(tag) && !PASSED_ON.contains(tag);
        let unknown = |(tag, _): &(u8, &[u8])| !known(tag) && *tag != UNFINISHED;
        Ok(Manifest {
            name: Uuid(fields.array(1)?),
            id: SnapshotId(fields.array(3)?),
            time: fields.time(4)?,
            zone_offset: fields
                .optional_array(5)?
                .map(i64::from_le_bytes)
                .unwrap_or(0),
            host: text(6),
            user: text(7),
            paths: fields.all(8).map(<[u8]>::to_vec).collect(),
            tags: texts(9),
            label: fields.text(10),
            root: fields.get(11).map(decode_root).transpose()?,
            entries: fields.u64_or(12, 0)?,
            bytes: fields.u64_or(13, 0)?,
            new_bytes: fields.u64_or(14, 0)?,
            new_stored: fields.u64_or(15, 0)?,
            incomplete: flags & FLAG_INCOMPLETE != 0,
            partial: flags & FLAG_PARTIAL != 0,
            unfinished: match fields.get(UNFINISHED) {
                Some(_) => Some(fields.u64(UNFINISHED)?),
                None => None,
            },
            parent: fields.optional_array(17)?.map(Uuid),
            origin: fields.optional_array(18)?.map(Uuid),
            program: text(19),
            problems: texts(20),
            problem_count: fields.u64_or(21, 0)?,
            duration_ms: fields.u64_or(25, 0)?,
            files: fields.u64_or(26, 0)?,
            members: fields
                .all(24)
                .map(decode_member)
                .collect::<Result<_, _>>()?,
            unknown: fields
                .iter()
                .filter(unknown)
                .map(|(t, v)| (t, v.to_vec()))
                .collect(),
        })
    }
}

fn decode_root(value: &[u8]) -> Result<TreeRoot, Malformed> {
    let mut d = Decoder::new(value, "tree root");
    let root = TreeRoot {
        page: ChunkId(d.array()?),
        height: d.u8()?,
    };
    d.end()?;
    Ok(root)
}

impl SnapshotObject {
    /// Its name.
    pub fn name(&self) -> Uuid {
        match self {
            SnapshotObject::Manifest(manifest) => manifest.name,
            SnapshotObject::Tombstone { name } => *name,
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            SnapshotObject::Manifest(manifest) => manifest.encode(),
            SnapshotObject::Tombstone { name } => {
                let mut fields = FieldsBuilder::default();
                fields.bytes(1, &name.0).u8(2, 2);
                fields.finish()
            }
        }
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<SnapshotObject, Malformed> {
        let fields = Fields::decode(bytes, "manifest")?;
        match fields.u8(2)? {
            1 => Manifest::decode(&fields).map(|m| SnapshotObject::Manifest(Box::new(m))),
            2 => Ok(SnapshotObject::Tombstone {
                name: Uuid(fields.array(1)?),
            }),
            _ => Err(fields.bad()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        Manifest {
            name: Uuid([1; 16]),
            id: SnapshotId([2; 16]),
            time: Timestamp {
                seconds: 1_700_000_000,
                nanos: 5,
            },
            zone_offset: -3600,
            host: "till".into(),
            user: "ana".into(),
            paths: vec![b"/a".to_vec(), b"/b\xff".to_vec()],
            tags: vec!["t".into()],
            label: Some("l".into()),
            root: Some(TreeRoot {
                page: ChunkId([3; 32]),
                height: 2,
            }),
            entries: 1,
            files: 1,
            bytes: 2,
            new_bytes: 3,
            new_stored: 4,
            incomplete: true,
            partial: true,
            unfinished: Some(6),
            parent: Some(Uuid([5; 16])),
            origin: None,
            program: "hucha 0.1.0".into(),
            problems: vec!["p".into()],
            problem_count: 1,
            duration_ms: 9,
            members: vec![Member {
                name: "m".into(),
                rows: Some(7),
                unknown: vec![(40, b"x".to_vec())],
                ..Member::default()
            }],
            unknown: vec![(22, b"job".to_vec()), (99, b"later".to_vec())],
        }
    }

    #[test]
    fn manifest_keeps_everything_also_what_it_does_not_know() {
        let object = SnapshotObject::Manifest(Box::new(manifest()));
        assert_eq!(SnapshotObject::decode(&object.encode()).unwrap(), object);
        let tombstone = SnapshotObject::Tombstone {
            name: Uuid([7; 16]),
        };
        assert_eq!(
            SnapshotObject::decode(&tombstone.encode()).unwrap(),
            tombstone
        );
        for cut in 0..object.encode().len() {
            let _ = SnapshotObject::decode(&object.encode()[..cut]);
        }
    }

    #[test]
    fn lists_there_and_back() {
        let list = GcList {
            name: Uuid([1; 16]),
            packs: vec![PackId([2; 32]), PackId([3; 32])],
            session: Uuid([4; 16]),
            made: Timestamp::default(),
            lost: vec![],
            covers: vec![],
        };
        assert_eq!(GcList::decode(&list.encode()).unwrap(), list);
        let list = GcList {
            lost: vec![ChunkId([5; 32]), ChunkId([6; 32])],
            covers: vec![Uuid([7; 16])],
            ..list
        };
        assert_eq!(GcList::decode(&list.encode()).unwrap(), list);
        let open = OpenList {
            name: Uuid([1; 16]),
            sessions: vec![],
        };
        assert_eq!(OpenList::decode(&open.encode()).unwrap(), open);
        let info = SessionInfo {
            name: Uuid([1; 16]),
            kind: SessionKind::Collector,
            process: HostIdentity {
                pid: 7,
                host: "h".into(),
                ..HostIdentity::default()
            },
            started: Timestamp::default(),
        };
        assert_eq!(SessionInfo::decode(&info.encode()).unwrap(), info);
    }
}

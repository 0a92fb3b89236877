//! What a snapshot says of its members: one database, stream or command each. The manifest has a
//! [`Member`] for each, an entry of a stream has [`StreamFacts`] in an attribute
//! (docs/format.md, "Members"). Values only; `format::member` says how they are written.

use crate::clock::Timestamp;
use crate::entry::Xattr;

/// Name of the attribute of an entry that holds [`StreamFacts`]. No file system gives such a name,
/// and no restore sets it.
pub const ATTRIBUTE: &[u8] = b"hucha.stream";

/// How the names of attributes begin that say something of a stream, and belong to no file.
const OURS: &[u8] = b"hucha.";

/// Whether an attribute belongs to a stream in a snapshot, and to no file that is made of it.
pub fn is_ours(attribute: &Xattr) -> bool {
    attribute.name.starts_with(OURS)
}

/// Property of a member that may have nothing where it had something before.
pub const MAY_BE_EMPTY: &str = "allow_empty";

/// Most warnings of a member that a manifest lists.
pub const MAX_WARNINGS: usize = 5;

/// Most characters of a text that a manifest has of a member.
pub const MAX_TEXT: usize = 200;

/// What the manifest says of a member that is no file tree.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Member {
    /// Its path in the snapshot: that of its one file, or of the folder of its streams.
    pub name: String,
    /// What it is: `sqlite`, `postgres`, `mysql`, `mssql`, `firestore`, `command`.
    pub kind: String,
    /// In which form its streams are: `pages`, `tables`, `custom`, `plain`, `bak`, `ndjson`.
    pub form: String,
    /// Product and version of what it was read from: `PostgreSQL 15.18`.
    pub server: String,
    /// Program and version that read it; empty: hucha itself.
    pub tool: String,
    /// Plain bytes of its streams.
    pub bytes: u64,
    /// How many streams it has.
    pub streams: u64,
    /// Tables (or collections) whose rows were counted.
    pub tables: u64,
    /// Their rows, where they were counted.
    pub rows: Option<u64>,
    /// How long it was read, in milliseconds.
    pub duration_ms: u64,
    /// What a person should know although the member is whole, the first [`MAX_WARNINGS`].
    pub warnings: Vec<String>,
    /// How many warnings there were.
    pub warning_count: u64,
    /// Other things that a restore goes by: `encoding=UTF8`, `page_size=4096`; sorted by name.
    pub properties: Vec<(String, String)>,
    /// Why it is not there; only in a snapshot that is partial because that was asked for.
    pub failed: Option<String>,
    /// Fields that this program does not know, kept as they are.
    pub unknown: Vec<(u8, Vec<u8>)>,
}

impl Member {
    /// A property's value.
    pub fn property(&self, name: &str) -> Option<&str> {
        let found = self.properties.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// What is known of a stream once it was read to its end. The same for the same bytes: it says
/// nothing of when or how long.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StreamFacts {
    /// BLAKE3 of its bytes, without a key: what `b3sum` prints.
    pub digest: [u8; 32],
    /// Rows of each table (or documents of each collection) in it, by name in order.
    pub rows: Vec<(String, u64)>,
    /// Other things that a reader goes by: `order=key`, `columns=id,name`; sorted by name.
    pub properties: Vec<(String, String)>,
}

impl StreamFacts {
    /// A property's value.
    pub fn property(&self, name: &str) -> Option<&str> {
        let found = self.properties.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| value.as_str())
    }

    /// All rows; `None` when none were counted.
    pub fn total(&self) -> Option<u64> {
        let counts = self.rows.iter().map(|(_, rows)| rows);
        (!self.rows.is_empty()).then(|| counts.sum())
    }

    /// As the attribute of an entry.
    pub fn to_attribute(&self) -> Xattr {
        Xattr {
            name: ATTRIBUTE.to_vec(),
            value: crate::format::member::encode_facts(self),
        }
    }

    /// From the attributes of an entry; `None` when it is no stream, or nobody can read them.
    pub fn of_attributes(attributes: &[Xattr]) -> Option<StreamFacts> {
        let found = attributes.iter().find(|x| x.name == ATTRIBUTE)?;
        crate::format::member::decode_facts(&found.value).ok()
    }
}

/// How a rehearsal ended: a snapshot was restored only to see that it works.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rehearsal {
    /// When it ended.
    pub time: Timestamp,
    /// Whether all of it came back as it was stored.
    pub passed: bool,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// What became of each member: a line with its name.
    pub lines: Vec<String>,
}

//! Entries of a tree: one file, folder, link or other thing under its path, with what is kept of
//! it. The value only; docs/format.md and `format::entry` say how it is written.

use std::cmp::Ordering;

use crate::clock::Timestamp;
use crate::id::ChunkId;

/// Most bytes of a file kept inside its entry instead of a chunk.
pub const MAX_INLINE: usize = 512;

/// One thing in a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Path inside the snapshot: components joined by `/`, none first, empty for the root. Bytes
    /// on Unix, WTF-8 on Windows.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Mode, owner, times.
    pub meta: Meta,
    /// A file's bytes; [`Content::None`] for everything else.
    pub content: Content,
    /// Extended attributes in the order of their names, ACLs among them.
    pub xattrs: Vec<Xattr>,
    /// Path of the first entry of the same inode, for every entry of an inode with several links
    /// (the first one names itself).
    pub group: Option<Vec<u8>>,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file, or a stream stored as one.
    File,
    /// A folder.
    Folder,
    /// A symbolic link and its target's bytes.
    Link(Vec<u8>),
    /// A named pipe.
    Fifo,
    /// A socket: noted, not restored.
    Socket,
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
}

/// Mode, owner and times of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Meta {
    /// Permission bits, set-id and sticky bits (`07777`).
    pub mode: u32,
    /// Owner's number.
    pub uid: u32,
    /// Group's number.
    pub gid: u32,
    /// Owner's name where known.
    pub user: Option<Vec<u8>>,
    /// Group's name where known.
    pub group: Option<Vec<u8>>,
    /// Last change of the content.
    pub mtime: Timestamp,
    /// Last change of inode or content; files only, else zero. Not restored: it tells whether a
    /// file changed.
    pub ctime: Timestamp,
    /// Inode number; files only, 0 where there is none. Like `ctime`.
    pub inode: u64,
    /// A file's length in bytes, holes included; else 0.
    pub size: u64,
}

/// An extended attribute.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Xattr {
    /// Its name with namespace: `user.comment`.
    pub name: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
}

/// Where a file's bytes are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Content {
    /// No bytes, or not a file.
    #[default]
    None,
    /// The bytes themselves, at most [`MAX_INLINE`].
    Inline(Vec<u8>),
    /// A few extents in order.
    Extents(Vec<Extent>),
    /// Many extents: the root page of a content list.
    Paged {
        /// The list's root page.
        root: ChunkId,
        /// Levels below the root; 0 when the root holds the extents.
        height: u8,
    },
}

/// A run of a file's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// The plain bytes of a chunk.
    Chunk {
        /// The chunk.
        id: ChunkId,
        /// Its plain length.
        len: u32,
    },
    /// A hole of so many bytes.
    Hole(u64),
}

impl Extent {
    /// Bytes of the file that it covers.
    pub fn len(&self) -> u64 {
        match self {
            Extent::Chunk { len, .. } => u64::from(*len),
            Extent::Hole(len) => *len,
        }
    }

    /// Whether it covers nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its chunk; none of a hole.
    pub fn chunk(&self) -> Option<&ChunkId> {
        match self {
            Extent::Chunk { id, .. } => Some(id),
            Extent::Hole(_) => None,
        }
    }
}

/// The order of paths in a tree: component by component, so that descendants follow their folder
/// (`/` sorts below every other byte).
pub fn path_order(a: &[u8], b: &[u8]) -> Ordering {
    let shared = shared_bytes(a, b);
    let key = |c: &u8| if *c == b'/' { 0u16 } else { u16::from(*c) + 1 };
    a.get(shared).map(key).cmp(&b.get(shared).map(key))
}

/// With how many equal bytes two paths begin.
pub(crate) fn shared_bytes(a: &[u8], b: &[u8]) -> usize {
    // Neighbours in a tree share most of their paths: sixteen bytes at a time.
    let (many, _) = a.as_chunks::<16>();
    let pairs = many.iter().zip(b.as_chunks::<16>().0);
    let whole = 16 * pairs.take_while(|(a, b)| a == b).count();
    let rest = (a.get(whole..).into_iter().flatten()).zip(b.get(whole..).into_iter().flatten());
    whole + rest.take_while(|(a, b)| a == b).count()
}

/// Whether `path` is `folder` or lies below it; everything lies below the root `""`.
pub fn is_within(path: &[u8], folder: &[u8]) -> bool {
    match path.strip_prefix(folder) {
        Some(rest) => folder.is_empty() || rest.is_empty() || rest.first() == Some(&b'/'),
        None => false,
    }
}

/// The folder that holds `path`; `None` for the root.
pub fn parent_of(path: &[u8]) -> Option<&[u8]> {
    if path.is_empty() {
        return None;
    }
    let cut = path.iter().rposition(|c| *c == b'/').unwrap_or(0);
    path.get(..cut)
}

/// Whether a path may stand in a tree: no empty, `.` or `..` component, no NUL, no `/` at either
/// end. The root is `""`.
pub fn is_sound_path(path: &[u8]) -> bool {
    let sound =
        |part: &[u8]| !part.is_empty() && part != b"." && part != b".." && !part.contains(&0);
    path.is_empty() || path.split(|c| *c == b'/').all(sound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descendants_follow_their_folder() {
        let mut paths: Vec<&[u8]> = vec![b"a-b", b"a/z", b"", b"a", b"b", b"a/b/c", b"a/b", b"a b"];
        paths.sort_by(|a, b| path_order(a, b));
        assert_eq!(
            paths,
            vec![
                &b""[..],
                b"a",
                b"a/b",
                b"a/b/c",
                b"a/z",
                b"a b",
                b"a-b",
                b"b"
            ]
        );
    }

    #[test]
    fn order_of_long_paths_is_that_of_their_bytes() {
        let key = |c: &u8| if *c == b'/' { 0u16 } else { u16::from(*c) + 1 };
        let slow = |a: &[u8], b: &[u8]| a.iter().map(key).cmp(b.iter().map(key));
        for length in [0, 1, 15, 16, 17, 31, 32, 33, 50] {
            let same = vec![b'x'; length];
            let ends: [&[u8]; 7] = [b"", b"/", b"/a", b"a", b" ", b"\xff", b"xxxxxxxxxxxxxxxxx"];
            let paths = ends.map(|end| [&same, end].concat());
            for (a, b) in paths.iter().flat_map(|a| paths.iter().map(move |b| (a, b))) {
                assert_eq!(path_order(a, b), slow(a, b), "{a:?} {b:?}");
                let shared = a.iter().zip(b).take_while(|(a, b)| a == b).count();
                assert_eq!(shared_bytes(a, b), shared);
            }
        }
    }

    #[test]
    fn within_and_parent() {
        assert!(is_within(b"a/b", b"a"));
        assert!(is_within(b"a", b"a"));
        assert!(is_within(b"a", b""));
        assert!(!is_within(b"ab", b"a"));
        assert_eq!(parent_of(b"a/b"), Some(&b"a"[..]));
        assert_eq!(parent_of(b"a"), Some(&b""[..]));
        assert_eq!(parent_of(b""), None);
    }

    #[test]
    fn unsound_paths() {
        for bad in [&b"/a"[..], b"a/", b"a//b", b"..", b"a/../b", b".", b"a\0"] {
            assert!(!is_sound_path(bad), "{bad:?}");
        }
        assert!(is_sound_path(b"a/...b/c"));
        assert!(is_sound_path(b""));
    }
}

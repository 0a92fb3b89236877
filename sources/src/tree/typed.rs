//! From typed paths to what is read and under which names: the path rules of the command line as
//! a tree of names. It looks at the disk only to see which typed paths are there.
//!
//! - Stored as typed without a leading `/`; `.`, `./` and `//` are dropped; nothing left (`.`, `/`)
//!   means the root.
//! - With `..` anywhere, the part up to the last `..` is resolved as the system would, links
//!   included, and the path is stored under its absolute name.
//! - A link is stored as a link. With a trailing `/` or `/.` it is followed and stored as a folder;
//!   for a folder a trailing `/` changes nothing, for a file it is an error ("Not a directory").
//! - A typed path below another one is part of it and read once.
//! - Two different places under one stored name are refused when both were typed; when one of them
//!   is only met while walking, the typed one is stored and the other reported.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Missing, TreeError};

/// What to read under one stored name.
#[derive(Debug, Default)]
pub(super) struct Node {
    /// Where it is, absolute.
    pub(super) location: PathBuf,
    /// Typed itself, so with all it holds; else only a folder on the way.
    pub(super) whole: bool,
    /// Typed with a trailing `/`: a link is followed.
    pub(super) follow: bool,
    /// Typed things below, by name.
    pub(super) children: BTreeMap<CString, Node>,
}

#[derive(Debug)]
pub(super) struct Typed {
    pub(super) root: Node,
    /// Absolute, sorted, missing ones included: they group snapshots whatever is there today.
    pub(super) paths: Vec<Vec<u8>>,
    pub(super) missing: Vec<Missing>,
}

impl Typed {
    pub(super) fn new(typed: &[OsString], base: &Path) -> Result<Typed, TreeError> {
        if typed.is_empty() {
            return Err(TreeError::NothingTyped);
        }
        let base = fs::canonicalize(base).map_err(TreeError::Base)?;
        let (mut paths, mut missing) = (Vec::new(), Vec::new());
        let mut root = Node::default();
        let mut found = false;
        for path in typed {
            let one = One::new(path, &base);
            paths.push(one.location().into_os_string().into_vec());
            match one.look() {
                Ok(()) => {
                    found = true;
                    insert(&mut root, &one)?;
                }
                Err(error) => missing.push(Missing {
                    path: path.into(),
                    error,
                }),
            }
        }
        if !found {
            return Err(TreeError::AllMissing(missing));
        }
        paths.sort();
        paths.dedup();
        Ok(Typed {
            root,
            paths,
            missing,
        })
    }
}

impl Node {
    /// The stored names of all that was typed, below `path`.
    pub(super) fn names(&self, path: &[u8], found: &mut Vec<Vec<u8>>) {
        if self.whole {
            found.push(path.to_vec());
        }
        for (name, child) in &self.children {
            let parts = [path, name.as_bytes()];
            let child_path = match path.is_empty() {
                true => name.as_bytes().to_vec(),
                false => parts.join(&b'/'),
            };
            child.names(&child_path, found);
        }
    }
}

/// One typed path, taken apart.
#[derive(Debug)]
struct One {
    /// What the names start from.
    start: PathBuf,
    names: Vec<Vec<u8>>,
    follow: bool,
    /// Why it cannot be there.
    error: Option<io::Error>,
}

impl One {
    fn new(typed: &OsStr, base: &Path) -> One {
        let bytes = typed.as_bytes();
        let parts: Vec<&[u8]> = bytes.split(|c| *c == b'/').collect();
        let follow = matches!(parts.last(), Some(&b"" | &b"." | &b".."));
        let from = if bytes.starts_with(b"/") {
            Path::new("/")
        } else {
            base
        };
        let mut names: Vec<Vec<u8>> = Vec::new();
        let (mut start, mut error) = (from.to_path_buf(), None);
        let mut rest = parts.as_slice();
        if let Some(last) = parts.iter().rposition(|part| *part == b"..") {
            let (up, down) = parts.split_at(last + 1);
            let up = from.join(OsStr::from_bytes(&up.join(&b'/')));
            let resolved = fs::canonicalize(&up).unwrap_or_else(|why| {
                error = Some(why);
                lexical(&up)
            });
            start = PathBuf::from("/");
            names.extend(components(resolved.as_os_str().as_bytes()));
            rest = down;
        }
        names.extend(components(&rest.join(&b'/')));
        if bytes.is_empty() || bytes.contains(&0) {
            error = Some(io::Error::from(io::ErrorKind::NotFound));
        }
        One {
            start,
            names,
            follow,
            error,
        }
    }

    fn location(&self) -> PathBuf {
        self.names.iter().fold(self.start.clone(), |at, name| {
            at.join(OsStr::from_bytes(name))
        })
    }

    fn look(&self) -> io::Result<()> {
        if let Some(error) = &self.error {
            return Err(error.kind().into());
        }
        let location = self.location();
        if !self.follow {
            return fs::symlink_metadata(&location).map(drop);
        }
        match fs::metadata(&location)?.is_dir() {
            true => Ok(()),
            false => Err(io::ErrorKind::NotADirectory.into()),
        }
    }
}

fn components(path: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let parts = path.split(|c| *c == b'/');
    parts
        .filter(|part| !part.is_empty() && *part != b".")
        .map(<[u8]>::to_vec)
}

/// Resolves `..` by the letters alone, for a path that is not there.
fn lexical(path: &Path) -> PathBuf {
    let mut names: Vec<Vec<u8>> = Vec::new();
    for name in components(path.as_os_str().as_bytes()) {
        match name.as_slice() {
            b".." => drop(names.pop()),
            _ => names.push(name),
        }
    }
    names.iter().fold(PathBuf::from("/"), |at, name| {
        at.join(OsStr::from_bytes(name))
    })
}

fn insert(root: &mut Node, one: &One) -> Result<(), TreeError> {
    let (mut node, mut location) = (root, one.start.clone());
    for name in &one.names {
        location.push(OsStr::from_bytes(name));
        // Names with a NUL were sorted out as missing.
        let name = CString::new(name.as_slice()).unwrap_or_default();
        node = node.children.entry(name).or_insert_with(|| Node {
            location: location.clone(),
            ..Node::default()
        });
    }
    if node.whole && !is_same(&node.location, &location) {
        let first = node.location.clone();
        return Err(TreeError::Clash {
            first,
            second: location,
        });
    }
    if !node.whole {
        node.location = location;
    }
    node.whole = true;
    node.follow |= one.follow;
    Ok(())
}

fn is_same(a: &Path, b: &Path) -> bool {
    let id = |path| fs::symlink_metadata(path).map(|meta| (meta.dev(), meta.ino()));
    a == b || matches!((id(a), id(b)), (Ok(a), Ok(b)) if a == b)
}

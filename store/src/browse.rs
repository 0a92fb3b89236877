//! Looking into a snapshot: listing folders, reading one file.

use std::io::Write;
use std::ops::ControlFlow;

use crate::entry::{Content, Entry, Extent, Kind, is_within, parent_of};
use crate::error::AccessError;
use crate::format::objects::Manifest;
use crate::reader::Reader;
use crate::record::World;
use crate::repository::Repository;
use crate::tree::Tree;

/// Why a path of a snapshot cannot be shown.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BrowseError {
    /// The snapshot holds no such path.
    #[error("the snapshot holds no \"{0}\"")]
    NotFound(String),
    /// It is not a regular file.
    #[error("\"{0}\" is not a file")]
    NotAFile(String),
    /// The output cannot be written.
    #[error("cannot write the output")]
    Output(#[source] std::io::Error),
    /// The repository failed.
    #[error(transparent)]
    Access(#[from] AccessError),
}

fn lossy(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// Calls `each` for the entry at `path` if it is no folder, else for what the folder holds:
/// directly, or everything below it. `""` is the root. Answers how many pages were read.
///
/// # Errors
/// [`BrowseError::NotFound`] when the path is not there.
pub fn list(
    repository: &Repository,
    manifest: &Manifest,
    path: &[u8],
    recursive: bool,
    each: &mut dyn FnMut(&Entry) -> ControlFlow<()>,
) -> Result<u64, BrowseError> {
    repository.update_index()?;
    let reader = Reader::new(repository);
    let tree = Tree::new(&reader, manifest.root);
    let mut walk = tree.walk(path)?;
    let mut met = path.is_empty();
    while let Some(item) = walk.next_item()? {
        if !is_within(&item.0.path, path) {
            break;
        }
        met = true;
        let entry = tree.complete(item)?;
        if entry.path == path && (entry.kind == Kind::Folder || path.is_empty()) {
            continue;
        }
        if each(&entry).is_break() {
            break;
        }
        let direct = parent_of(&entry.path) == Some(path);
        if !recursive && direct && entry.kind == Kind::Folder {
            walk.skip_below(&entry.path)?;
        }
    }
    if met {
        Ok(tree.pages_read())
    } else {
        Err(BrowseError::NotFound(lossy(path)))
    }
}

/// The entry at a path.
///
/// # Errors
/// [`BrowseError::NotFound`] when there is none.
pub fn entry(
    repository: &Repository,
    manifest: &Manifest,
    path: &[u8],
) -> Result<Entry, BrowseError> {
    repository.update_index()?;
    let reader = Reader::new(repository);
    let found = Tree::new(&reader, manifest.root).find(path)?;
    found.ok_or_else(|| BrowseError::NotFound(lossy(path)))
}

/// Writes a file's bytes, holes as zeros, and answers how many.
///
/// # Errors
/// When there is no such file, it is damaged, or `out` fails.
pub fn cat(
    repository: &Repository,
    manifest: &Manifest,
    path: &[u8],
    out: &mut dyn Write,
) -> Result<u64, BrowseError> {
    let entry = entry(repository, manifest, path)?;
    if entry.kind != Kind::File {
        return Err(BrowseError::NotAFile(lossy(path)));
    }
    let reader = Reader::new(repository);
    let tree = Tree::new(&reader, manifest.root);
    let mut written = 0u64;
    let mut put = |bytes: &[u8]| {
        written += bytes.len() as u64;
        out.write_all(bytes).map_err(BrowseError::Output)
    };
    if let Content::Inline(bytes) = &entry.content {
        put(bytes)?;
    }
    let zeros = vec![0u8; 64 << 10];
    for extent in tree.extents(&entry.content)? {
        match extent? {
            Extent::Chunk { id, len } => {
                let plain = reader.chunk(World::Content, &id)?;
                if plain.len() != len as usize {
                    return Err(another_length(path, "a chunk has another length").into());
                }
                put(&plain)?;
            }
            Extent::Hole(mut len) => {
                while len > 0 {
                    let part = len.min(zeros.len() as u64);
                    put(zeros.get(..part as usize).unwrap_or(&[]))?;
                    len -= part;
                }
            }
        }
    }
    out.flush().map_err(BrowseError::Output)?;
    if written != entry.meta.size {
        return Err(another_length(path, "its extents do not add up to its size").into());
    }
    Ok(written)
}

fn another_length(path: &[u8], why: &str) -> AccessError {
    AccessError::damaged(lossy(path), why)
}

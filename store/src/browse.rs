//! Looking into a snapshot: listing folders, reading one file.

use std::io::Write;
use std::ops::ControlFlow;

use crate::entry::{Entry, Kind, is_within, parent_of};
use crate::error::AccessError;
use crate::format::objects::Manifest;
use crate::reader::Reader;
use crate::repository::Repository;
use crate::restore::pour;
use crate::target::Holes;
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
    let poured = pour(&tree, &entry, Holes::Zeros, &mut |bytes| {
        out.write_all(bytes)
    });
    poured
        .and_then(|()| out.flush())
        .map_err(|error| match error.downcast::<AccessError>() {
            Ok(access) => BrowseError::Access(access),
            Err(error) => BrowseError::Output(error),
        })?;
    Ok(entry.meta.size)
}

//! Where a restore goes, as the core sees it. Implemented for folders in `hucha-sources`.

use std::io::{self, Read};

use crate::entry::Entry;

/// A place that takes entries. Paths are those of the entries; an implementation keeps everything
/// below its own root whatever they say, and follows no link in doing so. Calls come from several
/// threads, never two at once for one path.
pub trait Target: Sync {
    /// Makes a folder (0700 for now), a link, a pipe or a device, replacing what stands in the way
    /// unless that is a folder that is not empty. A folder that is there already stays. Metadata
    /// of all but folders is set as well. The root (`""`) is made when absent.
    ///
    /// # Errors
    /// When the entry cannot be made; the rest goes on.
    fn make(&self, entry: &Entry) -> Result<Kept, TargetError>;

    /// Sets a folder's metadata, after everything in it was written.
    ///
    /// # Errors
    /// When some of it is refused.
    fn finish_folder(&self, entry: &Entry) -> Result<Kept, TargetError>;

    /// Makes `entry` another name of the file at `first`, replacing what stands in the way.
    ///
    /// # Errors
    /// When it cannot be made.
    fn link(&self, entry: &Entry, first: &[u8]) -> Result<(), TargetError>;

    /// The bytes of a regular file that is already there with the entry's size; `None` when there
    /// is no such file, or when it has other names that an in-place change would reach.
    fn existing(&self, entry: &Entry) -> Option<Box<dyn Read>>;

    /// Sets the metadata of a file that already holds the right bytes.
    ///
    /// # Errors
    /// When some of it is refused.
    fn settle(&self, entry: &Entry) -> Result<Kept, TargetError>;

    /// Opens a new file beside its place, under a temporary name, 0600.
    ///
    /// # Errors
    /// When it cannot be made.
    fn create(&self, entry: &Entry) -> Result<Box<dyn TargetFile>, TargetError>;
}

/// A file being written under a temporary name; dropping it unfinished removes it.
pub trait TargetFile: Send + Sync {
    /// Writes at an offset. Ranges that are never written are holes.
    ///
    /// # Errors
    /// When the bytes cannot be written.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Gives the file its length, metadata and name.
    ///
    /// # Errors
    /// When it cannot be put in place.
    fn finish(self: Box<Self>, entry: &Entry) -> Result<Kept, TargetError>;
}

/// How much of an entry's metadata was set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Kept {
    /// What was refused, one message each (an extended attribute, a device without root).
    pub refused: Vec<String>,
}

/// An entry that could not be restored.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct TargetError {
    /// What was tried.
    pub what: String,
    /// What the system said.
    #[source]
    pub source: Option<io::Error>,
}

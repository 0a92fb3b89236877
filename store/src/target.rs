//! Where a restore goes, as the core sees it. Implemented for folders in `hucha-sources`.

use std::io;

use crate::clock::Timestamp;
use crate::entry::Entry;

/// A place that takes entries. Paths are those of the entries; an implementation keeps everything
/// below its own root whatever they say, and follows no link in doing so. Calls come from several
/// threads, never two at once for one path.
pub trait Target: Sync {
    /// What stands at a path, a link itself and not what it leads to; `None` when nothing does, or
    /// when a folder above it is none.
    ///
    /// # Errors
    /// When it cannot be told.
    fn look(&self, path: &[u8]) -> Result<Option<Found>, TargetError>;

    /// What a folder holds, in the order of the names' bytes, without what this or another restore
    /// has under a temporary name; nothing when it is no folder.
    ///
    /// # Errors
    /// When it cannot be read.
    fn list(&self, path: &[u8]) -> Result<Vec<Listed>, TargetError>;

    /// Removes one thing; a folder must be empty. What is gone already is removed.
    ///
    /// # Errors
    /// When it stays.
    fn remove(&self, path: &[u8]) -> Result<(), TargetError>;

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

    /// The regular file that stands at the entry's path, whatever its size; `None` when there is
    /// none that can be read.
    fn existing(&self, entry: &Entry) -> Option<Box<dyn Existing>>;

    /// Opens a new file beside its place, under a temporary name, for nobody else to read yet.
    ///
    /// # Errors
    /// When it cannot be made.
    fn create(&self, entry: &Entry) -> Result<Box<dyn TargetFile>, TargetError>;
}

/// What stands in a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// What it is.
    pub kind: FoundKind,
    /// A file's length in bytes; else 0.
    pub size: u64,
    /// Its last change.
    pub mtime: Timestamp,
}

/// What kind of thing stands in a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FoundKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// Anything else.
    Other,
}

/// Something in a folder of a target.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// Its name.
    pub name: Vec<u8>,
    /// Whether it is a folder.
    pub is_folder: bool,
}

/// A regular file that stands in a target, open for reading.
pub trait Existing: Send + Sync {
    /// Its length in bytes when it was opened.
    fn size(&self) -> u64;

    /// Fills `into` from an offset.
    ///
    /// # Errors
    /// When it cannot be read, or ends before that.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()>;

    /// Whether a range is known to be a hole, without reading it.
    fn is_hole(&self, offset: u64, len: u64) -> bool;

    /// Whether nobody has changed its bytes since it was opened.
    fn is_unchanged(&self) -> bool;

    /// A new file under a temporary name that begins with the same bytes and shares their room;
    /// `None` where the file system cannot do that.
    fn share(&self) -> Option<Box<dyn TargetFile>>;

    /// Sets the metadata of a file that already holds the entry's bytes. `None`, and nothing is
    /// set, when it has other names, which may lie anywhere, and its metadata would change.
    ///
    /// # Errors
    /// When some of it is refused.
    fn settle(&self, entry: &Entry) -> Result<Option<Kept>, TargetError>;
}

/// A file being written under a temporary name; dropping it unfinished removes it.
pub trait TargetFile: Send + Sync {
    /// Writes at an offset. Ranges that are never written are holes.
    ///
    /// # Errors
    /// When the bytes cannot be written.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes a range zeros again, a hole where the file system has them. Only for files that began
    /// with the bytes of another.
    ///
    /// # Errors
    /// When that cannot be done.
    fn clear(&self, offset: u64, len: u64) -> io::Result<()>;

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

/// A target where nothing is, for dry runs into a folder that is not there yet.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nowhere;

impl Nowhere {
    fn never<T>() -> Result<T, TargetError> {
        Err(TargetError {
            what: "a dry run writes nothing".to_owned(),
            source: Some(io::Error::from(io::ErrorKind::Unsupported)),
        })
    }
}

impl Target for Nowhere {
    fn look(&self, _: &[u8]) -> Result<Option<Found>, TargetError> {
        Ok(None)
    }

    fn list(&self, _: &[u8]) -> Result<Vec<Listed>, TargetError> {
        Ok(Vec::new())
    }

    fn remove(&self, _: &[u8]) -> Result<(), TargetError> {
        Nowhere::never()
    }

    fn make(&self, _: &Entry) -> Result<Kept, TargetError> {
        Nowhere::never()
    }

    fn finish_folder(&self, _: &Entry) -> Result<Kept, TargetError> {
        Nowhere::never()
    }

    fn link(&self, _: &Entry, _: &[u8]) -> Result<(), TargetError> {
        Nowhere::never()
    }

    fn existing(&self, _: &Entry) -> Option<Box<dyn Existing>> {
        None
    }

    fn create(&self, _: &Entry) -> Result<Box<dyn TargetFile>, TargetError> {
        Nowhere::never()
    }
}

/// Takes entries in the order of the tree, one after another, with their bytes: a file of another
/// format, which has no places to come back to.
pub trait EntryWriter {
    /// Writes an entry. `first` is the path of an earlier one that is the same file.
    ///
    /// # Errors
    /// When the output cannot be written, or `bytes` fails: what was written is then no whole file.
    fn entry(
        &mut self,
        entry: &Entry,
        first: Option<&[u8]>,
        bytes: &dyn FileBytes,
    ) -> io::Result<Written>;

    /// Writes what belongs at the end. Without it the output does not look complete.
    ///
    /// # Errors
    /// When the output cannot be written.
    fn finish(self: Box<Self>) -> io::Result<()>;
}

/// What became of an entry in an output of another format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It is there.
    Whole,
    /// It is there under another name, or leads to one: the format has text only.
    Renamed,
    /// The format, or any format, has no such thing.
    LeftOut,
}

/// What is written for holes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holes {
    /// Zeros.
    Zeros,
    /// Nothing.
    Nothing,
}

/// The bytes of a file of a snapshot.
pub trait FileBytes {
    /// The ranges that are no holes: offset and length, in order.
    ///
    /// # Errors
    /// When the repository does not give them back.
    fn data(&self) -> io::Result<Vec<(u64, u64)>>;

    /// Writes all bytes in order.
    ///
    /// # Errors
    /// When the repository does not give them back, or they cannot be written.
    fn pour(&self, holes: Holes, into: &mut dyn io::Write) -> io::Result<()>;
}

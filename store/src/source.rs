//! What is backed up, as the core sees it: a [`Source`] pushes entries in path order into a
//! [`Sink`], and opens a file's contents only when the sink asks for them.

use std::io;

use crate::entry::{Entry, Xattr};
use crate::member::Member;
pub use hucha_chunker::Profile;

/// Something that can be put into a snapshot. Implemented in `hucha-sources`.
pub trait Source {
    /// Absolute paths (or names of streams) for the manifest, sorted; they group snapshots and
    /// choose the parent.
    fn paths(&self) -> Vec<Vec<u8>>;

    /// Pushes every entry once, in [`path_order`](crate::entry::path_order), each folder before
    /// what it holds. May be called again after a call has ended, when [`Source::is_repeatable`].
    ///
    /// # Errors
    /// [`SourceError::Failed`] when the whole source is unusable: nothing is committed then.
    /// [`SourceError::Stopped`] when the sink said so.
    fn push(&mut self, sink: &mut dyn Sink) -> Result<(), SourceError>;

    /// How its bytes are cut into chunks.
    fn profile(&self) -> Profile {
        Profile::FILES
    }

    /// Whether what was read can be read once more (a stream cannot).
    fn is_repeatable(&self) -> bool {
        true
    }
}

/// Takes entries in. Implemented by the core.
pub trait Sink {
    /// Takes one entry. For a file, `contents` opens its bytes; the sink calls it at most once,
    /// and not at all when the parent snapshot shows the file unchanged. `Entry::content` is
    /// ignored.
    ///
    /// # Errors
    /// [`Stop`] when the snapshot cannot go on; the source returns [`SourceError::Stopped`].
    fn entry(&mut self, entry: Entry, contents: Option<Open<'_>>) -> Result<(), Stop>;

    /// Whether the extended attributes of a file may stay unread, because a snapshot has them and
    /// nothing hints at a change since. Asked at most once for a file with one name, with all else
    /// that its entry says; the next call of [`Sink::entry`] is for the same path.
    ///
    /// # Errors
    /// Like [`Sink::entry`].
    fn has_attributes(&mut self, _entry: &Entry) -> Result<bool, Stop> {
        Ok(false)
    }

    /// Reads several files at the same time. Called at most once, before any entry. What is read
    /// comes into the snapshot only when [`Sink::keep`] says so of its group. Answers which groups
    /// failed, and why; what is left of them is not opened any more.
    ///
    /// # Errors
    /// Like [`Sink::entry`]. A sink that takes nothing but entries stops.
    fn streams(&mut self, _streams: Streams<'_>) -> Result<Vec<(usize, String)>, Stop> {
        Err(Stop)
    }

    /// Takes a group that was read into the snapshot, at its places in the order of paths, and
    /// notes what is known of it. Called after [`Sink::streams`] and before any entry.
    ///
    /// # Errors
    /// Like [`Sink::streams`].
    fn keep(&mut self, _group: usize, _member: Member) -> Result<(), Stop> {
        Err(Stop)
    }

    /// Notes a member that is not there, by its [`Member::failed`]: the snapshot becomes partial.
    fn lost(&mut self, _member: Member) {}

    /// Notes that no further name of a group follows, so that nobody need to remember it.
    fn group_ends(&mut self, first: &[u8]) {
        let _ = first;
    }

    /// Notes that something could not be read; the snapshot becomes incomplete.
    fn problem(&mut self, problem: Problem);

    /// Notes that a path inside the snapshot is left out because that was asked for, with all that
    /// lies below it.
    fn excluded(&mut self, path: &[u8]);
}

/// Files that are read at the same time.
pub struct Streams<'a> {
    /// None lies within another.
    pub groups: Vec<Group>,
    /// The files, and the folders above them, in path order.
    pub files: Vec<Streamed<'a>>,
    /// How many are open at once of all groups, at least 1.
    pub at_once: usize,
}

/// Files that are kept together, or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The path of its only file, or of the folder that holds all of its files.
    pub path: Vec<u8>,
    /// How many of its files are open at once, at least 1.
    pub at_once: usize,
}

/// One of several files that are read at the same time.
pub struct Streamed<'a> {
    /// Path, kind and metadata. When its bytes and attributes are those of the parent's, it is
    /// given the parent's time of last change.
    pub entry: Entry,
    /// The group that it belongs to, by its place in [`Streams::groups`].
    pub group: usize,
    /// How it is cut, unless its first bytes ask for another way.
    pub profile: Profile,
    /// Opens its bytes, in a thread of its own; `None` of a folder.
    pub open: Option<OpenOnce<'a>>,
}

/// Opens a file's bytes once, in another thread.
pub type OpenOnce<'a> =
    Box<dyn FnOnce() -> Result<Box<dyn Contents + 'a>, ContentError> + Send + 'a>;

/// Opens a file's bytes.
pub type Open<'a> = &'a mut dyn FnMut() -> Result<Box<dyn Contents + 'a>, ContentError>;

/// A file's bytes from first to last, holes told apart.
pub trait Contents {
    /// The next piece. Data is put at the start of `buffer` (never empty, never past its end).
    ///
    /// # Errors
    /// When the bytes cannot be read; the entry is then left out and reported.
    fn next(&mut self, buffer: &mut [u8]) -> Result<Piece, ContentError>;

    /// Passes over so many bytes, holes among them, without reading; called before anything is
    /// read. `false` when it cannot: nothing was passed over then.
    ///
    /// # Errors
    /// Like [`Contents::next`].
    fn skip(&mut self, _bytes: u64) -> Result<bool, ContentError> {
        Ok(false)
    }

    /// What is known once all was read; asked of [`Streamed`] files alone. Becomes attributes of
    /// the entry.
    fn attributes(&mut self) -> Vec<Xattr> {
        Vec::new()
    }
}

/// Why a file's bytes could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// This file cannot be read; the rest can.
    #[error("cannot be read")]
    Unreadable(#[source] io::Error),
    /// The whole source failed (a command exited non-zero): no snapshot.
    #[error("{0}")]
    Fatal(String),
}

impl From<io::Error> for ContentError {
    fn from(error: io::Error) -> Self {
        ContentError::Unreadable(error)
    }
}

/// What [`Contents::next`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// So many bytes are in the buffer; never 0.
    Data(usize),
    /// A hole of so many bytes follows; never 0.
    Hole(u64),
    /// All was read.
    End,
}

/// The sink cannot go on; it keeps the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop;

/// Something that could not be read, or not as it was.
#[derive(Debug)]
pub struct Problem {
    /// What, in the file system's own path.
    pub path: Vec<u8>,
    /// What happened, with the system's own words.
    pub message: String,
}

/// Why a source ended early.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The source is unusable as a whole.
    #[error("{0}")]
    Failed(String),
    /// The same, and what to do about it.
    #[error("{what}")]
    Advised {
        /// What happened.
        what: String,
        /// What to do next.
        hint: String,
    },
    /// The sink said stop.
    #[error("stopped")]
    Stopped,
}

impl From<Stop> for SourceError {
    fn from(_: Stop) -> Self {
        SourceError::Stopped
    }
}

//! A snapshot, or a part of it, into one output, entry by entry in the order of the tree. The first
//! damage ends it: a file that was begun cannot be taken back.

use std::collections::HashMap;
use std::io::{self, Write};

use super::file::unequal;
use super::{RestoreError, Scope, Select, expect};
use crate::entry::{Content, Entry, Extent, Kind, is_within};
use crate::error::AccessError;
use crate::format::objects::Manifest;
use crate::monitor::{Action, Counters, Event, Monitor};
use crate::reader::Reader;
use crate::record::World;
use crate::repository::Repository;
use crate::target::{EntryWriter, FileBytes, Holes, Written};
use crate::tree::Tree;

/// What goes into the output.
pub struct StreamOptions<'a> {
    /// As in [`super::RestoreOptions`].
    pub path: Vec<u8>,
    /// Asked for every entry, with its path in the snapshot and whether it is a folder.
    pub select: &'a dyn Fn(&[u8], bool) -> Select,
}

/// What went into the output.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct StreamReport {
    /// Entries that are in it.
    pub entries: u64,
    /// Files among them.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Paths of what is in it under another name.
    pub renamed: Vec<Vec<u8>>,
    /// Paths of what is not: the format has no such thing.
    pub left_out: Vec<Vec<u8>>,
    /// Sockets, which no format has and no restore makes.
    pub sockets: u64,
}

/// Why an output is not complete.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// Nothing was written.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// The repository does not give back what belongs here.
    #[error("\"{path}\" cannot be read")]
    Access {
        /// The path in the snapshot, or the last one before it.
        path: String,
        /// Why.
        #[source]
        source: AccessError,
    },
    /// The output cannot be written.
    #[error("cannot write the output")]
    Output(#[source] io::Error),
}

/// Writes entries into an output. A folder that is only passed through is written before what it
/// holds, if that is anything.
///
/// # Errors
/// At the first thing that cannot be read or written; the output has no end then.
pub fn stream(
    repository: &Repository,
    manifest: &Manifest,
    options: &StreamOptions<'_>,
    mut to: Box<dyn EntryWriter + '_>,
    monitor: &dyn Monitor,
) -> Result<StreamReport, StreamError> {
    monitor.event(Event::Phase("reading the index"));
    repository.update_index().map_err(RestoreError::from)?;
    let reader = Reader::new(repository)
        .counting(monitor.counters())
        .proving_the_last();
    let tree = Tree::new(&reader, manifest.root);
    let scope = Scope::of(&tree, &options.path)?;
    expect(&tree, &options.path, 1, monitor);
    monitor.event(Event::Phase("writing"));
    let mut run = Run {
        tree: &tree,
        to: &mut *to,
        monitor,
        report: StreamReport::default(),
        groups: HashMap::new(),
    };
    run.walk(&scope, options)?;
    let report = run.report;
    to.finish().map_err(StreamError::Output)?;
    Ok(report)
}

struct Run<'a, 'r> {
    tree: &'a Tree<'a, 'r>,
    to: &'a mut dyn EntryWriter,
    monitor: &'a dyn Monitor,
    report: StreamReport,
    /// The first name in the output of each file that has several, by group.
    groups: HashMap<Vec<u8>, Vec<u8>>,
}

impl Run<'_, '_> {
    fn walk(&mut self, scope: &Scope, options: &StreamOptions<'_>) -> Result<(), StreamError> {
        let mut walk = self.tree.walk(&scope.from).map_err(RestoreError::from)?;
        let mut lazy: Vec<Entry> = Vec::new();
        let mut last = scope.from.clone();
        while let Some(item) = walk.next_item().map_err(|e| unreadable(&last, e))? {
            if !is_within(&item.0.path, &scope.from) {
                break;
            }
            last.clone_from(&item.0.path);
            let is_folder = item.0.kind == Kind::Folder;
            lazy.retain(|folder| is_within(&last, &folder.path));
            let select = (options.select)(&last, is_folder);
            if select == Select::Skip {
                if is_folder {
                    walk.skip_below(&last).map_err(|e| unreadable(&last, e))?;
                }
                continue;
            }
            let complete = self.tree.complete(item);
            let entry = complete.map_err(|e| unreadable(&last, e))?;
            if select == Select::Take {
                for folder in std::mem::take(&mut lazy) {
                    self.write(folder, scope)?;
                }
                self.write(entry, scope)?;
            } else if is_folder {
                lazy.push(entry);
            }
        }
        Ok(())
    }

    fn write(&mut self, mut entry: Entry, scope: &Scope) -> Result<(), StreamError> {
        let path = entry.path;
        entry.path = scope.shorten(&path);
        let first = entry.group.as_ref().and_then(|g| self.groups.get(g));
        let bytes = Bytes {
            tree: self.tree,
            entry: &entry,
            counters: self.monitor.counters(),
        };
        let first = first.map(Vec::as_slice);
        let written = self.to.entry(&entry, first, &bytes);
        let written = written.map_err(|e| failed(&path, e))?;
        match written {
            Written::Whole => {}
            Written::Renamed => self.report.renamed.push(entry.path.clone()),
            Written::LeftOut if entry.kind == Kind::Socket => {
                self.report.sockets += 1;
                return Ok(());
            }
            Written::LeftOut => {
                self.report.left_out.push(entry.path);
                return Ok(());
            }
        }
        self.report.entries += 1;
        self.report.files += u64::from(entry.kind == Kind::File);
        self.report.bytes += entry.meta.size;
        Counters::add(&self.monitor.counters().entries, 1);
        self.monitor.event(Event::Entry {
            path: &entry.path,
            action: Action::Restored,
        });
        if let Some(group) = entry.group {
            self.groups.entry(group).or_insert(entry.path);
        }
        Ok(())
    }
}

fn unreadable(path: &[u8], source: AccessError) -> StreamError {
    let path = String::from_utf8_lossy(path).into_owned();
    StreamError::Access { path, source }
}

/// What a writer answered: trouble of the repository comes through it as it is.
fn failed(path: &[u8], error: io::Error) -> StreamError {
    match error.downcast::<AccessError>() {
        Ok(access) => unreadable(path, access),
        Err(error) => StreamError::Output(error),
    }
}

/// The bytes of one file.
struct Bytes<'a, 'r> {
    tree: &'a Tree<'a, 'r>,
    entry: &'a Entry,
    counters: &'a Counters,
}

impl FileBytes for Bytes<'_, '_> {
    fn data(&self) -> io::Result<Vec<(u64, u64)>> {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        let mut offset = 0;
        if let Content::Inline(bytes) = &self.entry.content {
            offset = bytes.len() as u64;
            ranges.push((0, offset));
        }
        let extents = self.tree.extents(&self.entry.content);
        for extent in extents.map_err(io::Error::other)? {
            let extent = extent.map_err(io::Error::other)?;
            if let Extent::Chunk { .. } = extent {
                match ranges.last_mut().filter(|(at, len)| at + len == offset) {
                    Some((_, len)) => *len += extent.len(),
                    None => ranges.push((offset, extent.len())),
                }
            }
            offset = offset.saturating_add(extent.len());
        }
        match offset == self.entry.meta.size {
            true => Ok(ranges),
            false => Err(io::Error::other(unequal(self.entry))),
        }
    }

    fn pour(&self, holes: Holes, into: &mut dyn Write) -> io::Result<()> {
        pour(self.tree, self.entry, holes, &mut |bytes| {
            Counters::add(&self.counters.bytes, bytes.len() as u64);
            into.write_all(bytes)
        })
    }
}

/// Hands out the bytes of a file in order. Errors of the repository are [`AccessError`]s in the
/// answer.
pub(crate) fn pour(
    tree: &Tree<'_, '_>,
    entry: &Entry,
    holes: Holes,
    put: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut total = 0u64;
    if let Content::Inline(bytes) = &entry.content {
        total = bytes.len() as u64;
        put(bytes)?;
    }
    let zeros = vec![0u8; 64 << 10];
    for extent in tree.extents(&entry.content).map_err(io::Error::other)? {
        let extent = extent.map_err(io::Error::other)?;
        total = total.saturating_add(extent.len());
        if total > entry.meta.size {
            break;
        }
        match extent {
            Extent::Chunk { id, len } => {
                let plain = tree.reader().chunk(World::Content, &id);
                let plain = plain.map_err(io::Error::other)?;
                if plain.len() != len as usize {
                    let path = String::from_utf8_lossy(&entry.path);
                    let why = AccessError::damaged(path, "a chunk has another length");
                    return Err(io::Error::other(why));
                }
                put(&plain)?;
            }
            Extent::Hole(mut len) => {
                while len > 0 && holes == Holes::Zeros {
                    let part = len.min(zeros.len() as u64);
                    put(zeros.get(..part as usize).unwrap_or_default())?;
                    len -= part;
                }
            }
        }
    }
    match total == entry.meta.size {
        true => Ok(()),
        false => Err(io::Error::other(unequal(entry))),
    }
}

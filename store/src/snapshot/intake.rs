//! The sink of a source: compares with the parent, reads what changed, cuts it into chunks.
//!
//! Hands everything on in the order of the entries; hashing and storing happen elsewhere.

use std::cmp::Ordering;
use std::io::{self, Read};

use hucha_chunker::{ChunkStream, Cutter};

use crate::entry::{Content, Entry, Kind, MAX_INLINE, path_order};
use crate::error::AccessError;
use crate::format::objects::TreeRoot;
use crate::id::ChunkId;
use crate::monitor::{Action, Counters, Event, Monitor};
use crate::source::{ContentError, Contents, Open, Piece, Problem, Sink, Stop};
use crate::tree::{Item as Known, Tree, Walk, inline};
use crate::writer::Writer;

/// Chunks that are handed on together: at most so many plain bytes, or one chunk.
const BATCH: usize = 256 << 10;

/// Longest path that is stored.
const MAX_PATH: usize = 64 << 10;
/// Most bytes of extended attributes of one entry: they stand in one chunk.
const MAX_XATTRS: usize = 4 << 20;
/// Nanoseconds in which a file system that counts fractions of seconds may note two changes alike.
const FINE_TICK: i128 = 5_000_000;
/// The same for one that counts seconds, or every other second.
const COARSE_TICK: i128 = 2_000_000_000;

/// Where entries and chunks go.
pub(super) trait Flow {
    /// A step of the assembly, in order.
    ///
    /// # Errors
    /// When the run cannot go on.
    fn step(&mut self, step: Step) -> Result<(), Stop>;

    /// Chunks of the file that was begun last, in order.
    ///
    /// # Errors
    /// When the run cannot go on.
    fn chunks(&mut self, chunks: Vec<Vec<u8>>) -> Result<(), Stop>;
}

/// A step of the assembly.
#[derive(Debug)]
pub(super) enum Step {
    /// An entry whose content is known. The page is where the parent has its like.
    Whole(Entry, Option<ChunkId>),
    /// Another name of a file that came before.
    Link(Entry),
    /// A file whose chunks and holes follow.
    Begin(Entry, Option<ChunkId>),
    /// A hole in it.
    Hole(u64),
    /// It is complete.
    End,
    /// It could not be read to its end and is left out.
    Abort,
}

/// The sink.
pub(super) struct Intake<'a, F> {
    flow: F,
    writer: &'a Writer<'a>,
    tree: &'a Tree<'a, 'a>,
    parent: Option<Parent<'a>>,
    stream: ChunkStream,
    monitor: &'a dyn Monitor,
    problems: Vec<Problem>,
    failure: Option<AccessError>,
    fatal: Option<String>,
}

/// The parent's entries, one ahead.
struct Parent<'a> {
    walk: Walk<'a, 'a, 'a>,
    next: Option<Known>,
}

/// What the sink leaves behind.
pub(super) struct Left<F> {
    pub flow: F,
    pub problems: Vec<Problem>,
    pub failure: Option<AccessError>,
    pub fatal: Option<String>,
}

impl<'a, F: Flow> Intake<'a, F> {
    pub fn new(
        flow: F,
        writer: &'a Writer<'a>,
        tree: &'a Tree<'a, 'a>,
        parent: Option<TreeRoot>,
        cutter: &Cutter,
        monitor: &'a dyn Monitor,
    ) -> Intake<'a, F> {
        let parent = parent.and_then(|_| Parent::begin(tree, monitor));
        let stream = ChunkStream::new(cutter);
        Intake {
            flow,
            writer,
            tree,
            parent,
            stream,
            monitor,
            problems: Vec::new(),
            failure: None,
            fatal: None,
        }
    }

    pub fn leave(self) -> Left<F> {
        Left {
            flow: self.flow,
            problems: self.problems,
            failure: self.failure,
            fatal: self.fatal,
        }
    }

    /// Whether the format holds an entry; attributes that it does not hold are left out. Both are
    /// reported.
    fn is_storable(&mut self, entry: &mut Entry) -> bool {
        if entry.path.len() > MAX_PATH {
            let message = format!("its path is longer than {MAX_PATH} bytes");
            self.report(&entry.path, message);
            return false;
        }
        let bytes: usize = entry
            .xattrs
            .iter()
            .map(|x| x.name.len() + x.value.len() + 16)
            .sum();
        if bytes > MAX_XATTRS {
            entry.xattrs.clear();
            let message = format!("its extended attributes take {bytes} bytes and are left out");
            self.report(&entry.path, message);
        }
        true
    }

    /// Whether a file was changed so shortly before it is read that a further change may leave no
    /// trace in its times: file systems count in ticks, some in seconds.
    fn may_change_unseen(&self, entry: &Entry) -> bool {
        let now = self.writer.reader().repository().environment().clock.now();
        let changed = entry.meta.ctime.max(entry.meta.mtime);
        let coarse = entry.meta.ctime.nanos == 0 && entry.meta.mtime.nanos == 0;
        let age = i128::from(now.seconds - changed.seconds) * 1_000_000_000 + i128::from(now.nanos)
            - i128::from(changed.nanos);
        (0..if coarse { COARSE_TICK } else { FINE_TICK }).contains(&age)
    }

    fn fail(&mut self, error: AccessError) -> Stop {
        self.failure.get_or_insert(error);
        Stop
    }

    fn report(&mut self, path: &[u8], message: String) {
        self.monitor.event(Event::Problem {
            path,
            message: &message,
        });
        self.problems.push(Problem {
            path: path.to_vec(),
            message,
        });
    }

    /// The parent's entry at this path, and the page that it, or its place, is in. A parent that
    /// cannot be read is done without.
    fn look_up(&mut self, path: &[u8]) -> (Option<Entry>, Option<ChunkId>) {
        let Some(parent) = &mut self.parent else {
            return (None, None);
        };
        loop {
            let order = match &parent.next {
                Some((known, _)) => path_order(&known.path, path),
                None => return (None, parent.walk.page()),
            };
            match order {
                Ordering::Greater => return (None, parent.walk.page()),
                Ordering::Equal => {
                    let page = parent.walk.page();
                    let known = parent.next.as_ref().map(|(known, _)| known.clone());
                    return (known, page);
                }
                Ordering::Less => match parent.walk.next_item() {
                    Ok(next) => parent.next = next,
                    Err(e) => {
                        let note = format!("the parent cannot be used: {e}");
                        self.monitor.event(Event::Note(&note));
                        self.parent = None;
                        return (None, None);
                    }
                },
            }
        }
    }

    /// The content of an unchanged file, when everything that it refers to may be reused.
    fn unchanged(&mut self, entry: &Entry, known: Option<Entry>) -> Result<Option<Content>, Stop> {
        let Some(known) = known.filter(|k| is_unchanged(entry, k)) else {
            return Ok(None);
        };
        match self.may_reuse(&known.content) {
            Ok(true) => Ok(Some(known.content)),
            Ok(false) => Ok(None),
            Err(e) if e.is_damage() => Ok(None),
            Err(e) => Err(self.fail(e)),
        }
    }

    fn may_reuse(&self, content: &Content) -> Result<bool, AccessError> {
        self.tree
            .for_each_id(content, &mut |_, id| self.writer.may_reuse(id))
    }

    /// Reads one file.
    fn read(&mut self, entry: Entry, page: Option<ChunkId>, open: Open<'_>) -> Result<(), Stop> {
        let path = entry.path.clone();
        let mut contents = match open() {
            Ok(contents) => contents,
            Err(e) => return self.unreadable(&path, e),
        };
        Counters::add(&self.monitor.counters().opened, 1);
        self.stream.reset();
        let mut input = Input {
            contents: &mut *contents,
            next: None,
            error: None,
        };
        let mut batch = Batch::default();
        let first = match self.stream.next(&mut input) {
            Ok(first) => first.map(<[u8]>::to_vec),
            Err(_) => return self.unreadable(&path, input.take_error()),
        };
        if let (Some(small), None) = (inline(first.as_deref().unwrap_or(&[])), input.next) {
            return self.whole_small(entry, page, small, first.map_or(0, |f| f.len()));
        }
        self.flow.step(Step::Begin(entry, page))?;
        if let Some(first) = first {
            self.add(&mut batch, first)?;
        }
        loop {
            match self.stream.next(&mut input) {
                Ok(Some(chunk)) => {
                    let chunk = chunk.to_vec();
                    self.add(&mut batch, chunk)?;
                }
                Ok(None) => match input.next.take() {
                    Some(hole) => {
                        self.send(&mut batch)?;
                        Counters::add(&self.monitor.counters().bytes, hole);
                        self.flow.step(Step::Hole(hole))?;
                        self.stream.reset();
                    }
                    None => break,
                },
                Err(_) => {
                    let error = input.take_error();
                    self.flow.step(Step::Abort)?;
                    return self.unreadable(&path, error);
                }
            }
        }
        drop(contents);
        self.send(&mut batch)?;
        self.flow.step(Step::End)?;
        self.monitor.event(Event::Entry {
            path: &path,
            action: Action::Stored,
        });
        Ok(())
    }

    fn whole_small(
        &mut self,
        mut entry: Entry,
        page: Option<ChunkId>,
        content: Content,
        size: usize,
    ) -> Result<(), Stop> {
        entry.content = content;
        entry.meta.size = size as u64;
        Counters::add(&self.monitor.counters().bytes, size as u64);
        self.monitor.event(Event::Entry {
            path: &entry.path,
            action: Action::Stored,
        });
        self.flow.step(Step::Whole(entry, page))
    }

    fn add(&mut self, batch: &mut Batch, chunk: Vec<u8>) -> Result<(), Stop> {
        Counters::add(&self.monitor.counters().bytes, chunk.len() as u64);
        if batch.bytes > 0 && batch.bytes + chunk.len() > BATCH {
            self.send(batch)?;
        }
        batch.bytes += chunk.len();
        batch.chunks.push(chunk);
        Ok(())
    }

    fn send(&mut self, batch: &mut Batch) -> Result<(), Stop> {
        let Batch { chunks, .. } = std::mem::take(batch);
        if chunks.is_empty() {
            Ok(())
        } else {
            self.flow.chunks(chunks)
        }
    }

    fn unreadable(&mut self, path: &[u8], error: ContentError) -> Result<(), Stop> {
        match error {
            ContentError::Unreadable(e) => {
                self.report(path, format!("cannot be read: {e}"));
                Ok(())
            }
            ContentError::Fatal(why) => {
                self.fatal = Some(why);
                Err(Stop)
            }
        }
    }
}

impl<'a> Parent<'a> {
    fn begin(tree: &'a Tree<'a, 'a>, monitor: &dyn Monitor) -> Option<Parent<'a>> {
        let begin = || {
            let mut walk = tree.walk(b"")?;
            let next = walk.next_item()?;
            Ok::<_, AccessError>(Parent { walk, next })
        };
        begin()
            .map_err(|e| monitor.event(Event::Note(&format!("the parent cannot be used: {e}"))))
            .ok()
    }
}

impl<F: Flow> Sink for Intake<'_, F> {
    fn entry(&mut self, mut entry: Entry, contents: Option<Open<'_>>) -> Result<(), Stop> {
        if !self.is_storable(&mut entry) {
            return Ok(());
        }
        Counters::add(&self.monitor.counters().entries, 1);
        let (known, page) = self.look_up(&entry.path);
        if entry
            .group
            .as_ref()
            .is_some_and(|first| *first != entry.path)
        {
            return self.flow.step(Step::Link(entry));
        }
        let Some(contents) = contents.filter(|_| entry.kind == Kind::File) else {
            entry.content = Content::None;
            return self.flow.step(Step::Whole(entry, page));
        };
        if let Some(content) = self.unchanged(&entry, known)? {
            entry.content = content;
            Counters::add(&self.monitor.counters().bytes, entry.meta.size);
            self.monitor.event(Event::Entry {
                path: &entry.path,
                action: Action::Unchanged,
            });
            return self.flow.step(Step::Whole(entry, page));
        }
        if self.may_change_unseen(&entry) {
            // An inode of 0 is never taken for unchanged.
            entry.meta.inode = 0;
        }
        self.read(entry, page, contents)
    }

    fn problem(&mut self, problem: Problem) {
        self.report(&problem.path, problem.message);
    }

    fn excluded(&mut self, path: &[u8]) {
        Counters::add(&self.monitor.counters().excluded, 1);
        let action = Action::Excluded;
        self.monitor.event(Event::Entry { path, action });
    }
}

/// Whether nothing about a file hints at a change: size, mtime, ctime and inode are those of the
/// parent. An inode of 0 tells nothing.
fn is_unchanged(entry: &Entry, known: &Entry) -> bool {
    let (new, old) = (&entry.meta, &known.meta);
    known.kind == Kind::File
        && new.inode != 0
        && (new.size, new.mtime, new.ctime, new.inode)
            == (old.size, old.mtime, old.ctime, old.inode)
}

#[derive(Default)]
struct Batch {
    chunks: Vec<Vec<u8>>,
    bytes: usize,
}

/// A file's contents as a reader that ends at every hole.
struct Input<'c> {
    contents: &'c mut dyn Contents,
    /// The hole that ended the data before it.
    next: Option<u64>,
    error: Option<ContentError>,
}

impl Input<'_> {
    fn take_error(&mut self) -> ContentError {
        let unknown = || ContentError::Unreadable(io::ErrorKind::Other.into());
        self.error.take().unwrap_or_else(unknown)
    }
}

impl Read for Input<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.next.is_some() {
            return Ok(0);
        }
        match self.contents.next(buffer) {
            Ok(Piece::Data(n)) => Ok(n),
            Ok(Piece::Hole(len)) => {
                self.next = Some(len);
                Ok(0)
            }
            Ok(Piece::End) => Ok(0),
            Err(e) => {
                self.error = Some(e);
                Err(io::ErrorKind::Other.into())
            }
        }
    }
}

// The smallest chunk that is not a file's last is larger than what is kept inline: one that is
// not followed by anything is the whole file.
const _: () = assert!(MAX_INLINE < 4096);

//! The sink of a source: compares with the parent, reads what changed, cuts it into chunks.
//!
//! Hands everything on in the order of the entries; hashing and storing happen elsewhere.

use std::io::{self, Read};

use hucha_chunker::{ChunkStream, Cutter, Profile};

use crate::clock::Timestamp;
use crate::entry::{Content, Entry, Extent, Kind, MAX_INLINE, Meta, Xattr, is_within};
use crate::error::AccessError;
use crate::format::objects::Manifest;
use crate::id::ChunkId;
use crate::member::Member;
use crate::monitor::{Action, Counters, Event, Monitor};
use crate::record::World;
use crate::snapshot::Compare;
use crate::snapshot::assemble::SoFar;
use crate::snapshot::checkpoint::Checkpoints;
use crate::snapshot::guide::{Guide, Near};
use crate::snapshot::held::StreamStep;
use crate::snapshot::parents::{Beginning, Known, Parent, is_unchanged, may_change_unseen};
use crate::source::{ContentError, Contents, Open, Piece, Problem, Sink, Stop, Streams};
use crate::tree::{Tree, inline};
use crate::writer::{ContentKind, Writer};

/// Chunks that are handed on together: at most so many plain bytes, or one chunk.
pub(super) const BATCH: usize = 256 << 10;

/// Chunks of an unchanged file that are judged together.
const TOGETHER: usize = 4096;

/// Extents that are handed on together.
const EXTENTS: usize = 256;
/// Problems that a report lists; what comes after them is counted.
const MAX_LISTED: usize = 10_000;
/// Longest path that is stored.
const MAX_PATH: usize = 64 << 10;
/// Most bytes of extended attributes of one entry: they stand in one chunk.
const MAX_XATTRS: usize = 4 << 20;

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
    fn chunks(&mut self, chunks: Chunks) -> Result<(), Stop>;

    /// The tree of all that was handed on. All of it is sealed afterwards, and nothing is on its
    /// way to the writer any more.
    ///
    /// # Errors
    /// When the run cannot go on.
    fn so_far(&mut self) -> Result<SoFar, Stop>;
}

/// Chunks that follow each other in a file.
pub(super) struct Chunks {
    /// Their bytes.
    pub plain: Vec<Vec<u8>>,
    /// Where the first begins in the file.
    pub offset: u64,
    /// What the parent has there.
    pub near: Option<Near>,
    /// What the file is like.
    pub kind: ContentKind,
    /// The stream that they are of; `None`: of the file that was begun last.
    pub stream: Option<usize>,
}

/// A step of the assembly.
#[derive(Debug)]
pub(crate) enum Step {
    /// An entry whose content is known. The page is where the parent has its like.
    Whole(Entry, Option<ChunkId>),
    /// Another name of a file that came before.
    Link(Entry),
    /// A file whose chunks and holes follow.
    Begin(Entry, Option<ChunkId>),
    /// Extents of it that are not read: holes, and what is known already.
    Extents(Vec<Extent>),
    /// It is complete.
    End,
    /// It could not be read to its end and is left out.
    Abort,
    /// No further name of the group with this first name follows.
    GroupEnds(Vec<u8>),
    /// A step of one of the files that are read side by side.
    Stream(usize, StreamStep),
    /// Those of a group belong into the snapshot.
    Keep(usize),
}

/// What an intake goes by.
#[derive(Clone, Copy)]
pub(super) struct Setting<'a, 'r> {
    pub writer: &'a Writer<'r>,
    pub cutter: &'a Cutter,
    pub compare: Compare,
    /// Who takes the snapshot.
    pub user: &'a str,
    pub monitor: &'a dyn Monitor,
}

/// A snapshot to compare with, and its tree.
pub(super) type ParentTree<'a, 'r> = (&'a Manifest, Tree<'a, 'r>);

/// What could not be read: the first ones, and how many there are.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    pub first: Vec<Problem>,
    pub count: u64,
}

impl Problems {
    pub fn add(&mut self, problem: Problem) {
        self.count += 1;
        if self.first.len() < MAX_LISTED {
            self.first.push(problem);
        }
    }

    /// Adds those of somebody else.
    pub fn append(&mut self, other: Problems) {
        let room = MAX_LISTED.saturating_sub(self.first.len());
        self.first.extend(other.first.into_iter().take(room));
        self.count += other.count;
    }
}

/// The sink.
pub(super) struct Intake<'a, 'r, F> {
    pub(super) flow: F,
    pub(super) setting: Setting<'a, 'r>,
    pub(super) checkpoints: Option<Checkpoints<'a, 'r>>,
    trees: &'a [ParentTree<'a, 'r>],
    pub(super) parents: Vec<Parent<'a, 'a, 'r>>,
    /// Reads lists of extents.
    pub(super) contents: Tree<'a, 'r>,
    /// What was found for [`Sink::has_attributes`], for the entry that comes next.
    asked: Option<Asked>,
    /// Where the chunks of the file at hand are in the parent.
    guide: Option<Guide>,
    /// What that file is like.
    kind: ContentKind,
    stream: ChunkStream,
    /// For contents that change in place.
    pub(super) pages: Cutter,
    problems: Problems,
    failure: Option<AccessError>,
    fatal: Option<String>,
    /// Paths of the groups that were read side by side.
    pub(super) groups: Vec<Vec<u8>>,
    members: Vec<Member>,
}

/// What the sink leaves behind.
pub(super) struct Left<F> {
    pub flow: F,
    pub problems: Problems,
    pub failure: Option<AccessError>,
    pub fatal: Option<String>,
    pub members: Vec<Member>,
}

impl<'a, 'r, F: Flow> Intake<'a, 'r, F> {
    /// A sink that compares with the parents in their order.
    pub fn new(
        flow: F,
        setting: Setting<'a, 'r>,
        parents: &'a [ParentTree<'a, 'r>],
        checkpoints: Option<Checkpoints<'a, 'r>>,
    ) -> Intake<'a, 'r, F> {
        Intake {
            flow,
            setting,
            checkpoints,
            trees: parents,
            parents: begin(parents, setting),
            contents: Tree::new(setting.writer.reader(), None),
            asked: None,
            guide: None,
            kind: ContentKind::default(),
            stream: ChunkStream::new(setting.cutter),
            pages: setting.cutter.with_profile(Profile::PAGES),
            problems: Problems::default(),
            failure: None,
            fatal: None,
            groups: Vec::new(),
            members: Vec::new(),
        }
    }

    /// The parents, at their beginnings.
    pub(super) fn parents_anew(&self) -> Vec<Parent<'a, 'a, 'r>> {
        begin(self.trees, self.setting)
    }

    pub fn leave(self) -> Left<F> {
        Left {
            flow: self.flow,
            problems: self.problems,
            failure: self.failure,
            fatal: self.fatal,
            members: self.members,
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

    /// Whether an entry stands where a member does; it is reported and left out.
    fn is_in_the_way(&mut self, entry: &Entry) -> bool {
        let within = |group: &&Vec<u8>| is_within(&entry.path, group);
        let Some(group) = self.groups.iter().find(within) else {
            return false;
        };
        let name = String::from_utf8_lossy(group);
        let message = format!("the member \"{name}\" of this snapshot stands at its place");
        self.report(&entry.path, message);
        true
    }

    pub(super) fn fail(&mut self, error: AccessError) -> Stop {
        self.failure.get_or_insert(error);
        Stop
    }

    fn report(&mut self, path: &[u8], message: String) {
        self.setting.monitor.event(Event::Problem {
            path,
            message: &message,
        });
        self.problems.add(Problem {
            path: path.to_vec(),
            message,
        });
    }

    /// What the parents have at this path, and the page that it, or its place, is in. A parent
    /// that cannot be read is done without.
    pub(super) fn look_up(&mut self, path: &[u8]) -> (Vec<Known>, Option<ChunkId>) {
        let mut all = Vec::with_capacity(self.parents.len());
        let monitor = self.setting.monitor;
        self.parents
            .retain_mut(|parent| match parent.look_up(path) {
                Ok(known) => {
                    all.push(known);
                    true
                }
                Err(e) => {
                    monitor.event(Event::Note(&unusable(&e)));
                    false
                }
            });
        let page = all.iter().find_map(|known| known.page);
        (all, page)
    }

    /// The content of an unchanged file, when everything that it refers to may be reused.
    fn unchanged(&mut self, entry: &Entry, known: Vec<Known>) -> Result<Unchanged, Stop> {
        let mut found = Unchanged::default();
        for known in known {
            let Some(old) = known.entry else { continue };
            if !is_unchanged(entry, &old, self.setting.compare) {
                found.earlier.get_or_insert(old.content);
                continue;
            }
            match (self.may_reuse(&old.content), known.beginning) {
                (Ok(true), None) => {
                    found.whole = Some(old.content);
                    // Whoever changes attributes changes the ctime.
                    let told = self.setting.compare.ctime && known.has_attributes;
                    found.xattrs = told.then_some(old.xattrs);
                    return Ok(found);
                }
                (Ok(true), Some(bytes)) => {
                    let content = old.content;
                    found.beginning.get_or_insert(Beginning { content, bytes });
                }
                (Ok(false), _) => {}
                (Err(e), _) if e.is_damage() => {}
                (Err(e), _) => return Err(self.fail(e)),
            }
        }
        Ok(found)
    }

    /// The page of an entry's place, and what is known of it, found now or when it was asked for.
    fn compared(&mut self, entry: &Entry) -> Result<(Option<ChunkId>, Unchanged), Stop> {
        let asked = match self.asked.take() {
            Some(asked) if asked.path == entry.path => asked,
            _ => self.compare(entry)?,
        };
        let mut unchanged = asked.unchanged;
        if asked.stamp != stamp(&entry.meta) {
            // It was looked at once more since then.
            let whole = unchanged.whole.take();
            unchanged.earlier = unchanged.earlier.or(whole);
            unchanged.beginning = None;
        }
        Ok((asked.page, unchanged))
    }

    fn compare(&mut self, entry: &Entry) -> Result<Asked, Stop> {
        // Before the look-up: what it finds holds for one session.
        self.checkpoint()?;
        let (known, page) = self.look_up(&entry.path);
        let first = entry
            .group
            .as_ref()
            .is_none_or(|first| *first == entry.path);
        let unchanged = match entry.kind {
            Kind::File if first => self.unchanged(entry, known)?,
            _ => Unchanged::default(),
        };
        Ok(Asked {
            path: entry.path.clone(),
            stamp: stamp(&entry.meta),
            page,
            unchanged,
        })
    }

    fn may_reuse(&self, content: &Content) -> Result<bool, AccessError> {
        let writer = self.setting.writer;
        let mut waiting = Vec::new();
        let all = self.contents.for_each_id(content, &mut |world, id| {
            // A page is opened next, so it is not left waiting.
            if world == World::Pages {
                return writer.may_reuse(id);
            }
            waiting.push(*id);
            let full = waiting.len() >= TOGETHER;
            Ok(!full || may_reuse_all(writer, std::mem::take(&mut waiting))?)
        })?;
        Ok(all && may_reuse_all(writer, waiting)?)
    }

    /// Commits what came so far, when it is time.
    fn checkpoint(&mut self) -> Result<(), Stop> {
        let Some(checkpoints) = &mut self.checkpoints else {
            return Ok(());
        };
        if !checkpoints.is_due() {
            return Ok(());
        }
        let so_far = self.flow.so_far()?;
        let taken = checkpoints.take(&so_far, &self.problems);
        taken.map_err(|e| self.fail(e))
    }

    /// Reads one file, or what comes after its beginning.
    fn read(
        &mut self,
        entry: Entry,
        page: Option<ChunkId>,
        beginning: Option<Beginning>,
        open: Open<'_>,
    ) -> Result<(), Stop> {
        let path = entry.path.clone();
        let mut contents = match open() {
            Ok(contents) => contents,
            Err(e) => return self.unreadable(&path, e),
        };
        Counters::add(&self.setting.monitor.counters().opened, 1);
        self.stream.cut_by(self.setting.cutter);
        self.stream.reset();
        let skipped = beginning
            .as_ref()
            .map_or(Ok(false), |b| contents.skip(b.bytes));
        let mut input = Input::new(&mut *contents);
        let offset = beginning.as_ref().map_or(0, |b| b.bytes);
        match (skipped, beginning) {
            (Ok(true), Some(beginning)) => {
                self.flow.step(Step::Begin(entry, page))?;
                self.take_over(&beginning)?;
            }
            (Err(e), _) => return self.unreadable(&path, e),
            _ => match self.first_chunk(&mut input) {
                Ok(first) => {
                    if let (Some(small), None) = (inline(&first), input.next) {
                        return self.whole_small(entry, page, small, first.len());
                    }
                    self.flow.step(Step::Begin(entry, page))?;
                    return self.read_rest(&path, input, first, 0);
                }
                Err(_) => return self.unreadable(&path, input.take_error()),
            },
        }
        self.read_rest(&path, input, Vec::new(), offset)
    }

    /// The first chunk of a file, empty of an empty one, cut by the profile that its beginning asks
    /// for.
    fn first_chunk(&mut self, input: &mut Input<'_>) -> io::Result<Vec<u8>> {
        if Profile::of_beginning(self.stream.peek(input)?).is_some() {
            self.stream.cut_by(&self.pages);
        }
        let first = self.stream.next(input)?;
        Ok(first.map(<[u8]>::to_vec).unwrap_or_default())
    }

    /// Hands on the extents of a beginning, and goes on as it was cut.
    fn take_over(&mut self, beginning: &Beginning) -> Result<(), Stop> {
        let mut batch = Vec::with_capacity(EXTENTS);
        let extents = match self.contents.extents(&beginning.content) {
            Ok(extents) => extents,
            Err(e) => return Err(self.fail(e)),
        };
        let page = Profile::PAGES.max_size() as u64;
        let mut paged = None;
        for extent in extents {
            match extent {
                Ok(extent) => {
                    if let Extent::Chunk { .. } = extent {
                        paged.get_or_insert(extent.len() == page);
                    }
                    batch.push(extent);
                }
                Err(e) => {
                    self.failure.get_or_insert(e);
                    return Err(Stop);
                }
            }
            if batch.len() == EXTENTS {
                self.flow.step(Step::Extents(std::mem::take(&mut batch)))?;
            }
        }
        if paged == Some(true) {
            self.stream.cut_by(&self.pages);
        }
        self.stream.reset_at(beginning.bytes);
        Counters::add(&self.setting.monitor.counters().bytes, beginning.bytes);
        self.flow.step(Step::Extents(batch))
    }

    /// Reads a file on to its end. The first chunk may be there already; empty: it is not.
    fn read_rest(
        &mut self,
        path: &[u8],
        mut input: Input<'_>,
        first: Vec<u8>,
        offset: u64,
    ) -> Result<(), Stop> {
        let mut batch = Batch {
            offset,
            ..Batch::default()
        };
        if !first.is_empty() {
            self.add(&mut batch, first)?;
        }
        loop {
            match self.stream.next(&mut input) {
                Ok(Some(chunk)) => {
                    let chunk = chunk.to_vec();
                    if self.checkpoints.as_ref().is_some_and(|c| c.is_due()) {
                        self.send(&mut batch)?;
                        self.checkpoint()?;
                    }
                    self.add(&mut batch, chunk)?;
                }
                Ok(None) => match input.next.take() {
                    Some(hole) => {
                        self.send(&mut batch)?;
                        batch.offset += hole;
                        Counters::add(&self.setting.monitor.counters().bytes, hole);
                        self.flow.step(Step::Extents(vec![Extent::Hole(hole)]))?;
                        self.stream.reset_at(batch.offset);
                    }
                    None => break,
                },
                Err(_) => {
                    let error = input.take_error();
                    self.flow.step(Step::Abort)?;
                    return self.unreadable(path, error);
                }
            }
        }
        self.send(&mut batch)?;
        self.flow.step(Step::End)?;
        self.setting.monitor.event(Event::Entry {
            path,
            action: Action::Stored,
        });
        Ok(())
    }

    /// Counts bytes that were read.
    pub(super) fn count(&mut self, bytes: u64) {
        let counters = self.setting.monitor.counters();
        Counters::add(&counters.bytes, bytes);
        Counters::add(&counters.read, bytes);
        if let Some(checkpoints) = &mut self.checkpoints {
            checkpoints.count(bytes);
        }
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
        self.count(size as u64);
        self.setting.monitor.event(Event::Entry {
            path: &entry.path,
            action: Action::Stored,
        });
        self.flow.step(Step::Whole(entry, page))
    }

    fn add(&mut self, batch: &mut Batch, chunk: Vec<u8>) -> Result<(), Stop> {
        self.count(chunk.len() as u64);
        if batch.bytes > 0 && batch.bytes + chunk.len() > BATCH {
            self.send(batch)?;
        }
        batch.bytes += chunk.len();
        batch.chunks.push(chunk);
        Ok(())
    }

    fn send(&mut self, batch: &mut Batch) -> Result<(), Stop> {
        let next = Batch {
            offset: batch.offset + batch.bytes as u64,
            ..Batch::default()
        };
        let Batch { chunks, offset, .. } = std::mem::replace(batch, next);
        if chunks.is_empty() {
            return Ok(());
        }
        let guide = self.guide.as_mut();
        let near = guide.and_then(|guide| guide.near(&self.contents, offset));
        self.flow.chunks(Chunks {
            plain: chunks,
            offset,
            near,
            kind: self.kind,
            stream: None,
        })
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

/// What the parents know of a file.
#[derive(Default)]
struct Unchanged {
    /// All of its content.
    whole: Option<Content>,
    /// All of its attributes beside that.
    xattrs: Option<Vec<Xattr>>,
    /// What a checkpoint holds of it.
    beginning: Option<Beginning>,
    /// What the parent holds that has changed since.
    earlier: Option<Content>,
}

/// What the parents know of the entry that comes next.
struct Asked {
    path: Vec<u8>,
    /// What it was compared by.
    stamp: Stamp,
    page: Option<ChunkId>,
    unchanged: Unchanged,
}

/// Size, mtime, ctime and inode.
type Stamp = (u64, Timestamp, Timestamp, u64);

fn stamp(meta: &Meta) -> Stamp {
    (meta.size, meta.mtime, meta.ctime, meta.inode)
}

/// Whether all of these chunks may be reused; many are judged on several threads.
fn may_reuse_all(writer: &Writer<'_>, ids: Vec<ChunkId>) -> Result<bool, AccessError> {
    writer.judge(&ids);
    for id in ids {
        if !writer.may_reuse(&id)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A parent that cannot be read is done without.
fn begin<'a, 'r>(
    trees: &'a [ParentTree<'a, 'r>],
    setting: Setting<'a, 'r>,
) -> Vec<Parent<'a, 'a, 'r>> {
    let begin = |(manifest, tree): &'a ParentTree<'a, 'r>| {
        let parent = Parent::begin(tree, manifest, setting.user);
        parent.map_err(|e| setting.monitor.event(Event::Note(&unusable(&e))))
    };
    trees.iter().filter_map(|p| begin(p).ok()).collect()
}

fn unusable(error: &AccessError) -> String {
    format!("the parent cannot be used: {error}")
}

impl<F: Flow> Sink for Intake<'_, '_, F> {
    fn entry(&mut self, mut entry: Entry, contents: Option<Open<'_>>) -> Result<(), Stop> {
        if !self.is_storable(&mut entry) || self.is_in_the_way(&entry) {
            return Ok(());
        }
        let (page, unchanged) = self.compared(&entry)?;
        Counters::add(&self.setting.monitor.counters().entries, 1);
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
        if let Some(content) = unchanged.whole {
            entry.content = content;
            entry.xattrs = unchanged.xattrs.unwrap_or(entry.xattrs);
            Counters::add(&self.setting.monitor.counters().bytes, entry.meta.size);
            self.setting.monitor.event(Event::Entry {
                path: &entry.path,
                action: Action::Unchanged,
            });
            return self.flow.step(Step::Whole(entry, page));
        }
        let repository = self.setting.writer.reader().repository();
        if may_change_unseen(&entry.meta, repository.environment().clock.now()) {
            // An inode of 0 is never taken for unchanged.
            entry.meta.inode = 0;
        }
        let guide = match unchanged.earlier {
            Some(Content::None | Content::Inline(_)) | None => None,
            Some(earlier) => Some(Guide::new(earlier)),
        };
        self.guide = guide;
        self.kind = ContentKind::of_file(&entry.path);
        self.read(entry, page, unchanged.beginning, contents)
    }

    fn streams(&mut self, streams: Streams<'_>) -> Result<Vec<(usize, String)>, Stop> {
        self.read_streams(streams)
    }

    fn keep(&mut self, group: usize, member: Member) -> Result<(), Stop> {
        self.members.push(member);
        self.flow.step(Step::Keep(group))
    }

    fn lost(&mut self, member: Member) {
        let why = member.failed.clone().unwrap_or_default();
        self.report(member.name.as_bytes(), why);
        self.members.push(member);
    }

    fn has_attributes(&mut self, entry: &Entry) -> Result<bool, Stop> {
        if entry.path.len() > MAX_PATH {
            return Ok(false);
        }
        let asked = self.compare(entry)?;
        let has = asked.unchanged.xattrs.is_some();
        self.asked = Some(asked);
        Ok(has)
    }

    fn group_ends(&mut self, first: &[u8]) {
        // A run that cannot go on learns so by the next entry.
        let _ = self.flow.step(Step::GroupEnds(first.to_vec()));
    }

    fn problem(&mut self, problem: Problem) {
        self.report(&problem.path, problem.message);
    }

    fn excluded(&mut self, path: &[u8]) {
        Counters::add(&self.setting.monitor.counters().excluded, 1);
        let action = Action::Excluded;
        self.setting.monitor.event(Event::Entry { path, action });
    }
}

#[derive(Default)]
struct Batch {
    chunks: Vec<Vec<u8>>,
    bytes: usize,
    /// Where the first begins in the file.
    offset: u64,
}

/// A file's contents as a reader that ends at every hole.
pub(super) struct Input<'c> {
    contents: &'c mut dyn Contents,
    /// The hole that ended the data before it.
    next: Option<u64>,
    error: Option<ContentError>,
}

impl<'c> Input<'c> {
    pub fn new(contents: &'c mut dyn Contents) -> Input<'c> {
        Input {
            contents,
            next: None,
            error: None,
        }
    }

    pub fn take_error(&mut self) -> ContentError {
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

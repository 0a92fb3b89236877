//! Files that are read side by side: each is opened, read and cut in a thread of its own, as many
//! at once as their source says; what they give is handed on by the calling thread.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::{Receiver, Sender, bounded};
use hucha_chunker::{ChunkStream, Cutter, Profile};

use super::guide::Guide;
use super::held::{Begun, StreamStep};
use super::intake::{BATCH, Chunks, Flow, Input, Intake, Step};
use crate::entry::{Content, Entry, Xattr};
use crate::monitor::{Action, Counters, Event};
use crate::source::{ContentError, Group, OpenOnce, Stop, Streamed, Streams};
use crate::tree::inline;
use crate::writer::ContentKind;

/// What a thread has of a file.
enum Cut {
    /// Chunks that follow each other, at most [`BATCH`] bytes or one chunk.
    Chunks(Vec<Vec<u8>>),
    /// All of a small file, and what was learnt of it.
    Small(Content, u64, Vec<Xattr>),
    /// All of it came; what was learnt of it.
    End(Vec<Xattr>),
    /// It cannot be read, or not to its end.
    Failed(String),
}

/// A file that waits to be read.
struct Waiting<'a> {
    number: usize,
    group: usize,
    path: Vec<u8>,
    profile: Profile,
    open: OpenOnce<'a>,
}

/// A file as the calling thread knows it.
struct Known {
    path: Vec<u8>,
    group: usize,
    guide: Option<Guide>,
    kind: ContentKind,
    /// Where the next chunk begins.
    offset: u64,
}

/// What the threads share.
struct Shared<'a> {
    queue: Mutex<Queue<'a>>,
    /// A file was read to its end, so another of its group may be.
    done: Condvar,
    /// Groups that failed, and why first.
    failed: Mutex<BTreeMap<usize, String>>,
}

/// What waits to be read.
struct Queue<'a> {
    waiting: VecDeque<Waiting<'a>>,
    /// How many files of each group may still be opened now.
    room: Vec<usize>,
    /// Nobody takes what is read any more.
    is_over: bool,
}

impl<'a> Shared<'a> {
    fn new(waiting: VecDeque<Waiting<'a>>, groups: &[Group]) -> Shared<'a> {
        Shared {
            queue: Mutex::new(Queue {
                waiting,
                room: groups.iter().map(|group| group.at_once.max(1)).collect(),
                is_over: false,
            }),
            done: Condvar::new(),
            failed: Mutex::default(),
        }
    }

    /// The next file of a group that has not failed and has room, as soon as there is one.
    fn take(&self) -> Option<Waiting<'a>> {
        let mut queue = lock(&self.queue);
        loop {
            if queue.is_over {
                return None;
            }
            let failed = lock(&self.failed);
            queue
                .waiting
                .retain(|file| !failed.contains_key(&file.group));
            drop(failed);
            let Queue { waiting, room, .. } = &mut *queue;
            let has_room = |group: usize| room.get(group).is_none_or(|room| *room > 0);
            let found = waiting.iter().position(|file| has_room(file.group));
            if let Some(file) = found.and_then(|at| waiting.remove(at)) {
                if let Some(room) = room.get_mut(file.group) {
                    *room -= 1;
                }
                return Some(file);
            }
            if waiting.is_empty() {
                return None;
            }
            let waited = self.done.wait(queue);
            queue = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Closes a file of a group when it goes.
    fn closing(&self, group: usize) -> Closing<'_, 'a> {
        Closing {
            shared: self,
            group,
            is_over: true,
        }
    }
}

/// A file that is open.
struct Closing<'s, 'a> {
    shared: &'s Shared<'a>,
    group: usize,
    /// Nobody takes more; also when its thread ends by a panic, so that no other waits for it.
    is_over: bool,
}

impl Drop for Closing<'_, '_> {
    fn drop(&mut self) {
        let mut queue = lock(&self.shared.queue);
        if let Some(room) = queue.room.get_mut(self.group) {
            *room += 1;
        }
        queue.is_over |= self.is_over;
        self.shared.done.notify_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<F: Flow> Intake<'_, '_, F> {
    /// Reads all files, and answers which groups failed.
    pub(super) fn read_streams(
        &mut self,
        streams: Streams<'_>,
    ) -> Result<Vec<(usize, String)>, Stop> {
        // What is held back belongs to no tree yet, so a checkpoint would not protect it.
        self.checkpoints = None;
        let groups = streams.groups;
        let repository = self.setting.writer.reader().repository();
        let at_once = match repository.environment().threads {
            0 => 0,
            _ => streams.at_once.max(1),
        };
        let (mut known, waiting) = self.begin_streams(streams.files)?;
        let shared = Shared::new(waiting, &groups);
        self.groups = groups.into_iter().map(|group| group.path).collect();
        let cutters = (self.setting.cutter.clone(), self.pages.clone());
        if at_once == 0 {
            while let Some(next) = shared.take() {
                let (number, mut closing) = (next.number, shared.closing(next.group));
                cut_file(next, &cutters, &mut |cut| {
                    self.take_cut(&mut known, &shared, number, cut)
                })?;
                closing.is_over = false;
            }
            return Ok(lock(&shared.failed).clone().into_iter().collect());
        }
        let failed = std::thread::scope(|scope| {
            let (sender, cuts) = bounded::<(usize, Cut)>(at_once);
            let enough = at_once.min(known.len());
            for n in 0..enough {
                let (sender, shared, cutters) = (sender.clone(), &shared, &cutters);
                let thread = std::thread::Builder::new().name(format!("hucha-stream-{n}"));
                let started = thread.spawn_scoped(scope, move || read_on(shared, cutters, &sender));
                if let Err(e) = started {
                    return Err(self.fail(crate::error::AccessError::Spool(e)));
                }
            }
            drop(sender);
            self.take_cuts(&mut known, &shared, &cuts)?;
            Ok(lock(&shared.failed).clone())
        })?;
        Ok(failed.into_iter().collect())
    }

    /// Tells the assembly which files come, and looks up what the parent has of them.
    fn begin_streams<'s>(
        &mut self,
        files: Vec<Streamed<'s>>,
    ) -> Result<(Vec<Known>, VecDeque<Waiting<'s>>), Stop> {
        let (mut known, mut waiting) = (Vec::with_capacity(files.len()), VecDeque::new());
        // Those of the walk that follows are at the beginning again.
        let parents = self.parents_anew();
        let for_walk = std::mem::replace(&mut self.parents, parents);
        for (number, file) in files.into_iter().enumerate() {
            let Streamed {
                entry,
                group,
                profile,
                open,
            } = file;
            Counters::add(&self.setting.monitor.counters().entries, 1);
            let (found, like) = self.look_up(&entry.path);
            let earlier = found.into_iter().find_map(|known| known.entry);
            known.push(Known {
                path: entry.path.clone(),
                group,
                guide: earlier.as_ref().and_then(guide),
                kind: ContentKind::of_file(&entry.path),
                offset: 0,
            });
            if let Some(open) = open {
                let path = entry.path.clone();
                waiting.push_back(Waiting {
                    number,
                    group,
                    path,
                    profile,
                    open,
                });
            }
            let begun = Box::new(Begun {
                entry,
                group,
                earlier,
                like,
            });
            self.flow
                .step(Step::Stream(number, StreamStep::Begin(begun)))?;
        }
        self.parents = for_walk;
        Ok((known, waiting))
    }

    fn take_cuts(
        &mut self,
        known: &mut [Known],
        shared: &Shared<'_>,
        cuts: &Receiver<(usize, Cut)>,
    ) -> Result<(), Stop> {
        // When this returns early the threads find nobody at the other end.
        cuts.iter()
            .try_for_each(|(number, cut)| self.take_cut(known, shared, number, cut))
    }

    fn take_cut(
        &mut self,
        known: &mut [Known],
        shared: &Shared<'_>,
        number: usize,
        cut: Cut,
    ) -> Result<(), Stop> {
        let Some(file) = known.get_mut(number) else {
            return Ok(());
        };
        let step = match cut {
            Cut::Chunks(plain) => {
                let bytes: u64 = plain.iter().map(|chunk| chunk.len() as u64).sum();
                let offset = file.offset;
                file.offset += bytes;
                let guide = file.guide.as_mut();
                let near = guide.and_then(|guide| guide.near(&self.contents, offset));
                let chunks = Chunks {
                    plain,
                    offset,
                    near,
                    kind: file.kind,
                    stream: Some(number),
                };
                self.count(bytes);
                return self.flow.chunks(chunks);
            }
            Cut::Small(content, size, attributes) => {
                self.count(size);
                StreamStep::Small(content, size, attributes)
            }
            Cut::End(attributes) => StreamStep::End(attributes),
            Cut::Failed(why) => {
                lock(&shared.failed).entry(file.group).or_insert(why);
                StreamStep::Abort
            }
        };
        if !matches!(step, StreamStep::Abort) {
            Counters::add(&self.setting.monitor.counters().opened, 1);
            self.setting.monitor.event(Event::Entry {
                path: &file.path,
                action: Action::Stored,
            });
        }
        self.flow.step(Step::Stream(number, step))
    }
}

/// Where the chunks of a file are in the parent.
fn guide(earlier: &Entry) -> Option<Guide> {
    match &earlier.content {
        Content::None | Content::Inline(_) => None,
        content => Some(Guide::new(content.clone())),
    }
}

/// Reads one file after the other.
fn read_on(shared: &Shared<'_>, cutters: &(Cutter, Cutter), sender: &Sender<(usize, Cut)>) {
    while let Some(next) = shared.take() {
        let (number, mut closing) = (next.number, shared.closing(next.group));
        let sent = cut_file(next, cutters, &mut |cut| {
            sender.send((number, cut)).map_err(|_| Stop)
        });
        closing.is_over = sent.is_err();
    }
}

/// Opens, reads and cuts one file.
fn cut_file(
    file: Waiting<'_>,
    (cutter, pages): &(Cutter, Cutter),
    send: &mut dyn FnMut(Cut) -> Result<(), Stop>,
) -> Result<(), Stop> {
    let cutter = cutter.with_profile(file.profile);
    let told = |e: ContentError| {
        let path = String::from_utf8_lossy(&file.path);
        match e {
            ContentError::Fatal(why) => why,
            ContentError::Unreadable(e) => format!("{path} cannot be read: {e}"),
        }
    };
    let mut contents = match (file.open)() {
        Ok(contents) => contents,
        Err(e) => return send(Cut::Failed(told(e))),
    };
    let mut input = Input::new(&mut *contents);
    match cut_all(&mut input, &cutter, pages, send)? {
        Ok(small) => {
            drop(input);
            let attributes = contents.attributes();
            send(match small {
                Some((content, size)) => Cut::Small(content, size, attributes),
                None => Cut::End(attributes),
            })
        }
        Err(()) => {
            let error = input.take_error();
            send(Cut::Failed(told(error)))
        }
    }
}

/// All of a file that is small.
type Small = Option<(Content, u64)>;

/// Cuts all that an input yields. Answers what is small enough to stand in the entry; the inner
/// error is the input's.
fn cut_all(
    input: &mut Input<'_>,
    cutter: &Cutter,
    pages: &Cutter,
    send: &mut dyn FnMut(Cut) -> Result<(), Stop>,
) -> Result<Result<Small, ()>, Stop> {
    let mut stream = ChunkStream::new(cutter);
    let (mut batch, mut bytes) = (Vec::new(), 0);
    let mut is_first = true;
    match stream.peek(input) {
        Ok(beginning) if Profile::of_beginning(beginning).is_some() => stream.cut_by(pages),
        Ok(_) => {}
        Err(_) => return Ok(Err(())),
    }
    loop {
        let chunk = match stream.next(input) {
            Ok(chunk) => chunk,
            Err(_) => return Ok(Err(())),
        };
        // A stream has no holes: nothing but its end ends the data.
        let Some(chunk) = chunk else { break };
        if std::mem::take(&mut is_first)
            && let Some(content) = inline(chunk)
        {
            return Ok(Ok(Some((content, chunk.len() as u64))));
        }
        if bytes > 0 && bytes + chunk.len() > BATCH {
            send(Cut::Chunks(std::mem::take(&mut batch)))?;
            bytes = 0;
        }
        bytes += chunk.len();
        batch.push(chunk.to_vec());
    }
    if is_first {
        return Ok(Ok(Some((Content::None, 0))));
    }
    if !batch.is_empty() {
        send(Cut::Chunks(batch))?;
    }
    Ok(Ok(None))
}

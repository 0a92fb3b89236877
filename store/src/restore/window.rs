//! A window of chunks: looked up, sorted by place, fetched in long ranges, written out of order.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use super::{RestoreReport, add_refused, target_problem};
use crate::entry::{Content, Entry};
use crate::error::AccessError;
use crate::id::{ChunkId, PackId};
use crate::index::Place;
use crate::monitor::{Action, Counters, Event, Monitor};
use crate::pack::is_record_length;
use crate::reader::{Budget, Reader, says_damage};
use crate::record::{OpenRecord, World};
use crate::source::Problem;
use crate::target::{Kept, Target, TargetError, TargetFile};

/// Chunks of one window.
const MAX_CHUNKS: usize = 16_384;
/// Plain bytes of one window: packs are read once for each.
const MAX_BYTES: u64 = 512 << 20;
/// Files of several chunks that may be open at once.
const MAX_OPEN: usize = 128;
/// Neighbouring records are fetched in one go up to this many bytes, gaps included.
const MAX_FETCH: u64 = 4 << 20;
/// Gaps between records that are read and thrown away rather than fetched around.
const MAX_GAP: u64 = 64 << 10;

/// A file that is being written.
struct FileJob {
    entry: Entry,
    file: RwLock<State>,
    /// Chunks that are planned and not written, plus one until the last is planned.
    remaining: AtomicU64,
    failed: AtomicBool,
}

/// How far a file is.
enum State {
    NotYet,
    Open(Box<dyn TargetFile>),
    Gone,
}

/// A chunk that goes to a place in a file.
struct ChunkJob {
    file: Arc<FileJob>,
    id: ChunkId,
    len: u32,
    offset: u64,
}

/// Chunks of one record, by slot.
struct RecordJob {
    pack: PackId,
    offset: u32,
    stored: u32,
    chunks: Vec<(u8, ChunkJob)>,
}

/// What is planned and not yet written.
pub(super) struct Window<'a, 'r> {
    reader: &'a Reader<'r>,
    target: &'a dyn Target,
    monitor: &'a dyn Monitor,
    chunks: Vec<ChunkJob>,
    bytes: u64,
    files: usize,
    open: Option<Arc<FileJob>>,
    /// Files without chunks: they wait for a thread too.
    small: Vec<Arc<FileJob>>,
    /// What happened that is not in a report yet.
    results: Mutex<Results>,
}

/// What threads add to.
#[derive(Default)]
struct Results {
    written: u64,
    refused: Vec<(Vec<u8>, Kept)>,
    problems: Vec<Problem>,
    damaged: Vec<Problem>,
    /// Files with several names that are in place: group and name.
    linkable: Vec<(Vec<u8>, Vec<u8>)>,
}

impl<'a, 'r> Window<'a, 'r> {
    pub fn new(
        reader: &'a Reader<'r>,
        target: &'a dyn Target,
        monitor: &'a dyn Monitor,
    ) -> Window<'a, 'r> {
        Window {
            reader,
            target,
            monitor,
            chunks: Vec::new(),
            bytes: 0,
            files: 0,
            open: None,
            small: Vec::new(),
            results: Mutex::default(),
        }
    }

    /// Begins a file; its chunks follow.
    pub fn begin(&mut self, entry: Entry) {
        self.open = Some(Arc::new(FileJob {
            entry,
            file: RwLock::new(State::NotYet),
            remaining: AtomicU64::new(1),
            failed: AtomicBool::new(false),
        }));
    }

    /// Plans a chunk of the file that was begun last.
    pub fn chunk(&mut self, id: ChunkId, len: u32, offset: u64) {
        let Some(file) = &self.open else { return };
        file.remaining.fetch_add(1, Ordering::Relaxed);
        self.bytes += u64::from(len);
        self.chunks.push(ChunkJob {
            file: Arc::clone(file),
            id,
            len,
            offset,
        });
    }

    /// All chunks of the file are planned.
    pub fn end(&mut self) {
        let Some(file) = self.open.take() else { return };
        if file.remaining.load(Ordering::Relaxed) > 2 {
            self.files += 1;
        }
        self.small.push(file);
    }

    /// Whether it should run now.
    pub fn is_full(&self) -> bool {
        self.chunks.len() >= MAX_CHUNKS
            || self.small.len() >= MAX_CHUNKS
            || self.bytes >= MAX_BYTES
            || self.files >= MAX_OPEN
    }

    /// Gives up the file that was begun last: what was written of it is not put in place.
    pub fn give_up(&mut self, error: &AccessError) {
        let Some(file) = self.open.take() else { return };
        let damaged = says_damage(error);
        fail(
            &self.results,
            self.monitor,
            &file,
            &error.to_string(),
            damaged,
        );
    }

    /// Writes everything that is planned. A file whose last chunk is not planned yet stays open.
    /// Answers files with several names that were put in place: group and name.
    pub fn run(&mut self, report: &mut RestoreReport) -> Vec<(Vec<u8>, Vec<u8>)> {
        let planned = std::mem::take(&mut self.chunks);
        let ended = std::mem::take(&mut self.small);
        let runs = fetch_runs(self.locate(planned));
        let worker = Worker {
            reader: self.reader,
            target: self.target,
            monitor: self.monitor,
            results: &self.results,
        };
        let threads = self.reader.repository().environment().threads;
        // Said first, so that a file is finished and closed with its last chunk; those that have no
        // chunk are left to finish.
        let empty: Vec<Arc<FileJob>> = ended
            .into_iter()
            .filter(|f| f.remaining.fetch_sub(1, Ordering::AcqRel) == 1)
            .collect();
        in_parallel(threads, runs, &|run| worker.run(run));
        in_parallel(threads, empty, &|file: Arc<FileJob>| worker.finish(&file));
        self.bytes = 0;
        self.files = 0;
        let results = std::mem::take(&mut self.results);
        let results = results.into_inner().unwrap_or_default();
        report.written += results.written;
        report.problems.extend(results.problems);
        report.damaged.extend(results.damaged);
        results
            .refused
            .into_iter()
            .for_each(|(path, kept)| add_refused(report, &path, kept));
        results.linkable
    }

    /// Finds the records of all planned chunks, in the order of packs.
    fn locate(&self, planned: Vec<ChunkJob>) -> Vec<RecordJob> {
        let mut placed = Vec::with_capacity(planned.len());
        for job in planned {
            if job.file.failed.load(Ordering::Relaxed) {
                continue;
            }
            let (message, damaged) = match self.place(&job.id) {
                Ok(Some((pack, place))) => {
                    placed.push((pack, place, job));
                    continue;
                }
                Ok(None) => ("a chunk of it is missing".to_owned(), true),
                Err(e) => (e.to_string(), says_damage(&e)),
            };
            fail(&self.results, self.monitor, &job.file, &message, damaged);
        }
        placed.sort_by_key(|(pack, place, _)| (*pack, place.offset, place.slot));
        let mut jobs: Vec<RecordJob> = Vec::new();
        for (pack, place, job) in placed {
            match jobs
                .last_mut()
                .filter(|j| (j.pack, j.offset) == (pack, place.offset))
            {
                Some(record) => record.chunks.push((place.slot, job)),
                None => jobs.push(RecordJob {
                    pack,
                    offset: place.offset,
                    stored: place.stored,
                    chunks: vec![(place.slot, job)],
                }),
            }
        }
        jobs
    }

    /// The shallowest place of a chunk whose record may be fetched.
    fn place(&self, id: &ChunkId) -> Result<Option<(PackId, Place)>, AccessError> {
        let repository = self.reader.repository();
        let segments = repository.segments();
        let Some(found) = repository.index().find(&segments, id)? else {
            return Ok(None);
        };
        let sound = found
            .places
            .into_iter()
            .filter(|p| is_record_length(p.stored));
        let Some(place) = sound.min_by_key(|p| p.depth) else {
            return Ok(None);
        };
        let pack = repository.index().pack(place.pack);
        Ok(pack.map(|pack| (pack.id, place)))
    }
}

/// Groups records that are fetched in one go.
fn fetch_runs(jobs: Vec<RecordJob>) -> Vec<Vec<RecordJob>> {
    let mut runs: Vec<Vec<RecordJob>> = Vec::new();
    for job in jobs {
        let joins = |run: &&mut Vec<RecordJob>| {
            let (Some(first), Some(last)) = (run.first(), run.last()) else {
                return false;
            };
            let end = u64::from(last.offset) + u64::from(last.stored);
            let start = u64::from(job.offset);
            first.pack == job.pack
                && start >= end
                && start - end <= MAX_GAP
                && start + u64::from(job.stored) - u64::from(first.offset) <= MAX_FETCH
        };
        match runs.last_mut().filter(joins) {
            Some(run) => run.push(job),
            None => runs.push(vec![job]),
        }
    }
    runs
}

/// Runs jobs on threads, or here.
fn in_parallel<J: Send>(threads: usize, jobs: Vec<J>, each: &(dyn Fn(J) + Sync)) {
    if threads == 0 || jobs.len() < 2 {
        jobs.into_iter().for_each(each);
        return;
    }
    let queue = Mutex::new(jobs.into_iter());
    let next = || queue.lock().ok().and_then(|mut queue| queue.next());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(job) = next() {
                    each(job);
                }
            });
        }
    });
}

struct Worker<'w, 'r> {
    reader: &'w Reader<'r>,
    target: &'w dyn Target,
    monitor: &'w dyn Monitor,
    results: &'w Mutex<Results>,
}

impl Worker<'_, '_> {
    /// Fetches neighbouring records and writes their chunks.
    fn run(&self, run: Vec<RecordJob>) {
        let Some((first, last)) = run.first().zip(run.last()) else {
            return;
        };
        let (pack, start) = (first.pack, first.offset);
        let len = u64::from(last.offset) + u64::from(last.stored) - u64::from(start);
        let bytes = self.reader.fetch(pack, start, len).ok();
        for record in run {
            let at = (record.offset - start) as usize;
            let stored = bytes
                .as_ref()
                .and_then(|b| b.get(at..at + record.stored as usize));
            let open = |b: &[u8]| {
                self.reader
                    .open(World::Content, pack, record.offset, b)
                    .ok()
            };
            self.record(&record, stored.and_then(open).as_ref());
        }
    }

    /// Writes the chunks of one record, which is `None` when it could not be read.
    fn record(&self, record: &RecordJob, opened: Option<&OpenRecord>) {
        let mut last: Option<(ChunkId, Vec<u8>)> = None;
        for (slot, job) in &record.chunks {
            if job.file.failed.load(Ordering::Relaxed) {
                self.written(&job.file);
                continue;
            }
            if last.as_ref().is_none_or(|(id, _)| *id != job.id) {
                match self.plain(&job.id, opened, *slot) {
                    Ok(plain) => last = Some((job.id, plain)),
                    Err(e) => {
                        let damaged = says_damage(&e);
                        let message = e.to_string();
                        fail(self.results, self.monitor, &job.file, &message, damaged);
                        self.written(&job.file);
                        continue;
                    }
                }
            }
            if let Some((_, plain)) = &last {
                self.write(job, plain);
            }
            self.written(&job.file);
        }
    }

    /// A chunk's bytes from this record; whatever is wrong here, another place may be whole.
    fn plain(
        &self,
        id: &ChunkId,
        opened: Option<&OpenRecord>,
        slot: u8,
    ) -> Result<Vec<u8>, AccessError> {
        let decode = |record| {
            self.reader
                .decode(World::Content, id, record, slot, &mut Budget::new())
                .ok()
        };
        match opened.and_then(decode) {
            Some(plain) => Ok(plain),
            None => self.reader.chunk(World::Content, id),
        }
    }

    fn write(&self, job: &ChunkJob, plain: &[u8]) {
        if plain.len() != job.len as usize {
            return fail(
                self.results,
                self.monitor,
                &job.file,
                "a chunk has another length",
                true,
            );
        }
        if !self.create(&job.file) {
            return;
        }
        let Ok(state) = job.file.file.read() else {
            return;
        };
        let State::Open(file) = &*state else { return };
        if let Err(e) = file.write_at(job.offset, plain) {
            fail(
                self.results,
                self.monitor,
                &job.file,
                &format!("cannot be written: {e}"),
                false,
            );
        }
        Counters::add(&self.monitor.counters().bytes, plain.len() as u64);
    }

    /// Makes the file if nobody has yet; `false` when that failed.
    fn create(&self, job: &FileJob) -> bool {
        if job
            .file
            .read()
            .is_ok_and(|state| matches!(*state, State::Open(_)))
        {
            return true;
        }
        let Ok(mut state) = job.file.write() else {
            return false;
        };
        if matches!(*state, State::NotYet) {
            *state = match self.target.create(&job.entry) {
                Ok(file) => State::Open(file),
                Err(e) => {
                    self.refuse(job, &e);
                    State::Gone
                }
            };
        }
        matches!(*state, State::Open(_))
    }

    fn refuse(&self, job: &FileJob, error: &TargetError) {
        let problem = target_problem(&job.entry.path, error);
        fail(self.results, self.monitor, job, &problem.message, false);
    }

    /// One chunk less; the last one finishes the file, if all are planned.
    fn written(&self, file: &Arc<FileJob>) {
        if file.remaining.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.finish(file);
        }
    }

    fn finish(&self, job: &Arc<FileJob>) {
        if job.failed.load(Ordering::Relaxed) {
            return;
        }
        if !self.create(job) {
            return;
        }
        let Ok(mut state) = job.file.write() else {
            return;
        };
        let State::Open(file) = std::mem::replace(&mut *state, State::Gone) else {
            return;
        };
        if let Content::Inline(bytes) = &job.entry.content {
            if let Err(e) = file.write_at(0, bytes) {
                let why = format!("cannot be written: {e}");
                return fail(self.results, self.monitor, job, &why, false);
            }
            Counters::add(&self.monitor.counters().bytes, bytes.len() as u64);
        }
        match file.finish(&job.entry) {
            Ok(kept) => {
                let path = &job.entry.path;
                self.monitor.event(Event::Entry {
                    path,
                    action: Action::Restored,
                });
                if let Ok(mut results) = self.results.lock() {
                    results.written += 1;
                    if let Some(group) = &job.entry.group {
                        results.linkable.push((group.clone(), path.clone()));
                    }
                    if !kept.refused.is_empty() {
                        results.refused.push((path.clone(), kept));
                    }
                }
            }
            Err(e) => self.refuse(job, &e),
        }
    }
}

/// Gives up a file: what was written of it vanishes with its temporary name.
fn fail(
    results: &Mutex<Results>,
    monitor: &dyn Monitor,
    job: &FileJob,
    message: &str,
    damaged: bool,
) {
    if job.failed.swap(true, Ordering::AcqRel) {
        return;
    }
    let path = job.entry.path.clone();
    monitor.event(Event::Problem {
        path: &path,
        message,
    });
    let problem = Problem {
        path,
        message: message.to_owned(),
    };
    if let Ok(mut results) = results.lock() {
        if damaged {
            results.damaged.push(problem)
        } else {
            results.problems.push(problem)
        }
    }
}

//! A window of parts of files: compared with what stands in the target; what differs is looked up
//! and written out of order, on several threads.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use super::file::{FileJob, reads_zeros};
use super::jobs::{Found, Job, RecordJob, jobs};
use super::{RestoreOptions, RestoreReport, add_refused, target_problem};
use crate::entry::Entry;
use crate::error::AccessError;
use crate::id::{ChunkId, PackId};
use crate::index::Place;
use crate::monitor::{Action, Counters, Event, Monitor};
use crate::pack::is_record_length;
use crate::parallel;
use crate::reader::{Reader, says_damage};
use crate::record::{OpenRecord, World};
use crate::source::Problem;
use crate::target::{Existing, Kept, Target, TargetError};

/// Parts of one window.
const MAX_PARTS: usize = 16_384;
/// Plain bytes of one window: packs are read once for each.
const MAX_BYTES: u64 = 512 << 20;
/// Files of several parts that may be open at once, each with what stands in its place.
const MAX_OPEN: usize = 128;
/// Parts of one file that one thread compares in a row.
const MAX_PIECE: usize = 128;
/// Parts whose chunks one thread looks up in a row.
const LOOKED_UP: usize = 256;

/// What is done with files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// What differs is written.
    Write,
    /// It is told what would be written.
    Rehearse,
    /// What differs is told.
    Verify,
}

/// A part of a file.
pub(super) struct Part {
    /// Its place in the window.
    pub number: usize,
    pub file: Arc<FileJob>,
    pub offset: u64,
    pub len: u64,
    /// Its chunk; `None` for a hole.
    pub chunk: Option<ChunkId>,
}

/// What is planned and not yet dealt with.
pub(super) struct Window<'a, 'r> {
    worker: Worker<'a, 'r>,
    parts: Vec<Part>,
    bytes: u64,
    files: usize,
    open: Option<Arc<FileJob>>,
    /// Files all of whose parts are planned.
    ended: Vec<Arc<FileJob>>,
}

/// What threads add to; it is not in a report yet.
#[derive(Default)]
struct Results {
    report: RestoreReport,
    refused: Vec<(Vec<u8>, Kept)>,
    /// Files with several names that are in place: group and name.
    linkable: Vec<(Vec<u8>, Vec<u8>)>,
}

impl<'a, 'r> Window<'a, 'r> {
    pub fn new(
        reader: &'a Reader<'r>,
        target: &'a dyn Target,
        options: &RestoreOptions<'_>,
        purpose: Purpose,
        monitor: &'a dyn Monitor,
    ) -> Window<'a, 'r> {
        Window {
            worker: Worker {
                reader,
                target,
                monitor,
                purpose,
                sparse: options.sparse,
                results: Mutex::default(),
            },
            parts: Vec::new(),
            bytes: 0,
            files: 0,
            open: None,
            ended: Vec::new(),
        }
    }

    /// Begins a file; its parts follow.
    pub fn begin(&mut self, entry: Entry) {
        self.open = Some(Arc::new(FileJob::new(entry)));
    }

    /// Plans a part of the file that was begun last: a chunk, or a hole.
    pub fn part(&mut self, chunk: Option<ChunkId>, offset: u64, len: u64) {
        let Some(file) = &self.open else { return };
        file.remaining.fetch_add(1, Ordering::Relaxed);
        if chunk.is_some() {
            self.bytes += len;
        }
        self.parts.push(Part {
            number: self.parts.len(),
            file: Arc::clone(file),
            offset,
            len,
            chunk,
        });
    }

    /// All parts of the file are planned.
    pub fn end(&mut self) {
        let Some(file) = self.open.take() else { return };
        if file.remaining.load(Ordering::Relaxed) > 2 {
            self.files += 1;
        }
        self.ended.push(file);
    }

    /// Whether it should run now.
    pub fn is_full(&self) -> bool {
        self.parts.len() >= MAX_PARTS
            || self.ended.len() >= MAX_PARTS
            || self.bytes >= MAX_BYTES
            || self.files >= MAX_OPEN
    }

    /// Gives up the file that was begun last: what was written of it is not put in place.
    pub fn give_up(&mut self, error: &AccessError) {
        if let Some(file) = self.open.take() {
            self.worker.lost(&file, error);
        }
    }

    /// Deals with everything that is planned. A file whose last part is not planned yet stays open.
    /// Answers files with several names that were put in place: group and name.
    pub fn run(&mut self, report: &mut RestoreReport) -> Vec<(Vec<u8>, Vec<u8>)> {
        let planned = std::mem::take(&mut self.parts);
        let ended = std::mem::take(&mut self.ended);
        let worker = &self.worker;
        let threads = worker.reader.repository().environment().threads;
        // Said first, so that a file is finished and closed with its last part; those that have
        // none are left to finish.
        let empty: Vec<Arc<FileJob>> = ended
            .into_iter()
            .filter(|f| f.remaining.fetch_sub(1, Ordering::AcqRel) == 1)
            .collect();
        let differing = Mutex::default();
        parallel::each(threads, pieces(planned).into_iter(), &|piece| {
            worker.compare(piece, &differing);
        });
        parallel::each(threads, empty.into_iter(), &|file| worker.finish(&file));
        let differing = differing
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        if worker.purpose == Purpose::Write {
            let located = Mutex::default();
            parallel::each(threads, batches(differing), &|batch| {
                worker.locate(batch, &located);
            });
            let located = located.into_inner().unwrap_or_else(PoisonError::into_inner);
            let jobs = jobs(located);
            parallel::each(threads, jobs.into_iter(), &|job| worker.run(job));
        } else {
            for part in differing {
                worker.count(part.len);
                worker.done(&part.file);
            }
        }
        self.bytes = 0;
        self.files = 0;
        self.take_results(report)
    }

    fn take_results(&self, report: &mut RestoreReport) -> Vec<(Vec<u8>, Vec<u8>)> {
        let results = std::mem::take(&mut *self.worker.results());
        let new = results.report;
        report.written += new.written;
        report.kept += new.kept;
        report.fetched += new.fetched;
        report.reused += new.reused;
        report.verified += new.verified;
        report.problems.extend(new.problems);
        report.damaged.extend(new.damaged);
        report.differing.extend(new.differing);
        results
            .refused
            .into_iter()
            .for_each(|(path, kept)| add_refused(report, &path, kept));
        results.linkable
    }
}

/// Parts of one file that are compared in a row.
fn pieces(planned: Vec<Part>) -> Vec<Vec<Part>> {
    let mut pieces: Vec<Vec<Part>> = Vec::new();
    for part in planned {
        let joins = |piece: &&mut Vec<Part>| {
            let same = |first: &Part| Arc::ptr_eq(&first.file, &part.file);
            piece.len() < MAX_PIECE && piece.first().is_some_and(same)
        };
        match pieces.last_mut().filter(joins) {
            Some(piece) => piece.push(part),
            None => pieces.push(vec![part]),
        }
    }
    pieces
}

/// Parts that are looked up in a row.
fn batches(parts: Vec<Part>) -> impl Iterator<Item = Vec<Part>> + Send {
    let mut rest = parts.into_iter();
    std::iter::from_fn(move || {
        let batch: Vec<Part> = rest.by_ref().take(LOOKED_UP).collect();
        (!batch.is_empty()).then_some(batch)
    })
}

/// What threads work with.
struct Worker<'a, 'r> {
    reader: &'a Reader<'r>,
    target: &'a dyn Target,
    monitor: &'a dyn Monitor,
    purpose: Purpose,
    sparse: bool,
    results: Mutex<Results>,
}

impl Worker<'_, '_> {
    fn results(&self) -> std::sync::MutexGuard<'_, Results> {
        self.results.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many bytes are dealt with.
    fn pass(&self, bytes: u64) {
        Counters::add(&self.monitor.counters().bytes, bytes);
    }

    /// So many bytes come, or would come, out of the repository.
    fn count(&self, bytes: u64) {
        self.results().report.fetched += bytes;
        self.pass(bytes);
    }

    /// Compares parts of one file with what stands in its place; those that differ are handed on.
    fn compare(&self, piece: Vec<Part>, differing: &Mutex<Vec<Part>>) {
        let Some(file) = piece.first().map(|p| Arc::clone(&p.file)) else {
            return;
        };
        let existing = file.existing(self.target);
        let mut other = Vec::new();
        let mut buffer = Vec::new();
        let mut reused = 0;
        for part in piece {
            let held = existing.as_ref();
            if file.failed.load(Ordering::Relaxed) {
                self.done(&file);
            } else if held.is_some_and(|e| self.holds(e, &part, &mut buffer)) {
                reused += part.chunk.map_or(0, |_| part.len);
                self.pass(part.len);
                self.done(&file);
            } else if part.chunk.is_none() {
                file.hole(part.offset, part.len);
                self.pass(part.len);
                self.done(&file);
            } else {
                file.differs.store(true, Ordering::Release);
                other.push(part);
            }
        }
        drop(existing);
        file.let_go();
        self.results().report.reused += reused;
        if !other.is_empty() {
            let mut all = differing.lock().unwrap_or_else(PoisonError::into_inner);
            all.extend(other);
        }
    }

    fn holds(&self, existing: &Arc<dyn Existing>, part: &Part, buffer: &mut Vec<u8>) -> bool {
        let end = part.offset.saturating_add(part.len);
        if end > existing.size() {
            return false;
        }
        let Some(id) = part.chunk else {
            return reads_zeros(&**existing, part.offset, part.len);
        };
        buffer.resize(part.len as usize, 0);
        existing.read_at(part.offset, buffer).is_ok()
            && self.reader.repository().keys().chunk_id(buffer) == id
            && part.file.same(existing, part.offset, part.len)
    }

    /// Finds the chunks of parts.
    fn locate(&self, planned: Vec<Part>, located: &Mutex<Vec<Found>>) {
        let mut here = Vec::with_capacity(planned.len());
        for part in planned {
            let Some(chunk) = part
                .chunk
                .filter(|_| !part.file.failed.load(Ordering::Relaxed))
            else {
                continue;
            };
            match self.place(&chunk) {
                Ok(Some((pack, place))) => here.push(Found {
                    pack,
                    place,
                    chunk,
                    part,
                }),
                Ok(None) => self.fail(&part.file, "a chunk of it is missing", true),
                Err(e) => self.lost(&part.file, &e),
            }
        }
        parallel::locked(located).extend(here);
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

    fn run(&self, job: Job) {
        match job {
            Job::Fetch(run) => self.fetch(run),
            Job::Stretch(records) => self.stretch(&records),
        }
    }

    /// Writes chunks out of records that are asked for again soon, as those of their bases are.
    fn stretch(&self, records: &[RecordJob]) {
        let mut buffer = Vec::new();
        for record in records {
            let (pack, offset) = (record.pack, record.offset);
            let opened = self
                .reader
                .record(World::Content, pack, offset, record.stored);
            self.record(record, opened.ok().as_deref(), &mut buffer);
        }
    }

    /// Fetches neighbouring records and writes their chunks.
    fn fetch(&self, run: Vec<RecordJob>) {
        let Some((first, last)) = run.first().zip(run.last()) else {
            return;
        };
        let (pack, start) = (first.pack, first.offset);
        let len = u64::from(last.offset) + u64::from(last.stored) - u64::from(start);
        let bytes = self.reader.fetch(pack, u64::from(start), len).ok();
        let mut buffer = Vec::new();
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
            self.record(&record, stored.and_then(open).as_ref(), &mut buffer);
        }
    }

    /// Writes the chunks of one record, which is `None` when it could not be read.
    fn record(&self, record: &RecordJob, opened: Option<&OpenRecord>, buffer: &mut Vec<u8>) {
        let same = |a: &(u8, ChunkId, Part), b: &(u8, ChunkId, Part)| a.1 == b.1;
        for parts in record.chunks.chunk_by(same) {
            let wanted = |(_, _, part): &&(u8, ChunkId, Part)| {
                let failed = part.file.failed.load(Ordering::Relaxed);
                !failed
            };
            if let Some((slot, chunk, _)) = parts.iter().find(wanted) {
                let written = self.plain(chunk, opened, *slot, buffer, &|plain| {
                    let wanted = parts.iter().filter(wanted);
                    wanted.for_each(|(_, _, part)| self.write(part, plain));
                });
                if let Err(e) = written {
                    parts
                        .iter()
                        .for_each(|(_, _, part)| self.lost(&part.file, &e));
                }
            }
            parts.iter().for_each(|(_, _, part)| self.done(&part.file));
        }
    }

    /// Shows a chunk's bytes from this record; whatever is wrong here, another place may be whole.
    fn plain(
        &self,
        id: &ChunkId,
        opened: Option<&OpenRecord>,
        slot: u8,
        buffer: &mut Vec<u8>,
        show: &dyn Fn(&[u8]),
    ) -> Result<(), AccessError> {
        let here = match opened {
            Some(record) => {
                let plain = self.reader.plain(World::Content, id, record, slot, buffer);
                plain.ok().map(show)
            }
            None => None,
        };
        match here {
            Some(()) => Ok(()),
            None => self
                .reader
                .chunk(World::Content, id)
                .map(|plain| show(&plain)),
        }
    }

    fn write(&self, part: &Part, plain: &[u8]) {
        let file = &part.file;
        if plain.len() as u64 != part.len {
            return self.fail(file, "a chunk has another length", true);
        }
        match file.create(self.target) {
            Ok(true) => {}
            Ok(false) => return,
            Err(e) => return self.refuse(file, &e),
        }
        if let Err(e) = file.write(part.offset, plain, self.sparse) {
            self.fail(file, &format!("cannot be written: {e}"), false);
        }
        self.count(part.len);
    }

    /// One part less; the last one finishes the file, if all are planned.
    fn done(&self, file: &Arc<FileJob>) {
        if file.remaining.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.finish(file);
        }
    }

    /// Every part was dealt with.
    fn finish(&self, job: &Arc<FileJob>) {
        if job.failed.load(Ordering::Relaxed) {
            return;
        }
        let existing = job.existing(self.target);
        let held = existing.as_ref().filter(|e| job.is_held(&***e));
        match (self.purpose, held) {
            (Purpose::Verify, Some(_)) => self.results().report.verified += 1,
            (Purpose::Verify, None) => {
                let message = "the restored file differs from the snapshot".to_owned();
                let path = job.entry.path.clone();
                self.results()
                    .report
                    .differing
                    .push(Problem { path, message });
            }
            (Purpose::Rehearse, held) => {
                let action = held.map_or(Action::Restored, |_| Action::Kept);
                self.ended(job, action, Kept::default());
            }
            (Purpose::Write, Some(existing)) => match existing.settle(&job.entry) {
                Ok(Some(kept)) => self.ended(job, Action::Kept, kept),
                Ok(None) => self.put(job),
                Err(e) => self.refuse(job, &e),
            },
            (Purpose::Write, None) => self.put(job),
        }
    }

    /// Completes the new file and puts it in place.
    fn put(&self, job: &Arc<FileJob>) {
        match job.create(self.target) {
            Ok(true) => {}
            Ok(false) => return,
            Err(e) => return self.refuse(job, &e),
        }
        match job.complete(self.monitor.counters(), self.sparse) {
            Ok(Some(file)) => match file.finish(&job.entry) {
                Ok(kept) => self.ended(job, Action::Restored, kept),
                Err(e) => self.refuse(job, &e),
            },
            Ok(None) => {}
            Err(e) => self.fail(job, &format!("cannot be written: {e}"), false),
        }
    }

    /// A file is as it should be, or would be.
    fn ended(&self, job: &FileJob, action: Action, kept: Kept) {
        let path = &job.entry.path;
        self.monitor.event(Event::Entry { path, action });
        let mut results = self.results();
        match action {
            Action::Kept => results.report.kept += 1,
            _ => results.report.written += 1,
        }
        if let Some(group) = &job.entry.group {
            results.linkable.push((group.clone(), path.clone()));
        }
        if !kept.refused.is_empty() {
            results.refused.push((path.clone(), kept));
        }
    }

    fn refuse(&self, job: &FileJob, error: &TargetError) {
        let problem = target_problem(&job.entry.path, error);
        self.fail(job, &problem.message, false);
    }

    fn lost(&self, job: &FileJob, error: &AccessError) {
        self.fail(job, &error.to_string(), says_damage(error));
    }

    /// Gives up a file: what was written of it vanishes with its temporary name.
    fn fail(&self, job: &FileJob, message: &str, damaged: bool) {
        if job.failed.swap(true, Ordering::AcqRel) {
            return;
        }
        let path = job.entry.path.clone();
        self.monitor.event(Event::Problem {
            path: &path,
            message,
        });
        let message = message.to_owned();
        let problem = Problem { path, message };
        let report = &mut self.results().report;
        match (damaged, self.purpose) {
            (_, Purpose::Verify) => report.differing.push(problem),
            (true, _) => report.damaged.push(problem),
            (false, _) => report.problems.push(problem),
        }
    }
}

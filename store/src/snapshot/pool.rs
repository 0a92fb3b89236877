//! Running intake, storing and assembly on threads, or all in the calling thread.
//!
//! The calling thread walks, reads and cuts; workers hash, look up, encode and seal; one thread
//! assembles the tree in order. Queues hold a bounded number of bytes.

use std::io;
use std::sync::Mutex;
use std::thread::Builder;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::entry::Extent;
use crate::error::AccessError;
use crate::member::Member;
use crate::record::World;
use crate::snapshot::assemble::{Assembled, Assembler, SoFar};
use crate::snapshot::checkpoint::Checkpoints;
use crate::snapshot::guide::InParent;
use crate::snapshot::intake::{Chunks, Flow, Intake, Left, ParentTree, Problems, Setting, Step};
use crate::source::{Source, SourceError, Stop};
use crate::writer::Lane;

/// Batches of chunks that wait for a worker; each holds at most 256 KiB or one chunk.
const JOBS: usize = 16;
/// Steps that go to the assembler together: handing on each would cost more than it does.
const BATCH: usize = 64;
/// Batches of steps that wait for the assembler.
const BATCHES: usize = 16;

/// What reading a source gave.
pub(super) struct Taken {
    pub tree: SoFar,
    pub problems: Problems,
    pub members: Vec<Member>,
}

/// Why it gave nothing.
pub(super) enum RunError {
    Source(SourceError),
    Access(AccessError),
}

impl From<AccessError> for RunError {
    fn from(error: AccessError) -> Self {
        RunError::Access(error)
    }
}

type Stored = Result<Vec<Extent>, AccessError>;
type Built = Result<Assembled, AccessError>;

/// Reads a source to its end.
pub(super) fn run<'a, 'r>(
    source: &mut dyn Source,
    setting: Setting<'a, 'r>,
    parents: &'a [ParentTree<'a, 'r>],
    checkpoints: Option<Checkpoints<'a, 'r>>,
) -> Result<Taken, RunError> {
    let writer = setting.writer;
    let threads = writer.reader().repository().environment().threads;
    if threads == 0 {
        let flow = Inline {
            lane: writer.lane(World::Content),
            assembler: Assembler::new(writer),
            failure: None,
        };
        let intake = Intake::new(flow, setting, parents, checkpoints);
        return run_inline(source, intake);
    }
    let lanes: Vec<Mutex<Lane<'a, 'r>>> = (0..threads)
        .map(|_| Mutex::new(writer.lane(World::Content)))
        .collect();
    std::thread::scope(|scope| {
        let (jobs, jobs_in) = bounded::<Job>(JOBS);
        let (steps, steps_in) = bounded::<Vec<Queued>>(BATCHES);
        let start = |n: usize, lane| {
            let jobs = jobs_in.clone();
            named(&format!("hucha-store-{n}")).spawn_scoped(scope, move || work(lane, &jobs))
        };
        let workers: io::Result<Vec<_>> = (0..).zip(&lanes).map(|(n, l)| start(n, l)).collect();
        let workers = workers.map_err(AccessError::Spool)?;
        drop(jobs_in);
        let assembler = named("hucha-tree")
            .spawn_scoped(scope, move || assemble(Assembler::new(writer), &steps_in));
        let assembler = assembler.map_err(AccessError::Spool)?;
        let flow = Pooled {
            jobs,
            steps,
            batch: Vec::with_capacity(BATCH),
            lanes: &lanes,
            failure: None,
        };
        let mut intake = Intake::new(flow, setting, parents, checkpoints);
        let pushed = source.push(&mut intake);
        let Left {
            flow,
            problems,
            failure,
            fatal,
            members,
        } = intake.leave();
        let mut failure = failure.or(flow.end());
        let built = join(assembler).unwrap_or_else(Err);
        for worker in workers {
            if let Err(e) = join(worker).unwrap_or_else(Err) {
                failure.get_or_insert(e);
            }
        }
        let built = match built {
            Ok(built) => Some(built),
            Err(e) => {
                failure.get_or_insert(e);
                None
            }
        };
        settle(pushed, failure, fatal)?;
        Ok(taken(built.unwrap_or_default(), problems, members))
    })
}

fn run_inline(
    source: &mut dyn Source,
    mut intake: Intake<'_, '_, Inline<'_, '_>>,
) -> Result<Taken, RunError> {
    let pushed = source.push(&mut intake);
    let Left {
        flow,
        problems,
        failure,
        fatal,
        members,
    } = intake.leave();
    let Inline {
        mut lane,
        assembler,
        failure: inner,
    } = flow;
    settle(pushed, failure.or(inner), fatal)?;
    lane.flush()?;
    Ok(taken(assembler.finish()?, problems, members))
}

/// The cause of a run that ended early, the most telling first.
fn settle(
    pushed: Result<(), SourceError>,
    failure: Option<AccessError>,
    fatal: Option<String>,
) -> Result<(), RunError> {
    if let Some(why) = fatal {
        return Err(RunError::Source(SourceError::Failed(why)));
    }
    if let Some(failure) = failure {
        return Err(RunError::Access(failure));
    }
    pushed.map_err(RunError::Source)
}

fn taken(
    (root, totals, orphans): Assembled,
    mut problems: Problems,
    mut members: Vec<Member>,
) -> Taken {
    problems.append(orphans);
    members.sort_by(|a, b| a.name.cmp(&b.name));
    let tree = SoFar {
        root,
        totals,
        unfinished: None,
    };
    Taken {
        tree,
        problems,
        members,
    }
}

/// A thread that says in lists of threads what it does.
fn named(name: &str) -> Builder {
    Builder::new().name(name.to_owned())
}

fn join<T>(handle: std::thread::ScopedJoinHandle<'_, T>) -> Result<T, AccessError> {
    match handle.join() {
        Ok(value) => Ok(value),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Chunks for a worker, and where their extents go.
struct Job {
    chunks: Chunks,
    answer: Sender<Stored>,
}

/// A step for the assembler.
#[expect(
    clippy::large_enum_variant,
    reason = "most are steps, and stand in batches"
)]
enum Queued {
    Step(Step),
    Extents(Option<usize>, Receiver<Stored>),
    SoFar(Sender<SoFar>),
}

struct Pooled<'s, 'w, 'r> {
    jobs: Sender<Job>,
    steps: Sender<Vec<Queued>>,
    /// Steps that were not handed on yet. No worker waits for them.
    batch: Vec<Queued>,
    lanes: &'s [Mutex<Lane<'w, 'r>>],
    failure: Option<AccessError>,
}

impl Pooled<'_, '_, '_> {
    /// Lets the threads come to their end.
    fn end(mut self) -> Option<AccessError> {
        // An assembler that is gone says why itself.
        let _ = self.send();
        self.failure
    }

    /// A step or what stands for one, handed on with others.
    fn queue(&mut self, queued: Queued) -> Result<(), Stop> {
        self.batch.push(queued);
        match self.batch.len() {
            BATCH.. => self.send(),
            _ => Ok(()),
        }
    }

    fn send(&mut self) -> Result<(), Stop> {
        let batch = std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH));
        self.steps.send(batch).map_err(|_| Stop)
    }

    fn flush(&mut self) -> Result<(), Stop> {
        for lane in self.lanes {
            // Nobody holds it: all jobs are done.
            let flushed = match lane.lock() {
                Ok(mut lane) => lane.flush(),
                Err(_) => Err(AccessError::VerifyFailed),
            };
            if let Err(e) = flushed {
                self.failure.get_or_insert(e);
                return Err(Stop);
            }
        }
        Ok(())
    }
}

impl Flow for Pooled<'_, '_, '_> {
    fn step(&mut self, step: Step) -> Result<(), Stop> {
        self.queue(Queued::Step(step))
    }

    fn chunks(&mut self, chunks: Chunks) -> Result<(), Stop> {
        let (answer, extents) = bounded(1);
        let stream = chunks.stream;
        self.jobs.send(Job { chunks, answer }).map_err(|_| Stop)?;
        self.queue(Queued::Extents(stream, extents))
    }

    fn so_far(&mut self) -> Result<SoFar, Stop> {
        let (answer, so_far) = bounded(1);
        self.queue(Queued::SoFar(answer))?;
        self.send()?;
        // The assembler has met the extents of every job by then. Without an answer it failed,
        // and says so itself.
        let so_far = so_far.recv().map_err(|_| Stop)?;
        self.flush()?;
        Ok(so_far)
    }
}

fn work(lane: &Mutex<Lane<'_, '_>>, jobs: &Receiver<Job>) -> Result<(), AccessError> {
    for job in jobs {
        let stored = match lane.lock() {
            Ok(mut lane) => store_all(&mut lane, &job.chunks),
            Err(_) => Err(AccessError::VerifyFailed),
        };
        // The assembler reports the failure, and stops the run by going away.
        let _ = job.answer.send(stored);
    }
    match lane.lock() {
        Ok(mut lane) => lane.flush(),
        Err(_) => Err(AccessError::VerifyFailed),
    }
}

fn store_all(lane: &mut Lane<'_, '_>, chunks: &Chunks) -> Stored {
    let mut place = InParent::new(chunks.near.as_ref(), chunks.offset, chunks.kind);
    let one = |chunk: &Vec<u8>| {
        let outcome = lane.store_like(chunk, &mut place)?;
        place.pass(chunk.len());
        Ok(Extent::Chunk {
            id: outcome.id,
            len: chunk.len() as u32,
        })
    };
    chunks.plain.iter().map(one).collect()
}

fn assemble(mut assembler: Assembler<'_, '_>, steps: &Receiver<Vec<Queued>>) -> Built {
    for queued in steps.iter().flatten() {
        match queued {
            Queued::Step(step) => assembler.step(step)?,
            Queued::Extents(stream, extents) => {
                // A worker that is gone has failed, and says so itself.
                let Ok(extents) = extents.recv() else {
                    return Err(AccessError::VerifyFailed);
                };
                assembler.add(stream, extents?)?;
            }
            Queued::SoFar(answer) => {
                let so_far = assembler.so_far()?;
                // Nobody waits for it any more: the run ends.
                let _ = answer.send(so_far);
            }
        }
    }
    assembler.finish()
}

/// Everything in the calling thread.
struct Inline<'w, 'r> {
    lane: Lane<'w, 'r>,
    assembler: Assembler<'w, 'r>,
    failure: Option<AccessError>,
}

impl Inline<'_, '_> {
    fn keep(&mut self, result: Result<(), AccessError>) -> Result<(), Stop> {
        result.map_err(|e| {
            self.failure.get_or_insert(e);
            Stop
        })
    }
}

impl Flow for Inline<'_, '_> {
    fn step(&mut self, step: Step) -> Result<(), Stop> {
        let result = self.assembler.step(step);
        self.keep(result)
    }

    fn chunks(&mut self, chunks: Chunks) -> Result<(), Stop> {
        let stored = store_all(&mut self.lane, &chunks);
        let result = stored.and_then(|extents| self.assembler.add(chunks.stream, extents));
        self.keep(result)
    }

    fn so_far(&mut self) -> Result<SoFar, Stop> {
        let flushed = self.lane.flush();
        let so_far = flushed.and_then(|()| self.assembler.so_far());
        so_far.map_err(|e| {
            self.failure.get_or_insert(e);
            Stop
        })
    }
}

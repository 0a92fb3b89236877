//! Who plays: roles that run the real code, and the threads that they run on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use crossbeam_channel::{Sender, unbounded};

use super::stage::{Dead, Director, Door, End, Ended, Stage, Watch};
use super::start::{Cache, Start, folder, open, thorough};
use crate::backend::Backend;
use crate::crypto::seeded;
use crate::environment::Environment;
use crate::error::AccessError;
use crate::forget::{UndeleteError, mark, undelete};
use crate::format::objects::{HostIdentity, Manifest};
use crate::gc::{Fence, GcError, gc, merge};
use crate::holes::{self, Hole};
use crate::monitor::Silent;
use crate::repair::{ConfigState, Lost, RepairOptions, config, repair};
use crate::repository::{Credential, Repository};
use crate::snapshot::{Every, SnapshotError, SnapshotOptions, snapshot};
use crate::snapshots::SnapshotList;
use crate::source::{Profile, Sink, Source, SourceError};
use crate::testing::{self, MapSource, single_chunks};

/// What an actor does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Takes a snapshot of files, a letter each.
    Snapshot(&'static str),
    /// Takes one of files, with a checkpoint after each that is read.
    Checkpoints(&'static str),
    /// Takes one of what cannot be read again.
    Stream(&'static str),
    /// Reads files and then fails: gives up.
    Fail(&'static str),
    /// Collects.
    Gc(Fence),
    /// Folds all segments.
    Merge,
    /// Forgets the n-th snapshot of the past.
    Forget(usize),
    /// Forgets what was committed since.
    ForgetNew,
    /// Undeletes it.
    Undelete(usize),
    /// Repairs.
    Repair(Lost),
}

/// An actor: a role, and whether its machine looked at the repository only early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Actor {
    pub role: Role,
    pub stale: bool,
}

/// What is played.
#[derive(Clone)]
pub(super) struct Scene {
    pub start: Start,
    pub actors: Vec<Actor>,
    pub first: usize,
    pub hole: Option<Hole>,
    pub seed: String,
}

impl Scene {
    /// A scene of roles with stale caches, the first beginning.
    pub fn of(start: &Start, roles: &[Role]) -> Scene {
        let actor = |role: &Role| Actor {
            role: *role,
            stale: true,
        };
        Scene {
            start: start.clone(),
            actors: roles.iter().map(actor).collect(),
            first: 0,
            hole: None,
            seed: "scene".into(),
        }
    }

    pub fn with_hole(mut self, hole: Hole) -> Scene {
        self.hole = Some(hole);
        self
    }

    pub fn describe(&self) -> String {
        let role = |a: &Actor| format!("{:?}", a.role);
        let roles: Vec<String> = self.actors.iter().map(role).collect();
        format!(
            "{}: {} (first {})",
            self.start.name,
            roles.join(" | "),
            self.first
        )
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// Threads that play one scene after the other.
pub(super) struct Troupe {
    threads: Vec<Sender<Job>>,
}

/// How a scene ended.
pub(super) struct Outcome {
    pub ended: Ended,
    pub ends: Vec<End>,
}

impl Troupe {
    pub fn new(actors: usize) -> Troupe {
        let thread = |n: usize| {
            let (sender, jobs) = unbounded::<Job>();
            std::thread::Builder::new()
                .name(format!("actor {n}"))
                .spawn(move || jobs.iter().for_each(|job| job()))
                .unwrap();
            sender
        };
        Troupe {
            threads: (0..actors).map(thread).collect(),
        }
    }

    /// Plays a scene from its start to its end.
    pub fn play(&self, scene: &Scene, director: Box<dyn Director>) -> Outcome {
        let memory = scene.start.memory.fork();
        let count = scene.actors.len();
        let oracle = scene.start.oracle.clone();
        let stage = Stage::new(memory, oracle, count, scene.first, director);
        let ends = Arc::new(Mutex::new(vec![End::Crashed; count]));
        for (me, actor) in scene.actors.iter().enumerate() {
            let part = Part::of(scene, *actor, me, &stage);
            let (stage, ends) = (Arc::clone(&stage), Arc::clone(&ends));
            let job = move || {
                let end = if stage.enter(me) {
                    part.act()
                } else {
                    End::Crashed
                };
                ends.lock().unwrap()[me] = end.clone();
                stage.leave(me, &end);
            };
            self.threads[me].send(Box::new(job)).unwrap();
        }
        let ended = stage.wait();
        let ends = std::mem::take(&mut *ends.lock().unwrap());
        Outcome { ended, ends }
    }
}

/// Everything that one actor needs.
struct Part {
    stage: Arc<Stage>,
    me: usize,
    role: Role,
    cache: Cache,
    snapshots: Vec<Manifest>,
    /// Something was damaged before the scene began.
    damaged: bool,
    hole: Option<Hole>,
    seed: String,
}

impl Part {
    fn of(scene: &Scene, actor: Actor, me: usize, stage: &Arc<Stage>) -> Part {
        let cache = if actor.stale {
            &scene.start.early
        } else {
            &scene.start.late
        };
        Part {
            stage: Arc::clone(stage),
            me,
            role: actor.role,
            cache: cache.clone(),
            snapshots: scene.start.snapshots.clone(),
            damaged: scene.start.oracle.is_damaged(),
            hole: scene.hole,
            seed: format!("{} {me}", scene.seed),
        }
    }

    fn act(self) -> End {
        seeded::seed(self.seed.as_bytes());
        single_chunks(true);
        holes::open(self.hole);
        match catch_unwind(AssertUnwindSafe(|| self.perform())) {
            Ok(end) => end,
            Err(payload) if payload.is::<Dead>() => End::Crashed,
            Err(payload) => {
                let text = payload.downcast_ref::<String>().cloned();
                let text = text.or_else(|| payload.downcast_ref::<&str>().map(|s| s.to_string()));
                End::Panicked(text.unwrap_or_default())
            }
        }
    }

    fn perform(&self) -> End {
        let repository = open_door(&self.stage, self.me, &self.cache);
        let silent = Silent::default();
        match self.role {
            Role::Snapshot(letters) => taken(&repository, &mut folder(letters)),
            Role::Checkpoints(letters) => {
                let every = Every {
                    bytes: 1,
                    seconds: u64::MAX,
                };
                taken_with(&repository, &mut folder(letters), every)
            }
            Role::Stream(letters) => taken(&repository, &mut Once(folder(letters))),
            Role::Fail(letters) => taken(&repository, &mut Failing(folder(letters))),
            Role::Gc(fence) => match gc(&repository, &thorough(fence), &silent) {
                Ok(report) => End::Done(format!("{} packs", report.packs_deleted)),
                Err(GcError::Access(e)) => failed(&e),
                // What nobody has repaired yet.
                Err(e) if self.damaged => End::Done(format!("gc: {e}")),
                Err(e) => End::Panicked(format!("gc: {e}")),
            },
            Role::Merge => match merge::merge(&repository, merge::When::Always) {
                Ok(n) => End::Done(format!("{n} segments")),
                Err(e) => failed(&e),
            },
            Role::Forget(n) => match mark(&repository, self.snapshots[n].name) {
                Ok(first) => End::Done(format!("{first}")),
                Err(e) => failed(&e),
            },
            Role::ForgetNew => match self.forget_new(&repository) {
                Ok(n) => End::Done(format!("{n}")),
                Err(e) => failed(&e),
            },
            Role::Undelete(n) => match undelete(&repository, &self.snapshots[n]) {
                Ok(manifest) => End::Done(manifest.name.to_string()),
                Err(e @ (UndeleteError::Gone | UndeleteError::Exists)) => End::Done(e.to_string()),
                Err(UndeleteError::Access(e)) => failed(&e),
            },
            Role::Repair(lost) => self.repair(&repository, lost),
        }
    }
}

impl Part {
    fn repair(&self, repository: &Repository, lost: Lost) -> End {
        let door: Arc<dyn Backend> = Arc::new(Door::new(&self.stage, self.me));
        let found = match config::find(&door, &Credential::None) {
            Ok(found) => found,
            Err(e) => return End::Failed(e.to_string()),
        };
        let state = ConfigState::of(&found);
        let options = RepairOptions {
            lost,
            ..RepairOptions::default()
        };
        match repair(repository, &state, &options, &Silent::default()) {
            Ok(report) => End::Done(format!("{} losses", report.losses.len())),
            Err(e) => failed(&e),
        }
    }

    fn forget_new(&self, repository: &Repository) -> Result<u64, AccessError> {
        let mut forgotten = 0;
        for manifest in SnapshotList::read(repository)?.committed {
            if !self.snapshots.iter().any(|m| m.name == manifest.name) {
                forgotten += u64::from(mark(repository, manifest.name)?);
            }
        }
        Ok(forgotten)
    }
}

/// Opens the repository through an actor's door.
pub(super) fn open_door(stage: &Arc<Stage>, me: usize, cache: &Cache) -> Repository {
    let door: Arc<dyn Backend> = Arc::new(Door::new(stage, me));
    let environment = Environment {
        process: HostIdentity {
            pid: me as u32 + 1,
            ..HostIdentity::default()
        },
        liveness: Arc::new(Watch(Arc::clone(stage))),
        ..testing::environment(0)
    };
    open(door, cache, environment).0
}

fn taken(repository: &Repository, source: &mut dyn Source) -> End {
    taken_with(repository, source, Every::default())
}

fn taken_with(repository: &Repository, source: &mut dyn Source, checkpoint: Every) -> End {
    let options = SnapshotOptions {
        host: "test".into(),
        checkpoint,
        ..SnapshotOptions::default()
    };
    match snapshot(repository, source, &options, &Silent::default()) {
        Ok(report) => End::Done(report.manifest.name.to_string()),
        Err(SnapshotError::Fenced) => End::Done("fenced".into()),
        Err(SnapshotError::Source(why) | SnapshotError::Advised { what: why, .. }) => {
            End::Done(why)
        }
        Err(SnapshotError::Access(e)) => failed(&e),
    }
}

/// Only a backend that failed explains a failure.
fn failed(error: &AccessError) -> End {
    match error {
        AccessError::Backend(e) => End::Failed(e.to_string()),
        other => End::Panicked(other.to_string()),
    }
}

struct Once(MapSource);

impl Source for Once {
    fn paths(&self) -> Vec<Vec<u8>> {
        self.0.paths()
    }
    fn push(&mut self, sink: &mut dyn Sink) -> Result<(), SourceError> {
        self.0.push(sink)
    }
    fn profile(&self) -> Profile {
        self.0.profile()
    }
    fn is_repeatable(&self) -> bool {
        false
    }
}

struct Failing(MapSource);

impl Source for Failing {
    fn paths(&self) -> Vec<Vec<u8>> {
        self.0.paths()
    }
    fn push(&mut self, sink: &mut dyn Sink) -> Result<(), SourceError> {
        self.0.push(sink)?;
        Err(SourceError::Failed("broken".into()))
    }
}

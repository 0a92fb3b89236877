//! The stage: actors on threads of their own, of which one at a time holds the token. It may be
//! taken at every list, put and delete, where a director decides what goes wrong. Gets belong to
//! the step before them. Every step notes what it touched, and a director may be told, before each,
//! what the schedule has come to.

use std::hash::Hash;
use std::panic::resume_unwind;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::footprint::{Print, Prints, Touch, print};
use super::oracle::Oracle;
use crate::backend::{Area, Backend, BackendError, Key, Listed, Memory, Operation, Put, Trouble};
use crate::environment::{Fate, Liveness};
use crate::format::objects::HostIdentity;
use crate::sealed::Sealed;

/// What becomes of the next operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Choice {
    /// Another actor goes on instead.
    Switch(usize),
    /// The actor dies before it.
    Crash,
    /// The actor waits until all others are done.
    Stall,
    /// It is carried out, the answer is lost.
    Lost,
    /// It is carried out later, before that step or at the end; the answer is lost. `sticky`:
    /// so are those of its repetitions.
    Late { land: Option<usize>, sticky: bool },
    /// It is refused at once, and nothing is done.
    Refused,
}

/// One operation that was carried out, or was to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    pub actor: usize,
    pub operation: Operation,
    pub area: Area,
    pub key: Option<Key>,
    pub choice: Option<Choice>,
    /// Whether another actor could go on here.
    pub others: bool,
    /// Whether an answer of this key was lost before.
    pub repeated: bool,
    /// What it read, with the gets after it.
    pub reads: Vec<Touch>,
    /// What it changed.
    pub changes: Vec<Touch>,
    /// What landed just before it.
    pub landed: Vec<Touch>,
}

/// Decides before each step. Asked again after a switch.
pub(super) trait Director: Send {
    fn decide(&mut self, number: usize, step: &Step, free: &[usize]) -> Option<Choice>;

    /// Who goes on when an actor is through; `None`: the first.
    fn next(&mut self, _free: &[usize]) -> Option<usize> {
        None
    }

    /// Whether it wants to know what the schedule has come to before a step.
    fn asks(&self, _number: usize) -> bool {
        false
    }

    /// Is told, and whether anything is in flight; answers whether all that follows was looked at
    /// before, so that this ends here.
    fn knows(&mut self, _state: Print, _flying: bool) -> bool {
        false
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Status {
    Ready,
    Stalled,
    Crashed,
    Done,
}

/// How an actor's part ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    Done(String),
    Failed(String),
    Crashed,
    Panicked(String),
}

/// How an actor's part ended, as far as a judge cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Mark {
    Acts,
    Done,
    Failed,
    Panicked,
}

struct Flying {
    land: Option<usize>,
    key: Key,
    body: Option<Vec<u8>>,
    sticky: bool,
    actor: usize,
}

struct State {
    memory: Memory,
    oracle: Oracle,
    director: Box<dyn Director>,
    status: Vec<Status>,
    faulted: Vec<bool>,
    token: usize,
    trace: Vec<Step>,
    flying: Vec<Flying>,
    /// Keys whose answer an actor did not get.
    unknown: Vec<(usize, Key)>,
    violation: Option<String>,
    /// The actor before whose step the director knew all that follows.
    known: Option<usize>,
    marks: Vec<Mark>,
    prints: Prints,
    running: usize,
}

/// Shared by the actors of one run.
pub(super) struct Stage {
    state: Mutex<State>,
    turns: Vec<Condvar>,
    over: Condvar,
}

/// What unwinds an actor that dies: no code can swallow it.
pub(super) struct Dead;

impl Stage {
    pub fn new(
        memory: Memory,
        oracle: Oracle,
        actors: usize,
        first: usize,
        director: Box<dyn Director>,
    ) -> Arc<Stage> {
        let state = State {
            memory,
            oracle,
            director,
            status: vec![Status::Ready; actors],
            faulted: vec![false; actors],
            token: first,
            trace: Vec::new(),
            flying: Vec::new(),
            unknown: Vec::new(),
            violation: None,
            known: None,
            marks: vec![Mark::Acts; actors],
            prints: Prints::new(actors),
            running: actors,
        };
        Arc::new(Stage {
            state: Mutex::new(state),
            turns: (0..actors).map(|_| Condvar::new()).collect(),
            over: Condvar::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until an actor has the token for the first time. Answers whether there is anything
    /// left to do.
    pub fn enter(&self, me: usize) -> bool {
        !self.turn(me).is_over()
    }

    fn turn(&self, me: usize) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        while state.token != me {
            state = self.turns[me]
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state
    }

    /// An actor is through.
    pub fn leave(&self, me: usize, end: &End) {
        let mut state = self.lock();
        state.marks[me] = match end {
            End::Done(_) | End::Crashed => Mark::Done,
            End::Failed(_) => Mark::Failed,
            End::Panicked(_) => Mark::Panicked,
        };
        if state.status[me] != Status::Crashed {
            state.status[me] = Status::Done;
        }
        state.running -= 1;
        self.pass_on(&mut state);
        if state.running == 0 {
            // What follows a known state is known with all that lands.
            while state.known.is_none() && !state.flying.is_empty() {
                let flying = state.flying.remove(0);
                state.land(flying);
            }
            self.over.notify_all();
        }
    }

    /// Waits for the end of all.
    pub fn wait(&self) -> Ended {
        let mut state = self.lock();
        while state.running > 0 {
            state = self
                .over
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        Ended {
            memory: state.memory.clone(),
            oracle: state.oracle.clone(),
            trace: std::mem::take(&mut state.trace),
            violation: state.violation.take(),
            faulted: state.faulted.clone(),
            known: state.known,
            stored: state.prints.stored(),
        }
    }

    /// Gives the token to whoever can use it.
    fn pass_on(&self, state: &mut State) {
        let mut free = state.free();
        if free.is_empty() {
            for status in state.status.iter_mut().filter(|s| **s == Status::Stalled) {
                *status = Status::Ready;
            }
            free = state.free();
        }
        let chosen = state.director.next(&free).filter(|n| free.contains(n));
        if let Some(next) = chosen.or_else(|| free.first().copied()) {
            state.token = next;
            self.turns[next].notify_all();
        }
    }

    fn die(&self, mut state: MutexGuard<'_, State>, me: usize) -> ! {
        state.status[me] = Status::Crashed;
        drop(state);
        resume_unwind(Box::new(Dead));
    }

    /// A switch point: answers with the state, before the operation, and its fault.
    fn point(
        &self,
        me: usize,
        operation: Operation,
        area: Area,
        key: Option<&Key>,
    ) -> (MutexGuard<'_, State>, Option<Choice>) {
        loop {
            let mut state = self.turn(me);
            if state.is_over() || state.status[me] == Status::Crashed {
                self.die(state, me);
            }
            let free: Vec<usize> = state.free().into_iter().filter(|a| *a != me).collect();
            let mut step = Step {
                actor: me,
                operation,
                area,
                key: key.cloned(),
                choice: None,
                others: !free.is_empty(),
                repeated: key.is_some_and(|k| state.is_unknown(me, k)),
                reads: Vec::new(),
                changes: Vec::new(),
                landed: Vec::new(),
            };
            let number = state.trace.len();
            let choice = state.director.decide(number, &step, &free);
            match choice {
                Some(Choice::Switch(to)) if free.contains(&to) => {
                    state.token = to;
                    self.turns[to].notify_all();
                    continue;
                }
                Some(Choice::Stall) if !free.is_empty() => {
                    state.status[me] = Status::Stalled;
                    self.pass_on(&mut state);
                    continue;
                }
                Some(Choice::Crash) => {
                    state.faulted[me] = true;
                    self.die(state, me);
                }
                _ => {}
            }
            if state.is_known(number, me) {
                self.die(state, me);
            }
            step.choice = choice.filter(|c| !matches!(c, Choice::Switch(_) | Choice::Stall));
            state.faulted[me] |= step.choice.is_some();
            let fault = step.choice;
            step.landed = state.arrive(number);
            state.trace.push(step);
            return (state, fault);
        }
    }

    /// Whoever has the token asks.
    fn is_gone(&self, actor: usize) -> bool {
        let mut state = self.lock();
        let gone = [Status::Crashed, Status::Done];
        let gone = state.status.get(actor).is_none_or(|s| gone.contains(s));
        let me = state.token;
        state.read(me, Touch::Life(actor), &gone);
        gone
    }
}

/// What is left when all actors are through.
pub(super) struct Ended {
    pub memory: Memory,
    pub oracle: Oracle,
    pub trace: Vec<Step>,
    pub violation: Option<String>,
    /// Actors that met a fault.
    pub faulted: Vec<bool>,
    /// It was cut short before this actor's step: the director knows all that would have followed.
    pub known: Option<usize>,
    /// Stands for what is stored at the end.
    pub stored: Print,
}

impl State {
    fn free(&self) -> Vec<usize> {
        let ready = |(n, s): (usize, &Status)| (*s == Status::Ready).then_some(n);
        self.status.iter().enumerate().filter_map(ready).collect()
    }

    fn blame(&mut self, verdict: Result<(), String>) {
        if let Err(why) = verdict {
            self.violation.get_or_insert(why);
        }
    }

    fn is_over(&self) -> bool {
        self.violation.is_some() || self.known.is_some()
    }

    fn is_unknown(&self, me: usize, key: &Key) -> bool {
        self.unknown.iter().any(|u| u.0 == me && u.1 == *key)
    }

    /// Asks the director whether all that follows is known.
    fn is_known(&mut self, number: usize, me: usize) -> bool {
        if self.director.asks(number) {
            let state = self.print(number, me);
            let knows = self.director.knows(state, !self.flying.is_empty());
            self.known = knows.then_some(me);
        }
        self.known.is_some()
    }

    /// Stands for everything on which depends what can follow before a step of an actor, and how
    /// that is judged.
    fn print(&self, number: usize, me: usize) -> Print {
        let acts = |n: usize| [Status::Ready, Status::Stalled].contains(&self.status[n]);
        let actor = |n: usize| match acts(n) {
            true => Ok((self.status[n], self.faulted[n], self.prints.answers(n))),
            // Of one that is through only a failure that nothing explains matters.
            false => Err(self.marks[n] == Mark::Panicked
                || (self.marks[n] == Mark::Failed && !self.faulted[n])),
        };
        let actors: Vec<_> = (0..self.status.len()).map(actor).collect();
        let flying: Vec<_> = self.flying.iter().map(|f| f.print(number)).collect();
        let unknown = self.unknown.iter().map(print);
        let unknown = unknown.fold(0, Print::wrapping_add);
        print(&(me, actors, flying, unknown, self.prints.stored()))
    }

    /// The actor with the token has read something, since its last step.
    fn read(&mut self, me: usize, what: Touch, answer: &impl Hash) {
        self.prints.told(me, answer);
        if let Some(step) = self.trace.last_mut().filter(|step| step.actor == me)
            && !step.reads.contains(&what)
        {
            step.reads.push(what);
        }
    }

    /// Lets operations land that are due before a step. Answers with what they touch.
    fn arrive(&mut self, number: usize) -> Vec<Touch> {
        let mut landed = Vec::new();
        while let Some(at) = self.flying.iter().position(|f| f.land == Some(number)) {
            let flying = self.flying.remove(at);
            landed.push(Touch::Key(flying.key.clone()));
            self.land(flying);
        }
        landed
    }

    fn land(&mut self, flying: Flying) {
        match flying.body {
            Some(body) => {
                let _ = self.store(&flying.key, body, true);
            }
            None => self.remove(&flying.key, true),
        }
    }

    fn store(&mut self, key: &Key, body: Vec<u8>, late: bool) -> Result<Put, BackendError> {
        let put = self.memory.put(key, &Sealed::from_stored(body.clone()))?;
        if put == Put::Created {
            self.prints.created(key, &body, late);
            let verdict = self.oracle.created(key, &body, late);
            self.blame(verdict);
        }
        Ok(put)
    }

    fn remove(&mut self, key: &Key, late: bool) {
        if self.memory.remove(key) {
            self.prints.deleted(key);
        }
        let verdict = self.oracle.deleted(key, late);
        self.blame(verdict);
    }

    /// Whether a repetition of a put shares the fate of the first.
    fn is_stuck(&self, me: usize, key: &Key, body: Option<&[u8]>) -> bool {
        let same = |f: &&Flying| f.actor == me && f.key == *key && f.body.as_deref() == body;
        self.flying.iter().filter(same).any(|f| f.sticky)
    }
}

impl Flying {
    fn print(&self, number: usize) -> Print {
        let land = self.land.map(|at| at.wrapping_sub(number));
        print(&(land, &self.key, &self.body, self.sticky, self.actor))
    }
}

/// An actor's way to the backend.
pub(super) struct Door {
    pub stage: Arc<Stage>,
    pub me: usize,
    memory: Memory,
}

impl Door {
    pub fn new(stage: &Arc<Stage>, me: usize) -> Door {
        Door {
            stage: Arc::clone(stage),
            me,
            memory: stage.lock().memory.clone(),
        }
    }

    fn change(&self, operation: Operation, key: &Key, body: Option<&Sealed>) -> Answer {
        let (mut state, fault) = self.stage.point(self.me, operation, key.area(), Some(key));
        let bytes = body.map(|b| b.to_vec().unwrap());
        let answer = self.carry_out(&mut state, fault, operation, key, bytes);
        let told = answer.as_ref().map(|put| *put == Some(Put::Exists));
        let told = told.map_err(|e| matches!(e.trouble, Trouble::Unknown));
        state.prints.told(self.me, &told);
        answer
    }

    fn carry_out(
        &self,
        state: &mut State,
        fault: Option<Choice>,
        operation: Operation,
        key: &Key,
        bytes: Option<Vec<u8>>,
    ) -> Answer {
        let unknown = |state: &mut State| {
            state.unknown.push((self.me, key.clone()));
            Err(failure(operation, key.path(), Trouble::Unknown))
        };
        match fault {
            Some(Choice::Refused) => return Err(failure(operation, key.path(), Trouble::Refused)),
            Some(Choice::Late { land, sticky }) => {
                state.flying.push(Flying {
                    land,
                    key: key.clone(),
                    body: bytes,
                    sticky,
                    actor: self.me,
                });
                return unknown(state);
            }
            _ if state.is_stuck(self.me, key, bytes.as_deref()) => return unknown(state),
            _ => {}
        }
        if let Some(step) = state.trace.last_mut() {
            step.changes.push(Touch::Key(key.clone()));
        }
        let answer = match bytes {
            Some(bytes) => {
                if key.area() == Area::Snapshots && !state.oracle.is_committable(&bytes) {
                    state.blame(Err(format!("{key} is put before what it refers to")));
                }
                let put = state.store(key, bytes, false)?;
                let known = state.is_unknown(self.me, key);
                if put == Put::Exists && must_be_fresh(key) && !known {
                    state.blame(Err(format!("{key} is no fresh name")));
                }
                Some(put)
            }
            None => {
                state.remove(key, false);
                None
            }
        };
        if fault == Some(Choice::Lost) {
            return unknown(state);
        }
        Ok(answer)
    }

    /// Notes that an object was asked for.
    fn got<T>(&self, key: &Key, answer: Result<T, BackendError>) -> Result<T, BackendError> {
        let mut state = self.stage.lock();
        let body = answer.is_ok().then(|| state.prints.body(key));
        state.read(self.me, Touch::Key(key.clone()), &(key, body));
        answer
    }

    /// Notes that an area is listed.
    fn listed(&self, mut state: MutexGuard<'_, State>, area: Area) {
        let content = state.prints.area(area);
        state.read(self.me, Touch::Area(area), &(area, content));
    }
}

type Answer = Result<Option<Put>, BackendError>;

fn must_be_fresh(key: &Key) -> bool {
    match key.area() {
        Area::Packs | Area::Index | Area::Sessions | Area::Notes => true,
        Area::Gc => !key.name().ends_with(".open"),
        Area::Config | Area::Keys | Area::Snapshots | Area::Trash | Area::Copies => false,
    }
}

fn failure(operation: Operation, key: String, trouble: Trouble) -> BackendError {
    BackendError {
        operation,
        key,
        trouble,
        retry: false,
        source: None,
    }
}

impl Backend for Door {
    fn list(&self, area: Area, each: &mut dyn FnMut(Listed)) -> Result<(), BackendError> {
        if matches!(area, Area::Config | Area::Keys) {
            self.listed(self.stage.lock(), area);
            return self.memory.list(area, each);
        }
        let (mut state, fault) = self.stage.point(self.me, Operation::List, area, None);
        if fault.is_some() {
            state.prints.told(self.me, &"failed");
            let folder = area.folder().to_owned();
            return Err(failure(Operation::List, folder, Trouble::Other));
        }
        self.listed(state, area);
        self.memory.list(area, each)
    }

    fn get(&self, key: &Key) -> Result<Vec<u8>, BackendError> {
        self.got(key, self.memory.get(key))
    }

    fn get_range(&self, key: &Key, offset: u64, len: u64) -> Result<Vec<u8>, BackendError> {
        self.got(key, self.memory.get_range(key, offset, len))
    }

    fn put(&self, key: &Key, body: &Sealed) -> Result<Put, BackendError> {
        let put = self.change(Operation::Put, key, Some(body))?;
        Ok(put.unwrap_or(Put::Created))
    }

    fn delete(&self, key: &Key) -> Result<(), BackendError> {
        self.change(Operation::Delete, key, None).map(drop)
    }

    fn location(&self) -> String {
        "stage".into()
    }
}

/// Processes of this stage are alive until they crash or end; all others are gone.
pub(super) struct Watch(pub Arc<Stage>);

impl Liveness for Watch {
    fn judge(&self, process: &HostIdentity) -> Fate {
        match (process.pid as usize).checked_sub(1) {
            Some(actor) if !self.0.is_gone(actor) => Fate::Alive,
            _ => Fate::Gone,
        }
    }
}

impl Stage {
    /// The oracle as it is now, and what it found.
    pub fn look(&self) -> (Oracle, Option<String>) {
        let state = self.lock();
        (state.oracle.clone(), state.violation.clone())
    }
}

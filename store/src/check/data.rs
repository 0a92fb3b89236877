//! The data level: reads every byte of packs; their names, seals, and every chunk against its id.
//!
//! A pack whose directory cannot be trusted is read again where the index says that its records
//! are. What is found is a value; which snapshots need it is told by [`super::walk`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::bad::BadPacks;
use super::chains;
use super::read::{self, Delta, PackRead, Reading};
use crate::backend::{BackendError, Key, Trouble};
use crate::error::AccessError;
use crate::id::PackId;
use crate::index::KnownPack;
use crate::monitor::{Counters, Monitor};
use crate::pack::is_record_length;
use crate::parallel;
use crate::reader::{Reader, is_bad};
use crate::record::World;
use crate::repository::Repository;

/// Deltas that wait to be decoded, at most some more: each takes some 128 bytes.
const MAX_WAITING: usize = 1 << 17;

/// Packs that were read.
#[derive(Debug, Default)]
pub(crate) struct ReadPacks {
    /// What is bad in them.
    pub bad: BadPacks,
    /// Those that were read to their end, whole or not; those that are gone are left out.
    pub read: Vec<(PackId, u64)>,
    /// Those of which the storage cannot read something, with what it said first.
    pub unreadable: Unreadable,
}

/// Packs of which the storage cannot read something, with what it said of each first.
#[derive(Debug, Default)]
pub(crate) struct Unreadable(BTreeMap<PackId, String>);

impl Unreadable {
    /// Adds a pack if that is what an error says.
    pub fn add(&mut self, pack: PackId, error: &AccessError) {
        let AccessError::Backend(error) = error else {
            return;
        };
        if error.is_unreadable() {
            let said = error.source.as_ref();
            let why = said.map_or_else(|| error.to_string(), ToString::to_string);
            self.0.entry(pack).or_insert(why);
        }
    }

    /// Stops when the storage gives no answers at all any more.
    fn stop_if_silent(&self, repository: &Repository) -> Result<(), AccessError> {
        if !self.0.is_empty() {
            repository.backend().get(&Key::config())?;
        }
        Ok(())
    }

    /// Stops when it is not single packs that are bad but the storage that fails: it answers
    /// nothing any more, or of more than half of all packs something cannot be read.
    ///
    /// # Errors
    /// [`AccessError::StorageFails`], or what the storage says now.
    pub fn stop_if_storage_fails(
        &self,
        repository: &Repository,
        packs: usize,
    ) -> Result<(), AccessError> {
        self.stop_if_silent(repository)?;
        match self.0.values().next() {
            Some(why) if self.0.len() > packs / 2 => Err(AccessError::StorageFails {
                what: "packs",
                unreadable: self.0.len(),
                all: packs,
                why: why.clone(),
            }),
            _ => Ok(()),
        }
    }
}

/// Reads packs, taken in the order given, as long as `go_on` agrees before each of them. What is
/// found does not depend on the number of threads.
///
/// # Errors
/// When the backend fails; what is bad stands in the answer.
pub(crate) fn read_packs(
    repository: &Repository,
    packs: &[(PackId, u64)],
    monitor: &dyn Monitor,
    go_on: &mut (dyn FnMut() -> bool + Send),
) -> Result<ReadPacks, AccessError> {
    let known = repository.index().packs(&repository.segments())?;
    let mut pass = Pass {
        repository,
        reader: Reader::new(repository).counting_decoded(monitor.counters()),
        known: known.into_iter().map(|k| (k.id, k)).collect(),
        done: ReadPacks::default(),
        astray: BTreeMap::new(),
    };
    pass.read(packs, Some(monitor), go_on)?;
    pass.read_astray()?;
    pass.read_again()?;
    pass.done.unreadable.stop_if_silent(repository)?;
    Ok(pass.done)
}

/// What an error says of an object that is named beside it.
pub(super) fn reason(error: AccessError) -> String {
    match error {
        AccessError::Damaged { why, .. } | AccessError::DamagedRecord { why, .. } => why,
        AccessError::CannotRead { why, .. } => format!("it cannot be read: {why}"),
        AccessError::Backend(BackendError {
            trouble: Trouble::OutOfRange,
            ..
        }) => "it is shorter than listed".into(),
        AccessError::Backend(BackendError {
            source: Some(source),
            ..
        }) => format!("it cannot be read: {source}"),
        AccessError::LostChunk { chunk, why } => {
            let why = why.unwrap_or_else(|| "missing".into());
            format!("chunk {chunk:.8}: {why}")
        }
        other => other.to_string(),
    }
}

struct Pass<'a> {
    repository: &'a Repository,
    reader: Reader<'a>,
    known: BTreeMap<PackId, KnownPack>,
    done: ReadPacks,
    /// Packs whose directories cannot be trusted, with what stands in them.
    astray: BTreeMap<PackId, World>,
}

/// Packs that are read together.
struct Batch<'a> {
    packs: Vec<Listed<'a>>,
    deltas: Vec<Delta>,
}

/// One of them.
struct Listed<'a> {
    id: &'a PackId,
    world: World,
    /// Deltas of it that are not verified yet.
    left: AtomicU32,
    size: u64,
}

/// What reading a pack gave, and what it holds; `None` when it is not there.
type Answer = Result<Option<(PackRead, World)>, AccessError>;

impl Pass<'_> {
    fn threads(&self) -> usize {
        self.repository.environment().threads
    }

    /// Reads packs, batch by batch. Who is told of each that is done stands in `monitor`.
    fn read(
        &mut self,
        packs: &[(PackId, u64)],
        monitor: Option<&dyn Monitor>,
        go_on: &mut (dyn FnMut() -> bool + Send),
    ) -> Result<(), AccessError> {
        let mut rest = packs.iter();
        let mut ended = false;
        while !ended {
            let batch = self.read_batch(&mut rest, &mut ended, go_on)?;
            let done = |pack: &Listed<'_>| {
                if let Some(monitor) = monitor {
                    Counters::add(&monitor.counters().bytes, pack.size);
                    Counters::add(&monitor.counters().entries, 1);
                }
            };
            let whole = |pack: &&Listed<'_>| pack.left.load(Ordering::Relaxed) == 0;
            batch.packs.iter().filter(whole).for_each(done);
            self.verify(&batch, &done)?;
        }
        Ok(())
    }

    /// Reads packs until so many deltas wait that their bases may not be at hand any more.
    fn read_batch<'p>(
        &mut self,
        rest: &mut std::slice::Iter<'p, (PackId, u64)>,
        ended: &mut bool,
        go_on: &mut (dyn FnMut() -> bool + Send),
    ) -> Result<Batch<'p>, AccessError> {
        let waiting = AtomicUsize::new(0);
        let failed = AtomicBool::new(false);
        let mut begun: Vec<&'p (PackId, u64)> = Vec::new();
        let jobs = std::iter::from_fn(|| {
            let is_full = waiting.load(Ordering::Relaxed) >= MAX_WAITING;
            if is_full || *ended || failed.load(Ordering::Relaxed) {
                return None;
            }
            *ended = rest.as_slice().is_empty() || !go_on();
            let next = rest.next().filter(|_| !*ended)?;
            begun.push(next);
            Some((begun.len() - 1, next))
        });
        let answers: Mutex<Vec<(usize, Answer)>> = Mutex::default();
        parallel::each(self.threads(), jobs, &|(number, (id, size))| {
            let read = self.one(number, id, *size);
            if let Ok(Some((read, _))) = &read {
                waiting.fetch_add(read.deltas.len(), Ordering::Relaxed);
            }
            failed.fetch_or(read.is_err(), Ordering::Relaxed);
            let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
            answers.push((number, read));
        });
        let mut answers = answers.into_inner().unwrap_or_else(PoisonError::into_inner);
        answers.sort_unstable_by_key(|(number, _)| *number);
        self.take_in(&begun, answers)
    }

    fn one(&self, number: usize, id: &PackId, size: u64) -> Answer {
        let mut reading = Reading::of(&self.reader, *id, number as u32, self.world(id));
        let there = reading.all(size)?;
        Ok(there.then_some((reading.found, reading.world)))
    }

    /// Joins what reading packs gave, in their order.
    fn take_in<'p>(
        &mut self,
        begun: &[&'p (PackId, u64)],
        answers: Vec<(usize, Answer)>,
    ) -> Result<Batch<'p>, AccessError> {
        let mut batch = Batch {
            packs: Vec::new(),
            deltas: Vec::new(),
        };
        for ((id, size), (_, read)) in begun.iter().zip(answers) {
            let Some((read, world)) = read? else { continue };
            let number = batch.packs.len() as u32;
            batch.packs.push(Listed {
                id,
                world,
                left: AtomicU32::new(read.deltas.len() as u32),
                size: *size,
            });
            let deltas = read.deltas.iter();
            batch
                .deltas
                .extend(deltas.map(|d| Delta { pack: number, ..*d }));
            self.done.read.push((*id, *size));
            if let Some(world) = read.astray {
                self.astray.insert(*id, world);
            }
            self.join(read);
        }
        Ok(batch)
    }

    fn join(&mut self, read: PackRead) {
        self.done.bad.join(read.bad);
        for (id, why) in read.unreadable.0 {
            self.done.unreadable.0.entry(id).or_insert(why);
        }
    }

    /// Verifies deltas; `done` is told of each pack that has no more of them.
    fn verify(
        &mut self,
        batch: &Batch<'_>,
        done: &(dyn Fn(&Listed<'_>) + Sync),
    ) -> Result<(), AccessError> {
        let runs = chains::runs(self.repository, &batch.deltas)?;
        let failed = AtomicBool::new(false);
        let answers: Mutex<Vec<(usize, Result<PackRead, AccessError>)>> = Mutex::default();
        let go_on = |_: &_| !failed.load(Ordering::Relaxed);
        let jobs = runs.into_iter().enumerate().take_while(go_on);
        parallel::each(self.threads(), jobs, &|(number, run)| {
            let verified = self.verify_run(batch, &run, done);
            failed.fetch_or(verified.is_err(), Ordering::Relaxed);
            let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
            answers.push((number, verified));
        });
        let mut answers = answers.into_inner().unwrap_or_else(PoisonError::into_inner);
        answers.sort_unstable_by_key(|(number, _)| *number);
        for (_, found) in answers {
            self.join(found?);
        }
        Ok(())
    }

    fn verify_run(
        &self,
        batch: &Batch<'_>,
        run: &[u32],
        done: &(dyn Fn(&Listed<'_>) + Sync),
    ) -> Result<PackRead, AccessError> {
        let mut found = PackRead::default();
        for delta in run.iter().filter_map(|i| batch.deltas.get(*i as usize)) {
            let Some(pack) = batch.packs.get(delta.pack as usize) else {
                continue;
            };
            read::verify(&self.reader, pack.world, *pack.id, delta, &mut found)?;
            if pack.left.fetch_sub(1, Ordering::Relaxed) == 1 {
                done(pack);
            }
        }
        Ok(found)
    }

    /// What the index says that a pack holds.
    fn world(&self, id: &PackId) -> World {
        read::world(self.known.get(id).is_some_and(|k| k.tree))
    }

    /// Reads packs again whose deltas lack bases: gc may have moved these while packs were read.
    fn read_again(&mut self) -> Result<(), AccessError> {
        let lacks = |(id, _): &&(PackId, u64)| self.done.bad.lacks_bases(id);
        let again: Vec<(PackId, u64)> = self.done.read.iter().filter(lacks).copied().collect();
        if again.is_empty() {
            return Ok(());
        }
        self.repository.update_index()?;
        for (id, _) in &again {
            self.done.bad.packs.remove(id);
            self.done.unreadable.0.remove(id);
        }
        let first = std::mem::take(&mut self.done.read);
        self.read(&again, None, &mut || true)?;
        let still: BTreeSet<PackId> = self.done.read.drain(..).map(|(id, _)| id).collect();
        let gone = |id: &PackId| again.iter().any(|(a, _)| a == id) && !still.contains(id);
        self.done.read = first.into_iter().filter(|(id, _)| !gone(id)).collect();
        self.read_astray()
    }

    /// Reads the records of packs whose directories cannot be trusted where the index says that
    /// they are.
    fn read_astray(&mut self) -> Result<(), AccessError> {
        let astray = std::mem::take(&mut self.astray);
        if astray.is_empty() {
            return Ok(());
        }
        let packs: BTreeSet<PackId> = astray.keys().copied().collect();
        for (id, records) in indexed_records(self.repository, &packs)? {
            let Some(world) = astray.get(&id) else {
                continue;
            };
            self.done.bad.packs.entry(id).or_default().records.clear();
            let mut reading = Reading::of(&self.reader, id, 0, *world);
            for (offset, stored) in records {
                let read = match is_record_length(stored) {
                    true => self.reader.fetch(id, u64::from(offset), u64::from(stored)),
                    false => Err(AccessError::damaged("", "its length is absurd")),
                };
                match read {
                    Ok(bytes) => reading.record(offset, stored, &bytes)?,
                    Err(AccessError::Backend(e)) if e.is_absent() => break,
                    Err(e) if is_bad(&e) => reading.found.record(&id, offset, e),
                    Err(e) => return Err(e),
                }
            }
            let mut found = reading.found;
            let deltas = std::mem::take(&mut found.deltas);
            let pack = Listed {
                id: &id,
                world: *world,
                left: AtomicU32::new(deltas.len() as u32),
                size: 0,
            };
            let packs = vec![pack];
            let batch = Batch { packs, deltas };
            self.join(found);
            self.verify(&batch, &|_| {})?;
        }
        Ok(())
    }
}

/// Whether a pack is there, and does not hold what it must.
pub(super) fn is_bad_object(error: &AccessError) -> bool {
    let gone = matches!(error, AccessError::Backend(e) if e.is_absent());
    is_bad(error) && !gone
}

/// Where the index says that the records of packs are: offset and stored length. Segments that do
/// not open are passed over.
///
/// # Errors
/// When the backend fails.
pub(crate) fn indexed_records(
    repository: &Repository,
    packs: &BTreeSet<PackId>,
) -> Result<BTreeMap<PackId, BTreeSet<(u32, u32)>>, AccessError> {
    let segments = repository.segments();
    let mut found: BTreeMap<PackId, BTreeSet<(u32, u32)>> = BTreeMap::new();
    for (id, _) in segments.list()? {
        let segment = match segments.get(&id) {
            Ok(Some(segment)) => segment,
            Ok(None) => continue,
            Err(e) if e.is_damage() => continue,
            Err(e) => return Err(e),
        };
        for row in &segment.rows {
            let pack = segment.packs.get(row.pack as usize);
            if let Some(pack) = pack.filter(|p| packs.contains(&p.id)) {
                let records = found.entry(pack.id).or_default();
                records.insert((row.offset, row.stored));
            }
        }
    }
    Ok(found)
}

//! One suite of rules for every backend: run by the tests of each, and shipped as `hucha doctor`.
//!
//! It may be run on a repository in use: all its names are fresh and random, lie under `notes/`
//! and `packs/` (junk in `snapshots/`, `sessions/`, `gc/`, `trash/`, `keys/` or `index/` would mean
//! something to others), and are deleted at the end. It does not panic, does not test durability
//! or speed, and cannot prove that a rule holds: races are tried a few times only.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, Scope, ScopedJoinHandle};

use super::{Area, Backend, BackendError, Key, MAX_NAME, Put, Trouble};
use crate::id::Uuid;
use crate::sealed::Sealed;

/// A rule that a backend broke.
#[derive(Debug, thiserror::Error)]
#[error("broken rule: {rule}; {found}")]
pub struct Failure {
    /// What every backend must do.
    pub rule: &'static str,
    /// What this one did.
    pub found: String,
    /// The error it answered, when it did.
    #[source]
    pub source: Option<BackendError>,
}

/// Checks every rule of [`Backend`] and cleans up, whatever came out.
///
/// # Errors
/// The first rule that was broken.
pub fn check(backend: &dyn Backend) -> Result<(), Failure> {
    let bench = Bench::new(backend)?;
    let checks = [
        put_once,
        ranges,
        absent,
        listing,
        bodies,
        names,
        packs,
        races,
        list_amid_puts,
        areas,
    ];
    let checked = checks.iter().try_for_each(|check| check(&bench));
    let cleaned = bench.clean();
    checked.and(cleaned)
}

/// Writers in a race for one name.
const WRITERS: u8 = 6;
/// Races for a name, one after the other.
const RACES: usize = 4;
/// Objects put while others list.
const AMID: usize = 24;
/// The large object: more than a multipart upload's smallest part, and no round number.
const LARGE: usize = (5 << 20) + 3;

const ACCEPTS: &str = "a put of a fresh name answers Created";
const REFUSES: &str = "a put of a taken name answers Exists and changes nothing";
const READS: &str = "get answers exactly the bytes that were put";
const RANGES: &str = "get_range answers exactly the bytes of the range";
const BEYOND: &str = "a range that ends beyond the object answers OutOfRange";
const ABSENT: &str = "reading what does not exist answers Absent";
const LISTS: &str = "a listing shows what was stored, with its size, and nothing that was deleted";
const LISTS_ONCE: &str = "a listing shows each object once, under a valid name";
const DELETES: &str = "delete removes one object, and is content when there is none";
const ONE_WINS: &str = "of several puts of one name exactly one answers Created";
const WHOLE: &str = "an object is visible whole or not at all, and never changes";
const TIDIES: &str = "tidy succeeds and disturbs no put";
const NO_PANIC: &str = "no call panics";

/// The backend on the bench, and the names used on it.
struct Bench<'b> {
    backend: &'b dyn Backend,
    /// Part of every name of this run.
    run: String,
    used: Mutex<Vec<Key>>,
}

fn broken(rule: &'static str, found: impl fmt::Display) -> Failure {
    Failure {
        rule,
        found: found.to_string(),
        source: None,
    }
}

fn ensure(holds: bool, rule: &'static str, found: impl fmt::Display) -> Result<(), Failure> {
    if holds {
        Ok(())
    } else {
        Err(broken(rule, found))
    }
}

/// An error where there should have been an answer.
fn unwelcome(rule: &'static str) -> impl Fn(BackendError) -> Failure {
    move |error| Failure {
        rule,
        found: "an error instead".to_owned(),
        source: Some(error),
    }
}

/// The error there should have been.
fn expect<T>(
    answer: Result<T, BackendError>,
    trouble: Trouble,
    rule: &'static str,
    what: impl fmt::Display,
) -> Result<(), Failure> {
    match answer {
        Ok(_) => Err(broken(rule, format!("{what} succeeded"))),
        Err(error) if error.trouble == trouble => Ok(()),
        Err(error) => Err(Failure {
            rule,
            found: format!("{what} answered {:?}", error.trouble),
            source: Some(error),
        }),
    }
}

impl<'b> Bench<'b> {
    fn new(backend: &'b dyn Backend) -> Result<Bench<'b>, Failure> {
        let mut random = [0; Uuid::LEN];
        getrandom::fill(&mut random)
            .map_err(|error| broken("the system gives random bytes", error))?;
        Ok(Bench {
            backend,
            run: Uuid(random).to_string(),
            used: Mutex::default(),
        })
    }

    /// A name of this run, deleted at the end.
    fn key(&self, area: Area, name: impl fmt::Display) -> Result<Key, Failure> {
        let key = Key::new(area, &name)
            .ok_or_else(|| broken("the suite uses valid names", format!("\"{name}\" is none")))?;
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.push(key.clone());
        Ok(key)
    }

    fn note(&self, tail: impl fmt::Display) -> Result<Key, Failure> {
        self.key(Area::Notes, format!("{}{tail}", self.run))
    }

    fn put(&self, key: &Key, bytes: &[u8]) -> Result<Put, Failure> {
        let body = Sealed::from_stored(bytes.to_vec());
        self.backend.put(key, &body).map_err(unwelcome(ACCEPTS))
    }

    fn create(&self, key: &Key, bytes: &[u8]) -> Result<(), Failure> {
        let put = self.put(key, bytes)?;
        ensure(
            put == Put::Created,
            ACCEPTS,
            format!("{key} was said to exist"),
        )
    }

    fn delete(&self, key: &Key) -> Result<(), Failure> {
        self.backend.delete(key).map_err(unwelcome(DELETES))
    }

    fn expect_bytes(&self, key: &Key, bytes: &[u8], rule: &'static str) -> Result<(), Failure> {
        let got = self.backend.get(key).map_err(unwelcome(rule))?;
        let (len, want) = (got.len(), bytes.len());
        ensure(
            got == bytes,
            rule,
            format!("{key}: {len} bytes, not the {want} expected"),
        )
    }

    fn expect_range(&self, key: &Key, body: &[u8], from: usize, len: usize) -> Result<(), Failure> {
        let want = body.iter().skip(from).take(len);
        let answer = self.backend.get_range(key, from as u64, len as u64);
        let got = answer.map_err(unwelcome(RANGES))?;
        let what = || format!("{key}: wrong answer to {len} bytes from {from} on");
        ensure(got.iter().eq(want), RANGES, what())
    }

    fn expect_absent(&self, key: &Key) -> Result<(), Failure> {
        expect(
            self.backend.get(key),
            Trouble::Absent,
            ABSENT,
            format!("get of {key}"),
        )
    }

    /// The objects of this run in an area, with their sizes.
    fn list(&self, area: Area) -> Result<BTreeMap<String, u64>, Failure> {
        let (mut found, mut wrong) = (BTreeMap::new(), None);
        let listed = self.backend.list(area, &mut |listed| {
            let valid = match area {
                Area::Config => listed.name.is_empty(),
                _ => Key::new(area, &listed.name).is_some(),
            };
            let ours = area == Area::Config || listed.name.contains(&self.run);
            if !valid || ours && found.insert(listed.name.clone(), listed.size).is_some() {
                wrong = Some(format!("\"{}\" in {}", listed.name, area.folder()));
            }
        });
        listed.map_err(unwelcome(LISTS))?;
        wrong.map_or(Ok(found), |what| Err(broken(LISTS_ONCE, what)))
    }

    fn expect_listed(&self, key: &Key, size: Option<u64>) -> Result<(), Failure> {
        let listed = self.list(key.area())?.get(key.name()).copied();
        ensure(
            listed == size,
            LISTS,
            format!("{key}: {listed:?} bytes instead of {size:?}"),
        )
    }

    /// Deletes all names of this run, and goes on when one cannot be deleted.
    fn clean(&self) -> Result<(), Failure> {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let deleted = used.iter().map(|key| self.delete(key));
        deleted.fold(Ok(()), Result::and)?;
        for area in [Area::Notes, Area::Packs] {
            let left = self.list(area)?.len();
            ensure(
                left == 0,
                LISTS,
                format!("{left} deleted objects still listed"),
            )?;
        }
        Ok(())
    }
}

fn put_once(bench: &Bench) -> Result<(), Failure> {
    let key = bench.note("-once")?;
    bench.create(&key, b"the first")?;
    for again in [
        b"the first".as_slice(),
        b"another",
        b"something much longer",
        b"",
    ] {
        let put = bench.put(&key, again)?;
        ensure(
            put == Put::Exists,
            REFUSES,
            format!("{key} was stored twice"),
        )?;
        bench.expect_bytes(&key, b"the first", REFUSES)?;
    }
    bench.delete(&key)
}

fn ranges(bench: &Bench) -> Result<(), Failure> {
    let key = bench.note("-ranges")?;
    let body: Vec<u8> = (0..=99).collect();
    bench.create(&key, &body)?;
    for (from, len) in [
        (0, 100),
        (0, 1),
        (99, 1),
        (10, 80),
        (0, 0),
        (50, 0),
        (100, 0),
    ] {
        bench.expect_range(&key, &body, from, len)?;
    }
    let beyond = [
        (0, 101),
        (99, 2),
        (100, 1),
        (101, 0),
        (5000, 10),
        (u64::MAX, u64::MAX),
        (1, u64::MAX),
    ];
    for (from, len) in beyond {
        let answer = bench.backend.get_range(&key, from, len);
        let what = format!("{len} bytes from {from} on, of 100,");
        expect(answer, Trouble::OutOfRange, BEYOND, what)?;
    }
    bench.delete(&key)
}

fn absent(bench: &Bench) -> Result<(), Failure> {
    let key = bench.note(".none")?;
    let pack = bench.key(Area::Packs, format!("{}.none", bench.run))?;
    for key in [&key, &pack] {
        bench.expect_absent(key)?;
        for (from, len) in [(0, 0), (0, 1), (7, 7)] {
            let answer = bench.backend.get_range(key, from, len);
            expect(answer, Trouble::Absent, ABSENT, format!("a range of {key}"))?;
        }
        bench.delete(key)?;
        bench.delete(key)?;
        bench.expect_listed(key, None)?;
    }
    Ok(())
}

fn listing(bench: &Bench) -> Result<(), Failure> {
    let note = |i| bench.note(format!("-listing-{i}"));
    let keys: Vec<Key> = (0..4).map(note).collect::<Result<_, _>>()?;
    for (key, size) in keys.iter().zip(1..) {
        bench.create(key, &vec![b'x'; size])?;
        bench.expect_listed(key, Some(size as u64))?;
    }
    let sizes: Vec<u64> = bench.list(Area::Notes)?.into_values().collect();
    ensure(sizes == [1, 2, 3, 4], LISTS, format!("the sizes {sizes:?}"))?;
    for key in &keys {
        bench.delete(key)?;
        bench.expect_listed(key, None)?;
        bench.expect_absent(key)?;
    }
    Ok(())
}

/// Empty, binary and large.
fn bodies(bench: &Bench) -> Result<(), Failure> {
    let binary: Vec<u8> = (0..=255).chain(*b"\r\n\0\x1a\x1f\x8b\xff\xfe").collect();
    for (tail, body) in [
        ("-empty", &Vec::new()),
        ("-binary", &binary),
        ("-large", &noise(LARGE)),
    ] {
        let key = bench.note(tail)?;
        bench.create(&key, body)?;
        bench.expect_bytes(&key, body, READS)?;
        bench.expect_listed(&key, Some(body.len() as u64))?;
        bench.expect_range(&key, body, 0, 0)?;
        bench.expect_range(&key, body, body.len() / 2, body.len() / 3)?;
        bench.expect_range(&key, body, body.len().saturating_sub(5), body.len().min(5))?;
        let end = body.len() as u64;
        let answer = bench.backend.get_range(&key, end, 1);
        expect(
            answer,
            Trouble::OutOfRange,
            BEYOND,
            format!("one byte from {end} on"),
        )?;
        bench.delete(&key)?;
    }
    Ok(())
}

/// Bytes that do not compress and repeat nowhere (Marsaglia's xorshift).
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend(words.next().unwrap_or_default());
    }
    bytes.truncate(len);
    bytes
}

/// Long names, every allowed character, and names that begin with another's name.
fn names(bench: &Bench) -> Result<(), Failure> {
    let mut long = "-abcdefghijklmnopqrstuvwxyz.0123456789".repeat(2);
    long.truncate(MAX_NAME - Uuid::LEN * 2 - 1);
    let (y, z) = (format!("{long}y"), format!("{long}z"));
    let keys = ["", ".open", ".1", ".12", "-", &y, &z].map(|tail| bench.note(tail));
    let keys = keys.into_iter().collect::<Result<Vec<Key>, _>>()?;
    for key in &keys {
        bench.expect_absent(key)?;
        bench.create(key, key.name().as_bytes())?;
    }
    let found = bench.list(Area::Notes)?;
    let all = keys.iter().all(|key| found.contains_key(key.name()));
    ensure(
        all && found.len() == keys.len(),
        LISTS,
        format!("the names {:?}", found.keys()),
    )?;
    for (gone, key) in keys.iter().enumerate() {
        bench.delete(key)?;
        bench.expect_absent(key)?;
        for other in keys.iter().skip(gone + 1) {
            bench.expect_bytes(other, other.name().as_bytes(), DELETES)?;
        }
    }
    Ok(())
}

/// Packs lie one folder deeper.
fn packs(bench: &Bench) -> Result<(), Failure> {
    let key = |prefix: &str| bench.key(Area::Packs, format!("{prefix}{}", bench.run));
    let keys = ["00", "ff", "fe", "f"]
        .map(key)
        .into_iter()
        .collect::<Result<Vec<Key>, _>>()?;
    for key in &keys {
        bench.create(key, key.name().as_bytes())?;
        let put = bench.put(key, b"again")?;
        ensure(
            put == Put::Exists,
            REFUSES,
            format!("{key} was stored twice"),
        )?;
        bench.expect_bytes(key, key.name().as_bytes(), READS)?;
    }
    let found = bench.list(Area::Packs)?;
    let size = |key: &Key| found.get(key.name()) == Some(&(key.name().len() as u64));
    let all = keys.iter().all(size);
    ensure(
        all && found.len() == keys.len(),
        LISTS,
        format!("the packs {found:?}"),
    )?;
    for key in &keys {
        bench.delete(key)?;
        bench.expect_absent(key)?;
    }
    let left = bench.list(Area::Packs)?.len();
    ensure(
        left == 0,
        LISTS,
        format!("{left} deleted packs still listed"),
    )
}

/// Every area can be listed, and the listing of `config` agrees with reading it.
fn areas(bench: &Bench) -> Result<(), Failure> {
    for area in Area::ALL {
        bench.list(area)?;
    }
    let listed = bench.list(Area::Config)?.into_values().next();
    let stored = match bench.backend.get(&Key::config()) {
        Ok(bytes) => Some(bytes.len() as u64),
        Err(error) if error.is_absent() => None,
        Err(error) => return Err(unwelcome(READS)(error)),
    };
    ensure(
        listed == stored,
        LISTS,
        format!("config: {listed:?} bytes instead of {stored:?}"),
    )
}

type Worker<'scope, T> = io::Result<ScopedJoinHandle<'scope, Result<T, Failure>>>;

fn spawn<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> Result<T, Failure> + Send + 'scope,
) -> Worker<'scope, T> {
    thread::Builder::new().spawn_scoped(scope, work)
}

fn join<T>(worker: Worker<'_, T>) -> Result<T, Failure> {
    let worker = worker.map_err(|error| broken("the system starts threads", error))?;
    let joined = worker.join();
    joined.unwrap_or_else(|_| Err(broken(NO_PANIC, "a thread that called it panicked")))
}

fn races(bench: &Bench) -> Result<(), Failure> {
    (0..RACES).try_for_each(|race| one_race(bench, &bench.note(format!("-race-{race}"))?))
}

fn one_race(bench: &Bench, key: &Key) -> Result<(), Failure> {
    let body = |writer: u8| vec![writer; 64 * 1024 + usize::from(writer)];
    let bodies: Vec<Vec<u8>> = (0..WRITERS).map(body).collect();
    let (go, over) = (AtomicBool::new(false), AtomicBool::new(false));
    let race = |body: &Vec<u8>| {
        while !go.load(Ordering::Acquire) {
            thread::yield_now();
        }
        bench.put(key, body)
    };
    let (puts, watched) = thread::scope(|scope| {
        let watch = || watch(bench, key, &bodies, &over);
        let readers = [spawn(scope, watch), spawn(scope, watch)];
        let writers: Vec<_> = bodies
            .iter()
            .map(|body| spawn(scope, || race(body)))
            .collect();
        go.store(true, Ordering::Release);
        let puts: Vec<_> = writers.into_iter().map(join).collect();
        over.store(true, Ordering::Release);
        (puts, readers.map(join))
    });
    let puts = puts.into_iter().collect::<Result<Vec<Put>, _>>()?;
    let mut winners = bodies
        .iter()
        .zip(&puts)
        .filter(|(_, put)| **put == Put::Created);
    let winner = winners.next();
    let created = puts.iter().filter(|put| **put == Put::Created).count();
    ensure(created == 1, ONE_WINS, format!("{created} did"))?;
    watched.into_iter().try_for_each(|watched| watched)?;
    winner.map_or(Ok(()), |(body, _)| bench.expect_bytes(key, body, ONE_WINS))?;
    bench.delete(key)
}

/// Reads one name over and over until the race is over, and once more.
fn watch(bench: &Bench, key: &Key, bodies: &[Vec<u8>], over: &AtomicBool) -> Result<(), Failure> {
    let mut seen = None;
    loop {
        let last = over.load(Ordering::Acquire);
        match bench.backend.get(key) {
            Ok(bytes) => {
                let now = bodies.iter().position(|body| *body == bytes);
                let len = bytes.len();
                ensure(
                    now.is_some(),
                    WHOLE,
                    format!("{key} had {len} bytes nobody put"),
                )?;
                ensure(
                    seen.is_none() || seen == now,
                    WHOLE,
                    format!("{key} changed"),
                )?;
                seen = now;
            }
            Err(error) if error.is_absent() => {
                ensure(
                    seen.is_none(),
                    WHOLE,
                    format!("{key} was there and vanished"),
                )?;
            }
            Err(error) => return Err(unwelcome(WHOLE)(error)),
        }
        if last {
            return Ok(());
        }
        thread::yield_now();
    }
}

/// What was acknowledged before a listing began is in it, whatever else goes on meanwhile.
fn list_amid_puts(bench: &Bench) -> Result<(), Failure> {
    let keys: Vec<Key> = (0..AMID)
        .map(|i| bench.note(format!("-amid-{i}")))
        .collect::<Result<_, _>>()?;
    let (acknowledged, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let put_all = || {
        keys.iter().zip(1..).try_for_each(|(key, size)| {
            bench.create(key, &vec![b'y'; size])?;
            acknowledged.store(size, Ordering::Release);
            Ok(())
        })
    };
    let tidy = || {
        loop {
            let last = over.load(Ordering::Acquire);
            bench.backend.tidy().map_err(unwelcome(TIDIES))?;
            if last {
                return Ok(());
            }
            thread::yield_now();
        }
    };
    let list = || {
        loop {
            let last = over.load(Ordering::Acquire);
            let before = acknowledged.load(Ordering::Acquire);
            let found = bench.list(Area::Notes)?;
            for (i, (key, size)) in keys.iter().zip(1..).enumerate() {
                let shown = found.get(key.name()).copied();
                let fine = shown == Some(size) || shown.is_none() && i >= before;
                ensure(
                    fine,
                    LISTS,
                    format!("{key}: {shown:?} bytes, {before} objects stored"),
                )?;
            }
            if last {
                return Ok(());
            }
        }
    };
    thread::scope(|scope| {
        let (lister, tidier) = (spawn(scope, list), spawn(scope, tidy));
        let put = join(spawn(scope, put_all));
        over.store(true, Ordering::Release);
        put.and(join(lister)).and(join(tidier))
    })?;
    keys.iter().try_for_each(|key| bench.delete(key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Listed, Memory};

    /// A backend that breaks one rule.
    struct Bad(Memory, &'static str);

    impl Backend for Bad {
        fn list(&self, area: Area, each: &mut dyn FnMut(Listed)) -> Result<(), BackendError> {
            self.0.list(area, &mut |listed| {
                if self.1 == LISTS_ONCE {
                    each(listed.clone());
                }
                let size = listed.size + u64::from(self.1 == LISTS);
                each(Listed { size, ..listed });
            })
        }
        fn get(&self, key: &Key) -> Result<Vec<u8>, BackendError> {
            match self.0.get(key) {
                Err(_) if self.1 == ABSENT => Ok(Vec::new()),
                Ok(bytes) if self.1 == READS && bytes.len() > 256 => Ok(bytes
                    .into_iter()
                    .map(|b| if b == b'\r' { b'\n' } else { b })
                    .collect()),
                Ok(bytes) if self.1 == WHOLE && (64 << 10..65 << 10).contains(&bytes.len()) => {
                    Ok(bytes.into_iter().skip(9).collect())
                }
                answer => answer,
            }
        }
        fn get_range(&self, key: &Key, from: u64, len: u64) -> Result<Vec<u8>, BackendError> {
            match self.1 {
                RANGES => self.0.get_range(key, from, len.saturating_sub(1)),
                BEYOND if from <= 100 && len == 101 => self.0.get(key),
                _ => self.0.get_range(key, from, len),
            }
        }
        fn put(&self, key: &Key, body: &Sealed) -> Result<Put, BackendError> {
            match self.1 {
                REFUSES => {
                    let answer = self.0.put(key, body);
                    self.0.replace(key, body.to_vec().unwrap());
                    answer
                }
                ONE_WINS if body.len() > 64 * 1024 && body.len() < LARGE as u64 => {
                    self.0.put(key, body).map(|_| Put::Created)
                }
                NO_PANIC if body.len() == 64 * 1024 + 3 => panic!("for the test"),
                _ => self.0.put(key, body),
            }
        }
        fn delete(&self, key: &Key) -> Result<(), BackendError> {
            if self.1 == DELETES && key.name().ends_with(".none") {
                return self.0.get(key).map(drop);
            }
            self.0.delete(key)
        }
        fn location(&self) -> String {
            self.0.location()
        }
        fn tidy(&self) -> Result<(), BackendError> {
            match self.1 {
                TIDIES => self.0.get(&Key::config()).map(drop),
                _ => Ok(()),
            }
        }
    }

    #[test]
    fn a_broken_rule_is_named() {
        for rule in [
            REFUSES, READS, RANGES, BEYOND, ABSENT, LISTS, LISTS_ONCE, DELETES, ONE_WINS, WHOLE,
            TIDIES, NO_PANIC,
        ] {
            let failure = check(&Bad(Memory::new(), rule)).expect_err(rule);
            assert_eq!(failure.rule, rule, "{failure}");
        }
    }

    #[test]
    fn it_cleans_up_after_a_failure_too() {
        for rule in [RANGES, ABSENT, READS, WHOLE] {
            let memory = Memory::new();
            check(&Bad(memory.clone(), rule)).unwrap_err();
            assert_eq!(memory.object_count(), 0, "{rule}");
        }
    }
}

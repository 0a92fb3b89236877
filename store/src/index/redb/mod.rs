//! [`RedbIndex`]: the index as a redb file that several processes share.
//!
//! It never answers wrongly: what it returns is verified by keyed checks, what it does not find
//! is verified to be absent, and everything else is an [`IndexError`], upon which
//! [`RedbIndex::open_newer`] starts another file. It does not repair, and says nothing of damage
//! to the repository.
//!
//! A look-up sees at least everything that this handle applied, and what other processes applied
//! until a second before; [`RedbIndex::refresh`], [`Index::applied`] and [`Index::packs`] look
//! anew.

mod filter;
mod guard;
mod lock;
mod open;
mod read;
mod rows;
mod verify;
mod write;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use ::redb::{Database, ReadOnlyDatabase, ReadableDatabase, TransactionError, WriteTransaction};

use self::filter::Filter;
pub use self::open::{Opened, RedbOptions};
use self::read::{Checks, View};
use self::rows::Checker;
use self::verify::Verified;
use super::{Applied, Apply, Found, Index, IndexError, KnownPack, Load};
use crate::id::{BaseRef, ChunkId};

/// How long look-ups use one read transaction. It keeps pages from being used again, and hides
/// what other processes apply meanwhile; beginning another costs some microseconds.
const VIEW_AGE: Duration = Duration::from_secs(1);

/// From how many rows on an apply is followed by an empty commit. redb uses the pages that a commit
/// frees only from the second commit after it on: applying 64 k scattered rows again and again to
/// a million takes 400 MB without this, 275 MB with it.
const RECLAIM_ROWS: usize = 4096;

/// How often a load that has begun waits for another process that writes.
const MAX_BUSY: u32 = 30;

/// An open index file. See the module for what it promises.
pub struct RedbIndex {
    /// `None` only while being dropped.
    database: Option<Handle>,
    view: RwLock<Option<Arc<View>>>,
    checker: Checker,
    /// `None` until it is first looked at.
    verified: Mutex<Option<Arc<Verified>>>,
    filter: RwLock<Option<Arc<Filter>>>,
    /// Look-ups in vain since the filter was last thought of.
    misses: AtomicU32,
    wait: Duration,
    /// Set by a panic or a failed check: the file is not to be trusted any more.
    broken: AtomicBool,
    path: PathBuf,
    number: u64,
}

enum Handle {
    Writer(Database),
    /// Another process was in a write transaction all the time that we tried to open.
    Reader(ReadOnlyDatabase),
}

/// Why something did not work.
#[derive(Debug)]
enum Fail {
    /// The file is at fault and done with.
    Broken(String),
    /// The file is well.
    Refused(String),
}

impl Fail {
    fn broken(text: &str) -> Fail {
        Fail::Broken(text.to_owned())
    }

    fn check() -> Fail {
        Fail::broken("a check does not hold")
    }

    fn rows() -> Fail {
        Fail::broken("rows are missing or damaged")
    }
}

impl<E: Into<::redb::Error>> From<E> for Fail {
    fn from(error: E) -> Fail {
        Fail::Broken(error.into().to_string())
    }
}

impl From<Fail> for IndexError {
    fn from(fail: Fail) -> IndexError {
        match fail {
            Fail::Broken(text) | Fail::Refused(text) => IndexError(text),
        }
    }
}

impl RedbIndex {
    /// The file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The `n` of `index-<n>.redb`, 0 for a file of another name.
    pub fn file_number(&self) -> u64 {
        self.number
    }

    /// Makes look-ups see what other processes have applied until now.
    ///
    /// # Errors
    /// When the cache is unusable.
    pub fn refresh(&self) -> Result<(), IndexError> {
        self.run(|| {
            self.forget_view();
            Ok(())
        })
    }

    /// Runs what may panic; nothing runs any more once the file is found broken.
    fn run<T>(&self, call: impl FnOnce() -> Result<T, Fail>) -> Result<T, IndexError> {
        if self.broken.load(Ordering::Acquire) {
            return Err(IndexError("it was found damaged before".into()));
        }
        let result = guard::catch(call).unwrap_or_else(|panic| Err(Fail::Broken(panic)));
        if let Err(Fail::Broken(_)) = result {
            self.broken.store(true, Ordering::Release);
        }
        Ok(result?)
    }

    fn read<T>(
        &self,
        call: impl FnOnce(&View, &Checks<'_>) -> Result<T, Fail>,
    ) -> Result<T, IndexError> {
        self.run(|| {
            let view = self.view()?;
            let checks = Checks {
                checker: &self.checker,
                verified: &view.verified,
            };
            call(&view, &checks)
        })
    }

    fn view(&self) -> Result<Arc<View>, Fail> {
        {
            let view = self.view.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(view) = view.as_ref().filter(|view| view.since.elapsed() < VIEW_AGE) {
                return Ok(Arc::clone(view));
            }
        }
        let txn = match &self.database {
            Some(Handle::Writer(database)) => database.begin_read()?,
            Some(Handle::Reader(database)) => database.begin_read()?,
            None => return Err(Fail::broken("it is closed")),
        };
        let new = Arc::new(View::new(&txn, &self.checker, |rows| self.verified(rows))?);
        let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
        *view = Some(Arc::clone(&new));
        Ok(new)
    }

    /// What was verified; all anew when the index has grown to so many rows that it does not suit.
    fn verified(&self, rows: u32) -> Arc<Verified> {
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        let known = verified.take().filter(|known| known.suits(rows));
        let known = known.unwrap_or_else(|| Arc::new(Verified::new(rows)));
        Arc::clone(verified.insert(known))
    }

    fn forget_view(&self) {
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn filter(&self) -> Option<Arc<Filter>> {
        let filter = self.filter.read().unwrap_or_else(PoisonError::into_inner);
        filter.clone()
    }

    /// Whether a filter answers for the file as it is now.
    #[cfg(test)]
    pub(crate) fn is_filtered(&self) -> bool {
        let is_of = |view: &View| self.filter().is_some_and(|f| f.is_of(&view.state));
        self.read(|view, _| Ok(is_of(view))).unwrap_or(false)
    }

    /// Counts a look-up in vain, and makes a filter when that costs no more than they did.
    fn missed(&self, view: &View, checks: &Checks<'_>) -> Result<(), Fail> {
        let misses = self.misses.fetch_add(1, Ordering::Relaxed) + 1;
        let begin = |n| {
            self.misses
                .compare_exchange(n, 0, Ordering::Relaxed, Ordering::Relaxed)
        };
        // One thread makes it; meanwhile the others ask the file.
        if misses >= filter::worth(&view.state) && begin(misses).is_ok() {
            let made = Arc::new(view.filter(checks)?);
            *self.filter.write().unwrap_or_else(PoisonError::into_inner) = Some(made);
        }
        Ok(())
    }

    /// Begins to write; `None` when another does for longer than we wait.
    fn begin(&self) -> Result<Option<WriteTransaction>, Fail> {
        let Some(Handle::Writer(database)) = &self.database else {
            return Ok(None);
        };
        let start = Instant::now();
        loop {
            match database.try_begin_write() {
                Ok(txn) => return Ok(Some(txn)),
                Err(TransactionError::WouldBlock) if start.elapsed() >= self.wait => {
                    return Ok(None);
                }
                Err(TransactionError::WouldBlock) => std::thread::sleep(lock::RETRY),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Runs `change` in a write transaction and commits it when it says so. The transaction is
    /// begun, used and ended in three guarded steps, so that no panic unwinds through its drop.
    fn write(
        &self,
        change: impl FnOnce(&WriteTransaction) -> Result<bool, Fail>,
    ) -> Result<Apply, IndexError> {
        // Our own view would keep pages from being used again.
        self.refresh()?;
        let Some(txn) = self.run(|| self.begin())? else {
            return Ok(Apply::Busy);
        };
        let changed = self.run(|| change(&txn));
        let ended = guard::catch(|| match changed {
            Ok(true) => txn.commit().map_err(Fail::from),
            _ => txn.abort().map_err(Fail::from),
        });
        changed?;
        self.run(|| ended.unwrap_or_else(|panic| Err(Fail::Broken(panic))))?;
        self.refresh()?;
        Ok(Apply::Done)
    }

    /// Lets the pages that the last commit freed be used again. Not needed, so it waits for nobody.
    fn reclaim(&self) -> Result<(), IndexError> {
        let Some(Handle::Writer(database)) = &self.database else {
            return Ok(());
        };
        let begun = self.run(|| match database.try_begin_write() {
            Err(TransactionError::WouldBlock) => Ok(None),
            begun => Ok(Some(begun?)),
        })?;
        match begun {
            Some(txn) => self.run(|| Ok(txn.commit()?)),
            None => Ok(()),
        }
    }
}

impl Index for RedbIndex {
    fn applied(&self) -> Result<Vec<Applied>, IndexError> {
        self.refresh()?;
        self.read(|view, checks| view.applied(checks.checker))
    }

    fn load(&self, load: &mut dyn Load) -> Result<Apply, IndexError> {
        let mut run = write::Run::new(load);
        let mut busy = 0;
        while !run.done {
            let filter = self.filter();
            let verified = self.run(|| Ok(Arc::clone(&self.view()?.verified)))?;
            let checks = (&self.checker, &*verified);
            let step = self.write(|txn| run.step(txn, checks, filter.as_ref()))?;
            if step == Apply::Busy && (run.rows == 0 || busy == MAX_BUSY) {
                return Ok(Apply::Busy);
            }
            busy += u32::from(step == Apply::Busy);
            if let (Some(filter), Some(state)) = (filter, run.filtered.take()) {
                filter.reaches(&state);
            }
        }
        if run.rows >= RECLAIM_ROWS {
            self.reclaim()?;
        }
        Ok(Apply::Done)
    }

    fn find(&self, id: &ChunkId) -> Result<Option<Found>, IndexError> {
        self.read(|view, checks| {
            let filter = self.filter();
            let filter = filter.filter(|f| f.is_of(&view.state));
            if filter.as_ref().is_some_and(|f| !f.may_have(id)) {
                return Ok(None);
            }
            let found = view.find(checks, &id.0)?.pop();
            if found.is_none() && filter.is_none_or(|f| f.is_full()) {
                self.missed(view, checks)?;
            }
            Ok(found)
        })
    }

    fn find_some(&self, id: &ChunkId) -> Result<Option<Found>, IndexError> {
        let found = self.read(|view, checks| {
            let filter = self.filter().filter(|f| f.is_of(&view.state));
            if filter.is_some_and(|f| !f.may_have(id)) {
                return Ok(None);
            }
            Ok(view.find_some(checks, &id.0)?.pop())
        })?;
        // That there is none is for `find` to say.
        found.map_or_else(|| self.find(id), |found| Ok(Some(found)))
    }

    fn find_base(&self, base: &BaseRef) -> Result<Vec<Found>, IndexError> {
        self.read(|view, checks| view.find(checks, &base.0))
    }

    fn scan(&self, after: Option<&ChunkId>, limit: usize) -> Result<Vec<Found>, IndexError> {
        self.read(|view, checks| view.scan(checks, after, limit))
    }

    fn packs(&self) -> Result<Vec<KnownPack>, IndexError> {
        self.refresh()?;
        self.read(|view, checks| view.packs(checks.checker))
    }

    fn generation(&self) -> Result<u64, IndexError> {
        self.refresh()?;
        self.read(|view, _| Ok(view.state.generation))
    }

    fn clear(&self) -> Result<(), IndexError> {
        let generation = open::random()?;
        let cleared = self.write(|txn| {
            let state = write::state(txn, &self.checker)?;
            write::reset(txn, &self.checker, state.identity, generation)?;
            Ok(true)
        })?;
        match cleared {
            Apply::Done => self.reclaim(),
            Apply::Busy => Err(IndexError("another process is writing to it".into())),
        }
    }
}

impl Drop for RedbIndex {
    fn drop(&mut self) {
        // A damaged file may make redb panic when it closes; there is nobody to tell.
        let _ = guard::catch(|| self.forget_view());
        let database = self.database.take();
        let _ = guard::catch(|| drop(database));
    }
}

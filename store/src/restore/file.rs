//! One file on its way: what of it stands in the target already, what is written, how it ends.
//!
//! Nothing is written into a file that stands there. A new one begins beside it, as one that shares
//! its room where the file system can do that, and takes over the ranges that are right.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use crate::entry::{Content, Entry};
use crate::error::AccessError;
use crate::monitor::Counters;
use crate::target::{Existing, Target, TargetError, TargetFile};

/// Smaller files are not worth the calls that sharing takes.
const SHARE_FROM: u64 = 1 << 20;
/// Bytes copied, or looked at for zeros, in one go.
const PIECE: usize = 256 << 10;
/// Zeros become holes in pieces of so many bytes, at multiples of it: what file systems can leave
/// out.
const GRAIN: usize = 4096;

/// A file that is compared or written.
pub(super) struct FileJob {
    pub entry: Entry,
    state: RwLock<State>,
    existing: Mutex<Seen>,
    /// Parts that are planned and not dealt with, plus one until the last is planned.
    pub remaining: AtomicU64,
    pub failed: AtomicBool,
    /// What stands there has other bytes somewhere.
    pub differs: AtomicBool,
    /// Ranges of what stands there that are right.
    same: Mutex<Ranges>,
    /// Ranges that are holes, and other bytes in what stands there.
    holes: Mutex<Ranges>,
}

/// How far a file is.
enum State {
    NotYet,
    Open(Box<dyn TargetFile>),
    /// Began with the bytes of what stood there.
    Shared(Box<dyn TargetFile>),
    Gone,
}

/// What stands in a file's place.
enum Seen {
    NotYet,
    Nothing,
    File(Arc<dyn Existing>),
}

/// Ranges of a file: start and end.
#[derive(Debug, Default)]
pub(super) struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    fn add(&mut self, offset: u64, len: u64) {
        let end = offset.saturating_add(len);
        match self.0.last_mut().filter(|(_, last)| *last == offset) {
            Some(last) => last.1 = end,
            None => self.0.push((offset, end)),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FileJob {
    pub fn new(entry: Entry) -> FileJob {
        FileJob {
            entry,
            state: RwLock::new(State::NotYet),
            existing: Mutex::new(Seen::NotYet),
            remaining: AtomicU64::new(1),
            failed: AtomicBool::new(false),
            differs: AtomicBool::new(false),
            same: Mutex::default(),
            holes: Mutex::default(),
        }
    }

    /// The file that stands there.
    pub fn existing(&self, target: &dyn Target) -> Option<Arc<dyn Existing>> {
        let mut seen = lock(&self.existing);
        if let Seen::NotYet = *seen {
            *seen = match target.existing(&self.entry) {
                Some(file) => Seen::File(Arc::from(file)),
                None => Seen::Nothing,
            };
        }
        match &*seen {
            Seen::File(file) => Some(Arc::clone(file)),
            _ => None,
        }
    }

    /// Closes what stands there unless something of it is taken over: many files may wait.
    pub fn let_go(&self) {
        let mut seen = lock(&self.existing);
        if let Seen::File(_) = *seen
            && lock(&self.same).0.is_empty()
        {
            *seen = Seen::NotYet;
        }
    }

    /// A range of what stands there is right. `false` when others of its ranges were found right in
    /// another file, which has been replaced since.
    pub fn same(&self, existing: &Arc<dyn Existing>, offset: u64, len: u64) -> bool {
        let mut seen = lock(&self.existing);
        if let Seen::File(first) = &*seen
            && !Arc::ptr_eq(first, existing)
        {
            return false;
        }
        *seen = Seen::File(Arc::clone(existing));
        lock(&self.same).add(offset, len);
        true
    }

    /// A range is a hole that is not in what stands there.
    pub fn hole(&self, offset: u64, len: u64) {
        self.differs.store(true, Ordering::Release);
        lock(&self.holes).add(offset, len);
    }

    /// Whether what stands there has exactly the bytes of the entry, after all of its parts were
    /// compared.
    pub fn is_held(&self, existing: &dyn Existing) -> bool {
        if self.differs.load(Ordering::Acquire) || existing.size() != self.entry.meta.size {
            return false;
        }
        let Content::Inline(bytes) = &self.entry.content else {
            return true;
        };
        let mut there = vec![0; bytes.len()];
        existing.read_at(0, &mut there).is_ok() && there == *bytes
    }

    /// Makes the new file if nobody has yet; `false` when somebody failed to.
    pub fn create(&self, target: &dyn Target) -> Result<bool, TargetError> {
        if let Ok(state) = self.state.read()
            && let State::Open(_) | State::Shared(_) = *state
        {
            return Ok(true);
        }
        let Ok(mut state) = self.state.write() else {
            return Ok(false);
        };
        if let State::NotYet = *state {
            *state = State::Gone;
            let shared = self.worth_sharing().and_then(|existing| existing.share());
            *state = match shared {
                Some(file) => State::Shared(file),
                None => State::Open(target.create(&self.entry)?),
            };
        }
        Ok(!matches!(*state, State::Gone))
    }

    fn worth_sharing(&self) -> Option<Arc<dyn Existing>> {
        if self.entry.meta.size < SHARE_FROM || lock(&self.same).0.is_empty() {
            return None;
        }
        match &*lock(&self.existing) {
            Seen::File(existing) => Some(Arc::clone(existing)),
            _ => None,
        }
    }

    /// Writes a range of the new file.
    pub fn write(&self, offset: u64, bytes: &[u8], sparse: bool) -> io::Result<()> {
        let Ok(state) = self.state.read() else {
            return Ok(());
        };
        match &*state {
            State::Open(file) if sparse => write_sparse(&**file, offset, bytes),
            State::Shared(file) if sparse => {
                file.clear(offset, bytes.len() as u64)?;
                write_sparse(&**file, offset, bytes)
            }
            State::Open(file) | State::Shared(file) => file.write_at(offset, bytes),
            State::NotYet | State::Gone => Ok(()),
        }
    }

    /// Takes the new file, complete but for length, metadata and name; `None` when it is gone.
    pub fn complete(
        &self,
        counters: &Counters,
        sparse: bool,
    ) -> io::Result<Option<Box<dyn TargetFile>>> {
        let Ok(mut state) = self.state.write() else {
            return Ok(None);
        };
        let (file, is_shared) = match std::mem::replace(&mut *state, State::Gone) {
            State::Open(file) => (file, false),
            State::Shared(file) => (file, true),
            State::NotYet | State::Gone => return Ok(None),
        };
        if let Content::Inline(bytes) = &self.entry.content {
            file.write_at(0, bytes)?;
            Counters::add(&counters.bytes, bytes.len() as u64);
        }
        if is_shared {
            for (start, end) in &lock(&self.holes).0 {
                file.clear(*start, end - start)?;
            }
        }
        let same = std::mem::take(&mut *lock(&self.same));
        if let Seen::File(existing) = &*lock(&self.existing)
            && !same.0.is_empty()
        {
            if !is_shared {
                copy(&**existing, &*file, &same, sparse)?;
            }
            if !existing.is_unchanged() {
                return Err(io::Error::other("somebody else changed it meanwhile"));
            }
        }
        Ok(Some(file))
    }
}

/// Copies ranges that are right.
fn copy(from: &dyn Existing, to: &dyn TargetFile, same: &Ranges, sparse: bool) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    for (start, end) in &same.0 {
        let mut at = *start;
        while at < *end {
            let len = (end - at).min(PIECE as u64);
            let part = piece.get_mut(..len as usize).unwrap_or_default();
            from.read_at(at, part)?;
            match sparse {
                true => write_sparse(to, at, part)?,
                false => to.write_at(at, part)?,
            }
            at += len;
        }
    }
    Ok(())
}

/// Writes what is not zero; the rest was never written and reads as zeros.
fn write_sparse(file: &dyn TargetFile, offset: u64, bytes: &[u8]) -> io::Result<()> {
    // Bytes up to the first multiple.
    let lead = (GRAIN as u64 - offset % GRAIN as u64) % GRAIN as u64;
    let (first, rest) = bytes.split_at((lead as usize).min(bytes.len()));
    let grains = std::iter::once(first).chain(rest.chunks(GRAIN));
    let (mut at, mut run) = (0usize, 0usize);
    for grain in grains {
        if is_zeros(grain) {
            put(file, offset, bytes, run..at)?;
            run = at + grain.len();
        }
        at += grain.len();
    }
    put(file, offset, bytes, run..at)
}

fn put(
    file: &dyn TargetFile,
    offset: u64,
    bytes: &[u8],
    range: std::ops::Range<usize>,
) -> io::Result<()> {
    let at = offset + range.start as u64;
    match bytes.get(range) {
        None | Some([]) => Ok(()),
        Some(part) => file.write_at(at, part),
    }
}

/// Whether there is nothing but zeros.
pub(super) fn is_zeros(bytes: &[u8]) -> bool {
    bytes.iter().all(|b| *b == 0)
}

/// Whether what stands there reads as zeros over a range.
pub(super) fn reads_zeros(existing: &dyn Existing, offset: u64, len: u64) -> bool {
    if existing.is_hole(offset, len) {
        return true;
    }
    let mut piece = vec![0; PIECE];
    let (mut at, end) = (offset, offset.saturating_add(len));
    while at < end {
        let len = (end - at).min(PIECE as u64);
        let part = piece.get_mut(..len as usize).unwrap_or_default();
        if existing.read_at(at, part).is_err() || !is_zeros(part) {
            return false;
        }
        at += len;
    }
    true
}

/// A file whose parts do not add up to its size.
pub(super) fn unequal(entry: &Entry) -> AccessError {
    let path = String::from_utf8_lossy(&entry.path).into_owned();
    AccessError::damaged(path, "its parts do not add up to its size")
}

//! A file for redb whose one unbounded wait has a limit.
//!
//! In `ConcurrencyMode::MultiWriter` opening a database waits for the "writer byte" until the
//! write transaction of another process ends, however long that takes (a stopped process holds
//! it for ever). This wrapper tries for a given time instead and then fails with `WouldBlock`.
//! All else is handed through.

use std::io;
use std::ops::Bound;
use std::time::{Duration, Instant};

use ::redb::backends::FileBackend;
use ::redb::{BackendError, StorageBackend};

/// redb's "writer byte" (its design page, "Lock bytes").
const WRITER_BYTE: u64 = 1 << 62;
/// How long to sleep between two tries.
pub(super) const RETRY: Duration = Duration::from_millis(5);

/// See the module.
#[derive(Debug)]
pub(super) struct PatientFile {
    pub(super) file: FileBackend,
    pub(super) wait: Duration,
}

impl StorageBackend for PatientFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        if start != Bound::Included(WRITER_BYTE) {
            return self.file.lock_range(start, end);
        }
        let begin = Instant::now();
        while !self.file.try_lock_range(start, end)? {
            if begin.elapsed() >= self.wait {
                return Err(BackendError::Io(io::ErrorKind::WouldBlock.into()));
            }
            std::thread::sleep(RETRY);
        }
        Ok(())
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}

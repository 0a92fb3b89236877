//! Bandwidth limits: a backend whose packs and segments come and go no faster than over a line of
//! so many bytes a second.
//!
//! Small objects pass freely, as they are nothing beside packs, and a heartbeat must not wait for
//! one. It slows calls down after they were carried out; it repeats and splits none.

use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{Area, Backend, BackendError, Key, Listed, Put, Reserve};
use crate::sealed::Sealed;

/// Measures time and lets it pass.
pub trait Pace: Send + Sync {
    /// Time since some moment; it never goes back.
    fn elapsed(&self) -> Duration;

    /// Comes back after so long.
    fn wait(&self, time: Duration);
}

/// Bytes a second; `None`: no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Into the repository.
    pub upload: Option<NonZeroU64>,
    /// Out of it.
    pub download: Option<NonZeroU64>,
}

/// A backend that is limited.
pub struct Throttled<B> {
    inner: B,
    pace: Arc<dyn Pace>,
    upload: Line,
    download: Line,
}

/// One direction. Transfers take their turns on it, whatever thread they are of.
struct Line {
    rate: Option<NonZeroU64>,
    /// When all that was sent so far would be through.
    free: Mutex<Duration>,
}

impl Line {
    fn new(rate: Option<NonZeroU64>) -> Line {
        Line {
            rate,
            free: Mutex::default(),
        }
    }

    /// Waits until so many bytes would be through.
    fn pass(&self, pace: &dyn Pace, bytes: u64) {
        let Some(rate) = self.rate else { return };
        let now = pace.elapsed();
        let through = {
            let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
            let took = Duration::from_secs_f64(bytes as f64 / rate.get() as f64);
            *free = now.max(*free).saturating_add(took);
            *free
        };
        let left = through.saturating_sub(now);
        if !left.is_zero() {
            pace.wait(left);
        }
    }
}

impl<B> Throttled<B> {
    /// Limits a backend.
    pub fn new(inner: B, limits: Limits, pace: Arc<dyn Pace>) -> Throttled<B> {
        Throttled {
            inner,
            pace,
            upload: Line::new(limits.upload),
            download: Line::new(limits.download),
        }
    }

    fn came(&self, key: &Key, answer: &Result<Vec<u8>, BackendError>) {
        if is_large(key)
            && let Ok(bytes) = answer
        {
            self.download.pass(&*self.pace, bytes.len() as u64);
        }
    }
}

/// Whether an object is of a kind that grows large.
fn is_large(key: &Key) -> bool {
    matches!(key.area(), Area::Packs | Area::Index)
}

impl<B: Backend> Backend for Throttled<B> {
    fn list(&self, area: Area, each: &mut dyn FnMut(Listed)) -> Result<(), BackendError> {
        self.inner.list(area, each)
    }

    fn get(&self, key: &Key) -> Result<Vec<u8>, BackendError> {
        let answer = self.inner.get(key);
        self.came(key, &answer);
        answer
    }

    fn get_range(&self, key: &Key, offset: u64, len: u64) -> Result<Vec<u8>, BackendError> {
        let answer = self.inner.get_range(key, offset, len);
        self.came(key, &answer);
        answer
    }

    fn put(&self, key: &Key, body: &Sealed) -> Result<Put, BackendError> {
        let answer = self.inner.put(key, body);
        // A refused one was sent as well.
        if is_large(key) {
            self.upload.pass(&*self.pace, body.len());
        }
        answer
    }

    fn delete(&self, key: &Key) -> Result<(), BackendError> {
        self.inner.delete(key)
    }

    fn location(&self) -> String {
        self.inner.location()
    }

    fn tidy(&self) -> Result<(), BackendError> {
        self.inner.tidy()
    }

    fn reserve(&self, wish: Reserve) -> Result<bool, BackendError> {
        self.inner.reserve(wish)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Memory, conformance};

    /// Time that passes only by waiting.
    #[derive(Default)]
    struct Stub(Mutex<Duration>);

    impl Pace for Stub {
        fn elapsed(&self) -> Duration {
            *self.0.lock().unwrap()
        }

        fn wait(&self, time: Duration) {
            *self.0.lock().unwrap() += time;
        }
    }

    fn limited(upload: u64, download: u64) -> (Arc<Stub>, Throttled<Memory>) {
        let pace = Arc::new(Stub::default());
        let limits = Limits {
            upload: NonZeroU64::new(upload),
            download: NonZeroU64::new(download),
        };
        let throttled = Throttled::new(Memory::new(), limits, pace.clone());
        (pace, throttled)
    }

    #[test]
    fn conforms() {
        let (_, throttled) = limited(1000, 1000);
        conformance::check(&throttled).unwrap();
    }

    #[test]
    fn packs_take_their_time_and_small_objects_none() {
        let (pace, backend) = limited(100, 1000);
        let seconds = || pace.elapsed().as_secs_f64();
        let body = Sealed::from_stored(vec![7; 500]);
        let pack = Key::new(Area::Packs, "a").unwrap();
        let session = Key::new(Area::Sessions, "a").unwrap();
        backend.put(&pack, &body).unwrap();
        assert_eq!(seconds(), 5.0);
        backend.put(&session, &body).unwrap();
        backend.get(&session).unwrap();
        assert_eq!(seconds(), 5.0);
        backend.get(&pack).unwrap();
        assert_eq!(seconds(), 5.5);
        backend.get_range(&pack, 0, 100).unwrap();
        assert_eq!(seconds(), 5.6);
        // Time that passed without a transfer is not saved up.
        pace.wait(Duration::from_secs(100));
        backend.put(&pack, &body).unwrap();
        assert_eq!(seconds(), 110.6);
    }

    #[test]
    fn threads_share_the_line() {
        let (_, backend) = limited(100, 0);
        // Nobody's time passes: each is told to wait for those before it too.
        struct Still(Mutex<Vec<Duration>>);
        impl Pace for Still {
            fn elapsed(&self) -> Duration {
                Duration::ZERO
            }
            fn wait(&self, time: Duration) {
                self.0.lock().unwrap().push(time);
            }
        }
        let still = Still(Mutex::default());
        for _ in 0..3 {
            backend.upload.pass(&still, 200);
        }
        let waited: Vec<u64> = still
            .0
            .lock()
            .unwrap()
            .iter()
            .map(Duration::as_secs)
            .collect();
        assert_eq!(waited, [2, 4, 6]);
        backend.download.pass(&still, 1 << 40);
        assert_eq!(still.0.lock().unwrap().len(), 3, "no limit");
    }
}

//! Time, handed to the core from outside.

/// A moment: seconds since 1970 in UTC, and nanoseconds below one second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp {
    /// Seconds since 1970-01-01T00:00:00Z; negative before.
    pub seconds: i64,
    /// 0 … 999,999,999.
    pub nanos: u32,
}

impl Timestamp {
    /// Whole seconds from `earlier` to this moment; 0 when that lies in the future.
    pub fn seconds_since(self, earlier: Timestamp) -> u64 {
        u64::try_from(self.seconds.saturating_sub(earlier.seconds)).unwrap_or(0)
    }
}

/// Tells the time. No safety decision depends on what it says.
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> Timestamp;
}

/// A clock that stands still, for tests and for `--time`.
#[derive(Debug, Clone, Copy)]
pub struct FixedClock(pub Timestamp);

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        self.0
    }
}

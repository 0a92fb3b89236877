//! How fast, and how often again: a clock that tests can turn, growing pauses between tries, and
//! the rate at which documents may be written into a database that is not used to it.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::database::{Context, DatabaseError};

/// Writes in a second at first: the rule 500/50/5 of Firestore's documentation.
const RATE: f64 = 500.0;
/// What the rate grows by, and after how long.
const GROWTH: (f64, Duration) = (1.5, Duration::from_secs(300));
/// The documented limit for a database is 10,000 writes in a second.
const MOST: f64 = 10_000.0;

/// Pauses between tries: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(32));
/// Who asks for a longer pause than this is not waited for.
pub(super) const LONGEST: Duration = Duration::from_secs(300);

/// What time it is, and how to let it pass.
pub(super) trait Clock: Send + Sync {
    /// Since some moment.
    fn now(&self) -> Duration;

    /// Seconds since 1970.
    fn wall(&self) -> u64;

    /// Waits.
    ///
    /// # Errors
    /// When everything is to stop meanwhile.
    fn wait(&self, pause: Duration, context: &Context) -> Result<(), DatabaseError>;
}

/// The machine's clock.
pub(super) struct Machine(pub Instant);

impl Clock for Machine {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn wall(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |since| since.as_secs())
    }

    fn wait(&self, pause: Duration, context: &Context) -> Result<(), DatabaseError> {
        let until = Instant::now() + pause;
        loop {
            context.go_on()?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
    }
}

/// How long to wait before the next try: twice as long each time, a random half of it, so that
/// those who failed together do not come again together.
pub(super) fn pause(tries: u32, asked: Option<Duration>) -> Duration {
    let whole = PAUSES.0.saturating_mul(1 << tries.min(10)).min(PAUSES.1);
    let random = RandomState::new().hash_one(tries) % 1024;
    let some = whole / 2 + (whole / 2).mul_f64(random as f64 / 1024.0);
    asked.map_or(some, |asked| asked.max(some))
}

/// The rate of writes.
pub(super) struct Ramp {
    begun: Duration,
    /// When the next may go.
    next: Duration,
}

impl Ramp {
    /// Begins now.
    pub fn new(clock: &dyn Clock) -> Ramp {
        let begun = clock.now();
        Ramp { begun, next: begun }
    }

    /// Writes in a second so long after the beginning.
    fn rate(since: Duration) -> f64 {
        let steps = since.as_secs() / GROWTH.1.as_secs();
        let steps = i32::try_from(steps).unwrap_or(i32::MAX);
        (RATE * GROWTH.0.powi(steps)).min(MOST)
    }

    /// Waits until so many writes may go.
    pub fn take(
        &mut self,
        writes: usize,
        clock: &dyn Clock,
        context: &Context,
    ) -> Result<(), DatabaseError> {
        let now = clock.now();
        if self.next > now {
            clock.wait(self.next - now, context)?;
        }
        let now = self.next.max(now);
        let rate = Ramp::rate(now.saturating_sub(self.begun));
        self.next = now + Duration::from_secs_f64(writes as f64 / rate);
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::child::lock;
    use std::sync::Mutex;

    /// A clock that only waiting moves.
    #[derive(Default)]
    pub struct Turned {
        pub now: Mutex<Duration>,
        pub waits: Mutex<Vec<Duration>>,
    }

    impl Clock for Turned {
        fn now(&self) -> Duration {
            *lock(&self.now)
        }

        fn wall(&self) -> u64 {
            1_800_000_000 + self.now().as_secs()
        }

        fn wait(&self, pause: Duration, context: &Context) -> Result<(), DatabaseError> {
            context.go_on()?;
            *lock(&self.now) += pause;
            lock(&self.waits).push(pause);
            Ok(())
        }
    }

    #[test]
    fn the_rate_begins_at_500_and_grows_by_half_every_five_minutes() {
        let keep = tempfile::tempdir().unwrap();
        let context = crate::database::testing::context(keep.path());
        let clock = Turned::default();
        let mut ramp = Ramp::new(&clock);
        let mut by_minute = vec![0; 61];
        while clock.now() < Duration::from_secs(3600) {
            ramp.take(500, &clock, &context).unwrap();
            by_minute[(clock.now().as_secs() / 60) as usize] += 500;
        }
        assert_eq!(by_minute[0], 30_000);
        assert!((29_000..=30_500).contains(&by_minute[4]), "{by_minute:?}");
        assert!((44_000..=46_000).contains(&by_minute[6]), "{by_minute:?}");
        assert!((66_000..=69_000).contains(&by_minute[11]), "{by_minute:?}");
        assert!(by_minute.iter().all(|n| *n <= 600_500), "{by_minute:?}");
        assert!(
            by_minute[58] >= 590_000 || by_minute[58] > by_minute[11],
            "{by_minute:?}"
        );
    }

    #[test]
    fn pauses_grow_and_obey() {
        for tries in 0..20 {
            let whole = PAUSES.0.saturating_mul(1 << tries.min(10)).min(PAUSES.1);
            let found = pause(tries, None);
            assert!(found >= whole / 2 && found <= whole, "{tries}: {found:?}");
        }
        assert_eq!(
            pause(0, Some(Duration::from_secs(7))),
            Duration::from_secs(7)
        );
    }
}

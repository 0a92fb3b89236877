//! Jobs on several threads, or one after the other in the calling thread.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::Builder;

/// Does every job. With 0 threads, or when there is but one job, it does so here and in order; else
/// the calling thread is one of them. A job is taken when there is a thread for it.
pub(crate) fn each<J: Send>(
    threads: usize,
    jobs: impl Iterator<Item = J> + Send,
    work: &(dyn Fn(J) + Sync),
) {
    let threads = jobs.size_hint().1.map_or(threads, |most| threads.min(most));
    if threads < 2 {
        jobs.for_each(work);
        return;
    }
    let jobs = Mutex::new(jobs);
    let next = || jobs.lock().ok().and_then(|mut jobs| jobs.next());
    let run = || {
        while let Some(job) = next() {
            work(job);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            // Without another thread those that there are do the rest.
            if Builder::new().spawn_scoped(scope, run).is_err() {
                break;
            }
        }
        run();
    });
}

/// What jobs share. One that panicked ends all of them, so nobody sees what it left half done.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_job_is_done_once_and_without_threads_in_order() {
        for threads in [0, 1, 2, 5] {
            let done = Mutex::new(Vec::new());
            each(threads, 0..100, &|n| done.lock().unwrap().push(n));
            let mut done = done.into_inner().unwrap();
            if threads > 1 {
                done.sort_unstable();
            }
            assert!(done.into_iter().eq(0..100), "{threads}");
        }
    }
}

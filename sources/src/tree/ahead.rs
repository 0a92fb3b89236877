//! A walk in a thread of its own, some hundred things ahead of the hand that takes them. What waits
//! between the two is bounded: in number, in bytes, and in folders that it keeps open. The walk
//! ends soon after the hand does.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{Builder, scope};
use std::time::Instant;

use hucha_store::source::Stop;

use super::hand::{Found, Hand, Taker};

/// Things that are handed on together.
const BATCH: usize = 256;
/// Open folders that they are in.
const FOLDERS: usize = 16;
/// Bytes of paths and attributes from which on a batch is handed on.
const BYTES: usize = 256 << 10;
/// Batches that wait: with those that are being filled and emptied at most 96 open folders.
const BATCHES: usize = 4;

/// Runs a walk ahead of the hand that takes what it finds; without threads, in step with it.
pub(super) fn run(
    hand: &mut Hand<'_>,
    walk: &(dyn Fn(&mut dyn Taker) -> Result<(), Stop> + Sync),
) -> Result<(), Stop> {
    scope(|scope| {
        let (batches, taken) = sync_channel(BATCHES);
        let builder = Builder::new().name("hucha-walk".to_owned());
        let walker = builder.spawn_scoped(scope, move || {
            let mut queue = Queue::new(batches);
            // When it stops, nobody listens: the hand knows why.
            let _ = walk(&mut queue).and_then(|()| queue.send());
        });
        let Ok(walker) = walker else {
            return walk(hand);
        };
        let result = taken.iter().try_for_each(|batch| {
            hand.walked = Some(batch.begun);
            batch.found.into_iter().try_for_each(|one| hand.take(one))
        });
        drop(taken);
        match walker.join() {
            Ok(()) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// What was found and is handed on together.
struct Batch {
    /// When it was begun.
    begun: Instant,
    found: Vec<Found>,
}

impl Batch {
    fn new() -> Batch {
        Batch {
            begun: Instant::now(),
            found: Vec::with_capacity(BATCH),
        }
    }
}

/// The walk's end of the queue.
struct Queue {
    batches: SyncSender<Batch>,
    batch: Batch,
    folders: usize,
    bytes: usize,
}

impl Queue {
    fn new(batches: SyncSender<Batch>) -> Queue {
        Queue {
            batches,
            batch: Batch::new(),
            folders: 0,
            bytes: 0,
        }
    }

    fn send(&mut self) -> Result<(), Stop> {
        let batch = std::mem::replace(&mut self.batch, Batch::new());
        (self.folders, self.bytes) = (0, 0);
        self.batches.send(batch).map_err(|_| Stop)
    }
}

/// The folder that something found keeps open.
fn folder_of(found: &Found) -> Option<&Arc<OwnedFd>> {
    match found {
        Found::Thing(thing) => thing.place.as_ref().map(|place| &place.folder),
        _ => None,
    }
}

impl Taker for Queue {
    fn take(&mut self, found: Found) -> Result<(), Stop> {
        if let Some(folder) = folder_of(&found) {
            let last = self.batch.found.iter().rev().find_map(folder_of);
            self.folders += usize::from(last.is_none_or(|last| !Arc::ptr_eq(last, folder)));
        }
        self.bytes += match &found {
            Found::Thing(thing) => {
                let values = thing.xattrs.iter().map(|x| x.name.len() + x.value.len());
                thing.path.len() + values.sum::<usize>()
            }
            Found::Problem(problem) => problem.path.len() + problem.message.len(),
            Found::Excluded(path) => path.len(),
        };
        self.batch.found.push(found);
        let is_full = self.batch.found.len() >= BATCH;
        if is_full || self.folders >= FOLDERS || self.bytes >= BYTES {
            return self.send();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use hucha_store::entry::{Kind, Xattr};

    use super::super::hand::{Named, Thing};
    use super::*;

    fn open() -> Arc<OwnedFd> {
        Arc::new(std::fs::File::open("/").unwrap().into())
    }

    fn thing(folder: Option<Arc<OwnedFd>>, value: usize) -> Found {
        Found::Thing(Box::new(Thing {
            path: b"path".to_vec(),
            kind: Kind::File,
            stat: rustix::fs::stat("/").unwrap(),
            xattrs: vec![Xattr {
                name: b"user.a".to_vec(),
                value: vec![0; value],
            }],
            place: folder.map(|folder| Named {
                folder,
                name: c"name".to_owned(),
                real: b"/path".to_vec(),
            }),
        }))
    }

    /// How many things stand together when so many are found.
    fn together(count: usize, one: impl Fn() -> Found) -> Vec<usize> {
        let (batches, taken) = sync_channel(count + 1);
        let mut queue = Queue::new(batches);
        for _ in 0..count {
            queue.take(one()).unwrap();
        }
        queue.send().unwrap();
        drop(queue);
        taken.iter().map(|batch| batch.found.len()).collect()
    }

    #[test]
    fn a_batch_is_bounded_in_number_and_folders_and_bytes() {
        let path = |len: usize| Found::Excluded(vec![b'a'; len]);
        assert_eq!(together(600, || path(1)), [BATCH, BATCH, 600 - 2 * BATCH]);
        assert_eq!(together(5, || path(BYTES / 2)), [2, 2, 1]);
        let each = || thing(Some(open()), 1);
        assert_eq!(together(FOLDERS + 2, each), [FOLDERS, 2]);
        let same = open();
        let one = || thing(Some(Arc::clone(&same)), 1);
        assert_eq!(together(FOLDERS + 2, one), [FOLDERS + 2]);
        assert_eq!(together(2, || thing(None, BYTES)), [1, 1, 0]);
    }
}

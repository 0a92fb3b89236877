//! In which order chunks that were found are fetched, and what one thread does in a row.
//!
//! What needs no base is sorted by place and fetched in long ranges, each record once a window.
//! Deltas are taken in the order of files of one kind, for that is the order in which their bases
//! lie in every older pack: so a few records of each are needed at a time. Sorted by place, each
//! pack would lead through all that are older once more.

use super::window::Part;
use crate::id::{ChunkId, PackId};
use crate::index::Place;
use crate::writer::ContentKind;

/// Neighbouring records are fetched in one go up to this many bytes, gaps included.
const MAX_FETCH: u64 = 4 << 20;
/// Plain bytes of what is fetched in one go, so that threads have equal shares of deltas too.
const MAX_PLAIN: u64 = 16 << 20;
/// Gaps between records that are read and thrown away rather than fetched around.
const MAX_GAP: u64 = 64 << 10;

/// Plain bytes of deltas that one thread decodes in a row. Threads work side by side, so what one
/// has read is at hand for the others.
const MAX_STRETCH: u64 = 2 << 20;

/// A part whose chunk was found.
pub(super) struct Found {
    pub pack: PackId,
    pub place: Place,
    pub chunk: ChunkId,
    pub part: Part,
}

/// Chunks of one record, by slot.
pub(super) struct RecordJob {
    pub pack: PackId,
    pub offset: u32,
    pub stored: u32,
    pub chunks: Vec<(u8, ChunkId, Part)>,
}

/// What one thread does in a row.
pub(super) enum Job {
    /// Neighbouring records, fetched in one go.
    Fetch(Vec<RecordJob>),
    /// Deltas whose bases stand near each other, record by record.
    Stretch(Vec<RecordJob>),
}

impl RecordJob {
    /// Plain bytes that it is read for.
    fn plain(&self) -> u64 {
        self.chunks.iter().map(|(_, _, part)| part.len).sum()
    }
}

/// What there is to do: first what needs no base, then deltas.
pub(super) fn jobs(located: Vec<Found>) -> Vec<Job> {
    let is_delta = |found: &Found| !found.place.bases.is_empty();
    let (mut deltas, mut alone): (Vec<_>, Vec<_>) = located.into_iter().partition(is_delta);
    alone.sort_unstable_by_key(|f| (f.pack, f.place.offset, f.place.slot));
    deltas.sort_by_cached_key(|found| {
        let path = &found.part.file.entry.path;
        (ContentKind::of_file(path), found.part.number)
    });
    let mut stretches: Vec<(u64, Vec<Found>)> = Vec::new();
    for found in deltas {
        let len = found.part.len;
        match stretches.last_mut() {
            Some((bytes, stretch)) if *bytes + len <= MAX_STRETCH => {
                *bytes += len;
                stretch.push(found);
            }
            _ => stretches.push((len, vec![found])),
        }
    }
    let fetches = fetch_runs(records(alone)).into_iter().map(Job::Fetch);
    let stretches = stretches.into_iter().map(|(_, s)| Job::Stretch(records(s)));
    fetches.chain(stretches).collect()
}

/// The records of chunks. Those that follow each other in one record are taken together.
fn records(located: Vec<Found>) -> Vec<RecordJob> {
    let mut jobs: Vec<RecordJob> = Vec::new();
    for found in located {
        let (pack, place) = (found.pack, found.place);
        let chunk = (place.slot, found.chunk, found.part);
        match jobs
            .last_mut()
            .filter(|j| (j.pack, j.offset) == (pack, place.offset))
        {
            Some(record) => record.chunks.push(chunk),
            None => jobs.push(RecordJob {
                pack,
                offset: place.offset,
                stored: place.stored,
                chunks: vec![chunk],
            }),
        }
    }
    jobs
}

/// Groups records that are fetched in one go.
fn fetch_runs(jobs: Vec<RecordJob>) -> Vec<Vec<RecordJob>> {
    let mut runs: Vec<Vec<RecordJob>> = Vec::new();
    let mut plain = 0;
    for job in jobs {
        let needs = job.plain();
        let joins = |run: &&mut Vec<RecordJob>| {
            let (Some(first), Some(last)) = (run.first(), run.last()) else {
                return false;
            };
            let end = u64::from(last.offset) + u64::from(last.stored);
            let start = u64::from(job.offset);
            first.pack == job.pack
                && start >= end
                && start - end <= MAX_GAP
                && start + u64::from(job.stored) - u64::from(first.offset) <= MAX_FETCH
                && plain + needs <= MAX_PLAIN
        };
        match runs.last_mut().filter(joins) {
            Some(run) => {
                plain += needs;
                run.push(job);
            }
            None => {
                plain = needs;
                runs.push(vec![job]);
            }
        }
    }
    runs
}

//! Storing chunks under a session: reuse, encode, seal, verify, packs, segments
//! (gc-protocol.md, writer steps 4 and 5).
//!
//! Any number of threads store at once, each through a [`Lane`] of its own. Every pack is
//! acknowledged before its rows go into a segment, every segment before a commit. `lane` encodes
//! and seals, `delta` chooses bases.

mod delta;
mod lane;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::backend::{Area, BackendError, Key, Put, Trouble};
use crate::clock::Timestamp;
use crate::crypto::{Kind, fresh_uuid};
use crate::error::AccessError;
use crate::format::record::TableRow;
use crate::format::segment::{Segment, SegmentHeader, SegmentPack, SegmentRow};
use crate::id::{ChunkId, PackId, SegmentId, Uuid};
use crate::pack::{FinishedPack, PackBuilder, pack_key, target_size};
use crate::reader::Reader;
use crate::record::World;
use crate::repository::{Repository, named_key};
use crate::sealed::Sealed;
use crate::session::Session;
use crate::view::View;
pub(crate) use lane::{ContentKind, Lane, Like};

/// A segment is put at latest when so many rows wait for it.
const SEGMENT_ROWS: usize = 65_536;
/// A segment is put at latest when rows have waited so many seconds.
const SEGMENT_SECONDS: u64 = 300;
/// How often a put whose answer was lost is tried again.
const PUT_TRIES: usize = 5;

/// What a writer has stored so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stored {
    /// Plain bytes of new chunks of content.
    pub new_bytes: u64,
    /// New chunks, pages among them.
    pub new_chunks: u64,
    /// Bytes put into the repository: packs and segments.
    pub new_stored: u64,
    /// Of the new chunks of content, those that became deltas of stored ones.
    pub deltas: Deltas,
}

/// Chunks of content that became deltas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Deltas {
    /// How many.
    pub chunks: u64,
    /// Their plain bytes.
    pub bytes: u64,
    /// Bytes of the deltas themselves.
    pub encoded: u64,
}

/// The counters behind [`Stored`].
#[derive(Default)]
struct Counted {
    new_bytes: AtomicU64,
    new_chunks: AtomicU64,
    new_stored: AtomicU64,
    deltas: AtomicU64,
    delta_bytes: AtomicU64,
    delta_encoded: AtomicU64,
}

fn count(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

/// Stores chunks under one session at a time.
pub(crate) struct Writer<'r> {
    repository: &'r Repository,
    leave: RwLock<Leave<'r>>,
    reader: Reader<'r>,
    /// Chunks that this run stores and the index does not show yet.
    own: Mutex<HashMap<ChunkId, ()>>,
    content: Mutex<Option<PackBuilder>>,
    pages: Mutex<Option<PackBuilder>>,
    pending: Mutex<Pending>,
    target: u64,
    /// Puts nothing: packs and segments are counted and dropped.
    dry: bool,
    counted: Counted,
}

/// By whose leave a writer writes: the session, and what may be reused under it.
#[derive(Clone)]
struct Leave<'r> {
    session: Uuid,
    view: Arc<View<'r>>,
}

/// Rows of acknowledged packs that stand in no segment yet.
#[derive(Default)]
struct Pending {
    packs: Vec<SegmentPack>,
    rows: Vec<SegmentRow>,
    since: Option<Timestamp>,
}

/// What became of one chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub id: ChunkId,
    /// Whether it is stored anew.
    pub new: bool,
}

impl<'r> Writer<'r> {
    /// Begins to write under a session, with a view that was read after it was acknowledged.
    pub fn new(session: &Session<'r>, view: View<'r>) -> Writer<'r> {
        Writer::with(session.repository(), session.name(), view, false)
    }

    /// A writer that puts nothing.
    pub fn dry(repository: &'r Repository, view: View<'r>) -> Writer<'r> {
        Writer::with(repository, Uuid([0; 16]), view, true)
    }

    fn with(repository: &'r Repository, session: Uuid, view: View<'r>, dry: bool) -> Writer<'r> {
        let bytes = view.listed().values().sum();
        Writer {
            repository,
            leave: RwLock::new(Leave {
                session,
                view: Arc::new(view),
            }),
            dry,
            reader: Reader::new(repository),
            own: Mutex::default(),
            content: Mutex::default(),
            pages: Mutex::default(),
            pending: Mutex::default(),
            target: target_size(bytes),
            counted: Counted::default(),
        }
    }

    #[cfg(test)]
    /// Closes packs at another size than the repository's bytes ask for.
    pub fn with_pack_size(mut self, bytes: u64) -> Writer<'r> {
        self.target = bytes;
        self
    }

    fn leave(&self) -> Leave<'r> {
        let leave = self.leave.read();
        leave.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What may be reused.
    pub fn view(&self) -> Arc<View<'r>> {
        self.leave().view
    }

    /// Goes on under another session, with a view that was read after that one was acknowledged.
    /// Nothing may wait to be stored: call [`Writer::finish`] before. Answers whether all that
    /// could be referred to before can still be.
    pub fn go_on(&self, session: &Session<'r>, view: View<'r>) -> bool {
        let next = Leave {
            session: session.name(),
            view: Arc::new(view),
        };
        if let Ok(mut own) = self.own.lock() {
            own.clear();
        }
        let mut leave = self.leave.write().unwrap_or_else(PoisonError::into_inner);
        let last = std::mem::replace(&mut *leave, next);
        leave.view.covers(&last.view)
    }

    /// Reads chunks, for bases and parents.
    pub fn reader(&self) -> &Reader<'r> {
        &self.reader
    }

    /// What was stored so far.
    pub fn stored(&self) -> Stored {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stored {
            new_bytes: get(&self.counted.new_bytes),
            new_chunks: get(&self.counted.new_chunks),
            new_stored: get(&self.counted.new_stored),
            deltas: Deltas {
                chunks: get(&self.counted.deltas),
                bytes: get(&self.counted.delta_bytes),
                encoded: get(&self.counted.delta_encoded),
            },
        }
    }

    /// Bytes of the packs that were listed, and of all that was put since.
    pub fn bytes(&self) -> u64 {
        let listed: u64 = self.view().listed().values().sum();
        listed + self.counted.new_stored.load(Ordering::Relaxed)
    }

    /// Whether this session may refer to a chunk without storing it: it is usable in the view, or
    /// stored by this run.
    pub fn may_reuse(&self, id: &ChunkId) -> Result<bool, AccessError> {
        if self.own.lock().is_ok_and(|own| own.contains_key(id)) {
            return Ok(true);
        }
        self.view().is_usable(id)
    }

    /// Finds out which chunks are usable, on several threads: whether they may be reused is asked
    /// soon.
    pub fn judge(&self, ids: &[ChunkId]) {
        let threads = self.repository.environment().threads;
        self.view().judge(ids, threads);
    }

    /// Takes the duty of storing a chunk; `false` when nobody need to.
    fn claim(&self, id: &ChunkId) -> Result<bool, AccessError> {
        if self.may_reuse(id)? {
            return Ok(false);
        }
        let Ok(mut own) = self.own.lock() else {
            return Ok(true);
        };
        Ok(own.insert(*id, ()).is_none())
    }

    /// A lane for one thread.
    pub fn lane(&self, world: World) -> Lane<'_, 'r> {
        Lane::new(self, world)
    }

    fn pack_of(&self, world: World) -> &Mutex<Option<PackBuilder>> {
        match world {
            World::Content => &self.content,
            World::Pages => &self.pages,
        }
    }

    /// Adds a sealed record to the open pack, and puts the pack when it is full.
    pub fn append(
        &self,
        world: World,
        stored: &[u8],
        chunks: &[(TableRow, u8)],
    ) -> Result<(), AccessError> {
        let full = {
            let Ok(mut slot) = self.pack_of(world).lock() else {
                return Err(AccessError::VerifyFailed);
            };
            let mut pack = match slot.take() {
                Some(pack) => pack,
                None => self.new_pack(world)?,
            };
            pack.push(stored, chunks)?;
            if pack.size() >= self.target {
                Some(pack)
            } else {
                *slot = Some(pack);
                None
            }
        };
        full.map_or(Ok(()), |pack| self.publish(pack))
    }

    fn new_pack(&self, world: World) -> Result<PackBuilder, AccessError> {
        // gc moves records of any data key, so a pack carries them all: there are few.
        let keys = self.repository.keys().data_keys();
        let keys: Vec<&crate::crypto::DataKey> = keys.iter().map(|k| &**k).collect();
        let spool = self.repository.environment().cache.as_deref();
        PackBuilder::new(world, self.leave().session, &keys, spool, self.target)
    }

    /// Puts a pack; its rows wait for a segment from then on.
    fn publish(&self, pack: PackBuilder) -> Result<(), AccessError> {
        let mut finished = pack.finish()?;
        self.put_pack(&mut finished)?;
        let now = self.repository.environment().clock.now();
        let due = {
            let Ok(mut pending) = self.pending.lock() else {
                return Err(AccessError::VerifyFailed);
            };
            let number = pending.packs.len() as u32;
            pending.packs.push(finished.info);
            if number == 0 {
                // They bear this number, and are many: not copied.
                pending.rows = finished.rows;
            } else {
                let rows = finished.rows.into_iter();
                pending.rows.extend(rows.map(|mut row| {
                    row.pack = number;
                    row
                }));
            }
            let since = *pending.since.get_or_insert(now);
            pending.rows.len() >= SEGMENT_ROWS || now.seconds_since(since) >= SEGMENT_SECONDS
        };
        if due { self.publish_segment() } else { Ok(()) }
    }

    /// Puts a pack. When the answer is lost it gets another name: the first put may land at any
    /// later time, and must not bring back a pack that gc has deleted and whose rows are dropped.
    fn put_pack(&self, pack: &mut FinishedPack) -> Result<(), AccessError> {
        for tries in 1.. {
            if self.dry {
                break;
            }
            let key = pack_key(&pack.id)?;
            match self.repository.backend().put(&key, &pack.body) {
                Ok(Put::Created) => break,
                Ok(Put::Exists) => return Err(AccessError::NotFresh(key.to_string())),
                Err(e) if tries < PUT_TRIES && (e.retry || e.trouble == Trouble::Unknown) => {
                    #[cfg(test)]
                    if crate::holes::is_open(crate::holes::Hole::SameName) {
                        return match put_fresh(self.repository, &key, &pack.body) {
                            Err(AccessError::NotFresh(_)) => Ok(()),
                            other => other,
                        };
                    }
                    pack.rename()?;
                }
                Err(e) => return Err(e.into()),
            }
        }
        count(&self.counted.new_stored, pack.body.len());
        Ok(())
    }

    /// Puts an object under a name of its own. When the answer is lost it is put again: then the
    /// name may be taken, by nobody else.
    fn put_fresh(&self, key: &Key, body: &Sealed) -> Result<(), AccessError> {
        if !self.dry {
            put_fresh(self.repository, key, body)?;
        }
        count(&self.counted.new_stored, body.len());
        Ok(())
    }

    /// Puts a segment of all waiting rows and adds it to the index.
    fn publish_segment(&self) -> Result<(), AccessError> {
        let pending = match self.pending.lock() {
            Ok(mut pending) => std::mem::take(&mut *pending),
            Err(_) => return Err(AccessError::VerifyFailed),
        };
        if pending.rows.is_empty() || self.dry {
            return Ok(());
        }
        let mut segment = Segment {
            supersedes: Vec::new(),
            packs: pending.packs,
            rows: pending.rows,
        };
        segment.sort();
        let Leave { session, view } = self.leave();
        for part in split_rows(segment) {
            let packs: Vec<PackId> = part.packs.iter().map(|p| p.id).collect();
            let (id, body) = seal_segment(self.repository, &part, session)?;
            self.put_fresh(&named_key(Area::Index, id), &body)?;
            let ids: Vec<ChunkId> = part.rows.iter().map(|r| r.id).collect();
            self.repository
                .index()
                .apply_own(&self.repository.segments(), id, part)?;
            packs.into_iter().for_each(|p| view.add_own(p));
            if let Ok(mut own) = self.own.lock() {
                ids.iter().for_each(|id| {
                    own.remove(id);
                });
            }
        }
        Ok(())
    }

    /// Puts what waits: open packs, then their segment. Lanes must have been flushed before.
    pub fn finish(&self) -> Result<(), AccessError> {
        for world in World::ALL {
            let pack = self
                .pack_of(world)
                .lock()
                .ok()
                .and_then(|mut slot| slot.take());
            if let Some(pack) = pack.filter(|p| !p.is_empty()) {
                self.publish(pack)?;
            }
        }
        self.publish_segment()
    }
}

/// Puts an object whose name holds a fresh uuid or is a hash over one.
pub(crate) fn put_fresh(
    repository: &Repository,
    key: &Key,
    body: &Sealed,
) -> Result<(), AccessError> {
    let mut lost: Option<BackendError> = None;
    for _ in 0..PUT_TRIES {
        match repository.backend().put(key, body) {
            Ok(Put::Created) => return Ok(()),
            Ok(Put::Exists) if lost.is_some() => return Ok(()),
            Ok(Put::Exists) => return Err(AccessError::NotFresh(key.to_string())),
            Err(e) if e.retry || e.trouble == Trouble::Unknown => lost = Some(e),
            Err(e) => return Err(e.into()),
        }
    }
    Err(lost.map_or_else(|| AccessError::NotFresh(key.to_string()), AccessError::from))
}

/// Seals a segment and names it.
pub(crate) fn seal_segment(
    repository: &Repository,
    segment: &Segment,
    session: Uuid,
) -> Result<(SegmentId, Sealed), AccessError> {
    let clear = SegmentHeader {
        session,
        uuid: fresh_uuid(),
    }
    .encode();
    let body = segment.encode_body().map_err(AccessError::Spool)?;
    let (seal, context) = repository.keys().of_kind(Kind::Segment, &clear);
    let mut stored = clear.to_vec();
    seal.seal_onto(&context, &body, &mut stored);
    let id = SegmentId(*blake3::hash(&stored).as_bytes());
    Ok((id, Sealed::from_stored(stored)))
}

/// Cuts rows into segments that keep the limit.
pub(crate) fn split_rows(segment: Segment) -> Vec<Segment> {
    let limit = crate::format::segment::MAX_ROWS;
    if segment.rows.len() <= limit {
        return vec![segment];
    }
    let part = |rows: &[SegmentRow]| Segment {
        supersedes: segment.supersedes.clone(),
        packs: segment.packs.clone(),
        rows: rows.to_vec(),
    };
    segment.rows.chunks(limit).map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Encryption;
    use crate::format::objects::SessionKind;
    use crate::index::handle::Segments;
    use crate::testing::{new_repository, noise};
    use hucha_chunker::{Cutter, GearTable, Profile};
    use std::sync::Arc;

    /// Bytes that a repository holds in packs of content and segments beside the encoded chunks,
    /// for each chunk.
    fn overhead(backend: &crate::backend::Memory, segments: &Segments<'_>) -> (f64, u64) {
        let mut stored = 0u64;
        let mut rows = 0u64;
        for (id, size) in segments.list().unwrap() {
            stored += size;
            let segment = segments.get(&id).unwrap().unwrap();
            rows += segment.rows.len() as u64;
            assert!(segment.packs.iter().all(|p| !p.tree));
        }
        use crate::backend::Backend;
        let mut packs = 0;
        backend.list(Area::Packs, &mut |l| packs += l.size).unwrap();
        ((stored + packs) as f64 / rows as f64, rows)
    }

    /// Stores chunks under one session; answers all ids, and the encoded bytes of new chunks.
    fn store_all(
        repository: &Repository,
        data: &[u8],
        bases: Option<&[ChunkId]>,
    ) -> (Vec<ChunkId>, u64) {
        let session = Session::open(repository, SessionKind::Writer).unwrap();
        let writer = Writer::new(&session, session.view().unwrap());
        let table = Arc::new(GearTable::derive(repository.keys().gear_key()));
        let cutter = Cutter::new(table, Profile::DUMP);
        let mut lane = writer.lane(World::Content);
        let (mut ids, mut new) = (Vec::new(), Vec::new());
        for (i, chunk) in cutter.chunks(data).enumerate() {
            let base = bases.and_then(|b| b.get(i)).map(std::slice::from_ref);
            let outcome = lane.store(chunk, base.unwrap_or(&[])).unwrap();
            ids.push(outcome.id);
            new.extend(outcome.new.then_some(outcome.id));
        }
        lane.flush().unwrap();
        writer.finish().unwrap();
        session.give_up();
        let mut payload = 0;
        let reader = Reader::new(repository);
        let segments = repository.segments();
        for id in &new {
            let found = repository.index().find(&segments, id).unwrap().unwrap();
            let place = found.places[0];
            let pack = repository.index().pack(place.pack).unwrap();
            let record = reader
                .record(World::Content, pack.id, place.offset, place.stored)
                .unwrap();
            payload += u64::from(record.rows[usize::from(place.slot)].stored);
        }
        (ids, payload)
    }

    #[test]
    fn what_is_judged_ahead_is_what_may_be_reused() {
        let (memory, repository) = new_repository(Encryption::None, 0);
        let (mut ids, _) = store_all(&repository, &noise(8 << 20, "many"), None);
        assert!(ids.len() > 100, "{}", ids.len());
        ids.iter_mut().step_by(7).for_each(|id| id.0[0] ^= 1);
        for threads in [0, 2, 5] {
            let repository = crate::testing::open(&memory, Encryption::None, threads);
            let session = Session::open(&repository, SessionKind::Writer).unwrap();
            let writer = Writer::new(&session, session.view().unwrap());
            writer.judge(&[]);
            writer.judge(&ids);
            for (n, id) in ids.iter().enumerate() {
                let may = n % 7 != 0;
                assert_eq!(writer.may_reuse(id).unwrap(), may, "{threads} {n}");
                assert_eq!(writer.view().is_judged(id), may && threads > 1);
            }
            session.give_up();
        }
    }

    #[test]
    fn bytes_beside_payload_stay_within_the_budget() {
        // Cut points follow from random keys: the same ones in every run.
        crate::crypto::seeded::seed(b"budget");
        let (memory, repository) = new_repository(Encryption::XChaCha20Poly1305, 0);
        let mut data = noise(48 << 20, "plain");
        let (ids, payload) = store_all(&repository, &data, None);
        let segments = repository.segments();
        let (bytes, rows) = overhead(&memory, &segments);
        let plain = bytes - payload as f64 / rows as f64;
        assert!(rows > 500 && rows == ids.len() as u64, "{rows}");
        println!("plain: {plain:.1} bytes beside payload a chunk, {rows} chunks");
        assert!(plain <= 96.0, "{plain} bytes beside each plain chunk");
        // One byte of every chunk changes, away from where it was cut.
        let before = (bytes * rows as f64) as u64;
        for at in (30_000..data.len()).step_by(40_000) {
            data[at] ^= 1;
        }
        let (again, payload) = store_all(&repository, &data, Some(&ids));
        let (bytes, rows_now) = overhead(&memory, &segments);
        let new = rows_now - rows;
        let added = (bytes * rows_now as f64) as u64 - before;
        let delta = (added - payload) as f64 / new as f64;
        println!(
            "delta: {delta:.1} bytes beside payload a chunk, {new} of {} chunks",
            again.len()
        );
        assert!(new * 10 > rows * 9, "{new}");
        assert!(payload / new < 1000, "{payload}: these are deltas");
        assert!(delta <= 160.0, "{delta} bytes beside each delta");
    }
}

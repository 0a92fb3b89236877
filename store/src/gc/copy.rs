//! Copying what still lives out of packs that go (gc-protocol.md, collector step 2, sweep step 10).

use std::collections::{HashSet, VecDeque};
use std::sync::Mutex;

use super::flatten::{self, End, Knot};
use super::mark::{Partial, Plan};
use super::weigh::{Live, chosen};
use crate::error::AccessError;
use crate::format::record::TableRow;
use crate::id::{BaseRef, ChunkId, PackId};
use crate::index::{Bases, Found, KnownPack, MAX_BASES};
use crate::monitor::{Counters, Event, Monitor};
use crate::pack::read_directory;
use crate::parallel::{self, locked};
use crate::reader::{Reader, is_bad};
use crate::record::{EncodedChunk, OpenRecord, World};
use crate::repository::Repository;
use crate::session::Session;
use crate::view::View;
use crate::writer::{Lane, Writer};

/// Bases below one chunk that are looked at.
const MAX_BELOW: usize = 512;
/// Bytes of a pack that are read at once.
const READ: u64 = 2 << 20;

/// Copies the living rest of the packs that a plan condemns in part: packs, then their segment.
/// Answers the bytes that were put. A pack that cannot be read whole is taken out of the plan: the
/// next snapshot that has the data, or repair, heals it.
pub(super) fn living_rest(
    session: &Session<'_>,
    plan: &mut Plan,
    monitor: &dyn Monitor,
) -> Result<u64, AccessError> {
    if plan.partial.is_empty() {
        return Ok(0);
    }
    let writer = Writer::new(session, session.view()?);
    let knots = std::mem::take(&mut plan.knots);
    let copier = Copier {
        writer: &writer,
        reader: writer.reader(),
        plan,
        monitor,
        lanes: Mutex::default(),
        torn: Mutex::default(),
        failed: Mutex::default(),
    };
    copier.undo_all(&knots);
    drop(knots);
    let torn = copier.copy_all()?;
    plan.partial.retain(|p| !torn.contains(&p.pack.id));
    // Publishing the last rows is where a run is at its largest.
    writer.reader().clear();
    writer.finish()?;
    Ok(writer.stored().new_stored)
}

/// Ends of knots that one thread stores anew in one go.
const ENDS: usize = 64;

/// Copies, on several threads.
struct Copier<'a, 'r> {
    writer: &'a Writer<'r>,
    reader: &'a Reader<'r>,
    plan: &'a Plan,
    monitor: &'a dyn Monitor,
    /// Those that no thread uses.
    lanes: Mutex<Vec<Lane<'a, 'r>>>,
    /// Packs that stay: something in them cannot be read.
    torn: Mutex<HashSet<PackId>>,
    failed: Mutex<Option<AccessError>>,
}

impl Copier<'_, '_> {
    /// Stores the ends of all knots anew.
    fn undo_all(&self, knots: &[Knot]) {
        let repository = self.reader.repository();
        let threads = repository.environment().threads;
        for world in World::ALL {
            let ends = flatten::ends(repository, knots, world);
            parallel::each(threads, ends.chunks(ENDS), &|ends| {
                self.unless_failed(|| self.with_lane(world, |lane| self.undo(lane, knots, ends)));
            });
        }
    }

    /// Copies what lives of the packs. Answers those that have to stay.
    fn copy_all(self) -> Result<HashSet<PackId>, AccessError> {
        let threads = self.reader.repository().environment().threads;
        let groups: Mutex<Vec<(&KnownPack, Group)>> = Mutex::default();
        // Of the others all is stored anew.
        let packs = self.plan.partial.iter().filter(|p| p.copy > 0);
        parallel::each(threads, packs, &|Partial { pack, .. }| {
            self.unless_torn(pack, || {
                let found = self.groups_of(pack)?;
                locked(&groups).extend(found.into_iter().map(|group| (pack, group)));
                Ok(())
            });
        });
        // Neighbours compress well together.
        let mut groups: Vec<(&KnownPack, Group)> = std::mem::take(&mut *locked(&groups));
        groups.sort_by_key(|(_, group): &(_, Group)| (group.world, group.pack, group.start()));
        parallel::each(threads, groups.iter(), &|(pack, group)| {
            self.unless_torn(pack, || {
                self.with_lane(group.world, |lane| self.copy_group(lane, group))
            });
        });
        for mut lane in std::mem::take(&mut *locked(&self.lanes)) {
            self.unless_failed(|| lane.flush());
        }
        match locked(&self.failed).take() {
            Some(error) => Err(error),
            None => Ok(std::mem::take(&mut *locked(&self.torn))),
        }
    }

    /// Works with a lane that no other thread uses.
    fn with_lane(
        &self,
        world: World,
        work: impl FnOnce(&mut Lane<'_, '_>) -> Result<(), AccessError>,
    ) -> Result<(), AccessError> {
        let idle = {
            let mut lanes = locked(&self.lanes);
            let at = lanes.iter().position(|lane| lane.world() == world);
            at.map(|at| lanes.swap_remove(at))
        };
        let mut lane = idle.unwrap_or_else(|| self.writer.lane(world));
        let result = work(&mut lane);
        locked(&self.lanes).push(lane);
        result
    }

    /// Works for a pack, which stays when something in it cannot be read.
    fn unless_torn(&self, pack: &KnownPack, work: impl FnOnce() -> Result<(), AccessError>) {
        if locked(&self.torn).contains(&pack.id) {
            return;
        }
        self.unless_failed(|| match work() {
            Err(e) if self.is_torn(&e) => {
                let name = pack.id.to_string();
                self.monitor.event(Event::Problem {
                    path: name.as_bytes(),
                    message: &e.to_string(),
                });
                locked(&self.torn).insert(pack.id);
                Ok(())
            }
            other => other,
        });
    }

    /// Works, unless this or another thread failed before.
    fn unless_failed(&self, work: impl FnOnce() -> Result<(), AccessError>) {
        if locked(&self.failed).is_none()
            && let Err(error) = work()
        {
            locked(&self.failed).get_or_insert(error);
        }
    }

    /// Whether what was to be copied cannot be read, and the storage is not to blame.
    fn is_torn(&self, error: &AccessError) -> bool {
        error.is_damage() || (is_bad(error) && self.reader.repository().answers())
    }

    /// Stores ends of knots without what is idle below them. The packs of one that cannot be read
    /// all stay.
    fn undo(
        &self,
        lane: &mut Lane<'_, '_>,
        knots: &[Knot],
        ends: &[(usize, &End)],
    ) -> Result<(), AccessError> {
        for (knot, end) in ends {
            match self.store_anew(lane, &end.id, &end.place.bases) {
                Err(e) if self.is_torn(&e) => {
                    let note = format!("chunk {:.12} is not stored anew: {e}", end.id);
                    self.monitor.event(Event::Note(&note));
                    let packs = knots.get(*knot).map(|k| &k.packs);
                    let index = self.reader.repository().index();
                    let packs = packs.into_iter().flatten();
                    let packs = packs.filter_map(|p| Some(index.pack(*p)?.id));
                    locked(&self.torn).extend(packs);
                }
                other => other?,
            }
        }
        Ok(())
    }

    /// The records of a pack, in groups that are read in one go.
    fn groups_of(&self, pack: &KnownPack) -> Result<Vec<Group>, AccessError> {
        let backend = self.reader.repository().backend();
        let size = self.plan.sizes.get(&pack.id).copied().unwrap_or(0);
        let world = match pack.tree {
            true => World::Pages,
            false => World::Content,
        };
        let records = match read_directory(backend, &pack.id, size) {
            Ok(records) => records,
            // Another collector was faster; the sweep looks again.
            Err(AccessError::Backend(e)) if e.is_absent() => return Ok(Vec::new()),
            Err(e) => return Err(e),
        };
        let group = |records: &[(u32, u32)]| Group {
            world,
            pack: pack.id,
            records: records.to_vec(),
        };
        Ok(group_ranges(&records).into_iter().map(group).collect())
    }

    /// Copies what lives of a group. Whole records are moved sealed as they are.
    fn copy_group(&self, lane: &mut Lane<'_, '_>, group: &Group) -> Result<(), AccessError> {
        let (start, end) = (group.start(), group.end());
        let bytes = match self.reader.fetch(group.pack, start, end - start) {
            Ok(bytes) => bytes,
            Err(AccessError::Backend(e)) if e.is_absent() => return Ok(()),
            Err(e) => return Err(e),
        };
        Counters::add(&self.monitor.counters().stored, end - start);
        for (offset, len) in &group.records {
            let begin = (u64::from(*offset) - start) as usize;
            let stored = bytes.get(begin..begin + *len as usize).unwrap_or(&[]);
            self.copy_record(lane, group.pack, *offset, stored)?;
        }
        Ok(())
    }

    fn copy_record(
        &self,
        lane: &mut Lane<'_, '_>,
        pack: PackId,
        offset: u32,
        stored: &[u8],
    ) -> Result<(), AccessError> {
        let (world, cap) = (lane.world(), self.reader.repository().max_depth());
        let record = self.reader.open(world, pack, offset, stored)?;
        let view = self.writer.view();
        let keep = living_rows(&view, &self.plan.live, &record, pack, offset, self.reader)?;
        let in_cap = keep.iter().all(|(_, depth)| *depth <= cap);
        if keep.len() == record.rows.len() && in_cap {
            let row = |(slot, depth): &(usize, u8)| Some((*record.rows.get(*slot)?, *depth));
            let rows: Vec<(TableRow, u8)> = keep.iter().filter_map(row).collect();
            return self.writer.append(world, stored, &rows);
        }
        for (slot, depth) in keep {
            match record.rows.get(slot).filter(|_| depth > cap) {
                Some(row) => self.store_anew(lane, &row.id, &row.bases)?,
                None => push(lane, &record, slot, depth)?,
            }
        }
        Ok(())
    }

    /// Stores a chunk in a new encoding: against those of its bases that stay and are not too deep,
    /// or what these are based on; plain when there is nothing such, or that is as good.
    fn store_anew(
        &self,
        lane: &mut Lane<'_, '_>,
        id: &ChunkId,
        bases: &Bases,
    ) -> Result<(), AccessError> {
        let bases = self.what_stays(bases)?;
        let plain = self.reader.chunk(lane.world(), id)?;
        lane.put(*id, &plain, &bases)
    }

    /// Bases, or what is below them, that stay and may have one more on top: as many as a chunk may
    /// have.
    fn what_stays(&self, bases: &Bases) -> Result<Vec<ChunkId>, AccessError> {
        let repository = self.reader.repository();
        let (segments, cap) = (repository.segments(), repository.max_depth());
        let view = self.writer.view();
        let mut stay = Vec::new();
        let mut seen: HashSet<BaseRef> = HashSet::new();
        let mut work: VecDeque<BaseRef> = bases.iter().collect();
        while let Some(base) = work.pop_front().filter(|_| stay.len() < MAX_BASES) {
            if seen.len() >= MAX_BELOW || !seen.insert(base) {
                continue;
            }
            for found in repository.index().find_base(&segments, &base)? {
                let Some(place) = chosen(&view, &found)? else {
                    continue;
                };
                if self.plan.live.stays(found.number) && place.depth < cap {
                    stay.push(found.id);
                } else {
                    work.extend(place.bases.iter());
                }
            }
        }
        stay.truncate(MAX_BASES);
        Ok(stay)
    }
}

/// Neighbouring records of a pack: where each begins, and how long it is.
struct Group {
    world: World,
    pack: PackId,
    records: Vec<(u32, u32)>,
}

impl Group {
    fn start(&self) -> u64 {
        self.records.first().map_or(0, |(at, _)| u64::from(*at))
    }

    fn end(&self) -> u64 {
        let end = |(at, len): &(u32, u32)| u64::from(*at) + u64::from(*len);
        self.records.last().map_or(0, end)
    }
}

/// Neighbouring records that are read in one go.
fn group_ranges(records: &[(u32, u32)]) -> Vec<&[(u32, u32)]> {
    let mut groups = Vec::new();
    let mut start = 0;
    let mut bytes = 0u64;
    for (i, (_, len)) in records.iter().enumerate() {
        if bytes > 0 && bytes + u64::from(*len) > READ {
            groups.extend(records.get(start..i));
            (start, bytes) = (i, 0);
        }
        bytes += u64::from(*len);
    }
    groups.extend(records.get(start..));
    groups
}

/// The rows of a record that live, and live here: slot and depth.
fn living_rows(
    view: &View<'_>,
    live: &Live,
    record: &OpenRecord,
    pack: PackId,
    offset: u32,
    reader: &Reader<'_>,
) -> Result<Vec<(usize, u8)>, AccessError> {
    let repository = reader.repository();
    let segments = repository.segments();
    let mut keep = Vec::new();
    for (slot, row) in record.rows.iter().enumerate() {
        let Some(found) = repository.index().find(&segments, &row.id)? else {
            continue;
        };
        if !live.is_kept(found.number) {
            continue;
        }
        let here = |place: &crate::index::Place| -> Result<bool, AccessError> {
            let known = repository.index().pack(place.pack);
            Ok(place.offset == offset && known.is_some_and(|k| k.id == pack))
        };
        if let Some(place) = chosen(view, &found)?
            && here(&place)?
        {
            keep.push((slot, place.depth));
        }
    }
    Ok(keep)
}

fn push(
    lane: &mut Lane<'_, '_>,
    record: &OpenRecord,
    slot: usize,
    depth: u8,
) -> Result<(), AccessError> {
    let Some(row) = record.rows.get(slot) else {
        return Err(AccessError::VerifyFailed);
    };
    if let Some(chunk) = EncodedChunk::moved(record, slot, depth) {
        return lane.push(chunk);
    }
    let lost = || AccessError::LostChunk {
        chunk: row.id,
        why: Some("it does not decode".into()),
    };
    let plain = record.decode(slot, &[]).ok_or_else(lost)?;
    lane.put(row.id, &plain, &[])
}

/// Sweep step 10: copies chunks, flattened, from any pack that exists. Answers the bytes that were
/// put.
///
/// # Errors
/// [`AccessError::LostChunk`] when one is nowhere any more.
pub(super) fn rescue(
    session: &Session<'_>,
    view: View<'_>,
    reader: &Reader<'_>,
    chunks: &[(World, ChunkId)],
) -> Result<u64, AccessError> {
    let writer = Writer::new(session, view);
    for world in World::ALL {
        let mut lane = writer.lane(world);
        for (_, id) in chunks.iter().filter(|(w, _)| *w == world) {
            let plain = reader.chunk(world, id)?;
            lane.put(*id, &plain, &[])?;
        }
        lane.flush()?;
    }
    writer.finish()?;
    Ok(writer.stored().new_stored)
}

/// Which world a chunk belongs to: that of the packs that hold it.
pub(super) fn world_of(repository: &Repository, found: &Found) -> Result<World, AccessError> {
    for place in &found.places {
        if let Some(pack) = repository.index().pack(place.pack) {
            return Ok(if pack.tree {
                World::Pages
            } else {
                World::Content
            });
        }
    }
    Ok(World::Content)
}

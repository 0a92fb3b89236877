//! Flattening: chunks that are based on what no snapshot refers to any more are stored anew without
//! it, where that saves space.
//!
//! A base is *idle* when it lives only for others. Idle bases that are based on each other, or that
//! one chunk needs, are one *knot*, with all chunks of snapshots that need one of them: its *ends*.
//! A knot is undone as a whole or not at all. That frees its idle bases, and costs new encodings of
//! its ends: against what they are based on below, when something of that lives, else plain. What
//! that costs is estimated by the stored lengths of all of them, before anything is decoded.
//!
//! Whether the packs that they stand in are worth copying is decided in `mark`.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

use super::weigh::{Idle, Weighed, place_of};
use crate::error::AccessError;
use crate::id::{BaseRef, ChunkId};
use crate::index::{ChunkNumber, Encoding, PackNumber, Place};
use crate::parallel::{self, locked};
use crate::reader::{Reader, is_bad};
use crate::record::World;
use crate::repository::Repository;
use crate::view::View;

/// Chunks that are looked at in one go.
const SCAN: usize = 4096;
/// Ends that are kept in memory; knots that have more stay as they are.
const MAX_ENDS: usize = 1 << 17;
/// Bases below one chunk that are looked at; a knot with more below one of its ends stays.
const MAX_BELOW: usize = 512;
/// What a chunk takes beside its own bytes, in its record and in a segment (measured: 95 to 160).
const BESIDE: u64 = 128;
/// A knot with more ends for each of its idle bases stays, whatever they take.
const MAX_ENDS_PER_IDLE: usize = 3;
/// Chunks that one thread measures in one go.
const MEASURED: usize = 512;
/// A knot is undone when that saves at least one in so many of the bytes that are written for it.
const WORTH: u64 = 4;

/// A chunk that some snapshot refers to and that is based on an idle one.
pub(super) struct End {
    pub id: ChunkId,
    number: ChunkNumber,
    /// Where it is kept from so far.
    pub place: Place,
    /// The bytes that it takes there, once that was measured.
    stored: u64,
}

/// Idle bases that hang together, and all that is based on them.
pub(super) struct Knot {
    idle: Vec<Idle>,
    pub ends: Vec<End>,
    /// Packs where any of it stands, in order.
    pub packs: Vec<PackNumber>,
    /// About how many bytes its ends take when it is undone.
    pub bytes: u64,
}

impl Knot {
    /// Everything in it: number and place.
    pub fn all(&self) -> impl Iterator<Item = (ChunkNumber, &Place)> {
        let idle = self.idle.iter().map(|i| (i.number, &i.place));
        idle.chain(self.ends.iter().map(|e| (e.number, &e.place)))
    }

    /// Which world its ends belong to: that of the packs that hold it.
    pub fn world(&self, repository: &Repository) -> Option<World> {
        let pack = repository.index().pack(*self.packs.first()?)?;
        Some(match pack.tree {
            true => World::Pages,
            false => World::Content,
        })
    }
}

/// Which idle bases hang together: each points to one that stands for it, in the end to itself.
struct Groups(Vec<u32>);

impl Groups {
    fn of(&mut self, mut at: u32) -> u32 {
        while let Some(next) = self.0.get(at as usize).copied().filter(|next| *next != at) {
            let over = self.0.get(next as usize).copied().unwrap_or(next);
            if let Some(slot) = self.0.get_mut(at as usize) {
                *slot = over;
            }
            at = over;
        }
        at
    }

    fn join(&mut self, one: u32, other: u32) {
        let (one, other) = (self.of(one), self.of(other));
        if let Some(slot) = self.0.get_mut(one.max(other) as usize) {
            *slot = one.min(other);
        }
    }
}

/// Finds the knots of what was weighed. None where something is lost, or more is idle than is known
/// here: what depends on that is unknown.
pub(super) fn knots(
    repository: &Repository,
    view: &View<'_>,
    weighed: &mut Weighed,
) -> Result<Vec<Knot>, AccessError> {
    let idle = std::mem::take(&mut weighed.idle);
    if idle.is_empty() || !weighed.lost.is_empty() {
        return Ok(Vec::new());
    }
    let numbered = idle.iter().zip(0u32..);
    let names: HashMap<BaseRef, u32> = numbered.map(|(i, n)| (i.id.as_base(), n)).collect();
    // Two chunks of one short name: nobody knows which is meant.
    if names.len() != idle.len() {
        return Ok(Vec::new());
    }
    let mut groups = Groups((0..idle.len() as u32).collect());
    let mut stays: HashSet<u32> = HashSet::new();
    for (chunk, n) in idle.iter().zip(0u32..) {
        let known = chunk.place.bases.iter().filter_map(|b| names.get(&b));
        known.for_each(|base| groups.join(n, *base));
    }
    let mut ends: Vec<(u32, End)> = Vec::new();
    let mut after: Option<ChunkId> = None;
    loop {
        let segments = repository.segments();
        let batch = repository.index().scan(&segments, after.as_ref(), SCAN)?;
        let Some(last) = batch.last() else { break };
        after = Some(last.id);
        for found in &batch {
            let on_idle = |place: &Place| place.bases.iter().any(|b| names.contains_key(&b));
            if !found.places.iter().any(on_idle) || names.contains_key(&found.id.as_base()) {
                continue;
            }
            let living = weighed.live.needs(found.number);
            let Some(place) = place_of(view, found, weighed.exact)?.filter(|_| living) else {
                continue;
            };
            let mut bases = place.bases.iter().filter_map(|b| names.get(&b).copied());
            let Some(first) = bases.next() else { continue };
            bases.for_each(|base| groups.join(first, base));
            // An idle one that is not known here, or one end too many.
            if !weighed.live.is_referred_to(found.number) || ends.len() >= MAX_ENDS {
                stays.insert(first);
                continue;
            }
            let (id, number) = (found.id, found.number);
            let end = End {
                id,
                number,
                place,
                stored: 0,
            };
            ends.push((first, end));
        }
    }
    Ok(gather(idle, ends, &mut groups, &stays))
}

/// The ends of all knots of a world, with the number of the knot, in the order in which the chains
/// of knots begin: neighbours in a snapshot are neighbours in every pack, and so are their bases.
/// What is read together is asked for together.
pub(super) fn ends<'k>(
    repository: &Repository,
    knots: &'k [Knot],
    world: World,
) -> Vec<(usize, &'k End)> {
    let of_world = knots.iter().enumerate();
    let of_world = of_world.filter(|(_, knot)| knot.world(repository) == Some(world));
    let mut knots: Vec<_> = of_world
        .map(|(n, knot)| (knot.all().map(|(_, place)| stand(place)).min(), n, knot))
        .collect();
    knots.sort_unstable_by_key(|(begin, n, _)| (*begin, *n));
    let ends = knots
        .into_iter()
        .flat_map(|(_, n, knot)| knot.ends.iter().map(move |end| (n, end)));
    ends.collect()
}

/// Puts what hangs together into knots, in the order of their ids.
fn gather(
    idle: Vec<Idle>,
    ends: Vec<(u32, End)>,
    groups: &mut Groups,
    stays: &HashSet<u32>,
) -> Vec<Knot> {
    let stays: HashSet<u32> = stays.iter().map(|n| groups.of(*n)).collect();
    let mut knots: HashMap<u32, Knot> = HashMap::new();
    let new = || Knot {
        idle: Vec::new(),
        ends: Vec::new(),
        packs: Vec::new(),
        bytes: 0,
    };
    for (chunk, n) in idle.into_iter().zip(0u32..) {
        let knot = knots.entry(groups.of(n)).or_insert_with(new);
        knot.packs.push(chunk.place.pack);
        knot.idle.push(chunk);
    }
    for (n, end) in ends {
        let knot = knots.entry(groups.of(n)).or_insert_with(new);
        knot.packs.push(end.place.pack);
        knot.ends.push(end);
    }
    let mut knots: Vec<(u32, Knot)> = knots.into_iter().collect();
    knots.retain(|(n, knot)| !stays.contains(n) && !knot.ends.is_empty());
    knots.sort_unstable_by_key(|(n, _)| *n);
    let mut knots: Vec<Knot> = knots.into_iter().map(|(_, knot)| knot).collect();
    for knot in &mut knots {
        knot.packs.sort_unstable();
        knot.packs.dedup();
    }
    knots
}

/// Leaves the knots that are worth undoing, with what that costs.
pub(super) fn retain_worth(reader: &Reader<'_>, knots: &mut Vec<Knot>) -> Result<(), AccessError> {
    // With so many ends no idle base is worth it, however small what is based on it is.
    knots.retain(|knot| knot.ends.len() <= MAX_ENDS_PER_IDLE * knot.idle.len());
    measure(reader, knots)?;
    let worth = |knot: &mut Knot| {
        let Some((kept, undone)) = cost(knot) else {
            return false;
        };
        knot.bytes = undone;
        kept.saturating_sub(undone) * WORTH >= undone
    };
    knots.retain_mut(worth);
    Ok(())
}

/// Finds out how many bytes everything in the knots takes, each record read once. Knots of which
/// something cannot be read are left out: that is not touched here.
fn measure(reader: &Reader<'_>, knots: &mut Vec<Knot>) -> Result<(), AccessError> {
    let worlds: Vec<Option<World>> = knots.iter().map(|k| k.world(reader.repository())).collect();
    let mut all: Vec<(usize, ChunkId, Place, &mut u64)> = Vec::new();
    for (n, knot) in knots.iter_mut().enumerate() {
        let idle = knot.idle.iter_mut();
        all.extend(idle.map(|i| (n, i.id, i.place, &mut i.stored)));
        let ends = knot.ends.iter_mut();
        all.extend(ends.map(|e| (n, e.id, e.place, &mut e.stored)));
    }
    all.sort_unstable_by_key(|(_, _, place, _)| stand(place));
    let bad = Mutex::new(HashSet::new());
    let failed: Mutex<Option<AccessError>> = Mutex::new(None);
    let measure = |(n, id, place, stored): &mut (usize, ChunkId, Place, &mut u64)| {
        let world = worlds.get(*n).copied().flatten();
        match world.map(|world| share(reader, world, id, place)) {
            Some(Ok(share)) => **stored = share,
            Some(Err(e)) if !is_bad(&e) => {
                locked(&failed).get_or_insert(e);
            }
            _ => {
                locked(&bad).insert(*n);
            }
        }
    };
    let threads = reader.repository().environment().threads;
    let parts = all.chunks_mut(MEASURED);
    parallel::each(threads, parts, &|part| part.iter_mut().for_each(&measure));
    if let Some(error) = locked(&failed).take() {
        return Err(error);
    }
    let bad: HashSet<usize> = std::mem::take(&mut *locked(&bad));
    let mut n = 0;
    knots.retain(|_| {
        n += 1;
        !bad.contains(&(n - 1))
    });
    Ok(())
}

fn stand(place: &Place) -> (u32, u32, u8) {
    (place.pack.0, place.offset, place.slot)
}

/// The bytes that a knot takes, and about how many when it is undone. `None`: too much is below.
fn cost(knot: &Knot) -> Option<(u64, u64)> {
    let of_idle = |i: &Idle| (i.id.as_base(), (i.stored, i.place));
    let idle: HashMap<BaseRef, (u64, Place)> = knot.idle.iter().map(of_idle).collect();
    let mut kept: u64 = idle.values().map(|(stored, _)| stored + BESIDE).sum();
    let mut undone = 0;
    for end in &knot.ends {
        kept += end.stored + BESIDE;
        let below = Below::of(&end.place, &idle)?;
        let mut best = below.plain(&end.place);
        if below.lives {
            best = best.min(end.stored + below.all);
        }
        undone += best + BESIDE;
    }
    Some((kept, undone))
}

/// What is idle below a chunk.
#[derive(Default)]
struct Below {
    /// Stored bytes of all of it.
    all: u64,
    /// Of those that are no deltas, stored and plain.
    roots: (u64, u64),
    /// Whether something below that is not idle remains as a base.
    lives: bool,
}

impl Below {
    /// `None`: it is too much.
    fn of(place: &Place, idle: &HashMap<BaseRef, (u64, Place)>) -> Option<Below> {
        let mut below = Below::default();
        let mut seen: HashSet<BaseRef> = HashSet::new();
        let mut work: Vec<BaseRef> = place.bases.iter().collect();
        while let Some(base) = work.pop() {
            if !seen.insert(base) {
                continue;
            }
            let Some((stored, place)) = idle.get(&base) else {
                below.lives = true;
                continue;
            };
            below.all += stored;
            if place.encoding == Encoding::Delta {
                work.extend(place.bases.iter());
            } else {
                below.roots.0 += stored;
                below.roots.1 += u64::from(place.plain);
            }
            if seen.len() > MAX_BELOW {
                return None;
            }
        }
        Some(below)
    }

    /// About how many bytes a chunk takes as a plain one: it squeezes as well as what is below. Of
    /// what has nothing plain below, nobody knows.
    fn plain(&self, place: &Place) -> u64 {
        let len = u64::from(place.plain);
        match self.roots {
            (_, 0) => len,
            (stored, plain) => stored * len / plain,
        }
    }
}

/// The stored bytes of one chunk within its record.
fn share(
    reader: &Reader<'_>,
    world: World,
    id: &ChunkId,
    place: &Place,
) -> Result<u64, AccessError> {
    let lost = || AccessError::LostChunk {
        chunk: *id,
        why: None,
    };
    let pack = reader.repository().index().pack(place.pack);
    let pack = pack.ok_or_else(lost)?.id;
    let record = reader.record(world, pack, place.offset, place.stored)?;
    record.share(usize::from(place.slot)).ok_or_else(lost)
}

#[cfg(test)]
mod tests;

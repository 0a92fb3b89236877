//! Marking: which packs could go (gc-protocol.md, collector step 2). A hint; safety does not rest
//! on it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::reach::{Bits, Reach};
use super::{GcError, GcOptions, fence, guard, reach};
use crate::error::AccessError;
use crate::format::objects::Manifest;
use crate::id::{BaseRef, ChunkId, PackId, Uuid};
use crate::index::{ChunkNumber, Found, KnownPack, PackNumber, Place};
use crate::pack::read_header;
use crate::reader::Reader;
use crate::repository::Repository;
use crate::snapshots::SnapshotList;
use crate::view::{Condemned, View, known_lost, list_packs};

/// Chunks that are looked at in one go.
const SCAN: usize = 4096;

/// What a collector means to do.
pub(super) struct Plan {
    /// Packs to condemn in which nothing lives, in the order of their names.
    pub dead: Vec<PackId>,
    /// Packs to condemn when their living rest is copied.
    pub partial: Vec<Partial>,
    /// Where each living chunk is to be kept from.
    pub live: Live,
    /// Stored sizes of all packs.
    pub sizes: HashMap<PackId, u64>,
    /// Bytes of all packs.
    pub total: u64,
    /// Bytes that go, copies of the living rest taken off.
    pub would_free: u64,
    /// Of these, bytes that only writers without a snapshot have written.
    pub given_up: u64,
    /// Unused bytes that stay, about.
    pub stays_unused: u64,
    /// Snapshots that were committed when the plan was made.
    pub committed: BTreeSet<Uuid>,
}

/// A pack in which something lives.
pub(super) struct Partial {
    pub pack: KnownPack,
    /// Bytes that a copy of what lives takes, its rows in a segment among them, or less.
    pub copy: u64,
    /// Bytes that go, about.
    pub unused: u64,
}

/// Which chunks live, bases that only other chunks need among them.
#[derive(Default)]
pub(super) struct Live {
    chunks: Bits,
    bases: Bits,
}

impl Live {
    pub fn contains(&self, found: &Found) -> bool {
        self.chunks.contains(found.number) || self.bases.contains(found.number)
    }
}

impl Plan {
    /// How many packs are to be condemned.
    pub fn packs(&self) -> u64 {
        (self.dead.len() + self.partial.len()) as u64
    }

    /// Chooses those packs whose copies are the smallest and take no more than `room` bytes
    /// together. Answers whether others are left as they are.
    pub fn limit(&mut self, room: u64) -> bool {
        self.partial.sort_by_key(|p| (p.copy, p.pack.id));
        let mut sum = 0u64;
        let fits = |p: &&Partial| {
            sum = sum.saturating_add(p.copy);
            sum <= room
        };
        let fitting = self.partial.iter().take_while(fits).count();
        let left = self.partial.split_off(fitting);
        let unused: u64 = left.iter().map(|p| p.unused).sum();
        self.stays_unused += unused;
        self.would_free = self.would_free.saturating_sub(unused);
        !left.is_empty()
    }
}

/// Most bytes that a chunk takes beside its own: in its record, and in a segment.
const BESIDE: u64 = 256;

/// How much of a pack lives.
#[derive(Debug, Default, Clone, Copy)]
struct Use {
    total: u64,
    live: u64,
    /// Chunks that live.
    chunks: u64,
}

impl Use {
    fn add_live(&mut self, place: &Place) {
        self.live += weight(place);
        self.chunks += 1;
    }
}

/// About how many bytes of its record a chunk takes; exact sums are not worth a table of records.
fn weight(place: &Place) -> u64 {
    u64::from(place.plain.min(place.stored).max(1))
}

/// The place of a living chunk that is kept: the shallowest that is usable.
pub(super) fn chosen(view: &View<'_>, found: &Found) -> Result<Option<Place>, AccessError> {
    Ok(view.usable_of(found)?.map(|usable| usable.place))
}

/// Who plans, for whom, and how.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    /// The session of the collector; none for a dry run.
    pub own: Option<Uuid>,
    /// Sessions that the same run had before: nobody relies on what they copied in vain.
    pub earlier: &'a [Uuid],
    pub options: &'a GcOptions,
}

/// Plans. What is lost because its snapshot was forgotten meanwhile is no damage: then it begins
/// again.
pub(super) fn mark(repository: &Repository, asked: Asked<'_>) -> Result<Plan, GcError> {
    loop {
        if let Some(plan) = try_mark(repository, asked)? {
            return Ok(plan);
        }
    }
}

/// Lists packs, sessions, gc lists, snapshots, index, in this order. `None` when a snapshot was
/// forgotten meanwhile and something is lost.
fn try_mark(repository: &Repository, asked: Asked<'_>) -> Result<Option<Plan>, GcError> {
    let sizes = list_packs(repository)?;
    let mut open = fence::unsettled(repository)?;
    open.extend(asked.own);
    let condemned = Condemned::for_planning(repository)?;
    let snapshots = guard::list(repository)?;
    guard::settle_index(repository)?;
    let view = View::for_mark(repository, condemned, sizes.clone());
    let reader = Reader::new(repository);
    let known = known_lost(view.lists());
    let Some(reach) = Reach::of(repository, &reader, &snapshots, &known)? else {
        return Ok(None);
    };
    reach::prune(repository, &snapshots);
    stop_if_missing(repository, &reach)?;
    let generation = reach.generation;
    let weighed = weigh(repository, &view, reach.chunks)?;
    let Weighed {
        live,
        uses,
        mut lost,
    } = weighed;
    if repository
        .index()
        .stable_generation(&repository.segments())?
        != generation
    {
        return Ok(None);
    }
    lost.retain(|found| !known.contains(&found.id));
    let absent = absent(repository, &lost)?;
    if !absent.is_empty() {
        let now = SnapshotList::read(repository)?;
        let stands = |m: &Manifest| now.committed.iter().any(|n| n.name == m.name);
        if snapshots.committed.iter().all(stands) {
            return Err(GcError::Damaged { chunks: absent });
        }
        return Ok(None);
    }
    let packs = repository.index().packs(&repository.segments())?;
    let candidates = Candidates {
        repository,
        view: &view,
        open: &open,
        tombstones: &snapshots.tombstones,
        earlier: asked.earlier,
        blind: !reach.lost.is_empty(),
    };
    let mut plan = candidates.plan(&packs, &uses, live, sizes, asked.options)?;
    plan.committed = snapshots.committed.iter().map(|m| m.name).collect();
    Ok(Some(plan))
}

/// Stops when a snapshot needs a chunk that no segment knows, and the snapshot is still committed.
fn stop_if_missing(repository: &Repository, reach: &Reach) -> Result<(), GcError> {
    if reach.missing.is_empty() {
        return Ok(());
    }
    let now = SnapshotList::read(repository)?;
    let needed = |(_, _, name): &&(_, ChunkId, Uuid)| now.committed.iter().any(|m| m.name == *name);
    let chunks: Vec<String> = reach
        .missing
        .iter()
        .filter(needed)
        .take(10)
        .map(|(_, id, _)| format!("{id:.12}"))
        .collect();
    if chunks.is_empty() {
        Ok(())
    } else {
        Err(GcError::Damaged { chunks })
    }
}

/// Living chunks that have no place in any pack that exists, condemned or not. One that is only in
/// condemned packs is saved by their sweep. Snapshots and index are younger than the plan's listing
/// of packs, and another collector may have moved chunks since, so both are read again: packs, then
/// the index, as rows of a pack that stands never vanish.
fn absent(repository: &Repository, lost: &[Found]) -> Result<Vec<String>, GcError> {
    if lost.is_empty() {
        return Ok(Vec::new());
    }
    let sizes = list_packs(repository)?;
    repository.update_index()?;
    let segments = repository.segments();
    let mut chunks = Vec::new();
    for chunk in lost {
        let found = repository.index().find(&segments, &chunk.id)?;
        let mut exists = false;
        for place in found.iter().flat_map(|f| &f.places) {
            let pack = repository.index().pack(place.pack);
            let Some(pack) = pack else { continue };
            if sizes.contains_key(&pack.id) {
                exists = true;
                break;
            }
            guard::absent(repository, &pack.id)?;
        }
        if !exists {
            chunks.push(format!("{:.12}", chunk.id));
        }
    }
    chunks.truncate(10);
    Ok(chunks)
}

/// What the index holds, weighed.
struct Weighed {
    live: Live,
    uses: Uses,
    /// Living chunks without a usable place.
    lost: Vec<Found>,
}

/// How much of each pack lives, by number.
#[derive(Default)]
struct Uses(Vec<Use>);

impl Uses {
    fn change(&mut self, pack: PackNumber, change: impl FnOnce(&mut Use)) {
        let at = pack.0 as usize;
        if at >= self.0.len() {
            self.0.resize(at + 1, Use::default());
        }
        if let Some(used) = self.0.get_mut(at) {
            change(used);
        }
    }

    fn add_live(&mut self, place: &Place) {
        self.change(place.pack, |used| used.add_live(place));
    }

    fn get(&self, pack: PackNumber) -> Use {
        self.0.get(pack.0 as usize).copied().unwrap_or_default()
    }
}

/// One pass over the index: what each pack holds, and how much of it lives.
fn weigh(repository: &Repository, view: &View<'_>, chunks: Bits) -> Result<Weighed, AccessError> {
    let mut weigher = Weigher::new(repository, view, chunks);
    if !weigher.pass()? {
        let chunks = std::mem::take(&mut weigher.weighed.live.chunks);
        weigher = Weigher::new(repository, view, chunks);
        weigher.exact = true;
        weigher.pass()?;
    }
    weigher.hopes()?;
    Ok(weigher.weighed)
}

/// Bases that are looked up together, in the order of their ids.
const BASES: usize = 1 << 19;

/// Weighs, in memory that grows with the packs and by two bits a chunk.
///
/// Whether a chunk is usable asks for its bases, and for theirs. A pass asks for each base once all
/// the same, because it must be kept: so it first takes each chunk's shallowest place in a valid
/// pack on trust, and then looks whether each base of a place so taken has one too that is less
/// deep. Then, by induction over depths, all of them are usable, and being the shallowest valid
/// ones they are the shallowest usable ones. Where that does not hold, because a base is gone or
/// was stored again as a deeper delta, the pass is repeated with [`View::usable_of`] for each
/// chunk.
struct Weigher<'a> {
    repository: &'a Repository,
    view: &'a View<'a>,
    weighed: Weighed,
    /// Bases to be kept, each with the depth of what is based on it.
    bases: Vec<(BaseRef, u8)>,
    exact: bool,
}

impl<'a> Weigher<'a> {
    fn new(repository: &'a Repository, view: &'a View<'a>, chunks: Bits) -> Weigher<'a> {
        let live = Live {
            chunks,
            bases: Bits::default(),
        };
        Weigher {
            repository,
            view,
            weighed: Weighed {
                live,
                uses: Uses::default(),
                lost: Vec::new(),
            },
            bases: Vec::new(),
            exact: false,
        }
    }

    /// `false`: what was taken on trust does not hold.
    fn pass(&mut self) -> Result<bool, AccessError> {
        let segments = self.repository.segments();
        let mut after: Option<ChunkId> = None;
        loop {
            let index = self.repository.index();
            let batch = index.scan(&segments, after.as_ref(), SCAN)?;
            let Some(last) = batch.last() else { break };
            after = Some(last.id);
            for found in batch {
                for place in &found.places {
                    let add = |used: &mut Use| used.total += weight(place);
                    self.weighed.uses.change(place.pack, add);
                }
                if self.weighed.live.chunks.contains(found.number) {
                    self.keep(found, u8::MAX)?;
                }
            }
            if self.bases.len() >= BASES && !self.keep_bases()? {
                return Ok(false);
            }
        }
        while !self.bases.is_empty() {
            if !self.keep_bases()? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The place that a living chunk is to be kept from.
    fn choose(&self, found: &Found) -> Result<Option<Place>, AccessError> {
        if self.exact {
            return chosen(self.view, found);
        }
        let mut best: Option<Place> = None;
        for place in &found.places {
            let better = best.is_none_or(|b| place.depth < b.depth);
            if better && self.view.is_valid(place.pack)? {
                best = Some(*place);
            }
        }
        Ok(best)
    }

    /// Counts a chunk as living, and has its bases kept. `false`: it is not less deep than `below`.
    fn keep(&mut self, found: Found, below: u8) -> Result<bool, AccessError> {
        let Some(place) = self.choose(&found)? else {
            self.weighed.lost.push(found);
            return Ok(false);
        };
        self.weighed.uses.add_live(&place);
        let bases = place.bases.iter();
        self.bases.extend(bases.map(|base| (base, place.depth)));
        Ok(place.depth < below)
    }

    /// Keeps the bases that were gathered, and gathers theirs. `false`: one cannot be trusted.
    fn keep_bases(&mut self) -> Result<bool, AccessError> {
        let mut bases = std::mem::take(&mut self.bases);
        bases.sort_unstable();
        bases.dedup_by_key(|(base, _)| *base);
        let segments = self.repository.segments();
        for (base, below) in bases {
            let all = self.repository.index().find_base(&segments, &base)?;
            if all.len() != 1 && !self.exact {
                return Ok(false);
            }
            for found in all {
                let live = &mut self.weighed.live;
                // It is weighed in its place, but may be too deep to be trusted.
                let kept = live.chunks.contains(found.number) || !live.bases.insert(found.number);
                let less_deep = match kept {
                    true => self.choose(&found)?.is_some_and(|p| p.depth < below),
                    false => self.keep(found, below)?,
                };
                if !less_deep && !self.exact {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Keeps what the rows of chunks without a usable place are based on: a sweep may yet save
    /// them, or somebody who puts a pack back.
    fn hopes(&mut self) -> Result<(), AccessError> {
        let segments = self.repository.segments();
        let mut work = Vec::new();
        for place in self.weighed.lost.iter().flat_map(|f| &f.places) {
            if self.view.is_valid(place.pack)? {
                self.weighed.uses.add_live(place);
            }
            work.push(*place);
        }
        while let Some(place) = work.pop() {
            for base in place.bases.iter() {
                for found in self.repository.index().find_base(&segments, &base)? {
                    let live = &mut self.weighed.live;
                    if live.chunks.contains(found.number) || !live.bases.insert(found.number) {
                        continue;
                    }
                    match chosen(self.view, &found)? {
                        Some(place) => {
                            self.weighed.uses.add_live(&place);
                            work.push(place);
                        }
                        None => work.extend(found.places),
                    }
                }
            }
        }
        Ok(())
    }
}

/// Weighs as a mark does, for benchmarks: see `stages`. Answers packs, chunks that live for others,
/// and lost ones.
pub(crate) fn weigh_numbers(
    repository: &Repository,
    view: &View<'_>,
    living: impl Iterator<Item = u32>,
) -> Result<[u64; 3], AccessError> {
    let mut chunks = Bits::default();
    for number in living {
        chunks.insert(ChunkNumber(number));
    }
    let Weighed { live, uses, lost } = weigh(repository, view, chunks)?;
    let packs = uses.0.iter().filter(|u| u.total > 0).count();
    Ok([packs as u64, live.bases.count(), lost.len() as u64])
}

struct Candidates<'a> {
    repository: &'a Repository,
    view: &'a View<'a>,
    open: &'a BTreeSet<Uuid>,
    tombstones: &'a BTreeSet<Uuid>,
    earlier: &'a [Uuid],
    /// Something is lost that no row names: it may stand in a pack without rows, until repair finds
    /// it there.
    blind: bool,
}

impl Candidates<'_> {
    fn plan(
        &self,
        packs: &[KnownPack],
        uses: &Uses,
        live: Live,
        sizes: HashMap<PackId, u64>,
        options: &GcOptions,
    ) -> Result<Plan, GcError> {
        let total: u64 = sizes.values().sum();
        let mut plan = Plan {
            dead: Vec::new(),
            partial: Vec::new(),
            live,
            sizes,
            total,
            would_free: 0,
            given_up: 0,
            stays_unused: 0,
            committed: BTreeSet::new(),
        };
        let mut some_dead: BTreeMap<(u64, PackId), Partial> = BTreeMap::new();
        for pack in packs.iter().filter(|p| self.may_go(p)) {
            let Some(size) = plan.sizes.get(&pack.id).copied() else {
                continue;
            };
            let used = uses.get(pack.number);
            if used.live == 0 {
                self.condemn(&mut plan, pack, size);
            } else if used.live < used.total {
                let dead = used.total - used.live;
                let unused = (u128::from(size) * u128::from(dead) / u128::from(used.total)) as u64;
                let share = dead * 1_000_000 / used.total;
                let partial = Partial {
                    pack: pack.clone(),
                    copy: used.live + used.chunks * BESIDE,
                    unused,
                };
                some_dead.insert((u64::MAX - share, pack.id), partial);
            }
        }
        if !self.blind {
            self.unindexed(packs, &mut plan)?;
        }
        let mut unused: u64 = some_dead.values().map(|p| p.unused).sum();
        let allowed = options.max_unused.bytes(total);
        for partial in some_dead.into_values() {
            if unused <= allowed {
                break;
            }
            unused -= partial.unused;
            plan.would_free += partial.unused;
            plan.partial.push(partial);
        }
        plan.stays_unused = unused;
        plan.dead.sort_unstable();
        Ok(plan)
    }

    /// Packs of open sessions and packs in lists are left alone.
    fn may_go(&self, pack: &KnownPack) -> bool {
        !self.open.contains(&pack.session)
            && !self.view.lists().iter().any(|l| l.packs.contains(&pack.id))
    }

    fn condemn(&self, plan: &mut Plan, pack: &KnownPack, size: u64) {
        plan.dead.push(pack.id);
        plan.would_free += size;
        let session = &pack.session;
        if self.tombstones.contains(session) || self.earlier.contains(session) {
            plan.given_up += size;
        }
    }

    /// Packs that no segment names: what an interrupted writer left behind. One whose header does
    /// not open is repair's matter.
    fn unindexed(&self, packs: &[KnownPack], plan: &mut Plan) -> Result<(), GcError> {
        let known: HashSet<PackId> = packs.iter().map(|p| p.id).collect();
        let mut names: Vec<PackId> = plan
            .sizes
            .keys()
            .filter(|id| !known.contains(id))
            .copied()
            .collect();
        names.sort_unstable();
        for id in names {
            let size = plan.sizes.get(&id).copied().unwrap_or(0);
            let header = match read_header(self.repository.backend(), &id, size) {
                Ok((header, _)) => header,
                Err(AccessError::Backend(e)) if !e.is_absent() && !e.is_unreadable() => {
                    return Err(AccessError::Backend(e).into());
                }
                Err(_) => continue,
            };
            let pack = KnownPack {
                number: PackNumber(u32::MAX),
                id,
                session: header.session,
                tree: header.tree,
            };
            if self.may_go(&pack) {
                self.condemn(plan, &pack, size);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Area;
    use crate::crypto::Encryption;
    use crate::format::segment::{Segment, SegmentPack, SegmentRow};
    use crate::index::{Bases, Encoding};
    use crate::repository::named_key;
    use crate::testing::new_repository;
    use crate::writer::{put_fresh, seal_segment};

    const CHUNKS: u64 = 60;
    const PACKS: u32 = 8;

    /// Numbers that follow from a seed.
    struct Dice(blake3::OutputReader);

    impl Dice {
        fn new(seed: u32) -> Dice {
            Dice(
                blake3::Hasher::new()
                    .update(&seed.to_le_bytes())
                    .finalize_xof(),
            )
        }

        fn below(&mut self, limit: u64) -> u64 {
            let mut bytes = [0; 8];
            self.0.fill(&mut bytes);
            u64::from_le_bytes(bytes) % limit
        }
    }

    fn id(n: u64) -> ChunkId {
        ChunkId(*blake3::hash(&n.to_le_bytes()).as_bytes())
    }

    fn pack(n: u32) -> PackId {
        PackId(*blake3::hash(&n.to_le_bytes()).as_bytes())
    }

    /// A place of chunk `n`. Most are based on chunks with smaller numbers and are as deep as they
    /// say; some on anything, or on what is nowhere.
    fn row(n: u64, depths: &[u8], dice: &mut Dice) -> SegmentRow {
        let mut bases = Bases::NONE;
        let mut depth = 0;
        for _ in 0..dice.below(3) {
            let odd = dice.below(800) == 0;
            let base = dice.below(if odd { CHUNKS + 5 } else { n.max(1) });
            assert!(bases.push(id(base).as_base()));
            depth = depth.max(1 + depths.get(base as usize).copied().unwrap_or(0));
        }
        SegmentRow {
            id: id(n),
            pack: dice.below(u64::from(PACKS)) as u32,
            offset: n as u32 * 5000,
            stored: 1000 + n as u32,
            slot: 0,
            plain: 500 + n as u32,
            encoding: if depth == 0 {
                Encoding::Zstd
            } else {
                Encoding::Delta
            },
            depth,
            bases,
        }
    }

    fn segment(dice: &mut Dice) -> Segment {
        let mut depths: Vec<u8> = Vec::new();
        let mut rows = Vec::new();
        for n in 0..CHUNKS {
            let row = row(n, &depths, dice);
            depths.push(row.depth);
            rows.push(row);
            if dice.below(4) == 0 {
                rows.push(self::row(n, &depths, dice));
            }
        }
        let named = |n| SegmentPack {
            id: pack(n),
            session: Uuid([1; 16]),
            tree: false,
        };
        let mut segment = Segment {
            supersedes: Vec::new(),
            packs: (0..PACKS).map(named).collect(),
            rows,
        };
        segment.sort();
        segment
    }

    type Sums = (Bits, Vec<(u64, u64, u64)>, Vec<ChunkId>);

    fn sums(weighed: &Weighed) -> Sums {
        let uses = weighed.uses.0.iter();
        let mut lost: Vec<ChunkId> = weighed.lost.iter().map(|f| f.id).collect();
        lost.sort_unstable();
        let uses = uses.map(|u| (u.total, u.live, u.chunks)).collect();
        (weighed.live.bases.clone(), uses, lost)
    }

    #[test]
    fn what_is_taken_on_trust_is_what_is_usable() {
        let (mut trusted, mut repeated) = (0, 0);
        for seed in 0..150 {
            let mut dice = Dice::new(seed);
            let (_, repository) = new_repository(Encryption::None, 0);
            let (name, body) =
                seal_segment(&repository, &segment(&mut dice), Uuid([1; 16])).unwrap();
            put_fresh(&repository, &named_key(Area::Index, name), &body).unwrap();
            repository.update_index().unwrap();
            assert!(repository.index().damaged().is_empty());
            let absent = dice.below(6).saturating_sub(4);
            let stands = |n: &u32| u64::from(*n) >= absent;
            let packs = (0..PACKS).filter(stands).map(|n| (pack(n), 1)).collect();
            let none = Condemned::for_planning(&repository).unwrap();
            let view = View::for_mark(&repository, none, packs);
            let mut chunks = Bits::default();
            for n in 0..CHUNKS as u32 {
                if dice.below(3) > 0 {
                    chunks.insert(ChunkNumber(n));
                }
            }
            let mut exact = Weigher::new(&repository, &view, chunks.clone());
            exact.exact = true;
            assert!(exact.pass().unwrap());
            let mut quick = Weigher::new(&repository, &view, chunks.clone());
            if quick.pass().unwrap() {
                trusted += 1;
                assert_eq!(sums(&quick.weighed), sums(&exact.weighed), "seed {seed}");
            } else {
                repeated += 1;
            }
            exact.hopes().unwrap();
            let weighed = weigh(&repository, &view, chunks).unwrap();
            assert_eq!(sums(&weighed), sums(&exact.weighed), "seed {seed}");
        }
        assert!(trusted > 20 && repeated > 20, "{trusted} {repeated}");
    }
}

//! Marking: which packs could go (gc-protocol.md, collector step 2). A hint; safety does not rest
//! on it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::reach::{Bits, Reach};
use super::{GcError, GcOptions, fence, guard, reach};
use crate::error::AccessError;
use crate::format::objects::Manifest;
use crate::id::{ChunkId, PackId, Uuid};
use crate::index::{Found, KnownPack, PackNumber, Place};
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
    let (live, uses, mut lost) = weigh(repository, &view, reach.chunks)?;
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

type Weighed = (Live, HashMap<PackNumber, Use>, Vec<Found>);

/// One pass over the index: what each pack holds, and how much of it lives.
fn weigh(repository: &Repository, view: &View<'_>, chunks: Bits) -> Result<Weighed, AccessError> {
    let mut live = Live {
        chunks,
        bases: Bits::default(),
    };
    let mut uses: HashMap<PackNumber, Use> = HashMap::new();
    let mut lost = Vec::new();
    let mut work: Vec<Place> = Vec::new();
    let mut after: Option<ChunkId> = None;
    loop {
        let batch = repository
            .index()
            .scan(&repository.segments(), after.as_ref(), SCAN)?;
        let Some(last) = batch.last() else { break };
        after = Some(last.id);
        for found in &batch {
            for place in &found.places {
                uses.entry(place.pack).or_default().total += weight(place);
            }
            if !live.chunks.contains(found.number) {
                continue;
            }
            match chosen(view, found)? {
                Some(place) => keep(&place, &mut uses, &mut work),
                None => lost.push(found.clone()),
            }
        }
    }
    // Bases that live only because living chunks need them.
    while let Some(place) = work.pop() {
        for base in place.bases.iter() {
            for found in repository
                .index()
                .find_base(&repository.segments(), &base)?
            {
                if live.chunks.contains(found.number) || !live.bases.insert(found.number) {
                    continue;
                }
                match chosen(view, &found)? {
                    Some(place) => keep(&place, &mut uses, &mut work),
                    None => lost.push(found),
                }
            }
        }
    }
    let mut hopes = Vec::new();
    for place in lost.iter().flat_map(|f| &f.places) {
        if view.is_valid(place.pack)? {
            uses.entry(place.pack).or_default().add_live(place);
        }
        hopes.push(*place);
    }
    keep_hopes(repository, view, hopes, &mut live, &mut uses)?;
    Ok((live, uses, lost))
}

/// Keeps what the rows of chunks without a usable place are based on: a sweep may yet save them, or
/// somebody who puts a pack back.
fn keep_hopes(
    repository: &Repository,
    view: &View<'_>,
    mut work: Vec<Place>,
    live: &mut Live,
    uses: &mut HashMap<PackNumber, Use>,
) -> Result<(), AccessError> {
    let segments = repository.segments();
    while let Some(place) = work.pop() {
        for base in place.bases.iter() {
            for found in repository.index().find_base(&segments, &base)? {
                if live.chunks.contains(found.number) || !live.bases.insert(found.number) {
                    continue;
                }
                match chosen(view, &found)? {
                    Some(place) => keep(&place, uses, &mut work),
                    None => work.extend(found.places),
                }
            }
        }
    }
    Ok(())
}

fn keep(place: &Place, uses: &mut HashMap<PackNumber, Use>, work: &mut Vec<Place>) {
    uses.entry(place.pack).or_default().add_live(place);
    if !place.bases.is_empty() {
        work.push(*place);
    }
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
        uses: &HashMap<PackNumber, Use>,
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
            let used = uses.get(&pack.number).copied().unwrap_or_default();
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

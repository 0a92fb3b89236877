//! Marking: which packs could go (gc-protocol.md, collector step 2). A hint; safety does not rest
//! on it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::flatten::{self, Knot};
use super::reach::Reach;
use super::weigh::{BESIDE, Live, Uses, Weighed, weigh};
use super::{GcError, GcOptions, fence, guard, reach};
use crate::error::AccessError;
use crate::format::objects::Manifest;
use crate::id::{ChunkId, PackId, Uuid};
use crate::index::{Found, KnownPack, PackNumber};
use crate::pack::read_header;
use crate::reader::Reader;
use crate::repository::Repository;
use crate::snapshots::SnapshotList;
use crate::view::{Condemned, View, known_lost, list_packs};

/// What a collector means to do.
#[derive(Default)]
pub(super) struct Plan {
    /// Packs to condemn in which nothing lives, in the order of their names.
    pub dead: Vec<PackId>,
    /// Packs to condemn when their living rest is copied.
    pub partial: Vec<Partial>,
    /// Which chunks live.
    pub live: Live,
    /// Chunks that are to be stored anew, without bases that live only for them.
    pub knots: Vec<Knot>,
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
    /// Packs to condemn that the index knows.
    condemned: HashSet<PackNumber>,
}

/// A pack in which something lives.
pub(super) struct Partial {
    pub pack: KnownPack,
    /// Bytes that a copy of what lives takes, its rows in a segment among them, or less.
    pub copy: u64,
    /// Bytes that go, about.
    pub unused: u64,
}

impl Plan {
    /// How many packs are to be condemned.
    pub fn packs(&self) -> u64 {
        (self.dead.len() + self.partial.len()) as u64
    }

    /// About how many bytes are written before packs go.
    pub fn copies(&self) -> u64 {
        let knots = self.knots.iter().map(|k| k.bytes);
        self.partial.iter().map(|p| p.copy).chain(knots).sum()
    }

    /// Whether a pack is to be condemned.
    fn condemns(&self, pack: PackNumber) -> bool {
        self.condemned.contains(&pack)
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

/// Who plans, for whom, and how.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    /// The session of the collector; none for a dry run.
    pub own: Option<Uuid>,
    /// Sessions that the same run had before: nobody relies on what they copied in vain.
    pub earlier: &'a [Uuid],
    pub options: &'a GcOptions,
    /// Whether chunks may be stored anew in other encodings: not where there is no room for that.
    pub flattens: bool,
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
    let mut weighed = weigh(repository, &view, reach.chunks)?;
    let knots = match asked.flattens && reach.lost.is_empty() {
        true => flatten::knots(repository, &view, &mut weighed)?,
        false => Vec::new(),
    };
    let Weighed {
        live,
        uses,
        mut lost,
        ..
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
    let known = Known {
        packs: &packs,
        uses: &uses,
        sizes: &sizes,
    };
    let mut plan = candidates.plan(known, knots, &reader, asked.options)?;
    plan.live = live;
    for (number, _) in plan.knots.iter().flat_map(Knot::all) {
        plan.live.leave(number);
    }
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

/// What is known of the packs.
#[derive(Clone, Copy)]
struct Known<'a> {
    packs: &'a [KnownPack],
    uses: &'a Uses,
    /// Stored sizes.
    sizes: &'a HashMap<PackId, u64>,
}

/// How often a plan is made anew because not all packs of a knot go.
const MAX_ROUNDS: usize = 16;

impl Candidates<'_> {
    /// Chooses packs, first as if all knots were undone, and undoes those all of whose packs go and
    /// that are worth it: what else they leave unused would only lie there.
    fn plan(
        &self,
        known: Known<'_>,
        mut knots: Vec<Knot>,
        reader: &Reader<'_>,
        options: &GcOptions,
    ) -> Result<Plan, GcError> {
        let mut plan = self.choose(known, &knots, options);
        knots.retain(|k| k.packs.iter().all(|p| plan.condemns(*p)));
        flatten::retain_worth(reader, &mut knots)?;
        for round in 0.. {
            plan = self.choose(known, &knots, options);
            let before = knots.len();
            knots.retain(|k| k.packs.iter().all(|p| plan.condemns(*p)));
            if knots.len() == before {
                break;
            }
            if round == MAX_ROUNDS {
                knots.clear();
            }
        }
        let anew: u64 = knots.iter().map(|k| k.bytes).sum();
        plan.would_free = plan.would_free.saturating_sub(anew);
        plan.knots = knots;
        if !self.blind {
            self.unindexed(known.packs, &mut plan)?;
        }
        plan.dead.sort_unstable();
        Ok(plan)
    }

    /// What goes when knots are undone.
    fn choose(&self, known: Known<'_>, knots: &[Knot], options: &GcOptions) -> Plan {
        let total: u64 = known.sizes.values().sum();
        let mut plan = Plan {
            sizes: known.sizes.clone(),
            total,
            ..Plan::default()
        };
        let mut uses = known.uses.clone();
        for (_, place) in knots.iter().flat_map(Knot::all) {
            uses.take_live(place);
        }
        let mut some_dead: BTreeMap<(u64, PackId), Partial> = BTreeMap::new();
        for pack in known.packs.iter().filter(|p| self.may_go(p)) {
            let Some(size) = plan.sizes.get(&pack.id).copied() else {
                continue;
            };
            let used = uses.get(pack.number);
            // What is stored anew first has to be read.
            if known.uses.get(pack.number).live == 0 {
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
        let mut unused: u64 = some_dead.values().map(|p| p.unused).sum();
        let allowed = options.max_unused.bytes(total);
        for partial in some_dead.into_values() {
            if unused <= allowed {
                break;
            }
            unused -= partial.unused;
            plan.would_free += partial.unused;
            plan.condemned.insert(partial.pack.number);
            plan.partial.push(partial);
        }
        plan.stays_unused = unused;
        plan
    }

    /// Packs of open sessions and packs in lists are left alone.
    fn may_go(&self, pack: &KnownPack) -> bool {
        !self.open.contains(&pack.session)
            && !self.view.lists().iter().any(|l| l.packs.contains(&pack.id))
    }

    fn condemn(&self, plan: &mut Plan, pack: &KnownPack, size: u64) {
        plan.dead.push(pack.id);
        plan.condemned.insert(pack.number);
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

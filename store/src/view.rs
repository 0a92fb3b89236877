//! Which chunks may be reused: the view of gc-protocol.md.
//!
//! A [`View`] can be made only from a [`Condemned`], and that only with proof that a session was
//! acknowledged: so the reads that decide a reuse happen after the session exists, in the order of
//! the protocol. Nothing of a view outlives the process or enters the local index.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, RwLock};

use crate::backend::Area;
use crate::crypto::Kind;
use crate::error::AccessError;
use crate::format::MAX_DEPTH;
use crate::format::objects::GcList;
use crate::id::{BaseRef, ChunkId, PackId, Uuid};
use crate::index::{Found, PackNumber, Place};
use crate::parallel;
use crate::repository::{Repository, uuid_key};

/// Proof that a session's object was acknowledged. Made by [`crate::session`] alone.
#[derive(Debug)]
pub(crate) struct Acknowledged(());

impl Acknowledged {
    /// To be called by [`crate::session::Session::open`] alone, after the acknowledgement.
    pub(crate) fn of_session() -> Acknowledged {
        Acknowledged(())
    }
}

/// The gc lists in force when they were listed: writer step 2, sweep step 7.
#[derive(Debug)]
pub(crate) struct Condemned {
    /// Every pack in a list.
    packs: HashSet<PackId>,
    /// The lists, in the order of their names.
    lists: Vec<GcList>,
}

impl Condemned {
    /// Lists `gc/` and gets every list. A list that is gone meanwhile is retired, and ignored.
    pub fn read(repository: &Repository, _after: &Acknowledged) -> Result<Condemned, AccessError> {
        Condemned::for_planning(repository)
    }

    /// The same without a session: for a mark, which decides no reuse, and for a dry run, which
    /// commits nothing.
    pub fn for_planning(repository: &Repository) -> Result<Condemned, AccessError> {
        let lists = read_lists(repository)?;
        let packs = lists.iter().flat_map(|l| l.packs.iter().copied()).collect();
        Ok(Condemned { packs, lists })
    }
}

/// Every gc list in force, in the order of their names.
///
/// # Errors
/// When one does not open, unless a list of repair covers it: which packs it condemns is unknown.
pub(crate) fn read_lists(repository: &Repository) -> Result<Vec<GcList>, AccessError> {
    let lists = Lists::read(repository)?;
    let covered = |name: &Uuid| lists.whole.iter().any(|l| l.covers.contains(name));
    match lists.damaged.into_iter().find(|(name, _)| !covered(name)) {
        Some((_, error)) => Err(error),
        None => Ok(lists.whole),
    }
}

/// All gc lists.
pub(crate) struct Lists {
    /// Those that open, in the order of their names.
    pub whole: Vec<GcList>,
    /// Those that do not.
    pub damaged: Vec<(Uuid, AccessError)>,
}

impl Lists {
    /// Lists `gc/` and gets every list. One that is gone meanwhile is left out.
    pub fn read(repository: &Repository) -> Result<Lists, AccessError> {
        let mut lists = Lists {
            whole: Vec::new(),
            damaged: Vec::new(),
        };
        for name in repository.list_uuids(Area::Gc)? {
            match read_list(repository, name) {
                Ok(list) => lists.whole.extend(list),
                Err(e) if e.is_damage() => lists.damaged.push((name, e)),
                Err(e) => return Err(e),
            }
        }
        Ok(lists)
    }
}

fn read_list(repository: &Repository, name: Uuid) -> Result<Option<GcList>, AccessError> {
    let key = uuid_key(Area::Gc, name);
    let Some(fields) = repository.get_object(&key, Kind::List)? else {
        return Ok(None);
    };
    let list = GcList::decode(&fields).map_err(|e| AccessError::damaged(&key, e))?;
    if list.name == name {
        Ok(Some(list))
    } else {
        Err(AccessError::damaged(&key, "it bears another name"))
    }
}

/// Chunks that lists name as lost: that they cannot be read is no news. A hint; who acts on it
/// tries to read them again.
pub(crate) fn known_lost(lists: &[GcList]) -> HashSet<ChunkId> {
    lists.iter().flat_map(|l| l.lost.iter().copied()).collect()
}

/// The names of all packs, with stored sizes.
pub(crate) fn list_packs(repository: &Repository) -> Result<HashMap<PackId, u64>, AccessError> {
    let mut packs = HashMap::new();
    repository.backend().list(Area::Packs, &mut |listed| {
        if let Ok(id) = listed.name.parse() {
            packs.insert(id, listed.size);
        }
    })?;
    Ok(packs)
}

/// Index rows whose pack stands in a listing of `packs/` and in no gc list in force.
pub(crate) struct View<'r> {
    repository: &'r Repository,
    /// Packs that exist and are not condemned.
    valid: RwLock<HashSet<PackId>>,
    /// Stored sizes of all packs that were listed.
    sizes: HashMap<PackId, u64>,
    lists: Vec<GcList>,
    /// Validity by number, as far as somebody asked.
    numbers: RwLock<Vec<Option<bool>>>,
    /// Bases that were found usable.
    bases: Mutex<HashSet<BaseRef>>,
    /// Chunks that were found usable ahead of the question.
    judged: Mutex<HashSet<ChunkId>>,
}

/// A chunk that may be reused, or be the base of a delta.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Usable {
    /// Its shallowest usable place.
    pub place: Place,
}

/// Bases that were found usable are forgotten when there are so many.
const MAX_MEMO: usize = 1 << 18;
/// The same of chunks that were judged ahead.
const MAX_JUDGED: usize = 1 << 14;
/// Chunks that one thread judges in a row.
const JUDGED: usize = 16;
/// Rows looked at before a chunk counts as not usable: its chain is absurd.
const MAX_STEPS: usize = 4096;

impl<'r> View<'r> {
    /// Lists `index/` and applies what is new, then lists `packs/`: both after the gc lists were
    /// read (writer step 3, sweep steps 8 and 9).
    pub fn read(repository: &'r Repository, condemned: Condemned) -> Result<View<'r>, AccessError> {
        repository.update_index()?;
        let sizes = list_packs(repository)?;
        Ok(View::for_mark(repository, condemned, sizes))
    }

    /// A view from listings that were read in the order of a collector's mark. It decides no reuse.
    pub fn for_mark(
        repository: &'r Repository,
        condemned: Condemned,
        sizes: HashMap<PackId, u64>,
    ) -> View<'r> {
        let valid = sizes
            .keys()
            .filter(|p| !condemned.packs.contains(p))
            .copied()
            .collect();
        View {
            repository,
            valid: RwLock::new(valid),
            sizes,
            lists: condemned.lists,
            numbers: RwLock::default(),
            bases: Mutex::default(),
            judged: Mutex::default(),
        }
    }

    /// A view for a run that commits nothing: it needs no session.
    pub fn for_dry_run(repository: &'r Repository) -> Result<View<'r>, AccessError> {
        View::read(repository, Condemned::for_planning(repository)?)
    }

    /// Packs that were listed, condemned ones among them, with stored sizes.
    pub fn listed(&self) -> &HashMap<PackId, u64> {
        &self.sizes
    }

    /// The gc lists in force.
    pub fn lists(&self) -> &[GcList] {
        &self.lists
    }

    /// Adds a pack that this session has put: it is protected as long as the session is open.
    pub fn add_own(&self, pack: PackId) {
        if let Ok(mut valid) = self.valid.write() {
            valid.insert(pack);
        }
        if let Ok(mut numbers) = self.numbers.write() {
            numbers.clear();
        }
    }

    /// Whether every pack that counts in an earlier view counts here too: then whatever was usable
    /// there is usable here.
    pub fn covers(&self, earlier: &View<'_>) -> bool {
        match (self.valid.read(), earlier.valid.read()) {
            (Ok(here), Ok(there)) => there.is_subset(&here),
            _ => false,
        }
    }

    /// Whether rows of this pack count.
    pub fn is_valid(&self, pack: PackNumber) -> Result<bool, AccessError> {
        #[cfg(test)]
        if crate::holes::is_open(crate::holes::Hole::StaleIndex) {
            return Ok(true);
        }
        let at = pack.0 as usize;
        if let Ok(numbers) = self.numbers.read()
            && let Some(Some(valid)) = numbers.get(at)
        {
            return Ok(*valid);
        }
        // Held from before the set is read until the answer is kept: a pack that is added in
        // between must not be remembered as missing.
        let (Some(known), Ok(mut numbers)) =
            (self.repository.index().pack(pack), self.numbers.write())
        else {
            return Ok(false);
        };
        let valid = self.valid.read().is_ok_and(|v| v.contains(&known.id));
        if at >= numbers.len() {
            numbers.resize(at + 1, None);
        }
        if let Some(number) = numbers.get_mut(at) {
            *number = Some(valid);
        }
        Ok(valid)
    }

    /// Whether a chunk is usable: one of its rows here is plain, or all bases of one row are
    /// usable. Chains are walked; a row whose bases are nowhere is not usable even when every pack
    /// is valid.
    pub fn usable(&self, id: &ChunkId) -> Result<Option<Usable>, AccessError> {
        let segments = self.repository.segments();
        let Some(found) = self.repository.index().find(&segments, id)? else {
            return Ok(None);
        };
        self.usable_of(&found)
    }

    /// Finds out on several threads which of these chunks are usable, when there are enough of them
    /// for that: [`View::is_usable`] is asked for them soon.
    pub fn judge(&self, ids: &[ChunkId], threads: usize) {
        if threads < 2 || ids.len() < 2 * JUDGED {
            return;
        }
        {
            let mut judged = parallel::locked(&self.judged);
            if judged.len() + ids.len() > MAX_JUDGED {
                judged.clear();
            }
        }
        parallel::each(threads, ids.chunks(JUDGED), &|ids| {
            // What cannot be looked up is told to who asks for it.
            let usable = |id: &&ChunkId| self.is_usable(id).unwrap_or(false);
            let usable: Vec<ChunkId> = ids.iter().filter(usable).copied().collect();
            parallel::locked(&self.judged).extend(usable);
        });
    }

    /// Whether a chunk was found usable ahead of the question.
    #[cfg(test)]
    pub fn is_judged(&self, id: &ChunkId) -> bool {
        parallel::locked(&self.judged).contains(id)
    }

    /// Whether a chunk is usable, whatever its place: cheaper than [`View::usable`] where it is.
    pub fn is_usable(&self, id: &ChunkId) -> Result<bool, AccessError> {
        if parallel::locked(&self.judged).contains(id) {
            return Ok(true);
        }
        let segments = self.repository.segments();
        let Some(found) = self.repository.index().find_some(&segments, id)? else {
            return Ok(false);
        };
        // One that is usable is enough. What is not may have another place that was not looked for.
        Ok(self.usable_of(&found)?.is_some() || self.usable(id)?.is_some())
    }

    /// [`View::usable`] for a chunk that was looked up already.
    pub fn usable_of(&self, found: &Found) -> Result<Option<Usable>, AccessError> {
        let mut steps = 0;
        let mut best: Option<Usable> = None;
        for place in &found.places {
            let better = best.is_none_or(|b| place.depth < b.place.depth);
            if !better {
                continue;
            }
            let usable = match place.bases.is_empty() {
                true => self.is_valid(place.pack)?,
                false => self.is_usable_place(place, &mut vec![found.id], &mut steps)?,
            };
            if usable {
                best = Some(Usable { place: *place });
            }
        }
        Ok(best)
    }

    fn is_usable_place(
        &self,
        place: &Place,
        path: &mut Vec<ChunkId>,
        steps: &mut usize,
    ) -> Result<bool, AccessError> {
        *steps += 1;
        if *steps > MAX_STEPS
            || path.len() > usize::from(MAX_DEPTH)
            || !self.is_valid(place.pack)?
        {
            return Ok(false);
        }
        #[cfg(test)]
        if crate::holes::is_open(crate::holes::Hole::BaseChain) {
            return Ok(true);
        }
        let segments = self.repository.segments();
        for base in place.bases.iter() {
            if parallel::locked(&self.bases).contains(&base) {
                continue;
            }
            let candidates = self.repository.index().find_base(&segments, &base)?;
            let mut any = false;
            for found in &candidates {
                any = any || self.is_usable_base(found, path, steps)?;
            }
            if !any {
                return Ok(false);
            }
            // It is so on every path. What was not usable may only have met a cycle.
            let mut memo = parallel::locked(&self.bases);
            if memo.len() >= MAX_MEMO {
                memo.clear();
            }
            memo.insert(base);
        }
        Ok(true)
    }

    /// A least fixed point needs no chunk twice on one path, so a cycle ends the walk.
    fn is_usable_base(
        &self,
        found: &Found,
        path: &mut Vec<ChunkId>,
        steps: &mut usize,
    ) -> Result<bool, AccessError> {
        if path.contains(&found.id) {
            return Ok(false);
        }
        path.push(found.id);
        let mut usable = false;
        for place in &found.places {
            usable = usable || self.is_usable_place(place, path, steps)?;
        }
        path.pop();
        Ok(usable)
    }

    /// The packs of one list.
    pub fn list(&self, name: Uuid) -> Option<&GcList> {
        self.lists.iter().find(|l| l.name == name)
    }
}

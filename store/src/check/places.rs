//! Which chunks have a whole place: over packs that exist, and less what is known to be bad.
//!
//! A delta is whole when all its bases are. What is lost is told by its causes: the packs whose
//! damage takes it along, those of its bases among them.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Mutex;

use super::bad::{BadPacks, Fault};
use crate::error::AccessError;
use crate::format::MAX_DEPTH;
use crate::id::{BaseRef, ChunkId, PackId};
use crate::index::{Found, Place};
use crate::pack::is_record_length;
use crate::parallel::locked;
use crate::repository::Repository;

/// Rows looked at for one chunk before its chain of bases counts as absurd.
const MAX_STEPS: u32 = 4096;
/// Chunks that are remembered as whole; beyond it they are judged again.
const MAX_GOOD: usize = 1 << 18;
/// Chunks that are remembered as lost; beyond it they are judged again.
const MAX_LOST: usize = 1 << 14;

/// Why a chunk is lost.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cause {
    /// This pack does not give it, or a base of it, back.
    Pack(PackId, String),
    /// No segment knows it, or a base of it.
    NotIndexed,
    /// Its bases form a cycle, or are too deep.
    Absurd,
}

/// Judges places. Shared by threads.
pub(crate) struct Places<'a> {
    repository: &'a Repository,
    /// Packs that were listed, with stored sizes.
    packs: HashMap<PackId, u64>,
    bad: &'a BadPacks,
    /// Found to have a whole place. Two chunks of one short name are as good as impossible.
    good: Mutex<HashSet<BaseRef>>,
    lost: Mutex<HashMap<ChunkId, BTreeSet<Cause>>>,
}

impl<'a> Places<'a> {
    /// Judges over the packs of a listing. The index is to be up to date before: a row of a pack
    /// that is gone is no error as long as another place is whole.
    pub fn of(
        repository: &'a Repository,
        bad: &'a BadPacks,
        packs: HashMap<PackId, u64>,
    ) -> Places<'a> {
        Places {
            repository,
            packs,
            bad,
            good: Mutex::default(),
            lost: Mutex::default(),
        }
    }

    /// Why a chunk has no whole place, as far as is known; empty when it has one.
    pub fn lost(&self, id: &ChunkId) -> Result<BTreeSet<Cause>, AccessError> {
        if locked(&self.good).contains(&id.as_base()) {
            return Ok(BTreeSet::new());
        }
        if let Some(causes) = locked(&self.lost).get(id) {
            return Ok(causes.clone());
        }
        let segments = self.repository.segments();
        let mut judgement = Judgement::default();
        match self.repository.index().find(&segments, id)? {
            Some(found) if self.is_whole(&found, &mut judgement)? => return Ok(BTreeSet::new()),
            Some(_) => {}
            None => {
                judgement.causes.insert(Cause::NotIndexed);
            }
        }
        let mut lost = locked(&self.lost);
        if lost.len() < MAX_LOST {
            lost.insert(*id, judgement.causes.clone());
        }
        Ok(judgement.causes)
    }

    /// The packs in which a chunk stands, missing ones among them.
    pub fn stands_in(&self, id: &ChunkId) -> Result<BTreeSet<PackId>, AccessError> {
        let segments = self.repository.segments();
        let index = self.repository.index();
        let found = index.find(&segments, id)?;
        let places = found.map(|f| f.places).unwrap_or_default();
        Ok(places
            .iter()
            .filter_map(|p| index.pack(p.pack))
            .map(|known| known.id)
            .collect())
    }

    /// What is good is so on every path and is remembered; what is not may only have met a cycle,
    /// and no chunk needs itself.
    fn is_whole(&self, found: &Found, judgement: &mut Judgement) -> Result<bool, AccessError> {
        if locked(&self.good).contains(&found.id.as_base()) {
            return Ok(true);
        }
        let path = &judgement.path;
        if path.contains(&found.id) || path.len() > usize::from(MAX_DEPTH) {
            judgement.causes.insert(Cause::Absurd);
            return Ok(false);
        }
        let mut places: Vec<&Place> = found.places.iter().collect();
        places.sort_by_key(|p| (p.bases.len(), p.depth));
        judgement.path.push(found.id);
        let mut whole = false;
        for place in places {
            whole = whole || self.is_whole_place(place, judgement)?;
        }
        judgement.path.pop();
        if whole {
            let mut good = locked(&self.good);
            if good.len() >= MAX_GOOD {
                good.clear();
            }
            good.insert(found.id.as_base());
        }
        Ok(whole)
    }

    fn is_whole_place(
        &self,
        place: &Place,
        judgement: &mut Judgement,
    ) -> Result<bool, AccessError> {
        judgement.steps += 1;
        if judgement.steps > MAX_STEPS {
            judgement.causes.insert(Cause::Absurd);
            return Ok(false);
        }
        let Some(pack) = self.repository.index().pack(place.pack) else {
            judgement.causes.insert(Cause::NotIndexed);
            return Ok(false);
        };
        let bad = self.bad.at(&pack.id, place.offset, place.slot);
        let own = bad.as_ref().filter(|b| b.fault == Fault::Own);
        let own = own.map(|b| b.why.clone());
        if let Some(why) = self.place_error(&pack.id, place).or(own) {
            judgement.causes.insert(Cause::Pack(pack.id, why));
            return Ok(false);
        }
        let segments = self.repository.segments();
        for base in place.bases.iter() {
            if locked(&self.good).contains(&base) {
                continue;
            }
            let candidates = self.repository.index().find_base(&segments, &base)?;
            if candidates.is_empty() {
                judgement.causes.insert(Cause::NotIndexed);
            }
            let mut any = false;
            for found in candidates {
                any = any || self.is_whole(&found, judgement)?;
            }
            if !any {
                return Ok(false);
            }
        }
        // The bases seem whole, but one did not decode: its pack was not looked at.
        if let Some(bad) = bad {
            judgement.causes.insert(Cause::Pack(pack.id, bad.why));
            return Ok(false);
        }
        Ok(true)
    }

    /// What listing and index alone say against a place.
    fn place_error(&self, pack: &PackId, place: &Place) -> Option<String> {
        let Some(size) = self.packs.get(pack) else {
            return Some("it is missing".into());
        };
        if !is_record_length(place.stored) {
            return Some("the index gives a record of it an absurd length".into());
        }
        if u64::from(place.offset) + u64::from(place.stored) > *size {
            return Some("it is shorter than the index says".into());
        }
        None
    }
}

/// One chunk being judged.
#[derive(Default)]
struct Judgement {
    path: Vec<ChunkId>,
    steps: u32,
    causes: BTreeSet<Cause>,
}

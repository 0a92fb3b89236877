//! Weighing what the index holds: which chunks live, and how much of each pack that is.

use super::reach::Bits;
use crate::error::AccessError;
use crate::id::{BaseRef, ChunkId};
use crate::index::{ChunkNumber, Found, PackNumber, Place};
use crate::repository::Repository;
use crate::view::View;

/// Chunks that are looked at in one go.
const SCAN: usize = 4096;
/// Bases that live only for others and are told one by one; when there are more, none is.
const MAX_IDLE: usize = 1 << 17;

/// Which chunks live, bases that only other chunks need among them.
#[derive(Default)]
pub(super) struct Live {
    chunks: Bits,
    bases: Bits,
    /// Of both, what is not kept where it stands: it is stored anew in another encoding, or was
    /// needed only by such.
    leaves: Bits,
}

impl Live {
    /// Whether a snapshot refers to it.
    pub fn is_referred_to(&self, number: ChunkNumber) -> bool {
        self.chunks.contains(number)
    }

    /// Whether a snapshot refers to it, or another chunk needs it as it is.
    pub fn needs(&self, number: ChunkNumber) -> bool {
        self.chunks.contains(number) || self.bases.contains(number)
    }

    /// Whether it will be there, in one encoding or another.
    pub fn stays(&self, number: ChunkNumber) -> bool {
        let base = self.bases.contains(number) && !self.leaves.contains(number);
        self.chunks.contains(number) || base
    }

    /// Whether it is kept as it stands.
    pub fn is_kept(&self, number: ChunkNumber) -> bool {
        self.needs(number) && !self.leaves.contains(number)
    }

    /// It is not kept as it stands.
    pub fn leave(&mut self, number: ChunkNumber) {
        self.leaves.insert(number);
    }

    /// How many live only for others.
    fn idle(&self) -> u64 {
        self.bases.count()
    }
}

/// A base that lives only for others.
pub(super) struct Idle {
    pub id: ChunkId,
    pub number: ChunkNumber,
    /// Where it is kept from.
    pub place: Place,
    /// The bytes that it takes there, once that was measured.
    pub stored: u64,
}

/// Most bytes that a chunk takes beside its own: in its record, and in a segment.
pub(super) const BESIDE: u64 = 256;

/// How much of a pack lives.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Use {
    pub total: u64,
    pub live: u64,
    /// Chunks that live.
    pub chunks: u64,
}

impl Use {
    fn add_live(&mut self, place: &Place) {
        self.live += weight(place);
        self.chunks += 1;
    }

    fn take_live(&mut self, place: &Place) {
        self.live = self.live.saturating_sub(weight(place));
        self.chunks = self.chunks.saturating_sub(1);
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

/// The same, where places may be taken on trust: then it is the shallowest that is valid.
pub(super) fn place_of(
    view: &View<'_>,
    found: &Found,
    exact: bool,
) -> Result<Option<Place>, AccessError> {
    if exact {
        return chosen(view, found);
    }
    let mut best: Option<Place> = None;
    for place in &found.places {
        let better = best.is_none_or(|b| place.depth < b.depth);
        if better && view.is_valid(place.pack)? {
            best = Some(*place);
        }
    }
    Ok(best)
}

/// What the index holds, weighed.
pub(super) struct Weighed {
    pub live: Live,
    pub uses: Uses,
    /// Living chunks without a usable place.
    pub lost: Vec<Found>,
    /// All that live only for others, in the order in which they were met; none when they are too
    /// many.
    pub idle: Vec<Idle>,
    /// Whether places were asked for one by one, and none taken on trust.
    pub exact: bool,
}

/// How much of each pack lives, by number.
#[derive(Default, Clone)]
pub(super) struct Uses(Vec<Use>);

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

    /// A chunk does not stay where it stands.
    pub fn take_live(&mut self, place: &Place) {
        self.change(place.pack, |used| used.take_live(place));
    }

    pub fn get(&self, pack: PackNumber) -> Use {
        self.0.get(pack.0 as usize).copied().unwrap_or_default()
    }
}

/// One pass over the index: what each pack holds, and how much of it lives.
pub(super) fn weigh(
    repository: &Repository,
    view: &View<'_>,
    chunks: Bits,
) -> Result<Weighed, AccessError> {
    let mut weigher = Weigher::new(repository, view, chunks);
    if !weigher.pass()? {
        let chunks = std::mem::take(&mut weigher.weighed.live.chunks);
        weigher = Weigher::new(repository, view, chunks);
        weigher.weighed.exact = true;
        weigher.pass()?;
    }
    weigher.hopes()?;
    let mut weighed = weigher.weighed;
    if weighed.idle.len() as u64 != weighed.live.idle() {
        weighed.idle = Vec::new();
    }
    Ok(weighed)
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
}

impl<'a> Weigher<'a> {
    fn new(repository: &'a Repository, view: &'a View<'a>, chunks: Bits) -> Weigher<'a> {
        let live = Live {
            chunks,
            bases: Bits::default(),
            leaves: Bits::default(),
        };
        Weigher {
            repository,
            view,
            weighed: Weighed {
                live,
                uses: Uses::default(),
                lost: Vec::new(),
                idle: Vec::new(),
                exact: false,
            },
            bases: Vec::new(),
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
        place_of(self.view, found, self.weighed.exact)
    }

    /// Counts a chunk as living, and has its bases kept. `false`: it is not less deep than `below`.
    fn keep(&mut self, found: Found, below: u8) -> Result<bool, AccessError> {
        let Some(place) = self.choose(&found)? else {
            self.weighed.lost.push(found);
            return Ok(false);
        };
        self.weighed.uses.add_live(&place);
        let idle = !self.weighed.live.chunks.contains(found.number);
        if idle && self.weighed.idle.len() < MAX_IDLE {
            let Found { id, number, .. } = found;
            self.weighed.idle.push(Idle {
                id,
                number,
                place,
                stored: 0,
            });
        }
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
            if all.len() != 1 && !self.weighed.exact {
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
                if !less_deep && !self.weighed.exact {
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
    let weighed = weigh(repository, view, chunks)?;
    let Weighed {
        live, uses, lost, ..
    } = weighed;
    let packs = uses.0.iter().filter(|u| u.total > 0).count();
    Ok([packs as u64, live.bases.count(), lost.len() as u64])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Area;
    use crate::crypto::Encryption;
    use crate::format::segment::{Segment, SegmentPack, SegmentRow};
    use crate::id::{PackId, Uuid};
    use crate::index::{Bases, Encoding};
    use crate::repository::named_key;
    use crate::testing::new_repository;
    use crate::view::Condemned;
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
            exact.weighed.exact = true;
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

//! Which stored chunks a new one is encoded against, and whether that pays (design §4).
//!
//! A base is used only when it is usable in the view, and after its bytes were verified against its
//! id in this process.

use super::{Lane, Like};
use crate::error::AccessError;
use crate::format::MAX_DEPTH;
use crate::id::{BaseRef, ChunkId};
use crate::index::{Bases, Encoding, MAX_BASES};
use crate::record::{EncodedChunk, Parts, World, join, table_row};
use crate::view::Usable;

/// A delta of at most one in so many bytes of the chunk is smaller than anything else: no other
/// encoding is tried.
const CLEARLY: usize = 8;
/// A delta against the same place of more than one in so many bytes of the chunk is not what one
/// of a few changed rows looks like: a similar chunk is looked for.
const POOR: usize = 48;
/// Nor where a delta is of no more bytes than this beside: it is what one or two changed lines of a
/// small file look like.
const SMALL: usize = 256;
/// What bases cost beside the delta: their names in record and segment.
const PER_BASE: usize = 32;
/// Bytes of bases that are joined at most.
const MAX_PREFIX: usize = (1 << 20) - 1;

/// Bases of one chunk, verified.
#[derive(Default)]
struct Chosen {
    refs: Bases,
    parts: Parts,
    bytes: usize,
    depth: u8,
}

impl Lane<'_, '_> {
    /// The chunk against those at its place, and against similar ones where that is not enough.
    pub(super) fn delta_like(
        &mut self,
        id: ChunkId,
        plain: &[u8],
        like: &mut dyn Like,
    ) -> Result<Option<EncodedChunk>, AccessError> {
        let near = like.bases(plain.len());
        let best = self.delta(id, plain, &near)?;
        let size = |delta: &Option<EncodedChunk>| match delta {
            Some(chunk) => chunk.bytes.len() + PER_BASE * chunk.row.bases.len(),
            None => usize::MAX,
        };
        if size(&best) <= plain.len() / POOR + SMALL {
            return Ok(best);
        }
        let similar = self.writer.repository.similar();
        let Some(features) = similar.features(plain) else {
            return Ok(best);
        };
        let mut bases = Vec::new();
        for base in similar.find(&features) {
            bases.extend(self.whole_id(&base)?);
        }
        bases.retain(|base| *base != id);
        let moved = bases.iter().any(|base| like.met(base));
        let mut all = match moved {
            true => like.bases(plain.len()),
            false => near.clone(),
        };
        bases.truncate(MAX_BASES / 2);
        all.retain(|base| !bases.contains(base));
        all.truncate(MAX_BASES - bases.len());
        all.extend(bases);
        let best = match all.is_empty() || all == near {
            true => best,
            false => {
                // Each base is one thing more that can be lost, and that a restore decodes.
                let other = self.delta(id, plain, &all)?;
                let worth = size(&other) < size(&best) / 10 * 9;
                if worth { other } else { best }
            }
        };
        // What is at a new place is found by likeness the next time too, and least has changed
        // since its newest version.
        let is_new_place = near.is_empty() && self.world == World::Content;
        if (is_new_place || size(&best) > plain.len() / CLEARLY) && !self.writer.dry {
            similar.insert(&features, &id);
        }
        Ok(best)
    }

    /// The chunk against its bases, if that is at least a fifth smaller than without.
    pub(super) fn delta(
        &mut self,
        id: ChunkId,
        plain: &[u8],
        bases: &[ChunkId],
    ) -> Result<Option<EncodedChunk>, AccessError> {
        let mut chosen = Chosen::default();
        for base in bases.iter().filter(|b| **b != id) {
            self.choose(&id, base, &mut chosen)?;
        }
        if chosen.refs.is_empty() || plain.is_empty() {
            return Ok(None);
        }
        let bytes = self.encoder.delta(plain, &join(&chosen.parts));
        let bytes = bytes.map_err(AccessError::Spool)?;
        let cost = bytes.len() + PER_BASE * chosen.refs.len();
        if cost * CLEARLY > plain.len() {
            let (_, alone) = self.encoder.plain(plain).map_err(AccessError::Spool)?;
            if cost * 5 > alone.len() * 4 {
                return Ok(None);
            }
        }
        let mut row = table_row(id, Encoding::Delta, plain.len(), bytes.len());
        row.bases = chosen.refs;
        Ok(Some(EncodedChunk::new(
            row,
            bytes,
            chosen.depth,
            chosen.parts,
        )))
    }

    /// Adds a base, or what stands for it when it is too deep.
    fn choose(&self, id: &ChunkId, base: &ChunkId, chosen: &mut Chosen) -> Result<(), AccessError> {
        let Some((base, usable)) = self.shallow(base)? else {
            return Ok(());
        };
        let place = usable.place;
        // What resembles it may be a page, or the other way round.
        let pack = self.writer.repository.index().pack(place.pack);
        if pack.is_none_or(|pack| pack.tree != self.world.is_pages()) {
            return Ok(());
        }
        let name = base.as_base();
        let known = base == *id || chosen.refs.iter().any(|other| other == name);
        let room = chosen.bytes + place.plain as usize <= MAX_PREFIX;
        if known || !room && !chosen.refs.is_empty() {
            return Ok(());
        }
        // A base that cannot be read is done without: restores and checks tell of it.
        let Ok(part) = self.writer.reader.verified(self.world, &base, &place) else {
            return Ok(());
        };
        if chosen.refs.push(name) {
            chosen.bytes += part.plain.len();
            chosen.parts.push(part);
            chosen.depth = chosen.depth.max(place.depth + 1);
        }
        Ok(())
    }

    /// A usable chunk that is no deeper than a base may be: this one, or one that it is built on.
    fn shallow(&self, base: &ChunkId) -> Result<Option<(ChunkId, Usable)>, AccessError> {
        let view = self.writer.view();
        let cap = self.writer.repository.max_depth();
        let mut chain: Vec<(ChunkId, Usable)> = Vec::new();
        let mut next = Some(*base);
        while let Some(id) = next {
            let Some(usable) = view.usable(&id)? else {
                break;
            };
            if chain.is_empty() && usable.place.depth < cap {
                return Ok(Some((id, usable)));
            }
            chain.push((id, usable));
            next = match usable.place.bases.iter().next() {
                Some(below) if chain.len() <= usize::from(MAX_DEPTH) => self.whole_id(&below)?,
                _ => None,
            };
        }
        let links: Vec<Link> = chain.iter().map(|(_, usable)| Link::of(usable)).collect();
        let draw = chain.first().map_or(0.0, |(end, _)| draw(end));
        Ok(go_back(&links, cap, draw).and_then(|n| chain.get(n).copied()))
    }

    /// The chunk that a short name means.
    fn whole_id(&self, base: &BaseRef) -> Result<Option<ChunkId>, AccessError> {
        let repository = self.writer.repository;
        let found = repository.index().find_base(&repository.segments(), base)?;
        Ok(found.first().map(|found| found.id))
    }
}

/// One chunk of a chain of bases.
#[derive(Debug, Clone, Copy)]
struct Link {
    depth: u8,
    /// Packs are numbered in the order in which this machine learnt of them: about that of time.
    pack: u32,
}

impl Link {
    fn of(usable: &Usable) -> Link {
        Link {
            depth: usable.place.depth,
            pack: usable.place.pack.0,
        }
    }
}

/// In a chain that nobody went back in, what costs no more than so many times the least is as good:
/// a night is now two packs, now three.
const AS_GOOD: f64 = 1.1;
/// The same in others.
const EQUAL: f64 = 1.001;
/// Somebody went back where a step is longer than so many nights.
const LONG: f64 = 3.0;

/// A number from 0 to below 1 that follows from a chunk's id: small ones are more likely.
fn draw(id: &ChunkId) -> f64 {
    let even = id.0.first().map_or(0.0, |byte| f64::from(*byte) / 256.0);
    even.powi(3)
}

/// How far back along a chain the next delta goes when its end, the first link, is as deep as it
/// may be.
///
/// A delta grows with the nights between it and its base. Going back to depth `d` costs the nights
/// since then once, and gives room for `cap - d - 1` deltas of one night each before the chain is
/// full again, or for about half the square of that when it is gone back to several times, at two
/// nights each. Where the mean of these is least is the place. With a cap of 8 the mean distance
/// is 1 for 8 nights, 2.4 until the 45th, then between 3 and 4; with 12, 1 for 12 nights and 2.4
/// until the 91st.
///
/// Where several are as good, it is the farthest; but in a chain that nobody went back in `draw`
/// decides, with 0 for the nearest. Chunks that change every night are full in the same one, which
/// would cost as much as all before it together if each went back to the farthest. After that they
/// go back in different nights.
fn go_back(chain: &[Link], cap: u8, draw: f64) -> Option<usize> {
    let first = chain.first()?;
    let nights = |from: u32| f64::from(first.pack.saturating_sub(from));
    let pairs = chain.iter().zip(chain.iter().skip(1));
    let step = |(above, below): (&Link, &Link)| above.pack.saturating_sub(below.pack);
    let mut steps: Vec<u32> = pairs.map(step).collect();
    steps.sort_unstable();
    let step_at = |n: usize| f64::from(steps.get(n).copied().unwrap_or(1).max(1));
    let usual = step_at(steps.len() / 4);
    let is_whole = steps
        .last()
        .is_none_or(|step| f64::from(*step) <= LONG * usual);
    let (night, as_good, draw) = match is_whole {
        true => (usual, AS_GOOD, draw),
        // The farthest: several draws in a row would lead away from the best way on.
        false => (step_at(0), EQUAL, 1.0),
    };
    let cost = |link: &Link| {
        let gap = nights(link.pack) + night;
        let left = f64::from(cap - 1 - link.depth);
        let more = (left + 2.0) * (left + 1.0) / 2.0;
        let once = (gap + left * night) / (left + 1.0);
        let often = (gap + (more - 1.0) * 2.0 * night) / more;
        once.min(often)
    };
    let able = || {
        chain
            .iter()
            .enumerate()
            .filter(|(_, link)| link.depth < cap)
    };
    let least = able().map(|(_, link)| cost(link)).fold(f64::MAX, f64::min);
    let best = || able().filter(|(_, link)| cost(link) <= least * as_good);
    let last = best().count().checked_sub(1)?;
    let which = (draw * (last + 1) as f64) as usize;
    best().nth(which.min(last)).map(|(n, _)| n)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(n: u32) -> ChunkId {
        ChunkId(*blake3::hash(&n.to_le_bytes()).as_bytes())
    }

    /// Distances between a chunk that changes every night and its base; `which` chunk decides where
    /// several places are as good.
    fn distances(nights: u32, cap: u8, which: u32) -> Vec<u32> {
        // Chains by their ends.
        let mut chain = vec![Link { depth: 0, pack: 0 }];
        let mut distances = Vec::new();
        for pack in 1..=nights {
            let at = match chain[0].depth < cap {
                true => 0,
                false => go_back(&chain, cap, draw(&chunk(which * 1000 + pack))).unwrap(),
            };
            chain.drain(..at);
            distances.push(pack - chain[0].pack);
            let depth = chain[0].depth + 1;
            assert!(depth <= cap);
            chain.insert(0, Link { depth, pack });
        }
        distances
    }

    #[test]
    fn a_chain_that_is_full_is_left_where_that_costs_least() {
        let means = |cap: u8, parts: [std::ops::Range<usize>; 3]| {
            let chunks: Vec<Vec<u32>> = (0..50).map(|which| distances(165, cap, which)).collect();
            parts.map(|nights| {
                let some = chunks.iter().flat_map(|d| &d[nights.clone()]);
                f64::from(some.sum::<u32>()) / (50 * nights.len()) as f64
            })
        };
        let found = means(8, [0..8, 8..45, 45..165]);
        assert!(
            found[0] == 1.0 && found[1] < 2.5 && found[2] < 4.0,
            "{found:?}"
        );
        let found = means(12, [0..12, 12..91, 91..165]);
        assert!(
            found[0] == 1.0 && found[1] < 2.5 && found[2] < 4.0,
            "{found:?}"
        );
        // Without an order of packs there is still an answer.
        let same = [8, 7, 6, 5].map(|depth| Link { depth, pack: 3 });
        assert!(go_back(&same, 8, 0.0).is_some());
        assert_eq!(go_back(&[], 8, 0.0), None);
    }

    #[test]
    fn chains_that_are_full_at_once_go_back_to_different_places() {
        let chain = (0..=12u8).rev();
        // A night of three packs, as there are some.
        let pack = |depth: u8| 2 * u32::from(depth) + u32::from(depth > 5);
        let chain: Vec<Link> = chain
            .map(|depth| Link {
                depth,
                pack: pack(depth),
            })
            .collect();
        let mut met = [0; 13];
        for n in 0..1300 {
            met[go_back(&chain, 12, draw(&chunk(n))).unwrap()] += 1;
        }
        assert_eq!(met[0], 0);
        // On an average some four nights, not twelve.
        let places = met.iter().filter(|times| **times > 30).count();
        let nights = (0..)
            .zip(met)
            .map(|(n, times)| (n + 1) * times)
            .sum::<u32>();
        assert!(places > 8 && nights < 1300 * 6, "{met:?}");
    }
}

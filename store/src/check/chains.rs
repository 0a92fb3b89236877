//! Deltas in an order in which each is decoded once or hardly more often: those whose chains begin
//! with the same chunk together, and of these a base before what is based on it. Chains of
//! neighbours are neighbours too, as their first chunks are, so further bases are at hand as well.

use std::collections::HashMap;

use super::read::Delta;
use crate::error::AccessError;
use crate::format::MAX_DEPTH;
use crate::id::BaseRef;
use crate::repository::Repository;

/// Least deltas of one run, so that threads meet seldom, and most: a chunk may be the beginning of
/// very many chains.
const MIN_RUN: usize = 16;
const MAX_RUN: usize = 512;
/// Bases outside that are remembered.
const MAX_OUTSIDE: usize = 1 << 16;

/// Where a chain begins: pack, record, slot. Means nothing but an order.
type Root = (u32, u32, u8);

/// Runs of deltas, by their positions, each for one thread.
pub(super) fn runs(
    repository: &Repository,
    deltas: &[Delta],
) -> Result<Vec<Vec<u32>>, AccessError> {
    let numbered = (0u32..).zip(deltas);
    let mut chains = Chains {
        repository,
        deltas,
        by_id: numbered.map(|(i, d)| (d.id.as_base(), i)).collect(),
        ends: vec![None; deltas.len()],
        outside: HashMap::new(),
    };
    let mut order: Vec<(Root, u8, u32)> = Vec::with_capacity(deltas.len());
    for i in 0..deltas.len() as u32 {
        let (root, depth) = chains.end(i)?;
        order.push((root, depth, i));
    }
    order.sort_unstable();
    let mut runs: Vec<Vec<u32>> = Vec::new();
    let mut last = None;
    for (root, _, i) in order {
        let goes_on = |run: &&mut Vec<u32>| {
            run.len() < MIN_RUN || (last == Some(root) && run.len() < MAX_RUN)
        };
        match runs.last_mut().filter(goes_on) {
            Some(run) => run.push(i),
            None => runs.push(vec![i]),
        }
        last = Some(root);
    }
    Ok(runs)
}

struct Chains<'a> {
    repository: &'a Repository,
    deltas: &'a [Delta],
    by_id: HashMap<BaseRef, u32>,
    /// Where the chains of deltas begin that were followed, and how long they are.
    ends: Vec<Option<(Root, u8)>>,
    /// The same of chunks that are not among the deltas.
    outside: HashMap<BaseRef, (Root, u8)>,
}

impl Chains<'_> {
    /// Where the chain of a delta begins, following first bases, and how many it needs.
    fn end(&mut self, from: u32) -> Result<(Root, u8), AccessError> {
        let mut path = Vec::new();
        let mut at = from;
        let mut end = loop {
            let Some(delta) = self.deltas.get(at as usize) else {
                break unknown(at);
            };
            if let Some(Some(end)) = self.ends.get(at as usize) {
                break *end;
            }
            path.push(at);
            match self.by_id.get(&delta.first) {
                // A cycle: damage, which decoding finds.
                Some(_) if path.len() > usize::from(MAX_DEPTH) => break unknown(at),
                Some(next) => at = *next,
                None => break self.outside(delta.first)?,
            }
        };
        for i in path.into_iter().rev() {
            end.1 = end.1.saturating_add(1);
            if let Some(known) = self.ends.get_mut(i as usize) {
                *known = Some(end);
            }
        }
        Ok(end)
    }

    /// The same of a chunk that is not among the deltas.
    fn outside(&mut self, from: BaseRef) -> Result<(Root, u8), AccessError> {
        if let Some(end) = self.outside.get(&from) {
            return Ok(*end);
        }
        let segments = self.repository.segments();
        let mut base = from;
        let mut end = unknown(u32::from_le_bytes(start(&from)));
        for depth in 0..MAX_DEPTH {
            let found = self.repository.index().find_base(&segments, &base)?;
            let places = found.iter().flat_map(|f| &f.places);
            let Some(place) = places.min_by_key(|p| p.depth) else {
                break;
            };
            end = ((place.pack.0, place.offset, place.slot), depth);
            match place.bases.iter().next() {
                Some(next) => base = next,
                None => break,
            }
        }
        if self.outside.len() >= MAX_OUTSIDE {
            self.outside.clear();
        }
        self.outside.insert(from, end);
        Ok(end)
    }
}

/// Somewhere behind all that is known.
fn unknown(by: u32) -> (Root, u8) {
    ((u32::MAX, by, 0), 0)
}

fn start(base: &BaseRef) -> [u8; 4] {
    base.0.first_chunk().copied().unwrap_or_default()
}

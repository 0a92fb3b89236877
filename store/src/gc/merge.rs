//! Folding segments (gc-protocol.md, "Merger of segments"). Needs no session; any writer may do it.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::backend::Area;
use crate::error::AccessError;
use crate::format::segment::{MAX_ROWS, MAX_SUPERSEDES, Segment, SegmentPack, SegmentRow};
use crate::id::{PackId, SegmentId, Uuid};
use crate::pack::is_there;
use crate::repository::{Repository, named_key};
use crate::view::list_packs;
use crate::writer::{put_fresh, seal_segment};

/// When a merger has something to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// Many small segments stand.
    AfterSnapshot,
    /// Some small ones stand, or many rows name packs that are gone.
    AfterGc,
    /// At once, for tests.
    #[cfg(test)]
    Always,
}

/// Segments below this are small: about a sixteenth of the rows of a full one.
const SMALL: u64 = 1 << 20;
/// So many small ones are many, for a snapshot.
const MANY_SMALL: usize = 32;
/// Rows that one run holds in memory.
const MAX_FOLD: usize = 4 * MAX_ROWS;
/// So many are enough for gc.
const SOME_SMALL: usize = 8;

/// Folds what is worth it. Answers how many segments were superseded.
pub(crate) fn merge(repository: &Repository, when: When) -> Result<u64, AccessError> {
    let segments = repository.segments();
    let listed = segments.list()?;
    let small: Vec<SegmentId> = listed
        .iter()
        .filter(|(_, size)| *size < SMALL)
        .map(|(id, _)| *id)
        .collect();
    let enough = match when {
        When::AfterSnapshot => MANY_SMALL,
        When::AfterGc => SOME_SMALL,
        #[cfg(test)]
        When::Always => 1,
    };
    let fold_small = small.len() >= enough;
    if !fold_small && when == When::AfterSnapshot {
        return Ok(0);
    }
    let hint: HashSet<PackId> = list_packs(repository)?.into_keys().collect();
    let mut read: Vec<(SegmentId, Segment)> = Vec::new();
    let mut rows = 0;
    for (id, _) in &listed {
        let is_small = fold_small && small.contains(id);
        if !is_small && when == When::AfterSnapshot {
            continue;
        }
        // One that does not open is repair's matter.
        let segment = match segments.get(id) {
            Ok(Some(segment)) => segment,
            Ok(None) => continue,
            Err(e) if e.is_damage() => continue,
            Err(e) => return Err(e),
        };
        if is_small || is_mostly_gone(&segment, &hint) {
            rows += segment.rows.len();
            read.push((*id, segment));
        }
        if rows > MAX_FOLD {
            break;
        }
    }
    // Packs are listed after the segments were read: rows of those that are gone are dropped.
    let mut packs: HashSet<PackId> = list_packs(repository)?.into_keys().collect();
    let named = read.iter().flat_map(|(_, segment)| &segment.packs);
    // In their order: what is asked depends on nothing but what is stored.
    let unlisted: BTreeSet<PackId> = named
        .map(|p| p.id)
        .filter(|id| !packs.contains(id))
        .collect();
    // A listing may be short, and with the last rows of a pack its chunks would be lost.
    for id in unlisted {
        if is_there(repository.backend(), &id)? {
            packs.insert(id);
        }
    }
    let mut merged = 0;
    for group in group(read) {
        merged += fold(repository, &group, &packs)?;
    }
    Ok(merged)
}

/// Whether a quarter of the rows name packs that are gone.
fn is_mostly_gone(segment: &Segment, packs: &HashSet<PackId>) -> bool {
    let gone: Vec<bool> = segment
        .packs
        .iter()
        .map(|p| !packs.contains(&p.id))
        .collect();
    let is_gone = |row: &&SegmentRow| gone.get(row.pack as usize).copied().unwrap_or(false);
    let rows = segment.rows.iter().filter(is_gone).count();
    rows > 0 && rows * 4 >= segment.rows.len()
}

/// Groups that fit into one segment each.
fn group(read: Vec<(SegmentId, Segment)>) -> Vec<Vec<(SegmentId, Segment)>> {
    let mut groups: Vec<Vec<(SegmentId, Segment)>> = Vec::new();
    let mut rows = 0;
    for (id, segment) in read {
        rows += segment.rows.len();
        match groups.last_mut().filter(|_| rows <= MAX_ROWS) {
            Some(group) => group.push((id, segment)),
            None => {
                rows = segment.rows.len();
                groups.push(vec![(id, segment)]);
            }
        }
    }
    groups
}

/// Puts one segment in the place of several, and deletes exactly these when it is acknowledged.
fn fold(
    repository: &Repository,
    group: &[(SegmentId, Segment)],
    packs: &HashSet<PackId>,
) -> Result<u64, AccessError> {
    let folded = join(group, packs);
    if group.len() == 1 && group.iter().all(|(_, s)| s.rows == folded.rows) {
        return Ok(0);
    }
    let (id, body) = seal_segment(repository, &folded, Uuid([0; 16]))?;
    put_fresh(repository, &named_key(Area::Index, id), &body)?;
    for (old, _) in group {
        debug_assert!(folded.supersedes.contains(old));
        repository.backend().delete(&named_key(Area::Index, old))?;
    }
    Ok(group.len() as u64)
}

/// All rows whose packs stand, and what the new segment supersedes.
fn join(group: &[(SegmentId, Segment)], packs: &HashSet<PackId>) -> Segment {
    let mut folded = Segment::default();
    folded.supersedes.extend(group.iter().map(|(id, _)| *id));
    let older = group.iter().flat_map(|(_, s)| s.supersedes.iter().copied());
    let room = MAX_SUPERSEDES.saturating_sub(folded.supersedes.len());
    folded.supersedes.extend(older.take(room));
    let mut numbers: HashMap<PackId, u32> = HashMap::new();
    for (_, segment) in group {
        let mut new_numbers: Vec<Option<u32>> = Vec::with_capacity(segment.packs.len());
        for pack in &segment.packs {
            new_numbers.push(number(&mut numbers, &mut folded.packs, pack, packs));
        }
        let row = |row: &SegmentRow| {
            let pack = new_numbers.get(row.pack as usize).copied().flatten()?;
            Some(SegmentRow {
                pack,
                ..row.clone()
            })
        };
        folded.rows.extend(segment.rows.iter().filter_map(row));
    }
    folded.sort();
    folded
}

fn number(
    numbers: &mut HashMap<PackId, u32>,
    folded: &mut Vec<SegmentPack>,
    pack: &SegmentPack,
    packs: &HashSet<PackId>,
) -> Option<u32> {
    packs.contains(&pack.id).then(|| {
        *numbers.entry(pack.id).or_insert_with(|| {
            folded.push(pack.clone());
            folded.len() as u32 - 1
        })
    })
}

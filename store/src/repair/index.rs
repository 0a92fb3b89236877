//! Segments that are damaged or missing: their rows are made anew from the packs that stand, and
//! published in a segment that supersedes the bad ones (gc-protocol.md, "Repair").
//!
//! Decides nothing about what packs are worth: a row says where a record stands, and a record
//! whose seal does not hold gets none.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::packs::list_twice;
use super::{Action, salvage};
use crate::backend::Area;
use crate::check::data::Unreadable;
use crate::error::AccessError;
use crate::format::MAX_DEPTH;
use crate::format::segment::{MAX_ROWS, MAX_SUPERSEDES, Segment, SegmentPack, SegmentRow};
use crate::gc;
use crate::id::{BaseRef, PackId, SegmentId, Uuid};
use crate::monitor::{Counters, Event, Monitor};
use crate::pack::{read_directory, read_header};
use crate::reader::{Reader, is_bad};
use crate::repository::{Repository, named_key};
use crate::writer::{put_fresh, seal_segment};

/// What readable segments say: which records of which packs they name. 8 bytes a record.
#[derive(Default)]
struct Indexed {
    numbers: HashMap<PackId, u32>,
    records: Vec<(u32, u32)>,
}

impl Indexed {
    fn add(&mut self, segment: &Segment) {
        let mut new: Vec<(u32, u32)> = Vec::with_capacity(segment.rows.len());
        for row in &segment.rows {
            let Some(pack) = segment.packs.get(row.pack as usize) else {
                continue;
            };
            let next = self.numbers.len() as u32;
            let number = *self.numbers.entry(pack.id).or_insert(next);
            new.push((number, row.offset));
        }
        new.sort_unstable();
        new.dedup();
        self.records.extend(new);
    }

    fn sort(&mut self) {
        self.records.sort_unstable();
        self.records.dedup();
    }

    fn has(&self, pack: &PackId, offset: u32) -> bool {
        let number = self.numbers.get(pack);
        number.is_some_and(|n| self.records.binary_search(&(*n, offset)).is_ok())
    }
}

/// Looks at every segment, then at packs: all that a segment names stood before it did.
pub(super) fn plan(
    repository: &Repository,
    monitor: &dyn Monitor,
) -> Result<Vec<Action>, AccessError> {
    monitor.event(Event::Phase("reading the index"));
    let segments = repository.segments();
    let mut indexed = Indexed::default();
    let mut bad = Vec::new();
    for (id, _) in segments.list()? {
        match segments.get(&id) {
            Ok(Some(segment)) => indexed.add(&segment),
            Ok(None) => {}
            Err(e) if e.is_damage() => bad.push(id),
            Err(e) => return Err(e),
        }
    }
    indexed.sort();
    let mut packs: Vec<(PackId, u64)> = list_twice(repository)?.into_iter().collect();
    packs.sort_unstable();
    // What a damaged segment named is not known: then nobody's packs are left out.
    let open = match bad.is_empty() {
        true => gc::unsettled(repository)?,
        false => BTreeSet::new(),
    };
    let (count, mut unreadable) = (packs.len(), Unreadable::default());
    let mut wanted = Vec::new();
    for (id, size) in packs {
        let missing = match is_missing(repository, &indexed, &open, &id, size) {
            Err(e) if is_bad(&e) => {
                unreadable.add(id, &e);
                // What is indexed of it is the matter of `packs`.
                !indexed.numbers.contains_key(&id) && has_records(repository, &id, size)?
            }
            other => other?,
        };
        if missing {
            wanted.push((id, size));
        }
    }
    unreadable.stop_if_storage_fails(repository, count)?;
    if bad.is_empty() && wanted.is_empty() {
        return Ok(Vec::new());
    }
    Ok(vec![Action::Index {
        packs: wanted,
        supersede: bad,
    }])
}

/// Whether a pack holds a record that no row names.
///
/// # Errors
/// Also when its header or directory is bad.
fn is_missing(
    repository: &Repository,
    indexed: &Indexed,
    open: &BTreeSet<Uuid>,
    id: &PackId,
    size: u64,
) -> Result<bool, AccessError> {
    let backend = repository.backend();
    if !indexed.numbers.contains_key(id) {
        let header = read_header(backend, id, size);
        return match header.and_then(|(h, _)| Ok((h, read_directory(backend, id, size)?))) {
            Ok((header, _)) if open.contains(&header.session) => Ok(false),
            Ok((_, records)) if !records.is_empty() => Ok(true),
            Err(AccessError::Backend(e)) if e.is_absent() => Ok(false),
            // With nothing that opens in it, it would be met again and again.
            Ok(_) => has_records(repository, id, size),
            Err(e) => Err(e),
        };
    }
    let directory = read_directory(backend, id, size)?;
    if directory.iter().all(|(offset, _)| indexed.has(id, *offset)) {
        return Ok(false);
    }
    // A record may name nothing but chunks that stand in another record of the pack too.
    let rows = rows_of(&Reader::new(repository), id, size)?.map_or(Vec::new(), |(_, rows)| rows);
    Ok(rows.iter().any(|row| !indexed.has(id, row.offset)))
}

fn has_records(repository: &Repository, id: &PackId, size: u64) -> Result<bool, AccessError> {
    let rows = rows_of(&Reader::new(repository), id, size)?;
    Ok(rows.is_some_and(|(_, rows)| !rows.is_empty()))
}

type PackRows = (SegmentPack, Vec<SegmentRow>);

/// The rows of what opens in a pack; depths are still to be found.
fn rows_of(reader: &Reader<'_>, id: &PackId, size: u64) -> Result<Option<PackRows>, AccessError> {
    let mut rows: Vec<SegmentRow> = Vec::new();
    let mut seen = HashSet::new();
    let origin = salvage::records(reader, id, size, None, &mut |found| {
        for (slot, row) in (0u8..=u8::MAX).zip(&found.record.rows) {
            if seen.insert(row.id) {
                rows.push(SegmentRow {
                    id: row.id,
                    pack: 0,
                    offset: found.offset,
                    stored: found.stored.len() as u32,
                    slot,
                    plain: row.plain,
                    encoding: row.encoding,
                    depth: u8::from(!row.bases.is_empty()),
                    bases: row.bases,
                });
            }
        }
        Ok(())
    })?;
    Ok(origin.map(|origin| {
        let pack = SegmentPack {
            id: *id,
            session: origin.session,
            tree: origin.tree,
        };
        (pack, rows)
    }))
}

/// What was published.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rebuilt {
    pub packs: u64,
    pub chunks: u64,
}

/// Publishes the rows of packs, then supersedes and deletes the bad segments.
pub(super) fn rebuild(
    repository: &Repository,
    packs: &[(PackId, u64)],
    supersede: &[SegmentId],
    monitor: &dyn Monitor,
) -> Result<Rebuilt, AccessError> {
    let reader = Reader::new(repository);
    let mut done = Rebuilt::default();
    let mut segment = Segment::default();
    monitor.event(Event::Phase("reading packs"));
    monitor.event(Event::Expect {
        bytes: packs.iter().map(|(_, n)| n).sum(),
        entries: packs.len() as u64,
    });
    for (id, size) in packs {
        if let Some((pack, rows)) = rows_of(&reader, id, *size)? {
            done.packs += 1;
            done.chunks += rows.len() as u64;
            let mut rest = rows.as_slice();
            while !rest.is_empty() {
                let room = MAX_ROWS - segment.rows.len();
                let (now, later) = rest.split_at(rest.len().min(room));
                let number = segment.packs.len() as u32;
                segment.packs.push(pack.clone());
                let row = |row: &SegmentRow| SegmentRow {
                    pack: number,
                    ..row.clone()
                };
                segment.rows.extend(now.iter().map(row));
                rest = later;
                if segment.rows.len() >= MAX_ROWS {
                    publish(repository, std::mem::take(&mut segment))?;
                }
            }
        }
        Counters::add(&monitor.counters().bytes, *size);
        Counters::add(&monitor.counters().entries, 1);
    }
    // The last one takes the place of the bad: until it stands, the others are only more rows.
    let (now, later) = supersede.split_at(supersede.len().min(MAX_SUPERSEDES));
    segment.supersedes = now.to_vec();
    if !segment.rows.is_empty() || !now.is_empty() {
        publish(repository, segment)?;
    }
    for more in later.chunks(MAX_SUPERSEDES) {
        let empty = Segment {
            supersedes: more.to_vec(),
            ..Segment::default()
        };
        publish(repository, empty)?;
    }
    for bad in supersede {
        repository.backend().delete(&named_key(Area::Index, bad))?;
    }
    repository.update_index()?;
    Ok(done)
}

/// Puts a segment. Like a merger it needs no session.
fn publish(repository: &Repository, mut segment: Segment) -> Result<(), AccessError> {
    find_depths(repository, &mut segment.rows)?;
    segment.sort();
    let (id, body) = seal_segment(repository, &segment, Uuid([0; 16]))?;
    put_fresh(repository, &named_key(Area::Index, id), &body)?;
    repository
        .index()
        .apply_own(&repository.segments(), id, segment)
}

/// Records do not tell how deep their deltas are: from the bases' depths, here and in the index.
fn find_depths(repository: &Repository, rows: &mut [SegmentRow]) -> Result<(), AccessError> {
    let mut depths: HashMap<BaseRef, u8> = HashMap::new();
    for row in rows.iter().filter(|r| r.bases.is_empty()) {
        depths.insert(row.id.as_base(), 0);
    }
    let segments = repository.segments();
    let mut deltas: Vec<&mut SegmentRow> =
        rows.iter_mut().filter(|r| !r.bases.is_empty()).collect();
    let own: HashSet<BaseRef> = deltas.iter().map(|r| r.id.as_base()).collect();
    for base in deltas.iter().flat_map(|r| r.bases.iter()) {
        if !own.contains(&base) && !depths.contains_key(&base) {
            let found = repository.index().find_base(&segments, &base)?;
            let places = found.iter().flat_map(|f| &f.places);
            depths.insert(base, places.map(|p| p.depth).min().unwrap_or(0));
        }
    }
    for _ in 0..MAX_DEPTH {
        let before = deltas.len();
        let mut waiting = Vec::new();
        for row in deltas {
            let known: Vec<Option<u8>> =
                row.bases.iter().map(|b| depths.get(&b).copied()).collect();
            match known.iter().copied().collect::<Option<Vec<u8>>>() {
                Some(known) => {
                    row.depth = known.iter().max().map_or(1, |d| d.saturating_add(1));
                    depths.entry(row.id.as_base()).or_insert(row.depth);
                }
                None => waiting.push(row),
            }
        }
        deltas = waiting;
        if deltas.len() == before {
            break;
        }
    }
    // Circles, and what is deeper than anybody reads: nobody may build on it.
    deltas.into_iter().for_each(|row| row.depth = MAX_DEPTH);
    Ok(())
}

//! Copying what still lives out of packs that go (gc-protocol.md, collector step 2, sweep step 10).

use super::mark::{Live, Partial, Plan, chosen};
use crate::error::AccessError;
use crate::format::record::TableRow;
use crate::id::{ChunkId, PackId};
use crate::index::{Found, KnownPack};
use crate::monitor::{Counters, Event, Monitor};
use crate::pack::read_directory;
use crate::reader::{Reader, is_bad};
use crate::record::{EncodedChunk, OpenRecord, World};
use crate::session::Session;
use crate::view::View;
use crate::writer::Writer;

/// Bytes of a pack that are read at once.
const READ: u64 = 4 << 20;

/// Copies the living rest of the packs that a plan condemns in part: packs, then their segment.
/// Answers the bytes that were put. A pack that cannot be read whole is taken out of the plan: the
/// next snapshot that has the data, or repair, heals it.
pub(super) fn living_rest(
    session: &Session<'_>,
    plan: &mut Plan,
    monitor: &dyn Monitor,
) -> Result<u64, AccessError> {
    if plan.partial.is_empty() {
        return Ok(0);
    }
    let repository = session.repository();
    let view = session.view()?;
    let writer = Writer::new(session, view);
    let reader = Reader::new(repository);
    let mut damaged = Vec::new();
    for Partial { pack, .. } in &plan.partial {
        match copy_pack(&writer, &reader, plan, pack, monitor) {
            Err(e) if e.is_damage() || (is_bad(&e) && repository.answers()) => {
                let name = pack.id.to_string();
                monitor.event(Event::Problem {
                    path: name.as_bytes(),
                    message: &e.to_string(),
                });
                damaged.push(pack.id);
            }
            other => other?,
        }
    }
    plan.partial.retain(|p| !damaged.contains(&p.pack.id));
    writer.finish()?;
    Ok(writer.stored().new_stored)
}

/// Copies what lives of one pack. Whole records are moved sealed as they are.
fn copy_pack(
    writer: &Writer<'_>,
    reader: &Reader<'_>,
    plan: &Plan,
    pack: &KnownPack,
    monitor: &dyn Monitor,
) -> Result<(), AccessError> {
    let repository = reader.repository();
    let size = plan.sizes.get(&pack.id).copied().unwrap_or(0);
    let world = if pack.tree {
        World::Pages
    } else {
        World::Content
    };
    let records = match read_directory(repository.backend(), &pack.id, size) {
        Ok(records) => records,
        // Another collector was faster; the sweep looks again.
        Err(AccessError::Backend(e)) if e.is_absent() => return Ok(()),
        Err(e) => return Err(e),
    };
    let mut lane = writer.lane(world);
    for group in group_ranges(&records) {
        let Some((first, _)) = group.first() else {
            continue;
        };
        let end = group
            .last()
            .map_or(0, |(offset, len)| u64::from(*offset) + u64::from(*len));
        let bytes = match reader.fetch(pack.id, u64::from(*first), end - u64::from(*first)) {
            Ok(bytes) => bytes,
            Err(AccessError::Backend(e)) if e.is_absent() => return Ok(()),
            Err(e) => return Err(e),
        };
        Counters::add(&monitor.counters().stored, bytes.len() as u64);
        for (offset, len) in group {
            let start = (offset - first) as usize;
            let stored = bytes.get(start..start + *len as usize).unwrap_or(&[]);
            let record = reader.open(world, pack.id, *offset, stored)?;
            let keep = living_rows(
                &writer.view(),
                &plan.live,
                &record,
                pack.id,
                *offset,
                reader,
            )?;
            if keep.len() == record.rows.len() {
                let rows: Vec<(TableRow, u8)> = keep
                    .iter()
                    .filter_map(|(slot, depth)| Some((*record.rows.get(*slot)?, *depth)))
                    .collect();
                writer.append(world, stored, &rows)?;
            } else {
                for (slot, depth) in keep {
                    push(&mut lane, &record, slot, depth)?;
                }
            }
        }
    }
    lane.flush()
}

/// Neighbouring records that are read in one go.
fn group_ranges(records: &[(u32, u32)]) -> Vec<&[(u32, u32)]> {
    let mut groups = Vec::new();
    let mut start = 0;
    let mut bytes = 0u64;
    for (i, (_, len)) in records.iter().enumerate() {
        if bytes > 0 && bytes + u64::from(*len) > READ {
            groups.extend(records.get(start..i));
            (start, bytes) = (i, 0);
        }
        bytes += u64::from(*len);
    }
    groups.extend(records.get(start..));
    groups
}

/// The rows of a record that live, and live here: slot and depth.
fn living_rows(
    view: &View<'_>,
    live: &Live,
    record: &OpenRecord,
    pack: PackId,
    offset: u32,
    reader: &Reader<'_>,
) -> Result<Vec<(usize, u8)>, AccessError> {
    let repository = reader.repository();
    let segments = repository.segments();
    let mut keep = Vec::new();
    for (slot, row) in record.rows.iter().enumerate() {
        let Some(found) = repository.index().find(&segments, &row.id)? else {
            continue;
        };
        if !live.contains(&found) {
            continue;
        }
        let here = |place: &crate::index::Place| -> Result<bool, AccessError> {
            let known = repository.index().pack(place.pack);
            Ok(place.offset == offset && known.is_some_and(|k| k.id == pack))
        };
        if let Some(place) = chosen(view, &found)?
            && here(&place)?
        {
            keep.push((slot, place.depth));
        }
    }
    Ok(keep)
}

fn push(
    lane: &mut crate::writer::Lane<'_, '_>,
    record: &OpenRecord,
    slot: usize,
    depth: u8,
) -> Result<(), AccessError> {
    let Some(row) = record.rows.get(slot) else {
        return Err(AccessError::VerifyFailed);
    };
    if let Some((row, bytes)) = record.encoded(slot) {
        return lane.push(EncodedChunk::new(*row, bytes.to_vec(), depth));
    }
    let lost = || AccessError::LostChunk {
        chunk: row.id,
        why: Some("it does not decode".into()),
    };
    let plain = record.decode(slot, &[]).ok_or_else(lost)?;
    lane.put(row.id, &plain, &[])
}

/// Sweep step 10: copies chunks, flattened, from any pack that exists. Answers the bytes that were
/// put.
///
/// # Errors
/// [`AccessError::LostChunk`] when one is nowhere any more.
pub(super) fn rescue(
    session: &Session<'_>,
    view: View<'_>,
    reader: &Reader<'_>,
    chunks: &[(World, ChunkId)],
) -> Result<u64, AccessError> {
    let writer = Writer::new(session, view);
    for world in World::ALL {
        let mut lane = writer.lane(world);
        for (_, id) in chunks.iter().filter(|(w, _)| *w == world) {
            let plain = reader.chunk(world, id)?;
            lane.put(*id, &plain, &[])?;
        }
        lane.flush()?;
    }
    writer.finish()?;
    Ok(writer.stored().new_stored)
}

/// Which world a chunk belongs to: that of the packs that hold it.
pub(super) fn world_of(
    repository: &crate::repository::Repository,
    found: &Found,
) -> Result<World, AccessError> {
    for place in &found.places {
        if let Some(pack) = repository.index().pack(place.pack) {
            return Ok(if pack.tree {
                World::Pages
            } else {
                World::Content
            });
        }
    }
    Ok(World::Content)
}

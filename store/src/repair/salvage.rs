//! What a pack still gives, whatever happened to it: records are found by their magic, from the
//! first byte to the last, and count when their seal holds (docs/format.md, "Chunk, record,
//! pack").
//!
//! Neither header nor directory is needed; both may be gone.

use crate::error::AccessError;
use crate::format::pack::{MAX_HEADER, PackHeader};
use crate::format::record::{HEADER, MAGIC, RecordHeader};
use crate::id::{PackId, Uuid};
use crate::index::KnownPack;
use crate::pack::pack_key;
use crate::reader::{Reader, says_damage};
use crate::record::{OpenRecord, World};

/// Packs above this are none that hucha wrote: nothing of them is read into memory.
const ABSURD: u64 = 256 << 20;

/// A record that was found.
pub(super) struct Salvaged<'a> {
    pub world: World,
    pub offset: u32,
    pub stored: &'a [u8],
    pub record: OpenRecord,
}

/// Whose pack it is, as far as it says so itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Origin {
    pub session: Uuid,
    pub tree: bool,
}

/// Shows every record of a pack that opens, in order. `known` is what the index says of it.
/// Answers whose pack it is; `None` when the pack is gone, or neither it nor the index tells.
pub(super) fn records(
    reader: &Reader<'_>,
    id: &PackId,
    size: u64,
    known: Option<&KnownPack>,
    each: &mut dyn FnMut(Salvaged<'_>) -> Result<(), AccessError>,
) -> Result<Option<Origin>, AccessError> {
    if size > ABSURD {
        return Ok(None);
    }
    let stored = match reader.repository().backend().get(&pack_key(id)?) {
        Ok(stored) => stored,
        Err(e) if e.is_absent() => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    let start = stored.get(..stored.len().min(MAX_HEADER)).unwrap_or(&[]);
    let header = PackHeader::decode(start).ok();
    let mut at = header.as_ref().map_or(0, |(_, len)| *len);
    let mut origin = header.map(|(header, _)| Origin {
        session: header.session,
        tree: header.tree,
    });
    origin = origin.or(known.map(|known| Origin {
        session: known.session,
        tree: known.tree,
    }));
    let worlds: &[World] = match origin {
        Some(Origin { tree: true, .. }) => &[World::Pages],
        Some(Origin { tree: false, .. }) => &[World::Content],
        None => &World::ALL,
    };
    while let Some(found) = find(&stored, at) {
        at = match open(reader, id, worlds, &stored, found)? {
            Some(salvaged) => {
                let next = found + salvaged.stored.len();
                let tree = salvaged.world.is_pages();
                // Only session 0 is told of a pack that lost its header and has no rows.
                origin.get_or_insert(Origin {
                    session: Uuid([0; 16]),
                    tree,
                });
                each(salvaged)?;
                next
            }
            None => found + 1,
        };
    }
    Ok(origin)
}

/// Where the next record may begin.
fn find(stored: &[u8], from: usize) -> Option<usize> {
    let rest = stored.get(from..)?;
    let at = rest.windows(MAGIC.len()).position(|w| w == MAGIC)?;
    Some(from + at)
}

/// The record at a place, if there is one and its seal holds.
fn open<'a>(
    reader: &Reader<'_>,
    id: &PackId,
    worlds: &[World],
    stored: &'a [u8],
    at: usize,
) -> Result<Option<Salvaged<'a>>, AccessError> {
    let rest = stored.get(at..).unwrap_or(&[]);
    let Ok(header) = RecordHeader::decode(rest) else {
        return Ok(None);
    };
    let Some(bytes) = rest.get(..HEADER + header.sealed as usize) else {
        return Ok(None);
    };
    for world in worlds {
        match reader.open(*world, *id, at as u32, bytes) {
            Ok(record) => {
                return Ok(Some(Salvaged {
                    world: *world,
                    offset: at as u32,
                    stored: bytes,
                    record,
                }));
            }
            Err(e) if says_damage(&e) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(None)
}

//! What a pack still gives, whatever happened to it: records are found by their magic, from the
//! first byte to the last, and count when their seal holds (docs/format.md, "Chunk, record,
//! pack").
//!
//! Neither header nor directory is needed; both may be gone.

use crate::backend::{Backend, BackendError, Key, Trouble};
use crate::error::AccessError;
use crate::format::pack::{MAX_HEADER, PackHeader};
use crate::format::record::{HEADER, MAGIC, RecordHeader};
use crate::id::{PackId, Uuid};
use crate::index::KnownPack;
use crate::pack::pack_key;
use crate::reader::{Reader, is_bad};
use crate::record::{OpenRecord, World};

/// Packs above this are none that hucha wrote: nothing of them is read into memory.
const ABSURD: u64 = 256 << 20;

/// Bytes that are read at once of a pack that cannot be read as a whole.
const PIECE: u64 = 1 << 20;
/// The smallest piece that is tried by itself: what disks lose at a time.
const SECTOR: u64 = 4096;
/// Smaller pieces are tried until so many could not be read: a failing disk thinks about each of
/// them for seconds. From then on a piece that cannot be read is left as a whole.
const MAX_FAILED: u32 = 1024;

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
    let (backend, key) = (reader.repository().backend(), pack_key(id)?);
    let stored = match backend.get(&key) {
        Err(e) if e.is_unreadable() => read_in_pieces(backend, &key, size),
        other => other,
    };
    let stored = match stored {
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

/// What the storage still gives of an object, with zeros for what it does not: no record whose seal
/// holds has any of them.
fn read_in_pieces(backend: &dyn Backend, key: &Key, size: u64) -> Result<Vec<u8>, BackendError> {
    let mut stored = vec![0; size as usize];
    let mut failed = 0;
    let starts = (0..size.div_ceil(PIECE)).rev().map(|n| n * PIECE);
    let mut work: Vec<(u64, u64)> = starts.map(|at| (at, PIECE.min(size - at))).collect();
    while let Some((at, len)) = work.pop() {
        match backend.get_range(key, at, len) {
            Ok(bytes) => {
                let room = stored.get_mut(at as usize..).unwrap_or_default();
                room.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
            }
            Err(e) if e.is_unreadable() || e.trouble == Trouble::OutOfRange => {
                failed += 1;
                if len > SECTOR && failed < MAX_FAILED {
                    let half = (len / 2).next_multiple_of(SECTOR);
                    work.push((at + half, len - half));
                    work.push((at, half));
                }
            }
            Err(e) => return Err(e),
        }
    }
    Ok(stored)
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
            Err(e) if is_bad(&e) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(None)
}

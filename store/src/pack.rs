//! Building packs, and reading what only a pack itself tells: its header and directory.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use crate::backend::{Area, Backend, Key, Trouble};
use crate::crypto::{DataKey, fresh_uuid};
use crate::error::AccessError;
use crate::format::pack::{
    HEADER, MAX_HEADER, PackHeader, TRAILER, UUID_OFFSET, decode_directory, decode_trailer,
    encode_directory,
};
use crate::format::record::{HEADER as RECORD_HEADER, MAX_SEALED, TableRow};
use crate::format::segment::{SegmentPack, SegmentRow};
use crate::id::{PackId, Uuid};
use crate::record::World;
use crate::sealed::Sealed;

/// Smallest and largest size at which a pack is closed.
pub(crate) const MIN_PACK: u64 = 16 << 20;
const MAX_PACK: u64 = 128 << 20;
/// Packs above this size are built in a spool file.
const SPOOL_ABOVE: u64 = MIN_PACK;
/// A pack in memory grows by so much at most.
const GROWTH: usize = 1 << 20;

/// The size of new packs for a repository of so many bytes: it keeps the number of packs below a
/// few thousand until the largest size is reached.
pub(crate) fn target_size(repository: u64) -> u64 {
    #[cfg(test)]
    if crate::testing::is_single() {
        return 1;
    }
    (repository / 2048).clamp(MIN_PACK, MAX_PACK)
}

/// A pack being filled with sealed records.
pub(crate) struct PackBuilder {
    world: World,
    session: Uuid,
    body: Body,
    hasher: blake3::Hasher,
    size: u64,
    records: Vec<u32>,
    rows: Vec<SegmentRow>,
}

enum Body {
    Memory(Vec<u8>),
    Spool(File),
}

/// A pack that is ready to be put.
pub(crate) struct FinishedPack {
    pub id: PackId,
    pub body: Sealed,
    pub info: SegmentPack,
    /// Rows with `pack` 0.
    pub rows: Vec<SegmentRow>,
}

impl PackBuilder {
    /// Begins a pack. `spool` is a folder for packs above 16 MiB; without it they stay in memory.
    pub fn new(
        world: World,
        session: Uuid,
        keys: &[&DataKey],
        spool: Option<&Path>,
        target: u64,
    ) -> Result<PackBuilder, AccessError> {
        let body = match spool.filter(|_| target > SPOOL_ABOVE) {
            Some(folder) => Body::Spool(spool_file(folder).map_err(AccessError::Spool)?),
            None => Body::Memory(Vec::new()),
        };
        let wrapped = |k: &&DataKey| (k.id, k.wrapped.clone());
        let header = PackHeader {
            tree: world.is_pages(),
            session,
            uuid: fresh_uuid(),
            keys: keys
                .iter()
                .filter(|k| !k.wrapped.is_empty())
                .map(wrapped)
                .collect(),
        };
        let mut pack = PackBuilder {
            world,
            session,
            body,
            hasher: blake3::Hasher::new(),
            size: 0,
            records: Vec::new(),
            rows: Vec::new(),
        };
        pack.append(&header.encode())?;
        Ok(pack)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), AccessError> {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        match &mut self.body {
            Body::Memory(body) => {
                // Not doubled to the end: the last record would take as much as all before it.
                if body.capacity() - body.len() < bytes.len() {
                    body.reserve_exact(bytes.len().max(body.len().min(GROWTH)));
                }
                body.extend_from_slice(bytes);
            }
            Body::Spool(file) => file.write_all(bytes).map_err(AccessError::Spool)?,
        }
        Ok(())
    }

    /// Adds a sealed record and the rows of its chunks.
    pub fn push(&mut self, stored: &[u8], chunks: &[(TableRow, u8)]) -> Result<(), AccessError> {
        let offset = self.size as u32;
        self.records.push(offset);
        let row = |(slot, (row, depth)): (usize, &(TableRow, u8))| SegmentRow {
            id: row.id,
            pack: 0,
            offset,
            stored: stored.len() as u32,
            slot: slot as u8,
            plain: row.plain,
            encoding: row.encoding,
            depth: *depth,
            bases: row.bases,
        };
        self.rows.extend(chunks.iter().enumerate().map(row));
        self.append(stored)
    }

    /// Stored bytes so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether it holds no record yet.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Writes the directory and names the pack.
    pub fn finish(mut self) -> Result<FinishedPack, AccessError> {
        let directory = encode_directory(&self.records, self.size as u32);
        self.append(&directory)?;
        let id = PackId(*self.hasher.finalize().as_bytes());
        let body = match self.body {
            Body::Memory(bytes) => Sealed::from_stored(bytes),
            Body::Spool(file) => Sealed::from_spool(file, self.size),
        };
        let info = SegmentPack {
            id,
            session: self.session,
            tree: self.world.is_pages(),
        };
        Ok(FinishedPack {
            id,
            body,
            info,
            rows: self.rows,
        })
    }
}

impl FinishedPack {
    /// Gives it a fresh uuid, and so another name.
    pub fn rename(&mut self) -> Result<(), AccessError> {
        let uuid = fresh_uuid();
        self.body
            .overwrite(UUID_OFFSET, &uuid.0)
            .map_err(AccessError::Spool)?;
        let mut hasher = blake3::Hasher::new();
        let mut reader = self.body.reader().map_err(AccessError::Spool)?;
        std::io::copy(&mut reader, &mut hasher).map_err(AccessError::Spool)?;
        self.id = PackId(*hasher.finalize().as_bytes());
        self.info.id = self.id;
        Ok(())
    }
}

/// An unnamed 0600 file in `folder`: it vanishes with the process.
pub(crate) fn spool_file(folder: &Path) -> std::io::Result<File> {
    let name = folder.join(format!("spool-{}", fresh_uuid()));
    let mut options = File::options();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(&name)?;
    std::fs::remove_file(&name)?;
    Ok(file)
}

/// The key of a pack.
pub(crate) fn pack_key(id: &PackId) -> Result<Key, AccessError> {
    Key::new(Area::Packs, id).ok_or_else(|| AccessError::damaged(id, "not a name"))
}

/// Whether a pack stands, asked by its name: for packs that a listing does not show, when what
/// follows from that must not rest on the listing alone.
pub(crate) fn is_there(backend: &dyn Backend, id: &PackId) -> Result<bool, AccessError> {
    match backend.get_range(&pack_key(id)?, 0, 1) {
        Ok(_) => Ok(true),
        Err(e) if e.is_absent() => Ok(false),
        Err(e) if e.trouble == Trouble::OutOfRange => Ok(true),
        Err(e) => Err(e.into()),
    }
}

/// Reads a pack's header.
pub(crate) fn read_header(
    backend: &dyn Backend,
    id: &PackId,
    size: u64,
) -> Result<(PackHeader, u64), AccessError> {
    let key = pack_key(id)?;
    if size < (HEADER + TRAILER) as u64 {
        return Err(AccessError::damaged(&key, "shorter than its header"));
    }
    let bytes = backend.get_range(&key, 0, size.min(MAX_HEADER as u64))?;
    let (header, len) = PackHeader::decode(&bytes).map_err(|e| AccessError::damaged(&key, e))?;
    Ok((header, len as u64))
}

/// Where a pack's records are: offset and stored length of each.
pub(crate) fn read_directory(
    backend: &dyn Backend,
    id: &PackId,
    size: u64,
) -> Result<Vec<(u32, u32)>, AccessError> {
    let key = pack_key(id)?;
    let damaged = |e: &dyn std::fmt::Display| AccessError::damaged(&key, e);
    let start = size
        .checked_sub(TRAILER as u64)
        .ok_or_else(|| damaged(&"shorter than its trailer"))?;
    let trailer = backend.get_range(&key, start, TRAILER as u64)?;
    let (count, directory) = decode_trailer(&trailer, size).map_err(|e| damaged(&e))?;
    let bytes = backend.get_range(&key, u64::from(directory), u64::from(count) * 4)?;
    let offsets = decode_directory(&bytes, directory).map_err(|e| damaged(&e))?;
    let ends = offsets.iter().skip(1).copied().chain([directory]);
    Ok(offsets
        .iter()
        .zip(ends)
        .map(|(start, end)| (*start, end - start))
        .collect())
}

/// Whether a stored length can be that of a record.
pub(crate) fn is_record_length(stored: u32) -> bool {
    (RECORD_HEADER..=RECORD_HEADER + MAX_SEALED).contains(&(stored as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_name_is_another_uuid_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        for (spool, target) in [(None, 0), (Some(folder.path()), SPOOL_ABOVE + 1)] {
            let session = Uuid([7; 16]);
            let mut pack = PackBuilder::new(World::Content, session, &[], spool, target).unwrap();
            pack.push(&[1, 2, 3], &[]).unwrap();
            let mut pack = pack.finish().unwrap();
            let (id, before) = (pack.id, pack.body.to_vec().unwrap());
            pack.rename().unwrap();
            let after = pack.body.to_vec().unwrap();
            assert!(pack.id != id && pack.info.id == pack.id);
            assert_eq!(*blake3::hash(&after).as_bytes(), pack.id.0);
            let header = |bytes: &[u8]| PackHeader::decode(bytes).unwrap().0;
            assert_ne!(header(&after).uuid, header(&before).uuid);
            assert_eq!(header(&after).session, session);
            assert_eq!(after[HEADER..], before[HEADER..]);
        }
    }
}

//! The index level: what segments say of packs, beside what the packs' own headers and directories
//! say. No record is opened.
//!
//! A record that no row names is no error: a merger drops rows of chunks that stand elsewhere in
//! the same pack.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::bad::BadPacks;
use super::data::{is_bad_object, reason};
use crate::error::AccessError;
use crate::format::segment::{Segment, SegmentPack};
use crate::id::PackId;
use crate::monitor::{Counters, Monitor};
use crate::pack::{read_directory, read_header};
use crate::repository::Repository;

/// Compares the rows of all segments with the directories of packs.
///
/// # Errors
/// When the backend fails; segments that do not open are passed over.
pub(super) fn compare(
    repository: &Repository,
    packs: &HashMap<PackId, u64>,
    monitor: &dyn Monitor,
) -> Result<BadPacks, AccessError> {
    let segments = repository.segments();
    let mut bad = BadPacks::default();
    for (id, _) in segments.list()? {
        let segment = match segments.get(&id) {
            Ok(Some(segment)) => segment,
            Ok(None) => continue,
            Err(e) if e.is_damage() => continue,
            Err(e) => return Err(e),
        };
        for (number, records) in records(&segment) {
            let Some(pack) = segment.packs.get(number as usize) else {
                continue;
            };
            let Some(size) = packs.get(&pack.id) else {
                continue;
            };
            let rows = Rows { pack, records };
            match rows.compare(repository, *size, &mut bad) {
                Err(AccessError::Backend(e)) if e.is_absent() => {}
                Err(e) if is_bad_object(&e) => bad.object(pack.id, reason(e)),
                other => other?,
            }
            Counters::add(&monitor.counters().entries, 1);
        }
    }
    Ok(bad)
}

/// Records by the number of their pack: offset and stored length.
fn records(segment: &Segment) -> BTreeMap<u32, BTreeSet<(u32, u32)>> {
    let mut records: BTreeMap<u32, BTreeSet<(u32, u32)>> = BTreeMap::new();
    for row in &segment.rows {
        let of_pack = records.entry(row.pack).or_default();
        of_pack.insert((row.offset, row.stored));
    }
    records
}

/// What one segment says of one pack.
struct Rows<'a> {
    pack: &'a SegmentPack,
    records: BTreeSet<(u32, u32)>,
}

impl Rows<'_> {
    fn compare(
        &self,
        repository: &Repository,
        size: u64,
        bad: &mut BadPacks,
    ) -> Result<(), AccessError> {
        let id = self.pack.id;
        let backend = repository.backend();
        let (header, _) = read_header(backend, &id, size)?;
        if (header.tree, header.session) != (self.pack.tree, self.pack.session) {
            let why = "its header differs from what the index says";
            bad.object(id, why.to_owned());
        }
        let directory: BTreeSet<(u32, u32)> =
            read_directory(backend, &id, size)?.into_iter().collect();
        for (offset, _) in self.records.difference(&directory) {
            let why = "the index says that it is there, the pack's directory does not";
            bad.record(id, *offset, why.to_owned());
        }
        Ok(())
    }
}

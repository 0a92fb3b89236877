//! Checking a repository: structure, and on demand every stored byte (gc-protocol.md, "Reader").
//!
//! Needs no session. A row to an absent pack, a pack without rows and a condemned pack are no
//! errors: other processes may be at work.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::backend::{Area, Key};
use crate::entry::{Content, Entry, Extent, Kind};
use crate::error::AccessError;
use crate::format::MAX_DEPTH;
use crate::format::objects::Manifest;
use crate::id::{ChunkId, PackId, SnapshotId};
use crate::index::{Found, Place};
use crate::monitor::{Counters, Event, Monitor};
use crate::pack::{is_record_length, pack_key, read_directory, read_header};
use crate::reader::{Budget, Reader, says_damage};
use crate::record::{OpenRecord, World};
use crate::repository::Repository;
use crate::snapshots::SnapshotList;
use crate::tree::Tree;
use crate::view::list_packs;

/// How much is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CheckOptions {
    /// Read every pack, compare it with its name, decode every chunk.
    pub read_data: bool,
}

/// Something that is damaged.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Damage {
    /// The object, or the chunk.
    pub object: String,
    /// What is wrong with it.
    pub what: String,
    /// Snapshots that need it.
    pub snapshots: Vec<SnapshotId>,
    /// Files that need it, the first [`MAX_FILES`].
    pub files: Vec<Vec<u8>>,
}

/// What a check found.
#[derive(Debug, Clone, Default)]
pub struct CheckReport {
    /// Snapshots whose trees were walked.
    pub snapshots: u64,
    /// Packs.
    pub packs: u64,
    /// References of snapshots to chunks that were looked at.
    pub chunks: u64,
    /// Stored bytes that were read.
    pub bytes_read: u64,
    /// What is damaged; empty when all is well.
    pub damage: Vec<Damage>,
    /// What is worth a line and no damage.
    pub notes: Vec<String>,
}

/// Most files that are named for one damage.
pub const MAX_FILES: usize = 100;
/// Rows looked at for one chunk before its chain of bases counts as absurd.
const MAX_STEPS: u32 = 4096;
/// Bytes of a pack that are fetched in one go.
const PART: u64 = 4 << 20;
/// Most damages that are listed with their files.
const MAX_DAMAGE: usize = 1000;

/// Checks.
///
/// # Errors
/// When the backend fails; damage stands in the report.
pub fn check(
    repository: &Repository,
    options: &CheckOptions,
    monitor: &dyn Monitor,
) -> Result<CheckReport, AccessError> {
    monitor.event(Event::Phase("reading snapshots and index"));
    let snapshots = SnapshotList::read(repository)?;
    let mut run = Run {
        repository,
        monitor,
        report: CheckReport::default(),
        bad: BTreeMap::new(),
        good: HashSet::new(),
        failed: HashMap::new(),
        failed_packs: HashMap::new(),
        packs: HashMap::new(),
    };
    for (name, why) in &snapshots.unreadable {
        run.damage(format!("snapshots/{name}"), why.clone(), None);
    }
    run.index()?;
    run.packs = list_packs(repository)?;
    run.report.packs = run.packs.len() as u64;
    if options.read_data {
        monitor.event(Event::Phase("reading all data"));
        run.read_packs()?;
    }
    monitor.event(Event::Phase("walking snapshots"));
    for manifest in &snapshots.committed {
        run.walk(manifest)?;
        run.report.snapshots += 1;
    }
    run.drop_what_is_gone()?;
    Ok(run.report)
}

struct Run<'a> {
    repository: &'a Repository,
    monitor: &'a dyn Monitor,
    report: CheckReport,
    /// Chunks that no place gives back, with the reason.
    bad: BTreeMap<ChunkId, String>,
    /// Chunks that were found to have a whole place.
    good: HashSet<ChunkId>,
    /// Places that do not give their chunk, by pack, record offset and slot, with the reason; slot
    /// 255 stands for the whole record.
    failed: HashMap<(PackId, u32, u8), String>,
    /// Packs of which nothing counts, with the reason.
    failed_packs: HashMap<PackId, String>,
    packs: HashMap<PackId, u64>,
}

impl Run<'_> {
    fn damage(&mut self, object: String, what: String, snapshot: Option<SnapshotId>) -> usize {
        let known = self.report.damage.iter().position(|d| d.object == object);
        let at = known.unwrap_or_else(|| {
            let message = format!("{object}: {what}");
            self.monitor.event(Event::Problem {
                path: object.as_bytes(),
                message: &message,
            });
            let fresh = Damage {
                object,
                what,
                snapshots: Vec::new(),
                files: Vec::new(),
            };
            self.report.damage.push(fresh);
            self.report.damage.len() - 1
        });
        if let (Some(snapshot), Some(damage)) = (snapshot, self.report.damage.get_mut(at))
            && !damage.snapshots.contains(&snapshot)
        {
            damage.snapshots.push(snapshot);
        }
        at
    }

    /// Every segment opens and matches its name. Those that do not are passed over by nobody: the
    /// index cannot be brought up to date without them.
    fn index(&mut self) -> Result<(), AccessError> {
        let segments = self.repository.segments();
        let mut whole = true;
        for (id, size) in segments.list()? {
            match segments.get(&id) {
                Ok(_) => self.report.bytes_read += size,
                Err(e) if e.is_damage() => {
                    whole = false;
                    self.damage(format!("index/{id}"), e.to_string(), None);
                }
                Err(e) => return Err(e),
            }
        }
        self.repository.update_index()?;
        if !whole {
            let note = "chunks that only a damaged segment knows count as missing";
            self.report.notes.push(note.into());
        }
        Ok(())
    }

    /// Reads every pack once: name, directory, seals, and every chunk against its id.
    fn read_packs(&mut self) -> Result<(), AccessError> {
        let mut packs: Vec<(PackId, u64)> = self.packs.iter().map(|(id, n)| (*id, *n)).collect();
        packs.sort_unstable();
        let bytes = packs.iter().map(|(_, n)| n).sum();
        self.monitor.event(Event::Expect {
            bytes,
            entries: packs.len() as u64,
        });
        let reader = Reader::new(self.repository);
        for (id, size) in packs {
            match self.read_pack(&reader, &id, size) {
                Ok(()) => {}
                Err(AccessError::Backend(e)) if e.is_absent() => {}
                Err(e) if says_damage(&e) => {
                    self.failed_packs.insert(id, e.to_string());
                    self.damage(pack_path(&id), e.to_string(), None);
                }
                Err(e) => return Err(e),
            }
            Counters::add(&self.monitor.counters().bytes, size);
            Counters::add(&self.monitor.counters().entries, 1);
        }
        Ok(())
    }

    /// Errors that say damage are those of the pack as a whole.
    fn read_pack(
        &mut self,
        reader: &Reader<'_>,
        id: &PackId,
        size: u64,
    ) -> Result<(), AccessError> {
        let backend = self.repository.backend();
        self.report.bytes_read += size;
        let (header, _) = read_header(backend, id, size)?;
        let world = if header.tree {
            World::Pages
        } else {
            World::Content
        };
        let mut pass = Pass::new(self.repository, pack_key(id)?, size);
        for (offset, stored) in read_directory(backend, id, size)? {
            if !is_record_length(stored) {
                self.failed_record(id, offset, "its length is absurd".into());
                continue;
            }
            let bytes = pass.range(u64::from(offset), u64::from(stored))?;
            match reader.open(world, *id, offset, bytes) {
                Ok(record) => self.decode_all(reader, world, id, offset, &record)?,
                Err(e) if says_damage(&e) => self.failed_record(id, offset, e.to_string()),
                Err(e) => return Err(e),
            }
        }
        if pass.finish()? != *id {
            let what = "its bytes do not match its name".to_owned();
            self.damage(pack_path(id), what, None);
        }
        Ok(())
    }

    fn failed_record(&mut self, pack: &PackId, offset: u32, why: String) {
        self.failed.insert((*pack, offset, u8::MAX), why.clone());
        self.damage(pack_path(pack), why, None);
    }

    /// Decodes every chunk of a record.
    fn decode_all(
        &mut self,
        reader: &Reader<'_>,
        world: World,
        pack: &PackId,
        offset: u32,
        record: &OpenRecord,
    ) -> Result<(), AccessError> {
        for (slot, row) in record.rows.iter().enumerate() {
            let slot = slot as u8;
            match reader.decode(world, &row.id, record, slot, &mut Budget::new()) {
                Ok(_) => {}
                Err(e) if says_damage(&e) => {
                    self.failed.insert((*pack, offset, slot), e.to_string());
                }
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Why a chunk has no whole place as far as this check has looked; `None` when it has one.
    /// What is good is so on every path and is remembered; what is not may only have met a cycle,
    /// and no chunk needs itself.
    fn what_is_wrong(
        &mut self,
        found: &Found,
        path: &mut Vec<ChunkId>,
        steps: &mut u32,
    ) -> Result<Option<String>, AccessError> {
        if self.good.contains(&found.id) {
            return Ok(None);
        }
        if path.contains(&found.id) || path.len() > usize::from(MAX_DEPTH) {
            return Ok(Some("its bases form a cycle or are too deep".into()));
        }
        let mut places: Vec<&Place> = found.places.iter().collect();
        places.sort_by_key(|p| (p.bases.len(), p.depth));
        let mut why = None;
        path.push(found.id);
        for place in places {
            match self.place_error(place, path, steps)? {
                None => {
                    path.pop();
                    self.good.insert(found.id);
                    return Ok(None);
                }
                Some(error) => why = error.or(why),
            }
        }
        path.pop();
        Ok(Some(why.unwrap_or_else(|| "its pack is missing".into())))
    }

    /// `None`: whole. `Some(None)`: the pack is absent. Else what is wrong.
    fn place_error(
        &mut self,
        place: &Place,
        path: &mut Vec<ChunkId>,
        steps: &mut u32,
    ) -> Result<Option<Option<String>>, AccessError> {
        let wrong = |why: &str| Ok(Some(Some(why.to_owned())));
        *steps += 1;
        if *steps > MAX_STEPS {
            return wrong("its chain of bases is absurd");
        }
        let segments = self.repository.segments();
        let pack = self.repository.index().pack(place.pack);
        let Some((pack, size)) = pack.and_then(|p| Some((p.id, *self.packs.get(&p.id)?))) else {
            return Ok(Some(None));
        };
        if let Some(why) = self.failed_packs.get(&pack) {
            return wrong(why);
        }
        if !is_record_length(place.stored) {
            return wrong("the index gives its record an absurd length");
        }
        if u64::from(place.offset) + u64::from(place.stored) > size {
            return wrong("its pack is too short");
        }
        for slot in [u8::MAX, place.slot] {
            if let Some(why) = self.failed.get(&(pack, place.offset, slot)) {
                return wrong(why);
            }
        }
        for base in place.bases.iter() {
            let mut any = false;
            for found in self.repository.index().find_base(&segments, &base)? {
                any = any || self.what_is_wrong(&found, path, steps)?.is_none();
            }
            if !any {
                return wrong("a base of it is missing or damaged");
            }
        }
        Ok(None)
    }

    fn chunk(&mut self, id: &ChunkId) -> Result<Option<String>, AccessError> {
        if let Some(why) = self.bad.get(id) {
            return Ok(Some(why.clone()));
        }
        let segments = self.repository.segments();
        let wrong = match self.repository.index().find(&segments, id)? {
            Some(found) => self.what_is_wrong(&found, &mut Vec::new(), &mut 0)?,
            None => Some("the index does not know it".into()),
        };
        if let Some(why) = &wrong {
            self.bad.insert(*id, why.clone());
        }
        Ok(wrong)
    }

    /// Walks one snapshot's tree: every page opens, every chunk has a place, and every file's
    /// parts add up to its size. What is behind a damaged page is walked all the same.
    fn walk(&mut self, manifest: &Manifest) -> Result<(), AccessError> {
        let reader = Reader::new(self.repository);
        let tree = Tree::new(&reader, manifest.root);
        let mut walk = match tree.walk(b"") {
            Ok(walk) => walk,
            Err(e) => return self.page(manifest, e, None),
        };
        loop {
            let item = match walk.next_item() {
                Ok(Some(item)) => item,
                Ok(None) => return Ok(()),
                Err(e) => {
                    self.page(manifest, e, None)?;
                    continue;
                }
            };
            let entry = item.0.clone();
            let path = entry.path.as_slice();
            if let Err(e) = tree.complete(item) {
                self.page(manifest, e, Some(path))?;
            }
            if let Err(e) = self.content(&tree, manifest, &entry) {
                self.page(manifest, e, Some(path))?;
            }
        }
    }

    /// Records a page that is damaged, and the file that it belongs to; other errors end the check.
    fn page(
        &mut self,
        manifest: &Manifest,
        error: AccessError,
        path: Option<&[u8]>,
    ) -> Result<(), AccessError> {
        if !says_damage(&error) {
            return Err(error);
        }
        let object = match &error {
            AccessError::LostChunk { chunk, .. } => format!("chunk {chunk}"),
            AccessError::DamagedPage { page, .. } => format!("page {page}"),
            AccessError::Damaged { object, .. } => object.clone(),
            _ => "tree".to_owned(),
        };
        let at = self.damage(object, error.to_string(), Some(manifest.id));
        if let Some(path) = path {
            self.name_file(at, path);
        }
        Ok(())
    }

    fn content(
        &mut self,
        tree: &Tree<'_, '_>,
        manifest: &Manifest,
        entry: &Entry,
    ) -> Result<(), AccessError> {
        let mut seen = BTreeSet::new();
        let mut size = match &entry.content {
            Content::Inline(bytes) => bytes.len() as u64,
            _ => 0,
        };
        for extent in tree.extents(&entry.content)? {
            let extent = extent?;
            size = size.saturating_add(extent.len());
            let Extent::Chunk { id, .. } = extent else {
                continue;
            };
            self.report.chunks += 1;
            let Some(why) = self.chunk(&id)? else {
                continue;
            };
            if !seen.insert(id) || self.report.damage.len() > MAX_DAMAGE {
                continue;
            }
            let at = self.damage(format!("chunk {id}"), why, Some(manifest.id));
            self.name_file(at, &entry.path);
        }
        if entry.kind == Kind::File && size != entry.meta.size {
            let file = String::from_utf8_lossy(&entry.path);
            let why = "its parts do not add up to its size";
            return Err(AccessError::damaged(format!("file {file}"), why));
        }
        Ok(())
    }

    fn name_file(&mut self, at: usize, path: &[u8]) {
        if let Some(damage) = self.report.damage.get_mut(at)
            && damage.files.len() < MAX_FILES
            && !damage.files.iter().any(|f| f == path)
        {
            damage.files.push(path.to_vec());
        }
    }

    /// Snapshots that were forgotten, and packs that gc deleted, while the check ran are no damage.
    fn drop_what_is_gone(&mut self) -> Result<(), AccessError> {
        if self.report.damage.is_empty() {
            return Ok(());
        }
        let now = SnapshotList::read(self.repository)?;
        let still = |id: &SnapshotId| now.committed.iter().any(|m| m.id == *id);
        // gc may have moved a chunk since the index was read.
        self.repository.update_index()?;
        self.packs = list_packs(self.repository)?;
        let damage = std::mem::take(&mut self.report.damage);
        for mut d in damage {
            let had = !d.snapshots.is_empty();
            d.snapshots.retain(still);
            if had && d.snapshots.is_empty() {
                continue;
            }
            if let Some(pack) = d.object.strip_prefix("packs/").and_then(|p| p.get(3..))
                && !pack
                    .parse()
                    .is_ok_and(|id: PackId| self.packs.contains_key(&id))
            {
                continue;
            }
            if let Some(id) = d.object.strip_prefix("chunk ").and_then(|c| c.parse().ok()) {
                self.bad.remove(&id);
                self.good.clear();
                if self.chunk(&id)?.is_none() && self.reads_now(&id) {
                    continue;
                }
            }
            self.report.damage.push(d);
        }
        Ok(())
    }

    fn reads_now(&self, id: &ChunkId) -> bool {
        let reader = Reader::new(self.repository);
        World::ALL
            .iter()
            .any(|world| reader.chunk(*world, id).is_ok())
    }
}

fn pack_path(id: &PackId) -> String {
    Key::new(Area::Packs, id).map_or_else(|| id.to_string(), |key| key.path())
}

/// One pass over a pack: hashes every byte in order and shows ranges on the way.
struct Pass<'a> {
    repository: &'a Repository,
    key: Key,
    size: u64,
    hasher: blake3::Hasher,
    /// Bytes that were hashed, from `start` on.
    buffer: Vec<u8>,
    start: u64,
}

impl<'a> Pass<'a> {
    fn new(repository: &'a Repository, key: Key, size: u64) -> Pass<'a> {
        Pass {
            repository,
            key,
            size,
            hasher: blake3::Hasher::new(),
            buffer: Vec::new(),
            start: 0,
        }
    }

    /// Reads on until `end`; what lies before `from` is dropped.
    fn advance(&mut self, from: u64, end: u64) -> Result<(), AccessError> {
        loop {
            let read = self.start + self.buffer.len() as u64;
            let drop = from.clamp(self.start, read) - self.start;
            self.buffer.drain(..drop as usize);
            self.start += drop;
            if read >= end {
                return Ok(());
            }
            let n = (self.size - read).min(PART);
            let part = self.repository.backend().get_range(&self.key, read, n)?;
            if part.is_empty() {
                return Err(AccessError::damaged(&self.key, "shorter than listed"));
            }
            self.hasher.update(&part);
            self.buffer.extend_from_slice(&part);
        }
    }

    /// A range that begins at or behind the last one's begin.
    fn range(&mut self, offset: u64, len: u64) -> Result<&[u8], AccessError> {
        let short = || AccessError::damaged(&self.key, "shorter than its directory says");
        let end = offset.checked_add(len).filter(|end| *end <= self.size);
        let end = end.ok_or_else(short)?;
        self.advance(offset, end)?;
        let at = (offset - self.start) as usize;
        let range = self.buffer.get(at..at + len as usize);
        range.ok_or_else(|| AccessError::damaged(&self.key, "its records are out of order"))
    }

    /// The name that the bytes ask for.
    fn finish(mut self) -> Result<PackId, AccessError> {
        self.advance(self.size, self.size)?;
        Ok(PackId(*self.hasher.finalize().as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::crypto::Encryption;
    use crate::format::segment::{Segment, SegmentPack, SegmentRow};
    use crate::id::{SegmentId, Uuid};
    use crate::index::{Bases, Encoding, Index, MemoryIndex};
    use crate::monitor::Silent;
    use crate::testing::{MapSource, new_repository, noise, open, take};

    fn row(id: u8, pack: u32, bases: &[u8]) -> SegmentRow {
        let mut refs = Bases::NONE;
        for base in bases {
            assert!(refs.push(ChunkId([*base; 32]).as_base()));
        }
        SegmentRow {
            id: ChunkId([id; 32]),
            pack,
            offset: 100,
            stored: 100,
            slot: id,
            plain: 10,
            encoding: Encoding::Raw,
            depth: bases.len() as u8,
            bases: refs,
        }
    }

    #[test]
    fn cycles_of_bases_end() {
        let pack = |n: u8| SegmentPack {
            id: PackId([n; 32]),
            session: Uuid([1; 16]),
            tree: false,
        };
        // 1 and 2 need each other; 3 and 4 too, but 4 is also plain; 5 to 40 need four each of
        // the next ones, and all of them 1.
        let mut rows = vec![row(1, 0, &[2]), row(2, 0, &[1]), row(3, 0, &[4])];
        rows.extend([row(4, 0, &[3]), row(4, 1, &[])]);
        rows.extend((5..40).map(|n| row(n, 0, &[n + 1, n + 1, n, 1])));
        let segment = Segment {
            supersedes: vec![],
            packs: vec![pack(1), pack(2)],
            rows,
        };
        let index = MemoryIndex::default();
        index.apply(&[(SegmentId([1; 32]), &segment)]).unwrap();
        let (_, mut repository) = new_repository(Encryption::None, 0);
        repository.replace_index(Arc::new(index));
        let monitor = Silent::default();
        let mut run = Run {
            repository: &repository,
            monitor: &monitor,
            report: CheckReport::default(),
            bad: BTreeMap::new(),
            good: HashSet::new(),
            failed: HashMap::new(),
            failed_packs: HashMap::new(),
            packs: HashMap::from([(PackId([1; 32]), 1000), (PackId([2; 32]), 1000)]),
        };
        for (id, good) in [(3, true), (4, true), (1, false), (2, false), (5, false)] {
            let wrong = run.chunk(&ChunkId([id; 32])).unwrap();
            assert_eq!(wrong.is_none(), good, "{id}: {wrong:?}");
        }
        let reader = Reader::new(&repository);
        assert!(reader.chunk(World::Content, &ChunkId([5; 32])).is_err());
    }

    #[test]
    fn a_short_pack_names_snapshots_and_files() {
        let (memory, repository) = new_repository(Encryption::None, 0);
        let mut source = MapSource::default();
        source.files.insert(b"f".to_vec(), noise(2000, "f"));
        let manifest = take(&repository, &mut source).manifest;
        let options = CheckOptions { read_data: true };
        let report = check(&repository, &options, &Silent::default()).unwrap();
        assert!(report.damage.is_empty(), "{:?}", report.damage);
        let id = repository.keys().chunk_id(&source.files[&b"f"[..]]);
        let segments = repository.segments();
        let found = repository.index().find(&segments, &id).unwrap();
        let Some(found) = found else {
            panic!("one chunk")
        };
        let pack = repository.index().pack(found.places[0].pack);
        let key = pack_key(&pack.unwrap().id).unwrap();
        let mut bytes = repository.backend().get(&key).unwrap();
        bytes.truncate(bytes.len() - 1000);
        memory.replace(&key, bytes);
        let repository = open(&memory, Encryption::None, 0);
        let report = check(&repository, &options, &Silent::default()).unwrap();
        let named = |d: &&Damage| d.snapshots == [manifest.id] && d.files == [b"f".to_vec()];
        assert_eq!(report.damage.iter().filter(named).count(), 1);
        assert_eq!(report.damage.len(), 2, "{:?}", report.damage);
    }
}

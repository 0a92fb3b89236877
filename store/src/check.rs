//! Checking a repository: structure, and on demand every stored byte (gc-protocol.md, "Reader").
//!
//! Needs no session. A row to an absent pack, a pack without rows and a condemned pack are no
//! errors: other processes may be at work.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::backend::{Area, Key};
use crate::entry::{Content, Extent};
use crate::error::AccessError;
use crate::format::objects::Manifest;
use crate::id::{ChunkId, PackId, SnapshotId};
use crate::index::{Found, Place};
use crate::monitor::{Counters, Event, Monitor};
use crate::pack::{pack_key, read_directory, read_header};
use crate::reader::{Budget, Reader};
use crate::record::World;
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
        sound: HashMap::new(),
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
    /// Places whose bytes were decoded (`true`) or failed, by pack and record offset and slot; kept
    /// only for what failed, and for packs that failed as a whole.
    sound: HashMap<(PackId, u32, u8), String>,
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
        if whole {
            self.repository.update_index()?;
        } else {
            self.report
                .notes
                .push("chunks of damaged segments count as missing".into());
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
                Err(e) if e.is_damage() => {
                    self.damage(pack_path(&id), e.to_string(), None);
                }
                Err(e) => return Err(e),
            }
            Counters::add(&self.monitor.counters().bytes, size);
            Counters::add(&self.monitor.counters().entries, 1);
        }
        Ok(())
    }

    fn read_pack(
        &mut self,
        reader: &Reader<'_>,
        id: &PackId,
        size: u64,
    ) -> Result<(), AccessError> {
        let backend = self.repository.backend();
        let key = pack_key(id)?;
        self.report.bytes_read += size;
        let whole = hash_of(self.repository, &key, size)? == *id;
        if !whole {
            self.damage(
                pack_path(id),
                "its bytes do not match its name".into(),
                None,
            );
        }
        let (header, _) = read_header(backend, id, size)?;
        let world = if header.tree {
            World::Pages
        } else {
            World::Content
        };
        for (offset, stored) in read_directory(backend, id, size)? {
            let bytes = reader.fetch(*id, offset, u64::from(stored))?;
            let record = match reader.open(world, *id, offset, &bytes) {
                Ok(record) => record,
                Err(e) if e.is_damage() => {
                    self.sound.insert((*id, offset, u8::MAX), e.to_string());
                    self.damage(pack_path(id), e.to_string(), None);
                    continue;
                }
                Err(e) => return Err(e),
            };
            for (slot, row) in record.rows.iter().enumerate() {
                let slot = slot as u8;
                match reader.decode(world, &row.id, &record, slot, &mut Budget::new()) {
                    Ok(_) => {}
                    Err(e) if e.is_damage() => {
                        self.sound.insert((*id, offset, slot), e.to_string());
                    }
                    Err(e) => return Err(e),
                }
            }
        }
        Ok(())
    }

    /// Why a chunk has no whole place as far as this check has looked; `None` when it has one.
    fn what_is_wrong(&self, found: Option<&Found>) -> Result<Option<String>, AccessError> {
        let Some(found) = found else {
            return Ok(Some("the index does not know it".into()));
        };
        let mut why = "its pack is missing".to_owned();
        for place in &found.places {
            match self.place_error(place)? {
                None => return Ok(None),
                Some(Some(error)) => why = error,
                Some(None) => {}
            }
        }
        Ok(Some(why))
    }

    /// `None`: sound. `Some(None)`: the pack is absent. Else what is wrong.
    fn place_error(&self, place: &Place) -> Result<Option<Option<String>>, AccessError> {
        let segments = self.repository.segments();
        let pack = self.repository.index().pack(&segments, place.pack)?;
        let Some(pack) = pack.filter(|p| self.packs.contains_key(&p.id)) else {
            return Ok(Some(None));
        };
        let size = self.packs.get(&pack.id).copied().unwrap_or(0);
        if u64::from(place.offset) + u64::from(place.stored) > size {
            return Ok(Some(Some("its pack is too short".into())));
        }
        let record = self.sound.get(&(pack.id, place.offset, u8::MAX));
        if let Some(why) = record.or_else(|| self.sound.get(&(pack.id, place.offset, place.slot))) {
            return Ok(Some(Some(why.clone())));
        }
        for base in place.bases.iter() {
            let mut any = false;
            for found in self.repository.index().find_base(&segments, &base)? {
                any = any || self.what_is_wrong(Some(&found))?.is_none();
            }
            if !any {
                return Ok(Some(Some("a base of it is missing or damaged".into())));
            }
        }
        Ok(None)
    }

    fn chunk(&mut self, id: &ChunkId) -> Result<Option<String>, AccessError> {
        if let Some(why) = self.bad.get(id) {
            return Ok(Some(why.clone()));
        }
        let segments = self.repository.segments();
        let found = self.repository.index().find(&segments, id)?;
        let wrong = self.what_is_wrong(found.as_ref())?;
        if let Some(why) = &wrong {
            self.bad.insert(*id, why.clone());
        }
        Ok(wrong)
    }

    /// Walks one snapshot's tree: every page opens, every chunk has a place.
    fn walk(&mut self, manifest: &Manifest) -> Result<(), AccessError> {
        let reader = Reader::new(self.repository);
        let tree = Tree::new(&reader, manifest.root);
        let walked = (|| {
            let mut walk = tree.walk(b"")?;
            while let Some(item) = walk.next_item()? {
                let entry = tree.complete(item)?;
                self.content(&tree, manifest, &entry.path, &entry.content)?;
            }
            Ok(())
        })();
        match walked {
            Err(e @ (AccessError::LostChunk { .. } | AccessError::DamagedPage { .. }))
            | Err(e @ AccessError::DamagedRecord { .. }) => {
                let object = match &e {
                    AccessError::LostChunk { chunk, .. } => format!("chunk {chunk}"),
                    AccessError::DamagedPage { page, .. } => format!("page {page}"),
                    _ => "tree".to_owned(),
                };
                self.damage(object, e.to_string(), Some(manifest.id));
                Ok(())
            }
            other => other,
        }
    }

    fn content(
        &mut self,
        tree: &Tree<'_, '_>,
        manifest: &Manifest,
        path: &[u8],
        content: &Content,
    ) -> Result<(), AccessError> {
        let mut seen = BTreeSet::new();
        for extent in tree.extents(content)? {
            let Extent::Chunk { id, .. } = extent? else {
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
            if let Some(damage) = self.report.damage.get_mut(at)
                && damage.files.len() < MAX_FILES
                && !damage.files.iter().any(|f| f == path)
            {
                damage.files.push(path.to_vec());
            }
        }
        Ok(())
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

/// The BLAKE3 hash of an object's stored bytes, read in parts.
fn hash_of(repository: &Repository, key: &Key, size: u64) -> Result<PackId, AccessError> {
    let mut hasher = blake3::Hasher::new();
    let mut at = 0;
    while at < size {
        let n = (size - at).min(4 << 20);
        hasher.update(&repository.backend().get_range(key, at, n)?);
        at += n;
    }
    Ok(PackId(*hasher.finalize().as_bytes()))
}

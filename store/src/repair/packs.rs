//! Bad packs: condemned, so that nobody reuses what is in them, with what they still give copied
//! into new ones; and chunks that no pack gives back, written down so that gc can go on
//! (gc-protocol.md, "Repair").
//!
//! Deletes nothing: the list is swept by gc, as soon as no snapshot needs what is lost.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::{Action, Loss, salvage};
use crate::check::bad::BadPacks;
use crate::check::data::read_packs;
use crate::check::places::Places;
use crate::error::AccessError;
use crate::format::objects::{Manifest, SessionKind};
use crate::gc::{Condemnation, put_list};
use crate::id::{ChunkId, PackId, Uuid};
use crate::monitor::{Event, Monitor};
use crate::reader::{Reader, is_bad, says_damage};
use crate::record::World;
use crate::repository::Repository;
use crate::session::Session;
use crate::snapshots::SnapshotList;
use crate::tree::Tree;
use crate::view::{Lists, View, known_lost, list_packs};
use crate::writer::{Lane, Writer};

/// What reading every pack has shown.
pub(super) struct Survey {
    pub bad: BadPacks,
    /// Packs that were listed, with stored sizes.
    pub packs: HashMap<PackId, u64>,
}

impl Survey {
    /// Reads every pack, and what is bad once more.
    ///
    /// # Errors
    /// When the storage fails: then nobody knows which packs are bad.
    pub fn take(repository: &Repository, monitor: &dyn Monitor) -> Result<Survey, AccessError> {
        repository.update_index()?;
        let packs = list_twice(repository)?;
        let mut order: Vec<(PackId, u64)> = packs.iter().map(|(id, n)| (*id, *n)).collect();
        order.sort_unstable();
        monitor.event(Event::Phase("reading data"));
        monitor.event(Event::Expect {
            bytes: order.iter().map(|(_, n)| n).sum(),
            entries: order.len() as u64,
        });
        let mut read = read_packs(repository, &order, monitor, &mut || true)?;
        if !read.bad.packs.is_empty() {
            // What storage answered wrongly, or not at all, once is not bad for that.
            order.retain(|(id, _)| read.bad.packs.contains_key(id));
            read = read_packs(repository, &order, monitor, &mut || true)?;
            read.unreadable
                .stop_if_storage_fails(repository, packs.len())?;
        }
        let bad = read.bad;
        Ok(Survey { bad, packs })
    }

    /// Judges places over the packs that stand now: copies have been made since.
    pub fn places<'a>(&'a self, repository: &'a Repository) -> Result<Places<'a>, AccessError> {
        repository.update_index()?;
        Ok(Places::of(repository, &self.bad, list_twice(repository)?))
    }

    /// Packs that are bad themselves, with stored sizes: not those whose bases fail elsewhere.
    fn bad_packs(&self) -> impl Iterator<Item = (PackId, u64, String)> {
        let bad = self.bad.packs.iter();
        bad.filter_map(|(id, bad)| Some((*id, *self.packs.get(id)?, bad.what()?)))
    }
}

/// Lists packs, twice: one that a short listing leaves out is not lost for that.
pub(super) fn list_twice(repository: &Repository) -> Result<HashMap<PackId, u64>, AccessError> {
    let mut packs = list_packs(repository)?;
    packs.extend(list_packs(repository)?);
    Ok(packs)
}

/// Which packs to condemn, which chunks to write down as lost.
pub(super) fn plan(
    repository: &Repository,
    survey: &Survey,
) -> Result<(Vec<Action>, Vec<Loss>), AccessError> {
    let lists = Lists::read(repository)?;
    let condemned: HashSet<PackId> = lists.whole.iter().flat_map(|l| l.packs.clone()).collect();
    let covered: HashSet<Uuid> = lists.whole.iter().flat_map(|l| l.covers.clone()).collect();
    let unknown: Vec<Uuid> = lists.damaged.into_iter().map(|(name, _)| name).collect();
    let covers: Vec<Uuid> = unknown
        .into_iter()
        .filter(|l| !covered.contains(l))
        .collect();
    let mut packs: Vec<(PackId, u64)> = survey
        .bad_packs()
        .filter(|(id, _, _)| !condemned.contains(id))
        .map(|(id, size, _)| (id, size))
        .collect();
    if !covers.is_empty() {
        // A list that does not open condemns nobody knows what: so all of it.
        packs = list_twice(repository)?.into_iter().collect();
        packs.sort_unstable();
    }
    let known = known_lost(&lists.whole);
    let lost = lost_chunks(repository, survey)?;
    let new: Vec<ChunkId> = lost.into_iter().filter(|id| !known.contains(id)).collect();
    let mut actions = Vec::new();
    if !packs.is_empty() || !new.is_empty() || !covers.is_empty() {
        actions.push(Action::Condemn {
            packs,
            lost: new,
            covers,
        });
    }
    let rest: Vec<(PackId, u64)> = survey.bad_packs().map(|(id, n, _)| (id, n)).collect();
    if !rest.is_empty() {
        actions.push(Action::Salvage { packs: rest });
    }
    Ok((actions, Vec::new()))
}

/// Chunks that committed snapshots need and no pack gives back. What is below a lost page is not
/// known.
fn lost_chunks(repository: &Repository, survey: &Survey) -> Result<BTreeSet<ChunkId>, AccessError> {
    let reader = Reader::new(repository);
    let places = survey.places(repository)?;
    let mut lost = BTreeSet::new();
    let mut seen = HashSet::new();
    for manifest in &SnapshotList::read(repository)?.committed {
        lost_of(&reader, manifest, &places, &mut seen, &mut lost)?;
    }
    Ok(lost)
}

fn lost_of(
    reader: &Reader<'_>,
    manifest: &Manifest,
    places: &Places<'_>,
    seen: &mut HashSet<[u8; 16]>,
    lost: &mut BTreeSet<ChunkId>,
) -> Result<(), AccessError> {
    let tree = Tree::new(reader, manifest.root);
    tree.for_each_reference(&mut |world, id| {
        if !seen.insert(id.as_base().0) {
            return Ok(false);
        }
        let is_lost = !places.lost(id)?.is_empty() || !is_readable_page(reader, world, id)?;
        if is_lost {
            lost.insert(*id);
        }
        Ok(!is_lost)
    })
}

/// A page is opened at once, so it had better be there.
fn is_readable_page(reader: &Reader<'_>, world: World, id: &ChunkId) -> Result<bool, AccessError> {
    if !world.is_pages() {
        return Ok(true);
    }
    match reader.chunk(world, id) {
        Ok(_) => Ok(true),
        Err(e) if says_damage(&e) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Puts a list under a collector's session: packs that nobody may reuse, chunks that are lost.
pub(super) fn condemn(session: &Session<'_>, what: Condemnation) -> Result<(), AccessError> {
    put_list(session, what).map(drop)
}

/// Copies what is still readable of bad packs and stands nowhere else. Answers how many chunks, and
/// the bytes that were put.
pub(super) fn salvage(
    repository: &Repository,
    packs: &[(PackId, u64)],
) -> Result<(u64, u64), AccessError> {
    let session = Session::open(repository, SessionKind::Collector)?;
    let done = copy(&session, packs);
    session.close();
    done
}

fn copy(session: &Session<'_>, packs: &[(PackId, u64)]) -> Result<(u64, u64), AccessError> {
    let repository = session.repository();
    let writer = Writer::new(session, session.view()?);
    let reader = Reader::new(repository);
    let known = repository.index().packs(&repository.segments())?;
    let mut copied = HashSet::new();
    for (id, size) in packs {
        let known = known.iter().find(|k| k.id == *id);
        let mut content = writer.lane(World::Content);
        let mut pages = writer.lane(World::Pages);
        salvage::records(&reader, id, *size, known, &mut |found| {
            let lane = match found.world {
                World::Content => &mut content,
                World::Pages => &mut pages,
            };
            copy_record(&reader, &writer.view(), lane, &found, &mut copied)
        })?;
        content.flush()?;
        pages.flush()?;
    }
    writer.finish()?;
    Ok((copied.len() as u64, writer.stored().new_stored))
}

/// Copies the chunks of a record that nobody may reuse, without bases: these may be bad, too.
fn copy_record(
    reader: &Reader<'_>,
    view: &View<'_>,
    lane: &mut Lane<'_, '_>,
    found: &salvage::Salvaged<'_>,
    copied: &mut HashSet<ChunkId>,
) -> Result<(), AccessError> {
    for (slot, row) in (0u8..=u8::MAX).zip(&found.record.rows) {
        if copied.contains(&row.id) || view.usable(&row.id)?.is_some() {
            continue;
        }
        let mut budget = crate::reader::Budget::new();
        match reader.decode(found.world, &row.id, &found.record, slot, &mut budget) {
            Ok(plain) => {
                lane.put(row.id, &plain, &[])?;
                copied.insert(row.id);
            }
            Err(e) if is_bad(&e) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

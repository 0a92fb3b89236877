//! Garbage collection without locks (gc-protocol.md, "Collector").
//!
//! This file is the order of one run; `fence` judges sessions, `reach` finds what snapshots
//! refer to, `weigh` how much of each pack lives, `flatten` what is better stored anew, `mark`
//! plans, `copy` keeps the living rest of packs that go, `sweep` verifies
//! and deletes, `merge` folds segments, `guard` stops a run that would do harm.

mod copy;
mod fence;
mod flatten;
mod guard;
mod mark;
pub(crate) mod merge;
pub(crate) mod reach;
mod sweep;
mod weigh;

pub use fence::Fence;
pub(crate) use fence::unsettled;
pub(crate) use weigh::weigh_numbers;

use std::collections::BTreeSet;

use crate::backend::{Area, Key, Put, Reserve, Trouble};
use crate::copies;
use crate::crypto::{Kind, fresh_uuid};
use crate::error::AccessError;
use crate::format::objects::{GcList, OpenList, SessionInfo, SessionKind};
use crate::id::{ChunkId, PackId, SnapshotId, Uuid};
use crate::monitor::{Event, Monitor};
use crate::notes;
use crate::repository::{Repository, named_key, uuid_key};
use crate::session::Session;
use crate::view::read_lists;

pub(crate) use guard::{Seen, remember};

/// How much of the repository may stay unused.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MaxUnused {
    /// So many percent of all packs.
    Percent(f64),
    /// So many bytes.
    Bytes(u64),
    /// All of it: only packs that are wholly unused go.
    Unlimited,
}

impl MaxUnused {
    fn bytes(self, total: u64) -> u64 {
        match self {
            MaxUnused::Percent(percent) => {
                (total as f64 * percent.clamp(0.0, 100.0) / 100.0) as u64
            }
            MaxUnused::Bytes(bytes) => bytes,
            MaxUnused::Unlimited => u64::MAX,
        }
    }
}

/// How to collect.
#[derive(Debug, Clone, Copy)]
pub struct GcOptions {
    /// Plan only.
    pub dry_run: bool,
    /// How much may stay unused.
    pub max_unused: MaxUnused,
    /// Go on when over half of the bytes would go.
    pub force: bool,
    /// When writers count as dead.
    pub fence: Fence,
}

impl Default for GcOptions {
    fn default() -> Self {
        GcOptions {
            dry_run: false,
            max_unused: MaxUnused::Percent(5.0),
            force: false,
            fence: Fence::Auto,
        }
    }
}

/// What a run did, and what it left for the next.
#[derive(Debug, Clone, Default)]
pub struct GcReport {
    /// Packs that were deleted.
    pub packs_deleted: u64,
    /// Their stored bytes.
    pub bytes_freed: u64,
    /// Bytes of packs that were written to keep what still lives.
    pub bytes_copied: u64,
    /// Bytes of condemned packs that wait for open writers.
    pub bytes_waiting: u64,
    /// The sessions that they wait for.
    pub waiting_for: Vec<SessionInfo>,
    /// Writers that were taken for dead.
    pub fenced: u64,
    /// Manifests of forgotten snapshots that were removed.
    pub manifests_removed: u64,
    /// Unused bytes that stay.
    pub bytes_unused: u64,
    /// Bytes of all packs before the run.
    pub bytes_total: u64,
    /// Packs that the plan condemns.
    pub planned_packs: u64,
    /// Bytes that the plan frees.
    pub planned_bytes: u64,
    /// Segments that were folded into others.
    pub segments_merged: u64,
    /// There was no room to copy what lives in packs that are mostly unused: they stay.
    pub out_of_room: bool,
    /// Chunks that snapshots need and no pack gives back; repair has found them before.
    pub chunks_lost: u64,
    /// Packs that stay because such a chunk stood in them, or one that it is based on.
    pub packs_held: u64,
    /// Their stored bytes.
    pub bytes_held: u64,
}

/// Why a run stopped before it deleted anything that matters.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GcError {
    /// Over half of the bytes would go.
    #[error("gc would free {would_free} of {total} bytes, more than half of the repository")]
    TooMuch {
        /// Bytes that would go.
        would_free: u64,
        /// Bytes of all packs.
        total: u64,
    },
    /// Something that a snapshot needs is gone.
    #[error("snapshots need {} that cannot be read: {}", plural(.chunks.len()), .chunks.join(", "))]
    Damaged {
        /// The chunks, shortened.
        chunks: Vec<String>,
    },
    /// A snapshot does not open, so nobody knows what it needs.
    #[error("snapshot {0} does not open ({1}): nothing is deleted while what it needs is unknown")]
    UnreadableSnapshot(Uuid, String),
    /// A snapshot is gone without having been forgotten; only its copy is left.
    #[error("snapshot {0} is missing and was not forgotten; a copy of it is left")]
    MissingSnapshot(Uuid),
    /// Names that never vanish are not listed any more.
    #[error("the storage does not list {0} that this machine has seen: its listing is incomplete")]
    ListingShrank(String),
    /// The repository failed.
    #[error(transparent)]
    Access(#[from] AccessError),
}

impl GcError {
    /// Whether it says only that there is no room left.
    fn is_full(&self) -> bool {
        matches!(self, GcError::Access(AccessError::Backend(e)) if e.trouble == Trouble::Full)
    }
}

fn plural(n: usize) -> String {
    if n == 1 {
        "1 chunk".into()
    } else {
        format!("{n} chunks")
    }
}

/// Collects: fences the dead, sweeps every list that stands, marks, puts a list of what is wholly
/// dead and sweeps it if it waits for nobody; then the same for packs whose living rest was copied.
/// What must wait is left to the next run. On a full disk it begins anew with room that the backend
/// held back; what there is no room to copy at once goes in small parts, each of which makes room.
///
/// # Errors
/// See [`GcError`]; nothing that a committed snapshot needs is deleted before or after one.
pub fn gc(
    repository: &Repository,
    options: &GcOptions,
    monitor: &dyn Monitor,
) -> Result<GcReport, GcError> {
    if options.dry_run {
        return dry_run(repository, options, monitor);
    }
    let mut report = GcReport::default();
    let mut attempt = Attempt::first(options);
    loop {
        let (freed, copied) = (report.bytes_freed, report.bytes_copied);
        match round(repository, &mut attempt, monitor, &mut report) {
            Err(e) if e.is_full() && attempt.in_vain => attempt.shrink(),
            Err(e) if e.is_full() => {
                let held_back = repository.backend().reserve(Reserve::GiveUp);
                if !held_back.unwrap_or(false) {
                    return Err(e);
                }
            }
            Err(e) => return Err(e),
            Ok(()) => {
                let freed = report.bytes_freed - freed;
                if !attempt.go_on(freed, report.bytes_copied - copied) {
                    break;
                }
            }
        }
    }
    report.out_of_room = attempt.left;
    let left = (report.bytes_total + report.bytes_copied).saturating_sub(report.bytes_freed);
    // Where there is no room for it yet, a later gc makes it.
    let _ = repository.backend().reserve(Reserve::Keep(left));
    Ok(report)
}

/// Bytes that are copied at a time where there is no room but what is held back. With a segment and
/// the list they stay below the 3 MiB that a folder lends at most. What they come to after three
/// attempts in vain, an eighth, stays below the 384 KiB that it lends at least.
const PART: u64 = (3 << 20) - (256 << 10);
/// Parts that are smaller than this are not tried.
const SMALL_PART: u64 = 64 << 10;
/// Attempts in vain after which no more is copied: others may take the room that is made.
const MAX_IN_VAIN: u32 = 8;

/// One of the attempts that a run makes, until it is through or there is no room for more.
struct Attempt<'a> {
    options: &'a GcOptions,
    /// Bytes that may be copied; `None`: as many as are to be.
    room: Option<u64>,
    /// Sessions of the attempts so far.
    sessions: Vec<Uuid>,
    /// Packs that are used in part stay, for want of room.
    left: bool,
    /// The disk was full before all was copied that was to be.
    in_vain: bool,
    /// How often it was.
    times: u32,
}

impl Attempt<'_> {
    fn first(options: &GcOptions) -> Attempt<'_> {
        Attempt {
            options,
            room: None,
            sessions: Vec::new(),
            left: false,
            in_vain: false,
            times: 0,
        }
    }

    /// There was no room for so much. What was copied in vain goes in the next attempt.
    fn shrink(&mut self) {
        self.times += 1;
        let room = self.room.map_or(PART, |room| (room / 2).min(PART));
        let enough = room >= SMALL_PART && self.times < MAX_IN_VAIN;
        self.room = Some(if enough { room } else { 0 });
    }

    /// Whether another attempt is worth it, after one that was through: with the room that it made.
    fn go_on(&mut self, freed: u64, copied: u64) -> bool {
        let (Some(room), Some(made)) = (self.room, freed.checked_sub(copied)) else {
            return false;
        };
        self.room = Some(room.saturating_add(made));
        self.left && room > 0 && made > 0
    }
}

/// One attempt, under a session of its own. It may be repeated, and `report` goes on counting.
fn round(
    repository: &Repository,
    attempt: &mut Attempt<'_>,
    monitor: &dyn Monitor,
    report: &mut GcReport,
) -> Result<(), GcError> {
    (attempt.left, attempt.in_vain) = (false, false);
    let session = Session::open(repository, SessionKind::Collector)?;
    let result = collect(&session, attempt, monitor, report);
    attempt.sessions.push(session.name());
    session.close();
    result
}

fn collect(
    session: &Session<'_>,
    attempt: &mut Attempt<'_>,
    monitor: &dyn Monitor,
    report: &mut GcReport,
) -> Result<(), GcError> {
    let (repository, options) = (session.repository(), attempt.options);
    (report.packs_held, report.bytes_held) = (0, 0);
    // What interrupted puts left behind is nobody's: failing to remove it is no reason to stop.
    let _ = repository.backend().tidy();
    monitor.event(Event::Phase("looking at sessions"));
    let snapshots = guard::list(repository)?;
    for (name, flaw) in &snapshots.flawed {
        let note =
            format!("snapshots/{name}: {flaw}; read from its copy: `hucha repair` puts it back");
        monitor.event(Event::Note(&note));
    }
    report.fenced += fence::tidy(repository, options.fence, session.name())?;
    let standing: Vec<Uuid> = read_lists(repository)?.iter().map(|l| l.name).collect();
    sweep_ready(session, &standing, options, monitor, report)?;
    monitor.event(Event::Phase("finding what is unused"));
    let asked = mark::Asked {
        own: Some(session.name()),
        earlier: &attempt.sessions,
        options,
        flattens: true,
    };
    let mut plan = mark::mark(repository, asked)?;
    let fits = |room| plan.copies() <= room;
    if !plan.knots.is_empty() && !attempt.room.is_none_or(fits) {
        let flattens = false;
        plan = mark::mark(repository, mark::Asked { flattens, ..asked })?;
    }
    report.bytes_total = report.bytes_total.max(plan.total);
    if report.planned_packs == 0 {
        report.planned_packs = plan.packs();
        report.planned_bytes = plan.would_free;
    }
    if let Some(room) = attempt.room {
        attempt.left = plan.limit(room);
    }
    report.bytes_unused = plan.stays_unused;
    guard::half(&plan, options.force)?;
    let committed = std::mem::take(&mut plan.committed);
    // On a full disk these make the room for what is copied.
    condemn(
        session,
        std::mem::take(&mut plan.dead),
        options,
        monitor,
        report,
    )?;
    rewrite(session, plan, attempt, monitor, report)?;
    report.manifests_removed += sweep::remove_manifests(repository, &committed)?;
    sweep::remove_orphans(repository)?;
    monitor.event(Event::Phase("folding the index"));
    match merge::merge(repository, merge::When::AfterGc).map_err(GcError::from) {
        Err(e) if e.is_full() => {
            monitor.event(Event::Note("no room to fold segments of the index"));
        }
        merged => report.segments_merged += merged?,
    }
    match fold_notes(repository) {
        Err(e) if e.is_full() => monitor.event(Event::Note("no room to fold notes")),
        folded => folded?,
    }
    copies::complete(repository, &snapshots.committed)?;
    count_waiting(repository, session.name(), report)?;
    Ok(())
}

/// Puts a list of packs and sweeps it, unless it has to wait.
fn condemn(
    session: &Session<'_>,
    packs: Vec<PackId>,
    options: &GcOptions,
    monitor: &dyn Monitor,
    report: &mut GcReport,
) -> Result<(), GcError> {
    if packs.is_empty() {
        return Ok(());
    }
    let list = put_list(session, Condemnation::of(packs))?;
    sweep_ready(session, &[list], options, monitor, report)
}

/// Copies what lives in packs that are used in part, and condemns them. Not while nothing is held
/// back for collectors: copying may fill the disk, and the next one could then not even begin.
fn rewrite(
    session: &Session<'_>,
    mut plan: mark::Plan,
    attempt: &mut Attempt<'_>,
    monitor: &dyn Monitor,
    report: &mut GcReport,
) -> Result<(), GcError> {
    if plan.partial.is_empty() {
        return Ok(());
    }
    let repository = session.repository();
    let kept = repository.backend().reserve(Reserve::Keep(plan.total));
    let none_kept = kept.is_err_and(|e| e.trouble == Trouble::Full);
    // What is lent must come back at once, and a list that waits gives nothing back.
    let lends = attempt.room.is_some();
    if none_kept || (lends && !fence::open_writers(repository)?.is_empty()) {
        attempt.left = true;
        return Ok(());
    }
    if lends {
        // Where nothing is lent there may be room all the same.
        let _ = repository.backend().reserve(Reserve::Lend);
    }
    let copied = copy::living_rest(session, &mut plan, monitor).map_err(GcError::from);
    let done = copied.and_then(|copied| {
        report.bytes_copied += copied;
        let mut packs: Vec<PackId> = plan.partial.iter().map(|p| p.pack.id).collect();
        packs.sort_unstable();
        condemn(session, packs, attempt.options, monitor, report)
    });
    attempt.in_vain = done.as_ref().is_err_and(GcError::is_full);
    done
}

/// Folds notes when there are some, and drops what they say of snapshots that are gone for good. As
/// long as one snapshot does not open, nobody knows which those are.
fn fold_notes(repository: &Repository) -> Result<(), GcError> {
    let Some(notes) = notes::worth_folding(repository)? else {
        return Ok(());
    };
    let list = guard::list(repository)?;
    let manifests = list.committed.iter().chain(&list.forgotten);
    let standing: BTreeSet<SnapshotId> = manifests.map(|m| m.id).collect();
    let stands = |id| !list.unreadable.is_empty() || standing.contains(&id);
    notes::fold(repository, notes, &stands)?;
    Ok(())
}

fn dry_run(
    repository: &Repository,
    options: &GcOptions,
    monitor: &dyn Monitor,
) -> Result<GcReport, GcError> {
    guard::list(repository)?;
    monitor.event(Event::Phase("finding what is unused"));
    let asked = mark::Asked {
        own: None,
        earlier: &[],
        options,
        flattens: true,
    };
    let plan = mark::mark(repository, asked)?;
    let mut report = GcReport {
        bytes_total: plan.total,
        planned_packs: plan.packs(),
        planned_bytes: plan.would_free,
        bytes_unused: plan.stays_unused,
        ..GcReport::default()
    };
    guard::half(&plan, options.force)?;
    count_waiting(repository, Uuid([0; 16]), &mut report)?;
    Ok(report)
}

/// What a list is to say.
#[derive(Debug, Default)]
pub(crate) struct Condemnation {
    /// The packs.
    pub packs: Vec<PackId>,
    /// Chunks that snapshots need and no pack gives back; only repair knows of such.
    pub lost: Vec<ChunkId>,
    /// Lists that do not open any more, and none of whose packs is missing in `packs`.
    pub covers: Vec<Uuid>,
}

impl Condemnation {
    fn of(packs: Vec<PackId>) -> Condemnation {
        Condemnation {
            packs,
            ..Condemnation::default()
        }
    }
}

/// Collector steps 3 and 4: the list, acknowledged, then the open writer sessions.
pub(crate) fn put_list(session: &Session<'_>, what: Condemnation) -> Result<Uuid, AccessError> {
    let repository = session.repository();
    let list = GcList {
        name: fresh_uuid(),
        packs: what.packs,
        session: session.name(),
        made: repository.environment().clock.now(),
        lost: what.lost,
        covers: what.covers,
    };
    let key = uuid_key(Area::Gc, list.name);
    match repository.put_object(&key, Kind::List, &list.encode())? {
        Put::Created => {}
        Put::Exists => return Err(AccessError::NotFresh(key.to_string())),
    }
    open_list(repository, list.name)?;
    Ok(list.name)
}

/// The sessions that a list's sweep waits for, as the first who listed them wrote them down. What
/// does not open is put again: the writers that are open now are all of those that have not
/// settled since, and more.
fn open_list(repository: &Repository, list: Uuid) -> Result<OpenList, AccessError> {
    let key = named_key(Area::Gc, format_args!("{list}.open"));
    match read_open(repository, &key, list) {
        Ok(Some(open)) => return Ok(open),
        Ok(None) => {}
        Err(e) if e.is_damage() => repository.backend().delete(&key)?,
        Err(e) => return Err(e),
    }
    let open = OpenList {
        name: list,
        sessions: fence::open_writers(repository)?,
    };
    repository.put_object(&key, Kind::List, &open.encode())?;
    // Gone again: the list was retired since, or another found the damaged one too.
    Ok(read_open(repository, &key, list)?.unwrap_or(open))
}

fn read_open(
    repository: &Repository,
    key: &Key,
    list: Uuid,
) -> Result<Option<OpenList>, AccessError> {
    let Some(fields) = repository.get_object(key, Kind::List)? else {
        return Ok(None);
    };
    let open = OpenList::decode(&fields).map_err(|e| AccessError::damaged(key, e))?;
    if open.name == list {
        Ok(Some(open))
    } else {
        Err(AccessError::damaged(key, "it bears another name"))
    }
}

/// Sweeps those lists whose writers are all settled, fencing the dead among them (step 5).
fn sweep_ready(
    session: &Session<'_>,
    lists: &[Uuid],
    options: &GcOptions,
    monitor: &dyn Monitor,
    report: &mut GcReport,
) -> Result<(), GcError> {
    let repository = session.repository();
    let mut ready = Vec::new();
    for list in lists {
        let waits = open_list(repository, *list)?.sessions;
        #[cfg(test)]
        let waits = if crate::holes::is_open(crate::holes::Hole::NoWaiting) {
            Vec::new()
        } else {
            waits
        };
        let (fenced, open) = fence::settle_all(repository, &waits, options.fence)?;
        report.fenced += fenced;
        if open.is_empty() {
            ready.push(*list);
        }
    }
    if ready.is_empty() {
        return Ok(());
    }
    monitor.event(Event::Phase("verifying what stays, deleting what goes"));
    let swept = sweep::sweep(session, &ready)?;
    report.packs_deleted += swept.packs;
    report.bytes_freed += swept.bytes;
    report.bytes_copied += swept.copied;
    report.manifests_removed += swept.manifests;
    report.chunks_lost = report.chunks_lost.max(swept.lost);
    report.packs_held += swept.held.len() as u64;
    report.bytes_held += swept.held.values().sum::<u64>();
    Ok(())
}

/// What condemned packs still stand, those that are held apart, and for whom they wait.
fn count_waiting(
    repository: &Repository,
    own: Uuid,
    report: &mut GcReport,
) -> Result<(), AccessError> {
    let lists = read_lists(repository)?;
    if lists.is_empty() {
        return Ok(());
    }
    let packs = crate::view::list_packs(repository)?;
    report.bytes_waiting = lists
        .iter()
        .flat_map(|l| &l.packs)
        .filter_map(|p| packs.get(p))
        .sum::<u64>()
        .saturating_sub(report.bytes_held);
    report.waiting_for = fence::still_open(repository, own)?;
    Ok(())
}

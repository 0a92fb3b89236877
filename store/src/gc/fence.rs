//! Judging sessions: which are settled, which are open, which are dead (gc-protocol.md, sweep
//! step 5).
//!
//! When to fence is a matter of liveness, not of safety: clocks may advise here.

use std::collections::{BTreeMap, BTreeSet};

use crate::backend::Area;
use crate::clock::Timestamp;
use crate::copies::Copies;
use crate::crypto::Kind;
use crate::environment::Fate;
use crate::error::AccessError;
use crate::format::objects::{SessionInfo, SessionKind};
use crate::id::Uuid;
use crate::repository::{Repository, named_key, uuid_key};
use crate::session::settle;

/// When a writer counts as dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fence {
    /// When its process on this host is gone; elsewhere after 15 minutes without a new heartbeat,
    /// by this machine's own clock.
    #[default]
    Auto,
    /// At once, alive or not.
    Now,
    /// As `Auto`, elsewhere after so many seconds.
    Idle(u64),
    /// Never.
    Never,
}

/// Seconds without a new heartbeat after which a session elsewhere counts as dead.
const IDLE: u64 = 900;

/// A session as it is listed.
#[derive(Debug, Clone)]
struct Seen {
    /// `None` when its object does not open: it then counts as an open writer elsewhere.
    info: Option<SessionInfo>,
    /// Its newest heartbeat.
    beat: u64,
}

/// Everything under `sessions/`.
#[derive(Debug, Default)]
struct Sessions {
    open: BTreeMap<Uuid, Seen>,
    /// Heartbeats by session, those of sessions that are gone among them.
    beats: BTreeMap<Uuid, Vec<u64>>,
}

fn read_sessions(repository: &Repository) -> Result<Sessions, AccessError> {
    let mut names = Vec::new();
    let mut sessions = Sessions::default();
    for name in repository.list_names(Area::Sessions)? {
        if let Ok(name) = name.parse::<Uuid>() {
            names.push(name);
        } else if let Some((name, beat)) = name.split_once('.')
            && let (Ok(name), Ok(beat)) = (name.parse(), beat.parse())
        {
            sessions.beats.entry(name).or_default().push(beat);
        }
    }
    for name in names {
        let key = uuid_key(Area::Sessions, name);
        let info = match repository.get_object(&key, Kind::Session) {
            Ok(None) => continue,
            Ok(Some(fields)) => SessionInfo::decode(&fields).ok().filter(|i| i.name == name),
            Err(e) if e.is_damage() => None,
            Err(e) => return Err(e),
        };
        let beat = sessions
            .beats
            .get(&name)
            .and_then(|b| b.iter().max())
            .copied()
            .unwrap_or(0);
        sessions.open.insert(name, Seen { info, beat });
    }
    Ok(sessions)
}

/// Every settled name. So is that of a copy, for it was committed: a tombstone would take the place
/// of a manifest that is lost.
fn settled_names(repository: &Repository) -> Result<BTreeSet<Uuid>, AccessError> {
    let mut settled: BTreeSet<Uuid> = repository
        .list_uuids(Area::Snapshots)?
        .into_iter()
        .collect();
    settled.extend(Copies::list(repository)?.snapshots);
    settled.extend(repository.list_uuids(Area::Trash)?);
    Ok(settled)
}

/// Step 4: the open writer sessions. Listing sessions comes first: a writer that settles in between
/// is one too many, which is harmless.
pub(super) fn open_writers(repository: &Repository) -> Result<Vec<Uuid>, AccessError> {
    let sessions = read_sessions(repository)?;
    let settled = settled_names(repository)?;
    let writer = |seen: &Seen| {
        seen.info
            .as_ref()
            .is_none_or(|info| info.kind == SessionKind::Writer)
    };
    let open = sessions
        .open
        .iter()
        .filter(|(name, seen)| writer(seen) && !settled.contains(name));
    Ok(open.map(|(name, _)| *name).collect())
}

/// Whether a session that is not settled counts as dead.
fn is_dead(repository: &Repository, fence: Fence, name: Uuid, seen: &Seen) -> bool {
    let idle = match fence {
        Fence::Now => return true,
        Fence::Never => return false,
        Fence::Auto => IDLE,
        Fence::Idle(seconds) => seconds,
    };
    let environment = repository.environment();
    let fate = match &seen.info {
        Some(info) => environment.liveness.judge(&info.process),
        None => Fate::Elsewhere,
    };
    match fate {
        Fate::Alive => false,
        Fate::Gone => true,
        Fate::Elsewhere => first_sight(repository, name, seen.beat)
            .is_some_and(|first| environment.clock.now().seconds_since(first) >= idle),
    }
}

/// When this machine saw this heartbeat first; the first sight answers `None` and is written down.
fn first_sight(repository: &Repository, name: Uuid, beat: u64) -> Option<Timestamp> {
    let state = &repository.environment().state;
    let file = format!("sight-{name}");
    let now = repository.environment().clock.now();
    if let Some(bytes) = state.load(&file)
        && let Some((known, seconds)) = bytes.split_first_chunk::<8>()
        && let Ok(seconds) = seconds.try_into()
    {
        let first = Timestamp {
            seconds: i64::from_le_bytes(seconds),
            nanos: 0,
        };
        // A clock that was set back makes an old sight worthless.
        if u64::from_le_bytes(*known) == beat && first.seconds <= now.seconds {
            return Some(first);
        }
    }
    let mut bytes = beat.to_le_bytes().to_vec();
    bytes.extend_from_slice(&now.seconds.to_le_bytes());
    state.store(&file, &bytes);
    None
}

/// Removes what settled and dead sessions left under `sessions/`; answers how many writers were
/// fenced.
pub(super) fn tidy(repository: &Repository, fence: Fence, own: Uuid) -> Result<u64, AccessError> {
    let sessions = read_sessions(repository)?;
    let settled = settled_names(repository)?;
    let mut fenced = 0;
    for (name, seen) in sessions.open.iter().filter(|(name, _)| **name != own) {
        let collector = seen
            .info
            .as_ref()
            .is_some_and(|info| info.kind == SessionKind::Collector);
        if !settled.contains(name) {
            if !is_dead(repository, fence, *name, seen) {
                continue;
            }
            if !collector {
                settle(repository, *name)?;
                fenced += 1;
            }
        }
        remove(repository, *name, sessions.beats.get(name))?;
    }
    for (name, beats) in &sessions.beats {
        if !sessions.open.contains_key(name) && *name != own {
            remove(repository, *name, Some(beats))?;
        }
    }
    let state = &repository.environment().state;
    for file in state.names("sight-") {
        let known = file.strip_prefix("sight-").and_then(|n| n.parse().ok());
        if known.is_none_or(|name: Uuid| !sessions.open.contains_key(&name)) {
            state.remove(&file);
        }
    }
    Ok(fenced)
}

/// Deletes a session whose name is settled, or that commits nothing, with its heartbeats.
fn remove(
    repository: &Repository,
    name: Uuid,
    beats: Option<&Vec<u64>>,
) -> Result<(), AccessError> {
    for beat in beats.into_iter().flatten() {
        repository
            .backend()
            .delete(&named_key(Area::Sessions, format_args!("{name}.{beat}")))?;
    }
    repository
        .backend()
        .delete(&uuid_key(Area::Sessions, name))?;
    Ok(())
}

/// Step 5: settles what is dead of S(l). Answers how many were fenced, and which are still open.
pub(super) fn settle_all(
    repository: &Repository,
    waits: &[Uuid],
    fence: Fence,
) -> Result<(u64, Vec<Uuid>), AccessError> {
    if waits.is_empty() {
        return Ok((0, Vec::new()));
    }
    let sessions = read_sessions(repository)?;
    let settled = settled_names(repository)?;
    let mut fenced = 0;
    let mut open = Vec::new();
    for name in waits.iter().filter(|name| !settled.contains(name)) {
        // A session that is gone without being settled (a DELETE that should not have been) can
        // only be fenced: it heeds no heartbeat any more.
        let dead = match sessions.open.get(name) {
            Some(seen) => is_dead(repository, fence, *name, seen),
            None => true,
        };
        if dead {
            settle(repository, *name)?;
            remove(repository, *name, sessions.beats.get(name))?;
            fenced += 1;
        } else {
            open.push(*name);
        }
    }
    Ok((fenced, open))
}

/// Open writers that a list may wait for, for the report.
pub(super) fn still_open(
    repository: &Repository,
    own: Uuid,
) -> Result<Vec<SessionInfo>, AccessError> {
    let sessions = read_sessions(repository)?;
    let settled = settled_names(repository)?;
    let open = sessions
        .open
        .into_iter()
        .filter(|(name, _)| *name != own && !settled.contains(name));
    let writers = open.filter_map(|(_, seen)| seen.info);
    Ok(writers
        .filter(|info| info.kind == SessionKind::Writer)
        .collect())
}

/// The sessions whose packs a mark must not touch: every one that is not settled.
pub(crate) fn unsettled(repository: &Repository) -> Result<BTreeSet<Uuid>, AccessError> {
    let sessions = read_sessions(repository)?;
    let settled = settled_names(repository)?;
    Ok(sessions
        .open
        .into_keys()
        .filter(|name| !settled.contains(name))
        .collect())
}

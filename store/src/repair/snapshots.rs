//! Manifests that do not open, names that vanished, and snapshots that refer to what is lost.
//!
//! What they lost is told; only when asked to is it given up: then what is left is committed under
//! a new name, and the damaged snapshot is forgotten (gc-protocol.md, "Repair").

use super::packs::Survey;
use super::rewrite::{self, Parts};
use super::{Action, Loss, copies};
use crate::backend::Area;
use crate::crypto::Kind;
use crate::error::AccessError;
use crate::forget::mark;
use crate::format::objects::{Manifest, SnapshotObject, header};
use crate::gc::Seen;
use crate::id::Uuid;
use crate::notes::{self, Fact, Notes};
use crate::repository::{Repository, named_key, uuid_key};
use crate::snapshots::SnapshotList;

/// What to do with what is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lost {
    /// It stays: the next snapshot that has the data may heal it.
    #[default]
    Keep,
    /// It is given up.
    GiveUp,
}

const WAIT: &str = "put the missing objects back from a copy of the repository, or give up what is \
                    lost: `hucha repair --give-up-lost`";
const HEAL: &str = "take a snapshot of the same data again: what it still has heals this one; or \
                    give up what is lost: `hucha repair --give-up-lost`";

/// What to do about snapshots. `survey`: what reading every pack has shown.
pub(super) fn plan(
    repository: &Repository,
    survey: &Survey,
    lost: Lost,
) -> Result<(Vec<Action>, Vec<Loss>), AccessError> {
    let mut plan = (Vec::new(), Vec::new());
    let seen = Seen::load(repository);
    let list = SnapshotList::read(repository)?;
    let missing = seen.missing(&list).into_iter();
    for (area, name) in missing.filter(|(_, name)| !list.unlisted.contains(name)) {
        match (area, lost) {
            (Area::Trash, _) => plan.0.push(Action::Forget {
                name,
                why: "its marker vanished".into(),
            }),
            (_, Lost::GiveUp) => plan.0.push(Action::Settle { name }),
            (_, Lost::Keep) => plan.1.push(Loss {
                object: format!("snapshots/{name}"),
                what: "this machine has seen it, and it is missing".into(),
                hint: WAIT.into(),
                ..Loss::default()
            }),
        }
    }
    let again = again(repository, &list)?;
    stop_if_storage_fails(&again)?;
    let still = |name: &Uuid| again.unreadable.iter().any(|(other, _)| other == name);
    for (name, why) in list.unreadable.iter().filter(|(name, _)| still(name)) {
        if lost == Lost::GiveUp || is_tombstone_sized(repository, *name)? {
            plan.0.push(Action::Forget {
                name: *name,
                why: why.clone(),
            });
        } else {
            plan.1.push(Loss {
                object: format!("snapshots/{name}"),
                what: why.clone(),
                hint: WAIT.into(),
                ..Loss::default()
            });
        }
    }
    notes(repository, &list, lost, &mut plan)?;
    copies::plan(repository, lost, &mut plan.0)?;
    let places = survey.places(repository)?;
    for manifest in &list.committed {
        let parts = rewrite::survey(repository, manifest, &places)?;
        if parts.count > 0 {
            incomplete(manifest, parts, lost, &mut plan);
        } else if let Some(flaw) = list.flawed.get(&manifest.name)
            && again.flawed.contains_key(&manifest.name)
            && !again.trash.contains(&manifest.name)
        {
            plan.0.push(copies::put_back(manifest, flaw, &list));
        }
    }
    Ok(plan)
}

/// Single objects that cannot be read are damaged; when that is said of most, nothing is given up.
fn stop_if_storage_fails(list: &SnapshotList) -> Result<(), AccessError> {
    let all = list.committed.len() + list.forgotten.len() + list.unreadable.len();
    if list.unread <= 1 || list.unread <= all / 2 {
        return Ok(());
    }
    Err(AccessError::StorageFails {
        what: "snapshots",
        unreadable: list.unread,
        all,
        why: "their manifests".into(),
    })
}

/// What to do about a snapshot that refers to what is lost.
fn incomplete(manifest: &Manifest, parts: Parts, lost: Lost, plan: &mut (Vec<Action>, Vec<Loss>)) {
    match lost {
        // It was to be gone on with; what is left of it would be of no help.
        Lost::GiveUp if manifest.partial => plan.0.push(Action::Forget {
            name: manifest.name,
            why: "a checkpoint that has lost data".into(),
        }),
        Lost::GiveUp => plan.0.push(Action::Rewrite {
            manifest: Box::new(manifest.clone()),
            parts: parts.named,
            count: parts.count,
        }),
        Lost::Keep => plan.1.push(Loss {
            object: format!("snapshots/{}", manifest.name),
            what: format!("snapshot {:.8} refers to data that is lost", manifest.id),
            snapshot: Some(manifest.id),
            parts: parts.named,
            count: parts.count,
            hint: HEAL.into(),
        }),
    }
}

/// Notes that do not open: their copies stand in their place, or nobody can tell what they said.
fn notes(
    repository: &Repository,
    list: &SnapshotList,
    lost: Lost,
    plan: &mut (Vec<Action>, Vec<Loss>),
) -> Result<(), AccessError> {
    let notes = Notes::read(repository)?;
    for (name, why) in notes.flawed(&|id| list.stands(id)) {
        plan.0.extend(copies::put_back_note(repository, name, why)?);
    }
    for (name, why) in notes.unreadable {
        match lost {
            Lost::GiveUp => plan.0.push(Action::Remove {
                key: named_key(Area::Notes, name),
                why: "what it said of snapshots is lost".into(),
            }),
            Lost::Keep => plan.1.push(Loss {
                object: format!("notes/{name}"),
                what: format!(
                    "what it said of snapshots (a tag, a label, protection) is lost: {why}"
                ),
                hint: "say it again, and remove the note: `hucha repair --give-up-lost`".into(),
                ..Loss::default()
            }),
        }
    }
    Ok(())
}

/// The snapshots once more, if any does not open: what storage answered wrongly once is not given
/// up for that.
fn again(repository: &Repository, list: &SnapshotList) -> Result<SnapshotList, AccessError> {
    match list.unreadable.is_empty() && list.flawed.is_empty() {
        true => Ok(SnapshotList::default()),
        false => SnapshotList::read(repository),
    }
}

/// Whether an object at `snapshots/` is as long as a tombstone. No manifest is as short, and a
/// tombstone that does not open is worth a marker.
fn is_tombstone_sized(repository: &Repository, name: Uuid) -> Result<bool, AccessError> {
    let tombstone = SnapshotObject::Tombstone { name }.encode();
    let whole = repository.seal_object(Kind::Snapshot, &tombstone);
    let stored = repository.get_stored(&uuid_key(Area::Snapshots, name))?;
    let clear = header(Kind::Snapshot);
    Ok(stored.is_some_and(|s| s.len() as u64 == whole.len() && s.starts_with(&clear)))
}

/// What became of a damaged snapshot.
pub(super) enum Rewritten {
    /// It was forgotten for the sake of this one.
    As(Box<Manifest>),
    /// What was left of it had been committed before; it was forgotten.
    Before,
    /// Another machine's gc took this run for dead: nothing was changed.
    Fenced,
}

/// Commits what is left of a snapshot, with what notes say of it, and forgets it.
pub(super) fn give_up(
    repository: &Repository,
    survey: &Survey,
    manifest: &Manifest,
) -> Result<Rewritten, AccessError> {
    let committed = SnapshotList::read(repository)?.committed;
    if rewrite::is_rewritten(manifest, &committed) {
        mark(repository, manifest.name)?;
        return Ok(Rewritten::Before);
    }
    let said = Notes::read(repository)?;
    let mut noted = manifest.clone();
    said.annotate(&mut noted);
    let places = survey.places(repository)?;
    let Some((rest, _)) = rewrite::rewrite(repository, &noted, &places)? else {
        return Ok(Rewritten::Fenced);
    };
    if said.is_protected(manifest.id) {
        let protected = Fact::Protected {
            snapshot: rest.id,
            protected: true,
        };
        notes::put(repository, &said, &[protected])?;
    }
    mark(repository, manifest.name)?;
    Ok(Rewritten::As(Box::new(rest)))
}

//! `config`, key slots and data keys: each is put back from a copy of it.
//!
//! Works before a repository is open: without `config` it cannot be opened. Knows nothing of
//! packs but the wrapped data keys at their start.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::packs::list_twice;
use super::{Action, Loss};
use crate::backend::{Area, Backend, Key};
use crate::crypto::Encryption;
use crate::error::AccessError;
use crate::format::config::{Slot, decode_data_key, encode_data_key};
use crate::id::{DataKeyId, SlotId};
use crate::pack::read_header;
use crate::reader::{is_bad, says_damage};
use crate::repository::{
    Credential, OpenError, Repository, SlotState, Unlocked, config_copy, decode_config, get,
    named_key, slot_copy,
};
use crate::sealed::Sealed;

/// Every stored `config`, whole or not: the object itself, then its copies.
struct Copies {
    own: Option<Vec<u8>>,
    others: Vec<Vec<u8>>,
}

impl Copies {
    fn read(backend: &dyn Backend) -> Result<Copies, OpenError> {
        let mut names = Vec::new();
        backend.list(Area::Keys, &mut |listed| names.push(listed.name))?;
        names.sort_unstable();
        let mut others = Vec::new();
        others.extend(get(backend, &config_copy())?);
        for name in names.iter().filter(|n| slot_of(n).is_some()) {
            let stored = get(backend, &named_key(Area::Keys, name))?;
            let slot = stored.and_then(|stored| Slot::decode(&stored).ok());
            others.extend(slot.map(|slot| slot.config));
        }
        others.dedup();
        let own = get(backend, &Key::config())?;
        Ok(Copies { own, others })
    }

    fn all(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.own.iter().chain(&self.others)
    }
}

/// The slot that an object under `keys/` is, or is a copy of.
fn slot_of(name: &str) -> Option<SlotId> {
    name.strip_suffix(".copy").unwrap_or(name).parse().ok()
}

/// Whether a repository is encrypted, from `config` or any copy of it; `None` when there is
/// neither.
///
/// # Errors
/// When what is there does not say it.
pub fn encryption_of(backend: &dyn Backend) -> Result<Option<Encryption>, OpenError> {
    let copies = Copies::read(backend)?;
    let mut error = None;
    let mut found = None;
    for stored in copies.all() {
        match decode_config(stored) {
            // Without encryption anybody can tell whether it is right.
            Ok(config) if config.encryption == Encryption::None => {
                let public = config.public.unwrap_or_default();
                let key = crate::crypto::config_key(&public);
                if crate::format::config::Config::is_authentic(stored, &key) {
                    return Ok(Some(Encryption::None));
                }
            }
            Ok(config) => found = found.or(Some(config.encryption)),
            Err(e) => error = error.or(Some(e)),
        }
    }
    match (found, error) {
        (None, Some(error)) => Err(error),
        (None, None) if copies.own.is_some() => {
            Err(AccessError::damaged("config", "no whole copy of it is left").into())
        }
        (found, _) => Ok(found),
    }
}

/// A repository that can be opened, and what is wrong with its `config`.
pub struct Found {
    /// Opens it.
    pub unlocked: Unlocked,
    /// The stored form of a `config` that is right.
    pub(crate) stored: Vec<u8>,
    /// What is wrong with the object `config`, if anything is.
    pub(crate) fault: Option<String>,
}

/// Finds a `config` that opens with a credential: the object, else any copy of it.
///
/// # Errors
/// When none does; why the object itself does not, unless the password is wrong.
pub fn find(backend: &Arc<dyn Backend>, credential: &Credential) -> Result<Found, OpenError> {
    let copies = Copies::read(&**backend)?;
    let try_open = |stored: &Vec<u8>| Unlocked::new(Arc::clone(backend), stored, credential);
    let first = match &copies.own {
        None => OpenError::NoRepository(backend.location()),
        Some(stored) => match try_open(stored) {
            Ok(unlocked) => {
                return Ok(Found {
                    unlocked,
                    stored: stored.clone(),
                    fault: None,
                });
            }
            // Nothing but a newer program helps.
            Err(e @ OpenError::Version(_)) => return Err(e),
            Err(e) => e,
        },
    };
    let fault = match &first {
        OpenError::NoRepository(_) => "it is missing".to_owned(),
        e => e.to_string(),
    };
    let mut wrong = matches!(first, OpenError::WrongKey);
    for stored in copies
        .others
        .iter()
        .filter(|c| Some(*c) != copies.own.as_ref())
    {
        match try_open(stored) {
            Ok(unlocked) => {
                return Ok(Found {
                    unlocked,
                    stored: stored.clone(),
                    fault: Some(fault),
                });
            }
            Err(e @ OpenError::NoKey) => return Err(e),
            Err(e) => wrong = wrong || matches!(e, OpenError::WrongKey),
        }
    }
    Err(if wrong { OpenError::WrongKey } else { first })
}

/// What is to be put back. `found` is what opened the repository.
pub(super) fn plan(
    repository: &Repository,
    stored: &[u8],
    fault: Option<&str>,
) -> Result<(Vec<Action>, Vec<Loss>), AccessError> {
    let mut plan = (Vec::new(), Vec::new());
    if let Some(fault) = fault {
        plan.0.push(Action::Put {
            key: Key::config(),
            why: fault.to_owned(),
            body: stored.to_vec(),
            safe: None,
        });
    }
    let copy = repository.get_stored(&config_copy())?;
    if copy.as_deref() != Some(stored) {
        let why = match copy {
            None => "the second copy of config is missing",
            Some(_) => "the second copy of config differs from it",
        };
        plan.0.push(Action::Put {
            key: config_copy(),
            why: why.to_owned(),
            body: stored.to_vec(),
            safe: None,
        });
    }
    if repository.keys().encryption() != Encryption::None {
        slots(repository, stored, &mut plan)?;
        data_keys(repository, &mut plan)?;
    }
    Ok(plan)
}

fn slots(
    repository: &Repository,
    config: &[u8],
    (actions, losses): &mut (Vec<Action>, Vec<Loss>),
) -> Result<(), AccessError> {
    let names = repository.list_names(Area::Keys)?;
    for name in &names {
        let key = named_key(Area::Keys, name);
        let Some(id) = slot_of(name) else { continue };
        let Some(stored) = repository.get_stored(&key)? else {
            continue;
        };
        if name.ends_with(".copy") {
            // An interrupted repair was replacing the slot.
            if !names.contains(&id.to_string()) {
                actions.push(Action::Put {
                    key: named_key(Area::Keys, id),
                    why: "only a copy of it is left".to_owned(),
                    body: stored,
                    safe: None,
                });
            }
            actions.push(Action::Remove {
                key,
                why: "an interrupted repair left it".to_owned(),
            });
            continue;
        }
        match repository.judge_slot(&stored, config) {
            SlotState::Whole | SlotState::Foreign => {}
            SlotState::OtherConfig => actions.extend(mended(id, &stored, config)),
            SlotState::Damaged(why) => losses.push(Loss {
                object: key.path(),
                what: why.to_owned(),
                hint: format!(
                    "its password or key file may not open the repository any more: \
                     `hucha key remove {id:.8}`, then `hucha key add`"
                ),
                ..Loss::default()
            }),
        }
    }
    Ok(())
}

/// The same slot with the right copy of `config`. Its seals stay as they are.
fn mended(id: SlotId, stored: &[u8], config: &[u8]) -> Option<Action> {
    let slot = Slot::decode(stored).ok()?;
    let body = Slot {
        config: config.to_vec(),
        ..slot
    };
    Some(Action::Put {
        key: named_key(Area::Keys, id),
        why: "its copy of config differs from config".to_owned(),
        body: body.encode(),
        safe: Some(slot_copy(id)),
    })
}

/// Data keys that packs carry and `keys/` does not, and objects under `keys/` that do not open.
fn data_keys(
    repository: &Repository,
    (actions, _): &mut (Vec<Action>, Vec<Loss>),
) -> Result<(), AccessError> {
    let keys = repository.keys();
    let mut whole = Vec::new();
    let mut damaged = Vec::new();
    for name in repository.list_names(Area::Keys)? {
        let Some(id) = name.strip_prefix("data-") else {
            continue;
        };
        let key = named_key(Area::Keys, &name);
        let Some(stored) = repository.get_stored(&key)? else {
            continue;
        };
        match decode_data_key(&stored) {
            Ok(Some((inner, wrapped))) if inner.to_string() == id => {
                match keys.learn_data_key(inner, &wrapped) {
                    true => whole.push(inner),
                    false => damaged.push(key),
                }
            }
            // Wrapped in a way that this program does not know.
            Ok(None) => {}
            _ => damaged.push(key),
        }
    }
    let mut carried: BTreeMap<DataKeyId, Vec<u8>> = BTreeMap::new();
    let mut unread = false;
    for (id, size) in list_twice(repository)? {
        let header = match read_header(repository.backend(), &id, size) {
            Ok((header, _)) => header,
            Err(e) if is_bad(&e) => {
                unread |= !says_damage(&e);
                continue;
            }
            Err(e) => return Err(e),
        };
        for (id, wrapped) in header.keys {
            if !carried.contains_key(&id) && keys.learn_data_key(id, &wrapped) {
                carried.insert(id, wrapped);
            }
        }
    }
    for (id, wrapped) in carried.iter().filter(|(id, _)| !whole.contains(id)) {
        actions.push(Action::Put {
            key: named_key(Area::Keys, format_args!("data-{id}")),
            why: "packs hold copies of it".to_owned(),
            body: encode_data_key(*id, wrapped),
            safe: None,
        });
    }
    let is_carried = |key: &Key| carried.keys().any(|id| key.name() == format!("data-{id}"));
    // A pack that cannot be read now may need it.
    let useless = |k: &Key| !unread && !is_carried(k);
    for key in damaged.into_iter().filter(useless) {
        actions.push(Action::Remove {
            key,
            why: "it does not open, and no pack needs it".to_owned(),
        });
    }
    Ok(())
}

/// Puts an object of a fixed name in the place of what stands there. `safe`: where a copy stands
/// meanwhile, so that an interruption loses nothing.
pub(super) fn replace(
    repository: &Repository,
    key: &Key,
    body: &[u8],
    safe: Option<&Key>,
) -> Result<(), AccessError> {
    let backend = repository.backend();
    let body = || Sealed::from_stored(body.to_vec());
    if let Some(safe) = safe {
        backend.put(safe, &body())?;
    }
    backend.delete(key)?;
    backend.put(key, &body())?;
    if let Some(safe) = safe {
        backend.delete(safe)?;
    }
    Ok(())
}

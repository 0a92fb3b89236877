//! Key slots: listing, adding, removing, changing.

use zeroize::Zeroizing;

use super::open::{Credential, kek_of, slot_context, slot_copy};
use super::{OpenError, Repository, named_key};
use crate::backend::{Area, Key, Put};
use crate::crypto::{Encryption, KeyEncryptionKey, Keys, Kind, SealKey, config_key};
use crate::environment::Environment;
use crate::error::AccessError;
use crate::format::config::{Config, Slot};
pub use crate::format::config::{SlotKind, SlotLabel};
use crate::id::SlotId;
use crate::sealed::Sealed;

/// What can be told of a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotView {
    /// Its name.
    pub id: SlotId,
    /// What it says of itself; `None`: it is damaged, and may open nothing any more.
    pub details: Option<SlotDetails>,
    /// Whether it opened this repository now.
    pub in_use: bool,
}

/// What a slot that is whole says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotDetails {
    /// How it is opened.
    pub kind: SlotKind,
    /// Label, time and host.
    pub label: SlotLabel,
}

/// Why slots stay as they are.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SlotError {
    /// The repository is not encrypted.
    #[error("this repository is not encrypted: it has no keys")]
    NotEncrypted,
    /// The same password or key file opens it already.
    #[error("this password or key file opens the repository already (key {0:.8})")]
    Exists(SlotId),
    /// Nothing is left to open the repository with.
    #[error("this is the last key: without it nobody could open the repository again")]
    Last,
    /// No slot has this id or label.
    #[error("no key has the id or label \"{0}\"")]
    Unknown(String),
    /// Several slots do.
    #[error("several keys match \"{0}\": give more of the id")]
    Ambiguous(String),
    /// Anything else.
    #[error(transparent)]
    Open(#[from] OpenError),
}

impl From<AccessError> for SlotError {
    fn from(error: AccessError) -> Self {
        SlotError::Open(error.into())
    }
}

impl From<crate::backend::BackendError> for SlotError {
    fn from(error: crate::backend::BackendError) -> Self {
        SlotError::Open(error.into())
    }
}

/// What a stored slot is worth, as far as it can be told without what opens it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SlotState {
    /// Its shape, its label and its copy of `config` are right.
    Whole,
    /// It belongs to another repository: a lost race of two `init`.
    Foreign,
    /// Its copy of `config` is another one.
    OtherConfig,
    /// It is damaged, with the reason.
    Damaged(&'static str),
}

/// The label of a slot that is made now.
pub(super) fn new_label(environment: &Environment, label: &str) -> SlotLabel {
    SlotLabel {
        label: label.to_owned(),
        created: environment.clock.now(),
        host: environment.process.host.clone(),
    }
}

/// Seals the root secret for one key.
pub(super) fn make_slot(
    keys: &Keys,
    config: &Config,
    stored_config: &[u8],
    kek: &KeyEncryptionKey,
    kind: SlotKind,
    label: &SlotLabel,
) -> Slot {
    let header = Slot::header(kind, config.repository);
    let root = slot_context(config.domain, Kind::SlotRoot, &header);
    let sealed_root = SealKey::Secret(kek.0.clone()).seal(&root, keys.root());
    let context = slot_context(config.domain, Kind::SlotLabel, &header);
    let sealed_label = label_key(keys).seal(&context, &label.encode());
    Slot {
        kind,
        repository: config.repository,
        sealed_root,
        sealed_label,
        config: stored_config.to_vec(),
    }
}

fn label_key(keys: &Keys) -> SealKey {
    SealKey::Secret(Zeroizing::new(blake3::derive_key(
        "hucha 1 slot",
        keys.root(),
    )))
}

impl Repository {
    /// All slots of this repository, damaged ones among them, in the order of their names. Slots
    /// that belong to no repository (a lost race of two `init`) are left out.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn slots(&self) -> Result<Vec<SlotView>, SlotError> {
        if self.keys().encryption() == Encryption::None {
            return Err(SlotError::NotEncrypted);
        }
        let config = self.get_stored(&Key::config())?.unwrap_or_default();
        let mut slots = Vec::new();
        for name in self.list_names(Area::Keys)? {
            let Ok(id) = name.parse::<SlotId>() else {
                continue;
            };
            let Some(stored) = self.get_stored(&named_key(Area::Keys, id))? else {
                continue;
            };
            let details = match self.judge_slot(&stored, &config) {
                SlotState::Foreign => continue,
                SlotState::Damaged(_) => None,
                SlotState::Whole | SlotState::OtherConfig => self.details(&stored),
            };
            slots.push(SlotView {
                id,
                details,
                in_use: self.opened_by() == Some(id),
            });
        }
        Ok(slots)
    }

    /// What a stored slot says of itself, unless it is damaged.
    fn details(&self, stored: &[u8]) -> Option<SlotDetails> {
        let slot = Slot::decode(stored).ok()?;
        let header = Slot::header(slot.kind, self.id());
        let context = slot_context(self.config().domain, Kind::SlotLabel, &header);
        let label = label_key(self.keys()).open(&context, &slot.sealed_label);
        Some(SlotDetails {
            kind: slot.kind,
            label: SlotLabel::decode(&label.ok()?).ok()?,
        })
    }

    /// Judges a stored slot beside the stored `config`.
    pub(crate) fn judge_slot(&self, stored: &[u8], config: &[u8]) -> SlotState {
        let Ok(slot) = Slot::decode(stored) else {
            return SlotState::Damaged("it is malformed");
        };
        if slot.repository != self.id() {
            return match slot.config == config {
                true => SlotState::Damaged("it names another repository"),
                false => SlotState::Foreign,
            };
        }
        if self.details(stored).is_none() {
            return SlotState::Damaged("its label does not open");
        }
        match slot.config == config {
            true => SlotState::Whole,
            false => SlotState::OtherConfig,
        }
    }

    /// Adds a slot for one more password or key file.
    ///
    /// # Errors
    /// [`SlotError::Exists`] when it opens the repository already.
    pub fn add_slot(&self, credential: &Credential, label: &str) -> Result<SlotId, SlotError> {
        if self.keys().encryption() == Encryption::None {
            return Err(SlotError::NotEncrypted);
        }
        let (kek, kind) = kek_of(credential, &self.config().cost)?;
        let stored = self.backend().get(&Key::config())?;
        // A copy that is not whole would be of no use on the day it is needed.
        if !Config::is_authentic(&stored, &config_key(self.keys().root())) {
            return Err(AccessError::damaged("config", "its MAC does not hold").into());
        }
        let label = new_label(self.environment(), label);
        let slot = make_slot(self.keys(), self.config(), &stored, &kek, kind, &label);
        let id = kek.slot(&self.config().cost.salt);
        let key = named_key(Area::Keys, id);
        match self
            .backend()
            .put(&key, &Sealed::from_stored(slot.encode()))?
        {
            Put::Created => Ok(id),
            Put::Exists => Err(SlotError::Exists(id)),
        }
    }

    /// Finds one slot by its label or the start of its id; a damaged one by its id only.
    ///
    /// # Errors
    /// When none or several match.
    pub fn find_slot(&self, typed: &str) -> Result<SlotView, SlotError> {
        let slots = self.slots()?;
        let is_labelled =
            |s: &&SlotView| s.details.as_ref().is_some_and(|d| d.label.label == typed);
        let by_label = slots.iter().filter(is_labelled);
        let by_id = slots
            .iter()
            .filter(|s| typed.len() >= 2 && s.id.to_string().starts_with(typed));
        let mut found: Vec<&SlotView> = by_label.chain(by_id).collect();
        found.dedup_by_key(|s| s.id);
        match found.as_slice() {
            [] => Err(SlotError::Unknown(typed.to_owned())),
            [slot] => Ok((*slot).clone()),
            _ => Err(SlotError::Ambiguous(typed.to_owned())),
        }
    }

    /// Removes a slot, damaged or not, never the last one that opens. Two processes that remove the
    /// last two at once are not kept from it: storage offers no way to.
    ///
    /// # Errors
    /// [`SlotError::Last`] when no other would be left.
    pub fn remove_slot(&self, id: SlotId) -> Result<(), SlotError> {
        let opens = |s: &SlotView| s.details.is_some() || s.in_use;
        if !self.slots()?.iter().any(|s| s.id != id && opens(s)) {
            return Err(SlotError::Last);
        }
        self.delete_slot(id)
    }

    /// A copy that an interrupted repair left goes first: it opens the repository, too.
    fn delete_slot(&self, id: SlotId) -> Result<(), SlotError> {
        self.backend().delete(&slot_copy(id))?;
        Ok(self.backend().delete(&named_key(Area::Keys, id))?)
    }

    /// Puts another password or key file in the place of the slot that opened the repository.
    ///
    /// # Errors
    /// As [`Repository::add_slot`].
    pub fn change_slot(
        &self,
        credential: &Credential,
        label: Option<&str>,
    ) -> Result<SlotId, SlotError> {
        // Whatever is wrong with its label, the old slot goes.
        let old = self.opened_by();
        let kept = self.slots()?.into_iter().find(|s| s.in_use);
        let kept = kept.and_then(|s| s.details);
        let kept = kept.map(|d| d.label.label).unwrap_or_default();
        let new = match self.add_slot(credential, label.unwrap_or(&kept)) {
            // An earlier change that ended before the old slot went.
            Err(SlotError::Exists(id)) if old.is_some_and(|old| old != id) => id,
            added => added?,
        };
        if let Some(old) = old {
            self.delete_slot(old)?;
        }
        Ok(new)
    }
}

//! Small objects: each opens, bears its name, and agrees with its copies.
//!
//! Knows nothing of what they mean for snapshots. The sealed root of a key slot opens with the
//! slot's own password only; of the slots that did not open the repository now everything else is
//! looked at.

use std::collections::BTreeMap;

use super::damage::{DamageKind, Ledger};
use crate::backend::{Area, Key};
use crate::copies;
use crate::crypto::{Encryption, Kind};
use crate::error::AccessError;
use crate::format::Malformed;
use crate::format::config::{Config, decode_data_key};
use crate::format::note::Note;
use crate::format::objects::{
    GcList, OpenList, SessionInfo, SnapshotObject, TrashMarker, decode_heartbeat,
};
use crate::id::{SlotId, Uuid};
use crate::repository::{Repository, SlotState, config_copy, named_key};
use crate::snapshots::Flaw;

/// How newer programs may wrap data keys (docs/format.md, "Data keys").
const WRAP_RECIPIENT: u8 = 2;

/// What was found.
pub(super) struct Objects<'a> {
    pub repository: &'a Repository,
    pub ledger: &'a mut Ledger,
}

impl Objects<'_> {
    /// Looks at every small object but manifests and segments.
    /// `flawed`: manifests that are lost and have a copy.
    pub fn check(&mut self, flawed: &BTreeMap<Uuid, Flaw>) -> Result<(), AccessError> {
        self.keys()?;
        for name in self.repository.list_names(Area::Sessions)? {
            self.sealed(Area::Sessions, &name, &session)?;
        }
        for name in self.repository.list_names(Area::Gc)? {
            self.sealed(Area::Gc, &name, &gc_list)?;
        }
        for name in self.repository.list_names(Area::Trash)? {
            self.sealed(Area::Trash, &name, &marker)?;
            if name.parse().is_ok_and(|name| !flawed.contains_key(&name)) {
                self.sealed(Area::Snapshots, &name, &forgotten)?;
            }
        }
        for name in self.repository.list_names(Area::Notes)? {
            self.sealed(Area::Notes, &name, &note)?;
        }
        for name in self.repository.list_names(Area::Copies)? {
            self.copy(&name)?;
        }
        Ok(())
    }

    fn copy(&mut self, name: &str) -> Result<(), AccessError> {
        let Some((of, original)) = copies::original(name) else {
            return Ok(());
        };
        let form = match of {
            Area::Notes => NOTE,
            _ => MANIFEST,
        };
        self.opens(&copies::copy_key(of, original), original, &form)
    }

    fn keys(&mut self) -> Result<(), AccessError> {
        let repository = self.repository;
        let Some(config) = repository.get_stored(&Key::config())? else {
            let what = "it is missing";
            self.damage(DamageKind::Config, &Key::config(), what);
            return Ok(());
        };
        match repository.get_stored(&config_copy())? {
            None => self
                .ledger
                .note("config has no copy: `hucha repair` makes one".into()),
            Some(copy) if copy == config => {}
            Some(_) => self.damage(DamageKind::Config, &config_copy(), "it differs from config"),
        }
        if repository.keys().encryption() == Encryption::None {
            return Ok(());
        }
        let authentic = crate::crypto::config_key(repository.keys().root());
        if !Config::is_authentic(&config, &authentic) {
            self.damage(DamageKind::Config, &Key::config(), "its MAC does not hold");
        }
        let mut data_keys = 0;
        for name in repository.list_names(Area::Keys)? {
            let key = named_key(Area::Keys, &name);
            if let Some(id) = name.strip_prefix("data-") {
                data_keys += 1;
                self.data_key(&key, id)?;
            } else if name.parse::<SlotId>().is_ok() {
                self.slot(&key, &config)?;
            }
        }
        if data_keys == 0 && !repository.list_names(Area::Packs)?.is_empty() {
            let object = "keys/data-…".to_owned();
            let what = "it is missing; packs hold copies of the data keys that they need";
            self.ledger.add(DamageKind::DataKey, object, what.into());
        }
        Ok(())
    }

    fn data_key(&mut self, key: &Key, name: &str) -> Result<(), AccessError> {
        let Some(stored) = self.repository.get_stored(key)? else {
            return Ok(());
        };
        let opens = match decode_data_key(&stored) {
            Ok(Some((id, wrapped))) if id.to_string() == name => {
                self.repository.keys().learn_data_key(id, &wrapped)
            }
            // Sealed to a recipient: a newer program's.
            Ok(None) => stored.get(9) == Some(&WRAP_RECIPIENT),
            _ => false,
        };
        if !opens {
            let what = "it does not open; packs hold copies of the data keys that they need";
            self.damage(DamageKind::DataKey, key, what);
        }
        Ok(())
    }

    fn slot(&mut self, key: &Key, config: &[u8]) -> Result<(), AccessError> {
        let Some(stored) = self.repository.get_stored(key)? else {
            return Ok(());
        };
        match self.repository.judge_slot(&stored, config) {
            SlotState::Whole => {}
            SlotState::Foreign => {
                let note = format!("{key} is not of this repository");
                self.ledger.note(note);
            }
            SlotState::Damaged(what) => self.damage(DamageKind::KeySlot, key, what),
            SlotState::OtherConfig => {
                let what = "its copy of config differs from config";
                self.damage(DamageKind::KeySlot, key, what);
            }
        }
        Ok(())
    }

    /// One sealed object; names that are none of ours are passed over.
    fn sealed(&mut self, area: Area, name: &str, read: &Read) -> Result<(), AccessError> {
        let Some((id, suffix)) = split(name) else {
            return Ok(());
        };
        let Some(form) = read(suffix) else {
            return Ok(());
        };
        self.opens(&named_key(area, name), id, &form)
    }

    /// An object opens and bears its name inside, or is gone.
    fn opens(&mut self, key: &Key, id: Uuid, form: &Form) -> Result<(), AccessError> {
        let why = match self.repository.get_object(key, form.kind) {
            Ok(None) => return Ok(()),
            Ok(Some(fields)) => match (form.name)(&fields) {
                Ok(inner) if inner == id => return Ok(()),
                Ok(_) => "it bears another name".to_owned(),
                Err(e) => e.to_string(),
            },
            Err(e) if e.is_damage() => super::data::reason(e),
            Err(e) => return Err(e),
        };
        match form.worth {
            Worth::Damage(kind) => self.damage(kind, key, &why),
            Worth::Note(still) => self.ledger.note(format!("{key}: {why}; {still}")),
        }
        Ok(())
    }

    fn damage(&mut self, kind: DamageKind, key: &Key, what: &str) {
        self.ledger.add(kind, key.path(), what.to_owned());
    }
}

/// How an object is read.
struct Form {
    kind: Kind,
    /// Its inner name.
    name: fn(&[u8]) -> Result<Uuid, Malformed>,
    /// What it is worth that it does not open.
    worth: Worth,
}

/// What it is worth that an object does not open.
enum Worth {
    Damage(DamageKind),
    /// A note, which ends with what still holds.
    Note(&'static str),
}

/// The form of an object by what follows the uuid in its name; `None` for what is none of ours.
type Read = dyn Fn(Option<&str>) -> Option<Form>;

fn session(suffix: Option<&str>) -> Option<Form> {
    let name: fn(&[u8]) -> Result<Uuid, Malformed> = match suffix {
        None => |fields| Ok(SessionInfo::decode(fields)?.name),
        Some(beat) => {
            beat.parse::<u64>().ok()?;
            decode_heartbeat
        }
    };
    Some(Form {
        kind: Kind::Session,
        name,
        worth: Worth::Damage(DamageKind::Session),
    })
}

fn gc_list(suffix: Option<&str>) -> Option<Form> {
    let name: fn(&[u8]) -> Result<Uuid, Malformed> = match suffix {
        None => |fields| Ok(GcList::decode(fields)?.name),
        Some("open") => |fields| Ok(OpenList::decode(fields)?.name),
        Some(_) => return None,
    };
    Some(Form {
        kind: Kind::List,
        name,
        worth: Worth::Damage(DamageKind::GcList),
    })
}

fn marker(suffix: Option<&str>) -> Option<Form> {
    suffix.is_none().then_some(Form {
        kind: Kind::List,
        name: |fields| Ok(TrashMarker::decode(fields)?.name),
        worth: Worth::Note("the snapshot stays forgotten"),
    })
}

fn forgotten(suffix: Option<&str>) -> Option<Form> {
    suffix.is_none().then_some(Form {
        kind: Kind::Snapshot,
        name: |fields| Ok(SnapshotObject::decode(fields)?.name()),
        worth: Worth::Note("the snapshot is forgotten, and cannot be taken back"),
    })
}

fn note(suffix: Option<&str>) -> Option<Form> {
    suffix.is_none().then_some(NOTE)
}

const NOTE: Form = Form {
    kind: Kind::Note,
    name: |fields| Ok(Note::decode(fields)?.name),
    worth: Worth::Damage(DamageKind::Note),
};

/// A copy of a manifest.
const MANIFEST: Form = Form {
    kind: Kind::Snapshot,
    name: |fields| Ok(SnapshotObject::decode(fields)?.name()),
    worth: Worth::Damage(DamageKind::Snapshot),
};

/// A name into its uuid and what follows the dot.
fn split(name: &str) -> Option<(Uuid, Option<&str>)> {
    match name.split_once('.') {
        None => Some((name.parse().ok()?, None)),
        Some((id, suffix)) => Some((id.parse().ok()?, Some(suffix))),
    }
}

//! What was said about snapshots after they were committed: tags, label, protection, when they were
//! verified; and how far a budgeted check came.
//!
//! Notes decide nothing about safety: they are for people, for filters and for what `forget`
//! refuses. Clocks order them for display, so one that is wrong can hide what another machine said,
//! never a snapshot. Needs no session: a note is put whole, and folding puts before it deletes.

use std::collections::{BTreeMap, BTreeSet};

use crate::backend::{Area, Key, Put};
use crate::clock::Timestamp;
use crate::copies::{self, Copies, copy_key, delete_both};
use crate::crypto::{Kind, fresh_uuid};
use crate::error::AccessError;
use crate::format::member::{decode_rehearsal, encode_rehearsal};
use crate::format::note::{FactKey, Note, Said, Subject, field};
use crate::format::objects::Manifest;
use crate::format::{Decoder, Malformed};
use crate::id::{SnapshotId, Uuid};
use crate::member::Rehearsal;
use crate::repository::{Repository, uuid_key};

/// So many notes are folded by whoever puts one.
const MANY: usize = 64;
/// So many are enough for gc.
const SOME: usize = 8;
/// How often notes are listed again because one went away between listing and reading.
const TRIES: usize = 100;

/// What proved that a snapshot can be restored; the numbers stand on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Proof {
    /// Every chunk that it refers to was read and compared.
    Check = 1,
    /// It was restored in full, and what was written was read again and compared.
    Restore = 2,
    /// It was restored only to see that it works.
    Rehearsal = 3,
}

impl Proof {
    fn of_key(key: &[u8]) -> Option<Proof> {
        match key {
            [1] => Some(Proof::Check),
            [2] => Some(Proof::Restore),
            [3] => Some(Proof::Rehearsal),
            _ => None,
        }
    }
}

/// Something to be said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// A snapshot bears a tag, or bears it no more.
    Tag {
        /// The snapshot.
        snapshot: SnapshotId,
        /// The tag, at most 65,535 bytes.
        tag: String,
        /// Whether it is there.
        present: bool,
    },
    /// A snapshot's label.
    Label {
        /// The snapshot.
        snapshot: SnapshotId,
        /// Empty: none.
        label: String,
    },
    /// Whether `forget` leaves a snapshot alone.
    Protected {
        /// The snapshot.
        snapshot: SnapshotId,
        /// Whether it does.
        protected: bool,
    },
    /// A snapshot was found to be whole.
    Verified {
        /// The snapshot.
        snapshot: SnapshotId,
        /// By what.
        by: Proof,
        /// When.
        time: Timestamp,
    },
    /// How the last rehearsal of a snapshot ended.
    Rehearsed {
        /// The snapshot.
        snapshot: SnapshotId,
        /// How.
        rehearsal: Rehearsal,
    },
    /// One part of the state of a budgeted check. Parts with different keys are kept side by side,
    /// so checks on two machines that did different parts lose nothing.
    CheckState {
        /// Which part, at most 65,535 bytes; what it means is the check's matter.
        key: Vec<u8>,
        /// Its state.
        value: Vec<u8>,
    },
}

impl Fact {
    fn split(&self) -> (FactKey, Vec<u8>) {
        let about = |snapshot: &SnapshotId, field, key: &[u8]| FactKey {
            subject: Subject::snapshot(*snapshot),
            field,
            key: key.to_vec(),
        };
        match self {
            Fact::Tag {
                snapshot,
                tag,
                present,
            } => {
                let key = about(snapshot, field::TAG, tag.as_bytes());
                (key, vec![u8::from(*present)])
            }
            Fact::Label { snapshot, label } => {
                let key = about(snapshot, field::LABEL, b"");
                (key, label.as_bytes().to_vec())
            }
            Fact::Protected {
                snapshot,
                protected,
            } => {
                let key = about(snapshot, field::PROTECTED, b"");
                (key, vec![u8::from(*protected)])
            }
            Fact::Verified { snapshot, by, time } => {
                let mut value = Vec::with_capacity(12);
                crate::format::encode_time(&mut value, *time);
                (about(snapshot, field::VERIFIED, &[*by as u8]), value)
            }
            Fact::Rehearsed {
                snapshot,
                rehearsal,
            } => {
                let key = about(snapshot, field::REHEARSED, b"");
                (key, encode_rehearsal(rehearsal))
            }
            Fact::CheckState { key, value } => {
                let key = FactKey {
                    subject: Subject::REPOSITORY,
                    field: field::CHECK_STATE,
                    key: key.clone(),
                };
                (key, value.clone())
            }
        }
    }
}

/// A note that was read from its copy.
#[derive(Debug, Clone)]
struct Copied {
    name: Uuid,
    /// Why it does not open; `None` when it is missing.
    why: Option<String>,
    /// What nothing else says is about these; `None`: about the repository.
    about: BTreeSet<Option<SnapshotId>>,
}

/// Everything that notes say, folded.
#[derive(Debug, Clone, Default)]
pub struct Notes {
    facts: BTreeMap<FactKey, Said>,
    /// The notes that were read and may be folded, with what they say.
    foldable: BTreeMap<Uuid, Vec<(FactKey, Said)>>,
    /// Notes whose place another took: they are there because nobody could delete them.
    superseded: BTreeSet<Uuid>,
    /// Notes that are damaged or missing, and were read from their copies.
    copied: Vec<Copied>,
    /// Notes that are damaged or missing and have no copy that opens, with the reason. They are
    /// passed over, and stay.
    pub unreadable: Vec<(Uuid, String)>,
}

impl Notes {
    /// Reads all notes, a lost one from its copy. One that is folded meanwhile is found in the note
    /// that took its place.
    ///
    /// # Errors
    /// When the backend fails; notes that do not open are no error.
    pub fn read(repository: &Repository) -> Result<Notes, AccessError> {
        let mut notes = Notes::default();
        let mut seen = BTreeSet::new();
        let mut copied = Vec::new();
        for _ in 0..TRIES {
            let mut gone = false;
            let mut names = repository.list_uuids(Area::Notes)?;
            names.extend(Copies::list(repository)?.notes);
            for name in names {
                if seen.insert(name) {
                    gone |= !notes.get(repository, name, &mut copied)?;
                }
            }
            if !gone {
                notes.settle(copied);
                return Ok(notes);
            }
        }
        let why = "they are folded faster than they can be read";
        Err(AccessError::damaged(Area::Notes.folder(), why))
    }

    /// Takes in one note, or puts its copy aside with what is wrong with it. Answers whether the
    /// note was there.
    fn get(
        &mut self,
        repository: &Repository,
        name: Uuid,
        copied: &mut Vec<(Note, Option<String>)>,
    ) -> Result<bool, AccessError> {
        let flaw = match read_note(repository, &uuid_key(Area::Notes, name), name) {
            Ok(Some(note)) => {
                self.take(note);
                return Ok(true);
            }
            Ok(None) => None,
            Err(e) if e.is_damage() => Some(e.to_string()),
            Err(e) => return Err(e),
        };
        let copy = match read_note(repository, &copy_key(Area::Notes, name), name) {
            Err(e) if e.is_damage() => {
                let why = flaw.unwrap_or_else(|| "it is missing".to_owned());
                self.unreadable.push((name, why));
                return Ok(true);
            }
            copy => copy?,
        };
        match (copy, flaw) {
            (None, None) => return Ok(false),
            (None, Some(flaw)) => self.unreadable.push((name, flaw)),
            (Some(copy), flaw) => {
                let stands = flaw.is_some();
                copied.push((copy, flaw));
                // A copy that was put late, after its note had been folded: into another one.
                return Ok(stands);
            }
        }
        Ok(true)
    }

    fn take(&mut self, note: Note) {
        for (key, said) in &note.facts {
            insert(&mut self.facts, key, said);
        }
        if !note.strange {
            self.superseded.extend(note.supersedes);
            self.foldable.insert(note.name, note.facts);
        }
    }

    /// Takes in copies whose notes are damaged or missing, when all that stands is read.
    fn settle(&mut self, copied: Vec<(Note, Option<String>)>) {
        for (note, why) in copied {
            let is_new = |(key, said): &&(FactKey, Said)| {
                self.facts.get(key).is_none_or(|known| known < said)
            };
            let new = note.facts.iter().filter(is_new);
            self.copied.push(Copied {
                name: note.name,
                why,
                about: new.map(|(key, _)| key.subject.as_snapshot()).collect(),
            });
            self.take(note);
        }
    }

    /// Notes that are lost and were read from their copies, with what is wrong with them. A copy
    /// that was put late says nothing new of a snapshot that `stands`, and tells of no loss.
    pub fn flawed(&self, stands: &dyn Fn(SnapshotId) -> bool) -> Vec<(Uuid, String)> {
        let is_missed = |about: &Option<SnapshotId>| about.is_none_or(stands);
        let flaw = |copied: &Copied| {
            let missing = copied.about.iter().any(is_missed);
            let missing = missing.then(|| "it is missing".to_owned());
            Some((copied.name, copied.why.clone().or(missing)?))
        };
        self.copied.iter().filter_map(flaw).collect()
    }

    /// How many notes would have to be read less if they were folded.
    fn worth(&self) -> usize {
        let in_force = |name: &&Uuid| !self.superseded.contains(name);
        self.foldable.keys().filter(in_force).count()
    }

    /// What is to be said of a snapshot that takes the place of another (rewritten, repaired): it
    /// bears the same label and tags, and is as protected. That it was verified is not passed on.
    pub fn inherited(&self, from: SnapshotId, to: SnapshotId) -> Vec<Fact> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let tags = self.of(from, field::TAG).map(|(tag, value)| Fact::Tag {
            snapshot: to,
            tag: text(tag),
            present: value != [0],
        });
        let labels = self.of(from, field::LABEL).map(|(_, label)| Fact::Label {
            snapshot: to,
            label: text(label),
        });
        let protected = self.is_protected(from).then_some(Fact::Protected {
            snapshot: to,
            protected: true,
        });
        tags.chain(labels).chain(protected).collect()
    }

    /// The values of one field of a snapshot, with their keys.
    fn of(&self, snapshot: SnapshotId, field: u8) -> impl Iterator<Item = (&[u8], &[u8])> {
        let subject = Subject::snapshot(snapshot);
        let from = FactKey {
            subject,
            field,
            key: Vec::new(),
        };
        self.facts
            .range(from..)
            .take_while(move |(key, _)| key.subject == subject && key.field == field)
            .map(|(key, said)| (&key.key[..], &said.value[..]))
    }

    /// Sets a manifest's tags and label to what notes say of it. A manifest is never rewritten for
    /// that: what is stored stays.
    pub fn annotate(&self, manifest: &mut Manifest) {
        let mut tags: BTreeSet<String> = manifest.tags.drain(..).collect();
        for (tag, value) in self.of(manifest.id, field::TAG) {
            let tag = String::from_utf8_lossy(tag).into_owned();
            match value {
                [0] => tags.remove(&tag),
                _ => tags.insert(tag),
            };
        }
        manifest.tags = tags.into_iter().collect();
        if let Some((_, label)) = self.of(manifest.id, field::LABEL).next() {
            let label = String::from_utf8_lossy(label).into_owned();
            manifest.label = Some(label).filter(|l| !l.is_empty());
        }
    }

    /// Whether a snapshot must not be forgotten.
    pub fn is_protected(&self, snapshot: SnapshotId) -> bool {
        let mut values = self.of(snapshot, field::PROTECTED);
        values.next().is_some_and(|(_, value)| value != [0])
    }

    /// When a snapshot was last verified, and by what.
    pub fn verified(&self, snapshot: SnapshotId) -> Option<(Timestamp, Proof)> {
        let proofs = self
            .of(snapshot, field::VERIFIED)
            .filter_map(|(key, value)| {
                let time = crate::format::decode_time(&mut Decoder::new(value, "fact"));
                Some((time.ok()?, Proof::of_key(key)?))
            });
        proofs.max()
    }

    /// How the last rehearsal of a snapshot ended.
    pub fn rehearsal(&self, snapshot: SnapshotId) -> Option<Rehearsal> {
        let (_, value) = self.of(snapshot, field::REHEARSED).next()?;
        decode_rehearsal(value).ok()
    }

    /// The parts of the state of a budgeted check: key and value, sorted by key.
    pub fn check_state(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let is_state =
            |key: &&FactKey| key.subject == Subject::REPOSITORY && key.field == field::CHECK_STATE;
        self.facts
            .iter()
            .filter(move |(key, _)| is_state(key))
            .map(|(key, said)| (&key.key[..], &said.value[..]))
    }
}

fn insert(facts: &mut BTreeMap<FactKey, Said>, key: &FactKey, said: &Said) {
    match facts.get_mut(key) {
        Some(known) if *known >= *said => {}
        Some(known) => *known = said.clone(),
        None => {
            facts.insert(key.clone(), said.clone());
        }
    }
}

fn read_note(repository: &Repository, key: &Key, name: Uuid) -> Result<Option<Note>, AccessError> {
    let Some(fields) = repository.get_object(key, Kind::Note)? else {
        return Ok(None);
    };
    let damaged = |e: Malformed| AccessError::damaged(key, e);
    let note = Note::decode(&fields).map_err(damaged)?;
    if note.name == name {
        Ok(Some(note))
    } else {
        Err(AccessError::damaged(key, "it bears another name"))
    }
}

/// Puts a note, and answers whether it has a copy then.
fn put_note(repository: &Repository, note: &Note) -> Result<bool, AccessError> {
    let key = uuid_key(Area::Notes, note.name);
    let fields = note.encode();
    match repository.put_object(&key, Kind::Note, &fields)? {
        Put::Created => {}
        Put::Exists => return Err(AccessError::NotFresh(key.to_string())),
    }
    Ok(copies::put_note(repository, note.name, &fields))
}

/// The moment after another.
fn after(time: Timestamp) -> Timestamp {
    match time.nanos {
        999_999_999.. => Timestamp {
            seconds: time.seconds.saturating_add(1),
            nanos: 0,
        },
        nanos => Timestamp {
            nanos: nanos + 1,
            ..time
        },
    }
}

/// Says something in one note. `known` is what was read before: what is said now counts as newer
/// than that, whatever the clock says. Folds notes when there are many.
///
/// # Errors
/// When there was no answer; it may be said all the same.
pub fn put(repository: &Repository, known: &Notes, facts: &[Fact]) -> Result<(), AccessError> {
    if facts.is_empty() {
        return Ok(());
    }
    let name = fresh_uuid();
    let now = repository.environment().clock.now();
    let mut said: BTreeMap<FactKey, Said> = BTreeMap::new();
    for fact in facts {
        let (key, value) = fact.split();
        let replaced = known.facts.get(&key).map(|said| after(said.time));
        let time = replaced.map_or(now, |least| least.max(now));
        let note = name;
        said.insert(key, Said { time, note, value });
    }
    let note = Note {
        name,
        made: now,
        supersedes: Vec::new(),
        facts: said.into_iter().collect(),
        strange: false,
    };
    put_note(repository, &note)?;
    if known.worth() >= MANY {
        // What was said stands, whether or not folding works.
        let _ = fold(repository, Notes::read(repository)?, &|_| true);
    }
    Ok(())
}

/// Says of snapshots that they are whole now.
///
/// # Errors
/// As [`put`].
pub fn verified(
    repository: &Repository,
    snapshots: impl IntoIterator<Item = SnapshotId>,
    by: Proof,
) -> Result<(), AccessError> {
    let time = repository.environment().clock.now();
    let fact = |snapshot| Fact::Verified { snapshot, by, time };
    let facts: Vec<Fact> = snapshots.into_iter().map(fact).collect();
    put(repository, &Notes::read(repository)?, &facts)
}

/// Notes that gc should fold, if there are enough. They are read before the snapshots are listed
/// that decide what [`fold`] drops: a snapshot is committed before anything is said of it.
pub(crate) fn worth_folding(repository: &Repository) -> Result<Option<Notes>, AccessError> {
    if repository.list_uuids(Area::Notes)?.len() < SOME {
        return Ok(None);
    }
    let notes = Notes::read(repository)?;
    Ok((notes.foldable.len() >= SOME).then_some(notes))
}

/// Puts one note in the place of several, without facts of snapshots that are gone, and deletes
/// exactly these when it is acknowledged. Answers how many.
pub(crate) fn fold(
    repository: &Repository,
    notes: Notes,
    stands: &dyn Fn(SnapshotId) -> bool,
) -> Result<u64, AccessError> {
    let mut facts: BTreeMap<FactKey, Said> = BTreeMap::new();
    for (key, said) in notes.foldable.values().flatten() {
        if key.subject.as_snapshot().is_none_or(stands) {
            insert(&mut facts, key, said);
        }
    }
    if notes.foldable.len() < 2 {
        return Ok(0);
    }
    let folded = Note {
        name: fresh_uuid(),
        made: repository.environment().clock.now(),
        supersedes: notes.foldable.keys().copied().collect(),
        facts: facts.into_iter().collect(),
        strange: false,
    };
    if !put_note(repository, &folded)? {
        // As long as it stands but once, so do those that it was made of.
        return Ok(0);
    }
    for old in &folded.supersedes {
        delete_both(repository, Area::Notes, *old)?;
    }
    Ok(folded.supersedes.len() as u64)
}

#[cfg(test)]
mod tests;

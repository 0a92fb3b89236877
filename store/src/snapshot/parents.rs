//! Which snapshots a run goes by: a whole one, and a checkpoint of a run that did not come to its
//! end. Walks them beside the source.

use std::cmp::Ordering;

use crate::clock::Timestamp;
use crate::entry::{Content, Entry, Kind, Meta, path_order};
use crate::error::AccessError;
use crate::format::entry::Attributes;
use crate::format::objects::Manifest;
use crate::id::ChunkId;
use crate::repository::Repository;
use crate::snapshot::{Compare, ParentChoice, SnapshotOptions};
use crate::snapshots::SnapshotList;
use crate::tree::{Item, Tree, Walk};

/// The snapshots that unchanged files are taken from.
#[derive(Debug, Default)]
pub(super) struct Parents {
    /// The newest whole one of the same host and paths, or the one that was asked for.
    pub whole: Option<Manifest>,
    /// The newest checkpoint after it.
    pub partial: Option<Manifest>,
    /// Every checkpoint of the same host and paths: a snapshot that is complete takes their place.
    pub superseded: Vec<Manifest>,
}

impl Parents {
    /// Chooses among the snapshots that stand.
    pub fn choose(
        repository: &Repository,
        options: &SnapshotOptions,
        paths: &[Vec<u8>],
    ) -> Result<Parents, AccessError> {
        let list = SnapshotList::read(repository)?;
        crate::gc::remember(repository, &list);
        let same = |m: &Manifest| m.host == options.host && m.paths == paths;
        let (partial, whole): (Vec<Manifest>, Vec<Manifest>) = (list.committed.into_iter())
            .filter(same)
            .partition(|m| m.partial);
        let superseded = partial.clone();
        Ok(match &options.parent {
            ParentChoice::Newest => {
                let whole = whole.into_iter().next_back();
                let after = |m: &Manifest| whole.as_ref().is_none_or(|w| m.time >= w.time);
                // Those of one run have one time, and each holds more than the one before.
                let held = |m: &Manifest| (m.time, m.entries, m.bytes);
                let partial = partial.into_iter().filter(after).max_by_key(held);
                Parents {
                    whole,
                    partial,
                    superseded,
                }
            }
            ParentChoice::Given(manifest) => Parents {
                whole: Some((**manifest).clone()),
                partial: None,
                superseded,
            },
            ParentChoice::None => Parents {
                superseded,
                ..Parents::default()
            },
        })
    }

    /// Those that there are, the checkpoint first: what it holds was read last.
    pub fn each(&self) -> impl Iterator<Item = &Manifest> {
        self.partial.iter().chain(&self.whole)
    }
}

/// A parent's entries, one ahead.
pub(super) struct Parent<'t, 'a, 'r> {
    walk: Walk<'t, 'a, 'r>,
    next: Option<Item>,
    /// `next` was handed out: another is to come in its place.
    is_taken: bool,
    partial: bool,
    unfinished: Option<u64>,
    /// Whether its entries have all attributes that we would see.
    is_telling: bool,
}

/// What a parent has at a path.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Its entry.
    pub entry: Option<Entry>,
    /// The page that the entry, or its place, is in.
    pub page: Option<ChunkId>,
    /// The entry's content is only so many bytes at the beginning of the file.
    pub beginning: Option<u64>,
    /// The entry's attributes are all that there were.
    pub has_attributes: bool,
}

impl<'t, 'a, 'r> Parent<'t, 'a, 'r> {
    pub fn begin(
        tree: &'t Tree<'a, 'r>,
        manifest: &Manifest,
        user: &str,
    ) -> Result<Parent<'t, 'a, 'r>, AccessError> {
        let mut walk = tree.walk(b"")?;
        Ok(Parent {
            next: walk.next_item()?,
            is_taken: false,
            walk,
            partial: manifest.partial,
            unfinished: manifest.unfinished,
            is_telling: is_telling(manifest, user),
        })
    }

    /// What it has at a path that lies behind all that were asked for before.
    pub fn look_up(&mut self, path: &[u8]) -> Result<Known, AccessError> {
        let mut known = Known::default();
        if self.is_taken {
            self.next = self.walk.next_item()?;
            self.is_taken = false;
        }
        loop {
            let order = match &self.next {
                Some((entry, _)) => path_order(&entry.path, path),
                // Behind the end of a checkpoint there is nothing alike.
                None if self.partial => return Ok(known),
                None => Ordering::Greater,
            };
            if order == Ordering::Less {
                self.next = self.walk.next_item()?;
                continue;
            }
            known.page = self.walk.page();
            if order == Ordering::Equal {
                self.is_taken = true;
                known.entry = self.next.take().map(|(entry, attributes)| {
                    known.has_attributes = self.is_telling && attributes == Attributes::Here;
                    entry
                });
                self.cut_short(&mut known)?;
            }
            return Ok(known);
        }
    }

    /// The last entry of a checkpoint may be the beginning of a file.
    fn cut_short(&mut self, known: &mut Known) -> Result<(), AccessError> {
        let (Some(length), Some(entry)) = (self.unfinished, &mut known.entry) else {
            return Ok(());
        };
        self.next = self.walk.next_item()?;
        self.is_taken = false;
        if self.next.is_none() {
            known.beginning = Some(entry.meta.size);
            entry.meta.size = length;
        }
        Ok(())
    }
}

/// Whether a snapshot holds the attributes of its entries as this run would read them: nothing was
/// left out, nobody rewrote it, and it was taken by the same user, for others see others.
fn is_telling(manifest: &Manifest, user: &str) -> bool {
    let is_whole = !manifest.incomplete && manifest.problem_count == 0;
    is_whole && manifest.origin.is_none() && manifest.user == user
}

/// Nanoseconds in which a file system that counts fractions of seconds may note two changes alike:
/// Linux takes the time of its last timer tick, up to 10 ms ago.
const FINE_TICK: i128 = 20_000_000;
/// The same for one that counts seconds, or every other second.
const COARSE_TICK: i128 = 2_000_000_000;

/// Whether nothing about a file hints at a change: size, mtime, ctime and inode are those of the
/// parent. An inode of 0 tells nothing.
pub(super) fn is_unchanged(entry: &Entry, known: &Entry, compare: Compare) -> bool {
    let (new, old) = (&entry.meta, &known.meta);
    let told = new.inode != 0 && old.inode != 0;
    known.kind == Kind::File
        && told
        && (new.size, new.mtime) == (old.size, old.mtime)
        && (!compare.ctime || new.ctime == old.ctime)
        && (!compare.inode || new.inode == old.inode)
}

/// Whether a file was changed so shortly before `now`, when it is read, that a further change may
/// leave no trace in its times: they count in ticks. The time of its last inode change tells, for
/// nobody can set it; one to come is that of a server whose clock is ahead.
pub(super) fn may_change_unseen(meta: &Meta, now: Timestamp) -> bool {
    let changed = meta.ctime;
    let tick = match (changed.nanos, meta.mtime.nanos) {
        (0, 0) => COARSE_TICK,
        _ => FINE_TICK,
    };
    let age = i128::from(now.seconds - changed.seconds) * 1_000_000_000 + i128::from(now.nanos)
        - i128::from(changed.nanos);
    age < tick
}

/// The beginning of a file that need not be read again.
pub(super) struct Beginning {
    pub content: Content,
    pub bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64, nanos: u32) -> Timestamp {
        Timestamp { seconds, nanos }
    }

    #[test]
    fn a_change_just_before_the_reading_may_hide_another() {
        for (ctime, mtime, now, may) in [
            (at(100, 5), at(100, 5), at(100, 5), true),
            (at(100, 5), at(100, 5), at(100, 19_000_000), true),
            (at(100, 5), at(100, 5), at(100, 21_000_000), false),
            (at(99, 990_000_000), at(50, 1), at(100, 9_000_000), true),
            // Whole seconds in both: a file system that knows no others.
            (at(100, 0), at(100, 0), at(101, 999_999_999), true),
            (at(100, 0), at(100, 0), at(102, 0), false),
            (at(100, 0), at(50, 1), at(100, 30_000_000), false),
            // A time that somebody set says nothing; a clock that is ahead does.
            (at(100, 5), at(9_000, 1), at(200, 0), false),
            (at(300, 5), at(50, 1), at(200, 0), true),
        ] {
            let meta = Meta {
                ctime,
                mtime,
                ..Meta::default()
            };
            assert_eq!(may_change_unseen(&meta, now), may, "{meta:?} at {now:?}");
        }
    }
}

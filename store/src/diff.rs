//! What differs between two trees, or two folders of them: a merge of both that opens no page
//! which stands in both at the same place. Pages are cut by what they hold, so the cost is that of
//! the pages that differ, not of the trees.
//!
//! Compares what the repository holds; reads no file's bytes.

use std::cmp::Ordering;

use crate::clock::Timestamp;
use crate::entry::{Entry, Meta, path_order};
use crate::error::AccessError;
use crate::format::objects::Manifest;
use crate::reader::Reader;
use crate::repository::Repository;
use crate::tree::{Cursor, Head, Item, Tree};

/// One side of a comparison.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    /// The snapshot.
    pub manifest: &'a Manifest,
    /// The folder or file of it that is compared; `""` for all.
    pub path: &'a [u8],
}

/// How an entry that both sides hold differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It is of another kind: a file became a folder.
    Kind,
    /// Its bytes differ, or its target.
    Content,
    /// Its bytes differ although size and time of the last change are the same: the disk, or a
    /// program that sets times back.
    ContentOnly,
    /// Only mode, owner, times, attributes or names of links differ.
    Metadata,
}

/// A difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Difference<'e> {
    /// Only the second side has it.
    Added(&'e Entry),
    /// Only the first side has it.
    Removed(&'e Entry),
    /// Both have it.
    Changed {
        /// As it was.
        before: &'e Entry,
        /// As it is.
        after: &'e Entry,
        /// What of it.
        how: How,
    },
}

impl<'e> Difference<'e> {
    /// The entry as it is, or as it was when it is gone.
    pub fn entry(&self) -> &'e Entry {
        match self {
            Difference::Added(entry) | Difference::Removed(entry) => entry,
            Difference::Changed { after, .. } => after,
        }
    }
}

/// Calls `each` for every difference in the order of paths below both sides, and answers how many
/// pages were read. Large attributes stay in their own pages: `xattrs` of the entries is empty
/// then.
///
/// # Errors
/// When a page cannot be read, or `each` fails.
pub fn diff<E: From<AccessError>>(
    repository: &Repository,
    before: Side<'_>,
    after: Side<'_>,
    each: &mut dyn FnMut(&Difference<'_>) -> Result<(), E>,
) -> Result<u64, E> {
    repository.update_index()?;
    let reader = Reader::new(repository);
    let tree = Tree::new(&reader, None);
    let cursor = |side: Side<'_>| Cursor::new(side.manifest.root, side.path);
    let (mut one, mut two) = (cursor(before), cursor(after));
    // Pages hold whole paths: equal ones stand for the same thing only below equal folders.
    let same_place = before.path == after.path;
    loop {
        match step(&one, &two, same_place) {
            None => return Ok(tree.pages_read()),
            Some(Step::Open(Which::Before)) => open(&tree, &mut one)?,
            Some(Step::Open(Which::After)) => open(&tree, &mut two)?,
            Some(Step::Pass(which)) => {
                if let Some(difference) = difference(&one, &two, which) {
                    each(&difference)?;
                }
                if which != Passed::After {
                    one.pass();
                }
                if which != Passed::Before {
                    two.pass();
                }
            }
        }
    }
}

/// What the merge does next.
enum Step {
    Open(Which),
    Pass(Passed),
}

/// One of the two sides.
enum Which {
    Before,
    After,
}

/// Which sides are done with what they stand before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Passed {
    Before,
    After,
    Both,
}

/// Whatever begins first is looked into first; of two pages the higher one.
fn step(before: &Cursor, after: &Cursor, same_place: bool) -> Option<Step> {
    let order = path_order(before.first(), after.first());
    Some(match (before.head(), after.head()) {
        (None, None) => return None,
        (Some(Head::Page(_)), None) => Step::Open(Which::Before),
        (None, Some(Head::Page(_))) => Step::Open(Which::After),
        (Some(Head::Entry(_)), None) => Step::Pass(Passed::Before),
        (None, Some(Head::Entry(_))) => Step::Pass(Passed::After),
        (Some(Head::Page(one)), Some(Head::Page(two))) => match order {
            _ if same_place && one == two => Step::Pass(Passed::Both),
            Ordering::Less => Step::Open(Which::Before),
            Ordering::Greater => Step::Open(Which::After),
            Ordering::Equal if one.height < two.height => Step::Open(Which::After),
            Ordering::Equal => Step::Open(Which::Before),
        },
        (Some(Head::Page(_)), Some(Head::Entry(_))) => match order {
            Ordering::Greater => Step::Pass(Passed::After),
            _ => Step::Open(Which::Before),
        },
        (Some(Head::Entry(_)), Some(Head::Page(_))) => match order {
            Ordering::Less => Step::Pass(Passed::Before),
            _ => Step::Open(Which::After),
        },
        (Some(Head::Entry(_)), Some(Head::Entry(_))) => Step::Pass(match order {
            Ordering::Less => Passed::Before,
            Ordering::Equal => Passed::Both,
            Ordering::Greater => Passed::After,
        }),
    })
}

fn open(tree: &Tree<'_, '_>, cursor: &mut Cursor) -> Result<(), AccessError> {
    if let Some(Head::Page(closed)) = cursor.head() {
        let opened = tree.open(closed)?;
        cursor.enter(&opened);
    }
    Ok(())
}

/// What is told of entries that are passed; nothing of equal ones, or of pages.
fn difference<'c>(before: &'c Cursor, after: &'c Cursor, passed: Passed) -> Option<Difference<'c>> {
    match (passed, before.head(), after.head()) {
        (Passed::Before, Some(Head::Entry((entry, _))), _) => Some(Difference::Removed(entry)),
        (Passed::After, _, Some(Head::Entry((entry, _)))) => Some(Difference::Added(entry)),
        (Passed::Both, Some(Head::Entry(one)), Some(Head::Entry(two))) => {
            compare(one, two).map(|how| Difference::Changed {
                before: &one.0,
                after: &two.0,
                how,
            })
        }
        _ => None,
    }
}

/// How two entries of one path differ. `ctime` and inode tell nothing of what is restored.
pub(crate) fn compare((one, one_more): &Item, (two, two_more): &Item) -> Option<How> {
    if std::mem::discriminant(&one.kind) != std::mem::discriminant(&two.kind) {
        return Some(How::Kind);
    }
    let (was, is) = (kept(&one.meta), kept(&two.meta));
    if one.kind != two.kind || one.content != two.content {
        let looks_same = was.mtime == is.mtime && was.size == is.size;
        return Some(match looks_same && one.kind == two.kind {
            true => How::ContentOnly,
            false => How::Content,
        });
    }
    let same =
        was == is && one.xattrs == two.xattrs && one_more == two_more && one.group == two.group;
    (!same).then_some(How::Metadata)
}

/// What a restore gives back.
fn kept(meta: &Meta) -> Meta {
    Meta {
        ctime: Timestamp::default(),
        inode: 0,
        ..meta.clone()
    }
}

#[cfg(test)]
mod tests;

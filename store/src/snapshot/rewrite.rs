//! The same snapshot without some of its entries: a new one is committed beside it, with the old
//! name as its `origin`. Chunks stay where they are; only pages that held what goes are new.
//!
//! Forgets nothing: that is [`crate::forget`]'s.

use std::collections::HashMap;

use crate::clock::Timestamp;
use crate::entry::{Entry, Kind};
use crate::error::AccessError;
use crate::format::objects::{Manifest, SessionKind};
use crate::id::SnapshotId;
use crate::reader::Reader;
use crate::record::World;
use crate::repository::Repository;
use crate::session::{Commit, Session};
use crate::snapshot::assemble::Pages;
use crate::snapshot::carry::Carrier;
use crate::snapshot::republish::republish;
use crate::tree::{Tree, TreeBuilder};
use crate::writer::Writer;

/// What becomes of a snapshot.
pub struct RewriteOptions<'o> {
    /// Whether an entry goes. What is below a folder that goes, goes too.
    pub exclude: &'o dyn Fn(&Entry) -> bool,
    /// Another host name.
    pub host: Option<String>,
    /// Another time, with the zone's offset in seconds.
    pub time: Option<(Timestamp, i64)>,
    /// Only count.
    pub dry_run: bool,
}

/// What goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Removed {
    /// Entries.
    pub entries: u64,
    /// Files among them.
    pub files: u64,
    /// Bytes of the files.
    pub bytes: u64,
}

/// What a rewrite did.
#[derive(Debug)]
pub struct RewriteReport {
    /// What went, or would go.
    pub removed: Removed,
    /// Whether anything has to change.
    pub changes: bool,
    /// The new snapshot; `None` when nothing had to change, or after a dry run.
    pub manifest: Option<Manifest>,
}

/// Why a snapshot was not rewritten.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RewriteError {
    /// Chunks of it are gone for good.
    #[error("some of its data is lost")]
    Lost,
    /// The repository failed.
    #[error(transparent)]
    Access(#[from] AccessError),
}

/// Commits a snapshot anew without what `options` exclude; tags, label, paths and all else stay.
/// Commits nothing when nothing changes.
///
/// # Errors
/// When nothing was committed.
pub fn rewrite(
    repository: &Repository,
    manifest: &Manifest,
    options: &RewriteOptions<'_>,
) -> Result<RewriteReport, RewriteError> {
    repository.update_index()?;
    let removed = count(repository, manifest, options)?;
    let same = |m: &Manifest| {
        let host = options.host.as_ref().is_none_or(|host| *host == m.host);
        let time = options.time.is_none_or(|(time, _)| time == m.time);
        host && time
    };
    let changes = removed != Removed::default() || !same(manifest);
    let manifest = match !changes || options.dry_run {
        true => None,
        false => Some(commit(repository, manifest, options)?),
    };
    Ok(RewriteReport {
        removed,
        changes,
        manifest,
    })
}

/// Whether an entry goes, by itself or with a folder above it. Entries come in order.
struct Filter<'o> {
    exclude: &'o dyn Fn(&Entry) -> bool,
    gone: Option<Vec<u8>>,
}

impl<'o> Filter<'o> {
    fn new(options: &RewriteOptions<'o>) -> Filter<'o> {
        Filter {
            exclude: options.exclude,
            gone: None,
        }
    }

    fn takes_out(&mut self, entry: &Entry) -> bool {
        let within = |folder: &Vec<u8>| crate::entry::is_within(&entry.path, folder);
        if self.gone.as_ref().is_some_and(within) {
            return true;
        }
        let goes = (self.exclude)(entry);
        if goes && entry.kind == Kind::Folder {
            self.gone = Some(entry.path.clone());
        }
        goes
    }
}

fn count(
    repository: &Repository,
    manifest: &Manifest,
    options: &RewriteOptions<'_>,
) -> Result<Removed, AccessError> {
    let reader = Reader::new(repository);
    let tree = Tree::new(&reader, manifest.root);
    let mut filter = Filter::new(options);
    let mut removed = Removed::default();
    let mut walk = tree.walk(b"")?;
    while let Some((entry, _)) = walk.next_item()? {
        if filter.takes_out(&entry) {
            removed.entries += 1;
            removed.files += u64::from(entry.kind == Kind::File);
            removed.bytes += entry.meta.size;
        }
    }
    Ok(removed)
}

/// Under a session of its own; one that was fenced is published again as it is.
fn commit(
    repository: &Repository,
    manifest: &Manifest,
    options: &RewriteOptions<'_>,
) -> Result<Manifest, RewriteError> {
    let session = Session::open(repository, SessionKind::Writer)?;
    match run(&session, manifest, options) {
        Ok((manifest, Commit::Done)) => {
            session.close();
            Ok(manifest)
        }
        Ok((manifest, Commit::Fenced)) => {
            session.close();
            republish(repository, &manifest)?.ok_or(RewriteError::Lost)
        }
        Err(e) => {
            session.give_up();
            Err(match e {
                AccessError::LostChunk { .. } => RewriteError::Lost,
                e => e.into(),
            })
        }
    }
}

fn run(
    session: &Session<'_>,
    manifest: &Manifest,
    options: &RewriteOptions<'_>,
) -> Result<(Manifest, Commit), AccessError> {
    let repository = session.repository();
    repository.ensure_data_key()?;
    let writer = Writer::new(session, session.view()?);
    let mut new = build(&writer, manifest, options)?;
    writer.finish()?;
    new.name = session.name();
    new.new_bytes = writer.stored().new_bytes;
    new.new_stored = writer.stored().new_stored;
    let commit = session.commit(&new)?;
    Ok((new, commit))
}

/// The new tree: every id that it refers to goes through the view.
fn build(
    writer: &Writer<'_>,
    manifest: &Manifest,
    options: &RewriteOptions<'_>,
) -> Result<Manifest, AccessError> {
    let repository = writer.reader().repository();
    let reader = Reader::new(repository);
    let old = Tree::new(&reader, manifest.root);
    let mut carrier = Carrier::new(writer, &reader);
    let mut pages = Pages::new(writer);
    let mut tree = TreeBuilder::new();
    let mut filter = Filter::new(options);
    let mut names = Names::default();
    let mut walk = old.walk(b"")?;
    while let Some(mut item) = walk.next_item()? {
        let goes = filter.takes_out(&item.0);
        names.meet(&mut item.0, goes);
        if goes {
            continue;
        }
        let entry = old.complete(item)?;
        old.for_each_id(&entry.content, &mut |world: World, id| {
            carrier.carry(world, id).map(|()| true)
        })?;
        tree.push(repository.keys(), &mut pages, &entry)?;
        pages.like(walk.page());
    }
    let (root, totals) = tree.finish(repository.keys(), &mut pages)?;
    pages.finish()?;
    carrier.finish()?;
    let (time, zone_offset) = (options.time).unwrap_or((manifest.time, manifest.zone_offset));
    Ok(Manifest {
        id: SnapshotId(crate::crypto::random()),
        time,
        zone_offset,
        host: options
            .host
            .clone()
            .unwrap_or_else(|| manifest.host.clone()),
        root,
        entries: totals.entries,
        files: totals.files,
        bytes: totals.bytes,
        origin: Some(manifest.name),
        ..manifest.clone()
    })
}

/// Files with several names whose first name goes: the first that stays takes its place.
#[derive(Default)]
struct Names {
    /// The new first name, by the one that went; `None` until one stays.
    firsts: HashMap<Vec<u8>, Option<Vec<u8>>>,
}

impl Names {
    fn meet(&mut self, entry: &mut Entry, goes: bool) {
        let Some(group) = &entry.group else {
            return;
        };
        if goes {
            if *group == entry.path {
                self.firsts.insert(group.clone(), None);
            }
        } else if let Some(first) = self.firsts.get_mut(group) {
            entry.group = Some(first.get_or_insert_with(|| entry.path.clone()).clone());
        }
    }
}

#[cfg(test)]
mod tests;

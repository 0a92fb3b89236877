//! Committing a manifest that exists already under a new session: a fenced writer's second run
//! (writer step 9), and undelete.

use crate::error::AccessError;
use crate::format::objects::{Manifest, SessionKind, TreeRoot};
use crate::reader::Reader;
use crate::repository::Repository;
use crate::session::{Commit, Session};
use crate::snapshot::carry::Carrier;
use crate::tree::Tree;
use crate::writer::Writer;

/// Takes a new session and a new view, stores again from any pack that still exists what the view
/// does not allow to reuse, and commits. `None` when something is gone for good.
pub(crate) fn republish(
    repository: &Repository,
    manifest: &Manifest,
) -> Result<Option<Manifest>, AccessError> {
    let session = Session::open(repository, SessionKind::Writer)?;
    match run(&session, manifest) {
        Ok(Some((manifest, Commit::Done))) => {
            session.close();
            Ok(Some(manifest))
        }
        Ok(Some((_, Commit::Fenced))) => {
            session.close();
            Ok(None)
        }
        Ok(None) => {
            session.give_up();
            Ok(None)
        }
        Err(e) => {
            session.give_up();
            Err(e)
        }
    }
}

fn run(
    session: &Session<'_>,
    manifest: &Manifest,
) -> Result<Option<(Manifest, Commit)>, AccessError> {
    let writer = Writer::new(session, session.view()?);
    match store_missing(&writer, manifest.root) {
        Ok(()) => {}
        Err(AccessError::LostChunk { .. }) => return Ok(None),
        Err(e) => return Err(e),
    }
    writer.finish()?;
    let manifest = Manifest {
        name: session.name(),
        ..manifest.clone()
    };
    let commit = session.commit(&manifest)?;
    Ok(Some((manifest, commit)))
}

/// Every id of a tree through step 4.
///
/// # Errors
/// [`AccessError::LostChunk`] when no copy of one is left.
pub(super) fn store_missing(
    writer: &Writer<'_>,
    root: Option<TreeRoot>,
) -> Result<(), AccessError> {
    let reader = Reader::new(writer.reader().repository());
    let tree = Tree::new(&reader, root);
    let mut carrier = Carrier::new(writer, &reader);
    tree.for_each_reference(&mut |world, id| carrier.carry(world, id).map(|()| true))?;
    carrier.finish()
}

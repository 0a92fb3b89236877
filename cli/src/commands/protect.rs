//! `protect` and `unprotect`.

use std::ffi::OsString;

use hucha_store::forget::ForgetError;
use hucha_store::format::objects::Manifest;
use hucha_store::notes::{self, Fact, Notes};
use hucha_store::snapshots::SnapshotList;

use super::{Run, find_in, list_noted};
use crate::args::{FilterArgs, ProtectArgs};
use crate::errors::{Code, Failure, Outcome};
use crate::names;
use crate::open::open;
use crate::render::json::Snapshot;

/// Keeps snapshots from being forgotten.
pub fn protect(run: &mut Run, args: &ProtectArgs) -> Outcome {
    say(run, args, true)
}

/// Lets them be forgotten again.
pub fn unprotect(run: &mut Run, args: &ProtectArgs) -> Outcome {
    say(run, args, false)
}

fn say(run: &mut Run, args: &ProtectArgs, protected: bool) -> Outcome {
    let repository = open(&run.settings)?;
    let (list, known) = list_noted(&repository)?;
    let manifests = named(run, &list, &args.snapshots, &args.filter)?;
    let changes = manifests
        .iter()
        .filter(|m| known.is_protected(m.id) != protected);
    let facts: Vec<Fact> = changes
        .map(|m| Fact::Protected {
            snapshot: m.id,
            protected,
        })
        .collect();
    if !run.settings.dry_run {
        notes::put(&repository, &known, &facts)?;
    }
    let now = Notes::read(&repository)?;
    for manifest in &manifests {
        if run.out.json {
            let shown = Snapshot::new(manifest).noted(manifest, &now);
            run.out.object("snapshot", &shown)?;
            continue;
        }
        let state = match (run.settings.dry_run, protected) {
            (true, true) => "would be protected",
            (true, false) => "would not be protected any more",
            (false, true) => "is protected",
            (false, false) => "is not protected",
        };
        run.out
            .summary(&format!("snapshot {:.8} {state}", manifest.id))?;
    }
    Ok(Code::Done)
}

/// The snapshots that names mean, each once. All are found before anything is done:
/// `latest latest~1` are two.
pub(super) fn named(
    run: &Run,
    list: &SnapshotList,
    typed: &[OsString],
    filter: &FilterArgs,
) -> Result<Vec<Manifest>, Failure> {
    let mut manifests: Vec<Manifest> = Vec::new();
    for typed in typed {
        let name = names::parse_whole(typed, &run.zone)?;
        let found = find_in(list, &name, filter)?;
        if manifests.iter().all(|m| m.id != found.id) {
            manifests.push(found);
        }
    }
    Ok(manifests)
}

/// Refuses to go on when one of these snapshots is protected, before anything is done: so nothing
/// was `what` to any.
pub(super) fn refuse_protected(
    notes: &Notes,
    snapshots: &[Manifest],
    what: &str,
) -> Result<(), Failure> {
    let Some(kept) = snapshots.iter().find(|m| notes.is_protected(m.id)) else {
        return Ok(());
    };
    let refused = Failure::from(ForgetError::Protected(kept.id));
    Err(Failure {
        message: format!("{}: nothing was {what}", refused.message),
        ..refused
    })
}

//! `undelete`.

use hucha_store::forget;
use hucha_store::format::objects::Manifest;
use hucha_store::snapshots::{Selector, select};

use super::{Run, list};
use crate::args::UndeleteArgs;
use crate::errors::{Code, Failure, Outcome};
use crate::names;
use crate::open::open;
use crate::render::json::Snapshot;

/// Takes forgotten snapshots back.
pub fn undelete(run: &mut Run, args: &UndeleteArgs) -> Outcome {
    let repository = open(&run.settings)?;
    let list = list(&repository)?;
    let forgotten = super::forgotten(list.forgotten, &list.committed);
    let mut chosen: Vec<&Manifest> = Vec::new();
    for typed in &args.snapshots {
        let name = names::parse_whole(typed, &run.zone)?;
        let found = select(&forgotten, &name.selector, &name.typed).map_err(|error| {
            let there = matches!(name.selector, Selector::Prefix(_))
                && select(&list.committed, &name.selector, &name.typed).is_ok();
            match there {
                true => Failure::failed(format_args!("{} is not forgotten", name.typed)),
                false => Failure::from(error).hint("`hucha snapshots --forgotten` shows them"),
            }
        })?;
        if !chosen.contains(&found) {
            chosen.push(found);
        }
    }
    for manifest in chosen {
        let (again, did) = match run.settings.dry_run {
            true => (manifest.clone(), "would take back"),
            false => (forget::undelete(&repository, manifest)?, "took back"),
        };
        match run.out.json {
            true => run.out.object("snapshot", &Snapshot::new(&again))?,
            false => run
                .out
                .summary(&format!("{did} snapshot {:.8}", again.id))?,
        }
    }
    Ok(Code::Done)
}

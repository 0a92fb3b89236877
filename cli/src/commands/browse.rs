//! `ls` and `cat`.

use std::ops::ControlFlow;

use hucha_store::browse;

use super::{Run, find};
use crate::args::{CatArgs, LsArgs};
use crate::errors::{Code, Failure, Outcome};
use crate::names;
use crate::open::open;
use crate::render::json::Listed;
use crate::render::text;

/// Lists what a snapshot, or a folder of it, holds.
pub fn ls(run: &mut Run, args: &LsArgs) -> Outcome {
    let name = names::parse(&args.snapshot, &run.zone)?;
    let repository = open(&run.settings)?;
    let manifest = find(&repository, &name, &args.filter)?;
    let mut failed: Option<Failure> = None;
    let sizes = match args.human {
        true => text::Sizes::Human,
        false => text::Sizes::Bytes,
    };
    let Run { out, zone, .. } = run;
    let mut each = |entry: &hucha_store::entry::Entry| {
        let printed = if out.json {
            out.object("entry", &Listed::from(entry))
        } else if args.long || args.human {
            out.line(&text::long(entry, zone, sizes))
        } else {
            out.line(&text::shown(entry))
        };
        match printed {
            Ok(()) => ControlFlow::Continue(()),
            Err(failure) => {
                failed = Some(failure);
                ControlFlow::Break(())
            }
        }
    };
    let pages = browse::list(
        &repository,
        &manifest,
        &name.path,
        args.recursive,
        &mut each,
    )?;
    if let Some(failure) = failed {
        return Err(failure);
    }
    if run.settings.level > crate::settings::Level::Normal {
        run.out
            .remark(&text::counted(pages, "page read", "pages read"));
    }
    Ok(Code::Done)
}

/// Prints a file's bytes.
pub fn cat(run: &mut Run, args: &CatArgs) -> Outcome {
    let name = names::parse(&args.snapshot, &run.zone)?;
    if name.path.is_empty() {
        let failure = Failure::usage("which file? Nothing follows the snapshot");
        return Err(failure.hint("write SNAPSHOT:PATH, as in `hucha cat latest:etc/passwd`"));
    }
    let repository = open(&run.settings)?;
    let manifest = find(&repository, &name, &args.filter)?;
    browse::cat(&repository, &manifest, &name.path, run.out.raw())?;
    Ok(Code::Done)
}

//! `find`.

use hucha_sources::pattern::{Case, Patterns};
use hucha_store::clock::Timestamp;
use hucha_store::entry::{Entry, Kind};
use hucha_store::find::{self, Found, Query};
use hucha_store::format::objects::Manifest;
use hucha_store::id::ChunkId;

use super::{Run, named_or_filtered, now};
use crate::args::{FindArgs, KindArg};
use crate::errors::{Code, Failure, Outcome};
use crate::open::open;
use crate::render::json::FoundVersion;
use crate::render::{text, warning};
use crate::times;

/// Tells in which snapshots there is what was asked for.
pub fn find(run: &mut Run, args: &FindArgs) -> Outcome {
    let wanted = Wanted::new(run, args)?;
    let repository = open(&run.settings)?;
    let snapshots = named_or_filtered(run, &repository, &args.snapshot, &args.filter)?.manifests;
    let query = Query {
        wanted: &|entry| wanted.is_met(entry),
        chunk: args.chunk.as_deref().map(chunk).transpose()?,
    };
    let mut each = |found: &Found<'_>| tell(run, args, &snapshots, found);
    let report = find::find::<Failure>(&repository, &snapshots, &query, &mut each)?;
    for page in &report.damaged {
        warning(&text::lines(page));
    }
    if report.damaged.is_empty() {
        return Ok(Code::Done);
    }
    let pages = text::counted(report.damaged.len() as u64, "page", "pages");
    let message = format!("{pages} cannot be read; what is below them was not looked at");
    Err(Failure::new(Code::Damaged, message).hint("`hucha check` tells what is affected"))
}

fn chunk(typed: &str) -> Result<ChunkId, Failure> {
    typed.parse().map_err(|_| {
        Failure::usage(format_args!(
            "--chunk {typed:?}: write 64 hexadecimal digits"
        ))
    })
}

/// What is asked for.
struct Wanted {
    patterns: Patterns,
    oldest: Option<Timestamp>,
    newest: Option<Timestamp>,
    kinds: Vec<KindArg>,
}

impl Wanted {
    fn new(run: &Run, args: &FindArgs) -> Result<Wanted, Failure> {
        let case = match args.ignore_case {
            true => Case::Ignored,
            false => Case::Differs,
        };
        let now = now();
        let oldest = |typed: &String| times::parse(typed, now, &run.zone).map_err(Failure::usage);
        let newest =
            |typed: &String| times::parse_end(typed, now, &run.zone).map_err(Failure::usage);
        Ok(Wanted {
            patterns: Patterns::with(&args.patterns, case)?,
            oldest: args.oldest.as_ref().map(oldest).transpose()?,
            newest: args.newest.as_ref().map(newest).transpose()?,
            kinds: args.kinds.clone(),
        })
    }

    fn is_met(&self, entry: &Entry) -> bool {
        let mtime = entry.meta.mtime;
        (self.patterns.is_empty() || self.patterns.matches_end(&entry.path))
            && self.oldest.is_none_or(|oldest| mtime >= oldest)
            && self.newest.is_none_or(|newest| mtime <= newest)
            && (self.kinds.is_empty() || self.kinds.contains(&kind(&entry.kind)))
    }
}

fn kind(kind: &Kind) -> KindArg {
    match kind {
        Kind::File => KindArg::File,
        Kind::Folder => KindArg::Folder,
        Kind::Link(_) => KindArg::Link,
        Kind::Fifo => KindArg::Fifo,
        Kind::Socket => KindArg::Socket,
        Kind::CharDevice { .. } => KindArg::CharDevice,
        Kind::BlockDevice { .. } => KindArg::BlockDevice,
    }
}

fn tell(
    run: &mut Run,
    args: &FindArgs,
    snapshots: &[Manifest],
    found: &Found<'_>,
) -> Result<(), Failure> {
    let holders: Vec<&Manifest> = (found.snapshots.iter())
        .filter_map(|number| snapshots.get(*number))
        .collect();
    if run.out.json {
        let version = FoundVersion::new(found.entry, &holders);
        return run.out.object("found", &version);
    }
    let (Some(first), Some(last)) = (holders.first(), holders.last()) else {
        return Ok(());
    };
    let when = |m: &Manifest| format!("{:.8} {}", m.id, times::local(m.time, &run.zone));
    let range = match holders.len() {
        1 => when(first),
        _ => format!("{} to {}", when(first), when(last)),
    };
    let what = match args.long {
        true => text::long(found.entry, &run.zone, text::Sizes::Bytes),
        false => text::shown(found.entry),
    };
    let count = text::counted(holders.len() as u64, "snapshot", "snapshots");
    run.out.line(&format!("{count}, {range}: {what}"))
}

//! One file a command: plan what to do, call the core, hand the result to [`crate::render`].

mod archive;
mod browse;
mod cache;
mod check;
mod choice;
mod database;
mod diff;
mod export;
mod find;
mod forget;
mod gc;
mod help;
mod init;
mod key;
mod protect;
mod rehearse;
mod repair;
mod restore;
mod rewrite;
mod snapshot;
mod snapshots;
mod stats;
mod tag;
mod undelete;

use std::collections::BTreeMap;
use std::ffi::OsString;

use hucha_store::clock::Clock;
use hucha_store::format::objects::Manifest;
use hucha_store::id::{SnapshotId, Uuid};
use hucha_store::notes::Notes;
use hucha_store::repository::Repository;
use hucha_store::snapshots::{Filter, SnapshotList, select};
use jiff::tz::TimeZone;

use crate::args::{Cli, Command, FilterArgs};
use crate::errors::{Failure, Outcome};
use crate::names::Name;
use crate::outside::SystemClock;
use crate::render::{Output, warning};
use crate::settings::Settings;

/// What every command is handed.
pub struct Run {
    settings: Settings,
    zone: TimeZone,
    out: Output,
}

/// Carries out what was typed.
pub fn run(cli: Cli) -> Outcome {
    let settings = Settings::new(&cli.global, &|name| std::env::var_os(name))?;
    let out = Output::new(&settings);
    let zone = TimeZone::system();
    let mut run = Run {
        settings,
        zone,
        out,
    };
    let code = dispatch(&mut run, cli.command)?;
    run.out.flush()?;
    Ok(code)
}

fn dispatch(run: &mut Run, command: Command) -> Outcome {
    match command {
        Command::Init(args) => init::init(run, &args),
        Command::Snapshot(args) => snapshot::snapshot(run, &args),
        Command::Restore(args) => restore::restore(run, &args),
        Command::Archive(args) => archive::archive(run, &args),
        Command::Snapshots(args) => snapshots::snapshots(run, &args),
        Command::Ls(args) => browse::ls(run, &args),
        Command::Cat(args) => browse::cat(run, &args),
        Command::Export(args) => export::export(run, &args),
        Command::Rehearse(args) => rehearse::rehearse(run, &args),
        Command::Manifest(args) => database::manifest(run, &args),
        Command::Find(args) => find::find(run, &args),
        Command::Diff(args) => diff::diff(run, &args),
        Command::Stats(args) => stats::stats(run, &args),
        Command::Forget(args) => forget::forget(run, &args),
        Command::Rewrite(args) => rewrite::rewrite(run, &args),
        Command::Undelete(args) => undelete::undelete(run, &args),
        Command::Tag(args) => tag::tag(run, &args),
        Command::Protect(args) => protect::protect(run, &args),
        Command::Unprotect(args) => protect::unprotect(run, &args),
        Command::Gc(args) => gc::gc(run, &args),
        Command::Check(args) => check::check(run, &args),
        Command::Repair(args) => repair::repair(run, &args),
        Command::Key(args) => key::key(run, &args.command),
        Command::Cache(args) => cache::cache(run, &args.command),
        Command::Completions(args) => help::completions(run, &args),
        Command::Man(args) => help::man(run, &args),
        Command::Version => help::version(run),
    }
}

/// Which snapshots filters let pass. A path may be typed relative to the working folder, or as it
/// stands in the list (streams have names, not paths).
struct Chosen {
    filter: Filter,
    paths: Vec<[Vec<u8>; 2]>,
}

impl Chosen {
    fn new(args: &FilterArgs) -> Chosen {
        let split = |set: &String| commas(std::slice::from_ref(set));
        let both = |path: &std::ffi::OsString| {
            let absolute = std::path::absolute(path).unwrap_or_else(|_| path.into());
            let absolute: std::path::PathBuf = absolute.components().collect();
            [
                path.as_encoded_bytes().to_vec(),
                absolute.into_os_string().into_encoded_bytes(),
            ]
        };
        Chosen {
            filter: Filter {
                hosts: args.hosts.clone(),
                tags: args.tags.iter().map(split).collect(),
                paths: Vec::new(),
            },
            paths: args.paths.iter().map(both).collect(),
        }
    }

    fn matches(&self, manifest: &Manifest) -> bool {
        let has = |either: &[Vec<u8>; 2]| manifest.paths.iter().any(|p| either.contains(p));
        self.filter.matches(manifest) && self.paths.iter().all(has)
    }

    /// Leaves only what passes.
    fn keep(&self, manifests: &mut Vec<Manifest>) {
        manifests.retain(|m| self.matches(m));
    }
}

/// Tags as typed: several of them may stand in one word with commas between.
pub fn commas(typed: &[String]) -> Vec<String> {
    let parts = typed.iter().flat_map(|word| word.split(','));
    parts
        .map(str::trim)
        .filter(|tag| !tag.is_empty())
        .map(str::to_owned)
        .collect()
}

/// All snapshots with the tags and labels that notes give them; what cannot be read is told of.
fn list(repository: &Repository) -> Result<SnapshotList, Failure> {
    Ok(list_noted(repository)?.0)
}

/// The same, and the notes.
fn list_noted(repository: &Repository) -> Result<(SnapshotList, Notes), Failure> {
    let mut list = list_bare(repository)?;
    let notes = Notes::read(repository)?;
    for (name, why) in &notes.unreadable {
        warning(&format!("notes/{name}: {why}"));
    }
    for (name, flaw) in notes.flawed(&|id| list.stands(id)) {
        warning(&from_copy("notes", name, &flaw));
    }
    let manifests = list.committed.iter_mut().chain(&mut list.forgotten);
    manifests.for_each(|manifest| notes.annotate(manifest));
    Ok((list, notes))
}

/// All snapshots as they were committed: whoever asks for no tag needs no notes.
fn list_bare(repository: &Repository) -> Result<SnapshotList, Failure> {
    let list = SnapshotList::read(repository)?;
    for (name, why) in &list.unreadable {
        warning(&format!("snapshots/{name}: {why}"));
    }
    for (name, flaw) in &list.flawed {
        warning(&from_copy("snapshots", *name, flaw));
    }
    Ok(list)
}

/// What is said of an object that is lost and has a copy.
fn from_copy(area: &str, name: Uuid, flaw: &dyn std::fmt::Display) -> String {
    format!("{area}/{name}: {flaw}; read from its copy: `hucha repair` puts it back")
}

/// The one snapshot that a name means, among those that filters let pass. An id is looked up among
/// all.
fn find(repository: &Repository, name: &Name, filter: &FilterArgs) -> Result<Manifest, Failure> {
    let list = match filter.tags.is_empty() {
        true => list_bare(repository)?,
        false => list(repository)?,
    };
    find_in(&list, name, filter)
}

/// The same, in a list that was read before.
fn find_in(list: &SnapshotList, name: &Name, filter: &FilterArgs) -> Result<Manifest, Failure> {
    let mut among = list.committed.clone();
    let forgotten = forgotten(list.forgotten.clone(), &among);
    // Two `undelete` at once may commit one snapshot twice.
    once(&mut among);
    let is_id = matches!(name.selector, hucha_store::snapshots::Selector::Prefix(_));
    if !is_id {
        Chosen::new(filter).keep(&mut among);
    }
    match select(&among, &name.selector, &name.typed) {
        Ok(manifest) => Ok(manifest.clone()),
        Err(error) => {
            let is_forgotten = select(&forgotten, &name.selector, &name.typed).is_ok();
            let failure = Failure::from(error);
            match is_forgotten && is_id {
                true => Err(failure.hint("it is forgotten: `hucha undelete` takes it back")),
                false => Err(failure),
            }
        }
    }
}

/// Snapshots that were chosen, and what is said of them.
struct Picked {
    /// Each once, oldest first, with the tags and labels that notes give them.
    manifests: Vec<Manifest>,
    /// Every object that stands: two `undelete` at once may leave two of one snapshot.
    committed: Vec<Manifest>,
    notes: Notes,
}

/// The snapshots that were named, or all whole ones that filters let pass when none was.
fn named_or_filtered(
    run: &Run,
    repository: &Repository,
    typed: &[OsString],
    filter: &FilterArgs,
) -> Result<Picked, Failure> {
    let (list, notes) = list_noted(repository)?;
    let manifests = match typed.is_empty() {
        true => {
            let mut all = list.committed.clone();
            once(&mut all);
            Chosen::new(filter).keep(&mut all);
            all.retain(|manifest| !manifest.partial);
            all
        }
        false => {
            let mut named = protect::named(run, &list, typed, filter)?;
            named.sort_by_key(|manifest| (manifest.time, manifest.name));
            named
        }
    };
    Ok(Picked {
        manifests,
        committed: list.committed,
        notes,
    })
}

/// The forgotten snapshots that can be taken back: each once, and not those that were already.
fn forgotten(mut all: Vec<Manifest>, committed: &[Manifest]) -> Vec<Manifest> {
    all.retain(|m| committed.iter().all(|c| c.id != m.id));
    once(&mut all);
    all
}

/// Keeps the last of several manifests of one snapshot.
fn once(manifests: &mut Vec<Manifest>) {
    let mut last: BTreeMap<SnapshotId, Uuid> = BTreeMap::new();
    for manifest in manifests.iter() {
        last.insert(manifest.id, manifest.name);
    }
    manifests.retain(|m| last.get(&m.id) == Some(&m.name));
}

/// Now, by this machine's clock.
fn now() -> hucha_store::clock::Timestamp {
    SystemClock.now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_with_commas() {
        let typed = ["a,b".to_owned(), " c ".to_owned(), ",".to_owned()];
        assert_eq!(commas(&typed), ["a", "b", "c"]);
    }
}

//! `tag`.

use std::collections::BTreeSet;

use hucha_store::format::objects::Manifest;
use hucha_store::notes::{self, Fact};

use super::protect::named;
use super::{Chosen, Run, commas, list_noted, once};
use crate::args::TagArgs;
use crate::errors::{Code, Failure, Outcome};
use crate::open::open;
use crate::render::json::Snapshot;
use crate::render::text;

/// Longest tag in bytes; a note could hold 65,535.
const MAX_TAG: usize = 1000;

/// Changes tags and labels.
pub fn tag(run: &mut Run, args: &TagArgs) -> Outcome {
    let change = Change::new(args)?;
    let repository = open(&run.settings)?;
    let (list, known) = list_noted(&repository)?;
    let chosen = match args.snapshots.is_empty() {
        true => {
            let mut all = list.committed;
            once(&mut all);
            all.retain(|m| !m.partial);
            Chosen::new(&args.filter).keep(&mut all);
            all
        }
        false => named(run, &list, &args.snapshots, &args.filter)?,
    };
    let mut facts = Vec::new();
    let mut changed: Vec<Manifest> = Vec::new();
    for mut manifest in chosen {
        let said = change.apply(&mut manifest);
        if !said.is_empty() {
            facts.extend(said);
            changed.push(manifest);
        }
    }
    if !run.settings.dry_run {
        notes::put(&repository, &known, &facts)?;
    }
    if run.out.json {
        for manifest in &changed {
            let snapshot = Snapshot::new(manifest).noted(manifest, &known);
            run.out.object("snapshot", &snapshot)?;
        }
        return Ok(Code::Done);
    }
    let count = text::counted(changed.len() as u64, "snapshot", "snapshots");
    match run.settings.dry_run {
        true => run.out.summary(&format!("would change {count}"))?,
        false => run.out.summary(&format!("changed {count}"))?,
    }
    Ok(Code::Done)
}

/// What becomes of each snapshot.
struct Change {
    /// Takes the place of all tags.
    set: Option<BTreeSet<String>>,
    add: Vec<String>,
    remove: Vec<String>,
    label: Option<String>,
}

impl Change {
    fn new(args: &TagArgs) -> Result<Change, Failure> {
        let set = (!args.set.is_empty()).then(|| commas(&args.set).into_iter().collect());
        let change = Change {
            set,
            add: commas(&args.add),
            remove: commas(&args.remove),
            label: args.label.clone(),
        };
        let lists = [&change.add, &change.remove];
        let typed = lists
            .into_iter()
            .flatten()
            .chain(change.set.iter().flatten());
        if typed.into_iter().any(|tag| tag.len() > MAX_TAG) {
            return Err(Failure::usage("a tag has at most 1000 bytes"));
        }
        let nothing = change.set.is_none()
            && change.add.is_empty()
            && change.remove.is_empty()
            && change.label.is_none();
        match nothing {
            true => Err(Failure::usage("say what to change")
                .hint("--set, --add, --remove or --label; see `hucha tag --help`")),
            false => Ok(change),
        }
    }

    /// Changes one snapshot's tags and label, and answers what is to be said of it.
    fn apply(&self, manifest: &mut Manifest) -> Vec<Fact> {
        let before: BTreeSet<String> = manifest.tags.iter().cloned().collect();
        let mut after = self.set.clone().unwrap_or_else(|| before.clone());
        after.retain(|tag| !self.remove.contains(tag));
        after.extend(self.add.iter().cloned());
        let snapshot = manifest.id;
        let tag = |present: bool| {
            move |tag: &String| Fact::Tag {
                snapshot,
                tag: tag.clone(),
                present,
            }
        };
        let gone = before.difference(&after).map(tag(false));
        let mut facts: Vec<Fact> = gone
            .chain(after.difference(&before).map(tag(true)))
            .collect();
        manifest.tags = after.into_iter().collect();
        let label = self
            .label
            .clone()
            .filter(|l| Some(l) != manifest.label.as_ref());
        if let Some(label) = label.filter(|l| !(l.is_empty() && manifest.label.is_none())) {
            manifest.label = Some(label.clone()).filter(|l| !l.is_empty());
            facts.push(Fact::Label { snapshot, label });
        }
        facts
    }
}

//! Repair: what is damaged is made whole from what is left, and what is lost is named
//! (gc-protocol.md, "Repair").
//!
//! A writer and a collector, which deletes no pack: bad ones go into a list, and gc sweeps it when
//! no snapshot needs what is lost. This file is the order of a repair: plans as values, then their
//! execution, part by part, as each part needs the ones before it. [`config`] puts back what has a
//! fixed name, `copies` what has a copy, `index` makes segments anew, `packs` condemns and copies
//! with `salvage`, `snapshots` and `rewrite` give up what is lost.

pub mod config;
mod copies;
mod index;
mod packs;
mod rewrite;
mod salvage;
mod snapshots;
#[cfg(test)]
mod tests;

pub use rewrite::LostPart;
pub use snapshots::Lost;

use crate::backend::Key;
use crate::error::AccessError;
use crate::forget::{again, mark};
use crate::format::objects::{Manifest, SessionKind};
use crate::gc::Condemnation;
use crate::id::{ChunkId, PackId, SegmentId, SnapshotId, Uuid};
use crate::monitor::{Event, Monitor};
use crate::repository::Repository;
use crate::session::{Session, settle};
use crate::snapshot::republish::republish;
use crate::snapshots::is_marked;

use packs::Survey;
use snapshots::Rewritten;

/// A part of a repository that can be repaired alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// `config`, key slots and data keys.
    Config,
    /// Segments.
    Index,
    /// Packs.
    Packs,
    /// Snapshots.
    Snapshots,
}

impl Part {
    /// All, in the order in which they are repaired: each needs the ones before it.
    pub const ALL: [Part; 4] = [Part::Config, Part::Index, Part::Packs, Part::Snapshots];
}

/// How to repair.
#[derive(Debug, Clone, Copy, Default)]
pub struct RepairOptions {
    /// This part only; `None`: everything that is needed.
    pub part: Option<Part>,
    /// What to do with what is lost.
    pub lost: Lost,
    /// Plan only.
    pub dry_run: bool,
}

/// One step of a plan.
#[derive(Debug, Clone)]
pub enum Action {
    /// Puts an object in the place of a damaged or missing one of a fixed name.
    Put {
        /// Its name.
        key: Key,
        /// What is wrong with what stands there.
        why: String,
        /// Its stored form.
        body: Vec<u8>,
        /// Where a copy stands meanwhile.
        safe: Option<Key>,
    },
    /// Removes an object that is worth nothing.
    Remove {
        /// Its name.
        key: Key,
        /// Why.
        why: String,
    },
    /// Makes rows anew, and supersedes segments that do not open.
    Index {
        /// Packs with records that no row names, with stored sizes.
        packs: Vec<(PackId, u64)>,
        /// Segments that do not open.
        supersede: Vec<SegmentId>,
    },
    /// Puts a gc list.
    Condemn {
        /// Packs that nobody is to reuse, with stored sizes.
        packs: Vec<(PackId, u64)>,
        /// Chunks that are lost.
        lost: Vec<ChunkId>,
        /// Lists that do not open.
        covers: Vec<Uuid>,
    },
    /// Copies what bad packs still give and nothing else does.
    Salvage {
        /// The packs, with stored sizes.
        packs: Vec<(PackId, u64)>,
    },
    /// Marks a name in the trash.
    Forget {
        /// The name.
        name: Uuid,
        /// Why.
        why: String,
    },
    /// Commits a snapshot again whose manifest is lost and was read from its copy, and forgets the
    /// old name.
    Republish {
        /// The manifest.
        manifest: Box<Manifest>,
        /// What is wrong with the object itself.
        why: String,
    },
    /// Puts a tombstone at a name that vanished.
    Settle {
        /// The name.
        name: Uuid,
    },
    /// Commits what is left of a snapshot, and forgets it.
    Rewrite {
        /// The damaged snapshot.
        manifest: Box<Manifest>,
        /// What of it is lost, as far as it is named.
        parts: Vec<LostPart>,
        /// How many parts are lost.
        count: u64,
    },
}

/// Something that stays lost.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Loss {
    /// The object.
    pub object: String,
    /// What is wrong with it.
    pub what: String,
    /// The snapshot that it is, or that it takes along.
    pub snapshot: Option<SnapshotId>,
    /// What of the snapshot is lost, as far as it is named.
    pub parts: Vec<LostPart>,
    /// How many parts are lost.
    pub count: u64,
    /// What can be done.
    pub hint: String,
}

/// What to do, and what would stay lost.
#[derive(Debug, Clone, Default)]
pub struct RepairPlan {
    /// In this order.
    pub actions: Vec<Action>,
    /// What no action brings back.
    pub losses: Vec<Loss>,
}

/// What was done; after a dry run, what would be.
#[derive(Debug, Clone, Default)]
pub struct RepairReport {
    /// What was done about which object, in order.
    pub done: Vec<Done>,
    /// What stays lost.
    pub losses: Vec<Loss>,
    /// Parts that a dry run cannot plan before those before them are carried out.
    pub unknown: Vec<Part>,
    /// Packs that were condemned.
    pub packs_condemned: u64,
    /// Chunks that were copied from bad packs.
    pub chunks_copied: u64,
    /// Bytes that were put for them.
    pub bytes_copied: u64,
    /// Packs whose rows were made anew.
    pub packs_indexed: u64,
    /// Segments that were superseded.
    pub segments_superseded: u64,
    /// Chunks that are lost and were not known to be.
    pub chunks_lost: u64,
    /// Snapshots of which the rest was committed.
    pub snapshots_rewritten: u64,
}

/// One thing that was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// The object, or the snapshot.
    pub object: String,
    /// What was wrong, and what was done.
    pub what: String,
    /// The snapshot that took the place of a damaged one.
    pub snapshot: Option<SnapshotId>,
    /// What of that one was lost.
    pub parts: Vec<LostPart>,
}

/// A `config` that is right, as it was found, and what is wrong with the object.
#[derive(Debug, Clone)]
pub struct ConfigState {
    stored: Vec<u8>,
    fault: Option<String>,
}

impl ConfigState {
    /// Opens what was found, keeping what repair has to know of it.
    ///
    /// # Errors
    /// As [`Repository::open`].
    pub fn open(
        found: config::Found,
        environment: crate::environment::Environment,
    ) -> Result<(Repository, ConfigState), crate::repository::OpenError> {
        let state = ConfigState::of(&found);
        Ok((found.unlocked.open(environment)?, state))
    }

    /// What repair has to know of a repository that is open already.
    pub(crate) fn of(found: &config::Found) -> ConfigState {
        ConfigState {
            stored: found.stored.clone(),
            fault: found.fault.clone(),
        }
    }
}

/// Repairs, part by part: each is planned when the ones before it are done.
///
/// # Errors
/// When the backend fails. What was done until then is of use, and the next repair goes on.
pub fn repair(
    repository: &Repository,
    config: &ConfigState,
    options: &RepairOptions,
    monitor: &dyn Monitor,
) -> Result<RepairReport, AccessError> {
    let mut run = Run {
        repository,
        config,
        options,
        monitor,
        survey: None,
        report: RepairReport::default(),
    };
    let chosen = Part::ALL
        .into_iter()
        .filter(|part| options.part.is_none_or(|p| p == *part));
    for part in chosen {
        let plan = run.plan(part)?;
        let blind = options.dry_run && part == Part::Index && !plan.actions.is_empty();
        let again = part == Part::Index && !plan.actions.is_empty() && !options.dry_run;
        run.execute(plan)?;
        if again {
            // What a short answer hid: a row that is missing would make its chunk look lost.
            let plan = run.plan(part)?;
            run.execute(plan)?;
        }
        if blind && options.part.is_none() {
            run.report.unknown = vec![Part::Packs, Part::Snapshots];
            break;
        }
    }
    Ok(run.report)
}

struct Run<'a> {
    repository: &'a Repository,
    config: &'a ConfigState,
    options: &'a RepairOptions,
    monitor: &'a dyn Monitor,
    survey: Option<Survey>,
    report: RepairReport,
}

impl Run<'_> {
    /// What a part needs. Reads, and changes nothing.
    fn plan(&mut self, part: Part) -> Result<RepairPlan, AccessError> {
        let repository = self.repository;
        let (actions, losses) = match part {
            Part::Config => {
                let fault = self.config.fault.as_deref();
                config::plan(repository, &self.config.stored, fault)?
            }
            Part::Index => (index::plan(repository, self.monitor)?, Vec::new()),
            Part::Packs => packs::plan(repository, self.survey()?)?,
            Part::Snapshots => {
                let lost = self.options.lost;
                snapshots::plan(repository, self.survey()?, lost)?
            }
        };
        Ok(RepairPlan { actions, losses })
    }

    fn survey(&mut self) -> Result<&Survey, AccessError> {
        let survey = match self.survey.take() {
            Some(survey) => survey,
            None => Survey::take(self.repository, self.monitor)?,
        };
        Ok(self.survey.insert(survey))
    }

    fn execute(&mut self, plan: RepairPlan) -> Result<(), AccessError> {
        for action in plan.actions {
            self.carry_out(action)?;
        }
        self.report.losses.extend(plan.losses);
        Ok(())
    }

    fn done(&mut self, object: impl ToString, what: impl ToString) {
        let (object, what) = (object.to_string(), what.to_string());
        self.monitor
            .event(Event::Note(&format!("{object}: {what}")));
        self.report.done.push(Done {
            object,
            what,
            snapshot: None,
            parts: Vec::new(),
        });
    }

    fn carry_out(&mut self, action: Action) -> Result<(), AccessError> {
        let (repository, dry) = (self.repository, self.options.dry_run);
        match action {
            Action::Put {
                key,
                why,
                body,
                safe,
            } => {
                if !dry {
                    config::replace(repository, &key, &body, safe.as_ref())?;
                }
                self.done(key, format!("{why}: put back"));
            }
            Action::Remove { key, why } => {
                if !dry {
                    repository.backend().delete(&key)?;
                }
                self.done(key, format!("{why}: removed"));
            }
            Action::Index { packs, supersede } => self.index(&packs, &supersede)?,
            Action::Condemn {
                packs,
                lost,
                covers,
            } => self.condemn(&packs, lost, covers)?,
            Action::Salvage { packs } => self.salvage(&packs)?,
            Action::Forget { name, why } => {
                if !dry {
                    mark(repository, name)?;
                }
                self.done(
                    format!("snapshots/{name}"),
                    format!("{why}: marked as forgotten"),
                );
            }
            Action::Republish { manifest, why } => self.republish(&manifest, &why)?,
            Action::Settle { name } => {
                if !dry {
                    settle(repository, name)?;
                }
                let what = "this machine has seen it, and it is missing: given up";
                self.done(format!("snapshots/{name}"), what);
            }
            Action::Rewrite {
                manifest, parts, ..
            } => self.rewrite(&manifest, parts)?,
        }
        Ok(())
    }

    fn index(
        &mut self,
        packs: &[(PackId, u64)],
        supersede: &[SegmentId],
    ) -> Result<(), AccessError> {
        if !self.options.dry_run {
            let rebuilt = index::rebuild(self.repository, packs, supersede, self.monitor)?;
            self.report.packs_indexed += rebuilt.packs;
        } else {
            self.report.packs_indexed = packs.len() as u64;
        }
        self.report.segments_superseded += supersede.len() as u64;
        for id in supersede {
            self.done(format!("index/{id}"), "damaged: made anew from packs");
        }
        for (id, _) in packs.iter().filter(|_| supersede.is_empty()) {
            let what = "no segment names what is in it: made anew from the pack";
            self.done(crate::pack::pack_key(id)?, what);
        }
        Ok(())
    }

    fn condemn(
        &mut self,
        packs: &[(PackId, u64)],
        lost: Vec<ChunkId>,
        covers: Vec<Uuid>,
    ) -> Result<(), AccessError> {
        self.report.packs_condemned = packs.len() as u64;
        self.report.chunks_lost = lost.len() as u64;
        for list in &covers {
            let what = "damaged: all packs that stand are condemned in its place, and gc moves \
                        what lives in them";
            self.done(format!("gc/{list}"), what);
        }
        for (id, _) in packs.iter().filter(|_| covers.is_empty()) {
            let what = "damaged: condemned, nobody reuses what is in it";
            self.done(crate::pack::pack_key(id)?, what);
        }
        if self.options.dry_run {
            return Ok(());
        }
        let session = Session::open(self.repository, SessionKind::Collector)?;
        let what = Condemnation {
            packs: packs.iter().map(|(id, _)| *id).collect(),
            lost,
            covers,
        };
        let put = packs::condemn(&session, what);
        session.close();
        put
    }

    fn salvage(&mut self, packs: &[(PackId, u64)]) -> Result<(), AccessError> {
        if !self.options.dry_run {
            let (chunks, bytes) = packs::salvage(self.repository, packs)?;
            self.report.chunks_copied = chunks;
            self.report.bytes_copied = bytes;
        }
        Ok(())
    }

    fn republish(&mut self, manifest: &Manifest, why: &str) -> Result<(), AccessError> {
        let object = format!("snapshots/{}", manifest.name);
        let id = manifest.id;
        if self.options.dry_run {
            self.done(object, format!("{why}: put back from its copy"));
            return Ok(());
        }
        if is_marked(self.repository, manifest.name)? {
            // It was forgotten while this run looked at everything.
            return Ok(());
        }
        match republish(self.repository, &again(manifest))? {
            Some(stands) => {
                mark(self.repository, manifest.name)?;
                let what = format!("{why}: put back from its copy");
                let note = format!("{object}: {what}");
                self.monitor.event(Event::Note(&note));
                self.report.done.push(Done {
                    object,
                    what,
                    snapshot: Some(stands.id),
                    parts: Vec::new(),
                });
            }
            None => self.report.losses.push(Loss {
                object,
                what: format!("{why}; what it refers to changed while it was put back"),
                snapshot: Some(id),
                hint: "start it again".to_owned(),
                ..Loss::default()
            }),
        }
        Ok(())
    }

    fn rewrite(&mut self, manifest: &Manifest, parts: Vec<LostPart>) -> Result<(), AccessError> {
        let object = format!("snapshots/{}", manifest.name);
        let mut done = Done {
            object,
            what: format!(
                "snapshot {:.8} has lost data: what is left is saved",
                manifest.id
            ),
            snapshot: None,
            parts,
        };
        if !self.options.dry_run {
            let repository = self.repository;
            match snapshots::give_up(repository, self.survey()?, manifest)? {
                Rewritten::As(rest) => {
                    done.what = format!(
                        "snapshot {:.8} has lost data: what is left is snapshot {:.8}",
                        manifest.id, rest.id
                    );
                    done.snapshot = Some(rest.id);
                    self.report.snapshots_rewritten += 1;
                }
                Rewritten::Before => {
                    done.what = "what is left of it was saved before: forgotten".to_owned();
                }
                Rewritten::Fenced => {
                    self.report.losses.push(Loss {
                        object: done.object,
                        what: "another machine's gc took this run for dead".to_owned(),
                        snapshot: Some(manifest.id),
                        parts: done.parts,
                        hint: "start it again".to_owned(),
                        ..Loss::default()
                    });
                    return Ok(());
                }
            }
        }
        self.monitor.event(Event::Note(&done.what));
        self.report.done.push(done);
        Ok(())
    }
}

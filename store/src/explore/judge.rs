//! What must hold at the end of a schedule: every actor's end is explained, every committed
//! snapshot restores, and one gc on the quiet repository leaves nothing behind.

use std::sync::Arc;

use super::cast::{Outcome, open_door};
use super::oracle::Verdict;
use super::stage::{Choice, Director, End, Ended, Stage, Step};
use super::start::{Cache, open, thorough};
use crate::backend::Backend;
use crate::crypto::seeded;
use crate::gc::{Fence, gc};
use crate::monitor::Silent;
use crate::reader::Reader;
use crate::record::World;
use crate::repair::{ConfigState, RepairOptions, config, repair};
use crate::repository::Credential;
use crate::testing;
use crate::tree::Tree;

/// Looks at a schedule's end. `deep`: restores, and collects.
pub(super) fn judge(outcome: &Outcome, deep: bool) -> Verdict {
    if let Some(why) = &outcome.ended.violation {
        return Err(why.clone());
    }
    for (actor, end) in outcome.ends.iter().enumerate() {
        match end {
            End::Panicked(why) => return Err(format!("actor {actor} failed: {why}")),
            End::Failed(why) if !outcome.ended.faulted[actor] => {
                return Err(format!("actor {actor} failed without a fault: {why}"));
            }
            _ => {}
        }
    }
    if !deep {
        return Ok(());
    }
    restore(&outcome.ended)?;
    quiet(&outcome.ended)
}

/// Reads everything that committed snapshots refer to, with the real reader and nothing cached.
pub(super) fn restore(ended: &Ended) -> Verdict {
    let backend: Arc<dyn Backend> = Arc::new(ended.memory.clone());
    let (repository, _) = open(backend, &Cache::default(), testing::environment(0));
    repository.update_index().map_err(|e| e.to_string())?;
    let reader = Reader::new(&repository);
    for (name, manifest, _) in ended.oracle.committed() {
        let tree = Tree::new(&reader, manifest.root);
        let read = |world: World, id: &_| match reader.chunk(world, id) {
            Err(e) if e.is_damage() && ended.oracle.may_miss(id) => Ok(false),
            other => other.map(|_| true),
        };
        tree.for_each_reference(&mut |world, id| read(world, id))
            .map_err(|e| format!("snapshot {name:.8} does not restore: {e}"))?;
    }
    Ok(())
}

/// Repairs, and gives nothing up. Answers whether that tells of a loss.
fn mend(repository: &crate::repository::Repository) -> Result<bool, String> {
    let found = config::find(&repository.shared_backend(), &Credential::None);
    let state = ConfigState::of(&found.map_err(|e| e.to_string())?);
    let report = repair(
        repository,
        &state,
        &RepairOptions::default(),
        &Silent::default(),
    );
    let report = report.map_err(|e| format!("the quiet repair failed: {e}"))?;
    Ok(!report.losses.is_empty())
}

struct Nothing;

impl Director for Nothing {
    fn decide(&mut self, _: usize, _: &Step, _: &[usize]) -> Option<Choice> {
        None
    }
}

/// One gc frees everything that nothing refers to, and a second finds nothing.
fn quiet(ended: &Ended) -> Verdict {
    seeded::seed(b"quiet");
    let oracle = ended.oracle.clone();
    let stage = Stage::new(ended.memory.fork(), oracle, 1, 0, Box::new(Nothing));
    let repository = open_door(&stage, 0, &Cache::default());
    let collect = || gc(&repository, &thorough(Fence::Now), &Silent::default());
    if ended.oracle.misses() {
        // Damage that nobody has repaired yet stops gc; after a repair it does not.
        let _ = collect();
        let told = mend(&repository)?;
        // What a writer that failed left in a pack may have brought it back.
        match (stage.look().0.misses(), told) {
            (true, false) => return Err("repair tells of no loss".into()),
            (false, true) => return Err("repair tells of a loss where nothing is missing".into()),
            _ => {}
        }
    }
    collect().map_err(|e| format!("the quiet gc failed: {e}"))?;
    let (oracle, violation) = stage.look();
    if let Some(why) = violation {
        return Err(format!("in the quiet gc: {why}"));
    }
    oracle.garbage()?;
    let again = collect().map_err(|e| format!("the second quiet gc failed: {e}"))?;
    if (again.packs_deleted, again.planned_packs) != (0, 0) {
        return Err(format!("the second quiet gc found more: {again:?}"));
    }
    oracle.check()
}

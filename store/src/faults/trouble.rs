//! A storage that fails is not a repository that is damaged: whoever reads "damaged" begins to
//! repair, or gives data up.

use std::sync::Arc;

use super::scene::{Scene, every_byte, restored, thorough};
use crate::backend::{Fault, Faulty, Memory};
use crate::check::check;
use crate::error::AccessError;
use crate::gc::{GcError, gc};
use crate::monitor::Silent;
use crate::repository::{OpenError, Repository};
use crate::restore::RestoreError;

/// What an operation says; `None` when it succeeds.
type Said = Option<AccessError>;

fn of_check(_: &Scene, repository: &Repository) -> Said {
    match check(repository, &every_byte(), &Silent::default()) {
        Ok(report) => {
            assert!(report.damage.is_empty(), "{:?}", report.damage);
            None
        }
        Err(error) => Some(error),
    }
}

fn of_restore(scene: &Scene, repository: &Repository) -> Said {
    match restored(repository, &scene.kept[0].manifest) {
        Ok((report, _)) => {
            assert!(report.damaged.is_empty(), "{:?}", report.damaged);
            None
        }
        Err(RestoreError::Access(error)) => Some(error),
        Err(other) => panic!("{other}"),
    }
}

fn of_gc(_: &Scene, repository: &Repository) -> Said {
    match gc(repository, &thorough(), &Silent::default()) {
        Ok(_) => None,
        Err(GcError::Access(error)) => Some(error),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn trouble_of_the_storage_is_never_told_as_damage() {
    let before = Scene::locked().deltas().snapshot(0).snapshot(1);
    for (name, act) in [
        ("check", of_check as fn(&Scene, &Repository) -> Said),
        ("restore", of_restore),
        ("gc", of_gc),
    ] {
        let mut failed = 0;
        for n in 1.. {
            let scene = before.fork();
            let faulty = Arc::new(Faulty::new(scene.memory.clone()));
            faulty.fail_at(n, Fault::Before);
            let said = match scene.open_at(Arc::<Faulty<Memory>>::clone(&faulty)) {
                Ok(repository) => act(&scene, &repository),
                Err(OpenError::Access(error)) => Some(error),
                Err(other) => panic!("{other}"),
            };
            if let Some(error) = said {
                let is_trouble = matches!(error, AccessError::Backend(_));
                assert!(is_trouble, "{name}, call {n}: {error}");
                failed += 1;
            }
            if faulty.calls() < n {
                break;
            }
        }
        assert!(failed > 5, "{name} failed {failed} times");
    }
}

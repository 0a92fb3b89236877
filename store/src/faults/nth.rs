//! Every operation with every call in trouble, one after the other: no snapshot is ever damaged, no
//! success is none, a repeat succeeds, and a gc leaves nothing behind.

use std::sync::Arc;

use super::is_full;
use super::scene::{Scene, every_byte, holds, restored, second_key, source, thorough};
use crate::backend::{Area, Backend, Fault, Faulty, Key, Memory};
use crate::check::{CheckOptions, check};
use crate::forget::{forget, undelete};
use crate::format::config::Slot;
use crate::gc::gc;
use crate::monitor::Silent;
use crate::notes::{self, Fact, Notes};
use crate::repository::{OpenError, SlotError, named_key, uuid_key};
use crate::snapshot::rewrite::{RewriteOptions, rewrite};
use crate::snapshot::{Every, SnapshotOptions, snapshot};
use crate::snapshots::SnapshotList;
use crate::view::View;

/// Something that is done to a repository. One line in [`OPERATIONS`] puts it to the test.
struct Operation {
    name: &'static str,
    /// What was before.
    before: fn() -> Scene,
    /// Does it; an error is what it says when it fails.
    run: fn(&Scene, Arc<dyn Backend>) -> Result<(), String>,
    /// Whether it is done, for good: asked without faults by another machine.
    is_done: fn(&Scene) -> Result<(), String>,
    /// When it was done already, a repeat may say just that.
    once: bool,
}

/// Everything that changes a repository or reads from it.
const OPERATIONS: &[Operation] = &[
    Operation {
        name: "init",
        before: Scene::nothing,
        run: |scene, backend| said(scene.init(backend)).map(drop),
        is_done: |scene| said(scene.open_at(Arc::new(scene.memory.clone()))).map(drop),
        once: true,
    },
    Operation {
        name: "first snapshot",
        before: Scene::locked,
        run: |scene, backend| take(scene, backend, 0),
        is_done: |scene| is_taken(scene, 0),
        once: false,
    },
    Operation {
        name: "second snapshot",
        before: || Scene::empty().snapshot(0),
        run: |scene, backend| take(scene, backend, 1),
        is_done: |scene| is_taken(scene, 1),
        once: false,
    },
    Operation {
        name: "snapshot with deltas beside a gc list",
        before: || Scene::empty().deltas().snapshot(0).snapshot(3).forget(),
        run: |scene, backend| take(scene, backend, 0),
        is_done: |scene| is_taken(scene, 0),
        once: false,
    },
    Operation {
        name: "snapshot with checkpoints",
        before: || Scene::empty().snapshot(0),
        run: |scene, backend| {
            let options = SnapshotOptions {
                checkpoint: Every {
                    bytes: 4_000,
                    seconds: 600,
                },
                ..options()
            };
            take_with(scene, backend, 3, &options)
        },
        is_done: |scene| is_taken(scene, 3),
        once: false,
    },
    Operation {
        name: "rewrite",
        before: || Scene::empty().snapshot(0).snapshot(1),
        run: |scene, backend| {
            let repository = said(scene.open_at(backend))?;
            let options = RewriteOptions {
                exclude: &|entry| entry.path.starts_with(b"a"),
                host: None,
                time: None,
                dry_run: false,
            };
            said(rewrite(&repository, &scene.kept[1].manifest, &options)).map(drop)
        },
        is_done: |scene| {
            let list = said(SnapshotList::read(&scene.stranger().open()))?;
            let smaller = list.committed.iter().any(|m| m.files == 2);
            smaller.then_some(()).ok_or("no new snapshot".into())
        },
        once: false,
    },
    Operation {
        name: "tag",
        before: || Scene::empty().snapshot(0),
        run: |scene, backend| {
            let repository = said(scene.open_at(backend))?;
            let known = said(Notes::read(&repository))?;
            let fact = Fact::Tag {
                snapshot: scene.kept[0].manifest.id,
                tag: "told".into(),
                present: true,
            };
            said(notes::put(&repository, &known, &[fact]))
        },
        is_done: |scene| {
            let mut manifest = scene.kept[0].manifest.clone();
            said(Notes::read(&scene.stranger().open()))?.annotate(&mut manifest);
            let told = manifest.tags.iter().any(|tag| tag == "told");
            told.then_some(()).ok_or("it bears no tag".into())
        },
        once: false,
    },
    Operation {
        name: "forget",
        before: || Scene::empty().snapshot(0).snapshot(1).snapshot(2).forget(),
        run: |scene, backend| {
            let repository = said(scene.open_at(backend))?;
            let notes = said(Notes::read(&repository))?;
            said(forget(&repository, &scene.forgotten[0].manifest, &notes)).map(drop)
        },
        is_done: |scene| {
            let list = said(SnapshotList::read(&scene.open()))?;
            let name = scene.forgotten[0].manifest.name;
            list.trash
                .contains(&name)
                .then_some(())
                .ok_or("no marker".into())
        },
        once: false,
    },
    Operation {
        name: "undelete",
        before: || Scene::empty().snapshot(0).snapshot(1).forget(),
        run: |scene, backend| {
            let repository = said(scene.open_at(backend))?;
            said(undelete(&repository, &scene.forgotten[0].manifest)).map(drop)
        },
        is_done: |scene| is_taken(scene, 0),
        once: true,
    },
    Operation {
        name: "gc",
        before: || {
            Scene::empty()
                .snapshot(0)
                .snapshot(1)
                .dead_writer()
                .forget()
        },
        run: collect,
        is_done: is_tidy,
        once: false,
    },
    Operation {
        name: "gc of deltas and many segments",
        before: || {
            let last = if is_full() { 9 } else { 5 };
            let many = (1..last).fold(Scene::empty().deltas(), Scene::snapshot);
            many.forget().forget()
        },
        run: collect,
        is_done: is_tidy,
        once: false,
    },
    Operation {
        name: "gc that stores a chunk anew without its bases",
        before: || {
            let scene = Scene::empty().drift().snapshot(0).snapshot(3).forget();
            assert_eq!(depth_after_gc(&scene.fork()), 0);
            scene
        },
        run: collect,
        is_done: |scene| {
            is_tidy(scene)?;
            match depth_after_gc(scene) {
                0 => Ok(()),
                depth => Err(format!("the chunk is {depth} deep")),
            }
        },
        once: false,
    },
    Operation {
        name: "repair of a pack",
        before: || {
            let whole = Scene::empty().snapshot(0);
            let packs = whole.names(Area::Packs);
            let both = whole.snapshot(2);
            let new = both.names(Area::Packs);
            let of_second = new.difference(&packs);
            let largest = of_second.max_by_key(|name| stored(&both, Area::Packs, name).len());
            let key = Key::new(Area::Packs, largest.unwrap().clone()).unwrap();
            both.damage(&key, Some(|bytes| flip(bytes))).lose()
        },
        run: mend,
        is_done: |scene| {
            let list = said(SnapshotList::read(&scene.stranger().open()))?;
            let rest = list.committed.iter().any(|m| m.incomplete);
            rest.then_some(()).ok_or("nothing of it is saved")?;
            is_mended(scene)
        },
        once: false,
    },
    Operation {
        name: "repair of a segment and a marker",
        before: || {
            let scene = Scene::empty().snapshot(0).snapshot(2).snapshot(1).forget();
            // A gc of this machine sees the marker, and then it vanishes.
            scene.plan().unwrap();
            let segment = scene.names(Area::Index).into_iter().next().unwrap();
            let marker = uuid_key(Area::Trash, scene.forgotten[0].manifest.name);
            scene
                .damage(&named_key(Area::Index, segment), Some(|bytes| flip(bytes)))
                .damage(&marker, None)
        },
        run: mend,
        is_done: is_mended,
        once: false,
    },
    Operation {
        name: "repair of config and a slot",
        before: || {
            let scene = Scene::locked().snapshot(0);
            let slot = scene.open().slots().unwrap().remove(0).id;
            scene
                .damage(
                    &named_key(Area::Keys, slot),
                    Some(|bytes| {
                        let mut slot = Slot::decode(bytes).unwrap();
                        flip(&mut slot.config);
                        *bytes = slot.encode();
                    }),
                )
                .damage(&Key::config(), None)
        },
        run: mend,
        is_done: is_mended,
        once: false,
    },
    Operation {
        name: "restore",
        before: || Scene::empty().deltas().snapshot(0).snapshot(1),
        run: restore_all,
        is_done: |_| Ok(()),
        once: false,
    },
    Operation {
        name: "check",
        before: || Scene::empty().deltas().snapshot(0).snapshot(1),
        run: |scene, backend| {
            let repository = said(scene.open_at(backend))?;
            let options = CheckOptions {
                dry_run: false,
                ..every_byte()
            };
            let report = said(check(&repository, &options, &Silent::default()))?;
            match report.damage.is_empty() {
                true => Ok(()),
                false => Err(format!("{:?}", report.damage)),
            }
        },
        is_done: |_| Ok(()),
        once: false,
    },
    Operation {
        name: "key add",
        before: || Scene::locked().snapshot(0),
        run: |scene, backend| {
            let repository = said(scene.open_at(backend))?;
            said(repository.add_slot(&second_key(), "second")).map(drop)
        },
        is_done: opens_with_second,
        once: true,
    },
    Operation {
        name: "key change",
        before: || Scene::locked().snapshot(0),
        run: |scene, backend| {
            let repository = match scene.open_at(Arc::clone(&backend)) {
                // A change that went through although nobody heard of it.
                Err(OpenError::WrongKey) => said(scene.open_second(backend))?,
                opened => said(opened)?,
            };
            match repository.change_slot(&second_key(), None) {
                Err(SlotError::Exists(_)) if !scene.has_first_key() => Ok(()),
                changed => said(changed).map(drop),
            }
        },
        is_done: |scene| match scene.has_first_key() {
            true => Err("the old key still opens it".into()),
            false => opens_with_second(scene),
        },
        once: false,
    },
    Operation {
        name: "key remove",
        before: || {
            let scene = Scene::locked().snapshot(0);
            scene.open().add_slot(&second_key(), "second").unwrap();
            scene
        },
        run: |scene, backend| {
            let repository = said(scene.open_at(backend))?;
            let slot = said(repository.find_slot("second"))?;
            said(repository.remove_slot(slot.id))
        },
        is_done: |scene| match scene.open_second(Arc::new(scene.memory.clone())) {
            Err(OpenError::WrongKey) => Ok(()),
            _ => Err("it still opens".into()),
        },
        once: true,
    },
];

fn said<T, E: std::fmt::Display>(result: Result<T, E>) -> Result<T, String> {
    result.map_err(|e| e.to_string())
}

fn opens_with_second(scene: &Scene) -> Result<(), String> {
    said(scene.open_second(Arc::new(scene.memory.clone()))).map(drop)
}

pub(super) fn take(scene: &Scene, backend: Arc<dyn Backend>, version: u32) -> Result<(), String> {
    take_with(scene, backend, version, &options())
}

fn options() -> SnapshotOptions {
    SnapshotOptions {
        host: "test".into(),
        ..SnapshotOptions::default()
    }
}

fn take_with(
    scene: &Scene,
    backend: Arc<dyn Backend>,
    version: u32,
    options: &SnapshotOptions,
) -> Result<(), String> {
    let repository = said(scene.open_at(backend))?;
    let report = snapshot(
        &repository,
        &mut source(version),
        options,
        &Silent::default(),
    );
    said(report).map(drop)
}

/// Some snapshot beside those that stood before holds a version.
pub(super) fn is_taken(scene: &Scene, version: u32) -> Result<(), String> {
    let repository = scene.stranger().open();
    let list = said(SnapshotList::read(&repository))?;
    let is_old = |name| scene.kept.iter().any(|known| known.manifest.name == name);
    let fresh = list.committed.iter().filter(|m| !is_old(m.name));
    let mut why = "there is no new snapshot".to_owned();
    for manifest in fresh {
        match holds(&repository, manifest, &source(version)) {
            Ok(()) => return Ok(()),
            Err(e) => why = e,
        }
    }
    Err(why)
}

fn collect(scene: &Scene, backend: Arc<dyn Backend>) -> Result<(), String> {
    let repository = said(scene.open_at(backend))?;
    match said(gc(&repository, &thorough(), &Silent::default()))?.out_of_room {
        true => Err("no room to copy".into()),
        false => Ok(()),
    }
}

/// How deep the chunk of `same` is after a gc without trouble.
fn depth_after_gc(scene: &Scene) -> u8 {
    collect(scene, Arc::new(scene.memory.clone())).unwrap();
    let repository = scene.open();
    let id = repository.keys().chunk_id(&source(0).files[&b"same"[..]]);
    let view = View::for_dry_run(&repository).unwrap();
    view.usable(&id).unwrap().unwrap().place.depth
}

fn is_tidy(scene: &Scene) -> Result<(), String> {
    let plan = said(scene.plan())?;
    match plan.planned_packs {
        0 => Ok(()),
        left => Err(format!("{left} packs could still go")),
    }
}

fn flip(bytes: &mut [u8]) {
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
}

fn stored(scene: &Scene, area: Area, name: &str) -> Vec<u8> {
    scene.memory.get(&Key::new(area, name).unwrap()).unwrap()
}

fn mend(scene: &Scene, backend: Arc<dyn Backend>) -> Result<(), String> {
    let losses = scene.repair(backend, false)?.losses;
    match losses.is_empty() {
        true => Ok(()),
        false => Err(format!("{losses:?}")),
    }
}

/// A repair that is asked what it would do has nothing to do, and all is whole.
fn is_mended(scene: &Scene) -> Result<(), String> {
    let report = scene.repair(Arc::new(scene.memory.clone()), true)?;
    if !report.done.is_empty() || !report.losses.is_empty() {
        return Err(format!("there is more to do: {report:?}"));
    }
    scene.mended().judge()
}

/// What it says is right is right; the rest it says is not.
fn restore_all(scene: &Scene, backend: Arc<dyn Backend>) -> Result<(), String> {
    let repository = said(scene.open_at(backend))?;
    let mut failed = Vec::new();
    for known in &scene.kept {
        let (report, files) = said(restored(&repository, &known.manifest))?;
        let told = report.damaged.iter().chain(&report.problems);
        failed.extend(told.map(|p| p.message.clone()));
        for (path, bytes) in &files {
            assert!(
                known.source.files.get(path) == Some(bytes),
                "a wrong file was restored"
            );
        }
        assert!(
            files.len() == known.source.files.len() || !failed.is_empty(),
            "files are missing, and nothing is said of it"
        );
    }
    match failed.is_empty() {
        true => Ok(()),
        false => Err(failed.join("; ")),
    }
}

/// Every way in which a call can be troubled.
const FAULTS: [Fault; 6] = [
    Fault::Before,
    Fault::LostAnswer,
    Fault::Full,
    Fault::Short,
    Fault::Late(2),
    Fault::Late(10_000),
];

/// What an undisturbed run leads to: bytes of all packs after a gc.
fn undisturbed(operation: &Operation, before: &Scene) -> u64 {
    let scene = before.fork();
    let backend = Arc::new(scene.memory.clone());
    (operation.run)(&scene, backend).expect("without faults it succeeds");
    (operation.is_done)(&scene).expect("without faults it is done");
    let scene = scene.mended();
    scene.judge().expect("without faults all is whole");
    scene.tidy().expect("without faults a gc leaves nothing")
}

/// Runs an operation once with calls in trouble, and judges. Answers how many calls it made and how
/// many of them were troubled.
fn try_one(
    operation: &Operation,
    before: &Scene,
    calm: u64,
    faults: &[(u64, Fault)],
) -> Result<(u64, u64), String> {
    let scene = before.fork();
    let faulty = Arc::new(Faulty::new(scene.memory.clone()));
    for (n, fault) in faults {
        faulty.fail_at(*n, *fault);
    }
    let outcome = (operation.run)(&scene, Arc::<Faulty<Memory>>::clone(&faulty));
    let (calls, hits) = (faulty.calls(), faulty.hits());
    faulty.land();
    let judged = judge_all(operation, &scene, calm, faults, outcome);
    judged.map_err(|e| format!("{hits:?}: {e}"))?;
    Ok((calls, hits.len() as u64))
}

/// What must be true whatever was in trouble.
fn judge_all(
    operation: &Operation,
    scene: &Scene,
    calm: u64,
    faults: &[(u64, Fault)],
    outcome: Result<(), String>,
) -> Result<(), String> {
    // A gc that was shown half of the names frees less. A pack whose put was not answered may stand
    // in spite of that: it is stored again under another name, and the first is left to a later gc.
    let sure = |(_, fault): &(u64, Fault)| matches!(fault, Fault::Before | Fault::Full);
    // Nor does a repair meet what it was not shown.
    let is_blind = operation.name.starts_with("gc") || operation.name.starts_with("repair");
    if outcome.is_ok() && (faults.iter().all(sure) || !is_blind) {
        (operation.is_done)(scene).map_err(|e| format!("a success that is none: {e}"))?;
    }
    let exists = scene.open_at(Arc::new(scene.memory.clone())).is_ok();
    if exists {
        scene.judge()?;
    }
    match (operation.run)(scene, Arc::new(scene.memory.clone())) {
        Err(e) if !operation.once => return Err(format!("a repeat fails: {e}")),
        _ => {}
    }
    (operation.is_done)(scene).map_err(|e| format!("after a repeat: {e}"))?;
    let scene = scene.mended();
    let left = scene.tidy()?;
    scene.judge().map_err(|e| format!("after a gc: {e}"))?;
    if left > calm + calm / 20 + 1000 {
        return Err(format!("{left} bytes stay, {calm} in a calm repository"));
    }
    Ok(())
}

/// Fails the n-th call, n = 1, 2, 3 …, in one way; answers how many calls were troubled.
fn exhaust(operation: &Operation, before: &Scene, calm: u64, fault: Fault) -> u64 {
    let mut troubled = 0;
    for n in 1.. {
        match try_one(operation, before, calm, &[(n, fault)]) {
            Ok((calls, hits)) => {
                troubled += hits;
                if calls < n {
                    break;
                }
            }
            Err(e) => panic!("{}, {fault:?} at call {n}: {e}", operation.name),
        }
    }
    troubled
}

/// The same for pairs: the n-th call, and the m-th after it.
fn exhaust_pairs(operation: &Operation, before: &Scene, calm: u64, faults: [Fault; 2]) -> u64 {
    let mut troubled = 0;
    for n in 1.. {
        for m in n + 1.. {
            match try_one(operation, before, calm, &[(n, faults[0]), (m, faults[1])]) {
                Ok((calls, _)) if calls < n => return troubled,
                Ok((calls, _)) if calls < m => break,
                Ok(_) => troubled += 1,
                Err(e) => panic!("{}, {faults:?} at calls {n}, {m}: {e}", operation.name),
            }
        }
    }
    troubled
}

fn run(operations: &[Operation]) {
    for operation in operations {
        let before = (operation.before)();
        let calm = undisturbed(operation, &before);
        let one = FAULTS.map(|fault| exhaust(operation, &before, calm, fault));
        let ways = FAULTS.iter().zip(one);
        let ways: Vec<String> = ways.map(|(fault, n)| format!("{fault:?} {n}")).collect();
        println!("{}: calls troubled: {}", operation.name, ways.join(", "));
    }
}

#[test]
fn every_call_of_every_operation_in_every_kind_of_trouble() {
    let half = OPERATIONS.len() / 2;
    std::thread::scope(|scope| {
        scope.spawn(|| run(&OPERATIONS[..half]));
        run(&OPERATIONS[half..]);
    });
}

#[test]
fn two_troubles_in_a_row() {
    if !is_full() {
        return;
    }
    for operation in OPERATIONS {
        let before = (operation.before)();
        let calm = undisturbed(operation, &before);
        for faults in [
            [Fault::Before, Fault::Before],
            [Fault::LostAnswer, Fault::Before],
            [Fault::Late(2), Fault::LostAnswer],
            [Fault::Full, Fault::Full],
        ] {
            let pairs = exhaust_pairs(operation, &before, calm, faults);
            println!("{}: {faults:?}: {pairs} pairs", operation.name);
        }
    }
}

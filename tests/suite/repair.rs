//! `repair`: what each kind of damage costs and what it does not, by the binary; and `kill -9` at
//! any moment of it, after which the next one goes on.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::damage::{Harm, Patient, harm};
use crate::support::data::{self, Random, seed, small_tree};
use crate::support::{World, size};

#[test]
fn what_has_a_copy_comes_back() {
    let patient = Patient::new();
    let world = &patient.world;
    let is_slot = |p: &PathBuf| p.file_name().unwrap().len() == 32;
    let mut fixed = vec![PathBuf::from("config")];
    fixed.extend(patient.objects("keys").into_iter().filter(|p| !is_slot(p)));
    fixed.push(patient.objects("index").remove(0));
    assert_eq!(fixed.len(), 4, "config, its copy, a data key, a segment");
    for object in fixed {
        for how in Harm::SOME {
            patient.heal();
            harm(&world.repository().join(&object), how);
            world.ok(["repair"]);
            patient.assert_restores();
            let again = world.ok(["repair"]).text();
            assert!(
                again.contains("nothing to repair"),
                "{object:?} {how:?}: {again}"
            );
            world.ok(["gc"]);
        }
    }
}

#[test]
fn a_repository_without_encryption_has_a_copy_of_its_config_too() {
    let world = World::empty();
    world.ok(["init", "--encryption", "none"]);
    small_tree(&world.path("src"), 1);
    world.snapshot("src");
    for how in Harm::SOME {
        harm(&world.repository().join("config"), how);
        assert!([10, 12].contains(&world.run(["snapshots"]).code()));
        world.ok(["repair", "config"]);
        world.assert_whole();
    }
}

#[test]
fn a_lost_pack_is_healed_by_the_next_snapshot() {
    let patient = Patient::young();
    let world = &patient.world;
    for pack in patient.objects("packs") {
        for how in Harm::SOME {
            patient.heal();
            let path = world.repository().join(&pack);
            harm(&path, how);
            let before = data::files(&world.repository()).len();
            let planned = world.run(["repair", "-n", "--json"]).expect(12).object();
            assert_eq!(data::files(&world.repository()).len(), before);
            let told = world.run(["repair", "--json"]).expect(12).object();
            assert_eq!(planned["losses"], told["losses"], "{pack:?} {how:?}");
            assert!(told["losses"][0]["snapshot"].is_string(), "{told}");
            // It is known: gc goes on, and keeps what may yet be of use.
            world.ok(["gc", "--force", "--max-unused", "0"]);
            assert_eq!(path.exists(), how != Harm::Remove);
            world.ok(["snapshot", "src", "--force"]);
            world.ok(["repair"]);
            world.ok(["gc", "--force", "--max-unused", "0"]);
            assert!(!path.exists());
            patient.assert_restores();
            world.ok(["restore", "latest~1:src", "older"]);
            fs::remove_dir_all(world.path("older")).unwrap();
        }
    }
}

#[test]
fn what_is_left_of_a_damaged_snapshot_is_saved() {
    let patient = Patient::new();
    let world = &patient.world;
    let largest = |p: &PathBuf| fs::metadata(world.path("whole").join(p)).unwrap().len();
    let pack = patient.objects("packs").into_iter().max_by_key(largest);
    harm(&world.repository().join(pack.unwrap()), Harm::FlipMiddle);
    let told = world.ok(["repair", "--give-up-lost"]).text();
    assert!(told.contains("bytes from byte"), "{told}");
    let snapshots = world.snapshots();
    assert_eq!(snapshots.len(), 2);
    assert!(snapshots.iter().all(|s| s["incomplete"] == true));
    world.assert_whole();
    world.ok(["restore", "latest:src", "back"]);
    let mut differ = 0;
    for file in data::files(&world.path("src")) {
        let copy = world
            .path("back")
            .join(file.strip_prefix(world.path("src")).unwrap());
        let (was, is) = (fs::read(&file).unwrap(), fs::read(&copy).unwrap());
        assert_eq!(was.len(), is.len(), "{copy:?}");
        let strange = was.iter().zip(&is).any(|(w, i)| w != i && *i != 0);
        assert!(!strange, "{copy:?} holds what never was there");
        differ += u64::from(was != is);
    }
    assert!(differ > 0, "something was lost");
    world.ok(["gc", "--force", "--max-unused", "0"]);
    world.assert_whole();
    assert!(world.ok(["repair"]).text().contains("nothing to repair"));
}

#[test]
fn a_manifest_without_a_copy_that_does_not_open_is_told_and_given_up_only_when_asked_to() {
    let patient = Patient::new();
    let world = &patient.world;
    for how in [Harm::FlipMiddle, Harm::Halve] {
        patient.heal();
        let manifest = patient.objects("snapshots").remove(0);
        harm(&world.repository().join(&manifest), how);
        let name = manifest.file_name().unwrap().to_str().unwrap();
        let copy = format!("copies/snapshots.{name}");
        fs::remove_file(world.repository().join(copy)).unwrap();
        world.run(["repair"]).expect(12);
        world.run(["gc"]).expect(12);
        world.ok(["repair", "--give-up-lost"]);
        world.ok(["gc", "--force"]);
        assert_eq!(world.snapshots().len(), 1);
        world.assert_whole();
    }
}

#[test]
fn another_slot_opens_when_one_is_damaged() {
    let patient = Patient::new();
    let world = &patient.world;
    let mut slot = patient.objects("keys").into_iter();
    let slot = slot.rfind(|p| p.file_name().unwrap().len() == 32);
    let slot = world.repository().join(slot.unwrap());
    world.ok(["key", "add", "--new-key-file", "second"]);
    for how in Harm::SOME {
        let whole = fs::read(&slot).unwrap();
        harm(&slot, how);
        // The first key file opens nothing now; its slot's copy of config may be all that is hurt.
        let with = |args: &[&str]| {
            let second = world.path("second");
            world.call(args).env("HUCHA_KEY_FILE", second).run()
        };
        let code = with(&["repair"]).code();
        assert!([0, 12].contains(&code), "{how:?}: {code}");
        with(&["restore", "latest", "back", "--overwrite", "always"]);
        with(&["check", "--read-data"]);
        fs::write(&slot, whole).unwrap();
    }
    let ran = world.ok(["repair"]).text();
    assert!(ran.contains("nothing to repair"), "{ran}");
}

#[test]
fn a_damaged_slot_is_listed_and_removed_but_never_the_last_that_opens() {
    let world = World::new();
    let added = world.object(["key", "add", "--new-key-file", "second"]);
    let id = added["id"].as_str().unwrap();
    let mut slot = data::files(&world.repository().join("keys")).into_iter();
    let slot = slot.rfind(|p| p.ends_with(id)).unwrap();
    let keys = || world.ok(["key", "list", "--json"]).json();
    assert!(keys().iter().all(|key| key["damaged"] == false));
    harm(&slot, Harm::Halve);
    let told = world.run(["repair", "--json"]).expect(12).object();
    let hint = told["losses"][0]["hint"].as_str().unwrap();
    assert!(
        hint.contains(&format!("hucha key remove {}", &id[..8])),
        "{hint}"
    );
    let (damaged, whole): (Vec<_>, Vec<_>) = keys().into_iter().partition(|k| k["damaged"] == true);
    assert_eq!((damaged.len(), whole.len()), (1, 1));
    assert_eq!(damaged[0]["id"], id);
    assert!(damaged[0]["kind"].is_null() && damaged[0]["label"].is_null());
    assert!(world.ok(["key", "list"]).text().contains("damaged"));
    // The one that is damaged opens nothing: it is not what is left.
    let last = whole[0]["id"].as_str().unwrap();
    assert_ne!(world.run(["key", "remove", last]).code(), 0);
    world.ok(["key", "remove", &id[..8]]);
    assert!(!slot.exists());
    assert_eq!(keys().len(), 1);
    assert!(world.ok(["repair"]).text().contains("nothing to repair"));
    world.ok(["key", "add", "--new-key-file", "third"]);
    world.ok(["key", "remove", last]);
}

/// Damages several things at once, then kills repair at random moments until one is through.
#[test]
fn repair_goes_on_after_kills() {
    let patient = Patient::new();
    let world = &patient.world;
    let mut random = Random(seed("repair_goes_on_after_kills"));
    for round in 0..size(2, 20) {
        patient.heal();
        for area in ["index", "packs"] {
            let all = patient.objects(area);
            let chosen = &all[random.below(all.len() as u64) as usize];
            harm(
                &world.repository().join(chosen),
                Harm::SOME[(round % 3) as usize],
            );
        }
        harm(&world.repository().join("keys/config"), Harm::FlipMiddle);
        let begun = Instant::now();
        let whole = world.path("undisturbed");
        data::copy_folder(&world.repository(), &whole);
        let mut call = world.call(["repair", "-r", "undisturbed"]);
        call = call.arg("--give-up-lost");
        call.run().expect(0);
        let took = begun.elapsed();
        fs::remove_dir_all(&whole).unwrap();
        for _ in 0..size(4, 15) {
            let mut running = world.call(["repair", "--give-up-lost"]).start();
            let wait = Duration::from_micros(random.below(took.as_micros() as u64));
            if !running.ends_within(wait) {
                running.signal(Signal::KILL);
            }
            running.wait();
        }
        world.ok(["repair", "--give-up-lost"]);
        world.assert_whole();
        world.ok(["gc", "--force", "--max-unused", "0"]);
        world.assert_whole();
        let left = world.objects("sessions").len() + world.objects("gc").len();
        assert_eq!(left, 0, "one gc clears everything away");
        assert_eq!(world.snapshots().len(), 2);
    }
}

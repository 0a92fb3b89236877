//! Damaged objects: exit code 12 and a message that names them; what is whole is restored; nothing
//! panics (that is asserted for every call of the suite).

mod after;
mod parts;
mod table;

use std::fs;
use std::path::PathBuf;

use crate::support::damage::{Harm, Patient, harm, name_of};
use crate::support::data;

#[test]
fn a_damaged_pack_is_found_and_the_rest_restored() {
    let patient = Patient::new();
    let world = &patient.world;
    for pack in patient.objects("packs") {
        for way in Harm::ALL {
            patient.heal();
            harm(&world.repository().join(&pack), way);
            let told = world.run(["check", "--read-data"]).expect(12);
            let all = told.text() + &told.stderr;
            // A missing pack is told by what it held.
            let named = all.contains(&name_of(&pack)[..8]) || all.contains("chunk ");
            assert!(named || all.contains("page "), "{way:?}: {all}");
            let ran = world.run(["restore", "latest", "back"]);
            let missing = patient.missing();
            assert!([0, 12].contains(&ran.code()), "{way:?}: {}", ran.stderr);
            assert_eq!(
                ran.code() == 12,
                !missing.is_empty(),
                "{way:?}: {missing:?}"
            );
        }
    }
}

#[test]
fn one_damaged_file_leaves_the_others_whole() {
    let patient = Patient::new();
    let world = &patient.world;
    patient.heal();
    // The pack of the second snapshot's data holds one file only.
    let first: Vec<PathBuf> = patient.objects("packs");
    let size = |p: &PathBuf| fs::metadata(world.path("whole").join(p)).unwrap().len();
    let only = first
        .iter()
        .find(|p| (300_000..400_000).contains(&size(p)))
        .unwrap();
    harm(&world.repository().join(only), Harm::FlipMiddle);
    let ran = world
        .run(["restore", "latest", "back", "--json"])
        .expect(12);
    assert_eq!(patient.missing(), [PathBuf::from("a/more")]);
    assert_eq!(ran.object()["damaged"][0]["path"], "src/a/more");
    world.run(["cat", "latest:src/a/more"]).expect(12);
    assert!(world.ok(["cat", "latest:src/a/small"]).stdout.len() == 5_000);
    let told = world.run(["check", "--read-data"]).expect(12).text();
    assert!(told.contains("src/a/more"), "{told}");
    // The next snapshot stores it again when it reads it, and heals nothing less.
    world.ok(["restore", "latest~1", "older"]);
    assert!(!world.path("older/src/a/more").exists());
}

#[test]
fn a_damaged_segment_is_named() {
    let patient = Patient::new();
    let world = &patient.world;
    for segment in patient.objects("index") {
        for way in Harm::ALL {
            patient.heal();
            harm(&world.repository().join(&segment), way);
            let told = world.run(["check"]).expect(12);
            let all = told.text() + &told.stderr;
            if !matches!(way, Harm::Remove) {
                assert!(all.contains(&name_of(&segment)[..8]), "{way:?}: {all}");
            }
            let code = world.run(["restore", "latest", "back"]).code();
            assert_eq!(code, 12, "{way:?}");
            patient.missing();
            // gc deletes nothing of a repository that it cannot read.
            let before = data::files(&world.repository().join("packs"));
            let gc = world.run(["gc", "--force", "--max-unused", "0"]);
            assert_eq!(gc.code(), 12, "{way:?}: {}{}", gc.text(), gc.stderr);
            assert_eq!(
                before,
                data::files(&world.repository().join("packs")),
                "{way:?}"
            );
        }
    }
}

#[test]
fn a_lost_manifest_is_named_and_comes_back_from_its_copy() {
    let patient = Patient::new();
    let world = &patient.world;
    for manifest in patient.objects("snapshots") {
        for way in Harm::ALL {
            patient.heal();
            harm(&world.repository().join(&manifest), way);
            let told = world.run(["check"]).expect(12);
            let all = told.text() + &told.stderr;
            assert!(all.contains(&name_of(&manifest)[..8]), "{way:?}: {all}");
            assert_eq!(world.ok(["snapshots", "--json"]).json().len(), 2);
            let restored = world.ok(["restore", "latest", "back"]);
            assert!(restored.stderr.contains("hucha repair"), "{way:?}");
            assert!(patient.missing().is_empty());
            let gc = world.run(["gc", "--force", "--max-unused", "0"]).code();
            assert_eq!(gc == 12, matches!(way, Harm::Remove), "{way:?}: {gc}");
            world.ok(["repair"]);
            assert_eq!(world.snapshots().len(), 2);
            world.ok(["gc", "--force", "--max-unused", "0"]);
            world.assert_whole();
        }
    }
}

#[test]
fn a_damaged_manifest_without_a_copy_is_named_and_stops_gc() {
    let patient = Patient::new();
    let world = &patient.world;
    for manifest in patient.objects("snapshots") {
        for way in [Harm::FlipMiddle, Harm::Halve] {
            patient.heal();
            harm(&world.repository().join(&manifest), way);
            let copy = format!("copies/snapshots.{}", name_of(&manifest));
            harm(&world.repository().join(copy), Harm::Remove);
            let told = world.run(["check"]).expect(12);
            let all = told.text() + &told.stderr;
            assert!(all.contains(&name_of(&manifest)[..8]), "{way:?}: {all}");
            let listed = world.run(["snapshots", "--json"]).expect(12);
            assert_eq!(listed.json().len(), 1, "the other is shown");
            world.run(["gc", "--force", "--max-unused", "0"]).expect(12);
            world.run(["restore", "latest", "back"]).expect(0);
        }
    }
}

#[test]
fn a_damaged_key_slot_is_told_and_never_a_wrong_key_opens() {
    let patient = Patient::new();
    let world = &patient.world;
    for slot in patient.objects("keys") {
        for way in Harm::ALL {
            patient.heal();
            harm(&world.repository().join(&slot), way);
            for args in [&["snapshots"][..], &["check"], &["snapshot", "src"]] {
                let ran = world.run(args);
                // Copies of data keys stand in every pack: the repository may well work without.
                let fine = [0, 11, 12].contains(&ran.code());
                assert!(
                    fine,
                    "{way:?} {slot:?} {args:?}: {} {}",
                    ran.code(),
                    ran.stderr
                );
            }
        }
    }
}

#[test]
fn a_damaged_config_is_told() {
    let patient = Patient::new();
    let world = &patient.world;
    for way in Harm::ALL {
        patient.heal();
        harm(&world.repository().join("config"), way);
        for args in [
            &["snapshots"][..],
            &["check"],
            &["gc"],
            &["restore", "latest", "back"],
        ] {
            let ran = world.run(args);
            // A copy of it stands in every key slot.
            let codes: &[i32] = if matches!(way, Harm::Remove) {
                &[0, 10, 12]
            } else {
                &[0, 12]
            };
            let fine = codes.contains(&ran.code());
            assert!(fine, "{way:?} {args:?}: {} {}", ran.code(), ran.stderr);
        }
        let init = world.run(["init", "--encryption", "none"]).code();
        assert!(
            [1, 12].contains(&init),
            "{way:?}: a second repository over the first: {init}"
        );
    }
}

#[test]
fn a_damaged_session_stops_nobody() {
    let patient = Patient::new();
    let world = &patient.world;
    for way in Harm::ALL {
        patient.heal();
        let mut running = world.call(["snapshot", "-"]).open_stdin().start();
        running.feed(&[1; 1000]);
        // It stands when it has begun to read; wait for it.
        let sessions = || world.objects("sessions");
        while sessions().is_empty() && !running.ends_within(std::time::Duration::from_millis(2)) {}
        let session = sessions().remove(0);
        running.signal(rustix::process::Signal::KILL);
        assert_eq!(running.wait().code(), -9);
        harm(&session, way);
        world.ok(["snapshot", "src"]);
        world.ok(["restore", "latest", "back"]);
        let gc = world.run(["gc"]);
        assert!([0, 12].contains(&gc.code()), "{way:?}: {}", gc.stderr);
        assert!(patient.missing().is_empty());
        assert!(
            [0, 12].contains(&world.run(["check", "--read-data"]).code()),
            "{way:?}"
        );
    }
}

#[test]
fn strange_files_in_the_repository_are_left_alone() {
    let patient = Patient::new();
    let world = &patient.world;
    patient.heal();
    let strangers = [
        ".DS_Store",
        "packs/Thumbs.db",
        "index/README",
        "sessions/x",
        "letter",
    ];
    for name in strangers {
        fs::write(world.repository().join(name), "x").unwrap();
    }
    fs::create_dir(world.repository().join("lost+found")).unwrap();
    world.ok(["snapshot", "src"]);
    world.ok(["forget", "--keep-last", "1"]);
    world.ok(["gc", "--max-unused", "0"]);
    world.assert_whole();
    for name in strangers {
        assert!(world.repository().join(name).exists(), "{name}");
    }
}

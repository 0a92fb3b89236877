//! The binary: the commands of docs/guide/firestore.md as they stand there, and what a run leaves.

use super::*;
use crate::support::World;
use hucha_tests::fakes::firestore::{Faults, key};

#[test]
fn the_guide_holds_what_it_says() {
    let fake = Fake::start(Guard::Emulator);
    fill(&fake, SHOP);
    let page = format!("{}/../docs/guide/firestore.md", env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(page).unwrap();
    let blocks = page.split("```sh\n").skip(1);
    let script: String = blocks
        .map(|block| block.split("```").next().unwrap())
        .collect();
    assert!(script.lines().count() >= 7, "{script}");
    let world = World::new();
    let line =
        format!("mkdir bin; ln -s $hucha bin/hucha; PATH=$PWD/bin:$PATH\nset -eux\n{script}");
    let ran = world
        .bash(&line)
        .env("FIRESTORE_EMULATOR_HOST", fake.address())
        .run()
        .expect(0);
    assert!(ran.text().contains("firestore"), "{}", ran.text());
    let mut all = fake.documents("projects/shop-test/databases/(default)/documents");
    all.retain(|(name, _)| !name.starts_with("companies/"));
    assert!(all.is_empty(), "{all:?}");
    let copy = fake.documents("projects/shop-test/databases/copy/documents");
    assert_eq!(copy.len(), fake.documents(SHOP).len());
}

#[test]
fn a_failure_leaves_no_snapshot_and_no_secret() {
    let fake = Fake::start(Guard::Account);
    fill(&fake, SHOP);
    let world = World::new();
    std::fs::write(world.path("key.json"), credentials(&fake.address())).unwrap();
    let address = format!(
        "firestore://shop?endpoint=http://{}&page_size=5",
        fake.address()
    );
    let call = || {
        let key = world.path("key.json");
        let call = world.call(["snapshot", "--source", &address]);
        call.env("GOOGLE_APPLICATION_CREDENTIALS", key).run()
    };
    for (faults, part) in [
        (
            Faults {
                deny: true,
                ..Faults::default()
            },
            "roles/datastore.viewer",
        ),
        (
            Faults {
                lose_document: true,
                ..Faults::default()
            },
            "service counts",
        ),
        (
            Faults {
                wrong_type: true,
                ..Faults::default()
            },
            "integerValue",
        ),
        (
            Faults {
                no_tokens: true,
                ..Faults::default()
            },
            "gets no token",
        ),
    ] {
        fake.fail(faults);
        let ran = call().expect(1).says(part);
        let told = format!("{} {}", ran.text(), ran.stderr);
        let line = key().lines().nth(1).unwrap();
        assert!(!told.contains("ya29") && !told.contains(line), "{told}");
        assert!(world.snapshots().is_empty());
    }
    fake.fail(Faults::default());
    call().expect(0);
    assert_eq!(world.snapshots().len(), 1);
    let before = world.objects("packs").len();
    call().expect(0);
    assert_eq!(
        world.objects("packs").len(),
        before,
        "the same bytes take no room"
    );
    world.assert_whole();
}

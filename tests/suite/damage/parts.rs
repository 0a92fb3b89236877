//! Checks that read a part of the data: what they say, and that several of them read all.

use std::fs;

use super::{Harm, harm};
use crate::support::World;
use crate::support::data::Random;

/// A repository with two packs for each of four snapshots.
fn world() -> World {
    let world = World::new();
    fs::create_dir(world.path("src")).unwrap();
    for night in 0..4u64 {
        let file = world.path("src").join(night.to_string());
        fs::write(file, Random(night).bytes(30_000)).unwrap();
        world.snapshot("src");
    }
    assert_eq!(world.objects("packs").len(), 8);
    world
}

#[test]
fn parts_by_name_make_up_the_whole() {
    let world = world();
    let mut sum = 0;
    for part in ["1/3", "2/3", "3/3"] {
        let report = world.object(["check", "--read-data-subset", part]);
        assert_eq!(
            (&report["level"], &report["subset"]),
            (&"data".into(), &part.into())
        );
        sum += report["packs_read"].as_u64().unwrap();
    }
    assert_eq!(sum, 8);
}

#[test]
fn a_share_says_how_much_it_read() {
    let world = world();
    let told = world.ok(["check", "--read-data-subset", "1%"]);
    let all = told.text() + &told.stderr;
    assert!(
        all.contains("8 packs, ") && all.contains(" of them read: "),
        "{all}"
    );
    assert!(all.contains("what was read is well"), "{all}");
    let told = world.ok(["check", "--read-data-subset", "1G"]);
    let all = told.text() + &told.stderr;
    assert!(all.contains("(100.0 %); all is well"), "{all}");
    for wrong in ["0%", "101%", "3/2", "0/2", "x", ""] {
        world.run(["check", "--read-data-subset", wrong]).expect(2);
    }
    world
        .run(["check", "--level", "structure", "--read-data"])
        .expect(2);
    world.ok(["check", "--level", "index"]);
}

#[test]
fn a_check_without_time_reads_one_pack_more_each_night() {
    let world = world();
    let no_time = || world.call(["check", "--budget", "0s", "--json"]).run();
    for _ in 0..8 {
        assert_eq!(no_time().expect(0).object()["packs_read"], 1);
    }
    // All were read once: now those that were read longest ago come first, and a new one before.
    let packs = world.objects("packs");
    fs::write(world.path("src/new"), Random(9).bytes(30_000)).unwrap();
    world.snapshot("src");
    let mut new = world.objects("packs");
    new.retain(|pack| !packs.contains(pack));
    let size = |pack: &std::path::PathBuf| fs::metadata(pack).unwrap().len();
    let largest = new.iter().max_by_key(|pack| size(pack)).unwrap();
    harm(largest, Harm::FlipMiddle);
    let found = (0..2).map(|_| no_time()).find(|ran| ran.code() == 12);
    let report = found.expect("two new packs, two nights").object();
    assert_eq!(report["damage"][0]["files"], serde_json::json!(["src/new"]));
    // What is bad is read first every night, until it is repaired.
    for _ in 0..3 {
        no_time().expect(12);
    }
}

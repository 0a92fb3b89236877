//! Restores: into another project, over what is there, in the three ways, and those that fail.

use super::*;
use hucha_sources::database::{Cause, Part};
use hucha_tests::fakes::firestore::Faults;

fn options(merge: Merge, tables: &[&str]) -> RestoreOptions {
    RestoreOptions {
        merge,
        tables: tables.iter().map(|t| (*t).to_owned()).collect(),
        ..RestoreOptions::default()
    }
}

#[test]
fn another_project_gets_the_same_with_its_own_references() {
    let scene = scene();
    fill(&scene.fake, SHOP);
    let taken = take("firestore://shop", &scene.context).unwrap();
    let other = database("firestore://other/copy");
    let error = other.verify(&taken, &scene.context).unwrap_err();
    assert_eq!(error.cause, Cause::Differs);
    let restored = other
        .restore(&taken, &options(Merge::NewOnly, &[]), &scene.context)
        .unwrap();
    assert_eq!(restored.name, "firestore://other/copy");
    assert_eq!(restored.rows, 98);
    assert!(restored.warnings.is_empty(), "{:?}", restored.warnings);
    let mut ana = scene.fake.documents(OTHER);
    ana.retain(|(name, _)| name == "users/ana");
    assert_eq!(ana[0].1, every_type(OTHER));
    assert_eq!(
        scene.fake.documents(OTHER).len(),
        scene.fake.documents(SHOP).len()
    );
    let again = take("firestore://other/copy", &scene.context).unwrap();
    assert_eq!(
        again.text("companies.ndjson"),
        taken.text("companies.ndjson")
    );
    assert_eq!(
        again.text("users.ndjson"),
        taken.text("users.ndjson").replace(SHOP, OTHER)
    );
    assert_eq!(other.verify(&taken, &scene.context).unwrap().rows, 98);
    scene
        .fake
        .write(OTHER, &[("companies/c00", Some(number(77)))]);
    let error = other.verify(&taken, &scene.context).unwrap_err();
    assert!(error.what.contains("companies/c00 is another"), "{error}");
    scene.fake.write(
        OTHER,
        &[
            ("companies/c00", Some(number(0))),
            ("users/x", Some(number(0))),
        ],
    );
    let error = other.verify(&taken, &scene.context).unwrap_err();
    assert!(error.what.contains("users/x is not stored"), "{error}");
}

#[test]
fn what_is_there_is_kept_overwritten_or_mirrored() {
    for merge in [Merge::NewOnly, Merge::Overwrite, Merge::Mirror] {
        let scene = scene();
        fill(&scene.fake, SHOP);
        let taken = take("firestore://shop", &scene.context).unwrap();
        let before = scene.fake.documents(SHOP);
        scene.fake.write(
            SHOP,
            &[
                ("companies/c01", Some(number(-1))),
                ("companies/c02", None),
                ("companies/c03", Some(number(-3))),
                ("later/x", Some(number(-4))),
            ],
        );
        scene.fake.calls();
        let shop = database("firestore://shop");
        let restored = shop
            .restore(&taken, &options(merge, &[]), &scene.context)
            .unwrap();
        let writes: usize = scene.fake.calls().iter().map(|call| call.writes).sum();
        let now = scene.fake.documents(SHOP);
        let at = |name: &str| now.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
        let mine = if merge == Merge::NewOnly {
            number(-1)
        } else {
            number(1)
        };
        assert_eq!(at("companies/c01"), Some(mine), "{merge:?}");
        assert_eq!(at("companies/c02"), Some(number(2)), "{merge:?}");
        let is_gone = merge == Merge::Mirror;
        assert_eq!(at("companies/c03").is_none(), is_gone, "{merge:?}");
        assert_eq!(at("later/x").is_none(), is_gone, "{merge:?}");
        let (expected, warning) = match merge {
            Merge::NewOnly => (1, "97 documents were there already"),
            Merge::Overwrite => (2, ""),
            Merge::Mirror => (4, "2 documents that are not stored were deleted"),
        };
        assert_eq!(writes, expected, "only what differs is written: {merge:?}");
        let warnings = restored.warnings.concat();
        assert!(warnings.contains(warning), "{merge:?}: {warnings}");
        assert_eq!(now == before, merge == Merge::Mirror, "{merge:?}");
    }
}

#[test]
fn some_collections_come_back_and_a_mirror_of_some_deletes_nothing_else() {
    let scene = scene();
    fill(&scene.fake, SHOP);
    let taken = take("firestore://shop", &scene.context).unwrap();
    let some = take("firestore://shop?collections=users", &scene.context).unwrap();
    let other = database("firestore://other/copy");
    let wanted = options(Merge::NewOnly, &["companies/*/items", "users"]);
    let restored = other.restore(&taken, &wanted, &scene.context).unwrap();
    assert_eq!((restored.tables, restored.rows), (3, 74));
    let there = scene.fake.documents(OTHER);
    assert!(
        there
            .iter()
            .all(|(name, _)| name.contains("/items/") || name.starts_with("users/"))
    );
    let error = other.restore(&taken, &options(Merge::NewOnly, &["user"]), &scene.context);
    assert!(
        error
            .unwrap_err()
            .in_one()
            .contains("no collection \"user\"")
    );
    other
        .restore(&some, &options(Merge::Mirror, &[]), &scene.context)
        .unwrap();
    assert_eq!(scene.fake.documents(OTHER), there);
    scene.fake.write(OTHER, &[("users/x", Some(number(1)))]);
    other
        .restore(&taken, &options(Merge::Mirror, &["users"]), &scene.context)
        .unwrap();
    assert_eq!(scene.fake.documents(OTHER), there);
    let schema = RestoreOptions {
        part: Part::Schema,
        ..RestoreOptions::default()
    };
    assert!(other.restore(&taken, &schema, &scene.context).is_err());
}

/// More documents than a request takes.
fn many(fake: &Fake, count: usize) {
    for i in 0..count {
        fake.write(SHOP, &[(&format!("many/d{i:05}"), Some(number(1)))]);
    }
}

#[test]
fn many_documents_go_in_batches_although_answers_get_lost() {
    let scene = scene();
    many(&scene.fake, 1201);
    let taken = take("firestore://shop", &scene.context).unwrap();
    scene.fake.calls();
    scene.fake.fail(Faults {
        lose_answers: 1,
        busy: 2,
        cut: 1,
        ..Faults::default()
    });
    let other = database("firestore://other/copy");
    let restored = other
        .restore(&taken, &options(Merge::NewOnly, &[]), &scene.context)
        .unwrap();
    assert_eq!(restored.rows, 1201);
    assert!(restored.warnings.is_empty(), "{:?}", restored.warnings);
    let calls = scene.fake.calls();
    let commits: Vec<_> = calls
        .iter()
        .filter(|call| call.method == "commit")
        .collect();
    assert!(commits.iter().all(|call| call.writes <= 500));
    assert!(
        commits.iter().any(|call| call.code == 409),
        "the lost one was tried again"
    );
    assert_eq!(scene.fake.documents(OTHER).len(), 1201);
}

#[test]
fn a_restore_that_fails_takes_away_what_it_made_and_nothing_else() {
    let scene = scene();
    many(&scene.fake, 1201);
    let taken = take("firestore://shop", &scene.context).unwrap();
    let mine = [
        ("many/d00001", Some(number(5))),
        ("mine/x", Some(number(6))),
    ];
    scene.fake.write(OTHER, &mine);
    let before = scene.fake.documents(OTHER);
    let other = database("firestore://other/copy");
    let denied = Faults {
        deny_commits_after: Some(2),
        ..Faults::default()
    };
    scene.fake.fail(denied.clone());
    let error = other
        .restore(&taken, &options(Merge::NewOnly, &[]), &scene.context)
        .unwrap_err();
    assert_eq!(error.cause, Cause::Denied);
    assert!(
        error.in_one().contains("roles/datastore.user"),
        "{}",
        error.in_one()
    );
    let commits = scene
        .fake
        .calls()
        .iter()
        .filter(|c| c.method == "commit" && c.code == 200)
        .count();
    assert!(commits >= 4, "two that wrote, two that took it back");
    assert_eq!(scene.fake.documents(OTHER), before);
    scene.fake.fail(denied);
    let error = other.restore(&taken, &options(Merge::Overwrite, &[]), &scene.context);
    let told = error.unwrap_err().in_one();
    assert!(
        told.contains("1000 documents were written and 0 deleted"),
        "{told}"
    );
    assert_eq!(
        std::fs::read_dir(scene._keep.path().join("scratch"))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn a_damaged_stream_is_no_database() {
    let scene = scene();
    fill(&scene.fake, SHOP);
    let taken = take("firestore://shop", &scene.context).unwrap();
    let other = database("firestore://other/copy");
    for harm in 0..3 {
        let mut bad = taken.clone();
        let users = bad.bytes.get_mut("users.ndjson").unwrap();
        match harm {
            0 => users.truncate(users.len() - 1),
            1 => users[0] = b'?',
            _ => {
                // A whole line is gone: only the count tells.
                let end = users.iter().position(|c| *c == b'\n').unwrap();
                users.drain(..=end);
            }
        }
        assert!(
            other
                .restore(&bad, &options(Merge::NewOnly, &[]), &scene.context)
                .is_err()
        );
        assert!(scene.fake.documents(OTHER).is_empty(), "{harm}");
    }
    let mut sqlite = taken.clone();
    sqlite.member.kind = "sqlite".into();
    let error = other.restore(&sqlite, &options(Merge::NewOnly, &[]), &scene.context);
    assert!(error.unwrap_err().what.contains("is a sqlite database"));
}

/// Nobody keeps others from writing into a database that is restored.
#[test]
fn what_others_write_meanwhile_is_told_and_undoes_nothing() {
    let scene = scene();
    many(&scene.fake, 1201);
    let taken = take("firestore://shop", &scene.context).unwrap();
    scene.fake.fail(Faults {
        meddle_after: Some((2, "many/d00003")),
        ..Faults::default()
    });
    let other = database("firestore://other/copy");
    let error = other
        .restore(&taken, &options(Merge::NewOnly, &[]), &scene.context)
        .unwrap_err();
    let told = error.in_one();
    assert_eq!(error.cause, Cause::Differs, "{told}");
    for part in ["many/d00003 is another", "1201 documents", "stays"] {
        assert!(told.contains(part), "{told}");
    }
    assert_eq!(scene.fake.documents(OTHER).len(), 1201);
}

/// The service forgets a moment after an hour, and a restore may take longer than that.
#[test]
fn each_collection_is_compared_at_a_moment_of_its_own() {
    let scene = scene();
    fill(&scene.fake, SHOP);
    let taken = take("firestore://shop", &scene.context).unwrap();
    scene.fake.calls();
    let other = database("firestore://other/copy?page_size=5");
    other
        .restore(&taken, &options(Merge::NewOnly, &[]), &scene.context)
        .unwrap();
    let calls = scene.fake.calls();
    let times = calls.iter().filter_map(|call| call.read_time.clone());
    let times: std::collections::BTreeSet<String> = times.collect();
    assert_eq!(times.len(), taken.streams.len(), "{times:?}");
}

#[test]
fn a_restore_reads_what_is_there_over_several_connections() {
    let scene = scene();
    fill(&scene.fake, SHOP);
    let taken = take("firestore://shop", &scene.context).unwrap();
    let other = database("firestore://other/copy?partitions=3");
    for merge in [Merge::NewOnly, Merge::Mirror] {
        let restored = other
            .restore(&taken, &options(merge, &[]), &scene.context)
            .unwrap();
        assert_eq!(restored.rows, 98);
    }
}

/// The entries of indexes count as well, so nobody knows what is too big before it was tried.
#[test]
fn batches_that_are_too_big_are_halved_and_stay_small() {
    let scene = scene();
    many(&scene.fake, 1201);
    let taken = take("firestore://shop", &scene.context).unwrap();
    scene.fake.calls();
    scene.fake.fail(Faults {
        most_writes: Some(100),
        ..Faults::default()
    });
    let other = database("firestore://other/copy");
    let restored = other
        .restore(&taken, &options(Merge::NewOnly, &[]), &scene.context)
        .unwrap();
    assert_eq!(restored.rows, 1201);
    let calls = scene.fake.calls();
    let refused = calls.iter().filter(|call| call.code == 400).count();
    assert!((1..=7).contains(&refused), "{refused} were refused");
    assert_eq!(scene.fake.documents(OTHER).len(), 1201);
    // One document that is too big alone is an error, and nothing stays.
    scene.fake.fail(Faults {
        most_writes: Some(0),
        ..Faults::default()
    });
    let none = database("firestore://none");
    let error = none
        .restore(&taken, &options(Merge::NewOnly, &[]), &scene.context)
        .unwrap_err();
    assert!(error.what.contains("too big"), "{error}");
}

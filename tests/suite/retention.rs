//! Which snapshots `forget` keeps, and why; what is said of snapshots after they were taken.

use std::fs;

use serde_json::Value;

use crate::support::World;

/// A world with a folder `src`.
fn world() -> World {
    let world = World::new();
    fs::create_dir(world.path("src")).unwrap();
    fs::write(world.path("src/a"), "text").unwrap();
    world
}

/// Takes a snapshot as of a time, and answers its id.
fn take(world: &World, time: &str, more: &[&str]) -> String {
    let mut args = vec!["snapshot", "src", "--time", time];
    args.extend(more);
    let taken = world.object(args);
    taken["id"].as_str().unwrap().to_owned()
}

/// What a policy says: the dates that it keeps, oldest first, with the reasons.
fn judge(world: &World, rules: &[&str]) -> Vec<String> {
    let mut args = vec!["forget", "--dry-run", "--json"];
    args.extend(rules);
    let verdicts = world.ok(args).json();
    let kept = verdicts.iter().filter(|v| v["keep"] == true);
    let words = |v: &Value| {
        let reasons = v["reasons"].as_array().unwrap().iter();
        let reasons: Vec<&str> = reasons.map(|r| r.as_str().unwrap()).collect();
        let time = v["time"].as_str().unwrap().get(..10).unwrap();
        format!("{time} {}", reasons.join("+"))
    };
    kept.map(words).collect()
}

fn tags(snapshot: &Value) -> Vec<&str> {
    let tags = snapshot["tags"].as_array().unwrap().iter();
    tags.map(|t| t.as_str().unwrap()).collect()
}

#[test]
fn twelve_sundays_as_the_page_says() {
    let world = world();
    for (month, days) in [
        ("09", &[1, 8, 15, 22, 29][..]),
        ("10", &[6, 13, 20, 27]),
        ("11", &[3, 10, 17]),
    ] {
        for day in days {
            take(&world, &format!("2019-{month}-{day:02}T11:00:00"), &[]);
        }
    }
    let daily = ["2019-10-27", "2019-11-03", "2019-11-10", "2019-11-17"];
    let daily = daily.map(|day| format!("{day} daily"));
    assert_eq!(judge(&world, &["-d", "4"]), daily);
    assert_eq!(
        judge(&world, &["--keep-daily", "1", "--keep-yearly", "3"]),
        ["2019-09-01 oldest yearly", "2019-11-17 daily+yearly"]
    );
    let within = ["2019-11-10 within 14d", "2019-11-17 within 14d"];
    assert_eq!(judge(&world, &["--keep-within", "14d"]), within);
    assert_eq!(judge(&world, &["--keep-weekly", "-1"]).len(), 12);
    assert_eq!(judge(&world, &["-l", "unlimited"]).len(), 12);
    // What is done is what was said.
    let done = world
        .ok(["forget", "--keep-daily", "4", "--gc", "--json"])
        .json();
    assert_eq!(done.len(), 13, "12 verdicts and what gc did");
    assert_eq!(done.last().unwrap()["type"], "gc");
    assert_eq!(done.last().unwrap()["snapshots_removed"], 8);
    assert_eq!(world.snapshots().len(), 4);
    let text = world.ok(["forget", "--keep-last", "1", "--dry-run"]).text();
    assert!(text.contains("would forget 3 snapshots"), "{text}");
    assert!(text.contains("keep") && text.contains("last"), "{text}");
    world.assert_whole();
}

#[test]
fn what_says_nothing_or_too_much_is_refused() {
    let world = world();
    let id = take(&world, "2026-01-01", &["--tag", "x"]);
    for args in [
        &["forget"][..],
        &["forget", "--keep-last", "0"],
        &[
            "forget",
            "--keep-daily",
            "0",
            "--keep-weekly",
            "0",
            "--host",
            "till",
        ],
        &["forget", "--keep-daily", "-2"],
        &["forget", "--keep-within", "1w"],
        &["forget", "--group-by", "hosst", "--keep-last", "1"],
        &["forget", "--keep-last", "1", &id],
        &["forget", "--unsafe-allow-remove-all"],
        &["forget", "--keep-last", "1", "--time", "soon"],
        &["tag", &id],
        &["protect"],
    ] {
        world.run(args).expect(2);
    }
    assert_eq!(world.snapshots().len(), 1);
    // No rule takes the last one of a group.
    assert_eq!(
        judge(&world, &["--keep-tag", "y"]),
        ["2026-01-01 last complete"]
    );
    world.ok(["forget", "--tag", "x", "--unsafe-allow-remove-all"]);
    assert!(world.snapshots().is_empty());
}

#[test]
fn incomplete_snapshots_take_nobodys_place() {
    let world = world();
    for day in 1..=4 {
        take(&world, &format!("2026-01-{day:02}"), &[]);
    }
    // One of two paths is missing: the snapshot is there, and incomplete.
    let args = ["snapshot", "src", "nowhere", "--time", "2026-01-05"];
    world.run(args).expect(3);
    let groups = ["--group-by", "host", "--keep-last", "2"];
    assert_eq!(
        judge(&world, &groups),
        ["2026-01-03 last", "2026-01-04 last", "2026-01-05 last"]
    );
}

#[test]
fn tags_and_labels_change_and_filters_and_policies_see_it() {
    let world = world();
    let first = take(&world, "2026-01-01", &["--tag", "old,nightly"]);
    let second = take(&world, "2026-01-02", &["--tag", "nightly"]);
    let stored = world.objects("snapshots");
    world.ok(["tag", "--remove", "old", "--add", "keep,best", &first]);
    world.ok(["tag", "--label", "after the move", "latest"]);
    let shown = world.snapshots();
    assert_eq!(tags(&shown[0]), ["best", "keep", "nightly"]);
    assert_eq!(shown[1]["label"], "after the move");
    assert_eq!(
        world.objects("snapshots"),
        stored,
        "no manifest is rewritten"
    );
    let filtered = world
        .ok(["snapshots", "--json", "--tag", "keep,best"])
        .json();
    assert_eq!(filtered.len(), 1);
    assert_eq!(filtered[0]["id"], *first);
    assert!(
        world
            .ok(["snapshots", "--json", "--tag", "old"])
            .json()
            .is_empty()
    );
    let named = world.ok(["ls", "latest", "--tag", "keep", "--json"]).json();
    assert_eq!(named.len(), 1);
    let kept = judge(&world, &["--keep-tag", "keep", "--keep-last", "1"]);
    assert_eq!(kept, ["2026-01-01 tags keep", "2026-01-02 last"]);
    // All that the filters let pass; a dry run changes nothing.
    world.ok(["tag", "--set", "", "--tag", "nightly", "--dry-run"]);
    assert_eq!(tags(&world.snapshots()[1]), ["nightly"]);
    let changed = world
        .ok(["tag", "--set", "", "--tag", "nightly", "--json"])
        .json();
    assert_eq!(changed.len(), 2);
    assert!(world.snapshots().iter().all(|s| tags(s).is_empty()));
    let untagged = world.ok(["snapshots", "--json", "--tag", ""]).json();
    assert_eq!(untagged.len(), 2);
    assert!(
        world
            .ok(["tag", "--remove", "x", "--json"])
            .json()
            .is_empty()
    );
    // They stay with the snapshot when it is forgotten and taken back.
    world.ok(["tag", "--set", "again", &second]);
    world.ok(["forget", &second]);
    world.ok(["undelete", &second]);
    assert_eq!(tags(&world.snapshots()[1]), ["again"]);
    assert_eq!(world.snapshots()[1]["label"], "after the move");
}

#[test]
fn protected_snapshots_stay_until_that_is_lifted() {
    let world = world();
    let first = take(&world, "2026-01-01", &[]);
    let second = take(&world, "2026-01-02", &[]);
    take(&world, "2026-01-03", &[]);
    world.ok(["protect", &first]);
    assert_eq!(world.snapshots()[0]["protected"], true);
    let kept = judge(&world, &["--keep-last", "1"]);
    assert_eq!(kept, ["2026-01-01 protected", "2026-01-03 last"]);
    let refused = world.run(["forget", &second, &first]);
    refused.expect(1).says("is protected");
    assert_eq!(world.snapshots().len(), 3, "neither is forgotten");
    assert!(world.ok(["snapshots"]).text().contains("protected"));
    world.ok(["forget", "--host", "nowhere", "--unsafe-allow-remove-all"]);
    world.ok(["unprotect", &first]);
    world.ok(["forget", &first]);
    assert_eq!(world.snapshots().len(), 2);
}

#[test]
fn lists_by_group_and_the_latest_of_each() {
    let world = world();
    for (time, host) in [
        ("2026-01-01", "a"),
        ("2026-01-02", "b"),
        ("2026-01-03", "a"),
    ] {
        take(&world, time, &["--host", host]);
    }
    let latest = world.ok(["snapshots", "--latest", "1", "--json"]).json();
    let hosts: Vec<&str> = latest.iter().map(|s| s["host"].as_str().unwrap()).collect();
    assert_eq!(hosts, ["b", "a"]);
    let grouped = world.ok(["snapshots", "--group-by", "host"]).text();
    let titles: Vec<&str> = grouped.lines().filter(|l| l.ends_with(':')).collect();
    assert_eq!(titles, ["host a:", "host b:"]);
    let short = world.ok(["snapshots", "--compact"]).text();
    assert!(
        !short.contains("src") && short.contains("2026-01-03"),
        "{short}"
    );
}

#[test]
fn many_notes_are_folded_and_a_damaged_one_is_told_of() {
    let world = world();
    let id = take(&world, "2026-01-01", &[]);
    for turn in 0..10 {
        world.ok(["tag", "--set", &format!("t{turn}"), &id]);
    }
    assert_eq!(world.objects("notes").len(), 10);
    world.ok(["gc"]);
    assert_eq!(world.objects("notes").len(), 1);
    assert_eq!(tags(&world.snapshots()[0]), ["t9"]);
    let note = world.objects("notes").remove(0);
    let mut bytes = fs::read(&note).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&note, bytes).unwrap();
    let listed = world.ok(["snapshots"]);
    assert!(
        listed.stderr.contains("problem: notes/"),
        "{}",
        listed.stderr
    );
    world.run(["check"]).expect(12);
    world.ok(["restore", &id, "back"]);
    world.ok(["gc"]);
}

#[test]
fn a_restore_that_was_compared_is_remembered() {
    let world = world();
    let id = take(&world, "2026-01-01", &[]);
    world.ok(["restore", &id, "part", "--verify", "--include", "a"]);
    world.ok(["restore", &id, "unread"]);
    world.ok(["restore", &id, "dry", "--verify", "-n"]);
    assert_eq!(world.snapshots()[0]["verified"], Value::Null);
    world.ok(["restore", &id, "whole", "--verify"]);
    assert_eq!(world.snapshots()[0]["verified"]["by"], "restore");
    let text = world.ok(["snapshots"]).text();
    assert!(
        text.contains("Verified") && text.contains("restore"),
        "{text}"
    );
}

#[test]
fn ten_at_once_tag_one_snapshot_and_no_tag_is_lost() {
    let world = world();
    let id = take(&world, "2026-01-01", &[]);
    let calls: Vec<_> = (0..10)
        .map(|n| world.call(["tag", "--add", &format!("t{n}"), &id]).start())
        .collect();
    for call in calls {
        call.wait().expect(0);
    }
    let shown = world.snapshots();
    assert_eq!(tags(&shown[0]).len(), 10, "{shown:?}");
    world.ok(["gc"]);
    assert_eq!(tags(&world.snapshots()[0]).len(), 10);
    assert_eq!(world.objects("notes").len(), 1);
}

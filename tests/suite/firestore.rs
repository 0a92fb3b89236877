//! Firestore through the real client: against a service played here ([`hucha_tests::fakes`]), and
//! against Google's emulator where that is installed.

mod binary;
mod emulator;
mod failures;
mod restores;
mod taken;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use hucha_sources::database::{Context, Merge, RestoreOptions};
use hucha_tests::fakes::firestore::{Fake, Guard, credentials};
use serde_json::{Value, json};

use taken::{Taken, context, database, take};

const SHOP: &str = "projects/shop/databases/(default)/documents";
const OTHER: &str = "projects/other/databases/copy/documents";

/// A service, and a context that leads to it.
struct Scene {
    fake: Fake,
    context: Context,
    _keep: tempfile::TempDir,
}

fn scene() -> Scene {
    let (keep, fake) = (tempfile::tempdir().unwrap(), Fake::start(Guard::Emulator));
    let context = context(keep.path(), &[("FIRESTORE_EMULATOR_HOST", &fake.address())]);
    Scene {
        fake,
        context,
        _keep: keep,
    }
}

/// A value of every type; some say where their database is.
fn every_type(root: &str) -> Value {
    json!({
        "null": {"nullValue": null}, "yes": {"booleanValue": true},
        "most": {"integerValue": "9223372036854775807"}, "least": {"integerValue": "-1"},
        "third": {"doubleValue": 0.1}, "whole": {"doubleValue": 3.0},
        "minus": {"doubleValue": -0.0}, "nan": {"doubleValue": "NaN"},
        "far": {"doubleValue": "-Infinity"},
        "at": {"timestampValue": "2024-01-31T23:59:59.123456Z"},
        "text": {"stringValue": "ñ \"quoted\"\n\u{0}\u{1F600}"}, "empty": {"stringValue": ""},
        "bytes": {"bytesValue": "AAEC/w=="},
        "boss": {"referenceValue": format!("{root}/users/ana")},
        "place": {"geoPointValue": {"latitude": -33.45, "longitude": 0.0}},
        "map": {"mapValue": {"fields": {
            "z": {"arrayValue": {"values": [{"nullValue": null}, {"mapValue": {"fields": {}}},
                {"referenceValue": format!("{root}/users/ana")}]}},
            "a b.`c`": {"integerValue": "0"}}}},
        "nothing": {"arrayValue": {"values": []}},
    })
}

fn number(n: i64) -> Value {
    json!({"amount": {"integerValue": n.to_string()}})
}

/// Companies with items, some below companies that do not exist; users of every type.
fn fill(fake: &Fake, root: &str) {
    let mut all: Vec<(String, Value)> = Vec::new();
    for i in 0..25 {
        if i % 5 != 3 {
            all.push((format!("companies/c{i:02}"), number(i)));
        }
        for k in 0..i % 4 {
            all.push((format!("companies/c{i:02}/items/{k}"), number(100 * i + k)));
            all.push((
                format!("companies/c{i:02}/items/{k}/lines/x/deep/y"),
                number(k),
            ));
        }
    }
    all.push(("companies/__id9__".into(), number(9)));
    all.push(("companies/__id10__".into(), number(10)));
    all.push(("companies/ñ %2F&x".into(), number(11)));
    all.push(("users/ana".into(), every_type(root)));
    all.push(("users/ben".into(), json!({})));
    all.push(("only below/p/q/r".into(), number(1)));
    let all: Vec<_> = all
        .iter()
        .map(|(name, v)| (name.as_str(), Some(v.clone())))
        .collect();
    fake.write(root, &all);
}

#[test]
fn every_way_of_reading_gives_the_same_bytes() {
    let scene = scene();
    fill(&scene.fake, SHOP);
    let usual = take("firestore://shop", &scene.context).unwrap();
    let names: Vec<&str> = usual.streams.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(
        names,
        ["companies.ndjson", "only below.ndjson", "users.ndjson"]
    );
    let rows = usual.rows();
    assert_eq!(rows["companies"], 23);
    assert_eq!((rows["companies/*/items"], rows["users"]), (36, 2));
    assert_eq!(rows["companies/*/items/*/lines/*/deep"], 36);
    assert_eq!((rows["only below"], rows["only below/*/q"]), (0, 1));
    let lines = usual.text("companies.ndjson");
    let first: Vec<&str> = lines.lines().take(2).collect();
    assert!(
        first[0].ends_with("\"name\":\"companies/__id9__\"}"),
        "{first:?}"
    );
    assert!(
        first[1].ends_with("\"name\":\"companies/__id10__\"}"),
        "{first:?}"
    );
    assert_eq!(usual.member.property("collections"), Some("all"));
    assert!(usual.member.warnings.is_empty());
    for options in [
        "page_size=7",
        "page_size=1",
        "read=list&page_size=4",
        "read=list&connections=1",
        "partitions=5&page_size=3",
        "partitions=1000&connections=2",
    ] {
        let other = take(&format!("firestore://shop?{options}"), &scene.context).unwrap();
        assert_eq!(other.bytes, usual.bytes, "{options}");
        assert_eq!(other.rows(), rows, "{options}");
    }
}

#[test]
fn collections_are_chosen_and_times_stored_when_asked() {
    let scene = scene();
    fill(&scene.fake, SHOP);
    let some = take("firestore://shop?collections=users", &scene.context).unwrap();
    assert_eq!(some.bytes.keys().collect::<Vec<_>>(), ["users.ndjson"]);
    assert_eq!(some.member.property("collections"), Some("some"));
    let address = "firestore://shop?exclude_collections=users,companies&times=true";
    let rest = take(address, &scene.context).unwrap();
    let line = rest.text("only below.ndjson");
    assert!(line.starts_with("{\"createTime\":\"20") && line.contains(",\"updateTime\":\"20"));
    let error = take("firestore://shop?collections=user", &scene.context).unwrap_err();
    assert!(
        error.in_one().contains("no collection \"user\""),
        "{}",
        error.in_one()
    );
    assert!(
        error.in_one().contains("companies, only below, users"),
        "{}",
        error.in_one()
    );
}

#[test]
fn all_calls_ask_for_one_moment() {
    for options in ["page_size=3", "read=list&page_size=3", "partitions=3"] {
        let scene = scene();
        fill(&scene.fake, SHOP);
        let taken = take(&format!("firestore://shop?{options}"), &scene.context).unwrap();
        let calls = scene.fake.calls();
        let reads = calls.iter().filter(|call| call.method != "batchGet");
        let times: BTreeSet<_> = reads.map(|call| call.read_time.clone()).collect();
        let time = taken.member.property("read_time").unwrap();
        assert_eq!(times.len(), 1, "{options}: {times:?}");
        assert_eq!(times.first().unwrap().as_deref(), Some(time));
        let pages = calls
            .iter()
            .filter(|c| c.method == "runQuery" || c.method == "list")
            .count();
        assert!(pages > 3, "{options}: {pages}");
    }
}

/// Moves amounts between two collections; their sum stays.
fn move_about(fake: &Fake, stop: &AtomicBool) -> u64 {
    let mut rounds = 0;
    while !stop.load(Ordering::SeqCst) {
        rounds += 1;
        let n = i64::try_from(rounds % 1000).unwrap();
        let (from, to) = (
            format!("left/d{}", n % 10),
            format!("right/d{}/below/x", n % 7),
        );
        // The rest stays where it is: each document is written with what keeps the sum.
        fake.write(SHOP, &[(&from, Some(number(-n))), (&to, Some(number(n)))]);
        fake.write(SHOP, &[(&from, None), (&to, None)]);
    }
    rounds
}

fn sum(taken: &Taken) -> i64 {
    let lines = taken.bytes.keys().map(|name| taken.text(name));
    let all: String = lines.collect();
    let amount = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        line["fields"]["amount"]["integerValue"]
            .as_str()
            .unwrap()
            .parse::<i64>()
            .unwrap()
    };
    all.lines().map(amount).sum()
}

#[test]
fn a_moment_is_whole_while_others_write() {
    let scene = scene();
    for collection in ["left", "right"] {
        for i in 0..30 {
            scene
                .fake
                .write(SHOP, &[(&format!("{collection}/k{i}"), Some(number(i)))]);
        }
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| move_about(&scene.fake, &stop));
        let mut seen = BTreeSet::new();
        for round in 0..12 {
            let way = [
                "page_size=2",
                "read=list&page_size=3",
                "partitions=4&page_size=2",
            ];
            let address = format!("firestore://shop?{}", way[round % 3]);
            let taken = take(&address, &scene.context).unwrap();
            assert_eq!(sum(&taken), 870, "round {round}");
            seen.insert(taken.bytes);
        }
        stop.store(true, Ordering::SeqCst);
        let rounds = writer.join().unwrap();
        assert!(rounds > 12 && seen.len() > 1, "{rounds} {}", seen.len());
    });
}

#[test]
fn a_service_account_gets_tokens_and_new_ones() {
    let keep = tempfile::tempdir().unwrap();
    let fake = Fake::start(Guard::Account);
    fill(&fake, SHOP);
    let file = keep.path().join("key.json");
    std::fs::write(&file, credentials(&fake.address())).unwrap();
    let key = file.display().to_string();
    let context = context(keep.path(), &[("GOOGLE_APPLICATION_CREDENTIALS", &key)]);
    let address = format!(
        "firestore://shop?endpoint=http://{}&page_size=3",
        fake.address()
    );
    let usual = take(&address, &context).unwrap();
    let asked = |calls: &[hucha_tests::fakes::firestore::Call]| {
        calls.iter().filter(|call| call.method == "token").count()
    };
    // One for the look before, one for the capture.
    assert_eq!(asked(&fake.calls()), 2);
    let database = database(&address);
    let capture = database.capture(&context).unwrap();
    let streams = capture.streams;
    fake.fail(hucha_tests::fakes::firestore::Faults {
        expire: true,
        ..Default::default()
    });
    for stream in streams {
        let mut bytes = (stream.open)().unwrap();
        let (mut all, mut buffer) = (Vec::new(), [0; 99]);
        while let n @ 1.. = bytes.read(&mut buffer).unwrap() {
            all.extend_from_slice(&buffer[..n]);
        }
        assert_eq!(all, usual.bytes[&stream.name]);
    }
    (capture.end)().unwrap();
    let calls = fake.calls();
    assert_eq!(
        asked(&calls),
        2,
        "one for the capture, one after the first was refused"
    );
    assert!(calls.iter().any(|call| call.code == 401));
}

#[test]
fn a_query_counts_a_collection() {
    let scene = scene();
    fill(&scene.fake, SHOP);
    let shop = database("firestore://shop");
    let ask = |sql: &str| shop.query(sql, &scene.context);
    assert_eq!(ask("companies").unwrap().as_deref(), Some("23"));
    assert_eq!(ask("companies/c07/items").unwrap().as_deref(), Some("3"));
    assert_eq!(ask("nothing").unwrap().as_deref(), Some("0"));
    assert!(
        ask("SELECT 1")
            .unwrap_err()
            .what
            .contains("no name of a collection")
    );
    assert!(shop.swap(Default::default(), &scene.context).is_err());
}

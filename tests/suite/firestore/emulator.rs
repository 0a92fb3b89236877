//! The same client against Google's own emulator, where that and a Java are installed. It knows no
//! accounts, and cannot cut collections into parts.

use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::*;

/// Where packages of Google put it.
const JAR: &str =
    "/usr/lib/google-cloud-sdk/platform/cloud-firestore-emulator/cloud-firestore-emulator.jar";
const CLASS: &str = "com.google.cloud.datastore.emulator.firestore.CloudFirestore";

struct Emulator {
    child: Child,
    address: String,
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start() -> Option<Emulator> {
    let what = "Firestore against Google's emulator";
    if !crate::support::has_tool("java", what) {
        return None;
    }
    if !Path::new(JAR).exists() {
        eprintln!("!!! SKIPPED, needs google-cloud-cli-firestore-emulator: {what}");
        return None;
    }
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let mut command = Command::new("java");
    command.args(["-Xmx256m", "-Duser.language=en", "-cp", JAR, CLASS, "start"]);
    command.args(["--host=127.0.0.1".to_owned(), format!("--port={port}")]);
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0);
    let emulator = Emulator {
        child: command.spawn().unwrap(),
        address: format!("127.0.0.1:{port}"),
    };
    let begun = Instant::now();
    // Nothing tells when it listens but that it does.
    while TcpStream::connect(&emulator.address).is_err() {
        assert!(
            begun.elapsed() < Duration::from_secs(120),
            "the emulator does not start"
        );
        std::thread::yield_now();
    }
    Some(emulator)
}

#[test]
fn google_s_emulator_gives_and_takes_the_same() {
    let Some(emulator) = start() else {
        return;
    };
    let scene = scene();
    fill(&scene.fake, SHOP);
    let played = take("firestore://shop", &scene.context).unwrap();
    let keep = tempfile::tempdir().unwrap();
    let context = context(
        keep.path(),
        &[("FIRESTORE_EMULATOR_HOST", &emulator.address)],
    );
    let shop = database("firestore://shop");
    let into = |merge| RestoreOptions {
        merge,
        ..RestoreOptions::default()
    };
    // It gives back 0 for the double -0: all but this document is the same.
    let mut stored = played.clone();
    let users = stored.bytes.get_mut("users.ndjson").unwrap();
    let text = String::from_utf8(users.clone()).unwrap();
    *users = text
        .replace("{\"doubleValue\":-0.0}", "{\"doubleValue\":0.0}")
        .into_bytes();
    let restored = shop
        .restore(&stored, &into(Merge::NewOnly), &context)
        .unwrap();
    assert_eq!(restored.rows, 98);
    for options in ["page_size=7", "read=list&page_size=4", "partitions=3"] {
        let taken = take(&format!("firestore://shop?{options}"), &context).unwrap();
        assert_eq!(taken.bytes, stored.bytes, "{options}");
        assert_eq!(taken.rows(), played.rows(), "{options}");
        let uncut = usize::from(options == "partitions=3");
        assert_eq!(
            taken.member.warnings.len(),
            uncut,
            "{:?}",
            taken.member.warnings
        );
    }
    assert_eq!(
        shop.query("companies", &context).unwrap().as_deref(),
        Some("23")
    );
    let again = shop
        .restore(&stored, &into(Merge::NewOnly), &context)
        .unwrap();
    assert!(
        again.warnings.concat().contains("98 documents were there"),
        "{again:?}"
    );
    let copy = database("firestore://other/copy");
    copy.restore(&stored, &into(Merge::Mirror), &context)
        .unwrap();
    let mut some = stored.clone();
    some.streams.retain(|stream| stream.name == "users.ndjson");
    let mirrored = copy.restore(&some, &into(Merge::Mirror), &context).unwrap();
    assert!(
        mirrored
            .warnings
            .concat()
            .contains("96 documents that are not stored")
    );
    assert_eq!(copy.verify(&some, &context).unwrap().rows, 2);
}

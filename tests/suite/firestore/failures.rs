//! Each failure: no snapshot and a clear sentence, or the same bytes after trying again. No token
//! and no key in any message.

use super::*;
use hucha_sources::database::{Cause, DatabaseError};
use hucha_tests::fakes::firestore::{Faults, key};

fn secretless(error: &DatabaseError) {
    let told = format!("{} {error:?}", error.in_one());
    let key = key().lines().nth(1).unwrap();
    for secret in ["ya29", "secret-token", "geheim", "PRIVATE", &key[..20]] {
        assert!(!told.contains(secret), "{told}");
    }
}

#[test]
fn what_passes_is_tried_again() {
    for options in ["page_size=5", "read=list&page_size=5&connections=2"] {
        let scene = scene();
        fill(&scene.fake, SHOP);
        let address = format!("firestore://shop?{options}");
        let usual = take(&address, &scene.context).unwrap();
        for faults in [
            Faults {
                busy: 3,
                ..Faults::default()
            },
            Faults {
                busy: 1,
                retry_after: Some(1),
                ..Faults::default()
            },
            Faults {
                cut: 3,
                ..Faults::default()
            },
        ] {
            scene.fake.calls();
            scene.fake.fail(faults.clone());
            let again = take(&address, &scene.context).unwrap();
            assert_eq!(again.bytes, usual.bytes, "{faults:?}");
            let failed = scene
                .fake
                .calls()
                .iter()
                .filter(|call| call.code != 200)
                .count();
            assert_eq!(failed, faults.busy as usize);
        }
    }
}

fn faults(set: impl Fn(&mut Faults)) -> Faults {
    let mut faults = Faults::default();
    set(&mut faults);
    faults
}

/// Options, faults, and what is said; a part of it, or one of several.
fn cases() -> Vec<(&'static str, Faults, Cause, &'static str)> {
    vec![
        (
            "",
            faults(|f| f.deny = true),
            Cause::Denied,
            "roles/datastore.viewer",
        ),
        (
            "&tries=2",
            faults(|f| f.busy = 99),
            Cause::Unreachable,
            "(2 tries)",
        ),
        (
            "&tries=2",
            faults(|f| f.cut = 99),
            Cause::Unreachable,
            "not whole|cannot be reached",
        ),
        (
            "",
            faults(|f| f.wrong_type = true),
            Cause::Incomplete,
            "\"amount\" with a integerValue",
        ),
        (
            "&read=list",
            faults(|f| f.repeat_pages = true),
            Cause::Incomplete,
            "repeats a page",
        ),
        (
            "",
            faults(|f| f.repeat_queries = true),
            Cause::Incomplete,
            "a page came twice",
        ),
        (
            "",
            faults(|f| f.lose_document = true),
            Cause::Incomplete,
            "service counts",
        ),
        (
            "",
            faults(|f| f.too_old = true),
            Cause::Incomplete,
            "pitr=true",
        ),
        (
            "&tries=2",
            faults(|f| (f.busy, f.retry_after) = (1, Some(1000))),
            Cause::Unreachable,
            "try later",
        ),
    ]
}

#[test]
fn what_does_not_pass_leaves_no_snapshot() {
    for (options, faults, cause, part) in cases() {
        let scene = scene();
        fill(&scene.fake, SHOP);
        scene.fake.fail(faults.clone());
        let address = format!("firestore://shop?page_size=5{options}");
        let error = take(&address, &scene.context).unwrap_err();
        let told = error.in_one();
        assert_eq!(error.cause, cause, "{told}");
        assert!(
            part.split('|').any(|part| told.contains(part)),
            "{faults:?}: {told}"
        );
        let calls = scene.fake.calls().len();
        assert!(
            !faults.deny || calls == 1,
            "a refusal is not tried again: {calls}"
        );
    }
}

#[test]
fn without_a_counter_it_is_a_warning() {
    let scene = scene();
    fill(&scene.fake, SHOP);
    let usual = take("firestore://shop", &scene.context).unwrap();
    scene.fake.fail(Faults {
        no_count: true,
        ..Faults::default()
    });
    let taken = take("firestore://shop", &scene.context).unwrap();
    assert_eq!(taken.bytes, usual.bytes);
    assert_eq!(
        taken.member.warnings.len(),
        3,
        "{:?}",
        taken.member.warnings
    );
}

#[test]
fn who_asks_is_refused_in_words() {
    let keep = tempfile::tempdir().unwrap();
    let fake = Fake::start(Guard::Account);
    fill(&fake, SHOP);
    let at = format!("endpoint=http://{}", fake.address());
    let file = keep.path().join("key.json");
    std::fs::write(&file, credentials(&fake.address())).unwrap();
    let context = context(keep.path(), &[("TOKEN", "geheim")]);
    let try_it = |options: &str| {
        let error = take(&format!("firestore://shop?{at}&{options}"), &context).unwrap_err();
        secretless(&error);
        (error.cause, error.in_one())
    };
    let (cause, told) = try_it("tries=2");
    assert_eq!(cause, Cause::Denied);
    assert!(told.contains("GOOGLE_APPLICATION_CREDENTIALS"), "{told}");
    let (cause, told) = try_it("token_env=TOKEN");
    assert_eq!(cause, Cause::Denied);
    assert!(told.contains("does not take the token"), "{told}");
    let (_, told) = try_it("token_env=NONE");
    assert!(told.contains("NONE"), "{told}");
    fake.fail(Faults {
        no_tokens: true,
        ..Faults::default()
    });
    let (cause, told) = try_it(&format!("credentials_file={}", file.display()));
    assert_eq!(cause, Cause::Denied);
    assert!(
        told.contains("hucha@shop.iam.gserviceaccount.com gets no token"),
        "{told}"
    );
    assert!(told.contains("account not found"), "{told}");
    fake.fail(Faults {
        deny: true,
        ..Faults::default()
    });
    let (_, told) = try_it(&format!("credentials_file={}", file.display()));
    assert!(told.contains("roles/datastore.viewer"), "{told}");
    // A key of somebody else.
    let other = credentials(&fake.address()).replace("hucha@", "somebody@");
    std::fs::write(&file, other).unwrap();
    let (_, told) = try_it(&format!("credentials_file={}", file.display()));
    assert!(
        told.contains("somebody@shop") && told.contains("issuer"),
        "{told}"
    );
}

#[test]
fn addresses_and_options_that_are_wrong() {
    use hucha_sources::database::{Settings, open};
    for (address, part) in [
        ("firestore:///x", "needs the id of a project"),
        ("firestore://shop/a/b", "no address of a Firestore"),
        (
            "firestore://shop?endpoint=http://example.com",
            "unencrypted",
        ),
        ("firestore://shop?token_env=A&token_file=b", "more than one"),
        ("firestore://shop?token_env=A&credentials_file=b", "both"),
        ("firestore://shop?read=list&partitions=3", "partitions"),
        ("firestore://shop?colections=a", "colections"),
    ] {
        let error = Settings::of_address(address).and_then(|s| open(s).map(|_| ()));
        let told = error.unwrap_err().in_one();
        assert!(told.contains(part), "{address}: {told}");
    }
    assert_eq!(
        database("firestore://shop").location(),
        "firestore://shop/(default)"
    );
    assert_eq!(
        database("firestore://shop/(default)").default_name(),
        "shop"
    );
    assert_eq!(database("firestore://shop/b").default_name(), "shop-b");
}

#[test]
fn a_service_that_is_not_there_is_said() {
    let scene = scene();
    let Scene {
        fake,
        context,
        _keep,
    } = scene;
    let address = fake.address();
    drop(fake);
    let error = take("firestore://shop?tries=2", &context).unwrap_err();
    assert_eq!(error.cause, Cause::Unreachable);
    assert!(error.what.contains(&address), "{error}");
}

#[test]
fn a_stop_ends_it() {
    let scene = scene();
    fill(&scene.fake, SHOP);
    scene.fake.fail(Faults {
        busy: u32::MAX,
        ..Faults::default()
    });
    let stopper = scene.context.stopper.clone();
    let error = std::thread::scope(|scope| {
        let taking = scope.spawn(|| take("firestore://shop?tries=20", &scene.context));
        while scene.fake.calls().is_empty() {
            std::thread::yield_now();
        }
        stopper.stop();
        taking.join().unwrap().unwrap_err()
    });
    assert_eq!(error.cause, Cause::Stopped);
}

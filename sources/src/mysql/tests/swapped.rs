//! Exchanges with the live database, those that fail among them.

use super::*;
use crate::database::{Cause, RestoreOptions, Restored};

/// A live shop that went on after it was captured, with one restored beside it.
fn two(world: &World, name: &str) -> (Mysql, Taken, Restored) {
    world.shop(name);
    let live = world.at(name);
    let taken = world.take(&live);
    world.run(&format!(
        "USE {name}; DELETE FROM orders WHERE id = 1; CREATE TABLE later (x INT);
         INSERT INTO later VALUES (1); CREATE VIEW part2 AS SELECT * FROM part;
         DROP PROCEDURE twice; CREATE PROCEDURE thrice() SELECT 3;
         CREATE TRIGGER other BEFORE INSERT ON later FOR EACH ROW SET NEW.x = 5"
    ));
    let made = live.restore(&taken, &RestoreOptions::default(), &world.context);
    (live, taken, made.unwrap())
}

#[test]
fn both_are_whole_afterwards() {
    let world = world();
    let (live, taken, made) = two(&world, "swapped");
    let before = world.take(&live);
    let swapped = live.swap(made, &world.context).unwrap();
    assert_eq!(swapped.name, "swapped");
    assert_eq!(
        swapped.kept.as_deref(),
        Some("swapped_before_restore_20261127_163000")
    );
    assert_eq!(world.databases("swapped%").len(), 2);
    assert_eq!(plain(&world.take(&live)), plain(&taken));
    live.verify(&taken, &world.context).unwrap();
    let kept = world.take(&world.at(swapped.kept.as_deref().unwrap()));
    let running = |dump: &Taken| {
        let lines = plain(dump).into_iter();
        lines.map(|line| line.replace("PRESERVE ENABLE", "PRESERVE DISABLE"))
    };
    assert!(running(&kept).eq(running(&before)));
    assert_ne!(plain(&kept), plain(&before), "its events rest");
    world.run("INSERT INTO swapped.orders (customer, total) VALUES (1, 1)");
    assert_eq!(world.one("SELECT COUNT(*) FROM swapped.log"), "4");
    assert!(world.is_clean());
}

#[test]
fn what_cannot_be_exchanged_is_refused_or_taken_back() {
    let world = world();
    let (live, _, made) = two(&world, "refused");
    let (new, state) = (made.name.clone(), || {
        let both = ["refused", "refused_restored_20261127_163000"];
        both.map(|name| plain(&world.take(&world.at(name))))
    });
    world.run(
        "CREATE DATABASE refused_other; CREATE TABLE refused_other.child (c INT, \
         FOREIGN KEY (c) REFERENCES refused.customer (id))",
    );
    let before = state();
    let error = live.swap(made.clone(), &world.context).unwrap_err();
    assert!(
        error.what.contains("a foreign key of refused_other.child"),
        "{error}"
    );
    assert_eq!(state(), before);
    world.run("DROP DATABASE refused_other");
    // It says itself where it belongs, so it cannot be made elsewhere.
    world.run(&format!(
        "CREATE TRIGGER {new}.bound BEFORE DELETE ON {new}.orders FOR EACH ROW SET @a = 1"
    ));
    let before = state();
    let error = live.swap(made, &world.context).unwrap_err();
    assert_eq!(error.cause, Cause::Failed);
    assert_eq!(
        error.hint.as_deref(),
        Some("nothing was changed"),
        "{error}"
    );
    assert_eq!(state(), before);
    assert_eq!(world.databases("refused%").len(), 2);
}

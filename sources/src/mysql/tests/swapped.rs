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

/// Holds a lock on a table from another session as long as `during` runs.
fn while_locked<T>(world: &World, table: &str, during: impl FnOnce() -> T) -> T {
    std::thread::scope(|scope| {
        let sql = format!("BEGIN; SELECT COUNT(*) FROM {table}; DO SLEEP(300); -- {table}");
        scope.spawn(move || {
            let access = world.at("mysql").access(&world.context).unwrap();
            // It is killed.
            access.ask(None, &sql).unwrap_err();
        });
        let find = "SELECT id FROM information_schema.processlist WHERE info LIKE 'DO SLEEP(300)%'";
        let id = loop {
            if let Some(row) = world.run(find).first() {
                break row[0].clone();
            }
        };
        let all = std::panic::AssertUnwindSafe(during);
        let done = std::panic::catch_unwind(all);
        world.run(&format!("KILL {id}"));
        done.unwrap()
    })
}

#[test]
fn a_lock_of_another_program_costs_no_trigger() {
    let world = world();
    let (live, _, made) = two(&world, "locked");
    let before = plain(&world.take(&live));
    let error = while_locked(&world, "locked.orders", || {
        let begun = std::time::Instant::now();
        let error = live.swap(made.clone(), &world.context).unwrap_err();
        assert!(begun.elapsed().as_secs() < 40, "{:?}", begun.elapsed());
        error
    });
    assert!(error.what.contains("a lock of another program"), "{error}");
    assert!(error.hint.unwrap().starts_with("nothing was changed"));
    assert_eq!(plain(&world.take(&live)), before);
    assert_eq!(world.databases("locked%").len(), 2, "nothing was begun");
    live.swap(made, &world.context).unwrap();
}

#[test]
fn a_live_database_without_tables_gets_its_views_back() {
    let world = world();
    let (live, _, made) = two(&world, "viewed");
    world.run(
        "DROP DATABASE viewed; CREATE DATABASE viewed; USE viewed; CREATE VIEW one AS SELECT 1; \
         CREATE PROCEDURE p() SELECT 1",
    );
    let new = made.name.clone();
    world.run(&format!(
        "CREATE TRIGGER {new}.bound BEFORE DELETE ON {new}.orders FOR EACH ROW SET @a = 1"
    ));
    let state = || [live_of(&world, "viewed"), live_of(&world, &new)];
    let before = state();
    let error = live.swap(made, &world.context).unwrap_err();
    assert_eq!(
        error.hint.as_deref(),
        Some("nothing was changed"),
        "{error}"
    );
    assert_eq!(state(), before);
}

fn live_of(world: &World, name: &str) -> Vec<String> {
    plain(&world.take(&world.at(name)))
}

#[test]
fn grants_on_routines_stay() {
    let world = world();
    let (live, _, made) = two(&world, "trusted");
    world.run(
        "CREATE USER runner@localhost; CREATE ROLE running; \
         GRANT EXECUTE, ALTER ROUTINE ON FUNCTION trusted.slash TO runner@localhost \
         WITH GRANT OPTION; GRANT EXECUTE ON FUNCTION trusted.slash TO running; \
         GRANT EXECUTE ON PROCEDURE trusted.thrice TO runner@localhost; \
         CREATE USER keeping@localhost; GRANT ALL ON *.* TO keeping@localhost; \
         CREATE USER blind@localhost; \
         GRANT ALL ON `trusted%`.* TO blind@localhost; \
         GRANT SELECT ON mysql.proc TO blind@localhost; \
         GRANT SET USER ON *.* TO blind@localhost",
    );
    let grants = "SELECT user, routine_name, proc_priv FROM mysql.procs_priv \
                  WHERE db = 'trusted' AND user IN ('runner', 'running') ORDER BY 1, 2";
    let before = world.run(grants);
    assert_eq!(before.len(), 3);
    let blind = world.user("blind", "trusted", "");
    let swapped = live.swap(made, &world.context).unwrap();
    let told = "`runner`@`localhost` had EXECUTE on PROCEDURE thrice";
    assert!(
        swapped.warnings.iter().any(|w| w.starts_with(told)),
        "{:?}",
        swapped.warnings
    );
    let both: Vec<_> = before.into_iter().filter(|row| row[1] == "slash").collect();
    assert_eq!(world.run(grants), both);
    // Who may not read them is told.
    let made = live
        .restore(
            &world.take(&live),
            &RestoreOptions::default(),
            &world.context,
        )
        .unwrap();
    let swapped = blind.swap(made, &world.context).unwrap();
    assert!(
        swapped
            .warnings
            .iter()
            .any(|w| w.contains("could not be read") && w.contains("slash")),
        "{:?}",
        swapped.warnings
    );
}

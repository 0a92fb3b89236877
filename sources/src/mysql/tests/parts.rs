//! Structure, rows, some tables: when they are captured, and out of a whole dump.

use super::*;
use crate::database::{Cause, Part, RestoreOptions};

fn options(part: Part, tables: &[&str]) -> RestoreOptions {
    RestoreOptions {
        part,
        tables: tables.iter().map(|table| (*table).to_owned()).collect(),
        ..RestoreOptions::default()
    }
}

#[test]
fn structure_then_rows_make_the_whole() {
    let world = world();
    world.shop("parted");
    let taken = world.take(&world.at("parted"));
    let copy = world.at("parted_copy");
    let context = &world.context;
    let made = copy
        .restore(&taken, &options(Part::Schema, &[]), context)
        .unwrap();
    assert_eq!((made.tables, made.rows), (0, 0));
    assert_eq!(world.one("SELECT COUNT(*) FROM parted_copy.orders"), "0");
    assert_eq!(world.one("SELECT COUNT(*) FROM parted_copy.v1"), "0");

    let made = copy
        .restore(&taken, &options(Part::Data, &[]), context)
        .unwrap();
    assert_eq!(
        (made.name.as_str(), made.tables, made.rows),
        ("parted_copy", 7, 13)
    );
    // The trigger saw nothing of it, and is there again.
    assert_eq!(world.one("SELECT COUNT(*) FROM parted_copy.log"), "3");
    assert_eq!(plain(&world.take(&copy)), plain(&taken));
    let error = copy
        .restore(&taken, &options(Part::Data, &[]), context)
        .unwrap_err();
    assert_eq!(error.cause, Cause::Exists, "{error}");
    assert_eq!(plain(&world.take(&copy)), plain(&taken));
    let empty = world.at("parted_none");
    let error = empty
        .restore(&taken, &options(Part::Data, &[]), context)
        .unwrap_err();
    assert_eq!(error.cause, Cause::Absent);
    assert!(world.is_clean());
}

#[test]
fn rows_that_do_not_all_fit_leave_nothing() {
    let world = world();
    world.shop("fitting");
    let mut taken = world.take(&world.at("fitting"));
    let copy = world.at("fitting_copy");
    copy.restore(&taken, &options(Part::Schema, &[]), &world.context)
        .unwrap();
    let all = options(Part::Data, &[]);
    let whole = taken.clone();
    let facts = taken.streams[0].facts.rows.iter_mut();
    facts.for_each(|(name, rows)| *rows += u64::from(name == "part"));
    copy.restore(&taken, &all, &world.context).unwrap_err();
    let counts = "SELECT (SELECT COUNT(*) FROM customer) + (SELECT COUNT(*) FROM old) + \
                  (SELECT COUNT(*) FROM log)";
    assert_eq!(
        copy.query(counts, &world.context).unwrap().as_deref(),
        Some("0")
    );
    assert_eq!(
        world.one(
            "SELECT COUNT(*) FROM information_schema.triggers \
                   WHERE trigger_schema = 'fitting_copy'"
        ),
        "1"
    );
    copy.restore(&whole, &all, &world.context).unwrap();
}

#[test]
fn single_tables() {
    let world = world();
    world.shop("single");
    let source = world.at("single");
    let taken = world.take(&source);
    let wanted = options(Part::All, &["orders", "odd `name; --"]);
    let made = source.restore(&taken, &wanted, &world.context).unwrap();
    assert_eq!((made.tables, made.rows), (2, 4));
    let tables = world.run(&format!("SHOW TABLES FROM {}", made.name));
    assert_eq!(tables, [["odd `name; --"], ["orders"]]);
    world.run(&format!("DROP DATABASE {}", made.name));

    world.run("DELETE FROM single.orders");
    let made = source
        .restore(&taken, &options(Part::Data, &["orders"]), &world.context)
        .unwrap();
    assert_eq!((made.tables, made.rows), (1, 3));
    assert_eq!(world.one("SELECT COUNT(*) FROM single.log"), "3");

    let error = source
        .restore(&taken, &options(Part::All, &["ordres"]), &world.context)
        .unwrap_err();
    assert_eq!(error.cause, Cause::Absent);
    assert!(error.what.contains("\"ordres\"") && error.hint.unwrap().contains("orders"));
    assert_eq!(world.databases("single%"), ["single"]);
}

#[test]
fn parts_that_are_captured() {
    let world = world();
    world.shop("captured");
    let schema = world.take(&world.with("captured", "&part=schema"));
    assert!(schema.rows().is_empty() && !schema.text("").contains("INSERT INTO `"));
    assert_eq!(schema.member.property("part"), Some("schema"));
    let copy = world.at("captured_copy");
    let context = &world.context;
    copy.restore(&schema, &RestoreOptions::default(), context)
        .unwrap();
    assert_eq!(world.one("SELECT COUNT(*) FROM captured_copy.v2"), "0");

    let data = world.take(&world.with("captured", "&part=data"));
    assert_eq!(data.rows().len(), 7);
    assert!(!data.text("").contains("CREATE"));
    let error = world
        .at("captured_no")
        .restore(&data, &RestoreOptions::default(), context)
        .unwrap_err();
    assert_eq!(error.cause, Cause::Setting);
    copy.restore(&data, &options(Part::Data, &[]), context)
        .unwrap();
    assert_eq!(
        plain(&world.take(&copy)),
        plain(&world.take(&world.at("captured")))
    );

    let options = "&tables=o*,v*,customer&exclude_tables=old";
    let some = world.take(&world.with("captured", options));
    let names: Vec<String> = some.rows().into_keys().collect();
    assert_eq!(names, ["customer", "odd `name; --", "orders"]);
    assert!(some.text("").contains("VIEW `v1`") && !some.text("").contains("PROCEDURE"));
    let error = take(&world.with("captured", "&tables=zz*"), context).unwrap_err();
    assert_eq!(error.cause, Cause::Absent);
}

//! What nights cost: bytes that the whole repository grows by, encrypted, counted. Data and changes
//! are seeded; cut points follow from the repository's key, so bounds leave a third of room.
//! Fourteen nights, the full size, hold the one in which chains are full: it costs 3.5 usual ones.

use std::fs;
use std::path::Path;

use crate::support::data::{age, bytes_below};
use crate::support::nights::{Packages, Table};
use crate::support::{World, assert_same, size};

/// Bytes that a small repository holds back for gc (docs/format.md).
const RESERVE: u64 = 512 << 10;

/// A repository, what it keeps, and what it weighed after each night.
struct Nights {
    world: World,
    sizes: Vec<u64>,
}

impl Nights {
    fn new() -> Nights {
        let world = World::new();
        fs::create_dir(world.path("data")).unwrap();
        Nights {
            world,
            sizes: Vec::new(),
        }
    }

    fn data(&self) -> std::path::PathBuf {
        self.world.path("data")
    }

    /// Takes a snapshot; answers what it said.
    fn snapshot(&mut self) -> serde_json::Value {
        age(&self.data());
        let data = self.world.typed("data");
        let taken = self.world.object(["snapshot", &data]);
        self.sizes.push(bytes_below(&self.world.repository()));
        taken
    }

    /// Bytes of each night but the first.
    fn growth(&self) -> Vec<u64> {
        let nights = self.sizes.iter().zip(self.sizes.iter().skip(1));
        nights.map(|(before, after)| after - before).collect()
    }

    /// The last night comes back, and every stored byte is right.
    fn assert_restores(&self) {
        self.world.assert_whole();
        let back = self.world.path("back");
        let typed = self.world.typed("back");
        self.world.ok(["restore", "latest", &typed]);
        let inside = self.data();
        let inside = inside.strip_prefix("/").unwrap();
        assert_same(&self.data(), &back.join(inside));
        fs::remove_dir_all(&back).unwrap();
    }
}

fn mean(nights: &[u64]) -> u64 {
    nights.iter().sum::<u64>() / nights.len() as u64
}

/// Rows of the table and nights of it.
fn extent() -> (u64, usize) {
    size((150_000, 9), (1_500_000, 14))
}

/// Stores nights of a table in one form; answers bytes of the last state and the mean growth.
fn table(form: fn(&Table) -> Vec<u8>) -> (u64, u64) {
    let (rows, count) = extent();
    let mut nights = Nights::new();
    let mut table = Table::new(rows, 7);
    let mut bytes = 0;
    for night in 0..count {
        if night > 0 {
            table.work();
        }
        let data = form(&table);
        bytes = data.len() as u64;
        fs::write(nights.data().join("shop"), data).unwrap();
        let taken = nights.snapshot();
        if night > 0 {
            let [new, delta] = ["new_bytes", "delta_bytes"].map(|f| taken[f].as_u64().unwrap());
            assert!(
                delta * 10 > new * 7,
                "{delta} of {new} new bytes are deltas"
            );
        }
    }
    nights.assert_restores();
    let growth = nights.growth();
    println!(
        "{bytes} bytes; growth {growth:?}, first {}",
        nights.sizes[0]
    );
    (bytes, mean(&growth))
}

#[test]
fn a_night_of_a_dump_in_heap_order_costs_what_changed() {
    let (bytes, growth) = table(Table::in_heap_order);
    assert!(growth < bytes / size(90, 72), "{growth} of {bytes}");
}

#[test]
fn a_night_of_a_dump_in_key_order_costs_what_changed() {
    let (bytes, growth) = table(Table::in_key_order);
    assert!(growth < bytes / size(170, 136), "{growth} of {bytes}");
}

#[test]
fn a_night_of_a_database_in_pages_costs_what_changed() {
    let (bytes, growth) = table(Table::in_pages);
    assert!(growth < bytes / 80, "{growth} of {bytes}");
}

/// New versions stand below new paths: only what they resemble tells of the old ones.
#[test]
fn a_night_of_packages_in_new_versions_costs_what_changed() {
    let (packages, count) = size((100, 6), (2000, 14));
    let mut nights = Nights::new();
    let mut all = Packages::write(&nights.data(), packages, 7);
    for night in 0..count {
        if night > 0 {
            all.work(&nights.data());
        }
        nights.snapshot();
    }
    nights.assert_restores();
    let (first, growth) = (nights.sizes[0] - RESERVE, mean(&nights.growth()));
    println!("first {first}, growth {:?}", nights.growth());
    // A tenth of all files is new under another name.
    assert!(growth < first / 160, "{growth} of {first}");
}

/// Chains of deltas have an end; what comes after it must not cost more and more.
#[test]
fn growth_does_not_creep_up() {
    let (rows, count) = size((40_000, 61), (800_000, 61));
    let mut nights = Nights::new();
    let mut table = Table::new(rows, 7);
    let mut decoded = Vec::new();
    for night in 0..count {
        if night > 0 {
            table.work();
        }
        fs::write(nights.data().join("shop"), table.in_heap_order()).unwrap();
        nights.snapshot();
        if night == 20 || night == 60 {
            decoded.push(decoded_bytes(&nights.world, &nights.world.path("back")));
        }
    }
    nights.assert_restores();
    let growth = nights.growth();
    let (early, late) = (mean(&growth[1..20]), mean(&growth[40..60]));
    let bytes = table.in_heap_order().len() as u64;
    println!("{bytes} bytes; early {early}, late {late}; decoded {decoded:?}; {growth:?}");
    // All chunks of so small a table leave their chains in the same few nights.
    assert!(late * 10 < early * 18, "{late} after {early}");
    assert!(late < bytes / 45, "{late} of {bytes}");
    assert!(decoded[1] * 10 < decoded[0] * 16, "{decoded:?}");
}

/// What a restore of the latest snapshot decodes, bases among it.
fn decoded_bytes(world: &World, back: &Path) -> u64 {
    let done = world.object(["restore", "latest", &world.typed("back")]);
    fs::remove_dir_all(back).unwrap();
    done["decoded_bytes"].as_u64().unwrap()
}

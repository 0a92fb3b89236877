//! The user guide holds what it says: every block of commands in docs/guide is run, a page as one
//! script, in a mount namespace where /srv and /mnt are this test's own.

use std::fs;

use crate::support::damage::{Harm, harm};
use crate::support::data::Random;
use crate::support::{World, is_root};

/// All commands of a page, in order.
fn script(page: &str) -> String {
    let path = format!("{}/../docs/guide/{page}.md", env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(path).unwrap();
    let blocks = text.split("```sh\n").skip(1);
    let commands = blocks.map(|b| b.split("```").next().unwrap_or_default());
    let script: Vec<&str> = commands.collect();
    assert!(script.len() >= 4, "{page} has {} blocks", script.len());
    script.concat()
}

/// A shop in `srv`, and room for a repository in `mnt`.
fn shop() -> World {
    let world = World::empty();
    for folder in ["mnt/home", "mnt/backup", "srv/shop", "bin"] {
        fs::create_dir_all(world.path(folder)).unwrap();
    }
    fs::write(world.path("srv/shop/config.toml"), "till = 1\n").unwrap();
    fs::write(world.path("srv/shop/shop.sql"), "INSERT 1;\n".repeat(9000)).unwrap();
    fs::write(world.path("srv/shop/photo"), Random(1).bytes(700_000)).unwrap();
    world
}

/// Runs a script; each command must succeed.
fn run(world: &World, script: &str) {
    fs::write(world.path("script"), script).unwrap();
    // The script is read before the folders are covered.
    let line = "ln -sf $hucha bin/hucha; exec unshare --mount --propagation private bash -c '
        set -eu
        script=$(cat script)
        export PATH=$PWD/bin:$PATH
        bin=$(readlink -f bin/hucha)
        mount --bind srv /srv
        mount --bind mnt /mnt
        unset HUCHA_REPOSITORY XDG_CACHE_HOME
        export HOME=/mnt/home
        cd /mnt/home
        bash -euxo pipefail -c \"$script\"'";
    world.bash(line).run().expect(0);
}

#[test]
fn first_steps_and_every_day() {
    if !is_root("covering folders in a mount namespace") {
        return;
    }
    let world = shop();
    run(&world, &script("first-steps"));
    run(&world, &script("everyday"));
}

#[test]
fn databases_of_sqlite() {
    if !is_root("covering folders in a mount namespace") {
        return;
    }
    let world = shop();
    fs::write(world.path("srv/shop/.env"), "KEY=1\n").unwrap();
    let make = "import sqlite3, sys\nfor name in 'app', 'users':\n \
                c = sqlite3.connect(f'srv/shop/{name}.db')\n \
                c.execute('PRAGMA journal_mode=WAL')\n \
                c.executescript('CREATE TABLE item (id INTEGER PRIMARY KEY, x); \
                INSERT INTO item VALUES (1, 2), (3, 4)')\n";
    crate::support::tool(world.command("python3").args(["-c", make]));
    let begin = "export HUCHA_REPOSITORY=/mnt/backup/shop\nhucha init --encryption none\n";
    run(
        &world,
        &[begin, &script("sqlite"), &script("databases")].concat(),
    );
}

#[test]
fn recovery_with_nothing_but_repository_and_key() {
    if !is_root("covering folders in a mount namespace") {
        return;
    }
    let world = shop();
    run(&world, &script("first-steps"));
    let key = fs::read(world.path("mnt/home/hucha-key.txt")).unwrap();
    fs::remove_dir_all(world.path("mnt/home")).unwrap();
    fs::create_dir(world.path("mnt/home")).unwrap();
    fs::write(world.path("mnt/home/hucha-key.txt"), key).unwrap();
    run(&world, &script("recovery"));
    let back = fs::read(world.path("mnt/home/back/srv/shop/photo")).unwrap();
    assert_eq!(back, fs::read(world.path("srv/shop/photo")).unwrap());
}

#[test]
fn damage_is_found_repaired_and_healed() {
    if !is_root("covering folders in a mount namespace") {
        return;
    }
    let world = shop();
    run(&world, &script("first-steps"));
    let packs = crate::support::data::files(&world.path("mnt/backup/shop/packs"));
    let largest = packs.iter().max_by_key(|p| fs::metadata(p).unwrap().len());
    harm(largest.unwrap(), Harm::FlipMiddle);
    // The last check on the page expects all to be whole again: it fails when nothing healed.
    run(&world, &script("damage"));
}

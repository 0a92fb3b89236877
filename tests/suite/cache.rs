//! Whatever happens to the local cache: the next commands succeed and say nothing wrong.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::support::data::{self, Random, small_tree};
use crate::support::{World, assert_same, is_root};

/// Files of the cache that hold an index.
fn indexes(world: &World) -> Vec<PathBuf> {
    let mut found = data::files(&world.path("cache"));
    found.retain(|f| fs::metadata(f).unwrap().len() > 4096);
    assert!(!found.is_empty(), "where is the cache?");
    found
}

/// A world with two snapshots of `src`, and a cache.
fn used_world() -> World {
    let world = World::new();
    small_tree(&world.path("src"), 1);
    world.snapshot("src");
    fs::write(world.path("src/more"), Random(2).bytes(200_000)).unwrap();
    world.snapshot("src");
    world
}

/// Every kind of command succeeds, quietly, and what it does is right.
#[track_caller]
fn all_is_well(world: &World) {
    world.ok(["snapshots"]).quiet();
    world.ok(["ls", "--recursive", "latest"]).quiet();
    world.ok(["check", "--read-data"]).quiet();
    let _ = fs::remove_dir_all(world.path("back"));
    world.ok(["restore", "latest", "back"]).quiet();
    assert_same(&world.path("src"), &world.path("back/src"));
    let taken = world
        .call(["snapshot", "src", "--json"])
        .run()
        .expect(0)
        .quiet()
        .object();
    assert_eq!(taken["incomplete"], false);
    world.ok(["gc"]).quiet();
    world.ok(["check", "--read-data"]).quiet();
}

#[test]
fn the_index_is_deleted_truncated_or_garbage() {
    let world = used_world();
    let lengths = [0, 1, 511, 4096, 10_000];
    for len in lengths {
        for index in indexes(&world) {
            let bytes = fs::read(&index).unwrap();
            fs::write(&index, &bytes[..len.min(bytes.len())]).unwrap();
        }
        all_is_well(&world);
    }
    for seed in 0..3 {
        for index in indexes(&world) {
            let len = fs::metadata(&index).unwrap().len() as usize;
            fs::write(&index, Random(seed).bytes(len)).unwrap();
        }
        all_is_well(&world);
    }
    for index in indexes(&world) {
        fs::remove_file(index).unwrap();
    }
    all_is_well(&world);
    fs::remove_dir_all(world.path("cache")).unwrap();
    all_is_well(&world);
}

#[test]
fn bytes_of_the_index_are_flipped() {
    let world = used_world();
    let mut random = Random(3);
    for _ in 0..12 {
        for index in indexes(&world) {
            let mut bytes = fs::read(&index).unwrap();
            for _ in 0..20 {
                let at = random.below(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << random.below(8);
            }
            fs::write(&index, bytes).unwrap();
        }
        all_is_well(&world);
    }
}

#[test]
fn the_index_is_that_of_another_repository() {
    let world = used_world();
    let other = used_world();
    for (mine, theirs) in indexes(&world).into_iter().zip(indexes(&other)) {
        fs::copy(theirs, mine).unwrap();
    }
    all_is_well(&world);
}

/// Puts a copy of the repository's folder in its place, under the cache of what is there.
fn replace(world: &World, copy: &str) {
    fs::remove_dir_all(world.repository()).unwrap();
    data::copy_folder(&world.path(copy), &world.repository());
}

#[test]
fn the_repository_is_set_back_under_a_newer_cache_and_forth() {
    let world = used_world();
    let old_source = world.path("src-old");
    data::copy_folder(&world.path("src"), &old_source);
    data::copy_folder(&world.repository(), &world.path("old"));
    // A second history: more snapshots, and packs that gc has moved.
    for night in 0..3 {
        fs::write(world.path("src/more"), Random(10 + night).bytes(150_000)).unwrap();
        world.snapshot("src");
    }
    world.ok(["forget", "--keep-last", "1"]);
    world.ok(["gc", "--max-unused", "0"]);
    data::copy_folder(&world.repository(), &world.path("new"));
    data::copy_folder(&world.path("src"), &world.path("src-new"));
    let mut set_back = 0;
    for (copy, source) in [("old", "src-old"), ("new", "src-new"), ("old", "src-old")] {
        replace(&world, copy);
        fs::remove_dir_all(world.path("src")).unwrap();
        data::copy_folder(&world.path(source), &world.path("src"));
        let told = world.ok(["check", "--read-data", "--json"]);
        let told = told.quiet();
        // Names never vanish by themselves: that some have is told, and is no damage.
        let notes = told.object()["notes"].clone();
        let notes = notes.as_array().unwrap();
        let seen = |note: &serde_json::Value| note.as_str().unwrap().contains("was set back");
        assert!(notes.iter().all(seen), "{notes:?}");
        set_back += notes.len();
        let _ = fs::remove_dir_all(world.path("back"));
        world.ok(["restore", "latest", "back"]).quiet();
        assert_same(&world.path("src"), &world.path("back/src"));
        world.ok(["snapshot", "src"]).quiet();
        world.assert_whole();
    }
    assert!(set_back > 0);
}

#[test]
fn without_a_cache_all_works() {
    let world = World::new();
    small_tree(&world.path("src"), 4);
    for _ in 0..2 {
        world.ok(["--no-cache", "snapshot", "src"]).quiet();
    }
    world
        .ok(["--no-cache", "restore", "latest", "back"])
        .quiet();
    assert_same(&world.path("src"), &world.path("back/src"));
    world.ok(["--no-cache", "forget", "latest"]);
    world.ok(["--no-cache", "gc"]).quiet();
    world.ok(["--no-cache", "check", "--read-data"]).quiet();
    let index = data::files(&world.path("cache")).len();
    world
        .ok(["--cache-dir", "elsewhere", "snapshot", "src"])
        .quiet();
    assert!(!data::files(&world.path("elsewhere")).is_empty());
    assert_eq!(index, data::files(&world.path("cache")).len());
}

#[test]
fn a_cache_folder_that_nobody_may_write_does_no_harm() {
    if !is_root("a cache folder of another user") {
        return;
    }
    let world = used_world().into_nobodys();
    for mode in [0o500, 0o000] {
        for folder in data::walk(&world.path("cache"))
            .iter()
            .rev()
            .filter(|p| p.is_dir())
        {
            fs::set_permissions(folder, fs::Permissions::from_mode(mode)).unwrap();
        }
        world.ok(["snapshots"]).quiet();
        world.ok(["snapshot", "src"]).quiet();
        let back = format!("back{mode}");
        world.ok(["restore", "latest", &back]);
        let bytes = |name: &str| fs::read(world.path(name)).unwrap();
        assert_eq!(bytes("src/more"), bytes(&format!("{back}/src/more")));
        world.ok(["check", "--read-data"]).quiet();
        world.ok(["gc"]).quiet();
    }
}

#[test]
fn a_cache_on_a_full_disk_does_no_harm() {
    if !is_root("mounting a small tmpfs") {
        return;
    }
    let world = used_world();
    fs::create_dir(world.path("small")).unwrap();
    // In a mount namespace of its own: nothing is left behind.
    let line = "unshare --mount --propagation private bash -c '
        mount -t tmpfs -o size=256k tmpfs small && mkdir small/hucha && set -e
        for used in 0 100 200 300; do
            head -c ${used}k /dev/zero >small/filler 2>/dev/null || true
            rm -rf back
            $hucha --cache-dir small/hucha snapshot src
            $hucha --cache-dir small/hucha snapshots
            $hucha --cache-dir small/hucha restore latest back
            diff -r --no-dereference src back/src
            $hucha --cache-dir small/hucha check --read-data
            $hucha --cache-dir small/hucha gc
        done'";
    world.bash(line).run().expect(0).quiet();
}

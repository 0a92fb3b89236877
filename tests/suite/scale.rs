//! A folder of a million files and a file of 20 GiB: bounded memory, few pages read.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use crate::support::data::{self, Random};
use crate::support::{Ran, World, assert_same, differences, size};

/// Most memory that a command may take, in KiB.
const MAX_MEMORY: u64 = 300 << 10;
/// Most pages that `ls` of one folder may read.
const MAX_PAGES: u64 = 20;

/// Runs a command and holds it to its memory.
#[track_caller]
fn within_memory(world: &World, args: &[&str]) -> Ran {
    let ran = world.ok(args);
    let (peak, seconds) = (ran.peak >> 10, ran.took.as_secs_f64());
    eprintln!("{}: {seconds:.1} s, peak {peak} MiB", args.join(" "));
    assert!(
        ran.peak > 0 && ran.peak < MAX_MEMORY,
        "{args:?} took {peak} MiB"
    );
    ran
}

/// Snapshot, unchanged snapshot, ls, restore, forget and gc within their memory.
fn whole_life(world: &World) {
    within_memory(world, &["snapshot", "src"]);
    within_memory(world, &["snapshot", "src"]);
    within_memory(world, &["ls", "--recursive", "latest"]);
    within_memory(world, &["restore", "latest:src", "back"]);
    within_memory(world, &["check", "--read-data"]);
    within_memory(world, &["forget", "--keep-last", "1"]);
    within_memory(world, &["gc", "--max-unused", "0"]);
    let stored = data::bytes_below(&world.repository());
    eprintln!("repository: {stored} bytes");
}

fn many_files(root: &Path, count: u64) {
    fs::create_dir_all(root.join("many")).unwrap();
    for number in 0..count {
        let file = root.join("many").join(format!("file-{number:07}.txt"));
        fs::write(file, format!("the contents of file {number}\n")).unwrap();
    }
    // One folder among them, in their middle.
    let folder = root
        .join("many")
        .join(format!("file-{:07}.txt-folder", count / 2));
    fs::create_dir(&folder).unwrap();
    for name in ["one", "two", "three"] {
        fs::write(folder.join(name), name).unwrap();
    }
}

#[test]
fn a_folder_of_a_million_files() {
    let world = World::new();
    let count = size(20_000, 1_000_000);
    many_files(&world.path("src"), count);
    whole_life(&world);
    let folder = format!("latest:src/many/file-{:07}.txt-folder", count / 2);
    let ran = within_memory(&world, &["ls", "--verbose", &folder]);
    assert_eq!(ran.text().lines().count(), 3, "{}", ran.text());
    let pages = ran
        .stderr
        .lines()
        .find_map(|l| l.split_once(" page")?.0.parse::<u64>().ok());
    let pages = pages.unwrap_or_else(|| panic!("no count of pages: {}", ran.stderr));
    eprintln!("ls of one folder among {count} files: {pages} pages");
    assert!(pages <= MAX_PAGES, "{pages} pages");
    assert_same(&world.path("src"), &world.path("back"));
    // One new file among them costs next to nothing.
    fs::write(world.path("src/many/new"), "new").unwrap();
    let taken = world.object(["snapshot", "src"]);
    assert!(taken["stored_bytes"].as_u64().unwrap() < 200_000, "{taken}");
    let ran = within_memory(&world, &["gc"]);
    assert!(ran.stderr.is_empty(), "{}", ran.stderr);
}

/// Writes a file of data that partly compresses, partly repeats, with holes.
fn large_file(path: &Path, len: u64) {
    let mut file = File::create(path).unwrap();
    let mut random = Random(1);
    let piece = 4 << 20;
    for number in 0..len / piece {
        let bytes = match number % 4 {
            0 => random.bytes(piece as usize),
            1 => random.lines(piece as usize),
            2 => Random(number / 64).bytes(piece as usize),
            _ => {
                let mut some = random.bytes(piece as usize / 4);
                some.resize(piece as usize, b'x');
                some
            }
        };
        file.write_all(&bytes).unwrap();
    }
}

#[test]
fn a_large_file() {
    let world = World::new();
    fs::create_dir(world.path("src")).unwrap();
    large_file(&world.path("src/large"), size(256 << 20, 20 << 30));
    whole_life(&world);
    let found = differences(&world.path("src"), &world.path("back"));
    assert!(found.is_empty(), "{found:?}");
    fs::remove_dir_all(world.path("back")).unwrap();
    // A changed place in the middle costs what it is.
    let file = File::options()
        .write(true)
        .open(world.path("src/large"))
        .unwrap();
    let middle = size(100 << 20, 10 << 30);
    std::os::unix::fs::FileExt::write_all_at(&file, &Random(2).bytes(100_000), middle).unwrap();
    drop(file);
    let ran = within_memory(&world, &["snapshot", "src", "--json"]);
    let taken = ran.object();
    assert!(taken["new_bytes"].as_u64().unwrap() < 2_000_000, "{taken}");
}

/// Many systems allow a process 1,024 open files: a quarter must do.
#[test]
fn few_open_files_are_enough() {
    let world = World::new();
    let mut random = Random(7);
    for i in 0..3000 {
        let folder = world.path(format!("src/{}/{}", i % 40, i % 7));
        fs::create_dir_all(&folder).unwrap();
        // Beyond what is kept inline; every tenth has several chunks.
        let len = if i % 10 == 0 { 300_000 } else { 600 + i };
        fs::write(folder.join(format!("f{i}")), random.bytes(len)).unwrap();
    }
    let line = "ulimit -n 256 && $hucha snapshot src && $hucha check --read-data \
                && $hucha restore latest:src back && $hucha gc";
    world.bash(line).run().expect(0);
    assert_same(&world.path("src"), &world.path("back"));
}

//! A repository on a disk that is full: a snapshot fails with one sentence, nothing is lost, and
//! `forget` and `gc` make room again.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;

use crate::support::data::{self, Random};
use crate::support::disk::Disk;
use crate::support::{World, assert_same};

/// Bytes that repositories hold back for gc (docs/format.md): a new one, and one that is large.
const RESERVES: [u64; 2] = [512 << 10, 4 << 20];

/// A world whose repository lies on a disk of its own; unmounted when this goes.
struct Small {
    // Goes before the folder that it is in.
    _disk: Disk,
    world: World,
}

impl Small {
    /// `None` where mounting is refused.
    fn new(reserve: u64) -> Option<Small> {
        let world = World::empty();
        let disk = Disk::mount(&world.path("disk"), "24m", "a repository on a full disk")?;
        let small = Small { _disk: disk, world };
        fs::create_dir(small.repository()).unwrap();
        std::os::unix::fs::symlink("disk/repo", small.world.repository()).unwrap();
        small.world.ok(["init", "--new-key-file", "key"]);
        assert_eq!(small.reserved(), RESERVES[0]);
        if reserve == RESERVES[1] {
            // As old ones are, whatever they hold.
            let bytes = Random(77).bytes(reserve as usize);
            fs::write(small.repository().join("reserve"), bytes).unwrap();
        }
        assert_eq!(small.reserved(), reserve);
        Some(small)
    }

    fn repository(&self) -> PathBuf {
        self.world.path("disk/repo")
    }

    fn reserved(&self) -> u64 {
        fs::metadata(self.repository().join("reserve")).map_or(0, |found| found.len())
    }

    /// Takes the last byte with a file that is not ours.
    fn fill(&self) {
        let mut filler = File::options()
            .append(true)
            .create(true)
            .open(self.world.path("disk/filler"))
            .unwrap();
        for len in [1 << 20, 4096, 1] {
            while filler.write_all(&vec![7; len]).is_ok() {}
        }
    }

    /// Gives back a part of what [`Small::fill`] took.
    fn make_room(&self, bytes: u64) {
        let filler = self.world.path("disk/filler");
        let filler = File::options().write(true).open(filler).unwrap();
        let len = filler.metadata().unwrap().len();
        filler.set_len(len - bytes).unwrap();
    }

    /// A folder of one large file that fills packs of its own.
    fn write(&self, name: &str, seed: u64, len: usize) {
        let folder = self.world.path(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("{seed}")), Random(seed).bytes(len)).unwrap();
    }

    fn assert_restores(&self, id: &str, name: &str) {
        let back = self.world.path("back");
        let _ = fs::remove_dir_all(&back);
        self.world.ok(["restore", &format!("{id}:{name}"), "back"]);
        assert_same(&self.world.path(name), &back);
    }

    /// A snapshot fails with one sentence and one hint, and lets nothing stand that it began.
    fn assert_snapshot_fails(&self, name: &str) {
        let before = self.world.snapshots();
        let ran = self.world.run(["snapshot", name]).expect(1);
        let lines: Vec<&str> = ran.stderr.lines().collect();
        assert_eq!(lines.len(), 2, "{}", ran.stderr);
        assert!(
            lines[0].contains("the disk of the repository is full"),
            "{}",
            lines[0]
        );
        assert!(lines[1].contains("hucha forget") && lines[1].contains("hucha gc"));
        assert_eq!(before, self.world.snapshots());
    }
}

#[test]
fn a_full_disk_loses_nothing_and_gets_room_by_forget_and_gc() {
    RESERVES.into_iter().for_each(gets_room_by_forget_and_gc);
}

fn gets_room_by_forget_and_gc(reserve: u64) {
    let Some(small) = Small::new(reserve) else {
        return;
    };
    let world = &small.world;
    small.write("one", 1, 8_000_000);
    small.write("two", 2, 3_000_000);
    small.write("large", 3, 16_000_000);
    small.write("later", 4, 6_000_000);
    let one = world.snapshot("one");
    let two = world.snapshot("two");
    small.assert_snapshot_fails("large");
    small.fill();
    small.assert_snapshot_fails("large");
    small.assert_snapshot_fails("later");
    world.assert_whole();
    small.assert_restores(&one, "one");
    small.assert_restores(&two, "two");

    world.ok(["forget", &one]);
    assert!(
        small.reserved() < reserve,
        "how else could it write the marker?"
    );
    small.fill();
    let freed = world.object(["gc", "--force"]);
    assert!(
        freed["bytes_freed"].as_u64().unwrap() >= 8_000_000,
        "{freed}"
    );
    assert_eq!(freed["out_of_room"], false);
    assert_eq!(small.reserved(), reserve, "made anew when there is room");
    let later = world.snapshot("later");
    small.assert_restores(&two, "two");
    small.assert_restores(&later, "later");
    world.assert_whole();
    for area in ["sessions", "gc"] {
        assert!(world.objects(area).is_empty(), "{area}");
    }
}

/// What interrupted runs left is freed although not one small object can be written.
#[test]
fn gc_frees_what_an_interrupted_run_left_on_a_full_disk() {
    RESERVES.into_iter().for_each(frees_what_is_left);
}

fn frees_what_is_left(reserve: u64) {
    let Some(small) = Small::new(reserve) else {
        return;
    };
    let world = &small.world;
    small.write("one", 1, 2_000_000);
    small.write("large", 3, 26_000_000);
    let one = world.snapshot("one");
    small.assert_snapshot_fails("large");
    small.fill();
    let before = data::bytes_below(&small.repository().join("packs"));
    let freed = world.object(["gc"]);
    let after = data::bytes_below(&small.repository().join("packs"));
    assert!(before - after > 10_000_000, "{before} {after} {freed}");
    small.write("more", 5, 6_000_000);
    world.snapshot("more");
    small.assert_restores(&one, "one");
    world.assert_whole();
}

/// Packs that are used in part cannot be rewritten without room: they stay, and gc says so.
#[test]
fn without_room_to_copy_gc_says_so_and_loses_nothing() {
    RESERVES.into_iter().for_each(says_that_there_is_no_room);
}

fn says_that_there_is_no_room(reserve: u64) {
    let Some(small) = Small::new(reserve) else {
        return;
    };
    let world = &small.world;
    small.write("src", 1, 5_000_000);
    small.write("src", 2, 3_000_000);
    let both = world.snapshot("src");
    fs::remove_file(world.path("src/2")).unwrap();
    let first = world.snapshot("src");
    world.ok(["forget", &both]);
    small.fill();
    for _ in 0..3 {
        let ran = world
            .call(["gc", "--max-unused", "0", "--json"])
            .run()
            .expect(3);
        assert_eq!(ran.object()["out_of_room"], true);
        small.assert_restores(&first, "src");
    }
    world
        .run(["gc", "--max-unused", "0"])
        .expect(3)
        .says("no room");
    // A little room is not enough either, and what was copied in vain does not stay.
    small.make_room(4 << 20);
    let before = data::bytes_below(&small.repository().join("packs"));
    let ran = world
        .call(["gc", "--max-unused", "0", "--json"])
        .run()
        .expect(3);
    assert_eq!(ran.object()["out_of_room"], true);
    assert_eq!(before, data::bytes_below(&small.repository().join("packs")));
    assert_eq!(small.reserved(), reserve);
    world.assert_whole();

    fs::remove_file(world.path("disk/filler")).unwrap();
    let freed = world.object(["gc", "--max-unused", "0"]);
    assert!(
        freed["bytes_freed"].as_u64().unwrap() >= 7_900_000,
        "{freed}"
    );
    small.assert_restores(&first, "src");
    world.assert_whole();
}

/// All that is forgotten shares packs with what stays, and there is no room at all: gc goes on in
/// small parts, each of which makes room for the next.
#[test]
fn packs_that_are_used_in_part_are_freed_without_any_room() {
    // A copy of what lives in a pack has to fit into what is lent after a part was given up twice.
    frees_packs_that_are_used_in_part(RESERVES[0], [160_000, 150_000]);
    frees_packs_that_are_used_in_part(RESERVES[1], [1_900_000, 1_700_000]);
}

fn frees_packs_that_are_used_in_part(reserve: u64, [living, dead]: [usize; 2]) {
    let Some(small) = Small::new(reserve) else {
        return;
    };
    let world = &small.world;
    let mut forget = vec!["forget".to_owned()];
    for n in 10..14 {
        small.write("src", n, living);
        small.write("src", n + 10, dead);
        forget.push(world.snapshot("src"));
        fs::remove_file(world.path("src").join(format!("{}", n + 10))).unwrap();
    }
    let last = world.snapshot("src");
    small.fill();
    world.ok(forget.iter().map(String::as_str));
    small.fill();
    small.write("more", 30, dead * 40 / 17);
    small.assert_snapshot_fails("more");
    small.fill();
    let before = data::bytes_below(&small.repository().join("packs"));
    let freed = world.object(["gc", "--max-unused", "0"]);
    let after = data::bytes_below(&small.repository().join("packs"));
    let unused = 4 * dead as u64;
    assert!(
        before - after > unused - unused / 68,
        "{before} {after} {freed}"
    );
    assert!(
        freed["bytes_freed"].as_u64().unwrap() > (unused + 4 * living as u64) / 36 * 35,
        "{freed}"
    );
    assert_eq!(
        (&freed["out_of_room"], &freed["bytes_unused"]),
        (&false.into(), &0.into())
    );
    assert_eq!(small.reserved(), reserve, "made anew when there is room");
    let more = world.snapshot("more");
    small.assert_restores(&last, "src");
    small.assert_restores(&more, "more");
    world.assert_whole();
    for area in ["sessions", "gc"] {
        assert!(world.objects(area).is_empty(), "{area}");
    }
}

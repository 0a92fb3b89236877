//! Ten processes at once on one repository: whatever was committed comes back byte for byte,
//! nothing has to be broken or repaired.

use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::support::data::{self, Random, seed, small_tree};
use crate::support::{Ran, World, assert_same, size};

/// Snapshots that were committed, with a copy of what they hold.
#[derive(Default)]
struct Committed(Mutex<Vec<(String, PathBuf)>>);

impl Committed {
    /// One of them.
    fn any(&self, random: &mut Random) -> Option<(String, PathBuf)> {
        let all = self.0.lock().unwrap();
        let at = random.below(all.len() as u64) as usize;
        all.get(at).cloned()
    }

    /// Takes one out, unless few are left.
    fn remove(&self, random: &mut Random) -> Option<(String, PathBuf)> {
        let mut all = self.0.lock().unwrap();
        let at = random.below(all.len() as u64) as usize;
        (all.len() > 6).then(|| all.remove(at))
    }
}

/// One night of a writer: files that many writers share, own ones, some changed, some gone.
fn change(root: &std::path::Path, random: &mut Random) {
    for _ in 0..6 {
        let folder = root.join(random.below(5).to_string());
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join(random.below(12).to_string());
        match random.below(5) {
            0 => drop(fs::remove_file(path)),
            1 => fs::write(path, random.lines(400_000)).unwrap(),
            2 => fs::write(path, Random(random.below(9)).bytes(300_000)).unwrap(),
            _ => {
                let len = random.below(60_000) as usize;
                fs::write(path, random.bytes(len)).unwrap();
            }
        }
    }
}

/// Whether a command failed for no other reason than that its snapshot was forgotten meanwhile.
fn was_forgotten(ran: &Ran) -> bool {
    ran.code() == 1 && (ran.stderr.contains("forgot") || ran.stderr.contains("no snapshot"))
}

struct Actors<'a> {
    world: &'a World,
    committed: Committed,
    until: Instant,
    counts: Mutex<[u64; 5]>,
}

impl Actors<'_> {
    fn goes_on(&self) -> bool {
        Instant::now() < self.until
    }

    fn count(&self, what: usize) {
        self.counts.lock().unwrap()[what] += 1;
    }

    fn write(&self, name: &str, seed: u64) {
        let mut random = Random(seed);
        let root = self.world.path(name);
        fs::create_dir_all(&root).unwrap();
        let mut number = 0;
        while self.goes_on() {
            change(&root, &mut random);
            let copy = self.world.path(format!("copies/{name}-{number}"));
            data::copy_folder(&root, &copy);
            let id = self.world.snapshot(name);
            self.committed.0.lock().unwrap().push((id, copy));
            number += 1;
            self.count(0);
        }
    }

    fn forget(&self, seed: u64) {
        let mut random = Random(seed);
        while self.goes_on() {
            if let Some((id, copy)) = self.committed.remove(&mut random) {
                self.world.ok(["forget", &id]);
                if random.below(4) == 0 {
                    self.undelete(&id, copy);
                } else {
                    fs::remove_dir_all(copy).unwrap();
                }
                self.count(1);
            } else {
                self.world.ok(["snapshots"]);
            }
        }
    }

    /// Takes it back, unless gc was faster.
    fn undelete(&self, id: &str, copy: PathBuf) {
        let ran = self.world.run(["undelete", id, "--json"]);
        if ran.code() == 0 {
            let id = ran.object()["id"].as_str().unwrap().to_owned();
            self.committed.0.lock().unwrap().push((id, copy));
        } else {
            let ran = ran.expect(1);
            assert!(!ran.stderr.contains("amage"), "{}", ran.stderr);
        }
    }

    fn collect(&self) {
        while self.goes_on() {
            let args = ["gc", "--max-unused", "0", "--force"];
            self.world.ok(args);
            self.count(2);
        }
    }

    fn check(&self) {
        while self.goes_on() {
            self.world.ok(["check", "--read-data"]);
            self.count(3);
        }
    }

    fn restore(&self, seed: u64) {
        let mut random = Random(seed);
        let target = format!("restored-{seed}");
        while self.goes_on() {
            let Some((id, copy)) = self.committed.any(&mut random) else {
                self.world.ok(["snapshots"]);
                continue;
            };
            let ran = self.world.run(["restore", &format!("{id}:"), &target]);
            let still = self
                .committed
                .0
                .lock()
                .unwrap()
                .iter()
                .any(|(i, _)| *i == id);
            if ran.code() == 0 && still && copy.exists() {
                self.count(4);
            } else if ran.code() != 0 {
                let fine = !still && was_forgotten(&ran);
                assert!(
                    fine,
                    "{id}, still there {still}: {} {}",
                    ran.code(),
                    ran.stderr
                );
            }
            let _ = fs::remove_dir_all(self.world.path(&target));
        }
    }
}

fn afterwards(actors: &Actors<'_>) {
    let world = actors.world;
    let committed = actors.committed.0.lock().unwrap();
    for (id, copy) in committed.iter() {
        let _ = fs::remove_dir_all(world.path("back"));
        world.ok(["restore", id, "back"]);
        let name = copy.file_name().unwrap().to_str().unwrap();
        let name = name.rsplit_once('-').unwrap().0;
        assert_same(copy, &world.path("back").join(name));
    }
    world.assert_whole();
    world.ok(["gc", "--max-unused", "0", "--force"]);
    for area in ["sessions", "gc", "tmp"] {
        let left = world.objects(area);
        assert!(left.is_empty(), "{area} holds {left:?}");
    }
    assert_eq!(world.snapshots().len(), committed.len());
    world.assert_whole();
}

#[test]
fn ten_processes_at_once_lose_nothing() {
    let world = World::new();
    fs::create_dir(world.path("copies")).unwrap();
    let seed = seed("processes");
    let until = Instant::now() + Duration::from_secs(size(15, 120));
    let (committed, counts) = (Committed::default(), Mutex::default());
    let actors = Actors {
        world: &world,
        committed,
        until,
        counts,
    };
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let name = format!("w{writer}");
            let actors = &actors;
            scope.spawn(move || actors.write(&name, seed + writer));
        }
        scope.spawn(|| actors.forget(seed + 10));
        scope.spawn(|| actors.forget(seed + 11));
        scope.spawn(|| actors.collect());
        scope.spawn(|| actors.collect());
        scope.spawn(|| actors.check());
        scope.spawn(|| actors.restore(seed + 12));
    });
    let [snapshots, forgets, gcs, checks, restores] = *actors.counts.lock().unwrap();
    eprintln!(
        "{snapshots} snapshots, {forgets} forgets, {gcs} gcs, {checks} checks, {restores} restores"
    );
    assert!([snapshots, gcs, checks, restores].iter().all(|n| *n > 0));
    afterwards(&actors);
}

#[test]
fn what_two_sweepers_of_one_list_leave_goes_with_the_next_gc() {
    let world = World::new();
    fs::write(world.path("f"), "x").unwrap();
    world.snapshot("f");
    // The slower of them puts it after the faster has retired the list.
    fs::create_dir_all(world.repository().join("gc")).unwrap();
    let orphan = world
        .repository()
        .join("gc/0123456789abcdef0123456789abcdef.open");
    fs::write(&orphan, "x").unwrap();
    world.ok(["gc"]);
    assert!(!orphan.exists());
    world.assert_whole();
}

/// What two `undelete` at once may leave, made one after the other: each in a copy of the
/// repository, and then all objects of both are in one.
#[test]
fn a_snapshot_that_was_taken_back_twice_is_shown_and_forgotten_as_one() {
    let world = World::new();
    small_tree(&world.path("src"), 1);
    let id = world.snapshot("src");
    world.ok(["forget", &id]);
    data::copy_folder(&world.repository(), &world.path("other"));
    let twice = || {
        world.ok(["undelete", &id]);
        world.ok(["-r", "other", "undelete", &id]);
        data::copy_folder(&world.path("other"), &world.repository());
    };
    twice();
    assert_eq!(world.objects("snapshots").len(), 3);
    assert_eq!(world.snapshots().len(), 1);
    let told = world.ok(["snapshots"]).says("stands twice");
    assert_eq!(told.text().matches(&id[..8]).count(), 1);
    let counted = world.object(["stats", "latest"]);
    assert_eq!(counted["unique_bytes"], counted["plain_bytes"], "{counted}");
    world.ok(["forget", &id]);
    assert!(world.snapshots().is_empty());

    fs::remove_dir_all(world.path("other")).unwrap();
    data::copy_folder(&world.repository(), &world.path("other"));
    twice();
    world.ok(["rewrite", "--exclude", "small", "--forget"]);
    let left = world.snapshots();
    assert_eq!(left.len(), 1, "{left:?}");
    assert_ne!(left[0]["id"], id.as_str());
    world.ok(["gc", "--force"]);
    world.assert_whole();
}

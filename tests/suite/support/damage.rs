//! What can happen to an object, and a repository to which it happens again and again.

use std::fs;
use std::path::{Path, PathBuf};

use super::World;
use super::data::{self, Random, small_tree};

/// What can happen to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    /// One bit in the middle is another.
    FlipMiddle,
    /// One bit of the first byte.
    FlipFirst,
    /// One bit of the last byte.
    FlipLast,
    /// The second half is gone.
    Halve,
    /// All bytes are gone, the object stays.
    Empty,
    /// The object is gone.
    Remove,
    /// As many other bytes.
    Replace,
}

impl Harm {
    /// Each of them.
    pub const ALL: [Harm; 7] = [
        Harm::FlipMiddle,
        Harm::FlipFirst,
        Harm::FlipLast,
        Harm::Halve,
        Harm::Empty,
        Harm::Remove,
        Harm::Replace,
    ];

    /// One of each sort: wrong, short, gone.
    pub const SOME: [Harm; 3] = [Harm::FlipMiddle, Harm::Halve, Harm::Remove];
}

/// Does this to a file.
pub fn harm(path: &Path, harm: Harm) {
    let mut bytes = fs::read(path).unwrap();
    let len = bytes.len();
    match harm {
        Harm::FlipMiddle => bytes[len / 2] ^= 0x10,
        Harm::FlipFirst => bytes[0] ^= 0x01,
        Harm::FlipLast => bytes[len - 1] ^= 0x80,
        Harm::Halve => bytes.truncate(len / 2),
        Harm::Empty => bytes.clear(),
        Harm::Remove => return fs::remove_file(path).unwrap(),
        Harm::Replace => bytes = Random(len as u64).bytes(len),
    }
    fs::write(path, bytes).unwrap();
}

/// The end of an object's name, as messages show it.
pub fn name_of(object: &Path) -> String {
    object.file_name().unwrap().to_str().unwrap().to_owned()
}

fn one_snapshot() -> World {
    let world = World::new();
    small_tree(&world.path("src"), 1);
    data::age(&world.path("src"));
    world.snapshot("src");
    world
}

/// A repository with snapshots of `src`, and a whole copy of it.
pub struct Patient {
    /// Where it lies.
    pub world: World,
}

impl Patient {
    /// With two snapshots; the second has one file of 300,000 bytes more, `a/more`.
    pub fn new() -> Patient {
        let world = one_snapshot();
        fs::write(world.path("src/a/more"), Random(2).bytes(300_000)).unwrap();
        data::age(&world.path("src"));
        world.snapshot("src");
        Patient::of(world)
    }

    /// With one snapshot.
    pub fn young() -> Patient {
        Patient::of(one_snapshot())
    }

    fn of(world: World) -> Patient {
        data::copy_folder(&world.repository(), &world.path("whole"));
        Patient { world }
    }

    /// Puts a whole copy in the repository's place, and no machine remembers anything.
    pub fn heal(&self) {
        for name in ["repo", "cache", "back"] {
            let _ = fs::remove_dir_all(self.world.path(name));
        }
        data::copy_folder(&self.world.path("whole"), &self.world.repository());
    }

    /// The objects of an area, relative to the repository.
    pub fn objects(&self, area: &str) -> Vec<PathBuf> {
        let root = self.world.path("whole");
        let all = data::files(&root.join(area)).into_iter();
        all.map(|f| f.strip_prefix(&root).unwrap().to_owned())
            .collect()
    }

    /// What a restore of the newest into `back` did not give. What it gave must be right.
    #[track_caller]
    pub fn missing(&self) -> Vec<PathBuf> {
        let (from, to) = (self.world.path("src"), self.world.path("back/src"));
        let mut missing = Vec::new();
        for file in data::files(&from) {
            let name = file.strip_prefix(&from).unwrap();
            let copy = to.join(name);
            match fs::symlink_metadata(&copy) {
                Err(_) => missing.push(name.to_owned()),
                Ok(meta) if meta.is_symlink() => {}
                Ok(_) => assert!(
                    fs::read(&copy).unwrap() == fs::read(&file).unwrap(),
                    "{name:?}"
                ),
            }
        }
        let strange = data::files(&to)
            .into_iter()
            .filter(|f| fs::symlink_metadata(from.join(f.strip_prefix(&to).unwrap())).is_err());
        assert_eq!(strange.count(), 0, "half files are left");
        missing
    }

    /// The newest is restored whole, down to the last byte, and so is the repository.
    #[track_caller]
    pub fn assert_restores(&self) {
        let world = &self.world;
        let _ = fs::remove_dir_all(world.path("back"));
        world.ok(["restore", "latest:src", "back"]);
        super::assert_same(&world.path("src"), &world.path("back"));
        world.assert_whole();
    }
}

//! Small repositories, damaged at random places in random ways: nothing panics or hangs, what is
//! restored is right or reported, and what is damaged is found.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::is_full;
use super::scene::{Scene, every_byte, restored};
use crate::backend::{Area, Backend, Key, Memory};
use crate::check::check;
use crate::monitor::Silent;
use crate::repository::OpenError;
use crate::snapshots::SnapshotList;
use crate::testing::noise;

/// A generous limit: everything here takes milliseconds.
const LIMIT: Duration = Duration::from_secs(60);

/// Numbers that follow from a seed.
struct Dice {
    bytes: Vec<u8>,
    at: usize,
}

impl Dice {
    fn new(seed: u64) -> Dice {
        Dice {
            bytes: noise(4096, &format!("dice {seed}")),
            at: 0,
        }
    }

    fn below(&mut self, limit: usize) -> usize {
        let word = self.bytes.get(self.at..self.at + 4).unwrap_or(&[7; 4]);
        self.at += 4;
        u32::from_le_bytes(word.try_into().unwrap()) as usize % limit.max(1)
    }
}

/// What can happen to stored bytes.
#[derive(Debug, Clone, Copy)]
enum Harm {
    FlipBits,
    Zeros,
    Cut,
    Empty,
    Append,
    Insert,
    Remove,
    /// The bytes of another object, of any area.
    Swap,
    /// The bytes of another object of the same area.
    SwapAlike,
    /// The object once more, under a name of its own.
    Copy,
    /// An object of garbage under a name that nobody has.
    Stray,
}

const HARMS: [Harm; 11] = [
    Harm::FlipBits,
    Harm::Zeros,
    Harm::Cut,
    Harm::Empty,
    Harm::Append,
    Harm::Insert,
    Harm::Remove,
    Harm::Swap,
    Harm::SwapAlike,
    Harm::Copy,
    Harm::Stray,
];

fn keys(memory: &Memory) -> Vec<Key> {
    let mut keys = Vec::new();
    for area in Area::ALL {
        let name = |name: &str| match area {
            Area::Config => Some(Key::config()),
            _ => Key::new(area, name),
        };
        memory
            .list(area, &mut |listed| keys.extend(name(&listed.name)))
            .unwrap();
    }
    keys
}

/// A name of the same form: another last digit.
fn beside(key: &Key) -> Option<Key> {
    let (head, last) = key
        .name()
        .split_at_checked(key.name().len().checked_sub(1)?)?;
    let other = if last == "0" { "1" } else { "0" };
    Key::new(key.area(), format!("{head}{other}"))
}

fn harm(memory: &Memory, dice: &mut Dice) -> String {
    let keys = keys(memory);
    let key = keys[dice.below(keys.len())].clone();
    let way = HARMS[dice.below(HARMS.len())];
    let mut bytes = memory.get(&key).unwrap();
    let at = dice.below(bytes.len());
    match way {
        Harm::FlipBits => {
            for _ in 0..=dice.below(3) {
                let at = dice.below(bytes.len());
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << dice.below(8);
                }
            }
        }
        Harm::Zeros => {
            let end = bytes.len().min(at + 1 + dice.below(600));
            bytes[at..end].fill(0);
        }
        Harm::Cut => bytes.truncate(at),
        Harm::Empty => bytes.clear(),
        Harm::Append => bytes.extend(noise(1 + dice.below(100), "appended")),
        Harm::Insert => {
            bytes.splice(at..at, noise(1 + dice.below(20), "inserted"));
        }
        Harm::Remove => {
            memory.remove(&key);
            return format!("{way:?} {key}");
        }
        Harm::Swap => bytes = memory.get(&keys[dice.below(keys.len())]).unwrap(),
        Harm::SwapAlike => {
            let alike: Vec<&Key> = keys.iter().filter(|k| k.area() == key.area()).collect();
            bytes = memory.get(alike[dice.below(alike.len())]).unwrap();
        }
        Harm::Copy | Harm::Stray => {
            if matches!(way, Harm::Stray) {
                bytes = noise(dice.below(300), "stray");
            }
            if let Some(other) = beside(&key).filter(|other| !keys.contains(other)) {
                memory.replace(&other, bytes);
            }
            return format!("{way:?} beside {key}");
        }
    }
    memory.replace(&key, bytes);
    format!("{way:?} {key}")
}

/// How often each end was seen.
#[derive(Debug, Default)]
struct Ends {
    refused_to_open: u32,
    damage_found: u32,
    clean: u32,
    files_right: u64,
    files_reported: u64,
}

/// Opens, checks and restores everything of a damaged repository.
fn suffer(scene: &Scene, ends: &mut Ends) {
    let repository = match scene.open_at(Arc::new(scene.memory.clone())) {
        Ok(repository) => repository,
        Err(
            OpenError::NoRepository(_)
            | OpenError::WrongKey
            | OpenError::Version(_)
            | OpenError::Access(_),
        ) => {
            ends.refused_to_open += 1;
            return;
        }
        Err(other) => panic!("{other}"),
    };
    let report = check(&repository, &every_byte(), &Silent::default());
    let is_clean = report.as_ref().is_ok_and(|r| r.damage.is_empty());
    match is_clean {
        true => ends.clean += 1,
        false => ends.damage_found += 1,
    }
    let list = SnapshotList::read(&repository).unwrap();
    for known in &scene.kept {
        let Some(manifest) = list.committed.iter().find(|m| **m == known.manifest) else {
            // A missing object is nothing that a check could know of.
            continue;
        };
        let Ok((report, files)) = restored(&repository, manifest) else {
            assert!(
                !is_clean,
                "check finds nothing, and a snapshot cannot be restored"
            );
            continue;
        };
        for (path, bytes) in &files {
            assert!(
                known.source.files.get(path) == Some(bytes),
                "a wrong file was restored"
            );
        }
        ends.files_right += files.len() as u64;
        let missing = known.source.files.len() - files.len();
        ends.files_reported += missing as u64;
        let told = report.damaged.len() + report.problems.len();
        assert!(
            missing == 0 || told > 0,
            "{missing} files are missing, nothing is said"
        );
        assert!(
            told == 0 || !is_clean,
            "check finds nothing, restore does: {report:?}"
        );
    }
}

#[test]
fn randomly_damaged_repositories_never_panic_and_never_lie() {
    let count = if is_full() { 10_000 } else { 300 };
    let histories = [
        Scene::empty().deltas().snapshot(0).snapshot(1),
        Scene::empty()
            .snapshot(0)
            .snapshot(2)
            .dead_writer()
            .forget()
            .snapshot(3),
    ];
    let mut ends = Ends::default();
    for seed in 0..count {
        let mut dice = Dice::new(seed);
        let scene = histories[dice.below(histories.len())].fork().stranger();
        let harms: Vec<String> = (0..=dice.below(3))
            .map(|_| harm(&scene.memory, &mut dice))
            .collect();
        let begun = Instant::now();
        let went = catch_unwind(AssertUnwindSafe(|| suffer(&scene, &mut ends)));
        assert!(went.is_ok(), "seed {seed}: {harms:#?}");
        assert!(begun.elapsed() < LIMIT, "seed {seed} hangs: {harms:#?}");
    }
    println!("{count} damaged repositories: {ends:?}");
    assert!(ends.refused_to_open > 0 && ends.damage_found > ends.clean && ends.files_right > 0);
}

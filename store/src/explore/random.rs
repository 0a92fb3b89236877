//! Random schedules of many actors, each from a seed that replays it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::cast::{Actor, Role, Scene, Troupe};
use super::judge::judge;
use super::search::describe;
use super::stage::{Choice, Director, Step};
use super::start::Start;
use super::tests::{is_full, starts};
use crate::backend::Operation;
use crate::gc::Fence;

/// Actors of a scene at most.
const MOST: u64 = 5;

/// Small numbers that follow from a seed (SplitMix64).
#[derive(Clone)]
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.roll(all.len() as u64) as usize]
    }
}

/// Decides by dice. How restless it is differs from schedule to schedule.
struct Chance {
    dice: Dice,
    /// One step in so many is switched.
    switch: u64,
    /// One step in so many goes wrong.
    fault: u64,
    asked: Option<usize>,
}

impl Director for Chance {
    fn decide(&mut self, number: usize, step: &Step, free: &[usize]) -> Option<Choice> {
        // After a switch the other goes on.
        if self.asked.replace(number) == Some(number) {
            return None;
        }
        if !free.is_empty() && self.dice.roll(self.switch) == 0 {
            return Some(Choice::Switch(self.dice.pick(free)));
        }
        if self.dice.roll(self.fault) != 0 {
            return None;
        }
        match self.dice.roll(8) {
            0 => Some(Choice::Crash),
            1 | 2 => Some(Choice::Stall),
            3 => Some(Choice::Refused),
            4 | 5 => Some(Choice::Lost),
            _ if step.operation == Operation::List => None,
            _ => {
                let land = number + 1 + self.dice.roll(150) as usize;
                Some(Choice::Late {
                    land: (self.dice.roll(3) > 0).then_some(land),
                    sticky: self.dice.roll(2) == 0,
                })
            }
        }
    }

    fn next(&mut self, free: &[usize]) -> Option<usize> {
        (!free.is_empty()).then(|| self.dice.pick(free))
    }
}

/// The scene and the schedule of a seed.
fn of_seed(starts: &[Start], seed: u64) -> (Scene, Chance) {
    let mut dice = Dice(seed);
    let start = &starts[dice.roll(starts.len() as u64) as usize];
    let many = 3 + dice.roll(MOST - 2) as usize;
    let roles: Vec<Role> = (0..many).map(|_| role(&mut dice, start)).collect();
    let mut scene = Scene::of(start, &roles);
    scene.seed = format!("random {seed}");
    for actor in &mut scene.actors {
        *actor = Actor {
            stale: dice.roll(3) > 0,
            ..*actor
        };
    }
    scene.first = dice.roll(many as u64) as usize;
    let chance = Chance {
        switch: dice.pick(&[2, 4, 8, 20]),
        fault: dice.pick(&[8, 20, 50, 1000]),
        dice,
        asked: None,
    };
    (scene, chance)
}

fn role(dice: &mut Dice, start: &Start) -> Role {
    let letters = dice.pick(&["ad", "b", "bc", "abde", "AB", "Bd", "A", "cf"]);
    let past = start.snapshots.len() as u64;
    match dice.roll(16) {
        0..3 => Role::Snapshot(letters),
        3 | 14 | 15 => Role::Checkpoints(letters),
        4 => Role::Stream(letters),
        5 => Role::Fail(letters),
        6 | 7 => Role::Gc(Fence::Auto),
        8 | 9 => Role::Gc(Fence::Now),
        10 => Role::Merge,
        11 => Role::Forget(dice.roll(past) as usize),
        12 => Role::ForgetNew,
        _ => Role::Undelete(dice.roll(past) as usize),
    }
}

/// Plays the schedule of a seed.
fn play(troupe: &Troupe, starts: &[Start], seed: u64) -> Result<usize, String> {
    let (scene, chance) = of_seed(starts, seed);
    let outcome = troupe.play(&scene, Box::new(chance));
    judge(&outcome, seed.is_multiple_of(4))
        .map(|()| outcome.ended.trace.len())
        .map_err(|why| {
            format!(
                "HUCHA_SEED={seed}: {why}\n{}",
                describe(&scene, &outcome, &[])
            )
        })
}

#[test]
fn random_schedules() {
    let starts = starts();
    if let Ok(seed) = std::env::var("HUCHA_SEED") {
        let troupe = Troupe::new(MOST as usize);
        play(&troupe, &starts, seed.parse().unwrap()).unwrap_or_else(|why| panic!("{why}"));
        return;
    }
    let long = is_full() || std::env::var("CI").is_ok();
    let end = Instant::now() + Duration::from_secs(if long { 180 } else { 15 });
    let first = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap()
        .as_millis() as u64
        * 1_000_000;
    let (seeds, steps) = (AtomicU64::new(0), AtomicU64::new(0));
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let troupe = Troupe::new(MOST as usize);
                while Instant::now() < end && failures.lock().unwrap().is_empty() {
                    let seed = first + seeds.fetch_add(1, Ordering::Relaxed);
                    match play(&troupe, &starts, seed) {
                        Ok(n) => {
                            steps.fetch_add(n as u64, Ordering::Relaxed);
                        }
                        Err(why) => failures.lock().unwrap().push(why),
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    println!(
        "{} random schedules from seed {first}, {} steps",
        seeds.into_inner(),
        steps.into_inner()
    );
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// The same seed gives the same schedule, operation by operation.
#[test]
fn schedules_replay() {
    let starts = starts();
    let again = super::tests::starts();
    let troupe = Troupe::new(MOST as usize);
    for seed in 0..300 {
        let play = |starts: &[Start]| {
            let (scene, chance) = of_seed(starts, seed);
            troupe.play(&scene, Box::new(chance))
        };
        let (one, other) = (play(&starts), play(&again));
        assert_eq!(one.ends, other.ends, "seed {seed}");
        assert_eq!(one.ended.trace, other.ended.trace, "seed {seed}");
    }
}

//! What a step touched, and in 128 bits what a schedule has come to: on these rest the reductions
//! of [`super::search`].

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use crate::backend::{Area, Key};

/// One thing that a step reads or changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Touch {
    /// Which objects an area holds.
    Area(Area),
    /// One object.
    Key(Key),
    /// Whether an actor lives.
    Life(usize),
}

impl Touch {
    /// Whether what is read is other after this change.
    fn sees(&self, change: &Touch) -> bool {
        match (self, change) {
            (Touch::Area(area), Touch::Key(key)) => *area == key.area(),
            _ => self == change,
        }
    }
}

/// Whether anything that is read here is changed there.
pub(super) fn conflict<'a>(reads: &[Touch], mut changes: impl Iterator<Item = &'a Touch>) -> bool {
    changes.any(|change| reads.iter().any(|read| read.sees(change)))
}

/// Stands for a value: two that differ have different ones, as far as BLAKE3 goes.
pub(super) type Print = u128;

struct Wide(blake3::Hasher);

impl Hasher for Wide {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        print_of(&self.0) as u64
    }
}

fn print_of(hasher: &blake3::Hasher) -> Print {
    let bytes = *hasher.finalize().as_bytes();
    bytes
        .first_chunk()
        .map_or(0, |half| Print::from_le_bytes(*half))
}

/// The print of a value.
pub(super) fn print(value: &impl Hash) -> Print {
    let mut wide = Wide(blake3::Hasher::new());
    value.hash(&mut wide);
    print_of(&wide.0)
}

/// Prints of what is stored, relative to the start, and of all answers that each actor was given:
/// its code and its random bytes are the same in each schedule, so they tell where it stands.
pub(super) struct Prints {
    /// Sums over the objects that came, less those that went.
    areas: BTreeMap<Area, Print>,
    /// Of objects that came.
    bodies: BTreeMap<Key, Print>,
    answers: Vec<Print>,
    /// The oracle remembers every put of a pack, and which came again.
    packs: Print,
    came: BTreeMap<Key, usize>,
}

impl Prints {
    pub fn new(actors: usize) -> Prints {
        Prints {
            areas: BTreeMap::new(),
            bodies: BTreeMap::new(),
            answers: vec![0; actors],
            packs: 0,
            came: BTreeMap::new(),
        }
    }

    pub fn created(&mut self, key: &Key, body: &[u8], late: bool) {
        let body = print(&body);
        self.bodies.insert(key.clone(), body);
        let area = self.areas.entry(key.area()).or_default();
        *area = area.wrapping_add(print(&(key, body)));
        if key.area() == Area::Packs {
            let came = self.came.entry(key.clone()).or_default();
            *came += 1;
            self.packs = self.packs.wrapping_add(print(&(key, late, *came)));
        }
    }

    /// An object that stood is gone.
    pub fn deleted(&mut self, key: &Key) {
        let body = self.bodies.remove(key).unwrap_or_default();
        let area = self.areas.entry(key.area()).or_default();
        *area = area.wrapping_sub(print(&(key, body)));
    }

    /// What a listing answers.
    pub fn area(&self, area: Area) -> Print {
        self.areas.get(&area).copied().unwrap_or_default()
    }

    /// What a get of an object that stands answers; 0 for one of the start.
    pub fn body(&self, key: &Key) -> Print {
        self.bodies.get(key).copied().unwrap_or_default()
    }

    /// An actor was told something.
    pub fn told(&mut self, actor: usize, what: &impl Hash) {
        if let Some(answers) = self.answers.get_mut(actor) {
            *answers = print(&(*answers, what));
        }
    }

    /// All that an actor was told.
    pub fn answers(&self, actor: usize) -> Print {
        self.answers.get(actor).copied().unwrap_or_default()
    }

    /// Everything that is stored, and what the oracle remembers beside.
    pub fn stored(&self) -> Print {
        print(&(Area::ALL.map(|area| self.area(area)), self.packs))
    }
}

//! What is measured of one tool with one corpus.

use super::measure::Taken;

/// Something that a tool is told to do and that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// Does next to nothing: mostly key derivation.
    Open,
    /// The first night, into an empty repository.
    First,
    /// Any other.
    Later,
    /// A night in which nothing changed.
    Unchanged,
    /// The last night, into an empty folder.
    RestoreLast,
    /// The first.
    RestoreFirst,
    /// All stored data is read.
    Check,
    /// All but two snapshots go, and their space.
    Collect,
}

/// All of them, with their headings.
pub const DEEDS: [(Deed, &str); 8] = [
    (Deed::Open, "open"),
    (Deed::First, "first night"),
    (Deed::Later, "later night"),
    (Deed::Unchanged, "unchanged"),
    (Deed::RestoreLast, "restore last"),
    (Deed::RestoreFirst, "restore first"),
    (Deed::Check, "check"),
    (Deed::Collect, "forget+gc"),
];

/// Everything of one tool.
#[derive(Debug, Default)]
pub struct Figures {
    taken: [Vec<Taken>; DEEDS.len()],
    /// Bytes of the repository after each night.
    pub sizes: Vec<u64>,
    /// Files of the repository after the last night and the unchanged ones.
    pub files: Option<usize>,
    /// Bytes of the repository when all but two snapshots were forgotten.
    pub collected: Option<u64>,
}

impl Figures {
    /// Adds what a deed took.
    pub fn push(&mut self, deed: Deed, taken: Taken) {
        self.taken[deed as usize].push(taken);
    }

    /// Seconds of a deed by the clock on the wall, the median.
    pub fn seconds(&self, deed: Deed) -> Option<f64> {
        median(self.taken[deed as usize].iter().map(|t| t.seconds))
    }

    /// Seconds of CPU of a deed, the median.
    pub fn cpu(&self, deed: Deed) -> Option<f64> {
        median(self.taken[deed as usize].iter().map(|t| t.cpu))
    }

    /// Most memory that a deed ever took, in MiB.
    pub fn peak(&self, deed: Deed) -> Option<f64> {
        let peaks = self.taken[deed as usize].iter();
        let peaks = peaks.map(|t| t.peak as f64 / f64::from(1 << 20));
        peaks.reduce(f64::max)
    }

    /// Most memory that anything took, in MiB.
    pub fn highest(&self) -> Option<f64> {
        let all = DEEDS.iter().filter_map(|(deed, _)| self.peak(*deed));
        all.reduce(f64::max)
    }

    /// Megabytes after the first night.
    pub fn first(&self) -> Option<f64> {
        self.sizes.first().map(|size| *size as f64 / 1e6)
    }

    /// Megabytes that a later night adds, the mean.
    pub fn growth(&self) -> Option<f64> {
        let (first, last) = (self.sizes.first()?, self.sizes.last()?);
        let nights = self.sizes.len().checked_sub(1).filter(|n| *n > 0)?;
        Some((*last as f64 - *first as f64) / 1e6 / nights as f64)
    }
}

fn median(figures: impl Iterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = figures.collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

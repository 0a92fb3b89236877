//! What one corpus gave, and hucha's figures divided by those of the best peer.

use super::figures::{Deed, Figures};
use super::tools::{Kind, Tool};

/// A tool, and what it took.
pub type Line = (Tool, Figures);

/// What one corpus gave.
pub struct Outcome {
    /// Name of the corpus.
    pub corpus: String,
    /// Its bytes in the first and the last night.
    pub bytes: [u64; 2],
    /// How many nights.
    pub nights: usize,
    /// What a night touches, in words.
    pub touched: String,
    /// A line for each tool, and one for hucha with a key file.
    pub lines: Vec<Line>,
}

/// Everybody that hucha is set against.
pub const PEERS: &[Kind] = &[Kind::Restic, Kind::Rustic, Kind::Borg, Kind::Bupstash];
/// Those that derive a key as dearly and collect as much.
const LIKE_RESTIC: &[Kind] = &[Kind::Restic, Kind::Rustic];

/// Whom hucha is set against in a deed. Opening is mostly key derivation, which bupstash has none
/// of and borg has cheaper; borg's and bupstash's collection leaves more behind.
pub fn peers(deed: Deed) -> &'static [Kind] {
    match deed {
        Deed::Open | Deed::Unchanged | Deed::Collect => LIKE_RESTIC,
        _ => PEERS,
    }
}

impl Outcome {
    /// hucha's own figures, with a password.
    pub fn own(&self) -> Option<&Figures> {
        self.line(Kind::Hucha, false)
    }

    /// hucha's own figures, with a key file.
    pub fn by_key_file(&self) -> Option<&Figures> {
        self.line(Kind::Hucha, true)
    }

    fn line(&self, kind: Kind, by_key_file: bool) -> Option<&Figures> {
        let mut lines = self.lines.iter();
        let line = lines.find(|(t, _)| t.kind == kind && t.by_key_file == by_key_file);
        line.map(|(_, figures)| figures)
    }

    /// The best figure of these tools.
    pub fn best(&self, among: &[Kind], figure: impl Fn(&Figures) -> Option<f64>) -> Option<f64> {
        let them = self.lines.iter().filter(|(t, _)| among.contains(&t.kind));
        them.filter_map(|(_, f)| figure(f)).reduce(f64::min)
    }

    /// hucha's figure divided by the best of these tools.
    pub fn ratio(&self, among: &[Kind], figure: impl Fn(&Figures) -> Option<f64>) -> Option<f64> {
        let own = self.own().and_then(&figure)?;
        Some(own / self.best(among, figure)?)
    }
}

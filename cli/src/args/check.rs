//! Options of `check`.

use clap::{Args, ValueEnum};
use hucha_store::check::Subset;

use crate::sizes::{parse_positive, parse_seconds, parse_size};

/// `check`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hucha check
  hucha check --read-data
  hucha check --read-data-subset 3/7
  hucha check --read-data-subset 5%
  hucha check --budget 10m

Levels, each with those before it:
  structure  every small object and every page of a tree opens, and every chunk
             that a snapshot needs has a place in a pack that is there
  index      every pack's header and directory agree with the index
  data       every byte of every pack is read, every chunk compared with its id

With --budget, packs that were verified longest ago are read first: called every
night, it gets through all of them. Which they were is noted in the repository.

Exit code 12 tells that something is damaged.")]
pub struct CheckArgs {
    /// How much is checked
    #[arg(
        long,
        value_name = "LEVEL",
        conflicts_with_all = ["read_data", "read_data_subset", "budget"]
    )]
    pub level: Option<LevelArg>,

    /// Read and verify every stored byte: `--level data`
    #[arg(long)]
    pub read_data: bool,

    /// Read a part of the data: `5%` or `10G` at random, `2/7` the second of seven parts
    #[arg(long, value_name = "SUBSET", value_parser = parse_subset, conflicts_with = "read_data")]
    pub read_data_subset: Option<Subset>,

    /// Read data for about so long: `10m`, `2h`; the structure is checked on top
    #[arg(long, value_name = "DURATION", value_parser = parse_seconds)]
    pub budget: Option<u64>,
}

/// How much is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LevelArg {
    /// What is needed to list and find everything.
    Structure,
    /// Packs beside the index.
    Index,
    /// Every byte.
    Data,
}

fn parse_subset(text: &str) -> Result<Subset, String> {
    let bad = || format!("{text:?} is no subset; write 5%, 10G or 2/7");
    if let Some(percent) = text.strip_suffix('%') {
        let percent = parse_positive(percent).filter(|p| *p > 0.0 && *p <= 100.0);
        return percent.map(Subset::Percent).ok_or_else(bad);
    }
    if let Some((number, of)) = text.split_once('/') {
        let (Ok(number), Ok(of)) = (number.parse(), of.parse()) else {
            return Err(bad());
        };
        let fits = (1..=of).contains(&number);
        return fits.then_some(Subset::Part { number, of }).ok_or_else(bad);
    }
    let bytes = parse_size(text).ok().filter(|bytes| *bytes > 0);
    bytes.map(Subset::Bytes).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subsets() {
        let part = Subset::Part { number: 2, of: 7 };
        assert_eq!(parse_subset("2/7"), Ok(part));
        assert_eq!(parse_subset("2.5%"), Ok(Subset::Percent(2.5)));
        assert_eq!(parse_subset("10G"), Ok(Subset::Bytes(10 << 30)));
        for bad in [
            "", "0", "0%", "101%", "0/7", "8/7", "1/0", "1/", "x", "-1%", "1/2/3", "nan%",
        ] {
            assert!(parse_subset(bad).is_err(), "{bad}");
        }
    }
}

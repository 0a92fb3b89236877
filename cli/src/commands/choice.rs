//! Which entries of a snapshot are taken: the patterns of `restore` and `archive`.

use hucha_sources::pattern::Matcher;
use hucha_store::restore::Select;

use crate::args::ChoiceArgs;
use crate::errors::Failure;
use crate::lists;

/// Which entries are taken. Patterns see paths as they will stand in the target, as restic's do.
pub struct Choice {
    include: Matcher,
    exclude: Matcher,
    /// Of the folder that is taken.
    prefix: Vec<u8>,
}

impl Choice {
    /// Reads patterns; `path` is the part of the snapshot that is taken.
    ///
    /// # Errors
    /// When a pattern is malformed, or a file of patterns cannot be read.
    pub fn new(args: &ChoiceArgs, path: &[u8]) -> Result<Choice, Failure> {
        Ok(Choice {
            include: lists::included(args)?,
            exclude: lists::excluded(&args.exclude)?,
            prefix: path.to_vec(),
        })
    }

    /// What becomes of a path of the snapshot.
    pub fn select(&self, path: &[u8], is_folder: bool) -> Select {
        let inside = path.strip_prefix(&*self.prefix).unwrap_or(path);
        if inside.is_empty() && !is_folder {
            // A file that was named itself.
            return Select::Take;
        }
        if self.exclude.matches(inside) {
            return Select::Skip;
        }
        if self.include.is_empty() || self.include.matches(inside) {
            return Select::Take;
        }
        match is_folder && (inside.is_empty() || self.include.may_match_below(inside)) {
            true => Select::Descend,
            false => Select::Skip,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(include: &[&str], exclude: &[&str], prefix: &[u8]) -> Choice {
        Choice {
            include: Matcher::new(include, &[]).unwrap(),
            exclude: Matcher::new(exclude, &[]).unwrap(),
            prefix: prefix.to_vec(),
        }
    }

    #[test]
    fn everything_but() {
        let choice = choice(&[], &["*.log"], b"");
        assert_eq!(choice.select(b"", true), Select::Take);
        assert_eq!(choice.select(b"a", true), Select::Take);
        assert_eq!(choice.select(b"a/x.log", false), Select::Skip);
    }

    #[test]
    fn only_and_below_a_folder() {
        let choice = choice(&["/b/*.txt"], &["c.txt"], b"srv/shop");
        assert_eq!(choice.select(b"srv/shop", true), Select::Descend);
        assert_eq!(choice.select(b"srv/shop/b", true), Select::Descend);
        assert_eq!(choice.select(b"srv/shop/z", true), Select::Skip);
        assert_eq!(choice.select(b"srv/shop/b/a.txt", false), Select::Take);
        assert_eq!(choice.select(b"srv/shop/b/c.txt", false), Select::Skip);
        assert_eq!(choice.select(b"srv/shop/b/a.bin", false), Select::Skip);
    }

    #[test]
    fn whatever_the_case() {
        let choice = Choice {
            include: Matcher::new(&["/A"], &["/b/*.TXT"]).unwrap(),
            exclude: Matcher::new(&["X"], &["c.Txt"]).unwrap(),
            prefix: Vec::new(),
        };
        assert_eq!(choice.select(b"B", true), Select::Descend);
        assert_eq!(choice.select(b"B/a.txt", false), Select::Take);
        assert_eq!(choice.select(b"B/C.TXT", false), Select::Skip);
        assert_eq!(choice.select(b"a", true), Select::Skip);
        assert_eq!(choice.select(b"A/x", true), Select::Take);
        assert_eq!(choice.select(b"A/X", true), Select::Skip);
    }

    #[test]
    fn a_file_named_itself() {
        assert_eq!(
            choice(&["x"], &["b"], b"a/b").select(b"a/b", false),
            Select::Take
        );
    }
}

//! Patterns of `--exclude` and `--include`, with restic's meaning. Reads no files of patterns and
//! expands no variables.
//!
//! A pattern matches a path when its components stand next to each other somewhere in the path:
//! `*.o` matches any component, and whatever lies below it; `foo/bar` matches `/x/foo/bar/y`. A
//! leading `/` ties the pattern to the root. In a component `*` stands for any characters, `?` for
//! one, `[a-z]` and `[^a-z]` for one of a set, and `\` takes the next character as it is. `**` as
//! a component stands for any number of components, none included. `!` in front takes back what
//! earlier patterns matched. A trailing `/`, `//` and `.` mean nothing; `..` drops the component
//! before it.

use std::borrow::Cow;

use crate::glob::{self, Set, Token};

/// A list of patterns; later ones may take back what earlier ones matched.
#[derive(Debug, Clone, Default)]
pub struct Patterns {
    patterns: Vec<Pattern>,
    case: Case,
}

/// Whether large and small letters differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Case {
    /// They do.
    #[default]
    Differs,
    /// They are the same: both sides are made small letters, by Unicode's rules.
    Ignored,
}

/// A pattern that means nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// A `[` without its `]`, an empty or reversed range, or a `\` at the end.
    #[error("pattern {0:?} is malformed")]
    Malformed(String),
    /// Only `/`, `.` and `..`.
    #[error("pattern {0:?} names nothing")]
    Empty(String),
}

impl Patterns {
    /// Reads patterns; empty ones are skipped.
    ///
    /// # Errors
    /// The first pattern that is malformed.
    pub fn new<S: AsRef<str>>(patterns: &[S]) -> Result<Patterns, PatternError> {
        Patterns::with(patterns, Case::Differs)
    }

    /// The same, with or without regard to the case of letters.
    ///
    /// # Errors
    /// The first pattern that is malformed.
    pub fn with<S: AsRef<str>>(patterns: &[S], case: Case) -> Result<Patterns, PatternError> {
        let texts = patterns
            .iter()
            .map(AsRef::as_ref)
            .filter(|text| !text.is_empty());
        let read = |text: &str| match case {
            Case::Differs => Pattern::new(text),
            Case::Ignored => Pattern::new(&text.to_lowercase()),
        };
        Ok(Patterns {
            patterns: texts.map(read).collect::<Result<_, _>>()?,
            case,
        })
    }

    /// Whether there is no pattern at all.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether a path, or a folder above it, matches. With or without a leading `/`, paths are
    /// taken from the root; the root itself never matches.
    pub fn matches(&self, path: &[u8]) -> bool {
        self.last_word(path, Pattern::matches)
    }

    /// Whether a path matches itself, not only a folder above it: the last component of a pattern
    /// stands for the last one of the path.
    pub fn matches_end(&self, path: &[u8]) -> bool {
        self.last_word(path, Pattern::matches_end)
    }

    /// Later patterns may take back what earlier ones said.
    fn last_word(&self, path: &[u8], says: fn(&Pattern, &[&[u8]]) -> bool) -> bool {
        if self.patterns.is_empty() {
            return false;
        }
        let path = self.folded(path);
        let parts = components(&path);
        let mut matched = false;
        for pattern in &self.patterns {
            if matched == pattern.negated && says(pattern, &parts) {
                matched = !pattern.negated;
            }
        }
        matched
    }

    /// Whether something below the folder `path` may match: if not, it need not be entered. True
    /// when the path itself matches.
    pub fn may_match_below(&self, path: &[u8]) -> bool {
        let path = self.folded(path);
        let parts = components(&path);
        let mut may = false;
        for pattern in &self.patterns {
            if !pattern.negated {
                may = may || pattern.may_match_below(&parts);
            } else if may && pattern.matches(&parts) {
                may = false;
            }
        }
        may
    }

    fn folded<'a>(&self, path: &'a [u8]) -> Cow<'a, [u8]> {
        match self.case {
            Case::Differs => Cow::Borrowed(path),
            Case::Ignored => Cow::Owned(small_letters(path)),
        }
    }
}

/// Patterns that tell large letters from small ones beside such that do not. A path matches when
/// it matches either list; `!` takes back within its own list.
#[derive(Debug, Clone, Default)]
pub struct Matcher {
    exact: Patterns,
    any_case: Patterns,
}

impl Matcher {
    /// Reads both lists; empty patterns are skipped.
    ///
    /// # Errors
    /// The first pattern that is malformed.
    pub fn new<S: AsRef<str>>(exact: &[S], any_case: &[S]) -> Result<Matcher, PatternError> {
        Ok(Matcher {
            exact: Patterns::new(exact)?,
            any_case: Patterns::with(any_case, Case::Ignored)?,
        })
    }

    /// Whether there is no pattern at all.
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.any_case.is_empty()
    }

    /// As [`Patterns::matches`], by either list.
    pub fn matches(&self, path: &[u8]) -> bool {
        self.exact.matches(path) || self.any_case.matches(path)
    }

    /// As [`Patterns::may_match_below`], by either list.
    pub fn may_match_below(&self, path: &[u8]) -> bool {
        self.exact.may_match_below(path) || self.any_case.may_match_below(path)
    }
}

/// Text as small letters; bytes that are no text stay.
fn small_letters(bytes: &[u8]) -> Vec<u8> {
    let mut small = Vec::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        small.extend_from_slice(chunk.valid().to_lowercase().as_bytes());
        small.extend_from_slice(chunk.invalid());
    }
    small
}

fn components(path: &[u8]) -> Vec<&[u8]> {
    path.split(|c| *c == b'/')
        .filter(|part| !part.is_empty())
        .collect()
}

#[derive(Debug, Clone)]
struct Pattern {
    negated: bool,
    /// Whether the first run stands at the root.
    anchored: bool,
    /// What stands between the `**`, at least one run.
    runs: Vec<Vec<Part>>,
}

impl Pattern {
    fn new(text: &str) -> Result<Pattern, PatternError> {
        let (negated, body) = match text.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let mut kept: Vec<&str> = Vec::new();
        for part in body.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(kept.pop()),
                _ => kept.push(part),
            }
        }
        if kept.is_empty() {
            return Err(PatternError::Empty(text.to_owned()));
        }
        let mut runs = Vec::new();
        for run in kept.split(|part| *part == "**") {
            let parts: Option<Vec<Part>> = run.iter().map(|part| Part::new(part)).collect();
            runs.push(parts.ok_or_else(|| PatternError::Malformed(text.to_owned()))?);
        }
        Ok(Pattern {
            negated,
            anchored: body.starts_with('/'),
            runs,
        })
    }

    /// Each run is looked for as far left as it can stand. That loses nothing: what follows the
    /// last run is free.
    fn matches(&self, path: &[&[u8]]) -> bool {
        !path.is_empty() && self.stand(&self.runs, path)
    }

    fn matches_end(&self, path: &[&[u8]]) -> bool {
        let Some((last, before)) = self.runs.split_last() else {
            return false;
        };
        let Some(start) = path.len().checked_sub(last.len()) else {
            return false;
        };
        let (path, end) = path.split_at(start);
        let free = !before.is_empty() || !self.anchored || path.is_empty();
        free && stands_at(last, end) && self.stand(before, path)
    }

    fn stand(&self, runs: &[Vec<Part>], path: &[&[u8]]) -> bool {
        let mut rest = path;
        for (n, run) in runs.iter().enumerate() {
            let mut starts = if n == 0 && self.anchored {
                0..=0
            } else {
                0..=rest.len()
            };
            let stands = |start: &usize| rest.get(*start..).is_some_and(|at| stands_at(run, at));
            let Some(start) = starts.find(stands) else {
                return false;
            };
            rest = rest.get(start + run.len()..).unwrap_or_default();
        }
        true
    }

    fn may_match_below(&self, path: &[&[u8]]) -> bool {
        let first = self.runs.first().map(Vec::as_slice).unwrap_or_default();
        !self.anchored
            || first
                .iter()
                .zip(path)
                .all(|(part, name)| part.matches(name))
    }
}

fn stands_at(run: &[Part], path: &[&[u8]]) -> bool {
    run.len() <= path.len() && run.iter().zip(path).all(|(part, name)| part.matches(name))
}

/// One component of a pattern.
#[derive(Debug, Clone)]
pub(crate) enum Part {
    Exact(Vec<u8>),
    Glob(Vec<Token>),
}

impl Part {
    /// `None` when it is malformed.
    pub(crate) fn new(text: &str) -> Option<Part> {
        if !Part::is_wild(text) {
            return Some(Part::Exact(text.as_bytes().to_vec()));
        }
        let mut tokens = Vec::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '*' => tokens.push(Token::AnyMany),
                '?' => tokens.push(Token::AnyChar),
                '[' => tokens.push(one_of(&mut chars)?),
                '\\' => push_char(&mut tokens, chars.next()?),
                c => push_char(&mut tokens, c),
            }
        }
        Some(Part::Glob(tokens))
    }

    /// Whether a text stands for more than itself.
    pub(crate) fn is_wild(text: &str) -> bool {
        text.contains(['*', '?', '[', '\\'])
    }

    pub(crate) fn matches(&self, name: &[u8]) -> bool {
        match self {
            Part::Exact(text) => text == name,
            Part::Glob(tokens) => glob::matches(tokens, name),
        }
    }
}

fn push_char(tokens: &mut Vec<Token>, c: char) {
    let mut room = [0; 4];
    tokens.extend(c.encode_utf8(&mut room).bytes().map(Token::Byte));
}

/// A set after its `[`.
fn one_of(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Token> {
    let negated = chars.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    while ranges.is_empty() || chars.next_if_eq(&']').is_none() {
        let low = set_char(chars)?;
        let high = match chars.next_if_eq(&'-') {
            Some(_) => set_char(chars)?,
            None => low,
        };
        if high < low {
            return None;
        }
        ranges.push((u32::from(low), u32::from(high)));
    }
    Some(Token::Set(Set { negated, ranges }))
}

fn set_char(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<char> {
    match chars.next()? {
        ']' | '-' => None,
        '\\' => chars.next(),
        c => Some(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, path: &str) -> bool {
        Patterns::new(&[pattern]).unwrap().matches(path.as_bytes())
    }

    #[test]
    fn the_end_must_match() {
        let table = [
            ("b", "a/b", true),
            ("a", "a/b", false),
            ("/a", "a", true),
            ("/b", "a/b", false),
            ("a/b", "x/a/b", true),
            ("a/*", "a/b/c", false),
            ("x", "x/x", true),
            ("a/**/c", "a/c", true),
            ("/a/**/c", "a/b/b/c", true),
            ("/a/**/c", "x/a/c", false),
            ("a/**/c", "a/c/d", false),
            ("a/**", "a/b/c", true),
            ("*.txt", "a.txt/b", false),
        ];
        for (pattern, path, expected) in table {
            let patterns = Patterns::new(&[pattern]).unwrap();
            let matched = patterns.matches_end(path.as_bytes());
            assert_eq!(matched, expected, "{pattern} {path}");
        }
    }

    #[test]
    fn table_of_matches() {
        let table = [
            // The examples of restic's manual, "Excluding files".
            ("*.c", "/home/user/work/a.c", true),
            ("*.c", "/home/user/work/a.cpp", false),
            ("foo", "/dir1/foo/dir2/file", true),
            ("foo", "/dir/foo", true),
            ("foo", "/dir/foobar", false),
            ("foo", "/dir/barfoo", false),
            ("/bin", "/bin/bash", true),
            ("/bin", "/usr/bin/restic", false),
            ("b*ash", "/bin/bash", true),
            ("b*ash", "/bin/ash", false),
            ("foo/**/bar", "/dir1/foo/dir2/bar/file", true),
            ("foo/**/bar", "/foo/bar/file", true),
            ("foo/**/bar", "/tmp/foo/bar", true),
            ("foo/**/bar", "/tmp/bar/foo", false),
            // The rest of the rules.
            ("a/b", "/x/a/b/c", true),
            ("a/b", "/x/a/c/b", false),
            ("/a/*", "/a", false),
            ("/a/*", "/a/b/c", true),
            ("/a/*/c", "/a/b/b/c", false),
            ("/a/**", "/a/b", true),
            ("/**/c", "/a/b/c", true),
            ("a/**/b/**/c", "/a/b/x/c", true),
            ("a/**/b/**/c", "/a/c/x/b", false),
            ("a/", "/x/a", true),
            ("a//./b", "/a/b", true),
            ("/a/../b", "/b", true),
            ("/a/../b", "/a/b", false),
            ("?", "/é", true),
            ("??", "/é", false),
            ("[a-cx]", "/b", true),
            ("[a-cx]", "/d", false),
            ("[^a-c]", "/d", true),
            ("[^a-c]", "/b", false),
            ("[é-ë]", "/ê", true),
            (r"\*", "/*", true),
            (r"\*", "/a", false),
            (r"[\]]", "/]", true),
            ("a*b*c", "/axxbyybzzc", true),
            ("a*b*c", "/axxbyybzz", false),
            ("*", "", false),
            ("**", "", false),
            ("a b", "/a b", true),
            (r"\!a", "/!a", true),
        ];
        for (pattern, path, expected) in table {
            assert_eq!(matches(pattern, path), expected, "{pattern} on {path}");
            let bare = path.trim_start_matches('/');
            assert_eq!(matches(pattern, bare), expected, "{pattern} on {bare}");
        }
    }

    #[test]
    fn bytes_that_are_no_text() {
        let patterns = Patterns::new(&["a?b", "x*"]).unwrap();
        assert!(patterns.matches(b"/a\xffb"));
        assert!(patterns.matches(b"/x\xff\xfe"));
        assert!(!patterns.matches(b"/a\xff\xfeb"));
    }

    #[test]
    fn table_of_what_may_match_below() {
        let table = [
            ("bar", "/foo", true),
            ("foo/bar", "/x", true),
            ("/foo/bar", "/foo", true),
            ("/foo/bar", "/bar", false),
            ("/foo/bar/baz", "/foo/baz", false),
            ("/foo/*/qux", "/foo/bar", true),
            ("/foo/*/qux", "/foo/bar/boo", false),
            ("/foo/**/qux", "/foo/bar/boo", true),
            ("/foo/**/qux", "/bar", false),
            ("/foo", "/foo/bar", true),
            ("/foo", "", true),
        ];
        for (pattern, path, expected) in table {
            let patterns = Patterns::new(&[pattern]).unwrap();
            assert_eq!(
                patterns.may_match_below(path.as_bytes()),
                expected,
                "{pattern} on {path}"
            );
        }
    }

    #[test]
    fn a_later_pattern_takes_back() {
        let patterns = Patterns::new(&["*.log", "!keep.log", "/tmp"]).unwrap();
        assert!(patterns.matches(b"/a/b.log"));
        assert!(!patterns.matches(b"/a/keep.log"));
        assert!(patterns.matches(b"/tmp/keep.log"));
        let includes = Patterns::new(&["/a", "!/a/b"]).unwrap();
        assert!(includes.may_match_below(b"a"));
        assert!(!includes.may_match_below(b"a/b"));
    }

    #[test]
    fn case_can_be_ignored() {
        let any = |pattern: &str, path: &[u8]| {
            let patterns = Patterns::with(&[pattern], Case::Ignored).unwrap();
            patterns.matches(path)
        };
        for (pattern, path, expected) in [
            ("*.JPG", &b"/a/b.jpg"[..], true),
            ("*.jpg", b"/a/B.JpG", true),
            ("/Home/[A-C]*", b"/hOME/bob", true),
            ("/Home/[A-C]*", b"/home/dora", false),
            ("\u{c9}T\u{c9}", "/\u{e9}t\u{e9}".as_bytes(), true),
            ("x*.TXT", b"/X\xff\xfe.txt", true),
            ("Foo", b"/foobar", false),
        ] {
            assert_eq!(any(pattern, path), expected, "{pattern} on {path:?}");
        }
        let kept = Patterns::with(&["*.LOG", "!Keep.*"], Case::Ignored).unwrap();
        assert!(kept.matches(b"/a.log") && !kept.matches(b"/KEEP.log"));
        assert!(!matches("*.JPG", "/b.jpg"));
    }

    #[test]
    fn none_matches_nothing() {
        let none = Patterns::new(&["", ""]).unwrap();
        assert!(none.is_empty() && !none.matches(b"/a") && !none.may_match_below(b"/a"));
    }

    #[test]
    fn malformed_patterns() {
        for text in ["[", "a[", "[]", "[a", "[b-a]", "[a-]", "\\", "a/**/["] {
            assert_eq!(
                Patterns::new(&[text]).unwrap_err(),
                PatternError::Malformed(text.into())
            );
        }
        for text in ["/", ".", "a/..", "!"] {
            assert_eq!(
                Patterns::new(&[text]).unwrap_err(),
                PatternError::Empty(text.into())
            );
        }
    }
}

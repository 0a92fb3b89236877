//! Patterns of `--exclude` and `--include`, with restic's meaning. Reads no files of patterns and
//! expands no variables; letters differ by case.
//!
//! A pattern matches a path when its components stand next to each other somewhere in the path:
//! `*.o` matches any component, and whatever lies below it; `foo/bar` matches `/x/foo/bar/y`. A
//! leading `/` ties the pattern to the root. In a component `*` stands for any characters, `?` for
//! one, `[a-z]` and `[^a-z]` for one of a set, and `\` takes the next character as it is. `**` as
//! a component stands for any number of components, none included. `!` in front takes back what
//! earlier patterns matched. A trailing `/`, `//` and `.` mean nothing; `..` drops the component
//! before it.

/// A list of patterns; later ones may take back what earlier ones matched.
#[derive(Debug, Clone, Default)]
pub struct Patterns {
    patterns: Vec<Pattern>,
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
        let texts = patterns
            .iter()
            .map(AsRef::as_ref)
            .filter(|text| !text.is_empty());
        Ok(Patterns {
            patterns: texts.map(Pattern::new).collect::<Result<_, _>>()?,
        })
    }

    /// Whether there is no pattern at all.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether a path, or a folder above it, matches. With or without a leading `/`, paths are
    /// taken from the root; the root itself never matches.
    pub fn matches(&self, path: &[u8]) -> bool {
        if self.patterns.is_empty() {
            return false;
        }
        let parts = components(path);
        let mut matched = false;
        for pattern in &self.patterns {
            if matched == pattern.negated && pattern.matches(&parts) {
                matched = !pattern.negated;
            }
        }
        matched
    }

    /// Whether something below the folder `path` may match: if not, it need not be entered. True
    /// when the path itself matches.
    pub fn may_match_below(&self, path: &[u8]) -> bool {
        let parts = components(path);
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
        if path.is_empty() {
            return false;
        }
        let mut rest = path;
        for (n, run) in self.runs.iter().enumerate() {
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
enum Part {
    Exact(Vec<u8>),
    Glob(Vec<Token>),
}

#[derive(Debug, Clone)]
enum Token {
    Byte(u8),
    AnyOne,
    AnyMany,
    OneOf {
        negated: bool,
        ranges: Vec<(u32, u32)>,
    },
}

impl Part {
    /// `None` when it is malformed.
    fn new(text: &str) -> Option<Part> {
        if !text.contains(['*', '?', '[', '\\']) {
            return Some(Part::Exact(text.as_bytes().to_vec()));
        }
        let mut tokens = Vec::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '*' => tokens.push(Token::AnyMany),
                '?' => tokens.push(Token::AnyOne),
                '[' => tokens.push(one_of(&mut chars)?),
                '\\' => push_char(&mut tokens, chars.next()?),
                c => push_char(&mut tokens, c),
            }
        }
        Some(Part::Glob(tokens))
    }

    fn matches(&self, name: &[u8]) -> bool {
        match self {
            Part::Exact(text) => text == name,
            Part::Glob(tokens) => glob(tokens, name),
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
    Some(Token::OneOf { negated, ranges })
}

fn set_char(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<char> {
    match chars.next()? {
        ']' | '-' => None,
        '\\' => chars.next(),
        c => Some(c),
    }
}

/// Matches with one place to come back to: the last `*`.
fn glob(tokens: &[Token], name: &[u8]) -> bool {
    let (mut t, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        let rest = name.get(n..).unwrap_or_default();
        match (tokens.get(t), rest.is_empty()) {
            (None, true) => return true,
            (Some(Token::AnyMany), _) => {
                star = Some((t + 1, n));
                t += 1;
                continue;
            }
            (Some(token), false) => {
                if let Some(taken) = take_one(token, rest) {
                    (t, n) = (t + 1, n + taken);
                    continue;
                }
            }
            _ => {}
        }
        match star {
            Some((after, from)) if from < name.len() => {
                star = Some((after, from + 1));
                (t, n) = (after, from + 1);
            }
            _ => return false,
        }
    }
}

/// How many bytes of the name (not empty) the token takes.
fn take_one(token: &Token, rest: &[u8]) -> Option<usize> {
    let first = *rest.first()?;
    match token {
        Token::Byte(byte) => (*byte == first).then_some(1),
        Token::AnyOne => Some(first_char(rest).1),
        Token::OneOf { negated, ranges } => {
            let (c, len) = first_char(rest);
            let within = ranges.iter().any(|(low, high)| (*low..=*high).contains(&c));
            (within != *negated).then_some(len)
        }
        Token::AnyMany => None,
    }
}

/// The first character and its bytes. A byte that is no UTF-8 is a character of its own, beyond
/// all others.
fn first_char(text: &[u8]) -> (u32, usize) {
    for len in 1..=text.len().min(4) {
        let found = text
            .get(..len)
            .and_then(|part| std::str::from_utf8(part).ok());
        if let Some(c) = found.and_then(|part| part.chars().next()) {
            return (u32::from(c), len);
        }
    }
    (
        0x11_0000 + text.first().map_or(0, |byte| u32::from(*byte)),
        1,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, path: &str) -> bool {
        Patterns::new(&[pattern]).unwrap().matches(path.as_bytes())
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

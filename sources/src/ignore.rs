//! One file of patterns as git reads a `.gitignore` (gitignore(5), and the cases that its text
//! leaves open as git itself decides them). It looks at no disk: who reads which files, and whose
//! word counts first, is the walk's matter. Names are bytes, and letters differ by case.
//!
//! - A blank line and one that begins with `#` mean nothing; spaces at the end do not count unless
//!   a `\` stands before them.
//! - `!` in front takes back what earlier patterns excluded.
//! - `/` at the end: folders only. `/` elsewhere: a path from the file's folder on. Else a name at
//!   any depth.
//! - `*`, `?` and `[…]` take no `/`; `\` takes the next byte as it is. `**` as a whole component
//!   stands for any number of them, at the end for at least one.
//! - A pattern that is malformed never matches.

use crate::glob::{self, Set, Token};

/// What a file of patterns says of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Excluded,
    /// Taken back by a `!`.
    Included,
}

/// The patterns of one file.
#[derive(Debug, Default)]
pub(crate) struct IgnoreFile {
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    verdict: Verdict,
    folders_only: bool,
    shape: Shape,
}

#[derive(Debug)]
enum Shape {
    /// A name at any depth.
    Name(Vec<Token>),
    /// What stands between the `**` of a path, at least one run.
    Path(Vec<Vec<Vec<Token>>>),
}

impl IgnoreFile {
    pub(crate) fn read(text: &[u8]) -> IgnoreFile {
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        let lines = text.split(|c| *c == b'\n');
        IgnoreFile {
            rules: lines.filter_map(Rule::read).collect(),
        }
    }

    /// What the last pattern that matches says of a path below the file's folder.
    pub(crate) fn verdict(&self, path: &[u8], is_folder: bool) -> Option<Verdict> {
        let parts: Vec<&[u8]> = path.split(|c| *c == b'/').collect();
        let last = self.rules.iter().rev().find(|rule| {
            let kind = is_folder || !rule.folders_only;
            kind && rule.shape.matches(&parts)
        });
        last.map(|rule| rule.verdict)
    }
}

impl Rule {
    /// `None` when the line means nothing, or never matches.
    fn read(line: &[u8]) -> Option<Rule> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.first() == Some(&b'#') {
            return None;
        }
        let line = without_spaces(line);
        let (verdict, line) = match line.strip_prefix(b"!") {
            Some(rest) => (Verdict::Included, rest),
            None => (Verdict::Excluded, line),
        };
        let (folders_only, line) = match line.strip_suffix(b"/") {
            Some(rest) => (true, rest),
            None => (false, line),
        };
        if line.is_empty() {
            return None;
        }
        let shape = match line.contains(&b'/') {
            true => Shape::Path(path(line.strip_prefix(b"/").unwrap_or(line))?),
            false => Shape::Name(name(line)?),
        };
        Some(Rule {
            verdict,
            folders_only,
            shape,
        })
    }
}

impl Shape {
    fn matches(&self, path: &[&[u8]]) -> bool {
        match self {
            Shape::Name(tokens) => path.last().is_some_and(|name| glob::matches(tokens, name)),
            Shape::Path(runs) => runs_match(runs, path),
        }
    }
}

/// The first run stands at the start, the last at the end, those between as far left as they can.
fn runs_match(runs: &[Vec<Vec<Token>>], path: &[&[u8]]) -> bool {
    let Some((first, more)) = runs.split_first() else {
        return false;
    };
    let Some((last, middle)) = more.split_last() else {
        return first.len() == path.len() && stands_at(first, path);
    };
    if !stands_at(first, path) {
        return false;
    }
    let mut rest = path.get(first.len()..).unwrap_or_default();
    for run in middle {
        let mut starts = 0..=rest.len();
        let stands = |start: &usize| rest.get(*start..).is_some_and(|at| stands_at(run, at));
        let Some(start) = starts.find(stands) else {
            return false;
        };
        rest = rest.get(start + run.len()..).unwrap_or_default();
    }
    if last.is_empty() {
        return !rest.is_empty();
    }
    let start = rest.len().checked_sub(last.len());
    start
        .and_then(|start| rest.get(start..))
        .is_some_and(|at| stands_at(last, at))
}

fn stands_at(run: &[Vec<Token>], path: &[&[u8]]) -> bool {
    let mut pairs = run.iter().zip(path);
    run.len() <= path.len() && pairs.all(|(tokens, name)| glob::matches(tokens, name))
}

/// Without spaces at the end, but with those that a `\` keeps.
fn without_spaces(line: &[u8]) -> &[u8] {
    let mut end = 0;
    let mut bytes = line.iter().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b' ' => {}
            b'\\' => end = bytes.next().map_or(line.len(), |(next, _)| next + 1),
            _ => end = at + 1,
        }
    }
    line.get(..end).unwrap_or(line)
}

/// A pattern without `/`.
fn name(text: &[u8]) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        tokens.push(token(*first, &mut rest)?);
    }
    Some(tokens)
}

/// A pattern with `/`, that at its beginning dropped.
fn path(text: &[u8]) -> Option<Vec<Vec<Vec<Token>>>> {
    let mut runs = vec![Vec::new()];
    let mut component = Vec::new();
    let mut rest = text;
    let mut at_start = true;
    loop {
        if at_start && let Some(after) = any_depth(rest) {
            runs.push(Vec::new());
            match after {
                Some(after) => rest = after,
                None => return Some(runs),
            }
            continue;
        }
        at_start = false;
        let Some((first, after)) = rest.split_first() else {
            runs.last_mut()?.push(component);
            return Some(runs);
        };
        rest = after;
        let escaped = *first == b'\\' && rest.first() == Some(&b'/');
        if escaped {
            rest = rest.get(1..).unwrap_or_default();
        }
        if escaped || *first == b'/' {
            runs.last_mut()?.push(std::mem::take(&mut component));
            at_start = true;
        } else {
            component.push(token(*first, &mut rest)?);
        }
    }
}

/// When a component begins that is `**`: what follows its `/`, `None` at the end.
fn any_depth(rest: &[u8]) -> Option<Option<&[u8]>> {
    let stars = rest.iter().take_while(|c| **c == b'*').count();
    let after = rest.get(stars..).unwrap_or_default();
    let after = match after {
        [] => None,
        [b'/', after @ ..] => Some(after),
        _ => return None,
    };
    (stars >= 2).then_some(after)
}

/// The token that begins with `first`; takes what belongs to it from `rest`.
fn token(first: u8, rest: &mut &[u8]) -> Option<Token> {
    Some(match first {
        b'*' => Token::AnyMany,
        b'?' => Token::AnyByte,
        b'[' => Token::ByteSet(set(rest)?),
        b'\\' => Token::Byte(take(rest)?),
        byte => Token::Byte(byte),
    })
}

fn take(rest: &mut &[u8]) -> Option<u8> {
    let (first, after) = rest.split_first()?;
    *rest = after;
    Some(*first)
}

/// A set after its `[`: a `]` at once is a member, `-` between two bytes makes a range.
fn set(rest: &mut &[u8]) -> Option<Set<u8>> {
    let negated = matches!(rest.first(), Some(b'!' | b'^'));
    if negated {
        take(rest)?;
    }
    let mut ranges = Vec::new();
    let mut low: Option<u8> = None;
    let mut byte = take(rest)?;
    loop {
        let ends_range = rest.first().is_some_and(|next| *next != b']');
        match (byte, low) {
            (b'\\', _) => {
                let member = take(rest)?;
                ranges.push((member, member));
                low = Some(member);
            }
            (b'-', Some(from)) if ends_range => {
                let high = match take(rest)? {
                    b'\\' => take(rest)?,
                    high => high,
                };
                ranges.push((from, high));
                low = None;
            }
            (b'[', _) if rest.first() == Some(&b':') => {
                let close = rest.iter().position(|c| *c == b']')?;
                let inside = rest.get(1..close).unwrap_or_default();
                if let Some(class) = inside.strip_suffix(b":") {
                    ranges.extend_from_slice(class_ranges(class)?);
                    *rest = rest.get(close + 1..).unwrap_or_default();
                    low = None;
                } else {
                    ranges.push((b'[', b'['));
                    low = Some(b'[');
                }
            }
            (member, _) => {
                ranges.push((member, member));
                low = Some(member);
            }
        }
        byte = take(rest)?;
        if byte == b']' {
            return Some(Set { negated, ranges });
        }
    }
}

/// The classes of POSIX in ASCII; `None` when there is no such class.
fn class_ranges(name: &[u8]) -> Option<&'static [(u8, u8)]> {
    Some(match name {
        b"alnum" => &[(b'0', b'9'), (b'A', b'Z'), (b'a', b'z')],
        b"alpha" => &[(b'A', b'Z'), (b'a', b'z')],
        b"blank" => &[(b' ', b' '), (b'\t', b'\t')],
        b"cntrl" => &[(0, 0x1f), (0x7f, 0x7f)],
        b"digit" => &[(b'0', b'9')],
        b"graph" => &[(0x21, 0x7e)],
        b"lower" => &[(b'a', b'z')],
        b"print" => &[(0x20, 0x7e)],
        b"punct" => &[(0x21, 0x2f), (0x3a, 0x40), (0x5b, 0x60), (0x7b, 0x7e)],
        b"space" => &[(b'\t', b'\r'), (b' ', b' ')],
        b"upper" => &[(b'A', b'Z')],
        b"xdigit" => &[(b'0', b'9'), (b'A', b'F'), (b'a', b'f')],
        _ => return None,
    })
}

#[cfg(test)]
mod tests;

//! Just enough Rust to check style: which bytes are code, where functions and test modules lie,
//! which modules a file declares. No grammar, no macros.

use std::ops::RangeInclusive;

/// One Rust file.
pub struct Rust {
    /// Relative to the workspace, with `/`.
    pub path: String,
    /// As it stands.
    pub text: String,
    /// The same lines and columns, with comments and the contents of literals as spaces.
    pub code: String,
    /// Lines of `#[cfg(test)] mod … { … }`.
    pub tests: Vec<RangeInclusive<usize>>,
}

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// From `fn` to the closing brace.
    pub lines: RangeInclusive<usize>,
}

/// `mod name;`
#[derive(Debug, PartialEq, Eq)]
pub struct Declared {
    /// The module's name.
    pub name: String,
    /// Where it stands.
    pub line: usize,
    /// Whether it exists in test builds only.
    pub test_only: bool,
}

impl Rust {
    /// Scans a file.
    pub fn new(path: &str, text: &str) -> Rust {
        let code = mask(text);
        let tests = test_blocks(&code);
        Rust {
            path: path.to_owned(),
            text: text.to_owned(),
            code,
            tests,
        }
    }

    /// Whether a line lies in a `#[cfg(test)]` module of this file.
    pub fn is_test_line(&self, line: usize) -> bool {
        self.tests.iter().any(|t| t.contains(&line))
    }

    /// Lines outside of test modules.
    pub fn length(&self) -> usize {
        let count = self.text.lines().count();
        (1..=count).filter(|l| !self.is_test_line(*l)).count()
    }

    /// Every function with a body, also nested ones.
    pub fn functions(&self) -> Vec<Function> {
        words(&self.code)
            .filter(|(_, word)| *word == "fn")
            .filter_map(|(at, _)| function(&self.code, at))
            .collect()
    }

    /// Every `mod name;`.
    pub fn modules(&self) -> Vec<Declared> {
        words(&self.code)
            .filter(|(_, word)| *word == "mod")
            .filter_map(|(at, _)| {
                let rest = self.code[at + 3..].trim_start();
                let name = identifier(rest);
                let declares = !name.is_empty() && rest[name.len()..].trim_start().starts_with(';');
                declares.then(|| Declared {
                    name: name.to_owned(),
                    line: line_of(&self.code, at),
                    test_only: attributes_before(&self.code, at).contains("#[cfg(test)]"),
                })
            })
            .collect()
    }
}

/// Number of the line at a byte, from 1.
pub fn line_of(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|b| *b == b'\n').count()
}

/// Words of letters, digits and `_`, with where they begin.
pub fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    code.split(move |c| !is_word(c))
        .filter(|w| !w.is_empty())
        .map(move |w| (w.as_ptr() as usize - code.as_ptr() as usize, w))
}

fn identifier(text: &str) -> &str {
    let end = text
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(text.len());
    &text[..end]
}

fn function(code: &str, at: usize) -> Option<Function> {
    let rest = code[at + 2..].trim_start();
    let name = identifier(rest);
    if name.is_empty() {
        return None; // a type: `fn(u8)`
    }
    let open = body(code, at)?;
    let close = matching_brace(code, open)?;
    Some(Function {
        name: name.to_owned(),
        lines: line_of(code, at)..=line_of(code, close),
    })
}

/// Where the body of the item at `from` opens; `None` when it ends with `;`.
fn body(code: &str, from: usize) -> Option<usize> {
    let mut depth = 0;
    for (i, byte) in code.bytes().enumerate().skip(from) {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth -= 1,
            b'{' if depth == 0 => return Some(i),
            b';' if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

fn matching_brace(code: &str, open: usize) -> Option<usize> {
    let mut depth = 0;
    for (i, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(i);
        }
    }
    None
}

/// What stands between the end of the item before and `at`.
fn attributes_before(code: &str, at: usize) -> &str {
    let start = code[..at].rfind([';', '{', '}']).map_or(0, |i| i + 1);
    &code[start..at]
}

fn test_blocks(code: &str) -> Vec<RangeInclusive<usize>> {
    words(code)
        .filter(|(_, word)| *word == "mod")
        .filter(|(at, _)| attributes_before(code, *at).contains("#[cfg(test)]"))
        .filter_map(|(at, _)| {
            let close = matching_brace(code, body(code, at)?)?;
            Some(line_of(code, at)..=line_of(code, close))
        })
        .collect()
}

/// Replaces comments and the contents of string and character literals by spaces.
pub fn mask(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut before = ' ';
    while let Some(c) = rest.chars().next() {
        let skipped = skip(rest, before);
        let (taken, left) = rest.split_at(skipped.unwrap_or(c.len_utf8()));
        if skipped.is_some() {
            // As many bytes as before, so that places in `text` and `code` are the same.
            out.extend(taken.bytes().map(|b| if b == b'\n' { '\n' } else { ' ' }));
            before = ' ';
        } else {
            out.push(c);
            before = c;
        }
        rest = left;
    }
    out
}

/// Length of the comment or literal that begins here.
fn skip(rest: &str, before: char) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(block_comment(rest));
    }
    if rest.starts_with('"') {
        return Some(quoted(rest));
    }
    if rest.starts_with('\'') {
        return character(rest);
    }
    let in_word = before.is_alphanumeric() || before == '_';
    if rest.starts_with('r') && (!in_word || matches!(before, 'b' | 'c')) {
        return raw_string(rest);
    }
    None
}

fn block_comment(rest: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        let here = &rest.as_bytes()[at..];
        if here.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if here.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// A string from its opening to its closing quote.
fn quoted(rest: &str) -> usize {
    let mut escaped = true; // the opening quote ends nothing
    for (i, byte) in rest.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return i + 1,
            _ => {}
        }
    }
    rest.len()
}

/// A character literal; `None` for a lifetime.
fn character(rest: &str) -> Option<usize> {
    let inner = &rest[1..];
    let first = inner.chars().next()?;
    if first == '\\' {
        let escaped = inner[1..].chars().next()?.len_utf8();
        let end = inner[1 + escaped..].find('\'')?;
        return Some(1 + 1 + escaped + end + 1);
    }
    let after = 1 + first.len_utf8();
    rest[after..].starts_with('\'').then_some(after + 1)
}

fn raw_string(rest: &str) -> Option<usize> {
    let inner = &rest[1..];
    let hashes = inner.len() - inner.trim_start_matches('#').len();
    if !inner[hashes..].starts_with('"') {
        return None; // a word, or a raw identifier
    }
    let close = format!("\"{}", "#".repeat(hashes));
    let start = 1 + hashes + 1;
    let end = rest[start..].find(&close);
    Some(end.map_or(rest.len(), |e| start + e + close.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_what_is_not_code() {
        let kept = |text: &str| mask(text).split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(kept("a // b { \n c"), "a c");
        assert_eq!(kept("a /* b /* c */ d */ e"), "a e");
        assert_eq!(kept(r#"a "b \" {" c"#), "a c");
        assert_eq!(kept("a r#\"b \" {\"# c r#type"), "a c r#type");
        assert_eq!(kept("a br\"\\\" c"), "a b c");
        assert_eq!(kept(r"a '{' b '\'' c '\u{7b}' d '\\' e"), "a b c d e");
        assert_eq!(kept("fn a<'r>(b: &'r u8) {}"), "fn a<'r>(b: &'r u8) {}");
        assert_eq!(mask("\"é\"x").len(), "\"é\"x".len());
    }

    #[test]
    fn finds_functions() {
        let text = "trait T { fn a(); }\n\nfn b(c: [u8; 2], d: fn(u8)) -> u8 {\n \"}\"\n}\n";
        let functions = Rust::new("a.rs", text).functions();
        let b = Function {
            name: "b".into(),
            lines: 3..=5,
        };
        assert_eq!(functions, [b]);
    }

    #[test]
    fn finds_modules_and_test_blocks() {
        let text = "mod a;\n#[cfg(test)]\npub mod b;\n#[cfg(test)]\nmod tests {\n fn c() {}\n}\n";
        let file = Rust::new("a.rs", text);
        let found: Vec<_> = file
            .modules()
            .into_iter()
            .map(|m| (m.name, m.test_only))
            .collect();
        assert_eq!(found, [("a".to_owned(), false), ("b".to_owned(), true)]);
        assert_eq!(file.tests, [5..=7]);
        assert_eq!(file.length(), 4);
    }
}

//! Statements cut into words, names, texts and signs, so that a name or text that is not quoted as
//! it must be is not understood.

/// A piece of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// A word or number, in capitals.
    Word(String),
    /// `[name]`.
    Name(String),
    /// `'text'` or `N'text'`.
    Text(String),
    /// Anything else.
    Sign(char),
}

/// Cuts a statement; `None` when a name or text has no end.
pub fn cut(sql: &str) -> Option<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        if first.is_whitespace() {
            rest = &rest[first.len_utf8()..];
        } else if first == '[' {
            let (name, after) = quoted(&rest[1..], ']')?;
            pieces.push(Piece::Name(name));
            rest = after;
        } else if first == '\'' || rest.starts_with("N'") {
            let start = rest.find('\'')? + 1;
            let (text, after) = quoted(&rest[start..], '\'')?;
            pieces.push(Piece::Text(text));
            rest = after;
        } else if first.is_alphanumeric() || first == '_' {
            let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.');
            let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
            pieces.push(Piece::Word(rest[..end].to_uppercase()));
            rest = &rest[end..];
        } else {
            pieces.push(Piece::Sign(first));
            rest = &rest[first.len_utf8()..];
        }
    }
    Some(pieces)
}

/// What stands before a closing sign, which stands twice where it is meant.
fn quoted(text: &str, end: char) -> Option<(String, &str)> {
    let mut found = String::new();
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if c == end && chars.peek().map(|(_, next)| *next) != Some(end) {
            return Some((found, &text[at + c.len_utf8()..]));
        }
        if c == end {
            chars.next();
        }
        found.push(c);
    }
    None
}

/// A statement against a pattern: words in capitals stand for themselves, `[]` for a name, `''` for
/// a text, signs for themselves. Answers names and texts in order, and what follows.
pub fn matched<'a>(pieces: &'a [Piece], pattern: &str) -> Option<(Vec<&'a str>, &'a [Piece])> {
    let mut found = Vec::new();
    let mut rest = pieces;
    for wanted in pattern.split(' ') {
        let (first, after) = rest.split_first()?;
        match (wanted, first) {
            ("[]", Piece::Name(name)) => found.push(name.as_str()),
            ("''", Piece::Text(text)) => found.push(text.as_str()),
            (word, Piece::Word(is)) if word == is => {}
            (sign, Piece::Sign(is)) if sign.chars().eq([*is]) => {}
            _ => return None,
        }
        rest = after;
    }
    Some((found, rest))
}

/// The options behind WITH, one text each: `MOVE 'a' TO 'b'` gives both texts.
pub fn options(pieces: &[Piece]) -> Vec<(String, Vec<String>)> {
    let mut options = Vec::new();
    for option in pieces.split(|piece| *piece == Piece::Sign(',')) {
        let (mut words, mut texts) = (Vec::new(), Vec::new());
        for piece in option {
            match piece {
                Piece::Word(word) => words.push(word.clone()),
                Piece::Text(text) => texts.push(text.clone()),
                Piece::Name(name) => words.push(name.clone()),
                Piece::Sign(sign) => words.push(sign.to_string()),
            }
        }
        options.push((words.join(" "), texts));
    }
    options
}

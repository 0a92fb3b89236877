//! One component of a pattern against one name: `*`, `?`, sets, and characters that stand for
//! themselves. What a pattern of several components means is said by [`crate::pattern`] and
//! [`crate::ignore`], which also read their own syntax.

/// What one place of a component takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Token {
    /// This byte.
    Byte(u8),
    /// Any one character.
    AnyChar,
    /// Any one byte.
    AnyByte,
    /// Any bytes, none included.
    AnyMany,
    /// A character of a set.
    Set(Set<u32>),
    /// A byte of a set.
    ByteSet(Set<u8>),
}

/// Ranges of what is in a set, or of what is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Set<T> {
    pub(crate) negated: bool,
    pub(crate) ranges: Vec<(T, T)>,
}

impl<T: PartialOrd> Set<T> {
    fn holds(&self, one: &T) -> bool {
        let within = self
            .ranges
            .iter()
            .any(|(low, high)| low <= one && one <= high);
        within != self.negated
    }
}

/// Whether a whole name matches. There is one place to come back to, the last `*`, so the time is
/// bounded by the product of both lengths.
pub(crate) fn matches(tokens: &[Token], name: &[u8]) -> bool {
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
        Token::AnyChar => Some(first_char(rest).1),
        Token::AnyByte => Some(1),
        Token::Set(set) => {
            let (c, len) = first_char(rest);
            set.holds(&c).then_some(len)
        }
        Token::ByteSet(set) => set.holds(&first).then_some(1),
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

//! Keys as text that people copy by hand: groups of letters and digits, each line with a check of
//! its own, so that a slip is found and named (docs/format.md, "Key slots").
//!
//! The alphabet is Douglas Crockford's base 32: no I, L, O, U; these are read as what they look
//! like.

use zeroize::Zeroizing;

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Bytes of the key in a line.
const BYTES: usize = 8;
/// Bytes of a line's check.
const CHECK: usize = 2;
/// Letters of a line: ten bytes, five bits a letter.
const LETTERS: usize = (BYTES + CHECK) * 8 / 5;
const GROUP: usize = 4;

/// Four lines of four groups, each with a line end.
pub(super) fn encode(key: &[u8; 32]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(96));
    for (number, part) in (1u8..).zip(key.chunks_exact(BYTES)) {
        let check = check(number, part);
        let line = part
            .iter()
            .chain(&check)
            .fold(0u128, |bits, byte| (bits << 8) | u128::from(*byte));
        for letter in 0..LETTERS {
            if letter > 0 && letter % GROUP == 0 {
                text.push(' ');
            }
            let five = (line >> (5 * (LETTERS - 1 - letter))) & 31;
            let letter = ALPHABET.get(five as usize).copied().unwrap_or_default();
            text.push(char::from(letter));
        }
        text.push('\n');
    }
    text
}

/// Reads what was written, or typed: small letters, other spaces, dashes and line breaks do no
/// harm. Answers the number of the first line that is wrong.
pub(super) fn decode(text: &str) -> Result<Zeroizing<[u8; 32]>, u8> {
    let letters = text.chars().filter(|c| !c.is_whitespace() && *c != '-');
    let mut key = Zeroizing::new([0u8; 32]);
    let mut rest = letters.map(value);
    for (number, part) in (1u8..).zip(key.chunks_exact_mut(BYTES)) {
        let mut line = 0u128;
        for _ in 0..LETTERS {
            line = (line << 5) | rest.next().flatten().ok_or(number)?;
        }
        let bytes = line.to_be_bytes();
        let (_, bytes) = bytes.split_at(bytes.len() - BYTES - CHECK);
        let (own, stored) = bytes.split_at(BYTES);
        if stored != check(number, own) {
            return Err(number);
        }
        part.copy_from_slice(own);
    }
    match rest.next() {
        None => Ok(key),
        Some(_) => Err(5),
    }
}

fn value(letter: char) -> Option<u128> {
    let letter = match letter.to_ascii_uppercase() {
        'O' => '0',
        'I' | 'L' => '1',
        other => other,
    };
    let at = ALPHABET.iter().position(|a| char::from(*a) == letter)?;
    u128::try_from(at).ok()
}

/// Finds slips; protects nothing.
fn check(number: u8, part: &[u8]) -> [u8; CHECK] {
    let mut hasher = blake3::Hasher::new_derive_key("hucha 1 key on paper");
    hasher.update(&[number]).update(part);
    let [a, b, ..] = *hasher.finalize().as_bytes();
    [a, b]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_shows_what_is_written() {
        let key: [u8; 32] = std::array::from_fn(|n| n as u8);
        let page = include_str!("../../../docs/format.md");
        let shown = format!("```text\nhucha-key-2\n{}```", *encode(&key));
        assert!(page.contains(&shown), "docs/format.md lacks:\n{shown}");
    }

    #[test]
    fn slips_are_found_and_looks_do_not_matter() {
        let key: [u8; 32] = crate::crypto::random();
        let text = encode(&key);
        assert_eq!(*decode(&text).unwrap(), key);
        let typed = text
            .to_lowercase()
            .replace(' ', "-")
            .replace('1', "l")
            .replace('0', "o");
        assert_eq!(*decode(&typed).unwrap(), key);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(decode(&lines[..3].concat()), Err(4));
        assert_eq!(decode(&format!("{}X", *text)), Err(5));
        let swapped = [lines[1], lines[0], lines[2], lines[3]].concat();
        assert_eq!(decode(&swapped), Err(1));
        let first = lines[2].chars().next().unwrap();
        let other = if first == 'A' { 'B' } else { 'A' };
        let slip = lines[2].replacen(first, &other.to_string(), 1);
        let slipped = [lines[0], lines[1], &slip, lines[3]].concat();
        assert_eq!(decode(&slipped), Err(3));
        assert_eq!(decode(""), Err(1));
    }
}

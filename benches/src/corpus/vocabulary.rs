//! Words that exist nowhere, made of syllables, so that texts have the entropy of real ones.

use std::sync::LazyLock;

use super::Quick;

const BEGIN: [&str; 24] = [
    "ba", "ca", "de", "fi", "gro", "ha", "in", "ka", "lo", "ma", "ne", "o", "pa", "pre", "qua",
    "re", "sa", "ste", "ta", "tri", "u", "ve", "wa", "con",
];
const MIDDLE: [&str; 20] = [
    "la", "mi", "ren", "to", "der", "si", "nu", "vel", "cho", "par", "li", "ge", "mon", "ra", "ti",
    "do", "ber", "sen", "fu", "",
];
const END: [&str; 20] = [
    "n", "r", "s", "t", "ing", "ed", "er", "tion", "le", "ment", "ty", "al", "ic", "on", "e", "y",
    "ble", "th", "ance", "o",
];

/// Words of the language all texts are written in.
const COMMON: usize = 1200;

static WORDS: LazyLock<Vec<String>> = LazyLock::new(|| words(0, COMMON));

/// A list of words that follows from `seed`.
pub fn words(seed: u64, count: usize) -> Vec<String> {
    let word = |n: usize| {
        let mut random = Quick::of([1, seed, n as u64]);
        let mut word = random.pick(&BEGIN).to_owned();
        for _ in 0..random.below(3) {
            word.push_str(random.pick(&MIDDLE));
        }
        word.push_str(random.pick(&END));
        word
    };
    (0..count).map(word).collect()
}

/// A word of the common language; some are far more frequent than others.
pub fn word(random: &mut Quick) -> &'static str {
    let reach = 1 + random.skewed(COMMON);
    let at = random.below(reach);
    WORDS.get(at).map_or("", String::as_str)
}

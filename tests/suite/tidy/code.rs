//! Rules about Rust files: sizes, calls, words, first lines, forgotten files.

use super::scan::{Rust, line_of, words};
use super::tree::{Offence, Tree};

const MAX_FUNCTION: usize = 70;
const MAX_FILE: usize = 800;
const MAX_COLUMNS: usize = 100;

/// (b) Nothing grows beyond what one reads at a glance.
pub fn sizes(tree: &Tree) -> Vec<Offence> {
    let mut offences = Vec::new();
    for file in &tree.rust {
        let length = file.length();
        if length > MAX_FILE {
            let what = format!("the file has {length} lines without its tests, not {MAX_FILE}");
            offences.push(Offence::new(&file.path, 1, what));
        }
        for (line, text) in (1..).zip(file.text.lines()) {
            let columns = text.chars().count();
            if columns > MAX_COLUMNS {
                let what = format!("the line has {columns} columns, not {MAX_COLUMNS}");
                offences.push(Offence::new(&file.path, line, what));
            }
        }
        for function in file.functions() {
            let length = function.lines.clone().count();
            if length > MAX_FUNCTION {
                let name = function.name;
                let what = format!("fn {name} has {length} lines, not {MAX_FUNCTION}");
                offences.push(Offence::new(&file.path, *function.lines.start(), what));
            }
        }
    }
    offences
}

/// Where a rule about calls holds.
#[derive(Clone, Copy)]
enum Where {
    Everywhere,
    /// In the core, tests apart: it is handed what it needs.
    Core,
    /// Everywhere but in tests and in what renders results.
    NotRender,
    Tests,
}

/// What must not be called, where, and why.
const BANNED: &[(&str, Where, &str)] = &[
    ("print!", Where::NotRender, "only cli/src/render prints"),
    ("println!", Where::NotRender, "only cli/src/render prints"),
    ("eprint!", Where::NotRender, "only cli/src/render prints"),
    ("eprintln!", Where::NotRender, "only cli/src/render prints"),
    ("std::env", Where::Core, "the core reads no environment"),
    ("SystemTime::now", Where::Core, "the core is handed a clock"),
    ("home_dir", Where::Core, "the core is handed its folders"),
    (
        "thread::sleep",
        Where::Tests,
        "wait for what must happen, not for time to pass",
    ),
    ("todo!", Where::Everywhere, "do it"),
    ("unimplemented!", Where::Everywhere, "do it"),
    ("dbg!", Where::Everywhere, "left behind"),
    ("#[ignore", Where::Everywhere, "a test that nobody runs"),
];

impl Where {
    fn holds(self, tree: &Tree, file: &Rust, line: usize) -> bool {
        let test = tree.is_test_file(&file.path) || file.is_test_line(line);
        let below = |folder: &str| file.path.starts_with(folder);
        match self {
            Where::Everywhere => true,
            Where::Tests => test,
            Where::Core => !test && (below("store/") || below("chunker/")),
            Where::NotRender => !test && !below("cli/src/render/") && !below("cli/src/render.rs"),
        }
    }
}

/// (c) Calls that have no business where they stand.
pub fn calls(tree: &Tree) -> Vec<Offence> {
    let mut offences = Vec::new();
    for file in &tree.rust {
        for (call, scope, why) in BANNED {
            for (at, _) in file.code.match_indices(call) {
                let line = line_of(&file.code, at);
                let before = file.code[..at].chars().next_back();
                let is_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
                if !is_word && scope.holds(tree, file, line) {
                    offences.push(Offence::new(&file.path, line, format!("{call}: {why}")));
                }
            }
        }
    }
    offences
}

/// (d) Every file belongs to a crate; the end-to-end suite names each of its own.
pub fn orphans(tree: &Tree) -> Vec<Offence> {
    let reached = |file: &&Rust| !tree.reached.contains_key(&file.path);
    let lost = tree.rust.iter().filter(reached);
    lost.map(|f| Offence::new(&f.path, 1, "no `mod` leads to this file"))
        .collect()
}

const SYNONYMS: &[(&str, &str)] = &[
    ("blob", "chunk or object"),
    ("block", "chunk"),
    ("vault", "repository"),
];
const ITEMS: &[&str] = &[
    "fn", "struct", "enum", "trait", "type", "const", "static", "mod",
];

/// (g) One word per concept in public names.
pub fn synonyms(tree: &Tree) -> Vec<Offence> {
    let mut offences = Vec::new();
    for file in tree.rust.iter().filter(|f| !tree.is_test_file(&f.path)) {
        let all: Vec<_> = words(&file.code).collect();
        for three in all.windows(3) {
            let [(_, "pub"), (_, item), (at, name)] = *three else {
                continue;
            };
            if !ITEMS.contains(&item) {
                continue;
            }
            for (_, better) in SYNONYMS.iter().filter(|(bad, _)| has_part(name, bad)) {
                let what = format!("{name}: call it {better}, as ARCHITECTURE.md does");
                offences.push(Offence::new(&file.path, line_of(&file.code, at), what));
            }
        }
    }
    offences
}

/// Whether a word is part of `snake_case` or `CamelCase`.
fn has_part(name: &str, part: &str) -> bool {
    let mut snake = String::new();
    for c in name.chars() {
        if c.is_uppercase() {
            snake.push('_');
        }
        snake.extend(c.to_lowercase());
    }
    snake.split('_').any(|p| p.trim_end_matches('s') == part)
}

/// (h) A file begins with what it does.
pub fn first_lines(tree: &Tree) -> Vec<Offence> {
    let silent = |f: &&Rust| !f.text.starts_with("//! ");
    let silent = tree.rust.iter().filter(silent);
    silent
        .map(|f| Offence::new(&f.path, 1, "does not begin with `//!`"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::places;
    use super::*;

    const MEMBER: (&str, &str) = ("store/Cargo.toml", "[package]\nname = \"hucha-store\"\n");

    fn store(text: &str) -> Tree {
        Tree::of(&[MEMBER, ("store/src/lib.rs", text)])
    }

    #[test]
    fn sizes_can_fail() {
        let function = |lines: usize| format!("fn f() {{\n{}}}\n", "a();\n".repeat(lines));
        let bad = |text: &str| places(&sizes(&store(text)));
        assert!(bad(&function(68)).is_empty());
        assert_eq!(bad(&format!("\n{}", function(69))), ["store/src/lib.rs:2"]);
        assert!(bad(&"\n".repeat(800)).is_empty());
        assert_eq!(bad(&"\n".repeat(801)), ["store/src/lib.rs:1"]);
        let tests = format!("\n#[cfg(test)]\nmod tests {{\n{}}}\n", "\n".repeat(900));
        assert!(bad(&tests).is_empty());
        assert!(bad(&format!("//{}", "é".repeat(98))).is_empty());
        assert_eq!(
            bad(&format!("\n//{}", "x".repeat(99))),
            ["store/src/lib.rs:2"]
        );
    }

    #[test]
    fn calls_can_fail() {
        let bad = |path: &str, text: &str| {
            let manifest = format!("{}/Cargo.toml", path.split('/').next().unwrap());
            places(&calls(&Tree::of(&[(&manifest, ""), (path, text)])))
        };
        let all = "print!();println!();eprintln!();\nstd::env::var();SystemTime::now();\ntodo!();";
        assert_eq!(bad("store/src/lib.rs", all).len(), 6);
        assert_eq!(bad("cli/src/main.rs", all).len(), 4);
        assert_eq!(
            bad("cli/src/render/text.rs", all),
            ["cli/src/render/text.rs:3"]
        );
        assert_eq!(bad("tests/suite/main.rs", all), ["tests/suite/main.rs:3"]);
        let test = "#[cfg(test)]\nmod tests {\n#[ignore]\nfn a() { thread::sleep(b); println!() }}";
        assert_eq!(
            bad("store/src/lib.rs", test),
            ["store/src/lib.rs:3", "store/src/lib.rs:4"]
        );
        assert!(bad("store/src/lib.rs", "// todo!()\nmy_print!(\"dbg!\")").is_empty());
        assert!(bad("store/src/lib.rs", "fn a() { thread::sleep(b) }").is_empty());
    }

    #[test]
    fn test_only_files_are_known() {
        let lib = ("store/src/lib.rs", "mod a;\n#[cfg(test)] mod b;\n");
        let sleep = "thread::sleep(c);";
        let files = [
            MEMBER,
            lib,
            ("store/src/a.rs", sleep),
            ("store/src/b.rs", sleep),
        ];
        assert_eq!(places(&calls(&Tree::of(&files))), ["store/src/b.rs:1"]);
    }

    #[test]
    fn orphans_can_fail() {
        let suite = ("tests/Cargo.toml", "[[test]]\npath = \"suite/main.rs\"\n");
        let files = [
            MEMBER,
            suite,
            ("store/src/lib.rs", "mod a;\n// mod c;\n"),
            ("store/src/a.rs", "mod b;"),
            ("store/src/a/b.rs", "mod tests { }"),
            ("store/src/c.rs", ""),
            ("store/tests/d.rs", "mod common;"),
            ("store/tests/common/mod.rs", ""),
            ("tests/suite/main.rs", "mod e;"),
            ("tests/suite/e.rs", ""),
            ("tests/suite/f.rs", ""),
        ];
        let lost = orphans(&Tree::of(&files));
        assert_eq!(places(&lost), ["store/src/c.rs:1", "tests/suite/f.rs:1"]);
    }

    #[test]
    fn synonyms_can_fail() {
        let text =
            "pub fn a_block() {}\npub struct BlobList;\nfn vault() {}\npub fn blocking() {}\n";
        assert_eq!(
            places(&synonyms(&store(text))),
            ["store/src/lib.rs:1", "store/src/lib.rs:2"]
        );
    }

    #[test]
    fn first_lines_can_fail() {
        assert!(first_lines(&store("//! Says it.\n")).is_empty());
        assert_eq!(
            places(&first_lines(&store("// No.\n"))),
            ["store/src/lib.rs:1"]
        );
    }
}

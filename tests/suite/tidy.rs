//! The house rules, held by a test: arrows between packages, sizes, calls that have no business
//! where they stand, forgotten files, links, words.
//!
//! It reads the sources as text and knows no types: what clippy or rustc can check is theirs.

mod cargo;
mod code;
mod pages;
mod scan;
mod tree;

use std::path::Path;

use tree::{Offence, Tree};

/// A rule: every breach of it in a tree.
type Check = fn(&Tree) -> Vec<Offence>;

const CHECKS: &[(&str, Check)] = &[
    ("arrows", cargo::arrows),
    ("sizes", code::sizes),
    ("calls", code::calls),
    ("orphans", code::orphans),
    ("reasons", cargo::reasons),
    ("pages", pages::pages),
    ("synonyms", code::synonyms),
    ("first lines", code::first_lines),
];

/// A breach that is known: check, file, a part of the message, and why it is borne. This list may
/// only shrink.
type Known = (&'static str, &'static str, &'static str, &'static str);

const KNOWN: &[Known] = &[(
    "calls",
    "store/src/backend/local/tests.rs",
    "thread::sleep",
    "waits until the forked children of other tests close what they inherited: nothing tells when",
)];

/// All breaches that are not known, and all entries of the list that nothing needs any more.
fn complaints(tree: &Tree, known: &[Known]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut needed = vec![false; known.len()];
    for (name, check) in CHECKS {
        let mut offences = check(tree);
        offences.sort();
        for offence in offences {
            let covers = |(check, path, part, _): &Known| {
                check == name && *path == offence.path && offence.what.contains(part)
            };
            match known.iter().position(covers) {
                Some(entry) => needed[entry] = true,
                None => {
                    let Offence { path, line, what } = offence;
                    lines.push(format!("{path}:{line}: {what} ({name})"));
                }
            }
        }
    }
    let stale = known.iter().zip(needed).filter(|(_, needed)| !needed);
    lines.extend(stale.map(|((check, path, part, _), _)| {
        format!("tests/suite/tidy.rs: {path} is clean, remove its entry {part:?} ({check})")
    }));
    lines
}

/// `file:line` of each offence, in order.
fn places(offences: &[Offence]) -> Vec<String> {
    let mut sorted = offences.to_vec();
    sorted.sort();
    sorted
        .iter()
        .map(|o| format!("{}:{}", o.path, o.line))
        .collect()
}

#[test]
fn the_workspace_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let tree = Tree::read(&root).unwrap();
    assert!(
        tree.rust.len() > 50 && tree.manifests().len() > 5,
        "read the wrong folder"
    );
    let lines = complaints(&tree, KNOWN);
    assert!(
        lines.is_empty(),
        "{} offences:\n{}",
        lines.len(),
        lines.join("\n")
    );
}

#[test]
fn known_offences_are_borne_and_stale_ones_are_not() {
    let tree = Tree::of(&[("Cargo.toml", "[workspace.dependencies]\na = \"1\"\n")]);
    assert_eq!(complaints(&tree, &[]).len(), 1);
    let known: Known = ("reasons", "Cargo.toml", "a has no comment", "for this test");
    assert!(complaints(&tree, &[known]).is_empty());
    let stale: Known = ("calls", "store/src/lib.rs", "todo!", "for this test");
    assert_eq!(complaints(&tree, &[known, stale]).len(), 1);
}

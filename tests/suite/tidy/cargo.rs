//! Rules about Cargo.toml: which package may use which, and why a dependency is there.

use super::tree::{Offence, Tree};

/// Each package, and the packages of this workspace that it may use.
const ARROWS: &[(&str, &[&str])] = &[
    ("hucha-chunker", &[]),
    ("hucha-store", &["hucha-chunker"]),
    ("hucha-sources", &["hucha-store"]),
    (
        "hucha-cli",
        &["hucha-chunker", "hucha-store", "hucha-sources"],
    ),
];

/// Packages that use whatever they like and are used by nobody.
const OUTERMOST: &[&str] = &["hucha-tests", "hucha-benches", "hucha-fuzz"];

/// Stands outside the workspace and names its dependencies, with their reasons, itself.
const OUTSIDE: &str = "fuzz/Cargo.toml";

/// A line of a dependency section.
struct Dependency<'a> {
    name: &'a str,
    rest: &'a str,
    line: usize,
}

/// Reads `name = …` and `name.workspace = true` of the sections whose name ends so; tables of their
/// own, as `[dependencies.name]`, too.
fn dependencies<'a>(text: &'a str, section: &str) -> Vec<Dependency<'a>> {
    let is_section = |header: &str| {
        let before = header.strip_suffix(section);
        before.is_some_and(|before| before.is_empty() || before.ends_with('.'))
    };
    let mut found = Vec::new();
    let mut inside = false;
    for (line, text) in (1..).zip(text.lines().map(str::trim)) {
        if let Some(header) = text.strip_prefix('[') {
            let header = header.split(']').next().unwrap_or_default();
            inside = is_section(header);
            if let Some((table, name)) = header.rsplit_once('.')
                && is_section(table)
            {
                found.push(Dependency {
                    name,
                    rest: text,
                    line,
                });
            }
        } else if inside && !text.is_empty() && !text.starts_with('#') {
            let end = text.find([' ', '.', '=']).unwrap_or(text.len());
            let (name, rest) = text.split_at(end);
            found.push(Dependency { name, rest, line });
        }
    }
    found
}

fn package_name(text: &str) -> &str {
    let name = text.lines().find_map(|l| l.strip_prefix("name = "));
    name.unwrap_or_default().trim_matches('"')
}

/// (a) Arrows point from the rim to the core.
pub fn arrows(tree: &Tree) -> Vec<Offence> {
    let mut offences = Vec::new();
    for path in tree.manifests() {
        let text = tree.text(&path);
        let package = package_name(text);
        if OUTERMOST.contains(&package) {
            continue;
        }
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == package) else {
            let what = format!("package {package:?} stands in no table of arrows");
            offences.push(Offence::new(&path, 1, what));
            continue;
        };
        for section in ["dependencies", "build-dependencies", "dev-dependencies"] {
            for used in dependencies(text, section) {
                if used.name.starts_with("hucha") && !allowed.contains(&used.name) {
                    let what = format!("{package} must not use {}", used.name);
                    offences.push(Offence::new(&path, used.line, what));
                }
            }
        }
    }
    offences
}

/// (e) Dependencies stand in the workspace's Cargo.toml, each with its reason.
pub fn reasons(tree: &Tree) -> Vec<Offence> {
    let mut offences = Vec::new();
    let mut unexplained = |path: &str, section| {
        for used in dependencies(tree.text(path), section) {
            let own = used.rest.contains("path = ");
            let reason = used.rest.split_once('#').map_or("", |(_, reason)| reason);
            if !own && reason.trim().is_empty() {
                let what = format!("{} has no comment that says why it is needed", used.name);
                offences.push(Offence::new(path, used.line, what));
            }
        }
    };
    unexplained("Cargo.toml", "workspace.dependencies");
    if tree.manifests().iter().any(|path| path == OUTSIDE) {
        unexplained(OUTSIDE, "dependencies");
    }
    for path in tree.manifests().into_iter().filter(|path| path != OUTSIDE) {
        for section in ["dependencies", "build-dependencies", "dev-dependencies"] {
            for used in dependencies(tree.text(&path), section) {
                if !used.rest.contains("workspace = true") {
                    let what = format!("{} is not taken from the workspace", used.name);
                    offences.push(Offence::new(&path, used.line, what));
                }
            }
        }
    }
    offences
}

#[cfg(test)]
mod tests {
    use super::super::places;
    use super::*;

    #[test]
    fn arrows_can_fail() {
        let chunker = "[package]\nname = \"hucha-chunker\"\n[dependencies]\nblake3 = 1\n";
        let turned = format!("{chunker}hucha-store.workspace = true\n");
        let table = format!("{chunker}[target.x.dev-dependencies.hucha-cli]\n");
        let manifest = |text: &str| Tree::of(&[("chunker/Cargo.toml", text)]);
        assert!(arrows(&manifest(chunker)).is_empty());
        assert_eq!(
            places(&arrows(&manifest(&turned))),
            ["chunker/Cargo.toml:5"]
        );
        assert_eq!(places(&arrows(&manifest(&table))), ["chunker/Cargo.toml:5"]);
        let stranger = "[package]\nname = \"hucha-new\"\n";
        assert_eq!(
            places(&arrows(&manifest(stranger))),
            ["chunker/Cargo.toml:1"]
        );
    }

    #[test]
    fn reasons_can_fail() {
        let root = "[workspace.dependencies]\n# Hash.\na = \"1\"\nb = \"2\" # to hash\n";
        let member = "[dependencies]\na.workspace = true\nc = \"3\"\n";
        let tree = Tree::of(&[("Cargo.toml", root), ("x/Cargo.toml", member)]);
        assert_eq!(places(&reasons(&tree)), ["Cargo.toml:3", "x/Cargo.toml:3"]);
        let outside = "[dependencies]\nd = \"1\" # to fuzz\ne = \"2\"\nf = { path = \"..\" }\n";
        let tree = Tree::of(&[("Cargo.toml", ""), (OUTSIDE, outside)]);
        assert_eq!(places(&reasons(&tree)), ["fuzz/Cargo.toml:3"]);
    }
}

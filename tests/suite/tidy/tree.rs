//! The workspace as the checks see it: names and texts of files, crates and their modules. Built
//! from the folder, or from a few small strings that show that a check can fail.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::scan::Rust;

/// Files by path relative to the workspace, with `/`.
#[derive(Default)]
pub struct Tree {
    /// Texts of Rust, TOML and Markdown files.
    pub texts: BTreeMap<String, String>,
    /// Every Rust file, scanned.
    pub rust: Vec<Rust>,
    /// Every file and folder, whatever it holds.
    pub names: BTreeSet<String>,
    /// Rust files that a crate's modules reach; the value tells whether in test builds only.
    pub reached: BTreeMap<String, bool>,
}

/// What breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Offence {
    /// File.
    pub path: String,
    /// Line, from 1.
    pub line: usize,
    /// What is wrong.
    pub what: String,
}

impl Offence {
    /// At a line of a file.
    pub fn new(path: &str, line: usize, what: impl Into<String>) -> Offence {
        Offence {
            path: path.to_owned(),
            line,
            what: what.into(),
        }
    }
}

impl Tree {
    /// Reads a folder; hidden files are not part of it, nor is what cargo builds.
    pub fn read(root: &Path) -> std::io::Result<Tree> {
        let mut tree = Tree::default();
        let mut folders = vec![root.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder)? {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy().into_owned();
                if name.starts_with('.') || name == "target" {
                    continue;
                }
                let path = entry.path();
                let relative = path.strip_prefix(root).unwrap_or(&path);
                let relative = relative.to_string_lossy().replace('\\', "/");
                tree.names.insert(relative.clone());
                if entry.file_type()?.is_dir() {
                    folders.push(path);
                } else if has_ending(&relative, &["rs", "toml", "md"]) {
                    tree.texts.insert(relative, std::fs::read_to_string(path)?);
                }
            }
        }
        Ok(tree.scan())
    }

    /// A tree of strings.
    pub fn of(files: &[(&str, &str)]) -> Tree {
        let mut tree = Tree::default();
        for (path, text) in files {
            let parents = path.match_indices('/').map(|(i, _)| path[..i].to_owned());
            tree.names.extend(parents);
            tree.names.insert((*path).to_owned());
            tree.texts.insert((*path).to_owned(), (*text).to_owned());
        }
        tree.scan()
    }

    fn scan(mut self) -> Tree {
        let rust = self.texts.iter().filter(|(p, _)| has_ending(p, &["rs"]));
        self.rust = rust.map(|(p, t)| Rust::new(p, t)).collect();
        let mut roots = Vec::new();
        for manifest in self.manifests() {
            roots.extend(self.roots(&manifest));
        }
        for (path, test_only) in roots {
            self.reach(&path, test_only, true);
        }
        self
    }

    /// Paths of the members' Cargo.toml.
    pub fn manifests(&self) -> Vec<String> {
        let is_member = |p: &&String| p.ends_with("/Cargo.toml");
        self.texts.keys().filter(is_member).cloned().collect()
    }

    /// A file's text.
    pub fn text(&self, path: &str) -> &str {
        self.texts.get(path).map_or("", String::as_str)
    }

    /// Whether a file is built for tests or benchmarks only.
    pub fn is_test_file(&self, path: &str) -> bool {
        let of_tests = ["tests/", "benches/"].iter().any(|f| path.starts_with(f));
        of_tests || self.reached.get(path).copied().unwrap_or(false)
    }

    /// The files that cargo begins a crate with; those of tests are marked.
    fn roots(&self, manifest: &str) -> Vec<(String, bool)> {
        let folder = manifest.trim_end_matches("Cargo.toml");
        let mut roots = Vec::new();
        for name in ["src/lib.rs", "src/main.rs", "build.rs"] {
            roots.push((format!("{folder}{name}"), false));
        }
        for (automatic, test_only) in [
            ("src/bin/", false),
            ("tests/", true),
            ("benches/", true),
            ("examples/", true),
        ] {
            let here = format!("{folder}{automatic}");
            let direct = |p: &&Rust| {
                p.path
                    .strip_prefix(&here)
                    .is_some_and(|rest| !rest.contains('/'))
            };
            let found = self.rust.iter().filter(direct);
            roots.extend(found.map(|f| (f.path.clone(), test_only)));
        }
        let mut section = "";
        for line in self.text(manifest).lines().map(str::trim) {
            if line.starts_with('[') {
                section = line;
            } else if section.starts_with("[[") && line.starts_with("path") {
                let path = line.split('"').nth(1).unwrap_or_default();
                roots.push((format!("{folder}{path}"), section != "[[bin]]"));
            }
        }
        roots
    }

    /// Follows `mod name;` from a file.
    fn reach(&mut self, path: &str, test_only: bool, is_root: bool) {
        let Some(file) = self.rust.iter().find(|f| f.path == path) else {
            return;
        };
        match self.reached.get(path) {
            Some(known) if !*known || test_only => return, // nothing new to say
            _ => {}
        }
        let stem = path.trim_end_matches(".rs");
        let (parent, name) = stem.rsplit_once('/').unwrap_or(("", stem));
        let folder = if is_root || name == "mod" {
            parent
        } else {
            stem
        };
        let mut next = Vec::new();
        for module in file.modules() {
            let test_only = test_only || module.test_only;
            next.push((format!("{folder}/{}.rs", module.name), test_only));
            next.push((format!("{folder}/{}/mod.rs", module.name), test_only));
        }
        self.reached.insert(path.to_owned(), test_only);
        for (path, test_only) in next {
            self.reach(&path, test_only, false);
        }
    }
}

fn has_ending(path: &str, endings: &[&str]) -> bool {
    path.rsplit_once('.')
        .is_some_and(|(_, e)| endings.contains(&e))
}

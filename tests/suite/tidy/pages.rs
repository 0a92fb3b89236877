//! Rules about pages: links lead somewhere, also from comments; the README stays short.

use super::tree::{Offence, Tree};

const MAX_README: usize = 150;

/// (f) Links to files of the repository exist; the README is short.
pub fn pages(tree: &Tree) -> Vec<Offence> {
    let mut offences = Vec::new();
    for (path, text) in tree.texts.iter().filter(|(p, _)| p.ends_with(".md")) {
        for (line, target) in links(text) {
            if !leads_somewhere(tree, path, target) {
                let what = format!("the link to {target} leads nowhere");
                offences.push(Offence::new(path, line, what));
            }
        }
    }
    for file in tree.rust.iter().filter(|f| !tree.is_test_file(&f.path)) {
        for (line, page) in cited(&file.text) {
            let known = ["", "docs/"]
                .iter()
                .any(|f| tree.names.contains(&format!("{f}{page}")));
            if !known {
                let what = format!("cites {page}, which is not there");
                offences.push(Offence::new(&file.path, line, what));
            }
        }
    }
    let length = tree.text("README.md").lines().count();
    if length > MAX_README {
        let what = format!("README.md has {length} lines, not {MAX_README}");
        offences.push(Offence::new("README.md", length, what));
    }
    offences
}

/// Targets of `[text](target)`, outside of blocks of code.
fn links(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut fenced = false;
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        for (at, _) in line.match_indices("](") {
            let rest = &line[at + 2..];
            found.push((number, rest.split([')', ' ']).next().unwrap_or_default()));
        }
    }
    found
}

/// Pages named in comments: `name.md`, of the root or of `docs/`.
fn cited(text: &str) -> Vec<(usize, &str)> {
    let is_path = |c: char| c.is_alphanumeric() || "_-./".contains(c);
    let mut found = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if let Some((_, comment)) = line.split_once("//") {
            let names = comment
                .split(|c| !is_path(c))
                .map(|w| w.trim_end_matches('.'));
            let pages = names.filter(|w| w.len() > 3 && w.ends_with(".md"));
            found.extend(pages.map(|page| (number, page)));
        }
    }
    found
}

fn leads_somewhere(tree: &Tree, page: &str, target: &str) -> bool {
    let elsewhere = ["https://", "http://", "mailto:", "#"];
    if elsewhere.iter().any(|e| target.starts_with(e)) {
        return true;
    }
    let file = target.split('#').next().unwrap_or_default();
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    for part in file.split('/').filter(|p| !p.is_empty() && *p != ".") {
        if part != ".." {
            parts.push(part);
        } else if parts.pop().is_none() {
            return false; // out of the repository
        }
    }
    parts.is_empty() || tree.names.contains(&parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::super::places;
    use super::*;

    #[test]
    fn pages_can_fail() {
        let page = "[a](../README.md) [b](gone.md)\n```\n[c](gone.md)\n```\n[d](https://e.org) \
                    [f](sub/#g)\n[h](../../x)\n";
        let files = [
            ("README.md", ""),
            ("docs/a.md", page),
            ("docs/sub/b.md", ""),
        ];
        assert_eq!(
            places(&pages(&Tree::of(&files))),
            ["docs/a.md:1", "docs/a.md:6"]
        );
    }

    #[test]
    fn citations_can_fail() {
        let text = "//! See docs/a.md, a.md.\nlet b = \"c.md\"; // (d.md, \"e\")\n";
        let files = [("docs/a.md", ""), ("store/src/lib.rs", text)];
        assert_eq!(places(&pages(&Tree::of(&files))), ["store/src/lib.rs:2"]);
    }

    #[test]
    fn a_long_readme_fails() {
        assert!(pages(&Tree::of(&[("README.md", &"\n".repeat(150))])).is_empty());
        assert_eq!(
            places(&pages(&Tree::of(&[("README.md", &"\n".repeat(151))]))),
            ["README.md:151"]
        );
    }
}

//! The rules of gitignore(5), one by one, and the same questions put to git itself.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use super::*;

fn verdict(text: &str, path: &str) -> Option<Verdict> {
    let (path, is_folder) = match path.strip_suffix('/') {
        Some(folder) => (folder, true),
        None => (path, false),
    };
    IgnoreFile::read(text.as_bytes()).verdict(path.as_bytes(), is_folder)
}

/// Pattern, path, and whether it is excluded.
type Row = (&'static str, &'static str, bool);

fn assert_table(table: &[Row]) {
    for (text, path, excluded) in table {
        let found = verdict(text, path) == Some(Verdict::Excluded);
        assert_eq!(found, *excluded, "{text:?} on {path}");
    }
}

#[test]
fn the_examples_of_the_manual() {
    assert_table(&[
        ("hello.*", "hello.txt", true),
        ("hello.*", "a/hello.java", true),
        ("/hello.*", "hello.c", true),
        ("/hello.*", "a/hello.java", false),
        ("foo/", "foo/", true),
        ("foo/", "a/foo/", true),
        ("foo/", "foo", false),
        ("doc/frotz", "doc/frotz", true),
        ("/doc/frotz", "doc/frotz/", true),
        ("doc/frotz", "a/doc/frotz", false),
        ("foo/*", "foo/test.json", true),
        ("foo/*", "foo/bar/", true),
        ("foo/*", "foo/bar/hello.c", false),
        ("frotz/", "a/frotz/", true),
        ("doc/frotz/", "doc/frotz/", true),
        ("doc/frotz/", "a/doc/frotz/", false),
        ("**/foo", "foo", true),
        ("**/foo", "a/b/foo", true),
        ("**/foo/bar", "a/foo/bar", true),
        ("**/foo/bar", "foo/x/bar", false),
        ("abc/**", "abc/x", true),
        ("abc/**", "abc/x/y/", true),
        ("abc/**", "abc/", false),
        ("abc/**", "x/abc/y", false),
        ("a/**/b", "a/b", true),
        ("a/**/b", "a/x/b", true),
        ("a/**/b", "a/x/y/b", true),
        ("a/**/b", "a/x/y/c", false),
    ]);
}

#[test]
fn table_of_rules() {
    assert_table(&[
        // Blank lines, comments, spaces, ends of lines.
        ("", "a", false),
        ("#a", "#a", false),
        ("\\#a", "#a", true),
        ("\\!a", "!a", true),
        ("a   ", "a", true),
        ("a\\ ", "a ", true),
        ("a\\  ", "a ", true),
        ("a\t", "a", false),
        ("a\r\nb\r\n", "a", true),
        ("\u{feff}a", "a", true),
        ("x\na", "a", true),
        // Negation: the last one counts.
        ("*.log\n!keep.log", "keep.log", false),
        ("!keep.log\n*.log", "keep.log", true),
        ("*\n!a", "a", false),
        ("*\n!a/", "a", true),
        // Wildcards take no `/`; sets.
        ("a*b", "axxb", true),
        ("x/a*b", "x/a/b", false),
        ("x/a?b", "x/a/b", false),
        ("x/a[/]b", "x/a/b", false),
        ("a[0-9]", "a5", true),
        ("a[!0-9]", "ax", true),
        ("a[^0-9]", "a5", false),
        ("a[]x]", "a]", true),
        ("a[!]x]", "a]", false),
        ("a[x-]", "a-", true),
        ("a[\\]]", "a]", true),
        ("a[[:digit:]x]", "a7", true),
        ("a[[:digit:]x]", "ax", true),
        ("a[[:upper:]]", "ab", false),
        ("a[[:x]", "a:", true),
        ("a[[:nonsense:]]", "an", false),
        ("a**", "abc", true),
        ("x/a**b", "x/a/b", false),
        ("**", "anything", true),
        ("/**", "a/b", true),
        // A byte is a character.
        ("?", "\u{e9}", false),
        ("??", "\u{e9}", true),
        // Never matches.
        ("a[", "a[", false),
        ("a\\", "a\\", false),
        ("/", "a", false),
        ("//a", "a", false),
        ("a//b", "a/b", false),
        ("!", "!", false),
        ("a/./b", "a/b", false),
    ]);
    assert_eq!(verdict("*\n!a", "a"), Some(Verdict::Included));
    assert_eq!(verdict("b", "a"), None);
}

#[test]
fn bytes_that_are_no_text() {
    let file = IgnoreFile::read(b"\xff*\nb[\x80-\x90]");
    assert!(file.verdict(b"x/\xff\xfe", false).is_some());
    assert!(file.verdict(b"b\x85", false).is_some());
    assert!(file.verdict(b"b\x91", false).is_none());
}

#[test]
fn many_stars_take_no_long_time() {
    let pattern = "a*".repeat(2_000) + "/" + &"**/a*/".repeat(200) + "b";
    let path = "a".repeat(4_000) + &"/aa".repeat(1_000);
    assert_eq!(verdict(&pattern, &path), None);
}

/// Numbers from a seed (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % limit as u64) as usize
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }
}

fn random_line(random: &mut Random) -> String {
    let parts = [
        "a",
        "b",
        "c",
        "ab",
        "*",
        "?",
        "**",
        "/",
        "/",
        "/**/",
        "**/",
        "/**",
        "[ab]",
        "[!a]",
        "[b-c]",
        "\\a",
        "*b",
        "a*",
        "\\*",
        "[[:alpha:]]",
        " ",
        "***",
        "[",
    ];
    let mut line = random.pick(&["", "", "", "!", "/", "!/", "#"]).to_owned();
    for _ in 0..=random.below(5) {
        let part = random.pick(&parts);
        // git takes the `**` of `a**/b` for one that stands alone, its manual says it is none.
        if !(part.starts_with("**") && line.ends_with(|c| !"/!".contains(c))) {
            line.push_str(part);
        }
    }
    line + random.pick(&["", "", "/", " "])
}

/// Files and folders named by `a`, `b`, `c`, `ab`, three levels deep.
fn paths() -> Vec<String> {
    let names = ["a", "b", "c", "ab"];
    let mut all = Vec::new();
    for one in names {
        all.push(format!("{one}/"));
        for two in names {
            all.push(format!("{one}/{two}/"));
            all.extend(names.map(|three| format!("{one}/{two}/{three}")));
        }
    }
    all
}

/// What git would not add, of `asked`. It is asked without the `/` of folders, which it sees.
fn ignored_by_git(git: &Path, asked: &[String]) -> BTreeSet<String> {
    let mut check = Command::new("git");
    check.args(["check-ignore", "--stdin", "-z", "--no-index"]);
    check.current_dir(git).env("GIT_CONFIG_GLOBAL", "/dev/null");
    let mut check = check
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = check.stdin.take().unwrap();
    for path in asked {
        let name = path.trim_end_matches('/');
        stdin.write_all(format!("{name}\0").as_bytes()).unwrap();
    }
    drop(stdin);
    let output = check.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_terminator('\0').map(str::to_owned).collect()
}

/// A path is excluded when it, or a folder above it, is.
fn is_excluded(file: &IgnoreFile, path: &str) -> bool {
    let above = path.match_indices('/').map(|(at, _)| (&path[..at], true));
    let itself = (!path.ends_with('/')).then_some((path, false));
    above
        .chain(itself)
        .any(|(p, is_folder)| file.verdict(p.as_bytes(), is_folder) == Some(Verdict::Excluded))
}

#[test]
fn git_says_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let init = Command::new("git")
        .args(["init", "-q"])
        .current_dir(folder.path())
        .status();
    if !init.is_ok_and(|status| status.success()) {
        eprintln!("!!! SKIPPED, needs git: ignore files are not compared with git");
        return;
    }
    let paths = paths();
    for path in paths.iter().filter(|p| p.ends_with('/')) {
        fs::create_dir_all(folder.path().join(path)).unwrap();
    }
    let mut random = Random(2026);
    let mut ignored = 0;
    for round in 0..200 {
        let lines: Vec<String> = (0..=random.below(4))
            .map(|_| random_line(&mut random))
            .collect();
        let text = lines.join("\n");
        fs::write(folder.path().join(".gitignore"), &text).unwrap();
        let expected = ignored_by_git(folder.path(), &paths);
        let file = IgnoreFile::read(text.as_bytes());
        let ours = paths.iter().filter(|p| is_excluded(&file, p));
        let ours: BTreeSet<String> = ours.map(|p| p.trim_end_matches('/').to_owned()).collect();
        assert_eq!(ours, expected, "round {round}: {text:?}");
        ignored += ours.len();
    }
    assert!(ignored > 1_000, "{ignored}");
}

//! Files that users write: lists of patterns and lists of paths. A line that is wrong is named by
//! file and number. What a pattern means is the matter of `hucha-sources`.

#[cfg(unix)]
use std::ffi::OsStr;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use hucha_sources::expand::expand;
use hucha_sources::pattern::{Case, Matcher, Patterns};

use crate::args::{ChoiceArgs, ExcludeArgs, TreeArgs};
use crate::errors::Failure;
use crate::settings::{Variables, variable};

/// The patterns of a file: blank lines and those that begin with `#` mean nothing, variables are
/// replaced.
fn patterns(file: &Path, case: Case, variables: Variables<'_>) -> Result<Vec<String>, Failure> {
    let text = read(file)?;
    let mut patterns = Vec::new();
    for (number, line) in lines(file, &text)? {
        let wrong = |why: String| Failure::usage(format_args!("{}:{number}: {why}", shown(file)));
        let pattern = with_variables(line, variables).map_err(wrong)?;
        Patterns::with(&[&pattern], case).map_err(|e| wrong(e.to_string()))?;
        patterns.push(pattern);
    }
    Ok(patterns)
}

/// What is left out by pattern.
///
/// # Errors
/// When a pattern is malformed, or a file of patterns cannot be read.
pub fn excluded(args: &ExcludeArgs) -> Result<Matcher, Failure> {
    matcher(
        (&args.exclude, &args.exclude_file),
        (&args.iexclude, &args.iexclude_file),
    )
}

/// What alone is taken; nothing: all is.
///
/// # Errors
/// As [`excluded`].
pub fn included(args: &ChoiceArgs) -> Result<Matcher, Failure> {
    matcher(
        (&args.include, &args.include_file),
        (&args.iinclude, &args.iinclude_file),
    )
}

/// Patterns as typed, and files of more.
type Given<'a> = (&'a [String], &'a [PathBuf]);

fn matcher(exact: Given<'_>, any_case: Given<'_>) -> Result<Matcher, Failure> {
    let exact = all_patterns(exact, Case::Differs, &variable)?;
    let any_case = all_patterns(any_case, Case::Ignored, &variable)?;
    Ok(Matcher::new(&exact, &any_case)?)
}

/// Patterns that were typed, and those of files.
fn all_patterns(
    (typed, files): Given<'_>,
    case: Case,
    variables: Variables<'_>,
) -> Result<Vec<String>, Failure> {
    let mut all = typed.to_vec();
    for file in files {
        all.extend(patterns(file, case, variables)?);
    }
    Ok(all)
}

/// All paths of all lists, in the order of the options; relative ones start at `base`.
///
/// # Errors
/// When a list cannot be read, a pattern is malformed or a list seems cut short.
pub fn paths(args: &TreeArgs, base: &Path) -> Result<Vec<OsString>, Failure> {
    let mut paths = Vec::new();
    for file in &args.files_from {
        let text = read(file)?;
        for (number, line) in lines(file, &text)? {
            let found = expand(line, base)
                .map_err(|e| Failure::usage(format_args!("{}:{number}: {e}", shown(file))))?;
            match found.is_empty() {
                // Reported as missing, under what was written.
                true => paths.push(line.into()),
                false => paths.extend(found),
            }
        }
    }
    for file in &args.files_from_verbatim {
        let text = read(file)?;
        let lines = text.split(|c| *c == b'\n').filter(|line| !line.is_empty());
        for line in lines {
            paths.push(os_name(line).ok_or_else(|| no_name(file))?);
        }
    }
    for file in &args.files_from_raw {
        let text = read(file)?;
        let Some(body) = text.strip_suffix(b"\0") else {
            if text.is_empty() {
                continue;
            }
            let why = "does not end with a zero byte: is it cut short?";
            return Err(Failure::usage(format_args!("{} {why}", shown(file))));
        };
        for path in body.split(|c| *c == 0) {
            if path.is_empty() {
                let why = "holds an empty path";
                return Err(Failure::usage(format_args!("{} {why}", shown(file))));
            }
            paths.push(os_name(path).ok_or_else(|| no_name(file))?);
        }
    }
    Ok(paths)
}

/// How many of the lists are standard input.
pub fn from_stdin(args: &TreeArgs) -> usize {
    let lists = [
        &args.files_from,
        &args.files_from_verbatim,
        &args.files_from_raw,
    ];
    let all = lists.into_iter().flatten();
    all.filter(|file| is_stdin(file)).count()
}

fn is_stdin(file: &Path) -> bool {
    file == Path::new("-")
}

fn shown(file: &Path) -> String {
    match is_stdin(file) {
        true => "standard input".to_owned(),
        false => file.display().to_string(),
    }
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let mut text = Vec::new();
    let done = match is_stdin(file) {
        true => io::stdin().read_to_end(&mut text).map(drop),
        false => fs::read(file).map(|all| text = all),
    };
    done.map_err(|e| Failure::failed(format_args!("{} cannot be read: {e}", shown(file))))?;
    Ok(text)
}

fn no_name(file: &Path) -> Failure {
    Failure::usage(format_args!("{} is no UTF-8", shown(file)))
}

/// Lines that mean something, with their numbers, without white space around them.
fn lines<'a>(file: &Path, text: &'a [u8]) -> Result<Vec<(usize, &'a str)>, Failure> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut found = Vec::new();
    for (number, line) in (1..).zip(text.split(|c| *c == b'\n')) {
        let line = std::str::from_utf8(line)
            .map_err(|_| Failure::usage(format_args!("{}:{number}: is no UTF-8", shown(file))))?;
        let line = line.trim();
        if !line.is_empty() && !line.starts_with('#') {
            found.push((number, line));
        }
    }
    Ok(found)
}

/// Bytes as a name of the system; `None` where names are text and these bytes are none.
pub fn os_name(bytes: &[u8]) -> Option<OsString> {
    #[cfg(unix)]
    return Some(<OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(bytes).to_owned());
    #[cfg(not(unix))]
    return std::str::from_utf8(bytes).ok().map(OsString::from);
}

/// Replaces `$NAME` and `${NAME}`; `$$` is a dollar sign, and so is a `$` before anything else. A
/// variable that is not set is an error: what is left of the pattern would exclude too much.
fn with_variables(line: &str, variables: Variables<'_>) -> Result<String, String> {
    let mut text = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('$') {
        text.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            text.push('$');
            rest = after;
            continue;
        }
        let (name, after) = match after.strip_prefix('{') {
            Some(braced) => braced.split_once('}').ok_or("`${` without its `}`")?,
            None => after.split_at(name_len(after)),
        };
        rest = after;
        if name.is_empty() {
            text.push('$');
            continue;
        }
        let value = variables(name)
            .ok_or_else(|| format!("the variable {name} is not set; a dollar sign is `$$`"))?;
        let value = value.into_string();
        text.push_str(&value.map_err(|_| format!("the variable {name} is no UTF-8"))?);
    }
    text.push_str(rest);
    Ok(text)
}

/// Bytes of the variable's name that a text begins with.
fn name_len(text: &str) -> usize {
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return 0;
    }
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    end.unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(name: &str) -> Option<OsString> {
        match name {
            "HOME" => Some("/home/ana".into()),
            "A_1" => Some("one".into()),
            _ => None,
        }
    }

    #[test]
    fn variables_are_replaced() {
        let table = [
            ("$HOME/x", "/home/ana/x"),
            ("${HOME}x/$A_1.$A_1", "/home/anax/one.one"),
            ("$$HOME", "$HOME"),
            ("$$$HOME", "$/home/ana"),
            ("a$", "a$"),
            ("*$/$1", "*$/$1"),
            ("none", "none"),
        ];
        for (line, expected) in table {
            let text = with_variables(line, &variables);
            assert_eq!(text.as_deref(), Ok(expected), "{line}");
        }
        for line in ["$NONE/*", "${NONE}", "${HOME", "$A/*"] {
            assert!(with_variables(line, &variables).is_err(), "{line}");
        }
    }

    fn list(text: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("list");
        fs::write(&file, text).unwrap();
        (folder, file)
    }

    #[test]
    fn patterns_of_a_file() {
        let text = b"\xef\xbb\xbf# comment\r\n\r\n  *.o \n\t#x\n!keep.o\n$HOME/tmp\n\\#a";
        let (_keep, file) = list(text);
        let found = patterns(&file, Case::Differs, &variables).unwrap();
        assert_eq!(found, ["*.o", "!keep.o", "/home/ana/tmp", "\\#a"]);
        for (text, place) in [(&b"a\n\nb[\n"[..], "list:3: "), (b"\xff", "list:1: ")] {
            let (_keep, file) = list(text);
            let failure = patterns(&file, Case::Ignored, &variables).unwrap_err();
            assert_eq!(failure.code, crate::errors::Code::Usage);
            assert!(failure.message.contains(place), "{}", failure.message);
        }
    }

    #[test]
    fn paths_of_lists() {
        let (folder, lines) = list(b"# a list\n  [l]ist \nnot there\nnone*\n");
        let verbatim = folder.path().join("verbatim");
        fs::write(&verbatim, "# a list\n\n a b \n*").unwrap();
        let raw = folder.path().join("raw");
        fs::write(&raw, "new\nline\0#\0").unwrap();
        let mut args = TreeArgs {
            files_from: vec![lines],
            files_from_verbatim: vec![verbatim],
            files_from_raw: vec![raw.clone()],
            ..TreeArgs::default()
        };
        let found = paths(&args, folder.path()).unwrap();
        let expected = [
            "list",
            "not there",
            "none*",
            "# a list",
            " a b ",
            "*",
            "new\nline",
            "#",
        ];
        assert_eq!(found, expected);
        for text in ["a\0b", "\0", "a\0\0"] {
            fs::write(&raw, text).unwrap();
            assert!(paths(&args, folder.path()).is_err(), "{text:?}");
        }
        fs::write(&raw, "").unwrap();
        assert_eq!(paths(&args, folder.path()).unwrap().len(), 6);
        args.files_from.push("not there".into());
        assert_eq!(
            paths(&args, folder.path()).unwrap_err().code,
            crate::errors::Code::Failed
        );
    }
}

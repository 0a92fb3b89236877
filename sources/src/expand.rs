//! Wildcards in paths, as a list of what to take a snapshot of may hold them: `*`, `?`, `[…]` and
//! `\` as in a [`crate::pattern`], each within one component; `**` is a `*`. Names that begin with
//! a dot are matched like others. Follows links on the way, reports no folder that cannot be read.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::pattern::{Part, PatternError};

/// The paths that a pattern stands for, sorted; those that begin with no `/` start at `base`, and
/// are answered without it. A pattern without wildcards stands for itself, there or not.
///
/// # Errors
/// When the pattern is malformed.
pub fn expand(pattern: &str, base: &Path) -> Result<Vec<OsString>, PatternError> {
    if !Part::is_wild(pattern) {
        return Ok(vec![pattern.into()]);
    }
    let start = match pattern.starts_with('/') {
        true => PathBuf::from("/"),
        false => PathBuf::new(),
    };
    let mut found = vec![start];
    let components = pattern.split('/').filter(|component| !component.is_empty());
    for component in components {
        let malformed = || PatternError::Malformed(pattern.to_owned());
        let part = Part::new(component).ok_or_else(malformed)?;
        let is_wild = Part::is_wild(component);
        found = found
            .into_iter()
            .flat_map(|path| match is_wild {
                true => matching(&part, &path, base),
                false => vec![path.join(component)],
            })
            .filter(|path| fs::symlink_metadata(base.join(path)).is_ok())
            .collect();
    }
    Ok(found.into_iter().map(PathBuf::into_os_string).collect())
}

/// Names in a folder that match, sorted.
fn matching(part: &Part, folder: &Path, base: &Path) -> Vec<PathBuf> {
    let Ok(names) = fs::read_dir(base.join(folder)) else {
        return Vec::new();
    };
    let names = names.filter_map(|entry| entry.ok().map(|entry| entry.file_name()));
    let mut found: Vec<PathBuf> = names
        .filter(|name| part.matches(name.as_encoded_bytes()))
        .map(|name| folder.join(name))
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_of_patterns() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path();
        for path in [
            "a/x.c", "a/y.c", "a/.z.c", "b/x.c", "b/d/x.c", "[odd]/f", "top",
        ] {
            fs::create_dir_all(base.join(path).parent().unwrap()).unwrap();
            fs::write(base.join(path), "").unwrap();
        }
        for (pattern, expected) in [
            ("top", &["top"][..]),
            ("not/there", &["not/there"]),
            ("*/x.c", &["a/x.c", "b/x.c"]),
            ("a/*.c", &["a/.z.c", "a/x.c", "a/y.c"]),
            ("*/d", &["b/d"]),
            ("**/x.c", &["a/x.c", "b/x.c"]),
            ("?/[!x]*", &["a/x.c", "b/x.c"]),
            ("?/[^x]*", &["a/.z.c", "a/y.c", "b/d"]),
            (r"\[odd\]/*", &["[odd]/f"]),
            ("nothing*", &[]),
            ("top/*", &[]),
        ] {
            let found = expand(pattern, base).unwrap();
            assert_eq!(found, expected, "{pattern}");
        }
        let absolute = format!("{}/*/d", base.display());
        assert_eq!(
            expand(&absolute, Path::new("/")).unwrap(),
            [base.join("b/d")]
        );
        assert!(expand("a/[", base).is_err());
    }
}

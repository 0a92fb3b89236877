//! How a user names a snapshot and a path in it: `SNAPSHOT[:PATH]`.
//!
//! SNAPSHOT is `latest`, `latest~2`, the beginning of an id, or a date or time. A time holds
//! colons itself, so it is read from the left as far as it is a time; what follows is `:PATH`.

use std::ffi::OsStr;

use hucha_store::snapshots::Selector;
use jiff::tz::TimeZone;

use crate::errors::Failure;
use crate::times::Typed;

/// Which snapshot, and which path of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// The snapshot.
    pub selector: Selector,
    /// The snapshot as typed, for messages.
    pub typed: String,
    /// The path in it, `""` for all.
    pub path: Vec<u8>,
    /// Whether a colon was typed.
    pub has_path: bool,
}

/// Reads `SNAPSHOT[:PATH]`.
///
/// # Errors
/// When it names no snapshot, or the path cannot stand in one.
pub fn parse(typed: &OsStr, zone: &TimeZone) -> Result<Name, Failure> {
    let text = typed.as_encoded_bytes();
    let bad = || {
        let shown = typed.to_string_lossy();
        Failure::failed(format_args!("{shown:?} names no snapshot")).hint(
            "name it by its id or the beginning of it, `latest`, `latest~2`, `2026-11-20` or \
             `2026-11-20T03:00:00`; `hucha snapshots` shows them",
        )
    };
    let (selector, len) = selector(text, zone).ok_or_else(bad)?;
    let (name, rest) = text.split_at(len);
    let path = match rest.split_first() {
        None => None,
        Some((b':', path)) => Some(path),
        Some(_) => return Err(bad()),
    };
    Ok(Name {
        selector,
        typed: String::from_utf8_lossy(name).into_owned(),
        path: path.map(inside).transpose()?.unwrap_or_default(),
        has_path: path.is_some(),
    })
}

/// Reads a snapshot's name without a path.
///
/// # Errors
/// When it names no snapshot, or a path follows.
pub fn parse_whole(typed: &OsStr, zone: &TimeZone) -> Result<Name, Failure> {
    let name = parse(typed, zone)?;
    if name.has_path {
        let shown = typed.to_string_lossy();
        return Err(Failure::usage(format_args!(
            "{shown:?}: here no path may follow a snapshot"
        )));
    }
    Ok(name)
}

/// The selector at the beginning of a text, and its length.
fn selector(text: &[u8], zone: &TimeZone) -> Option<(Selector, usize)> {
    if let Some(rest) = text.strip_prefix(b"latest") {
        let Some(count) = rest.strip_prefix(b"~") else {
            return Some((Selector::Latest(0), 6));
        };
        let digits = count.iter().take_while(|c| c.is_ascii_digit()).count();
        let number = std::str::from_utf8(count.get(..digits)?)
            .ok()?
            .parse()
            .ok()?;
        return Some((Selector::Latest(number), 7 + digits));
    }
    if let Some(time) = Typed::at_start(text) {
        return Some((Selector::NotAfter(time.end(zone)?), time.len));
    }
    let len = text.iter().take_while(|c| c.is_ascii_hexdigit()).count();
    let prefix = std::str::from_utf8(text.get(..len)?).ok()?;
    (1..=32)
        .contains(&len)
        .then(|| (Selector::Prefix(prefix.to_ascii_lowercase()), len))
}

/// A typed path as it stands in a snapshot: without `/` at either end, `//` and `.`.
fn inside(path: &[u8]) -> Result<Vec<u8>, Failure> {
    let parts = path.split(|c| *c == b'/');
    let parts: Vec<&[u8]> = parts.filter(|p| !p.is_empty() && *p != b".").collect();
    if parts.contains(&&b".."[..]) {
        let shown = String::from_utf8_lossy(path);
        return Err(Failure::usage(format_args!(
            "{shown:?}: a path in a snapshot has no `..`"
        )));
    }
    Ok(parts.join(&b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hucha_store::clock::Timestamp;

    fn read(text: &str) -> (Selector, String) {
        let name = parse(OsStr::new(text), &TimeZone::UTC).unwrap();
        (name.selector, String::from_utf8(name.path).unwrap())
    }

    fn end_of(seconds: i64) -> Selector {
        Selector::NotAfter(Timestamp {
            seconds,
            nanos: 999_999_999,
        })
    }

    #[test]
    fn names_without_a_time() {
        assert_eq!(read("latest"), (Selector::Latest(0), "".into()));
        assert_eq!(read("latest~12:a/b"), (Selector::Latest(12), "a/b".into()));
        assert_eq!(
            read("latest:/a//./b:c/"),
            (Selector::Latest(0), "a/b:c".into())
        );
        assert_eq!(read("3fA2"), (Selector::Prefix("3fa2".into()), "".into()));
        assert_eq!(
            read("2026:x"),
            (Selector::Prefix("2026".into()), "x".into())
        );
        assert_eq!(read("abc:"), (Selector::Prefix("abc".into()), "".into()));
    }

    #[test]
    fn times_hold_colons_themselves() {
        let three = 1_795_143_600;
        assert_eq!(
            read("2026-11-20"),
            (end_of(three - 10_800 + 86_399), "".into())
        );
        assert_eq!(
            read("2026-11-20:etc"),
            (end_of(three - 10_800 + 86_399), "etc".into())
        );
        let path = || "etc/passwd".to_owned();
        assert_eq!(
            read("2026-11-20T03:00:00:etc/passwd"),
            (end_of(three), path())
        );
        assert_eq!(read("2026-11-20 03:00:etc/passwd"), (end_of(three), path()));
        assert_eq!(
            read("2026-11-20T00:00:00-03:00:etc/passwd"),
            (end_of(three), path())
        );
        assert_eq!(
            read("2026-11-20T03:00:00Z:etc/passwd"),
            (end_of(three), path())
        );
        // Not seconds: a name that begins with digits.
        assert_eq!(
            read("2026-11-20T03:00:2026/a"),
            (end_of(three), "2026/a".into())
        );
        assert_eq!(read("2026-11-20T03:00:07a"), (end_of(three), "07a".into()));
    }

    #[test]
    fn what_names_nothing() {
        for bad in [
            "",
            ":",
            ":a",
            "last",
            "latest~",
            "latest~x",
            "latestx",
            "3fx",
            "2026-11-20x",
        ] {
            assert!(parse(OsStr::new(bad), &TimeZone::UTC).is_err(), "{bad}");
        }
        assert!(parse(OsStr::new("latest:a/../b"), &TimeZone::UTC).is_err());
        assert!(parse_whole(OsStr::new("latest:a"), &TimeZone::UTC).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn paths_are_bytes() {
        use std::os::unix::ffi::OsStrExt;
        let name = parse(OsStr::from_bytes(b"latest:a\xff"), &TimeZone::UTC).unwrap();
        assert_eq!(name.path, b"a\xff");
    }
}

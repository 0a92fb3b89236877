//! Names of documents: `companies/a/items/1` below the root of a database, their order, the
//! pattern that counts go by, names of files for collections.

use std::cmp::Ordering;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

/// What a file's name cannot hold on any system, and the sign that begins an escape.
const NO_FILE: &AsciiSet = &CONTROLS
    .add(b'%')
    .add(b'/')
    .add(b'\\')
    .add(b':')
    .add(b'*')
    .add(b'?')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'|');

/// What cannot stand in a part of a path of an address.
const NO_PART: &AsciiSet = &NO_FILE
    .add(b' ')
    .add(b'#')
    .add(b'[')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'}')
    .add(b'&')
    .add(b'+')
    .add(b'=');

/// A database of a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The project's id.
    pub project: String,
    /// The database's id; `(default)` unless somebody made another.
    pub database: String,
}

impl Place {
    /// The full name of the root: what all names of documents begin with, without a slash.
    pub fn root(&self) -> String {
        format!(
            "projects/{}/databases/{}/documents",
            self.project, self.database
        )
    }

    /// The full name of a document, or of the root when the name is empty.
    pub fn full(&self, name: &str) -> String {
        match name.is_empty() {
            true => self.root(),
            false => format!("{}/{name}", self.root()),
        }
    }

    /// The name below the root; `None` when it belongs to another database.
    pub fn short<'a>(&self, full: &'a str) -> Option<&'a str> {
        full.strip_prefix(&self.root())?.strip_prefix('/')
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "firestore://{}/{}", self.project, self.database)
    }
}

/// A name as parts of an address.
pub(super) fn encoded(name: &str) -> String {
    let parts = name
        .split('/')
        .map(|part| utf8_percent_encode(part, NO_PART).to_string());
    parts.collect::<Vec<_>>().join("/")
}

/// The file for a collection, without its ending.
pub(super) fn file_name(collection: &str) -> String {
    utf8_percent_encode(collection, NO_FILE).to_string()
}

/// The number of an id `__id7__`: such come before all others, in the order of numbers.
fn number(id: &str) -> Option<i64> {
    let digits = id.strip_prefix("__id")?.strip_suffix("__")?;
    digits.parse().ok()
}

/// The order of Firestore: part by part, numbers first, then bytes; a document stands before what
/// is below it.
pub(super) fn order(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a.split('/'), b.split('/'));
    loop {
        let by_part = match (left.next(), right.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => Ordering::Less,
            (Some(_), None) => Ordering::Greater,
            (Some(a), Some(b)) => match (number(a), number(b)) {
                (Some(a), Some(b)) => a.cmp(&b),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => a.cmp(b),
            },
        };
        if by_part != Ordering::Equal {
            return by_part;
        }
    }
}

/// The collections of a document's name, `*` for each document above: `companies/*/items`.
pub(super) fn pattern(name: &str) -> String {
    let mut pattern = String::with_capacity(name.len());
    let mut parts = name.split('/').peekable();
    while let Some(collection) = parts.next() {
        pattern.push_str(collection);
        let document = parts.next();
        if document.is_some() && parts.peek().is_some() {
            pattern.push_str("/*/");
        }
    }
    pattern
}

/// Whether it can be the name of a document: an even number of parts, none empty.
pub(super) fn is_document(name: &str) -> bool {
    name.split('/').count().is_multiple_of(2) && name.split('/').all(|part| !part.is_empty())
}

/// The collection at the root that a document is in, or below.
pub(super) fn collection(name: &str) -> &str {
    name.split('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_that_of_firestore() {
        let sorted = [
            "a/__id9__",
            "a/__id10__",
            "a/0",
            "a/a",
            "a/a/items/1",
            "a/a/items/1/x/y",
            "a/a/items/2",
            "a/a!",
            "a/b",
            "a!/a",
            "ñ/a",
        ];
        for pair in sorted.windows(2) {
            assert_eq!(order(pair[0], pair[1]), Ordering::Less, "{pair:?}");
            assert_eq!(order(pair[1], pair[0]), Ordering::Greater, "{pair:?}");
        }
        assert_eq!(order("a/b", "a/b"), Ordering::Equal);
    }

    #[test]
    fn patterns_and_places() {
        assert_eq!(pattern("companies/a"), "companies");
        assert_eq!(pattern("companies/a/items/1"), "companies/*/items");
        assert_eq!(pattern("a/b/c/d/e/f"), "a/*/c/*/e");
        assert!(is_document("a/b") && !is_document("a/b/c") && !is_document("a/"));
        let place = Place {
            project: "p".into(),
            database: "(default)".into(),
        };
        assert_eq!(place.short(&place.full("a/b")), Some("a/b"));
        assert_eq!(
            place.short("projects/q/databases/(default)/documents/a/b"),
            None
        );
        assert_eq!(encoded("a/ñ %2F"), "a/%C3%B1%20%252F");
        assert_eq!(file_name("a:b"), "a%3Ab");
    }
}

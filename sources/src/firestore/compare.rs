//! Whether a database holds what is stored: the same documents, each the same line.

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use super::client::Client;
use super::merge::{Pair, Selection, Side, collection, origin, side_by_side};
use super::names::pattern;
use super::{Firestore, VIEWER, pages};
use crate::database::error::{Cause, DatabaseError};
use crate::database::{Context, Merge, Stored, Verified, compare_rows};

/// How many documents are named that differ.
const NAMED: usize = 3;

/// Names that are remembered by a number each: two that meet would only hide a difference.
#[derive(Default)]
pub(super) struct Remembered {
    hasher: RandomState,
    numbers: HashSet<u64>,
}

impl Remembered {
    /// Remembers a name.
    pub fn add(&mut self, name: &str) {
        self.numbers.insert(self.hasher.hash_one(name));
    }

    /// Whether it was.
    pub fn has(&self, name: &str) -> bool {
        self.numbers.contains(&self.hasher.hash_one(name))
    }
}

/// What is compared.
pub(super) struct Comparison<'a> {
    pub stored: &'a dyn Stored,
    pub selection: &'a Selection,
    /// What may be different.
    pub merge: Merge,
    /// Those that were there before and stay.
    pub kept: &'a Remembered,
    /// When the last of it was written. Each collection is read at a moment of its own, not before
    /// that: the service forgets a moment that is long ago.
    pub written: Option<&'a str>,
}

/// Compares.
pub(super) fn compare(
    firestore: &Firestore,
    client: &Arc<Client>,
    comparison: &Comparison<'_>,
    context: &Context,
) -> Result<Verified, DatabaseError> {
    let stored = comparison.stored;
    let from = origin(stored)?;
    let mut counted: BTreeMap<String, u64> = BTreeMap::new();
    let mut differing = Vec::new();
    for stream in stored.streams() {
        let name = collection(stream);
        if !firestore.wants(name) {
            continue;
        }
        let pair = Pair {
            stored: Some((stored, stream)),
            places: (&from, &firestore.place),
            selection: comparison.selection,
            context,
        };
        let time = pages::moment_after(client, comparison.written)?;
        let (there, _) = firestore.documents(client, &firestore.what(name, &time))?;
        side_by_side(&pair, there, &mut |side| {
            let (name, is_stored) = match &side {
                Side::Stored(document) | Side::Both(document, _) => (&document.name, true),
                Side::There(document) => (&document.name, false),
            };
            if is_stored {
                *counted.entry(pattern(name)).or_default() += 1;
            }
            let what = match &side {
                Side::Stored(_) => "is not there",
                Side::There(_) if comparison.merge == Merge::Mirror => "is not stored",
                Side::Both(a, b) if a.line()? != b.line()? && !comparison.kept.has(name) => {
                    "is another"
                }
                _ => return Ok(()),
            };
            differing.push(format!("{name} {what}"));
            match differing.len() > NAMED {
                true => Err(differ(firestore, &differing)),
                false => Ok(()),
            }
        })?;
    }
    if !differing.is_empty() {
        return Err(differ(firestore, &differing));
    }
    let rows = stored.streams().iter().flat_map(|s| s.facts.rows.clone());
    let wanted = rows.filter(|(pattern, _)| {
        comparison.selection.takes(pattern) && firestore.wants(super::names::collection(pattern))
    });
    let wanted: Vec<_> = wanted.collect();
    let mut verified = compare_rows(&wanted, &|name| {
        Some(counted.get(name).copied().unwrap_or(0))
    })?;
    verified.checks.push("documents".to_owned());
    Ok(verified)
}

fn differ(firestore: &Firestore, differing: &[String]) -> DatabaseError {
    let named: Vec<&str> = differing.iter().take(NAMED).map(String::as_str).collect();
    let more = if differing.len() > NAMED {
        ", and more"
    } else {
        ""
    };
    let what = format!(
        "{} is not as stored: {}{more}",
        firestore.place,
        named.join(", ")
    );
    DatabaseError::new(Cause::Differs, what).hint("did somebody write into it meanwhile?")
}

/// Compares a database with all that is stored; it must hold nothing else in these collections.
pub(super) fn verify(
    firestore: &Firestore,
    stored: &dyn Stored,
    context: &Context,
) -> Result<Verified, DatabaseError> {
    origin(stored)?;
    let client = firestore.client(context, VIEWER)?;
    let comparison = Comparison {
        stored,
        selection: &Selection::default(),
        merge: Merge::Mirror,
        kept: &Remembered::default(),
        written: None,
    };
    compare(firestore, &client, &comparison, context)
}

//! What is stored and what is there, side by side in the order of names.

use std::io::{BufRead, BufReader, Read};

use super::names::{Place, order, pattern};
use super::pages::Sorted;
use super::value::Document;
use crate::database::error::{Cause, DatabaseError};
use crate::database::{Context, Stored, StoredStream};

/// A document that is stored, or there, or both.
pub(super) enum Side {
    /// Stored only.
    Stored(Document),
    /// There only.
    There(Document),
    /// Both, perhaps not the same.
    Both(Document, Document),
}

/// Which collections are meant.
#[derive(Debug, Clone, Default)]
pub(super) struct Selection(pub Vec<String>);

impl Selection {
    /// Whether documents of a pattern are; what is below a collection belongs to it.
    pub fn takes(&self, pattern: &str) -> bool {
        let begins = |name: &String| {
            let rest = pattern.strip_prefix(name.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.0.is_empty() || self.0.iter().any(begins)
    }

    /// Fails when one of them is not stored.
    pub fn check(&self, stored: &dyn Stored) -> Result<(), DatabaseError> {
        let rows = || stored.streams().iter().flat_map(|s| s.facts.rows.iter());
        let is_known = |name: &&String| {
            let one = Selection(vec![(*name).clone()]);
            rows().any(|(pattern, _)| one.takes(pattern))
        };
        let Some(name) = self.0.iter().find(|name| !is_known(name)) else {
            return Ok(());
        };
        let all: Vec<&str> = rows().map(|(name, _)| name.as_str()).take(20).collect();
        let what = format!("the stored database has no collection {name:?}");
        let known = format!("it has: {}", all.join(", "));
        Err(DatabaseError::new(Cause::Absent, what).hint(known))
    }
}

/// What is stored is from here.
pub(super) fn origin(stored: &dyn Stored) -> Result<Place, DatabaseError> {
    let member = stored.member();
    if member.kind != "firestore" {
        let what = format!(
            "\"{}\" is a {} database, whose rows are no documents",
            member.name, member.kind
        );
        return Err(DatabaseError::setting(what));
    }
    let property = |name: &str| member.property(name).unwrap_or_default().to_owned();
    Ok(Place {
        project: property("project"),
        database: property("database"),
    })
}

/// The collection at the root that a stream holds.
pub(super) fn collection(stream: &StoredStream) -> &str {
    stream.facts.property("collection").unwrap_or_default()
}

/// Hands on every stored document of a stream, in order; a context stops it.
pub(super) fn each_document(
    stored: &dyn Stored,
    stream: &StoredStream,
    context: Option<&Context>,
    each: &mut dyn FnMut(Document) -> Result<(), DatabaseError>,
) -> Result<(), DatabaseError> {
    let broken = |what: String| DatabaseError::new(Cause::Incomplete, what);
    stored.read(&stream.name, &mut |bytes: &mut (dyn Read + Send)| {
        let mut bytes = BufReader::with_capacity(1 << 16, bytes);
        let mut line = Vec::new();
        loop {
            context.map_or(Ok(()), Context::go_on)?;
            line.clear();
            let read = bytes.read_until(b'\n', &mut line);
            let n = read.map_err(|e| broken(format!("the snapshot cannot be read: {e}")))?;
            if n == 0 {
                return Ok(());
            }
            let text = std::str::from_utf8(&line)
                .ok()
                .filter(|line| line.ends_with('\n'));
            let text = text.ok_or_else(|| broken(format!("{} ends in a line", stream.name)))?;
            each(Document::of_line(text)?)?;
        }
    })
}

/// One collection that is stored, and how it is compared.
pub(super) struct Pair<'a> {
    /// What is stored; nothing when `None`.
    pub stored: Option<(&'a dyn Stored, &'a StoredStream)>,
    /// Whence and whither.
    pub places: (&'a Place, &'a Place),
    /// What of it is meant.
    pub selection: &'a Selection,
    /// Stops it.
    pub context: &'a Context,
}

/// Hands on every document that is meant, stored or there.
pub(super) fn side_by_side(
    pair: &Pair<'_>,
    mut there: Sorted,
    each: &mut dyn FnMut(Side) -> Result<(), DatabaseError>,
) -> Result<(), DatabaseError> {
    let takes = |document: &Document| pair.selection.takes(&pattern(&document.name));
    let mut next_there = || -> Result<Option<Document>, DatabaseError> {
        loop {
            match there.next()? {
                Some(document) if !takes(&document) => {}
                next => return Ok(next.map(Document::timeless)),
            }
        }
    };
    let mut found = next_there()?;
    if let Some((stored, stream)) = pair.stored {
        each_document(stored, stream, Some(pair.context), &mut |document| {
            if !takes(&document) {
                return Ok(());
            }
            let document = document.timeless().moved(pair.places.0, pair.places.1);
            while let Some(other) = found.take_if(|o| order(&o.name, &document.name).is_lt()) {
                each(Side::There(other))?;
                found = next_there()?;
            }
            match found.take_if(|other| other.name == document.name) {
                Some(other) => {
                    each(Side::Both(document, other))?;
                    found = next_there()?;
                }
                None => each(Side::Stored(document))?,
            }
            Ok(())
        })?;
    }
    while let Some(other) = found.take() {
        each(Side::There(other))?;
        found = next_there()?;
    }
    Ok(())
}

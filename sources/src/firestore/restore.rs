//! Stored documents into a database: what is there and what is stored are read side by side, and
//! only what differs is written. Afterwards all of it is read once more and compared.
//!
//! Firestore has no place beside a database where a restore could be made and exchanged later; so
//! what becomes of documents that are there is said by [`Merge`].

use std::collections::BTreeMap;
use std::sync::Arc;

use super::client::Client;
use super::commit::{Writer, unstopped};
use super::compare::{Comparison, compare};
use super::merge::{Pair, Selection, Side, collection, origin, side_by_side};
use super::names::{Place, pattern};
use super::{Firestore, USER, pages};
use crate::database::error::DatabaseError;
use crate::database::{
    Context, Merge, Part, RestoreOptions, Restored, Stored, Verified, compare_rows,
};

/// A restore on its way.
struct Run<'a> {
    to: &'a Firestore,
    client: Arc<Client>,
    stored: &'a dyn Stored,
    from: Place,
    selection: Selection,
    merge: Merge,
    context: &'a Context,
}

/// Puts stored documents into a database.
pub(super) fn restore(
    to: &Firestore,
    stored: &dyn Stored,
    options: &RestoreOptions,
    context: &Context,
) -> Result<Restored, DatabaseError> {
    if options.part == Part::Schema {
        let what = "a Firestore database has no structure apart from its documents";
        return Err(DatabaseError::setting(what));
    }
    let run = Run {
        to,
        client: to.client(context, USER)?,
        stored,
        from: origin(stored)?,
        selection: Selection(options.tables.clone()),
        merge: options.merge,
        context,
    };
    run.selection.check(stored)?;
    let mut writer = Writer::new(Arc::clone(&run.client), run.merge == Merge::NewOnly)?;
    if let Err(error) = run.write_all(&mut writer) {
        return Err(run.failed(writer, error));
    }
    match run.compare(&writer) {
        Ok(verified) => Ok(run.done(&writer, &verified)),
        Err(error) => Err(run.differs(&writer, error)),
    }
}

impl Run<'_> {
    fn write_all(&self, writer: &mut Writer) -> Result<(), DatabaseError> {
        for stream in self.stored.streams() {
            let name = collection(stream);
            let patterns = stream.facts.rows.iter();
            let any = patterns
                .into_iter()
                .any(|(pattern, _)| self.selection.takes(pattern));
            if any && self.to.wants(name) {
                self.write(name, Some(stream), writer)?;
            }
        }
        if self.merge == Merge::Mirror {
            self.empty_others(writer)?;
        }
        writer.flush()
    }

    fn compare(&self, writer: &Writer) -> Result<Verified, DatabaseError> {
        let comparison = Comparison {
            stored: self.stored,
            selection: &self.selection,
            merge: self.merge,
            kept: &writer.kept,
            written: writer.time.as_deref(),
        };
        compare(self.to, &self.client, &comparison, self.context)
    }

    /// One collection at the root, with what is below it.
    fn write(
        &self,
        name: &str,
        stream: Option<&crate::database::StoredStream>,
        writer: &mut Writer,
    ) -> Result<(), DatabaseError> {
        let pair = Pair {
            stored: stream.map(|stream| (self.stored, stream)),
            places: (&self.from, &self.to.place),
            selection: &self.selection,
            context: self.context,
        };
        // As it is when it is asked: names that are written lie behind those that are read.
        let (there, _) = self.to.documents(&self.client, &self.to.what(name, ""))?;
        let mut counted: BTreeMap<String, u64> = BTreeMap::new();
        side_by_side(&pair, there, &mut |side| {
            if let Side::Stored(document) | Side::Both(document, _) = &side {
                *counted.entry(pattern(&document.name)).or_default() += 1;
            }
            match (side, self.merge) {
                (Side::Stored(document), _) => writer.put(document),
                (Side::There(document), Merge::Mirror) => writer.delete(document.name),
                (Side::There(_), _) => Ok(()),
                (Side::Both(stored, found), Merge::NewOnly) => writer.keep(&stored, &found),
                (Side::Both(stored, found), _) => match stored.line()? == found.line()? {
                    true => {
                        writer.there += 1;
                        Ok(())
                    }
                    false => writer.put(stored),
                },
            }
        })?;
        let rows = stream.into_iter().flat_map(|stream| &stream.facts.rows);
        let rows = rows.filter(|(pattern, _)| self.selection.takes(pattern));
        let rows: Vec<_> = rows.cloned().collect();
        // What the snapshot itself has lost is no difference that others made.
        let found = |name: &str| Some(counted.get(name).copied().unwrap_or(0));
        compare_rows(&rows, &found).map(|_| ())
    }

    /// Empties collections that are not stored, when everything was.
    fn empty_others(&self, writer: &mut Writer) -> Result<(), DatabaseError> {
        let all = self.stored.member().property("collections") == Some("all");
        if !all || !self.selection.0.is_empty() {
            return Ok(());
        }
        let is_stored = |name: &str| self.stored.streams().iter().any(|s| collection(s) == name);
        for name in pages::collections(&self.client, "", "")? {
            if !is_stored(&name) && self.to.wants(&name) {
                self.write(&name, None, writer)?;
            }
        }
        Ok(())
    }

    fn done(&self, writer: &Writer, verified: &Verified) -> Restored {
        let mut warnings = Vec::new();
        if self.merge == Merge::NewOnly && writer.there > 0 {
            warnings.push(format!(
                "{} documents were there already and were kept as they are",
                writer.there
            ));
        }
        if writer.deleted > 0 {
            warnings.push(format!(
                "{} documents that are not stored were deleted",
                writer.deleted
            ));
        }
        Restored {
            name: self.to.place.to_string(),
            tables: verified.tables,
            rows: verified.rows,
            kept: None,
            warnings,
        }
    }

    /// All was written, but is not there as it is stored, or that cannot be seen. It stays: others
    /// may have written meanwhile, which is no reason to take the rest away.
    fn differs(&self, writer: &Writer, mut error: DatabaseError) -> DatabaseError {
        error.what = format!(
            "{}; all was written ({} documents, {} deleted) and stays",
            error.what, writer.written, writer.deleted
        );
        match error.hint {
            Some(_) => error,
            None => error.hint("repeat the restore; documents that are there are kept"),
        }
    }

    /// Takes away what was made, where that says what was there before.
    fn failed(&self, writer: Writer, mut error: DatabaseError) -> DatabaseError {
        let (written, deleted) = (writer.written, writer.deleted);
        if written + deleted == 0 {
            return error;
        }
        if self.merge != Merge::NewOnly {
            error.what = format!(
                "{}; before that {written} documents were written and {deleted} deleted",
                error.what
            );
            return error.hint("nothing can take that back; repeat the restore");
        }
        let context = unstopped(self.context);
        let stay = self
            .to
            .client(&context, USER)
            .map(|client| writer.undo(&client));
        match stay.unwrap_or(written) {
            0 => error,
            stay => {
                error.what = format!("{}; {stay} documents that it wrote stay", error.what);
                error.hint("repeat the restore; documents that are there are kept")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_selection_takes() {
        let selection = Selection(vec!["companies".into(), "users/*/notes".into()]);
        for (pattern, takes) in [
            ("companies", true),
            ("companies/*/items", true),
            ("companies2", false),
            ("users", false),
            ("users/*/notes", true),
            ("users/*/notes/*/x", true),
        ] {
            assert_eq!(selection.takes(pattern), takes, "{pattern}");
        }
        assert!(Selection::default().takes("anything"));
    }
}

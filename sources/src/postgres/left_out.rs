//! Things that scripts of `pg_dump` make and that are not wanted: it has no option for them.

use std::collections::HashSet;

use crate::database::error::{Cause, DatabaseError};

/// Something that a script makes, as the comment before it names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Thing {
    /// By the word of `pg_dump`: `FK CONSTRAINT`.
    pub kind: String,
    /// `-` where it belongs to none.
    pub schema: String,
    /// `sale sale_customer_fkey`, `late(integer)`
    pub name: String,
    /// How its own comment and privileges name it: `CONSTRAINT sale_customer_fkey ON sale`,
    /// `FUNCTION late(days integer)`.
    pub about: String,
}

/// How a thing is kept: kind, schema, name, and how it is named by what is about it.
type Kept = (String, String, String, String);

/// Kinds of things that are about another thing, and name it.
const ABOUT: [&str; 3] = ["COMMENT", "ACL", "SECURITY LABEL"];

/// A name as such comments show it, without quotes: some kinds have them, some do not.
fn plain(name: &str) -> String {
    name.replace(['\n', '\r'], " ").replace('"', "")
}

/// What is left out of scripts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct LeftOut {
    things: Vec<Thing>,
    /// The same, to be found.
    keys: HashSet<String>,
}

/// How a thing of a kind is found; what is about a thing has no kind.
fn key(kind: &str, schema: &str, name: &str) -> String {
    [kind, schema, &plain(name)].join("\0")
}

impl LeftOut {
    /// The property of a member that holds it.
    pub const PROPERTY: &str = "left_out";

    /// Adds a thing, and what is about it.
    pub fn add(&mut self, thing: Thing) {
        self.keys
            .insert(key(&thing.kind, &thing.schema, &thing.name));
        self.keys.insert(key("", &thing.schema, &thing.about));
        self.things.push(thing);
    }

    /// Whether there is nothing of that kind.
    pub fn is_empty(&self) -> bool {
        self.things.is_empty()
    }

    /// As a property of a member: `[["FK CONSTRAINT", …], …]`.
    pub fn text(&self) -> Result<String, DatabaseError> {
        let thing = |t: &Thing| -> Kept {
            let thing = t.clone();
            (thing.kind, thing.schema, thing.name, thing.about)
        };
        let things: Vec<Kept> = self.things.iter().map(thing).collect();
        serde_json::to_string(&things).map_err(|e| DatabaseError::new(Cause::Failed, e.to_string()))
    }

    /// From such a property.
    ///
    /// # Errors
    /// [`Cause::Damaged`] when it is none.
    pub fn of_text(text: &str) -> Result<LeftOut, DatabaseError> {
        let kept: Vec<Kept> = serde_json::from_str(text).map_err(|e| {
            let what = format!("the manifest's list of what is left out cannot be read: {e}");
            DatabaseError::new(Cause::Damaged, what)
        })?;
        let thing = |(kind, schema, name, about)| Thing {
            kind,
            schema,
            name,
            about,
        };
        let mut all = LeftOut::default();
        kept.into_iter().map(thing).for_each(|thing| all.add(thing));
        Ok(all)
    }

    /// Whether a thing is left out, named as the comment before it does.
    pub fn has(&self, kind: &str, schema: &str, name: &str) -> bool {
        let kind = match kind {
            _ if ABOUT.contains(&kind) => "",
            // It names the index of the partition.
            "INDEX ATTACH" => "INDEX",
            kind => kind,
        };
        !self.is_empty() && self.keys.contains(&key(kind, schema, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_and_what_is_said_of_them() {
        let thing = |kind: &str, schema: &str, name: &str, about: &str| Thing {
            kind: kind.to_owned(),
            schema: schema.to_owned(),
            name: name.to_owned(),
            about: about.to_owned(),
        };
        let mut left = LeftOut::default();
        let about = "CONSTRAINT its\nkey ON Odd sale";
        left.add(thing("FK CONSTRAINT", "public", "Odd sale its\nkey", about));
        let late = "late(integer, public.state)";
        let about = "FUNCTION late(days integer, of public.state)";
        left.add(thing("FUNCTION", "audit", late, about));
        left.add(thing("INDEX", "public", "part_late", "INDEX part_late"));
        left.add(thing("EVENT TRIGGER", "-", "watch", "EVENT TRIGGER watch"));
        for (kind, schema, tag) in [
            ("FK CONSTRAINT", "public", "Odd sale its key"),
            (
                "COMMENT",
                "public",
                "CONSTRAINT \"its key\" ON \"Odd sale\"",
            ),
            ("FUNCTION", "audit", "late(integer, public.state)"),
            ("ACL", "audit", about),
            ("COMMENT", "-", "EVENT TRIGGER watch"),
            ("INDEX ATTACH", "public", "part_late"),
            ("EVENT TRIGGER", "-", "watch"),
        ] {
            assert!(left.has(kind, schema, tag), "{kind} {tag}");
        }
        for (kind, schema, tag) in [
            ("CONSTRAINT", "public", "Odd sale its key"),
            ("FK CONSTRAINT", "other", "Odd sale its key"),
            ("FK CONSTRAINT", "public", "Odd sale key"),
            ("FUNCTION", "audit", "late(integer)"),
            ("COMMENT", "public", "its key"),
            ("ACL", "public", about),
            ("TABLE", "audit", about),
        ] {
            assert!(!left.has(kind, schema, tag), "{kind} {tag}");
        }
        assert_eq!(LeftOut::of_text(&left.text().unwrap()).unwrap(), left);
        assert_eq!(LeftOut::of_text("[[1]]").unwrap_err().cause, Cause::Damaged);
    }
}

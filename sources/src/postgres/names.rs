//! Names of tables: in SQL, in options, in paths of a snapshot.

use crate::database::error::DatabaseError;

/// A table's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TableName {
    pub schema: String,
    pub name: String,
}

impl TableName {
    /// In SQL, and as an exact pattern for PostgreSQL's programs.
    pub fn quoted(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.name))
    }

    /// As people write it: `public.sales`. Two tables with dots in their names may look the same.
    pub fn shown(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    /// As a file's name, which no other table has.
    pub fn file(&self) -> String {
        format!("{}.{}.copy", in_file(&self.schema), in_file(&self.name))
    }
}

/// An identifier in SQL.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text in SQL.
pub(super) fn literal(text: &str) -> String {
    match text.contains('\\') {
        true => format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''")),
        false => format!("'{}'", text.replace('\'', "''")),
    }
}

/// What has a meaning in paths, or in the form of the name, as `%xx`.
fn in_file(name: &str) -> String {
    name.chars().map(char_in_file).collect()
}

fn char_in_file(c: char) -> String {
    match c {
        '%' | '/' | '.' | '\\' | '\0'..='\x1f' | '\x7f' => format!("%{:02X}", u32::from(c)),
        c => c.to_string(),
    }
}

/// A pattern for tables: `sales`, `public.sales`, `audit.*`, `*.log_*`. Without a dot it means the
/// schema `public`. Letters count as they are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    schema: String,
    name: String,
    typed: String,
}

impl Pattern {
    /// Reads one.
    pub fn new(typed: &str) -> Result<Pattern, DatabaseError> {
        let bad = || DatabaseError::setting(format!("{typed:?} is no pattern for tables"));
        let (schema, name) = match typed.split_once('.') {
            None => ("public", typed),
            Some((schema, name)) if !name.contains('.') => (schema, name),
            Some(_) => return Err(bad().hint("write SCHEMA.TABLE, with `*` for any letters")),
        };
        if schema.is_empty() || name.is_empty() {
            return Err(bad().hint("write SCHEMA.TABLE, with `*` for any letters"));
        }
        Ok(Pattern {
            schema: schema.to_owned(),
            name: name.to_owned(),
            typed: typed.to_owned(),
        })
    }

    /// Reads several.
    pub fn all(typed: &[String]) -> Result<Vec<Pattern>, DatabaseError> {
        typed.iter().map(|typed| Pattern::new(typed)).collect()
    }

    /// As it was typed.
    pub fn typed(&self) -> &str {
        &self.typed
    }

    /// Whether it means a table.
    pub fn matches(&self, table: &TableName) -> bool {
        like(&self.schema, &table.schema) && like(&self.name, &table.name)
    }
}

/// Whether a text is like a pattern with `*` for any letters.
pub(super) fn like(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = rest.get(at + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(schema: &str, name: &str) -> TableName {
        TableName {
            schema: schema.into(),
            name: name.into(),
        }
    }

    #[test]
    fn names_everywhere() {
        let odd = table("a.b", "c\"/é%");
        assert_eq!(odd.quoted(), "\"a.b\".\"c\"\"/é%\"");
        assert_eq!(odd.file(), "a%2Eb.c\"%2Fé%25.copy");
        assert_ne!(table("a.b", "c").file(), table("a", "b.c").file());
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\'"), "E'a\\\\'''");
    }

    #[test]
    fn patterns() {
        let fits = |pattern: &str, schema: &str, name: &str| {
            Pattern::new(pattern).unwrap().matches(&table(schema, name))
        };
        assert!(fits("sales", "public", "sales") && !fits("sales", "audit", "sales"));
        assert!(fits("audit.*", "audit", "x") && fits("*.log_*", "a", "log_1"));
        assert!(!fits("*.log_*", "a", "blog_1") && !fits("a.b*b", "a", "b"));
        assert!(fits("a.b*b", "a", "bb") && fits("a.*x*y*", "a", "1x2y3"));
        for bad in ["", ".", "a.", ".b", "a.b.c"] {
            assert!(Pattern::new(bad).is_err(), "{bad}");
        }
    }
}

//! docs/json.md as a schema: a table for each type, and whether an object follows it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// A field of a type.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Field {
    kind: String,
    optional: bool,
    /// Told by another type.
    inherited: bool,
}

type Fields = BTreeMap<String, Field>;

/// The page.
#[derive(Debug, Default)]
pub struct Page {
    /// Types of lines.
    types: BTreeMap<String, Fields>,
    /// Objects inside of others.
    parts: BTreeMap<String, Fields>,
}

impl Page {
    /// Reads the page. Types stand under `` ## `name` ``, parts under `` ### `name` ``.
    pub fn parse(text: &str) -> Page {
        let mut page = Page::default();
        let mut open: Option<(bool, String)> = None;
        for line in text.lines() {
            if let Some(heading) = line.strip_prefix('#') {
                let is_part = heading.starts_with("##");
                open = quoted(heading).map(|name| (is_part, name.to_owned()));
                if let Some((is_part, name)) = &open {
                    let known = page.table(*is_part).insert(name.clone(), Fields::new());
                    assert!(known.is_none(), "{name} stands twice in docs/json.md");
                }
            } else if let (Some((is_part, name)), Some(row)) = (&open, line.strip_prefix('|')) {
                page.row(*is_part, name, row);
            }
        }
        page
    }

    fn table(&mut self, is_part: bool) -> &mut BTreeMap<String, Fields> {
        match is_part {
            true => &mut self.parts,
            false => &mut self.types,
        }
    }

    fn row(&mut self, is_part: bool, name: &str, row: &str) {
        let mut cells = row.split('|').map(str::trim);
        let (field, kind) = (cells.next().unwrap(), cells.next().unwrap_or_default());
        if let Some(other) = field.strip_prefix("all of ") {
            let other = quoted(other).unwrap();
            let mut inherited = self.types[other].clone();
            for field in inherited.values_mut() {
                field.inherited = true;
            }
            self.table(is_part).get_mut(name).unwrap().extend(inherited);
        } else if let Some(field) = field.strip_prefix('`') {
            let field = field.strip_suffix('`').unwrap_or_else(|| {
                panic!("docs/json.md, {name}: one field a row, not {field:?}");
            });
            let (kind, optional) = match kind.strip_suffix(", optional") {
                Some(kind) => (kind.to_owned(), true),
                None => (kind.to_owned(), false),
            };
            let told = Field {
                kind,
                optional,
                inherited: false,
            };
            let field = (field.to_owned(), told);
            self.table(is_part).get_mut(name).unwrap().extend([field]);
        }
    }

    /// Every type, and every `type.field` but those that another type tells.
    pub fn all(&self) -> Vec<String> {
        let mut all = Vec::new();
        for (name, fields) in self.types.iter().chain(&self.parts) {
            all.push(name.clone());
            let own = fields.iter().filter(|(_, told)| !told.inherited);
            all.extend(own.map(|(field, _)| format!("{name}.{field}")));
        }
        all
    }

    /// What is wrong with a line; what it shows is added to `seen`.
    pub fn faults(&self, line: &Value, seen: &mut BTreeSet<String>) -> Vec<String> {
        let mut faults = Vec::new();
        let name = line["type"].as_str().unwrap_or_default();
        if line["schema"] != 1 {
            faults.push("schema is not 1".to_owned());
        }
        match self.types.get(name) {
            None => faults.push(format!("docs/json.md has no type {name:?}")),
            Some(fields) => {
                let mut object = line.as_object().unwrap().clone();
                object.remove("schema");
                object.remove("type");
                self.compare(name, fields, &object, seen, &mut faults);
            }
        }
        faults
    }

    fn compare(
        &self,
        name: &str,
        fields: &Fields,
        object: &serde_json::Map<String, Value>,
        seen: &mut BTreeSet<String>,
        faults: &mut Vec<String>,
    ) {
        seen.insert(name.to_owned());
        for (key, value) in object {
            let path = format!("{name}.{key}");
            match fields.get(key) {
                None => faults.push(format!("{path} is not in docs/json.md")),
                Some(field) => self.value(&path, &field.kind, value, seen, faults),
            }
            seen.insert(path);
        }
        for (key, field) in fields {
            if !field.optional && !object.contains_key(key) {
                faults.push(format!("{name}.{key} is missing"));
            }
        }
    }

    fn value(
        &self,
        path: &str,
        kind: &str,
        value: &Value,
        seen: &mut BTreeSet<String>,
        faults: &mut Vec<String>,
    ) {
        if let Some(kind) = kind.strip_suffix(" or null") {
            if !value.is_null() {
                self.value(path, kind, value, seen, faults);
            }
            return;
        }
        if let (Some(kind), Some(values)) = (kind.strip_prefix("list of "), value.as_array()) {
            for value in values {
                self.value(path, kind, value, seen, faults);
            }
            return;
        }
        if let (Some(kind), Some(object)) = (kind.strip_prefix("map of "), value.as_object()) {
            for value in object.values() {
                self.value(path, kind, value, seen, faults);
            }
            return;
        }
        if let (Some(fields), Some(object)) = (self.parts.get(kind), value.as_object()) {
            self.compare(kind, fields, object, seen, faults);
            return;
        }
        if !fits(kind, value) {
            faults.push(format!("{path} is no {kind}: {value}"));
        }
    }
}

fn fits(kind: &str, value: &Value) -> bool {
    let text = value.as_str();
    let is_hex = |t: &str| t.bytes().all(|b| b"0123456789abcdef".contains(&b));
    match kind {
        "any" => true,
        "text" => value.is_string(),
        "boolean" => value.is_boolean(),
        "number" => value.is_u64(),
        "decimal" => value.is_number(),
        "id" => text.is_some_and(|t| t.len() == 32 && is_hex(t)),
        "hex" => text.is_some_and(|t| t.len().is_multiple_of(2) && is_hex(t)),
        "time" => text.is_some_and(is_time),
        _ => false,
    }
}

/// `2026-11-20T03:00:00…` with an offset behind it.
fn is_time(text: &str) -> bool {
    let shape = "dddd-dd-ddTdd:dd:dd";
    let fits = |(shape, c): (u8, u8)| match shape {
        b'd' => c.is_ascii_digit(),
        other => c == other,
    };
    let offset = text.get(shape.len()..).unwrap_or_default();
    text.len() > shape.len()
        && shape.bytes().zip(text.bytes()).all(fits)
        && (offset.ends_with('Z') || offset.contains(['+', '-']))
}

/// The first word in backticks.
fn quoted(text: &str) -> Option<&str> {
    text.split('`').nth(1)
}

#[test]
fn the_page_can_fail() {
    let page = Page::parse(
        "## `a`: by `x`\n| field | type | |\n|---|---|---|\n| `n` | number | |\n\
         | `o` | list of part, optional | |\n| `m` | map of number, optional | |\n\
         ## `b`\n| all of [`a`](#a) | | |\n\
         ## Parts\n### `part`\n| `t` | time or null | |\n",
    );
    let faults = |line: &str| {
        let line = serde_json::from_str(line).unwrap();
        page.faults(&line, &mut BTreeSet::new())
    };
    assert_eq!(
        page.all(),
        ["a", "a.m", "a.n", "a.o", "b", "part", "part.t"]
    );
    assert!(faults(r#"{"schema":1,"type":"b","n":1}"#).is_empty());
    let line = r#"{"schema":1,"type":"a","n":1,"o":[{"t":"2026-11-20T03:00:00Z"},{"t":null}]}"#;
    assert!(faults(line).is_empty());
    for bad in [
        r#"{"schema":2,"type":"a","n":1}"#,
        r#"{"schema":1,"type":"c","n":1}"#,
        r#"{"schema":1,"type":"a"}"#,
        r#"{"schema":1,"type":"a","n":-1}"#,
        r#"{"schema":1,"type":"a","n":1,"x":1}"#,
        r#"{"schema":1,"type":"a","n":1,"m":1}"#,
        r#"{"schema":1,"type":"a","n":1,"m":{"x":2,"y":"3"}}"#,
        r#"{"schema":1,"type":"a","n":1,"o":{}}"#,
        r#"{"schema":1,"type":"a","n":1,"o":[{}]}"#,
        r#"{"schema":1,"type":"a","n":1,"o":[{"t":"yesterday"}]}"#,
        r#"{"schema":1,"type":"part","t":null}"#,
    ] {
        assert_eq!(faults(bad).len(), 1, "{bad}");
    }
}

//! Values as Firestore types them, and one line of text for each document: the same line for the
//! same document, wherever and in whatever spelling it comes. What is not understood is an error,
//! never dropped. No types are translated here; that is the matter of an export.

use std::fmt::Write;

use serde_json::{Map, Value};

use super::names::{Place, is_document};
use crate::database::error::{Cause, DatabaseError};

/// Deepest maps and lists; Firestore allows 20.
const DEEPEST: usize = 100;

/// A document.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Document {
    /// Its name below the root of its database.
    pub name: String,
    /// Typed values by name.
    pub fields: Map<String, Value>,
    /// When it was made and changed, where that is wanted.
    pub times: Option<(String, String)>,
}

fn wrong(name: &str, what: impl std::fmt::Display) -> DatabaseError {
    let what = format!("the document {name} has {what}");
    DatabaseError::new(Cause::Incomplete, what)
        .hint("a newer hucha may know it; nothing of this database was stored")
}

impl Document {
    /// From what the service answered.
    pub fn of_answer(
        mut answer: Value,
        place: &Place,
        with_times: bool,
    ) -> Result<Document, DatabaseError> {
        let full = answer.get("name").and_then(Value::as_str);
        let full = full.unwrap_or_default().to_owned();
        let name = place.short(&full).filter(|name| is_document(name));
        let Some(name) = name.map(str::to_owned) else {
            let what = format!("the service answered with {full:?}, which is no document of it");
            return Err(DatabaseError::new(Cause::Incomplete, what));
        };
        let time = |key: &str| Some(answer.get(key)?.as_str()?.to_owned());
        let times = match with_times {
            true => time("createTime").zip(time("updateTime")),
            false => None,
        };
        let fields = match answer.get_mut("fields").map(Value::take) {
            None => Map::new(),
            Some(Value::Object(fields)) => fields,
            Some(_) => return Err(wrong(&name, "fields that are no map")),
        };
        Ok(Document {
            name,
            fields,
            times,
        })
    }

    /// From a line that was stored.
    pub fn of_line(line: &str) -> Result<Document, DatabaseError> {
        let broken = || {
            let begin: String = line.chars().take(60).collect();
            let what = format!("a stored line is no document: {begin}");
            DatabaseError::new(Cause::Incomplete, what)
        };
        let Ok(Value::Object(mut line)) = serde_json::from_str(line) else {
            return Err(broken());
        };
        let mut text = |key: &str| match line.remove(key) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        };
        let times = text("createTime").zip(text("updateTime"));
        let name = text("name").filter(|name| is_document(name));
        match (name, line.remove("fields")) {
            (Some(name), Some(Value::Object(fields))) => Ok(Document {
                name,
                fields,
                times,
            }),
            _ => Err(broken()),
        }
    }

    /// Its line, with the end of the line.
    pub fn line(&self) -> Result<String, DatabaseError> {
        let mut line = String::with_capacity(256);
        line.push('{');
        if let Some((made, _)) = &self.times {
            line.push_str("\"createTime\":");
            text(&mut line, made);
            line.push(',');
        }
        line.push_str("\"fields\":");
        let written = fields(&mut line, &self.fields, 0);
        written.map_err(|what| wrong(&self.name, what))?;
        line.push_str(",\"name\":");
        text(&mut line, &self.name);
        if let Some((_, changed)) = &self.times {
            line.push_str(",\"updateTime\":");
            text(&mut line, changed);
        }
        line.push_str("}\n");
        Ok(line)
    }

    /// About how many bytes it takes.
    pub fn weight(&self) -> usize {
        let fields = self.fields.iter();
        self.name.len()
            + fields
                .map(|(name, value)| name.len() + weight(value))
                .sum::<usize>()
    }

    /// The same without times: what a restore can bring back.
    pub fn timeless(mut self) -> Document {
        self.times = None;
        self
    }

    /// The same with all references to documents of one database leading into another.
    pub fn moved(mut self, from: &Place, to: &Place) -> Document {
        if from != to {
            self.fields
                .values_mut()
                .for_each(|v| move_value(v, from, to));
        }
        self
    }
}

fn weight(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 24,
        Value::Array(all) => all.iter().map(weight).sum(),
        Value::Object(map) => map.iter().map(|(name, v)| name.len() + weight(v)).sum(),
        _ => 16,
    }
}

fn move_value(value: &mut Value, from: &Place, to: &Place) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match value {
                    Value::String(full) if key == "referenceValue" => {
                        if let Some(name) = from.short(full) {
                            *full = to.full(name);
                        }
                    }
                    other => move_value(other, from, to),
                }
            }
        }
        Value::Array(all) => all.iter_mut().for_each(|v| move_value(v, from, to)),
        _ => {}
    }
}

/// JSON text.
fn text(line: &mut String, text: &str) {
    line.push_str(&Value::from(text).to_string());
}

/// A map of typed values, by name in order.
fn fields(line: &mut String, map: &Map<String, Value>, depth: usize) -> Result<(), String> {
    let mut sorted: Vec<_> = map.iter().collect();
    sorted.sort_by(|a, b| a.0.cmp(b.0));
    line.push('{');
    for (i, (name, value)) in sorted.into_iter().enumerate() {
        if i > 0 {
            line.push(',');
        }
        text(line, name);
        line.push(':');
        typed(line, value, depth).map_err(|what| match depth {
            0 => format!("a field {name:?} with {what}"),
            _ => what,
        })?;
    }
    line.push('}');
    Ok(())
}

/// One typed value.
fn typed(line: &mut String, value: &Value, depth: usize) -> Result<(), String> {
    if depth > DEEPEST {
        return Err("maps in maps without an end".to_owned());
    }
    let only = value.as_object().filter(|map| map.len() == 1);
    let Some((kind, value)) = only.and_then(|map| map.iter().next()) else {
        return Err("a value that has not exactly one type".to_owned());
    };
    let bad = || format!("a {kind} that is none");
    let as_text = |is_good: fn(&str) -> bool| value.as_str().filter(|v| is_good(v)).ok_or_else(bad);
    let _ = write!(line, "{{\"{kind}\":");
    match kind.as_str() {
        "nullValue" if value.is_null() || value == "NULL_VALUE" => line.push_str("null"),
        "booleanValue" => line.push_str(match value.as_bool().ok_or_else(bad)? {
            true => "true",
            false => "false",
        }),
        "integerValue" => text(line, as_text(|v| v.parse::<i64>().is_ok())?),
        "doubleValue" => double(line, value).ok_or_else(bad)?,
        "timestampValue" => text(line, as_text(is_timestamp)?),
        "stringValue" => text(line, as_text(|_| true)?),
        "bytesValue" => text(line, as_text(is_base64)?),
        "referenceValue" => text(line, as_text(|v| v.starts_with("projects/"))?),
        "geoPointValue" => geo_point(line, value).ok_or_else(bad)?,
        "mapValue" | "arrayValue" => nested(line, kind, value, depth)?,
        other => return Err(format!("a value of the unknown type {other:?}")),
    }
    line.push('}');
    Ok(())
}

fn double(line: &mut String, value: &Value) -> Option<()> {
    match value {
        Value::String(word) if ["NaN", "Infinity", "-Infinity"].contains(&word.as_str()) => {
            text(line, word);
        }
        // As the shortest number that means the same; 1 and 1.0 are one.
        _ => line.push_str(&Value::from(value.as_f64()?).to_string()),
    }
    Some(())
}

/// What is left out of it is zero.
fn geo_point(line: &mut String, value: &Value) -> Option<()> {
    let point = value.as_object()?;
    let known = |key: &&String| matches!(key.as_str(), "latitude" | "longitude");
    if !point.keys().all(|key| known(&key)) {
        return None;
    }
    for (begin, key) in [("{", "latitude"), (",", "longitude")] {
        let number = point.get(key).map_or(Some(0.0), Value::as_f64)?;
        let _ = write!(line, "{begin}\"{key}\":{}", Value::from(number));
    }
    line.push('}');
    Some(())
}

fn nested(line: &mut String, kind: &str, value: &Value, depth: usize) -> Result<(), String> {
    let bad = || format!("a {kind} that is none");
    let inner = value.as_object().ok_or_else(bad)?;
    let key = if kind == "mapValue" {
        "fields"
    } else {
        "values"
    };
    if inner.keys().any(|name| name != key) {
        return Err(bad());
    }
    let _ = write!(line, "{{\"{key}\":");
    match (key, inner.get(key)) {
        ("fields", None) => line.push_str("{}"),
        ("values", None) => line.push_str("[]"),
        ("fields", Some(Value::Object(map))) => fields(line, map, depth + 1)?,
        ("values", Some(Value::Array(all))) => {
            line.push('[');
            for (i, value) in all.iter().enumerate() {
                if i > 0 {
                    line.push(',');
                }
                typed(line, value, depth + 1)?;
            }
            line.push(']');
        }
        _ => return Err(bad()),
    }
    line.push('}');
    Ok(())
}

/// `2024-01-31T23:59:60.123456789Z`: shape only.
fn is_timestamp(text: &str) -> bool {
    let (Some(day), Some(rest)) = (text.get(..10), text.get(10..)) else {
        return false;
    };
    let shape = |text: &str, shape: &str| {
        text.len() == shape.len()
            && text.bytes().zip(shape.bytes()).all(|(c, s)| match s {
                b'0' => c.is_ascii_digit(),
                _ => c == s,
            })
    };
    let Some(time) = rest.strip_suffix('Z') else {
        return false;
    };
    let (seconds, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let digits = fraction.bytes().all(|c| c.is_ascii_digit());
    shape(day, "0000-00-00")
        && shape(seconds, "T00:00:00")
        && digits
        && (1..=9).contains(&fraction.len())
}

fn is_base64(text: &str) -> bool {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn place(project: &str) -> Place {
        Place {
            project: project.into(),
            database: "(default)".into(),
        }
    }

    fn line_of(fields: Value) -> Result<String, DatabaseError> {
        let answer = json!({"name": place("p").full("c/a"), "fields": fields,
            "createTime": "2024-01-01T00:00:00Z", "updateTime": "2024-01-02T00:00:00Z"});
        Document::of_answer(answer, &place("p"), false)?.line()
    }

    #[test]
    fn every_type_has_one_spelling_and_comes_back() {
        let line = line_of(json!({
            "z": {"nullValue": null}, "y": {"booleanValue": true},
            "x": {"integerValue": "-9223372036854775808"},
            "w": {"doubleValue": 1}, "v": {"doubleValue": "NaN"}, "u": {"doubleValue": -0.0},
            "t": {"doubleValue": "-Infinity"}, "tt": {"doubleValue": 0.1},
            "s": {"timestampValue": "2024-01-31T23:59:59.123456789Z"},
            "r": {"stringValue": "a\"\u{0}\n€"}, "q": {"bytesValue": "AAEC/w=="},
            "p": {"referenceValue": place("p").full("c/b")},
            "o": {"geoPointValue": {"longitude": 2.5}},
            "n": {"mapValue": {}}, "m": {"arrayValue": {}},
            "l": {"mapValue": {"fields": {"b": {"arrayValue": {"values": [
                {"nullValue": null}, {"integerValue": "1"}]}}, "a": {"stringValue": ""}}}},
        }));
        let line = line.unwrap();
        assert_eq!(
            line,
            "{\"fields\":{\
             \"l\":{\"mapValue\":{\"fields\":{\"a\":{\"stringValue\":\"\"},\"b\":{\"arrayValue\":\
             {\"values\":[{\"nullValue\":null},{\"integerValue\":\"1\"}]}}}}},\
             \"m\":{\"arrayValue\":{\"values\":[]}},\"n\":{\"mapValue\":{\"fields\":{}}},\
             \"o\":{\"geoPointValue\":{\"latitude\":0.0,\"longitude\":2.5}},\
             \"p\":{\"referenceValue\":\"projects/p/databases/(default)/documents/c/b\"},\
             \"q\":{\"bytesValue\":\"AAEC/w==\"},\"r\":{\"stringValue\":\"a\\\"\\u0000\\n€\"},\
             \"s\":{\"timestampValue\":\"2024-01-31T23:59:59.123456789Z\"},\
             \"t\":{\"doubleValue\":\"-Infinity\"},\"tt\":{\"doubleValue\":0.1},\
             \"u\":{\"doubleValue\":-0.0},\"v\":{\"doubleValue\":\"NaN\"},\
             \"w\":{\"doubleValue\":1.0},\"x\":{\"integerValue\":\"-9223372036854775808\"},\
             \"y\":{\"booleanValue\":true},\"z\":{\"nullValue\":null}},\"name\":\"c/a\"}\n"
        );
        assert_eq!(Document::of_line(&line).unwrap().line().unwrap(), line);
    }

    #[test]
    fn doubles_keep_every_bit() {
        for bits in [
            0x3fb9_9999_9999_999a_u64,
            1,
            0x7fef_ffff_ffff_ffff,
            0x8000_0000_0000_0000,
        ] {
            let number = f64::from_bits(bits);
            let line = line_of(json!({"d": {"doubleValue": number}})).unwrap();
            let back = Document::of_line(&line).unwrap();
            let back = back.fields["d"]["doubleValue"].as_f64().unwrap();
            assert_eq!(back.to_bits(), bits);
        }
    }

    #[test]
    fn wrong_types_are_errors() {
        for bad in [
            json!({"a": {"integerValue": 1}}),
            json!({"a": {"integerValue": "1.5"}}),
            json!({"a": {"doubleValue": "1.5"}}),
            json!({"a": {"timestampValue": "yesterday"}}),
            json!({"a": {"bytesValue": "*"}}),
            json!({"a": {"newValue": "?"}}),
            json!({"a": {"stringValue": "", "integerValue": "1"}}),
            json!({"a": {}}),
            json!({"a": {"mapValue": {"fields": {"b": {"booleanValue": "true"}}}}}),
        ] {
            let error = line_of(bad.clone()).unwrap_err();
            assert_eq!(error.cause, Cause::Incomplete, "{bad}");
            assert!(
                error.what.contains("c/a") && error.what.contains("\"a\""),
                "{error}"
            );
        }
    }

    #[test]
    fn references_move_with_their_database_only() {
        let fields = json!({"a": {"arrayValue": {"values": [
            {"referenceValue": place("p").full("c/b")},
            {"referenceValue": place("other").full("c/b")},
            {"stringValue": place("p").full("c/b")}]}}});
        let line = line_of(fields).unwrap();
        let moved = Document::of_line(&line)
            .unwrap()
            .moved(&place("p"), &place("q"));
        let values = &moved.fields["a"]["arrayValue"]["values"];
        assert_eq!(values[0]["referenceValue"], place("q").full("c/b"));
        assert_eq!(values[1]["referenceValue"], place("other").full("c/b"));
        assert_eq!(values[2]["stringValue"], place("p").full("c/b"));
        let back = moved.moved(&place("q"), &place("p"));
        assert_eq!(back.line().unwrap(), line);
    }
}

//! Plain JSON files of a stored database: `companies.json` with an array of documents, each with
//! its `_id`, what is below it as `_items`, and `_metadata.json` that says what there is and what
//! was lost. JSON has fewer types than Firestore, so no restore reads these files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::merge::{collection, each_document, origin};
use super::names::file_name;
use super::value::Document;
use crate::database::Stored;
use crate::database::error::{Cause, DatabaseError};
use crate::database::scratch::private_file;

/// The file that describes the others.
const METADATA: &str = "_metadata.json";

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Exported {
    /// Names of the files.
    pub files: Vec<String>,
    /// Documents in them.
    pub documents: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// What became something else, and how often: `timestamps became text: 12`.
    pub lost: Vec<String>,
}

/// Writes the files, each 0600, into a folder, which is made (0700) when it is not there.
///
/// # Errors
/// When the member is no Firestore database, it cannot be read, or a file is there already or
/// cannot be written; nothing that was made is left then.
pub fn export(stored: &dyn Stored, folder: &Path) -> Result<Exported, DatabaseError> {
    let place = origin(stored)?;
    let mut made = Made::in_folder(folder)?;
    let mut lost = Lost::default();
    let mut collections = Map::new();
    let mut documents = 0;
    for stream in stored.streams() {
        let id = collection(stream);
        let name = file_of(id);
        let file = made.file(folder, &name)?;
        let mut tree = Tree::new(BufWriter::new(file), &mut lost);
        let written = |e| no_file(folder, &name, &e);
        tree.begin_file().map_err(written)?;
        let mut counted = 0;
        each_document(stored, stream, None, &mut |document| {
            counted += 1;
            tree.document(&document).map_err(written)
        })?;
        tree.end_file().map_err(written)?;
        if stream.facts.total().is_some_and(|total| total != counted) {
            let what = format!(
                "{} holds {counted} documents, not as many as stored",
                stream.name
            );
            return Err(DatabaseError::new(Cause::Incomplete, what));
        }
        documents += counted;
        let rows: BTreeMap<_, _> = stream.facts.rows.iter().cloned().collect();
        let about = json!({"file": name, "documents": counted, "by_collection": rows});
        collections.insert(id.to_owned(), about);
    }
    let lost = lost.told();
    let metadata = json!({
        "project": place.project, "database": place.database,
        "read_time": stored.member().property("read_time"),
        "documents": documents, "collections": collections, "lost": lost,
    });
    let mut file = made.file(folder, METADATA)?;
    writeln!(file, "{metadata:#}").map_err(|e| no_file(folder, METADATA, &e))?;
    let (files, bytes) = made.keep();
    Ok(Exported {
        files,
        documents,
        bytes,
        lost,
    })
}

/// The file of a collection; never that which describes the others.
fn file_of(collection: &str) -> String {
    let name = format!("{}.json", file_name(collection));
    match name == METADATA {
        true => format!("%5F{}", name.trim_start_matches('_')),
        false => name,
    }
}

fn no_file(folder: &Path, name: &str, error: &std::io::Error) -> DatabaseError {
    let path = folder.join(name);
    let what = format!("{} cannot be written: {error}", path.display());
    match error.kind() {
        std::io::ErrorKind::AlreadyExists => DatabaseError::new(Cause::Exists, what),
        _ => DatabaseError::new(Cause::Failed, what),
    }
}

/// Files that go unless all of them are there, and their folder when it was made for them.
struct Made {
    folder: Option<PathBuf>,
    files: Vec<(PathBuf, String)>,
}

impl Made {
    fn in_folder(folder: &Path) -> Result<Made, DatabaseError> {
        let mut builder = fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        let is_new = match builder.create(folder) {
            Ok(()) => true,
            Err(_) if folder.is_dir() => false,
            Err(e) => return Err(no_file(folder, "", &e)),
        };
        Ok(Made {
            folder: is_new.then(|| folder.to_owned()),
            files: Vec::new(),
        })
    }

    fn file(&mut self, folder: &Path, name: &str) -> Result<File, DatabaseError> {
        let path = folder.join(name);
        let file = private_file(&path).map_err(|e| no_file(folder, name, &e))?;
        self.files.push((path, name.to_owned()));
        Ok(file)
    }

    /// All are there: their names, and how many bytes they have.
    fn keep(mut self) -> (Vec<String>, u64) {
        self.folder = None;
        let files = std::mem::take(&mut self.files).into_iter();
        let size = |path: &Path| fs::metadata(path).map_or(0, |meta| meta.len());
        files.fold((Vec::new(), 0), |(mut names, bytes), (path, name)| {
            names.push(name);
            (names, bytes + size(&path))
        })
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        // What cannot be removed is for who looks at the error.
        for (path, _) in &self.files {
            let _ = fs::remove_file(path);
        }
        if let Some(folder) = &self.folder {
            let _ = fs::remove_dir(folder);
        }
    }
}

/// What JSON cannot say, and how often that was.
#[derive(Default)]
struct Lost(BTreeMap<&'static str, u64>);

impl Lost {
    fn note(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }

    fn told(&self) -> Vec<String> {
        self.0
            .iter()
            .map(|(what, n)| format!("{what}: {n}"))
            .collect()
    }

    /// A typed value as JSON says it.
    fn plain(&mut self, typed: &Value) -> Value {
        let Some((kind, value)) = typed.as_object().and_then(|map| map.iter().next()) else {
            return Value::Null;
        };
        let what = match kind.as_str() {
            "integerValue" => {
                let number = value.as_str().and_then(|n| n.parse::<i64>().ok());
                if number.is_some_and(|n| n.unsigned_abs() > 1 << 53) {
                    self.note("whole numbers are beyond what JavaScript reads exactly");
                }
                return number.map_or(Value::Null, Value::from);
            }
            "mapValue" => {
                let fields = value["fields"].as_object().into_iter().flatten();
                let plain = fields.map(|(name, value)| (name.clone(), self.plain(value)));
                return Value::Object(plain.collect());
            }
            "arrayValue" => {
                let values = value["values"].as_array().into_iter().flatten();
                return values.map(|value| self.plain(value)).collect();
            }
            "doubleValue" if value.is_string() => "numbers that are none became text",
            "timestampValue" => "timestamps became text",
            "bytesValue" => "bytes became text (base64)",
            "geoPointValue" => "places became maps of two numbers",
            "referenceValue" => {
                self.note("references became text");
                let full = value.as_str().unwrap_or_default();
                let short = full
                    .split_once("/documents/")
                    .map_or(full, |(_, name)| name);
                return Value::from(short);
            }
            _ => return value.clone(),
        };
        self.note(what);
        value.clone()
    }
}

/// Documents in each other, written as they come.
struct Tree<'a, W: Write> {
    out: W,
    lost: &'a mut Lost,
    /// Documents that are not closed yet, each below the one before.
    open: Vec<Open>,
    any: bool,
}

/// A document that is not closed yet.
struct Open {
    collection: String,
    id: String,
    keys: BTreeSet<String>,
    /// The collection below it that is not closed yet.
    below: Option<String>,
}

impl<'a, W: Write> Tree<'a, W> {
    fn new(out: W, lost: &'a mut Lost) -> Tree<'a, W> {
        Tree {
            out,
            lost,
            open: Vec::new(),
            any: false,
        }
    }

    fn begin_file(&mut self) -> std::io::Result<()> {
        self.out.write_all(b"[")
    }

    fn end_file(&mut self) -> std::io::Result<()> {
        self.close(0)?;
        self.out.write_all(b"\n]\n")?;
        self.out.flush()
    }

    fn document(&mut self, document: &Document) -> std::io::Result<()> {
        let mut parts = document.name.split('/');
        let mut pairs = Vec::new();
        while let (Some(collection), Some(id)) = (parts.next(), parts.next()) {
            pairs.push((collection, id));
        }
        let Some((last, above)) = pairs.split_last() else {
            return Ok(());
        };
        let is_same =
            |(open, pair): &(&Open, &(&str, &str))| open.collection == pair.0 && open.id == pair.1;
        let same = self.open.iter().zip(above).take_while(is_same).count();
        self.close(same)?;
        for (collection, id) in above.iter().skip(same) {
            self.lost
                .note("documents that do not exist hold those below them (_missing)");
            self.begin(collection, id, &Map::new())?;
            self.field("_missing", &Value::from(true))?;
        }
        self.begin(last.0, last.1, &document.fields)
    }

    /// Closes documents until so many are open.
    fn close(&mut self, left: usize) -> std::io::Result<()> {
        while self.open.len() > left {
            if let Some(open) = self.open.pop() {
                let end = if open.below.is_some() { "]}" } else { "}" };
                self.out.write_all(end.as_bytes())?;
            }
        }
        Ok(())
    }

    fn begin(
        &mut self,
        collection: &str,
        id: &str,
        fields: &Map<String, Value>,
    ) -> std::io::Result<()> {
        match self.open.last_mut() {
            None => {
                let before = if self.any { ",\n" } else { "\n" };
                self.any = true;
                self.out.write_all(before.as_bytes())?;
            }
            Some(parent) if parent.below.as_deref() == Some(collection) => {
                self.out.write_all(b",")?;
            }
            Some(parent) => {
                if parent.below.is_some() {
                    self.out.write_all(b"]")?;
                }
                let key = free(&format!("_{collection}"), &parent.keys, self.lost);
                write!(self.out, ",{}:[", Value::from(key.as_str()))?;
                parent.keys.insert(key);
                parent.below = Some(collection.to_owned());
            }
        }
        write!(self.out, "{{\"_id\":{}", Value::from(id))?;
        self.open.push(Open {
            collection: collection.to_owned(),
            id: id.to_owned(),
            keys: BTreeSet::from(["_id".to_owned()]),
            below: None,
        });
        let mut sorted: Vec<_> = fields.iter().collect();
        sorted.sort_by(|a, b| a.0.cmp(b.0));
        for (name, value) in sorted {
            let value = self.lost.plain(value);
            self.field(name, &value)?;
        }
        Ok(())
    }

    fn field(&mut self, name: &str, value: &Value) -> std::io::Result<()> {
        let Some(open) = self.open.last_mut() else {
            return Ok(());
        };
        let key = free(name, &open.keys, self.lost);
        write!(self.out, ",{}:{value}", Value::from(key.as_str()))?;
        open.keys.insert(key);
        Ok(())
    }
}

/// A key that is free: with more underscores before it when it is not.
fn free(key: &str, taken: &BTreeSet<String>, lost: &mut Lost) -> String {
    let mut free = key.to_owned();
    while taken.contains(&free) {
        free.insert(0, '_');
    }
    if free != key {
        lost.note("names that were taken got one more underscore");
    }
    free
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::StoredStream;
    use crate::database::testing::Taken;
    use hucha_store::member::StreamFacts;

    fn taken(lines: &[(&str, Value)]) -> Taken {
        let mut taken = Taken::default();
        taken.member.kind = "firestore".into();
        taken.member.properties = vec![("project".into(), "shop".into())];
        let mut text = String::new();
        for (name, fields) in lines {
            let fields = fields.as_object().unwrap().clone();
            let name = (*name).to_owned();
            let document = Document {
                name,
                fields,
                times: None,
            };
            text.push_str(&document.line().unwrap());
        }
        taken.bytes.insert("c.ndjson".into(), text.into_bytes());
        taken.streams.push(StoredStream {
            name: "c.ndjson".into(),
            size: 0,
            facts: StreamFacts {
                rows: vec![("c".into(), lines.len() as u64)],
                properties: vec![("collection".into(), "c".into())],
                ..StreamFacts::default()
            },
        });
        taken
    }

    #[test]
    fn the_users_shape() {
        let keep = tempfile::tempdir().unwrap();
        let reference = "projects/p/databases/(default)/documents/c/b";
        let stored = taken(&[
            (
                "c/a",
                json!({"n": {"integerValue": "9007199254740993"}, "d": {"doubleValue": "NaN"},
                    "t": {"timestampValue": "2024-01-01T00:00:00Z"},
                    "r": {"referenceValue": reference}, "_id": {"stringValue": "mine"},
                    "_items": {"nullValue": null},
                    "m": {"mapValue": {"fields": {"l": {"arrayValue": {"values": [
                        {"booleanValue": true}, {"doubleValue": 1}]}}}}}}),
            ),
            ("c/a/items/1", json!({"x": {"bytesValue": "AA=="}})),
            ("c/a/items/1/deep/2", json!({})),
            ("c/a/items/3", json!({})),
            ("c/a/notes/4", json!({})),
            (
                "c/gone/items/5",
                json!({"g": {"geoPointValue": {"latitude": 1.5}}}),
            ),
            ("c/z", json!({})),
        ]);
        let folder = keep.path().join("out");
        let exported = export(&stored, &folder).unwrap();
        assert_eq!(exported.files, ["c.json", "_metadata.json"]);
        assert_eq!(exported.documents, 7);
        assert!(exported.bytes > 300);
        let text = fs::read_to_string(folder.join("c.json")).unwrap();
        let read: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            read,
            json!([
                {"_id": "a", "n": 9_007_199_254_740_993_i64, "d": "NaN",
                    "t": "2024-01-01T00:00:00Z", "r": "c/b", "__id": "mine", "_items": null,
                    "m": {"l": [true, 1.0]},
                    "__items": [{"_id": "1", "x": "AA==", "_deep": [{"_id": "2"}]}, {"_id": "3"}],
                    "_notes": [{"_id": "4"}]},
                {"_id": "gone", "_missing": true,
                    "_items": [{"_id": "5", "g": {"latitude": 1.5, "longitude": 0.0}}]},
                {"_id": "z"}
            ])
        );
        let text = fs::read_to_string(folder.join(METADATA)).unwrap();
        let metadata: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(metadata["project"], "shop");
        assert_eq!(metadata["collections"]["c"]["documents"], 7);
        assert_eq!(
            metadata["lost"].as_array().unwrap().len(),
            8,
            "{metadata:#}"
        );
        #[cfg(unix)]
        for name in &exported.files {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(folder.join(name))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        let error = export(&stored, &folder).unwrap_err();
        assert_eq!(error.cause, Cause::Exists);
        assert_eq!(fs::read_to_string(folder.join(METADATA)).unwrap(), text);
    }

    #[test]
    fn one_that_fails_leaves_no_file() {
        let keep = tempfile::tempdir().unwrap();
        let mut stored = taken(&[("c/a", json!({})), ("c/b", json!({}))]);
        let bytes = stored.bytes.get_mut("c.ndjson").unwrap();
        bytes.truncate(bytes.len() / 2);
        let folder = keep.path().join("out");
        assert_eq!(
            export(&stored, &folder).unwrap_err().cause,
            Cause::Incomplete
        );
        assert!(!folder.exists());
        assert_eq!(file_of("_metadata"), "%5Fmetadata.json");
    }
}

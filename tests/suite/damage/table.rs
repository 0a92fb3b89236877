//! The table of docs/damage.md: for every kind of object, one bit flipped, cut short and missing;
//! what finds it, which snapshots and files are named, what a restore of the newest gives, what
//! `repair` does, and what is lost.
//!
//! `cargo test -p hucha-tests --test suite -- damage::table --nocapture` prints the table for the
//! page. A column more is a field of [`Row`] and a line each in [`COLUMNS`] and [`Row::cells`].

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::after::{After, FORGOTTEN};
use super::{Harm, harm};
use crate::support::World;
use crate::support::data::{self, Random};

/// The harms of the table, as it calls them.
const HARMS: [(Harm, &str); 3] = [
    (Harm::FlipMiddle, "one bit flipped"),
    (Harm::Halve, "cut short"),
    (Harm::Remove, "missing"),
];

/// What to call first, and so on until one finds something.
const CHECKS: [(&str, &[&str]); 3] = [
    ("`check`", &["check"]),
    ("`check --level index`", &["check", "--level", "index"]),
    ("`check --read-data`", &["check", "--read-data"]),
];

/// In how many worlds rows are made at once.
const WORLDS: usize = 4;

const COLUMNS: [&str; 9] = [
    "object",
    "harm",
    "found by",
    "exit code",
    "snapshots named",
    "files and paths named",
    "restore of the newest",
    "`hucha repair` does",
    "lost for good",
];

/// The objects, in the order of the table.
const OBJECTS: [&str; 23] = [
    CONFIG,
    "key slot that opens it",
    "another key slot",
    "data key",
    "pack of contents, first",
    "pack of contents, second",
    "pack of pages, first",
    "pack of pages, second",
    "segment, first",
    "segment, second",
    "manifest, first",
    "manifest, second",
    "manifest, forgotten",
    "marker of the forgotten",
    "tombstone",
    "session of a dead writer",
    "gc list",
    "open list of a gc list",
    "note",
    "copy of a manifest",
    "copy of a note",
    SEGMENT_WITH_CACHE,
    CACHE,
];
const CONFIG: &str = "`config`";
const SEGMENT_WITH_CACHE: &str = "segment that a cache knows";
const CACHE: &str = "local cache";

/// One line of the table.
struct Row {
    object: &'static str,
    harm: &'static str,
    found_by: String,
    code: i32,
    snapshots: String,
    files: String,
    restored: String,
    after: After,
}

impl Row {
    fn cells(&self) -> [String; COLUMNS.len()] {
        [
            self.object.to_owned(),
            self.harm.to_owned(),
            self.found_by.clone(),
            self.code.to_string(),
            self.snapshots.clone(),
            self.files.clone(),
            self.restored.clone(),
            self.after.repaired.clone(),
            self.after.lost.clone(),
        ]
    }
}

/// A repository with every kind of object, and a cache; both are copied before each harm.
pub struct Scene {
    pub world: World,
    /// What the table calls an object, and where it lies in the world.
    objects: Objects,
    /// What the table calls a snapshot, by its id.
    pub names: BTreeMap<String, &'static str>,
}

type Objects = BTreeMap<&'static str, PathBuf>;

/// What appears in an area while something is done.
fn fresh(world: &World, area: &str, act: impl FnOnce()) -> Vec<PathBuf> {
    let before = world.objects(area);
    act();
    let mut after = world.objects(area);
    after.retain(|object| !before.contains(object));
    after
}

/// The only one.
#[track_caller]
fn only(mut objects: Vec<PathBuf>) -> PathBuf {
    assert_eq!(objects.len(), 1, "{objects:?}");
    objects.remove(0)
}

/// Whether a pack holds pages: the tenth byte of its header.
fn holds_pages(pack: &Path) -> bool {
    fs::read(pack).unwrap()[9] == 1
}

/// A writer that stands in the middle of its work until it is killed.
fn killed_writer(world: &World, meanwhile: impl FnOnce()) {
    let before = world.objects("sessions").len();
    let mut writer = world.call(["snapshot", "-"]).open_stdin().start();
    writer.feed(b"x");
    while world.objects("sessions").len() == before {
        assert!(!writer.ends_within(Duration::from_millis(2)));
    }
    meanwhile();
    writer.signal(Signal::KILL);
    assert_eq!(writer.wait().code(), -9);
}

impl Scene {
    /// Does all that leaves an object of its own.
    pub fn new() -> Scene {
        let world = World::new();
        let mut objects = Objects::new();
        objects.insert(CONFIG, world.repository().join("config"));
        let mut keys = world.objects("keys");
        keys.retain(|key| super::name_of(key) != "config");
        let is_data = |key: &PathBuf| super::name_of(key).starts_with("data-");
        let (data_keys, slots): (Vec<_>, Vec<_>) = keys.into_iter().partition(is_data);
        objects.insert("key slot that opens it", only(slots));
        let add = ["key", "add", "--new-key-file", "other-key"];
        let slot = only(fresh(&world, "keys", || drop(world.ok(add))));
        objects.insert("another key slot", slot);
        objects.insert("data key", only(data_keys));
        fs::create_dir(world.path("src")).unwrap();
        Scene::add_gc_objects(&world, &mut objects);
        let mut names = BTreeMap::new();
        for (file, name) in [("a", "first"), ("b", "second")] {
            fs::write(
                world.path("src").join(file),
                // Nothing alike: a delta of the other file would go with it.
                Random(7 + name.len() as u64).bytes(20_000),
            )
            .unwrap();
            Scene::add_snapshot(&world, name, &mut names, &mut objects);
        }
        fs::write(world.path("other"), Random(9).bytes(400)).unwrap();
        let id = world.snapshot("other");
        names.insert(id.clone(), FORGOTTEN);
        let forget = || drop(world.ok(["forget", &id]));
        let marker = only(fresh(&world, "trash", forget));
        let manifest = world
            .repository()
            .join("snapshots")
            .join(super::name_of(&marker));
        objects.insert("manifest, forgotten", manifest);
        objects.insert("marker of the forgotten", marker);
        let note = || drop(world.ok(["check", "--read-data"]));
        let note = only(fresh(&world, "notes", note));
        let copies = world.repository().join("copies");
        let copy = copies.join(format!("notes.{}", super::name_of(&note)));
        objects.insert("copy of a note", copy);
        objects.insert("note", note);
        let copy = format!("snapshots.{}", super::name_of(&objects["manifest, second"]));
        objects.insert("copy of a manifest", copies.join(copy));
        let in_cache = data::files(&world.path("cache")).into_iter();
        let mut index = in_cache.filter(|f| super::name_of(f).ends_with(".redb"));
        objects.insert(CACHE, index.next().unwrap());
        fs::rename(world.repository(), world.path("whole")).unwrap();
        fs::rename(world.path("cache"), world.path("whole-cache")).unwrap();
        Scene {
            world,
            objects,
            names,
        }
    }

    /// A tombstone, a list that waits for a writer, and that writer's session.
    fn add_gc_objects(world: &World, objects: &mut Objects) {
        killed_writer(world, || {});
        let gc = || drop(world.ok(["gc"]));
        let tombstone = only(fresh(world, "snapshots", gc));
        fs::write(world.path("waste"), Random(3).bytes(100_000)).unwrap();
        let id = world.snapshot("waste");
        killed_writer(world, || {
            let session = only(world.objects("sessions"));
            world.ok(["forget", &id]);
            let gc = || drop(world.ok(["gc", "--force", "--max-unused", "0"]));
            let lists = fresh(world, "gc", gc);
            let is_open = |list: &PathBuf| super::name_of(list).ends_with(".open");
            let (open, lists): (Vec<_>, Vec<_>) = lists.into_iter().partition(is_open);
            objects.insert("session of a dead writer", session);
            objects.insert("gc list", only(lists));
            objects.insert("open list of a gc list", only(open));
        });
        objects.insert("tombstone", tombstone);
    }

    fn add_snapshot(
        world: &World,
        name: &'static str,
        names: &mut BTreeMap<String, &'static str>,
        objects: &mut Objects,
    ) {
        data::age(&world.path("src"));
        let mut id = String::new();
        let (mut segments, mut manifests) = (Vec::new(), Vec::new());
        let packs = fresh(world, "packs", || {
            segments = fresh(world, "index", || {
                manifests = fresh(world, "snapshots", || id = world.snapshot("src"));
            });
        });
        let (pages, content): (Vec<_>, Vec<_>) = packs.into_iter().partition(|p| holds_pages(p));
        names.insert(id, name);
        let found = [content, pages, segments, manifests].map(only);
        let kinds = ["pack of contents", "pack of pages", "segment", "manifest"];
        for (kind, object) in kinds.into_iter().zip(found) {
            if (kind, name) == ("segment", "second") {
                objects.insert(SEGMENT_WITH_CACHE, object.clone());
            }
            let called = format!("{kind}, {name}");
            let called = OBJECTS.iter().find(|o| **o == called).unwrap();
            objects.insert(called, object);
        }
    }
}

impl Scene {
    /// Puts whole copies of repository and cache in their places.
    fn heal(&self) {
        let world = &self.world;
        for name in ["repo", "cache", "back"] {
            let _ = fs::remove_dir_all(world.path(name));
        }
        data::copy_folder(&world.path("whole"), &world.repository());
        data::copy_folder(&world.path("whole-cache"), &world.path("cache"));
    }

    fn row(&self, object: &'static str, path: &Path, way: (Harm, &'static str)) -> Row {
        self.heal();
        if object.starts_with("segment,") {
            fs::remove_dir_all(self.world.path("cache")).unwrap();
        }
        harm(path, way.0);
        let (found_by, code, report) = self.find();
        let (restored, _) = self.restore();
        let harmed = path.strip_prefix(self.world.repository()).unwrap_or(path);
        let damage = report["damage"].as_array().cloned().unwrap_or_default();
        Row {
            object,
            harm: way.1,
            found_by,
            code,
            snapshots: self.snapshots(&damage),
            files: files(&damage),
            restored,
            after: self.after(harmed.to_str().unwrap()),
        }
    }

    /// The first check that finds something, its exit code, and what it tells.
    fn find(&self) -> (String, i32, Value) {
        for (name, args) in CHECKS {
            let ran = self.world.call(args).arg("--json").arg("-n").run();
            match ran.code() {
                0 => {
                    let report = ran.object();
                    if report["notes"] != Value::Array(vec![]) {
                        return (format!("{name}, as a note"), 0, report);
                    }
                }
                12 if !ran.text().is_empty() => return (name.to_owned(), 12, ran.object()),
                code => return ("every command".to_owned(), code, Value::Null),
            }
        }
        ("nothing".to_owned(), 0, Value::Null)
    }

    /// What a restore of the newest snapshot gives: all, or what is missing. Nothing it writes may
    /// be wrong.
    fn restore(&self) -> (String, i32) {
        let world = &self.world;
        let ran = world.run(["restore", "latest", "back"]);
        let mut missing = Vec::new();
        for file in ["a", "b"] {
            let back = world.path("back/src").join(file);
            match fs::read(back) {
                Err(_) => missing.push(format!("`src/{file}`")),
                Ok(bytes) => assert!(
                    bytes == fs::read(world.path("src").join(file)).unwrap(),
                    "{file} is restored with other bytes"
                ),
            }
        }
        let told = match (ran.code(), missing.as_slice()) {
            (0, []) => "whole".to_owned(),
            // The newest that is left, or one that is back.
            (0, _) => "another snapshot".to_owned(),
            (12, missing) if missing.len() < 2 => format!("all but {}", missing.join(", ")),
            (code, _) => format!("none (exit code {code})"),
        };
        (told, ran.code())
    }

    fn snapshots(&self, damage: &[Value]) -> String {
        let ids = damage
            .iter()
            .flat_map(|d| d["snapshots"].as_array().unwrap());
        let mut named: Vec<&str> = ids.map(|id| self.names[id.as_str().unwrap()]).collect();
        named.sort_unstable();
        named.dedup();
        shown(named.into_iter().map(str::to_owned).collect())
    }
}

/// Files, and ranges of paths, that a check names.
fn files(damage: &[Value]) -> String {
    let mut named = Vec::new();
    for damage in damage {
        let files = damage["files"].as_array().unwrap().iter();
        named.extend(files.map(|f| format!("`{}`", f.as_str().unwrap())));
        for lost in damage["lost"].as_array().unwrap() {
            let whole = lost["from"] == "" && lost["until"].is_null();
            assert!(whole, "the tree has one page: {lost}");
            named.push("all paths".to_owned());
        }
    }
    named.sort_unstable();
    named.dedup();
    shown(named)
}

fn shown(words: Vec<String>) -> String {
    match words.is_empty() {
        true => "–".to_owned(),
        false => words.join(", "),
    }
}

/// The table as Markdown.
fn markdown(rows: &[Row]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut table = line(&COLUMNS.map(str::to_owned));
    table += &line(&COLUMNS.map(|_| "---".to_owned()));
    for row in rows {
        let _ = write!(table, "{}", line(&row.cells()));
    }
    table
}

/// The table that stands on the page.
fn on_the_page() -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/damage.md");
    let page = fs::read_to_string(page).unwrap();
    let lines = page.lines().filter(|line| line.starts_with('|'));
    lines.map(|line| format!("{line}\n")).collect()
}

/// All rows, made in several worlds at once: most of the time of a call is waiting for the disk.
fn rows() -> Vec<Row> {
    let jobs: Vec<_> = OBJECTS
        .iter()
        .flat_map(|o| HARMS.map(|way| (*o, way)))
        .collect();
    let share = |first| {
        let scene = Scene::new();
        let mine = jobs.iter().enumerate().skip(first).step_by(WORLDS);
        let row = |(object, way)| scene.row(object, &scene.objects[object], way);
        mine.map(|(place, job)| (place, row(*job)))
            .collect::<Vec<_>>()
    };
    let share = &share;
    let rows: BTreeMap<usize, Row> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..WORLDS).map(|k| scope.spawn(move || share(k))).collect();
        threads
            .into_iter()
            .flat_map(|t| t.join().unwrap())
            .collect()
    });
    rows.into_values().collect()
}

#[test]
fn the_page_tells_what_every_damage_does() {
    let rows = rows();
    let table = markdown(&rows);
    println!("{table}");
    let shown = on_the_page();
    assert_eq!(table.lines().count(), shown.lines().count(), "rows");
    let differ = |(is, was): &(&str, &str)| is != was;
    let first = table.lines().zip(shown.lines()).find(differ);
    assert!(first.is_none(), "docs/damage.md says otherwise: {first:#?}");
}

//! What is left when a damage has been found: what `repair` says that it did, what is still missing
//! then, and what the next snapshot of the same files brings back. In words for the table, made of
//! nothing but what was seen.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use super::table::Scene;
use crate::support::process::Ran;

/// Key files and whose they are, in the order in which a person would try them.
const KEYS: [(&str, &str); 2] = [("key", "this key"), ("other-key", "the other key")];
/// The snapshots of the scene, with what a restore of each must give.
const SNAPSHOTS: [(&str, &[&str]); 2] = [("first", &["a"]), ("second", &["a", "b"])];
/// A snapshot that was forgotten, and may be taken back.
pub const FORGOTTEN: &str = "forgotten";

/// The two columns about what is done after a damage.
pub struct After {
    /// What `repair` did.
    pub repaired: String,
    /// What is lost then.
    pub lost: String,
}

/// What is there at one moment.
struct State {
    missing: BTreeSet<String>,
    check: i32,
}

/// A damage that is being repaired, with a key that opens the repository.
struct Patient<'a> {
    scene: &'a Scene,
    /// The path of the harmed object in the repository.
    harmed: &'a str,
    key: &'static str,
}

impl Scene {
    /// Repairs, restores everything, and does both once more after a snapshot of the same files.
    pub fn after(&self, harmed: &str) -> After {
        let mut told = Vec::new();
        for (key, name) in KEYS {
            let patient = Patient {
                scene: self,
                harmed,
                key,
            };
            let ran = patient.run(&["repair", "--json"]);
            if ran.text().is_empty() {
                told.push(format!(
                    "{name} does not open it (exit code {})",
                    ran.code()
                ));
                continue;
            }
            let words = patient.told(&ran);
            told.push(match told.is_empty() {
                true => words,
                false => format!("with {name}: {words}"),
            });
            return After {
                repaired: told.join("; "),
                lost: patient.lost(),
            };
        }
        After {
            repaired: told.join("; "),
            lost: "everything".to_owned(),
        }
    }

    fn id(&self, name: &str) -> &str {
        let mut all = self.names.iter();
        all.find(|(_, called)| **called == name).unwrap().0
    }
}

impl Patient<'_> {
    fn run(&self, args: &[&str]) -> Ran {
        self.with(self.key, args)
    }

    fn with(&self, key: &str, args: &[&str]) -> Ran {
        let world = &self.scene.world;
        let key = world.path(key);
        world.call(args).env("HUCHA_KEY_FILE", key).run()
    }

    /// What `repair` says that it did.
    fn told(&self, ran: &Ran) -> String {
        let report = ran.object();
        let mut words = Vec::new();
        for done in report["done"].as_array().unwrap() {
            let (object, what) = (&done["object"], done["what"].as_str().unwrap());
            words.push(match *object == self.harmed {
                true => what.rsplit_once(": ").unwrap().1.to_owned(),
                false => format!("{}: {what}", noun(object)),
            });
        }
        let copied = report["chunks_copied"].as_u64().unwrap();
        if copied > 0 {
            words.push(format!("chunks copied: {copied}"));
        }
        let losses = report["losses"].as_array().unwrap().iter();
        let lost: BTreeSet<String> = losses.map(|loss| self.loss(loss)).collect();
        if !lost.is_empty() {
            let lost: Vec<String> = lost.into_iter().collect();
            words.push(format!("names as lost: {}", lost.join(", ")));
        }
        words.dedup();
        match ran.code() {
            0 => or_nothing(words),
            code => format!("{} (exit code {code})", or_nothing(words)),
        }
    }

    fn loss(&self, loss: &Value) -> String {
        match loss["snapshot"].as_str() {
            Some(id) => format!("data of {}", self.scene.names[id]),
            None if loss["object"] == self.harmed => "the object itself".to_owned(),
            None => noun(&loss["object"]).to_owned(),
        }
    }

    /// What is missing after the repair, and what of it is back after a snapshot.
    fn lost(&self) -> String {
        let repaired = self.state();
        if repaired.missing.is_empty() && repaired.check == 0 {
            return or_nothing(Vec::new());
        }
        self.run(&["snapshot", "src", "--force"]).expect(0);
        self.run(&["repair", "--json"]);
        let healed = self.state();
        let (before, now) = (&repaired.missing, &healed.missing);
        assert!(
            now.is_subset(before),
            "a snapshot takes nothing away: {now:?}"
        );
        let mut lost: Vec<String> = now.iter().cloned().collect();
        let back: Vec<&str> = before.difference(now).map(String::as_str).collect();
        if !back.is_empty() {
            lost.push(format!("{}: until the next snapshot", back.join(", ")));
        }
        if lost.is_empty() {
            lost.push("nothing".to_owned());
        }
        lost.extend(self.told_until());
        lost.join("; ")
    }

    /// What ends that `check` and `repair` tell a damage; nothing when they do not.
    fn told_until(&self) -> Option<String> {
        // A slot that is gone opens nothing, and another key tells nothing of it.
        let tells = |key: &str| {
            let check = self.with(key, &["check", "--read-data", "-n"]).code();
            check != 0 || self.with(key, &["repair", "-n"]).code() != 0
        };
        let told = || KEYS.iter().all(|(key, _)| tells(key));
        if !told() {
            return None;
        }
        let slot = self.harmed.strip_prefix("keys/").unwrap_or("none");
        let ends = [
            ("`gc`", &["gc"][..]),
            ("`repair --give-up-lost`", &["repair", "--give-up-lost"]),
            ("`key remove`", &["key", "remove", slot]),
        ];
        for (name, args) in ends {
            self.run(args);
            if !told() {
                return Some(format!("told until {name}"));
            }
        }
        Some("told all the same".to_owned())
    }

    /// Restores every snapshot and compares it with what it was taken of.
    fn state(&self) -> State {
        let check = self.run(&["check", "--read-data", "--json", "-n"]).code();
        let mut missing = BTreeSet::new();
        for (key, name) in KEYS {
            if self.with(key, &["key", "list", "--json"]).text().is_empty() {
                missing.insert(format!("the way in by {name}"));
            }
        }
        for (name, files) in SNAPSHOTS {
            missing.extend(self.restore(name, files));
        }
        let id = self.scene.id(FORGOTTEN);
        let ways_back = [&["undelete", id, "-n"][..], &["ls", id]];
        if ways_back.iter().all(|args| self.run(args).code() != 0) {
            missing.insert("the forgotten snapshot".to_owned());
        }
        State { missing, check }
    }

    /// What a restore does not give. Nothing that it gives may be wrong.
    fn restore(&self, name: &str, files: &[&str]) -> Vec<String> {
        let world = &self.scene.world;
        let _ = fs::remove_dir_all(world.path("back"));
        self.run(&["restore", self.scene.id(name), "back"]);
        let mut gone = Vec::new();
        for file in files {
            match fs::read(world.path("back/src").join(file)) {
                Err(_) => gone.push(format!("`src/{file}` of {name}")),
                Ok(bytes) => assert!(
                    bytes == fs::read(world.path("src").join(file)).unwrap(),
                    "{file} is restored with other bytes"
                ),
            }
        }
        match world.path("back/src").exists() {
            true => gone,
            false => vec![format!("snapshot {name}")],
        }
    }
}

fn or_nothing(words: Vec<String>) -> String {
    match words.is_empty() {
        true => "nothing".to_owned(),
        false => words.join("; "),
    }
}

/// What the table calls an object that `repair` names and that was not harmed.
fn noun(object: &Value) -> &'static str {
    let path = object.as_str().unwrap();
    match path.split_once('/') {
        None if path == "config" => "`config`",
        Some(("keys", "config")) => "second copy of `config`",
        Some(("keys", name)) if name.starts_with("data-") => "data key",
        Some(("keys", _)) => "key slot",
        Some(("packs", _)) => "pack",
        Some(("index", _)) => "segment",
        Some(("snapshots", _)) => "snapshot",
        Some(("gc", _)) => "gc list",
        Some(("sessions", _)) => "session",
        Some(("notes", _)) => "note",
        Some(("copies", _)) => "copy",
        _ => panic!("the table has no word for {path}"),
    }
}

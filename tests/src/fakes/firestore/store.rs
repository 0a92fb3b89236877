//! Documents of several databases with all their versions, and times as text.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

/// A document's name below the root, in the order of Firestore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(pub String);

impl Name {
    fn parts(&self) -> Vec<(bool, i64, &str)> {
        let part = |text| {
            let number = str::strip_prefix(text, "__id").and_then(|t| t.strip_suffix("__"));
            match number.and_then(|digits| digits.parse().ok()) {
                Some(number) => (false, number, ""),
                None => (true, 0, text),
            }
        };
        self.0.split('/').map(part).collect()
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Name) -> Ordering {
        self.parts().cmp(&other.parts())
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Name) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A document at a moment.
#[derive(Debug, Clone)]
pub struct Document {
    pub fields: Value,
    pub made: u64,
    pub changed: u64,
}

#[derive(Debug, Clone)]
struct Version {
    time: u64,
    document: Option<Document>,
}

/// Documents by database (the full name of its root) and name.
#[derive(Debug, Default)]
pub struct Store {
    databases: BTreeMap<String, BTreeMap<Name, Vec<Version>>>,
    last: u64,
}

impl Store {
    /// The next moment, in microseconds since 1970.
    pub fn tick(&mut self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        self.last = (self.last + 1).max(u64::try_from(now.as_micros()).unwrap());
        self.last
    }

    /// Writes or deletes one.
    pub fn put(&mut self, root: &str, name: &str, fields: Option<Value>, time: u64) {
        let made = self.get(root, name, u64::MAX).map(|d| d.made);
        let document = fields.map(|fields| Document {
            fields,
            made: made.unwrap_or(time),
            changed: time,
        });
        let database = self.databases.entry(root.to_owned()).or_default();
        let versions = database.entry(Name(name.to_owned())).or_default();
        versions.push(Version { time, document });
    }

    /// One at a moment.
    pub fn get(&self, root: &str, name: &str, time: u64) -> Option<Document> {
        let versions = self.databases.get(root)?.get(&Name(name.to_owned()))?;
        at(versions, time).cloned()
    }

    /// All that exist at a moment, in order.
    pub fn existing(&self, root: &str, time: u64) -> impl Iterator<Item = (&Name, &Document)> {
        let all = self.databases.get(root).into_iter().flatten();
        all.filter_map(move |(name, versions)| Some((name, at(versions, time)?)))
    }
}

fn at(versions: &[Version], time: u64) -> Option<&Document> {
    let last = versions.iter().rev().find(|v| v.time <= time)?;
    last.document.as_ref()
}

/// `2026-11-27T21:45:11.482423Z`
pub fn to_text(time: u64) -> String {
    let (seconds, micros) = (time / 1_000_000, time % 1_000_000);
    let (mut days, rest) = (seconds / 86_400, seconds % 86_400);
    let mut year = 1970;
    let length = |year: u64| {
        let leap =
            (year.is_multiple_of(4) && !year.is_multiple_of(100)) || year.is_multiple_of(400);
        if leap { 366 } else { 365 }
    };
    while days >= length(year) {
        days -= length(year);
        year += 1;
    }
    let february = length(year) - 337;
    let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= months[month] {
        days -= months[month];
        month += 1;
    }
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!(
        "{year:04}-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z",
        month + 1,
        days + 1
    )
}

/// The other way; `None` for what is no time in whole microseconds.
pub fn of_text(text: &str) -> Option<u64> {
    let (mut low, mut high) = (0, 4_000_000_000_000_000);
    let rest = text.strip_suffix('Z')?;
    let (seconds, fraction) = rest.split_once('.').unwrap_or((rest, ""));
    if fraction.len() > 6 || seconds.len() != 19 {
        return None;
    }
    // Texts of one length sort as the times do.
    let wanted = format!("{seconds}.{fraction:0<6}Z");
    while low < high {
        let middle = low + (high - low) / 2;
        match to_text(middle).as_str() < wanted.as_str() {
            true => low = middle + 1,
            false => high = middle,
        }
    }
    (to_text(low) == wanted).then_some(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(to_text(0), "1970-01-01T00:00:00.000000Z");
        let leap = "2024-02-29T23:59:59.500000Z";
        assert_eq!(to_text(of_text(leap).unwrap()), leap);
        assert_eq!(
            of_text("2026-11-27T21:45:11.482423Z"),
            Some(1_795_815_911_482_423)
        );
        assert_eq!(of_text("2026-11-27T21:45:00Z"), Some(1_795_815_900_000_000));
        assert_eq!(of_text("2026-11-27T21:45:11.4824231Z"), None);
        assert_eq!(of_text("soon"), None);
    }

    #[test]
    fn the_past_stays() {
        let mut store = Store::default();
        let one = store.tick();
        store.put("r", "a/b", Some(Value::from(1)), one);
        let two = store.tick();
        store.put("r", "a/b", None, two);
        assert_eq!(store.get("r", "a/b", one).unwrap().fields, Value::from(1));
        assert!(store.get("r", "a/b", two).is_none());
        assert_eq!(store.existing("r", one).count(), 1);
        assert_eq!(store.existing("r", two).count(), 0);
    }
}

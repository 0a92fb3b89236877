//! A part of a stored dump, while it streams by: its structure, its rows, some of its tables.
//! Statements are left out whole. Two are changed: the collation is set of the database that is
//! restored and not of the one that was dumped, and events may be made so that they do not run.
//! A statement that leads to another database ends it all.

use std::collections::BTreeSet;

use super::scan::{Scanner, Sink, Unit};
use super::sections::{Section, Sections, leads_away, makes, without_database};
use crate::database::{Part, RestoreOptions};

/// Begins the line with which newer clients of MariaDB say that a dump may not run programs. Other
/// clients do not understand it.
const SANDBOX: &[u8] = b"/*M!999999\\- enable the sandbox mode */";

/// Of the session: rows may say themselves since when and until when they count.
const HISTORY: &[u8] = b"system_versioning_insert_history";

fn contains(text: &[u8], what: &[u8]) -> bool {
    text.windows(what.len()).any(|window| window == what)
}

/// Takes the sandbox line away from the beginning of a dump.
#[derive(Debug, Default)]
pub(super) struct Unboxed {
    /// Bytes that may be the beginning of the line.
    held: Vec<u8>,
    state: Boxed,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Boxed {
    #[default]
    Unknown,
    ToLineEnd,
    Past,
}

impl Unboxed {
    /// Appends what is left of the next bytes to `out`.
    pub fn feed(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        if self.state == Boxed::Unknown {
            let room = (SANDBOX.len() - self.held.len()).min(bytes.len());
            let (first, rest) = bytes.split_at(room);
            self.held.extend_from_slice(first);
            bytes = rest;
            if self.held == SANDBOX {
                self.state = Boxed::ToLineEnd;
            } else if SANDBOX.starts_with(&self.held) {
                return;
            } else {
                self.finish(out);
            }
        }
        if self.state == Boxed::ToLineEnd {
            let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
                return;
            };
            bytes = bytes.get(end + 1..).unwrap_or_default();
            self.state = Boxed::Past;
        }
        out.extend_from_slice(bytes);
    }

    /// No bytes come any more.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if self.state == Boxed::Unknown {
            out.append(&mut self.held);
            self.state = Boxed::Past;
        }
    }
}

/// A whole dump as any database takes it: without that line, and without its own name.
pub(super) fn of_any_database(dump: &str) -> String {
    let mut filter = Filter::new(&RestoreOptions::default(), Events::AsStored);
    let mut out = filter.feed(dump.as_bytes()).to_vec();
    out.extend_from_slice(filter.finish());
    String::from_utf8_lossy(&out).into_owned()
}

/// Lets a part of a dump through.
pub(super) struct Filter {
    unboxed: Unboxed,
    scanner: Scanner,
    kept: Kept,
}

struct Kept {
    sections: Sections,
    part: Part,
    /// Tables, views and sequences that were asked for; empty: all.
    wanted: BTreeSet<String>,
    met: BTreeSet<String>,
    completed: bool,
    /// How a statement begins that leads to another database.
    away: Option<String>,
    keep: bool,
    events_rest: bool,
    /// Where the event that is made now begins in `events`.
    event: Option<usize>,
    /// What makes events, which comes last.
    events: Vec<u8>,
    out: Vec<u8>,
}

/// What makes the events of a dump, after all else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Events {
    /// As they were.
    AsStored,
    /// So that they do not run.
    Resting,
}

impl Filter {
    /// Lets through what was asked for.
    pub fn new(options: &RestoreOptions, events: Events) -> Filter {
        Filter {
            unboxed: Unboxed::default(),
            scanner: Scanner::new(),
            kept: Kept {
                sections: Sections::default(),
                part: options.part,
                wanted: options.tables.iter().cloned().collect(),
                met: BTreeSet::new(),
                completed: false,
                away: None,
                keep: true,
                events_rest: events == Events::Resting,
                event: None,
                events: Vec::new(),
                out: Vec::new(),
            },
        }
    }

    /// Takes the next bytes, answers those of them (and before) that are let through.
    pub fn feed(&mut self, bytes: &[u8]) -> &[u8] {
        self.kept.out.clear();
        let mut plain = Vec::with_capacity(bytes.len());
        self.unboxed.feed(bytes, &mut plain);
        self.scanner.feed(&plain, &mut self.kept);
        &self.kept.out
    }

    /// Ends it, answers the last bytes.
    pub fn finish(&mut self) -> &[u8] {
        self.kept.out.clear();
        let mut plain = Vec::new();
        self.unboxed.finish(&mut plain);
        self.scanner.feed(&plain, &mut self.kept);
        self.scanner.finish(&mut self.kept);
        &self.kept.out
    }

    /// Whether the dump ended with the line that says that all came.
    pub fn completed(&self) -> bool {
        self.kept.completed
    }

    /// How a statement begins that leads to another database. Nothing from it on is let through.
    pub fn away(&self) -> Option<&str> {
        self.kept.away.as_deref()
    }

    /// What makes the events.
    pub fn events(self) -> Vec<u8> {
        self.kept.events
    }

    /// A table that was asked for and is not in the dump.
    pub fn missing(&self) -> Option<&str> {
        let mut missing = self.kept.wanted.difference(&self.kept.met);
        missing.next().map(String::as_str)
    }
}

impl Kept {
    fn is_kept(&self, unit: Unit, head: &[u8]) -> bool {
        let section = &self.sections.now;
        if matches!(section, Section::Preamble | Section::End) {
            return true;
        }
        let is_rows = matches!(section, Section::Rows(_));
        // Lets a table's history in, and stands in front of and behind what locks the table.
        let of_history = head.starts_with(b"/*M!101100 SET") && contains(head, HISTORY);
        let of_part = match self.part {
            Part::All => true,
            Part::Schema | Part::Data if of_history => self.part == Part::Data,
            Part::Schema => !is_rows,
            // Locking would end the transaction in which rows are restored.
            Part::Data => is_rows && unit == Unit::Statement && head.starts_with(b"INSERT INTO"),
        };
        let about = section.about();
        let of_table = self.wanted.is_empty() || about.is_some_and(|t| self.wanted.contains(t));
        of_part && of_table
    }
}

impl Sink for Kept {
    fn unit(&mut self, unit: Unit, head: &[u8]) {
        self.sections.unit(unit, head);
        self.completed = unit == Unit::Comment && head.starts_with(b"-- Dump completed");
        if let Some(name) = self.sections.now.about()
            && self.wanted.contains(name)
        {
            self.met.insert(name.to_owned());
        }
        let changed = match unit {
            Unit::Statement => without_database(head),
            _ => None,
        };
        if unit == Unit::Statement && self.away.is_none() && changed.is_none() {
            self.away = leads_away(head);
        }
        self.keep = self.away.is_none() && self.is_kept(unit, head);
        self.event = None;
        if self.sections.now == Section::Events && unit == Unit::Statement && makes(head, "EVENT") {
            self.event = Some(self.events.len());
        }
        if let Some(changed) = changed {
            self.bytes(&changed);
            self.keep = false;
        }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        let out = match self.sections.now {
            Section::Events => &mut self.events,
            _ => &mut self.out,
        };
        if self.keep {
            out.extend_from_slice(bytes);
        }
    }

    fn end(&mut self, _: u64) {
        self.sections.end();
        if let Some(event) = self.event.take().filter(|_| self.keep && self.events_rest) {
            let statement = self.events.split_off(event);
            self.events.extend(resting(statement));
        }
    }
}

/// Makes an event so that it does not run. As it was when it is not as servers write it.
fn resting(statement: Vec<u8>) -> Vec<u8> {
    const RUNS: &[u8] = b" PRESERVE ENABLE";
    const RESTS: &[u8] = b" PRESERVE DISABLE ON SLAVE";
    let find = |what: &[u8], from: usize| {
        let mut windows = statement.get(from..)?.windows(what.len());
        windows
            .position(|window| window == what)
            .map(|at| from + at)
    };
    // What stands in front of this is a name, or when it happens: never text of its maker's.
    let named = find(b" EVENT `", 0).and_then(|at| find(b"` ON SCHEDULE ", at));
    match named.and_then(|at| find(RUNS, at)) {
        None => statement,
        Some(at) => {
            let (front, back) = statement.split_at(at);
            [front, RESTS, back.get(RUNS.len()..).unwrap_or_default()].concat()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = "/*M!999999\\- enable the sandbox mode */ \n-- MariaDB dump\nSET a;\n\
        --\n-- Table structure for table `a`\n--\nCREATE TABLE `a` (x);\n\
        --\n-- Dumping data for table `a`\n--\nLOCK TABLES `a` WRITE;\n\
        INSERT INTO `a` VALUES\n(1);\nUNLOCK TABLES;\nDELIMITER ;;\nCREATE TRIGGER ta;;\n\
        DELIMITER ;\n--\n-- Table structure for table `b`\n--\nCREATE TABLE `b` (x);\n\
        --\n-- Dumping data for table `b`\n--\nLOCK TABLES `b` WRITE;\n\
        INSERT INTO `b` VALUES\n(2);\nUNLOCK TABLES;\n\
        --\n-- Dumping routines for database 'x'\n--\nCREATE FUNCTION f;\n\
        --\n-- Final view structure for view `v`\n--\nCREATE VIEW `v`;\n-- Dump completed\n";

    /// Statements that are let through.
    fn through(part: Part, tables: &[&str], piece: usize) -> (Vec<String>, Filter) {
        let options = RestoreOptions {
            part,
            tables: tables.iter().map(|t| (*t).to_owned()).collect(),
            ..RestoreOptions::default()
        };
        let mut filter = Filter::new(&options, Events::AsStored);
        let mut out = Vec::new();
        for piece in DUMP.as_bytes().chunks(piece) {
            out.extend_from_slice(filter.feed(piece));
        }
        out.extend_from_slice(filter.finish());
        let text = String::from_utf8(out).unwrap().replace("\n(", " (");
        let lines = text.lines().map(str::trim).map(str::to_owned);
        let lines = lines.filter(|l| !l.is_empty() && !l.starts_with("--"));
        (lines.collect(), filter)
    }

    #[test]
    fn parts_and_tables() {
        for piece in [1, 5, 39, 10_000] {
            let (all, filter) = through(Part::All, &[], piece);
            assert_eq!(all.len(), 14, "{all:?}");
            assert!(filter.completed());
            let (schema, _) = through(Part::Schema, &[], piece);
            let wanted = [
                "SET a;",
                "CREATE TABLE `a` (x);",
                "DELIMITER ;;",
                "CREATE TRIGGER ta;;",
                "DELIMITER ;",
                "CREATE TABLE `b` (x);",
                "CREATE FUNCTION f;",
                "CREATE VIEW `v`;",
            ];
            assert_eq!(schema, wanted);
            let (data, _) = through(Part::Data, &[], piece);
            let wanted = [
                "SET a;",
                "INSERT INTO `a` VALUES (1);",
                "INSERT INTO `b` VALUES (2);",
            ];
            assert_eq!(data, wanted);
            let (one, filter) = through(Part::All, &["a"], piece);
            assert_eq!((one.len(), filter.missing()), (8, None), "{one:?}");
            assert!(one.iter().all(|line| !line.contains('b')
                || line.contains("TABLE `a`")
                || line.contains("TABLES")));
            let (view, filter) = through(Part::All, &["v", "zz"], piece);
            assert_eq!(view, ["SET a;", "CREATE VIEW `v`;"]);
            assert_eq!(filter.missing(), Some("zz"));
        }
    }

    #[test]
    fn nothing_leads_to_another_database() {
        let dump = "SET a;\nUSE `live`;\nDROP TABLE `t`;\n-- Dump completed\n";
        for piece in [1, 9, 1000] {
            let mut filter = Filter::new(&RestoreOptions::default(), Events::AsStored);
            let mut out = Vec::new();
            for piece in dump.as_bytes().chunks(piece) {
                out.extend_from_slice(filter.feed(piece));
            }
            out.extend_from_slice(filter.finish());
            assert_eq!(String::from_utf8(out).unwrap().trim(), "SET a;");
            assert_eq!(filter.away(), Some("USE"));
        }
    }

    #[test]
    fn events_come_last_and_may_rest() {
        let event = "/*!50106 CREATE*/ /*!50106 EVENT `e` ON SCHEDULE EVERY 1 DAY ON COMPLETION \
            NOT PRESERVE ENABLE DO SELECT ' PRESERVE ENABLE' */ ;;\n";
        let dump = format!(
            "-- Dumping events for database 'x'\nDELIMITER ;;\n\
             ALTER DATABASE `x` CHARACTER SET a COLLATE b ;;\n{event}DELIMITER ;\n\
             -- Dumping routines for database 'x'\nSELECT 1;\n"
        );
        for (events, wanted) in [
            (Events::AsStored, event.to_owned()),
            (
                Events::Resting,
                event.replacen("ENABLE", "DISABLE ON SLAVE", 1),
            ),
        ] {
            let mut filter = Filter::new(&RestoreOptions::default(), events);
            let mut out = Vec::new();
            for piece in dump.as_bytes().chunks(7) {
                out.extend_from_slice(filter.feed(piece));
            }
            out.extend_from_slice(filter.finish());
            assert!(out.ends_with(b"SELECT 1;\n") && !out.windows(5).any(|w| w == b"EVENT"));
            let made = String::from_utf8(filter.events()).unwrap();
            assert!(made.contains(&wanted), "{made}");
            assert!(
                made.contains("\nALTER DATABASE CHARACTER SET a COLLATE b ;;\n"),
                "{made}"
            );
        }
    }

    #[test]
    fn only_the_first_line_and_only_that_one_is_taken_away() {
        for text in [
            "/*M!99",
            "/*!40101 SET x */;\n",
            "",
            "x\n/*M!999999\\- enable",
        ] {
            let (mut unboxed, mut out) = (Unboxed::default(), Vec::new());
            for byte in text.as_bytes() {
                unboxed.feed(&[*byte], &mut out);
            }
            unboxed.finish(&mut out);
            assert_eq!(out, text.as_bytes());
        }
    }
}

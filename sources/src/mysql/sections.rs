//! The sections of a dump (`mariadb-dump`, `mysqldump`): which table, view or other thing a
//! statement belongs to, by the comments between statements and by how statements begin. Of SQL
//! nothing else is understood.

use std::collections::{BTreeMap, BTreeSet};

use super::scan::{HEAD, Scanner, Sink, Unit};

/// A section.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Section {
    /// Settings of the session, in front of all.
    #[default]
    Preamble,
    /// How a sequence is made.
    Sequence(String),
    /// How a table is made.
    Table(String),
    /// A table's rows.
    Rows(String),
    /// A table's triggers.
    Triggers(String),
    /// What stands for a view until all tables are there.
    StandIn(String),
    /// How a view is made.
    View(String),
    /// Events.
    Events,
    /// Procedures and functions.
    Routines,
    /// Settings of the session that are taken back.
    End,
}

impl Section {
    /// The table, view or sequence it is about.
    pub fn about(&self) -> Option<&str> {
        match self {
            Section::Sequence(name)
            | Section::Table(name)
            | Section::Rows(name)
            | Section::Triggers(name)
            | Section::StandIn(name)
            | Section::View(name) => Some(name),
            _ => None,
        }
    }
}

/// Follows the sections of a dump.
#[derive(Debug, Default)]
pub(super) struct Sections {
    /// Where we are.
    pub now: Section,
    unlocks: bool,
}

/// How comments begin that begin a section, and what it is.
type Maker = fn(String) -> Section;
const COMMENTS: [(&str, Maker); 6] = [
    ("-- Sequence structure for ", Section::Sequence),
    ("-- Table structure for table ", Section::Table),
    ("-- Dumping data for table ", Section::Rows),
    ("-- Temporary table structure for view ", Section::StandIn),
    ("-- Temporary view structure for view ", Section::StandIn),
    ("-- Final view structure for view ", Section::View),
];

impl Sections {
    /// A unit begins.
    pub fn unit(&mut self, unit: Unit, head: &[u8]) {
        self.unlocks = false;
        match unit {
            Unit::Comment => self.comment(head),
            Unit::Statement => {
                self.unlocks = head.starts_with(b"UNLOCK TABLES");
                if head.starts_with(b"/*!40103 SET TIME_ZONE=@OLD_TIME_ZONE") {
                    self.now = Section::End;
                }
            }
            Unit::Command => {}
        }
    }

    fn comment(&mut self, head: &[u8]) {
        let text = String::from_utf8_lossy(head);
        if text.starts_with("-- Dumping events for database ") {
            self.now = Section::Events;
        } else if text.starts_with("-- Dumping routines for database ") {
            self.now = Section::Routines;
        }
        for (beginning, make) in COMMENTS {
            if let Some(name) = text.strip_prefix(beginning) {
                self.now = make(unquoted(name.trim_end()).unwrap_or_default());
            }
        }
    }

    /// It has ended.
    pub fn end(&mut self) {
        if self.unlocks
            && let Section::Rows(name) = &self.now
        {
            // Nothing says so, but what comes behind a table's rows are its triggers.
            let triggers = Section::Triggers(name.clone());
            self.now = triggers;
        }
        self.unlocks = false;
    }
}

/// The name in backticks at the beginning of a text.
pub(super) fn unquoted(text: &str) -> Option<String> {
    let mut name = String::new();
    let mut letters = text.strip_prefix('`')?.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '`' if letters.peek() == Some(&'`') => {
                letters.next();
                name.push('`');
            }
            '`' => return Some(name),
            _ => name.push(letter),
        }
    }
    None
}

/// The first words of a statement, in capitals. What is said to certain servers only counts as
/// well (`/*!50001 USE x */`), comments do not.
fn first_words(head: &[u8], most: usize) -> Vec<String> {
    let text = String::from_utf8_lossy(head);
    let (mut rest, mut words) = (text.as_ref(), Vec::new());
    while words.len() < most {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || ";(".contains(c));
        let special = ["/*!", "/*M!"]
            .iter()
            .find_map(|mark| rest.strip_prefix(mark));
        if let Some(inside) = special {
            rest = inside.trim_start_matches(|c: char| c.is_ascii_digit());
        } else if let Some(behind) = rest.strip_prefix("*/") {
            rest = behind;
        } else if rest.starts_with("/*") {
            rest = rest.split_once("*/").map_or("", |(_, behind)| behind);
        } else if rest.starts_with("--") || rest.starts_with('#') {
            rest = rest.split_once('\n').map_or("", |(_, behind)| behind);
        } else {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let (word, behind) = rest.split_at(end.unwrap_or(rest.len()));
            if word.is_empty() {
                break;
            }
            words.push(word.to_ascii_uppercase());
            rest = behind;
        }
    }
    words
}

/// How a statement begins that leads away from the database it is fed to, or changes another one.
pub(super) fn leads_away(head: &[u8]) -> Option<String> {
    let mut words = first_words(head, 4);
    if words.get(1).is_some_and(|word| word == "OR") {
        words.drain(1..words.len().min(3));
    }
    words.truncate(2);
    let is = |at: usize, any: &[&str]| words.get(at).is_some_and(|w| any.contains(&w.as_str()));
    if is(0, &["USE"]) {
        return Some("USE".to_owned());
    }
    let of_database = is(0, &["CREATE", "DROP", "ALTER"]) && is(1, &["DATABASE", "SCHEMA"]);
    if of_database {
        return Some(words.join(" "));
    }
    (words.is_empty() && head.len() >= HEAD).then(|| "a long comment".to_owned())
}

/// The same statement about the database it is fed to, when it is one that dump clients write
/// around what was made under another collation: ``ALTER DATABASE `a` CHARACTER SET …``.
pub(super) fn without_database(head: &[u8]) -> Option<Vec<u8>> {
    let rest = head.strip_prefix(b"ALTER DATABASE ")?;
    let name = unquoted(std::str::from_utf8(rest).ok()?)?;
    let rest = rest.get(super::access::quoted(&name).len()..)?;
    let is_plain = |b: &u8| b.is_ascii_alphanumeric() || b"_ ;\r\n".contains(b);
    let is_known = rest.starts_with(b" CHARACTER SET ") && rest.iter().all(is_plain);
    (is_known && rest.ends_with(b";")).then(|| [b"ALTER DATABASE", rest, b"\n"].concat())
}

/// The name in a statement that begins with some words: ``INSERT INTO `a` …``.
fn named(head: &[u8], words: &str) -> Option<String> {
    let rest = head.strip_prefix(words.as_bytes())?;
    unquoted(&String::from_utf8_lossy(rest))
}

/// What a dump holds, counted while it streams by.
#[derive(Debug, Default)]
pub(super) struct Tally {
    sections: Sections,
    /// Rows of each table whose rows are in it.
    pub rows: BTreeMap<String, u64>,
    /// Tables it makes.
    pub tables: BTreeSet<String>,
    /// Views it makes.
    pub views: BTreeSet<String>,
    /// How many sequences, triggers, events, and procedures and functions it makes.
    pub others: Others,
    /// How a statement begins that leads to another database.
    pub away: Option<String>,
    /// The last that came was the line that says that all came.
    pub completed: bool,
    filling: Option<String>,
}

/// How many there are of what has no rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Others {
    pub sequences: u64,
    pub triggers: u64,
    pub events: u64,
    pub routines: u64,
}

impl Sink for Tally {
    fn unit(&mut self, unit: Unit, head: &[u8]) {
        self.sections.unit(unit, head);
        self.completed = unit == Unit::Comment && head.starts_with(b"-- Dump completed");
        self.filling = None;
        if unit != Unit::Statement {
            return;
        }
        if self.away.is_none() && without_database(head).is_none() {
            self.away = leads_away(head);
        }
        if let Some(table) = named(head, "INSERT INTO ") {
            self.filling = Some(table);
        } else if let Some(table) = named(head, "LOCK TABLES ") {
            self.rows.entry(table).or_insert(0);
        } else if let Some(table) = named(head, "CREATE TABLE ") {
            self.tables.insert(table);
        } else if head.starts_with(b"CREATE SEQUENCE") {
            self.others.sequences += 1;
        } else {
            self.other(head);
        }
    }

    fn bytes(&mut self, _: &[u8]) {}

    fn end(&mut self, rows: u64) {
        self.sections.end();
        if let Some(table) = self.filling.take() {
            *self.rows.entry(table).or_insert(0) += rows;
        }
    }
}

impl Tally {
    /// Of a whole text.
    pub fn of(text: &str) -> Tally {
        let (mut scanner, mut tally) = (Scanner::new(), Tally::default());
        scanner.feed(text.as_bytes(), &mut tally);
        scanner.finish(&mut tally);
        tally
    }

    fn other(&mut self, head: &[u8]) {
        let makes = |what: &str| makes(head, what);
        match &self.sections.now {
            Section::View(name) if makes("VIEW") => {
                self.views.insert(name.clone());
            }
            // Without tables and rows triggers come in no section.
            Section::Preamble | Section::Table(_) | Section::Rows(_) | Section::Triggers(_)
                if makes("TRIGGER") =>
            {
                self.others.triggers += 1;
            }
            Section::Events if makes("EVENT") => self.others.events += 1,
            Section::Routines => {
                let kinds = ["PROCEDURE", "FUNCTION", "PACKAGE"];
                self.others.routines += u64::from(kinds.iter().any(|kind| makes(kind)));
            }
            _ => {}
        }
    }
}

/// Whether a statement makes something, as `CREATE … TRIGGER` does with comments for old servers
/// in between.
pub(super) fn makes(head: &[u8], what: &str) -> bool {
    // Part of a definition is as its maker wrote it.
    let text = String::from_utf8_lossy(head).to_ascii_uppercase();
    let code = text.trim_start_matches("/*!");
    let code = code.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ');
    code.starts_with("CREATE")
        && code
            .split(|c: char| !c.is_ascii_alphanumeric())
            .any(|word| word == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = "-- MariaDB dump\n/*!40103 SET TIME_ZONE='+00:00' */;\n\
        --\n-- Table structure for table `a ``b`\n--\n\nDROP TABLE IF EXISTS `a ``b`;\n\
        CREATE TABLE `a ``b` (\n x int);\n--\n-- Dumping data for table `a ``b`\n--\n\
        LOCK TABLES `a ``b` WRITE;\nINSERT INTO `a ``b` VALUES\n(1),\n(2);\n\
        INSERT INTO `a ``b` VALUES\n(3);\nUNLOCK TABLES;\nDELIMITER ;;\n\
        /*!50003 CREATE*/ /*!50017 DEFINER=`r`@`l`*/ /*!50003 TRIGGER t BEFORE INSERT ON x \
        FOR EACH ROW BEGIN\n-- Table structure for table `no`\n; END */;;\nDELIMITER ;\n\
        --\n-- Table structure for table `none`\n--\nCREATE TABLE `none` (x int);\n\
        LOCK TABLES `none` WRITE;\nUNLOCK TABLES;\n\
        --\n-- Dumping events for database 'x'\n--\nDELIMITER ;;\n\
        /*!50106 CREATE*/ /*!50117 DEFINER=`r`@`l`*/ /*!50106 EVENT `e` DO SELECT 1 */ ;;\n\
        DELIMITER ;\n--\n-- Dumping routines for database 'x'\n--\nDELIMITER ;;\n\
        CREATE DEFINER=`r`@`l` FUNCTION `f`() RETURNS int(11)\nRETURN 1 ;;\nDELIMITER ;\n\
        --\n-- Final view structure for view `v`\n--\n/*!50001 CREATE ALGORITHM=UNDEFINED */\n\
        /*!50001 VIEW `v` AS select 1 */;\n/*!40103 SET TIME_ZONE=@OLD_TIME_ZONE */;\n\
        \n-- Dump completed\n";

    fn tally(text: &str) -> Tally {
        Tally::of(text)
    }

    #[test]
    fn statements_that_lead_away() {
        for (text, wanted) in [
            ("USE `live`;", Some("USE")),
            ("/*!50001 use*/ live;", Some("USE")),
            ("/* a */ # b\n-- c\n/*M!100100 USE x */;", Some("USE")),
            (
                "CREATE DATABASE /*!32312 IF NOT EXISTS*/ `a`;",
                Some("CREATE DATABASE"),
            ),
            ("create or replace schema a;", Some("CREATE SCHEMA")),
            (
                "/*!40000 DROP DATABASE IF EXISTS `a`*/;",
                Some("DROP DATABASE"),
            ),
            ("ALTER/**/DATABASE a COMMENT 'x';", Some("ALTER DATABASE")),
            ("CREATE TABLE `USE` (x int);", None),
            ("INSERT INTO `a` VALUES ('USE x');", None),
            (
                "/*!50003 CREATE*/ /*!50017 DEFINER=`r`@`l`*/ /*!50003 TRIGGER t */;;",
                None,
            ),
        ] {
            assert_eq!(leads_away(text.as_bytes()).as_deref(), wanted, "{text}");
        }
        let long = format!("/*{}", "x".repeat(HEAD));
        assert_eq!(
            leads_away(long.as_bytes()).as_deref(),
            Some("a long comment")
        );
        let text = b"ALTER DATABASE `a``b` CHARACTER SET latin1 COLLATE latin1_bin ;;";
        let nameless = b"ALTER DATABASE CHARACTER SET latin1 COLLATE latin1_bin ;;\n";
        assert_eq!(without_database(text).as_deref(), Some(&nameless[..]));
        for other in [
            "ALTER DATABASE `a` CHARACTER SET x COMMENT 'y';",
            "ALTER DATABASE a CHARACTER SET x;",
            "ALTER DATABASE `a` CHARACTER SET x",
        ] {
            assert_eq!(without_database(other.as_bytes()), None, "{other}");
        }
        assert_eq!(tally("USE `x`;\n").away.as_deref(), Some("USE"));
    }

    #[test]
    fn words_in_small_letters_count() {
        let text = DUMP.replace("TRIGGER t BEFORE", "trigger t before");
        let text = text.replace("FUNCTION `f`", "function `f`");
        let others = tally(&text).others;
        assert_eq!((others.triggers, others.routines), (1, 1));
    }

    #[test]
    fn what_a_dump_holds() {
        let tally = tally(DUMP);
        let rows: Vec<_> = tally.rows.into_iter().collect();
        assert_eq!(rows, [("a `b".into(), 3), ("none".into(), 0)]);
        assert_eq!(tally.tables.len(), 2);
        assert!(tally.views.contains("v") && tally.completed);
        let others = Others {
            sequences: 0,
            triggers: 1,
            events: 1,
            routines: 1,
        };
        assert_eq!(tally.others, others);
        assert_eq!(tally.sections.now, Section::End);
    }

    #[test]
    fn the_last_line_counts_only_at_the_end_and_outside_of_strings() {
        assert!(!tally("INSERT INTO `a` VALUES ('\n-- Dump completed\n');\n").completed);
        assert!(!tally("-- Dump completed\nINSERT INTO `a` VALUES (1);\n").completed);
        assert!(!tally("SELECT '\n-- Dump completed\n").completed);
        assert!(tally("SELECT 1;\n-- Dump completed on 2026-11-27\n").completed);
    }
}

//! What PostgreSQL's own programs print, read as streams: without what differs every time, and
//! only when its last line says that it is complete.

use std::sync::Arc;

use hucha_store::member::StreamFacts;

use super::capture::Moment;
use super::catalog::Table;
use super::script::{Choice, Passing};
use crate::child::{Child, ChildError, lock};
use crate::database::error::{Cause, DatabaseError};
use crate::database::{Bytes, hand_out};

/// Most bytes of roles and tablespaces.
const MOST_GLOBALS: usize = 16 << 20;
/// Within so many bytes from either end stand the lines that differ every time, and the last one.
const ENDS: usize = 8 << 10;
/// Seconds that `pg_dump` waits for a lock. All are ours already, so it waits only behind somebody
/// who waits for us.
const LOCK_WAIT: u64 = 5;
/// What stands at the end of a script that is complete.
const COMPLETE: &[u8] = b"-- PostgreSQL database dump complete\n";
const ALL_COMPLETE: &[u8] = b"-- PostgreSQL database cluster dump complete\n";

/// A text that is there already.
pub(super) struct Script {
    text: Vec<u8>,
    given: usize,
}

impl Script {
    pub fn new(text: String) -> Script {
        Script {
            text: text.into_bytes(),
            given: 0,
        }
    }
}

impl Bytes for Script {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, DatabaseError> {
        Ok(hand_out(&self.text, &mut self.given, buffer))
    }
}

/// What `pg_dump` is asked for.
#[derive(Debug, Clone)]
pub(super) struct Section {
    arguments: Vec<String>,
    /// Whether it prints a script; else its own archive.
    is_script: bool,
    /// Tables whose rows are counted, since nobody sees them pass.
    counted: Vec<Table>,
}

impl Section {
    /// A part of the structure.
    pub fn new(part: &str, mut arguments: Vec<String>) -> Section {
        arguments.push(part.to_owned());
        Section {
            arguments,
            is_script: true,
            counted: Vec::new(),
        }
    }

    /// The contents of large objects.
    pub fn large_objects() -> Section {
        let arguments = ["--section=data", "--blobs", "--exclude-table-data=*.*"];
        Section {
            arguments: arguments.map(str::to_owned).to_vec(),
            is_script: true,
            counted: Vec::new(),
        }
    }

    /// All in one script.
    pub fn plain(arguments: Vec<String>, counted: Vec<Table>) -> Section {
        Section {
            arguments,
            is_script: true,
            counted,
        }
    }

    /// All in one archive of `pg_dump`'s own.
    pub fn custom(mut arguments: Vec<String>, counted: Vec<Table>) -> Section {
        arguments.extend(["--format=custom", "--compress=0"].map(str::to_owned));
        Section {
            arguments,
            is_script: false,
            counted,
        }
    }
}

/// `pg_dump` at work.
pub(super) struct Dumping {
    moment: Arc<Moment>,
    child: Child,
    filter: Filter,
    /// Of a script from which single things are left out.
    passing: Option<Passing<'static>>,
    is_script: bool,
    counted: Vec<Table>,
    rows: Vec<(String, u64)>,
    out: Vec<u8>,
    given: usize,
    ended: bool,
}

impl Dumping {
    pub fn start(moment: &Arc<Moment>, section: Section) -> Result<Dumping, DatabaseError> {
        let mut command = moment.tools.command("pg_dump");
        moment.login.tell(&mut command, &moment.folder)?;
        command
            .args(["--no-password", "--no-sync", "--encoding=UTF8"])
            .arg(format!("--snapshot={}", moment.snapshot))
            .arg(format!("--lock-wait-timeout={LOCK_WAIT}s"))
            .args(&section.arguments);
        let child = Child::start(moment.context.spec("pg_dump", command)).map_err(said)?;
        let left_out = &moment.selection.left_out;
        let passing = (section.is_script && !left_out.is_empty()).then(|| {
            let choice = Choice {
                left_out: Some(Arc::clone(left_out)),
                ..Choice::default()
            };
            Passing::new(choice, u32::MAX)
        });
        Ok(Dumping {
            moment: Arc::clone(moment),
            child,
            filter: Filter::default(),
            passing,
            is_script: section.is_script,
            counted: section.counted,
            rows: Vec::new(),
            out: Vec::new(),
            given: 0,
            ended: false,
        })
    }

    /// Waits until it prints: then it has its locks.
    ///
    /// # Errors
    /// [`Cause::Locked`] when it cannot have them, and all else that it may meet.
    pub fn await_first(&mut self) -> Result<(), DatabaseError> {
        self.fill()
    }

    fn fill(&mut self) -> Result<(), DatabaseError> {
        self.out.clear();
        self.given = 0;
        let mut piece = vec![0; 64 << 10];
        let n = self.child.read(&mut piece).map_err(said)?;
        let piece = piece.get(..n).unwrap_or_default();
        if n == 0 {
            self.ended = true;
        }
        match (self.is_script, n) {
            (true, 0) => self.filter.end(&mut self.out)?,
            (true, _) => self.filter.pass(piece, &mut self.out),
            (false, _) => self.out.extend_from_slice(piece),
        }
        if let Some(passing) = &mut self.passing {
            let printed = std::mem::take(&mut self.out);
            let passed = passing.pass(&printed, &mut self.out);
            let passed = passed.and_then(|()| match n {
                0 => passing.end(&mut self.out),
                _ => Ok(()),
            });
            passed.map_err(|e| DatabaseError::new(Cause::Failed, e.to_string()))?;
        }
        if n == 0 {
            let words = self.child.words();
            lock(&self.moment.warnings).extend(words.into_iter().filter(|w| !w.is_empty()));
            self.count()?;
        }
        Ok(())
    }

    fn count(&mut self) -> Result<(), DatabaseError> {
        if self.counted.is_empty() {
            return Ok(());
        }
        let session = self.moment.session()?;
        for table in &self.counted {
            let rows = session.count(&table.name.quoted(), &table.condition)?;
            self.rows.push((table.name.shown(), rows));
        }
        self.moment.give_back(session);
        Ok(())
    }
}

impl Bytes for Dumping {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, DatabaseError> {
        while self.given == self.out.len() {
            if self.ended {
                return Ok(0);
            }
            self.fill()?;
        }
        Ok(hand_out(&self.out, &mut self.given, buffer))
    }

    fn facts(&mut self) -> StreamFacts {
        StreamFacts {
            rows: std::mem::take(&mut self.rows),
            ..StreamFacts::default()
        }
    }
}

/// What a program of PostgreSQL's said when it failed.
fn said(error: ChildError) -> DatabaseError {
    let words = error.words().join("\n");
    let denied = words.contains("permission denied") || words.contains("must be owner");
    let policy = words.contains("row-level security");
    let error = DatabaseError::from(error);
    if error.cause == Cause::Stopped {
        return error;
    }
    if words.contains("LOCK TABLE") && words.contains("timeout") {
        let cause = Cause::Locked;
        return DatabaseError { cause, ..error }.hint("a migration was running: try again");
    }
    let object = words
        .split_once("permission denied for large object ")
        .map(|(_, rest)| {
            rest.chars()
                .take_while(char::is_ascii_digit)
                .collect::<String>()
        });
    if let Some(object) = object {
        return DatabaseError {
            cause: Cause::Denied,
            ..error
        }
        .hint(format!(
            "GRANT SELECT ON LARGE OBJECT {object} TO that role, and on all others; or read as \
             their owner"
        ));
    }
    match (policy, denied) {
        (true, _) => DatabaseError {
            cause: Cause::Denied,
            ..error
        }
        .hint("read as the owner of the table, or as a role with BYPASSRLS"),
        (_, true) => DatabaseError {
            cause: Cause::Denied,
            ..error
        }
        .hint("GRANT pg_read_all_data TO that role (14 and later), or SELECT on each table"),
        _ => error,
    }
}

/// Takes the lines out of a script that hold a random key: `\restrict`, first, and `\unrestrict`,
/// last (since 15.14, 16.10, 17.6). A restore gives it a key of its own.
#[derive(Debug, Default)]
pub(super) struct Filter {
    /// What came at the beginning, until there is enough of it.
    head: Option<Vec<u8>>,
    key: Option<Vec<u8>>,
    begun: bool,
    /// What came last, as it may be the end.
    tail: Vec<u8>,
}

impl Filter {
    pub fn pass(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        if self.begun {
            self.tail.extend_from_slice(piece);
        } else {
            let head = self.head.get_or_insert_default();
            head.extend_from_slice(piece);
            if head.len() < ENDS {
                return;
            }
            self.begin();
        }
        let ready = self.tail.len().saturating_sub(ENDS);
        out.extend(self.tail.drain(..ready));
    }

    fn begin(&mut self) {
        self.begun = true;
        let mut head = self.head.take().unwrap_or_default();
        if let Some((line, key)) = restriction(&head) {
            head.drain(line);
            self.key = Some(key);
        }
        self.tail = head;
    }

    pub fn end(&mut self, out: &mut Vec<u8>) -> Result<(), DatabaseError> {
        if !self.begun {
            self.begin();
        }
        let tail = &mut self.tail;
        if let Some(key) = &self.key {
            let line = [b"\\unrestrict ", key.as_slice(), b"\n"].concat();
            if let Some(at) = tail.windows(line.len()).rposition(|w| w == line) {
                tail.drain(at..at + line.len());
            }
        }
        let has = |line: &[u8]| tail.windows(line.len()).any(|w| w == line);
        if !has(COMPLETE) && !has(ALL_COMPLETE) {
            let what = "what the program printed has no end, although it said that all is well";
            return Err(DatabaseError::new(Cause::Incomplete, what));
        }
        out.append(tail);
        Ok(())
    }
}

/// Where the line `\restrict KEY` is, and its key.
fn restriction(head: &[u8]) -> Option<(std::ops::Range<usize>, Vec<u8>)> {
    const WORD: &[u8] = b"\\restrict ";
    let mut start = 0;
    for line in head.split_inclusive(|byte| *byte == b'\n') {
        if let Some(key) = line.strip_prefix(WORD) {
            let key = key.strip_suffix(b"\n")?;
            return Some((start..start + line.len(), key.to_vec()));
        }
        // Only comments and empty lines stand before it.
        if !line.starts_with(b"--") && line != b"\n" {
            return None;
        }
        start += line.len();
    }
    None
}

/// Roles and tablespaces of the server, as a script.
pub(super) fn globals(moment: &Moment, passwords: bool) -> Result<String, DatabaseError> {
    let mut command = moment.tools.command("pg_dumpall");
    moment.login.tell(&mut command, &moment.folder)?;
    command
        .args(["--globals-only", "--no-password", "--no-sync"])
        .arg(format!("--database={}", moment.login.database));
    if !passwords {
        command.arg("--no-role-passwords");
    }
    let child = Child::start(moment.context.spec("pg_dumpall", command)).map_err(said)?;
    let printed = child.read_all(MOST_GLOBALS).map_err(said)?;
    let (mut filter, mut script) = (Filter::default(), Vec::new());
    filter.pass(&printed, &mut script);
    filter.end(&mut script)?;
    String::from_utf8(script)
        .map_err(|_| DatabaseError::new(Cause::Failed, "pg_dumpall printed no UTF-8 text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filtered(script: &str, pieces: usize) -> Result<String, DatabaseError> {
        let (mut filter, mut out) = (Filter::default(), Vec::new());
        for piece in script.as_bytes().chunks(pieces) {
            filter.pass(piece, &mut out);
        }
        filter.end(&mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    fn script(restrict: &str, middle: &str, unrestrict: &str) -> String {
        format!(
            "--\n-- PostgreSQL database dump\n--\n\n{restrict}-- Dumped from database version \
             15.18\n\nSET x;\n{middle}--\n-- PostgreSQL database dump complete\n--\n\n{unrestrict}"
        )
    }

    #[test]
    fn random_keys_are_taken_out_and_nothing_else() {
        let middle = "\\restrict abc\n\\unrestrict other\nINSERT 1;\n".repeat(700);
        let plain = script("", &middle, "");
        let keyed = script("\\restrict abc\n", &middle, "\\unrestrict abc\n\n");
        for pieces in [1, 100, 8191, 8192, 100_000] {
            assert_eq!(filtered(&plain, pieces).unwrap(), plain, "{pieces}");
            let expected = format!("{plain}\n");
            assert_eq!(filtered(&keyed, pieces).unwrap(), expected, "{pieces}");
        }
        let short = script("\\restrict k\n", "", "\\unrestrict k\n");
        assert_eq!(filtered(&short, 7).unwrap(), script("", "", ""));
    }

    #[test]
    fn a_script_without_its_end_is_not_whole() {
        let whole = script("", &"x\n".repeat(9000), "");
        let cut = whole.rfind("complete").unwrap();
        for script in ["", &whole[..cut], "-- nothing\n"] {
            let error = filtered(script, 1000).unwrap_err();
            assert_eq!(error.cause, Cause::Incomplete);
        }
    }
}

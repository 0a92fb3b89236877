//! Scripts of `pg_dump` and `pg_restore`, passed on in part: some kinds of things, the rows of some
//! tables. They put a comment before each thing, `-- Name: sales; Type: TABLE; Schema: public;
//! Owner: ana`, which also a row, a text or a function may hold; so quotes and rows are followed.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::Arc;

use super::left_out::LeftOut;
use super::names::TableName;

/// What is passed of a script.
#[derive(Debug, Clone, Default)]
pub(super) struct Choice<'a> {
    /// Which kinds of things.
    pub kinds: Kinds<'a>,
    /// Single things that are not passed.
    pub left_out: Option<Arc<LeftOut>>,
    /// The tables whose rows are passed, as they are shown; `None`: all.
    pub tables: Option<&'a BTreeSet<String>>,
    /// How sequences are set; `None`: as it says.
    pub sequences: Option<&'a Sequences>,
}

/// Kinds of things, by the words of `pg_dump`.
#[derive(Debug, Clone, Copy, Default)]
pub(super) enum Kinds<'a> {
    #[default]
    All,
    Without(&'a [&'a str]),
    Only(&'a [&'a str]),
}

impl Kinds<'_> {
    fn has(&self, kind: &str) -> bool {
        match self {
            Kinds::All => true,
            Kinds::Without(some) => !some.contains(&kind),
            Kinds::Only(some) => some.contains(&kind),
        }
    }
}

/// Which sequences of a database that is there are put to where they stood: those that it has.
#[derive(Debug, Clone, Default)]
pub(super) struct Sequences {
    /// Only those that belong to columns of these tables, whose names are for SQL.
    pub of: Option<Vec<String>>,
}

impl Sequences {
    /// A statement that sets a sequence, as `pg_dump` writes it, made such that it does nothing to
    /// one that is not meant. `None` of any other line.
    pub fn statement(&self, line: &str) -> Option<String> {
        let rest = line.strip_prefix("SELECT pg_catalog.setval(")?;
        // A name may hold a comma; the number and whether it was used follow it.
        let name = rest.rsplitn(3, ", ").last()?;
        let to = rest.get(name.len()..)?.trim_end();
        let found = format!("pg_catalog.to_regclass({name})");
        let Some(tables) = &self.of else {
            return Some(format!("SELECT pg_catalog.setval({found}{to}"));
        };
        let tables = tables.iter().map(|table| super::names::literal(table));
        let tables = tables.collect::<Vec<_>>().join(", ");
        let to = to.strip_suffix(';').unwrap_or(to);
        Some(format!(
            "SELECT pg_catalog.setval(s.objid::pg_catalog.regclass{to} FROM (\
             SELECT DISTINCT objid FROM pg_catalog.pg_depend WHERE objid = {found} \
             AND classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND refclassid = classid \
             AND deptype IN ('a', 'i') \
             AND refobjid = ANY (ARRAY[{tables}]::pg_catalog.regclass[])) AS s;"
        ))
    }
}

/// What a line begins in.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Inside {
    Nothing,
    /// `'…'`, and whether a backslash takes the next character's meaning away: `E'…'`.
    Text {
        escapes: bool,
    },
    /// `"…"`.
    Name,
    /// `$tag$…$tag$`, with what it ends with.
    Dollars(Vec<u8>),
    /// Lines of `COPY`, and whether they are passed.
    Rows(bool),
}

/// A script on its way.
pub(super) struct Passing<'a> {
    choice: Choice<'a>,
    /// The server does not know a setting that programs of 17 and later begin with.
    is_older: bool,
    /// Large objects were not passed.
    pub lost_large_objects: bool,
    line: Vec<u8>,
    inside: Inside,
    /// Whether the thing that this line belongs to is passed.
    passes: bool,
    /// Within a row of which a part was passed on already.
    within_row: bool,
}

/// The statements of a script of ours, each of which ends a line.
pub(super) fn statements(script: &str) -> Vec<String> {
    let mut passing = Passing::new(Choice::default(), u32::MAX);
    let (mut all, mut statement) = (Vec::new(), String::new());
    for line in script.split_inclusive('\n') {
        passing.follow(line.as_bytes());
        statement.push_str(line);
        if passing.inside == Inside::Nothing && line.trim_end().ends_with(';') {
            let whole = std::mem::take(&mut statement);
            all.push(whole.trim_end().trim_end_matches(';').to_owned());
        }
    }
    if !statement.trim().is_empty() {
        all.push(statement);
    }
    all
}

/// What ends the rows of `COPY`.
const ROWS_END: &[u8] = b"\\.\n";

impl<'a> Passing<'a> {
    /// For a server of a version (`150018`).
    pub fn new(choice: Choice<'a>, version: u32) -> Passing<'a> {
        Passing {
            choice,
            is_older: version < 170_000,
            lost_large_objects: false,
            line: Vec::new(),
            inside: Inside::Nothing,
            passes: true,
            within_row: false,
        }
    }

    /// Passes on what is chosen of the next bytes. Rows are not held, however long they are.
    pub fn pass(&mut self, bytes: &[u8], out: &mut dyn Write) -> std::io::Result<()> {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            if let Inside::Rows(passed) = self.inside {
                self.row(part, passed, out)?;
                continue;
            }
            self.line.extend_from_slice(part);
            if self.line.ends_with(b"\n") {
                self.take_line(out)?;
            }
        }
        Ok(())
    }

    /// The last line may have no end.
    pub fn end(&mut self, out: &mut dyn Write) -> std::io::Result<()> {
        if !self.line.is_empty() {
            self.take_line(out)?;
        }
        out.flush()
    }

    /// A part of a row, up to its end or that of a piece.
    fn row(&mut self, part: &[u8], passed: bool, out: &mut dyn Write) -> std::io::Result<()> {
        self.line.extend_from_slice(part);
        let ends = self.line.ends_with(b"\n");
        let may_be_end = !self.within_row && ROWS_END.starts_with(&self.line);
        if may_be_end && !ends {
            return Ok(());
        }
        let line = std::mem::take(&mut self.line);
        if may_be_end {
            self.inside = Inside::Nothing;
        }
        self.within_row = !ends;
        match passed {
            true => out.write_all(&line),
            false => Ok(()),
        }
    }

    fn take_line(&mut self, out: &mut dyn Write) -> std::io::Result<()> {
        let line = std::mem::take(&mut self.line);
        if self.inside != Inside::Nothing {
            self.follow(&line);
            return self.write(self.passes, &line, out);
        }
        if let Some((kind, schema, tag)) = announced(&line) {
            let left_out = self.choice.left_out.as_ref();
            self.passes = self.choice.kinds.has(kind)
                && !left_out.is_some_and(|all| all.has(kind, schema, tag));
            self.lost_large_objects |= !self.passes && kind == "BLOBS";
        }
        if self.is_older && line.starts_with(b"SET transaction_timeout = ") {
            return Ok(());
        }
        // It stands behind one thing and is meant for those that follow.
        if line.starts_with(b"SET default_") {
            return out.write_all(&line);
        }
        if let Some(table) = copied(&line) {
            let chosen = self.choice.tables.is_none_or(|all| all.contains(&table));
            let passed = self.passes && chosen;
            self.inside = Inside::Rows(passed);
            return self.write(passed, &line, out);
        }
        let set = self.choice.sequences.and_then(|sequences| {
            let line = std::str::from_utf8(&line).ok()?;
            Some(sequences.statement(line)? + "\n")
        });
        if let Some(set) = set {
            return self.write(self.passes, set.as_bytes(), out);
        }
        self.follow(&line);
        self.write(self.passes, &line, out)
    }

    fn write(&self, passed: bool, line: &[u8], out: &mut dyn Write) -> std::io::Result<()> {
        match passed {
            true => out.write_all(line),
            false => Ok(()),
        }
    }

    /// Notes what begins or ends in a line, outside of rows.
    fn follow(&mut self, line: &[u8]) {
        let mut at = 0;
        while let Some(byte) = line.get(at) {
            let next = line.get(at + 1);
            let mut step = 1;
            match &self.inside {
                Inside::Nothing => match byte {
                    b'-' if next == Some(&b'-') => return,
                    b'\'' => {
                        let escapes = begins_escapes(line, at);
                        self.inside = Inside::Text { escapes };
                    }
                    b'"' => self.inside = Inside::Name,
                    b'$' => {
                        if let Some(tag) = dollars(line, at) {
                            step = tag.len();
                            self.inside = Inside::Dollars(tag.to_vec());
                        }
                    }
                    _ => {}
                },
                Inside::Text { escapes: true } if *byte == b'\\' => step = 2,
                Inside::Text { .. } if *byte == b'\'' => match next {
                    Some(b'\'') => step = 2,
                    _ => self.inside = Inside::Nothing,
                },
                // A doubled quote begins another name at once, which comes to the same.
                Inside::Name if *byte == b'"' => self.inside = Inside::Nothing,
                Inside::Dollars(tag) if line.get(at..).is_some_and(|l| l.starts_with(tag)) => {
                    step = tag.len();
                    self.inside = Inside::Nothing;
                }
                Inside::Text { .. } | Inside::Name | Inside::Dollars(_) | Inside::Rows(_) => {}
            }
            at += step;
        }
    }
}

fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

/// Whether the quote here begins `E'…'`.
fn begins_escapes(line: &[u8], at: usize) -> bool {
    let before = |n: usize| at.checked_sub(n).and_then(|at| line.get(at).copied());
    matches!(before(1), Some(b'E' | b'e')) && !before(2).is_some_and(is_of_word)
}

/// The dollar quote that begins here.
fn dollars(line: &[u8], at: usize) -> Option<&[u8]> {
    let before = at.checked_sub(1).and_then(|at| line.get(at).copied());
    if before.is_some_and(is_of_word) {
        return None;
    }
    let after = line.get(at + 1..)?;
    let tag = after
        .iter()
        .take_while(|byte| is_of_word(**byte) && **byte != b'$')
        .count();
    (after.get(tag) == Some(&b'$')).then(|| line.get(at..at + tag + 2))?
}

/// The kind, schema and name that a comment before a thing tells.
fn announced(line: &[u8]) -> Option<(&str, &str, &str)> {
    let line = std::str::from_utf8(line).ok()?;
    let named = line.strip_prefix("-- Name: ");
    let named = named.or_else(|| line.strip_prefix("-- Data for Name: "))?;
    // A name may hold anything; what follows it stands last.
    let (tag, after) = named.rsplit_once("; Type: ")?;
    let (kind, after) = after.split_once("; Schema: ")?;
    let (schema, _) = after.split_once("; Owner: ").unwrap_or((after, ""));
    Some((kind, schema, tag))
}

/// The table, as it is shown, whose rows follow: `COPY public.sales (id, at) FROM stdin;`.
fn copied(line: &[u8]) -> Option<String> {
    let line = std::str::from_utf8(line).ok()?;
    let rest = line.strip_prefix("COPY ")?;
    rest.strip_suffix(" FROM stdin;\n")?;
    let (schema, rest) = identifier(rest)?;
    let (name, _) = identifier(rest.strip_prefix('.')?)?;
    Some(TableName { schema, name }.shown())
}

/// A name at the beginning of a text, without its quotes, and what follows it.
fn identifier(text: &str) -> Option<(String, &str)> {
    let Some(mut rest) = text.strip_prefix('"') else {
        let end = text.find(['.', ' '])?;
        return Some((text.get(..end)?.to_owned(), text.get(end..)?));
    };
    let mut name = String::new();
    loop {
        let (part, after) = rest.split_once('"')?;
        name.push_str(part);
        match after.strip_prefix('"') {
            Some(more) => {
                name.push('"');
                rest = more;
            }
            None => return Some((name, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(script: &str, choice: &Choice<'_>, piece: usize) -> String {
        passed_to(180_000, script, choice, piece)
    }

    fn passed_to(version: u32, script: &str, choice: &Choice<'_>, piece: usize) -> String {
        let (mut passing, mut out) = (Passing::new(choice.clone(), version), Vec::new());
        for bytes in script.as_bytes().chunks(piece) {
            passing.pass(bytes, &mut out).unwrap();
        }
        passing.end(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[track_caller]
    fn assert_passed(script: &str, choice: &Choice<'_>, expected: &str) {
        for piece in [1, 7, 1000] {
            assert_eq!(passed(script, choice, piece), expected);
        }
    }

    fn without<'a>(kinds: &'a [&'a str]) -> Choice<'a> {
        Choice {
            kinds: Kinds::Without(kinds),
            ..Choice::default()
        }
    }

    const TRIGGER: &str =
        "-- Name: t a; Type: TRIGGER; Schema: public; Owner: -\n--\n\nCREATE TRIGGER;\n";
    const INDEX: &str = "-- Name: i; Type: INDEX; Schema: public; Owner: -\n--\n\nCREATE INDEX;\n";
    /// What a comment may look like, where it is none.
    const NONE: &str = "-- Name: x; Type: TRIGGER; Schema: a; Owner: -\n";

    #[test]
    fn things_of_some_kinds_are_left_out() {
        let around = |open: &str, close: &str| {
            format!(
                "-- Name: f(); Type: FUNCTION; Schema: public; Owner: -\n--\n\n\
                 SELECT {open}\n{NONE}$1 {close};\n"
            )
        };
        for (open, close) in [
            ("$_$", "$_$"),
            ("$$ 'it", "$$"),
            ("'it''s $$", "'"),
            ("E'it\\'s", "'"),
            ("e'a\\\\", "'"),
            ("'\\", "'"),
            ("\"a \"\"name $_$", "\""),
            ("1 -- isn't\n, $é$", "$é$"),
            ("a$b + 'name", "'"),
        ] {
            let thing = around(open, close);
            let script = [&thing, TRIGGER, INDEX, TRIGGER].concat();
            assert_passed(&script, &without(&["TRIGGER"]), &[&thing, INDEX].concat());
            assert_passed(&script, &Choice::default(), &script);
            let only = Choice {
                kinds: Kinds::Only(&["INDEX"]),
                ..Choice::default()
            };
            assert_passed(&script, &only, INDEX);
        }
    }

    #[test]
    fn rows_of_some_tables_alone() {
        let rows = |table: &str, rows: &str| {
            format!(
                "-- Data for Name: t; Type: TABLE DATA; Schema: public; Owner: -\n--\n\n\
                 COPY {table} FROM stdin;\n{rows}\\.\n"
            )
        };
        let head = "SET transaction_timeout = 0;\n\nSET x = 1;\n";
        let odd = rows(
            "\"Odd.S\".\"t\"\"b/l e\" (\"sel ect\")",
            &format!("{NONE}it's\n\\.x\n\\\\.\n$$\n"),
        );
        let bare = rows("public.nothing ", "\n\n");
        let sale = rows("public.sale (id, what)", "1\t\"\n");
        let table = "-- Name: late; Type: TABLE; Schema: public; Owner: -\n--\n\nCREATE;\n";
        let between = "\nSET default_tablespace = fast;\n";
        let script = [head, &odd, &bare, between, table, &sale, INDEX].concat();
        let chosen = |table: &str| BTreeSet::from([table.to_owned()]);
        for (table_name, data) in [
            ("Odd.S.t\"b/l e", &odd),
            ("public.nothing", &bare),
            ("public.sale", &sale),
        ] {
            let tables = chosen(table_name);
            let choice = Choice {
                tables: Some(&tables),
                kinds: Kinds::Only(&["TABLE DATA"]),
                ..Choice::default()
            };
            let all = passed(&script, &choice, 5);
            assert!(all.contains(data.as_str()), "{table_name}: {all}");
            assert!(all.contains(between.trim_start()), "{table_name}: {all}");
            assert_eq!(all.matches("COPY").count(), 1, "{table_name}: {all}");
            assert!(!all.contains("CREATE"), "{table_name}: {all}");
        }
        let structure = [head, "SET default_tablespace = fast;\n", table, INDEX].concat();
        assert_passed(&script, &without(&["TABLE DATA"]), &structure);
        let rest = script.split_once('\n').unwrap().1;
        assert_eq!(passed_to(160_014, &script, &Choice::default(), 7), rest);
    }

    #[test]
    fn sequences_that_are_not_meant_stay() {
        let line = "SELECT pg_catalog.setval('public.\"a, b\"', 5, true);";
        let all = Sequences::default().statement(line).unwrap();
        assert_eq!(
            all,
            "SELECT pg_catalog.setval(pg_catalog.to_regclass('public.\"a, b\"'), 5, true);"
        );
        let of = Sequences {
            of: Some(vec!["\"public\".\"it's\"".to_owned()]),
        };
        let some = of.statement(line).unwrap();
        assert!(
            some.contains("s.objid::pg_catalog.regclass, 5, true) FROM ("),
            "{some}"
        );
        assert!(some.contains("ARRAY['\"public\".\"it''s\"']"), "{some}");
        assert_eq!(of.statement("SELECT 1;"), None);
    }
}

//! Cuts a dump into its statements while it streams by, as the vendor's client does: strings,
//! quoted names, comments and `DELIMITER` lines are understood, statements are not. Counts the
//! rows of `VALUES` lists. Holds only the beginning of each statement in memory, however long a
//! line is.
//!
//! It does not know which statements there are ([`super::sections`] does), and it does not know
//! `ANSI_QUOTES`: as for the client, `"` begins a string.

/// Bytes of a unit that are held until it is known what it is.
pub(super) const HEAD: usize = 2048;

/// What a dump is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// A comment of one line between two statements, with its line end.
    Comment,
    /// A line that is meant for the client: `DELIMITER ;;`.
    Command,
    /// A statement with its delimiter.
    Statement,
}

/// Takes the parts of a dump, in order.
pub(super) trait Sink {
    /// A unit begins like this: all of it when it is no longer than [`HEAD`]. Its bytes follow.
    fn unit(&mut self, unit: Unit, head: &[u8]);

    /// Bytes of the unit, or white space behind it.
    fn bytes(&mut self, bytes: &[u8]);

    /// The unit that began last has ended, and had so many rows.
    fn end(&mut self, rows: u64);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Between units.
    Gap,
    /// A unit has begun, and may still be a comment or a command.
    Start,
    /// A comment or command to the end of the line.
    Line(Unit),
    /// In a statement, where words are words.
    Code,
    /// In a string or a quoted name.
    Quoted(u8),
    /// Behind `/*`.
    Opened,
    /// Behind `/*M`.
    OpenedM,
    /// In a comment within a statement, to `*/`.
    Remark,
    /// In a comment within a statement, to the end of the line.
    LineRemark,
}

const DELIMITER: &[u8] = b"DELIMITER";
const VALUES: &[u8] = b" VALUES";

/// Where in a dump we are.
#[derive(Debug)]
pub(super) struct Scanner {
    mode: Mode,
    head: Vec<u8>,
    /// The head was handed on.
    told: bool,
    delimiter: Vec<u8>,
    /// Bytes of the delimiter that were just seen.
    matched: usize,
    /// Bytes of ` VALUES` that were just seen.
    word: usize,
    in_values: bool,
    depth: u32,
    rows: u64,
    escaped: bool,
    backslash_is_plain: bool,
    /// The last two bytes of code.
    last: [u8; 2],
}

impl Scanner {
    /// At the beginning of a dump.
    pub fn new() -> Scanner {
        Scanner {
            mode: Mode::Gap,
            head: Vec::with_capacity(HEAD),
            told: false,
            delimiter: b";".to_vec(),
            matched: 0,
            word: 0,
            in_values: false,
            depth: 0,
            rows: 0,
            escaped: false,
            backslash_is_plain: false,
            last: [0; 2],
        }
    }

    /// Takes the next bytes.
    pub fn feed(&mut self, bytes: &[u8], sink: &mut impl Sink) {
        let mut begun = 0;
        for (at, byte) in bytes.iter().enumerate() {
            if self.mode == Mode::Gap && !byte.is_ascii_whitespace() {
                sink.bytes(bytes.get(begun..at).unwrap_or_default());
                begun = at;
                self.begin();
            }
            if self.step(*byte) {
                self.hand_on(bytes.get(begun..=at).unwrap_or_default(), sink);
                begun = at + 1;
                self.end(sink);
            }
        }
        let rest = bytes.get(begun..).unwrap_or_default();
        match self.mode {
            Mode::Gap => sink.bytes(rest),
            _ => self.hand_on(rest, sink),
        }
    }

    /// The dump has ended. A unit that was not finished is handed on as it is.
    pub fn finish(&mut self, sink: &mut impl Sink) {
        if self.mode != Mode::Gap {
            self.end(sink);
        }
    }

    fn begin(&mut self) {
        self.mode = Mode::Start;
        self.head.clear();
        self.told = false;
        (self.matched, self.word, self.depth, self.rows) = (0, 0, 0, 0);
        (self.in_values, self.escaped) = (false, false);
        self.last = [0; 2];
    }

    fn hand_on(&mut self, mut bytes: &[u8], sink: &mut impl Sink) {
        if !self.told {
            let room = (HEAD - self.head.len()).min(bytes.len());
            let (head, rest) = bytes.split_at(room);
            self.head.extend_from_slice(head);
            bytes = rest;
            if self.head.len() < HEAD {
                return;
            }
            self.tell(sink);
        }
        sink.bytes(bytes);
    }

    fn tell(&mut self, sink: &mut impl Sink) {
        let unit = match self.mode {
            Mode::Line(unit) => unit,
            _ => Unit::Statement,
        };
        sink.unit(unit, &self.head);
        sink.bytes(&self.head);
        self.told = true;
    }

    fn end(&mut self, sink: &mut impl Sink) {
        if !self.told {
            self.tell(sink);
        }
        match self.mode {
            Mode::Line(Unit::Command) => {
                let line = self.head.get(DELIMITER.len()..).unwrap_or_default();
                let delimiter = line.trim_ascii();
                if !delimiter.is_empty() {
                    self.delimiter = delimiter.to_vec();
                }
            }
            Mode::Line(_) => {}
            _ => self.learn_mode(),
        }
        self.mode = Mode::Gap;
        sink.end(self.rows);
    }

    /// What a backslash in strings of the next statements means.
    fn learn_mode(&mut self) {
        let head = self.head.get(..self.head.len().min(400)).unwrap_or(&[]);
        let text = String::from_utf8_lossy(head).to_ascii_uppercase();
        let code = text.trim_start_matches("/*!");
        let code = code.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ');
        if code.starts_with("SET SQL_MODE") {
            self.backslash_is_plain = code.contains("NO_BACKSLASH_ESCAPES");
        }
    }

    /// One byte; whether the unit ends with it.
    fn step(&mut self, byte: u8) -> bool {
        match self.mode {
            Mode::Gap => {}
            Mode::Start => return self.step_start(byte),
            Mode::Line(_) => return byte == b'\n',
            Mode::Code => return self.step_code(byte),
            Mode::Quoted(quote) => {
                if self.escaped {
                    self.escaped = false;
                } else if byte == b'\\' && quote != b'`' && !self.backslash_is_plain {
                    self.escaped = true;
                } else if byte == quote {
                    self.mode = Mode::Code;
                    self.last = [0; 2];
                }
            }
            Mode::Opened => {
                self.last = [0; 2];
                self.mode = match byte {
                    b'!' => Mode::Code,
                    b'M' => Mode::OpenedM,
                    _ => Mode::Remark,
                };
                self.last[1] = byte;
            }
            Mode::OpenedM => {
                self.mode = match byte {
                    b'!' => Mode::Code,
                    _ => Mode::Remark,
                };
                self.last = [0, byte];
            }
            Mode::Remark => {
                if byte == b'/' && self.last[1] == b'*' {
                    self.mode = Mode::Code;
                    self.last = [0; 2];
                } else {
                    self.last = [self.last[1], byte];
                }
            }
            Mode::LineRemark => {
                if byte == b'\n' {
                    self.mode = Mode::Code;
                    self.last = [0; 2];
                }
            }
        }
        false
    }

    /// The first bytes of a unit: `-- `, `#`, `DELIMITER`, or neither.
    fn step_start(&mut self, byte: u8) -> bool {
        let so_far = self.matched;
        if so_far == 0 && byte == b'#' {
            self.mode = Mode::Line(Unit::Comment);
            return false;
        }
        let dashes = self.last == [b'-', b'-'] && so_far == 2;
        if dashes && byte.is_ascii_whitespace() {
            self.mode = Mode::Line(Unit::Comment);
            return byte == b'\n';
        }
        let is_word = so_far > 0 && self.last[1] != b'-';
        if is_word && so_far == DELIMITER.len() && matches!(byte, b' ' | b'\t') {
            self.mode = Mode::Line(Unit::Command);
            return false;
        }
        let goes_on = match byte {
            b'-' => so_far < 2 && !is_word,
            _ => {
                let next = DELIMITER.get(so_far);
                next.is_some_and(|b| b.eq_ignore_ascii_case(&byte)) && (so_far == 0 || is_word)
            }
        };
        if goes_on {
            self.matched += 1;
            self.last = [self.last[1], byte];
            return false;
        }
        self.matched = 0;
        self.mode = Mode::Code;
        self.step_code(byte)
    }

    fn step_code(&mut self, byte: u8) -> bool {
        let [before, last] = self.last;
        self.last = [last, byte];
        match byte {
            b'\'' | b'"' | b'`' => self.mode = Mode::Quoted(byte),
            b'#' => self.mode = Mode::LineRemark,
            b'*' if last == b'/' => self.mode = Mode::Opened,
            b' ' | b'\t' | b'\r' if (before, last) == (b'-', b'-') => self.mode = Mode::LineRemark,
            b'(' => {
                if self.in_values && self.depth == 0 {
                    self.rows += 1;
                }
                self.depth = self.depth.saturating_add(1);
            }
            b')' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        if !self.in_values && self.depth == 0 {
            self.word = match VALUES.get(self.word) {
                Some(next) if *next == byte => self.word + 1,
                _ => usize::from(byte == b' '),
            };
            self.in_values = self.word == VALUES.len();
        }
        match self.delimiter.get(self.matched) {
            Some(next) if *next == byte => self.matched += 1,
            _ => self.matched = usize::from(self.delimiter.first() == Some(&byte)),
        }
        self.matched == self.delimiter.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was handed on.
    #[derive(Debug, Default, PartialEq, Eq)]
    pub struct Seen {
        units: Vec<(String, u64)>,
        now: Option<(Unit, Vec<u8>)>,
        all: Vec<u8>,
    }

    impl Sink for Seen {
        fn unit(&mut self, unit: Unit, head: &[u8]) {
            assert!(self.now.is_none());
            self.now = Some((unit, head.to_vec()));
        }

        fn bytes(&mut self, bytes: &[u8]) {
            self.all.extend_from_slice(bytes);
        }

        fn end(&mut self, rows: u64) {
            let (unit, head) = self.now.take().unwrap();
            let head = String::from_utf8_lossy(&head).trim_end().to_owned();
            self.units.push((format!("{unit:?} {head}"), rows));
        }
    }

    fn scan(text: &[u8], piece: usize) -> Seen {
        let (mut scanner, mut seen) = (Scanner::new(), Seen::default());
        for piece in text.chunks(piece) {
            scanner.feed(piece, &mut seen);
        }
        scanner.finish(&mut seen);
        assert_eq!(seen.all, text, "every byte is handed on, in order");
        seen
    }

    #[test]
    fn units_and_rows() {
        let text = "\n--\n-- Table `a`; 'x\n--\nCREATE TABLE `a;``'` (x);\n\
            INSERT INTO `a` (`VALUES (`, b) VALUES\n(1,'),(;\\''),\n\
            (0x28,\"(\"),(f((2)),'it''s');\n\
            DELIMITER ;;\n/*!50003 TRIGGER t BEGIN a; b; -- c;;\n # ;;\n /* ;; */ END */;;\n\
            DELIMITER ;\n/*M! x*/ SELECT 5 --1, ';';\n#end ; \n-- Dump completed\n";
        let wanted = [
            ("Comment --", 0),
            ("Comment -- Table `a`; 'x", 0),
            ("Comment --", 0),
            ("Statement CREATE TABLE `a;``'` (x);", 0),
            (
                "Statement INSERT INTO `a` (`VALUES (`, b) VALUES\n(1,'),(;\\''),\n\
                 (0x28,\"(\"),(f((2)),'it''s');",
                3,
            ),
            ("Command DELIMITER ;;", 0),
            (
                "Statement /*!50003 TRIGGER t BEGIN a; b; -- c;;\n # ;;\n /* ;; */ END */;;",
                0,
            ),
            ("Command DELIMITER ;", 0),
            ("Statement /*M! x*/ SELECT 5 --1, ';';", 0),
            ("Comment #end ;", 0),
            ("Comment -- Dump completed", 0),
        ]
        .map(|(unit, rows)| (unit.to_owned(), rows));
        for piece in [1, 2, 3, 7, 1000] {
            assert_eq!(scan(text.as_bytes(), piece).units, wanted, "{piece}");
        }
    }

    #[test]
    fn a_mode_in_which_backslashes_are_plain() {
        let text = "/*!50003 SET sql_mode              = 'NO_BACKSLASH_ESCAPES' */ ;\n\
            SELECT '\\';\n/*!50003 SET sql_mode              = @saved_sql_mode */ ;\n\
            SELECT '\\';';\n";
        let units = scan(text.as_bytes(), 5).units;
        assert_eq!(units.len(), 4);
        assert_eq!(units[1].0, "Statement SELECT '\\';");
        assert_eq!(units[3].0, "Statement SELECT '\\';';");
    }

    #[test]
    fn words_that_begin_like_others() {
        let text = "DELETE;\n-;\n--x;\nDELIMITERS;\nd;\ndelimiter $$\na;$$\n";
        let units: Vec<String> = scan(text.as_bytes(), 1)
            .units
            .into_iter()
            .map(|u| u.0)
            .collect();
        let wanted = [
            "Statement DELETE;",
            "Statement -;",
            "Statement --x;",
            "Statement DELIMITERS;",
            "Statement d;",
            "Command delimiter $$",
            "Statement a;$$",
        ];
        assert_eq!(units, wanted);
    }

    #[test]
    fn only_the_beginning_of_a_long_statement_is_held() {
        let mut text = b"INSERT INTO `a` VALUES ".to_vec();
        for n in 0..100_000 {
            text.extend_from_slice(if n == 0 { b"" } else { b"," });
            text.extend_from_slice(b"(1,'x')");
        }
        text.extend_from_slice(b";\n");
        let (mut scanner, mut seen) = (Scanner::new(), Seen::default());
        for piece in text.chunks(4096) {
            scanner.feed(piece, &mut seen);
            assert!(scanner.head.capacity() <= HEAD);
        }
        assert_eq!(seen.units[0].1, 100_000);
        assert_eq!(scanner.mode, Mode::Gap);
    }

    /// Rows of a list, found by going through all characters at once.
    fn naive_rows(list: &[u8]) -> u64 {
        let (mut rows, mut depth, mut at) = (0, 0, 0);
        while at < list.len() {
            match list[at] {
                quote @ (b'\'' | b'"' | b'`') => {
                    at += 1;
                    while list[at] != quote {
                        at += 1 + usize::from(list[at] == b'\\' && quote != b'`');
                    }
                }
                b'(' => {
                    rows += u64::from(depth == 0);
                    depth += 1;
                }
                b')' => depth -= 1,
                _ => {}
            }
            at += 1;
        }
        rows
    }

    fn value() -> impl proptest::strategy::Strategy<Value = String> {
        use proptest::prelude::*;
        let text = "[a-z'\"`\\\\;(),\n#/*! -]{0,12}".prop_map(|text| {
            let text = text.replace('\\', "\\\\").replace('\'', "\\'");
            format!("'{}'", text.replace('\n', "\\n"))
        });
        prop_oneof![
            text,
            "0x[0-9A-F]{2,8}",
            "-?[0-9]{1,5}\\.[0-9]{2}",
            Just("NULL".to_owned()),
            Just("_binary '\\'\\\\'".to_owned()),
            Just("'it''s (;'".to_owned()),
        ]
    }

    proptest::proptest! {
        #[test]
        fn rows_are_those_that_a_naive_reader_counts(
            rows in proptest::collection::vec(
                proptest::collection::vec(value(), 1..4), 1..12),
            piece in 1_usize..40,
        ) {
            let rows: Vec<String> = rows.iter().map(|v| format!("({})", v.join(","))).collect();
            let list = rows.join(",");
            let text = format!("SET x;\nINSERT INTO `t` VALUES\n{list};\nUNLOCK TABLES;\n");
            let units = scan(text.as_bytes(), piece).units;
            let counts: Vec<u64> = units.iter().map(|(_, rows)| *rows).collect();
            proptest::prop_assert_eq!(&counts, &[0, rows.len() as u64, 0]);
            proptest::prop_assert_eq!(naive_rows(list.as_bytes()), rows.len() as u64);
        }
    }
}

//! Numbers, sizes, times and names for people.

use std::fmt::Write;

use hucha_store::entry::{Entry, Kind};
use jiff::tz::TimeZone;

use crate::times;

/// `1.5 GiB`; below 1024 the number of bytes.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    // 1023.95 would be printed as 1024.0.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS.get(unit).unwrap_or(&""))
}

/// `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// What a restore found when it compared: `5 rows in 2 tables, as they were`.
pub fn compared(rows: u64, tables: u64) -> String {
    match tables {
        0 => "no rows to compare".to_owned(),
        _ => format!(
            "{} in {}, as they were",
            counted(rows, "row", "rows"),
            counted(tables, "table", "tables")
        ),
    }
}

/// `1 file`, `2 files`.
pub fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// `0:07`, `12:34`, `1:02:03`.
pub fn clock(seconds: u64) -> String {
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match hours {
        0 => format!("{minutes}:{rest:02}"),
        _ => format!("{hours}:{minutes:02}:{rest:02}"),
    }
}

/// `0.4 s`, `12 s`, `3:05 min`, `1:02:03 h`.
pub fn duration(milliseconds: u64) -> String {
    match milliseconds {
        0..10_000 => format!("{}.{} s", milliseconds / 1000, milliseconds / 100 % 10),
        10_000..60_000 => format!("{} s", milliseconds / 1000),
        60_000..3_600_000 => format!("{} min", clock(milliseconds / 1000)),
        _ => format!("{} h", clock(milliseconds / 1000)),
    }
}

/// A name so that it stands in one line and cannot steer a terminal: control characters and bytes
/// that are no UTF-8 as `\n`, `\x1b`, `\xff`; `\` as `\\`.
pub fn name(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            escape(c, &mut text);
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

fn escape(c: char, text: &mut String) {
    let _ = match c {
        '\\' => write!(text, "\\\\"),
        '\n' => write!(text, "\\n"),
        '\t' => write!(text, "\\t"),
        '\r' => write!(text, "\\r"),
        // Marks that reverse the order of what follows deceive as well.
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            write!(text, "\\u{{{:x}}}", u32::from(c))
        }
        c if c.is_control() && c.is_ascii() => write!(text, "\\x{:02x}", u32::from(c)),
        c if c.is_control() => write!(text, "\\u{{{:x}}}", u32::from(c)),
        c => {
            text.push(c);
            Ok(())
        }
    };
}

/// A message whose lines stay lines, with everything else that steers a terminal shown, and
/// without the numbers of the system's errors.
pub fn lines(message: &str) -> String {
    let kept = |c: char| c == '\n' || !c.is_control();
    let shown = |c: char| if kept(c) { c } else { '\u{fffd}' };
    let mut text: String = message.chars().map(shown).collect();
    while let Some(start) = text.find(" (os error ") {
        match text.get(start..).and_then(|rest| rest.find(')')) {
            Some(len) => text.replace_range(start..=start + len, ""),
            None => break,
        }
    }
    text
}

/// How sizes of files are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sizes {
    /// `1536`.
    Bytes,
    /// `1.5 KiB`.
    Human,
}

/// A line of `ls --long`.
pub fn long(entry: &Entry, zone: &TimeZone, sizes: Sizes) -> String {
    let meta = &entry.meta;
    let who = |known: &Option<Vec<u8>>, number: u32| match known {
        Some(known) => name(known),
        None => number.to_string(),
    };
    let owner = who(&meta.user, meta.uid);
    let group = who(&meta.group, meta.gid);
    let shown_size = match entry.kind {
        Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => {
            format!("{major},{minor}")
        }
        _ if sizes == Sizes::Human => size(meta.size),
        _ => meta.size.to_string(),
    };
    let time = times::local(meta.mtime, zone);
    let mut line = format!(
        "{} {owner:<8} {group:<8} {shown_size:>12} {time} {}",
        mode(entry),
        shown(entry)
    );
    if let Kind::Link(target) = &entry.kind {
        let _ = write!(line, " -> {}", name(target));
    }
    line
}

/// An entry's path, `.` for the root.
pub fn shown(entry: &Entry) -> String {
    match entry.path.is_empty() {
        true => ".".into(),
        false => name(&entry.path),
    }
}

/// `drwxr-xr-x`.
fn mode(entry: &Entry) -> String {
    let bits = entry.meta.mode;
    let mut text = String::from(match entry.kind {
        Kind::File => '-',
        Kind::Folder => 'd',
        Kind::Link(_) => 'l',
        Kind::Fifo => 'p',
        Kind::Socket => 's',
        Kind::CharDevice { .. } => 'c',
        Kind::BlockDevice { .. } => 'b',
    });
    for (shift, special, set, only) in [
        (6, 0o4000, 's', 'S'),
        (3, 0o2000, 's', 'S'),
        (0, 0o1000, 't', 'T'),
    ] {
        let part = bits >> shift;
        text.push(if part & 4 != 0 { 'r' } else { '-' });
        text.push(if part & 2 != 0 { 'w' } else { '-' });
        text.push(match (part & 1 != 0, bits & special != 0) {
            (true, true) => set,
            (false, true) => only,
            (true, false) => 'x',
            (false, false) => '-',
        });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use hucha_store::entry::{Content, Meta};

    #[test]
    fn numbers() {
        let sizes = [
            0,
            1023,
            1024,
            1536,
            (1 << 20) - 1,
            1 << 20,
            5 << 30,
            u64::MAX,
        ];
        let shown: Vec<String> = sizes.into_iter().map(size).collect();
        let expected = [
            "0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1.0 MiB", "1.0 MiB", "5.0 GiB", "16.0 EiB",
        ];
        assert_eq!(shown, expected);
        assert_eq!(
            [count(7), count(1234), count(1_234_567)],
            ["7", "1,234", "1,234,567"]
        );
        assert_eq!(counted(1, "file", "files"), "1 file");
        let durations: Vec<String> = [0, 450, 9_999, 12_345, 185_000, 3_723_000]
            .into_iter()
            .map(duration)
            .collect();
        assert_eq!(
            durations,
            ["0.0 s", "0.4 s", "9.9 s", "12 s", "3:05 min", "1:02:03 h"]
        );
    }

    #[test]
    fn odd_names_stay_in_their_line() {
        assert_eq!(name("año/🐟 x".as_bytes()), "año/🐟 x");
        assert_eq!(name(b"a\nb\x1b[2J\xff\\"), "a\\nb\\x1b[2J\\xff\\\\");
        assert_eq!(name("a\u{202e}b\u{9b}".as_bytes()), "a\\u{202e}b\\u{9b}");
    }

    #[test]
    fn messages_without_numbers_of_errors() {
        let message = "\"a\": Not found (os error 2), \"b\": Denied (os error 13)\nx\x1b";
        assert_eq!(lines(message), "\"a\": Not found, \"b\": Denied\nx\u{fffd}");
        assert_eq!(lines("a (os error 2"), "a (os error 2");
    }

    #[test]
    fn a_long_line() {
        let entry = Entry {
            path: b"etc/x".to_vec(),
            kind: Kind::Link(b"/y".to_vec()),
            meta: Meta {
                mode: 0o4751,
                uid: 5,
                user: Some(b"ana".to_vec()),
                ..Meta::default()
            },
            content: Content::None,
            xattrs: Vec::new(),
            group: None,
        };
        let line = "lrwsr-x--x ana      0                   0 1970-01-01 00:00:00 etc/x -> /y";
        assert_eq!(long(&entry, &TimeZone::UTC, Sizes::Bytes), line);
        let mut file = entry;
        (file.kind, file.meta.size) = (Kind::File, 1536);
        let human = "-rwsr-x--x ana      0             1.5 KiB 1970-01-01 00:00:00 etc/x";
        assert_eq!(long(&file, &TimeZone::UTC, Sizes::Human), human);
    }
}

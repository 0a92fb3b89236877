//! Files of a package: code, docs, tables and a few pictures, of one ecosystem. All packages share
//! a language, its idioms and their licences; the files of a package share names of their own.

use std::fmt::Write;

use super::super::{Quick, vocabulary};

/// Names that a package uses again and again.
const NAMES: usize = 60;
/// Licences of the ecosystem; each file of code names its package's.
const LICENCES: u64 = 4;
/// One file in so many does not compress: pictures and fonts.
const PICTURES: usize = 100;
/// One edited file in so many gets a new function or paragraph; the others a few lines.
const WHOLE: usize = 8;

/// What the files of a package have in common.
pub struct Style {
    package: u64,
    names: Vec<String>,
}

/// What a file is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Code,
    Types,
    Docs,
    Table,
    Licence,
    Picture,
}

/// The name of a package.
pub fn name(package: usize) -> String {
    let words = vocabulary::words(7 + package as u64, 2);
    format!("{}-{package}", words.join("-"))
}

fn kind(file: usize) -> Kind {
    match file % 20 {
        _ if file % PICTURES == 7 => Kind::Picture,
        _ if file == 0 => Kind::Licence,
        1..=11 => Kind::Code,
        12..=14 => Kind::Types,
        15..=17 => Kind::Docs,
        _ => Kind::Table,
    }
}

impl Style {
    /// That of a package.
    pub fn of(package: usize) -> Style {
        let package = package as u64;
        Style {
            package,
            names: vocabulary::words(1_000_000 + package, NAMES),
        }
    }

    /// Where a file stands in its package.
    pub fn path(&self, file: usize) -> String {
        let stem = self.names.get(file % NAMES).map_or("", String::as_str);
        match kind(file) {
            Kind::Code => format!("lib/{}/{stem}-{file}.js", self.folder(file)),
            Kind::Types => format!("types/{stem}-{file}.d.ts"),
            Kind::Docs => format!("docs/{stem}-{file}.md"),
            Kind::Table => format!("data/{stem}-{file}.json"),
            Kind::Licence => "LICENSE".to_owned(),
            Kind::Picture => format!("docs/images/{stem}-{file}.png"),
        }
    }

    fn folder(&self, file: usize) -> &str {
        let at = file / 20 % 7;
        self.names.get(at).map_or("", String::as_str)
    }

    /// The contents of a file when it comes.
    pub fn file(&self, file: usize) -> Vec<u8> {
        let mut random = Quick::of([8, self.package, file as u64]);
        let size = size(&mut random);
        let mut out = String::with_capacity(size + 400);
        match kind(file) {
            Kind::Picture => return (0..size).map(|_| random.below(256) as u8).collect(),
            Kind::Licence => {
                licence(&mut out, self.package, "");
                return out.into_bytes();
            }
            Kind::Code | Kind::Types => {
                let year = 2015 + self.package % 11;
                let _ = writeln!(out, "/*!\n * {} (c) {year}", name(self.package as usize));
                notice(&mut out, self.package);
                out.push_str("'use strict';\n\n");
            }
            Kind::Docs | Kind::Table => {}
        }
        while out.len() < size {
            self.lines(kind(file), &mut out, &mut random);
        }
        out.into_bytes()
    }

    /// The same file in the next version: some places edited, and in some a name is another. Most
    /// pictures stay.
    pub fn edit(&self, file: usize, bytes: &[u8], random: &mut Quick) -> Vec<u8> {
        let Ok(text) = std::str::from_utf8(bytes) else {
            if random.below(4) > 0 {
                return bytes.to_owned();
            }
            return self.file(file + 1000 * (1 + random.below(1000)));
        };
        let kind = kind(file);
        let whole = random.below(WHOLE) == 0;
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        for _ in 0..1 + random.skewed(8) {
            let at = random.below(lines.len());
            let end = (at + random.below(4)).min(lines.len());
            let mut new = String::new();
            self.lines(kind, &mut new, random);
            let (from, count) = match whole {
                true => (0, usize::MAX),
                false => (random.below(3), 1 + random.below(3)),
            };
            let new = new.lines().skip(from).take(count);
            lines.splice(at..end, new.map(str::to_owned));
        }
        let mut text = lines.join("\n") + "\n";
        if random.below(8) == 0 {
            let (old, new) = (self.name(random), self.name(random));
            text = text.replace(old, new);
        }
        text.into_bytes()
    }

    fn name(&self, random: &mut Quick) -> &str {
        let reach = 1 + random.skewed(NAMES);
        let at = random.below(reach);
        self.names.get(at).map_or("", String::as_str)
    }

    /// A name of the package's own, or of the ecosystem.
    fn any(&self, random: &mut Quick) -> &str {
        match random.below(4) {
            0 => vocabulary::word(random),
            _ => self.name(random),
        }
    }

    /// A few lines that belong together.
    fn lines(&self, kind: Kind, out: &mut String, random: &mut Quick) {
        match kind {
            Kind::Code => self.function(out, random),
            Kind::Types => self.types(out, random),
            Kind::Docs | Kind::Licence | Kind::Picture => self.paragraph(out, random),
            Kind::Table => self.table(out, random),
        }
    }

    fn function(&self, out: &mut String, random: &mut Quick) {
        let (a, b) = (self.name(random), self.any(random));
        let _ = writeln!(out, "/**\n * {}", sentence(random, 4));
        let _ = writeln!(out, " * @param {{object}} {b} {}\n */", sentence(random, 3));
        let _ = writeln!(
            out,
            "function {a}{}({b}, options) {{",
            capital(self.any(random))
        );
        for _ in 0..2 + random.below(8) {
            let (x, y, z) = (self.any(random), self.name(random), self.any(random));
            let n = random.skewed(300);
            let _ = match random.below(9) {
                0 => writeln!(out, "  const {x} = require('./{y}');"),
                1 => writeln!(out, "  if (!{b}.{x}) {{\n    return null;\n  }}"),
                2 => writeln!(out, "  const {x} = {b}.{y}({z}, {n});"),
                3 => writeln!(out, "  // {}", sentence(random, 7)),
                4 => writeln!(out, "  for (const {x} of {y}.{z}) {{"),
                5 => writeln!(out, "    {x}.{y} = options.{z} || {n};\n  }}"),
                6 => writeln!(out, "  throw new TypeError('{x} {y} must be {z}');"),
                7 => writeln!(out, "  this.{x} = {y}.map(({z}) => {z}.{x});"),
                _ => writeln!(out, "  await {x}.{y}({{ {z}: {n}, {x}: {b} }});"),
            };
        }
        let _ = writeln!(out, "  return {};\n}}\n", self.any(random));
    }

    fn types(&self, out: &mut String, random: &mut Quick) {
        let _ = writeln!(out, "export interface {} {{", capital(self.name(random)));
        for _ in 0..2 + random.below(6) {
            let (x, y) = (self.any(random), capital(self.name(random)));
            let _ = match random.below(4) {
                0 => writeln!(out, "  {x}?: string;"),
                1 => writeln!(out, "  /** {} */\n  {x}: {y};", sentence(random, 6)),
                2 => writeln!(out, "  {x}({}: {y}): Promise<void>;", self.any(random)),
                _ => writeln!(out, "  readonly {x}: number;"),
            };
        }
        out.push_str("}\n\n");
    }

    fn paragraph(&self, out: &mut String, random: &mut Quick) {
        if random.below(3) == 0 {
            let _ = writeln!(out, "## `{}` and {}\n", self.name(random), self.any(random));
        }
        for _ in 0..1 + random.below(5) {
            let _ = writeln!(out, "{}.", capital(&sentence(random, 12)));
        }
        if random.below(3) == 0 {
            let (x, y) = (self.name(random), self.any(random));
            let _ = writeln!(out, "\n```js\nconst {x} = require('{y}');\n{x}.{y}();\n```");
        }
        out.push('\n');
    }

    fn table(&self, out: &mut String, random: &mut Quick) {
        let (x, n) = (self.any(random), random.below(100_000));
        let _ = writeln!(
            out,
            "    {{\n      \"name\": \"{x}-{}\",",
            self.name(random)
        );
        let _ = writeln!(out, "      \"version\": \"{}.{}.0\",", n % 7, n % 30);
        let (a, b) = (random.below(1 << 32), random.below(1 << 32));
        let _ = writeln!(out, "      \"integrity\": \"{a:08x}{b:08x}\",\n    }},");
    }
}

/// Most files are small, a few large: 5 KB on average.
fn size(random: &mut Quick) -> usize {
    let power = match random.below(100) {
        0 => 65_536,
        _ => 128 << random.below(8),
    };
    power / 2 + random.below(power)
}

fn sentence(random: &mut Quick, words: usize) -> String {
    let mut out = String::new();
    for n in 0..words / 2 + random.below(words) {
        if n > 0 {
            out.push(' ');
        }
        out.push_str(vocabulary::word(random));
    }
    out
}

fn capital(word: &str) -> String {
    let mut chars = word.chars();
    let first = chars.next().map(|c| c.to_ascii_uppercase());
    first.into_iter().chain(chars).collect()
}

/// The licence itself; packages under one licence have the same text.
fn licence(out: &mut String, package: u64, margin: &str) {
    let mut random = Quick::of([9, package % LICENCES, 0]);
    for _ in 0..12 {
        let _ = writeln!(out, "{margin}{}", sentence(&mut random, 10));
    }
}

/// What stands above each file of code.
fn notice(out: &mut String, package: u64) {
    let mut random = Quick::of([10, package % LICENCES, 0]);
    for _ in 0..5 {
        let _ = writeln!(out, " * {}", sentence(&mut random, 10));
    }
    out.push_str(" */\n");
}

//! The corpora by name, as sources on disk that change from night to night.

use std::error::Error;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use super::noise::Noise;
use super::shop::dump::{Dump, Order};
use super::shop::sqlite::Database;
use super::tree::Tree;
use crate::arguments::Options;
use crate::compare::trial::copy;

/// All names, in the order of tables.
pub const NAMES: [&str; 5] = ["dump-heap", "dump-key", "sqlite", "tree", "random"];

/// Packages at full size: 60,000 files of 300 MB.
const PACKAGES: usize = 600;
/// Bytes of the incompressible file at full size.
const NOISE: usize = 1_000_000_000;

/// Leaves each night of a corpus in a folder of its own, `night1` and so on, to try things by hand.
///
/// # Errors
/// When the corpus is not known, or something cannot be written.
pub fn on_disk(arguments: &[OsString]) -> Result<(), Box<dyn Error>> {
    let [name, folder, rest @ ..] = arguments else {
        return Err("NAME and FOLDER are missing".into());
    };
    let options = Options::read(rest, &["--nights", "--percent"])?;
    let nights = options.number("--nights", 2_usize)?;
    let folder = std::path::absolute(folder)?;
    let source = folder.join("source");
    std::fs::create_dir_all(&source)?;
    let name = name.to_str().unwrap_or_default();
    let mut corpus = Corpus::first(name, &source, options.number("--percent", 100)?)?;
    for night in 1..=nights {
        if night > 1 {
            corpus.next_night()?;
        }
        copy(&source, &folder.join(format!("night{night}")))?;
    }
    drop(corpus);
    std::fs::remove_dir_all(&source)?;
    Ok(())
}

enum Kind {
    Dump(Box<Dump>),
    Sqlite(Database),
    Tree(Tree),
    Noise(Noise),
}

/// A source on disk, and what the nights so far did to it.
pub struct Corpus {
    kind: Kind,
    file: PathBuf,
    touched: Vec<f64>,
}

impl Corpus {
    /// Writes the first night into the folder `source`, in `percent` of the full size.
    ///
    /// # Errors
    /// When the name is none of [`NAMES`], or something cannot be written.
    pub fn first(name: &str, source: &Path, percent: usize) -> io::Result<Corpus> {
        let file = source.join(match name {
            "dump-heap" | "dump-key" => "shop.sql",
            "sqlite" => "shop.sqlite",
            _ => "random.bin",
        });
        let dump = |order| -> io::Result<Kind> {
            let dump = Dump::new(percent, order);
            dump.write(&file)?;
            Ok(Kind::Dump(Box::new(dump)))
        };
        let kind = match name {
            "dump-heap" => dump(Order::Heap)?,
            "dump-key" => dump(Order::Key)?,
            "sqlite" => Kind::Sqlite(Database::create(&file, percent)?),
            "tree" => Kind::Tree(Tree::write(source, (PACKAGES * percent / 100).max(4))?),
            "random" => Kind::Noise(Noise::write(&file, NOISE / 100 * percent)?),
            _ => return Err(io::Error::other(format!("there is no corpus {name}"))),
        };
        let touched = Vec::new();
        Ok(Corpus {
            kind,
            file,
            touched,
        })
    }

    /// Lets a night pass.
    ///
    /// # Errors
    /// When something cannot be written.
    pub fn next_night(&mut self) -> io::Result<()> {
        let (touched, all) = match &mut self.kind {
            Kind::Dump(dump) => {
                let rows = dump.rows();
                let touched = dump.next_night();
                dump.write(&self.file)?;
                (touched, rows)
            }
            Kind::Sqlite(database) => (database.next_night()?, database.rows()),
            Kind::Tree(tree) => (tree.next_night()?, tree.files()),
            Kind::Noise(noise) => {
                let bytes = std::fs::metadata(&self.file)?.len();
                (noise.next_night()?, bytes as usize)
            }
        };
        self.touched.push(touched as f64 / all as f64);
        Ok(())
    }

    /// What a night touches, counted, in words.
    pub fn touched(&self) -> String {
        let nights = self.touched.len().max(1) as f64;
        let share = self.touched.iter().sum::<f64>() * 100.0 / nights;
        match &self.kind {
            Kind::Dump(dump) => rows(share, dump.rows()),
            Kind::Sqlite(database) => rows(share, database.rows()),
            Kind::Tree(tree) => {
                let files = tree.files();
                format!("a night writes {share:.1} % of {files} files anew or edited")
            }
            Kind::Noise(_) => {
                format!("a night writes {share:.2} % of the bytes and moves nearly all of them")
            }
        }
    }
}

fn rows(share: f64, rows: usize) -> String {
    let millions = rows as f64 / 1e6;
    format!("a night touches {share:.2} % of {millions:.2} million rows")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::fs;

    fn two_nights(name: &str) -> (tempfile::TempDir, Corpus) {
        let folder = tempfile::tempdir().unwrap();
        let mut corpus = Corpus::first(name, folder.path(), 1).unwrap();
        corpus.next_night().unwrap();
        corpus.next_night().unwrap();
        (folder, corpus)
    }

    fn lines(folder: &tempfile::TempDir) -> BTreeSet<String> {
        let dump = fs::read_to_string(folder.path().join("shop.sql")).unwrap();
        dump.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_dump_in_heap_order_has_the_rows_of_one_in_key_order() {
        let (heap, corpus) = two_nights("dump-heap");
        let (key, _) = two_nights("dump-key");
        let Kind::Dump(dump) = &corpus.kind else {
            panic!("it is a dump");
        };
        assert!(lines(&heap).len() > dump.rows());
        assert_eq!(lines(&heap), lines(&key));
        let text = |folder: &tempfile::TempDir| fs::read(folder.path().join("shop.sql")).unwrap();
        assert_ne!(text(&heap), text(&key));
    }

    #[test]
    fn a_night_touches_one_or_two_of_a_hundred_rows() {
        for name in ["dump-heap", "sqlite"] {
            let (_folder, corpus) = two_nights(name);
            let in_range = |share: &f64| (0.01..0.02).contains(share);
            assert!(corpus.touched.iter().all(in_range), "{:?}", corpus.touched);
        }
    }

    #[test]
    fn the_sqlite_file_holds_the_rows_of_the_shop() {
        let (folder, corpus) = two_nights("sqlite");
        let Kind::Sqlite(database) = &corpus.kind else {
            panic!("it is a database");
        };
        let wanted = database.rows();
        drop(corpus);
        let file = rusqlite::Connection::open(folder.path().join("shop.sqlite")).unwrap();
        let tables = [
            "customers",
            "products",
            "orders",
            "order_lines",
            "stock_moves",
        ];
        let count = |table: &&str| -> i64 {
            let sql = format!("SELECT count(*) FROM {table}");
            file.query_row(&sql, [], |row| row.get(0)).unwrap()
        };
        assert_eq!(tables.iter().map(count).sum::<i64>() as usize, wanted);
        let whole: String = file
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .unwrap();
        assert_eq!(whole, "ok");
    }

    #[test]
    fn packages_stand_in_folders_of_their_newest_version() {
        let (folder, corpus) = two_nights("tree");
        let Kind::Tree(tree) = &corpus.kind else {
            panic!("it is a tree");
        };
        let folders = fs::read_dir(folder.path()).unwrap();
        let names = folders.map(|f| f.unwrap().file_name().into_string().unwrap());
        let names: Vec<String> = names.collect();
        assert_eq!(names.len() * 100, tree.files());
        assert!(
            names.iter().any(|name| name.ends_with("-1.0.1")),
            "{names:?}"
        );
    }
}

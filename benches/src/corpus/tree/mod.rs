//! A tree of packages in versions, on disk, as a package manager leaves it: many small files of
//! code and docs. A night brings new versions of some packages: a folder whose name holds the new
//! version is written and the old one goes, with files that are as before, edited in part, renamed,
//! new or gone. All other packages stay untouched, times included.

mod text;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Quick;
use text::Style;

/// How many files a package has when it begins.
const FILES: usize = 100;
/// Of a hundred packages, so many have a new version in a night.
const UPGRADED: usize = 27;
/// Of a hundred files of a new version, so many are edited; renamed; gone; and come.
const EDITED: usize = 68;
const RENAMED: usize = 4;
const GONE: usize = 3;

/// A package: its files, each with the number that its style and text follow from.
struct Package {
    version: usize,
    files: Vec<usize>,
    next_file: usize,
}

/// A tree that was written to disk.
pub struct Tree {
    root: PathBuf,
    packages: Vec<Package>,
    night: usize,
}

impl Tree {
    /// Writes the first night: `packages` of a hundred files each, 5 KB on average.
    pub fn write(root: &Path, packages: usize) -> io::Result<Tree> {
        let new = |_| Package {
            version: 0,
            files: (0..FILES).collect(),
            next_file: FILES,
        };
        let tree = Tree {
            root: root.to_owned(),
            packages: (0..packages).map(new).collect(),
            night: 0,
        };
        for (number, package) in tree.packages.iter().enumerate() {
            let style = Style::of(number);
            for file in &package.files {
                let path = tree.path(number, package.version, *file);
                put(&path, &style.file(*file))?;
            }
        }
        Ok(tree)
    }

    /// How many files there are.
    pub fn files(&self) -> usize {
        self.packages.iter().map(|p| p.files.len()).sum()
    }

    /// Brings new versions; answers how many files these wrote that were not there like this.
    pub fn next_night(&mut self) -> io::Result<usize> {
        self.night += 1;
        let mut random = Quick::of([6, self.night as u64, 0]);
        let mut touched = 0;
        for number in 0..self.packages.len() {
            if random.below(100) < UPGRADED {
                touched += self.upgrade(number, &mut random)?;
            }
        }
        Ok(touched)
    }

    fn upgrade(&mut self, number: usize, random: &mut Quick) -> io::Result<usize> {
        let style = Style::of(number);
        let Some(package) = self.packages.get(number) else {
            return Ok(0);
        };
        let (old, version) = (package.version, package.version + 1);
        let (mut files, mut next, mut touched) = (Vec::new(), package.next_file, 0);
        for file in &package.files {
            let mut bytes = fs::read(self.path(number, old, *file))?;
            let mut name = *file;
            let what = random.below(100);
            if what < GONE {
                // Another comes for it, with contents of its own.
                (name, next) = (next, next + 1);
                bytes = style.file(name);
                touched += 1;
            } else if what < GONE + RENAMED {
                (name, next) = (next, next + 1);
            } else if what < GONE + RENAMED + EDITED {
                let edited = style.edit(*file, &bytes, random);
                touched += usize::from(edited != bytes);
                bytes = edited;
            }
            put(&self.path(number, version, name), &bytes)?;
            files.push(name);
        }
        fs::remove_dir_all(self.root.join(folder(number, old)))?;
        if let Some(package) = self.packages.get_mut(number) {
            *package = Package {
                version,
                files,
                next_file: next,
            };
        }
        Ok(touched)
    }

    fn path(&self, package: usize, version: usize, file: usize) -> PathBuf {
        let inside = Style::of(package).path(file);
        self.root.join(folder(package, version)).join(inside)
    }
}

/// The folder of one version of a package.
fn folder(package: usize, version: usize) -> String {
    let (minor, patch) = (version / 3, version % 3);
    format!("{}-1.{minor}.{patch}", text::name(package))
}

fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, bytes)
}

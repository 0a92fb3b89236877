//! A tree of packages in versions, on disk: many small files of text, some of which do not
//! compress. A night brings a new version of some packages; all others stay untouched, times
//! included.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Random;
use super::files::{edit, text};

/// How many files a package has.
const FILES: usize = 100;
/// One file in so many does not compress.
const BINARY: usize = 40;
/// Of a package's files, one in so many changes with a version.
const CHANGED: usize = 3;

/// A tree that was written to disk.
pub struct Tree {
    root: PathBuf,
    packages: usize,
}

impl Tree {
    /// Writes the first night: `packages` of a hundred files each, 5 KiB on average.
    pub fn write(root: &Path, packages: usize) -> io::Result<Tree> {
        for package in 0..packages {
            for file in 0..FILES {
                let path = path(root, package, file);
                if let Some(parent) = path.parent() {
                    fs::create_dir_all(parent)?;
                }
                fs::write(path, contents(package, file))?;
            }
        }
        Ok(Tree {
            root: root.to_owned(),
            packages,
        })
    }

    /// Brings new versions of one package in twenty.
    pub fn next_night(&mut self, night: usize) -> io::Result<()> {
        let mut random = Random::seeded(&format!("tree night {night}"));
        for _ in 0..self.packages.div_ceil(20) {
            let package = random.below(self.packages);
            for file in 0..FILES {
                let path = path(&self.root, package, file);
                match random.below(CHANGED * 10) {
                    // One of a version's files is renamed away and a new one comes.
                    0 if path.exists() => {
                        fs::rename(&path, path.with_extension(format!("v{night}")))?;
                        fs::write(&path, text(&mut random, 4000))?;
                    }
                    n if n < 10 && path.exists() => {
                        let mut bytes = fs::read(&path)?;
                        edit(&mut random, &mut bytes);
                        fs::write(&path, bytes)?;
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

fn path(root: &Path, package: usize, file: usize) -> PathBuf {
    let folder = ["lib", "src", "test", "docs"].get(file % 4).unwrap_or(&"");
    root.join(format!("package-{package:04}/{folder}/file-{file:03}.txt"))
}

fn contents(package: usize, file: usize) -> Vec<u8> {
    let mut random = Random::seeded(&format!("package {package} file {file}"));
    // Most are small: a power of two from 256 bytes to 32 KiB, and something.
    let power = 256 << random.below(8);
    let size = power / 2 + random.below(power);
    if file % BINARY == 7 {
        random.bytes(size)
    } else {
        text(&mut random, size)
    }
}

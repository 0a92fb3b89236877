//! What was typed behind a command: places first, then pairs of `--name value`.

use std::error::Error;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Options with their values.
pub struct Options(Vec<(String, OsString)>);

/// A binary of hucha, a folder to work in, and options.
pub struct Typed {
    /// The binary.
    pub hucha: PathBuf,
    /// The folder.
    pub scratch: PathBuf,
    /// The rest.
    pub options: Options,
}

impl Typed {
    /// Reads `HUCHA SCRATCH [--name value]…`; only the names in `known` may stand there.
    ///
    /// # Errors
    /// When something is missing or not known, or there is no such binary.
    pub fn read(arguments: &[OsString], known: &[&str]) -> Result<Typed, Box<dyn Error>> {
        let [hucha, scratch, rest @ ..] = arguments else {
            return Err("HUCHA and SCRATCH are missing".into());
        };
        Ok(Typed {
            hucha: std::fs::canonicalize(hucha)?,
            scratch: std::path::absolute(scratch)?,
            options: Options::read(rest, known)?,
        })
    }
}

impl Options {
    /// Reads `[--name value]…`; only the names in `known` may stand there.
    ///
    /// # Errors
    /// When another stands there, or a value is missing.
    pub fn read(arguments: &[OsString], known: &[&str]) -> Result<Options, Box<dyn Error>> {
        let mut options = Vec::new();
        for pair in arguments.chunks(2) {
            match pair {
                [name, value] if known.iter().any(|k| name == k) => {
                    options.push((name.to_string_lossy().into_owned(), value.clone()));
                }
                _ => return Err(format!("{pair:?}: known are {}", known.join(" ")).into()),
            }
        }
        Ok(Options(options))
    }

    fn get(&self, name: &str) -> Option<&OsString> {
        let found = self.0.iter().rev().find(|(known, _)| known == name);
        found.map(|(_, value)| value)
    }

    /// A number, or `other` when there is none.
    ///
    /// # Errors
    /// When it is no number.
    pub fn number<T>(&self, name: &str, other: T) -> Result<T, Box<dyn Error>>
    where
        T: FromStr<Err: Error + 'static>,
    {
        match self.get(name) {
            Some(value) => Ok(value.to_str().unwrap_or_default().parse()?),
            None => Ok(other),
        }
    }

    /// Words between commas; none when the option is not there.
    pub fn words(&self, name: &str) -> Vec<String> {
        let text = self.get(name).map(|value| value.to_string_lossy());
        let words = text.iter().flat_map(|text| text.split(','));
        words.map(str::to_owned).collect()
    }

    /// Writes a result into the file of `--out`, or prints it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, result: &str) -> std::io::Result<()> {
        match self.get("--out") {
            Some(file) => std::fs::write(Path::new(file), result)?,
            None => print!("{result}"),
        }
        Ok(())
    }
}

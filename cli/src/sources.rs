//! Databases and paths as they were written, on the command line or in files, as one source.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hucha_sources::child::Stopper;
use hucha_sources::database::program::Program;
use hucha_sources::database::scratch::Scratch;
use hucha_sources::database::several::{Common, Wanted};
use hucha_sources::database::{Context, Settings as SourceSettings, Value};
use hucha_store::clock::Timestamp;
use jiff::tz::TimeZone;
use toml::Table;

use crate::args::SourceArgs;
use crate::errors::Failure;
use crate::settings::{self, Settings};
use crate::{signals, times};

/// Largest file of sources that is read.
const MOST: u64 = 1 << 20;

/// Sources that were asked for.
pub struct Asked {
    /// Databases and commands.
    pub wanted: Vec<Wanted>,
    /// Paths of `file:` sources.
    pub paths: Vec<OsString>,
}

/// What databases are handed from outside; they stop when we are asked to end.
pub fn context(settings: &Settings, zone: &TimeZone, now: Timestamp, stall: u64) -> Context {
    let stopper = Stopper::default();
    signals::stop_with_us(stopper.clone());
    let base = match &settings.cache {
        Some(cache) => cache.join("tmp"),
        None => std::env::temp_dir().join("hucha"),
    };
    Context {
        stopper,
        variables: Arc::new(settings::variable),
        scratch: Scratch::new(base),
        stall: Duration::from_secs(stall.max(1)),
        stamp: times::stamp(now, zone),
    }
}

/// Reads all sources.
///
/// # Errors
/// When one cannot be understood, or a file cannot be read.
pub fn asked(args: &SourceArgs) -> Result<Asked, Failure> {
    let mut asked = Asked {
        wanted: Vec::new(),
        paths: Vec::new(),
    };
    for typed in &args.source {
        match file_path(typed)? {
            Some(path) => asked.paths.push(path),
            None => {
                let typed = typed.to_str();
                let typed = typed.ok_or_else(|| Failure::usage("a source must be UTF-8 text"))?;
                asked
                    .wanted
                    .push(Wanted::new(SourceSettings::of_address(typed)?)?);
            }
        }
    }
    for path in &args.source_file {
        let of_file = |failure: Failure| Failure {
            message: format!("{}: {}", path.display(), failure.message),
            ..failure
        };
        read(path, &mut asked).map_err(of_file)?;
    }
    Ok(asked)
}

/// The path of a `file:` source, with or without `//`; none of others.
fn file_path(typed: &OsStr) -> Result<Option<OsString>, Failure> {
    let Some(rest) = typed.as_encoded_bytes().strip_prefix(b"file:") else {
        return Ok(None);
    };
    let path = rest.strip_prefix(b"//").unwrap_or(rest);
    if path.is_empty() {
        return Err(Failure::usage(
            "\"file:\" needs a path after it, as in file:///etc/shop",
        ));
    }
    let skipped = typed.len() - path.len();
    Ok(Some(tail(typed, skipped)))
}

#[cfg(unix)]
fn tail(text: &OsStr, skipped: usize) -> OsString {
    use std::os::unix::ffi::OsStrExt;
    OsStr::from_bytes(text.as_bytes().get(skipped..).unwrap_or_default()).to_owned()
}

#[cfg(not(unix))]
fn tail(text: &OsStr, skipped: usize) -> OsString {
    let text = text.to_string_lossy();
    text.get(skipped..).unwrap_or_default().into()
}

/// Adds the sources of a file.
fn read(path: &Path, asked: &mut Asked) -> Result<(), Failure> {
    let failed = |e: std::io::Error| Failure::failed(format_args!("cannot be read: {e}"));
    if std::fs::metadata(path).map_err(failed)?.len() > MOST {
        return Err(Failure::failed("is too large for a list of sources"));
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let table: Table = toml::from_str(&text)
        .map_err(|e| Failure::usage(format_args!("no TOML: {}", e.message())))?;
    let mut sources = Vec::new();
    for (name, value) in table {
        match (name.as_str(), value) {
            ("source", toml::Value::Array(tables)) => sources = tables,
            _ => {
                let message = format!("{name:?} is nothing that a list of sources has");
                return Err(Failure::usage(message).hint("write each source as [[source]]"));
            }
        }
    }
    for (number, source) in (1..).zip(sources) {
        let of_source = |failure: Failure| Failure {
            message: format!("source {number}: {}", failure.message),
            ..failure
        };
        let toml::Value::Table(table) = source else {
            return Err(of_source(Failure::usage("it is no table")));
        };
        add(table, asked).map_err(of_source)?;
    }
    Ok(())
}

fn add(mut table: Table, asked: &mut Asked) -> Result<(), Failure> {
    let command = table.remove("command").map(argv).transpose()?;
    let verify = table.remove("verify").map(argv).transpose()?;
    let url = match table.remove("url") {
        Some(toml::Value::String(url)) => Some(url),
        Some(_) => return Err(Failure::usage("url must be text")),
        None => None,
    };
    let options = options(table)?;
    let wanted = match (url, command) {
        (Some(url), None) => match file_path(OsStr::new(&url))? {
            Some(path) if options.is_empty() => {
                asked.paths.push(path);
                return Ok(());
            }
            Some(_) => return Err(Failure::usage("a file: source has no options")),
            None => Wanted::new(SourceSettings::new(&url, options)?)?,
        },
        (None, Some(command)) => {
            let mut settings = SourceSettings::new("command:", options)?;
            let common = Common::take(&mut settings)?;
            settings.finish()?;
            common.of(Box::new(Program::new(command, verify.unwrap_or_default())?))
        }
        _ => {
            let failure = Failure::usage("a source has either url or command");
            return Err(failure.hint("url = \"sqlite:///srv/app.db\""));
        }
    };
    asked.wanted.push(wanted);
    Ok(())
}

fn argv(value: toml::Value) -> Result<Vec<OsString>, Failure> {
    let text = |value: toml::Value| match value {
        toml::Value::String(text) => Ok(OsString::from(text)),
        _ => Err(wrong_argv()),
    };
    match value {
        toml::Value::Array(words) => words.into_iter().map(text).collect(),
        _ => Err(wrong_argv()),
    }
}

fn wrong_argv() -> Failure {
    Failure::usage("a command is a list of words, as in [\"redis-cli\", \"--rdb\", \"-\"]")
}

fn options(table: Table) -> Result<BTreeMap<String, Value>, Failure> {
    let option = |(name, value): (String, toml::Value)| {
        let wrong = || Failure::usage(format_args!("the option {name} has a value of no use"));
        let value = match value {
            toml::Value::String(text) => Value::Text(text),
            toml::Value::Integer(number) => Value::Number(number),
            toml::Value::Boolean(flag) => Value::Flag(flag),
            toml::Value::Array(texts) => {
                let text = |value| match value {
                    toml::Value::String(text) => Ok(text),
                    _ => Err(wrong()),
                };
                Value::List(texts.into_iter().map(text).collect::<Result<_, _>>()?)
            }
            _ => return Err(wrong()),
        };
        Ok((name, value))
    };
    table.into_iter().map(option).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Result<Asked, Failure> {
        let keep = tempfile::tempdir().unwrap();
        let path = keep.path().join("sources.toml");
        std::fs::write(&path, text).unwrap();
        asked(&SourceArgs {
            source_file: vec![path],
            ..SourceArgs::default()
        })
    }

    #[test]
    fn a_file_of_sources() {
        let asked = file(
            "[[source]]\nurl = \"sqlite:///srv/app.db\"\nname = \"shop.db\"\n\
             on_error = \"partial\"\n\
             [[source]]\nurl = \"file:///etc/shop\"\n\
             [[source]]\ncommand = [\"redis-cli\", \"--rdb\", \"-\"]\nname = \"redis.rdb\"\n\
             verify = [\"redis-check-rdb\", \"-\"]\nallow_empty = true\n",
        )
        .unwrap();
        let names: Vec<_> = asked.wanted.iter().map(|w| w.name.as_str()).collect();
        assert_eq!(names, ["shop.db", "redis.rdb"]);
        assert_eq!(asked.paths, ["/etc/shop"]);
        assert!(asked.wanted[0].may_fail && !asked.wanted[0].may_be_empty);
        assert!(asked.wanted[1].may_be_empty && !asked.wanted[1].may_fail);
    }

    #[test]
    fn what_a_file_of_sources_cannot_hold() {
        for (text, says) in [
            ("[[source]]\nname = \"x\"\n", "either url or command"),
            (
                "[[source]]\nurl = \"sqlite:///a\"\nx = 1\n",
                "no option \"x\"",
            ),
            ("[[sourcs]]\nurl = \"sqlite:///a\"\n", "\"sourcs\""),
            (
                "[[source]]\nurl = \"file:///a\"\nname = \"x\"\n",
                "no options",
            ),
            ("[[source]]\ncommand = \"ls\"\n", "list of words"),
            ("source = 1\n", "\"source\""),
            ("[[source]\n", "no TOML"),
            (
                "[[source]]\nurl = \"postgres://a:b@c/d\"\n",
                "holds a password",
            ),
        ] {
            let failure = file(text).err().unwrap();
            assert!(
                failure.message.contains(says),
                "{text}: {}",
                failure.message
            );
            assert!(failure.message.contains("sources.toml"));
        }
    }

    #[test]
    fn file_sources() {
        let path = |typed: &str| file_path(OsStr::new(typed)).unwrap();
        assert_eq!(path("file:///etc"), Some("/etc".into()));
        assert_eq!(path("file:etc"), Some("etc".into()));
        assert_eq!(path("sqlite:///a"), None);
        assert!(file_path(OsStr::new("file://")).is_err());
    }
}

//! What the global options and the environment mean together. The only place that reads
//! environment variables; docs/environment.md lists them.

use std::ffi::{OsStr, OsString};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use hucha_store::backend::Limits;
use zeroize::Zeroizing;

use crate::args::GlobalArgs;
use crate::errors::Failure;
use crate::sizes::parse_size;

/// Looks up an environment variable; empty ones count as unset.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// A variable of this process, for what users write in their files.
pub fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// Where a password or key comes from, when it is not typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Secret {
    /// A password in a variable.
    Plain(Zeroizing<Vec<u8>>),
    /// A password in a file.
    File(PathBuf),
    /// A command that prints a password.
    Command(OsString),
    /// A key file.
    KeyFile(PathBuf),
}

/// How much is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Results and errors.
    Quiet,
    /// Summaries, and progress on a terminal.
    Normal,
    /// Progress in plain lines, notes.
    Verbose,
    /// Every entry.
    Entries,
}

/// What holds for the whole run.
#[derive(Debug, Clone)]
pub struct Settings {
    repository: Option<OsString>,
    /// The first of the options and variables that is given.
    pub secret: Option<Secret>,
    /// The next password of `key add` and `key change`.
    pub new_password: Option<Zeroizing<Vec<u8>>>,
    /// The folder of all local caches; `None`: no cache.
    pub cache: Option<PathBuf>,
    /// Results as JSON.
    pub json: bool,
    /// Progress is shown wherever stderr leads.
    pub progress: bool,
    /// How much is told.
    pub level: Level,
    /// Nothing is changed.
    pub dry_run: bool,
    /// How fast bytes may come and go.
    pub limits: Limits,
    /// User name for new snapshots, where the environment tells it.
    pub user: Option<String>,
}

impl Settings {
    /// From what was typed and the environment.
    ///
    /// # Errors
    /// When a password was typed on the command line, or a rate is none.
    pub fn new(global: &GlobalArgs, variables: Variables<'_>) -> Result<Settings, Failure> {
        refuse_password(global)?;
        let variable = |name: &str| variables(name).filter(|v| !v.is_empty());
        let user = variable("USER").or_else(|| variable("LOGNAME"));
        Ok(Settings {
            repository: global
                .repository
                .clone()
                .or_else(|| variable("HUCHA_REPOSITORY")),
            secret: secret(global, &variable),
            new_password: variable("HUCHA_NEW_PASSWORD").map(plain),
            cache: cache(global, &variable),
            json: global.json,
            progress: global.progress,
            level: match (global.quiet, global.verbose) {
                (true, _) => Level::Quiet,
                (false, 0) => Level::Normal,
                (false, 1) => Level::Verbose,
                (false, _) => Level::Entries,
            },
            dry_run: global.dry_run,
            limits: Limits {
                upload: rate(global.limit_upload.as_deref())?,
                download: rate(global.limit_download.as_deref())?,
            },
            user: user.map(|name| name.to_string_lossy().into_owned()),
        })
    }

    /// The repository's folder.
    ///
    /// # Errors
    /// When none is given, or it is nothing that this version can use.
    pub fn repository(&self) -> Result<PathBuf, Failure> {
        let Some(typed) = &self.repository else {
            let failure = Failure::usage("no repository given");
            return Err(failure.hint("use -r FOLDER, or set HUCHA_REPOSITORY"));
        };
        location(typed)
    }
}

/// Bytes a second.
fn rate(typed: Option<&str>) -> Result<Option<NonZeroU64>, Failure> {
    let Some(typed) = typed else { return Ok(None) };
    let bytes = typed.strip_suffix("/s").unwrap_or(typed);
    let bytes = parse_size(bytes).map_err(Failure::usage)?;
    let none = || Failure::usage(format_args!("{typed:?}: nothing would ever get through"));
    NonZeroU64::new(bytes).ok_or_else(none).map(Some)
}

fn refuse_password(global: &GlobalArgs) -> Result<(), Failure> {
    if global.password.is_none() {
        return Ok(());
    }
    let message = "a password on the command line can be read by everybody on this machine";
    Err(Failure::usage(message).hint("use --password-file, --password-command, or the prompt"))
}

fn plain(value: OsString) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(value.into_encoded_bytes())
}

/// Options come before variables; of the variables, the first in this order.
fn secret(global: &GlobalArgs, variable: Variables<'_>) -> Option<Secret> {
    let path = |path: OsString| PathBuf::from(path);
    let typed = (global.key_file.clone().map(Secret::KeyFile))
        .or_else(|| global.password_file.clone().map(Secret::File))
        .or_else(|| global.password_command.clone().map(Secret::Command));
    typed
        .or_else(|| variable("HUCHA_KEY_FILE").map(path).map(Secret::KeyFile))
        .or_else(|| variable("HUCHA_PASSWORD_FILE").map(path).map(Secret::File))
        .or_else(|| variable("HUCHA_PASSWORD_COMMAND").map(Secret::Command))
        .or_else(|| variable("HUCHA_PASSWORD").map(plain).map(Secret::Plain))
}

fn cache(global: &GlobalArgs, variable: Variables<'_>) -> Option<PathBuf> {
    if global.no_cache {
        return None;
    }
    let base = || {
        let xdg = variable("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .filter(|p| p.is_absolute());
        xdg.or_else(|| variable("HOME").map(|home| Path::new(&home).join(".cache")))
            .or_else(|| variable("LOCALAPPDATA").map(PathBuf::from))
    };
    global
        .cache_dir
        .clone()
        .or_else(|| base().map(|base| base.join("hucha")))
}

/// A folder, with or without `file:` in front. Something like `s3:` is refused: it would make a
/// folder of that name. A folder that is really called so can be written `./s3:…`.
fn location(typed: &OsStr) -> Result<PathBuf, Failure> {
    let text = typed.as_encoded_bytes();
    let colon = text.iter().position(|c| *c == b':').unwrap_or(0);
    let scheme = std::str::from_utf8(text.get(..colon).unwrap_or_default()).unwrap_or_default();
    let letters = scheme
        .bytes()
        .all(|c| c.is_ascii_alphanumeric() || b"+-.".contains(&c));
    // One letter is a drive.
    if scheme.len() < 2 || !letters || scheme.starts_with('.') {
        return Ok(PathBuf::from(typed));
    }
    if scheme != "file" {
        let message = format!("repositories at \"{scheme}:\" are not supported yet");
        return Err(Failure::usage(message).hint("this version keeps repositories in folders"));
    }
    let rest = text.get(colon + 1..).unwrap_or_default();
    let rest = match rest.strip_prefix(b"//") {
        Some(path) if path.starts_with(b"/") => path,
        _ => rest,
    };
    match rest.is_empty() {
        true => Err(Failure::usage("\"file:\" needs a folder after it")),
        false => Ok(PathBuf::from(os_string(rest, typed))),
    }
}

#[cfg(unix)]
fn os_string(bytes: &[u8], _: &OsStr) -> OsString {
    use std::os::unix::ffi::OsStrExt;
    OsStr::from_bytes(bytes).to_owned()
}

#[cfg(not(unix))]
fn os_string(bytes: &[u8], _: &OsStr) -> OsString {
    String::from_utf8_lossy(bytes).into_owned().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(global: &GlobalArgs, set: &[(&str, &str)]) -> Settings {
        let look = |name: &str| {
            let found = set.iter().find(|(n, _)| *n == name);
            found.map(|(_, v)| OsString::from(v))
        };
        Settings::new(global, &look).unwrap()
    }

    #[test]
    fn options_come_before_variables() {
        let set = [
            ("HUCHA_REPOSITORY", "/env"),
            ("HUCHA_PASSWORD", "p"),
            ("HUCHA_PASSWORD_FILE", "/f"),
            ("HOME", "/home/ana"),
        ];
        let settings = with(&GlobalArgs::default(), &set);
        assert_eq!(settings.repository().unwrap(), Path::new("/env"));
        assert_eq!(settings.secret, Some(Secret::File("/f".into())));
        assert_eq!(
            settings.cache.as_deref(),
            Some(Path::new("/home/ana/.cache/hucha"))
        );
        let typed = GlobalArgs {
            repository: Some("/typed".into()),
            password_command: Some("pass".into()),
            no_cache: true,
            verbose: 3,
            ..GlobalArgs::default()
        };
        let settings = with(&typed, &set);
        assert_eq!(settings.repository().unwrap(), Path::new("/typed"));
        assert_eq!(settings.secret, Some(Secret::Command("pass".into())));
        assert_eq!((settings.cache, settings.level), (None, Level::Entries));
    }

    #[test]
    fn empty_variables_are_unset() {
        let settings = with(
            &GlobalArgs::default(),
            &[("HUCHA_PASSWORD", ""), ("XDG_CACHE_HOME", "x")],
        );
        assert_eq!((settings.secret, settings.cache), (None, None));
    }

    #[test]
    fn a_typed_password_is_refused() {
        let typed = GlobalArgs {
            password: Some(Some("x".into())),
            ..GlobalArgs::default()
        };
        assert!(Settings::new(&typed, &|_| None).is_err());
    }

    #[test]
    fn locations() {
        let read = |text: &str| location(OsStr::new(text)).ok();
        for (text, path) in [
            ("/a/b", "/a/b"),
            ("file:/a", "/a"),
            ("file:///a", "/a"),
            ("file:a", "a"),
            ("./s3:a", "./s3:a"),
            ("C:\\a", "C:\\a"),
            ("a/b:c", "a/b:c"),
        ] {
            assert_eq!(read(text), Some(path.into()), "{text}");
        }
        for bad in ["s3:bucket", "sftp://host/a", "rest:http://x", "file:"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}

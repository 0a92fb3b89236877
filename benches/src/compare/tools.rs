//! The tools that are compared: how each is told to do the same things.
//!
//! All run with their own defaults, encrypted with a password (bupstash: with its key), each with a
//! repository and a cache of its own.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::measure::Call;

/// A program that keeps snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// This project's.
    Hucha,
    /// restic.
    Restic,
    /// rustic.
    Rustic,
    /// borg 1.x.
    Borg,
    /// bupstash.
    Bupstash,
}

const KINDS: [Kind; 5] = [
    Kind::Hucha,
    Kind::Restic,
    Kind::Rustic,
    Kind::Borg,
    Kind::Bupstash,
];

/// A tool that was found, with a folder of its own.
#[derive(Debug, Clone)]
pub struct Tool {
    /// Which one.
    pub kind: Kind,
    /// Its program.
    program: OsString,
    /// Its name and version, as it tells them.
    pub version: String,
    /// Holds repository, cache and keys.
    home: PathBuf,
    /// Whether a key file opens the repository instead of a password.
    pub by_key_file: bool,
}

impl Kind {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Hucha => "hucha",
            Kind::Restic => "restic",
            Kind::Rustic => "rustic",
            Kind::Borg => "borg",
            Kind::Bupstash => "bupstash",
        }
    }
}

/// The tool of this project.
pub fn own(hucha: &Path, homes: &Path) -> Option<Tool> {
    present(hucha, homes)
        .into_iter()
        .find(|tool| tool.kind == Kind::Hucha)
}

/// Every tool that answers when asked for its version; hucha is `hucha` itself.
pub fn present(hucha: &Path, homes: &Path) -> Vec<Tool> {
    let tool = |kind: Kind| {
        let program = match kind {
            Kind::Hucha => hucha.as_os_str().to_owned(),
            _ => kind.name().into(),
        };
        let ask = match kind {
            Kind::Hucha | Kind::Restic => "version",
            Kind::Rustic | Kind::Borg | Kind::Bupstash => "--version",
        };
        let output = Command::new(&program).arg(ask).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let words = text.split_whitespace().take(2).collect::<Vec<_>>();
        output.status.success().then(|| Tool {
            kind,
            home: homes.join(kind.name()),
            by_key_file: false,
            version: words.join(" "),
            program,
        })
    };
    KINDS.into_iter().filter_map(tool).collect()
}

impl Tool {
    /// One that is never run.
    #[cfg(test)]
    pub fn of_test() -> Tool {
        Tool {
            kind: Kind::Hucha,
            program: OsString::new(),
            version: "hucha".to_owned(),
            home: PathBuf::new(),
            by_key_file: false,
        }
    }

    /// The same tool with another folder of its own.
    pub fn at(&self, home: PathBuf) -> Tool {
        Tool {
            home,
            ..self.clone()
        }
    }

    /// hucha with the same repository, opened by the key file of [`Tool::add_key_file`].
    pub fn with_key_file(&self) -> Tool {
        Tool {
            by_key_file: true,
            version: format!("{} (key file)", self.version),
            ..self.clone()
        }
    }

    /// What its repository takes up lies here.
    pub fn repository(&self) -> PathBuf {
        self.home.join("repository")
    }

    /// Everything of its own.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// What it finds in its environment.
    pub fn variables(&self) -> Vec<(String, OsString)> {
        let prefix = match self.kind {
            Kind::Hucha => "HUCHA",
            Kind::Restic => "RESTIC",
            Kind::Rustic => "RUSTIC",
            Kind::Borg => "BORG",
            Kind::Bupstash => "BUPSTASH",
        };
        let location = match self.kind {
            Kind::Borg => "BORG_REPO".to_owned(),
            _ => format!("{prefix}_REPOSITORY"),
        };
        let password = match self.kind {
            Kind::Borg => "BORG_PASSPHRASE".to_owned(),
            _ => format!("{prefix}_PASSWORD"),
        };
        let cache = self.home.join("cache").into_os_string();
        let key = if self.by_key_file {
            (format!("{prefix}_KEY_FILE"), self.key_file().into())
        } else {
            (password, "bench".into())
        };
        vec![
            (location, self.repository().into()),
            key,
            (format!("{prefix}_CACHE_DIR"), cache.clone()),
            ("XDG_CACHE_HOME".into(), cache),
            ("HOME".into(), self.home.clone().into()),
            ("BUPSTASH_KEY".into(), self.key_file().into()),
        ]
    }

    fn key_file(&self) -> PathBuf {
        self.home.join("key")
    }

    /// Makes the repository.
    pub fn init(&self) -> Vec<Call> {
        let key = self.key_file();
        match self.kind {
            Kind::Hucha | Kind::Restic | Kind::Rustic => vec![self.call(["init"])],
            Kind::Borg => vec![self.call(["init", "-e", "repokey-blake2"])],
            Kind::Bupstash => vec![
                self.call([OsString::from("new-key"), "-o".into(), key.into()]),
                self.call(["init"]),
            ],
        }
    }

    /// Makes a key file that opens the repository of hucha too.
    pub fn add_key_file(&self) -> Vec<Call> {
        let words = ["key", "add", "--new-key-file"].map(OsString::from);
        vec![self.call(words.into_iter().chain([self.key_file().into()]))]
    }

    /// Opens the repository and does next to nothing.
    pub fn open(&self) -> Vec<Call> {
        match self.kind {
            Kind::Hucha | Kind::Restic | Kind::Rustic => vec![self.call(["key", "list"])],
            Kind::Borg | Kind::Bupstash => vec![self.call(["list"])],
        }
    }

    /// Stores `source` as it is in this night.
    pub fn snapshot(&self, night: &str, source: &Path) -> Vec<Call> {
        let source = source.as_os_str();
        let words: Vec<OsString> = match self.kind {
            Kind::Hucha => vec!["snapshot".into(), "--tag".into(), night.into()],
            Kind::Restic | Kind::Rustic => vec!["backup".into(), "--tag".into(), night.into()],
            Kind::Borg => vec![
                "create".into(),
                "-C".into(),
                "zstd,3".into(),
                format!("::{night}").into(),
            ],
            Kind::Bupstash => vec!["put".into(), format!("name={night}").into()],
        };
        vec![self.call(words.into_iter().chain([source.to_owned()]))]
    }

    /// Restores a night into an empty folder.
    pub fn restore(&self, night: &str, source: &Path, target: &Path) -> Vec<Call> {
        let target = target.as_os_str();
        match self.kind {
            Kind::Hucha => {
                let words = ["restore", "latest", "--tag", night].map(OsString::from);
                vec![self.call(words.into_iter().chain([target.to_owned()]))]
            }
            Kind::Restic => {
                let words = ["restore", "latest", "--tag", night, "--target"].map(OsString::from);
                vec![self.call(words.into_iter().chain([target.to_owned()]))]
            }
            Kind::Rustic => {
                let from = OsString::from(format!("latest:{}", source.display()));
                let words = [
                    "restore".into(),
                    "--filter-tags".into(),
                    OsString::from(night),
                ];
                vec![self.call(words.into_iter().chain([from, target.to_owned()]))]
            }
            Kind::Borg => {
                let mut call = self.call([OsString::from("extract"), format!("::{night}").into()]);
                call.folder = Some(target.into());
                vec![call]
            }
            Kind::Bupstash => vec![self.call([
                OsString::from("restore"),
                "--into".into(),
                target.to_owned(),
                format!("name={night}").into(),
            ])],
        }
    }

    /// Where the restored source stands then.
    pub fn restored(&self, source: &Path, target: &Path) -> PathBuf {
        match self.kind {
            Kind::Hucha | Kind::Restic | Kind::Borg => {
                target.join(source.strip_prefix("/").unwrap_or(source))
            }
            Kind::Rustic | Kind::Bupstash => target.to_owned(),
        }
    }

    /// Reads and checks every stored byte; bupstash has no such thing.
    pub fn check(&self) -> Option<Vec<Call>> {
        match self.kind {
            Kind::Hucha | Kind::Restic | Kind::Rustic => {
                Some(vec![self.call(["check", "--read-data"])])
            }
            Kind::Borg => Some(vec![self.call(["check", "--verify-data"])]),
            Kind::Bupstash => None,
        }
    }

    /// Forgets all but the last two snapshots and frees their space.
    pub fn collect(&self, nights: &[String]) -> Vec<Call> {
        let keep = ["forget", "--keep-last", "2"];
        match self.kind {
            // Most of what stands there goes: hucha asks whether that is meant.
            Kind::Hucha => vec![self.call(keep), self.call(["gc", "--force"])],
            Kind::Restic => vec![self.call(keep.into_iter().chain(["--prune"]))],
            Kind::Rustic => vec![self.call(keep.into_iter().chain([
                "--prune",
                "--instant-delete",
                "--keep-pack",
                "0s",
                "--keep-delete",
                "0s",
            ]))],
            Kind::Borg => vec![
                self.call(["prune", "--keep-last", "2"]),
                self.call(["compact"]),
            ],
            Kind::Bupstash => {
                let old = nights.iter().rev().skip(2);
                let names = old.map(|n| self.call(["rm".into(), format!("name={n}")]));
                names.chain([self.call(["gc"])]).collect()
            }
        }
    }

    /// Its program with other words.
    pub fn call<A: Into<OsString>>(&self, words: impl IntoIterator<Item = A>) -> Call {
        let words = words.into_iter().map(Into::into);
        Call {
            argv: [self.program.clone()].into_iter().chain(words).collect(),
            folder: None,
        }
    }
}

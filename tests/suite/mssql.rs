//! SQL Server: the real client library against the fake of `hucha_tests::fakes::tds`. First by the
//! library, then by the binary. No live server was ever seen.

mod failures;
mod program;
mod restores;
mod sealed;
mod taken;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hucha_sources::child::Stopper;
use hucha_sources::database::scratch::Scratch;
use hucha_sources::database::{self, Context, DatabaseError, Settings};
use hucha_tests::fakes::tds::{Database, Fake, Setup};

use taken::{Taken, take};

/// What must stand nowhere.
const PASSWORD: &str = "Ge!heim's 7];--";
/// The folder that both sides see, as the server does.
const SERVER_DIR: &str = r"C:\Back up's";

/// A server and a folder that both sides see.
struct Stage {
    keep: tempfile::TempDir,
    fake: Fake,
    context: Context,
}

impl Stage {
    fn new() -> Stage {
        Stage::with(false)
    }

    fn with(encrypts: bool) -> Stage {
        let keep = tempfile::tempdir().unwrap();
        let folder = keep.path().join("both");
        fs::create_dir(&folder).unwrap();
        let fake = Fake::start(Setup {
            user: "hucha".to_owned(),
            password: PASSWORD.to_owned(),
            folders: vec![(SERVER_DIR.to_owned(), folder)],
            encrypts,
        });
        let fake = fake.unwrap();
        let users = Database::new("users", &[("dbo.account", 120), ("sales.order", 0)]);
        fake.engine().databases.insert("users".to_owned(), users);
        let context = Context {
            stopper: Stopper::default(),
            variables: Arc::new(|name| (name == "SQLCMDPASSWORD").then(|| PASSWORD.into())),
            scratch: Scratch::new(keep.path().join("scratch")),
            stall: Duration::from_secs(30),
            stamp: "20261127_163000".to_owned(),
        };
        Stage {
            keep,
            fake,
            context,
        }
    }

    /// The folder that both sides see, as we do.
    fn folder(&self) -> PathBuf {
        self.keep.path().join("both")
    }

    /// An address of a database, with more options.
    fn address(&self, name: &str, options: &str) -> String {
        let name = name.replace(' ', "%20");
        format!(
            "mssql://hucha@127.0.0.1:{}/{name}?server_dir=C:%5CBack%20up's&local_dir={}&{options}",
            self.fake.port(),
            self.folder().display()
        )
    }

    fn open(&self, name: &str, options: &str) -> Box<dyn database::Database> {
        let settings = Settings::of_address(&self.address(name, options)).unwrap();
        database::open(settings).unwrap()
    }

    /// A database on a line that is not sealed.
    fn plain(&self, name: &str) -> Box<dyn database::Database> {
        self.open(name, "encrypt=no")
    }

    fn take(&self, name: &str) -> Result<Taken, DatabaseError> {
        take(self.plain(name).as_ref(), &self.context)
    }

    /// Names of all databases.
    fn names(&self) -> Vec<String> {
        self.fake.engine().databases.keys().cloned().collect()
    }

    /// Fails unless the folder is empty and the server heard no password.
    #[track_caller]
    fn assert_clean(&self) {
        assert_eq!(names(&self.folder()), [""; 0]);
        let log = self.fake.engine().log.join("\n");
        assert!(!log.contains(PASSWORD), "{log}");
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect()
}

/// Fails unless an error is of a kind, says this, and nothing secret.
#[track_caller]
fn assert_told(error: &DatabaseError, cause: database::Cause, words: &str) {
    let all = error.in_one();
    assert_eq!(error.cause, cause, "{all}");
    assert!(all.contains(words), "{words:?} is not in: {all}");
    assert!(!all.contains(PASSWORD), "{all}");
}

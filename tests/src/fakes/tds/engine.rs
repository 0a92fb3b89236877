//! Databases of the fake: tables whose rows stand on pages, files that exist by name only, and the
//! switches that make it fail.

use std::collections::BTreeMap;

use super::bak::checksum;

/// Bytes of a page.
pub const PAGE: usize = 8192;
/// Rows that fit on one.
const ROWS: u32 = 50;

/// All that the server has.
#[derive(Debug, Default)]
pub struct Engine {
    /// Databases by their names.
    pub databases: BTreeMap<String, Database>,
    /// What goes wrong.
    pub switches: Switches,
    /// Every statement that came.
    pub log: Vec<String>,
    /// How many logins succeeded.
    pub logins: usize,
    /// Whether a backup is held in its middle.
    pub is_held: bool,
}

/// What goes wrong, or otherwise.
#[derive(Debug, Clone, Default)]
pub struct Switches {
    /// The login may not back up.
    pub deny_backup: bool,
    /// The login may not look into backup files, or restore.
    pub deny_create: bool,
    /// The server's account may not write into the folder.
    pub deny_folder: bool,
    /// The disk is full in the middle of a backup.
    pub full_disk: bool,
    /// The connection breaks in the middle of a backup.
    pub break_backup: bool,
    /// A backup waits in its middle, and says nothing.
    pub hold_backup: bool,
    /// Whoever cancels a backup that waits must wait as well.
    pub is_deaf: bool,
    /// Somebody else takes the place in a database for a single user, whenever it is free.
    pub intruder: bool,
    /// The login may not set owners, and what makes a database trustworthy.
    pub deny_settings: bool,
    /// A byte of a backup changes once it is written.
    pub flip: bool,
    /// A backup ends early, and the server does not notice.
    pub cut: bool,
    /// A row comes and goes while a backup is made.
    pub busy: bool,
    /// The connection breaks in the middle of a restore.
    pub break_restore: bool,
    /// A restore loses the last page.
    pub lose_page: bool,
    /// The check of a database finds damage.
    pub damaged: bool,
    /// No database gets this name, once for each time that it stands here.
    pub refused_names: Vec<String>,
    /// The login does not see changes of tables.
    pub hide_changes: bool,
    /// The server is too old to say where new databases lie.
    pub is_old: bool,
}

/// A database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Database {
    /// Names of tables with their schemas, `dbo.sales`.
    pub tables: Vec<String>,
    /// Its pages.
    pub pages: Vec<Page>,
    /// Its files.
    pub files: Vec<File>,
    /// `ONLINE`, `OFFLINE`, `RESTORING`.
    pub state: String,
    /// `MULTI_USER`, `SINGLE_USER`, `RESTRICTED_USER`.
    pub access: String,
    /// Name of its collation.
    pub collation: String,
    /// Whether it is encrypted.
    pub is_encrypted: bool,
    /// Whether a transaction is open when a backup begins.
    pub has_open_transaction: bool,
    /// The login that owns it.
    pub owner: String,
    /// Whether it is trusted by the server.
    pub is_trustworthy: bool,
    /// Whether its Service Broker is on.
    pub has_broker: bool,
    /// Whether somebody else has the only place in it.
    pub is_taken: bool,
    /// Rows that came or went, by table.
    pub changes: BTreeMap<String, u64>,
}

/// A file of a database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct File {
    /// Its name inside the database.
    pub logical: String,
    /// Its path.
    pub physical: String,
    /// `D`, `L`.
    pub kind: String,
}

/// A page of one table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    table: u32,
    rows: u32,
    version: u32,
}

impl Page {
    /// Its bytes: checksum, numbers, and a filling that follows from them.
    pub fn encode(&self) -> Vec<u8> {
        let mut page = vec![0; 4];
        for number in [self.table, self.rows, self.version] {
            page.extend(number.to_le_bytes());
        }
        let mut state = u64::from(checksum(&page)) | 1;
        while page.len() < PAGE {
            // xorshift64
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            page.extend(state.to_le_bytes());
        }
        let sum = checksum(&page[4..]).to_le_bytes();
        page[..4].copy_from_slice(&sum);
        page
    }

    /// `None` when the checksum is wrong.
    pub fn decode(bytes: &[u8]) -> Option<Page> {
        let number = |at: usize| {
            let four = bytes.get(at..at + 4)?.first_chunk()?;
            Some(u32::from_le_bytes(*four))
        };
        let page = Page {
            table: number(4)?,
            rows: number(8)?,
            version: number(12)?,
        };
        let is_sound = bytes.len() == PAGE && number(0)? == checksum(&bytes[4..]);
        is_sound.then_some(page)
    }
}

impl Database {
    /// One with tables and rows, in two files.
    pub fn new(name: &str, tables: &[(&str, u32)]) -> Database {
        let file = |kind: &str, end: &str| File {
            logical: format!("{name}{end}"),
            physical: format!(
                r"C:\Data\{name}{end}.{}",
                if kind == "D" { "mdf" } else { "ldf" }
            ),
            kind: kind.to_owned(),
        };
        let mut database = Database {
            files: vec![file("D", ""), file("L", "_log")],
            state: "ONLINE".to_owned(),
            access: "MULTI_USER".to_owned(),
            collation: "Modern_Spanish_CI_AS".to_owned(),
            owner: "hucha".to_owned(),
            ..Database::default()
        };
        for (table, rows) in tables {
            database.tables.push((*table).to_owned());
            database.insert(table, *rows);
        }
        database.changes.clear();
        database
    }

    /// Adds rows to a table that is there.
    pub fn insert(&mut self, table: &str, rows: u32) {
        let Some(number) = self.tables.iter().position(|name| name == table) else {
            return;
        };
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        let mut left = rows;
        while left > 0 {
            let with_room = |page: &&mut Page| page.table == number && page.rows < ROWS;
            let page = match self.pages.iter_mut().find(with_room) {
                Some(page) => page,
                None => {
                    let page = Page {
                        table: number,
                        rows: 0,
                        version: 0,
                    };
                    self.pages.push(page);
                    continue;
                }
            };
            let some = left.min(ROWS - page.rows);
            page.rows += some;
            page.version += 1;
            left -= some;
        }
        *self.changes.entry(table.to_owned()).or_default() += u64::from(rows);
    }

    /// The rows of every table.
    pub fn rows(&self) -> BTreeMap<String, u64> {
        let count = |(number, name): (usize, &String)| {
            let here = self
                .pages
                .iter()
                .filter(|page| page.table as usize == number);
            (name.clone(), here.map(|page| u64::from(page.rows)).sum())
        };
        self.tables.iter().enumerate().map(count).collect()
    }
}

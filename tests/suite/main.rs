//! The end-to-end suite: the real binary in a hermetic environment, and the house rules.
//!
//! | module | shows |
//! |---|---|
//! | [`tidy`] | the house rules hold in every file of the workspace |
//! | [`first_steps`] | every command from `init` to `gc`, streams, keys, what is written for whom |
//! | [`exit_codes`] | each exit code, and which snapshots a failed run leaves: none |
//! | [`paths`] | how typed paths are stored, how a restore lands, how snapshots are named |
//! | [`real_tree`] | a real tree comes back equal by `rsync`; an unchanged one costs two objects |
//! | [`archive`] | tar and zip files, read back by the programs of others |
//! | [`restore`] | a restore over what is there: what it fetches, spares and removes |
//! | [`excludes`] | what `snapshot` reads and leaves out, by every option that says so |
//! | [`changing`] | files that change or cannot be read are said, exit 3, the rest is there |
//! | [`retention`] | which snapshots `forget` keeps and why; tags, labels, protection |
//! | [`scale`] | a million files in a folder and a file of 20 GiB in bounded memory |
//! | [`processes`] | ten processes at once on one repository |
//! | [`checkpoints`] | a killed snapshot goes on where it stopped; which files are read |
//! | [`kills`] | `kill -9` at random moments of every command |
//! | [`commands`] | `find`, `diff`, `rewrite`, exported keys, caches |
//! | [`cache`] | whatever happens to the local cache, commands succeed and say nothing wrong |
//! | [`full_disk`] | on a full disk `snapshot` fails in one sentence; `forget`, `gc` make room |
//! | [`json`] | what every command prints with `--json` follows docs/json.md |
//! | [`sqlite`] | SQLite under load in both journal modes, restores, bounds of blocking, failures |
//! | [`postgres`] | PostgreSQL under pgbench, parts, exchange, whatever must leave no snapshot |
//! | [`mysql`] | MariaDB while amounts are moved, all comes back equal, parts, exchange, failures |
//! | [`postgres_versions`] | every form comes back equal on other versions, where they are there |
//! | [`databases`] | several sources in one snapshot, all or nothing, the manifest, misuse |
//! | [`rehearsals`] | what a rehearsal finds, and that it is remembered |
//! | [`children`] | what programs of databases are given: no secret; temporary files are private |
//! | [`repair`] | what comes back, what is healed or given up, and what kills of repair leave |
//! | [`guide`] | every command of the user guide, page by page |
//! | [`firestore`] | Firestore, played and Google's emulator: one moment, restores, each failure |
//! | [`mssql`] | SQL Server against a fake of it: captures, restores, exchanges, every failure |
//! | [`damage`] | damaged objects are named, the rest is restored; the table of docs/damage.md |
//!
//! CI runs small sizes; `HUCHA_TESTS=full` runs those of the issue on the release binary.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails where it stands"
)]

mod archive;
mod cache;
mod changing;
mod checkpoints;
mod children;
mod commands;
mod damage;
mod databases;
mod excludes;
mod exit_codes;
mod firestore;
mod first_steps;
mod full_disk;
mod growth;
mod guide;
mod json;
mod kills;
mod mssql;
mod mysql;
mod paths;
mod postgres;
mod postgres_versions;
mod processes;
mod real_tree;
mod rehearsals;
mod repair;
mod restore;
mod retention;
mod scale;
mod sqlite;
mod support;
mod tidy;

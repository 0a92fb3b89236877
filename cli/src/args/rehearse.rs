//! Options of `rehearse`.

use std::ffi::OsString;

use clap::Args;

use super::FilterArgs;

/// `rehearse`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hucha rehearse latest
  hucha rehearse latest --expect 'inventory: SELECT count(*) > 1000 FROM public.sale'
  hucha rehearse latest:inventory --server postgres://admin@test-server/postgres

Every member is restored into a place of its own, looked through, and removed: a SQLite file beside
the cache; a PostgreSQL or MariaDB server that is started for this on a socket, when its programs
are installed, else one that is named; files are read from first to last, and compared. The result
is kept in the repository, and `hucha snapshots` shows it.")]
pub struct RehearseArgs {
    /// Id, `latest`, `latest~2`, a date or time; then `:` and a member, to rehearse it alone
    #[arg(value_name = "SNAPSHOT[:MEMBER]")]
    pub snapshot: OsString,
    /// Which snapshots `latest` and dates choose from
    #[command(flatten)]
    pub filter: FilterArgs,
    /// Restore members of this kind to this server, under new names, instead of one that is started
    /// for it; several times
    #[arg(long, value_name = "ADDRESS")]
    pub server: Vec<String>,
    /// A query of a restored member whose first value must be true; several times
    #[arg(long, value_name = "MEMBER: SQL")]
    pub expect: Vec<String>,
    /// A database that sends nothing for so many seconds hangs, and is given up
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub stall_timeout: u64,
}

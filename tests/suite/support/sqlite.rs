//! SQLite by Python's module: what is tested does not set its own stage.

use std::path::Path;
use std::process::Command;

use super::tool;

/// Runs a script in a SQLite database, which is made when it is not there; answers the first value
/// of a query.
pub fn sqlite(path: &Path, script: &str, query: &str) -> String {
    let program = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); \
                   c.executescript(sys.argv[2]); print(c.execute(sys.argv[3]).fetchone()[0])";
    let mut python = Command::new("python3");
    tool(python.args(["-c", program]).arg(path).args([script, query]))
        .trim_end()
        .to_owned()
}

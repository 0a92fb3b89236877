//! The fake of SQL Server by hand: `fake-mssql FOLDER`. It prints the port, user and password, has
//! the databases `users`, `inventario` and `auditoria`, and runs until its input ends.
//!
//! ```text
//! SQLCMDPASSWORD=geheim hucha snapshot \
//!     --source "mssql://hucha@127.0.0.1:PORT/users?server_dir=FOLDER&encrypt=no"
//! ```

use std::error::Error;
use std::io::Read;
use std::path::PathBuf;

use hucha_tests::fakes::tds::{Database, Fake, Setup};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os()
        .nth(1)
        .ok_or("usage: fake-mssql FOLDER")?;
    let folder = PathBuf::from(folder).canonicalize()?;
    let fake = Fake::start(Setup {
        user: "hucha".to_owned(),
        password: "geheim".to_owned(),
        folders: vec![(folder.display().to_string(), folder)],
        encrypts: true,
    })?;
    let tables = [("dbo.account", 120), ("dbo.sale", 5000)];
    for name in ["users", "inventario", "auditoria"] {
        let database = Database::new(name, &tables);
        fake.engine().databases.insert(name.to_owned(), database);
    }
    println!("port {}, user hucha, password geheim", fake.port());
    // Until whoever started it is done.
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

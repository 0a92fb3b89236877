//! How the vendor's programs reach the server, and what it is asked. User, password and
//! everything else about the connection stand in an option file in a private folder, which is the
//! first argument; SQL comes on standard input. So neither is in any list of processes.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use zeroize::Zeroizing;

use super::told::{Doing, told};
use super::tools::{self, Product, Tool, Version};
use super::{Mysql, option_file};
use crate::child::Child;
use crate::database::Context;
use crate::database::error::{Cause, DatabaseError};
use crate::database::scratch::PrivateFolder;

/// Most bytes that an answer has.
const MOST: usize = 256 << 20;

/// Whatever else is set, a dump makes and uses no database.
pub(super) const ONE_DATABASE: [&str; 2] = ["--skip-databases", "--skip-all-databases"];

/// Variables by which programs would be led elsewhere, or told what stands in the option file.
const OTHERS: [&str; 5] = [
    "MYSQL_PWD",
    "MYSQL_HOST",
    "MYSQL_TCP_PORT",
    "MYSQL_UNIX_PORT",
    "MYSQL_GROUP_SUFFIX",
];

/// How connections are encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SslMode {
    /// As the client does by itself.
    Default,
    /// Not at all.
    Disabled,
    /// Encrypted, or it fails.
    Required,
    /// And the server's certificate is checked.
    Verified,
}

/// A way to the server that was tried.
pub(super) struct Access<'a> {
    pub context: &'a Context,
    folder: PrivateFolder,
    file: PathBuf,
    pub client: Tool,
    pub server: Version,
    database: String,
    /// Seconds that statements wait for locks of other programs; `None`: as the server has it.
    pub patience: Option<u32>,
}

impl Mysql {
    /// Writes the option file, finds a client and asks the server for its version.
    pub(super) fn access<'a>(&self, context: &'a Context) -> Result<Access<'a>, DatabaseError> {
        let client = tools::client(None, &self.tool_dir, context)?;
        let folder = context.scratch.folder()?;
        let text = self.option_file(client.version.product, context)?;
        let file = folder.file("client.cnf", text.as_bytes())?;
        let mut access = Access {
            context,
            folder,
            file,
            server: client.version,
            client,
            database: self.database.clone(),
            patience: None,
        };
        let answer = access.ask(
            None,
            "SELECT VERSION(); SHOW SESSION STATUS LIKE 'Ssl_cipher'",
        )?;
        let text = |row: usize, column: usize| answer.get(row).and_then(|r| r.get(column));
        let version = text(0, 0).map_or("", String::as_str);
        access.server = Version::of_server(version).ok_or_else(|| {
            let what = format!("the server says that its version is {version:?}");
            DatabaseError::new(Cause::Failed, what)
        })?;
        let wants = matches!(self.ssl_mode, SslMode::Required | SslMode::Verified);
        if wants && text(1, 1).is_none_or(String::is_empty) {
            let what = "the connection is not encrypted, although ssl_mode asks for it";
            return Err(DatabaseError::new(Cause::Denied, what)
                .hint("let the server offer TLS, or connect by TCP to one that does"));
        }
        if access.client.version.product != access.server.product {
            let own = tools::client(Some(access.server.product), &self.tool_dir, context)?;
            if own.version.product == access.server.product {
                // Options are not called the same by both.
                let text = self.option_file(own.version.product, context)?;
                access.file = access.folder.file("own.cnf", text.as_bytes())?;
                access.client = own;
            }
        }
        Ok(access)
    }

    fn option_file(
        &self,
        product: Product,
        context: &Context,
    ) -> Result<Zeroizing<String>, DatabaseError> {
        let mut text = Zeroizing::new(String::with_capacity(4096));
        if let Some(path) = &self.defaults_file {
            if !path.is_file() {
                let what = format!("the option file {} is not there", path.display());
                return Err(DatabaseError::new(Cause::Absent, what));
            }
            option_file::connection(path, &mut text)?;
        }
        text.push_str("[client]\n");
        let mut set = |name: &str, value: &str| {
            let value = quoted_option(value);
            let _ = writeln!(*text, "{name}={}", value.as_str());
        };
        let address = &self.address;
        if let Some(user) = &address.user {
            set("user", user);
        }
        if let Some(socket) = &self.socket {
            set("socket", socket);
            set("protocol", "socket");
        } else if let Some(host) = &address.host {
            set("host", host);
            if let Some(port) = address.port {
                set("port", &port.to_string());
                // "localhost" would mean the socket otherwise.
                set("protocol", "tcp");
            }
        }
        match &self.password {
            Some(from) => set("password", &from.fetch(context)?),
            None => {
                if let Some(password) = context.variable("MYSQL_PWD").map(Zeroizing::new) {
                    set("password", &password);
                }
            }
        }
        for (name, value) in &self.ssl_files {
            set(name, value);
        }
        for (name, value) in ssl_options(self.ssl_mode, product) {
            set(name, value);
        }
        set("max-allowed-packet", "1G");
        Ok(text)
    }
}

fn ssl_options(mode: SslMode, product: Product) -> &'static [(&'static str, &'static str)] {
    match (mode, product) {
        (SslMode::Default, _) => &[],
        (SslMode::Disabled, Product::MariaDb) => &[("ssl", "0")],
        (SslMode::Required, Product::MariaDb) => &[("ssl", "1")],
        (SslMode::Verified, Product::MariaDb) => &[("ssl", "1"), ("ssl-verify-server-cert", "1")],
        (SslMode::Disabled, Product::MySql) => &[("ssl-mode", "DISABLED")],
        (SslMode::Required, Product::MySql) => &[("ssl-mode", "REQUIRED")],
        (SslMode::Verified, Product::MySql) => &[("ssl-mode", "VERIFY_IDENTITY")],
    }
}

/// A value in an option file.
fn quoted_option(value: &str) -> Zeroizing<String> {
    let mut quoted = Zeroizing::new(String::with_capacity(value.len() * 2 + 2));
    quoted.push('"');
    for letter in value.chars() {
        match letter {
            '\\' => quoted.push_str("\\\\"),
            '"' => quoted.push_str("\\\""),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            _ => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

impl Access<'_> {
    /// A program with the option file as its first argument.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        let mut first = std::ffi::OsString::from("--defaults-file=");
        first.push(&self.file);
        command.arg(first).arg("--default-character-set=utf8mb4");
        for name in OTHERS {
            command.env_remove(name);
        }
        // MySQL's clients read `~/.mylogin.cnf` after all else unless another one is named.
        command.env(
            "MYSQL_TEST_LOGIN_FILE",
            self.folder.path().join("no-login-file"),
        );
        command
    }

    /// The client, told to stop at the first error.
    pub fn client_command(&self, database: Option<&str>) -> Command {
        let mut command = self.command(&self.client.path);
        command.args(["--batch", "--skip-column-names"]);
        if let Some(database) = database {
            command.arg(format!("--database={database}"));
        }
        command
    }

    /// Whether the client can be kept from running programs that a dump names.
    pub fn has_sandbox(&self) -> bool {
        self.client.version.product == Product::MariaDb
            && tools::about(&self.client.path, "--help", self.context)
                .is_ok_and(|help| help.contains("--sandbox"))
    }

    /// Runs statements, and answers the rows of all of them as text. NULL is `NULL`.
    pub fn ask(
        &self,
        database: Option<&str>,
        sql: &str,
    ) -> Result<Vec<Vec<String>>, DatabaseError> {
        let printed = self.run(self.client_command(database), self.patient(sql))?;
        let text = String::from_utf8_lossy(&printed);
        Ok(text
            .lines()
            .map(|line| line.split('\t').map(unescaped).collect())
            .collect())
    }

    /// Runs statements, and answers the first value.
    pub fn value(
        &self,
        database: Option<&str>,
        sql: &str,
    ) -> Result<Option<String>, DatabaseError> {
        let mut command = self.client_command(database);
        // Only this form tells NULL from the text.
        command.arg("--xml");
        let printed = self.run(command, sql)?;
        Ok(first_field(&String::from_utf8_lossy(&printed)))
    }

    /// Runs what a dump client wrote.
    pub fn load(&self, database: &str, sql: &str) -> Result<(), DatabaseError> {
        self.load_with(self.client_command(Some(database)), sql)
    }

    /// Runs what a dump client wrote, and goes on when a statement fails, of which nothing is told.
    pub fn load_what_goes(&self, database: &str, sql: &str) -> Result<(), DatabaseError> {
        let mut command = self.client_command(Some(database));
        command.arg("--force");
        self.load_with(command, sql)
    }

    fn load_with(&self, mut command: Command, sql: &str) -> Result<(), DatabaseError> {
        // Line ends within routines stay as they are.
        command.args(["--binary-mode", "--comments"]);
        let sql = self.patient(&super::filter::of_any_database(sql));
        self.run(command, sql).map(drop)
    }

    fn patient(&self, sql: &str) -> String {
        match self.patience {
            None => sql.to_owned(),
            Some(seconds) => format!("SET SESSION lock_wait_timeout = {seconds};\n{sql}"),
        }
    }

    /// What the dump client writes of a database, or of some of its tables or views.
    pub fn dumped(
        &self,
        tool: &tools::Tool,
        options: &[&str],
        database: &str,
        tables: &[&str],
    ) -> Result<String, DatabaseError> {
        let mut command = self.command(&tool.path);
        command.args([
            "--no-data",
            "--skip-dump-date",
            "--comments",
            "--quote-names",
            // Definitions need no lock, and one would be waited for.
            "--skip-lock-tables",
        ]);
        command.args(ONE_DATABASE);
        if tool.version.product == Product::MySql {
            command.args(["--set-gtid-purged=OFF", "--no-tablespaces"]);
        }
        command.args(options).arg("--").arg(database).args(tables);
        let printed = self.run(command, "")?;
        let text = String::from_utf8(printed).map_err(|_| {
            let what = format!("definitions in {database} are no UTF-8 text");
            DatabaseError::new(Cause::Failed, what)
        })?;
        match text.trim_end().ends_with("-- Dump completed") {
            true => Ok(text),
            false => Err(DatabaseError::new(
                Cause::Incomplete,
                format!("definitions in {database} cannot all be read"),
            )),
        }
    }

    /// Feeds a program, and answers what it prints.
    pub fn run(&self, command: Command, sql: impl Into<Vec<u8>>) -> Result<Vec<u8>, DatabaseError> {
        let name = name_of(&command);
        let mut spec = self.context.spec(&name, command);
        spec.is_fed = true;
        // A statement may take long.
        spec.stall = None;
        let failed = |e| told(e, Doing::Asking, &self.database);
        let mut child = Child::start(spec).map_err(failed)?;
        let input = child.input();
        let sql = sql.into();
        let writer = std::thread::spawn(move || {
            // What the program did not take, it tells itself.
            input.map(|mut input| input.write_all(&sql))
        });
        let printed = child.read_all(MOST).map_err(failed);
        let _ = writer.join();
        printed
    }
}

/// What a program is called.
pub(super) fn name_of(command: &Command) -> String {
    let path = Path::new(command.get_program());
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// A field as the client prints it.
fn unescaped(field: &str) -> String {
    let mut text = String::with_capacity(field.len());
    let mut letters = field.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => match letters.next() {
                Some('n') => text.push('\n'),
                Some('t') => text.push('\t'),
                Some('0') => text.push('\0'),
                Some(other) => text.push(other),
                None => text.push('\\'),
            },
            _ => text.push(letter),
        }
    }
    text
}

/// The first field of an answer in XML.
fn first_field(xml: &str) -> Option<String> {
    let (_, rest) = xml.split_once("<field name=\"")?;
    let (_, rest) = rest.split_once('"')?;
    let rest = rest.strip_prefix('>')?;
    let (text, _) = rest.split_once("</field>")?;
    let plain = text.replace("&lt;", "<").replace("&gt;", ">");
    Some(plain.replace("&quot;", "\"").replace("&amp;", "&"))
}

/// A condition of SQL: a column of `information_schema` has the name of a database. It compares
/// without case, also where names are told apart by it; the first half lets the server look at
/// one database only.
pub(super) fn is_database(column: &str, name: &str) -> String {
    let name = literal(name);
    format!(
        "{column} = {name} AND (@@lower_case_table_names <> 0 \
         OR CAST({column} AS BINARY) = CAST({name} AS BINARY))"
    )
}

/// A name in SQL.
pub(super) fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// Text in SQL, whatever the mode of the session.
pub(super) fn literal(text: &str) -> String {
    if text.is_empty() {
        return "''".to_owned();
    }
    let mut sql = "CONVERT(0x".to_owned();
    for byte in text.bytes() {
        let _ = write!(sql, "{byte:02X}");
    }
    sql.push_str(" USING utf8mb4)");
    sql
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_fields() {
        assert_eq!(
            quoted_option("a\"b'c#d\\e\n").as_str(),
            "\"a\\\"b'c#d\\\\e\\n\""
        );
        assert_eq!(unescaped("a\\tb\\\\n\\n"), "a\tb\\n\n");
        assert_eq!(quoted("a`b"), "`a``b`");
        assert_eq!(literal("a'"), "CONVERT(0x6127 USING utf8mb4)");
        let field = |rest: &str| first_field(&format!("<row>\n\t<field name=\"x\"{rest}"));
        assert_eq!(field(" xsi:nil=\"true\" />\n"), None);
        assert_eq!(field(">NULL</field>").as_deref(), Some("NULL"));
        assert_eq!(field("></field>").as_deref(), Some(""));
        assert_eq!(
            field(">&lt;a&gt;&amp;lt;</field>").as_deref(),
            Some("<a>&lt;")
        );
    }
}

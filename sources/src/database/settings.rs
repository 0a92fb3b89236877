//! How a source is written: an address (`postgres://user@host/database?format=plain`), or a table
//! with an `url` and options. Options mean the same in both. What nobody asks for is an error.

use std::collections::BTreeMap;
use std::path::PathBuf;

use url::Url;

use super::error::DatabaseError;
use super::secret::SecretFrom;

/// An option's value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Text. In an address everything is.
    Text(String),
    /// A whole number.
    Number(i64),
    /// Yes or no.
    Flag(bool),
    /// Several texts.
    List(Vec<String>),
}

/// Where a database is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Address {
    /// What kind of source it is.
    pub scheme: String,
    /// User name.
    pub user: Option<String>,
    /// Host name; `None` when it is empty.
    pub host: Option<String>,
    /// Port.
    pub port: Option<u16>,
    /// What follows the host, without `%xx`; begins with `/` where there is any.
    pub path: String,
}

/// A source as it was written.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where it is.
    pub address: Address,
    options: BTreeMap<String, Value>,
}

impl Settings {
    /// From an address alone.
    ///
    /// # Errors
    /// When it is none, or holds a password.
    pub fn of_address(typed: &str) -> Result<Settings, DatabaseError> {
        Settings::new(typed, BTreeMap::new())
    }

    /// From an address and options; those of the address count as well.
    ///
    /// # Errors
    /// When the address is none or holds a password, or an option is given twice.
    pub fn new(
        typed: &str,
        mut options: BTreeMap<String, Value>,
    ) -> Result<Settings, DatabaseError> {
        let (plain, user) = without_lonely_user(typed);
        let url = Url::parse(&plain).map_err(|e| {
            let what = format!(
                "{:?} is no address of a source: {e}",
                without_secrets(typed)
            );
            DatabaseError::setting(what).hint(
                "like sqlite:///var/lib/shop/app.db; in a name %2F stands for /, %23 for #, %3F \
                 for ?",
            )
        })?;
        if url.fragment().is_some() {
            // The standard drops what follows.
            let what = format!("the address {:?} holds a #", without_secrets(typed));
            return Err(DatabaseError::setting(what).hint("write %23 instead"));
        }
        let has_password = user.is_some_and(|user| user.contains(':'));
        if url.password().is_some() || has_password {
            let what = format!(
                "the address {} holds a password, which everybody on this machine can read",
                without_password(&url)
            );
            return Err(DatabaseError::setting(what).hint(
                "leave it out, and give password_file, password_command or password_env \
                 (?password_file=/etc/hucha/db.password)",
            ));
        }
        for (name, value) in url.query_pairs() {
            let value = Value::Text(value.into_owned());
            if let Some(known) = options.insert(name.clone().into_owned(), value.clone()) {
                let both = match (known, value) {
                    (Value::Text(a), Value::Text(b)) => vec![a, b],
                    (Value::List(mut a), Value::Text(b)) => {
                        a.push(b);
                        a
                    }
                    _ => return Err(DatabaseError::setting(format!("{name} is given twice"))),
                };
                options.insert(name.into_owned(), Value::List(both));
            }
        }
        let mut address = address(&url)?;
        if let Some(user) = user {
            address.user = Some(decoded(user)?);
        }
        Ok(Settings { address, options })
    }

    /// An option that is text.
    ///
    /// # Errors
    /// When it is something else.
    pub fn text(&mut self, name: &str) -> Result<Option<String>, DatabaseError> {
        match self.options.remove(name) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(_) => Err(wrong(name, "one text")),
        }
    }

    /// An option that is one of some words; the first when it is not given.
    ///
    /// # Errors
    /// When it is another.
    pub fn word<T: Copy>(&mut self, name: &str, words: &[(&str, T)]) -> Result<T, DatabaseError> {
        let typed = self.text(name)?;
        let found = match &typed {
            Some(typed) => words.iter().find(|(word, _)| word == typed),
            None => words.first(),
        };
        found.map(|(_, value)| *value).ok_or_else(|| {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            wrong(name, &format!("one of: {}", words.join(", ")))
        })
    }

    /// An option that is several texts: a list, or text with commas.
    ///
    /// # Errors
    /// When it is something else.
    pub fn list(&mut self, name: &str) -> Result<Vec<String>, DatabaseError> {
        let texts = match self.options.remove(name) {
            None => Vec::new(),
            Some(Value::Text(text)) => vec![text],
            Some(Value::List(texts)) => return Ok(texts),
            Some(_) => return Err(wrong(name, "a list of texts")),
        };
        let parts = texts.iter().flat_map(|text| text.split(','));
        let parts = parts.map(str::trim).filter(|part| !part.is_empty());
        Ok(parts.map(str::to_owned).collect())
    }

    /// An option that is yes or no; no when it is not given.
    ///
    /// # Errors
    /// When it is something else.
    pub fn flag(&mut self, name: &str) -> Result<bool, DatabaseError> {
        match self.options.remove(name) {
            None => Ok(false),
            Some(Value::Flag(flag)) => Ok(flag),
            Some(Value::Text(text)) => match text.as_str() {
                "true" | "yes" | "1" | "" => Ok(true),
                "false" | "no" | "0" => Ok(false),
                _ => Err(wrong(name, "true or false")),
            },
            Some(_) => Err(wrong(name, "true or false")),
        }
    }

    /// An option that is a number.
    ///
    /// # Errors
    /// When it is none, or negative.
    pub fn number(&mut self, name: &str) -> Result<Option<u64>, DatabaseError> {
        let number = match self.options.remove(name) {
            None => return Ok(None),
            Some(Value::Number(number)) => u64::try_from(number).ok(),
            Some(Value::Text(text)) => text.parse().ok(),
            Some(_) => None,
        };
        number.map(Some).ok_or_else(|| wrong(name, "a number"))
    }

    /// Where the password comes from: `password_file`, `password_command` or `password_env`.
    ///
    /// # Errors
    /// When more than one is given, or the password itself.
    pub fn password(&mut self) -> Result<Option<SecretFrom>, DatabaseError> {
        if self.options.remove("password").is_some() {
            let what = "a password does not stand among the options of a source";
            return Err(DatabaseError::setting(what)
                .hint("give password_file, password_command or password_env"));
        }
        let file = self.text("password_file")?.map(PathBuf::from);
        let all = [
            file.map(SecretFrom::File),
            self.text("password_command")?.map(SecretFrom::Command),
            self.text("password_env")?.map(SecretFrom::Variable),
        ];
        let mut given = all.into_iter().flatten();
        match (given.next(), given.next()) {
            (first, None) => Ok(first),
            _ => Err(DatabaseError::setting(
                "more than one of password_file, password_command and password_env is given",
            )),
        }
    }

    /// Ends the reading of options.
    ///
    /// # Errors
    /// When there is one that nobody asked for.
    pub fn finish(self) -> Result<(), DatabaseError> {
        match self.options.keys().next() {
            None => Ok(()),
            Some(name) => {
                let scheme = &self.address.scheme;
                let what = format!("a {scheme} source has no option {name:?}");
                Err(DatabaseError::setting(what))
            }
        }
    }
}

/// `postgres://ana@/shop` is no address by the standard, but PostgreSQL's programs take it: the
/// user is told apart, and the rest is one.
fn without_lonely_user(typed: &str) -> (String, Option<&str>) {
    let split = || {
        let (scheme, rest) = typed.split_once("://")?;
        let (user, path) = rest.split_once("@/")?;
        let is_user = !user.is_empty() && !user.contains(['/', '?', '#']);
        is_user.then(|| (format!("{scheme}:///{path}"), Some(user)))
    };
    split().unwrap_or_else(|| (typed.to_owned(), None))
}

fn wrong(name: &str, wanted: &str) -> DatabaseError {
    DatabaseError::setting(format!("the option {name} must be {wanted}"))
}

/// An address that may hold a password anywhere before its last `@`, or among its options.
fn without_secrets(typed: &str) -> String {
    let (scheme, rest) = match typed.split_once("//") {
        Some((scheme, rest)) => (format!("{scheme}//"), rest),
        None => (String::new(), typed),
    };
    let (user, place) = match rest.rsplit_once('@') {
        Some((_, place)) => ("…@", place),
        None => ("", rest),
    };
    let place = place.split('?').next().unwrap_or_default();
    format!("{scheme}{user}{place}")
}

fn without_password(url: &Url) -> String {
    let mut url = url.clone();
    // It fails only for addresses that can have no password.
    let _ = url.set_password(None);
    url.set_query(None);
    url.to_string()
}

fn address(url: &Url) -> Result<Address, DatabaseError> {
    let host = url.host_str().filter(|host| !host.is_empty());
    let user = (!url.username().is_empty()).then(|| decoded(url.username()));
    Ok(Address {
        scheme: url.scheme().to_owned(),
        user: user.transpose()?,
        host: host.map(decoded).transpose()?,
        port: url.port(),
        path: decoded(url.path())?,
    })
}

/// Without `%xx`.
fn decoded(text: &str) -> Result<String, DatabaseError> {
    let text = percent_encoding::percent_decode_str(text).decode_utf8();
    let text = text.map_err(|_| DatabaseError::setting("an address must be UTF-8 text"))?;
    match text.contains('\0') {
        true => Err(DatabaseError::setting("an address cannot hold a NUL")),
        false => Ok(text.into_owned()),
    }
}

impl Address {
    /// The only name in the path: of a database.
    pub fn database(&self) -> Option<&str> {
        let name = self.path.strip_prefix('/').unwrap_or(&self.path);
        (!name.is_empty()).then_some(name)
    }
}

impl std::fmt::Display for Address {
    /// As an address without options, the same for the same place.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://", self.scheme)?;
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        write!(f, "{}", self.host.as_deref().unwrap_or_default())?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        write!(f, "{}", self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let mut settings =
            Settings::of_address("postgres://ana%40x@db.local:5433/in%20v?format=plain&a=1&a=2")
                .unwrap();
        let address = settings.address.clone();
        assert_eq!(address.user.as_deref(), Some("ana@x"));
        assert_eq!(address.host.as_deref(), Some("db.local"));
        assert_eq!(
            (address.port, address.database()),
            (Some(5433), Some("in v"))
        );
        assert_eq!(settings.text("format").unwrap().as_deref(), Some("plain"));
        assert_eq!(settings.list("a").unwrap(), ["1", "2"]);
        settings.finish().unwrap();
        let local = Settings::of_address("postgres://ana%40x@/shop?host=/run")
            .unwrap()
            .address;
        assert_eq!((local.user.as_deref(), local.host), (Some("ana@x"), None));
        assert_eq!(local.path, "/shop");
        assert!(Settings::of_address("postgres://ana:x@/shop").is_err());
        let file = Settings::of_address("sqlite:///var/lib/app.db").unwrap();
        assert_eq!(
            (file.address.host, file.address.path.as_str()),
            (None, "/var/lib/app.db")
        );
    }

    #[test]
    fn a_password_is_refused_and_not_repeated() {
        let error = Settings::of_address("postgres://ana:geheim@db/x").unwrap_err();
        assert!(error.in_one().contains("holds a password"), "{error}");
        assert!(!error.in_one().contains("geheim"));
        let mut settings = Settings::of_address("postgres://db/x?password=geheim").unwrap();
        let error = settings.password().unwrap_err();
        assert!(!error.in_one().contains("geheim"));
    }

    #[test]
    fn an_address_that_is_none_is_told_without_what_may_be_a_password() {
        for typed in [
            "mysql://root:s3/cr#et@db/shop",
            "mysql://root:12/cr#et@db/shop",
            "mysql://root:s3/cr@et@db/shop",
            "mysql://root:s3/cr?et@db/shop?password=cret",
            "mysql//root:s3/cret@db/shop",
        ] {
            let error = Settings::of_address(typed).map(|s| format!("{:?}", s.address));
            let told = error.unwrap_err().in_one();
            assert!(told.contains("…@db/shop"), "{typed}: {told}");
            for secret in ["s3", "12", "cr", "et@", "root"] {
                let told = told.replace("a secret", "");
                assert!(!told.contains(secret), "{typed}: {told}");
            }
        }
    }

    #[test]
    fn options_that_nobody_knows_or_that_are_wrong() {
        let settings = Settings::of_address("sqlite:///a?frmat=plain").unwrap();
        assert!(settings.finish().unwrap_err().what.contains("\"frmat\""));
        let options = BTreeMap::from([
            ("n".to_owned(), Value::Number(-1)),
            ("f".to_owned(), Value::Text("maybe".into())),
            ("w".to_owned(), Value::Text("c".into())),
        ]);
        let mut settings = Settings::new("sqlite:///a", options).unwrap();
        assert!(settings.number("n").is_err());
        assert!(settings.flag("f").is_err());
        assert!(settings.word("w", &[("a", 1), ("b", 2)]).is_err());
        assert_eq!(settings.word("x", &[("a", 1), ("b", 2)]).unwrap(), 1);
    }
}

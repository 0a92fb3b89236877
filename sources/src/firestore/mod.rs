//! Google Firestore (native mode), through the REST interface of its data: no managed export, so
//! no storage bucket and no extra permission.
//!
//! Everything is read at one moment that the service knows (`pages`); a stream for each
//! collection at the root holds a line for each document in it and below it (`value`). Documents
//! go back in batches (`restore`), into a database that may hold others. [`export`] makes plain
//! JSON files. Indexes, security rules and settings of a database are no part of this.

mod auth;
mod client;
mod commit;
mod compare;
pub mod export;
mod list;
mod merge;
mod names;
mod pace;
mod pages;
mod reading;
mod restore;
mod value;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use hucha_store::source::Profile;
use serde_json::json;

use crate::child::lock;
use crate::database::error::{Cause, DatabaseError};
use crate::database::secret::SecretFrom;
use crate::database::settings::Settings;
use crate::database::{
    Bytes, Capture, Captured, Context, Database, Preflight, RestoreOptions, Restored, Stored,
    Stream, Verified,
};
use auth::{Account, Who};
use client::{Client, SERVICE, Way};
use names::Place;
use pace::{Clock, Machine};
use pages::{Ahead, Limit, Pages, Range, Sorted, What};
use reading::{Lines, Notes};

/// Who reads needs this role, who writes that.
const VIEWER: &str = "roles/datastore.viewer";
const USER: &str = "roles/datastore.user";

/// A Firestore database.
pub struct Firestore {
    place: Place,
    credentials: Credentials,
    /// Where the service is, when not where Google's is.
    endpoint: Option<String>,
    only: Vec<String>,
    except: Vec<String>,
    reading: How,
    with_times: bool,
    has_recovery: bool,
    /// Calls at the same time.
    connections: usize,
    page: u64,
    tries: u32,
    clock: Arc<dyn Clock>,
}

/// How documents are asked for.
#[derive(Debug, Clone, Copy)]
enum How {
    /// By queries, a collection cut into so many parts.
    Query(u64),
    /// Collection by collection.
    List,
}

/// What was said of who asks.
enum Credentials {
    /// The key of a service account; else what the environment names.
    File(Option<PathBuf>),
    Token(SecretFrom),
}

impl Firestore {
    /// From `firestore://PROJECT/DATABASE`; without a database `(default)`. Options are described
    /// in docs/guide/firestore.md.
    ///
    /// # Errors
    /// When there is no project, or an option is wrong.
    pub fn new(mut settings: Settings) -> Result<Firestore, DatabaseError> {
        let address = settings.address.clone();
        let like = "like firestore://my-project/(default)";
        let Some(project) = address.host.clone() else {
            let what = "firestore: needs the id of a project";
            return Err(DatabaseError::setting(what).hint(like));
        };
        let database = address.database().unwrap_or("(default)").to_owned();
        if address.user.is_some() || address.port.is_some() || database.contains('/') {
            let what = format!("{address} is no address of a Firestore database");
            return Err(DatabaseError::setting(what).hint(like));
        }
        let file = settings.text("credentials_file")?.map(PathBuf::from);
        let credentials = match (token(&mut settings)?, file) {
            (Some(_), Some(_)) => {
                let what = "both credentials_file and a token are given";
                return Err(DatabaseError::setting(what).hint("give one of them"));
            }
            (Some(token), None) => Credentials::Token(token),
            (None, file) => Credentials::File(file),
        };
        let list = settings.word("read", &[("query", false), ("list", true)])?;
        let parts = settings.number("partitions")?;
        let reading = match (list, parts) {
            (true, Some(_)) => {
                return Err(DatabaseError::setting(
                    "partitions do not go with read=list",
                ));
            }
            (true, None) => How::List,
            (false, parts) => How::Query(parts.unwrap_or(1).clamp(1, 10_000)),
        };
        let most =
            |number: Option<u64>, usual: u64, most: u64| number.unwrap_or(usual).clamp(1, most);
        let connections = most(settings.number("connections")?, 4, 64);
        let tries = most(settings.number("tries")?, 6, 20);
        let firestore = Firestore {
            place: Place { project, database },
            credentials,
            endpoint: endpoint(settings.text("endpoint")?)?,
            only: settings.list("collections")?,
            except: settings.list("exclude_collections")?,
            reading,
            with_times: settings.flag("times")?,
            has_recovery: settings.flag("pitr")?,
            connections: usize::try_from(connections).unwrap_or(4),
            page: most(settings.number("page_size")?, 300, 10_000),
            tries: u32::try_from(tries).unwrap_or(6),
            clock: Arc::new(Machine(Instant::now())),
        };
        settings.finish()?;
        Ok(firestore)
    }

    /// Who asks, and where.
    fn who(&self, context: &Context) -> Result<(Who, String), DatabaseError> {
        if let Some(host) = context.variable("FIRESTORE_EMULATOR_HOST") {
            return Ok((Who::Emulator, format!("http://{host}")));
        }
        let endpoint = self.endpoint.clone().unwrap_or_else(|| SERVICE.to_owned());
        let path = match &self.credentials {
            Credentials::Token(from) => return Ok((Who::Token(from.clone()), endpoint)),
            Credentials::File(Some(path)) => path.clone(),
            Credentials::File(None) => {
                let named = (context.variables)("GOOGLE_APPLICATION_CREDENTIALS");
                let named = named.filter(|path| !path.is_empty()).map(PathBuf::from);
                named.ok_or_else(|| {
                    let what = format!("nobody says who may use {}", self.place);
                    DatabaseError::new(Cause::Denied, what).hint(
                        "give credentials_file (the key of a service account), or set \
                         GOOGLE_APPLICATION_CREDENTIALS, or give token_command",
                    )
                })?
            }
        };
        let account = Account::read(&path)?;
        if !is_private(&account.token_uri) {
            let what = format!(
                "{} would send the key's proof unencrypted",
                account.token_uri
            );
            return Err(DatabaseError::new(Cause::Denied, what));
        }
        Ok((Who::Account(Box::new(account)), endpoint))
    }

    fn client(&self, context: &Context, role: &'static str) -> Result<Arc<Client>, DatabaseError> {
        let (who, endpoint) = self.who(context)?;
        let way = Way {
            endpoint: &endpoint,
            place: &self.place,
            who: &Arc::new(who),
            clock: &self.clock,
            tries: self.tries,
            role,
        };
        Ok(Arc::new(Client::new(&way, context)?))
    }

    /// Whether a collection at the root is read or written.
    fn wants(&self, collection: &str) -> bool {
        let is_in = |list: &[String]| list.iter().any(|name| name == collection);
        (self.only.is_empty() || is_in(&self.only)) && !is_in(&self.except)
    }

    /// Whether all collections are.
    fn wants_all(&self) -> bool {
        self.only.is_empty() && self.except.is_empty()
    }

    fn what(&self, collection: &str, time: &str) -> What {
        What {
            collection: collection.to_owned(),
            time: time.to_owned(),
            page: self.page,
            with_times: self.with_times,
        }
    }

    /// The documents of a collection and what is below it; with a warning where they cannot be
    /// read as was asked.
    fn documents(
        &self,
        client: &Arc<Client>,
        what: &What,
    ) -> Result<(Sorted, Option<String>), DatabaseError> {
        let range = |from: Option<String>, to: Option<String>| {
            Box::new(Range {
                client: Arc::clone(client),
                what: what.clone(),
                bounds: (from, to),
                last: None,
                limit: Limit::new(what.page),
            }) as Box<dyn Pages>
        };
        let mut warning = None;
        let parts = match self.reading {
            How::List => {
                let walk = list::Walk::new(Arc::clone(client), what.clone(), self.connections);
                vec![Box::new(walk) as Box<dyn Pages>]
            }
            How::Query(1) => vec![range(None, None)],
            How::Query(parts) => {
                let cuts = pages::cuts(client, what, parts)?;
                if cuts.is_none() {
                    warning = Some("the service cannot cut collections into parts".to_owned());
                }
                let mut bounds: Vec<_> = cuts.unwrap_or_default().into_iter().map(Some).collect();
                bounds.insert(0, None);
                bounds.push(None);
                let pairs = bounds.windows(2);
                let pair = |pair: &[Option<String>]| match pair {
                    [from, to] => Some(range(from.clone(), to.clone())),
                    _ => None,
                };
                pairs.filter_map(pair).collect()
            }
        };
        Ok((
            Sorted::new(Box::new(Ahead::new(parts, self.connections))),
            warning,
        ))
    }

    /// One stream, of a collection at the root.
    fn stream<'a>(
        &'a self,
        client: &Arc<Client>,
        what: What,
        notes: &Arc<Mutex<Notes>>,
    ) -> Stream<'a> {
        let (client, notes) = (Arc::clone(client), Arc::clone(notes));
        Stream {
            name: format!("{}.ndjson", names::file_name(&what.collection)),
            profile: Profile::DUMP,
            open: Box::new(move || {
                let (documents, warning) = self.documents(&client, &what)?;
                lock(&notes).warnings.extend(warning);
                Ok(Box::new(Lines {
                    client,
                    what,
                    documents,
                    notes,
                    rows: BTreeMap::new(),
                    buffer: Vec::new(),
                    at: 0,
                }) as Box<dyn Bytes>)
            }),
        }
    }
}

/// Where a token comes from that somebody else fetched.
fn token(settings: &mut Settings) -> Result<Option<SecretFrom>, DatabaseError> {
    let all = [
        settings.text("token_env")?.map(SecretFrom::Variable),
        settings
            .text("token_file")?
            .map(PathBuf::from)
            .map(SecretFrom::File),
        settings.text("token_command")?.map(SecretFrom::Command),
    ];
    let mut given = all.into_iter().flatten();
    match (given.next(), given.next()) {
        (first, None) => Ok(first),
        _ => Err(DatabaseError::setting(
            "more than one of token_env, token_file and token_command is given",
        )),
    }
}

/// Whether what is sent to an address stays unread: it is encrypted, or for this machine.
fn is_private(address: &str) -> bool {
    let local = |url: &url::Url| match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    };
    url::Url::parse(address).is_ok_and(|url| match url.scheme() {
        "https" => true,
        "http" => local(&url),
        _ => false,
    })
}

fn endpoint(typed: Option<String>) -> Result<Option<String>, DatabaseError> {
    let Some(typed) = typed else {
        return Ok(None);
    };
    match is_private(&typed) {
        true => Ok(Some(typed.trim_end_matches('/').to_owned())),
        false => {
            let what = format!("the endpoint {typed} would be sent tokens unencrypted");
            Err(DatabaseError::setting(what).hint("it must begin with https://"))
        }
    }
}

impl Database for Firestore {
    fn kind(&self) -> &'static str {
        "firestore"
    }

    fn location(&self) -> String {
        self.place.to_string()
    }

    fn default_name(&self) -> String {
        match self.place.database.as_str() {
            "(default)" => self.place.project.clone(),
            other => format!("{}-{other}", self.place.project),
        }
    }

    fn preflight(&self, context: &Context) -> Result<Preflight, DatabaseError> {
        let client = self.client(context, VIEWER)?;
        pages::moment(&client, false)?;
        let server = match client.is_emulator() {
            true => "Firestore emulator",
            false => "Firestore",
        };
        Ok(Preflight {
            server: server.to_owned(),
            tool: String::new(),
        })
    }

    fn capture<'a>(&'a self, context: &'a Context) -> Result<Capture<'a>, DatabaseError> {
        let client = self.client(context, VIEWER)?;
        let time = pages::moment(&client, self.has_recovery)?;
        let mut all = pages::collections(&client, "", &time)?;
        let missing = self.only.iter().find(|name| !all.contains(name));
        if let Some(name) = missing {
            let what = format!("{} has no collection {name:?}", self.place);
            let known = all.iter().take(20).cloned().collect::<Vec<_>>().join(", ");
            return Err(DatabaseError::new(Cause::Absent, what).hint(format!("it has: {known}")));
        }
        all.retain(|name| self.wants(name));
        let notes = Arc::new(Mutex::new(Notes::default()));
        let streams = all
            .iter()
            .map(|name| self.stream(&client, self.what(name, &time), &notes));
        let streams: Vec<_> = streams.collect();
        let expected = streams.len();
        Ok(Capture {
            streams,
            at_once: self.connections,
            end: Box::new(move || {
                let notes = std::mem::take(&mut *lock(&notes));
                if notes.ended != expected {
                    let what = format!("{} of {expected} collections came whole", notes.ended);
                    return Err(DatabaseError::new(Cause::Incomplete, what));
                }
                let scope = if self.wants_all() { "all" } else { "some" };
                Ok(Captured {
                    form: "ndjson".to_owned(),
                    warnings: notes.warnings.into_iter().collect(),
                    properties: vec![
                        ("collections".to_owned(), scope.to_owned()),
                        ("database".to_owned(), self.place.database.clone()),
                        ("project".to_owned(), self.place.project.clone()),
                        ("read_time".to_owned(), time),
                    ],
                })
            }),
        })
    }

    fn restore(
        &self,
        stored: &dyn Stored,
        options: &RestoreOptions,
        context: &Context,
    ) -> Result<Restored, DatabaseError> {
        restore::restore(self, stored, options, context)
    }

    fn swap(&self, _: Restored, _: &Context) -> Result<Restored, DatabaseError> {
        let what = format!("{} cannot be exchanged with another database", self.place);
        Err(DatabaseError::setting(what).hint(
            "restore into a new database of the project and point the application at it, or \
             restore into this one",
        ))
    }

    fn verify(&self, stored: &dyn Stored, context: &Context) -> Result<Verified, DatabaseError> {
        compare::verify(self, stored, context)
    }

    /// No call of the data API removes a database: a rehearsal is for an emulator, which forgets.
    fn remove(&self, _: &str, _: &Context) -> Result<(), DatabaseError> {
        Ok(())
    }

    /// The query is the name of a collection (`companies`, `companies/a/items`); the answer is how
    /// many documents it has now.
    fn query(&self, sql: &str, context: &Context) -> Result<Option<String>, DatabaseError> {
        let name = sql.trim().trim_matches('/');
        let is_document = name.split('/').count().is_multiple_of(2);
        // An id may hold blanks, but what was meant as SQL must not count as an empty collection.
        if name.is_empty() || is_document || name.contains(char::is_whitespace) {
            let what = format!("{name:?} is no name of a collection");
            return Err(DatabaseError::setting(what)
                .hint("a query for Firestore is a collection, whose documents are counted"));
        }
        let (above, id) = name.rsplit_once('/').unwrap_or(("", name));
        let client = self.client(context, VIEWER)?;
        let query = json!({"from": [{"collectionId": id}]});
        Ok(Some(
            pages::counted(&client, above, query, None)?.to_string(),
        ))
    }
}

//! One call of Firestore's REST interface after the other: with a token, tried again as long as
//! that makes sense and not longer, its refusals told as sentences.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use zeroize::Zeroizing;

use super::auth::{Tokens, Who};
use super::names::{Place, encoded};
use super::pace::{Clock, LONGEST, pause};
use crate::database::Context;
use crate::database::error::{Cause, DatabaseError};

/// The service.
pub(super) const SERVICE: &str = "https://firestore.googleapis.com";
/// Most bytes of an answer. A page has at most some hundred documents of 1 MiB.
const MOST: u64 = 1 << 30;
/// How long making a connection may take.
const CONNECT: Duration = Duration::from_secs(30);

/// What a database is asked through. Shared by threads.
pub(super) struct Client {
    agent: ureq::Agent,
    /// Scheme, host and port.
    endpoint: String,
    /// The database.
    pub place: Place,
    who: Arc<Who>,
    tokens: Tokens,
    /// Stops it, and says how long an answer may take.
    pub context: Context,
    /// When tries are made again.
    pub clock: Arc<dyn Clock>,
    tries: u32,
    /// The role that is missing when the service refuses.
    role: &'static str,
}

/// How a client is made.
pub(super) struct Way<'a> {
    pub endpoint: &'a str,
    pub place: &'a Place,
    pub who: &'a Arc<Who>,
    pub clock: &'a Arc<dyn Clock>,
    pub tries: u32,
    pub role: &'static str,
}

/// A call that failed.
#[derive(Debug)]
pub(super) struct CallError {
    /// What to tell.
    pub error: DatabaseError,
    /// The service's own word: `ALREADY_EXISTS`; empty when it said none.
    pub status: String,
}

impl From<CallError> for DatabaseError {
    fn from(error: CallError) -> DatabaseError {
        error.error
    }
}

impl From<DatabaseError> for CallError {
    fn from(error: DatabaseError) -> CallError {
        CallError {
            error,
            status: String::new(),
        }
    }
}

/// What became of one try.
enum Try {
    Done(Value),
    /// It may go well the next time.
    Again(CallError, Option<Duration>),
    /// The token is not taken any more.
    Renew(CallError),
    Failed(CallError),
}

/// What came back.
struct Answer {
    code: u16,
    after: Option<Duration>,
    body: Zeroizing<Vec<u8>>,
}

impl Client {
    /// For a database.
    ///
    /// # Errors
    /// When no certificates can be found, or a proxy's address is none.
    pub fn new(way: &Way<'_>, context: &Context) -> Result<Client, DatabaseError> {
        let is_plain = way.endpoint.starts_with("http:");
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent("hucha")
            .proxy(if is_plain { None } else { proxy(context)? })
            .tls_config(tls(is_plain)?)
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(context.stall))
            .timeout_per_read(Some(context.stall))
            .timeout_per_write(Some(context.stall))
            .build();
        Ok(Client {
            agent: config.new_agent(),
            endpoint: way.endpoint.to_owned(),
            place: way.place.clone(),
            who: Arc::clone(way.who),
            tokens: Tokens::default(),
            context: context.clone(),
            clock: Arc::clone(way.clock),
            tries: way.tries,
            role: way.role,
        })
    }

    /// Whether this is an emulator, which reads a time in an address its own way.
    pub fn is_emulator(&self) -> bool {
        matches!(*self.who, Who::Emulator)
    }

    /// Calls a method of a document, or of the root: `POST …/documents/name:method`.
    pub fn post(&self, name: &str, method: &str, body: &Value) -> Result<Value, CallError> {
        self.call(&format!("{}:{method}", self.address(name)), Some(body))
    }

    /// Gets what is below a name, with a query.
    pub fn get(&self, name: &str, query: &str) -> Result<Value, CallError> {
        self.call(&format!("{}?{query}", self.address(name)), None)
    }

    fn address(&self, name: &str) -> String {
        let full = encoded(&self.place.full(name));
        format!("{}/v1/{full}", self.endpoint)
    }

    /// One call, tried again where that makes sense.
    fn call(&self, address: &str, body: Option<&Value>) -> Result<Value, CallError> {
        let body = body.map(Value::to_string);
        let (mut tries, mut renewed) = (0, false);
        loop {
            self.context.go_on()?;
            let token = self.token()?;
            let (error, after) = match self.attempt(address, body.as_deref(), &token) {
                Try::Done(answer) => return Ok(answer),
                Try::Failed(error) => return Err(error),
                Try::Renew(error) if renewed => return Err(error),
                Try::Renew(_) => {
                    renewed = true;
                    self.tokens.drop(&token);
                    continue;
                }
                Try::Again(error, after) => (error, after),
            };
            tries += 1;
            if tries >= self.tries || after.is_some_and(|after| after > LONGEST) {
                return Err(self.given_up(error, tries));
            }
            self.clock.wait(pause(tries - 1, after), &self.context)?;
        }
    }

    fn given_up(&self, mut error: CallError, tries: u32) -> CallError {
        if tries > 1 {
            error.error.what = format!("{} ({tries} tries)", error.error.what);
        }
        error
    }

    fn attempt(&self, address: &str, body: Option<&str>, token: &str) -> Try {
        let bearer = Zeroizing::new(format!("Bearer {token}"));
        match self.send(address, body, "application/json", Some(&bearer)) {
            Err(error) => self.broken(&error),
            Ok(answer) => self.judge(&answer),
        }
    }

    fn send(
        &self,
        address: &str,
        body: Option<&str>,
        kind: &str,
        bearer: Option<&str>,
    ) -> Result<Answer, ureq::Error> {
        let mut response = match body {
            Some(body) => {
                let mut request = self.agent.post(address).header("content-type", kind);
                if let Some(bearer) = bearer {
                    request = request.header("authorization", bearer);
                }
                request.send(body)?
            }
            None => {
                let request = self.agent.get(address);
                request
                    .header("authorization", bearer.unwrap_or_default())
                    .call()?
            }
        };
        let after = response.headers().get("retry-after");
        let after = after.and_then(|after| after.to_str().ok()?.trim().parse().ok());
        Ok(Answer {
            code: response.status().as_u16(),
            after: after.map(Duration::from_secs),
            body: Zeroizing::new(
                response
                    .body_mut()
                    .with_config()
                    .limit(MOST)
                    .read_to_vec()?,
            ),
        })
    }

    /// No answer, or half of one.
    fn broken(&self, error: &ureq::Error) -> Try {
        use ureq::Error as E;
        let what = format!("{} cannot be reached: {error}", self.endpoint);
        let told = DatabaseError::new(Cause::Unreachable, what);
        match error {
            E::Io(_) | E::Timeout(_) | E::Protocol(_) | E::ConnectionFailed | E::HostNotFound => {
                Try::Again(told.into(), None)
            }
            _ => Try::Failed(told.into()),
        }
    }

    /// What an answer says.
    fn judge(&self, answer: &Answer) -> Try {
        let parsed: Option<Value> = serde_json::from_slice(&answer.body).ok();
        if answer.code == 200 {
            let Some(value) = parsed else {
                let what = format!("an answer of {} is not whole", self.endpoint);
                return Try::Again(DatabaseError::new(Cause::Unreachable, what).into(), None);
            };
            // A stream of answers may end with an error.
            let inner = value.as_array().into_iter().flatten();
            let Some(error) = inner.filter_map(|v| v.get("error")).next().cloned() else {
                return Try::Done(value);
            };
            let code = error.get("code").and_then(Value::as_u64).unwrap_or(500);
            let code = u16::try_from(code).unwrap_or(500);
            return self.refused(code, &error, None);
        }
        let parsed = parsed.unwrap_or_default();
        let first = parsed.get(0).unwrap_or(&parsed);
        self.refused(answer.code, &first["error"], answer.after)
    }

    fn refused(&self, code: u16, error: &Value, after: Option<Duration>) -> Try {
        let status = error["status"].as_str().unwrap_or_default().to_owned();
        let said = error["message"].as_str().unwrap_or_default();
        let said: String = said.chars().take(300).collect();
        let told = CallError {
            error: self.told(code, &status, &said),
            status: status.clone(),
        };
        match (code, status.as_str()) {
            (401, _) | (_, "UNAUTHENTICATED") => Try::Renew(told),
            (
                _,
                "ABORTED" | "UNAVAILABLE" | "RESOURCE_EXHAUSTED" | "INTERNAL" | "DEADLINE_EXCEEDED",
            )
            | (429 | 500 | 502 | 503 | 504, _) => Try::Again(told, after),
            _ => Try::Failed(told),
        }
    }

    /// A refusal as a sentence.
    fn told(&self, code: u16, status: &str, said: &str) -> DatabaseError {
        let place = &self.place;
        let lower = said.to_lowercase();
        let is_old = lower.contains("read_time") || lower.contains("read time");
        let (cause, what, hint) = match code {
            _ if is_old && lower.contains("too old") => (
                Cause::Incomplete,
                format!("reading {place} took so long that its moment is gone: {said}"),
                "switch on point-in-time recovery for the database and give pitr=true, or read \
                 it over several connections: partitions=16",
            ),
            401 => (
                Cause::Denied,
                format!("{place} does not take the token: {said}"),
                "is it of this project, and not too old?",
            ),
            403 => (
                Cause::Denied,
                format!("{place} must not be used by this account: {said}"),
                match self.role {
                    "roles/datastore.user" => {
                        "give it the role roles/datastore.user; also see whether the Firestore \
                         API is on in this project"
                    }
                    _ => {
                        "give it the role roles/datastore.viewer; also see whether the Firestore \
                         API is on in this project"
                    }
                },
            ),
            404 => (
                Cause::Absent,
                format!("{place} is not there: {said}"),
                "are the project's and the database's names right?",
            ),
            429 => (
                Cause::Unreachable,
                format!("{place} has had enough for now: {said}"),
                "the project's quota may be used up; try later",
            ),
            500.. => (
                Cause::Unreachable,
                format!("{place} is not available ({code} {status}): {said}"),
                "try later",
            ),
            _ => (
                Cause::Failed,
                format!("{place} refused ({code} {status}): {said}"),
                "",
            ),
        };
        let error = DatabaseError::new(cause, what.trim_end_matches([':', ' ']));
        match hint {
            "" => error,
            hint => error.hint(hint),
        }
    }

    /// The token for the next call.
    fn token(&self) -> Result<Zeroizing<String>, DatabaseError> {
        let fetch = || match &*self.who {
            Who::Emulator => Ok((Zeroizing::new("owner".to_owned()), u64::from(u32::MAX))),
            // How long it holds is not known; the service says when it does not.
            Who::Token(from) => {
                let token = from.fetch(&self.context);
                let token = token.map_err(|e| e.of("the access token"))?;
                Ok((token, u64::from(u32::MAX)))
            }
            Who::Account(account) => self.ask_for_token(account),
        };
        self.tokens.get(self.clock.now(), fetch)
    }

    fn ask_for_token(
        &self,
        account: &super::auth::Account,
    ) -> Result<(Zeroizing<String>, u64), DatabaseError> {
        let mut tries = 0;
        loop {
            self.context.go_on()?;
            let body = account.request(self.clock.wall())?;
            let kind = "application/x-www-form-urlencoded";
            let sent = self.send(&account.token_uri, Some(&body), kind, None);
            let (error, after) = match sent {
                Ok(answer) if answer.code == 200 => return token_of(&answer.body),
                Ok(answer) if answer.code == 429 || answer.code >= 500 => {
                    let what = format!("no token can be had now ({})", answer.code);
                    (DatabaseError::new(Cause::Unreachable, what), answer.after)
                }
                Ok(answer) => return Err(not_known(account, &answer)),
                Err(e) => match self.broken(&e) {
                    Try::Failed(e) => return Err(e.error),
                    _ => {
                        let what = format!("{} cannot be reached: {e}", account.token_uri);
                        (DatabaseError::new(Cause::Unreachable, what), None)
                    }
                },
            };
            tries += 1;
            if tries >= self.tries || after.is_some_and(|after| after > LONGEST) {
                return Err(error);
            }
            self.clock.wait(pause(tries - 1, after), &self.context)?;
        }
    }
}

fn token_of(body: &[u8]) -> Result<(Zeroizing<String>, u64), DatabaseError> {
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    let holds = answer["expires_in"].as_u64().unwrap_or(600);
    match answer["access_token"].as_str() {
        Some(token) => Ok((Zeroizing::new(token.to_owned()), holds)),
        None => Err(DatabaseError::new(
            Cause::Denied,
            "the answer to a request for a token holds none",
        )),
    }
}

fn not_known(account: &super::auth::Account, answer: &Answer) -> DatabaseError {
    let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let word = |key: &str| said[key].as_str().unwrap_or_default().to_owned();
    let what = format!(
        "the service account {} gets no token: {} {}",
        account.email,
        word("error"),
        word("error_description")
    );
    DatabaseError::new(Cause::Denied, what.trim_end())
        .hint("is its key still valid, and this machine's clock right?")
}

/// Whom is trusted: whom this machine trusts.
fn tls(is_plain: bool) -> Result<TlsConfig, DatabaseError> {
    let roots = match is_plain {
        true => Vec::new(),
        false => {
            let found = rustls_native_certs::load_native_certs().certs;
            if found.is_empty() {
                let what = "this machine has no list of certificates to trust";
                return Err(DatabaseError::new(Cause::Tool, what)
                    .hint("install it; on Debian: apt-get install ca-certificates"));
            }
            found
        }
    };
    let roots = roots
        .iter()
        .map(|cert| Certificate::from_der(cert).to_owned());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::from(roots))
        .unversioned_rustls_crypto_provider(provider)
        .build())
}

/// The proxy that the environment names.
fn proxy(context: &Context) -> Result<Option<ureq::Proxy>, DatabaseError> {
    let names = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
    let Some(typed) = names.iter().find_map(|name| context.variable(name)) else {
        return Ok(None);
    };
    // It may hold a password.
    let bad = |_| DatabaseError::setting("the variable HTTPS_PROXY holds no address of a proxy");
    let proxy = ureq::Proxy::new(&typed).map_err(bad)?;
    let but = ["NO_PROXY", "no_proxy"]
        .iter()
        .find_map(|name| context.variable(name));
    let Some(but) = but else {
        return Ok(Some(proxy));
    };
    let mut builder = ureq::Proxy::builder(proxy.protocol())
        .host(proxy.host())
        .port(proxy.port());
    for one in but.split(',').map(str::trim).filter(|one| !one.is_empty()) {
        builder = builder.no_proxy(one);
    }
    if let (Some(user), Some(password)) = (proxy.username(), proxy.password()) {
        builder = builder.username(user).password(password);
    }
    builder.build().map(Some).map_err(bad)
}

//! A session with a server: connects, runs one statement after the other, waits for each as long
//! as the server shows signs of life. Blocks; what is asynchronous stays in here.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use tiberius::{AuthMethod, Client, Config, EncryptionLevel};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};

use super::tls::{SealError, seal};
use super::told::{Failure, told};
use super::wire::{Line, Wire};
use super::{SqlServer, certificates, value};
use crate::database::Context;
use crate::database::error::{Cause, DatabaseError};

/// How long a connection may take, login and all.
const CONNECT: Duration = Duration::from_secs(30);
/// How long the end of a statement that is cancelled is waited for.
const CANCEL: Duration = Duration::from_secs(5);
/// How often whoever waits looks whether to stop.
const LOOK: Duration = Duration::from_millis(100);
/// A line on which nothing came for so long is asked whether it is alive, so often.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// How long a statement may show no sign of life.
#[derive(Clone, Copy)]
pub(super) enum Patience<'a> {
    /// As long as anything may.
    Short,
    /// The same, and it is a sign of life when this number changes.
    While(&'a dyn Fn() -> u64),
    /// For ever: some statements say nothing for hours. A dead line still ends it.
    Endless,
}

/// A session.
pub(super) struct Session<'a> {
    // Before the runtime, which it needs.
    client: Client<Wire>,
    runtime: Runtime,
    came: Arc<AtomicU64>,
    context: &'a Context,
    server: String,
    /// A file that goes before a statement is cancelled.
    passing: Option<PathBuf>,
}

/// One line of an answer, by the names of its columns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Row(Vec<(String, Option<String>)>);

impl Row {
    /// A value; empty when it is NULL or there is no such column.
    pub fn text(&self, column: &str) -> &str {
        let found = self.0.iter().find(|(name, _)| name == column);
        found
            .and_then(|(_, value)| value.as_deref())
            .unwrap_or_default()
    }

    /// A number; `None` when it is none.
    pub fn number(&self, column: &str) -> Option<u64> {
        self.text(column).parse().ok()
    }

    /// Whether a number is 1.
    pub fn is(&self, column: &str) -> bool {
        self.text(column) == "1"
    }

    /// The first value.
    pub fn first(self) -> Option<String> {
        self.0.into_iter().next().and_then(|(_, value)| value)
    }
}

impl<'a> Session<'a> {
    /// Connects to the server's own database.
    pub fn open(to: &SqlServer, context: &'a Context) -> Result<Session<'a>, DatabaseError> {
        context.go_on()?;
        let password = to.password.fetch(context)?;
        let sealing = to.trust.as_ref().map(certificates::config).transpose()?;
        let server = to.server();
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| {
            DatabaseError::new(Cause::Failed, format!("no connection can be made: {e}"))
        })?;
        let mut config = Config::new();
        config.host(&to.host);
        config.port(to.port);
        config.database("master");
        config.application_name("hucha");
        config.encryption(EncryptionLevel::NotSupported);
        config.authentication(AuthMethod::sql_server(&to.user, password.as_str()));
        let connecting = async {
            let tcp = TcpStream::connect((to.host.as_str(), to.port)).await;
            let tcp = tcp.map_err(|e| Failure::Unreachable(e.to_string()))?;
            // Without these a connection is slower, or a dead one ends later.
            let _ = tcp.set_nodelay(true);
            let often = socket2::TcpKeepalive::new()
                .with_time(KEEPALIVE)
                .with_interval(KEEPALIVE);
            let _ = socket2::SockRef::from(&tcp).set_tcp_keepalive(&often);
            let line = match sealing {
                None => Line::Plain(tcp),
                Some(sealing) => {
                    let name = ServerName::try_from(to.host.clone());
                    let name = name.map_err(|e| Failure::Unreachable(e.to_string()))?;
                    let sealed = seal(tcp, name, sealing).await;
                    Line::Sealed(Box::new(sealed.map_err(|e| match e {
                        SealError::NotSupported => Failure::NotEncrypted,
                        SealError::Failed(e) => Failure::Unsealed(e.to_string()),
                    })?))
                }
            };
            let wire = Wire::new(line);
            let came = wire.came();
            let client = Client::connect(config, wire).await?;
            Ok((client, came))
        };
        let since = Instant::now();
        let limit = || (since.elapsed() > CONNECT).then_some(CONNECT);
        let connected = runtime.block_on(watch(connecting, context, limit));
        let (client, came) = connected.map_err(|e| told(&e, &server, "connect"))?;
        Ok(Session {
            client,
            runtime,
            came,
            context,
            server,
            passing: None,
        })
    }

    /// A file of ours that goes at once when a statement is cancelled: the server may take longer
    /// for that than we have.
    pub fn remove_first(&mut self, local: &Path) {
        self.passing = Some(local.to_owned());
    }

    /// Runs a statement and answers its first result.
    pub fn ask(&mut self, sql: &str, doing: &str) -> Result<Vec<Row>, DatabaseError> {
        self.run(sql, Patience::Short)
            .map_err(|e| told(&e, &self.server, doing))
    }

    /// Runs a statement that answers nothing that matters.
    pub fn tell(
        &mut self,
        sql: &str,
        doing: &str,
        patience: Patience<'_>,
    ) -> Result<(), DatabaseError> {
        let done = self.run(sql, patience);
        done.map(|_| ()).map_err(|e| told(&e, &self.server, doing))
    }

    /// Lets the server look through a database.
    pub fn check(&mut self, sql: &str, name: &str) -> Result<(), DatabaseError> {
        let done = self.run(sql, Patience::Endless);
        let Err(failure) = done else { return Ok(()) };
        let error = self.told(&failure, &format!("check {name}"));
        match &failure {
            // Numbers of what the check finds; 2571 is a right that is missing.
            Failure::Server { code, .. } if *code != 2571 && found_by_check(*code) => {
                Err(DatabaseError {
                    cause: Cause::Differs,
                    what: format!("{name} is damaged: {}", error.what),
                    hint: None,
                })
            }
            _ => Err(error),
        }
    }

    /// In sentences.
    pub fn told(&self, failure: &Failure, doing: &str) -> DatabaseError {
        told(failure, &self.server, doing)
    }

    /// Runs a statement.
    pub fn run(&mut self, sql: &str, patience: Patience<'_>) -> Result<Vec<Row>, Failure> {
        if self.context.stopper.is_stopped() {
            return Err(Failure::Stopped);
        }
        let (came, stall) = (&self.came, self.context.stall);
        let signs = || {
            let others = match patience {
                Patience::While(number) => number(),
                Patience::Short | Patience::Endless => 0,
            };
            (came.load(Ordering::Relaxed), others)
        };
        let mut last = (signs(), Instant::now());
        let limit = || {
            let now = signs();
            if now != last.0 {
                last = (now, Instant::now());
            }
            let is_silent = last.1.elapsed() > stall && !matches!(patience, Patience::Endless);
            is_silent.then_some(stall)
        };
        let client = &mut self.client;
        let asking = async {
            let results = client.simple_query(sql).await?.into_results().await?;
            Ok(results.into_iter().next().unwrap_or_default())
        };
        let answer = self.runtime.block_on(watch(asking, self.context, limit));
        if matches!(answer, Err(Failure::Stopped | Failure::Silent(_))) {
            self.cancel();
        }
        Ok(answer?.iter().map(row).collect())
    }

    /// Lets the server end what it does. Whether it did is of no matter: the session is over.
    fn cancel(&mut self) {
        if let Some(local) = &self.passing {
            // What stays, or comes once more, goes with its owner.
            let _ = std::fs::remove_file(local);
        }
        let client = &mut self.client;
        let _ = self
            .runtime
            .block_on(async { tokio::time::timeout(CANCEL, client.cancel_query()).await });
    }
}

fn found_by_check(code: u32) -> bool {
    matches!(code, 2501..=2600 | 5200..=5299 | 7900..=7999 | 8900..=8999 | 823 | 824)
}

fn row(row: &tiberius::Row) -> Row {
    let cells = row.cells();
    Row(cells
        .map(|(column, value)| (column.name().to_owned(), value::text(value)))
        .collect())
}

/// Waits for something until it is there, all is to stop, or `limit` says that it took too long.
async fn watch<T>(
    work: impl Future<Output = Result<T, Failure>>,
    context: &Context,
    mut limit: impl FnMut() -> Option<Duration>,
) -> Result<T, Failure> {
    let mut work = pin!(work);
    loop {
        match tokio::time::timeout(LOOK, work.as_mut()).await {
            Ok(done) => return done,
            Err(_) if context.stopper.is_stopped() => return Err(Failure::Stopped),
            Err(_) => {
                if let Some(limit) = limit() {
                    return Err(Failure::Silent(limit));
                }
            }
        }
    }
}

//! A connection to a PostgreSQL server for code that blocks: every wait ends when all is to stop,
//! or when the server has sent nothing for too long.

use std::fmt::Display;
use std::future::Future;
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use rustls::ClientConfig;
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::config::SslMode as Wire;
use tokio_postgres::{Client, Config, CopyInSink, CopyOutStream, NoTls, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::place::{Login, SslMode};
use super::words::{told, unreachable};
use crate::database::Context;
use crate::database::error::{Cause, DatabaseError};

/// How often a wait looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(200);
/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(30);

/// What every session sets, so that what it reads is the same whatever the server's, database's or
/// user's settings are, and so that nothing is hidden or ended quietly.
const SETTINGS: &str = "SET datestyle = ISO; SET intervalstyle = POSTGRES; \
     SET extra_float_digits = 3; SET synchronize_seqscans = off; SET timezone = 'UTC'; \
     SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; \
     SET row_security = off; SET search_path = ''; SET standard_conforming_strings = on; \
     SET bytea_output = hex; SET array_nulls = on; SET xmloption = content";

/// How often a connection that carries nothing is tried.
const ALIVE: Duration = Duration::from_secs(60);

/// One connection.
pub(super) struct Session {
    runtime: Runtime,
    client: Client,
    context: Context,
    /// For messages.
    shown: String,
    /// The database that it is connected to.
    pub database: String,
    /// `150018` for 15.18.
    pub version: u32,
}

/// One value of a row, as text.
pub(super) type Field = Option<String>;

impl Session {
    /// Connects.
    pub fn open(login: &Login, context: &Context) -> Result<Session, DatabaseError> {
        let failed = |e: std::io::Error| DatabaseError::new(Cause::Failed, e.to_string());
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed)?;
        let config = config(login);
        let client = wait(&runtime, context, CONNECT, connect(&config, login))?;
        let client = client.map_err(|e| unreachable(login, &e))?;
        let mut session = Session {
            runtime,
            client,
            context: context.clone(),
            shown: login.shown(),
            database: login.database.clone(),
            version: 0,
        };
        session.run(SETTINGS)?;
        let version = session.value("SHOW server_version_num")?;
        session.version = version.and_then(|v| v.parse().ok()).unwrap_or(0);
        if session.version >= 140_000 {
            session.run("SET idle_session_timeout = 0")?;
        }
        if session.version >= 170_000 {
            session.run("SET transaction_timeout = 0")?;
        }
        Ok(session)
    }

    fn wait<T>(&self, future: impl Future<Output = T>) -> Result<T, DatabaseError> {
        wait(&self.runtime, &self.context, self.context.stall, future)
    }

    /// Runs statements.
    pub fn run(&self, sql: &str) -> Result<(), DatabaseError> {
        let done = self.wait(self.client.batch_execute(sql))?;
        done.map_err(|e| told(&self.shown, &e))
    }

    /// The same of statements that are silent however long they take: only a lost connection or a
    /// stop ends them.
    pub fn run_long(&self, sql: &str) -> Result<(), DatabaseError> {
        let work = self.client.batch_execute(sql);
        let done = wait(&self.runtime, &self.context, Duration::MAX, work)?;
        done.map_err(|e| told(&self.shown, &e))
    }

    /// Runs one statement; several are refused by the server.
    pub fn run_one(&self, sql: &str) -> Result<(), DatabaseError> {
        let done = self.wait(self.client.execute(sql, &[]))?;
        done.map(|_| ()).map_err(|e| told(&self.shown, &e))
    }

    /// The rows of a query, as text.
    pub fn rows(&self, sql: &str) -> Result<Vec<Vec<Field>>, DatabaseError> {
        let answer = self.wait(self.client.simple_query(sql))?;
        let answer = answer.map_err(|e| told(&self.shown, &e))?;
        let row = |message| match message {
            SimpleQueryMessage::Row(row) => {
                let field = |n| row.get(n).map(str::to_owned);
                Some((0..row.len()).map(field).collect())
            }
            _ => None,
        };
        Ok(answer.into_iter().filter_map(row).collect())
    }

    /// The first value of the first row.
    pub fn value(&self, sql: &str) -> Result<Field, DatabaseError> {
        let rows = self.rows(sql)?;
        Ok(rows
            .into_iter()
            .next()
            .and_then(|row| row.into_iter().next())
            .flatten())
    }

    /// The only number of a query.
    pub fn number(&self, sql: &str) -> Result<u64, DatabaseError> {
        let value = self.value(sql)?;
        let number = value.as_ref().and_then(|v| v.parse().ok());
        number.ok_or_else(|| {
            let what = format!("{}: {value:?} is no number", self.shown);
            DatabaseError::new(Cause::Failed, what)
        })
    }

    /// How many rows a table has, however long that takes.
    pub fn count(&self, table: &str, condition: &str) -> Result<u64, DatabaseError> {
        let sql = format!("SELECT count(*) FROM ONLY {table} {condition}");
        let work = self.client.query_one(&sql, &[]);
        let row = wait(&self.runtime, &self.context, Duration::MAX, work)?;
        let row = row.map_err(|e| told(&self.shown, &e))?;
        Ok(u64::try_from(row.get::<_, i64>(0)).unwrap_or(0))
    }

    /// Begins `COPY … TO STDOUT`.
    pub fn copy_out(&self, sql: &str) -> Result<CopyOut, DatabaseError> {
        let stream = self.wait(self.client.copy_out(sql))?;
        let stream = stream.map_err(|e| told(&self.shown, &e))?;
        Ok(CopyOut(Box::pin(stream)))
    }

    /// Adds the next rows to a buffer until it holds `enough`. Answers how many the server sent,
    /// and whether it said that those were all.
    pub fn next_rows(
        &self,
        copy: &mut CopyOut,
        buffer: &mut Vec<u8>,
        enough: usize,
    ) -> Result<(u64, bool), DatabaseError> {
        let gather = async {
            let mut rows = 0;
            while buffer.len() < enough {
                match copy.0.next().await {
                    Some(Ok(row)) => buffer.extend_from_slice(&row),
                    Some(Err(error)) => return Err(error),
                    None => return Ok((rows, true)),
                }
                rows += 1;
            }
            Ok((rows, false))
        };
        self.wait(gather)?.map_err(|e| told(&self.shown, &e))
    }

    /// Begins `COPY … FROM STDIN`.
    pub fn copy_in(&self, sql: &str) -> Result<CopyIn, DatabaseError> {
        let sink = self.wait(self.client.copy_in::<_, Bytes>(sql))?;
        let sink = sink.map_err(|e| told(&self.shown, &e))?;
        Ok(CopyIn(Box::pin(sink)))
    }

    /// Sends some bytes.
    pub fn send(&self, copy: &mut CopyIn, bytes: Bytes) -> Result<(), DatabaseError> {
        let sent = self.wait(copy.0.send(bytes))?;
        sent.map_err(|e| told(&self.shown, &e))
    }

    /// Ends it, and answers how many rows the server took.
    pub fn finish(&self, mut copy: CopyIn) -> Result<u64, DatabaseError> {
        let rows = self.wait(copy.0.as_mut().finish())?;
        rows.map_err(|e| told(&self.shown, &e))
    }
}

/// Rows that come out of a table.
pub(super) struct CopyOut(Pin<Box<CopyOutStream>>);

/// Rows that go into a table. Dropped before it is finished, none of them do.
pub(super) struct CopyIn(Pin<Box<CopyInSink<Bytes>>>);

/// Waits for something; an answer that does not come within `patience` never comes.
fn wait<T>(
    runtime: &Runtime,
    context: &Context,
    patience: Duration,
    future: impl Future<Output = T>,
) -> Result<T, DatabaseError> {
    let mut future = pin!(future);
    let since = Instant::now();
    loop {
        let answer = runtime.block_on(async { tokio::time::timeout(LOOK, &mut future).await });
        if let Ok(answer) = answer {
            return Ok(answer);
        }
        context.go_on()?;
        if since.elapsed() >= patience {
            let what = format!("the server sent nothing for {} s", patience.as_secs());
            return Err(DatabaseError::new(Cause::Unreachable, what)
                .hint("is it blocked by a lock? --stall-timeout says how long it may be silent"));
        }
    }
}

fn config(login: &Login) -> Config {
    let mut config = Config::new();
    config
        .host(&login.host)
        .port(login.port)
        .user(&login.user)
        .dbname(&login.database)
        .application_name("hucha")
        .connect_timeout(CONNECT)
        .keepalives_idle(ALIVE)
        .keepalives_interval(ALIVE)
        .keepalives_retries(5)
        .ssl_mode(match login.ssl {
            SslMode::Disable => Wire::Disable,
            SslMode::Prefer => Wire::Prefer,
            SslMode::Require | SslMode::VerifyFull => Wire::Require,
        });
    if let Some(password) = &login.password {
        config.password(password.as_bytes());
    }
    config
}

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum NoConnection {
    /// The server, or the way to it, said so.
    Postgres(tokio_postgres::Error),
    /// Certificates cannot be had.
    Certificates(String),
}

impl Display for NoConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NoConnection::Postgres(error) => error.fmt(f),
            NoConnection::Certificates(why) => f.write_str(why),
        }
    }
}

async fn connect(config: &Config, login: &Login) -> Result<Client, NoConnection> {
    let failed = NoConnection::Postgres;
    if login.socket().is_some() || login.ssl == SslMode::Disable {
        let (client, connection) = config.connect(NoTls).await.map_err(failed)?;
        // It ends with the client, and says why to whoever asks that.
        tokio::spawn(connection);
        return Ok(client);
    }
    let tls = MakeRustlsConnect::new(tls(login).map_err(NoConnection::Certificates)?);
    let (client, connection) = config.connect(tls).await.map_err(failed)?;
    tokio::spawn(connection);
    Ok(client)
}

/// Which servers are believed.
fn tls(login: &Login) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?;
    if login.ssl != SslMode::VerifyFull {
        let believe = Arc::new(believing::Believing(provider));
        let builder = builder
            .dangerous()
            .with_custom_certificate_verifier(believe);
        return Ok(builder.with_no_client_auth());
    }
    let mut roots = rustls::RootCertStore::empty();
    match &login.root_certificates {
        Some(path) => {
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|e| e.to_string())?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
        }
    }
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn certificates(path: &Path) -> Result<Vec<rustls::pki_types::CertificateDer<'static>>, String> {
    use rustls::pki_types::pem::PemObject;
    let failed = |e: &dyn Display| format!("certificates in {}: {e}", path.display());
    let all = rustls::pki_types::CertificateDer::pem_file_iter(path).map_err(|e| failed(&e))?;
    all.collect::<Result<_, _>>().map_err(|e| failed(&e))
}

mod believing {
    //! Encryption without asking who is there: what libpq does by `prefer` and `require`.

    use std::sync::Arc;

    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use rustls::{DigitallySignedStruct, Error, SignatureScheme};

    #[derive(Debug)]
    pub(super) struct Believing(pub Arc<CryptoProvider>);

    impl ServerCertVerifier for Believing {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            let known = &self.0.signature_verification_algorithms;
            verify_tls12_signature(message, certificate, signed, known)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            let known = &self.0.signature_verification_algorithms;
            verify_tls13_signature(message, certificate, signed, known)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.0.signature_verification_algorithms.supported_schemes()
        }
    }
}

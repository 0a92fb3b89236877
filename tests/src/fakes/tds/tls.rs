//! The server's side of TLS inside PRELOGIN packets. Certificate and key are made for this process.

use std::io::{self, Cursor, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::{Arc, OnceLock};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::packets::{self, HEADER, Message, packet};

/// Key and certificate, in PEM form.
fn identity() -> &'static str {
    static IDENTITY: OnceLock<String> = OnceLock::new();
    IDENTITY.get_or_init(|| {
        let made = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-nodes",
                "-days",
                "2",
                "-subj",
                "/CN=localhost",
            ])
            .args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
            .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
            .args(["-keyout", "-", "-out", "-"])
            .output()
            .unwrap();
        assert!(made.status.success(), "openssl makes no certificate");
        String::from_utf8(made.stdout).unwrap()
    })
}

/// The certificate that the server shows, in PEM form. It signed itself.
pub fn certificate() -> &'static str {
    let begin = identity().find("-----BEGIN CERTIFICATE");
    &identity()[begin.unwrap()..]
}

/// A line inside packets as long as the handshake lasts.
pub struct Wrapped {
    tcp: TcpStream,
    wraps: bool,
    read: Cursor<Vec<u8>>,
    written: Vec<u8>,
}

/// Seals a line as the server.
pub fn seal(tcp: TcpStream) -> io::Result<StreamOwned<ServerConnection, Wrapped>> {
    let odd = |e: &dyn std::fmt::Display| io::Error::other(e.to_string());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let own = CertificateDer::from_pem_slice(identity().as_bytes()).map_err(|e| odd(&e))?;
    let key = PrivateKeyDer::from_pem_slice(identity().as_bytes()).map_err(|e| odd(&e))?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .map_err(|e| odd(&e))?
        .with_no_client_auth()
        .with_single_cert(vec![own], key)
        .map_err(|e| odd(&e))?;
    let mut connection = ServerConnection::new(Arc::new(config)).map_err(|e| odd(&e))?;
    let mut line = Wrapped {
        tcp,
        wraps: true,
        read: Cursor::default(),
        written: Vec::new(),
    };
    while connection.is_handshaking() {
        while connection.wants_write() {
            connection.write_tls(&mut line)?;
        }
        line.flush()?;
        if connection.is_handshaking() && connection.wants_read() {
            connection.read_tls(&mut line)?;
            connection.process_new_packets().map_err(|e| odd(&e))?;
        }
    }
    while connection.wants_write() {
        connection.write_tls(&mut line)?;
    }
    line.flush()?;
    line.wraps = false;
    Ok(StreamOwned::new(connection, line))
}

impl Read for Wrapped {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.wraps {
            return self.tcp.read(buffer);
        }
        if self.read.position() == self.read.get_ref().len() as u64 {
            self.read = Cursor::new(Message::read(&mut self.tcp)?.bytes);
        }
        self.read.read(buffer)
    }
}

impl Write for Wrapped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.wraps {
            return self.tcp.write(bytes);
        }
        self.written.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let all = std::mem::take(&mut self.written);
        let mut parts = all.chunks(packets::PACKET - HEADER).peekable();
        while let Some(part) = parts.next() {
            let is_last = parts.peek().is_none();
            self.tcp
                .write_all(&packet(packets::PRELOGIN, part, is_last))?;
        }
        self.tcp.flush()
    }
}

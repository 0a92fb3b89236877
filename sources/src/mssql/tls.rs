//! TLS as SQL Server wants it since version 7 of its protocol: both sides first say in a PRELOGIN
//! packet that they can encrypt, then the handshake goes to and fro inside such packets, and after
//! it everything goes through TLS (MS-TDS 2.2.6.5 and 3.2.5.2).
//!
//! The driver knows nothing of it. It is told that the server does not encrypt, and writes its
//! login in plain into a line that is sealed already. The driver's own TLS would choose a library
//! for cryptography that needs a C compiler and CMake.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Bytes of a packet's header: kind, status, length (two, big end first), four others.
const HEADER: usize = 8;
/// Largest packet before both sides agreed on another.
const PACKET: usize = 4096;
const PRELOGIN: u8 = 0x12;
const LAST: u8 = 1;
/// The option of a PRELOGIN that says whether to encrypt.
const ENCRYPTION: u8 = 1;
const ENCRYPT_ON: u8 = 1;
const ENCRYPT_NOT_SUPPORTED: u8 = 2;
const ENCRYPT_REQUIRED: u8 = 3;

/// Our PRELOGIN: version, encryption on, no instance, no thread, one request at a time.
const HELLO: [u8; 39] = [
    0, 0, 26, 0, 6, 1, 0, 32, 0, 1, 2, 0, 33, 0, 1, 3, 0, 34, 0, 4, 4, 0, 38, 0, 1,
    0xff, // places
    0, 0, 0, 0, 0, 0, ENCRYPT_ON, 0, 0, 0, 0, 0, 0, // values
];

/// Why a line was not sealed.
#[derive(Debug)]
pub(super) enum SealError {
    /// The server does not encrypt.
    NotSupported,
    /// It does not speak the protocol, or the handshake failed.
    Failed(io::Error),
}

impl From<io::Error> for SealError {
    fn from(error: io::Error) -> SealError {
        SealError::Failed(error)
    }
}

/// A line that is sealed by TLS, and behaves to the driver as if it were not.
pub(super) struct Sealed {
    stream: TlsStream<Wrapped>,
    greeting: Greeting,
}

/// What the driver says first is kept from the server, which has heard it from us, and is answered
/// with what the server said to us.
#[derive(Debug, Default)]
struct Greeting {
    heard: Vec<u8>,
    is_heard: bool,
    answer: Vec<u8>,
    given: usize,
}

/// Seals a line.
pub(super) async fn seal(
    mut tcp: TcpStream,
    name: ServerName<'static>,
    config: Arc<ClientConfig>,
) -> Result<Sealed, SealError> {
    tcp.write_all(&packet(&HELLO, LAST)).await?;
    let mut said = receive(&mut tcp).await?;
    let encryption = option(&said, ENCRYPTION).ok_or_else(garbled)?;
    let Some(level) = said.get_mut(encryption) else {
        return Err(garbled().into());
    };
    if !matches!(*level, ENCRYPT_ON | ENCRYPT_REQUIRED) {
        return Err(SealError::NotSupported);
    }
    *level = ENCRYPT_NOT_SUPPORTED;
    let mut stream = TlsConnector::from(config)
        .connect(name, Wrapped::new(tcp))
        .await?;
    stream.get_mut().0.wraps = false;
    let mut answer = packet(&said, LAST);
    if let Some(kind) = answer.first_mut() {
        *kind = 4; // what servers send
    }
    let greeting = Greeting {
        answer,
        ..Greeting::default()
    };
    Ok(Sealed { stream, greeting })
}

fn garbled() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "what answers is no SQL Server")
}

fn packet(bytes: &[u8], status: u8) -> Vec<u8> {
    let length = u16::try_from(HEADER + bytes.len()).unwrap_or(u16::MAX);
    let [high, low] = length.to_be_bytes();
    let mut packet = vec![PRELOGIN, status, high, low, 0, 0, 1, 0];
    packet.extend_from_slice(bytes);
    packet
}

/// Reads one message, which may come in several packets.
async fn receive(tcp: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut message = Vec::new();
    loop {
        let mut header = [0; HEADER];
        tcp.read_exact(&mut header).await?;
        let (status, length) = (header[1], length(&header));
        let mut bytes = vec![0; length.checked_sub(HEADER).ok_or_else(garbled)?];
        tcp.read_exact(&mut bytes).await?;
        message.extend_from_slice(&bytes);
        if status & LAST != 0 {
            return Ok(message);
        }
        if message.len() > PACKET {
            return Err(garbled());
        }
    }
}

fn length(header: &[u8; HEADER]) -> usize {
    usize::from(u16::from_be_bytes([header[2], header[3]]))
}

/// Where the value of an option stands in a PRELOGIN.
fn option(message: &[u8], wanted: u8) -> Option<usize> {
    let mut options = message.chunks_exact(5);
    let found = options
        .by_ref()
        .take_while(|option| option.first() != Some(&0xff))
        .find(|option| option.first() == Some(&wanted))?;
    match found {
        [_, high, low, ..] => Some(usize::from(u16::from_be_bytes([*high, *low]))),
        _ => None,
    }
}

impl Greeting {
    /// Takes what the driver writes as long as it belongs to its PRELOGIN; how much of it.
    fn hear(&mut self, bytes: &[u8]) -> usize {
        let whole = match self.heard.as_slice() {
            [_, _, high, low, ..] => usize::from(u16::from_be_bytes([*high, *low])).max(HEADER),
            _ => 4,
        };
        let n = bytes.len().min(whole - self.heard.len());
        self.heard
            .extend_from_slice(bytes.get(..n).unwrap_or_default());
        self.is_heard = whole > 4 && self.heard.len() == whole;
        n
    }
}

impl AsyncRead for Sealed {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Sealed { stream, greeting } = self.get_mut();
        let rest = greeting.answer.get(greeting.given..).unwrap_or_default();
        if rest.is_empty() {
            return Pin::new(stream).poll_read(cx, buffer);
        }
        let n = rest.len().min(buffer.remaining());
        buffer.put_slice(rest.get(..n).unwrap_or_default());
        greeting.given += n;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Sealed {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Sealed { stream, greeting } = self.get_mut();
        match greeting.is_heard || bytes.is_empty() {
            true => Pin::new(stream).poll_write(cx, bytes),
            false => Poll::Ready(Ok(greeting.hear(bytes))),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// A line on which everything is inside packets, as long as the handshake lasts.
struct Wrapped {
    tcp: TcpStream,
    wraps: bool,
    /// What was written since the last flush.
    written: Vec<u8>,
    /// Packets on their way, and how much of them went.
    packets: Vec<u8>,
    sent: usize,
    header: [u8; HEADER],
    /// How much of the header came.
    came: usize,
    /// How much of the packet behind it is still to come.
    left: usize,
}

impl Wrapped {
    fn new(tcp: TcpStream) -> Wrapped {
        Wrapped {
            tcp,
            wraps: true,
            written: Vec::new(),
            packets: Vec::new(),
            sent: 0,
            header: [0; HEADER],
            came: 0,
            left: 0,
        }
    }

    /// Reads headers until there are bytes behind one; `false` at the end of the line.
    fn poll_header(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        while self.left == 0 {
            let room = self.header.get_mut(self.came..).unwrap_or_default();
            let mut buffer = ReadBuf::new(room);
            ready!(Pin::new(&mut self.tcp).poll_read(cx, &mut buffer))?;
            let n = buffer.filled().len();
            if n == 0 {
                return Poll::Ready(Ok(false));
            }
            self.came += n;
            if self.came == HEADER {
                self.came = 0;
                self.left = length(&self.header)
                    .checked_sub(HEADER)
                    .ok_or_else(garbled)?;
            }
        }
        Poll::Ready(Ok(true))
    }

    /// Makes packets of what was written.
    fn wrap(&mut self) {
        let room = PACKET - HEADER;
        let last = self.written.len().div_ceil(room);
        for (number, part) in (1..).zip(self.written.chunks(room)) {
            let status = if number == last { LAST } else { 0 };
            self.packets.extend(packet(part, status));
        }
        self.written.clear();
    }
}

impl AsyncRead for Wrapped {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let line = self.get_mut();
        if !line.wraps {
            return Pin::new(&mut line.tcp).poll_read(cx, buffer);
        }
        if !ready!(line.poll_header(cx))? {
            return Poll::Ready(Ok(()));
        }
        let mut part = buffer.take(line.left);
        let before = part.filled().len();
        ready!(Pin::new(&mut line.tcp).poll_read(cx, &mut part))?;
        let n = part.filled().len() - before;
        buffer.advance(n);
        line.left -= n;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wrapped {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let line = self.get_mut();
        if !line.wraps {
            return Pin::new(&mut line.tcp).poll_write(cx, bytes);
        }
        line.written.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let line = self.get_mut();
        line.wrap();
        while line.sent < line.packets.len() {
            let rest = line.packets.get(line.sent..).unwrap_or_default();
            let n = ready!(Pin::new(&mut line.tcp).poll_write(cx, rest))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            line.sent += n;
        }
        line.packets.clear();
        line.sent = 0;
        Pin::new(&mut line.tcp).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_prelogin_is_well_formed() {
        let at = |wanted| option(&HELLO, wanted).map(|at| HELLO[at]);
        assert_eq!(at(ENCRYPTION), Some(ENCRYPT_ON));
        assert_eq!([0, 2, 3, 4].map(at), [Some(0); 4]);
        assert_eq!(at(5), None);
        assert_eq!(option(&HELLO, 4), Some(HELLO.len() - 1));
    }

    #[test]
    fn the_first_packet_of_the_driver_is_heard_whole_and_nothing_behind_it() {
        let said = packet(b"hello", LAST);
        let mut both = said.clone();
        both.extend_from_slice(b"login");
        for step in [1, 3, 4, 5, 100] {
            let (mut greeting, mut rest) = (Greeting::default(), both.as_slice());
            while !greeting.is_heard {
                let n = greeting.hear(&rest[..step.min(rest.len())]);
                assert!(n > 0);
                rest = &rest[n..];
            }
            assert_eq!(
                (greeting.heard.as_slice(), rest),
                (said.as_slice(), &b"login"[..])
            );
        }
    }
}

//! The bytes to and from a server, plain or sealed by TLS. It notes when any came, which tells a
//! server that works from one that hangs.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::tls::Sealed;

/// A connection, as the driver wants it.
pub(super) struct Wire {
    line: Line,
    /// Bytes that came.
    came: Arc<AtomicU64>,
}

/// What the bytes go through.
pub(super) enum Line {
    /// As they are.
    Plain(TcpStream),
    /// Through TLS.
    Sealed(Box<Sealed>),
}

impl Wire {
    /// Over an open line.
    pub fn new(line: Line) -> Wire {
        Wire {
            line,
            came: Arc::default(),
        }
    }

    /// How many bytes have come, also later.
    pub fn came(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.came)
    }
}

impl futures_util::io::AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let wire = self.get_mut();
        let mut buffer = ReadBuf::new(buffer);
        ready!(match &mut wire.line {
            Line::Plain(tcp) => Pin::new(tcp).poll_read(cx, &mut buffer),
            Line::Sealed(sealed) => Pin::new(sealed.as_mut()).poll_read(cx, &mut buffer),
        })?;
        let n = buffer.filled().len();
        wire.came.fetch_add(n as u64, Ordering::Relaxed);
        Poll::Ready(Ok(n))
    }
}

impl futures_util::io::AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().line {
            Line::Plain(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Line::Sealed(sealed) => Pin::new(sealed.as_mut()).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().line {
            Line::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Line::Sealed(sealed) => Pin::new(sealed.as_mut()).poll_flush(cx),
        }
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().line {
            Line::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Line::Sealed(sealed) => Pin::new(sealed.as_mut()).poll_shutdown(cx),
        }
    }
}

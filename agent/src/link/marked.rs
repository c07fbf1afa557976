//! A connection that notes when something came in on it, and that it has ended, before anybody else sees that.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::call::line::Connection;

/// Passes everything on.
#[derive(Debug)]
pub(super) struct Marked<Io> {
    io: Io,
    connection: Connection,
}

impl<Io> Marked<Io> {
    /// Tells `connection` what it sees.
    pub fn new(io: Io, connection: Connection) -> Marked<Io> {
        Marked { io, connection }
    }

    fn see<T>(&self, done: io::Result<T>) -> Poll<io::Result<T>> {
        if done.is_err() {
            self.connection.end();
        }
        Poll::Ready(done)
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Marked<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.io).poll_read(context, buffer));
        if buffer.filled().len() > before {
            self.connection.heard();
        } else if buffer.remaining() > 0 {
            self.connection.end();
        }
        self.see(read)
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Marked<Io> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let done = ready!(Pin::new(&mut self.io).poll_write(context, bytes));
        self.see(done)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let done = ready!(Pin::new(&mut self.io).poll_write_vectored(context, pieces));
        self.see(done)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = ready!(Pin::new(&mut self.io).poll_flush(context));
        self.see(done)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

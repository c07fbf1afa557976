//! A connection whose bytes are looked at: those that come, before the parser sees them ([`HeadCheck`](super::head::HeadCheck)), and whether those that go are taken.
//!
//! The kernel ends a connection whose client is silent for `TCP_USER_TIMEOUT`, which finds clients that are gone where little is written. But it counts
//! a client as silent too whose window stays smaller than what is next for it, whatever that takes: who reads 1 KiB a second would be cut off. So it
//! is switched off once a client is seen to be slow; from then on [`Pace`] says whether it takes anything.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::pace::Pace;

/// What the parser gets instead of a head that could be read in two ways: it answers 400 and ends the connection.
const UNREADABLE: &[u8] = b"\0\r\n\r\n";

/// What there is below HTTP.
pub trait Below: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// The kernel's connection.
    fn socket(&self) -> &TcpStream;
}

impl Below for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

impl Below for Box<TlsStream<TcpStream>> {
    fn socket(&self) -> &TcpStream {
        self.get_ref().0
    }
}

/// A connection whose bytes are looked at.
#[derive(Debug)]
pub struct Watched<S: Below> {
    stream: S,
    pace: Pace,
    refused: bool,
    blocked: bool,
    ever_blocked: bool,
}

impl<S: Below> Watched<S> {
    /// Looks at this connection.
    pub fn new(stream: S, pace: Pace) -> Watched<S> {
        Watched { stream, pace, refused: false, blocked: false, ever_blocked: false }
    }

    /// What became of a write.
    fn wrote<T>(&mut self, polled: Poll<T>) -> Poll<T> {
        if polled.is_pending() != self.blocked {
            self.blocked = polled.is_pending();
            self.pace.blocked(self.blocked);
            if !std::mem::replace(&mut self.ever_blocked, true) {
                let socket = socket2::SockRef::from(self.stream.socket());
                if let Err(error) = socket.set_tcp_user_timeout(None) {
                    tracing::debug!(error = crate::chain(&error), "a slow client may be cut off");
                }
            }
        }
        polled
    }
}

impl<S: Below> Drop for Watched<S> {
    /// What a client does not take the kernel would hold for minutes more.
    fn drop(&mut self) {
        if self.blocked {
            let socket = socket2::SockRef::from(self.stream.socket());
            // A socket that cannot be told is closed already.
            let _ = socket.set_linger(Some(Duration::ZERO));
        }
    }
}

impl<S: Below> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.refused {
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        if !self.pace.read(&buffer.filled()[before..]) {
            self.refused = true;
            buffer.set_filled(before);
            let room = buffer.remaining().min(UNREADABLE.len());
            buffer.put_slice(&UNREADABLE[..room]);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: Below> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What TLS holds back is written here.
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.wrote(polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.wrote(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::pace::PaceConfig;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn a_client_that_is_seen_to_be_slow_is_not_the_kernels_to_cut_off() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let mut client = TcpStream::connect(address).await.expect("a connection");
        let (stream, _) = listener.accept().await.expect("a connection");
        let patience = Some(Duration::from_secs(120));
        socket2::SockRef::from(&stream).set_tcp_user_timeout(patience).expect("an option");
        let pace = Pace::new();
        let mut watched = Watched::new(stream, pace.clone());
        let kernels = |watched: &Watched<TcpStream>| {
            socket2::SockRef::from(&watched.stream).tcp_user_timeout().expect("an option")
        };
        watched.write_all(b"little").await.expect("sent");
        assert_eq!(kernels(&watched), patience);
        let much = vec![0; 64 << 20];
        let config = PaceConfig {
            head: Duration::from_secs(3600),
            idle: Duration::from_secs(3600),
            stall: Duration::from_millis(50),
        };
        tokio::select! {
            sent = watched.write_all(&much) => panic!("nobody has taken it: {sent:?}"),
            late = pace.overdue(&config) => assert_eq!(late, "taking an answer"),
        }
        assert_eq!(kernels(&watched), None);
        // What is taken in the end makes it a connection like any other.
        let taking = tokio::spawn(async move {
            let mut taken = Vec::new();
            client.read_to_end(&mut taken).await.map(|_| taken.len())
        });
        watched.write_all(&much).await.expect("sent");
        watched.flush().await.expect("sent");
        let idle = tokio::time::timeout(config.stall * 4, pace.overdue(&config)).await;
        assert!(idle.is_err(), "{idle:?}");
        drop(watched);
        assert!(taking.await.expect("no panic").expect("whole") > much.len());
    }
}

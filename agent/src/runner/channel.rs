//! Our end of the data channel: frames out without copying bodies, frames in in the pieces they were read in.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;

use bytes::{Buf, Bytes};
use muster_wire::frame::{Decoder, Frame};
use muster_wire::pieces::Pieces;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, setsockopt, sockopt};
use std::os::fd::AsRawFd;
use tokio::io::Interest;
use tokio::net::UnixStream;

use super::RunnerError;

/// Bytes the system may hold between us and a runner, each way.
const BUFFER: usize = 4 << 20;
/// What is read at once from a runner that has ended, in bytes.
const CHUNK: usize = 64 << 10;
/// Slices handed to one write.
const SLICES: usize = 16;

/// The data channel.
#[derive(Debug)]
pub struct Channel {
    stream: UnixStream,
    decoder: Decoder,
    outbox: VecDeque<Bytes>,
    open: bool,
}

impl Channel {
    /// A channel, and the runner's end.
    pub fn new() -> io::Result<(Channel, OwnedFd)> {
        let (ours, theirs) = StdStream::pair()?;
        for end in [&ours, &theirs] {
            // Forcing it needs privileges; what the system allows without them is slower, nothing else.
            if setsockopt(end, sockopt::SndBufForce, &BUFFER).is_err() {
                let _ = setsockopt(end, sockopt::SndBuf, &BUFFER);
            }
        }
        ours.set_nonblocking(true)?;
        let stream = UnixStream::from_std(ours)?;
        let channel =
            Channel { stream, decoder: Decoder::default(), outbox: VecDeque::new(), open: true };
        Ok((channel, theirs.into()))
    }

    /// Queues a frame; [`flush`](Channel::flush) and [`next`](Channel::next) write it.
    pub fn send(&mut self, frame: impl Into<Frame<Pieces>>) {
        let frame = frame.into();
        self.outbox.push_back(Bytes::copy_from_slice(&frame.header()));
        self.outbox.extend(frame.body);
    }

    /// Writes what the system takes at once. What is left, and what goes wrong, is for [`next`](Channel::next).
    pub fn flush(&mut self) {
        let _ = self.write_now();
    }

    /// Writes what is queued and gives the next frame; `None` when the runner has closed its end. Safe to cancel: what was
    /// read or written is in `self`.
    pub async fn next(&mut self) -> Result<Option<Frame<Pieces>>, RunnerError> {
        loop {
            if let Some(frame) = self.decoder.next_in_pieces()? {
                return Ok(Some(frame));
            }
            if !self.open {
                return Ok(None);
            }
            let blocked = !self.write_now().map_err(RunnerError::io("writing to the runner"))?;
            let interest =
                if blocked { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
            let ready = self
                .stream
                .ready(interest)
                .await
                .map_err(RunnerError::io("waiting for the runner"))?;
            if ready.is_readable() {
                match self.stream.try_read_buf(self.decoder.room()) {
                    Ok(0) => self.open = false,
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                        self.open = false
                    }
                    Err(error) => return Err(RunnerError::io("reading from the runner")(error)),
                }
            }
        }
    }

    /// The next frame among the bytes that are there already; for a runner that has ended. Does not ask the reactor, which
    /// may not know yet of bytes that came just now.
    pub fn next_now(&mut self) -> Option<Frame<Pieces>> {
        let mut chunk = vec![0; CHUNK];
        loop {
            match self.decoder.next_in_pieces() {
                Ok(Some(frame)) => return Some(frame),
                Ok(None) => {}
                Err(_) => return None,
            }
            match recv(self.stream.as_raw_fd(), &mut chunk, MsgFlags::MSG_DONTWAIT) {
                Ok(0) => return None,
                Ok(count) => self.decoder.push(&chunk[..count]),
                Err(Errno::EINTR) => {}
                Err(_) => return None,
            }
        }
    }

    /// Tells the runner that nothing more comes; a runner ends itself then.
    pub fn close(&mut self) {
        // It fails only where the runner is gone already.
        let _ =
            nix::sys::socket::shutdown(self.stream.as_raw_fd(), nix::sys::socket::Shutdown::Write);
    }

    /// Writes what the system takes now; whether that was everything.
    fn write_now(&mut self) -> io::Result<bool> {
        while !self.outbox.is_empty() {
            let slices: Vec<IoSlice<'_>> =
                self.outbox.iter().take(SLICES).map(|bytes| IoSlice::new(bytes)).collect();
            let mut count = match self.stream.try_write_vectored(&slices) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                // The runner is gone: its records may still be read, and its exit tells more.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    self.outbox.clear();
                    return Ok(true);
                }
                Err(error) => return Err(error),
            };
            while count > 0 {
                let Some(front) = self.outbox.front_mut() else { break };
                if front.len() > count {
                    front.advance(count);
                    break;
                }
                count -= front.len();
                self.outbox.pop_front();
            }
        }
        Ok(true)
    }
}

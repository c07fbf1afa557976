//! Our end of pid 1's connection: START with its descriptors, signals, and how the runner ended.

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use bytes::Bytes;
use muster_wire::frame::{Decoder, Frame, Kind};
use muster_wire::message::{Exit, Mode, Start, from_json, json_frame};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use tokio::io::Interest;
use tokio::net::UnixStream;

use super::RunnerError;

/// Messages of pid 1 are small.
const MAX_FRAME: usize = 64 << 10;
/// How long pid 1 may take to make room for a signal.
const SIGNAL_DEADLINE: Duration = Duration::from_secs(1);

/// The connection to pid 1.
#[derive(Debug)]
pub struct Control {
    stream: UnixStream,
    decoder: Decoder,
    exit: Option<Exit>,
}

impl Control {
    pub fn new(stream: UnixStream) -> Control {
        Control { stream, decoder: Decoder::new(MAX_FRAME), exit: None }
    }

    /// Sends START with the four descriptors, in the order of the protocol.
    pub async fn start(&mut self, mode: Mode, fds: [OwnedFd; 4]) -> Result<(), RunnerError> {
        let bytes = json_frame(Kind::Start, &Start { mode }).to_bytes();
        let raw = fds.each_ref().map(AsRawFd::as_raw_fd);
        self.send(bytes, &raw).await.map_err(RunnerError::io("starting the runner"))
    }

    /// Asks pid 1 to send this signal to its child's process group. A pid 1 that is gone, or does not listen, gets none.
    pub async fn signal(&self, signal: i32) {
        let bytes = Frame::of_u32(Kind::Signal, signal as u32).to_bytes();
        let _ = tokio::time::timeout(SIGNAL_DEADLINE, self.send(bytes, &[])).await;
    }

    /// The next frame; `None` at the end of the connection. Safe to cancel.
    pub async fn next(&mut self) -> Result<Option<Frame>, RunnerError> {
        loop {
            if let Some(frame) = self.decoder.next_frame()? {
                return Ok(Some(frame));
            }
            let doing = RunnerError::io("reading from pid 1");
            if let Err(error) = self.stream.readable().await {
                return Err(doing(error));
            }
            match self.stream.try_read_buf(self.decoder.room()) {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(error) => return Err(doing(error)),
            }
        }
    }

    /// Ends when the runner has ended: with what pid 1 said, or with nothing where pid 1 itself is gone or talks nonsense.
    /// Safe to cancel, and to ask again.
    pub async fn exited(&mut self) -> Exit {
        loop {
            if let Some(exit) = &self.exit {
                return exit.clone();
            }
            self.exit = match self.next().await {
                Ok(Some(frame)) if frame.kind == Kind::Exit => {
                    Some(from_json("EXIT", &frame.body).unwrap_or_default())
                }
                Ok(Some(_)) => None,
                Ok(None) | Err(_) => Some(Exit::default()),
            };
        }
    }

    async fn send(&self, mut bytes: Bytes, fds: &[i32]) -> io::Result<()> {
        let rights = [ControlMessage::ScmRights(fds)];
        let mut rights = if fds.is_empty() { &rights[..0] } else { &rights[..] };
        while !bytes.is_empty() {
            self.stream.writable().await?;
            let sent = self.stream.try_io(Interest::WRITABLE, || {
                let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
                let slice = [IoSlice::new(&bytes)];
                Ok(sendmsg::<()>(self.stream.as_raw_fd(), &slice, rights, flags, None)?)
            });
            match sent {
                // Descriptors travel with the first byte.
                Ok(count) => {
                    bytes = bytes.slice(count..);
                    rights = &[];
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

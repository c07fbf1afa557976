//! The two pipes that are a runner's stdout and stderr.

use std::io;
use std::os::fd::OwnedFd;

use bytes::Bytes;
use muster_wire::print::Stream;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{Uid, fchown, pipe2, read};
use tokio::net::unix::pipe::Receiver;

use super::page::Page;

/// What a pipe may hold, in bytes: the most that an unprivileged process may ask for.
pub const CAPACITY: u64 = 1 << 20;
/// What one read takes, in bytes.
const CHUNK: usize = 256 << 10;

/// The ends we read from. Every read is counted in the page.
#[derive(Debug)]
pub struct Pipes {
    out: Pipe,
    err: Pipe,
    chunk: Vec<u8>,
}

#[derive(Debug)]
struct Pipe {
    end: Receiver,
    open: bool,
}

impl Pipes {
    /// Two pipes, and the ends for stdout and stderr, which belong to `uid` so that `/dev/stdout` can be opened again.
    pub fn new(uid: u32) -> io::Result<(Pipes, OwnedFd, OwnedFd)> {
        let (out, out_write) = Pipe::new(uid)?;
        let (err, err_write) = Pipe::new(uid)?;
        // Zeroed memory of this size comes from the system page by page as it is used.
        Ok((Pipes { out, err, chunk: vec![0; CHUNK] }, out_write, err_write))
    }

    /// Waits for bytes from either pipe, and reads at most one chunk. Never ends once both pipes have ended. Safe to
    /// cancel: nothing is awaited after the read.
    pub async fn next(&mut self, page: &mut Page) -> (Stream, Bytes) {
        let Pipes { out, err, chunk } = self;
        loop {
            let (pipe, stream) = tokio::select! {
                Ok(()) = out.end.readable(), if out.open => (&mut *out, Stream::Stdout),
                Ok(()) = err.end.readable(), if err.open => (&mut *err, Stream::Stderr),
                else => std::future::pending().await,
            };
            match counted(page, stream, || pipe.end.try_read(chunk)) {
                Ok(0) => pipe.open = false,
                Ok(count) => return (stream, Bytes::copy_from_slice(&chunk[..count])),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => pipe.open = false,
            }
        }
    }

    /// Reads what is there now, at most one chunk; `None` when there is nothing.
    ///
    /// Does not ask the reactor, which may not know yet of bytes that were written just now.
    pub fn read_now(&mut self, stream: Stream, page: &mut Page) -> Option<Bytes> {
        let pipe = match stream {
            Stream::Stdout => &self.out,
            Stream::Stderr => &self.err,
        };
        loop {
            match counted(page, stream, || Ok(read(&pipe.end, &mut self.chunk)?)) {
                Ok(0) => return None,
                Ok(count) => return Some(Bytes::copy_from_slice(&self.chunk[..count])),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
    }
}

impl Pipe {
    fn new(uid: u32) -> io::Result<(Pipe, OwnedFd)> {
        let (read_end, write_end) = pipe2(OFlag::O_CLOEXEC)?;
        // Only our end: a runner expects its writes to wait. A smaller pipe is slower, nothing else.
        fcntl(&read_end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let _ = fcntl(&read_end, FcntlArg::F_SETPIPE_SZ(CAPACITY as i32));
        fchown(&write_end, Some(Uid::from_raw(uid)), None)?;
        Ok((Pipe { end: Receiver::from_owned_fd(read_end)?, open: true }, write_end))
    }
}

fn counted(
    page: &mut Page,
    stream: Stream,
    read: impl FnOnce() -> io::Result<usize>,
) -> io::Result<usize> {
    page.count(|| {
        let result = read();
        let count = *result.as_ref().unwrap_or(&0) as u64;
        match stream {
            Stream::Stdout => (result, count, 0),
            Stream::Stderr => (result, 0, count),
        }
    })
}

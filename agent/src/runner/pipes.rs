//! The two pipes that are a runner's stdout and stderr.
//!
//! A runner writes line by line, and a pipe that is watched wakes us for every line: that costs more than the line. So a
//! pipe is watched only while it is quiet. The first bytes after a quiet time are read at once; then the pipe rests, watched
//! by nobody, and is read again when the rest is over, until a read finds nothing. A chunk that came full is followed by the
//! next at once. So a lone line never waits, a line among others waits for one rest at most, and what was written in the
//! meantime is one read, one count in the page and one PRINT frame.
//!
//! ```text
//!             bytes: read them            a full chunk
//!   watched ───────────────────▶ resting ◀────────────┐
//!      ▲                            │ rest over: read │
//!      └────────── nothing ─────────┴─────────────────┘         (any) ──all writers gone──▶ ended
//! ```

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use bytes::Bytes;
use muster_wire::print::Stream;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{Uid, fchown, pipe2, read};
use tokio::net::unix::pipe::Receiver;
use tokio::time::{Instant, sleep_until};

use super::page::Page;

/// What a pipe may hold, in bytes: the most that an unprivileged process may ask for.
pub const CAPACITY: u64 = 1 << 20;
/// What one read takes, in bytes.
const CHUNK: usize = 256 << 10;
/// How long a pipe rests after a read. The timer makes up to twice that of it.
const REST: Duration = Duration::from_millis(1);

/// The ends we read from. Every read is counted in the page.
#[derive(Debug)]
pub struct Pipes {
    out: Pipe,
    err: Pipe,
    chunk: Vec<u8>,
}

#[derive(Debug)]
struct Pipe {
    end: OwnedFd,
    state: State,
}

#[derive(Debug)]
enum State {
    Watched(Receiver),
    Resting(Instant),
    Ended,
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
                () = out.due() => (&mut *out, Stream::Stdout),
                () = err.due() => (&mut *err, Stream::Stderr),
            };
            if let Some(count) = pipe.read(stream, chunk, page) {
                return (stream, Bytes::copy_from_slice(&chunk[..count]));
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
        let state = State::watch(&read_end)?;
        Ok((Pipe { end: read_end, state }, write_end))
    }

    /// Waits until this pipe should be read.
    async fn due(&self) {
        match &self.state {
            // An error here is the reactor's end.
            State::Watched(end) => {
                let _ = end.readable().await;
            }
            State::Resting(until) => sleep_until(*until).await,
            State::Ended => std::future::pending().await,
        }
    }

    /// Reads at most one chunk, and decides when the next read is due.
    fn read(&mut self, stream: Stream, chunk: &mut [u8], page: &mut Page) -> Option<usize> {
        let Pipe { end, state } = self;
        let result = counted(page, stream, || match state {
            State::Watched(end) => end.try_read(chunk),
            _ => Ok(read(&*end, chunk)?),
        });
        match result {
            Ok(0) => *state = State::Ended,
            Ok(count) => {
                let rest = if count < chunk.len() { REST } else { Duration::ZERO };
                *state = State::Resting(Instant::now() + rest);
                return Some(count);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if let State::Resting(_) = state {
                    // It sees what was written since the read. Where it cannot be had, rests go on.
                    *state =
                        State::watch(end).unwrap_or_else(|_| State::Resting(Instant::now() + REST));
                }
            }
            Err(_) => *state = State::Ended,
        }
        None
    }
}

impl State {
    /// Watched under a descriptor of its own, which goes with the watching.
    fn watch(end: &OwnedFd) -> io::Result<State> {
        Ok(State::Watched(Receiver::from_owned_fd_unchecked(end.try_clone()?)?))
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

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;

    use super::*;

    fn pipes() -> (Pipes, Page, File, File) {
        let (pipes, out, err) = Pipes::new(nix::unistd::getuid().as_raw()).expect("pipes");
        (pipes, Page::new().expect("a page").0, out.into(), err.into())
    }

    #[tokio::test(start_paused = true)]
    async fn a_lone_line_is_read_at_once_and_lines_that_follow_it_are_read_together() {
        let (mut pipes, mut page, mut out, _err) = pipes();
        for _ in 0..3 {
            let begun = Instant::now();
            out.write_all(b"lone\n").expect("room");
            let (_, bytes) = pipes.next(&mut page).await;
            assert_eq!((&bytes[..], begun.elapsed()), (&b"lone\n"[..], Duration::ZERO));
            for _ in 0..100 {
                out.write_all(b"line\n").expect("room");
            }
            let (_, bytes) = pipes.next(&mut page).await;
            assert_eq!(bytes, b"line\n".repeat(100));
            assert!(begun.elapsed() <= 3 * REST, "{:?}", begun.elapsed());
            // Quiet again: the rest after the last read ends without a byte.
            tokio::select! {
                _ = pipes.next(&mut page) => panic!("nothing was written"),
                () = tokio::time::sleep(4 * REST) => {}
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn more_than_a_chunk_is_read_without_rests_and_the_other_pipe_is_not_forgotten() {
        let (mut pipes, mut page, mut out, mut err) = pipes();
        out.write_all(&vec![b'o'; CAPACITY as usize]).expect("room");
        err.write_all(b"e").expect("room");
        let begun = Instant::now();
        let (mut outs, mut errs) = (0, 0);
        while outs < CAPACITY as usize || errs < 1 {
            match pipes.next(&mut page).await {
                (Stream::Stdout, bytes) => outs += bytes.len(),
                (Stream::Stderr, bytes) => errs += bytes.len(),
            }
        }
        assert_eq!((outs, errs, begun.elapsed()), (CAPACITY as usize, 1, Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_read_for_a_record_is_not_waited_for_and_the_next_line_comes() {
        let (mut pipes, mut page, mut out, _err) = pipes();
        for _ in 0..3 {
            out.write_all(b"of a record\n").expect("room");
            let bytes = pipes.read_now(Stream::Stdout, &mut page).expect("written");
            assert_eq!(&bytes[..], b"of a record\n");
            out.write_all(b"next\n").expect("room");
            assert_eq!(&pipes.next(&mut page).await.1[..], b"next\n");
            let nothing = tokio::time::timeout(4 * REST, pipes.next(&mut page)).await;
            assert!(nothing.is_err(), "nothing was written");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn pipes_that_nobody_writes_to_any_more_have_ended() {
        let (mut pipes, mut page, mut out, err) = pipes();
        out.write_all(b"last").expect("room");
        drop((out, err));
        assert_eq!(&pipes.next(&mut page).await.1[..], b"last");
        let ended = tokio::time::timeout(100 * REST, pipes.next(&mut page)).await;
        assert!(ended.is_err(), "it never ends");
        assert!(pipes.read_now(Stream::Stdout, &mut page).is_none());
    }
}

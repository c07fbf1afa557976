//! Bodies of requests, read with their limits: whole, or frame by frame, or line by line. A body that ends early is an
//! error, never an end.

use std::time::Duration;

use axum::body::Body;
use bytes::{Buf, Bytes, BytesMut};
use http_body::Body as _;
use http_body_util::BodyExt;
use muster_wire::WireError;
use muster_wire::frame::{Decoder, Frame};
use muster_wire::pieces::Pieces;
use tokio::time::{Instant, timeout_at};

use super::problem::{Code, Problem};

/// What a program makes while it is sent, stdin of a command above all, may pause for so long; a stream of inputs may pause
/// as long as its client computes them.
const PAUSE: Duration = Duration::from_secs(30);
/// What a client has at hand comes at this rate at least, after a while.
const BYTES_PER_S: u64 = 1 << 10;
const AT_FIRST: Duration = Duration::from_secs(10);

/// How a body has to arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// At 1 KiB/s at least, after 10 s.
    Steady,
    /// With no pause of more than 30 s.
    Pausing,
}

impl Arrival {
    /// By when more must have come of a body that began then, and of which this much has come.
    fn deadline(self, began: Instant, received: u64) -> Instant {
        match self {
            Arrival::Steady => began + AT_FIRST + Duration::from_secs(received / BYTES_PER_S),
            Arrival::Pausing => Instant::now() + PAUSE,
        }
    }
}

/// Reads the whole body, at most `limit` bytes.
pub async fn whole(
    mut body: Body,
    what: &str,
    limit: usize,
    action: &str,
    arrival: Arrival,
) -> Result<Bytes, Problem> {
    check_length(&body, what, limit, action)?;
    let began = Instant::now();
    let mut first = Bytes::new();
    let mut joined = BytesMut::new();
    loop {
        let deadline = arrival.deadline(began, (first.len() + joined.len()) as u64);
        let arrived = timeout_at(deadline, data(&mut body)).await.map_err(|_| slow())?;
        let Some(piece) = arrived else { break };
        let piece = piece?;
        if first.len() + joined.len() + piece.len() > limit {
            return Err(Problem::too_large(what, limit, action));
        }
        // Most bodies come in one piece, which needs no copy.
        if first.is_empty() && joined.is_empty() {
            first = piece;
            continue;
        }
        joined.extend_from_slice(&std::mem::take(&mut first));
        joined.extend_from_slice(&piece);
    }
    Ok(if joined.is_empty() { first } else { joined.freeze() })
}

/// Refuses a body that says it is over `limit` bytes, before any of it is read.
pub fn check_length(body: &Body, what: &str, limit: usize, action: &str) -> Result<(), Problem> {
    match body.size_hint().lower() > limit as u64 {
        true => Err(Problem::too_large(what, limit, action)),
        false => Ok(()),
    }
}

/// The next bytes of a body that must go on arriving; `None` at its end.
pub async fn next_bytes(body: &mut Body) -> Result<Option<Bytes>, Problem> {
    tokio::time::timeout(PAUSE, data(body)).await.map_err(|_| slow())?.transpose()
}

/// A body of frames.
#[derive(Debug)]
pub struct FrameReader {
    body: Body,
    decoder: Decoder,
    /// Bytes so far.
    received: u64,
    ended: bool,
}

impl FrameReader {
    /// Reads frames of at most [`muster_wire::MAX_FRAME`] bytes.
    pub fn new(body: Body) -> FrameReader {
        FrameReader { body, decoder: Decoder::default(), received: 0, ended: false }
    }

    /// The next frame, which arrives steadily; `None` at the end.
    pub async fn next_soon(&mut self) -> Result<Option<Frame<Pieces>>, Problem> {
        let (began, before) = (Instant::now(), self.received);
        loop {
            let seen = self.received;
            let deadline = Arrival::Steady.deadline(began, seen - before);
            match timeout_at(deadline, self.next()).await {
                Ok(frame) => return frame,
                Err(_) if self.received == seen => return Err(slow()),
                Err(_) => {}
            }
        }
    }

    /// The next frame; `None` at the end. Cancel-safe.
    pub async fn next(&mut self) -> Result<Option<Frame<Pieces>>, Problem> {
        loop {
            if let Some(frame) = self.decoder.next_in_pieces().map_err(bad_frame)? {
                return Ok(Some(frame));
            }
            if self.ended {
                return match self.decoder.is_empty() {
                    true => Ok(None),
                    false => Err(Problem::new(
                        Code::BadFrame,
                        "The body ends inside a frame.",
                        "Send whole frames; inputs of the frames before this one were taken.",
                    )),
                };
            }
            match data(&mut self.body).await {
                Some(piece) => {
                    let piece = piece?;
                    self.received += piece.len() as u64;
                    self.decoder.give(piece);
                }
                None => self.ended = true,
            }
        }
    }
}

/// A body of lines, empty ones left out.
#[derive(Debug)]
pub struct LineReader {
    body: Body,
    buffer: BytesMut,
    /// Bytes of the buffer that hold no line break.
    searched: usize,
    line: u64,
    limit: usize,
    ended: bool,
}

impl LineReader {
    /// Reads lines of at most `limit` bytes.
    pub fn new(body: Body, limit: usize) -> LineReader {
        LineReader { body, buffer: BytesMut::new(), searched: 0, line: 0, limit, ended: false }
    }

    /// The next line, numbered from 1, if it is there already without waiting.
    pub fn buffered(&mut self) -> Option<(u64, Bytes)> {
        loop {
            let found = self.buffer[self.searched..].iter().position(|&byte| byte == b'\n');
            let Some(found) = found else {
                self.searched = self.buffer.len();
                return None;
            };
            let line = self.buffer.split_to(self.searched + found).freeze();
            self.buffer.advance(1);
            self.searched = 0;
            self.line += 1;
            let line = trim(line);
            if !line.is_empty() {
                return Some((self.line, line));
            }
        }
    }

    /// The next line, numbered from 1; `None` at the end. Cancel-safe.
    pub async fn next(&mut self) -> Result<Option<(u64, Bytes)>, Problem> {
        loop {
            if let Some(line) = self.buffered() {
                return Ok(Some(line));
            }
            if self.ended {
                let last = trim(self.buffer.split().freeze());
                self.searched = 0;
                self.line += 1;
                return Ok((!last.is_empty()).then_some((self.line, last)));
            }
            if self.buffer.len() > self.limit {
                let what = format!("Line {}", self.line + 1);
                return Err(Problem::too_large(&what, self.limit, "Send smaller inputs."));
            }
            match data(&mut self.body).await {
                Some(piece) => self.buffer.extend_from_slice(&piece?),
                None => self.ended = true,
            }
        }
    }
}

/// The next bytes of a body; trailers are passed over.
async fn data(body: &mut Body) -> Option<Result<Bytes, Problem>> {
    loop {
        match body.frame().await? {
            Ok(frame) => {
                if let Ok(data) = frame.into_data() {
                    return Some(Ok(data));
                }
            }
            Err(_) => {
                return Some(Err(Problem::new(
                    Code::BadRequest,
                    "The body broke off.",
                    "Send it again; with an `Idempotency-Key` no call is made twice.",
                )));
            }
        }
    }
}

fn trim(line: Bytes) -> Bytes {
    let trimmed = line.trim_ascii();
    line.slice_ref(trimmed)
}

fn slow() -> Problem {
    Problem::new(
        Code::SlowRequest,
        "The body came too slowly: 1 KiB a second is the least, after 10 seconds; stdin of a command may pause for 30.",
        "Send the request again.",
    )
}

/// A frame that is not as the protocol says.
pub fn bad_frame(error: WireError) -> Problem {
    match error {
        WireError::TooLong { limit, .. } => {
            Problem::too_large("A frame", limit, "Send inputs in smaller frames.")
        }
        other => Problem::new(
            Code::BadFrame,
            format!("The body holds something else than the frames it should: {other}."),
            "Send frames as PROTOCOL.md says.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    fn body(pieces: &[&'static [u8]]) -> Body {
        let list: Vec<Result<Bytes, Infallible>> =
            pieces.iter().map(|piece| Ok(Bytes::from_static(piece))).collect();
        Body::from_stream(futures_util::stream::iter(list))
    }

    #[tokio::test]
    async fn lines_are_numbered_and_empty_ones_left_out() {
        let mut lines = LineReader::new(body(&[b"1\n\n 2", b"2 \r\n\n", b"3"]), 100);
        let mut got = Vec::new();
        while let Some((line, text)) = lines.next().await.expect("lines") {
            got.push((line, String::from_utf8(text.to_vec()).expect("text")));
        }
        assert_eq!(got, [(1, "1".into()), (3, "22".into()), (5, "3".into())]);
    }

    #[tokio::test]
    async fn a_line_over_the_limit_is_refused_while_it_comes() {
        let mut lines = LineReader::new(body(&[b"1\n12345", b"67890", b"1"]), 8);
        assert!(lines.next().await.expect("a line").is_some());
        assert_eq!(lines.next().await.expect_err("too long").code(), "too_large");
    }

    #[tokio::test]
    async fn a_body_that_ends_inside_a_frame_is_an_error() {
        let mut frames = FrameReader::new(body(&[&[1, 0, 0, 0, 7, 0]]));
        assert_eq!(frames.next().await.expect_err("cut").code(), "bad_frame");
        let mut none = FrameReader::new(body(&[]));
        assert_eq!(none.next().await.expect("an end"), None);
    }

    #[tokio::test]
    async fn a_whole_body_is_held_to_its_limit() {
        let whole = |limit| {
            let body = body(&[b"ab", b"cd"]);
            whole(body, "The body", limit, "Send less.", Arrival::Steady)
        };
        assert_eq!(whole(4).await.expect("fits"), "abcd");
        assert_eq!(whole(3).await.expect_err("too large").code(), "too_large");
    }

    /// A body that ends after so many pieces of this size, one every so many seconds.
    fn trickle(pieces: usize, size: usize, seconds: u64) -> Body {
        let stream = futures_util::stream::unfold(0, move |n| async move {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            (n < pieces).then(|| (Ok::<_, Infallible>(Bytes::from(vec![b'x'; size])), n + 1))
        });
        Body::from_stream(stream)
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_at_hand_keeps_its_pace_and_stdin_may_pause() {
        let read = |body, arrival| async move {
            let answer = whole(body, "The body", 1 << 20, "", arrival).await;
            answer.map(|body| body.len()).map_err(|problem| problem.code().to_owned())
        };
        let slow = Err("slow_request".to_owned());
        assert_eq!(read(trickle(100, 1025, 1), Arrival::Steady).await, Ok(102_500));
        let start = Instant::now();
        assert_eq!(read(trickle(1000, 1, 1), Arrival::Steady).await, slow);
        assert_eq!(start.elapsed().as_secs(), 10);
        assert_eq!(read(trickle(1000, 512, 1), Arrival::Steady).await, slow);
        assert_eq!(read(trickle(3, 1, 29), Arrival::Pausing).await, Ok(3));
        assert_eq!(read(trickle(3, 1, 31), Arrival::Pausing).await, slow);
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_keeps_its_pace_too() {
        let mut frames = FrameReader::new(trickle(1000, 1, 1));
        assert_eq!(frames.next_soon().await.expect_err("slow").code(), "slow_request");
    }
}

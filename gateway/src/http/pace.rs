//! Whether a connection keeps pace: a head that comes too slowly, a connection without requests, an answer that nobody
//! takes. Hyper watches none of them as it should: its timer for heads also ends idle connections, and an answer waits for
//! its client for ever.
//!
//! ```text
//!   idle ──first byte──▶ head ──request──▶ busy ──answers taken──▶ idle
//!    │ idle time          │ head time       │ nothing of what was written, or of an answer on HTTP/2, taken for the stall time
//!    └────────────────────┴─────────────────┴──▶ overdue: the connection is dropped
//! ```
//!
//! [`Watched`](super::watched::Watched) sees the bytes, [`PacedBody`] the answers, the connection's task asks [`Pace::overdue`]. A client that takes little by
//! little keeps its connection: each byte that the kernel takes for it starts the stall time anew. On HTTP/2 a client can keep one stream's window shut
//! while the connection is alive, so each answer notes since when it waits to be asked for more.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use super::head::HeadCheck;

/// How long each state may last.
#[derive(Debug, Clone)]
pub struct PaceConfig {
    /// From the first byte of a head to its last.
    pub head: Duration,
    /// Without a request.
    pub idle: Duration,
    /// An answer that is there and not taken.
    pub stall: Duration,
}

/// What one connection does. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Pace {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    idle_since: Instant,
    head: Option<(Instant, HeadCheck)>,
    answers: usize,
    /// Whether what comes is no longer requests of HTTP/1.1, each after the answer to the one before.
    raw: bool,
    /// Since when the client takes nothing of what is there for it.
    blocked: Option<Instant>,
    /// Answers of HTTP/2 that wait to be asked for more, by number.
    waiting: HashMap<u64, Instant>,
    next: u64,
}

impl Pace {
    /// A connection that has said nothing.
    pub fn new() -> Pace {
        let state = State {
            idle_since: Instant::now(),
            head: None,
            answers: 0,
            raw: false,
            blocked: None,
            waiting: HashMap::new(),
            next: 0,
        };
        Pace { state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request has come; its answer is to be wrapped in what this gives.
    pub fn request(&self, http2: bool) -> Answering {
        let mut state = self.state();
        state.head = None;
        state.answers += 1;
        state.raw |= http2;
        state.next += 1;
        Answering { pace: self.clone(), number: state.next, http2 }
    }

    /// The connection is no longer HTTP's.
    pub fn upgraded(&self) {
        self.state().raw = true;
    }

    /// The client has begun to take nothing, or has taken something again.
    pub(super) fn blocked(&self, blocked: bool) {
        let (mut state, now) = (self.state(), Instant::now());
        state.blocked = blocked.then_some(now);
        state.idle_since = now;
    }

    /// Bytes have come; whether the parser may see them.
    pub(super) fn read(&self, bytes: &[u8]) -> bool {
        let mut state = self.state();
        if state.answers > 0 || state.raw || bytes.is_empty() {
            return true;
        }
        let (_, check) = state.head.get_or_insert_with(|| (Instant::now(), HeadCheck::default()));
        check.feed(bytes).is_ok()
    }

    /// Ends when the connection is overdue, with what it is late with.
    pub async fn overdue(&self, config: &PaceConfig) -> &'static str {
        // What begins meanwhile may end earlier than what is known now.
        let look = config.head.min(config.idle).min(config.stall) / 2;
        loop {
            let now = Instant::now();
            let (deadline, what) = self.deadline(config);
            match deadline {
                Some(deadline) if deadline <= now => return what,
                Some(deadline) => tokio::time::sleep_until(deadline.min(now + look)).await,
                None => tokio::time::sleep(look).await,
            }
        }
    }

    fn deadline(&self, config: &PaceConfig) -> (Option<Instant>, &'static str) {
        let state = self.state();
        if let Some((since, _)) = &state.head {
            return (Some(*since + config.head), "the head of a request");
        }
        match state.waiting.values().chain(&state.blocked).min() {
            Some(since) => (Some(*since + config.stall), "taking an answer"),
            None if state.answers == 0 => (Some(state.idle_since + config.idle), "a request"),
            None => (None, "nothing"),
        }
    }
}

/// One answer, from its request to its end.
#[derive(Debug)]
pub struct Answering {
    pace: Pace,
    number: u64,
    http2: bool,
}

impl Answering {
    fn waits(&self, waits: bool) {
        if self.http2 {
            let mut state = self.pace.state();
            match waits {
                true => state.waiting.insert(self.number, Instant::now()),
                false => state.waiting.remove(&self.number),
            };
        }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        let mut state = self.pace.state();
        state.answers -= 1;
        state.waiting.remove(&self.number);
        state.idle_since = Instant::now();
    }
}

/// The body of an answer, which notes how it is taken.
#[derive(Debug)]
pub struct PacedBody<B> {
    body: B,
    answering: Answering,
}

impl<B> PacedBody<B> {
    /// Of an answer that is ready to be taken.
    pub fn new(body: B, answering: Answering) -> PacedBody<B> {
        answering.waits(true);
        PacedBody { body, answering }
    }
}

impl<B: Body + Unpin> Body for PacedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        self.answering.waits(matches!(polled, Poll::Ready(Some(_))));
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http_body_util::{BodyExt, Full};

    const CONFIG: PaceConfig = PaceConfig {
        head: Duration::from_secs(10),
        idle: Duration::from_secs(60),
        stall: Duration::from_secs(60),
    };

    /// After how many seconds the connection is overdue, and with what.
    async fn overdue(pace: &Pace) -> (u64, &'static str) {
        let start = Instant::now();
        let what = pace.overdue(&CONFIG).await;
        (start.elapsed().as_secs(), what)
    }

    #[tokio::test(start_paused = true)]
    async fn idle_heads_and_answers_have_their_times() {
        let pace = Pace::new();
        assert_eq!(overdue(&pace).await, (60, "a request"));
        assert!(pace.read(b"GET "));
        assert_eq!(overdue(&pace).await, (10, "the head of a request"));
        let answering = pace.request(false);
        tokio::time::timeout(Duration::from_secs(1000), overdue(&pace)).await.expect_err("busy");
        drop(answering);
        assert_eq!(overdue(&pace).await, (60, "a request"));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_on_http_2_that_is_not_taken_is_seen() {
        let pace = Pace::new();
        let mut body = PacedBody::new(Full::new(Bytes::from("x")), pace.request(true));
        assert_eq!(overdue(&pace).await, (60, "taking an answer"));
        body.frame().await.expect("a frame").expect("sound");
        assert_eq!(overdue(&pace).await, (60, "taking an answer"));
        assert!(body.frame().await.is_none());
        tokio::time::timeout(Duration::from_secs(1000), overdue(&pace)).await.expect_err("taken");
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_little_by_little_has_all_the_time_and_who_takes_nothing_has_not() {
        let pace = Pace::new();
        let answering = pace.request(false);
        let little = async {
            for _ in 0..20 {
                pace.blocked(true);
                tokio::time::sleep(Duration::from_secs(59)).await;
                pace.blocked(false);
            }
        };
        tokio::select! {
            found = overdue(&pace) => panic!("{found:?}"),
            () = little => {}
        }
        pace.blocked(true);
        // The last of an answer is on its way when the answer itself is over.
        drop(answering);
        tokio::time::sleep(Duration::from_secs(50)).await;
        pace.blocked(false);
        pace.blocked(true);
        assert_eq!(overdue(&pace).await, (60, "taking an answer"));
        pace.blocked(false);
        assert_eq!(overdue(&pace).await, (60, "a request"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_trickles_is_not_given_more_time() {
        let pace = Pace::new();
        let trickle = async {
            loop {
                pace.read(b"x");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::select! {
            found = overdue(&pace) => assert_eq!(found, (10, "the head of a request")),
            () = trickle => unreachable!("it never ends"),
        }
    }
}
